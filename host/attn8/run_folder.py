"""The run folder: what a training leaves, written so that a kill at any moment leaves something sound.

config.toml is written last and removed first: where it lies, everything beside it belongs to it.
"""

import hashlib
import json
import os
from dataclasses import asdict
from pathlib import Path

from safetensors import SafetensorError
from safetensors import torch as safetensors_torch

from .atomic import read_bytes, remove_torn_writes, write_atomic
from .config import load_config, to_toml
from .errors import Attn8Error, DataError, RunError
from .model import Attn8Net

CONFIG, META, WEIGHTS, HISTORY = "config.toml", "meta.json", "model.safetensors", "metrics.jsonl"
CHECKPOINT = "checkpoint.safetensors"
FROM_WEIGHTS = ("quantized.safetensors", "metrics.json", "report.html")
RESULTS = (WEIGHTS, HISTORY, *FROM_WEIGHTS, CHECKPOINT)
FILES = (CONFIG, META, *RESULTS)
META_VERSION = 1
MAX_META_BYTES, MAX_TENSORS_BYTES = 64 << 20, 512 << 20  # the largest network that config.py allows: 308 MB
HARMLESS = {"model": ("name", "version", "threshold"), "training": ("init",)}  # no later epoch depends on these
SPLIT_SETTINGS = ("folds", "fold", "validation_groups", "split_seed", "axes")
LOWEST = {"input_std": 1, "running_var": 0, "num_batches_tracked": 0, "exp_avg_sq": 0}  # by the last part of a name
LOWEST |= {"input_step": 1e-3, "scales": 0, "temperature": 1e-3}
WHOLE = ("input_mean", "input_offset")  # the integer model subtracts whole counts
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
        DataError: if the windows are such that ``load_meta`` would refuse the run.
        RunError: if the folder cannot be written.
    """
    meta = json.dumps(make_meta(windows, split), indent=2)
    fault = _meta_fault(json.loads(meta))
    if fault:
        raise DataError(f"{windows.name}: got {fault}; correct the windows")
    try:
        out_dir.mkdir(parents=True, exist_ok=True)
        for name in (CONFIG, *RESULTS, META):
            (out_dir / name).unlink(missing_ok=True)
        remove_torn_writes(out_dir, FILES)
        write_atomic(out_dir / META, meta.encode() + b"\n")
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


def save_weights(weights, out_dir, run):
    """Write RUN/model.safetensors, a state_dict, whole or not at all; ``run`` is what ``run_digest`` returned."""
    write_atomic(Path(out_dir) / WEIGHTS, safetensors_torch.save(weights, {"run": run}))


def run_digest(config, meta):
    """SHA-256, as hex, of what ties weights to their config.toml and meta.json, both as read from the folder."""
    return hashlib.sha256(json.dumps([lasting_settings(config), meta], sort_keys=True).encode()).hexdigest()


def lasting_settings(config):
    """What must not change between the start of a training and its end: a dict of dicts."""
    table = asdict(config)
    kept = {"data": {key: table["data"][key] for key in SPLIT_SETTINGS}}
    for part, harmless in HARMLESS.items():
        kept[part] = {key: value for key, value in table[part].items() if key not in harmless}
    return kept


def weights_digest(run_dir):
    """SHA-256 of RUN/model.safetensors, as hex."""
    return hashlib.sha256(read_bytes(Path(run_dir) / WEIGHTS, MAX_TENSORS_BYTES)).hexdigest()


def save_history(history, out_dir):
    """Write RUN/metrics.jsonl, one line an epoch, whole or not at all."""
    write_atomic(Path(out_dir) / HISTORY, "".join(json.dumps(metrics) + "\n" for metrics in history).encode())


def append_history(metrics, out_dir):
    """Append one epoch to RUN/metrics.jsonl; no link is followed, no pipe waited for."""
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    with open(os.open(Path(out_dir) / HISTORY, flags, 0o666), "a") as stream:
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
        tensors, metadata = read_tensors(Path(run_dir) / WEIGHTS)
        if metadata.get("run") != run_digest(config, meta):
            raise ValueError("weights of another run, or of other settings")
        load_weights(model, tensors)
    except TENSOR_FAULTS as error:
        raise RunError(
            f"run {run_dir}: {WEIGHTS}: got {reason_of(error)}, expected those of config.toml and meta.json; "
            f"run: attn8 train --resume {run_dir}, or train it again"
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
    """Put tensors into a module: those that it has, as ``checked`` wants them.

    Raises:
        ValueError: naming the first that is not.
    """
    module.load_state_dict(checked(tensors, module.state_dict()))


def checked(tensors, expected):
    """The tensors, where names, shapes and types are the expected ones and all numbers can come from a training."""
    for name in sorted(expected.keys() | tensors.keys()):
        found, wanted = tensors.get(name), expected.get(name)
        if found is None or wanted is None:
            raise ValueError(f"{'no' if found is None else 'an unknown'} tensor {name}")
        if found.shape != wanted.shape or found.dtype != wanted.dtype:
            shapes = f"{tuple(found.shape)} {found.dtype}, where the network has {tuple(wanted.shape)} {wanted.dtype}"
            raise ValueError(f"{name} {shapes}")
        _check_numbers(name, found)
    return tensors


def _check_numbers(name, values):
    kind = name.rpartition(".")[2]
    if not bool(values.isfinite().all()):
        raise ValueError(f"numbers in {name} that are not finite")
    if kind in LOWEST and bool((values < LOWEST[kind]).any()):
        raise ValueError(f"numbers in {name} below {LOWEST[kind]}")
    if kind in WHOLE and not bool(((values == values.round()) & (values.abs() <= 32768)).all()):
        raise ValueError(f"numbers in {name} that are no counts")


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
    fault = _meta_fault(meta)
    if fault:
        raise RunError(f"run {run_dir}: meta.json: got {fault}; train it again")
    return meta


# ---- what may stand in meta.json -----------------------------------------------------------------------------------


def _meta_fault(meta):
    """What is wrong with the contents of meta.json, as "X, expected Y", or None."""
    if not isinstance(meta, dict):
        return "no object, expected one"
    for key, (is_sound, expected) in META_KEYS.items():
        if key not in meta or not is_sound(meta[key]):
            return f"no usable {key!r}, expected {expected}"
    n = len(meta["channels"])
    if not len(meta["units"]) == len(meta["counts_per_unit"]) == n:
        return f"other numbers of units and counts_per_unit than channels, expected {n} of each"
    groups = [name for part in ("train", "validation", "test") for name in meta[f"{part}_groups"]]
    if not meta["train_groups"] or len(set(groups)) != len(groups):
        return "no training groups, or a group in two parts, expected each in one"
    if not _texts(0, 1 << 20, 1 << 16)(meta.get("notes", [])):
        return "no usable 'notes', expected texts"
    return None


def _number_in(low, high, whole=False):
    kinds = (int,) if whole else (int, float)  # not isinstance: True is no number here
    return lambda value: type(value) in kinds and low <= value <= high


def _texts(low, high, most_bytes):
    def is_sound(value):
        texts = isinstance(value, list) and low <= len(value) <= high and all(isinstance(text, str) for text in value)
        return texts and all(len(text.encode("utf-8", "surrogatepass")) <= most_bytes for text in value)

    return is_sound


def _names(low, high, most_bytes):
    """Texts that are distinct, not empty, and fit into a model file."""
    are_texts = _texts(low, high, most_bytes)
    return lambda value: are_texts(value) and len(set(value)) == len(value) and all(map(_is_encodable, value))


def _is_encodable(text):
    return text != "" and not any("\ud800" <= c <= "\udfff" for c in text)


def _counts(value):
    return isinstance(value, list) and all(map(_number_in(1e-30, 1e38), value))


def _rate(value):
    return _number_in(0, 0)(value) or _number_in(1e-3, 1e6)(value)


def _units(value):
    return _texts(1, 256, 16)(value) and all(text == "" or _is_encodable(text) for text in value)


_GROUPS = (_texts(0, 1 << 20, 1 << 12), "texts")
META_KEYS = {
    "version": (_number_in(META_VERSION, META_VERSION, whole=True), str(META_VERSION)),
    "dataset": (lambda value: isinstance(value, str) and len(value) <= 4096, "a text"),
    "window": (_number_in(1, 32767, whole=True), "1..32767"),
    "labels": (_names(2, 256, 32), "2..256 different texts of at most 32 UTF-8 bytes"),
    "channels": (_names(1, 256, 32), "1..256 different texts of at most 32 UTF-8 bytes"),
    "units": (_units, "texts of at most 16 UTF-8 bytes"),
    "counts_per_unit": (_counts, "numbers above 0"),
    "sample_rate_hz": (_rate, "0 or 1e-3..1e6"),
    "hop": (_number_in(1, 1 << 20, whole=True), f"1..{1 << 20}"),
    "train_groups": _GROUPS,
    "validation_groups": _GROUPS,
    "test_groups": _GROUPS,
}
