/* check_model: the only place that reads a file it does not trust. The order of the checks is that of models/FORMAT.md;
 * the NumPy and the Python checker follow it too, so all three agree on the code of every file.
 */
#include "a8_bytes.h"
#include "a8_model.h"

#define FLAG_OPTIONAL 1u
#define HEADER_CRC 12u /* offset of the checksum, which leaves itself out */
#define COUNT_OF(a) (sizeof(a) / sizeof((a)[0]))
#define TRY(e)                  \
    do {                        \
        int32_t try_error = (e); \
        if (try_error != A8_OK) \
            return try_error;   \
    } while (0)

typedef struct {
    const uint8_t *payload;
    uint32_t offset; /* of the payload in the file */
    uint32_t n;      /* bytes of the payload */
    uint32_t type;
    uint32_t flags;
} record_t;

static const uint32_t CRC_TABLE[16] = {
    0x00000000, 0x1DB71064, 0x3B6E20C8, 0x26D930AC, 0x76DC4190, 0x6B6B51F4, 0x4DB26158, 0x5005713C,
    0xEDB88320, 0xF00F9344, 0xD6D6A3E8, 0xCB61B38C, 0x9B64C2B0, 0x86D3D2D4, 0xA00AE278, 0xBDBDF21C,
};

static uint32_t crc32(uint32_t crc, const uint8_t *p, uint32_t n)
{
    for (; n > 0; n--) {
        crc ^= *p++;
        crc = crc >> 4 ^ CRC_TABLE[crc & 15];
        crc = crc >> 4 ^ CRC_TABLE[crc & 15];
    }
    return crc;
}

static int32_t check_header(const uint8_t *file, uint32_t n)
{
    if (n < A8_HEADER_BYTES)
        return A8_ERR_TRUNCATED;
    if (a8_u32(file) != 0x384E5441u) /* "ATN8" */
        return A8_ERR_MAGIC;
    if (file[4] != A8_FORMAT_MAJOR)
        return A8_ERR_VERSION;
    if (n > A8_MAX_FILE_BYTES || a8_u32(file + 8) != n)
        return A8_ERR_LENGTH;
    uint32_t crc = crc32(0xFFFFFFFFu, file, HEADER_CRC);
    crc = crc32(crc, file + HEADER_CRC + 4, n - HEADER_CRC - 4);
    if ((crc ^ 0xFFFFFFFFu) != a8_u32(file + HEADER_CRC))
        return A8_ERR_CRC;
    uint32_t n_ops = a8_u16(file + 6);
    return n_ops == 0 || n_ops > A8_MAX_OPS ? A8_ERR_COUNT : A8_OK;
}

/* Fixed fields and rows. */

static int32_t check_number(uint32_t bits)
{
    uint32_t high = bits >> 16;
    return bits == 0 || (high >= 0x0080 && high <= 0x7F7F) ? A8_OK : A8_ERR_NUMBER;
}

static int32_t field_value(const a8_field_t *f, const uint8_t *p)
{
    if (f->type == A8_TYPE_U8)
        return p[0];
    if (f->type == A8_TYPE_U16)
        return (int32_t)a8_u16(p);
    return f->type == A8_TYPE_I16 ? a8_i16(p) : a8_i32(p);
}

static int32_t check_fields(const uint8_t *p, const a8_field_t *f, uint32_t n_fields)
{
    for (; n_fields > 0; n_fields--, f++) {
        if (f->type == A8_TYPE_F32) {
            TRY(check_number(a8_u32(p + f->offset)));
            continue;
        }
        int32_t value = field_value(f, p + f->offset);
        if (value < f->low || value > f->high)
            return -(int32_t)f->error;
    }
    return A8_OK;
}

static int32_t check_fixed(const record_t *r, const a8_field_t *f, uint32_t n_fields, uint32_t fixed_bytes)
{
    return r->n < fixed_bytes ? A8_ERR_RECORD_LENGTH : check_fields(r->payload, f, n_fields);
}

static int32_t check_requantize(const uint8_t *p, uint32_t n_rows)
{
    for (; n_rows > 0; n_rows--, p += 8)
        TRY(check_fields(p, A8_FIELDS_REQUANTIZE_ROW, COUNT_OF(A8_FIELDS_REQUANTIZE_ROW)));
    return A8_OK;
}

static int32_t check_zeros(const uint8_t *p, uint32_t n)
{
    for (; n > 0; n--)
        if (*p++ != 0)
            return A8_ERR_RESERVED;
    return A8_OK;
}

static int32_t check_dpre(const a8_softmax_t *s)
{
    uint32_t dpre = 0;
    while (s->dmax >> dpre > 32767)
        dpre++;
    return s->dpre == dpre ? A8_OK : A8_ERR_SHIFT;
}

static void read_softmax(a8_softmax_t *s, const uint8_t *p)
{
    s->dmax = a8_i32(p);
    s->dm = (uint16_t)a8_u16(p + 4);
    s->dpre = p[6];
    s->dsh = p[7];
}

/* Strings. */

/* Returns the length of the printable UTF-8 character at s, 0 if it is none. */
static uint32_t character_bytes(const uint8_t *s, uint32_t left)
{
    uint32_t b = s[0];
    if (b < 0x80)
        return b >= 0x20 && b != 0x7F;
    if (b < 0xC2 || b > 0xF4)
        return 0;
    uint32_t n = b < 0xE0 ? 2 : b < 0xF0 ? 3 : 4;
    if (n > left)
        return 0;
    uint32_t low = b == 0xE0 ? 0xA0 : b == 0xF0 ? 0x90 : 0x80; /* no overlong forms */
    uint32_t high = b == 0xED ? 0x9F : b == 0xF4 ? 0x8F : 0xBF; /* no surrogates, nothing above U+10FFFF */
    if (s[1] < low || s[1] > high)
        return 0;
    for (uint32_t i = 2; i < n; i++)
        if ((s[i] & 0xC0) != 0x80)
            return 0;
    return n;
}

/* Checks the string of n bytes at *at of the payload and moves *at behind it. */
static int32_t check_text(const record_t *r, uint32_t *at, uint32_t n)
{
    if (n > r->n - *at)
        return A8_ERR_RECORD_LENGTH;
    const uint8_t *s = r->payload + *at;
    *at += n;
    while (n > 0) {
        uint32_t step = character_bytes(s, n);
        if (step == 0)
            return A8_ERR_STRING;
        s += step;
        n -= step;
    }
    return A8_OK;
}

/* The same with the length in a byte before it. */
static int32_t check_string(const record_t *r, uint32_t *at, uint32_t low, uint32_t high)
{
    if (*at >= r->n)
        return A8_ERR_RECORD_LENGTH;
    uint32_t n = r->payload[*at];
    if (n < low || n > high)
        return A8_ERR_STRING;
    *at += 1;
    return check_text(r, at, n);
}

static int32_t check_end(const record_t *r, uint32_t at)
{
    if (r->n - at > 3)
        return A8_ERR_RECORD_LENGTH;
    return check_zeros(r->payload + at, r->n - at);
}

/* Records that are not ops. */

static int32_t check_meta(const record_t *r)
{
    uint32_t at = A8_AT_META_FIXED_BYTES;
    TRY(check_fixed(r, A8_FIELDS_META, COUNT_OF(A8_FIELDS_META), A8_AT_META_FIXED_BYTES));
    TRY(check_text(r, &at, r->payload[A8_AT_META_NAME_BYTES]));
    TRY(check_text(r, &at, r->payload[A8_AT_META_VERSION_BYTES]));
    return check_end(r, at);
}

static int32_t check_channels(const a8_model_t *m, const record_t *r, uint32_t at)
{
    for (uint32_t c = 0; c < m->n_channels; c++, at += 4)
        TRY(check_number(a8_u32(r->payload + at)));
    for (uint32_t c = 0; c < m->n_channels; c++) {
        TRY(check_string(r, &at, 1, A8_MAX_NAME_BYTES));
        TRY(check_string(r, &at, 0, A8_MAX_UNIT_BYTES));
    }
    return check_end(r, at);
}

static int32_t check_input(a8_model_t *m, const record_t *r)
{
    const uint8_t *p = r->payload;
    TRY(check_fixed(r, A8_FIELDS_INPUT, COUNT_OF(A8_FIELDS_INPUT), A8_AT_INPUT_FIXED_BYTES));
    m->n_steps = m->input.n_steps = (uint16_t)a8_u16(p + A8_AT_INPUT_N_STEPS);
    m->n_channels = m->input.n_channels = (uint16_t)a8_u16(p + A8_AT_INPUT_N_CHANNELS);
    m->input_type = p[A8_AT_INPUT_INPUT_TYPE];
    m->input_rows = r->offset + A8_AT_INPUT_FIXED_BYTES;
    if ((uint32_t)m->n_steps * m->n_channels > A8_MAX_TENSOR_BYTES)
        return A8_ERR_TOO_LARGE;
    uint32_t n_rows = m->input_type == A8_INPUT_INT16 ? m->n_channels : 0;
    uint32_t at = A8_AT_INPUT_FIXED_BYTES + 8 * n_rows;
    if (r->n < at + 4u * m->n_channels)
        return A8_ERR_RECORD_LENGTH;
    TRY(check_requantize(p + A8_AT_INPUT_FIXED_BYTES, n_rows));
    return check_channels(m, r, at);
}

static int32_t check_task(a8_model_t *m, const record_t *r)
{
    uint32_t at = A8_AT_TASK_FIXED_BYTES;
    TRY(check_fixed(r, A8_FIELDS_TASK, COUNT_OF(A8_FIELDS_TASK), A8_AT_TASK_FIXED_BYTES));
    m->n_outputs = (uint16_t)a8_u16(r->payload + A8_AT_TASK_N_OUTPUTS);
    m->thresholds = r->offset + at;
    read_softmax(&m->score, r->payload + A8_AT_TASK_SCORE_DMAX);
    TRY(check_dpre(&m->score));
    if (r->n - at < m->n_outputs)
        return A8_ERR_RECORD_LENGTH;
    for (uint32_t i = 0; i < m->n_outputs; i++)
        if (r->payload[at + i] > 100)
            return A8_ERR_TASK;
    at += m->n_outputs;
    TRY(check_zeros(r->payload + at, a8_padded(at) - at));
    at = a8_padded(at);
    for (uint32_t i = 0; i < m->n_outputs; i++)
        TRY(check_string(r, &at, 1, A8_MAX_NAME_BYTES));
    return check_end(r, at);
}

static int32_t check_golden_channel(const a8_model_t *m, const uint8_t *p)
{
    TRY(check_fields(p, A8_FIELDS_GOLDEN_CHANNEL_ROW, COUNT_OF(A8_FIELDS_GOLDEN_CHANNEL_ROW)));
    int32_t low = a8_i16(p), high = low + (int32_t)a8_u16(p + 2) - 1;
    if (m->input_type == A8_INPUT_INT16)
        return high <= 32767 ? A8_OK : A8_ERR_GOLDEN;
    return low >= -128 && high <= 127 ? A8_OK : A8_ERR_GOLDEN;
}

static int32_t check_golden_vector(const a8_model_t *m, const uint8_t *p)
{
    TRY(check_fields(p, A8_FIELDS_GOLDEN_VECTOR_ROW, COUNT_OF(A8_FIELDS_GOLDEN_VECTOR_ROW)));
    return a8_u32(p) == 0 || a8_u16(p + 4) > m->n_steps ? A8_ERR_GOLDEN : A8_OK;
}

static int32_t check_golden(a8_model_t *m, const record_t *r)
{
    const uint8_t *p = r->payload + A8_AT_GOLDEN_FIXED_BYTES;
    TRY(check_fixed(r, A8_FIELDS_GOLDEN, COUNT_OF(A8_FIELDS_GOLDEN), A8_AT_GOLDEN_FIXED_BYTES));
    m->golden = r->offset + A8_AT_GOLDEN_FIXED_BYTES;
    m->n_golden = r->payload[A8_AT_GOLDEN_N_VECTORS];
    uint32_t outputs = (uint32_t)m->n_golden * m->n_outputs;
    if (r->n != A8_AT_GOLDEN_FIXED_BYTES + 4u * m->n_channels + 8u * m->n_golden + a8_padded(outputs))
        return A8_ERR_RECORD_LENGTH;
    for (uint32_t c = 0; c < m->n_channels; c++, p += 4)
        TRY(check_golden_channel(m, p));
    for (uint32_t i = 0; i < m->n_golden; i++, p += 8)
        TRY(check_golden_vector(m, p));
    return check_zeros(p + outputs, a8_padded(outputs) - outputs);
}

/* Ops. check_op has filled op->code, op->source and the shape of the first source as shape of the output. */

static a8_tensor_t *tensor(a8_model_t *m, uint32_t id) { return id == 0 ? &m->input : &m->ops[id - 1].output; }

/* Adds n_products for each element of the op's output to the work of the model; compares by division. */
static int32_t add_work(a8_model_t *m, const a8_tensor_t *y, uint32_t n_products)
{
    uint32_t n = (uint32_t)y->n_steps * y->n_channels;
    if (n > A8_MAX_TENSOR_BYTES || n_products > A8_MAX_MACS / n || n * n_products > A8_MAX_MACS - m->macs)
        return A8_ERR_TOO_LARGE;
    m->macs += n * n_products;
    return A8_OK;
}

static int32_t check_weights(const uint8_t *p, uint32_t n_rows, uint32_t n_products)
{
    for (; n_rows > 0; n_rows--) {
        for (uint32_t k = 0; k < n_products; k++)
            if (p[k] == 0x80)
                return A8_ERR_WEIGHT;
        TRY(check_zeros(p + n_products, a8_padded(n_products) - n_products));
        p += a8_padded(n_products);
    }
    return A8_OK;
}

/* What linear and conv1d share: work, exact length, rows, weights (N, n_products). */
static int32_t check_product(a8_model_t *m, const record_t *r, a8_op_t *op, uint32_t fixed_bytes, uint32_t n_products)
{
    uint32_t n = op->output.n_channels;
    op->rows = r->offset + fixed_bytes;
    op->weights = op->rows + 8 * n;
    TRY(add_work(m, &op->output, n_products));
    if (r->n != fixed_bytes + 8 * n + n * a8_padded(n_products))
        return A8_ERR_RECORD_LENGTH;
    TRY(check_requantize(r->payload + fixed_bytes, n));
    return check_weights(r->payload + fixed_bytes + 8 * n, n, n_products);
}

static int32_t check_linear(a8_model_t *m, const record_t *r, a8_op_t *op)
{
    uint32_t n_products = op->output.n_channels;
    a8_product_fields_t *f = &op->as.product;
    f->clamp = r->payload[A8_AT_LINEAR_S8_CLAMP];
    f->kernel = f->stride = 1;
    op->output.n_channels = (uint16_t)a8_u16(r->payload + A8_AT_LINEAR_S8_N_OUTPUTS);
    return check_product(m, r, op, A8_AT_LINEAR_S8_FIXED_BYTES, n_products);
}

static int32_t check_conv1d(a8_model_t *m, const record_t *r, a8_op_t *op)
{
    const uint8_t *p = r->payload;
    a8_product_fields_t *f = &op->as.product;
    f->clamp = p[A8_AT_CONV1D_S8_CLAMP];
    f->kernel = p[A8_AT_CONV1D_S8_KERNEL];
    f->stride = p[A8_AT_CONV1D_S8_STRIDE];
    f->pad_left = p[A8_AT_CONV1D_S8_PAD_LEFT];
    f->pad_right = p[A8_AT_CONV1D_S8_PAD_RIGHT];
    uint32_t n_products = (uint32_t)f->kernel * op->output.n_channels;
    uint32_t n_steps = (uint32_t)op->output.n_steps + f->pad_left + f->pad_right;
    if (f->pad_left >= f->kernel || f->pad_right >= f->kernel || n_products > A8_MAX_PRODUCTS || n_steps < f->kernel)
        return A8_ERR_SHAPE;
    n_steps = (n_steps - f->kernel) / f->stride + 1;
    if (n_steps > A8_MAX_STEPS)
        return A8_ERR_SHAPE;
    op->output.n_steps = (uint16_t)n_steps;
    op->output.n_channels = (uint16_t)a8_u16(p + A8_AT_CONV1D_S8_N_OUTPUTS);
    return check_product(m, r, op, A8_AT_CONV1D_S8_FIXED_BYTES, n_products);
}

static int same_shape(const a8_tensor_t *a, const a8_tensor_t *b)
{
    return a->n_steps == b->n_steps && a->n_channels == b->n_channels;
}

/* A key of -128 beside a query of -128 would not fit the packed multiply: keys come from an op that never makes one. */
static int is_key(const a8_model_t *m, uint32_t id)
{
    if (id == 0)
        return 0;
    const a8_op_t *op = &m->ops[id - 1];
    return (op->code == A8_OP_LINEAR_S8 || op->code == A8_OP_CONV1D_S8) && op->as.product.clamp != A8_CLAMP_FULL;
}

static void read_attention(a8_attention_fields_t *f, const uint8_t *p)
{
    f->heads = p[A8_AT_WINDOWED_ATTENTION_S8_HEADS];
    f->left = (uint16_t)a8_u16(p + A8_AT_WINDOWED_ATTENTION_S8_LEFT);
    f->right = (uint16_t)a8_u16(p + A8_AT_WINDOWED_ATTENTION_S8_RIGHT);
    read_softmax(&f->softmax, p + A8_AT_WINDOWED_ATTENTION_S8_DMAX);
    f->multiplier = (uint16_t)a8_u16(p + A8_AT_WINDOWED_ATTENTION_S8_MULTIPLIER);
    f->shift = p[A8_AT_WINDOWED_ATTENTION_S8_SHIFT];
}

static int32_t check_heads(const a8_model_t *m, const a8_op_t *op)
{
    const a8_attention_fields_t *f = &op->as.attention;
    const a8_tensor_t *y = &op->output;
    if (y->n_channels % f->heads != 0 || y->n_channels / f->heads > A8_MAX_HEAD_SIZE)
        return A8_ERR_ATTENTION;
    return is_key(m, op->source[1]) && f->left < y->n_steps && f->right < y->n_steps ? A8_OK : A8_ERR_ATTENTION;
}

static int32_t check_attention(a8_model_t *m, const record_t *r, a8_op_t *op)
{
    a8_attention_fields_t *f = &op->as.attention;
    const uint8_t *p = r->payload + A8_AT_WINDOWED_ATTENTION_S8_FIXED_BYTES;
    read_attention(f, r->payload);
    op->rows = r->offset + A8_AT_WINDOWED_ATTENTION_S8_FIXED_BYTES;
    for (uint32_t i = 1; i < 3; i++)
        if (!same_shape(&op->output, tensor(m, op->source[i])))
            return A8_ERR_SHAPE;
    TRY(check_heads(m, op));
    TRY(check_dpre(&f->softmax));
    uint32_t span = (uint32_t)f->left + f->right + 1;
    TRY(add_work(m, &op->output, 2 * span));
    if (r->n != A8_AT_WINDOWED_ATTENTION_S8_FIXED_BYTES + 4 * f->heads * span)
        return A8_ERR_RECORD_LENGTH;
    for (uint32_t i = f->heads * span; i > 0; i--, p += 4)
        if (a8_i32(p) > A8_MAX_RELATIVE_BIAS || a8_i32(p) < -A8_MAX_RELATIVE_BIAS)
            return A8_ERR_BIAS;
    return A8_OK;
}

static int32_t check_layer_norm(const record_t *r, a8_op_t *op)
{
    const uint8_t *p = r->payload;
    a8_norm_fields_t *f = &op->as.norm;
    f->kind = p[A8_AT_LAYER_NORM_S8_KIND];
    f->multiplier = (uint16_t)a8_u16(p + A8_AT_LAYER_NORM_S8_MULTIPLIER);
    f->epsilon = a8_i32(p + A8_AT_LAYER_NORM_S8_EPSILON);
    f->shift = p[A8_AT_LAYER_NORM_S8_SHIFT];
    if (op->output.n_channels < A8_MIN_NORM_CHANNELS || op->output.n_channels > A8_MAX_NORM_CHANNELS)
        return A8_ERR_SHAPE;
    return r->n == A8_AT_LAYER_NORM_S8_FIXED_BYTES ? A8_OK : A8_ERR_RECORD_LENGTH;
}

static int32_t check_add(a8_model_t *m, const record_t *r, a8_op_t *op)
{
    a8_add_fields_t *f = &op->as.add;
    f->multiplier_a = a8_i32(r->payload + A8_AT_ADD_S8_MULTIPLIER_A);
    f->multiplier_b = a8_i32(r->payload + A8_AT_ADD_S8_MULTIPLIER_B);
    if (!same_shape(&op->output, tensor(m, op->source[1])))
        return A8_ERR_SHAPE;
    if (f->multiplier_a + f->multiplier_b > A8_MAX_ADD_SUM)
        return A8_ERR_MULTIPLIER;
    return r->n == A8_AT_ADD_S8_FIXED_BYTES ? A8_OK : A8_ERR_RECORD_LENGTH;
}

static int32_t check_mean_pool(const record_t *r, a8_op_t *op)
{
    const uint8_t *p = r->payload;
    a8_requantize_t *f = &op->as.pool;
    f->bias = a8_i32(p + A8_AT_MEAN_POOL_S8_BIAS);
    f->multiplier = (uint16_t)a8_u16(p + A8_AT_MEAN_POOL_S8_MULTIPLIER);
    f->pre = p[A8_AT_MEAN_POOL_S8_PRE];
    f->post = p[A8_AT_MEAN_POOL_S8_POST];
    op->output.n_steps = 1;
    return r->n == A8_AT_MEAN_POOL_S8_FIXED_BYTES ? A8_OK : A8_ERR_RECORD_LENGTH;
}

static int32_t check_table(const record_t *r, a8_op_t *op)
{
    op->rows = r->offset + A8_AT_TABLE_S8_FIXED_BYTES;
    return r->n == A8_AT_TABLE_S8_FIXED_BYTES + 256 ? A8_OK : A8_ERR_RECORD_LENGTH;
}

static uint32_t n_sources(uint32_t code)
{
    if (code == A8_OP_WINDOWED_ATTENTION_S8)
        return 3;
    return code == A8_OP_ADD_S8 ? 2 : 1;
}

#define CHECK_FIXED(r, OP) check_fixed(r, A8_FIELDS_##OP, COUNT_OF(A8_FIELDS_##OP), A8_AT_##OP##_FIXED_BYTES)

static int32_t check_op_fields(const record_t *r)
{
    if (r->type == A8_OP_LINEAR_S8)
        return CHECK_FIXED(r, LINEAR_S8);
    if (r->type == A8_OP_CONV1D_S8)
        return CHECK_FIXED(r, CONV1D_S8);
    if (r->type == A8_OP_WINDOWED_ATTENTION_S8)
        return CHECK_FIXED(r, WINDOWED_ATTENTION_S8);
    if (r->type == A8_OP_LAYER_NORM_S8)
        return CHECK_FIXED(r, LAYER_NORM_S8);
    if (r->type == A8_OP_ADD_S8)
        return CHECK_FIXED(r, ADD_S8);
    return r->type == A8_OP_MEAN_POOL_S8 ? CHECK_FIXED(r, MEAN_POOL_S8) : CHECK_FIXED(r, TABLE_S8);
}

static int32_t check_op_rules(a8_model_t *m, const record_t *r, a8_op_t *op)
{
    if (r->type == A8_OP_LINEAR_S8)
        return check_linear(m, r, op);
    if (r->type == A8_OP_CONV1D_S8)
        return check_conv1d(m, r, op);
    if (r->type == A8_OP_WINDOWED_ATTENTION_S8)
        return check_attention(m, r, op);
    if (r->type == A8_OP_LAYER_NORM_S8)
        return check_layer_norm(r, op);
    if (r->type == A8_OP_ADD_S8)
        return check_add(m, r, op);
    return r->type == A8_OP_MEAN_POOL_S8 ? check_mean_pool(r, op) : check_table(r, op);
}

/* The source ids are the first bytes of every op; ops are read in order, so the last reader of a tensor stays noted. */
static int32_t check_op(a8_model_t *m, const record_t *r, uint32_t i)
{
    a8_op_t *op = &m->ops[i];
    TRY(check_op_fields(r));
    memset(op, 0, sizeof(*op)); /* sources that an op does not have are tensor 0 */
    op->code = (uint8_t)r->type;
    for (uint32_t s = 0; s < n_sources(r->type); s++) {
        op->source[s] = r->payload[s];
        if (op->source[s] > i)
            return A8_ERR_SOURCE;
    }
    for (uint32_t s = 0; s < n_sources(r->type); s++)
        tensor(m, op->source[s])->last_step = (uint8_t)(i + 1);
    const a8_tensor_t *x = tensor(m, op->source[0]);
    op->output.n_steps = x->n_steps;
    op->output.n_channels = x->n_channels;
    return check_op_rules(m, r, op);
}

/* Records in their order. */

static int32_t read_record(const uint8_t *file, uint32_t n, uint32_t at, record_t *r)
{
    if (n - at < A8_RECORD_HEADER_BYTES)
        return A8_ERR_RECORD;
    r->type = a8_u16(file + at);
    r->flags = a8_u16(file + at + 2);
    r->n = a8_u32(file + at + 4);
    r->offset = at + A8_RECORD_HEADER_BYTES;
    r->payload = file + r->offset;
    if ((r->flags & ~FLAG_OPTIONAL) != 0)
        return A8_ERR_RESERVED;
    if (r->n % A8_ARENA_ALIGNMENT != 0)
        return A8_ERR_RECORD_LENGTH;
    return r->n > n - r->offset ? A8_ERR_RECORD : A8_OK;
}

static int is_op(uint32_t type) { return type >= A8_OP_LINEAR_S8 && type <= A8_OP_TABLE_S8; }

static int is_known(uint32_t type) { return (type >= A8_RECORD_META && type <= A8_RECORD_GOLDEN) || is_op(type); }

static int32_t unknown(uint32_t type)
{
    return type >= A8_FIRST_OP && type <= A8_LAST_OP ? A8_ERR_UNKNOWN_OP : A8_ERR_UNKNOWN_RECORD;
}

/* type: a record, or A8_FIRST_OP for any op. */
static int32_t check_type(const record_t *r, uint32_t type)
{
    if (!is_known(r->type))
        return unknown(r->type);
    if (is_op(r->type) ? type == A8_RECORD_GOLDEN : type == A8_FIRST_OP && r->type == A8_RECORD_GOLDEN)
        return A8_ERR_COUNT;
    if (is_op(r->type) ? type != A8_FIRST_OP : type != r->type)
        return A8_ERR_ORDER;
    return r->flags != 0 ? A8_ERR_RESERVED : A8_OK;
}

static int32_t check_optional(const uint8_t *file, uint32_t n, uint32_t at)
{
    record_t r;
    while (at < n) {
        TRY(read_record(file, n, at, &r));
        if (is_known(r.type))
            return A8_ERR_ORDER;
        if (r.flags != FLAG_OPTIONAL)
            return unknown(r.type);
        at = r.offset + r.n;
    }
    return A8_OK;
}

static int32_t check_graph(a8_model_t *m)
{
    a8_tensor_t *y = tensor(m, m->n_ops);
    for (uint32_t t = 0; t < m->n_ops; t++)
        if (tensor(m, t)->last_step == 0)
            return A8_ERR_SOURCE;
    y->last_step = m->n_ops;
    return y->n_steps == 1 && y->n_channels == m->n_outputs ? A8_OK : A8_ERR_SHAPE;
}

static int32_t check_payload(a8_model_t *m, const record_t *r, uint32_t i)
{
    if (r->type == A8_RECORD_META)
        return check_meta(r);
    if (r->type == A8_RECORD_INPUT)
        return check_input(m, r);
    if (r->type == A8_RECORD_TASK)
        return check_task(m, r);
    return r->type == A8_RECORD_GOLDEN ? check_golden(m, r) : check_op(m, r, i - A8_RECORD_TASK);
}

/* Record i of the file: META, INPUT, TASK, the ops, GOLDEN. */
static uint32_t expected_type(const a8_model_t *m, uint32_t i)
{
    if (i < A8_RECORD_TASK)
        return i + A8_RECORD_META;
    return i < A8_RECORD_TASK + (uint32_t)m->n_ops ? A8_FIRST_OP : A8_RECORD_GOLDEN;
}

static int32_t check_records(a8_model_t *m, const uint8_t *file, uint32_t n)
{
    record_t r;
    uint32_t at = A8_HEADER_BYTES;
    for (uint32_t i = 0; i < A8_RECORD_GOLDEN + (uint32_t)m->n_ops; i++) {
        TRY(read_record(file, n, at, &r));
        TRY(check_type(&r, expected_type(m, i)));
        TRY(check_payload(m, &r, i));
        at = r.offset + r.n;
    }
    return check_optional(file, n, at);
}

int32_t a8_model_bytes(const uint8_t *file, uint32_t n)
{
    if (n < A8_HEADER_BYTES)
        return A8_ERR_TRUNCATED;
    uint32_t n_ops = a8_u16(file + 6);
    return (int32_t)(sizeof(a8_model_t) + (n_ops < A8_MAX_OPS ? n_ops : A8_MAX_OPS) * sizeof(a8_op_t));
}

int32_t a8_check_model(a8_model_t *m, uint32_t model_bytes, const uint8_t *file, uint32_t n)
{
    TRY(check_header(file, n));
    if (model_bytes < (uint32_t)a8_model_bytes(file, n))
        return A8_ERR_MEMORY;
    memset(m, 0, sizeof(*m));
    m->n_ops = (uint8_t)file[6];
    TRY(check_records(m, file, n));
    return check_graph(m);
}
