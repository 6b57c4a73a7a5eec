"""The C core and the NumPy reference give the same bytes, with the sanitizers on."""

import os

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings

import models
from attn8 import reference, runtime
from attn8.config import DataConfig
from attn8.data import load_windows
from tools import SANITIZE, core_program, need, run, scratch

N_SHAPES, N_WINDOWS = int(os.environ.get("ATTN8_SHAPES", 16)), 800
GENERATE = {
    "derandomize": "ATTN8_SHAPES" not in os.environ,
    "database": None,
    "phases": [Phase.explicit, Phase.generate],
    "deadline": None,
    "suppress_health_check": list(HealthCheck),
}


def sanitized_outputs(data, x):
    """Returns the outputs of a program with the core under AddressSanitizer and UBSan."""
    folder = scratch()
    (folder / "model.a8").write_bytes(data)
    (folder / "x").write_bytes(np.ascontiguousarray(x).tobytes())
    run(core_program("native/core_test", "-O1", *SANITIZE), "run", folder / "model.a8", folder / "x", folder / "y")
    n_outputs = len(reference.parse(data).graph.labels)
    return np.frombuffer((folder / "y").read_bytes(), dtype=np.int8).reshape(-1, n_outputs)


def test_c_equals_the_reference_on_ten_thousand_windows_of_drawn_shapes():
    need("cc", "gcc")
    seen = {}

    @settings(max_examples=N_SHAPES, **GENERATE)
    @given(models.shapes().filter(models.fits))
    def check(shape):
        seed = len(seen)
        data = models.build_model(shape, seed)
        x = models.windows_for(data, N_WINDOWS, seed)
        expected = reference.Reference(data).run(x)
        assert np.array_equal(runtime.CModel(data).run(x), expected)
        assert np.array_equal(sanitized_outputs(data, x), expected)
        seen[shape] = len(x)

    check()
    assert len(seen) >= 8
    assert sum(seen.values()) >= 10_000
    for field in ("n_steps", "left", "right", "heads", "layers", "activation", "norm", "int16"):
        assert len({getattr(shape, field) for shape in seen}) > 1, f"all shapes have the same {field}"


def test_c_equals_the_reference_on_real_windows():
    need("cc", "gcc")
    x = load_windows(DataConfig()).x[::2]
    n_windows = 0
    for seed, norm in enumerate(models.NORMS):
        shape = {"n_steps": x.shape[1], "n_channels": x.shape[2], "stride": 4, "norm": norm, "layers": 1}
        data = models.random_model(seed, **shape)
        expected = reference.Reference(data).run(x)
        assert np.array_equal(runtime.CModel(data).run(x), expected)
        assert np.array_equal(sanitized_outputs(data, x), expected)
        n_windows += len(x)
    assert n_windows >= 1000


@pytest.mark.parametrize("seed", range(6))
def test_golden_vectors_are_those_of_the_reference(seed):
    need("cc")
    data = models.random_model(seed)
    c, numpy = runtime.CModel(data), reference.Reference(data)
    c.selftest()
    for i, x in enumerate(numpy.golden_inputs()):
        assert np.array_equal(c.golden_input(i), x)
