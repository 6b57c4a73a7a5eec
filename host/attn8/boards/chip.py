"""A model on an emulated processor: the C core bare metal, what each op costs, and its outputs compared.

Code and model lie in flash, model object, arena and stack in RAM; all of it answers without wait states, as flash does
when every access hits its cache. The functions of native_modules/core are called one by one; no startup code runs.
"""

from dataclasses import dataclass, replace

import numpy as np

from .. import arena, reference, stream
from ..device import ModelError
from . import BoardError, image

_STACK_BYTES = 4096  # at least; as many are painted
_PAINT = 0xA5
_LEAST_LIMIT, _INSTRUCTIONS_PER_MAC = 500_000_000, 100  # far above any run: only a core that hangs gets there
_CHEAP_MACS = 4_000_000  # some seconds of emulation


@dataclass(frozen=True)
class Result:
    """What a run showed. Counts are of ``unit``: "cycles" or "instructions".

    Attributes:
        total: one a8_run of the first window.
        per_op: list of n_ops + 1: the conversion of the input, then each op, called alone.
        load: a8_load, that is all checks of the file.
        outputs: int8 (N, n_outputs).
        outputs_equal: whether they are those of the golden vectors; None for windows of the caller.
        stack_bytes: the deepest stack of load, run and stream, painted.
        code_bytes: instructions and constant tables of the core.
        object_bytes: the loaded model without its file.    arena_bytes: of the plan for this processor.
        source: how it was counted.
        stream: Stream, None for a model that is not causal.
    """

    unit: str
    total: int
    per_op: list
    load: int
    outputs: np.ndarray
    outputs_equal: bool | None
    stack_bytes: int
    code_bytes: int
    object_bytes: int
    arena_bytes: int
    source: str
    stream: "Stream | None" = None


@dataclass(frozen=True)
class Stream:
    """What a token costs when as many tokens are behind it as it can see.

    Attributes:
        token_samples: samples from one token to the next, of the op with the fewest tokens; one push takes as many.
        token: one such push and the outputs behind it, from weights where they lie.
        state_bytes: what a stream keeps.
        packed_token, packed_state_bytes: the same with packed weights, keys and values; None where this core gains
            nothing or the memory is too small.
    """

    token_samples: int
    token: int
    state_bytes: int
    packed_token: int | None = None
    packed_state_bytes: int | None = None


def emulate(data, target="m0plus", windows=None, vectors=None, progress=None):
    """Runs windows of a model on an emulated processor.

    Args:
        data: bytes of a model file.
        target: a name of image.TOOLCHAINS.
        windows: (N, T, C) of the model's input type; None runs golden vectors of the file.
        vectors: how many of them, 1..n_vectors; None takes all of a small model, at least one of a large one.
        progress: called with (steps done, steps in all).

    Returns:
        Result.

    Raises:
        BoardError: if the model does not fit, or an output differs from the file's.
        ToolMissingError: without the cross compiler or the emulator.
        attn8.ModelError: if check_model refuses the file.
    """
    model = reference.parse(data)
    n = _n_vectors(model, vectors) if windows is None else len(windows)
    chip = Chip(Machine(target), model, _Progress(progress, _n_calls(model, n, windows is None)))
    load = chip.load()
    inputs = [chip.golden_input(i) for i in range(n)] if windows is None else _window_bytes(model, windows)
    expected = [None] * n if windows is not None else model.golden_outputs[:n]
    runs = [chip.run(x, y) for x, y in zip(inputs, expected, strict=True)]
    outputs = np.stack([y for y, _ in runs])
    return Result(
        unit=chip.machine.cpu.unit,
        total=runs[0][1],
        per_op=chip.run_ops(inputs[0]),
        stream=chip.stream(inputs[0], outputs[0]),
        load=load,
        outputs=outputs,
        outputs_equal=True if windows is None else None,
        stack_bytes=chip.stack_bytes(),
        code_bytes=chip.machine.image.code_bytes,
        object_bytes=chip.object_bytes,
        arena_bytes=chip.arena_bytes,
        source=chip.machine.source,
    )


def _n_calls(model, n_windows, golden):
    samples = token_samples(model)
    return 2 + len(model.shapes) + n_windows * (1 + golden) + (0 if samples is None else 3)


def token_samples(model):
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


class _Progress:
    def __init__(self, report=None, steps=0):
        self._report, self._done, self._steps = report, 0, steps

    def step(self):
        self._done += 1
        if self._report:
            self._report(self._done, self._steps)


def open_cpu(target):
    """Returns the emulated processor of a target, with the interface of cortex_m0plus.Cpu. Raises ToolMissingError."""
    from . import cortex_m0plus, labwired_core, unicorn_core

    if target in labwired_core.CHIPS:
        return labwired_core.Cpu(target)
    return cortex_m0plus.Cpu() if target == "m0plus" else unicorn_core.UnicornCpu(target)


class Machine:
    """The core, compiled for a target, in the flash of its emulated processor.

    Args:
        target: a name of image.TOOLCHAINS.
        portable: take the kernels that every target has.

    Attributes:
        image, cpu: what they are made of.    source: how counts come about, for people.
        arena_target: whose plan of the arena holds, one of arena.TARGETS.
    """

    def __init__(self, target, portable=False):
        self.image = image.build(target, *(("-DA8_PORTABLE",) if portable else ()))
        self.cpu, self.memory = open_cpu(target), image.TOOLCHAINS[target]
        self.arena_target = arena.PORTABLE if portable else self.memory.arena
        memory = ", zero-wait memory" if self.cpu.unit == "cycles" else ""
        self.source = f"emulated {self.cpu.unit}{memory}, {self.cpu.source}, {self.image.compiler}"
        self.cpu.load_code(self.image.address, self.image.code)
        if self.image.constants:
            self.cpu.write(self.memory.constants, self.image.constants)

    @property
    def stack_top(self):
        """The end of the RAM, a multiple of 16."""
        return sum(self.memory.ram) & ~15

    def call(self, name, *arguments, limit=_LEAST_LIMIT):
        """Calls a function of the core. Returns (its result, count)."""
        return self.cpu.call(self.image.symbols[name], arguments, self.stack_top, limit)


class Chip:
    """One model in the memory of a Machine."""

    def __init__(self, machine, model, progress=None):
        self.machine, self.model, self._progress = machine, model, progress or _Progress()
        self.offsets, self.arena_bytes, _ = reference.plan(model, machine.arena_target)
        self._cpu, self._file_bytes = machine.cpu, len(model.data)
        self._limit = _LEAST_LIMIT + _INSTRUCTIONS_PER_MAC * model.macs
        self._dtype = np.dtype(np.int8 if model.graph.input_requantize is None else "<i2")
        self._file, room = machine.memory.file
        if self._file_bytes > room:
            raise BoardError(f"the model has {self._file_bytes:,} bytes; beside the code there are {room:,} of flash")
        self._cpu.write(self._file, model.data)
        self._place(self._call("a8_model_bytes", self._file, self._file_bytes)[0])

    def _place(self, object_bytes):
        """Lays out RAM: model object, arena, window, outputs, stream; the stack has the rest, painted."""
        window_bytes = self.model.shapes[0][0] * self.model.shapes[0][1] * self._dtype.itemsize
        self._token_samples = token_samples(self.model)
        state_bytes = 0 if self._token_samples is None else stream.state_bytes(self.model)
        sizes = (object_bytes, self.arena_bytes, window_bytes, len(self.model.graph.labels), state_bytes)
        base, ram_bytes = self.machine.memory.ram
        ends = [base + int(n) for n in np.cumsum([(n + 7) & ~7 for n in sizes])]
        self._object, self._arena, self._window, self._output, self._state = base, *ends[:4]
        self._sizes, self._stack_limit, self.object_bytes = sizes, ends[4], object_bytes
        needed = self._stack_limit - base + _STACK_BYTES
        if needed > ram_bytes:
            raise BoardError(f"the model needs {needed:,} bytes of RAM; there are {ram_bytes:,}; make it smaller")
        self.paint_stack()

    def _call(self, name, *arguments):
        result = self.machine.call(name, *arguments, limit=self._limit)
        self._progress.step()
        return result

    def _checked(self, name, *arguments):
        """Calls a function that returns 0 or a negative error code. Returns its count."""
        code, count = self._call(name, *arguments)
        if code:
            fault = reference.error(-code)
            raise BoardError(
                f"{name} on the emulated processor says {fault.name}, the host accepts the file; report this"
            )
        return count

    def load(self):
        """Checks and loads the model on the chip. Returns the count."""
        return self._checked("a8_load", self._object, self._sizes[0], self._file, self._file_bytes)

    def golden_input(self, i):
        """Returns the bytes of golden window i, made on the chip."""
        window_bytes = self._sizes[2]
        self._checked("a8_golden_input", self._object, self._file, i, self._window, window_bytes)
        return self._cpu.read(self._window, window_bytes)

    def run(self, window, expected=None):
        """Runs one window, whose outputs must be those expected, if any. Returns (int8 (n_outputs,), count)."""
        self._cpu.write(self._window, window)
        _, arena_bytes, window_bytes, n_outputs, _ = self._sizes
        file = (self._file, self._file_bytes)
        buffers = (self._arena, arena_bytes, self._window, window_bytes, self._output, n_outputs)
        count = self._checked("a8_run", self._object, *file, *buffers)
        outputs = np.frombuffer(self._cpu.read(self._output, n_outputs), dtype=np.int8)
        if expected is not None and not np.array_equal(outputs, expected):
            got, said = outputs.tolist(), expected.tolist()
            raise BoardError(
                f"golden vector: the emulated processor gives {got}, the file says {said}; do not use this build"
            )
        return outputs, count

    def run_ops(self, window, note=lambda i: None):
        """Runs the steps of one window one by one, each of whose tensors must be that of the reference.

        Args:
            window: its bytes.    note: called with the number of each step behind it.

        Returns:
            list of counts, that of the conversion of the input first.
        """
        self._cpu.write(self._window, window)
        x = np.frombuffer(window, self._dtype).reshape(1, *self.model.shapes[0])
        tensors = reference.Reference(self.model.data).tensors(x)
        arguments = (self._object, self._file, self._arena, self._window)
        counts = []
        for i, tensor in enumerate(tensors):
            name, last = ("a8_run_op", i - 1) if i else ("a8_run_input", self.model.graph.n_steps)
            counts.append(self._call(name, *arguments, last)[1])
            if i or self.model.graph.input_requantize is not None:
                self._compare_tensor(i, tensor.astype(np.int8).tobytes())
            note(i)
        return counts

    def _compare_tensor(self, i, expected):
        if self._cpu.read(self._arena + self.offsets[i], len(expected)) != expected:
            raise BoardError(f"step {i} on the emulated processor differs from the reference; do not use this build")

    def stream(self, window, outputs):
        """Pushes a window, whose outputs must be ``outputs``, then a token more, whose outputs the reference knows.

        Args:
            window: its bytes.    outputs: int8 (n_outputs,).

        Returns:
            Stream, or None if the model is not causal.
        """
        if self._token_samples is None:
            return None
        state_bytes, packed_bytes = self.state_bytes()
        found = Stream(self._token_samples, self.token(window, outputs, state_bytes), state_bytes)
        if packed_bytes:
            packed = self.token(window, outputs, packed_bytes)
            found = replace(found, packed_token=packed, packed_state_bytes=packed_bytes)
        self._progress.step()
        return found

    def state_bytes(self):
        """Returns (bytes of a stream's state, bytes with packed weights or None where that gains or fits nothing)."""
        expected = self._sizes[4]
        if self._call("a8_stream_bytes", self._object)[0] != expected:
            raise BoardError("a stream on the emulated processor does not keep what the host computes; report this")
        packed = expected + self._call("a8_stream_packed_bytes", self._object)[0]
        fits = self._state + packed <= self.machine.stack_top - _STACK_BYTES
        return expected, packed if fits and packed > expected else None

    def token(self, window, outputs, state_bytes):
        """Begins a recording with a state of this size, pushes a window and a token. Returns the count of the token."""
        state, n = (self._state, state_bytes), self._token_samples
        code, _ = self.machine.call("a8_stream_reset", self._object, *state, n)
        if code:
            raise BoardError(f"a8_stream_reset on the emulated processor returns {code}; report this")
        self._push(state, window, outputs)
        sample_bytes = len(window) // self.model.graph.n_steps
        token = (window * (n // self.model.graph.n_steps + 1))[: n * sample_bytes]
        x = np.frombuffer(window + token, self._dtype).reshape(-1, self.model.graph.n_channels)
        return self._push(state, token, reference.Reference(self.model.data).run_recording(x, n)[1])

    def _push(self, state, samples, outputs):
        """Pushes samples, at most a window a call, at whose end these outputs are due. Returns the count."""
        due, count = 0, 0
        for at in range(0, len(samples), self._sizes[2]):
            block = samples[at : at + self._sizes[2]]
            self._cpu.write(self._window, block)
            file = (self._file, self._file_bytes)
            buffers = (self._arena, self._sizes[1], *state, self._window, len(block), self._output, self._sizes[3])
            n, more = self.machine.call("a8_stream_push", self._object, *file, *buffers, limit=self._limit)
            due, count = due + n, count + more
        if due != 1:
            raise BoardError(f"a8_stream_push on the emulated processor returns {due}, expected 1 output; report this")
        if self._cpu.read(self._output, len(outputs)) != outputs.tobytes():
            raise BoardError("a stream on the emulated processor differs from the reference; do not use this build")
        return count

    def paint_stack(self):
        """Forgets how deep the stack was."""
        self._cpu.write(self.machine.stack_top - _STACK_BYTES, bytes([_PAINT]) * _STACK_BYTES)

    def stack_bytes(self):
        """Returns how much of the painted stack was ever written."""
        stack = self._cpu.read(self.machine.stack_top - _STACK_BYTES, _STACK_BYTES)
        return len(stack.lstrip(bytes([_PAINT])))
