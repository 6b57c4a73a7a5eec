"""Every example runs unmodified, on MicroPython and on this Python, and says what the reference says."""

import asyncio
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from attn8 import device, micropython
from attn8.pack import pack
from attn8.reference import Reference
from models import Shape, build_graph
from tools import ROOT, need

EXAMPLES = ROOT / "device" / "examples"
CAUSAL = Shape(n_steps=16, n_channels=6, n_outputs=4).causal(hop=4)
MODELS = {
    "causal": CAUSAL,
    "causal int8": replace(CAUSAL, int16=False, n_channels=2),
    "looks ahead": replace(CAUSAL, right=2, hop=0),
}
N_SAMPLES = 90
RATE_HZ = 100


@pytest.fixture(params=["micropython", "cpython"])
def run_example(request, tmp_path):
    """Returns a function that runs an example with a model and returns what it printed, as a list of lines."""

    def run(name, data):
        (tmp_path / "model.a8").write_bytes(data)
        shutil.copy(EXAMPLES / name, tmp_path)
        program, environment = sys.executable, dict(os.environ)
        if request.param == "micropython":
            shutil.copytree(micropython.device_folder(), tmp_path / "attn8")
            program, environment["MICROPYPATH"] = need("micropython"), ":.frozen"
        command = [program, name, str(N_SAMPLES)]
        options = {"cwd": tmp_path, "env": environment, "capture_output": True, "text": True, "timeout": 60}
        for _ in range(5):  # a busy computer loses samples, and then the outputs are others
            done = subprocess.run(command, check=False, **options)
            assert done.returncode == 0, done.stdout + done.stderr
            if f"{N_SAMPLES} samples" in done.stdout and " 0 lost" in done.stdout:
                break
        else:
            pytest.fail(f"samples were lost at {RATE_HZ} Hz: {done.stdout}")
        return done.stdout.splitlines()

    return run


def model_bytes(kind):
    graph = build_graph(MODELS[kind], seed=4)
    graph.sample_rate_hz = float(RATE_HZ)
    return pack(graph)


def example_module(name):
    spec = importlib.util.spec_from_file_location("example", EXAMPLES / name)
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    return example


def made_up_signal(name, model):
    """The first samples that an example makes up, (S, C)."""
    source = example_module(name).MadeUp(model)
    return np.array([list(source.read()) for _ in range(N_SAMPLES)])


def expected_lines(model, outputs):
    """What a program prints of outputs (N, n_outputs)."""
    decided = [model.decide(np.asarray(y, np.int8).tobytes()) for y in outputs]
    return [f"{label or '?'} {score}" for label, score in decided]


def predictions(lines):
    return [line for line in lines if re.fullmatch(r"(class \d+|\?) \d+", line)]


@pytest.mark.parametrize("kind", ["causal", "causal int8"])
def test_streaming_example_gives_the_outputs_of_the_reference(run_example, kind):
    data = model_bytes(kind)
    lines = run_example("streaming.py", data)
    model = device.load(data)
    x = made_up_signal("streaming.py", model).astype(Reference(data).dtype)
    outputs = Reference(data).run_recording(x)
    assert predictions(lines) == expected_lines(model, outputs)
    assert len(set(predictions(lines))) > 2
    detector = device.Detector(model, smooth=3, threshold=50)
    began = [detector.update(np.asarray(y, np.int8).tobytes()) for y in outputs]
    assert [line for line in lines if line.startswith("began")] == [f"began: {name}" for name in began if name]


@pytest.mark.parametrize("kind", MODELS)
def test_asyncio_example_classifies_while_another_task_runs(run_example, kind):
    data = model_bytes(kind)
    lines = run_example("stream_asyncio.py", data)
    model, reference = device.load(data), Reference(data)
    x = made_up_signal("stream_asyncio.py", model).astype(reference.dtype)
    if kind == "looks ahead":
        n = N_SAMPLES // model.n_steps
        outputs = reference.run(x[: n * model.n_steps].reshape(n, model.n_steps, -1))
    else:
        outputs = reference.run_recording(x)
    assert predictions(lines) == expected_lines(model, outputs)
    turns, ms = re.fullmatch(
        r"the other task ran (\d+) times; from one to the next at most (.*) ms", lines[-1]
    ).groups()
    assert int(turns) > 50  # 100 a second are planned
    assert float(ms) >= 9


def test_asyncio_example_lets_others_run_between_any_two_layers(capsys):
    example, model = example_module("stream_asyncio.py"), device.load(model_bytes("looks ahead"))
    turns = []

    async def other():
        while True:
            turns.append(model._next)  # the op that the model runs next
            await asyncio.sleep(0)

    async def main():
        windows, task = example.Windows(model), asyncio.create_task(other())
        for _ in range(model.n_steps):
            windows.push([1] * model.n_channels)
        await windows.task
        task.cancel()

    asyncio.run(main())
    assert set(range(1, len(model.ops()))) <= set(turns)
    assert predictions(capsys.readouterr().out.splitlines())
