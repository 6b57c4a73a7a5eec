"""The checker and the CRC. Runs unchanged on every Python."""

from array import array

from case import attn8, format, raises, read


def with_byte(data, at, value):
    data = bytearray(data)
    data[at] = value
    return data


def with_crc(data):
    """Returns the file with its CRC repaired, by the device's own code."""
    data = bytearray(data)
    high, low = format.crc32_halves(data[:12])
    high, low = format.crc32_halves(data[16:], high, low)
    data[12:16] = bytes((low & 255, low >> 8, high & 255, high >> 8))
    return data


def code_of(data):
    return format.check_model(data)


def test_crc_in_halves_gives_the_published_value():
    assert format.crc32_halves(b"123456789") == (0xCBF4, 0x3926)


def test_crc_in_halves_goes_on_from_a_previous_result():
    assert format.crc32_halves(b"56789", *format.crc32_halves(b"1234")) == (0xCBF4, 0x3926)


def test_crc_in_halves_equals_binascii():
    from binascii import crc32

    data = read("int16.a8")
    for n in (0, 1, 17, len(data)):
        high, low = format.crc32_halves(data[:n])
        assert high << 16 | low == crc32(data[:n])


def test_crc_without_binascii_accepts_the_same_file():
    saved = format.crc32
    format.crc32 = None
    try:
        assert code_of(read("int16.a8")) == 0
        assert code_of(with_byte(read("int16.a8"), 400, 77)) == 5
    finally:
        format.crc32 = saved


def test_signed_and_unsigned_bytes_are_the_same_file():
    data = read("int16.a8")
    for n in (len(data), len(data) - 1, 10):
        signed = array("b", bytes(n))
        for i in range(n):
            signed[i] = data[i] - 256 if data[i] > 127 else data[i]
        assert code_of(signed) == code_of(data[:n])
    assert code_of(data) == 0


def test_header_faults_have_their_codes():
    data = read("int16.a8")
    assert code_of(b"") == 1
    assert code_of(data[:23]) == 1
    assert code_of(with_byte(data, 0, 66)) == 2
    assert code_of(with_byte(data, 4, 2)) == 3
    assert code_of(data[:-1]) == 4
    assert code_of(bytes(data) + b"\x00") == 4
    assert code_of(with_byte(data, 11, 255)) == 4
    assert code_of(with_byte(data, 200, data[200] ^ 1)) == 5
    assert code_of(with_crc(with_byte(data, 6, 0))) == 6
    assert code_of(with_crc(with_byte(data, 7, 1))) == 6


def test_record_faults_have_their_codes():
    data = read("int16.a8")
    assert code_of(with_crc(with_byte(data, 30, 255))) == 7
    assert code_of(with_crc(with_byte(data, 24, 3))) == 8
    assert code_of(with_crc(with_byte(data, 24, 200))) == 9
    assert code_of(with_crc(with_byte(data, 24, 100))) == 10
    assert code_of(with_crc(with_byte(data, 28, data[28] + 1))) == 11
    assert code_of(with_crc(with_byte(data, 26, 2))) == 12
    assert code_of(with_crc(with_byte(data, 32, 0))) == 13
    assert code_of(with_crc(with_byte(data, 36, 10))) == 13


def test_pads_are_smaller_than_the_kernel():
    data = read("int16.a8")
    code, values, at, _ = format.Outline(data).ops[0]
    assert format.OP_NAMES[code - 16] == "CONV1D_S8"
    kernel = values[3]
    for pad_at in (at - 2, at - 1):
        assert code_of(with_crc(with_byte(data, pad_at, kernel))) == 16
        assert code_of(with_crc(with_byte(data, pad_at, kernel - 1))) != 16


def utf8(text_bytes):
    return format._is_printable_utf8(text_bytes)


def test_utf8_is_checked_to_the_letter():
    for good in (
        b"",
        b"abc ~",
        b"\xc3\xa9",
        b"\xe2\x82\xac",
        b"\xed\x9f\xbf",
        b"\xf0\x9f\x98\x80",
        b"\xf4\x8f\xbf\xbf",
    ):
        assert utf8(good), good
    overlong = (b"\xc0\x80", b"\xc1\xbf", b"\xe0\x9f\xbf", b"\xf0\x8f\xbf\xbf")
    surrogates_and_beyond = (b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xf5\x80\x80\x80", b"\xff")
    cut_or_stray = (b"\x80", b"\xc3", b"\xe2\x82", b"\xf0\x9f\x98", b"\xc3a", b"\xe2\x82a")
    control = (b"a\n", b"\x00", b"\x7f")
    for bad in overlong + surrogates_and_beyond + cut_or_stray + control:
        assert not utf8(bad), bad


def test_numbers_beyond_31_bits_are_refused_without_being_made():
    """The relative bias, an i32 with a narrower range, is set to -2^31 and 2^31 - 1: BIAS, and no long integer."""
    data = read("int16.a8")
    code = 16 + format.OP_NAMES.index("WINDOWED_ATTENTION_S8")
    at = next(op[2] for op in format.Outline(data).ops if op[0] == code)
    for extreme in (b"\x00\x00\x00\x80", b"\xff\xff\xff\x7f", b"\x01\x00\x00\x01", b"\xff\xff\xff\xfe"):
        broken = bytearray(data)
        broken[at : at + 4] = extreme
        assert code_of(with_crc(broken)) == 22
    fields = format.Outline(data)
    fields.data = memoryview(b"\x00\x00\x00\x80\xff\xff\xff\x7f\xff\xff\xff\xff")
    assert [fields.i32(i) for i in (0, 4, 8)] == [-(1 << 29), 1 << 29, -1]


def test_error_says_what_got_expected_and_what_to_do():
    e = raises(attn8.ModelError, attn8.load, read("int16.a8")[:-1])
    assert e.code == 4
    n = len(read("int16.a8")) - 1
    assert str(e) == (
        "model, byte 0: the length in the header is not the length of the file (LENGTH): "
        f"got {n} bytes, expected the total_bytes of its header; copy or pack the file again"
    )
    e = raises(ValueError, attn8.load, with_crc(with_byte(read("int16.a8"), 6, 65)))
    assert e.code == 6 and "(COUNT): got 65, expected 1..64; pack the model again" in str(e)
