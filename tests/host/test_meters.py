"""Meters: register values of an INA, recordings of analysers whole and damaged, the answers of an Otii."""

import json
import math
import random
import socket
import threading
import time
from contextlib import contextmanager, suppress

import pytest

from attn8.boards import meter_csv, meter_otii
from attn8.boards.meter_csv import choose_marker, read_trace, trace_energy
from attn8.boards.metering import MeterError, Run
from attn8.boards.meters import meter

RUN = Run(idle_s=2.0, busy_s=2.0, n_windows=100)


# INA219 and INA226: figures of the data sheets, SBOS448G and SBOS547.


def ina(kind, **options):
    return meter(f"{kind}:" + ",".join(f"{k}={v}" for k, v in {"sda": 4, "scl": 5, **options}.items()))


def test_power_of_an_ina219_follows_from_its_registers():
    chip = ina("ina219")
    # 40 mV over 0.1 ohm: 4000 counts of 10 uV, times calibration over 4096, are the full scale of the current register.
    assert (chip.config, chip.calibration) == (0x27FF, 33554)
    assert 4000 * chip.calibration // 4096 == 32767
    current = 2000 * chip.calibration // 4096  # 20 mV: 200 mA
    bus = round(5 / 0.004) << 3 | 2  # 5 V, conversion ready
    assert chip.milliwatts(current, bus) == pytest.approx(1000, rel=1e-4)
    assert chip.milliwatts(-current & 65535, bus) == pytest.approx(-1000, rel=1e-3)


def test_power_of_an_ina226_follows_from_its_registers():
    chip = ina("ina226")
    assert (chip.config, chip.calibration) == (0x4927, 2048)
    # With this calibration the current register is the shunt register: 2.5 uV a count.
    assert chip.current_lsb_a == pytest.approx(2.5e-6 / 0.1)
    assert chip.milliwatts(8000, 2640) == pytest.approx(200 * 3.3, rel=1e-6)  # 20 mV, 3.3 V


@pytest.mark.parametrize(
    ("kind", "options", "config", "full_scale_v"),
    [
        ("ina219", {"max": 0.4}, 0x27FF, 0.04),
        ("ina219", {"max": 0.5}, 0x2FFF, 0.08),
        ("ina219", {"max": 1.6}, 0x37FF, 0.16),
        ("ina219", {"max": 3.2}, 0x3FFF, 0.32),
        ("ina219", {"max": 0.3, "shunt": 1}, 0x3FFF, 0.32),
        ("ina226", {"max": 8.0, "shunt": 0.01}, 0x4927, 0.08192),
    ],
)
def test_range_is_the_smallest_that_holds_the_current(kind, options, config, full_scale_v):
    chip = ina(kind, **options)
    assert (chip.config, chip.full_scale_v) == (config, full_scale_v)
    assert 2 <= chip.calibration <= 65534 and chip.calibration % 2 == 0


def test_current_over_the_range_is_an_error():
    with pytest.raises(MeterError, match=r"max: got 0\.9 A, expected at most 0\.819 A with a shunt of 0\.1 ohm"):
        ina("ina226", max=0.9)
    for kind, current, bus in (("ina219", 100, 10000 | 1), ("ina219", 32767, 10000), ("ina226", 32768, 4000)):
        with pytest.raises(MeterError, match="the current is over its range"):
            ina(kind).milliwatts(current, bus)


def test_energy_of_an_ina_is_over_idle_with_its_resolution():
    chip = ina("ina226")
    # 4000 counts of 25 uA at 5 V: 500 mW; 6000: 750 mW; 20 ms a window.
    found = chip.stop(Run(2.0, 2.0, 100, [(4000, 4000)] * 3, [(6000, 4000)] * 3))
    assert found["window_uj"] == pytest.approx(750 * 20) and found["above_idle_uj"] == pytest.approx(250 * 20)
    assert found["error_uj"] == pytest.approx(2.5e-6 / 0.1 * 5 * 1000 * 20)
    assert found["below_resolution"] is False
    near = chip.stop(Run(2.0, 2.0, 100, [(4000, 4000)] * 3, [(4001, 4000)] * 3))
    assert near["below_resolution"] is True
    noisy = chip.stop(Run(2.0, 2.0, 100, [(4000, 4000)] * 3, [(3000, 4000), (9000, 4000), (6000, 4000)]))
    assert noisy["error_uj"] == pytest.approx(20 * 0.125 * 3000 / math.sqrt(3))
    with pytest.raises(MeterError, match="1 and 0 readings came"):
        chip.stop(Run(2.0, 2.0, 100, [(1, 1)], []))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("volt", "unknown meter 'volt'; expected one of: ina219, ina226, csv, otii"),
        ("ina219", "its pins are missing"),
        ("ina219:sda=4", "its pins are missing"),
        ("ina219:sda=x,scl=5", "sda: got 'x'"),
        ("ina219:sda=4,scl=5,shunt=0", "shunt: got '0', expected a number above 0"),
        ("ina219:sda=4,scl=5,shunt=nan", "shunt: got 'nan'"),
        ("ina219:sda=4,scl=5,gain=2", "unknown option 'gain'"),
        ("ina219:x", "got 'x', expected options"),
        ("csv:", "no file"),
        ("csv:a.csv,volts=-1", "volts: got '-1'"),
        ("otii:host:port", "expected otii:HOST:PORT"),
    ],
)
def test_meter_that_cannot_be_is_one_line(text, says):
    with pytest.raises(MeterError) as caught:
        meter(text)
    assert says in str(caught.value) and "\n" not in str(caught.value)


# Recordings.


def recorded(path, text):
    path.write_text(text, encoding="utf-8")
    return path


def rows(head, row, n=6000, separator=","):
    """A recording at 1 kHz: 10 mA at rest, 20 from 3 s to 5 s, where the marker is high."""
    made = [separator.join(map(str, row(i, 20 if 3000 <= i < 5000 else 10, int(3000 <= i < 5000)))) for i in range(n)]
    return "\n".join([head, *made, ""])


FORMATS = {
    "ppk2": (rows("Timestamp(ms),Current(uA),D0,D1", lambda i, ma, on: (i, ma * 1000, 0, on)), 3.3),
    "ppk2_bits": (rows("Timestamp(ms),Current(uA),D0-D7", lambda i, ma, on: (i, ma * 1000, f"00{on}00000")), 3.3),
    "joulescope": (
        rows("#time (s),current (A),voltage (V),gpi0", lambda i, ma, on: (i / 1e3, ma / 1e3, 3.3, on)),
        None,
    ),
    "power": (rows("Time [us],Power [mW],marker", lambda i, ma, on: (i * 1000, ma * 3.3, on)), None),
    "semicolons": (
        rows("Time (s);Current (mA);In", lambda i, ma, on: (f"{i / 1e3}".replace(".", ","), ma, on), separator=";"),
        3.3,
    ),
    "preamble": (
        "made by hand\n\n" + rows("time (s)\tcurrent (mA)\tD4", lambda i, ma, on: (i / 1e3, ma, on), 6000, "\t"),
        3.3,
    ),
}


@pytest.mark.parametrize("name", FORMATS)
def test_recordings_of_analysers_are_read_by_names_and_units(tmp_path, name):
    text, volts = FORMATS[name]
    path = recorded(tmp_path / "trace.csv", text)
    trace = read_trace(path, volts)
    found = trace_energy(trace, choose_marker(trace, None, path), RUN, path, "recording")
    assert len(trace.seconds) == 6000
    assert (found["idle_mw"], found["busy_mw"]) == (pytest.approx(33, rel=1e-3), pytest.approx(66, rel=1e-3))
    assert found["window_uj"] == pytest.approx(66 * 20, rel=1e-3)
    assert found["above_idle_uj"] == pytest.approx(33 * 20, rel=1e-2)
    assert "at 1,000 Hz" in found["how"] and found["n_windows"] == 100


def test_marker_is_the_one_that_is_named_or_the_only_one_that_changes(tmp_path):
    text = rows("Timestamp(ms),Current(uA),D0,D1", lambda i, ma, on: (i, ma, i // 100 % 2, on))
    trace = read_trace(recorded(tmp_path / "t.csv", text), 3.3)
    with pytest.raises(MeterError, match=r"2 channels change \(D0, D1\), expected one"):
        choose_marker(trace, None, "t.csv")
    assert choose_marker(trace, "D1", "t.csv").count(1) == 2000
    with pytest.raises(MeterError, match="no marker channel 'D7'; the file has D0, D1"):
        choose_marker(trace, "D7", "t.csv")
    still = read_trace(recorded(tmp_path / "s.csv", rows("time (s),current (A),D0", lambda i, *_: (i, 1, 0))), 3.3)
    with pytest.raises(MeterError, match="no channel goes high"):
        choose_marker(still, None, "s.csv")


def test_recording_of_another_run_is_told(tmp_path):
    path = recorded(tmp_path / "t.csv", FORMATS["ppk2"][0])
    trace = read_trace(path, 3.3)
    levels = choose_marker(trace, None, path)
    with pytest.raises(MeterError, match="high for 2 s at most, the board ran windows for 7 s"):
        trace_energy(trace, levels, Run(2.0, 7.0, 100), path, "recording")
    late = read_trace(
        recorded(
            tmp_path / "late.csv",
            "\n".join(FORMATS["ppk2"][0].splitlines()[:1] + FORMATS["ppk2"][0].splitlines()[2990:]),
        ),
        3.3,
    )
    with pytest.raises(MeterError, match="too few samples"):
        trace_energy(late, choose_marker(late, None, path), RUN, path, "recording")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no header"),
        ("hello\n" * 30, "no header"),
        ("Current(uA),D0\n1,2\n", "no header"),
        ("time (s),D0\n1,0\n", "expected a column of current or power"),
        ("time (s),current (A),D0\n1,1,0\n", "no column of voltage; give the supply, such as volts=3.3"),
        ("time (s),current (A),in (mA),D0\n", "2 columns of current: current (A), in (mA)"),
        ("time (s),power (W),D0\n1,2,0\n2,x,0\n3,1,0\n", "line 3: got '2,x,0'"),
        ("time (s),power (W),D0\n1,2,0\n2\n3,1,0\n", "line 3: got '2'"),
        ("time (s),power (W),D0\n1,inf,0\n", "line 2"),
        ("time (s),power (W),D0\nnan,1,0\n", "line 2"),
        ("time (s),power (W),D0\n2,1,0\n1,1,0\n", "line 3: the time goes back"),
        ("time (s),power (W),D0\n" + "1,nan,0\n" * 50, "50 samples are missing"),
        ("time (s),power (W),D0\n" + "1" * 5000, "line 2: longer than 4096 characters"),
        ("\x00" * 9000, "longer than 4096"),
    ],
)
def test_damaged_recording_is_one_line(tmp_path, text, says):
    with pytest.raises(MeterError) as caught:
        read_trace(recorded(tmp_path / "t.csv", text))
    assert says in str(caught.value) and "\n" not in str(caught.value)


def test_file_that_is_no_text_or_not_there_is_one_line(tmp_path):
    (tmp_path / "t.csv").write_bytes(b"\xff\xfe\x00\x80" * 100)
    for path in (tmp_path / "t.csv", tmp_path / "none.csv", tmp_path):
        with pytest.raises(MeterError, match="cannot be read"):
            read_trace(path)


def test_recording_that_was_cut_in_its_last_line_is_read(tmp_path):
    trace = read_trace(recorded(tmp_path / "t.csv", "time (s),power (W),D0\n1,2,0\n2,2,0\n3,"))
    assert list(trace.seconds) == [1, 2]


def test_damaged_recordings_end_in_a_sentence_or_a_trace(tmp_path):
    rng, good = random.Random(1), rows("Timestamp(ms),Current(uA),D0-D7", lambda i, ma, on: (i, ma, f"{on}0000000"), 40)
    n_refused = 0
    for i in range(400):
        data = bytearray(good.encode())
        for _ in range(rng.randint(1, 6)):
            at = rng.randrange(len(data))
            data[at : at + rng.randint(0, 3)] = bytes(rng.randrange(256) for _ in range(rng.randint(0, 3)))
        path = tmp_path / f"{i}.csv"
        path.write_bytes(data)
        try:
            trace = read_trace(path, 3.3)
            trace_energy(trace, choose_marker(trace, None, path), RUN, path, "recording")
        except MeterError as error:
            n_refused += 1
            assert "\n" not in str(error)
    assert n_refused > 100


def test_recording_is_awaited_until_it_is_whole(tmp_path, monkeypatch):
    monkeypatch.setattr(meter_csv, "_STABLE_S", 0.05)
    path, said = tmp_path / "t.csv", []
    path.write_text("an old one")
    found = meter(f"csv:{path},volts=3.3,marker=D1", said.append)
    found.began = time.time() + 2  # what is there is older
    threading.Timer(0.2, lambda: (path.write_text(FORMATS["ppk2"][0]), setattr(found, "began", 0))).start()
    assert found.stop(RUN)["busy_mw"] == pytest.approx(66, rel=1e-3)
    assert "export it as" in said[0]
    monkeypatch.setattr(meter_csv, "_WAIT_S", 0.1)
    gone = meter(f"csv:{tmp_path / 'none.csv'}")
    with pytest.raises(MeterError, match="no recording came within"):
        gone.stop(RUN)


# Otii.


@contextmanager
def otii(answer):
    """Gives the port of a server that speaks JSON lines; ``answer(request)`` returns data, or an error as str."""
    server, requests = socket.create_server(("127.0.0.1", 0)), []

    def serve():
        client = server.accept()[0]
        with suppress(OSError), client, client.makefile("rwb") as file:  # the other end may be tired of it
            file.write(b'{"type": "information", "info": "connected"}\r\n')
            file.flush()
            for line in file:
                request = json.loads(line)
                requests.append(request)
                found = answer(request)
                reply = {"trans_id": request["trans_id"], "cmd": request["cmd"]}
                if isinstance(found, bytes):
                    file.write(found)
                elif isinstance(found, str):
                    file.write(json.dumps({**reply, "type": "error", "errorcode": found}).encode() + b"\r\n")
                else:
                    file.write(b'{"type": "progress"}\r\n')
                    file.write(json.dumps({**reply, "type": "response", "data": found}).encode() + b"\r\n")
                file.flush()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield f"otii:127.0.0.1:{server.getsockname()[1]}", requests
    finally:
        server.close()


def answers(**changes):
    """Returns an answer function: 3.3 V and 10 mA for the first 2 s of the recording, then 20 mA."""

    def answer(request):
        data, known = (
            request.get("data", {}),
            {
                "otii_has_license": {"has_license": True},
                "otii_get_devices": {"devices": [{"device_id": "ace1", "type": "Ace", "name": "Ace"}]},
                "otii_get_active_project": {"project_id": 7},
                "project_get_last_recording": {"recording_id": 9, "name": "1"},
            },
        )
        if request["cmd"] in changes:
            return changes[request["cmd"]]
        if request["cmd"] == "recording_get_channel_statistics":
            assert (data["recording_id"], data["device_id"], data["from"] < data["to"]) == (9, "ace1", True)
            return {"average": 3.3 if data["channel"] == "mv" else 0.010 if data["to"] <= 2 else 0.020}
        return known.get(request["cmd"], {})

    return answer


def measured(name):
    found = meter(name)
    found.start(None)
    found.marks = {"I": 0.0, "B": 2.0, "D": 4.0}
    return found.stop(RUN)


def test_otii_gives_the_energy_of_both_phases():
    with otii(answers()) as (name, requests):
        found = measured(name)
    assert (found["idle_mw"], found["busy_mw"]) == (pytest.approx(33), pytest.approx(66))
    assert found["above_idle_uj"] == pytest.approx(33 * 20) and "Otii" in found["how"]
    commands = [request["cmd"] for request in requests]
    assert commands.index("project_start_recording") < commands.index("project_stop_recording")
    assert len({request["trans_id"] for request in requests}) == len(requests)
    assert "password" not in json.dumps(requests)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"otii_has_license": {"has_license": False}}, "no licence for automation"),
        ({"otii_has_license": "No license"}, "refused (No license)"),
        ({"otii_get_devices": {"devices": []}}, "0 devices are connected"),
        ({"otii_get_devices": {"devices": "many"}}, "0 devices are connected"),
        ({"otii_get_active_project": b"[[[\r\n"}, "is it an Otii server?"),
        ({"otii_get_active_project": b"[" * 100_000 + b"\r\n"}, "is it an Otii server?"),
        ({"project_start_recording": "Recording is ongoing"}, "refused (Recording is ongoing)"),
        ({"recording_get_channel_statistics": {"average": None}}, "channel mc: got None"),
        ({"recording_get_channel_statistics": []}, "channel mc: got None"),
        ({"recording_get_channel_statistics": {"average": 10**400}}, "channel mc: got 1000"),
    ],
)
def test_otii_that_cannot_measure_is_one_line(changes, says):
    with otii(answers(**changes)) as (name, _), pytest.raises(MeterError) as caught:
        measured(name)
    assert says in str(caught.value) and "\n" not in str(caught.value)


def test_otii_that_never_answers_is_given_up(monkeypatch):
    monkeypatch.setattr(meter_otii, "_OTII_ANSWER_S", 0.5)
    for endless in (
        b'{"type": "progress"}\r\n' * 500_000,
        b"x" * 900_000 + b"\r\n",
        b'{"trans_id": "9"}\r\n' * 500_000,
    ):
        with (
            otii(answers(otii_get_devices=endless)) as (name, _),
            pytest.raises(MeterError, match="no answer to otii_get"),
        ):
            measured(name)


@pytest.mark.parametrize("name", ["otii:host:99999", "otii:..:1", f"otii:{'a' * 300}:1", "otii:127.0.0.1:-5"])
def test_otii_at_no_address_is_one_line(name):
    with pytest.raises(MeterError, match="nobody answers at"):
        meter(name).start(None)


def test_otii_that_is_not_there_is_one_line(monkeypatch):
    monkeypatch.setattr(meter_otii, "_OTII_S", 0.2)
    with pytest.raises(MeterError, match=r"nobody answers at 127\.0\.0\.1:1 .*start the server"):
        meter("otii:127.0.0.1:1").start(None)
    with otii(lambda request: b"") as (name, _), pytest.raises(MeterError, match="no answer to otii_has_license"):
        meter(name).start(None)
