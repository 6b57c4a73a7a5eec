"""Memory that an op needs while it runs, besides its tensors, by target. models/FORMAT.md, "Arena"."""

from . import graph
from .spec import padded

PORTABLE, M0PLUS = "portable", "m0plus"
TARGETS = (PORTABLE, M0PLUS)
TILE_BYTES = 4096  # of packed tokens
PASS_PRODUCTS = 64  # more of them need a sum for each token


def op_bytes(op, source_shape, shape, target):
    """Returns the scratch of a graph op from its (first) source's and its output's (steps, channels)."""
    if isinstance(op, graph.WindowedAttention):
        return 4 * min(shape[0], op.left + op.right + 1)
    if target == PORTABLE or not isinstance(op, graph.Linear | graph.Conv1d):
        return 0
    return product_bytes(shape[0], source_shape[1], op.weights.shape[1] if isinstance(op, graph.Conv1d) else 1)


def tile_tokens(n_steps, n_products):
    """Returns how many tokens are packed at a time on a Cortex-M0+; 0: none, the sums are taken product by product."""
    n_bytes = 2 * padded(n_products)
    if n_steps >= 4 and padded(n_steps) * n_bytes <= TILE_BYTES:
        return padded(n_steps)
    fitting = min(64, 1 << (TILE_BYTES // n_bytes).bit_length() >> 1)
    return fitting if n_steps >= 4 and fitting >= 4 else min(fitting, 1)


def product_bytes(n_steps, n_inputs, kernel):
    """Returns the scratch of linear (kernel 1) and conv1d with n_steps output tokens on a Cortex-M0+."""
    n_products = kernel * n_inputs
    n = tile_tokens(n_steps, n_products)
    sums = 4 * n if n_products > PASS_PRODUCTS else 0
    return n * 2 * padded(n_products) + sums + (padded(n_products) if kernel > 1 and n else 0)
