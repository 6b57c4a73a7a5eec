"""Blocks and hops of a board that sends any numbers, with the right check: counted, written or passed over.

    python tests/fuzz/test_hostile_blocks.py 5000 1

tries 5,000 recordings and as many watches, of seed 1.
"""

import contextlib
import math
import random
import struct
import sys
import tempfile
import zlib
from base64 import b64encode

from attn8.boards import capture, monitor, streaming
from attn8.boards.recording import Recordings
from attn8.boards.sensors import Sensor

N_IN_CI = 200
NUMBERS = (0, 1, 2, 5, 100, 65535, 1 << 20, (1 << 30) - 1, 1 << 30, 1 << 31, (1 << 32) - 1)
FLOATS = (math.nan, math.inf, -math.inf, 3e38, 1e-40)
KEYS = ("1", "2", " ", "\x1b[A", "q", "é\udc80", "1" * 1000)


def line(body):
    return b":" + b64encode(body + zlib.crc32(body).to_bytes(4, "little")) + b"\r"


def head(draw, number, index, n):
    fields = [number, index, draw.choice(NUMBERS), *(draw.choice(NUMBERS) * draw.randrange(2) for _ in range(2)), n]
    if not draw.randrange(5):
        fields[draw.randrange(2)] = draw.choice(NUMBERS)
    return streaming.HEAD.pack(*[value & 0xFFFFFFFF for value in fields])


def session(draw):
    """Returns a Session of any sensor that records into the working folder."""
    kind, n = draw.choice("hf"), draw.choice((1, 3, 6))
    is_polled, counts = draw.random() < 0.5, (1.0,) * n if kind == "h" else ()
    is_audio = not is_polled and kind == "h" and n == 1
    rate_hz = 16000 if is_audio else draw.choice((0.1, 1, 50, 5000))
    sensor = Sensor("s", tuple((f"c{i}", "g") for i in range(n)), rate_hz, counts, is_polled, "", (), is_audio)
    receiver = streaming.Receiver(rate_hz, n, kind, is_polled)
    found = capture.Session(
        Recordings(f"data/{draw.randrange(1 << 40)}", "me", sensor),
        receiver,
        {"1": "a", "2": "b"},
        "a",
        draw.choice((None, 1)),
    )
    return sensor, found


def record(draw):
    """Records what a hostile board sends; asserts that the counts are those of samples."""
    sensor, made = session(draw)
    sample_bytes = {"h": 2, "f": 4}[sensor.kind] * len(sensor.channels) + 2 * sensor.is_polled
    index = 0
    for number in range(draw.randrange(1, 30)):
        if not draw.randrange(10):
            made.press(draw.choice(KEYS))
        n = draw.choice((0, 1, 2, 5, 20))
        data = draw.randbytes(n * sample_bytes)
        if not draw.randrange(3):
            data = (struct.pack("<f", draw.choice(FLOATS)) * len(data))[: len(data)]
        made.take(line(head(draw, number, index, n) + data) if draw.randrange(20) else draw.randbytes(40))
        index += n
    made.describe()
    made.recordings.close()
    found = capture._summary(made, sensor, None)
    assert min(found[key] for key in ("samples", "late", "lost", "damaged")) >= 0
    assert capture.render(found) and capture.remarks(found, sensor) is not None


def watch(draw):
    """Shows what a hostile board says of a model."""
    labels = ("a", "b\x1b[2J", "c")[: draw.randrange(4)]
    watcher, number = monitor.Watcher(labels, draw.choice((0.1, 50, 16000))), 0
    for _ in range(20):
        n = draw.choice((0, 1, 2))
        body = head(draw, draw.choice((number, number, *NUMBERS)), draw.choice(NUMBERS), n)
        hop = watcher.take(line(body + draw.randbytes(n * (3 + len(labels)))))
        number += n
        if hop:
            assert monitor.bars(hop, labels) and monitor.render_hop(hop, labels)


def fuzz(n, seed):
    for i in range(n):
        draw = random.Random(f"{seed} {i}")
        try:
            record(draw)
            watch(draw)
        except Exception as error:
            raise AssertionError(f"number {i} of seed {seed}") from error


def test_hostile_blocks_and_hops_are_counted_and_shown(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fuzz(N_IN_CI, 1)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        fuzz(int(sys.argv[1]), int(sys.argv[2]))
    print(f"{sys.argv[1]} recordings and watches, none failed")
