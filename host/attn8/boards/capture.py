"""Labelled recordings from a sensor on a board: keys choose the label while samples come, nothing recorded is lost."""

import re
import shlex
import time
from pathlib import Path

from . import BoardError, facts
from .link import LinkError, RemoteError, open_link
from .recording import Recordings, check_name
from .sensors import prepare
from .streaming import LOST_TOLERANCE, CtrlC, Program, Receiver

_SHOW_S = 0.25
_RATE_TOLERANCE = 0.02  # as the reader takes for one rate
_FOLDS = 5  # of the config that train takes by itself
_PAUSE, _QUIT = " ", "q"


class CaptureError(BoardError):
    """A recording cannot begin; the text says what to give."""


def choose_labels(folder, labels, label, has_keys):
    """Returns (labels, the one to begin with or None).

    Args:
        folder: whose subfolders are the labels where none are given.    labels: text with commas, or None.
        label: the one to record at once, or None.    has_keys: whether keys can choose one later.
    """
    names = [check_name("--labels", part) for part in labels.split(",")] if labels else []
    if label:
        label = check_name("--label", label)
        names += [label] if label not in names else []
    if not names and Path(folder).is_dir():
        names = sorted(p.name for p in Path(folder).iterdir() if p.is_dir() and not p.name.startswith("."))
    if not names:
        raise CaptureError("no labels: give --labels circle,shake,nothing, or --label circle")
    if len(set(names)) != len(names):
        raise CaptureError(f"--labels: got {', '.join(names)}, expected each once")
    start = label or (names[0] if len(names) == 1 else None)
    if start is None and not has_keys:
        raise CaptureError(f"no terminal to choose a label by keys: give --label, one of {', '.join(names)}")
    return names, start


def keys_of(labels):
    """Returns {key: label}: 1 to 9, and the first letter where it is that of one label only and not q."""
    keys = {str(n): label for n, label in enumerate(labels[:9], 1)}
    firsts = [label[0].lower() for label in labels]
    for label, first in zip(labels, firsts, strict=True):
        if firsts.count(first) == 1 and first not in keys and first not in (_PAUSE, _QUIT):
            keys[first] = label
    return keys


def describe_keys(labels):
    """Returns the line that tells a person the keys."""
    found = {}
    for key, label in keys_of(labels).items():
        found.setdefault(label, []).append(key)
    return ", ".join(f"{' or '.join(keys)} {label}" for label, keys in found.items()) + ", space pauses, q ends"


class Session:
    """What keys and blocks do to the recordings.

    Args:
        recordings: recording.Recordings.    receiver: streaming.Receiver.    keys: {key: label}.
        seconds: of recording, all labels together, after which it ends; None for no end.

    Attributes:
        quit: whether a key has ended it.    left: samples to record, None for no end.
    """

    def __init__(self, recordings, receiver, keys, label, seconds):
        self.recordings, self.receiver, self.keys, self.quit = recordings, receiver, keys, False
        self.left = None if seconds is None else max(1, round(seconds * receiver.rate_hz))
        self._last_label = label
        recordings.switch(label)

    def press(self, typed):
        """Takes keys, several at once where a person is quick."""
        for key in typed.lower():
            if key in (_QUIT, "\x03", "\x04"):
                self.quit = True
            elif key == _PAUSE:
                self.recordings.switch(self._last_label if self.recordings.label is None else None)
            elif key in self.keys:
                self._last_label = self.keys[key]
                self.recordings.switch(self._last_label)

    def take(self, line):
        """Takes a line of the board."""
        block = self.receiver.take(line)
        if block is None or self.left == 0 or self.recordings.label is None:
            return
        self.recordings.add(block, self.left)
        if self.left is not None:
            self.left -= min(self.left, len(block.values))

    def describe(self, width=100):
        """Returns a line for a person: what is recorded, for how long, what is late or lost."""
        label, receiver = self.recordings.label, self.receiver
        if label is None:
            what = "paused: a key chooses a label"
        else:
            counts = self.recordings.counts.get(label, {"samples": 0})
            what = f"{label}: {counts['samples'] / receiver.rate_hz:.1f} s"
        return f"{what} | {receiver.late} late, {receiver.lost} lost, {receiver.damaged} damaged"[:width]


def capture(folder, sensor, port=None, labels=(), label=None, person="me", seconds=None, keyboard=None, show=None):
    """Records until a key, a time or Ctrl-C ends it.

    Args:
        folder: where LABEL/PERSON_n.csv or .wav are made.    sensor: sensors.Sensor.    port: see link.open_link.
        labels, label: as choose_labels returned them.    person: who is recorded.
        seconds: of recording; None for no end.    keyboard: with pressed().    show: called with a Session now
        and then.

    Returns:
        dict: port, machine, sensor, rate_hz, measured_hz (of the sensor's own clock; None by the board's), folder,
        labels (list of dict: label, files, seconds, samples, late, lost, damaged), samples, late, lost, damaged (of
        all), error (None, or what ended it), next (list of commands).

    Raises:
        SensorError, LinkError: before anything was recorded.    RecordingError.
    """
    person = check_name("--person", person, "_-")
    with open_link(port) as link:
        machine = facts.read_facts(link).machine
        prepare(link, sensor)
        receiver = Receiver(sensor.rate_hz, len(sensor.channels), sensor.kind, sensor.is_polled)
        session = Session(Recordings(folder, person, sensor), receiver, keys_of(labels), label, seconds)
        error = _record(link, sensor, session, keyboard, show or (lambda session: None))
        device = link.device
    return {"port": device, "machine": machine, **_summary(session, sensor, error)}


def _record(link, sensor, session, keyboard, show):
    """Returns the text of what ended the recording before its time, None if nothing did."""
    n = len(sensor.channels)
    code = f"record_chunks(_source, {n}, Ending())"
    if sensor.is_polled:
        code = f"record(_source, {sensor.kind!r}, {n}, _sampler, {sensor.block_samples}, Ending())"
    try:
        with Program(link, code, 2 * sensor.block_samples / sensor.rate_hz) as program:
            _follow(program, session, keyboard, show)
    except (LinkError, RemoteError) as error:
        return ended_by(link, sensor, error)
    finally:
        session.recordings.close()
    return None


def _follow(program, session, keyboard, show):
    shown = 0.0
    with CtrlC() as ctrl_c:
        for line in program.lines():
            if keyboard:
                session.press(keyboard.pressed())
            if line is not None:
                session.take(line)
            if time.monotonic() - shown > _SHOW_S:
                shown = time.monotonic()
                show(session)
            if session.quit or session.left == 0 or ctrl_c.pressed:
                break
        for line in program.end():
            session.take(line)
    show(session)


def ended_by(link, sensor, error):
    """Returns a sentence about what ended a program on the board before its time."""
    if isinstance(error, RemoteError):
        if error.kind == "OSError":
            return f"{link.device}: {sensor.name} stopped answering ({error.message}); check its wires"
        return f"{link.device}: {sensor.name}: {error.kind}: {error.message}"
    return str(error)


def _summary(session, sensor, error):
    counts, receiver = session.recordings.counts, session.receiver
    rows = [{"label": name, "seconds": round(c["samples"] / sensor.rate_hz, 3), **c} for name, c in counts.items()]
    total = {key: getattr(receiver, key) for key in ("samples", "late", "lost", "damaged")}
    return {
        **{"sensor": sensor.name, "rate_hz": sensor.rate_hz, "folder": str(session.recordings.folder)},
        **{"measured_hz": receiver.measured_hz and round(receiver.measured_hz, 3), "labels": rows, **total},
        **{"error": error, "next": _next(session.recordings.folder) if rows else []},
    }


def _next(folder):
    """Returns the commands that come next. Training holds back whole people, so it wants two, and a fold for each."""
    quoted = shlex.quote(str(folder))
    fewer = f" --set data.folds={n}" if (n := len(_people(folder))) < _FOLDS else ""
    return [f"attn8 data preview {quoted}", *([f"attn8 train --data {quoted}{fewer}"] if n > 1 else [])]


def _people(folder):
    return {re.split("[_-]", path.stem)[0] for path in Path(folder).glob("*/*") if path.suffix in (".csv", ".wav")}


def remarks(found, sensor):
    """Returns sentences about a rate that was not kept."""
    said, hz = [], found["measured_hz"]
    missing, due = found["lost"] + found["damaged"], found["samples"] + found["lost"] + found["damaged"]
    if due and found["lost"] > LOST_TOLERANCE * due:
        said.append(
            f"{found['lost']:,} of {due:,} samples lost: {found['rate_hz']:g} Hz is too much here; take a lower --rate"
            + (", or --fifo" if sensor.may_buffer else "")
        )
    if found["damaged"] > LOST_TOLERANCE * due:
        said.append(f"{found['damaged']:,} of {due:,} samples damaged on the way; take another cable or port")
    if hz and not missing and abs(hz / found["rate_hz"] - 1) > _RATE_TOLERANCE:
        said.append(
            f"asked for {found['rate_hz']:g} Hz, got {hz:g} Hz by the clock of the sensor; record all with the same one"
        )
    if found["labels"] and len(_people(found["folder"])) == 1:
        said.append("training tests a model on people that it never saw: record another --person too")
    return said


def render(found):
    """Returns the lines that ``attn8 capture`` prints."""
    lines = [
        f"{row['label']}: {row['seconds']:.1f} s, {row['samples']:,} samples, {row['late']:,} late, "
        f"{row['lost']:,} lost, {row['damaged']:,} damaged, in {', '.join(row['files'])}"
        for row in found["labels"]
    ]
    return "\n".join([*(lines or ["nothing was recorded"]), *(f"next: {command}" for command in found["next"])])
