"""The checkpoint of a training: everything that the next epoch depends on, in RUN/checkpoint.safetensors.

A run folder is untrusted input: tensors and JSON, never a pickle. The metadata of the file hold one text, "state": the
SHA-256 of the rest of it and of all tensors, a space, and the rest, JSON.
"""

import hashlib
import json
import math
import re
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from safetensors import torch as safetensors_torch

from .errors import RunError
from .run_folder import CHECKPOINT, TENSOR_FAULTS, checked, lasting_settings, load_weights, read_tensors, reason_of

VERSION = 1
LINE_KEYS = {"epoch", "loss", "train_accuracy", "train_macro_f1"}  # of every line of metrics.jsonl
VALIDATION_KEYS = {"validation_accuracy", "validation_macro_f1", "validation_loss"}
SHARES = {"train_accuracy", "train_macro_f1", "validation_accuracy", "validation_macro_f1"}  # in 0..1
GENERATORS = ("random.torch", "random.augment", "random.order")
LARGEST_STEP = 1 << 24  # Adam counts its steps in float32, which stays there
# As get_state of a torch.Generator of the CPU gives it: a Mersenne twister.
GENERATOR_STATE = np.dtype(
    [
        ("seed", "u8"), ("left", "i4"), ("seeded", "i4"), ("next", "u8"), ("words", "u8", 624), ("normals", "f8", 3),
        ("has_normal", "i4"), ("gap", "i4"), ("float_normal", "f4"), ("has_float_normal", "u1"), ("end", "u1", 3),
    ]
)  # fmt: skip


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
    facts = {
        "version": VERSION,
        "fingerprint": fingerprint,
        "settings": lasting_settings(config),
        "history": state.history,
    }
    text = json.dumps(facts)
    tensors = {name: values.contiguous() for name, values in tensors.items()}
    return safetensors_torch.save(tensors, {"state": f"{_digest(text, tensors)} {text}"})


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
    if type(facts["version"]) is not int or facts["version"] != VERSION:
        raise ValueError(f"version {facts['version']!r}, where this attn8 reads {VERSION}")
    if not re.fullmatch("[0-9a-f]{64}", facts["fingerprint"]):
        raise ValueError("no fingerprint")
    settings, history = facts["settings"]["training"], facts["history"]
    if not all(type(settings[key]) is int and settings[key] >= 0 for key in ("epochs", "patience")):
        raise ValueError("no epochs and patience")
    if not isinstance(history, list) or len(history) > settings["epochs"]:
        raise ValueError("other than a list of at most training.epochs epochs")
    best = []
    for number, line in enumerate(history, 1):
        if not _is_line(line, number, settings["patience"]):
            raise ValueError(f"no figures of epoch {number}")
        if settings["patience"]:
            best = [history[best_epoch([*best, line]) - 1]]
            if line["best_epoch"] != best[0]["epoch"]:
                raise ValueError(f"another best epoch than {best[0]['epoch']} in epoch {number}")


def _is_line(line, number, patience):
    """Whether this is what an epoch leaves in the history."""
    wanted = LINE_KEYS | VALIDATION_KEYS if patience or "validation_loss" in line else LINE_KEYS
    wanted = wanted | {"best_epoch"} if patience else wanted
    if line.keys() != wanted or type(line["epoch"]) is not int or line["epoch"] != number:
        return False
    if type(line.get("best_epoch", 1)) is not int:
        return False
    figures = {key: value for key, value in line.items() if not key.endswith("epoch")}
    if not all(type(value) is float and math.isfinite(value) and value >= 0 for value in figures.values()):
        return False
    return all(line[key] <= 1 for key in SHARES & line.keys())


def best_epoch(history):
    """Number of the epoch with the best validation macro-F1; of equal ones that with the lowest validation loss."""
    best = max(history, key=lambda line: (line["validation_macro_f1"], -line["validation_loss"]))
    return best["epoch"]


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
    history, patience = facts["history"], facts["settings"]["training"]["patience"]
    try:
        _check_names(state, tensors, bool(history))
        for name in GENERATORS:
            _check_generator(name, tensors[name])
        load_weights(state.model, _part(tensors, "model"))
        best = checked(_part(tensors, "best"), state.model.state_dict() if history and patience else {})
        if best and best_epoch(history) == len(history):
            _check_equal(best, state.model.state_dict())
        _restore_optimizer(state, tensors, len(history))
        torch.set_rng_state(tensors["random.torch"])
        state.augment.generator.set_state(tensors["random.augment"])
        state.order.set_state(tensors["random.order"])
    except TENSOR_FAULTS as error:
        raise _damaged(run_dir, error) from None
    state.best = best or None
    state.history[:] = history


def _check_names(state, tensors, has_moments):
    n_moments = len(_parameters(state)) if has_moments else 0
    parts = ("model.", "best.", *(f"adam.{number}." for number in range(n_moments)))
    for name in tensors:
        if not name.startswith(parts) and name not in GENERATORS:
            raise ValueError(f"an unknown tensor {name}")


def _check_equal(best, last):
    """The last epoch is the best: both are the same weights."""
    for name, values in last.items():
        if not torch.equal(best[name], values):
            raise ValueError(f"another {name} of the best epoch, which is the last")


def _check_generator(name, values):
    """Refuse a state that torch would take and then read beyond its words with, or that draws no usable numbers."""
    size = torch.get_rng_state().shape
    if values.dtype != torch.uint8 or values.shape != size:
        raise ValueError(f"{name} {tuple(values.shape)} {values.dtype}, where torch has {tuple(size)} torch.uint8")
    if size[0] != GENERATOR_STATE.itemsize:
        return  # another torch, whose states we cannot read
    state = np.frombuffer(values.numpy().tobytes(), GENERATOR_STATE)[0]
    left, following = int(state["left"]), int(state["next"])
    # Either new, or `next` of 624 words are drawn and the rest, with one more, are left.
    placed = (left, following) == (1, 0) or (1 <= left <= 624 and left + following == 625)
    words = state["seeded"] == 1 and state["words"].any() and bool((state["words"] < 1 << 32).all())
    flags = state["has_normal"] in (0, 1) and state["has_float_normal"] in (0, 1)
    normals = np.abs([*state["normals"], state["float_normal"]])
    if not (placed and words and flags and bool((normals < 100).all())):
        raise ValueError(f"{name}: a state that no generator has")


def _restore_optimizer(state, tensors, n_epochs):
    if not n_epochs:
        return
    saved, n_steps = state.optimizer.state_dict(), n_epochs * state.n_steps
    for number, parameter in enumerate(_parameters(state)):
        expected = {"step": torch.zeros(()), "exp_avg": parameter, "exp_avg_sq": parameter}
        moments = checked(_part(tensors, f"adam.{number}"), expected)
        if moments["step"] != min(n_steps, LARGEST_STEP):
            raise ValueError(f"adam.{number}.step {moments['step'].item():g}, where {n_steps} steps are done")
        saved["state"][number] = moments
    state.optimizer.load_state_dict(saved)
    # OneCycle is a formula of the number of steps: one step from the one before gives all its values.
    state.schedule.load_state_dict({"last_epoch": n_steps - 1, "_step_count": n_steps})
    state.schedule.step()


def _parameters(state):
    return [parameter for group in state.optimizer.param_groups for parameter in group["params"]]


def _part(tensors, prefix):
    return {name.removeprefix(f"{prefix}."): v for name, v in tensors.items() if name.startswith(f"{prefix}.")}


def check_same(facts, config, windows, run_dir):
    """Raise RunError where settings or windows are not those that the training began with."""
    difference = first_difference(lasting_settings(config), facts["settings"])
    if difference:
        name, got, expected = (str(part)[:100] for part in difference)
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
