"""The starter project: whole or not there, whatever it is called; its programs keep their rate and their units."""

import dataclasses
import importlib
import os
import sys
import types
from array import array
from pathlib import Path

import numpy as np
import pytest
from attn8.device import sampler

from attn8 import config, device, starter
from attn8.data.folder import BUNDLED
from attn8.data.npz import read_npz
from attn8.data.windows import window_starts

NAMES = [
    "gestures",
    "My Project 2",
    "Übung größer",
    "動作",
    "🤸" * 20,
    "a" * 200,
    'quote"back\\slash',
    "{name} {title}",
    "-dash",
    ".hidden",
    "trailing ",
]


def listing(folder):
    return sorted(str(path.relative_to(folder)) for path in Path(folder).rglob("*"))


def files(folder):
    return sorted(path.relative_to(folder).as_posix() for path in Path(folder).rglob("*") if path.is_file())


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    folder = tmp_path_factory.mktemp("starter") / "project"
    starter.new_project(folder)
    return folder


# ---- where it goes -------------------------------------------------------------------------------------------------


def test_new_project_lists_every_file_it_makes(tmp_path):
    found = starter.new_project(tmp_path / "p")
    assert found["folder"] == str(tmp_path / "p")
    assert found["files"] == files(tmp_path / "p")
    assert {"config.toml", "README.md", ".gitignore", "data/README.md", "main.py", "sensor.py"} < set(found["files"])
    assert listing(tmp_path)[0] == "p"


def test_new_project_can_be_read_by_others(tmp_path):
    (tmp_path / "plain").mkdir()
    starter.new_project(tmp_path / "p")
    assert (tmp_path / "p").stat().st_mode == (tmp_path / "plain").stat().st_mode


@pytest.mark.parametrize("name", NAMES)
def test_any_name_makes_a_config_that_loads(tmp_path, name):
    starter.new_project(tmp_path / name)
    settings = config.load_config(tmp_path / name / "config.toml")
    assert 0 < len(settings.model.name.encode()) <= 32
    assert name.strip().startswith(settings.model.name)
    title = (tmp_path / name / "README.md").read_text("utf-8").splitlines()[0]
    assert title.startswith("# ") and len(title) > 2


def test_empty_folder_and_relative_paths_are_taken(tmp_path, monkeypatch):
    for name in ("empty", "other", "last"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    assert starter.new_project(".")["files"] == files(tmp_path / "empty")
    assert config.load_config(tmp_path / "empty" / "config.toml").model.name == "empty"
    starter.new_project("../fresh")
    (tmp_path / "last" / "inner").mkdir()
    monkeypatch.chdir(tmp_path / "last" / "inner")
    with pytest.raises(starter.StarterError, match="holds 'inner'"):
        starter.new_project("..")
    (tmp_path / "link").symlink_to(tmp_path / "other")
    starter.new_project(tmp_path / "link")
    assert files(tmp_path / "other") == files(tmp_path / "fresh")


@pytest.mark.parametrize(
    "name",
    [
        "full",
        "file",
        "dangling",
        "no/such/parent",
        "file/inside",
        "",
        "  ",
        "a\0b",
        "tab\there",
        os.fsdecode(b"\xff"),
        "x" * 300,
    ],
)
def test_refused_folder_changes_nothing(tmp_path, monkeypatch, name):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    monkeypatch.chdir(tmp_path)
    before = listing(tmp_path)
    with pytest.raises(starter.StarterError) as error:
        starter.new_project(name)
    assert listing(tmp_path) == before
    assert "expected" in str(error.value) and "\n" not in str(error.value)
    if name in ("file", "dangling"):
        assert "a file of that name" in str(error.value)


@pytest.mark.parametrize("exists", [False, True])
@pytest.mark.parametrize("stop", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_failure_half_way_leaves_nothing_behind(tmp_path, monkeypatch, exists, stop):
    if exists:
        (tmp_path / "p").mkdir()
    before, written, write = listing(tmp_path), [], Path.write_bytes

    def fail(path, data):
        written.append(path)
        if len(written) == 7:
            raise stop
        return write(path, data)

    monkeypatch.setattr(Path, "write_bytes", fail)
    with pytest.raises(starter.StarterError if isinstance(stop, OSError) else KeyboardInterrupt):
        starter.new_project(tmp_path / "p")
    assert listing(tmp_path) == before


@pytest.mark.parametrize("exists", [False, True])
def test_failed_move_takes_everything_back(tmp_path, monkeypatch, exists):
    if exists:
        (tmp_path / "p").mkdir()
    before, moved, rename = listing(tmp_path), [], os.rename

    def fail(source, target):
        moved.append(target)
        if len(moved) == (3 if exists else 1):
            raise PermissionError(13, "Permission denied")
        return rename(source, target)

    monkeypatch.setattr(os, "rename", fail)
    with pytest.raises(starter.StarterError, match="Permission denied"):
        starter.new_project(tmp_path / "p")
    assert listing(tmp_path) == before


# ---- the config ----------------------------------------------------------------------------------------------------


def keys_of(text):
    return {line.split("=")[0].strip(" #") for line in text.splitlines() if "=" in line}


def test_every_setting_is_named_in_the_starter_or_the_shipped_config(project):
    text = (project / "config.toml").read_text("utf-8")
    named = keys_of(text) | keys_of(config.shipped_config_path().read_text("utf-8"))
    assert keys_of(config.to_toml(config.Config())) <= named
    for table, absent in ((config.DataConfig, {"name"}), (config.TrainingConfig, {"augmentation"})):
        assert {item.name for item in dataclasses.fields(table)} - absent <= keys_of(text)


def test_settings_that_are_commented_out_are_right_as_they_stand(project):
    text = (project / "config.toml").read_text("utf-8")
    settings = config.parse_config(text.replace("# init", "init").replace("# freeze", "freeze"))
    assert settings.training.freeze == "front_end"
    with pytest.raises(config.ConfigError, match="not both"):
        config.parse_config(text.replace("# function", "function"))


def test_starter_gap_is_that_of_the_board_program(project):
    (line,) = [line for line in (project / "main.py").read_text("utf-8").splitlines() if line.startswith("MAX_GAP")]
    settings = config.load_config(project / "config.toml")
    assert int(line.split("=")[1].split("#")[0]) == settings.data.max_gap


# ---- the sample ----------------------------------------------------------------------------------------------------


def test_sample_is_the_middle_of_bundled_recordings_to_the_last_count(project):
    keys = ("samples", "length", "label", "subject", "side", "labels", "counts_per_unit")
    arrays = read_npz(BUNDLED["shoulder_exercises"], keys)
    ends = np.cumsum(arrays["length"])
    for short, label in starter.EXERCISES.items():
        for person in starter.PEOPLE:
            lines = (project / "data" / label / f"p{person}_1.csv").read_text("utf-8").splitlines()
            assert lines[0] == "time [ms],ax [g],ay [g],az [g],wx [rad/s],wy [rad/s],wz [rad/s]"
            table = np.array([line.split(",") for line in lines[1:]], dtype=float)
            np.testing.assert_array_equal(table[:, 0], 20 * np.arange(len(table)))
            is_it = (arrays["subject"] == person) & (arrays["labels"][arrays["label"]] == short) & (arrays["side"] == 1)
            (number,) = np.flatnonzero(is_it)
            recording = arrays["samples"][ends[number] - arrays["length"][number] : ends[number]]
            first = (len(recording) - len(table)) // 2
            counts = np.rint(table[:, 1:] * arrays["counts_per_unit"])
            np.testing.assert_array_equal(counts, recording[first : first + len(table)])


def test_sample_is_small_and_carries_its_licence(project):
    assert sum(path.stat().st_size for path in (project / "data").rglob("*.csv")) < 600_000
    readme = (project / "data" / "README.md").read_text("utf-8")
    assert "BSD-3-Clause" in readme and "seglearn" in readme and f"{starter.SECONDS} seconds" in readme
    assert "Redistribution and use" in (project / "data" / "LICENSE.txt").read_text("utf-8")


# ---- the programs for the board, on this Python --------------------------------------------------------------------


@pytest.fixture
def programs(project, monkeypatch):
    """Imports a module of the project afresh; ``machine`` stands in for the hardware."""
    monkeypatch.syspath_prepend(str(project))
    for name in ("sensor", "main"):
        monkeypatch.delitem(sys.modules, name, raising=False)

    def load(name, machine=None):
        if machine:
            monkeypatch.setitem(sys.modules, "machine", machine)
        return importlib.import_module(name)

    yield load
    for name in ("sensor", "main"):
        sys.modules.pop(name, None)


class Chip:
    """An I2C bus with an MPU6050 on it, or with nothing."""

    def __init__(self, answers=True):
        self.registers, self.answers = {}, answers

    def writeto_mem(self, address, register, data):
        if not self.answers or address != 0x68:
            raise OSError(19, "ENODEV")
        self.registers[register] = data[0]

    def readfrom_mem_into(self, address, register, buffer):
        assert (address, register, len(buffer)) == (0x68, 0x3B, 14)
        buffer[:] = np.array([4096, -4096, 32767, 999, -32768, 1, -1], ">i2").tobytes()


def machine_with(chip):
    return types.SimpleNamespace(I2C=lambda *a, **k: chip, Pin=lambda number: number)


def test_mpu6050_gives_its_counts_without_the_temperature(programs):
    chip = Chip()
    sensor = programs("sensor", machine_with(chip))
    out = array("h", [0] * 6)
    sensor.read_sample(out)
    assert list(out) == [4096, -4096, 32767, -32768, 1, -1]
    assert chip.registers == {0x6B: 1, 0x1A: 3, 0x1B: 0x18, 0x1C: 0x10}


class CircuitPythonI2c:
    """The same chip behind the calls of CircuitPython."""

    def __init__(self):
        self.chip, self.refusals = Chip(), 2

    def try_lock(self):
        self.refusals -= 1
        return self.refusals < 0

    def writeto(self, address, data):
        assert self.refusals < 0
        self.chip.writeto_mem(address, data[0], data[1:])

    def writeto_then_readfrom(self, address, out, into):
        self.chip.readfrom_mem_into(address, out[0], into)


def test_mpu6050_is_read_on_circuitpython_too(programs, monkeypatch):
    bus = CircuitPythonI2c()
    monkeypatch.setitem(sys.modules, "board", types.SimpleNamespace(I2C=lambda: bus))
    sensor = programs("sensor")
    out = array("h", [0] * 6)
    sensor.read_sample(out)
    assert list(out) == [4096, -4096, 32767, -32768, 1, -1]
    assert bus.chip.registers == {0x6B: 1, 0x1A: 3, 0x1B: 0x18, 0x1C: 0x10}


def test_board_without_its_sensor_is_an_error_not_a_simulation(programs):
    with pytest.raises(OSError, match=r"no MPU6050 answers.*check the wires"):
        programs("sensor", machine_with(Chip(answers=False)))


class Time:
    """Time that passes only when somebody looks or sleeps."""

    def __init__(self, monkeypatch, look_us=50):
        self.now, self.look_us = 1000, look_us
        monkeypatch.setattr(sampler, "ticks_us", self.look)
        monkeypatch.setattr(sampler, "sleep_ms", lambda ms: self.spend(1000 * ms))

    def look(self):
        self.now += self.look_us
        return self.now

    def spend(self, us):
        self.now += us


def fake_model(**fields):
    sensor_like = {"channels": ["ax", "ay", "az", "wx", "wy", "wz"], "units": ["g"] * 3 + ["rad/s"] * 3}
    shape = {"n_steps": 8, "n_channels": 6, "hop": 3, "counts_per_unit": (8192.0, 4096.0, 2048.0, 16384.0, 1e9, 0.0)}
    return types.SimpleNamespace(**(sensor_like | shape | fields))


def test_samples_reach_the_scale_of_the_model(programs):
    main, sensor = programs("main"), programs("sensor")
    model = fake_model()
    scale = main.Scale(model)
    factors = [c / s if c else 1 for c, s in zip(model.counts_per_unit, sensor.COUNTS_PER_UNIT, strict=True)]
    for raw in (-32768, -12345, -1, 0, 1, 777, 32767):
        scale.put([raw] * 6)
        expected = np.clip(np.array(factors) * raw, -32768, 32767)
        assert (np.abs(np.array(scale.counts) - expected) <= 0.51 + np.abs(expected) * 2**-14).all()
        assert all(abs(raw * number + half) < 2**30 for number, half, _ in scale.numbers[:4])


class Seen:
    """A model that keeps the first channel of every window it is given."""

    def __init__(self, **fields):
        self.__dict__ |= vars(fake_model(**fields))
        self.output, self.labels, self.sample_rate_hz = array("b", [0, 0]), ("rest", "wave"), 50.0
        self._softmax, self.windows = (257, 16384, 0, 14), []

    def run(self, window):
        self.windows.append(list(window[::6]))
        return self.output

    def decide(self, outputs):
        return "wave", outputs[1]

    def stream(self):
        raise device.ModelError(37)


@pytest.mark.parametrize(("n_steps", "hop"), [(8, 3), (8, 8), (8, 11), (5, 1)])
def test_board_cuts_the_windows_that_training_cuts(programs, n_steps, hop):
    model = Seen(n_steps=n_steps, hop=hop)
    windows = programs("main").Windows(model)
    due = [windows.push(array("h", [i] * 6)) for i in range(60)]
    starts, _ = window_starts(np.array([60]), n_steps, hop)
    assert model.windows == [list(range(start, start + n_steps)) for start in starts]
    assert np.flatnonzero(due).tolist() == [start + n_steps - 1 for start in starts]


def watch_with_gaps(main, model, gaps):
    """A Watch whose sampler loses samples, and whose sensor counts 1, 2, 3, ..."""
    watch, sample = main.Watch(model), iter(range(1, 100))
    main.read_sample = lambda out: out.__setitem__(0, next(sample))
    watch.sampler = types.SimpleNamespace(wait=lambda: gaps.pop(0))
    return watch


def test_a_window_on_the_board_never_holds_a_hole(programs):
    model = Seen(n_steps=6, hop=2, counts_per_unit=(0.0,) * 6)
    gaps = [0, 0, 0, 2, 0, 0, 7, 0, 0, 0, 0, 0]
    watch = watch_with_gaps(programs("main"), model, gaps)
    due = [watch.sample() for _ in range(len(gaps))]
    assert model.windows == [[1, 2, 3, 3, 3, 4], [3, 3, 3, 4, 5, 6], [7, 8, 9, 10, 11, 12]]
    assert np.flatnonzero(due).tolist() == [3, 5, 11]


class CountedStream:
    def __init__(self):
        self.pushed, self.output = [], array("b", [0, 0])

    def push(self, counts):
        self.pushed.append(counts[0])
        return len(self.pushed) % 4 == 0

    def reset(self):
        self.pushed.append("reset")


def test_a_causal_model_streams_and_a_long_gap_begins_anew(programs):
    model, stream = Seen(counts_per_unit=(0.0,) * 6), CountedStream()
    model.stream = lambda: stream
    gaps = [0, 0, 2, 7]
    watch = watch_with_gaps(programs("main"), model, gaps)
    watch.detector.score = 50
    assert [watch.sample() for _ in range(3)] == [False, False, True]
    assert watch.detector.score == 50
    watch.sample()
    assert stream.pushed == [1, 2, 2, 2, 3, "reset", 4]
    assert watch.detector.score == 0


def test_a_movement_is_told_once_when_it_begins(programs, monkeypatch, capsys):
    main, model = programs("main"), Seen(n_steps=4, hop=1)
    monkeypatch.setattr(main.attn8, "load", lambda path: model)
    outputs = iter([(0, -90)] * 3 + [(-90, 0)] * 6)
    model.run = lambda window: model.output.__setitem__(slice(None), array("b", next(outputs)))
    Time(monkeypatch)
    main.IGNORE = ("rest", "nothing")
    main.main(9)
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if "began" in line] == ["began: wave"]
    assert lines.index("began: wave") == 1 + 6  # the third of four windows makes 75 percent
    assert lines[-1] == "0 samples late, 0 lost"


def test_model_of_other_channels_is_refused(programs, monkeypatch):
    main = programs("main")
    main.check(fake_model())
    other = fake_model(channels=["ax", "ay", "az", "wx", "wy", "temperature"], units=["g"] * 3 + ["rad/s"] * 2 + [""])
    monkeypatch.setattr(main, "attn8", types.SimpleNamespace(load=lambda path: other))
    with pytest.raises(ValueError, match=r"CHANNELS: got .* expected those of the model: .*'temperature'"):
        main.main(1)
