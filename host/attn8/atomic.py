"""Files read and written with care: a folder that a stranger sent may hold pipes, devices and links."""

import os
import secrets
import stat
from contextlib import contextmanager
from pathlib import Path

from .errors import RunError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

LOCK = ".lock"
_BINARY = getattr(os, "O_BINARY", 0)
_NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)


def read_bytes(path, most):
    """Bytes of a regular file; anything else is not opened, and a device or pipe never waited for.

    Args:
        path: the file.    most: bytes that it may have.
    Raises:
        OSError: if it cannot be read.    ValueError: if it is no regular file or larger.
    """
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise ValueError("no regular file")
    # Between the two looks the file may have become a pipe, which without O_NONBLOCK waits for ever.
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | _BINARY)
    with open(descriptor, "rb") as stream:
        size = os.fstat(descriptor).st_size
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ValueError("no regular file")
        if size > most:
            raise ValueError(f"{size} bytes, more than {most}")
        return stream.read(size)


def write_atomic(path, content):
    """Write bytes beside ``path``, then replace it: a reader sees the old file or the new one.

    Neither the file beside nor ``path`` is followed where it is a link.
    """
    path = Path(path)
    beside = path.with_name(f".{path.name}.{secrets.randbits(63)}")
    # O_EXCL: a link that lies there already, by chance or laid, is an error.
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _BINARY, 0o666)
    try:
        with open(descriptor, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def remove_torn_writes(folder, names):
    """Remove what a killed ``write_atomic`` left beside these files of a folder."""
    for name in names:
        for left in Path(folder).glob(f".{name}.*"):
            if left.suffix[1:].isdigit() and (left.is_symlink() or not left.is_dir()):
                left.unlink(missing_ok=True)


@contextmanager
def locked(folder):
    """Keep other processes from writing into a run folder, which is made if absent. A kill lets go of the lock.

    Raises:
        RunError: if another process has it, or the folder cannot be written.
    """
    path = Path(folder) / LOCK
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | _NO_FOLLOW, 0o666)
    except OSError as error:
        raise RunError(
            f"run {folder}: got {error.strerror}, expected a folder to write into; choose another --out"
        ) from None
    try:
        _take(descriptor, folder)
        yield
    finally:
        os.close(descriptor)


def _take(descriptor, folder):
    try:
        if fcntl:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise RunError(
            f"run {folder}: got a folder that another attn8 writes into, expected it for itself; "
            "wait for it, or choose another --out"
        ) from None
    except OSError:
        pass  # a file system without locks is no reason not to train
