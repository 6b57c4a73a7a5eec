"""The loops of samples.py in plain bytecode. ``kind`` is 0 where dst holds int16, 1 bytes, 2 signed bytes."""


def be16(src, dst, n, kind):
    """dst (n) = src (n) big-endian int16."""
    bias = 128 if kind == 2 else 0
    i = 0
    for j in range(n):
        high = src[i] & 255
        low = src[i + 1] & 255
        if kind:
            dst[i] = ((low + bias) & 255) - bias
            dst[i + 1] = ((high + bias) & 255) - bias
        else:
            dst[j] = ((high << 8 | low) ^ 32768) - 32768
        i += 2


def i2s32(src, dst, n, kind, shift):
    """dst (n) = sat16(src (n) little-endian int32 >> shift), in two halves: 32 bits are no small integer on a board."""
    bias = 128 if kind == 2 else 0
    widen = 16 - shift
    i = 0
    for j in range(n):
        v = ((src[i + 2] & 255 | (src[i + 3] & 255) << 8) ^ 32768) - 32768  # the upper half
        if widen <= 0:
            v >>= -widen
        elif v >> shift > 0:
            v = 32767
        elif v >> shift < -1:
            v = -32768
        else:
            v = v << widen | (src[i] & 255 | (src[i + 1] & 255) << 8) >> shift
            if v > 32767:
                v = 32767
            elif v < -32768:
                v = -32768
        i += 4
        if kind:
            dst[2 * j] = ((v + bias) & 255) - bias
            dst[2 * j + 1] = ((v >> 8) + bias & 255) - bias
        else:
            dst[j] = v
