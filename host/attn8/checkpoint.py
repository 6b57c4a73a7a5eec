"""The checkpoint of a training: everything that the next epoch depends on, in RUN/checkpoint.safetensors.

A run folder is untrusted input: tensors and JSON, never a pickle. The metadata of the file hold one text, "state": the
SHA-256 of the rest of it and of all tensors, a space, and the rest, JSON.
"""

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from safetensors import torch as safetensors_torch

from .errors import RunError
from .run_folder import CHECKPOINT, TENSOR_FAULTS, checked, load_weights, read_tensors, reason_of

VERSION = 1
LINE_KEYS = {"epoch", "loss", "train_accuracy", "train_macro_f1"}  # of every line of metrics.jsonl
VALIDATION_KEYS = {"validation_accuracy", "validation_macro_f1", "validation_loss"}
HARMLESS = {"model": ("name", "version", "threshold"), "training": ("init",)}  # no later epoch depends on these
SPLIT_SETTINGS = ("folds", "fold", "validation_groups", "split_seed", "axes")


@dataclass
class TrainingState:
    """A training between two epochs.

    Fields:
        model, optimizer, schedule: Attn8Net or QuantNet, AdamW, OneCycleLR.
        n_steps: batches of an epoch.
        augment: data.augment.Augment; its generator is part of the state.
        order: torch.Generator of the order of the windows.
        history: metrics of each finished epoch.
        best: state_dict of the best epoch so far where ``training.patience`` asks for it, else None.
    """

    model: torch.nn.Module
    optimizer: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.OneCycleLR
    n_steps: int
    augment: object
    order: torch.Generator
    history: list = field(default_factory=list)
    best: dict | None = None


# ---- writing -------------------------------------------------------------------------------------------------------


def to_bytes(state, config, fingerprint):
    """The checkpoint of a state.

    Args:
        state: TrainingState.    config: the Config of the training.    fingerprint: Windows.fingerprint().
    """
    tensors = {f"model.{name}": values for name, values in state.model.state_dict().items()}
    for name, values in (state.best or {}).items():
        tensors[f"best.{name}"] = values
    for number, moments in state.optimizer.state_dict()["state"].items():
        tensors |= {f"adam.{number}.{name}": values for name, values in moments.items()}
    tensors["random.torch"] = torch.get_rng_state()
    tensors["random.augment"] = state.augment.generator.get_state()
    tensors["random.order"] = state.order.get_state()
    facts = {"version": VERSION, "fingerprint": fingerprint, "settings": _settings(config), "history": state.history}
    text = json.dumps(facts)
    tensors = {name: values.contiguous() for name, values in tensors.items()}
    return safetensors_torch.save(tensors, {"state": f"{_digest(text, tensors)} {text}"})


def _settings(config):
    """What must not change between the start of a training and its end."""
    table = asdict(config)
    kept = {"data": {key: table["data"][key] for key in SPLIT_SETTINGS}}
    for part, harmless in HARMLESS.items():
        kept[part] = {key: value for key, value in table[part].items() if key not in harmless}
    return kept


def _digest(text, tensors):
    found = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        values = tensors[name]
        found.update(f"{name} {values.dtype} {tuple(values.shape)}".encode())
        found.update(values.contiguous().numpy().tobytes())
    return found.hexdigest()


# ---- reading -------------------------------------------------------------------------------------------------------


def read(run_dir):
    """Read and check RUN/checkpoint.safetensors.

    Returns:
        (facts, tensors): dict with fingerprint, settings and history; dict of name to tensor.
    Raises:
        RunError: if it is absent, damaged, or of another version.
    """
    try:
        tensors, metadata = read_tensors(Path(run_dir) / CHECKPOINT)
        digest, _, text = metadata["state"].partition(" ")
        if _digest(text, tensors) != digest:
            raise ValueError("other contents than its checksum says")
        facts = json.loads(text)
        _check_facts(facts)
    except TENSOR_FAULTS as error:
        raise _damaged(run_dir, error) from None
    return facts, tensors


def _check_facts(facts):
    if facts["version"] != VERSION:
        raise ValueError(f"version {facts['version']!r}, where this attn8 reads {VERSION}")
    if not isinstance(facts["fingerprint"], str) or not isinstance(facts["settings"], dict):
        raise ValueError("no fingerprint and settings")
    wanted = LINE_KEYS | (VALIDATION_KEYS if facts["settings"]["training"]["patience"] else set())
    for number, line in enumerate(facts["history"], 1):
        numbers = all(type(value) in (int, float) and -1e9 < value < 1e9 for value in line.values())
        if not numbers or not wanted <= line.keys() or line["epoch"] != number:
            raise ValueError(f"no figures of epoch {number}")


def _damaged(run_dir, error):
    return RunError(
        f"run {run_dir}: {CHECKPOINT}: got {reason_of(error)}, expected what `attn8 train` writes after every epoch; "
        "train the run again"
    )


def restore(state, facts, tensors, run_dir):
    """Bring a fresh TrainingState, in place, to what ``read`` returned; torch's own generator too.

    Raises:
        RunError: if the tensors do not belong to this network and optimizer.
    """
    try:
        load_weights(state.model, _part(tensors, "model"))
        best = _part(tensors, "best")
        if bool(best) != bool(facts["history"] and facts["settings"]["training"]["patience"]):
            raise ValueError("the weights of a best epoch where there is none, or none where there is one")
        state.best = checked(best, state.model.state_dict()) if best else None
        _restore_optimizer(state, tensors, len(facts["history"]))
        torch.set_rng_state(tensors["random.torch"])
        state.augment.generator.set_state(tensors["random.augment"])
        state.order.set_state(tensors["random.order"])
    except TENSOR_FAULTS as error:
        raise _damaged(run_dir, error) from None
    state.history[:] = facts["history"]


def _restore_optimizer(state, tensors, n_epochs):
    if not n_epochs:
        return
    saved = state.optimizer.state_dict()
    parameters = [parameter for group in state.optimizer.param_groups for parameter in group["params"]]
    for number, parameter in enumerate(parameters):
        expected = {"step": torch.zeros(()), "exp_avg": parameter, "exp_avg_sq": parameter}
        moments = checked(_part(tensors, f"adam.{number}"), expected)
        if moments["step"] != n_epochs * state.n_steps or bool((moments["exp_avg_sq"] < 0).any()):
            raise ValueError(f"moments of parameter {number} that no training leaves")
        saved["state"][number] = moments
    state.optimizer.load_state_dict(saved)
    # OneCycle is a formula of the number of steps: one step from the one before gives all its values.
    n_steps = n_epochs * state.n_steps
    state.schedule.load_state_dict({"last_epoch": n_steps - 1, "_step_count": n_steps})
    state.schedule.step()


def _part(tensors, prefix):
    return {name.removeprefix(f"{prefix}."): v for name, v in tensors.items() if name.startswith(f"{prefix}.")}


def check_same(facts, config, windows, run_dir):
    """Raise RunError where settings or windows are not those that the training began with."""
    difference = first_difference(_settings(config), facts["settings"])
    if difference:
        name, got, expected = difference
        raise RunError(
            f"run {run_dir}: config.toml: {name}: got {got}, expected {expected} as when the training began; "
            "set it back, or train the run anew"
        )
    fingerprint = windows.fingerprint()
    if fingerprint != facts["fingerprint"]:
        raise RunError(
            f"run {run_dir}: {windows.name}: got windows with the fingerprint {fingerprint[:12]}, expected "
            f"{facts['fingerprint'][:12]} as when the training began; bring those data back, or train the run anew"
        )


def first_difference(found, expected, where=""):
    """The first value in which two nested dicts and lists differ.

    Returns:
        (dotted name, found, expected), or None where they are equal.
    """
    if isinstance(found, list) and isinstance(expected, list) and len(found) == len(expected):
        found, expected = dict(enumerate(found)), dict(enumerate(expected))
    if not isinstance(found, dict) or not isinstance(expected, dict):
        return None if found == expected else (where, found, expected)
    for key in [*found, *(expected.keys() - found.keys())]:
        name = f"{where}.{key}" if where else str(key)
        difference = first_difference(found.get(key), expected.get(key), name)
        if difference:
            return difference
    return None
