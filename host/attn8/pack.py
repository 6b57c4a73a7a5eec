"""QuantGraph to bytes: twice, first without golden outputs, then with those that reference.py computed."""

import hashlib
import struct
import zlib
from pathlib import Path

import numpy as np

from . import graph as g
from . import reference, spec
from .atomic import write_atomic
from .errors import PackError

_STRUCT = {"u8": "B", "u16": "H", "i16": "h", "i32": "i", "f32": "f"}


def pack(graph):
    """Packs a graph into the bytes of a model file, golden outputs included.

    Args:
        graph: graph.QuantGraph.

    Returns:
        bytes that ``check_model`` accepts.

    Raises:
        PackError: if the graph does not fit the limits of models/FORMAT.md.
    """
    n_outputs = len(graph.labels)
    blank = np.zeros((len(graph.golden.vectors), n_outputs), dtype=np.int8)
    model = reference.Reference(_checked(_file(graph, blank)))
    return _checked(_file(graph, model.run(model.golden_inputs())))


def save(data, path):
    """Writes a file beside its target, then replaces the target, so that a failed write loses nothing."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, data)


def _checked(data):
    code = reference.check_model(data)
    if code:
        fault = reference.error(code)
        raise PackError(
            f"the model cannot be packed: {fault.what} ({fault.name}); expected the limits of models/FORMAT.md"
        )
    return data


def _file(graph, golden_outputs):
    records = [_meta(graph), _input(graph), _task(graph)]
    records += [_OP_WRITERS[type(op)](op) for op in graph.ops]
    body = b"".join([*records, _golden(graph.golden, golden_outputs)])
    return seal(body, len(graph.ops))


def seal(body, n_ops, major=spec.FORMAT_MAJOR, minor=spec.FORMAT_MINOR):
    """Puts a header with length, id and checksum before the records."""
    total = spec.HEADER_BYTES + len(body)
    identity = hashlib.sha256(body).digest()[:8]
    start = struct.pack("<4sBBHI", spec.MAGIC, major, minor, n_ops, total)
    crc = zlib.crc32(identity + body, zlib.crc32(start))
    return start + struct.pack("<I", crc) + identity + body


def _record(spec_record, values, *arrays):
    payload = fields(spec_record.name, spec_record.fields, values) + b"".join(_pad(a) for a in arrays)
    return struct.pack("<HHI", spec_record.code, 0, len(payload)) + payload


def fields(where, table, values):
    """Packs the fixed fields of a record or row; reserved ones are 0.

    Raises:
        PackError: if a value is outside the range that spec.py gives.
    """
    out = b""
    for f in table:
        value = 0 if f.name.startswith("reserved") else values[f.name]
        if f.type != "f32" and not f.low <= value <= f.high:
            raise PackError(f"{where}.{f.name}: got {value}, expected {f.low}..{f.high} ({f.doc})")
        out += struct.pack("<" + _STRUCT[f.type], value)
    return out


def _pad(data):
    return data + bytes(-len(data) % spec.LIMIT["ARENA_ALIGNMENT"])


def _text(what, string, limit, smallest=1):
    data = string.encode("utf-8", "surrogatepass")
    if not smallest <= len(data) <= limit or not reference.printable(data):
        raise PackError(f"{what}: got {string!r}, expected {smallest}..{limit} bytes of printable UTF-8; rename it")
    return data


def _short_string(what, string, limit, smallest=1):
    data = _text(what, string, limit, smallest)
    return bytes([len(data)]) + data


def _meta(graph):
    name = _text("model.name", graph.name, spec.LIMIT["MAX_NAME_BYTES"])
    version = _text("model.version", graph.version, spec.LIMIT["MAX_NAME_BYTES"], 0)
    return _record(spec.META, {"name_bytes": len(name), "version_bytes": len(version)}, name + version)


def _rows(rows):
    columns = zip(rows.bias, rows.multiplier, rows.pre, rows.post, strict=True)
    names = [f.name for f in spec.REQUANTIZE_ROW]
    return b"".join(
        fields("requantize", spec.REQUANTIZE_ROW, dict(zip(names, map(int, column), strict=True))) for column in columns
    )


def _input(graph):
    values = {
        "n_steps": graph.n_steps,
        "n_channels": graph.n_channels,
        "input_type": int(graph.input_requantize is not None),
    }
    rows = _rows(graph.input_requantize) if graph.input_requantize is not None else b""
    counts = np.asarray(graph.counts_per_unit, dtype="<f4")
    names = b"".join(
        _short_string("channel name", name, spec.LIMIT["MAX_NAME_BYTES"])
        + _short_string("unit", unit, spec.LIMIT["MAX_UNIT_BYTES"], 0)
        for name, unit in zip(graph.channels, graph.units, strict=True)
    )
    return _record(spec.INPUT, values, rows, counts.tobytes(), names)


def _task(graph):
    softmax = graph.score
    values = {"task": spec.TASKS[0].value, "n_outputs": len(graph.labels), "hop": graph.hop}
    values |= {"sample_rate_hz": graph.sample_rate_hz, "score_dmax": softmax.dmax, "score_dm": softmax.dm}
    values |= {"score_dpre": softmax.dpre, "score_dsh": softmax.dsh}
    labels = b"".join(_short_string("label", label, spec.LIMIT["MAX_NAME_BYTES"]) for label in graph.labels)
    return _record(spec.TASK, values, np.asarray(graph.thresholds, dtype=np.uint8).tobytes(), labels)


def _weights(weights):
    rows = weights.reshape(len(weights), -1).astype(np.int8)
    return np.pad(rows, ((0, 0), (0, -rows.shape[1] % spec.LIMIT["ARENA_ALIGNMENT"]))).tobytes()


def _linear(op):
    values = {"source": op.source, "clamp": op.clamp, "n_outputs": len(op.weights)}
    return _record(spec.LINEAR, values, _rows(op.requantize), _weights(op.weights))


def _conv1d(op):
    values = {"source": op.source, "clamp": op.clamp, "n_outputs": len(op.weights), "kernel": op.weights.shape[1]}
    values |= {"stride": op.stride, "pad_left": op.pad_left, "pad_right": op.pad_right}
    return _record(spec.CONV1D, values, _rows(op.requantize), _weights(op.weights))


def _attention(op):
    values = {
        name: getattr(op, name) for name in ("query", "key", "value", "heads", "left", "right", "multiplier", "shift")
    }
    values |= vars(op.softmax)
    return _record(spec.ATTENTION, values, np.asarray(op.relative_bias, dtype="<i4").tobytes())


def _mean_pool(op):
    rows = op.requantize
    values = {"source": op.source, "bias": int(rows.bias[0]), "multiplier": int(rows.multiplier[0])}
    return _record(spec.MEAN_POOL, values | {"pre": int(rows.pre[0]), "post": int(rows.post[0])})


_OP_WRITERS = {
    g.Linear: _linear,
    g.Conv1d: _conv1d,
    g.WindowedAttention: _attention,
    g.LayerNorm: lambda op: _record(spec.LAYER_NORM, vars(op)),
    g.Add: lambda op: _record(spec.ADD, vars(op)),
    g.MeanPool: _mean_pool,
    g.Table: lambda op: _record(spec.TABLE, {"source": op.source}, np.asarray(op.table, dtype=np.int8).tobytes()),
}


def _golden(golden, outputs):
    channels = b"".join(
        fields("golden", spec.GOLDEN_CHANNEL_ROW, {"low": int(low), "n_values": int(n)})
        for low, n in zip(golden.low, golden.n_values, strict=True)
    )
    vectors = b"".join(
        fields("golden", spec.GOLDEN_VECTOR_ROW, {"x": x, "y": y, "hold": hold}) for x, y, hold in golden.vectors
    )
    return _record(
        spec.GOLDEN, {"n_vectors": len(golden.vectors)}, channels, vectors, outputs.astype(np.int8).tobytes()
    )
