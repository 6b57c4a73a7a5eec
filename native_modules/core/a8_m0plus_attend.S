/* Attention of one query and one head on a Cortex-M0+. Position-independent; needs nothing but its argument.
 *
 * Scores: two products a multiplication. A key is packed as k0 + 65536*k2, k1 + 65536*k3 and so on, the query the other
 * way round, so that the upper half of a product holds q0*k0 + q2*k2, less a borrow if the lower half is negative;
 * asrs leaves that borrow in the carry and adcs adds it. Exact as keys are in [-127, 127].
 *
 * Values: two channels a multiplication. A value is packed as v + 128 in both halves, a weight e <= 127 multiplies both
 * and two such products still fit in 16 bits. Sums run over whole words (low half mod 2^32) and over upper halves.
 */
#include "a8_target.h"

#if defined(A8_TARGET_M0PLUS) && !defined(A8_WITHOUT_ATTENTION)
 .syntax unified
 .cpu cortex-m0plus
 .thumb
#ifdef A8_IN_RAM
 .section .time_critical.a8_m0plus_attend,"ax",%progbits
#else
 .section .text.a8_m0plus_attend,"ax",%progbits
#endif

@ attend_t of a8_m0plus_attention.c
 .equ A_QUERY, 0
 .equ A_KEYS, 4
 .equ A_KEY_ROW, 8
 .equ A_WORDS, 12
 .equ A_BIAS, 16
 .equ A_SCORES, 20
 .equ A_N_KEYS, 24
 .equ A_DM, 28
 .equ A_HALF, 32
 .equ A_DSH, 36
 .equ A_LIMIT, 40
 .equ A_LAST, 44
 .equ A_DPRE, 48
 .equ A_EXP, 52
 .equ A_MULTIPLIER, 56
 .equ A_SHIFT, 60
 .equ A_VALUES, 64
 .equ A_VALUE_GROUP, 68
 .equ A_OUTPUT, 72
 .equ A_CHANNELS, 76
 .equ A_STRIDE, 80
 .equ A_N_OLD, 84
 .equ A_NEWER_KEYS, 88
 .equ A_TO_NEWER, 92

@ Frame. The query's words and the biases of the last keys share their place with the numbers of row_divide.
 .equ PASS_PAIRS, 8
 .equ F_QUERY, 0
 .equ F_PRE, 0
 .equ F_MULTIPLIER, 4
 .equ F_HALF, 8
 .equ F_POST, 12
 .equ F_START, 16
 .equ F_LAST_BYTES, 20
 .equ F_REST, 32
 .equ F_ARGUMENT, 48
 .equ F_END, 52
 .equ F_WORDS, 56
 .equ F_KEYS, 60
 .equ F_PASS, 64
 .equ FRAME, 68

@ void a8_m0plus_attend(attend_t *)
 .global a8_m0plus_attend
 .type a8_m0plus_attend,%function
 .thumb_func
 .align 2
a8_m0plus_attend:
 push {r4-r7,lr}
 bl a8_m0plus_save
 sub sp,#FRAME
 str r0,[sp,#F_ARGUMENT]
 ldr r2,[r0,#A_WORDS]
 ldr r1,[r0,#A_KEYS]
 str r1,[sp,#F_KEYS]
 ldr r1,[r0,#A_BIAS]
 mov r11,r1

@ A pass takes up to 16 channels: their words of the query go to the frame, the last at its end.
@ r0: argument, r2: words left
pass:
 ldr r1,[r0,#A_QUERY]
 movs r3,#PASS_PAIRS/2
 cmp r2,r3
 bhs 1f
 movs r3,r2
1: subs r2,r2,r3
 str r2,[sp,#F_WORDS]
 str r3,[sp,#F_PASS]
 lsls r2,r3,#6           @ bytes of code: 32 a pair
 adr r4,pairs_end
 subs r4,r4,r2
 adds r4,#1
 mov r10,r4
 movs r2,#PASS_PAIRS/2
 subs r2,r2,r3
 lsls r2,r2,#3
 add r2,sp
 lsls r3,r3,#2
 adds r3,r3,r1           @ end of the words
 ldr r5,=0x80808080
 ldr r6,=0x00ff00ff
 ldr r7,=0x00800080
2: ldm r1!,{r4}
 rev r4,r4
 eors r4,r5
 lsrs r0,r4,#8
 ands r0,r6
 subs r0,r0,r7
 ands r4,r6
 subs r4,r4,r7
 stm r2!,{r0,r4}
 cmp r1,r3
 bne 2b
 ldr r0,[sp,#F_ARGUMENT]
 str r1,[r0,#A_QUERY]
 movs r1,#1
 lsls r1,r1,#31
 mov r12,r1              @ largest score so far
 ldr r1,[r0,#A_STRIDE]
 cmp r1,#0
 beq 1f
 b rows
1: ldr r1,[r0,#A_KEY_ROW]
 subs r1,#16
 mov r8,r1
 ldr r1,[sp,#F_KEYS]
 mov r9,r1
 ldr r1,[r0,#A_SCORES]
 mov lr,r1
 ldr r2,[r0,#A_N_KEYS]
 lsrs r2,r2,#2
 bne 1f
 b rest
1: lsls r2,r2,#4
 adds r1,r1,r2
 str r1,[sp,#F_END]
four_keys:
 mov r0,r9
 mov r1,r11
 ldm r1!,{r4-r7}
 mov r11,r1
 bx r10
 .align 2
 .set i,0
 .rept PASS_PAIRS
 ldr r1,[sp,#F_QUERY+4*i]
 ldm r0!,{r2,r3}
 muls r2,r1,r2
 asrs r2,r2,#16
 adcs r4,r2
 muls r3,r1,r3
 asrs r3,r3,#16
 adcs r5,r3
 ldm r0!,{r2,r3}
 muls r2,r1,r2
 asrs r2,r2,#16
 adcs r6,r2
 muls r3,r1,r3
 asrs r3,r3,#16
 adcs r7,r3
 add r0,r8
 .set i,i+1
 .endr
 .align 2
pairs_end:
 mov r1,lr
 stm r1!,{r4-r7}
 mov lr,r1
 .irp R,r4,r5,r6,r7
 cmp \R,r12
 ble 1f
 mov r12,\R
1:
 .endr
 movs r2,#16
 add r9,r2
 ldr r2,[sp,#F_END]
 cmp r1,r2
 bhs rest
 b four_keys

@ One to three keys are left: their biases come from the frame, those of the keys behind them are too small to matter.
rest:
 ldr r0,[sp,#F_ARGUMENT]
 ldr r2,[r0,#A_N_KEYS]
 ldr r3,[r0,#A_SCORES]
 lsls r4,r2,#2
 adds r3,r3,r4           @ behind the last score
 mov r1,lr
 subs r3,r3,r1
 bls pass_done
 add r4,sp,#F_REST
 movs r5,#1
 lsls r5,r5,#30
 rsbs r5,r5,#0
 movs r6,r5
 movs r7,r5
 stm r4!,{r5-r7}
 stm r4!,{r7}
 subs r4,#16
 mov r2,r11
3: ldm r2!,{r6}
 stm r4!,{r6}
 subs r3,#4
 bhi 3b
 add r4,sp,#F_REST
 mov r11,r4
 adds r1,#1
 str r1,[sp,#F_END]
 b four_keys
pass_done:
 ldr r2,[sp,#F_WORDS]
 cmp r2,#0
 beq weights
 ldr r1,[r0,#A_SCORES]
 mov r11,r1              @ the sums so far
 ldr r1,[r0,#A_KEY_ROW]
 lsls r1,r1,#3
 ldr r3,[sp,#F_KEYS]
 adds r3,r3,r1
 str r3,[sp,#F_KEYS]
 b pass

@ Scores of keys that lie as rows of bytes in two pieces, a key at a time.
rows:
 mov lr,r1
 rsbs r7,r7,#0
 mov r9,r7
 ldr r1,[sp,#F_PASS]
 movs r2,#PASS_PAIRS/2
 subs r2,r2,r1
 lsls r2,r2,#2           @ the first words that are left out
 str r2,[sp,#F_END]
 movs r4,#30
 muls r4,r1,r4
 adr r1,words_end
 subs r1,r1,r4
 adds r1,#1
 mov r10,r1
 ldr r1,[r0,#A_N_OLD]
 lsls r1,r1,#2
 ldr r7,[r0,#A_SCORES]
 adds r1,r1,r7
 mov r8,r1               @ end of the scores of this piece
 ldr r0,[sp,#F_KEYS]
 subs r0,r0,r2
one_key:
 mov r1,r11
 ldm r1!,{r4}
 mov r11,r1
 bx r10
 .align 2
 .set i,0
 .rept PASS_PAIRS/2
 ldr r1,[r0,#4*i]
 eors r1,r5
 lsrs r2,r1,#8
 ands r1,r6
 ands r2,r6
 add r1,r9
 add r2,r9
 ldr r3,[sp,#F_QUERY+8*i]
 muls r1,r3,r1
 asrs r1,r1,#16
 adcs r4,r1
 ldr r3,[sp,#F_QUERY+8*i+4]
 muls r2,r3,r2
 asrs r2,r2,#16
 adcs r4,r2
 .set i,i+1
 .endr
words_end:
 stm r7!,{r4}
 cmp r4,r12
 ble 1f
 mov r12,r4
1: add r0,lr
 cmp r7,r8
 bne one_key
 ldr r3,[sp,#F_ARGUMENT]
 ldr r2,[r3,#A_N_KEYS]
 lsls r2,r2,#2
 ldr r4,[r3,#A_SCORES]
 adds r2,r2,r4
 movs r0,r3
 cmp r2,r8
 beq pass_done
 mov r8,r2
 ldr r0,[sp,#F_KEYS]
 ldr r1,[r3,#A_KEYS]
 subs r0,r0,r1
 ldr r1,[r3,#A_NEWER_KEYS]
 adds r0,r0,r1
 ldr r2,[sp,#F_END]
 subs r0,r0,r2
 b one_key
 .align 2
 .pool

@ Scores become weights, in place: index = (difference*dm + half) >> dsh, and from a difference `limit` on, `last`.
weights:
 movs r3,#0
 mov r8,r3               @ sum
 ldr r1,[r0,#A_LAST]
 mov r11,r1
 ldr r7,[r0,#A_EXP]
 ldr r6,[r0,#A_DSH]
 ldr r4,[r0,#A_DM]
 ldr r2,[r0,#A_N_KEYS]
 ldr r1,[r0,#A_LIMIT]
 ldr r3,[r0,#A_DPRE]
 ldr r5,[r0,#A_HALF]
 ldr r0,[r0,#A_SCORES]
 cmp r3,#0
 bne shifted
 mov r3,r12
 subs r3,r3,r1
 mov r9,r3               @ scores up to this one give `last`
 mov r3,r12
 muls r3,r4,r3
 adds r5,r5,r3           @ largest*dm + half
 lsrs r3,r2,#1
 beq single
 lsls r3,r3,#3
 adds r3,r3,r0
 mov r10,r3
 mov lr,r2
 movs r1,r0
two_weights:
 ldm r0!,{r2,r3}
 cmp r2,r9
 ble 4f
 muls r2,r4,r2
 subs r2,r5,r2
 lsrs r2,r6
 ldrb r2,[r7,r2]
5: add r8,r2
 cmp r3,r9
 ble 6f
 muls r3,r4,r3
 subs r3,r5,r3
 lsrs r3,r6
 ldrb r3,[r7,r3]
7: stm r1!,{r2,r3}
 add r8,r3
 cmp r0,r10
 bne two_weights
 mov r2,lr
 lsls r2,r2,#31
 beq divide
single:
 ldr r2,[r0]
 cmp r2,r9
 ble 8f
 muls r2,r4,r2
 subs r2,r5,r2
 lsrs r2,r6
 ldrb r2,[r7,r2]
9: add r8,r2
 movs r3,#0              @ the key behind the last, which makes a pair
 stm r0!,{r2,r3}
 b divide
4: mov r2,r11
 b 5b
6: mov r3,r11
 b 7b
8: mov r2,r11
 b 9b

@ The same where a difference is shifted first.
shifted:
 mov r9,r1
 mov lr,r5
 lsls r2,r2,#2
 adds r2,r2,r0
 mov r10,r2
 mov r1,r12
one_weight:
 ldr r2,[r0]
 subs r2,r1,r2
 cmp r2,r9
 bhs 4f
 lsrs r2,r3
 muls r2,r4,r2
 add r2,lr
 lsrs r2,r6
 ldrb r2,[r7,r2]
5: add r8,r2
 stm r0!,{r2}
 cmp r0,r10
 bne one_weight
 movs r2,#0
 str r2,[r0]
 b divide
4: mov r2,r11
 b 5b

@ row_divide: Z << (32 - bits(Z)), its upper half divides multiplier << 15.
divide:
 mov r0,r8
 movs r1,#32
 lsrs r2,r0,#16
 bne 1f
 lsls r0,r0,#16
 subs r1,#16
1: lsrs r2,r0,#24
 bne 1f
 lsls r0,r0,#8
 subs r1,#8
1: lsrs r2,r0,#28
 bne 1f
 lsls r0,r0,#4
 subs r1,#4
1: lsrs r2,r0,#30
 bne 1f
 lsls r0,r0,#2
 subs r1,#2
1: asrs r2,r0,#31
 bne 1f
 lsls r0,r0,#1
 subs r1,#1
1: lsrs r0,r0,#16
 lsls r0,r0,#15
 ldr r6,[sp,#F_ARGUMENT]
 ldr r2,[r6,#A_MULTIPLIER]
 lsls r2,r2,#15
 movs r3,#0
 movs r4,#5
2:
 .rept 3
 lsls r2,r2,#1
 cmp r2,r0
 blo 1f
 subs r2,r2,r0
1: adcs r3,r3
 .endr
 subs r4,#1
 bne 2b
 str r3,[sp,#F_MULTIPLIER]
 ldr r2,[r6,#A_SHIFT]
 adds r1,r1,r2           @ bits(Z) + shift
 movs r2,#0
 movs r3,r1
 movs r4,#0
 subs r3,#22
 bls 1f
 movs r2,r3
 subs r3,#1
 movs r4,#1
 lsls r4,r3
1: str r2,[sp,#F_PRE]
 subs r1,#1
 subs r1,r1,r2
 str r1,[sp,#F_POST]
 subs r1,#1
 movs r2,#1
 lsls r2,r1
 str r2,[sp,#F_HALF]
 mov r0,r8
 lsls r0,r0,#7
 subs r4,r4,r0
 str r4,[sp,#F_START]    @ bias - 128*Z
 ldr r0,[r6,#A_OUTPUT]
 mov lr,r0
 ldr r0,[r6,#A_STRIDE]
 mov r12,r0
 adr r2,value_rows
 cmp r0,#0
 bne 1f
 ldr r2,[r6,#A_N_KEYS]
 adds r2,#1
 lsrs r2,r2,#1           @ pairs of keys
 ldr r1,[r6,#A_SCORES]
 lsls r3,r2,#3
 adds r3,r3,r1
 mov r12,r3
 rsbs r2,r2,#0
 movs r3,#3
 ands r2,r3
 movs r3,#28
 muls r2,r3,r2
 adr r3,pairs
 adds r2,r2,r3
1: adds r2,#1
 str r2,[sp,#F_END]

@ Sums of four channels: r8 + r9 (words, upper halves) of channels 0 and 2, r10 and r11 of 1 and 3.
 ldr r0,[r6,#A_VALUES]
next_group:                @ r6: argument
 ldr r7,[r6,#A_SCORES]
 ldr r1,[sp,#F_START]
 lsls r2,r1,#16
 adds r2,r2,r1
 mov r8,r2
 mov r9,r1
 mov r10,r2
 mov r11,r1
 ldr r1,[sp,#F_END]
 bx r1
 .align 2
pairs:
 .rept 4
 ldm r0!,{r1-r4}
 ldm r7!,{r5,r6}
 muls r1,r5,r1
 muls r2,r5,r2
 muls r3,r6,r3
 muls r4,r6,r4
 adds r1,r1,r3
 adds r2,r2,r4
 add r8,r1
 lsrs r1,r1,#16
 add r9,r1
 add r10,r2
 lsrs r2,r2,#16
 add r11,r2
 .endr
 cmp r7,r12
 bne pairs

requantize:
@ Their requantize. A value above 16 bits becomes the largest of 16 bits, which gives the largest output too.
 mov r1,r8
 mov r3,r9
 mov r2,r10
 mov r4,r11
 lsls r5,r3,#16
 subs r1,r1,r5
 lsls r5,r4,#16
 subs r2,r2,r5
 ldr r5,[sp,#F_PRE]
 .irp R,r1,r2,r3,r4
 asrs \R,r5
 .endr
 .irp R,r1,r2,r3,r4
 sxth r5,\R
 cmp r5,\R
 bne wide
 .endr
narrow:
 ldr r5,[sp,#F_MULTIPLIER]
 ldr r6,[sp,#F_HALF]
 ldr r7,[sp,#F_POST]
 .irp R,r1,r2,r3,r4
 muls \R,r5,\R
 adds \R,\R,r6
 asrs \R,r7
 .endr
 .irp R,r1,r2,r3,r4
 sxtb r5,\R
 cmp r5,\R
 bne high
 .endr
low:
 mov r0,lr
 ldr r6,[sp,#F_ARGUMENT]
 ldr r7,[r6,#A_CHANNELS]
 subs r7,#4
 bhs store
 add r0,sp,#F_LAST_BYTES
store:
 strb r1,[r0,#0]
 strb r2,[r0,#1]
 strb r3,[r0,#2]
 strb r4,[r0,#3]
 cmp r7,#0
 ble last
 adds r0,#4
 mov lr,r0
 str r7,[r6,#A_CHANNELS]
 ldr r0,[r6,#A_VALUES]
 ldr r1,[r6,#A_VALUE_GROUP]
 adds r0,r0,r1
 str r0,[r6,#A_VALUES]
 b next_group

@ Clips all four to 16 bits or 8: a turn takes r1 and gives it back as r4.
wide:
 ldr r0,=0x7fff
 b 1f
high:
 movs r0,#127
1: movs r6,#4
2: asrs r7,r1,#31
 eors r1,r7
 cmp r1,r0
 ble 3f
 movs r1,r0
3: eors r7,r1
 movs r1,r2
 movs r2,r3
 movs r3,r4
 movs r4,r7
 subs r6,#1
 bne 2b
 cmp r0,#127
 beq low
 b narrow
@ One to three channels of a last group go through the frame.
last:
 beq attended
 adds r7,#4
 mov r1,lr
1: ldrb r2,[r0]
 strb r2,[r1]
 adds r0,#1
 adds r1,#1
 subs r7,#1
 bne 1b
attended:
 add sp,#FRAME
 bl a8_m0plus_restore

@ The sums over values that lie as rows of bytes in two pieces.
 .align 2
value_rows:
 ldr r3,=0x00ff00ff
 ldr r4,=0x80808080
 ldr r2,[r6,#A_N_OLD]
 ldr r6,[r6,#A_SCORES]
 lsls r1,r2,#2
 adds r6,r6,r1
piece:
 rsbs r2,r2,#0
 movs r1,#3
 ands r2,r1
 movs r1,#30
 muls r2,r1,r2
 add pc,r2
 nop
one_value:
 .rept 4
 ldr r1,[r0]
 add r0,r12
 ldm r7!,{r5}
 eors r1,r4
 lsrs r2,r1,#8
 ands r1,r3
 ands r2,r3
 muls r1,r5,r1
 muls r2,r5,r2
 add r8,r1
 lsrs r1,r1,#16
 add r9,r1
 add r10,r2
 lsrs r2,r2,#16
 add r11,r2
 .endr
 cmp r7,r6
 bne one_value
 ldr r5,[sp,#F_ARGUMENT]
 ldr r1,[r5,#A_N_KEYS]
 ldr r2,[r5,#A_N_OLD]
 subs r2,r1,r2
 lsls r1,r1,#2
 ldr r0,[r5,#A_SCORES]
 adds r1,r1,r0
 ldr r0,[r5,#A_VALUES]
 ldr r5,[r5,#A_TO_NEWER]
 adds r0,r0,r5
 cmp r6,r1
 beq 1f
 movs r6,r1
 b piece
1: b requantize
 .size a8_m0plus_attend,.-a8_m0plus_attend

@ void a8_m0plus_pack_column(const pack_t *p, const int8_t *x, uint32_t *to, uint32_t n_channels)
 .global a8_m0plus_pack_column
 .type a8_m0plus_pack_column,%function
 .thumb_func
 .align 2
a8_m0plus_pack_column:
 push {r4-r7,lr}
 bl a8_m0plus_save
 ldm r0!,{r4-r7}
 ldr r0,[r0]
 mov r8,r0               @ added
 mov r9,r4
 mov r10,r5
 muls r7,r5,r7
 adds r7,r7,r2
 mov lr,r7               @ end
 mov r7,r6               @ to the second word
 movs r0,#0              @ whole words
 movs r5,#3
 orrs r4,r1
 tst r4,r5
 bne 1f
 cmp r3,#4
 bhs 3f
1: movs r0,#4
 cmp r3,#4
 bhs 3f
 movs r0,r3
3: mov r12,r0
 ldr r5,=0x00ff00ff
 ldr r6,=0x80808080
 b 4f
one_word:
 mov r0,r12
 cmp r0,#0
 bne some_bytes
 ldr r3,[r1]
2: add r1,r9
 eors r3,r6
 lsrs r4,r3,#8
 ands r3,r5
 ands r4,r5
 add r3,r8
 add r4,r8
 str r3,[r2]
 str r4,[r2,r7]
 add r2,r10
4: cmp r2,lr
 bne one_word
 bl a8_m0plus_restore
some_bytes:
 movs r3,#0
5: subs r0,#1
 ldrb r4,[r1,r0]
 lsls r3,r3,#8
 orrs r3,r4
 cmp r0,#0
 bne 5b
 b 2b
 .align 2
 .pool
 .size a8_m0plus_pack_column,.-a8_m0plus_pack_column
#endif
