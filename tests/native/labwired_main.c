/* The core alone on an emulated ESP32: the host writes `job`, `file` and `samples` before the start and reads `report`
 * and `outputs` when `report.done` is DONE. They are volatile, or the compiler drops stores that the loop at the end
 * never reads. */
#include "a8_model.h"
#include "a8_stream.h"

#define DONE 0x600D /* and the size of outputs: labwired_chips.py */

volatile struct {
    uint32_t file_bytes;
    uint32_t samples_bytes; /* 0: the golden vectors; else these samples, as a stream */
    uint32_t push_bytes;    /* of one push */
    uint32_t hop;
} job;

volatile struct {
    uint32_t done;
    int32_t load;
    int32_t result; /* a8_selftest, or the number of outputs, or an error */
    uint32_t cycles;
} report;

uint32_t file[8192], samples[4096];
volatile uint32_t outputs[1024];
static uint32_t model[2048], arena[4096], window[2048], state[4096];

static uint32_t cycle_count(void)
{
    uint32_t n;
#ifdef __XTENSA__
    __asm__ volatile(".byte 0x20, 0xea, 0x03\n\tmov %0, a2" : "=r"(n) : : "a2"); /* rsr.ccount a2 */
#else
    __asm__ volatile("csrr %0, mcycle" : "=r"(n));
#endif
    return n;
}

static int32_t stream(a8_model_t *m, const uint8_t *model_file, const uint8_t *bytes, int8_t *out)
{
    int32_t n = 0, err = a8_stream_reset(m, state, sizeof(state), job.hop);
    for (uint32_t at = 0; at < job.samples_bytes && err >= 0; at += job.push_bytes) {
        err = a8_stream_push(m, model_file, job.file_bytes, arena, sizeof(arena), state, sizeof(state), bytes + at,
                             job.push_bytes, out + (uint32_t)n * m->n_outputs, m->n_outputs);
        n += err > 0 ? err : 0;
    }
    return err < 0 ? err : n;
}

int main(void)
{
    a8_model_t *m = (a8_model_t *)model;
    const uint8_t *f = (const uint8_t *)file;
    report.load = a8_load(m, sizeof(model), f, job.file_bytes);
    uint32_t before = cycle_count();
    if (report.load == 0 && job.samples_bytes)
        report.result = stream(m, f, (const uint8_t *)samples, (int8_t *)outputs);
    else if (report.load == 0)
        report.result = a8_selftest(m, f, job.file_bytes, arena, sizeof(arena), window, a8_input_bytes(m),
                                    (int8_t *)outputs, m->n_outputs);
    report.cycles = cycle_count() - before;
    report.done = DONE;
    for (;;) {
    }
}
