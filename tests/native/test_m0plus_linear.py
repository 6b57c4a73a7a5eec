"""linear and conv1d of the Cortex-M0+ equal their NumPy forms, stay in their buffers and within their budgets."""

import os
import struct

import numpy as np
import pytest

from attn8 import arena, graph, reference
from m0plus import Core, counted_core, unicorn_core  # noqa: F401
from test_kernels import int8, packed_rows, packed_weights, requantize_rows

N_VECTORS = int(os.environ.get("ATTN8_M0PLUS_VECTORS", 100_000))


def run_linear(core, x, w, rows, clamp, offset=0):
    """Returns (y (T, N), cycles) of a8_linear_s8; weights and rows begin at 4*i + offset."""
    (t, k), n = x.shape, len(w)
    needed = arena.product_scratch_bytes(t, k, 1)
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
    needed = arena.product_scratch_bytes(n_out, c, kernel)
    table, weights, source, room, y = core.place(
        packed_rows(op.requantize), weights, x, needed, n_out * n, offsets=(offset, offset, offset)
    )
    fields = (table, weights, t, c, n_out, n, kernel, op.stride, op.pad_left, op.clamp, room)
    cycles = core.call("a8_conv1d_s8", struct.pack("<11I", *fields), source, y)
    return np.frombuffer(core.processor.read(y, n_out * n), np.int8).reshape(n_out, n), cycles


def random_linear(rng, t, k, n):
    return int8(rng, t, k), int8(rng, n, k, low=-127), requantize_rows(rng, n, 5000 * k**0.5)


def random_conv1d(rng, n_channels, kernel):
    n, t, stride, clamp = (int(v) for v in (rng.integers(1, 30), rng.integers(1, 90), rng.integers(1, 6), rng.integers(0, 3)))
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
        t, k, outputs = (int(rng.integers(1, m)) for m in rng.choice([(5, 20, 60), (70, 80, 60), (80, 300, 20), (9, 1200, 9)]))
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
