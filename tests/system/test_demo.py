"""The README's first command, and the verbs behind it on a user's own file: the whole way, as a user goes it."""

import json
import subprocess
import sys

import numpy as np
import pytest

import readme
from attn8 import reference

METRICS = [
    "dataset",
    "n_train",
    "n_test",
    "test_groups",
    "float_accuracy",
    "float_macro_f1",
    "int8_accuracy",
    "int8_macro_f1",
    "agreement_fakequant_int8",
    "parameters",
    "macs",
    "model_bytes",
    "arena_bytes",
    "backends",
    "rp2040",
    "skipped",
]


def attn8(*arguments, cwd, code=0):
    done = subprocess.run(
        [sys.executable, "-m", "attn8.cli", *map(str, arguments)], capture_output=True, text=True, timeout=900, cwd=cwd
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout, done.stderr


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo")
    out, err = attn8("demo", "--out", "attn8_demo", cwd=folder)
    return folder / "attn8_demo", out, err


@pytest.fixture(scope="module")
def metrics(demo):
    return json.loads((demo[0] / "metrics.json").read_text())


def test_demo_leaves_every_promised_key(metrics):
    assert [key for key in METRICS if key not in metrics] == []


def test_demo_ran_everywhere_with_the_same_bytes(metrics, needs_everything):
    del needs_everything
    found = metrics["backends"]
    assert metrics["skipped"] == {}
    assert {b["sha256"] for b in found.values()} == {found["reference"]["sha256"]}
    assert found["c"]["sha256_all"] == found["reference"]["sha256_all"]
    assert found["c"]["n_windows_all"] == metrics["n_test"]
    assert all(b["n_windows"] == 64 for b in found.values())


@pytest.fixture
def needs_everything():
    from tools import need

    need("cc", "arm-none-eabi-gcc", "micropython")


def test_demo_model_is_as_good_as_the_readme_says(metrics):
    assert metrics["float_accuracy"] >= 0.86
    assert metrics["int8_accuracy"] >= metrics["float_accuracy"] - 0.01
    assert metrics["agreement_fakequant_int8"] == 1.0
    assert metrics["identical_logits_fakequant_int8"] == 1.0


def test_demo_model_fits_the_time_budget_of_an_rp2040(metrics, needs_everything):
    del needs_everything
    assert metrics["rp2040"]["cycles"] <= min(35 * 125_000, 4 * metrics["macs"])
    assert metrics["rp2040"]["arena_bytes"] <= 8192
    assert metrics["rp2040"]["ms_at_125mhz"] == pytest.approx(metrics["rp2040"]["cycles"] / 125_000)


def test_demo_hash_is_that_of_the_packed_file_on_its_own(demo, metrics):
    from attn8.backends import sha256
    from attn8.config import shipped_config
    from attn8.data import load_windows, split_windows

    settings = shipped_config()
    windows = load_windows(settings.data)
    x = windows.x[split_windows(windows, settings.data).test]
    engine = reference.Reference((demo[0] / "model.a8").read_bytes())
    assert sha256(engine.run(x)) == metrics["backends"]["reference"]["sha256_all"]


def test_demo_ends_as_the_readme_shows(demo, needs_everything):
    del needs_everything
    assert readme.masked(demo[1]) == readme.masked(readme.block("output", "demo"))


def test_demo_table_names_what_a_newcomer_asks(demo):
    _, out, err = demo
    for word in ("float model", "int8 model", "same bytes", "RP2040", "report.html", "attn8 info"):
        assert word in out
    assert "7/7 report" in err


def test_every_class_has_a_golden_vector(demo):
    model = reference.parse((demo[0] / "model.a8").read_bytes())
    assert set(model.golden_outputs.argmax(1)) == set(range(7))


@pytest.fixture(scope="module")
def own_data(tmp_path_factory):
    """Two classes that differ in frequency, float, from six sources."""
    folder = tmp_path_factory.mktemp("own")
    rng = np.random.default_rng(0)
    y = np.tile([0, 1], 90)
    t = np.arange(64)[None, :, None]
    x = np.sin((0.2 + 0.4 * y)[:, None, None] * t + rng.uniform(0, 6, (180, 1, 2))) + 0.3 * rng.normal(
        size=(180, 64, 2)
    )
    np.savez(folder / "own.npz", x=x, y=y, group=np.arange(180) // 30, labels=np.array(["slow", "fast"]))
    return folder


def test_own_npz_goes_from_train_to_run(own_data):
    small = ["--set", "training.epochs=4", "--set", "model.layers=1"]
    found = json.loads(attn8("train", "--data", "own.npz", "--out", "run", *small, "--json", cwd=own_data)[0])
    assert found["float_accuracy"] > 0.9
    assert json.loads((own_data / "run" / "metrics.json").read_text())["int8_accuracy"] > 0.9
    again = json.loads(attn8("quantize", "run", "--mode", "train", "--json", cwd=own_data)[0])
    assert again["quantization"] == "train"
    assert again["agreement_fakequant_int8"] == 1.0
    attn8("pack", "run", "-o", "own.a8", cwd=own_data)
    assert json.loads(attn8("info", "own.a8", "--json", cwd=own_data)[0])["input_shape"] == [64, 2]
    run = json.loads(attn8("run", "own.a8", "own.npz", "--json", cwd=own_data)[0])
    assert run["n_windows"] == 180
    evaluated = json.loads(attn8("evaluate", "run", "--json", cwd=own_data)[0])
    assert evaluated["int8_accuracy"] == again["int8_accuracy"]
    whole = json.loads(attn8("evaluate", "own.a8", "--data", "own.npz", "--json", cwd=own_data)[0])
    assert whole["n_test"] == 180


def test_folds_report_mean_and_deviation(own_data):
    small = ["--set", "training.epochs=2", "--set", "model.layers=1", "--set", "data.folds=3"]
    found = json.loads(attn8("evaluate", "--folds", "3", "--data", "own.npz", *small, "--json", cwd=own_data)[0])
    assert len(found["folds"]) == 3
    accuracies = [fold["int8_accuracy"] for fold in found["folds"]]
    assert found["int8_accuracy_mean"] == pytest.approx(np.mean(accuracies))
    assert found["int8_accuracy_std"] == pytest.approx(np.std(accuracies))
    for key in ("float_accuracy", "float_macro_f1", "int8_macro_f1"):
        assert 0 <= found[f"{key}_mean"] <= 1
