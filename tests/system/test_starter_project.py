"""A starter project as a newcomer uses it: made, looked at, trained, packed, and run on MicroPython."""

import json
import os
import shlex
import shutil
import subprocess
import sys
from array import array

import numpy as np
import pytest

import attn8 as device
from attn8 import reference
from attn8.micropython import HEAP_BYTES
from tools import need


def attn8(*arguments, cwd, code=0):
    """Runs the program; returns (stdout, stderr)."""
    command = [sys.executable, "-m", "attn8.cli", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=cwd)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout, done.stderr


def micropython(project, *arguments, modules="lib"):
    """Runs a program of the project as its README says; returns stdout."""
    command = [need("micropython"), "-X", f"heapsize={HEAP_BYTES}", *map(str, arguments)]
    environment = os.environ | {"MICROPYPATH": modules}
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=project, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    folder = tmp_path_factory.mktemp("starter")
    out, _ = attn8("new", "my gestures", cwd=folder)
    assert "config.toml" in out
    return folder / "my gestures"


@pytest.fixture(scope="module")
def trained(project):
    """Metrics after the commands of the project's README that need no board, as they stand there."""
    block = (project / "README.md").read_text("utf-8").split("```sh\n")[1].split("```")[0]
    commands = [shlex.split(line, comments=True) for line in block.splitlines() if line.startswith("attn8 ")]
    assert [command[1] for command in commands] == ["capture", "data", "train", "pack"]
    for command in commands[1:]:  # the first needs a board: tests/system/test_capture.py
        attn8(*command[1:], cwd=project)
    attn8("check", "model.a8", cwd=project)
    assert (project / "preview.html").stat().st_size > 50_000
    return json.loads((project / "runs" / "first" / "metrics.json").read_text())


def test_starter_data_has_nothing_to_complain_about(project):
    found = json.loads(attn8("data", "preview", "--config", "config.toml", "--json", cwd=project)[0])
    assert found["faults"] == []
    assert (found["n_recordings"], found["n_groups"], found["gaps"], found["filled_samples"]) == (15, 5, 0, 0)
    assert [entry["label"] for entry in found["classes"]] == ["abduction", "pendulum", "row"]
    assert found["sample_rate_hz"] == 50
    assert len(found["split"]["test"]["groups"]) == 1


def test_starter_learns_to_name_the_exercises_of_an_unseen_person(trained):
    assert len(trained["test_groups"]) == 1
    assert trained["n_test"] >= 50
    assert trained["float_accuracy"] > 0.8  # chance is 0.33
    assert trained["int8_accuracy"] > 0.8


def test_main_reads_the_sensor_at_its_rate_and_names_a_class(project, trained):
    del trained
    first, *rest = micropython(project, "main.py", 1).splitlines()
    assert first.startswith("Model 'my gestures'")
    label, score = rest[0].split()
    assert label in ("abduction", "pendulum", "row")
    assert 0 <= int(score) <= 100
    assert rest[-1].endswith("lost")


LOCKED = """
import micropython, sensor
from array import array

class Bus:
    def write(self, address, register, value):
        pass
    def read(self, address, register, buffer):
        buffer[0], buffer[1], buffer[13] = 0x10, 0x80, 0xFF

sensor._source = sensor.Mpu6050(Bus())
import attn8, main
model = attn8.load("model.a8")
watch = main.Watch(model)
watch.sampler = attn8.Sampler(None, 200)

def sample(n):
    for _ in range(n):
        if watch.sample():
            watch.detector.update(watch.stream.output)

sample(model.n_steps + 2)
micropython.heap_lock()
try:
    sample(2 * model.hop)
finally:
    micropython.heap_unlock()
print("locked", watch.stream.__class__.__name__, watch.scale.counts[0] == model.counts_per_unit[0] * 4224 // 4096)
"""


def test_sampling_and_running_allocate_nothing(project, trained):
    del trained
    (project / "locked.py").write_text(LOCKED)
    assert micropython(project, "locked.py").split() == ["locked", "Windows", "True"]


UNHURRIED = """
import attn8
class Sampler:
    late = lost = 0
    def __init__(self, read, rate_hz):
        pass
    def wait(self):
        return 0
attn8.Sampler = Sampler
import main
main.main(5)
"""


def test_main_predicts_what_the_host_says_of_the_same_samples(project, trained):
    del trained
    (project / "unhurried.py").write_text(UNHURRIED)
    lines = micropython(project, "unhurried.py").splitlines()
    found = [tuple(line.split()) for line in lines if line.split()[0] in ("abduction", "pendulum", "row")]
    model = reference.parse((project / "model.a8").read_bytes())
    windows = _host_windows(project, model.graph, 5)
    on_device = device.load(str(project / "model.a8"))
    expected = [on_device.predict(array("h", window.ravel().tolist())) for window in windows]
    assert found == [(label, str(score)) for label, score in expected]
    labels = reference.Reference(model.data).run(windows).argmax(1)
    assert [label for label, _ in found] == [model.graph.labels[i] for i in labels]


def test_causal_model_streams_what_the_host_says_of_the_whole_recording(project, trained, tmp_path):
    del trained
    copy = shutil.copytree(project, tmp_path / "copy", ignore=shutil.ignore_patterns("runs"))
    settings = ("--set", "model.causal=true", "--set", "training.epochs=2", "--set", "quantization.qat_epochs=1")
    attn8("train", "config.toml", "--out", "runs/causal", *settings, cwd=copy)
    attn8("pack", "runs/causal", "-o", "model.a8", cwd=copy)
    (copy / "locked.py").write_text(LOCKED)
    assert micropython(copy, "locked.py").split() == ["locked", "Stream", "True"]
    (copy / "unhurried.py").write_text(UNHURRIED)
    lines = micropython(copy, "unhurried.py").splitlines()
    found = [tuple(line.split()) for line in lines if line.split()[0] in ("abduction", "pendulum", "row")]
    model = reference.parse((copy / "model.a8").read_bytes())
    outputs = reference.Reference(model.data).run_recording(_host_recording(copy, model.graph, 5))
    decide = device.load(str(copy / "model.a8")).decide
    assert found == [(label, str(score)) for label, score in (decide(y.tobytes()) for y in outputs)]
    assert len(found) == 5


def _host_windows(project, graph, n):
    """The first n windows of the made-up movement."""
    samples = _host_recording(project, graph, n)
    return np.stack([samples[i * graph.hop : i * graph.hop + graph.n_steps] for i in range(n)])


def _host_recording(project, graph, n):
    """The made-up movement up to the end of its n-th window, scaled on the host."""
    code = (
        "import json, sensor; from array import array\n"
        f"out, rows = array('h', [0] * 6), []\nfor _ in range({graph.n_steps + (n - 1) * graph.hop}):\n"
        "    sensor.read_sample(out); rows.append(list(out))\n"
        "print(json.dumps([rows, sensor.COUNTS_PER_UNIT]))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=project, capture_output=True, text=True, check=True)
    samples, counts = json.loads(done.stdout)
    return np.floor(np.array(samples) * _board_factors(graph.counts_per_unit, counts) + 0.5).astype(np.int16)


def _board_factors(model_counts, sensor_counts):
    """Factors to the precision that the board keeps: 14 bits."""
    factors = np.asarray(model_counts, float) / sensor_counts
    shifts = np.maximum(0, np.ceil(np.log2(8192 / factors)))
    return np.floor(factors * 2**shifts + 0.5) / 2**shifts
