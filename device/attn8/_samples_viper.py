"""The loops of samples.py in viper: what _samples_python.py does, as machine code that a stock MicroPython makes.

dst is written through its own store where it holds int16, and as plain bytes where it holds bytes: what an array holds
cannot be told well enough to write it through a pointer. So nothing can be written behind its end.
"""
# ruff: noqa: F821 (the types of viper)

import micropython


@micropython.viper
def be16(src: ptr8, dst, n: int, kind: int):
    """dst (n) = src (n) big-endian int16."""
    i = 0
    if kind:
        y = ptr8(dst)
        while i < 2 * n:
            high = src[i]
            y[i] = src[i + 1]
            y[i + 1] = high
            i += 2
        return
    while i < n:
        dst[i] = ((src[2 * i] << 8 | src[2 * i + 1]) ^ 32768) - 32768
        i += 1


@micropython.viper
def i2s32(src: ptr8, dst, n: int, kind: int, shift: int):
    """dst (n) = sat16(src (n) little-endian int32 >> shift), in two halves: on 64 bits a word has no sign."""
    y = src
    if kind:
        y = ptr8(dst)
    widen = 16 - shift
    j = 0
    while j < n:
        v = ((src[2] | src[3] << 8) ^ 32768) - 32768  # the upper half
        if widen <= 0:
            v >>= 0 - widen
        elif v >> shift > 0:
            v = 32767
        elif v >> shift < -1:
            v = -32768
        else:
            v = v << widen | (src[0] | src[1] << 8) >> shift
            if v > 32767:
                v = 32767
            elif v < -32768:
                v = -32768
        src = ptr8(int(src) + 4)
        if kind:
            y[0] = v
            y[1] = v >> 8
            y = ptr8(int(y) + 2)
        else:
            dst[j] = v
        j += 1
