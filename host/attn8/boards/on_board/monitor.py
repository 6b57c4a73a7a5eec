"""What a model says of a sensor, sample by sample, at every hop. Behind capture.py; needs attn8."""
# ruff: noqa: F821, SIM113 (names of capture.py and those before it; enumerate allocates)

import sys
from array import array

import attn8

_MAX_GAP = 3  # lost samples that the last one stands in for; after more everything begins anew (data.max_gap)


class Windows:
    """What model.stream() is, for a model that also sees what is to come: it runs a whole window at every hop."""

    def __init__(self, model):
        self.model, self.output = model, model.output
        width = model.n_channels
        self.samples = array("h", [0] * (model.n_steps * width))
        self.view = memoryview(self.samples)
        self.hop, self.size = model.hop * width, model.n_steps * width
        self.kept = max(0, self.size - self.hop)
        self.reset()

    def reset(self):
        self.filled = self.skipped = 0

    def push(self, samples):
        """Takes counts of one sample or more; returns how many windows they ended."""
        n, i, ended = len(samples), 0, 0
        while i < n:
            k = min(n - i, self.skipped or self.size - self.filled)
            if self.skipped:  # between two windows, where hop is larger than one
                self.skipped -= k
            else:
                self.view[self.filled : self.filled + k] = samples[i : i + k]
                self.filled += k
                if self.filled == self.size:
                    self.model.run(self.samples)
                    ended += 1
                    self.view[: self.kept] = self.view[self.size - self.kept :]
                    self.filled, self.skipped = self.kept, max(0, self.hop - self.size)
            i += k
        return ended

    def predict(self):
        return self.model.decide(self.output)


class Watch:
    """Everything from the numbers of a sensor to a line for the computer.

    Args:
        picks: for each channel of the model its place in a sample of the sensor.
        scales: None where the sensor's counts are the model's; else (counts of the sensor in one unit, counts of the
            model) for each channel: numbers are brought to units and back to counts, as stream(units=True) does.
    """

    def __init__(self, model, picks, scales):
        self.model, self.picks, self.scales = model, picks, scales
        try:
            self.stream = model.stream()
        except attn8.ModelError:
            self.stream = Windows(model)
        self.detector = attn8.Detector(model, smooth=1)  # for the score of each class
        self.counts = array("h", [0] * len(picks))
        self.view = memoryview(self.counts)
        self.number = self.resets = 0

    def miss(self, gap):
        """Takes lost samples; returns how many outputs became due."""
        if gap > _MAX_GAP:
            self.stream.reset()
            self.resets += 1
            return 0
        due = 0
        for _ in range(gap):
            due += self.stream.push(self.view)
        return due

    def push(self, values, start=0):
        """Takes the sample that begins at a place of values; returns how many outputs became due."""
        i = 0
        for pick in self.picks:
            value = values[start + pick]
            if self.scales:
                sensor, model = self.scales[i]
                value = round(value / sensor * model)
                value = 32767 if value > 32767 else -32768 if value < -32768 else value
            self.counts[i] = value
            i += 1
        return self.stream.push(self.view)

    def push_all(self, values, n, width):
        """Takes n samples of a sensor of so many channels."""
        due = 0
        if self.scales or list(self.picks) != list(range(width)):
            for start in range(0, n * width, width):
                due += self.push(values, start)
            return due
        view, step = memoryview(values), self.model.hop * width
        for start in range(0, n * width, step):
            due += self.stream.push(view[start : min(start + step, n * width)])
        return due

    def tell(self, place, t_us, late, lost):
        """Sends what the model says now."""
        label, score = self.stream.predict()
        self.detector.update(self.stream.output)
        index = self.model.labels.index(label) if label is not None else 255
        head = head_of(self.number, place, t_us, late, lost, 1)
        sys.stdout.write(line_of(head + bytes([index, score, min(self.resets, 255)]) + bytes(self.detector.scores)))
        self.number += 1


def monitor(source, kind, n_channels, sampler, watch, n_check, ending):
    """Watches a source that is read one by one, until the end is asked for, which happens every n_check samples."""
    values, place, t_us, failed, row, missing, n = array(kind, [0] * n_channels), -1, 0, 0, 0, 0, 0
    while n % n_check or not ending.asked():
        gap, n = sampler.wait(), n + 1
        place, missing = place + gap + 1, missing + gap
        t_us = (t_us + sampler.step_us) & 0x3FFFFFFF
        try:
            source.read(values)
            row = 0
        except OSError:
            row, failed, missing = row + 1, failed + 1, missing + 1
            if row >= _FAILURES and row * sampler.period_us > 1000000:
                raise
            continue
        due, missing = watch.miss(missing), 0
        if due + watch.push(values):
            watch.tell(place, t_us, sampler.late, sampler.lost + failed)
    sys.stdout.write(line_of(head_of(watch.number, place, t_us, sampler.late, sampler.lost + failed, 0)))


def monitor_chunks(source, n_channels, watch, ending):
    """Watches a source with a buffer of its own."""
    source.start()
    place = lost = t_us = 0
    last_us = ticks_us()
    while not ending.asked():
        n = source.take()
        now = ticks_us()
        t_us, last_us = (t_us + ticks_diff(now, last_us)) & 0x3FFFFFFF, now
        lost, place = lost + source.gap, place + source.gap + n
        due = watch.miss(source.gap)
        if due + watch.push_all(source.values, n, n_channels):
            watch.tell(place, t_us, 0, lost)
    sys.stdout.write(line_of(head_of(watch.number, place, t_us, 0, lost, 0)))
