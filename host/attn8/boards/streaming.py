"""A program on a board that sends blocks until it is told to end, and what of them arrived, was damaged or was lost."""

import binascii
import contextlib
import re
import signal
import struct
import time
import zlib
from base64 import b64decode
from collections import deque
from dataclasses import dataclass, field

import numpy as np

from .link import LinkError, RemoteError

_SLICE_S = 0.04  # how long a key or a block may wait
_SILENT_S = 3  # beyond the time of a block: the board is gone
_END_S = 2
_SETTLED_US = 300_000  # until what a buffer held at the start is taken
_LINE_BYTES = 1 << 14
HEAD = struct.Struct("<5IH")
LOST_TOLERANCE = 0.01  # of the samples: more is worth a sentence
_WRAP_US = 1 << 30
_PROMPT = b">>> "
_END = re.compile(rb"\x04((?:Traceback[^\x04]*)?)\x04>")  # a lone 4 is a damaged byte


@dataclass
class Block:
    """A block of samples that arrived whole.

    Attributes:
        index: place of its first sample on the grid of all, lost ones included.    values: (n, C).
        times_us: float (n,), since the first sample of all.    late: samples that came late since the block before.
        lost, damaged: samples missing before it: by the board's own count, and on the way.
    """

    index: int
    values: np.ndarray
    times_us: np.ndarray
    late: int
    lost: int
    damaged: int


def decode(line):
    """Returns the bytes of a line, None if it is damaged or none of ours."""
    _, mark, text = line.rpartition(b":")  # the last: two lines are one where the end of the first is damaged
    if not mark:
        return None
    try:
        data = b64decode(text.strip(), validate=True)
    except (binascii.Error, ValueError):
        return None
    if len(data) < 4 or zlib.crc32(data[:-4]) != int.from_bytes(data[-4:], "little"):
        return None
    return data[:-4]


class Program:
    """A program on the board of a Link. Use it as a context manager: it ends with it, however that comes.

    Args:
        link: Link with everything prepared.    code: what runs until it reads a byte.
        silent_s: seconds without a line that is whole after which the board counts as gone.
    """

    def __init__(self, link, code, silent_s=0.0):
        self.link, self.silent_s = link, silent_s + _SILENT_S
        self._rest, self._error, self._ended = b"", None, False
        self._waiting = deque()  # lines that came and were not asked for yet
        with link.told("starting a program"), link.limited(_LINE_BYTES):
            link.transport.exec_raw_no_follow(code)

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        if kind is None or not issubclass(kind, LinkError):
            with contextlib.suppress(LinkError):
                self.end()

    def lines(self):
        """Yields each line as it comes, and None whenever there is none for a moment.

        Raises:
            LinkError: if the board is gone or starts anew.    RemoteError: if its program ends by an exception.
        """
        last = time.monotonic()
        while self._waiting or not self._ended:
            if not self._waiting:
                self._waiting += self._receive()
            line = self._waiting.popleft() if self._waiting else None
            if line is not None and decode(line) is not None:
                last = time.monotonic()
            elif time.monotonic() - last > self.silent_s:
                what = "has stopped sending" if line is None else "sends nothing that arrives whole"
                raise LinkError(f"{self.link.device}: the board {what}; check cable and power")
            yield line
        if self._error:
            raise RemoteError(self.link.device, self._error.decode(errors="replace"))

    def _receive(self):
        """Returns the lines that came within a moment."""
        serial = self.link.transport.serial
        with self.link.told("receiving samples"):
            serial.timeout = _SLICE_S
            data = self._rest + serial.read(4096)
        ended = _END.search(data)
        if ended:
            self._ended, self._error, self._rest = True, ended[1].strip(), b""
            self._show_prompt()
            return data[: ended.start()].split(b"\n")[:-1]
        if b"\x04Traceback" in data and len(data) < _LINE_BYTES:
            self._rest = data
            return []
        *lines, self._rest = data.split(b"\n")
        if self._rest.endswith(_PROMPT) or any(line.startswith(b"MPY: soft reboot") for line in lines):
            raise LinkError(f"{self.link.device}: the board has started anew; check its power")
        if len(self._rest) > _LINE_BYTES:
            self._rest = b""
        return lines

    def _show_prompt(self):
        """The next command waits for a prompt, and the one behind the program is read already."""
        with self.link.told("ending a program"):
            self.link.transport.serial.write(b"\x01")

    def end(self):
        """Asks the program to end. Returns the lines that nobody has seen. Raises LinkError if it does not."""
        for byte in (b"q", b"\r\x03"):
            if not self._ended:
                with self.link.told("ending a program"):
                    self.link.transport.serial.write(byte)
            end = time.monotonic() + _END_S
            while not self._ended and time.monotonic() < end:
                self._waiting += self._receive()
        if not self._ended:
            raise LinkError(f"{self.link.device}: its program does not end; press its reset button")
        found = list(self._waiting)
        self._waiting.clear()
        return found


class CtrlC:
    """Context manager: Ctrl-C sets ``pressed`` and breaks nothing off, so no byte that came is lost; twice it does."""

    def __init__(self):
        self.pressed, self._before = False, None

    def __enter__(self):
        with contextlib.suppress(ValueError):  # signals are the main thread's
            self._before = signal.signal(signal.SIGINT, self._press)
        return self

    def __exit__(self, *_):
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)

    def _press(self, number, frame):
        if self.pressed:
            raise KeyboardInterrupt
        self.pressed = True


def unwrapped(t_us, expected_us):
    """Returns the time that a board's clock, which goes round, means: that nearest to what is expected."""
    return t_us + round((expected_us - t_us) / _WRAP_US) * _WRAP_US


@dataclass
class Receiver:
    """Makes Blocks of lines.

    Args:
        rate_hz: of the samples.    n_channels: numbers in a sample.    kind: "h" or "f".
        is_polled: a step is sent with each sample.

    Attributes:
        samples, late, lost, damaged: so far.    ended: whether the board has said so.
        measured_hz: by the clock of a sensor that has its own, None before there is enough to tell.
    """

    rate_hz: float
    n_channels: int
    kind: str
    is_polled: bool
    samples: int = 0
    late: int = 0
    lost: int = 0
    damaged: int = 0
    ended: bool = False
    measured_hz: float | None = None
    _next: int = 0
    _last_index: int = 0
    _number: int = -1
    _board_lost: int = 0
    _board_late: int = 0
    _last_us: float = 0.0
    _first: tuple = field(default=None)

    def take(self, line):
        """Returns the Block of a line; None if there is none in it, or if it did not arrive whole."""
        body = decode(line)
        if body is None or len(body) < HEAD.size:
            return None
        number, index, t_us, late, lost, n = HEAD.unpack_from(body)
        size = {"h": 2, "f": 4}[self.kind] * self.n_channels + 2 * self.is_polled
        if len(body) != HEAD.size + n * size or number <= self._number or index < self._next:
            return None
        if lost < self._board_lost or late < self._board_late:
            return None
        missing, lost_now, late_now = index - self._next, lost - self._board_lost, late - self._board_late
        self._number, self._board_lost, self._board_late = number, lost, late
        start_us = unwrapped(t_us, self._last_us + (index - self._last_index) * 1e6 / self.rate_hz)
        if not self.is_polled:
            self._measure(index + n, start_us)
        self._last_us, self._last_index, self._next = start_us, index, index + n
        lost_now = min(missing, lost_now)
        self.samples, self.late = self.samples + n, self.late + late_now
        self.lost, self.damaged = self.lost + lost_now, self.damaged + missing - lost_now
        self.ended = n == 0
        return None if self.ended else self._block(body, index, start_us, n, late_now, lost_now, missing - lost_now)

    def _measure(self, index, t_us):
        if t_us < _SETTLED_US:
            return
        self._first = self._first or (index, t_us)
        elapsed_s = (t_us - self._first[1]) / 1e6
        if elapsed_s >= 1:
            self.measured_hz = (index - self._first[0]) / elapsed_s

    def _block(self, body, index, start_us, n, late, lost, damaged):
        code = {"h": "<i2", "f": "<f4"}[self.kind]
        values = np.frombuffer(body, code, n * self.n_channels, HEAD.size).reshape(n, self.n_channels)
        if self.is_polled:
            # What the board's Sampler takes for a period: whole microseconds.
            period_us = (
                int(1e9 / int(1000 * self.rate_hz + 0.5)) if self.rate_hz >= 1 else int(1e6 / self.rate_hz + 0.5)
            )
            steps = np.frombuffer(body, "<i2", n, len(body) - 2 * n).astype(np.float64) + period_us
            steps[0] = 0
            times_us = start_us + np.cumsum(steps)
        else:
            times_us = (index + np.arange(n)) * 1e6 / self.rate_hz
        return Block(index, values, times_us, late, lost, damaged)
