"""`attn8 bench --port`: what a model costs on a board, equality with the reference, and each failure in one line."""

import csv
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import fake_ina
import readme
from attn8 import reference
from attn8.boards import measure, meter_csv, meter_ina, meters, soak, workbench
from attn8.boards.facts import Facts
from attn8.boards.link import LinkError, open_link
from attn8.random_models import Shape, build_model, random_model, windows_for
from in_process import attn8, told
from pty_board import Board, over_tcp

MODEL = random_model(3)
PICO = {"platform": "rp2", "_machine": "Raspberry Pi Pico with RP2040"}
SHOWN = ("run_ms", "loop_ms", "collector", "timer", "sampling", "energy")


@pytest.fixture(autouse=True)
def files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("gesture.a8").write_bytes(MODEL)
    g = reference.parse(MODEL).graph
    x, y = windows_for(MODEL, 12), np.arange(12) % len(g.labels)
    np.savez("test.npz", x=x, y=y, group=np.arange(12) // 4, labels=np.array(g.labels))


def benched(board, *arguments, what="gesture.a8"):
    return told("bench", what, "--port", board.port, "--windows", 64, *arguments)


def one_line(error):
    assert error.count("\n") == 1, error
    return error


def test_times_of_a_computer_are_never_shown(board):
    found = benched(board)
    assert found["is_computer"] is True
    assert {key: found[key] for key in SHOWN} == dict.fromkeys(SHOWN)
    assert found["same_bytes"] == {"golden_vectors": 4, "windows": 64, "different": None}
    code, out, error = attn8("bench", "gesture.a8", "--port", board.port, "--windows", 5)
    assert code == 0
    assert "no board: times of a computer, not shown" in out and "no board" in error
    assert not re.search(r"\d ms|p99|Hz", out)


def test_board_tells_times_heap_and_the_rate_it_keeps(flash):
    with Board(flash=flash, pretend=PICO) as board, over_tcp(board.port) as url:
        found = measure.measure("gesture.a8", url, measure.Options(windows=200, inputs="random"))
    for times in (found["run_ms"], found["loop_ms"]):
        assert 0 < times["p50"] <= times["p95"] <= times["p99"] <= times["max"]
        assert 0 < times["mean"] <= times["max"]
    assert found["loop_ms"]["mean"] > found["run_ms"]["mean"]
    assert found["collector"]["collections"] > 0 and found["collector"]["pause_ms"] > 0
    heap = found["heap"]
    assert heap["bytes_in_ten_runs"] == 0 and heap["stack_bytes"] > 0
    assert heap["free_before"] - heap["free_after"] > len(MODEL)
    sampling = found["sampling"]
    assert (sampling["rate_hz"], sampling["n_samples"], sampling["hop"]) == (50.0, 50, 11)
    assert found["same_bytes"]["different"] is None and found["same_bytes"]["windows"] == 200
    text = measure.render(found)
    for word in ("p99", "collector", "50 Hz, a window every 11", "same bytes  yes", "200 windows, random values"):
        assert word in text


def test_percentiles_are_nearest_ranks():
    found = measure.percentiles([1000 * (i + 1) for i in range(200)])
    assert found == {"p50": 100.0, "p95": 190.0, "p99": 198.0, "max": 200.0, "mean": 100.5}
    assert measure.percentiles([7])["p99"] == 0.007


def test_lateness_counts_from_the_grid_of_the_first_sample():
    assert measure.lateness([0, 20_000, 25_000, 15_000], [0, 0, 0, 0], 50) == [0, 0, 5000, 0]
    assert measure.lateness([0, 60_500], [0, 2], 50) == [0, 500]


def test_windows_differ_from_each_other_and_stay_in_their_ranges():
    g = reference.parse(MODEL).graph
    windows = measure.Drawn(g, np.int16, [(-5, 11), (100, 1)]).next(50)
    assert len({window.tobytes() for window in windows}) == 50
    assert windows[..., 0].min() >= -5 and windows[..., 0].max() <= 5
    assert (windows[..., 1] == 100).all()
    wide = measure.Drawn(g, np.int16, [(-32768, 65535)] * 2).next(50)
    assert wide.min() < -30000 and wide.max() > 30000


def test_outputs_that_differ_from_the_reference_are_exit_1(board, monkeypatch):
    source = workbench.board_code("measure").replace("= out[j] & 255", "= out[j] + (i == 5) & 255")
    monkeypatch.setattr(workbench, "board_code", lambda name: source)
    code, out, error = attn8("bench", "gesture.a8", "--port", board.port, "--windows", 100, "--json")
    assert code == 1
    assert json.loads(out)["same_bytes"]["different"] == 0
    assert "the outputs differ from the reference" in error


def test_line_that_arrives_damaged_is_counted_and_not_believed(board):
    flips = iter([True])

    def flip(data):
        at = data.find(b"W 32 32 ")
        return data if at < 0 or not next(flips, False) else data[: at + 9] + b"7" + data[at + 10 :]

    board.to_host = flip
    found = benched(board, "--windows", 96)
    assert (found["n_windows"], found["lost"], found["same_bytes"]["different"]) == (64, 32, None)


def test_ctrl_c_ends_with_what_was_measured(board):
    def stop(what, done, of):
        if done >= 64:
            raise KeyboardInterrupt

    with open_link(board.port) as opened:
        opened.put(b"open('/started', 'w').close()", "/main.py")
    found = measure.measure("gesture.a8", board.port, measure.Options(windows=100_000, data="test.npz"), progress=stop)
    assert (found["interrupted"], found["n_windows"], found["data"]) == (True, 64, None)
    assert "64 windows, golden values of 100,000: stopped" in measure.render(found)
    with open_link(board.port, restart=False) as opened:
        assert opened.stat("/started") is None  # nothing ran before, so nothing runs now


def test_ctrl_c_in_the_middle_of_a_command_leaves_a_board_that_answers(board, monkeypatch):
    from mpremote.transport_serial import SerialTransport

    follow, done = SerialTransport.follow, []

    def interrupted(self, timeout, data_consumer=None):
        if len(done) == 2:
            done.append(None)
            raise KeyboardInterrupt
        return follow(self, timeout, data_consumer)

    def begin(what, n, of):
        if what == "test set":
            done.append(n)

    slow = "self.n_answers = getattr(self, 'n_answers', 0) + 1\n  self.n_answers == 3 and sleep_ms(100000)"
    source = workbench.board_code("measure").replace("n, self.n_received =", f"{slow}\n  n, self.n_received =")
    monkeypatch.setattr(workbench, "board_code", lambda name: source)
    monkeypatch.setattr(SerialTransport, "follow", interrupted)
    found = measure.measure("gesture.a8", board.port, measure.Options(20, data="test.npz"), progress=begin)
    assert found["interrupted"] and (found["data"]["n_windows"], found["data"]["same_bytes"]) == (2, 2)
    with open_link(board.port, restart=False) as opened:
        assert opened.eval("'_b' in globals()") is False


def test_line_that_only_looks_like_ours_is_no_traceback(board, monkeypatch):
    source = workbench.board_code("measure")
    lines = ("W x", "W 0", "W -5 3 0 0 0 0 1,2,3 1,2,3", "W 900000 2 0 0 0 0 1 1", "S", "E", "")
    said = "\n".join(f"  say({line!r})" for line in lines)
    strange = source.replace(" def _timed(", f" def strange(self):\n{said}\n def _timed(")
    strange = strange.replace("ticks = Ticks(hz)", "self.strange(); ticks = Ticks(hz)", 1)
    assert strange.count("strange") == 2
    monkeypatch.setattr(workbench, "board_code", lambda name: strange)
    found = benched(board)
    assert (found["n_windows"], found["lost"], found["same_bytes"]["different"]) == (64, 0, None)


def test_timer_runs_meanwhile(flash):
    with Board(flash=flash, pretend=PICO, firmware=fake_ina.firmware()) as board, over_tcp(board.port) as url:
        found = measure.measure("gesture.a8", url, measure.Options(windows=40, timer_hz=1000))
    assert found["timer"]["hz"] == 1000 and found["timer"]["in_interrupt"] is False
    assert found["timer"]["expected"] >= 0


def test_firmware_without_timer_says_so(board):
    code, _, error = attn8("bench", "gesture.a8", "--port", board.port, "--timer", 1000)
    assert code == 1
    assert "makes no timer interrupt of 1000 Hz" in one_line(error.replace(f"{workbench.NO_BOARD}\n", ""))
    with pytest.raises(workbench.MeasureError, match="makes no timer interrupt of 1000 Hz"):
        soak.soak("gesture.a8", board.port, 60, timer_hz=1000)


def test_slot_is_measured_without_counting_a_boot(board):
    assert attn8("deploy", "gesture.a8", "--port", board.port)[0] == 0
    for _ in range(4):
        found = benched(board, "--windows", 5, what="gesture")
    assert found["source"] == "slot gesture.0.a8" and found["same_bytes"]["windows"] == 5
    slots = json.loads(attn8("status", "--port", board.port, "--json")[1])["boards"][0]["slots"]
    assert [(s["state"], s["boots"]) for s in slots if s["active"]] == [("trial", 0)]


def test_nothing_stays_on_the_board(board):
    with open_link(board.port) as opened:
        before = [row[:2] for row in opened.listdir("/")]
    benched(board)
    with open_link(board.port, restart=False) as opened:
        assert [row[:2] for row in opened.listdir("/")] == before
        assert opened.eval("[n for n in globals() if n in ('_m', '_b', 'Bench')]") == []


def test_accuracy_on_a_test_set_that_is_pushed(board):
    found = benched(board, "--data", "test.npz")["data"]
    expected = reference.Reference(MODEL).run(windows_for(MODEL, 12)).argmax(1)
    y = np.arange(12) % len(reference.parse(MODEL).graph.labels)
    assert found["accuracy"] == pytest.approx((expected == y).mean())
    assert (found["n_windows"], found["wanted"], found["same_bytes"], found["resent"]) == (12, 12, 12, 0)
    assert "12 windows of test run there, as the reference" in attn8(
        *("bench", "gesture.a8", "--port", board.port, "--windows", 2, "--data", "test.npz")
    )[1].replace("test.npz", "test")


def test_window_that_arrives_damaged_is_sent_again(board):
    flips = iter([True])

    def flip(data):
        at = data.find(b"_b.receive(_d(b'")
        return data if at < 0 or not next(flips, False) else data[: at + 17] + b"/" + data[at + 18 :]

    board.to_board = flip
    found = benched(board, "--data", "test.npz")["data"]
    assert (found["resent"], found["same_bytes"]) == (1, 12)


def test_data_of_another_shape_reach_no_board():
    y = np.arange(4) % 2
    np.savez("wrong.npz", x=np.zeros((4, 5, 2), np.int16), y=y, group=y, labels=["class 0", "class 1"])
    code, _, error = attn8("bench", "gesture.a8", "--port", "/dev/none", "--data", "wrong.npz")
    assert code == 1
    assert "expected [11, 2]" in one_line(error)


def test_board_without_attn8_names_the_command():
    with Board() as board:
        code, _, error = attn8("bench", "gesture.a8", "--port", board.port)
    assert code == 1
    assert "attn8 is not on the board: attn8 install" in one_line(error)


def test_model_too_big_for_the_heap_does_not_fit(flash):
    Path("big.a8").write_bytes(build_model(Shape(heads=4, head_size=25, ff=1000)))
    with Board(flash=flash, heap_bytes=230 * 1024) as board:
        code, _, error = attn8("bench", "big.a8", "--port", board.port)
    assert code == 3
    assert "the model is too big for the heap" in one_line(error)


def test_name_that_is_no_slot_is_told(board):
    code, _, error = attn8("bench", "nothing", "--port", board.port)
    assert code == 1
    assert "no file here, and no slot" in one_line(error)


def test_cable_pulled_is_one_line(board):
    def pull(what, done, of):
        board.unplug()

    with pytest.raises(LinkError, match="check the cable, then try again"):
        measure.measure("gesture.a8", board.port, measure.Options(windows=100_000), progress=pull)


def test_wrong_usage_is_exit_2():
    for wrong in (
        ["gesture.a8", "--timer", 1000],
        ["--port", "auto"],
        ["gesture.a8", "--port", "auto", "--soak", "soon"],
        ["gesture.a8", "--port", "auto", "--log", "x.csv"],
        ["gesture.a8", "--port", "auto", "--soak", "1m", "--windows", 5],
        ["gesture.a8", "--port", "auto", "--timer", 0],
        ["gesture.a8", "--port", "auto", "--board", "pico"],
    ):
        assert attn8("bench", *wrong)[0] == 2, wrong
    code, _, error = attn8("bench", "gesture.a8", "--port", "/dev/none", "--meter", "abacus")
    assert (code, "unknown meter 'abacus'" in error) == (1, True)


@pytest.mark.parametrize("kind", ["ina219", "ina226"])
def test_energy_by_a_chip_on_the_boards_i2c(flash, kind, monkeypatch):
    monkeypatch.setitem(meter_ina.CHIPS, kind, replace(meter_ina.CHIPS[kind], every_ms=20))
    firmware = fake_ina.firmware(kind, idle_ma=20, busy_ma=30, volts=5)
    with Board(flash=flash, pretend=PICO, firmware=firmware) as board, over_tcp(board.port) as url:
        options = measure.Options(windows=20, meter=meters.meter(f"{kind}:sda=4,scl=5"), marker=3)
        found = measure.measure("gesture.a8", url, options)["energy"]
    assert found["idle_mw"] == pytest.approx(100, rel=1e-3) and found["busy_mw"] == pytest.approx(150, rel=1e-3)
    assert found["window_uj"] == pytest.approx(150 * found["window_ms"], rel=1e-3)
    assert found["above_idle_uj"] == pytest.approx(50 * found["window_ms"], rel=1e-2)
    assert (found["estimate"], found["below_resolution"], found["n_windows"] > 0) == (False, False, True)
    assert f"{kind.upper()} on the board's I2C" in found["how"]


@pytest.mark.parametrize(
    ("pulled_up", "says"),
    [(True, "nobody answers at address 64; there answer none"), (False, "the lines stay low, as without pull-ups")],
)
def test_chip_that_does_not_answer_is_named_with_its_pins(flash, pulled_up, says):
    firmware = fake_ina.firmware(pulled_up=pulled_up)
    with Board(flash=flash, pretend=PICO, firmware=firmware) as board, over_tcp(board.port) as url:
        options = measure.Options(20, meter=meters.meter("ina226:sda=6,scl=7"))
        steps = []
        with pytest.raises(meters.MeterError) as caught:
            measure.measure("gesture.a8", url, options, progress=lambda *step: steps.append(step))
    assert steps == []  # told before a minute of windows
    assert f"no INA226 on SDA 6, SCL 7: {says}" in str(caught.value)


class Analyser(meter_csv.CsvMeter):
    """A recording of 20 mA, and of 30 mA while the board's marker pin was high, which it asks the board for."""

    phase_s = 0.5

    def start(self, link):
        super().start(link)
        self.link = link

    def _await(self):
        log = self.link.eval("__import__('machine').Pin.log")
        rise = next(t for t, level in log if level)
        fall = next(t for t, level in log if not level and t >= rise)
        rows = [f"{t},{30000 if t >= rise else 20000},{int(t >= rise)}" for t in range(rise - 1000, fall)]
        self.path.write_text("\n".join(["Timestamp(ms),Current(uA),D0", *rows, f"{fall},20000,0", ""]))
        super()._await()


def test_energy_by_a_recording_with_a_marker_channel(flash, monkeypatch):
    monkeypatch.setattr(meter_csv, "_STABLE_S", 0.05)
    with Board(flash=flash, pretend=PICO, firmware=fake_ina.firmware()) as board, over_tcp(board.port) as url:
        chosen = Analyser("csv", "trace.csv", {"volts": "3.3"}, print)
        found = measure.measure("gesture.a8", url, measure.Options(20, meter=chosen, marker=3))["energy"]
    assert found["idle_mw"] == pytest.approx(66, rel=1e-3) and found["busy_mw"] == pytest.approx(99, rel=1e-2)
    assert "recording trace.csv" in found["how"] and found["n_windows"] > 0


def test_meter_that_needs_a_marker_asks_for_the_pin():
    code, _, error = attn8("bench", "gesture.a8", "--port", "/dev/none", "--meter", "csv:trace.csv,volts=3.3")
    assert code == 2
    assert "--marker-pin" in error


def test_estimate_is_labelled_and_only_for_boards_of_the_table():
    def facts(machine, arch="armv6m", implementation="micropython"):
        return Facts(implementation, (1, 28, 0), machine, "x", (6, 3), arch, 32, None, None, None, 512, (), False)

    found = measure.estimate(facts("Raspberry Pi Pico with RP2040"), 20.0)
    assert found["estimate"] is True and found["board"] == "pico" and found["how"].startswith("estimate")
    assert "an estimate" in measure._energy_lines(found)[0]
    assert measure.estimate(facts("Raspberry Pi Pico with RP2040", "x64"), 20.0) is None
    assert measure.estimate(facts("Some board with RP2040"), 20.0) is None
    assert measure.known_board(facts("Generic ESP32C3 module with ESP32C3", "rv32imc")).name == "esp32c3"
    assert measure.known_board(facts("Raspberry Pi Pico 2 with RP2350", "armv7emsp")).name == "pico2"
    assert measure.known_board(facts("Raspberry Pi Pico W with RP2040")).name == "pico-w"


_RISING = """
import sys
class ADC:
    CORE_TEMP = 4
    n = 0
    def __init__(self, channel):
        self.channel = channel
    def read_u16(self):
        ADC.n += 1
        return 14000 - 8 * ADC.n if self.channel == 4 else 33000
class Machine:
    pass
machine = Machine()
machine.ADC = ADC
sys.modules["machine"] = machine
"""


def test_soak_logs_rows_as_they_come_and_names_the_trend(flash, monkeypatch):
    monkeypatch.setattr(soak, "ROW_S", 0.1)
    with Board(flash=flash, pretend=PICO, firmware=_RISING) as board, over_tcp(board.port) as url:
        found = soak.soak("gesture.a8", url, 1.0, "soak.csv")
    with open("soak.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(found["rows"]) == 10
    assert [float(row["supply_v"]) for row in rows] == [pytest.approx(4.985, abs=0.01)] * 10
    assert float(rows[-1]["die_c"]) > float(rows[0]["die_c"]) > 20
    assert all(float(row["max_ms"]) >= float(row["mean_ms"]) > 0 and int(row["windows"]) > 0 for row in rows)
    trends = found["trends"]
    assert trends["die_c"]["is_trend"] and trends["die_c"]["slope"] > 0
    assert not trends["supply_v"]["is_trend"] and not trends["heap_free_bytes"]["is_trend"]
    assert (found["lost"], found["wrong_outputs"], found["interrupted"]) == (0, 0, False)
    assert re.match(r"over 0\.\d minutes: .*die temperature \+\d.*supply no trend", found["trend"])
    assert "the same outputs each time; 10 rows in soak.csv" in soak.render(found)


def test_soak_of_a_computer_logs_no_times(board, monkeypatch):
    monkeypatch.setattr(soak, "ROW_S", 0.1)
    code, out, error = attn8("bench", "gesture.a8", "--port", board.port, "--soak", "0.3s", "--json")
    found = json.loads(out)
    assert code == 0 and "no board" in error
    assert {row["mean_ms"] for row in found["rows"]} == {None}
    assert "latency not shown" in found["trend"] and "free heap too short to tell" in found["trend"]


def test_soak_survives_a_pulled_cable(board, monkeypatch):
    monkeypatch.setattr(soak, "ROW_S", 0.1)

    def pull(what, done, of):
        assert len(Path("soak.csv").read_text().splitlines()) == done + 1  # on the disk already
        if done == 3:
            board.unplug()

    with pytest.raises(workbench.MeasureError, match=r"3 rows stay in soak\.csv"):
        soak.soak("gesture.a8", board.port, 60, progress=pull)
    assert len(Path("soak.csv").read_text().splitlines()) == 4


def test_soak_ends_with_ctrl_c_and_keeps_its_rows(board, monkeypatch):
    monkeypatch.setattr(soak, "ROW_S", 0.1)

    def stop(what, done, of):
        if done == 2:
            raise KeyboardInterrupt

    found = soak.soak("gesture.a8", board.port, 600, progress=stop)
    assert (found["interrupted"], len(found["rows"]), found["lost"]) == (True, 2, 0)


def test_log_that_is_there_is_not_overwritten():
    Path("soak.csv").write_text("mine")
    code, _, error = attn8("bench", "gesture.a8", "--port", "/dev/none", "--soak", "1m")
    assert code == 1
    assert "soak.csv is there already; name another file" in one_line(error)
    assert Path("soak.csv").read_text() == "mine"


def test_trend_is_named_only_where_it_is_one():
    rng = np.random.default_rng(1)
    t = np.arange(60) / 6
    still, drift = [], []
    for _ in range(200):
        noise = rng.normal(0, 1, 60)
        walk = np.convolve(rng.normal(0, 1, 70), np.ones(11) / 3.3, "valid")  # neighbours are alike
        for values in (noise, walk):
            found, error = soak.slope(list(t), list(values))
            still.append(abs(found) > 3 * error)
        found, error = soak.slope(list(t), list(noise + 0.3 * t))
        drift.append(abs(found) > 3 * error)
    assert np.mean(still) < 0.08
    assert np.mean(drift) > 0.9
    assert soak.slope(list(t), [5.0] * 60)[0] == 0
    assert soak.slope([0, 1], [0, 1]) is None


def test_commands_of_the_readme_run(flash, monkeypatch):
    monkeypatch.setattr(soak, "ROW_S", 60)  # ten rows, each of them ended early below
    Path("gesture.a8").rename("gestures.a8")
    with Board(flash=flash, firmware=fake_ina.firmware()) as board:
        assert attn8("deploy", "gestures.a8", "--port", board.port, "--confirm")[0] == 0
        source = workbench.board_code("soak").replace("row_ms:", "row_ms // 1000:")
        sent = workbench.board_code
        monkeypatch.setattr(soak, "board_code", lambda name: source if name == "soak" else sent(name))
        for line in readme.command("bench_port").splitlines():
            words = line.partition("#")[0].replace("--port a0", f"--port {board.port}").split()
            code, out, error = attn8(*words[1:])
            assert code == 0, error
    assert "trend       over" in out and len(Path("soak.csv").read_text().splitlines()) == 11


def test_what_bench_itself_stops_is_not_started_again():
    class Stopped:
        was_running = False

        def enter(self, restart):
            self.was_running = True  # it saw a KeyboardInterrupt

    stopped = Stopped()
    workbench._regain(stopped)
    assert stopped.was_running is False
