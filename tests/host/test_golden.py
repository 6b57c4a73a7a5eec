"""Golden vectors: legal seeds that reach every class the search can find."""

import numpy as np
import pytest

import models
from attn8 import arithmetic, golden, reference, spec
from attn8.pack import pack


def chosen(shape, seed, n_vectors=4, offset=0.0, reach=3000.0):
    built = models.build_graph(shape, seed)
    c = shape.n_channels
    built.golden = golden.choose_golden(built, np.full(c, offset), np.full(c, reach), n_vectors)
    return built


@pytest.mark.parametrize("seed", range(6))
def test_every_class_that_the_search_finds_has_a_vector(seed):
    built = chosen(models.Shape(n_outputs=6), seed)
    g = built.golden
    inputs = [arithmetic.golden_input(g, c, built.n_steps, np.int16) for c in golden._candidates(built.n_steps)]
    model = reference.Reference(pack(built))
    reachable = set(model.run(np.stack(inputs)).argmax(1).tolist())
    assert set(model.model.golden_outputs.argmax(1).tolist()) == reachable
    model.selftest()


def test_vectors_are_different_and_as_many_as_asked_or_as_classes():
    for n_vectors, n_outputs, expected in [(4, 3, 4), (9, 3, 9), (4, 8, 8)]:
        g = chosen(models.Shape(n_outputs=n_outputs), 0, n_vectors).golden
        assert len(g.vectors) == len(set(g.vectors)) == expected


@pytest.mark.parametrize(
    ("offset", "reach", "low", "n_values"),
    [
        (0.0, 100.0, -100, 201),
        (5000.0, 1000.0, 4000, 2001),
        (0.0, 32767.0, -8192, 16384),
        (32767.0, 10.0, 32757, 11),
        (-32768.0, 1.0, -32768, 2),
    ],
)
def test_values_lie_around_the_middle_of_the_channel(offset, reach, low, n_values):
    g = chosen(models.Shape(), 0, 4, offset, reach).golden
    assert np.abs(g.low - low).max() <= 1 + n_values // 2 * (abs(offset) > 32000)
    assert (g.n_values == n_values).all()
    assert (g.low >= -32768).all() and (g.low + g.n_values - 1 <= 32767).all()


def test_candidates_hold_their_values_for_legal_times():
    for n_steps in (1, 2, 9, 128, 32767):
        for x, y, hold in golden._candidates(n_steps):
            assert (x or y) and 0 <= x <= 65535 and 0 <= y <= 65535
            assert 1 <= hold <= max(2, n_steps) <= spec.LIMIT["MAX_STEPS"] + 1
