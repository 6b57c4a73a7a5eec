"""Resume: a training that was stopped, at whatever moment, ends with the weights of one that was not."""

import contextlib
import itertools
import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest

from attn8.config import load_config
from attn8.errors import RunError
from trainings import small_config, tones

torch = pytest.importorskip("torch")

from safetensors import torch as safetensors_torch  # noqa: E402

from attn8 import atomic, checkpoint, run_folder  # noqa: E402
from attn8 import train as module  # noqa: E402
from attn8.data import split_windows  # noqa: E402
from attn8.train import new_model, resume, train  # noqa: E402

COMPARED = ("config.toml", "meta.json", "model.safetensors", "metrics.jsonl", "checkpoint.safetensors")


def contents(folder):
    return {name: (folder / name).read_bytes() for name in COMPARED}


def stopped(monkeypatch, epoch, config, folder, interrupt=KeyboardInterrupt, **arguments):
    """A training that ends at the end of an epoch, before anything of that epoch is written."""
    real, calls = module.epoch_metrics, itertools.count(1)

    def interrupted(*figures):
        if next(calls) == epoch:
            raise interrupt
        return real(*figures)

    with monkeypatch.context() as patch:
        patch.setattr(module, "epoch_metrics", interrupted)
        with contextlib.suppress(interrupt):
            train(config, tones(), folder, progress=False, **arguments)


class Killed(BaseException):
    """What no ``except`` in the code under test catches."""


KINDS = {
    "plain": [],
    "dropout, layer norm, no validation": ["model.dropout=0.5", "model.norm=layer", "data.validation_groups=0"],
    "early stop": ["training.epochs=9", "training.patience=2", "training.learning_rate=0.03"],
    "class weights": ["training.class_weights=balanced", "model.activation=gelu"],
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, Killed])
def test_resumed_training_is_the_same_to_the_byte(tmp_path, monkeypatch, kind, interrupt):
    config = small_config("training.epochs=4", *KINDS[kind])
    expected = train(config, tones(), tmp_path / "whole", progress=False)
    stopped(monkeypatch, 3, config, tmp_path / "run", interrupt)
    torch.manual_seed(999)
    said = []
    result = resume(tmp_path / "run", tones(), progress=False, say=said.append)
    assert contents(tmp_path / "run") == contents(tmp_path / "whole")
    assert result.history == expected.history and result.config == expected.config
    assert all(a.equal(b) for a, b in zip(result.model.parameters(), expected.model.parameters(), strict=True))
    assert said[0] == f"resume: 2 of {config.training.epochs} epochs are done"


def test_stopped_again_and_again_ends_the_same(tmp_path, monkeypatch):
    config = small_config("training.epochs=4")
    train(config, tones(), tmp_path / "whole", progress=False)
    stopped(monkeypatch, 2, config, tmp_path / "run")
    real = module.epoch_metrics
    for _ in range(2):
        calls = itertools.count(1)

        def interrupted(*figures, calls=calls):
            if next(calls) == 2:
                raise KeyboardInterrupt
            return real(*figures)

        monkeypatch.setattr(module, "epoch_metrics", interrupted)
        assert resume(tmp_path / "run", tones(), progress=False).interrupted
    monkeypatch.setattr(module, "epoch_metrics", real)
    assert not resume(tmp_path / "run", tones(), progress=False).interrupted
    assert contents(tmp_path / "run") == contents(tmp_path / "whole")


def test_interrupt_while_files_are_written_leaves_files_of_one_epoch(tmp_path, monkeypatch):
    real = module.append_history

    def interrupted(metrics, out_dir):
        if metrics["epoch"] == 2:
            raise KeyboardInterrupt
        real(metrics, out_dir)

    monkeypatch.setattr(module, "append_history", interrupted)
    result = train(small_config(), tones(), tmp_path, progress=False)
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert result.interrupted and [json.loads(line) for line in lines] == result.history and len(lines) == 2
    saved = safetensors_torch.load_file(tmp_path / "model.safetensors")
    assert all(values.equal(saved[name]) for name, values in result.model.state_dict().items())


# ---- a kill at every change of the folder


@pytest.fixture(scope="module")
def old_run(tmp_path_factory):
    """A finished run of other settings, with all that may lie in its folder."""
    folder = tmp_path_factory.mktemp("old")
    train(small_config("training.epochs=1", "training.seed=7"), tones(), folder, progress=False)
    for name in ("quantized.safetensors", "metrics.json", "report.html"):
        (folder / name).write_bytes(b"old")
    return folder


class Changes:
    """Counts what changes files, and kills at one of them."""

    def __init__(self, monkeypatch, kill_at):
        self.n, self.kill_at = 0, kill_at
        real_replace, real_unlink, real_append = atomic.os.replace, Path.unlink, module.append_history
        monkeypatch.setattr(atomic.os, "replace", lambda *a: self.step() or real_replace(*a))
        monkeypatch.setattr(Path, "unlink", lambda path, **k: (path.exists() and self.step()) or real_unlink(path, **k))
        monkeypatch.setattr(module, "append_history", lambda *a: self.step() or real_append(*a))

    def step(self):
        self.n += 1
        if self.n == self.kill_at:
            raise Killed


def test_a_kill_at_every_change_of_the_folder_mixes_nothing(tmp_path, monkeypatch, old_run):
    config = small_config("training.epochs=2")
    train(config, tones(), tmp_path / "whole", progress=False)
    expected, old = contents(tmp_path / "whole"), contents(old_run)
    outcomes = []
    for kill_at in itertools.count(1):
        run = tmp_path / f"run{kill_at}"
        shutil.copytree(old_run, run)
        with monkeypatch.context() as patch:
            Changes(patch, kill_at)
            try:
                train(config, tones(), run, progress=False)
                break
            except Killed:
                pass
        if not (run / "config.toml").exists():  # neither run: only the original command can go on
            with pytest.raises(RunError, match=r"config\.toml"):
                resume(run, tones(), progress=False)
            train(config, tones(), run, progress=False)
            outcomes.append("none")
        elif (run / "config.toml").read_bytes() == old["config.toml"]:
            assert contents(run) == old and (run / "metrics.json").read_bytes() == b"old"
            outcomes.append("old")
            continue
        else:
            resume(run, tones(), progress=False)
            outcomes.append("new")
        assert contents(run) == expected and not (run / "metrics.json").exists()
        assert sorted(path.name for path in run.iterdir()) == sorted(COMPARED)
    assert outcomes.count("old") == 1 and outcomes.count("none") > 8 and outcomes.count("new") >= 6
    assert outcomes == sorted(outcomes, key=["old", "none", "new"].index)


def test_half_written_files_of_a_kill_are_removed(tmp_path):
    config = small_config()
    train(config, tones(), tmp_path, progress=False)
    (tmp_path / ".model.safetensors.4711").write_bytes(b"half")
    (tmp_path / ".model.safetensors.mine").write_bytes(b"not attn8's")
    resume(tmp_path, tones(), progress=False)
    left = [path.name for path in tmp_path.iterdir() if path.name.startswith(".")]
    assert left == [".model.safetensors.mine"]


def test_config_without_a_checkpoint_starts_from_the_beginning(tmp_path):
    config = small_config()
    train(config, tones(), tmp_path / "whole", progress=False)
    expected = contents(tmp_path / "whole")
    for name in COMPARED[1:]:
        (tmp_path / "whole" / name).unlink()
    resume(tmp_path / "whole", tones(), progress=False)
    assert contents(tmp_path / "whole") == expected


def test_a_network_of_the_caller_survives_a_kill_before_its_first_epoch(tmp_path, monkeypatch):
    config, windows = small_config(), tones()

    def own():
        model = new_model(config, windows, split_windows(windows, config.data))
        model.head.bias.data += 1
        return model

    train(config, windows, tmp_path / "whole", progress=False, model=own())
    stopped(monkeypatch, 1, config, tmp_path / "run", Killed, model=own())
    resume(tmp_path / "run", windows, progress=False)
    assert contents(tmp_path / "run") == contents(tmp_path / "whole")


# ---- what resume says


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished")
    train(small_config(), tones(), folder, progress=False)
    return folder


@pytest.fixture
def copy(finished, tmp_path):
    shutil.copytree(finished, tmp_path / "run")
    return tmp_path / "run"


def test_finished_training_trains_no_more_and_says_so(copy):
    before, said = contents(copy), []
    (copy / "metrics.json").write_text("{}")
    result = resume(copy, tones(), progress=False, say=said.append)
    assert said == ["resume: training is finished after 3 epochs, nothing is left to train"]
    assert contents(copy) == before and len(result.history) == 3 and not result.interrupted
    assert (copy / "metrics.json").exists()


def test_a_finished_early_stop_is_finished(tmp_path):
    settings = small_config("training.epochs=30", "training.patience=2", "training.learning_rate=0.03")
    first = train(settings, tones(), tmp_path, progress=False)
    assert len(first.history) < 30
    before, said = contents(tmp_path), []
    again = resume(tmp_path, tones(), progress=False, say=said.append)
    assert contents(tmp_path) == before and "finished after" in said[0] and len(said) == 1
    assert all(a.equal(b) for a, b in zip(first.model.parameters(), again.model.parameters(), strict=True))


def test_going_on_drops_the_integers_of_the_old_weights(tmp_path, monkeypatch):
    stopped(monkeypatch, 2, small_config(), tmp_path)
    for name in run_folder.FROM_WEIGHTS:
        (tmp_path / name).write_text("of epoch 1")
    resume(tmp_path, tones(), progress=False)
    assert not [name for name in run_folder.FROM_WEIGHTS if (tmp_path / name).exists()]


def test_other_data_are_refused_by_fingerprint(copy):
    windows = tones()
    windows.x[3, 4, 1] += 1
    with pytest.raises(RunError, match=f"fingerprint {windows.fingerprint()[:12]}.*{tones().fingerprint()[:12]}"):
        resume(copy, windows, progress=False)


@pytest.mark.parametrize(
    ("old", "new", "name"),
    [
        ("epochs = 3", "epochs = 4", r"training\.epochs: got 4, expected 3"),
        ("ff = 8", "ff = 16", r"model\.ff: got 16, expected 8"),
        ("kernel = 4", "kernel = 5", r"model\.stem\.0\.kernel: got 5, expected 4"),
        ("fold = 0", "fold = 1", r"data\.fold: got 1, expected 0"),
        ("rotation_rad = 0.2", "rotation_rad = 0.3", r"training\.augmentation\.rotation_rad"),
    ],
)
def test_changed_settings_are_refused_by_name(copy, old, new, name):
    text = (copy / "config.toml").read_text()
    assert old in text
    (copy / "config.toml").write_text(text.replace(old, new, 1))
    with pytest.raises(RunError, match=name):
        resume(copy, tones(), progress=False)


def test_name_version_and_threshold_may_change(copy):
    text = (copy / "config.toml").read_text().replace("threshold = 0", "threshold = 30")
    (copy / "config.toml").write_text(text)
    resume(copy, tones(), progress=False)
    assert load_config(copy / "config.toml").model.threshold == 30


def test_a_folder_without_a_training_is_a_run_error(tmp_path, copy):
    for folder in (tmp_path / "none", tmp_path):
        with pytest.raises(RunError, match="expected"):
            resume(folder, tones(), progress=False)
    (copy / "checkpoint.safetensors").unlink()
    with pytest.raises(RunError, match=r"no checkpoint\.safetensors"):
        resume(copy, tones(), progress=False)


# ---- a run folder is untrusted


def test_every_kind_of_damage_is_one_sentence(copy):
    path, rng = copy / "checkpoint.safetensors", np.random.default_rng(0)
    whole = path.read_bytes()
    damaged = [whole[:n] for n in (0, 4, 8, 100, len(whole) // 2, len(whole) - 1)] + [whole + b"x", b"\xff" * 64]
    for position in [*range(8), *rng.integers(8, len(whole), 150)]:
        flipped = bytearray(whole)
        flipped[position] ^= 1 << rng.integers(8)
        damaged.append(bytes(flipped))
    for content in damaged:
        path.write_bytes(content)
        with pytest.raises(RunError, match=r"checkpoint\.safetensors") as caught:
            resume(copy, tones(), progress=False)
        assert "\n" not in str(caught.value)


class Marker:
    def __reduce__(self):
        return (Path.touch, (Path("pickle-ran"),))


def test_a_pickle_is_never_opened(copy, monkeypatch):
    monkeypatch.chdir(copy)
    for content in (pickle.dumps(Marker()), None):
        if content is None:
            torch.save({"a": Marker()}, copy / "checkpoint.safetensors")
        else:
            (copy / "checkpoint.safetensors").write_bytes(content)
        with pytest.raises(RunError):
            resume(copy, tones(), progress=False)
    assert not (copy / "pickle-ran").exists()


def forged(folder, tensors=(), **facts):
    """Writes a checkpoint with changed contents and the right checksum."""
    old_facts, old_tensors = checkpoint.read(folder)
    text, changed = json.dumps(old_facts | facts), {**old_tensors, **dict(tensors)}
    changed = {name: values for name, values in changed.items() if values is not None}
    metadata = {"state": f"{checkpoint._digest(text, changed)} {text}"}
    (folder / "checkpoint.safetensors").write_bytes(safetensors_torch.save(changed, metadata))


FORGED = [
    {"version": 2},
    {"version": None},
    {"fingerprint": 3},
    {"settings": []},
    {"settings": {}},
    {"history": 3},
    {"history": [3]},
    {"history": [{"epoch": 1}]},
    {"history": [{"epoch": 2, "loss": 1.0, "train_accuracy": 1.0, "train_macro_f1": 1.0}]},
    {"history": [{"epoch": 1, "loss": "a", "train_accuracy": 1.0, "train_macro_f1": 1.0}]},
    {"tensors": {"model.head.weight": torch.zeros(2, 8)}},
    {"tensors": {"model.head.weight": None}},
    {"tensors": {"model.extra": torch.zeros(2)}},
    {"tensors": {"adam.0.exp_avg": torch.zeros(2)}},
    {"tensors": {"adam.0.exp_avg": None}},
    {"tensors": {"adam.0.step": torch.zeros(3)}},
    {"tensors": {"random.torch": torch.zeros(8, dtype=torch.uint8)}},
    {"tensors": {"random.torch": torch.zeros(5056, dtype=torch.uint8)}},
    {"tensors": {"random.order": torch.zeros(5056)}},
    {"tensors": {"random.augment": None}},
    {"tensors": {"best.head.weight": torch.zeros(3, 8)}},
]


@pytest.mark.parametrize("change", FORGED, ids=str)
def test_a_forged_checkpoint_is_one_sentence(copy, change):
    forged(copy, **change)
    with pytest.raises(RunError) as caught:
        resume(copy, tones(), progress=False)
    assert "\n" not in str(caught.value)


# ---- training into a folder that holds an unfinished one


def test_an_unfinished_training_is_not_dropped_unasked(tmp_path, monkeypatch):
    stopped(monkeypatch, 3, small_config(), tmp_path)
    before = contents(tmp_path)
    with pytest.raises(RunError, match=r"after 2 of 3 epochs.*--resume .*--yes"):
        train(small_config("training.seed=1"), tones(), tmp_path, progress=False)
    assert contents(tmp_path) == before
    result = train(small_config("training.seed=1"), tones(), tmp_path, progress=False, replace_unfinished=True)
    assert len(result.history) == 3 and load_config(tmp_path / "config.toml").training.seed == 1


@pytest.mark.parametrize("state", ["finished", "damaged", "not one epoch"])
def test_what_cannot_be_resumed_is_replaced(tmp_path, monkeypatch, state):
    if state == "not one epoch":
        stopped(monkeypatch, 1, small_config(), tmp_path)
    else:
        train(small_config(), tones(), tmp_path, progress=False)
    if state == "damaged":
        (tmp_path / "checkpoint.safetensors").write_bytes(b"damaged")
    train(small_config("training.seed=1"), tones(), tmp_path, progress=False)
    assert load_config(tmp_path / "config.toml").training.seed == 1
