"""The run folder: what a training leaves, written so that a kill at any moment leaves something sound.

config.toml is written last and removed first: where it lies, everything beside it belongs to it.
"""

import hashlib
import json
from pathlib import Path

from safetensors import SafetensorError
from safetensors import torch as safetensors_torch

from .atomic import read_bytes, remove_torn_writes, write_atomic
from .config import load_config, to_toml
from .errors import Attn8Error, RunError
from .model import Attn8Net

CONFIG, META, WEIGHTS, HISTORY = "config.toml", "meta.json", "model.safetensors", "metrics.jsonl"
CHECKPOINT = "checkpoint.safetensors"
FROM_WEIGHTS = ("quantized.safetensors", "metrics.json", "report.html")
RESULTS = (WEIGHTS, HISTORY, *FROM_WEIGHTS, CHECKPOINT)
FILES = (CONFIG, META, *RESULTS)
META_VERSION = 1
MAX_META_BYTES, MAX_TENSORS_BYTES = 64 << 20, 256 << 20
TENSOR_FAULTS = (OSError, SafetensorError, RuntimeError, ValueError, TypeError, AttributeError, KeyError)
TENSOR_FAULTS += (RecursionError, OverflowError, ZeroDivisionError)


# ---- writing -------------------------------------------------------------------------------------------------------


def start_run(out_dir, config, windows, split, checkpoint):
    """Drop the results of an earlier run and write what is known before the first epoch.

    Args:
        out_dir: Path, made if absent.
        config, windows, split: of the new run.
        checkpoint: bytes of its checkpoint before the first epoch.
    Raises:
        RunError: if the folder cannot be written.
    """
    try:
        out_dir.mkdir(parents=True, exist_ok=True)
        for name in (CONFIG, *RESULTS, META):
            (out_dir / name).unlink(missing_ok=True)
        remove_torn_writes(out_dir, FILES)
        write_atomic(out_dir / META, json.dumps(make_meta(windows, split), indent=2).encode() + b"\n")
        write_atomic(out_dir / CHECKPOINT, checkpoint)
        write_atomic(out_dir / CONFIG, to_toml(config).encode())
    except OSError as error:
        raise RunError(f"run {out_dir}: got {error}, expected a folder to write into; choose another --out") from None


def make_meta(windows, split):
    """What a run must remember about its data to be packed and evaluated later."""
    return {
        "version": META_VERSION,
        "dataset": windows.name,
        "window": windows.x.shape[1],
        "labels": windows.labels,
        "channels": windows.channels,
        "units": windows.units,
        "counts_per_unit": [float(value) for value in windows.counts_per_unit],
        "sample_rate_hz": windows.sample_rate_hz,
        "hop": windows.hop,
        "train_groups": split.train_groups,
        "validation_groups": split.validation_groups,
        "test_groups": split.test_groups,
        "notes": windows.notes,
    }


def save_weights(weights, out_dir):
    """Write RUN/model.safetensors, a state_dict, whole or not at all."""
    write_atomic(Path(out_dir) / WEIGHTS, safetensors_torch.save(weights))


def weights_digest(run_dir):
    """SHA-256 of RUN/model.safetensors, as hex."""
    return hashlib.sha256(read_bytes(Path(run_dir) / WEIGHTS, MAX_TENSORS_BYTES)).hexdigest()


def save_history(history, out_dir):
    """Write RUN/metrics.jsonl, one line an epoch, whole or not at all."""
    write_atomic(Path(out_dir) / HISTORY, "".join(json.dumps(metrics) + "\n" for metrics in history).encode())


def append_history(metrics, out_dir):
    """Append one epoch to RUN/metrics.jsonl."""
    with open(Path(out_dir) / HISTORY, "a") as stream:
        stream.write(json.dumps(metrics) + "\n")


def drop_results(out_dir):
    """Remove what was made from weights that training is about to replace."""
    for name in FROM_WEIGHTS:
        (Path(out_dir) / name).unlink(missing_ok=True)


# ---- reading -------------------------------------------------------------------------------------------------------


def load_run_config(run_dir):
    """Returns the Config of a run folder, trained or only begun. Raises RunError where there is none."""
    run_dir = Path(run_dir)
    if not run_dir.is_dir():
        raise RunError(f"run {run_dir}: got no such folder, expected one that `attn8 train --out` made; check the path")
    try:
        return load_config(run_dir / CONFIG)
    except Attn8Error as error:
        raise RunError(f"run {run_dir}: {error}; train it again") from None


def load_run(run_dir):
    """Load a run folder.

    Returns:
        (Config, Attn8Net in evaluation mode, dict of meta.json).
    Raises:
        RunError: if a file is absent, damaged, or does not belong to the others.
    """
    config, meta = load_run_config(run_dir), load_meta(run_dir)
    model = Attn8Net(config.model, meta["window"], len(meta["channels"]), len(meta["labels"]))
    try:
        tensors, _ = read_tensors(Path(run_dir) / WEIGHTS)
        load_weights(model, tensors)
    except TENSOR_FAULTS as error:
        raise RunError(
            f"run {run_dir}: {WEIGHTS}: got {reason_of(error)}, expected the weights of config.toml; train it again"
        ) from None
    return config, model.eval(), meta


def read_tensors(path):
    """Read a safetensors file.

    Returns:
        (dict of name to tensor, dict of its metadata).
    Raises:
        one of TENSOR_FAULTS.
    """
    raw = read_bytes(path, MAX_TENSORS_BYTES)
    tensors = safetensors_torch.load(raw)
    header = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])
    return tensors, header.get("__metadata__", {})


def load_weights(module, tensors):
    """Put tensors into a module: those that it has, of the same shape and type, and finite.

    Raises:
        ValueError: naming the first that is not.
    """
    module.load_state_dict(checked(tensors, module.state_dict()))
    if "input_std" in tensors and not bool((tensors["input_std"] >= 1).all()):
        raise ValueError("an input_std below 1")


def checked(tensors, expected):
    """The tensors, where names, shapes and types are the expected ones and all numbers are finite."""
    for name in sorted(expected.keys() | tensors.keys()):
        found, wanted = tensors.get(name), expected.get(name)
        if found is None or wanted is None:
            raise ValueError(f"{'no' if found is None else 'an unknown'} tensor {name}")
        if found.shape != wanted.shape or found.dtype != wanted.dtype:
            shapes = f"{tuple(found.shape)} {found.dtype}, where the network has {tuple(wanted.shape)} {wanted.dtype}"
            raise ValueError(f"{name} {shapes}")
        if not bool(found.isfinite().all()):
            raise ValueError(f"numbers in {name} that are not finite")
    return tensors


def reason_of(error):
    """One line of an exception."""
    return (str(error).splitlines() or [type(error).__name__])[0][:200]


def load_meta(run_dir):
    """Read and check RUN/meta.json."""
    try:
        meta = json.loads(read_bytes(Path(run_dir) / META, MAX_META_BYTES))
    except (OSError, ValueError, RecursionError) as error:
        reason = reason_of(error)
        raise RunError(f"run {run_dir}: meta.json: got {reason}, expected a finished run; train it again") from None
    for key, is_sound in META_KEYS.items():
        if not isinstance(meta, dict) or key not in meta or not is_sound(meta[key]):
            raise RunError(f"run {run_dir}: meta.json: got no usable {key!r}, expected it; train it again")
    n = len(meta["channels"])
    train = meta["train_groups"]
    apart = len({*train, *meta["validation_groups"]}) == len(train) + len(meta["validation_groups"])
    if not len(meta["units"]) == len(meta["counts_per_unit"]) == n or not train or not apart:
        raise RunError(f"run {run_dir}: meta.json: got lists that do not go together; train it again")
    return meta


def _number_in(low, high, whole=False):
    kinds = (int,) if whole else (int, float)
    return lambda value: type(value) in kinds and low <= value <= high


def _texts(low, high, most_bytes, distinct=True):
    def is_sound(value):
        texts = isinstance(value, list) and low <= len(value) <= high and all(isinstance(text, str) for text in value)
        if not texts or (distinct and len(set(value)) != len(value)):
            return False
        return all(len(text.encode("utf-8", "surrogatepass")) <= most_bytes for text in value)

    return is_sound


def _counts(value):
    is_one = _number_in(1e-30, 1e38)
    return isinstance(value, list) and all(is_one(number) for number in value)


_GROUPS = _texts(0, 1 << 20, 1 << 12)
META_KEYS = {
    "version": lambda value: value == META_VERSION,
    "dataset": lambda value: isinstance(value, str),
    "window": _number_in(1, 32767, whole=True),
    "labels": _texts(2, 256, 32),
    "channels": _texts(1, 256, 32),
    "units": _texts(1, 256, 16, distinct=False),
    "counts_per_unit": _counts,
    "sample_rate_hz": lambda value: value == 0 or _number_in(1e-3, 1e6)(value),
    "hop": _number_in(1, 1 << 20, whole=True),
    "train_groups": _GROUPS,
    "validation_groups": _GROUPS,
    "test_groups": _GROUPS,
}
