"""``attn8 new``: a project that trains as it stands, on the sample of recordings that it contains."""

import json
import os
import shutil
import tempfile
from pathlib import Path

import numpy as np

from . import config
from .data.folder import BUNDLED
from .data.npz import read_npz
from .errors import Attn8Error
from .micropython import device_folder

FILES = Path(__file__).with_name("starter_files")
# Where a file of FILES goes; the others keep their names.
PLACES = {"data_README.md": "data/README.md", "gitignore": ".gitignore"}
BUNDLED_SET = "shoulder_exercises"
EXERCISES = {"PEN": "pendulum", "ABD": "abduction", "ROW": "row"}
PEOPLE = (1, 2, 3, 4, 5)
RIGHT_ARM = 1
SECONDS = 15
DECIMALS = {"g": 4, "rad/s": 3}  # as fine as the counts of the bundled recordings


class StarterError(Attn8Error):
    """A starter project cannot be made where it was asked for; nothing was changed."""


def new_project(folder):
    """Makes a starter project.

    Args:
        folder: the project's folder; it must be absent or empty, its parent must exist.

    Returns:
        dict: "folder", str, as given, and "files", the paths that were made, relative to it, sorted.

    Raises:
        StarterError: if the folder cannot be used. Whatever stops the work, nothing is left behind.
    """
    target = _check(folder)
    content = project_files(target.name.strip() or "starter")
    try:
        _write_project(target, content)
    except (OSError, ValueError) as error:
        raise _error(folder, getattr(error, "strerror", None) or error, "a folder that can be written") from None
    return {"folder": str(folder), "files": sorted(content)}


def project_files(name):
    """Returns {path relative to the project: bytes} of a starter project called ``name``."""
    model_name = json.dumps(_model_name(name), ensure_ascii=False)
    fills = {
        "config.toml": ("{name}", model_name),
        "README.md": ("{title}", name),
        "data_README.md": ("{seconds}", str(SECONDS)),
    }
    content = {}
    for path in sorted(FILES.iterdir()):
        if path.is_file():
            text = path.read_text("utf-8")
            text = text.replace(*fills[path.name]) if path.name in fills else text
            content[PLACES.get(path.name, path.name)] = text.encode()
    for path in sorted(device_folder().glob("*.py")):
        content[f"lib/attn8/{path.name}"] = path.read_bytes()
    content["data/LICENSE.txt"] = BUNDLED[BUNDLED_SET].with_suffix(".LICENSE.txt").read_bytes()
    return content | sample_recordings()


# ---- the name ------------------------------------------------------------------------------------------------------


def _error(folder, got, expected, advice="choose another NAME"):
    return StarterError(f"new {str(folder)!r}: got {got}, expected {expected}; {advice}")


def _check(folder):
    """Returns the absolute path of a folder that may become a project."""
    if not str(folder).strip():
        raise _error(folder, "no name", "the name of a new folder")
    target = Path(os.path.abspath(folder))  # not resolve(): a link to an empty folder stays one
    if not str(target).isprintable():  # config.toml could not name its data
        raise _error(folder, "characters that cannot be printed", "a path of printable text")
    try:
        if target.is_dir():
            inside = next(target.iterdir(), None)
            if inside is not None:
                raise _error(folder, f"a folder that holds {inside.name!r}", "an empty or a new one")
        elif os.path.lexists(target):
            raise _error(folder, "a file of that name", "an empty or a new folder")
        elif not target.parent.is_dir():
            raise _error(folder, f"no folder {target.parent}", "one to put it in", "make that folder first")
    except OSError as error:
        raise _error(folder, error.strerror, "a folder that can be read") from None
    return target


def _model_name(name):
    """A project's name, cut to what the name field of a model file holds."""
    return name.encode()[: config.MAX_NAME_BYTES].decode("utf-8", "ignore").strip()


# ---- the sample ----------------------------------------------------------------------------------------------------


def sample_recordings():
    """Returns {"data/<label>/<person>_1.csv": bytes}: the middle SECONDS of some bundled recordings, in units."""
    keys = ("samples", "length", "label", "subject", "side", "labels", "channels", "units", "counts_per_unit")
    arrays = read_npz(BUNDLED[BUNDLED_SET], (*keys, "sample_rate_hz"))
    ends = np.cumsum(arrays["length"], dtype=np.int64)
    found = {}
    for i, end in enumerate(ends):
        label, person = str(arrays["labels"][arrays["label"][i]]), int(arrays["subject"][i])
        if label in EXERCISES and person in PEOPLE and arrays["side"][i] == RIGHT_ARM:
            recording = arrays["samples"][end - arrays["length"][i] : end]
            found[f"data/{EXERCISES[label]}/p{person}_1.csv"] = _csv(recording, arrays).encode()
    return found


def _csv(recording, arrays):
    """The middle of a recording, int16 (S, C) counts, as CSV with a time column in ms."""
    rate, units = float(arrays["sample_rate_hz"]), arrays["units"].tolist()
    n = int(SECONDS * rate)
    first = (len(recording) - n) // 2
    values = recording[first : first + n] / arrays["counts_per_unit"]
    header = [f"{channel} [{unit}]" for channel, unit in zip(arrays["channels"], units, strict=True)]
    lines = [",".join(["time [ms]", *header])]
    for number, row in enumerate(values):
        texts = [f"{value:.{DECIMALS[unit]}f}" for value, unit in zip(row, units, strict=True)]
        lines.append(",".join([f"{1000 * number / rate:.0f}", *texts]))
    return "\n".join(lines) + "\n"


# ---- all or nothing ------------------------------------------------------------------------------------------------


def _write_project(target, content):
    """Writes everything into a hidden folder, then moves it into place: a project is whole or not there."""
    fresh = not target.exists()
    stage = Path(tempfile.mkdtemp(prefix=".attn8_new_", dir=target.parent if fresh else target))
    try:
        project = stage / "project"
        for path, data in content.items():
            (project / path).parent.mkdir(parents=True, exist_ok=True)
            (project / path).write_bytes(data)
        if fresh:
            os.rename(project, target)
        else:
            _move_into(project, target)
    finally:
        shutil.rmtree(stage, ignore_errors=True)


def _move_into(project, target):
    """Moves the entries of ``project`` into an existing folder; takes them back if one cannot be moved."""
    moved = []
    try:
        for entry in sorted(project.iterdir()):
            os.rename(entry, target / entry.name)
            moved.append(entry)
    except BaseException:
        for entry in moved:
            os.rename(target / entry.name, entry)
        raise
