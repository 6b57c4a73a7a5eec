/* What the core needs of <string.h>, for a compiler without a C library. As macros, because -ffreestanding would
 * otherwise turn a copy of four bytes into a call. */
#ifndef A8_BARE_STRING_H
#define A8_BARE_STRING_H

#include <stddef.h>

void *memcpy(void *to, const void *from, size_t n);
void *memmove(void *to, const void *from, size_t n);
void *memset(void *to, int value, size_t n);

#define memcpy(to, from, n) __builtin_memcpy(to, from, n)
#define memmove(to, from, n) __builtin_memmove(to, from, n)
#define memset(to, value, n) __builtin_memset(to, value, n)

#endif
