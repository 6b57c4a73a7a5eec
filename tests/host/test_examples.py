"""Every example runs unmodified, on MicroPython and on this Python, and says what the reference says."""

import asyncio
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import time
from array import array
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

import attn8
from attn8 import device, micropython
from attn8.micropython_wasm import WASM
from attn8.pack import pack
from attn8.reference import Reference
from models import Shape, build_graph
from tools import ROOT, need, need_wasm

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
        for attempt in range(8):  # a busy computer loses samples, and then the outputs are others
            time.sleep(2 * attempt)
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


GAPS = {5: 1, 20: 3, 40: 2, 60: 4}  # samples lost before a sample; the last is too many


class Lossy:
    """A sampler of numbered samples that lost those of GAPS."""

    def __init__(self, n_channels):
        self.sample = np.arange(n_channels) * 100
        self.n = self.gap = self.late = self.lost = 0

    def __iter__(self):
        return self

    def __aiter__(self):
        return self

    def __next__(self):
        self.gap, self.n = GAPS.get(self.n, 0), self.n + 1
        return array("h", (self.sample * self.n % 4001).tolist())

    async def __anext__(self):
        for _ in range(5):  # time for the layers of a window
            await asyncio.sleep(0)
        return next(self)


def with_gaps_filled(n_channels):
    """Returns the recordings that a program should see of N_SAMPLES lossy samples."""
    sampler, recordings = Lossy(n_channels), [[]]
    for _ in range(N_SAMPLES):
        sample = list(next(sampler))
        if sampler.gap > 3:
            recordings.append([])
        recordings[-1] += [sample] * (1 if sampler.gap > 3 else 1 + sampler.gap)
    return [np.array(x, np.int16) for x in recordings]


def outputs_with_gaps(data):
    """Returns the outputs of the reference over these recordings at each hop."""
    return [y for x in with_gaps_filled(6) for y in Reference(data).run_recording(x)]


@pytest.fixture
def lossy_folder(tmp_path, monkeypatch):
    """A folder with a model whose samplers lose samples; returns a function that packs the model."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(attn8, "Sampler", lambda read, rate_hz: Lossy(6))

    def write(data):
        (tmp_path / "model.a8").write_bytes(data)
        return data

    return write


def test_streaming_example_fills_short_gaps_and_begins_anew_after_long_ones(lossy_folder, capsys):
    data = lossy_folder(model_bytes("causal"))
    example_module("streaming.py").main(N_SAMPLES)
    shown = predictions(capsys.readouterr().out.splitlines())
    assert shown == expected_lines(device.load(data), outputs_with_gaps(data))


@pytest.mark.parametrize("kind", ["causal", "looks ahead"])
def test_asyncio_example_fills_short_gaps_and_begins_anew_after_long_ones(lossy_folder, capsys, kind):
    data = lossy_folder(model_bytes(kind))
    model, example = device.load(data), example_module("stream_asyncio.py")
    asyncio.run(example.classify(model, Lossy(6), N_SAMPLES))
    if kind == "looks ahead":
        windows = [x[: len(x) // 16 * 16].reshape(-1, 16, 6) for x in with_gaps_filled(6)]
        outputs = Reference(data).run(np.concatenate(windows))
    else:
        outputs = outputs_with_gaps(data)
    shown = predictions(capsys.readouterr().out.splitlines())
    assert shown == expected_lines(model, outputs)


IMU_CHANNELS, IMU_UNITS = ["ax", "ay", "az", "wx", "wy", "wz"], ["g"] * 3 + ["rad/s"] * 3


def imu_model(**fields):
    """A model of six channels that was trained on other counts than the sensor gives."""
    graph = build_graph(CAUSAL, seed=4)
    graph.channels, graph.units = IMU_CHANNELS, IMU_UNITS
    graph.counts_per_unit = np.array([16384.0, 1000.0, 8192.0, 1876.0, 100.0, 939.65])
    for name, value in fields.items():
        setattr(graph, name, value)
    return device.load(pack(graph))


class FakeI2C:
    """The registers of an MPU6050 in which lie the given words."""

    words = (0,) * 7

    def __init__(self, *_, **__):
        pass

    def writeto_mem(self, address, register, data):
        pass

    def readfrom_mem_into(self, address, register, out):
        out[:] = np.array(self.words, ">i2").tobytes()


@pytest.fixture
def imu(monkeypatch):
    """Returns a function: (model, words of the sensor) -> what the example's sensor reads."""
    monkeypatch.setitem(sys.modules, "machine", SimpleNamespace(I2C=FakeI2C, Pin=int))

    def read(model, words):
        monkeypatch.setattr(FakeI2C, "words", words)
        return list(example_module("streaming.py").open_sensor(model).read())

    return read


def test_streaming_example_turns_the_counts_of_its_sensor_into_those_of_the_model(imu):
    model = imu_model()
    for words in [(4096, 4096, -4096, 77, 940, -940, 940), (30000, -30000, 123, 0, -32768, 32767, -1)]:
        got = imu(model, words)
        wanted = model.stream(units=True)  # the same in units
        values = np.delete(words, 3) / [4096, 4096, 4096, 939.65, 939.65, 939.65]
        wanted.push(values.tolist())
        np.testing.assert_allclose(got, list(wanted._sample), atol=3)
    assert imu(model, (32767,) * 7)[0] == 32767  # saturates
    assert imu(model, (-32768,) * 7)[0] == -32768


def test_streaming_example_gives_raw_counts_to_a_model_without_a_scale(imu):
    words = (1, -2, 32767, 9, -32768, 5, 6)
    assert imu(imu_model(counts_per_unit=np.zeros(6)), words) == [1, -2, 32767, -32768, 5, 6]


@pytest.mark.parametrize("fields", [{"units": ["m/s2"] * 3 + IMU_UNITS[3:]}, {"channels": IMU_CHANNELS[::-1]}])
def test_streaming_example_refuses_a_model_of_another_sensor(imu, fields):
    with pytest.raises(ValueError, match=r"got \['ax \[g\]', .* expected those of the model: \['"):
        imu(imu_model(**fields), (0,) * 7)


SCALE_WITHOUT_HEAP = """
import attn8, micropython, streaming
model = attn8.load("model.a8")
scale = streaming.Scale(model, CHANNELS, (4096, 4096, 4096, 939.65, 939.65, 939.65))
def put():
    micropython.heap_lock()
    try:
        for value in (-32768, -1, 0, 77, 32767):
            for i in range(6):
                scale.put(i, value)
    finally:
        micropython.heap_unlock()
put()
print(list(scale.sample))
"""


@pytest.mark.parametrize("interpreter", [micropython.UNIX, WASM], ids=lambda interpreter: interpreter.name)
def test_scaling_a_sample_allocates_nothing_and_gives_the_same_everywhere(interpreter):
    if interpreter is WASM:
        need_wasm()
    else:
        need("micropython")
    model = imu_model(counts_per_unit=np.array([8191.9, 1000.0, 8192.0, 1e-3, 100.0, 1e5]))
    example = example_module("streaming.py")
    scale = example.Scale(model, example.Mpu6050.CHANNELS, example.Mpu6050.COUNTS_PER_UNIT)
    for i in range(6):
        scale.put(i, 32767)
    with micropython.workspace() as folder:
        (folder / "model.a8").write_bytes(model._data)
        shutil.copy(EXAMPLES / "streaming.py", folder)
        script = SCALE_WITHOUT_HEAP.replace("CHANNELS", repr(example.Mpu6050.CHANNELS))
        (folder / "scale.py").write_text(script, encoding="utf-8")
        assert interpreter.run_script(folder, "scale.py").split("\n")[0] == str(list(scale.sample))
