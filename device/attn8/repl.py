"""What a person at the REPL asks a Model for: its repr, tables, and the time of each op."""

import sys
import time

# Cycles of a multiply-accumulate on a Cortex-M0+, all other work included: the shipped model on an emulated RP2040.
CYCLES_PER_MAC = {"native armv6m": 4, "native armv6m portable": 12.5, "viper": 25, "python": 969}
_ARMV6M = 4
_processor = (getattr(sys.implementation, "_mpy", 0) >> 10) & 15  # that the firmware makes code for


class Table(list):
    """A list of equally long tuples that prints as aligned columns."""

    def __repr__(self):
        rows = [[str(value) for value in row] for row in self]
        if not rows:
            return "[]"
        widths = [max([len(row[i]) for row in rows]) for i in range(len(rows[0]))]
        return "\n".join([_line(row, widths) for row in rows])

    __str__ = __repr__  # which print takes on MicroPython


def _line(row, widths):
    """Returns a row with its columns padded to their widths, numbers to the right."""
    columns = []
    for text, width in zip(row, widths):  # noqa: B905 (MicroPython's zip takes no keyword)
        pad = " " * (width - len(text))
        columns.append(pad + text if text.isdigit() else text + pad)
    return "  ".join(columns).rstrip()


def profile(m, window):
    """Returns a Table of (index, name, microseconds) of each op of a window; op 0 makes the input."""
    names = ["input"] + [op[1] for op in m.ops()]
    times = []
    start = _ticks_us()
    m.start(window)
    times.append(_since(start))
    for _ in names[1:]:
        start = _ticks_us()
        m.step()
        times.append(_since(start))
    return Table([(i, names[i], times[i]) for i in range(len(names))])


if hasattr(time, "ticks_us"):
    _ticks_us = time.ticks_us

    def _since(start):
        return time.ticks_diff(time.ticks_us(), start)

else:  # CPython and CircuitPython

    def _ticks_us():
        return time.monotonic_ns()

    def _since(start):
        return (time.monotonic_ns() - start) // 1000


def window_ms(m):
    """Returns the estimated milliseconds of a window; None where the clock is not known or is no Cortex-M0+'s."""
    if _processor != _ARMV6M:
        return None
    try:
        import machine

        clock_hz = machine.freq()
    except (ImportError, AttributeError):
        return None
    if isinstance(clock_hz, tuple):
        clock_hz = clock_hz[0]
    cycles = CYCLES_PER_MAC.get(m.kernels)
    return m.macs * cycles / clock_hz * 1000 if cycles else None


def summary(m):
    """Returns the repr of a model."""
    steps, channels = m.input_shape
    version = f" v{m.version}" if m.version else ""
    sizes = f"{_kb(m.model_bytes)} kB, arena {_kb(m.arena_bytes)} kB"
    ms = m.window_ms
    time_of_window = "" if ms is None else f", ~{ms:.0f} ms" if ms >= 9.95 else f", ~{ms:.1f} ms"
    shape = f"{steps}x{channels} -> {m.n_outputs} classes"
    return f"Model '{m.name}'{version}: {shape}, {sizes}, {m.kernels}{time_of_window}"


def _kb(n_bytes):
    """Returns kilobytes of 1024 bytes with one decimal, without floats."""
    tenths = (n_bytes * 10 + 512) // 1024
    return f"{tenths // 10}.{tenths % 10}"
