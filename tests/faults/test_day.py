"""A day of a stream, 172,800 hops in virtual time: no byte of heap more at its end, and what came out is the batch's.

Samples come late, get lost or stay away for seconds, also where the board's ticks go round. The reference runs over the
whole recording. pytest runs 20 minutes of the day; all of it: python tests/faults/test_day.py [HOPS] [BACKEND]..
"""

import math
import shutil
import sys
import time
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from zlib import crc32

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parent))

import numpy as np
import pytest

import micropython_builds as builds
from attn8 import arithmetic, graph, reference, stream
from attn8 import micropython as mp
from attn8.pack import pack
from fake_sleep import WRAP
from models import Shape, build_graph
from tools import ROOT

DAY_HOPS = 24 * 3600 * 2
CI_HOPS = 2400
RATE_MHZ, A, B, MAX_GAP = 52000, 4093, 4099, 3  # as in day.py
HOP = 26  # half a second
PERIOD_US = 1e9 / RATE_MHZ
WIDE = Shape(n_steps=104, n_channels=2, kernel=8, stride=4, left=12, ff=16, layers=2, n_outputs=4).causal(hop=HOP)
SMALL = replace(WIDE, kernel=26, stride=26, left=3, ff=8, layers=1)  # a token a hop
# Name: shape, native module, viper kernels, as a task of asyncio.
BACKENDS = {
    "native": (WIDE, True, True, False),
    "viper": (WIDE, False, True, False),
    "bytecode": (SMALL, False, False, False),
    "async": (SMALL, True, True, True),
}
SMOOTH, THRESHOLD, REFRACTORY = 5, 55, 7
CHUNK_HOPS = 8000
HEAP_BYTES = 1 << 20


# ---- what the day brings -------------------------------------------------------------------------------------------

# Periods from a sample to the look at the clock behind it. Less than 2 is late, or just not; each more loses one.
DELAYS = (1.25, 1.75, 2.25, 4.25, 4.75, 9.25, 2.75)
ABSENCE = 250.3  # after more than 100 lost samples the grid begins anew
ABSENT_AT = (900, 1500)  # hops


def faults(n_hops, seed=1):
    """Returns the faults of a day, [(place, periods)]: some at random, and around each time that the ticks go round."""
    rng = np.random.default_rng(seed)
    n = n_hops * HOP
    wraps = [int((3e6 + i * WRAP) / PERIOD_US) for i in range(1 + int(n * PERIOD_US / WRAP))]
    places = {place + i: None for place in wraps for i in (-12, -2, 9, 20)}
    places |= {int(place): None for place in rng.integers(300, n, n // 700)}
    absent = [hop * HOP + 7 for hop in ABSENT_AT]
    found, last = [], 0
    for place in sorted([*places, *absent]):
        if place < last + 10:  # each begins from a sample that came in time
            continue
        delay = ABSENCE if place in absent else DELAYS[rng.integers(len(DELAYS))]
        found.append((place, delay))
        last = place + int(delay)
    return found


@dataclass
class Day:
    """What a Sampler must do on such a day.

    Attributes:
        late, lost, resets: how many.    recordings: lists of arrays of the numbers of samples that are pushed.
        offset: periods by which the last grid lies behind the first.
    """

    late: int = 0
    lost: int = 0
    resets: int = 0
    offset: float = 0.0
    recordings: list = field(default_factory=lambda: [[]])


def expected_day(faults, n_samples):
    """Returns the Day over about so many samples, reckoned in periods and without any clock."""
    day, origin, place = Day(), 0.0, 0  # the next sample is due at origin + place
    for at, delay in faults:
        now = origin + place
        at = max(at, math.floor(now))
        if at >= n_samples:
            break
        first, last = math.floor(now), at
        n = last - first + 1
        day.recordings[-1].append(np.arange(first, last + 1))
        place += n
        behind = delay - 1  # periods from when the next one was due
        gap = int(behind)
        now = origin + place + behind
        if gap > 100:
            origin, place = now, 0
        else:
            place += gap
            day.late += behind - gap > 0.5
        day.lost += gap
        if gap > MAX_GAP:
            day.resets += 1
            day.recordings.append([])
            gap = 0
        day.recordings[-1].append(np.full(gap + 1, math.floor(now)))
        place += 1
    day.offset = origin % 1
    first = math.floor(origin + place)
    day.recordings[-1].append(np.arange(first, max(first, n_samples)))
    return day


# ---- the batch -----------------------------------------------------------------------------------------------------


def tables(seed=2):
    """Returns the tables of the sensor: (A,) and (B,) int16, noise on slow waves of changing size."""
    rng = np.random.default_rng(seed)
    found = []
    for n, waves in ((A, 37), (B, 11)):
        angle = 2 * np.pi * np.arange(n) / n
        size = 3000 * (1 + np.sin(3 * angle))
        found.append((size * np.sin(waves * angle) + rng.normal(0, 300, n)).astype(np.int16))
    return found


def samples_of(numbers):
    """Returns (n, 2) int16: the samples of these numbers, as day.py makes them."""
    a, b = (table[numbers % len(table)] for table in tables())
    return np.stack([a + b, a - b], axis=1)


def reach_samples(parsed):
    """Returns a bound on how many samples back an output of a stream looks."""
    total = parsed.graph.n_steps
    times = stream.timing(parsed)
    for op in parsed.graph.ops:
        stride = (times[reference.op_sources(op)[0]] or (0,))[0]
        if isinstance(op, graph.Conv1d):
            total += stride * op.weights.shape[1]
        if isinstance(op, graph.WindowedAttention):
            total += stride * op.left
    return total


def run_recording(data, numbers):
    """Returns what Reference.run_recording does of a long recording, piece by piece."""
    batch = reference.Reference(data)
    step = math.lcm(HOP, *[time[0] for time in stream.timing(batch.model) if time])
    hops = CHUNK_HOPS // (step // HOP) * (step // HOP)
    warm = -(-reach_samples(batch.model) // step) * (step // HOP)
    n_steps, found = batch.graph.n_steps, []
    for first in range(0, max(1, (len(numbers) - n_steps) // HOP + 1), hops):
        before = min(first, warm)
        begin, end = (first - before) * HOP, n_steps + (first + hops - 1) * HOP
        found.append(batch.run_recording(samples_of(numbers[begin:end]))[before:])
    return np.concatenate(found)


def detected(parsed, outputs):
    """Returns bytes (n, 2): what a Detector says of the outputs (n, n_outputs) of a recording, and its score."""
    y = outputs.astype(np.int64)
    e = arithmetic.softmax_index(y.max(1, keepdims=True) - y, parsed.graph.score)
    z = e.sum(1, keepdims=True)
    scores = np.pad((100 * e + (z >> 1)) // z, ((SMOOTH, 0), (0, 0))).cumsum(0)
    sums = scores[SMOOTH:] - scores[:-SMOOTH]
    active, rest, told = -1, 0, bytearray()
    for row in sums.tolist():
        if active >= 0 and row[active] < THRESHOLD * 2 // 3 * SMOOTH:
            active = -1
        best = active
        for i in range(1, len(row)):  # the first label is ignored
            if best < 0 or row[i] > row[best]:
                best = i
        rest = max(0, rest - 1)
        begins = best != active and row[best] >= THRESHOLD * SMOOTH and not rest
        if begins:
            active, rest = best, REFRACTORY
        told += bytes([active + 1 if begins else 0, (row[active if active >= 0 else best] + SMOOTH // 2) // SMOOTH])
    return bytes(told)


@cache
def batch(shape, n_hops):
    """Returns (Day, sums, number of events, number of the last sample) of the batch: see expected_sums."""
    day = expected_day(faults(n_hops), int(1.1 * n_hops * HOP) + 5000)
    return day, *expected_sums(model_of(shape), day, n_hops)


def model_of(shape):
    return pack(build_graph(shape, seed=4))


def expected_sums(data, day, n_hops):
    """Returns {hop: (sum of outputs, sum of events)} of a day, how many events, and the number of its last sample."""
    parsed, sums, hop, n_events = reference.parse(data), {}, 0, 0
    of_outputs = of_events = 0
    for pieces in day.recordings:
        numbers = np.concatenate(pieces)
        found = run_recording(data, numbers)[: n_hops - hop]
        events = detected(parsed, found)
        for i in range(len(found)):
            of_outputs = crc32(found[i].tobytes(), of_outputs)
            of_events = crc32(events[2 * i : 2 * i + 2], of_events)
            hop += 1
            sums[hop] = of_outputs, of_events
        n_events += sum(code > 0 for code in events[::2])
        if hop == n_hops:
            return sums, n_events, int(numbers[parsed.graph.n_steps + (len(found) - 1) * HOP - 1])
    raise AssertionError(f"the day has {hop} hops, not {n_hops}")


# ---- the board -----------------------------------------------------------------------------------------------------


def run_on_micropython(name, data, faults, n_hops):
    """Runs day.py; returns [(hop, sum of outputs, sum of events, heap bytes)] and {what it printed: value}."""
    _, native, viper, as_task = BACKENDS[name]
    with mp.workspace() as folder:
        for file in ("faults/day.py", "fake_sleep.py", "fake_machine.py"):
            shutil.copy(ROOT / "tests" / file, folder)
        if native:
            shutil.copy(builds.natmod("x64"), folder / "_attn8.mpy")
        if not viper:
            for file in (folder / "attn8").glob("_*viper.py"):
                file.unlink()
        (folder / "model.a8").write_bytes(data)
        (folder / "tables").write_bytes(b"".join(table.tobytes() for table in tables()))
        pairs = [number for place, delay in faults for number in (place, int(delay * PERIOD_US))]
        (folder / "faults").write_bytes(np.array(pairs, "<u4").tobytes())
        arguments = [str(n_hops)] + ["async"] * as_task
        output = mp.UNIX.run_script(folder, "day.py", *arguments, heap_bytes=HEAP_BYTES, timeout_s=7200)
    lines = [line.split() for line in output.splitlines()]
    checks = [tuple(map(int, line[1:])) for line in lines if line[0] == "check"]
    return checks, {line[0]: line[1] for line in lines if line[0] != "check"}


def check(name, n_hops):
    """Runs a day of so many hops on a back end and compares all of it. Returns a line about it."""
    shape, native, viper, _ = BACKENDS[name]
    begun = time.time()
    checks, told = run_on_micropython(name, model_of(shape), faults(n_hops), n_hops)
    took_s = time.time() - begun
    assert told.pop("backend") == ("native" if native else "viper" if viper else "python")
    day, sums, n_events, last = batch(shape, n_hops)
    wrong = [hop for hop, *found, _ in checks if tuple(found) != sums[hop]]
    assert not wrong, f"other outputs or events than the batch at hop {wrong[0]} of {n_hops}, or before"
    assert checks[-1][0] == n_hops
    heap = {n_bytes for *_, n_bytes in checks}
    assert len(heap) == 1, f"heap in use: {sorted(heap)}"
    drift_us = int(told.pop("now_us")) - (last + day.offset) * PERIOD_US
    assert 0 <= drift_us <= 4000, drift_us  # the clock is looked at every 500 us, and three grids begin at such a look
    assert told == {"late": str(day.late), "lost": str(day.lost), "resets": str(day.resets)}
    assert min(n_events, *map(int, told.values())) > 0
    said = ", ".join(f"{value} {what}" for what, value in told.items())
    hours = last * PERIOD_US / 3.6e9
    return (
        f"{name}: {n_hops} hops and {n_events} events of {hours:.2f} h equal to the batch; {said}; "
        f"{heap.pop()} bytes of heap at the first hop and at the last; took {took_s:.0f} s"
    )


@pytest.mark.parametrize("name", BACKENDS)
def test_stream_of_a_day_is_the_batch_and_takes_no_byte_more_at_its_end(name):
    check(name, CI_HOPS)


def test_piecewise_reference_is_the_reference(monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "CHUNK_HOPS", 20)
    for shape in (WIDE, SMALL):
        data, numbers = model_of(shape), np.arange(104 + 149 * HOP)
        whole = reference.Reference(data).run_recording(samples_of(numbers))
        np.testing.assert_array_equal(run_recording(data, numbers), whole)
        assert len(np.unique(whole, axis=0)) > 30


if __name__ == "__main__":
    numbers = [int(word) for word in sys.argv[1:] if word.isdigit()]
    for backend in [word for word in sys.argv[1:] if not word.isdigit()] or BACKENDS:
        print(check(backend, numbers[0] if numbers else DAY_HOPS), flush=True)
