"""Selects the Python kernels: viper where the firmware can make machine code, else bytecode; same names, same bytes."""

import sys

from .checking import submodule

try:
    if sys.implementation.name != "micropython":
        raise ImportError
    ops = submodule("_viper")

    backend = "viper"
except (ImportError, SyntaxError, ValueError):  # no such file, no native emitter, or an .mpy for another processor
    ops = submodule("_python")

    backend = "python"

# In the order of the op codes, as format.OP_NAMES.
KERNELS = (
    ops.linear_s8,
    ops.conv1d_s8,
    ops.windowed_attention_s8,
    ops.layer_norm_s8,
    ops.add_s8,
    ops.mean_pool_s8,
    ops.table_s8,
)
requantize_s16 = ops.requantize_s16
READS_ANY_SIGN = ops.READS_ANY_SIGN
