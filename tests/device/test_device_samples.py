"""be16 and i2s32 with every kind of buffer, on the loops of this build and on the plain ones. Runs on every Python."""

from array import array
from struct import pack, unpack

from case import raises

try:
    from attn8.device import _samples_python as plain
    from attn8.device import samples
except ImportError:
    import attn8._samples_python as plain
    import attn8.samples as samples

try:
    from micropython import heap_lock, heap_unlock
except ImportError:
    heap_lock = None

INT16 = (0, 1, -1, 127, 128, 255, 256, -128, -129, 32767, -32768, 4660, -4661)
INT32 = (0, 1, -1, 255, 32767, 32768, -32768, -32769, 65535, 65536, -65536, 1 << 23, -(1 << 23), 305419896, -305419896)
INT32_LIMITS = (2147483647, -2147483648)


def with_both(test):
    """Runs a test on the loops of this build and on the plain ones."""
    kept = samples.loops
    try:
        for loops in (kept, plain):
            samples.loops = loops
            test()
    finally:
        samples.loops = kept


def packed(form, values):
    return b"".join([pack(form, v) for v in values])


def sources(data):
    """Returns the data in every buffer that a driver may fill."""
    return bytes(data), bytearray(data), memoryview(bytearray(data)), array("B", data)


def targets(n):
    """Returns buffers for n values of int16, each full of something else."""
    old = bytes([85] * (2 * n))
    return (
        array("h", [99] * n),
        memoryview(array("h", [99] * n)),
        bytearray(old),
        memoryview(bytearray(old)),
        array("B", old),
        array("b", old),
    )


def values_of(dst):
    """Returns the int16 values that a target holds."""
    as_bytes = bytes(dst)
    return [unpack("<h", as_bytes[i : i + 2])[0] for i in range(0, len(as_bytes), 2)]


def test_be16_gives_the_values_in_every_buffer():
    def test():
        data = packed(">h", INT16)
        for src in sources(data):
            for dst in targets(len(INT16)):
                samples.be16(src, dst)
                assert values_of(dst) == list(INT16), (src, dst)

    with_both(test)


def test_be16_turns_a_bytearray_round_in_place():
    def test():
        data = bytearray(packed(">h", INT16))
        samples.be16(data, data)
        assert data == packed("<h", INT16)

    with_both(test)


def test_i2s32_shifts_and_saturates_at_every_shift():
    def test():
        numbers = INT32 + INT32_LIMITS
        data = packed("<i", numbers)
        dst = array("h", [0] * len(numbers))
        for shift in range(32):
            samples.i2s32(data, dst, shift)
            assert list(dst) == [max(-32768, min(32767, v >> shift)) for v in numbers], shift

    with_both(test)


def test_i2s32_gives_the_values_in_every_buffer():
    def test():
        expected = [max(-32768, min(32767, v >> 8)) for v in INT32]
        for src in sources(packed("<i", INT32)):
            for dst in targets(len(INT32)):
                samples.i2s32(src, dst, 8)
                assert values_of(dst) == expected, (src, dst)

    with_both(test)


def test_i2s32_writes_into_the_first_half_of_what_it_reads():
    def test():
        data = bytearray(packed("<i", INT32))
        samples.i2s32(data, memoryview(data)[: len(data) // 2], 8)
        assert data[: len(data) // 2] == packed("<h", [max(-32768, min(32767, v >> 8)) for v in INT32])

    with_both(test)


def test_nothing_is_written_behind_the_end():
    def test():
        for function, arguments in ((samples.be16, ()), (samples.i2s32, (3,))):
            for n in range(4):
                whole = bytearray([85] * 12)
                size = 2 if function is samples.be16 else 4
                function(bytes(size * n), memoryview(whole)[2 : 2 + 2 * n], *arguments)
                assert whole == bytes([85, 85] + [0] * (2 * n) + [85] * (10 - 2 * n))

    with_both(test)


def text(function, *arguments):
    return str(raises(ValueError, function, *arguments))


def test_wrong_lengths_are_refused_and_nothing_is_written():
    be16, i2s32 = samples.be16, samples.i2s32
    assert text(be16, bytes(3), array("h", [7])) == "be16: src: got 3 bytes, expected a multiple of 2"
    assert text(i2s32, bytes(6), array("h", [7]), 16) == "i2s32: src: got 6 bytes, expected a multiple of 4"
    expected = "dst: got {}, expected array('h') of 2 values or 4 bytes"
    for dst, got in (
        (array("h", [7, 7, 7]), "3 values"),
        (array("h", [7]), "1 values"),
        (array("h", [7, 7, 7, 7]), "4 values"),
        (bytearray(b"\x07\x07"), "2 bytes"),
        (bytearray(5), "5 bytes"),
        (array("b", [7, -7]), "2 bytes"),
        (array("B", [7, 7]), "2 bytes"),
        (array("h"), "0 bytes"),
    ):
        kept = bytes(dst)
        assert text(be16, bytes(4), dst) == "be16: " + expected.format(got)
        assert text(i2s32, bytes(8), dst, 16) == "i2s32: " + expected.format(got)
        assert bytes(dst) == kept


def test_shift_is_0_to_31():
    for shift in (-1, 32):
        assert text(samples.i2s32, bytes(4), array("h", [0]), shift) == f"i2s32: shift: got {shift}, expected 0..31"


def test_raw_values_in_an_array_of_int16_are_refused():
    raises(ValueError, samples.be16, array("h", [1, 2]), array("h", [0, 0]))


def test_constant_bytes_are_never_written():
    kept = bytes([1, 2, 3, 4])
    raises(TypeError, samples.be16, bytes(4), kept)
    raises(TypeError, samples.i2s32, bytes(8), kept, 16)
    assert kept == bytes([1, 2, 3, 4])


if heap_lock:

    def locked(src, dst, shift):
        """A MemoryError must never leave the heap locked, so the lock stands inside a function."""
        heap_lock()
        try:
            if shift is None:
                samples.be16(src, dst)
            else:
                samples.i2s32(src, dst, shift)
        finally:
            heap_unlock()

    def test_conversions_allocate_nothing():
        def test():
            be, i2s = packed(">h", INT16), packed("<i", INT32 + INT32_LIMITS)
            for src in sources(be):
                for dst in targets(len(INT16)):
                    locked(src, dst, None)
            for src in sources(i2s):
                for dst in targets(len(INT32) + 2):
                    for shift in (0, 1, 8, 15, 16, 31):
                        locked(src, dst, shift)

        with_both(test)


def test_what_holds_no_bytes_and_other_items_are_refused():
    for src in ([1, 2, 3, 4], (1, 2, 3, 4), "1234"):
        e = raises(TypeError, samples.be16, src, array("h", [0, 0]))
        assert "expected bytes, a bytearray or a memoryview of one" in str(e)
        raises(TypeError, samples.i2s32, src, array("h", [0]), 16)
    for code in "HiIqQ":
        for n in (2, 4):
            dst = array(code, [7] * n)
            raises(TypeError, samples.be16, b"1234", dst)
            assert list(dst) == [7] * n
