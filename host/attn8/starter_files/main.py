"""Says what the sensor sees: what the model takes it for at every hop, and when a movement begins.

    mpremote cp -r lib : + cp model.a8 sensor.py main.py : + reset
    mpremote

Boards start main.py by themselves. Without a board: MICROPYPATH=lib micropython main.py 3 makes 3 predictions.
"""

import sys
from array import array

from sensor import CHANNELS, COUNTS_PER_UNIT, RATE_HZ, read_sample

import attn8

MAX_GAP = 3  # lost samples that the last one stands in for; after more everything starts anew (data.max_gap)
# When a movement has begun: its average score over SMOOTH predictions has reached THRESHOLD percent.
SMOOTH, THRESHOLD = 4, 60
IGNORE = ("nothing",)  # what is no movement


class Scale:
    """Turns counts of the sensor into those that the model was trained on, in whole numbers.

    Floats would cost memory with every sample, and clearing that up would make samples late.
    """

    def __init__(self, model):
        counts = model.counts_per_unit
        self.numbers = [_fraction(counts[i] / COUNTS_PER_UNIT[i] if counts[i] else 1) for i in range(len(counts))]
        self.counts = array("h", [0] * len(counts))

    def put(self, values):
        """Writes a sample of the sensor to ``counts``."""
        for i in range(len(values)):
            number, half, shift = self.numbers[i]
            self.counts[i] = max(-32768, min(32767, values[i] * number + half >> shift))


def _fraction(factor):
    """Returns (number, half, shift) with factor = number / 2**shift, half to round; sums stay below 2**30."""
    shift = 0
    while factor < 8192 and shift < 29:
        factor, shift = 2 * factor, shift + 1
    return int(factor + 0.5), 1 << shift >> 1, shift


class Windows:
    """What model.stream() is, for a model that also sees what is to come: it runs a whole window at every hop."""

    def __init__(self, model):
        self.model, self.output = model, model.output
        self.n_steps, self.width, self.hop = model.n_steps, model.n_channels, model.hop
        self.samples = array("h", [0] * (self.n_steps * self.width))
        view, kept = memoryview(self.samples), max(0, self.n_steps - self.hop) * self.width
        self.head, self.tail = view[:kept], view[len(view) - kept :]
        self.reset()

    def reset(self):
        """Forgets everything: a window must not hold a hole."""
        self.filled = 0

    def push(self, counts):
        """Adds a sample; returns 1 where that made a prediction, else 0."""
        if self.filled >= 0:  # below 0: the samples between two windows, where hop is larger than a window
            at = self.filled * self.width
            for i in range(self.width):
                self.samples[at + i] = counts[i]
        self.filled += 1
        if self.filled < self.n_steps:
            return 0
        self.model.run(self.samples)
        self.head[:] = self.tail  # what the next window has in common with this one
        self.filled = self.n_steps - self.hop
        return 1

    def predict(self):
        """Returns (label, score) of the last window."""
        return self.model.decide(self.output)


def check(model):
    """Raises ValueError where the model was trained on other channels than the sensor has."""
    wanted = []
    for i in range(model.n_channels):
        name, unit = model.channels[i], model.units[i]
        wanted.append(f"{name} [{unit}]" if unit else name)
    if wanted != list(CHANNELS):
        raise ValueError(f"sensor.py: CHANNELS: got {list(CHANNELS)}, expected those of the model: {wanted}")


class Watch:
    """Everything between the sensor and a prediction."""

    def __init__(self, model):
        self.scale = Scale(model)
        self.values = array("h", [0] * len(CHANNELS))
        self.sampler = attn8.Sampler(None, model.sample_rate_hz or RATE_HZ)
        try:
            self.stream = model.stream()  # a causal model: a sample costs a part of a window
        except attn8.ModelError:
            self.stream = Windows(model)
        ignore = [label for label in IGNORE if label in model.labels]
        self.detector = attn8.Detector(model, smooth=SMOOTH, threshold=THRESHOLD, ignore=ignore)

    def sample(self):
        """Waits for the next sample and takes it; returns whether that made a prediction."""
        gap, due = self.sampler.wait(), 0
        if gap > MAX_GAP:
            self.stream.reset()
            self.detector.reset()
            gap = 0
        for _ in range(gap):  # the sample before stands in for each that was lost
            due += self.stream.push(self.scale.counts)
        read_sample(self.values)
        self.scale.put(self.values)
        return due + self.stream.push(self.scale.counts) > 0


def main(n_predictions=None):
    """Predicts for ever, or n_predictions times."""
    model = attn8.load("model.a8")
    print(model)
    check(model)
    watch, done, lost = Watch(model), 0, 0
    while n_predictions is None or done < n_predictions:
        if not watch.sample():
            continue
        done += 1
        label, score = watch.stream.predict()
        print(f"{label or '?'} {score}")
        began = watch.detector.update(watch.stream.output)
        if began:
            print(f"began: {began}")  # your own action goes here
        if watch.sampler.lost > lost:
            lost = watch.sampler.lost
            print(f"{lost} samples lost: what is done with a sample takes too long at this rate")
    print(f"{watch.sampler.late} samples late, {watch.sampler.lost} lost")


if __name__ == "__main__":
    arguments = getattr(sys, "argv", ())
    main(int(arguments[1]) if len(arguments) > 1 else None)
