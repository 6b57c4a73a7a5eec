"""A folder of recordings, or the bundled set, as Recordings."""

from pathlib import Path

import numpy as np

from ..errors import DataError
from . import grid
from .csv_folder import read_csv_files
from .files import class_names, entries_of, folder_kind, misspelt, of_one_group
from .npz import fault, read_npz
from .recordings import Fault, Reading, Recording, Recordings, sentence, shown
from .wav_folder import read_wav_files

BUNDLED = {"shoulder_exercises": Path(__file__).resolve().parent / "shoulder_exercises.npz"}
BUNDLED_KEYS = ("samples", "length", "label", "subject", "labels", "channels", "units", "counts_per_unit")
BUNDLED_KEYS += ("sample_rate_hz",)
READERS = {"csv": read_csv_files, "wav": read_wav_files}


def load_recordings(data_config, folder=None, need_labels=True, one_class=False):
    """Read a folder of CSV or WAV recordings, or the bundled set.

    Args:
        data_config: attn8.config.DataConfig.
        folder: path, in place of ``data.file``; without both it is the bundled set ``data.name``.
        need_labels: False reads files whose label is not known too, and labels nothing.
        one_class: True takes a folder of a single class too, with a note.
    Returns:
        Recordings, each of at least one window.
    Raises:
        DataError: if there is nothing to use, or for the first fault where ``data.strict``.
        ConfigError: for a pattern that is none.    ToolMissingError: for WAV without the extra ``audio``.
    """
    folder = folder or data_config.file
    if not folder:
        return _bundled(data_config)
    kind, reading = folder_kind(folder), Reading(shown(str(folder), 200), data_config.strict, once=need_labels)
    entries = entries_of(folder, kind, data_config, reading, need_labels)
    found, channels, units, counts_per_unit, rate = READERS[kind](entries, data_config, reading)
    reading.finish()
    set_ = Recordings(_name_of(folder), kind, found, [], channels, units, counts_per_unit, rate)
    set_.faults, set_.notes, set_.n_files = reading.faults, reading.notes, reading.n_files
    if not found:
        raise _nothing_left(reading)
    _leave_out_short(set_, data_config, reading)
    if need_labels:
        notes = set_.notes if one_class else None
        set_.labels = class_names(set_.recordings, data_config, reading.folder, notes)
        set_.notes += [] if data_config.labels else misspelt(set_.recordings)
        set_.notes += of_one_group(set_.recordings)
    return set_


def _name_of(folder):
    return shown(Path(folder).resolve().name) or "data"


def _nothing_left(reading):
    if not reading.faults:
        return DataError(sentence(reading.folder, "", "no file to read", "recordings", "check manifest.csv"))
    first = reading.faults[0].text
    return DataError(f"{reading.folder}: none of {reading.n_files} files can be used; the first: {first}")


def _leave_out_short(set_, data_config, reading):
    """Keep the recordings that hold a window; the others are one fault, or an error where none is left."""
    window = data_config.window
    kept = [recording for recording in set_.recordings if len(recording.samples) >= window]
    short = [recording for recording in set_.recordings if len(recording.samples) < window]
    if not short:
        return
    longest = max(len(recording.samples) for recording in set_.recordings)
    shortest = min(len(recording.samples) for recording in short)
    seconds = f" ({window / set_.sample_rate_hz:.3g} s)" if set_.sample_rate_hz else ""
    expected = f"data.window = {window} samples{seconds}"
    if not kept:
        advice = f"choose a shorter window: data.window = {longest} fits the longest"
        got = f"{len(short)} recordings of at most {longest} samples"
        raise DataError(sentence(reading.folder, "data.window", got, expected, advice))
    some = ", ".join(recording.name for recording in short[:3]) + (", ..." if len(short) > 3 else "")
    text = (
        f"{len(short)} of {len(set_.recordings)} recordings are too short ({some}): got {shortest} samples, "
        f"expected {expected}; with data.window = {shortest} all could be used"
    )
    if reading.strict:
        raise DataError(text)
    set_.faults.append(Fault("short", short[0].name, text))
    set_.recordings = kept


# ---- the bundled set -----------------------------------------------------------------------------------------------


def _bundled(data_config):
    name = data_config.name
    if name not in BUNDLED:
        raise fault("data.name", "value", repr(name), " or ".join(BUNDLED), "or set data.file")
    arrays = read_npz(BUNDLED[name], BUNDLED_KEYS)
    labels, channels = arrays["labels"].tolist(), arrays["channels"].tolist()
    used = [_index(channel, channels, "channels") for channel in data_config.channels] or list(range(len(channels)))
    ends = np.cumsum(arrays["length"])
    own, rate = float(arrays["sample_rate_hz"]), data_config.sample_rate_hz or float(arrays["sample_rate_hz"])
    reading, found = Reading(name, data_config.strict), []
    for number, end in enumerate(ends):
        samples = arrays["samples"][end - arrays["length"][number] : end]
        label, subject = labels[arrays["label"][number]], str(arrays["subject"][number])
        samples = samples if used == list(range(len(channels))) else samples[:, used]
        samples = samples if rate == own else _at_rate(samples, rate / own)
        found.append(Recording(f"recording {number}", label, subject, samples, file=f"recording {number}"))
    if data_config.labels:
        for label in data_config.labels:
            _index(label, labels, "labels")
        found = [recording for recording in found if recording.label in data_config.labels]
        labels = list(data_config.labels)
    units, scale = [arrays["units"].tolist()[i] for i in used], arrays["counts_per_unit"][used]
    set_ = Recordings(name, "bundled", found, labels, [channels[i] for i in used], units, scale, rate)
    _leave_out_short(set_, data_config, reading)
    return set_


def _index(text, known, key):
    if text not in known:
        raise DataError(
            sentence(f"data.{key}", "", repr(text), "one of " + ", ".join(known), "correct it or set data.file")
        )
    return known.index(text)


def _at_rate(samples, factor):
    if not 1 / grid.MAX_RATIO <= factor <= grid.MAX_RATIO:
        raise DataError(f"data.sample_rate_hz: got {factor:g} times the rate of the set, expected 0.1..10; change it")
    moved = grid.resample(samples.astype(np.float64), np.arange(len(samples)), factor)
    return np.clip(np.rint(moved), -32768, 32767).astype(np.int16)
