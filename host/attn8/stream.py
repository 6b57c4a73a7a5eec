"""What a stream is, in NumPy: the model over a whole recording. Source: models/FORMAT.md, "Streams"."""

import numpy as np

from . import arena, arithmetic, graph, reference, spec
from .errors import DataError


def timing(model):
    """Returns when each tensor's tokens come.

    Args:
        model: a reference.ParsedModel.

    Returns:
        for each tensor (S, d): token i is complete when sample i*S + d has come, counted from 0. None behind a pool.

    Raises:
        attn8.ModelError: STREAM, with the op and its fault.
    """
    times = [(1, 0)]
    for i, op in enumerate(model.graph.ops):
        sources = [times[source] for source in reference.op_sources(op)]
        fault = None if sources[0] is None and len(set(sources)) == 1 else _fault(op, sources)
        if fault:
            where = f"op {i + 1}, {reference.op_record(op).name.lower()}"
            raise reference.model_error(spec.ERROR_CODES["STREAM"], where, *fault)
        times.append(_time(op, sources[0]))
    return times


def _fault(op, sources):
    """Returns (got, expected) of what keeps an op of unpooled sources from a stream, else None."""
    if None in sources:
        return "a tensor of all tokens and one of each token", "one kind"
    if len(set(sources)) > 1:
        return "tensors whose tokens come at different samples", "the same"
    if isinstance(op, graph.Conv1d) and op.pad_right:
        return f"{op.pad_right} tokens of padding behind the last", 0
    if isinstance(op, graph.WindowedAttention) and op.right:
        return f"{op.right} later tokens that each token sees", 0
    most, limit = max(_time(op, sources[0]) or (0,)), spec.LIMIT["MAX_STREAM_STEPS"]
    return (f"{most} samples between two tokens or behind one", f"at most {limit}") if most > limit else None


def _time(op, time):
    if time is None or isinstance(op, graph.MeanPool):
        return None
    if not isinstance(op, graph.Conv1d):
        return time
    stride, delay = time
    return stride * op.stride, delay + (op.weights.shape[1] - 1 - op.pad_left) * stride


def checked_hop(hop):
    """Returns hop. Raises DataError unless it is a number of samples that a board takes."""
    if isinstance(hop, bool) or not isinstance(hop, (int, np.integer)) or not 1 <= hop < 1 << 29:
        raise DataError(f"hop: got {hop}, expected 1 or more samples")
    return int(hop)


def run_recording(model, tensor_0, hop):
    """Runs a model over a whole recording.

    Args:
        model: a reference.ParsedModel.    tensor_0: int64 (n, C), the first tensor of all samples.
        hop: samples between two outputs.

    Returns:
        int8 (n_hops, n_outputs): the outputs when n_steps samples have come, then every ``hop`` samples.

    Raises:
        attn8.ModelError: STREAM if the model sees what is to come.    DataError: hop is less than 1.
    """
    times, hop = timing(model), checked_hop(hop)
    n_samples = np.arange(model.graph.n_steps, len(tensor_0) + 1, hop)  # that have come at each output
    if not len(n_samples):
        return np.empty((0, len(model.graph.labels)), dtype=np.int8)
    tensors = [tensor_0[None]]
    for i, op in enumerate(model.graph.ops):
        sources = [tensors[source] for source in reference.op_sources(op)]
        first = reference.op_sources(op)[0]
        if isinstance(op, graph.MeanPool) and times[first] is not None:
            tensors.append(_pool(op, sources[0][0], _n_tokens(n_samples, times[first]), model.shapes[first][0]))
        else:
            tensors.append(reference.run_op(op, sources))
        assert times[i + 1] is None or tensors[-1].shape[1] == _n_tokens(len(tensor_0), times[i + 1])
    if times[-1] is not None:
        return tensors[-1][0, _n_tokens(n_samples, times[-1]) - 1].astype(np.int8)
    return tensors[-1][:, 0].astype(np.int8)


def _n_tokens(n_samples, time):
    """Returns how many tokens are complete when n_samples samples have come."""
    stride, delay = time
    return (n_samples - 1 - delay) // stride + 1


def _pool(op, x, behind, n_tokens):
    """The mean over n_tokens tokens of x (n, D) before each index ``behind``: (n_hops, 1, D)."""
    sums = np.concatenate([np.zeros((1, x.shape[1]), dtype=np.int64), np.cumsum(x, axis=0)])
    return arithmetic.requantize_rows((sums[behind] - sums[behind - n_tokens])[:, None], op.requantize)


def state_bytes(model):
    """Returns the bytes of a stream's state in C (a8_stream_bytes). Raises attn8.ModelError STREAM."""
    times, total = timing(model), 8
    for op in model.graph.ops:
        steps, channels = model.shapes[reference.op_sources(op)[0]]
        if times[reference.op_sources(op)[0]] is None:
            continue
        if isinstance(op, graph.Conv1d):
            total += 4 + spec.padded(op.weights.shape[1] * channels)
        elif isinstance(op, graph.WindowedAttention):
            total += 4 + 2 * spec.padded((op.left + 1) * channels)
        elif isinstance(op, graph.MeanPool):
            total += 4 + 4 * channels + spec.padded(steps * channels)
    return total + (0 if times[-1] is None else spec.padded(len(model.graph.labels)))


def packed_bytes(model):
    """Returns what a packed state has in addition on a Cortex-M0+ (a8_stream_packed_bytes there; elsewhere 0)."""
    times, total = timing(model), 0
    for op, shape in zip(model.graph.ops, model.shapes[1:], strict=True):
        source = reference.op_sources(op)[0]
        if times[source] is None:
            continue
        if isinstance(op, graph.WindowedAttention) and shape[1] // op.heads % 4 == 0:
            total += (op.left + 1) * (2 * shape[1] + 8 * op.heads)
        elif isinstance(op, graph.Linear | graph.Conv1d):
            total += _packed_product_bytes(op.weights[0].size, shape[1])
    return total


def _packed_product_bytes(n_products, n_outputs):
    """A flag, a bias, a scale and, where they take several passes, a sum an output, and two bytes a weight."""
    if n_products > _MOST_PRODUCTS:
        return 0
    row_bytes = 2 * spec.padded(n_products) + (12 if n_products > arena.PASS_PRODUCTS else 8)
    return 4 + spec.padded(n_outputs) * row_bytes


_MOST_PRODUCTS = 4096  # of a token that fits into scratch
