"""An emulated ESP32 or ESP32-S3 that runs one function at a time and counts its instructions.

labwired runs whole chips from an ELF file and lets the host see only their memory. So the chip starts in a loop of
native_modules/bare/labwired_xtensa.S that waits for a mailbox, calls what it names, and leaves there the result and
what CCOUNT advanced: in labwired one per instruction, whatever a real chip takes for it. Register windows are spilled
for nothing; there is no cache, and a word at an odd address is no trouble.
"""

import contextlib
import os
import shutil
import struct
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from ..errors import ToolMissingError
from ..runtime import source_folder
from . import BoardError, xtensa_windowed

_FLAGS = ("-nostdlib", "-ffreestanding")
_MAILBOX_BYTES, _STUB_BYTES, _N_REGISTERS = 64, 256, 6
_RESULT_OFFSET = 32
_CALL_INSTRUCTIONS = 2  # callx8 and the second rsr lie between the two values of CCOUNT, too
_FIRST_STEP_US, _LARGEST_STEP_US = 4, 2000


@contextlib.contextmanager
def _silent_stderr():
    """Drops what labwired, which is no Python, tells about the ROM it loads; what goes wrong it raises."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(nowhere)
        os.close(kept)


@dataclass(frozen=True)
class Chip:
    """Where labwired has memory.

    Attributes:
        flash_address, flash_bytes: seen as data; the host may write it here.
        ram_address, ram_bytes: data; the last bytes hold the mailbox of the stub and are not in ram_bytes.
        code_address, code_bytes: RAM for instructions; behind them lies the stub.
    """

    name: str
    flash_address: int
    flash_bytes: int
    ram_address: int
    ram_bytes: int
    code_address: int
    code_bytes: int

    @property
    def mailbox(self):
        return self.ram_address + self.ram_bytes

    @property
    def stub(self):
        return self.code_address + self.code_bytes


CHIPS = {
    chip.name: chip
    for chip in (
        Chip("esp32", 0x3F400000, 4 << 20, 0x3FFB0000, 0x30000 - _MAILBOX_BYTES, 0x40080400, 0x1FC00 - _STUB_BYTES),
        Chip("esp32s3", 0x3C000000, 4 << 20, 0x3FC88000, 0x60000 - _MAILBOX_BYTES, 0x40378000, 0x10000 - _STUB_BYTES),
    )
}


@cache
def _stub(chip):
    """Returns the bytes of the ELF file that the chip starts with."""
    bare = source_folder("bare")
    with tempfile.TemporaryDirectory() as folder:
        compiled, linked = Path(folder, "stub.o"), Path(folder, "stub.elf")
        wrapper = (sys.executable, xtensa_windowed.__file__)
        _run(*wrapper, *_FLAGS, "-c", bare / "labwired_xtensa.S", "-o", compiled)
        symbols = (f"-Wl,--defsym=code_address={chip.stub:#x}", f"-Wl,--defsym=mailbox={chip.mailbox:#x}")
        _run(*wrapper, *_FLAGS, *symbols, "-T", bare / "labwired_xtensa.ld", compiled, "-o", linked)
        return linked.read_bytes()


def _run(*command):
    if shutil.which(xtensa_windowed.GCC) is None:
        raise ToolMissingError(f"{xtensa_windowed.GCC} is not installed; apt-get install gcc-xtensa-lx106")
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, check=False)
    if done.returncode:
        raise BoardError(f"{xtensa_windowed.GCC} failed: {done.stderr.strip()}")


def _emulator():
    try:
        import labwired
    except ImportError:
        raise ToolMissingError("labwired is not installed; pip install 'attn8[emulate]'") from None
    return labwired


class Cpu:
    """The first core of a chip, with its memory.

    Args:
        name: of CHIPS.

    Attributes:
        chip: the Chip, with its addresses.
        unit: of the counts.    source: how they were obtained.

    Raises:
        ToolMissingError: without labwired or the cross compiler, which assembles the stub.
    """

    unit = "instructions"

    def __init__(self, name="esp32"):
        from importlib.metadata import version

        labwired = _emulator()
        self.chip = CHIPS[name]
        with tempfile.TemporaryDirectory() as folder:
            elf = Path(folder, "stub.elf")
            elf.write_bytes(_stub(self.chip))
            with _silent_stderr():
                self._sim = labwired.Sim(str(elf), chip=name)
        self.source = f"labwired {version('labwired')} ({name})"

    def write(self, address, data):
        """Writes bytes into flash or RAM."""
        first, data = address & ~3, bytes(data)
        self._check(address, len(data))
        before = self._sim.read_memory(first, address - first)
        behind = self._sim.read_memory(address + len(data), -(address + len(data)) & 3)
        for i, (word,) in enumerate(struct.iter_unpack("<I", before + data + behind)):
            self._sim.write_u32(first + 4 * i, word)

    def read(self, address, n):
        """Returns n bytes of flash or RAM."""
        self._check(address, n)
        return self._sim.read_memory(address, n)

    def _check(self, address, n):
        c = self.chip
        regions = (c.flash_address, c.flash_bytes), (c.ram_address, c.ram_bytes), (c.code_address, c.code_bytes)
        if not any(start <= address and address + n <= start + size for start, size in regions):
            raise BoardError(f"no memory at {address:#x}..{address + n:#x}")

    def load_code(self, address, code):
        """Writes instructions."""
        self.write(address, code)

    def call(self, address, arguments, stack_top, limit=1 << 32):
        """Calls a function as windowed code does and runs it to its return.

        Args:
            address: of its first instruction.
            arguments: 32-bit ints; those behind the sixth go to the stack.
            stack_top: the stack pointer before it, a multiple of 16.
            limit: instructions after which it is given up; the Cpu is of no use then.

        Returns:
            (a2 as a signed int, instructions, the return included).

        Raises:
            BoardError: if it does not return.
        """
        words = [a & 0xFFFFFFFF for a in arguments]
        on_stack = struct.pack(f"<{len(words[_N_REGISTERS:])}I", *words[_N_REGISTERS:])
        sp = (stack_top - len(on_stack)) & ~15
        self.write(sp, on_stack)
        registers = [sp, *words[:_N_REGISTERS]]
        for i, word in enumerate(registers):
            self._sim.write_u32(self.chip.mailbox + 4 + 4 * i, word)
        self._sim.write_u32(self.chip.mailbox, address)
        self._wait(address, limit)
        result, count = struct.unpack("<iI", self._sim.read_memory(self.chip.mailbox + _RESULT_OFFSET, 8))
        return result, count - _CALL_INSTRUCTIONS

    def _wait(self, address, limit):
        """Runs until the stub has cleared the mailbox, in steps that grow with the time it takes."""
        start, step = self._sim.cycles, _FIRST_STEP_US
        while self._sim.read_u32(self.chip.mailbox):
            try:
                stop = self._sim.run_for(f"{step}us").kind
            except RuntimeError as e:
                stop = str(e)
            done = self._sim.cycles - start
            if stop != "reached" or done > limit:
                reason = f"did not return after {done:,} instructions: {stop}"
                raise BoardError(f"the emulated code at {address:#x} {reason}")
            step = min(2 * step, _LARGEST_STEP_US)
