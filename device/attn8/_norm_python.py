"""layer_norm_s8 in plain bytecode, imported when a model that has it is loaded. See _python.py."""


def layer_norm_s8(sources, y, layer):
    """y (T, D): LayerNorm (kind 0) or RMSNorm (kind 1) of each token. layer: T, D, kind, m, epsilon, E, c (D)."""
    n_steps, d, kind, multiplier, epsilon, shift, centred = layer
    x = sources[0]
    bits = 0
    while (d - 1) >> bits:
        bits += 1
    rmax = (29 - bits) // 2
    at = 0
    for _ in range(n_steps):
        down = _centre(x, at, d, kind, centred) - rmax
        if down < 0:
            down = 0
        v = _shrink(centred, d, down, 1 << rmax) + (epsilon >> 2 * down)
        if v < 1:
            v = 1
        bits = 0
        while v >> bits:
            bits += 1
        t = (30 - bits) & ~1
        r = (multiplier << 15) // _isqrt(v << t)
        half_shift = 14 + shift - t // 2
        for i in range(d):
            v = ((centred[i] * r >> half_shift) + 1) >> 1
            if v > 127:
                v = 127
            elif v < -128:
                v = -128
            y[at] = v
            at += 1


def _centre(x, at, d, kind, centred):
    """Writes D*x - sum(x), or x for RMSNorm, and returns the bits of the largest magnitude."""
    scale, mean = 1, 0
    if kind == 0:
        scale = d
        for i in range(at, at + d):
            mean += x[i]
    top = 0
    for i in range(d):
        c = scale * x[at] - mean
        at += 1
        centred[i] = c
        if c < 0:
            c = -c
        if c > top:
            top = c
    bits = 0
    while top >> bits:
        bits += 1
    return bits


def _shrink(centred, d, down, limit):
    """Shifts the values down, rounding, clamps them to +-limit, and returns the sum of their squares."""
    half = (1 << down) >> 1
    total = 0
    for i in range(d):
        c = (centred[i] + half) >> down
        if c > limit:
            c = limit
        elif c < -limit:
            c = -limit
        centred[i] = c
        total += c * c
    return total


def _isqrt(v):
    """Returns the floor of the square root of v in [2^28, 2^30)."""
    root, bit = 0, 1 << 28
    while bit:
        if v >= root + bit:
            v -= root + bit
            root = (root >> 1) + bit
        else:
            root >>= 1
        bit >>= 2
    return root
