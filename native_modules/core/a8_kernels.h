/* The kernels: int8 tensors (steps, channels), channels last, without padding; y never overlaps an input. All bytes
 * may lie at any address, scratch at a multiple of 4; a8_target.h says how much of it an op gets.
 *
 * Each is bit-exact with the section of the same name in models/FORMAT.md, and no bytes of weights, rows, biases or
 * tables, legal or not, make one of them leave its buffers or overflow.
 *
 * A target with faster kernels brings files a8_<target>_*.c and .S that define some of these functions; a8_target.h
 * defines A8_KERNELS_<NAME>_EXTERNAL for each of them (NAME: LINEAR, CONV1D, ATTENTION, PRODUCTS, NORM, ADD, POOL, TABLE,
 * INPUT). a8_kernels.c then leaves those out and defines the others. -DA8_WITHOUT_<NAME> takes an op out of a build:
 * nothing calls its kernels, and a target leaves them out.
 */
#ifndef A8_KERNELS_H
#define A8_KERNELS_H

#include <stdint.h>

#include "a8_model.h"
#include "a8_target.h"

/* y (n_output_steps, n_outputs): token t is made of x tokens t*stride - pad_left + (0..kernel-1), zero outside of x. */
typedef struct {
    const uint8_t *rows;   /* requantize rows (n_outputs,), 8 bytes each */
    const int8_t *weights; /* (n_outputs, kernel*n_inputs), rows padded to 4 */
    uint32_t n_steps;      /* of x */
    uint32_t n_inputs;     /* channels of x; kernel*n_inputs <= A8_MAX_PRODUCTS */
    uint32_t n_output_steps;
    uint32_t n_outputs;
    uint32_t kernel;
    uint32_t stride;
    uint32_t pad_left; /* < kernel; the window of every output token meets x */
    uint32_t clamp;
    void *scratch; /* a8_product_scratch_bytes(n_output_steps or more, n_inputs, kernel) */
} a8_conv1d_t;

A8_KERNEL void a8_conv1d_s8(const a8_conv1d_t *op, const int8_t *x, int8_t *y);

/* y (n_steps, n_outputs) = requantize(W x): n_output_steps = n_steps, kernel = stride = 1, pad_left = 0. */
A8_KERNEL void a8_linear_s8(const a8_conv1d_t *op, const int8_t *x, int8_t *y);

/* Of a target with A8_TARGET_PACKS: the weights for one token, n_steps = kernel = 1, in the a8_packed_product_bytes behind
 * a flag; then y = requantize(W x) from them. x lies at a multiple of 4, y has room for n_outputs rounded up to 4. */
A8_KERNEL void a8_pack_product(const a8_conv1d_t *op, uint32_t *packed);
A8_KERNEL void a8_packed_token_s8(const a8_conv1d_t *op, int8_t *y, const int8_t *x, uint32_t *packed);

/* q, k, v, y (n_steps, n_channels); keys i-left..i+right of query i, cut to x. k holds no -128. */
typedef struct {
    const uint8_t *relative_bias; /* int32 (heads, left + right + 1) */
    void *scratch;                /* a8_attention_scratch_bytes(min(n_steps, left + right + 1), ...) */
    const a8_attention_fields_t *fields;
    uint32_t n_steps;
    uint32_t n_channels;
} a8_attention_t;

A8_KERNEL void a8_windowed_attention_s8(const a8_attention_t *op, const int8_t *q, const int8_t *k, const int8_t *v, int8_t *y);

/* One query of a stream, causal: q, y (n_channels,); keys and values in rings of `span` tokens, of which the n_keys up to
 * `newest` count, 1 <= n_keys <= span. */
typedef struct {
    const uint8_t *relative_bias; /* int32 (heads, span) */
    void *scratch;                /* a8_attention_scratch_bytes(span, ...) */
    const a8_attention_fields_t *fields;
    uint32_t n_channels;
    uint32_t span;
    uint32_t newest;
    uint32_t n_keys;
    uint32_t *packed; /* a8_packed_ring_bytes, and the keys are packed; or NULL */
} a8_attention_step_t;

A8_KERNEL void a8_attention_step_s8(const a8_attention_step_t *op, const int8_t *q, const int8_t *k, const int8_t *v, int8_t *y);

/* Of a target with A8_TARGET_PACKS: takes the newest key and value k, v (n_channels,) into a ring of packed keys and into
 * op->packed. Places fill from the second on. */
A8_KERNEL void a8_pack_key_s8(const a8_attention_step_t *op, const int8_t *k, const int8_t *v, int8_t *keys);

/* x, y (n_steps, n_channels), 8 <= n_channels <= 256. */
A8_KERNEL void a8_layer_norm_s8(const a8_norm_fields_t *op, uint32_t n_steps, uint32_t n_channels, const int8_t *x, int8_t *y);

/* a, b, y (n,) */
A8_KERNEL void a8_add_s8(const a8_add_fields_t *op, uint32_t n, const int8_t *a, const int8_t *b, int8_t *y);

/* x (n_steps, n_channels), y (n_channels,) */
A8_KERNEL void a8_mean_pool_s8(const a8_requantize_t *op, uint32_t n_steps, uint32_t n_channels, const int8_t *x, int8_t *y);

/* The mean pool of a stream: x takes the place of the token that leaves, then y (n_channels,) comes from the sums. */
A8_KERNEL void a8_pool_push_s8(uint32_t n_channels, const int8_t *x, int8_t *leaves, int32_t *sums);
A8_KERNEL void a8_pool_sums_s8(const a8_requantize_t *op, uint32_t n_channels, const int32_t *sums, int8_t *y);

/* x, y (n,), table (256,): y = table[x + 128] */
A8_KERNEL void a8_table_s8(const int8_t *table, uint32_t n, const int8_t *x, int8_t *y);

/* x (n_steps, n_channels) int16, little-endian, rows (n_channels,). */
A8_KERNEL void a8_requantize_s16(const uint8_t *rows, uint32_t n_steps, uint32_t n_channels, const uint8_t *x, int8_t *y);

/* Requantize numbers of a row, and the lowest value of its clamp; the highest is 127. */
typedef struct {
    uint32_t bias; /* two's complement: sums wrap */
    int32_t multiplier;
    uint32_t pre;
    uint32_t post;
    uint32_t half; /* of 1 << post */
    int32_t low;
} a8_row_t;

/* The products inside attention, which a target may bring alone (NAME: PRODUCTS). Tokens are `stride` bytes apart.
 *
 * scores[j] = q . k_j + bias[j], up to `end`, of at least one key; returns the largest. */
int32_t a8_attention_scores(int32_t *scores, const int32_t *end, const int8_t *q, const int8_t *k, uint32_t head_size,
                            uint32_t stride, const uint8_t *bias);

/* y (head_size,) = requantize(sum of e[j] v_j), e in 0..127: those up to `middle` with v, those up to `end` with newer. */
typedef struct {
    const int32_t *e;
    const int32_t *middle; /* behind e */
    const int32_t *end;
    const int8_t *v;
    const int8_t *newer; /* not used if middle = end */
    uint32_t sum; /* of e[] */
    uint32_t stride;
    uint32_t head_size;
} a8_values_t;

void a8_attention_values(const a8_values_t *op, const a8_row_t *row, int8_t *y);

/* Index of a score difference >= 0, mapped through A8_EXP: 127 for 0, falling. */
A8_KERNEL int32_t a8_softmax_exp(const a8_softmax_t *s, uint32_t difference);

/* A8_EXP: a target's kernels need no copy of their own. */
A8_KERNEL const uint8_t *a8_exp_table(void);

#endif
