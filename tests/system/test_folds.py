"""The figure of the README: five folds of the shipped config, each on two people the model never saw."""

import json
import subprocess
import sys

import pytest


@pytest.fixture(scope="module")
def folds(tmp_path_factory):
    command = [sys.executable, "-m", "attn8.cli", "evaluate", "--folds", "5", "--json", "--quiet"]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=1800, cwd=tmp_path_factory.mktemp("folds"), check=True
    )
    return json.loads(done.stdout)


def test_float_mean_is_above_the_bar(folds):
    assert folds["float_accuracy_mean"] >= 0.86


def test_int8_is_within_a_point_of_float(folds):
    assert folds["int8_accuracy_mean"] >= folds["float_accuracy_mean"] - 0.01
    assert folds["int8_macro_f1_mean"] >= folds["float_macro_f1_mean"] - 0.01


def test_quantized_model_and_integer_file_agree_on_every_window(folds):
    assert [fold["agreement_fakequant_int8"] for fold in folds["folds"]] == [1.0] * 5
    assert [fold["identical_logits_fakequant_int8"] for fold in folds["folds"]] == [1.0] * 5


def test_every_person_is_tested_once(folds):
    tested = [group for fold in folds["folds"] for group in fold["test_groups"]]
    assert len(tested) == len(set(tested)) == 10
