"""`attn8 install --drive`: the package onto the drive of a CircuitPython board; what does not fit is one sentence."""

import errno
import os
import re
import shlex
import stat
import zipfile

import pytest
from attn8.device import __version__
from click.testing import CliRunner

import readme
from attn8.boards import bundle, drive_install, slot_files
from attn8.random_models import random_model
from in_process import attn8, told

BOOT_OUT = "Adafruit CircuitPython {} on 2026-10-20; {}\nBoard ID:some_board\nUID:0123456789ABCDEF\nboot.py output:\n"
PICO = "Raspberry Pi Pico with rp2040"
CROSS = """#!/bin/sh
[ "$1" = --version ] && {{ echo "{name} on 2026-10-20; mpy-cross emitting mpy v6.3"; exit; }}
arch=0
while [ $# -gt 0 ]; do
  case $1 in
    -march=armv6m) case $* in *_viper*) arch=4 ;; esac ;;
    -o) out=$2 ;;
  esac
  shift
done
printf "C\\006\\\\$(printf %o $((arch << 2 | 3)))\\037" >"$out"
"""


@pytest.fixture(autouse=True)
def no_native(tmp_path, monkeypatch):
    """What this computer has built does not count."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("ATTN8_NATIVE", raising=False)


@pytest.fixture
def drive(tmp_path):
    return make_drive(tmp_path / "CIRCUITPY")


def make_drive(path, version="10.4.0-beta.1", machine=PICO):
    path.mkdir(exist_ok=True)
    (path / "boot_out.txt").write_text(BOOT_OUT.format(version, machine))
    return path


def installed(drive, *options):
    return told("install", "--drive", drive, *options)


def refused(drive, *options):
    code, out, error = attn8("install", "--drive", drive, *options)
    assert code != 0 and out == "" and len(error.splitlines()) == 1
    return code, error


def native(folder, arch, name, first=b"C"):
    path = folder / f"{'cp' if first == b'C' else 'mpy'}-{name}_6.3" / "_attn8.mpy"
    path.parent.mkdir(parents=True)
    path.write_bytes(first + bytes((6, arch << 2 | 3)) + b"\x1f nothing")
    return path


def cross(path, name="CircuitPython 10.4.0"):
    """Writes a program that answers like an mpy-cross, and writes headers only."""
    path.write_text(CROSS.format(name=name))
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def test_sources_go_into_lib_and_old_copies_go_away(drive):
    for old in ("attn8/__init__.py", "lib/attn8/model.mpy", "lib/attn8/notes.txt", "_attn8.mpy", "lib/other.py"):
        (drive / old).parent.mkdir(parents=True, exist_ok=True)
        (drive / old).write_bytes(b"old")
    found = installed(drive)
    assert (found["machine"], found["firmware"], found["native"]) == (PICO, "CircuitPython 10.4.0-beta.1", None)
    assert sorted(found["removed"]) == ["_attn8.mpy", "attn8/__init__.py", "lib/attn8/model.mpy"]
    assert (
        not (drive / "attn8").exists()
        and (drive / "lib/attn8/notes.txt").exists()
        and (drive / "lib/other.py").exists()
    )
    assert f'__version__ = "{__version__}"' in (drive / "lib/attn8/__init__.py").read_text()
    assert not [path for path in found["written"] if "viper" in path]  # its sources would only be tried and refused
    again = installed(drive)
    assert (again["written"], again["removed"]) == ([], []) and again["kept"] == found["written"]
    assert "verified  read back; over a drive nothing is run" in attn8("install", "--drive", drive)[1]


def test_what_was_installed_imports_where_it_lies(drive):
    import subprocess
    import sys

    installed(drive)
    code = "import attn8; print(attn8.__file__, attn8.backend)"
    done = subprocess.run([sys.executable, "-c", code], cwd=drive / "lib", capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(drive / "lib" / "attn8" / "__init__.py"), "python"]


def test_compiler_that_is_named_makes_mpy_files_and_viper_where_native_code_loads(drive, tmp_path):
    found = installed(drive, "--mpy-cross", cross(tmp_path / "mpy-cross"))
    assert "lib/attn8/model.mpy" in found["written"] and "lib/attn8/_viper.mpy" in found["written"]
    assert {(drive / path).read_bytes()[:2] for path in found["written"]} == {b"C\x06"}
    make_drive(drive, "10.3.0")
    found = installed(drive, "--mpy-cross", tmp_path / "mpy-cross")
    assert "lib/attn8/_viper.mpy" in found["removed"]


@pytest.mark.parametrize(
    ("machine", "arch"),
    [
        (PICO, "armv6m"),
        ("Raspberry Pi Pico 2 with rp2350a", "armv7emsp"),
        ("Adafruit Metro M4 Express with samd51j19", "armv7emsp"),
        ("Adafruit Feather with ESP32S3", "xtensawin"),
        ("Board with a with in its name with nRF52840", "armv7emsp"),
        ("Board with RV32", ""),
        ("", ""),
    ],
)
def test_native_module_is_chosen_by_the_processor(machine, arch):
    assert drive_install._arch(machine) == arch


def test_native_module_that_fits_is_taken_and_no_other(drive, tmp_path, monkeypatch):
    native(tmp_path / "native", 4, "armv6m", b"M")
    monkeypatch.setenv("ATTN8_NATIVE", str(tmp_path / "native"))
    assert installed(drive)["native"] is None
    path = native(tmp_path / "native", 4, "armv6m")
    assert installed(drive)["native"] == str(path)
    assert (drive / "lib/_attn8.mpy").read_bytes() == path.read_bytes()
    assert installed(drive, "--pure")["removed"] == ["lib/_attn8.mpy"]
    make_drive(drive, "10.3.0")
    assert installed(drive)["native"] is None


REFUSALS = {
    "no CircuitPython": (None, PICO, "got no boot_out.txt of CircuitPython there, expected the drive of a board"),
    "old firmware": ("10.3.0", PICO, f"{PICO}: got CircuitPython 10.3.0, expected 10.4 or newer, which loads native"),
    "unknown processor": (
        "10.4.0",
        "Toy with \x1b[31mZ80",
        "got 'Toy with \\x1b[31mZ80', whose native code is not known",
    ),
    "other processor": (
        "10.4.0",
        "Metro with rp2350a",
        "no native module for armv7emsp, CircuitPython 10.4.0, in {native}: there is xtensawin for CircuitPython "
        ".mpy 6.3; build one: attn8 build-native --mpy-dir DIR --arch armv7emsp",
    ),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_what_does_not_fit_is_one_sentence(case, drive, tmp_path):
    version, machine, text = REFUSALS[case]
    native(tmp_path / "native", 10, "xtensawin")
    if version:
        make_drive(drive, version, machine)
    else:
        (drive / "boot_out.txt").write_bytes(b"\xff\x00 Adafruit" * 1000)
    code, error = refused(drive, "--native", tmp_path / "native")
    assert code == 1 and text.format(native=tmp_path / "native") in error
    assert not (drive / "lib").exists()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("MicroPython v1.28.0", "got 'MicroPython v1.28.0 on 2026-10-20; mpy-cross emitting mpy v6.3', expected"),
        ("CircuitPython 9.2.1", "expected one of the drive's, CircuitPython 10.4.0-beta.1; CircuitPython's .mpy files"),
    ],
)
def test_compiler_of_another_firmware_is_refused(name, text, drive, tmp_path):
    code, error = refused(drive, "--mpy-cross", cross(tmp_path / "mpy-cross", name))
    assert code == 1 and text in error
    assert "cannot be run" in refused(drive, "--mpy-cross", tmp_path / "nothing")[1]


@pytest.mark.parametrize(
    ("number", "code", "text"),
    [
        (errno.ENOSPC, 3, "the drive is full; remove files there, then try again"),
        (errno.EROFS, 1, "this computer may not write there (Read-only file system); is the drive write-protected"),
        (errno.EIO, 1, "the drive broke off (Input/output error); plug it in again, then try again"),
    ],
)
def test_drive_that_fails_is_told(number, code, text, drive, monkeypatch):
    def fail(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(slot_files.Files, "append", fail)
    got, error = refused(drive)
    assert got == code and text in error


@pytest.mark.parametrize("path", ["attn8", "lib", "lib/attn8", "lib/attn8/model.py"])
def test_link_on_a_drive_costs_no_file_elsewhere(path, drive, tmp_path):
    own = tmp_path / "own"
    own.mkdir()
    (own / "mine.py").write_text("mine")
    (drive / path).parent.mkdir(parents=True, exist_ok=True)
    (drive / path).symlink_to(own if "." not in path else own / "mine.py")
    code, _, error = attn8("install", "--drive", drive, "--pure")
    assert code == 1 and "a link to" in error and error.count("\n") == 1
    assert [file.name for file in own.iterdir()] == ["mine.py"] and (own / "mine.py").read_text() == "mine"


def test_drive_without_room_is_told_before_anything_is_written(drive, monkeypatch):
    monkeypatch.setattr(drive_install.shutil, "disk_usage", lambda path: type("", (), {"free": 10_000}))
    code, error = refused(drive)
    assert code == 3 and "the drive is full: attn8 needs " in error and "10,000 are free" in error
    assert not (drive / "lib").exists()


def test_bytes_that_do_not_come_back_are_told(drive, monkeypatch):
    monkeypatch.setattr(slot_files.Files, "read", lambda folder, name: b"other")
    assert "the drive gives back other bytes" in refused(drive)[1]


def test_port_and_drive_exclude_each_other(drive):
    assert attn8("install", "--drive", drive, "--port", "a0")[0] == 2


def bundled(*options):
    done = CliRunner().invoke(bundle.main, list(map(str, options)))
    return done.exit_code, done.stdout.strip(), done.stderr


def test_bundle_has_the_layout_of_circuitpython(tmp_path):
    code, path, _ = bundled("--out", tmp_path)
    assert (code, path) == (0, str(tmp_path / f"attn8-py-{__version__}.zip"))
    top = f"attn8-py-{__version__}"
    with zipfile.ZipFile(path) as archive:
        names = set(archive.namelist())
        init = archive.read(f"{top}/lib/attn8/__init__.py").decode()
    assert {name.split("/")[1] for name in names} == {"lib", "examples"}
    assert f"{top}/examples/attn8_simpletest.py" in names
    assert re.findall(r"""(__\w+__)\s*=\s*['"](.+)['"]""", init)[0] == ("__version__", __version__)  # as circup does
    before = (tmp_path / f"{top}.zip").read_bytes()
    bundled("--out", tmp_path)
    assert (tmp_path / f"{top}.zip").read_bytes() == before


def test_bundle_of_mpy_files_is_named_by_the_release_of_the_compiler(tmp_path):
    program = cross(tmp_path / "mpy-cross", "CircuitPython 10.4.0-beta.2")
    code, path, _ = bundled("--out", tmp_path, "--mpy-cross", program)
    assert (code, path) == (0, str(tmp_path / f"attn8-10.x-mpy-{__version__}.zip"))
    with zipfile.ZipFile(path) as archive:
        files = {name: archive.read(name) for name in archive.namelist() if "/lib/" in name}
    assert {name.rpartition(".")[2] for name in files} == {"mpy"}
    assert not [name for name in files if "viper" in name]  # one for all processors
    code, _, error = bundled("--mpy-cross", cross(tmp_path / "other", "MicroPython v1.28.0"))
    assert code == 1 and "expected CircuitPython's mpy-cross" in error


def test_commands_of_the_readme_run(drive, tmp_path, monkeypatch):
    (tmp_path / "gestures.a8").write_bytes(random_model(3))
    monkeypatch.chdir(tmp_path)
    for line in readme.command("circuitpython").splitlines():
        words = shlex.split(line.replace("/media/you/CIRCUITPY", str(drive)), comments=True)
        if words[0] == "attn8":
            code, _, error = attn8(*words[1:])
            assert code == 0, error
        else:
            assert words == ["python", "-m", "attn8.boards.bundle"]
            assert bundled()[0] == 0
    assert (drive / "gestures.0.a8").is_file()
    assert (tmp_path / f"attn8-py-{__version__}.zip").is_file()
