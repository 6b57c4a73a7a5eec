"""A model on a board, with the code that measures it, and the lines that this prints.

What runs on the board lies in on_board/; it is sent there, prints lines with a check, and is gone after a soft reset.
"""

import re
import zlib
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from . import BoardError, DoesNotFitError
from .board_code import board_code
from .deploy import check_package
from .facts import Facts, read_facts, read_slots
from .link import LinkError, RemoteError, open_link
from .shape import SHORT, WHOLE, Either

NO_BOARD = "no board: times of a computer, not shown"
BOARD_S = 300  # without a line; a window of a large model in bytecode
_MOST_BYTES, _MOST_ROW_BYTES = 1 << 20, 128  # of what a program prints, and for each window, sample or row of it
_CHECKED = re.compile(rb"(.*) \*([0-9a-f]{4})")


class MeasureError(BoardError):
    """A measurement on a board cannot be made, or went wrong; the text says what to do."""


class Reader:
    """Takes what a board prints and gives each line that arrived whole, as words; others are counted in ``damaged``."""

    def __init__(self, on_words):
        self.on_words, self.rest, self.damaged = on_words, b"", 0

    def feed(self, data):
        *lines, self.rest = (self.rest + data.replace(b"\x04", b"")).split(b"\n")
        for line in lines:
            found = _CHECKED.fullmatch(line.rstrip(b"\r"))
            if found and zlib.crc32(found[1]) & 0xFFFF == int(found[2], 16):
                self._give(found[1].decode(errors="replace").split(" "))
            elif line.strip():
                self.damaged += 1
        self.rest = self.rest[-(1 << 13) :]

    def _give(self, words):
        try:
            self.on_words(words)
        except (ValueError, IndexError):  # whole, but no line of ours: a board may say anything
            self.damaged += 1


def whole(text):
    """Returns the int of a word of a line. Raises ValueError if it is none, or larger than anything measured."""
    if not re.fullmatch(r"-?[0-9]{1,15}", text):
        raise ValueError(text[:40])
    return int(text)


def stream(link, code, on_words, n_rows=0, timeout=BOARD_S):
    """Runs code on the board and gives the words of each line; returns how many lines arrived damaged.

    Args:
        n_rows: windows, samples or rows that it tells of: a board that sends much more is given up.

    Raises:
        KeyboardInterrupt: after Ctrl-C, when the board has stopped as well.    LinkError.    RemoteError.
    """
    reader = Reader(on_words)
    try:
        link.exec(code, timeout, reader.feed, _MOST_BYTES + n_rows * _MOST_ROW_BYTES)
    except KeyboardInterrupt:
        _regain(link)
        raise
    return reader.damaged


def _regain(link, restart=False):
    """Stops what runs on the board and reaches its raw REPL again, from any state."""
    was_running = link.was_running  # which what is stopped here has nothing to do with
    link.enter(restart)
    link.was_running = was_running


@dataclass
class Bench:
    """A model on a board that waits to be measured.

    Attributes:
        data: bytes of the file.    model: reference.Model.    heap: dict.    first_us: of a window, by the clock there.
    """

    link: object
    facts: Facts
    backend: str
    data: bytes
    source: str
    ranges: list
    model: object
    heap: dict
    first_us: int

    @property
    def graph(self):
        return self.model.graph


@contextmanager
def opened(what, port, inputs="golden", prepare=lambda graph: None):
    """Gives a Bench with a model on it, which is gone afterwards.

    Args:
        what: path of a .a8 file here, or a slot name of the board.    prepare: called with the graph of the model, of
            a file before a board is looked for.

    Raises:
        MeasureError, DoesNotFitError, LinkError, attn8.ModelError, DataError.
    """
    from .. import reference
    from ..model_file import read_model

    data = read_model(what) if what.endswith(".a8") or Path(what).is_file() else None
    if data:
        prepare(reference.parse(data).graph)
    with open_link(port) as link:
        facts, package = read_facts(link), check_package(link)
        if data:
            source, path = str(what), None
        else:
            data, path = _read_slot(link, what)
            source = f"slot {path}"
            prepare(reference.parse(data).graph)
        model = reference.parse(data)
        try:
            yield _begin(link, facts, package, data, source, path, model, _ranges(model.graph, inputs))
        finally:
            _forget(link)


def _read_slot(link, name):
    """Returns (bytes of the active model of a slot name, path there). Loading it as such would count a boot."""
    try:
        active = next((s for s in read_slots(link, name) if s["active"]), None)
    except RemoteError as error:
        raise MeasureError(f"{name}: no file here, and no slot name of a board ({error.message})") from None
    if active is None:
        raise MeasureError(
            f"{name}: no file here, and no slot of {link.device} with a model; give a .a8 file, or see attn8 status"
        )
    path = f"{name}.{active['slot']}.a8"
    return link.get(path)[: active["bytes"]], path


def _forget(link):
    """Empties the board's heap again; a cable that is gone was told before."""
    try:
        _regain(link, restart=not link.was_running)  # else close starts its program
    except LinkError:
        link.transport.in_raw_repl = False


def _ranges(graph, inputs):
    """Returns [(lowest, number of values)] of each channel for the windows that the board draws."""
    wide = graph.input_requantize is not None
    low, n = (-32768, 65535) if wide else (-128, 255)
    if inputs == "random":
        return [(low, n)] * graph.n_channels
    return [(int(a), int(b)) for a, b in zip(graph.golden.low, graph.golden.n_values, strict=True)]


def _begin(link, facts, package, data, source, path, model, ranges):
    """Brings code and model into RAM and returns the Bench."""
    link.exec(board_code("measure"), timeout=60)
    try:
        _fill(link, data, path)
        link.exec(f"_b = Bench(_m, {ranges!r})", timeout=BOARD_S)
        link.exec("_b.m.selftest()", timeout=BOARD_S)
        heap = link.eval(
            "_b.free_before, _b.free_after, _b.heap_bytes()",
            BOARD_S,
            shape=(WHOLE, WHOLE, (WHOLE, Either(None, WHOLE))),
        )
        first_us = link.eval("_b.one()", BOARD_S, shape=WHOLE)
    except RemoteError as error:
        raise _refused(link, error, len(data), model.arena_bytes) from None
    heap = {"free_before": heap[0], "free_after": heap[1], "bytes_in_ten_runs": heap[2][0], "stack_bytes": heap[2][1]}
    backend = link.eval("_b.m.kernels", shape=str)
    return Bench(link, facts, backend, data, source, ranges, model, heap, first_us)


def _refused(link, error, n_bytes, arena_bytes):
    """Returns what to raise where the board cannot load the model."""
    if error.kind == "MemoryError":
        return DoesNotFitError(
            f"{link.device}: the model is too big for the heap: {n_bytes:,} bytes for the file, {arena_bytes:,} for "
            f"the arena ({error.message or 'no room'}); make it smaller (attn8 info tells its bytes)"
        )
    if error.kind == "ModelError":
        return MeasureError(f"{link.device}: the board refuses the model: {error.message}")
    return error


def _fill(link, data, path):
    """Brings the bytes of a model into RAM there: over the cable, or from a file of the board."""
    link.exec(f"_m = Memory({len(data)})")
    if path:
        link.exec(f"_m.read({path!r})", timeout=60)
    else:
        link.fill("_m.data", data)
    high, low = link.eval("_m.crc()", 60, shape=(SHORT, SHORT))
    if high << 16 | low != zlib.crc32(data):
        raise MeasureError(f"{link.device}: the model arrived damaged; check the cable, then try again")


def no_timer(bench, timer_hz, error):
    """Returns what to raise for a RemoteError of code that a timer interrupts."""
    if timer_hz and error.kind in ("ImportError", "ValueError", "AttributeError"):
        return MeasureError(
            f"{bench.link.device}: {bench.facts.firmware} there makes no timer interrupt of {timer_hz} Hz "
            f"({error.message}); leave out --timer"
        )
    return error
