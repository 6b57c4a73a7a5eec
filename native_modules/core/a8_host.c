/* For hosts that reach the core through a foreign-function interface: many windows in one call. */
#include "a8_bytes.h"
#include "a8_model.h"

int32_t a8_run_many(a8_model_t *m, const uint8_t *file, uint32_t n, void *arena, const uint8_t *inputs,
                    uint32_t n_windows, int8_t *outputs);
void a8_describe(const a8_model_t *m, const uint8_t *file, uint32_t *numbers);

/* inputs (n_windows, T, C) of the input type, outputs (n_windows, n_outputs); the arena has m->arena_bytes. */
int32_t a8_run_many(a8_model_t *m, const uint8_t *file, uint32_t n, void *arena, const uint8_t *inputs,
                    uint32_t n_windows, int8_t *outputs)
{
    uint32_t input_bytes = a8_input_bytes(m), n_outputs = m->n_outputs;
    int32_t err = A8_OK;
    for (; err == A8_OK && n_windows > 0; n_windows--, inputs += input_bytes, outputs += n_outputs)
        err = a8_run(m, file, n, arena, m->arena_bytes, inputs, input_bytes, outputs, n_outputs);
    return err;
}

/* Writes what a caller that cannot see the struct needs. */
void a8_describe(const a8_model_t *m, const uint8_t *file, uint32_t *numbers)
{
    numbers[0] = m->n_steps;
    numbers[1] = m->n_channels;
    numbers[2] = m->input_type;
    numbers[3] = m->n_outputs;
    numbers[4] = m->n_ops;
    numbers[5] = m->n_golden;
    numbers[6] = m->arena_bytes;
    numbers[7] = m->live_bytes;
    numbers[8] = m->macs;
    numbers[9] = a8_u32(file + m->thresholds - A8_AT_TASK_FIXED_BYTES + A8_AT_TASK_HOP);
}
