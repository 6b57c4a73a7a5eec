"""Random integer models for tests, here and on boards: shapes by hypothesis or from a seed, weights from a seed.

Every op's scale is set from what the op really puts out on random windows, so that outputs neither die nor
saturate everywhere; a few rows get extreme numbers, because a file may hold any that the checker accepts.
"""

from dataclasses import dataclass, replace

import numpy as np

from . import arithmetic, reference
from .graph import (
    Add,
    Conv1d,
    GoldenVectors,
    LayerNorm,
    Linear,
    MeanPool,
    QuantGraph,
    Requantize,
    Table,
    WindowedAttention,
)
from .pack import pack

FULL, KEY, RELU = 0, 1, 2


@dataclass(frozen=True)
class Shape:
    """What distinguishes one random model from another; ``left``, ``right`` are cut to the tokens there are."""

    n_steps: int = 24
    n_channels: int = 3
    kernel: int = 4
    stride: int = 2
    pad_left: int = 1
    pad_right: int = 1
    heads: int = 2
    head_size: int = 4
    left: int = 5
    right: int = 5
    ff: int = 12
    layers: int = 1
    norm: str = "batch"
    activation: str = "relu"
    n_outputs: int = 3
    int16: bool = True
    hop: int = 0  # 0: n_steps

    def causal(self, hop):
        """Returns the Shape of a model that sees nothing to come, as a stream needs."""
        return replace(self, pad_right=0, right=0, hop=hop)


NORMS = ("batch", "layer", "rms")
ACTIVATIONS = ("relu", "gelu")


def random_shape(rng):
    """Draws a Shape from a NumPy generator."""
    kernel = int(rng.integers(1, 9))
    return Shape(
        n_steps=int(rng.integers(8, 49)),
        n_channels=int(rng.integers(1, 8)),
        kernel=kernel,
        stride=int(rng.integers(1, 5)),
        pad_left=int(rng.integers(0, kernel)),
        pad_right=int(rng.integers(0, kernel)),
        heads=int(rng.integers(1, 5)),
        head_size=int(rng.integers(1, 10)),
        left=int(rng.integers(0, 30)),
        right=int(rng.choice([0, rng.integers(0, 30)])),
        ff=int(rng.integers(1, 41)),
        layers=int(rng.integers(1, 4)),
        norm=str(rng.choice(NORMS)),
        activation=str(rng.choice(ACTIVATIONS)),
        n_outputs=int(rng.integers(1, 9)),
        int16=bool(rng.integers(0, 5)),
    )


def shapes(**fixed):
    """A hypothesis strategy of Shapes."""
    from hypothesis import strategies as st

    def build(draw):
        kernel = draw(st.integers(1, 8))
        drawn = {
            "n_steps": st.integers(8, 48),
            "n_channels": st.integers(1, 7),
            "kernel": st.just(kernel),
            "stride": st.integers(1, 4),
            "pad_left": st.integers(0, kernel - 1),
            "pad_right": st.integers(0, kernel - 1),
            "heads": st.integers(1, 4),
            "head_size": st.integers(1, 9),
            "left": st.integers(0, 30),
            "right": st.just(0) | st.integers(0, 30),
            "ff": st.integers(1, 40),
            "layers": st.integers(1, 3),
            "norm": st.sampled_from(NORMS),
            "activation": st.sampled_from(ACTIVATIONS),
            "n_outputs": st.integers(1, 8),
            "int16": st.booleans(),
        }
        return Shape(**{name: fixed[name] if name in fixed else draw(strategy) for name, strategy in drawn.items()})

    return st.composite(build)()


class Builder:
    """Appends ops to a graph, running each on random windows to choose its scale."""

    def __init__(self, shape, rng, n_windows=4):
        self.shape, self.rng, self.ops = shape, rng, []
        x = random_windows(shape.n_steps, shape.n_channels, n_windows, rng, shape.int16).astype(np.int64)
        self.input_requantize = self._rows(x, 1.0) if shape.int16 else None
        self.tensors = [arithmetic.requantize_rows(x, self.input_requantize) if shape.int16 else x]

    def _rows(self, acc, gain):
        """Requantize numbers that bring the accumulators acc (..., N) to a standard deviation of about 40."""
        n = acc.shape[-1]
        spread = np.maximum(acc.reshape(-1, n).std(0), 1.0)
        scales = gain * 40.0 / spread * self.rng.uniform(0.5, 2.0, n)
        m, pre, post = arithmetic.choose_requantize(scales)
        offset = self.rng.integers(-10, 11, n) * np.ceil(spread / 10).astype(np.int64)
        mean = np.rint(acc.reshape(-1, n).mean(0)).astype(np.int64)  # of inputs that are never negative, for one
        bias = offset - mean + arithmetic.rounding_half(pre)
        rare = self.rng.random(n) < 0.03
        m = np.where(rare, self.rng.integers(0, 32768, n), m)
        post = np.where(rare, self.rng.integers(1, 30, n), post)
        bias = np.where(rare, self.rng.integers(-(1 << 29) + 1, 1 << 29, n), bias)
        return Requantize(bias, m, pre, post)

    def _append(self, op):
        sources = [self.tensors[i] for i in reference.op_sources(op)]
        self.ops.append(op)
        self.tensors.append(reference.run_op(op, sources))
        return len(self.ops)

    def _weights(self, *shape):
        return self.rng.integers(-127, 128, shape).astype(np.int8)

    def linear(self, source, n, clamp=FULL, gain=1.0):
        w = self._weights(n, self.tensors[source].shape[-1])
        acc = arithmetic.linear_accumulate(self.tensors[source], w)
        return self._append(Linear(source, clamp, self._rows(acc, gain), w))

    def conv1d(self, source, n, clamp=FULL):
        s = self.shape
        w = self._weights(n, s.kernel, s.n_channels)
        patches = arithmetic.conv1d_patches(self.tensors[source], s.kernel, s.stride, s.pad_left, s.pad_right)
        rows = self._rows(arithmetic.linear_accumulate(patches, w.reshape(n, -1)), 1.0)
        return self._append(Conv1d(source, clamp, s.stride, s.pad_left, s.pad_right, rows, w))

    def attention(self, source):
        s, d = self.shape, self.shape.heads * self.shape.head_size
        query, key, value = self.linear(source, d), self.linear(source, d, KEY), self.linear(source, d)
        left, right = (min(n, self.tensors[query].shape[1] - 1) for n in (s.left, s.right))
        spread = max(1.0, 1600 * s.head_size**0.5)
        softmax = arithmetic.choose_softmax(float(32 * self.rng.uniform(0.2, 4.0) / spread))
        m, f = arithmetic.choose_row_divide(float(self.rng.uniform(0.7, 3.0)))
        bias = self.rng.integers(-int(spread), int(spread) + 1, (s.heads, left + right + 1))
        return self._append(WindowedAttention(query, key, value, s.heads, left, right, softmax, m, f, bias))

    def activation(self, source):
        table = np.clip(np.rint(np.maximum(np.arange(-128, 128), -8) * self.rng.uniform(0.5, 1.2)), -128, 127)
        return self._append(Table(source, table.astype(np.int8)))

    def add(self, a, b):
        ma, mb = arithmetic.choose_add(1.0, float(self.rng.uniform(0.3, 1.5)), float(self.rng.uniform(1.0, 1.6)))
        return self._append(Add(a, b, ma, mb))

    def norm(self, source):
        d = self.tensors[source].shape[-1]
        if self.shape.norm == "batch" or d < 8:
            return source
        kind = int(self.shape.norm == "rms")
        m, e, eps = arithmetic.choose_layer_norm(d, 0.03, float(self.rng.uniform(0.015, 0.04)), 1e-5, kind)
        return self._append(LayerNorm(source, kind, m, eps, e))

    def mean_pool(self, source):
        acc = self.tensors[source].sum(1, keepdims=True)
        m, pre, post = arithmetic.choose_requantize(float(120 / max(1.0, np.abs(acc).max())))
        half = arithmetic.rounding_half(pre)
        return self._append(MeanPool(source, Requantize(*(np.reshape(v, 1) for v in (half, m, pre, post)))))


def build_graph(shape, seed=0):
    """Returns the QuantGraph of a Shape, with random weights."""
    b = Builder(shape, np.random.default_rng(seed))
    relu = RELU if shape.activation == "relu" else FULL
    x = b.conv1d(0, shape.heads * shape.head_size, relu)
    if shape.activation == "gelu":
        x = b.activation(x)
    for _ in range(shape.layers):
        branch = b.linear(b.attention(b.norm(x)), shape.heads * shape.head_size)
        x = b.add(x, branch)
        hidden = b.linear(b.norm(x), shape.ff, relu)
        if shape.activation == "gelu":
            hidden = b.activation(hidden)
        x = b.add(x, b.linear(hidden, shape.heads * shape.head_size))
    b.linear(b.mean_pool(b.norm(x)), shape.n_outputs)
    return _graph(shape, b)


def _graph(shape, b):
    c, n = shape.n_channels, shape.n_outputs
    low, n_values = (-3000, 6001) if shape.int16 else (-128, 256)
    holds = [1, max(1, shape.n_steps // 4), shape.n_steps, 2]
    vectors = [(i + 1, 0x1234 + i, min(h, shape.n_steps)) for i, h in enumerate(holds)]
    return QuantGraph(
        name="random",
        version="1",
        n_steps=shape.n_steps,
        n_channels=c,
        input_requantize=b.input_requantize,
        channels=[f"c{i}" for i in range(c)],
        units=["g"] * c,
        counts_per_unit=np.full(c, 8192.0),
        ops=b.ops,
        labels=[f"class {i}" for i in range(n)],
        thresholds=np.zeros(n, dtype=np.uint8),
        score=arithmetic.choose_softmax(2.0),
        hop=shape.hop or shape.n_steps,
        sample_rate_hz=50.0,
        golden=GoldenVectors(np.full(c, low), np.full(c, n_values), vectors),
    )


def build_model(shape, seed=0):
    """Returns the packed bytes of a Shape."""
    return pack(build_graph(shape, seed))


def random_model(seed=0, **fixed):
    """Returns the packed bytes of a random model; keyword arguments fix fields of its Shape."""
    rng = np.random.default_rng(seed)
    while True:
        shape = random_shape(rng)
        shape = Shape(**{**vars(shape), **fixed})
        if fits(shape):
            return build_model(shape, seed)


def fits(shape):
    """Says whether the convolution of a Shape has an output."""
    return shape.n_steps + shape.pad_left + shape.pad_right >= shape.kernel


def random_windows(n_steps, n_channels, n, rng, int16=True):
    """Returns (n, T, C) windows: noise, smooth and extreme values in turn."""
    limit = 32767 if int16 else 127
    noise = rng.normal(0, 0.12 * limit, (n, n_steps, n_channels))
    smooth = np.cumsum(rng.normal(0, 0.03 * limit, (n, n_steps, n_channels)), axis=1)
    extreme = rng.choice([-limit - 1, limit], (n, n_steps, n_channels))
    kind = np.arange(n) % 8
    x = np.where((kind == 7)[:, None, None], extreme, np.where((kind % 2 == 0)[:, None, None], noise, smooth))
    return np.clip(np.rint(x), -limit - 1, limit).astype(np.int16 if int16 else np.int8)


def recording_for(data, n_samples, seed=0):
    """Returns (n_samples, C): a random recording for the packed model ``data``."""
    g = reference.parse(data).graph
    rng = np.random.default_rng(seed)
    parts = random_windows(n_samples // 4 + 1, g.n_channels, 4, rng, g.input_requantize is not None)
    return parts.reshape(-1, g.n_channels)[:n_samples].copy()


def windows_for(data, n, seed=0):
    """Returns n random windows for the packed model ``data``."""
    g = reference.parse(data).graph
    return random_windows(g.n_steps, g.n_channels, n, np.random.default_rng(seed), g.input_requantize is not None)
