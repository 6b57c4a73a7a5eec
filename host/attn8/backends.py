"""The back ends that run a packed file on this computer: same file, same windows, same bytes."""

import hashlib

import numpy as np

from . import reference
from .errors import Attn8Error, ToolMissingError

NAMES = ("reference", "c", "python", "micropython", "micropython-wasm")


class PythonModel:
    """The device package's own Python kernels, on CPython."""

    name = "python"

    def __init__(self, data):
        from .device import load

        self.model = load(data)

    def run(self, x):
        """Runs windows (N, T, C) int16 or int8, one after the other. Returns int8 (N, n_outputs)."""
        outputs = [np.frombuffer(self.model.run(np.ascontiguousarray(window)), dtype=np.int8).copy() for window in x]
        return np.array(outputs, dtype=np.int8).reshape(len(x), self.model.n_outputs)


def open_backend(name, data):
    """Opens a packed file on a back end.

    Args:
        name: one of NAMES, or "auto": C where there is a compiler, else the NumPy reference.
        data: bytes of a model file.

    Returns:
        an object with ``name`` and ``run(x (N, T, C)) -> int8 (N, n_outputs)``.

    Raises:
        ToolMissingError: if the back end needs a program that is not here.
        attn8.ModelError: if check_model refuses the file.
    """
    if name == "auto":
        try:
            return open_backend("c", data)
        except ToolMissingError:
            return open_backend("reference", data)
    if name == "reference":
        return reference.Reference(data)
    if name == "c":
        from .runtime import CModel

        return CModel(data)
    if name == "python":
        return PythonModel(data)
    if name == "micropython":
        from .micropython import MicroPythonModel

        return MicroPythonModel(data)
    if name == "micropython-wasm":
        from .micropython_wasm import MicroPythonWasmModel

        return MicroPythonWasmModel(data)
    raise Attn8Error(f"backend: got {name!r}, expected auto or one of {', '.join(NAMES)}; choose one of these")


def sha256(outputs):
    """Returns the SHA-256 of raw int8 outputs, in order, as hex."""
    return hashlib.sha256(np.ascontiguousarray(outputs, dtype=np.int8).tobytes()).hexdigest()
