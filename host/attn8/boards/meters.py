"""What measures the energy of a window: a chip on the board's I2C, the recording of an analyser, or an Otii."""

import json
import math
import re
import socket
import statistics
import time
from array import array
from bisect import bisect_left
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Protocol

from . import BoardError
from .link import RemoteError

_TIMES_DIFFER = 0.05  # of the time that the board ran windows: more, and the recording is of something else


class MeterError(BoardError):
    """A meter is not there, or what it gives cannot be used; the text says what to do."""


@dataclass(frozen=True)
class Run:
    """What the board tells of a measurement.

    Attributes:
        idle_s, busy_s: seconds of both phases.    n_windows: in the second.
        idle, busy: what a meter on the board read: lists of (current, bus voltage) registers.
    """

    idle_s: float
    busy_s: float
    n_windows: int
    idle: list = field(default_factory=list)
    busy: list = field(default_factory=list)

    @property
    def window_ms(self):
        return self.busy_s * 1000 / self.n_windows


class Meter(Protocol):
    """Measures while a board does nothing for ``phase_s`` seconds and then runs windows for as long.

    Attributes:
        needs_marker: whether a pin of the board must tell it when.    on_board: a name there with read(), or "None".
    """

    needs_marker: bool
    on_board: str
    phase_s: float

    def start(self, link):
        """Begins to measure; what the board needs for it goes over the link. Raises MeterError."""

    def mark(self, phase):
        """The board began to do nothing ("I"), to run windows ("B"), or has ended ("D")."""

    def stop(self, run):
        """Returns the energy of a window, see ``energy``. Raises MeterError."""


def energy(idle_mw, busy_mw, run, how, resolution_mw=0.0, error_mw=0.0):
    """Returns what a window takes, as a dict: window_uj, above_idle_uj, error_uj (of that: its standard error, or the
    resolution of the meter if that is more), below_resolution, idle_mw, busy_mw, window_ms, n_windows, how, estimate.

    Args:
        idle_mw, busy_mw: mean power of the phases.    error_mw: standard error of their difference.
    """
    ms, error = run.window_ms, max(resolution_mw, error_mw)
    return {
        **{"window_uj": busy_mw * ms, "above_idle_uj": (busy_mw - idle_mw) * ms, "error_uj": error * ms},
        **{"below_resolution": abs(busy_mw - idle_mw) <= 2 * error, "idle_mw": idle_mw, "busy_mw": busy_mw},
        **{"window_ms": ms, "n_windows": run.n_windows, "how": how, "estimate": False},
    }


def meter(text, say=lambda text: None):
    """Returns the Meter that a text names.

    Args:
        text: "ina219:..." or "ina226:sda=4,scl=5,shunt=0.1,max=0.4,address=0x40", "csv:FILE,volts=3.3,marker=D0",
            "otii" or "otii:HOST:PORT".
        say: gets a sentence where a person must do something.

    Raises:
        MeterError: if it names none.
    """
    kind, _, rest = text.partition(":")
    if kind not in _KINDS:
        raise MeterError(f"unknown meter {kind!r}; expected one of: {', '.join(_KINDS)}, such as ina226:sda=4,scl=5")
    parts, options = rest.split(","), {}
    while parts and re.fullmatch(r"[a-z]+=[^,]*", parts[-1]):
        key, _, value = parts.pop().partition("=")
        options[key] = value
    make, known = _KINDS[kind]
    for key in options:
        if key not in known:
            raise MeterError(f"meter {kind}: unknown option {key!r}; expected {', '.join(known)}")
    return make(kind, ",".join(parts), options, say)


def _number(kind, options, key, default=None):
    """Returns an option as a finite number above 0."""
    text = options.get(key)
    if text is None:
        return default
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise MeterError(f"meter {kind}: {key}: got {text!r}, expected a number above 0")
    return value


def _whole(kind, options, key, default=None):
    """Returns an option as a whole number such as 4 or 0x40."""
    try:
        return int(options[key], 0) if key in options else default
    except ValueError:
        raise MeterError(f"meter {kind}: {key}: got {options[key]!r}, expected a number such as 4 or 0x40") from None


@dataclass(frozen=True)
class Chip:
    """What the data sheet of an INA says (TI SBOS448G, SBOS547).

    Attributes:
        shunt_lsb_v, bus_lsb_v: of the registers.    ranges: full scales in volts of the shunt, with the settings of
        the configuration register for it, the mean of 128 conversions of both voltages included.
        bus_shift: bits below the bus voltage.    constant: calibration * current_lsb_a * shunt_ohm.
        every_ms: of a new value, rounded up.    maker: register 0xFE, 0 if there is none.
    """

    shunt_lsb_v: float
    bus_lsb_v: float
    ranges: tuple
    bus_shift: int
    constant: float
    every_ms: int
    maker: int


CHIPS = {
    "ina219": Chip(
        *(10e-6, 4e-3, tuple((0.04 * 2**i, 0x27FF | i << 11) for i in range(4)), 3, 0.04096, 137, 0),
    ),
    "ina226": Chip(2.5e-6, 1.25e-3, ((0.08192, 0x4927),), 0, 0.00512, 282, 0x5449),
}
_READINGS = 16  # of a phase
_OVERFLOW = 1  # in the bus voltage register of an INA219


class InaMeter:
    """An INA219 or INA226 in the supply line of the board, on the board's own I2C."""

    needs_marker, on_board = False, "_ina"

    def __init__(self, kind, name, options, say):
        if name:
            raise MeterError(f"meter {kind}: got {name!r}, expected options such as sda=4,scl=5")
        self.kind, self.chip, self.shunt_ohm = kind, CHIPS[kind], _number(kind, options, "shunt", 0.1)
        self.pins = [_whole(kind, options, key) for key in ("sda", "scl")]
        if None in self.pins:
            raise MeterError(f"meter {kind}: its pins are missing; expected {kind}:sda=4,scl=5 or others")
        self.address = _whole(kind, options, "address", 0x40)
        self.full_scale_v, self.config = self._range(_number(kind, options, "max"))
        # Even, as the lowest bit of the INA219's register cannot be set; 2 of 2048 steps and more.
        self.calibration = int(self.chip.constant * 32768 / self.full_scale_v) & ~1
        self.current_lsb_a = self.chip.constant / (self.calibration * self.shunt_ohm)
        self.phase_s = _READINGS * self.chip.every_ms / 1000

    def _range(self, most_a):
        """Returns (full scale in volts, configuration) of the smallest range that holds the current."""
        wanted_v = (most_a or 0) * self.shunt_ohm
        for full_scale_v, config in self.chip.ranges:
            if wanted_v <= full_scale_v * (1 + 1e-9):  # 0.4 A over 0.1 ohm are 40 mV, but for rounding
                return full_scale_v, config
        most = self.chip.ranges[-1][0] / self.shunt_ohm
        raise MeterError(
            f"meter {self.kind}: max: got {most_a:g} A, expected at most {most:.3g} A with a shunt of "
            f"{self.shunt_ohm:g} ohm; take a smaller shunt"
        )

    def start(self, link):
        from .measure import on_board

        pins = f"{self.pins[0]}, {self.pins[1]}, {self.address}"
        values = f"{self.config}, {self.calibration}, {self.chip.every_ms}, {self.chip.maker}"
        try:
            link.exec(on_board("ina"), timeout=60)
            link.exec(f"_ina = Ina({pins}, {values})", timeout=30)
        except RemoteError as error:
            where = f"SDA {self.pins[0]}, SCL {self.pins[1]}"
            raise MeterError(
                f"{link.device}: no {self.kind.upper()} on {where}: {error.message or error.kind}; check the wiring "
                "and the address"
            ) from None

    def mark(self, phase):
        """Nothing to do: the board reads the chip itself."""

    def milliwatts(self, current, bus):
        """Returns the power of two registers. Raises MeterError if they overflowed."""
        amperes = (current - 65536 if current & 32768 else current) * self.current_lsb_a
        overflow = self.chip.bus_shift and bus & _OVERFLOW
        if overflow or abs(amperes) >= 0.9999 * self.full_scale_v / self.shunt_ohm:
            raise MeterError(
                f"meter {self.kind}: the current is over its range of {self.full_scale_v / self.shunt_ohm:.3g} A; "
                "give max=AMPERES, or take a smaller shunt"
            )
        return amperes * (bus >> self.chip.bus_shift) * self.chip.bus_lsb_v * 1000

    def stop(self, run):
        idle, busy = ([self.milliwatts(*pair) for pair in pairs] for pairs in (run.idle, run.busy))
        if min(len(idle), len(busy)) < 2:
            raise MeterError(f"meter {self.kind}: {len(idle)} and {len(busy)} readings came, expected 2 of each phase")
        volts = statistics.mean(bus >> self.chip.bus_shift for _, bus in run.busy) * self.chip.bus_lsb_v
        resolution_mw = self.chip.shunt_lsb_v / self.shunt_ohm * volts * 1000
        how = (
            f"{self.kind.upper()} on the board's I2C, shunt {self.shunt_ohm:g} ohm, {volts:.2f} V, means of 128 "
            f"conversions, {len(idle)} of nothing to do and {len(busy)} of windows"
        )
        means = statistics.mean(idle), statistics.mean(busy)
        return energy(*means, run, how, resolution_mw, _standard_error(idle, busy))


def _standard_error(a, b):
    """Returns the standard error of the difference of the means of two lists."""
    return math.sqrt(statistics.variance(a) / len(a) + statistics.variance(b) / len(b))


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
    error_mw = _standard_error(idle, busy)
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
        self.volts = _number(kind, options, "volts")
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


_OTII_PORT, _OTII_S, _MAX_ANSWER = 1905, 15, 1 << 20
_OTII_ANSWER_S = 60  # with all that it tells before an answer
_MOST_AVERAGE = 1e6  # amperes or volts
_SETTLE_S = 0.25  # at both ends of a phase, that belong to neither by the clock of this computer


class OtiiMeter:
    """An Otii that feeds the board, through the TCP server of its program: JSON objects, one a line.

    Log in and reserve the licence for automation in that program: no password passes through here.
    """

    needs_marker, on_board, phase_s = False, "None", 4.0

    def __init__(self, kind, name, options, say):
        host, _, port = name.partition(":")
        try:
            self.host, self.port = host or "127.0.0.1", int(port or _OTII_PORT)
        except ValueError:
            raise MeterError(f"meter otii: got {name!r}, expected otii:HOST:PORT") from None
        self.marks, self.socket, self.buffer, self.n_sent = {}, None, b"", 0

    def start(self, link):
        try:
            self.socket = socket.create_connection((self.host, self.port), timeout=_OTII_S)
        except (OSError, ValueError, OverflowError) as error:  # the last two: no name of a host, no port
            raise MeterError(
                f"meter otii: nobody answers at {self.host}:{self.port} "
                f"({getattr(error, 'strerror', None) or error}); start the "
                "server in the Otii program"
            ) from None
        if not self._ask("otii_has_license", license_type="Automation").get("has_license"):
            raise MeterError(
                "meter otii: no licence for automation is reserved; log in and reserve it in the Otii program, or "
                "export the recording there and give --meter csv:FILE"
            )
        devices = self._ask("otii_get_devices", timeout=5).get("devices")
        if not isinstance(devices, list) or len(devices) != 1:
            n = len(devices) if isinstance(devices, list) else 0
            raise MeterError(f"meter otii: {n} devices are connected to it, expected one")
        self.device = _dict(devices[0]).get("device_id")
        for channel in ("mc", "mv"):
            self._ask("arc_enable_channel", device_id=self.device, channel=channel, enable=True)
        self.project = self._ask("otii_get_active_project").get("project_id", -1)
        self._ask("project_start_recording", project_id=self.project)
        self.begin = time.monotonic()

    def mark(self, phase):
        self.marks[phase] = time.monotonic() - self.begin

    def stop(self, run):
        try:
            self._ask("project_stop_recording", project_id=self.project)
            self.recording = self._ask("project_get_last_recording", project_id=self.project).get("recording_id", -1)
            idle, busy = (self._milliwatts(*phase) for phase in ("IB", "BD"))
        finally:
            self.socket.close()
        how = "Otii, means of current and voltage, phases by the clock of this computer"
        return energy(statistics.mean(idle), statistics.mean(busy), run, how, error_mw=_standard_error(idle, busy))

    def _milliwatts(self, first, last):
        """Returns the mean power of four parts of a phase."""
        begin, end = self.marks[first] + _SETTLE_S, self.marks[last] - _SETTLE_S
        if end <= begin:
            raise MeterError("meter otii: a phase was too short; run it again")
        edges = [begin + (end - begin) * i / 4 for i in range(5)]
        return [1000 * self._average("mc", a, b) * self._average("mv", a, b) for a, b in pairwise(edges)]

    def _average(self, channel, begin, end):
        where = {"recording_id": self.recording, "device_id": self.device, "channel": channel}
        value = self._ask("recording_get_channel_statistics", **where, **{"from": begin, "to": end}).get("average")
        if not isinstance(value, int | float) or not abs(value) < _MOST_AVERAGE:
            raise MeterError(f"meter otii: channel {channel}: got {str(value)[:40]}, expected an average; run it again")
        return value

    def _ask(self, command, **data):
        """Sends a request and returns the data of its answer."""
        self.n_sent += 1
        request = {"type": "request", "cmd": command, "trans_id": str(self.n_sent), "data": data}
        try:
            self.socket.sendall(json.dumps(request).encode() + b"\r\n")
            end = time.monotonic() + _OTII_ANSWER_S
            while True:
                answer = self._line(end)
                if answer.get("type") in ("information", "progress"):
                    continue
                if answer.get("trans_id") == str(self.n_sent):
                    break
        except (OSError, ValueError, RecursionError) as error:
            raise MeterError(f"meter otii: no answer to {command} ({error}); is it an Otii server?") from None
        if answer.get("type") != "response":
            raise MeterError(f"meter otii: {command}: refused ({str(answer.get('errorcode', 'no reason'))[:200]})")
        return _dict(answer.get("data"))

    def _line(self, end):
        while b"\r\n" not in self.buffer:
            if time.monotonic() > end:
                raise ValueError("it sends without end")
            data = self.socket.recv(65536)
            if not data or len(self.buffer) > _MAX_ANSWER:
                raise ValueError("the line is closed" if not data else "an answer without end")
            self.buffer += data
        line, _, self.buffer = self.buffer.partition(b"\r\n")
        if time.monotonic() > end:
            raise ValueError("it sends without end")
        return _dict(json.loads(line))


def _dict(value):
    return value if isinstance(value, dict) else {}


_INA_OPTIONS = ("sda", "scl", "shunt", "max", "address")
_KINDS = {
    "ina219": (InaMeter, _INA_OPTIONS),
    "ina226": (InaMeter, _INA_OPTIONS),
    "csv": (CsvMeter, ("volts", "marker")),
    "otii": (OtiiMeter, ()),
}
