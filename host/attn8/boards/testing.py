"""The tests of the device package and golden vectors, run on a board: files are served over the cable, none stay.

CircuitPython mounts no folder of a computer; there they are copied and removed again.
"""

import contextlib
import importlib.resources
import importlib.util
import re
import shutil
import tempfile
from pathlib import Path

from . import BoardError
from .deploy import check_package
from .facts import read_facts
from .install import compile_files, golden_model
from .link import LinkError, RemoteError, open_link

_HOST_ONLY = ("make_files", "mutants")
_MODULE_S = 900  # without a line; bytecode on a slow board
_LINE_BYTES = 4096
_LINE = re.compile(r"(ok|FAILED) (\w+) (\w+) ?(.*)")
_GOLDEN = {"golden_small.a8": "a small model", "golden_shipped.a8": "the shipped model"}
_COPIED = "/.attn8_tests"  # on a board that mounts no folder
_RUN = "import case, run\ncase.folder = '.'\nrun.run_module({module!r})"
_SELFTEST = "import attn8\nattn8.load({file!r}).selftest()"


class DeviceTestError(BoardError):
    """The tests cannot run on a board."""


def device_tests_folder():
    """Returns the folder of the device tests: in an installed wheel, else in the source tree."""
    places = [Path(__file__).resolve().parents[3] / "tests" / "device"]
    with contextlib.suppress(ModuleNotFoundError):
        places.insert(0, Path(str(importlib.resources.files("attn8.device_tests").joinpath("run.py"))).parent)
    for place in places:
        if (place / "run.py").is_file():
            return place
    raise DeviceTestError("the device tests are not installed: pip install --force-reinstall attn8")


def device_test(port=None, names=(), say=None):
    """Runs the device tests on a board, with an empty heap for each module, and golden vectors.

    Args:
        port: see link.open_link.    names: of test modules, without "test_device_"; by default all.
        say: called with a line for each test.

    Returns:
        dict: port, machine, firmware, backend, passed (number), failed (list of text), golden (dict: model, "same
        bytes", "does not fit" or what is wrong).

    Raises:
        DeviceTestError: for an unknown name.    DeployError: without attn8 there.
        LinkError: also if the board can neither mount a folder nor write to its files.    DoesNotFitError.
    """
    say = say or (lambda text: None)
    with open_link(port) as link, tempfile.TemporaryDirectory(prefix="attn8_") as folder:
        facts, package = read_facts(link), check_package(link)
        modules = _fill(Path(folder), facts, names)
        with _served(link, Path(folder)) as there:
            lines = [line for module in modules for line in _run(link, there, module, say)]
            golden = {what: _selftest(link, there, file, what, say) for file, what in _GOLDEN.items()}
    failed = [" ".join(found[1:]).strip() for found in lines if found[0] == "FAILED"]
    return {
        **{"port": link.device, "machine": facts.machine, "firmware": facts.firmware, "backend": package.backend},
        **{"passed": len(lines) - len(failed), "failed": failed, "golden": golden},
    }


def passed(found):
    """Says whether a board did all right; a model that does not fit is no fault."""
    return not found["failed"] and set(found["golden"].values()) <= {"same bytes", "does not fit"}


def _fill(folder, facts, names):
    """Puts the tests, compiled for the board, and their files into a folder. Returns the names of their modules."""
    from ..config import shipped_model_path

    source = device_tests_folder()
    files = [file for file in sorted(source.glob("*.py")) if file.stem not in _HOST_ONLY]
    modules = [file.stem for file in files if file.stem.startswith("test_")]
    wanted = [f"test_device_{name.removeprefix('test_device_')}" for name in names] or modules
    for name in wanted:
        if name not in modules:
            known = ", ".join(m.removeprefix("test_device_") for m in modules)
            raise DeviceTestError(f"unknown test {name.removeprefix('test_device_')!r}; expected one of: {known}")
    if facts.implementation == "micropython":
        for file, data in compile_files(files, facts).items():
            (folder / f"{file.stem}.mpy").write_bytes(data)
    else:
        for file in files:
            shutil.copy(file, folder)
    _make_files(source)(folder)
    (folder / "golden_small.a8").write_bytes(golden_model())
    (folder / "golden_shipped.a8").write_bytes(shipped_model_path().read_bytes())
    return wanted


def _make_files(source):
    """Returns the function that writes the files of the tests."""
    spec = importlib.util.spec_from_file_location("attn8_make_files", source / "make_files.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.make_files


@contextlib.contextmanager
def _served(link, folder):
    """Gives how a board reaches the files of a folder: a function of no arguments, which goes there."""
    if link.can_mount():
        yield lambda: link.mount(folder)
        return
    try:
        link.mkdir(_COPIED)
        for file in sorted(folder.iterdir()):
            link.put(file.read_bytes(), f"{_COPIED}/{file.name}")
        yield lambda: link.exec(f"import os\nos.chdir({_COPIED!r})")
    finally:
        with contextlib.suppress(LinkError):
            link.exec(_REMOVE.format(folder=_COPIED), timeout=60)


_REMOVE = """
import os
os.chdir("/")
for _f in os.listdir({folder!r}):
 os.remove({folder!r} + "/" + _f)
os.rmdir({folder!r})
"""


@contextlib.contextmanager
def _at(link, there):
    """Brings a board with an empty heap to the files, and leaves it so."""
    link.restart()
    there()
    try:
        yield
    finally:
        link.unmount()


def _run(link, there, module, say):
    """Runs a module of tests and returns a list of (ok or FAILED, module, test, why)."""
    lines = _Lines(say)
    with _at(link, there):
        try:
            link.exec(_RUN.format(module=module), timeout=_MODULE_S, on_data=lines.feed)
        except RemoteError as error:
            lines.feed(f"\nFAILED {module} import {error.kind}: {error.message}\n".encode())
    if not lines.found:
        raise LinkError(f"{link.device}: {module} ran no test; check the cable, then try again")
    return lines.found


class _Lines:
    """Takes what a board prints, says each line about a test, and keeps its parts in ``found``."""

    def __init__(self, say):
        self.say, self.found, self._rest = say, [], b""

    def feed(self, data):
        *lines, self._rest = (self._rest[-_LINE_BYTES:] + data.replace(b"\x04", b"")).split(b"\n")
        for line in lines:
            line = _LINE.match(line.rstrip(b"\r").decode(errors="replace"))
            if line:
                self.say(line[0])
                self.found.append(line.groups())


def _selftest(link, there, file, what, say):
    """Runs the golden vectors of a model on the board and returns a text."""
    with _at(link, there):
        try:
            link.exec(_SELFTEST.format(file=file), timeout=_MODULE_S)
            result = "same bytes"
        except RemoteError as error:
            result = "does not fit" if error.kind == "MemoryError" else f"{error.kind}: {error.message}"
    say(f"golden vectors of {what}: {result}")
    return result


def render(found):
    """Returns the lines that ``attn8 test`` prints."""
    lines = [f"FAILED {text}" for text in found["failed"]]
    lines += [f"golden vectors of {what}: {result}" for what, result in found["golden"].items()]
    n = found["passed"] + len(found["failed"])
    where = f"{found['machine']}, {found['firmware']}, {found['backend']}"
    return "\n".join([*lines, f"{found['passed']} of {n} device tests passed on {where}"])
