"""The examples that want a sensor run unmodified, in virtual time, and say what the reference says of the same samples.

By hand also on a CircuitPython: ATTN8_CIRCUITPYTHON=path/to/micropython pytest tests/host/test_device_examples.py
"""

import ast
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import wave

import numpy as np
import pytest
from attn8.device import slots

import fake_sleep
from attn8 import cli, device, micropython
from attn8.config import apply_overrides, shipped_config
from attn8.pack import pack
from attn8.reference import Reference
from micropython_builds import rom_image
from models import Shape, build_graph
from own_recordings import write_folder
from readme import README
from tools import ROOT, need, run

EXAMPLES = ROOT / "device" / "examples"
CHANNELS = ["ax", "ay", "az", "wx", "wy", "wz"]
COUNTS_PER_UNIT = np.array([4096.0] * 3 + [939.65] * 3)
SHAPE = Shape(n_steps=64, n_channels=6, kernel=8, stride=8, n_outputs=4).causal(hop=16)


def graph_of(shape, seed, labels, channels, units, counts_per_unit, rate_hz):
    graph = build_graph(shape, seed)
    graph.labels, graph.channels, graph.units = labels, channels, units
    graph.counts_per_unit, graph.sample_rate_hz = np.asarray(counts_per_unit, float), float(rate_hz)
    return graph


def imu_graph(seed=4, factor=1, **fields):
    """Returns a model of the IMU's channels; factor: of its counts on those of the sensor."""
    labels = ["nothing", "circle", "shake", "tap"]
    units = ["g"] * 3 + ["rad/s"] * 3
    graph = graph_of(SHAPE, seed, labels, CHANNELS, units, factor * COUNTS_PER_UNIT, 50)
    for name, value in fields.items():
        setattr(graph, name, value)
    return graph


def imu_model(*arguments, **fields):
    return pack(imu_graph(*arguments, **fields))


def in_slot(data, sequence=1, state=slots.GOOD):
    """Returns the bytes of a slot file that holds a model in a state."""
    return data + slots.record(data[:24], sequence, state)


@pytest.fixture
def board(tmp_path):
    """Returns a function that runs an example in virtual time: (name, {file: bytes}, **options) -> (lines, log)."""

    def run(name, files, program=None, **options):
        shutil.copytree(micropython.device_folder(), tmp_path / "attn8", dirs_exist_ok=True)
        for file in (EXAMPLES / name, ROOT / "tests" / "fake_machine.py", ROOT / "tests" / "fake_sleep.py"):
            shutil.copy(file, tmp_path)
        for file, data in files.items():
            (tmp_path / file).write_bytes(data)
        program = program or [need("micropython"), "-X", "heapsize=4m"]
        command = [*program, "fake_sleep.py", name, json.dumps(options)]
        environment = {**os.environ, "MICROPYPATH": ":.frozen"}
        ran = {"cwd": tmp_path, "env": environment, "capture_output": True, "text": True, "timeout": 120}
        done = subprocess.run(command, check=False, **ran)
        assert done.returncode == 0, done.stdout + done.stderr
        *lines, log = done.stdout.splitlines()
        return lines, json.loads(log)

    return run


def predicted(data, segments, hop=None):
    """Returns [[(label, score), ..] of each recording] as the reference and the host decide."""
    model, reference = device.load(data), Reference(data)
    found = [reference.run_recording(np.asarray(x, np.int16).reshape(-1, model.n_channels)) for x in segments]
    return [[model.decide(y.tobytes()) for y in outputs] for outputs in found]


# ---- gesture.py and its like on CircuitPython ----------------------------------------------------------------------

GESTURES = ["gesture.py", "attn8_circuitpython_gesture.py"]


def gesture_files(data):
    """The model as a board with slots and one with a drive have it."""
    return {"gesture.a8": data, "gesture.1.a8": in_slot(data)}


def gestures(data, segments, ignore=("nothing",)):
    """Returns the lines that the reference and a Detector make of recordings, and how many outputs there were."""
    model, reference = device.load(data), Reference(data)
    detector = device.Detector(model, 3, 60, refractory=2, ignore=ignore)
    lines = []
    for x in segments:
        detector.reset()
        for y in reference.run_recording(np.asarray(x, np.int16)):
            began = detector.update(y.tobytes())
            lines.append(f"{began}, score {detector.score}" if began else None)
    return lines


def programs(name):
    """Returns the options that run an example: on MicroPython, or with CircuitPython's modules on this Python."""
    if "circuitpython" not in name:
        return {}
    program = os.environ.get("ATTN8_CIRCUITPYTHON")
    return {"program": [program, "-X", "heapsize=4m"] if program else [sys.executable], "circuit": True}


def imu_samples(numbers, factor=1):
    return [[max(-32768, min(32767, int(factor * v))) for v in fake_sleep.imu(20 * n)] for n in numbers]


@pytest.mark.parametrize("name", GESTURES)
@pytest.mark.parametrize("factor", [1, 2])
def test_gesture_example_gives_the_events_of_the_reference(board, name, factor):
    data = imu_model(factor=factor)
    lines, _ = board(name, gesture_files(data), stop_s=60, **programs(name))
    expected = gestures(data, [imu_samples(range(3000), factor)])
    n_outputs = int(re.fullmatch(r"(\d+) outputs; 0 samples late, 0 lost", lines[-1])[1])
    assert n_outputs in (len(expected), len(expected) - 1)
    events = [line for line in expected[:n_outputs] if line]
    assert lines[1:-1] == events
    assert len(set(events)) > 3


@pytest.mark.parametrize("name", GESTURES)
def test_gesture_example_fills_short_gaps_and_begins_anew_after_long_ones(board, name):
    data = imu_model()
    options = {"stall_at": [100, 200, 300], **programs(name)}
    short, _ = board(name, gesture_files(data), stop_s=40, stall_ms=65, **options)
    x = range(2000)
    # A read of 65 ms gives what is there at its end, as does the next one, which stands in for two that were lost.
    numbers = [*x[:100], *[103] * 4, *x[104:202], *[205] * 4, *x[206:304], *[307] * 4, *x[308:]]
    assert short[-1].endswith("0 samples late, 6 lost")
    assert_events(short, gestures(data, [imu_samples(numbers)]))
    long, _ = board(name, gesture_files(data), stop_s=40, stall_ms=165, **options)
    assert long[-1].endswith("0 samples late, 21 lost")
    segments = [[*x[:100], 108], [*x[108:207], 215], [*x[215:314], 322], x[322:]]
    assert_events(long, gestures(data, [imu_samples(numbers) for numbers in segments]))


def assert_events(lines, expected):
    n_outputs = int(lines[-1].split()[0])
    assert len(expected) - 2 <= n_outputs <= len(expected)
    assert [line for line in lines if ", score" in line] == [line for line in expected[:n_outputs] if line]


@pytest.mark.parametrize("name", GESTURES)
def test_gesture_example_names_what_is_missing_in_one_line(board, name):
    data, options = imu_model(), programs(name)
    lines, _ = board(name, {}, stop_s=1, **options)
    assert len(lines) == 1 and lines[0].startswith("no model gesture")
    lines, _ = board(name, gesture_files(data), stop_s=1, missing=[0x68], **options)
    assert len(lines) == 2 and lines[1].startswith("no MPU6050 answers at 0x68")
    lines, _ = board(name, gesture_files(data), stop_s=9, fail_from=40, **options)
    assert lines[-1].startswith("no MPU6050 answers at 0x68")
    other = imu_model(units=["m/s2"] * 3 + ["rad/s"] * 3)
    lines, _ = board(name, gesture_files(other), stop_s=1, **options)
    assert len(lines) == 2 and "expected one of (('ax'" in lines[1]


def test_gesture_example_confirms_a_new_model_that_works(board, tmp_path):
    files = {"gesture.0.a8": in_slot(imu_model(seed=5)), "gesture.1.a8": in_slot(imu_model(), 2, slots.TRIAL)}
    lines, _ = board("gesture.py", files, stop_s=9)
    assert "the new model has proved itself" in lines
    slot = slots.Slot(str(tmp_path / "gesture"), 1)
    assert slot.state == slots.GOOD


# ---- low_power.py --------------------------------------------------------------------------------------------------


def fifo_samples(begin_us, factor=1, n=3000):
    """Returns what an MPU6050 puts into its FIFO at 50 Hz from a time on."""
    times = [(begin_us + 20000 * (i + 1)) // 1000 for i in range(n)]
    return [[max(-32768, min(32767, factor * v)) for v in fake_sleep.imu(ms)] for ms in times]


def check_low_power(data, lines, log, factor=1):
    """Compares decisions and lost samples with the reference; returns the awake ms of each output."""
    model, reference = device.load(data), Reference(data)
    recordings, awake_ms, n_lost = [[]], [], 0
    for line in lines[1:-1]:
        found = re.fullmatch(r"(\d+) samples lost: .*", line)
        if not found:
            said, ms = re.fullmatch(r"(.*), awake for (\d+) of 320 ms", line).groups()
            recordings[-1].append(said)
            awake_ms.append(int(ms))
            continue
        begin, end = log["fifo_us"][len(recordings) - 1 : len(recordings) + 1]
        taken = model.n_steps + (len(recordings[-1]) - 1) * model.hop
        assert abs(int(found[1]) - n_lost - ((end - begin) // 20000 - taken)) <= 1
        n_lost = int(found[1])
        recordings.append([])
    assert len(log["fifo_us"]) == len(recordings)
    for begin, said in zip(log["fifo_us"], recordings, strict=True):
        outputs = reference.run_recording(np.array(fifo_samples(begin, factor), np.int16))
        expected = [f"{label} {score}" for label, score in (model.decide(y.tobytes()) for y in outputs)]
        assert len(said) > 9
        assert said == expected[: len(said)]
        assert len(set(said)) > 3
    return awake_ms


@pytest.mark.parametrize("factor", [1, 2])
def test_low_power_example_decides_as_a_batch_over_all_samples(board, factor):
    data = imu_model(factor=factor)
    lines, log = board("low_power.py", {"model.a8": data}, stop_s=60, delay_us=9000)
    awake_ms = check_low_power(data, lines, log, factor)
    assert len(awake_ms) == (3000 - 64) // 16 + 1  # none is missing and none is there twice
    assert set(awake_ms[1:]) == {9}  # as long as the bus takes
    assert log["slept_us"] > 0.95 * 60e6


def test_low_power_example_loses_nothing_where_sleep_ends_too_soon_or_a_little_too_late(board):
    data = imu_model()
    sleeps = [[3, 0.5], [4, 0.1], [9, 0.0], [20, 2], [40, 4.9], [60, 4.9]]
    lines, log = board("low_power.py", {"model.a8": data}, stop_s=60, sleeps=sleeps)
    assert not [line for line in lines if "lost" in line]
    assert len(check_low_power(data, lines, log)) == (3000 - 64) // 16 + 1


def test_low_power_example_begins_anew_after_an_overflow_and_counts_what_was_lost(board):
    data = imu_model()
    # The time that a line takes to be printed; at the last of them most of the FIFO was left over from the one before.
    stalls = [[30, 2500], [90, 1750], [110, 5000], [130, 1600], [131, 2500]]
    lines, log = board("low_power.py", {"model.a8": data}, stop_s=80, sleeps=[[50, 6], [70, 5.5]], stalls=stalls)
    check_low_power(data, lines, log)
    assert sum("lost" in line for line in lines) == 6


def test_low_power_example_takes_small_bites_of_a_long_hop(board):
    data = imu_model(hop=100)
    lines, log = board("low_power.py", {"model.a8": data}, stop_s=60)
    expected = predicted(data, [fifo_samples(log["fifo_us"][0])])[0]
    said = [line.split(",")[0] for line in lines[1:-1]]
    assert said == [f"{label} {score}" for label, score in expected[: len(said)]]
    assert len(said) == (3000 - 64) // 100 + 1


def test_low_power_example_names_what_is_missing_in_one_line(board):
    data = imu_model()
    assert board("low_power.py", {}, stop_s=1)[0][0].startswith("no model model.a8")
    for options in ({"missing": [0x68]}, {"fail_from": 9}):
        lines, _ = board("low_power.py", {"model.a8": data}, stop_s=9, **options)
        assert lines[-1].startswith("no MPU6050 answers at 0x68")


# ---- audio_level.py ------------------------------------------------------------------------------------------------

SOUND_HOP = 2000


def sound_model():
    shape = Shape(n_steps=4000, n_channels=1, kernel=32, stride=32, left=20, n_outputs=3).causal(hop=SOUND_HOP)
    return pack(graph_of(shape, 3, ["snap", "voice", "silence"], ["audio"], [""], [32768], 8000))


def heard(numbers):
    """Returns the counts that samples of these numbers become."""
    return np.clip([fake_sleep.sound(n) >> 16 for n in numbers], -32768, 32767)


def expected_sounds(data, x):
    """Returns the lines of the example over a recording: the level of each hop, and what the reference says."""
    first = device.load(data).n_steps
    lines = []
    for i, (label, score) in enumerate(predicted(data, [x])[0]):
        end = first + i * SOUND_HOP
        level = np.abs(x[end - SOUND_HOP if i else 0 : end]).sum() + 1
        decibels = 20 * np.log10(level / (SOUND_HOP if i else first) / 32768)
        lines.append(f"{decibels:.0f} dB  {label} {score}")
    return lines


def test_audio_example_tells_the_level_and_what_the_reference_hears(board):
    data = sound_model()
    lines, _ = board("audio_level.py", {"model.a8": data}, stop_s=20)
    expected = expected_sounds(data, heard(range(8000 * 20)))
    assert lines[1:-1] in (expected, expected[:-1])
    assert lines[-1] == "0 samples lost"
    assert len(set(expected)) > 9


def test_audio_example_keeps_what_waits_and_begins_anew_where_too_much_did(board):
    data = sound_model()
    lines, log = board("audio_level.py", {"model.a8": data}, stop_s=30, stalls=[[20, 200], [40, 900], [60, 240]])
    lost_at = [i for i, line in enumerate(lines) if "too long" in line]
    assert len(lost_at) == 1
    before, after = log["blocks"][lost_at[0] - 1], log["blocks"][lost_at[0]]
    blocks = [range(n, n + 80) for n in log["sound"]]
    first, second = ([n for block in part for n in block] for part in (blocks[:before], blocks[after:]))
    assert first == list(range(len(first)))
    assert second == list(range(second[0], second[0] + len(second)))
    assert lines[1 : lost_at[0]] == expected_sounds(data, heard(first))
    assert abs(int(lines[lost_at[0]].split()[0]) - (second[0] - len(first))) <= 3 * 80
    expected = expected_sounds(data, heard(second))
    found = lines[lost_at[0] + 1 : -1]
    # The level of the first line counts what was heard before the hole.
    assert found[1:] == expected[1 : len(found)]
    assert len(found) > 30


def test_audio_example_names_what_is_missing_in_one_line(board):
    assert board("audio_level.py", {}, stop_s=1)[0][0].startswith("no model model.a8")
    lines, _ = board("audio_level.py", {"model.a8": sound_model()}, stop_s=1, missing=[0x68])
    assert lines[-1].startswith("no sound from SCK pin 16")
    lines, _ = board("audio_level.py", {"model.a8": imu_model()}, stop_s=1)
    assert lines[-1].endswith("expected one channel of sound")


# ---- adc_threshold.py ----------------------------------------------------------------------------------------------

STATES = ["worn", "normal", "off"]


def adc_model(counts_per_unit, seed=2, labels=STATES, unit="V"):
    shape = Shape(n_steps=64, n_channels=1, kernel=8, stride=4, left=9, n_outputs=3).causal(hop=32)
    return pack(graph_of(shape, seed, labels, ["current"], [unit], [counts_per_unit], 100))


def alarms(data, x):
    """Returns the lines of the example over a recording, from the reference and an average of its own."""
    model = device.load(data)
    detector = device.Detector(model, 1)
    scores, lines, alarm = [], [], False
    for y in Reference(data).run_recording(np.asarray(x, np.int16).reshape(-1, 1)):
        detector.update(y.tobytes())
        scores.append(list(detector.scores))
        average = (np.sum(scores[-4:], axis=0) + 2) // 4
        if len(scores) < 4:
            continue
        was, alarm = alarm, bool(average[1] < (60 if alarm else 40))
        if alarm != was:
            state = "ALARM" if alarm else "in order"
            lines.append(f"{state}: normal {average[1]} %, most like {STATES[int(np.argmax(average))]}")
    return lines, len(scores)


@pytest.mark.parametrize(("counts_per_unit", "unit", "seed"), [(0.0, "", 13), (5000.0, "V", 8), (16384.0, "", 8)])
def test_adc_example_gives_the_alarms_of_the_reference(board, counts_per_unit, unit, seed):
    data = adc_model(counts_per_unit, seed, unit=unit)
    lines, _ = board("adc_threshold.py", {"model.a8": data}, stop_s=100)
    readings = np.array([fake_sleep.level(10 * n) for n in range(10000)])
    of_model = counts_per_unit * (3.3 if unit else 1) / 65535 or 0.5
    factor = int(8192 * of_model + 0.5)
    x = np.minimum((readings * factor + 4096) >> 13, 32767)
    assert np.abs(x - readings * of_model).max() <= 2 + 65535 / 16384
    expected, n_outputs = alarms(data, x)
    assert lines[1:-1] == expected
    assert len(expected) > 5
    assert re.fullmatch(rf"({n_outputs}|{n_outputs - 1}) outputs; 0 samples late, 0 lost", lines[-1])


def test_adc_example_names_what_does_not_fit_in_one_line(board):
    assert board("adc_threshold.py", {}, stop_s=1)[0][0].startswith("no model model.a8")
    lines, _ = board("adc_threshold.py", {"model.a8": imu_model()}, stop_s=1)
    assert lines[-1].startswith("ADC at pin 26: model.a8: got a model of ('ax'")
    lines, _ = board("adc_threshold.py", {"model.a8": adc_model(0.0, labels=["a", "b", "c"])}, stop_s=1)
    assert lines[-1] == "ADC at pin 26: NORMAL: got 'normal', expected a label of the model: a, b, c"
    lines, _ = board("adc_threshold.py", {"model.a8": adc_model(0.0)}, stop_s=9, fail_from=9)
    assert lines[1:] == ["ADC at pin 26: [Errno 5] EIO"]


# ---- romfs.py ------------------------------------------------------------------------------------------------------

SHIPPED = (ROOT / "models" / "shoulder_exercises" / "model.a8").read_bytes()


def test_romfs_example_uses_the_model_where_it_lies(board, tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "disk" / "model.a8").write_bytes(SHIPPED)
    model, heap = device.load(SHIPPED), {}
    label, score = model.decide(Reference(SHIPPED).run(np.zeros((1, 128, 6), np.int16))[0].tobytes())
    for rom, files in (("rom", {"rom": rom_image(tmp_path / "disk")}), ("disk", {})):
        lines, _ = board("romfs.py", files, stop_s=9, rom=rom)
        told = re.fullmatch(r"(\d+) bytes of flash; (\d+) bytes of heap, of which its arena is (\d+)", lines[1])
        flash, heap[rom], arena = map(int, told.groups())
        assert (flash, arena) == (len(SHIPPED), model.arena_bytes)
        assert lines[2] == "selftest: True"
        assert lines[3].startswith(f"zeros look like {label} {score}, after ")
    assert heap["rom"] < heap["disk"] - 0.95 * len(SHIPPED)  # from a folder of files it is copied


def test_romfs_example_says_in_one_line_that_there_is_none(board):
    lines, _ = board("romfs.py", {}, stop_s=9)
    assert len(lines) == 1 and lines[0].startswith("no model /rom/model.a8")


# ---- the commands that the examples tell ---------------------------------------------------------------------------

SHORT = ["training.epochs=1", "data.folds=2", "quantization.calibration_windows=64"]


def train_command(name):
    """Returns the words of the command that an example tells to train its model with."""
    text = ast.get_docstring(ast.parse((EXAMPLES / name).read_text(encoding="utf-8")))
    return shlex.split(re.search(r"attn8 train (.*)", text)[1])


def trained(name, data, folder):
    """Trains as an example says, but only for a moment, on a folder of recordings; returns the packed model."""
    words = train_command(name)
    words[words.index("--data") + 1], words[words.index("--out") + 1] = str(data), str(folder / "run")
    words += [word for text in SHORT for word in ("--set", text)]
    runner = [sys.executable, "-m", "attn8.cli"]
    run(*runner, "train", *words, cwd=folder)
    run(*runner, "pack", folder / "run", "-o", folder / "packed.a8", cwd=folder)
    return (folder / "packed.a8").read_bytes()


def write_sounds(folder):
    """Two people who snap, and noise: WAV files of 1.5 s."""
    rng = np.random.default_rng(0)
    for label, size in (("snap", 8000), ("background", 100)):
        for person in ("ann", "ben"):
            x = rng.normal(0, size * np.exp(-np.arange(12000) % 3000 / 300))
            (folder / label).mkdir(parents=True, exist_ok=True)
            with wave.open(str(folder / label / f"{person}_1.wav"), "wb") as file:
                file.setparams((1, 2, 8000, 0, "NONE", ""))
                file.writeframes(np.clip(x, -32768, 32767).astype("<i2").tobytes())
    return folder


def test_audio_example_runs_the_model_that_its_command_trains(board, tmp_path):
    data = trained("audio_level.py", write_sounds(tmp_path / "sounds"), tmp_path)
    model = device.load(data)
    assert (model.input_shape, model.hop, model.sample_rate_hz) == ((8000, 1), SOUND_HOP, 8000)
    lines, _ = board("audio_level.py", {"model.a8": data}, stop_s=10)
    expected = expected_sounds(data, heard(range(80000)))
    assert lines[1:-1] in (expected, expected[:-1])


def test_gesture_example_runs_the_model_that_its_command_trains(board, tmp_path):
    for name in write_folder(tmp_path / "recordings", subjects=(1, 2)):
        if not re.search(r"^(PEN|ROW)/p._1", name):
            (tmp_path / "recordings" / name).unlink()
    data = trained("gesture.py", tmp_path / "recordings", tmp_path)
    factors = np.floor(4096 * np.array(device.load(data).counts_per_unit) / COUNTS_PER_UNIT + 0.5).astype(int)
    assert (factors != 4096).all()
    counts = (np.array(imu_samples(range(1500))) * factors + 2048) >> 12
    expected = gestures(data, [np.clip(counts, -32768, 32767)], ignore=())
    lines, _ = board("gesture.py", gesture_files(data), stop_s=30)
    assert_events(lines, expected)


# ---- all of them ---------------------------------------------------------------------------------------------------


def test_readme_names_every_example_and_a_test_runs_each():
    text = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    examples = {path.name for path in EXAMPLES.iterdir() if path.suffix == ".py"}
    assert set(re.findall(r"\]\(device/examples/(\w+\.py)\)", README.read_text(encoding="utf-8"))) == examples
    assert [name for name in examples if f'"{name}"' not in text] == []


@pytest.mark.parametrize("name", sorted(path.name for path in EXAMPLES.glob("*.py")))
def test_commands_that_examples_tell_are_right(name):
    text = ast.get_docstring(ast.parse((EXAMPLES / name).read_text(encoding="utf-8")))
    told = re.findall(r"^ *(?:Model +)?attn8 (\w+) (.*)$", text, re.MULTILINE)
    assert [verb for verb, _ in told].count("train") == text.count("attn8 train")
    for verb, rest in told:
        words = shlex.split(rest)
        context = cli.cli.commands[verb].make_context(verb, words)
        if verb == "train":
            settings = apply_overrides(shipped_config(), list(context.params["overrides"]))
            assert settings.model.causal and settings.data.hop < settings.data.window


@pytest.mark.parametrize("name", sorted(path.name for path in EXAMPLES.glob("*.py")))
def test_examples_tell_how_to_start_and_use_public_names_only(name):
    source = (EXAMPLES / name).read_text(encoding="utf-8")
    tree = ast.parse(source)
    assert "unmodified" in ast.get_docstring(tree) or "MicroPython" in ast.get_docstring(tree)
    used = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute) and is_attn8(node.value)}
    assert used and used <= set(device.__all__)
    private = [node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute) and node.attr.startswith("_")]
    assert private == []
    assert len(source.splitlines()) <= 140


def is_attn8(node):
    return isinstance(node, ast.Name) and node.id == "attn8"
