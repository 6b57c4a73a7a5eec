"""The drive that a board becomes in its bootloader: found, compared with a UF2 file, written, gone at the restart."""

import os
import time
from dataclasses import dataclass
from pathlib import Path

from ..atomic import read_bytes
from .link import LinkError, ports
from .mounts import mount_folders

INFO = "INFO_UF2.TXT"
FILE = "firmware.uf2"
_INFO_BYTES = 1 << 16
_CHUNK_BYTES = 1 << 16
_POLL_S = 0.1
DRIVE_S = 30  # until a computer has mounted the drive
GONE_S = 20  # until a board that has everything restarts
BUTTON = (
    "hold its BOOTSEL or BOOT button while plugging it in (where it has a reset button: hold BOOT, press reset), then "
    "try again"
)


@dataclass(frozen=True)
class Drive:
    """A boot drive: its folder, and what INFO_UF2.TXT there calls the board."""

    path: Path
    model: str
    board_id: str

    def __str__(self):
        return f"{self.path} ({self.model}, {self.board_id})"

    def is_for(self, family):
        """Says whether a board of this uf2.Family shows itself so."""
        shown = f"{self.board_id} {self.model}".upper().replace("ESP32-", "ESP32")
        return any(name in shown for name in family.drive)


def read_drive(path):
    """Returns the Drive of a folder, None if there is no INFO_UF2.TXT in it."""
    try:
        text = read_bytes(Path(path, INFO), _INFO_BYTES).decode("ascii", "replace")
    except (OSError, ValueError):  # none, or a pipe that nobody fills
        return None
    fields = dict(line.partition(":")[::2] for line in text.splitlines())
    return Drive(Path(path), fields.get("Model", "").strip(), fields.get("Board-ID", "").strip())


def drives():
    """Returns the Drives that are there."""
    return [drive for drive in map(read_drive, mount_folders()) if drive]


def find_drive(family, named=None, wait_s=0, ignored=()):
    """Returns the Drive of a board in its bootloader, None if there is none.

    Args:
        family: uf2.Family that it must be for.    named: its folder.    wait_s: how long to wait for it, in seconds.
        ignored: paths of drives that are another board's.

    Raises:
        LinkError: if it is another board's, or there are two.
    """
    end = time.monotonic() + wait_s
    while True:
        found = [drive for drive in ([read_drive(named)] if named else drives()) if drive]
        found = [drive for drive in found if drive.path not in ignored]
        fitting = [drive for drive in found if drive.is_for(family)]
        if len(fitting) > 1:
            raise LinkError(f"{len(fitting)} boot drives, name one with --drive: {'; '.join(map(str, fitting))}")
        if fitting:
            return fitting[0]
        if found and (named or time.monotonic() >= end):
            raise LinkError(
                f"wrong chip: got {'; '.join(map(str, found))}, expected a drive of an {family.chip}, for which the "
                "file is; take the file for this board"
            )
        if time.monotonic() >= end:
            return None
        time.sleep(_POLL_S)


def write(drive, data, progress=None):
    """Copies a UF2 file onto a drive and waits until the board has taken it and restarts.

    Args:
        drive: Drive.    data: bytes.    progress: called with (what, bytes done, bytes in all).

    Raises:
        LinkError: if the copy breaks, or the board does not restart.
    """
    if (drive.path / FILE).is_symlink():
        raise LinkError(f"{drive.path / FILE}: a link, no boot drive of a board has one; {BUTTON}")
    before = {port.device for port in ports()}
    done = 0
    try:
        with open(drive.path / FILE, "wb", buffering=0) as file:
            while done < len(data):
                done += file.write(data[done : done + _CHUNK_BYTES])
                if progress:
                    progress("writing", done, len(data))
            os.fsync(file.fileno())
    except OSError as error:
        # A board that restarts at once takes its drive away under the last fsync; then its serial port appears.
        if done < len(data) or not _gone(drive) or not _new_port(before):
            left = "the board has no whole firmware now" if done else "nothing was written"
            raise LinkError(
                f"{drive.path}: the copy broke after {done:,} of {len(data):,} bytes ({error}): {left}; {BUTTON}"
            ) from None
        return
    if not _gone(drive):
        raise LinkError(
            f"{drive.path}: the board took the file but did not restart within {GONE_S} s: it arrived damaged or is "
            f"not for this chip; {BUTTON}"
        )


def _gone(drive):
    end = time.monotonic() + GONE_S
    while (drive.path / INFO).exists():
        if time.monotonic() > end:
            return False
        time.sleep(_POLL_S)
    return True


def _new_port(before):
    end = time.monotonic() + GONE_S
    while not {port.device for port in ports()} - before:
        if time.monotonic() > end:
            return False
        time.sleep(_POLL_S)
    return True
