"""One op a call, the tables of the REPL, and estimates. Runs unchanged on every Python."""

import sys
from array import array

from case import LOCKED, attn8, path, python_model, raises, read, repl

N_WINDOWS = 8


def load(name="int16"):
    return attn8.load(path(name + ".a8"))


def windows(name="int16"):
    x = read(name + ".x")
    n = len(x) // N_WINDOWS
    return [x[i : i + n] for i in range(0, len(x), n)]


def test_steps_give_the_outputs_of_a_run():
    for name in ("int16", "int8"):
        m, other = load(name), load(name)
        for window in windows(name):
            m.start(window)
            n = 1
            while m.step():
                n += 1
            assert n == len(m.ops())
            assert m.output == other.run(window)
            assert m.predict() == other.predict(window)


def test_step_without_a_start_is_refused():
    m = load()
    assert "call start again" in str(raises(RuntimeError, m.step))
    m.start(windows()[0])
    while m.step():
        pass
    raises(RuntimeError, m.step)


def test_what_comes_between_steps_ends_them():
    m = load("stream_a")
    x = read("stream_a.x")
    window, sample = x[: 2 * m.n_steps * m.n_channels], x[: 2 * m.n_channels]
    stream = m.stream()
    for between in (lambda: m.run(window), m.selftest, lambda: stream.push(sample)):
        m.start(window)
        m.step()
        between()
        assert "call start again" in str(raises(RuntimeError, m.step))


def test_start_again_begins_anew():
    m = load()
    first, second = windows()[:2]
    y = array("b", m.run(second))
    m.start(first)
    m.step()
    m.start(second)
    while m.step():
        pass
    assert m.output == y


def test_start_refuses_what_run_does_and_ends_the_steps():
    m = load()
    window = windows()[0]
    m.start(window)
    assert raises(attn8.ModelError, m.start, window[:-1]).code == 34
    raises(RuntimeError, m.step)


def test_steps_refuse_a_buffer_that_changed_its_length():
    data = bytearray(read("int16.a8"))
    m = attn8.load(data)
    m.start(windows()[0])
    try:
        data.extend(bytes(16))
    except LOCKED:
        return
    assert raises(attn8.ModelError, m.step).code == 31


def test_step_inside_a_run_is_refused():
    m = python_model("int16.a8")
    kernel, read_tensors, written, layer = m._steps[0]
    errors = []

    def reenter(sources, target, numbers):
        errors.append(raises(RuntimeError, m.step))
        kernel(sources, target, numbers)

    m._steps[0] = (reenter, read_tensors, written, layer)
    m.run(windows()[0])
    assert str(errors[0]) == "run was called inside a run of the same model; load the model twice"


def test_output_is_that_of_the_last_run():
    m = load()
    x, z = windows()[:2]
    assert m.run(x) is m.output
    y = array("b", m.output)
    m.run(z, bytearray(m.n_outputs))
    assert m.output == y
    assert m.predict() == m.decide(y)


def test_decide_takes_signed_and_unsigned_bytes():
    m = load()
    for outputs in ((-128, 127, 0), (-3, -2, -1), (5, 5, -128)):
        signed = array("b", outputs)
        as_bytes = bytes([v & 255 for v in outputs])
        decisions = [m.decide(y) for y in (signed, memoryview(signed), as_bytes, bytearray(as_bytes))]
        assert decisions == [decisions[0]] * 4
        assert decisions[0][0] == f"class {outputs.index(max(outputs))}"


def test_decide_refuses_another_number_of_outputs():
    e = raises(attn8.ModelError, load().decide, bytes(2))
    assert e.code == 35 and "expected 3" in str(e)


def test_profile_times_every_op():
    m = load()
    rows = m.profile(windows()[0])
    assert [row[:2] for row in rows] == [(0, "input")] + [op[:2] for op in m.ops()]
    assert min([row[2] for row in rows]) >= 0
    assert m.output == load().run(windows()[0])


def test_tables_are_aligned_columns():
    rows = [(1, "conv1d_s8", (24, 3), 1152), (10, "add_s8", (1, 8), 0)]
    assert repr(repl.Table(rows)) == " 1  conv1d_s8  (24, 3)  1152\n10  add_s8     (1, 8)      0"
    assert repr(repl.Table([])) == "[]"
    for table in (load().ops(), load().profile(windows()[0])):
        assert isinstance(table, list)
        assert len(repr(table).split("\n")) == len(table)
        assert str(table) == repr(table)


class Board:
    """What ``machine`` is on a board, as far as it tells its clock."""

    def __init__(self, clock_hz):
        self.freq = lambda: clock_hz


def on_board(function, clock_hz, processor=4):
    """Calls the function as on a board whose machine.freq() returns clock_hz, by default with a Cortex-M0+."""
    real, repl._processor = repl._processor, processor
    missing = "machine" not in sys.modules
    before = sys.modules.get("machine")
    sys.modules["machine"] = Board(clock_hz)
    try:
        return function()
    finally:
        repl._processor = real
        if missing:
            del sys.modules["machine"]
        else:
            sys.modules["machine"] = before


def test_window_ms_is_told_on_a_cortex_m0plus_only():
    for m in (load(), python_model("int16.a8")):
        m.kernels = "viper"
        assert on_board(lambda m=m: m.window_ms, 125_000_000) > 0
        for processor in (0, 2, 5, 7, 8, 11):
            assert on_board(lambda m=m: m.window_ms, 125_000_000, processor) is None
            assert "~" not in on_board(lambda m=m: repr(m), 125_000_000, processor)


def test_window_ms_is_cycles_through_the_clock():
    m = python_model("int16.a8")
    for kernels, cycles in repl.CYCLES_PER_MAC.items():
        m.kernels = kernels
        for clock_hz in (125_000_000, (125_000_000, 48_000_000)):
            ms = on_board(lambda: m.window_ms, clock_hz)
            assert abs(ms - m.macs * cycles / 125000) < 1e-3 * ms
            assert repr(m).endswith(kernels) or "~" in repr(m)
    m.kernels = "native unheard-of"
    assert on_board(lambda: m.window_ms, 1_000_000) is None


def test_repr_tells_the_estimate_where_there_is_one():
    m = python_model("int16.a8")
    m.kernels = "viper"
    m.macs = 1_000_000 // repl.CYCLES_PER_MAC["viper"]
    assert on_board(lambda: repr(m), 100_000_000).endswith(" kB, viper, ~10 ms")
    assert on_board(lambda: repr(m), 1_000_000_000).endswith(" kB, viper, ~1.0 ms")
    m.kernels = "native unheard-of"
    assert on_board(lambda: repr(m), 100_000_000).endswith(", native unheard-of")
