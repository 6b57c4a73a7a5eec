/* What the core promises beyond its numbers, and a runner without Python.
 *
 *     core_test api FILE...               every code that does not come from check_model, alignment, a changed file
 *     core_test arena FILE...             canaries around the arena; how much of it is really written
 *     core_test codes LIST                prints the code of each file of LIST (u32 length, bytes)
 *     core_test run FILE WINDOWS OUTPUTS  runs the windows of a file
 *     core_test stream FILE SAMPLES OUTPUTS HOP BLOCK   a recording as a stream, BLOCK samples a push (0: 1, 2, 3, ... in turn)
 *     core_test state FILE...             refusals of a stream, canaries around its state, damaged states
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "a8_kernels.h"
#include "a8_model.h"
#include "a8_stream.h"

#define CANARY_BYTES 64u

/* A model with everything that a run needs, each buffer a block of its own. */
typedef struct {
    uint8_t *file;
    uint32_t n;
    uint32_t model_bytes;
    a8_model_t *m;
    uint8_t *arena;
    uint8_t *input;
    int8_t *output;
    uint32_t input_bytes;
} session_t;

static void expect(int32_t got, int32_t expected, const char *what)
{
    if (got != expected) {
        fprintf(stderr, "%s: got %d, expected %d\n", what, (int)got, (int)expected);
        exit(1);
    }
}

static uint8_t *new_bytes(uint32_t n)
{
    uint8_t *p = malloc(n > 0 ? n : 1);
    if (p == NULL)
        exit(2);
    return p;
}

static uint8_t *read_file(const char *path, uint32_t *n)
{
    FILE *f = fopen(path, "rb");
    if (f == NULL || fseek(f, 0, SEEK_END) != 0)
        exit(2);
    *n = (uint32_t)ftell(f);
    uint8_t *bytes = new_bytes(*n);
    rewind(f);
    if (fread(bytes, 1, *n, f) != *n)
        exit(2);
    fclose(f);
    return bytes;
}

static session_t open_session(const char *path)
{
    session_t s;
    s.file = read_file(path, &s.n);
    s.model_bytes = (uint32_t)a8_model_bytes(s.file, s.n);
    s.m = (a8_model_t *)(void *)new_bytes(s.model_bytes);
    memset(s.m, 0x5A, s.model_bytes);
    expect(a8_load(s.m, s.model_bytes, s.file, s.n), A8_OK, path);
    s.input_bytes = a8_input_bytes(s.m);
    s.arena = new_bytes(s.m->arena_bytes);
    s.input = new_bytes(s.input_bytes);
    s.output = (int8_t *)new_bytes(s.m->n_outputs);
    expect(a8_golden_input(s.m, s.file, 0, s.input, s.input_bytes), A8_OK, "golden input");
    return s;
}

static void close_session(session_t *s)
{
    free(s->file);
    free(s->m);
    free(s->arena);
    free(s->input);
    free(s->output);
}

static int32_t run(session_t *s)
{
    return a8_run(s->m, s->file, s->n, s->arena, s->m->arena_bytes, s->input, s->input_bytes, s->output, s->m->n_outputs);
}

static int32_t selftest(session_t *s)
{
    return a8_selftest(s->m, s->file, s->n, s->arena, s->m->arena_bytes, s->input, s->input_bytes, s->output,
                       s->m->n_outputs);
}

static void test_sizes(session_t *s)
{
    a8_model_t *m = s->m;
    uint32_t arena = m->arena_bytes, in = s->input_bytes, out = m->n_outputs;
    expect(a8_run(m, s->file, s->n, s->arena, arena - 1, s->input, in, s->output, out), A8_ERR_MEMORY, "small arena");
    expect(a8_run(m, s->file, s->n, s->arena + 2, arena, s->input, in, s->output, out), A8_ERR_ALIGNMENT, "arena + 2");
    expect(a8_run(m, s->file, s->n, s->arena, arena, s->input, in - 1, s->output, out), A8_ERR_INPUT, "short input");
    expect(a8_run(m, s->file, s->n, s->arena, arena, s->input, in + 1, s->output, out), A8_ERR_INPUT, "long input");
    expect(a8_run(m, s->file, s->n, s->arena, arena, s->input, in, s->output, out + 1), A8_ERR_OUTPUT, "long output");
    expect(a8_golden_input(m, s->file, m->n_golden, s->input, in), A8_ERR_INPUT, "golden index");
    expect(a8_golden_input(m, s->file, 0, s->input, in + 1), A8_ERR_INPUT, "golden bytes");
    expect(run(s), A8_OK, "after refusals");
}

static void test_moved(session_t *s)
{
    uint32_t n;
    uint8_t *file = s->file, *copy = new_bytes(s->n);
    memcpy(copy, file, s->n);
    s->file = copy;
    expect(run(s), A8_ERR_MOVED, "another address");
    expect(selftest(s), A8_ERR_MOVED, "selftest at another address");
    s->file = file;
    n = s->n--;
    expect(run(s), A8_ERR_MOVED, "another length");
    s->n = n;
    free(copy);
    expect(run(s), A8_OK, "back again");
}

static void test_busy(session_t *s)
{
    s->m->busy = 1;
    expect(run(s), A8_ERR_BUSY, "run inside a run");
    s->m->busy = 0;
    expect(run(s), A8_OK, "not busy");
}

/* A load that fails leaves nothing that runs, and a good one repairs it. */
static void test_loads(session_t *s)
{
    expect(a8_model_bytes(s->file, A8_HEADER_BYTES - 1), A8_ERR_TRUNCATED, "model_bytes of 23 bytes");
    expect(a8_check_model(s->m, s->model_bytes, s->file, 23), A8_ERR_TRUNCATED, "check_model of 23 bytes");
    expect(a8_load(s->m, 0, s->file, s->n), A8_ERR_MEMORY, "no memory for the model");
    expect(a8_load(s->m, s->model_bytes - 1, s->file, s->n), A8_ERR_MEMORY, "a byte too few for the model");
    expect(run(s), A8_ERR_MOVED, "run after a failed load");
    expect(a8_load(s->m, s->model_bytes, s->file, s->n), A8_OK, "load again");
    s->file[s->n - 1] ^= 1;
    expect(a8_load(s->m, s->model_bytes, s->file, s->n), A8_ERR_CRC, "load of a damaged file");
    expect(run(s), A8_ERR_MOVED, "run after a failed check");
    s->file[s->n - 1] ^= 1;
    expect(a8_load(s->m, s->model_bytes, s->file, s->n), A8_OK, "load of the repaired file");
}

/* The file may begin anywhere. */
static void test_alignment(session_t *s)
{
    uint8_t *file = s->file;
    for (uint32_t shift = 1; shift < 4; shift++) {
        uint8_t *block = new_bytes(s->n + shift);
        memcpy(block + shift, file, s->n);
        s->file = block + shift;
        expect(a8_check_model(s->m, s->model_bytes, s->file, s->n), A8_OK, "check_model of an unaligned file");
        expect(a8_load(s->m, s->model_bytes, s->file, s->n), A8_OK, "load of an unaligned file");
        expect(selftest(s), A8_OK, "selftest of an unaligned file");
        free(block);
    }
    s->file = file;
    expect(a8_load(s->m, s->model_bytes, s->file, s->n), A8_OK, "load of an aligned file");
}

/* The window may begin anywhere. */
static void test_input_alignment(session_t *s)
{
    uint8_t *input = s->input, *block = new_bytes(s->input_bytes + 3);
    int8_t *expected = (int8_t *)new_bytes(s->m->n_outputs);
    expect(run(s), A8_OK, "aligned input");
    memcpy(expected, s->output, s->m->n_outputs);
    for (uint32_t shift = 1; shift < 4; shift++) {
        s->input = block + shift;
        memcpy(s->input, input, s->input_bytes);
        expect(run(s), A8_OK, "unaligned input");
        expect(memcmp(expected, s->output, s->m->n_outputs), 0, "outputs of an unaligned input");
    }
    s->input = input;
    free(block);
    free(expected);
}

/* Selftest passes, fails for one wrong golden output or another buffer, and for every golden vector. */
static void test_selftest(session_t *s)
{
    uint8_t *expected = s->file + s->m->golden + 4u * s->m->n_channels + 8u * s->m->n_golden;
    expect(selftest(s), A8_OK, "selftest");
    for (uint32_t i = 0; i < s->m->n_golden; i++) {
        expected[i * s->m->n_outputs] ^= 1;
        expect(selftest(s), A8_ERR_SELFTEST, "selftest with a wrong output");
        expected[i * s->m->n_outputs] ^= 1;
    }
    s->input_bytes--;
    expect(selftest(s), A8_ERR_INPUT, "selftest with a short input");
    s->input_bytes++;
}

/* Whatever happens to the file after load, a run ends and stays in its buffers (the sanitizers watch). */
static void test_changed(session_t *s)
{
    uint8_t *copy = new_bytes(s->n);
    memcpy(copy, s->file, s->n);
    for (uint32_t value = 0; value < 256; value += 15) {
        memset(s->file, (int)value, s->n);
        expect(run(s), A8_OK, "run of a changed file");
        expect(a8_golden_input(s->m, s->file, 1, s->input, s->input_bytes), A8_OK, "golden input of a changed file");
    }
    memcpy(s->file, copy, s->n);
    expect(selftest(s), A8_OK, "selftest of the restored file");
    free(copy);
}

/* The first largest output wins; equal outputs share the score. */
static void test_score(session_t *s)
{
    uint32_t n = s->m->n_outputs, best = n;
    memset(s->output, 3, n);
    expect(a8_score(s->m, s->output, &best), (int32_t)((12700 + 127 * n / 2) / (127 * n)), "score of equal outputs");
    expect((int32_t)best, 0, "best of equal outputs");
    s->output[n - 1] = 4;
    expect(a8_score(s->m, s->output, &best) <= 100, 1, "score");
    expect((int32_t)best, (int32_t)n - 1, "best output");
}

static void test_api(const char *path)
{
    session_t s = open_session(path);
    test_sizes(&s);
    test_moved(&s);
    test_busy(&s);
    test_loads(&s);
    test_alignment(&s);
    test_input_alignment(&s);
    test_selftest(&s);
    test_score(&s);
    test_changed(&s);
    close_session(&s);
}

/* Runs in an arena painted with a value between canaries; counts in `touched` the bytes that differ from the paint. */
static void run_painted(session_t *s, uint8_t paint, uint8_t *touched)
{
    uint32_t n = s->m->arena_bytes;
    uint8_t *block = new_bytes(n + 2 * CANARY_BYTES), *arena = s->arena;
    memset(block, 0xC5, n + 2 * CANARY_BYTES);
    memset(block + CANARY_BYTES, paint, n);
    s->arena = block + CANARY_BYTES;
    expect(run(s), A8_OK, "painted run");
    for (uint32_t i = 0; i < CANARY_BYTES; i++)
        expect(block[i] == 0xC5 && block[CANARY_BYTES + n + i] == 0xC5, 1, "canaries");
    for (uint32_t i = 0; i < n; i++)
        touched[i] |= s->arena[i] != paint;
    s->arena = arena;
    free(block);
}

static void test_arena(const char *path)
{
    session_t s = open_session(path);
    uint32_t n = s.m->arena_bytes, high_water = 0;
    uint8_t *touched = calloc(n, 1);
    for (uint32_t v = 0; v < s.m->n_golden; v++) {
        expect(a8_golden_input(s.m, s.file, v, s.input, s.input_bytes), A8_OK, "golden input");
        run_painted(&s, 0xA5, touched);
        run_painted(&s, 0x3C, touched);
    }
    for (uint32_t i = 0; i < n; i++)
        if (touched[i])
            high_water = i + 1;
    printf("%lu %lu %lu\n", (unsigned long)n, (unsigned long)s.m->live_bytes, (unsigned long)high_water);
    free(touched);
    close_session(&s);
}

static void print_codes(const char *path)
{
    uint32_t n, list_bytes;
    uint8_t *list = read_file(path, &list_bytes);
    for (uint32_t at = 0; at < list_bytes; at += 4 + n) {
        memcpy(&n, list + at, 4);
        uint8_t *file = new_bytes(n);
        memcpy(file, list + at + 4, n);
        int32_t code = a8_model_bytes(file, n);
        if (code > 0) {
            a8_model_t *m = (a8_model_t *)(void *)new_bytes((uint32_t)code);
            code = a8_load(m, (uint32_t)code, file, n);
            free(m);
        }
        printf("%d\n", -(int)code);
        free(file);
    }
    free(list);
}

static void run_windows(const char *model, const char *windows, const char *outputs)
{
    uint32_t n;
    session_t s = open_session(model);
    uint8_t *bytes = read_file(windows, &n);
    FILE *out = fopen(outputs, "wb");
    for (uint32_t at = 0; at < n; at += s.input_bytes) {
        memcpy(s.input, bytes + at, s.input_bytes);
        expect(run(&s), A8_OK, "run");
        if (out == NULL || fwrite(s.output, 1, s.m->n_outputs, out) != s.m->n_outputs)
            exit(2);
    }
    if (fclose(out) != 0)
        exit(2);
    free(bytes);
    close_session(&s);
}

#ifndef A8_WITHOUT_STREAM
/* A stream of a session; its state ends where its block ends. */
typedef struct {
    session_t *s;
    uint32_t bytes;
    uint8_t *state;
} stream_t;

static stream_t open_stream(session_t *s, uint32_t hop)
{
    stream_t stream = {s, (uint32_t)a8_stream_bytes(s->m), NULL};
    expect(a8_stream_bytes(s->m) > 0, 1, "a causal model");
    stream.state = new_bytes(stream.bytes);
    memset(stream.state, 0x5A, stream.bytes);
    expect(a8_stream_reset(s->m, stream.state, stream.bytes, hop), A8_OK, "reset");
    return stream;
}

static int32_t push(stream_t *t, const uint8_t *samples, uint32_t n)
{
    session_t *s = t->s;
    return a8_stream_push(s->m, s->file, s->n, s->arena, s->m->arena_bytes, t->state, t->bytes, samples, n, s->output,
                          s->m->n_outputs);
}

/* In blocks of several samples only the last outputs of a block are seen. */
static void run_stream(const char *model, const char *samples, const char *outputs, uint32_t hop, uint32_t block)
{
    uint32_t n, n_samples = block;
    session_t s = open_session(model);
    stream_t t = open_stream(&s, hop);
    uint8_t *bytes = read_file(samples, &n);
    FILE *out = fopen(outputs, "wb");
    for (uint32_t at = 0, sample_bytes = s.input_bytes / s.m->n_steps; at < n; at += n_samples * sample_bytes) {
        n_samples = block > 0 ? block : n_samples % 7 + 1;
        if (n_samples > (n - at) / sample_bytes)
            n_samples = (n - at) / sample_bytes;
        memset(s.arena, (int)at, s.m->arena_bytes); /* nothing in it lasts */
        uint8_t *copy = new_bytes(n_samples * sample_bytes + 1);
        memcpy(copy + 1, bytes + at, n_samples * sample_bytes);
        int32_t n_outputs = push(&t, copy + 1, n_samples * sample_bytes);
        expect(n_outputs >= 0, 1, "push");
        free(copy);
        if (out == NULL || (n_outputs > 0 && fwrite(s.output, 1, s.m->n_outputs, out) != s.m->n_outputs))
            exit(2);
    }
    if (fclose(out) != 0)
        exit(2);
    free(bytes);
    free(t.state);
    close_session(&s);
}

static void test_stream_refusals(stream_t *t)
{
    session_t *s = t->s;
    uint32_t sample_bytes = s->input_bytes / s->m->n_steps;
    expect(push(t, s->input, 0), A8_ERR_INPUT, "no sample");
    if (sample_bytes > 1)
        expect(push(t, s->input, sample_bytes + 1), A8_ERR_INPUT, "a sample and a byte");
    t->bytes--;
    expect(push(t, s->input, sample_bytes), A8_ERR_MEMORY, "a small state");
    expect(a8_stream_reset(s->m, t->state, t->bytes, 1), A8_ERR_MEMORY, "reset of a small state");
    t->bytes++;
    t->state += 2;
    expect(push(t, s->input, sample_bytes), A8_ERR_ALIGNMENT, "an unaligned state");
    expect(a8_stream_reset(s->m, t->state, t->bytes, 1), A8_ERR_ALIGNMENT, "reset of an unaligned state");
    t->state -= 2;
    s->m->busy = 1;
    expect(push(t, s->input, sample_bytes), A8_ERR_BUSY, "push inside a run");
    s->m->busy = 0;
    s->n--;
    expect(push(t, s->input, sample_bytes), A8_ERR_MOVED, "push of another file");
    s->n++;
    expect(push(t, s->input, s->input_bytes), 1, "a window after refusals");
    expect(push(t, s->input, s->input_bytes), (int32_t)s->m->n_steps, "a window more with hop 1");
    expect(a8_stream_reset(s->m, t->state, t->bytes, 0), A8_OK, "hop 0 counts as 1");
    expect(push(t, s->input, s->input_bytes), 1, "a window after reset");
    expect(s->m->busy, 0, "not busy");
}

/* Whatever is in the state, a push ends and stays in its buffers (the sanitizers watch). */
static void test_damaged_states(stream_t *t)
{
    uint32_t seed = 1;
    for (uint32_t round = 0; round < 300; round++) {
        for (uint32_t i = 0; i < t->bytes; i++) {
            seed = seed * 1664525u + 1013904223u;
            if (round % 3 == 0 || seed >> 29 == 0)
                t->state[i] = (uint8_t)(round % 2 == 0 ? seed >> 24 : 255);
        }
        expect(push(t, t->s->input, t->s->input_bytes) >= 0, 1, "push with a damaged state");
    }
}

static void test_state(const char *path)
{
    session_t s = open_session(path);
    stream_t t = open_stream(&s, 1);
    test_stream_refusals(&t);
    test_damaged_states(&t);
    memset(s.file, 0xFF, s.n);
    expect(push(&t, s.input, s.input_bytes) >= 0, 1, "push of a changed file");
    free(t.state);
    close_session(&s);
}
#endif

int main(int argc, char **argv)
{
    const char *mode = argc > 2 ? argv[1] : "";
    if (strcmp(mode, "run") == 0 && argc == 5)
        run_windows(argv[2], argv[3], argv[4]);
#ifndef A8_WITHOUT_STREAM
    else if (strcmp(mode, "stream") == 0 && argc == 7)
        run_stream(argv[2], argv[3], argv[4], (uint32_t)atoi(argv[5]), (uint32_t)atoi(argv[6]));
    else if (strcmp(mode, "state") == 0)
        for (int i = 2; i < argc; i++)
            test_state(argv[i]);
#endif
    else if (strcmp(mode, "codes") == 0)
        print_codes(argv[2]);
    else if (strcmp(mode, "api") == 0 || strcmp(mode, "arena") == 0)
        for (int i = 2; i < argc; i++)
            (mode[1] == 'p' ? test_api : test_arena)(argv[i]);
    else
        return 2;
    return 0;
}
