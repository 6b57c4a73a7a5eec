"""Emulated processors that count instructions: a Cortex-M33, which also runs what is compiled for a Cortex-M4, and an
RV32IMC as in an ESP32-C3 or the RISC-V cores of an RP2350.

The processors are Unicorn's, which knows no cycles. It reports each block of code that it enters; a block runs to its
end, so the lengths of the blocks add up to what single steps would count, many times faster. An instruction that its
condition skips counts: it was issued.
"""

import struct
from dataclasses import dataclass
from types import ModuleType

from ..errors import ToolMissingError
from . import BoardError

FLASH_ADDRESS, FLASH_BYTES = 0x10000000, 2 << 20  # the map of an RP2040 for every target: one linker layout serves
RAM_ADDRESS, RAM_BYTES = 0x20000000, 264 << 10
RETURN_ADDRESS = FLASH_ADDRESS + FLASH_BYTES - 4  # no instruction is ever run there


@dataclass(frozen=True)
class _Registers:
    """What a target's C calls want: numbers of its registers, alignment of its stack, marks of its code addresses."""

    arguments: tuple
    sp: int
    ra: int
    pc: int
    stack_alignment: int
    code_bit: int  # set in an address that is jumped to


def _arm(uc):
    from unicorn import arm_const as arm

    core = uc.Uc(uc.UC_ARCH_ARM, uc.UC_MODE_THUMB | uc.UC_MODE_MCLASS)
    core.ctl_set_cpu_model(arm.UC_CPU_ARM_CORTEX_M33)
    arguments = tuple(arm.UC_ARM_REG_R0 + i for i in range(4))
    return core, _Registers(arguments, arm.UC_ARM_REG_SP, arm.UC_ARM_REG_LR, arm.UC_ARM_REG_PC, 8, 1)


def _riscv(uc):
    from unicorn import riscv_const as riscv

    core = uc.Uc(uc.UC_ARCH_RISCV, uc.UC_MODE_RISCV32)
    core.ctl_set_cpu_model(riscv.UC_CPU_RISCV32_SIFIVE_E31)
    arguments = tuple(riscv.UC_RISCV_REG_A0 + i for i in range(8))
    return core, _Registers(arguments, riscv.UC_RISCV_REG_SP, riscv.UC_RISCV_REG_RA, riscv.UC_RISCV_REG_PC, 16, 0)


def _is_long_thumb(halfword):
    return halfword >= 0xE800


def _is_long_riscv(halfword):
    return halfword & 3 == 3


_TARGETS = {"m33": (_arm, _is_long_thumb), "rv32": (_riscv, _is_long_riscv)}


def _emulator() -> ModuleType:
    try:
        import unicorn
    except ImportError:
        raise ToolMissingError("unicorn is not installed; pip install 'attn8[emulate]'") from None
    return unicorn


class UnicornCpu:
    """A processor with flash and RAM.

    Args:
        target: "m33" or "rv32".

    Attributes:
        unit: "instructions", what ``call`` counts.
        source: name and version of the emulator.

    Raises:
        BoardError: for another target.
        ToolMissingError: without unicorn.
    """

    unit = "instructions"

    def __init__(self, target):
        if target not in _TARGETS:
            raise BoardError(f"unknown processor {target!r}; expected one of: {', '.join(_TARGETS)}")
        uc = _emulator()
        make, self._is_long = _TARGETS[target]
        self._core, self._registers = make(uc)
        self._error = uc.UcError
        self.source = f"unicorn {uc.__version__}"
        self._core.mem_map(FLASH_ADDRESS, FLASH_BYTES, uc.UC_PROT_READ | uc.UC_PROT_EXEC)
        self._core.mem_map(RAM_ADDRESS, RAM_BYTES, uc.UC_PROT_READ | uc.UC_PROT_WRITE)
        self._core.hook_add(uc.UC_HOOK_BLOCK, self._enter)
        self._lengths = {}

    def write(self, address, data):
        """Writes bytes into flash or RAM."""
        self._check(address, len(data))
        self._core.mem_write(address, bytes(data))

    def read(self, address, n):
        """Returns n bytes of flash or RAM."""
        self._check(address, n)
        return bytes(self._core.mem_read(address, n))

    def _check(self, address, n):
        for start, room in ((FLASH_ADDRESS, FLASH_BYTES), (RAM_ADDRESS, RAM_BYTES)):
            if start <= address and address + n <= start + room:
                return
        raise BoardError(f"no memory at {address:#x}..{address + n:#x}")

    def load_code(self, address, code):
        """Writes instructions; those of earlier code are forgotten."""
        self.write(address, code)
        self._core.ctl_flush_tb()
        self._lengths = {}

    def call(self, address, arguments, stack_top, limit=1 << 32):
        """Calls a function as C does and runs it to its return.

        Args:
            address: of its first instruction.
            arguments: 32-bit ints; those that have no register go to the stack.
            stack_top: the stack pointer before it, a multiple of 16.
            limit: instructions after which it is given up.

        Returns:
            (the function's result as a signed int, instructions, return instruction included).

        Raises:
            BoardError: if it does not return, or touches memory that is not there.
        """
        to = self._registers
        words = [a & 0xFFFFFFFF for a in arguments]
        on_stack = struct.pack(f"<{len(words[len(to.arguments) :])}I", *words[len(to.arguments) :])
        sp = (stack_top - len(on_stack)) & -to.stack_alignment
        self.write(sp, on_stack)
        for register, value in zip(to.arguments, words, strict=False):
            self._core.reg_write(register, value)
        self._core.reg_write(to.sp, sp)
        self._core.reg_write(to.ra, RETURN_ADDRESS | to.code_bit)
        count = self._run(address | to.code_bit, limit)
        result = self._core.reg_read(to.arguments[0])
        return (result & 0xFFFFFFFF ^ 0x80000000) - 0x80000000, count

    def _run(self, address, limit):
        """Runs from an address to the return address. Returns the instructions."""
        self._count, self._limit = 0, limit
        try:
            self._core.emu_start(address, RETURN_ADDRESS)
        except self._error as e:
            raise BoardError(f"the emulated code failed at {self._pc():#x}: {e}") from None
        if self._pc() != RETURN_ADDRESS:
            raise BoardError(f"the emulated code did not return after {limit:,} instructions (at {self._pc():#x})")
        return self._count

    def _pc(self):
        return self._core.reg_read(self._registers.pc)

    def _enter(self, core, address, size, _):
        n = self._lengths.get((address, size))
        if n is None:
            n = self._lengths[address, size] = self._decode(core.mem_read(address, size))
        self._count += n
        if self._count > self._limit:
            core.emu_stop()

    def _decode(self, code):
        """Returns how many instructions these bytes are."""
        halfwords = struct.unpack(f"<{len(code) // 2}H", code)
        n = i = 0
        while i < len(halfwords):
            i += 2 if self._is_long(halfwords[i]) else 1
            n += 1
        return n
