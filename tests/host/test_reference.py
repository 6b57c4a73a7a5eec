"""The checker: every error code by a hand-made fault, the order of the checks, random mutants, the corpus."""

import hashlib
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from attn8.device import ModelError
from hypothesis import given, settings
from hypothesis import strategies as st

import models
from attn8 import arithmetic, graph, pack, reference, spec
from attn8.errors import PackError

CODES = spec.ERROR_CODES
NAMES = {code: name for name, code in CODES.items()} | {0: "OK"}
CORPUS = Path(__file__).parents[1] / "corpus"
FORMATS = {"u8": "B", "u16": "H", "i16": "h", "i32": "i", "f32": "I"}
RANGES = {"u8": (0, 255), "u16": (0, 65535), "i16": (-32768, 32767), "i32": (-(1 << 31), (1 << 31) - 1)}

# One op of each kind, both paddings, names that leave padding behind them.
SHAPE = models.Shape(norm="layer", activation="gelu", n_channels=3, n_outputs=3, head_size=4, heads=2, ff=10)
GRAPH = models.build_graph(SHAPE, 1)
MODEL = pack.pack(GRAPH)
RECORDS = reference.parse(MODEL).records
INT8 = pack.pack(models.build_graph(models.Shape(int16=False), 2))


def fault(data):
    """The name of what check_model finds."""
    return NAMES[reference.check_model(bytes(data))]


def reseal(data, **header):
    """Repairs length, id and checksum; keyword arguments go into the header."""
    header = {"n_ops": int.from_bytes(data[6:8], "little"), **header}
    return pack.seal(bytes(data[spec.HEADER_BYTES :]), **header)


def payload(record, nth=0):
    """Where the nth record of this kind has its payload, and how long it is."""
    found = [(at, n) for r, at, n in RECORDS if r is record]
    return found[nth]


def patched(at, form, value, data=MODEL):
    """The model with one number replaced, sealed again."""
    data = bytearray(data)
    struct.pack_into("<" + form, data, at, value)
    return reseal(data)


def with_field(record, name, value, data=MODEL):
    form = {f.name: FORMATS[f.type] for f in record.fields}[name]
    return patched(payload(record)[0] + record.offsets()[name], form, value, data)


def with_payload(record, content, data=MODEL):
    """The model with another payload in the first record of a kind."""
    at, n = payload(record)
    head = data[: at - 4] + struct.pack("<I", len(content))
    return reseal(head + content + data[at + n :])


def record_bytes(code, content=b"", flags=0):
    return struct.pack("<HHI", code, flags, len(content)) + content


def behind(*records):
    """The model with more records behind GOLDEN."""
    return reseal(MODEL + b"".join(records))


def without(record):
    at, n = payload(record)
    return reseal(MODEL[: at - 8] + MODEL[at + n :])


def first_row(record):
    return payload(record)[0] + record.fixed_bytes


def weights_of(record, n, k):
    """Where the weights of an op begin."""
    return first_row(record) + n * spec.row_bytes(spec.REQUANTIZE_ROW)


META_AT, INPUT_AT, TASK_AT = (payload(r)[0] for r in (spec.META, spec.INPUT, spec.TASK))
NAME_AT = META_AT + spec.META.fixed_bytes
COUNTS_AT = first_row(spec.INPUT) + 3 * 8
THRESHOLDS_AT = first_row(spec.TASK)
CONV_WEIGHTS = weights_of(spec.CONV1D, 8, 12)
# The second feed-forward linear reads 10 features: 2 bytes of padding in each row.
FF2_AT = payload(spec.LINEAR, 5)[0] + spec.LINEAR.fixed_bytes + 8 * 8
FIRST_ADD = next(op for op in GRAPH.ops if isinstance(op, graph.Add))
BIAS_AT = first_row(spec.ATTENTION)
GOLDEN_AT = first_row(spec.GOLDEN)
VECTORS_AT = GOLDEN_AT + 3 * 4

FAULTS = [
    ("TRUNCATED", "one byte of the header is missing", lambda: MODEL[:23]),
    ("TRUNCATED", "nothing at all", lambda: b""),
    ("MAGIC", "another first letter", lambda: b"B" + MODEL[1:]),
    ("VERSION", "a later major version", lambda: reseal(MODEL, major=2)),
    ("VERSION", "major version 0", lambda: reseal(MODEL, major=0)),
    ("LENGTH", "bytes behind the model", lambda: MODEL + bytes(4)),
    ("LENGTH", "the last word is missing", lambda: MODEL[:-4]),
    ("LENGTH", "over the largest file", lambda: reseal(MODEL + bytes((1 << 24) + 4 - len(MODEL)))),
    ("CRC", "one bit of the last byte", lambda: MODEL[:-1] + bytes([MODEL[-1] ^ 1])),
    ("CRC", "one bit of the id", lambda: MODEL[:16] + bytes([MODEL[16] ^ 128]) + MODEL[17:]),
    ("CRC", "another minor version", lambda: MODEL[:5] + b"\7" + MODEL[6:]),
    ("COUNT", "no ops", lambda: reseal(MODEL, n_ops=0)),
    ("COUNT", "too many ops", lambda: reseal(MODEL, n_ops=65)),
    ("COUNT", "one op more than the header says", lambda: reseal(MODEL, n_ops=len(GRAPH.ops) - 1)),
    ("COUNT", "one op less than the header says", lambda: reseal(MODEL, n_ops=len(GRAPH.ops) + 1)),
    ("RECORD", "half a record header", lambda: behind(bytes(4))),
    ("RECORD", "a payload behind the file", lambda: patched(META_AT - 4, "I", len(MODEL))),
    ("RECORD", "the largest payload", lambda: patched(payload(spec.GOLDEN)[0] - 4, "I", 0xFFFFFFFC)),
    ("RECORD", "GOLDEN is missing", lambda: without(spec.GOLDEN)),
    ("ORDER", "META is missing", lambda: without(spec.META)),
    ("ORDER", "TASK is missing", lambda: without(spec.TASK)),
    ("ORDER", "META where an op is expected", lambda: patched(payload(spec.CONV1D)[0] - 8, "H", 1)),
    ("ORDER", "META again behind GOLDEN", lambda: behind(record_bytes(1, b"", 1))),
    ("ORDER", "an op behind GOLDEN", lambda: behind(record_bytes(20, bytes(12)))),
    ("UNKNOWN_RECORD", "in the place of META", lambda: patched(META_AT - 8, "H", 5)),
    ("UNKNOWN_RECORD", "in the place of an op", lambda: patched(payload(spec.ADD)[0] - 8, "H", 128)),
    ("UNKNOWN_RECORD", "behind GOLDEN", lambda: behind(record_bytes(200, bytes(4)))),
    ("UNKNOWN_RECORD", "type 0", lambda: behind(record_bytes(0))),
    ("UNKNOWN_OP", "the next op code", lambda: patched(payload(spec.ADD)[0] - 8, "H", spec.OPS[-1].code + 1)),
    ("UNKNOWN_OP", "the last op code", lambda: patched(payload(spec.ADD)[0] - 8, "H", 127)),
    ("UNKNOWN_OP", "in the place of META", lambda: patched(META_AT - 8, "H", 99)),
    ("UNKNOWN_OP", "behind GOLDEN", lambda: behind(record_bytes(127, bytes(4)))),
    ("RECORD_LENGTH", "no multiple of 4", lambda: patched(META_AT - 4, "I", 5)),
    ("RECORD_LENGTH", "shorter than the fixed fields", lambda: with_payload(spec.TASK, MODEL[TASK_AT : TASK_AT + 16])),
    ("RECORD_LENGTH", "a word too many in an add", lambda: with_payload(spec.ADD, bytes(16))),
    ("RECORD_LENGTH", "a table of 252", lambda: with_payload(spec.TABLE, bytes(256))),
    ("RECORD_LENGTH", "another number of outputs", lambda: with_field(spec.LINEAR, "n_outputs", 9)),
    ("RECORD_LENGTH", "a word behind the labels", lambda: lengthened(spec.TASK)),
    ("RECORD_LENGTH", "a word behind the golden outputs", lambda: lengthened(spec.GOLDEN)),
    ("RECORD_LENGTH", "a label ends behind the record", lambda: patched(THRESHOLDS_AT + 4 + 16, "B", 30)),
    ("RESERVED", "an unknown flag", lambda: patched(META_AT - 6, "H", 2)),
    ("RESERVED", "a known record marked optional", lambda: patched(META_AT - 6, "H", 1)),
    ("RESERVED", "an unknown flag behind GOLDEN", lambda: behind(record_bytes(200, b"", 3))),
    ("RESERVED", "padding behind the name", lambda: patched(NAME_AT + 7, "B", 1)),
    ("RESERVED", "padding behind the thresholds", lambda: patched(THRESHOLDS_AT + 3, "B", 1)),
    ("RESERVED", "padding of a weight row", lambda: patched(FF2_AT + 11, "B", 1)),
    ("STRING", "an empty channel name", lambda: patched(COUNTS_AT + 12, "B", 0)),
    ("STRING", "a channel name of 33 bytes", lambda: patched(COUNTS_AT + 12, "B", 33)),
    ("STRING", "a unit of 17 bytes", lambda: patched(COUNTS_AT + 15, "B", 17)),
    ("STRING", "an empty label", lambda: patched(THRESHOLDS_AT + 4, "B", 0)),
    ("STRING", "a control character", lambda: patched(NAME_AT, "B", 10)),
    ("STRING", "DEL", lambda: patched(NAME_AT, "B", 0x7F)),
    ("STRING", "a continuation byte alone", lambda: patched(NAME_AT, "B", 0x80)),
    ("STRING", "an overlong form", lambda: with_name(b"abcd\xc0\xaf")),
    ("STRING", "a surrogate", lambda: with_name(b"\xed\xa0\x80abc")),
    ("STRING", "above U+10FFFF", lambda: with_name(b"\xf4\x90\x80\x80ab")),
    ("STRING", "cut in the middle of a character", lambda: with_name(b"abcde\xc3")),
    ("NUMBER", "NaN", lambda: patched(COUNTS_AT, "f", float("nan"))),
    ("NUMBER", "infinity", lambda: patched(COUNTS_AT + 8, "f", float("inf"))),
    ("NUMBER", "negative", lambda: with_field(spec.TASK, "sample_rate_hz", 0xBF800000)),
    ("NUMBER", "subnormal", lambda: with_field(spec.TASK, "sample_rate_hz", 0x007FFFFF)),
    ("NUMBER", "minus zero", lambda: with_field(spec.TASK, "sample_rate_hz", 0x80000000)),
    ("TASK", "a threshold of 101 percent", lambda: patched(THRESHOLDS_AT + 2, "B", 101)),
    ("SHIFT", "score_dpre does not belong to score_dmax", lambda: with_field(spec.TASK, "score_dpre", 1)),
    ("SHIFT", "dpre does not belong to dmax", lambda: with_field(spec.ATTENTION, "dpre", 11)),
    ("SHAPE", "padding as long as the kernel", lambda: with_field(spec.CONV1D, "pad_left", 4)),
    ("SHAPE", "padding on the right as long as the kernel", lambda: with_field(spec.CONV1D, "pad_right", 4)),
    ("SHAPE", "no output token", lambda: with_field(spec.CONV1D, "kernel", 255)),
    ("SHAPE", "an add of unequal shapes", lambda: with_field(spec.ADD, "a", 0)),
    ("SHAPE", "attention of unequal shapes", lambda: with_field(spec.ATTENTION, "value", 0)),
    ("SHAPE", "a norm of 3 channels", lambda: with_field(spec.LAYER_NORM, "source", 0)),
    ("SHAPE", "more labels than outputs", lambda: unchecked(labels=["a", "b", "c", "d"], thresholds=np.zeros(4))),
    ("SHAPE", "the last tensor has many steps", lambda: many_steps()),
    ("SOURCE", "a tensor that comes later", lambda: with_field(spec.CONV1D, "source", 1)),
    ("SOURCE", "a tensor that nothing reads", lambda: with_field(spec.ADD, "b", FIRST_ADD.a)),
    ("TOO_LARGE", "an input over 1 MB", lambda: heavy(32767, 1, 33)),
    ("TOO_LARGE", "an output over 1 MB", lambda: heavy(32767, 1, 2)),
    ("TOO_LARGE", "too much work in one op", lambda: heavy(4000, 1, 262)),
    ("TOO_LARGE", "too much work in all ops", lambda: heavy(8192, 9, 64)),
    ("MULTIPLIER", "an add whose sum is too large", lambda: add_of(1 << 22, 1)),
    ("MULTIPLIER", "a row", lambda: patched(first_row(spec.CONV1D) + 4, "H", 32768)),
    ("SHIFT", "pre of a row", lambda: patched(first_row(spec.CONV1D) + 6, "B", 16)),
    ("SHIFT", "post of a row is 0", lambda: patched(first_row(spec.INPUT) + 7, "B", 0)),
    ("SHIFT", "post of a row is 30", lambda: patched(first_row(spec.LINEAR) + 7, "B", 30)),
    ("BIAS", "a row", lambda: patched(first_row(spec.LINEAR), "i", 1 << 29)),
    ("BIAS", "a row, the lowest number", lambda: patched(first_row(spec.LINEAR), "i", -(1 << 31))),
    ("BIAS", "a relative bias", lambda: patched(BIAS_AT, "i", (1 << 24) + 1)),
    ("BIAS", "the lowest relative bias", lambda: patched(BIAS_AT + 4, "i", -(1 << 31))),
    ("WEIGHT", "the first weight of a convolution", lambda: patched(CONV_WEIGHTS, "b", -128)),
    ("WEIGHT", "the last weight of a row", lambda: patched(FF2_AT + 9, "b", -128)),
    ("ATTENTION", "heads that do not divide D", lambda: with_field(spec.ATTENTION, "heads", 3)),
    ("ATTENTION", "keys that may be -128", lambda: with_field(spec.ATTENTION, "key", 1)),
    ("ATTENTION", "as many keys before as tokens", lambda: with_field(spec.ATTENTION, "left", 12)),
    ("ATTENTION", "as many keys after as tokens", lambda: with_field(spec.ATTENTION, "right", 12)),
    ("GOLDEN", "no values", lambda: patched(GOLDEN_AT + 2, "H", 0)),
    ("GOLDEN", "values above int16", lambda: patched(GOLDEN_AT, "h", 32767)),
    ("GOLDEN", "a generator that stands still", lambda: patched(VECTORS_AT, "I", 0)),
    ("GOLDEN", "held for longer than the window", lambda: patched(VECTORS_AT + 4, "H", 25)),
    ("GOLDEN", "values above int8", lambda: int8_golden(-127)),
    ("GOLDEN", "values below int8", lambda: int8_golden(-129)),
]


def lengthened(record):
    at, n = payload(record)
    return with_payload(record, MODEL[at : at + n] + bytes(4))


def with_name(name):
    assert len(name) == 6
    return reseal(MODEL[:NAME_AT] + name + MODEL[NAME_AT + 6 :])


def unchecked(base=GRAPH, **changes):
    """The bytes of a graph that no packer would write: fields that a check of the whole must catch."""
    changed = graph.QuantGraph(**{**vars(base), **changes})
    return pack._file(changed, np.zeros((len(base.golden.vectors), len(changed.labels)), np.int8))


def many_steps():
    return unchecked(ops=GRAPH.ops[:1], labels=list("abcdefgh"), thresholds=np.zeros(8))


def rows(n):
    return graph.Requantize(*(np.full(n, v) for v in (0, 20000, 0, 20)))


def heavy(n_steps, n_ops, c):
    """Linears of c channels, or one that widens them to 257 outputs."""
    ops = [
        graph.Linear(i, 0, rows(n), np.ones((n, c), np.int8)) for i in range(n_ops) for n in [257 if n_ops == 1 else c]
    ]
    golden = graph.GoldenVectors(np.zeros(c), np.ones(c), GRAPH.golden.vectors)
    wide = {"channels": ["c"] * c, "units": [""] * c, "counts_per_unit": np.zeros(c), "golden": golden}
    return unchecked(n_steps=n_steps, n_channels=c, input_requantize=rows(c), ops=ops, **wide)


def add_of(a, b):
    data = with_field(spec.ADD, "multiplier_a", a)
    return with_field(spec.ADD, "multiplier_b", b, data)


def int8_golden(low):
    parsed = reference.parse(INT8)
    at = next(at for r, at, _ in parsed.records if r is spec.GOLDEN) + spec.GOLDEN.fixed_bytes
    return patched(at, "h", low, INT8)


# ---- tests ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "make"), [(n, make) for n, _, make in FAULTS], ids=[f"{n}: {w}" for n, w, _ in FAULTS]
)
def test_a_fault_has_its_code(name, make):
    data = make()
    assert fault(data) == name
    with pytest.raises(ModelError, match=name) as caught:
        reference.parse(data)
    assert caught.value.code == CODES[name]


def test_every_code_of_the_checker_is_provoked():
    provoked = {name for name, *_ in FAULTS} | {error for *_, error in OUT_OF_RANGE}
    assert provoked == {e.name for e in spec.ERRORS if e.code < 30}


def out_of_range(f):
    """The nearest illegal values of a field."""
    if f.type == "f32":
        return [0x7F800000, 1]
    low, high = RANGES[f.type]
    return [v for v in (f.low - 1, f.high + 1, low, high) if low <= v <= high and not f.low <= v <= f.high]


OUT_OF_RANGE = [(r, f.name, v, f.error) for r in spec.RECORDS for f in r.fields for v in out_of_range(f)]


@pytest.mark.parametrize(("record", "name", "value", "error"), OUT_OF_RANGE)
def test_a_field_out_of_its_range_has_the_code_of_the_specification(record, name, value, error):
    assert fault(with_field(record, name, value)) == error


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(OUT_OF_RANGE), st.sampled_from(OUT_OF_RANGE))
def test_of_two_faults_the_earlier_one_counts(a, b):
    data = with_field(*b[:3], with_field(*a[:3]))
    where = {x: payload(x[0])[0] + x[0].offsets()[x[1]] for x in (a, b)}
    # b was written last: where both name one field, it is b's value that stands there.
    earlier = b if where[b] <= where[a] else a
    assert fault(data) == earlier[3]


def test_the_header_is_checked_in_order():
    data = bytearray(reseal(MODEL, n_ops=0, major=9))
    data[20] ^= 1  # the checksum
    data += bytes(1)  # the length
    data[0] = 0
    for name, mend in [
        ("MAGIC", lambda d: b"A" + d[1:]),
        ("VERSION", lambda d: d[:4] + b"\1" + d[5:]),
        ("LENGTH", lambda d: d[:-1]),
        ("CRC", lambda d: reseal(d)),
        ("COUNT", lambda d: reseal(d, n_ops=len(GRAPH.ops))),
    ]:
        assert fault(data) == name
        data = mend(bytes(data))
    assert fault(data) == "OK" and data == MODEL


def test_weights_are_checked_row_by_row_each_before_its_padding():
    padding_then_weight = patched(FF2_AT + 12, "b", -128, patched(FF2_AT + 11, "B", 1))
    weight_then_padding = patched(FF2_AT + 12, "b", -128, patched(FF2_AT + 23, "B", 1))
    assert (fault(padding_then_weight), fault(weight_then_padding)) == ("RESERVED", "WEIGHT")


def test_the_model_under_test_is_accepted_and_has_every_op():
    assert fault(MODEL) == "OK" and fault(INT8) == "OK"
    assert {r for r, *_ in RECORDS} == set(spec.RECORDS)


def test_optional_records_behind_golden_are_skipped():
    data = behind(record_bytes(200, b"note", 1), record_bytes(5, b"", 1), record_bytes(100, bytes(8), 1))
    assert fault(data) == "OK"
    reference.Reference(data).selftest()
    assert reference.parse(data).records[-1][0] is None


def test_a_later_minor_version_is_accepted():
    data = reseal(MODEL, minor=250)
    assert reference.parse(data).minor == 250


def test_strings_may_hold_every_well_formed_character():
    data = with_name("é€".encode() + b"~")
    assert reference.parse(data).graph.name == "é€~"
    assert fault(with_name("😀".encode() + b" ~")) == "OK"


def test_limits_themselves_are_accepted():
    assert fault(heavy(4080, 1, 255)) != "TOO_LARGE"
    assert fault(add_of(1 << 22, 0)) == "OK"
    assert fault(patched(BIAS_AT, "i", -(1 << 24))) == "OK"
    assert fault(patched(first_row(spec.LINEAR), "i", -(1 << 29) + 1)) == "OK"
    assert fault(patched(CONV_WEIGHTS, "b", -127)) == "OK"
    assert fault(patched(VECTORS_AT + 4, "H", 24)) == "OK"


def mutant(rng, data):
    """A few bytes replaced, a stretch cut, doubled or zeroed."""
    data = bytearray(data)
    for _ in range(rng.integers(1, 4)):
        at, n = int(rng.integers(len(data))), int(rng.integers(1, 40))
        kind = rng.integers(0, 8)
        if kind < 4:
            data[at] = int(rng.integers(256))
        elif kind == 4:
            data[at] = int(rng.choice([0, 1, 127, 128, 255]))
        elif kind == 5:
            del data[at : at + n]
        elif kind == 6:
            data[at:at] = data[at : at + n]
        else:
            data[at : at + n] = bytes(len(data[at : at + n]))
    return bytes(data)


@pytest.mark.parametrize("base", [MODEL, INT8], ids=["int16", "int8"])
def test_mutants_are_refused_with_a_code_or_run(base):
    rng, met = np.random.default_rng(len(base)), {}
    for i in range(10_000):
        data = mutant(rng, base)
        if i % 2 and len(data) > spec.HEADER_BYTES:
            data = reseal(data)
        found = reference.check_model(data)
        met[found] = met.get(found, 0) + 1
        if found == 0:
            model = reference.Reference(data)
            outputs = model.run(models.windows_for(data, 1))
            assert outputs.shape == (1, len(model.graph.labels))
    assert set(met) <= set(NAMES) and len(met) > 12 and met[0] > 100


def test_run_refuses_windows_of_another_shape_or_type():
    model = reference.Reference(MODEL)
    for x in (np.zeros((1, 24, 2), np.int16), np.zeros((24, 3), np.int16), np.zeros((1, 24, 3), np.int8)):
        with pytest.raises(ModelError, match=r"INPUT.*expected int16 \(N, 24, 3\)"):
            model.run(x)
    assert model.run(np.zeros((0, 24, 3), np.int16)).shape == (0, 3)


def test_outputs_do_not_depend_on_the_blocks_they_are_computed_in(monkeypatch):
    model, x = reference.Reference(MODEL), models.windows_for(MODEL, 20)
    whole = model.run(x)
    assert np.array_equal(whole, model.tensors(x)[-1][:, 0])
    for elements in (1, 100, 3000):
        monkeypatch.setattr(arithmetic, "BLOCK_ELEMENTS", elements)
        assert np.array_equal(whole, model.run(x))


def test_selftest_finds_another_output():
    at, n = payload(spec.GOLDEN)
    data = patched(at + n - 4, "B", MODEL[at + n - 4] ^ 1)
    assert fault(data) == "OK"
    with pytest.raises(ModelError, match="SELFTEST"):
        reference.Reference(data).selftest()


def test_the_packer_says_which_limit_a_graph_breaks():
    ops = [*GRAPH.ops, graph.Add(0, 1, 1, 1)]
    with pytest.raises(PackError, match=r"SHAPE.*expected the limits of models/FORMAT\.md"):
        pack.pack(graph.QuantGraph(**{**vars(GRAPH), "ops": ops}))


# ---- files of released formats load for ever ------------------------------------------------------------------------

# sha256 of the int8 outputs
OUTPUTS = {"format_1_0.a8": "e8880f991a69d9f67310dea3d3f32c94b69d7e1564d2992592059063c7bfc952"}


def corpus_windows(model, n=16):
    """Windows that depend on nothing but the generator of the golden vectors."""
    g = model.graph
    seeds = [(i + 7, 3 * i + 1, 1 + i % 5) for i in range(n)]
    return np.stack([arithmetic.golden_input(g.golden, s, g.n_steps, model.dtype) for s in seeds])


@pytest.mark.parametrize("path", sorted(CORPUS.glob("*.a8")), ids=lambda p: p.name)
def test_a_released_file_loads_and_gives_its_outputs(path):
    model = reference.Reference(path.read_bytes())
    model.selftest()
    assert hashlib.sha256(model.run(corpus_windows(model)).tobytes()).hexdigest() == OUTPUTS[path.name]


def test_the_corpus_is_complete():
    assert {p.name for p in CORPUS.glob("*.a8")} == set(OUTPUTS)
    kinds = {type(op) for op in reference.parse((CORPUS / "format_1_0.a8").read_bytes()).graph.ops}
    assert kinds == {type(op) for op in GRAPH.ops}


def test_long_windows_take_little_memory():
    """Attention and convolution over the longest window, narrow: all scores at once would take 8 GB."""
    n_tokens = 32767
    softmax = arithmetic.choose_softmax(0.01)
    op = graph.WindowedAttention(0, 1, 2, 1, 3, 3, softmax, 1 << 14, 14, np.zeros((1, 7), dtype=np.int64))
    x = np.random.default_rng(0).integers(-127, 128, (1, n_tokens, 1))
    tracemalloc.start()
    y = arithmetic.windowed_attention(x, x, x, op)
    arithmetic.conv1d_accumulate(x, np.ones((1, 255, 1), dtype=np.int8), 1, 127, 127)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert y.shape == x.shape
    assert peak_bytes < 600e6
