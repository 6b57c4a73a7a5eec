"""Recordings as ``attn8 train`` reads them, written as they come: LABEL/PERSON_n.csv with a time column, or .wav."""

import math
import re
import struct
import time
from pathlib import Path

from . import BoardError

_FLUSH_S = 1
_NAME_BYTES = 32
_MOST_FILES = 10_000
_WAV_HEAD = struct.Struct("<4sI4s4sIHHIIHH4sI")


class RecordingError(BoardError):
    """A recording cannot be written; what was recorded before stays."""


def check_name(option, text, separators=""):
    """Returns a label or a person as it may stand in a file name. Raises RecordingError."""
    text = text.strip()
    bad = [c for c in text if not c.isprintable() or c in '/\\:*?"<>|' + separators]
    if not text or bad or text.startswith(".") or len(text.encode()) > _NAME_BYTES:
        expected = f'1 to {_NAME_BYTES} bytes without / \\ : * ? " < > |'
        also = f" and without {separators!r}, where the name of a person ends" if separators else ""
        raise RecordingError(f"{option}: got {text!r}, expected {expected}{also}")
    return text


def new_file(folder, label, person, suffix):
    """Opens LABEL/PERSON_n with the first number that is free; a file that is there is never touched.

    Returns:
        (path, binary file).
    """
    place = Path(folder, label)
    try:
        place.mkdir(parents=True, exist_ok=True)
        taken = {found[1] for found in (re.fullmatch(r".*_(\d+)", path.stem) for path in place.iterdir()) if found}
        for n in range(1, _MOST_FILES):
            if str(n) not in taken or not list(place.glob(f"{_quoted(person)}_{n}.*")):
                path = place / f"{person}_{n}{suffix}"
                try:
                    return path, open(path, "xb")
                except FileExistsError:
                    continue
    except OSError as error:
        raise RecordingError(f"{place}: {error.strerror}; choose another FOLDER") from None
    raise RecordingError(f"{place}: more than {_MOST_FILES} recordings of {person}; choose another --person")


def _quoted(text):
    return re.sub(r"([\[\]*?])", r"[\1]", text)


class CsvFile:
    """A CSV file with a time column: what is missing is a gap in it, where the reader fills in or cuts.

    Args:
        columns: names with units.    counts_per_unit: by which int16 counts are divided; () for numbers in units.
    """

    SUFFIX = ".csv"
    CUTS = False  # at each gap

    def __init__(self, file, columns, counts_per_unit, rate_hz):
        self.file, self.counts_per_unit, self.rate_hz = file, counts_per_unit, rate_hz
        # One digit more than the counts of a unit have: each count is its own number, and rounds back to it.
        self.digits = [math.floor(math.log10(c)) + 1 if c >= 1 else 0 for c in counts_per_unit]
        self.start_us, self.flushed = None, time.monotonic()
        file.write(("time [ms]," + ",".join(columns) + "\n").encode())

    def write(self, values, times_us):
        """Adds samples (n, C) taken at times (n,)."""
        self.start_us = times_us[0] if self.start_us is None else self.start_us
        lines = [
            f"{(t - self.start_us) / 1000:.3f},{self._row(row)}\n" for t, row in zip(times_us, values, strict=True)
        ]
        self.file.write("".join(lines).encode())
        if time.monotonic() - self.flushed >= _FLUSH_S:
            self.flush()

    def _row(self, row):
        if not self.counts_per_unit:
            return ",".join(f"{v:.7g}" for v in row)
        counts = zip(row, self.counts_per_unit, self.digits, strict=True)
        return ",".join(f"{v / c:.{digits}f}" for v, c, digits in counts)

    def flush(self):
        self.file.flush()
        self.flushed = time.monotonic()

    def close(self, remark):
        self.file.write(f"# {remark}\n".encode())
        self.file.close()


class WavFile:
    """A WAV file of int16. Its head is brought up to date with each flush, so it can be read whenever writing stops."""

    SUFFIX = ".wav"
    CUTS = True  # a WAV file cannot say that something is missing

    def __init__(self, file, columns, counts_per_unit, rate_hz):
        self.file, self.rate_hz, self.n_bytes, self.flushed = file, int(rate_hz), 0, time.monotonic()
        file.write(self._head())

    def _head(self):
        riff = (b"RIFF", 36 + self.n_bytes, b"WAVE")
        chunk = (b"fmt ", 16, 1, 1, self.rate_hz, 2 * self.rate_hz, 2, 16)
        return _WAV_HEAD.pack(*riff, *chunk, b"data", self.n_bytes)

    def write(self, values, times_us):
        data = values.astype("<i2").tobytes()
        self.file.write(data)
        self.n_bytes += len(data)
        if time.monotonic() - self.flushed >= _FLUSH_S:
            self.flush()

    def flush(self):
        """Samples first, then the head that counts them."""
        self.file.flush()
        self.file.seek(0)
        self.file.write(self._head())
        self.file.flush()
        self.file.seek(0, 2)
        self.flushed = time.monotonic()

    def close(self, remark):
        self.flush()
        self.file.close()


class Recordings:
    """The files of a session: one from each time that a label is switched on until it is switched off.

    Args:
        folder: for LABEL/PERSON_n.    sensor: sensors.Sensor.

    Attributes:
        label: what is recorded now, or None.    path: of the file that is open, or None.
        counts: {label: dict of files (list of path), samples, late, lost, damaged}.
    """

    def __init__(self, folder, person, sensor):
        self.folder, self.person, self.sensor = Path(folder), person, sensor
        self.label = self.path = self._file = None
        self._mine, self.counts = {}, {}

    def switch(self, label):
        """Ends the recording of now, and begins one of a label, or none."""
        if label == self.label:
            return
        self._close()
        self.label = label

    def add(self, block, n=None):
        """Writes the first n samples of a streaming.Block; they are nobody's where there is no label."""
        if self.label is None:
            return
        counts = self.counts.setdefault(self.label, _no_counts())
        if self._file and self._kind.CUTS and block.lost + block.damaged:
            self._close()
        fresh = self._file is None
        if fresh:
            self._open(counts)
        values, times_us = block.values[:n], block.times_us[:n]
        missing = {} if fresh and not self._kind.CUTS else {"lost": block.lost, "damaged": block.damaged}
        for name, value in {"samples": len(values), "late": block.late, **missing}.items():
            counts[name] += value
            self._mine[name] += value
        try:
            self._file.write(values, times_us)
        except OSError as error:
            raise RecordingError(f"{self.path}: {error.strerror}; what was written before stays") from None

    @property
    def _kind(self):
        return WavFile if self.sensor.is_audio else CsvFile

    def _open(self, counts):
        sensor = self.sensor
        self.path, file = new_file(self.folder, self.label, self.person, self._kind.SUFFIX)
        counts["files"].append(str(self.path))
        self._mine = _no_counts()
        self._file = self._kind(file, sensor.columns, sensor.counts_per_unit, sensor.rate_hz)
        self._file.flush()

    def _close(self):
        if self._file:
            m = self._mine
            self._file.close(f"{m['samples']} samples, {m['late']} late, {m['lost']} lost, {m['damaged']} damaged")
        self._file = self.path = None

    def close(self):
        """Ends the recording of now; nothing is lost if it was never called but what a second holds."""
        self.switch(None)


def _no_counts():
    return {"files": [], "samples": 0, "late": 0, "lost": 0, "damaged": 0}
