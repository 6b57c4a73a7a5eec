"""The C core on the ESP32 chips that labwired emulates: equal outputs and counted instructions, never a time."""

import struct
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from attn8.boards import xtensa_windowed
from tools import CORE, ROOT, core_sources, need, run, scratch

HERE = Path(__file__).parent
BARE = ROOT / "native_modules" / "bare"
DONE, OUTPUTS_BYTES = 0x600D, 4096  # of labwired_main.c
STEP = "2ms"
_FLAGS = ("-std=c99", "-O2", "-ffreestanding", "-fno-tree-loop-distribute-patterns", "-ffunction-sections")


@dataclass(frozen=True)
class Chip:
    """Where code and data lie, and what compiles for it."""

    code: int
    ram: int
    compiler: tuple
    start: str


_XTENSA = (sys.executable, xtensa_windowed.__file__)
_RISCV = ("riscv64-unknown-elf-gcc", "-march=rv32imc_zicsr", "-mabi=ilp32", "-mno-relax")
CHIPS = {
    "esp32": Chip(0x40080400, 0x3FFB0000, _XTENSA, "labwired_xtensa.S"),
    "esp32s3": Chip(0x40378000, 0x3FC88000, _XTENSA, "labwired_xtensa.S"),
    "esp32c3": Chip(0x42000000, 0x3FC80000, _RISCV, "labwired_riscv.S"),
}
_LINKER_SCRIPT = """
ENTRY(_start)
MEMORY {{ CODE : ORIGIN = {code:#x}, LENGTH = 127K  RAM : ORIGIN = {ram:#x}, LENGTH = 160K }}
SECTIONS {{
    .text : {{ *(.literal.start .text.start) *(.literal* .text*) }} > CODE
    .data : {{ *(.rodata* .srodata*) *(.data* .sdata*) }} > RAM
    .bss : {{ *(.bss* .sbss* COMMON) }} > RAM
    stack_top = ORIGIN(RAM) + LENGTH(RAM) - 64;
}}
"""


@cache
def image(name):
    """Returns the path of the core, linked for a chip."""
    chip, folder = CHIPS[name], scratch() / name
    need("xtensa-lx106-elf-gcc" if chip.compiler is _XTENSA else chip.compiler[0])
    folder.mkdir()
    sources = [*core_sources(), BARE / "support.c", HERE / "labwired_main.c", HERE / chip.start]
    objects = [folder / f"{source.name}.o" for source in sources]
    for source, target in zip(sources, objects, strict=True):
        run(*chip.compiler, *_FLAGS, "-I", BARE, "-I", CORE, "-c", source, "-o", target)
    script = folder / "chip.ld"
    script.write_text(_LINKER_SCRIPT.format(code=chip.code, ram=chip.ram))
    run(*chip.compiler, "-nostdlib", "-Wl,--gc-sections", "-T", script, *objects, "-o", folder / "core.elf")
    return folder / "core.elf"


@dataclass(frozen=True)
class Report:
    """What the chip said: codes of a8_load, result (a8_selftest, or number of outputs), cycles, and the outputs."""

    load: int
    result: int
    cycles: int
    outputs: bytes


def start(name, data, samples=b"", push_bytes=0, hop=0, limit_cycles=400_000_000):
    """Runs a model file on a chip: its golden vectors, or samples pushed into a stream. Returns the Report."""
    from labwired import Sim

    with Sim(str(image(name)), chip=name) as sim:
        _write(sim, "file", data)
        _write(sim, "samples", samples)
        _write(sim, "job", np.array([len(data), len(samples), push_bytes, hop], "<u4").tobytes())
        report = sim.symbol("report")
        while sim.read_u32(report) != DONE:
            if sim.cycles > limit_cycles:
                raise AssertionError(f"{name} is not done after {sim.cycles} cycles")
            sim.run_for(STEP)
        _, load, result, cycles = struct.unpack("<IiiI", sim.read_memory(report, 16))
        return Report(load, result, cycles, sim.read_memory(sim.symbol("outputs"), OUTPUTS_BYTES))


def _write(sim, symbol, data):
    address = sim.symbol(symbol)
    for i, word in enumerate(np.frombuffer(data + bytes(-len(data) % 4), "<u4")):
        sim.write_u32(address + 4 * i, int(word))
