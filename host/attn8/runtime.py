"""The C core on this machine: built once with the host's compiler, then reached through ctypes."""

import contextlib
import ctypes
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
from functools import cache
from importlib import resources
from pathlib import Path

import numpy as np

from . import reference, spec, stream
from .errors import DataError, ToolMissingError

COMPILERS = ("cc", "gcc", "clang")
FLAGS = ("-std=c99", "-O2", "-shared", "-fPIC")
INSTALL = {"linux": "sudo apt-get install gcc", "darwin": "xcode-select --install"}
_SHAPE = ("n_steps", "n_channels", "input_type", "n_outputs", "n_ops", "n_golden")
_DESCRIPTION = (*_SHAPE, "arena_bytes", "live_bytes", "macs", "hop")  # the order of a8_describe


# Folder of native_modules: (its package in a wheel, a file that must be in it).
SOURCES = {
    "core": ("attn8.native", "a8_model.h"),
    "bare": ("attn8.native_bare", "rp2040.ld"),
    "binding": ("attn8.native_binding", "mod_attn8.c"),
    "natmod": ("attn8.native_natmod", "Makefile"),
}


def source_folder(name):
    """Returns the folder of one of SOURCES: package data of a wheel, else the source tree. Raises ToolMissingError."""
    package, member = SOURCES[name]
    places = [Path(__file__).resolve().parents[2] / "native_modules" / name / member]
    with contextlib.suppress(ModuleNotFoundError):
        # Joined before it becomes a Path: a folder without __init__.py is no single path to importlib.
        places.insert(0, Path(str(resources.files(package).joinpath(member))))
    for place in places:
        if place.is_file():
            return place.parent
    raise ToolMissingError(f"the C sources ({name}/{member}) are not installed: pip install --force-reinstall attn8")


def find_core_sources():
    """Returns {file name: bytes} of the core's C files and headers. Raises ToolMissingError."""
    files = sorted(source_folder("core").glob("a8_*.[ch]"))
    return {file.name: file.read_bytes() for file in files}


def compiler():
    """Returns the command of the host's C compiler ($CC first) as a list. Raises ToolMissingError."""
    chosen = shlex.split(os.environ.get("CC", ""))
    for command in [chosen] if chosen else [[c] for c in COMPILERS]:
        path = shutil.which(command[0])
        if path:
            return [path, *command[1:]]
    install = INSTALL.get(sys.platform, "install gcc or clang, or set CC")
    looked_for = chosen[0] if chosen else ", ".join(COMPILERS)
    raise ToolMissingError(f"the C core needs a C compiler and none was found (looked for {looked_for}): {install}")


def cache_dir():
    """Returns the folder of built libraries: attn8/core in $XDG_CACHE_HOME or ~/.cache."""
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (base if base.is_absolute() else Path.home() / ".cache") / "attn8" / "core"


def _trusted(path):
    """Says whether only this user can have written a file or folder: what is loaded runs with his rights."""
    if not hasattr(os, "getuid"):
        return True
    status = path.stat()
    return status.st_uid == os.getuid() and not status.st_mode & 0o022


def _build_key(sources, command):
    """Returns a name for what sources, flags and compiler make together."""
    version = subprocess.run([*command, "--version"], capture_output=True, check=False).stdout
    digest = hashlib.sha256(repr((command, FLAGS, version, sys.platform, platform.machine(), sys.maxsize)).encode())
    for name, text in sources.items():
        digest.update(f"{name} {len(text)} ".encode() + text)
    return digest.hexdigest()[:24]


def build_core():
    """Compiles the core unless the cache has it. Returns the path of the shared library. Raises ToolMissingError."""
    sources, command = find_core_sources(), compiler()
    folder = cache_dir() / _build_key(sources, command)
    library = folder / "core.so"
    if not library.exists() or not _trusted(folder) or not _trusted(library):
        try:
            _build_into(folder, sources, command)
        except OSError as error:
            advice = "set XDG_CACHE_HOME to a folder that can be written"
            raise ToolMissingError(f"the C core cannot be built in {folder} ({error.strerror}); {advice}") from None
    return library


def _build_into(folder, sources, command):
    """Builds beside and then replaces, so that nobody ever loads half a library."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.mkdir(mode=0o700, exist_ok=True)
    if not _trusted(folder):
        raise PermissionError(0, "others can write there")
    with tempfile.TemporaryDirectory(dir=folder) as work:
        _compile(sources, command, Path(work))
        (Path(work) / "core.so").chmod(0o700)
        os.replace(Path(work) / "core.so", folder / "core.so")


def _compile(sources, command, work):
    for name, text in sources.items():
        (work / name).write_bytes(text)
    files = [name for name in sources if name.endswith(".c")]
    line = [*command, *FLAGS, *files, "-o", "core.so"]
    done = subprocess.run(line, cwd=work, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        reason = (done.stderr.strip() or "no message").splitlines()[0]
        raise ToolMissingError(f"{command[0]} cannot build the C core ({reason}); set CC to a working C99 compiler")


def _load_library():
    """Loads the built core; one that does not load (a full disk, a lost write) is built once more."""
    path = build_core()
    try:
        return ctypes.CDLL(str(path))
    except OSError:
        path.unlink(missing_ok=True)
    try:
        return ctypes.CDLL(str(build_core()))
    except OSError as error:
        raise ToolMissingError(f"the C core cannot be loaded ({error}); set XDG_CACHE_HOME to another folder") from None


@cache
def _core():
    """Returns the loaded library."""
    library = _load_library()
    pointer, u32, i32 = ctypes.c_void_p, ctypes.c_uint32, ctypes.c_int32
    signatures = {
        "a8_model_bytes": (i32, pointer, u32),
        "a8_check_model": (i32, pointer, u32, pointer, u32),
        "a8_load": (i32, pointer, u32, pointer, u32),
        "a8_describe": (None, pointer, pointer, pointer),
        "a8_run_many": (i32, pointer, pointer, u32, pointer, pointer, u32, pointer),
        "a8_golden_input": (i32, pointer, pointer, u32, pointer, u32),
        "a8_selftest": (i32, pointer, pointer, u32, pointer, u32, pointer, u32, pointer, u32),
        "a8_score": (i32, pointer, pointer, pointer),
        "a8_stream_bytes": (i32, pointer),
        "a8_stream_packed_bytes": (u32, pointer),
        "a8_stream_reset": (i32, pointer, pointer, u32, u32),
        "a8_stream_push": (i32, pointer, *(pointer, u32) * 5),
    }
    for name, (result, *arguments) in signatures.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


def _aligned(n_bytes):
    """Returns a uint8 array of n_bytes that begins at a multiple of 16."""
    block = np.zeros(n_bytes + 16, dtype=np.uint8)
    start = -block.ctypes.data % 16
    return block[start : start + n_bytes]


def _file(data):
    file = _aligned(len(data))
    file[:] = np.frombuffer(data, dtype=np.uint8)
    return file


def check_model_c(data):
    """Returns what the C checker says of a file: 0, or the positive code (spec.ERRORS) of the first fault."""
    file = _file(data)
    bytes_needed = _core().a8_model_bytes(file.ctypes.data, len(file))
    if bytes_needed < 0:
        return -bytes_needed
    model = _aligned(bytes_needed)
    return -_core().a8_check_model(model.ctypes.data, bytes_needed, file.ctypes.data, len(file))


class CModel:
    """A packed model in the C core, portable kernels.

    Attributes: n_steps, n_channels, n_outputs, n_ops, n_golden, arena_bytes, live_bytes (the planner's floor),
    macs (the bound of check_model), hop (samples between windows), dtype (of a window: int16 or int8).

    Raises:
        attn8.ModelError: the file is faulty.
        ToolMissingError: there is no C compiler.
    """

    name = "c"

    def __init__(self, data):
        core = _core()
        self._bytes = _file(data)
        n_bytes = core.a8_model_bytes(self._bytes.ctypes.data, len(self._bytes))
        self._model = _aligned(max(n_bytes, 0))
        code = n_bytes if n_bytes < 0 else core.a8_load(self._model.ctypes.data, n_bytes, *self._file())
        _raise_for(code)
        numbers = np.zeros(len(_DESCRIPTION), dtype=np.uint32)
        core.a8_describe(self._model.ctypes.data, self._bytes.ctypes.data, numbers.ctypes.data)
        for name, value in zip(_DESCRIPTION, numbers, strict=True):
            setattr(self, name, int(value))
        self.dtype = np.dtype(np.int16 if self.input_type == _INT16 else np.int8)
        self._arena = _aligned(self.arena_bytes)

    def _file(self):
        return self._bytes.ctypes.data, len(self._bytes)

    def run(self, x):
        """Runs windows.

        Args:
            x: (N, T, C), int16 or int8 as the model says.

        Returns:
            int8 (N, n_outputs).

        Raises:
            attn8.ModelError: shape or type is another.
        """
        x = np.ascontiguousarray(reference.as_windows(x, self.n_steps, self.n_channels, self.dtype))
        outputs = np.empty((len(x), self.n_outputs), dtype=np.int8)
        windows = (x.ctypes.data, len(x), outputs.ctypes.data)
        _raise_for(_core().a8_run_many(self._model.ctypes.data, *self._file(), self._arena.ctypes.data, *windows))
        return outputs

    def golden_input(self, i):
        """Returns the input of golden vector i, (T, C)."""
        x = np.empty((self.n_steps, self.n_channels), dtype=self.dtype)
        file, _ = self._file()
        _raise_for(_core().a8_golden_input(self._model.ctypes.data, file, i, x.ctypes.data, x.nbytes))
        return x

    def selftest(self):
        """Runs the golden vectors of the file. Raises attn8.ModelError if an output differs."""
        x = np.empty((self.n_steps, self.n_channels), dtype=self.dtype)
        y = np.empty(self.n_outputs, dtype=np.int8)
        buffers = [n for b in (self._bytes, self._arena, x, y) for n in (b.ctypes.data, b.nbytes)]
        _raise_for(_core().a8_selftest(self._model.ctypes.data, *buffers))

    def run_recording(self, x, hop=None):
        """Runs one recording as a stream does, one sample a call.

        Args:
            x: (n, C), int16 or int8 as the model says.    hop: samples between two outputs; None: the file's.

        Returns:
            int8 (n_hops, n_outputs).

        Raises:
            attn8.ModelError: the model is not causal; shape or type is another.
        """
        stream = CStream(self, self.hop if hop is None else hop)
        return stream.push_all(x)

    def score(self, outputs):
        """Returns (index of the first largest output, its score 0..100) of int8 (n_outputs,)."""
        outputs = np.ascontiguousarray(outputs, dtype=np.int8)
        if outputs.shape != (self.n_outputs,):
            raise DataError(f"outputs: got shape {outputs.shape}, expected ({self.n_outputs},)")
        best = ctypes.c_uint32()
        score = _core().a8_score(self._model.ctypes.data, outputs.ctypes.data, ctypes.addressof(best))
        return best.value, score


class CStream:
    """State of a CModel on one recording. Raises attn8.ModelError STREAM if the model is not causal."""

    def __init__(self, model, hop):
        self.model, self.hop = model, stream.checked_hop(hop)
        n_bytes = _core().a8_stream_bytes(model._model.ctypes.data)
        _raise_for(n_bytes)
        self.state = _aligned(n_bytes)
        self.output = np.zeros(model.n_outputs, dtype=np.int8)
        self.reset()

    def reset(self):
        """Begins another recording."""
        state = (self.state.ctypes.data, self.state.nbytes)
        _raise_for(_core().a8_stream_reset(self.model._model.ctypes.data, *state, self.hop))

    def push(self, samples):
        """Takes samples (n, C); returns how many outputs were due, the last of which is in ``output``."""
        m = self.model
        samples = np.ascontiguousarray(reference.as_windows(samples[None], len(samples), m.n_channels, m.dtype)[0])
        buffers = (m._bytes, m._arena, self.state, samples, self.output)
        flat = [n for b in buffers for n in (b.ctypes.data, b.nbytes)]
        n_outputs = _core().a8_stream_push(m._model.ctypes.data, *flat)
        _raise_for(n_outputs)
        return n_outputs

    def push_all(self, x):
        """Pushes x (n, C) one sample at a time; returns all outputs, int8 (n_hops, n_outputs)."""
        x = reference.as_windows(x[None], len(x), self.model.n_channels, self.model.dtype)[0]
        outputs = [self.output.copy() for sample in x if self.push(sample[None])]
        return np.array(outputs, dtype=np.int8).reshape(-1, self.model.n_outputs)


_INT16 = next(c.value for c in spec.INPUT_TYPES if c.name == "INT16")


def _raise_for(code):
    if code < 0:
        raise reference.model_error(-code, "the C core")
