"""Selects the kernels: today the bytecode ones; other back ends give the same names and the same bytes."""

from . import _python as ops

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
