/* Load, run and score of a model. */
#include "a8_model.h"

#include "a8_bytes.h"
#include "a8_kernels.h"

int32_t a8_load(a8_model_t *m, uint32_t model_bytes, const uint8_t *file, uint32_t n)
{
    if (model_bytes >= sizeof(*m))
        m->file_bytes = 0; /* a failed load leaves nothing that runs */
    int32_t err = a8_check_model(m, model_bytes, file, n);
    if (err != A8_OK)
        return err;
    a8_plan(m);
    a8_plan_stream(m);
    m->file = file;
    m->file_bytes = n;
    return A8_OK;
}

uint32_t a8_input_bytes(const a8_model_t *m)
{
    uint32_t n = (uint32_t)m->n_steps * m->n_channels;
    return m->input_type == A8_INPUT_INT16 ? 2 * n : n;
}

const a8_tensor_t *a8_tensor(const a8_model_t *m, uint32_t id) { return id == 0 ? &m->input : &m->ops[id - 1].output; }

uint32_t a8_n_sources(uint32_t code)
{
    return code == A8_OP_WINDOWED_ATTENTION_S8 ? 3 : code == A8_OP_ADD_S8 ? 2 : 1;
}

const int8_t *a8_tensor_data(const a8_model_t *m, const void *arena, const void *input, uint32_t id)
{
    if (id == 0 && m->input_type == A8_INPUT_INT8)
        return input;
    return (const int8_t *)arena + a8_tensor(m, id)->offset;
}

void a8_run_input(const a8_model_t *m, const uint8_t *file, void *arena, const void *input, uint32_t n_steps)
{
    if (m->input_type == A8_INPUT_INT16)
        a8_requantize_s16(file + m->input_rows, n_steps, m->n_channels, input, (int8_t *)arena + m->input.offset);
}

/* One frame for each kind of op: the largest kernels are called with as little as possible below them. */
#ifdef __GNUC__
#define NOINLINE __attribute__((noinline))
#else
#define NOINLINE
#endif

typedef struct {
    const a8_model_t *m;
    const uint8_t *file;
    uint8_t *arena;
    const void *input;
    const a8_op_t *op;
    uint32_t one_step;
} step_t;

static const int8_t *source(const step_t *t, uint32_t s)
{
    return a8_tensor_data(t->m, t->arena, t->input, t->op->source[s]);
}

static NOINLINE void run_product(const step_t *t)
{
    const a8_op_t *op = t->op;
    const a8_tensor_t *x = a8_tensor(t->m, op->source[0]);
    const int8_t *in = source(t, 0);
    a8_conv1d_t p;
    p.rows = t->file + op->rows;
    p.weights = (const int8_t *)t->file + op->weights;
    p.n_steps = x->n_steps;
    p.n_inputs = x->n_channels;
    p.n_output_steps = op->output.n_steps;
    p.n_outputs = op->output.n_channels;
    p.kernel = op->as.product.kernel;
    p.stride = op->as.product.stride;
    p.pad_left = op->as.product.pad_left;
    p.clamp = op->as.product.clamp;
    p.scratch = t->arena + op->scratch;
    int8_t *y = (int8_t *)t->arena + op->output.offset;
    if (A8_IS(op->code, CONV1D_S8))
        a8_conv1d_s8(&p, in, y);
    else
        a8_linear_s8(&p, in, y);
}

static NOINLINE void run_attention(const step_t *t)
{
    const a8_op_t *op = t->op;
    int8_t *y = (int8_t *)t->arena + op->output.offset;
    const int8_t *q = source(t, 0), *k = source(t, 1), *v = source(t, 2);
    a8_attention_t p;
    p.relative_bias = t->file + op->rows;
    p.scratch = t->arena + op->scratch;
    p.fields = &op->as.attention;
    p.n_steps = op->output.n_steps;
    p.n_channels = op->output.n_channels;
    a8_windowed_attention_s8(&p, q, k, v, y);
}

/* What has no weights. */
static NOINLINE void run_elements(const step_t *t)
{
    const a8_op_t *op = t->op;
    const int8_t *x = source(t, 0);
    int8_t *y = (int8_t *)t->arena + op->output.offset;
    uint32_t n_channels = op->output.n_channels;
    uint32_t n_steps = t->one_step ? 1 : a8_tensor(t->m, op->source[0])->n_steps;
    if (A8_IS(op->code, LAYER_NORM_S8))
        a8_layer_norm_s8(&op->as.norm, n_steps, n_channels, x, y);
    else if (A8_IS(op->code, MEAN_POOL_S8))
        a8_mean_pool_s8(&op->as.pool, n_steps, n_channels, x, y);
    else if (A8_IS(op->code, ADD_S8))
        a8_add_s8(&op->as.add, n_steps * n_channels, x, source(t, 1), y);
    else if (A8_HAS_TABLE_S8)
        a8_table_s8((const int8_t *)t->file + op->rows, n_steps * n_channels, x, y);
}

NOINLINE void a8_run_op(const a8_model_t *m, const uint8_t *file, void *arena, const void *input, uint32_t i)
{
    step_t t = {m, file, arena, input, &m->ops[i & ~A8_ONE_TOKEN], i & A8_ONE_TOKEN};
    if (A8_IS(t.op->code, WINDOWED_ATTENTION_S8))
        run_attention(&t);
    else if (t.op->code <= A8_OP_CONV1D_S8)
        run_product(&t);
    else
        run_elements(&t);
}

int32_t a8_check_run(const a8_model_t *m, const uint8_t *file, uint32_t n, const void *arena, uint32_t arena_bytes,
                     uint32_t output_bytes)
{
    if (m->file_bytes == 0 || file != m->file || n != m->file_bytes)
        return A8_ERR_MOVED;
    if (m->busy)
        return A8_ERR_BUSY;
    if (arena_bytes < m->arena_bytes)
        return A8_ERR_MEMORY;
    if ((uintptr_t)arena % A8_ARENA_ALIGNMENT != 0)
        return A8_ERR_ALIGNMENT;
    return output_bytes != m->n_outputs ? A8_ERR_OUTPUT : A8_OK;
}

int32_t a8_run(a8_model_t *m, const uint8_t *file, uint32_t n, void *arena, uint32_t arena_bytes, const void *input,
               uint32_t input_bytes, int8_t *output, uint32_t output_bytes)
{
    int32_t err = a8_check_run(m, file, n, arena, arena_bytes, output_bytes);
    if (err == A8_OK && input_bytes != a8_input_bytes(m))
        err = A8_ERR_INPUT;
    if (err != A8_OK)
        return err;
    m->busy = 1;
    a8_run_input(m, file, arena, input, m->n_steps);
    for (uint32_t i = 0; i < m->n_ops; i++)
        a8_run_op(m, file, arena, input, i);
    memcpy(output, a8_tensor_data(m, arena, input, m->n_ops), m->n_outputs);
    m->busy = 0;
    return A8_OK;
}

int32_t a8_score(const a8_model_t *m, const int8_t *outputs, uint32_t *best)
{
    uint32_t z = 0;
    *best = 0;
    for (uint32_t i = 1; i < m->n_outputs; i++)
        if (outputs[i] > outputs[*best])
            *best = i;
    for (uint32_t i = 0; i < m->n_outputs; i++)
        z += (uint32_t)a8_softmax_exp(&m->score, (uint32_t)(outputs[*best] - outputs[i]));
    return (int32_t)((12700 + (z >> 1)) / z);
}
