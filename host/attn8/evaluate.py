"""Figures of a classifier. Accuracy is never reported without macro-F1: classes are rarely of equal size."""

import numpy as np

MAX_SCORES = 1 << 26  # attention scores in memory at a time


def confusion_matrix(y, predicted, n_classes):
    """Count windows: int64 (n_classes, n_classes), row = true class, column = predicted class."""
    y, predicted = np.asarray(y, np.int64), np.asarray(predicted, np.int64)
    return np.bincount(y * n_classes + predicted, minlength=n_classes**2).reshape(n_classes, n_classes)


def accuracy(y, predicted):
    """Fraction of windows whose class is right, 0..1; nan without windows."""
    return float(np.mean(np.asarray(y) == np.asarray(predicted))) if len(y) else float("nan")


def macro_f1(y, predicted, n_classes):
    """Mean of the F1 of each class, 0..1; nan without windows.

    A class that neither occurs nor is predicted is left out; one that is never found counts 0.
    """
    matrix = confusion_matrix(y, predicted, n_classes)
    found, either = np.diag(matrix), matrix.sum(0) + matrix.sum(1)
    return float(np.mean(2 * found[either > 0] / either[either > 0])) if len(y) else float("nan")


def scores(y, predicted, n_classes):
    """Accuracy and macro-F1 together, as a dict."""
    return {"accuracy": accuracy(y, predicted), "macro_f1": macro_f1(y, predicted, n_classes)}


def per_group(y, predicted, group, group_names, n_classes):
    """Scores of each group of windows.

    Args:
        y, predicted, group: int (N,).
        group_names: text of each group number.
    Returns:
        dict of group name to {"n", "accuracy", "macro_f1"}.
    """
    y, predicted, group = (np.asarray(values) for values in (y, predicted, group))
    parts = {int(number): group == number for number in np.unique(group)}
    return {
        group_names[number]: {"n": int(part.sum()), **scores(y[part], predicted[part], n_classes)}
        for number, part in parts.items()
    }


def batch_size(model, most=256):
    """How many windows at a time leave the attention scores of a network, float or quantized, within MAX_SCORES."""
    return max(1, min(most, MAX_SCORES // model.scores_per_window))


def predict_float(model, x, batch=256):
    """Logits of the float model.

    Args:
        model: Attn8Net, or any module with the same forward.
        x: int16 (N, T, C), counts.
        batch: windows at a time, fewer where attention would fill the memory.
    Returns:
        float32 (N, n_outputs); the model is left in the mode it was in.
    """
    import torch

    training = model.training
    batch = batch_size(model, batch)
    model.eval()
    try:
        with torch.inference_mode():
            parts = [model(torch.from_numpy(x[i : i + batch]).float()) for i in range(0, len(x), batch)]
    finally:
        model.train(training)
    return torch.cat(parts).numpy() if parts else np.empty((0, model.n_outputs), np.float32)


def evaluate_float(model, windows, indices):
    """Evaluate the float model on some of the windows.

    Args:
        model: Attn8Net.
        windows: attn8.data.Windows.
        indices: int (M,), window numbers.
    Returns:
        dict: n, accuracy, macro_f1, per_group, confusion (nested lists, row = true class), predicted (M,).
    """
    y, n_classes = windows.y[indices], len(windows.labels)
    predicted = predict_float(model, windows.x[indices]).argmax(1)
    return {
        "n": len(y),
        **scores(y, predicted, n_classes),
        "per_group": per_group(y, predicted, windows.group[indices], windows.group_names, n_classes),
        "confusion": confusion_matrix(y, predicted, n_classes).tolist(),
        "predicted": predicted,
    }


def stream_outputs(model, x, windows, indices):
    """Outputs of a causal model that streams over the recordings from which windows were cut, at their ends.

    Args:
        model: a back end with ``run_recording`` (reference.Reference, runtime.CModel).
        x: (M, T, C), the windows ``indices`` as the model takes them.
        windows: attn8.data.Windows.    indices: int (M,), window numbers.
    Returns:
        int8 (M, n_outputs), or None where the windows came cut and nobody knows from what, or have gaps between them.
    """
    hop, n_steps = windows.hop, x.shape[1]
    if windows.recording is None or hop > n_steps or not len(x):
        return None
    recording, start = windows.recording[indices], windows.start[indices]
    order = np.lexsort((start, recording))
    breaks = (np.diff(recording[order]) != 0) | (np.diff(start[order]) != hop)
    parts = np.split(order, np.flatnonzero(breaks) + 1)
    outputs = [model.run_recording(np.concatenate([x[part[0]], *x[part[1:], n_steps - hop :]]), hop) for part in parts]
    found = np.concatenate(outputs)
    return found[np.argsort(np.concatenate(parts))]
