/* linear, conv1d and attention on an Xtensa LX6 or LX7 (ESP32, ESP32-S2, ESP32-S3), in C that every Xtensa has an
 * instruction for. Two products come from one MULL: with A = a0 + 65536*a1 and B = b1 + 65536*b0 the top half of
 * A*B mod 2^32 is a0*b0 + a1*b1, less 1 if the low half, a0*b1, is negative. There is no carry to restore that: HALF is
 * added first, so the low half never is. It takes |a| <= 127 on one side: weights, and keys, as the format says.
 */
#include "a8_bytes.h"
#include "a8_kernels.h"

#ifdef A8_TARGET_XTENSA

#define NOINLINE __attribute__((noinline))
#ifdef __clang__
#define HOT NOINLINE
#else
#define HOT NOINLINE __attribute__((optimize("O2")))
#endif

#define HALF 0x8000u
#define TOKENS 4u       /* that share the unpacking of a weight */
#define PASS_WORDS 16u  /* of four weights each, times TOKENS: what lies packed on the stack */
#define ROWS 8u         /* whose sums wait on the stack where the products do not fit into one pass */
#define SIGNS 0x80808080u
#define EVEN 0x00FF00FFu
#define EVEN_128 0x00800080u

typedef uint32_t __attribute__((may_alias)) word_t;

typedef struct {
    int32_t bias;
    int32_t multiplier;
    uint32_t pre;
    uint32_t post_1; /* post - 1 */
    int32_t low;
    int32_t high;
} row_t;

static inline row_t clamped_row(uint32_t clamp)
{
    row_t r = {0, 0, 0, 0, clamp == A8_CLAMP_FULL ? -128 : clamp == A8_CLAMP_KEY ? -127 : 0, 127};
    return r;
}

static inline void load_row(row_t *r, const uint8_t *p)
{
    uint32_t scale = a8_u32_fast(p + 4);
    r->bias = (int32_t)a8_u32_fast(p);
    r->multiplier = (int32_t)(scale & 0xFFFF);
    r->pre = scale >> 16 & 15;
    r->post_1 = ((scale >> 24) - 1) & 31;
}

static inline int32_t clamp_s32(int32_t v, int32_t low, int32_t high)
{
    return v > high ? high : v < low ? low : v;
}

static inline int8_t requantize(const row_t *r, uint32_t acc)
{
    int32_t v = (int32_t)(acc + (uint32_t)r->bias) >> r->pre;
    if ((uint32_t)v + 32768u > 65535u)
        return (int8_t)(v < 0 ? r->low : r->high);
    return (int8_t)clamp_s32(((v * r->multiplier >> r->post_1) + 1) >> 1, r->low, r->high);
}

/* Bytes 0 and 2 of four biased ones as a pair of numbers; of `biased` >> 8 those are 1 and 3. */
static inline uint32_t pair(uint32_t biased) { return (biased & EVEN) - EVEN_128; }

static inline uint32_t two_products(uint32_t a, uint32_t b) { return (uint32_t)((int32_t)(a * b + HALF) >> 16); }

/* Packs n bytes at any address as pairs, the higher byte of each in the low half; the last word is filled with 0. */
static HOT void pack(uint32_t *to, uint32_t step, const int8_t *x, uint32_t n)
{
    for (; n >= 4; n -= 4, x += 4, to += step) {
        to[0] = (uint32_t)x[2] + ((uint32_t)x[0] << 16);
        to[1] = (uint32_t)x[3] + ((uint32_t)x[1] << 16);
    }
    if (n > 0) {
        to[0] = (n > 2 ? (uint32_t)x[2] : 0) + ((uint32_t)x[0] << 16);
        to[1] = n > 1 ? (uint32_t)x[1] << 16 : 0;
    }
}

/* sums[i] += weights . token i, the tokens packed side by side */
static HOT void add_four(uint32_t *sums, const word_t *w, const word_t *end, const uint32_t *x)
{
    uint32_t s0 = sums[0], s1 = sums[1], s2 = sums[2], s3 = sums[3];
    for (; w != end; x += 2 * TOKENS) {
        uint32_t biased = *w++ ^ SIGNS, even = pair(biased), odd = pair(biased >> 8);
        s0 += two_products(even, x[0]) + two_products(odd, x[1]);
        s1 += two_products(even, x[2]) + two_products(odd, x[3]);
        s2 += two_products(even, x[4]) + two_products(odd, x[5]);
        s3 += two_products(even, x[6]) + two_products(odd, x[7]);
    }
    sums[0] = s0;
    sums[1] = s1;
    sums[2] = s2;
    sums[3] = s3;
}

/* w . x, as `packed` has it */
static HOT uint32_t dot(const word_t *w, const word_t *end, const uint32_t *x)
{
    uint32_t sum = 0;
    for (; w != end; x += 2) {
        uint32_t biased = *w++ ^ SIGNS;
        sum += two_products(pair(biased), x[0]) + two_products(pair(biased >> 8), x[1]);
    }
    return sum;
}

/* A block: n_tokens output tokens from `first` on, 1 or TOKENS of them. */
typedef struct {
    const a8_conv1d_t *op;
    const int8_t *x;
    uint32_t n_products;
    uint32_t row_bytes;
    uint32_t first;
    uint32_t n_tokens;
    uint32_t tile[2 * PASS_WORDS * TOKENS];
} block_t;

static inline uint32_t pass_products(const block_t *b) { return 4 * PASS_WORDS * TOKENS / b->n_tokens; }

/* Packs products at..at + n - 1 of one token; what lies outside of x is 0. */
static NOINLINE void pack_token(block_t *b, uint32_t lane, uint32_t at, uint32_t n)
{
    const a8_conv1d_t *op = b->op;
    int32_t begin = (int32_t)(((b->first + lane) * op->stride - op->pad_left) * op->n_inputs + at);
    int32_t end = (int32_t)(op->n_steps * op->n_inputs);
    int8_t padded[4 * PASS_WORDS * TOKENS];
    const int8_t *from = b->x + begin;
    if (begin < 0 || begin + (int32_t)n > end) {
        int32_t low = begin < 0 ? -begin : 0, high = begin + (int32_t)n > end ? end - begin : (int32_t)n;
        memset(padded, 0, n);
        if (low < high)
            memcpy(padded + low, from + low, (uint32_t)(high - low));
        from = padded;
    }
    pack(b->tile + 2 * lane, 2 * b->n_tokens, from, n);
}

static void pack_block(block_t *b, uint32_t at, uint32_t n)
{
    for (uint32_t lane = 0; lane < b->n_tokens; lane++)
        pack_token(b, lane, at, n);
}

/* sums[...] += weights at..at + n - 1 of a row, which may lie at any address, times the packed tokens */
static inline void add_products(const block_t *b, uint32_t *sums, const int8_t *weights, uint32_t n)
{
    uint32_t copy[PASS_WORDS * TOKENS];
    const word_t *w = (const word_t *)(const void *)weights;
    if (((uintptr_t)weights & 3) != 0)
        w = memcpy(copy, weights, a8_padded(n));
    if (b->n_tokens == TOKENS)
        add_four(sums, w, w + a8_padded(n) / 4, b->tile);
    else
        sums[0] += dot(w, w + a8_padded(n) / 4, b->tile);
}

static HOT void store(const block_t *b, row_t *r, uint32_t row, const uint32_t *sums, int8_t *y)
{
    const uint32_t *end = sums + b->n_tokens;
    load_row(r, b->op->rows + 8 * row);
    for (y += b->first * b->op->n_outputs + row; sums != end; y += b->op->n_outputs)
        *y = requantize(r, *sums++);
}

static NOINLINE void run_block(block_t *b, int8_t *y)
{
    row_t r = clamped_row(b->op->clamp);
    const int8_t *weights = b->op->weights;
    pack_block(b, 0, b->n_products);
    for (uint32_t row = 0; row < b->op->n_outputs; row++, weights += b->row_bytes) {
        uint32_t sums[TOKENS] = {0, 0, 0, 0};
        add_products(b, sums, weights, b->n_products);
        store(b, &r, row, sums, y);
    }
}

/* The same in passes, some rows at a time. */
static NOINLINE void run_passes(block_t *b, int8_t *y)
{
    row_t r = clamped_row(b->op->clamp);
    uint32_t sums[ROWS * TOKENS], pass = pass_products(b);
    for (uint32_t row = 0; row < b->op->n_outputs; row += ROWS) {
        uint32_t n_rows = b->op->n_outputs - row < ROWS ? b->op->n_outputs - row : ROWS;
        memset(sums, 0, sizeof(sums));
        for (uint32_t at = 0; at < b->n_products; at += pass) {
            uint32_t n = b->n_products - at < pass ? b->n_products - at : pass;
            pack_block(b, at, n);
            for (uint32_t i = 0; i < n_rows; i++)
                add_products(b, sums + TOKENS * i, b->op->weights + (row + i) * b->row_bytes + at, n);
        }
        for (uint32_t i = 0; i < n_rows; i++)
            store(b, &r, row + i, sums + TOKENS * i, y);
    }
}

void a8_conv1d_s8(const a8_conv1d_t *op, const int8_t *x, int8_t *y)
{
    block_t b;
    uint32_t n_steps = op->n_output_steps;
    b.op = op;
    b.x = x;
    b.n_products = op->kernel * op->n_inputs;
    b.row_bytes = a8_padded(b.n_products);
    b.n_tokens = n_steps < TOKENS ? 1 : TOKENS;
    for (uint32_t t = 0; t < n_steps; t += b.n_tokens) {
        b.first = t + b.n_tokens <= n_steps ? t : n_steps - b.n_tokens; /* the last block may begin in the one before */
        if (b.n_products <= pass_products(&b))
            run_block(&b, y);
        else
            run_passes(&b, y);
    }
}

void a8_linear_s8(const a8_conv1d_t *op, const int8_t *x, int8_t *y) { a8_conv1d_s8(op, x, y); }
#endif
