"""The bare-metal image: the C core cross-compiled for a Cortex-M0+, kept in the user's cache."""

import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

from ..errors import ToolMissingError
from ..runtime import cache_dir, source_folder
from . import BoardError

_PREFIX = "arm-none-eabi-"
_OPTIMIZATION = "-O2"
_ADDRESS = 0x10000000  # the origin of rp2040.ld
_FLAGS = (
    *("-mcpu=cortex-m0plus", "-mthumb", "-std=c99", _OPTIMIZATION, "-ffreestanding", "-nostdlib"),
    *("-fno-tree-loop-distribute-patterns", "-ffunction-sections", "-Wl,--gc-sections"),
)


@dataclass(frozen=True)
class Image:
    """A linked image.

    Attributes:
        code_hex: the bytes to place at ``address``, in hexadecimal.
        symbols: {function: address}.
        code_bytes: instructions and constant tables, as ``size`` says.
        compiler: name, version and optimization.
    """

    code_hex: str
    address: int
    symbols: dict
    code_bytes: int
    compiler: str

    @property
    def code(self):
        return bytes.fromhex(self.code_hex)


def build(*flags):
    """Returns the Image of the core, compiled once for each state of sources, flags and compiler.

    Args:
        flags: more flags of the compiler, such as "-DA8_PORTABLE" for the kernels that every target has.

    Raises:
        ToolMissingError: without the cross compiler.
        BoardError: if it fails.
    """
    compiler = f"{_PREFIX}gcc {_run('gcc', '-dumpfullversion').strip()} {_OPTIMIZATION}"
    core, bare = source_folder("core"), source_folder("bare")
    cached = _cache_folder() / _digest((compiler, *flags), core, bare) / "image.json"
    try:
        return Image(**json.loads(cached.read_text()))
    except (OSError, ValueError, TypeError):
        image = _compile(compiler, flags, core, bare)
    _store(cached, image)
    return image


def _cache_folder():
    return cache_dir().with_name("bare")


def _digest(options, *folders):
    digest = hashlib.sha256(" ".join([*options, *_FLAGS]).encode())
    for path in sorted(p for folder in folders for p in folder.iterdir() if p.suffix in (".c", ".h", ".S", ".ld")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:32]


def _compile(compiler, flags, core, bare):
    sources = sorted(map(str, [*core.glob("*.[cS]"), *bare.glob("*.c")]))
    with tempfile.TemporaryDirectory() as folder:
        elf, binary = os.path.join(folder, "core.elf"), os.path.join(folder, "core.bin")
        include = ("-I", str(bare), "-I", str(core), "-T", str(bare / "rp2040.ld"))
        _run("gcc", *_FLAGS, *flags, *include, *sources, "-lgcc", "-o", elf)
        _run("objcopy", "-O", "binary", elf, binary)
        symbols = _symbols(_run("nm", "--defined-only", elf))
        code_bytes = int(_run("size", elf).splitlines()[1].split()[0])
        code = Path(binary).read_bytes()
    return Image(code.hex(), _ADDRESS, symbols, code_bytes, compiler)


def _symbols(text):
    rows = [line.split() for line in text.splitlines()]
    return {name: int(address, 16) & ~1 for address, kind, name in rows if kind in "Tt" and not name.startswith("$")}


def _run(tool, *arguments):
    """Runs a tool of the cross compiler. Returns its stdout."""
    path = shutil.which(_PREFIX + tool)
    if path is None:
        raise ToolMissingError(f"{_PREFIX}{tool} is not installed; apt-get install gcc-arm-none-eabi")
    done = subprocess.run([path, *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        reason = next((line for line in done.stderr.splitlines() if "error" in line), done.stderr.strip())
        raise BoardError(f"{_PREFIX}{tool} failed: {reason}")
    return done.stdout


def _store(path, image):
    """Keeps an image; a cache that cannot be written only costs the next call a compilation."""
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False) as file:
            json.dump(asdict(image), file)
        os.replace(file.name, path)
