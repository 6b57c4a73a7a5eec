"""A board at the end of a cable: mpremote's serial transport behind one adapter, every failure one sentence."""

import ast
import contextlib
import math
import os
import re
import struct
import time
import zlib
from base64 import b64encode
from dataclasses import dataclass

from . import BoardError, DoesNotFitError
from .shape import COUNT, SHORT, WHOLE, fits

_BAUD = 115200
_READ_S = 5  # a byte that the protocol promises; a board may collect garbage or erase flash before it
_WRITE_S = 10
_BOOT_S = 15  # boot.py of a user may wait for a network
_QUIET_S = 0.1
_TRIES = 3
CHUNK_BYTES = 768  # of a file in one command: 1 kB of base64
_MOST_ANSWER_BYTES, _MOST_BYTES = 1 << 18, 1 << 22  # of what is evaluated, of what a command prints
_MOST_FILE_DIGITS = 1 << 26  # of a slot with its log
_MOST_WAITS = 60  # so many times its timeout a command may take that shows signs of life
_MOST_TEXT = 300  # characters of an exception
_CTRL_A, _CTRL_B, _CTRL_C, _CTRL_D = b"\x01", b"\x02", b"\x03", b"\x04"
_NEVER = b"\xff"  # no byte of UTF-8
# CircuitPython says "soft reboot" in the language of its firmware; these are the same in all.
_RAW_REPL, _TAKEN = b"raw REPL; CTRL-B to exit\r\n", b"OK"
_SHORT = {"a": "/dev/ttyACM", "u": "/dev/ttyUSB", "c": "COM"}  # what mpremote calls them
_NO_SPACE, _READ_ONLY = 28, 30
_UNREADABLE = ("SyntaxError", "IndentationError", "NameError", "UnicodeError")
_ERRNO_NAMES = {"ENOSPC": _NO_SPACE, "EROFS": _READ_ONLY}
_RESET = "press its reset button or unplug it, then try again"


class LinkError(BoardError):
    """A board cannot be found, opened or talked to; the text says what to do."""


class RemoteError(LinkError):
    """Code raised an exception on the board.

    Attributes:
        kind: name of its class, such as "OSError".    message: its text.    errno: number of an OSError, else None.
        traceback: what the board printed.
    """

    def __init__(self, where, traceback):
        lines = traceback.strip().splitlines() or ["no traceback"]
        self.traceback, last = traceback, lines[-1].strip()[:_MOST_TEXT]
        self.kind, _, self.message = (part.strip() for part in last.partition(":"))
        self.errno = _errno(self.message) if self.kind == "OSError" else None
        super().__init__(f"{where}: the board says {last}")


def _errno(message):
    """Returns the number of "[Errno 28] ENOSPC" or "28", else None."""
    found = re.match(r"(?:\[Errno )?(\d+)", message)
    return int(found[1]) if found else _ERRNO_NAMES.get(message.split()[0] if message else "")


@dataclass(frozen=True)
class Port:
    """A serial port with a USB device behind it: its path, the serial number of the device, what that calls itself."""

    device: str
    id: str = ""
    description: str = ""


def ports():
    """Returns the list of Ports of USB serial devices, in the order of their paths."""
    from serial.tools import list_ports

    found = [p for p in list_ports.comports() if p.vid is not None]
    return [Port(p.device, p.serial_number or "", p.product or p.description or "") for p in sorted(found)]


def find_device(port=None):
    """Returns the device path, or URL, of a port in one of mpremote's spellings.

    Args:
        port: a device path, a0, u0 or c0 for the first ttyACM, ttyUSB or COM, id:SERIAL, port:PATH, auto for the first
            board, socket://host:port, or None for the only board.

    Raises:
        LinkError: if there is no such board; with None also if there are two.
    """
    if port in (None, "", "auto"):
        found = ports()
        if not found:
            raise LinkError("no board: no USB serial port is there; plug one in with a data cable, or give --port")
        if len(found) > 1 and port != "auto":
            raise LinkError(f"{len(found)} boards, name one with --port: {_listed(found)}")
        return found[0].device
    if port.startswith("id:"):
        for p in ports():
            if p.id == port[3:]:
                return p.device
        raise LinkError(f"no board with the serial number {port[3:]!r}; the boards are: {_listed(ports())}")
    if re.fullmatch(r"[auc]\d+", port):
        return _SHORT[port[0]] + port[1:]
    return port.removeprefix("port:")


def _listed(found):
    return "; ".join(f"{p.device} ({p.description}, id:{p.id})" for p in found) or "none"


def open_link(port=None, restart=True):
    """Opens a board and returns its Link, with the raw REPL reached.

    Args:
        port: see find_device.    restart: begin with a soft reset, so that the heap is empty; boot.py runs, main.py
            does not.

    Raises:
        LinkError: if there is no board, it is busy, or it does not answer.
    """
    link = Link(find_device(port))
    try:
        link.enter(restart)
    except BaseException:
        link.close()
        raise
    return link


def _open(device):
    """Returns mpremote's transport of a device."""
    import serial
    from mpremote import transport_serial
    from mpremote.transport import TransportError

    transport_serial.print = _print_nothing
    try:
        transport = transport_serial.SerialTransport(device, baudrate=_BAUD, timeout=_READ_S)
        transport.serial.write_timeout = _WRITE_S
        if "://" in device and not hasattr(transport.serial, "fd"):  # mpremote's REPL waits for it
            transport.serial.fd = transport.serial.fileno()
        return transport
    except (TransportError, serial.SerialException, OSError, ValueError):
        raise LinkError(why_closed(device)) from None


def _print_nothing(*_):
    """In place of print in mpremote, which shows what it got before it raises: stdout is for results."""


def why_closed(device):
    """Returns the sentence for a device path or URL that cannot be opened."""
    if "://" in device:
        return f"{device}: nobody answers there; check host and port, expected socket://HOST:PORT"
    if os.name != "nt":
        if not os.path.exists(device):
            return f"{device}: no such port; the boards are: {_listed(ports())}"
        if not os.access(device, os.R_OK | os.W_OK):
            return f"{device}: no permission; add yourself to its group (sudo usermod -aG dialout $USER), log in again"
    return f"{device}: busy, another program has it open; close that terminal, editor or mpremote, then try again"


def blamed(device, traceback):
    """Returns the LinkError for a traceback: that the code raised, or that the board could not read the code."""
    error = RemoteError(device, traceback)
    files = [line for line in error.traceback.splitlines() if line.lstrip().startswith("File ")]
    if error.kind in _UNREADABLE and (not files or "<stdin>" in files[-1]):
        return LinkError(f"{device}: a command arrived damaged ({error.kind}); {CABLE}")
    return error


def file_error(device, error, path, n_bytes):
    """Returns what to raise for a RemoteError of writing a file."""
    if error.errno == _NO_SPACE:
        return DoesNotFitError(
            f"{device}: the board is full: no room for the {n_bytes:,} bytes of {path}; remove files there "
            "(mpremote rm) or take a smaller model"
        )
    if error.errno == _READ_ONLY:
        return LinkError(
            f"{device}: the board's files are read-only from its side; a CircuitPython board gives them back "
            "when its drive is ejected or storage.remount in boot.py says so"
        )
    return error


def question(expression, setup=""):
    """Returns code that prints the repr of an expression with its sum, on a line of its own."""
    return f"{setup}\n_r = repr(({expression}))\nprint()\nprint(len(_r), sum(_r.encode()), _r)"


def answer(device, printed, shape=object):
    """Returns the value that the code of question printed.

    Args:
        shape: see shape.fits.

    Raises:
        LinkError: if it arrived damaged, or is not of this shape.
    """
    try:
        n, total, text = printed.rstrip("\n").rpartition("\n")[2].split(" ", 2)
        if (len(text), sum(text.encode())) == (int(n), int(total)):
            value = ast.literal_eval(text)
            if fits(value, shape):
                return value
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):  # what literal_eval raises
        pass
    raise LinkError(f"{device}: an answer arrived damaged ({printed.strip()[:80]!r}); {CABLE}")


class Link:
    """A board in the raw REPL. Made by open_link; use it as a context manager.

    Attributes:
        device: path or URL.    was_running: whether a program ran when the link was opened; close starts it again.
        is_pty: whether a program of a computer is at the other end, whose times say nothing about a board.
    """

    via = "mpremote"

    def __init__(self, device):
        self.device, self.was_running, self._lost = device, False, False
        self.transport, self._left, self._end = _open(device), math.inf, math.inf
        serial = self.transport.serial
        serial.read = self._metered(serial.read)
        self.is_pty = self.transport.is_pty

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()

    def _metered(self, read):
        """Returns a function that reads, and raises LinkError where ``limited`` allows no more."""

        def metered(size=1):
            data = read(size)
            self._left -= len(data)
            if self._left < 0 or time.monotonic() > self._end:
                raise LinkError(f"{self.device}: the board sends without end; {_RESET}")
            return data

        return metered

    @contextlib.contextmanager
    def limited(self, n_bytes, timeout=10):
        """With it the board may send so many bytes, and take some minutes; gives a function that lets these begin anew.

        Args:
            timeout: seconds that it may be silent, None for ever.
        """

        def begin():
            self._end = math.inf if timeout is None else time.monotonic() + _MOST_WAITS * timeout

        self._left = n_bytes
        begin()
        try:
            yield begin
        finally:
            self._left = self._end = math.inf

    @contextlib.contextmanager
    def told(self, doing):
        """Turns what serial port and transport raise into a LinkError."""
        import serial
        from mpremote.transport import TransportError

        try:
            yield
        except (serial.SerialException, OSError) as error:
            self._lost = True
            raise LinkError(f"{self.device}: the connection broke while {doing} ({error}); {CABLE}") from None
        except (TransportError, struct.error) as error:
            self._lost = True
            raise LinkError(f"{self.device}: the board stopped answering while {doing} ({error}); {CABLE}") from None

    def enter(self, restart):
        """Stops the program that runs and reaches the raw REPL, with a soft reset or without."""
        with self.told("stopping its program"):
            if not any(self._entered() for _ in range(_TRIES)):
                raise LinkError(
                    f"{self.device}: no MicroPython answers; {_RESET}; if it never does, the port is another device's "
                    "or the firmware has no REPL there"
                )
            if restart:
                self._restart()
        self.transport.in_raw_repl = True

    def _entered(self):
        serial = self.transport.serial
        serial.write(b"\r" + _CTRL_C)
        self.was_running = self.was_running or b"KeyboardInterrupt" in self._until(_NEVER, _QUIET_S)
        serial.write(b"\r" + _CTRL_A)
        return self._until(_RAW_REPL, 2).endswith(_RAW_REPL)

    def _until(self, ending, timeout_s):
        """Returns what comes, up to the ending or the end of the time."""
        serial, data, end = self.transport.serial, b"", time.monotonic() + timeout_s
        serial = getattr(serial, "orig_serial", serial)  # that of a mount waits without end
        serial.timeout = _QUIET_S
        try:
            while not data.endswith(ending) and time.monotonic() < end:
                data += serial.read(1)
        finally:
            serial.timeout = _READ_S
        return data

    def _restart(self):
        self._until(b">", _READ_S)
        self.transport.serial.write(_CTRL_D)
        for ending in (_TAKEN, _RAW_REPL):
            if not self._until(ending, _BOOT_S).endswith(ending):
                raise LinkError(f"{self.device}: no REPL {_BOOT_S} s after a soft reset; does boot.py end? {_RESET}")

    def restart(self):
        """Soft reset: an empty heap, boot.py but not main.py."""
        with self.told("restarting"):
            self._restart()

    def exec(self, code, timeout=10, on_data=None, most_bytes=_MOST_BYTES):
        """Runs code on the board and returns what it prints.

        Args:
            code: str.    timeout: seconds without output after which the board counts as lost; None waits for ever.
            on_data: called with the bytes as they come; then nothing is returned, and it may take for ever.
            most_bytes: that it may print.

        Raises:
            RemoteError: if the code raises.    LinkError: if the board stops answering, sends too much, or cannot read
                the code.
        """
        out = bytearray()
        try:
            with self.told("running a command"), self.limited(most_bytes, timeout) as begin:
                self.transport.exec_raw_no_follow(code)

                def passed_on(data):
                    begin()
                    on_data(data)

                error = self.transport.follow(timeout, passed_on if on_data else out.extend)[1]
        except KeyboardInterrupt:
            self._stop()
            raise
        if error:
            raise blamed(self.device, error.decode(errors="replace"))
        return out.removesuffix(b"\x04").decode(errors="replace").replace("\r\n", "\n")

    def _stop(self):
        """Stops what runs on the board, as Ctrl-C did here: else the next command waits for its end."""
        was_running = self.was_running  # which what is stopped here has nothing to do with
        if self.transport.mounted:  # what it served is cut in the middle; the mount there ends with a soft reset
            self.transport.serial, self.transport.mounted = self.transport.serial.orig_serial, False
        with contextlib.suppress(LinkError):
            self.enter(restart=False)
        self.was_running = was_running

    def eval(self, expression, timeout=10, setup="", shape=object):
        """Returns the value of an expression whose repr is a literal.

        Args:
            timeout: seconds, as in exec.    setup: code that runs before.    shape: of the value, see shape.fits.

        Raises:
            RemoteError: if the code raises.    LinkError: also if the value arrives damaged: its sum travels with it.
        """
        printed = self.exec(question(expression, setup), timeout, most_bytes=_MOST_ANSWER_BYTES)
        return answer(self.device, printed, shape)

    def put(self, data, path, progress=None, check=True, where=None):
        """Writes a file on the board and compares its length and CRC-32, computed there.

        Args:
            data: bytes.    path: on the board.    progress: called with (bytes done, bytes in all).
            check: False leaves the comparison to the caller.    where: an expression of the board that gives the path,
            for a path that one wrong bit must not make that of another file.

        Raises:
            DoesNotFitError: if the file system is full.    LinkError: if it is read-only, or the file arrived damaged.
        """
        where = where or repr(path)
        try:
            self.exec(_OPEN.format(where=where))
            for at in range(0, len(data), CHUNK_BYTES):
                chunk = data[at : at + CHUNK_BYTES]
                self.exec(f"_w(_d({b64encode(chunk)!r}))")
                if progress:
                    progress(at + len(chunk), len(data))
            self.exec("_f.close()")
        except RemoteError as error:
            self._give_up(where)
            if error.kind == "ValueError":
                raise self._damaged(path) from None
            raise self.file_error(error, path, len(data)) from None
        if check and self.crc(path) != (len(data), zlib.crc32(data)):
            raise self._damaged(path)

    def fill(self, buffer, data):
        """Writes bytes into the RAM of the board; the caller compares them.

        Args:
            buffer: an expression of the board that gives a bytearray or array of as many bytes.
        """
        self.exec(DECODE)
        for at in range(0, len(data), CHUNK_BYTES):
            chunk = data[at : at + CHUNK_BYTES]
            self.exec(f"{buffer}[{at}:{at + len(chunk)}] = _d({b64encode(chunk)!r})")

    def _damaged(self, path):
        return LinkError(f"{self.device}: {path} arrived damaged; {CABLE}")

    def _give_up(self, where):
        """Removes the part of a file that was written."""
        with contextlib.suppress(LinkError):
            self.exec("_f.close()")
        with contextlib.suppress(LinkError):
            self.exec(f"import os\nos.remove({where})")

    def file_error(self, error, path, n_bytes):
        """Returns what to raise for a RemoteError of writing a file."""
        return file_error(self.device, error, path, n_bytes)

    def crc(self, path):
        """Returns (length, CRC-32) of a file, computed by the board."""
        n, high, low = self.eval(f"_crc({path!r})", 60, _CRC, (COUNT, SHORT, SHORT))
        return n, high << 16 | low

    def get(self, path):
        """Returns the bytes of a file. Raises LinkError if they arrive damaged."""
        text = "".join(self.exec(_GET.format(path=path), 30, most_bytes=_MOST_FILE_DIGITS).split())
        try:
            data = bytes.fromhex(text)
        except ValueError:
            raise self._damaged(path) from None
        if (len(data), zlib.crc32(data)) != self.crc(path):
            raise self._damaged(path)
        return data

    def listdir(self, path="/"):
        """Returns [(name, is_folder, bytes)] of a folder, sorted."""
        return sorted(self.eval(f"_l({path.rstrip('/')!r})", setup=_LIST, shape=[(str, bool, WHOLE)]))

    def stat(self, path):
        """Returns (is_folder, bytes) of a file or folder, None if it is not there."""
        try:
            mode, size = self.eval(f"(lambda s: (s[0], s[6]))(__import__('os').stat({path!r}))", shape=(WHOLE, WHOLE))
        except RemoteError:
            return None
        return bool(mode & 0x4000), size

    def mkdir(self, path):
        """Makes a folder and those above it, where they are not there."""
        parts = path.strip("/").split("/")
        for i in range(len(parts)):
            folder = "/" + "/".join(parts[: i + 1])
            if self.stat(folder) is None:
                try:
                    self.exec(f"import os\nos.mkdir({folder!r})")
                except RemoteError as error:
                    raise self.file_error(error, folder, 0) from None

    def remove(self, path):
        """Removes a file, or an empty folder."""
        self.exec(f"import os\ntry:\n os.remove({path!r})\nexcept OSError:\n os.rmdir({path!r})")

    def can_mount(self):
        """Says whether the firmware can mount a folder of this computer; CircuitPython mounts none but its own."""
        return self.eval("__import__('sys').implementation.name", shape=str) == "micropython"

    def mount(self, folder):
        """Serves a folder of this computer at /remote, where the board goes.

        Raises:
            LinkError: if the firmware cannot.
        """
        if not self.can_mount():
            raise LinkError(f"{self.device}: this firmware cannot mount a computer's folder; MicroPython can")
        with self.told("mounting a folder"), self.limited(_MOST_BYTES):
            self.transport.mount_local(str(folder))

    def unmount(self):
        """Undoes mount, as far as the board still answers."""
        with contextlib.suppress(LinkError), self.told("unmounting a folder"), self.limited(_MOST_BYTES):
            if not self.transport.in_raw_repl:
                self.transport.enter_raw_repl(soft_reset=False)
            self.transport.umount_local()

    def reset(self):
        """Soft reset as from the button: boot.py and main.py run. The link is out of the raw REPL then."""
        with self.told("restarting"):
            serial = self.transport.serial
            serial.write(b"\r" + _CTRL_B)
            self._until(b">>> ", _READ_S)
            serial.write(_CTRL_D)
            self.transport.in_raw_repl = False
            for _ in range(2):  # the end of its line, then what it calls a soft reboot
                if not self._until(b"\n", _BOOT_S).endswith(b"\n"):
                    raise LinkError(f"{self.device}: no soft reset; {_RESET}")

    def close(self):
        """Leaves the raw REPL; a program that ran when the link was opened is started again."""
        with contextlib.suppress(LinkError, OSError):
            if self.transport.in_raw_repl and self.was_running:
                self._take_back_boot()
                self.reset()
            elif self.transport.in_raw_repl:
                self.transport.exit_raw_repl()
        with contextlib.suppress(Exception):  # the port may be gone
            self.transport.close()

    def _take_back_boot(self):
        """A model in trial was running and is started again: this boot tells nothing about it."""
        if not self._lost:
            with contextlib.suppress(LinkError):
                self.exec(_STOPPED)


CABLE = "check the cable, then try again"
# Names with an underscore in the board's __main__; they end with the next soft reset.
DECODE = """
try:
 from binascii import a2b_base64 as _d
except ImportError:
 from ubinascii import a2b_base64 as _d
"""
_OPEN = f"""{DECODE}
_f = open({{where}}, "wb")
_w = _f.write
"""
# Small ints have 31 bits and not every board has larger ones, so a CRC travels as two halves.
_CRC = """
def _crc(path):
 c = n = 0
 b = bytearray(512)
 try:
  from binascii import crc32
 except ImportError:
  def crc32(data, c):
   c ^= 0xFFFFFFFF
   for v in data:
    c ^= v
    for _ in range(8):
     c = c >> 1 ^ (0xEDB88320 if c & 1 else 0)
   return c ^ 0xFFFFFFFF
 with open(path, "rb") as f:
  while True:
   k = f.readinto(b)
   if not k:
    return n, c >> 16 & 65535, c & 65535
   c = crc32(memoryview(b)[:k], c)
   n += k
"""
_STOPPED = "__import__('attn8.slots', None, None, ('*',)).stopped()"
_GET = """
from binascii import hexlify as _h
with open({path!r}, "rb") as _f:
 while True:
  _b = _f.read(256)
  if not _b:
   break
  print(str(_h(_b), "ascii"))
"""
_LIST = """
import os
def _l(path):
 found = []
 for name in os.listdir(path or "/"):
  s = os.stat(path + "/" + name)
  found.append((name, bool(s[0] & 0x4000), s[6]))
 return found
"""
