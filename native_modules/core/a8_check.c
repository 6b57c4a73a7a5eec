/* check_model: the only place that reads a file it does not trust. The order of the checks is that of models/FORMAT.md;
 * the NumPy and the Python checker follow it too, so all three agree on the code of every file.
 */
#include "a8_bytes.h"
#include "a8_model.h"
#include "a8_target.h"

#define FLAG_OPTIONAL 1u
#define HEADER_CRC 12u /* offset of the checksum, which leaves itself out */
#define TRY(e)                  \
    do {                        \
        int32_t try_error = (e); \
        if (try_error != A8_OK) \
            return try_error;   \
    } while (0)

#ifdef __GNUC__
#define NOINLINE __attribute__((noinline)) /* where the code gets smaller by it */
#else
#define NOINLINE
#endif

/* The record that is read, from front to back. */
typedef struct {
    a8_model_t *m;
    const uint8_t *file;
    const uint8_t *file_end;
    const uint8_t *at;  /* the next byte */
    const uint8_t *end; /* of the payload */
    uint32_t type;
    uint32_t flags;
    int32_t value[A8_MAX_VALUES]; /* of the fields that were read last */
} reader_t;

static const uint32_t CRC_TABLE[16] = {
    0x00000000, 0x1DB71064, 0x3B6E20C8, 0x26D930AC, 0x76DC4190, 0x6B6B51F4, 0x4DB26158, 0x5005713C,
    0xEDB88320, 0xF00F9344, 0xD6D6A3E8, 0xCB61B38C, 0x9B64C2B0, 0x86D3D2D4, 0xA00AE278, 0xBDBDF21C,
};

static uint32_t crc32(uint32_t crc, const uint8_t *p, const uint8_t *end)
{
    while (p != end) {
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
    uint32_t crc = crc32(0xFFFFFFFFu, file, file + HEADER_CRC);
    if (~crc32(crc, file + HEADER_CRC + 4, file + n) != a8_u32(file + HEADER_CRC))
        return A8_ERR_CRC;
    return a8_u16(file + 6) - 1 < A8_MAX_OPS ? A8_OK : A8_ERR_COUNT;
}

/* Fields, rows and padding. */

static uint32_t left(const reader_t *r) { return (uint32_t)(r->end - r->at); }

static int32_t check_length(int ok) { return ok ? A8_OK : A8_ERR_RECORD_LENGTH; }

/* Reads an A8_SET_... into r->value, each field against its range. */
static int32_t read_fields(reader_t *r, uint32_t set)
{
    const uint8_t *f = A8_FIELDS[A8_SETS[set][0]], *at = r->at;
    int32_t *to = r->value;
    TRY(check_length(left(r) >= A8_SETS[set][1]));
    r->at += A8_SETS[set][1];
    for (; at != r->at; f += 2) {
        uint32_t type = f[0] & 7u, value = *at++;
        if (type != A8_TYPE_U8)
            value |= (uint32_t)*at++ << 8;
        if (type == A8_TYPE_I16)
            value = (value ^ 0x8000u) - 0x8000u;
        if (type >= A8_TYPE_I32) {
            value |= a8_u16(at) << 16;
            at += 2;
        }
        int32_t v = *to++ = (int32_t)value;
        if ((v < A8_BOUNDS[f[1] & 7] || v > A8_BOUNDS[8 + (f[1] >> 3)]) && (type != A8_TYPE_F32 || v != 0))
            return -(int32_t)(f[0] >> 3);
    }
    return A8_OK;
}

static int32_t read_rows(reader_t *r, uint32_t n, uint32_t set)
{
    for (; n > 0; n--)
        TRY(read_fields(r, set));
    return A8_OK;
}

/* Padding to 4 bytes behind n of them. */
static int32_t read_padding(reader_t *r, uint32_t n) { return read_rows(r, -n & 3, A8_SET_ZERO_ROW); }

/* v: dmax, dm, dpre, dsh */
static int32_t set_softmax(a8_softmax_t *s, const int32_t *v)
{
    int32_t dpre = 0;
    while (v[0] >> dpre > 32767)
        dpre++;
    s->dmax = v[0];
    s->dm = (uint16_t)v[1];
    s->dpre = (uint8_t)dpre;
    s->dsh = (uint8_t)v[3];
    return v[2] == dpre ? A8_OK : A8_ERR_SHIFT;
}

/* Strings. */

/* Returns the length of the printable UTF-8 character at s, 0 if it is none. */
static uint32_t character_bytes(const uint8_t *s, uint32_t n_left)
{
    uint32_t c = s[0], n = 1;
    if (c >= 0x80) {
        for (uint32_t lead = c << 25; lead >> 31; lead <<= 1)
            n++;
        if (n - 2 > 2 || n > n_left)
            return 0;
        c &= 0x7Fu >> n;
        for (uint32_t i = 1; i < n; i++) {
            if ((s[i] & 0xC0) != 0x80)
                return 0;
            c = c << 6 | (s[i] & 0x3F);
        }
        /* overlong forms, surrogates, what is above the last code point */
        if (c >> (n == 2 ? 7 : 5 * n - 4) == 0 || c >> 11 == 0x1B || c > 0x10FFFF)
            return 0;
    }
    return c < 0x20 || c == 0x7F ? 0 : n;
}

/* Reads the string of n bytes. */
static int32_t read_text(reader_t *r, uint32_t n)
{
    TRY(check_length(n <= left(r)));
    while (n > 0) {
        uint32_t step = character_bytes(r->at, n);
        if (step == 0)
            return A8_ERR_STRING;
        r->at += step;
        n -= step;
    }
    return A8_OK;
}

/* The same with the length in a byte before it. */
static int32_t read_string(reader_t *r, uint32_t low, uint32_t high)
{
    TRY(check_length(left(r) > 0));
    uint32_t n = *r->at++;
    if (n < low || n > high)
        return A8_ERR_STRING;
    return read_text(r, n);
}

static int32_t read_end(reader_t *r)
{
    TRY(check_length(left(r) <= 3));
    return read_rows(r, left(r), A8_SET_ZERO_ROW);
}

/* Records that are not ops: their fixed fields are read. */

static int32_t read_meta(reader_t *r)
{
    uint32_t version_bytes = (uint32_t)r->value[A8_VALUE_META_VERSION_BYTES];
    TRY(read_text(r, (uint32_t)r->value[A8_VALUE_META_NAME_BYTES]));
    TRY(read_text(r, version_bytes));
    return read_end(r);
}

static int32_t read_input(reader_t *r)
{
    a8_model_t *m = r->m;
    m->n_steps = m->input.n_steps = (uint16_t)r->value[A8_VALUE_INPUT_N_STEPS];
    m->n_channels = m->input.n_channels = (uint16_t)r->value[A8_VALUE_INPUT_N_CHANNELS];
    m->input_type = (uint8_t)r->value[A8_VALUE_INPUT_INPUT_TYPE];
    m->input_rows = (uint32_t)(r->at - r->file);
    uint32_t n = m->n_channels, n_rows = m->input_type == A8_INPUT_INT16 ? n : 0;
    if (m->n_steps * n > A8_MAX_TENSOR_BYTES)
        return A8_ERR_TOO_LARGE;
    TRY(check_length(left(r) >= 8 * n_rows + 4 * n));
    TRY(read_rows(r, n_rows, A8_SET_REQUANTIZE_ROW));
    TRY(read_rows(r, n, A8_SET_NUMBER_ROW));
    for (; n > 0; n--) {
        TRY(read_string(r, 1, A8_MAX_NAME_BYTES));
        TRY(read_string(r, 0, A8_MAX_UNIT_BYTES));
    }
    return read_end(r);
}

static int32_t read_task(reader_t *r)
{
    a8_model_t *m = r->m;
    uint32_t n = m->n_outputs = (uint16_t)r->value[A8_VALUE_TASK_N_OUTPUTS];
    m->thresholds = (uint32_t)(r->at - r->file);
    TRY(set_softmax(&m->score, r->value + A8_VALUE_TASK_SCORE_DMAX));
    TRY(check_length(left(r) >= n));
    TRY(read_rows(r, n, A8_SET_THRESHOLD_ROW));
    TRY(read_padding(r, n));
    for (; n > 0; n--)
        TRY(read_string(r, 1, A8_MAX_NAME_BYTES));
    return read_end(r);
}

static int32_t read_golden(reader_t *r)
{
    a8_model_t *m = r->m;
    int32_t highest = m->input_type == A8_INPUT_INT16 ? 32767 : 127;
    uint32_t n = m->n_golden = (uint8_t)r->value[A8_VALUE_GOLDEN_N_VECTORS], outputs = n * m->n_outputs;
    m->golden = (uint32_t)(r->at - r->file);
    TRY(check_length(left(r) == 4u * m->n_channels + 8 * n + a8_padded(outputs)));
    for (uint32_t c = m->n_channels; c > 0; c--) {
        TRY(read_fields(r, A8_SET_GOLDEN_CHANNEL_ROW));
        if (r->value[0] < ~highest || r->value[0] + r->value[1] - 1 > highest)
            return A8_ERR_GOLDEN;
    }
    for (; n > 0; n--) {
        TRY(read_fields(r, A8_SET_GOLDEN_VECTOR_ROW));
        if ((r->value[0] | r->value[1]) == 0 || r->value[2] > m->n_steps)
            return A8_ERR_GOLDEN;
    }
    r->at += outputs;
    return read_padding(r, outputs);
}

/* Ops: check_op has filled op->code, op->source, the shape of the first source as shape of the output, and in op->rows
 * the place behind the fixed fields. */

static NOINLINE a8_tensor_t *tensor(a8_model_t *m, uint32_t id) { return id == 0 ? &m->input : &m->ops[id - 1].output; }

/* Adds n_products for each element of the op's output to the work of the model; compares by division. */
static NOINLINE int32_t add_work(a8_model_t *m, const a8_tensor_t *y, uint32_t n_products)
{
    uint32_t n = (uint32_t)y->n_steps * y->n_channels;
    if (n > A8_MAX_TENSOR_BYTES || n_products > (A8_MAX_MACS - m->macs) / n)
        return A8_ERR_TOO_LARGE;
    m->macs += n * n_products;
    return A8_OK;
}

static int32_t read_weights(reader_t *r, uint32_t n_products)
{
    const uint8_t *p = r->at, *end = r->at += n_products;
    while (p != end)
        if (*p++ == 0x80)
            return A8_ERR_WEIGHT;
    return read_padding(r, n_products);
}

/* linear is a conv1d with a kernel of 1. */
static int32_t read_product(reader_t *r, a8_op_t *op)
{
    a8_product_fields_t *f = &op->as.product;
    a8_tensor_t *y = &op->output;
    f->clamp = (uint8_t)r->value[A8_VALUE_LINEAR_S8_CLAMP];
    f->kernel = f->stride = 1;
    if (A8_IS(op->code, CONV1D_S8)) {
        f->kernel = (uint8_t)r->value[A8_VALUE_CONV1D_S8_KERNEL];
        f->stride = (uint8_t)r->value[A8_VALUE_CONV1D_S8_STRIDE];
        f->pad_left = (uint8_t)r->value[A8_VALUE_CONV1D_S8_PAD_LEFT];
        f->pad_right = (uint8_t)r->value[A8_VALUE_CONV1D_S8_PAD_RIGHT];
    }
    uint32_t kernel = f->kernel, n_products = kernel * y->n_channels;
    uint32_t n_steps = (uint32_t)y->n_steps + f->pad_left + f->pad_right;
    if (f->pad_left >= kernel || f->pad_right >= kernel || n_products > A8_MAX_PRODUCTS || n_steps < kernel)
        return A8_ERR_SHAPE;
    n_steps = (n_steps - kernel) / f->stride + 1;
    if (n_steps > A8_MAX_STEPS)
        return A8_ERR_SHAPE;
    uint32_t n = (uint32_t)r->value[A8_VALUE_LINEAR_S8_N_OUTPUTS];
    y->n_steps = (uint16_t)n_steps;
    y->n_channels = (uint16_t)n;
    op->weights = op->rows + 8 * n;
    TRY(add_work(r->m, y, n_products));
    TRY(check_length(left(r) == n * (8 + a8_padded(n_products))));
    TRY(read_rows(r, n, A8_SET_REQUANTIZE_ROW));
    for (; n > 0; n--)
        TRY(read_weights(r, n_products));
    return A8_OK;
}

static int same_shape(a8_model_t *m, const a8_op_t *op, uint32_t s)
{
    const a8_tensor_t *a = &op->output, *b = tensor(m, op->source[s]);
    return a->n_steps == b->n_steps && a->n_channels == b->n_channels;
}

/* A key of -128 beside a query of -128 would not fit the packed multiply: keys come from an op that never makes one. */
static int is_key(const a8_model_t *m, uint32_t id)
{
    if (id == 0)
        return 0;
    const a8_op_t *op = &m->ops[id - 1];
    return op->code <= A8_OP_CONV1D_S8 && op->as.product.clamp != A8_CLAMP_FULL;
}

static int32_t read_attention(reader_t *r, a8_op_t *op)
{
    a8_attention_fields_t *f = &op->as.attention;
    const a8_tensor_t *y = &op->output;
    uint32_t heads = f->heads = (uint8_t)r->value[A8_VALUE_WINDOWED_ATTENTION_S8_HEADS];
    uint32_t before = f->left = (uint16_t)r->value[A8_VALUE_WINDOWED_ATTENTION_S8_LEFT];
    uint32_t behind = f->right = (uint16_t)r->value[A8_VALUE_WINDOWED_ATTENTION_S8_RIGHT];
    uint32_t span = before + behind + 1;
    f->multiplier = (uint16_t)r->value[A8_VALUE_WINDOWED_ATTENTION_S8_MULTIPLIER];
    f->shift = (uint8_t)r->value[A8_VALUE_WINDOWED_ATTENTION_S8_SHIFT];
    if (!same_shape(r->m, op, 1) || !same_shape(r->m, op, 2))
        return A8_ERR_SHAPE;
    if (y->n_channels % heads != 0 || y->n_channels / heads > A8_MAX_HEAD_SIZE || !is_key(r->m, op->source[1]) ||
        before >= y->n_steps || behind >= y->n_steps)
        return A8_ERR_ATTENTION;
    TRY(set_softmax(&f->softmax, r->value + A8_VALUE_WINDOWED_ATTENTION_S8_DMAX));
    TRY(add_work(r->m, y, 2 * span));
    TRY(check_length(left(r) == 4 * heads * span));
    return read_rows(r, heads * span, A8_SET_RELATIVE_BIAS_ROW);
}

static int32_t read_norm(const reader_t *r, a8_op_t *op)
{
    a8_norm_fields_t *f = &op->as.norm;
    uint32_t n = op->output.n_channels;
    f->kind = (uint8_t)r->value[A8_VALUE_LAYER_NORM_S8_KIND];
    f->multiplier = (uint16_t)r->value[A8_VALUE_LAYER_NORM_S8_MULTIPLIER];
    f->epsilon = r->value[A8_VALUE_LAYER_NORM_S8_EPSILON];
    f->shift = (uint8_t)r->value[A8_VALUE_LAYER_NORM_S8_SHIFT];
    return n < A8_MIN_NORM_CHANNELS || n > A8_MAX_NORM_CHANNELS ? A8_ERR_SHAPE : check_length(left(r) == 0);
}

static int32_t read_add(const reader_t *r, a8_op_t *op)
{
    a8_add_fields_t *f = &op->as.add;
    f->multiplier_a = r->value[A8_VALUE_ADD_S8_MULTIPLIER_A];
    f->multiplier_b = r->value[A8_VALUE_ADD_S8_MULTIPLIER_B];
    if (!same_shape(r->m, op, 1))
        return A8_ERR_SHAPE;
    return f->multiplier_a + f->multiplier_b > A8_MAX_ADD_SUM ? A8_ERR_MULTIPLIER : check_length(left(r) == 0);
}

static int32_t read_pool(const reader_t *r, a8_op_t *op)
{
    a8_requantize_t *f = &op->as.pool;
    f->bias = r->value[A8_VALUE_MEAN_POOL_S8_BIAS];
    f->multiplier = (uint16_t)r->value[A8_VALUE_MEAN_POOL_S8_MULTIPLIER];
    f->pre = (uint8_t)r->value[A8_VALUE_MEAN_POOL_S8_PRE];
    f->post = (uint8_t)r->value[A8_VALUE_MEAN_POOL_S8_POST];
    op->output.n_steps = 1;
    return check_length(left(r) == 0);
}

static int32_t read_op_rules(reader_t *r, a8_op_t *op)
{
    uint32_t code = op->code;
    if (A8_IS(code, WINDOWED_ATTENTION_S8))
        return read_attention(r, op);
    if (A8_IS(code, LAYER_NORM_S8))
        return read_norm(r, op);
    if (A8_IS(code, ADD_S8))
        return read_add(r, op);
    if (A8_IS(code, MEAN_POOL_S8))
        return read_pool(r, op);
    return A8_IS(code, TABLE_S8) ? check_length(left(r) == 256) : read_product(r, op);
}

#define LEFT_OUT(OP) (A8_HAS_##OP ? 0u : 1u << (A8_OP_##OP - A8_FIRST_OP))
#define ALL_LEFT_OUT \
    (LEFT_OUT(CONV1D_S8) | LEFT_OUT(WINDOWED_ATTENTION_S8) | LEFT_OUT(LAYER_NORM_S8) | LEFT_OUT(ADD_S8) | \
     LEFT_OUT(MEAN_POOL_S8) | LEFT_OUT(TABLE_S8))

/* The source ids are the first bytes of every op; ops are read in order, so the last reader of a tensor stays noted. */
static int32_t read_op(reader_t *r, uint32_t i)
{
    a8_op_t *op = &r->m->ops[i];
    memset(op, 0, sizeof(*op)); /* sources that an op does not have are tensor 0 */
    op->code = (uint8_t)r->type;
    op->rows = (uint32_t)(r->at - r->file);
    for (uint32_t s = a8_n_sources(r->type); s-- > 0;) {
        uint32_t id = op->source[s] = (uint8_t)r->value[s];
        if (id > i)
            return A8_ERR_SOURCE;
        a8_tensor_t *x = tensor(r->m, id);
        x->last_step = (uint8_t)(i + 1);
        op->output.n_steps = x->n_steps;
        op->output.n_channels = x->n_channels;
    }
    return read_op_rules(r, op);
}

/* Records in their order. */

static int32_t read_record(reader_t *r)
{
    const uint8_t *at = r->at;
    uint32_t n_left = (uint32_t)(r->file_end - at);
    if (n_left < A8_RECORD_HEADER_BYTES)
        return A8_ERR_RECORD;
    uint32_t n = a8_u32(at + 4);
    r->type = a8_u16(at);
    r->flags = a8_u16(at + 2);
    if (r->flags > FLAG_OPTIONAL)
        return A8_ERR_RESERVED;
    TRY(check_length(n % A8_ARENA_ALIGNMENT == 0));
    r->at = at + A8_RECORD_HEADER_BYTES;
    r->end = r->at + n;
    return n > n_left - A8_RECORD_HEADER_BYTES ? A8_ERR_RECORD : A8_OK;
}

/* The type of a record, A8_FIRST_OP for any op, or 0 for what is unknown. */
static uint32_t kind_of(uint32_t type)
{
    if (type - A8_FIRST_OP <= A8_OP_TABLE_S8 - A8_FIRST_OP)
        return A8_FIRST_OP;
    return type <= A8_RECORD_GOLDEN ? type : 0;
}

static int32_t unknown(uint32_t type)
{
    return type - A8_FIRST_OP <= A8_LAST_OP - A8_FIRST_OP ? A8_ERR_UNKNOWN_OP : A8_ERR_UNKNOWN_RECORD;
}

static int32_t check_kind(const reader_t *r, uint32_t expected)
{
    uint32_t kind = kind_of(r->type);
    if (kind == 0)
        return unknown(r->type);
    if (kind != expected) /* an op and GOLDEN in each other's place, or not */
        return kind + expected == A8_FIRST_OP + A8_RECORD_GOLDEN ? A8_ERR_COUNT : A8_ERR_ORDER;
    return r->flags != 0 ? A8_ERR_RESERVED : A8_OK;
}

static int32_t check_optional(reader_t *r)
{
    while (r->at != r->file_end) {
        TRY(read_record(r));
        if (kind_of(r->type) != 0)
            return A8_ERR_ORDER;
        if (r->flags != FLAG_OPTIONAL)
            return unknown(r->type);
        r->at = r->end;
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

/* Record i of the file: META, INPUT, TASK, the ops, GOLDEN. */
static int32_t read_payload(reader_t *r, uint32_t i)
{
    uint32_t n_ops = r->m->n_ops, kind = i + A8_RECORD_META;
    if (i >= A8_RECORD_TASK)
        kind = i < A8_RECORD_TASK + n_ops ? A8_FIRST_OP : A8_RECORD_GOLDEN;
    TRY(check_kind(r, kind));
    if (kind == A8_FIRST_OP && (ALL_LEFT_OUT >> (r->type - A8_FIRST_OP) & 1) != 0) {
        r->m->ops[0].code = (uint8_t)r->type;
        return A8_ERR_LEFT_OUT;
    }
    TRY(read_fields(r, r->type < A8_FIRST_OP ? r->type - A8_RECORD_META + A8_SET_META
                                             : r->type - A8_FIRST_OP + A8_SET_LINEAR_S8));
    if (kind == A8_RECORD_META)
        return read_meta(r);
    if (kind == A8_RECORD_INPUT)
        return read_input(r);
    if (kind == A8_RECORD_TASK)
        return read_task(r);
    return kind == A8_RECORD_GOLDEN ? read_golden(r) : read_op(r, i - A8_RECORD_TASK);
}

static int32_t check_records(a8_model_t *m, const uint8_t *file, uint32_t n)
{
    reader_t r;
    r.m = m;
    r.file = file;
    r.at = file + A8_HEADER_BYTES;
    r.file_end = file + n;
    for (uint32_t i = 0; i < A8_RECORD_GOLDEN + (uint32_t)m->n_ops; i++) {
        TRY(read_record(&r));
        TRY(read_payload(&r, i));
        r.at = r.end;
    }
    return check_optional(&r);
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
