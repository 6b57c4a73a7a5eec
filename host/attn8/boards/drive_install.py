"""Puts attn8 on the drive of a CircuitPython board, such as CIRCUITPY: no serial line, so nothing is run there."""

import re
import shutil
from pathlib import Path
from types import SimpleNamespace

from ..terminal import one_line
from . import DoesNotFitError, slot_files, via_drive
from .install import MODULE, InstallError, circuitpython_compiler, compiled_package, loadable, native_folders
from .install import native_modules as modules_in
from .mounts import told

_LOADS_NATIVE = (10, 4)
# Processors as boot_out.txt calls them, and whose code their firmware loads. From adafruit/circuitpython, pull requests
# 11332 (RP2), 11355 (STM32F4), 11356 (SAMx5x), 11360 (nRF52) and 11392 (Espressif), of September 2026.
_ARCHS = {
    **{"rp2040": "armv6m", "rp2350": "armv7emsp", "samd51": "armv7emsp", "same51": "armv7emsp", "same54": "armv7emsp"},
    **{"nrf52840": "armv7emsp", "nrf52833": "armv7emsp", "stm32f4": "armv7emsp", "esp32c3": "rv32imc"},
    **{"esp32c6": "rv32imc", "esp32s2": "xtensawin", "esp32s3": "xtensawin"},
}
_OURS = ("attn8/*.py", "attn8/*.mpy", "_attn8.py", MODULE)


def install(drive=None, native=None, pure=False, mpy_cross=None, progress=None):
    """Installs attn8 in the lib folder of a drive, where CircuitPython looks for libraries.

    Args:
        drive: see via_drive.find_drive.    native: folder of native modules, one of which must fit; without it one is
            taken where one fits.    pure: no native module.    mpy_cross: path of CircuitPython's compiler; without it
            the sources are copied.    progress: called with (file, bytes done, bytes in all).

    Returns:
        dict: port (the drive), machine, firmware, version, native (path or None), written, kept, removed (lists of
        paths), written_bytes.

    Raises:
        InstallError: if the folder is no drive of CircuitPython, or no native module fits.    LinkError.
        DoesNotFitError: if the drive is full.    ToolMissingError.
    """
    drive = via_drive.find_drive(drive)
    machine, firmware = map(one_line, via_drive.machine(drive))
    if not firmware:
        raise InstallError(
            f"{drive}: got no boot_out.txt of CircuitPython there, expected the drive of a board, such as CIRCUITPY"
        )
    module = None if pure else _find_native(machine, firmware, native)
    files = {f"lib/attn8/{name}": data for name, data in _package(machine, firmware, mpy_cross).items()}
    if module:
        files[f"lib/{MODULE}"] = module.data
    with told(drive, InstallError):
        done = _copy(drive, files, progress)
    head = {"port": drive, "machine": machine, "firmware": firmware, "native": str(module.path) if module else None}
    return {**head, "version": _version(), **done}


def _version():
    from ..device import __version__

    return __version__


def _package(machine, firmware, mpy_cross):
    """Returns {file name: bytes} of the package; with machine code of viper where the firmware loads such."""
    compiler = circuitpython_compiler(mpy_cross)
    if compiler and compiler.release[:1] != _release(firmware)[:1]:
        raise InstallError(
            f"{mpy_cross}: got '{compiler.text}', expected one of the drive's, {firmware}; CircuitPython's .mpy files "
            "are for one major version"
        )
    arch = _arch(machine) if _loads_native(firmware) else ""
    version = compiler and compiler.mpy_version
    board = SimpleNamespace(implementation="circuitpython", mpy_version=version, arch=arch)
    return compiled_package(board, mpy_cross)


def _release(firmware):
    """Returns the numbers of "CircuitPython 10.4.0-beta.1" as a tuple of 3 int, (0, 0, 0) if there are none."""
    found = re.search(r"(\d{1,4})\.(\d{1,4})\.(\d{1,4})", firmware)
    return tuple(map(int, found.groups())) if found else (0, 0, 0)


def _loads_native(firmware):
    return _release(firmware) >= _LOADS_NATIVE


def _find_native(machine, firmware, named):
    """Returns the NativeModule for a processor, or None where none fits and none was asked for."""
    arch, loads = _arch(machine), _loads_native(firmware)
    found = [m for folder in native_folders(named) for m in modules_in(folder) if m.implementation == b"C"]
    for wanted in loadable(arch) if arch and loads else ():
        fitting = [m for m in found if m.arch == wanted]
        if fitting:
            return max(fitting, key=lambda m: m.version)
    if named is None:
        return None
    oldest = ".".join(map(str, _LOADS_NATIVE))
    if arch and not loads:
        raise InstallError(f"{machine}: got {firmware}, expected {oldest} or newer, which loads native modules; --pure")
    if not arch:
        raise InstallError(
            f"boot_out.txt: got '{machine}', whose native code is not known here; take --port, which asks the board"
        )
    there = "; ".join(dict.fromkeys(map(str, found))) or "none for CircuitPython"
    raise InstallError(
        f"no native module for {arch}, {firmware}, in {named}: there is {there}; build one: attn8 build-native "
        f"--mpy-dir DIR --arch {arch} (DIR: the source tree of {firmware}), or take --pure"
    )


def _arch(machine):
    """Returns the architecture of a board by the processor behind the last "with", else ""."""
    processor = machine.rpartition(" with ")[2].lower().replace("-", "")
    return next((arch for name, arch in _ARCHS.items() if processor.startswith(name)), "")


def _copy(drive, files, progress):
    """Writes the files that differ and removes what would be found before them. Returns dict of lists of paths."""
    drive = Path(drive)
    _check_links(drive, files)
    there = {
        file.relative_to(drive).as_posix() for top in ("", "lib") for glob in _OURS for file in (drive / top).glob(glob)
    }
    new = [path for path, data in files.items() if path not in there or (drive / path).read_bytes() != data]
    removed = sorted(there - set(files))
    total = sum(len(files[path]) for path in new)
    _check_room(drive, {path: files[path] for path in new})
    for path in removed:
        (drive / path).unlink()
    if (drive / "attn8").is_dir() and not any((drive / "attn8").iterdir()):
        (drive / "attn8").rmdir()
    (drive / "lib" / "attn8").mkdir(parents=True, exist_ok=True)
    done = 0
    for path in new:
        _write(slot_files.Files((drive / path).parent), Path(path).name, files[path])
        done += len(files[path])
        if progress:
            progress(path, done, total)
    kept = [path for path in files if path not in new]
    return {"written": new, "kept": kept, "removed": removed, "written_bytes": total}


def _check_links(drive, files):
    """Raises InstallError for a link: what lies behind it is not the drive's, and would be replaced or removed."""
    for path in ("attn8", "lib", "lib/attn8", *files):
        if (link := drive / path).is_symlink():
            raise InstallError(f"{link}: a link to {link.readlink()}, expected a file or folder there; remove it")


def _write(folder, name, data):
    folder.empty(name)
    folder.append(name, data)
    if folder.read(name) != data:
        raise InstallError(f"{folder.folder / name}: the drive gives back other bytes; try again, or format it anew")


def _check_room(drive, new):
    """Raises DoesNotFitError before anything is written. A cluster of such a FAT has up to 4 kB."""
    room = shutil.disk_usage(drive).free + sum((drive / path).stat().st_size for path in new if (drive / path).exists())
    needed = sum(map(len, new.values()))
    if needed > room:
        raise DoesNotFitError(
            f"{drive}: the drive is full: attn8 needs {needed:,} bytes, {room:,} are free; remove files there"
        )


def render(found):
    """Returns the lines that ``attn8 install --drive`` prints."""
    n = len(found["written"]), len(found["kept"]), len(found["removed"])
    return "\n".join(
        (
            f"drive     {found['port']}: {found['machine']}, {found['firmware']}",
            f"package   attn8 {found['version']} in lib/attn8: {n[0]} files written ({found['written_bytes']:,} "
            f"bytes), {n[1]} were there, {n[2]} old ones removed",
            f"native    {found['native'] or 'none'}",
            "verified  read back; over a drive nothing is run: attn8.load(...).selftest() does it on the board",
        )
    )
