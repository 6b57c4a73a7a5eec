"""Sampler: keeps the rate at which a sensor is read, and counts what came late or not at all."""

try:
    from time import sleep_ms, ticks_add, ticks_diff, ticks_us
except ImportError:  # CircuitPython and CPython
    from time import monotonic_ns, sleep

    def ticks_us():
        return monotonic_ns() // 1000

    def ticks_add(ticks, delta):
        return ticks + delta

    def ticks_diff(a, b):
        return a - b

    def sleep_ms(ms):
        sleep(ms / 1000)


_MAX_CATCH_UP = 100  # periods


class Sampler:
    """Samples at a fixed rate, each due at its place on a grid that begins with the first, so no drift adds up.

        for sample in Sampler(imu.read, 50): ...            # waits, reads, gives what read returned; never ends
        async for sample in Sampler(imu.read, 50): ...      # other tasks run while it waits
        if sampler.ready(): sample = next(sampler)          # in a loop of your own

    A sample is late if it was read long after it was due, and lost if the next one was due already: then it is left
    out, and ``gap`` says so. A stream knows nothing of it. After a few lost samples push the next one gap + 1 times;
    after many reset the stream. If samples are lost again and again, the rate is too high for what is done with them.
    Waiting and counting allocate nothing on MicroPython but in ``async for``.

    Args:
        read: called without arguments when a sample is due. None if only wait and ready are used.
        rate_hz: 0.01..50000 samples a second; it need not divide a second.
        late_us: a sample read more microseconds than this after it was due is late. Default: half a period.

    Attributes:
        late, lost: samples so far.    gap: samples lost just before the last one.
        step_us: microseconds from the sample before to the last one, as it really was; 0 for the first.
        period_us: microseconds between two samples, rounded down.

    Raises:
        ValueError: if the rate or late_us is out of range.
    """

    def __init__(self, read, rate_hz, late_us=None):
        if not 0.01 <= rate_hz <= 50000:
            raise ValueError(f"rate_hz: got {rate_hz}, expected 0.01..50000")
        if rate_hz < 1:
            self._rate_mhz = 1
            self.period_us, self._rest = int(1000000 / rate_hz + 0.5), 0
        else:  # the part of a period below 1 us, times the rate, is saved up until it makes one
            self._rate_mhz = int(1000 * rate_hz + 0.5)
            self.period_us, self._rest = 1000000000 // self._rate_mhz, 1000000000 % self._rate_mhz
        self._late_us = self.period_us // 2 if late_us is None else late_us
        if self._late_us < 0:
            raise ValueError(f"late_us: got {late_us}, expected 0 or more")
        self._read = read
        self.late = self.lost = 0
        self.restart()

    def restart(self):
        """Begins a new grid: the next sample is due at once. late and lost keep counting."""
        self.gap = self.step_us = self._unseen = self._saved = self._due = self._last = 0
        self._started = False

    def ready(self):
        """Returns whether the next sample is due."""
        return self._left_us() <= 0

    def wait(self):
        """Waits until the next sample is due and counts it as read now; returns gap."""
        left = self._left_us()
        if left > 2000:
            sleep_ms(left // 1000 - 1)
        while left > 0:
            left = self._left_us()
        return self._take(left)

    def __iter__(self):
        return self

    def __next__(self):
        self.wait()
        return self._read()

    def __aiter__(self):
        return self

    async def __anext__(self):
        left = self._left_us()
        while left > 0:
            await _async_sleep_ms(left // 1000 - 1 if left > 2000 else 0)
            left = self._left_us()
        self._take(left)
        return self._read()

    def _left_us(self):
        """Returns the microseconds until the next sample is due; the first one is due at once."""
        if self._started:
            left = ticks_diff(self._due, ticks_us())
            if left <= self.period_us + 1:
                return left
            # The clock went round (after 9 minutes on a board) or stood still: how often is unknown and counts as one.
            self._unseen = 1
        self._started = True
        self._due = self._last = ticks_us()
        return 0

    def _take(self, left):
        """Counts a sample that is read when ``left`` microseconds, 0 or less, remain; returns gap."""
        gap, self._unseen = self._unseen, 0
        now = ticks_add(self._due, -left)
        self.step_us = ticks_diff(now, self._last)
        self._last = now
        if -left // self.period_us > _MAX_CATCH_UP:
            gap += -left // self.period_us
            self._due, left = now, 0
        while left <= -self.period_us:
            left += self._advance()
            gap += 1
        if left < -self._late_us:
            self.late += 1
        self._advance()
        self.gap = gap
        self.lost += gap
        return gap

    def _advance(self):
        """Moves to the next place of the grid; returns by how many microseconds."""
        step = self.period_us
        self._saved += self._rest
        if self._saved >= self._rate_mhz:
            self._saved -= self._rate_mhz
            step += 1
        self._due = ticks_add(self._due, step)
        return step


async def _async_sleep_ms(ms):
    try:
        from asyncio import sleep_ms
    except ImportError:  # CPython
        from asyncio import sleep

        await sleep(ms / 1000)
        return
    await sleep_ms(ms)
