"""Says what the sensor sees: keeps the last window of samples and predicts at every hop.

    mpremote cp -r lib : + cp model.a8 sensor.py main.py : + reset
    mpremote

Boards start main.py by themselves. Without a board: MICROPYPATH=lib micropython main.py 3 makes 3 predictions.
"""

import sys
from array import array

from sensor import CHANNELS, COUNTS_PER_UNIT, RATE_HZ, Clock, read_sample, ticks_diff, ticks_us

import attn8

MAX_GAP = 3  # lost samples that the last one stands in for; after more the window starts anew (data.max_gap)


class Scale:
    """Turns counts of the sensor into those that the model was trained on, in whole numbers.

    Floats would cost memory with every sample, and clearing that up would make samples late.
    """

    def __init__(self, model):
        counts = model.counts_per_unit
        self.numbers = [_fraction(counts[i] / COUNTS_PER_UNIT[i] if counts[i] else 1) for i in range(len(counts))]

    def put(self, values, window, at):
        """Writes a sample into the window, from place ``at`` on."""
        for i in range(len(values)):
            number, half, shift = self.numbers[i]
            window[at + i] = max(-32768, min(32767, values[i] * number + half >> shift))


def _fraction(factor):
    """Returns (number, half, shift) with factor = number / 2**shift, half to round; sums stay below 2**30."""
    shift = 0
    while factor < 8192 and shift < 29:
        factor, shift = 2 * factor, shift + 1
    return int(factor + 0.5), 1 << shift >> 1, shift


class Window:
    """The last n_steps samples, in one array that is made once."""

    def __init__(self, model):
        self.n_steps, self.width, self.hop = model.n_steps, model.n_channels, model.hop
        self.samples = array("h", [0] * (self.n_steps * self.width))
        view, kept = memoryview(self.samples), max(0, self.n_steps - self.hop) * self.width
        self.kept, self.head, self.tail = kept, view[:kept], view[len(view) - kept :]
        self.filled = 0

    def add(self, values, scale):
        """Adds a sample; returns True when the window is full."""
        if self.filled >= 0:  # below 0: the samples between two windows, where hop is larger than a window
            scale.put(values, self.samples, self.filled * self.width)
        self.filled += 1
        return self.filled == self.n_steps

    def advance(self):
        """Keeps what the next window has in common with this one."""
        self.head[:] = self.tail
        self.filled = self.n_steps - self.hop

    def restart(self):
        """Forgets everything: a window must not hold a hole."""
        self.filled = 0


def check(model):
    """Raises ValueError where the model was trained on other channels than the sensor has."""
    wanted = []
    for i in range(model.n_channels):
        name, unit = model.channels[i], model.units[i]
        wanted.append(f"{name} [{unit}]" if unit else name)
    if wanted != list(CHANNELS):
        raise ValueError(f"sensor.py: CHANNELS: got {list(CHANNELS)}, expected those of the model: {wanted}")


def main(n_predictions=None):
    """Predicts for ever, or n_predictions times."""
    model = attn8.load("model.a8")
    print(model)
    check(model)
    scale, window = Scale(model), Window(model)
    values = array("h", [0] * len(CHANNELS))
    clock = Clock(model.sample_rate_hz or RATE_HZ)
    done = 0
    while n_predictions is None or done < n_predictions:
        if collect(clock, values, scale, window):
            started = ticks_us()
            label, score = model.predict(window.samples)
            us = ticks_diff(ticks_us(), started)
            print(f"{label or '?'} {score}")
            window.advance()
            if not done:
                report_time(us, clock.period_us)
            done += 1
    print(f"{clock.late} samples late, {clock.lost} lost")


def collect(clock, values, scale, window):
    """Waits for the next sample and adds it; returns True when the window is full."""
    lost = clock.wait()
    if lost > MAX_GAP:
        window.restart()
        lost = 0
    for _ in range(lost):  # the sample before stands in; a full window waits for no prediction then
        if window.add(values, scale):
            window.advance()
    read_sample(values)
    return window.add(values, scale)


def report_time(us, period_us):
    """Says how long a prediction takes, and what follows from that."""
    print(f"a prediction takes {us // 1000} ms")
    if us > (MAX_GAP + 1) * period_us:
        print(f"that is longer than {MAX_GAP} samples: a whole window is recorded anew after each one")


if __name__ == "__main__":
    arguments = getattr(sys, "argv", ())
    main(int(arguments[1]) if len(arguments) > 1 else None)
