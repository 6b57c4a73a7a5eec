"""`attn8 bench --port`: what a model really costs on a board, and whether it gives the bytes of the reference there."""

import re
import zlib
from base64 import b64encode
from dataclasses import dataclass

from . import BOARDS
from .board_code import board_code
from .facts import NAMES
from .link import CHUNK_BYTES, DECODE, RemoteError
from .metering import Run
from .shape import SHORT, WHOLE, Either
from .workbench import BOARD_S, NO_BOARD, MeasureError, no_timer, opened, stream, whole

_MOST_WINDOWS, _FEWEST_WINDOWS, _WINDOWS_S = 1000, 20, 60  # by default: as many as fit into a minute
_LINE_WINDOWS, _LINE_S = 32, 1.0
_N_NEW = 32  # of on_board/measure.py
_TRIES = 3
_MOST_SAMPLES, _MOST_RATE_HZ, _SAMPLING_S = 2000, 2000, 10


@dataclass(frozen=True)
class Options:
    """What `attn8 bench --port` measures.

    Attributes:
        windows: how many; None: 1,000, fewer where that takes longer than a minute.
        inputs: "golden": values in the ranges of the model's golden vectors, or "random": any.
        data: labelled windows for the accuracy, an .npz or folder, or None.
        timer_hz: of an interrupt while windows run, 0 for none.
        meter: a metering.Meter, or None.    marker: number or name of the pin that is high while windows run, or None.
    """

    windows: int | None = None
    inputs: str = "golden"
    data: str | None = None
    timer_hz: int = 0
    meter: object = None
    marker: int | str | None = None


class Drawn:
    """The windows that the board draws, drawn here: each differs from the one before in 32 values."""

    def __init__(self, graph, dtype, ranges):
        import numpy as np

        self.shape, self.ranges = (graph.n_steps, graph.n_channels), ranges
        self.values = np.zeros(graph.n_steps * graph.n_channels, dtype)
        self.x, self.y, self.at = 1, 40504, 0
        self._draw(len(self.values))

    def _draw(self, n):
        for _ in range(n):
            t = (self.x ^ (self.x << 5)) & 65535
            self.x, y = self.y, self.y
            self.y = (y ^ (y >> 1)) ^ (t ^ (t >> 3))
            low, n_values = self.ranges[self.at % len(self.ranges)]
            self.values[self.at] = low + ((self.y >> 1) * (n_values >> 1) >> 14)
            self.at = (self.at + 1) % len(self.values)

    def skip(self, n):
        """Draws n windows that nobody wants."""
        for _ in range(n):
            self._draw(_N_NEW)

    def next(self, n):
        """Returns the next n windows: (n, T, C)."""
        import numpy as np

        windows = np.empty((n, *self.shape), self.values.dtype)
        for i in range(n):
            self._draw(_N_NEW)
            windows[i] = self.values.reshape(self.shape)
        return windows


class Measured:
    """Collects the lines of Bench.windows and compares what they say of the outputs with the reference.

    Attributes:
        runs, loops: lists of microseconds of each window.    n: windows whose line came.    lost: whose line did not.
        different: of the first window in the first line that differs, else None.    us, calls: in which, of the timer.
    """

    def __init__(self, bench, wanted, progress):
        from .. import reference

        self.engine = reference.Reference(bench.data)
        self.drawn = Drawn(bench.graph, self.engine.dtype, bench.ranges)
        self.wanted, self.progress = wanted, progress
        self.runs, self.loops, self.n, self.lost, self.at = [], [], 0, 0, 0
        self.different, self.us, self.calls, self.hard = None, 0, 0, None

    def take(self, words):
        if words[0] == "E":
            self.hard = words[1] == "1"
        if words[0] != "W":
            return
        first, n, high, low, us, calls = map(whole, words[1:7])
        runs, loops = (list(map(whole, text.split(","))) for text in words[7:])
        if not self.at <= first <= first + n <= self.wanted or not len(runs) == len(loops) == n:
            return
        if first > self.at:
            self.drawn.skip(first - self.at)
            self.lost += first - self.at
        outputs = self.engine.run(self.drawn.next(n))
        if zlib.crc32(outputs.tobytes()) != high << 16 | low and self.different is None:
            self.different = first
        self.runs, self.loops, self.n, self.at = self.runs + runs, self.loops + loops, self.n + n, first + n
        self.us, self.calls = self.us + us, self.calls + calls
        self.progress("windows", self.at, self.wanted)


def measure(what, port=None, options=None, say=None, progress=None):
    """Measures a model on a board.

    Args:
        what: path of a .a8 file here, or a slot name of the board.    port: see link.open_link.    options: Options.
        say: called with a sentence.    progress: called with (what is done, steps done, steps in all).

    Returns:
        dict for JSON: port, machine, firmware, clock_hz, is_computer, backend, source, model, version, id, bytes,
        inputs, n_windows, wanted, lost, interrupted, run_ms and loop_ms (p50, p95, p99, max, mean: of run alone, and
        of what a program does with a window, collections included), collector (pause_ms, threshold_bytes,
        collections), timer (hz, calls, expected, in_interrupt), heap (free_before, free_after, bytes_in_ten_runs,
        stack_bytes), sampling (rate_hz, n_samples, hop, late, lost, worst_late_ms; or reason), same_bytes
        (golden_vectors, windows, different: the first of the line that differs, None), data (name, n_windows, wanted,
        resent, same_bytes, accuracy, macro_f1), energy (metering.energy, or estimate).
        Times are None where no board made them.

    Raises:
        MeasureError, DoesNotFitError, LinkError, MeterError, attn8.ModelError, DataError.
    """
    options, say = options or Options(), say or (lambda text: None)
    progress = progress or (lambda what, done, of: None)
    labelled = []
    with opened(what, port, options.inputs, lambda graph: _labelled(labelled, options.data, graph, say)) as bench:
        if bench.facts.is_computer:
            say(NO_BOARD)
        found = _head(bench, options)
        steps = [
            lambda: _measure_windows(bench, options, found, progress),
            lambda: found.update(sampling=_sampling(bench, options, progress)),
            lambda: _measure_data(bench, labelled, found, progress),
        ]
        # A meter that is not there is told before the windows; an estimate needs their time.
        steps.insert(0 if options.meter else 3, lambda: found.update(energy=_energy(bench, options, found, say)))
        try:
            for step in steps:
                step()
        except KeyboardInterrupt:
            if not found["n_windows"]:
                raise
            found["interrupted"] = True
    return found


def _labelled(labelled, data, graph, say):
    """Reads the test set, if there is one; before a board is looked for, where that can be."""
    from ..workflow import labelled_windows

    if data:
        labelled.append(labelled_windows(graph, data, say))


def _head(bench, options):
    """Returns what is known before anything is measured."""
    facts, g = bench.facts, bench.graph
    where = {"port": bench.link.device, "machine": facts.machine, "firmware": facts.firmware}
    return {
        **{**where, "clock_hz": facts.clock_hz, "is_computer": facts.is_computer, "backend": bench.backend},
        **{"source": bench.source, "model": g.name, "version": g.version, "id": bench.model.id},
        **{"bytes": len(bench.data), "inputs": options.inputs, "n_windows": 0, "wanted": 0, "lost": 0},
        **{"interrupted": False, "run_ms": None, "loop_ms": None, "collector": None, "timer": None},
        **{"heap": bench.heap, "sampling": None, "data": None, "energy": None},
        "same_bytes": {"golden_vectors": len(g.golden.vectors), "windows": 0, "different": None},
    }


def _n_windows(bench, wanted):
    if wanted is not None:
        return wanted
    return min(_MOST_WINDOWS, max(_FEWEST_WINDOWS, int(_WINDOWS_S * 1e6 / max(1, bench.first_us))))


def _measure_windows(bench, options, found, progress):
    """Runs the windows, and writes down what came, also where Ctrl-C ends it."""
    measured = Measured(bench, _n_windows(bench, options.windows), progress)
    in_line = max(1, min(_LINE_WINDOWS, int(_LINE_S * 1e6 / max(1, bench.first_us))))
    pause = bench.link.eval("_b.pause_us()", 60, shape=(WHOLE, Either(None, WHOLE)))
    code = f"_b.windows({measured.wanted}, {in_line}, {options.timer_hz})"
    try:
        stream(bench.link, code, measured.take, measured.wanted)
        measured.lost += measured.wanted - measured.at
    except RemoteError as error:
        raise no_timer(bench, options.timer_hz, error) from None
    finally:
        _write_down(bench, options, found, measured, *pause)
    if measured.n == 0:
        raise MeasureError(f"{bench.link.device}: no line arrived whole; check the cable, then try again")


def _write_down(bench, options, found, measured, pause_us, threshold_bytes):
    found.update(n_windows=measured.n, wanted=measured.wanted, lost=measured.lost)
    found["same_bytes"].update(windows=measured.n, different=measured.different)
    if bench.facts.is_computer or not measured.n:
        return
    beside = [loop - run for run, loop in zip(measured.runs, measured.loops, strict=True)]
    found.update(run_ms=percentiles(measured.runs), loop_ms=percentiles(measured.loops))
    n = sum(us > pause_us / 2 for us in beside)
    found["collector"] = {"pause_ms": pause_us / 1000, "threshold_bytes": threshold_bytes, "collections": n}
    if options.timer_hz:
        expected = options.timer_hz * measured.us / 1e6
        found["timer"] = {"hz": options.timer_hz, "calls": measured.calls, "expected": round(expected)}
        found["timer"]["in_interrupt"] = measured.hard


def percentiles(microseconds):
    """Returns p50, p95, p99 (nearest rank), max and mean of a list, in milliseconds."""
    ordered = sorted(microseconds)
    ranks = {f"p{p}": ordered[-(-p * len(ordered) // 100) - 1] / 1000 for p in (50, 95, 99)}
    return {**ranks, "max": ordered[-1] / 1000, "mean": sum(ordered) / len(ordered) / 1000}


def _sampling(bench, options, progress):
    """Returns how a loop keeps the file's sample rate: dict, with ``reason`` where it was not measured; None where no
    board would."""
    g = bench.graph
    if bench.facts.is_computer:
        return None
    if not 0 < g.sample_rate_hz <= _MOST_RATE_HZ:
        rate = f"{g.sample_rate_hz:g} Hz come in buffers, not in a loop" if g.sample_rate_hz else "the file has no rate"
        return {"reason": rate}
    hop = g.hop or g.n_steps
    n = max(2, int(min(max(4 * hop, g.sample_rate_hz), _SAMPLING_S * g.sample_rate_hz, _MOST_SAMPLES)))
    progress("sampling", 0, n)
    steps, gaps, counts = {}, {}, []

    def take(words):
        if words[0] == "S":
            for name, text in ((steps, words[2]), (gaps, words[3])):
                name.update(enumerate(map(whole, text.split(",")), whole(words[1])))
        elif words[0] == "L":
            counts[:2] = whole(words[1]), whole(words[2])

    stream(bench.link, f"_b.sampling({g.sample_rate_hz!r}, {n}, {hop}, {options.timer_hz})", take, n)
    if not (counts and all(i in steps and i in gaps for i in range(n))):
        raise MeasureError(f"{bench.link.device}: lines of the sampling arrived damaged; check the cable")
    late = max(lateness([steps[i] for i in range(n)], [gaps[i] for i in range(n)], g.sample_rate_hz))
    head = {"rate_hz": g.sample_rate_hz, "n_samples": n, "hop": hop}
    return {**head, "late": counts[0], "lost": counts[1], "worst_late_ms": late / 1000}


def lateness(steps_us, gaps, rate_hz):
    """Returns by how many microseconds each sample was read after its place on the grid of the first."""
    found, t, k = [], 0, 0
    for i, (step, gap) in enumerate(zip(steps_us, gaps, strict=True)):
        t, k = t + step, k + (1 + gap if i else 0)
        found.append(t - k * 1e6 / rate_hz)
    return found


def _measure_data(bench, labelled, found, progress):
    """Pushes the test set to the board, window by window, and compares labels and outputs."""
    if not labelled:
        return
    from ..evaluate import scores

    x, y, name = labelled[0]
    outputs, resent = [], 0
    bench.link.exec(DECODE)
    try:
        for window in x:
            got, tries = _answered(bench.link, window.tobytes(), len(bench.graph.labels))
            outputs, resent = [*outputs, got], resent + tries
            progress("test set", len(outputs), len(x))
    finally:
        if outputs:
            found["data"] = _compared(bench, outputs, x, y, name, resent, scores)


_ANSWER = ((SHORT, SHORT), [range(-128, 128)])


def _answered(link, window, n_outputs):
    """Returns (outputs of a window that is pushed, how often it was sent again)."""
    pieces = [b64encode(window[at : at + CHUNK_BYTES]) for at in range(0, len(window), CHUNK_BYTES)]
    for again in range(_TRIES):
        for piece in pieces[:-1]:
            link.exec(f"_b.receive(_d({piece!r}))")
        (high, low), outputs = link.eval("_b.answer()", BOARD_S, f"_b.receive(_d({pieces[-1]!r}))", _ANSWER)
        if high << 16 | low == zlib.crc32(window) and len(outputs) == n_outputs:
            return outputs, again
    raise MeasureError(f"{link.device}: a window arrived damaged {_TRIES} times; check the cable, then try again")


def _compared(bench, outputs, x, y, name, resent, scores):
    import numpy as np

    from .. import reference

    got, n = np.array(outputs, np.int8), len(outputs)
    expected = reference.Reference(bench.data).run(x[:n])
    figures = scores(y[:n], got.argmax(1), len(bench.graph.labels))
    same = int((got == expected).all(1).sum())
    head = {"name": name, "n_windows": n, "wanted": len(x), "resent": resent, "same_bytes": same}
    return {**head, "accuracy": float(figures["accuracy"]), "macro_f1": float(figures["macro_f1"])}


def _energy(bench, options, found, say):
    """Returns the energy of a window, from a meter or as an estimate; None where no board takes it."""
    if bench.facts.is_computer:
        return None
    if options.meter is None:
        return estimate(bench.facts, found["run_ms"]["mean"])
    meter, link, got = options.meter, bench.link, {"i": [], "b": []}
    link.exec(board_code("energy"), timeout=60)
    meter.start(link)

    def take(words):
        if words[0] in ("I", "B", "D"):
            meter.mark(words[0])
        if words[0] == "D":
            n, busy_ms = map(whole, words[1:3])
            if min(n, busy_ms) < 1:
                raise ValueError(words)
            got["D"] = n, busy_ms
        elif words[0] in ("i", "b"):
            got[words[0]] += [(whole(a), whole(b)) for a, b in (pair.split(",") for pair in words[1:])]

    ms = round(meter.phase_s * 1000)
    say(f"energy: {2 * meter.phase_s:.0f} s, half of them with nothing to do")
    damaged = stream(link, f"energy(_b, {ms}, {ms}, {options.marker!r}, {meter.on_board})", take)
    if damaged or "D" not in got:
        raise MeasureError(f"{link.device}: lines of the energy arrived damaged; check the cable, then try again")
    n, busy_ms = got["D"]
    return meter.stop(Run(meter.phase_s, busy_ms / 1000, n, got["i"], got["b"]))


def estimate(facts, ms):
    """Returns what the table of boards says that a window takes, as a dict; None for a board that is not in it."""
    from .energy import window_energy_uj

    board = known_board(facts)
    if board is None:
        return None
    value, how = window_energy_uj(board, ms)
    return {"window_uj": value, "window_ms": ms, "how": how, "board": board.name, "estimate": True}


def known_board(facts):
    """Returns the Board of the table that a firmware's name of its board means, else None."""
    name, _, chip = facts.machine.partition(" with ")
    stock = NAMES.get(facts.implementation)
    for board in BOARDS.values():
        title = re.split(r",| with ", board.title)[0]
        generic = name.startswith("Generic ") and "GENERIC" in board.title and title.replace("-", "") == chip
        if board.firmware == stock and board.arch == facts.arch and (title == name or generic):
            return board
    return None


def same_bytes(found):
    """Says whether a board gave the reference's bytes on every window that it ran."""
    data = found["data"]
    return found["same_bytes"]["different"] is None and (data is None or data["same_bytes"] == data["n_windows"])


def render(found):
    """Returns the lines that ``attn8 bench --port`` prints."""
    lines = [*_head_lines(found), *_time_lines(found), _heap_line(found["heap"]), *_sampling_line(found)]
    lines += [_same_line(found), *_data_line(found["data"]), *_energy_lines(found["energy"])]
    return "\n".join(lines)


def _head_lines(found):
    clock = f", {found['clock_hz'] / 1e6:.0f} MHz" if found["clock_hz"] and not found["is_computer"] else ""
    what = f"'{found['model']}' v{found['version']} {found['id']}"
    return [
        f"board       {found['machine']}, {found['firmware']}{clock}, {found['backend']}",
        f"model       {what}, {found['bytes']:,} bytes, {found['source']}",
    ]


def _time_lines(found):
    n = f"{found['n_windows']:,} windows, {found['inputs']} values"
    n += f", {found['lost']:,} lost on the cable" if found["lost"] else ""
    n += f" of {found['wanted']:,}: stopped" if found["interrupted"] else ""
    if found["run_ms"] is None:
        return [f"times       {NO_BOARD} ({n})"]
    keys = ("p50", "p95", "p99", "max", "mean")
    lines = [f"ms{'':10}" + "".join(f"{key:>9}" for key in keys) + f"   {n}"]
    for name, what in (("run", "run alone"), ("loop", "run, decide, a line of text; the collector on")):
        lines.append(f"{name:12}" + "".join(f"{found[f'{name}_ms'][key]:9.3f}" for key in keys) + f"   {what}")
    gc, timer = found["collector"], found["timer"]
    every = f", one for {gc['threshold_bytes']:,} bytes of garbage" if gc["threshold_bytes"] else ""
    lines.append(f"collector   {gc['pause_ms']:.3f} ms a collection{every}: {gc['collections']:,} in these windows")
    if timer:
        how = "in the interrupt" if timer["in_interrupt"] else "scheduled"
        lines.append(f"timer       {timer['hz']:,} Hz, {timer['calls']:,} calls of {timer['expected']:,}, {how}")
    return lines


def _heap_line(heap):
    stack = "" if heap["stack_bytes"] is None else f"; {heap['stack_bytes']:,} bytes of C stack where run is called"
    ten = heap["bytes_in_ten_runs"]
    return (
        f"heap        {heap['free_before']:,} bytes free, {heap['free_after']:,} with the model, "
        f"{ten:,} allocated by ten runs{stack}"
    )


def _sampling_line(found):
    s = found["sampling"]
    if s is None:
        return []
    if "reason" in s:
        return [f"sampling    not measured: {s['reason']}"]
    return [
        f"sampling    {s['rate_hz']:g} Hz, a window every {s['hop']}: {s['late']} late and {s['lost']} lost of "
        f"{s['n_samples'] + s['lost']:,} samples, at most {s['worst_late_ms']:.3f} ms late"
    ]


def _same_line(found):
    same, golden = found["same_bytes"], found["same_bytes"]["golden_vectors"]
    if same["different"] is None:
        return f"same bytes  yes: {golden} golden vectors and {same['windows']:,} windows as the reference"
    return f"same bytes  NO: from window {same['different']:,} on the outputs differ from the reference"


def _data_line(data):
    if not data:
        return []
    part = f" of {data['wanted']:,}" if data["n_windows"] < data["wanted"] else ""
    same = "as" if data["same_bytes"] == data["n_windows"] else f"only {data['same_bytes']:,} as"
    return [
        f"accuracy    {data['accuracy']:.1%}, macro-F1 {data['macro_f1']:.3f}, {data['n_windows']:,}{part} windows of "
        f"{data['name']} run there, {same} the reference"
    ]


def _energy_lines(energy):
    if energy is None:
        return []
    if energy["estimate"]:
        return [f"energy      {energy['window_uj']:,.0f} uJ a window, an {energy['how']}"]
    below = ", below what this meter tells" if energy["below_resolution"] else ""
    return [
        f"energy      {energy['window_uj']:,.1f} uJ a window of {energy['window_ms']:.2f} ms, of which "
        f"{energy['above_idle_uj']:,.1f} ± {energy['error_uj']:,.1f} above doing nothing{below}",
        f"power       {energy['busy_mw']:.2f} mW with windows, {energy['idle_mw']:.2f} mW with nothing to do: "
        f"{energy['how']}",
    ]
