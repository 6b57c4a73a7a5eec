"""The model file on the device: numbers and tables of the format, and check_model."""

from struct import unpack_from

try:
    from binascii import crc32
except ImportError:  # the smallest CircuitPython boards
    crc32 = None

try:
    from micropython import const
except ImportError:  # CPython

    def const(value):
        return value


# generated: begin
# Generated from host/attn8/spec.py by `python -m attn8.codegen`; do not edit.
_FORMAT_MAJOR = const(1)
_HEADER_BYTES = const(24)
_RECORD_HEADER_BYTES = const(8)
_MAX_FILE_BYTES = const(16777216)
_MAX_OPS = const(64)
_MAX_STEPS = const(32767)
_MAX_CHANNELS = const(1024)
_MAX_PRODUCTS = const(32767)
_MAX_TENSOR_BYTES = const(1048576)
_MAX_MACS = const(268435456)
_MAX_HEAD_SIZE = const(256)
_MIN_NORM_CHANNELS = const(8)
_MAX_NORM_CHANNELS = const(256)
_MAX_ADD_SUM = const(4194304)
_MAX_BIAS = const(536870911)
_MAX_RELATIVE_BIAS = const(16777216)
_MAX_NAME_BYTES = const(32)
_MAX_UNIT_BYTES = const(16)
_MAX_STREAM_STEPS = const(1048576)
_MAX_GOLDEN_VALUES = const(16384)
_ARENA_ALIGNMENT = const(4)
_TASK_CLASSIFICATION = const(1)
_INPUT_INT8 = const(0)
_INPUT_INT16 = const(1)
_CLAMP_FULL = const(0)
_CLAMP_KEY = const(1)
_CLAMP_RELU = const(2)
_NORM_LAYER = const(0)
_NORM_RMS = const(1)
_RECORD_META = const(1)
_RECORD_INPUT = const(2)
_RECORD_TASK = const(3)
_RECORD_GOLDEN = const(4)
_OP_LINEAR_S8 = const(16)
_OP_CONV1D_S8 = const(17)
_OP_WINDOWED_ATTENTION_S8 = const(18)
_OP_LAYER_NORM_S8 = const(19)
_OP_ADD_S8 = const(20)
_OP_MEAN_POOL_S8 = const(21)
_OP_TABLE_S8 = const(22)
_FIRST_OP = const(16)
_LAST_OP = const(127)
_ERR_TRUNCATED = const(1)
_ERR_MAGIC = const(2)
_ERR_VERSION = const(3)
_ERR_LENGTH = const(4)
_ERR_CRC = const(5)
_ERR_COUNT = const(6)
_ERR_RECORD = const(7)
_ERR_ORDER = const(8)
_ERR_UNKNOWN_RECORD = const(9)
_ERR_UNKNOWN_OP = const(10)
_ERR_RECORD_LENGTH = const(11)
_ERR_RESERVED = const(12)
_ERR_STRING = const(13)
_ERR_NUMBER = const(14)
_ERR_TASK = const(15)
_ERR_SHAPE = const(16)
_ERR_SOURCE = const(17)
_ERR_TOO_LARGE = const(18)
_ERR_MODE = const(19)
_ERR_MULTIPLIER = const(20)
_ERR_SHIFT = const(21)
_ERR_BIAS = const(22)
_ERR_WEIGHT = const(23)
_ERR_ATTENTION = const(24)
_ERR_GOLDEN = const(25)
_FIELDS_META = (
    b'\x00\x00\r\x01\x00\x00\x00 \x00\x00\x00'
    b'\x01\x00\r\x00\x00\x00\x00 \x00\x00\x00'
    b'\x02\x01\x0c\x00\x00\x00\x00\x00\x00\x00\x00'
)
_FIELDS_INPUT = (
    b'\x00\x01\x10\x01\x00\x00\x00\xff\x7f\x00\x00'
    b'\x02\x01\x10\x01\x00\x00\x00\x00\x04\x00\x00'
    b'\x04\x00\x13\x00\x00\x00\x00\x01\x00\x00\x00'
    b'\x05\x00\x0c\x00\x00\x00\x00\x00\x00\x00\x00'
    b'\x06\x01\x0c\x00\x00\x00\x00\x00\x00\x00\x00'
)
_FIELDS_TASK = (
    b'\x00\x00\x0f\x01\x00\x00\x00\x01\x00\x00\x00'
    b'\x01\x00\x0c\x00\x00\x00\x00\x00\x00\x00\x00'
    b'\x02\x01\x10\x01\x00\x00\x00\x00\x04\x00\x00'
    b'\x04\x03\x0f\x01\x00\x00\x00\x00\x00\x10\x00'
    b'\x08\x04\x0e\x00\x00\x00\x00\x00\x00\x00\x00'
    b'\x0c\x03\x14\x01\x00\x00\x00\xff\xff\xff\x03'
    b'\x10\x01\x14\x00@\x00\x00\xff\x7f\x00\x00'
    b'\x12\x00\x15\x00\x00\x00\x00\x0b\x00\x00\x00'
    b'\x13\x00\x15\x01\x00\x00\x00\x1e\x00\x00\x00'
)
_FIELDS_GOLDEN = (
    b'\x00\x00\x19\x04\x00\x00\x00\xff\x00\x00\x00'
    b'\x01\x00\x0c\x00\x00\x00\x00\x00\x00\x00\x00'
    b'\x02\x01\x0c\x00\x00\x00\x00\x00\x00\x00\x00'
)
_FIELDS_LINEAR_S8 = (
    b'\x00\x00\x11\x00\x00\x00\x00?\x00\x00\x00'
    b'\x01\x00\x13\x00\x00\x00\x00\x02\x00\x00\x00'
    b'\x02\x01\x10\x01\x00\x00\x00\x00\x04\x00\x00'
)
_FIELDS_CONV1D_S8 = (
    b'\x00\x00\x11\x00\x00\x00\x00?\x00\x00\x00'
    b'\x01\x00\x13\x00\x00\x00\x00\x02\x00\x00\x00'
    b'\x02\x01\x10\x01\x00\x00\x00\x00\x04\x00\x00'
    b'\x04\x00\x10\x01\x00\x00\x00\xff\x00\x00\x00'
    b'\x05\x00\x10\x01\x00\x00\x00\xff\x00\x00\x00'
    b'\x06\x00\x10\x00\x00\x00\x00\xfe\x00\x00\x00'
    b'\x07\x00\x10\x00\x00\x00\x00\xfe\x00\x00\x00'
)
_FIELDS_WINDOWED_ATTENTION_S8 = (
    b'\x00\x00\x11\x00\x00\x00\x00?\x00\x00\x00'
    b'\x01\x00\x11\x00\x00\x00\x00?\x00\x00\x00'
    b'\x02\x00\x11\x00\x00\x00\x00?\x00\x00\x00'
    b'\x03\x00\x18\x01\x00\x00\x00\xff\x00\x00\x00'
    b'\x04\x01\x18\x00\x00\x00\x00\xfe\x7f\x00\x00'
    b'\x06\x01\x18\x00\x00\x00\x00\xfe\x7f\x00\x00'
    b'\x08\x03\x14\x01\x00\x00\x00\xff\xff\xff\x03'
    b'\x0c\x01\x14\x00@\x00\x00\xff\x7f\x00\x00'
    b'\x0e\x00\x15\x00\x00\x00\x00\x0b\x00\x00\x00'
    b'\x0f\x00\x15\x01\x00\x00\x00\x1e\x00\x00\x00'
    b'\x10\x01\x14\x00@\x00\x00\xff\x7f\x00\x00'
    b'\x12\x00\x15\x01\x00\x00\x00\x16\x00\x00\x00'
    b'\x13\x00\x0c\x00\x00\x00\x00\x00\x00\x00\x00'
)
_FIELDS_LAYER_NORM_S8 = (
    b'\x00\x00\x11\x00\x00\x00\x00?\x00\x00\x00'
    b'\x01\x00\x13\x00\x00\x00\x00\x01\x00\x00\x00'
    b'\x02\x01\x14\x00@\x00\x00\xff\x7f\x00\x00'
    b'\x04\x03\x16\x00\x00\x00\x00\xff\xff\xff\x1f'
    b'\x08\x00\x15\x00\x00\x00\x00\x0f\x00\x00\x00'
    b'\t\x00\x0c\x00\x00\x00\x00\x00\x00\x00\x00'
    b'\n\x01\x0c\x00\x00\x00\x00\x00\x00\x00\x00'
)
_FIELDS_ADD_S8 = (
    b'\x00\x00\x11\x00\x00\x00\x00?\x00\x00\x00'
    b'\x01\x00\x11\x00\x00\x00\x00?\x00\x00\x00'
    b'\x02\x01\x0c\x00\x00\x00\x00\x00\x00\x00\x00'
    b'\x04\x03\x14\x00\x00\x00\x00\x00\x00@\x00'
    b'\x08\x03\x14\x00\x00\x00\x00\x00\x00@\x00'
)
_FIELDS_MEAN_POOL_S8 = (
    b'\x00\x00\x11\x00\x00\x00\x00?\x00\x00\x00'
    b'\x01\x00\x0c\x00\x00\x00\x00\x00\x00\x00\x00'
    b'\x02\x01\x0c\x00\x00\x00\x00\x00\x00\x00\x00'
    b'\x04\x03\x16\x01\x00\x00\xe0\xff\xff\xff\x1f'
    b'\x08\x01\x14\x00\x00\x00\x00\xff\x7f\x00\x00'
    b'\n\x00\x15\x00\x00\x00\x00\x0f\x00\x00\x00'
    b'\x0b\x00\x15\x01\x00\x00\x00\x1d\x00\x00\x00'
)
_FIELDS_TABLE_S8 = (
    b'\x00\x00\x11\x00\x00\x00\x00?\x00\x00\x00'
    b'\x01\x00\x0c\x00\x00\x00\x00\x00\x00\x00\x00'
    b'\x02\x01\x0c\x00\x00\x00\x00\x00\x00\x00\x00'
)
_FIELDS_REQUANTIZE_ROW = (
    b'\x00\x03\x16\x01\x00\x00\xe0\xff\xff\xff\x1f'
    b'\x04\x01\x14\x00\x00\x00\x00\xff\x7f\x00\x00'
    b'\x06\x00\x15\x00\x00\x00\x00\x0f\x00\x00\x00'
    b'\x07\x00\x15\x01\x00\x00\x00\x1d\x00\x00\x00'
)
_FIELDS_GOLDEN_CHANNEL_ROW = (
    b'\x00\x02\x19\x00\x80\xff\xff\xff\x7f\x00\x00'
    b'\x02\x01\x19\x01\x00\x00\x00\x00@\x00\x00'
)
_FIELDS_GOLDEN_VECTOR_ROW = (
    b'\x00\x01\x19\x00\x00\x00\x00\xff\xff\x00\x00'
    b'\x02\x01\x19\x00\x00\x00\x00\xff\xff\x00\x00'
    b'\x04\x01\x19\x01\x00\x00\x00\xff\x7f\x00\x00'
    b'\x06\x01\x0c\x00\x00\x00\x00\x00\x00\x00\x00'
)
OP_NAMES = (
    'LINEAR_S8',
    'CONV1D_S8',
    'WINDOWED_ATTENTION_S8',
    'LAYER_NORM_S8',
    'ADD_S8',
    'MEAN_POOL_S8',
    'TABLE_S8',
)
# generated: end

# A field of a table: u8 offset, u8 type, u8 error, i32 low, i32 high.
_FIELD_BYTES = const(11)
_I32 = const(3)
_F32 = const(4)
_TYPE_BYTES = b"\x01\x02\x02\x04\x04"
_OP_FIELDS = (
    _FIELDS_LINEAR_S8,
    _FIELDS_CONV1D_S8,
    _FIELDS_WINDOWED_ATTENTION_S8,
    _FIELDS_LAYER_NORM_S8,
    _FIELDS_ADD_S8,
    _FIELDS_MEAN_POOL_S8,
    _FIELDS_TABLE_S8,
)


class Fault(Exception):
    """The first fault of a file; args are its code, what was found, what was expected, and the byte offset."""


def check_model(data):
    """Returns 0 if the buffer holds a valid model, else the code of its first fault (models/FORMAT.md)."""
    try:
        Outline(data)
    except Fault as fault:
        return fault.args[0]
    return 0


def crc32_halves(data, high=0, low=0):
    """Returns the CRC-32 of a buffer as two 16-bit halves, going on from a previous result."""
    table_high, table_low = [], []
    for i in range(16):
        h, x = 0, i
        for _ in range(4):
            odd = x & 1
            x = (x >> 1) | ((h & 1) << 15)
            h >>= 1
            if odd:
                h ^= 0xEDB8
                x ^= 0x8320
        table_high.append(h)
        table_low.append(x)
    high ^= 65535
    low ^= 65535
    for byte in data:
        low ^= byte & 255
        for _ in range(2):
            i = low & 15
            low = ((low >> 4) | ((high & 15) << 12)) ^ table_low[i]
            high = (high >> 4) ^ table_high[i]
    return high ^ 65535, low ^ 65535


def _crc(data):
    """Returns (high, low) of the CRC-32 over the model without its own four bytes."""
    if crc32:
        try:
            value = crc32(data[16:], crc32(data[:12]))
            return value >> 16 & 65535, value & 65535
        except OverflowError:  # a board without long integers
            pass
    high, low = crc32_halves(data[:12])
    return crc32_halves(data[16:], high, low)


def _padded(n):
    return (n + 3) & ~3


def _bits(n):
    k = 0
    while n >> k:
        k += 1
    return k


class Outline:
    """A valid model file, read once in file order; raises Fault at the first thing that is wrong.

    The buffer may hold signed or unsigned bytes. No number ever leaves 31 bits, whatever the file holds.

    Attributes:
        name, version: str.    n_steps, n_channels, input_type: of a window.
        rows_at: offset of the input's requantize rows.    counts_at: of counts_per_unit.
        channels, units, labels: lists of str.    task: values of its fixed fields.    thresholds_at: offset.
        shapes: (steps, channels) of each tensor.    ops: (code, values, offset of its arrays, macs) of each op.
        macs: of all ops.    n_golden: vectors.    golden_at, golden_end: offsets of GOLDEN's arrays.
    """

    op_names = OP_NAMES

    def __init__(self, data):
        self.data = memoryview(data)
        self.at = 0  # the next byte
        self.end = len(data)  # where the payload that is being read ends
        n_ops = self._header()
        self._meta()
        self._input()
        self.task = self._task()
        self.shapes = [(self.n_steps, self.n_channels)]
        self.read = [False]  # tensors that some op reads
        self.keys = [False]  # tensors that attention may take as keys
        self.ops = []
        self.macs = 0
        for _ in range(n_ops):
            self._op()
        self._golden()
        self._optional()
        if not all(self.read[:-1]):
            raise Fault(_ERR_SOURCE, "a tensor that no op reads", "every tensor but the last is read", 0)
        self._want(self.shapes[-1] == (1, self.task[2]), _ERR_SHAPE, self.shapes[-1], (1, self.task[2]))

    # Numbers.

    def u8(self, at):
        """Returns the byte at an offset."""
        return self.data[at] & 255

    def u16(self, at):
        """Returns the 16-bit number at an offset."""
        return (self.data[at] & 255) | (self.data[at + 1] & 255) << 8

    def i32(self, at):
        """Returns the 32-bit number at an offset; beyond 2^29 it returns +-2^29, which no field allows."""
        low, high = self.u16(at), self.u16(at + 2)
        if high > 32767:
            high -= 65536
        if -8192 <= high < 8192:
            return high * 65536 + low
        return -(1 << 29) if high < 0 else 1 << 29

    def _value(self, at, kind):
        if kind == 0:
            return self.u8(at)
        if kind == _I32:
            return self.i32(at)
        value = self.u16(at)
        return value - 65536 if kind == 2 and value > 32767 else value

    def _want(self, condition, error, got=None, expected=None):
        if not condition:
            raise Fault(error, got, expected, self.at)

    def _number(self, at):
        """Checks a 32-bit float: zero, or positive and normal."""
        low, high = self.u16(at), self.u16(at + 2)
        if not (0x0080 <= high <= 0x7F7F or (high == 0 and low == 0)):
            raise Fault(_ERR_NUMBER, f"bits {high:04x}{low:04x}", "0 or a positive normal number", at)

    def _fields(self, table):
        """Returns the values of the fields of a record or row, each checked, and moves behind them."""
        values, size = [], 0
        for i in range(0, len(table), _FIELD_BYTES):
            offset, kind, error, low, high = unpack_from("<BBBii", table, i)
            at = self.at + offset
            if kind == _F32:
                self._number(at)
                value = 0
            else:
                value = self._value(at, kind)
                if not low <= value <= high:
                    raise Fault(error, value, f"{low}..{high}", at)
            values.append(value)
            size = offset + _TYPE_BYTES[kind]
        self.at += size
        return values

    def _rows(self, n, table):
        """Checks n rows one after the other and moves behind them."""
        for _ in range(n):
            self._fields(table)

    # Strings and padding.

    def _text(self, n, low, high):
        """Returns the string of n bytes here. The length is checked first, then the space, then the bytes."""
        self._want(low <= n <= high, _ERR_STRING, f"{n} bytes", f"{low}..{high} bytes")
        self._want(n <= self.end - self.at, _ERR_RECORD_LENGTH, f"{self.end - self.at} bytes left", n)
        raw = bytes(self.data[self.at : self.at + n])
        self._want(_is_printable_utf8(raw), _ERR_STRING, raw, "printable UTF-8")
        self.at += n
        return str(raw, "utf-8")

    def _short_text(self, low, high):
        """Returns the string here that begins with its length."""
        self._want(self.at < self.end, _ERR_RECORD_LENGTH, "0 bytes left", 1)
        n = self.u8(self.at)
        self.at += 1
        return self._text(n, low, high)

    def _zeros(self, n):
        """Checks n bytes of padding and moves behind them."""
        for _ in range(n):
            self._want(self.u8(self.at) == 0, _ERR_RESERVED, self.u8(self.at), 0)
            self.at += 1

    def _end_of_strings(self):
        left = self.end - self.at
        self._want(left <= 3, _ERR_RECORD_LENGTH, f"{left} bytes of padding", "0..3")
        self._zeros(left)

    # The file and its records.

    def _header(self):
        data, n = self.data, self.end
        self._want(n >= _HEADER_BYTES, _ERR_TRUNCATED, f"{n} bytes", f"at least {_HEADER_BYTES}")
        self._want(bytes(data[:4]) == b"ATN8", _ERR_MAGIC, bytes(data[:4]), "b'ATN8'")
        self._want(self.u8(4) == _FORMAT_MAJOR, _ERR_VERSION, self.u8(4), _FORMAT_MAJOR)
        same = n <= _MAX_FILE_BYTES and self.u16(8) == n & 65535 and self.u16(10) == n >> 16
        self._want(same, _ERR_LENGTH, f"{n} bytes", "the total_bytes of its header")
        self._want(_crc(data) == (self.u16(14), self.u16(12)), _ERR_CRC, "another CRC-32", "the crc32 of its header")
        n_ops = self.u16(6)
        self._want(1 <= n_ops <= _MAX_OPS, _ERR_COUNT, n_ops, f"1..{_MAX_OPS}")
        self.at = _HEADER_BYTES
        return n_ops

    def _record(self):
        """Moves behind the record header here and returns (type, flags); the payload lies inside the file."""
        left = len(self.data) - self.at
        self._want(left >= _RECORD_HEADER_BYTES, _ERR_RECORD, f"{left} bytes left", "a record")
        code, flags, low, high = (self.u16(self.at + i) for i in (0, 2, 4, 6))
        self._want(flags <= 1, _ERR_RESERVED, flags, "0 or 1")
        self._want(low & 3 == 0, _ERR_RECORD_LENGTH, low, "a multiple of 4")
        left -= _RECORD_HEADER_BYTES
        self._want(high <= 256 and high << 16 | low <= left, _ERR_RECORD, "a longer record", f"{left} bytes left")
        self.at += _RECORD_HEADER_BYTES
        self.end = self.at + (high << 16 | low)
        return code, flags

    def _expect(self, code, flags, wanted, expected):
        """Checks that the record just begun is the wanted one; GOLDEN and an op in each other's place are COUNT."""
        if not wanted:
            raise Fault(_misplaced(code, expected), f"record {code}", expected, self.at)
        self._want(flags == 0, _ERR_RESERVED, "an optional record", expected)

    def _fixed(self, table):
        """Returns the checked fixed fields of the record just begun."""
        last = len(table) - _FIELD_BYTES
        size = table[last] + _TYPE_BYTES[table[last + 1]]
        self._want(self.end - self.at >= size, _ERR_RECORD_LENGTH, self.end - self.at, f"at least {size}")
        return self._fields(table)

    def _exact(self, n):
        """Checks that exactly n bytes of the payload are left."""
        self._want(self.end - self.at == n, _ERR_RECORD_LENGTH, f"{self.end - self.at} bytes left", n)

    def _meta(self):
        code, flags = self._record()
        self._expect(code, flags, code == _RECORD_META, "META")
        name_bytes, version_bytes, _ = self._fixed(_FIELDS_META)
        self.name = self._text(name_bytes, 1, _MAX_NAME_BYTES)
        self.version = self._text(version_bytes, 0, _MAX_NAME_BYTES)
        self._end_of_strings()

    def _input(self):
        code, flags = self._record()
        self._expect(code, flags, code == _RECORD_INPUT, "INPUT")
        steps, channels, self.input_type = self._fixed(_FIELDS_INPUT)[:3]
        self._want(steps * channels <= _MAX_TENSOR_BYTES, _ERR_TOO_LARGE, steps * channels, _MAX_TENSOR_BYTES)
        n_rows = channels if self.input_type == _INPUT_INT16 else 0
        left = self.end - self.at
        self._want(left >= 8 * n_rows + 4 * channels, _ERR_RECORD_LENGTH, left, 8 * n_rows + 4 * channels)
        self.n_steps, self.n_channels, self.rows_at = steps, channels, self.at
        self._rows(n_rows, _FIELDS_REQUANTIZE_ROW)
        self.counts_at = self.at
        for _ in range(channels):
            self._number(self.at)
            self.at += 4
        self.channels, self.units = [], []
        for _ in range(channels):
            self.channels.append(self._short_text(1, _MAX_NAME_BYTES))
            self.units.append(self._short_text(0, _MAX_UNIT_BYTES))
        self._end_of_strings()

    def _task(self):
        code, flags = self._record()
        self._expect(code, flags, code == _RECORD_TASK, "TASK")
        self.task_at = self.at
        values = self._fixed(_FIELDS_TASK)
        n_outputs, dmax, dpre = values[2], values[5], values[7]
        self._want(dpre == max(0, _bits(dmax) - 15), _ERR_SHIFT, dpre, max(0, _bits(dmax) - 15))
        self._want(self.end - self.at >= n_outputs, _ERR_RECORD_LENGTH, self.end - self.at, n_outputs)
        self.thresholds_at = self.at
        for _ in range(n_outputs):
            self._want(self.u8(self.at) <= 100, _ERR_TASK, self.u8(self.at), "0..100")
            self.at += 1
        self._zeros(-n_outputs & 3)
        self.labels = [self._short_text(1, _MAX_NAME_BYTES) for _ in range(n_outputs)]
        self._end_of_strings()
        return values

    def _golden(self):
        code, flags = self._record()
        self._expect(code, flags, code == _RECORD_GOLDEN, "GOLDEN")
        self.n_golden = n = self._fixed(_FIELDS_GOLDEN)[0]
        n_outputs = n * self.task[2]
        self._exact(4 * self.n_channels + 8 * n + _padded(n_outputs))
        self.golden_at, self.golden_end = self.at, self.end
        lowest, highest = (-32768, 32767) if self.input_type == _INPUT_INT16 else (-128, 127)
        for _ in range(self.n_channels):
            low, n_values = self._fields(_FIELDS_GOLDEN_CHANNEL_ROW)
            self._want(lowest <= low and low + n_values - 1 <= highest, _ERR_GOLDEN, (low, n_values), (lowest, highest))
        for _ in range(n):
            x, y, hold, _ = self._fields(_FIELDS_GOLDEN_VECTOR_ROW)
            self._want((x or y) and hold <= self.n_steps, _ERR_GOLDEN, (x, y, hold), f"a seed, hold <= {self.n_steps}")
        self.at += n_outputs
        self._zeros(-n_outputs & 3)

    def _optional(self):
        """Skips the optional records behind GOLDEN."""
        while self.at < len(self.data):
            code, flags = self._record()
            if flags == 0 or _is_known(code):
                raise Fault(_misplaced(code, "end"), f"record {code}", "the end or an optional record", self.at)
            self.at = self.end

    # The ops.

    def _op(self):
        code, flags = self._record()
        self._expect(code, flags, _OP_LINEAR_S8 <= code <= _OP_TABLE_S8, "an op")
        before = self.macs
        values = self._fixed(_OP_FIELDS[code - _FIRST_OP])
        start = self.at
        if code == _OP_LINEAR_S8:
            shape = self._linear(values)
        elif code == _OP_CONV1D_S8:
            shape = self._conv1d(values)
        elif code == _OP_WINDOWED_ATTENTION_S8:
            shape = self._attention(values)
        elif code == _OP_ADD_S8:
            shape = self._add(values)
        else:
            shape = self._one_source(code, values)
        self.shapes.append(shape)
        self.read.append(False)
        self.keys.append(code <= _OP_CONV1D_S8 and values[1] != _CLAMP_FULL)
        self.ops.append((code, values, start, self.macs - before))
        self.at = self.end

    def _source(self, tensor):
        """Returns the shape of a tensor that the current op reads."""
        self._want(tensor <= len(self.ops), _ERR_SOURCE, tensor, f"0..{len(self.ops)}")
        self.read[tensor] = True
        return self.shapes[tensor]

    def _work(self, steps, channels, products):
        """Limits an op whose output is (steps, channels) with so many products for each element."""
        outputs = steps * channels
        self._want(outputs <= _MAX_TENSOR_BYTES, _ERR_TOO_LARGE, outputs, _MAX_TENSOR_BYTES)
        self._want(products <= _MAX_MACS // outputs, _ERR_TOO_LARGE, products, _MAX_MACS // outputs)
        macs, left = outputs * products, _MAX_MACS - self.macs
        self._want(macs <= left, _ERR_TOO_LARGE, macs, left)
        self.macs += macs

    def _weights(self, n, products):
        """Checks n rows of requantize numbers, then n rows of weights with their padding."""
        row_bytes = _padded(products)
        self._exact(8 * n + n * row_bytes)
        self._rows(n, _FIELDS_REQUANTIZE_ROW)
        for _ in range(n):
            row = bytes(self.data[self.at : self.at + products])
            self._want(b"\x80" not in row, _ERR_WEIGHT, -128, "-127..127")
            self.at += products
            self._zeros(row_bytes - products)

    def _linear(self, values):
        source, _, n = values
        steps, products = self._source(source)
        self._work(steps, n, products)
        self._weights(n, products)
        return steps, n

    def _conv1d(self, values):
        source, _, n, kernel, stride, pad_left, pad_right = values
        steps, channels = self._source(source)
        self._want(pad_left < kernel and pad_right < kernel, _ERR_SHAPE, (pad_left, pad_right), f"pads < {kernel}")
        self._want(kernel * channels <= _MAX_PRODUCTS, _ERR_SHAPE, kernel * channels, _MAX_PRODUCTS)
        room = steps + pad_left + pad_right - kernel
        self._want(room >= 0, _ERR_SHAPE, kernel, f"a kernel of at most {room + kernel}")
        steps = room // stride + 1
        self._want(steps <= _MAX_STEPS, _ERR_SHAPE, steps, _MAX_STEPS)
        self._work(steps, n, kernel * channels)
        self._weights(n, kernel * channels)
        return steps, n

    def _attention(self, values):
        query, key, value, heads, left, right, dmax, _, dpre = values[:9]
        q, k, v = self._source(query), self._source(key), self._source(value)
        self._want(q == k == v, _ERR_SHAPE, (q, k, v), "equal shapes")
        steps, channels = q
        fits = channels % heads == 0 and channels // heads <= _MAX_HEAD_SIZE
        self._want(fits, _ERR_ATTENTION, heads, f"heads that divide {channels}, at most {_MAX_HEAD_SIZE} channels each")
        self._want(self.keys[key], _ERR_ATTENTION, f"keys from tensor {key}", "LINEAR or CONV1D with clamp KEY or RELU")
        self._want(left < steps and right < steps, _ERR_ATTENTION, (left, right), f"less than {steps}")
        self._want(dpre == max(0, _bits(dmax) - 15), _ERR_SHIFT, dpre, max(0, _bits(dmax) - 15))
        span = left + right + 1
        self._work(steps, channels, 2 * span)
        self._exact(4 * heads * span)
        for at in range(self.at, self.end, 4):
            bias = self.i32(at)
            if not -_MAX_RELATIVE_BIAS <= bias <= _MAX_RELATIVE_BIAS:
                raise Fault(_ERR_BIAS, bias, f"+-{_MAX_RELATIVE_BIAS}", at)
        return q

    def _add(self, values):
        a, b, _, multiplier_a, multiplier_b = values
        a, b = self._source(a), self._source(b)
        self._want(a == b, _ERR_SHAPE, (a, b), "equal shapes")
        total = multiplier_a + multiplier_b
        self._want(total <= _MAX_ADD_SUM, _ERR_MULTIPLIER, total, f"at most {_MAX_ADD_SUM}")
        self._exact(0)
        return a

    def _one_source(self, code, values):
        """Checks LAYER_NORM_S8, MEAN_POOL_S8 or TABLE_S8."""
        steps, channels = self._source(values[0])
        if code == _OP_LAYER_NORM_S8:
            fits = _MIN_NORM_CHANNELS <= channels <= _MAX_NORM_CHANNELS
            self._want(fits, _ERR_SHAPE, channels, f"{_MIN_NORM_CHANNELS}..{_MAX_NORM_CHANNELS} channels")
        self._exact(256 if code == _OP_TABLE_S8 else 0)
        return (1 if code == _OP_MEAN_POOL_S8 else steps), channels


def _is_known(code):
    return _RECORD_META <= code <= _RECORD_GOLDEN or _OP_LINEAR_S8 <= code <= _OP_TABLE_S8


def _misplaced(code, expected):
    """Returns the error of a record that stands where another is expected."""
    if not _is_known(code):
        return _ERR_UNKNOWN_OP if _FIRST_OP <= code <= _LAST_OP else _ERR_UNKNOWN_RECORD
    swapped = code >= _FIRST_OP if expected == "GOLDEN" else expected == "an op" and code == _RECORD_GOLDEN
    return _ERR_COUNT if swapped else _ERR_ORDER


def _is_printable_utf8(raw):
    """Tells whether bytes are well-formed UTF-8 without control characters (MicroPython's own check is lax)."""
    left, low, high = 0, 0x80, 0xBF  # continuation bytes to come, and the range of the next one
    for c in raw:
        if left:
            if not low <= c <= high:
                return False
            left, low, high = left - 1, 0x80, 0xBF
        elif c >= 0x80:
            if not 0xC2 <= c <= 0xF4:
                return False
            left = 1 + (c >= 0xE0) + (c >= 0xF0)
            low = 0xA0 if c == 0xE0 else 0x90 if c == 0xF0 else 0x80
            high = 0x9F if c == 0xED else 0x8F if c == 0xF4 else 0xBF
        elif c < 0x20 or c == 0x7F:
            return False
    return left == 0
