"""Files that are written whole or not at all."""

import os
from pathlib import Path


def write_atomic(path, content):
    """Write bytes beside ``path``, then replace it: a reader sees the old file or the new one."""
    path = Path(path)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(beside, "wb") as stream:
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
            if left.suffix[1:].isdigit():
                left.unlink(missing_ok=True)
