"""linear, conv1d and attention of the ESP32 equal their NumPy forms, stay in their buffers and within their budgets."""

import ctypes
import os
import struct
import sys

import numpy as np
import pytest
import test_kernels
from test_kernels import int8, packed_rows, packed_weights
from test_m0plus_attention import bias_bytes, expected_step, fields, model_op, model_tokens, random_op, random_tokens
from test_m0plus_linear import expected, normal, plain_rows, random_conv1d, random_linear
from xtensa import Core

from attn8 import graph, reference
from attn8.boards import BoardError, labwired_core
from attn8.errors import ToolMissingError
from tools import SANITIZE, build, core_sources, run, scratch

N_VECTORS = int(os.environ.get("ATTN8_XTENSA_VECTORS", 1500))


@pytest.fixture(scope="module", params=[("esp32", "-O2"), ("esp32s3", "-Os"), ("esp32", "-O0")], ids=" ".join)
def core(request):
    return Core(*request.param)


@pytest.fixture(scope="module", params=[("esp32", "-O2"), ("esp32s3", "-Os")], ids=" ".join)
def counted_core(request):
    return Core(*request.param)


def run_product(core, name, x, op, shape, offsets=()):
    """Returns (y, instructions) of a8_conv1d_s8 or a8_linear_s8; rows, weights, x and y begin at 4*i + offset."""
    t, c = x.shape
    n, kernel = shape[1], op.weights.size // (shape[1] * c)
    buffers = packed_rows(op.requantize), packed_weights(op.weights.reshape(n, -1)), x, shape[0] * n
    rows, weights, source, y = core.place(*buffers, offsets=offsets)
    stride, pad_left = getattr(op, "stride", 1), getattr(op, "pad_left", 0)
    numbers = (rows, weights, t, c, shape[0], n, kernel, stride, pad_left, op.clamp, 0)
    count = core.call(name, struct.pack("<11I", *numbers), source, y)
    return core.output(y, *shape), count


def run_linear(core, x, op, offsets=()):
    return run_product(core, "a8_linear_s8", x, op, (len(x), len(op.weights)), offsets)


def run_conv1d(core, x, op, offsets=()):
    n, kernel, _ = op.weights.shape
    n_out = (len(x) + op.pad_left + op.pad_right - kernel) // op.stride + 1
    return run_product(core, "a8_conv1d_s8", x, op, (n_out, n), offsets)


def run_window(core, op, q, k, v, offset=0):
    """Returns (y (T, D), instructions); q, k, v, y and the bias begin at 4*i + offset."""
    t, d = q.shape
    buffers = fields(op), bias_bytes(op), q, k, v, 4 * min(t, op.left + op.right + 1), t * d
    at = core.place(*buffers, offsets=(0, offset, offset, offset, offset, 0, offset))
    arguments = struct.pack("<5I", at[1], at[5], at[0], t, d)
    count = core.call("a8_windowed_attention_s8", arguments, at[2], at[3], at[4], at[6])
    return core.output(at[6], t, d), count


def run_step(core, op, q, k, v, newest, n_keys, offset=0):
    """Returns (y (D,), instructions) on rings k, v (span, D)."""
    span, d = k.shape
    buffers = fields(op), bias_bytes(op), q, k, v, 4 * span, d
    at = core.place(*buffers, offsets=(0, 0, offset, offset, offset, 0, offset))
    arguments = struct.pack("<7I", at[1], at[5], at[0], d, span, newest, n_keys)
    count = core.call("a8_attention_step_s8", arguments, at[2], at[3], at[4], at[6])
    return core.output(at[6], d), count


def offsets_of(rng):
    return tuple(int(v) for v in (rng.integers(0, 4, 4) if rng.random() < 0.5 else (0, 0, *rng.integers(0, 4, 2))))


def test_an_emulated_chip_says_nothing_on_stderr(core, capfd):
    labwired_core.Cpu("esp32s3")
    assert capfd.readouterr() == ("", "")


def test_linear_equals_the_reference(core):
    n, seed = 0, 0
    while n < N_VECTORS:
        rng = np.random.default_rng(seed)
        limits = [(12, 70, 30), (12, 70, 30), (3, 300, 20), (7, 600, 9)]
        t, k, outputs = (int(rng.integers(1, limit)) for limit in rng.choice(limits))
        x, w, rows = random_linear(rng, t, k, outputs)
        op, offsets = graph.Linear(0, int(rng.integers(0, 3)), rows, w), offsets_of(rng)
        y, _ = run_linear(core, x, op, offsets)
        assert np.array_equal(y, expected(op, x)), (seed, t, k, outputs, offsets)
        n, seed = n + y.size, seed + 1


def test_conv1d_equals_the_reference(core):
    n, seed = 0, 0
    while n < N_VECTORS:
        rng = np.random.default_rng(seed)
        n_channels, kernel = (int(rng.integers(1, m)) for m in rng.choice([(12, 12), (12, 12), (40, 9)]))
        (x, op), offsets = random_conv1d(rng, n_channels, kernel), offsets_of(rng)
        y, _ = run_conv1d(core, x, op, offsets)
        assert np.array_equal(y, expected(op, x)), (seed, x.shape, op.weights.shape, offsets)
        n, seed = n + y.size, seed + 1


def test_windowed_attention_equals_the_reference(core):
    n, seed = 0, 0
    while n < N_VECTORS:
        rng = np.random.default_rng(seed)
        t, heads, size = int(rng.integers(1, 24)), int(rng.integers(1, 4)), int(rng.integers(1, 24))
        size = size if rng.random() < 0.5 else (size + 3) & ~3
        left, right = (int(v) for v in rng.integers(0, min(t, int(rng.choice([8, 64]))), 2))
        op, sources = random_op(rng, heads, left, right), random_tokens(rng, t, heads * size)
        offset = int(rng.choice([0, 0, 1, 2, 3]))
        y, _ = run_window(core, op, *sources, offset)
        wanted = reference.run_op(op, [s[None].astype(np.int64) for s in sources])[0]
        assert np.array_equal(y, wanted), (seed, t, heads, size, op, offset)
        n, seed = n + y.size, seed + 1


def test_largest_head_equals_the_reference(core):
    rng = np.random.default_rng(0)
    op, sources = random_op(rng, 1, 3, 1), random_tokens(rng, 5, 256)
    wanted = reference.run_op(op, [s[None].astype(np.int64) for s in sources])[0]
    assert np.array_equal(run_window(core, op, *sources)[0], wanted)


def test_a_step_of_a_stream_equals_the_last_row_of_a_window(core):
    n, seed = 0, 0
    while n < N_VECTORS // 10:
        rng = np.random.default_rng(seed)
        span, heads, size = int(rng.integers(1, 40)), int(rng.integers(1, 4)), int(rng.choice([4, 8, 16, 5, 7]))
        op, (_, k, v) = random_op(rng, heads, span - 1, 0), random_tokens(rng, span, heads * size)
        q, n_keys = int8(rng, heads * size), int(rng.choice([span, rng.integers(1, span + 1)]))
        newest = int(rng.integers(0, span)) if n_keys == span else n_keys - 1
        y, _ = run_step(core, op, q, k, v, newest, n_keys, int(rng.choice([0, 0, 0, 1])))
        assert np.array_equal(y, expected_step(op, q, k, v, newest, n_keys)), (seed, span, newest, n_keys, op)
        n, seed = n + y.size, seed + 1


@pytest.fixture(scope="module")
def host_core():
    """The same C file for the host: its arithmetic, with every undefined behaviour an error."""
    flags = ("-O1", "-shared", "-fPIC", "-DA8_TARGET_XTENSA", *SANITIZE[:1], "-fsanitize=undefined", SANITIZE[-1])
    library = build(scratch() / "core-xtensa.so", core_sources(), *flags)
    assert " t run_passes" in run("nm", library)
    return ctypes.CDLL(str(library))


@pytest.mark.parametrize("kernel", ["linear", "conv1d", "windowed_attention"])
def test_kernels_have_no_undefined_behaviour(host_core, monkeypatch, kernel):
    monkeypatch.setattr(test_kernels, "N_VECTORS", 200_000)
    getattr(test_kernels, f"test_{kernel}")(host_core)


# Instructions a MAC at T = 32, N = 48, everything included.
LINEAR_BUDGETS = {16: 5.5, 32: 4.4, 64: 3.9, 128: 4.5}
CONV1D_BUDGETS = {6: 4.1, 12: 4.9}  # by channels, 8 taps, stride 2
WINDOW_BUDGETS = {8: 10.3, 16: 8.3}  # by head size, 4 heads, 16 keys, causal


@pytest.mark.parametrize("k", LINEAR_BUDGETS)
def test_linear_stays_within_its_instructions_a_mac(counted_core, k):
    rng = np.random.default_rng(k)
    x, op = normal(rng, 32, k), graph.Linear(0, 0, plain_rows(rng, 48, k), normal(rng, 48, k))
    y, count = run_linear(counted_core, x, op)
    assert np.array_equal(y, expected(op, x))
    assert count <= LINEAR_BUDGETS[k] * 32 * k * 48
    assert np.std(y.astype(float)) > 20


@pytest.mark.parametrize("n_channels", CONV1D_BUDGETS)
def test_conv1d_stays_within_its_instructions_a_mac(counted_core, n_channels):
    rng = np.random.default_rng(n_channels)
    k = 8 * n_channels
    op = graph.Conv1d(0, 0, 2, 3, 3, plain_rows(rng, 48, k), normal(rng, 48, 8, n_channels))
    x = normal(rng, 64, n_channels)
    y, count = run_conv1d(counted_core, x, op)
    assert np.array_equal(y, expected(op, x))
    assert count <= CONV1D_BUDGETS[n_channels] * 32 * k * 48


def test_a_token_stays_within_its_instructions_a_mac(counted_core):
    rng = np.random.default_rng(1)
    x, op = normal(rng, 1, 64), graph.Linear(0, 0, plain_rows(rng, 48, 64), normal(rng, 48, 64))
    for offsets, budget in (((0, 0, 0), 6.1), ((1, 1, 1), 12.4)):
        y, count = run_linear(counted_core, x, op, offsets)
        assert np.array_equal(y, expected(op, x))
        assert count <= budget * 64 * 48


@pytest.mark.parametrize("size", WINDOW_BUDGETS)
def test_attention_stays_within_its_instructions_a_mac(counted_core, size):
    op, sources = model_op(4, 15, 0), model_tokens(32, 4 * size)
    _, count = run_window(counted_core, op, *sources)
    n_keys = sum(min(i + 1, 16) for i in range(32))
    assert count <= WINDOW_BUDGETS[size] * 2 * n_keys * 4 * size


def test_kernels_stay_within_their_stack(counted_core):
    rng = np.random.default_rng(1)
    for offset in (0, 1):
        op = graph.Linear(0, 0, plain_rows(rng, 3, 300), normal(rng, 3, 300))
        run_linear(counted_core, normal(rng, 5, 300), op, (offset, offset, offset))
        assert 512 < counted_core.stack_bytes <= 1200
    run_window(counted_core, model_op(4, 15, 0), *model_tokens(32, 32))
    assert 512 < counted_core.stack_bytes <= 800


def test_portable_kernels_remain(counted_core):
    portable = Core("esp32", "-O2", "-DA8_PORTABLE")
    assert "run_passes" in counted_core.symbols and "run_passes" not in portable.symbols
    rng = np.random.default_rng(1)
    x, op = normal(rng, 32, 64), graph.Linear(0, 0, plain_rows(rng, 48, 64), normal(rng, 48, 64))
    y, count = run_linear(portable, x, op)
    assert np.array_equal(y, expected(op, x))
    assert count > 2.5 * run_linear(counted_core, x, op)[1]


def test_count_of_a_call_leaves_its_caller_out():
    core = Core("esp32", "-O2")
    # entry a1, 32; retw.n -- then the same with a sum of the seventh and eighth argument between them
    code = bytes.fromhex("364100 1df0 000000 364100 8881 9891 9a28 1df0".replace(" ", ""))
    core.processor.load_code(core.chip.code_address, code)
    assert core.processor.call(core.chip.code_address, [], core._stack_top) == (0, 2)
    assert core.processor.call(core.chip.code_address + 8, [0] * 6 + [40, 2], core._stack_top) == (42, 5)


def test_code_that_stops_or_never_returns_is_an_error():
    core = Core("esp32", "-O2")
    core.processor.load_code(core.chip.code_address, bytes.fromhex("364100 000000"))  # ill
    with pytest.raises(BoardError, match="did not return after"):
        core.processor.call(core.chip.code_address, [], core._stack_top)
    core = Core("esp32", "-O2")
    core.processor.load_code(core.chip.code_address, bytes.fromhex("364100 06ffff"))  # j .
    with pytest.raises(BoardError, match="did not return after"):
        core.processor.call(core.chip.code_address, [], core._stack_top, limit=10_000)


def test_missing_emulator_is_an_error_with_the_command_that_brings_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "labwired", None)
    with pytest.raises(ToolMissingError, match=r"pip install 'attn8\[emulate\]'"):
        labwired_core.Cpu()


def test_memory_that_a_chip_lacks_is_an_error():
    core = Core("esp32", "-O2")
    with pytest.raises(BoardError, match="no memory at 0x10"):
        core.processor.write(0x10, b"1234")
    core.processor.write(core.chip.flash_address, bytes(8))
    core.processor.write(core.chip.flash_address + 1, b"attn8")
    assert core.processor.read(core.chip.flash_address, 8) == b"\0attn8\0\0"
