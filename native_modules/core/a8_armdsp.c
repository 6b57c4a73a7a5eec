/* Products on a Cortex-M4 or M33, whose SMLAD adds two products of halfwords at once. The rows of linear and conv1d go
 * over four tokens at a time, unpacked in scratch; a token without neighbours over four rows at a time.
 */
#include "a8_target.h"

#ifdef A8_TARGET_ARMDSP

#include "a8_blocked.h"

/* LDR takes any address; LDRD and LDM, which a compiler makes of two loads through a pointer to words, do not. */
A8_INLINE uint32_t load(const void *p)
{
    uint32_t v;
    memcpy(&v, p, 4);
    return v;
}

/* The first n < 4 bytes, then zeros: the padding of a row may be anything. */
A8_INLINE uint32_t load_tail(const int8_t *p, uint32_t n)
{
    uint32_t v = 0;
    while (n > 0)
        v = v << 8 | (uint8_t)p[--n];
    return v;
}

/* Four bytes as halfwords: 0 and 2, 1 and 3. */
typedef struct {
    uint32_t even;
    uint32_t odd;
} four_t;

A8_INLINE four_t unpack(uint32_t bytes)
{
    four_t v;
    __asm__("sxtb16 %0, %1" : "=r"(v.even) : "r"(bytes));
    __asm__("sxtb16 %0, %1, ror #8" : "=r"(v.odd) : "r"(bytes));
    return v;
}

A8_INLINE int32_t bias(const uint8_t *row) { return (int32_t)load(row); }

/* Without the bias. SMLABB takes the low half of the multiplier: nothing has to cut it off. */
A8_INLINE a8_row_t load_row(const uint8_t *p)
{
    uint32_t scale = load(p + 4);
    return a8_row(0, scale, scale >> 16 & 15, scale >> 24 & 31, 0);
}

/* Of a sum that has the bias in it, cut to -128..127. What leaves int16 by `pre` is cut as it is. */
A8_INLINE uint32_t requantize(const a8_row_t *r, int32_t sum)
{
    int32_t v = sum >> r->pre, cut;
    __asm__("ssat %1, #16, %0\n\t"
            "cmp %1, %0\n\t"
            "itt eq\n\t"
            "smlabbeq %0, %0, %2, %3\n\t"
            "asreq %0, %0, %4\n\t"
            "ssat %0, #8, %0"
            : "+r"(v), "=&r"(cut)
            : "r"(r->multiplier), "r"(r->half), "r"(r->post)
            : "cc");
    return (uint32_t)v;
}

/* The clamp's lowest value in every byte. */
A8_INLINE uint32_t lowest(uint32_t clamp)
{
    return clamp == A8_CLAMP_FULL ? 0x80808080 : clamp == A8_CLAMP_KEY ? 0x81818181 : 0;
}

A8_INLINE uint32_t at_least(uint32_t bytes, uint32_t low)
{
    uint32_t t;
    __asm__("ssub8 %1, %0, %2\n\tsel %0, %0, %2" : "+r"(bytes), "=&r"(t) : "r"(low));
    return bytes;
}

/* The low byte of v in byte `at` of bytes. */
#define INSERT(bytes, v, at) __asm__("bfi %0, %1, #8*" #at ", #8" : "+r"(bytes) : "r"(v))

/* n products of four tokens, `stride` apart: a word of bytes of each becomes four words of halfwords and four more. */
static HOT void unpack_tokens(uint32_t *to, const int8_t *x, uint32_t stride, uint32_t n)
{
    for (uint32_t i = 0; i < n; i += 4, x += 4, to += 8) {
        const int8_t *p = x;
        for (uint32_t t = 0; t < TOKENS; t++, p += stride) {
            four_t v = unpack(i + 4 > n ? load_tail(p, n - i) : load(p));
            to[t] = v.even;
            to[t + TOKENS] = v.odd;
        }
    }
}

/* A word of a row and eight of the tokens. */
#define MAC_WORD \
    "ldr %[u], [%[w]], #4\n\t" \
    "ldmia %[x]!, {r8, r9, r10, r11}\n\t" \
    "sxtb16 %[v], %[u]\n\t" \
    "sxtb16 %[u], %[u], ror #8\n\t" \
    "smlad %[s0], %[v], r8, %[s0]\n\t" \
    "smlad %[s1], %[v], r9, %[s1]\n\t" \
    "smlad %[s2], %[v], r10, %[s2]\n\t" \
    "smlad %[s3], %[v], r11, %[s3]\n\t" \
    "ldmia %[x]!, {r8, r9, r10, r11}\n\t" \
    "smlad %[s0], %[u], r8, %[s0]\n\t" \
    "smlad %[s1], %[u], r9, %[s1]\n\t" \
    "smlad %[s2], %[u], r10, %[s2]\n\t" \
    "smlad %[s3], %[u], r11, %[s3]\n\t"

/* s (TOKENS,) += row w times the unpacked tokens x..end. Compilers make no LDM of this. */
A8_INLINE void mac_unpacked(int32_t *s, const int8_t *w, const uint32_t *x, const uint32_t *end)
{
    uint32_t u, v;
    __asm__ volatile("sub %[u], %[end], %[x]\n\t"
                     "tst %[u], #32\n\t"
                     "bne 2f\n"
                     "1:\n\t" MAC_WORD "2:\n\t" MAC_WORD "cmp %[x], %[end]\n\t"
                     "bne 1b"
                     : [s0] "+r"(s[0]), [s1] "+r"(s[1]), [s2] "+r"(s[2]), [s3] "+r"(s[3]), [w] "+r"(w), [x] "+r"(x),
                       [u] "=&r"(u), [v] "=&r"(v)
                     : [end] "r"(end)
                     : "r8", "r9", "r10", "r11", "cc", "memory");
}

/* The output tokens of those that are unpacked in scratch up to `end`. */
static HOT void run_unpacked(const a8_conv1d_t *op, const uint32_t *end, int8_t *y)
{
    const uint32_t *x = op->scratch;
    uint32_t row_bytes = (uint32_t)(end - x) / 2, n_outputs = op->n_outputs, low = lowest(op->clamp);
    const uint8_t *row = op->rows, *last = row + 8 * n_outputs;
    for (const int8_t *w = op->weights; row != last; row += 8, w += row_bytes, y++) {
        int32_t b = bias(row), s[TOKENS] = {b, b, b, b};
        mac_unpacked(s, w, x, end);
        a8_row_t r = load_row(row);
        y[0] = (int8_t)at_least(requantize(&r, s[0]), low);
        y[n_outputs] = (int8_t)at_least(requantize(&r, s[1]), low);
        y[2 * n_outputs] = (int8_t)at_least(requantize(&r, s[2]), low);
        y[3 * n_outputs] = (int8_t)at_least(requantize(&r, s[3]), low);
    }
}

static NOINLINE void run_tokens(const a8_conv1d_t *op, const int8_t *x, int8_t *y)
{
    uint32_t *unpacked = op->scratch, n = op->kernel * op->n_inputs;
    unpack_tokens(unpacked, x, op->stride * op->n_inputs, n);
    run_unpacked(op, unpacked + 2 * a8_padded(n), y);
}

#define MAC_TOKEN_ROW(w, sum) \
    "ldr %[u], " w "\n\t" \
    "sxtb16 %[v], %[u]\n\t" \
    "sxtb16 %[u], %[u], ror #8\n\t" \
    "smlad " sum ", %[v], %[even], " sum "\n\t" \
    "smlad " sum ", %[u], %[odd], " sum "\n\t"
#define MAC_TOKEN \
    "ldr %[even], [%[x]], #4\n\t" \
    "sxtb16 %[odd], %[even], ror #8\n\t" \
    "sxtb16 %[even], %[even]\n\t" \
    MAC_TOKEN_ROW("[%[w], %[step]]", "%[s1]") MAC_TOKEN_ROW("[%[w], %[step], lsl #1]", "%[s2]") \
    MAC_TOKEN_ROW("[%[w], %[step3]]", "%[s3]") MAC_TOKEN_ROW("[%[w]], #4", "%[s0]")

/* sums (4,) += rows w, w + step, ... times the words x..end, at any address. */
A8_INLINE void mac_token(int32_t *s, const int8_t *w, uint32_t step, const int8_t *x, const int8_t *end)
{
    uint32_t u, v, even, odd;
    __asm__ volatile("ldr %[u], %[end]\n\t"
                     "subs %[u], %[u], %[x]\n\t"
                     "tst %[u], #4\n\t"
                     "bne 2f\n"
                     "1:\n\t" MAC_TOKEN "2:\n\t" MAC_TOKEN
                     "ldr %[u], %[end]\n\t"
                     "cmp %[x], %[u]\n\t"
                     "bne 1b"
                     : [s0] "+r"(s[0]), [s1] "+r"(s[1]), [s2] "+r"(s[2]), [s3] "+r"(s[3]), [w] "+r"(w), [x] "+r"(x),
                       [u] "=&r"(u), [v] "=&r"(v), [even] "=&r"(even), [odd] "=&r"(odd)
                     : [end] "m"(end), [step] "r"(step), [step3] "r"(3 * step)
                     : "cc", "memory");
}

/* The same for n products. */
A8_INLINE void mac_rows(int32_t *s, const int8_t *w, uint32_t step, const int8_t *x, uint32_t n)
{
    uint32_t i = n & ~3u;
    if (i > 0)
        mac_token(s, w, step, x, x + i);
    for (; i < n; i++)
        for (uint32_t row = 0; row < 4; row++)
            s[row] = (int32_t)((uint32_t)s[row] + (uint32_t)(x[i] * w[row * step + i]));
}

A8_INLINE uint32_t requantize_row(const uint8_t *row, int32_t sum)
{
    a8_row_t r = load_row(row);
    return requantize(&r, sum);
}

/* run_token with fewer than four rows. */
static NOINLINE void run_few(const a8_conv1d_t *op, const int8_t *x, uint32_t from, uint32_t n, int8_t *y)
{
    const int8_t *w = op->weights + from;
    for (uint32_t row = 0; row < op->n_outputs; row++, w += a8_padded(op->kernel * op->n_inputs)) {
        const uint8_t *p = op->rows + 8 * row;
        uint32_t sum = (uint32_t)bias(p);
        for (uint32_t i = 0; i < n; i++)
            sum += (uint32_t)(x[i] * w[i]);
        y[row] = (int8_t)at_least(requantize_row(p, (int32_t)sum), lowest(op->clamp));
    }
}

/* With four or more: the last four may overlap those before them. */
static HOT void run_fours(const a8_conv1d_t *op, const int8_t *x, uint32_t from, uint32_t n, int8_t *y)
{
    uint32_t row_bytes = a8_padded(op->kernel * op->n_inputs), n_outputs = op->n_outputs, low = lowest(op->clamp);
    for (uint32_t i = 0; i < n_outputs; i += 4) {
        uint32_t row = i + 4 > n_outputs ? n_outputs - 4 : i, v;
        const uint8_t *rows = op->rows + 8 * row;
        int32_t s[4] = {bias(rows), bias(rows + 8), bias(rows + 16), bias(rows + 24)};
        mac_rows(s, op->weights + row * row_bytes + from, row_bytes, x, n);
        v = requantize_row(rows, s[0]);
        INSERT(v, requantize_row(rows + 8, s[1]), 1);
        INSERT(v, requantize_row(rows + 16, s[2]), 2);
        INSERT(v, requantize_row(rows + 24, s[3]), 3);
        v = at_least(v, low);
        memcpy(y + row, &v, 4);
    }
}

A8_INLINE void run_token(const a8_conv1d_t *op, const int8_t *x, uint32_t from, uint32_t n, int8_t *y)
{
    if (op->n_outputs < 4)
        run_few(op, x, from, n, y);
    else
        run_fours(op, x, from, n, y);
}

#ifndef A8_KERNELS_ATTENTION_EXTERNAL
/* sum + the four products */
A8_INLINE int32_t mac(int32_t sum, four_t a, four_t b)
{
    __asm__("smlad %0, %1, %2, %0" : "+r"(sum) : "r"(a.even), "r"(b.even));
    __asm__("smlad %0, %1, %2, %0" : "+r"(sum) : "r"(a.odd), "r"(b.odd));
    return sum;
}

A8_INLINE int32_t add_scores(int32_t *scores, const int32_t *end, const void *from, const int8_t *q, const int8_t *k,
                          uint32_t stride, uint32_t n)
{
    four_t q0 = unpack(n > 1 ? load(q) : 0), q4 = unpack(n > 4 ? load(q + 4) : 0);
    const uint8_t *start = from;
    int32_t most = INT32_MIN;
    for (; scores != end; k += stride, start += 4) {
        int32_t s = (int32_t)load(start);
        if (n == 1)
            s = (int32_t)((uint32_t)s + (uint32_t)(*q * *k));
        if (n > 1)
            s = mac(s, unpack(load(k)), q0);
        if (n > 4)
            s = mac(s, unpack(load(k + 4)), q4);
        *scores++ = s;
        most = s > most ? s : most;
    }
    return most;
}

/* s (4,) += e times four values of one key and, as f, of another. */
A8_INLINE void mac_values(int32_t *s, uint32_t e, uint32_t f, uint32_t values, uint32_t others)
{
    uint32_t weights, low, high;
    four_t a, b;
    __asm__("pkhbt %0, %1, %2, lsl #16" : "=r"(weights) : "r"(e), "r"(f));
    __asm__("pkhbt %0, %1, %2, lsl #16" : "=r"(low) : "r"(values), "r"(others));
    __asm__("pkhtb %0, %1, %2, asr #16" : "=r"(high) : "r"(others), "r"(values));
    a = unpack(low); /* channel 0 of both, channel 1 of both */
    b = unpack(high);
    __asm__("smlad %0, %1, %2, %0" : "+r"(s[0]) : "r"(a.even), "r"(weights));
    __asm__("smlad %0, %1, %2, %0" : "+r"(s[1]) : "r"(a.odd), "r"(weights));
    __asm__("smlad %0, %1, %2, %0" : "+r"(s[2]) : "r"(b.even), "r"(weights));
    __asm__("smlad %0, %1, %2, %0" : "+r"(s[3]) : "r"(b.odd), "r"(weights));
}

A8_INLINE void sum_values(int32_t *s, const int32_t *e, const int32_t *end, const int8_t *v, uint32_t stride)
{
    if ((uint32_t)(end - e) & 1) {
        mac_values(s, (uint32_t)*e++, 0, load(v), 0);
        v += stride;
    }
    for (; e != end; e += 2, v += 2 * stride)
        mac_values(s, (uint32_t)e[0], (uint32_t)e[1], load(v), load(v + stride));
}

/* The last four channels may overlap those before them. */
HOT void a8_attention_values(const a8_values_t *op, const a8_row_t *row, int8_t *y)
{
    a8_row_t r = *row;
    uint32_t size = op->head_size, b = (uint32_t)row->bias;
    for (uint32_t i = 0; size < 4 && i < size; i++)
        y[i] = (int8_t)requantize(&r, (int32_t)((uint32_t)sum_of_channel(op, i) + b));
    for (uint32_t i = 0; size >= 4 && i < size; i += 4) {
        uint32_t c = i + 4 > size ? size - 4 : i, v;
        int32_t s[4] = {(int32_t)b, (int32_t)b, (int32_t)b, (int32_t)b};
        sum_values(s, op->e, op->middle, op->v + c, op->stride);
        if (op->middle != op->end)
            sum_values(s, op->middle, op->end, op->newer + c, op->stride);
        v = requantize(&r, s[0]);
        INSERT(v, requantize(&r, s[1]), 1);
        INSERT(v, requantize(&r, s[2]), 2);
        INSERT(v, requantize(&r, s[3]), 3);
        memcpy(y + c, &v, 4);
    }
}
#endif
#endif
