"""The stream of the device package's Python kernels gives the bytes of the reference, whatever the model's form."""

import sys

import numpy as np
import pytest
from attn8.device import loading
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

import models
from attn8 import ModelError
from attn8.reference import Reference
from tools import ROOT

sys.path.insert(0, str(ROOT / "tests" / "native"))

from test_stream import NOT_CAUSAL, STREAMS, conv, graph_of

MANY = {"max_examples": 25, "deadline": None, "suppress_health_check": [HealthCheck.too_slow]}


def outputs_of(stream, x, block):
    """Returns the last output of each block of samples that completed a hop, and how many it completed."""
    outputs, counts = [], []
    for i in range(0, len(x), block):
        counts.append(stream.push(x[i : i + block]))
        if counts[-1]:
            outputs.append(list(stream.output))
    return outputs, counts


@settings(**MANY)
@given(models.shapes(pad_right=0, right=0), st.integers(1, 60), st.integers(0, 1 << 16), st.integers(1, 70))
def test_a_stream_gives_the_bytes_of_the_model_over_the_recording(shape, hop, seed, block):
    assume(models.fits(shape))
    data = models.build_model(shape, seed)
    n = 4 * shape.n_steps
    x = models.recording_for(data, n, seed)
    outputs, counts = outputs_of(loading.load(data).stream(hop), x, block)
    expected = Reference(data).run_recording(x, hop)
    assert sum(counts) == len(expected)
    behind = np.cumsum(counts)[np.flatnonzero(counts)]
    np.testing.assert_array_equal(np.reshape(outputs, (-1, shape.n_outputs)), expected[behind - 1])


@settings(**{**MANY, "max_examples": 8})
@given(models.shapes(pad_right=0, right=0), st.integers(1, 60), st.integers(0, 1 << 16))
def test_a_long_recording_does_not_drift(shape, hop, seed):
    assume(models.fits(shape))
    data = models.build_model(shape, seed)
    x = models.recording_for(data, 12 * shape.n_steps, seed)
    outputs, _ = outputs_of(loading.load(data).stream(hop), x, 1)
    np.testing.assert_array_equal(outputs, Reference(data).run_recording(x, hop))


@pytest.mark.parametrize("name", STREAMS)
@pytest.mark.parametrize("hop", [1, 3, 5])
def test_graphs_of_any_form_stream(name, hop):
    data = graph_of(STREAMS[name])
    x = models.recording_for(data, 150, 1)
    stream = loading.load(data).stream(hop)
    expected = Reference(data).run_recording(x, hop)
    for _ in range(2):
        np.testing.assert_array_equal(outputs_of(stream, x, 1)[0], expected)
        stream.reset()


@pytest.mark.parametrize("name", NOT_CAUSAL)
def test_what_sees_the_future_is_refused_in_the_words_of_the_reference(name):
    data = graph_of(NOT_CAUSAL[name])
    with pytest.raises(ModelError) as of_reference:
        Reference(data).run_recording(models.recording_for(data, 50), 1)
    with pytest.raises(ModelError) as of_device:
        loading.load(data).stream()
    assert str(of_device.value) == str(of_reference.value)


def test_a_token_a_week_is_refused():
    def build(b):
        x = 0
        for _ in range(3):
            x = conv(b, x, 1, 255, 0)

    with pytest.raises(ModelError, match=r"got 16581375 samples between .*, expected at most 1048576;"):
        loading.load(graph_of(build)).stream()
