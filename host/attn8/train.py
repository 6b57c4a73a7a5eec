"""Training of the float model: one plain loop, and the run folder that it leaves."""

import json
import os
import time
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from safetensors import SafetensorError
from safetensors import torch as safetensors_torch
from torch.nn import functional

from .config import load_config, to_toml
from .data import axes_triples, split_windows
from .data.augment import Augment
from .errors import Attn8Error, RunError
from .evaluate import evaluate_float, scores
from .model import Attn8Net

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


@dataclass
class TrainResult:
    """What ``train`` returns.

    Fields:
        model: Attn8Net in evaluation mode, as of the last finished epoch.
        config: the Config that was used, seed included.
        split: attn8.data.Split.
        history: one dict an epoch, as in metrics.jsonl.
        seconds: wall time.
        interrupted: True when Ctrl-C ended it early.
        out_dir: Path of the run folder.
    """

    model: Attn8Net
    config: object
    split: object
    history: list
    seconds: float
    interrupted: bool
    out_dir: Path


def train(config, windows, out_dir, seed=None, progress=True):
    """Train a float model and write its run folder.

    Args:
        config: attn8.config.Config.
        windows: attn8.data.Windows.
        out_dir: folder for config.toml, meta.json, model.safetensors and metrics.jsonl; made if absent.
        seed: takes the place of config.training.seed.
        progress: show a progress bar on stderr.
    Returns:
        TrainResult. Ctrl-C after the first epoch returns what the last finished epoch left.
    Raises:
        DataError, ConfigError: if data and settings do not go together.
    """
    started = time.monotonic()
    if seed is not None:
        config = replace(config, training=replace(config.training, seed=seed))
    split = split_windows(windows, config.data)
    torch.set_num_threads(config.training.threads)
    torch.manual_seed(config.training.seed)
    model = Attn8Net(config.model, windows.x.shape[1], windows.x.shape[2], len(windows.labels))
    model.set_input_statistics(windows.x[split.train])
    out_dir = Path(out_dir)
    start_run(out_dir, config, windows, split)
    history, interrupted = [], False
    try:
        with ProgressBar(config.training.epochs, progress) as advance:
            for metrics in run_epochs(model, config, windows, split):
                save_weights(model, out_dir)
                append_line(out_dir / "metrics.jsonl", metrics)
                history.append(metrics)
                advance(metrics)
    except KeyboardInterrupt:
        if not history:
            raise
        interrupted = True
        model.load_state_dict(safetensors_torch.load_file(out_dir / "model.safetensors"))
    model.eval()
    return TrainResult(model, config, split, history, time.monotonic() - started, interrupted, out_dir)


def run_epochs(model, config, windows, split):
    """Train, yielding the metrics of each finished epoch."""
    settings = config.training
    x = torch.from_numpy(windows.x[split.train])
    y = torch.from_numpy(windows.y[split.train])
    axes = axes_triples(config.data, windows)
    augment = Augment(
        settings.augmentation, axes, x.shape[2], model.input_mean, model.input_std, seed=settings.seed + 1
    )
    order = torch.Generator().manual_seed(settings.seed + 2)
    n_steps = -(-len(x) // settings.batch_size)
    optimizer = make_optimizer(model, settings.learning_rate, settings.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, settings.learning_rate, total_steps=settings.epochs * n_steps
    )
    for epoch in range(settings.epochs):
        model.train()
        total_loss, predicted = 0.0, torch.empty_like(y)
        # Parts of nearly equal size: the statistics of a last batch of one window would be noise.
        for batch in torch.randperm(len(x), generator=order).tensor_split(n_steps):
            logits = model(augment(x[batch].float()))
            loss = functional.cross_entropy(logits, y[batch], label_smoothing=settings.label_smoothing)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), settings.clip)
            optimizer.step()
            schedule.step()
            total_loss += loss.item() * len(batch)
            predicted[batch] = logits.argmax(1)
        train_scores = scores(y.numpy(), predicted.numpy(), len(windows.labels))
        yield epoch_metrics(model, windows, split, epoch + 1, total_loss / len(x), train_scores)


def epoch_metrics(model, windows, split, epoch, loss, train_scores):
    """One line of metrics.jsonl; loss and training scores are those of the varied windows, met on the way."""
    metrics = {"epoch": epoch, "loss": loss}
    metrics |= {f"train_{name}": value for name, value in train_scores.items()}
    if len(split.validation):
        found = evaluate_float(model, windows, split.validation)
        metrics |= {"validation_accuracy": found["accuracy"], "validation_macro_f1": found["macro_f1"]}
    return metrics


def make_optimizer(model, learning_rate, weight_decay):
    """AdamW that decays matrices only: never biases, norms or the relative attention bias."""
    decayed, others = [], []
    for name, parameter in model.named_parameters():
        is_matrix = parameter.ndim >= 2 and not name.endswith("relative_bias")
        (decayed if is_matrix else others).append(parameter)
    groups = [{"params": decayed, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=learning_rate)


# ---- the run folder ------------------------------------------------------------------------------------------------


def start_run(out_dir, config, windows, split):
    """Write what is known before the first epoch, and drop the results of an earlier run."""
    try:
        out_dir.mkdir(parents=True, exist_ok=True)
        for name in ("model.safetensors", "quantized.safetensors", "metrics.jsonl", "metrics.json"):
            (out_dir / name).unlink(missing_ok=True)
        write_atomic(out_dir / "config.toml", to_toml(config).encode())
        write_atomic(out_dir / "meta.json", json.dumps(make_meta(windows, split), indent=2).encode() + b"\n")
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


def save_weights(model, out_dir):
    """Write RUN/model.safetensors whole or not at all."""
    write_atomic(Path(out_dir) / "model.safetensors", safetensors_torch.save(model.state_dict()))


def write_atomic(path, content):
    """Write bytes beside ``path``, then replace it: a reader sees the old file or the new one."""
    path = Path(path)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(beside, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def append_line(path, record):
    """Append one JSON line."""
    with open(path, "a") as stream:
        stream.write(json.dumps(record) + "\n")


def load_run(run_dir):
    """Load a run folder.

    Returns:
        (Config, Attn8Net in evaluation mode, dict of meta.json).
    Raises:
        RunError: if a file is absent, damaged, or does not belong to the others.
    """
    run_dir = Path(run_dir)
    if not run_dir.is_dir():
        raise RunError(f"run {run_dir}: got no such folder, expected one that `attn8 train --out` made; check the path")
    try:
        config = load_config(run_dir / "config.toml")
    except Attn8Error as error:
        raise RunError(f"run {run_dir}: {error}; train it again") from None
    meta = load_meta(run_dir)
    model = Attn8Net(config.model, meta["window"], len(meta["channels"]), len(meta["labels"]))
    try:
        model.load_state_dict(safetensors_torch.load_file(run_dir / "model.safetensors"))
    except (OSError, SafetensorError, RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise RunError(
            f"run {run_dir}: model.safetensors: got {reason}, expected the weights of config.toml; train it again"
        ) from None
    if not all(bool(values.isfinite().all()) for values in model.state_dict().values()):
        raise RunError(f"run {run_dir}: model.safetensors: got weights that are not finite; train it again")
    return config, model.eval(), meta


def load_meta(run_dir):
    """Read and check RUN/meta.json."""
    path = Path(run_dir) / "meta.json"
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


# ---- progress ------------------------------------------------------------------------------------------------------


class ProgressBar:
    """Context manager that gives ``advance(metrics)``; silent when not shown."""

    def __init__(self, n_epochs, shown):
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        figures, console = TextColumn("{task.fields[figures]}"), Console(stderr=True)  # stdout is for --json
        self.bar = Progress(*columns, figures, console=console, disable=not shown)
        self.task = self.bar.add_task("training", total=n_epochs, figures="")

    def __enter__(self):
        self.bar.start()
        return self.advance

    def __exit__(self, *exception):
        self.bar.stop()

    def advance(self, metrics):
        part = "validation" if "validation_accuracy" in metrics else "train"
        accuracy, f1 = metrics[f"{part}_accuracy"], metrics[f"{part}_macro_f1"]
        figures = f"loss {metrics['loss']:.3f}  {part} accuracy {accuracy:.1%}  macro-F1 {f1:.3f}"
        self.bar.update(self.task, advance=1, figures=figures)
