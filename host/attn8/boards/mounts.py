"""Drives of this computer: where they appear, and what is said when one fails."""

import contextlib
import errno
import string
import sys
from pathlib import Path

from . import DoesNotFitError


def mount_folders():
    """Returns the list of the folders in which a computer's drives appear."""
    if sys.platform == "win32":
        return [Path(f"{letter}:\\") for letter in string.ascii_uppercase]
    patterns = ["Volumes/*"] if sys.platform == "darwin" else ["media/*", "media/*/*", "run/media/*/*", "mnt/*"]
    return sorted(path for pattern in patterns for path in Path("/").glob(pattern))


@contextlib.contextmanager
def told(drive, error_class, stays=""):
    """Turns what a drive raises into a sentence.

    Args:
        drive: path.    error_class: of what is raised where the drive fails.    stays: what the board has then.

    Raises:
        DoesNotFitError: if the drive is full.
    """
    stays = f"; {stays}" if stays else ""
    try:
        yield
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise DoesNotFitError(f"{drive}: the drive is full{stays}; remove files there, then try again") from None
        if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
            raise error_class(
                f"{drive}: this computer may not write there ({error.strerror}); is the drive write-protected, or do "
                "its files belong to the board (storage.remount in boot.py)?"
            ) from None
        raise error_class(
            f"{drive}: the drive broke off ({error.strerror or error}){stays}; plug it in again, then try again"
        ) from None
