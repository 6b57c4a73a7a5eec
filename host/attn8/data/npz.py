"""Read the arrays of an .npz without trusting it: sizes are compared before memory is taken, pickles refused."""

import io
import zipfile
from math import prod
from pathlib import Path

import numpy as np

from ..errors import DataError

MAX_DATA_BYTES = 2 << 30
MAX_MEMBERS = 64


def fault(source, key, got, expected, advice):
    """Make the DataError of one key of one file."""
    return DataError(f"{source}: {key}: got {got}, expected {expected}; {advice}")


def read_npz(path, keys, max_bytes=MAX_DATA_BYTES):
    """Read named arrays from an .npz file.

    Args:
        path: the file.
        keys: names to read where they are present; other members are not opened.
        max_bytes: cap on the unpacked size that the zip directory declares.
    Returns:
        dict of name to numpy array.
    Raises:
        DataError: if the file or one of the arrays cannot be read.
    """
    if not Path(path).is_file():
        raise DataError(f"{path}: got no such file, expected an .npz of numpy.savez; check the path")
    try:
        with open(path, "rb") as stream, zipfile.ZipFile(stream) as archive:
            return _read_members(archive, str(path), keys, max_bytes)
    except DataError:
        raise
    # Damaged bytes surface from zipfile and zlib as a dozen unrelated exception types.
    except Exception as error:
        reason = f"a file that cannot be read ({type(error).__name__}: {error})"
        raise fault(path, "file", reason, "an .npz of numpy.savez", "check the path, or write it again") from None


def _read_members(archive, source, keys, max_bytes):
    members = archive.infolist()
    total = sum(member.file_size for member in members)
    if total > max_bytes or len(members) > MAX_MEMBERS:
        got = f"{len(members)} arrays of {total} bytes"
        raise fault(source, "file", got, f"at most {MAX_MEMBERS} of {max_bytes} bytes", "split the data into several")
    by_name = {member.filename.removesuffix(".npy"): member for member in members}
    return {key: _read_array(archive, by_name[key], source, key) for key in keys if key in by_name}


def _read_array(archive, member, source, key):
    advice = "write the file again with numpy.savez"
    try:
        raw = archive.read(member)
        shape, fortran_order, dtype, start = _read_header(raw)
    except Exception as error:
        reason = f"an unreadable array ({type(error).__name__}: {error})"
        raise fault(source, key, reason, "a plain .npy array", advice) from None
    if dtype.hasobject:
        raise fault(source, key, "pickled Python objects", "numbers or text", "convert the array before saving it")
    if any(size < 0 for size in shape) or dtype.names or dtype.itemsize == 0:
        raise fault(source, key, f"dtype {dtype}, shape {shape}", "a plain array", advice)
    if prod(shape) * dtype.itemsize != len(raw) - start:
        got = f"{len(raw) - start} bytes of values"
        raise fault(source, key, got, f"{prod(shape) * dtype.itemsize} for {dtype} {shape}", advice)
    flat = np.frombuffer(raw, dtype, offset=start) if prod(shape) else np.empty(0, dtype)
    return flat.reshape(shape, order="F" if fortran_order else "C")


def _read_header(raw):
    stream = io.BytesIO(raw)
    version = np.lib.format.read_magic(stream)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    return (*read(stream), stream.tell())
