"""A board by way of ampy, for one that mpremote does not reach: a program is run for each command."""

import ast
import importlib.util
import os
import queue
import re
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from ..errors import ToolMissingError
from .link import CABLE, LinkError, RemoteError, blamed, file_error, find_device, why_closed

_START_S = 12  # to start the program and the board, and for ampy's own waiting
_END_S = 5
_PUT_S_PER_BYTE = 0.005  # ampy sends 32 bytes at a time
_MAX_BYTES = 1 << 20  # of what a board prints


class AmpyLink:
    """What deploy needs of link.Link, through `ampy run` and `ampy put`. The board is started anew for each command.

    Args:
        port: see link.open_link.    delay_s: that ampy waits before it talks to the board, None for ampy's own.

    Raises:
        ToolMissingError: without adafruit-ampy.    LinkError: if there is no such port, or it is a URL.
    """

    via = "ampy"

    def __init__(self, port=None, delay_s=None):
        if importlib.util.find_spec("ampy") is None:
            raise ToolMissingError("the program ampy is missing: pip install 'attn8[boards]'")
        self.device = find_device(port)
        if "://" in self.device:
            raise LinkError(f"{self.device}: ampy knows device paths only; take --via mpremote")
        if os.name != "nt" and not os.access(self.device, os.R_OK | os.W_OK):
            raise LinkError(why_closed(self.device))
        self.is_pty = self.device.startswith("/dev/pts/")
        self._delay = [] if delay_s is None else ["-d", str(delay_s)]
        self._start_s = _START_S + (delay_s or 0)

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        pass

    def exec(self, code, timeout=10):
        """Runs code on the board and returns what it prints; as link.Link.exec."""
        with tempfile.TemporaryDirectory(prefix="attn8_") as folder:
            file = Path(folder, "code.py")
            file.write_text(code, encoding="utf-8")
            out = self._run("running a command", timeout, "run", str(file))
        return out.decode(errors="replace").replace("\r\n", "\n")

    def put(self, data, path, progress=None):
        """Writes a file on the board and returns its path; the caller lets the board compare it.

        Raises:
            DoesNotFitError: if the file system is full.    LinkError.
        """
        if progress:
            progress(path, 0, len(data))
        with tempfile.TemporaryDirectory(prefix="attn8_") as folder:
            file = Path(folder, "data")
            file.write_bytes(data)
            try:
                self._run("sending a file", len(data) * _PUT_S_PER_BYTE, "put", str(file), path)
            except RemoteError as error:
                raise file_error(self.device, error, path, len(data)) from None
        if progress:
            progress(path, len(data), len(data))
        return path

    def file_error(self, error, path, n_bytes):
        """Returns what to raise for a RemoteError of writing a file."""
        return file_error(self.device, error, path, n_bytes)

    def _run(self, doing, quiet_s, *arguments):
        """Runs ampy and returns what it prints. It has no end of its own when a board is silent."""
        command = [sys.executable, "-m", "ampy.cli", "-p", self.device, *self._delay, *arguments]
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0
        )
        try:
            out, error = self._outputs(process, quiet_s)
        except TimeoutError as problem:
            raise LinkError(
                f"{self.device}: the board stopped answering while {doing} through ampy ({problem}); {CABLE}"
            ) from None
        finally:
            process.kill()
            process.wait()
        if process.returncode:
            raise self._failure(error.decode(errors="replace"), doing)
        return out

    def _outputs(self, process, quiet_s):
        """Returns the bytes of stdout and stderr. Raises TimeoutError if nothing comes for so long, or too much."""
        told, parts = queue.Queue(), ([], [])
        pipes = (process.stdout, process.stderr)
        for i, pipe in enumerate(pipes):
            threading.Thread(target=_read, args=(pipe, i, told), daemon=True).start()
        wait_s, n_open, n_bytes = self._start_s + quiet_s, len(pipes), 0
        while n_open:
            try:
                i, data = told.get(timeout=wait_s)
            except queue.Empty:
                raise TimeoutError(f"silent for {wait_s:.0f} s") from None
            n_open, n_bytes = n_open - (not data), n_bytes + len(data)
            if n_bytes > _MAX_BYTES:
                raise TimeoutError("it prints without end")
            parts[i].append(data)
            wait_s = max(quiet_s, _END_S)
        end = time.monotonic() + _END_S
        while process.poll() is None and time.monotonic() < end:
            time.sleep(0.01)
        return b"".join(parts[0]), b"".join(parts[1])

    def _failure(self, error, doing):
        """Returns the LinkError for what ampy said when it ended with an error."""
        last = (error.strip().splitlines() or ["no message"])[-1]
        found = re.match(r"[\w.]*PyboardError: (.*)", last)
        what = found[1] if found else last
        if what.startswith("failed to access"):
            return LinkError(why_closed(self.device))
        try:
            kind, _, traceback = ast.literal_eval(what)
            if kind == "exception" and isinstance(traceback, bytes):
                return blamed(self.device, traceback.decode(errors="replace"))
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            pass
        return LinkError(
            f"{self.device}: the board stopped answering while {doing} through ampy ({what[:200]}); {CABLE}"
        )


def _read(pipe, i, told):
    """Passes on what comes from a pipe; no bytes say that it has ended."""
    with pipe:
        while data := pipe.read(4096):
            told.put((i, data))
    told.put((i, b""))
