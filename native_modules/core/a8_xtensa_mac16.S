/* Products on the MAC16 unit of an ESP32 or ESP32-S3: two 16-bit halves a register, a 40-bit accumulator. A byte in the
 * upper half of 16 bits stands for 256 times its value, which takes one mask for two bytes: bytes 1 and 3 of a word as
 * it is, 0 and 2 of the word shifted by 8. With both factors so, the sum of up to 256 products is 65536 times as large
 * and still fits.
 *
 * The loads of MAC16 read a word ahead: one word behind the tile and behind the copy of a row is read, never used.
 */
#include "a8_target.h"

#if defined(A8_TARGET_XTENSA) && defined(A8_XTENSA_MAC16)

/* mac16_t */
#define WEIGHTS 0
#define ROWS 4
#define Y 8
#define TILE 12
#define ROW_WORDS 16
#define N_OUTPUTS 20
#define N_TOKENS 24
#define LOW 28
#define COPY 32
#define STRIDE 36

    .text
    .literal_position

/* void a8_xtensa_rows(mac16_t *m): all outputs of n_tokens packed tokens, a row at a time. It moves weights, rows, y
 * and n_outputs. TILE and COPY point to 4 bytes before. */
    .align 4
    .global a8_xtensa_rows
    .type a8_xtensa_rows, @function
a8_xtensa_rows:
    entry a1, 32
    l32i a8, a2, ROW_WORDS
    l32i a10, a2, STRIDE
.Lrow:
    l32i a3, a2, WEIGHTS
    l32i a7, a2, COPY
    movi a4, 0xFF00FF00
    loopnez a8, .Lcopied
    l32i a5, a3, 0
    addi a3, a3, 4
    slli a6, a5, 8
    and a6, a6, a4
    and a5, a5, a4
    s32i a6, a7, 4
    s32i a5, a7, 8
    addi a7, a7, 8
.Lcopied:
    s32i a3, a2, WEIGHTS
    l32i a3, a2, ROWS
    l32i a5, a2, Y
    l32i a11, a3, 0          /* bias */
    l32i a15, a3, 4
    addi a3, a3, 8
    s32i a3, a2, ROWS
    addi a3, a5, 1
    s32i a3, a2, Y
    extui a13, a15, 0, 16    /* multiplier */
    extui a14, a15, 16, 4    /* pre */
    extui a15, a15, 24, 5
    addi a15, a15, -1        /* post - 1; ssr takes 5 bits */
    movi a12, 0
    l32i a6, a2, TILE
    l32i a9, a2, N_TOKENS
.Ltoken:
    wsr.acclo a12
    wsr.acchi a12
    l32i a7, a2, COPY
    ldinc m0, a6
    ldinc m2, a7
    loopnez a8, .Lsummed
    mula.dd.ll.ldinc m1, a6, m0, m2
    mula.dd.hh.ldinc m3, a7, m0, m2
    mula.dd.ll.ldinc m0, a6, m1, m3
    mula.dd.hh.ldinc m2, a7, m1, m3
.Lsummed:
    addi a6, a6, -4          /* back by the word ahead */
    rsr.acclo a3
    rsr.acchi a4
    ssai 16
    src a3, a4, a3
    add a3, a3, a11
    ssr a14
    sra a3, a3
    clamps a4, a3, 15
    bne a3, a4, .Lclamp
    mull a3, a3, a13
    ssr a15
    sra a3, a3
    addi a3, a3, 1
    srai a3, a3, 1
.Lclamp:
    l32i a4, a2, LOW
    clamps a3, a3, 7
    max a3, a3, a4
    s8i a3, a5, 0
    add a5, a5, a10
    addi a9, a9, -1
    bnez a9, .Ltoken
    l32i a3, a2, N_OUTPUTS
    addi a3, a3, -1
    s32i a3, a2, N_OUTPUTS
    bnez a3, .Lrow
    retw

/* uint32_t a8_xtensa_dot(const void *weights, uint32_t words, const uint32_t *x): x points to 4 bytes before. */
    .align 4
    .global a8_xtensa_dot
    .type a8_xtensa_dot, @function
a8_xtensa_dot:
    entry a1, 32
    movi a7, 0
    wsr.acclo a7
    wsr.acchi a7
    movi a7, 0xFF00FF00
    ldinc m0, a4
    loopnez a3, .Ldone
    l32i a5, a2, 0
    addi a2, a2, 4
    slli a6, a5, 8
    and a6, a6, a7
    mula.da.ll.ldinc m1, a4, m0, a6
    mula.da.hh m0, a6
    and a5, a5, a7
    mula.da.ll.ldinc m0, a4, m1, a5
    mula.da.hh m1, a5
.Ldone:
    rsr.acclo a5
    rsr.acchi a6
    ssai 16
    src a2, a6, a5
    retw
#endif
