"""esptool, run as a program: which chip is at a port, what is in its flash, and writing there.

esptool is under the GPL and is not imported. It uploads its flasher stub, as it does by default: the stub takes
compressed data, reads flash and computes its hash in one piece, which the ROM loader of a chip does slowly or not at
all. Between two runs the stub stays, so that a board without reset lines need not be brought back by its buttons.
"""

import importlib.util
import os
import queue
import re
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path

from ..errors import ToolMissingError
from .link import LinkError, why_closed

CONNECT_ATTEMPTS = 7
_QUIET_S = 180  # erasing 16 MB of flash is the longest that nothing is printed
_LINES = 2000
_BUTTON = "hold its BOOT button, press and release reset, let BOOT go, then try again"
_SIZE = {"KB": 1 << 10, "MB": 1 << 20}


@dataclass(frozen=True)
class EspBoard:
    """What a board told: port, name of its chip, bytes of its flash (None where it did not tell)."""

    port: str
    chip: str
    flash_bytes: int | None


def read_board(port):
    """Returns the EspBoard at a port. Raises LinkError if none answers, ToolMissingError without esptool."""
    text = _esptool(port, ["flash-id"])
    size = re.search(r"Detected flash size: (\d+)(KB|MB)", text)
    return EspBoard(port, _chip(text), int(size[1]) * _SIZE[size[2]] if size else None)


def read_flash(port, address, n_bytes, folder):
    """Returns bytes of a board's flash. Raises LinkError.

    Args:
        address, n_bytes: which.    folder: for a file of esptool's.
    """
    file = Path(folder, "flash.bin")
    _esptool(port, ["read-flash", hex(address), hex(n_bytes), str(file)])
    return file.read_bytes()


def reset(port):
    """Lets the board at a port start its firmware, as far as it has reset lines. Raises LinkError."""
    _esptool(port, ["chip-id"], after="hard-reset")


def write_flash(port, chip, pieces, folder, baud, erase=False, progress=None):
    """Writes pieces of flash, lets the chip compare the MD5 of each, and restarts the board.

    Args:
        chip: its name.    pieces: [(address, bytes)].    folder: for files of esptool's.    baud: bits per second.
        erase: the whole flash, first.    progress: called with (what, bytes done, bytes in all).

    Raises:
        LinkError: if anything fails; the board is then without firmware, and the text says how to go on.
    """
    command = ["write-flash", *(["--erase-all"] if erase else [])]
    for i, (address, data) in enumerate(pieces):
        file = Path(folder, f"{i}.bin")
        file.write_bytes(data)
        command += [hex(address), str(file)]
    watch = _Progress([len(data) for _, data in pieces], progress)
    text = _esptool(port, command, watch, "hard-reset", ("--chip", chip.lower().replace("-", ""), "--baud", str(baud)))
    if text.count("Hash of data verified") != len(pieces):
        raise LinkError(f"{port}: esptool did not compare what it wrote; {_again()}")


def _again():
    return f"the board has no whole firmware now: flash it again, at --baud 115200 and with another cable; {_BUTTON}"


class _Progress:
    """Follows esptool's lines and calls ``progress``. ``started``: whether flash was erased or written."""

    def __init__(self, sizes, progress):
        self.sizes, self.progress, self.i, self.started = sizes, progress, 0, False

    def __call__(self, line):
        found = re.match(r"Writing at 0x.*?(\d+(?:\.\d)?)%", line)
        self.started = self.started or bool(found) or line.startswith(("Erasing flash", "Flash will be erased"))
        if found and self.progress:
            now = self.sizes[self.i] * min(100.0, float(found[1])) / 100
            self.progress("writing", int(sum(self.sizes[: self.i]) + now), sum(self.sizes))
        if line.startswith("Hash of data verified"):
            self.i = min(self.i + 1, len(self.sizes) - 1)


def _chip(text):
    """Returns the name of the chip that esptool is connected to, "" before."""
    found = re.search(r"Connected to (ESP[\w-]+) on|Detecting chip type\.+\s*(ESP[\w-]+)", text)
    return (found[1] or found[2]) if found else ""


def _esptool(port, command, watch=None, after="no-reset-stub", options=()):
    """Runs esptool and returns what it printed. Raises LinkError."""
    if importlib.util.find_spec("esptool") is None:
        raise ToolMissingError("the Python package esptool is missing: pip install 'attn8[boards]'")
    if os.name != "nt" and "://" not in port and not os.path.exists(port):
        raise LinkError(why_closed(port))
    arguments = ["--port", port, "--connect-attempts", str(CONNECT_ATTEMPTS), "--after", after, *options, *command]
    environment = os.environ | {"PYTHONUTF8": "1", "NO_COLOR": "1", "COLUMNS": "120"}
    code, lines = _run([sys.executable, "-m", "esptool", *arguments], environment, watch)
    text = "\n".join(lines)
    if code != 0:
        raise LinkError(f"{port}: {_why(text, code, watch is not None and watch.started, port)}")
    return text


def _run(command, environment, watch):
    """Returns (exit status or None after too long a silence, list of lines)."""
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, env=environment
    )
    arrived, lines = queue.Queue(), []
    reader = threading.Thread(target=_read_lines, args=(process.stdout, arrived), daemon=True)
    reader.start()
    try:
        while (line := arrived.get(timeout=_QUIET_S)) is not None:
            lines = [*lines[-_LINES:], line]
            if watch:
                watch(line)
        return process.wait(_QUIET_S), lines
    except (queue.Empty, subprocess.TimeoutExpired):
        return None, lines
    finally:
        process.kill()
        process.wait()
        reader.join()
        process.stdout.close()


def _read_lines(stream, arrived):
    for line in stream:
        arrived.put(line.decode(errors="replace").rstrip())
    arrived.put(None)


def _why(text, code, started, port):
    """Returns the sentence for what esptool printed before it failed."""
    errors = re.findall(r"(?:error occurred: |ERROR: (?!A ))(.+)", text)
    error = errors[-1].strip() if errors else "no message"
    if code is None:
        error = f"esptool printed nothing for {_QUIET_S} s"
    if "MD5 of file does not match" in error or "region is empty" in error:
        return f"what the chip has in its flash is not what was written, the MD5 differs; {_again()}"
    if started:
        return f"the connection broke while writing ({error[:160]}); {_again()}"
    if re.search("Could not open|exclusively lock|port is busy|ermission denied", error):
        return why_closed(port).partition(": ")[2]
    if "Serial port" not in text:
        last = text.strip().rpartition("\n")[2]
        return f"esptool does not run ({last[:160]}); pip install --upgrade 'attn8[boards]'"
    if not _chip(text):
        return f"no ESP32 answers ({error[:100]}); {_BUTTON}; if it never does, the port is another device's"
    return f"esptool: {error[:200]}"
