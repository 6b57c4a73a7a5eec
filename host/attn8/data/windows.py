"""Windows: of recordings, or of the arrays of an .npz."""

import hashlib
import os
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ..config import DataConfig
from .files import SUFFIXES
from .folder import BUNDLED as BUNDLED
from .folder import load_recordings
from .groups import merge
from .npz import MAX_DATA_BYTES, fault, read_npz
from .recordings import MAX_CHANNELS, MAX_CLASSES, MAX_TEXT_BYTES, MAX_UNIT_BYTES

MAX_WINDOW = 32767
MAX_VALUES = 1 << 20  # of a window: the largest tensor of a model file
MAX_SET_VALUES = 1 << 29  # of x: 1 GiB as int16
BLOCK_VALUES = 1 << 18  # that are looked at together, so that what numpy makes of them on the way stays small
MULAW_FULL_SCALE = 32767  # counts of a sample of 1.0
MAX_GROUP_NAME = 256  # characters
BLOCKS = 20  # parts into which windows without groups are cut
X_KEYS = ("x", "encoding", "counts_per_unit")
KEYS = (*X_KEYS, "y", "group", "test", "labels", "channels", "units", "sample_rate_hz")


@dataclass(repr=False)
class Windows:
    """A set of windows, as counts of the sensor.

    Fields:
        x: int16 (N, T, C), counts.
        y: int64 (N,), class numbers in [0, len(labels)).
        group: int64 (N,), index into ``group_names``; a group is never on both sides of a split.
        test: bool (N,), a fixed test part, or None.
        labels, channels, units: texts, per class and per channel.
        counts_per_unit: float32 (C,); x / counts_per_unit is in ``units``.
        sample_rate_hz: samples a second, 0.0 where it is not known.
        hop: samples from one window to the next.
        name: of the data set.
        group_names: text of each group.
        notes: one line on each thing the user should know about the data.
        recording: int64 (N,), index into ``recording_names``, or None where the windows came cut.
        start: int64 (N,), first sample of each window in its file, at the rate of the set, or None.
        recording_names: text of each recording.
    """

    x: np.ndarray
    y: np.ndarray
    group: np.ndarray
    test: np.ndarray | None
    labels: list[str]
    channels: list[str]
    units: list[str]
    counts_per_unit: np.ndarray
    sample_rate_hz: float
    hop: int
    name: str
    group_names: list[str]
    notes: list[str] = field(default_factory=list)
    recording: np.ndarray | None = None
    start: np.ndarray | None = None
    recording_names: list[str] = field(default_factory=list)

    def __len__(self):
        return len(self.y)

    def __repr__(self):
        _, steps, channels = self.x.shape
        sizes = f"{len(self)} windows of {steps} x {channels}, {len(self.labels)} classes"
        return f"Windows {self.name!r}: {sizes}, {len(self.group_names)} groups"

    def save(self, path):
        """Write an .npz that ``load_windows`` reads back."""
        names = np.array(self.group_names)
        arrays = {"x": self.x, "y": self.y, "group": names[self.group], "labels": self.labels}
        arrays |= {"channels": self.channels, "units": self.units, "counts_per_unit": self.counts_per_unit}
        arrays |= {"test": self.test} if self.test is not None else {}
        arrays |= {"sample_rate_hz": self.sample_rate_hz} if self.sample_rate_hz else {}
        np.savez(path, **arrays)

    def fingerprint(self):
        """SHA-256, as hex, of everything that training sees."""
        found = hashlib.sha256()
        test = np.empty(0, bool) if self.test is None else self.test
        for array in (self.x, self.y, self.group, test, self.counts_per_unit):
            found.update(repr(array.shape).encode() + np.ascontiguousarray(array).data)
        found.update(repr((self.labels, self.channels, self.units, self.group_names, self.sample_rate_hz)).encode())
        return found.hexdigest()


def load_windows(data_config, file=None, counts_per_unit=None, trust_code=False):
    """Load the windows that a configuration names.

    Args:
        data_config: attn8.config.DataConfig.
        file: path of an .npz or a folder that takes the place of the configured set.
        counts_per_unit: float (C,), the scale of an existing model; float data are brought to it.
        trust_code: allow ``data.function`` to be imported and called.
    Returns:
        Windows.
    Raises:
        DataError: naming key, got and expected.    ConfigError: for ``data.function`` without trust_code.
    """
    if data_config.function and not file:
        from .arrays import call_function

        return call_function(data_config.function, trust_code, data_config.hop, counts_per_unit)
    path = file or data_config.file
    if path and not _is_folder(path):
        return windows_of_arrays(str(path), _read_npz(path, KEYS), data_config.hop, counts_per_unit)
    return windows_of(load_recordings(data_config, path), data_config, counts_per_unit)


def load_x(file, counts_per_unit=None, data_config=None, notes=None):
    """Load only the samples of an .npz or a folder, as counts; labels are not needed.

    Args:
        file: path; of an .npz the keys x, and where present encoding and counts_per_unit, are read.
        counts_per_unit: float (C,), the scale of the model the samples are for; float samples are brought to it.
        data_config: attn8.config.DataConfig, how a folder is cut.
        notes: list that takes one line on each thing the user should know.
    Returns:
        int16 (N, T, C).
    Raises:
        DataError: naming key, got and expected.
    """
    if _is_folder(file):
        data_config = data_config or DataConfig()
        windows = windows_of(load_recordings(data_config, file, need_labels=False), data_config, counts_per_unit)
        if notes is not None:
            notes += windows.notes
        return windows.x
    return _counts(str(file), _read_npz(file, X_KEYS), counts_per_unit, notes)[0]


def _is_folder(path):
    return "\0" not in str(path) and os.path.isdir(path)


def _read_npz(path, keys):
    """Arrays of an .npz; a single recording is told to bring its folder."""
    suffix = Path(path).suffix.lower()
    if any(suffix in suffixes for suffixes in SUFFIXES.values()):
        raise fault(path, "file", f"one {suffix} file", "a folder of them, or an .npz", "give the folder that it is in")
    return read_npz(path, keys)


# ---- windows of recordings -----------------------------------------------------------------------------------------


def windows_of(recordings, data_config, counts_per_unit=None):
    """Cut recordings into windows; none crosses from one recording, or stretch, into the next.

    Args:
        recordings: Recordings.
        data_config: attn8.config.DataConfig; ``window`` and ``hop`` are used.
        counts_per_unit: float (C,), the scale of an existing model, to which the samples are brought.
    Returns:
        Windows, in the order of the recordings; its notes hold all that ``recordings.lines()`` says.
    Raises:
        DataError: if they would be too large, or a group of a manifest is on both sides.
    """
    counts, scale, notes = _counts_of(recordings, counts_per_unit)
    found = recordings.recordings
    starts, recording = _starts(recordings, data_config)
    first = np.concatenate([[0], np.cumsum([len(item.samples) for item in found], dtype=np.int64)[:-1]])
    group_names, group = np.unique([item.group for item in found], return_inverse=True)
    order = _order(group_names.tolist())
    index = {label: number for number, label in enumerate(recordings.labels)}
    windows = Windows(
        x=_cut(counts, starts - first[recording], recording, data_config.window),
        y=np.array([index.get(item.label, 0) for item in found], np.int64)[recording],
        group=np.argsort(order)[group][recording],
        test=_test_of(recordings, recording),
        labels=recordings.labels,
        channels=recordings.channels,
        units=recordings.units,
        counts_per_unit=scale,
        sample_rate_hz=recordings.sample_rate_hz,
        hop=data_config.hop,
        name=recordings.name,
        group_names=[str(group_names[number]) for number in order],
        notes=notes + recordings.lines(),
        recording=recording,
        start=starts - first[recording] + np.array([item.start for item in found], np.int64)[recording],
        recording_names=[item.name for item in found],
    )
    if windows.test is not None:
        _check_fixed_split(recordings.name, windows)
    return windows


def _starts(recordings, data_config):
    window, hop, n_channels = data_config.window, data_config.hop, len(recordings.channels)
    if window * n_channels > MAX_VALUES:
        expected = f"data.window * channels <= {MAX_VALUES}"
        raise fault(recordings.name, "data.window", f"{window} * {n_channels}", expected, "choose a shorter window")
    lengths = [len(item.samples) for item in recordings.recordings]
    n_windows = sum(max((length - window) // hop + 1, 0) for length in lengths)
    if n_windows * window * n_channels * 2 > MAX_DATA_BYTES:
        got = f"{hop}, which makes {n_windows} windows of {window * n_channels * 2} bytes"
        raise fault(recordings.name, "data.hop", got, f"at most {MAX_DATA_BYTES} bytes", "choose a longer hop")
    return window_starts(lengths, window, hop)


def _cut(counts, starts, recording, window):
    """Windows (N, T, C) of the counts [(S, C)] of recordings: window n starts at starts[n] of recording[n]."""
    x = np.empty((len(starts), window, counts[0].shape[1]), np.int16)
    for number, (start, which) in enumerate(zip(starts, recording, strict=True)):
        x[number] = counts[which][start : start + window]
    return x


def _order(names):
    """Numbers that sort names, as integers where all are."""
    if all(name.isascii() and name.isdigit() and len(name) < 19 for name in names):
        return sorted(range(len(names)), key=lambda number: (int(names[number]), names[number]))
    return sorted(range(len(names)), key=names.__getitem__)


def _counts_of(recordings, model_counts_per_unit):
    """Samples of each recording as int16 counts [(S, C)], their scale, and notes on clipping."""
    samples = [item.samples for item in recordings.recordings]
    own, notes = recordings.counts_per_unit, []
    scale = own
    if model_counts_per_unit is not None:
        scale = _model_scale(recordings.name, model_counts_per_unit, samples[0].shape[1])
    if own is not None and np.array_equal(own, scale):
        return samples, own, notes
    counts, scale = _quantize_float(recordings.name, samples, scale, notes, own)
    return counts, scale, notes


def _test_of(recordings, recording):
    """Fixed test part (N,) of the recordings' ``part``, or None; without a part is train where another has one."""
    parts = [item.part for item in recordings.recordings]
    if not any(parts):
        return None
    test = np.array([part == "test" for part in parts])[recording]
    if test.all() or not test.any():
        got = f"{test.sum()} of {len(test)} windows in test"
        raise fault(recordings.name, "manifest.csv, split", got, "some in train and some in test", "or leave it out")
    return test


def window_starts(lengths, window, hop):
    """Where windows start when none may cross from one recording into the next.

    Args:
        lengths: int (R,), samples of each of the concatenated recordings.
        window, hop: samples.
    Returns:
        int64 (N,) first samples, and int64 (N,) the recording of each window.
    """
    first = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)[:-1]])
    counts = np.maximum((np.asarray(lengths, np.int64) - window) // hop + 1, 0)
    recording = np.repeat(np.arange(len(counts)), counts)
    number = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    return first[recording] + number * hop, recording


# ---- the user's .npz -----------------------------------------------------------------------------------------------


# Warnings are silenced: what does not fit is found by its value, and refused in a sentence.
@np.errstate(all="ignore")
def windows_of_arrays(source, arrays, hop=1, model_counts_per_unit=None):
    """Check arrays and make Windows of them.

    Args:
        source: what messages call them.
        arrays: dict of numpy arrays with the keys of an .npz: x and y, and any of the other KEYS.
        hop: samples from one window to the next.
        model_counts_per_unit: float (C,), the scale of an existing model; float data are brought to it.
    Returns:
        Windows.
    Raises:
        DataError: naming key, got and expected.
    """
    notes = []
    x, counts_per_unit = _counts(source, arrays, model_counts_per_unit, notes)
    n_windows, n_samples, n_channels = x.shape
    y, labels = _classes(source, arrays, n_windows)
    test = _test(source, arrays, n_windows)
    group, group_names = _groups(source, arrays, y, test, notes)
    windows = Windows(
        x=x,
        y=y,
        group=group,
        test=test,
        labels=labels,
        channels=_texts(source, arrays, "channels", n_channels) or [f"channel {i}" for i in range(n_channels)],
        units=_texts(source, arrays, "units", n_channels, distinct=False) or _default_units(arrays, n_channels),
        counts_per_unit=counts_per_unit,
        sample_rate_hz=_sample_rate(source, arrays),
        hop=min(hop, n_samples),
        name=Path(source).stem,
        group_names=group_names,
        notes=notes,
    )
    if test is not None:
        _check_fixed_split(source, windows)
    return windows


def _require(arrays, source, key, expected):
    if key not in arrays:
        got = f"no such key (there are: {', '.join(arrays) or 'none that attn8 reads'})"
        raise fault(source, key, got, expected, f"add it to the file, as in numpy.savez(file, {key}=...)")
    return arrays[key]


def _vector(source, arrays, key, length, kinds, expected):
    """A one-dimensional array of known length, or None where the key is absent."""
    if key not in arrays:
        return None
    array = arrays[key]
    if array.shape != (length,) or array.dtype.kind not in kinds:
        got = f"{array.dtype} {array.shape}"
        raise fault(source, key, got, f"{expected}, shape ({length},)", "make it match x")
    return array


@np.errstate(all="ignore")
def _counts(source, arrays, model_counts_per_unit=None, notes=None):
    """x as int16 counts and the counts per unit of each channel, float32 (C,)."""
    x = _require(arrays, source, "x", "samples (N, T, C)")
    if x.size > MAX_SET_VALUES:
        raise fault(source, "x", f"{x.size} values", f"at most {MAX_SET_VALUES}", "split the data into several")
    fits = x.ndim == 3 and 0 not in x.shape and x.shape[1] <= MAX_WINDOW and x.shape[2] <= MAX_CHANNELS
    if not fits or x.shape[1] * x.shape[2] > MAX_VALUES:
        expected = f"(N, T, C) with N >= 1, T in 1..{MAX_WINDOW}, C in 1..{MAX_CHANNELS}, T*C <= {MAX_VALUES}"
        raise fault(source, "x", f"shape {x.shape}", expected, "for one channel use x[:, :, None]")
    given = _scale(source, arrays, x.shape[2])
    mulaw = _is_mulaw(source, arrays, x)
    if mulaw:
        return mulaw_counts(x), np.full(x.shape[2], MULAW_FULL_SCALE, np.float32) if given is None else given
    if x.dtype.kind == "i" and x.dtype.itemsize == 2:
        return x.astype(np.int16), np.ones(x.shape[2], np.float32) if given is None else given
    if x.dtype.kind != "f":
        expected = "int16, float, or uint8 with encoding = mulaw8"
        raise fault(source, "x", f"dtype {x.dtype}", expected, "convert it with x.astype(numpy.int16)")
    if model_counts_per_unit is not None:
        given = _model_scale(source, model_counts_per_unit, x.shape[2])
    (counts,), scale = _quantize_float(source, [x], given, [] if notes is None else notes)
    return counts, scale


def _is_mulaw(source, arrays, x):
    encoding = arrays.get("encoding")
    if encoding is not None:
        text = str(encoding.item()) if encoding.size == 1 and encoding.dtype.kind in "US" else f"{encoding.dtype} array"
        text = text.removeprefix("b'").removesuffix("'")
        if text not in ("mulaw8", "none", ""):
            raise fault(source, "encoding", repr(text[:40]), "mulaw8", "decode x yourself and leave encoding out")
        if text == "mulaw8" and x.dtype != np.uint8:
            raise fault(source, "x", f"dtype {x.dtype}", "uint8, because encoding = mulaw8", "drop encoding")
        return text == "mulaw8"
    return False


def mulaw_counts(x):
    """Decode 8-bit mu-law (uint8, any shape) to int16 counts, full scale 32767."""
    codes = np.arange(256) / 127.5 - 1
    amplitude = np.sign(codes) * (256 ** np.abs(codes) - 1) / 255
    table = np.rint(amplitude * MULAW_FULL_SCALE).astype(np.int16)
    counts = np.empty(x.shape, np.int16)
    for rows in _row_slices(x):
        counts[rows] = table[x[rows]]
    return counts


def _scale(source, arrays, n_channels):
    expected = "float, one a channel, finite and > 0"
    scale = arrays.get("counts_per_unit")
    if scale is None:
        return None
    if scale.ndim == 0 and scale.dtype.kind in "fiu":
        scale = np.repeat(scale, n_channels)
    scale = _vector(source, {"counts_per_unit": scale}, "counts_per_unit", n_channels, "fiu", expected)
    scale = scale.astype(np.float32)
    if not (np.isfinite(scale).all() and (scale > 0).all()):
        raise fault(
            source, "counts_per_unit", f"{scale.min()} .. {scale.max()}", expected, "correct it or leave it out"
        )
    return scale


def _model_scale(source, counts_per_unit, n_channels):
    scale = np.asarray(counts_per_unit, np.float32)
    if scale.shape != (n_channels,):
        raise fault(source, "x", f"{n_channels} channels", f"{scale.size}, as the model has", "give it matching data")
    return scale


def _quantize_float(source, parts, scale, notes, own=None):
    """Bring samples to int16 counts.

    Args:
        parts: list of arrays (..., C), in units, or in counts of the scale ``own`` (C,).
        scale: counts per unit (C,) of the result, or None = automatic.    notes: takes a line on clipping.
    Returns:
        list of int16 arrays as the parts, and the scale.
    """
    own = None if own is None else own.astype(np.float64)
    largest = np.max([_largest(source, part, own) for part in parts], axis=0)
    if largest.max() > 1e30:
        raise fault(source, "x", f"a value of size {largest.max():.3g}", "at most 1e30", "choose a larger unit")
    if scale is None:
        scale = automatic_counts_per_unit(largest)
    clipped = largest * scale > 32767.5
    factors = scale.astype(np.float64)
    counts = [np.empty(part.shape, np.int16) for part in parts]
    for part, target in zip(parts, counts, strict=True):
        for rows in _row_slices(part):
            block = part[rows] if own is None else part[rows] / own
            for channel, factor in enumerate(factors):
                target[rows][..., channel] = np.clip(np.rint(block[..., channel] * factor), -32768, 32767)
    if clipped.any():
        notes.append(f"{source}: counts_per_unit makes {clipped.sum()} of {len(clipped)} channels clip at int16")
    return counts, scale


def _largest(source, part, own):
    """Largest magnitude of each channel, float64 (C,)."""
    largest = np.zeros(part.shape[-1])
    for rows in _row_slices(part):
        block = part[rows] if own is None else part[rows] / own
        if not np.isfinite(block).all():
            first, *rest = np.argwhere(~np.isfinite(block))[0].tolist()
            where = [rows.start + first, *rest]
            got = f"{part[tuple(where)]} at {where}"
            raise fault(source, "x", got, "finite numbers", "remove or fill those windows")
        found = np.abs(block).max(axis=tuple(range(block.ndim - 1)))
        largest = np.maximum(largest, found.astype(np.float64))  # a long double may become inf, which is refused
    return largest


def _row_slices(x):
    """Slices along the first axis, of some BLOCK_VALUES each."""
    n_rows = max(1, BLOCK_VALUES // max(1, x[:1].size))
    return (slice(start, start + n_rows) for start in range(0, len(x), n_rows))


def automatic_counts_per_unit(largest):
    """Counts per unit for float data: a power of two that leaves twice the range that was seen.

    Args:
        largest: float (C,), largest magnitude of each channel, in units, at most 1e30.
    Returns:
        float32 (C,); largest * result lies in (8192, 16384], or is 0.
    """
    _, exponent = np.frexp(np.where(largest > 0, largest, 1.0))
    exact = np.ldexp(1.0, np.clip(14 - exponent, -120, 120))
    return np.where(largest > 0, exact, 1.0).astype(np.float32)


def _default_units(arrays, n_channels):
    known = "counts_per_unit" in arrays or arrays["x"].dtype != np.int16
    return ["" if known else "count"] * n_channels


def _classes(source, arrays, n_windows):
    y = _require(arrays, source, "y", "class numbers (N,)")
    if y.dtype.kind in "US":
        advice = "number them with labels, y = numpy.unique(y, return_inverse=True) and give labels too"
        raise fault(source, "y", "texts", "class numbers as integers", advice)
    y = _vector(source, arrays, "y", n_windows, "biuf", "class numbers as integers")
    if y.dtype.kind == "f" and not (np.isfinite(y).all() and (y == np.rint(y)).all()):
        raise fault(
            source, "y", "fractions, NaN or inf", "class numbers as integers", "number the classes 0, 1, 2, ..."
        )
    labels = arrays.get("labels")
    if labels is not None:
        labels = _texts(source, arrays, "labels", labels.shape[0] if labels.ndim == 1 else 0)
    n_classes = len(labels) if labels else MAX_CLASSES
    if y.min() < 0 or y.max() >= n_classes:
        expected = f"0..{n_classes - 1}, " + ("one of the labels" if labels else f"at most {MAX_CLASSES} classes")
        raise fault(source, "y", f"{y.min()}..{y.max()}", expected, "number the classes 0, 1, 2, ...")
    y = y.astype(np.int64)
    labels = labels or [f"class {i}" for i in range(int(y.max()) + 1)]
    if not 2 <= len(labels) <= MAX_CLASSES:
        raise fault(source, "labels", f"{len(labels)} classes", f"2..{MAX_CLASSES}", "a classifier needs two or more")
    return y, labels


def _test(source, arrays, n_windows):
    test = _vector(source, arrays, "test", n_windows, "biu", "bool")
    if test is None:
        return None
    if test.min() < 0 or test.max() > 1:
        raise fault(source, "test", f"{test.min()}..{test.max()}", "False or True", "mark the test windows with True")
    test = test.astype(bool)
    if test.all() or not test.any():
        raise fault(source, "test", f"{test.sum()} of {len(test)} windows", "some on each side", "or leave it out")
    return test


def _texts(source, arrays, key, length, distinct=True):
    """A list of short texts, or None where the key is absent."""
    array = _vector(source, arrays, key, length, "US", "texts")
    if array is None:
        return None
    texts = [item.decode("utf-8", "replace") if isinstance(item, bytes) else item for item in array.tolist()]
    limit = MAX_UNIT_BYTES if key == "units" else MAX_TEXT_BYTES
    bad = next((t for t in texts if not t.isprintable() or len(t.encode("utf-8", "replace")) > limit), None)
    if bad is not None:
        got = repr(bad[:40]).encode("ascii", "backslashreplace").decode()
        raise fault(source, key, got, f"printable texts of at most {limit} UTF-8 bytes", "shorten it")
    if distinct and (len(set(texts)) != len(texts) or "" in texts):
        raise fault(source, key, "an empty or repeated text", "a different text for each", "rename it")
    return texts


def _sample_rate(source, arrays):
    rate = arrays.get("sample_rate_hz")
    if rate is None:
        return 0.0
    expected = "one number in 1e-3..1e6"
    if rate.size != 1 or rate.dtype.kind not in "fiu":
        raise fault(source, "sample_rate_hz", f"{rate.dtype} {rate.shape}", expected, "correct it or leave it out")
    value = float(rate.reshape(()))
    if not 1e-3 <= value <= 1e6:
        raise fault(source, "sample_rate_hz", value, expected, "correct it or leave it out")
    return value


def _groups(source, arrays, y, test, notes):
    """Group index of each window and the names of the groups."""
    group = _vector(source, arrays, "group", len(y), "biuUS", "integers or texts")
    if group is None:
        notes.append(
            f"{source}: there is no key group, so windows are split at random by contiguous blocks; where windows "
            "of one person or machine are on both sides, the accuracy is too high: add group"
        )
        return _blocks(y, test)
    found, first, index = np.unique(group, return_index=True, return_inverse=True)
    texts = [name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name) for name in found.tolist()]
    names, number, note = _merged(texts, first)
    if len(names) < 2:
        raise fault(source, "group", f"1 group in {len(y)} windows", "2 or more", "or leave group out")
    notes += [f"{source}: {note}"] if note else []
    return number[index.reshape(-1)], names


def _merged(texts, first):
    """Names of the groups, the number (R,) of each text's group, and a note on those that were merged.

    Args:
        texts: of the groups as the data name them, sorted.    first: (R,), the window in which each comes first.
    """
    in_order = np.argsort(first)
    spelt, note = merge([texts[i] for i in in_order], MAX_GROUP_NAME)
    spelt = dict(zip(in_order.tolist(), spelt, strict=True))
    names = list(dict.fromkeys(spelt[i] for i in range(len(texts))))
    index = {name: number for number, name in enumerate(names)}
    return names, np.array([index[spelt[i]] for i in range(len(texts))], np.int64), note


def _blocks(y, test):
    """Stand-in groups: block k holds the k-th stretch of the windows of every class, in file order."""
    sides = [np.ones(len(y), bool)] if test is None else [~test, test]
    group = np.zeros(len(y), np.int64)
    for side, mask in enumerate(sides):
        for label in np.unique(y[mask]):
            members = np.flatnonzero(mask & (y == label))
            group[members] = side * BLOCKS + np.arange(len(members)) * BLOCKS // len(members)
    used, group = np.unique(group, return_inverse=True)
    return group.reshape(-1), [f"block {number}" for number in used]


def _check_fixed_split(source, windows):
    both = np.intersect1d(windows.group[windows.test], windows.group[~windows.test])
    if len(both):
        got = f"group {windows.group_names[both[0]]!r} on both sides ({len(both)} such groups)"
        raise fault(source, "test", got, "each group on one side", "move all windows of a group together")
