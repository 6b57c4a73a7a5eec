/* memcpy, memmove and memset for the bare-metal image: words where both sides are aligned, else bytes.
 * Compiled with -fno-tree-loop-distribute-patterns, or each loop below would become a call of itself. */
#include <stddef.h>
#include <stdint.h>

typedef uint32_t __attribute__((may_alias)) word_t;

#define WORD sizeof(word_t)

static int aligned(const void *a, const void *b) { return (((uintptr_t)a | (uintptr_t)b) & (WORD - 1)) == 0; }

void *memcpy(void *to, const void *from, size_t n)
{
    uint8_t *t = to;
    const uint8_t *f = from;
    if (aligned(to, from))
        for (; n >= WORD; n -= WORD, t += WORD, f += WORD)
            *(word_t *)t = *(const word_t *)f;
    for (; n > 0; n--)
        *t++ = *f++;
    return to;
}

void *memmove(void *to, const void *from, size_t n)
{
    uint8_t *t = to;
    const uint8_t *f = from;
    if (t <= f)
        return memcpy(to, from, n);
    while (n > 0) {
        n--;
        t[n] = f[n];
    }
    return to;
}

void *memset(void *to, int value, size_t n)
{
    uint8_t *t = to;
    word_t fill = (uint8_t)value * 0x01010101u;
    if (aligned(to, to))
        for (; n >= WORD; n -= WORD, t += WORD)
            *(word_t *)t = fill;
    for (; n > 0; n--)
        *t++ = (uint8_t)value;
    return to;
}
