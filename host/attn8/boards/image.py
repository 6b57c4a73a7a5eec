"""The bare-metal image: the C core cross-compiled for a processor, kept in the user's cache."""

import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

from .. import arena
from ..errors import ToolMissingError
from ..runtime import cache_dir, source_folder
from . import BoardError, labwired_core, xtensa_windowed

_OPTIMIZATION = "-O2"
_FLAGS = (
    *("-std=c99", _OPTIMIZATION, "-ffreestanding", "-nostdlib"),
    *("-fno-tree-loop-distribute-patterns", "-ffunction-sections", "-Wl,--gc-sections"),
)
_FLASH, _FLASH_BYTES, _CODE_BYTES = 0x10000000, 2 << 20, 256 << 10  # rp2040.ld


@dataclass(frozen=True)
class Toolchain:
    """What compiles for a target, and where it finds its memory.

    Attributes:
        prefix: of the names of the compiler's programs.    package: what apt-get installs.
        flags: that choose the processor.
        file: (address, bytes) for a model file.    ram: (address, bytes).
        code: address of the instructions.
        constants: address of the constant tables; None where they lie behind the instructions.
        script: linker script in native_modules/bare.    wrapper: a Python file that is called as the compiler.
        arena: whose plan its kernels want, one of arena.TARGETS.
    """

    prefix: str
    package: str
    flags: tuple
    file: tuple = (_FLASH + _CODE_BYTES, _FLASH_BYTES - _CODE_BYTES - 4)  # calls return to the last word of the flash
    ram: tuple = (0x20000000, 264 << 10)
    code: int = _FLASH
    constants: int | None = None
    script: str = "rp2040.ld"
    wrapper: str | None = None
    arena: str = arena.PORTABLE


def _xtensa(chip):
    """Code in the RAM for instructions, tables and file in the flash as the data bus sees it."""
    constants = (chip.flash_address, _CODE_BYTES)
    return Toolchain(
        *("xtensa-lx106-elf-", "gcc-xtensa-lx106", ()),
        file=(sum(constants), chip.flash_bytes - _CODE_BYTES),
        ram=(chip.ram_address, chip.ram_bytes),
        code=chip.code_address,
        constants=chip.flash_address,
        script="xtensa.ld",
        wrapper=xtensa_windowed.__file__,
    )


# RP2040 and RP2350 have flash and RAM at the same addresses; the counts of an RV32IMC depend on none.
TOOLCHAINS = {
    "m0plus": Toolchain("arm-none-eabi-", "gcc-arm-none-eabi", ("-mcpu=cortex-m0plus", "-mthumb"), arena=arena.M0PLUS),
    "m33": Toolchain("arm-none-eabi-", "gcc-arm-none-eabi", ("-mcpu=cortex-m33", "-mthumb"), arena=arena.BLOCKED),
    "rv32": Toolchain(
        *("riscv64-unknown-elf-", "gcc-riscv64-unknown-elf", ("-march=rv32imc_zicsr", "-mabi=ilp32", "-mno-relax")),
        arena=arena.BLOCKED,
    ),
    **{name: _xtensa(chip) for name, chip in labwired_core.CHIPS.items()},
}


@dataclass(frozen=True)
class Image:
    """A linked image.

    Attributes:
        code_hex: the bytes to place at ``address``, in hexadecimal.
        constants_hex: those to place at Toolchain.constants, if there is such a place.
        symbols: {function: address}.
        code_bytes: instructions and constant tables, as ``size`` says.
        compiler: name, version, optimization and processor.
    """

    code_hex: str
    constants_hex: str
    address: int
    symbols: dict
    code_bytes: int
    compiler: str

    @property
    def code(self):
        return bytes.fromhex(self.code_hex)

    @property
    def constants(self):
        return bytes.fromhex(self.constants_hex)


def build(target="m0plus", *flags):
    """Returns the Image of the core, compiled once for each state of sources, flags and compiler.

    Args:
        target: a name of TOOLCHAINS.
        flags: more flags of the compiler, such as "-DA8_PORTABLE" for the kernels that every target has.

    Raises:
        ToolMissingError: without the cross compiler.
        BoardError: if it fails.
    """
    tools = TOOLCHAINS[target]
    version = _run(tools, "gcc", "-dumpfullversion").strip()
    compiler = " ".join([f"{tools.prefix}gcc {version}", _OPTIMIZATION, *tools.flags, *flags])
    core, bare = source_folder("core"), source_folder("bare")
    cached = _cache_folder() / _digest(tools, compiler, core, bare) / "image.json"
    try:
        return Image(**json.loads(cached.read_text()))
    except (OSError, ValueError, TypeError):
        image = _compile(tools, compiler, flags, core, bare)
    _store(cached, image)
    return image


def _cache_folder():
    return cache_dir().with_name("bare")


def _digest(tools, compiler, *folders):
    digest = hashlib.sha256(" ".join([compiler, *_FLAGS, *_addresses(tools)]).encode())
    sources = sorted(p for folder in folders for p in folder.iterdir() if p.suffix in (".c", ".h", ".S", ".ld"))
    for path in [*sources, *([Path(tools.wrapper)] if tools.wrapper else [])]:
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:32]


def _compile(tools, compiler, flags, core, bare):
    sources = sorted([*core.glob("*.[cS]"), bare / "support.c"])
    with tempfile.TemporaryDirectory() as folder:
        elf, options = os.path.join(folder, "core.elf"), (*tools.flags, *_FLAGS, *flags)
        objects = [os.path.join(folder, f"{source.name}.o") for source in sources]
        for source, target in zip(sources, objects, strict=True):
            _run(tools, "gcc", *options, "-I", str(bare), "-I", str(core), "-c", str(source), "-o", target)
        _run(tools, "gcc", *options, *_addresses(tools), "-T", str(bare / tools.script), *objects, "-lgcc", "-o", elf)
        code, constants = _sections(tools, elf)
        symbols = _symbols(_run(tools, "nm", "--defined-only", elf))
        code_bytes = int(_run(tools, "size", elf).splitlines()[1].split()[0])
    return Image(code.hex(), constants.hex(), tools.code, symbols, code_bytes, compiler)


def _addresses(tools):
    """Returns what tells a linker script of several chips the addresses."""
    if tools.constants is None:
        return ()
    return f"-Wl,--defsym=code_address={tools.code:#x}", f"-Wl,--defsym=constants_address={tools.constants:#x}"


def _sections(tools, elf):
    """Returns the bytes of the instructions and of the constants."""
    found, only = [], ("-j", ".text") if tools.constants else ()
    for options in (only, ("-j", ".rodata")) if tools.constants else (only,):
        _run(tools, "objcopy", "-O", "binary", *options, elf, f"{elf}.bin")
        found.append(Path(f"{elf}.bin").read_bytes())
    return (*found, b"")[:2]


def _symbols(text):
    rows = [line.split() for line in text.splitlines()]
    return {name: int(address, 16) & ~1 for address, kind, name in rows if kind in "Tt" and not name.startswith("$")}


def _run(tools, tool, *arguments):
    """Runs a program of a Toolchain. Returns its stdout."""
    name = tools.prefix + tool
    path = shutil.which(name)
    if path is None:
        raise ToolMissingError(f"{name} is not installed; apt-get install {tools.package}")
    command = [sys.executable, tools.wrapper] if tool == "gcc" and tools.wrapper else [path]
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        reason = next((line for line in done.stderr.splitlines() if "error" in line), done.stderr.strip())
        raise BoardError(f"{name} failed: {reason}")
    return done.stdout


def _store(path, image):
    """Keeps an image; a cache that cannot be written only costs the next call a compilation."""
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False) as file:
            json.dump(asdict(image), file)
        os.replace(file.name, path)
