"""The interface behind which each meter of energy stands, and what they share."""

import math
import statistics
from dataclasses import dataclass, field
from typing import Protocol

from . import BoardError


class MeterError(BoardError):
    """A meter is not there, or what it gives cannot be used; the text says what to do."""


@dataclass(frozen=True)
class Run:
    """What the board tells of a measurement.

    Attributes:
        idle_s, busy_s: seconds of both phases.    n_windows: in the second.
        idle, busy: what a meter on the board read: lists of (current, bus voltage) registers.
    """

    idle_s: float
    busy_s: float
    n_windows: int
    idle: list = field(default_factory=list)
    busy: list = field(default_factory=list)

    @property
    def window_ms(self):
        return self.busy_s * 1000 / self.n_windows


class Meter(Protocol):
    """Measures while a board does nothing for ``phase_s`` seconds and then runs windows for as long.

    Attributes:
        needs_marker: whether a pin of the board must tell it when.    on_board: a name there with read(), or "None".
    """

    needs_marker: bool
    on_board: str
    phase_s: float

    def start(self, link):
        """Begins to measure; what the board needs for it goes over the link. Raises MeterError."""

    def mark(self, phase):
        """The board began to do nothing ("I"), to run windows ("B"), or has ended ("D")."""

    def stop(self, run):
        """Returns the energy of a window, see ``energy``. Raises MeterError."""


def energy(idle_mw, busy_mw, run, how, resolution_mw=0.0, error_mw=0.0):
    """Returns what a window takes, as a dict: window_uj, above_idle_uj, error_uj (of that: its standard error, or the
    resolution of the meter if that is more), below_resolution, idle_mw, busy_mw, window_ms, n_windows, how, estimate.

    Args:
        idle_mw, busy_mw: mean power of the phases.    error_mw: standard error of their difference.
    """
    ms, error = run.window_ms, max(resolution_mw, error_mw)
    return {
        **{"window_uj": busy_mw * ms, "above_idle_uj": (busy_mw - idle_mw) * ms, "error_uj": error * ms},
        **{"below_resolution": abs(busy_mw - idle_mw) <= 2 * error, "idle_mw": idle_mw, "busy_mw": busy_mw},
        **{"window_ms": ms, "n_windows": run.n_windows, "how": how, "estimate": False},
    }


def positive(kind, options, key, default=None):
    """Returns an option as a finite number above 0."""
    text = options.get(key)
    if text is None:
        return default
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise MeterError(f"meter {kind}: {key}: got {text!r}, expected a number above 0")
    return value


def whole(kind, options, key, default=None):
    """Returns an option as a whole number such as 4 or 0x40."""
    try:
        return int(options[key], 0) if key in options else default
    except ValueError:
        raise MeterError(f"meter {kind}: {key}: got {options[key]!r}, expected a number such as 4 or 0x40") from None


def standard_error(a, b):
    """Returns the standard error of the difference of the means of two lists."""
    return math.sqrt(statistics.variance(a) / len(a) + statistics.variance(b) / len(b))
