"""Read the arrays of an .npz without trusting it: sizes are compared before memory is taken, pickles refused."""

import io
import warnings
import zipfile
from math import prod
from pathlib import Path

import numpy as np

from ..errors import DataError

MAX_DATA_BYTES = 2 << 30
MAX_MEMBERS = 64
MAX_HEADER_BYTES = 1 << 16  # numpy takes 10,000
BLOCK_BYTES = 1 << 20
MAX_CODE_POINT = 0x10FFFF
REWRITE = "write the file again with numpy.savez"


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
    try:
        with archive.open(member) as stream:
            head = stream.read(MAX_HEADER_BYTES)
            shape, fortran_order, dtype, start = _read_header(head)
            _check_header(source, key, shape, dtype, member.file_size - start)
            flat = _read_values(stream, head[start:], np.empty(prod(shape), dtype))
    except DataError:
        raise
    except Exception as error:
        reason = f"an unreadable array ({type(error).__name__}: {error})"
        raise fault(source, key, reason, "a plain .npy array", REWRITE) from None
    check_text(source, key, flat)
    return flat.reshape(shape, order="F" if fortran_order else "C")


def _read_header(head):
    stream = io.BytesIO(head)
    version = np.lib.format.read_magic(stream)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    with warnings.catch_warnings():  # on headers of Python 2, and on damaged ones as Python parses them
        warnings.simplefilter("ignore")
        return (*read(stream), stream.tell())


def _check_header(source, key, shape, dtype, n_bytes):
    if dtype.hasobject:
        raise fault(source, key, "pickled Python objects", "numbers or text", "convert the array before saving it")
    if any(size < 0 for size in shape) or dtype.names or dtype.itemsize == 0:
        raise fault(source, key, f"dtype {dtype}, shape {shape}", "a plain array", REWRITE)
    if prod(shape) * dtype.itemsize != n_bytes:
        got = f"{n_bytes} bytes of values"
        raise fault(source, key, got, f"{prod(shape) * dtype.itemsize} for {dtype} {shape}", REWRITE)


def _read_values(stream, first, flat):
    """Fill an array with the bytes that were read first and those that follow, in blocks: no second copy of all."""
    if not flat.size:
        return flat
    target, at, block = flat.view(np.uint8), 0, first
    while block:
        target[at : at + len(block)] = np.frombuffer(block, np.uint8)
        at += len(block)
        block = stream.read(BLOCK_BYTES)
    if at < len(target):
        raise EOFError(f"{at} of {len(target)} bytes")
    return flat


def check_text(source, key, array):
    """Refuse text that is none: numpy stops the program's own way where Python has no such character.

    Raises:
        DataError: for a code point above 0x10FFFF.
    """
    if array.dtype.kind == "U" and array.size:
        points = np.ascontiguousarray(array).reshape(-1).view(array.dtype.byteorder + "u4")
        if points.max() > MAX_CODE_POINT:
            raise fault(source, key, f"a character {points.max():#x}", f"at most {MAX_CODE_POINT:#x}", REWRITE)
