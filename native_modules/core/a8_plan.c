/* The plan of the arena. A block is a tensor or the scratch of an op; step i + 1 of a run runs op i. Blocks
 * are placed one after the other, each at the lowest offset that is free for its whole life, in four orders.
 */
#include "a8_bytes.h"
#include "a8_model.h"
#include "a8_target.h"

#define NOT_PLACED 0xFFFFFFFFu
enum { BY_SIZE, BY_FIRST_STEP, BY_LIFE, SCRATCH_LAST, N_ORDERS };

static uint32_t n_blocks(const a8_model_t *m) { return 2u * m->n_ops + 1; }

static const a8_tensor_t *block_tensor(const a8_model_t *m, uint32_t b) { return b == 0 ? &m->input : &m->ops[b - 1].output; }

static uint32_t attention_scratch_bytes(const a8_op_t *op)
{
    uint32_t n_keys = (uint32_t)op->as.attention.left + op->as.attention.right + 1, n_steps = op->output.n_steps;
    n_keys = n_keys < n_steps ? n_keys : n_steps;
    return a8_attention_scratch_bytes(n_steps, n_keys, op->output.n_channels / op->as.attention.heads);
}

uint32_t a8_op_scratch_bytes(const a8_model_t *m, const a8_op_t *op)
{
    if (op->code == A8_OP_WINDOWED_ATTENTION_S8)
        return attention_scratch_bytes(op);
    if (op->code != A8_OP_LINEAR_S8 && op->code != A8_OP_CONV1D_S8)
        return 0;
    return a8_product_scratch_bytes(op->output.n_steps, a8_tensor(m, op->source[0])->n_channels, op->as.product.kernel);
}

static uint32_t block_bytes(const a8_model_t *m, uint32_t b)
{
    if (b > m->n_ops)
        return 4u * m->ops[b - m->n_ops - 1].output.scratch_words;
    if (b == 0 && m->input_type == A8_INPUT_INT8)
        return 0; /* the caller's window is read in place */
    const a8_tensor_t *t = block_tensor(m, b);
    return a8_padded((uint32_t)t->n_steps * t->n_channels);
}

static uint32_t first_step(const a8_model_t *m, uint32_t b) { return b > m->n_ops ? b - m->n_ops : b; }

static uint32_t last_step(const a8_model_t *m, uint32_t b)
{
    return b > m->n_ops ? b - m->n_ops : block_tensor(m, b)->last_step;
}

static uint32_t offset(const a8_model_t *m, uint32_t b)
{
    return b > m->n_ops ? m->ops[b - m->n_ops - 1].scratch : block_tensor(m, b)->offset;
}

static void set_offset(a8_model_t *m, uint32_t b, uint32_t value)
{
    if (b == 0)
        m->input.offset = value;
    else if (b <= m->n_ops)
        m->ops[b - 1].output.offset = value;
    else
        m->ops[b - m->n_ops - 1].scratch = value;
}

static int live_together(const a8_model_t *m, uint32_t a, uint32_t b)
{
    return first_step(m, a) <= last_step(m, b) && first_step(m, b) <= last_step(m, a);
}

/* Blocks with a larger key are placed earlier. */
static uint32_t key(const a8_model_t *m, uint32_t b, uint32_t order)
{
    if (order == BY_SIZE || order == SCRATCH_LAST)
        return block_bytes(m, b) + (order == SCRATCH_LAST && b <= m->n_ops ? (uint32_t)1 << 31 : 0);
    return order == BY_FIRST_STEP ? 2u * A8_MAX_OPS - first_step(m, b) : last_step(m, b) - first_step(m, b);
}

/* Returns the next block without a place in this order, n_blocks when all are placed. */
static uint32_t next_block(const a8_model_t *m, uint32_t order)
{
    uint32_t best = n_blocks(m);
    for (uint32_t b = 0; b < n_blocks(m); b++) {
        if (block_bytes(m, b) == 0 || offset(m, b) != NOT_PLACED)
            continue;
        if (best == n_blocks(m) || key(m, b, order) > key(m, best, order))
            best = b;
    }
    return best;
}

/* Returns the end of a placed block that [at, at + bytes) would overlap in the life of b, or at if there is none. */
static uint32_t end_of_overlap(const a8_model_t *m, uint32_t b, uint32_t at)
{
    uint32_t end = at + block_bytes(m, b);
    for (uint32_t o = 0; o < n_blocks(m); o++) {
        if (block_bytes(m, o) == 0 || offset(m, o) == NOT_PLACED || !live_together(m, b, o))
            continue;
        if (offset(m, o) < end && offset(m, o) + block_bytes(m, o) > at)
            return offset(m, o) + block_bytes(m, o);
    }
    return at;
}

/* No offset below `at` is free when a step upwards is taken, so the first free one is the lowest. */
static uint32_t lowest_free(const a8_model_t *m, uint32_t b)
{
    uint32_t at = 0, up = end_of_overlap(m, b, 0);
    while (up != at) {
        at = up;
        up = end_of_overlap(m, b, at);
    }
    return at;
}

/* Places all blocks and returns the size of the arena. */
static uint32_t place(a8_model_t *m, uint32_t order)
{
    uint32_t arena_bytes = 0;
    for (uint32_t b = 0; b < n_blocks(m); b++)
        if (block_bytes(m, b) != 0)
            set_offset(m, b, NOT_PLACED);
    for (uint32_t b = next_block(m, order); b < n_blocks(m); b = next_block(m, order)) {
        uint32_t at = lowest_free(m, b);
        set_offset(m, b, at);
        if (at + block_bytes(m, b) > arena_bytes)
            arena_bytes = at + block_bytes(m, b);
    }
    return arena_bytes;
}

static uint32_t live_bytes(const a8_model_t *m)
{
    uint32_t most = 0;
    for (uint32_t step = 0; step <= m->n_ops; step++) {
        uint32_t sum = 0;
        for (uint32_t b = 0; b < n_blocks(m); b++)
            if (first_step(m, b) <= step && step <= last_step(m, b))
                sum += block_bytes(m, b);
        most = sum > most ? sum : most;
    }
    return most;
}

void a8_plan(a8_model_t *m)
{
    uint32_t best = BY_SIZE, last = BY_SIZE;
    for (uint32_t i = 0; i < m->n_ops; i++)
        m->ops[i].output.scratch_words = (uint16_t)(a8_op_scratch_bytes(m, &m->ops[i]) / 4);
    m->live_bytes = live_bytes(m);
    m->arena_bytes = place(m, BY_SIZE);
    while (m->arena_bytes > m->live_bytes && ++last < N_ORDERS) {
        uint32_t arena_bytes = place(m, last);
        if (arena_bytes < m->arena_bytes) {
            m->arena_bytes = arena_bytes;
            best = last;
        }
    }
    if (best != last)
        place(m, best);
}
