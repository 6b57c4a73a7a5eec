"""The table of boards and of what attn8 takes on them, boards.toml: read and checked."""

import tomllib
from dataclasses import dataclass
from pathlib import Path

from . import BoardError

FILE = Path(__file__).with_name("boards.toml")
HOWS = ("run", "computed", "datasheet", "reported", "assumed")
FIRMWARES = ("MicroPython", "CircuitPython")
REGULATORS = ("linear", "switching")
_TEXTS = {"title": None, "firmware": FIRMWARES, "processor": None, "core": None, "arch": None, "regulator": REGULATORS}
_FIGURES = {  # type, lowest and highest value
    "clock_hz": (int, 1_000_000, 2_000_000_000),
    "files_bytes": (int, 4096, 1 << 32),
    "block_bytes": (int, 128, 1 << 20),
    "heap_bytes": (int, 4096, 1 << 32),
    "heap_own_bytes": (int, 0, 1 << 32),
    "largest_bytes": (int, 16, 1 << 32),
    "supply_volts": (float, 1.0, 24.0),
    "active_ma": (float, 0.01, 2000.0),
    "light_sleep_ma": (float, 0.0001, 2000.0),
    "deep_sleep_ma": (float, 0.0001, 2000.0),
}

_COSTS = {
    "package": {"flash_bytes": (int, 4096, 1 << 24)},
    "natmod": {"flash_bytes": (int, 256, 1 << 24)},
    "heap": {
        **{"import_bytes": (int, 256, 1 << 20), "first_load_bytes": (int, 0, 1 << 20)},
        **{"loading_bytes": (int, 0, 1 << 20), "loading_files": (int, 0, 8), "loading_arenas": (int, 0, 8)},
        **{"norm_bytes": (int, 0, 1 << 20), "stream_bytes": (int, 0, 1 << 20)},
    },
}


class TableError(BoardError):
    """The table of boards is not what it must be; the text says where."""


@dataclass(frozen=True)
class Figure:
    """A number of the table: int or float, how it is known (one of HOWS), and where it comes from, for people."""

    value: float
    how: str
    source: str


def read(path=FILE):
    """Returns {name: ({text: str}, {figure: Figure})} of the boards. Raises TableError."""
    return {name: _board(f"boards.{name}", row) for name, row in section(path, "boards").items()}


def read_costs(path=FILE):
    """Returns {kind: {name: {figure: Figure}}} of what attn8 itself takes: package, natmod, heap. Raises TableError."""
    return {
        kind: {name: _costs(f"{kind}.{name}", row, kind) for name, row in section(path, kind).items()}
        for kind in _COSTS
    }


def _costs(where, row, kind):
    keys(where, row, {*_COSTS[kind]})
    return {key: figure(f"{where}.{key}", row[key], *limits) for key, limits in _COSTS[kind].items()}


def section(path, name):
    """Returns a table of tables of the file. Raises TableError if it cannot be read or there is none."""
    try:
        tables = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise TableError(f"{path}: the table of boards cannot be read: {error}; install attn8 again") from None
    found = tables.get(name)
    if not isinstance(found, dict) or not found:
        raise TableError(f"{path}: got no [{name}], expected a table of tables; install attn8 again")
    return found


def _board(where, row):
    keys(where, row, {*_TEXTS, *_FIGURES})
    texts = {key: _text(f"{where}.{key}", row[key], allowed) for key, allowed in _TEXTS.items()}
    figures = {key: figure(f"{where}.{key}", row[key], *limits) for key, limits in _FIGURES.items()}
    own, largest, heap = (figures[key].value for key in ("heap_own_bytes", "largest_bytes", "heap_bytes"))
    if own + largest > heap:
        raise TableError(
            f"{where}: got largest_bytes {largest} and heap_own_bytes {own}, expected at most {heap} in all"
        )
    return texts, figures


def keys(where, row, expected):
    """Raises TableError unless ``row`` is a table with just these keys."""
    if not isinstance(row, dict):
        raise TableError(f"{where}: got {row!r}, expected a table; install attn8 again")
    unknown, missing = sorted({*row} - expected), sorted(expected - {*row})
    if unknown or missing:
        raise TableError(f"{where}: got {unknown or 'nothing'} besides, expected {missing or 'just the known keys'}")


def _text(where, value, allowed):
    if not isinstance(value, str) or (allowed and value not in allowed) or (not value and not where.endswith("arch")):
        raise TableError(f"{where}: got {value!r}, expected {' or '.join(allowed) if allowed else 'a text'}")
    return value


def figure(where, row, kind, low, high):
    """Returns the Figure of a table {value, how, source}. Raises TableError."""
    keys(where, row, {"value", "how", "source"})
    value = row["value"]
    if type(value) is not kind or not low <= value <= high:
        raise TableError(f"{where}: got {value!r}, expected {kind.__name__} of {low} to {high}")
    if row["how"] not in HOWS or not isinstance(row["source"], str) or not row["source"].strip():
        raise TableError(
            f"{where}: got how {row['how']!r}, source {row['source']!r}, expected {', '.join(HOWS)} and a text"
        )
    return Figure(value, row["how"], row["source"])
