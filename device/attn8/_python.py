"""The kernels in plain bytecode: the readable form, and the back end of boards that can run no other.

A kernel is called as kernel(sources, y, layer): a tuple of int8 tensors, the int8 tensor it writes, and the
tuple of numbers and scratch buffers that plan.py made at load. Tensors are flat, time first, channels last.
Nothing here allocates, and every intermediate lies in [-2^30, 2^30 - 1] (models/FORMAT.md, "Arithmetic").

``rows`` is (bias, multiplier, pre, half_post): four buffers with one entry per output channel; half_post is
post - 1, because ((v*m >> (post - 1)) + 1) >> 1 rounds without leaving 31 bits.
"""

from array import array

from .tables import EXP

READS_ANY_SIGN = False  # weights must come as signed bytes
_ROWS_AT_ONCE = 8  # of _multiply


def weights(view, n, n_inputs):
    """Returns what linear_s8 and conv1d_s8 read of n rows of signed weights, each padded to 4.

    That is views of the rows in tuples of eight, the last row filling up the last tuple.
    """
    row_bytes = (n_inputs + 3) & ~3
    rows = [view[i * row_bytes : i * row_bytes + n_inputs] for i in range(n)]
    while len(rows) % _ROWS_AT_ONCE:
        rows.append(rows[-1])
    return [tuple(rows[i : i + _ROWS_AT_ONCE]) for i in range(0, len(rows), _ROWS_AT_ONCE)]


def token(n):
    """Returns the buffer of the n inputs of an output, which an op copies there."""
    return array("b", bytes(n))


def scratch_values(n_products, n_outputs, n_keys):
    """Returns how many int32 an op needs: a row of accumulators or of scores."""
    return max((n_outputs + _ROWS_AT_ONCE - 1) // _ROWS_AT_ONCE * _ROWS_AT_ONCE, n_keys)


def requantize_s16(window, y, layer):
    """Turns int16 counts (T, C), or their 2*T*C little-endian bytes, into the int8 tensor y (T, C)."""
    n_steps, n_channels, rows = layer
    bias, multiplier, pre, half_post = rows
    n = n_steps * n_channels
    in_bytes = len(window) != n
    i = c = 0
    for j in range(n):
        if in_bytes:
            v = (window[i] & 255) | (window[i + 1] & 255) << 8
            i += 2
        else:
            v = window[j] & 65535
        if v > 32767:
            v -= 65536
        v = (v + bias[c]) >> pre[c]
        if v > 32767:
            v = 127
        elif v < -32768:
            v = -128
        else:
            v = ((v * multiplier[c] >> half_post[c]) + 1) >> 1
            if v > 127:
                v = 127
            elif v < -128:
                v = -128
        y[j] = v
        c += 1
        if c == n_channels:
            c = 0


def linear_s8(sources, y, layer):
    """y (T, N) = requantize(W x (T, K)). layer: T, K, N, groups, rows, low, high, token (K), acc (N up to 8)."""
    n_steps, n_inputs, n_outputs, groups, rows, low, high, token, acc = layer
    x = sources[0]
    i = 0
    for t in range(n_steps):
        for k in range(n_inputs):
            token[k] = x[i]
            i += 1
        _multiply(token, groups, acc)
        _requantize(acc, rows, y, t * n_outputs, n_outputs, low, high)


def conv1d_s8(sources, y, layer):
    """y (T_out, N) = requantize(W * x (T, C)): each output is a linear op on the kernel*C values under it.

    layer: T, C, T_out, N, kernel, stride, pad_left, pad_right, groups, rows, low, high, patch (kernel*C),
        acc (N up to 8).
    """
    n_steps, n_channels, n_out, n_outputs, kernel, stride, pad_left, _, groups, rows, low, high, patch, acc = layer
    x = sources[0]
    n_inputs = kernel * n_channels
    n_values = n_steps * n_channels
    for t in range(n_out):
        i = (t * stride - pad_left) * n_channels
        for k in range(n_inputs):
            patch[k] = x[i] if 0 <= i < n_values else 0
            i += 1
        _multiply(patch, groups, acc)
        _requantize(acc, rows, y, t * n_outputs, n_outputs, low, high)


def _multiply(x, groups, acc):
    """acc[n] = sum of w[n][k]*x[k] for eight rows w at a time: one look at x and one index serve eight products."""
    n = 0
    for w0, w1, w2, w3, w4, w5, w6, w7 in groups:
        a0 = a1 = a2 = a3 = a4 = a5 = a6 = a7 = 0
        k = 0
        for v in x:
            if v:
                a0 += v * w0[k]
                a1 += v * w1[k]
                a2 += v * w2[k]
                a3 += v * w3[k]
                a4 += v * w4[k]
                a5 += v * w5[k]
                a6 += v * w6[k]
                a7 += v * w7[k]
            k += 1  # noqa: SIM113 (enumerate allocates)
        acc[n] = a0
        acc[n + 1] = a1
        acc[n + 2] = a2
        acc[n + 3] = a3
        acc[n + 4] = a4
        acc[n + 5] = a5
        acc[n + 6] = a6
        acc[n + 7] = a7
        n += 8


def _requantize(acc, rows, y, at, n, low, high):
    """Writes requantize(acc[j]) to y[at + j] for n channels."""
    bias, multiplier, pre, half_post = rows
    for j in range(n):
        v = (acc[j] + bias[j]) >> pre[j]
        if v > 32767:
            v = high
        elif v < -32768:
            v = low
        else:
            v = ((v * multiplier[j] >> half_post[j]) + 1) >> 1
            if v > high:
                v = high
            elif v < low:
                v = low
        y[at] = v
        at += 1


def windowed_attention_s8(sources, y, layer):
    """y (T, D): softmax attention of query i over the keys i-left..i+right inside the window, head by head.

    layer: T, D, heads, left, right, softmax, multiplier, shift, bias (heads * span), query (D/heads), scores.
    """
    n_steps, d, _, left, right, _, _, _, _, _, _ = layer
    for i in range(n_steps):
        first = i - left if i > left else 0
        n_keys = (i + right + 1 if i + right < n_steps else n_steps) - first
        attend(sources, y, layer, i * d, first * d, n_keys, n_keys, first - i + left)


def attend(sources, y, layer, at, start, n_first, n_keys, b):
    """All heads of the query at ``at``: n_first keys from ``start`` on, the rest from 0 on; b: bias of the first."""
    _, d, heads, left, right, softmax, multiplier, shift, bias, query, scores = layer
    q, k, v = sources
    head_size = d // heads
    c = 0
    for _ in range(heads):
        for i in range(head_size):
            query[i] = q[at + i]
        top = _scores(query, k, start + c, d, bias, b, 0, n_first, scores, -(1 << 29))
        if n_first < n_keys:
            top = _scores(query, k, c, d, bias, b + n_first, n_first, n_keys, scores, top)
        z = _exponents(scores, n_keys, top, softmax)
        # row_divide: one division per row.
        bits = 0
        while z >> bits:
            bits += 1
        kept = bits if bits < 16 else 16
        m = (multiplier << (kept - 1)) // (z >> (bits - kept))
        pre = bits + shift - 22
        if pre < 0:
            pre = 0
        _weigh(scores, n_first, n_keys, v, start + c, c, d, head_size, y, at, m, pre, shift + bits - 2 - pre)
        at += head_size
        c += head_size
        b += left + right + 1


def _scores(query, k, at, d, bias, b, n, n_keys, scores, top):
    """Writes the scores n..n_keys - 1, of keys d apart in k, and returns the largest, or ``top`` if that is larger."""
    for j in range(n, n_keys):
        s = bias[b]
        i = at
        for v in query:
            s += v * k[i]
            i += 1
        scores[j] = s
        if s > top:
            top = s
        b += 1
        at += d
    return top


def _exponents(scores, n, top, softmax):
    """Replaces n scores by EXP of their distance to the largest, and returns the sum."""
    dmax, dm, dpre, dsh = softmax
    table = EXP
    half_dsh = dsh - 1
    z = 0
    for j in range(n):
        s = top - scores[j]
        if s > dmax:
            s = dmax
        s = (((s >> dpre) * dm >> half_dsh) + 1) >> 1
        s = table[s] if s < 255 else table[255]
        scores[j] = s
        z += s
    return z


def _weigh(weights, n_first, n_keys, v, start, again, d, head_size, y, at, m, pre, half_post):
    """Writes one output row of one head: requantize(sum of weights[j]*v[j][c]) for each channel c.

    The first n_first values lie from ``start`` on, the others from ``again`` on.
    """
    half = (1 << pre) >> 1
    for c in range(head_size):
        a = half
        i = start + c
        for j in range(n_first):
            a += weights[j] * v[i]
            i += d
        i = again + c
        for j in range(n_first, n_keys):
            a += weights[j] * v[i]
            i += d
        a >>= pre
        if a > 32767:
            a = 127
        elif a < -32768:
            a = -128
        else:
            a = ((a * m >> half_post) + 1) >> 1
            if a > 127:
                a = 127
            elif a < -128:
                a = -128
        y[at] = a
        at += 1


def add_s8(sources, y, layer):
    """y = sat8((a*ma + b*mb + 2^14) >> 15) for n elements. layer: n, ma, mb."""
    n, ma, mb = layer
    a, b = sources
    for i in range(n):
        v = (a[i] * ma + b[i] * mb + 16384) >> 15
        if v > 127:
            v = 127
        elif v < -128:
            v = -128
        y[i] = v


def mean_pool_s8(sources, y, layer):
    """y (1, D) = requantize(sum of x (T, D) over T). layer: T, D, rows (one entry for all channels), acc (D)."""
    n_steps, d, _, acc = layer
    x = sources[0]
    for c in range(d):
        total = 0
        i = c
        for _ in range(n_steps):
            total += x[i]
            i += d
        acc[c] = total
    pool_sums_s8(acc, y, layer)


def pool_sums_s8(sums, y, layer):
    """y (1, D) = requantize(sums (D) int32): the end of mean_pool_s8, with its layer."""
    _, d, rows, _ = layer
    bias, multiplier, pre, half_post = rows
    m, shift = multiplier[0], half_post[0]
    for c in range(d):
        v = (sums[c] + bias[0]) >> pre[0]
        if v > 32767:
            v = 127
        elif v < -32768:
            v = -128
        else:
            v = ((v * m >> shift) + 1) >> 1
            if v > 127:
                v = 127
            elif v < -128:
                v = -128
        y[c] = v


def table_s8(sources, y, layer):
    """y = table[x + 128] for n elements. layer: n, table (256)."""
    n, table = layer
    x = sources[0]
    for i in range(n):
        y[i] = table[x[i] + 128]
