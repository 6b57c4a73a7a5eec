"""The arena planner: one memory block for all tensors of a run. models/FORMAT.md, "Arena"."""

from . import graph
from .spec import padded

# Kernels of every processor, those of a Cortex-M0+, and those that run blocks of tokens: Cortex-M4 and M33, RV32.
TARGETS = PORTABLE, M0PLUS, BLOCKED = ("portable", "m0plus", "blocked")
PASS_PRODUCTS = 64  # more of them take several passes over the packed tokens


def live_bytes(blocks):
    """Returns the largest sum of block sizes that live in one step: no plan can be smaller.

    Args:
        blocks: list of (bytes, first step, last step), sizes already multiples of 4.
    """
    last = max((end for _, _, end in blocks), default=0)
    return max(sum(size for size, first, end in blocks if first <= step <= end) for step in range(last + 1))


def _place(blocks, order):
    """Places the blocks in this order, each at the lowest free offset. Returns (offsets, arena bytes)."""
    offsets, placed, top = [0] * len(blocks), [], 0
    for i in order:
        size, first, last = blocks[i]
        neighbours = [j for j in placed if blocks[j][1] <= last and first <= blocks[j][2]]
        offset = 0
        while True:
            ends = [offsets[j] + blocks[j][0] for j in neighbours if _overlap(offset, size, offsets[j], blocks[j][0])]
            if not ends:
                break
            offset = min(ends)
        offsets[i] = offset
        placed.append(i)
        top = max(top, offset + size)
    return offsets, top


def _overlap(a, a_size, b, b_size):
    return a < b + b_size and b < a + a_size


def plan(blocks):
    """Places blocks of memory so that those that live at the same time do not overlap.

    Args:
        blocks: list of (bytes, first step, last step); block i is tensor i, then the scratch of each op.
            Blocks of 0 bytes take part and get offset 0.

    Returns:
        (offsets, arena bytes, live bytes): an offset for each block, the size of the arena, and its floor.

    Source:
        models/FORMAT.md, "Arena".
    """
    blocks = [(padded(size), first, last) for size, first, last in blocks]
    floor = live_bytes(blocks)
    n_tensors = len(blocks) // 2 + 1
    keys = (
        lambda b, i: -b[0],
        lambda b, i: b[1],
        lambda b, i: b[1] - b[2],
        lambda b, i: (i >= n_tensors, -b[0]),
    )
    best = None
    for key in keys:
        order = sorted((i for i in range(len(blocks)) if blocks[i][0]), key=lambda i, key=key: (key(blocks[i], i), i))
        offsets, top = _place(blocks, order)
        if best is None or top < best[1]:
            best = (offsets, top)
        if best[1] == floor:
            break
    return best[0], best[1], floor


def scratch_bytes(op, source_shape, shape, target=PORTABLE):
    """Returns what an op needs while it runs, besides its tensors.

    Args:
        op: of a graph.    source_shape, shape: (steps, channels) of its first source and its output.
        target: one of TARGETS.

    Source:
        models/FORMAT.md, "Arena".
    """
    if isinstance(op, graph.WindowedAttention):
        n_keys = min(shape[0], op.left + op.right + 1)
        return attention_scratch_bytes(shape[0], n_keys, shape[1] // op.heads) if target == M0PLUS else 4 * n_keys
    if target == PORTABLE or not isinstance(op, graph.Linear | graph.Conv1d):
        return 0
    kernel = op.weights.shape[1] if isinstance(op, graph.Conv1d) else 1
    if target == BLOCKED:
        return block_scratch_bytes(shape[0], kernel * source_shape[1])
    return product_scratch_bytes(shape[0], source_shape[1], kernel)


def block_scratch_bytes(n_steps, n_products):
    """Returns the scratch of linear and conv1d with n_steps output tokens, where blocks of four tokens are unpacked."""
    n = 8 * padded(n_products)
    return n if n_steps >= 4 and n <= 4096 else 0


def product_scratch_bytes(n_steps, n_inputs, kernel):
    """Returns the scratch of linear (kernel 1) and conv1d with n_steps output tokens on a Cortex-M0+."""
    n_products = kernel * n_inputs
    n = _tile_tokens(n_steps, n_products)
    sums = 4 * n if n_products > PASS_PRODUCTS else 0
    return n * 2 * padded(n_products) + max(sums, padded(n_products) if kernel > 1 and n else 0)


def attention_scratch_bytes(n_steps, n_keys, head_size):
    """Returns the scratch of windowed attention on a Cortex-M0+, n_keys = min(n_steps, left + right + 1)."""
    token_bytes = 4 * padded(head_size)
    least, most, fit = min(n_steps, n_keys + 3), min(n_steps, 2 * n_keys), 4096 // token_bytes
    n = min(most, fit) if least <= min(fit, most) else least if head_size % 4 else 0
    return 132 + padded(head_size) + n * token_bytes + 4 * padded(n_keys + 1)


def _tile_tokens(n_steps, n_products):
    most = (8192 if n_products > PASS_PRODUCTS else 4096) // (2 * padded(n_products))
    if n_steps >= 4 and padded(n_steps) <= most:
        return padded(n_steps)
    fitting = min(64, 1 << most.bit_length() >> 1)
    return fitting if n_steps >= 4 and fitting >= 4 else min(fitting, 1)
