"""What the machine code of the viper kernels costs on a Cortex-M0+, counted in the emulated processor.

mpy-cross makes the code, as it does for a board. MicroPython around it is two functions: one that converts an argument,
which is a number or an address already, and one that reads a global, here the number of bits that ptr32 lacks: 0.
"""

import re
import struct

import numpy as np
import pytest

from attn8 import arithmetic
from attn8.boards.cortex_m0plus import FLASH_ADDRESS, RAM_ADDRESS, RAM_BYTES, Cpu
from attn8.graph import Requantize
from attn8.micropython import device_folder
from tools import need, run

# Cycles a MAC at K = 64 and 8 tokens, by number of outputs. On a board the call of linear_s8 adds 0.3 (64 outputs) and
# 1.8 (8 outputs) to them; all of it must stay within 30.
BUDGETS = {8: 22, 64: 19}
N_ARGUMENTS = 17  # of _multiply, which only it has
# push {r1-r7, lr}; sub sp; ldr r7, [r0, #4]; ldr r6, [r7, #8]; ...; movs r2, #N_ARGUMENTS; cmp r0, r2
ENTRY = rb"\xfe\xb5.\xb0\x47\x68\xbe\x68.{24}" + bytes((N_ARGUMENTS,)) + rb"\x22\x90\x42"
CODE, CONVERT, GLOBAL = FLASH_ADDRESS + 0x1000, FLASH_ADDRESS + 0x100, FLASH_ADDRESS + 0x110
FUNCTION, MODULE, OBJECTS, TABLE, ARGUMENTS, BUFFERS = (RAM_ADDRESS + i * 0x100 for i in range(1, 7))


@pytest.fixture(scope="module")
def code(tmp_path_factory):
    """The machine code of _multiply, and what follows it in the file."""
    target = tmp_path_factory.mktemp("mpy") / "_viper.mpy"
    run(need("mpy-cross"), "-march=armv6m", device_folder() / "_viper.py", "-o", target)
    data = target.read_bytes()
    entries = [match.start() for match in re.finditer(ENTRY, data, re.DOTALL)]
    assert len(entries) == 1
    return data[entries[0] :]


def processor(code):
    """Returns a Cpu with the code, the two functions, and the records through which the code finds them."""
    cpu = Cpu()
    cpu.load_code(CODE, code)
    cpu.load_code(CONVERT, struct.pack("<H", 0x4770))  # bx lr
    cpu.load_code(GLOBAL, struct.pack("<HH", 0x2000, 0x4770))  # movs r0, #0; bx lr
    table = [0] * 50
    table[3], table[5], table[7] = CONVERT | 1, CONVERT | 1, GLOBAL | 1  # globals are swapped for none: no change
    cpu.write(TABLE, struct.pack("<50I", *table))
    cpu.write(OBJECTS, struct.pack("<I", TABLE))
    cpu.write(MODULE, struct.pack("<4I", 0, 0, BUFFERS, OBJECTS))
    cpu.write(FUNCTION, struct.pack("<2I", 0, MODULE))
    return cpu


def multiply(code, n_steps, n_inputs, n_outputs):
    """Runs a linear op of random numbers. Returns its cycles after comparing the outputs."""
    rng = np.random.default_rng(1)
    x = rng.integers(-128, 128, (n_steps, n_inputs)).astype(np.int8)
    w = rng.integers(-127, 128, (n_outputs, n_inputs)).astype(np.int8)
    multiplier, post = rng.integers(16384, 32768, n_outputs), np.full(n_outputs, 20)
    rows = Requantize(rng.integers(-5000, 5000, n_outputs), multiplier, np.full(n_outputs, 4), post)
    padded = np.pad(w, ((0, 0), (0, -n_inputs % 4)))
    buffers = [bytes(4 * padded.shape[1]), padded, x, bytes(x.shape[0] * n_outputs)]
    buffers += [rows.bias.astype("<i4"), multiplier.astype("<u2"), rows.pre.astype("u1"), (post - 1).astype("u1")]
    cpu, addresses, at = processor(code), [], BUFFERS + 0x200
    for buffer in map(bytes, buffers):
        cpu.write(at, buffer)
        addresses.append(at)
        at += (len(buffer) + 3) & ~3
    scratch, weights, source, y, *numbers = addresses
    arguments = [scratch, 0, weights, source, y, *numbers, x.size, n_inputs, n_inputs, 0, n_steps, n_outputs, -128, 127]
    cpu.write(ARGUMENTS, b"".join((v & 0xFFFFFFFF).to_bytes(4, "little") for v in arguments))
    _, cycles = cpu.call(CODE, (FUNCTION, N_ARGUMENTS, 0, ARGUMENTS), RAM_ADDRESS + RAM_BYTES, 1_000_000)
    expected = arithmetic.requantize_rows(arithmetic.linear_accumulate(x[None], w), rows)[0]
    np.testing.assert_array_equal(np.frombuffer(cpu.read(y, expected.size), np.int8), expected.ravel())
    return cycles


@pytest.mark.parametrize("n_outputs", BUDGETS)
def test_viper_linear_stays_within_its_cycles_a_mac(code, n_outputs):
    assert multiply(code, 8, 64, n_outputs) <= BUDGETS[n_outputs] * 8 * 64 * n_outputs


@pytest.mark.parametrize("n_inputs", [1, 13, 16, 50])
def test_viper_code_of_the_m0plus_gives_the_outputs_of_the_reference(code, n_inputs):
    multiply(code, 3, n_inputs, 5)
