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
    A8_ERR_LEFT_OUT = -38, /* the native code was built without a part that is needed */
    A8_ERR_SLOT = -39, /* no slot holds a model that can be taken */
    A8_ERR_SIGNATURE = -40, /* the model is not signed with the key on the board */
} a8_err_t;

/* Types of fields. */
#define A8_TYPE_U8 0
#define A8_TYPE_U16 1
#define A8_TYPE_I16 2
#define A8_TYPE_I32 3
#define A8_TYPE_F32 4

/* Place of a field among the values of its record. */
#define A8_VALUE_META_NAME_BYTES 0
#define A8_VALUE_META_VERSION_BYTES 1
#define A8_VALUE_INPUT_N_STEPS 0
#define A8_VALUE_INPUT_N_CHANNELS 1
#define A8_VALUE_INPUT_INPUT_TYPE 2
#define A8_VALUE_TASK_TASK 0
#define A8_VALUE_TASK_N_OUTPUTS 2
#define A8_VALUE_TASK_HOP 3
#define A8_VALUE_TASK_SAMPLE_RATE_HZ 4
#define A8_VALUE_TASK_SCORE_DMAX 5
#define A8_VALUE_TASK_SCORE_DM 6
#define A8_VALUE_TASK_SCORE_DPRE 7
#define A8_VALUE_TASK_SCORE_DSH 8
#define A8_VALUE_GOLDEN_N_VECTORS 0
#define A8_VALUE_LINEAR_S8_SOURCE 0
#define A8_VALUE_LINEAR_S8_CLAMP 1
#define A8_VALUE_LINEAR_S8_N_OUTPUTS 2
#define A8_VALUE_CONV1D_S8_SOURCE 0
#define A8_VALUE_CONV1D_S8_CLAMP 1
#define A8_VALUE_CONV1D_S8_N_OUTPUTS 2
#define A8_VALUE_CONV1D_S8_KERNEL 3
#define A8_VALUE_CONV1D_S8_STRIDE 4
#define A8_VALUE_CONV1D_S8_PAD_LEFT 5
#define A8_VALUE_CONV1D_S8_PAD_RIGHT 6
#define A8_VALUE_WINDOWED_ATTENTION_S8_QUERY 0
#define A8_VALUE_WINDOWED_ATTENTION_S8_KEY 1
#define A8_VALUE_WINDOWED_ATTENTION_S8_VALUE 2
#define A8_VALUE_WINDOWED_ATTENTION_S8_HEADS 3
#define A8_VALUE_WINDOWED_ATTENTION_S8_LEFT 4
#define A8_VALUE_WINDOWED_ATTENTION_S8_RIGHT 5
#define A8_VALUE_WINDOWED_ATTENTION_S8_DMAX 6
#define A8_VALUE_WINDOWED_ATTENTION_S8_DM 7
#define A8_VALUE_WINDOWED_ATTENTION_S8_DPRE 8
#define A8_VALUE_WINDOWED_ATTENTION_S8_DSH 9
#define A8_VALUE_WINDOWED_ATTENTION_S8_MULTIPLIER 10
#define A8_VALUE_WINDOWED_ATTENTION_S8_SHIFT 11
#define A8_VALUE_LAYER_NORM_S8_SOURCE 0
#define A8_VALUE_LAYER_NORM_S8_KIND 1
#define A8_VALUE_LAYER_NORM_S8_MULTIPLIER 2
#define A8_VALUE_LAYER_NORM_S8_EPSILON 3
#define A8_VALUE_LAYER_NORM_S8_SHIFT 4
#define A8_VALUE_ADD_S8_A 0
#define A8_VALUE_ADD_S8_B 1
#define A8_VALUE_ADD_S8_MULTIPLIER_A 3
#define A8_VALUE_ADD_S8_MULTIPLIER_B 4
#define A8_VALUE_MEAN_POOL_S8_SOURCE 0
#define A8_VALUE_MEAN_POOL_S8_BIAS 3
#define A8_VALUE_MEAN_POOL_S8_MULTIPLIER 4
#define A8_VALUE_MEAN_POOL_S8_PRE 5
#define A8_VALUE_MEAN_POOL_S8_POST 6
#define A8_VALUE_TABLE_S8_SOURCE 0
#define A8_MAX_VALUES 13

/* What is read at once: {first of A8_FIELDS, bytes}. */
#define A8_SET_META 0
#define A8_SET_INPUT 1
#define A8_SET_TASK 2
#define A8_SET_GOLDEN 3
#define A8_SET_LINEAR_S8 4
#define A8_SET_CONV1D_S8 5
#define A8_SET_WINDOWED_ATTENTION_S8 6
#define A8_SET_LAYER_NORM_S8 7
#define A8_SET_ADD_S8 8
#define A8_SET_MEAN_POOL_S8 9
#define A8_SET_TABLE_S8 10
#define A8_SET_REQUANTIZE_ROW 11
#define A8_SET_GOLDEN_CHANNEL_ROW 12
#define A8_SET_GOLDEN_VECTOR_ROW 13
#define A8_SET_ZERO_ROW 14
#define A8_SET_THRESHOLD_ROW 15
#define A8_SET_NUMBER_ROW 16
#define A8_SET_RELATIVE_BIAS_ROW 17
static const uint8_t A8_SETS[][2] = {{57, 4}, {43, 8}, {13, 20}, {60, 4}, {22, 4}, {22, 8}, {0, 20}, {29, 12}, {48, 12}, {36, 12}, {36, 4}, {39, 8}, {63, 4}, {53, 8}, {12, 1}, {65, 1}, {17, 4}, {66, 4}};

/* 8 lower bounds, then the upper ones. */
static const int32_t A8_BOUNDS[] = {-536870911, -16777216, -32768, 0, 1, 4, 16384, 8388608, 0, 1, 2, 11, 15, 22, 29, 30, 32, 63, 100, 254, 255, 1024, 16384, 32766, 32767, 65535, 1048576, 4194304, 16777216, 67108863, 536870911, 2139095039};

/* {type | error << 3, lower bound | upper bound << 3} */
static const uint8_t A8_FIELDS[][2] = {{136, 75}, {136, 75}, {136, 75}, {192, 100}, {193, 123}, {193, 123}, {163, 172}, {161, 134}, {168, 27}, {168, 60}, {161, 134}, {168, 44}, {96, 3}, {120, 12}, {96, 3}, {129, 108}, {123, 148}, {116, 191}, {163, 172}, {161, 134}, {168, 27}, {168, 60}, {136, 75}, {152, 19}, {129, 108}, {128, 100}, {128, 100}, {128, 91}, {128, 91}, {136, 75}, {152, 11}, {161, 134}, {179, 179}, {168, 35}, {96, 3}, {97, 3}, {136, 75}, {96, 3}, {97, 3}, {179, 176}, {161, 131}, {168, 35}, {168, 52}, {129, 132}, {129, 108}, {152, 11}, {96, 3}, {97, 3}, {136, 75}, {136, 75}, {97, 3}, {163, 155}, {163, 155}, {201, 139}, {201, 139}, {201, 132}, {97, 3}, {104, 68}, {104, 67}, {97, 3}, {200, 101}, {96, 3}, {97, 3}, {202, 130}, {201, 116}, {120, 83}, {179, 161}};

#define A8_EXP_LAST 178u /* A8_EXP is 0 from here on */

/* e^(-i/32) as floor(127*e^(-i/32) + 1/2). */
static const uint8_t A8_EXP[A8_EXP_LAST + 1] = {
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
    1, 1, 0,
};

#endif
