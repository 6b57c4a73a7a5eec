/* Calls one function after the other for the host, which writes a mailbox and waits until `function` is 0 again. The
 * host knows the offsets: labwired_core.py. */
    .section .text.start, "ax"
    .literal_position
    .global _start
    .align 4
_start:
    movi a2, 0x40020       /* PS.WOE, PS.UM: register windows, no interrupt */
    .byte 0x20, 0xe6, 0x13 /* wsr.ps a2 */
    rsync
    movi a2, mailbox
1:  l32i a4, a2, 0 /* function */
    beqz a4, 1b
    l32i a1, a2, 4 /* stack; arguments behind the sixth lie there */
    l32i a10, a2, 8
    l32i a11, a2, 12
    l32i a12, a2, 16
    l32i a13, a2, 20
    l32i a14, a2, 24
    l32i a15, a2, 28
    .byte 0x30, 0xea, 0x03 /* rsr.ccount a3 */
    callx8 a4
    .byte 0x50, 0xea, 0x03 /* rsr.ccount a5 */
    sub a5, a5, a3
    s32i a10, a2, 32
    s32i a5, a2, 36
    movi a4, 0
    s32i a4, a2, 0
    j 1b
