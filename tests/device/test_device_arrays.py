"""Windows, samples and outputs in arrays of every kind; those of ulab where the firmware has it."""

import sys
from array import array

from case import attn8, path, raises, read

try:
    from attn8.device import samples
except ImportError:
    import attn8.samples as samples

try:
    from ulab import numpy
except ImportError:
    numpy = None

N_WINDOWS = 8


def window_and_output(name):
    """Returns the first window of a test file as bytes, and the reference's output as int8."""
    x, y = read(name + ".x"), array("b", read(name + ".y"))
    return x[: len(x) // N_WINDOWS], y[: len(y) // N_WINDOWS]


def refusal(call, argument):
    """Returns the sentence by which an input is refused."""
    e = raises(attn8.ModelError, call, argument)
    assert e.code == 34
    return str(e)


def test_outputs_are_the_same_bytes_in_every_buffer():
    for name in ("int16", "int8"):
        m = attn8.load(path(name + ".a8"))
        x, y = window_and_output(name)
        whole = bytearray(m.n_outputs + 2)
        middle = memoryview(whole)[1 : m.n_outputs + 1]
        for out in (array("b", [85] * m.n_outputs), array("B", [85] * m.n_outputs), bytearray(m.n_outputs), middle):
            assert m.run(x, out) is out
            assert bytes(out) == bytes(y)
        assert (whole[0], whole[-1]) == (0, 0)


def test_what_an_array_holds_is_found_out_by_slices_as_well():
    """As on CircuitPython, which refuses numbers that do not fit."""
    if sys.implementation.name == "cpython":  # its arrays take slices of their own kind only
        return
    kept = samples._IS_CIRCUITPYTHON
    samples._IS_CIRCUITPYTHON = True
    try:
        for old in (array("h", [7, 7]), memoryview(array("h", [7, 7])), bytearray(4), memoryview(bytearray(4))):
            samples.be16(b"\xff\xfe\x01\x02", old)
            assert bytes(old) == b"\xfe\xff\x02\x01"
        for old in (array("b", [7] * 4), array("B", [7] * 4)):
            samples.be16(b"\xff\xfe\x01\x02", old)
            assert bytes(old) == b"\xfe\xff\x02\x01"
        for code in "HiIqQf":
            old = array(code, [7, 7])
            raises(TypeError, samples.be16, b"1234", old)
            assert list(old) == [7, 7]
        raises(TypeError, samples.be16, b"1234", memoryview(b"1234"))
    finally:
        samples._IS_CIRCUITPYTHON = kept


def ulab_window_gives_what_its_bytes_give():
    m = attn8.load(path("int16.a8"))
    x, y = window_and_output("int16")
    flat = numpy.array(array("h", x), dtype=numpy.int16)
    assert m.run(flat) == y
    assert m.run(flat.reshape((m.n_steps, m.n_channels))) == y
    assert m.run(numpy.array(array("B", x), dtype=numpy.uint8)) == y
    assert m.predict(flat) == m.predict(x)
    twice = numpy.concatenate((flat, flat))
    assert m.run(twice[len(flat) :]) == y
    m.start(flat)
    while m.step():
        pass
    assert m.output == y


def ulab_window_of_bytes_runs_an_int8_model():
    m = attn8.load(path("int8.a8"))
    x, y = window_and_output("int8")
    for dtype, code in ((numpy.int8, "b"), (numpy.uint8, "B")):
        assert m.run(numpy.array(array(code, x), dtype=dtype)) == y


def ulab_array_of_other_numbers_is_refused():
    m = attn8.load(path("stream_a.a8"))
    n = m.n_steps * m.n_channels
    for call, size in ((m.run, n), (m.predict, n), (m.start, n), (m.stream().push, m.n_channels)):
        for dtype in (numpy.uint16, numpy.float):
            assert "expected " in refusal(call, numpy.zeros(size, dtype=dtype))
        assert f"got {size + 1} values, expected " in refusal(call, numpy.zeros(size + 1, dtype=numpy.int16))


def ulab_array_with_gaps_is_refused():
    m = attn8.load(path("stream_a.a8"))
    wide = numpy.zeros((m.n_steps, 2 * m.n_channels), dtype=numpy.int16)
    for call, array_ in ((m.run, wide[:, ::2]), (m.run, wide[:, : m.n_channels]), (m.stream().push, wide[0][::2])):
        assert "got no contiguous buffer but " in refusal(call, array_)


def ulab_samples_make_the_stream_of_their_bytes():
    m = attn8.load(path("stream_a.a8"))
    x = array("h", read("stream_a.x"))
    expected, found = [], []
    stream, other = m.stream(), m.stream()
    n, c = len(x) // m.n_channels, m.n_channels
    block = numpy.array(x, dtype=numpy.int16).reshape((n, c))
    for i in range(n):
        if stream.push(x[i * c : i * c + c]):
            expected.append(bytes(stream.output))
        if other.push(block[i]):
            found.append(bytes(other.output))
    assert found == expected and expected
    other.reset()
    assert other.push(block[: m.n_steps]) == 1
    assert bytes(other.output) == expected[0]


def ulab_floats_and_tuples_of_floats_are_units():
    m = attn8.load(path("stream_a.a8"))
    x = array("h", read("stream_a.x"))
    streams = m.stream(), m.stream(units=True), m.stream(units=True)
    c = m.n_channels
    for i in range(m.n_steps):
        counts = x[i * c : i * c + c]
        units = [v / scale for v, scale in zip(counts, m.counts_per_unit)]  # noqa: B905 (MicroPython's zip)
        for stream, sample in zip(streams, (counts, tuple(units), numpy.array(units))):  # noqa: B905
            stream.push(sample)
    assert [bytes(s.output) for s in streams] == [bytes(streams[0].output)] * 3
    assert streams[0].predict()[0] is not None or streams[0].predict()[1] > 0


def ulab_array_takes_outputs():
    m = attn8.load(path("int16.a8"))
    x, y = window_and_output("int16")
    out = numpy.zeros(m.n_outputs, dtype=numpy.int8)
    m.run(x, out)
    assert bytes(out) == bytes(y)
    assert m.decide(out) == m.decide(y)


if numpy:
    test_ulab_window_gives_what_its_bytes_give = ulab_window_gives_what_its_bytes_give
    test_ulab_window_of_bytes_runs_an_int8_model = ulab_window_of_bytes_runs_an_int8_model
    test_ulab_array_of_other_numbers_is_refused = ulab_array_of_other_numbers_is_refused
    test_ulab_array_with_gaps_is_refused = ulab_array_with_gaps_is_refused
    test_ulab_samples_make_the_stream_of_their_bytes = ulab_samples_make_the_stream_of_their_bytes
    test_ulab_floats_and_tuples_of_floats_are_units = ulab_floats_and_tuples_of_floats_are_units
    test_ulab_array_takes_outputs = ulab_array_takes_outputs
