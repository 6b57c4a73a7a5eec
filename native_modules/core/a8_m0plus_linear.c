/* linear and conv1d on a Cortex-M0+. Tokens are packed into scratch in tiles: each block of four of them is a sequence of
 * four words, one a token, for each pair of weights. The rows go over a tile one by one, unpacked onto the stack.
 * Few tokens go over the rows instead, which are then unpacked in registers.
 */
#include "a8_bytes.h"
#include "a8_kernels.h"

#ifdef A8_TARGET_M0PLUS

#define BLOCK 4u
#define NOINLINE A8_KERNEL __attribute__((noinline))

/* a8_m0plus_products.S */
void a8_m0plus_rows(const a8_conv1d_t *op, int8_t *y, uint32_t n);
void a8_m0plus_token(const a8_conv1d_t *op, const void *x, int8_t *y, uint32_t n, const int8_t *weights);
void a8_m0plus_pack(uint32_t *out, const int8_t *x, uint32_t n, uint32_t step);

/* The taps of output token t that lie in x: [first, last), the first of which reads x. */
typedef struct {
    const int8_t *x;
    uint32_t first;
    uint32_t last;
} taps_t;

static A8_KERNEL taps_t taps_of(const a8_conv1d_t *op, const int8_t *x, int32_t at)
{
    uint32_t left = op->n_steps - (uint32_t)at; /* tokens from `at` to the end of x */
    taps_t taps = {x, at < 0 ? (uint32_t)-at : 0, op->kernel < left ? op->kernel : left};
    taps.x += ((uint32_t)at + taps.first) * op->n_inputs;
    return taps;
}

static A8_KERNEL inline int32_t first_tap(const a8_conv1d_t *op, uint32_t t)
{
    return (int32_t)(t * op->stride) - (int32_t)op->pad_left;
}

/* Returns a copy of what token t is made of, behind the tile. */
static NOINLINE const int8_t *with_padding(const a8_conv1d_t *op, const int8_t *x, int32_t at)
{
    uint32_t n = op->kernel * op->n_inputs;
    int8_t *to = (int8_t *)op->scratch + a8_tile_tokens(op->n_output_steps, n) * a8_packed_bytes(n);
    taps_t taps = taps_of(op, x, at);
    memset(to, 0, n);
    memcpy(to + taps.first * op->n_inputs, taps.x, (taps.last - taps.first) * op->n_inputs);
    return to;
}

static A8_KERNEL inline void pack_token(const a8_conv1d_t *op, const int8_t *x, uint32_t t, uint32_t *out, uint32_t step)
{
    int32_t at = first_tap(op, t);
    const int8_t *from = at >= 0 && (uint32_t)at + op->kernel <= op->n_steps ? x + (uint32_t)at * op->n_inputs
                                                                            : with_padding(op, x, at);
    a8_m0plus_pack(out, from, op->kernel * op->n_inputs, step);
}

/* Packs tokens t..t + n - 1, n >= 4. The last block may begin inside the one before. */
static NOINLINE void pack_tile(const a8_conv1d_t *op, const int8_t *x, uint32_t t, uint32_t n)
{
    uint32_t *out = op->scratch, block_words = a8_packed_bytes(op->kernel * op->n_inputs);
    for (uint32_t i = 0; i < n; i += BLOCK, out += block_words)
        for (uint32_t lane = 0; lane < BLOCK; lane++)
            pack_token(op, x, t + lane + (i < n - BLOCK ? i : n - BLOCK), out + lane, 4 * BLOCK);
}

static NOINLINE void run_token(const a8_conv1d_t *op, const int8_t *x, uint32_t t, int packed, int8_t *y)
{
    if (packed) {
        pack_token(op, x, t, op->scratch, 4);
        a8_m0plus_token(op, op->scratch, y, 0, op->weights);
    } else {
        taps_t taps = taps_of(op, x, first_tap(op, t));
        uint32_t n = (taps.last - taps.first) * op->n_inputs;
        a8_m0plus_token(op, taps.x + n, y, n, op->weights + taps.last * op->n_inputs);
    }
}

static A8_KERNEL void run_tokens(const a8_conv1d_t *op, const int8_t *x, int8_t *y, int packed)
{
    for (uint32_t t = 0; t < op->n_output_steps; t++, y += op->n_outputs)
        run_token(op, x, t, packed, y);
}

void a8_conv1d_s8(const a8_conv1d_t *op, const int8_t *x, int8_t *y)
{
    uint32_t n_steps = op->n_output_steps, tile = a8_tile_tokens(n_steps, op->kernel * op->n_inputs);
    if (tile < BLOCK) {
        run_tokens(op, x, y, tile > 0 && (((uintptr_t)op->weights | (uintptr_t)op->rows) & 3) == 0);
        return;
    }
    for (uint32_t t = 0; t < n_steps; t += tile) {
        uint32_t n = n_steps - t < tile ? n_steps - t : tile, first = n < BLOCK ? n_steps - BLOCK : t;
        n = n < BLOCK ? BLOCK : n;
        pack_tile(op, x, first, n);
        a8_m0plus_rows(op, y + first * op->n_outputs, n);
    }
}

#ifdef A8_TARGET_PACKS
/* Biases of all outputs, room for their sums if there are several passes; then for each four outputs the pairs of their
 * weights, four words a pair, and their scales. What is missing of four outputs gives nothing that is read. */
void a8_pack_product(const a8_conv1d_t *op, uint32_t *packed)
{
    uint32_t n = a8_padded(op->n_inputs);
    uint32_t *to = packed + (n > 2 * A8_PASS_PAIRS ? 2 : 1) * a8_padded(op->n_outputs);
    const int8_t *weights = op->weights;
    for (uint32_t i = 0; i < op->n_outputs; i++, weights += n, to++) {
        memcpy(packed + i, op->rows + 8 * i, 4);
        memcpy(to + 2 * n, op->rows + 8 * i + 4, 4);
        a8_m0plus_pack(to, weights, op->n_inputs, 4 * BLOCK);
        if (i % BLOCK == BLOCK - 1)
            to += 2 * n;
    }
}
#endif

/* Without a frame of its own. */
void a8_linear_s8(const a8_conv1d_t *op, const int8_t *x, int8_t *y) __attribute__((alias("a8_conv1d_s8")));
#endif
