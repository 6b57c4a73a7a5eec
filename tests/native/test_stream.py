"""Streams: the C core and NumPy give the bytes of the model over the whole recording."""

import dataclasses

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

import models
from attn8 import ModelError, graph, reference, runtime, spec, stream
from attn8.errors import DataError
from attn8.pack import pack
from models import FULL, Builder, Shape
from tools import SANITIZE, core_program, need, run

STREAM = spec.ERROR_CODES["STREAM"]
MANY = {"max_examples": 150, "deadline": None, "suppress_health_check": [HealthCheck.too_slow]}


@pytest.fixture(scope="module", autouse=True)
def compiler():
    need("cc")


def outputs_at(data, x, n_samples):
    """The definition, slowly: the graph on the samples so far, each pool on its last tokens, the last outputs."""
    model = reference.parse(data)
    values = [reference.Reference(data)._input(x[None, :n_samples])]
    pooled = [False]
    for op in model.graph.ops:
        sources = [values[i] for i in reference.op_sources(op)]
        first = reference.op_sources(op)[0]
        if isinstance(op, graph.MeanPool) and not pooled[first]:
            sources = [values[first][:, -model.shapes[first][0] :]]
        pooled.append(pooled[first] or isinstance(op, graph.MeanPool))
        values.append(reference.run_op(op, sources))
    return values[-1][0, -1]


@settings(**MANY)
@given(models.shapes(pad_right=0, right=0), st.integers(1, 60), st.integers(0, 1 << 16))
def test_c_gives_the_bytes_of_the_batch_model_at_every_hop(shape, hop, seed):
    assume(models.fits(shape))
    data = models.build_model(shape, seed)
    x = models.recording_for(data, 10 * shape.n_steps, seed)
    expected = reference.Reference(data).run_recording(x, hop)
    assert len(expected) == (len(x) - shape.n_steps) // hop + 1
    np.testing.assert_array_equal(runtime.CModel(data).run_recording(x, hop), expected)


@settings(**{**MANY, "max_examples": 40})
@given(models.shapes(pad_right=0, right=0), st.integers(1, 60), st.integers(0, 1 << 16))
def test_the_reference_is_the_graph_on_all_samples_so_far(shape, hop, seed):
    assume(models.fits(shape))
    data = models.build_model(shape, seed)
    x = models.recording_for(data, 3 * shape.n_steps, seed)
    got = reference.Reference(data).run_recording(x, hop)
    for n_samples, outputs in zip(range(shape.n_steps, len(x) + 1, hop), got, strict=True):
        np.testing.assert_array_equal(outputs, outputs_at(data, x, n_samples))


def causal_model(seed=3, **fixed):
    """A packed causal model of the default Shape, and a recording of ten windows."""
    data = models.build_model(dataclasses.replace(Shape().causal(5), **fixed), seed)
    return data, models.recording_for(data, 240, seed)


def test_the_first_output_is_that_of_run_on_the_first_window():
    data, x = causal_model()
    m = runtime.CModel(data)
    np.testing.assert_array_equal(m.run_recording(x)[:1], m.run(x[None, :24]))
    assert len(m.run_recording(x[:23])) == 0
    assert len(reference.Reference(data).run_recording(x[:23])) == 0


def test_later_outputs_see_more_than_a_window():
    data, x = causal_model(left=11)
    m = runtime.CModel(data)
    windows = np.stack([x[i : i + 24] for i in range(0, len(x) - 23, 5)])
    assert (m.run_recording(x) != m.run(windows)).any()


def test_windows_and_streams_take_turns_in_one_arena():
    data, x = causal_model()
    m = runtime.CModel(data)
    a, b, got = runtime.CStream(m, 5), runtime.CStream(m, 7), ([], [])
    for i in range(len(x)):
        for s, signal, outputs in ((a, x, got[0]), (b, x[::-1].copy(), got[1])):
            if s.push(signal[i : i + 1]):
                outputs.append(s.output.copy())
        m.run(x[None, :24])
    np.testing.assert_array_equal(got[0], reference.Reference(data).run_recording(x, 5))
    np.testing.assert_array_equal(got[1], reference.Reference(data).run_recording(x[::-1].copy(), 7))


def test_reset_begins_a_new_recording():
    data, x = causal_model()
    s = runtime.CStream(runtime.CModel(data), 5)
    first = s.push_all(x)
    s.push(x[:3])
    s.reset()
    np.testing.assert_array_equal(s.push_all(x), first)


@pytest.mark.parametrize("block", [1, 4, 0])
def test_blocks_of_samples_give_the_same_bytes_under_sanitizers(tmp_path, block):
    data, x = causal_model(n_outputs=4, norm="layer", activation="gelu", layers=2)
    (tmp_path / "m").write_bytes(data)
    (tmp_path / "x").write_bytes(x.tobytes())
    program = core_program("native/core_test", "-O1", *SANITIZE)
    run(program, "stream", tmp_path / "m", tmp_path / "x", tmp_path / "y", 8, block)
    got = np.frombuffer((tmp_path / "y").read_bytes(), dtype=np.int8).reshape(-1, 4)
    np.testing.assert_array_equal(got, reference.Reference(data).run_recording(x, 8))


def test_push_refuses_what_it_cannot_use_and_survives_any_state(tmp_path):
    paths = []
    for seed in range(12):
        path = tmp_path / f"{seed}.a8"
        path.write_bytes(models.random_model(seed, pad_right=0, right=0))
        paths.append(path)
    run(core_program("native/core_test", "-O1", *SANITIZE), "state", *paths)


def both_say(data):
    """Returns (code or 0, state bytes) of NumPy and of C."""
    answers = []
    for size in (
        lambda: stream.state_bytes(reference.parse(data)),
        lambda: runtime.CStream(runtime.CModel(data), 1).state.nbytes,
    ):
        try:
            answers.append((0, size()))
        except ModelError as e:
            answers.append((e.code, 0))
    return answers


def test_portable_kernels_pack_nothing():
    data, _ = causal_model()
    assert runtime._core().a8_stream_packed_bytes(runtime.CModel(data)._model.ctypes.data) == 0


@pytest.mark.parametrize("seed", range(40))
def test_c_and_numpy_agree_on_what_streams_and_what_it_keeps(seed):
    of_numpy, of_c = both_say(models.random_model(seed))
    assert of_numpy == of_c
    of_numpy, of_c = both_say(models.random_model(seed, pad_right=0, right=0))
    assert of_numpy == of_c > (0, 0)


def graph_of(build, shape=None):
    """Packs the ops that ``build`` appends."""
    shape = shape or Shape(n_steps=12, n_channels=8, n_outputs=8, hop=3, int16=False)
    b = Builder(shape, np.random.default_rng(1))
    build(b)
    return pack(models._graph(shape, b))


def conv(b, source, kernel, stride, pad_left, pad_right=0, n=8, clamp=FULL):
    """Appends a convolution of any source and size."""
    kept = b.shape
    b.shape = dataclasses.replace(kept, kernel=kernel, stride=stride, pad_left=pad_left, pad_right=pad_right)
    b.shape = dataclasses.replace(b.shape, n_channels=b.tensors[source].shape[-1])
    try:
        return b.conv1d(source, n, clamp)
    finally:
        b.shape = kept


def two_branches(kernel, stride, pad_left):
    """A sum of the input and a convolution of it."""
    return lambda b: b.mean_pool(b.add(0, conv(b, 0, kernel, stride, pad_left)))


def two_pools(b):
    b.add(b.mean_pool(conv(b, 0, 3, 2, 2)), b.mean_pool(conv(b, 0, 5, 3, 0)))


def no_pool(b):
    conv(b, conv(b, 0, 3, 2, 2), 6, 1, 0)


def attention_of_one_token(b):
    x = conv(b, 0, 12, 5, 0)
    b.shape = dataclasses.replace(b.shape, heads=1, head_size=8)
    b.attention(x)


def behind_a_pool(b):
    x = b.mean_pool(conv(b, 0, 2, 1, 1))
    b.shape = dataclasses.replace(b.shape, heads=1, head_size=8, right=0, norm="layer")
    x = b.add(x, b.attention(b.norm(x)))
    b.mean_pool(b.activation(conv(b, x, 3, 2, 2)))


STREAMS = {
    "equal branches": two_branches(3, 1, 2),
    "two pools": two_pools,
    "no pool": no_pool,
    "one token": attention_of_one_token,
    "ops behind a pool": behind_a_pool,
    "a stride above the kernel": lambda b: b.mean_pool(conv(b, conv(b, 0, 1, 3, 0), 2, 1, 1)),
}


@pytest.mark.parametrize("name", STREAMS)
@pytest.mark.parametrize("hop", [1, 3, 5])
def test_graphs_of_any_form_stream(name, hop):
    data = graph_of(STREAMS[name])
    x = models.recording_for(data, 150, 1)
    expected = reference.Reference(data).run_recording(x, hop)
    np.testing.assert_array_equal(runtime.CModel(data).run_recording(x, hop), expected)
    for n_samples, outputs in zip(range(12, 151, hop), expected, strict=False):
        np.testing.assert_array_equal(outputs, outputs_at(data, x, n_samples))
    assert len(np.unique(expected, axis=0)) > 3
    of_numpy, of_c = both_say(data)
    assert of_numpy == of_c


NOT_CAUSAL = {
    "padding behind the last token": lambda b: b.mean_pool(conv(b, 0, 3, 1, 1, 1)),
    "later tokens seen": lambda b: b.mean_pool(b.attention(conv(b, 0, 2, 1, 1))),
    "another stride": lambda b: b.add(conv(b, 0, 12, 1, 0), conv(b, 0, 10, 4, 0)),
    "another delay": lambda b: b.mean_pool(b.add(conv(b, 0, 3, 4, 0), conv(b, 0, 3, 4, 1))),
    "pooled and not": lambda b: b.add(b.mean_pool(0), conv(b, 0, 12, 1, 0)),
    "not and pooled": lambda b: b.add(conv(b, 0, 12, 1, 0), b.mean_pool(0)),
}


@pytest.mark.parametrize("name", NOT_CAUSAL)
def test_what_sees_the_future_is_refused(name):
    data = graph_of(NOT_CAUSAL[name])
    assert both_say(data) == [(STREAM, 0), (STREAM, 0)]
    with pytest.raises(ModelError, match=r"cannot run as a stream \(STREAM\).*model\.causal = true"):
        reference.Reference(data).run_recording(models.recording_for(data, 50), 1)


def test_a_token_a_week_is_refused():
    def build(b):
        x = 0
        for _ in range(3):
            x = conv(b, x, 1, 255, 0)

    assert both_say(graph_of(build)) == [(STREAM, 0), (STREAM, 0)]


def test_any_layout_of_samples_is_read_right_and_other_types_are_refused():
    data, x = causal_model()
    s = runtime.CStream(runtime.CModel(data), 5)
    for part in (x[::-1][:24], x[:48:2], np.asfortranarray(x[:24])):
        s.reset()
        assert s.push(part) == 1
        got = s.output.copy()
        s.reset()
        s.push(part.copy(order="C"))
        np.testing.assert_array_equal(got, s.output)
    with pytest.raises(ModelError, match="INPUT"):
        s.push(x[:24].astype(float))


@pytest.mark.parametrize("hop", [0, -1, 1 << 32, 2.5])
def test_hop_is_checked_on_the_host(hop):
    data, x = causal_model()
    for model in (runtime.CModel(data), reference.Reference(data)):
        with pytest.raises(DataError, match=r"hop: got .*expected 1 or more samples"):
            model.run_recording(x, hop)
