/* Structure-aware mutator of model files, in one process with the core.
 *
 *     fuzz_check random COUNT SEED WORK FILE...   mutates, checks, runs what passes; WORK caps macs + bytes of a run
 *     fuzz_check every WORK FILE...               every header byte x 256, every truncation, every single-bit flip
 *     fuzz_check write COUNT SEED OUT FILE...     writes mutants to OUT: u32 length, i32 code, bytes
 *
 * Every buffer is a block of its own and exactly as long as the core was told, so that AddressSanitizer fences it.
 * Prints the count of each code, what was accepted and run, and a hash of all codes and outputs.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "a8_bytes.h"
#include "a8_model.h"
#include "a8_stream.h"

#define MAX_BYTES 65536u
#define MAX_FILES 64
#define MAX_RECORDS 128
#define N_CODES 64

typedef struct {
    uint8_t bytes[MAX_BYTES];
    uint32_t n;
} file_t;

static file_t seeds[MAX_FILES];
static uint32_t n_seeds;
static uint64_t state = 1, hash = 0xCBF29CE484222325u;
static uint64_t counts[N_CODES], n_files, n_repaired, n_accepted, n_run, n_streams, n_changed_runs;
static uint32_t work_limit;

static void fail(const char *what)
{
    fprintf(stderr, "fuzz_check: %s\n", what);
    exit(1);
}

static uint32_t draw(uint32_t n)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (uint32_t)((state >> 32) % n);
}

static void add_to_hash(const void *bytes, uint32_t n)
{
    for (const uint8_t *p = bytes; n > 0; n--)
        hash = (hash ^ *p++) * 0x100000001B3u;
}

static void put16(uint8_t *p, uint32_t v)
{
    p[0] = (uint8_t)v;
    p[1] = (uint8_t)(v >> 8);
}

static void put32(uint8_t *p, uint32_t v)
{
    put16(p, v);
    put16(p + 2, v >> 16);
}

static uint32_t crc_table[256];

static void make_crc_table(void)
{
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t v = i;
        for (int bit = 0; bit < 8; bit++)
            v = v & 1 ? v >> 1 ^ 0xEDB88320u : v >> 1;
        crc_table[i] = v;
    }
}

static uint32_t crc(uint32_t value, const uint8_t *p, uint32_t n)
{
    for (; n > 0; n--)
        value = value >> 8 ^ crc_table[(value ^ *p++) & 255];
    return value;
}

static void repair_crc(file_t *f)
{
    if (f->n >= A8_HEADER_BYTES)
        put32(f->bytes + 12, ~crc(crc(0xFFFFFFFFu, f->bytes, 12), f->bytes + 16, f->n - 16));
}

/* A block of n bytes that begins `shift` behind a multiple of 16 and ends where the allocation ends. */
static uint8_t *block(uint32_t n, uint32_t shift)
{
    uint8_t *p = malloc((size_t)n + shift + (n + shift == 0));
    if (p == NULL)
        fail("out of memory");
    return p + shift;
}

static int32_t check_at(const file_t *f, uint32_t shift, int loading, a8_model_t **model, uint8_t **bytes)
{
    *bytes = block(f->n, shift);
    memcpy(*bytes, f->bytes, f->n);
    int32_t model_bytes = a8_model_bytes(*bytes, f->n);
    *model = (a8_model_t *)(void *)block(model_bytes < 0 ? 0 : (uint32_t)model_bytes, 0);
    if (model_bytes < 0)
        return model_bytes;
    return (loading ? a8_load : a8_check_model)(*model, (uint32_t)model_bytes, *bytes, f->n);
}

static int32_t check_once(const file_t *f, uint32_t shift, int loading)
{
    a8_model_t *m;
    uint8_t *bytes;
    int32_t code = check_at(f, shift, loading, &m, &bytes);
    free(m);
    free(bytes - shift);
    return code;
}

static void run(a8_model_t *m, const uint8_t *bytes, uint32_t n, uint32_t input_shift)
{
    uint32_t input_bytes = a8_input_bytes(m), best;
    uint8_t *arena = block(m->arena_bytes, 0), *input = block(input_bytes, input_shift);
    int8_t *output = (int8_t *)block(m->n_outputs, 1);
    if (a8_golden_input(m, bytes, draw(m->n_golden), input, input_bytes) != A8_OK)
        fail("golden input refused");
    if (a8_run(m, bytes, n, arena, m->arena_bytes, input, input_bytes, output, m->n_outputs) != A8_OK)
        fail("run refused");
    add_to_hash(output, m->n_outputs);
    if (a8_score(m, output, &best) > 100 || best >= m->n_outputs)
        fail("score out of range");
    free(arena);
    free(input - input_shift);
    free(output - 1);
}

/* Some samples through a model that is causal. */
static void stream(a8_model_t *m, const uint8_t *bytes, uint32_t n)
{
    int32_t state_bytes = a8_stream_bytes(m);
    if (state_bytes < 0 || (uint32_t)state_bytes > work_limit)
        return;
    uint32_t sample_bytes = a8_input_bytes(m) / m->n_steps;
    uint8_t *arena = block(m->arena_bytes, 0), *sample = block(sample_bytes, 1), *state = block((uint32_t)state_bytes, 0);
    int8_t *output = (int8_t *)block(m->n_outputs, 1);
    for (uint32_t i = 0; i < sample_bytes; i++)
        sample[i] = (uint8_t)draw(256);
    if (a8_stream_reset(m, state, (uint32_t)state_bytes, draw(4)) != A8_OK)
        fail("reset refused");
    for (uint32_t i = 0; i < 2u * m->n_steps && i < 64; i++)
        if (a8_stream_push(m, bytes, n, arena, m->arena_bytes, state, (uint32_t)state_bytes, sample, sample_bytes, output,
                           m->n_outputs) < 0)
            fail("push refused");
    add_to_hash(output, m->n_outputs);
    n_streams++;
    free(arena);
    free(sample - 1);
    free(state);
    free(output - 1);
}

/* Changes bytes of a file that was loaded: anything may happen to the numbers, nothing to the process. */
static void scramble(uint8_t *bytes, uint32_t n)
{
    uint32_t kind = draw(4), fill = draw(256);
    for (uint32_t i = 0; i < n; i++)
        if (kind == 0 || draw(4) == 0)
            bytes[i] = (uint8_t)(kind == 1 ? draw(256) : kind == 2 ? 255 : fill);
}

static void run_accepted(const file_t *f)
{
    a8_model_t *m;
    uint8_t *bytes;
    if (check_at(f, 0, 1, &m, &bytes) != A8_OK)
        fail("load refused what check_model accepted");
    if (m->macs + m->arena_bytes + a8_input_bytes(m) <= work_limit) {
        run(m, bytes, f->n, draw(2));
        n_run++;
        stream(m, bytes, f->n);
        scramble(bytes, f->n);
        run(m, bytes, f->n, draw(2));
        n_changed_runs++;
    }
    for (uint32_t shift = 1; shift < 4; shift++)
        if (check_once(f, shift, 1) != A8_OK)
            fail("an unaligned file was refused");
    free(m);
    free(bytes);
}

static int32_t test(const file_t *f)
{
    int32_t code = check_once(f, 0, 0);
    n_files++;
    if (code > 0 || code <= -N_CODES)
        fail("no such code");
    counts[-code]++;
    add_to_hash(&code, sizeof(code));
    uint32_t shift = 1 + draw(3);
    if (code == A8_OK || draw(8) == 0)
        if (check_once(f, shift, 0) != code)
            fail("the code depends on the base alignment");
    if (code == A8_OK) {
        n_accepted++;
        run_accepted(f);
    }
    return code;
}

/* Mutations. */

static uint32_t find_records(const file_t *f, uint32_t *at)
{
    uint32_t n = 0, pos = A8_HEADER_BYTES;
    while (n < MAX_RECORDS - 1 && pos + 8 <= f->n && a8_u32(f->bytes + pos + 4) <= f->n - pos - 8) {
        at[n++] = pos;
        pos += 8 + a8_u32(f->bytes + pos + 4);
    }
    at[n] = pos;
    return n;
}

/* Replaces `old` bytes at `at` by n others. */
static void splice(file_t *f, uint32_t at, uint32_t old, const uint8_t *bytes, uint32_t n)
{
    static uint8_t copy[MAX_BYTES];
    if (f->n - old + n > MAX_BYTES)
        return;
    memcpy(copy, bytes, n);
    memmove(f->bytes + at + n, f->bytes + at + old, f->n - at - old);
    memcpy(f->bytes + at, copy, n);
    f->n += n - old;
}

static uint32_t interesting(uint32_t old)
{
    static const uint32_t values[] = {0,      1,      2,      3,         7,          8,          15,         16,        29,        30,
                                      31,     32,     63,     64,        100,        101,        127,        128,       254,       255,
                                      256,    257,    1023,   1024,      1025,       16383,      16384,      32766,     32767,     32768,
                                      65535,  1u << 20, (1u << 20) + 1, 1u << 22, (1u << 26) - 1, (1u << 26), (1u << 29) - 1, 1u << 29, 0x7FFFFFFF, 0x80000000,
                                      0xE0000001, 0xE0000000, 0xFFFFFFFF, 1u << 24, (1u << 24) + 1, 0xFF000000, 0xFEFFFFFF, 0x7F800000, 0x00800000, 0x007FFFFF};
    uint32_t kind = draw(4);
    if (kind == 0)
        return old + 1 - 2 * draw(2);
    return kind == 1 ? draw(65536) << 16 | draw(65536) : values[draw(sizeof(values) / sizeof(values[0]))];
}

static void set_field(file_t *f, uint32_t at)
{
    uint32_t width = 1u << draw(3);
    if (at + width > f->n)
        return;
    uint32_t old = width == 1 ? f->bytes[at] : width == 2 ? a8_u16(f->bytes + at) : a8_u32(f->bytes + at);
    uint32_t v = interesting(old);
    if (width == 4)
        put32(f->bytes + at, v);
    else if (width == 2)
        put16(f->bytes + at, v);
    else
        f->bytes[at] = (uint8_t)v;
}

static void flip(file_t *f)
{
    uint32_t at = draw(f->n);
    if (draw(2))
        f->bytes[at] ^= (uint8_t)(1u << draw(8));
    else
        f->bytes[at] = (uint8_t)draw(256);
}

static void resize_record(file_t *f, uint32_t at, uint32_t payload)
{
    static const uint8_t zeros[64];
    uint32_t n = 4 * (1 + draw(8)), where = at + 8 + (payload > 0 ? draw(payload + 1) : 0);
    if (draw(2) && where + n <= at + 8 + payload)
        splice(f, where, n, zeros, 0), put32(f->bytes + at + 4, payload - n);
    else
        splice(f, where, 0, draw(2) ? zeros : f->bytes + A8_HEADER_BYTES, n), put32(f->bytes + at + 4, payload + n);
}

static void swap_records(file_t *f, const uint32_t *at, uint32_t i, uint32_t j)
{
    static uint8_t moved[MAX_BYTES];
    uint32_t a = i < j ? i : j, b = i < j ? j : i, n = at[b + 1] - at[b];
    if (a == b)
        return;
    memcpy(moved, f->bytes + at[b], n);
    splice(f, at[b], n, f->bytes + at[a], at[a + 1] - at[a]);
    splice(f, at[a], at[a + 1] - at[a], moved, n);
}

static void mutate_records(file_t *f)
{
    uint32_t at[MAX_RECORDS], other_at[MAX_RECORDS], n = find_records(f, at);
    const file_t *other = &seeds[draw(n_seeds)];
    if (n == 0)
        return;
    uint32_t i = draw(n), size = at[i + 1] - at[i], j = draw(find_records(other, other_at));
    switch (draw(10)) {
    case 0: splice(f, at[i], size, f->bytes, 0); break;
    case 1: splice(f, at[draw(n)], 0, f->bytes + at[i], size); break;
    case 2: swap_records(f, at, i, draw(n)); break;
    case 3: splice(f, at[i], draw(2) ? size : 0, other->bytes + other_at[j], other_at[j + 1] - other_at[j]); break;
    case 4: put16(f->bytes + at[i], draw(2) ? draw(24) : interesting(f->bytes[at[i]])); break;
    case 5: put16(f->bytes + at[i] + 2, draw(3)); break;
    case 6: put32(f->bytes + at[i] + 4, size - 8 + 4 * draw(5) - 8); break;
    case 7: resize_record(f, at[i], size - 8); break;
    default: set_field(f, at[i] + 8 + draw(size < 40 ? size : 40)); break;
    }
}

/* An optional record of unknown type behind the last one: a file that must still be accepted. */
static void append_optional(file_t *f)
{
    uint8_t record[8 + 16] = {0};
    uint32_t payload = 4 * draw(5);
    put16(record, 128 + draw(1000));
    put16(record + 2, draw(8) != 0);
    put32(record + 4, payload);
    splice(f, f->n, 0, record, 8 + payload);
}

static void mutate(file_t *f)
{
    for (uint32_t i = 1 + draw(4); i > 0 && f->n > 0; i--)
        switch (draw(12)) {
        case 0: case 1: flip(f); break;
        case 2: set_field(f, draw(f->n)); break;
        case 3: set_field(f, draw(A8_HEADER_BYTES)); break;
        case 4: f->n = draw(8) ? f->n : draw(f->n + 1); break;
        case 5: append_optional(f); break;
        default: mutate_records(f); break;
        }
}

/* Makes the n_ops of the header that of the records. */
static void repair_count(file_t *f)
{
    uint32_t at[MAX_RECORDS], n_ops = 0, n = find_records(f, at);
    for (uint32_t i = 0; i < n; i++)
        n_ops += a8_u16(f->bytes + at[i]) >= A8_FIRST_OP && a8_u16(f->bytes + at[i]) <= A8_LAST_OP;
    put16(f->bytes + 6, n_ops);
}

static void make_mutant(file_t *f, uint32_t one_in)
{
    const file_t *seed = &seeds[draw(n_seeds)];
    f->n = seed->n;
    memcpy(f->bytes, seed->bytes, seed->n);
    mutate(f);
    if (f->n < A8_HEADER_BYTES)
        return;
    if (draw(4))
        repair_count(f);
    if (draw(16))
        put32(f->bytes + 8, f->n);
    if (draw(one_in) == 0)
        return;
    repair_crc(f);
    n_repaired++;
}

/* Modes. */

static void read_seed(const char *path)
{
    FILE *file = fopen(path, "rb");
    if (file == NULL || n_seeds == MAX_FILES)
        fail("cannot read a seed");
    seeds[n_seeds].n = (uint32_t)fread(seeds[n_seeds].bytes, 1, MAX_BYTES, file);
    fclose(file);
    if (check_once(&seeds[n_seeds++], 0, 0) != A8_OK)
        fail("a seed is not a model");
}

static void report(void)
{
    printf("{\"files\": %llu, \"crc_repaired\": %llu, \"accepted\": %llu, \"run\": %llu, \"streams\": %llu, \"run_changed\": %llu, ",
           (unsigned long long)n_files, (unsigned long long)n_repaired, (unsigned long long)n_accepted,
           (unsigned long long)n_run, (unsigned long long)n_streams, (unsigned long long)n_changed_runs);
    printf("\"codes\": {");
    for (uint32_t c = 0, first = 1; c < N_CODES; c++)
        if (counts[c] > 0) {
            printf("%s\"%u\": %llu", first ? "" : ", ", c, (unsigned long long)counts[c]);
            first = 0;
        }
    printf("}, \"hash\": \"%016llx\"}\n", (unsigned long long)hash);
}

static void fuzz(uint64_t count)
{
    static file_t f;
    for (; count > 0; count--) {
        make_mutant(&f, 2);
        test(&f);
    }
}

static void write_mutants(uint64_t count, const char *path)
{
    static file_t f;
    FILE *out = fopen(path, "wb");
    if (out == NULL)
        fail("cannot write");
    for (; count > 0; count--) {
        make_mutant(&f, 32);
        uint8_t head[8];
        put32(head, f.n);
        put32(head + 4, (uint32_t)check_once(&f, draw(4), 0));
        if (fwrite(head, 1, 8, out) != 8 || fwrite(f.bytes, 1, f.n, out) != f.n)
            fail("cannot write");
    }
    if (fclose(out) != 0)
        fail("cannot write");
}

/* A file that was changed without its CRC is refused; with it, it is refused or harmless. */
static void test_both(file_t *f)
{
    if (test(f) == A8_OK)
        fail("a damaged file was accepted");
    repair_crc(f);
    n_repaired++;
    test(f);
}

static void test_every(const file_t *seed)
{
    static file_t f;
    for (uint32_t i = 0; i < A8_HEADER_BYTES; i++)
        for (uint32_t v = 0; v < 256; v++) {
            f = *seed;
            f.bytes[i] = (uint8_t)v;
            if (v != seed->bytes[i])
                test_both(&f);
        }
    for (uint32_t n = 0; n < seed->n; n++) {
        f = *seed;
        f.n = n;
        test(&f);
        put32(f.bytes + 8, n);
        test_both(&f);
    }
    for (uint32_t bit = 0; bit < 8 * seed->n; bit++) {
        memcpy(f.bytes, seed->bytes, seed->n);
        f.n = seed->n;
        f.bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
        test_both(&f);
    }
}

int main(int argc, char **argv)
{
    make_crc_table();
    int every = argc > 3 && strcmp(argv[1], "every") == 0, first = every ? 3 : 5;
    if (argc <= first)
        fail("usage: fuzz_check random COUNT SEED WORK FILE... | every WORK FILE... | write COUNT SEED OUT FILE...");
    for (int i = first; i < argc; i++)
        read_seed(argv[i]);
    uint64_t count = every ? 0 : strtoull(argv[2], NULL, 10);
    state = every ? 1 : 2 * strtoull(argv[3], NULL, 10) + 1;
    work_limit = (uint32_t)strtoul(every ? argv[2] : argv[4], NULL, 10);
    if (every)
        for (uint32_t i = 0; i < n_seeds; i++)
            test_every(&seeds[i]);
    else if (strcmp(argv[1], "write") == 0)
        write_mutants(count, argv[4]);
    else
        fuzz(count);
    report();
    return 0;
}
