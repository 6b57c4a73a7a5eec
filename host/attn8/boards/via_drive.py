"""A board as a drive of this computer, such as CIRCUITPY: without a serial line; the board tests what it loads."""

import contextlib
import os
import re
import shutil
from pathlib import Path

from ..atomic import read_bytes
from . import DoesNotFitError, slot_files
from .deploy import (
    LOG_BYTES,
    DeployError,
    before,
    check_there,
    checked_name,
    only_name,
    read_sent,
    rolled_back,
    slot_rows,
)
from .facts import slots_of
from .link import LinkError
from .mounts import mount_folders, told

_LABEL = "CIRCUITPY"
_BOOT_OUT = "boot_out.txt"  # CircuitPython writes it at each start
_MAX_BOOT_OUT_BYTES = 1 << 16
_PACKAGES = ("attn8", "lib/attn8")


def drives():
    """Returns the list of the paths of drives that CircuitPython boards show, where computers mount such."""
    return sorted({str(path) for path in _volumes() if path.name.startswith(_LABEL) or _is_file(path / _BOOT_OUT)})


def _volumes():
    return [path for path in mount_folders() if os.path.ismount(path)]


def _is_file(path):
    with contextlib.suppress(OSError):
        return path.is_file()
    return False


def find_drive(drive=None):
    """Returns the path of a drive: the folder that is named, or the only board's.

    Raises:
        LinkError: if there is none, or with None also if there are two.
    """
    if drive is not None:
        if not Path(drive).is_dir():
            raise LinkError(f"{drive}: no such folder; give that of the board's drive, such as /media/you/{_LABEL}")
        return str(drive)
    found = drives()
    if len(found) != 1:
        what = (
            f"{len(found)} drives, name one" if found else f"no drive of a board, such as {_LABEL}, is mounted; name it"
        )
        raise LinkError(f"{what} with --drive{': ' if found else ''}{', '.join(found)}")
    return found[0]


def machine(drive):
    """Returns (name of the board, firmware), as the drive tells; "" where it does not."""
    try:
        text = read_bytes(Path(drive, _BOOT_OUT), _MAX_BOOT_OUT_BYTES).decode(errors="replace")
    except (OSError, ValueError):  # none, or a pipe that nobody fills
        return "", ""
    found = re.match(r"Adafruit CircuitPython (\S+) on [^;]*; *([^\n]*)", text)
    return (found[2].strip(), f"CircuitPython {found[1]}") if found else ("", "")


def _told(drive, in_place=False):
    """Turns what a drive raises into a sentence."""
    return told(drive, DeployError, "there may be no model now: deploy one" if in_place else "the model before stays")


def deploy(file, drive=None, name=None, key=None, progress=None, in_place=False, files=slot_files.Files):
    """Deploys a model to the drive of one board. The board runs its golden vectors when it loads it.

    Args:
        file, name, key, progress, in_place: see deploy.deploy.    drive: folder, None for the only drive of a board.
        files: class of what changes files there.

    Returns:
        dict: what deploy.deploy returns; port is the drive, state "written", check "sha256" of what this computer
        reads back. And package: whether attn8 is on the drive.

    Raises:
        attn8.ModelError, DataError: if the file is no valid model.    DoesNotFitError: if the drive is too small.
        DeployError, SlotFileError, LinkError.
    """
    sent = read_sent(file, name, key)
    drive = find_drive(drive)
    with _told(drive, in_place):
        slots = slots_of(slot_files.rows(drive, sent.slots))
        _check_room(drive, sent, in_place)
        slot, sequence = slot_files.update(files(drive), sent.slots, sent.signed, len(sent.data), in_place, progress)
        has_package = any(Path(drive, package).is_dir() for package in _PACKAGES)
    return {
        **{"port": drive, "machine": machine(drive)[0], "name": sent.slots, "slot": slot, "sequence": sequence},
        **{"state": "written", "check": "sha256", **sent.told(), "before": before(slots), "package": has_package},
    }


def _check_room(drive, sent, in_place):
    """Raises DoesNotFitError if the drive has no room beside the model that stays."""
    spare = slot_files.spare(drive, sent.slots)
    files = [Path(drive, f"{sent.slots}.{i}.a8") for i in ((0, 1) if in_place else (spare,))]
    room = shutil.disk_usage(drive).free + sum(f.stat().st_size for f in files if f.exists())
    needed = len(sent.signed) + LOG_BYTES
    if needed > room:
        beside = "" if in_place else " beside the one that runs"
        raise DoesNotFitError(
            f"{drive}: the drive is full: the model needs {needed:,} bytes{beside}, {room:,} are free; remove files "
            "there or take a smaller model"
        )


def rollback(drive=None, name=None):
    """Goes back to the model before on one drive. Returns what deploy.rollback returns; port is the drive.

    Raises:
        DeployError, SlotFileError: if there is none to go back to.    LinkError.
    """
    drive = find_drive(drive)
    with _told(drive):
        name = checked_name(name) if name else only_name(drive, slot_files.names(drive))
        slot_files.rollback(drive, name)
        return rolled_back(drive, name, slots_of(slot_files.rows(drive, name)))


def status(drive=None, name=None):
    """Returns what deploy.status returns, of one drive; port is the drive, backend "" since a drive tells none."""
    drive = find_drive(drive)
    with _told(drive):
        names = [checked_name(name)] if name else slot_files.names(drive)
        slots = {n: slots_of(slot_files.rows(drive, n)) for n in names}
    check_there(drive, name, slots)
    board, firmware = machine(drive)
    return {"port": drive, "machine": board, "firmware": firmware, "backend": "", "slots": slot_rows(slots)}
