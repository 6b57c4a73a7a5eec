"""Fine-tuning: a new network starts from the weights of another run, as far as the two fit together.

What cannot be taken over keeps its fresh random weights, and one sentence says so.
"""

from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from torch import nn

from .checkpoint import first_difference
from .errors import ConfigError
from .run_folder import load_meta, load_run

FREE_SETTINGS = ("name", "version", "threshold", "dropout")  # of [model]: these may differ from the other run's


def take_weights(model, config, windows, say=lambda text: None):
    """Copy the weights of the run ``training.init`` into a new network, in place.

    Args:
        model: Attn8Net with fresh weights and the input statistics of the new training windows.
        config: Config of the new run.    windows: its attn8.data.Windows.
        say: gets one sentence on each thing that is not as it was in that run.
    Raises:
        RunError: if that run cannot be loaded.
        ConfigError: if its network is another one, or ``training.freeze`` would freeze random weights.
    """
    run_dir = config.training.init
    old_config, old, meta = load_run(run_dir)
    _check_same_network(config.model, old_config.model, run_dir)
    weights, fresh = old.state_dict(), model.state_dict()
    replaced = [
        *_fit_first_layer(old, model, meta, config, say),
        *_fit_head(weights, meta, windows, run_dir, say),
        *_fit_input(meta, windows, run_dir, say),
    ]
    _fit_bias(weights, old, model, run_dir, say)
    weights |= {name: values for name, values in fresh.items() if name.startswith(tuple(replaced))}
    model.load_state_dict(weights)


def scale_of(run_dir, n_channels):
    """The counts per unit that float data should be brought to before they go into the model of a run.

    Returns:
        float32 (C,), or None where the run has another number of channels.
    """
    scale = np.array(load_meta(run_dir)["counts_per_unit"], np.float32)
    return scale if len(scale) == n_channels else None


def freeze_front_end(model):
    """Keep the weights of the stem; ``set_training_mode`` keeps its statistics."""
    model.stem.requires_grad_(False)


def set_training_mode(model):
    """As ``model.train()``, but a frozen norm stays in evaluation mode, so that its statistics stay too."""
    model.train()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d) and not module.weight.requires_grad:
            module.eval()


def check_out_dir(config, out_dir):
    """Raise ConfigError where a run would overwrite the one that it starts from."""
    if config.training.init and Path(config.training.init).resolve() == Path(out_dir).resolve():
        raise ConfigError(
            f"training.init: got the folder {out_dir} that the new run would overwrite, expected another; "
            "choose another --out"
        )


def _check_same_network(new, old, run_dir):
    tables = []
    for settings in (new, old):
        tables.append({key: value for key, value in asdict(settings).items() if key not in FREE_SETTINGS})
    difference = first_difference(*tables, "model")
    if difference:
        name, got, expected = difference
        raise ConfigError(
            f"{name}: got {got}, expected {expected} as in {run_dir}, whose weights are the start; "
            "set it so, or leave training.init out"
        )


# Each of these says what it does and returns the prefixes of the weights that stay fresh.


def _fit_first_layer(old, model, meta, config, say):
    if old.n_channels == model.n_channels:
        return []
    run_dir, settings = config.training.init, config.training
    if settings.freeze == "front_end":
        raise ConfigError(
            f"training.freeze: got front_end with {model.n_channels} channels, expected the {old.n_channels} of "
            f'{run_dir}; set training.freeze = "none", or give data of {_list(meta["channels"])}'
        )
    say(f"fine-tuning: first layer replaced, {model.n_channels} channels where {run_dir} has {old.n_channels}")
    return ["stem.0."]


def _fit_head(weights, meta, windows, run_dir, say):
    old, new = meta["labels"], windows.labels
    if set(old) != set(new):
        say(f"fine-tuning: head replaced, classes {_list(new)} where {run_dir} has {_list(old)}")
        return ["head."]
    if old != new:
        say(f"fine-tuning: rows of the head put into the order of the classes, {_list(new)}")
        order = torch.tensor([old.index(label) for label in new])
        weights |= {name: weights[name][order] for name in ("head.weight", "head.bias")}
    return []


def _fit_input(meta, windows, run_dir, say):
    """The mean and deviation of the run hold where channels and scale are the same."""
    old, new = meta["channels"], windows.channels
    if old != new and len(old) == len(new):
        say(f"fine-tuning: first layer kept, channels {_list(new)} take the place of {_list(old)}")
    if 0 < meta["sample_rate_hz"] != windows.sample_rate_hz > 0:
        say(f"fine-tuning: samples at {windows.sample_rate_hz:g} Hz, where {run_dir} has {meta['sample_rate_hz']:g} Hz")
    if old == new and np.array_equal(np.float32(meta["counts_per_unit"]), np.float32(windows.counts_per_unit)):
        return []
    say("fine-tuning: input mean and deviation taken from the new training windows")
    return ["input_"]


def _fit_bias(weights, old, model, run_dir, say):
    """Relative bias of another window: one value a distance; beyond the farthest known one, its value."""
    for number, (block, new_block) in enumerate(zip(old.blocks, model.blocks, strict=True)):
        name, known, new = f"blocks.{number}.attention.relative_bias", block.attention, new_block.attention
        distances = torch.arange(-new.left, new.right + 1).clamp(-known.left, known.right)
        weights[name] = weights[name][:, distances + known.left]
    if old.n_tokens != model.n_tokens:
        say(
            f"fine-tuning: relative attention bias fitted, windows of {model.window} samples ({model.n_tokens} tokens) "
            f"where {run_dir} has {old.window} ({old.n_tokens})"
        )


def _list(names):
    text = ", ".join(names[:8])
    return f"{text} and {len(names) - 8} more" if len(names) > 8 else text
