"""The figures of profile.py against sums and counts made another way."""

import io
import json
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import models
from attn8 import graph, profile, reference, spec

SEEDS = st.integers(0, 10_000)
FEW = settings(max_examples=25, deadline=None)


def brute_force_macs(op, sources, shape):
    """Counts multiplications one by one, as the loops of a kernel make them."""
    if isinstance(op, graph.Linear | graph.Conv1d):
        return sum(1 for _ in range(shape[0]) for row in op.weights for _ in row.ravel())
    if isinstance(op, graph.WindowedAttention):
        seen = [abs(j - i) <= (op.left if j < i else op.right) for i in range(shape[0]) for j in range(shape[0])]
        return 2 * sum(seen) * shape[1]
    return 0


@FEW
@given(SEEDS)
def test_account_covers_every_byte_of_the_file(seed):
    data = models.random_model(seed)
    lines = profile.account(data)
    assert sum(n for _, n in lines) == len(data)
    assert all(n >= 0 for _, n in lines)


def test_account_finds_the_records_where_the_bytes_say():
    data = models.random_model(1, activation="gelu")
    lines, at = dict(profile.account(data)), 24
    for name in ("META", "INPUT", "TASK"):
        n = 8 + int.from_bytes(data[at + 4 : at + 8], "little")
        assert lines[f"{name} record"] == n
        at += n
    tables = sum(isinstance(op, graph.Table) for op in reference.parse(data).graph.ops)
    assert tables and lines["activation tables, 256 each"] == 256 * tables


def test_account_counts_optional_records():
    data = bytearray(models.random_model(2)) + struct.pack("<HHII", 200, spec.FLAG_OPTIONAL, 4, 0)
    data[8:12] = len(data).to_bytes(4, "little")
    data[12:16] = zlib.crc32(data[16:], zlib.crc32(data[:12])).to_bytes(4, "little")
    lines = profile.account(bytes(data))
    assert dict(lines)["optional records"] == 12
    assert sum(n for _, n in lines) == len(data)


@FEW
@given(SEEDS)
def test_budget_is_the_sum_of_its_parts(seed):
    data = models.random_model(seed)
    ops = reference.parse(data).graph.ops
    linear = [op for op in ops if isinstance(op, graph.Linear | graph.Conv1d)]
    weights = sum(-(-row.size // 4) * 4 for op in linear for row in op.weights)
    channels = sum(len(op.weights) for op in linear)
    biases = sum(op.relative_bias.size for op in ops if isinstance(op, graph.WindowedAttention))
    tables = sum(isinstance(op, graph.Table) for op in ops)
    expected = weights + 8 * channels + 4 * biases + 256 * tables + 1024
    assert profile.budget_bytes(profile.account(data)) == expected
    assert profile.parameters(data) == sum(op.weights.size for op in linear) + channels + biases


@FEW
@given(SEEDS)
def test_macs_equal_a_brute_force_count(seed):
    data = models.random_model(seed)
    model = reference.parse(data)
    total, per_op = profile.macs(data)
    for op, shape, n in zip(model.graph.ops, model.shapes[1:], per_op, strict=True):
        assert n == brute_force_macs(op, reference.op_sources(op), shape)
    assert total == sum(per_op) <= model.macs


def test_attention_macs_of_a_window_cut_at_both_ends():
    # 5 tokens, 2 keys before and 1 after: 2 + 3 + 4 + 4 + 3 pairs, D = 4, scores and values
    op = graph.WindowedAttention(0, 0, 0, 1, 2, 1, None, 0, 0, np.zeros((1, 4)))
    assert profile._op_macs(op, (5, 4)) == 2 * 4 * 16


@FEW
@given(SEEDS)
def test_arena_holds_what_lives_at_once(seed):
    arena_bytes, live_bytes = profile.arena(models.random_model(seed))
    assert 0 < live_bytes <= arena_bytes


@pytest.mark.parametrize("norm", models.NORMS)
@pytest.mark.parametrize("span", [(31, 31), (15, 0), (4, 4)])
def test_arena_lies_within_a_tenth_of_what_lives_at_once(norm, span):
    shape = {
        "n_steps": 128,
        "n_channels": 6,
        "kernel": 16,
        "stride": 4,
        "heads": 4,
        "head_size": 8,
        "ff": 64,
        "layers": 2,
    }
    left, right = span
    data = models.build_model(models.Shape(**shape, left=left, right=right, norm=norm))
    arena_bytes, live_bytes = profile.arena(data)
    assert arena_bytes <= 1.1 * live_bytes


def test_info_has_the_promised_keys_and_is_json():
    data = models.random_model(4)
    info = json.loads(json.dumps(profile.info(data)))
    keys = {"input_shape", "n_outputs", "labels", "parameters", "macs", "model_bytes", "arena_bytes"}
    assert keys <= set(info)
    assert info["model_bytes"] == len(data) == sum(line["bytes"] for line in info["account"])
    assert info["input_shape"] == list(reference.parse(data).shapes[0])
    assert info["macs"] == sum(op["macs"] for op in info["ops"])
    assert len(info["labels"]) == info["n_outputs"]


def test_info_of_a_damaged_file_is_a_model_error():
    from attn8 import ModelError

    data = bytearray(models.random_model(5))
    data[40] ^= 1
    with pytest.raises(ModelError, match="CRC"):
        profile.info(bytes(data))


def test_render_info_shows_file_size_budget_and_every_op():
    from rich.console import Console

    info = profile.info(models.random_model(6))
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(profile.render_info(info))
    text = console.export_text()
    assert f"{info['model_bytes']:,}" in text and f"{info['budget_bytes']:,}" in text
    assert all(op["name"] in text for op in info["ops"])


def test_latency_is_cycles_over_clock():
    assert profile.latency_ms(12_500_000, 125_000_000) == 100
