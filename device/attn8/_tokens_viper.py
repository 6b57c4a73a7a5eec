"""What streams add to the kernels in viper. See _viper.py."""
# ruff: noqa: F821 (the types of viper)

import micropython

from ._viper import attend


def attention_step_s8(sources, y, layer, oldest, n_keys):
    """y (D): what windowed_attention_s8 gives a query (D) that sees n_keys keys and values, itself the newest.

    sources: query, keys, values; the last two are rings of left + 1 places (left + 1, D). oldest: place of the oldest.
    """
    attend(sources, y, layer, 1, oldest, n_keys)


@micropython.viper
def pool_push_s8(x: ptr8, ring: ptr8, at: int, n: int, sums: ptr32):
    """Puts a token x (n) into a ring at ``at``, in place of the oldest, and keeps the sums (n) int32 of the ring."""
    c = 0
    while c < n:
        sums[c] = sums[c] + (x[c] ^ 128) - (ring[at] ^ 128)
        ring[at] = x[c]
        at += 1
        c += 1


@micropython.viper
def copy_s8(x: ptr8, start: int, y: ptr8, at: int, n: int):
    """Copies n int8 from x[start] on to y[at] on; within one buffer only towards its beginning."""
    n += start
    while start < n:
        y[at] = x[start]
        start += 1
        at += 1
