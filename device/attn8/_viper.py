"""The kernels in viper: machine code that a stock MicroPython makes, for boards without ``_attn8``.

Names, arguments and bytes are those of _python.py, which is the readable form. Only a firmware with a native emitter
can compile or load this file, so kernels.py expects that it may fail, and nothing else imports it.

What shapes the code: only the first three variables of a viper function live in registers (two in an .mpy), so those
are the sum of the inner loop and its pointers. The sum is among the first two, for a turn reads and writes it, where
it only reads a pointer. A product is written (byte ^ 128) * word + sum, because that order spills no register. byte ^
128 is the signed value plus 128, and 128 times the other factors is taken off the sum beforehand. So bytes need not be
signed or aligned, and weights are read where they are, in RAM or in flash.

``word`` is 32 on a 64-bit MicroPython, where ptr32 reads without sign, else 0: x << word >> word gives the sign back.
"""
# ruff: noqa: F821, RUF046 (the types of viper)

import sys

import micropython

from .tables import EXP

READS_ANY_SIGN = True
_WORD = 32 if sys.maxsize >> 32 else 0


def weights(view, n, n_inputs):
    """Returns what linear_s8 and conv1d_s8 read of n rows of weights: the bytes as they are."""
    return view


def token(n):
    """Returns no buffer of its own for n inputs: they lie in the scratch."""


def scratch_values(n_products, n_outputs, n_keys):
    """Returns how many int32 an op needs: its inputs as words, rows padded to 4, and the scores of its keys."""
    return ((n_products + 3) & ~3) + n_keys


@micropython.viper
def requantize_s16(window, y: ptr8, layer):
    """Turns int16 counts (T, C), or their 2*T*C little-endian bytes, into the int8 tensor y (T, C)."""
    word = int(_WORD)
    n_channels = int(layer[1])
    n = int(layer[0]) * n_channels
    rows = layer[2]
    bias = ptr32(rows[0])
    multiplier = ptr16(rows[1])
    pre = ptr8(rows[2])
    half_post = ptr8(rows[3])
    in_bytes = int(len(window)) != n
    w = ptr8(window)
    c = 0
    j = 0
    while j < n:
        if in_bytes:
            s = w[0] | w[1] << 8
            w = ptr8(int(w) + 2)
        else:  # the size of an item cannot be told, so each is asked for
            s = int(window[j]) & 65535
        s = ((s ^ 32768) - 32768 + bias[c]) << word >> word >> pre[c]
        if s > 32767:
            s = 127
        elif s < -32768:
            s = -128
        else:
            s = ((s * multiplier[c] >> half_post[c]) + 1) >> 1
            if s > 127:
                s = 127
            elif s < -128:
                s = -128
        y[j] = s
        j += 1
        c += 1
        if c == n_channels:
            c = 0


def linear_s8(sources, y, layer):
    """y (T, N) = requantize(W x (T, K)). layer: T, K, N, weights, rows, low, high, None, scratch (K)."""
    n_steps, n_inputs, n_outputs, w, rows, low, high, _, words = layer
    bias, multiplier, pre, half_post = rows
    _multiply(
        words, 0, w, sources[0], y, bias, multiplier, pre, half_post,
        n_steps * n_inputs, n_inputs, n_inputs, 0, n_steps, n_outputs, low, high,
    )  # fmt: skip


def conv1d_s8(sources, y, layer):
    """y (T_out, N) = requantize(W * x (T, C)): each output is a linear op on the kernel*C values under it.

    layer: T, C, T_out, N, kernel, stride, pad_left, pad_right, weights, rows, low, high, None, scratch (kernel*C).
    """
    n_steps, n_channels, n_out, n_outputs, kernel, stride, pad_left, _, w, rows, low, high, _, words = layer
    bias, multiplier, pre, half_post = rows
    first = -pad_left * n_channels
    _multiply(
        words, 0, w, sources[0], y, bias, multiplier, pre, half_post,
        n_steps * n_channels, kernel * n_channels, stride * n_channels, first, n_out, n_outputs, low, high,
    )  # fmt: skip


@micropython.viper
def _multiply(
    x: ptr32, s: int, w: ptr8, source: ptr8, y: ptr8, bias: ptr32, multiplier: ptr16, pre: ptr8, half_post: ptr8,
    n_values: int, n_inputs: int, hop: int, first: int, n_steps: int, n_outputs: int, low: int, high: int,
):  # fmt: skip
    """y (n_steps, n_outputs): linear op on n_inputs values of the source from ``first`` on, then ``hop`` further.

    x: n_inputs int32 of scratch, rounded up to 4.    source (n_values): what lies outside counts as 0.
    """
    word = int(_WORD)
    token, weights = int(x), int(w)
    end = token + ((n_inputs + 3) >> 2 << 4)
    end_of_16s = token + ((n_inputs + 3) >> 4 << 6)
    at = 0
    while n_steps:
        k = first
        stop = first + n_inputs
        if stop > n_values:
            stop = n_values
        x = ptr32(token)
        while k < 0:
            x[0] = 0
            x = ptr32(int(x) + 4)
            k += 1
        w = ptr8(int(source) + k)
        stop += int(source)
        s = 0
        stop_of_4s = stop - ((stop - int(w)) & 3)
        while int(w) != stop_of_4s:
            x[0] = (w[0] ^ 128) - 128
            s = x[0] + s
            x[1] = (w[1] ^ 128) - 128
            s = x[1] + s
            x[2] = (w[2] ^ 128) - 128
            s = x[2] + s
            x[3] = (w[3] ^ 128) - 128
            s = x[3] + s
            w = ptr8(int(w) + 4)
            x = ptr32(int(x) + 16)
        while int(w) != stop:
            x[0] = (w[0] ^ 128) - 128
            s = x[0] + s
            w = ptr8(int(w) + 1)
            x = ptr32(int(x) + 4)
        while int(x) != end:
            x[0] = 0
            x = ptr32(int(x) + 4)
        excess = s << 7
        w = ptr8(weights)
        n = 0
        while n < n_outputs:
            x = ptr32(token)
            s = bias[n] - excess
            while int(x) != end_of_16s:
                s = (w[0] ^ 128) * x[0] + s
                s = (w[1] ^ 128) * x[1] + s
                s = (w[2] ^ 128) * x[2] + s
                s = (w[3] ^ 128) * x[3] + s
                s = (w[4] ^ 128) * x[4] + s
                s = (w[5] ^ 128) * x[5] + s
                s = (w[6] ^ 128) * x[6] + s
                s = (w[7] ^ 128) * x[7] + s
                s = (w[8] ^ 128) * x[8] + s
                s = (w[9] ^ 128) * x[9] + s
                s = (w[10] ^ 128) * x[10] + s
                s = (w[11] ^ 128) * x[11] + s
                s = (w[12] ^ 128) * x[12] + s
                s = (w[13] ^ 128) * x[13] + s
                s = (w[14] ^ 128) * x[14] + s
                s = (w[15] ^ 128) * x[15] + s
                w = ptr8(int(w) + 16)
                x = ptr32(int(x) + 64)
            while int(x) != end:
                s = (w[0] ^ 128) * x[0] + s
                s = (w[1] ^ 128) * x[1] + s
                s = (w[2] ^ 128) * x[2] + s
                s = (w[3] ^ 128) * x[3] + s
                w = ptr8(int(w) + 4)
                x = ptr32(int(x) + 16)
            s = s << word >> word >> pre[n]
            if s > 32767:
                s = high
            elif s < -32768:
                s = low
            else:
                s = ((s * multiplier[n] >> half_post[n]) + 1) >> 1
                if s > high:
                    s = high
                elif s < low:
                    s = low
            y[at] = s
            at += 1
            n += 1
        first += hop
        n_steps -= 1


def windowed_attention_s8(sources, y, layer):
    """y (T, D): softmax attention of query i over the keys i-left..i+right inside the window, head by head.

    layer: T, D, heads, left, right, softmax, multiplier, shift, bias (heads * span), None, scratch (keys + D/heads).
    """
    attend(sources, y, layer, layer[0], 0, 0)


def attend(sources, y, layer, n_queries, oldest, n_kept):
    n_steps, d, heads, left, right, softmax, multiplier, shift, bias, _, words = layer
    q, k, v = sources
    dmax, dm, dpre, dsh = softmax
    head_size = d // heads
    most_keys = min(n_steps, left + right + 1)
    for h in range(heads):
        _attend(
            k, 0, words, q, k, v, y, bias, EXP, h, head_size, d, n_queries, left, right,
            most_keys, dmax, dm, dpre, dsh - 1, multiplier, shift, oldest, n_kept,
        )  # fmt: skip


@micropython.viper
def _attend(
    w: ptr8, s: int, x: ptr32, q: ptr8, k: ptr8, v: ptr8, y: ptr8, bias: ptr32, exp: ptr8, h: int, head_size: int,
    d: int, n_steps: int, left: int, right: int,
    most_keys: int, dmax: int, dm: int, dpre: int, half_dsh: int, multiplier: int, shift: int, oldest: int, n_kept: int,
):  # fmt: skip
    """One head of windowed_attention_s8, or of a step over n_kept keys. x: most_keys scores, then head_size inputs."""
    word = int(_WORD)
    column = h * head_size
    h *= left + right + 1
    scores = int(x)
    query = scores + (most_keys << 2)
    end = query + (head_size << 2)
    end_of_4s = query + (head_size >> 2 << 4)
    i = 0
    while i < n_steps:
        # Keys lie in two pieces, the second of which begins with the first place of a ring.
        if n_kept:
            low = oldest
            n_keys = n_kept
            b = h + left + 1 - n_keys
            n_first = left + 1 - oldest
            if n_first > n_keys:
                n_first = n_keys
        else:
            low = i - left if i > left else 0
            n_keys = (i + right + 1 if i + right < n_steps else n_steps) - low
            b = h + low - i + left
            n_first = n_keys
        row = low * d + column
        first_stop = scores + (n_first << 2)
        last_stop = scores + (n_keys << 2)

        # The query as words.
        x = ptr32(query)
        w = ptr8(int(q) + i * d + column)
        while int(x) != end:
            x[0] = (w[0] ^ 128) - 128
            w = ptr8(int(w) + 1)
            x = ptr32(int(x) + 4)

        # Scores, all too large by 2^25 and 128 times the sum of the query: only their differences count, and above 0
        # they read the same on every build.
        top = 0
        at = int(k) + row
        score = scores
        stop = first_stop
        while score != last_stop:
            while score != stop:
                x = ptr32(query)
                w = ptr8(at)
                s = bias[b]
                while int(x) != end_of_4s:
                    s = (w[0] ^ 128) * x[0] + s
                    s = (w[1] ^ 128) * x[1] + s
                    s = (w[2] ^ 128) * x[2] + s
                    s = (w[3] ^ 128) * x[3] + s
                    w = ptr8(int(w) + 4)
                    x = ptr32(int(x) + 16)
                while int(x) != end:
                    s = (w[0] ^ 128) * x[0] + s
                    w = ptr8(int(w) + 1)
                    x = ptr32(int(x) + 4)
                s = (s << word >> word) + 33554432
                if s > top:
                    top = s
                x = ptr32(score)
                x[0] = s
                score += 4
                at += d
                b += 1
            stop = last_stop
            at = int(k) + column

        # The exponents and their sum.
        z = 0
        x = ptr32(scores)
        while int(x) != last_stop:
            s = top - x[0]
            if s > dmax:
                s = dmax
            s = (((s >> dpre) * dm >> half_dsh) + 1) >> 1
            if s > 255:
                s = 255
            s = exp[s]
            x[0] = s
            z += s
            x = ptr32(int(x) + 4)

        # row_divide: one division per row. The largest exponent is 127, so z has 7 bits at least.
        bits = 7
        while z >> bits:
            bits += 1
        kept = bits if bits < 16 else 16
        m = (multiplier << (kept - 1)) // (z >> (bits - kept))
        pre = bits + shift - 22
        if pre < 0:
            pre = 0
        half_post = shift + bits - 2 - pre
        start = ((1 << pre) >> 1) - (z << 7)

        # The weighted sums of four channels at a time, over the query.
        at = int(v) + row
        again = int(v) + column
        n = query
        while n != end:
            x = ptr32(scores)
            w = ptr8(at)
            stop = first_stop
            if n != end_of_4s:
                a0 = start
                a1 = start
                a2 = start
                a3 = start
                while int(x) != last_stop:
                    while int(x) != stop:
                        s = x[0]
                        a0 = (w[0] ^ 128) * s + a0
                        a1 = (w[1] ^ 128) * s + a1
                        a2 = (w[2] ^ 128) * s + a2
                        a3 = (w[3] ^ 128) * s + a3
                        w = ptr8(int(w) + d)
                        x = ptr32(int(x) + 4)
                    stop = last_stop
                    w = ptr8(again)
                x = ptr32(n)
                x[0] = a0
                x[1] = a1
                x[2] = a2
                x[3] = a3
                n += 16
                at += 4
                again += 4
            else:
                end_of_4s += 4
                s = start
                while int(x) != last_stop:
                    while int(x) != stop:
                        s = (w[0] ^ 128) * x[0] + s
                        w = ptr8(int(w) + d)
                        x = ptr32(int(x) + 4)
                    stop = last_stop
                    w = ptr8(again)
                x = ptr32(n)
                x[0] = s
                n += 4
                at += 1
                again += 1
        end_of_4s = query + (head_size >> 2 << 4)

        x = ptr32(query)
        w = ptr8(int(y) + i * d + column)
        while int(x) != end:
            s = x[0] << word >> word >> pre
            if s > 32767:
                s = 127
            elif s < -32768:
                s = -128
            else:
                s = ((s * m >> half_post) + 1) >> 1
                if s > 127:
                    s = 127
                elif s < -128:
                    s = -128
            w[0] = s
            w = ptr8(int(w) + 1)
            x = ptr32(int(x) + 4)
        i += 1


def add_s8(sources, y, layer):
    """y = sat8((a*ma + b*mb + 2^14) >> 15) for n elements. layer: n, ma, mb."""
    n, ma, mb = layer
    a, b = sources
    _add(0, 0, a, b, y, n, ma, mb, 16384 - 128 * (ma + mb))


@micropython.viper
def _add(s: int, i: int, a: ptr8, b: ptr8, y: ptr8, n: int, ma: int, mb: int, start: int):
    while i < n:
        s = ((a[i] ^ 128) * ma + (b[i] ^ 128) * mb + start) >> 15
        if s > 127:
            s = 127
        elif s < -128:
            s = -128
        y[i] = s
        i += 1


def mean_pool_s8(sources, y, layer):
    """y (1, D) = requantize(sum of x (T, D) over T). layer: T, D, rows (one entry for all channels), scratch (D)."""
    n_steps, d, _, sums = layer
    _sum(n_steps, sources[0], 0, sums, d)
    pool_sums_s8(sums, y, layer)


@micropython.viper
def _sum(t: int, x: ptr8, s: int, sums: ptr32, d: int):
    n_steps = t
    column = int(x)
    c = 0
    while c < d:
        x = ptr8(column + c)
        s = 0 - (n_steps << 7)
        t = n_steps
        while t:
            s = (x[0] ^ 128) + s
            x = ptr8(int(x) + d)
            t -= 1
        sums[c] = s
        c += 1


def pool_sums_s8(sums, y, layer):
    """y (1, D) = requantize(sums (D) int32): the end of mean_pool_s8, with its layer."""
    _, d, rows, _ = layer
    bias, multiplier, pre, half_post = rows
    _mean(sums, y, 0, d, bias[0], multiplier[0], pre[0], half_post[0])


@micropython.viper
def _mean(x: ptr32, y: ptr8, s: int, d: int, bias: int, multiplier: int, pre: int, half_post: int):
    word = int(_WORD)
    c = 0
    while c < d:
        s = x[c] + bias << word >> word >> pre
        if s > 32767:
            s = 127
        elif s < -32768:
            s = -128
        else:
            s = ((s * multiplier >> half_post) + 1) >> 1
            if s > 127:
                s = 127
            elif s < -128:
                s = -128
        y[c] = s
        c += 1


def table_s8(sources, y, layer):
    """y = table[x + 128] for n elements. layer: n, table (256)."""
    n, table = layer
    _look_up(sources[0], table, n, y)


@micropython.viper
def _look_up(x: ptr8, table: ptr8, n: int, y: ptr8):
    while n:
        n -= 1
        y[n] = table[x[n] ^ 128]
