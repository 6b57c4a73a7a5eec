"""Every C kernel equals its NumPy form on random vectors over the whole range of its numbers."""

import ctypes
import os
import struct
from ctypes import POINTER, byref, c_int32, c_uint8, c_uint16, c_uint32, c_void_p

import numpy as np
import pytest

from attn8 import graph, reference, runtime
from tools import build, core_sources, need, scratch

N_VECTORS = int(os.environ.get("ATTN8_VECTORS", 1_000_000))


class Softmax(ctypes.Structure):
    _fields_ = (("dmax", c_int32), ("dm", c_uint16), ("dpre", c_uint8), ("dsh", c_uint8))


class Requantize(ctypes.Structure):
    _fields_ = (("bias", c_int32), ("multiplier", c_uint16), ("pre", c_uint8), ("post", c_uint8))


class AttentionFields(ctypes.Structure):
    _fields_ = (
        ("softmax", Softmax),
        ("left", c_uint16),
        ("right", c_uint16),
        ("multiplier", c_uint16),
        ("shift", c_uint8),
        ("heads", c_uint8),
    )


class NormFields(ctypes.Structure):
    _fields_ = (("epsilon", c_int32), ("multiplier", c_uint16), ("shift", c_uint8), ("kind", c_uint8))


class AddFields(ctypes.Structure):
    _fields_ = (("multiplier_a", c_int32), ("multiplier_b", c_int32))


class Conv1d(ctypes.Structure):
    _fields_ = (
        ("rows", c_void_p),
        ("weights", c_void_p),
        *((name, c_uint32) for name in ("n_steps", "n_inputs", "n_output_steps", "n_outputs")),
        *((name, c_uint32) for name in ("kernel", "stride", "pad_left", "clamp")),
        ("scratch", c_void_p),
    )


class Attention(ctypes.Structure):
    _fields_ = (
        ("relative_bias", c_void_p),
        ("scratch", c_void_p),
        ("fields", POINTER(AttentionFields)),
        ("n_steps", c_uint32),
        ("n_channels", c_uint32),
    )


UBSAN = ("-O1", "-g", "-shared", "-fPIC", "-fsanitize=undefined", "-fno-sanitize-recover=all")


@pytest.fixture(scope="module", params=["as installed", "with UBSan"])
def core(request):
    need("cc", "gcc")
    if request.param == "as installed":
        return ctypes.CDLL(str(runtime.build_core()))
    return ctypes.CDLL(str(build(scratch() / "core-ubsan.so", core_sources(), *UBSAN)))


def int8(rng, *shape, low=-128):
    """Random int8: uniform, or nearly all at the ends of the range."""
    if rng.random() < 0.2:
        return rng.choice(np.array([low, low, 127, 127, 0], dtype=np.int8), shape)
    return rng.integers(low, 128, shape).astype(np.int8)


def requantize_rows(rng, n, spread):
    """Rows that bring accumulators of this spread into int8, and some with any legal numbers."""
    pre = np.minimum(int(spread).bit_length() // 2, 15) * np.ones(n, dtype=np.int64)
    post = np.clip(14 + int(spread).bit_length() - 6 - pre + rng.integers(-2, 3, n), 1, 29)
    m, bias = rng.integers(1 << 14, 1 << 15, n), rng.integers(-int(spread), int(spread) + 1, n)
    wild = rng.random(n) < 0.25
    bias = np.where(wild, rng.integers(-(1 << 29) + 1, 1 << 29, n) >> rng.integers(0, 29, n), bias)
    m, pre = np.where(wild, rng.integers(0, 32768, n), m), np.where(wild, rng.integers(0, 16, n), pre)
    return graph.Requantize(bias, m, pre, np.where(wild, rng.integers(1, 30, n), post))


def packed_rows(rows):
    """Returns the rows as they stand in a file."""
    values = zip(rows.bias, rows.multiplier, rows.pre, rows.post, strict=True)
    return aligned(b"".join(struct.pack("<iHBB", *map(int, v)) for v in values))


def aligned(data):
    return np.frombuffer(data, dtype=np.uint8).copy()


def packed_weights(w):
    """Returns weights (N, K) with rows padded to 4."""
    return np.pad(w, ((0, 0), (0, -w.shape[1] % 4)))


def softmax_fields(rng):
    dmax = int(rng.integers(1, 1 << int(rng.integers(1, 27))))
    return graph.Softmax(
        dmax, int(rng.integers(1 << 14, 1 << 15)), max(0, dmax.bit_length() - 15), int(rng.integers(1, 31))
    )


def address(array):
    return array.ctypes.data


def compare(draw, minimum):
    """Calls draw(rng) -> (C outputs, op, sources) until it has compared N_VECTORS outputs, each seen to vary."""
    n, seed, varied = 0, 0, 0
    while n < N_VECTORS:
        got, op, sources = draw(np.random.default_rng(seed))
        expected = reference.run_op(op, [s[None].astype(np.int64) for s in sources])[0]
        assert np.array_equal(got, expected), f"seed {seed}: {op}"
        n, seed, varied = n + got.size, seed + 1, varied + (np.ptp(expected) > 2)
    assert varied >= minimum * seed


def test_linear(core):
    def draw(rng):
        t, k, n = int(rng.integers(1, 60)), int(rng.integers(1, 200)), int(rng.integers(1, 60))
        x, w, clamp = int8(rng, t, k), int8(rng, n, k, low=-127), int(rng.integers(0, 3))
        rows, y = requantize_rows(rng, n, 5000 * k**0.5), np.empty((t, n), dtype=np.int8)
        table, weights = packed_rows(rows), packed_weights(w)
        op = Conv1d(address(table), address(weights), t, k, t, n, 1, 1, 0, clamp)
        core.a8_linear_s8(byref(op), c_void_p(address(x)), c_void_p(address(y)))
        return y, graph.Linear(0, clamp, rows, w), [x]

    compare(draw, 0.7)


def test_conv1d(core):
    def draw(rng):
        kernel, c, n = int(rng.integers(1, 12)), int(rng.integers(1, 12)), int(rng.integers(1, 40))
        t, stride, clamp = int(rng.integers(1, 80)), int(rng.integers(1, 6)), int(rng.integers(0, 3))
        left, right = (int(v) for v in rng.integers(0, kernel, 2))
        t = max(t, kernel - left - right)
        n_out = (t + left + right - kernel) // stride + 1
        x, w = int8(rng, t, c), int8(rng, n, kernel * c, low=-127)
        rows, y = requantize_rows(rng, n, 5000 * (kernel * c) ** 0.5), np.empty((n_out, n), dtype=np.int8)
        table, weights = packed_rows(rows), packed_weights(w)
        op = Conv1d(address(table), address(weights), t, c, n_out, n, kernel, stride, left, clamp)
        core.a8_conv1d_s8(byref(op), c_void_p(address(x)), c_void_p(address(y)))
        return y, graph.Conv1d(0, clamp, stride, left, right, rows, w.reshape(n, kernel, c)), [x]

    compare(draw, 0.6)


def test_windowed_attention(core):
    def draw(rng):
        t, heads, size = int(rng.integers(1, 50)), int(rng.integers(1, 5)), int(rng.integers(1, 20))
        left, right = (int(v) for v in rng.integers(0, t, 2))
        d, spread = heads * size, 1 << int(rng.integers(0, 25))
        q, k, v, y = int8(rng, t, d), int8(rng, t, d, low=-127), int8(rng, t, d), np.empty((t, d), dtype=np.int8)
        bias = rng.integers(-spread, spread + 1, (heads, left + right + 1)).astype(np.int32)
        softmax, m, f = (
            softmax_fields(rng),
            int(rng.integers(1 << 14, 1 << 15)),
            int(rng.choice([14, 14, rng.integers(1, 23)])),
        )
        fields = AttentionFields(Softmax(softmax.dmax, softmax.dm, softmax.dpre, softmax.dsh), left, right, m, f, heads)
        scratch = np.empty(min(t, left + right + 1), dtype=np.int32)
        op = Attention(address(bias), address(scratch), ctypes.pointer(fields), t, d)
        core.a8_windowed_attention_s8(byref(op), *(c_void_p(address(a)) for a in (q, k, v, y)))
        return y, graph.WindowedAttention(0, 1, 2, heads, left, right, softmax, m, f, bias), [q, k, v]

    compare(draw, 0.7)


@pytest.mark.parametrize("kind", [0, 1])
def test_layer_norm(core, kind):
    def draw(rng):
        t, d = int(rng.integers(1, 60)), int(rng.integers(8, 257))
        x, y = int8(rng, t, d) >> int(rng.integers(0, 8)), np.empty((t, d), dtype=np.int8)
        eps, m = int(rng.integers(0, 1 << 29)) >> int(rng.integers(0, 30)), int(rng.integers(1 << 14, 1 << 15))
        shift = int(rng.integers(0, 16))
        op = NormFields(eps, m, shift, kind)
        core.a8_layer_norm_s8(byref(op), c_uint32(t), c_uint32(d), c_void_p(address(x)), c_void_p(address(y)))
        return y, graph.LayerNorm(0, kind, m, eps, shift), [x]

    compare(draw, 0.5)


def test_add(core):
    def draw(rng):
        a, b, y = int8(rng, 50, 40), int8(rng, 50, 40), np.empty((50, 40), dtype=np.int8)
        limit = 1 << int(rng.integers(10, 23))
        ma = int(rng.integers(0, limit + 1))
        mb = int(rng.integers(0, limit - ma + 1))
        core.a8_add_s8(byref(AddFields(ma, mb)), c_uint32(a.size), *(c_void_p(address(v)) for v in (a, b, y)))
        return y, graph.Add(0, 1, ma, mb), [a, b]

    compare(draw, 0.7)


def test_mean_pool(core):
    def draw(rng):
        t, d = int(rng.integers(1, 300)), int(rng.integers(1, 300))
        x, y, rows = int8(rng, t, d), np.empty((1, d), dtype=np.int8), requantize_rows(rng, 1, 70 * t**0.5)
        op = Requantize(*(int(v[0]) for v in (rows.bias, rows.multiplier, rows.pre, rows.post)))
        core.a8_mean_pool_s8(byref(op), c_uint32(t), c_uint32(d), c_void_p(address(x)), c_void_p(address(y)))
        return y, graph.MeanPool(0, rows), [x]

    compare(draw, 0.5)


def test_table(core):
    def draw(rng):
        table, x, y = int8(rng, 256), int8(rng, 50, 40), np.empty((50, 40), dtype=np.int8)
        core.a8_table_s8(c_void_p(address(table)), c_uint32(x.size), c_void_p(address(x)), c_void_p(address(y)))
        return y, graph.Table(0, table), [x]

    compare(draw, 0.9)


def test_requantize_s16(core):
    """The input of a window is a mean pool over one step that reads int16."""
    from attn8 import arithmetic

    n, seed = 0, 0
    while n < N_VECTORS:
        rng = np.random.default_rng(seed)
        t, c = int(rng.integers(1, 200)), int(rng.integers(1, 40))
        x = (rng.integers(-32768, 32768, (t, c)) >> int(rng.integers(0, 12))).astype(np.int16)
        rows, y = requantize_rows(rng, c, max(2, np.ptp(x))), np.empty((t, c), dtype=np.int8)
        table = packed_rows(rows)
        core.a8_requantize_s16(
            c_void_p(address(table)), c_uint32(t), c_uint32(c), c_void_p(address(x)), c_void_p(address(y))
        )
        assert np.array_equal(y, arithmetic.requantize_rows(x.astype(np.int64), rows)), seed
        n, seed = n + y.size, seed + 1
