"""The recording of an analyser of any make as a meter: a CSV file, with a channel that says when windows ran."""

import math
import re
import statistics
import time
from array import array
from bisect import bisect_left
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from .metering import MeterError, energy, positive, standard_error

_TIMES_DIFFER = 0.05  # of the time that the board ran windows: more, and the recording is of something else
_MAX_LINE, _MAX_ROWS = 4096, 50_000_000  # of a recording: 100 kHz for eight minutes
_HEADER_LINES = 20
_UNITS = {
    "time": {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9},
    "current": {"a": 1.0, "ma": 1e-3, "ua": 1e-6, "na": 1e-9},
    "voltage": {"v": 1.0, "mv": 1e-3, "uv": 1e-6},
    "power": {"w": 1.0, "mw": 1e-3, "uw": 1e-6, "nw": 1e-9},
}
_BITS = re.compile(r"D0-D(\d+)|bits?", re.IGNORECASE)  # a column of eight binary digits, D0 in front
_LEVELS = {"0": 0, "1": 1, "0.0": 0, "1.0": 1, "low": 0, "high": 1, "false": 0, "true": 1}
_MOST_MISSING = 0.01  # of the rows may hold "nan"


@dataclass
class Trace:
    """A recording: seconds and milliwatts of each sample, and the marker channels by name (0, 1, 2 for no level)."""

    seconds: array
    milliwatts: array
    markers: dict


def read_trace(path, volts=None):
    """Returns the Trace of a CSV file: columns are found by their names and units, such as "Current(uA)".

    Args:
        volts: of the supply, where the file has no voltage.

    Raises:
        MeterError: naming the line, what it got and what it expected.
    """
    try:
        with open(path, encoding="utf-8-sig") as file:
            return _read_rows(str(path), _lines(str(path), file), volts)
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "no text"
        raise MeterError(f"{path}: cannot be read ({reason}); expected a CSV file with a header") from None


def _lines(path, file):
    """Gives (number, text, whether it ended) of lines of bounded length."""
    for number in range(1, _MAX_ROWS):
        line = file.readline(_MAX_LINE)
        if not line:
            return
        if len(line) == _MAX_LINE and not line.endswith("\n"):
            raise MeterError(f"{path}: line {number}: longer than {_MAX_LINE} characters; expected CSV of an analyser")
        yield number, line.strip(), line.endswith("\n")
    raise MeterError(f"{path}: more than {_MAX_ROWS:,} lines; record at a lower rate, or a shorter time")


def _read_rows(path, lines, volts):
    columns, separator = _header(path, lines, volts)
    trace = Trace(array("d"), array("d"), {name: bytearray() for name, *_ in columns["markers"]})
    missing = 0
    for number, line, ended in lines:
        if not line:
            continue
        cells = [cell.strip() for cell in line.split(separator)]
        try:
            seconds, milliwatts, levels = _row(cells, columns, volts, separator == ";")
        except (ValueError, IndexError):
            if not ended:  # the last one: the recording was cut
                break
            raise MeterError(f"{path}: line {number}: got {line[:60]!r}, expected numbers as in the header") from None
        if trace.seconds and seconds < trace.seconds[-1]:
            raise MeterError(f"{path}: line {number}: the time goes back; expected one recording")
        if math.isnan(milliwatts):
            missing += 1
            continue
        trace.seconds.append(seconds)
        trace.milliwatts.append(milliwatts)
        for (name, *_), level in zip(columns["markers"], levels, strict=True):
            trace.markers[name].append(level)
    if missing > _MOST_MISSING * (len(trace.seconds) + missing):
        raise MeterError(f"{path}: {missing:,} samples are missing (nan); record at a lower rate")
    return trace


def _header(path, lines, volts):
    """Returns ({role: (column, factor)} and markers: list of (name, column, bit or None), separator)."""
    for number, line, _ in lines:
        for separator in ("\t", ";", ","):
            names = [name.strip().strip('"') for name in line.lstrip("#").split(separator)]
            columns = _columns(names)
            if len(names) > 1 and "time" in columns:
                return _checked(path, columns, names, volts), separator
        if number == _HEADER_LINES:
            break
    raise MeterError(f"{path}: no header such as Timestamp(ms),Current(uA),D0 in its first {_HEADER_LINES} lines")


def _columns(names):
    """Returns what the names of columns tell; all without a unit may be markers."""
    found = {"markers": []}
    for i, name in enumerate(names):
        match = re.fullmatch(r"(.*?)\s*[(\[]\s*([^)\]]+?)\s*[)\]]", name)
        unit = match[2].lower().replace("µ", "u").replace("μ", "u") if match else ""
        role = next((role for role, units in _UNITS.items() if unit in units), None)
        if role:
            found.setdefault(role, []).append((i, _UNITS[role][unit]))
        elif _BITS.fullmatch(name):
            found["markers"] += [(f"D{bit}", i, bit) for bit in range(8)]
        elif not match:
            found["markers"].append((name, i, None))
    return found


def _checked(path, columns, names, volts):
    """Returns the columns, one of a kind. Raises MeterError if the power cannot be told from them."""
    for role in _UNITS:
        several = [names[i] for i, _ in columns.get(role, ())]
        if len(several) > 1:
            raise MeterError(f"{path}: {len(several)} columns of {role}: {', '.join(several)}; export one of them")
    if "power" not in columns and "current" not in columns:
        raise MeterError(f"{path}: got {', '.join(names)}, expected a column of current or power with its unit")
    if not ("power" in columns or "voltage" in columns or volts):
        raise MeterError(f"{path}: no column of voltage; give the supply, such as volts=3.3")
    return {role: found if role == "markers" else found[0] for role, found in columns.items()}


def _row(cells, columns, volts, decimal_comma):
    """Returns (seconds, milliwatts, levels) of a row."""

    def value(role):
        i, factor = columns[role]
        number = float(cells[i].replace(",", ".") if decimal_comma else cells[i]) * factor
        if math.isinf(number):
            raise ValueError(role)
        return number

    seconds = value("time")
    if math.isnan(seconds):
        raise ValueError("time")
    watts = (
        value("power")
        if "power" in columns
        else value("current") * (value("voltage") if "voltage" in columns else volts)
    )
    return seconds, watts * 1000, [_level(cells[i], bit) for _, i, bit in columns["markers"]]


def _level(cell, bit):
    """Returns 0, 1, or 2 for what is no level."""
    if bit is not None:
        cell = cell.strip('"').rjust(8, "?")[bit : bit + 1]
    return _LEVELS.get(cell.lower(), 2)


def choose_marker(trace, name, path):
    """Returns the levels of the marker channel: the one that is named, else the only one that changes."""
    if name:
        if name not in trace.markers:
            known = ", ".join(trace.markers) or "none"
            raise MeterError(f"{path}: no marker channel {name!r}; the file has {known}")
        return trace.markers[name]
    changing = [key for key, levels in trace.markers.items() if set(levels) == {0, 1}]
    if len(changing) != 1:
        found = f"{len(changing)} channels change ({', '.join(changing)})" if changing else "no channel goes high"
        raise MeterError(f"{path}: {found}, expected one, wired to the pin of --marker-pin; name it, such as marker=D0")
    return trace.markers[changing[0]]


def trace_energy(trace, levels, run, path, how):
    """Returns the energy of a window from the time that the marker was high, see ``energy``."""
    seconds = trace.seconds
    spans = _spans(levels)
    durations = [seconds[end] - seconds[start] for start, end in spans]
    fits = [i for i, s in enumerate(durations) if abs(s - run.busy_s) <= _TIMES_DIFFER * run.busy_s]
    if not fits:
        raise MeterError(
            f"{path}: the marker was high for {max(durations, default=0):.3g} s at most, the board ran windows for "
            f"{run.busy_s:.3g} s; is it this recording, and the right channel?"
        )
    start, end = spans[fits[-1]]
    begin = bisect_left(seconds, seconds[start] - 0.9 * run.idle_s)
    idle, busy = _blocks(trace, begin, start - 1), _blocks(trace, start, end)
    if not (idle and busy):
        raise MeterError(
            f"{path}: too few samples, or the recording began too late; expected {run.idle_s:.3g} s before"
        )
    rate_hz = (end - start) / (seconds[end] - seconds[start])
    how = f"{how}, {end - start:,} samples of windows at {rate_hz:,.0f} Hz"
    error_mw = standard_error(idle, busy)
    return energy(statistics.mean(idle), statistics.mean(busy), run, how, error_mw=error_mw)


def _spans(levels):
    """Returns (first, last) of each stretch of ones."""
    spans, at = [], levels.find(1)
    while at >= 0:
        after = levels.find(0, at)
        end = (after if after >= 0 else len(levels)) - 1
        spans.append((at, end))
        at = levels.find(1, after) if after >= 0 else -1
    return spans


_N_BLOCKS = 10  # whose means are nearly independent, where samples are not


def _blocks(trace, first, last):
    """Returns the mean power of ten parts of equal length of a stretch, None where it is too short."""
    if last - first < 4 * _N_BLOCKS:
        return None
    edges = [first + (last - first) * i // _N_BLOCKS for i in range(_N_BLOCKS + 1)]
    return [_mean(trace, a, b) for a, b in pairwise(edges)]


def _mean(trace, first, last):
    """Returns the mean power from one sample to another, by trapezoids: the steps need not be equal."""
    t, p = trace.seconds, trace.milliwatts
    area = sum((p[i] + p[i + 1]) / 2 * (t[i + 1] - t[i]) for i in range(first, last))
    return area / (t[last] - t[first]) if t[last] > t[first] else statistics.mean(p[first : last + 1])


_WAIT_S, _STABLE_S = 600, 1.0


class CsvMeter:
    """An analyser of any make: a person records, and exports what was recorded when the board has ended."""

    needs_marker, on_board, phase_s = True, "None", 4.0

    def __init__(self, kind, name, options, say):
        if not name:
            raise MeterError("meter csv: no file; expected csv:FILE, the recording that you will export")
        self.path, self.say, self.marker = Path(name), say, options.get("marker")
        self.volts = positive(kind, options, "volts")
        self.began = 0.0

    def start(self, link):
        self.began = time.time()

    def mark(self, phase):
        """Nothing to do: the pin tells."""

    def stop(self, run):
        self._await()
        trace = read_trace(self.path, self.volts)
        levels = choose_marker(trace, self.marker, self.path)
        return trace_energy(trace, levels, run, self.path, f"recording {self.path.name}")

    def _await(self):
        """Waits for a file that is younger than the measurement and no longer grows."""
        self.say(f"the board has ended: stop the recording and export it as {self.path}; waiting for that file")
        end, before = time.monotonic() + _WAIT_S, None
        while time.monotonic() < end:
            try:
                found = self.path.stat()
            except OSError:
                found = None
            now = found and found.st_mtime >= int(self.began) and (found.st_size, found.st_mtime)
            if now and now == before:
                return
            before = now
            time.sleep(_STABLE_S)
        raise MeterError(f"{self.path}: no recording came within {_WAIT_S} s; export it there, and measure again")
