"""A day of a stream in virtual time: micropython day.py HOPS [async]. tests/faults/test_day.py says what must come out.

Beside it lie model.a8, ``faults`` (pairs of uint32: the place of a sample, microseconds that pass behind it) and
``tables`` (int16, from which the sensor makes its samples). It prints the state of things at some hops, and at the end.
"""

import gc
import sys
from array import array
from binascii import crc32

import fake_sleep

RATE_MHZ = 52000  # thousandths of a hertz; a period is no whole number of microseconds
A, B = 4093, 4099  # lengths of the tables: no two windows of a day are the same
MAX_GAP = 3
N_CHECKS = 32

fake_sleep.LOOK_US = 500
clock = fake_sleep.Clock(1000 * fake_sleep.WRAP - 3000000)  # both ticks go round after three seconds
sys.modules["time"] = fake_sleep.Time(clock)


class Asyncio:
    @staticmethod
    async def sleep_ms(ms):
        clock.advance(1000 * ms)


sys.modules["asyncio"] = Asyncio

import attn8  # noqa: E402  (it takes its clock when it is imported)


def numbers(path, item):
    with open(path, "rb") as f:
        return array(item, f.read())


class Sensor:
    """Gives the sample of the moment when it is read; afterwards time passes where a fault says so."""

    def __init__(self):
        self.tables, self.faults = numbers("tables", "h"), numbers("faults", "I")
        self.sample, self.place, self.at, self.start = array("h", [0, 0]), 0, 0, None

    def read(self):
        if self.start is None:
            self.start = clock.now
        place = (clock.now - self.start + 100) * RATE_MHZ // 1000000000  # a time that is due is rounded down
        a, b = self.tables[place % A], self.tables[A + place % B]
        self.sample[0], self.sample[1] = a + b, a - b
        self.place = place
        return self.sample

    def delay(self):
        if self.at < len(self.faults) and self.place >= self.faults[self.at]:
            clock.now += self.faults[self.at + 1]
            self.at += 2


class Day:
    """Counts hops, and keeps sums over outputs and events.

    Attributes:
        checks: array of 4 numbers each time: the hop, the sums of outputs and events, bytes of the heap in use.
    """

    def __init__(self, n_hops, collect):
        self.model = attn8.load("model.a8")
        self.stream = self.model.stream()
        labels = self.model.labels
        self.detector = attn8.Detector(self.model, smooth=5, threshold=55, refractory=7, ignore=labels[0])
        self.sensor = Sensor()
        self.sampler = attn8.Sampler(self.sensor.read, RATE_MHZ / 1000)
        self.n_hops, self.collect, self.hop, self.resets = n_hops, collect, 0, 0
        self.outputs = self.events = 0
        self.event = bytearray(2)
        self.step, self.n_checks = n_hops // N_CHECKS, 0
        self.checks = array("Q", [0] * (4 * (n_hops // self.step + 1)))

    def take(self, sample):
        """Pushes a sample as often as it stands in for others; returns whether the day is over."""
        gap = self.sampler.gap
        if gap > MAX_GAP:
            self.stream.reset()
            self.detector.reset()
            self.resets += 1
            gap = 0
        for _ in range(gap + 1):
            if self.stream.push(sample):
                self.count(self.stream.output)
        self.sensor.delay()
        return self.hop >= self.n_hops

    def count(self, output):
        began = self.detector.update(output)
        self.event[0] = self.model.labels.index(began) + 1 if began else 0
        self.event[1] = self.detector.score
        self.outputs, self.events = crc32(output, self.outputs), crc32(self.event, self.events)
        self.hop += 1
        if self.hop == 1 or self.hop % self.step == 0:
            self.check()

    def check(self):
        if self.collect:
            gc.collect()
        at = 4 * self.n_checks
        self.checks[at], self.checks[at + 1], self.checks[at + 2] = self.hop, self.outputs, self.events
        self.checks[at + 3] = gc.mem_alloc()
        self.n_checks += 1

    def run(self):
        for sample in self.sampler:
            if self.take(sample):
                return

    async def run_async(self):
        async for sample in self.sampler:
            if self.take(sample):
                return


def main(n_hops, as_task):
    day = Day(n_hops, as_task)
    if as_task:
        try:  # noqa: SIM105 (a board has no contextlib)
            day.run_async().send(None)
        except StopIteration:
            pass
    else:
        gc.collect()
        gc.disable()  # nothing is collected all day, so nothing may be thrown away
        day.run()
    for i in range(0, 4 * day.n_checks, 4):
        print("check", *day.checks[i : i + 4])
    sampler, sensor = day.sampler, day.sensor
    print("backend", attn8.backend)
    print("late", sampler.late)
    print("lost", sampler.lost)
    print("resets", day.resets)
    print("now_us", clock.now - sensor.start)


if __name__ == "__main__":
    main(int(sys.argv[1]), "async" in sys.argv)
