/* Portable kernels. Sums with numbers that are read from the file wrap as uint32_t and their shifts are masked, so a
 * file that changes after it was checked cannot make them undefined.
 */
#include "a8_requantize.h"

/* The inner loop of everything with weights, n >= 1. */
static inline int32_t dot(const int8_t *a, const int8_t *b, uint32_t n)
{
    int32_t acc = 0;
    uint32_t i = 0;
    do {
        acc += (int32_t)a[i] * b[i];
    } while (++i != n);
    return acc;
}

static inline uint32_t bits(uint32_t v)
{
    uint32_t n = 0;
    for (; v != 0; v >>= 1)
        n++;
    return n;
}

#ifndef A8_KERNELS_LINEAR_EXTERNAL
static HOT void linear_channel(const a8_row_t *r, const int8_t *w, uint32_t n_inputs, const int8_t *x,
                                    const int8_t *end, int8_t *y, uint32_t stride)
{
    for (; x != end; x += n_inputs, y += stride)
        *y = a8_requantize(r, dot(x, w, n_inputs));
}

void a8_linear_s8(const a8_conv1d_t *op, const int8_t *x, int8_t *y)
{
    int32_t low = a8_lowest(op->clamp);
    const int8_t *w = op->weights, *end = x + op->n_steps * op->n_inputs;
    for (uint32_t n = 0; n < op->n_outputs; n++, w += a8_padded(op->n_inputs)) {
        a8_row_t r = a8_row_at(op->rows + 8 * n, low);
        linear_channel(&r, w, op->n_inputs, x, end, y + n, op->n_outputs);
    }
}
#endif

#ifndef A8_KERNELS_CONV1D_EXTERNAL
/* One output channel. `at` is the first token of the kernel's window, negative inside the left padding. */
static HOT void conv1d_channel(const a8_conv1d_t *op, const a8_row_t *r, const int8_t *w, const int8_t *x, int8_t *y)
{
    int32_t at = -(int32_t)op->pad_left;
    for (uint32_t t = op->n_output_steps; t > 0; t--, at += (int32_t)op->stride, y += op->n_outputs) {
        uint32_t first = at < 0 ? (uint32_t)-at : 0;
        uint32_t left = op->n_steps - (uint32_t)at; /* tokens from `at` to the end of x */
        uint32_t last = op->kernel < left ? op->kernel : left;
        const int8_t *token = x + ((uint32_t)at + first) * op->n_inputs;
        *y = a8_requantize(r, dot(token, w + first * op->n_inputs, (last - first) * op->n_inputs));
    }
}

void a8_conv1d_s8(const a8_conv1d_t *op, const int8_t *x, int8_t *y)
{
    int32_t low = a8_lowest(op->clamp);
    uint32_t row_bytes = a8_padded(op->kernel * op->n_inputs);
    for (uint32_t n = 0; n < op->n_outputs; n++) {
        a8_row_t r = a8_row_at(op->rows + 8 * n, low);
        conv1d_channel(op, &r, op->weights + n * row_bytes, x, y + n);
    }
}
#endif

const uint8_t *a8_exp_table(void) { return A8_EXP; }

static inline int32_t softmax_exp(const a8_softmax_t *s, uint32_t difference)
{
    int32_t d = (int32_t)(difference < (uint32_t)s->dmax ? difference : (uint32_t)s->dmax) >> s->dpre;
    int32_t i = ((d * s->dm >> (s->dsh - 1)) + 1) >> 1;
    return a8_exp_table()[(uint32_t)i < A8_EXP_LAST ? (uint32_t)i : A8_EXP_LAST];
}

int32_t a8_softmax_exp(const a8_softmax_t *s, uint32_t difference) { return softmax_exp(s, difference); }

#if !defined(A8_KERNELS_ATTENTION_EXTERNAL) && !defined(A8_KERNELS_PRODUCTS_EXTERNAL)
HOT int32_t a8_attention_scores(int32_t *scores, const int32_t *end, const int8_t *q, const int8_t *k,
                                uint32_t head_size, uint32_t stride, const uint8_t *bias)
{
    int32_t most = INT32_MIN;
    for (; scores != end; k += stride, bias += 4) {
        int32_t s = (int32_t)((uint32_t)dot(q, k, head_size) + a8_u32_fast(bias));
        *scores++ = s;
        most = s > most ? s : most;
    }
    return most;
}

static inline int32_t weighted_sum(const int32_t *e, const int32_t *end, const int8_t *v, uint32_t stride)
{
    int32_t acc = 0;
    do {
        acc += *e++ * *v;
        v += stride;
    } while (e != end);
    return acc;
}

HOT void a8_attention_values(const a8_values_t *op, const a8_row_t *row, int8_t *y)
{
    for (uint32_t c = 0; c < op->head_size; c++) {
        int32_t acc = weighted_sum(op->e, op->middle, op->v + c, op->stride);
        if (op->middle != op->end)
            acc += weighted_sum(op->middle, op->end, op->newer + c, op->stride);
        y[c] = a8_requantize(row, acc);
    }
}
#endif

#ifndef A8_KERNELS_ATTENTION_EXTERNAL
/* Sets the row that divides by z < 2^22, never 0 unless somebody else writes to the arena: one division for all channels. */
static A8_KERNEL inline void row_divide(a8_row_t *r, const a8_attention_fields_t *f, uint32_t z)
{
    z += z == 0;
    uint32_t k = bits(z), kn = k < 16 ? k : 16, pre = k + f->shift > 22 ? k + f->shift - 22 : 0;
    uint32_t multiplier = ((uint32_t)f->multiplier << (kn - 1)) / (z >> (k - kn));
    *r = a8_row((uint32_t)1 << pre >> 1, multiplier, pre, f->shift + k - 1 - pre, -128);
}

/* Turns the scores into weights 0..127 and returns their sum: at least 127, that of the largest score. */
static HOT uint32_t attention_weights(const a8_softmax_t *f, int32_t *scores, const int32_t *end, int32_t most)
{
    a8_softmax_t s = *f;
    uint32_t z = 0;
    for (; scores != end; scores++) {
        *scores = softmax_exp(&s, (uint32_t)most - (uint32_t)*scores);
        z += (uint32_t)*scores;
    }
    return z;
}

/* Behind the scores of a head, of which the largest is `most`. */
static A8_KERNEL inline void attend(a8_values_t *values, const a8_attention_fields_t *f, int32_t *scores, int32_t most, int8_t *y)
{
    a8_row_t r;
    values->sum = attention_weights(&f->softmax, scores, values->end, most);
    row_divide(&r, f, values->sum);
    a8_attention_values(values, &r, y);
}

static void attention_head(const a8_attention_t *op, const int8_t *q, const int8_t *k, const int8_t *v, int8_t *y,
                           uint32_t head_size, const uint8_t *bias)
{
    const a8_attention_fields_t *f = op->fields;
    uint32_t d = op->n_channels;
    for (uint32_t i = 0; i < op->n_steps; i++, q += d, y += d) {
        uint32_t first = i > f->left ? i - f->left : 0;
        uint32_t behind = op->n_steps - i > f->right ? i + f->right + 1 : op->n_steps;
        int32_t *scores = op->scratch, *end = scores + (behind - first);
        const uint8_t *b = bias + 4 * (first + f->left - i);
        a8_values_t values = {scores, end, end, v + first * d, v, 0, d, head_size};
        attend(&values, f, scores, a8_attention_scores(scores, end, q, k + first * d, head_size, d, b), y);
    }
}

/* The ring is two pieces of consecutive tokens: from the oldest to the end of the ring, and what follows from its start. */
void a8_attention_step_s8(const a8_attention_step_t *op, const int8_t *q, const int8_t *k, const int8_t *v, int8_t *y)
{
    uint32_t d = op->n_channels, oldest = (op->newest < op->n_keys - 1 ? op->span : 0) + op->newest + 1 - op->n_keys;
    uint32_t n_old = op->newest < oldest ? op->span - oldest : op->n_keys, head_size = d / op->fields->heads;
    int32_t *scores = op->scratch, *middle = scores + n_old, *end = scores + op->n_keys;
    const uint8_t *bias = op->relative_bias + 4 * (op->span - op->n_keys);
    a8_values_t values = {scores, middle, end, v + oldest * d, v, 0, d, head_size};
    for (uint32_t h = op->fields->heads; h > 0; h--, bias += 4 * op->span) {
        int32_t most = a8_attention_scores(scores, middle, q, k + oldest * d, head_size, d, bias), newer = most;
        if (middle != end)
            newer = a8_attention_scores(middle, end, q, k, head_size, d, bias + 4 * n_old);
        attend(&values, op->fields, scores, newer > most ? newer : most, y);
        q += head_size;
        k += head_size;
        y += head_size;
        values.v += head_size;
        values.newer += head_size;
    }
}

void a8_windowed_attention_s8(const a8_attention_t *op, const int8_t *q, const int8_t *k, const int8_t *v, int8_t *y)
{
    uint32_t head_size = op->n_channels / op->fields->heads;
    uint32_t bias_bytes = 4 * ((uint32_t)op->fields->left + op->fields->right + 1);
    for (uint32_t h = 0; h < op->fields->heads; h++) {
        uint32_t c = h * head_size;
        attention_head(op, q + c, k + c, v + c, y + c, head_size, op->relative_bias + h * bias_bytes);
    }
}
#endif

#ifndef A8_KERNELS_NORM_EXTERNAL
/* floor(sqrt(v)), v < 2^30 */
static int32_t isqrt(uint32_t v)
{
    uint32_t root = 0;
    for (uint32_t bit = (uint32_t)1 << 28; bit != 0; bit >>= 2) {
        uint32_t next = root + bit;
        root >>= 1;
        if (v >= next) {
            v -= next;
            root += bit;
        }
    }
    return (int32_t)root;
}

/* The centred token is c = scale*x - offset; c' = c >> shift, rounded, in [-limit, limit]. */
typedef struct {
    int32_t scale;
    int32_t offset;
    uint32_t shift;
    int32_t limit;
} centre_t;

static inline int32_t centred(const centre_t *t, int32_t x)
{
    int32_t half = (int32_t)((uint32_t)1 << t->shift >> 1);
    return a8_clamp((t->scale * x - t->offset + half) >> t->shift, -t->limit, t->limit);
}

static centre_t centre_of(const a8_norm_fields_t *op, uint32_t n, const int8_t *x)
{
    int32_t low = 127, high = -128, sum = 0;
    uint32_t limit_bits = (29 - bits(n - 1)) / 2;
    centre_t t = {1, 0, 0, (int32_t)1 << limit_bits};
    for (uint32_t i = 0; i < n; i++) {
        sum += x[i];
        low = x[i] < low ? x[i] : low;
        high = x[i] > high ? x[i] : high;
    }
    if (op->kind == A8_NORM_LAYER) {
        t.scale = (int32_t)n;
        t.offset = sum;
    }
    low = t.offset - t.scale * low;
    high = t.scale * high - t.offset;
    uint32_t n_bits = bits((uint32_t)(low > high ? low : high));
    t.shift = n_bits > limit_bits ? n_bits - limit_bits : 0;
    return t;
}

static void norm_token(const a8_norm_fields_t *op, uint32_t n, const int8_t *x, int8_t *y)
{
    centre_t t = centre_of(op, n, x);
    uint32_t v = (uint32_t)op->epsilon >> 2 * t.shift;
    for (uint32_t i = 0; i < n; i++) {
        int32_t c = centred(&t, x[i]);
        v += (uint32_t)(c * c);
    }
    v = v > 1 ? v : 1;
    uint32_t up = (30 - bits(v)) & ~(uint32_t)1;
    int32_t r = (int32_t)((uint32_t)op->multiplier << 15) / isqrt(v << up);
    uint32_t shift = 14 + op->shift - up / 2;
    for (uint32_t i = 0; i < n; i++)
        y[i] = (int8_t)a8_clamp(((centred(&t, x[i]) * r >> shift) + 1) >> 1, -128, 127);
}

void a8_layer_norm_s8(const a8_norm_fields_t *op, uint32_t n_steps, uint32_t n_channels, const int8_t *x, int8_t *y)
{
    for (; n_steps > 0; n_steps--, x += n_channels, y += n_channels)
        norm_token(op, n_channels, x, y);
}
#endif

#ifndef A8_KERNELS_ADD_EXTERNAL
void a8_add_s8(const a8_add_fields_t *op, uint32_t n, const int8_t *a, const int8_t *b, int8_t *y)
{
    int32_t ma = op->multiplier_a, mb = op->multiplier_b;
    for (uint32_t i = 0; i < n; i++)
        y[i] = (int8_t)a8_clamp((a[i] * ma + b[i] * mb + (1 << 14)) >> 15, -128, 127);
}
#endif

#ifndef A8_KERNELS_POOL_EXTERNAL
void a8_pool_push_s8(uint32_t n_channels, const int8_t *x, int8_t *leaves, int32_t *sums)
{
    for (uint32_t c = 0; c < n_channels; c++) {
        sums[c] = (int32_t)((uint32_t)sums[c] + (uint32_t)(x[c] - leaves[c]));
        leaves[c] = x[c];
    }
}

NOINLINE void a8_pool_sums_s8(const a8_requantize_t *op, uint32_t n_channels, const int32_t *sums, int8_t *y)
{
    a8_row_t r = a8_row((uint32_t)op->bias, op->multiplier, op->pre, op->post, -128);
    for (uint32_t c = 0; c < n_channels; c++)
        y[c] = a8_requantize(&r, sums[c]);
}

void a8_mean_pool_s8(const a8_requantize_t *op, uint32_t n_steps, uint32_t n_channels, const int8_t *x, int8_t *y)
{
    uint32_t n = n_steps * n_channels;
    for (uint32_t c = 0; c < n_channels; c++) {
        int32_t acc = 0, sum; /* only what has no address stays in a register */
        for (uint32_t i = c; i < n; i += n_channels)
            acc += x[i];
        sum = acc;
        a8_pool_sums_s8(op, 1, &sum, y + c);
    }
}
#endif

#ifndef A8_KERNELS_TABLE_EXTERNAL
void a8_table_s8(const int8_t *table, uint32_t n, const int8_t *x, int8_t *y)
{
    for (uint32_t i = 0; i < n; i++)
        y[i] = table[x[i] + 128];
}
#endif

#ifndef A8_KERNELS_INPUT_EXTERNAL
void a8_requantize_s16(const uint8_t *rows, uint32_t n_steps, uint32_t n_channels, const uint8_t *x, int8_t *y)
{
    for (uint32_t c = 0; c < n_channels; c++) {
        a8_row_t r = a8_row_at(rows + 8 * c, -128);
        for (uint32_t i = c; i < n_steps * n_channels; i += n_channels)
            y[i] = a8_requantize(&r, a8_i16(x + 2 * i));
    }
}
#endif
