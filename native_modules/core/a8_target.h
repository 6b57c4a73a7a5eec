/* What the target of this build brings instead of portable kernels, and the scratch memory that its kernels want.
 * -DA8_PORTABLE builds the portable kernels for every target.
 */
#ifndef A8_TARGET_H
#define A8_TARGET_H

#include <stdint.h>

#if defined(__ARM_ARCH_6M__) && !defined(A8_PORTABLE)
#define A8_TARGET_M0PLUS
#endif

#ifdef A8_TARGET_M0PLUS
/* A8_KERNELS_<NAME>_EXTERNAL of each kernel below */
#endif

/* With -DA8_SCRATCH_M0PLUS a host plans the arena of that target. */
#if defined(A8_TARGET_M0PLUS) || defined(A8_SCRATCH_M0PLUS)

#define A8_TILE_BYTES 4096u /* of tokens that are packed at a time */

/* Bytes of one packed token: a word for two products. */
static inline uint32_t a8_packed_bytes(uint32_t n_products) { return 2 * ((n_products + 3u) & ~3u); }

/* Tokens of a tile: all, or the power of two from 4 to 64 that fits, or 1 where 4 are too many, or 0 where none fits. */
static inline uint32_t a8_tile_tokens(uint32_t n_steps, uint32_t n_products)
{
    uint32_t bytes = a8_packed_bytes(n_products), n = 64, all = (n_steps + 3u) & ~3u;
    if (n_steps >= 4 && all * bytes <= A8_TILE_BYTES)
        return all;
    while (n * bytes > A8_TILE_BYTES && n > 0)
        n /= 2;
    return n_steps >= 4 && n >= 4 ? n : n > 0;
}

/* linear, conv1d: n_steps tokens of y, sums of n_products each */
static inline uint32_t a8_product_scratch_bytes(uint32_t n_steps, uint32_t n_products)
{
    return a8_tile_tokens(n_steps, n_products) * a8_packed_bytes(n_products);
}

#else

static inline uint32_t a8_product_scratch_bytes(uint32_t n_steps, uint32_t n_products)
{
    (void)n_steps;
    (void)n_products;
    return 0;
}

#endif

/* windowed attention: n_keys = min(T, left + right + 1) */
static inline uint32_t a8_attention_scratch_bytes(uint32_t n_keys, uint32_t n_channels, uint32_t heads)
{
    (void)n_channels;
    (void)heads;
    return 4 * n_keys;
}

#endif
