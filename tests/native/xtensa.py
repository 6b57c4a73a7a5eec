"""Kernels of the core on an emulated ESP32 or ESP32-S3, one call at a time, with a fence around every buffer."""

import sys
from functools import cache
from pathlib import Path

import numpy as np
from m0plus import Fenced

from attn8.boards import labwired_core, xtensa_windowed
from attn8.errors import ToolMissingError
from tools import CORE, ROOT, missing, need, run, scratch

HERE = Path(__file__).parent
BARE = ROOT / "native_modules" / "bare"
STACK_BYTES = 2048
FLAGS = ("-std=c99", "-ffreestanding", "-fno-tree-loop-distribute-patterns", "-ffunction-sections")
_LINKER_SCRIPT = """
SECTIONS {{
    .text {:#x} : {{ *(.literal* .text* .rodata*) }}
    .memory : {{ *(.data* .bss* COMMON) }}
    ASSERT(SIZEOF(.memory) == 0, "the core must have no writable globals")
}}
"""
WRAPPER = (sys.executable, xtensa_windowed.__file__)


def linked(name, script, *flags, start=()):
    """Compiles the core and `start` (sources). Returns the path of the program; its code lies beside it as .bin."""
    need("xtensa-lx106-elf-gcc")
    folder = scratch() / f"{name}{''.join(flags)}"
    folder.mkdir()
    sources = [*sorted(CORE.glob("a8_*.[cS]")), BARE / "support.c", *start]
    objects = [folder / f"{source.name}.o" for source in sources]
    for source, target in zip(sources, objects, strict=True):
        run(*WRAPPER, *FLAGS, *flags, "-I", BARE, "-I", CORE, "-c", source, "-o", target)
    elf, layout = folder / "core.elf", folder / "core.ld"
    layout.write_text(script)
    run(*WRAPPER, "-nostdlib", "-T", layout, *objects, "-o", elf)
    run("xtensa-lx106-elf-objcopy", "-O", "binary", elf, f"{elf}.bin")
    return elf


@cache
def image(chip_name, *flags):
    """Returns (code, {function: address}) of the core, linked for a chip."""
    script = _LINKER_SCRIPT.format(labwired_core.CHIPS[chip_name].code_address)
    elf = linked(f"xtensa-{chip_name}", script, *flags)
    return Path(f"{elf}.bin").read_bytes(), symbols(elf)


def symbols(elf):
    """Returns {function: address}."""
    rows = [line.split() for line in run("xtensa-lx106-elf-nm", "--defined-only", elf).splitlines()]
    return {name: int(address, 16) for address, kind, name in rows if kind in "Tt"}


class Core(Fenced):
    """The core in the memory of a chip; ``call`` compares the fences between its buffers."""

    def __init__(self, chip_name, *flags):
        code, self.symbols = image(chip_name, *flags)
        try:
            self.processor = labwired_core.Cpu(chip_name)
        except ToolMissingError as e:
            missing("labwired", str(e))
        self.chip = self.processor.chip
        self.processor.load_code(self.chip.code_address, code)

    @property
    def first_buffer(self):
        return self.chip.ram_address + 0x100

    @property
    def buffers_end(self):
        return self._stack_top - STACK_BYTES

    @property
    def _stack_top(self):
        return (self.chip.ram_address + self.chip.ram_bytes) & ~15

    def call(self, name, op, *arguments):
        """Calls a function with the bytes of a struct and addresses. Returns its instructions."""
        assert len(op) <= 0x100
        self.processor.write(self.chip.ram_address, op)
        arguments = [self.chip.ram_address, *arguments]
        _, count = self.call_painted(name, arguments, self._stack_top, STACK_BYTES)
        return count

    def output(self, address, *shape):
        """Returns an int8 array."""
        return np.frombuffer(self.processor.read(address, int(np.prod(shape))), np.int8).reshape(shape)
