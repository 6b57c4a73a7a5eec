"""A quick form of fine_tuning.py: one pair, few epochs."""

import numpy as np
import pytest

pytest.importorskip("torch")

import fine_tuning


@pytest.fixture(scope="module")
def results():
    return fine_tuning.run_all([0], 1, base_epochs=8, epochs=20, say=lambda text: None)


def test_fine_tuning_on_two_people_beats_training_from_nothing_on_them(results):
    nothing, tuned, frozen = (
        fine_tuning.mean_accuracy(results, row, "other arms")
        for row in ("from nothing", "fine-tuned", "fine-tuned, frozen front end")
    )
    assert tuned > nothing + 0.05 and frozen > nothing + 0.05


def test_the_table_has_every_row(results):
    table = fine_tuning.render(results)
    assert all(row in table for row in fine_tuning.ROWS) and "wins 1 of 1" in table


def test_no_recording_or_unseen_person_is_on_both_sides():
    for number in range(fine_tuning.N_PAIRS):
        pair = fine_tuning.Pair(number)
        base = pair.for_base()
        assert not set(pair.people + pair.others) & {
            name.split()[0] for name in np.array(base.group_names)[base.group[~base.test]]
        }
        for arm in (0, 1):
            w = pair.of_arms(arm)
            assert not set(w.recording[w.test]) & set(w.recording[~w.test])
            assert len(set(w.recording[w.test])) == len(set(w.recording[~w.test])) == 14
            assert set(w.y[w.test]) == set(w.y[~w.test]) == set(range(7))
            assert {name.split()[0] for name in w.group_names} == set(pair.people)
