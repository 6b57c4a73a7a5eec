"""Golden vectors: seeds whose inputs together reach as many classes as can be found. No recorded data is stored."""

import numpy as np

from . import arithmetic, reference, spec
from .graph import GoldenVectors

N_CANDIDATES = 384


def choose_golden(graph, offset, reach, n_vectors):
    """Chooses the ranges and seeds of the golden vectors of a graph.

    Args:
        graph: QuantGraph, its golden field not yet set.
        offset, reach: float (C,): middle and largest distance from it of the input channels, counts.
        n_vectors: how many; raised to the number of classes, up to 64, so that each class can have one.

    Returns:
        GoldenVectors; two vectors with full-range noise first, then one vector per class where one was found.
    """
    low, high = np.maximum(offset - reach, -32768), np.minimum(offset + reach, 32767)
    n_values = np.clip(high - low + 1, 1, spec.LIMIT["MAX_GOLDEN_VALUES"]).astype(np.int64)
    low = np.clip(np.rint(offset - n_values / 2), -32768, 32768 - n_values).astype(np.int64)
    golden = GoldenVectors(low, n_values, [])
    candidates = list(_candidates(graph.n_steps))
    inputs = np.stack([arithmetic.golden_input(golden, c, graph.n_steps, np.int16) for c in candidates])
    classes = _classes(graph, inputs)
    wanted = min(max(n_vectors, len(graph.labels)), 64)
    golden.vectors = [candidates[i] for i in _pick(classes, wanted)]
    return golden


def _candidates(n_steps):
    """Seeds with noise that changes at every sample, in steps, or once a window."""
    holds = sorted({1, min(2, n_steps), *(max(1, n_steps // n) for n in (1, 2, 4, 8, 16))})
    for i in range(N_CANDIDATES):
        yield (i + 1, (i * 40503 + 1) & 65535, holds[i % len(holds)])


def _classes(graph, inputs, batch=64):
    """The class that the integer model gives each input."""
    found = []
    for i in range(0, len(inputs), batch):
        x = inputs[i : i + batch].astype(np.int64)
        values = [arithmetic.requantize_rows(x, graph.input_requantize)]
        for op in graph.ops:
            values.append(reference.run_op(op, [values[s] for s in reference.op_sources(op)]))
        found.append(values[-1][:, 0].argmax(-1))
    return np.concatenate(found)


def _pick(classes, wanted):
    """The first candidate of each class, then the first others, in order."""
    first = [int(np.flatnonzero(classes == c)[0]) for c in np.unique(classes)][:wanted]
    others = (i for i in range(len(classes)) if i not in first)
    return sorted(first + [next(others) for _ in range(wanted - len(first))])
