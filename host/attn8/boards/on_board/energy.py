"""Runs on a board, behind measure.py: first nothing, then windows back to back, for a meter to see the difference."""
# ruff: noqa: F821 (names of measure.py)


def energy(bench, idle_ms, busy_ms, marker, meter):
    """Waits, then runs windows; prints when each begins and ends, and what a meter on the board read.

    Args:
        marker: number or name of a pin that is high while windows run, or None.
        meter: None, or an object with read() and every_ms.
    """
    pin = None
    if marker is not None:
        from machine import Pin

        pin = Pin(marker, Pin.OUT, value=0)
    try:
        say("I")
        idle = _idle(idle_ms, meter)
        say("B")
        if pin:
            pin.value(1)
        n, ms, busy = _busy(bench, busy_ms, meter)
        if pin:
            pin.value(0)
        say(f"D {n} {ms}")
    finally:
        if pin:
            pin.value(0)
    for name, readings in (("i", idle), ("b", busy)):
        for at in range(0, len(readings), 16):
            pairs = " ".join([f"{current},{bus}" for current, bus in readings[at : at + 16]])
            say(f"{name} {pairs}")


def _idle(ms, meter):
    """Sleeps; returns the readings of it. The first comes when a whole conversion lies within."""
    if meter is None:
        sleep_ms(ms)
        return []
    readings, every = [], meter.every_ms
    sleep_ms(2 * every)
    for _ in range(max(1, ms // every)):
        readings.append(meter.read())
        sleep_ms(every)
    return readings


def _busy(bench, ms, meter):
    """Runs windows; returns how many, the milliseconds, the readings."""
    n = elapsed_ms = left_us = 0
    readings, every = [], meter.every_ms if meter else ms + 1
    due = 2 * every
    begin = ticks_us()
    while elapsed_ms < ms:
        bench.m.run(bench.window)
        n += 1
        now = ticks_us()
        left_us += ticks_diff(now, begin)
        elapsed_ms, left_us, begin = elapsed_ms + left_us // 1000, left_us % 1000, now
        if meter and elapsed_ms >= due:
            readings.append(meter.read())
            due = elapsed_ms + every
    return n, elapsed_ms, readings
