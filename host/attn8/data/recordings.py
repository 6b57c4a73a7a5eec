"""Recordings: whole files of samples, before windows are cut from them."""

from dataclasses import dataclass, field

import numpy as np


@dataclass
class Recording:
    """One stretch of samples without a gap.

    Fields:
        name: file, relative to the data folder, with ":2", ":3" behind it for what follows a gap.
        label, group: texts.
        samples: (S, C), int16 counts, or float64 in the units of the channels.
        start: first sample of this stretch in its file, after it was brought to the rate of the set.
        part: "train" or "test" where a manifest fixes the split, else "".
        filled: samples that were missing and are interpolated.
    """

    name: str
    label: str
    group: str
    samples: np.ndarray
    start: int = 0
    part: str = ""
    filled: int = 0


@dataclass
class Fault:
    """One thing that is wrong with a file: what it is, and a sentence that says what, got, expected, what to do.

    ``kind`` is one of FAULT_KINDS; a "gap" cuts a recording in two, the others leave the file out.
    """

    kind: str
    file: str
    text: str


FAULT_KINDS = ("unreadable", "header", "value", "time", "rate", "channels", "label", "short", "gap", "manifest")


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
