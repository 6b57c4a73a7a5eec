"""Windows of sensor data: readers, the bundled set, splits by group. Needs numpy, never torch."""

from .arrays import make_windows
from .splits import Split, axes_triples, split_by_group, split_windows
from .windows import Windows, load_windows, load_x

__all__ = [
    "Split",
    "Windows",
    "axes_triples",
    "load_windows",
    "load_x",
    "make_windows",
    "split_by_group",
    "split_windows",
]
