"""load, run, predict, selftest, ops and attributes. Runs unchanged on every Python."""

import sys
from array import array

from case import LOCKED, attn8, path, python_model, raises, read

N_WINDOWS = 8


def windows(name):
    """Returns the windows of a test file as bytes, and the outputs of the reference as int8."""
    x, y = read(name + ".x"), array("b", read(name + ".y"))
    n, m = len(x) // N_WINDOWS, len(y) // N_WINDOWS
    return [(x[i * n : i * n + n], y[i * m : i * m + m]) for i in range(N_WINDOWS)]


def check_outputs(m, name):
    for x, y in windows(name):
        assert m.run(x) == y


def signed(data):
    return array("b", data)


def test_outputs_are_those_of_the_reference_from_every_kind_of_source():
    for name in ("int16", "int8"):
        data = read(name + ".a8")
        for source in (
            path(name + ".a8"),
            data,
            bytearray(data),
            memoryview(data),
            signed(data),
            memoryview(signed(data)),
        ):
            check_outputs(attn8.load(source), name)


def test_model_may_begin_at_any_byte():
    data = read("int16.a8")
    for n in range(1, 4):
        check_outputs(attn8.load(memoryview(bytes(n) + data)[n:]), "int16")


def test_windows_of_every_type_give_the_same():
    m = attn8.load(path("int16.a8"))
    for x, y in windows("int16"):
        for window in (x, bytearray(x), memoryview(x), array("h", x), memoryview(array("h", x)), array("B", x)):
            assert m.run(window) == y
    m = attn8.load(path("int8.a8"))
    for x, y in windows("int8"):
        for window in (x, bytearray(x), memoryview(x), array("b", x), memoryview(array("B", x))):
            assert m.run(window) == y


def test_run_writes_into_out_and_returns_it():
    m = attn8.load(path("int8.a8"))
    for x, y in windows("int8"):
        for out in (array("b", bytes(5)), bytearray(5), array("B", bytes(5)), memoryview(bytearray(5))):
            assert m.run(x, out) is out
            assert bytes(out) == bytes(y)


def test_own_output_is_overwritten_by_the_next_run():
    m = attn8.load(path("int16.a8"))
    (x0, y0), (x1, y1) = windows("int16")[:2]
    first = m.run(x0)
    assert first == y0
    assert m.run(x1) is first
    assert first == y1


def test_wrong_windows_are_refused():
    m = attn8.load(path("int16.a8"))
    x = windows("int16")[0][0]
    for window in (
        b"",
        x[:-1],
        x[:-2],
        bytes(x) + b"\x00\x00",
        array("h", x)[:-1],
        x[: len(x) // 2],
        [0] * (len(x) // 2),
        None,
    ):
        e = raises(attn8.ModelError, m.run, window)
        assert e.code == 34 and "expected 24*3 int16; give run T*C values, time first" in str(e)
    for code in ("f", "i", "l", "q", "b", "B"):  # of bytes it is half a window
        numbers = array(code, [0] * (len(x) // 2))
        assert raises(attn8.ModelError, m.run, numbers).code == 34
        assert raises(attn8.ModelError, m.run, memoryview(numbers)).code == 34
    assert m.run(x) == windows("int16")[0][1]  # and a refusal leaves the model as it was
    m = attn8.load(path("int8.a8"))
    x = windows("int8")[0][0]
    for window in (x[:-1], bytes(x) + b"\x00", bytes(x) + bytes(x), array("h", list(x)), array("i", list(x))):
        assert raises(attn8.ModelError, m.run, window).code == 34


def test_wrong_output_buffers_are_refused():
    m = attn8.load(path("int16.a8"))
    x = windows("int16")[0][0]
    for out in (bytearray(2), bytearray(4), bytearray(0)):
        e = raises(attn8.ModelError, m.run, x, out)
        assert e.code == 35 and f"got {len(out)} bytes, expected 3; give n_outputs bytes" in str(e)
    raises(TypeError, m.run, x, bytes(3))


def test_run_inside_a_run_is_refused():
    m = python_model("int16.a8")
    x, y = windows("int16")[0]
    kernel, read_tensors, written, layer = m._steps[0]
    errors = []

    def reenter(sources, target, numbers):
        errors.append(raises(RuntimeError, m.run, x))
        kernel(sources, target, numbers)

    m._steps[0] = (reenter, read_tensors, written, layer)
    assert m.run(x) == y
    assert [str(e) for e in errors] == ["run was called inside a run of the same model; load the model twice"]
    assert attn8.load(path("int16.a8")).run(x) == y


def test_buffer_that_changed_its_length_is_refused():
    data = bytearray(read("int16.a8"))
    m = attn8.load(data)
    x, y = windows("int16")[0]
    assert m.run(x) == y
    try:
        data.extend(bytes(16))
    except LOCKED:
        assert m.run(x) == y
        return
    assert raises(attn8.ModelError, m.run, x).code == 31


def test_buffer_that_changed_its_contents_gives_numbers_and_no_error():
    x, y = windows("int16")[0]
    for value in (0, 127, 128, 255):
        for kind in (bytearray, signed):
            data = kind(read("int16.a8"))
            m = attn8.load(data)
            for i in range(len(data)):
                data[i] = value - 256 if kind is signed and value > 127 else value
            assert len(m.run(x)) == len(y)
            m.predict(x)


def test_load_tells_what_it_takes():
    raises(TypeError, attn8.load, 7)
    raises(TypeError, attn8.load, [1, 2, 3])
    raises(OSError, attn8.load, path("no such file"))
    assert raises(attn8.ModelError, attn8.load, b"").code == 1


def test_selftest_passes_on_the_file_and_fails_on_wrong_golden_outputs():
    for name in ("int16", "int8"):
        assert attn8.load(path(name + ".a8")).selftest() is True
    e = raises(attn8.ModelError, attn8.load(path("wrong_golden.a8")).selftest)
    assert e.code == 36
    assert str(e).startswith(
        "golden vector 0: the outputs differ from the golden vectors in the file (SELFTEST): got ["
    )


def test_predict_names_the_first_largest_output():
    m = attn8.load(path("int16.a8"))
    for x, y in windows("int16"):
        label, score = m.predict(x)
        assert label == f"class {list(y).index(max(y))}"
        assert 0 <= score <= 100


def test_score_follows_the_integer_rule():
    m = python_model("int16.a8")
    m._softmax = (1024, 16384, 0, 14)  # one step of the outputs is one step of EXP

    def score(*outputs):
        return m.decide(array("b", outputs))

    assert score(0, 0, 0) == ("class 0", 33)
    assert score(-128, 127, -128) == ("class 1", 100)
    assert score(0, 32, 32) == ("class 1", 42)  # e = 47, 127, 127: 12700/301 = 42.2
    assert score(60, 32, -128) == ("class 0", 71)  # 12700/180 = 70.6
    assert score(-128, -96, -128) == ("class 1", 57)  # 12700/221 = 57.5


def test_predict_below_the_threshold_names_no_class():
    loose, strict = attn8.load(path("int16.a8")), attn8.load(path("strict.a8"))
    seen = set()
    for x, _ in windows("int16"):
        (label, score), (strict_label, strict_score) = loose.predict(x), strict.predict(x)
        assert score == strict_score
        assert strict_label == (label if score == 100 else None)
        seen.add(strict_label is None)
    assert True in seen


def test_class_of_a_class_of_model_runs_and_one_never_made_does_not():
    """CircuitPython gives native methods the derived object, whose parents are more than one."""
    if attn8.backend != "native":
        return

    class Mine(attn8.Model):
        pass

    class Mine2(Mine):
        def run(self, window):
            return super().run(window)

    class Never(attn8.Model):
        def __init__(self):
            pass

    x, y = windows("int16")[0]
    for kind in (Mine, Mine2):
        assert kind(read("int16.a8"), None).run(x) == y
    raises((AttributeError, TypeError), lambda: Never().run(x))


def test_attributes_say_what_the_file_says():
    m = attn8.load(path("int16.a8"))
    assert (m.name, m.version, m.labels) == ("random", "1", ("class 0", "class 1", "class 2"))
    assert (m.n_steps, m.n_channels, m.input_shape, m.n_outputs, m.input_type) == (24, 3, (24, 3), 3, "int16")
    assert (m.channels, m.units, m.counts_per_unit) == (("c0", "c1", "c2"), ("g", "g", "g"), (8192.0, 8192.0, 8192.0))
    assert (m.sample_rate_hz, m.hop, m.n_golden) == (50.0, 24, 4)
    data = read("int16.a8")
    assert m.model_bytes == len(data)
    assert m.id == "".join([f"{b:02x}" for b in data[16:24]])
    assert attn8.load(path("int8.a8")).input_type == "int8"


def test_repr_tells_shape_and_sizes():
    m = attn8.load(path("int16.a8"))
    m.name, m.version, m.model_bytes, m.arena_bytes = "gesture", "3", 21914, 6246
    shown = "Model 'gesture' v3: 24x3 -> 3 classes, 21.4 kB, arena 6.1 kB, " + attn8.backend
    assert repr(m).startswith(shown)  # where the processor is that of an RP2040, the time of a window follows
    m.version = ""
    assert repr(m).startswith("Model 'gesture': 24x3")


def test_ops_list_shapes_and_work():
    m = attn8.load(path("int16.a8"))
    ops = m.ops()
    assert ops[0] == (1, "conv1d_s8", (24, 3), (12, 8), 12 * 8 * 12)
    assert ops[-1] == (len(ops), "linear_s8", (1, 8), (1, 3), 24)
    attention = [op for op in ops if op[1] == "windowed_attention_s8"]
    assert attention[0][2:] == ((12, 8), (12, 8), 2 * 8 * (12 * 11 - 15 - 15))
    assert m.macs == sum([op[4] for op in ops])
    ops.clear()
    assert m.ops()


def test_public_names_are_few_and_explained():
    assert len(attn8.__all__) <= 15
    assert attn8.backend in ("python", "viper", "native")
    assert len(attn8.__version__.split(".")) == 3
    explained = [line[0].split("(")[0] for line in help_module().lines()]
    for name in attn8.__all__:
        assert explained.count(name) == 1


def help_module():
    from sys import modules

    assert attn8.help
    return modules[attn8.__name__ + ".names"]


def explained_calls():
    """Returns what help shows in its first column, each call with all its arguments."""
    calls = []
    for left, right in help_module().lines():
        assert 5 < len(right) < 62
        if left.startswith(" "):
            calls[-1] += left
        elif left:
            calls.append(left)
    return calls


def test_help_prints_its_table():
    names, printed = help_module(), []
    names.print = printed.append
    try:
        assert attn8.help() is None
    finally:
        del names.print
    assert [repr(table) for table in printed] == [repr(names.lines())]
    assert repr(printed[0]).startswith("load(source)  ")


def test_help_tells_what_there_is_and_its_arguments():
    model = attn8.load(path("stream_a.a8"))
    owners = {"m": model, "s": model.stream()}
    signature = None
    if sys.implementation.name == "cpython":  # the inspect of MicroPython knows no methods
        from inspect import signature
    for call in explained_calls():
        name, _, arguments = call.partition("(")
        owner, _, attribute = name.rpartition(".")
        found = getattr(owners.get(owner, attn8), attribute)
        assert (callable(found) and attribute not in ("Model", "ModelError")) == bool(arguments)
        if arguments and signature:
            assert str(signature(found)) == "(" + arguments


def test_rare_names_are_imported_when_they_are_asked_for():
    from sys import modules

    package = attn8.__name__
    for name, module in (("Detector", "detector"), ("Sampler", "sampler"), ("be16", "samples"), ("i2s32", "samples")):
        assert getattr(attn8, name) is getattr(modules[f"{package}.{module}"], name)
        assert name in attn8.__all__ and name in dir(attn8)
    assert not hasattr(attn8, "no_such_name")
    e = raises(AttributeError, getattr, attn8, "Detectors")
    assert str(e) == "module 'attn8' has no attribute 'Detectors'"
