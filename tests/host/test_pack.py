"""Packing: every field comes back, the bytes repeat, the size is bounded, names that do not fit are refused."""

import dataclasses
import hashlib
import os
import re

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import models
from attn8 import graph, pack, reference
from attn8.errors import PackError

FEW = settings(max_examples=40, deadline=None)
GRAPH = models.build_graph(models.Shape(norm="rms", activation="gelu"), 3)


def changed(**fields):
    return graph.QuantGraph(**{**vars(GRAPH), **fields})


def same(a, b):
    """Compares what was given with what was read: dataclasses field by field, arrays by value."""
    if dataclasses.is_dataclass(a):
        assert type(a) is type(b)
        for f in dataclasses.fields(a):
            if f.name != "scales":
                same(getattr(a, f.name), getattr(b, f.name))
    elif isinstance(a, list) and a and dataclasses.is_dataclass(a[0]):
        assert len(a) == len(b)
        for x, y in zip(a, b, strict=True):
            same(x, y)
    else:
        assert np.array_equal(np.asarray(a), np.asarray(b)), (a, b)


@FEW
@given(models.shapes(), st.integers(0, 1000))
def test_a_packed_graph_reads_back_field_by_field(shape, seed):
    assume(models.fits(shape))
    built = models.build_graph(shape, seed)
    data = pack.pack(built)
    same(built, reference.parse(data).graph)
    assert pack.pack(built) == data == pack.pack(reference.parse(data).graph)


@FEW
@given(models.shapes(), st.integers(0, 1000))
def test_a_file_is_at_most_a_kilobyte_larger_than_its_numbers(shape, seed):
    assume(models.fits(shape))
    data = pack.pack(models.build_graph(shape, seed))
    assert len(data) <= numbers_bytes(reference.parse(data).graph) + 1024


def numbers_bytes(g):
    """Weights with padded rows, 8 bytes an output channel, 4 an entry of the relative bias, 256 a table."""
    total = 0
    for op in g.ops:
        if isinstance(op, graph.Linear | graph.Conv1d):
            n, k = len(op.weights), op.weights[0].size
            total += n * (-(-k // 4) * 4 + 8)
        elif isinstance(op, graph.WindowedAttention):
            total += 4 * op.relative_bias.size
        elif isinstance(op, graph.Table):
            total += 256
    return total


def test_a_model_of_the_size_of_the_demo_stays_inside_the_bound():
    shape = models.Shape(
        n_steps=128, n_channels=6, kernel=16, stride=4, pad_left=6, pad_right=6, heads=4, head_size=8, left=31,
        right=31, ff=64, layers=2, n_outputs=7,
    )  # fmt: skip
    built = models.build_graph(shape)
    built.golden.vectors = [(i + 1, i, 1) for i in range(8)]
    data = pack.pack(built)
    assert numbers_bytes(built) == 32 * 96 + 2 * (4 * 32 * 32 + 2 * 32 * 64 + 4 * 4 * 63) + 7 * 32 + 8 * (
        32 + 2 * (5 * 32 + 64) + 7
    )
    assert len(data) <= numbers_bytes(built) + 1024


def test_the_id_is_the_beginning_of_sha256_over_the_records():
    data = pack.pack(GRAPH)
    assert data[16:24] == hashlib.sha256(data[24:]).digest()[:8]
    assert reference.parse(data).id == data[16:24].hex()
    assert pack.pack(changed(version="2"))[16:24] != data[16:24]


def test_a_packed_file_passes_its_own_selftest():
    reference.Reference(pack.pack(GRAPH)).selftest()


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"name": "x" * 33}, "model.name: got 'xxx"),
        ({"name": ""}, "model.name: got '', expected 1..32 bytes"),
        ({"name": "ü" * 17}, "expected 1..32 bytes of printable UTF-8; rename it"),
        ({"name": "two\nlines"}, r"got 'two\nlines'"),
        ({"version": "1" * 33}, "model.version: got"),
        ({"labels": ["a", "", "c"]}, "label: got '', expected 1..32 bytes"),
        ({"labels": ["a", "b" * 33, "c"]}, "label: got 'bbb"),
        ({"channels": ["x", "y", "z" * 40]}, "channel name: got 'zzz"),
        ({"units": ["g", "g", "u" * 17]}, "unit: got 'uuu"),
        ({"hop": 0}, "TASK.hop: got 0, expected 1..1048576"),
        ({"n_steps": 40000}, "INPUT.n_steps: got 40000, expected 1..32767"),
        ({"thresholds": np.array([0, 101, 0])}, "(TASK)"),
        ({"sample_rate_hz": -1.0}, "(NUMBER)"),
        ({"ops": GRAPH.ops[:-1]}, "(SHAPE); expected the limits of models/FORMAT.md"),
        ({"ops": []}, "(COUNT)"),
    ],
)
def test_what_does_not_fit_is_refused_with_what_and_expected(fields, text):
    with pytest.raises(PackError, match=re.escape(text)):
        pack.pack(changed(**fields))


def test_the_longest_names_fit():
    data = pack.pack(changed(name="n" * 32, version="", labels=["ä" * 16] * 3, units=["u" * 16, "", "g"]))
    g = reference.parse(data).graph
    assert (g.name, g.version, g.labels[0], g.units) == ("n" * 32, "", "ä" * 16, ["u" * 16, "", "g"])


def test_a_failed_save_keeps_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "made" / "model.a8"
    pack.save(b"old", path)

    def fail(*_):
        raise OSError("the disk is full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="full"):
        pack.save(b"new", path)
    assert path.read_bytes() == b"old" and list(path.parent.iterdir()) == [path]
    monkeypatch.undo()
    pack.save(b"new", path)
    assert path.read_bytes() == b"new" and list(path.parent.iterdir()) == [path]
