"""Model files written byte by byte, and FAULTS: a file for every rule of check_model and the code that it must give.

Nothing here uses the packer, which refuses to write such files.
"""

import struct

import numpy as np

from attn8.pack import seal

FULL, KEY, RELU = 0, 1, 2
ROW = struct.pack("<iHBB", 0, 20000, 3, 14)
SOFTMAX = struct.pack("<iHBB", 1000, 20000, 0, 14)


def padded(data):
    return data + bytes(-len(data) % 4)


def record(code, payload, flags=0):
    return struct.pack("<HHI", code, flags, len(payload)) + payload


def short_string(text):
    return bytes([len(text)]) + text


def meta(name=b"m", version=b"1", reserved=0):
    return record(1, padded(struct.pack("<BBH", len(name), len(version), reserved) + name + version))


def window(steps, channels, int16=False, names=None, rows=None, counts=b""):
    names = names if names is not None else [(b"x", b"g")] * channels
    strings = b"".join(short_string(s) for pair in names for s in pair)
    rows = rows if rows is not None else ROW * channels * int16
    counts = counts or bytes(4 * channels)
    return record(2, padded(struct.pack("<HHBBH", steps, channels, int16, 0, 0) + rows + counts + strings))


def task(n, thresholds=None, labels=None, hop=1, rate=0, softmax=SOFTMAX, kind=1):
    thresholds = padded(bytes(n) if thresholds is None else thresholds)
    labels = b"".join(short_string(s) for s in (labels or [b"a"] * n))
    return record(3, padded(struct.pack("<BBHiI", kind, 0, n, hop, rate) + softmax + thresholds + labels))


def golden(channels, n, vectors=None, ranges=None):
    vectors = vectors or [(1, 1, 1, 0)] * 4
    ranges = ranges or [(-128, 256)] * channels
    payload = struct.pack("<BBH", len(vectors), 0, 0) + b"".join(struct.pack("<hH", *r) for r in ranges)
    payload += b"".join(struct.pack("<HHHH", *v) for v in vectors)
    return record(4, payload + padded(bytes(len(vectors) * n)))


def weights(n, k, value=1):
    return padded(bytes([value] * k)) * n


def linear(source, k, n, clamp=FULL, rows=None, w=None):
    return record(16, struct.pack("<BBH", source, clamp, n) + (rows or ROW * n) + (weights(n, k) if w is None else w))


def conv1d(source, c, n, kernel=1, stride=1, left=0, right=0, clamp=FULL):
    head = struct.pack("<BBHBBBB", source, clamp, n, kernel, stride, left, right)
    return record(17, head + ROW * n + weights(n, kernel * c))


def attention(q, k, v, heads=1, left=1, right=1, softmax=SOFTMAX, m=20000, f=10, bias=None):
    bias = [0] * (heads * (left + right + 1)) if bias is None else bias
    head = struct.pack("<BBBBHH", q, k, v, heads, left, right) + softmax + struct.pack("<HBB", m, f, 0)
    return record(18, head + struct.pack(f"<{len(bias)}i", *bias))


def layer_norm(source, kind=0, m=20000, eps=1, shift=8):
    return record(19, struct.pack("<BBHiBBH", source, kind, m, eps, shift, 0, 0))


def add(a, b, ma=10000, mb=20000):
    return record(20, struct.pack("<BBHii", a, b, 0, ma, mb))


def mean_pool(source, row=ROW):
    return record(21, struct.pack("<BBH", source, 0, 0) + row)


def table(source, n=256):
    return record(22, struct.pack("<BBH", source, 0, 0) + bytes(range(n % 257))[:n])


def model(ops, steps=4, channels=2, n=2, n_ops=None, tail=b"", **parts):
    """Returns a file; parts replace records: meta, window, task, golden."""
    first = parts.get("meta", meta()) + parts.get("window", window(steps, channels)) + parts.get("task", task(n))
    body = first + b"".join(ops) + parts.get("golden", golden(channels, n)) + tail
    return seal(body, len(ops) if n_ops is None else n_ops)


def changed(rec, offset, fmt, *values):
    """Returns a record with bytes of its payload replaced."""
    data = bytearray(rec)
    struct.pack_into("<" + fmt, data, 8 + offset, *values)
    return bytes(data)


def resized(rec, n):
    """Returns a record with n zero bytes more, or -n bytes fewer."""
    payload = rec[8:] + bytes(max(n, 0))
    return record(rec[0], payload[: len(payload) + min(n, 0)])


def chain(*ops, **parts):
    """A model whose last op is a pool over the result of ``ops``, which must have 2 channels."""
    return model([*ops, mean_pool(len(ops))], **parts)


LINEAR = linear(0, 2, 2)
KEYS = linear(0, 2, 2, KEY)
GOOD = chain(LINEAR)
WITH_ATTENTION = [LINEAR, KEYS, LINEAR]


def in_place():
    """Returns files whose ops may, or may not, write over what they read: the input, a query that is key or value."""
    chains = (
        [table(0), add(1, 1)],
        [add(0, 0), table(1)],
        [table(0), add(0, 1)],
        [KEYS, LINEAR, attention(1, 1, 2)],
        [LINEAR, KEYS, attention(1, 2, 1)],
        [*WITH_ATTENTION, attention(1, 2, 3)],
    )
    return [chain(*ops, window=window(4, 2, int16)) for ops in chains for int16 in (False, True)]


def random_graph(seed):
    """Returns a file of linears and adds, every second behind attention; some cannot be placed without a gap."""
    rng = np.random.default_rng(seed)
    ops, channels, unread = [], [2], {0}
    if seed % 2:
        ops, channels, unread = [*WITH_ATTENTION, attention(1, 2, 3)], [2] * 5, {4}
    for _ in range(int(rng.integers(3, 30))):
        last = len(ops)
        a = int(rng.integers(0, last + 1))
        same = [t for t in range(last + 1) if channels[t] == channels[a]]
        b = int(rng.choice(same))
        n = int(rng.choice([channels[a], 2, rng.integers(1, 40)]))
        adding = a != b and n == channels[a]
        ops.append(add(a, b) if adding else linear(a, channels[a], n))
        unread -= {a, b} if adding else {a}
        unread.add(last + 1)
        channels.append(n)
    _join(ops, channels, unread)
    return chain(*ops)


def _join(ops, channels, unread):
    """Reads every tensor that no op has read, and ends with two channels."""
    total = None
    for t in sorted(unread):
        ops.append(linear(t, channels[t], 2))
        total = (total, len(ops)) if total else len(ops)
        if isinstance(total, tuple):
            ops.append(add(*total))
            total = len(ops)


def attended(**fields):
    return chain(*WITH_ATTENTION, attention(1, 2, 3, **fields))


def _header_faults():
    damaged = bytearray(GOOD)
    damaged[60] ^= 1
    yield "empty file", "TRUNCATED", b""
    yield "23 bytes", "TRUNCATED", GOOD[:23]
    yield "another magic", "MAGIC", b"X" + GOOD[1:]
    yield "another major version", "VERSION", GOOD[:4] + b"\x02" + GOOD[5:]
    yield "a byte more", "LENGTH", GOOD + b"\0"
    yield "a byte fewer", "LENGTH", GOOD[:-1]
    yield "over the largest file", "LENGTH", GOOD + bytes(1 << 24)
    yield "a flipped bit", "CRC", bytes(damaged)
    yield "no ops", "COUNT", model([LINEAR, mean_pool(1)], n_ops=0)
    yield "65 ops", "COUNT", model([LINEAR, mean_pool(1)], n_ops=65)
    yield "an op more than the header says", "COUNT", model([LINEAR, mean_pool(1)], n_ops=1)
    yield "an op fewer than the header says", "COUNT", model([LINEAR, mean_pool(1)], n_ops=3)


def _record_faults():
    ops = LINEAR + mean_pool(1)
    yield "header only", "RECORD", seal(b"", 2)
    yield "half a record header", "RECORD", seal(meta()[:4], 2)
    yield "payload behind the end", "RECORD", seal(meta()[:-4], 2)
    yield "odd payload", "RECORD_LENGTH", seal(struct.pack("<HHI", 1, 0, 5) + bytes(5), 2)
    yield "another flag", "RESERVED", chain(LINEAR, meta=record(1, meta()[8:], 2))
    yield "known record marked optional", "RESERVED", chain(LINEAR, meta=record(1, meta()[8:], 1))
    yield "window before meta", "ORDER", seal(window(4, 2) + meta() + task(2) + ops + golden(2, 2), 2)
    yield "op in place of meta", "ORDER", seal(LINEAR + meta(), 2)
    yield "golden in place of meta", "ORDER", seal(golden(2, 2), 2)
    yield "meta in place of an op", "ORDER", model([meta(), mean_pool(1)])
    yield "task in place of golden", "ORDER", chain(LINEAR, golden=task(2))
    yield "golden twice", "ORDER", chain(LINEAR, tail=golden(2, 2))
    yield "op behind golden", "ORDER", chain(LINEAR, tail=LINEAR)
    yield "unknown record in place of meta", "UNKNOWN_RECORD", seal(record(5, b""), 2)
    yield "unknown op in place of meta", "UNKNOWN_OP", seal(record(16 + 7, b""), 2)
    yield "record 0", "UNKNOWN_RECORD", seal(record(0, b""), 2)
    yield "unknown record among ops", "UNKNOWN_RECORD", model([record(128, b""), mean_pool(1)])
    yield "unknown op", "UNKNOWN_OP", model([record(127, b"", 1), mean_pool(1)])
    yield "unknown record at the end", "UNKNOWN_RECORD", chain(LINEAR, tail=record(200, b""))
    yield "unknown op at the end", "UNKNOWN_OP", chain(LINEAR, tail=record(23, b""))
    yield "a few bytes at the end", "RECORD", chain(LINEAR, tail=bytes(4))
    yield "optional record with another flag", "RESERVED", chain(LINEAR, tail=record(200, b"", 3))
    yield (
        "optional record of odd length",
        "RECORD_LENGTH",
        chain(LINEAR, tail=struct.pack("<HHI", 200, 1, 2) + bytes(2)),
    )
    yield "optional record too long", "RECORD", chain(LINEAR, tail=struct.pack("<HHI", 200, 1, 8) + bytes(4))


def _string_faults():
    for text in (
        b"",
        b"x" * 33,
        b"a\x1f",
        b"\x7f",
        b"\x80",
        b"\xc1\x81",
        b"\xf5\x80\x80\x80",
        b"\xc3",
        b"\xe2\x82",
        b"\xf0\x9f\x98",
    ):
        yield f"name {text!r}", "STRING", chain(LINEAR, meta=meta(text))
    for text in (
        b"\xe0\x9f\xbf",
        b"\xf0\x8f\xbf\xbf",
        b"\xed\xa0\x80",
        b"\xf4\x90\x80\x80",
        b"\xe2\x28\xa1",
        b"\xf0\x90\x28\xbc",
    ):
        yield f"name {text!r}", "STRING", chain(LINEAR, meta=meta(text))
    yield "version too long", "STRING", chain(LINEAR, meta=meta(version=b"x" * 33))
    yield "version not text", "STRING", chain(LINEAR, meta=meta(version=b"\n"))
    yield "channel without name", "STRING", chain(LINEAR, window=window(4, 2, names=[(b"", b""), (b"y", b"")]))
    yield "unit too long", "STRING", chain(LINEAR, window=window(4, 2, names=[(b"x", b"u" * 17), (b"y", b"")]))
    yield "unit not text", "STRING", chain(LINEAR, window=window(4, 2, names=[(b"x", b"\0"), (b"y", b"")]))
    yield "label without text", "STRING", chain(LINEAR, task=task(2, labels=[b"a", b""]))
    yield "name behind the payload", "RECORD_LENGTH", chain(LINEAR, meta=changed(meta(), 0, "B", 9))
    yield "version behind the payload", "RECORD_LENGTH", chain(LINEAR, meta=changed(meta(), 1, "B", 9))
    yield "label behind the payload", "RECORD_LENGTH", chain(LINEAR, task=changed(task(2), 24, "B", 9))
    yield "no label", "RECORD_LENGTH", chain(LINEAR, task=resized(task(2), -4))
    yield "no channel names", "RECORD_LENGTH", chain(LINEAR, window=window(4, 2, names=[]))
    yield "a word behind the names", "RECORD_LENGTH", chain(LINEAR, meta=resized(meta(), 4))
    yield "padding of names", "RESERVED", chain(LINEAR, meta=changed(meta(), 7, "B", 1))


def _window_faults():
    int16 = {"ranges": [(-100, 200)] * 2}
    for offset, value in ((0, 0), (0, 32768), (2, 0), (2, 1025)):
        yield f"window shape {offset} {value}", "SHAPE", chain(LINEAR, window=changed(window(4, 2), offset, "H", value))
    yield "window over the largest tensor", "TOO_LARGE", chain(LINEAR, window=window(32767, 33))
    yield "input type 2", "MODE", chain(LINEAR, window=changed(window(4, 2), 4, "B", 2))
    yield "reserved byte of a window", "RESERVED", chain(LINEAR, window=changed(window(4, 2), 5, "B", 1))
    yield "short meta", "RECORD_LENGTH", chain(LINEAR, meta=record(1, b""))
    yield "short window", "RECORD_LENGTH", chain(LINEAR, window=record(2, bytes(4)))
    yield "window without rows", "RECORD_LENGTH", chain(LINEAR, window=window(4, 2, True, [], b"", bytes(4)))
    for bits in (0x80000000, 0x7F800000, 0x007FFFFF, 0xBF800000):
        counts = struct.pack("<II", 0, bits)
        yield f"counts per unit {bits:#x}", "NUMBER", chain(LINEAR, window=window(4, 2, counts=counts))
    for row, code in _row_faults():
        bad = chain(LINEAR, window=window(4, 2, True, rows=ROW + row), golden=golden(2, 2, **int16))
        yield f"input row {code}", code, bad


def _row_faults():
    yield struct.pack("<iHBB", 1 << 29, 20000, 3, 14), "BIAS"
    yield struct.pack("<iHBB", -(1 << 29), 20000, 3, 14), "BIAS"
    yield struct.pack("<iHBB", 0, 32768, 3, 14), "MULTIPLIER"
    yield struct.pack("<iHBB", 0, 1, 16, 14), "SHIFT"
    yield struct.pack("<iHBB", 0, 1, 0, 0), "SHIFT"
    yield struct.pack("<iHBB", 0, 1, 0, 30), "SHIFT"


def _softmax_faults():
    yield struct.pack("<iHBB", 0, 20000, 0, 14), "MULTIPLIER"
    yield struct.pack("<iHBB", 1 << 26, 20000, 11, 14), "MULTIPLIER"
    yield struct.pack("<iHBB", 1000, 16383, 0, 14), "MULTIPLIER"
    yield struct.pack("<iHBB", 1000, 32768, 0, 14), "MULTIPLIER"
    yield struct.pack("<iHBB", 1000, 20000, 12, 14), "SHIFT"
    yield struct.pack("<iHBB", 1000, 20000, 0, 0), "SHIFT"
    yield struct.pack("<iHBB", 1000, 20000, 0, 31), "SHIFT"
    yield struct.pack("<iHBB", 1000, 20000, 1, 14), "SHIFT"
    yield struct.pack("<iHBB", 32768, 20000, 0, 14), "SHIFT"


def _task_faults():
    yield "task 0", "TASK", chain(LINEAR, task=task(2, kind=0))
    yield "task 2", "TASK", chain(LINEAR, task=task(2, kind=2))
    yield "no outputs", "SHAPE", chain(LINEAR, task=task(0))
    yield "1025 outputs", "SHAPE", chain(LINEAR, task=task(1025))
    yield "hop 0", "TASK", chain(LINEAR, task=task(2, hop=0))
    yield "hop too long", "TASK", chain(LINEAR, task=task(2, hop=(1 << 20) + 1))
    yield "negative rate", "NUMBER", chain(LINEAR, task=task(2, rate=0xC2480000))
    yield "threshold 101", "TASK", chain(LINEAR, task=task(2, thresholds=b"\0\x65"))
    yield "padding of thresholds", "RESERVED", chain(LINEAR, task=changed(task(2), 22, "B", 1))
    yield "no thresholds", "RECORD_LENGTH", chain(LINEAR, task=resized(task(2), -8))
    yield "short task", "RECORD_LENGTH", chain(LINEAR, task=record(3, bytes(16)))
    for i, (softmax, code) in enumerate(_softmax_faults()):
        yield f"score {i}", code, chain(LINEAR, task=task(2, softmax=softmax))


def _op_faults():
    yield "source that does not exist yet", "SOURCE", chain(linear(1, 2, 2))
    yield "source 64", "SOURCE", chain(linear(64, 2, 2))
    yield "tensor never read", "SOURCE", model([LINEAR, mean_pool(0)])
    yield "input never read", "SOURCE", model([changed(LINEAR, 0, "B", 1), mean_pool(1)])
    yield "clamp 3", "MODE", chain(linear(0, 2, 2, 3))
    yield "no outputs of a linear", "SHAPE", chain(changed(LINEAR, 2, "H", 0))
    yield "short linear", "RECORD_LENGTH", chain(record(16, b""))
    yield "linear too long", "RECORD_LENGTH", chain(resized(LINEAR, 4))
    yield "linear too short", "RECORD_LENGTH", chain(resized(LINEAR, -4))
    yield "weight -128", "WEIGHT", chain(changed(LINEAR, 4 + 16 + 5, "b", -128))
    yield "padding of weights", "RESERVED", chain(changed(LINEAR, 4 + 16 + 6, "b", 1))
    for row, code in _row_faults():
        yield f"row {code}", code, chain(linear(0, 2, 2, rows=ROW + row))
    yield "two steps at the end", "SHAPE", model([LINEAR])
    yield "three channels at the end", "SHAPE", model([linear(0, 2, 3), mean_pool(1)])
    yield "tensor too large", "TOO_LARGE", chain(linear(0, 2, 1024, w=b""), steps=2000)
    wide = [linear(0, 1, 1024), linear(1, 1024, 1024), linear(2, 1024, 2)]
    yield "work of an op", "TOO_LARGE", chain(*wide, steps=257, channels=1)
    twice = [linear(0, 1, 1024), linear(1, 1024, 1024), linear(2, 1024, 1024), linear(3, 1024, 2)]
    yield "work of all ops", "TOO_LARGE", chain(*twice, steps=200, channels=1)


def _conv_faults():
    for offset, fmt, value in (
        (2, "H", 0),
        (4, "B", 0),
        (5, "B", 0),
        (6, "B", 255),
        (7, "B", 255),
        (6, "B", 1),
        (7, "B", 1),
    ):
        yield f"conv1d {offset} {value}", "SHAPE", chain(changed(conv1d(0, 2, 2), offset, fmt, value))
    yield "kernel longer than the window", "SHAPE", chain(conv1d(0, 2, 2, kernel=5))
    yield "too many products", "SHAPE", chain(conv1d(0, 1024, 2, kernel=32), steps=40, channels=1024)
    padded_conv = conv1d(0, 1, 2, kernel=3, left=2, right=2)
    yield "too many steps", "SHAPE", chain(padded_conv, steps=32767, channels=1)
    yield "conv1d clamp", "MODE", chain(conv1d(0, 2, 2, clamp=3))
    yield "conv1d source", "SOURCE", chain(conv1d(1, 2, 2))
    yield "conv1d too long", "RECORD_LENGTH", chain(resized(conv1d(0, 2, 2), 4))
    yield "conv1d tensor too large", "TOO_LARGE", chain(conv1d(0, 1, 1024), steps=2000, channels=1)


def _attention_faults():
    yield "heads 0", "ATTENTION", attended(heads=0, bias=[0] * 3)
    yield "heads that do not divide", "ATTENTION", attended(heads=3)
    yield "left 4 of 4", "ATTENTION", attended(left=4)
    yield "right 4 of 4", "ATTENTION", attended(right=4)
    yield "left 32767", "ATTENTION", attended(left=32767, bias=[0] * 3)
    wide = [linear(0, 2, 514), linear(0, 2, 514, KEY), attention(1, 2, 1), linear(3, 514, 2)]
    yield "head size 514", "ATTENTION", chain(*wide)
    unclamped = [LINEAR, LINEAR, LINEAR, attention(1, 2, 3)]
    yield "key not clamped", "ATTENTION", chain(*unclamped)
    yield "key is the input", "ATTENTION", chain(LINEAR, LINEAR, attention(1, 0, 2))
    yield "key from an add", "ATTENTION", chain(LINEAR, KEYS, add(1, 2), attention(1, 3, 2))
    yield "key of another shape", "SHAPE", chain(LINEAR, linear(0, 2, 3, KEY), attention(1, 2, 1))
    yield "value of another length", "SHAPE", chain(LINEAR, KEYS, mean_pool(1), attention(1, 2, 3))
    for i in range(3):
        sources = [1, 2, 3]
        sources[i] = 5
        yield f"attention source {i}", "SOURCE", chain(*WITH_ATTENTION, attention(*sources))
    for i, (softmax, code) in enumerate(_softmax_faults()):
        yield f"attention softmax {i}", code, attended(softmax=softmax)
    yield "M too small", "MULTIPLIER", attended(m=16383)
    yield "M too large", "MULTIPLIER", attended(m=32768)
    yield "f 0", "SHIFT", attended(f=0)
    yield "f 23", "SHIFT", attended(f=23)
    yield "reserved byte", "RESERVED", chain(*WITH_ATTENTION, changed(attention(1, 2, 3), 19, "B", 1))
    yield "relative bias too large", "BIAS", attended(bias=[0, 0, (1 << 24) + 1])
    yield "relative bias too small", "BIAS", attended(bias=[0, -(1 << 24) - 1, 0])
    yield "relative bias too short", "RECORD_LENGTH", attended(bias=[0, 0])
    far = [linear(0, 1, 64), linear(0, 1, 64, KEY), attention(1, 2, 1, left=9999, right=9999), linear(3, 64, 2)]
    yield "attention work", "TOO_LARGE", chain(*far, steps=10000, channels=1)


def _small_op_faults():
    wide = linear(0, 2, 8)
    yield "norm of 7 channels", "SHAPE", chain(linear(0, 2, 7), layer_norm(1), linear(2, 7, 2))
    yield "norm of 257 channels", "SHAPE", chain(linear(0, 2, 257), layer_norm(1), linear(2, 257, 2))
    for label, fields, code in (
        ("norm kind", {"kind": 2}, "MODE"),
        ("norm m", {"m": 16383}, "MULTIPLIER"),
        ("norm eps", {"eps": 1 << 29}, "BIAS"),
        ("negative eps", {"eps": -1}, "BIAS"),
        ("norm shift", {"shift": 16}, "SHIFT"),
    ):
        yield label, code, chain(wide, layer_norm(1, **fields), linear(2, 8, 2))
    yield "norm too long", "RECORD_LENGTH", chain(wide, resized(layer_norm(1), 4), linear(2, 8, 2))
    yield "add of two shapes", "SHAPE", chain(linear(0, 2, 3), linear(1, 3, 2), add(2, 1))
    yield "add of two lengths", "SHAPE", chain(LINEAR, mean_pool(1), add(1, 2))
    yield "add that is too large", "MULTIPLIER", chain(LINEAR, add(1, 0, 1 << 22, 1))
    yield "add with a negative factor", "MULTIPLIER", chain(LINEAR, add(1, 0, -1, 1))
    yield "add too long", "RECORD_LENGTH", chain(LINEAR, resized(add(1, 0), 4))
    yield "add too short", "RECORD_LENGTH", chain(LINEAR, resized(add(1, 0), -4))
    yield "add source", "SOURCE", chain(LINEAR, add(1, 2))
    yield "add reserved", "RESERVED", chain(LINEAR, changed(add(1, 0), 2, "H", 1))
    for row, code in _row_faults():
        yield f"pool {code}", code, model([LINEAR, mean_pool(1, row)])
    yield "pool too long", "RECORD_LENGTH", model([LINEAR, resized(mean_pool(1), 4)])
    yield "table too short", "RECORD_LENGTH", chain(LINEAR, table(1, 252))
    yield "table too long", "RECORD_LENGTH", chain(LINEAR, resized(table(1), 4))
    yield "table source", "SOURCE", chain(LINEAR, table(2))


def _golden_faults():
    def bad(*vectors, **parts):
        return chain(LINEAR, golden=golden(2, 2, list(vectors) or None, **parts))

    ok = (1, 1, 1, 0)
    yield "three vectors", "GOLDEN", bad(ok, ok, ok)
    yield "zero state", "GOLDEN", bad(ok, ok, ok, (0, 0, 1, 0))
    yield "hold 0", "GOLDEN", bad(ok, ok, ok, (0, 1, 0, 0))
    yield "hold longer than the window", "GOLDEN", bad(ok, ok, ok, (1, 0, 5, 0))
    yield "reserved of a vector", "RESERVED", bad(ok, ok, ok, (1, 1, 1, 1))
    yield "no values", "GOLDEN", bad(ranges=[(0, 0)] * 2)
    yield "too many values", "GOLDEN", bad(ranges=[(0, 16385)] * 2)
    yield "low under int8", "GOLDEN", bad(ranges=[(-129, 2)] * 2)
    yield "high over int8", "GOLDEN", bad(ranges=[(0, 129)] * 2)
    over = chain(LINEAR, window=window(4, 2, True), golden=golden(2, 2, ranges=[(32767, 2)] * 2))
    yield "high over int16", "GOLDEN", over
    yield "golden too long", "RECORD_LENGTH", chain(LINEAR, golden=resized(golden(2, 2), 4))
    yield "short golden", "RECORD_LENGTH", chain(LINEAR, golden=record(4, b""))
    three = model([linear(0, 2, 3), mean_pool(1)], n=3, golden=changed(golden(2, 3, [ok] * 5), 4 + 8 + 40 + 15, "B", 1))
    yield "padding of golden outputs", "RESERVED", three
    yield "reserved of golden", "RESERVED", chain(LINEAR, golden=changed(golden(2, 2), 1, "B", 1))


def _good():
    yield "smallest", "OK", GOOD
    yield "attention", "OK", attended()
    yield "attention over all", "OK", attended(left=3, right=3)
    yield "key from conv1d", "OK", chain(LINEAR, conv1d(0, 2, 2, clamp=RELU), attention(1, 2, 2))
    yield "optional records", "OK", chain(LINEAR, tail=record(200, bytes(8), 1) + record(5, b"", 1))
    yield "every kind of op", "OK", chain(linear(0, 2, 8), layer_norm(1, 1), table(2), linear(3, 8, 2), add(4, 0))
    yield "text", "OK", chain(LINEAR, meta=meta("é€😀퟿".encode() + b"\xf4\x8f\xbf\xbf", b""))
    yield "64 ops", "OK", chain(*[linear(i, 2, 2) for i in range(63)])
    yield "norm of 256 channels", "OK", chain(linear(0, 2, 256), layer_norm(1), linear(2, 256, 2))
    yield "int16", "OK", chain(LINEAR, window=window(4, 2, True), golden=golden(2, 2, ranges=[(32766, 2)] * 2))
    numbers = window(4, 2, counts=struct.pack("<II", 0x00800000, 0x7F7FFFFF))
    yield "extreme numbers", "OK", chain(LINEAR, window=numbers)
    yield "extreme score", "OK", chain(LINEAR, task=task(2, softmax=struct.pack("<iHBB", (1 << 26) - 1, 32767, 11, 30)))


def _limits():
    """Files at a limit, which are good, and files whose second fault must not be the one that is found."""
    edges = (b" ", b"\xc2\x80\xdf\xbf", b"\xe0\xa0\x80\xed\x9f\xbf\xef\xbf\xbf", b"\xf0\x90\x80\x80", b"x" * 32)
    for text in edges:
        yield f"name {text!r}", "OK", chain(LINEAR, meta=meta(text, b""))
    yield "version of 32 bytes", "OK", chain(LINEAR, meta=meta(version=b"v" * 32))
    yield "unit of 16 bytes", "OK", chain(LINEAR, window=window(4, 2, names=[(b"x" * 32, b"u" * 16), (b"y", b"")]))
    yield "label of 32 bytes", "OK", chain(LINEAR, task=task(2, labels=[b"a" * 32, b"b"]))
    yield "threshold 100", "OK", chain(LINEAR, task=task(2, thresholds=b"\x64\x64"))
    yield "hold of a whole window", "OK", chain(LINEAR, golden=golden(2, 2, [(1, 0, 4, 0)] * 4))
    yield "add at its limit", "OK", chain(LINEAR, add(1, 0, 1 << 21, 1 << 21))
    yield "relative bias at its limits", "OK", attended(bias=[1 << 24, 0, -(1 << 24)])
    wide = [linear(0, 2, 256), linear(0, 2, 256, KEY), attention(1, 2, 1), linear(3, 256, 2)]
    yield "head size 256", "OK", chain(*wide)
    yield "largest window", "OK", chain(linear(0, 1024, 2), steps=1024, channels=1024)
    yield "longest window", "OK", chain(conv1d(0, 1, 2), steps=32767, channels=1)
    yield "most products", "OK", chain(conv1d(0, 151, 2, kernel=217), steps=217, channels=151)
    work = [linear(0, 256, 1024), mean_pool(1)]
    yield "largest tensor and most work", "OK", model(work, steps=1024, channels=256, n=1024)
    head = struct.pack("<BBHBBBB", 0, 0, 1024, 4, 1, 1, 2)
    yield "work that wraps 32 bits", "TOO_LARGE", chain(record(17, head), steps=1024, channels=1024)
    yield "thresholds in place of labels", "TASK", chain(LINEAR, task=resized(task(4, b"\x65\0\0\0"), -8))
    yield "padding of thresholds over 100", "RESERVED", chain(LINEAR, task=changed(task(2), 22, "B", 255))
    yield "padding of weights -128", "RESERVED", chain(changed(LINEAR, 4 + 16 + 2, "b", -128))
    yield "no ops at all", "COUNT", model([])
    yield "65 ops that are there", "COUNT", chain(*[linear(i, 2, 2) for i in range(64)])


_PARTS = (_limits, _good, _header_faults, _record_faults, _string_faults, _window_faults, _task_faults, _op_faults)
_PARTS += (_conv_faults, _attention_faults, _small_op_faults, _golden_faults)
FAULTS = [fault for part in _PARTS for fault in part()]
