"""Kernels of RV32IMC equal their NumPy forms, stay in their buffers and within their instructions."""

import os

import numpy as np
import pytest
from counted import (
    RANDOM,
    Core,
    attention_count,
    check_model,
    check_padding,
    check_random,
    conv1d_count,
    linear_count,
    stack_bytes,
    watch_memory,
)

from models import random_model

N_OUTPUTS = int(os.environ.get("ATTN8_COUNTED_VECTORS", 20_000))
BUILDS = [("rv32", flag) for flag in ("-O2", "-O0", "-Os", "-O3")]

# Instructions a MAC, everything included, with -O2 and -Os: linear by K at T = 32 and N = 48, conv1d by K at stride 2,
# one token at K = 64, attention by head size over 16 keys (window, step), softmax included.
LINEAR = {16: 4.3, 32: 3.4, 64: 2.95, 128: 2.75}
CONV1D = {48: 3.2, 96: 2.85}
TOKEN = 4.45
ATTENTION = {8: (7.7, 7.7), 16: (6.4, 6.3)}


@pytest.fixture(scope="module", params=["-O2", "-Os"])
def core(request):
    return Core("rv32", request.param)


@pytest.fixture(scope="module")
def portable():
    return Core("rv32", "-O2", "-DA8_PORTABLE")


@pytest.mark.parametrize("kernel", RANDOM)
@pytest.mark.parametrize("build", BUILDS, ids=" ".join)
def test_kernels_equal_the_reference_in_every_build(build, kernel):
    check_random(Core(*build), kernel, N_OUTPUTS)


@pytest.mark.parametrize("seed", range(6))
def test_models_give_their_golden_outputs_in_the_planned_arena(core, seed):
    check_model(core, random_model(seed))


def test_padding_of_rows_changes_nothing(core, monkeypatch):
    check_padding(core, monkeypatch)


@pytest.mark.parametrize("k", LINEAR)
def test_linear_stays_within_its_instructions(core, portable, k):
    count = linear_count(core, 32, k)
    assert 0.9 * LINEAR[k] < count <= LINEAR[k], "fewer: lower the budget"
    assert linear_count(portable, 32, k) > 2 * count


@pytest.mark.parametrize("k", CONV1D)
def test_conv1d_stays_within_its_instructions(core, portable, k):
    count = conv1d_count(core, k // 8)
    assert 0.9 * CONV1D[k] < count <= CONV1D[k], "fewer: lower the budget"
    assert conv1d_count(portable, k // 8) > 2.3 * count


def test_a_token_stays_within_its_instructions(core, portable):
    count = linear_count(core, 1, 64)
    assert 0.9 * TOKEN < count <= TOKEN, "fewer: lower the budget"
    assert linear_count(portable, 1, 64) > 1.7 * count
    assert linear_count(core, 1, 64, offset=3) < 1.15 * count


@pytest.mark.parametrize("head_size", ATTENTION)
def test_attention_stays_within_its_instructions(core, head_size):
    counts = attention_count(core, head_size)
    assert all(0.85 * b < count <= b for b, count in zip(ATTENTION[head_size], counts, strict=True)), counts


@pytest.mark.parametrize("kernel", RANDOM)
def test_no_load_and_no_store_is_unaligned(kernel):
    """Some of these processors trap."""
    core, n = Core("rv32", "-O2"), 0

    def check(address, size, _):
        nonlocal n
        n += 1
        assert address % size == 0

    watch_memory(core, check)
    for seed in range(6):
        RANDOM[kernel](core, np.random.default_rng(seed))
    assert n > 10_000


def test_worst_case_stack_of_a_run_is_at_most_512_bytes(tmp_path):
    depth = stack_bytes("rv32", tmp_path, "-Os")
    assert depth["a8_linear_s8"] <= 300
    assert depth["a8_run"] <= depth["a8_selftest"] <= 512
