/* linear and conv1d for targets that run blocks of TOKENS tokens at a time. The file that includes this defines
 * run_tokens, run_token, add_scores and a8_attention_values.
 */
#ifndef A8_BLOCKED_H
#define A8_BLOCKED_H

#include "a8_requantize.h"

#define TOKENS 4u /* a8_target.h has the scratch for them */

/* TOKENS output tokens, of which the first is made of x and those behind it. */
static void run_tokens(const a8_conv1d_t *op, const int8_t *x, int8_t *y);

/* One output token: products from..from + n - 1 of every row, times x. */
static void run_token(const a8_conv1d_t *op, const int8_t *x, uint32_t from, uint32_t n, int8_t *y);

/* The output token whose first tap is x token `at`; taps outside of x are left out. */
static NOINLINE void run_alone(const a8_conv1d_t *op, const int8_t *x, int32_t at, int8_t *y)
{
    uint32_t n_inputs = op->n_inputs, first = at < 0 ? (uint32_t)-at : 0, left = op->n_steps - (uint32_t)at;
    uint32_t last = op->kernel < left ? op->kernel : left;
    run_token(op, x + ((uint32_t)at + first) * n_inputs, first * n_inputs, (last - first) * n_inputs, y);
}

#ifndef A8_KERNELS_ATTENTION_EXTERNAL
/* scores[j] = from[j] + q . k_j for n channels, a constant: 8, 4 or 1. Returns the largest. */
static inline int32_t add_scores(int32_t *scores, const int32_t *end, const void *from, const int8_t *q,
                                 const int8_t *k, uint32_t stride, uint32_t n);

HOT int32_t a8_attention_scores(int32_t *scores, const int32_t *end, const int8_t *q, const int8_t *k,
                                uint32_t head_size, uint32_t stride, const uint8_t *bias)
{
    int32_t most = INT32_MIN;
    const void *from = bias;
    for (uint32_t n; head_size > 0; head_size -= n, q += n, k += n, from = scores) {
        n = head_size >= 8 ? 8 : head_size >= 4 ? 4 : 1;
        if (n == 8)
            most = add_scores(scores, end, from, q, k, stride, 8);
        else if (n == 4)
            most = add_scores(scores, end, from, q, k, stride, 4);
        else
            most = add_scores(scores, end, from, q, k, stride, 1);
    }
    return most;
}

/* One channel of a head with fewer than four. */
static NOINLINE int32_t sum_of_channel(const a8_values_t *op, uint32_t c)
{
    int32_t sum = 0;
    const int8_t *v = op->v + c;
    for (const int32_t *e = op->e; e != op->end; e++, v += op->stride) {
        if (e == op->middle)
            v = op->newer + c;
        sum += *e * *v;
    }
    return sum;
}
#endif

void a8_conv1d_s8(const a8_conv1d_t *op, const int8_t *x, int8_t *y)
{
    uint32_t n, reach = (TOKENS - 1) * op->stride + op->kernel, n_steps = op->n_output_steps;
    uint32_t in_blocks = a8_product_scratch_bytes(n_steps, op->n_inputs, op->kernel) > 0 ? n_steps : 0;
    for (uint32_t t = 0; t < n_steps; t += n, y += n * op->n_outputs) {
        int32_t at = (int32_t)(t * op->stride) - (int32_t)op->pad_left;
        n = t + TOKENS <= in_blocks && at >= 0 && (uint32_t)at + reach <= op->n_steps ? TOKENS : 1;
        if (n == TOKENS)
            run_tokens(op, x + (uint32_t)at * op->n_inputs, y);
        else
            run_alone(op, x, at, y);
    }
}

void a8_linear_s8(const a8_conv1d_t *op, const int8_t *x, int8_t *y) __attribute__((alias("a8_conv1d_s8")));

#endif
