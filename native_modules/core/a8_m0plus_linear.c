/* linear and conv1d on a Cortex-M0+. Tokens are packed into scratch in tiles: each block of four of them is a sequence of
 * four words, one a token, for each pair of weights. The rows go over a tile one by one, unpacked onto the stack.
 * Few tokens go over the rows instead, which are then unpacked in registers.
 */
#include "a8_bytes.h"
#include "a8_kernels.h"

#ifdef A8_TARGET_M0PLUS

#define BLOCK 4u

/* What the assembly works on; it changes weights, rows, n_rows and y. */
typedef struct {
    const void *tokens;
    uint32_t span; /* n_blocks*block_bytes */
    uint32_t block_bytes;
    uint32_t n_pairs;
    const int8_t *weights;
    uint32_t row_bytes;
    const uint8_t *rows;
    uint32_t n_rows;
    int8_t *y;
    uint32_t y_stride;
    int32_t low;
    int32_t *sums; /* one for each token of a tile, where there are several passes */
    uint32_t back; /* bytes that y goes back in front of the last block; 0: the last block begins where the one before ends */
} a8_m0plus_products_t;

void a8_m0plus_rows(a8_m0plus_products_t *p);
void a8_m0plus_token(a8_m0plus_products_t *p, int32_t packed);
void a8_m0plus_pack(uint32_t *out, const int8_t *x, uint32_t n, uint32_t step);

/* The taps of output token t that lie in x: [first, last), the first of which reads x. */
typedef struct {
    const int8_t *x;
    uint32_t first;
    uint32_t last;
} taps_t;

static taps_t taps_of(const a8_conv1d_t *op, const int8_t *x, uint32_t t)
{
    int32_t at = (int32_t)(t * op->stride) - (int32_t)op->pad_left;
    uint32_t left = op->n_steps - (uint32_t)at; /* tokens from `at` to the end of x */
    taps_t taps = {x, at < 0 ? (uint32_t)-at : 0, op->kernel < left ? op->kernel : left};
    taps.x += ((uint32_t)at + taps.first) * op->n_inputs;
    return taps;
}

static void pack_token(const a8_conv1d_t *op, const int8_t *x, uint32_t t, int8_t *padded, uint32_t *out, uint32_t step)
{
    uint32_t n = op->kernel * op->n_inputs;
    taps_t taps = taps_of(op, x, t);
    if (taps.last - taps.first < op->kernel) {
        memset(padded, 0, n);
        memcpy(padded + taps.first * op->n_inputs, taps.x, (taps.last - taps.first) * op->n_inputs);
        taps.x = padded;
    }
    a8_m0plus_pack(out, taps.x, n, step);
}

static a8_m0plus_products_t products_of(const a8_conv1d_t *op)
{
    uint32_t n = op->kernel * op->n_inputs;
    a8_m0plus_products_t p;
    p.n_pairs = a8_packed_bytes(n) / 4;
    p.weights = op->weights;
    p.row_bytes = a8_padded(n);
    p.rows = op->rows;
    p.n_rows = p.y_stride = op->n_outputs;
    p.low = op->clamp == A8_CLAMP_FULL ? -128 : op->clamp == A8_CLAMP_KEY ? -127 : 0;
    return p;
}

/* Tokens t..t + n - 1, n >= 4. The last block may begin inside the one before: some tokens are then computed twice. */
static void run_tile(const a8_conv1d_t *op, const int8_t *x, uint32_t t, uint32_t n, uint32_t tile, int8_t *y)
{
    a8_m0plus_products_t p = products_of(op);
    uint32_t *out = op->scratch, token_words = p.n_pairs;
    p.tokens = out;
    p.sums = (int32_t *)(out + tile * token_words);
    p.y = y + t * op->n_outputs;
    p.block_bytes = BLOCK * 4 * token_words;
    p.span = a8_padded(n) * 4 * token_words;
    p.back = (a8_padded(n) - n) * op->n_outputs;
    int8_t *padded = (int8_t *)(p.sums + (p.n_pairs > A8_PASS_PAIRS ? tile : 0));
    for (uint32_t i = 0; i < n; i += BLOCK, out += BLOCK * token_words)
        for (uint32_t lane = 0; lane < BLOCK; lane++)
            pack_token(op, x, t + lane + (i < n - BLOCK ? i : n - BLOCK), padded, out + lane, 4 * BLOCK);
    a8_m0plus_rows(&p);
}

static void run_packed_token(const a8_conv1d_t *op, const int8_t *x, uint32_t t, int8_t *y)
{
    a8_m0plus_products_t p = products_of(op);
    uint32_t *out = op->scratch;
    pack_token(op, x, t, (int8_t *)(out + p.n_pairs), out, 4);
    p.tokens = out;
    p.y = y;
    a8_m0plus_token(&p, 1);
}

static void run_plain_token(const a8_conv1d_t *op, const int8_t *x, uint32_t t, int8_t *y)
{
    a8_m0plus_products_t p = products_of(op);
    taps_t taps = taps_of(op, x, t);
    p.n_pairs = (taps.last - taps.first) * op->n_inputs;
    p.weights += taps.last * op->n_inputs;
    p.tokens = taps.x + p.n_pairs;
    p.y = y;
    a8_m0plus_token(&p, 0);
}

void a8_conv1d_s8(const a8_conv1d_t *op, const int8_t *x, int8_t *y)
{
    uint32_t n_steps = op->n_output_steps, tile = a8_tile_tokens(n_steps, op->kernel * op->n_inputs);
    int aligned = (((uintptr_t)op->weights | (uintptr_t)op->rows) & 3) == 0;
    if (tile >= BLOCK) {
        for (uint32_t t = 0; t < n_steps; t += tile) {
            uint32_t n = n_steps - t < tile ? n_steps - t : tile, more = n < BLOCK ? BLOCK - n : 0;
            run_tile(op, x, t - more, n + more, tile, y);
        }
        return;
    }
    for (uint32_t t = 0; t < n_steps; t++, y += op->n_outputs)
        if (tile > 0 && aligned)
            run_packed_token(op, x, t, y);
        else
            run_plain_token(op, x, t, y);
}

void a8_linear_s8(const a8_linear_t *op, const int8_t *x, int8_t *y)
{
    a8_conv1d_t conv1d = {op->rows,      op->weights, op->n_steps, op->n_inputs, op->n_steps, op->n_outputs, 1, 1, 0,
                          op->clamp, op->scratch};
    a8_conv1d_s8(&conv1d, x, y);
}
#endif
