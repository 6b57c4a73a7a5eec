/* Streams. The state is its head, then the part of each op that keeps tokens, in their order, then, if no pool is before
 * them, the outputs of the last token. Each part begins with a8_ring_t. A packed state goes on with weights as this
 * target's kernels like them best, and with values; their keys lie packed in the part of the op.
 */
#include "a8_stream.h"

#include "a8_bytes.h"
#include "a8_kernels.h"

#ifndef A8_WITHOUT_STREAM
/* A frame of its own: nothing else that a push does needs as much. */
#ifdef __GNUC__
#define NOINLINE __attribute__((noinline))
#else
#define NOINLINE
#endif

typedef struct {
    uint32_t hop;
    uint32_t due; /* samples until the next output */
} head_t;

#define HEAD_BYTES 8u
#define RING_BYTES 4u
#define FIRST_PACKED 4u /* what is packed lies from here behind a state; 0: nothing is */

typedef struct {
    uint16_t newest; /* place of the newest token of attention or a pool; tokens that a convolution skips */
    uint16_t n_tokens; /* of a convolution: less those of its padding, so that all begins with 0 */
} a8_ring_t;

/* a8_tensor_t.stream: whether this pass made a token of a tensor, or it lies behind a pool. */
enum { STALE, FRESH, BEHIND };

/* What all steps of a push need. */
typedef struct {
    a8_model_t *m;
    const uint8_t *file;
    void *arena;
    const void *sample;
    uint8_t *state;
    uint8_t *packed; /* that of an op is so far behind it; NULL: there is no room */
} push_t;

/* Bytes that an op keeps of x, which is before a pool. */
static uint32_t op_bytes(const a8_tensor_t *x, const a8_op_t *op)
{
    uint32_t d = x->n_channels;
    if (A8_IS(op->code, CONV1D_S8))
        return RING_BYTES + a8_padded(op->as.product.kernel * d);
    if (A8_IS(op->code, WINDOWED_ATTENTION_S8))
        return RING_BYTES + 2 * a8_padded((op->as.attention.left + 1u) * d);
    return A8_IS(op->code, MEAN_POOL_S8) ? RING_BYTES + 4 * d + a8_padded(x->n_steps * d) : 0;
}

/* Bytes that it has in a packed state besides. */
static uint32_t packed_bytes(const a8_tensor_t *x, const a8_op_t *op)
{
    uint32_t d = x->n_channels;
    if (A8_IS(op->code, LINEAR_S8) || A8_IS(op->code, CONV1D_S8))
        return a8_packed_product_bytes(op->as.product.kernel * d, op->output.n_channels);
    if (A8_IS(op->code, WINDOWED_ATTENTION_S8))
        return a8_packed_ring_bytes(op->as.attention.left + 1u, d, op->as.attention.heads);
    return 0;
}

/* When the tokens of a tensor come: token i with sample i*stride + delay; stride 0: behind a pool. Ops keep this in state
 * and packed while a stream is planned. */
typedef struct {
    uint32_t stride;
    uint32_t delay;
} timing_t;

static timing_t timing_of(const a8_model_t *m, uint32_t id)
{
    timing_t t = {1, 0};
    if (id > 0) {
        t.stride = m->ops[id - 1].state;
        t.delay = m->ops[id - 1].packed;
    }
    return t;
}

/* Sets the timing of an op; says whether it knows its tokens when they come. */
static int set_timing(const a8_model_t *m, a8_op_t *op)
{
    timing_t t = {0, 0};
    for (uint32_t s = 0; s < a8_n_sources(op->code); s++) {
        timing_t other = timing_of(m, op->source[s]);
        if (s > 0 && (other.stride != t.stride || other.delay != t.delay))
            return 0;
        t = other;
    }
    op->output.stream = t.stride == 0 ? BEHIND : STALE;
    if (A8_IS(op->code, MEAN_POOL_S8))
        t.stride = t.delay = 0;
    if (t.stride > 0 && A8_IS(op->code, CONV1D_S8)) {
        t.delay += (op->as.product.kernel - 1u - op->as.product.pad_left) * t.stride;
        t.stride *= op->as.product.stride;
        if (op->as.product.pad_right > 0)
            return 0;
    }
    op->state = t.stride;
    op->packed = t.delay;
    return t.stride <= A8_MAX_STREAM_STEPS && t.delay <= A8_MAX_STREAM_STEPS &&
           (t.stride == 0 || !A8_IS(op->code, WINDOWED_ATTENTION_S8) || op->as.attention.right == 0);
}

static int is_pooled(const a8_op_t *op) { return A8_IS(op->code, MEAN_POOL_S8) || op->output.stream == BEHIND; }

void a8_plan_stream(a8_model_t *m)
{
    a8_op_t *op = m->ops, *end = op + m->n_ops;
    uint32_t at = HEAD_BYTES, packed = FIRST_PACKED;
    m->packed_bytes = 0;
    m->stream_bytes = A8_ERR_STREAM;
    m->input.stream = FRESH;
    for (; op != end; op++)
        if (!set_timing(m, op))
            return;
    for (op = m->ops; op != end; op++) {
        uint32_t n = 0;
        op->state = at;
        if (op->output.stream != BEHIND) {
            const a8_tensor_t *x = a8_tensor(m, op->source[0]);
            at += op_bytes(x, op);
            n = packed_bytes(x, op);
        }
        op->packed = n > 0 ? packed : 0;
        packed += n;
    }
    m->stream_bytes = (int32_t)(at + (is_pooled(end - 1) ? 0 : a8_padded(m->n_outputs)));
    m->packed_bytes = packed - FIRST_PACKED;
}

int32_t a8_stream_bytes(const a8_model_t *m) { return m->stream_bytes; }

uint32_t a8_stream_packed_bytes(const a8_model_t *m) { return m->packed_bytes; }

/* Returns whether there is room for what is packed, or an error. */
static int32_t check_state(const a8_model_t *m, const void *state, uint32_t state_bytes)
{
    if (m->stream_bytes < 0)
        return m->stream_bytes;
    if ((uintptr_t)state % A8_ARENA_ALIGNMENT != 0)
        return A8_ERR_ALIGNMENT;
    if (state_bytes < (uint32_t)m->stream_bytes)
        return A8_ERR_MEMORY;
    return state_bytes - (uint32_t)m->stream_bytes >= m->packed_bytes;
}

static a8_ring_t *ring_of(const a8_op_t *op, void *state) { return (a8_ring_t *)(void *)((uint8_t *)state + op->state); }

int32_t a8_stream_reset(const a8_model_t *m, void *state, uint32_t state_bytes, uint32_t hop)
{
    head_t *head = state;
    int32_t packed = check_state(m, state, state_bytes);
    if (packed < 0)
        return packed;
    memset(state, 0, state_bytes);
    head->hop = hop > 0 ? hop : 1;
    head->due = m->n_steps;
    return A8_OK;
}

static const int8_t *token(const push_t *p, uint32_t id) { return a8_tensor_data(p->m, p->arena, p->sample, id); }

/* What an op has in a packed state, or NULL. */
static uint32_t *packed_of(const push_t *p, const a8_op_t *op)
{
    return p->packed != NULL && op->packed > 0 ? (uint32_t *)(void *)(p->packed + op->packed) : NULL;
}

/* A linear op, or a convolution of which all taps lie one after the other, on one token. What is packed begins with 0,
 * from the first token after a reset on with 1. */
static void product_token(const push_t *p, const a8_op_t *op, const int8_t *x, uint32_t n_inputs)
{
    a8_conv1d_t linear;
    int8_t *y = (int8_t *)p->arena + op->output.offset;
    uint32_t *packed = packed_of(p, op);
    linear.n_inputs = n_inputs;
    linear.n_outputs = op->output.n_channels;
    linear.kernel = 1;
    linear.clamp = op->as.product.clamp;
    linear.scratch = (uint8_t *)p->arena + op->scratch;
    if (packed == NULL || *packed == 0) {
        linear.rows = p->file + op->rows;
        linear.weights = (const int8_t *)p->file + op->weights;
        linear.n_steps = linear.n_output_steps = linear.stride = 1;
        linear.pad_left = 0;
    }
#ifdef A8_TARGET_PACKS
    if (packed != NULL) {
        if (*packed == 0) {
            *packed = 1; /* before: an interrupt may reset the stream */
            a8_pack_product(&linear, packed + 1);
        }
        if (op->source[0] == 0 && op->code == A8_OP_LINEAR_S8) /* the caller's bytes: any address, nothing behind them */
            x = memcpy(linear.scratch, x, n_inputs);
        a8_packed_token_s8(&linear, y, x, packed + 1);
        return;
    }
#endif
    a8_linear_s8(&linear, x, y);
}

/* Gives a convolution a token; runs it when it has all that lie under the kernel. */
static int conv1d_token(const push_t *p, const a8_op_t *op, const int8_t *x, uint32_t d)
{
    uint32_t kernel = op->as.product.kernel, stride = op->as.product.stride;
    a8_ring_t *ring = ring_of(op, p->state);
    int8_t *tokens = (int8_t *)(ring + 1);
    if (ring->newest > 0) {
        ring->newest--;
        return 0;
    }
    uint32_t pad_left = op->as.product.pad_left, n = (uint16_t)(ring->n_tokens + pad_left);
    n = n < kernel ? n : kernel - 1;
    memcpy(tokens + n * d, x, d);
    ring->n_tokens = (uint16_t)(++n - pad_left);
    if (n < kernel)
        return 0;
    product_token(p, op, tokens, kernel * d);
    uint32_t kept = kernel > stride ? kernel - stride : 0;
    memmove(tokens, tokens + (kernel - kept) * d, kept * d);
    ring->n_tokens = (uint16_t)(kept - pad_left);
    ring->newest = (uint16_t)(kernel < stride ? stride - kernel : 0);
    return 1;
}

/* Moves a ring of `size` places on by one. Returns the place of the new token and the number of tokens, 1..size: what
 * lies in the state is read once, for an interrupt may reset it. */
typedef struct {
    uint32_t newest;
    uint32_t n_tokens;
} place_t;

static inline place_t next_place(a8_ring_t *ring, uint32_t size)
{
    place_t next = {ring->newest + 1u, ring->n_tokens + 1u};
    next.newest = next.newest < size ? next.newest : 0;
    next.n_tokens = next.n_tokens < size ? next.n_tokens : size;
    ring->newest = (uint16_t)next.newest;
    ring->n_tokens = (uint16_t)next.n_tokens;
    return next;
}

static NOINLINE void attention_token(const push_t *p, const a8_op_t *op, const int8_t *q)
{
    uint32_t d = op->output.n_channels, span = op->as.attention.left + 1u;
    a8_ring_t *ring = ring_of(op, p->state);
    place_t next = next_place(ring, span);
    int8_t *keys = (int8_t *)(ring + 1), *values = keys + a8_padded(span * d);
    const int8_t *k = token(p, op->source[1]), *v = token(p, op->source[2]);
    int8_t *y = (int8_t *)p->arena + op->output.offset;
    a8_attention_step_t step = {p->file + op->rows,
                                (uint8_t *)p->arena + op->scratch,
                                &op->as.attention,
                                d,
                                span,
                                next.newest,
                                next.n_tokens,
                                packed_of(p, op)};
#ifdef A8_TARGET_PACKS
    if (step.packed != NULL)
        a8_pack_key_s8(&step, k, v, keys);
    else
#endif
    {
        memcpy(keys + next.newest * d, k, d);
        memcpy(values + next.newest * d, v, d);
    }
    a8_attention_step_s8(&step, q, keys, values, y);
}

static void pool_token(const push_t *p, const a8_op_t *op, const int8_t *x, const a8_tensor_t *of)
{
    a8_ring_t *ring = ring_of(op, p->state);
    int32_t *sums = (int32_t *)(void *)(ring + 1);
    int8_t *tokens = (int8_t *)(sums + of->n_channels);
    a8_pool_push_s8(of->n_channels, x, tokens + next_place(ring, of->n_steps).newest * of->n_channels, sums);
}

/* Gives op i a token of its source, which is `of`; says whether it has made one that others wait for. */
static int run_token(const push_t *p, uint32_t i, const a8_tensor_t *of)
{
    const a8_op_t *op = &p->m->ops[i];
    const int8_t *x;
    if (op->code > A8_OP_WINDOWED_ATTENTION_S8 && op->code != A8_OP_MEAN_POOL_S8) {
        a8_run_token_op(p->m, p->file, p->arena, p->sample, i);
        return 1;
    }
    x = token(p, op->source[0]);
    if (A8_IS(op->code, CONV1D_S8))
        return conv1d_token(p, op, x, of->n_channels);
    if (A8_IS(op->code, MEAN_POOL_S8)) {
        pool_token(p, op, x, of);
        return 0;
    }
    if (A8_IS(op->code, WINDOWED_ATTENTION_S8))
        attention_token(p, op, x);
    else
        product_token(p, op, x, of->n_channels);
    return 1;
}

/* Where the outputs of the last token are kept if no pool is before them. */
static void *last_outputs(const push_t *p)
{
    return p->state + (uint32_t)p->m->stream_bytes - a8_padded(p->m->n_outputs);
}

/* One sample through all ops in front of the pools. */
static void pass_sample(const push_t *p)
{
    a8_run_input(p->m, p->file, p->arena, p->sample, 1);
    for (uint32_t i = 0; i < p->m->n_ops; i++) {
        a8_tensor_t *y = &p->m->ops[i].output;
        const a8_tensor_t *x = a8_tensor(p->m, p->m->ops[i].source[0]);
        if (y->stream != BEHIND)
            y->stream = x->stream == FRESH && run_token(p, i, x);
    }
    if (a8_tensor(p->m, p->m->n_ops)->stream == FRESH)
        memcpy(last_outputs(p), token(p, p->m->n_ops), p->m->n_outputs);
}

/* The pools and what follows them. */
static void pass_output(const push_t *p, int8_t *output)
{
    for (uint32_t i = 0; i < p->m->n_ops; i++) {
        const a8_op_t *op = &p->m->ops[i];
        if (op->output.stream == BEHIND)
            a8_run_op(p->m, p->file, p->arena, p->sample, i);
        else if (A8_IS(op->code, MEAN_POOL_S8))
            a8_pool_sums_s8(&op->as.pool, op->output.n_channels, (int32_t *)(void *)(ring_of(op, p->state) + 1),
                            (int8_t *)p->arena + op->output.offset);
    }
    memcpy(output, is_pooled(p->m->ops + p->m->n_ops - 1) ? token(p, p->m->n_ops) : last_outputs(p), p->m->n_outputs);
}

int32_t a8_stream_push(a8_model_t *m, const uint8_t *file, uint32_t n, void *arena, uint32_t arena_bytes, void *state,
                       uint32_t state_bytes, const void *samples, uint32_t samples_bytes, int8_t *output,
                       uint32_t output_bytes)
{
    head_t *head = state;
    int32_t n_outputs = 0, packed, err = a8_check_run(m, file, n, arena, arena_bytes, output_bytes);
    if (err != A8_OK)
        return err;
    packed = check_state(m, state, state_bytes);
    if (packed < 0)
        return packed;
    push_t p = {m, file, arena, samples, state, NULL};
    if (packed > 0)
        p.packed = p.state + (uint32_t)m->stream_bytes - FIRST_PACKED;
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
