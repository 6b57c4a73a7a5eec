"""Windows of sensor data: readers, the bundled set, splits by group. Needs numpy, never torch."""

from .arrays import make_windows
from .files import folder_kind
from .folder import load_recordings
from .recordings import Fault, Recording, Recordings
from .splits import Split, axes_triples, split_by_group, split_windows
from .windows import Windows, load_windows, load_x, windows_of

__all__ = [
    "Fault",
    "Recording",
    "Recordings",
    "Split",
    "Windows",
    "axes_triples",
    "folder_kind",
    "load_recordings",
    "load_windows",
    "load_x",
    "make_windows",
    "split_by_group",
    "split_windows",
    "windows_of",
]
