"""Runs on MicroPython: prints the back end, then class, code and text of every error that a user can cause."""

from array import array

import attn8

with open("int16.a8", "rb") as f:
    data = f.read()
with open("int16.x", "rb") as f:
    window = f.read(2 * 24 * 3)


def tell(function, *arguments):
    """Calls the function and prints what it raises."""
    try:
        print("nothing", function(*arguments))
    except Exception as e:
        print(type(e).__name__, isinstance(e, ValueError), getattr(e, "code", None), e)


def changed(at, value):
    """Returns the file with one byte changed and the CRC not repaired."""
    broken = bytearray(data)
    broken[at] = value
    return broken


print(attn8.backend)
for source in (
    b"",
    b"hello",
    data[:23],
    data[:-1],
    changed(0, 1),
    changed(4, 2),
    changed(500, 255),
    "no such file",
    7,
    None,
):
    tell(attn8.load, source)
    if isinstance(source, (bytes, bytearray)):
        print(attn8.check_model(source))
m = attn8.load(data)
print(list(m.output))
for bad in (b"", window[:-1], window + b"\x00\x00", array("h", window)[:-1], [1, 2], None, 7, "text"):
    tell(m.run, bad)
    tell(m.predict, bad)
    tell(m.start, bad)
for out in (bytearray(2), bytearray(4), bytearray()):
    tell(m.run, window, out)
    tell(m.decide, out)
tell(m.step)
m.start(window)
m.step()
m.run(window)
tell(m.step)
m.start(window)
m.step()
tell(m.run, b"")
tell(m.step)
tell(m.stream)
tell(attn8.load("looks_ahead.a8").stream)
streaming = attn8.load("stream_a.a8")
stream = streaming.stream()
for bad in (b"", b"1", bytes(7), bytes(13), array("h", range(4)), None, 7, "text"):
    tell(stream.push, bad)
tell(streaming.stream, 0)
for out in (bytes(3), 7):
    try:
        m.run(window, out)
    except Exception as e:
        print(type(e).__name__)
tell(attn8.load("wrong_golden.a8").selftest)
moved = bytearray(data)
m = attn8.load(moved)
moved.extend(bytes(16))
tell(m.run, window)
tell(m.start, window)
