"""THE specification of the model file: fields, ops, error codes and limits, each with its meaning.

device/attn8/format.py, native_modules/core/a8_format.h and the tables of models/FORMAT.md are generated
from this file (``python -m attn8.codegen``). The prose that ties the tables together, and the order of the
checks, is in models/FORMAT.md. Needs nothing but the standard library.
"""

from dataclasses import dataclass

MAGIC = b"ATN8"
FORMAT_MAJOR = 1
FORMAT_MINOR = 0
HEADER_BYTES = 24
RECORD_HEADER_BYTES = 8
FLAG_OPTIONAL = 1


@dataclass(frozen=True)
class Constant:
    """A named number that host, C and device share."""

    name: str
    value: int
    doc: str


LIMITS = (
    Constant("MAX_FILE_BYTES", 1 << 24, "largest file"),
    Constant("MAX_OPS", 64, "largest number of op records"),
    Constant("MAX_STEPS", 32767, "largest number of samples or tokens of a tensor"),
    Constant("MAX_CHANNELS", 1024, "largest number of channels of a tensor"),
    Constant("MAX_PRODUCTS", 32767, "largest number of products per output (K)"),
    Constant("MAX_TENSOR_BYTES", 1 << 20, "largest tensor"),
    Constant("MAX_MACS", 1 << 28, "largest number of multiply-accumulates of all ops together"),
    Constant("MAX_HEAD_SIZE", 256, "largest head size of attention"),
    Constant("MIN_NORM_CHANNELS", 8, "smallest D of a norm"),
    Constant("MAX_NORM_CHANNELS", 256, "largest D of a norm"),
    Constant("MAX_ADD_SUM", 1 << 22, "largest ma + mb of an add"),
    Constant("MAX_BIAS", (1 << 29) - 1, "largest magnitude of a bias"),
    Constant("MAX_RELATIVE_BIAS", 1 << 24, "largest magnitude of a relative attention bias"),
    Constant("MAX_NAME_BYTES", 32, "longest name, version, label or channel name, UTF-8 bytes"),
    Constant("MAX_UNIT_BYTES", 16, "longest unit, UTF-8 bytes"),
    Constant("MAX_STREAM_STEPS", 1 << 20, "largest number of samples between two tokens of a stream, and behind them"),
    Constant("MAX_GOLDEN_VALUES", 16384, "largest number of values a golden input channel can take"),
    Constant("ARENA_ALIGNMENT", 4, "arena offsets, record payloads and weight rows are multiples of it"),
)

LIMIT = {c.name: c.value for c in LIMITS}

TASKS = (Constant("CLASSIFICATION", 1, "the outputs are logits; the largest wins"),)

INPUT_TYPES = (
    Constant("INT8", 0, "windows are int8 and are taken as they are"),
    Constant("INT16", 1, "windows are int16 counts, requantized per channel to int8"),
)

CLAMPS = (
    Constant("FULL", 0, "outputs in [-128, 127]"),
    Constant("KEY", 1, "outputs in [-127, 127]: attention keys"),
    Constant("RELU", 2, "outputs in [0, 127]"),
)

NORMS = (
    Constant("LAYER", 0, "LayerNorm: the mean is subtracted"),
    Constant("RMS", 1, "RMSNorm: it is not"),
)


@dataclass(frozen=True)
class ErrorCode:
    """One fault, one code. ``expected`` completes "... got X, expected ..."; ``action`` says what to do."""

    code: int
    name: str
    what: str
    action: str


_AGAIN = "copy or pack the file again"
_REPACK = "pack the model again with this version of attn8"

# Codes 1..29 come from check_model, 30.. from load and run. C returns them negated.
ERRORS = (
    ErrorCode(1, "TRUNCATED", "the file is shorter than its header", _AGAIN),
    ErrorCode(2, "MAGIC", "the file does not begin with ATN8: it is not an attn8 model", "give a .a8 file"),
    ErrorCode(3, "VERSION", "the file has another major format version", _REPACK),
    ErrorCode(4, "LENGTH", "the length in the header is not the length of the file", _AGAIN),
    ErrorCode(5, "CRC", "the checksum does not match: the file is damaged", _AGAIN),
    ErrorCode(6, "COUNT", "the number of op records is 0, too large or not the one in the header", _REPACK),
    ErrorCode(7, "RECORD", "a record does not fit into the file", _REPACK),
    ErrorCode(8, "ORDER", "a record is missing, repeated or out of order", _REPACK),
    ErrorCode(9, "UNKNOWN_RECORD", "a record of unknown type is not marked optional", "update attn8 on the device"),
    ErrorCode(10, "UNKNOWN_OP", "an op is not known to this version", "update attn8 on the device"),
    ErrorCode(11, "RECORD_LENGTH", "a record is shorter or longer than its contents", _REPACK),
    ErrorCode(12, "RESERVED", "a reserved field or padding is not zero", _REPACK),
    ErrorCode(13, "STRING", "a name, label or unit is empty, too long or not printable UTF-8", _REPACK),
    ErrorCode(14, "NUMBER", "a floating-point field is not a positive finite number", _REPACK),
    ErrorCode(15, "TASK", "the task or a threshold is out of range", _REPACK),
    ErrorCode(16, "SHAPE", "a shape is out of range or does not fit the op that reads it", _REPACK),
    ErrorCode(17, "SOURCE", "an op reads a tensor that does not exist yet, or a tensor is never read", _REPACK),
    ErrorCode(18, "TOO_LARGE", "a tensor or the work of the whole model is over the limit", "make the model smaller"),
    ErrorCode(19, "MODE", "an input type, clamp or norm kind is unknown", _REPACK),
    ErrorCode(20, "MULTIPLIER", "a multiplier is out of range", _REPACK),
    ErrorCode(21, "SHIFT", "a shift is out of range", _REPACK),
    ErrorCode(22, "BIAS", "a bias, relative bias or epsilon is out of range", _REPACK),
    ErrorCode(23, "WEIGHT", "a weight is -128", _REPACK),
    ErrorCode(24, "ATTENTION", "heads, window or key range of an attention op do not fit", _REPACK),
    ErrorCode(25, "GOLDEN", "the golden vectors are out of range", _REPACK),
    ErrorCode(30, "ALIGNMENT", "the memory of an arena or a stream begins at no multiple of 4", "give aligned memory"),
    ErrorCode(31, "MOVED", "the model's buffer moved or changed its length after load", "keep it, or load again"),
    ErrorCode(32, "BUSY", "run was called inside a run of the same model", "load the model twice"),
    ErrorCode(33, "MEMORY", "the memory given for model or arena is too small", "give as much as the model asks for"),
    ErrorCode(
        34, "INPUT", "these are no values of a window or sample", "give run T*C values, time first; give push C of them"
    ),
    ErrorCode(35, "OUTPUT", "the output buffer has the wrong length", "give n_outputs bytes"),
    ErrorCode(36, "SELFTEST", "the outputs differ from the golden vectors in the file", "do not use this build"),
    ErrorCode(37, "STREAM", "the model cannot run as a stream", "train it with model.causal = true"),
    ErrorCode(
        38, "LEFT_OUT", "the native code was built without a part that is needed", "build it again with that part"
    ),
    ErrorCode(39, "SLOT", "no slot holds a model that can be taken", "deploy a model"),
    ErrorCode(40, "SIGNATURE", "the model is not signed with the key on the board", "deploy it with that key"),
)
ERROR_CODES = {e.name: e.code for e in ERRORS}

# Field types: size in bytes. f32 is an IEEE-754 bit pattern that is 0 ("unknown") or a positive normal number.
# i32 values lie in (-2^29, 2^29), so that a board reads them without a heap integer.
TYPE_BYTES = {"u8": 1, "u16": 2, "i16": 2, "i32": 4, "f32": 4}


@dataclass(frozen=True)
class Field:
    """A fixed field of a record; outside [low, high] check_model returns ``error``."""

    name: str
    type: str
    low: int
    high: int
    error: str
    doc: str


@dataclass(frozen=True)
class Array:
    """A variable part behind the fixed fields. ``element`` names a row below or a scalar type."""

    name: str
    shape: str
    element: str
    doc: str


@dataclass(frozen=True)
class Record:
    """A record: 8-byte record header, fixed fields, arrays in this order, zero padding to 4 bytes."""

    code: int
    name: str
    fields: tuple
    arrays: tuple
    doc: str

    @property
    def fixed_bytes(self):
        return sum(TYPE_BYTES[f.type] for f in self.fields)

    def offsets(self):
        """Returns {field name: byte offset in the payload}."""
        result, offset = {}, 0
        for f in self.fields:
            result[f.name] = offset
            offset += TYPE_BYTES[f.type]
        return result


def _reserved(name, type_="u8"):
    return Field(name, type_, 0, 0, "RESERVED", "0")


def _source(name, doc):
    return Field(name, "u8", 0, 63, "SOURCE", doc)


def _clamp():
    return Field("clamp", "u8", 0, 2, "MODE", "range of the outputs: see the clamps")


def _softmax(prefix=""):
    """The four numbers that turn a score difference into an index of EXP (section 5)."""
    return (
        Field(prefix + "dmax", "i32", 1, (1 << 26) - 1, "MULTIPLIER", "largest score difference that is told apart"),
        Field(prefix + "dm", "u16", 1 << 14, (1 << 15) - 1, "MULTIPLIER", "multiplier of the score difference"),
        Field(prefix + "dpre", "u8", 0, 11, "SHIFT", "shift before it: max(0, bits(dmax) - 15)"),
        Field(prefix + "dsh", "u8", 1, 30, "SHIFT", "shift after it"),
    )


# Rows: the fixed-size elements that arrays are made of.
REQUANTIZE_ROW = (
    Field(
        "bias",
        "i32",
        -(1 << 29) + 1,
        (1 << 29) - 1,
        "BIAS",
        "added to the accumulator; contains 2^(pre-1) when pre > 0",
    ),
    Field("multiplier", "u16", 0, 32767, "MULTIPLIER", "m"),
    Field("pre", "u8", 0, 15, "SHIFT", "shift before the multiplication"),
    Field("post", "u8", 1, 29, "SHIFT", "rounding shift after it"),
)
GOLDEN_CHANNEL_ROW = (
    Field("low", "i16", -32768, 32767, "GOLDEN", "smallest value"),
    Field("n_values", "u16", 1, 16384, "GOLDEN", "number of values: low..low+n_values-1"),
)
GOLDEN_VECTOR_ROW = (
    Field("x", "u16", 0, 65535, "GOLDEN", "generator state; x and y are not both 0"),
    Field("y", "u16", 0, 65535, "GOLDEN", "generator state"),
    Field("hold", "u16", 1, 32767, "GOLDEN", "a new row of values is drawn every hold samples; at most n_steps"),
    _reserved("reserved", "u16"),
)
ROWS = {"requantize": REQUANTIZE_ROW, "golden_channel": GOLDEN_CHANNEL_ROW, "golden_vector": GOLDEN_VECTOR_ROW}

HEADER = (
    Field("magic", "4 bytes", 0, 0, "MAGIC", '"ATN8"'),
    Field("major", "u8", FORMAT_MAJOR, FORMAT_MAJOR, "VERSION", "format version; another major is refused"),
    Field("minor", "u8", 0, 255, "VERSION", "a higher minor adds ops or optional records"),
    Field("n_ops", "u16", 1, 64, "COUNT", "number of op records"),
    Field("total_bytes", "u32", 0, 1 << 24, "LENGTH", "length of the model, header included"),
    Field("crc32", "u32", 0, 0, "CRC", "CRC-32 over every other byte of the model"),
    Field("id", "8 bytes", 0, 0, "CRC", "first 8 bytes of SHA-256 over the records (not used by check_model)"),
)

_STRINGS = "u8 length and as many bytes, each"

META = Record(
    1,
    "META",
    (
        Field("name_bytes", "u8", 1, 32, "STRING", "length of the name"),
        Field("version_bytes", "u8", 0, 32, "STRING", "length of the version string"),
        _reserved("reserved", "u16"),
    ),
    (Array("name", "name_bytes", "utf8", "model name"), Array("version", "version_bytes", "utf8", "model version")),
    "who the model is",
)
INPUT = Record(
    2,
    "INPUT",
    (
        Field("n_steps", "u16", 1, 32767, "SHAPE", "T: samples in a window"),
        Field("n_channels", "u16", 1, 1024, "SHAPE", "C"),
        Field("input_type", "u8", 0, 1, "MODE", "see the input types"),
        _reserved("reserved_0"),
        _reserved("reserved_1", "u16"),
    ),
    (
        Array("requantize", "n_channels (int16 only)", "requantize", "counts to int8; bias holds minus the offset"),
        Array("counts_per_unit", "n_channels", "f32", "counts per physical unit; 0 = unknown"),
        Array("names", "n_channels x (name, unit)", "utf8", f"channel name, then unit (may be empty): {_STRINGS}"),
    ),
    "what a window is",
)
TASK = Record(
    3,
    "TASK",
    (
        Field("task", "u8", 1, 1, "TASK", "see the tasks"),
        _reserved("reserved"),
        Field("n_outputs", "u16", 1, 1024, "SHAPE", "number of outputs"),
        Field("hop", "i32", 1, 1 << 20, "TASK", "samples between windows in training"),
        Field("sample_rate_hz", "f32", 0, 0, "NUMBER", "samples a second; 0 = unknown"),
        *_softmax("score_"),
    ),
    (
        Array("thresholds", "n_outputs", "u8", "smallest score (0..100) at which a class is reported"),
        Array("labels", "n_outputs", "utf8", f"class labels: {_STRINGS}"),
    ),
    "what the outputs mean",
)
GOLDEN = Record(
    4,
    "GOLDEN",
    (
        Field("n_vectors", "u8", 4, 255, "GOLDEN", "number of golden vectors"),
        _reserved("reserved_0"),
        _reserved("reserved_1", "u16"),
    ),
    (
        Array("channels", "n_channels", "golden_channel", "range of each input channel"),
        Array("vectors", "n_vectors", "golden_vector", "seed of each input"),
        Array("outputs", "n_vectors x n_outputs", "i8", "expected outputs"),
    ),
    "inputs by seed, and the outputs they must give",
)

LINEAR = Record(
    16,
    "LINEAR_S8",
    (
        _source("source", "tensor (T, K)"),
        _clamp(),
        Field("n_outputs", "u16", 1, 1024, "SHAPE", "N; the output is (T, N)"),
    ),
    (
        Array("requantize", "N", "requantize", "per output channel"),
        Array("weights", "N x K, rows padded to 4", "i8", "never -128; padding 0"),
    ),
    "y = requantize(W x)",
)
CONV1D = Record(
    17,
    "CONV1D_S8",
    (
        _source("source", "tensor (T, C)"),
        _clamp(),
        Field(
            "n_outputs",
            "u16",
            1,
            1024,
            "SHAPE",
            "N; the output is ((T + pad_left + pad_right - kernel) // stride + 1, N)",
        ),
        Field("kernel", "u8", 1, 255, "SHAPE", "kernel size in tokens"),
        Field("stride", "u8", 1, 255, "SHAPE", "stride in tokens"),
        Field("pad_left", "u8", 0, 254, "SHAPE", "zero tokens before the first; less than kernel"),
        Field("pad_right", "u8", 0, 254, "SHAPE", "zero tokens after the last; less than kernel"),
    ),
    (
        Array("requantize", "N", "requantize", "per output channel"),
        Array("weights", "N x (kernel*C), rows padded to 4", "i8", "tap first, then channel; never -128; padding 0"),
    ),
    "y = requantize(W * x), K = kernel*C",
)
ATTENTION = Record(
    18,
    "WINDOWED_ATTENTION_S8",
    (
        _source("query", "tensor (T, D)"),
        _source("key", "tensor (T, D), made with clamp KEY or RELU"),
        _source("value", "tensor (T, D)"),
        Field("heads", "u8", 1, 255, "ATTENTION", "H; divides D, D/H <= 256"),
        Field("left", "u16", 0, 32766, "ATTENTION", "keys before the query that it sees; < T"),
        Field("right", "u16", 0, 32766, "ATTENTION", "keys after it; < T; 0 = causal"),
        *_softmax(),
        Field("multiplier", "u16", 1 << 14, (1 << 15) - 1, "MULTIPLIER", "M of row_divide"),
        Field("shift", "u8", 1, 22, "SHIFT", "f of row_divide"),
        _reserved("reserved"),
    ),
    (Array("relative_bias", "H x (left + right + 1)", "i32", "B; entry j - i + left belongs to key j of query i"),),
    "softmax attention of each query over the keys i-left..i+right inside the window",
)
LAYER_NORM = Record(
    19,
    "LAYER_NORM_S8",
    (
        _source("source", "tensor (T, D), 8 <= D <= 256"),
        Field("kind", "u8", 0, 1, "MODE", "see the norms"),
        Field("multiplier", "u16", 1 << 14, (1 << 15) - 1, "MULTIPLIER", "m: sqrt(D)/s_y = m*2^-shift"),
        Field("epsilon", "i32", 0, (1 << 29) - 1, "BIAS", "eps in units of the squared, scaled input"),
        Field("shift", "u8", 0, 15, "SHIFT", "E"),
        _reserved("reserved_0"),
        _reserved("reserved_1", "u16"),
    ),
    (),
    "LayerNorm or RMSNorm of each token, without gamma and beta",
)
ADD = Record(
    20,
    "ADD_S8",
    (
        _source("a", "tensor (T, D)"),
        _source("b", "tensor (T, D)"),
        _reserved("reserved", "u16"),
        Field("multiplier_a", "i32", 0, 1 << 22, "MULTIPLIER", "ma; ma + mb <= 2^22"),
        Field("multiplier_b", "i32", 0, 1 << 22, "MULTIPLIER", "mb"),
    ),
    (),
    "residual add of two tensors of different scale",
)
MEAN_POOL = Record(
    21,
    "MEAN_POOL_S8",
    (
        _source("source", "tensor (T, D)"),
        _reserved("reserved_0"),
        _reserved("reserved_1", "u16"),
        *REQUANTIZE_ROW,
    ),
    (),
    "mean over the tokens: (T, D) to (1, D)",
)
TABLE = Record(
    22,
    "TABLE_S8",
    (_source("source", "tensor (T, D)"), _reserved("reserved_0"), _reserved("reserved_1", "u16")),
    (Array("table", "256", "i8", "y = table[x + 128]"),),
    "any activation",
)

OPS = (LINEAR, CONV1D, ATTENTION, LAYER_NORM, ADD, MEAN_POOL, TABLE)
RECORDS = (META, INPUT, TASK, GOLDEN, *OPS)
RECORD_BY_CODE = {r.code: r for r in RECORDS}
OP_BY_CODE = {r.code: r for r in OPS}
FIRST_OP, LAST_OP = 16, 127  # op codes; other codes are records

# e^(-i/32) as floor(127*e^(-i/32) + 1/2): 0 from 178 on. The only table of the arithmetic.
EXP_STEPS_PER_UNIT = 32


def exp_table():
    """Returns the 256 entries of EXP as a list of int (models/FORMAT.md "softmax attention")."""
    from math import exp, floor

    return [floor(127 * exp(-i / EXP_STEPS_PER_UNIT) + 0.5) for i in range(256)]


def row_bytes(row):
    """Returns the size of a row in bytes."""
    return sum(TYPE_BYTES[f.type] for f in row)


def padded(n):
    """Returns n rounded up to the arena alignment of 4."""
    return -(-n // LIMIT["ARENA_ALIGNMENT"]) * LIMIT["ARENA_ALIGNMENT"]
