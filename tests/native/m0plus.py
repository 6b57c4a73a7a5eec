"""Kernels of the core on an emulated Cortex-M0+, one call at a time, with a fence around every buffer."""

import struct

import pytest

from attn8 import arena
from attn8.boards import image
from attn8.boards.cortex_m0plus import FLASH_ADDRESS, FLASH_BYTES, RAM_ADDRESS, RAM_BYTES, Cpu
from tools import missing, need

FENCE = b"\xa5" * 16
STACK_TOP, STACK_BYTES = RAM_ADDRESS + RAM_BYTES, 512
FIRST_BUFFER = RAM_ADDRESS + 0x100


class Unicorn:
    """The same calls as Cpu, faster, without cycles."""

    def __init__(self):
        try:
            from unicorn import UC_ARCH_ARM, UC_MODE_MCLASS, UC_MODE_THUMB, Uc
            from unicorn.arm_const import UC_CPU_ARM_CORTEX_M0
        except ImportError:
            missing("unicorn", "pip install 'attn8[emulate]'")
        self._uc = Uc(UC_ARCH_ARM, UC_MODE_THUMB | UC_MODE_MCLASS)
        self._uc.ctl_set_cpu_model(UC_CPU_ARM_CORTEX_M0)
        self._uc.mem_map(FLASH_ADDRESS, FLASH_BYTES, 5)
        self._uc.mem_map(RAM_ADDRESS, RAM_BYTES, 3)

    def load_code(self, address, code):
        self._uc.mem_write(address, code)

    def write(self, address, data):
        self._uc.mem_write(address, bytes(data))

    def read(self, address, n):
        return bytes(self._uc.mem_read(address, n))

    def call(self, address, arguments, stack_top):
        from unicorn import arm_const as arm

        words = [a & 0xFFFFFFFF for a in arguments]
        on_stack = struct.pack(f"<{len(words[4:])}I", *words[4:])
        sp = (stack_top - len(on_stack)) & ~7
        self.write(sp, on_stack)
        for i, value in enumerate(words[:4]):
            self._uc.reg_write(arm.UC_ARM_REG_R0 + i, value)
        end = FLASH_ADDRESS + FLASH_BYTES - 4
        self._uc.reg_write(arm.UC_ARM_REG_SP, sp)
        self._uc.reg_write(arm.UC_ARM_REG_LR, end | 1)
        self._uc.emu_start(address | 1, end)
        assert self._uc.reg_read(arm.UC_ARM_REG_PC) == end and self._uc.reg_read(arm.UC_ARM_REG_SP) == sp
        return self._uc.reg_read(arm.UC_ARM_REG_R0), 0


class Fenced:
    """Buffers in the memory of ``processor`` from first_buffer on, with a fence around each."""

    first_buffer, buffers_end = FIRST_BUFFER, STACK_TOP - 4096

    def place(self, *buffers, offsets=()):
        """Writes buffers (bytes, or a number of bytes) behind each other, at 4*i + offset. Returns their addresses."""
        at, addresses, self._fences = self.first_buffer, [], []
        offsets = (*offsets, *(0,) * (len(buffers) - len(offsets)))
        for buffer, offset in zip(buffers, offsets, strict=True):
            data = bytes(buffer) if isinstance(buffer, int) else memoryview(buffer).tobytes()
            at = ((at + len(FENCE) + 3) & ~3) + offset
            self.processor.write(at - len(FENCE), FENCE + data + FENCE)
            self._fences += [at - len(FENCE), at + len(data)]
            addresses.append(at)
            at += len(data) + len(FENCE)
        assert at < self.buffers_end
        return addresses

    def call_painted(self, name, arguments, stack_top, stack_bytes):
        """Calls a function; sets stack_bytes to what of so many it used. Returns (result, count)."""
        self.processor.write(stack_top - stack_bytes, FENCE * (stack_bytes // len(FENCE)))
        result, count = self.processor.call(self.symbols[name], arguments, stack_top)
        self.stack_bytes = len(self.processor.read(stack_top - stack_bytes, stack_bytes).lstrip(FENCE[:1]))
        assert all(self.processor.read(at, len(FENCE)) == FENCE for at in self._fences), "a store left its buffer"
        return result, count


class Core(Fenced):
    """The core in the memory of a processor; ``call`` compares the fences between its buffers."""

    product_scratch = staticmethod(arena.product_scratch_bytes)
    attention_scratch = staticmethod(arena.attention_scratch_bytes)

    def __init__(self, processor=Unicorn, *flags):
        need("arm-none-eabi-gcc")
        self.image, self.processor = image.build("m0plus", *flags), processor()
        self.processor.load_code(self.image.address, self.image.code)

    @property
    def symbols(self):
        return self.image.symbols

    def call(self, name, *arguments):
        """Calls a function; an argument may be the bytes of a struct. Returns its cycles (0 in unicorn)."""
        structs = RAM_ADDRESS
        words = []
        for argument in arguments:
            if isinstance(argument, bytes):
                self.processor.write(structs, argument)
                words.append(structs)
                structs += (len(argument) + 3) & ~3
            else:
                words.append(argument)
        assert structs <= FIRST_BUFFER
        self.result, cycles = self.call_painted(name, words, STACK_TOP, 1024)
        return cycles


@pytest.fixture(scope="module", params=["-O0", "-Os", "-O2", "-O3"])
def unicorn_core(request):
    return Core(Unicorn, request.param)


@pytest.fixture(scope="module")
def counted_core():
    return Core(Cpu)
