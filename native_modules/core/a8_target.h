/* What the target of this build brings instead of portable kernels, and the scratch memory that its kernels want.
 * -DA8_PORTABLE builds the portable kernels for every target.
 */
#ifndef A8_TARGET_H
#define A8_TARGET_H

/* -DA8_WITHOUT_CONV1D, _ATTENTION, _NORM, _ADD, _POOL, _TABLE leave an op out, its kernels, its checks and its place in
 * a8_run; -DA8_WITHOUT_STREAM leaves streams out. Who needs them gets A8_ERR_LEFT_OUT.
 */
#define A8_HAS_LINEAR_S8 1
#ifdef A8_WITHOUT_CONV1D
#define A8_HAS_CONV1D_S8 0
#define A8_KERNELS_CONV1D_EXTERNAL /* nowhere */
#else
#define A8_HAS_CONV1D_S8 1
#endif
#ifdef A8_WITHOUT_ATTENTION
#define A8_HAS_WINDOWED_ATTENTION_S8 0
#define A8_KERNELS_ATTENTION_EXTERNAL /* nowhere */
#else
#define A8_HAS_WINDOWED_ATTENTION_S8 1
#endif
#ifdef A8_WITHOUT_NORM
#define A8_HAS_LAYER_NORM_S8 0
#define A8_KERNELS_NORM_EXTERNAL /* nowhere */
#else
#define A8_HAS_LAYER_NORM_S8 1
#endif
#ifdef A8_WITHOUT_ADD
#define A8_HAS_ADD_S8 0
#define A8_KERNELS_ADD_EXTERNAL /* nowhere */
#else
#define A8_HAS_ADD_S8 1
#endif
#ifdef A8_WITHOUT_POOL
#define A8_HAS_MEAN_POOL_S8 0
#define A8_KERNELS_POOL_EXTERNAL /* nowhere */
#else
#define A8_HAS_MEAN_POOL_S8 1
#endif
#ifdef A8_WITHOUT_TABLE
#define A8_HAS_TABLE_S8 0
#define A8_KERNELS_TABLE_EXTERNAL /* nowhere */
#else
#define A8_HAS_TABLE_S8 1
#endif

/* Says whether a code is that of an op: a constant where the op is left out, so that what follows goes with it. */
#define A8_IS(code, OP) (A8_HAS_##OP && (code) == A8_OP_##OP)

#if defined(__ARM_ARCH_6M__) && !defined(A8_PORTABLE)
#define A8_TARGET_M0PLUS
#elif defined(__ARM_FEATURE_DSP) && !defined(A8_PORTABLE)
#define A8_TARGET_ARMDSP
#elif defined(__riscv) && __riscv_xlen == 32 && !defined(A8_PORTABLE)
#define A8_TARGET_RV32
#elif defined(__XTENSA__) && !defined(A8_PORTABLE)
#define A8_TARGET_XTENSA
#endif

#ifdef A8_TARGET_M0PLUS
#define A8_KERNELS_LINEAR_EXTERNAL /* a8_m0plus_linear.c, a8_m0plus_products.S */
#define A8_KERNELS_CONV1D_EXTERNAL
#define A8_KERNELS_ATTENTION_EXTERNAL /* a8_m0plus_attention.c, a8_m0plus_attend.S */
#define A8_KERNELS_NORM_EXTERNAL /* a8_m0plus_norm.S */
#define A8_KERNELS_ADD_EXTERNAL
#define A8_KERNELS_TABLE_EXTERNAL
#define A8_KERNELS_INPUT_EXTERNAL
#ifndef A8_WITHOUT_PACKED
#define A8_TARGET_PACKS /* a8_pack_product, a8_packed_token_s8, a8_pack_key_s8: see a8_stream_packed_bytes */
#endif
#endif

#if defined(A8_TARGET_ARMDSP) || defined(A8_TARGET_RV32)
#define A8_KERNELS_LINEAR_EXTERNAL /* a8_armdsp.c, a8_rv32.c, a8_blocked.h */
#define A8_KERNELS_CONV1D_EXTERNAL
#define A8_KERNELS_PRODUCTS_EXTERNAL
#endif

#ifdef A8_TARGET_XTENSA
#define A8_KERNELS_LINEAR_EXTERNAL /* a8_xtensa.c, and with -DA8_XTENSA_MAC16 a8_xtensa_mac16.S */
#define A8_KERNELS_CONV1D_EXTERNAL
#define A8_KERNELS_PRODUCTS_EXTERNAL
#endif

#define A8_PASS_PAIRS 32 /* of weights that lie unpacked on the stack */

#ifndef __ASSEMBLER__

#include <stdint.h>

/* -DA8_IN_RAM: kernels lie in sections that the Pico SDK's linker scripts put into RAM. */
#ifdef A8_IN_RAM
#define A8_KERNEL __attribute__((section(".time_critical.a8")))
#else
#define A8_KERNEL
#endif

/* With -DA8_SCRATCH_M0PLUS or -DA8_SCRATCH_BLOCKED a host plans the arena of those targets. */
#if defined(A8_TARGET_M0PLUS) || defined(A8_SCRATCH_M0PLUS)

/* Bytes of the tokens that are packed at a time: 32 of them, for up to 128 products. */
static inline uint32_t a8_tile_bytes(uint32_t n_products) { return n_products > 2 * A8_PASS_PAIRS ? 8192 : 4096; }

/* Bytes of a packed token: a word for two products. */
static inline uint32_t a8_packed_bytes(uint32_t n_products) { return 2 * ((n_products + 3u) & ~3u); }

/* Tokens of a tile: all, or the power of two from 4 to 64 that fits, or 1 where 4 are too many, or 0 where none fits. */
uint32_t a8_tile_tokens(uint32_t n_steps, uint32_t n_products);

/* linear, conv1d: a tile; behind it first a token of a convolution with its padding, then a sum for each token if their
 * products do not fit into one pass. */
static inline uint32_t a8_product_scratch_bytes(uint32_t n_steps, uint32_t n_inputs, uint32_t kernel)
{
    uint32_t n_products = kernel * n_inputs, n = a8_tile_tokens(n_steps, n_products);
    uint32_t sums = n_products > 2 * A8_PASS_PAIRS ? 4 * n : 0;
    uint32_t padded = kernel > 1 && n > 0 ? a8_packed_bytes(n_products) / 2 : 0;
    return n * a8_packed_bytes(n_products) + (sums > padded ? sums : padded);
}

#define A8_ATTENTION_WORK_BYTES 132u
#define A8_ATTENTION_TILE_BYTES 4096u /* of packed keys and values */

/* Keys of a head that are packed at a time: all, or enough for some queries in a row. 0 where too few fit: then keys and
 * values are read as they are, which takes whole words of channels. */
uint32_t a8_attention_tile(uint32_t n_steps, uint32_t n_keys, uint32_t head_size);

/* windowed attention: n_keys = min(n_steps, left + right + 1) */
static inline uint32_t a8_attention_scratch_bytes(uint32_t n_steps, uint32_t n_keys, uint32_t head_size)
{
    uint32_t packed = 2 * a8_attention_tile(n_steps, n_keys, head_size) * a8_packed_bytes(head_size);
    return A8_ATTENTION_WORK_BYTES + ((head_size + 3u) & ~3u) + packed + 4 * ((n_keys + 4u) & ~3u);
}

#else

#if defined(A8_TARGET_ARMDSP) || defined(A8_TARGET_RV32) || defined(A8_SCRATCH_BLOCKED)

/* linear, conv1d: a block of four tokens as halfwords, if there are so many and they are not too wide. */
static inline uint32_t a8_product_scratch_bytes(uint32_t n_steps, uint32_t n_inputs, uint32_t kernel)
{
    uint32_t bytes = 8 * ((kernel * n_inputs + 3u) & ~3u);
    return n_steps >= 4 && bytes <= 4096 ? bytes : 0;
}

#else

static inline uint32_t a8_product_scratch_bytes(uint32_t n_steps, uint32_t n_inputs, uint32_t kernel)
{
    (void)n_steps;
    (void)n_inputs;
    (void)kernel;
    return 0;
}

#endif

/* windowed attention: n_keys = min(n_steps, left + right + 1) */
static inline uint32_t a8_attention_scratch_bytes(uint32_t n_steps, uint32_t n_keys, uint32_t head_size)
{
    (void)n_steps;
    (void)head_size;
    return 4 * n_keys;
}

#endif

#ifdef A8_TARGET_PACKS

/* Bytes of the weights of linear or conv1d for a packed stream, or 0 if there is no scratch for a token: a flag, a bias and
 * a scale for each output, rounded up to 4, a sum if the products take several passes, and two bytes a weight. */
static inline uint32_t a8_packed_product_bytes(uint32_t n_products, uint32_t n_outputs)
{
    uint32_t bytes = a8_packed_bytes(n_products);
    if (bytes > a8_tile_bytes(n_products))
        return 0;
    return 4 + ((n_outputs + 3u) & ~3u) * ((n_products > 2 * A8_PASS_PAIRS ? 12 : 8) + bytes);
}

/* Bytes of the packed values of a ring and of the biases of its places, twice; 0 where heads are no whole words. */
static inline uint32_t a8_packed_ring_bytes(uint32_t span, uint32_t n_channels, uint32_t heads)
{
    return n_channels / heads % 4 != 0 ? 0 : span * (2 * n_channels + 8 * heads);
}

#else

static inline uint32_t a8_packed_product_bytes(uint32_t n_products, uint32_t n_outputs)
{
    (void)n_products;
    (void)n_outputs;
    return 0;
}

static inline uint32_t a8_packed_ring_bytes(uint32_t span, uint32_t n_channels, uint32_t heads)
{
    (void)span;
    (void)n_channels;
    (void)heads;
    return 0;
}

#endif

#endif

#endif
