/* Little-endian loads. The file is bytes: nothing here needs alignment. */
#ifndef A8_BYTES_H
#define A8_BYTES_H

#include <stdint.h>
#include <string.h>

static inline uint32_t a8_u16(const uint8_t *p) { return (uint32_t)p[0] | (uint32_t)p[1] << 8; }

static inline uint32_t a8_u32(const uint8_t *p) { return a8_u16(p) | a8_u16(p + 2) << 16; }

/* The same for inner loops: one load instead of four where target and file have one byte order and p is, as it nearly
 * always is, a multiple of 4. */
#ifdef __GNUC__
__attribute__((always_inline))
#endif
static inline uint32_t a8_u32_fast(const uint8_t *p)
{
#if defined(__GNUC__) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    if (((uintptr_t)p & 3) == 0) {
        uint32_t v;
        memcpy(&v, __builtin_assume_aligned(p, 4), 4);
        return v;
    }
#endif
    return a8_u32(p);
}

static inline int32_t a8_i16(const uint8_t *p) { return (int32_t)(a8_u16(p) ^ 0x8000u) - 0x8000; }

static inline int32_t a8_i32(const uint8_t *p) { return (int32_t)a8_u32(p); }

static inline uint32_t a8_padded(uint32_t n) { return (n + 3u) & ~3u; }

#endif
