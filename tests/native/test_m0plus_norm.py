"""Layer norm, add, table, mean pool and input of the Cortex-M0+ equal their NumPy forms, as fast as they were."""

import os
import struct

import numpy as np
import pytest
from m0plus import counted_core, unicorn_core  # noqa: F401
from test_kernels import int8, packed_rows, requantize_rows

from attn8 import arithmetic, graph, reference

N_VECTORS = int(os.environ.get("ATTN8_M0PLUS_VECTORS", 25_000))


def call(core, name, op, numbers, *sources, shape, offsets=()):
    """Calls name(op, *numbers, *sources, y) with arrays at 4*i + offset. Returns (y, cycles)."""
    size = int(np.prod(shape))
    at = core.place(op, *sources, size, offsets=offsets)
    cycles = core.call(name, at[0], *numbers, *at[1:])
    return np.frombuffer(core.processor.read(at[-1], size), np.int8).reshape(shape), cycles


def norm(core, op, x, offsets=()):
    packed = struct.pack("<iHBB", op.epsilon, op.multiplier, op.shift, op.kind)
    return call(core, "a8_layer_norm_s8", packed, x.shape, x, shape=x.shape, offsets=(0, *offsets))


def add(core, op, a, b, offsets=()):
    packed = struct.pack("<ii", op.multiplier_a, op.multiplier_b)
    return call(core, "a8_add_s8", packed, (a.size,), a, b, shape=a.shape, offsets=(0, *offsets))


def table(core, entries, x, offsets=()):
    return call(core, "a8_table_s8", entries, (x.size,), x, shape=x.shape, offsets=offsets)


def convert(core, rows, x, offsets=()):
    return call(core, "a8_requantize_s16", packed_rows(rows), x.shape, x, shape=x.shape, offsets=offsets)


def mean_pool(core, rows, x, offsets=()):
    packed = packed_rows(rows).tobytes()
    return call(core, "a8_mean_pool_s8", packed, x.shape, x, shape=(1, x.shape[1]), offsets=(0, *offsets))


def each_seed(draw):
    """Calls draw(rng, offsets) -> (got, expected) until N_VECTORS outputs are compared."""
    n, seed = 0, 0
    while n < N_VECTORS:
        rng = np.random.default_rng(seed)
        got, expected = draw(rng, tuple(int(v) for v in rng.integers(0, 4, 3)))
        assert np.array_equal(got, expected), seed
        n, seed = n + got.size, seed + 1


def expected(op, *sources):
    return reference.run_op(op, [s[None].astype(np.int64) for s in sources])[0]


@pytest.mark.parametrize("kind", [0, 1])
def test_layer_norm_equals_the_reference(unicorn_core, kind):  # noqa: F811
    def draw(rng, offsets):
        t, d = int(rng.integers(1, 30)), int(rng.integers(8, rng.choice([24, 257])))
        x, eps = int8(rng, t, d) >> int(rng.integers(0, 8)), int(rng.integers(0, 1 << 29)) >> int(rng.integers(0, 30))
        op = graph.LayerNorm(0, kind, int(rng.integers(1 << 14, 1 << 15)), eps, int(rng.integers(0, 16)))
        return norm(unicorn_core, op, x, offsets[:2])[0], expected(op, x)

    each_seed(draw)


def test_add_equals_the_reference(unicorn_core):  # noqa: F811
    def draw(rng, offsets):
        n, limit = int(rng.integers(1, 2000)), 1 << int(rng.integers(10, 23))
        ma = int(rng.integers(0, limit + 1))
        a, b, op = int8(rng, 1, n), int8(rng, 1, n), graph.Add(0, 1, ma, int(rng.integers(0, limit - ma + 1)))
        return add(unicorn_core, op, a, b, offsets)[0], expected(op, a, b)

    each_seed(draw)


def test_table_equals_the_reference(unicorn_core):  # noqa: F811
    def draw(rng, offsets):
        entries, x = int8(rng, 256), int8(rng, int(rng.integers(1, 2000)))
        return table(unicorn_core, entries, x, offsets)[0], entries[x.astype(int) + 128]

    each_seed(draw)


def test_input_equals_the_reference(unicorn_core):  # noqa: F811
    def draw(rng, offsets):
        t, c = int(rng.integers(1, 200)), int(rng.integers(1, 40))
        x = (rng.integers(-32768, 32768, (t, c)) >> int(rng.integers(0, 12))).astype("<i2")
        rows = requantize_rows(rng, c, max(2, np.ptp(x.astype(int))))
        return convert(unicorn_core, rows, x, offsets)[0], arithmetic.requantize_rows(x.astype(np.int64), rows)

    each_seed(draw)


def test_mean_pool_equals_the_reference(unicorn_core):  # noqa: F811
    def draw(rng, offsets):
        t, d = int(rng.integers(1, 300)), int(rng.choice([4 * rng.integers(1, 60), rng.integers(1, 240)]))
        x, rows = int8(rng, t, d), requantize_rows(rng, 1, 70 * t**0.5)
        y, _ = mean_pool(unicorn_core, rows, x, offsets[:2] if rng.random() < 0.5 else ())
        return y, expected(graph.MeanPool(0, rows), x)

    each_seed(draw)


@pytest.mark.parametrize("d, cycles", [(32, 1600), (64, 2800)])
def test_layer_norm_costs_no_more_cycles_than_the_bar(counted_core, d, cycles):  # noqa: F811
    x = np.random.default_rng(0).integers(-100, 100, (8, d)).astype(np.int8)
    assert norm(counted_core, graph.LayerNorm(0, 0, 20000, 1000, 14), x)[1] <= 8 * cycles


def test_elements_cost_no_more_cycles_than_the_bar(counted_core):  # noqa: F811
    rng = np.random.default_rng(0)
    x = rng.integers(-60, 60, (32, 32)).astype(np.int8)
    counts = rng.integers(-3000, 3000, (128, 6)).astype("<i2")
    rows = graph.Requantize(*(np.full(6, v) for v in (10, 20000, 2, 20)))
    one_row = graph.Requantize(*(np.full(1, v) for v in (10, 20000, 2, 20)))
    assert add(counted_core, graph.Add(0, 1, 20000, 12000), x, x)[1] <= 16.5 * x.size
    assert table(counted_core, int8(rng, 256), x)[1] <= 7.6 * x.size
    assert convert(counted_core, rows, counts)[1] <= 21 * counts.size
    assert mean_pool(counted_core, one_row, x)[1] <= 10.5 * x.size
