"""Streams of causal models, on every back end. Runs unchanged on every Python."""

from array import array

from case import LOCKED, attn8, path, python_model, raises, read

NAMES = ("stream_a", "stream_b", "stream_c", "stream_d")
INT16 = NAMES[0]


def load(name=INT16):
    return attn8.load(path(name + ".a8"))


def sample_bytes(m):
    return m.n_channels * (2 if m.input_type == "int16" else 1)


def samples(m, name=INT16, n_samples=None, block=1):
    """Yields the first samples of a recording as bytes, so many at a time."""
    x, n = recording(m, name, n_samples), sample_bytes(m) * block
    for i in range(0, len(x), n):
        yield x[i : i + n]


def recording(m, name=INT16, n_samples=None):
    """Returns the first samples of a recording as bytes."""
    return read(name + ".x")[: n_samples and n_samples * sample_bytes(m)]


def expected(m, name=INT16, n_samples=None):
    """Returns the outputs that the reference gives for the recording, or that become due in its first samples."""
    y = array("b", read(name + ".y"))
    if n_samples:
        y = y[: m.n_outputs * ((n_samples - m.n_steps) // m.hop + 1)]
    return [y[i : i + m.n_outputs] for i in range(0, len(y), m.n_outputs)]


def outputs(stream, blocks):
    """Returns the output after each push that completed a hop."""
    return [array("b", stream.output) for block in blocks if stream.push(block)]


def test_outputs_are_those_of_the_whole_recording_at_every_hop():
    for name in NAMES:
        m = load(name)
        assert outputs(m.stream(), samples(m, name)) == expected(m, name)


def test_first_output_is_that_of_the_first_window():
    for name in NAMES:
        m = load(name)
        stream = m.stream()
        assert [stream.push(x) for x in samples(m, name, m.n_steps)] == [0] * (m.n_steps - 1) + [1]
        assert stream.output == m.run(recording(m, name, m.n_steps))


def test_hop_may_be_another_than_in_training():
    m = load("stream_b")
    y = expected(m, "stream_b", 80)  # of hop 1
    for hop in (3, 40):
        stream = m.stream(hop)
        assert stream.hop == hop
        assert outputs(stream, samples(m, "stream_b", 80)) == y[::hop]
    assert m.stream().hop == m.hop == 1


def test_blocks_up_to_a_hop_miss_no_output():
    for name in NAMES:
        m = load(name)
        for n in (2, m.hop):
            if n <= m.hop:
                assert outputs(m.stream(), samples(m, name, 63, n)) == expected(m, name, 63)


def test_longer_blocks_count_their_outputs_and_keep_the_last():
    m = load()
    y = expected(m, INT16, 60)
    stream = m.stream()
    assert stream.push(recording(m, INT16, 60)) == len(y) > 1
    assert stream.output == y[-1]


def test_samples_of_every_type_give_the_same():
    for name, code in ((INT16, "h"), ("stream_b", "b")):
        m = load(name)
        n = m.n_steps + 2 * m.hop
        y = expected(m, name, n)

        def numbers(sample, code=code):
            return array(code, sample)

        kinds = (bytes, bytearray, memoryview, numbers, lambda s: memoryview(numbers(s)))
        for kind in kinds + (lambda s: tuple(numbers(s)), lambda s: list(numbers(s))):  # noqa: RUF005
            assert outputs(m.stream(), [kind(sample) for sample in samples(m, name, n)]) == y
        for kind in kinds:
            blocks = [kind(block) for block in samples(m, name, n, 1 if m.hop == 1 else m.hop - 1)]
            assert outputs(m.stream(), blocks) == y


def test_array_of_bytes_is_taken_as_the_bytes_of_samples():
    for name in NAMES:
        m = load(name)
        y = expected(m, name, m.n_steps)
        for code in ("b", "B"):
            assert outputs(m.stream(), [array(code, x) for x in samples(m, name, m.n_steps)]) == y
            blocks = [array(code, recording(m, name, m.n_steps))]
            assert outputs(m.stream(), blocks + [memoryview(blocks[0])])[:1] == y  # noqa: RUF005


def test_arrays_of_another_size_than_the_samples_are_refused():
    for name in (INT16, "stream_b"):
        m = load(name)
        stream, n = m.stream(), 2 * m.n_channels
        for code in ("i", "l", "q", "f") + (() if name == INT16 else ("h",)):
            for k in (m.n_channels, n):
                assert raises(attn8.ModelError, stream.push, array(code, [0] * k)).code == 34
                assert raises(attn8.ModelError, stream.push, memoryview(array(code, [0] * k))).code == 34
        if name == INT16:
            for code in ("b", "B"):  # half a sample, and one and a half
                for k in (m.n_channels, 3 * m.n_channels):
                    assert raises(attn8.ModelError, stream.push, array(code, [0] * k)).code == 34


def test_reset_begins_a_new_recording():
    for name in NAMES:
        m = load(name)
        stream = m.stream()
        for n in (3 * m.n_steps + 1, 5):
            outputs(stream, samples(m, name, n))
            stream.reset()
            assert stream.predict() == (None, 0)
        assert outputs(stream, samples(m, name, m.n_steps + m.hop)) == expected(m, name)[:2]


def test_streams_and_runs_of_one_model_do_not_disturb_each_other():
    for name in NAMES:
        m = load(name)
        n = m.n_steps + 3 * m.hop
        x, y = list(samples(m, name, n)), expected(m, name)
        first, second = m.stream(), m.stream()
        window = read(name + ".x")[-m.n_steps * sample_bytes(m) :]
        of_window = array("b", m.run(window))
        got = []
        for i in range(n):
            second.push(x[-1 - i])
            if first.push(x[i]):
                got.append(array("b", first.output))
            if i % 7 == 0:
                assert m.run(window) == of_window
        assert got == y[:4]


def test_push_may_run_from_schedule():
    try:
        from micropython import schedule
    except ImportError:  # CPython and small builds: the callback runs at once
        schedule = None
    m = load()
    stream, found, left = m.stream(), [], list(samples(m))

    def push(sample):
        if stream.push(sample):
            found.append(array("b", stream.output))
        left.pop(0)

    for n in range(len(left), 0, -1):
        (schedule or (lambda call, sample: call(sample)))(push, left[0])
        while len(left) == n:  # the interpreter calls back between two turns
            pass
    assert found == expected(m)


def test_predict_decides_on_the_last_output():
    m = load()
    stream = m.stream()
    assert stream.predict() == (None, 0)
    assert stream.model is m
    decisions = [stream.predict() for x in samples(m, INT16, 60) if stream.push(x)]
    assert decisions == [m.decide(y) for y in expected(m, INT16, 60)]
    assert stream.predict() == decisions[-1]


def test_wrong_samples_are_refused_and_change_nothing():
    for name in (INT16, "stream_b"):
        m = load(name)
        x, y = list(samples(m, name, m.n_steps)), expected(m, name)
        stream = m.stream()
        numbers = tuple(array("h" if name == INT16 else "b", x[0]))
        limit = 32767 if name == INT16 else 127
        wrong = [b"", x[0][:-1], x[0] + b"\x00", numbers[:-1], numbers + (0,), (), None, 7]  # noqa: RUF005
        wrong += [(limit + 1,) + numbers[1:], numbers[:-1] + (-limit - 2,), (0.5,) + numbers[1:]]  # noqa: RUF005
        wrong += [array("f", numbers), memoryview(array("f", numbers)), memoryview(array("i", numbers))]
        if name != INT16:
            wrong.append(memoryview(array("h", numbers)))
        for i in range(m.n_steps):
            for sample in wrong:
                assert raises(attn8.ModelError, stream.push, sample).code == 34
            assert stream.push(x[i]) == (i == m.n_steps - 1)
        assert stream.output == y[0]


def test_refusals_say_what_a_sample_is():
    m = load()
    stream = m.stream()
    assert "expected k*3 int16; " in str(raises(attn8.ModelError, stream.push, bytes(5)))
    assert "got 2 numbers, expected 3; " in str(raises(attn8.ModelError, stream.push, (1, 2)))
    assert "got 32768, expected -32768..32767; " in str(raises(attn8.ModelError, stream.push, (1, 2, 32768)))
    assert "stream(units=True) takes floats" in str(raises(attn8.ModelError, stream.push, (1, 2, 0.5)))


def test_run_and_push_say_the_same_of_what_is_no_buffer():
    m = load()
    for call in (m.run, m.stream().push):
        text = str(raises(attn8.ModelError, call, 7))
        assert f"got no contiguous buffer but {int}, expected " in text


def test_units_become_counts():
    m = load()  # 8192 counts a g
    stream = m.stream(units=True)
    y = []
    for sample in samples(m, INT16, 60):
        if stream.push([v / 8192 for v in array("h", sample)]):
            y.append(array("b", stream.output))
    assert y == expected(m, INT16, 60)


def test_units_are_rounded_and_saturate():
    m = load()
    counts, units = m.stream(hop=1), m.stream(hop=1, units=True)
    for _ in range(m.n_steps):
        counts.push((32767, -32768, 8194))
        units.push((4.5, -1e30, 1.0002))  # 36864, ..., 8193.6
    assert list(units._sample) == list(counts._sample) == [32767, -32768, 8194]
    assert units.output == counts.output
    units.push((-1.0002, 0, 1.0001))  # -8193.6, 0, 8192.8
    assert list(units._sample) == [-8194, 0, 8193]
    assert raises(attn8.ModelError, units.push, (float("nan"), 0.0, 0.0)).code == 34
    assert raises(attn8.ModelError, units.push, (0.0, 0.0)).code == 34


def test_units_refuse_what_is_no_sequence_of_numbers():
    m = load()
    units = m.stream(hop=1, units=True)
    for sample in (3, None, ("a",) * 3, [None] * 3, ((1,),) * 3, "abc", {1, 2, 3}):
        e = raises(attn8.ModelError, units.push, sample)
        assert e.code == 34 and "numbers; " in str(e)
    assert [units.push((0, 0, 0)) for _ in range(m.n_steps)] == [0] * (m.n_steps - 1) + [1]


def test_units_need_a_scale_in_the_file():
    m = attn8.load(path("no_scale.a8"))
    e = raises(ValueError, lambda: m.stream(units=True))
    assert str(e) == "stream: channel 'c1' has no counts_per_unit in the file; push counts, without units"


def test_model_that_sees_what_is_to_come_cannot_stream():
    m = attn8.load(path("int16.a8"))
    e = raises(attn8.ModelError, m.stream)
    assert e.code == 37
    assert "the model cannot run as a stream (STREAM)" in str(e)
    assert str(e).endswith("train it with model.causal = true")


def test_python_tells_which_op_sees_what_is_to_come():
    e = raises(attn8.ModelError, python_model("int16.a8").stream)
    assert str(e).startswith("op 1, conv1d_s8: ") and "got 1 tokens of padding behind the last, expected 0" in str(e)
    e = raises(attn8.ModelError, python_model("looks_ahead.a8").stream)
    assert str(e).startswith("op 7, windowed_attention_s8: ")
    assert "got 5 later tokens that each token sees, expected 0" in str(e)


def test_repr_tells_model_and_hop():
    assert repr(load().stream(12)) == "Stream of 'random', hop 12"


def test_hop_is_a_positive_number():
    m = load()
    for hop in (0, -1, 2.5, "7"):
        assert "expected 1 or more samples" in str(raises(ValueError, m.stream, hop))


def test_push_inside_a_run_is_refused():
    m = python_model(INT16 + ".a8")
    x = bytes(sample_bytes(m))
    stream = m.stream()
    kernel, read_tensors, written, layer = m._steps[0]
    errors = []

    def reenter(sources, target, numbers):
        errors.append(raises(RuntimeError, stream.push, x))
        errors.append(raises(RuntimeError, stream.reset))
        kernel(sources, target, numbers)

    m._steps[0] = (reenter, read_tensors, written, layer)
    m.run(recording(m, INT16, m.n_steps))
    assert [str(e) for e in errors] == 2 * ["run was called inside a run of the same model; load the model twice"]
    assert outputs(stream, samples(m, INT16, 40)) == expected(m, INT16, 40)


def test_output_that_was_replaced_is_refused():
    for m in (load(), python_model(INT16 + ".a8")):
        stream = m.stream()
        x = recording(m, INT16, m.n_steps)
        stream.output = bytearray(m.n_outputs + 1)
        assert raises(attn8.ModelError, stream.push, x).code == 35
        stream.output = bytes(m.n_outputs)
        raises(TypeError, stream.push, x)
        stream.output = array("b", bytes(m.n_outputs))
        stream.reset()
        assert stream.push(x) == 1


def test_interrupted_push_leaves_a_stream_that_goes_on():
    m = python_model(INT16 + ".a8")
    stream = m.stream()
    conv = next(keeper for _, _, keeper, _ in stream._state._token_ops if keeper)
    layer, n_stopped = conv._layer, 0
    for i, x in enumerate(samples(m, INT16, 60)):
        conv._layer = None if i % 3 == 0 else layer  # an exception stands for Ctrl-C
        try:
            stream.push(x)
        except TypeError:
            n_stopped += 1
        assert conv._n < conv._kernel
    assert n_stopped > 5
    conv._layer = layer
    stream.reset()
    assert outputs(stream, samples(m, INT16, 40)) == expected(m, INT16, 40)


def test_buffer_that_changed_its_length_is_refused():
    data = bytearray(read(INT16 + ".a8"))
    m = attn8.load(data)
    stream, x = m.stream(), bytes(sample_bytes(m))
    stream.push(x)
    try:
        data.extend(bytes(16))
    except LOCKED:
        return
    assert raises(attn8.ModelError, stream.push, x).code == 31


def test_packed_streams_give_the_same_outputs():
    for name in NAMES:
        m = load(name)
        stream = m.stream(packed=True)
        for _ in range(2):
            assert outputs(stream, samples(m, name)) == expected(m, name)
            stream.reset()
