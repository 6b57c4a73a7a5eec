"""Kernels of the core on an emulated ESP32 or ESP32-S3, one call at a time, with a fence around every buffer."""

import struct
import sys
from functools import cache
from pathlib import Path

import numpy as np

from attn8.boards import labwired_core, xtensa_windowed
from attn8.errors import ToolMissingError
from tools import CORE, ROOT, missing, need, run, scratch

HERE = Path(__file__).parent
BARE = ROOT / "native_modules" / "bare"
FENCE = b"\xa5" * 16
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


@cache
def image(chip_name, *flags):
    """Returns (code, {function: address}) of the core, linked for a chip."""
    need("xtensa-lx106-elf-gcc")
    folder = scratch() / f"xtensa-{chip_name}{''.join(flags)}"
    folder.mkdir()
    sources = [*sorted(CORE.glob("a8_*.[cS]")), BARE / "support.c"]
    objects = [folder / f"{source.name}.o" for source in sources]
    for source, target in zip(sources, objects, strict=True):
        run(*WRAPPER, *FLAGS, *flags, "-I", BARE, "-I", CORE, "-c", source, "-o", target)
    elf, binary, script = folder / "core.elf", folder / "core.bin", folder / "core.ld"
    script.write_text(_LINKER_SCRIPT.format(labwired_core.CHIPS[chip_name].code_address))
    run(*WRAPPER, "-nostdlib", "-T", script, *objects, "-o", elf)
    run("xtensa-lx106-elf-objcopy", "-O", "binary", elf, binary)
    return binary.read_bytes(), symbols(elf)


def symbols(elf):
    """Returns {function: address}."""
    rows = [line.split() for line in run("xtensa-lx106-elf-nm", "--defined-only", elf).splitlines()]
    return {name: int(address, 16) for address, kind, name in rows if kind in "Tt"}


class Core:
    """The core in the memory of a chip; ``call`` compares the fences between its buffers."""

    def __init__(self, chip_name, *flags):
        code, self.symbols = image(chip_name, *flags)
        try:
            self.processor = labwired_core.Cpu(chip_name)
        except ToolMissingError as e:
            missing("labwired", str(e))
        self.chip = self.processor.chip
        self.processor.load_code(self.chip.code_address, code)

    def place(self, *buffers, offsets=()):
        """Writes buffers (bytes, or a number of bytes) behind each other, at 4*i + offset. Returns their addresses."""
        at, addresses, self._fences = self.chip.ram_address + 0x100, [], []
        offsets = (*offsets, *(0,) * (len(buffers) - len(offsets)))
        for buffer, offset in zip(buffers, offsets, strict=True):
            data = bytes(buffer) if isinstance(buffer, int) else memoryview(buffer).tobytes()
            at = ((at + len(FENCE) + 3) & ~3) + offset
            self.processor.write(at - len(FENCE), FENCE + data + FENCE)
            self._fences += [at - len(FENCE), at + len(data)]
            addresses.append(at)
            at += len(data) + len(FENCE)
        assert at < self._stack_top - STACK_BYTES
        return addresses

    @property
    def _stack_top(self):
        return (self.chip.ram_address + self.chip.ram_bytes) & ~15

    def call(self, name, op, *arguments):
        """Calls a function with the bytes of a struct and addresses. Returns its instructions."""
        assert len(op) <= 0x100
        self.processor.write(self.chip.ram_address, op)
        self.processor.write(self._stack_top - STACK_BYTES, FENCE * (STACK_BYTES // len(FENCE)))
        _, count = self.processor.call(self.symbols[name], [self.chip.ram_address, *arguments], self._stack_top)
        left = self.processor.read(self._stack_top - STACK_BYTES, STACK_BYTES)
        self.stack_bytes = len(left.lstrip(FENCE[:1]))
        assert all(self.processor.read(at, len(FENCE)) == FENCE for at in self._fences), "a store left its buffer"
        return count

    def output(self, address, *shape):
        """Returns an int8 array."""
        return np.frombuffer(self.processor.read(address, int(np.prod(shape))), np.int8).reshape(shape)


def packed_fields(op):
    """Returns the a8_attention_fields_t of a graph.WindowedAttention."""
    softmax = struct.pack("<iHBB", op.softmax.dmax, op.softmax.dm, op.softmax.dpre, op.softmax.dsh)
    return softmax + struct.pack("<HHHBBxx", op.left, op.right, op.multiplier, op.shift, op.heads)
