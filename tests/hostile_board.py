"""A program behind a pty that speaks the raw REPL and answers each command as a test wants, for ever if need be."""

import contextlib
import os
import select
import threading

from pty_board import _raw_pty as raw_pty

_SLICE_S = 0.02
RAW = b"raw REPL; CTRL-B to exit\r\n>"


class HostileBoard:
    """Use it as a context manager; ``port`` is what a host opens.

    Args:
        answer: called with the code of a command as text; returns what it prints, or an iterator of pieces of what
            comes behind "OK", without end where it has none.
    """

    def __init__(self, answer):
        self.answer, self._stop, self._code = answer, threading.Event(), None
        self._host, self._plug = raw_pty()
        self.port = os.ttyname(self._plug)

    def __enter__(self):
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *exception):
        self._stop.set()
        self._thread.join()
        os.close(self._host)
        os.close(self._plug)

    def _serve(self):
        while not self._stop.is_set():
            if select.select([self._host], [], [], _SLICE_S)[0]:
                for byte in os.read(self._host, 65536):
                    self._take(byte)

    def _take(self, byte):
        if byte == 1 and self._code is not None and self._code.endswith(b"\x05A"):
            self._code = b""
            self._send([b"R\x00"])  # no raw paste
        elif byte == 1:
            self._code = b""
            self._send([RAW])
        elif byte in (2, 3):
            self._code = None
        elif byte == 4 and self._code is not None:
            code, self._code = self._code.decode(errors="replace"), b""
            self._send(self._answered(code))
        elif self._code is not None:
            self._code += bytes([byte])

    def _answered(self, code):
        yield b"OK"
        if not code:  # a soft reset
            yield b"\r\nMPY: soft reboot\r\n" + RAW
            return
        found = self.answer(code)
        if isinstance(found, (bytes, str)):
            yield (found if isinstance(found, bytes) else found.encode()) + b"\x04\x04>"
            return
        yield from found

    def _send(self, pieces):
        for data in pieces:
            while data and not self._stop.is_set():
                if select.select([self._host], [self._host], [], _SLICE_S)[1]:
                    with contextlib.suppress(BlockingIOError):
                        data = data[os.write(self._host, data) :]
            if self._stop.is_set():
                return


def value(text):
    """Returns what a board prints for a value whose repr is this text: as the code of link.question does."""
    text = str(text)
    return f"\n{len(text)} {sum(text.encode())} {text}\n"
