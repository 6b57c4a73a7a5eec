/* The plan of the arena. A block is a tensor or the scratch of an op; step i + 1 of a run runs op i. Blocks
 * are placed one after the other, each at the lowest offset that is free for its whole life, in four orders.
 */
#include "a8_bytes.h"
#include "a8_model.h"
#include "a8_target.h"

#define NOT_PLACED 0xFFFFFFFFu
enum { BY_SIZE, BY_FIRST_STEP, BY_LIFE, SCRATCH_LAST, N_ORDERS };

#if defined(A8_TARGET_M0PLUS) || defined(A8_SCRATCH_M0PLUS)
uint32_t a8_tile_tokens(uint32_t n_steps, uint32_t n_products)
{
    uint32_t bytes = a8_packed_bytes(n_products), most = a8_tile_bytes(n_products), n = 64, all = (n_steps + 3u) & ~3u;
    if (n_steps < 4)
        return bytes <= most;
    if (all * bytes <= most)
        return all;
    while (n * bytes > most)
        n /= 2;
    return n >= 4 ? n : n > 0;
}

#ifndef A8_WITHOUT_ATTENTION
uint32_t a8_attention_tile(uint32_t n_steps, uint32_t n_keys, uint32_t head_size)
{
    uint32_t least = n_keys + 3 < n_steps ? n_keys + 3 : n_steps, most = 2 * n_keys < n_steps ? 2 * n_keys : n_steps;
    uint32_t fit = A8_ATTENTION_TILE_BYTES / (2 * a8_packed_bytes(head_size));
    if (least <= fit && least <= most)
        return most < fit ? most : fit;
    return head_size % 4 != 0 ? least : 0;
}
#endif
#endif

static uint32_t attention_scratch_bytes(const a8_op_t *op)
{
    uint32_t n_keys = (uint32_t)op->as.attention.left + op->as.attention.right + 1, n_steps = op->output.n_steps;
    n_keys = n_keys < n_steps ? n_keys : n_steps;
    return a8_attention_scratch_bytes(n_steps, n_keys, op->output.n_channels / op->as.attention.heads);
}

uint32_t a8_op_scratch_bytes(const a8_model_t *m, const a8_op_t *op)
{
    if (A8_IS(op->code, WINDOWED_ATTENTION_S8))
        return attention_scratch_bytes(op);
    if (op->code > A8_OP_CONV1D_S8)
        return 0;
    return a8_product_scratch_bytes(op->output.n_steps, a8_tensor(m, op->source[0])->n_channels, op->as.product.kernel);
}

typedef struct {
    uint32_t bytes;
    uint32_t first; /* step of its life */
    uint32_t last;
    uint32_t *offset;
} block_t;

static uint32_t n_blocks(const a8_model_t *m) { return 2u * m->n_ops + 1; }

/* Block b is tensor b, or behind those the scratch of an op. */
static void get_block(a8_model_t *m, uint32_t b, block_t *k)
{
    a8_tensor_t *t = b == 0 ? &m->input : &m->ops[b - 1].output;
    uint32_t n_ops = m->n_ops;
    if (b > n_ops) {
        a8_op_t *op = &m->ops[b - n_ops - 1];
        k->bytes = op->output.scratch_bytes;
        k->first = k->last = b - n_ops;
        k->offset = &op->scratch;
        return;
    }
    k->first = b;
    k->last = t->last_step;
    k->offset = &t->offset;
    k->bytes = a8_padded((uint32_t)t->n_steps * t->n_channels);
    if (t->in_place != 0 || (b == 0 && m->input_type == A8_INPUT_INT8))
        k->bytes = 0; /* the caller's window is read in place */
}

/* Blocks with a larger key are placed earlier. */
static uint32_t key(const block_t *k, uint32_t order, int is_tensor)
{
    if (order == BY_FIRST_STEP)
        return 2u * A8_MAX_OPS - k->first;
    if (order == BY_LIFE)
        return k->last - k->first;
    return k->bytes + (order == SCRATCH_LAST && is_tensor ? (uint32_t)1 << 31 : 0);
}

/* Returns the next block without a place in this order, n_blocks when all are placed. */
static uint32_t next_block(a8_model_t *m, uint32_t order)
{
    uint32_t n = n_blocks(m), best = n, most = 0;
    for (uint32_t b = 0; b < n; b++) {
        block_t k;
        get_block(m, b, &k);
        if (*k.offset != NOT_PLACED)
            continue;
        uint32_t this = key(&k, order, b <= m->n_ops);
        if (best == n || this > most) {
            best = b;
            most = this;
        }
    }
    return best;
}

/* Returns the end of a block that [at, at + bytes) would overlap in the life of k, or at if there is none. Blocks without
 * a place, or without bytes, overlap nothing. */
static uint32_t end_of_overlap(a8_model_t *m, const block_t *k, uint32_t at)
{
    block_t other;
    for (uint32_t b = 0; b < n_blocks(m); b++) {
        get_block(m, b, &other);
        uint32_t start = *other.offset, end = start + other.bytes;
        if (k->first <= other.last && other.first <= k->last && start < at + k->bytes && end > at)
            return end;
    }
    return at;
}

/* No offset below `at` is free when a step upwards is taken, so the first free one is the lowest. */
static uint32_t lowest_free(a8_model_t *m, const block_t *k)
{
    uint32_t at = 0, up = end_of_overlap(m, k, 0);
    while (up != at) {
        at = up;
        up = end_of_overlap(m, k, at);
    }
    return at;
}

/* Places all blocks and returns the size of the arena. */
static uint32_t place(a8_model_t *m, uint32_t order)
{
    uint32_t arena_bytes = 0, n = n_blocks(m);
    block_t k;
    for (uint32_t b = 0; b < n; b++) {
        get_block(m, b, &k);
        *k.offset = k.bytes != 0 ? NOT_PLACED : 0;
    }
    for (uint32_t b = next_block(m, order); b < n; b = next_block(m, order)) {
        get_block(m, b, &k);
        uint32_t at = *k.offset = lowest_free(m, &k);
        if (at + k.bytes > arena_bytes)
            arena_bytes = at + k.bytes;
    }
    return arena_bytes;
}

static uint32_t live_bytes(a8_model_t *m)
{
    uint32_t most = 0;
    for (uint32_t step = 0; step <= m->n_ops; step++) {
        uint32_t sum = 0;
        for (uint32_t b = 0; b < n_blocks(m); b++) {
            block_t k;
            get_block(m, b, &k);
            if (k.first <= step && step <= k.last)
                sum += k.bytes;
        }
        most = sum > most ? sum : most;
    }
    return most;
}

/* Sources, from the first on, whose place the output may take when they are read for the last time: the kernel writes a
 * value behind the last time that it reads what lies there. */
static uint32_t n_replaceable(const a8_op_t *op)
{
    const uint8_t *s = op->source;
    if (A8_IS(op->code, WINDOWED_ATTENTION_S8))
        return s[0] != s[1] && s[0] != s[2];
    return A8_IS(op->code, ADD_S8) ? 2 : A8_IS(op->code, LAYER_NORM_S8) || A8_IS(op->code, TABLE_S8);
}

/* The output of step i takes the place of a source if it may, whose block then lives as long as it does. */
static void share_place(a8_model_t *m, uint32_t i)
{
    a8_op_t *op = &m->ops[i - 1];
    for (uint32_t n = 0; n < n_replaceable(op); n++) {
        uint32_t id = op->source[n];
        a8_tensor_t *source = (a8_tensor_t *)a8_tensor(m, id);
        if (source->last_step == i && (id > 0 || m->input_type != A8_INPUT_INT8)) {
            source->last_step = op->output.last_step;
            op->output.in_place = (uint8_t)(id + 1);
            return;
        }
    }
}

void a8_plan(a8_model_t *m)
{
    uint32_t best = 0, order = 0, least = UINT32_MAX;
    for (uint32_t i = m->n_ops; i > 0; i--) {
        share_place(m, i);
        m->ops[i - 1].output.scratch_bytes = a8_op_scratch_bytes(m, &m->ops[i - 1]);
    }
    m->live_bytes = live_bytes(m);
    for (; order < N_ORDERS && least > m->live_bytes; order++) {
        uint32_t arena_bytes = place(m, order);
        if (arena_bytes < least) {
            least = arena_bytes;
            best = order;
        }
    }
    if (best + 1 != order)
        place(m, best);
    m->arena_bytes = least;
    for (a8_op_t *op = m->ops; op != m->ops + m->n_ops; op++)
        if (op->output.in_place != 0)
            op->output.offset = a8_tensor(m, op->output.in_place - 1u)->offset;
}
