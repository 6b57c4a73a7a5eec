"""What a model takes of MicroPython's heap on a 32-bit board, counted object by object.

The device package makes the same objects on this computer; their sizes on a board are those of MicroPython's structs,
in blocks of 16 bytes. No emulator and no board takes part. tests/host/test_heap.py has what was measured.
"""

from array import array
from types import SimpleNamespace

from .. import reference, spec
from ..device import load, plan, tokens
from ..device.checking import outline
from ..device.stream import Stream

BACKENDS = ("native", "viper", "python")
_BLOCK = 16  # MICROPY_BYTES_PER_GC_BLOCK of a 32-bit board
_WORD = 4
_HEADER_BYTES = 2 * _WORD  # of a tuple: type and length
_MAP_SIZES = (0, 2, 4, 6, 8, 10, 12, 17, 23, 29, 37, 47, 59, 73, 97, 127, 167, 223)  # entries of a dict, py/map.c
_LIST_SIZE = 4  # entries that a list begins with; it doubles
_MODEL_BYTES, _OP_BYTES = 76, 56  # of a8_model_t and a8_op_t, whose pointers have 32 bits
_NATIVE_MODEL_BYTES = 128 + 32  # model_t of mod_attn8.c, and the instance around it
_NATIVE_ATTRIBUTES = (
    *("name", "version", "id", "input_shape", "counts_per_unit", "channels", "units", "labels", "output"),
    *("sample_rate_hz", "_golden", "_thresholds"),
)
_STREAM_MODULE = tokens.__name__


def rounded(n):
    """Returns the heap bytes of an allocation of n bytes."""
    return -(-n // _BLOCK) * _BLOCK


class Count:
    """Adds up the heap of objects and of all that they refer to, each once.

    Attributes:
        total: bytes.    largest: of the largest piece.
    """

    def __init__(self, names=(), *others):
        """Texts of ``names`` take nothing: the firmware has them as names in its code. ``others``: Counts before."""
        self.total = self.largest = 0
        self._names, self._seen = set(names), {}
        for other in others:
            self._seen |= other._seen

    def add(self, *values):
        """Counts what was not counted yet. Returns the Count."""
        for value in values:
            if id(value) not in self._seen:
                self._seen[id(value)] = value  # kept, or its id could come again
                self._add(value)
        return self

    def _add(self, value):
        if type(value) in _COUNTS:
            _COUNTS[type(value)](self, value)
        elif isinstance(value, (Stream, SimpleNamespace)) or type(value).__module__ == _STREAM_MODULE:
            self.take(_BLOCK)
            self._members(vars(value))

    def without(self, value):
        """Leaves a value out. Returns the Count."""
        self._seen[id(value)] = value
        return self

    def take(self, *sizes):
        """Counts pieces of memory. Returns the Count."""
        for n in sizes:
            self.total += rounded(n)
            self.largest = max(self.largest, rounded(n))
        return self

    def _int(self, value):
        if not -(1 << 30) <= value < 1 << 30:
            self.take(2 * _BLOCK)

    def _float(self, value):
        self.take(_BLOCK)

    def _text(self, value):
        if value and value not in self._names:
            self.take(_BLOCK, len(value.encode() if isinstance(value, str) else value) + 1)

    def _buffer(self, value):
        self.take(_BLOCK, memoryview(value).nbytes)

    def _view(self, value):
        self.take(_BLOCK)
        self.add(value.obj)

    def _tuple(self, value):
        if value:
            self.take(_HEADER_BYTES + _WORD * len(value))
        self.add(*value)

    def _list(self, value):
        n = _LIST_SIZE
        while n < len(value):
            n *= 2
        self.take(_BLOCK, _WORD * n)
        self.add(*value)

    def _members(self, value):
        self.take(2 * _WORD * next(n for n in _MAP_SIZES if n >= len(value)))
        self.add(*value.values())


_COUNTS = {
    **{int: Count._int, float: Count._float, str: Count._text, bytes: Count._text, tuple: Count._tuple},
    **{bytearray: Count._buffer, array: Count._buffer, memoryview: Count._view, list: Count._list},
}


class _ViperPlan(plan.Plan):
    """The Plan that _viper.py makes: weights where they lie, no tokens, inputs as words in the scratch."""

    def _weights(self, at, n, n_inputs):
        return self._data[at : at + n * spec.padded(n_inputs)]

    def _token(self, n):
        return None

    def _scratch_values(self):
        return self._outline.n_words


def _n_words(model):
    """Returns the int32 that _viper.py keeps for the neediest op: its inputs, and the scores of its keys."""
    n = 1
    for op, shape in zip(model.graph.ops, model.shapes[1:], strict=True):
        n_inputs, n_keys = model.shapes[reference.op_sources(op)[0]][1], 0
        if hasattr(op, "heads"):
            n_inputs, n_keys = n_inputs // op.heads, min(shape[0], op.left + op.right + 1)
        elif hasattr(op, "weights"):
            n_inputs = op.weights[0].size
        n = max(n, spec.padded(n_inputs) + n_keys)
    return n


def _python_model(data, backend):
    """Returns the Model of a board without ``_attn8``, as far as its memory goes: the same attributes."""
    m = load(array("b", data))
    if backend == "viper":
        view = memoryview(m._data)
        found = outline(view, "model")
        found.n_words = _n_words(reference.parse(data))
        made = _ViperPlan(found, view)
        m._steps, m._input, m._last, m._input_layer = made.steps, made.input, made.output, made.input_layer
    return m


def model_parts(data, backend, arena_bytes, state_bytes=None):
    """Returns what ``attn8.load(path)``, and perhaps ``m.stream()``, leave on the heap.

    Args:
        data: bytes of a model file.    backend: of BACKENDS.
        arena_bytes: of the native core on this processor.    state_bytes: of its stream; None: no stream.

    Returns:
        list of (what, bytes, bytes of its largest piece): file, arena, objects and, if asked for, stream.

    Raises:
        attn8.ModelError: if the file is no valid model, or STREAM if it cannot run as a stream.
    """
    m = _python_model(data, backend)
    file, names = Count().add(m._data), {row[1] for row in m._ops} | {m.input_type}
    if backend == "native":
        arena, objects = Count().take(arena_bytes), Count(names)
        objects.take(_NATIVE_MODEL_BYTES, _MODEL_BYTES + _OP_BYTES * len(m._ops))
        objects.add(*(getattr(m, name) for name in _NATIVE_ATTRIBUTES))
    else:
        arena = Count().add(m._last.obj)
        objects = Count(names, file, arena).add(SimpleNamespace(**vars(m)))
    rows = [("file", file), ("arena", arena), ("objects", objects)]
    if state_bytes is not None:
        rows.append(("stream", _stream(m, backend, state_bytes, (file, arena, objects))))
    return [(what, count.total, count.largest) for what, count in rows]


def _stream(m, backend, state_bytes, counted):
    made = m.stream()
    count = Count((), *counted).without(m)
    if backend == "native":
        made._state = None
        count.take(_BLOCK, state_bytes)
    return count.add(made)
