"""The figures of a model as a stream: of whole recordings, rebuilt from the windows that were cut from them."""

from dataclasses import replace

import numpy as np
import pytest

import models
from attn8 import workflow
from attn8.cli import _fold_table
from attn8.evaluate import stream_outputs
from attn8.reference import Reference
from trainings import small_config, tones

HOP, STEPS = 6, 24


@pytest.fixture(scope="module")
def model():
    return Reference(models.build_model(models.Shape(n_channels=3).causal(HOP), 4))


def cut(model, lengths, hop=HOP):
    """Returns Windows of recordings of these lengths, and the recordings."""
    recordings = [models.recording_for(model.model.data, n, n) for n in lengths]
    at = [(r, start) for r, x in enumerate(recordings) for start in range(0, len(x) - STEPS + 1, hop)]
    x = np.stack([recordings[r][start : start + STEPS] for r, start in at])
    recording, start = np.array(at).T
    windows = tones(len(x), STEPS)
    return replace(windows, x=x, hop=hop, recording=recording, start=start + 1000), recordings


def test_windows_become_their_recordings_again(model):
    windows, recordings = cut(model, (100, STEPS, 77))
    order = np.random.default_rng(0).permutation(len(windows))
    got = stream_outputs(model, windows.x[order], windows, order)
    expected = np.concatenate([model.run_recording(x, HOP) for x in recordings])
    np.testing.assert_array_equal(got, expected[order])
    assert (got != model.run(windows.x[order])).any()


def test_a_hole_between_windows_begins_a_stream_anew(model):
    windows, (x,) = cut(model, (120,))
    kept = np.array([0, 1, 2, 5, 6, 7])
    got = stream_outputs(model, windows.x[kept], windows, kept)
    expected = [
        model.run_recording(x[: STEPS + 2 * HOP], HOP),
        model.run_recording(x[5 * HOP :][: STEPS + 2 * HOP], HOP),
    ]
    np.testing.assert_array_equal(got, np.concatenate(expected))


def test_windows_that_came_cut_or_do_not_meet_have_no_streams(model):
    windows, _ = cut(model, (100,))
    indices = np.arange(len(windows))
    assert stream_outputs(model, windows.x, replace(windows, recording=None), indices) is None
    assert stream_outputs(model, windows.x, replace(windows, hop=STEPS + 1), indices) is None
    assert stream_outputs(model, windows.x[:0], windows, indices[:0]) is None


@pytest.mark.parametrize("causal", [True, False])
def test_evaluate_tells_the_stream_of_a_causal_model_alone(tmp_path, causal):
    n = 168
    windows = replace(tones(n), recording=np.arange(n) // 2, start=np.arange(n) % 2 * 16, hop=16)
    settings = small_config(
        "training.epochs=1", f"model.causal={str(causal).lower()}", "data.window=32", "data.folds=3"
    )
    found = workflow.train_run(settings, windows, tmp_path / "run", progress=False)
    assert ("stream_accuracy" in found) == causal
    if causal:
        assert 0 <= found["stream_accuracy"] <= 1 and 0 <= found["stream_macro_f1"] <= 1


def test_folds_tell_the_stream_where_every_fold_has_one(tmp_path):
    n = 168
    windows = replace(tones(n), recording=np.arange(n) // 2, start=np.arange(n) % 2 * 16, hop=16)
    settings = small_config("training.epochs=1", "model.causal=true", "data.window=32", "data.validation_groups=0")
    found = workflow.evaluate_folds(settings, windows, 2, tmp_path, progress=False)
    mean = np.mean([fold["stream_accuracy"] for fold in found["folds"]])
    assert found["stream_accuracy_mean"] == pytest.approx(mean)
    assert [column.header for column in _fold_table(found).columns][-2:] == ["stream accuracy", "stream macro-F1"]
    for key in ("stream_accuracy_mean", "stream_macro_f1_mean"):
        del found[key]
    assert [column.header for column in _fold_table(found).columns][-1] == "INT8 macro-F1"
