"""Attention of the Cortex-M0+ equals its NumPy form, stays in its buffers and is as fast as it was."""

import os
import struct

import numpy as np
import pytest
from m0plus import counted_core, unicorn_core  # noqa: F401
from test_kernels import int8

from attn8 import graph, reference

N_VECTORS = int(os.environ.get("ATTN8_M0PLUS_VECTORS", 15_000))


def fields(op):
    softmax = struct.pack("<iHBB", op.softmax.dmax, op.softmax.dm, op.softmax.dpre, op.softmax.dsh)
    return softmax + struct.pack("<HHHBBxx", op.left, op.right, op.multiplier, op.shift, op.heads)


def bias_bytes(op):
    return op.relative_bias.astype("<i4")


def run_window(core, op, q, k, v, offset=0, bias_offset=0):
    """Returns (y (T, D), cycles) of a8_windowed_attention_s8; q, k, v and y begin at 4*i + offset."""
    t, d = q.shape
    needed = core.attention_scratch(t, min(t, op.left + op.right + 1), d // op.heads)
    buffers = (fields(op), bias_bytes(op), q, k, v, needed, t * d)
    at = core.place(*buffers, offsets=(0, bias_offset, offset, offset, offset, 0, offset))
    arguments = struct.pack("<5I", at[1], at[5], at[0], t, d)
    cycles = core.call("a8_windowed_attention_s8", arguments, at[2], at[3], at[4], at[6])
    return np.frombuffer(core.processor.read(at[6], t * d), np.int8).reshape(t, d), cycles


def run_step(core, op, q, k, v, newest, n_keys, offset=0):
    """Returns (y (D,), cycles) of a8_attention_step_s8 on rings k, v (span, D)."""
    span, d = k.shape
    needed = core.attention_scratch(span, span, d // op.heads)
    at = core.place(fields(op), bias_bytes(op), q, k, v, needed, d, offsets=(0, 0, offset, offset, offset, 0, offset))
    arguments = struct.pack("<8I", at[1], at[5], at[0], d, span, newest, n_keys, 0)
    cycles = core.call("a8_attention_step_s8", arguments, at[2], at[3], at[4], at[6])
    return np.frombuffer(core.processor.read(at[6], d), np.int8), cycles


def random_softmax(rng):
    """Any legal numbers, or those that belong together as the quantizer chooses them."""
    if rng.random() < 0.5:
        dmax = int(rng.integers(1, 1 << int(rng.integers(1, 27))))
        dm, dsh = int(rng.integers(1 << 14, 1 << 15)), int(rng.integers(1, 31))
        return graph.Softmax(dmax, dm, max(0, dmax.bit_length() - 15), dsh)
    dm, e = int(rng.integers(1 << 14, 1 << 15)), int(rng.integers(8, 30))
    dmax = min(256 * (1 << e) // dm + 1, (1 << 26) - 1)
    dpre = max(0, dmax.bit_length() - 15)
    return graph.Softmax(dmax, dm, dpre, min(max(e - dpre, 1), 30))


def random_op(rng, heads, left, right):
    spread = 1 << int(rng.integers(0, 25))
    bias = rng.integers(-spread, spread + 1, (heads, left + right + 1)).astype(np.int32)
    m, f = int(rng.integers(1 << 14, 1 << 15)), int(rng.choice([14, 14, 15, rng.integers(1, 23)]))
    return graph.WindowedAttention(0, 1, 2, heads, left, right, random_softmax(rng), m, f, bias)


def random_tokens(rng, *shape):
    return int8(rng, *shape), int8(rng, *shape, low=-127), int8(rng, *shape)


def expected(op, *sources):
    return reference.run_op(op, [s[None].astype(np.int64) for s in sources])[0]


def expected_step(op, q, k, v, newest, n_keys):
    """Returns the last row of the window of the n_keys tokens of rings k, v (span, D) up to the newest."""
    order = [(newest - n_keys + 1 + i) % len(k) for i in range(n_keys)]
    queries = np.zeros((n_keys, q.size), np.int8)
    queries[-1] = q
    bias = op.relative_bias[:, len(k) - n_keys :]
    short = graph.WindowedAttention(**{**vars(op), "left": n_keys - 1, "relative_bias": bias})
    return expected(short, queries, k[order], v[order])[-1]


def test_windowed_attention_equals_the_reference(unicorn_core):  # noqa: F811
    n, seed, varied = 0, 0, 0
    while n < N_VECTORS:
        rng = np.random.default_rng(seed)
        t, heads, size = int(rng.integers(1, 50)), int(rng.integers(1, 4)), int(rng.integers(1, 24))
        left, right = (int(v) for v in rng.integers(0, min(t, int(rng.choice([8, 64]))), 2))
        op, (q, k, v) = random_op(rng, heads, left, right), random_tokens(rng, t, heads * size)
        offsets = int(rng.choice([0, 0, 1, 2, 3])), int(rng.choice([0, 0, 1, 2]))
        y, _ = run_window(unicorn_core, op, q, k, v, *offsets)
        e = expected(op, q, k, v)
        assert np.array_equal(y, e), (seed, t, heads, size, op, offsets)
        n, seed, varied = n + y.size, seed + 1, varied + (len(np.unique(e)) > 2)
    assert varied > 0.6 * seed


@pytest.mark.parametrize("offset", [0, 1])
@pytest.mark.parametrize(
    "t, size, left, right",
    [
        *((130, 8, 129, 129), (150, 8, 149, 0), (70, 16, 69, 0), (90, 16, 20, 21)),
        *((33, 33, 8, 8), (12, 256, 11, 0), (4, 256, 1, 1)),
    ],
)
def test_windows_larger_than_a_tile_equal_the_reference(unicorn_core, t, size, left, right, offset):  # noqa: F811
    rng = np.random.default_rng(t)
    op, (q, k, v) = random_op(rng, 1, left, right), random_tokens(rng, t, size)
    y, _ = run_window(unicorn_core, op, q, k, v, offset)
    assert np.array_equal(y, expected(op, q, k, v))


def test_a_step_of_a_stream_equals_the_last_row_of_a_window(unicorn_core):  # noqa: F811
    n, seed = 0, 0
    while n < N_VECTORS // 10:
        rng = np.random.default_rng(seed)
        span, heads = int(rng.integers(1, 80)), int(rng.integers(1, 4))
        size = int(rng.choice([4 * rng.integers(1, 14), rng.integers(1, 40)]))
        op, (_, k, v) = random_op(rng, heads, span - 1, 0), random_tokens(rng, span, heads * size)
        q, n_keys = int8(rng, heads * size), int(rng.choice([span, rng.integers(1, span + 1)]))
        newest = int(rng.integers(0, span)) if n_keys == span else n_keys - 1
        y, _ = run_step(unicorn_core, op, q, k, v, newest, n_keys, int(rng.choice([0, 0, 0, 1])))
        assert np.array_equal(y, expected_step(op, q, k, v, newest, n_keys)), (seed, span, newest, n_keys, op)
        n, seed = n + y.size, seed + 1


def model_op(heads, left, right):
    """Numbers as in a trained model: weights spread over many keys."""
    bias = np.random.default_rng(0).integers(-300, 300, (heads, left + right + 1)).astype(np.int32)
    return graph.WindowedAttention(0, 1, 2, heads, left, right, graph.Softmax(4733, 28360, 0, 19), 20649, 14, bias)


def model_tokens(*shape):
    q, k, v = np.random.default_rng(1).integers(-127, 128, (3, *shape)).astype(np.int8)
    return q >> 3, k, v


@pytest.mark.parametrize(
    "t, d, left, right, cycles_per_mac",
    [(32, 32, 31, 31, 5.6), (32, 32, 15, 0, 8.5), (64, 64, 63, 0, 4.6), (64, 64, 15, 0, 6.3)],
)
def test_a_window_costs_no_more_cycles_than_it_did(counted_core, t, d, left, right, cycles_per_mac):  # noqa: F811
    op, sources = model_op(4, left, right), model_tokens(t, d)
    y, cycles = run_window(counted_core, op, *sources)
    n_keys = sum(min(t, i + right + 1) - max(0, i - left) for i in range(t))
    assert np.array_equal(y, expected(op, *sources))
    assert cycles <= cycles_per_mac * 2 * n_keys * d


@pytest.mark.parametrize("d, span, cycles_per_mac", [(32, 16, 10.2), (64, 64, 6.1)])
def test_a_step_costs_no_more_cycles_than_it_did(counted_core, d, span, cycles_per_mac):  # noqa: F811
    q, k, v = model_tokens(span, d)
    _, cycles = run_step(counted_core, model_op(4, span - 1, 0), q[0], k, v, span // 3, span)
    assert cycles <= cycles_per_mac * 2 * span * d


def test_attention_stays_within_its_stack(counted_core):  # noqa: F811
    run_window(counted_core, model_op(4, 15, 0), *model_tokens(32, 32))
    assert counted_core.stack_bytes <= 280
