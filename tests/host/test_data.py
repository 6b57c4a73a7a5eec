"""Windows, readers and splits: what is accepted, and that every fault is a DataError."""

import io
import json
import random
import subprocess
import sys
import tracemalloc
import warnings
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from attn8 import data, workflow
from attn8.config import AugmentationConfig, DataConfig
from attn8.data import _repack_shoulder, axes_triples, load_windows, load_x, split_by_group, windows
from attn8.data.npz import read_npz
from attn8.errors import ConfigError, DataError

FOLDER = Path(data.__file__).parent
N, T, C = 40, 16, 6


def arrays(**changes):
    """A small valid set: 4 groups, 2 classes; a change of None drops the key."""
    rng = np.random.default_rng(0)
    values = {
        "x": rng.integers(-3000, 3000, (N, T, C)).astype(np.int16),
        "y": np.arange(N) % 2,
        "group": np.repeat([3, 5, 7, 9], N // 4),
        "test": np.repeat([False, False, False, True], N // 4),
        "labels": np.array(["still", "moving"]),
        "channels": np.array(["ax", "ay", "az", "temperature", "gx", "gy"]),
        "units": np.array(["g", "g", "g", "C", "rad/s", "rad/s"]),
        "counts_per_unit": np.full(C, 4096.0),
        "sample_rate_hz": np.array(50.0),
    }
    values |= changes
    return {key: value for key, value in values.items() if value is not None}


def write(path, **changes):
    np.savez(path, **arrays(**changes))
    return path


def fault_of(path):
    with pytest.raises(DataError) as caught:
        load_windows(DataConfig(), path)
    text = str(caught.value)
    assert "got" in text and "expected" in text and "\n" not in text
    return text


# ---- the bundled set


def test_import_needs_no_torch():
    code = "import sys, attn8.data; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_bundled_contents_are_those_recorded():
    with np.load(FOLDER / "shoulder_exercises.npz", allow_pickle=False) as archive:
        contents = {key: archive[key] for key in archive.files}
    record = json.loads((FOLDER / "shoulder_exercises.json").read_text())
    assert _repack_shoulder.content_sha256(contents) == record["content_sha256"]
    assert record["wheel_sha256"] == _repack_shoulder.WHEEL_SHA256
    assert record["array_sha256"] == _repack_shoulder.ARRAY_SHA256
    assert contents["length"].sum() == len(contents["samples"]) == record["n_samples"]
    assert np.abs(contents["samples"].astype(int)).max() < 32767  # nothing clips
    assert "Redistribution" in (FOLDER / "shoulder_exercises.LICENSE.txt").read_text()


def test_repacking_refuses_a_wheel_of_another_hash_before_unpickling(tmp_path):
    wheel = tmp_path / "seglearn.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(_repack_shoulder.ARRAY_MEMBER, b"cos\nsystem\n(S'true'\ntR.")
    with pytest.raises(SystemExit, match="sha256"):
        _repack_shoulder.read_wheel(wheel)


def test_rounding_to_counts_is_at_most_half_a_count():
    samples = np.random.default_rng(0).normal(size=(1000, 2))
    counts, worst = _repack_shoulder.to_counts(samples, np.array([4096.0, 938.7]))
    assert counts.dtype == np.int16
    assert (worst <= 0.5 / np.array([4096.0, 938.7])).all()


def test_bundled_set_is_as_described():
    bundled = load_windows(DataConfig())
    assert bundled.x.shape[1:] == (128, 6) and bundled.x.dtype == np.int16
    assert len(bundled.labels) == 7 and len(bundled.group_names) == 10
    assert bundled.sample_rate_hz == 50.0 and bundled.hop == 64
    acceleration = bundled.x[:, :, :3] / bundled.counts_per_unit[:3]
    assert 0.9 < np.linalg.norm(acceleration, axis=2).mean() < 1.3  # gravity


def test_bundled_windows_never_cross_recordings():
    lengths = np.array([300, 127, 128, 200])
    starts, recording = windows.window_starts(lengths, 128, 64)
    assert starts.tolist() == [0, 64, 128, 427, 555, 619]
    assert recording.tolist() == [0, 0, 0, 2, 3, 3]


def test_bundled_windows_are_stretches_of_the_recordings():
    bundled = load_windows(DataConfig(window=100, hop=50))
    with np.load(FOLDER / "shoulder_exercises.npz") as archive:
        samples = archive["samples"]
    assert np.array_equal(bundled.x[1], samples[50:150])


def test_unknown_name_and_too_long_window_are_data_errors():
    with pytest.raises(DataError, match=r"data\.name"):
        load_windows(DataConfig(name="nothing"))
    with pytest.raises(DataError, match=r"data\.window"):
        load_windows(DataConfig(window=5000))


# ---- splits


def test_five_folds_of_two_subjects_cover_each_subject_once():
    bundled = load_windows(DataConfig())
    seen = []
    for fold in range(5):
        split = split_by_group(bundled, 5, fold, validation_groups=2)
        assert len(split.test_groups) == len(split.validation_groups) == 2
        assert len(split.train_groups) == 6
        parts = [set(bundled.group[part]) for part in (split.train, split.validation, split.test)]
        assert not (parts[0] & parts[1] or parts[0] & parts[2] or parts[1] & parts[2])
        assert len(split.train) + len(split.validation) + len(split.test) == len(bundled)
        seen += split.test_groups
    assert sorted(seen, key=int) == [str(subject) for subject in range(1, 11)]


def test_validation_groups_do_not_move_the_test_part():
    bundled = load_windows(DataConfig())
    without, with_two = (split_by_group(bundled, 5, 1, groups) for groups in (0, 2))
    assert np.array_equal(without.test, with_two.test)
    assert len(without.validation) == 0


def test_a_fixed_test_part_wins_over_the_folds(tmp_path):
    loaded = load_windows(DataConfig(), write(tmp_path / "a.npz"))
    for fold in (0, 1):
        assert split_by_group(loaded, 5, fold).test_groups == ["9"]


def test_too_few_groups_and_a_missing_class_are_data_errors(tmp_path):
    loaded = load_windows(DataConfig(), write(tmp_path / "a.npz", test=None))
    with pytest.raises(DataError, match=r"data\.folds"):
        split_by_group(loaded, 5, 0)
    with pytest.raises(DataError, match=r"data\.validation_groups"):
        split_by_group(loaded, 4, 0, validation_groups=3)
    y = np.repeat([0, 0, 0, 1], N // 4)
    loaded = load_windows(DataConfig(), write(tmp_path / "b.npz", y=y))
    with pytest.raises(DataError, match="no training window of moving"):
        split_by_group(loaded, 2, 0)


# ---- the user's .npz


def test_npz_with_every_key(tmp_path):
    loaded = load_windows(DataConfig(), write(tmp_path / "watch.npz"))
    assert np.array_equal(loaded.x, arrays()["x"])
    assert loaded.labels == ["still", "moving"] and loaded.units[3] == "C"
    assert loaded.group_names == ["3", "5", "7", "9"] and loaded.name == "watch"
    assert loaded.counts_per_unit.dtype == np.float32 and not loaded.notes
    assert loaded.hop == T  # the configured 64 is longer than a window


def test_npz_with_only_x_and_y(tmp_path):
    np.savez(tmp_path / "a.npz", x=arrays()["x"], y=arrays()["y"])
    loaded = load_windows(DataConfig(), tmp_path / "a.npz")
    assert loaded.labels == ["class 0", "class 1"] and loaded.channels[0] == "channel 0"
    assert loaded.counts_per_unit.tolist() == [1.0] * C and loaded.units == ["count"] * C
    assert "contiguous blocks" in loaded.notes[0] and "\n" not in loaded.notes[0]
    split = split_by_group(loaded, 5, 0)
    assert len(split.test) and not set(split.test) & set(split.train)


def test_text_groups(tmp_path):
    group = np.repeat(["anna", "ben", "cleo", "dora"], N // 4)
    loaded = load_windows(DataConfig(), write(tmp_path / "a.npz", group=group))
    assert loaded.group_names == ["anna", "ben", "cleo", "dora"]


def test_fixed_split_without_groups(tmp_path):
    loaded = load_windows(DataConfig(), write(tmp_path / "a.npz", group=None))
    split = split_by_group(loaded, 5, 0, validation_groups=2)
    assert np.array_equal(np.sort(split.test), np.flatnonzero(arrays()["test"]))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_float_data_get_a_power_of_two_with_headroom(tmp_path, dtype):
    x = (np.random.default_rng(1).normal(size=(N, T, C)) * [1, 10, 1e-3, 100, 1, 0]).astype(dtype)
    loaded = load_windows(DataConfig(), write(tmp_path / "a.npz", x=x, counts_per_unit=None))
    assert (np.log2(loaded.counts_per_unit) % 1 == 0).all()
    largest = np.abs(loaded.x[:, :, :5].astype(int)).max((0, 1))
    assert (largest > 8000).all() and (largest <= 16384).all()
    assert np.abs(loaded.x / loaded.counts_per_unit - x).max() <= 0.5 / loaded.counts_per_unit.min()


def test_float_data_take_the_given_scale_and_say_when_they_clip(tmp_path):
    x = np.full((N, T, C), 2.0, np.float32)
    loaded = load_windows(DataConfig(), write(tmp_path / "a.npz", x=x, counts_per_unit=np.full(C, 100.0)))
    assert (loaded.x == 200).all()
    loaded = load_windows(DataConfig(), write(tmp_path / "a.npz", x=x, counts_per_unit=np.float64(30000)))
    assert (loaded.x == 32767).all() and "clip" in loaded.notes[0]


def test_float_data_are_brought_to_the_scale_of_a_model(tmp_path):
    path = write(tmp_path / "a.npz", x=np.full((N, T, C), 2.0), counts_per_unit=None)
    assert (load_x(path, np.full(C, 50.0)) == 100).all()
    assert (load_windows(DataConfig(), path, np.full(C, 50.0)).x == 100).all()
    with pytest.raises(DataError, match="channels"):
        load_x(path, np.full(3, 50.0))


def test_mulaw_is_decoded_to_counts(tmp_path):
    x = np.arange(N * T, dtype=np.uint8).reshape(N, T, 1)
    path = write(tmp_path / "a.npz", x=x, encoding="mulaw8", channels=None, units=None, counts_per_unit=None)
    counts = load_x(path)
    m = x / 127.5 - 1
    expected = np.sign(m) * (256 ** np.abs(m) - 1) / 255
    assert np.abs(counts / 32767 - expected).max() < 2e-5
    assert (counts.min(), counts.max()) == (-32767, 32767)


def test_load_x_needs_nothing_but_x(tmp_path):
    np.savez(tmp_path / "a.npz", x=arrays()["x"], y=np.array([object()]))
    assert np.array_equal(load_x(tmp_path / "a.npz"), arrays()["x"])


def test_foreign_byte_order_and_fortran_order(tmp_path):
    x = np.asfortranarray(arrays()["x"].astype(">i2"))
    assert np.array_equal(load_x(write(tmp_path / "a.npz", x=x)), x)


def with_nan():
    x = arrays()["x"].astype(np.float32)
    x[3, 2, 1] = np.nan
    return x


FAULTS = [
    ("x", None, "no such key"),
    ("x", np.zeros((N, T), np.int16), "shape (40, 16)"),
    ("x", np.zeros((N, 0, C), np.int16), "shape (40, 0, 6)"),
    ("x", np.zeros((N, T, C), np.int64), "dtype int64"),
    ("x", np.zeros((N, T, C), np.uint8), "encoding = mulaw8"),
    ("x", with_nan(), "nan at [3, 2, 1]"),
    ("x", np.full((N, T, C), 1e300), "at most 1e30"),
    ("encoding", np.array("flac"), "'flac'"),
    ("encoding", np.array("mulaw8"), "uint8, because encoding"),
    ("y", None, "no such key"),
    ("y", np.zeros(N - 1, int), "shape (40,)"),
    ("y", np.full(N, 0.5), "fractions"),
    ("y", np.full(N, 2), "0..1, one of the labels"),
    ("y", np.full(N, -1), "got -1..-1"),
    ("y", np.array(["a"] * N), "class numbers"),
    ("labels", np.array(["one"]), "one of the labels"),
    ("labels", np.array(["same", "same"]), "repeated"),
    ("labels", np.array(["a\nb", "c"]), "printable"),
    ("labels", np.array([1, 2]), "texts"),
    ("labels", np.array(["a", object()], dtype=object), "pickled"),
    ("group", np.zeros(N, int), "1 group"),
    ("group", np.zeros((N, 1), int), "shape (40,)"),
    ("group", np.arange(N) % 4, "on both sides"),
    ("test", np.zeros(N, bool), "0 of 40"),
    ("test", np.full(N, 2), "2..2"),
    ("channels", np.array(["a"] * 3), "shape (6,)"),
    ("units", np.array(["a"] * 3), "shape (6,)"),
    ("counts_per_unit", np.zeros(C), "finite and > 0"),
    ("counts_per_unit", np.full(C, 1e300), "finite and > 0"),
    ("counts_per_unit", np.ones(3), "shape (6,)"),
    ("sample_rate_hz", np.array(0.0), "one number"),
    ("sample_rate_hz", np.array(np.nan), "one number"),
    ("sample_rate_hz", np.ones(2), "one number"),
]


@pytest.mark.parametrize(("key", "value", "words"), FAULTS)
def test_every_fault_names_key_got_and_expected(tmp_path, key, value, words):
    text = fault_of(write(tmp_path / "a.npz", **{key: value}))
    assert words in text
    assert key in text


def test_too_many_classes_and_one_class_are_data_errors(tmp_path):
    assert "at most 256 classes" in fault_of(write(tmp_path / "a.npz", labels=None, y=np.arange(N) * 1000))
    assert "2..256" in fault_of(write(tmp_path / "a.npz", labels=None, y=np.zeros(N, int)))


def test_files_that_are_no_npz_are_data_errors(tmp_path):
    (tmp_path / "a.npz").write_bytes(b"not a zip")
    np.save(tmp_path / "b.npy", np.zeros(3))
    for name in ("absent.npz", "a.npz", "b.npy", ".", "nul\0byte"):
        fault_of(tmp_path / name)


def test_zip_bomb_is_refused_before_it_is_unpacked(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", bytes(3 << 20))
    with pytest.raises(DataError, match="at most"):
        read_npz(tmp_path / "a.npz", ["x"], max_bytes=1 << 20)


def test_header_that_claims_more_than_the_file_holds_is_refused(tmp_path):
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<i2", "fortran_order": False, "shape": (10**9, 128, 6)})
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("x.npy", header.getvalue() + bytes(100))
    assert "100 bytes of values" in fault_of(tmp_path / "a.npz")


def test_a_damaged_array_is_named(tmp_path):
    np.savez(tmp_path / "a.npz", **arrays())
    raw = bytearray((tmp_path / "a.npz").read_bytes())
    raw[raw.index(arrays()["y"].tobytes()) + 5] ^= 1  # the CRC of the zip member no longer holds
    (tmp_path / "b.npz").write_bytes(raw)
    assert "b.npz: y: got an unreadable array" in fault_of(tmp_path / "b.npz")


def damage(rng, raw):
    """Damage an .npz: flip, cut, insert or repeat bytes, in the container or in a repacked member."""
    if rng.random() < 0.5:
        source, target = zipfile.ZipFile(io.BytesIO(raw)), io.BytesIO()
        victim = rng.choice(source.namelist())
        with zipfile.ZipFile(target, "w") as archive:
            for name in source.namelist():
                content = source.read(name)
                archive.writestr(name, hurt(rng, content, 128) if name == victim else content)
        return target.getvalue()
    return hurt(rng, raw, len(raw))


def hurt(rng, raw, reach):
    raw = bytearray(raw)
    for _ in range(rng.randint(1, 3)):
        at = rng.randrange(min(reach, len(raw)))
        kind = rng.randrange(4)
        if kind == 0:
            raw[at] = rng.randrange(256)
        elif kind == 1:
            del raw[at : at + rng.randint(1, 64)]
        elif kind == 2:
            raw[at:at] = rng.randbytes(rng.randint(1, 8))
        else:
            raw[at : at + 1] = rng.choice([b"0", b"9", b"-", b"(", b"O", b"f", b"'", b"8"])
        if not raw:
            break
    return bytes(raw)


def test_two_thousand_damaged_files_raise_nothing_but_data_error(tmp_path):
    rng, path, refused = random.Random(2), tmp_path / "a.npz", 0
    stream = io.BytesIO()
    np.savez(stream, **arrays())
    for _ in range(2000):
        path.write_bytes(damage(rng, stream.getvalue()))
        try:
            split_by_group(load_windows(DataConfig(), path), 4, 0)
        except DataError:
            refused += 1
    assert 1000 < refused < 2000


# ---- axes and augmentation


def test_axes_come_from_channel_names_or_the_config(tmp_path):
    loaded = load_windows(DataConfig(), write(tmp_path / "a.npz"))
    assert axes_triples(DataConfig(), loaded) == [(0, 1, 2)]  # gx, gy lack their z
    assert axes_triples(DataConfig(axes=[[3, 4, 5]]), loaded) == [(3, 4, 5)]
    assert axes_triples(DataConfig(axes=[]), loaded) == []
    with pytest.raises(ConfigError, match=r"data\.axes"):
        axes_triples(DataConfig(axes=[[3, 4, 6]]), loaded)
    assert axes_triples(DataConfig(), load_windows(DataConfig())) == [(0, 1, 2), (3, 4, 5)]


OFF = AugmentationConfig(rotation_rad=0.0, time_warp=0.0, crop=0.0, scale=0.0, noise=0.0, channel_dropout=0.0)


def augmented(x, axes=(), **changes):
    from attn8.data.augment import Augment

    return Augment(replace(OFF, **changes), axes, x.shape[2], seed=7)(x)


@pytest.fixture
def batch():
    torch = pytest.importorskip("torch")
    return torch.randn(8, 32, 6, generator=torch.Generator().manual_seed(0)) * 1000


def test_augmentation_switched_off_changes_nothing(batch):
    assert augmented(batch, [(0, 1, 2)]).equal(batch)


def test_augmentation_is_fixed_by_its_seed_and_keeps_its_input(batch):
    before = batch.clone()
    settings = {"rotation_rad": 0.5, "time_warp": 0.2, "crop": 0.1, "scale": 0.3, "noise": 0.1, "channel_dropout": 0.1}
    first, second = (augmented(batch, [(0, 1, 2)], **settings) for _ in range(2))
    assert first.equal(second) and batch.equal(before) and first.shape == batch.shape
    assert not first.allclose(batch)


def test_rotation_keeps_lengths_and_turns_all_triples_alike(batch):
    batch[:, :, 3:] = batch[:, :, :3]
    turned = augmented(batch, [(0, 1, 2), (3, 4, 5)], rotation_rad=1.0)
    assert turned[:, :, :3].norm(dim=2).allclose(batch[:, :, :3].norm(dim=2), rtol=1e-4)
    assert turned[:, :, :3].equal(turned[:, :, 3:])
    assert not turned.allclose(batch)


def test_rotations_never_mirror():
    torch = pytest.importorskip("torch")
    from attn8.data.augment import rotation_matrices

    matrices = rotation_matrices(torch.randn(50, 3), torch.randn(50))
    assert torch.linalg.det(matrices).allclose(torch.ones(50), atol=1e-4)


def test_time_warp_stays_inside_the_range_of_the_window(batch):
    warped = augmented(batch, time_warp=0.5, crop=0.3)
    assert (warped.amax(1) <= batch.amax(1) + 1e-3).all() and (warped.amin(1) >= batch.amin(1) - 1e-3).all()


def test_channel_dropout_gives_the_mean(batch):
    torch = pytest.importorskip("torch")
    from attn8.data.augment import Augment

    mean = torch.arange(6.0) + 0.5
    dropped = Augment(replace(OFF, channel_dropout=0.5), [], 6, mean, torch.ones(6), seed=1)(batch)
    is_mean = (dropped == mean).all(1)
    assert is_mean.any() and not is_mean.all()
    assert (is_mean | (dropped == batch).all(1)).all()


def test_group_names_that_no_terminal_can_print_are_escaped(tmp_path):
    x, y = np.zeros((4, 8, 1), np.int16), np.array([0, 1, 0, 1])
    np.savez(tmp_path / "w.npz", x=x, y=y, group=np.array(["\ud800", "a\x1b[2J", "\ud800", "a\x1b[2J"]))
    found = load_windows(DataConfig(), tmp_path / "w.npz")
    assert found.group_names == ["a\\x1b[2J", "\\ud800"]
    assert len(found.fingerprint()) == 64


SPELLINGS = ["anna", "Anna ", "ben", "be\u200bn", "cara", "dan"]


def test_groups_of_an_npz_in_two_spellings_are_one(tmp_path):
    group = np.array(SPELLINGS)[np.arange(N) % 6]
    loaded = load_windows(DataConfig(), write(tmp_path / "a.npz", group=group, test=None))
    assert loaded.group_names == ["anna", "ben", "cara", "dan"]
    assert [loaded.group_names[i] for i in loaded.group[:6]] == ["anna", "anna", "ben", "ben", "cara", "dan"]
    assert "group: 'anna' and 'Anna ' differ only in case" in loaded.notes[0] and "1 more" in loaded.notes[0]
    alike = np.array(["anna", "ANNA"])[np.arange(N) % 2]
    assert "1 group" in fault_of(write(tmp_path / "b.npz", group=alike, test=None))


def test_group_numbers_and_other_names_stay_as_they_are(tmp_path):
    loaded = load_windows(DataConfig(), write(tmp_path / "a.npz", group=np.arange(N) - 20, test=None))
    assert loaded.group_names == [str(i) for i in range(-20, 20)] and loaded.group.tolist() == list(range(N))
    group = np.array(["b", "a "])[np.arange(N) % 2]
    loaded = load_windows(DataConfig(), write(tmp_path / "b.npz", group=group, test=None))
    assert loaded.group_names == ["a", "b"] and not loaded.notes


@pytest.mark.parametrize(
    ("trained", "group", "is_seen"),
    [
        ("anna", "ANNA ", True),
        ("zo\u00e9", "Zoe\u0301", True),
        ("anna", "wave/anna_1", True),
        ("wave/anna_1", "anna", True),
        ("wave/anna_1", "wave/anna_2", False),
        ("anna", "anna1", False),
        ("7", "07", False),
    ],
)
def test_a_run_knows_its_groups_in_another_spelling(tmp_path, trained, group, is_seen):
    names = np.array([group, "somebody else"])[np.arange(N) % 2]
    loaded = load_windows(DataConfig(), write(tmp_path / "a.npz", group=names, test=None))
    split = workflow.run_split(loaded, {"train_groups": [trained], "validation_groups": []})
    assert split.test_groups == (["somebody else"] if is_seen else sorted([group, "somebody else"]))


# ---- what files may hold


def no_text(*texts):
    """Text whose first character is none: Python has no 0x7fffffff."""
    array = np.array(texts)
    array.view(np.uint32)[0] = 0x7FFFFFFF
    return array


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("key", ["labels", "channels", "units", "group", "encoding"])
def test_characters_that_are_none_are_refused(tmp_path, key, order):
    length = {"labels": 2, "channels": C, "units": C, "group": N, "encoding": 1}[key]
    texts = no_text(*(f"g{number % 4}" for number in range(length))).astype(f"{order}U2")
    assert f"{key}: got a character 0x7fffffff, expected at most 0x10ffff" in fault_of(
        write(tmp_path / "a.npz", **{key: texts})
    )
    with pytest.raises(DataError, match=f"{key}: got a character"):
        data.make_windows(arrays(**{key: texts}))


def peak_bytes(load):
    tracemalloc.start()
    try:
        found = load()
        return tracemalloc.get_traced_memory()[1], found.nbytes
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("dtype", ["int16", "float16", "float32", "uint8"])
def test_reading_takes_at_most_three_times_the_memory_of_the_windows(tmp_path, dtype):
    mulaw = {"encoding": np.array("mulaw8")} if dtype == "uint8" else {}
    np.savez_compressed(tmp_path / "a.npz", x=np.zeros((250_000, 32, 1), dtype), **mulaw)
    peak, size = peak_bytes(lambda: load_x(tmp_path / "a.npz"))
    assert peak < 3 * size + (12 << 20)  # some of it for a block


def test_too_many_values_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(windows, "MAX_SET_VALUES", 1000)
    assert "x: got 3840 values, expected at most 1000; split the data" in fault_of(write(tmp_path / "a.npz"))


def test_blocks_make_no_difference(tmp_path, monkeypatch):
    x = np.random.default_rng(0).normal(size=(N, T, C))
    path = write(tmp_path / "a.npz", x=x, counts_per_unit=None)
    expected = load_windows(DataConfig(), path)
    monkeypatch.setattr(windows, "BLOCK_VALUES", 3 * T * C)
    assert load_windows(DataConfig(), path).fingerprint() == expected.fingerprint()
    x[20, 2, 1] = np.nan
    assert "nan at [20, 2, 1]" in fault_of(write(tmp_path / "b.npz", x=x))


def test_no_warning_stands_beside_the_sentence(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        x = np.full((N, T, C), np.finfo(np.longdouble).max, np.longdouble)
        assert "at most 1e30" in fault_of(write(tmp_path / "a.npz", x=x))
        old = npy("{'descr': '<i8', 'fortran_order': False, 'shape': (40L,), }")
        path = with_member(write(tmp_path / "b.npz"), "y.npy", old + (np.arange(N) % 2).tobytes())
        assert len(load_windows(DataConfig(), path)) == N  # as Python 2 wrote it
        path = with_member(path, "y.npy", npy(r"{'descr': '\e', 'fortran_order': False, 'shape': (40,), }"))
        assert "unreadable array" in fault_of(path)


def npy(header):
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode()


def with_member(path, name, content):
    """The same .npz with one member replaced, checksums right."""
    with zipfile.ZipFile(path) as source:
        members = {**{name: source.read(name) for name in source.namelist()}, name: content}
    with zipfile.ZipFile(path, "w") as archive:
        for each, raw in members.items():
            archive.writestr(each, raw)
    return path
