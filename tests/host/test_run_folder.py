"""A run folder that somebody sent: nothing in it hangs, reaches outside or is believed."""

import json
import os
import shutil
import subprocess
import sys
import threading

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from safetensors import torch as safetensors_torch  # noqa: E402

from attn8 import api, checkpoint, workflow  # noqa: E402
from attn8.atomic import locked, read_bytes, write_atomic  # noqa: E402
from attn8.config import load_config  # noqa: E402
from attn8.errors import Attn8Error, ConfigError, DataError, RunError  # noqa: E402
from attn8.model_file import read_model  # noqa: E402
from attn8.run_folder import append_history, load_meta, load_run  # noqa: E402
from attn8.train import resume, train  # noqa: E402

SMALL = {"model__d_model": 8, "model__stem": [{"channels": 8, "kernel": 4, "stride": 4}], "model__heads": 2}
SMALL |= {"model__layers": 1, "model__ff": 8, "training__epochs": 2}


def own_windows():
    rng = np.random.default_rng(0)
    y = np.arange(60) % 2
    x = (rng.normal(0, 100, (60, 16, 2)) + 300 * y[:, None, None]).astype(np.int16)
    return api.windows(x, y, group=np.arange(60) // 10)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished") / "run"
    api.train(api.config(**SMALL), own_windows(), folder)
    return folder


@pytest.fixture
def run(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / "run")


# ---- files that are no files ---------------------------------------------------------------------------------------


@pytest.fixture
def in_time():
    """Fails a test that waits for a pipe; a thread cannot be killed, so the pipe gets a writer."""
    fifos = []
    timer = threading.Timer(10, lambda: [os.close(os.open(path, os.O_RDWR)) for path in fifos])
    timer.start()
    yield fifos
    assert timer.is_alive(), "waited for a pipe"
    timer.cancel()


@pytest.mark.parametrize(
    "name, action",
    [
        ("config.toml", load_run),
        ("meta.json", load_run),
        ("model.safetensors", load_run),
        ("quantized.safetensors", lambda run: workflow.open_run(run, windows=own_windows())),
        ("metrics.json", workflow.read_metrics),
        ("checkpoint.safetensors", checkpoint.read),
    ],
)
def test_pipe_in_a_run_folder_is_one_sentence(run, name, action, in_time):
    (run / name).unlink()
    os.mkfifo(run / name)
    in_time.append(run / name)
    with pytest.raises(RunError, match="no regular file"):
        action(run)


@pytest.mark.parametrize("read", [load_config, read_model])
def test_pipe_or_device_on_the_command_line_is_one_sentence(tmp_path, read, in_time):
    os.mkfifo(tmp_path / "pipe")
    in_time.append(tmp_path / "pipe")
    for path in (tmp_path / "pipe", "/dev/zero"):
        with pytest.raises(Attn8Error, match="no regular file"):
            read(path)


def test_file_over_its_bound_is_not_read(tmp_path):
    (tmp_path / "f").write_bytes(bytes(11))
    assert len(read_bytes(tmp_path / "f", 11)) == 11
    with pytest.raises(ValueError, match="11 bytes, more than 10"):
        read_bytes(tmp_path / "f", 10)


def test_writing_follows_no_link(tmp_path, monkeypatch):
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    (tmp_path / "target").symlink_to(victim)
    write_atomic(tmp_path / "target", b"new")
    assert victim.read_bytes() == b"precious" and (tmp_path / "target").read_bytes() == b"new"
    monkeypatch.setattr("attn8.atomic.secrets.randbits", lambda n: 7)
    (tmp_path / ".other.7").symlink_to(victim)
    with pytest.raises(FileExistsError):
        write_atomic(tmp_path / "other", b"new")
    assert victim.read_bytes() == b"precious"


# ---- two at a time -------------------------------------------------------------------------------------------------

HOLD = """
import sys
from attn8.atomic import locked
with locked(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_second_training_in_a_folder_is_refused_and_a_killed_one_lets_go(run):
    holder = subprocess.Popen([sys.executable, "-c", HOLD, run], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert holder.stdout.readline() == b"held\n"
        before = {path.name: path.read_bytes() for path in run.iterdir()}
        for action in (
            lambda: api.train(api.config(**SMALL), own_windows(), run),
            lambda: workflow.resume_run(run),
            lambda: workflow.quantize_run(run, "calibrate", windows=own_windows()),
        ):
            with pytest.raises(RunError, match="another attn8 writes"):
                action()
        assert {path.name: path.read_bytes() for path in run.iterdir()} == before
    finally:
        holder.kill()
        holder.wait()
    with locked(run):
        pass


def test_error_under_the_lock_is_told_as_it_is(tmp_path):
    with pytest.raises(BlockingIOError), locked(tmp_path):
        raise BlockingIOError


def test_lock_follows_no_link(tmp_path):
    (tmp_path / ".lock").symlink_to(tmp_path / "victim")
    with pytest.raises(RunError), locked(tmp_path):
        pass
    assert not (tmp_path / "victim").exists()


# ---- contents ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        {"train_groups": [["a"], "b"]},
        {"train_groups": []},
        {"train_groups": ["0", "0"]},
        {"validation_groups": [{"a": 1}]},
        {"labels": ["a", "a"]},
        {"labels": ["a"]},
        {"channels": ["x" * 33, "y"]},
        {"units": ["g"]},
        {"counts_per_unit": [0, 0]},
        {"counts_per_unit": [True, True]},
        {"sample_rate_hz": 1e37},
        {"hop": True},
        {"hop": 0},
        {"window": 40000},
        {"version": 2},
        {"version": True},
        {"sample_rate_hz": False},
        {"labels": ["", "b"]},
        {"labels": ["\ud800", "b"]},
        {"labels": {"a": 1, "b": 2}},
        {"channels": ["x", "x"]},
        {"units": ["g" * 17, "g"]},
        {"units": ["\udc80", "g"]},
        {"counts_per_unit": [float("nan"), 1.0]},
        {"counts_per_unit": [10**400, 1]},
        {"test_groups": ["0", "1", "2", "3", "4", "5"]},
        {"notes": 5},
        {"notes": [1]},
        {"dataset": None},
    ],
)
def test_meta_that_training_never_writes_is_one_sentence(run, change):
    meta = json.loads((run / "meta.json").read_text()) | change
    (run / "meta.json").write_text(json.dumps(meta))
    with pytest.raises(RunError, match=r"meta\.json: got"):
        load_meta(run)


def rewritten(run, name, change):
    """Writes a safetensors file of a run again with other tensors."""
    raw = (run / name).read_bytes()
    header = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])
    tensors = change(safetensors_torch.load(raw))
    (run / name).write_bytes(safetensors_torch.save(tensors, header.get("__metadata__")))


@pytest.mark.parametrize(
    "change, text",
    [
        (lambda t: t | {"head.weight": t["head.weight"] * torch.nan}, "not finite"),
        (lambda t: t | {"head.weight": t["head.weight"].to(torch.int8)}, "int8"),
        (lambda t: t | {"head.weight": t["head.weight"].to(torch.complex64)}, "complex64"),
        (lambda t: t | {"input_std": t["input_std"] * 0}, "input_std below 1"),
        (lambda t: {name: v for name, v in t.items() if name != "head.bias"}, r"no tensor head\.bias"),
        (lambda t: t | {"other": t["head.bias"].clone()}, "unknown tensor other"),
        (lambda t: t | {"input_mean": t["input_mean"] + 0.5}, "input_mean that are no counts"),
        (lambda t: t | {"input_mean": t["input_mean"] + 1e6}, "input_mean that are no counts"),
        (lambda t: t | {"norm.running_var": t["norm.running_var"] - 100}, "running_var below 0"),
    ],
)
def test_weights_that_no_training_leaves_are_one_sentence(run, change, text):
    rewritten(run, "model.safetensors", change)
    with pytest.raises(RunError, match=text):
        load_run(run)


@pytest.mark.parametrize("name", ["input_step", "temperature"])
def test_integers_that_no_calibration_leaves_are_one_sentence(run, name):
    rewritten(run, "quantized.safetensors", lambda t: t | {name: t[name] * 0})
    with pytest.raises(RunError, match=f"numbers in {name} below"):
        workflow.open_run(run, windows=own_windows())


def test_weights_of_another_run_are_one_sentence(run, tmp_path):
    other = tmp_path / "other"
    api.train(api.config(**SMALL | {"training__seed": 1}), own_windows(), other)
    for name, text in [
        ("model.safetensors", "weights of another run, or of other settings, expected.*attn8 train --resume"),
        ("quantized.safetensors", "a model of other float weights, expected.*attn8 quantize"),
    ]:
        own = (run / name).read_bytes()
        shutil.copy(other / name, run / name)
        with pytest.raises(RunError, match=text):
            workflow.open_run(run, windows=own_windows())
        (run / name).write_bytes(own)
    workflow.open_run(run, windows=own_windows())


def test_weights_of_nobody_knows_which_run_are_brought_back_by_resume(run):
    raw = (run / "model.safetensors").read_bytes()
    (run / "model.safetensors").write_bytes(safetensors_torch.save(safetensors_torch.load(raw)))
    with pytest.raises(RunError, match="of another run"):
        load_run(run)
    resume(run, own_windows(), progress=False)
    assert (run / "model.safetensors").read_bytes() == raw
    workflow.open_run(run, windows=own_windows())


def test_windows_whose_run_could_not_be_opened_are_refused_before_anything_is_dropped(run):
    windows, before = own_windows(), {path.name: path.read_bytes() for path in run.iterdir()}
    windows.labels = ["same", "same"]
    with pytest.raises(DataError, match="no usable 'labels'"):
        train(api.config(**SMALL), windows, run, progress=False)
    assert {path.name: path.read_bytes() for path in run.iterdir()} == before


def test_network_that_could_not_be_opened_again_is_refused(tmp_path):
    settings = api.config(**SMALL)
    model = api.build(settings, own_windows())
    model.input_mean += 0.5
    with pytest.raises(ConfigError, match="input_mean that are no counts"):
        train(settings, own_windows(), tmp_path / "run", progress=False, model=model)


def as_best(tensors):
    return {f"best.{name[6:]}": values.clone() for name, values in tensors.items() if name.startswith("model.")}


FORGERIES = {
    "NaN weight": lambda t, f: t["model.head.weight"].fill_(torch.nan),
    "NaN moment": lambda t, f: t["adam.0.exp_avg"].fill_(torch.nan),
    "inf moment": lambda t, f: t["adam.0.exp_avg_sq"].fill_(torch.inf),
    "negative square": lambda t, f: t["adam.0.exp_avg_sq"].fill_(-1),
    "negative step": lambda t, f: t["adam.0.step"].fill_(-1),
    "other step": lambda t, f: t["adam.1.step"].fill_(3),
    "input_std 0": lambda t, f: t["model.input_std"].fill_(0),
    "int8": lambda t, f: t.update({"model.head.bias": t["model.head.bias"].to(torch.int8)}),
    "best of nothing": lambda t, f: t.update(as_best(t)),
    "huge figure": lambda t, f: f["history"][0].update(loss=10**400),
    "NaN figure": lambda t, f: f["history"][0].update(loss=float("nan")),
    "other epoch": lambda t, f: f["history"][0].update(epoch=2),
    "short generator": lambda t, f: t.update({"random.order": t["random.order"][:10]}),
    "generator beyond its words": lambda t, f: generator(t, left=624, next=624),
    "generator before its words": lambda t, f: generator(t, left=0, next=625),
    "generator of zeros": lambda t, f: generator(t, words=0),
    "generator with an infinite number": lambda t, f: generator(t, normals=np.inf, has_normal=1),
    "unknown tensor": lambda t, f: t.update({"adam.99.step": t["adam.0.step"].clone()}),
    "fractional mean": lambda t, f: t["model.input_mean"].add_(0.5),
    "negative variance": lambda t, f: t["model.norm.running_var"].sub_(100),
    "true version": lambda t, f: f.update(version=True),
    "fingerprint": lambda t, f: f.update(fingerprint="\x1b[31m"),
    "too many epochs": lambda t, f: f["history"].append(f["history"][0] | {"epoch": 3}),
    "share above 1": lambda t, f: f["history"][0].update(train_macro_f1=1.5),
    "negative loss": lambda t, f: f["history"][0].update(loss=-1.0),
    "unknown figure": lambda t, f: f["history"][0].update(other=1.0),
    "true epoch": lambda t, f: f["history"][0].update(epoch=True),
    "patience as text": lambda t, f: f["settings"]["training"].update(patience="x"),
    "history as object": lambda t, f: f.update(history={"a": 1}),
}


def generator(tensors, **fields):
    state = np.frombuffer(tensors["random.order"].numpy().tobytes(), checkpoint.GENERATOR_STATE).copy()
    for name, value in fields.items():
        state[name] = value
    tensors["random.order"] = torch.frombuffer(bytearray(state.tobytes()), dtype=torch.uint8)


def forge(run, change):
    """Writes a checkpoint again with other contents and the right checksum."""
    facts, tensors = checkpoint.read(run)
    tensors = {key: values.clone() for key, values in tensors.items()}
    change(tensors, facts)
    text = json.dumps(facts)
    state = {"state": f"{checkpoint._digest(text, tensors)} {text}"}
    (run / checkpoint.CHECKPOINT).write_bytes(safetensors_torch.save(tensors, state))


@pytest.mark.parametrize("name", FORGERIES)
def test_forged_checkpoint_is_one_sentence(run, name):
    forge(run, FORGERIES[name])
    before = (run / "model.safetensors").read_bytes()
    with pytest.raises(RunError, match=r"checkpoint\.safetensors: got") as error:
        resume(run, own_windows(), progress=False)
    assert "\n" not in str(error.value)
    assert (run / "model.safetensors").read_bytes() == before


@pytest.fixture(scope="module")
def early_stop(tmp_path_factory):
    """A run that keeps its best epoch, which is the last; what a forgery of it would bring is seen by its sentence."""
    folder = tmp_path_factory.mktemp("early") / "run"
    settings = {"data__validation_groups": 1, "training__patience": 2, "training__learning_rate": 1e-4}
    train(api.config(**SMALL | settings), own_windows(), folder, progress=False)
    return folder


def last_is_best(facts):
    facts["history"][0].update(validation_macro_f1=0.0)
    facts["history"][1].update(validation_macro_f1=1.0, best_epoch=2)


@pytest.mark.parametrize(
    "change, text",
    [
        (lambda t, f: [t.pop(name) for name in list(t) if name.startswith("best.")], "no tensor"),
        (lambda t, f: f["history"][0].update(best_epoch=2), "another best epoch than 1 in epoch 1"),
        (lambda t, f: f["history"][0].update(validation_macro_f1=float("inf")), "no figures of epoch 1"),
        (lambda t, f: f["history"][0].pop("validation_loss"), "no figures of epoch 1"),
        (lambda t, f: (last_is_best(f), t["best.head.bias"].add_(1)), "of the best epoch, which is the last"),
    ],
)
def test_forged_early_stop_is_one_sentence(early_stop, tmp_path, change, text):
    run = shutil.copytree(early_stop, tmp_path / "run")
    forge(run, change)
    with pytest.raises(RunError, match=text):
        resume(run, own_windows(), progress=False)


def test_training_over_a_checkpoint_of_other_patience_is_no_traceback(run):
    text = (run / "config.toml").read_text()
    assert "patience = 0" in text
    (run / "config.toml").write_text(text.replace("patience = 0", "patience = 1"))
    forge(run, lambda t, f: f["history"].pop())
    with pytest.raises(RunError, match="after 1 of 2 epochs"):
        train(api.config(**SMALL), own_windows(), run, progress=False)


def test_history_is_not_written_through_a_link(tmp_path):
    (tmp_path / "metrics.jsonl").symlink_to(tmp_path / "victim")
    with pytest.raises(OSError):
        append_history({"epoch": 1}, tmp_path)
    assert not (tmp_path / "victim").exists()


def test_folder_with_the_name_of_a_torn_write_stays(run):
    (run / ".meta.json.4711").mkdir()
    resume(run, own_windows(), progress=False)
    assert (run / ".meta.json.4711").is_dir()


def test_batch_that_would_fill_the_memory_is_refused(tmp_path):
    config = api.config(**SMALL | {"training__batch_size": 65536, "model__stem": [{"channels": 8, "stride": 1}]})
    x = np.zeros((40, 1024, 2), np.int16)
    windows = api.windows(x, np.arange(40) % 2, group=np.arange(40) // 8)
    with pytest.raises(ConfigError, match="lower it, or raise a stride"):
        train(config, windows, tmp_path / "run", progress=False)
