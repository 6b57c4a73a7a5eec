"""The model in the repository is a good file, and still as good as its card says."""

from pathlib import Path

import pytest

from attn8 import workflow
from attn8.config import shipped_config
from attn8.model_file import check_file
from attn8.reference import Reference

FILE = Path(__file__).resolve().parents[2] / "models" / "shoulder_exercises" / "model.a8"


def test_shipped_model_passes_every_check():
    assert check_file(FILE)["ok"]


def test_shipped_model_has_the_shape_of_the_shipped_config():
    g = Reference(FILE.read_bytes()).graph
    settings = shipped_config()
    assert (g.n_steps, g.name) == (settings.data.window, settings.model.name)


@pytest.mark.parametrize("backend", ["reference", "c"])
def test_shipped_model_recognises_people_it_never_saw(backend):
    from tools import need

    if backend == "c":
        need("cc")
    found = workflow.evaluate_file(FILE, backend=backend)
    assert found["n_test"] == 631
    assert found["test_groups"] == ["4", "7"]
    assert found["int8_accuracy"] >= 0.9
    assert found["int8_macro_f1"] >= 0.9
