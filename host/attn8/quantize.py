"""From the float model to integers: folding, calibration, fake quantization that computes the integers.

``fold`` turns an Attn8Net into a QuantNet: the ops of the integer graph in order, each with float weights from
which norms have vanished. In its eval forward every op runs the integer arithmetic itself (reference.run_op), so
its outputs are those of the packed file; in training the gradient passes straight through the rounding.
"""

import copy
import math
from dataclasses import replace

import numpy as np
import torch
from safetensors import torch as safetensors_torch
from torch import nn
from torch.nn import functional

from . import arithmetic, graph, reference
from .atomic import write_atomic
from .errors import QuantizeError, RunError
from .evaluate import batch_size, predict_float
from .golden import choose_golden
from .layers import TokenBatchNorm
from .run_folder import TENSOR_FAULTS, load_weights, read_tensors, reason_of, weights_digest

QUANTIZED = "quantized.safetensors"
FULL, KEY, RELU = 0, 1, 2
_SMALLEST_STEP = 1e-9  # of an activation that is 0 on all calibration windows
_SMALLEST_SCORE_STEP = 2.0**-19  # 2^-14 steps of EXP: the products of a head then span less than a factor e
_LARGEST_RATIO = 2.0**13  # of a requantize or row_divide: the rules refuse 2^14


# ---- ops: float weights in, graph op out ---------------------------------------------------------------------------


class FoldedOp(nn.Module):
    """One op of the integer graph.

    ``real(*values)`` is the float computation that carries the gradient, ``exact`` the same with weights that are
    not rounded; ``build(scales, out_scale)`` makes the graph op from the float weights and the scales of its sources
    and its output; ``low, high`` bound the integers it puts out.
    """

    low, high = -128, 127

    def exact(self, *values):
        return self.real(*values)

    def smallest_scale(self, scales):
        """Returns the smallest scale of the output for which ``build`` finds numbers, given those of the sources."""
        return max(scales) / _LARGEST_RATIO

    def __init__(self, *sources):
        super().__init__()
        self.sources = sources


class FoldedLinear(FoldedOp):
    """Linear or, with ``kernel`` > 0, convolution: weight (N, K) or (N, kernel, C), bias (N,)."""

    def __init__(self, source, weight, bias, clamp=FULL, stride=0, pads=(0, 0)):
        super().__init__(source)
        self.weight, self.bias = nn.Parameter(weight.float()), nn.Parameter(bias.float())
        self.clamp, self.stride, self.pads = clamp, stride, pads
        self.low, self.high = arithmetic.CLAMP_RANGE[clamp]

    def real(self, x):
        return self._apply_weight(x, _through(self.weight, self._rounded()))

    def exact(self, x):
        return self._apply_weight(x, self.weight)

    def smallest_scale(self, scales):
        return scales[0] * float(self._integers(scales[0])[1].max()) / _LARGEST_RATIO

    def _apply_weight(self, x, weight):
        if self.stride:
            x = functional.pad(x.transpose(1, 2), self.pads)
            y = functional.conv1d(x, weight.transpose(1, 2), self.bias, self.stride).transpose(1, 2)
        else:
            y = functional.linear(x, weight, self.bias)
        return y.relu() if self.clamp == RELU else y

    def build(self, scales, out_scale):
        integers, step = self._integers(scales[0])
        m, pre, post = arithmetic.choose_requantize(scales[0] * step / out_scale)
        bias = np.floor(_numpy(self.bias) / (step * scales[0]) + 0.5).astype(np.int64)
        rows = graph.Requantize(bias + arithmetic.rounding_half(pre), m, pre, post)
        if self.stride:
            return graph.Conv1d(self.sources[0], self.clamp, self.stride, *self.pads, rows, integers)
        return graph.Linear(self.sources[0], self.clamp, rows, integers)

    def _integers(self, scale):
        """Weights in [-127, 127] and the real value of one step per output channel, float64 (N,)."""
        weight, bias = _numpy(self.weight), np.abs(_numpy(self.bias))
        largest = np.abs(weight.reshape(len(weight), -1)).max(1)
        # A channel that is nearly dead still needs a step that keeps its bias small.
        step = np.maximum(np.maximum(largest / 127, bias / (scale * 2**24)), 1e-12)
        shape = (-1,) + (1,) * (weight.ndim - 1)
        return np.clip(np.rint(weight / step.reshape(shape)), -127, 127).astype(np.int64), step

    def _rounded(self):
        weight = self.weight.detach()
        step = weight.flatten(1).abs().amax(1).clamp_min(1e-12).div(127).view(-1, *[1] * (weight.ndim - 1))
        return (weight / step).round() * step


class FoldedAttention(FoldedOp):
    """Windowed attention: relative_bias (H, left + right + 1)."""

    def __init__(self, query, key, value, attention):
        super().__init__(query, key, value)
        self.heads, self.left, self.right = attention.heads, attention.left, attention.right
        self.root = math.sqrt(attention.head_dim)
        self.relative_bias = nn.Parameter(attention.relative_bias.detach().clone())
        self.register_buffer("outside", attention.outside.clone(), persistent=False)
        self.register_buffer("bias_index", attention.bias_index.clone(), persistent=False)

    def real(self, query, key, value):
        query, key, value = (x.unflatten(2, (self.heads, -1)).transpose(1, 2) for x in (query, key, value))
        scores = query @ key.transpose(2, 3) / self.root + self.relative_bias[:, self.bias_index]
        return (scores.masked_fill(self.outside, -math.inf).softmax(3) @ value).transpose(1, 2).flatten(2)

    def smallest_scale(self, scales):
        return scales[2] / _LARGEST_RATIO

    def build(self, scales, out_scale):
        step = scales[0] * scales[1] / self.root
        bias = np.clip(np.rint(_numpy(self.relative_bias) / step), -(1 << 24), 1 << 24).astype(np.int64)
        multiplier, shift = arithmetic.choose_row_divide(scales[2] / out_scale)
        softmax = arithmetic.choose_softmax(32 * step)
        return graph.WindowedAttention(
            *self.sources, self.heads, self.left, self.right, softmax, multiplier, shift, bias
        )


class FoldedNorm(FoldedOp):
    """LayerNorm (kind 0) or RMSNorm (kind 1) without gamma and beta."""

    def __init__(self, source, norm):
        super().__init__(source)
        self.kind, self.epsilon = int(isinstance(norm, nn.RMSNorm)), norm.eps

    def real(self, x):
        centred = x if self.kind else x - x.mean(-1, keepdim=True)
        return centred * (centred.square().mean(-1, keepdim=True) + self.epsilon).rsqrt()

    def smallest_scale(self, scales):
        return self.n_channels**0.5 / 2**14

    def build(self, scales, out_scale):
        m, shift, eps = arithmetic.choose_layer_norm(self.n_channels, scales[0], out_scale, self.epsilon, self.kind)
        return graph.LayerNorm(self.sources[0], self.kind, m, eps, shift)


class FoldedAdd(FoldedOp):
    def smallest_scale(self, scales):
        return max(scales) / 32  # ma + mb <= 2^22

    def real(self, a, b):
        return a + b

    def build(self, scales, out_scale):
        return graph.Add(*self.sources, *arithmetic.choose_add(*scales, out_scale))


class FoldedPool(FoldedOp):
    """Mean over T tokens."""

    def __init__(self, source, n_tokens):
        super().__init__(source)
        self.n_tokens = n_tokens

    def real(self, x):
        return x.mean(1, keepdim=True)

    def build(self, scales, out_scale):
        m, pre, post = arithmetic.choose_requantize([scales[0] / (self.n_tokens * out_scale)])
        return graph.MeanPool(self.sources[0], graph.Requantize(arithmetic.rounding_half(pre), m, pre, post))


class FoldedGelu(FoldedOp):
    def real(self, x):
        return functional.gelu(x)

    def build(self, scales, out_scale):
        x = torch.arange(-128, 128, dtype=torch.float64) * scales[0]
        table = np.clip(np.rint(functional.gelu(x).numpy() / out_scale), -128, 127)
        return graph.Table(self.sources[0], table.astype(np.int8))


def _numpy(parameter):
    return parameter.detach().double().numpy()


class _Through(torch.autograd.Function):
    @staticmethod
    def forward(ctx, real, value):
        return value.clone()

    @staticmethod
    def backward(ctx, gradient):
        return gradient, None


def _through(real, value):
    """``value`` to the last bit, with the gradient of ``real``; real + (value - real) would break ties of logits."""
    return _Through.apply(real, value)


# ---- the folded network --------------------------------------------------------------------------------------------


class QuantNet(nn.Module):
    """The ops of the integer graph with float weights; made by ``fold``.

    Buffers: ``input_mean`` and ``input_std`` float (C,), counts, of the training windows, for augmentation;
    ``input_offset`` and ``input_step`` float64 (C,), counts; ``scales`` float64 (tensors,), the real value of one
    step of each tensor (0 = not calibrated; of tensor 0, the mean over the channels in standard deviations);
    ``temperature``.
    """

    def __init__(self, ops, n_stem_ops, offset, std, largest, n_steps):
        super().__init__()
        self.ops = nn.ModuleList(ops)
        self.n_stem_ops, self.n_steps, self.n_channels = n_stem_ops, n_steps, len(offset)
        self.register_buffer("input_mean", offset.float())
        self.register_buffer("input_std", std.float())
        self.register_buffer("input_offset", offset.double())
        self.register_buffer("input_step", largest.double() / 127)
        self.register_buffer("scales", torch.zeros(len(ops) + 1, dtype=torch.float64))
        self.register_buffer("temperature", torch.ones((), dtype=torch.float64))

    @property
    def n_outputs(self):
        return len(self.ops[-1].bias)

    @property
    def stem(self):
        """The ops that turn samples into tokens."""
        return self.ops[: self.n_stem_ops]

    def forward(self, x):
        """x float (N, T, C) in counts -> logits float (N, n_outputs), whole multiples of the output's step."""
        return self.tensors(x)[0][-1].squeeze(1)

    def float_tensors(self, x):
        """The float value of every tensor: what calibration observes."""
        values = [(x - self.input_offset.float()) / self.input_step.float() * self.scales[0].float()]
        for op in self.ops:
            values.append(op.exact(*(values[i] for i in op.sources)))
        return values

    def tensors(self, x):
        """Returns (values, integers) of every tensor: torch tensors with gradient, and the int64 they stand for."""
        input_rows = self.input_requantize()
        counts = x.detach().round().clamp(-32768, 32767).numpy().astype(np.int64)
        integers = [arithmetic.requantize_rows(counts, input_rows)]
        values = [torch.from_numpy(integers[0]).float() * self.scales[0].float()]
        for op, built, scale in zip(self.ops, self.build_ops(), self.scales[1:].tolist(), strict=True):
            integers.append(reference.run_op(built, [integers[i] for i in op.sources]))
            real = op.real(*(values[i] for i in op.sources)).clamp(op.low * scale, op.high * scale)
            values.append(_through(real, torch.from_numpy(integers[-1] * scale).float()))
        return values, integers

    def input_requantize(self):
        m, pre, post = arithmetic.choose_requantize(1 / self.input_step.numpy())
        offset = self.input_offset.numpy().astype(np.int64)
        return graph.Requantize(arithmetic.rounding_half(pre) - offset, m, pre, post)

    def build_ops(self):
        """Returns the graph ops."""
        if not bool((self.scales > 0).all()):
            raise QuantizeError("the model is not calibrated; run: attn8 quantize RUN --mode calibrate")
        scales = self.scales.tolist()
        return [op.build([scales[i] for i in op.sources], scales[n + 1]) for n, op in enumerate(self.ops)]


class _Folder:
    """Appends folded ops; remembers the affine map that a norm leaves for the next linear."""

    def __init__(self):
        self.ops = []

    def append(self, op):
        self.ops.append(op)
        return len(self.ops)

    def norm(self, source, norm):
        """Returns (tensor, gain, offset): the norm's output is tensor*gain + offset."""
        if isinstance(norm, TokenBatchNorm):
            return (source, *_batch_norm(norm))
        op = FoldedNorm(source, norm)
        op.n_channels = norm.weight.numel()
        beta = getattr(norm, "bias", None)
        offset = torch.zeros(op.n_channels).double() if beta is None else beta.detach().double()
        return self.append(op), norm.weight.detach().double(), offset

    def linear(self, normed, linear, clamp=FULL):
        source, gain, offset = normed
        weight, bias = linear.weight.detach().double(), linear.bias.detach().double()
        return self.append(FoldedLinear(source, weight * gain, bias + weight @ offset, clamp))

    def activated(self, make, activation):
        """Appends make(clamp), then the table where the activation is not ReLU."""
        if isinstance(activation, nn.ReLU):
            return make(RELU)
        return self.append(FoldedGelu(make(FULL)))

    def stage(self, source, stage, input_gain=1.0):
        gain, offset = _batch_norm(stage.norm)
        weight = stage.conv.weight.detach().double() * gain[:, None, None] * input_gain
        bias = stage.conv.bias.detach().double() * gain + offset
        pads, stride = (stage.pad_left, stage.pad_right), stage.conv.stride[0]
        weight = weight.transpose(1, 2).contiguous()
        return self.activated(
            lambda clamp: self.append(FoldedLinear(source, weight, bias, clamp, stride, pads)), stage.activation
        )

    def block(self, x, block):
        attention, normed = block.attention, self.norm(x, block.norm1)
        query = self.linear(normed, attention.query)
        key = self.linear(normed, attention.key, KEY)
        value = self.linear(normed, attention.value)
        mixed = self.append(FoldedAttention(query, key, value, attention))
        x = self.append(FoldedAdd(x, self.linear(_plain(mixed, attention.out), attention.out)))
        normed = self.norm(x, block.norm2)
        hidden = self.activated(lambda clamp: self.linear(normed, block.fc1, clamp), block.activation)
        return self.append(FoldedAdd(x, self.linear(_plain(hidden, block.fc2), block.fc2)))


def _plain(source, linear):
    """A tensor without a norm, as ``_Folder.linear`` takes it."""
    return source, 1.0, torch.zeros(linear.in_features, dtype=torch.float64)


def _batch_norm(norm):
    """The affine map of a BatchNorm in eval mode: (gain, offset), float64."""
    gain = norm.weight.detach().double() / (norm.running_var.double() + norm.eps).sqrt()
    return gain, norm.bias.detach().double() - norm.running_mean.double() * gain


def fold(model, input_range=None):
    """Folds norms and input scaling into weights.

    Args:
        model: Attn8Net; its eval forward is reproduced but for float rounding.
        input_range: float (C,), largest |count - input_mean| of the calibration windows; None leaves one
            count per step, for loading saved weights into the structure.

    Returns:
        QuantNet, not calibrated.
    """
    folder = _Folder()
    offset = model.input_mean.double()
    largest = (
        torch.full_like(offset, 127.0) if input_range is None else torch.as_tensor(input_range).double().clamp_min(1)
    )
    # A step of the input in standard deviations; its mean stays the scale of tensor 0. Weights 10 to 100 times smaller
    # than those of the other layers would be thrown about by an optimizer that has one rate for all.
    input_gain = largest / 127 / model.input_std.double()
    input_scale = input_gain.mean()
    input_gain = (input_gain / input_scale)[None, :, None]
    x = 0
    for stage in model.stem:
        x = folder.stage(x, stage, input_gain)
        input_gain = 1.0
    n_stem_ops = len(folder.ops)
    for block in model.blocks:
        x = folder.block(x, block)
    source, gain, shift = folder.norm(x, model.norm)
    folder.linear((folder.append(FoldedPool(source, model.n_tokens)), gain, shift), model.head)
    net = QuantNet(folder.ops, n_stem_ops, offset, model.input_std, largest, model.window)
    net.scales[0] = input_scale
    net.scores_per_window = model.scores_per_window
    return net


# ---- calibration ---------------------------------------------------------------------------------------------------


def calibrate(model, x, settings):
    """Chooses the range of every tensor.

    Args:
        model: Attn8Net.
        x: int16 (N, T, C) training windows in counts, in the order they may be used: the first
            ``calibration_windows`` set the ranges, as many after them (or all, where there are not enough) decide
            between the observers by the SQNR of the logits.
        settings: config.QuantizationConfig.

    Returns:
        (QuantNet in eval mode, report): report gives the observer and the SQNR in dB of each that was tried.
    """
    n = min(settings.calibration_windows, len(x))
    held_out = x[n : 2 * n] if len(x) >= 2 * n else x
    net = fold(model, np.abs(x[:n] - model.input_mean.numpy()).reshape(-1, x.shape[2]).max(0)).eval()
    observers = {"absmax": 1.0, "quantile": settings.quantile}
    if settings.observer != "auto":
        observers = {settings.observer: observers[settings.observer]}
    ranges = _observe(net, x[:n], observers)
    found = {}
    for name in observers:
        net.scales[1:] = ranges[name]
        _keep_representable(net)
        found[name] = _sqnr(net, held_out)
    best = max(found, key=found.get)
    net.scales[1:] = ranges[best]
    _keep_representable(net)
    return net, {"observer": best, "sqnr_db": found}


def _observe(net, x, observers):
    """Returns {observer: float64 (ops,) step sizes}."""
    batch = batch_size(net)
    with torch.no_grad():
        parts = [net.float_tensors(torch.from_numpy(x[i : i + batch]).float())[1:] for i in range(0, len(x), batch)]
    steps = {name: [] for name in observers}
    for values in zip(*parts, strict=True):
        magnitude = torch.cat([v.flatten() for v in values]).abs().numpy()
        largest = {1.0: magnitude.max()}
        for name, q in observers.items():
            value = largest.get(q)
            value = float(np.quantile(magnitude, q)) if value is None else float(value)
            steps[name].append(max(value if value > 0 else float(magnitude.max()), _SMALLEST_STEP) / 127)
    return {name: torch.tensor(values, dtype=torch.float64) for name, values in steps.items()}


def _keep_representable(net):
    """Raises the scales of tensors that are nearly 0 on all calibration windows to what the integers can express.

    A dead branch puts out 0 at any scale; its measured scale would ask for multipliers that no file can hold.
    """
    scales = net.scales
    for n, op in enumerate(net.ops, 1):
        first = float(scales[op.sources[0]])
        scales[n] = max(float(scales[n]), op.smallest_scale([float(scales[i]) for i in op.sources]))
        if isinstance(op, FoldedAttention):
            query = _SMALLEST_SCORE_STEP * op.root / float(scales[op.sources[1]])
            scales[op.sources[0]] = max(first, query)


def _sqnr(net, x):
    """Signal to quantization noise of the logits, dB."""
    with torch.no_grad():
        x = torch.from_numpy(x).float()
        exact, found = net.float_tensors(x)[-1].squeeze(1).double(), net(x).double()
    noise = (exact - found).square().sum().clamp_min(1e-30)
    return float(10 * torch.log10(exact.square().sum().clamp_min(1e-30) / noise))


def fit_temperature(net, x, y):
    """Sets ``net.temperature`` to the value, out of 0.5..4, whose scores fit the labels best (likelihood).

    Args:
        net: calibrated QuantNet.
        x, y: windows and classes that training did not see, where there are any.
    """
    logits, labels = torch.from_numpy(predict_float(net, x)).double(), torch.from_numpy(y)
    candidates = np.geomspace(0.5, 4.0, 61)
    losses = [float(functional.cross_entropy(logits / t, labels)) for t in candidates]
    net.temperature.fill_(float(candidates[int(np.argmin(losses))]))


# ---- quantization-aware training -----------------------------------------------------------------------------------


def train_quantized(net, config, windows, split, progress=True):
    """Trains a calibrated QuantNet with the integers in the forward pass; the ranges stay as calibrated.

    Args:
        net: QuantNet; trained in place.
        config: Config: ``quantization.qat_epochs`` and ``qat_learning_rate``, the rest as in float training.
        windows, split: attn8.data.Windows and Split.

    Returns:
        list of one dict an epoch, as metrics.jsonl holds them.
    """
    from .progress import ProgressBar
    from .train import new_state, run_epochs

    if not config.quantization.qat_epochs:
        return []
    epochs, learning_rate = config.quantization.qat_epochs, config.quantization.qat_learning_rate
    training = replace(config.training, epochs=epochs, learning_rate=learning_rate, patience=0)
    config = replace(config, training=training)
    state = new_state(net, config, windows, split)
    with ProgressBar(epochs, progress) as advance:
        for metrics in run_epochs(state, config, windows, split):
            advance(metrics)
    net.eval()
    return state.history


# ---- graph and run folder ------------------------------------------------------------------------------------------


def to_graph(net, config, meta):
    """Returns the QuantGraph of a calibrated net.

    Args:
        net: QuantNet.
        config: Config, for name, version and the number of golden vectors.
        meta: what train wrote to RUN/meta.json: labels, channels, units, rates.
    """
    n_channels, labels = net.n_channels, meta["labels"]
    quantized = graph.QuantGraph(
        name=config.model.name,
        version=config.model.version,
        n_steps=net.n_steps,
        n_channels=n_channels,
        input_requantize=net.input_requantize(),
        channels=meta["channels"],
        units=meta["units"],
        counts_per_unit=np.asarray(meta["counts_per_unit"], dtype=np.float32),
        ops=net.build_ops(),
        labels=labels,
        thresholds=np.full(len(labels), config.model.threshold, dtype=np.uint8),
        score=arithmetic.choose_softmax(32 * float(net.scales[-1] / net.temperature)),
        hop=meta["hop"],
        sample_rate_hz=float(meta["sample_rate_hz"] or 0.0),
        golden=None,
        scales=net.scales.tolist(),
    )
    offset, reach = net.input_offset.numpy(), net.input_step.numpy() * 127
    quantized.golden = choose_golden(quantized, offset, reach, config.quantization.golden_vectors)
    return quantized


def save_quantized(net, run_dir):
    """Writes RUN/quantized.safetensors whole or not at all; it remembers which float weights it was made from."""
    metadata = {"weights": weights_digest(run_dir)}
    write_atomic(run_dir / QUANTIZED, safetensors_torch.save(net.state_dict(), metadata))


def load_quantized(model, run_dir):
    """Loads RUN/quantized.safetensors into the folded structure of ``model``.

    Raises:
        RunError: if it is absent or does not belong to the model.
    """
    net = fold(copy.deepcopy(model))
    try:
        tensors, metadata = read_tensors(run_dir / QUANTIZED)
        if metadata.get("weights") != weights_digest(run_dir):
            raise ValueError("a model of other float weights")
        load_weights(net, tensors)
    except TENSOR_FAULTS as error:
        raise RunError(
            f"run {run_dir}: {QUANTIZED}: got {reason_of(error)}, expected the quantized model of this run; "
            f"run: attn8 quantize {run_dir} --mode calibrate"
        ) from None
    return net.eval()
