"""What a verb says about a split is what training did."""

import json
import shutil

import numpy as np
import pytest

from attn8 import workflow
from attn8.config import apply_overrides, shipped_config
from attn8.data import load_windows
from attn8.errors import DataError, RunError

SMALL = ["training.epochs=1", "model.layers=1", "model.ff=8", "data.folds=3"]


def save(path, people, seed=0, **more):
    rng = np.random.default_rng(seed)
    n = 12 * len(people)
    y = np.tile([0, 1], n // 2)
    x = (rng.normal(0, 300, (n, 24, 2)) * (1 + 4 * y[:, None, None])).astype(np.int16)
    np.savez(path, x=x, y=y, group=np.repeat(people, 12), labels=["still", "shake"], **more)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("workflow")
    save(folder / "a.npz", list("abcdef"))
    settings = apply_overrides(shipped_config(), [*SMALL, f"data.file={json.dumps(str(folder / 'a.npz'))}"])
    workflow.train_run(settings, load_windows(settings.data), folder / "run", progress=False)
    return folder


def meta(run):
    return json.loads((run / "run" / "meta.json").read_text())


def test_more_people_never_move_a_training_person_to_the_test_part(run):
    save(run / "more.npz", list("abcdefgh"))
    found = workflow.evaluate_run(run / "run", str(run / "more.npz"))
    assert found["test_groups"] == sorted({*meta(run)["test_groups"], "g", "h"})


def test_the_same_data_is_tested_on_the_same_people(run):
    assert workflow.evaluate_run(run / "run")["test_groups"] == meta(run)["test_groups"]


def test_data_of_training_people_alone_are_refused(run):
    save(run / "seen.npz", meta(run)["train_groups"])
    with pytest.raises(DataError, match="only groups that training saw"):
        workflow.evaluate_run(run / "run", str(run / "seen.npz"))


def test_quantize_refuses_data_without_the_training_people(run):
    save(run / "other.npz", list("uvwxyz"))
    with pytest.raises(RunError, match="expected the training data"):
        workflow.quantize_run(run / "run", "calibrate", data=str(run / "other.npz"), progress=False)


def test_a_fixed_split_has_no_folds(run):
    test = np.repeat([False, False, False, False, True, True], 12)
    save(run / "fixed.npz", list("abcdef"), test=test)
    settings = apply_overrides(shipped_config(), [*SMALL, f"data.file={json.dumps(str(run / 'fixed.npz'))}"])
    with pytest.raises(DataError, match="no folds"):
        workflow.evaluate_folds(settings, load_windows(settings.data), 3, run / "folds", progress=False)


def test_training_again_drops_the_old_integers(run):
    from attn8.train import train

    settings = apply_overrides(shipped_config(), [*SMALL, f"data.file={json.dumps(str(run / 'a.npz'))}"])
    shutil.copytree(run / "run", run / "again")
    train(settings, load_windows(settings.data), run / "again", progress=False)
    with pytest.raises(RunError, match=r"quantized\.safetensors"):
        workflow.pack_run(run / "again", run / "again.a8")


DAMAGE = [{"labels": [1, 2]}, {"channels": [[1], 2]}, {"units": []}, {"counts_per_unit": ["a", "b"]}]


@pytest.mark.parametrize("change", [*DAMAGE, {"sample_rate_hz": 1e300}])
def test_damaged_meta_is_one_sentence(run, change):
    broken = run / "broken"
    shutil.copytree(run / "run", broken, dirs_exist_ok=True)
    (broken / "meta.json").write_text(json.dumps(meta(run) | change))
    with pytest.raises(RunError, match=r"meta\.json"):
        workflow.evaluate_run(broken)
