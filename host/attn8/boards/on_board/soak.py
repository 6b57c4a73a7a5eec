"""Runs on a board, behind measure.py: windows for a long time, with a row of what changes every few seconds."""
# ruff: noqa: F821 (names of measure.py)

_MOST_C, _LEAST_C = 150, -55  # what a die can have; an emulated or broken sensor says other things
_LEAST_MV = 1000


def temperature():
    """Returns a function that gives the temperature of the die in tenths of a degree, or None where none is told."""
    try:
        import microcontroller

        return lambda: int(microcontroller.cpu.temperature * 10)
    except ImportError:
        pass
    try:
        import esp32

        if hasattr(esp32, "mcu_temperature"):
            return lambda: int(esp32.mcu_temperature() * 10)
        return lambda: (esp32.raw_temperature() - 32) * 50 // 9
    except (ImportError, AttributeError):
        pass
    try:
        import sys

        from machine import ADC

        if sys.platform != "rp2":
            return None
        sensor = ADC(ADC.CORE_TEMP)
        # RP2040 datasheet, 4.9.5: 27 degrees at 0.706 V, 1.721 mV less for each more.
        return lambda: int(10 * (27 - (sensor.read_u16() * 3.3 / 65535 - 0.706) / 0.001721))
    except (ImportError, AttributeError, ValueError):
        return None


def supply():
    """Returns a function that gives the supply in millivolts, or None where it cannot be read."""
    try:
        import microcontroller

        return lambda: int(microcontroller.cpu.voltage * 1000)
    except ImportError:
        pass
    import sys

    name = getattr(sys.implementation, "_machine", "")
    if not name.startswith("Raspberry Pi Pico") or "W" in name:  # there the pin belongs to the radio
        return None
    try:
        from machine import ADC

        pin = ADC(3)  # GPIO29: a third of VSYS
        return lambda: pin.read_u16() * 9900 // 65535
    except (ImportError, ValueError):
        return None


def told(read, least, most):
    """Returns what a function gives, as text; "-" for none and for what cannot be."""
    try:
        value = read()
    except (TypeError, OSError, RuntimeError, ValueError):  # TypeError: no function, or no value
        return "-"
    return str(value) if least <= value <= most else "-"


def soak(bench, rows, row_ms, hz):
    """Runs one window again and again, and prints a row every row_ms."""
    die, volts = temperature(), supply()
    bench.draw(bench.n_values)
    expected = bytes(bench.m.run(bench.window))
    ticks = Ticks(hz)
    try:
        at_ms = 0
        for _ in range(rows):
            n, total, most, wrong, ms = _row(bench, row_ms, expected)
            at_ms += ms
            gc.collect()
            values = at_ms, n, total // n, most, wrong, gc.mem_free()
            die_c, supply_mv = told(die, 10 * _LEAST_C, 10 * _MOST_C), told(volts, _LEAST_MV, 50000)
            say(f"R {' '.join([str(v) for v in values])} {die_c} {supply_mv}")
    finally:
        ticks.stop()


def _row(bench, row_ms, expected):
    """Returns windows, their microseconds in all and at most, how many gave other outputs, and milliseconds."""
    n = total = most = wrong = elapsed_ms = left_us = 0
    begin = ticks_us()
    while elapsed_ms < row_ms:
        us = bench.one()
        total, most, n = total + us, max(most, us), n + 1
        wrong += bytes(bench.m.output) != expected
        now = ticks_us()
        left_us += ticks_diff(now, begin)
        elapsed_ms, left_us, begin = elapsed_ms + left_us // 1000, left_us % 1000, now
    return n, total, most, wrong, elapsed_ms
