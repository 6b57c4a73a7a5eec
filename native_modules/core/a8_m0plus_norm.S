/* Layer norm, residual add, table and the conversion of the input on a Cortex-M0+. Position-independent.
 *
 * Loops run over a negative index up to 0, some elements a turn, and are entered where the rest of n is done.
 */
#include "a8_target.h"

#ifdef A8_TARGET_M0PLUS
 .syntax unified
 .cpu cortex-m0plus
 .thumb
#ifdef A8_IN_RAM
 .section .time_critical.a8_m0plus_norm,"ax",%progbits
#else
 .section .text.a8_m0plus_norm,"ax",%progbits
#endif

 .macro FUNCTION NAME
 .global \NAME
 .type \NAME,%function
 .thumb_func
 .align 2
\NAME:
 .endm

@ Jumps over (-n mod TURN) of the elements that follow, `BYTES` each; INDEX is -n. Clobbers T and U.
 .macro ENTER TURN,INDEX,BYTES,T,U
 movs \T,#\TURN-1
 ands \T,\INDEX
 movs \U,#\BYTES
 muls \T,\U,\T
 add pc,\T
 nop
 .endm

#ifndef A8_WITHOUT_NORM
@ void a8_layer_norm_s8(const a8_norm_fields_t *op, uint32_t n_steps, uint32_t n_channels, const int8_t *x, int8_t *y)
 .equ N_OP, 0
 .equ N_STEPS, 4
 .equ N_CHANNELS, 8
 .equ N_X, 12            @ ends of the token
 .equ N_Y, 16
 .equ N_LIMIT_BITS, 20
 .equ N_FRAME, 24
 FUNCTION a8_layer_norm_s8
 cmp r1,#0
 bne 1f
 bx lr
1: push {r4-r7,lr}
 bl a8_m0plus_save
 ldr r4,[sp,#36]         @ y
 sub sp,#N_FRAME
 str r0,[sp,#N_OP]
 str r1,[sp,#N_STEPS]
 str r2,[sp,#N_CHANNELS]
 adds r3,r3,r2
 str r3,[sp,#N_X]
 adds r4,r4,r2
 str r4,[sp,#N_Y]
 subs r0,r2,#1
 bl bit_length
 movs r0,#29
 subs r0,r0,r1
 lsrs r0,r0,#1
 str r0,[sp,#N_LIMIT_BITS]
token:
 ldr r0,[sp,#N_X]
 ldr r1,[sp,#N_CHANNELS]
 rsbs r1,r1,#0
 movs r3,#0              @ sum
 movs r4,#127
 mvns r4,r4              @ largest
 movs r5,#127            @ smallest
 ENTER 2,r1,14,r2,r6
extremes:
 .irp N,0,1
 ldrsb r2,[r0,r1]
 adds r3,r3,r2
 cmp r2,r4
 bgt larger\N
not_larger\N:
 cmp r2,r5
 blt smaller\N
not_smaller\N:
 adds r1,#1
 .endr
 bne extremes
 b centre
 .irp N,0,1
larger\N:
 movs r4,r2
 b not_larger\N
smaller\N:
 movs r5,r2
 b not_smaller\N
 .endr
centre:
 ldr r6,[sp,#N_OP]
 ldrb r1,[r6,#7]
 ldr r2,[sp,#N_CHANNELS] @ scale
 cmp r1,#0
 beq 1f
 movs r2,#1
 movs r3,#0
1: muls r4,r2,r4
 subs r4,r4,r3
 muls r5,r2,r5
 subs r0,r3,r5
 cmp r0,r4
 bge 2f
 movs r0,r4
2: bl bit_length
 mov r8,r3
 movs r3,r2
 mov r4,r8               @ offset
 ldr r0,[sp,#N_LIMIT_BITS]
 subs r5,r1,r0
 bhs 3f
 movs r5,#0
3: movs r2,#1
 lsls r2,r5
 lsrs r2,r2,#1
 subs r4,r4,r2           @ less the half that rounds
 ldr r0,[r6]
 lsls r7,r5,#1
 lsrs r0,r7
 mov r8,r0               @ epsilon
 ldr r0,[sp,#N_X]
 ldr r1,[sp,#N_CHANNELS]
 rsbs r1,r1,#0
 movs r6,#0
 ENTER 2,r1,14,r2,r7
squares:
 .rept 2
 ldrsb r2,[r0,r1]
 muls r2,r3,r2
 subs r2,r2,r4
 asrs r2,r5
 muls r2,r2,r2
 adds r6,r6,r2
 adds r1,#1
 .endr
 bne squares
 add r6,r8
 rsbs r4,r4,#0
 mov r8,r4               @ added to scale*x
 cmp r6,#0
 bne 4f
 movs r6,#1
4: movs r0,r6
 bl bit_length
 movs r2,#30
 subs r2,r2,r1
 lsrs r2,r2,#1
 lsls r0,r2,#1
 lsls r6,r0              @ V << t; r2 = t/2
@ floor of the root, into r7
 movs r7,#0
 movs r0,#1
 lsls r0,r0,#28
5: adds r1,r7,r0
 lsrs r7,r7,#1
 cmp r6,r1
 blo 6f
 subs r6,r6,r1
 adds r7,r7,r0
6: lsrs r0,r0,#2
 bne 5b
@ (multiplier << 15) / root, 16 bits, into r6
 ldr r4,[sp,#N_OP]
 ldrh r0,[r4,#4]
 lsls r0,r0,#15
 lsls r7,r7,#16
 movs r6,#0
 movs r1,#4
7:
 .rept 4
 lsls r0,r0,#1
 cmp r0,r7
 blo 8f
 subs r0,r0,r7
8: adcs r6,r6
 .endr
 subs r1,#1
 bne 7b
 ldrb r0,[r4,#6]
 adds r0,#15
 subs r0,r0,r2
 mov r9,r0               @ shift
 subs r0,#1
 movs r1,#1
 lsls r1,r0
 mov r10,r1              @ its half
 ldr r0,[sp,#N_X]
 ldr r4,[sp,#N_Y]
 ldr r1,[sp,#N_CHANNELS]
 rsbs r1,r1,#0
 ENTER 2,r1,26,r2,r7
outputs:
 .irp N,0,1
 ldrsb r2,[r0,r1]
 muls r2,r3,r2
 add r2,r8
 asrs r2,r5
 muls r2,r6,r2
 add r2,r10
 mov r7,r9
 asrs r2,r7
 sxtb r7,r2
 cmp r7,r2
 bne norm_high\N
norm_low\N:
 strb r2,[r4,r1]
 adds r1,#1
 .endr
 bne outputs
 ldr r1,[sp,#N_CHANNELS]
 adds r0,r0,r1
 str r0,[sp,#N_X]
 adds r4,r4,r1
 str r4,[sp,#N_Y]
 ldr r1,[sp,#N_STEPS]
 subs r1,#1
 str r1,[sp,#N_STEPS]
 beq 9f
 b token
9: add sp,#N_FRAME
 bl a8_m0plus_restore
 .irp N,0,1
norm_high\N:
 asrs r2,r2,#31
 movs r7,#127
 eors r2,r7
 b norm_low\N
 .endr
@ r1 = bit length of r0; clobbers r0 and r7
bit_length:
 movs r1,#0
 lsrs r7,r0,#16
 beq 1f
 movs r0,r7
 adds r1,#16
1: lsrs r7,r0,#8
 beq 1f
 movs r0,r7
 adds r1,#8
1: lsrs r7,r0,#4
 beq 1f
 movs r0,r7
 adds r1,#4
1: lsrs r7,r0,#2
 beq 1f
 movs r0,r7
 adds r1,#2
1: lsrs r7,r0,#1           @ 0, 1, 2, 3 have 0, 1, 2, 2 bits
 ands r7,r0
 subs r0,r0,r7
 adds r1,r1,r0
 bx lr
 .size a8_layer_norm_s8,.-a8_layer_norm_s8
#endif

#ifndef A8_WITHOUT_ADD
@ void a8_add_s8(const a8_add_fields_t *op, uint32_t n, const int8_t *a, const int8_t *b, int8_t *y)
 FUNCTION a8_add_s8
 cmp r1,#0
 beq 1f
 push {r4-r7,lr}
 mov r4,r8
 push {r4}
 ldr r4,[sp,#24]
 ldm r0!,{r5,r6}         @ multipliers
 movs r0,r2
 adds r0,r0,r1
 adds r3,r3,r1
 adds r4,r4,r1
 movs r2,r3
 rsbs r1,r1,#0
 movs r7,#1
 lsls r7,r7,#14
 mov r8,r7
 ENTER 2,r1,24,r3,r7
sums:
 .irp N,0,1
 ldrsb r3,[r0,r1]
 muls r3,r5,r3
 ldrsb r7,[r2,r1]
 muls r7,r6,r7
 adds r3,r3,r7
 add r3,r8
 asrs r3,r3,#15
 sxtb r7,r3
 cmp r7,r3
 bne sum_high\N
sum_low\N:
 strb r3,[r4,r1]
 adds r1,#1
 .endr
 bne sums
 pop {r4}
 mov r8,r4
 pop {r4-r7,pc}
1: bx lr
 .irp N,0,1
sum_high\N:
 asrs r3,r3,#31
 movs r7,#127
 eors r3,r7
 b sum_low\N
 .endr
 .size a8_add_s8,.-a8_add_s8
#endif

#ifndef A8_WITHOUT_TABLE
@ void a8_table_s8(const int8_t *table, uint32_t n, const int8_t *x, int8_t *y)
 FUNCTION a8_table_s8
 cmp r1,#0
 beq 1f
 push {r4,r5}
 adds r0,#128
 adds r2,r2,r1
 adds r3,r3,r1
 rsbs r1,r1,#0
 ENTER 4,r1,8,r4,r5
entries:
 .rept 4
 ldrsb r4,[r2,r1]
 ldrb r4,[r0,r4]
 strb r4,[r3,r1]
 adds r1,#1
 .endr
 bne entries
 pop {r4,r5}
1: bx lr
 .size a8_table_s8,.-a8_table_s8
#endif

@ void a8_requantize_s16(const uint8_t *rows, uint32_t n_steps, uint32_t n_channels, const uint8_t *x, int8_t *y)
 .equ R_ROWS, 0
 .equ R_LEFT, 4          @ channels
 .equ R_X, 8
 .equ R_Y, 12
 .equ R_BYTES, 16        @ of y
 .equ R_FRAME, 20

@ One channel: r0 x, r1 y, r4 pre, r5 multiplier, r6 post, r7 0 or 1, r8 bias, r9 half, r10 end of y, r11 bytes of a
@ token of x, r12 of y
 .macro CHANNEL SUFFIX,ODD
\SUFFIX:
 .if \ODD
 ldrb r2,[r0]
 ldrsb r3,[r0,r7]
 lsls r3,r3,#8
 orrs r2,r3
 .else
 ldrsh r2,[r0,r7]
 .endif
 add r0,r11
 add r2,r8
 asrs r2,r4
 sxth r3,r2
 cmp r3,r2
 bne \SUFFIX\()_high
 muls r2,r5,r2
 add r2,r9
 asrs r2,r6
 sxtb r3,r2
 cmp r3,r2
 bne \SUFFIX\()_high
\SUFFIX\()_low:
 strb r2,[r1]
 add r1,r12
 cmp r1,r10
 bne \SUFFIX
 b next_channel
\SUFFIX\()_high:
 asrs r2,r2,#31
 movs r3,#127
 eors r2,r3
 b \SUFFIX\()_low
 .endm

 FUNCTION a8_requantize_s16
 push {r4-r7,lr}
 bl a8_m0plus_save
 ldr r4,[sp,#36]
 sub sp,#R_FRAME
 muls r1,r2,r1
 beq requantized
 str r1,[sp,#R_BYTES]
 str r0,[sp,#R_ROWS]
 str r2,[sp,#R_LEFT]
 str r3,[sp,#R_X]
 str r4,[sp,#R_Y]
 mov r12,r2
 lsls r2,r2,#1
 mov r11,r2
channel:
 ldr r6,[sp,#R_ROWS]
 bl a8_m0plus_row
 str r6,[sp,#R_ROWS]
 mov r8,r4
 lsls r4,r5,#12
 lsrs r4,r4,#28
 lsrs r6,r5,#24
 uxth r5,r5
 subs r6,#1
 lsls r6,r6,#27
 lsrs r6,r6,#27
 movs r2,#1
 lsls r2,r6
 mov r9,r2
 adds r6,#1
 ldr r1,[sp,#R_Y]
 ldr r2,[sp,#R_BYTES]
 adds r2,r2,r1
 mov r10,r2
 adds r2,r1,#1
 str r2,[sp,#R_Y]
 ldr r0,[sp,#R_X]
 adds r2,r0,#2
 str r2,[sp,#R_X]
 movs r7,#0
 lsrs r2,r0,#1
 bcc even
 movs r7,#1
 CHANNEL odd,1
 CHANNEL even,0
next_channel:
 ldr r2,[sp,#R_LEFT]
 subs r2,#1
 str r2,[sp,#R_LEFT]
 bne channel
requantized:
 add sp,#R_FRAME
 bl a8_m0plus_restore
 .size a8_requantize_s16,.-a8_requantize_s16
#endif
