"""Classifies beside other tasks of asyncio, and measures how long these ever had to wait.

A causal model runs as a stream: each sample costs a part of a window. Another one runs one layer at a time while the
samples of the next window come in. Copy model.a8 into the folder you run it from. Runs unmodified on MicroPython,
CPython, and CircuitPython with its asyncio library; `micropython stream_asyncio.py 200` ends after 200 samples.
"""

import asyncio
import sys
from array import array

import attn8

OTHER_HZ = 100  # how often the other task wants to run
MAX_GAP = 3  # lost samples that the next one stands in for; after more everything begins anew


class MadeUp:
    """Stands in for a sensor: moves for a while and rests for a while, in whole numbers."""

    def __init__(self, model):
        self.shift = 8 if model.input_type == "int8" else 0
        self.sample = array("b" if self.shift else "h", [0] * model.n_channels)
        self.n = 0

    def read(self):
        size = 180 if self.n & 64 else 3
        for i in range(len(self.sample)):
            turn = self.n * (5 + 2 * i) & 255
            self.sample[i] = (abs(turn - 128) - 64) * size >> self.shift
        self.n = (self.n + 1) & 65535
        return self.sample


class OtherTask:
    """What must stay responsive: a motor, a display, a web server. Here it only keeps the time."""

    longest_us = turns = 0

    def turn(self):
        self.turns += 1

    async def run(self):
        clock = attn8.Sampler(self.turn, OTHER_HZ)
        async for _ in clock:
            self.longest_us = max(self.longest_us, clock.step_us)


class Windows:
    """A model that is not causal: windows of n_steps samples, the next one begun while the last one runs."""

    def __init__(self, model):
        self.model = model
        self.n = model.n_steps * model.n_channels
        self.next, self.window = [array("h" if model.input_type == "int16" else "b", [0] * self.n) for _ in "ab"]
        self.filled, self.task = 0, None

    def reset(self):
        """Begins a new window: none may hold a hole."""
        self.filled = 0

    def push(self, sample):
        for v in sample:
            self.next[self.filled] = v
            self.filled += 1
        if self.filled == self.n:
            self.filled = 0
            if self.task is None:  # else the last window still runs, and this one is left out
                self.next, self.window = self.window, self.next
                self.task = asyncio.create_task(self.run())

    async def run(self):
        self.model.start(self.window)
        while self.model.step():
            await asyncio.sleep(0)
        show(*self.model.predict())
        self.task = None


class Streaming:
    """A causal model: an output at every hop."""

    def __init__(self, model):
        self.stream = model.stream()

    def reset(self):
        self.stream.reset()

    def push(self, sample):
        if self.stream.push(sample):
            show(*self.stream.predict())


def show(label, score):
    print(f"{label or '?'} {score}")


async def classify(model, sampler, n_samples):
    """Takes samples for ever, or n_samples, and gives each to the model."""
    try:
        classifier = Streaming(model)
    except attn8.ModelError:
        classifier = Windows(model)
    n = 0
    async for sample in sampler:
        times = 1 + sampler.gap
        if sampler.gap > MAX_GAP:
            classifier.reset()
            times = 1
        for _ in range(times):
            classifier.push(sample)
        n += 1
        if n == n_samples:
            return


async def main(n_samples=None):
    model = attn8.load("model.a8")
    print(model)
    sampler = attn8.Sampler(MadeUp(model).read, model.sample_rate_hz or 50)
    other = OtherTask()
    task = asyncio.create_task(other.run())
    await classify(model, sampler, n_samples)
    task.cancel()
    print(f"{n_samples} samples, {sampler.late} late, {sampler.lost} lost")
    ms, rest = divmod(other.longest_us, 1000)
    print(f"the other task ran {other.turns} times; from one to the next at most {ms}.{rest // 100} ms")


if __name__ == "__main__":
    arguments = getattr(sys, "argv", ())
    asyncio.run(main(int(arguments[1]) if len(arguments) > 1 else None))
