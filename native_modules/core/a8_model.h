/* A packed model: check it once, then run it from where it lies.
 *
 *     int32_t bytes = a8_model_bytes(file, n);           negative: an error code
 *     a8_model_t *m = memory of that many bytes, aligned to 4 (to a pointer on 64-bit hosts)
 *     int32_t err = a8_load(m, bytes, file, n);          0, or a negative a8_err_t
 *     void *arena = memory of m->arena_bytes, aligned to 4
 *     err = a8_run(m, file, n, arena, m->arena_bytes, window, window_bytes, outputs, m->n_outputs);
 *
 * The caller owns all memory. The file stays where it was at load and is read in place: weights, requantize rows,
 * relative biases, tables and golden vectors. Everything that is used as an index, a length or a shift was copied into
 * the model or is masked, so a file that changes after load gives wrong numbers, never an access outside a buffer.
 * The rules of bytes and arithmetic are in models/FORMAT.md.
 */
#ifndef A8_MODEL_H
#define A8_MODEL_H

#include <stdint.h>

#include "a8_format.h"

/* Shape and place of a tensor, int8, channels last. Tensor 0 is the input, op i makes tensor i + 1. */
typedef struct {
    uint32_t offset; /* in the arena, bytes */
    uint16_t n_steps;
    uint16_t n_channels;
    uint8_t last_step; /* last step of a run (step i + 1 runs op i) that reads it, or what takes its place; 0: never read */
    uint8_t stream;    /* a8_stream.c */
    uint8_t in_place;  /* 1 + the tensor whose place it takes; 0: it has its own */
    uint32_t scratch_bytes; /* a8_op_scratch_bytes of the op that makes it */
} a8_tensor_t;

/* A score difference becomes an index of A8_EXP: see "windowed attention". */
typedef struct {
    int32_t dmax;
    uint16_t dm;
    uint8_t dpre;
    uint8_t dsh;
} a8_softmax_t;

typedef struct {
    int32_t bias;
    uint16_t multiplier;
    uint8_t pre;
    uint8_t post;
} a8_requantize_t;

typedef struct {
    uint8_t clamp;
    uint8_t kernel; /* 1 in a linear op, as is the stride */
    uint8_t stride;
    uint8_t pad_left;
    uint8_t pad_right;
} a8_product_fields_t;

typedef struct {
    a8_softmax_t softmax;
    uint16_t left;
    uint16_t right;
    uint16_t multiplier;
    uint8_t shift;
    uint8_t heads;
} a8_attention_fields_t;

typedef struct {
    int32_t epsilon;
    uint16_t multiplier;
    uint8_t shift;
    uint8_t kind;
} a8_norm_fields_t;

typedef struct {
    int32_t multiplier_a;
    int32_t multiplier_b;
} a8_add_fields_t;

typedef struct {
    a8_tensor_t output;
    uint32_t rows;    /* offset in the file of the requantize rows, the relative bias or the table */
    uint32_t weights; /* offset in the file */
    uint32_t scratch; /* offset in the arena of a8_op_scratch_bytes */
    uint8_t code;     /* A8_OP_... */
    uint8_t source[3];
    union {
        a8_product_fields_t product; /* linear, conv1d */
        a8_attention_fields_t attention;
        a8_norm_fields_t norm;
        a8_add_fields_t add;
        a8_requantize_t pool;
    } as;
    uint32_t state;  /* offset in the state of a stream, */
    uint32_t packed; /* and of what it has in a packed one; 0: nothing */
} a8_op_t;

typedef struct {
    const uint8_t *file; /* compared at every run, never followed */
    uint32_t file_bytes; /* 0: not loaded */
    uint32_t arena_bytes;
    uint32_t live_bytes; /* the largest sum of blocks that live in one step: no plan can be smaller */
    uint32_t macs;
    int32_t stream_bytes;  /* of a stream's state, or A8_ERR_STREAM */
    uint32_t packed_bytes; /* that a packed one has in addition */
    uint32_t input_rows; /* offsets in the file */
    uint32_t thresholds;
    uint32_t golden;
    a8_softmax_t score;
    a8_tensor_t input;
    uint16_t n_steps;
    uint16_t n_channels;
    uint16_t n_outputs;
    uint8_t input_type; /* A8_INPUT_... */
    uint8_t n_ops;
    uint8_t n_golden;
    uint8_t busy;
    a8_op_t ops[]; /* n_ops of them */
} a8_model_t;

/* Bytes of a model object for this file. Believes nothing but the number of ops, capped at A8_MAX_OPS. */
int32_t a8_model_bytes(const uint8_t *file, uint32_t n);

/* Checks the file in the order of models/FORMAT.md and fills the model; works at any base alignment. At A8_ERR_LEFT_OUT
 * ops[0].code is the op that this build leaves out. */
int32_t a8_check_model(a8_model_t *m, uint32_t model_bytes, const uint8_t *file, uint32_t n);

/* a8_check_model, then the plan of the arena, then it can run. */
int32_t a8_load(a8_model_t *m, uint32_t model_bytes, const uint8_t *file, uint32_t n);

/* Memory that an op needs while it runs, besides its tensors, on the target of this build: see a8_target.h. */
uint32_t a8_op_scratch_bytes(const a8_model_t *m, const a8_op_t *op);

/* Places every tensor and the scratch of every op; sets arena_bytes and live_bytes. */
void a8_plan(a8_model_t *m);

/* Decides whether the model can run as a stream and lays out its state; sets stream_bytes and packed_bytes. */
#ifndef A8_WITHOUT_STREAM
void a8_plan_stream(a8_model_t *m);
#else
static inline void a8_plan_stream(a8_model_t *m) { (void)m; }
#endif

/* Bytes of one window: T*C of the input type. */
uint32_t a8_input_bytes(const a8_model_t *m);

/* Runs one window, (T, C) int16 or int8, at any alignment; outputs (n_outputs,) int8. */
int32_t a8_run(a8_model_t *m, const uint8_t *file, uint32_t n, void *arena, uint32_t arena_bytes, const void *input,
               uint32_t input_bytes, int8_t *output, uint32_t output_bytes);

/* The steps of a8_run, without its checks. Op i needs the ops before it. */
void a8_run_input(const a8_model_t *m, const uint8_t *file, void *arena, const void *input, uint32_t n_steps);
void a8_run_op(const a8_model_t *m, const uint8_t *file, void *arena, const void *input, uint32_t i);

/* Op i on the first token; it is one that looks at each value of a token alone: norm, add or table. */
#define A8_ONE_TOKEN 0x80000000u
static inline void a8_run_token_op(const a8_model_t *m, const uint8_t *file, void *arena, const void *input, uint32_t i)
{
    a8_run_op(m, file, arena, input, i | A8_ONE_TOKEN);
}

/* What a8_run checks, but for the input: MOVED, BUSY, MEMORY, ALIGNMENT, OUTPUT. */
int32_t a8_check_run(const a8_model_t *m, const uint8_t *file, uint32_t n, const void *arena, uint32_t arena_bytes,
                     uint32_t output_bytes);

/* Tensors that an op of this code reads. */
uint32_t a8_n_sources(uint32_t code);

/* Shape of tensor id, and where it lies: an int8 input is the caller's window. */
const a8_tensor_t *a8_tensor(const a8_model_t *m, uint32_t id);
const int8_t *a8_tensor_data(const a8_model_t *m, const void *arena, const void *input, uint32_t id);

/* Writes the input of golden vector i; A8_ERR_INPUT if there is no such vector or input_bytes is not that of a window. */
int32_t a8_golden_input(const a8_model_t *m, const uint8_t *file, uint32_t i, void *input, uint32_t input_bytes);

/* Runs every golden vector through the caller's window and output buffers; A8_ERR_SELFTEST at the first difference. */
int32_t a8_selftest(a8_model_t *m, const uint8_t *file, uint32_t n, void *arena, uint32_t arena_bytes, void *input,
                    uint32_t input_bytes, int8_t *output, uint32_t output_bytes);

/* Returns the score 0..100 of the first largest output, whose index goes to *best. */
int32_t a8_score(const a8_model_t *m, const int8_t *outputs, uint32_t *best);

#endif
