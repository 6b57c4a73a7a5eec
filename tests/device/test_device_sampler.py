"""The Sampler on a clock that passes only when somebody looks, sleeps or works. Runs unchanged on every Python."""

from case import raises

try:
    from attn8.device import sampler
except ImportError:
    import attn8.sampler as sampler

try:
    from time import ticks_us  # noqa: F401 (boards with CircuitPython have clocks that take memory)

    from micropython import heap_lock, heap_unlock
except ImportError:
    heap_lock = None

WRAP = 1 << 30  # of a board's ticks
LOOK_US = 200  # what a look at the clock takes


class Clock:
    """Stands in for the functions of time; ticks wrap as on a board."""

    def __init__(self, now=WRAP - 30000):
        self.now, self.oversleep_us, self.turns = now, 0, 0

    def ticks_us(self):
        self.now += LOOK_US
        return self.now % WRAP

    def ticks_add(self, ticks, delta):
        return (ticks + delta) % WRAP

    def ticks_diff(self, a, b):
        return (a - b + WRAP // 2) % WRAP - WRAP // 2

    def sleep_ms(self, ms):
        self.now += 1000 * ms + self.oversleep_us

    async def async_sleep_ms(self, ms):
        self.turns += 1
        self.sleep_ms(ms)


PLACES = (
    ("ticks_us", "ticks_us"),
    ("ticks_add", "ticks_add"),
    ("ticks_diff", "ticks_diff"),
    ("sleep_ms", "sleep_ms"),
    ("_async_sleep_ms", "async_sleep_ms"),
)


def with_clock(test, *arguments):
    """Runs a test on a clock of its own."""
    clock = Clock()
    kept = [getattr(sampler, place) for place, _ in PLACES]
    try:
        for place, name in PLACES:
            setattr(sampler, place, getattr(clock, name))
        test(clock, *arguments)
    finally:
        for i in range(len(PLACES)):
            setattr(sampler, PLACES[i][0], kept[i])


def test_samples_keep_to_the_grid_for_hours():
    def test(clock, rate_hz, n):
        s = sampler.Sampler(None, rate_hz)
        started = clock.now
        for i in range(n):
            assert s.wait() == 0
            clock.now += 300
            if i % 20 == 0:  # a build that collects no garbage has no room for all these long integers
                late_us = clock.now - 300 - started - i * 1000000000 // int(rate_hz * 1000)
                assert -2 <= late_us <= 3 * LOOK_US, (rate_hz, i, late_us)
        assert (s.late, s.lost) == (0, 0)

    for rate_hz, n in ((50, 200), (60, 1600), (12.5, 200), (104, 1600), (1000, 200), (0.125, 1200), (0.02, 200)):
        with_clock(test, rate_hz, n)


def test_samples_come_from_read_in_their_order():
    def test(clock):
        values = iter(range(100))
        s = sampler.Sampler(lambda: next(values), 50)
        found = []
        for sample in s:
            found.append(sample)
            if sample == 9:
                break
        assert found == list(range(10))
        assert next(s) == 10

    with_clock(test)


def test_first_sample_is_due_at_once_and_whenever_it_is_asked_for():
    def test(clock):
        s = sampler.Sampler(None, 50)
        clock.now += 5000000  # a model is loaded
        before = clock.now
        assert s.ready() and s.wait() == 0
        assert clock.now - before < 5 * LOOK_US
        assert (s.late, s.lost) == (0, 0)

    with_clock(test)


def test_late_counts_samples_read_after_half_a_period():
    def test(clock):
        s = sampler.Sampler(None, 50)
        s.wait()
        clock.now += 29000  # 9 ms after the next was due
        s.wait()
        assert (s.late, s.lost) == (0, 0)
        clock.now += 22000  # 11 ms
        s.wait()
        assert (s.late, s.lost) == (1, 0)
        s.wait()
        assert (s.late, s.lost) == (1, 0)

    with_clock(test)


def test_late_us_sets_what_late_means():
    def test(clock):
        s = sampler.Sampler(None, 50, late_us=3000)
        s.wait()
        clock.now += 22000
        s.wait()
        assert s.late == 0
        clock.now += 22000
        s.wait()
        assert s.late == 1

    with_clock(test)


def test_lost_counts_whole_periods_and_skips_them():
    def test(clock):
        s = sampler.Sampler(None, 50)
        started = clock.now
        s.wait()
        clock.now += 85000  # those of 20, 40 and 60 ms are over, that of 80 ms is not
        assert s.wait() == s.gap == 3
        assert (s.late, s.lost) == (0, 3)
        assert s.wait() == s.gap == 0
        assert abs(clock.now - started - 100000) < 5 * LOOK_US  # on the same grid as before
        assert s.lost == 3

    with_clock(test)


def test_a_sleep_that_takes_too_long_is_counted():
    def test(clock):
        s = sampler.Sampler(None, 50)
        s.wait()
        clock.oversleep_us = 15000
        s.wait()
        assert (s.late, s.lost) == (1, 0)
        clock.oversleep_us = 65000
        assert s.wait() >= 2
        assert s.lost == s.gap

    with_clock(test)


def test_a_long_absence_is_counted_and_begins_a_new_grid():
    def test(clock):
        s = sampler.Sampler(None, 1000)
        s.wait()
        clock.now += 300000400
        assert abs(s.wait() - 300000) <= 1
        before = clock.now
        assert s.wait() == 0
        assert abs(clock.now - before - 1000) < 300

    with_clock(test)


def test_a_clock_that_went_round_never_blocks():
    def test(clock):
        s = sampler.Sampler(None, 50)
        s.wait()
        clock.now += 700 * 1000000  # beyond half of a board's ticks
        before = clock.now
        assert s.wait() == 1
        assert clock.now - before < 5 * LOOK_US
        assert s.wait() == 0
        assert s.lost == 1

    with_clock(test)


def test_ready_tells_what_is_due_and_waits_for_nothing():
    def test(clock):
        s = sampler.Sampler(None, 50)
        s.wait()
        before = clock.now
        assert not s.ready()
        assert clock.now - before == LOOK_US
        clock.now += 20000
        assert s.ready() and s.ready()
        assert s.wait() == 0
        assert not s.ready()

    with_clock(test)


def test_restart_begins_a_new_grid_and_keeps_the_counts():
    def test(clock):
        s = sampler.Sampler(None, 50)
        s.wait()
        clock.now += 85000
        s.wait()
        clock.now += 9000000
        s.restart()
        assert s.wait() == s.gap == 0
        assert s.lost == 3

    with_clock(test)


def test_step_us_is_the_true_time_between_two_samples():
    def test(clock):
        s = sampler.Sampler(None, 50)
        s.wait()
        assert s.step_us == 0
        for work_us in (0, 19000, 27000, 95000, 3000000):
            before = clock.now
            clock.now += work_us
            s.wait()
            assert abs(s.step_us - (clock.now - before)) <= LOOK_US, work_us
        clock.now += 700 * 1000000
        s.wait()
        assert s.step_us == 0

    with_clock(test)


def test_async_for_gives_the_samples_and_lets_others_run():
    def test(clock):
        values = iter(range(100))
        s = sampler.Sampler(lambda: next(values), 50)
        found = []

        async def take():
            started = clock.now
            async for sample in s:
                found.append(sample)
                assert abs(clock.now - started - 20000 * sample) < 5 * LOOK_US
                if sample == 9:
                    break

        raises(StopIteration, take().send, None)  # no asyncio: not every build has it
        assert found == list(range(10))
        assert (s.late, s.lost) == (0, 0)
        assert clock.turns >= 9

    with_clock(test)


def test_real_clock_keeps_the_rate():
    s = sampler.Sampler(None, 200)
    started = sampler.ticks_us()
    s.wait()
    periods = 0
    while periods < 20:
        periods += 1 + s.wait()
    took = sampler.ticks_diff(sampler.ticks_us(), started)
    assert took >= 5000 * periods, (took, periods)


def test_rates_and_limits_out_of_range_are_refused():
    for rate_hz in (0, -1, 0.009, 50001):
        text = str(raises(ValueError, sampler.Sampler, None, rate_hz))
        assert text == f"rate_hz: got {rate_hz}, expected 0.01..50000"
    assert str(raises(ValueError, sampler.Sampler, None, 50, -1)) == "late_us: got -1, expected 0 or more"


if heap_lock:

    def locked(s, n):
        """A MemoryError must never leave the heap locked, so the lock stands inside a function."""
        heap_lock()
        try:
            for _ in range(n):
                s.ready()
                next(s)
        finally:
            heap_unlock()

    def nothing():
        pass

    def test_waiting_and_counting_allocate_nothing():
        s = sampler.Sampler(nothing, 1040.5)
        locked(s, 50)
        late = sampler.Sampler(nothing, 50000, late_us=0)
        locked(late, 50)
        slow = sampler.Sampler(nothing, 0.01)
        locked(slow, 1)
        slow.ready()
