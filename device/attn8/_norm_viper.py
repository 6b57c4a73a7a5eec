"""layer_norm_s8 in viper, imported when a model that has it is loaded. See _viper.py."""
# ruff: noqa: F821 (the types of viper)

import micropython


def layer_norm_s8(sources, y, layer):
    """y (T, D): LayerNorm (kind 0) or RMSNorm (kind 1) of each token. layer: T, D, kind, m, epsilon, E, scratch (D)."""
    n_steps, d, kind, multiplier, epsilon, shift, words = layer
    _norm(words, sources[0], 0, y, n_steps, d, kind, multiplier, epsilon, shift)


@micropython.viper
def _norm(
    x: ptr32, w: ptr8, s: int, y: ptr8, n_steps: int, d: int, kind: int, multiplier: int, epsilon: int, shift: int
):
    """layer_norm_s8 on the source w; x: d int32 of scratch."""
    centred = int(x)
    scale = 1 if kind else d
    bits = 0
    while (d - 1) >> bits:
        bits += 1
    rmax = (29 - bits) >> 1
    limit = 1 << rmax
    token = int(w)
    at = 0
    while n_steps:
        # Sum, smallest and largest of the values plus 128; scale * value - mean is the same for those.
        end = token + d
        mean = 0
        low = 255
        high = 0
        w = ptr8(token)
        while int(w) != end:
            s = w[0] ^ 128
            mean += s
            if s < low:
                low = s
            if s > high:
                high = s
            w = ptr8(int(w) + 1)
        if kind:
            mean = 128
        top = scale * high - mean
        s = mean - scale * low
        if s > top:
            top = s
        down = 0 - rmax
        while top:
            top >>= 1
            down += 1
        if down < 0:
            down = 0

        # Shrunk values, stored plus 2^15, and the sum of their squares.
        start = ((1 << down) >> 1) - mean
        v = epsilon >> 2 * down
        w = ptr8(token)
        x = ptr32(centred)
        while int(w) != end:
            s = ((w[0] ^ 128) * scale + start) >> down
            if s > limit:
                s = limit
            elif s < 0 - limit:
                s = 0 - limit
            v += s * s
            x[0] = s + 32768
            w = ptr8(int(w) + 1)
            x = ptr32(int(x) + 4)
        if v < 1:
            v = 1

        # The integer square root of v * 2^t, in [2^28, 2^30).
        bits = 0
        while v >> bits:
            bits += 1
        t = (30 - bits) & -2
        v <<= t
        root = 0
        bit = 268435456
        while bit:
            if v >= root + bit:
                v -= root + bit
                root = (root >> 1) + bit
            else:
                root >>= 1
            bit >>= 2

        r = (multiplier << 15) // root
        half_shift = 14 + shift - (t >> 1)
        x = ptr32(centred)
        w = ptr8(int(y) + at)
        end = int(w) + d
        while int(w) != end:
            s = (((x[0] - 32768) * r >> half_shift) + 1) >> 1
            if s > 127:
                s = 127
            elif s < -128:
                s = -128
            w[0] = s
            w = ptr8(int(w) + 1)
            x = ptr32(int(x) + 4)
        token += d
        at += d
        n_steps -= 1
