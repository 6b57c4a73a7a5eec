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


def _ops_table(ops, unit=None):
    from rich.table import Table

    table = Table(title="step by step", title_justify="left", box=None, pad_edge=False)
    for name in ("#", "op", "output", "MACs", *((unit, f"{unit}/MAC", "of the bound") if unit else ())):
        table.add_column(name, justify="left" if name in ("op", "output") else "right")
    for op in ops:
        row = [str(op["index"]), op["name"], "x".join(map(str, op["shape"])), f"{op['macs']:,}"]
        if unit:
            row += [f"{op[unit]:,}", *_ratio(op, unit)]
        table.add_row(*row)
    return table


def _ratio(found, unit):
    """Returns the texts of a count per multiply-accumulate, and of its share of the bound."""
    ratio, percent = found[f"{unit}_per_mac"], found["percent_of_bound"]
    return "" if ratio is None else f"{ratio:.2f}", "" if percent is None else f"{percent:.0f} %"


def render_bench(bench):
    """Returns a rich renderable of what ``boards.bench`` returned."""
    from rich.console import Group
    from rich.text import Text

    unit = bench["unit"]
    ms = f" = {bench['ms']:.1f} ms at {bench['clock_mhz']:g} MHz" if "ms" in bench else ""
    lines = [
        Text(f"{bench['board']}: {bench[unit]:,} {unit} a window{ms}", style="bold"),
        Text(f"{bench['source']}; golden outputs equal"),
        _bound_line(bench),
        Text(
            f"flash {bench['flash_bytes']:,} bytes: code {bench['code_bytes']:,}, file {bench['file_bytes']:,}; "
            f"RAM {bench['ram_bytes']:,}: model {bench['object_bytes']:,}, arena {bench['arena_bytes']:,}; "
            f"stack {bench['stack_bytes']:,}"
        ),
        Text(
            f"ops one by one {bench['sum_of_ops']:,} {unit}; what is left is {bench[f'walk_{unit}_per_op']:.0f} an op"
        ),
        *_stream_line(bench["stream"], unit),
    ]
    return Group(*lines, "", _ops_table(bench["ops"], unit))


def _bound_line(found):
    """Returns what a multiply-accumulate takes, where that is known, and what it takes at least."""
    from rich.text import Text

    unit, reached = found["unit"], ""
    if found.get("macs"):
        percent = found["percent_of_bound"]
        reached = f"{found[f'{unit}_per_mac']:.2f} {unit}/MAC, {'' if percent is None else f'{percent:.0f} % of the '}"
    return Text(f"{reached}bound {found['bound']:g} {unit}/MAC: {found['bound_reason']}")


def _share(tokens_a_window):
    """Returns what a token is of a window, or how many windows it is."""
    if tokens_a_window >= 1.5:
        return f"1/{tokens_a_window:.0f} of a window"
    return f"{1 / tokens_a_window:.1f} windows"


def _stream_line(stream, unit):
    """Returns what a token of a stream costs, as a list of Texts, none where there is no stream."""
    from rich.text import Text

    if stream is None:
        return []
    samples, share = stream["token_samples"], _share(stream["tokens_a_window"])
    said = f"stream: {_token(stream, unit)} a token ({samples} samples, output included), {share}"
    lines = [f"{said}; state {stream['state_bytes']:,} bytes"]
    if stream["packed_state_bytes"]:
        said = f"with packed weights: {_token(stream, unit, 'packed_')} a token"
        lines.append(f"{said}; state {stream['packed_state_bytes']:,} bytes")
    return [Text(line) for line in lines]


def _token(stream, unit, kind=""):
    ms = stream.get(f"{kind}token_ms")
    return f"{stream[f'{kind}token_{unit}']:,} {unit}" + ("" if ms is None else f" = {ms:.2f} ms")


def render_kernels(found):
    """Returns a rich renderable of what ``boards.kernels.bench_kernels`` returned."""
    from rich.console import Group
    from rich.text import Text

    unit = found["unit"]
    lines = [
        Text(f"{found['board']}: {unit} of each kernel, all outputs equal to the reference", style="bold"),
        Text(found["source"]),
        _bound_line(found),
        Text(found["conditions"]),
        Text(f"code {found['code_bytes']:,} bytes, with portable kernels {found['portable_code_bytes']:,}"),
    ]
    return Group(*lines, "", _kernel_table(found["rows"], unit))


def _count(n, per):
    return "" if n is None else f"{n:,.2f}" if per else f"{n:,}"


def _kernel_table(rows, unit):
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for name in ("kernel", unit, "per", "of the bound", "portable", "stack", "RAM"):
        table.add_column(name, justify="left" if name in ("kernel", "per") else "right")
    for row in rows:
        percent = "" if row["percent_of_bound"] is None else f"{row['percent_of_bound']:.0f} %"
        numbers = [_count(row[key], row["per"]) for key in ("value", "portable")]
        per = {"mac": "MAC", "": ""}.get(row["per"], row["per"])
        sizes = [f"{row[key]:,}" for key in ("stack_bytes", "ram_bytes")]
        table.add_row(row["conditions"], numbers[0], per, percent, numbers[1], *sizes)
    return table
