/* Calls one function of the core on QEMU's Xtensa with MAC16 (-M sim -cpu dc233c -semihosting), real register windows
 * included, then writes its result, the cycles and the memory to standard output. `job` is what test_xtensa_mac16.py
 * writes: function, stack pointer, six arguments, bytes of memory. */
    .macro windowed code, t, s, from_16
    .byte \t << 4, (16 + (\from_16)) << 4 | \s, \code
    .endm
    .macro spill t, s, words
    windowed 0x49, \t, \s, \words /* s32e */
    .endm
    .macro fill t, s, words
    windowed 0x09, \t, \s, \words /* l32e */
    .endm

    .section .vectors, "ax"
vectors:
    .org 0x80 /* a frame of call8 leaves the registers */
    spill 0, 9, -4
    fill 0, 1, -3
    spill 1, 9, -3
    spill 2, 9, -2
    spill 3, 9, -1
    spill 4, 0, -8
    spill 5, 0, -7
    spill 6, 0, -6
    spill 7, 0, -5
    .byte 0x00, 0x34, 0x00 /* rfwo */
    .org 0xC0 /* and comes back */
    fill 0, 9, -4
    fill 1, 9, -3
    fill 2, 9, -2
    fill 7, 1, -3
    fill 3, 9, -1
    fill 4, 7, -8
    fill 5, 7, -7
    fill 6, 7, -6
    fill 7, 7, -5
    .byte 0x00, 0x35, 0x00 /* rfwu */

    .section .text.start, "ax"
    .literal_position
    .global _start
    .align 4
_start:
    movi a2, vectors
    .byte 0x20, 0xe7, 0x13 /* wsr.vecbase a2 */
    movi a2, 1
    .byte 0x20, 0x49, 0x13 /* wsr.windowstart a2 */
    movi a2, 0x40000       /* PS.WOE */
    .byte 0x20, 0xe6, 0x13 /* wsr.ps a2 */
    rsync
    movi a6, job
    l32i a4, a6, 0
    l32i a1, a6, 4
    addi a8, a1, -16
    addi a9, a1, 64        /* where registers a4..a7 of this frame can be spilled */
    s32i a9, a8, 4
    l32i a10, a6, 8
    l32i a11, a6, 12
    l32i a12, a6, 16
    l32i a13, a6, 20
    l32i a14, a6, 24
    l32i a15, a6, 28
    .byte 0x30, 0xea, 0x03 /* rsr.ccount a3 */
    callx8 a4
    .byte 0x50, 0xea, 0x03 /* rsr.ccount a5 */
    sub a5, a5, a3
    s32i a10, a6, 0
    s32i a5, a6, 4
    movi a3, 1
    mov a4, a6
    l32i a5, a6, 32
    movi a2, 4             /* write */
    .byte 0x00, 0x51, 0x00 /* simcall */
    movi a2, 1             /* exit */
    movi a3, 0
    .byte 0x00, 0x51, 0x00
