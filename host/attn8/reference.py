"""NumPy checker and interpreter of a packed FILE: the bit-exact arbiter of every other back end."""

import zlib
from dataclasses import dataclass, field

import numpy as np

from . import arena, arithmetic, graph, spec

_LIMITS = spec.LIMIT
_CODE = spec.ERROR_CODES
_DTYPES = {"u8": "u1", "u16": "<u2", "i16": "<i2", "i32": "<i4", "f32": "<f4"}
_ERRORS = {e.code: e for e in spec.ERRORS}


class _Fault(Exception):
    def __init__(self, name):
        super().__init__(name)
        self.code = _CODE[name]


def error(code):
    """Returns the spec.ErrorCode of a code."""
    return _ERRORS[code]


def model_error(code, where="model", got=None, expected=None):
    """Returns the ModelError of a code, with its sentence."""
    from .device import ModelError

    return ModelError(code, where, got, expected)


def check_model(data):
    """Checks everything that models/FORMAT.md asks of a file.

    Args:
        data: bytes-like.

    Returns:
        0, or the code (spec.ERRORS) of the first fault.
    """
    try:
        _read(bytes(data))
    except _Fault as fault:
        return fault.code
    return 0


def parse(data):
    """Returns the ParsedModel of a file. Raises attn8.ModelError, with ``code``, for a faulty one."""
    try:
        return _read(bytes(data))
    except _Fault as fault:
        raise model_error(fault.code) from None


@dataclass
class ParsedModel:
    """What a file says. ``graph`` holds the ops, ``shapes`` the (steps, channels) of every tensor.

    ``records`` lists (spec.Record or None, payload offset, payload bytes); offsets and arena_bytes come from
    the planner, ``macs`` is the bound of check_model, golden_outputs int8 (n_vectors, n_outputs).
    """

    data: bytes
    graph: "graph.QuantGraph" = None
    shapes: list = field(default_factory=list)
    records: list = field(default_factory=list)
    golden_outputs: np.ndarray = None
    macs: int = 0
    arena_bytes: int = 0
    live_bytes: int = 0
    offsets: list = field(default_factory=list)
    id: str = ""
    minor: int = 0


class _Payload:
    """A cursor over one payload: every read is inside it, or RECORD_LENGTH."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, n):
        if n > len(self.data) - self.at:
            raise _Fault("RECORD_LENGTH")
        self.at += n
        return self.data[self.at - n : self.at]

    def array(self, type_, n):
        return np.frombuffer(self.take(n * np.dtype(_DTYPES[type_]).itemsize), dtype=_DTYPES[type_])

    def padding(self):
        if any(self.take(-self.at % _LIMITS["ARENA_ALIGNMENT"])):
            raise _Fault("RESERVED")

    def end(self):
        """The padding behind the last string ends the payload."""
        if len(self.data) - self.at > 3:
            raise _Fault("RECORD_LENGTH")
        self.padding()

    def exactly(self, n):
        if len(self.data) - self.at != n:
            raise _Fault("RECORD_LENGTH")

    def fields(self, table):
        return {f.name: _field(f, self.take(spec.TYPE_BYTES[f.type])) for f in table}

    def string(self, smallest, limit):
        n = self.take(1)[0]
        return self.text(n, smallest, limit)

    def text(self, n, smallest, limit):
        if not smallest <= n <= limit:
            raise _Fault("STRING")
        data = self.take(n)
        if not printable(data):
            raise _Fault("STRING")
        return data.decode("utf-8")


def _field(f, data):
    value = np.frombuffer(data, dtype=_DTYPES[f.type])[0]
    if f.type == "f32":
        _check_floats(np.frombuffer(data, dtype="<u4"))
        return float(value)
    if not f.low <= value <= f.high:
        raise _Fault(f.error)
    return int(value)


def _check_floats(bit_patterns):
    high = bit_patterns >> 16
    if np.any((bit_patterns != 0) & ((high < 0x0080) | (high > 0x7F7F))):
        raise _Fault("NUMBER")


def printable(data):
    """Says whether bytes are well-formed UTF-8 without control characters."""
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return all(c >= 0x20 and c != 0x7F for c in data)


def _require(condition, name):
    if not condition:
        raise _Fault(name)


def _read(data):
    n_ops = _check_header(data)
    model = ParsedModel(data, minor=data[5], id=data[16:24].hex())
    model.graph = graph.QuantGraph(*[None] * 15)
    model.graph.ops = []
    at = spec.HEADER_BYTES
    for expected in [spec.META, spec.INPUT, spec.TASK, *[None] * n_ops, spec.GOLDEN]:
        code, flags, payload, at = _record(data, at)
        record = _expect(code, expected)
        _require(flags == 0, "RESERVED")
        model.records.append((record, at - len(payload), len(payload)))
        _require(len(payload) >= record.fixed_bytes, "RECORD_LENGTH")
        cursor = _Payload(payload)
        _READERS[record.name](model, cursor, cursor.fields(record.fields))
    while at < len(data):
        code, flags, payload, at = _record(data, at)
        _require(code not in spec.RECORD_BY_CODE, "ORDER")
        _require(flags == spec.FLAG_OPTIONAL, _unknown(code))
        model.records.append((None, at - len(payload), len(payload)))
    _check_whole(model)
    _plan(model)
    return model


def _check_header(data):
    _require(len(data) >= spec.HEADER_BYTES, "TRUNCATED")
    _require(data[:4] == spec.MAGIC, "MAGIC")
    _require(data[4] == spec.FORMAT_MAJOR, "VERSION")
    _require(len(data) <= _LIMITS["MAX_FILE_BYTES"], "LENGTH")
    _require(int.from_bytes(data[8:12], "little") == len(data), "LENGTH")
    _require(zlib.crc32(data[16:], zlib.crc32(data[:12])) == int.from_bytes(data[12:16], "little"), "CRC")
    n_ops = int.from_bytes(data[6:8], "little")
    _require(1 <= n_ops <= _LIMITS["MAX_OPS"], "COUNT")
    return n_ops


def _record(data, at):
    """Reads a record header at ``at``. Returns (code, flags, payload, offset behind it)."""
    _require(len(data) - at >= spec.RECORD_HEADER_BYTES, "RECORD")
    code, flags = (int.from_bytes(data[at + i : at + i + 2], "little") for i in (0, 2))
    n = int.from_bytes(data[at + 4 : at + 8], "little")
    at += spec.RECORD_HEADER_BYTES
    _require(flags & ~spec.FLAG_OPTIONAL == 0, "RESERVED")
    _require(n % _LIMITS["ARENA_ALIGNMENT"] == 0, "RECORD_LENGTH")
    _require(n <= len(data) - at, "RECORD")
    return code, flags, data[at : at + n], at + n


def _unknown(code):
    return "UNKNOWN_OP" if spec.FIRST_OP <= code <= spec.LAST_OP else "UNKNOWN_RECORD"


def _expect(code, expected):
    """Returns the record of this code; expected None means any op."""
    record = spec.RECORD_BY_CODE.get(code)
    _require(record is not None, _unknown(code))
    is_op = code in spec.OP_BY_CODE
    if expected is None:
        _require(record is not spec.GOLDEN, "COUNT")
        _require(is_op, "ORDER")
    elif record is not expected:
        raise _Fault("COUNT" if expected is spec.GOLDEN and is_op else "ORDER")
    return record


def _read_meta(model, cursor, values):
    limit = _LIMITS["MAX_NAME_BYTES"]
    model.graph.name = cursor.text(values["name_bytes"], 1, limit)
    model.graph.version = cursor.text(values["version_bytes"], 0, limit)
    cursor.end()


def _read_rows(cursor, n):
    row = np.dtype([("bias", "<i4"), ("multiplier", "<u2"), ("pre", "u1"), ("post", "u1")])
    rows = np.frombuffer(cursor.take(n * row.itemsize), dtype=row)
    bad = np.stack([(rows[f.name] < f.low) | (rows[f.name] > f.high) for f in spec.REQUANTIZE_ROW], axis=1)
    if bad.any():
        raise _Fault(spec.REQUANTIZE_ROW[int(bad.ravel().argmax()) % 4].error)
    return graph.Requantize(*(rows[f.name].copy() for f in spec.REQUANTIZE_ROW))


def _read_input(model, cursor, values):
    n = values["n_channels"]
    _require(values["n_steps"] * n <= _LIMITS["MAX_TENSOR_BYTES"], "TOO_LARGE")
    int16 = values["input_type"] == 1
    if len(cursor.data) - cursor.at < n * (spec.row_bytes(spec.REQUANTIZE_ROW) * int16 + 4):
        raise _Fault("RECORD_LENGTH")
    model.graph.n_steps, model.graph.n_channels = values["n_steps"], n
    model.graph.input_requantize = _read_rows(cursor, n) if int16 else None
    model.graph.counts_per_unit = cursor.array("f32", n)
    _check_floats(model.graph.counts_per_unit.view("<u4"))
    names = []
    for _ in range(n):
        names.append((cursor.string(1, _LIMITS["MAX_NAME_BYTES"]), cursor.string(0, _LIMITS["MAX_UNIT_BYTES"])))
    model.graph.channels, model.graph.units = [name for name, _ in names], [unit for _, unit in names]
    cursor.end()
    model.shapes = [(values["n_steps"], n)]


def _check_softmax(softmax):
    _require(softmax.dpre == max(0, softmax.dmax.bit_length() - 15), "SHIFT")
    return softmax


def _read_task(model, cursor, values):
    model.graph.score = _check_softmax(graph.Softmax(*(values[f"score_{n}"] for n in ("dmax", "dm", "dpre", "dsh"))))
    model.graph.hop, model.graph.sample_rate_hz = values["hop"], values["sample_rate_hz"]
    model.graph.thresholds = cursor.array("u8", values["n_outputs"])
    _require(np.all(model.graph.thresholds <= 100), "TASK")
    cursor.padding()
    model.graph.labels = [cursor.string(1, _LIMITS["MAX_NAME_BYTES"]) for _ in range(values["n_outputs"])]
    cursor.end()


def _sources(model, *ids):
    """Returns the shapes of the tensors that an op reads."""
    for i in ids:
        _require(i < len(model.shapes), "SOURCE")
    return [model.shapes[i] for i in ids]


def _work(model, shape, macs):
    """Accounts for an op: its output and its multiply-accumulates."""
    steps, channels = shape
    limit = _LIMITS["MAX_MACS"]
    _require(steps * channels <= _LIMITS["MAX_TENSOR_BYTES"], "TOO_LARGE")
    _require(macs <= limit and model.macs + macs <= limit, "TOO_LARGE")
    model.macs += macs


def _append(model, op, shape):
    model.graph.ops.append(op)
    model.shapes.append(shape)


def _read_weights(cursor, n, k):
    """Reads n rows of k weights, padded to 4: in each row first WEIGHT, then its padding."""
    rows = np.frombuffer(cursor.take(n * spec.padded(k)), dtype=np.int8).reshape(n, spec.padded(k))
    wrong, dirty = (rows[:, :k] == -128).any(1), (rows[:, k:] != 0).any(1)
    if wrong.any() or dirty.any():
        first = int((wrong | dirty).argmax())
        raise _Fault("WEIGHT" if wrong[first] else "RESERVED")
    return rows[:, :k]


def _read_linear(model, cursor, values):
    ((steps, k),) = _sources(model, values["source"])
    n = values["n_outputs"]
    _work(model, (steps, n), steps * k * n)
    cursor.exactly(n * (spec.row_bytes(spec.REQUANTIZE_ROW) + spec.padded(k)))
    rows = _read_rows(cursor, n)
    _append(model, graph.Linear(values["source"], values["clamp"], rows, _read_weights(cursor, n, k)), (steps, n))


def _read_conv1d(model, cursor, values):
    ((steps, channels),) = _sources(model, values["source"])
    n, kernel, stride = values["n_outputs"], values["kernel"], values["stride"]
    left, right = values["pad_left"], values["pad_right"]
    k = kernel * channels
    _require(left < kernel and right < kernel, "SHAPE")
    _require(k <= _LIMITS["MAX_PRODUCTS"], "SHAPE")
    _require(steps + left + right >= kernel, "SHAPE")
    steps_out = (steps + left + right - kernel) // stride + 1
    _require(steps_out <= _LIMITS["MAX_STEPS"], "SHAPE")
    _work(model, (steps_out, n), steps_out * k * n)
    cursor.exactly(n * (spec.row_bytes(spec.REQUANTIZE_ROW) + spec.padded(k)))
    rows = _read_rows(cursor, n)
    weights = _read_weights(cursor, n, k).reshape(n, kernel, channels)
    _append(model, graph.Conv1d(values["source"], values["clamp"], stride, left, right, rows, weights), (steps_out, n))


def _read_attention(model, cursor, values):
    shapes = _sources(model, values["query"], values["key"], values["value"])
    heads, left, right = values["heads"], values["left"], values["right"]
    _require(shapes[0] == shapes[1] == shapes[2], "SHAPE")
    steps, d = shapes[0]
    _require(d % heads == 0 and d // heads <= _LIMITS["MAX_HEAD_SIZE"], "ATTENTION")
    _require(_key_range(model, values["key"]), "ATTENTION")
    _require(left < steps and right < steps, "ATTENTION")
    softmax = _check_softmax(graph.Softmax(*(values[n] for n in ("dmax", "dm", "dpre", "dsh"))))
    span = left + right + 1
    _work(model, (steps, d), 2 * steps * d * span)
    cursor.exactly(4 * heads * span)
    bias = cursor.array("i32", heads * span).reshape(heads, span)
    _require(np.all(np.abs(bias.astype(np.int64)) <= _LIMITS["MAX_RELATIVE_BIAS"]), "BIAS")
    op = graph.WindowedAttention(
        values["query"],
        values["key"],
        values["value"],
        heads,
        left,
        right,
        softmax,
        values["multiplier"],
        values["shift"],
        bias,
    )
    _append(model, op, (steps, d))


def _key_range(model, tensor):
    """A key tensor never holds -128: the packed multiply needs it."""
    op = model.graph.ops[tensor - 1] if tensor else None
    return isinstance(op, graph.Linear | graph.Conv1d) and op.clamp in (1, 2)


def _read_layer_norm(model, cursor, values):
    (shape,) = _sources(model, values["source"])
    _require(_LIMITS["MIN_NORM_CHANNELS"] <= shape[1] <= _LIMITS["MAX_NORM_CHANNELS"], "SHAPE")
    cursor.exactly(0)
    names = ("source", "kind", "multiplier", "epsilon", "shift")
    _append(model, graph.LayerNorm(*(values[n] for n in names)), shape)


def _read_add(model, cursor, values):
    a, b = _sources(model, values["a"], values["b"])
    _require(a == b, "SHAPE")
    _require(values["multiplier_a"] + values["multiplier_b"] <= _LIMITS["MAX_ADD_SUM"], "MULTIPLIER")
    cursor.exactly(0)
    _append(model, graph.Add(values["a"], values["b"], values["multiplier_a"], values["multiplier_b"]), a)


def _read_mean_pool(model, cursor, values):
    (shape,) = _sources(model, values["source"])
    cursor.exactly(0)
    row = graph.Requantize(*(np.array([values[f.name]]) for f in spec.REQUANTIZE_ROW))
    _append(model, graph.MeanPool(values["source"], row), (1, shape[1]))


def _read_table(model, cursor, values):
    (shape,) = _sources(model, values["source"])
    cursor.exactly(256)
    _append(model, graph.Table(values["source"], np.frombuffer(cursor.take(256), dtype=np.int8)), shape)


def _read_golden(model, cursor, values):
    g, n = model.graph, values["n_vectors"]
    n_outputs = n * len(g.labels)
    cursor.exactly(
        g.n_channels * spec.row_bytes(spec.GOLDEN_CHANNEL_ROW)
        + n * spec.row_bytes(spec.GOLDEN_VECTOR_ROW)
        + spec.padded(n_outputs)
    )
    smallest, largest = (-32768, 32767) if g.input_requantize is not None else (-128, 127)
    channels, vectors = [], []
    for _ in range(g.n_channels):
        c = cursor.fields(spec.GOLDEN_CHANNEL_ROW)
        _require(c["low"] >= smallest and c["low"] + c["n_values"] - 1 <= largest, "GOLDEN")
        channels.append((c["low"], c["n_values"]))
    for _ in range(n):
        v = cursor.fields(spec.GOLDEN_VECTOR_ROW)
        _require((v["x"] or v["y"]) and v["hold"] <= g.n_steps, "GOLDEN")
        vectors.append((v["x"], v["y"], v["hold"]))
    low, n_values = np.array(channels).T
    g.golden = graph.GoldenVectors(low, n_values, vectors)
    model.golden_outputs = np.frombuffer(cursor.take(n_outputs), dtype=np.int8).reshape(n, -1)
    cursor.end()


_READERS = {
    "META": _read_meta,
    "INPUT": _read_input,
    "TASK": _read_task,
    "LINEAR_S8": _read_linear,
    "CONV1D_S8": _read_conv1d,
    "WINDOWED_ATTENTION_S8": _read_attention,
    "LAYER_NORM_S8": _read_layer_norm,
    "ADD_S8": _read_add,
    "MEAN_POOL_S8": _read_mean_pool,
    "TABLE_S8": _read_table,
    "GOLDEN": _read_golden,
}


def op_sources(op):
    """Returns the ids of the tensors that an op reads."""
    if isinstance(op, graph.WindowedAttention):
        return (op.query, op.key, op.value)
    return (op.a, op.b) if isinstance(op, graph.Add) else (op.source,)


def op_record(op):
    """Returns the spec.Record of a graph op."""
    return _OP_RECORDS[type(op)]


_OP_RECORDS = {
    graph.Linear: spec.LINEAR,
    graph.Conv1d: spec.CONV1D,
    graph.WindowedAttention: spec.ATTENTION,
    graph.LayerNorm: spec.LAYER_NORM,
    graph.Add: spec.ADD,
    graph.MeanPool: spec.MEAN_POOL,
    graph.Table: spec.TABLE,
}


def _check_whole(model):
    read = {i for op in model.graph.ops for i in op_sources(op)}
    _require(read == set(range(len(model.shapes) - 1)), "SOURCE")
    _require(model.shapes[-1] == (1, len(model.graph.labels)), "SHAPE")


def memory_blocks(model, target=arena.PORTABLE):
    """Returns the planner's blocks (bytes, first step, last step): the tensors, then the scratch of each op.

    A tensor that is made in place has 0 bytes; the block of its source lives as long as it does.

    Args:
        model: a ParsedModel.    target: one of arena.TARGETS, whose kernels say how much scratch they want.
    """
    ops, shapes, last = model.graph.ops, model.shapes, _last_steps(model)
    sizes = [steps * channels for steps, channels in shapes]
    if model.graph.input_requantize is None:
        sizes[0] = 0
    for tensor, source in reversed(in_place(model)):
        sizes[tensor], last[source] = 0, last[tensor]
    blocks = list(zip(sizes, range(len(shapes)), last, strict=True))
    sources = [shapes[op_sources(op)[0]] for op in ops]
    scratch = [arena.scratch_bytes(op, sources[i], shapes[i + 1], target) for i, op in enumerate(ops)]
    return blocks + [(n, i + 1, i + 1) for i, n in enumerate(scratch)]


def _last_steps(model):
    """Returns the last step that reads each tensor, its own for the last one."""
    last = list(range(len(model.shapes)))
    for i, op in enumerate(model.graph.ops):
        for source in op_sources(op):
            last[source] = i + 1
    return last


def in_place(model):
    """Returns the (tensor, source) that lie in the same place: what makes the tensor is the last to read the source."""
    last, found = _last_steps(model), []
    for i, op in enumerate(model.graph.ops):
        free = [s for s in _replaceable(op) if last[s] == i + 1 and (s > 0 or model.graph.input_requantize is not None)]
        found += [(i + 1, source) for source in free[:1]]
    return found


def _replaceable(op):
    """Returns the sources of an op whose place its output may take."""
    sources = op_sources(op)
    if isinstance(op, graph.WindowedAttention):
        return () if op.query in sources[1:] else sources[:1]
    return sources if isinstance(op, graph.LayerNorm | graph.Add | graph.Table) else ()


def plan(model, target=arena.PORTABLE):
    """Returns (offsets, arena bytes, live bytes) of arena.plan for a target."""
    offsets, arena_bytes, live_bytes = arena.plan(memory_blocks(model, target))
    for tensor, source in in_place(model):
        offsets[tensor] = offsets[source]
    return offsets, arena_bytes, live_bytes


def _plan(model):
    model.offsets, model.arena_bytes, model.live_bytes = plan(model)


class Reference:
    """A packed model in NumPy.

    Args:
        data: bytes of a model file.

    Raises:
        attn8.ModelError: if check_model refuses it.
    """

    name = "reference"

    def __init__(self, data):
        self.model = parse(data)
        self.graph = self.model.graph

    @property
    def dtype(self):
        """dtype of a window: int16 counts, or int8."""
        return np.int8 if self.graph.input_requantize is None else np.int16

    def run(self, x):
        """Runs windows.

        Args:
            x: (N, T, C) of ``dtype``.

        Returns:
            int8 (N, n_outputs): the raw outputs.

        Raises:
            attn8.ModelError: if shape or dtype do not fit.
        """
        x = as_windows(x, self.graph.n_steps, self.graph.n_channels, self.dtype)
        largest = max(steps * channels for steps, channels in self.model.shapes)
        batch = min(256, max(1, arithmetic.BLOCK_ELEMENTS // largest))
        outputs = [self._outputs(x[i : i + batch]) for i in range(0, len(x), batch)]
        return np.concatenate(outputs or [np.empty((0, len(self.graph.labels)))]).astype(np.int8)

    def run_recording(self, x, hop=None):
        """Runs one recording as a stream does: models/FORMAT.md, "Streams".

        Args:
            x: (n, C) of ``dtype``.    hop: samples between two outputs; None: the file's.

        Returns:
            int8 (n_hops, n_outputs): the outputs when n_steps samples have come, then every ``hop`` samples.

        Raises:
            attn8.ModelError: STREAM if the model sees what is to come; INPUT if shape or dtype do not fit.
        """
        from . import stream

        x = as_windows(np.asarray(x)[None], len(x), self.graph.n_channels, self.dtype)[0]
        return stream.run_recording(self.model, self._input(x), self.graph.hop if hop is None else hop)

    def _outputs(self, x):
        """Runs a batch, dropping each tensor behind its last reader."""
        values = {0: self._input(x)}
        last = _last_steps(self.model)
        for i, op in enumerate(self.graph.ops):
            values[i + 1] = run_op(op, [values[source] for source in op_sources(op)])
            values = {t: value for t, value in values.items() if last[t] > i + 1 or t == i + 1}
        return values[len(self.graph.ops)][:, 0]

    def _input(self, x):
        x, rows = np.asarray(x, dtype=np.int64), self.graph.input_requantize
        return x if rows is None else arithmetic.requantize_rows(x, rows)

    def tensors(self, x):
        """Returns every tensor of the model for windows x: a list of int64 (N, steps, channels)."""
        values = [self._input(x)]
        for op in self.graph.ops:
            values.append(run_op(op, [values[i] for i in op_sources(op)]))
        return values

    def golden_inputs(self):
        """Returns the inputs (n_vectors, T, C) of the golden vectors."""
        return np.stack([self._golden_input(vector) for vector in self.graph.golden.vectors])

    def _golden_input(self, vector):
        return arithmetic.golden_input(self.graph.golden, vector, self.graph.n_steps, self.dtype)

    def selftest(self):
        """Raises attn8.ModelError SELFTEST unless the golden vectors give the outputs in the file."""
        for vector, expected in zip(self.graph.golden.vectors, self.model.golden_outputs, strict=True):
            if not np.array_equal(self.run(self._golden_input(vector)[None])[0], expected):
                raise model_error(_CODE["SELFTEST"])


def as_windows(x, n_steps, n_channels, dtype):
    """Returns x as an array, or raises attn8.ModelError unless it is (N, T, C) of this dtype."""
    x = np.asarray(x)
    if x.ndim != 3 or x.shape[1:] != (n_steps, n_channels) or x.dtype != dtype:
        expected = f"{np.dtype(dtype)} (N, {n_steps}, {n_channels})"
        raise model_error(_CODE["INPUT"], "window", f"{x.dtype} {x.shape}", expected)
    return x


def run_op(op, sources):
    """Runs one op of a graph on int64 tensors (N, steps, channels)."""
    return _RUNNERS[type(op)](op, *sources)


def _run_linear(op, x):
    return arithmetic.requantize_rows(arithmetic.linear_accumulate(x, op.weights), op.requantize, op.clamp)


def _run_conv1d(op, x):
    acc = arithmetic.conv1d_accumulate(x, op.weights, op.stride, op.pad_left, op.pad_right)
    return arithmetic.requantize_rows(acc, op.requantize, op.clamp)


_RUNNERS = {
    graph.Linear: _run_linear,
    graph.Conv1d: _run_conv1d,
    graph.WindowedAttention: lambda op, q, k, v: arithmetic.windowed_attention(q, k, v, op),
    graph.LayerNorm: lambda op, x: arithmetic.layer_norm(x, op),
    graph.Add: lambda op, a, b: arithmetic.add(a, b, op),
    graph.MeanPool: lambda op, x: arithmetic.requantize_rows(x.sum(1, keepdims=True), op.requantize),
    graph.Table: lambda op, x: op.table.astype(np.int64)[x + 128],
}
