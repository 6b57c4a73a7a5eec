"""linear and conv1d of the Cortex-M0+ equal their NumPy forms, stay in their buffers and within their budgets."""

import os
import struct

import numpy as np
import pytest
from m0plus import Core, counted_core, unicorn_core  # noqa: F401
from test_kernels import int8, packed_rows, packed_weights, requantize_rows

from attn8 import graph, reference

N_VECTORS = int(os.environ.get("ATTN8_M0PLUS_VECTORS", 25_000))


def run_linear(core, x, w, rows, clamp, offset=0):
    """Returns (y (T, N), cycles) of a8_linear_s8; weights and rows begin at 4*i + offset."""
    (t, k), n = x.shape, len(w)
    needed = core.product_scratch(t, k, 1)
    table, weights, source, room, y = core.place(
        packed_rows(rows), packed_weights(w), x, needed, t * n, offsets=(offset, offset, offset)
    )
    op = struct.pack("<11I", table, weights, t, k, t, n, 1, 1, 0, clamp, room)
    cycles = core.call("a8_linear_s8", op, source, y)
    return np.frombuffer(core.processor.read(y, t * n), np.int8).reshape(t, n), cycles


def run_conv1d(core, x, op, offset=0):
    """Returns (y, cycles) of a8_conv1d_s8 for a graph.Conv1d."""
    (t, c), (n, kernel, _) = x.shape, op.weights.shape
    n_out = (t + op.pad_left + op.pad_right - kernel) // op.stride + 1
    weights = packed_weights(op.weights.reshape(n, -1))
    needed = core.product_scratch(n_out, c, kernel)
    table, weights, source, room, y = core.place(
        packed_rows(op.requantize), weights, x, needed, n_out * n, offsets=(offset, offset, offset)
    )
    fields = (table, weights, t, c, n_out, n, kernel, op.stride, op.pad_left, op.clamp, room)
    cycles = core.call("a8_conv1d_s8", struct.pack("<11I", *fields), source, y)
    return np.frombuffer(core.processor.read(y, n_out * n), np.int8).reshape(n_out, n), cycles


def random_linear(rng, t, k, n):
    return int8(rng, t, k), int8(rng, n, k, low=-127), requantize_rows(rng, n, 5000 * k**0.5)


def random_conv1d(rng, n_channels, kernel):
    n, t, stride, clamp = (int(rng.integers(low, high)) for low, high in ((1, 30), (1, 90), (1, 6), (0, 3)))
    left, right = (int(v) for v in rng.integers(0, kernel, 2))
    t = max(t, kernel - left - right)
    w = int8(rng, n, kernel * n_channels, low=-127).reshape(n, kernel, n_channels)
    rows = requantize_rows(rng, n, 5000 * (kernel * n_channels) ** 0.5)
    return int8(rng, t, n_channels), graph.Conv1d(0, clamp, stride, left, right, rows, w)


def expected(op, x):
    return reference.run_op(op, [x[None].astype(np.int64)])[0]


def test_linear_equals_the_reference(unicorn_core):  # noqa: F811
    n, seed = 0, 0
    while n < N_VECTORS:
        rng = np.random.default_rng(seed)
        limits = [(5, 20, 60), (70, 80, 60), (80, 300, 20), (9, 1200, 9)]
        t, k, outputs = (int(rng.integers(1, limit)) for limit in rng.choice(limits))
        x, w, rows = random_linear(rng, t, k, outputs)
        clamp, offset = int(rng.integers(0, 3)), int(rng.choice([0, 0, 1, 2, 3]))
        y, _ = run_linear(unicorn_core, x, w, rows, clamp, offset)
        assert np.array_equal(y, expected(graph.Linear(0, clamp, rows, w), x)), (seed, t, k, outputs, clamp, offset)
        n, seed = n + y.size, seed + 1


def test_conv1d_equals_the_reference(unicorn_core):  # noqa: F811
    n, seed = 0, 0
    while n < N_VECTORS:
        rng = np.random.default_rng(seed)
        n_channels, kernel = (int(rng.integers(1, m)) for m in rng.choice([(12, 12), (40, 9), (300, 8)]))
        x, op = random_conv1d(rng, n_channels, kernel)
        offset = int(rng.choice([0, 0, 1, 2, 3]))
        y, _ = run_conv1d(unicorn_core, x, op, offset)
        assert np.array_equal(y, expected(op, x)), (seed, x.shape, op.weights.shape, offset)
        n, seed = n + y.size, seed + 1


@pytest.mark.parametrize("offset", [0, 3])
@pytest.mark.parametrize("t, k", [(1, 4097), (5, 5000), (1, 4096), (4, 1025), (4, 1024), (7, 1024)])
def test_wide_rows_equal_the_reference(unicorn_core, t, k, offset):  # noqa: F811
    rng = np.random.default_rng(k)
    x, w, rows = random_linear(rng, t, k, 5)
    y, _ = run_linear(unicorn_core, x, w, rows, 0, offset)
    assert np.array_equal(y, expected(graph.Linear(0, 0, rows, w), x))


# Cycles a MAC at T = 32, N = 48, everything included: the bar.
LINEAR_BUDGETS = {16: 4.4, 32: 3.6, 64: 3.2, 128: 3.0}
CONV1D_BUDGETS = {6: 3.5, 12: 3.1}  # by channels, 8 taps, stride 2
ASSEMBLY_STACK_BYTES = 36 + 204


def plain_rows(rng, n, k):
    """Rows that leave hardly any output saturated."""
    post = round(14.5 + np.log2(40 * k**0.5)) - 4
    bias, multiplier = rng.integers(-1000, 1000, n), rng.integers(1 << 14, 1 << 15, n)
    return graph.Requantize(bias, multiplier, np.full(n, 4), np.full(n, post))


def normal(rng, *shape):
    return rng.normal(0, 40, shape).clip(-127, 127).astype(np.int8)


@pytest.mark.parametrize("k", LINEAR_BUDGETS)
def test_linear_stays_within_its_cycles_a_mac(counted_core, k):  # noqa: F811
    rng = np.random.default_rng(k)
    x, w, rows = normal(rng, 32, k), normal(rng, 48, k), plain_rows(rng, 48, k)
    y, cycles = run_linear(counted_core, x, w, rows, 0)
    assert np.array_equal(y, expected(graph.Linear(0, 0, rows, w), x))
    assert cycles <= LINEAR_BUDGETS[k] * 32 * k * 48
    assert np.std(y.astype(float)) > 20


@pytest.mark.parametrize("n_channels", CONV1D_BUDGETS)
def test_conv1d_stays_within_its_cycles_a_mac(counted_core, n_channels):  # noqa: F811
    rng = np.random.default_rng(n_channels)
    k = 8 * n_channels
    op = graph.Conv1d(0, 0, 2, 3, 3, plain_rows(rng, 48, k), normal(rng, 48, 8, n_channels))
    x = normal(rng, 64, n_channels)
    y, cycles = run_conv1d(counted_core, x, op)
    assert np.array_equal(y, expected(op, x))
    assert cycles <= CONV1D_BUDGETS[n_channels] * 32 * k * 48


def test_a_token_stays_within_its_cycles_a_mac(counted_core):  # noqa: F811
    rng = np.random.default_rng(1)
    x, w, rows = normal(rng, 1, 64), normal(rng, 48, 64), plain_rows(rng, 48, 64)
    y, cycles = run_linear(counted_core, x, w, rows, 0)
    assert np.array_equal(y, expected(graph.Linear(0, 0, rows, w), x))
    assert cycles <= 6.2 * 64 * 48
    _, cycles = run_linear(counted_core, x, w, rows, 0, offset=1)
    assert cycles <= 9.8 * 64 * 48


def test_the_stack_of_the_assembly_is_known(counted_core):  # noqa: F811
    """The deepest way through a8_conv1d_s8 is that of the rows, with 56 bytes of C at -O2."""
    rng = np.random.default_rng(1)
    run_linear(counted_core, normal(rng, 8, 200), normal(rng, 3, 200), plain_rows(rng, 3, 200), 0, offset=1)
    assert ASSEMBLY_STACK_BYTES < counted_core.stack_bytes <= ASSEMBLY_STACK_BYTES + 56 + 8
