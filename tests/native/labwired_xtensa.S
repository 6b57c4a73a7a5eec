/* Starts on a stack, with register windows on and no interrupt. */
    .section .text.start, "ax"
    .literal_position
    .global _start
    .align 4
_start:
    movi a1, stack_top
    movi a2, 0x40020       /* PS.WOE, PS.UM */
    .byte 0x20, 0xe6, 0x13 /* wsr.ps a2 */
    rsync
    movi a8, main
    callx8 a8
1:  j 1b
