/* Golden vectors. The module for MicroPython does without: it makes them in Python, where that costs no code in RAM. */
#include "a8_bytes.h"
#include "a8_model.h"

/* The generator of golden inputs: two states of 16 bits, period 2^32 - 1. */
typedef struct {
    uint32_t x;
    uint32_t y;
} generator_t;

static uint32_t draw(generator_t *g)
{
    uint32_t t = (g->x ^ g->x << 5) & 0xFFFF;
    g->x = g->y;
    g->y = (g->y ^ g->y >> 1) ^ (t ^ t >> 3);
    return g->y;
}

/* Draws one sample; channels are rows of the golden record. */
static void draw_sample(const a8_model_t *m, generator_t *g, const uint8_t *channel, uint8_t *to)
{
    for (uint32_t c = 0; c < m->n_channels; c++, channel += 4) {
        uint32_t value = a8_u16(channel) + (draw(g) * a8_u16(channel + 2) >> 16);
        *to++ = (uint8_t)value;
        if (m->input_type == A8_INPUT_INT16)
            *to++ = (uint8_t)(value >> 8);
    }
}

int32_t a8_golden_input(const a8_model_t *m, const uint8_t *file, uint32_t i, void *input, uint32_t input_bytes)
{
    if (i >= m->n_golden || input_bytes != a8_input_bytes(m))
        return A8_ERR_INPUT;
    const uint8_t *channels = file + m->golden, *vector = channels + 4u * m->n_channels + 8 * i;
    uint32_t hold = a8_u16(vector + 4), held = 0, sample_bytes = input_bytes / m->n_steps;
    generator_t g = {a8_u16(vector), a8_u16(vector + 2)};
    uint8_t *to = input;
    for (uint32_t t = 0; t < m->n_steps; t++, to += sample_bytes) {
        if (held == 0)
            draw_sample(m, &g, channels, to);
        else
            memcpy(to, to - sample_bytes, sample_bytes);
        held = held + 1 < hold ? held + 1 : 0;
    }
    return A8_OK;
}

static int same_bytes(const uint8_t *a, const int8_t *b, uint32_t n)
{
    while (n > 0 && *a++ == (uint8_t)*b++)
        n--;
    return n == 0;
}

int32_t a8_selftest(a8_model_t *m, const uint8_t *file, uint32_t n, void *arena, uint32_t arena_bytes, void *input,
                    uint32_t input_bytes, int8_t *output, uint32_t output_bytes)
{
    int32_t err = a8_check_run(m, file, n, arena, arena_bytes, output_bytes);
    if (err != A8_OK)
        return err;
    const uint8_t *expected = file + m->golden + 4u * m->n_channels + 8u * m->n_golden;
    for (uint32_t i = 0; i < m->n_golden; i++, expected += output_bytes) {
        err = a8_golden_input(m, file, i, input, input_bytes);
        if (err == A8_OK)
            err = a8_run(m, file, n, arena, arena_bytes, input, input_bytes, output, output_bytes);
        if (err != A8_OK)
            return err;
        if (!same_bytes(expected, output, output_bytes))
            return A8_ERR_SELFTEST;
    }
    return A8_OK;
}
