"""load: the same on every back end, which is chosen here."""

import os

from .checking import ModelError, Passing

try:
    from .native import Model, backend, check_model, map_file, new_buffer, open_model
except (ImportError, ValueError):  # no _attn8, or one for another architecture or version
    from .kernels import backend
    from .model import Model, check_model, map_file, new_buffer, open_model

__all__ = ("Model", "ModelError", "backend", "check_model", "load")

_MAX_FILE_BYTES = 1 << 24


def load(source):
    """Checks a model file and prepares it to run.

    With the native module and with the viper kernels the weights stay where they are, at any alignment: a path is read
    once, and a file in ROMFS not at all. The bytecode kernels need signed bytes: a path is read into one array of
    these, which takes twice the size of the file while it is read. They use a buffer in place where its bytes are
    signed or can be seen so; for bytes, bytearray and ROM on MicroPython they cannot, and the weights are copied.
    Keep the buffer as it is while the model is used.

    Args:
        source: a path, or a buffer that holds the file, or a slot name: a path without ".a8" for which
            `attn8 deploy` made "<name>.0.a8" or "<name>.1.a8" (slots.py says which of them is taken).

    Returns:
        Model.

    Raises:
        ModelError: if the file is not a valid model.    OSError: if it cannot be read.
        TypeError: if source is neither a path nor a buffer.
    """
    is_path = isinstance(source, str) or hasattr(source, "__fspath__")
    if is_path and not str(source).endswith(".a8"):
        m = _load_slot(str(source))
        if m:
            return m
    data = _read(source) if is_path else source
    try:
        memoryview(data)
    except TypeError:
        raise TypeError(f"load takes a path or a buffer, got {type(source)}") from None
    return open_model(data, str(source) if is_path else "model")


def _load_slot(name):
    """Returns the Model of a slot name, or None if it is none. Only a model in trial keeps slots.py in memory."""
    passing = Passing("slots")
    from .slots import counted, load

    m = load(name)
    if not counted:
        passing.__exit__()
    return m


def _read(path):
    """Returns the bytes of a file; one byte more than the limit is enough to refuse it."""
    n = min(os.stat(path)[6], _MAX_FILE_BYTES + 1)
    with open(path, "rb") as f:
        data = map_file(f)
        if data is not None:
            return data
        data = new_buffer(n)
        got = f.readinto(data)
    return data if got == n else memoryview(data)[:got]
