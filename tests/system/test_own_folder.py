"""A newcomer's folder of CSV files, with three faults in it, goes all the way; each fault costs one sentence."""

import json

import pytest
from test_demo import attn8

from attn8 import reference
from own_recordings import BROKEN, GAP, LABELS, UNKNOWN, write_folder

PEOPLE = (1, 2, 3, 4)
SETTINGS = ("--set", f"data.labels={json.dumps(LABELS)}", "--set", "data.folds=4", "--set", "training.epochs=4")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("newcomer")
    files = write_folder(folder / "recordings", PEOPLE, faults=True)
    assert {BROKEN, GAP, UNKNOWN} <= set(files)
    return folder


@pytest.fixture(scope="module")
def trained(folder):
    out, err = attn8("train", "--data", "recordings", *SETTINGS, "--out", "run", "--json", cwd=folder)
    return json.loads(out), err.splitlines()


def test_each_fault_costs_one_sentence(trained):
    _, lines = trained
    faults = {BROKEN: "line 501: got", UNKNOWN: "did you mean ABD?", GAP: "got 50 missing samples (1 s)"}
    for name, words in faults.items():
        found = [line for line in lines if name in line]
        assert len(found) == 1
        assert words in found[0]
    assert not any("Traceback (" in line for line in lines)


def test_the_rest_is_learned(trained):
    metrics, lines = trained
    assert any(line.startswith("read ") and " of " in line for line in lines)
    assert metrics["int8_accuracy"] > 2 / len(LABELS)
    assert metrics["test_groups"] == sorted(set(metrics["test_groups"]) & {f"p{i}" for i in PEOPLE})


def test_packed_model_has_names_units_and_rate_of_the_files(folder, trained):
    del trained
    attn8("pack", "run", "-o", "own.a8", cwd=folder)
    g = reference.parse((folder / "own.a8").read_bytes()).graph
    assert g.labels == list(LABELS)
    assert g.channels == ["ax", "ay", "az", "wx", "wy", "wz"]
    assert g.units == ["g"] * 3 + ["rad/s"] * 3
    assert g.sample_rate_hz == 50
    found = json.loads(attn8("evaluate", "own.a8", "--data", "recordings", "--json", cwd=folder)[0])
    assert found["n_test"] > 500


def test_report_and_preview_show_the_faults(folder, trained):
    del trained
    attn8("report", "run", cwd=folder)
    attn8("data", "preview", "recordings", "--out", "preview.html", cwd=folder)
    for page in ("run/report.html", "preview.html"):
        assert BROKEN in (folder / page).read_text()


def test_strict_settings_stop_at_the_first_fault(folder):
    _, err = attn8("train", "--data", "recordings", *SETTINGS, "--set", "data.strict=true", cwd=folder, code=1)
    assert err.count("\n") == 1
    assert err.startswith("attn8: ")
