/* Products of int8 weights and tokens on a Cortex-M0+: see a8_m0plus_linear.c. Position-independent, no literals with
 * addresses; what is global is called from C, but for a8_m0plus_save, _restore and _row, which are for assembly.
 *
 * The packed multiply: A = a0 + 65536*a1 and B = b1 + 65536*b0 make A*B whose upper half is a0*b0 + a1*b1, less a borrow
 * if the cross term a0*b1 is negative. ASRS by 16 leaves that borrow in the carry and ADCS adds it again: two products
 * in three cycles, exact while no weight is -128.
 */
#include "a8_target.h"

#ifdef A8_TARGET_M0PLUS
    .syntax unified
    .cpu cortex-m0plus
    .thumb
#ifdef A8_IN_RAM
    .section .time_critical.a8_m0plus_products, "ax", %progbits
#else
    .section .text.a8_m0plus_products, "ax", %progbits
#endif

/* a8_conv1d_t */
#define OP_ROWS 0
#define OP_WEIGHTS 4
#define OP_N_INPUTS 12
#define OP_N_OUTPUTS 20
#define OP_KERNEL 24
#define OP_CLAMP 36
#define OP_SCRATCH 40

/* Frame of the rows: first the pairs of weights of a pass, the last one at index PAIRS - 1 */
#define PAIRS A8_PASS_PAIRS
#define PAIR_CODE 30 /* bytes of the body for a pair */
#define F_BIAS (4 * PAIRS)
#define F_SCALE (4 * PAIRS + 4) /* multiplier << 16 | post << 8 | pre */
#define F_LOW (4 * PAIRS + 8)
#define F_Y_STRIDE (4 * PAIRS + 12)
#define F_END (4 * PAIRS + 16)  /* of the blocks until y goes back */
#define F_END2 (4 * PAIRS + 20) /* of all blocks */
#define F_SUMS (4 * PAIRS + 24)
#define F_ENTRY (4 * PAIRS + 28)
#define F_SKIP (4 * PAIRS + 32)   /* from the end of a pass in a block to its start in the next */
#define F_TOKENS (4 * PAIRS + 36) /* of the next pass */
#define F_LEFT (4 * PAIRS + 40)   /* pairs of the row that are left behind this pass */
#define F_WEIGHTS (4 * PAIRS + 44)
#define F_OP (4 * PAIRS + 48)
#define F_ROWS (4 * PAIRS + 52)
#define F_N_ROWS (4 * PAIRS + 56)
#define F_Y (4 * PAIRS + 60)
#define F_SPAN (4 * PAIRS + 64) /* bytes of all blocks */
#define F_BLOCK_BYTES (4 * PAIRS + 68)
#define F_BACK (4 * PAIRS + 72) /* bytes that y goes back before the last block */
#define FRAME (4 * PAIRS + 76)

/* A token and packed weights: F_LEFT is negative */
#define P_LEFT F_END2

    .macro SCALE lane, scale /* a sum, in a register of that number; changes r3, scale */
    lsrs r3, \scale, #16
    asrs r\lane, r3
    sxth r3, r\lane
    cmp r3, r\lane
    bne packed_wide\lane
    uxth r3, \scale
    muls r\lane, r3, r\lane
    lsrs r3, \scale, #24
    asrs r\lane, r3
    movs r3, #0
    adcs r\lane, r3
packed_shifted\lane:
    .endm

/* r0: tokens, r4-r7: sums of four of them; leaves through r11 */
body:
    .set i, 0
    .rept PAIRS
    ldr r1, [sp, #4 * i]
    ldm r0!, {r2, r3}
    muls r2, r1, r2
    asrs r2, r2, #16
    adcs r4, r2
    muls r3, r1, r3
    asrs r3, r3, #16
    adcs r5, r3
    ldm r0!, {r2, r3}
    muls r2, r1, r2
    asrs r2, r2, #16
    adcs r6, r2
    muls r3, r1, r3
    asrs r3, r3, #16
    adcs r7, r3
    .set i, i + 1
    .endr
body_end:
    bx r11

block:
    ldr r4, [sp, #F_BIAS]
    movs r5, r4
    movs r6, r4
    movs r7, r4
    bx r10

/* r10 of every pass but the first: goes on from the sums. */
from_sums:
    ldr r1, [sp, #F_SUMS]
    ldm r1!, {r4-r7}
    str r1, [sp, #F_SUMS]
    ldr r1, [sp, #F_ENTRY]
    bx r1

/* r11 of every pass but the last. r9: where the sums go, r12: end of the tokens, lr: skip */
to_sums:
    mov r1, r9
    stm r1!, {r4-r7}
    mov r9, r1
    add r0, lr
    cmp r0, r12
    bne block
    b next_pass

/* r11 of the last pass of several, and of a pass that is the only one. r9: y, r12: multiplier, lr: half */
requantize_skip:
    ldr r1, [sp, #F_SKIP]
    adds r0, r0, r1
requantize:
    mov r8, r0
    ldr r0, [sp, #F_SCALE]
    lsrs r3, r0, #8
    mov r1, r12
    .irp lane, 4, 5, 6, 7
    asrs r\lane, r0
    sxth r2, r\lane
    cmp r2, r\lane
    bne saturate\lane
    muls r\lane, r1, r\lane
    add r\lane, lr
    asrs r\lane, r3
shifted\lane:
    .endr
    mov r0, r9
    ldr r1, [sp, #F_Y_STRIDE]
    ldr r2, [sp, #F_LOW]
    lsls r3, r1, #1
    .irp lane, 4, 5, 6, 7
    cmp r\lane, r2
    blt low\lane
    cmp r\lane, #127
    bgt high\lane
clamped\lane:
    .if \lane == 4 || \lane == 6
    strb r\lane, [r0]
    .else
    strb r\lane, [r0, r1]
    adds r0, r0, r3
    .endif
    .endr
    mov r9, r0
    mov r0, r8
    ldr r1, [sp, #F_END]
    cmp r0, r1
    bne block
    ldr r1, [sp, #F_END2]
    cmp r0, r1
    beq row_done
    str r1, [sp, #F_END]
    ldr r2, [sp, #F_BACK]
    mov r1, r9
    subs r1, r1, r2
    mov r9, r1
    b block
    .irp lane, 4, 5, 6, 7
saturate\lane:
    asrs r\lane, r\lane, #31
    movs r2, #127
    eors r\lane, r2
    b shifted\lane
low\lane:
    movs r\lane, r2
    b clamped\lane
high\lane:
    movs r\lane, #127
    b clamped\lane
    .endr

row_done:
    ldr r0, [sp, #F_Y]
    adds r0, #1
    str r0, [sp, #F_Y]
    ldr r0, [sp, #F_N_ROWS]
    subs r0, #1
    str r0, [sp, #F_N_ROWS]
    bne next_row
done:
    add sp, #FRAME
/* Returns from a function that began with push {r4-r7, lr} and a8_m0plus_save. */
    .global a8_m0plus_restore
    .type a8_m0plus_restore, %function
    .thumb_func
a8_m0plus_restore:
    pop {r4-r7}
    mov r8, r4
    mov r9, r5
    mov r10, r6
    mov r11, r7
    pop {r4-r7, pc}

/* Pushes r8-r11; changes r4-r7 */
    .global a8_m0plus_save
    .type a8_m0plus_save, %function
    .thumb_func
a8_m0plus_save:
    mov r4, r8
    mov r5, r9
    mov r6, r10
    mov r7, r11
    push {r4-r7}
    bx lr

/* void a8_m0plus_rows(const a8_conv1d_t *op, int8_t *y, uint32_t n): the n >= 4 tokens that are packed in scratch */
    .global a8_m0plus_rows
    .type a8_m0plus_rows, %function
    .thumb_func
a8_m0plus_rows:
#ifdef A8_TARGET_PACKS
    movs r3, #0
/* void a8_packed_token_s8(const a8_conv1d_t *op, int8_t *y, const int8_t *x, uint32_t *packed): the token takes the place
 * of a row, and the rows that of tokens */
    .global a8_packed_token_s8
    .type a8_packed_token_s8, %function
    .thumb_func
a8_packed_token_s8:
#endif
    push {r4-r7, lr}
    bl a8_m0plus_save
    sub sp, #FRAME
    movs r7, r0
    str r0, [sp, #F_OP]
    str r1, [sp, #F_Y]
    movs r5, r3
    bl low_of
    str r1, [sp, #F_LOW]
    ldr r4, [r7, #OP_N_OUTPUTS]
#ifdef A8_TARGET_PACKS
    cmp r5, #0
    beq 1f
    b packed_token
1:
#endif
    str r4, [sp, #F_Y_STRIDE]
    str r4, [sp, #F_N_ROWS]
    movs r0, #3
    adds r1, r2, r0
    bics r1, r0 /* tokens with those that are computed twice */
    subs r2, r1, r2
    muls r2, r4, r2
    str r2, [sp, #F_BACK]
    bl pairs_of
    lsls r2, r0, #4
    str r2, [sp, #F_BLOCK_BYTES]
    lsls r2, r0, #2
    muls r2, r1, r2
    str r2, [sp, #F_SPAN]
    ldr r1, [r7, #OP_WEIGHTS]
    str r1, [sp, #F_WEIGHTS]
    ldr r6, [r7, #OP_ROWS]
    movs r7, #0
    b row
next_row:
    movs r7, #1
    ldr r6, [sp, #F_ROWS]
row:
    bl a8_m0plus_row
    str r6, [sp, #F_ROWS]
    str r4, [sp, #F_BIAS]
    movs r0, #16
    rors r5, r0
    str r5, [sp, #F_SCALE]
    ldr r6, [sp, #F_WEIGHTS]
    ldr r2, [sp, #F_BLOCK_BYTES]
    lsrs r1, r2, #4
    cmp r7, #0
    beq 1f
    cmp r1, #PAIRS
    bhi 1f
    /* the only pass of a row that is not the first: registers and frame are as they were */
    ldr r3, [sp, #F_BACK]
    cmp r3, #0
    beq unpack
    ldr r0, [sp, #F_END2]
    subs r0, r0, r2
    str r0, [sp, #F_END]
    b unpack
1:  movs r5, r1
    ldr r7, [sp, #F_OP]
    ldr r0, [r7, #OP_SCRATCH]
    movs r4, #0
    b pass
next_pass:
    ldr r7, [sp, #F_OP]
    ldr r0, [sp, #F_TOKENS]
    ldr r5, [sp, #F_LEFT]
    ldr r6, [sp, #F_WEIGHTS]
    movs r4, #1

/* r0: tokens, r4: whether there are sums, r5: pairs left, r6: weights, r7: op */
pass:
    ldr r1, [sp, #F_SPAN]
    adds r1, r0, r1
    str r1, [sp, #F_END2]
    mov r12, r1
    ldr r2, [sp, #F_BLOCK_BYTES]
    ldr r3, [sp, #F_BACK]
    cmp r3, #0
    beq 1f
    subs r1, r1, r2
1:  str r1, [sp, #F_END]
    movs r1, #PAIRS
    cmp r5, r1
    bhs 2f
    movs r1, r5
2:  subs r5, r5, r1
    str r5, [sp, #F_LEFT]
    lsls r3, r1, #4
    adds r0, r0, r3
    str r0, [sp, #F_TOKENS]
    subs r2, r2, r3
    str r2, [sp, #F_SKIP]
    mov lr, r2
    adr r2, base
    movs r0, #PAIR_CODE
    muls r0, r1, r0
    ldr r3, [r2, #body_at - base]
    adds r3, r2, r3
    subs r3, r3, r0
    str r3, [sp, #F_ENTRY]
    ldr r0, [r7, #OP_SCRATCH]
    ldr r7, [sp, #F_SPAN]
    adds r0, r0, r7
    str r0, [sp, #F_SUMS]
    mov r9, r0
    ldr r0, [r2, #requantize_at - base]
    cmp r4, #0
    beq 3f
    ldr r3, [r2, #from_sums_at - base]
    adds r3, r2, r3
    ldr r0, [r2, #requantize_skip_at - base]
3:  mov r10, r3
    cmp r5, #0
    beq 4f
    ldr r0, [r2, #to_sums_at - base]
4:  adds r0, r2, r0
    mov r11, r0

/* r1: pairs of this pass, r6: weights. Rows at no multiple of 4 are first copied to where the pairs end: unpacking never
 * overtakes what it reads. */
unpack:
    adr r2, base
    ldr r4, [r2, #mask - base]
    ldr r5, [r2, #flip - base]
    ldr r0, [r2, #unflip - base]
    mov r8, r0
    lsls r0, r1, #1
    adds r0, r0, r6
    str r0, [sp, #F_WEIGHTS]
    add r7, sp, #4 * PAIRS
    lsls r2, r1, #2
    subs r3, r7, r2
    lsls r0, r6, #30
    beq 6f
    lsrs r2, r2, #1
    subs r3, r7, r2
5:  subs r2, #1
    ldrb r0, [r6, r2]
    strb r0, [r3, r2]
    bne 5b
    lsls r2, r1, #1
    subs r6, r7, r2
    subs r3, r6, r2
6:  lsls r0, r1, #30
    beq unpack_words
    ldm r6!, {r1}
    b unpack_second
unpack_words:
    ldm r6!, {r1, r2}
    eors r1, r5
    movs r0, r1
    ands r0, r4
    add r0, r8
    lsrs r1, r1, #8
    ands r1, r4
    add r1, r8
    stm r3!, {r0, r1}
    movs r1, r2
unpack_second:
    eors r1, r5
    movs r0, r1
    ands r0, r4
    add r0, r8
    lsrs r1, r1, #8
    ands r1, r4
    add r1, r8
    stm r3!, {r0, r1}
    cmp r3, r7
    bne unpack_words

    ldr r0, [sp, #F_END2]
    ldr r1, [sp, #F_SPAN]
    subs r0, r0, r1
    ldr r5, [sp, #F_LEFT]
    cmp r5, #0
    bne 7f
    ldr r1, [sp, #F_Y]
    mov r9, r1
    ldr r1, [sp, #F_SCALE]
    lsrs r2, r1, #16
    mov r12, r2
    lsrs r1, r1, #8
    subs r1, #1
    movs r2, #1
    lsls r2, r1
    mov lr, r2
    b block
7:
#ifdef A8_TARGET_PACKS
    bmi packed_unpacked
#endif
    b block

#ifdef A8_TARGET_PACKS
/* r2: token, r4: outputs, r5: biases, sums and weights, r7: op */
packed_token:
    str r2, [sp, #F_WEIGHTS]
    str r5, [sp, #F_BIAS]
    bl pairs_of
    str r0, [sp, #P_LEFT]
    adds r1, r0, #1
    lsls r1, r1, #4
    str r1, [sp, #F_BLOCK_BYTES] /* of four rows and their scales */
    adds r4, #3
    lsrs r4, r4, #2
    muls r1, r4, r1
    str r1, [sp, #F_SPAN]
    lsls r4, r4, #4
    mvns r1, r4
    str r1, [sp, #F_LEFT]
    adds r5, r5, r4
    str r5, [sp, #F_SUMS]
    cmp r0, #PAIRS
    bls packed_pass
    adds r5, r5, r4
packed_pass: /* r5: weights */
    str r5, [sp, #F_TOKENS]
    ldr r4, [sp, #F_BLOCK_BYTES]
    movs r1, #PAIRS
    ldr r2, [sp, #F_SUMS]
    adr r3, packed_sums
    ldr r0, [sp, #P_LEFT]
    subs r0, r0, r1
    bhi 1f
    adds r1, r1, r0
    subs r4, #16
    ldr r2, [sp, #F_Y]
    adr r3, packed_requantize
1:  str r0, [sp, #P_LEFT]
    mov r9, r2
    adds r3, #1
    mov r11, r3
    lsls r0, r1, #4
    subs r4, r4, r0
    mov lr, r4 /* from the end of a pass in a block to its start in the next */
    ldr r0, [sp, #F_SPAN]
    adds r0, r0, r5
    mov r12, r0
    adr r2, base
    movs r0, #PAIR_CODE
    muls r0, r1, r0
    ldr r3, [r2, #body_at - base]
    adds r3, r2, r3
    subs r3, r3, r0
    mov r10, r3
    ldr r6, [sp, #F_WEIGHTS]
    b unpack
packed_unpacked:
    ldr r0, [sp, #F_BIAS]
    mov r8, r0
    ldr r0, [sp, #F_SUMS]
    str r0, [sp, #F_BIAS]
    ldr r0, [sp, #F_TOKENS]
packed_block:
    mov r1, r8
    ldm r1!, {r4-r7}
    mov r8, r1
    bx r10

    .align 2
packed_sums:
    mov r1, r9
    stm r1!, {r4-r7}
    mov r9, r1
    add r0, lr
    cmp r0, r12
    bne packed_block
    ldr r5, [sp, #F_TOKENS]
    movs r0, #PAIRS
    lsls r0, r0, #4
    adds r5, r5, r0
    b packed_pass

    .align 2
packed_requantize:
    ldm r0!, {r1, r2}
    SCALE 4, r1
    SCALE 5, r2
    ldm r0!, {r1, r2}
    SCALE 6, r1
    SCALE 7, r2
    ldr r1, [sp, #F_LOW]
    mov r2, r9
    .irp lane, 4, 5, 6, 7
    cmp r\lane, r1
    blt packed_low\lane
    cmp r\lane, #127
    bgt packed_high\lane
packed_clamped\lane:
    strb r\lane, [r2, #\lane - 4]
    .endr
    adds r2, #4
    mov r9, r2
    add r0, lr
    cmp r0, r12
    bne packed_block
    b done
    .irp lane, 4, 5, 6, 7
packed_wide\lane:
    asrs r\lane, r\lane, #31
    movs r3, #127
    eors r\lane, r3
    b packed_shifted\lane
packed_low\lane:
    movs r\lane, r1
    b packed_clamped\lane
packed_high\lane:
    movs r\lane, #127
    b packed_clamped\lane
    .endr

#endif

    .align 2
base:
body_at: .word body_end + 1 - base
from_sums_at: .word from_sums + 1 - base
to_sums_at: .word to_sums + 1 - base
requantize_at: .word requantize + 1 - base
requantize_skip_at: .word requantize_skip + 1 - base
mask: .word 0x00ff00ff
flip: .word 0x80808080
unflip: .word -0x00800080
    .size a8_m0plus_rows, . - a8_m0plus_rows

/* r6: a requantize row at any address -> r4: bias, r5: scale, r6: the next row; changes r0, r3 */
    .global a8_m0plus_row
    .type a8_m0plus_row, %function
    .thumb_func
a8_m0plus_row:
    lsls r0, r6, #30
    bne 1f
    ldm r6!, {r4, r5}
    bx lr
1:  push {r4, r5}
    mov r4, sp
    movs r3, #7
2:  ldrb r0, [r6, r3]
    strb r0, [r4, r3]
    subs r3, #1
    bpl 2b
    adds r6, #8
    pop {r4, r5}
    bx lr

/* r7: op -> r0: pairs of a row, padded; changes r3 */
pairs_of:
    ldr r0, [r7, #OP_N_INPUTS]
    ldr r3, [r7, #OP_KERNEL]
    muls r0, r3, r0
    adds r0, #3
    lsrs r0, r0, #2
    lsls r0, r0, #1
    bx lr

/* r7: op -> r1: the smallest output; changes r3 */
low_of:
    ldr r3, [r7, #OP_CLAMP]
    movs r1, #0
    cmp r3, #2 /* A8_CLAMP_RELU */
    beq 1f
    movs r1, r3
    subs r1, #128
1:  bx lr

/* void a8_m0plus_token(const a8_conv1d_t *op, const void *x, int8_t *y, uint32_t n, const int8_t *weights): one token.
 * n = 0: x is packed, weights and rows lie at multiples of 4. Else the int8 products of a row, at any address; x and
 * weights are where the first of them ends. */
#define T_X 0
#define T_N 4 /* negative */
#define T_LOW 8
#define T_Y_END 12
#define T_ROW_BYTES 16
#define T_SAVED 20
#define T_WEIGHTS (T_SAVED + 36)
    .global a8_m0plus_token
    .type a8_m0plus_token, %function
    .thumb_func
    .align 2
a8_m0plus_token:
    push {r4-r7, lr}
    bl a8_m0plus_save
    sub sp, #T_SAVED
    movs r7, r0
    mov r9, r2
    str r1, [sp, #T_X]
    negs r4, r3
    str r4, [sp, #T_N]
    bl low_of
    str r1, [sp, #T_LOW]
    ldr r0, [r7, #OP_N_OUTPUTS]
    adds r0, r0, r2
    str r0, [sp, #T_Y_END]
    ldr r0, [r7, #OP_ROWS]
    mov r12, r0
    bl pairs_of
    lsls r1, r0, #1
    str r1, [sp, #T_ROW_BYTES]
    /* products are computed by four: the first time as many less as are missing */
    adr r2, token_base
    movs r3, #3
    ands r3, r4
    movs r1, #10
    muls r3, r1, r3
    ldr r1, [r2, #plain_at - token_base]
    cmp r4, #0
    bne 1f
    lsls r0, r0, #30
    lsrs r3, r0, #26
    ldr r1, [r2, #packed_at - token_base]
1:  adds r3, r3, r1
    adds r3, r3, r2
    mov r10, r3
    ldr r3, [r2, #token_unflip - token_base]
    mov r8, r3
    ldr r5, [r2, #token_mask - token_base]
    ldr r6, [r2, #token_flip - token_base]
    ldr r0, [sp, #T_WEIGHTS]
    mov lr, r0

/* r0: weights, r5: mask, r6: flip, r8: unflip, r9: y, r10: entry into a loop, r12: row, lr: end of the row before */
token_row:
    mov r7, r12
    lsls r3, r7, #30
    bne unaligned_row
    ldm r7!, {r3, r4}
    mov r11, r4
    movs r4, r3
token_row_read:
    mov r12, r7
    ldr r1, [sp, #T_ROW_BYTES]
    add lr, r1
    ldr r1, [sp, #T_X]
    ldr r2, [sp, #T_N]
    bx r10
unaligned_row: /* of products that are not packed: they need no mask */
    movs r6, r7
    movs r2, r0
    bl a8_m0plus_row
    movs r0, r2
    mov r11, r5
    movs r7, r6
    b token_row_read

packed:
    .rept 2
    ldm r0!, {r2}
    eors r2, r6
    movs r3, r2
    ands r3, r5
    add r3, r8
    lsrs r2, r2, #8
    ands r2, r5
    add r2, r8
    ldm r1!, {r7}
    muls r3, r7, r3
    asrs r3, r3, #16
    adcs r4, r3
    ldm r1!, {r7}
    muls r2, r7, r2
    asrs r2, r2, #16
    adcs r4, r2
    .endr
    cmp r0, lr
    bne packed
    b token_requantize

    /* r2: products left, negative */
plain:
    .rept 4
    ldrsb r3, [r0, r2]
    ldrsb r7, [r1, r2]
    muls r3, r7, r3
    adds r4, r4, r3
    adds r2, #1
    .endr
    bne plain
    ldr r3, [sp, #T_ROW_BYTES]
    adds r0, r0, r3

token_requantize:
    mov r7, r11
    lsrs r3, r7, #16
    asrs r4, r3
    sxth r2, r4
    cmp r2, r4
    bne 4f
    uxth r2, r7
    muls r4, r2, r4
    lsrs r3, r3, #8
    asrs r4, r3
    movs r2, #0
    adcs r4, r2
3:  ldr r2, [sp, #T_LOW]
    cmp r4, r2
    bge 5f
    movs r4, r2
5:  cmp r4, #127
    ble 6f
    movs r4, #127
6:  mov r2, r9
    strb r4, [r2]
    adds r2, #1
    mov r9, r2
    ldr r3, [sp, #T_Y_END]
    cmp r2, r3
    beq 7f
    b token_row
7:  add sp, #T_SAVED
    b a8_m0plus_restore
4:  asrs r4, r4, #31
    movs r2, #127
    eors r4, r2
    b 3b

    .size a8_m0plus_token, . - a8_m0plus_token

/* void a8_m0plus_pack(uint32_t *out, const int8_t *x, uint32_t n, uint32_t step): n >= 1 values of a token; of four of
 * them, x2 + 65536*x0 and x3 + 65536*x1 in words that are step = 4 or 16 bytes apart. What is missing is 0. */
    .global a8_m0plus_pack
    .type a8_m0plus_pack, %function
    .thumb_func
    .align 2
a8_m0plus_pack:
    push {r4-r7, lr}
    lsrs r4, r3, #2 /* 4 or 1 */
    orrs r4, r1
    orrs r4, r2
    lsls r4, r4, #30
    bne pack_bytes

    /* words: x, n multiples of 4, as weights are unpacked */
    mov r12, r8
    adr r7, token_unflip
    ldm r7!, {r4, r5, r6}
    mov r8, r4
    adds r7, r1, r2
    lsls r2, r2, #29
    beq pack_words
    ldm r1!, {r4}
    subs r0, #32
    b pack_second
pack_words:
    ldm r1!, {r2, r4}
    eors r2, r6
    rev r2, r2
    lsrs r3, r2, #8
    ands r3, r5
    add r3, r8
    str r3, [r0]
    ands r2, r5
    add r2, r8
    str r2, [r0, #16]
pack_second:
    eors r4, r6
    rev r4, r4
    lsrs r3, r4, #8
    ands r3, r5
    add r3, r8
    str r3, [r0, #32]
    ands r4, r5
    add r4, r8
    str r4, [r0, #48]
    adds r0, #64
    cmp r1, r7
    bne pack_words
    mov r8, r12
    pop {r4-r7, pc}

pack_bytes:
    push {r3} /* the last values go there; behind the lowest byte of step is 0 */
    movs r7, #0
    movs r6, #2
    subs r2, #4
    bmi 2f
1:  ldrsb r4, [r1, r7]
    ldrsb r5, [r1, r6]
    lsls r4, r4, #16
    adds r4, r4, r5
    str r4, [r0]
    adds r1, #1
    ldrsb r4, [r1, r7]
    ldrsb r5, [r1, r6]
    lsls r4, r4, #16
    adds r4, r4, r5
    str r4, [r0, r3]
    adds r1, #3
    adds r0, r0, r3
    adds r0, r0, r3
    subs r2, #4
    bpl 1b
2:  adds r2, #4
    beq 4f
    mov r5, sp
3:  subs r2, #1
    ldrb r4, [r1, r2]
    strb r4, [r5, r2]
    bne 3b
    movs r1, r5
    b 1b
4:  pop {r3-r7, pc}

    .align 2
token_base:
packed_at: .word packed + 1 - token_base
plain_at: .word plain + 1 - token_base
token_unflip: .word -0x00800080
token_mask: .word 0x00ff00ff
token_flip: .word 0x80808080
    .size a8_m0plus_pack, . - a8_m0plus_pack
#endif
