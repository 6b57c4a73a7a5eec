"""The CSV file of `--log`: a row is written as it comes, and a file that is there is not touched."""

import csv
import os
import time
from pathlib import Path

from . import BoardError

_SYNC_S = 1  # that a computer without power may lose; a memory card takes its time for each


class LogError(BoardError):
    """A log cannot be written; the text says what to do."""


class CsvLog:
    """Context manager. Until it is entered, nothing is made.

    Args:
        path: of the file; None writes none.

    Raises:
        LogError: if the file is there already, or cannot be made.
    """

    def __init__(self, path):
        self.path, self._file, self._synced = path and Path(path), None, 0.0
        if path and self.path.exists():
            raise LogError(f"--log: {path} is there already; name another file")

    def __enter__(self):
        if self.path:
            try:
                self._file = open(self.path, "x", encoding="utf-8", newline="")
            except OSError as error:
                raise LogError(f"--log: {self.path}: cannot be written ({error.strerror}); name another file") from None
            self._rows = csv.writer(self._file, lineterminator="\n")
        return self

    def __exit__(self, *exception):
        if self._file:
            self._file.close()

    def add(self, row):
        """Adds a row, an iterable of cells; None is an empty one."""
        if self._file:
            self._rows.writerow(row)
            self._file.flush()
            if time.monotonic() - self._synced >= _SYNC_S:
                os.fsync(self._file.fileno())
                self._synced = time.monotonic()
