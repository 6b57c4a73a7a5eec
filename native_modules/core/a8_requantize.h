/* What the kernels of all targets share: requantizing, the division of attention, and how functions are compiled. */
#ifndef A8_REQUANTIZE_H
#define A8_REQUANTIZE_H

#include "a8_bytes.h"
#include "a8_kernels.h"

/* The loops of a channel or row keep their few values in registers only while they are functions of their own. Firmware
 * and natmods are built with -Os: HOT marks the loops over products, where that costs a seventh of the time. The first
 * scheduler of RISC-V and Xtensa takes more registers than there are. */
#ifdef __GNUC__
#define NOINLINE A8_KERNEL __attribute__((noinline))
#else
#define NOINLINE
#endif
#if !defined(__GNUC__) || defined(__clang__)
#define HOT NOINLINE
#elif defined(A8_TARGET_RV32) || defined(A8_TARGET_XTENSA)
#define HOT NOINLINE __attribute__((optimize("O2", "no-schedule-insns")))
#else
#define HOT NOINLINE __attribute__((optimize("O2")))
#endif

A8_INLINE int32_t a8_lowest(uint32_t clamp) { return clamp == A8_CLAMP_FULL ? -128 : clamp == A8_CLAMP_KEY ? -127 : 0; }

A8_INLINE a8_row_t a8_row(uint32_t bias, uint32_t multiplier, uint32_t pre, uint32_t post, int32_t low)
{
    a8_row_t r = {bias, (int32_t)multiplier, pre, post, (uint32_t)1 << post >> 1, low};
    return r;
}

/* The row at p, at any address. */
A8_INLINE a8_row_t a8_row_at(const uint8_t *p, int32_t low)
{
    int fast = a8_is_word(p);
    uint32_t bias = fast ? a8_word(p) : a8_u32(p), scale = fast ? a8_word(p + 4) : a8_u32(p + 4);
    return a8_row(bias, scale & 0xFFFF, scale >> 16 & 15, scale >> 24 & 31, low);
}

static inline int32_t a8_clamp(int32_t v, int32_t low, int32_t high) { return v > high ? high : v < low ? low : v; }

/* Of a sum that has the bias in it. What leaves int16 by `pre` is cut as it is. */
A8_INLINE int8_t a8_requantize_biased(const a8_row_t *r, uint32_t sum)
{
    int32_t v = (int32_t)sum >> r->pre;
    if ((uint32_t)v + 32768u > 65535u)
        return (int8_t)(v < 0 ? r->low : 127);
    v = (int32_t)((uint32_t)(v * r->multiplier) + r->half) >> r->post;
    return (int8_t)(v > 127 ? 127 : v < r->low ? r->low : v);
}

static A8_KERNEL inline int8_t a8_requantize(const a8_row_t *r, int32_t sum)
{
    return a8_requantize_biased(r, (uint32_t)sum + r->bias);
}

#endif
