"""The emulated processors that count instructions: their calls, their counts, and what they refuse."""

import struct
import sys

import pytest
from counted import PROCESSORS, STACK_TOP, compiled, new_cpu

from attn8.boards import BoardError
from attn8.boards.unicorn_core import FLASH_ADDRESS, RAM_ADDRESS, RAM_BYTES, UnicornCpu
from attn8.errors import ToolMissingError
from tools import ROOT

MODEL = ROOT / "models" / "shoulder_exercises" / "model.a8"
FILE_ADDRESS = FLASH_ADDRESS + (256 << 10)
ENDLESS = {"m33": "fee7", "rv32": "01a0"}  # b . and c.j .
LAST_ARGUMENT = {"m33": "02987047", "rv32": "22458280"}  # r0 or a0 = the third word of the stack, return
N_REGISTERS = {"m33": 4, "rv32": 8}


def halfwords(core, address, n):
    return struct.unpack(f"<{n}H", core.mem_read(address, 2 * n))


def conditional_code(core, address):
    """Returns (instructions, bytes) that a Thumb IT instruction makes conditional; (0, 0) for another instruction."""
    first, *following = halfwords(core, address, 9)
    if first >> 8 != 0xBF or first & 15 == 0:
        return 0, 0
    n, at = 4 - (first & -first).bit_length() + 1, 0
    for _ in range(n):
        at += 2 if following[at] >= 0xE800 else 1
    return n, 2 * at


def single_steps(cpu, thumb, *call):
    """Returns the instructions that a hook on each of them counts; an IT block as a whole, as it may be left early."""
    import unicorn

    n, counted = 0, range(0)

    def step(core, address, size, _):
        nonlocal n, counted
        if address not in counted:
            more, n_bytes = conditional_code(core, address) if thumb else (0, 0)
            n, counted = n + 1 + more, range(address + 2, address + 2 + n_bytes)

    hook = cpu._core.hook_add(unicorn.UC_HOOK_CODE, step)
    cpu._core.ctl_flush_tb()
    cpu.call(*call)
    cpu._core.hook_del(hook)
    return n


@pytest.mark.parametrize("name", PROCESSORS)
def test_instructions_of_blocks_are_those_of_single_steps(name):
    image, cpu, data = compiled(name, "-O2"), new_cpu(PROCESSORS[name][0]), MODEL.read_bytes()
    cpu.load_code(FLASH_ADDRESS, image.code)
    cpu.write(FILE_ADDRESS, data)
    model_bytes, _ = cpu.call(image.symbols["a8_model_bytes"], (FILE_ADDRESS, len(data)), STACK_TOP)
    call = (image.symbols["a8_load"], (RAM_ADDRESS, model_bytes, FILE_ADDRESS, len(data)), STACK_TOP)
    result, count = cpu.call(*call)
    assert result == 0
    assert count == single_steps(cpu, name != "rv32", *call) > 100_000
    assert cpu.call(*call) == (0, count)


@pytest.mark.parametrize("processor", ["m33", "rv32"])
def test_arguments_without_a_register_lie_on_the_stack(processor):
    cpu = new_cpu(processor)
    cpu.load_code(FLASH_ADDRESS, bytes.fromhex(LAST_ARGUMENT[processor]))
    arguments = [*range(N_REGISTERS[processor] + 2), -5]
    assert cpu.call(FLASH_ADDRESS, arguments, STACK_TOP) == (-5, 2)


@pytest.mark.parametrize("processor", ["m33", "rv32"])
def test_code_that_hangs_or_leaves_its_memory_is_an_error(processor):
    cpu = new_cpu(processor)
    cpu.load_code(FLASH_ADDRESS, bytes.fromhex(ENDLESS[processor]))
    with pytest.raises(BoardError, match="did not return after 1,000 instructions"):
        cpu.call(FLASH_ADDRESS, (), STACK_TOP, limit=1000)
    cpu.load_code(FLASH_ADDRESS, bytes.fromhex(LAST_ARGUMENT[processor]))
    with pytest.raises(BoardError, match="failed at 0x10000000"):
        cpu.call(FLASH_ADDRESS, (), RAM_ADDRESS + RAM_BYTES)
    with pytest.raises(BoardError, match="no memory at 0x20041fff"):
        cpu.write(RAM_ADDRESS + RAM_BYTES - 1, bytes(2))


def test_unknown_processor_is_an_error():
    with pytest.raises(BoardError, match="unknown processor 'm7'; expected one of: m33, rv32"):
        UnicornCpu("m7")


def test_missing_emulator_is_one_line_with_the_command(monkeypatch):
    monkeypatch.setitem(sys.modules, "unicorn", None)
    with pytest.raises(ToolMissingError, match=r"pip install 'attn8\[emulate\]'"):
        UnicornCpu("m33")
