/* The clock that MicroPython's module time asks for: timer 0 of the MPS2 board counts down at 25 MHz. */
#include "py/mphal.h"

#define TIMER ((volatile uint32_t *)0x40000000)
enum { CONTROL, VALUE, RELOAD };

/* Asked at least every 171 s, when the timer wraps. */
static uint64_t clock_cycles(void)
{
    static uint64_t total;
    static uint32_t last;
    if (TIMER[CONTROL] == 0) {
        TIMER[RELOAD] = 0xFFFFFFFF;
        TIMER[VALUE] = 0xFFFFFFFF;
        TIMER[CONTROL] = 1;
    }
    uint32_t now = ~TIMER[VALUE];
    total += now - last;
    last = now;
    return total;
}

mp_uint_t mp_hal_ticks_cpu(void) { return (mp_uint_t)clock_cycles(); }

mp_uint_t mp_hal_ticks_us(void) { return (mp_uint_t)(clock_cycles() / 25); }

mp_uint_t mp_hal_ticks_ms(void) { return (mp_uint_t)(clock_cycles() / 25000); }

void mp_hal_delay_us(mp_uint_t us)
{
    uint64_t end = clock_cycles() + 25ull * us;
    while (clock_cycles() < end)
        continue;
}

void mp_hal_delay_ms(mp_uint_t ms)
{
    while (ms-- > 0)
        mp_hal_delay_us(1000);
}
