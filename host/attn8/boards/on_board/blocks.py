"""What goes to the computer: a line of text for each block, with a CRC, so that a damaged one is never believed.

A line is ":", then base64 of the block and of its CRC-32. The computer ends the program by a byte on stdin.
"""

import sys
from binascii import b2a_base64
from struct import pack

try:
    from binascii import crc32
except ImportError:  # some boards with CircuitPython
    _NIBBLES = []
    for _c in range(16):
        for _ in range(4):
            _c = _c >> 1 ^ (0xEDB88320 if _c & 1 else 0)
        _NIBBLES.append(_c)

    def crc32(data):
        c = 0xFFFFFFFF
        for v in data:
            c = _NIBBLES[(c ^ v) & 15] ^ c >> 4
            c = _NIBBLES[(c ^ v >> 4) & 15] ^ c >> 4
        return c ^ 0xFFFFFFFF


def line_of(body):
    """Returns the line of a block of bytes."""
    c = crc32(body)
    return ":" + str(b2a_base64(body + pack("<HH", c & 0xFFFF, c >> 16 & 0xFFFF)), "ascii")


def head_of(number, index, t_us, late, lost, n):
    """Returns the head of a block.

    Args:
        number: of the block.    index: place of its first sample on the grid of all, lost ones included.
        t_us: microseconds from the first sample of all to its first, modulo 2**30.    late: samples so far.
        lost: samples before its first.    n: samples in it; 0 is the end.
    """
    return pack("<5IH", number, index, t_us, late, lost, n)


class Ending:
    """Tells whether the computer has sent the byte that ends the program."""

    def __init__(self):
        try:
            from supervisor import runtime  # CircuitPython

            self._waiting = lambda: runtime.serial_bytes_available
        except ImportError:
            import select

            poll = select.poll()
            poll.register(sys.stdin, select.POLLIN)
            self._waiting = lambda: bool(poll.poll(0))

    def asked(self):
        if not self._waiting():
            return False
        sys.stdin.read(1)
        return True
