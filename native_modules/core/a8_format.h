/* Generated from host/attn8/spec.py by `python -m attn8.codegen`; do not edit. */
#ifndef A8_FORMAT_H
#define A8_FORMAT_H

#include <stdint.h>

#define A8_FORMAT_MAJOR 1 /* another major version is refused */
#define A8_HEADER_BYTES 24 /* size of the header */
#define A8_RECORD_HEADER_BYTES 8 /* size of a record header */
#define A8_MAX_FILE_BYTES 16777216 /* largest file */
#define A8_MAX_OPS 64 /* largest number of op records */
#define A8_MAX_STEPS 32767 /* largest number of samples or tokens of a tensor */
#define A8_MAX_CHANNELS 1024 /* largest number of channels of a tensor */
#define A8_MAX_PRODUCTS 32767 /* largest number of products per output (K) */
#define A8_MAX_TENSOR_BYTES 1048576 /* largest tensor */
#define A8_MAX_MACS 268435456 /* largest number of multiply-accumulates of all ops together */
#define A8_MAX_HEAD_SIZE 256 /* largest head size of attention */
#define A8_MIN_NORM_CHANNELS 8 /* smallest D of a norm */
#define A8_MAX_NORM_CHANNELS 256 /* largest D of a norm */
#define A8_MAX_ADD_SUM 4194304 /* largest ma + mb of an add */
#define A8_MAX_BIAS 536870911 /* largest magnitude of a bias */
#define A8_MAX_RELATIVE_BIAS 16777216 /* largest magnitude of a relative attention bias */
#define A8_MAX_NAME_BYTES 32 /* longest name, version, label or channel name, UTF-8 bytes */
#define A8_MAX_UNIT_BYTES 16 /* longest unit, UTF-8 bytes */
#define A8_MAX_STREAM_STEPS 1048576 /* largest number of samples between two tokens of a stream, and behind them */
#define A8_MAX_GOLDEN_VALUES 16384 /* largest number of values a golden input channel can take */
#define A8_ARENA_ALIGNMENT 4 /* arena offsets, record payloads and weight rows are multiples of it */
#define A8_TASK_CLASSIFICATION 1 /* the outputs are logits; the largest wins */
#define A8_INPUT_INT8 0 /* windows are int8 and are taken as they are */
#define A8_INPUT_INT16 1 /* windows are int16 counts, requantized per channel to int8 */
#define A8_CLAMP_FULL 0 /* outputs in [-128, 127] */
#define A8_CLAMP_KEY 1 /* outputs in [-127, 127]: attention keys */
#define A8_CLAMP_RELU 2 /* outputs in [0, 127] */
#define A8_NORM_LAYER 0 /* LayerNorm: the mean is subtracted */
#define A8_NORM_RMS 1 /* RMSNorm: it is not */
#define A8_RECORD_META 1 /* who the model is */
#define A8_RECORD_INPUT 2 /* what a window is */
#define A8_RECORD_TASK 3 /* what the outputs mean */
#define A8_RECORD_GOLDEN 4 /* inputs by seed, and the outputs they must give */
#define A8_OP_LINEAR_S8 16 /* y = requantize(W x) */
#define A8_OP_CONV1D_S8 17 /* y = requantize(W * x), K = kernel*C */
#define A8_OP_WINDOWED_ATTENTION_S8 18 /* softmax attention of each query over the keys i-left..i+right inside the window */
#define A8_OP_LAYER_NORM_S8 19 /* LayerNorm or RMSNorm of each token, without gamma and beta */
#define A8_OP_ADD_S8 20 /* residual add of two tensors of different scale */
#define A8_OP_MEAN_POOL_S8 21 /* mean over the tokens: (T, D) to (1, D) */
#define A8_OP_TABLE_S8 22 /* any activation */
#define A8_FIRST_OP 16 /* smallest op code */
#define A8_LAST_OP 127 /* largest op code */

/* Offsets of the fixed fields in a payload, and the size of the fixed part. */
#define A8_AT_META_NAME_BYTES 0
#define A8_AT_META_VERSION_BYTES 1
#define A8_AT_META_FIXED_BYTES 4
#define A8_AT_INPUT_N_STEPS 0
#define A8_AT_INPUT_N_CHANNELS 2
#define A8_AT_INPUT_INPUT_TYPE 4
#define A8_AT_INPUT_FIXED_BYTES 8
#define A8_AT_TASK_TASK 0
#define A8_AT_TASK_N_OUTPUTS 2
#define A8_AT_TASK_HOP 4
#define A8_AT_TASK_SAMPLE_RATE_HZ 8
#define A8_AT_TASK_SCORE_DMAX 12
#define A8_AT_TASK_SCORE_DM 16
#define A8_AT_TASK_SCORE_DPRE 18
#define A8_AT_TASK_SCORE_DSH 19
#define A8_AT_TASK_FIXED_BYTES 20
#define A8_AT_GOLDEN_N_VECTORS 0
#define A8_AT_GOLDEN_FIXED_BYTES 4
#define A8_AT_LINEAR_S8_SOURCE 0
#define A8_AT_LINEAR_S8_CLAMP 1
#define A8_AT_LINEAR_S8_N_OUTPUTS 2
#define A8_AT_LINEAR_S8_FIXED_BYTES 4
#define A8_AT_CONV1D_S8_SOURCE 0
#define A8_AT_CONV1D_S8_CLAMP 1
#define A8_AT_CONV1D_S8_N_OUTPUTS 2
#define A8_AT_CONV1D_S8_KERNEL 4
#define A8_AT_CONV1D_S8_STRIDE 5
#define A8_AT_CONV1D_S8_PAD_LEFT 6
#define A8_AT_CONV1D_S8_PAD_RIGHT 7
#define A8_AT_CONV1D_S8_FIXED_BYTES 8
#define A8_AT_WINDOWED_ATTENTION_S8_QUERY 0
#define A8_AT_WINDOWED_ATTENTION_S8_KEY 1
#define A8_AT_WINDOWED_ATTENTION_S8_VALUE 2
#define A8_AT_WINDOWED_ATTENTION_S8_HEADS 3
#define A8_AT_WINDOWED_ATTENTION_S8_LEFT 4
#define A8_AT_WINDOWED_ATTENTION_S8_RIGHT 6
#define A8_AT_WINDOWED_ATTENTION_S8_DMAX 8
#define A8_AT_WINDOWED_ATTENTION_S8_DM 12
#define A8_AT_WINDOWED_ATTENTION_S8_DPRE 14
#define A8_AT_WINDOWED_ATTENTION_S8_DSH 15
#define A8_AT_WINDOWED_ATTENTION_S8_MULTIPLIER 16
#define A8_AT_WINDOWED_ATTENTION_S8_SHIFT 18
#define A8_AT_WINDOWED_ATTENTION_S8_FIXED_BYTES 20
#define A8_AT_LAYER_NORM_S8_SOURCE 0
#define A8_AT_LAYER_NORM_S8_KIND 1
#define A8_AT_LAYER_NORM_S8_MULTIPLIER 2
#define A8_AT_LAYER_NORM_S8_EPSILON 4
#define A8_AT_LAYER_NORM_S8_SHIFT 8
#define A8_AT_LAYER_NORM_S8_FIXED_BYTES 12
#define A8_AT_ADD_S8_A 0
#define A8_AT_ADD_S8_B 1
#define A8_AT_ADD_S8_MULTIPLIER_A 4
#define A8_AT_ADD_S8_MULTIPLIER_B 8
#define A8_AT_ADD_S8_FIXED_BYTES 12
#define A8_AT_MEAN_POOL_S8_SOURCE 0
#define A8_AT_MEAN_POOL_S8_BIAS 4
#define A8_AT_MEAN_POOL_S8_MULTIPLIER 8
#define A8_AT_MEAN_POOL_S8_PRE 10
#define A8_AT_MEAN_POOL_S8_POST 11
#define A8_AT_MEAN_POOL_S8_FIXED_BYTES 12
#define A8_AT_TABLE_S8_SOURCE 0
#define A8_AT_TABLE_S8_FIXED_BYTES 4

typedef enum {
    A8_OK = 0,
    A8_ERR_TRUNCATED = -1, /* the file is shorter than its header */
    A8_ERR_MAGIC = -2, /* the file does not begin with ATN8: it is not an attn8 model */
    A8_ERR_VERSION = -3, /* the file has another major format version */
    A8_ERR_LENGTH = -4, /* the length in the header is not the length of the file */
    A8_ERR_CRC = -5, /* the checksum does not match: the file is damaged */
    A8_ERR_COUNT = -6, /* the number of op records is 0, too large or not the one in the header */
    A8_ERR_RECORD = -7, /* a record does not fit into the file */
    A8_ERR_ORDER = -8, /* a record is missing, repeated or out of order */
    A8_ERR_UNKNOWN_RECORD = -9, /* a record of unknown type is not marked optional */
    A8_ERR_UNKNOWN_OP = -10, /* an op is not known to this version */
    A8_ERR_RECORD_LENGTH = -11, /* a record is shorter or longer than its contents */
    A8_ERR_RESERVED = -12, /* a reserved field or padding is not zero */
    A8_ERR_STRING = -13, /* a name, label or unit is empty, too long or not printable UTF-8 */
    A8_ERR_NUMBER = -14, /* a floating-point field is not a positive finite number */
    A8_ERR_TASK = -15, /* the task or a threshold is out of range */
    A8_ERR_SHAPE = -16, /* a shape is out of range or does not fit the op that reads it */
    A8_ERR_SOURCE = -17, /* an op reads a tensor that does not exist yet, or a tensor is never read */
    A8_ERR_TOO_LARGE = -18, /* a tensor or the work of the whole model is over the limit */
    A8_ERR_MODE = -19, /* an input type, clamp or norm kind is unknown */
    A8_ERR_MULTIPLIER = -20, /* a multiplier is out of range */
    A8_ERR_SHIFT = -21, /* a shift is out of range */
    A8_ERR_BIAS = -22, /* a bias, relative bias or epsilon is out of range */
    A8_ERR_WEIGHT = -23, /* a weight is -128 */
    A8_ERR_ATTENTION = -24, /* heads, window or key range of an attention op do not fit */
    A8_ERR_GOLDEN = -25, /* the golden vectors are out of range */
    A8_ERR_ALIGNMENT = -30, /* the memory of an arena or a stream begins at no multiple of 4 */
    A8_ERR_MOVED = -31, /* the model's buffer moved or changed its length after load */
    A8_ERR_BUSY = -32, /* run was called inside a run of the same model */
    A8_ERR_MEMORY = -33, /* the memory given for model or arena is too small */
    A8_ERR_INPUT = -34, /* these are no values of a window or sample */
    A8_ERR_OUTPUT = -35, /* the output buffer has the wrong length */
    A8_ERR_SELFTEST = -36, /* the outputs differ from the golden vectors in the file */
    A8_ERR_STREAM = -37, /* the model cannot run as a stream */
    A8_ERR_SLOT = -38, /* no slot holds a model that can be taken */
    A8_ERR_SIGNATURE = -39, /* the model is not signed with the key on the board */
} a8_err_t;

/* Type of a fixed field, see a8_field_t. */
#define A8_TYPE_U8 0
#define A8_TYPE_U16 1
#define A8_TYPE_I16 2
#define A8_TYPE_I32 3
#define A8_TYPE_F32 4

typedef struct {
    uint8_t offset; /* in the payload or row */
    uint8_t type;
    uint8_t error; /* code, positive */
    int32_t low;
    int32_t high;
} a8_field_t;

static const a8_field_t A8_FIELDS_META[3] = {{0, 0, 13, 1, 32}, {1, 0, 13, 0, 32}, {2, 1, 12, 0, 0}};
static const a8_field_t A8_FIELDS_INPUT[5] = {{0, 1, 16, 1, 32767}, {2, 1, 16, 1, 1024}, {4, 0, 19, 0, 1}, {5, 0, 12, 0, 0}, {6, 1, 12, 0, 0}};
static const a8_field_t A8_FIELDS_TASK[9] = {{0, 0, 15, 1, 1}, {1, 0, 12, 0, 0}, {2, 1, 16, 1, 1024}, {4, 3, 15, 1, 1048576}, {8, 4, 14, 0, 0}, {12, 3, 20, 1, 67108863}, {16, 1, 20, 16384, 32767}, {18, 0, 21, 0, 11}, {19, 0, 21, 1, 30}};
static const a8_field_t A8_FIELDS_GOLDEN[3] = {{0, 0, 25, 4, 255}, {1, 0, 12, 0, 0}, {2, 1, 12, 0, 0}};
static const a8_field_t A8_FIELDS_LINEAR_S8[3] = {{0, 0, 17, 0, 63}, {1, 0, 19, 0, 2}, {2, 1, 16, 1, 1024}};
static const a8_field_t A8_FIELDS_CONV1D_S8[7] = {{0, 0, 17, 0, 63}, {1, 0, 19, 0, 2}, {2, 1, 16, 1, 1024}, {4, 0, 16, 1, 255}, {5, 0, 16, 1, 255}, {6, 0, 16, 0, 254}, {7, 0, 16, 0, 254}};
static const a8_field_t A8_FIELDS_WINDOWED_ATTENTION_S8[13] = {{0, 0, 17, 0, 63}, {1, 0, 17, 0, 63}, {2, 0, 17, 0, 63}, {3, 0, 24, 1, 255}, {4, 1, 24, 0, 32766}, {6, 1, 24, 0, 32766}, {8, 3, 20, 1, 67108863}, {12, 1, 20, 16384, 32767}, {14, 0, 21, 0, 11}, {15, 0, 21, 1, 30}, {16, 1, 20, 16384, 32767}, {18, 0, 21, 1, 22}, {19, 0, 12, 0, 0}};
static const a8_field_t A8_FIELDS_LAYER_NORM_S8[7] = {{0, 0, 17, 0, 63}, {1, 0, 19, 0, 1}, {2, 1, 20, 16384, 32767}, {4, 3, 22, 0, 536870911}, {8, 0, 21, 0, 15}, {9, 0, 12, 0, 0}, {10, 1, 12, 0, 0}};
static const a8_field_t A8_FIELDS_ADD_S8[5] = {{0, 0, 17, 0, 63}, {1, 0, 17, 0, 63}, {2, 1, 12, 0, 0}, {4, 3, 20, 0, 4194304}, {8, 3, 20, 0, 4194304}};
static const a8_field_t A8_FIELDS_MEAN_POOL_S8[7] = {{0, 0, 17, 0, 63}, {1, 0, 12, 0, 0}, {2, 1, 12, 0, 0}, {4, 3, 22, -536870911, 536870911}, {8, 1, 20, 0, 32767}, {10, 0, 21, 0, 15}, {11, 0, 21, 1, 29}};
static const a8_field_t A8_FIELDS_TABLE_S8[3] = {{0, 0, 17, 0, 63}, {1, 0, 12, 0, 0}, {2, 1, 12, 0, 0}};
static const a8_field_t A8_FIELDS_REQUANTIZE_ROW[4] = {{0, 3, 22, -536870911, 536870911}, {4, 1, 20, 0, 32767}, {6, 0, 21, 0, 15}, {7, 0, 21, 1, 29}};
static const a8_field_t A8_FIELDS_GOLDEN_CHANNEL_ROW[2] = {{0, 2, 25, -32768, 32767}, {2, 1, 25, 1, 16384}};
static const a8_field_t A8_FIELDS_GOLDEN_VECTOR_ROW[4] = {{0, 1, 25, 0, 65535}, {2, 1, 25, 0, 65535}, {4, 1, 25, 1, 32767}, {6, 1, 12, 0, 0}};

/* e^(-i/32) as floor(127*e^(-i/32) + 1/2). */
static const uint8_t A8_EXP[256] = {
    127, 123, 119, 116, 112, 109, 105, 102, 99, 96, 93, 90, 87, 85, 82, 79,
    77, 75, 72, 70, 68, 66, 64, 62, 60, 58, 56, 55, 53, 51, 50, 48,
    47, 45, 44, 43, 41, 40, 39, 38, 36, 35, 34, 33, 32, 31, 30, 29,
    28, 27, 27, 26, 25, 24, 23, 23, 22, 21, 21, 20, 19, 19, 18, 18,
    17, 17, 16, 16, 15, 15, 14, 14, 13, 13, 13, 12, 12, 11, 11, 11,
    10, 10, 10, 9, 9, 9, 9, 8, 8, 8, 8, 7, 7, 7, 7, 7,
    6, 6, 6, 6, 6, 5, 5, 5, 5, 5, 5, 4, 4, 4, 4, 4,
    4, 4, 4, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 2, 2,
    2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 1,
    1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1,
    1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1,
    1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
};

#endif
