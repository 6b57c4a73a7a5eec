"""The C core for a processor that unicorn_core.py emulates: kernels called one by one, fences around buffers."""

from functools import cache
from types import SimpleNamespace

import m0plus

from attn8.boards import image
from attn8.boards.unicorn_core import FLASH_ADDRESS, RAM_ADDRESS, RAM_BYTES, UnicornCpu
from tools import CORE, ROOT, core_sources, missing, need, run, scratch

BARE = ROOT / "native_modules" / "bare"
FLAGS = ("-std=c99", "-ffreestanding", "-nostdlib", "-fno-tree-loop-distribute-patterns", "-ffunction-sections")
STACK_TOP = RAM_ADDRESS + RAM_BYTES
PROCESSORS = {  # by the name of the compiled code: processor, prefix of the compiler, its flags
    "m33": ("m33", "arm-none-eabi-", ("-mcpu=cortex-m33", "-mthumb")),
    "m4": ("m33", "arm-none-eabi-", ("-mcpu=cortex-m4", "-mthumb")),
    "rv32": ("rv32", "riscv64-unknown-elf-", ("-march=rv32imc_zicsr", "-mabi=ilp32")),
}


def new_cpu(processor):
    """Returns a UnicornCpu, or skips the test."""
    try:
        import unicorn  # noqa: F401
    except ImportError:
        missing("unicorn", "pip install 'attn8[test]'")
    return UnicornCpu(processor)


@cache
def compiled(target, *flags):
    """Compiles the core. Returns its code (bytes for FLASH_ADDRESS), symbols {function: address} and elf (a path)."""
    _, prefix, machine = PROCESSORS[target]
    elf = scratch() / f"core-{target}{'_'.join(flags)}.elf"
    sources = [*core_sources(), *CORE.glob("a8_*.S"), *BARE.glob("*.c")]
    layout = ("-I", BARE, "-I", CORE, "-T", BARE / "rp2040.ld", "-Wl,--no-gc-sections")
    run(need(f"{prefix}gcc"), *machine, *FLAGS, *flags, *layout, *sources, "-lgcc", "-o", elf)
    binary = elf.with_suffix(".bin")
    run(f"{prefix}objcopy", "-O", "binary", elf, binary)
    symbols = image._symbols(run(f"{prefix}nm", "--defined-only", elf))
    return SimpleNamespace(code=binary.read_bytes(), symbols=symbols, elf=elf)


class Core(m0plus.Core):
    """The core of a target and flags in the memory of its processor."""

    def __init__(self, target, *flags):
        self.image, self.processor = compiled(target, *flags), new_cpu(PROCESSORS[target][0])
        self.processor.load_code(FLASH_ADDRESS, self.image.code)
