"""What streams add to the kernels in plain bytecode. See _python.py."""

from ._python import attend


def attention_step_s8(sources, y, layer, oldest, n_keys):
    """y (D): what windowed_attention_s8 gives a query (D) that sees n_keys keys and values, itself the newest.

    sources: query, keys, values; the last two are rings of left + 1 places (left + 1, D). oldest: place of the oldest.
    """
    d, span = layer[1], layer[3] + 1
    n_first = span - oldest  # then on from the first place
    attend(sources, y, layer, 0, oldest * d, n_first if n_first < n_keys else n_keys, n_keys, span - n_keys)


def pool_push_s8(x, ring, at, n, sums):
    """Puts a token x (n) into a ring at ``at``, in place of the oldest, and keeps the sums (n) int32 of the ring."""
    for c in range(n):
        v = x[c]
        sums[c] += v - ring[at]
        ring[at] = v
        at += 1


def copy_s8(x, start, y, at, n):
    """Copies n int8 from x[start] on to y[at] on; within one buffer only towards its beginning."""
    for i in range(start, start + n):
        y[at] = x[i]
        at += 1
