"""Selects the Python kernels: viper where the firmware makes or loads machine code, else bytecode: the same bytes."""

from .checking import machine_code, submodule

try:
    ops = machine_code("_viper")

    backend = "viper"
except ImportError:
    ops = submodule("_python")

    backend = "python"

requantize_s16 = ops.requantize_s16
READS_ANY_SIGN = ops.READS_ANY_SIGN


def extension(name):
    """Returns the kernels that only some programs use: "norm" or "tokens"."""
    return submodule(f"_{name}_{backend}")
