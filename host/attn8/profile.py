"""What a packed model costs: bytes, arena, parameters, multiply-accumulates. All figures here are exact.

Cycles are counted by an emulator (boards/); nothing in this file estimates any.
"""

from . import graph, reference, spec, stream
from .arena import M0PLUS
from .spec import padded

_ROW_BYTES = spec.row_bytes(spec.REQUANTIZE_ROW)
_ALLOWANCE_BYTES = 1024  # header, names, labels, op fields and golden vectors together
_WEIGHTS = "weights, rows padded to 4"
_REQUANTIZE = "requantize numbers, 8 an output channel"
_RELATIVE_BIAS = "relative attention bias, 4 an entry"
_TABLES = "activation tables, 256 each"
_PARAMETERS = (_WEIGHTS, _REQUANTIZE, _RELATIVE_BIAS, _TABLES)


def account(data):
    """Returns where every byte of a model file goes.

    Args:
        data: bytes of a model file.

    Returns:
        list of (what, bytes) in the order of the file's layout; the bytes add up to len(data).

    Raises:
        attn8.ModelError: if check_model refuses the file.
    """
    return _account(reference.parse(data))


def _account(model):
    lines = {"header": spec.HEADER_BYTES}
    for record in (spec.META, spec.INPUT, spec.TASK):
        lines[f"{record.name} record"] = _record_bytes(model, record)
    parts = [_op_bytes(op) for op in model.graph.ops]
    for what in _PARAMETERS:
        lines[what] = sum(part.get(what, 0) for part in parts)
    fields = [spec.RECORD_HEADER_BYTES + reference.op_record(op).fixed_bytes for op in model.graph.ops]
    lines["op headers and fields"] = sum(fields)
    lines["golden vectors"] = _record_bytes(model, spec.GOLDEN)
    lines["optional records"] = _record_bytes(model, None)
    return [(what, n) for what, n in lines.items() if n or what in _PARAMETERS]


def _record_bytes(model, record):
    return sum(spec.RECORD_HEADER_BYTES + n for found, _, n in model.records if found is record)


def _op_bytes(op):
    """Returns {line of the account: bytes} of the arrays of one op."""
    if isinstance(op, graph.Linear | graph.Conv1d):
        n, k = len(op.weights), op.weights[0].size
        return {_WEIGHTS: n * padded(k), _REQUANTIZE: n * _ROW_BYTES}
    if isinstance(op, graph.WindowedAttention):
        return {_RELATIVE_BIAS: 4 * op.relative_bias.size}
    return {_TABLES: 256} if isinstance(op, graph.Table) else {}


def budget_bytes(lines):
    """Returns the largest file that these weights, channels, biases and tables allow.

    Args:
        lines: what ``account`` returned.
    """
    return sum(n for what, n in lines if what in _PARAMETERS) + _ALLOWANCE_BYTES


def parameters(data):
    """Returns the number of parameters: weights without padding, one bias an output channel, relative bias."""
    return _parameters(reference.parse(data).graph)


def _parameters(g):
    linear = [op for op in g.ops if isinstance(op, graph.Linear | graph.Conv1d)]
    bias = [op.relative_bias.size for op in g.ops if isinstance(op, graph.WindowedAttention)]
    return sum(op.weights.size + len(op.weights) for op in linear) + sum(bias)


def macs(data):
    """Returns the multiply-accumulates of one window.

    Attention counts the (query, key) pairs that exist: its window is cut at the ends. A convolution counts
    its zero padding, as kernels and papers do.

    Args:
        data: bytes of a model file.

    Returns:
        (total, list with one entry an op).
    """
    per_op = _macs(reference.parse(data))
    return sum(per_op), per_op


def _macs(model):
    return [_op_macs(op, shape) for op, shape in zip(model.graph.ops, model.shapes[1:], strict=True)]


def _op_macs(op, shape):
    steps, channels = shape
    if isinstance(op, graph.Linear | graph.Conv1d):
        return steps * op.weights.size
    if isinstance(op, graph.WindowedAttention):
        return 2 * channels * _attended_pairs(steps, op.left, op.right)
    return 0


def _attended_pairs(steps, left, right):
    """Returns how many (query, key) pairs lie inside the window: the band less its two cut corners."""
    return steps * (left + right + 1) - left * (left + 1) // 2 - right * (right + 1) // 2


def arena(data):
    """Returns (arena_bytes, live_bytes): the planned arena and the floor that no plan can pass."""
    model = reference.parse(data)
    return model.arena_bytes, model.live_bytes


def latency_ms(cycles, clock_hz):
    """Returns milliseconds for a number of cycles at a clock in Hz."""
    return 1000 * cycles / clock_hz


def op_table(model):
    """Returns what each step of a run does, step 0 being the conversion of the input.

    Args:
        model: a reference.ParsedModel.

    Returns:
        list of dicts: index (the tensor that the step makes), name, shape [steps, channels], macs.
    """
    names = ["input", *(reference.op_record(op).name.lower() for op in model.graph.ops)]
    steps = zip(names, model.shapes, [0, *_macs(model)], strict=True)
    return [{"index": i, "name": name, "shape": list(shape), "macs": n} for i, (name, shape, n) in enumerate(steps)]


def info(data):
    """Returns everything that the file alone says about a model, as a dict for JSON.

    Args:
        data: bytes of a model file.

    Raises:
        attn8.ModelError: if check_model refuses the file.
    """
    model = reference.parse(data)
    g, lines = model.graph, _account(model)
    return {
        "name": g.name,
        "version": g.version,
        "id": model.id,
        "input_shape": [g.n_steps, g.n_channels],
        "input_type": "int8" if g.input_requantize is None else "int16",
        "channels": g.channels,
        "units": g.units,
        "counts_per_unit": [float(v) for v in g.counts_per_unit],
        "sample_rate_hz": g.sample_rate_hz,
        "hop": g.hop,
        "n_outputs": len(g.labels),
        "labels": g.labels,
        "parameters": _parameters(g),
        "macs": sum(_macs(model)),
        "model_bytes": len(model.data),
        "budget_bytes": budget_bytes(lines),
        "arena_bytes": model.arena_bytes,
        "arena_bytes_m0plus": reference.plan(model, M0PLUS)[1],
        "live_bytes": model.live_bytes,
        "stream_bytes": _stream_bytes(model),
        "account": [{"what": what, "bytes": n} for what, n in lines],
        "ops": op_table(model),
        "source": "exact, computed from the file",
    }


def _stream_bytes(model):
    """Returns what a stream keeps, or None if the model is not causal."""
    from .device import ModelError

    try:
        return stream.state_bytes(model)
    except ModelError:
        return None


def render_info(info):
    """Returns a rich renderable of what ``info`` returned."""
    from rich.console import Group
    from rich.text import Text

    version = f" v{info['version']}" if info["version"] else ""
    title = f"{info['name']}{version} ({info['id']})"
    return Group(Text(title, style="bold"), _facts(info), "", _account_table(info), "", _ops_table(info["ops"]))


def _facts(info):
    from rich.table import Table
    from rich.text import Text

    steps, channels = info["input_shape"]
    kind = info["input_type"] + (f" at {info['sample_rate_hz']:g} Hz" if info["sample_rate_hz"] else "")
    table = Table(box=None, show_header=False, pad_edge=False)
    for what, value in (
        ("window", f"{steps} samples x {channels} channels ({', '.join(info['channels'])}), {kind}"),
        ("scale", _scales(info)),
        ("classes", f"{info['n_outputs']}: {', '.join(info['labels'])}"),
        ("parameters", f"{info['parameters']:,}"),
        ("MACs a window", f"{info['macs']:,}"),
        ("file", f"{info['model_bytes']:,} bytes"),
        ("arena", f"{info['arena_bytes']:,} bytes (tensors alive at once: {info['live_bytes']:,})"),
        ("on a Cortex-M0+", f"{info['arena_bytes_m0plus']:,} bytes, with memory for its kernels"),
        ("stream", "no: not causal" if info["stream_bytes"] is None else f"keeps {info['stream_bytes']:,} bytes"),
    ):
        table.add_row(what, Text(value))
    return table


def _scales(info):
    """Returns the counts of one unit of each channel, in words."""
    parts = [
        f"{name}: {counts:g} counts a {unit or 'unit'}" if counts else f"{name}: not known"
        for name, unit, counts in zip(info["channels"], info["units"], info["counts_per_unit"], strict=True)
    ]
    return ", ".join(parts)


def _account_table(info):
    from rich.table import Table

    size, budget = info["model_bytes"], info["budget_bytes"]
    table = Table(title="where the bytes go (exact)", title_justify="left", box=None, pad_edge=False)
    table.add_column("part")
    table.add_column("bytes", justify="right")
    for line in info["account"]:
        table.add_row(line["what"], f"{line['bytes']:,}")
    table.add_row("file", f"{size:,}", style="bold")
    verdict = "within" if size <= budget else "OVER"
    table.add_row(f"budget: weights, requantize, bias, tables + 1 kB ({verdict})", f"{budget:,}")
    return table


def _ops_table(ops):
    from rich.table import Table

    emulated = "cycles" in ops[0]
    table = Table(title="step by step", title_justify="left", box=None, pad_edge=False)
    for name in ("#", "op", "output", "MACs", *(("cycles", "cycles/MAC") if emulated else ())):
        table.add_column(name, justify="left" if name in ("op", "output") else "right")
    for op in ops:
        row = [str(op["index"]), op["name"], "x".join(map(str, op["shape"])), f"{op['macs']:,}"]
        if emulated:
            ratio = op["cycles_per_mac"]
            row += [f"{op['cycles']:,}", "" if ratio is None else f"{ratio:.2f}"]
        table.add_row(*row)
    return table


def render_bench(bench):
    """Returns a rich renderable of what ``boards.bench`` returned."""
    from rich.console import Group
    from rich.text import Text

    head = f"{bench['board']}: {bench['cycles']:,} cycles a window = {bench['ms']:.1f} ms at {bench['clock_mhz']:g} MHz"
    memory = ", ".join(f"{name} {bench[f'{name}_bytes']:,} bytes" for name in ("arena", "stack", "code"))
    lines = [Text(head, style="bold"), Text(bench["source"]), Text(f"{memory}; golden outputs equal")]
    lines += _stream_line(bench["stream"])
    return Group(*lines, "", _ops_table(bench["ops"]))


def _stream_line(stream):
    """Returns what a token of a stream costs, as a list of one Text, or none."""
    from rich.text import Text

    if stream is None:
        return []
    return [
        Text(
            f"stream: {stream['token_cycles']:,} cycles a token ({stream['token_samples']} samples, output included) = "
            f"{stream['token_ms']:.2f} ms, 1/{stream['tokens_a_window']:.0f} of a window; "
            f"state {stream['state_bytes']:,} bytes"
        )
    ]
