"""From time stamps to samples at one regular rate: gaps, jitter, other rates. Arrays in, arrays out."""

from dataclasses import dataclass

import numpy as np

from .recordings import FileFault

JITTER = 0.1  # of a step: samples that are nearer to the regular grid stay as they are
RATE_TOLERANCE = 0.02  # files whose rates differ by less count as one rate
LOW_PASS_FROM = 1.5  # a reduction of the rate by more averages, so that nothing aliases
MAX_RATIO = 10.0  # between the rate of a file and that of the set
MISSING_FROM = 1.9  # steps; jitter alone is hardly ever that long
LONGEST_STEP = 10  # steps; over a longer gap an error of the first mean adds up
MAX_STRETCHES = 100  # of a file


@dataclass
class Stretch:
    """Samples (S, C) without a gap, the place of the first in its file, and how many were missing and are filled."""

    samples: np.ndarray
    start: int
    filled: int


@dataclass
class Gap:
    """A gap that is too long to fill: the row of the file before it, and how many samples are missing."""

    row: int
    missing: int


def typical_step(times, tick=0.0):
    """Seconds from one sample to the next: the mean of the steps between which no sample is missing.

    In coarse ticks a missing sample looks like a long step (in whole milliseconds 700 Hz is 1, 2, 1, 1, 2); there
    the first mean only says how many samples each step stands for.

    Args:
        times: float (S,) seconds, increasing.    tick: seconds by which each may be off.
    """
    steps = np.diff(times)
    median = np.median(steps)
    if tick <= JITTER * median:
        return float(steps[steps < MISSING_FROM * median].mean())
    first = steps[steps < MISSING_FROM * median + tick].mean()
    steps = steps[steps <= LONGEST_STEP * first]
    return float(steps.sum() / max(np.rint(steps / first).sum(), 1))


def common_rate(rates):
    """The rate in Hz that most files have, where those within 2 % count as one, rounded to what was probably meant."""
    rates = np.asarray(rates)
    members = max((rates[np.abs(rates / rate - 1) <= RATE_TOLERANCE] for rate in np.unique(rates)), key=len)
    rate = float(np.median(members))
    rounded = float(f"{rate:.3g}")
    return rounded if abs(rounded / rate - 1) < 1e-3 else float(f"{rate:.4g}")


def regular_stretches(samples, positions, tolerance, factor, max_gap):
    """Cut samples at long gaps and bring each stretch to the regular grid.

    Args:
        samples: float (S, C); a row with a NaN counts as missing.
        positions: float (S,), increasing: when each was taken, in steps of the file.
        tolerance: how far a step may be from a whole number and still count as regular.
        factor: samples of the result for one step.
        max_gap: missing samples that are interpolated.
    Returns:
        list of Stretch, list of Gap, and whether the file was uneven.
    Raises:
        FileFault: if more samples are missing than are there.
    """
    rows = np.flatnonzero(~np.isnan(samples).any(axis=1))
    samples, positions = samples[rows], positions[rows]
    steps = np.diff(positions)
    whole = np.minimum(np.rint(steps), 1e15)
    missing = np.maximum(whole - 1, 0).astype(np.int64)
    cuts = np.flatnonzero(missing > max_gap)
    _check_gaps(missing, cuts, rows)
    even = (np.abs(steps - whole) <= tolerance) & (whole >= 1)
    even[cuts] = True
    stretches = []
    for first, end in zip([0, *(cuts + 1)], [*(cuts + 1), len(rows)], strict=True):
        inner = slice(first, end - 1)
        if abs(factor - 1) <= RATE_TOLERANCE and even[inner].all():
            start = positions[first]
            stretch = _fill(samples[first:end], whole[inner].astype(np.int64))
        else:
            start = positions[first] * factor
            stretch = resample(samples[first:end], positions[first:end] - positions[first], factor)
        stretches.append(Stretch(stretch, round(min(start, 1e15)), int(max((whole[inner] - 1).sum(), 0))))
    return stretches, [Gap(int(rows[cut]), int(missing[cut])) for cut in cuts], not even.all()


def _check_gaps(missing, cuts, rows):
    filled = missing.sum() - missing[cuts].sum()
    if not len(rows):
        raise FileFault("value", "", "no row without a missing value", "numbers", "record it again")
    if filled > len(rows) or len(cuts) >= MAX_STRETCHES:
        got = f"{len(cuts)} long gaps and {filled} single missing samples in {len(rows)} rows"
        expected = f"fewer than {MAX_STRETCHES} gaps, and more samples than are missing"
        raise FileFault("time", "", got, expected, "record at a steady rate with a time stamp for each sample")


def _fill(samples, whole):
    """Insert interpolated samples where steps (S - 1,) are longer than 1; the others stay as they are, bit for bit."""
    if (whole == 1).all():
        return samples
    positions = np.concatenate([[0], np.cumsum(whole)])
    return _interpolate(samples, positions, np.arange(positions[-1] + 1))


def _interpolate(samples, positions, grid):
    return np.stack([np.interp(grid, positions, column) for column in samples.T], axis=1)


def resample(samples, positions, factor):
    """Samples (S, C), taken at ``positions`` (S,), on a regular grid of ``factor`` samples for one step.

    Linear interpolation; where the rate falls by more than 1.5, the mean over one new step around each point.
    """
    if len(samples) < 2:
        return samples
    grid = np.arange(int(positions[-1] * factor + 1e-6) + 1) / factor
    if factor * LOW_PASS_FROM >= 1:
        return _interpolate(samples, positions, grid)
    areas = np.diff(positions)[:, None] * (samples[1:] + samples[:-1]) / 2
    area = np.concatenate([np.zeros((1, samples.shape[1])), np.cumsum(areas, axis=0)])
    low, high = (np.clip(grid + side / factor, 0, positions[-1]) for side in (-0.5, 0.5))
    return (_interpolate(area, positions, high) - _interpolate(area, positions, low)) / (high - low)[:, None]
