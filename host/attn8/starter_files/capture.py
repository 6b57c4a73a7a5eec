"""Prints one recording as CSV: the time in ms, then each channel in its unit, a line a sample.

    mpremote cp -r lib : + cp sensor.py :
    mpremote run capture.py > data/circle/anna_1.csv

It ends by itself after SECONDS. Without a board: MICROPYPATH=lib micropython capture.py 200 > try.csv
records 200 made-up samples.
"""

import sys
from array import array

from sensor import CHANNELS, COUNTS_PER_UNIT, RATE_HZ, read_sample

from attn8 import Sampler

SECONDS = 20


def capture(n_samples):
    """Prints a header, n_samples lines, and what was late or lost as a comment."""
    values = array("h", [0] * len(CHANNELS))
    print("time [ms]," + ",".join(CHANNELS))
    sampler, us = Sampler(None, RATE_HZ), 0
    for _ in range(n_samples):
        sampler.wait()
        us += sampler.step_us  # the true time, not the planned one: attn8 sees gaps and unsteady rates in it
        read_sample(values)
        numbers = [f"{values[i] / COUNTS_PER_UNIT[i]:.4f}" for i in range(len(values))]
        print(f"{us // 1000}.{us % 1000:03d}," + ",".join(numbers))
    print(f"# {n_samples} samples, {sampler.late} late, {sampler.lost} lost")


if __name__ == "__main__":
    arguments = getattr(sys, "argv", ())
    capture(int(arguments[1]) if len(arguments) > 1 else SECONDS * RATE_HZ)
