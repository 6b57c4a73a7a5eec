"""Damaged inputs: 10,000 CSV, WAV, npz, manifest and TOML files; nothing but Attn8Error leaves the loaders."""

import io
import os
import random
import struct
import warnings
import zipfile

import numpy as np
import pytest

from attn8.config import DataConfig, parse_config, shipped_config, to_toml
from attn8.data import load_windows, load_x
from attn8.data.groups import normal_form
from attn8.errors import Attn8Error

N_CSV, N_WAV, N_NPZ, N_MANIFEST, N_TOML = 4000, 2000, 1500, 1000, 1500
SEED = int(os.environ.get("ATTN8_FUZZ_SEED", 0))
ROWS = 40
CELLS = [
    "",
    "nan",
    "inf",
    "-inf",
    "1e999",
    "1e30",
    "abc",
    "-",
    "0x10",
    "1_0",
    "1,5",
    "1e-400",
    "9" * 400,
    '"',
    '"a',
    "#",
]
CELLS += ["\0", "\x1b[2J", "\ufeff", "٣", "2026-11-20T10:00:00", "0001-01-01T00:00:00+23:59", "-1e18", "1e19", "True"]
MARKS = [b",", b";", b"\t", b"\n", b"\r", b'"', b"#", b"\0", b"\xff", b"\xfe\xff", b"nan", b"[", b"]", b"(", b"0", b"-"]
HEADERS = [
    "time [s]",
    "time",
    "t",
    "ms",
    "ax",
    "",
    "ax [m/s2]",
    "T",
    "1",
    "ax [",
    "a" * 40,
    "x\x07",
    "ax [" + "u" * 20 + "]",
]
PATTERNS = ["auto", "{label}/*", "{label}/{group}_*", "*/{label}_*", "{label}", "{bad", "**", "{label}/{label}"]


def csv_text(rng):
    """A valid CSV file: with or without time, in a random unit, integers or floats."""
    rows, column = rng.randint(ROWS // 2, ROWS), rng.choice([None, "time [s]", "time", "t_ms", "timestamp"])
    names = ["ax [g]", "ay [g]", "az [g]"]
    lines = [([column] if column else []) + names]
    digits = rng.choice([0, 3])
    for i in range(rows):
        values = [f"{rng.uniform(-9, 9):.{digits}f}" for _ in names]
        time = {"timestamp": f"2026-11-20T10:00:{i * 0.02:09.6f}", "t_ms": str(20 * i)}.get(column, f"{i * 0.02:.2f}")
        lines.append(([time] if column else []) + values)
    return lines


def damaged_csv(rng):
    """Bytes of a CSV file with damaged cells, lines, columns or bytes; sometimes with none."""
    lines = csv_text(rng)
    for _ in range(rng.choice([0, 1, 1, 1, 2, 5])):
        rng.choice([_hurt_cell, _hurt_line, _hurt_column])(rng, lines)
        if not lines:
            break
    raw = rng.choice(["\n", "\n", "\r\n", "\r"]).join(rng.choice([",", ",", ";"]).join(line) for line in lines).encode()
    return hurt_bytes(rng, raw, MARKS) if rng.random() < 0.25 else raw


def _hurt_cell(rng, lines):
    line = rng.choice(lines)
    if line:
        line[rng.randrange(len(line))] = rng.choice(HEADERS if line is lines[0] else CELLS)


def _hurt_line(rng, lines):
    at = rng.randrange(len(lines))
    kind = rng.randrange(4)
    if kind == 0:
        del lines[at : at + rng.choice([1, 2, 10])]
    elif kind == 1:
        lines.insert(at, list(rng.choice(lines)))
    elif kind == 2:
        lines[at] = lines[at][: rng.randrange(len(lines[at]) + 1)]
    else:
        other = rng.randrange(len(lines))
        lines[at], lines[other] = lines[other], lines[at]


def _hurt_column(rng, lines):
    at, kind = rng.randrange(4), rng.randrange(3)
    for number, line in enumerate(lines):
        if at < len(line):
            if kind == 0:
                del line[at]
            elif kind == 1:
                line.insert(at, rng.choice(HEADERS) if number == 0 else line[at])
            elif number:
                line[at] = rng.choice(["", line[at], line[at] + "0" * rng.choice([0, 20])])


def hurt_bytes(rng, raw, marks, reach=None):
    """Flip, cut, insert or repeat bytes; ``reach`` keeps to the first ones."""
    raw = bytearray(raw)
    for _ in range(rng.randint(1, 4)):
        at, kind = rng.randrange(min(len(raw), reach or len(raw)) + 1), rng.randrange(4)
        if kind == 0:
            raw[at : at + 1] = bytes([rng.randrange(256)])
        elif kind == 1:
            del raw[at : at + rng.choice([1, 4, 100])]
        elif kind == 2:
            raw[at:at] = rng.choice(marks) * rng.choice([1, 1, 1, 3])
        else:
            raw[at:at] = raw[at : at + rng.choice([1, 20])]
    return bytes(raw)


def wav(rng):
    """A valid WAV file of a random encoding, and where the fields of its header are."""
    kind, bits = rng.choice([(1, 8), (1, 16), (1, 24), (1, 32), (3, 32)])
    channels, rate, frames = rng.choice([1, 1, 2]), rng.choice([8000, 16000, 44100]), rng.choice([10, 40, 100])
    size = channels * bits // 8
    data = np.zeros(frames * channels, "<f4").tobytes() if kind == 3 else rng.randbytes(frames * size)
    head = struct.pack("<4sI4s", b"RIFF", 36 + len(data), b"WAVE")
    head += struct.pack("<4sIHHIIHH", b"fmt ", 16, kind, channels, rate, rate * size, size, bits)
    return head + b"data" + struct.pack("<I", len(data)) + data


def damaged_wav(rng):
    raw = bytearray(wav(rng))
    for _ in range(rng.choice([0, 1, 1, 2])):
        at, code = rng.choice(
            [(4, "<I"), (16, "<I"), (20, "<H"), (22, "<H"), (24, "<I"), (32, "<H"), (34, "<H"), (40, "<I")]
        )
        most = 0xFFFFFFFF if code == "<I" else 0xFFFF
        struct.pack_into(
            code, raw, at, rng.choice([0, 1, 2, 16, 24, 32, 44, 8000, most, most - 1, rng.randrange(most)])
        )
    raw = bytes(raw[: rng.randrange(len(raw))]) if rng.random() < 0.15 else bytes(raw)
    return hurt_bytes(rng, raw, [b"data", b"LIST", b"fact", b"\0\0", b"\xff"], 60) if rng.random() < 0.2 else raw


def npz_arrays(rng):
    """The arrays of a valid .npz, with any of the keys that may be left out."""
    n = 12
    kind = rng.choice(["<i2", ">i2", "<f2", "<f4", ">f8", "longdouble", "u1"])
    arrays = {
        "x": np.random.default_rng(rng.randrange(99)).integers(0, 100, (n, 8, 3)).astype(kind),
        "y": np.arange(n) % 2,
        "group": rng.choice([np.arange(n) // 2, np.array(["anna", "Anna ", "ben", "zo\u00e9"])[np.arange(n) % 4]]),
        "test": np.isin(np.arange(n) % 4, [2]),
        "labels": np.array(["wave", "rest"]),
        "channels": rng.choice([np.array(["ax", "ay", "az"]), np.array([b"ax", b"ay", b"az"])]),
        "units": np.array(["g", "g", "g"]),
        "counts_per_unit": np.ones(3),
        "sample_rate_hz": np.array(50.0),
    }
    if kind == "u1":
        arrays["encoding"] = np.array("mulaw8")
    for key in list(arrays)[2:9]:
        if rng.random() < 0.3:
            del arrays[key]
    return arrays


def _hurt_type(rng, array):
    kinds = ["?", "i1", "u8", ">i4", "f2", ">f8", "longdouble", "c16", "U3", "S2", "M8[s]", "m8[ms]", "V4"]
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return array.astype(rng.choice(kinds))
        except (ValueError, TypeError, OverflowError, SystemError):  # the last for characters that are none
            return array


def _hurt_shape(rng, array):
    kind = rng.randrange(6)
    if kind == 0:
        return array[..., None]
    if kind == 1:
        return array[: rng.choice([0, 1, 2])] if array.ndim else array[None]
    if kind == 2:
        return array.T
    if kind == 3:
        return array.ravel()
    return array.ravel()[0] if kind == 5 and array.size else np.concatenate([np.atleast_1d(array)] * 2)


def _hurt_value(rng, array):
    array = np.array(array)
    if array.size:
        at = tuple(rng.randrange(size) for size in array.shape)
        values = [0, 1, -1, 2, 1e5, -1e300, np.inf, np.nan, np.longdouble("1e4000"), "", "x" * 40, "\x1b[2J", "\u200b"]
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                array[at] = rng.choice(values)
            except (ValueError, TypeError, OverflowError, SystemError):  # the last for characters that are none
                return _hurt_bits(rng, array)
    return array


def _hurt_bits(rng, array):
    """The same type and shape over other bits: characters that are none, long doubles that are none, any date."""
    raw = bytearray(np.ascontiguousarray(array).tobytes())
    for _ in range(rng.choice([1, 4]) if raw else 0):
        raw[rng.randrange(len(raw))] = rng.choice([0, 1, 0x7F, 0xD8, 0xFF])
    return np.frombuffer(bytes(raw), array.dtype).reshape(array.shape)


def damaged_npz(rng):
    """An .npz with damaged arrays, keys, headers or bytes; checksums are right but for the bytes."""
    arrays = npz_arrays(rng)
    for _ in range(rng.choice([0, 1, 1, 2])):
        key = rng.choice(list(arrays))
        kind = rng.randrange(12)
        if kind == 0:
            del arrays[key]
        elif kind == 1:
            arrays[rng.choice([key.upper(), "length", "../x", *list(arrays)])] = arrays[key]
        else:
            hurt = rng.choice([_hurt_type, _hurt_shape, _hurt_value, _hurt_value, _hurt_bits])
            arrays[key] = np.asarray(hurt(rng, arrays[key]))
        if not arrays:
            break
    target, marks = io.BytesIO(), [b"\0", b"\xff", b"O", b"(", b"'", b"9", b"L", b"\\e"]
    victim = rng.choice([*arrays, *[None] * 4 * len(arrays)]) if arrays else None
    with zipfile.ZipFile(target, "w") as archive:
        for key, array in arrays.items():
            member = io.BytesIO()
            np.lib.format.write_array(member, array, allow_pickle=False)
            raw = member.getvalue()
            archive.writestr(f"{key}.npy", hurt_bytes(rng, raw, marks, 128) if key == victim else raw)
    raw = target.getvalue()
    return hurt_bytes(rng, raw, marks) if rng.random() < 0.05 else raw


def data_config(rng, **changes):
    """Settings of a run, most of them at random."""
    values = {
        "window": rng.choice([4, 16]),
        "hop": 4,
        "strict": rng.random() < 0.4,
        "max_gap": rng.choice([0, 3, 1000]),
    }
    values["sample_rate_hz"] = rng.choice([0.0, 0.0, 0.0, 25.0, 1e6])
    values["channels"] = rng.choice([[], [], [], ["ax"], ["az", "ax"]])
    values["labels"] = rng.choice([[], [], ["wave", "rest"], ["wavy", "rest"]])
    values["pattern"] = rng.choice(["auto"] * 8 + PATTERNS)
    return DataConfig(**{**values, **changes})


def outcome(load):
    """ "used", "used with faults" or "refused"; anything but Attn8Error fails the test that called."""
    try:
        found = load()
    except Attn8Error as error:
        assert str(error).isprintable() and str(error).encode()
        return "refused"
    if isinstance(found, np.ndarray):
        assert found.ndim == 3 and found.dtype == np.int16
        return "used"
    if not hasattr(found, "x"):
        return "used"
    assert len(found.x) == len(found.y) == len(found.group) > 0
    assert found.start is None or len(found.start) == len(found.x)
    assert len({normal_form(name) for name in found.group_names}) == len(found.group_names)
    assert found.x.dtype == np.int16 and found.y.max() < len(found.labels)
    assert all(note.isprintable() and note.encode() for note in found.notes)
    assert all(name.isprintable() for name in [*found.group_names, *found.recording_names, *found.labels])
    return "used with faults" if any(note.startswith("left out") for note in found.notes) else "used"


def tally(outcomes, n):
    """Checks that each outcome makes up a good part: else the damage is too weak or too strong to show anything."""
    counts = {name: outcomes.count(name) for name in set(outcomes)}
    assert len(outcomes) == n and counts["refused"] > 0.15 * n, counts
    assert n - counts["refused"] > 0.15 * n, counts
    return counts


@pytest.fixture(autouse=True)
def quiet():
    """A warning would be a second, unclear sentence beside the error."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def people(folder, suffix, content):
    for name in ("wave/anna_1", "wave/ben_1", "rest/anna_1", "rest/ben_1"):
        (folder / name).parent.mkdir(exist_ok=True)
        # Readers skip what is behind the samples; no two files may be the same.
        (folder / name).with_suffix(suffix).write_bytes(content + f"\n# {name}\n".encode())


def load_one_of(rng, folder):
    settings = data_config(rng)
    scale = rng.choice([None, None, np.full(3, 100.0)])
    if rng.random() < 0.1:
        return lambda: load_x(folder, scale, settings)
    return lambda: load_windows(settings, folder, scale)


def test_damaged_csv_files_raise_nothing_but_attn8_error(tmp_path):
    rng, outcomes = random.Random(SEED + 1), []
    people(tmp_path, ".csv", "\n".join(",".join(line) for line in csv_text(random.Random(0))).encode())
    for _ in range(N_CSV):
        (tmp_path / "wave/ben_1.csv").write_bytes(damaged_csv(rng))
        outcomes.append(outcome(load_one_of(rng, tmp_path)))
    assert tally(outcomes, N_CSV)["used with faults"] > 0.1 * N_CSV


def test_damaged_wav_files_raise_nothing_but_attn8_error(tmp_path):
    pytest.importorskip("soundfile")
    pytest.importorskip("soxr")
    rng, outcomes = random.Random(SEED + 2), []
    people(tmp_path, ".wav", wav(random.Random(0)))
    for _ in range(N_WAV):
        (tmp_path / "wave/ben_1.wav").write_bytes(damaged_wav(rng))
        settings = data_config(rng, sample_rate_hz=rng.choice([0.0, 8000.0]), channels=[])
        outcomes.append(outcome(lambda settings=settings: load_windows(settings, tmp_path)))
    assert tally(outcomes, N_WAV)["used with faults"] > 0.1 * N_WAV


def test_damaged_manifests_raise_nothing_but_attn8_error(tmp_path):
    rng, outcomes = random.Random(SEED + 3), []
    people(tmp_path, ".csv", "\n".join(",".join(line) for line in csv_text(random.Random(0))).encode())
    rows = [["file", "label", "group", "split"]]
    rows += [[f"{name}.csv", name[:4], name[5:-2], "test" * ("ben" in name)] for name in NAMES]
    for _ in range(N_MANIFEST):
        lines = [list(row) for row in rows]
        for _ in range(rng.choice([0, 1, 1, 2, 3])):
            line = rng.choice(lines)
            line[rng.randrange(4)] = rng.choice(
                ["", "file", "../x.csv", "/dev/zero", "train", "x" * 300, "a\x1b", "wave", "\0"]
            )
        raw = "\n".join(rng.choice([",", ","]).join(line) for line in lines).encode()
        raw = hurt_bytes(rng, raw, MARKS) if rng.random() < 0.5 else raw
        (tmp_path / "manifest.csv").write_bytes(raw)
        outcomes.append(outcome(load_one_of(rng, tmp_path)))
    tally(outcomes, N_MANIFEST)


NAMES = ("wave/anna_1", "wave/ben_1", "rest/anna_1", "rest/ben_1")


def test_damaged_npz_files_raise_nothing_but_attn8_error(tmp_path):
    rng, outcomes, path = random.Random(SEED + 4), [], tmp_path / "a.npz"
    for _ in range(N_NPZ):
        path.write_bytes(damaged_npz(rng))
        load = rng.choice([lambda: load_x(path), lambda: load_windows(DataConfig(), path)])
        outcomes.append(outcome(load))
    tally(outcomes, N_NPZ)


def test_damaged_configs_raise_nothing_but_attn8_error():
    rng, outcomes = random.Random(SEED + 5), []
    raw = to_toml(shipped_config()).encode()
    marks = [
        b"=",
        b"[",
        b"]",
        b'"',
        b"\n",
        b"#",
        b"nan",
        b"1e999",
        b"-1",
        b"true",
        b"\0",
        b"\xff",
        b"9" * 30,
        b"{",
        b".",
    ]
    for _ in range(N_TOML):
        damaged = hurt_bytes(rng, raw, marks)
        outcomes.append(outcome(lambda damaged=damaged: parse_config(damaged)))
    tally(outcomes, N_TOML)
