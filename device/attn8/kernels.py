"""Selects the Python kernels: viper where the firmware makes or loads machine code, else bytecode: the same bytes."""

import sys

from .checking import submodule

try:
    if sys.implementation.name == "cpython":
        raise ImportError
    ops = submodule("_viper")

    backend = "viper"
except (ImportError, SyntaxError, ValueError):  # no such file, no native emitter, or an .mpy for another processor
    ops = submodule("_python")

    backend = "python"

requantize_s16 = ops.requantize_s16
READS_ANY_SIGN = ops.READS_ANY_SIGN


def extension(name):
    """Returns the kernels that only some programs use: "norm" or "tokens"."""
    return submodule(f"_{name}_{backend}")
