"""What load makes of a checked file: attributes of a Model, the arena, and the kernel call of each op.

In memory only while a model is loaded.
"""

from array import array
from struct import unpack_from

from .kernels import READS_ANY_SIGN, extension, ops

# By op code - 16, as format.OP_NAMES.
_N_SOURCES = b"\x01\x01\x03\x01\x02\x01\x01"
_CLAMPS = ((-128, 127), (-127, 127), (0, 127))
_LINEAR, _CONV1D, _ATTENTION, _NORM, _ADD, _POOL, _TABLE = 0, 1, 2, 3, 4, 5, 6


def sources(op):
    """Returns the tensors that an op of an Outline reads."""
    return op[1][: _N_SOURCES[op[0] - 16]]


def attended_pairs(n_steps, left, right):
    """Returns how many (query, key) pairs lie inside the window."""
    return n_steps * (left + right + 1) - left * (left + 1) // 2 - right * (right + 1) // 2


def memory_blocks(outline):
    """Returns (bytes, first step, last step) of each tensor, then of the scratch of each op, and what lies in place.

    A tensor that is made in place of another has 0 bytes; the second result is a list of (it, that other).
    """
    shapes = outline.shapes
    last = list(range(len(shapes)))
    scratch = []
    for i, op in enumerate(outline.ops):
        for source in sources(op):
            last[source] = i + 1
        size = 4 * _span(op, outline.shapes[i + 1]) if op[0] - 16 == _ATTENTION else 0
        scratch.append((size, i + 1, i + 1))
    sizes = [(steps * channels + 3) & ~3 for steps, channels in shapes]
    if not outline.input_type:
        sizes[0] = 0
    shared = []
    for i in range(len(outline.ops), 0, -1):
        for source in _replaceable(outline.ops[i - 1]):
            if last[source] == i and (source or outline.input_type):
                sizes[i], last[source] = 0, last[i]
                shared.insert(0, (i, source))
                break
    return [(sizes[i], i, last[i]) for i in range(len(shapes))] + scratch, shared


def _replaceable(op):
    """Returns the sources of an op whose place its output may take when it is the last to read them."""
    index, read = op[0] - 16, sources(op)
    if index == _ATTENTION:
        return b"" if read[0] in read[1:] else read[:1]
    return read if index in (_NORM, _ADD, _TABLE) else b""


def _span(op, shape):
    """Returns how many keys a query of an attention op can see."""
    return min(shape[0], op[1][4] + op[1][5] + 1)


def _n_products(op, x):
    """Returns how many values an op keeps for one output of a source of shape x; 0 where it keeps none."""
    index = op[0] - 16
    if index == _CONV1D:
        return op[1][3] * x[1]
    if index == _ATTENTION:
        return x[1] // op[1][3]
    return x[1] if index in (_LINEAR, _NORM, _POOL) else 0


def place(blocks):
    """Places blocks so that those that live in one step do not overlap (models/FORMAT.md, "Arena").

    Returns:
        (offset of each block, arena bytes).
    """
    n_steps = max(last for _, _, last in blocks) + 1
    floor = max(sum(size for size, first, last in blocks if first <= i <= last) for i in range(n_steps))
    best, best_bytes = None, 0
    n = len(blocks) // 2  # the last tensor
    keys = (lambda b, i: -b[0], lambda b, i: b[1], lambda b, i: b[1] - b[2], lambda b, i: (i > n, -b[0]))
    for key in keys:
        order = sorted((key(block, i), i) for i, block in enumerate(blocks) if block[0])
        offsets, n_bytes = _place_in(order, blocks)
        if best is None or n_bytes < best_bytes:
            best, best_bytes = offsets, n_bytes
        if best_bytes == floor:
            break
    return best, best_bytes


def _place_in(order, blocks):
    """Places the blocks in one order, each at the lowest offset that is free for its whole life."""
    offsets, placed, n_bytes = [0] * len(blocks), [], 0
    for _, i in order:
        size, first, last = blocks[i]
        at = 0
        while True:
            ends = [
                offsets[j] + blocks[j][0]
                for j in placed
                if blocks[j][1] <= last
                and first <= blocks[j][2]
                and at < offsets[j] + blocks[j][0]
                and offsets[j] < at + size
            ]
            if not ends:
                break
            at = min(ends)
        offsets[i] = at
        placed.append(i)
        n_bytes = max(n_bytes, at + size)
    return offsets, n_bytes


def describe(m, outline, view):
    """Gives a Model the attributes that the file tells."""
    m.name, m.version = outline.name, outline.version
    m.id = "".join([f"{view[i] & 255:02x}" for i in range(16, 24)])
    m.n_steps, m.n_channels = m.input_shape = outline.n_steps, outline.n_channels
    m.input_type = "int16" if outline.input_type else "int8"
    m.channels, m.units = tuple(outline.channels), tuple(outline.units)
    counts_at = outline.counts_at
    m.counts_per_unit = tuple([unpack_from("<f", view, counts_at + 4 * i)[0] for i in range(m.n_channels)])
    m.n_outputs, m.hop = outline.task[2:4]
    m.sample_rate_hz = unpack_from("<f", view, outline.task_at + 8)[0]
    m._softmax = tuple(outline.task[5:9])
    m._thresholds = bytes(view[outline.thresholds_at : outline.thresholds_at + m.n_outputs])
    m.labels = tuple(outline.labels)
    m.n_golden = outline.n_golden
    m._golden = bytes(view[outline.golden_at : outline.golden_end])
    m._ops = [_op_row(outline, i) for i in range(len(outline.ops))]
    m.macs = sum([row[4] for row in m._ops])


def _op_row(outline, i):
    """Returns (index, name, input shape, output shape, macs) of op i; attention counts the pairs that exist."""
    op = outline.ops[i]
    code, values, _, macs = op
    x, y = outline.shapes[sources(op)[0]], outline.shapes[i + 1]
    name = outline.op_names[code - 16].lower()
    if name == "windowed_attention_s8":
        macs = 2 * y[1] * attended_pairs(y[0], values[4], values[5])
    return i + 1, name, x, y, macs


def _kernel(index):
    """Returns the kernel of an op code - 16, in the order of format.OP_NAMES."""
    if index == _NORM:
        return extension("norm").layer_norm_s8
    return (
        ops.linear_s8,
        ops.conv1d_s8,
        ops.windowed_attention_s8,
        None,
        ops.add_s8,
        ops.mean_pool_s8,
        ops.table_s8,
    )[index]


class Plan:
    """What a run does, and all the memory it needs.

    Weights stay in the caller's buffer, for the bytecode kernels when it holds signed bytes (as a file read by
    ``load`` does), else each op's are copied once. Numbers that act as index, length or shift are always copied.
    Each output channel costs 8 bytes and, for the bytecode kernels, the view of a row (16 bytes on a 32-bit board).

    Attributes:
        steps: (kernel, sources, y, layer) of each op.    source_ids: three bytes an op, the numbers of its sources.
        input_layer: of requantize_s16, or None for int8.
        input, output: first and last tensor.    arena_bytes: planned bytes for all tensors.
    """

    def __init__(self, outline, data):
        """Plans the model that ``outline`` describes; ``data`` is a memoryview of the file."""
        self._outline = outline
        self._data = data
        self._in_place = READS_ANY_SIGN or max(data) < 128  # or signed, or the same either way
        self._tokens = {}
        self._acc = array("i", bytes(4 * self._scratch_values()))
        tensors = self._tensors()
        self.input, self.output = tensors[0], tensors[-1]
        self.input_layer = None
        if outline.input_type:
            rows = self._rows(outline.rows_at, outline.n_channels)
            self.input_layer = (outline.n_steps, outline.n_channels, rows)
        build = (self._linear, self._conv1d, self._attention, self._norm, self._add, self._pool, self._table)
        self.steps, self.source_ids = [], b""
        for i, op in enumerate(outline.ops):
            read = sources(op)
            index = op[0] - 16
            layer = build[index](op[1], op[2], outline.shapes[read[0]], outline.shapes[i + 1])
            self.source_ids += (bytes(read) + b"\x00\x00")[:3]
            self.steps.append((_kernel(index), tuple([tensors[s] for s in read]), tensors[i + 1], layer))

    def _scratch_values(self):
        """Returns how many int32 the neediest op keeps."""
        n = 1
        shapes = self._outline.shapes
        for i, op in enumerate(self._outline.ops):
            n_keys = _span(op, shapes[i + 1]) if op[0] - 16 == _ATTENTION else 0
            n = max(n, ops.scratch_values(_n_products(op, shapes[sources(op)[0]]), shapes[i + 1][1], n_keys))
        return n

    def _tensors(self):
        outline = self._outline
        blocks, shared = memory_blocks(outline)
        offsets, self.arena_bytes = place(blocks)
        for tensor, source in shared:
            offsets[tensor] = offsets[source]
        arena = memoryview(array("b", bytes(self.arena_bytes)))
        tensors = []
        for i, (steps, channels) in enumerate(outline.shapes):
            tensors.append(arena[offsets[i] : offsets[i] + steps * channels])
        if not outline.input_type:
            tensors[0] = memoryview(array("b", bytes(outline.n_steps * outline.n_channels)))
        return tensors

    def _token(self, n):
        """Returns the buffer that all ops with rows of n weights share."""
        if n not in self._tokens:
            self._tokens[n] = ops.token(n)
        return self._tokens[n]

    def _signed(self, at, n):
        view = self._data[at : at + n]
        return view if self._in_place else memoryview(array("b", bytes(view)))

    def _rows(self, at, n):
        """Copies n requantize rows; the shift is stored less one (see _python.py)."""
        u8, u16 = self._outline.u8, self._outline.u16
        bias, multiplier = array("i", bytes(4 * n)), array("h", bytes(2 * n))
        pre, half_post = bytearray(n), bytearray(n)
        for i in range(n):
            bias[i] = self._outline.i32(at)
            multiplier[i] = u16(at + 4)
            pre[i] = u8(at + 6)
            half_post[i] = u8(at + 7) - 1
            at += 8
        return bias, multiplier, pre, half_post

    def _weights(self, at, n, n_inputs):
        return ops.weights(self._signed(at, n * ((n_inputs + 3) & ~3)), n, n_inputs)

    # The layer of each kernel: values of the fixed fields, offset of the arrays, shapes of source and output.

    def _linear(self, values, at, x, y):
        low, high = _CLAMPS[values[1]]
        weights, rows = self._weights(at + 8 * y[1], y[1], x[1]), self._rows(at, y[1])
        return x[0], x[1], y[1], weights, rows, low, high, self._token(x[1]), self._acc

    def _conv1d(self, values, at, x, y):
        low, high = _CLAMPS[values[1]]
        kernel, stride, pad_left, pad_right = values[3:7]
        weights, rows = self._weights(at + 8 * y[1], y[1], kernel * x[1]), self._rows(at, y[1])
        patch = self._token(kernel * x[1])
        shape = x[0], x[1], y[0], y[1], kernel, stride, pad_left, pad_right
        return shape + (weights, rows, low, high, patch, self._acc)  # noqa: RUF005 (no unpacking on MicroPython)

    def _attention(self, values, at, x, y):
        heads, left, right = values[3:6]
        bias = array("i", bytes(4 * heads * (left + right + 1)))
        for i in range(len(bias)):
            bias[i] = self._outline.i32(at + 4 * i)
        query = self._token(x[1] // heads)
        return x[0], x[1], heads, left, right, tuple(values[6:10]), values[10], values[11], bias, query, self._acc

    def _norm(self, values, at, x, y):
        return x[0], x[1], values[1], values[2], values[3], values[4], self._acc

    def _add(self, values, at, x, y):
        return x[0] * x[1], values[3], values[4]

    def _pool(self, values, at, x, y):
        bias, multiplier, pre, post = values[3:7]
        rows = (array("i", (bias,)), array("h", (multiplier,)), bytes((pre,)), bytes((post - 1,)))
        return x[0], x[1], rows, self._acc

    def _table(self, values, at, x, y):
        return x[0] * x[1], self._signed(at, 256)
