"""be16 and i2s32: bytes as sensors and microphones send them become int16 samples, without allocation."""

import sys
from array import array

from .checking import machine_code, submodule

try:
    loops = machine_code("_samples_viper")
except ImportError:
    loops = submodule("_samples_python")

_SOURCES = (bytes, bytearray, memoryview, array)
# What dst holds.
_INT16, _BYTES, _SIGNED_BYTES = 0, 1, 2
_IS_CIRCUITPYTHON = sys.implementation.name == "circuitpython"


class _Index:
    """Tells with what it is indexed: MicroPython has no slice()."""

    def __getitem__(self, index):
        return index


_FIRST = _Index()[:1]
_PASTE = (array("h", (-300,)), array("b", (-44,)))
_SEEN = {-300: _INT16, -44: _SIGNED_BYTES, 212: _BYTES}


def be16(src, dst):
    """Copies big-endian int16 values, as an MPU6050 and most other sensors send them.

    Args:
        src: 2n bytes: bytes, bytearray, or a memoryview of one.
        dst: array('h') of n values, or 2n bytes for little-endian values. It may be the bytearray that src is.

    Raises:
        ValueError: if a length does not fit.    TypeError: if src holds no bytes or dst cannot be written.
    """
    _check_bytes("be16", src)
    n, left_over = len(src) // 2, len(src) % 2
    if left_over:
        raise ValueError(f"be16: src: got {len(src)} bytes, expected a multiple of 2")
    if n or len(dst):
        loops.be16(src, dst, n, _kind("be16", dst, n))


def i2s32(src, dst, shift):
    """Turns little-endian int32 words, as an I2S microphone sends them, into int16: value >> shift, saturated.

    Args:
        src: 4n bytes: bytes, bytearray, or a memoryview of one.
        dst: array('h') of n values, or 2n bytes for little-endian values, as the first half of src.
        shift: 0..31. 16 keeps the upper half of a word; each one less is twice as loud.

    Raises:
        ValueError: if a length or the shift does not fit.    TypeError: if src holds no bytes or dst is read-only.
    """
    _check_bytes("i2s32", src)
    n, left_over = len(src) // 4, len(src) % 4
    if left_over:
        raise ValueError(f"i2s32: src: got {len(src)} bytes, expected a multiple of 4")
    if not 0 <= shift <= 31:
        raise ValueError(f"i2s32: shift: got {shift}, expected 0..31")
    if n or len(dst):
        loops.i2s32(src, dst, n, _kind("i2s32", dst, n), shift)


def _check_bytes(name, src):
    """Refuses what holds no bytes, as far as it tells: MicroPython's arrays do not."""
    if not isinstance(src, _SOURCES):
        raise TypeError(f"{name}: src: got {type(src)}, expected bytes, a bytearray or a memoryview of one")


def _kind(name, dst, n):
    """Returns what dst holds, after checking that it has room for just n values of int16."""
    n_items = len(dst)
    kind = _item(dst, _INT16 if n_items == n else _BYTES) if n_items else _BYTES
    if n_items != (n if kind == _INT16 else 2 * n):
        got = f"{n_items} {'values' if kind == _INT16 else 'bytes'}"
        raise ValueError(f"{name}: dst: got {got}, expected array('h') of {n} values or {2 * n} bytes")
    return kind


def _item(dst, likely):
    """Finds out by writing what dst holds, because an array of MicroPython does not tell; leaves it as it was."""
    if isinstance(dst, bytearray):
        return _BYTES
    kept = dst[0]
    found = _pasted(dst, likely) if _IS_CIRCUITPYTHON else _written(dst)
    dst[0] = kept
    if found is None:
        raise TypeError(f"dst: got {type(dst)} of another item, expected array('h') or bytes")
    return found


def _pasted(dst, likely):
    """CircuitPython refuses a number that does not fit, and the error takes memory: a slice takes bytes as they are."""
    kind = likely
    for _ in range(2):
        try:
            dst[_FIRST] = _PASTE[kind]
            return _SEEN.get(dst[0])
        except ValueError:  # items of another size
            kind = _BYTES - kind
    return None


def _written(dst):
    try:
        dst[0] = -300
        v = dst[0]
        found = _INT16 if v == -300 else _SIGNED_BYTES if v == -44 else _BYTES if v == 212 else None
    except (OverflowError, ValueError):  # CPython does not wrap
        found = (_BYTES if _refuses(dst, -1) else _SIGNED_BYTES) if _refuses(dst, 256) else None
    return None if found == _INT16 and not _wraps(dst) else found


def _wraps(dst):
    """Says whether an item that holds -300 holds no more than 16 bits."""
    try:
        dst[0] = 70000
        return dst[0] != 70000
    except (OverflowError, ValueError):
        return True


def _refuses(dst, value):
    try:
        dst[0] = value
    except (OverflowError, ValueError):
        return True
    return False
