"""The run folder: what a training leaves, written so that a kill at any moment leaves something sound.

config.toml is written last and removed first: where it lies, everything beside it belongs to it.
"""

import json
from pathlib import Path

from safetensors import SafetensorError
from safetensors import torch as safetensors_torch

from .atomic import remove_torn_writes, write_atomic
from .config import load_config, to_toml
from .errors import Attn8Error, RunError
from .model import Attn8Net

CONFIG, META, WEIGHTS, HISTORY = "config.toml", "meta.json", "model.safetensors", "metrics.jsonl"
CHECKPOINT = "checkpoint.safetensors"
FROM_WEIGHTS = ("quantized.safetensors", "metrics.json", "report.html")
RESULTS = (WEIGHTS, HISTORY, *FROM_WEIGHTS, CHECKPOINT)
FILES = (CONFIG, META, *RESULTS)
META_VERSION = 1
META_KEYS = {
    "version": int,
    "dataset": str,
    "window": int,
    "labels": list,
    "channels": list,
    "units": list,
    "counts_per_unit": list,
    "sample_rate_hz": (int, float),
    "hop": int,
    "train_groups": list,
    "validation_groups": list,
    "test_groups": list,
}


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
        model.load_state_dict(safetensors_torch.load_file(Path(run_dir) / WEIGHTS))
    except (OSError, SafetensorError, RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise RunError(
            f"run {run_dir}: {WEIGHTS}: got {reason}, expected the weights of config.toml; train it again"
        ) from None
    if not all(bool(values.isfinite().all()) for values in model.state_dict().values()):
        raise RunError(f"run {run_dir}: {WEIGHTS}: got weights that are not finite; train it again")
    return config, model.eval(), meta


def load_meta(run_dir):
    """Read and check RUN/meta.json."""
    path = Path(run_dir) / META
    try:
        meta = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise RunError(f"run {run_dir}: meta.json: got {error}, expected a finished run; train it again") from None
    for key, kind in META_KEYS.items():
        if not isinstance(meta, dict) or not isinstance(meta.get(key), kind):
            raise RunError(f"run {run_dir}: meta.json: got no usable {key!r}, expected it; train it again")
    texts = [*meta["labels"], *meta["channels"], *meta["units"]]
    numbers = [*meta["counts_per_unit"], meta["sample_rate_hz"]]
    n = len(meta["channels"])
    sound = all(isinstance(t, str) for t in texts) and all(isinstance(v, int | float) for v in numbers)
    if (
        not sound
        or not len(meta["units"]) == len(meta["counts_per_unit"]) == n
        or not all(0 <= v < 1e38 for v in numbers)
    ):
        raise RunError(f"run {run_dir}: meta.json: got other contents than attn8 writes; train it again")
    if meta["version"] != META_VERSION or not 1 <= meta["window"] <= 32767 or not meta["channels"]:
        raise RunError(f"run {run_dir}: meta.json: got other contents than attn8 writes; train it again")
    return meta
