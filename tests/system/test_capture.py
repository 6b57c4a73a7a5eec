"""`attn8 capture`: what a sensor gave is in the file, each sample once and at its time; what is missing is counted."""

import csv
import json
import os
import pty
import signal
import struct
import subprocess
import sys
import threading
import time
import wave
from itertools import pairwise
from pathlib import Path

import pytest
from click.testing import CliRunner

from attn8 import starter
from attn8.boards import sensors, streaming
from attn8.cli import cli
from attn8.config import DataConfig
from attn8.data.folder import load_recordings
from fake_machine import Knobs, firmware
from pty_board import Board

ALL = ("mpu6050", "lsm6ds3", "adxl345")
PER_G = 4096
MEASURED = 11  # reads before the first sample, for the time that one takes
FOR_THREE_SECONDS = ("--label", "circle", "--seconds", "3")
MAIN = "from attn8.cli import main; main()"


@pytest.fixture(scope="module")
def knobs(tmp_path_factory):
    return Knobs(tmp_path_factory.mktemp("knobs") / "knobs")


@pytest.fixture(scope="module")
def shared(knobs):
    with Board(firmware=firmware(*ALL, live=knobs)) as board:
        yield board


@pytest.fixture
def board(shared, knobs):
    knobs.now = {}
    knobs.turn()
    yield shared
    shared.to_host = lambda data: data


@pytest.fixture(autouse=True)
def _in_tmp_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def words(arguments):
    return " ".join(map(str, arguments)).split()


def capture(board, *arguments, code=0):
    """Returns (the JSON object, stderr). Arguments may hold several words."""
    done = CliRunner().invoke(cli, ["capture", "data", "--port", board.port, "--json", *words(arguments)])
    assert done.exit_code == code, done.output
    return json.loads(done.stdout) if done.stdout else None, done.stderr


def rows(path):
    """Returns (names, list of list of float) of a recording, without its remarks."""
    lines = [line for line in csv.reader(Path(path).read_text("utf-8").splitlines()) if not line[0].startswith("#")]
    return lines[0], [list(map(float, line)) for line in lines[1:]]


def in_ms(path, per_unit=PER_G):
    """Returns [(ms by the time column, ms by the ramp of the first channel)], both from the first sample."""
    found = [(row[0], round(row[1] * per_unit)) for row in rows(path)[1]]
    return [(t, ramp - found[0][1]) for t, ramp in found]


def agree(times, within_ms=3):
    """Says whether samples lie where their values say; a computer that is busy may hold up a few reads."""
    offsets = sorted(t - ramp for t, ramp in times)
    middle = offsets[len(offsets) // 2]
    far = [o for o in offsets if abs(o - middle) > within_ms]
    return len(far) <= len(offsets) // 10 and all(abs(o - middle) < 30 for o in far)


def in_background(work):
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def when_recording(path, work, seconds=0.0):
    """Calls work once a recording holds samples."""

    def wait():
        while not (Path(path).exists() and Path(path).stat().st_size > 300):
            time.sleep(0.05)
        time.sleep(seconds)
        work()

    return in_background(wait)


# ---- every sample, at its time -------------------------------------------------------------------------------------


def test_each_sample_is_recorded_once_at_its_time(board):
    found, _ = capture(board, "--sensor", "mpu6050", "--rate", 100, "--label", "circle", "--seconds", 1.5)
    names, _ = rows("data/circle/me_1.csv")
    assert names == ["time [ms]", "ax [g]", "ay [g]", "az [g]", "wx [rad/s]", "wy [rad/s]", "wz [rad/s]"]
    times = in_ms("data/circle/me_1.csv")
    assert found["labels"][0]["samples"] == len(times) == 150
    assert agree(times)
    assert abs(times[-1][0] - 1490 - 10 * found["labels"][0]["lost"]) < 30


def test_every_count_of_the_sensor_can_be_had_back(board):
    capture(board, "--sensor", "mpu6050", "--rate", 50, "--label", "a", "--seconds", 0.5)
    for row in rows("data/a/me_1.csv")[1]:
        counts = [v * c for v, c in zip(row[1:], sensors.open_sensor("mpu6050").counts_per_unit, strict=True)]
        assert all(abs(v - round(v)) < 0.5 for v in counts)
        assert [round(v) - round(counts[0]) for v in counts] == [0, 1000, 2000, 3000, 4000, 5000]


@pytest.mark.parametrize(("sensor", "rate", "per_g"), [("mpu6050", 200, PER_G), ("adxl345", 100, 256)])
def test_fifo_gives_the_samples_of_the_sensors_own_clock(board, sensor, rate, per_g):
    found, _ = capture(board, "--sensor", sensor, "--fifo", "--rate", rate, "--label", "a", "--seconds", 1)
    times = in_ms("data/a/me_1.csv", per_g)
    period = 1000 / rate if sensor == "mpu6050" else 9.984
    assert len(times) == rate
    assert all(abs(ramp - n * period) <= 1 for n, (_, ramp) in enumerate(times))
    assert (found["lost"], found["damaged"]) == (0, 0)


def test_lsm6ds3_has_its_axes_in_the_same_order(board):
    capture(board, "--sensor", "lsm6ds3", "--label", "a", "--seconds", 0.4)
    names, found = rows("data/a/me_1.csv")
    counts = sensors.open_sensor("lsm6ds3").counts_per_unit
    assert [name[:2] for name in names[1:]] == ["ax", "ay", "az", "wx", "wy", "wz"]
    first = [round(v * c) for v, c in zip(found[0][1:], counts, strict=True)]
    assert [v - first[0] for v in first] == [0, 1000, 2000, 3000, 4000, 5000]


def test_units_are_those_of_the_world(board, knobs):
    knobs.turn(signal="still")
    for sensor in ALL:
        capture(board, "--sensor", sensor, "--label", sensor, "--seconds", 0.3)
        last = rows(f"data/{sensor}/me_1.csv")[1][-1]
        assert last[1:4] == pytest.approx([0, 0, 1], abs=0.005)


def test_adc_pins_are_channels(board):
    found, _ = capture(board, "--sensor", "adc", "--pins", "26,27", "--label", "a", "--seconds", 0.5)
    names, samples = rows("data/a/me_1.csv")
    assert names == ["time [ms]", "adc26", "adc27"]
    assert all(round((row[2] - row[1]) * 32767) in (500, 501) for row in samples)
    assert found["samples"] >= len(samples) == 25


def test_microphone_makes_a_wav_file_of_every_sample(board):
    capture(board, "--sensor", "i2s", "--pins", "sck=16,ws=17,sd=18", "--label", "hum", "--seconds", 1)
    with wave.open("data/hum/me_1.wav") as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (16000, 1, 2)
        values = struct.unpack(f"<{file.getnframes()}h", file.readframes(16000))
    assert len(values) == 16000
    assert all((b - a) % 32768 == 1 for a, b in pairwise(values))


OWN = """
CHANNELS = ("level [V]", "noise")
RATE_HZ = 40
n = 0
def read():
    global n
    n += 1
    return n / 8, -n
"""


def test_own_file_with_read_gives_numbers_in_units(board):
    Path("mine.py").write_text(OWN)
    found, _ = capture(board, "--sensor", "mine.py", "--label", "a", "--seconds", 0.5)
    names, samples = rows("data/a/me_1.csv")
    assert (names, found["rate_hz"]) == (["time [ms]", "level [V]", "noise"], 40)
    assert all(row[1] * 8 == -row[2] == samples[0][1] * 8 + n for n, row in enumerate(samples))


def test_starter_project_records_as_its_readme_says(board):
    starter.new_project("project")
    os.chdir("project")
    line = next(line for line in Path("README.md").read_text("utf-8").splitlines() if line.startswith("attn8 capture"))
    done = CliRunner().invoke(cli, [*line.partition("#")[0].split()[1:], "--port", board.port, *FOR_THREE_SECONDS])
    assert done.exit_code == 0, done.output
    assert agree(in_ms("data/circle/anna_1.csv"))
    preview = CliRunner().invoke(cli, ["data", "preview", "--config", "config.toml", "--json"])
    found = json.loads(preview.stdout)
    assert found["faults"] == [] and found["sample_rate_hz"] == 50
    assert {"circle"} < {entry["label"] for entry in found["classes"]}


# ---- late, lost, damaged -------------------------------------------------------------------------------------------


def test_lost_samples_are_counted_and_are_a_gap_in_the_time_column(board, knobs):
    knobs.turn(stall_at=(MEASURED + 40,), stall_ms=95)
    found, _ = capture(board, "--sensor", "mpu6050", "--rate", 100, "--label", "a", "--seconds", 1)
    times = in_ms("data/a/me_1.csv")
    missing = round(times[-1][0] / 10) + 1 - len(times)
    assert 7 <= found["labels"][0]["lost"] == pytest.approx(missing, abs=1)
    # The sample that took so long was asked for in time; its value is that of its end.
    assert agree([time for n, time in enumerate(times) if n != 40])


def test_late_samples_are_counted(board, knobs):
    knobs.turn(stall_at=tuple(range(MEASURED + 5, MEASURED + 75, 7)), stall_ms=16)
    found, _ = capture(board, "--sensor", "mpu6050", "--rate", 100, "--label", "a", "--seconds", 0.8)
    assert found["labels"][0]["late"] >= 4


def test_failed_reads_are_lost_samples(board, knobs):
    knobs.turn(fail_from=MEASURED + 20, fail_until=MEASURED + 25)
    found, _ = capture(board, "--sensor", "mpu6050", "--rate", 100, "--label", "a", "--seconds", 0.8)
    times = in_ms("data/a/me_1.csv")
    assert 5 <= found["labels"][0]["lost"] == pytest.approx(round(times[-1][0] / 10) + 1 - len(times), abs=1)
    assert max(b[0] - a[0] for a, b in pairwise(times)) > 45


def test_sensor_that_stops_answering_ends_the_recording_and_keeps_it(board, knobs):
    when_recording("data/a/me_1.csv", lambda: knobs.turn(fail_from=0), 0.3)
    found, error = capture(board, "--sensor", "mpu6050", "--rate", 200, "--label", "a", "--seconds", 60, code=1)
    assert "mpu6050 stopped answering" in error and "check its wires" in error
    assert found["labels"][0]["samples"] == len(rows("data/a/me_1.csv")[1]) > 20
    assert found["error"] in error


def test_sensor_too_slow_for_the_rate_is_refused(board, knobs):
    knobs.turn(delay_us=12000)
    found, error = capture(board, "--sensor", "mpu6050", "--rate", 100, "--label", "a", "--seconds", 1, code=1)
    assert found is None and error.count("\n") == 2
    assert "ms to read, too long for 100 Hz; expected --rate 6" in error
    assert not Path("data").exists()


@pytest.mark.parametrize(("sensor", "rate", "per_g"), [("mpu6050", 500, PER_G), ("adxl345", 100, 256)])
def test_fifo_that_overflows_is_counted_and_leaves_a_gap_as_long_as_it_was(board, knobs, sensor, rate, per_g):
    knobs.turn(stall_at=(20,), stall_ms=600)
    found, _ = capture(board, "--sensor", sensor, "--fifo", "--rate", rate, "--label", "a", "--seconds", 1.2)
    times = in_ms("data/a/me_1.csv", per_g)
    missing = round((times[-1][0]) * rate / 1000) + 1 - len(times)
    assert found["labels"][0]["lost"] == missing > 20
    assert abs(times[-1][0] - times[-1][1]) <= 4 + 3000 / rate


def test_rate_of_the_sensors_own_clock_is_checked(board, knobs):
    knobs.turn(clock_ppm=60000)
    found, error = capture(board, "--sensor", "mpu6050", "--fifo", "--rate", 100, "--label", "a", "--seconds", 2.5)
    assert found["measured_hz"] == pytest.approx(106, abs=1.5)
    assert "asked for 100 Hz, got 10" in error


def test_microphone_that_lost_samples_begins_another_file(board, knobs):
    knobs.turn(stall_at=(12,), stall_ms=900)
    found, _ = capture(board, "--sensor", "i2s", "--pins", "sck=16,ws=17,sd=18", "--label", "hum", "--seconds", 2)
    assert found["labels"][0]["files"] == ["data/hum/me_1.wav", "data/hum/me_2.wav"]
    values = []
    for path in found["labels"][0]["files"]:
        with wave.open(path) as file:
            values.append(struct.unpack(f"<{file.getnframes()}h", file.readframes(32000)))
    assert all((b - a) % 32768 == 1 for v in values for a, b in pairwise(v))
    assert found["labels"][0]["lost"] == pytest.approx((values[1][0] - values[0][-1]) % 32768, abs=1000)


def test_damaged_block_is_counted_and_never_recorded(board):
    seen = [0]

    def damage(data):
        seen[0] += data.count(b":")
        if b":" not in data or seen[0] % 5 or len(data) < 20:
            return data
        at = len(data) // 2
        return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]

    when_recording("data/a/me_1.csv", lambda: setattr(board, "to_host", damage))
    found, error = capture(board, "--sensor", "mpu6050", "--rate", 100, "--label", "a", "--seconds", 2)
    times, counts = in_ms("data/a/me_1.csv"), found["labels"][0]
    assert agree(times)
    missing = round(times[-1][1] / 10) + 1 - len(times)
    assert counts["damaged"] + counts["lost"] == pytest.approx(missing, abs=1)
    assert counts["damaged"] >= 10
    assert "damaged on the way; take another cable" in error


def test_a_board_that_sends_only_damaged_blocks_is_given_up(board, monkeypatch):
    monkeypatch.setattr(streaming, "_SILENT_S", 0.5)
    when_recording("data/a/me_1.csv", lambda: setattr(board, "to_host", lambda data: data.replace(b":", b";")))
    found, _ = capture(board, "--sensor", "mpu6050", "--rate", 100, "--label", "a", "--seconds", 3600, code=1)
    assert "sends nothing that arrives whole; check cable and power" in found["error"]


# ---- nothing recorded is lost --------------------------------------------------------------------------------------


def test_pulled_cable_keeps_what_was_recorded():
    with Board(firmware=firmware("mpu6050")) as board:
        when_recording("data/a/me_1.csv", board.unplug, 0.5)
        found, error = capture(board, "--sensor", "mpu6050", "--rate", 100, "--label", "a", "--seconds", 60, code=1)
        assert "the connection broke while receiving samples" in error
        assert found["labels"][0]["samples"] == len(rows("data/a/me_1.csv")[1]) >= 50


def test_power_cut_keeps_what_was_recorded():
    with Board(firmware=firmware("mpu6050")) as board:
        when_recording("data/a/me_1.csv", board.cut_power, 0.5)
        found, error = capture(board, "--sensor", "mpu6050", "--rate", 100, "--label", "a", "--seconds", 60, code=1)
    assert "the board has started anew; check its power" in error
    assert found["labels"][0]["samples"] == len(rows("data/a/me_1.csv")[1]) >= 50


def program(board, *arguments, **options):
    return subprocess.Popen(
        [sys.executable, "-c", MAIN, "capture", "data", "--port", board.port, *words(arguments)], **options
    )


def test_ctrl_c_ends_with_a_whole_file_and_a_summary(board):
    arguments = "--sensor mpu6050 --rate 100 --label a --seconds 60 --json"
    process = program(board, arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    when_recording("data/a/me_1.csv", lambda: process.send_signal(signal.SIGINT), 0.3)
    out, error = process.communicate(timeout=30)
    assert process.returncode == 0, error
    found = json.loads(out)
    text = Path("data/a/me_1.csv").read_text()
    assert text.endswith("lost, 0 damaged\n") and f"# {found['labels'][0]['samples']} samples, " in text
    assert found["labels"][0]["samples"] == len(rows("data/a/me_1.csv")[1]) == found["samples"]


@pytest.mark.parametrize("sensor", ["mpu6050 --rate 20", "i2s --pins sck=16,ws=17,sd=18"])
def test_killed_program_has_written_all_but_the_last_second(board, sensor):
    """Less than the 8 kB that a file buffers: only flushing writes it."""
    process = program(board, "--sensor", sensor, "--label a --seconds 60 -q")
    path, least = (Path("data/a/me_1.wav"), 16000) if "i2s" in sensor else (Path("data/a/me_1.csv"), 25)
    while not path.exists():
        time.sleep(0.02)
    time.sleep(2.6)
    process.kill()
    process.wait()
    found = load_recordings(DataConfig(window=20), "data", one_class=True).recordings[0]
    assert len(found.samples) >= least


def test_recording_is_never_replaced(board):
    Path("data/a").mkdir(parents=True)
    Path("data/a/me_1.csv").write_text("mine")
    Path("data/a/me_3.wav").write_text("mine too")
    for _ in range(2):
        capture(board, "--sensor", "mpu6050", "--label", "a", "--seconds", 0.2)
    assert sorted(p.name for p in Path("data/a").iterdir()) == ["me_1.csv", "me_2.csv", "me_3.wav", "me_4.csv"]
    assert (Path("data/a/me_1.csv").read_text(), Path("data/a/me_3.wav").read_text()) == ("mine", "mine too")


# ---- labels and keys -----------------------------------------------------------------------------------------------


def typed(board, keys, *arguments):
    """Runs the program in a terminal and types keys as [(seconds, key)]. Returns (exit code, what it showed)."""
    ours, its = pty.openpty()
    process = program(board, *arguments, stdin=its, stdout=its, stderr=its)
    os.close(its)
    shown = b""

    def read_all():
        nonlocal shown
        try:
            while True:
                shown += os.read(ours, 4096)
        except OSError:  # the program has gone
            pass

    reader = in_background(read_all)
    while b"paused" not in shown and process.poll() is None:
        time.sleep(0.05)
    for seconds, key in keys:
        os.write(ours, key)
        time.sleep(seconds)
    process.wait(30)
    reader.join(5)
    os.close(ours)
    return process.returncode, shown.decode()


def test_keys_switch_the_label_pause_and_end(board):
    keys = [(1, b"1"), (1, b"s"), (0.8, b" "), (1, b" "), (0.8, b"3"), (0.5, b"q")]
    code, shown = typed(board, keys, "--sensor mpu6050 --labels circle,shake,nothing --person anna --rate 100")
    assert code == 0, shown
    lengths = {str(p): len(rows(p)[1]) for p in sorted(Path("data").rglob("*.csv"))}
    assert list(lengths) == [
        *("data/circle/anna_1.csv", "data/nothing/anna_1.csv", "data/shake/anna_1.csv", "data/shake/anna_2.csv")
    ]
    assert list(lengths.values()) == pytest.approx([100, 80, 100, 100], abs=50)
    assert "1 or c circle, 2 or s shake, 3 or n nothing, space pauses, q ends" in shown
    assert "late, 0 lost, 0 damaged" in shown and "next: attn8 data preview data" in shown
    assert "record another --person too" in shown


def test_train_reads_what_was_recorded(board):
    for label in ("circle", "shake"):
        for person in ("anna", "ben"):
            done, _ = capture(board, f"--sensor mpu6050 --rate 100 --label {label} --person {person} --seconds 0.6")
    assert done["next"] == ["attn8 data preview data", "attn8 train --data data --set data.folds=2"]
    found = load_recordings(DataConfig(window=32), "data")
    assert (found.labels, found.faults) == (["circle", "shake"], [])
    assert found.sample_rate_hz == pytest.approx(100, rel=0.02)  # a busy computer holds up some reads
    assert {(r.label, r.group) for r in found.recordings} == {
        *(("circle", "anna"), ("circle", "ben"), ("shake", "anna"), ("shake", "ben"))
    }
    assert found.channels == ["ax", "ay", "az", "wx", "wy", "wz"] and found.units[:4] == ["g", "g", "g", "rad/s"]


def test_gap_is_where_the_reader_cuts(board, knobs):
    knobs.turn(stall_at=(MEASURED + 20,), stall_ms=600)  # slow samples: what holds up a computer is no gap of theirs
    capture(board, "--sensor mpu6050 --rate 25 --label a --seconds 1.6")
    found = load_recordings(DataConfig(window=10), "data", one_class=True)
    assert [len(r.samples) for r in found.recordings] == [pytest.approx(21, abs=2), pytest.approx(19, abs=2)]
    assert found.faults[0].kind == "gap"


def test_summary_of_json_names_all_that_was_recorded(board):
    found, _ = capture(board, "--sensor mpu6050 --label a --seconds 0.4 --person anna")
    label = found["labels"][0]
    assert {"port", "machine", "sensor", "rate_hz", "samples", "late", "lost", "damaged", "error"} < set(found)
    assert (label["label"], label["seconds"], label["samples"]) == ("a", 0.4, 20)
    assert found["next"] == ["attn8 data preview data"]  # training wants another person


# ---- what cannot be ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("turned", "arguments", "text"),
    [
        ({"who": 0x12}, "mpu6050", "the sensor at 0x68 is another: who_am_i got 0x12, expected 0x68"),
        ({"missing": (0x68, 0x6A, 0x53)}, "mpu6050", "no sensor at 0x68 or 0x69, the bus has nothing: check wires"),
        ({"missing": (0x68,)}, "mpu6050", "the bus has 0x53, 0x6a: check wires, power, --pins and --address"),
        ({}, "mpu6050 --address 0x69", "no sensor at 0x69, the bus has 0x53, 0x68"),
    ],
)
def test_wrong_or_missing_sensor_is_one_line(board, knobs, turned, arguments, text):
    knobs.turn(**turned)
    found, error = capture(board, "--sensor", arguments, "--label a --seconds 1 -q", code=1)
    assert found is None and error.count("\n") == 1
    assert text in error
    assert not Path("data").exists()


def test_sensor_that_answers_no_more_while_it_is_set_up_is_one_line(board, knobs):
    knobs.turn(fail_from=0)
    _, error = capture(board, "--sensor mpu6050 --label a --seconds 1 -q", code=1)
    assert error.count("\n") == 1 and "it does not answer" in error and "check wires, power and pins" in error


def test_own_file_that_fails_is_one_line(board):
    Path("mine.py").write_text(OWN.replace("return n / 8, -n", "return n / 0, -n"))
    _, error = capture(board, "--sensor mine.py --label a --seconds 1 -q", code=1)
    assert error.count("\n") == 1 and "mine.py: ZeroDivisionError" in error
    Path("mine.py").write_text(OWN.replace("return n / 8, -n", "return n / 8"))
    _, error = capture(board, "--sensor mine.py --label a --seconds 1 -q", code=1)
    assert error.count("\n") == 1 and "mine.py" in error


def test_busy_port_is_one_line(board):
    process = program(board, "--sensor mpu6050 --label a --seconds 30 -q")
    while not Path("data/a/me_1.csv").exists():
        time.sleep(0.05)
    try:
        _, error = capture(board, "--sensor mpu6050 --label a --seconds 1 -q", code=1)
        assert error.count("\n") == 1 and "busy, another program has it open" in error
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(20)


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        ("--sensor bmi270 --label a --seconds 1", 1, "unknown sensor 'bmi270'; expected one of mpu6050"),
        ("--sensor none.py --label a --seconds 1", 1, "none.py: No such file"),
        ("--sensor adc --label a --seconds 1", 1, "--pins: got none, expected those of the ADC"),
        ("--sensor i2s --label a --seconds 1", 1, "expected those of the microphone"),
        ("--sensor mpu6050 --pins 4,5 --label a --seconds 1", 1, "--pins: got '4,5', expected sda=N,scl=N"),
        ("--sensor mpu6050 --rate 3000 --label a --seconds 1", 1, "--rate: got 3000 Hz, expected 0.1..1000 Hz"),
        ("--sensor mpu6050 --fifo --rate 300 --label a --seconds 1", 1, "cannot give 300 Hz from its FIFO"),
        ("--sensor adxl345 --fifo --rate 60 --label a --seconds 1", 1, "expected one of 25, 50, 100"),
        ("--sensor lsm6ds3 --fifo --label a --seconds 1", 1, "--fifo: lsm6ds3 has none here, expected one of mpu6050"),
        ("--sensor mpu6050 --seconds 1", 1, "no labels: give --labels"),
        ("--sensor mpu6050 --labels a,b --seconds 1", 1, "no terminal to choose a label by keys: give --label"),
        ("--sensor mpu6050 --label a", 2, "no terminal to end it by a key: give --seconds"),
        ("--sensor mpu6050 --label a/b --seconds 1", 1, "--label: got 'a/b'"),
        ("--sensor mpu6050 --label a --person an_na --seconds 1", 1, "--person: got 'an_na'"),
        ("--sensor mpu6050 --address 0x99 --label a --seconds 1", 2, "expected 0x00 to 0x7f"),
    ],
)
def test_wrong_use_is_one_sentence(board, arguments, code, text):
    found, error = capture(board, arguments, "-q", code=code)
    assert found is None and text in error
    assert not Path("data").exists()


def test_every_table_of_sensors_is_whole():
    assert sensors.fifo_names() == ["mpu6050", "mpu6500", "adxl345"]
    for name, table in sensors.tables().items():
        assert {"title", "source", "addresses", "who", "setup", "settings", "data", "channels"} <= set(table), name
        assert [s["hz"] for s in table["settings"]] == sorted(s["hz"] for s in table["settings"])
        assert all(0 <= c["at"] <= table["data"]["bytes"] - 2 for c in table["channels"])
        assert table["data"]["order"] in ("big", "little")
        found = sensors.open_sensor(name, 100)
        assert len(found.counts_per_unit) == len(found.channels) == len(table["channels"])
