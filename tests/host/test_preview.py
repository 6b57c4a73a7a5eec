"""The preview: its figures are those of the data, each fault is said once, JSON stays small, torch is optional."""

import io
import json
import re
import sys
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

from attn8 import preview
from attn8.config import Config, apply_overrides
from attn8.data import load_recordings, load_windows, split_windows
from attn8.errors import DataError

HEADER = "time [ms],ax [g],ay [g],az [g],temperature [C],button"


def samples(n, frequency=0.2, phase=0.0):
    """(n, 5): two waves, the first cut off at 0.8, noise, a constant and a switch."""
    t = np.arange(n)
    noise = np.random.default_rng(n).normal(0, 0.1, n)
    waves = [np.minimum(np.sin(frequency * t + phase), 0.8), 0.5 * np.cos(frequency * t), noise]
    return np.stack([*waves, np.full(n, 21.5), t // 40 % 2], 1)


def write(path, values, times=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    times = 20 * np.arange(len(values)) if times is None else times
    rows = [",".join([str(t), *(f"{v:.4f}" for v in row)]) for t, row in zip(times, values, strict=True)]
    path.write_text("\n".join([HEADER, *rows]) + "\n", encoding="utf-8")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Recordings of three people, one class rare and in one group, a gap of 50, a hole of 2, two broken files."""
    folder = tmp_path_factory.mktemp("data") / "moves"
    for person, phase in (("anna", 0), ("ben", 1), ("cleo", 2)):
        write(folder / "slow" / f"{person}_1.csv", samples(400, 0.1, phase))
        write(folder / "[fast] <i>" / f"{person}_1.csv", samples(300, 0.5, phase))
    write(folder / "once" / "anna_1.csv", samples(64))
    kept = np.r_[0:100, 102:200, 250:400]
    write(folder / "slow" / "anna_2.csv", samples(400)[kept], 20 * kept)
    (folder / "slow" / "broken_1.csv").write_text(f"{HEADER}\n0,1\nTraceback\n")
    (folder / "slow" / "empty_1.csv").write_text("")
    return folder


@pytest.fixture(scope="module")
def settings(folder):
    small = ["data.window=64", "data.hop=32", "data.folds=3", "data.fold=1"]
    return apply_overrides(Config(), [f"data.file={json.dumps(str(folder))}", *small])


@pytest.fixture(scope="module")
def facts(settings):
    return preview.preview(settings)


def text_of(facts, width=120):
    console = Console(width=width, file=io.StringIO())
    console.print(preview.render(facts), markup=False)
    return console.file.getvalue()


# ---- what is counted -----------------------------------------------------------------------------------------------


def test_counts_are_those_of_the_recordings_and_windows(facts, settings):
    windows, recordings = load_windows(settings.data), load_recordings(settings.data).recordings
    assert (facts["n_recordings"], facts["n_windows"]) == (len(recordings), len(windows))
    assert facts["seconds"] == pytest.approx(sum(len(r.samples) for r in recordings) / 50)
    for entries, key in ((facts["classes"], "label"), (facts["groups"], "group")):
        assert sum(entry["windows"] for entry in entries) == len(windows)
        for entry in entries:
            own = [r for r in recordings if getattr(r, key) == entry[key]]
            assert entry["recordings"] == len(own)
            assert entry["seconds"] == pytest.approx(sum(len(r.samples) for r in own) / 50)
    assert [(c["label"], c["groups"]) for c in facts["classes"]] == [("[fast] <i>", 3), ("once", 1), ("slow", 3)]
    assert [(g["group"], g["classes"]) for g in facts["groups"]] == [("anna", 3), ("ben", 2), ("cleo", 2)]


def test_rare_classes_and_those_of_one_group_are_pointed_out(facts):
    assert [c["rare"] for c in facts["classes"]] == [False, True, False]
    assert "one group only" in preview.class_remark(facts["classes"][1])
    assert "class_weights" in preview.class_remark(facts["classes"][1] | {"groups": 2})
    assert preview.class_remark(facts["classes"][0]) == ""


def test_gaps_holes_and_faults_are_counted_and_said_once(facts):
    assert (facts["gaps"], facts["filled_samples"], facts["n_faults"]) == (1, 2, 3)
    text = re.sub(r"\s+", " ", text_of(facts))
    for fault in facts["faults"]:
        assert text.count(fault["text"]) == 1
    assert facts["n_files"] == 8


def test_lengths_are_those_of_the_recordings(facts, settings):
    lengths = [len(r.samples) for r in load_recordings(settings.data).recordings]
    found = facts["lengths"]
    assert (found["min"], found["median"], found["max"]) == (min(lengths), np.median(lengths), max(lengths))
    assert sum(found["counts"]) == len(lengths)
    assert len(found["edges"]) == len(found["counts"]) + 1


def test_split_is_the_one_that_training_makes(facts, settings):
    split = split_windows(load_windows(settings.data), settings.data)
    for part in ("train", "validation", "test"):
        assert facts["split"][part]["groups"] == getattr(split, f"{part}_groups")
        assert facts["split"][part]["windows"] == len(getattr(split, part))
    assert {g["group"] for g in facts["groups"] if g["part"] == "test"} == set(split.test_groups)


def test_classes_missing_from_the_test_part_are_named(settings):
    found = [preview.preview(apply_overrides(settings, [f"data.fold={i}"]))["split"] for i in range(3)]
    complete = [split for split in found if "error" not in split]
    assert complete and all("once" in split["test"]["without"] for split in complete)
    assert "once" in preview.part_remark(complete[0]["test"])
    (refused,) = [split for split in found if "error" in split]
    assert "once" in refused["error"]


def test_impossible_split_is_said_and_the_rest_shown(settings):
    facts = preview.preview(apply_overrides(settings, ["data.folds=20"]))
    assert "data.folds" in facts["split"]["error"]
    assert "data.folds" in text_of(facts)
    assert facts["n_windows"] > 0


# ---- channels ------------------------------------------------------------------------------------------------------


def test_statistics_are_those_of_all_samples_together():
    rng = np.random.default_rng(1)
    blocks = [rng.normal(5, 2, (n, s, 3)) for n, s in ((1, 40), (1, 7), (4, 16), (1, 2))]
    found = preview.channel_statistics(lambda: iter(blocks), 3)
    every = np.concatenate([block.reshape(-1, 3) for block in blocks])
    for key, expected in (("min", every.min(0)), ("max", every.max(0)), ("mean", every.mean(0)), ("std", every.std(0))):
        np.testing.assert_allclose(found[key], expected)
    assert found["n_stretches"] == 7


def test_pieces_make_no_difference(monkeypatch):
    blocks = [np.random.default_rng(i).integers(0, 12, (1, s, 2)).astype(np.int16) for i, s in enumerate((300, 7))]
    blocks[0][0, 40:60] = blocks[1][:] = 11
    scale = np.array([2.0, 4.0])
    expected = preview.channel_statistics(lambda: iter(blocks), 2, scale)
    assert expected["clipped"].min() > 0 and expected["constant_in"].tolist() == [1, 1]
    assert expected["max"].tolist() == [5.5, 2.75]
    for n in (1, 2, 14, 100):
        monkeypatch.setattr(preview, "BLOCK_VALUES", n)
        for key, value in preview.channel_statistics(lambda: iter(blocks), 2, scale).items():
            np.testing.assert_allclose(value, expected[key])


def test_only_runs_of_three_at_the_extreme_are_clipping():
    x = np.array([9, 9, 1, 9, 9, 9, 1, 9, 9, 9, 9, 0, 9])[None, :, None]
    expected = [0, 0, 0, 1, 1, 1, 0, 1, 1, 1, 1, 0, 0]
    assert preview.stuck(x, np.array([9]))[0, :, 0].tolist() == [bool(v) for v in expected]
    assert not preview.stuck(x[:, :2], np.array([9])).any()


def test_clipped_share_does_not_join_two_recordings():
    values = np.linspace(-1, 0.9, 30)
    ends, begins = np.r_[values, 1, 1][None, :, None], np.r_[1, values][None, :, None]
    assert preview.channel_statistics(lambda: iter([ends, begins]), 1)["clipped"][0] == 0
    three = np.r_[values, 1, 1, 1][None, :, None]
    assert preview.channel_statistics(lambda: iter([three]), 1)["clipped"][0] == pytest.approx(3 / 33)


def test_channels_say_what_is_odd_about_them(facts):
    ax, ay, az, temperature, button = facts["channels"]
    assert ax["max"] == pytest.approx(0.8, abs=1e-3)
    assert 0.1 < ax["clipped"] < 0.5 and "clips" in preview.channel_faults(ax)[0]
    assert ay["clipped"] == az["clipped"] == button["clipped"] == temperature["clipped"] == 0
    assert temperature["constant"] and not button["constant"]
    assert ax["rotates_with"] == ["ax", "ay", "az"] and button["rotates_with"] is None
    assert (ax["unit"], temperature["unit"], button["unit"]) == ("g", "C", "")


def test_channel_that_fails_in_one_recording_is_found(tmp_path):
    for person in ("anna", "ben"):
        for label in ("a", "b"):
            values = samples(200, phase=ord(person[0]) + 10 * ord(label))
            values[:, 2] = 0 if (person, label) == ("ben", "b") else values[:, 2]
            write(tmp_path / label / f"{person}_1.csv", values)
    found = preview.preview(apply_overrides(Config(), [f"data.file={json.dumps(str(tmp_path))}"]))
    assert preview.channel_faults(found["channels"][2]) == ["never changes in 1 of 4 recordings"]


@pytest.mark.parametrize("people", [["anna"], ["anna", "ben", "cleo"]])
def test_a_single_class_is_shown_with_what_training_needs(tmp_path, people):
    for person in people:
        write(tmp_path / "data" / "wave" / f"{person}_1.csv", samples(200, phase=ord(person[0])))
    settings = apply_overrides(Config(), [f"data.file={json.dumps(str(tmp_path / 'data'))}"])
    facts = preview.preview(settings)
    assert [c["label"] for c in facts["classes"]] == ["wave"] and facts["n_groups"] == len(people)
    text = re.sub(r"\s+", " ", text_of(facts))
    assert "got 1 class (wave), expected 2..256; a classifier needs two or more" in text
    assert preview.write_page(facts, tmp_path / "page.html") > 0
    with pytest.raises(DataError, match="a classifier needs two or more"):
        load_windows(settings.data)


# ---- other kinds of data -------------------------------------------------------------------------------------------


@pytest.fixture
def npz(tmp_path):
    rng = np.random.default_rng(0)
    groups = np.repeat([f"person number {i}" for i in range(1500)], 2)
    x = rng.normal(size=(3000, 16, 2)).astype(np.float32)
    np.savez(tmp_path / "set.npz", x=x, y=np.tile([0, 1], 1500), group=groups, labels=["a", "b"])
    return apply_overrides(Config(), [f"data.file={json.dumps(str(tmp_path / 'set.npz'))}"])


def test_windows_that_came_cut_claim_no_recordings_or_seconds(npz):
    facts = preview.preview(npz)
    assert (facts["kind"], facts["n_recordings"], facts["seconds"], facts["lengths"]) == ("npz", None, None, None)
    assert facts["classes"][0] == {
        "label": "a", "recordings": None, "seconds": None, "windows": 1500, "groups": 1500, "rare": False
    }  # fmt: skip
    text = text_of(facts)
    assert "recordings" not in text.split("classes")[0] and "1,480 more" in text


def test_names_of_strangers_send_no_commands_to_the_terminal(tmp_path):
    names = np.repeat(["\x1b[31mred\a", "tab\there", "ten", "\u202eleft"], 5)
    np.savez(tmp_path / "s.npz", x=np.random.default_rng(0).normal(size=(20, 8, 1)), y=np.arange(20) % 2, group=names)
    settings = apply_overrides(Config(), [f"data.file={json.dumps(str(tmp_path / 's.npz'))}", "data.folds=2"])
    facts = preview.preview(settings)
    text = text_of(facts)
    assert "\\x1b[31mred" in text and text.replace("\n", "").isprintable()
    preview.write_page(facts, tmp_path / "p.html")
    assert "\x1b" not in (tmp_path / "p.html").read_text("utf-8")


def test_json_stays_small_and_holds_no_samples(npz, facts):
    many = preview.preview(npz)
    assert len(json.dumps(many)) < 300_000
    assert len(many["groups"]) == preview.MOST_NAMED < many["n_groups"]
    assert len(json.dumps(facts)) < 12_000
    assert facts.plots.window.shape == (64, 5)


def test_bundled_set_is_shown_without_any_data_of_ones_own():
    facts = preview.preview(Config())
    assert (facts["kind"], facts["n_recordings"], facts["n_groups"]) == ("bundled", 140, 10)
    assert facts["seconds"] == pytest.approx(244102 / 50)
    assert max(c["clipped"] for c in facts["channels"]) == 0


def test_nothing_readable_is_the_error_of_the_readers(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x_1.csv").write_text("no numbers\n")
    for path in (tmp_path, tmp_path / "absent", tmp_path / "a" / "x_1.csv"):
        with pytest.raises(DataError):
            preview.preview(apply_overrides(Config(), [f"data.file={json.dumps(str(path))}"]))


# ---- augmentation --------------------------------------------------------------------------------------------------


def varied(settings, **augmentation):
    training = settings.training
    training = replace(training, augmentation=replace(training.augmentation, **augmentation))
    return replace(settings, training=training)


OFF = dict.fromkeys(preview.MEANING, 0.0)


def test_copies_are_what_the_settings_make_of_the_window(settings):
    still = preview.preview(varied(settings, **OFF))
    assert len(still.plots.copies) == preview.N_COPIES
    for copy in still.plots.copies:
        np.testing.assert_allclose(copy, still.plots.window, atol=1e-5)
    assert {s["meaning"] for s in still["augmentation"]["settings"]} == {"off"}
    noisy = preview.preview(varied(settings, **OFF | {"noise": 0.5}))
    difference = np.mean([copy - noisy.plots.window for copy in noisy.plots.copies], axis=0)
    stds = [channel["std"] for channel in noisy["channels"]]
    np.testing.assert_allclose(difference.std(0), np.multiply(stds, 0.5 / np.sqrt(3)), rtol=0.3, atol=1e-9)


def test_same_seed_shows_the_same_and_another_something_else(settings):
    first, again, other = (preview.preview(settings, seed).plots for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.copies, again.copies)
    assert np.abs(np.array(first.copies) - other.copies).max() > 0.01


def test_rotation_without_axes_is_said_to_do_nothing(settings):
    facts = preview.preview(replace(settings, data=replace(settings.data, axes=[])))
    (rotation,) = [s for s in facts["augmentation"]["settings"] if s["setting"] == "rotation_rad"]
    assert "nothing" in rotation["meaning"]


def test_without_torch_only_the_varied_copies_are_missing(settings, facts, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "torch", None)
    found = preview.preview(settings)
    assert found["augmentation"].pop("missing").startswith("what augmentation does needs PyTorch: pip install")
    assert {k: v for k, v in found.items() if k != "augmentation"} == {
        k: v for k, v in facts.items() if k != "augmentation"
    }
    found["augmentation"]["missing"] = "needs PyTorch"
    assert text_of(found).rstrip().endswith("needs PyTorch")
    assert preview.write_page(found, tmp_path / "p.html") > 10_000


# ---- as text and as a page -----------------------------------------------------------------------------------------


def test_sparkline_shows_the_shape():
    assert preview.sparkline(np.arange(8)) == "▁▂▃▄▅▆▇█"
    assert preview.sparkline([3, 3, 3]) == "▅▅▅"
    assert preview.sparkline([0, 1], low=0, high=8) == "▁▂"


def test_sparklines_share_a_scale_and_fit_their_columns():
    before, after, is_swing = preview.sparklines(np.arange(1000), 2 * np.arange(1000), 10)
    assert (before, after, is_swing) == ("▁▁▁▂▂▃▃▄▄▄", "▁▂▂▃▄▅▆▇██", False)
    assert [len(line) for line in preview.sparklines(np.arange(7), np.arange(7))[:2]] == [7, 7]


def test_sound_shows_its_swing_where_a_mean_would_show_nothing():
    t = np.arange(16000)
    loud_in_the_middle = np.sin(t) * np.exp(-(((t - 8000) / 2000) ** 2))
    before, after, is_swing = preview.sparklines(loud_in_the_middle, 0.5 * loud_in_the_middle)
    assert is_swing and before[0] == "▁" and before[30] == "█" and after[30] in "▄▅" and len(before) == 60


def test_text_names_everything_and_takes_no_label_for_markup(facts):
    text = text_of(facts)
    for word in ("[fast] <i>", "slow", "anna", "temperature", "50 Hz", "rotation_rad", "before", "after", "test"):
        assert word in text
    assert max(map(len, text.splitlines())) <= 120


def test_page_stands_alone_and_escapes_what_files_are_called(facts, tmp_path):
    size = preview.write_page(facts, tmp_path / "page.html")
    html = (tmp_path / "page.html").read_text("utf-8")
    assert size == (tmp_path / "page.html").stat().st_size < 400_000
    assert "<i>" not in html and "[fast] &lt;i&gt;" in html
    assert not re.search(r"<script|<link|https?://(?!www\.w3\.org)|src=", html)
    for word in ("nan", "None", "Markup("):
        assert word not in re.sub(r"<style.*?</style>", "", html, flags=re.S)
    n_figures = html.count("<svg")
    assert n_figures == 3 + 3 + 1 + preview.N_COPIES  # classes, groups, lengths; examples; the window; copies
