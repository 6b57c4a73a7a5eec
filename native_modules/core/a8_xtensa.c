/* linear, conv1d and attention on an Xtensa LX6 or LX7 (ESP32, ESP32-S2, ESP32-S3).
 *
 * In C, for all of them, two products come from one MULL: with A = a0 + 65536*a1 and B = b1 + 65536*b0 the top half of
 * A*B mod 2^32 is a0*b0 + a1*b1, less 1 if the low half, a0*b1, is negative. There is no carry to restore that: HALF is
 * added first, so the low half never is. It takes |a| <= 127 on one side: weights, and keys, as the format says.
 *
 * With -DA8_XTENSA_MAC16 the unit of the ESP32 and ESP32-S3 multiplies: a8_xtensa_mac16.S. Another unit, such as the
 * vectors of the ESP32-S3, would bring the same five functions: put (packs four bytes), add_dot (one sum),
 * tokens_of_block (how many share a pass over the weights), run_some (all outputs of a block) and add_words (its sums).
 */
#include "a8_requantize.h"

#ifdef A8_TARGET_XTENSA

#define HALF 0x8000u
#define TOKENS 4u       /* that share the unpacking of a weight */
#define PASS_WORDS 16u  /* of four weights each: what lies packed on the stack for TOKENS of them */
#define ROWS 8u         /* whose sums wait on the stack where the products do not fit into one pass */
#define COPY_WORDS 16u  /* of what lies at no multiple of 4, or in the padding */
#define SIGNS 0x80808080u
#define EVEN 0x00FF00FFu
#define EVEN_128 0x00800080u

#ifdef A8_XTENSA_MAC16
#define READ_AHEAD 1 /* word behind what a8_xtensa_mac16.S needs */
#else
#define READ_AHEAD 0
#endif

typedef uint32_t __attribute__((may_alias)) word_t;

#ifdef A8_XTENSA_MAC16
/* a8_xtensa_mac16.S, which knows the offsets */
typedef struct {
    const int8_t *weights;
    const uint8_t *rows;
    int8_t *y;
    uint32_t tile;
    uint32_t row_words;
    uint32_t n_outputs;
    uint32_t n_tokens;
    int32_t low;
    uint32_t copy;
    uint32_t stride;
} mac16_t;

void a8_xtensa_rows(mac16_t *m);
uint32_t a8_xtensa_dot(const void *weights, uint32_t words, uint32_t x);

/* Its loads begin with the next word. */
static inline uint32_t word_before(const uint32_t *x) { return (uint32_t)(uintptr_t)x - 4; }

static inline void put(uint32_t *to, uint32_t word)
{
    to[0] = word << 8 & ~EVEN;
    to[1] = word & ~EVEN;
}

static inline uint32_t add_dot(uint32_t sum, const word_t *w, uint32_t words, const uint32_t *x)
{
    return sum + a8_xtensa_dot(w, words, word_before(x));
}
#else

/* Bytes 0 and 2 of four biased ones as a pair of numbers; of `biased` >> 8 those are 1 and 3. */
static inline uint32_t pair(uint32_t biased) { return (biased & EVEN) - EVEN_128; }

static inline uint32_t two_products(uint32_t a, uint32_t b) { return (uint32_t)((int32_t)(a * b + HALF) >> 16); }

/* Packs four bytes as two pairs, the higher byte of each in the low half. */
static inline void put(uint32_t *to, uint32_t word)
{
    uint32_t biased = word ^ SIGNS, swapped = biased << 16 | biased >> 16;
    to[0] = pair(swapped);
    to[1] = pair(swapped >> 8);
}

/* sum + weights . x, as `put` has packed it */
static inline uint32_t add_dot(uint32_t sum, const word_t *w, uint32_t words, const uint32_t *x)
{
    for (const word_t *end = w + words; w != end; x += 2) {
        uint32_t biased = *w++ ^ SIGNS;
        sum += two_products(pair(biased), x[0]) + two_products(pair(biased >> 8), x[1]);
    }
    return sum;
}
#endif

/* Packs n bytes at any address; the last word is filled with 0. */
static HOT void pack(uint32_t *to, uint32_t step, const int8_t *x, uint32_t n)
{
    const uint8_t *from = (const uint8_t *)x;
    for (; n >= 4; n -= 4, from += 4, to += step)
        put(to, a8_u32_fast(from));
    if (n > 0)
        put(to, from[0] | (n > 1 ? (uint32_t)from[1] << 8 : 0) | (n > 2 ? (uint32_t)from[2] << 16 : 0));
}

typedef struct {
    uint32_t of[TOKENS];
} sums_t;

/* A block: n_tokens output tokens from `first` on, 1 or TOKENS of them, with MAC16 also 2. */
typedef struct {
    const a8_conv1d_t *op;
    const int8_t *x;
    uint32_t n_products;
    uint32_t row_words;
    uint32_t first;
    uint32_t n_tokens;
    int32_t low;
    uint32_t lane; /* words from a packed token to the next, */
    uint32_t step; /* and from its first four products to the next */
    uint32_t tile[2 * PASS_WORDS * TOKENS + READ_AHEAD];
} block_t;

static inline uint32_t pass_products(const block_t *b) { return 4 * PASS_WORDS * TOKENS / b->n_tokens; }

/* Packs bytes at..at + n - 1 of x (n_bytes,); those that lie outside of it are 0. */
static NOINLINE void pack_padded(uint32_t *to, uint32_t step, const int8_t *x, uint32_t n_bytes, int32_t at, uint32_t n)
{
    int8_t piece[COPY_WORDS * 4];
    for (uint32_t i = 0; i < n; i += sizeof(piece), to += COPY_WORDS * step) {
        uint32_t size = n - i < sizeof(piece) ? n - i : sizeof(piece);
        for (uint32_t j = 0; j < size; j++) {
            uint32_t from = (uint32_t)at + i + j;
            piece[j] = from < n_bytes ? x[from] : 0;
        }
        pack(to, step, piece, size);
    }
}

/* Packs products at..at + n - 1 of one token of the block. */
static void pack_token(block_t *b, uint32_t lane, uint32_t at, uint32_t n)
{
    const a8_conv1d_t *op = b->op;
    uint32_t n_bytes = op->n_steps * op->n_inputs, *to = b->tile + lane * b->lane;
    uint32_t begin = ((b->first + lane) * op->stride - op->pad_left) * op->n_inputs + at; /* wraps in the padding */
    if (begin < n_bytes && n <= n_bytes - begin)
        pack(to, b->step, b->x + begin, n);
    else
        pack_padded(to, b->step, b->x, n_bytes, (int32_t)begin, n);
}

static void pack_block(block_t *b, uint32_t at, uint32_t n)
{
#ifdef A8_XTENSA_MAC16
    b->lane = a8_padded(n) / 2;
    b->step = 2;
#else
    b->lane = 2;
    b->step = 2 * b->n_tokens;
#endif
    for (uint32_t lane = 0; lane < b->n_tokens; lane++)
        pack_token(b, lane, at, n);
}

#ifdef A8_XTENSA_MAC16
/* Fewer tokens where more products have to fit into one pass. */
static uint32_t tokens_of_block(uint32_t n_steps, uint32_t n_products)
{
    uint32_t n = TOKENS;
    while (n > 1 && (n > n_steps || n_products > 4 * PASS_WORDS * TOKENS / n))
        n /= 2;
    return n;
}

static NOINLINE void run_some(const block_t *b, const word_t *w, int8_t *y)
{
    uint32_t copy[PASS_WORDS * TOKENS + READ_AHEAD]; /* of a row: two words for each */
    mac16_t m = {(const int8_t *)w, b->op->rows, y, word_before(b->tile), b->row_words, b->op->n_outputs, b->n_tokens,
                 b->low, word_before(copy), b->op->n_outputs};
    a8_xtensa_rows(&m);
}

static inline void add_words(const block_t *b, sums_t *sums, const word_t *w, uint32_t words, const uint32_t *x)
{
    for (uint32_t t = 0; t < b->n_tokens; t++)
        sums->of[t] = add_dot(sums->of[t], w, words, x + t * b->lane);
}
#else

static uint32_t tokens_of_block(uint32_t n_steps, uint32_t n_products)
{
    (void)n_products;
    return n_steps < TOKENS ? 1 : TOKENS;
}

/* Adds the products of weights and TOKENS tokens that are packed side by side. */
static inline sums_t add_four(sums_t s, const word_t *w, uint32_t words, const uint32_t *x)
{
    for (const word_t *end = w + words; w != end; x += 2 * TOKENS) {
        uint32_t biased = *w++ ^ SIGNS, even = pair(biased), odd = pair(biased >> 8);
        s.of[0] += two_products(even, x[0]) + two_products(odd, x[1]);
        s.of[1] += two_products(even, x[2]) + two_products(odd, x[3]);
        s.of[2] += two_products(even, x[4]) + two_products(odd, x[5]);
        s.of[3] += two_products(even, x[6]) + two_products(odd, x[7]);
    }
    return s;
}

/* All outputs of TOKENS packed tokens, whose products fit into one pass. */
static HOT void run_some(const block_t *b, const word_t *w, int8_t *y)
{
    const uint8_t *row = b->op->rows;
    uint32_t stride = b->op->n_outputs, row_words = b->row_words;
    for (const int8_t *end = y + stride; y != end; y++, row += 8, w += row_words) {
        a8_row_t r = a8_row_at(row, b->low);
        sums_t s = {{r.bias, r.bias, r.bias, r.bias}};
        s = add_four(s, w, row_words, b->tile);
        y[0] = a8_requantize_biased(&r, s.of[0]);
        y[stride] = a8_requantize_biased(&r, s.of[1]);
        y[2 * stride] = a8_requantize_biased(&r, s.of[2]);
        y[3 * stride] = a8_requantize_biased(&r, s.of[3]);
    }
}

static inline void add_words(const block_t *b, sums_t *sums, const word_t *w, uint32_t words, const uint32_t *x)
{
    if (b->n_tokens == TOKENS)
        *sums = add_four(*sums, w, words, x);
    else
        sums->of[0] = add_dot(sums->of[0], w, words, x);
}
#endif

static HOT void run_one(const block_t *b, const word_t *w, int8_t *y)
{
    const uint8_t *row = b->op->rows;
    uint32_t row_words = b->row_words;
    for (const int8_t *end = y + b->op->n_outputs; y != end; row += 8, w += row_words) {
        a8_row_t r = a8_row_at(row, b->low);
        *y++ = a8_requantize_biased(&r, add_dot(r.bias, w, row_words, b->tile));
    }
}

/* n bytes of a row at any address */
static HOT void add_products(const block_t *b, sums_t *sums, const int8_t *weights, uint32_t n)
{
    uint32_t copy[COPY_WORDS], words = a8_padded(n) / 4, some = words;
    const uint32_t *x = b->tile;
    for (; words > 0; words -= some, weights += 4 * some, x += some * b->step) {
        const word_t *w = (const word_t *)(const void *)weights;
        if (((uintptr_t)weights & 3) != 0) {
            some = words < COPY_WORDS ? words : COPY_WORDS;
            w = copy;
            for (uint32_t i = 0; i < some; i++)
                copy[i] = a8_u32((const uint8_t *)weights + 4 * i);
        }
        add_words(b, sums, w, some, x);
    }
}

/* Outputs in passes over the products, ROWS of them at a time. */
static NOINLINE void run_passes(block_t *b, int8_t *y)
{
    const a8_conv1d_t *op = b->op;
    uint32_t pass = pass_products(b);
    sums_t sums[ROWS];
    for (uint32_t row = 0; row < op->n_outputs; row += ROWS) {
        uint32_t n_rows = op->n_outputs - row < ROWS ? op->n_outputs - row : ROWS;
        memset(sums, 0, sizeof(sums));
        for (uint32_t at = 0; at < b->n_products; at += pass) {
            uint32_t n = b->n_products - at < pass ? b->n_products - at : pass;
            pack_block(b, at, n);
            for (uint32_t i = 0; i < n_rows; i++)
                add_products(b, sums + i, op->weights + (row + i) * 4 * b->row_words + at, n);
        }
        for (uint32_t i = 0; i < n_rows; i++) {
            a8_row_t r = a8_row_at(op->rows + 8 * (row + i), b->low);
            for (uint32_t t = 0; t < b->n_tokens; t++)
                y[t * op->n_outputs + row + i] = a8_requantize_biased(&r, sums[i].of[t] + r.bias);
        }
    }
}

static void run_block(block_t *b, int8_t *y)
{
    const void *weights = b->op->weights;
    if (b->n_products > pass_products(b) || (((uintptr_t)weights | (uintptr_t)b->op->rows) & 3) != 0) {
        run_passes(b, y);
        return;
    }
    pack_block(b, 0, b->n_products);
    if (b->n_tokens == 1)
        run_one(b, weights, y);
    else
        run_some(b, weights, y);
}

void a8_conv1d_s8(const a8_conv1d_t *op, const int8_t *x, int8_t *y)
{
    block_t b;
    uint32_t n_steps = op->n_output_steps;
    b.op = op;
    b.x = x;
    b.n_products = op->kernel * op->n_inputs;
    b.row_words = a8_padded(b.n_products) / 4;
    b.n_tokens = tokens_of_block(n_steps, b.n_products);
    b.low = a8_lowest(op->clamp);
    for (uint32_t t = 0; t < n_steps; t += b.n_tokens) {
        b.first = t + b.n_tokens <= n_steps ? t : n_steps - b.n_tokens; /* the last block may begin in the one before */
        run_block(&b, y + b.first * op->n_outputs);
    }
}

void a8_linear_s8(const a8_conv1d_t *op, const int8_t *x, int8_t *y) { a8_conv1d_s8(op, x, y); }

#ifndef A8_KERNELS_ATTENTION_EXTERNAL
static inline int whole_words(const int8_t *p, uint32_t stride, uint32_t head_size)
{
    return (((uintptr_t)p | stride | head_size) & 3) == 0;
}

A8_INLINE int32_t dot_bytes(const int8_t *a, const int8_t *b, uint32_t n)
{
    int32_t sum = 0;
    for (const int8_t *end = a + n; a != end;)
        sum += (int32_t)*a++ * *b++;
    return sum;
}

HOT int32_t a8_attention_scores(int32_t *scores, const int32_t *end, const int8_t *q, const int8_t *k,
                                uint32_t head_size, uint32_t stride, const uint8_t *bias)
{
    uint32_t packed[A8_MAX_HEAD_SIZE / 2 + READ_AHEAD], words = head_size / 4;
    int32_t most = INT32_MIN;
    int fast = whole_words(k, stride, head_size);
    if (fast)
        pack(packed, 2, q, head_size);
    for (; scores != end; k += stride, bias += 4) {
        const word_t *w = (const word_t *)(const void *)k;
        uint32_t sum = a8_u32_fast(bias);
        sum = fast ? add_dot(sum, w, words, packed) : sum + (uint32_t)dot_bytes(q, k, head_size);
        *scores++ = (int32_t)sum;
        most = (int32_t)sum > most ? (int32_t)sum : most;
    }
    return most;
}

/* Sums of four channels, each value biased by 128: the products of channels 0 and 2 lie in the halves of a word, those
 * of 1 and 3 in another; `high` are their upper halves, added up. A weight times a biased value is < 2^15, so two
 * products never carry from the lower to the upper half. */
typedef struct {
    uint32_t even;
    uint32_t even_high;
    uint32_t odd;
    uint32_t odd_high;
} columns_t;

static inline columns_t add_columns(columns_t c, uint32_t even, uint32_t odd)
{
    c.even += even;
    c.even_high += even >> 16;
    c.odd += odd;
    c.odd_high += odd >> 16;
    return c;
}

static inline columns_t add_values(columns_t c, const int32_t *e, const int32_t *end, const int8_t *v, uint32_t stride)
{
    const int32_t *pairs = e + ((uint32_t)(end - e) & ~1u);
    while (e != pairs) {
        uint32_t a = *(const word_t *)(const void *)v ^ SIGNS, b = *(const word_t *)(const void *)(v + stride) ^ SIGNS;
        uint32_t ea = (uint32_t)e[0], eb = (uint32_t)e[1];
        c = add_columns(c, ea * (a & EVEN) + eb * (b & EVEN), ea * (a >> 8 & EVEN) + eb * (b >> 8 & EVEN));
        v += 2 * stride;
        e += 2;
    }
    if (e != end) {
        uint32_t a = *(const word_t *)(const void *)v ^ SIGNS, ea = (uint32_t)e[0];
        c = add_columns(c, ea * (a & EVEN), ea * (a >> 8 & EVEN));
    }
    return c;
}

A8_INLINE int32_t add_bytes(int32_t sum, const int32_t *e, const int32_t *end, const int8_t *v, uint32_t stride)
{
    uint32_t n = (uint32_t)(end - e);
    for (uint32_t i = 0; i < n; i++, v += stride)
        sum += e[i] * *v;
    return sum;
}

HOT void a8_attention_values(const a8_values_t *op, const a8_row_t *row, int8_t *y)
{
    const int32_t *e = op->e, *middle = op->middle, *end = op->end;
    const int8_t *v = op->v, *newer = op->newer;
    a8_row_t r = *row;
    uint32_t stride = op->stride, size = op->head_size, i = 0;
    uint32_t n_fast = whole_words(v, stride, size) && whole_words(newer, stride, size) ? size : 0;
    for (; i < n_fast; i += 4, y += 4) {
        columns_t c = {0, 0, 0, 0};
        c = add_values(c, e, middle, v + i, stride);
        c = add_values(c, middle, end, newer + i, stride);
        uint32_t bias = r.bias - 128 * op->sum;
        y[0] = a8_requantize_biased(&r, c.even - (c.even_high << 16) + bias);
        y[1] = a8_requantize_biased(&r, c.odd - (c.odd_high << 16) + bias);
        y[2] = a8_requantize_biased(&r, c.even_high + bias);
        y[3] = a8_requantize_biased(&r, c.odd_high + bias);
    }
    for (; i < size; i++) {
        int32_t sum = add_bytes(0, e, middle, v + i, stride);
        *y++ = a8_requantize(&r, add_bytes(sum, middle, end, newer + i, stride));
    }
}
#endif
#endif
