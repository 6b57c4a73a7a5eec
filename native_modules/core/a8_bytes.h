/* Little-endian loads. The file is bytes: nothing here needs alignment. */
#ifndef A8_BYTES_H
#define A8_BYTES_H

#include <stdint.h>
#include <string.h>

static inline uint32_t a8_u16(const uint8_t *p) { return (uint32_t)p[0] | (uint32_t)p[1] << 8; }

static inline uint32_t a8_u32(const uint8_t *p) { return a8_u16(p) | a8_u16(p + 2) << 16; }

/* Inner loops take one load instead of four where target and file have one byte order and p, as it nearly always does,
 * lies where one load may: a8_word(p) if a8_is_word(p). */
#if defined(__GNUC__) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define A8_INLINE static inline __attribute__((always_inline))
#ifdef __ARM_FEATURE_UNALIGNED
#define A8_WORD_ALIGNMENT 1
#else
#define A8_WORD_ALIGNMENT 4
#endif
A8_INLINE int a8_is_word(const uint8_t *p) { return ((uintptr_t)p & (A8_WORD_ALIGNMENT - 1)) == 0; }

A8_INLINE uint32_t a8_word(const uint8_t *p)
{
    uint32_t v;
    memcpy(&v, __builtin_assume_aligned(p, A8_WORD_ALIGNMENT), 4);
    return v;
}
#else
#define A8_INLINE static inline
A8_INLINE int a8_is_word(const uint8_t *p) { return p == 0; } /* both do */
A8_INLINE uint32_t a8_word(const uint8_t *p) { return a8_u32(p); }
#endif

A8_INLINE uint32_t a8_u32_fast(const uint8_t *p) { return a8_is_word(p) ? a8_word(p) : a8_u32(p); }

static inline int32_t a8_i16(const uint8_t *p) { return ((const int8_t *)p)[1] * 256 + p[0]; }

static inline int32_t a8_i32(const uint8_t *p) { return (int32_t)a8_u32(p); }

static inline uint32_t a8_padded(uint32_t n) { return (n + 3u) & ~3u; }

#endif
