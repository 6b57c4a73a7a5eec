"""CSV recordings: headers, cells, time, gaps and rates; every fault is one sentence."""

import os
import time
from types import SimpleNamespace

import numpy as np
import pytest

from attn8.config import DataConfig
from attn8.data import grid, load_recordings, load_windows, load_x
from attn8.data.csv_folder import Column, _common_channels, parse_header, time_unit
from attn8.errors import DataError

RATE, N = 50, 200


def values(n=N, n_channels=3, seed=0):
    return np.round(np.random.default_rng(seed).normal(size=(n, n_channels)), 3)


def text(samples, times=None, header="ax [g],ay [g],az [g]", column="time [s]"):
    """CSV text of samples (S, C); ``times`` are texts or numbers."""
    rows = [",".join(map(repr, row)) for row in samples.tolist()]
    if times is None:
        return "\n".join([header, *rows]) + "\n"
    return "\n".join([f"{column},{header}", *(f"{t},{row}" for t, row in zip(times, rows, strict=True))]) + "\n"


def seconds(n=N, rate=RATE):
    return [f"{i / rate:.6g}" for i in range(n)]


def good(seed=0):
    return text(values(seed=seed), seconds())


def folder(tmp_path, first=None, others=True, name="wave/anna_1.csv"):
    """A set of two labels and two people whose first file is ``first``, text or bytes."""
    files = {f"{label}/{who}_1.csv": good(i) for i, (label, who) in enumerate(PEOPLE)} if others else {}
    files[name] = good() if first is None else first
    for path, content in files.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(content if isinstance(content, bytes) else content.encode())
    return tmp_path


def same_of_all(tmp_path, content):
    """The same samples from all people, in files that differ by a comment."""
    for label, who in PEOPLE:
        folder(tmp_path, f"{content}# {label} {who}\n", others=False, name=f"{label}/{who}_1.csv")
    return tmp_path


PEOPLE = [("wave", "anna"), ("wave", "ben"), ("rest", "anna"), ("rest", "ben")]


def config(**changes):
    return DataConfig(**{"window": 32, "hop": 32, **changes})


def read(tmp_path, first=None, **changes):
    return load_recordings(config(**changes), folder(tmp_path, first))


def first_of(set_):
    return next(r for r in set_.recordings if r.name == "wave/anna_1.csv")


def fault_of(tmp_path, first, **changes):
    """The sentence of the only fault; the same as an error in strict mode."""
    set_ = read(tmp_path, first, **changes)
    assert len(set_.faults) == 1
    with pytest.raises(DataError) as caught:
        load_recordings(config(**changes, strict=True), tmp_path)
    assert str(caught.value) == set_.faults[0].text
    assert "\n" not in set_.faults[0].text
    return set_.faults[0]


# ---- header and cells


def test_values_units_and_rate_are_those_of_the_file(tmp_path):
    set_ = read(tmp_path)
    assert (set_.kind, set_.channels, set_.units) == ("csv", ["ax", "ay", "az"], ["g"] * 3)
    assert set_.sample_rate_hz == RATE and set_.counts_per_unit is None
    assert np.array_equal(first_of(set_).samples, values())
    assert not set_.faults and set_.lines() == ["read 4 of 4 files"]


DIALECTS = ["bom", "crlf", "cr", "tab", "semicolon", "decimal_comma", "spaces", "comments", "quotes"]
DIALECTS += ["trailing_comma", "trailing_comma_in_rows", "index", "unit", "no_last_newline"]


@pytest.mark.parametrize(
    "change",
    [
        lambda t: t.encode("utf-8-sig"),
        lambda t: t.replace("\n", "\r\n"),
        lambda t: t.replace("\n", "\r"),
        lambda t: t.replace(",", "\t"),
        lambda t: t.replace(",", ";"),
        lambda t: t.replace(",", ";").replace(".", ","),
        lambda t: t.replace(",", ", "),
        lambda t: "# from my logger\n\n" + t.replace("\n", "\n\n# a comment\n"),
        lambda t: '"' + t.replace(",", '","').replace("\n", '"\n"')[:-1],
        lambda t: t.replace("\n", ",\n"),
        lambda t: t.replace("\n", ",\n").replace(",\n", "\n", 1),
        lambda t: "".join(f"{'' if i == 0 else i},{line}\n" for i, line in enumerate(t.splitlines())),
        lambda t: t.replace("ax [g]", "ax (g)"),
        lambda t: t.rstrip("\n"),
    ],
    ids=DIALECTS,
)
def test_dialects_give_the_same_values(tmp_path, change):
    set_ = read(tmp_path, change(good()))
    assert not set_.faults
    assert np.array_equal(first_of(set_).samples, values())


def test_integers_are_counts_and_floats_are_scaled(tmp_path):
    counts = np.random.default_rng(0).integers(-32768, 32768, (N, 3))
    counts[0] = -32768, 32767, -32768
    same_of_all(tmp_path, text(counts, header="ax,ay [raw],az"))
    windows = load_windows(config(), tmp_path)
    assert np.array_equal(windows.x[1], counts[32:64]) and windows.counts_per_unit.tolist() == [1, 1, 1]
    assert windows.units == ["count", "raw", "count"] and windows.sample_rate_hz == 0
    folder(tmp_path, text(counts + 0.5, header="ax,ay [raw],az"), others=False, name="wave/dora.csv")
    assert load_recordings(config(), tmp_path).counts_per_unit is None
    assert load_windows(config(), tmp_path).counts_per_unit.tolist() == [0.25, 0.5, 0.25]


def test_float_data_are_brought_to_the_scale_of_a_model(tmp_path):
    windows = load_windows(config(), folder(tmp_path), np.array([100, 200, 300]))
    assert windows.counts_per_unit.tolist() == [100, 200, 300]
    assert windows.recording_names[2] == "wave/anna_1.csv"
    first = windows.x[windows.recording == 2][0]
    assert np.array_equal(first, np.rint(values()[:32] * [100, 200, 300]))


def test_data_channels_select_and_order_and_the_rest_may_be_text(tmp_path):
    lines = good().splitlines()
    more = "\n".join([lines[0] + ",mood", *(line + ",happy" for line in lines[1:])])
    set_ = read(tmp_path, more, channels=["az", "ax"])
    assert set_.channels == ["az", "ax"] and not set_.faults
    assert np.array_equal(first_of(set_).samples, values()[:, [2, 0]])
    assert set_.notes == ["4 files: columns that data.channels does not name are ignored"]


def test_columns_in_another_order_are_put_in_order(tmp_path):
    samples = values()
    set_ = read(tmp_path, text(samples[:, ::-1], seconds(), header="az [g],ay [g],ax [g]"))
    assert np.array_equal(first_of(set_).samples, samples) and set_.channels == ["ax", "ay", "az"]


def edit(line, old, new):
    """good() with a change in one line, counted from 1."""
    lines = good().splitlines(keepends=True)
    assert old in lines[line - 1]
    lines[line - 1] = lines[line - 1].replace(old, new)
    return "".join(lines)


def without_header():
    return "\n".join(good().splitlines()[1:]) + "\n"


FAULTS = {
    "text": (lambda: edit(17, values()[15, 1].astype(str), "abc"), "value", "line 17, column ay: got 'abc'"),
    "control": (lambda: edit(17, values()[15, 1].astype(str), "a\x1b[2Jb"), "value", r"got 'a\x1b[2Jb'"),
    "underscore": (lambda: edit(17, values()[15, 1].astype(str), "1_0"), "value", "line 17, column ay: got '1_0'"),
    "inf": (lambda: edit(17, values()[15, 1].astype(str), "-inf"), "value", "line 17, column ay: got -inf"),
    "large": (lambda: edit(17, values()[15, 1].astype(str), "1e31"), "value", "line 17, column ay: got 1e+31"),
    "cells": (lambda: edit(9, ",", ",1,"), "value", "line 9: got 7 cells ('0.14,1,"),
    "no_header": (without_header, "header", "line 1: got numbers, expected a header with the channel names"),
    "no_rows": (lambda: good().splitlines()[0], "value", "no rows behind the header"),
    "empty": (lambda: "", "header", "an empty file"),
    "latin": (lambda: good().encode() + b"# caf\xe9\n", "unreadable", f"line {N + 2}: got bytes that are no UTF-8"),
    "utf16": (lambda: good().encode("utf-16"), "unreadable", "UTF-16"),
    "binary": (lambda: bytes(range(256)) * 9, "unreadable", "UTF-8"),
    "missing": (lambda: good().replace(",az [g]", ",aq [g]", 1), "channels", "got no az, expected ax, ay, az"),
    "unit": (lambda: good().replace("ay [g]", "ay [m/s2]"), "channels", "column ay: got the unit 'm/s2', expected 'g'"),
    "twice": (lambda: good().replace("ay [g]", "ax [g]"), "header", "'ax' twice"),
    "no_name": (lambda: good().replace("ay [g]", "[g]").replace("[g]", "", 2), "header", "header"),
    "long_name": (lambda: good().replace("ay", "a" * 33), "header", "at most 32"),
    "long_line": (lambda: good() + "1" * 70_000 + "\n", "value", "70001 characters, expected at most 65536"),
    "wide": (lambda: ",".join(f"c{i}" for i in range(300)) + "\n", "header", "300 channels, expected 1..256"),
    "back": (lambda: edit(17, "0.3,", "0.25,"), "time", "line 17, column time: got 0.25 behind 0.28"),
    "same": (lambda: edit(17, "0.3,", "0.28,"), "time", "line 17, column time: got 0.28 behind 0.28"),
    "no_time": (lambda: edit(17, "0.3,", ","), "time", "line 17, column time: got no time"),
    "time_text": (lambda: edit(17, "0.3,", "noon,"), "value", "line 17, column time: got 'noon', expected a number"),
    "slow": (lambda: text(values(), seconds(rate=1e-4)), "rate", "a step of 10000 s"),
    "other_rate": (lambda: text(values(), seconds(rate=2)), "rate", "got 2 Hz, expected 50 Hz within a factor of 10"),
    "nothing": (
        lambda: text(values()[:, :2], seconds(), "ax [g],ay [g]").replace("\n", ",\n").replace(",\n", ",az\n", 1),
        "value",
        "column az: got no number in any row",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_every_fault_leaves_one_file_out_and_names_the_place(tmp_path, name):
    make, kind, words = FAULTS[name]
    fault = fault_of(tmp_path, make())
    assert (fault.kind, fault.file) == (kind, "wave/anna_1.csv")
    assert fault.text.startswith("wave/anna_1.csv: ") and "; " in fault.text and ", expected " in fault.text
    assert words in fault.text if name != "no_name" else fault.text
    set_ = load_recordings(config(), tmp_path)
    assert set_.lines()[-2:] == [f"left out {fault.text}", "read 3 of 4 files"]


def test_a_last_line_that_was_cut_by_power_loss_costs_only_itself(tmp_path):
    set_ = read(tmp_path, good() + "4.0,0.1")
    assert not set_.faults and np.array_equal(first_of(set_).samples, values())
    assert set_.notes == ["1 file: the last line is cut short and not used"]


def test_two_faults_alike_are_summed_up_after_five(tmp_path):
    folder(tmp_path)
    for number in range(8):
        (tmp_path / f"rest/dora_{number}.csv").write_text("ax,ay,az\n1,2,x\n")
    notes = load_windows(config(), tmp_path).notes
    assert sum(note.startswith("left out rest/dora") for note in notes) == 5
    assert notes[-2:] == ["and 3 more like this", "read 4 of 12 files"]


def test_too_large_a_file_is_not_read(tmp_path):
    folder(tmp_path)
    with open(tmp_path / "wave/anna_1.csv", "wb") as stream:
        stream.truncate(300 << 20)
    assert "314572800 bytes, more than" in load_recordings(config(), tmp_path).faults[0].text


def test_pipes_and_devices_are_not_opened(tmp_path):
    folder(tmp_path)
    os.mkfifo(tmp_path / "wave/pipe.csv")
    (tmp_path / "wave/null.csv").symlink_to("/dev/zero")
    (tmp_path / "wave/loop.csv").symlink_to(tmp_path / "wave/loop.csv")
    faults = load_recordings(config(), tmp_path).faults
    assert [fault.kind for fault in faults] == ["unreadable"] * 3
    assert "a link out of the folder" in " ".join(fault.text for fault in faults)


def test_a_hundred_thousand_rows_read_in_a_second(tmp_path):
    for label, who in PEOPLE:
        folder(tmp_path, None, name=f"{label}/{who}_1.csv")
    (tmp_path / "wave/anna_1.csv").write_text(text(values(100_000), seconds(100_000)))
    started = time.process_time()
    load_recordings(config(), tmp_path)
    assert time.process_time() - started < 3  # measured 0.4 s; the rest is room for a slow machine


# ---- time


@pytest.mark.parametrize(
    ("column", "unit"),
    [
        ("time [s]", 1), ("time", 0), ("t", 0), ("T", None), ("t [C]", None), ("Timestamp", 0), ("time_ms", 1e-3),
        ("time [ms]", 1e-3), ("Time (us)", 1e-6), ("timestamp_us", 1e-6), ("t_ns", 1e-9), ("millis", 1e-3),
        ("micros", 1e-6), ("ms", 1e-3), ("temperature", None), ("ms [V]", None), ("times", None), ("s", None),
    ],
)  # fmt: skip
def test_time_columns_are_known_by_name_and_unit(column, unit):
    header = parse_header(f"{column},ax")
    assert (header.time and time_unit(header.time)) == unit


@pytest.mark.parametrize(
    ("column", "scale", "word"),
    [("time", 1, "s"), ("time", 1e3, "ms"), ("t [us]", 1e6, ""), ("time_ns", 1e9, "")],
)
def test_units_of_time_give_one_rate_and_a_guess_is_noted(tmp_path, column, scale, word):
    times = [f"{i * scale / RATE:.9g}" for i in range(N)]
    set_ = read(tmp_path, text(values(), times, column=column))
    assert set_.sample_rate_hz == RATE and np.array_equal(first_of(set_).samples, values())
    assert [note for note in set_.notes if f"taken as {word};" in note] == (set_.notes if word else [])


def test_epoch_times_without_unit_are_taken_by_their_size(tmp_path):
    times = [1_790_000_000_000_000_000 + i * 20_000_000 for i in range(N)]
    set_ = read(tmp_path, text(values(), times, column="time"))
    assert "taken as ns" in set_.notes[0] and np.array_equal(first_of(set_).samples, values())


def test_dates_give_the_rate(tmp_path):
    times = [f"2026-03-29T00:59:{i / RATE:09.6f}+01:00" for i in range(N)]
    set_ = read(tmp_path, text(values(), times, column="timestamp"))
    assert not set_.faults and not set_.notes and np.array_equal(first_of(set_).samples, values())
    times[7] = "2026-03-29 late"
    assert "expected a date and time as in" in fault_of(tmp_path, text(values(), times, column="timestamp")).text


@pytest.mark.parametrize("rate", [400, 60, 700, 1000, 30, 8])
def test_whole_milliseconds_neither_shift_the_rate_nor_count_as_jitter(rate):
    times = np.floor(np.arange(2000) * 1000 / rate) * 1e-3
    step = grid.typical_step(times, 1e-3)
    assert abs(step * rate - 1) < 2e-3
    stretches, gaps, uneven = grid.regular_stretches(values(2000), times / step, 0.1 + 1e-3 / step, 1.0, 3)
    assert len(stretches) == 1 and not gaps and not uneven
    assert np.array_equal(stretches[0].samples, values(2000))


def test_most_common_rate_wins_and_is_rounded():
    assert grid.common_rate([49.97, 50.02, 50.01, 100, 99.5]) == 50
    assert grid.common_rate([1125, 1125.01]) == 1125
    assert grid.common_rate([16.6667]) == 16.67


def test_jitter_is_brought_to_a_regular_grid(tmp_path):
    t = np.arange(N) / RATE
    taken = t + np.random.default_rng(3).uniform(-0.4, 0.4, N) / RATE
    taken[0] = 0
    wave = np.stack([np.sin(2 * np.pi * f * taken) for f in (0.5, 1, 2)], 1)
    set_ = read(tmp_path, text(wave, taken.tolist()))
    found = first_of(set_).samples
    true = np.stack([np.sin(2 * np.pi * f * t) for f in (0.5, 1, 2)], 1)
    assert set_.sample_rate_hz == RATE and abs(len(found) - N) <= 4
    assert np.abs(found - true[: len(found)]).max() < 0.06 < np.abs(wave - true).max()
    assert set_.notes == ["1 file: uneven time stamps, brought to a regular 50 Hz by linear interpolation"]


def test_another_rate_is_brought_to_that_of_the_set_without_aliasing(tmp_path):
    t = np.arange(4 * N) / (4 * RATE)
    wave = np.stack([np.sin(2 * np.pi * f * t) for f in (1, 3, 98)], 1)
    set_ = read(tmp_path, text(wave, seconds(4 * N, 4 * RATE)))
    found = first_of(set_).samples
    assert set_.sample_rate_hz == RATE and len(found) == N
    assert np.abs(found[1:-1, :2] - wave[::4, :2][1:-1]).max() < 0.02
    assert np.abs(found[1:-1, 2]).max() < 0.1  # 98 Hz would alias to 2 Hz
    assert set_.notes == ["1 file: recorded at 200 Hz, brought to 50 Hz"]


def test_the_configured_rate_wins(tmp_path):
    set_ = read(tmp_path, sample_rate_hz=25.0)
    assert set_.sample_rate_hz == 25 and {len(r.samples) for r in set_.recordings} == {100}
    set_ = load_recordings(config(sample_rate_hz=50.5), tmp_path)  # within 2 %: nothing is touched
    assert set_.sample_rate_hz == 50.5 and np.array_equal(first_of(set_).samples, values())


def test_counts_stay_counts_where_they_are_interpolated(tmp_path):
    same_of_all(tmp_path, text(np.arange(3 * N).reshape(N, 3) % 1000, seconds(), header="a,b,c"))
    set_ = load_recordings(config(sample_rate_hz=40.0), tmp_path)
    assert set_.recordings[0].samples.dtype == np.int16 and set_.counts_per_unit.tolist() == [1, 1, 1]


# ---- gaps


def test_a_short_gap_is_interpolated_and_counted(tmp_path):
    lines = good().splitlines(keepends=True)
    set_ = read(tmp_path, "".join(lines[:51] + lines[53:]))
    found = first_of(set_)
    assert found.filled == 2 and len(found.samples) == N
    kept = np.r_[0:50, 52:N]
    assert np.array_equal(found.samples[kept], values()[kept])
    ends = values()[[49, 52]]
    assert np.allclose(found.samples[50:52], ends[0] + np.outer([1 / 3, 2 / 3], ends[1] - ends[0]))
    assert set_.notes == ["2 missing samples filled by linear interpolation"]


@pytest.mark.parametrize("empty", ["", "nan", "NA", "null"])
def test_empty_cells_are_missing_samples(tmp_path, empty):
    first = edit(52, values()[50, 2].astype(str), empty)
    found = first_of(read(tmp_path, first))
    assert found.filled == 1 and np.allclose(found.samples[50], values()[[49, 51]].mean(0))


def test_a_long_gap_cuts_the_recording_in_two(tmp_path):
    lines = good().splitlines(keepends=True)
    fault = fault_of(tmp_path, "".join(lines[:61] + lines[67:]))
    assert fault.kind == "gap"
    assert "line 61: got 6 missing samples (0.12 s) after it, expected at most data.max_gap = 3" in fault.text
    set_ = load_recordings(config(), tmp_path)
    two = [r for r in set_.recordings if r.file == "wave/anna_1.csv"]
    assert [(r.name, r.start, len(r.samples)) for r in two] == [
        ("wave/anna_1.csv", 0, 60),
        ("wave/anna_1.csv:2", 66, N - 66),
    ]
    assert two[0].group == two[1].group and set_.lines()[-1] == "read 4 of 4 files"
    assert np.array_equal(two[1].samples, values()[66:])
    assert load_recordings(config(max_gap=6), tmp_path).recordings[2].filled == 6


def test_windows_never_cross_a_gap_and_know_where_they_start(tmp_path):
    lines = good().splitlines(keepends=True)
    windows = load_windows(config(hop=8), folder(tmp_path, "".join(lines[:61] + lines[67:])))
    all_samples = values() * windows.counts_per_unit
    for number, start in zip(windows.recording, windows.start, strict=True):
        if windows.recording_names[number].startswith("wave/anna_1"):
            x = windows.x[(windows.recording == number) & (windows.start == start)][0]
            assert np.array_equal(x, np.rint(all_samples[start : start + 32]))
            assert start + 32 <= 60 or start >= 66
    assert windows.recording_names[3] == "wave/anna_1.csv:2"


def test_bursts_of_time_stamps_are_one_fault(tmp_path):
    times = np.cumsum(np.where(np.arange(400) % 4 == 3, 0.08, 0.01))
    assert "long gaps and" in fault_of(tmp_path, text(values(400), times.tolist())).text


def test_more_filling_than_samples_is_one_fault(tmp_path):
    times = np.cumsum(np.where(np.arange(N) % 10 == 9, 20.0, 0.02))
    fault = fault_of(tmp_path, text(values(), times.tolist()), max_gap=1000)
    assert fault.kind == "time" and "0 long gaps and 19" in fault.text


def test_recordings_shorter_than_a_window_are_one_fault(tmp_path):
    folder(tmp_path, text(values(20), seconds(20)))
    (tmp_path / "rest/cleo_1.csv").write_text(text(values(30), seconds(30)))
    set_ = load_recordings(config(), tmp_path)
    assert [fault.kind for fault in set_.faults] == ["short"] and len(set_.recordings) == 3
    assert "2 of 5 recordings are too short (rest/cleo_1.csv, wave/anna_1.csv)" in set_.faults[0].text
    assert "data.window = 20 all" in set_.faults[0].text
    with pytest.raises(DataError, match="2 of 5 recordings are too short"):
        load_recordings(config(strict=True), tmp_path)
    with pytest.raises(DataError, match=r"data\.window = 200 fits the longest"):
        load_windows(config(window=201), tmp_path)


def test_load_x_takes_a_folder_without_labels(tmp_path):
    (tmp_path / "a.csv").write_text(good())
    notes = []
    x = load_x(tmp_path, np.full(3, 100.0), config(labels=["circle", "rest"]), notes)
    assert np.array_equal(x, np.rint(values()[:192].reshape(6, 32, 3) * 100)) and notes == ["read 1 of 1 files"]


def test_nothing_left_names_the_first_fault(tmp_path):
    folder(tmp_path, "ax\nx\n", others=False)
    with pytest.raises(DataError, match=r"none of 1 files can be used; the first: wave/anna_1.csv: line 2, column ax"):
        load_windows(config(), tmp_path)


def test_finding_the_common_channels_takes_linear_time():
    n_tables, n_channels = 20, 256
    tables = [
        SimpleNamespace(channels=[Column(i, Counted(f"c{i}"), "g") for i in range(n_channels)]) for _ in range(n_tables)
    ]
    names, units = _common_channels(tables, [])
    assert len(names) == n_channels and units == ["g"] * n_channels
    assert Counted.n_compared < 5 * n_tables * n_channels


class Counted(str):
    """Text that counts how often it is compared."""

    n_compared = 0
    __hash__ = str.__hash__

    def __eq__(self, other):
        Counted.n_compared += 1
        return str.__eq__(self, other)


def test_clock_beside_the_clock_is_no_channel_and_a_counter_is_noted(tmp_path):
    for offset, (label, person) in enumerate((("a", "x"), ("a", "y"), ("b", "x"), ("b", "y"))):
        (tmp_path / label).mkdir(exist_ok=True)
        rows = [f"{1700000000000000000 + i * 20_000_000},{i * 0.02:.2f},{i},{(i * 7) % 11 - offset}" for i in range(60)]
        (tmp_path / label / f"{person}_1.csv").write_text("\n".join(["time,seconds_elapsed,sample,z", *rows]))
    found = load_recordings(config(), tmp_path)
    assert found.channels == ["sample", "z"]
    assert found.sample_rate_hz == 50
    assert [note for note in found.notes if "channel sample rises" in note]
    assert not [note for note in found.notes if "channel z" in note]
