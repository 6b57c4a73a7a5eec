/* _attn8: the core as a Python module. The same file makes the user C module that goes into firmware and the native
 * module (natmod) that an unchanged board imports from a .mpy file; MICROPY_ENABLE_DYNRUNTIME tells them apart.
 *
 *     _attn8.Model(data, fault)   data: a buffer that stays what it is; fault(model, code, got, method) -> exception
 *     _attn8.check_model(data)    0, or the code of the first fault
 *     _attn8.arch                 what the code was compiled for: armv6m, or armv6m portable with PORTABLE=1
 *
 * device/attn8/native.py derives attn8.Model from it. Texts of errors are Python's: the binding hands a code and what
 * it got to `fault` and raises what that returns, so that all back ends read one table.
 *
 * A natmod has no initialised writable data and no constant QSTRs, so its tables are filled by mpy_init from the same
 * X-macros; the QSTRs are spelled out because its build finds them by a regular expression.
 */
#ifdef MICROPY_ENABLE_DYNRUNTIME
#include "py/dynruntime.h"
#else
#include "py/obj.h"
#include "py/binary.h"
#include "py/objstr.h"
#include "py/runtime.h"
#endif
#include "py/objtuple.h"

#include "a8_bytes.h"
#include "a8_model.h"
#include "a8_stream.h"

#if defined(__x86_64__)
#define ARCH "x64"
#elif defined(__i386__)
#define ARCH "x86"
#elif defined(__ARM_ARCH_6M__)
#define ARCH "armv6m"
#elif defined(__ARM_ARCH_7M__)
#define ARCH "armv7m"
#elif defined(__ARM_ARCH_7EM__) && defined(__ARM_FP) && (__ARM_FP & 8)
#define ARCH "armv7emdp"
#elif defined(__ARM_ARCH_7EM__) && defined(__ARM_FP)
#define ARCH "armv7emsp"
#elif defined(__ARM_ARCH_7EM__)
#define ARCH "armv7em"
#elif defined(__ARM_ARCH_8M_MAIN__)
#define ARCH "armv8m"
#elif defined(__XTENSA__)
#define ARCH "xtensawin"
#elif defined(__riscv)
#define ARCH "rv32imc"
#elif defined(__aarch64__)
#define ARCH "arm64"
#else
#define ARCH "other"
#endif
#ifdef A8_PORTABLE
#define KERNELS ARCH " portable"
#else
#define KERNELS ARCH
#endif

#ifdef MICROPY_ENABLE_DYNRUNTIME
/* A natmod links no C library; the interpreter lends it these. */
void *memset(void *to, int value, size_t n) { return mp_fun_table.memset_(to, value, n); }
void *memcpy(void *to, const void *from, size_t n) { return mp_fun_table.memmove_(to, from, n); }
void *memmove(void *to, const void *from, size_t n) { return mp_fun_table.memmove_(to, from, n); }
#endif

/* Attributes of a Model, made once at load, in the order of models/FORMAT.md as far as it has one. */
#define ATTRIBUTES(X) \
    X(NAME, MP_QSTR_name) \
    X(VERSION, MP_QSTR_version) \
    X(ID, MP_QSTR_id) \
    X(N_STEPS, MP_QSTR_n_steps) \
    X(N_CHANNELS, MP_QSTR_n_channels) \
    X(INPUT_SHAPE, MP_QSTR_input_shape) \
    X(INPUT_TYPE, MP_QSTR_input_type) \
    X(COUNTS_PER_UNIT, MP_QSTR_counts_per_unit) \
    X(CHANNELS, MP_QSTR_channels) \
    X(UNITS, MP_QSTR_units) \
    X(N_OUTPUTS, MP_QSTR_n_outputs) \
    X(HOP, MP_QSTR_hop) \
    X(SAMPLE_RATE_HZ, MP_QSTR_sample_rate_hz) \
    X(LABELS, MP_QSTR_labels) \
    X(N_GOLDEN, MP_QSTR_n_golden) \
    X(MACS, MP_QSTR_macs) \
    X(MODEL_BYTES, MP_QSTR_model_bytes) \
    X(ARENA_BYTES, MP_QSTR_arena_bytes) \
    X(OUTPUT, MP_QSTR_output)
#define METHODS(X) \
    X(MP_QSTR_run, model_run_obj) \
    X(MP_QSTR_predict, model_predict_obj) \
    X(MP_QSTR_decide, model_decide_obj) \
    X(MP_QSTR_start, model_start_obj) \
    X(MP_QSTR_step, model_step_obj) \
    X(MP_QSTR__stream_state, model_stream_state_obj) \
    STREAM_METHODS(X) \
    X(MP_QSTR_ops, model_ops_obj)
#ifdef A8_WITHOUT_STREAM
#define STREAM_METHODS(X)
#else
#define STREAM_METHODS(X) \
    X(MP_QSTR__stream_reset, model_stream_reset_obj) \
    X(MP_QSTR__push, model_push_obj)
#endif
#define FUNCTIONS(X) X(MP_QSTR_check_model, attn8_check_model_obj)

#define ATTRIBUTE_ID(id, name) id,
enum { ATTRIBUTES(ATTRIBUTE_ID) N_ATTRIBUTES };

/* Everything a model needs lies on the heap that the collector knows, and is reachable from here. */
typedef struct {
    mp_obj_base_t base;
    mp_obj_t file;     /* the caller's buffer: weights are read in place */
    mp_obj_t fault;    /* fault(model, code, got, method) */
    mp_obj_t window;   /* that start was given, until the last step; MP_OBJ_NULL: no step is left */
    const void *input; /* where its bytes lay */
    uint16_t next_op;  /* of the next step */
    uint16_t method;   /* that was called last: a QSTR, for errors */
    a8_model_t *m;
    void *arena; /* m->arena_bytes */
    mp_obj_t attributes[N_ATTRIBUTES]; /* OUTPUT: array('b') that run returns when it is given none */
} model_t;

#ifdef MICROPY_ENABLE_DYNRUNTIME
mp_obj_full_type_t model_type; /* not static: a static one would be initialised data */
#else
extern const mp_obj_type_t model_type;
#endif
#define MODEL_TYPE ((const mp_obj_type_t *)&model_type)

/* Errors. */

static void raise_fault(mp_obj_t fault, mp_obj_t model, int32_t err, mp_obj_t got, qstr method)
{
    mp_obj_t args[4] = {model, MP_OBJ_NEW_SMALL_INT(-err), got, MP_OBJ_NEW_QSTR(method)};
    mp_obj_t exception = mp_call_function_n_kw(fault, 4, 0, args);
#ifdef MICROPY_ENABLE_DYNRUNTIME
    nlr_raise(exception);
#else
    nlr_raise(mp_make_raise_obj(exception));
#endif
}

static void raise_model_fault(model_t *self, int32_t err, mp_obj_t got)
{
    raise_fault(self->fault, MP_OBJ_FROM_PTR(self), err, got, self->method);
}

/* In an interrupt handler the heap may be locked: this one text needs no call into Python. */
static void check_idle(const model_t *self)
{
    if (self->m->busy)
        mp_raise_msg(&mp_type_RuntimeError,
                     MP_ERROR_TEXT("run was called inside a run of the same model; load the model twice"));
}

#ifdef MICROPY_ENABLE_DYNRUNTIME
/* A natmod's mp_obj_cast_to_native_base knows a single direct parent only; attn8.Model has two, a user's class more. */
static int is_model_type(const mp_obj_type_t *type)
{
    const mp_obj_base_t *parent = MP_OBJ_TYPE_GET_SLOT_OR_NULL(type, parent);
    if (parent == NULL)
        return type == MODEL_TYPE;
    if (parent->type != mp_obj_get_type(mp_const_empty_tuple))
        return is_model_type((const mp_obj_type_t *)parent);
    const mp_obj_tuple_t *parents = (const mp_obj_tuple_t *)parent;
    for (size_t i = 0; i < parents->len; i++)
        if (is_model_type(MP_OBJ_TO_PTR(parents->items[i])))
            return 1;
    return 0;
}

static mp_obj_t native_of(mp_obj_t object)
{
    const mp_obj_type_t *type = mp_obj_get_type(object);
    return type == MODEL_TYPE || !is_model_type(type) ? object : ((mp_obj_instance_t *)MP_OBJ_TO_PTR(object))->subobj[0];
}
#else
static mp_obj_t native_of(mp_obj_t object) { return mp_obj_cast_to_native_base(object, MP_OBJ_FROM_PTR(MODEL_TYPE)); }
#endif

/* A method called through a derived class gets the native object; in CircuitPython, or by its name, the derived one. */
static model_t *model_of(mp_obj_t object)
{
    mp_obj_t native = native_of(object);
    /* An object whose constructor was never called holds something else in its place. */
    if (native == MP_OBJ_NULL || mp_obj_get_type(native) != MODEL_TYPE)
        mp_raise_TypeError(MP_ERROR_TEXT("not a Model"));
    return MP_OBJ_TO_PTR(native);
}

/* Attributes: what the file says, in Python's words. The file was just checked; strings are cut at its end all the
 * same, so that a buffer that changes under our hands costs a wrong word and nothing else. */

typedef struct {
    const uint8_t *at;
    const uint8_t *end;
} reader_t;

static mp_obj_t read_text(reader_t *r, uint32_t n)
{
    if (n > (uint32_t)(r->end - r->at))
        n = (uint32_t)(r->end - r->at);
    const char *text = (const char *)r->at;
    r->at += n;
    return mp_obj_new_str(text, n);
}

static mp_obj_t read_short_text(reader_t *r)
{
    return r->at < r->end ? (r->at++, read_text(r, r->at[-1])) : mp_obj_new_str("", 0);
}

/* The interpreter reads the float, for floats are passed differently by soft-float and hard-float code; it reads an
 * aligned one. */
static mp_obj_t float_at(const uint8_t *p)
{
    uint32_t bits = a8_u32(p);
    return mp_binary_get_val_array('f', &bits, 0);
}

static mp_obj_t *items_of(mp_obj_t tuple) { return ((mp_obj_tuple_t *)MP_OBJ_TO_PTR(tuple))->items; }

static mp_obj_t shape_of(const a8_tensor_t *t)
{
    mp_obj_t items[2] = {MP_OBJ_NEW_SMALL_INT(t->n_steps), MP_OBJ_NEW_SMALL_INT(t->n_channels)};
    return mp_obj_new_tuple(2, items);
}

static void read_names(model_t *self, const uint8_t *file, const uint8_t *end)
{
    const uint8_t *meta = file + A8_HEADER_BYTES + A8_RECORD_HEADER_BYTES;
    reader_t r = {meta + A8_AT_META_FIXED_BYTES, end};
    self->attributes[NAME] = read_text(&r, meta[A8_AT_META_NAME_BYTES]);
    self->attributes[VERSION] = read_text(&r, meta[A8_AT_META_VERSION_BYTES]);
    char id[16];
    for (uint32_t i = 0; i < 16; i++)
        id[i] = "0123456789abcdef"[file[A8_HEADER_BYTES - 8 + i / 2] >> (i % 2 ? 0 : 4) & 15];
    self->attributes[ID] = mp_obj_new_str(id, sizeof(id));
}

static void read_channels(model_t *self, const uint8_t *file, const uint8_t *end)
{
    const a8_model_t *m = self->m;
    const uint8_t *counts = file + m->input_rows + (m->input_type == A8_INPUT_INT16 ? 8 * m->n_channels : 0);
    reader_t r = {counts + 4 * m->n_channels, end};
    mp_obj_t *scales = items_of(self->attributes[COUNTS_PER_UNIT] = mp_obj_new_tuple(m->n_channels, NULL));
    mp_obj_t *channels = items_of(self->attributes[CHANNELS] = mp_obj_new_tuple(m->n_channels, NULL));
    mp_obj_t *units = items_of(self->attributes[UNITS] = mp_obj_new_tuple(m->n_channels, NULL));
    for (uint32_t c = 0; c < m->n_channels; c++) {
        scales[c] = float_at(counts + 4 * c);
        channels[c] = read_short_text(&r);
        units[c] = read_short_text(&r);
    }
    self->attributes[INPUT_SHAPE] = shape_of(&m->input);
    self->attributes[INPUT_TYPE] = MP_OBJ_NEW_QSTR(m->input_type == A8_INPUT_INT16 ? MP_QSTR_int16 : MP_QSTR_int8);
}

static void read_task(model_t *self, const uint8_t *file, const uint8_t *end)
{
    const a8_model_t *m = self->m;
    const uint8_t *task = file + m->thresholds - A8_AT_TASK_FIXED_BYTES;
    reader_t r = {file + a8_padded(m->thresholds + m->n_outputs), end};
    mp_obj_t *labels = items_of(self->attributes[LABELS] = mp_obj_new_tuple(m->n_outputs, NULL));
    for (uint32_t i = 0; i < m->n_outputs; i++)
        labels[i] = read_short_text(&r);
    self->attributes[HOP] = mp_obj_new_int_from_uint(a8_u32(task + A8_AT_TASK_HOP));
    self->attributes[SAMPLE_RATE_HZ] = float_at(task + A8_AT_TASK_SAMPLE_RATE_HZ);
}

/* Ops: tensor 0 is the input, op i makes tensor i + 1. */

/* The products of an op; attention counts the (query, key) pairs that lie inside the window. */
static uint32_t macs_of(const a8_model_t *m, const a8_op_t *op)
{
    const a8_tensor_t *x = a8_tensor(m, op->source[0]), *y = &op->output;
    uint32_t n = (uint32_t)y->n_steps * y->n_channels;
    uint32_t left = op->as.attention.left, right = op->as.attention.right;
    if (op->code == A8_OP_LINEAR_S8)
        return n * x->n_channels;
    if (op->code == A8_OP_CONV1D_S8)
        return n * op->as.product.kernel * x->n_channels;
    if (op->code == A8_OP_WINDOWED_ATTENTION_S8)
        return 2u * y->n_channels * (y->n_steps * (left + right + 1) - left * (left + 1) / 2 - right * (right + 1) / 2);
    return 0;
}

/* Rows of Model.ops, with the number of an op in place of its name. */
static mp_obj_t model_ops(mp_obj_t self_in)
{
    const a8_model_t *m = model_of(self_in)->m;
    mp_obj_t list = mp_obj_new_list(0, NULL);
    for (uint32_t i = 0; i < m->n_ops; i++) {
        const a8_op_t *op = &m->ops[i];
        mp_obj_t row[5] = {MP_OBJ_NEW_SMALL_INT(i + 1), MP_OBJ_NEW_SMALL_INT(op->code - A8_FIRST_OP),
                           shape_of(a8_tensor(m, op->source[0])), shape_of(&op->output),
                           mp_obj_new_int_from_uint(macs_of(m, op))};
        mp_obj_list_append(list, mp_obj_new_tuple(5, row));
    }
    return list;
}
static MP_DEFINE_CONST_FUN_OBJ_1(model_ops_obj, model_ops);

static void set_numbers(model_t *self)
{
    const a8_model_t *m = self->m;
    uint32_t macs = 0;
    for (uint32_t i = 0; i < m->n_ops; i++)
        macs += macs_of(m, &m->ops[i]);
    self->attributes[N_STEPS] = MP_OBJ_NEW_SMALL_INT(m->n_steps);
    self->attributes[N_CHANNELS] = MP_OBJ_NEW_SMALL_INT(m->n_channels);
    self->attributes[N_OUTPUTS] = MP_OBJ_NEW_SMALL_INT(m->n_outputs);
    self->attributes[N_GOLDEN] = MP_OBJ_NEW_SMALL_INT(m->n_golden);
    self->attributes[MACS] = mp_obj_new_int_from_uint(macs);
    self->attributes[MODEL_BYTES] = mp_obj_new_int_from_uint(m->file_bytes);
    self->attributes[ARENA_BYTES] = mp_obj_new_int_from_uint(m->arena_bytes);
}

/* Load. */

/* Returns array('b') of n values. */
static mp_obj_t new_output(const void *bytes, uint32_t n)
{
    mp_obj_t array = mp_import_name(MP_QSTR_array, mp_const_none, MP_OBJ_NEW_SMALL_INT(0));
    mp_obj_t args[2] = {mp_obj_new_str("b", 1), mp_obj_new_bytes(bytes, n)};
    return mp_call_function_n_kw(mp_load_attr(array, MP_QSTR_array), 2, 0, args);
}

static mp_obj_t model_make_new(const mp_obj_type_t *type, size_t n_args, size_t n_kw, const mp_obj_t *args)
{
    mp_arg_check_num(n_args, n_kw, 2, 2, false);
    mp_buffer_info_t file;
    mp_get_buffer_raise(args[0], &file, MP_BUFFER_READ);
    int32_t n = a8_model_bytes(file.buf, file.len);
    if (n < 0)
        raise_fault(args[1], mp_const_none, n, mp_const_none, MP_QSTR_Model);
    model_t *self = mp_obj_malloc(model_t, type);
    self->file = args[0];
    self->fault = args[1];
    self->window = MP_OBJ_NULL;
    self->m = m_malloc((size_t)n);
    int32_t err = a8_load(self->m, (uint32_t)n, file.buf, file.len);
    if (err != A8_OK)
        raise_fault(args[1], mp_const_none, err, MP_OBJ_NEW_SMALL_INT(self->m->ops[0].code - A8_FIRST_OP), MP_QSTR_Model);
    self->arena = m_malloc(self->m->arena_bytes);
    memset(self->arena, 0, self->m->n_outputs); /* the arena holds the last tensor, so it is large enough */
    self->attributes[OUTPUT] = new_output(self->arena, self->m->n_outputs);
    const uint8_t *end = (const uint8_t *)file.buf + file.len;
    read_names(self, file.buf, end);
    read_channels(self, file.buf, end);
    read_task(self, file.buf, end);
    set_numbers(self);
    return MP_OBJ_FROM_PTR(self);
}

/* Returns 0 if the buffer holds a valid model, else the code of its first fault. */
static mp_obj_t attn8_check_model(mp_obj_t data)
{
    mp_buffer_info_t file;
    mp_get_buffer_raise(data, &file, MP_BUFFER_READ);
    int32_t err = a8_model_bytes(file.buf, file.len);
    if (err > 0) {
        uint32_t n = (uint32_t)err;
        uint8_t *m = m_malloc(n);
        err = a8_check_model((a8_model_t *)(void *)m, n, file.buf, file.len);
        m_del(uint8_t, m, n);
    }
    return MP_OBJ_NEW_SMALL_INT(-err);
}
static MP_DEFINE_CONST_FUN_OBJ_1(attn8_check_model_obj, attn8_check_model);

/* Run. */

/* Returns the bytes of the file, which must lie where they lay at load. */
static const uint8_t *file_of(model_t *self)
{
    mp_buffer_info_t file;
    mp_get_buffer_raise(self->file, &file, MP_BUFFER_READ);
    if (file.buf != self->m->file || file.len != self->m->file_bytes)
        raise_model_fault(self, A8_ERR_MOVED, mp_obj_new_int_from_uint(file.len));
    return file.buf;
}

/* What golden.py and detector.py ask for, made when they do. */

static mp_obj_t golden_of(model_t *self)
{
    const a8_model_t *m = self->m;
    self->method = MP_QSTR_run;
    return mp_obj_new_bytes(file_of(self) + m->golden, 4u * m->n_channels + (8u + m->n_outputs) * m->n_golden);
}

static mp_obj_t softmax_of(const a8_softmax_t *p)
{
    mp_obj_t items[4] = {MP_OBJ_NEW_SMALL_INT(p->dmax), MP_OBJ_NEW_SMALL_INT(p->dm), MP_OBJ_NEW_SMALL_INT(p->dpre),
                         MP_OBJ_NEW_SMALL_INT(p->dsh)};
    return mp_obj_new_tuple(4, items);
}

static void model_attr(mp_obj_t self_in, qstr name, mp_obj_t *dest)
{
    if (dest[0] != MP_OBJ_NULL)
        return; /* attributes are read only */
    model_t *self = MP_OBJ_TO_PTR(self_in);
#define LOAD_ATTRIBUTE(id, q) \
    if (name == (q)) { \
        dest[0] = self->attributes[id]; \
        return; \
    }
    ATTRIBUTES(LOAD_ATTRIBUTE)
    if (name == MP_QSTR__golden)
        dest[0] = golden_of(self);
    else if (name == MP_QSTR__softmax)
        dest[0] = softmax_of(&self->m->score);
    else
        dest[1] = MP_OBJ_SENTINEL; /* a method, perhaps */
}

/* Begins what uses the arena: steps that were left are spoilt. Returns the bytes of the file. */
static const uint8_t *enter(model_t *self, qstr method)
{
    check_idle(self);
    self->method = (uint16_t)method;
    self->window = MP_OBJ_NULL;
    return file_of(self);
}

/* Returns n_outputs bytes of a buffer, to read or, with MP_BUFFER_WRITE, to write. */
static int8_t *outputs_of(model_t *self, mp_obj_t outputs, mp_uint_t flags)
{
    mp_buffer_info_t b;
    mp_get_buffer_raise(outputs, &b, MP_BUFFER_READ);
    if (b.len != self->m->n_outputs)
        raise_model_fault(self, A8_ERR_OUTPUT, mp_obj_new_int_from_uint(b.len));
    mp_get_buffer_raise(outputs, &b, flags);
    return b.buf;
}

static int8_t *own_output(model_t *self) { return outputs_of(self, self->attributes[OUTPUT], MP_BUFFER_WRITE); }

static int is_byte(int typecode)
{
    return typecode == BYTEARRAY_TYPECODE || typecode == 'B' || typecode == 'b' || typecode == 'c';
}

/* Fetches int16 counts or their bytes, for an int8 model bytes. What does not fit is told as its number of values, its
 * typecode, or the type of what is no buffer. */
static void get_samples(model_t *self, mp_obj_t samples, mp_buffer_info_t *b)
{
    if (!mp_get_buffer(samples, b, MP_BUFFER_READ))
        raise_model_fault(self, A8_ERR_INPUT, MP_OBJ_FROM_PTR(mp_obj_get_type(samples)));
    if (!is_byte(b->typecode) && (b->typecode != 'h' || self->m->input_type != A8_INPUT_INT16)) {
        char typecode = (char)b->typecode;
        raise_model_fault(self, A8_ERR_INPUT, mp_obj_new_str(&typecode, 1));
    }
}

static void raise_length(model_t *self, const mp_buffer_info_t *samples)
{
    raise_model_fault(self, A8_ERR_INPUT, mp_obj_new_int_from_uint(samples->typecode == 'h' ? samples->len / 2 : samples->len));
}

static const void *window_of(model_t *self, mp_obj_t window)
{
    mp_buffer_info_t b;
    get_samples(self, window, &b);
    if (b.len != a8_input_bytes(self->m))
        raise_length(self, &b);
    return b.buf;
}

/* Returns what the core returned, unless that is an error. */
static int32_t checked(model_t *self, int32_t result)
{
    if (result == A8_ERR_BUSY)
        check_idle(self); /* another thread was faster */
    if (result < 0)
        raise_model_fault(self, result, self->file);
    return result;
}

static void run(model_t *self, mp_obj_t window_in, mp_obj_t out)
{
    const uint8_t *file = enter(self, MP_QSTR_run);
    int8_t *output = outputs_of(self, out, MP_BUFFER_WRITE);
    const void *window = window_of(self, window_in);
    a8_model_t *m = self->m;
    checked(self, a8_run(m, file, m->file_bytes, self->arena, m->arena_bytes, window, a8_input_bytes(m), output, m->n_outputs));
}

static mp_obj_t model_run(size_t n_args, const mp_obj_t *args, mp_map_t *named)
{
    model_t *self = model_of(args[0]);
    mp_arg_t allowed[2] = {{MP_QSTR_window, MP_ARG_OBJ | MP_ARG_REQUIRED, {.u_obj = mp_const_none}},
                           {MP_QSTR_out, MP_ARG_OBJ, {.u_obj = mp_const_none}}};
    mp_arg_val_t given[2];
    mp_arg_parse_all(n_args - 1, args + 1, named, 2, allowed, given);
    mp_obj_t out = given[1].u_obj == mp_const_none ? self->attributes[OUTPUT] : given[1].u_obj;
    run(self, given[0].u_obj, out);
    return out;
}
static MP_DEFINE_CONST_FUN_OBJ_KW(model_run_obj, 1, model_run);

static mp_obj_t model_decide(mp_obj_t self_in, mp_obj_t outputs)
{
    model_t *self = model_of(self_in);
    self->method = MP_QSTR_decide;
    uint32_t best;
    int32_t score = a8_score(self->m, outputs_of(self, outputs, MP_BUFFER_READ), &best);
    mp_obj_t items[2] = {mp_const_none, MP_OBJ_NEW_SMALL_INT(score)};
    if (score >= file_of(self)[self->m->thresholds + best])
        items[0] = items_of(self->attributes[LABELS])[best];
    return mp_obj_new_tuple(2, items);
}
static MP_DEFINE_CONST_FUN_OBJ_2(model_decide_obj, model_decide);

static mp_obj_t model_predict(size_t n_args, const mp_obj_t *args)
{
    model_t *self = model_of(args[0]);
    mp_obj_t output = self->attributes[OUTPUT];
    if (n_args > 1 && args[1] != mp_const_none)
        run(self, args[1], output);
    return model_decide(args[0], output);
}
static MP_DEFINE_CONST_FUN_OBJ_VAR_BETWEEN(model_predict_obj, 1, 2, model_predict);

/* Steps: one op a call. An int8 model reads the window in place, so it must stay what it is. A run in an interrupt takes
 * window away, unless the model is busy. */

static mp_obj_t model_start(mp_obj_t self_in, mp_obj_t window)
{
    model_t *self = model_of(self_in);
    const uint8_t *file = enter(self, MP_QSTR_run);
    self->input = window_of(self, window);
    self->m->busy = 1;
    self->window = window;
    self->next_op = 0;
    a8_run_input(self->m, file, self->arena, self->input, self->m->n_steps);
    self->m->busy = 0;
    return mp_const_none;
}
static MP_DEFINE_CONST_FUN_OBJ_2(model_start_obj, model_start);

static mp_obj_t model_step(mp_obj_t self_in)
{
    model_t *self = model_of(self_in);
    a8_model_t *m = self->m;
    check_idle(self);
    self->method = MP_QSTR_run;
    const uint8_t *file = file_of(self);
    int8_t *output = own_output(self);
    if (self->window != MP_OBJ_NULL && window_of(self, self->window) != self->input)
        raise_model_fault(self, A8_ERR_INPUT, mp_const_none);
    m->busy = 1;
    if (self->window == MP_OBJ_NULL) {
        m->busy = 0;
        mp_raise_msg(&mp_type_RuntimeError,
                     MP_ERROR_TEXT("no run to go on with: none was started, or another came between; call start again"));
    }
    a8_run_op(m, file, self->arena, self->input, self->next_op);
    if (++self->next_op == m->n_ops) {
        memcpy(output, a8_tensor_data(m, self->arena, self->input, m->n_ops), m->n_outputs);
        self->window = MP_OBJ_NULL;
    }
    m->busy = 0;
    return self->window == MP_OBJ_NULL ? mp_const_false : mp_const_true;
}
static MP_DEFINE_CONST_FUN_OBJ_1(model_step_obj, model_step);

/* Streams: stream.py holds the state. */

#ifdef A8_WITHOUT_STREAM
static mp_obj_t model_stream_state(mp_obj_t self_in, mp_obj_t hop, mp_obj_t packed)
{
    model_t *self = model_of(self_in);
    (void)hop;
    (void)packed;
    self->method = MP_QSTR_stream;
    return MP_OBJ_NEW_SMALL_INT(checked(self, a8_stream_bytes(self->m)));
}
static MP_DEFINE_CONST_FUN_OBJ_3(model_stream_state_obj, model_stream_state);
#else
static int32_t reset(model_t *self, void *state, uint32_t n, uint32_t hop)
{
    return checked(self, a8_stream_reset(self->m, state, n, hop));
}

/* _stream_state(hop, packed) */
static mp_obj_t model_stream_state(mp_obj_t self_in, mp_obj_t hop, mp_obj_t packed)
{
    model_t *self = model_of(self_in);
    self->method = MP_QSTR_stream;
    uint32_t n = (uint32_t)checked(self, a8_stream_bytes(self->m));
    if (mp_obj_is_true(packed))
        n += a8_stream_packed_bytes(self->m);
    void *state = m_malloc(n);
    reset(self, state, n, (uint32_t)mp_obj_get_int(hop));
    return mp_obj_new_bytearray_by_ref(n, state);
}
static MP_DEFINE_CONST_FUN_OBJ_3(model_stream_state_obj, model_stream_state);

/* The hop is the first field of a state. */
static mp_obj_t model_stream_reset(mp_obj_t self_in, mp_obj_t state_in)
{
    model_t *self = model_of(self_in);
    mp_buffer_info_t state;
    check_idle(self); /* perhaps with this very state */
    mp_get_buffer_raise(state_in, &state, MP_BUFFER_WRITE);
    reset(self, state.buf, state.len, state.len < 4 ? 0 : a8_u32(state.buf));
    return mp_const_none;
}
static MP_DEFINE_CONST_FUN_OBJ_2(model_stream_reset_obj, model_stream_reset);

/* _push(state, samples, out): returns how many outputs were due; the last is in out. */
static mp_obj_t model_push(size_t n_args, const mp_obj_t *args)
{
    model_t *self = model_of(args[0]);
    a8_model_t *m = self->m;
    const uint8_t *file = enter(self, MP_QSTR_push);
    int8_t *output = outputs_of(self, args[3], MP_BUFFER_WRITE);
    mp_buffer_info_t state, samples;
    mp_get_buffer_raise(args[1], &state, MP_BUFFER_WRITE);
    get_samples(self, args[2], &samples);
    int32_t n = a8_stream_push(m, file, m->file_bytes, self->arena, m->arena_bytes, state.buf, state.len, samples.buf,
                               samples.len, output, m->n_outputs);
    if (n == A8_ERR_INPUT)
        raise_length(self, &samples);
    return MP_OBJ_NEW_SMALL_INT(checked(self, n));
}
static MP_DEFINE_CONST_FUN_OBJ_VAR_BETWEEN(model_push_obj, 4, 4, model_push);
#endif

/* The module, twice. */

#ifdef MICROPY_ENABLE_DYNRUNTIME
#define COUNT(name, object) +1
mp_map_elem_t model_table[0 METHODS(COUNT)];
static MP_DEFINE_CONST_DICT(model_locals, model_table);

mp_obj_t mpy_init(mp_obj_fun_bc_t *self, size_t n_args, size_t n_kw, mp_obj_t *args)
{
    MP_DYNRUNTIME_INIT_ENTRY
    mp_map_elem_t *entry = model_table;
#define FILL(name, object) *entry++ = (mp_map_elem_t){MP_OBJ_NEW_QSTR(name), MP_OBJ_FROM_PTR(&object)};
    METHODS(FILL)
    model_type.base.type = (void *)&mp_type_type;
    model_type.flags = MP_TYPE_FLAG_NONE;
    model_type.name = MP_QSTR_Model;
    MP_OBJ_TYPE_SET_SLOT(&model_type, make_new, model_make_new, 0);
    MP_OBJ_TYPE_SET_SLOT(&model_type, attr, model_attr, 1);
    MP_OBJ_TYPE_SET_SLOT(&model_type, locals_dict, (void *)&model_locals, 2);
    mp_store_global(MP_QSTR_Model, MP_OBJ_FROM_PTR(&model_type));
    mp_store_global(MP_QSTR_arch, mp_obj_new_str(KERNELS, sizeof(KERNELS) - 1));
#define STORE(name, object) mp_store_global(name, MP_OBJ_FROM_PTR(&object));
    FUNCTIONS(STORE)
    MP_DYNRUNTIME_INIT_EXIT
}
#else
#define ROM(name, object) {MP_ROM_QSTR(name), MP_ROM_PTR(&object)},
static const mp_rom_map_elem_t model_table[] = {METHODS(ROM)};
static MP_DEFINE_CONST_DICT(model_locals, model_table);
MP_DEFINE_CONST_OBJ_TYPE(model_type, MP_QSTR_Model, MP_TYPE_FLAG_NONE, make_new, model_make_new, attr, model_attr,
                         locals_dict, &model_locals);

static const MP_DEFINE_STR_OBJ(arch_obj, ARCH);
static const mp_rom_map_elem_t attn8_table[] = {
    {MP_ROM_QSTR(MP_QSTR___name__), MP_ROM_QSTR(MP_QSTR__attn8)},
    {MP_ROM_QSTR(MP_QSTR_Model), MP_ROM_PTR(&model_type)},
    {MP_ROM_QSTR(MP_QSTR_arch), MP_ROM_PTR(&arch_obj)},
    FUNCTIONS(ROM)
};
static MP_DEFINE_CONST_DICT(attn8_globals, attn8_table);
const mp_obj_module_t attn8_native_module = {.base = {&mp_type_module}, .globals = (mp_obj_dict_t *)&attn8_globals};
MP_REGISTER_MODULE(MP_QSTR__attn8, attn8_native_module);
#endif
