"""A newcomer's folder of CSV recordings, made from the bundled ones: ``python tests/own_recordings.py FOLDER``.

One file a recording, label = folder, person = name up to the first "_", time in milliseconds, values in units. With
``--faults``: one file into which a program wrote its traceback, one with a second missing in its middle, and one in a
folder that is no label of the set, a misspelling.
"""

import sys
from pathlib import Path

import numpy as np

from attn8.data.folder import BUNDLED

BROKEN, GAP, UNKNOWN = "PEN/p1_1.csv", "ABD/p2_1.csv", "ABDD/p3_9.csv"
LABELS = ("ABD", "ER", "FEL", "IR", "PEN", "ROW", "TRAP")


def write_folder(folder, subjects=range(1, 11), faults=False, decimals=4):
    """Writes the recordings of these subjects. Returns the paths, relative to the folder."""
    arrays = np.load(BUNDLED["shoulder_exercises"])
    ends = np.cumsum(arrays["length"])
    counts, written = {}, []
    for end, length, label, subject in zip(ends, arrays["length"], arrays["label"], arrays["subject"], strict=True):
        if subject not in subjects:
            continue
        label = str(arrays["labels"][label])
        number = counts[label, subject] = counts.get((label, subject), 0) + 1
        samples = arrays["samples"][end - length : end] / arrays["counts_per_unit"]
        name = f"{label}/p{subject}_{number}.csv"
        _write(Path(folder) / name, _lines(samples, arrays, decimals))
        written.append(name)
    return written + _add_faults(Path(folder)) if faults else written


def _lines(samples, arrays, decimals):
    header = [f"{c} [{u}]" for c, u in zip(arrays["channels"], arrays["units"], strict=True)]
    yield ",".join(["time [ms]", *header])
    for i, row in enumerate(samples):
        yield ",".join([str(i * 20), *(f"{value:.{decimals}f}" for value in row)])


def _write(path, lines):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")


def _add_faults(folder):
    lines = (folder / BROKEN).read_text().splitlines()
    _write(folder / BROKEN, [*lines[:500], "1000", "Traceback (most recent call last):"])
    lines = (folder / GAP).read_text().splitlines()
    _write(folder / GAP, lines[:600] + lines[650:])
    lines = (folder / GAP.replace("_1", "_2")).read_text().splitlines()
    _write(folder / UNKNOWN, lines)
    return [UNKNOWN]


if __name__ == "__main__":
    print(len(write_folder(sys.argv[1], faults="--faults" in sys.argv)), "files")
