"""Recordings: whole files of samples, before windows are cut from them, and what was wrong with some of them."""

import difflib
import hashlib
from dataclasses import dataclass, field

import numpy as np

from ..errors import DataError

MAX_CLASSES = 256
MAX_CHANNELS = 256
MAX_TEXT_BYTES, MAX_UNIT_BYTES = 32, 16  # of the model file
MIN_RATE_HZ, MAX_RATE_HZ = 1e-3, 1e6
FAULT_KINDS = ("unreadable", "header", "value", "time", "rate", "channels", "label", "duplicate", "short", "gap")
FAULT_KINDS += ("manifest",)
FAULTS_SHOWN = 5  # of a kind
QUOTED = 60  # characters of a cell or name that a sentence shows
MAX_HINTS = 20  # a set: each costs milliseconds, and nobody reads more


@dataclass
class Recording:
    """One stretch of samples without a gap.

    Fields:
        name: file, relative to the data folder, with ":2", ":3" behind it for what follows a gap.
        label, group: texts.
        samples: (S, C), int16 counts, or float64 in the units of the channels.
        start: first sample of this stretch in its file, after it was brought to the rate of the set.
        part: "train" or "test" where a manifest fixes the split, else "".
        filled: samples that were missing and are interpolated, or zeros behind the end of a short clip.
        file: the file alone.
    """

    name: str
    label: str
    group: str
    samples: np.ndarray
    start: int = 0
    part: str = ""
    filled: int = 0
    file: str = ""


@dataclass
class Fault:
    """One thing that is wrong with a file: what it is, and a sentence that says what, got, expected, what to do.

    ``kind`` is one of FAULT_KINDS. A "gap" cuts a recording in two, "short" stands for all recordings that are
    shorter than a window, "manifest" leaves one line out; the others leave the file out.
    """

    kind: str
    file: str
    text: str

    def __str__(self):
        return self.text if self.kind in ("gap", "short", "manifest") else f"left out {self.text}"


@dataclass
class Recordings:
    """A folder of recordings, read.

    Fields:
        name: of the set.    kind: "csv", "wav" or "bundled".
        recordings: list of Recording, in the order of their names.
        labels: class names in order.    channels, units: texts.
        counts_per_unit: float32 (C,) where samples are counts; None where they are in units and not scaled yet.
        sample_rate_hz: of all recordings, 0.0 where it is not known.
        faults: list of Fault.    notes: one line on each other thing that the user should know.
        n_files: files that were looked at.
    """

    name: str
    kind: str
    recordings: list
    labels: list
    channels: list
    units: list
    counts_per_unit: np.ndarray | None
    sample_rate_hz: float
    faults: list = field(default_factory=list)
    notes: list = field(default_factory=list)
    n_files: int = 0

    @property
    def n_read(self):
        """Files of which something is used."""
        return len({recording.file for recording in self.recordings})

    def lines(self):
        """All that the user should know, a line each: notes, faults (at most 5 of a kind), how many files were read."""
        lines = list(self.notes)
        for kind in FAULT_KINDS:
            found = [str(fault) for fault in self.faults if fault.kind == kind]
            lines += found[:FAULTS_SHOWN]
            if len(found) > FAULTS_SHOWN:
                lines.append(f"and {len(found) - FAULTS_SHOWN} more like this")
        if self.n_files:
            lines.append(f"read {self.n_read} of {self.n_files} files")
        return lines


class FileFault(Exception):
    """Stops the reading of one file; never leaves this package."""

    def __init__(self, kind, where, got, expected, advice):
        super().__init__(kind)
        self.kind, self.parts = kind, (where, got, expected, advice)


class Reading:
    """What the readers of one folder find out: faults, notes, and how many files they looked at."""

    def __init__(self, folder, strict=False, once=True):
        self.folder, self.strict, self.once = folder, strict, once
        self._names = {}
        self.faults, self.notes, self.n_files = [], [], 0
        self._counted, self._hints = {}, {}

    def check_new(self, raw):
        """SHA-256 of the bytes of a file, for ``remember``.

        Raises:
            FileFault: if ``once`` and a file that is used has the same: it could be on both sides of a split.
        """
        digest = hashlib.sha256(raw).digest()
        if self.once and digest in self._names:
            other = self._names[digest]
            raise FileFault("duplicate", "", f"the same bytes as {other}", "each recording once", "remove one of them")
        return digest

    def remember(self, digest, file):
        """Remember that a file is used."""
        self._names[digest] = file

    def did_you_mean(self, text, known):
        """A hint at the nearest of the known texts, or "" where none is near."""
        if text not in self._hints and len(self._hints) < MAX_HINTS:
            nearest = difflib.get_close_matches(text[:200], known, n=1)
            self._hints[text] = f"did you mean {shown(nearest[0])}?" if nearest else ""
        return self._hints.get(text, "")

    def add(self, kind, file, where, got, expected, advice):
        """Remember a fault.

        Raises:
            DataError: where the settings are strict.
        """
        fault = Fault(kind, file, sentence(file, where, got, expected, advice))
        if self.strict:
            raise DataError(fault.text)
        self.faults.append(fault)

    def add_fault(self, file, fault):
        """The same for a FileFault."""
        self.add(fault.kind, file, *fault.parts)

    def count(self, note):
        """Count one file of which ``note`` is true; ``finish`` makes one line of all of them."""
        self._counted[note] = self._counted.get(note, 0) + 1

    def finish(self):
        """Turn what was counted into notes: "3 files: ..."."""
        for note, n_files in self._counted.items():
            self.notes.append(f"{n_files} file{'s' * (n_files != 1)}: {note}")
        self._counted = {}


def sentence(file, where, got, expected, advice):
    """What is wrong with a file, in one line."""
    place = f"{file}: {where}" if where else file
    return f"{place}: got {got}, expected {expected}; {advice}"


def shown(text, most=QUOTED):
    """Text that came from outside, as one line: what is not printable is escaped, what is long is cut."""
    text = text if len(text) <= most else text[: most - 3] + "..."
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def quoted(text):
    """The same in quotes."""
    return f"'{shown(text)}'"


def fits(text, most_bytes):
    """Whether a text can be inside a model file."""
    return text.isprintable() and len(text.encode("utf-8", "replace")) <= most_bytes
