"""The integer rules: NumPy against a slow form that proves the range of every step, and against exact rationals."""

from fractions import Fraction
from math import ceil, exp, floor, isqrt, log2

import numpy as np
import pytest

from attn8 import arithmetic, spec
from attn8.errors import QuantizeError
from attn8.graph import Add, GoldenVectors, LayerNorm, Requantize, Softmax, WindowedAttention

LOWEST, HIGHEST = -(1 << 30), (1 << 30) - 1
EXP = [floor(127 * exp(-i / 32) + 0.5) for i in range(256)]


# ---- the slow forms: plain int, every intermediate inside 31 bits ---------------------------------------------------


def small(value):
    """The value itself, which a 32-bit MicroPython holds without a heap integer."""
    assert LOWEST <= value <= HIGHEST, value
    return value


def slow_rshift(x, p):
    return small(small(small(x >> (p - 1)) + 1) >> 1)


def slow_requantize(acc, m, pre, post, low=-128, high=127):
    v = small(small(acc) >> pre)
    if v > 32767:
        return high
    if v < -32768:
        return low
    return max(low, min(high, slow_rshift(small(v * m), post)))


def slow_row_divide(a, z, multiplier, f):
    if z == 0:
        return 0
    k = z.bit_length()
    kn = min(k, 16)
    r = small(multiplier << (kn - 1)) // (z >> (k - kn))
    pre = max(0, k + f - 22)
    assert pre <= 30 and 1 <= f + k - 1 - pre <= 21 and r <= 32767
    return slow_requantize(small(a + (small(1 << (pre - 1)) if pre else 0)), r, pre, f + k - 1 - pre)


def slow_index(difference, s):
    d = small(min(small(difference), s.dmax) >> s.dpre)
    return min(slow_rshift(small(d * s.dm), s.dsh), 255)


def slow_attention_row(q, keys, values, bias, op):
    scores = [small(sum(small(a * b) for a, b in zip(q, k, strict=True)) + b) for k, b in zip(keys, bias, strict=True)]
    top = max(scores)
    e = [EXP[slow_index(top - s, op.softmax)] for s in scores]
    z = small(sum(e))
    columns = zip(*values, strict=True)
    return [
        slow_row_divide(small(sum(small(w * v) for w, v in zip(e, c, strict=True))), z, op.multiplier, op.shift)
        for c in columns
    ]


def slow_isqrt(v):
    """Bit by bit, as a board without floating point computes it."""
    root, bit = 0, 1 << 28
    while bit > v:
        bit >>= 2
    while bit:
        trial = small(root + bit)
        root >>= 1
        if v >= trial:
            v -= trial
            root += bit
        bit >>= 2
    return root


def slow_layer_norm(x, op):
    d = len(x)
    rmax = (29 - ceil(log2(d))) // 2
    total = small(sum(x))
    c = [small(d * v - total) for v in x] if op.kind == 0 else x
    kk = max(0, max(map(abs, c)).bit_length() - rmax)
    c = [min(max(small(small(v + ((1 << kk) >> 1)) >> kk), -(1 << rmax)), 1 << rmax) for v in c]
    energy = 0
    for v in c:
        energy = small(energy + small(v * v))
    v = max(1, small(energy + (op.epsilon >> 2 * kk)))
    t = (30 - v.bit_length()) & ~1
    q = slow_isqrt(small(v << t))
    assert 1 << 14 <= q < 1 << 15
    r = small(op.multiplier << 15) // q
    return [max(-128, min(127, slow_rshift(small(v * r), 15 + op.shift - t // 2))) for v in c]


def slow_add(a, b, op):
    total = small(small(small(a * op.multiplier_a) + small(b * op.multiplier_b)) + (1 << 14))
    return max(-128, min(127, total >> 15))


def rounded(value):
    """floor(x + 1/2) of a Fraction."""
    return floor(value + Fraction(1, 2))


def mixed(rng, n, low, high):
    """Integers of every magnitude in [low, high]: uniform, log-uniform, and the extremes."""
    uniform = rng.integers(low, high, n, endpoint=True)
    powers = np.exp2(rng.uniform(0, log2(max(abs(low), abs(high))), n)).astype(np.int64) * rng.choice([-1, 1], n)
    extremes = rng.choice([low, low + 1, 0, 1, high - 1, high], n)
    kind = rng.integers(0, 3, n)
    return np.clip(np.where(kind == 0, uniform, np.where(kind == 1, powers, extremes)), low, high)


# ---- NumPy equals the slow form, bit by bit -------------------------------------------------------------------------


@pytest.mark.parametrize("clamp", [0, 1, 2])
def test_requantize_equals_the_slow_form_for_every_legal_number(clamp):
    rng, n = np.random.default_rng(clamp), 40_000
    acc = mixed(rng, n, -(1 << 29) + 1, (1 << 29) - 1)
    bias = mixed(rng, n, -(1 << 29) + 1, (1 << 29) - 1)
    m, pre, post = mixed(rng, n, 0, 32767), rng.integers(0, 16, n), rng.integers(1, 30, n)
    low, high = arithmetic.CLAMP_RANGE[clamp]
    found = arithmetic.requantize_rows(acc, Requantize(bias, m, pre, post), clamp)
    assert found.min() >= low and found.max() <= high
    rows = zip(*(v.tolist() for v in (acc + bias, m, pre, post)), strict=True)
    assert found.tolist() == [slow_requantize(*row, low, high) for row in rows]


def test_row_divide_equals_the_slow_form():
    rng, n = np.random.default_rng(1), 20_000
    for f in range(1, 23, 4):
        a, z = mixed(rng, n, -(1 << 29) + 1, (1 << 29) - 1), mixed(rng, n, 0, (1 << 30) - 1)
        m = int(rng.integers(1 << 14, 1 << 15))
        found = arithmetic.row_divide(a[:, None], z[:, None], m, f)[:, 0]
        rows = zip(a.tolist(), z.tolist(), strict=True)
        assert found.tolist() == [slow_row_divide(x, y, m, f) for x, y in rows]


def test_add_equals_the_slow_form():
    rng = np.random.default_rng(2)
    limits = [(0, 1 << 22), (1 << 22, 0), (1 << 21, 1 << 21), (0, 0)]
    random = [tuple(mixed(rng, 2, 0, 1 << 21).tolist()) for _ in range(10)]
    a, b = (v.ravel() for v in np.meshgrid(np.arange(-128, 128, 3), np.append(np.arange(-128, 128, 3), 127)))
    for ma, mb in limits + random:
        op = Add(0, 1, ma, mb)
        rows = zip(a.tolist(), b.tolist(), strict=True)
        assert arithmetic.add(a, b, op).tolist() == [slow_add(x, y, op) for x, y in rows]


def int8_rows(rng, n, d):
    """Gaussian, uniform, constant and extreme rows."""
    rows = [
        rng.normal(rng.uniform(-60, 60, (n, 1)), rng.uniform(0.5, 50, (n, 1)), (n, d)),
        rng.integers(-128, 128, (n, d)),
        np.repeat(rng.integers(-128, 128, (n, 1)), d, 1),
        rng.choice([-128, 127], (n, d)),
    ]
    return np.clip(np.rint(np.concatenate(rows)), -128, 127).astype(np.int64)


@pytest.mark.parametrize("kind", [0, 1])
@pytest.mark.parametrize("d", [8, 9, 31, 32, 33, 64, 200, 255, 256])
def test_layer_norm_equals_the_slow_form(d, kind):
    rng = np.random.default_rng(d)
    x = int8_rows(rng, 20 if d > 64 else 100, d)
    for epsilon, shift in [(0, 0), (1, 15), (int(rng.integers(1, 5000)), 8), ((1 << 29) - 1, int(rng.integers(0, 16)))]:
        op = LayerNorm(0, kind, int(rng.choice([1 << 14, 20001, (1 << 15) - 1])), epsilon, shift)
        assert arithmetic.layer_norm(x, op).tolist() == [slow_layer_norm(row, op) for row in x.tolist()]


def random_softmax(rng):
    """Any softmax that check_model accepts."""
    dmax = int(mixed(rng, 1, 1, (1 << 26) - 1)[0])
    return Softmax(dmax, int(rng.integers(1 << 14, 1 << 15)), max(0, dmax.bit_length() - 15), int(rng.integers(1, 31)))


def test_softmax_index_equals_the_slow_form():
    rng = np.random.default_rng(3)
    for _ in range(100):
        s = random_softmax(rng)
        difference = np.abs(mixed(rng, 1000, 0, (1 << 26) - 1))
        expected = [EXP[slow_index(d, s)] for d in difference.tolist()]
        assert arithmetic.softmax_index(difference, s).tolist() == expected


@pytest.mark.parametrize(
    ("t", "heads", "size", "left", "right"), [(9, 2, 4, 3, 0), (7, 1, 256, 6, 6), (12, 3, 1, 0, 4)]
)
@pytest.mark.parametrize("extreme", [False, True])
def test_attention_equals_the_slow_form(t, heads, size, left, right, extreme):
    rng = np.random.default_rng(t)
    big, span = 1 << 24 if extreme else 3000, left + right + 1

    def draw(low, high, *shape):
        return rng.choice([low, high], shape) if extreme else rng.integers(low, high, shape, endpoint=True)

    q, k, v = (draw(low, 127, 4, t, heads * size) for low in (-128, -127, -128))
    bias = draw(-big, big, heads, span)
    scale = 32 / 1600 / size**0.5
    softmax = random_softmax(rng) if extreme else arithmetic.choose_softmax(scale)
    op = WindowedAttention(1, 2, 3, heads, left, right, softmax, 20000, 14, bias)
    found = arithmetic.windowed_attention(q, k, v, op)
    for n, h, i in np.ndindex(len(q), heads, t):
        part, seen = slice(h * size, (h + 1) * size), range(max(0, i - left), min(t, i + right + 1))
        keys, values = (x[n, seen.start : seen.stop, part].tolist() for x in (k, v))
        row = slow_attention_row(q[n, i, part].tolist(), keys, values, [int(bias[h, j - i + left]) for j in seen], op)
        assert found[n, i, part].tolist() == row


def test_isqrt_is_the_floor_of_the_root():
    roots = np.random.default_rng(4).integers(1, 1 << 15, 20_000)
    v = np.concatenate([roots**2 - 1, roots**2, roots**2 + 1, np.arange(2000), [(1 << 30) - 1]])
    assert arithmetic.isqrt(v).tolist() == [isqrt(x) for x in v.tolist()]
    assert [slow_isqrt(x) for x in v[::50].tolist()] == [isqrt(x) for x in v[::50].tolist()]


def test_bits_is_the_bit_length():
    x = sorted({max(0, (1 << p) + d) for p in range(40) for d in (-1, 0, 1)})
    assert arithmetic.bits(x).tolist() == [v.bit_length() for v in x]


def test_rshift_rounds_half_up():
    x = np.arange(-4000, 4000)
    for p in range(1, 13):
        assert arithmetic.rshift(x, p).tolist() == [rounded(Fraction(v, 1 << p)) for v in x.tolist()]


# ---- the integers are close to the real numbers ---------------------------------------------------------------------


def compare(found, exact, share):
    """At most one step apart, and apart in at most this share of the cases."""
    difference = np.abs(np.asarray(found) - np.asarray(exact))
    assert difference.max() <= 1
    assert difference.mean() <= share


@pytest.mark.parametrize("k", [8, 64, 1024])
def test_requantize_is_within_one_step_of_exact(k):
    rng, n = np.random.default_rng(k), 20_000
    acc = np.rint(rng.normal(0, 127 * 40 * k**0.5 / 3, n)).astype(np.int64)
    scale = 40 / acc.std() * float(rng.uniform(0.6, 1.6))
    m, pre, post = arithmetic.choose_requantize(scale)
    found = arithmetic.requantize(acc + arithmetic.rounding_half(pre), m, pre, post)
    compare(found, [max(-128, min(127, rounded(Fraction(scale) * a))) for a in acc.tolist()], 0.004)


def test_row_divide_is_within_one_step_of_exact():
    rng, n = np.random.default_rng(6), 30_000
    z = mixed(rng, n, 127, (1 << 22) - 1)
    z = np.maximum(z, 127)
    a = (rng.uniform(-128, 128, n) * z).astype(np.int64)
    s = 1.37
    m, f = arithmetic.choose_row_divide(s)
    exact = [
        max(-128, min(127, rounded(Fraction(s) * Fraction(x, y)))) for x, y in zip(a.tolist(), z.tolist(), strict=True)
    ]
    compare(arithmetic.row_divide(a[:, None], z[:, None], m, f)[:, 0], exact, 0.003)


def test_add_is_within_one_step_of_exact():
    a, b = (v.ravel() for v in np.meshgrid(np.arange(-128, 128), np.arange(-128, 128)))
    sa, sb, sy = 0.0313, 0.0171, 0.0377
    op = Add(0, 1, *arithmetic.choose_add(sa, sb, sy))
    exact = np.clip(np.floor((a * sa + b * sb) / sy + 0.5), -128, 127)
    compare(arithmetic.add(a, b, op), exact, 0.01)


@pytest.mark.parametrize("kind", [0, 1])
@pytest.mark.parametrize(("d", "share"), [(8, 0.002), (32, 0.002), (128, 0.03), (256, 0.06)])
def test_layer_norm_is_within_one_step_of_exact(d, share, kind):
    rng = np.random.default_rng(d)
    x = np.clip(np.rint(rng.normal(10, 30, (600, d))), -128, 127).astype(np.int64)
    s_x, s_y, eps = 0.04, 0.03, 1e-5
    m, shift, epsilon = arithmetic.choose_layer_norm(d, s_x, s_y, eps, kind)
    real = (x - x.mean(1, keepdims=True) if kind == 0 else x) * s_x
    exact = real / np.sqrt((real**2).mean(1, keepdims=True) + eps) / s_y
    found = arithmetic.layer_norm(x, LayerNorm(0, kind, m, epsilon, shift))
    compare(found, np.clip(np.floor(exact + 0.5), -128, 127), share)


def test_softmax_index_is_within_one_step_of_exact():
    rng = np.random.default_rng(8)
    wrong = total = 0
    for _ in range(60):
        r = float(np.exp2(rng.uniform(-14, 3)))
        s = arithmetic.choose_softmax(r)
        for d in (rng.uniform(0, 1.2, 300) * 256 / r).astype(int).tolist():
            exact = min(rounded(Fraction(r) * d), 255)
            found = slow_index(d, s)
            # Behind entry 177 the table is 0: neither form needs to tell those apart.
            assert abs(found - exact) <= 1 or min(found, exact) > 178
            wrong, total = wrong + (EXP[found] != EXP[exact]), total + 1
    assert wrong / total < 0.004


def test_attention_is_close_to_floating_point_softmax():
    rng = np.random.default_rng(9)
    t, d = 32, 8
    q, k, v = (rng.integers(-127, 128, (8, t, d)) for _ in range(3))
    step = 1.0 / (q @ k.swapaxes(1, 2)).std()
    op = WindowedAttention(
        1, 2, 3, 1, t - 1, t - 1, arithmetic.choose_softmax(32 * step), *arithmetic.choose_row_divide(1.0),
        np.zeros((1, 2 * t - 1), np.int64),
    )  # fmt: skip
    p = np.exp(step * (q @ k.swapaxes(1, 2)))
    error = arithmetic.windowed_attention(q, k, v, op) - p @ v / p.sum(-1, keepdims=True)
    assert np.abs(error).max() < 2 and np.sqrt((error**2).mean()) < 0.4  # 0.29 of it is the rounding of the output


# ---- shapes of convolution and attention ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kernel", "stride", "left", "right"), [(1, 1, 0, 0), (5, 2, 4, 0), (4, 3, 1, 2), (8, 8, 0, 7)]
)
def test_convolution_patches_equal_a_loop_over_tokens(kernel, stride, left, right):
    x = np.random.default_rng(0).integers(-128, 128, (2, 10, 3))
    found = arithmetic.conv1d_patches(x, kernel, stride, left, right)
    assert found.shape == (2, (10 + left + right - kernel) // stride + 1, 3 * kernel)
    for n, t, tap in np.ndindex(2, found.shape[1], kernel):
        token = t * stride - left + tap
        expected = x[n, token] if 0 <= token < 10 else np.zeros(3)
        assert found[n, t, 3 * tap : 3 * tap + 3].tolist() == expected.tolist()


def test_score_is_a_percentage_of_the_first_largest_output():
    softmax = arithmetic.choose_softmax(32 * 0.1)
    y = np.random.default_rng(0).integers(-128, 128, (2000, 5)).astype(np.int8)
    y[:100] = y[:100, :1]
    best, score = arithmetic.score(y, softmax)
    p = np.exp(0.1 * y.astype(float))
    assert best.tolist() == y.argmax(1).tolist() and (best[:100] == 0).all()
    assert np.abs(score - 100 * (p.max(1) / p.sum(1))).max() < 2
    assert score[:100].tolist() == [20] * 100
    z = [sum(EXP[slow_index(max(row) - v, softmax)] for v in row) for row in y.tolist()]
    assert score.tolist() == [rounded(Fraction(12700, total)) for total in z]
    assert arithmetic.score(np.zeros((1, 1), np.int8), softmax)[1].tolist() == [100]


# ---- golden inputs --------------------------------------------------------------------------------------------------


def generate(x, y, n, n_values=None):
    """The generator of golden vectors; with a range, its draws as golden_input gives them for low = 0."""
    out = []
    for _ in range(n):
        t = small(x ^ (x << 5)) & 65535
        x, y = y, (y ^ (y >> 1)) ^ (t ^ (t >> 3))
        out.append(y if n_values is None else small(y * n_values) >> 16)
    return out


def test_generator_gives_the_published_values():
    from_one = generate(1, 1, 65536)
    assert from_one[:3] == [36, 19, 1066] and from_one[999] == 47863 and from_one[65535] == 42041
    assert generate(0x1234, 0xABCD, 3) == [40969, 14381, 37175]


def test_golden_input_draws_time_first_and_holds():
    golden = GoldenVectors(np.array([-5, 100]), np.array([16384, 7]), [])
    found = arithmetic.golden_input(golden, (1, 1, 3), 8, np.int16)
    a, b = generate(1, 1, 6, 16384)[::2], generate(1, 1, 6, 7)[1::2]
    assert found.dtype == np.int16 and found.shape == (8, 2)
    assert found.tolist() == [[a[t // 3] - 5, b[t // 3] + 100] for t in range(8)]


def test_golden_input_with_the_widest_range_follows_the_generator():
    golden = GoldenVectors(np.array([0]), np.array([16384]), [])
    assert arithmetic.golden_input(golden, (0x1234, 0xABCD, 1), 3, np.int16)[:, 0].tolist() == [
        v * 16384 >> 16 for v in (40969, 14381, 37175)
    ]


# ---- scales to integers ---------------------------------------------------------------------------------------------


def test_exp_table_is_the_one_of_the_specification():
    assert spec.exp_table() == EXP and EXP[0] == 127 and EXP[177] == 1 and set(EXP[178:]) == {0}


def test_requantize_numbers_give_their_scale_back():
    scales = np.exp2(np.random.default_rng(0).uniform(-28.9, 13.4, 20_000))
    m, pre, post = arithmetic.choose_requantize(scales)
    assert m.min() >= 1 << 14 and m.max() < 1 << 15
    assert pre.min() >= 0 and pre.max() <= 15 and post.min() >= 1 and post.max() <= 29
    kept = pre + post < 44  # smaller scales lose bits of m on purpose
    assert (np.abs(m * np.exp2(-(pre + post)) / scales - 1)[kept]).max() <= 2.0**-15
    saturated = 32767.0 * m * np.exp2(pre) >= 129 * np.exp2(pre + post)
    assert (saturated | (pre == 15)).all()
    smaller = 32767.0 * m * np.exp2(pre - 1.0) >= 129 * np.exp2(pre + post)
    assert not (smaller & (pre > 0)).any()


def test_requantize_numbers_next_to_a_power_of_two():
    m, pre, post = arithmetic.choose_requantize([0.5, 1.0, np.nextafter(1, 0), 1 - 2.0**-17])
    assert m.tolist() == [1 << 14] * 4 and (pre + post).tolist() == [15, 14, 14, 14]


def test_a_dead_channel_keeps_legal_numbers():
    m, pre, post = arithmetic.choose_requantize([2.0**-30, 2.0**-40, 1e-30])
    assert post.tolist() == [29] * 3 and pre.tolist() == [15] * 3
    assert m.tolist() == [16384, 16384 >> 10, 0]


@pytest.mark.parametrize("scale", [0.0, -1.0, np.inf, np.nan, 2.0**14, 1e9])
def test_a_scale_without_numbers_is_refused(scale):
    with pytest.raises(QuantizeError, match="expected"):
        arithmetic.choose_requantize([1.0, scale])


def test_softmax_numbers_give_their_scale_back():
    for r in np.exp2(np.random.default_rng(0).uniform(-15, 12, 500)).tolist():
        s = arithmetic.choose_softmax(r)
        assert abs(s.dm * 2.0 ** -(s.dsh + s.dpre) / r - 1) <= 2.0**-15
        assert s.dmax == min(int(256 / r) + 1, (1 << 26) - 1)
        assert s.dpre == max(0, s.dmax.bit_length() - 15) and 1 <= s.dsh <= 30
        assert slow_index((1 << 26) - 1, s) >= 178  # the farthest key gets weight 0


@pytest.mark.parametrize("r", [0.0, -1.0, np.inf, np.nan, 2.0**15, 2.0**-40])
def test_a_score_scale_without_numbers_is_refused(r):
    with pytest.raises(QuantizeError, match="expected"):
        arithmetic.choose_softmax(r)


def test_row_divide_numbers_give_their_scale_back():
    for s in np.exp2(np.random.default_rng(0).uniform(-7, 13, 200)).tolist():
        m, f = arithmetic.choose_row_divide(s)
        assert abs(m * 2.0**-f / s - 1) <= 2.0**-15 and 1 << 14 <= m < 1 << 15 and 1 <= f <= 22


@pytest.mark.parametrize("s", [2.0**-9, 2.0**14])
def test_an_attention_output_scale_without_numbers_is_refused(s):
    with pytest.raises(QuantizeError, match="attention output scale"):
        arithmetic.choose_row_divide(s)


def test_add_numbers_give_their_scales_back_and_have_a_limit():
    assert arithmetic.choose_add(1.0, 0.5, 2.0) == (16384, 8192)
    assert sum(arithmetic.choose_add(64.0, 64.0, 1.0)) == 1 << 22
    with pytest.raises(QuantizeError, match="ratio below 128"):
        arithmetic.choose_add(64.0, 64.1, 1.0)


def test_layer_norm_numbers_give_their_scale_back_and_have_limits():
    for d, s_y in [(8, 0.02), (256, 0.5), (32, 0.0005)]:
        m, shift, _ = arithmetic.choose_layer_norm(d, 0.1, s_y, 1e-5, 0)
        assert abs(m * 2.0**-shift / (d**0.5 / s_y) - 1) <= 2.0**-15 and 0 <= shift <= 15
    assert arithmetic.choose_layer_norm(32, 0.01, 0.02, 1e-5, 0)[2] == round(1e-5 * 32 * (32 / 0.01) ** 2)
    assert arithmetic.choose_layer_norm(32, 0.01, 0.02, 1e-5, 1)[2] == round(1e-5 * 32 * (1 / 0.01) ** 2)
    assert arithmetic.choose_layer_norm(256, 1e-9, 0.02, 1e-5, 0)[2] == (1 << 29) - 1
    for s_y in (1e-9, 1e9):
        with pytest.raises(QuantizeError, match="output scale"):
            arithmetic.choose_layer_norm(32, 0.01, s_y, 1e-5, 0)
