"""A folder of CSV files, one recording a file: the header names the channels, a time column gives the rate."""

import io
from array import array
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np

from ..errors import DataError
from . import grid
from .files import delimiter_of, read_bytes, split_line
from .recordings import (
    MAX_CHANNELS,
    MAX_RATE_HZ,
    MAX_TEXT_BYTES,
    MAX_UNIT_BYTES,
    MIN_RATE_HZ,
    FileFault,
    Recording,
    fits,
    quoted,
    shown,
)

MAX_LINE = 1 << 16  # characters
MAX_FILE_VALUES = 32 << 20
MAX_SET_VALUES = 128 << 20
LARGEST_VALUE = 1e30
MISSING = ("", "nan", "na", "n/a", "null", "none")
TIME_NAMES = ("time", "t", "timestamp", "time_stamp", "timestamps", "datetime", "elapsed", "elapsed_time", "uptime")
TIME_NAMES += ("time_elapsed", "zeit", "temps", "tiempo", "tempo")
COUNTER_ROWS = 50  # a signal may well rise for a few rows
ELAPSED_SECONDS = ("seconds_elapsed", "elapsed_seconds")
TIME_UNITS = {
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds"), 1.0),
    **dict.fromkeys(("ms", "msec", "millis", "milliseconds", "millisecond"), 1e-3),
    **dict.fromkeys(("us", "µs", "μs", "usec", "micros", "microseconds", "microsecond"), 1e-6),
    **dict.fromkeys(("ns", "nsec", "nanos", "nanoseconds", "nanosecond"), 1e-9),
}
BARE_TIME_UNITS = ("ms", "us", "µs", "μs", "ns", "millis", "micros", "nanos", "seconds", "milliseconds", "microseconds")


@dataclass
class Column:
    """One column of the header."""

    index: int
    name: str
    unit: str


@dataclass
class Header:
    """The first line: how it is delimited, how many cells it has, and which of them are read."""

    delimiter: str
    n_cells: int
    channels: list
    time: Column | None
    ignored: list


@dataclass
class Table:
    """One file, read.

    Fields:
        entry: files.Entry.    channels: list of Column.
        values: float64 (S, C), NaN where a cell is empty.    lines: int64 (S,), line of each row.
        times: float64 (S,) seconds, or None.    tick: seconds by which a whole number of them may be off, or 0.
        step: seconds from one sample to the next, 0 without times.
    """

    entry: object
    channels: list
    values: np.ndarray
    lines: np.ndarray
    times: np.ndarray | None = None
    tick: float = 0.0
    step: float = 0.0

    @property
    def is_whole(self):
        """Whether all values are integers that fit int16."""
        known = self.values[~np.isnan(self.values)]
        return bool((known == np.rint(known)).all() and (np.abs(known + 0.5) < 32768).all())


def read_csv_files(entries, data_config, reading):
    """Read the files of a folder.

    Args:
        entries: list of files.Entry.    data_config: attn8.config.DataConfig.    reading: recordings.Reading.
    Returns:
        (recordings, channels, units, counts_per_unit float32 (C,) or None, sample_rate_hz).
    Raises:
        DataError: if the files are too large together, or for the first fault where the settings are strict.
    """
    tables = _read_tables(entries, data_config.channels, reading)
    channels, units = _common_channels(tables, data_config.channels)
    if not data_config.channels:
        _note_counters(tables, reading)
    tables = [table for table in tables if _attempt(reading, table.entry, _put_in_order, table, channels, units)]
    rate = data_config.sample_rate_hz or _rate_of(tables)
    recordings, are_counts = _cut_tables(tables, rate, data_config.max_gap, reading)
    if not are_counts:
        return recordings, channels, units, None, rate
    for recording in recordings:
        recording.samples = np.rint(recording.samples).astype(np.int16)
    return recordings, channels, [unit or "count" for unit in units], np.ones(len(channels), np.float32), rate


def _read_tables(entries, wanted, reading):
    tables, n_values = [], 0
    for entry in entries:
        table = _attempt(reading, entry, read_table, entry, wanted, reading)
        if table:
            tables.append(table)
            n_values += table.values.size
            _check_size(reading, n_values)
    return tables


def _note_counters(tables, reading):
    """Note channels that rise in every row of every file: a clock or a row number would be learned as a signal."""
    rising = None
    for table in tables:
        with np.errstate(invalid="ignore"):
            rises = (np.diff(table.values, axis=0) > 0).all(axis=0) if len(table.values) >= COUNTER_ROWS else ()
        names = {column.name for column, is_rising in zip(table.channels, rises, strict=False) if is_rising}
        rising = names if rising is None else rising & names
    for name in sorted(rising or ()):
        reading.notes.append(
            f"channel {shown(name)} rises in every row of every file: it looks like a clock or a counter; "
            "leave it out by naming the others in data.channels"
        )


def _cut_tables(tables, rate, max_gap, reading):
    """Recordings of all tables, and whether all of their values are counts."""
    recordings, are_counts, n_filled, n_values = [], True, 0, 0
    for table in tables:
        found = _attempt(reading, table.entry, _recordings_of, table, rate, max_gap, reading) or []
        are_counts &= table.is_whole or not found
        recordings += found
        n_filled += sum(recording.filled for recording in found)
        n_values += sum(recording.samples.size for recording in found)
        _check_size(reading, n_values)
    if n_filled:
        reading.notes.append(f"{n_filled} missing sample{'s' * (n_filled != 1)} filled by linear interpolation")
    return recordings, are_counts


def _check_size(reading, n_values):
    """Refuse a set that would take too much memory."""
    if n_values > MAX_SET_VALUES:
        expected = f"at most {MAX_SET_VALUES}; split the folder, or choose some with data.channels"
        raise DataError(f"{reading.folder}: got {n_values} numbers, expected {expected}")


def _attempt(reading, entry, function, *arguments):
    """What a function returns, or None where it finds a fault in the file, which is then remembered."""
    try:
        return function(*arguments)
    except FileFault as fault:
        reading.add_fault(entry.name, fault)
        return None


# ---- one file ------------------------------------------------------------------------------------------------------


def read_table(entry, wanted, reading):
    """Read one file.

    Args:
        entry: files.Entry.    wanted: channel names to read in order; empty = all.    reading: recordings.Reading.
    Returns:
        Table.
    Raises:
        FileFault: naming line and column.
    """
    raw = read_bytes(entry.path)
    digest = reading.check_new(raw)
    try:
        table = _table(entry, raw, wanted, reading)
    except UnicodeDecodeError:
        raise _no_utf8(raw) from None
    reading.remember(digest, entry.name)
    return table


def _no_utf8(raw):
    if raw[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return FileFault("unreadable", "", "UTF-16 text", "UTF-8", "save it as CSV UTF-8")
    try:
        raw.decode()
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        return FileFault("unreadable", f"line {line}", "bytes that are no UTF-8", "UTF-8 text", "save it as CSV UTF-8")
    return FileFault("unreadable", "", "bytes that are no UTF-8", "UTF-8 text", "save it as CSV UTF-8")


def _table(entry, raw, wanted, reading):
    rows = _text_lines(raw)
    first = next(rows, None)
    if first is None:
        raise FileFault("header", "", "an empty file", "a header with the channel names", "record it again")
    header = parse_header(first[1], wanted, first[0])
    values, times, lines, is_date = _rows(rows, header, raw, reading)
    if not lines:
        raise FileFault("value", "", "no rows behind the header", "one line a sample", "record it again")
    values = np.frombuffer(values).reshape(len(lines), len(header.channels))
    table = Table(entry, header.channels, values, np.frombuffer(lines, np.int64))
    _check_values(table)
    if header.ignored:
        reading.count("columns that data.channels does not name are ignored")
    if times is not None:
        _set_times(table, np.frombuffer(times), header.time, is_date, reading)
    return table


def _text_lines(raw):
    """(line number, text) of the lines that are neither blank nor a comment."""
    for number, line in enumerate(io.TextIOWrapper(io.BytesIO(raw), "utf-8-sig", newline=None), 1):
        text = line.strip()
        if text and text[0] != "#":
            if len(line) > MAX_LINE:
                raise FileFault("value", f"line {number}", f"{len(line)} characters", f"at most {MAX_LINE}", "split it")
            yield number, line.rstrip("\n")


def parse_header(line, wanted=(), number=1):
    """Columns of the first line of a file.

    Raises:
        FileFault: if it holds no names, the same name twice, or lacks a wanted channel.
    """
    delimiter = delimiter_of(line)
    cells = [cell.strip() for cell in split_line(line, delimiter)]
    cells = cells[:-1] if len(cells) > 1 and not cells[-1] else cells
    where = f"line {number}"
    if all(_is_number(cell) for cell in cells):
        advice = "write one, as in: time [ms],ax [g],ay [g],az [g] (a line that starts with # is a comment)"
        raise FileFault("header", where, "numbers", "a header with the channel names", advice)
    columns = [Column(index, *_name_and_unit(cell)) for index, cell in enumerate(cells)]
    if not columns[0].name:  # the row numbers that pandas writes
        columns = columns[1:]
    named = set(wanted)
    times = [column for column in columns if column.name not in named and time_unit(column) is not None]
    # The first that has a unit, else the first.
    time = min(times, key=lambda column: time_unit(column) == 0.0, default=None)
    channels = [column for column in columns if column.name in named or time_unit(column) is None]
    _check_names(channels, wanted, where)
    ignored = [column for column in channels if wanted and column.name not in named]
    if wanted:
        by_name = {column.name: column for column in channels}
        channels = [by_name[name] for name in wanted]
    return Header(delimiter, len(cells), channels, time, ignored)


def _name_and_unit(cell):
    """Split "ax [m/s2]" or "ax (g)" into name and unit."""
    for opening, closing in ("[]", "()"):
        at = cell.rfind(opening)
        if cell.endswith(closing) and at > 0:
            return cell[:at].strip(), cell[at + 1 : -1].strip()
    return cell, ""


def _check_names(channels, wanted, where):
    names = {column.name for column in channels}
    missing = [name for name in wanted if name not in names]
    if missing:
        advice = "rename the column, or change data.channels"
        got = _listed([column.name for column in channels])
        raise FileFault("channels", where, got, f"{_listed(missing)} too, of data.channels", advice)
    named, seen = set(wanted), set()
    used = [column for column in channels if not wanted or column.name in named]
    if not 1 <= len(used) <= MAX_CHANNELS:
        raise FileFault("header", where, f"{len(used)} channels", f"1..{MAX_CHANNELS}", "name some with data.channels")
    for column in used:
        name, unit = column.name, column.unit
        if not name or name in seen:
            got = f"{quoted(name)} twice" if name else "a column without a name"
            raise FileFault("header", where, got, "a different name for each channel", "rename it")
        if not (fits(name, MAX_TEXT_BYTES) and fits(unit, MAX_UNIT_BYTES)):
            expected = f"a printable name of at most {MAX_TEXT_BYTES} and unit of {MAX_UNIT_BYTES} UTF-8 bytes"
            raise FileFault("header", where, quoted(f"{name} [{unit}]" if unit else name), expected, "rename it")
        seen.add(name)


def _listed(names):
    text = ", ".join(shown(name, 32) for name in names[:12])
    return (text or "no channel") + (f" and {len(names) - 12} more" if len(names) > 12 else "")


def time_unit(column):
    """Seconds of the unit of a time column, 0.0 where the header does not say, None for other columns.

    "time [ms]", "timestamp_us", "t", "millis" are time columns; "t [C]" and "T" are temperatures.
    """
    name = column.name.lower().replace(" ", "_")
    if column.name == "T":
        return None
    if name in BARE_TIME_UNITS and not column.unit:
        return TIME_UNITS[name]
    if name in ELAPSED_SECONDS:
        return 1.0
    stem, _, suffix = name.rpartition("_")
    if suffix in TIME_UNITS and stem in TIME_NAMES:
        return TIME_UNITS[suffix]
    if name not in TIME_NAMES:
        return None
    return TIME_UNITS.get(column.unit.lower()) if column.unit else 0.0


def _is_number(text):
    try:
        float(text.replace(",", "."))
    except ValueError:
        return False
    return True


def _rows(rows, header, raw, reading):
    """Numbers of the rows: array of values, of times or None, of line numbers, and whether the times were dates."""
    values, lines = array("d"), array("q")
    times = array("d") if header.time else None
    indices, comma = [column.index for column in header.channels], header.delimiter != ","
    read_time, cut = None, None
    for number, line in rows:
        if cut:
            raise cut
        cells = split_line(line, header.delimiter)
        if len(cells) != header.n_cells and not (len(cells) == header.n_cells + 1 and not cells[-1].strip()):
            expected = f"{header.n_cells}, as in the header"
            got = f"{len(cells)} cell{'s' * (len(cells) != 1)} ({quoted(line)})"
            cut = FileFault("value", f"line {number}", got, expected, "correct or remove the line")
            continue
        if times is not None:
            read_time = read_time or _time_reader(cells[header.time.index], comma)
            times.append(_cell(cells, header.time, number, comma, read_time))
        try:
            if "_" in line or comma:
                raise ValueError
            values.extend([float(cells[index]) for index in indices])
        except ValueError:
            values.extend([_cell(cells, column, number, comma) for column in header.channels])
        lines.append(number)
        if len(values) > MAX_FILE_VALUES:
            advice = "split it into several files"
            raise FileFault("unreadable", "", f"more than {MAX_FILE_VALUES} numbers", "fewer", advice)
    if cut:
        if raw.endswith((b"\n", b"\r")) or not lines:
            raise cut
        reading.count("the last line is cut short and not used")
    return values, times, lines, read_time is _seconds


def _number(text, comma):
    """Float of a cell; NaN where it is empty."""
    text = text.strip()
    if text.lower() in MISSING:
        return np.nan
    if "_" in text:
        raise ValueError
    return float(text.replace(",", ".") if comma else text)


def _seconds(text, comma):
    """Seconds of an ISO 8601 date and time; without a zone, UTC."""
    moment = datetime.fromisoformat(text.strip())
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds()


def _time_reader(text, comma):
    """The function that reads the time column, chosen by its first cell."""
    try:
        _number(text, comma)
    except ValueError:
        return _seconds
    return _number


def _cell(cells, column, line, comma, read=_number):
    text = cells[column.index]
    try:
        return read(text, comma)
    except (ValueError, OverflowError):
        expected = "a number" if read is _number else "a date and time as in 2026-11-20T10:00:00.250"
        advice = "correct it or leave the cell empty"
        where = f"line {line}, column {shown(column.name, 32)}"
        raise FileFault("value", where, quoted(text.strip()), expected, advice) from None


def _check_values(table):
    bad = np.argwhere(np.abs(table.values) > LARGEST_VALUE)  # inf too
    if len(bad):
        row, channel = bad[0]
        where = f"line {table.lines[row]}, column {shown(table.channels[channel].name, 32)}"
        got = f"{table.values[row, channel]:g}"
        raise FileFault("value", where, got, "a number up to 1e30", "correct it or leave the cell empty")
    empty = np.flatnonzero(np.isnan(table.values).all(axis=0))
    if len(empty):
        where = f"column {shown(table.channels[empty[0]].name, 32)}"
        raise FileFault("value", where, "no number in any row", "numbers", "record it again or remove the column")


# ---- time ----------------------------------------------------------------------------------------------------------


def _set_times(table, times, column, is_date, reading):
    """Bring the time column to seconds and find the step; a single row has none."""
    _check_times(table, times, column)
    if len(times) < 2:
        return
    unit = 1.0 if is_date else time_unit(column)
    if not unit:
        unit, name = _guess_unit(times)
        note = f"the time column {quoted(column.name)} has no unit and is taken as {name}; name it "
        reading.count(note + f"'{shown(column.name, 32)} [ms]' or [s], [us], [ns] to be sure")
    table.tick = unit if (times == np.rint(times)).all() else 0.0
    table.times = (times - times[0]) * unit
    step = grid.typical_step(table.times, table.tick)
    if not MIN_RATE_HZ <= 1 / max(step, 1e-300) <= MAX_RATE_HZ:
        expected = f"one in {1 / MAX_RATE_HZ:g}..{1 / MIN_RATE_HZ:g} s"
        raise FileFault("rate", f"column {shown(column.name, 32)}", f"a step of {step:g} s", expected, "check its unit")
    table.step = step


def _check_times(table, times, column):
    where = f"column {shown(column.name, 32)}"
    bad = np.flatnonzero(~(np.abs(times) < 1e20))
    if len(bad):
        place, got = f"line {table.lines[bad[0]]}, {where}", f"{times[bad[0]]:g}"
        raise FileFault("time", place, got.replace("nan", "no time"), "a time for each row", "correct it")
    back = np.flatnonzero(np.diff(times) <= 0)
    if len(back):
        row = back[0] + 1
        got = f"{times[row]:.16g} behind {times[row - 1]:.16g}"
        advice = "correct it, or remove the column and give data.sample_rate_hz"
        raise FileFault("time", f"line {table.lines[row]}, {where}", got, "a later time in each row", advice)


def _guess_unit(times):
    """Seconds of the unit that a bare time column has probably, and its name: by the date, else by the step."""
    for least, unit, name in ((1e17, 1e-9, "ns"), (1e14, 1e-6, "us"), (1e11, 1e-3, "ms")):
        if abs(times[0]) >= least:  # since 1970
            return unit, name
    return (1.0, "s") if np.median(np.diff(times)) < 1 else (1e-3, "ms")


# ---- all files -----------------------------------------------------------------------------------------------------


def _common_channels(tables, wanted):
    """Names and units of the channels: those of ``data.channels``, else those of most files."""
    if not tables:
        return list(wanted), [""] * len(wanted)
    counts = Counter(frozenset(column.name for column in table.channels) for table in tables)
    most = counts.most_common(1)[0][0]
    names = next([column.name for column in t.channels] for t in tables if {c.name for c in t.channels} == most)
    units = {name: Counter() for name in names}
    for table in tables:
        for column in table.channels:
            if column.unit and column.name in units:
                units[column.name][column.unit] += 1
    return names, [found.most_common(1)[0][0] if found else "" for found in units.values()]


def _put_in_order(table, names, units):
    """Order the columns of a table as in the set; True, so that its file stays.

    Raises:
        FileFault: if its channels or units are others.
    """
    index = {column.name: number for number, column in enumerate(table.channels)}
    if set(index) != set(names):
        known = set(names)
        missing, extra = [n for n in names if n not in index], [n for n in index if n not in known]
        got = f"no {_listed(missing)}" if missing else f"also {_listed(extra)}"
        advice = "rename or add the column" if missing else "remove it, or name those to use with data.channels"
        raise FileFault("channels", "", got, f"{_listed(names)}, as most files have", advice)
    for name, unit in zip(names, units, strict=True):
        got = table.channels[index[name]].unit
        if got and got != unit:
            advice = "bring the values to one unit"
            where = f"column {shown(name, 32)}"
            raise FileFault("channels", where, f"the unit {quoted(got)}", f"{quoted(unit)}, as most files have", advice)
    order = [index[name] for name in names]
    table.values = table.values if order == sorted(order) else table.values[:, order]
    return True


def _rate_of(tables):
    rates = [1 / table.step for table in tables if table.step]
    return grid.common_rate(rates) if rates else 0.0


def _recordings_of(table, rate, max_gap, reading):
    """Recordings of one file at the rate of the set; long gaps are remembered as faults."""
    factor = rate * table.step if table.step else 1.0
    too_large = 2 * factor * table.values.size > MAX_SET_VALUES
    if too_large or not 1 / grid.MAX_RATIO <= factor <= grid.MAX_RATIO:
        got, expected = f"{1 / table.step:.4g} Hz", f"{rate:.4g} Hz within a factor of {grid.MAX_RATIO:g}"
        raise FileFault("rate", "", got, expected, "check the time column, or set data.sample_rate_hz")
    n_rows = len(table.values)
    positions = table.times / table.step if table.step else np.arange(float(n_rows))
    tolerance = grid.JITTER + (table.tick / table.step if table.step else 0.0)
    stretches, gaps, uneven = grid.regular_stretches(table.values, positions, tolerance, factor, max_gap)
    _note_rate(table, rate, factor, uneven, reading)
    for gap in gaps:
        _add_gap(table, gap, rate, max_gap, reading)
    entry = table.entry
    return [
        Recording(
            name=entry.name + (f":{number}" if number > 1 else ""),
            label=entry.label,
            group=entry.group,
            samples=stretch.samples,
            start=stretch.start,
            part=entry.part,
            filled=stretch.filled,
            file=entry.name,
        )
        for number, stretch in enumerate(stretches, 1)
    ]


def _note_rate(table, rate, factor, uneven, reading):
    if abs(factor - 1) > grid.RATE_TOLERANCE:
        own = float(f"{1 / table.step:.3g}")
        reading.count(f"recorded at {own:g} Hz, brought to {rate:g} Hz")
    elif uneven:
        reading.count(f"uneven time stamps, brought to a regular {rate:g} Hz by linear interpolation")
    if rate and not table.step:
        reading.count(f"no time column, taken as {rate:g} Hz")


def _add_gap(table, gap, rate, max_gap, reading):
    step = table.step or (1 / rate if rate else 0.0)
    seconds = f" ({gap.missing * step:.3g} s)" if step else ""
    got = f"{gap.missing} missing samples{seconds} after it"
    expected = f"at most data.max_gap = {max_gap}"
    advice = "the recording is cut in two there; record it again, or raise data.max_gap"
    reading.add("gap", table.entry.name, f"line {table.lines[gap.row]}", got, expected, advice)
