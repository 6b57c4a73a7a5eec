"""A model on a board that watches a live sensor: what it says at each hop, as it comes, and in a log."""

import zlib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from . import BoardError, DoesNotFitError, facts
from .board_code import board_code
from .capture import ended_by
from .csv_log import CsvLog
from .deploy import check_package
from .facts import SLOTS
from .link import LinkError, RemoteError, open_link
from .sensors import prepare
from .shape import COUNT, Either
from .streaming import HEAD, LOST_TOLERANCE, CtrlC, Program, decode, unwrapped

_LOAD_S = 60
# Who looks at a model in trial takes none of its boots, nor are these windows what shows that a program runs it.
_LOADED = """
for _t in _s.both({path!r}):
 if not _t.worn():
  _s.counted[_t.path] = _t.sequence, _t.boots
_model = attn8.load({path!r})
_model.confirm_after = None
"""
_BAR = 24  # characters


class MonitorError(BoardError):
    """A model cannot watch a sensor; the text says why."""


@dataclass(frozen=True)
class Watched:
    """What the model on the board says of itself."""

    name: str
    version: str
    id: str
    labels: tuple
    channels: tuple
    units: tuple
    counts_per_unit: tuple
    input_type: str
    n_steps: int
    hop: int
    sample_rate_hz: float


@dataclass(frozen=True)
class Hop:
    """What the model says at a hop: seconds since the start, label or None, its score and that of each class 0..100."""

    seconds: float
    label: str | None
    score: int
    scores: tuple
    late: int
    lost: int
    resets: int


# ---- the model on the board ----------------------------------------------------------------------------------------


_NUMBER = Either(COUNT, float)
_WATCHED = (str, str, str, [str], [str], [str], [_NUMBER], str, COUNT, COUNT, _NUMBER)


def load_model(link, name):
    """Makes ``_model`` on the board: a file here, sent into its memory, or a slot or file there. Returns a Watched."""
    link.exec(board_code("blocks"))
    try:
        link.exec("import attn8", _LOAD_S)
        if name and Path(name).is_file():
            _send(link, Path(name))
        else:
            path = f"/{(name or _only_model(link)).strip('/')}"
            link.exec(f"{SLOTS}\n{_LOADED.format(path=path)}", _LOAD_S)
    except RemoteError as error:
        raise _not_loaded(link, name, error) from None
    fields = "_m.name, _m.version, _m.id, _m.labels, _m.channels, _m.units, tuple(_m.counts_per_unit), _m.input_type"
    found = link.eval(f"({fields}, _m.n_steps, _m.hop, _m.sample_rate_hz)", setup="_m = _model", shape=_WATCHED)
    return Watched(*found)


def _only_model(link):
    found = [model["file"] for model in facts.read_models(link, True)]
    if len(found) != 1:
        raise MonitorError(
            f"{link.device}: {len(found)} models there ({', '.join(found) or 'deploy one first'}); give NAME, or a FILE"
        )
    return found[0]


def _not_loaded(link, name, error):
    if error.kind == "MemoryError":
        return DoesNotFitError(f"{link.device}: the model is too big for the heap ({error.message}); make it smaller")
    if error.kind == "OSError" and error.errno == 2:
        return MonitorError(f"{name}: no such file here and no such slot or file on the board")
    return MonitorError(f"{link.device}: the board does not load {name or 'its model'}: {error.message}")


def _send(link, path):
    """Sends a model file into the board's memory; nothing is written to its flash."""
    from ..model_file import read_model

    data = read_model(path)
    link.exec(f"_data = bytearray({len(data)})")
    link.fill("_data", data)
    crc = zlib.crc32(data)
    if link.eval("(_c >> 16 & 65535, _c & 65535)", _LOAD_S, "_c = crc32(_data)") != (crc >> 16, crc & 65535):
        raise LinkError(f"{link.device}: {path} arrived damaged; check the cable, then try again")
    link.exec("_model = attn8.load(_data)", _LOAD_S)


def match(model, sensor):
    """Returns (picks, scales) for Watch on the board: which channels of the sensor the model takes, brought to what.

    Raises:
        MonitorError: if the sensor lacks a channel, has it in another unit, or its scale is not known.
    """
    if model.input_type != "int16":
        raise MonitorError(f"'{model.name}' takes {model.input_type} input, expected int16 counts of a sensor")
    there = [(name, _unit(unit)) for name, unit in sensor.channels]
    wanted = [(name, _unit(unit)) for name, unit in zip(model.channels, model.units, strict=True)]
    if not set(wanted) <= set(there):
        raise MonitorError(
            f"'{model.name}' was trained on {_listed(wanted)}, {sensor.name} has {_listed(there)}; choose the --sensor "
            "that made its recordings"
        )
    picks = tuple(there.index(channel) for channel in wanted)
    sensor_counts = [sensor.counts_per_unit[pick] for pick in picks] if sensor.counts_per_unit else [1.0] * len(picks)
    if sensor.counts_per_unit and np.allclose(np.float32(sensor_counts), np.float32(model.counts_per_unit), 1e-6, 0):
        return picks, None
    unknown = [name for name, counts in zip(model.channels, model.counts_per_unit, strict=True) if not counts > 0]
    if unknown:
        raise MonitorError(
            f"'{model.name}' does not tell the scale of {', '.join(unknown)}: train it on data with units"
        )
    return picks, tuple(zip(sensor_counts, model.counts_per_unit, strict=True))


def _unit(unit):
    """Whole numbers without a unit are counts to the reader of recordings."""
    return "" if unit == "count" else unit


def _listed(channels):
    return ", ".join(f"{name} [{unit}]" if unit else name for name, unit in channels)


# ---- watching ------------------------------------------------------------------------------------------------------


class Watcher:
    """Makes Hops of lines, and counts them.

    Attributes:
        hops: so far.    labels: Counter of what was said; "" is no class.    last: Hop.    damaged: lines.
        late, lost: samples.
    """

    def __init__(self, labels, rate_hz):
        self.names, self.rate_hz, self.labels = labels, rate_hz, Counter()
        self.hops = self.damaged = self.late = self.lost = self.seconds = 0
        self.last, self._number, self._place, self._us = None, 0, 0, 0.0

    def take(self, line):
        """Returns the Hop of a line, or None."""
        body = decode(line)
        if body is None or len(body) < HEAD.size:
            return None
        number, place, t_us, late, lost, n = HEAD.unpack_from(body)
        rest = body[HEAD.size :]
        if n > 1 or number < self._number or len(rest) != n * (3 + len(self.names)):
            return None
        self.damaged, self._number = self.damaged + number - self._number, number + n
        self._us = unwrapped(t_us, self._us + (place - self._place) * 1e6 / self.rate_hz)
        self._place, self.late, self.lost, self.seconds = place, late, lost, self._us / 1e6
        if not n:
            return None
        label = self.names[rest[0]] if rest[0] < len(self.names) else None
        self.hops, self.last = self.hops + 1, Hop(self.seconds, label, rest[1], tuple(rest[3:]), late, lost, rest[2])
        self.labels[label or ""] += 1
        return self.last


def monitor(name, sensor_of, port=None, log=None, seconds=None, show=None, begin=None):
    """Watches until the time is over or Ctrl-C.

    Args:
        name: of a slot or file on the board, a file here, or None for the only model there.
        sensor_of: called with the model's sample rate in Hz, or 0.0; returns the sensors.Sensor.
        port: see link.open_link.    log: path of a CSV file to make, or None.    seconds: None for no end.
        begin: called with (Watched, Sensor) before the first.    show: called with each Hop.

    Returns:
        dict: port, machine, model, version, id, sensor, rate_hz, hop, seconds, hops, labels ({label: hops}; "" is no
        class), late, lost (samples), damaged (hops that did not arrive), resets (of the stream, after long gaps),
        log, error (None, or what ended it).

    Raises:
        LogError: if the log is there already.    MonitorError, SensorError, DeployError, DoesNotFitError, LinkError:
            before the first hop.
    """
    written = CsvLog(log)
    with open_link(port) as link:
        machine = facts.read_facts(link).machine
        check_package(link)
        model = load_model(link, name)
        sensor = sensor_of(model.sample_rate_hz)
        code = _code(link, model, sensor)
        watcher = Watcher(model.labels, sensor.rate_hz)
        with written:
            written.add(["time [s]", "label", "score", *model.labels])
            if begin:
                begin(model, sensor)
            error = _watch(link, code, sensor, model, watcher, written, seconds, show or (lambda hop: None))
        head = {"port": link.device, "machine": machine, "model": model.name, "version": model.version, "id": model.id}
    return {
        **{**head, "sensor": sensor.name, "rate_hz": sensor.rate_hz, "hop": model.hop},
        **{"seconds": round(watcher.seconds, 3), "hops": watcher.hops, "labels": dict(watcher.labels)},
        **{"late": watcher.late, "lost": watcher.lost, "damaged": watcher.damaged},
        **{"resets": watcher.last.resets if watcher.last else 0, "log": log and str(log), "error": error},
    }


def _code(link, model, sensor):
    """Makes everything ready on the board. Returns the code that watches."""
    picks, scales = match(model, sensor)
    prepare(link, sensor, "monitor")
    link.exec(f"_watch = Watch(_model, {picks!r}, {scales!r})", _LOAD_S)
    if sensor.is_polled:
        n_check = max(1, round(sensor.rate_hz / 10))
        return f"monitor(_source, {sensor.kind!r}, {len(sensor.channels)}, _sampler, _watch, {n_check}, Ending())"
    return f"monitor_chunks(_source, {len(sensor.channels)}, _watch, Ending())"


def _watch(link, code, sensor, model, watcher, log, seconds, show):
    """Returns the text of what ended it before its time, None if nothing did."""
    silent_s = 2 * (model.n_steps + model.hop) / sensor.rate_hz
    try:
        with Program(link, code, silent_s) as program, CtrlC() as ctrl_c:
            for line in program.lines():
                _tell(line, watcher, log, show)
                if ctrl_c.pressed or (seconds is not None and watcher.seconds >= seconds):
                    break
            for line in program.end():
                _tell(line, watcher, log, show)
    except (LinkError, RemoteError) as error:
        return ended_by(link, sensor, error)
    return None


def _tell(line, watcher, log, show):
    hop = watcher.take(line) if line else None
    if hop:
        log.add([f"{hop.seconds:.3f}", hop.label or "", hop.score, *hop.scores])
        show(hop)


def remarks(found, sensor):
    """Returns a sentence about samples that were lost: an output that is reckoned on a board takes its time."""
    if not found["hops"] or found["lost"] <= LOST_TOLERANCE * found["seconds"] * found["rate_hz"]:
        return []
    instead = "--fifo, " if sensor.may_buffer else ""
    return [
        f"{found['lost']:,} samples lost: the model takes longer than a sample at {found['rate_hz']:g} Hz lets it; "
        f"take {instead}the native module, a causal model or a lower --rate"
    ]


# ---- for a person --------------------------------------------------------------------------------------------------


def render_hop(hop, labels):
    """Returns the line of a Hop where no terminal shows bars."""
    scores = ", ".join(f"{label} {score}" for label, score in zip(labels, hop.scores, strict=True))
    return f"{hop.seconds:8.2f} s  {hop.label or '?'} {hop.score} %  ({scores}; {hop.late} late, {hop.lost} lost)"


def bars(hop, labels):
    """Returns the lines of a Hop with a bar for each class, the label first."""
    width = max(map(len, labels), default=0)
    lines = [f"{hop.label or '?'}  {hop.score} %   {hop.seconds:.1f} s, {hop.late} late, {hop.lost} lost"]
    for label, score in zip(labels, hop.scores, strict=True):
        lines.append(f"{label:<{width}} {'█' * round(score * _BAR / 100):<{_BAR}} {score:3d} %")
    return "\n".join(lines)


def render(found):
    """Returns the lines that ``attn8 monitor`` prints at its end."""
    said = ", ".join(f"{label or 'no class'} {n}" for label, n in sorted(found["labels"].items(), key=lambda x: -x[1]))
    lines = [
        f"'{found['model']}' v{found['version']} {found['id']}: {found['hops']:,} hops in {found['seconds']:.1f} s, "
        f"{found['late']:,} samples late, {found['lost']:,} lost, {found['damaged']:,} hops damaged on the way"
    ]
    return "\n".join([*lines, *([said] if said else []), *([f"log: {found['log']}"] if found["log"] else [])])
