"""`attn8 bench --soak`: windows for a long time, a row of what may drift every ten seconds, the trend in a sentence."""

import math
from datetime import datetime
from itertools import pairwise

from .board_code import board_code
from .csv_log import CsvLog
from .link import LinkError, RemoteError
from .workbench import NO_BOARD, MeasureError, no_timer, opened, stream, whole

ROW_S = 10
_FEWEST_ROWS = 8  # for a trend
_ERRORS = 3  # a slope of fewer standard errors is no trend
COLUMNS = ("time", "seconds", "windows", "mean_ms", "max_ms", "heap_free_bytes", "die_c", "supply_v", "wrong_outputs")
_TRENDS = (
    ("mean_ms", "latency", "ms", 4),
    ("heap_free_bytes", "free heap", "bytes", 0),
    ("die_c", "die temperature", "°C", 3),
    ("supply_v", "supply", "V", 4),
)


def soak(what, port=None, seconds=600, log="soak.csv", timer_hz=0, say=None, progress=None):
    """Runs one window again and again and logs what may drift.

    Args:
        what, port, say, progress: see measure.measure.    seconds: how long, rounded up to a row.
        log: path of a CSV file that is not there yet.    timer_hz: of an interrupt meanwhile, 0 for none.

    Returns:
        dict: port, machine, firmware, backend, is_computer, model, id, log, rows (list of dict of COLUMNS), lost
        (rows that arrived damaged), interrupted, wrong_outputs, trends (dict: slope and error a minute, is_trend; or
        None), trend (the sentence).

    Raises:
        LogError: if the log is there already.    MeasureError: also if the cable is pulled; what was logged stays.
        LinkError, DoesNotFitError.
    """
    say, progress = say or (lambda text: None), progress or (lambda what, done, of: None)
    n_rows, rows, written = max(1, math.ceil(seconds / ROW_S)), [], CsvLog(log)
    with opened(what, port) as bench, written:
        written.add(COLUMNS)
        if bench.facts.is_computer:
            say(NO_BOARD)
        bench.link.exec(board_code("soak"), timeout=60)

        def take(words):
            if len(rows) == n_rows:
                raise ValueError(words)
            rows.append(_row(words, bench.facts.is_computer))
            written.add(rows[-1][key] for key in COLUMNS)
            progress("rows", len(rows), n_rows)

        interrupted = False
        try:
            stream(bench.link, f"soak(_b, {n_rows}, {round(1000 * ROW_S)}, {timer_hz})", take, n_rows)
        except KeyboardInterrupt:
            interrupted = True
        except RemoteError as error:
            raise no_timer(bench, timer_hz, error) from None
        except LinkError as error:
            raise MeasureError(f"{error}; {len(rows)} rows stay in {log}") from None
    return {
        **{"port": bench.link.device, "machine": bench.facts.machine, "firmware": bench.facts.firmware},
        **{"backend": bench.backend, "is_computer": bench.facts.is_computer, "model": bench.graph.name},
        **{"id": bench.model.id, "log": str(log), "rows": rows, "interrupted": interrupted},
        "lost": 0 if interrupted else n_rows - len(rows),
        "wrong_outputs": sum(row["wrong_outputs"] for row in rows),
        **_trends(rows, bench.facts.is_computer),
    }


def _row(words, is_computer):
    """Returns the dict of a line of the board; its seconds are those of the board's own clock."""
    at_ms, n, mean_us, max_us, wrong, heap = map(whole, words[1:7])
    tenths, millivolts = (None if word == "-" else whole(word) for word in words[7:9])
    return {
        **{"time": datetime.now().isoformat(timespec="seconds"), "seconds": at_ms / 1000, "windows": n},
        **{"mean_ms": None if is_computer else mean_us / 1000, "max_ms": None if is_computer else max_us / 1000},
        **{"heap_free_bytes": heap, "die_c": None if tenths is None else tenths / 10},
        **{"supply_v": None if millivolts is None else millivolts / 1000, "wrong_outputs": wrong},
    }


def slope(minutes, values):
    """Returns (slope a minute, its standard error) of a straight line through values, None with fewer than 8.

    Neighbours that are alike, as temperatures are, count for fewer: the error grows with the correlation of what the
    line leaves.
    """
    n = len(values)
    t, v = sum(minutes) / n, sum(values) / n
    spread = sum((x - t) ** 2 for x in minutes)
    if n < _FEWEST_ROWS or not spread:
        return None
    found = sum((x - t) * (y - v) for x, y in zip(minutes, values, strict=True)) / spread
    left = [y - v - found * (x - t) for x, y in zip(minutes, values, strict=True)]
    total = sum(r * r for r in left)
    error = math.sqrt(total / (n - 2) / spread)
    alike = sum(a * b for a, b in pairwise(left)) / total if total else 0.0
    alike = min(max(alike, 0.0), 1 - 2 / n)
    return found, error * math.sqrt((1 + alike) / (1 - alike))


def _trends(rows, is_computer):
    """Returns dict: trends, and trend, the sentence."""
    trends, said = {}, []
    for key, name, unit, digits in _TRENDS:
        pairs = [(row["seconds"] / 60, row[key]) for row in rows if row[key] is not None]
        found = slope(*zip(*pairs, strict=True)) if pairs else None
        trends[key] = found and {"slope": found[0], "error": found[1], "is_trend": abs(found[0]) > _ERRORS * found[1]}
        if pairs and found is None:
            said.append(f"{name} too short to tell")
        elif found is None:
            said.append(f"{name} {'not shown' if is_computer and key == 'mean_ms' else 'not told'}")
        else:
            figure = f"{found[0]:+.{digits}f} ± {found[1]:.{digits}f} {unit} a minute"
            said.append(f"{name} {figure}" if trends[key]["is_trend"] else f"{name} no trend ({figure})")
    minutes = rows[-1]["seconds"] / 60 if rows else 0
    return {"trends": trends, "trend": f"over {minutes:.1f} minutes: {', '.join(said)}"}


def render(found):
    """Returns the lines that ``attn8 bench --soak`` prints."""
    windows = sum(row["windows"] for row in found["rows"])
    wrong = f"{found['wrong_outputs']:,} with WRONG outputs" if found["wrong_outputs"] else "the same outputs each time"
    lost = f", {found['lost']} lost on the cable" if found["lost"] else ""
    lines = [
        f"board       {found['machine']}, {found['firmware']}, {found['backend']}",
        f"soak        {windows:,} windows, {wrong}; {len(found['rows'])} rows{lost} in {found['log']}",
    ]
    return "\n".join([*lines, f"trend       {found['trend']}"])
