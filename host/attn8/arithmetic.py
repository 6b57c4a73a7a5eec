"""The integer arithmetic of models/FORMAT.md in NumPy: one function per rule, vectorised over windows.

All functions take and return int64 arrays that hold the integers of the contract. Matrix products run in
float64, which is exact: every accumulator stays below 2^30. reference.py runs them on a packed file and
quantize.py inside fake quantization, so both compute the same numbers by construction.
"""

from math import ceil, floor, log2

import numpy as np

from . import spec
from .errors import QuantizeError

CLAMP_RANGE = {0: (-128, 127), 1: (-127, 127), 2: (0, 127)}
BLOCK_ELEMENTS = 1 << 22  # of an intermediate that is held at once
_EXP = np.array(spec.exp_table(), dtype=np.int64)


def rshift(x, p):
    """Returns floor(x / 2^p + 1/2) for p >= 1."""
    return ((x >> (p - 1)) + 1) >> 1


def bits(x):
    """Returns the bit length of non-negative integers, elementwise: bits(0) = 0, bits(1) = 1."""
    return np.frexp(np.asarray(x, dtype=np.float64))[1].astype(np.int64)


def requantize(acc, multiplier, pre, post, low=-128, high=127):
    """Scales an int32 accumulator to int8, rounding half up.

    Args:
        acc: integers, any shape, bias included.
        multiplier, pre, post: integers that broadcast against acc.
        low, high: range of the result.

    Returns:
        int64 array of the shape of acc, in [low, high].

    Source:
        models/FORMAT.md, "requantize".
    """
    v = acc >> pre
    y = np.clip(rshift(np.clip(v, -32768, 32767) * multiplier, post), low, high)
    return np.where(v > 32767, high, np.where(v < -32768, low, y))


def requantize_rows(acc, rows, clamp=0):
    """Requantizes acc (..., N) with one entry of ``rows`` (graph.Requantize) per channel."""
    low, high = CLAMP_RANGE[clamp]
    bias, m, pre, post = (np.asarray(a, dtype=np.int64) for a in (rows.bias, rows.multiplier, rows.pre, rows.post))
    return requantize(acc + bias, m, pre, post, low, high)


def matmul(a, b):
    """Returns the exact product of two integer arrays whose sums stay below 2^53."""
    return np.rint(a.astype(np.float64) @ b.astype(np.float64)).astype(np.int64)


def linear_accumulate(x, weights):
    """acc (..., N) = x (..., K) times weights (N, K)."""
    return matmul(x, weights.T)


def conv1d_patches(x, kernel, stride, pad_left, pad_right):
    """Returns (n, T_out, kernel*C): the tokens under each output of a convolution, zeros outside the window."""
    x = np.pad(x, ((0, 0), (pad_left, pad_right), (0, 0)))
    view = np.lib.stride_tricks.sliding_window_view(x, kernel, axis=1)[:, ::stride]
    return np.ascontiguousarray(view.transpose(0, 1, 3, 2)).reshape(len(x), view.shape[1], -1)


def conv1d_accumulate(x, weights, stride, pad_left, pad_right):
    """acc (n, T_out, N) of a convolution of x (n, T, C) with weights (N, kernel, C), a block of tokens at a time."""
    n_outputs, kernel, n_channels = weights.shape
    flat = weights.reshape(n_outputs, -1)
    x = np.pad(x, ((0, 0), (pad_left, pad_right), (0, 0)))
    n_out = (x.shape[1] - kernel) // stride + 1
    rows = max(1, BLOCK_ELEMENTS // (max(1, len(x)) * kernel * n_channels))
    parts = []
    for first in range(0, n_out, rows):
        last = min(first + rows, n_out)
        part = x[:, first * stride : (last - 1) * stride + kernel]
        parts.append(linear_accumulate(conv1d_patches(part, kernel, stride, 0, 0), flat))
    return np.concatenate(parts, axis=1)


def softmax_index(difference, softmax):
    """Returns EXP of score differences M_ - S >= 0."""
    d = np.minimum(difference, softmax.dmax) >> softmax.dpre
    return _EXP[np.minimum(rshift(d * softmax.dm, softmax.dsh), 255)]


def row_divide(a, z, multiplier, shift):
    """Returns sat8(a / z * multiplier * 2^-shift), rounded, with one 32-bit division per z.

    Args:
        a: integers (..., N), |a| < 2^29.    z: integers (..., 1), 0 or in [1, 2^30). z = 0 gives 0.
        multiplier: M in [2^14, 2^15).    shift: f in [1, 22].

    Source:
        models/FORMAT.md, "row_divide".
    """
    empty, z = z == 0, np.maximum(z, 1)
    k = bits(z)
    kn = np.minimum(k, 16)
    r = (multiplier << (kn - 1)) // (z >> (k - kn))
    pre = np.maximum(0, k + shift - 22)
    half = np.where(pre > 0, np.left_shift(1, np.maximum(pre - 1, 0)), 0)
    return np.where(empty, 0, requantize(a + half, r, pre, shift + k - 1 - pre))


def split_heads(x, heads):
    """(n, T, D) to (n, H, T, D/H)."""
    n, t, d = x.shape
    return x.reshape(n, t, heads, d // heads).transpose(0, 2, 1, 3)


def join_heads(x):
    """(n, H, T, D/H) to (n, T, D)."""
    n, h, t, d = x.shape
    return x.transpose(0, 2, 1, 3).reshape(n, t, h * d)


def windowed_attention(query, key, value, op):
    """Softmax attention of int8 tensors (n, T, D), a block of queries at a time so that memory stays small.

    Source: models/FORMAT.md, "windowed attention".
    """
    n_tokens = query.shape[1]
    q, k, v = (split_heads(x, op.heads) for x in (query, key, value))
    rows = _block_queries(max(1, len(query)) * op.heads, min(n_tokens, op.left + op.right + 1))
    parts = []
    for first in range(0, n_tokens, rows):
        last = min(first + rows, n_tokens)
        keys = slice(max(0, first - op.left), min(n_tokens, last + op.right))
        offset = np.arange(keys.start, keys.stop)[None, :] - np.arange(first, last)[:, None] + op.left
        parts.append(_attend(q[:, :, first:last], k[:, :, keys], v[:, :, keys], offset, op))
    return join_heads(np.concatenate(parts, axis=2))


def _attend(q, k, v, offset, op):
    """Attention of some queries (n, H, rows, dh) over some keys; offset (rows, keys) indexes the relative bias."""
    seen = (offset >= 0) & (offset <= op.left + op.right)
    bias = np.asarray(op.relative_bias, dtype=np.int64)[:, np.clip(offset, 0, op.left + op.right)]
    scores = np.where(seen, matmul(q, k.swapaxes(-1, -2)) + bias, -(1 << 40))
    e = np.where(seen, softmax_index(np.maximum(scores.max(-1, keepdims=True) - scores, 0), op.softmax), 0)
    return row_divide(matmul(e, v), e.sum(-1, keepdims=True), op.multiplier, op.shift)


def _block_queries(n_heads, span):
    """Returns how many queries to compute at a time, for n_heads heads: b with b*(b + span) scores in a block."""
    return max(1, int(((span**2 + 4 * BLOCK_ELEMENTS / n_heads) ** 0.5 - span) / 2))


def isqrt(v):
    """Returns the floor of the square root of integers below 2^52, elementwise."""
    q = np.sqrt(v.astype(np.float64)).astype(np.int64)
    q -= q * q > v
    return q + ((q + 1) * (q + 1) <= v)


def layer_norm(x, op):
    """LayerNorm or RMSNorm of the last axis. Source: models/FORMAT.md, "layer norm"."""
    d = x.shape[-1]
    rmax = (29 - ceil(log2(d))) // 2
    c = d * x - x.sum(-1, keepdims=True) if op.kind == 0 else x
    kk = np.maximum(0, bits(np.abs(c).max(-1, keepdims=True)) - rmax)
    c = np.clip((c + ((1 << kk) >> 1)) >> kk, -(1 << rmax), 1 << rmax)
    v = np.maximum(1, (c * c).sum(-1, keepdims=True) + (op.epsilon >> 2 * kk))
    t = (30 - bits(v)) & ~1
    r = (op.multiplier << 15) // isqrt(v << t)
    return np.clip(rshift(c * r, 15 + op.shift - t // 2), -128, 127)


def add(a, b, op):
    """Residual add of two tensors. Source: models/FORMAT.md, "add"."""
    return np.clip((a * op.multiplier_a + b * op.multiplier_b + (1 << 14)) >> 15, -128, 127)


def score(outputs, softmax):
    """Returns (best (n,), score (n,) in 0..100) of int8 outputs (n, n_outputs)."""
    y = np.asarray(outputs, dtype=np.int64)
    z = softmax_index(y.max(-1, keepdims=True) - y, softmax).sum(-1)
    return y.argmax(-1), (12700 + (z >> 1)) // z


# How a scale becomes integers: computed once, by the quantizer.


def _mantissa(s):
    """Returns (m, E) with s ~ m * 2^-E and m in [2^14, 2^15)."""
    fraction, exponent = np.frexp(s)
    m, e = floor(fraction * 32768 + 0.5), 15 - int(exponent)
    return (1 << 14, e - 1) if m == 1 << 15 else (m, e)


def choose_requantize(s):
    """Chooses (multiplier, pre, post) for real scales s = s_in*s_w/s_out > 0 of an int8 output.

    Args:
        s: float, or array (N,).

    Returns:
        three int64 arrays of the shape of s.

    Raises:
        QuantizeError: if a scale is not positive and finite, or about 2^14 or larger.

    Source:
        models/FORMAT.md, "scales".
    """
    s = np.asarray(s, dtype=np.float64)
    if not np.all((s > 0) & np.isfinite(s)):
        raise QuantizeError(f"a scale is {s.min()}, expected positive finite numbers: calibrate on data that varies")
    fraction, exponent = np.frexp(s)
    m, e = np.floor(fraction * 32768 + 0.5).astype(np.int64), 15 - exponent.astype(np.int64)
    carried = m == 1 << 15
    m, e = np.where(carried, 1 << 14, m), np.where(carried, e - 1, e)
    enough = 32767.0 * m[..., None] * 2.0 ** np.arange(15) >= 129 * np.exp2(e.astype(np.float64))[..., None]
    pre = np.where(enough.any(-1), enough.argmax(-1), 15)
    post = e - pre
    if np.any(post < 1):
        raise QuantizeError(f"a scale is {s.max():.3g}, expected less than 2^14: calibrate on data that varies")
    dead = np.clip(post - 29, 0, 15)
    return m >> dead, pre, np.minimum(post, 29)


def rounding_half(pre):
    """Returns 2^(pre-1), or 0 where pre is 0: what a bias contains so that the first shift rounds."""
    return np.left_shift(1, pre) >> 1


def choose_softmax(r):
    """Chooses graph.Softmax for r = 32 times the real value of one step of the scores."""
    from .graph import Softmax

    if not (r > 0 and np.isfinite(r)):
        raise QuantizeError(f"a score scale is {r}, expected a positive finite number: calibrate on data that varies")
    dm, e = _mantissa(r)
    dmax = int(min(floor(256 / r) + 1, (1 << 26) - 1))
    dpre = max(0, dmax.bit_length() - 15)
    if not 1 <= e - dpre <= 30:
        raise QuantizeError(f"a score scale is {r:.3g}, expected about 2^-15..2^13: check the query and key weights")
    return Softmax(dmax, dm, dpre, e - dpre)


def choose_row_divide(s):
    """Chooses (M, f) for s = s_v/s_y = M*2^-f, f in [1, 22]."""
    m, f = _mantissa(s)
    if not 1 <= f <= 22:
        raise QuantizeError(f"an attention output scale is {s:.3g}, expected 2^-8..2^14: calibrate on data that varies")
    return m, f


def choose_add(s_a, s_b, s_y):
    """Chooses (ma, mb) of a residual add."""
    ma, mb = (floor(s / s_y * 32768 + 0.5) for s in (s_a, s_b))
    if ma + mb > 1 << 22:
        raise QuantizeError(f"the scales of an add are {s_a:.3g}, {s_b:.3g} to {s_y:.3g}, expected a ratio below 128")
    return ma, mb


def choose_layer_norm(n_channels, s_x, s_y, epsilon, kind):
    """Chooses (m, E, eps) of a norm of D channels with input scale s_x and output scale s_y."""
    m, e = _mantissa(n_channels**0.5 / s_y)
    if not 0 <= e <= 15:
        raise QuantizeError(f"a norm's output scale is {s_y:.3g}, expected sqrt(D)/s_y in 0.5..2^15")
    gain = n_channels if kind == 0 else 1
    eps = floor(epsilon * n_channels * (gain / s_x) ** 2 + 0.5)
    return m, e, min(eps, (1 << 29) - 1)


def golden_input(golden, vector, n_steps, dtype):
    """Makes the input (T, C) of a golden vector from its seed. Source: models/FORMAT.md, "Golden vectors"."""
    x, y, hold = vector
    low, n_values = np.asarray(golden.low, dtype=np.int64), np.asarray(golden.n_values, dtype=np.int64)
    n_draws = -(-n_steps // hold)
    draws = np.empty((n_draws * len(low),), dtype=np.int64)
    for i in range(len(draws)):
        t = (x ^ (x << 5)) & 65535
        x, y = y, (y ^ (y >> 1)) ^ (t ^ (t >> 3))
        draws[i] = y
    values = low + (draws.reshape(n_draws, -1) * n_values >> 16)
    return np.repeat(values, hold, axis=0)[:n_steps].astype(dtype)
