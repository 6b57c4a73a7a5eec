/* Streams. The state is its head, then the part of each op that keeps tokens, in their order, then, if no pool is before
 * them, the outputs of the last token. Each part begins with a8_ring_t; where the others lie is computed anew at every
 * pass, from the model alone.
 */
#include "a8_stream.h"

#include "a8_bytes.h"
#include "a8_kernels.h"

#ifndef A8_WITHOUT_STREAM
typedef struct {
    uint32_t hop;
    uint32_t due; /* samples until the next output */
} head_t;

#define HEAD_BYTES 8u
#define RING_BYTES 4u

typedef struct {
    uint16_t newest; /* place of the newest token of attention or a pool; tokens that a convolution skips */
    uint16_t n_tokens;
} a8_ring_t;

/* A set of tensors. */
typedef struct {
    uint32_t bits[A8_MAX_OPS / 32 + 1];
} set_t;

static inline int has(const set_t *s, uint32_t id) { return (int)(s->bits[id / 32] >> id % 32 & 1); }
static inline void put(set_t *s, uint32_t id) { s->bits[id / 32] |= (uint32_t)1 << id % 32; }

/* What all steps of a push need. */
typedef struct {
    const a8_model_t *m;
    const uint8_t *file;
    void *arena;
    const void *sample;
    uint8_t *state;
} push_t;

/* Bytes that an op keeps of what is before a pool. */
static uint32_t op_bytes(const a8_model_t *m, const a8_op_t *op)
{
    const a8_tensor_t *x = a8_tensor(m, op->source[0]);
    uint32_t d = x->n_channels;
    if (A8_IS(op->code, CONV1D_S8))
        return RING_BYTES + a8_padded(op->as.product.kernel * d);
    if (A8_IS(op->code, WINDOWED_ATTENTION_S8))
        return RING_BYTES + 2 * a8_padded((op->as.attention.left + 1u) * d);
    return A8_IS(op->code, MEAN_POOL_S8) ? RING_BYTES + 4 * d + a8_padded(x->n_steps * d) : 0;
}

/* Adds op i to the set if its output lies behind a pool; says whether its source does. */
static int follows_pool(const a8_op_t *op, uint32_t i, set_t *pooled)
{
    int follows = has(pooled, op->source[0]);
    if (follows || A8_IS(op->code, MEAN_POOL_S8))
        put(pooled, i + 1);
    return follows;
}

static uint32_t state_bytes_of(const a8_model_t *m)
{
    set_t pooled = {{0}};
    uint32_t n = HEAD_BYTES;
    for (uint32_t i = 0; i < m->n_ops; i++)
        if (!follows_pool(&m->ops[i], i, &pooled))
            n += op_bytes(m, &m->ops[i]);
    return n + (has(&pooled, m->n_ops) ? 0 : a8_padded(m->n_outputs));
}

/* Token i of a tensor is complete with sample i*stride + delay. */
typedef struct {
    uint32_t stride;
    uint32_t delay;
} timing_t;

/* Walks from a tensor up to the input; what is past the limit stays there. */
static timing_t timing_of(const a8_model_t *m, uint32_t id)
{
    timing_t t = {1, 0};
    while (id > 0 && t.stride <= A8_MAX_STREAM_STEPS && t.delay <= A8_MAX_STREAM_STEPS) {
        const a8_op_t *op = &m->ops[id - 1];
        if (A8_IS(op->code, CONV1D_S8)) {
            t.delay = t.delay * op->as.product.stride + op->as.product.kernel - 1u - op->as.product.pad_left;
            t.stride *= op->as.product.stride;
        }
        id = op->source[0];
    }
    return t;
}

static int all_pooled(const a8_op_t *op, const set_t *pooled)
{
    uint32_t s = 0;
    while (s < a8_n_sources(op->code) && has(pooled, op->source[s]))
        s++;
    return s == a8_n_sources(op->code);
}

/* Whether an op with a source that is not pooled knows its tokens when they come. */
static int is_causal(const a8_model_t *m, uint32_t i, const set_t *pooled)
{
    const a8_op_t *op = &m->ops[i];
    timing_t first = timing_of(m, op->source[0]), t = timing_of(m, i + 1);
    for (uint32_t s = 1; s < a8_n_sources(op->code); s++) {
        timing_t other = timing_of(m, op->source[s]);
        if (has(pooled, op->source[s]) || other.stride != first.stride || other.delay != first.delay)
            return 0;
    }
    if (A8_IS(op->code, CONV1D_S8) && op->as.product.pad_right > 0)
        return 0;
    if (A8_IS(op->code, WINDOWED_ATTENTION_S8) && op->as.attention.right > 0)
        return 0;
    return t.stride <= A8_MAX_STREAM_STEPS && t.delay <= A8_MAX_STREAM_STEPS;
}

int32_t a8_stream_bytes(const a8_model_t *m)
{
    set_t pooled = {{0}};
    for (uint32_t i = 0; i < m->n_ops; i++)
        if (follows_pool(&m->ops[i], i, &pooled) ? !all_pooled(&m->ops[i], &pooled) : !is_causal(m, i, &pooled))
            return A8_ERR_STREAM;
    return (int32_t)state_bytes_of(m);
}

static int32_t check_state(const a8_model_t *m, const void *state, uint32_t state_bytes)
{
    if ((uintptr_t)state % A8_ARENA_ALIGNMENT != 0)
        return A8_ERR_ALIGNMENT;
    return state_bytes < state_bytes_of(m) ? A8_ERR_MEMORY : A8_OK;
}

int32_t a8_stream_reset(const a8_model_t *m, void *state, uint32_t state_bytes, uint32_t hop)
{
    set_t pooled = {{0}};
    head_t *head = state;
    uint8_t *at = (uint8_t *)state + HEAD_BYTES;
    int32_t err = check_state(m, state, state_bytes);
    if (err != A8_OK)
        return err;
    memset(state, 0, state_bytes);
    head->hop = hop > 0 ? hop : 1;
    head->due = m->n_steps;
    for (uint32_t i = 0; i < m->n_ops; i++) {
        const a8_op_t *op = &m->ops[i];
        if (follows_pool(op, i, &pooled))
            continue;
        if (A8_IS(op->code, CONV1D_S8)) /* the padding, of zeros */
            ((a8_ring_t *)(void *)at)->n_tokens = op->as.product.pad_left;
        at += op_bytes(m, op);
    }
    return A8_OK;
}

static const int8_t *token(const push_t *p, uint32_t id) { return a8_tensor_data(p->m, p->arena, p->sample, id); }

/* Gives a convolution a token; runs it, as a linear op on all tokens under the kernel, when it has enough of them. */
static int conv1d_token(const push_t *p, const a8_op_t *op, a8_ring_t *ring)
{
    uint32_t d = a8_tensor(p->m, op->source[0])->n_channels, kernel = op->as.product.kernel, stride = op->as.product.stride;
    int8_t *tokens = (int8_t *)(ring + 1);
    if (ring->newest > 0) {
        ring->newest--;
        return 0;
    }
    uint32_t n = ring->n_tokens;
    n = n < kernel ? n : kernel - 1;
    memcpy(tokens + n * d, token(p, op->source[0]), d);
    ring->n_tokens = (uint16_t)++n;
    if (n < kernel)
        return 0;
    a8_conv1d_t linear = {
        p->file + op->rows, (const int8_t *)p->file + op->weights, 1, kernel * d, 1, op->output.n_channels, 1, 1, 0,
        op->as.product.clamp, (uint8_t *)p->arena + op->scratch};
    a8_linear_s8(&linear, tokens, (int8_t *)p->arena + op->output.offset);
    uint32_t kept = kernel > stride ? kernel - stride : 0;
    memmove(tokens, tokens + (kernel - kept) * d, kept * d);
    ring->n_tokens = (uint16_t)kept;
    ring->newest = (uint16_t)(kernel < stride ? stride - kernel : 0);
    return 1;
}

/* Moves a ring of `size` places on by one. Returns the place of the new token and the number of tokens, 1..size: what
 * lies in the state is read once, for an interrupt may reset it. */
static a8_ring_t next_place(a8_ring_t *ring, uint32_t size)
{
    uint32_t place = ring->newest, n = ring->n_tokens;
    a8_ring_t next = {(uint16_t)(place + 1 < size ? place + 1 : 0), (uint16_t)(n < size ? n + 1 : size)};
    *ring = next;
    return next;
}

static void attention_token(const push_t *p, const a8_op_t *op, a8_ring_t *ring)
{
    uint32_t d = op->output.n_channels, span = op->as.attention.left + 1u;
    a8_ring_t next = next_place(ring, span);
    int8_t *keys = (int8_t *)(ring + 1), *values = keys + a8_padded(span * d);
    memcpy(keys + next.newest * d, token(p, op->source[1]), d);
    memcpy(values + next.newest * d, token(p, op->source[2]), d);
    a8_attention_step_t step = {p->file + op->rows,
                                (uint8_t *)p->arena + op->scratch,
                                &op->as.attention,
                                d,
                                span,
                                next.newest,
                                next.n_tokens};
    a8_attention_step_s8(&step, token(p, op->source[0]), keys, values, (int8_t *)p->arena + op->output.offset);
}

static void pool_token(const push_t *p, const a8_op_t *op, a8_ring_t *ring)
{
    const a8_tensor_t *x = a8_tensor(p->m, op->source[0]);
    int32_t *sums = (int32_t *)(void *)(ring + 1);
    int8_t *tokens = (int8_t *)(sums + x->n_channels);
    a8_pool_push_s8(x->n_channels, token(p, op->source[0]), tokens + next_place(ring, x->n_steps).newest * x->n_channels, sums);
}

/* Gives op i a token of its source; says whether it has made one. */
static int run_token(const push_t *p, uint32_t i, a8_ring_t *ring)
{
    const a8_op_t *op = &p->m->ops[i];
    if (A8_IS(op->code, CONV1D_S8))
        return conv1d_token(p, op, ring);
    if (A8_IS(op->code, WINDOWED_ATTENTION_S8))
        attention_token(p, op, ring);
    else if (A8_IS(op->code, MEAN_POOL_S8))
        pool_token(p, op, ring);
    else
        a8_run_token_op(p->m, p->file, p->arena, p->sample, i);
    return 1;
}

/* One sample through all ops in front of the pools. */
static void pass_sample(const push_t *p)
{
    set_t pooled = {{0}}, fresh = {{1}};
    uint8_t *at = p->state + HEAD_BYTES;
    a8_run_input(p->m, p->file, p->arena, p->sample, 1);
    for (uint32_t i = 0; i < p->m->n_ops; i++) {
        if (follows_pool(&p->m->ops[i], i, &pooled))
            continue;
        if (has(&fresh, p->m->ops[i].source[0]) && run_token(p, i, (a8_ring_t *)(void *)at))
            put(&fresh, i + 1);
        at += op_bytes(p->m, &p->m->ops[i]);
    }
    if (has(&fresh, p->m->n_ops) && !has(&pooled, p->m->n_ops))
        memcpy(at, token(p, p->m->n_ops), p->m->n_outputs);
}

/* The pools and what follows them. */
static void pass_output(const push_t *p, int8_t *output)
{
    set_t pooled = {{0}};
    uint8_t *at = p->state + HEAD_BYTES;
    for (uint32_t i = 0; i < p->m->n_ops; i++) {
        const a8_op_t *op = &p->m->ops[i];
        if (follows_pool(op, i, &pooled)) {
            a8_run_op(p->m, p->file, p->arena, p->sample, i);
            continue;
        }
        if (A8_IS(op->code, MEAN_POOL_S8))
            a8_pool_sums_s8(&op->as.pool, op->output.n_channels, (int32_t *)(void *)(at + RING_BYTES),
                            (int8_t *)p->arena + op->output.offset);
        at += op_bytes(p->m, op);
    }
    memcpy(output, has(&pooled, p->m->n_ops) ? (const void *)token(p, p->m->n_ops) : at, p->m->n_outputs);
}

int32_t a8_stream_push(a8_model_t *m, const uint8_t *file, uint32_t n, void *arena, uint32_t arena_bytes, void *state,
                       uint32_t state_bytes, const void *samples, uint32_t samples_bytes, int8_t *output,
                       uint32_t output_bytes)
{
    push_t p = {m, file, arena, samples, state};
    head_t *head = state;
    int32_t n_outputs = 0, err = a8_check_run(m, file, n, arena, arena_bytes, output_bytes);
    if (err == A8_OK)
        err = check_state(m, state, state_bytes);
    if (err != A8_OK)
        return err;
    uint32_t sample_bytes = m->n_channels * (m->input_type == A8_INPUT_INT16 ? 2u : 1u);
    if (samples_bytes == 0 || samples_bytes % sample_bytes != 0)
        return A8_ERR_INPUT;
    m->busy = 1;
    for (const uint8_t *end = (const uint8_t *)samples + samples_bytes; p.sample != end;
         p.sample = (const uint8_t *)p.sample + sample_bytes) {
        pass_sample(&p);
        if (--head->due == 0) {
            pass_output(&p, output);
            head->due = head->hop;
            n_outputs++;
        }
    }
    m->busy = 0;
    return n_outputs;
}
#endif
