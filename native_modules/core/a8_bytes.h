/* Little-endian loads. The file is bytes: nothing here needs alignment but the two that say so. */
#ifndef A8_BYTES_H
#define A8_BYTES_H

#include <stdint.h>
#include <string.h>

static inline uint32_t a8_u16(const uint8_t *p) { return (uint32_t)p[0] | (uint32_t)p[1] << 8; }

static inline uint32_t a8_u32(const uint8_t *p) { return a8_u16(p) | a8_u16(p + 2) << 16; }

static inline int32_t a8_i16(const uint8_t *p) { return (int32_t)(a8_u16(p) ^ 0x8000u) - 0x8000; }

static inline int32_t a8_i32(const uint8_t *p) { return (int32_t)a8_u32(p); }

/* p is a multiple of 4: one load instead of four where the target has the byte order of the file. */
static inline uint32_t a8_u32_aligned(const uint8_t *p)
{
#if defined(__GNUC__) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    uint32_t v;
    memcpy(&v, __builtin_assume_aligned(p, 4), 4);
    return v;
#else
    return a8_u32(p);
#endif
}

static inline uint32_t a8_padded(uint32_t n) { return (n + 3u) & ~3u; }

#endif
