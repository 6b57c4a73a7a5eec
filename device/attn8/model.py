"""The model in Python: run, predict, selftest on the kernels that kernels.py selects."""

import sys
from array import array

from .checking import ModelError, ModelMethods, Passing, check_model, outline
from .kernels import READS_ANY_SIGN, backend, requantize_s16
from .tables import ERR_INPUT, ERR_MOVED, ERR_OUTPUT, EXP

__all__ = ("Model", "check_model", "map_file", "new_buffer", "open_model")

_BUSY = "run was called inside a run of the same model; load the model twice"
_IS_CPYTHON = sys.implementation.name == "cpython"
_BYTES = (bytes, bytearray)
_SIZED = (array, memoryview)
_COPIED = (array, bytearray, memoryview)


class _Index:
    """Tells with what it is indexed."""

    def __getitem__(self, index):
        return index


ALL = _Index()[:]  # MicroPython has no slice(), and writing [:] costs memory each time before 1.26
_BEHIND_THE_LAST = _Index()[1 << 29 :]
_NOTHING = (None, bytearray(), array("h"))  # of items of 1 and 2 bytes


def item_bytes(buffer, likely):
    """Returns 1, 2 or another number: the bytes of an item of an array or memoryview. MicroPython seldom tells.

    No items, written behind the last, are refused if theirs is another size; that takes no memory, but for the error
    where the ``likely`` size is not it. Where nothing can be written one item is copied, for 48 bytes. An unsigned
    'H' cannot be told from 'h'.
    """
    n = likely
    for _ in range(2):
        try:
            buffer[_BEHIND_THE_LAST] = _NOTHING[n]
            return n
        except ValueError:
            n = 3 - n
        except TypeError:  # read-only, or a firmware that assigns no slices
            return len(bytes(memoryview(buffer)[:1]))
    return 0


# The dtype of a ulab array is a typecode or, where its firmware was built so, an object.
_DTYPES = {"104": 2, "98": 1, "66": 1, "dtype('int16')": 2, "dtype('int8')": 1, "dtype('uint8')": 1}


def view_of(buffer, likely):
    """Returns (memoryview, bytes of an item as item_bytes tells) of what is no array, such as one of ulab.

    Raises:
        TypeError: if it has no contiguous buffer.
    """
    view = memoryview(buffer)
    dtype = getattr(buffer, "dtype", None)
    return view, item_bytes(view, likely) if dtype is None else _DTYPES.get(str(dtype), 0)


def map_file(f):
    """Returns a view of a file that lies in memory, if the kernels read unsigned bytes in place, else None."""
    try:
        return memoryview(f) if READS_ANY_SIGN else None
    except TypeError:
        return None


def new_buffer(n_bytes):
    """Returns a buffer to read a file into, of signed bytes if the kernels need them."""
    return bytearray(n_bytes) if READS_ANY_SIGN else array("b", bytes(n_bytes))


def open_model(data, where):
    """Returns the Model of a buffer."""
    view = memoryview(data)
    if hasattr(view, "cast"):  # CPython and CircuitPython
        view = view.cast("B").cast("b")
    return Model(outline(view, where), data, view)


class Model(ModelMethods):
    """A model that runs. Made by ``load``; run and step allocate nothing, predict its (label, score).

    Attributes:
        name, version, id: str (id in hex).    labels: tuple of n_outputs str.
        input_shape: (n_steps, n_channels).    n_outputs, n_golden: int.
        channels, units: tuples of str.    counts_per_unit: tuple of float, 0.0 = unknown.
        input_type: "int16" or "int8".
        sample_rate_hz: float, 0.0 = unknown.    hop: samples between windows in training.
        output: array('b') of n_outputs, of the last run without ``out``.
        macs: multiply-accumulates of a window.    model_bytes: of the file.    kernels: the name of the back end.
        arena_bytes: for the tensors of a run. This back end keeps besides them the token and the accumulators of one
            row, the window of an int8 model, and what plan.Plan says about weights.
    """

    kernels = backend

    def __init__(self, outline, data, view):
        self._data = data
        self._data_length = len(data)
        self.model_bytes = len(view)
        self._busy = False
        self._next = -1  # the op of the next step
        with Passing("plan"):
            from .plan import Plan, describe

            describe(self, outline, view)
            plan = Plan(outline, view)
            self._steps, self._source_ids, self.arena_bytes = plan.steps, plan.source_ids, plan.arena_bytes
            self._input, self._last, self._input_layer = plan.input, plan.output, plan.input_layer
        self._wide = self._input_layer is not None
        self._n_values = self.n_steps * self.n_channels
        self.output = array("b", bytes(self.n_outputs))

    def ops(self):
        """Returns a Table of (index, name, input shape, output shape, macs); op ``index`` makes that tensor."""
        from .repl import Table

        return Table(self._ops)

    def run(self, window, out=None):
        """Runs one window and returns the int8 outputs.

        Args:
            window: T*C int16 counts, time first: an array('h'), their 2*T*C little-endian bytes, or anything with
                the buffer protocol; int8 models take T*C int8. Costs memory for other types than array, bytes,
                bytearray and memoryview, and 48 bytes for a memoryview that cannot be written. MicroPython takes
                an array('H') for an array('h').
            out: a buffer of n_outputs bytes. Without it ``output`` is returned, overwritten by the next run.

        Returns:
            out, or array('b') of n_outputs values.

        Raises:
            ModelError: INPUT or OUTPUT if a buffer has the wrong length or type, MOVED if the model's did change.
            RuntimeError: if called inside a run of the same model.
        """
        self._enter()
        try:
            self._check_data("run")
            if out is None:
                out = self.output
            elif len(out) != self.n_outputs:
                raise ModelError(ERR_OUTPUT, "run", f"{len(out)} bytes", self.n_outputs)
            self._take(window)
            for kernel, x, y, layer in self._steps:
                kernel(x, y, layer)
            self._give(out)
        finally:
            self._busy = False
        return out

    def start(self, window):
        """Begins a run of one op a ``step``. The window must stay as it is until the last; raises what run does."""
        self._enter()
        try:
            self._check_data("run")
            self._take(window)
            self._next = 0
        finally:
            self._busy = False

    def step(self):
        """Runs one op of the window that was started. Returns True while ops are left; then ``output`` is written.

        Raises:
            RuntimeError: if no window was started, or run, push or selftest came between.
            ModelError: MOVED.
        """
        i = self._enter()
        try:
            self._check_data("run")
            if i < 0:
                raise RuntimeError("no run to go on with: none was started, or another came between; call start again")
            kernel, x, y, layer = self._steps[i]
            kernel(x, y, layer)
            if i + 1 < len(self._steps):
                self._next = i + 1
                return True
            self._give(self.output)
            return False
        finally:
            self._busy = False

    def _enter(self):
        """Marks the model as busy and returns the op that a step would run; a run in an interrupt may have ended it."""
        if self._busy:
            raise RuntimeError(_BUSY)
        self._busy = True
        i = self._next
        self._next = -1
        return i

    def _check_data(self, where):
        if len(self._data) != self._data_length:
            raise ModelError(ERR_MOVED, where, f"{len(self._data)} bytes", self._data_length)

    def predict(self, window=None):
        """Runs one window, or takes the last run's output, and returns (label, score 0..100): see decide."""
        return self.decide(self.output if window is None else self.run(window))

    def decide(self, outputs):
        """Returns (label, score 0..100) of n_outputs int8; label is None below the class's threshold.

        Raises:
            ModelError: OUTPUT if there are not n_outputs.
        """
        if len(outputs) != self.n_outputs:
            raise ModelError(ERR_OUTPUT, "decide", f"{len(outputs)} bytes", self.n_outputs)
        best, top = 0, -1
        for i in range(self.n_outputs):
            v = (outputs[i] & 255) ^ 128  # the value plus 128, of signed and of unsigned bytes
            if v > top:
                best, top = i, v
        dmax, dm, dpre, dsh = self._softmax
        z = 0
        for i in range(self.n_outputs):
            d = min(top - ((outputs[i] & 255) ^ 128), dmax) >> dpre
            z += EXP[min(((d * dm >> (dsh - 1)) + 1) >> 1, 255)]
        score = (12700 + (z >> 1)) // z
        return (self.labels[best] if score >= self._thresholds[best] else None), score

    def selftest(self):
        """Runs the golden vectors in the file; returns True.

        Raises:
            ModelError: SELFTEST, with the vector and both outputs, if one differs.
        """
        with Passing("golden"):
            from .golden import selftest

            return selftest(self, self._golden)

    def _stream_state(self, hop, packed):
        """Returns the state of a new Stream, here an object that runs it. These kernels have nothing to pack."""
        from .tokens import TokenPlan

        return TokenPlan(self, hop)

    def _stream_reset(self, state):
        if self._busy:  # perhaps with this very state
            raise RuntimeError(_BUSY)
        state.reset()

    def _push(self, state, samples, out):
        """Gives a stream k samples, writes the last output that became due, and returns how many did."""
        self._enter()
        try:
            self._check_data("push")
            return state.push(samples, out)
        finally:
            self._busy = False

    def _take(self, window):
        """Checks the window and makes the first tensor from it."""
        window = self._as_bytes(window) if _IS_CPYTHON else self._as_buffer(window)
        if self._wide:
            requantize_s16(window, self._input, self._input_layer)
            return
        x = self._input
        for i in range(self._n_values):
            v = window[i] & 255
            x[i] = v - 256 if v > 127 else v

    def _input_error(self, got):
        steps, channels = self.input_shape
        return ModelError(ERR_INPUT, "run", got, f"{steps}*{channels} {self.input_type}")

    def _as_bytes(self, window):
        """CPython: returns a view of the window's bytes."""
        try:
            view = memoryview(window)
            if view.format not in (("h", "<h", "b", "B", "c") if self._wide else ("b", "B", "c")):
                raise self._input_error(f"a buffer of format '{view.format}'")
            view = view.cast("B")
        except TypeError:
            raise self._input_error(f"no contiguous buffer but {type(window)}") from None
        if len(view) != (2 * self._n_values if self._wide else self._n_values):
            raise self._input_error(f"{len(view)} bytes")
        return view

    def _as_buffer(self, window):
        """MicroPython and CircuitPython, where only some builds tell the size of an item."""
        likely = 2 if self._wide else 1
        if isinstance(window, _BYTES):
            item = 1
        elif isinstance(window, _SIZED):
            item = getattr(window, "itemsize", 0) or item_bytes(window, likely)
        else:
            try:
                window, item = view_of(window, likely)
            except TypeError:
                raise self._input_error(f"no contiguous buffer but {type(window)}") from None
        n = len(window)
        if not (item == 1 or (self._wide and item == 2)):
            raise self._input_error("another type of buffer")
        if n * item != (2 * self._n_values if self._wide else self._n_values):
            raise self._input_error(f"{n} values")
        return window

    def _give(self, out):
        """Copies the last tensor to ``out``, whose bytes may be signed or not.

        CircuitPython refuses a number that does not fit, and the error takes memory: a slice takes bytes as they are.
        """
        y = self._last
        if not _IS_CPYTHON and isinstance(out, _COPIED):
            try:
                out[ALL] = y
                return
            except (TypeError, ValueError):  # read-only, of other items, or a firmware that assigns no slices
                pass
        for i in range(self.n_outputs):
            try:
                out[i] = y[i]
            except (OverflowError, ValueError):
                out[i] = y[i] & 255
