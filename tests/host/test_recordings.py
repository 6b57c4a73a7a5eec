"""Folders of recordings: labels, groups, manifest, splits and notes; the bundled set as recordings."""

import numpy as np
import pytest

from attn8.config import DataConfig
from attn8.data import files as data_files
from attn8.data import folder_kind, load_recordings, load_windows, load_x, split_windows, windows_of
from attn8.data.files import Template, auto_names
from attn8.data.groups import normal_form
from attn8.errors import ConfigError, DataError

ROWS = "ax,ay\n" + "".join(f"{i},{-i}\n" for i in range(40))


def write(folder, *names, **contents):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{ROWS}# {name.encode('unicode_escape').decode()}\n")  # no two files are the same
    for name, content in contents.items():
        (folder / f"{name}.csv").write_text(content)
    return folder


def config(**changes):
    return DataConfig(**{"window": 16, "hop": 16, **changes})


def read(folder, **changes):
    return load_recordings(config(**changes), folder)


def named(set_):
    return {r.name: (r.label, r.group) for r in set_.recordings}


# ---- which files


def test_kind_is_found_by_what_is_inside(tmp_path):
    write(tmp_path, "csv/a/b/c/x.CSV", "csv/.hidden/x.wav", "csv/__MACOSX/x.wav", "csv/a/.x.wav", "csv/README.txt")
    write(tmp_path, "wav/a/x.wav", "wav/manifest.csv", "both/x.wav", "both/y.csv", "both/z.csv", "none/notes.txt")
    assert folder_kind(tmp_path / "csv") == "csv" and folder_kind(tmp_path / "wav") == "wav"
    with pytest.raises(DataError, match=r"got 2 CSV files and 1 WAV files, expected recordings of one kind"):
        folder_kind(tmp_path / "both")
    with pytest.raises(DataError, match=r"got no recordings, expected .* put one recording a file into a folder"):
        folder_kind(tmp_path / "none")
    for name in ("absent", "both/x.wav", "nul\0byte"):
        with pytest.raises(DataError, match="got no access"):
            folder_kind(tmp_path / name)


def test_a_single_recording_asks_for_its_folder(tmp_path):
    write(tmp_path, "a.csv")
    for load in (lambda: load_windows(config(), tmp_path / "a.csv"), lambda: load_x(tmp_path / "a.csv")):
        with pytest.raises(DataError, match=r"got one \.csv file, expected a folder of them"):
            load()


def test_too_many_files_are_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr(data_files, "MAX_FILES", 10)
    write(tmp_path, *(f"a/{i}.csv" for i in range(12)))
    with pytest.raises(DataError, match="got more than 10 files, expected fewer; split it"):
        load_windows(config(), tmp_path)


def test_links_to_folders_are_not_followed(tmp_path):
    write(tmp_path, "wave/anna_1.csv", "wave/ben_1.csv", "rest/anna_1.csv", "rest/ben_1.csv")
    (tmp_path / "loop").symlink_to(tmp_path)
    assert read(tmp_path).n_files == 4


def test_odd_file_names_are_shown_escaped(tmp_path):
    write(tmp_path, "wave/anna_1.csv", "wave/ben_1.csv", "rest/anna_1.csv", "rest/ben_1.csv", "rest/a\x1b[2J\n_1.csv")
    (tmp_path / "rest").joinpath(b"caf\xe9_1.csv".decode(errors="surrogateescape")).write_text("x")
    (tmp_path / "rest/a\x1b[2J\n_1.csv").write_text("y\x07y\nz")
    set_ = read(tmp_path)
    assert len(set_.faults) == 2 and len(set_.recordings) == 4
    for line in set_.lines():
        assert line.isprintable() and line.encode()
    assert r"rest/a\x1b[2J\n_1.csv" in set_.lines()[-3]


# ---- label and group


@pytest.mark.parametrize(
    ("stem", "label", "group"),
    [
        ("circle/anna/01", "circle", "anna"),
        ("circle/anna/monday/01", "circle", "anna"),
        ("circle/anna_01", "circle", "anna"),
        ("circle/anna-01_b", "circle", "anna"),
        ("circle/anna", "circle", "anna"),
        ("circle/_x", "circle", "_x"),
        ("anna_01", "", "anna"),
    ],
)
def test_auto_takes_label_and_group_from_the_path(stem, label, group):
    assert auto_names(stem) == (label, group)


@pytest.mark.parametrize("numbered", ["{label}_0{i}", "rec_0{i}", "{label}/anna/0{i}"])
def test_where_names_tell_no_group_each_recording_is_one_and_a_note_says_so(tmp_path, numbered):
    names = [f"{label}/" + numbered.format(label=label, i=i) for label in ("shake", "turn") for i in range(3)]
    set_ = read(write(tmp_path, *(f"{name}.csv" for name in names)))
    assert {r.group for r in set_.recordings} == set(names)
    assert set_.notes[0].startswith("shake, turn: the file names tell no group")
    assert "the accuracy is too high" in set_.notes[0]


def test_groups_in_names_are_kept_without_a_note(tmp_path):
    write(tmp_path, "shake/anna_1.csv", "shake/ben_1.csv", "turn/anna_1.csv", "turn/ben_1.csv")
    set_ = read(tmp_path)
    assert named(set_)["turn/ben_1.csv"] == ("turn", "ben") and not set_.notes


SAME = {
    "case": ("anna", "ANNA"),
    "sharp s": ("groß", "GROSS"),
    "composed": ("zo\u00e9", "zoe\u0301"),
    "width": ("anna", "\uff41nna"),
    "zero width": ("anna", "an\u200bna"),
    "variation selector": ("anna", "anna\ufe0f"),
    "spaces": ("anna b", " anna\u00a0 b "),
}


def sides(split):
    return [{normal_form(name) for name in part} for part in (split.train_groups, split.test_groups)]


@pytest.mark.parametrize("pair", SAME)
@pytest.mark.parametrize("names", ["auto", "pattern", "manifest"])
def test_one_person_in_two_spellings_is_one_group(tmp_path, pair, names):
    people = [*SAME[pair], "ben", "cara"]
    files = [f"{label}/{who}_{i}.csv" for label in ("a", "b") for i, who in enumerate(people)]
    write(tmp_path, *files)
    changes = {"pattern": "{label}/{group}_*"} if names == "pattern" else {}
    if names == "manifest":
        rows = [f"{name},{name.split('/')[1].split('_')[0]}\n" for name in files]
        write(tmp_path, manifest="file,group\n" + "".join(rows))
    for seed in range(6):
        settings = config(folds=3, split_seed=seed, **changes)
        windows = load_windows(settings, tmp_path)
        assert len(windows.group_names) == 3
        train, test = sides(split_windows(windows, settings))
        assert train and test and not train & test
    (note,) = [line for line in windows.notes if "taken as one" in line]
    assert note.isprintable() and note.startswith("group: '")


def test_other_names_stay_other_groups(tmp_path):
    people = ["anna", "anna1", "änna", "ben"]
    write(tmp_path, *(f"{label}/{who}_1.csv" for label in "ab" for who in people))
    windows = load_windows(config(), tmp_path)
    assert windows.group_names == sorted(people) and not any("taken as one" in note for note in windows.notes)


def test_a_label_of_one_person_keeps_that_person_on_one_side(tmp_path):
    write(tmp_path, "a/anna_1.csv", "a/anna_2.csv", *(f"{label}/{g}_1.csv" for label in "bc" for g in PEOPLE))
    set_ = read(tmp_path)
    assert {r.group for r in set_.recordings} == {"anna", "ben", "cara"}
    assert [note for note in set_.notes if note.startswith("label a (anna): recordings of one group only")]


def test_a_label_that_is_named_like_a_person_keeps_its_people(tmp_path):
    write(tmp_path, *(f"{label}/{g}_1.csv" for label in ("ben", "other") for g in (*PEOPLE, "dan")))
    assert {r.group for r in read(tmp_path).recordings} == {"anna", "ben", "cara", "dan"}


PEOPLE = ("anna", "ben", "cara")


def test_the_first_part_of_a_label_is_no_group(tmp_path):
    names = [f"{label}/{label}_{i}" for label in ("hand_wave", "arm_turn") for i in range(3)]
    assert {r.group for r in read(write(tmp_path, *(f"{name}.csv" for name in names))).recordings} == set(names)


@pytest.mark.parametrize("make", ["symlink_to", "hardlink_to", "copy"])
def test_a_recording_under_two_names_is_used_once(tmp_path, make):
    write(tmp_path, *(f"{label}/{who}_1.csv" for label in "ab" for who in ("anna", "ben")))
    original, other = tmp_path / "a/anna_1.csv", tmp_path / "a/zed_1.csv"
    if make == "copy":
        other.write_bytes(original.read_bytes())
    else:
        getattr(other, make)(original)
    set_ = read(tmp_path)
    assert len(set_.recordings) == 4 and [fault.kind for fault in set_.faults] == ["duplicate"]
    assert "a/zed_1.csv: got the same bytes as a/anna_1.csv, expected each recording once" in set_.lines()[-2]
    assert len(read_unlabelled(tmp_path)) == 5 * 2  # nothing is split there
    with pytest.raises(DataError, match="the same bytes as"):
        read(tmp_path, strict=True)


def read_unlabelled(folder):
    return load_x(folder, data_config=config())


@pytest.mark.parametrize(
    ("pattern", "stem", "fields"),
    [
        ("{label}/{group}_*", "wave/anna_01_x", {"label": "wave", "group": "anna"}),
        ("{label}/{group}_*", "wave/anna", None),
        ("{label}/{group}_*", "wave/_01", None),
        ("{group}/{label}_*", "anna/big_wave_01", {"label": "big", "group": "anna"}),
        ("*_{label}", "01_big_wave", {"label": "big_wave"}),
        ("{label}_end", "a_end_b_end", {"label": "a_end_b"}),
        ("{label}_end", "a_end_b", None),
        ("*/{group}-{label}", "x/anna-wave-1", {"label": "wave-1", "group": "anna"}),
        ("{label}", "wave/anna", None),
        ("day*/{label}", "day/wave", {"label": "wave"}),
        ("a*b*c", "aXbYbZc", {}),
        ("abc", "abc", {}),
        ("abc", "abcd", None),
        ("a*a", "a", None),
    ],
)
def test_pattern_matches_a_path(pattern, stem, fields):
    found = Template(pattern).match(stem)
    assert (found and {k: v for k, v in found.items() if k != "*" and k}) == fields


@pytest.mark.parametrize(
    "pattern", ["{lable}_*", "{label", "{label}{group}", "{label}*", "**", "{label}_{label}", "{}"]
)
def test_patterns_that_are_none_are_config_errors(tmp_path, pattern):
    write(tmp_path, "a.csv")
    with pytest.raises(ConfigError, match=r"data\.pattern: got"):
        read(tmp_path, pattern=pattern)


def test_matching_takes_linear_time():
    template = Template("*a" * 127 + "*b")
    assert template.match("a" * 4000) is None  # exponential, or even cubic, would not end


def test_pattern_gives_labels_and_leaves_other_files_out(tmp_path):
    set_ = read(write(tmp_path, "anna/wave_1.csv", "ben/rest_1.csv", "ben/notes.csv"), pattern="{group}/{label}_*")
    assert named(set_) == {"anna/wave_1.csv": ("wave", "anna"), "ben/rest_1.csv": ("rest", "ben")}
    assert set_.faults[0].kind == "label"
    assert "ben/notes.csv: got another name, expected data.pattern = '{group}/{label}_*'" in set_.faults[0].text
    with pytest.raises(ConfigError, match=r"got no \{label\} in"):
        read(tmp_path, pattern="{group}/*")


def test_configured_labels_are_the_classes_and_others_are_faults(tmp_path):
    write(tmp_path, "wave/anna_1.csv", "rest/anna_1.csv", "wafe/anna_2.csv", "anna_3.csv")
    set_ = read(tmp_path, labels=["wave", "still", "rest"])
    assert set_.labels == ["wave", "still", "rest"]
    texts = [fault.text for fault in set_.faults]
    assert "anna_3.csv: got no label, expected a folder with the name of its class around it" in texts[0]
    assert "wafe/anna_2.csv: label: got 'wafe', expected one of data.labels: wave, still, rest; " in texts[1]
    assert texts[1].endswith("did you mean wave?")
    assert windows_of(set_, config()).y.tolist() == [2, 2, 0, 0]


@pytest.mark.parametrize("label", ["x" * 33, "a\x01b"])
def test_labels_that_no_model_file_can_hold_are_faults(tmp_path, label):
    set_ = read(write(tmp_path, "a/anna_1.csv", "b/ben_1.csv", f"{label}/x_1.csv"))
    assert set_.faults[0].kind == "label" and "printable text of at most 32" in set_.faults[0].text


def test_one_class_is_a_data_error(tmp_path):
    with pytest.raises(DataError, match=r"label: got 1 class \(wave\), expected 2\.\.256"):
        read(write(tmp_path, "wave/anna_1.csv", "wave/ben_1.csv"))


def test_a_rare_label_that_looks_like_a_misspelling_is_noted(tmp_path):
    write(tmp_path, *(f"{label}/{who}_1.csv" for label in ("wave", "rest") for who in "abcdefg"), "waves/h_1.csv")
    note = "label waves: 1 of 15 recordings, and 7 of wave; if that is a misspelling, rename it, or give the classes"
    assert [line.startswith(note) for line in read(tmp_path).notes] == [True, False]
    assert not any("misspelling" in line for line in read(tmp_path, labels=["wave", "rest", "waves"]).notes)


def test_folders_of_a_split_are_not_taken_for_classes(tmp_path):
    write(tmp_path, "train/wave/anna_1.csv", "Test/wave/ben_1.csv", "train/rest/anna_1.csv", "Test/rest/ben_1.csv")
    with pytest.raises(DataError, match=r"got the folders Test, train, expected names of classes; give data\.pattern"):
        read(tmp_path)
    assert read(tmp_path, pattern="*/{label}/{group}_*").labels == ["rest", "wave"]


# ---- manifest


def test_the_manifest_wins_over_names_and_only_its_files_are_read(tmp_path):
    write(tmp_path, "x/anna_1.csv", "y/b.csv", "c.csv", "not_listed.csv")
    write(
        tmp_path, manifest="File; Label ;group\n# a comment\nx\\anna_1.csv;wave;\n./y/b.csv;rest;ben\n\nc.csv;rest;\n"
    )
    set_ = read(tmp_path)
    assert named(set_) == {"c.csv": ("rest", "c"), "x/anna_1.csv": ("wave", "anna"), "y/b.csv": ("rest", "ben")}
    assert set_.n_files == 3 and not set_.faults


def test_the_split_of_a_manifest_is_fixed(tmp_path):
    write(tmp_path, "wave/anna_1.csv", "wave/ben_1.csv", "rest/anna_1.csv", "rest/ben_1.csv")
    rows = "wave/anna_1.csv,\nwave/ben_1.csv,Test\nrest/anna_1.csv,train\nrest/ben_1.csv,test\n"
    write(tmp_path, manifest="file,split\n" + rows)
    windows = load_windows(config(), tmp_path)
    names = np.array(windows.recording_names)[windows.recording]
    assert set(names[windows.test]) == {"wave/ben_1.csv", "rest/ben_1.csv"}
    assert split_windows(windows, config()).test_groups == ["ben"]
    write(tmp_path, manifest="file,split\n" + rows.replace("anna_1.csv,train", "anna_1.csv,test"))
    with pytest.raises(DataError, match="group 'anna' on both sides"):
        load_windows(config(), tmp_path)
    write(tmp_path, manifest="file,split\nwave/anna_1.csv,test\nrest/ben_1.csv,test\n")
    with pytest.raises(DataError, match="expected some in train and some in test"):
        load_windows(config(), tmp_path)


ROW_FAULTS = {
    "x/anna_2.csv,wave": "manifest.csv: line 4: got 'x/anna_2.csv', which is not there, "
    "expected a file in this folder; did you mean x/anna_1.csv?",
    "../secret.csv,wave": "got '../secret.csv', expected a file in this folder; copy it here",
    "/etc/passwd,wave": "got '/etc/passwd', expected a file in this folder",
    "C:\\x.csv,wave": "expected a file in this folder",
    "x/anna_1.csv,rest": "got 'x/anna_1.csv' a second time",
    "notes.txt,wave": "expected a name that ends in .csv",
    "link.csv,wave": "link.csv: got a link out of the folder",
    "\x1b[2J,wave": r"'\x1b[2J', which is not there",
}


@pytest.mark.parametrize("row", ROW_FAULTS)
def test_a_bad_line_of_the_manifest_costs_one_sentence(tmp_path, row):
    folder = write(tmp_path / "data", "x/anna_1.csv", "b_1.csv", "notes.txt")
    write(tmp_path, "secret.csv")
    (folder / "link.csv").symlink_to(tmp_path / "secret.csv")
    write(folder, manifest=f"file,label\nx/anna_1.csv,wave\nb_1.csv,rest\n{row}\n")
    set_ = read(folder)
    assert len(set_.faults) == 1 and ROW_FAULTS[row] in set_.faults[0].text
    assert len(set_.recordings) == 2
    with pytest.raises(DataError) as caught:
        read(folder, strict=True)
    assert str(caught.value) == set_.faults[0].text


def test_an_unknown_column_and_a_wrong_split_are_named(tmp_path):
    write(tmp_path, "a_1.csv", "b_1.csv", manifest="file,labels,label,split\na_1.csv,,x,\nb_1.csv,,y,tset\n")
    texts = [fault.text for fault in read(tmp_path, labels=["x", "y"]).faults]
    assert "got the column 'labels', expected file, label, group, split; did you mean label?" in texts[0]
    assert "line 3: got split = 'tset', expected train or test" in texts[1]


@pytest.mark.parametrize("content", ["", "name,label\na.csv,x\n", b"file,label\n\xff\xfe"])
def test_a_manifest_that_is_no_table_is_a_data_error(tmp_path, content):
    write(tmp_path, "a.csv")
    (tmp_path / "manifest.csv").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataError, match=r"manifest\.csv: got"):
        read(tmp_path)


def test_a_manifest_without_files_leaves_nothing(tmp_path):
    write(tmp_path, "a.csv", manifest="file,label\n")
    with pytest.raises(DataError, match="got no file to read"):
        read(tmp_path)


# ---- windows of recordings


def test_windows_are_cut_by_the_config_and_know_their_recording(tmp_path):
    write(tmp_path, "wave/p10_1.csv", "wave/p2_1.csv", "rest/p10_1.csv", "rest/p2_1.csv")
    windows = load_windows(config(window=16, hop=8), tmp_path)
    assert windows.x.shape == (16, 16, 2) and windows.start.tolist() == [0, 8, 16, 24] * 4
    assert windows.recording.tolist() == np.repeat(range(4), 4).tolist()
    assert windows.x[5, :, 0].tolist() == list(range(8, 24))
    assert windows.x.flags.c_contiguous and windows.name == tmp_path.name
    assert windows.group_names == ["p10", "p2"] and windows.labels == ["rest", "wave"]
    assert windows.notes == ["read 4 of 4 files"]


def test_groups_that_are_numbers_are_in_their_order(tmp_path):
    write(tmp_path, *(f"{label}/{group}_1.csv" for label in ("wave", "rest") for group in (10, 9, 100)))
    assert load_windows(config(), tmp_path).group_names == ["9", "10", "100"]


def test_too_many_windows_are_refused_before_memory_is_taken(tmp_path, monkeypatch):
    from attn8.data import windows

    monkeypatch.setattr(windows, "MAX_DATA_BYTES", 1000)
    with pytest.raises(
        DataError, match=r"data\.hop: got 1, which makes 100 windows of 64 bytes, expected at most 1000"
    ):
        load_windows(config(hop=1), write(tmp_path, "a/x_1.csv", "a/y_1.csv", "b/x_1.csv", "b/y_1.csv"))


def test_values_beyond_int16_in_the_scale_of_a_model_are_clipped_and_noted(tmp_path):
    write(tmp_path, "a/x_1.csv", "a/y_1.csv", "b/x_1.csv", "b/y_1.csv")
    windows = load_windows(config(), tmp_path, np.array([10.0, 2000.0]))
    assert windows.x[:, :, 1].min() == -32768 and windows.x[:, :, 0].max() == 310
    assert "makes 1 of 2 channels clip" in windows.notes[0]


# ---- the bundled set


def test_bundled_set_is_recordings_too():
    settings = DataConfig()
    set_ = load_recordings(settings)
    assert (set_.kind, len(set_.recordings), set_.lines()) == ("bundled", 140, [])
    windows, loaded = windows_of(set_, settings), load_windows(settings)
    assert windows.fingerprint() == loaded.fingerprint()
    assert np.array_equal(windows.start, loaded.start)
    number, start = windows.recording[100], windows.start[100]
    assert np.array_equal(windows.x[100], set_.recordings[number].samples[start : start + 128])
    assert windows.group_names == [str(i) for i in range(1, 11)]


def test_bundled_windows_are_those_that_the_shipped_model_was_trained_on():
    # From the reader that trained it, before there were recordings.
    assert load_windows(DataConfig()).fingerprint().startswith("f5ca10af454c71b5")


def test_bundled_set_takes_channels_labels_and_rate_of_the_config():
    full = load_recordings(DataConfig())
    part = load_recordings(DataConfig(labels=full.labels[3:1:-1], channels=["wz", "ax"], sample_rate_hz=25.0))
    assert part.labels == full.labels[3:1:-1] and part.units == ["rad/s", "g"] and part.sample_rate_hz == 25
    assert {r.label for r in part.recordings} == set(part.labels)
    same = next(r for r in full.recordings if r.name == part.recordings[0].name)
    assert len(part.recordings[0].samples) == (len(same.samples) + 1) // 2
    assert part.recordings[0].samples.dtype == np.int16
    with pytest.raises(DataError, match=r"data\.labels: got 'XYZ'"):
        load_recordings(DataConfig(labels=["XYZ", "ABD"]))
