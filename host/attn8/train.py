"""Training of the float model: one plain loop, which a kill at any moment only delays."""

import time
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

from . import checkpoint
from .atomic import remove_torn_writes, write_atomic
from .checkpoint import TrainingState, best_epoch
from .data import axes_triples, split_windows
from .data.augment import Augment
from .errors import ConfigError, RunError
from .evaluate import predict_float, scores
from .fine_tune import check_out_dir, freeze_front_end, set_training_mode, take_weights
from .model import Attn8Net
from .progress import ProgressBar
from .run_folder import (
    CHECKPOINT,
    FILES,
    WEIGHTS,
    append_history,
    checked,
    drop_results,
    load_meta,
    load_run,
    load_run_config,
    run_digest,
    save_history,
    save_weights,
    start_run,
)

__all__ = [
    "TrainResult",
    "best_epoch",
    "load_meta",
    "load_run",
    "load_run_config",
    "new_model",
    "new_state",
    "resume",
    "run_epochs",
    "train",
]


MAX_SCORES = 1 << 27  # attention scores of a batch, in each layer


@dataclass
class TrainResult:
    """What ``train`` and ``resume`` return.

    Fields:
        model: Attn8Net in evaluation mode, with the weights of RUN/model.safetensors: those of the last finished
            epoch, or of the best one where ``training.patience`` is set.
        config: the Config that was used, seed included.
        split: attn8.data.Split.
        history: one dict an epoch, as in metrics.jsonl.
        seconds: wall time since this start.
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


def train(
    config,
    windows,
    out_dir,
    seed=None,
    progress=True,
    say=lambda text: None,
    replace_unfinished=False,
    model=None,
):
    """Train a float model and write its run folder.

    Args:
        config: attn8.config.Config; ``training.init`` is absolute.
        windows: attn8.data.Windows.
        out_dir: folder for config.toml, meta.json, model.safetensors, metrics.jsonl and the checkpoint; made if
            absent. The results of an earlier run in it are dropped.
        seed: takes the place of config.training.seed.
        progress: show a progress bar on stderr.
        say: gets one line on what the user should know: what fine-tuning replaced, why training stopped.
        replace_unfinished: drop an earlier training, too, that was stopped and could be resumed.
        model: an Attn8Net that ``new_model`` made, trained in place of a new one; ``training.init`` is not applied.
    Returns:
        TrainResult. Ctrl-C after the first epoch returns what the last finished epoch left.
    Raises:
        DataError, ConfigError: if data and settings do not go together.
        RunError: if out_dir cannot be written, or holds a training that could be resumed.
    """
    if seed is not None:
        config = replace(config, training=replace(config.training, seed=seed))
    out_dir = Path(out_dir)
    check_out_dir(config, out_dir)
    if not replace_unfinished:
        refuse_unfinished(out_dir)
    split = split_windows(windows, config.data)
    check_settings(config, windows, split)
    built = new_model(config, windows, split, say, fresh=model is not None)
    if model is not None:
        check_same_network(model, built)
    state = new_state(built if model is None else model, config, windows, split)
    start_run(out_dir, config, windows, split, checkpoint.to_bytes(state, config, windows.fingerprint()))
    return finish(state, config, windows, split, out_dir, progress, say)


def resume(run_dir, windows, progress=True, say=lambda text: None):
    """Go on with a training that was stopped, to the very weights of one that was not.

    Args:
        run_dir: run folder.    windows: attn8.data.Windows, the same as when it began.
        progress, say: as for ``train``.
    Returns:
        TrainResult; of a finished training, what it left.
    Raises:
        RunError: if the folder holds no training, a damaged one, or one of other data or settings.
    """
    run_dir, config = Path(run_dir), load_run_config(run_dir)
    if not (run_dir / CHECKPOINT).exists():
        if (run_dir / WEIGHTS).exists():
            raise RunError(
                f"run {run_dir}: got no {CHECKPOINT}, expected the one that `attn8 train` writes after every epoch; "
                "train the run again"
            )
        return train(config, windows, run_dir, progress=progress, say=say, replace_unfinished=True)
    facts, tensors = checkpoint.read(run_dir)
    checkpoint.check_same(facts, config, windows, run_dir)
    split = split_windows(windows, config.data)
    model = new_model(config, windows, split, fresh=True)  # its weights come from the checkpoint
    state = new_state(model, config, windows, split)
    checkpoint.restore(state, facts, tensors, run_dir)
    if not is_finished(state.history, config.training):
        say(f"resume: {len(state.history)} of {config.training.epochs} epochs are done")
        drop_results(run_dir)
    else:
        say(f"resume: training is finished after {len(state.history)} epochs, nothing is left to train")
    remove_torn_writes(run_dir, FILES)
    save_all(state, run_dir)
    return finish(state, config, windows, split, run_dir, progress, say)


def finish(state, config, windows, split, out_dir, progress, say):
    """Run the epochs that are left, each saved as it ends; returns TrainResult."""
    started, n_before, interrupted = time.monotonic(), len(state.history), False
    fingerprint, run = windows.fingerprint(), run_digest(load_run_config(out_dir), load_meta(out_dir))
    try:
        with ProgressBar(config.training.epochs, progress, n_before) as advance:
            for metrics in run_epochs(state, config, windows, split):
                # The checkpoint first: whatever a kill leaves of the other two, resume writes them from it.
                write_atomic(out_dir / CHECKPOINT, checkpoint.to_bytes(state, config, fingerprint))
                save_weights(state.best or state.model.state_dict(), out_dir, run)
                append_history(metrics, out_dir)
                advance(metrics)
    except KeyboardInterrupt:
        checkpoint.restore(state, *checkpoint.read(out_dir), out_dir)
        if not state.history:
            raise
        save_all(state, out_dir)
        interrupted = True
    if len(state.history) > n_before and not interrupted:
        say_best(state.history, config.training, say)
    if state.best:
        state.model.load_state_dict(state.best)
    seconds = time.monotonic() - started
    return TrainResult(state.model.eval(), config, split, state.history, seconds, interrupted, out_dir)


def run_epochs(state, config, windows, split):
    """Train until the last epoch or an early stop, yielding the metrics of each finished epoch."""
    settings, model = config.training, state.model
    x = torch.from_numpy(windows.x[split.train])
    y = torch.from_numpy(windows.y[split.train])
    weight = class_weights(settings.class_weights, y, windows.labels)
    loss_of = partial(functional.cross_entropy, weight=weight, label_smoothing=settings.label_smoothing)
    while not is_finished(state.history, settings):
        set_training_mode(model)
        total_loss, predicted = 0.0, torch.empty_like(y)
        # Parts of nearly equal size: the statistics of a last batch of one window would be noise.
        for batch in torch.randperm(len(x), generator=state.order).tensor_split(state.n_steps):
            logits = model(state.augment(x[batch].float()))
            loss = loss_of(logits, y[batch])
            state.optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), settings.clip)
            state.optimizer.step()
            state.schedule.step()
            total_loss += loss.item() * len(batch)
            predicted[batch] = logits.argmax(1)
        train_scores = scores(y.numpy(), predicted.numpy(), len(windows.labels))
        metrics = epoch_metrics(model, windows, split, loss_of, total_loss / len(x), train_scores)
        yield keep_epoch(state, metrics, settings)


# ---- before the first epoch ----------------------------------------------------------------------------------------


def new_model(config, windows, split, say=lambda text: None, fresh=False):
    """A network for these windows, with weights from ``training.seed`` or the run ``training.init``.

    Args:
        config, windows, split: as for ``train``.
        say: gets a sentence on each thing that ``training.init`` could not give.
        fresh: leave ``training.init`` aside.
    Returns:
        Attn8Net with the input statistics of the training windows (or of the run that it starts from).
    """
    torch.set_num_threads(config.training.threads)
    torch.manual_seed(config.training.seed)
    model = Attn8Net(config.model, windows.x.shape[1], windows.x.shape[2], len(windows.labels))
    model.set_input_statistics(windows.x[split.train])
    check_memory(model, config.training)
    if config.training.init and not fresh:
        with torch.random.fork_rng(devices=[]):  # dropout must not depend on how the weights came
            take_weights(model, config, windows, say)
    return model


def check_memory(model, settings):
    """Raise ConfigError where the attention scores of one batch would fill the memory of a laptop."""
    n_scores = settings.batch_size * model.scores_per_window
    if n_scores > MAX_SCORES:
        raise ConfigError(
            f"training.batch_size: got {settings.batch_size} windows of {model.scores_per_window:,} attention scores, "
            f"expected at most {MAX_SCORES // model.scores_per_window}; lower it, or raise a stride of model.stem"
        )


def new_state(model, config, windows, split):
    """The TrainingState of a network, float or quantized, before its first epoch."""
    settings = config.training
    if settings.freeze == "front_end":
        freeze_front_end(model)
    axes = axes_triples(config.data, windows)
    augment = Augment(
        settings.augmentation, axes, windows.x.shape[2], model.input_mean, model.input_std, seed=settings.seed + 1
    )
    order = torch.Generator().manual_seed(settings.seed + 2)
    n_steps = -(-len(split.train) // settings.batch_size)
    optimizer = make_optimizer(model, settings.learning_rate, settings.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, settings.learning_rate, total_steps=settings.epochs * n_steps
    )
    return TrainingState(model, optimizer, schedule, n_steps, augment, order)


def make_optimizer(model, learning_rate, weight_decay):
    """AdamW that decays matrices only: never biases, norms or the relative attention bias; frozen ones are left out."""
    decayed, others = [], []
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            is_matrix = parameter.ndim >= 2 and not name.endswith("relative_bias")
            (decayed if is_matrix else others).append(parameter)
    groups = [{"params": decayed, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=learning_rate)


def class_weights(setting, y, labels):
    """Weight of each class in the loss: float32 (K,), or None for equal ones.

    Args:
        setting: "none", "balanced" (N / (K n_k), so that every class weighs the same in all) or one number a class.
        y: int64 (N,), numpy or torch, classes of the training windows.    labels: texts.
    Raises:
        ConfigError: if the numbers are not one a class.
    """
    if setting == "none":
        return None
    if setting == "balanced":
        counts = np.bincount(y, minlength=len(labels))  # none is 0: the split has checked that
        return torch.from_numpy(len(y) / (len(labels) * counts)).float()
    if len(setting) != len(labels):
        raise ConfigError(
            f"training.class_weights: got {len(setting)} numbers, expected {len(labels)}, one for each of "
            f"{', '.join(labels)}; correct it"
        )
    return torch.tensor(setting, dtype=torch.float32)


def check_settings(config, windows, split):
    """Raise ConfigError where class weights do not fit the data, or an early stop has nothing to look at."""
    class_weights(config.training.class_weights, windows.y[split.train], windows.labels)
    if config.training.patience and not len(split.validation):
        raise ConfigError(
            f"training.patience: got {config.training.patience} without validation groups, expected some to stop by; "
            "set data.validation_groups to 1 or more, or training.patience = 0"
        )


def check_same_network(model, expected):
    """Raise ConfigError where a network could not be rebuilt from its configuration and data, or trained."""

    def blueprint(net):
        kinds = [(name, type(module)) for name, module in net.named_modules()]
        shapes = [(name, tuple(values.shape)) for name, values in net.state_dict().items()]
        return kinds, shapes, (net.window, [block.attention.causal for block in net.blocks])

    if blueprint(model) != blueprint(expected):
        raise ConfigError(
            "model: got a network of another shape, expected that of [model] for these windows; "
            "make it with attn8.train.new_model from the same settings and windows"
        )
    try:
        checked(model.state_dict(), expected.state_dict())
    except ValueError as error:
        raise ConfigError(
            f"model: got {error}, expected weights that a training can start from; correct them"
        ) from None


def refuse_unfinished(out_dir):
    """Raise RunError where a folder holds a training that was stopped and can be resumed."""
    try:
        config, (facts, _) = load_run_config(out_dir), checkpoint.read(out_dir)
    except RunError:
        return
    began = {key: facts["settings"]["training"][key] for key in ("epochs", "patience")}
    n_done, settings = len(facts["history"]), replace(config.training, **began)
    if n_done and not is_finished(facts["history"], settings):
        raise RunError(
            f"run {out_dir}: got a training that was stopped after {n_done} of {settings.epochs} epochs, expected "
            f"none; go on with it: attn8 train --resume {out_dir}, or drop it with --yes, or choose another --out"
        )


# ---- after each epoch ----------------------------------------------------------------------------------------------


def epoch_metrics(model, windows, split, loss_of, loss, train_scores):
    """Figures of an epoch; loss and training scores are those of the varied windows, met on the way."""
    metrics = {"loss": loss} | {f"train_{name}": value for name, value in train_scores.items()}
    if len(split.validation):
        logits, y = predict_float(model, windows.x[split.validation]), windows.y[split.validation]
        found = scores(y, logits.argmax(1), len(windows.labels))
        found["loss"] = float(loss_of(torch.from_numpy(logits), torch.from_numpy(y)))
        metrics |= {f"validation_{name}": value for name, value in found.items()}
    return metrics


def keep_epoch(state, metrics, settings):
    """Put a finished epoch into the state; returns its line of metrics.jsonl."""
    metrics = {"epoch": len(state.history) + 1} | metrics
    state.history.append(metrics)
    if settings.patience:
        metrics["best_epoch"] = best_epoch(state.history)
        if metrics["best_epoch"] == metrics["epoch"]:
            state.best = {name: values.clone() for name, values in state.model.state_dict().items()}
    return metrics


def is_finished(history, settings):
    """Whether all epochs are done, or ``patience`` of them since the best."""
    if len(history) >= settings.epochs:
        return True
    return bool(settings.patience and history) and len(history) - best_epoch(history) >= settings.patience


def say_best(history, settings, say):
    """Say which epoch was kept, where it need not be the last."""
    if not settings.patience:
        return
    best = history[best_epoch(history) - 1]
    stopped = f"stopped after epoch {len(history)}" if len(history) < settings.epochs else "all epochs are done"
    say(
        f"early stop: {stopped}; kept epoch {best['epoch']}, the best on the validation groups "
        f"(macro-F1 {best['validation_macro_f1']:.3f})"
    )


def save_all(state, run_dir):
    """Write RUN/model.safetensors and RUN/metrics.jsonl from a state that is as of the last checkpoint."""
    save_history(state.history, run_dir)
    if state.history:
        run = run_digest(load_run_config(run_dir), load_meta(run_dir))
        save_weights(state.best or state.model.state_dict(), run_dir, run)
