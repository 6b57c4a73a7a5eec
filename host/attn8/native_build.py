"""Builds _attn8.mpy, the native module, against a MicroPython or CircuitPython tree that the user names."""

import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from .atomic import write_atomic
from .boards import mip
from .errors import Attn8Error, ToolMissingError
from .runtime import cache_dir, source_folder

SUMS = "SHA256SUMS"
MODULE = "_attn8.mpy"
_ARM = ("arm-none-eabi-gcc", "apt-get install gcc-arm-none-eabi libnewlib-arm-none-eabi")
# What compiles for each architecture of the Makefile, and what brings it.
COMPILERS = {
    "x64": ("gcc", "apt-get install gcc"),
    "x86": ("gcc", "apt-get install gcc-multilib"),
    "armv6m": _ARM,
    "armv7m": _ARM,
    "armv7emsp": _ARM,
    "xtensawin": ("xtensa-esp32-elf-gcc", "install Espressif's toolchain (ESP-IDF) and put it on PATH"),
    "rv32imc": ("riscv64-unknown-elf-gcc", "apt-get install gcc-riscv64-unknown-elf libnewlib-dev"),
}
ARCHS = tuple(COMPILERS)
PARTS = ("conv1d", "attention", "norm", "add", "pool", "table", "stream")  # what a build may leave out


class NativeBuildError(Attn8Error):
    """A tree cannot be built against, or the build failed; the text ends with the line that says why."""


@dataclass(frozen=True)
class Tree:
    """A source tree: its folder, "mpy" or "cp", and the version of its .mpy format, such as "6.3"."""

    path: Path
    implementation: str
    version: str


def open_tree(folder):
    """Returns the Tree of a folder.

    Raises:
        NativeBuildError: if it holds no MicroPython or CircuitPython.
    """
    folder = Path(folder).absolute()
    for member in ("py/dynruntime.mk", "py/persistentcode.h", "tools/mpy_ld.py"):
        if not (folder / member).is_file():
            raise NativeBuildError(
                f"{folder} is no MicroPython or CircuitPython source tree: it has no {member}; "
                "give the top folder of one as --mpy-dir"
            )
    text = (folder / "py" / "persistentcode.h").read_text(encoding="utf-8", errors="replace")
    found = [
        re.search(rf"^#define {name}\s+\(?(\d+)", text, re.MULTILINE) for name in ("MPY_VERSION", "MPY_SUB_VERSION")
    ]
    if not all(found):
        raise NativeBuildError(
            f"{folder}/py/persistentcode.h names no MPY_VERSION and MPY_SUB_VERSION; take another tree"
        )
    implementation = "cp" if (folder / "shared-bindings").is_dir() else "mpy"
    return Tree(folder, implementation, ".".join(m.group(1) for m in found))


def native_folder():
    """Returns where native modules go by default: ~/.cache/attn8/native, or in $XDG_CACHE_HOME."""
    return cache_dir().with_name("native")


def build(mpy_dir, archs, out=None, say=None, partial=False, without=(), portable=False):
    """Builds <out>/<implementation>-<arch>_<version>/_attn8.mpy for each architecture and lists it in SHA256SUMS.

    Beside it lies a package.json: ``mpremote mip install <folder>/package.json`` brings the module to a board.

    Args:
        mpy_dir: top folder of the tree.    archs: names of ARCHS.    out: by default ``native_folder()``.
        say: called with a sentence.    partial: leave out, with a sentence, what has no compiler here.
        without: some of PARTS; the module refuses what needs them.    portable: take the portable kernels for all.

    Returns:
        dict: tree, implementation, version, out, modules (list of dict: arch, file, bytes, sha256), left_out.

    Raises:
        NativeBuildError: if the tree is none, or a build fails.    ToolMissingError: if a compiler or make is missing.
    """
    options = _options(without, portable)
    tree, out, say = open_tree(mpy_dir), Path(out or native_folder()), say or (lambda text: None)
    _need_make()
    left_out, modules = [], []
    for arch in dict.fromkeys(archs):
        try:
            _need_compiler(arch)
        except ToolMissingError as error:
            if not partial:
                raise
            left_out.append(arch)
            say(f"left out: {error}")
            continue
        modules.append(_store(out, f"{tree.implementation}-{arch}_{tree.version}", arch, _compile(tree, arch, options)))
        say(f"built {modules[-1]['file']}")
    if not modules:
        raise ToolMissingError(f"no compiler for any of {', '.join(left_out)}: {COMPILERS[left_out[0]][1]}")
    _list_sums(out, modules)
    head = {"tree": str(tree.path), "implementation": tree.implementation, "version": tree.version, "out": str(out)}
    return {**head, "modules": modules, "left_out": left_out}


def _need_make():
    if not shutil.which("make"):
        raise ToolMissingError("no program make on PATH: apt-get install make")
    for package, name in (("elftools", "pyelftools"), ("ar", "ar")):
        if importlib.util.find_spec(package) is None:
            raise ToolMissingError(f"the Python package {name} is missing: pip install 'attn8[boards]'")


def _need_compiler(arch):
    if arch not in COMPILERS:
        raise NativeBuildError(f"unknown architecture {arch!r}; expected one of: {', '.join(ARCHS)}")
    program, command = COMPILERS[arch]
    if not shutil.which(program):
        raise ToolMissingError(f"no program {program} on PATH, which {arch} needs: {command}")


def _options(without, portable):
    """Returns the variables that parts.mk reads."""
    unknown = [part for part in without if part not in PARTS]
    if unknown:
        raise NativeBuildError(f"without: got {', '.join(unknown)}, expected some of: {', '.join(PARTS)}")
    return {"WITHOUT": " ".join(without), "PORTABLE": int(portable)}


def _compile(tree, arch, options):
    """Returns the bytes of the module."""
    with tempfile.TemporaryDirectory(prefix="attn8_") as folder:
        variables = {
            **{"ARCH": arch, "MPY_DIR": tree.path, "BUILD_ROOT": folder, "PYTHON": sys.executable},
            **{"CORE": source_folder("core"), "BINDING": source_folder("binding")},
            **options,
        }
        command = ["make", "-f", source_folder("natmod") / "Makefile", *(f"{k}={v}" for k, v in variables.items())]
        # The linker of the tree walks through sets: with one seed the same sources give the same bytes.
        environment = {**os.environ, "PYTHONHASHSEED": "0"}
        options = {"capture_output": True, "text": True, "errors": "replace", "check": False, "env": environment}
        done = subprocess.run([str(c) for c in command], cwd=folder, **options)
        module = Path(folder, arch, MODULE)
        if done.returncode or not module.is_file():
            raise NativeBuildError(f"building {arch} against {tree.path} failed: {_reason(done.stdout + done.stderr)}")
        return module.read_bytes()


def _reason(text):
    """Returns the line of a failed build that says most."""
    lines = [line.strip() for line in text.splitlines() if line.strip()] or ["make said nothing"]
    return next(
        (line for line in lines if re.search(r"error|Error: |\*\*\*", line) and not line.startswith("make")), lines[-1]
    )


def _store(out, name, arch, module):
    (out / name).mkdir(parents=True, exist_ok=True)
    write_atomic(out / name / MODULE, module)
    write_atomic(out / name / mip.FILE, mip.native_package().encode())
    file, digest = f"{name}/{MODULE}", hashlib.sha256(module).hexdigest()
    return {"arch": arch, "file": file, "bytes": len(module), "sha256": digest}


def _list_sums(out, modules):
    """Puts the modules into SHA256SUMS, in the form of sha256sum; the lines of others stay."""
    sums = {}
    if (out / SUMS).is_file():
        for line in (out / SUMS).read_text(encoding="utf-8", errors="replace").splitlines():
            digest, _, file = line.partition("  ")
            sums[file] = digest
    sums.update({m["file"]: m["sha256"] for m in modules})
    write_atomic(out / SUMS, "".join(f"{digest}  {file}\n" for file, digest in sorted(sums.items())).encode())


def render(found):
    """Returns the lines that ``attn8 build-native`` prints."""
    return "\n".join(f"{m['bytes']:>7,} bytes  {Path(found['out'], m['file'])}" for m in found["modules"])
