"""Kernels of Cortex-M4, M33 and RV32IMC equal their NumPy forms and stay in their buffers and their instructions."""

import os
from dataclasses import dataclass

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


@dataclass(frozen=True)
class Target:
    """Builds, and instructions a MAC, everything included, of the counted ones: linear by K at T = 32, N = 48, conv1d
    by K at stride 2, one token at K = 64, attention by head size over 16 keys (window, step), softmax included."""

    builds: tuple
    counted: tuple
    linear: dict
    conv1d: dict
    token: float
    attention: dict
    gains: tuple  # linear, conv1d and a token: so many times fewer than the portable kernels
    unaligned: float  # a token's count where nothing is a multiple of 4, at most so many times that

    @property
    def portable(self):
        return (self.counted[0][0], "-O2", "-DA8_PORTABLE")


TARGETS = {
    "armdsp": Target(
        (("m33", "-O2"), ("m33", "-O0"), ("m4", "-Os"), ("m4", "-O3")),
        (("m33", "-O2"), ("m4", "-Os")),
        {16: 2.15, 32: 1.55, 64: 1.25, 128: 1.1},
        {48: 1.45, 96: 1.2},
        2.05,
        {8: (5.6, 5.5), 16: (4.5, 4.4)},
        (3, 3, 2.5),
        1,
    ),
    "rv32": Target(
        tuple(("rv32", flag) for flag in ("-O2", "-O0", "-Os", "-O3")),
        (("rv32", "-O2"), ("rv32", "-Os")),
        {16: 4.3, 32: 3.4, 64: 2.95, 128: 2.75},
        {48: 3.2, 96: 2.85},
        4.45,
        {8: (7.7, 7.7), 16: (6.4, 6.3)},
        (2, 2.3, 1.7),
        1.15,
    ),
}
COUNTED = [(name, build) for name, target in TARGETS.items() for build in target.counted]
BUILDS = [build for target in TARGETS.values() for build in target.builds]


@pytest.fixture(scope="module", params=COUNTED, ids=lambda p: " ".join(p[1]))
def core(request):
    name, build = request.param
    made = Core(*build)
    made.target, made.portable = TARGETS[name], Core(*TARGETS[name].portable)
    return made


def near(count, budget, slack=0.9):
    """Says whether a count stays within its budget, and near it: a faster kernel lowers the budget."""
    return slack * budget < count <= budget


@pytest.mark.parametrize("kernel", RANDOM)
@pytest.mark.parametrize("build", BUILDS, ids=" ".join)
def test_kernels_equal_the_reference_in_every_build(build, kernel):
    check_random(Core(*build), kernel, N_OUTPUTS)


@pytest.mark.parametrize("seed", range(6))
def test_models_give_their_golden_outputs_in_the_planned_arena(core, seed):
    check_model(core, random_model(seed))


def test_padding_of_rows_changes_nothing(core, monkeypatch):
    check_padding(core, monkeypatch)


@pytest.mark.parametrize("k", [16, 32, 64, 128])
def test_linear_stays_within_its_instructions(core, k):
    count = linear_count(core, 32, k)
    assert near(count, core.target.linear[k]), count
    assert linear_count(core.portable, 32, k) > core.target.gains[0] * count


@pytest.mark.parametrize("k", [48, 96])
def test_conv1d_stays_within_its_instructions(core, k):
    count = conv1d_count(core, k // 8)
    assert near(count, core.target.conv1d[k]), count
    assert conv1d_count(core.portable, k // 8) > core.target.gains[1] * count


def test_a_token_stays_within_its_instructions(core):
    count = linear_count(core, 1, 64)
    assert near(count, core.target.token), count
    assert linear_count(core.portable, 1, 64) > core.target.gains[2] * count
    assert linear_count(core, 1, 64, offset=3) <= core.target.unaligned * count


@pytest.mark.parametrize("head_size", [8, 16])
def test_attention_stays_within_its_instructions(core, head_size):
    counts = attention_count(core, head_size)
    assert all(near(n, b, 0.85) for b, n in zip(core.target.attention[head_size], counts, strict=True)), counts


@pytest.mark.parametrize("kernel", RANDOM)
def test_only_instructions_that_may_touch_words_at_any_address(kernel):
    """LDRD, STRD, LDM and STM fault where LDR and STR do not."""
    core, unaligned = Core("m33", "-O2"), 0

    def check(address, size, code):
        nonlocal unaligned
        if address % min(size, 4):
            unaligned += 1
            assert code & 0xFE00 != 0xE800 and code & 0xF000 != 0xC000, f"{code:#x} at {address:#x}"

    watch_memory(core, check)
    for seed in range(6):
        RANDOM[kernel](core, np.random.default_rng(seed))
    assert unaligned > 100


@pytest.mark.parametrize("kernel", RANDOM)
def test_no_load_and_no_store_of_rv32_is_unaligned(kernel):
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


@pytest.mark.parametrize("target", ["m4", "rv32"])
def test_worst_case_stack_of_a_run_is_at_most_512_bytes(target, tmp_path):
    depth = stack_bytes(target, tmp_path, "-Os")
    assert depth["a8_linear_s8"] <= 300
    assert depth["a8_run"] <= depth["a8_selftest"] <= 512
