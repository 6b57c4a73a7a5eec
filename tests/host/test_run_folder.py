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
from attn8.errors import Attn8Error, ConfigError, RunError  # noqa: E402
from attn8.model_file import read_model  # noqa: E402
from attn8.run_folder import load_meta, load_run  # noqa: E402
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
    ],
)
def test_weights_that_no_training_leaves_are_one_sentence(run, change, text):
    rewritten(run, "model.safetensors", change)
    with pytest.raises(RunError, match=text):
        load_run(run)


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
}


@pytest.mark.parametrize("name", FORGERIES)
def test_forged_checkpoint_is_one_sentence(run, name):
    facts, tensors = checkpoint.read(run)
    tensors = {key: values.clone() for key, values in tensors.items()}
    FORGERIES[name](tensors, facts)
    text = json.dumps(facts)
    state = {"state": f"{checkpoint._digest(text, tensors)} {text}"}
    (run / checkpoint.CHECKPOINT).write_bytes(safetensors_torch.save(tensors, state))
    before = (run / "model.safetensors").read_bytes()
    with pytest.raises(RunError, match=r"checkpoint\.safetensors: got") as error:
        resume(run, own_windows(), progress=False)
    assert "\n" not in str(error.value)
    assert (run / "model.safetensors").read_bytes() == before


def test_batch_that_would_fill_the_memory_is_refused(tmp_path):
    config = api.config(**SMALL | {"training__batch_size": 65536, "model__stem": [{"channels": 8, "stride": 1}]})
    x = np.zeros((40, 1024, 2), np.int16)
    windows = api.windows(x, np.arange(40) % 2, group=np.arange(40) // 8)
    with pytest.raises(ConfigError, match="lower it, or raise a stride"):
        train(config, windows, tmp_path / "run", progress=False)
