/* Products on RV32IMC. Tokens of linear and conv1d are packed in pairs, x + 65536*z in a word: one MUL makes the products
 * of both with a weight. As weights are in -127..127, two such products fit into the halves of a word. What stands alone
 * goes over four rows at a time.
 */
#include "a8_target.h"

#ifdef A8_TARGET_RV32

#include "a8_blocked.h"

A8_INLINE uint32_t pair(int32_t x, int32_t z) { return (uint32_t)x + ((uint32_t)z << 16); }

/* n products of four tokens: a word for the first two, one for the others; what the last four lack is 0, as the padding
 * of a row may be anything. */
static HOT void pack_tokens(uint32_t *to, const int8_t *x, uint32_t stride, uint32_t n)
{
    const int8_t *a = x, *b = a + stride, *c = b + stride, *d = c + stride, *end = a + n;
    uint32_t *behind = to + 2 * a8_padded(n);
    for (; a != end; to += 2) {
        to[0] = pair(*a++, *b++);
        to[1] = pair(*c++, *d++);
    }
    while (to != behind)
        *to++ = 0;
}

/* Sums of a row with two tokens. */
typedef struct {
    uint32_t both; /* that of the first + 65536 times that of the second */
    uint32_t second;
} sums_t;

/* Two weights and two packed words: the half is that of 65536, for the sign of the lower half. */
A8_INLINE void mac(sums_t *s, int32_t w0, int32_t w1, uint32_t x0, uint32_t x1, uint32_t half)
{
    uint32_t m = (uint32_t)w0 * x0 + (uint32_t)w1 * x1;
    s->both += m;
    s->second += (uint32_t)((int32_t)(m + half) >> 16);
}

/* Two rows with four tokens. */
typedef struct {
    sums_t a[2];
    sums_t b[2];
} block_t;

A8_INLINE void mac_two(block_t *s, const int8_t *a, const int8_t *b, const uint32_t *x, uint32_t half)
{
    uint32_t x0 = x[0], x1 = x[2], z0 = x[1], z1 = x[3];
    mac(&s->a[0], a[0], a[1], x0, x1, half);
    mac(&s->a[1], a[0], a[1], z0, z1, half);
    mac(&s->b[0], b[0], b[1], x0, x1, half);
    mac(&s->b[1], b[0], b[1], z0, z1, half);
}

static HOT void store_row(const uint8_t *row, int32_t low, int32_t s0, int32_t s1, int32_t s2, int32_t s3, int8_t *y,
                          uint32_t n_outputs)
{
    a8_row_t r = a8_row_at(row, low);
    y[0] = a8_requantize(&r, s0);
    y += n_outputs;
    y[0] = a8_requantize(&r, s1);
    y += n_outputs;
    y[0] = a8_requantize(&r, s2);
    y[n_outputs] = a8_requantize(&r, s3);
}

A8_INLINE int32_t first(const sums_t *s) { return (int32_t)(s->both - (s->second << 16)); }

A8_INLINE int32_t second(const sums_t *s) { return (int32_t)s->second; }

/* The output tokens of those that are packed at x..end; the last of an odd number of rows goes with itself. */
static HOT void run_packed(const a8_conv1d_t *op, const uint32_t *x, const uint32_t *end, int8_t *y)
{
    uint32_t row_bytes = (uint32_t)(end - x) / 2, n_outputs = op->n_outputs;
    int32_t low = a8_lowest(op->clamp);
    for (uint32_t row = 0; row < n_outputs; row += 2) {
        uint32_t next = row + 1 < n_outputs ? row + 1 : row;
        const int8_t *a = op->weights + row * row_bytes, *b = op->weights + next * row_bytes;
        block_t s = {{{0, 0}, {0, 0}}, {{0, 0}, {0, 0}}};
        for (const uint32_t *p = x; p != end; p += 8, a += 4, b += 4) {
            mac_two(&s, a, b, p, 0x8000);
            mac_two(&s, a + 2, b + 2, p + 4, 0x8000);
        }
        store_row(op->rows + 8 * row, low, first(&s.a[0]), second(&s.a[0]), first(&s.a[1]), second(&s.a[1]), y + row,
                  n_outputs);
        store_row(op->rows + 8 * next, low, first(&s.b[0]), second(&s.b[0]), first(&s.b[1]), second(&s.b[1]), y + next,
                  n_outputs);
    }
}

static NOINLINE void run_tokens(const a8_conv1d_t *op, const int8_t *x, int8_t *y)
{
    uint32_t *packed = op->scratch, n = op->kernel * op->n_inputs;
    pack_tokens(packed, x, op->stride * op->n_inputs, n);
    run_packed(op, packed, packed + 2 * a8_padded(n), y);
}

/* One product of each of four rows. */
#define MAC_COLUMN(i) \
    s0 += x[i] * w0[i], s1 += x[i] * w1[i], s2 += x[i] * w2[i], s3 += x[i] * w3[i]

/* s (4,) = rows w, w + step, ... times x, n products. */
static HOT void mac_rows(int32_t *s, const int8_t *w0, uint32_t step, const int8_t *x, uint32_t n)
{
    const int8_t *w1 = w0 + step, *w2 = w1 + step, *w3 = w2 + step, *fours = x + (n & ~3u), *end = x + n;
    int32_t s0 = 0, s1 = 0, s2 = 0, s3 = 0;
    for (; x != fours; x += 4, w0 += 4, w1 += 4, w2 += 4, w3 += 4) {
        MAC_COLUMN(0);
        MAC_COLUMN(1);
        MAC_COLUMN(2);
        MAC_COLUMN(3);
    }
    for (; x != end; x++, w0++, w1++, w2++, w3++)
        MAC_COLUMN(0);
    s[0] = s0;
    s[1] = s1;
    s[2] = s2;
    s[3] = s3;
}

/* The last four rows may overlap those before them; fewer than four go one by one, each as all four. */
static NOINLINE void run_token(const a8_conv1d_t *op, const int8_t *x, uint32_t from, uint32_t n, int8_t *y)
{
    uint32_t row_bytes = a8_padded(op->kernel * op->n_inputs), n_outputs = op->n_outputs;
    uint32_t n_rows = n_outputs < 4 ? 1 : 4;
    int32_t s[4], low = a8_lowest(op->clamp);
    for (uint32_t i = 0; i < n_outputs; i += n_rows) {
        uint32_t row = i + n_rows > n_outputs ? n_outputs - n_rows : i;
        const uint8_t *rows = op->rows + 8 * row;
        mac_rows(s, op->weights + row * row_bytes + from, n_rows == 1 ? 0 : row_bytes, x, n);
        for (uint32_t j = 0; j < n_rows; j++, rows += 8) {
            a8_row_t r = a8_row_at(rows, low);
            y[row + j] = a8_requantize(&r, s[j]);
        }
    }
}

#ifndef A8_KERNELS_ATTENTION_EXTERNAL
A8_INLINE int32_t add_scores(int32_t *scores, const int32_t *end, const void *from, const int8_t *q, const int8_t *k,
                          uint32_t stride, uint32_t n)
{
    int32_t most = INT32_MIN, query[8];
    if (from != scores)
        memcpy(scores, from, (uint32_t)(end - scores) * 4);
#pragma GCC unroll 8
    for (uint32_t i = 0; i < n; i++)
        query[i] = q[i];
    for (; scores != end; k += stride) {
        uint32_t s = (uint32_t)*scores;
#pragma GCC unroll 8
        for (uint32_t i = 0; i < n; i++)
            s += (uint32_t)(query[i] * k[i]);
        *scores++ = (int32_t)s;
        most = (int32_t)s > most ? (int32_t)s : most;
    }
    return most;
}

/* s (4,) += the sums of four channels. */
A8_INLINE void mac_values(int32_t *s, const int32_t *e, const int32_t *end, const int8_t *v, uint32_t stride)
{
    for (; e != end; e++, v += stride) {
        int32_t weight = *e;
        s[0] += weight * v[0];
        s[1] += weight * v[1];
        s[2] += weight * v[2];
        s[3] += weight * v[3];
    }
}

/* The last four channels may overlap those before them. */
HOT void a8_attention_values(const a8_values_t *op, const a8_row_t *row, int8_t *y)
{
    a8_row_t r = *row;
    uint32_t size = op->head_size;
    for (uint32_t i = 0; size < 4 && i < size; i++)
        y[i] = a8_requantize(&r, sum_of_channel(op, i));
    for (uint32_t i = 0; size >= 4 && i < size; i += 4) {
        uint32_t c = i + 4 > size ? size - 4 : i;
        int32_t s[4] = {0, 0, 0, 0};
        mac_values(s, op->e, op->middle, op->v + c, op->stride);
        if (op->middle != op->end)
            mac_values(s, op->middle, op->end, op->newer + c, op->stride);
        for (uint32_t j = 0; j < 4; j++)
            y[c + j] = a8_requantize(&r, s[j]);
    }
}
#endif
#endif
