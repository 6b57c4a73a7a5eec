"""`attn8 monitor`: what the model on the board says of a live sensor, the same as here, at every hop, and in a log."""

import csv
import importlib
import json
import os
import pty
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import attn8 as device
import readme
from attn8.boards import board_code, install
from attn8.boards.monitor import Hop, bars
from attn8.cli import cli
from attn8.pack import pack
from attn8.random_models import Shape, build_graph
from fake_machine import Knobs, firmware
from pty_board import Board

MAIN = "from attn8.cli import main; main()"
MEASURED = 11  # reads before the first sample, for the time that one takes
IMU = [("ax", "g"), ("ay", "g"), ("az", "g"), ("wx", "rad/s"), ("wy", "rad/s"), ("wz", "rad/s")]
IMU_COUNTS = [4096.0] * 3 + [939.65] * 3
OWN = """
CHANNELS = ("x [g]", "y [g]", "z [g]")
RATE_HZ = 50
n = 0
def read():
    global n
    n += 1
    return value(n, 0), value(n, 1), value(n, 2)
def value(n, i):
    return ((n * (7 + i) + 100 * i) % 64 - 32) / 16
"""


def model(name="watch", channels=(("x", "g"), ("y", "g"), ("z", "g")), counts=None, shape=None, rate_hz=50.0):
    """Returns the bytes of a random model for these channels."""
    shape = shape or Shape(n_channels=len(channels), hop=6)
    graph = build_graph(shape, 3)
    graph.name, graph.sample_rate_hz, graph.labels = name, rate_hz, ["circle", "shake", "nothing"]
    graph.channels, graph.units = [c for c, _ in channels], [u for _, u in channels]
    graph.counts_per_unit = np.float32(counts or [8192.0] * len(channels))
    return pack(graph)


@pytest.fixture(scope="module")
def knobs(tmp_path_factory):
    return Knobs(tmp_path_factory.mktemp("knobs") / "knobs")


@pytest.fixture(scope="module")
def shared(knobs):
    with Board(firmware=firmware("mpu6050", "adxl345", live=knobs)) as board:
        install.install(board.port, pure=True)
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
    Path("own.py").write_text(OWN)
    Path("model.a8").write_bytes(model())


def words(arguments):
    return " ".join(map(str, arguments)).split()


def monitor(board, *arguments, code=0, json_=True):
    """Returns (the JSON object or text of stdout, stderr). Arguments may hold several words."""
    command = ["monitor", "--port", board.port, *words(arguments), *(["--json"] if json_ else [])]
    done = CliRunner().invoke(cli, command)
    assert done.exit_code == code, done.output
    return json.loads(done.stdout) if json_ and done.stdout else done.stdout, done.stderr


def log(path="log.csv"):
    """Returns (header, rows) of a log."""
    rows = list(csv.reader(Path(path).read_text("utf-8").splitlines()))
    return rows[0], rows[1:]


def value(n, i):
    return ((n * (7 + i) + 100 * i) % 64 - 32) / 16


def said_here(data, n_samples):
    """Returns [(label, score, scores)] of the model on this computer, for what OWN reads."""
    m = device.load(data)
    detector, found = device.Detector(m, smooth=1), []
    samples = [[value(MEASURED + k, i) for i in range(3)] for k in range(1, n_samples + 1)]
    try:
        stream = m.stream(units=True)
        outputs = [list(stream.output) for sample in samples if stream.push(sample)]
    except device.ModelError:
        counts = np.clip(np.rint(np.array(samples) * m.counts_per_unit), -32768, 32767).astype(np.int16)
        starts = range(0, len(samples) - m.n_steps + 1, m.hop)
        outputs = [list(m.run(counts[start : start + m.n_steps].tobytes())) for start in starts]
    for output in outputs:
        detector.update(output)
        found.append((*m.decide(output), list(detector.scores)))
    return found


def without_loss(board, *arguments):
    """Watches anew where the computer that plays the board was too busy to keep the rate."""
    for n in range(5):
        found, _ = monitor(board, *arguments, f"--log log{n}.csv")
        if not found["lost"] and not found["damaged"]:
            return found, log(f"log{n}.csv")
    raise AssertionError(f"samples were lost five times: {found}")


SHAPES = {
    "overlapping windows": Shape(hop=6),
    "windows with gaps between": Shape(hop=30),
    "a stream": Shape().causal(4),
}


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_every_hop_says_what_the_model_says_here(board, shape):
    data = model(shape=shape)
    Path("model.a8").write_bytes(data)
    found, (header, rows) = without_loss(board, "model.a8 --sensor own.py --seconds 2")
    expected = said_here(data, 200)[: len(rows)]
    assert header == ["time [s]", "label", "score", "circle", "shake", "nothing"]
    assert len(rows) == found["hops"] >= 2
    got = [(row[1] or None, int(row[2]), list(map(int, row[3:]))) for row in rows]
    assert got == expected
    steps = np.diff([float(row[0]) for row in rows])
    assert np.median(steps) == pytest.approx(shape.hop / 50, abs=0.01)


def test_model_in_a_slot_is_taken_by_name_and_by_itself(board):
    deployed = CliRunner().invoke(cli, ["deploy", "model.a8", "--port", board.port, "--confirm", "--json"])
    assert deployed.exit_code == 0, deployed.output
    identity = json.loads(deployed.stdout)["boards"][0]["id"]
    for arguments in ("", "model"):
        found, _ = monitor(board, arguments, "--sensor own.py --seconds 0.6")
        assert (found["id"], found["model"], found["rate_hz"]) == (identity, "watch", 50.0)
        assert found["hops"] >= 1 and sum(found["labels"].values()) == found["hops"]
    _, error = monitor(board, "none --sensor own.py -q", code=1)
    assert error.count("\n") == 1 and "none: no such file here and no such slot or file on the board" in error


def test_watching_takes_no_boot_of_a_trial_and_confirms_nothing(board):
    name = "tried"
    for confirm in (["--confirm"], []):
        done = CliRunner().invoke(cli, ["deploy", "model.a8", "--name", name, "--port", board.port, *confirm])
        assert done.exit_code == 0, done.output
    for _ in range(4):
        monitor(board, name, "--sensor own.py --seconds 0.6")
    done = CliRunner().invoke(cli, ["status", name, "--port", board.port, "--json"])
    slots = json.loads(done.stdout)["boards"][0]["slots"]
    assert [(s["state"], s["boots"], s["active"]) for s in slots] == [("good", 0, False), ("trial", 0, True)]


def test_whole_numbers_without_a_unit_are_the_counts_of_the_reader(board):
    Path("raw.py").write_text('CHANNELS = ("x", "y")\ndef read():\n    return 5, -7\n')
    Path("model.a8").write_bytes(model(channels=[("x", "count"), ("y", "count")], counts=[1.0, 1.0]))
    found, _ = monitor(board, "model.a8 --sensor raw.py --seconds 0.6")
    assert found["hops"] >= 1


def test_sensor_of_other_scale_or_more_channels_is_brought_to_the_models(board, knobs):
    """An ADXL345 has 256 counts in a g, the model 8192 and only two of its axes, in another order."""
    knobs.turn(signal="still")
    data = model(channels=[("az", "g"), ("ax", "g")], shape=Shape(n_channels=2, hop=6), rate_hz=100.0)
    Path("model.a8").write_bytes(data)
    m = device.load(data)
    window = np.tile(np.int16([8192, 0]), (m.n_steps, 1))
    expected = m.decide(m.run(window.tobytes()))
    for fifo in ("", "--fifo"):
        found, _ = monitor(board, "model.a8 --sensor adxl345 --seconds 0.5", fifo, f"--log log{fifo}.csv")
        assert found["rate_hz"] == 100 and found["hops"] >= 2
        assert {(row[1], int(row[2])) for row in log(f"log{fifo}.csv")[1]} == {expected}


def test_scaling_is_that_of_a_stream_in_units(monkeypatch):
    """To the count, ties and saturation included."""
    names = {}
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "attn8", importlib.import_module("attn8.device"))
        exec((board_code.FOLDER / "monitor.py").read_text("utf-8"), names)
    m = device.load(model(counts=[1000.25, 8192.0, 939.65], shape=Shape().causal(4)))
    per_unit = [256.0, 3.0, 818.51]
    watch = names["Watch"](m, (0, 1, 2), list(zip(per_unit, m.counts_per_unit, strict=True)))
    stream = m.stream(units=True)
    for counts in np.random.default_rng(1).integers(-32768, 32768, (2000, 3)).tolist():
        watch.push(counts)
        stream.push([v / c for v, c in zip(counts, per_unit, strict=True)])
        assert list(watch.counts) == list(stream._sample)


def test_counts_go_as_they_are_where_the_scale_is_the_models(board):
    data = model(channels=IMU, counts=IMU_COUNTS, shape=Shape(n_channels=6, hop=6))
    Path("model.a8").write_bytes(data)
    found, _ = monitor(board, "model.a8 --sensor mpu6050 --seconds 0.8")
    assert found["hops"] >= 2


def test_commands_of_the_readme_run(board):
    Path("gestures.a8").write_bytes(model(channels=IMU, counts=IMU_COUNTS, shape=Shape(n_channels=6, hop=6)))
    deployed = CliRunner().invoke(cli, ["deploy", "gestures.a8", "--port", board.port, "--confirm"])
    assert deployed.exit_code == 0, deployed.output
    extra = {"capture": "--label shake --seconds 0.5", "monitor": "--seconds 0.6"}
    for line in readme.command("capture").splitlines():
        command = line.partition("#")[0].split()[1:]
        done = CliRunner().invoke(cli, [*command, "--port", board.port, *extra[command[0]].split()])
        assert done.exit_code == 0, done.output
    assert Path("data/shake/anna_1.csv").exists()
    assert len(log("today.csv")[1]) >= 1


def test_lost_samples_are_counted_and_a_long_gap_begins_anew(board, knobs):
    data = model(channels=IMU, counts=IMU_COUNTS, shape=Shape(n_channels=6, hop=6))
    Path("model.a8").write_bytes(data)
    knobs.turn(stall_at=(MEASURED + 30,), stall_ms=300)
    found, error = monitor(board, "model.a8 --sensor mpu6050 --seconds 1.6")
    assert found["lost"] >= 12 and found["resets"] >= 1
    assert "samples lost: the model takes longer than a sample at 50 Hz lets it; take --fifo, the native" in error


def test_failing_sensor_ends_it_with_what_was_seen(board, knobs):
    data = model(channels=IMU, counts=IMU_COUNTS, shape=Shape(n_channels=6, hop=6))
    Path("model.a8").write_bytes(data)
    knobs.turn(fail_from=MEASURED + 60)
    found, error = monitor(board, "model.a8 --sensor mpu6050 --seconds 30 --log log.csv", code=1)
    assert "mpu6050 stopped answering" in error
    assert len(log()[1]) == found["hops"] >= 4


def test_damaged_line_is_no_hop(board):
    seen = [0]

    def damage(data):
        seen[0] += b":" in data
        if b":" not in data or seen[0] < 100 or seen[0] % 2:
            return data
        at = data.index(b":") + 20
        return data[:at] + b"?" + data[at + 1 :]

    def begin(data):
        if data.startswith(b":"):
            board.to_host = lambda data: damage(data)
            seen[0] = 100
        return data

    board.to_host = begin
    found, _ = monitor(board, "model.a8 --sensor own.py --seconds 2 --log log.csv")
    assert found["damaged"] >= 3
    assert len(log()[1]) == found["hops"]


def program(board, *arguments, **options):
    command = [sys.executable, "-c", MAIN, "monitor", "--port", board.port, *words(arguments)]
    return subprocess.Popen(command, **options)


def when_logged(n, work):
    """Calls work once the log has n rows."""

    def wait():
        while not (Path("log.csv").exists() and Path("log.csv").read_text().count("\n") > n):
            time.sleep(0.05)
        work()

    threading.Thread(target=wait, daemon=True).start()


def test_ctrl_c_ends_with_a_summary_and_a_whole_log(board):
    process = program(
        board, "model.a8 --sensor own.py --log log.csv --json", stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    when_logged(3, lambda: process.send_signal(signal.SIGINT))
    out, error = process.communicate(timeout=40)
    assert process.returncode == 0, error
    found = json.loads(out)
    assert len(log()[1]) == found["hops"] >= 3 and found["error"] is None


def test_pulled_cable_keeps_the_log(shared):
    with Board(firmware=firmware("mpu6050"), flash=shared.flash()) as board:
        when_logged(3, board.unplug)
        found, error = monitor(board, "model.a8 --sensor own.py --log log.csv", code=1)
        assert "the connection broke" in error
        assert len(log()[1]) == found["hops"] >= 3


def test_power_cut_keeps_the_log(shared):
    with Board(firmware=firmware("mpu6050"), flash=shared.flash()) as board:
        when_logged(3, board.cut_power)
        found, error = monitor(board, "model.a8 --sensor own.py --log log.csv", code=1)
    assert "the board has started anew" in error
    assert len(log()[1]) == found["hops"] >= 3


def test_lines_without_a_terminal_and_bars_in_one(board):
    text, _ = monitor(board, "model.a8 --sensor own.py --seconds 1", json_=False)
    first = text.splitlines()[0]
    assert " % " in first and "circle" in first and "0 lost)" in first
    assert "hops in " in text
    ours, its = pty.openpty()
    process = program(board, "model.a8 --sensor own.py --seconds 1", stdin=its, stdout=its, stderr=its)
    os.close(its)
    shown = b""
    try:
        while True:
            shown += os.read(ours, 4096)
    except OSError:  # the program has ended
        pass
    os.close(ours)
    assert process.wait(20) == 0
    assert "█" in shown.decode()


def test_bars_show_each_class():
    lines = bars(Hop(1.25, "circle", 75, (75, 25), 0, 2, 0), ("circle", "no")).splitlines()
    assert lines[0].startswith("circle  75 %") and "2 lost" in lines[0]
    assert [line.count("█") for line in lines[1:]] == [18, 6]


def test_log_that_is_there_is_not_touched(board):
    Path("log.csv").write_text("mine")
    _, error = monitor(board, "model.a8 --sensor own.py --seconds 1 --log log.csv -q", code=1)
    assert error.count("\n") == 1 and "log.csv is there already; name another file" in error
    assert Path("log.csv").read_text() == "mine"


def test_model_of_other_channels_is_one_line(board):
    _, error = monitor(board, "model.a8 --sensor mpu6050 -q", code=1)
    assert error.count("\n") == 1
    assert "'watch' was trained on x [g], y [g], z [g], mpu6050 has ax [g], ay [g]" in error


def test_model_without_scale_is_refused_for_units(board):
    Path("model.a8").write_bytes(model(counts=[0.0, 1.0, 1.0]))
    _, error = monitor(board, "model.a8 --sensor own.py -q", code=1)
    assert error.count("\n") == 1 and "'watch' does not tell the scale of x: train it on data with units" in error


def test_model_of_bytes_is_refused(board):
    Path("model.a8").write_bytes(model(shape=Shape(int16=False)))
    _, error = monitor(board, "model.a8 --sensor own.py -q", code=1)
    assert error.count("\n") == 1 and "takes int8 input, expected int16 counts of a sensor" in error


def test_missing_sensor_is_one_line(board, knobs):
    data = model(channels=IMU, counts=IMU_COUNTS, shape=Shape(n_channels=6, hop=6))
    Path("model.a8").write_bytes(data)
    knobs.turn(missing=(0x68,))
    _, error = monitor(board, "model.a8 --sensor mpu6050 -q", code=1)
    assert error.count("\n") == 1 and "no sensor at 0x68 or 0x69, the bus has 0x53" in error


def test_board_without_attn8_is_told_the_command():
    with Board(firmware=firmware("mpu6050")) as board:
        _, error = monitor(board, "model.a8 --sensor own.py -q", code=1)
    assert error.count("\n") == 1 and "attn8 is not on the board: attn8 install" in error
