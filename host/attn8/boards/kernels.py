"""What each kernel costs on a board, under conditions that stay the same from release to release.

Every figure comes from a whole model file, made here from a seed, and from the op of it that runs the kernel: the walk
to the op counts, and so do requantization and the stores of int8. Every tensor is compared with the reference.
"""

from dataclasses import dataclass, replace

import numpy as np

from .. import arithmetic, graph, pack, profile, reference
from . import board, described, percent_of_bound
from .chip import Chip, Machine

CONDITIONS = (
    "int8 in and out, requantization and the call of the op included; files made from a seed; blocks are pre-norm and "
    "causal, with relative bias, table, residuals and the mean pool that ends the file; tokens with their output"
)
# In place of the number of a step: a window; a token of a stream, from a packed state where this core gains by it (see
# a8_stream.h), from one that is not although it could be, and from a packed state only.
WINDOW, TOKEN, UNPACKED_TOKEN, PACKED_TOKEN = "window", "token", "unpacked token", "packed token"
_SPREAD = 40  # standard deviation of weights and tokens, int8
_FULL, _KEY = 0, 1
_BLOCKS = (  # steps, channels, feed-forward, tokens that attention sees; 4 heads
    (32, 32, 64, 16),
    (64, 64, 128, 64),
)


@dataclass(frozen=True)
class Figure:
    """What is measured of a file.

    Attributes:
        key: what its name in JSON begins with.    conditions: for people.
        step: its number in profile.op_table; or WINDOW, a whole a8_run; or one of the tokens, a push into its stream.
        per: "mac", "element", "query", "row" or "": what one value is for.    n: how many of them are measured.
        less: a _Net whose token is subtracted, or None.
    """

    key: str
    conditions: str
    step: int | str
    per: str = ""
    n: int = 1
    less: object = None

    def name(self, unit):
        """Returns its whole name: linear_s8_k64_cycles_per_mac."""
        return f"{self.key}_{unit}" + (f"_per_{self.per}" if self.per in ("mac", "element", "query") else "")


class _Net:
    """A graph that grows op by op, its numbers from a seed, its scales so that int8 is used and seldom saturated."""

    def __init__(self, n_steps, n_channels, int16=False):
        self._rng = np.random.default_rng(n_channels)
        self.ops, self.shapes, self._int16 = [], [(n_steps, n_channels)], int16

    def _append(self, op, n_steps, n_channels):
        self.ops.append(op)
        self.shapes.append((n_steps, n_channels))
        return len(self.ops)

    def _weights(self, *shape):
        return np.rint(self._rng.normal(0, _SPREAD, shape)).clip(-127, 127).astype(np.int8)

    def _rows(self, n, scale):
        scales = scale * self._rng.uniform(0.7, 1.4, n)
        multiplier, pre, post = arithmetic.choose_requantize(scales)
        bias = self._rng.integers(-10, 11, n) / scales + arithmetic.rounding_half(pre)
        return graph.Requantize(bias.astype(np.int64), multiplier, pre, post)

    def linear(self, source, n, clamp=_FULL):
        """y = W x, (T, n)."""
        steps, k = self.shapes[source]
        rows = self._rows(n, 1 / (_SPREAD * k**0.5))
        return self._append(graph.Linear(source, clamp, rows, self._weights(n, k)), steps, n)

    def conv1d(self, source, n, kernel, stride):
        """A convolution, (T/stride, n)."""
        steps, channels = self.shapes[source]
        pad = (kernel - stride) // 2
        rows = self._rows(n, 1 / (_SPREAD * (kernel * channels) ** 0.5))
        op = graph.Conv1d(source, _FULL, stride, pad, pad, rows, self._weights(n, kernel, channels))
        return self._append(op, (steps + 2 * pad - kernel) // stride + 1, n)

    def attention(self, source, heads, span):
        """Causal attention of `span` tokens, with its query, key and value."""
        steps, d = self.shapes[source]
        q, k, v = self.linear(source, d), self.linear(source, d, _KEY), self.linear(source, d)
        spread = _SPREAD**2 * (d // heads) ** 0.5
        bias = self._rng.integers(-int(spread), int(spread) + 1, (heads, span))
        divide = arithmetic.choose_row_divide(1.5)
        softmax = arithmetic.choose_softmax(32 / spread)
        return self._append(graph.WindowedAttention(q, k, v, heads, span - 1, 0, softmax, *divide, bias), steps, d)

    def norm(self, source):
        """LayerNorm."""
        steps, d = self.shapes[source]
        multiplier, shift, epsilon = arithmetic.choose_layer_norm(d, 1 / _SPREAD, 1 / _SPREAD, 1e-5, 0)
        return self._append(graph.LayerNorm(source, 0, multiplier, epsilon, shift), steps, d)

    def add(self, a, b):
        """A residual."""
        return self._append(graph.Add(a, b, *arithmetic.choose_add(1.0, 1.0, 1.4)), *self.shapes[a])

    def table(self, source):
        """GELU."""
        x = np.arange(-128, 128)
        y = np.rint(x / (1 + np.exp(-1.702 * x / _SPREAD))).astype(np.int8)
        return self._append(graph.Table(source, y), *self.shapes[source])

    def mean_pool(self, source):
        """The end that a file needs: one token."""
        steps, d = self.shapes[source]
        multiplier, pre, post = arithmetic.choose_requantize(np.full(1, 4 / steps))
        rows = graph.Requantize(arithmetic.rounding_half(pre), multiplier, pre, post)
        return self._append(graph.MeanPool(source, rows), 1, d)

    def block(self, source, heads, ff, span):
        """A pre-norm block of a transformer."""
        d = self.shapes[source][1]
        x = self.add(source, self.linear(self.attention(self.norm(source), heads, span), d))
        return self.add(x, self.linear(self.table(self.linear(self.norm(x), ff)), d))

    def packed(self):
        """Returns the bytes of the file."""
        (steps, channels), n = self.shapes[0], self.shapes[-1][1]
        low, n_values = (-1000, 2001) if self._int16 else (-70, 141)
        return pack.pack(
            graph.QuantGraph(
                name="bench",
                version="",
                n_steps=steps,
                n_channels=channels,
                input_requantize=self._rows(channels, 0.1) if self._int16 else None,
                channels=[str(i) for i in range(channels)],
                units=[""] * channels,
                counts_per_unit=np.zeros(channels),
                ops=self.ops,
                labels=[str(i) for i in range(n)],
                thresholds=np.zeros(n, dtype=np.uint8),
                score=arithmetic.choose_softmax(1.0),
                hop=steps,
                sample_rate_hz=0.0,
                golden=graph.GoldenVectors(
                    np.full(channels, low), np.full(channels, n_values), [(i + 1, 1, 1) for i in range(4)]
                ),
            )
        )


def _linear(k):
    net = _Net(32, k)
    net.mean_pool(net.linear(0, 48))
    said = f"linear K={k} N=48, 32 tokens"
    return net, [Figure(f"linear_s8_k{k}", said, 1, "mac", 32 * k * 48)]


def _token():
    net = _Net(1, 64)
    net.linear(0, 48)
    return net, [Figure("linear_s8_k64_token", "linear K=64 N=48, one token", 1, "mac", 64 * 48)]


def _packed_token():
    """The linear op inside of a push: one of a table and a linear op, less one of the table."""
    net, less = _Net(1, 64), _Net(1, 64)
    net.linear(net.table(0), 48)
    less.table(0)
    said = "linear K=64 N=48, one token, packed weights"
    return net, [Figure("linear_s8_k64_token_packed", said, PACKED_TOKEN, "mac", 64 * 48, less)]


def _conv1d(channels):
    net, k = _Net(64, channels), 8 * channels
    net.mean_pool(net.conv1d(0, 48, 8, 2))
    said = f"conv1d C={channels} k=8 N=48 stride 2, 32 tokens"
    return net, [Figure(f"conv1d_s8_k{k}", said, 1, "mac", 32 * k * 48)]


def _attention(head_size):
    steps, heads, span = 64, 4, 16
    net = _Net(steps, heads * head_size)
    net.mean_pool(net.attention(0, heads, span))
    macs = profile.macs(net.packed())[1][3]
    said = f"attention W={span} H={heads} dh={head_size}, {steps} tokens"
    key = f"attention_w{span}_h{head_size}"
    return net, [Figure(key, said, 4, "mac", macs), Figure(key, f"{said}, query of a head", 4, "query", steps * heads)]


def _norm(d):
    net = _Net(32, d)
    net.mean_pool(net.norm(0))
    return net, [Figure(f"layer_norm_d{d}", f"LayerNorm D={d}", 1, "row", 32)]


def _elements():
    net = _Net(64, 16, int16=True)
    net.mean_pool(net.add(0, net.table(0)))
    names = (("input_s16", "int16 to int8"), ("table_s8", "table"), ("add_s8", "add"), ("mean_pool_s8", "mean pool"))
    return net, [Figure(key, f"{said}, 1,024 elements", i, "element", 1024) for i, (key, said) in enumerate(names)]


def _block(steps, d, ff, span):
    net = _Net(steps, d)
    net.mean_pool(net.block(0, 4, ff, span))
    said, token = f"block D={d} H=4 FF={ff} W={span}", f"stream_token_d{d}_w{span}"
    figures = [
        Figure(f"block_t{steps}_d{d}", f"{said}, {steps} tokens", WINDOW),
        Figure(token, f"{said}, token", TOKEN),
    ]
    if d == _BLOCKS[0][1]:  # the large one takes seconds
        figures.append(Figure(f"{token}_unpacked", f"{said}, token, nothing packed", UNPACKED_TOKEN))
    return net, figures


# What is measured: a function that makes a _Net and its Figures, and its arguments.
FILES = {
    **{f"linear_k{k}": (_linear, k) for k in (16, 32, 64, 128)},
    "token": (_token,),
    "packed_token": (_packed_token,),
    **{f"conv1d_c{channels}": (_conv1d, channels) for channels in (6, 12)},
    **{f"attention_h{size}": (_attention, size) for size in (8, 16)},
    **{f"norm_d{d}": (_norm, d) for d in (32, 64)},
    "elements": (_elements,),
    **{f"block_d{sizes[1]}": (_block, *sizes) for sizes in _BLOCKS},
}


def bench_kernels(board_name, progress=None, portable=True, files=tuple(FILES)):
    """Counts what the kernels cost on an emulated board and compares their outputs with the reference.

    Args:
        board_name: a name of boards.BOARDS.
        progress: called with (files done, files in all).
        portable: also count the kernels that every target has.
        files: names of FILES.

    Returns:
        dict for JSON, UNIT being "cycles" or "instructions": board, processor, core, unit, bound, bound_reason, source,
        conditions; kernels ({name: value}: linear_s8_k64_UNIT_per_mac, layer_norm_d64_UNIT, ...), portable (the same,
        or None); rows (name, conditions, per, value, portable, UNIT_per_mac and percent_of_bound (None without
        products), stack_bytes, ram_bytes: model object, arena and state); code_bytes, portable_code_bytes.

    Raises:
        BoardError: for an unknown board, or if an output differs.
        ToolMissingError: without the cross compiler or the emulator.
    """
    target = board(board_name)
    machines = [Machine(target.core.name)] + ([Machine(target.core.name, portable=True)] if portable else [])
    rows, n_files = [], len(machines) * len(files)
    for i, (make, *arguments) in enumerate(FILES[name] for name in files):
        net, figures = make(*arguments)
        model = reference.parse(net.packed())
        found = []
        for j, machine in enumerate(machines):
            found.append(_measure(machine, model, figures))
            if progress:
                progress(len(machines) * i + j + 1, n_files)
        rows += [_row(target, *both) for both in zip(figures, *found, strict=True) if both[1]]
    rows = _with_softmax_row(target, rows)
    return {
        **described(target),
        "source": machines[0].source,
        "conditions": CONDITIONS,
        "kernels": {row["name"]: row["value"] for row in rows},
        "portable": {row["name"]: row["portable"] for row in rows if row["portable"]} if portable else None,
        "rows": rows,
        "code_bytes": machines[0].image.code_bytes,
        "portable_code_bytes": machines[1].image.code_bytes if portable else None,
    }


@dataclass(frozen=True)
class _Measured:
    count: int
    macs: int
    stack_bytes: int
    ram_bytes: int


def _measure(machine, model, figures):
    """Runs what the figures of a file need. Returns a _Measured for each, None for what this core does not pack."""
    chip = Chip(machine, model)
    chip.load()
    window = chip.golden_input(0)
    steps = {op["index"]: op["macs"] for op in profile.op_table(model)}
    if all(figure.step in steps for figure in figures):
        return _measure_steps(chip, window, steps, figures)
    chip.paint_stack()
    outputs, count = chip.run(window, model.golden_outputs[0])
    ram_bytes = chip.object_bytes + chip.arena_bytes
    found = {WINDOW: _Measured(count, sum(steps.values()), chip.stack_bytes(), ram_bytes)}
    plain, packed = chip.state_bytes()
    states = {TOKEN: packed or plain, PACKED_TOKEN: packed, UNPACKED_TOKEN: packed and plain}
    for step in states.keys() & {figure.step for figure in figures}:
        if states[step]:
            chip.paint_stack()
            count = chip.token(window, outputs, states[step])
            found[step] = _Measured(count, _token_macs(model), chip.stack_bytes(), ram_bytes + states[step])
    return [_less(machine, figure, found.get(figure.step)) for figure in figures]


def _measure_steps(chip, window, macs, figures):
    stacks = {}

    def note(step):
        stacks[step] = chip.stack_bytes()
        chip.paint_stack()

    chip.paint_stack()
    counts, ram_bytes = chip.run_ops(window, note), chip.object_bytes + chip.arena_bytes
    return [_Measured(counts[f.step], macs[f.step], stacks[f.step], ram_bytes) for f in figures]


def _less(machine, figure, found):
    if figure.less is None or found is None:
        return found
    (base,) = _measure(machine, reference.parse(figure.less.packed()), [replace(figure, step=TOKEN, less=None)])
    return replace(found, count=found.count - base.count)


def _token_macs(model):
    """Returns the multiply-accumulates of a token that sees as many as it can."""
    ops = model.graph.ops
    products = sum(op.weights.size for op in ops if isinstance(op, graph.Linear))
    seen = [2 * (op.left + 1) * model.shapes[op.query][1] for op in ops if isinstance(op, graph.WindowedAttention)]
    return products + sum(seen)


def _row(target, figure, ours, portable=None):
    per_mac = ours.count / ours.macs if ours.macs and figure.per != "query" else None
    return {
        "name": figure.name(target.unit),
        "conditions": figure.conditions,
        "per": figure.per,
        "value": _value(figure, ours),
        "portable": _value(figure, portable) if portable else None,
        f"{target.unit}_per_mac": per_mac,
        "percent_of_bound": percent_of_bound(target, per_mac) if per_mac else None,
        "stack_bytes": ours.stack_bytes,
        "ram_bytes": ours.ram_bytes,
    }


def _value(figure, measured):
    return measured.count if figure.n == 1 else measured.count / figure.n


def _with_softmax_row(target, rows):
    """Adds what a head takes for a query beside its products: twice that with heads of 8, less that with 16."""
    names = [row["name"] for row in rows]
    both = [f"attention_w16_h{size}_{target.unit}_per_query" for size in (8, 16)]
    if not set(both) <= set(names):
        return rows
    at = names.index(both[1])
    small, large = rows[names.index(both[0])], rows[at]

    def beside(key):
        return None if small[key] is None else 2 * small[key] - large[key]

    row = {
        "name": f"softmax_row_w16_{target.unit}",
        "conditions": "softmax W=16: twice attention dh=8 less dh=16",
        "per": "row",
        "value": beside("value"),
        "portable": beside("portable"),
    }
    return [*rows[: at + 1], small | row, *rows[at + 1 :]]
