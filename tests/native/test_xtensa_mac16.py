"""The MAC16 kernels of the ESP32 equal the reference, run by QEMU: its dc233c has the same MAC16, loops and windows.

labwired has no MAC16, and QEMU no ESP32: no one of the two runs the whole.
"""

import os
import struct
import subprocess
from functools import cache

import numpy as np
import pytest
import test_xtensa_kernels as kernels
from test_m0plus_linear import expected, normal, plain_rows
from xtensa import HERE, Core, linked, symbols

from attn8 import graph
from attn8.boards import xtensa_windowed
from tools import need, scratch

N_VECTORS = int(os.environ.get("ATTN8_MAC16_VECTORS", 2500))
CODE, JOB, MEMORY_BYTES = 0x10000, 0x1000000, 1 << 17
_LINKER_SCRIPT = f"""
ENTRY(_start)
SECTIONS {{
    .vectors {CODE:#x} : {{ *(.vectors) }}
    .text : {{ *(.literal.start .text.start) *(.literal* .text* .rodata*) }}
    .memory : {{ *(.data* .bss* COMMON) }}
    job = {JOB:#x};
    ASSERT(SIZEOF(.memory) == 0, "the core must have no writable globals")
}}
"""
# One instruction a tick of 64 ns; the counter of the dc233c runs at 10 MHz.
_NS_PER_INSTRUCTION, _NS_PER_CYCLE = 64, 100


@cache
def image(*flags):
    """Returns the path of the core, linked for QEMU's sim machine."""
    return linked("mac16", _LINKER_SCRIPT, *flags, start=[HERE / "qemu_xtensa.S"])


class Qemu:
    """The calls of labwired_core.Cpu, one process each."""

    class chip:
        ram_address, ram_bytes = JOB + 64, MEMORY_BYTES - 64

    def __init__(self, elf):
        self._elf, self._start, self._memory = elf, symbols(elf)["_start"], bytearray(MEMORY_BYTES)

    def write(self, address, data):
        self._memory[address - JOB : address - JOB + len(data)] = data

    def read(self, address, n):
        return bytes(self._memory[address - JOB : address - JOB + n])

    def call(self, address, arguments, stack_top):
        words = [*arguments, 0, 0, 0, 0, 0, 0][:6]
        struct.pack_into("<9I", self._memory, 0, address, stack_top - 64, *words, MEMORY_BYTES)
        path = scratch() / "memory.bin"
        path.write_bytes(self._memory)
        quiet = ("-display", "none", "-serial", "none", "-monitor", "none")
        options = ("-M", "sim", "-cpu", "dc233c", *quiet, "-semihosting", "-icount", "6")
        loaded = f"file={self._elf}.bin,addr={CODE}", f"file={path},addr={JOB}", f"addr={self._start},cpu-num=0"
        loaders = [word for what in loaded for word in ("-device", f"loader,{what}")]
        command = [need("qemu-system-xtensa"), *options, *loaders]
        done = subprocess.run(command, capture_output=True, timeout=60, check=False, stdin=subprocess.DEVNULL)
        assert len(done.stdout) == MEMORY_BYTES, done.stderr[-500:]
        self._memory[:] = done.stdout
        result, cycles = struct.unpack_from("<iI", self._memory)
        return result, cycles * _NS_PER_CYCLE / _NS_PER_INSTRUCTION


class QemuCore(Core):
    """A core with MAC16."""

    def __init__(self, *flags):
        elf = image("-DA8_XTENSA_MAC16", *flags)
        self.symbols, self.processor = symbols(elf), Qemu(elf)
        self.chip = self.processor.chip


@pytest.fixture(scope="module", params=["-O2", "-Os"])
def core(request):
    need("qemu-system-xtensa")
    return QemuCore(request.param)


def test_instructions_become_the_words_that_qemu_disassembles():
    words = {
        "loopnez a8, 1f": ".byte 0x76, 0x98, 1f - . - 2",
        "clamps a4, a3, 15": ".byte 0x80, 0x43, 0x33",
        "max a3, a3, a4": ".byte 0x40, 0x33, 0x53",
        "wsr.acclo a12": ".byte 0xc0, 0x10, 0x13",
        "rsr.acchi a4": ".byte 0x40, 0x11, 0x03",
        "ldinc m2, a7": ".byte 0x04, 0x27, 0x80",
        "mula.dd.hh.ldinc m3, a7, m0, m2": ".byte 0x04, 0x37, 0x0b",
        "mula.dd.ll.ldinc m0, a6, m1, m3": ".byte 0x44, 0x46, 0x08",
        "mula.da.ll.ldinc m1, a4, m0, a6": ".byte 0x64, 0x14, 0x48",
        "mula.da.hh m1, a5": ".byte 0x54, 0x40, 0x6b",
    }
    text = "\n".join(f"    {name} /* why */" for name in words)
    assert [line.strip() for line in xtensa_windowed.translated(text).splitlines()] == list(words.values())


@pytest.mark.parametrize("kernel", ["linear", "conv1d", "windowed_attention"])
def test_kernels_equal_the_reference(core, monkeypatch, kernel):
    monkeypatch.setattr(kernels, "N_VECTORS", N_VECTORS)
    getattr(kernels, f"test_{kernel}_equals_the_reference")(core)


def test_steps_of_a_stream_equal_the_rows_of_a_window(core, monkeypatch):
    monkeypatch.setattr(kernels, "N_VECTORS", N_VECTORS)
    kernels.test_a_step_of_a_stream_equals_the_last_row_of_a_window(core)


# Instructions a MAC at T = 32, N = 48, everything included.
LINEAR_BUDGETS = {16: 3.9, 32: 2.75, 64: 2.2, 128: 2.5}


@pytest.mark.parametrize("k", LINEAR_BUDGETS)
def test_linear_stays_within_its_instructions_a_mac(core, k):
    rng = np.random.default_rng(k)
    x, op = normal(rng, 32, k), graph.Linear(0, 0, plain_rows(rng, 48, k), normal(rng, 48, k))
    y, count = kernels.run_linear(core, x, op)
    assert np.array_equal(y, expected(op, x))
    assert count <= LINEAR_BUDGETS[k] * 32 * k * 48


def test_largest_sums_fit_into_the_accumulator(core):
    """A token alone has the most products in a sum: 256 of them, all at the ends of the range."""
    for x, w in ((-128, -127), (-128, 127), (127, 127)):
        op = graph.Linear(0, 0, plain_rows(np.random.default_rng(1), 5, 256), np.full((5, 256), w, np.int8))
        rows = np.full((1, 256), x, np.int8)
        assert np.array_equal(kernels.run_linear(core, rows, op)[0], expected(op, rows))
