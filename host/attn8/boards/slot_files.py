"""The slots of a board, written by a computer on the board's drive (models/FORMAT.md, "Slots").

The board's own code, which runs here too, reads the logs and chooses the slot. What is written lies on the medium
before the next step begins, and the last thing to be written is the record that makes the model one to be taken: 16
bytes inside the file, whose room was written with the model, so that neither directory nor allocation table changes
with it. The board may start its program anew after any of the writes; it finds the model before until that record.
"""

import contextlib
import hashlib
import os
import re
import sys
from pathlib import Path

from ..device import ModelError, slots
from ..device import deploy as slots_deploy
from . import BoardError

RECORD_BYTES = 16
_MAX_SLOT_BYTES = 1 << 25  # of a slot file that is worth reading
_MAX_SEQUENCE = 0x3FFFFFFE


class SlotFileError(BoardError):
    """The slots on a drive cannot be read, or do not hold what was written."""


class Files:
    """Changes files of a folder; when a method returns, the medium holds the change."""

    def __init__(self, folder):
        self.folder = Path(folder)

    def empty(self, name):
        """Makes a file that is empty, of a new one or of what was there."""
        with open(self.folder / name, "wb") as f:
            self._store(f)

    def append(self, name, data, progress=None):
        """Appends bytes; progress is called with (name, bytes done, bytes in all)."""
        with open(self.folder / name, "ab") as f:
            for at in range(0, len(data), 1 << 14):
                f.write(data[at : at + (1 << 14)])
                if progress:
                    progress(name, min(at + (1 << 14), len(data)), len(data))
            self._store(f)

    def overwrite(self, name, at, data):
        """Writes over bytes that are there."""
        with open(self.folder / name, "r+b") as f:
            f.seek(at)
            f.write(data)
            self._store(f)

    def remove(self, name):
        """Removes a file."""
        (self.folder / name).unlink()
        self._store_folder()

    def read(self, name):
        """Returns the bytes of a file, from the medium where this computer can be told to forget its own copy."""
        with open(self.folder / name, "rb") as f:
            if hasattr(os, "posix_fadvise"):
                os.posix_fadvise(f.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            return f.read(_MAX_SLOT_BYTES)

    def _store(self, f):
        f.flush()
        if sys.platform == "darwin":
            import fcntl

            with contextlib.suppress(OSError):  # a file system without it
                fcntl.fcntl(f.fileno(), fcntl.F_FULLFSYNC)
        os.fsync(f.fileno())
        self._store_folder()

    def _store_folder(self):
        if os.name == "nt":  # folders cannot be opened there
            return
        descriptor = os.open(self.folder, os.O_RDONLY)
        with contextlib.suppress(OSError):  # a file system that does it with the file
            os.fsync(descriptor)
        os.close(descriptor)


def names(folder):
    """Returns the slot names in a folder, sorted."""
    found = [re.fullmatch(r"(.+)\.[01]\.a8", entry) for entry in os.listdir(folder)]
    return sorted({match[1] for match in found if match})


def rows(folder, name):
    """Returns what attn8.slots.status tells of a name in a folder. Raises SlotFileError if a file is not to be read."""
    try:
        _check_sizes(folder, name)
        found = slots.status(str(Path(folder, name)))
    except (IndexError, UnicodeError):
        found = []
    if not found or any(state != slots.EMPTY and not model for *_, state, _, model, _, _ in found):
        raise SlotFileError(f"{folder}: the slots of {name} are damaged; remove {name}.0.a8 and {name}.1.a8")
    return found


def _check_sizes(folder, name):
    for i in (0, 1):
        path = Path(folder, f"{name}.{i}.a8")
        if path.is_symlink():
            raise SlotFileError(f"{path}: a link to {os.readlink(path)}, expected a file; remove it")
        if path.exists() and not (path.is_file() and path.stat().st_size <= _MAX_SLOT_BYTES):
            raise SlotFileError(
                f"{path}: no slot file, expected a file of at most {_MAX_SLOT_BYTES >> 20} MB; remove it"
            )


def spare(folder, name):
    """Returns which slot an update may take: the board's own choice."""
    _check_sizes(folder, name)
    kept = slots_deploy.kept(slots.both(str(Path(folder, name))))
    return 1 - kept.index if kept else 0


def update(files, name, signed, n_bytes, in_place=False, progress=None):
    """Brings a model into the slot to spare; the board tests it when it loads it next.

    Args:
        files: Files of the folder.    signed: bytes of the model and its signature.    n_bytes: of the model alone.
        in_place: give up the models of both slots first.    progress: called with (file, bytes done, bytes in all).

    Returns:
        (slot, sequence).

    Raises:
        SlotFileError: if what was written is not what lies there then.    OSError.
    """
    base = str(files.folder / name)
    index, newest = spare(files.folder, name), slots.both(base)[0].sequence
    if newest > _MAX_SEQUENCE:
        raise SlotFileError(f"{base}: {newest} updates, expected fewer; remove {name}.0.a8 and {name}.1.a8")
    file = f"{name}.{index}.a8"
    if in_place and Path(f"{base}.{1 - index}.a8").exists():
        files.remove(f"{name}.{1 - index}.a8")
    files.empty(file)
    files.append(file, signed + bytes(RECORD_BYTES), progress)
    _compare(files, file, signed + bytes(RECORD_BYTES))
    record = slots.record(signed[:24], newest + 1, slots.WRITTEN)
    files.overwrite(file, len(signed), record)
    _compare(files, file, signed + record)
    slot = slots.Slot(base, index)
    if (slot.sequence, slot.state, slot.length) != (newest + 1, slots.WRITTEN, n_bytes):
        raise SlotFileError(f"{slot.path}: the record that was written does not hold; try again")
    return index, newest + 1


def _compare(files, file, expected):
    """Raises SlotFileError if the medium holds other bytes."""
    if hashlib.sha256(files.read(file)).digest() != hashlib.sha256(expected).digest():
        raise SlotFileError(f"{files.folder / file}: arrived damaged; the model in the other slot stays; try again")


def rollback(folder, name):
    """Tests the model before here, in Python, and marks the newer one as bad.

    Raises:
        SlotFileError: if there is none to go back to.    OSError.
    """
    _check_sizes(folder, name)
    try:
        slots.rollback(str(Path(folder, name)))
    except ModelError as error:
        raise SlotFileError(f"{folder}: no rollback: {error}") from None
