/* linear and conv1d on a Cortex-M0+. Tokens are packed into scratch in tiles: each block of four of them is a sequence of
 * four words, one a token, for each pair of weights. The rows go over a tile one by one, unpacked onto the stack.
 * Few tokens go over the rows instead, which are then unpacked in registers.
 */
#include "a8_bytes.h"
#include "a8_kernels.h"

#ifdef A8_TARGET_M0PLUS

#define BLOCK 4u
#define NOINLINE __attribute__((noinline))

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
    int32_t *sums; /* one for each token, where there are several passes */
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

static NOINLINE void pack_token(const a8_conv1d_t *op, const int8_t *x, uint32_t t, uint32_t *out, uint32_t step)
{
    uint32_t n = op->kernel * op->n_inputs;
    taps_t taps = taps_of(op, x, t);
    if (taps.last - taps.first < op->kernel) {
        int8_t *padded = (int8_t *)op->scratch + a8_tile_tokens(op->n_output_steps, n) * a8_packed_bytes(n);
        memset(padded, 0, n);
        memcpy(padded + taps.first * op->n_inputs, taps.x, (taps.last - taps.first) * op->n_inputs);
        taps.x = padded;
    }
    a8_m0plus_pack(out, taps.x, n, step);
}

static void set_products(a8_m0plus_products_t *p, const a8_conv1d_t *op)
{
    p->tokens = op->scratch;
    p->weights = op->weights;
    p->rows = op->rows;
    p->n_rows = p->y_stride = op->n_outputs;
    p->row_bytes = a8_padded(op->kernel * op->n_inputs);
    p->n_pairs = p->row_bytes / 2;
    p->low = op->clamp == A8_CLAMP_FULL ? -128 : op->clamp == A8_CLAMP_KEY ? -127 : 0;
}

/* Tokens t..t + n - 1, n >= 4. The last block may begin inside the one before: some tokens are then computed twice. */
static NOINLINE void run_tile(const a8_conv1d_t *op, const int8_t *x, uint32_t t, uint32_t n, int8_t *y)
{
    a8_m0plus_products_t p;
    uint32_t *out = op->scratch;
    set_products(&p, op);
    p.y = y;
    p.block_bytes = BLOCK * 4 * p.n_pairs;
    for (uint32_t i = 0; i < n; i += BLOCK, out += BLOCK * p.n_pairs)
        for (uint32_t lane = 0; lane < BLOCK; lane++)
            pack_token(op, x, t + lane + (i < n - BLOCK ? i : n - BLOCK), out + lane, 4 * BLOCK);
    p.sums = (int32_t *)out;
    p.span = (uint32_t)((uint8_t *)out - (uint8_t *)op->scratch);
    p.back = (a8_padded(n) - n) * op->n_outputs;
    a8_m0plus_rows(&p);
}

static NOINLINE void run_token(const a8_conv1d_t *op, const int8_t *x, uint32_t t, int packed, int8_t *y)
{
    a8_m0plus_products_t p;
    set_products(&p, op);
    p.y = y;
    if (packed) {
        pack_token(op, x, t, op->scratch, 4);
    } else {
        taps_t taps = taps_of(op, x, t);
        p.n_pairs = (taps.last - taps.first) * op->n_inputs;
        p.weights += taps.last * op->n_inputs;
        p.tokens = taps.x + p.n_pairs;
    }
    a8_m0plus_token(&p, packed);
}

void a8_conv1d_s8(const a8_conv1d_t *op, const int8_t *x, int8_t *y)
{
    uint32_t n_steps = op->n_output_steps, tile = a8_tile_tokens(n_steps, op->kernel * op->n_inputs), n = 1;
    int packed = tile > 0 && (((uintptr_t)op->weights | (uintptr_t)op->rows) & 3) == 0;
    for (uint32_t t = 0; t < n_steps; t += n, y += n * op->n_outputs) {
        if (tile < BLOCK) {
            run_token(op, x, t, packed, y);
            continue;
        }
        n = n_steps - t < tile ? n_steps - t : tile;
        uint32_t more = n < BLOCK ? BLOCK - n : 0;
        run_tile(op, x, t - more, n + more, y - more * op->n_outputs);
    }
}

void a8_linear_s8(const a8_conv1d_t *op, const int8_t *x, int8_t *y) { a8_conv1d_s8(op, x, y); }
#endif
