"""QuantGraph: the ordered integer ops of a model. The only input of pack and export.

Tensor 0 is the INT8 input; op i makes tensor i + 1. All arrays are NumPy; nothing here computes.
"""

from dataclasses import dataclass, field

import numpy as np


@dataclass
class Requantize:
    """Numbers that turn an accumulator into int8, one entry per output channel.

    Attributes:
        bias: int32 (N,), contains 2^(pre-1) where pre > 0.
        multiplier: uint16 (N,).    pre, post: uint8 (N,).
    """

    bias: np.ndarray
    multiplier: np.ndarray
    pre: np.ndarray
    post: np.ndarray


@dataclass
class Softmax:
    """The index of EXP from a score difference: dmax, dm, dpre, dsh of models/FORMAT.md."""

    dmax: int
    dm: int
    dpre: int
    dsh: int


@dataclass
class Linear:
    """y = requantize(W x). weights int8 (N, K); clamp is a spec.CLAMPS value."""

    source: int
    clamp: int
    requantize: Requantize
    weights: np.ndarray


@dataclass
class Conv1d:
    """y = requantize(W * x). weights int8 (N, kernel, C), tap first."""

    source: int
    clamp: int
    stride: int
    pad_left: int
    pad_right: int
    requantize: Requantize
    weights: np.ndarray


@dataclass
class WindowedAttention:
    """relative_bias int32 (H, left + right + 1), entry j - i + left."""

    query: int
    key: int
    value: int
    heads: int
    left: int
    right: int
    softmax: Softmax
    multiplier: int
    shift: int
    relative_bias: np.ndarray


@dataclass
class LayerNorm:
    """LayerNorm (kind 0) or RMSNorm (kind 1) without gamma and beta."""

    source: int
    kind: int
    multiplier: int
    epsilon: int
    shift: int


@dataclass
class Add:
    a: int
    b: int
    multiplier_a: int
    multiplier_b: int


@dataclass
class MeanPool:
    """requantize holds one entry."""

    source: int
    requantize: Requantize


@dataclass
class Table:
    """y = table[x + 128]; table int8 (256,)."""

    source: int
    table: np.ndarray


@dataclass
class GoldenVectors:
    """Inputs by seed. low int16 (C,), n_values uint16 (C,); vectors: list of (x, y, hold)."""

    low: np.ndarray
    n_values: np.ndarray
    vectors: list


@dataclass
class QuantGraph:
    """A whole integer model.

    Attributes:
        name, version: strings of at most 32 UTF-8 bytes.
        n_steps, n_channels: shape (T, C) of a window.
        input_requantize: numbers for int16 windows, or None for int8 windows.
        channels, units: C strings each.    counts_per_unit: float (C,), 0 = unknown.
        ops: list of the classes above, in order.
        labels: n_outputs strings.    thresholds: uint8 (n_outputs,), 0..100.
        score: Softmax of the outputs.    hop: samples.    sample_rate_hz: 0 = unknown.
        golden: GoldenVectors.
        scales: real value of one step of each tensor, for reports; not packed.
    """

    name: str
    version: str
    n_steps: int
    n_channels: int
    input_requantize: Requantize | None
    channels: list
    units: list
    counts_per_unit: np.ndarray
    ops: list
    labels: list
    thresholds: np.ndarray
    score: Softmax
    hop: int
    sample_rate_hz: float
    golden: GoldenVectors
    scales: list = field(default_factory=list)
