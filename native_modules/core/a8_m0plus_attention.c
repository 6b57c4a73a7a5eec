/* Windowed attention on a Cortex-M0+. The keys and values of a head are packed, a tile of them at a time, for all the
 * queries that see them; a8_m0plus_attend.S does the rest, a query at a time.
 */
#include "a8_kernels.h"

#if defined(A8_TARGET_M0PLUS) && !defined(A8_WITHOUT_ATTENTION)
#include "a8_bytes.h"

/* One query and one head; a8_m0plus_attend.S has the offsets. It moves query, values and n_channels. */
typedef struct {
    const int8_t *query;   /* in words of four channels */
    const int8_t *keys;    /* packed, those of the first key */
    uint32_t key_row;      /* bytes from the packed channels of all keys to the next ones */
    uint32_t words;        /* of the query */
    const void *bias;
    int32_t *scores; /* room for n_keys rounded up to 4 */
    uint32_t n_keys;
    uint32_t dm;
    uint32_t half; /* of 1 << dsh */
    uint32_t dsh;
    uint32_t limit; /* from this difference on, */
    uint32_t last;  /* this is the weight */
    uint32_t dpre;
    const uint8_t *exp;
    uint32_t multiplier;
    uint32_t shift;
    const int8_t *values;   /* packed, those of the first key */
    uint32_t value_group;   /* bytes from four channels of all values to the next four */
    int8_t *output;
    uint32_t n_channels; /* of the head */
    uint32_t stride;     /* 0: packed; else keys and values are rows of bytes, so far apart, */
    uint32_t n_old;      /* the first n_old of them at keys and values, */
    const int8_t *newer_keys; /* the others here */
    uint32_t to_newer;        /* from values to those of the others */
} attend_t;

void a8_m0plus_attend(attend_t *a);

#define NOINLINE __attribute__((noinline))

/* One comparison of a difference stands for both limits, of the difference and of the index: the largest d with
 * d*dm >> (dsh - 1) <= 2*A8_EXP_LAST - 2, that is with a smaller index. */
static A8_KERNEL void set_softmax(attend_t *a, const a8_softmax_t *s)
{
    uint32_t end = (uint32_t)s->dmax >> s->dpre, shift = s->dsh < 23 ? s->dsh - 1u : 22;
    uint32_t limit = (((2u * A8_EXP_LAST - 1) << shift) - 1) / s->dm;
    a->limit = limit < end ? (limit + 1) << s->dpre : (uint32_t)s->dmax;
    a->last = (uint32_t)a8_softmax_exp(s, a->limit);
    a->dm = s->dm;
    a->dsh = s->dsh;
    a->dpre = s->dpre;
    a->half = (uint32_t)1 << s->dsh >> 1;
    a->exp = a8_exp_table();
}

/* Four channels of n keys or values; a8_m0plus_attend.S has the offsets. */
typedef struct {
    uint32_t stride; /* bytes from one to the next, */
    uint32_t step;   /* and packed */
    uint32_t second; /* bytes from channels 0 and 2 to channels 1 and 3 */
    uint32_t n;
    uint32_t added; /* to x + 128 in both halves of a word */
} pack_t;

/* Of the four channels the first n_channels exist, at any address; the others are 0. */
void a8_m0plus_pack_column(const pack_t *p, const int8_t *x, uint32_t *to, uint32_t n_channels);

/* What a call keeps, in the op's scratch: the stack is small. Behind it lies one query, where it has no words of its
 * own. */
typedef struct {
    attend_t attend;
    const int8_t *k; /* of the head */
    const int8_t *v;
    uint32_t head_size;
    uint32_t *keys;  /* the tile */
    uint32_t *values;
    uint32_t tile;   /* keys that fit into it; 0: there is none */
    uint32_t first;  /* key in it */
    uint32_t packed; /* keys before this one are, or were, in it */
} work_t;

/* The planner counts on it. */
typedef char work_fits_t[sizeof(void *) != 4 || sizeof(work_t) + 4 == A8_ATTENTION_WORK_BYTES ? 1 : -1];

static A8_KERNEL work_t *new_work(void *scratch, const a8_attention_fields_t *f, uint32_t head_size, uint32_t tile)
{
    work_t *w = scratch;
    uint32_t words = a8_padded(head_size) / 4;
    set_softmax(&w->attend, &f->softmax);
    w->attend.multiplier = f->multiplier;
    w->attend.shift = f->shift;
    w->tile = tile;
    w->head_size = head_size;
    w->keys = (uint32_t *)(w + 1) + words + 1;
    w->values = w->keys + 2 * tile * words;
    w->attend.words = words;
    w->attend.scores = (int32_t *)(w->values + 2 * tile * words);
    w->attend.key_row = tile > 0 ? 4 * tile : 2;
    w->attend.value_group = tile > 0 ? 8 * tile : 4;
    return w;
}

/* Keys and values as they are, rows of bytes at multiples of 4; the first n_old begin at byte `oldest`, the others at 0. */
static A8_KERNEL void use_rows(work_t *w, uint32_t oldest, uint32_t n_old, uint32_t stride)
{
    attend_t *a = &w->attend;
    a->stride = stride;
    a->n_old = n_old;
    a->to_newer = 0u - oldest;
    a->newer_keys = w->k;
    a->keys = w->k + oldest;
    a->values = w->v + oldest;
}

/* Rows of bytes at no multiple of 4 are read from the word in which they begin: there the query gets zeros, and the first
 * outputs are not ours. Returns how many. */
static A8_KERNEL NOINLINE uint32_t align(work_t *w, uint32_t n_keys)
{
    attend_t *a = &w->attend;
    int8_t *query = (int8_t *)(w + 1);
    uint32_t before_k = (uintptr_t)a->keys & 3, before_v = (uintptr_t)a->values & 3;
    a->keys -= before_k;
    a->newer_keys -= before_k;
    a->values -= before_v;
    a->n_channels += before_v;
    if (before_v > 0)
        a->output = query;
    a->words = a8_padded(before_k + w->head_size) / 4;
    memset(query, 0, 4 * a->words);
    memcpy(query + before_k, a->query, w->head_size);
    a->query = query;
    memcpy(a->scores, a->bias, 4 * n_keys);
    a->bias = a->scores;
    return before_v;
}

static A8_KERNEL inline void attend(work_t *w, const int8_t *q, const uint8_t *bias, int8_t *y, uint32_t n_keys)
{
    attend_t *a = &w->attend;
    uint32_t before = 0;
    a->n_keys = n_keys;
    a->n_channels = w->head_size;
    a->output = y;
    a->query = q;
    a->bias = bias;
    if ((((uintptr_t)q | (uintptr_t)bias | (uintptr_t)a->keys | (uintptr_t)a->values | w->head_size) & 3) != 0)
        before = align(w, n_keys);
    a8_m0plus_attend(a);
    if (before > 0)
        memcpy(y, (int8_t *)(w + 1) + before, w->head_size);
}

/* Keys: channels 0 and 2 of all of them, then 1 and 3, 4 and 6, ... Values: 0 and 2, 1 and 3 of each, then the next four. */
static A8_KERNEL NOINLINE void pack_tile(work_t *w, uint32_t at, const int8_t *x, const int8_t *v, uint32_t stride,
                                         uint32_t n)
{
    pack_t p = {stride, 4, 4 * w->tile, n, 0u - 0x00800080u};
    uint32_t *to = w->keys + at;
    for (;;) {
        for (uint32_t c = 0; c < w->head_size; c += 4, to += 2 * w->tile)
            a8_m0plus_pack_column(&p, x + c, to, w->head_size - c);
        if (p.added == 0)
            return;
        p.step = 8;
        p.second = 4;
        p.added = 0;
        x = v;
        to = w->values + 2 * at;
    }
}

/* All of a tile. */
static A8_KERNEL void use_tile(work_t *w, uint32_t at)
{
    w->attend.stride = 0;
    w->attend.keys = (const int8_t *)(w->keys + at);
    w->attend.values = (const int8_t *)(w->values + 2 * at);
}

#ifdef A8_TARGET_PACKS
/* Keys and values of all places lie as in a tile; behind the values come for each head its biases, twice: those of the
 * places in their order begin somewhere in it. */
void a8_pack_key_s8(const a8_attention_step_t *op, const int8_t *k, const int8_t *v, int8_t *keys)
{
    uint32_t span = op->span, *values = op->packed, *bias = values + span * op->n_channels / 2;
    pack_t p = {4, 8 * span, 4 * span, op->n_channels / 4, 0u - 0x00800080u};
    a8_m0plus_pack_column(&p, k, (uint32_t *)(void *)keys + op->newest, 4);
    p.second = 4;
    p.added = 0;
    a8_m0plus_pack_column(&p, v, values + 2 * op->newest, 4);
    for (uint32_t h = 0; op->n_keys == 1 && h < 2u * op->fields->heads; h++)
        memcpy(bias + h * span, op->relative_bias + h / 2 * 4 * span, 4 * span);
}
#endif

void a8_attention_step_s8(const a8_attention_step_t *op, const int8_t *q, const int8_t *k, const int8_t *v, int8_t *y)
{
    uint32_t d = op->n_channels, head_size = d / op->fields->heads, span = op->span;
    work_t *w = new_work(op->scratch, op->fields, head_size, head_size % 4 != 0 ? span : 0);
    uint32_t oldest = (op->newest < op->n_keys - 1 ? span : 0) + op->newest + 1 - op->n_keys;
    uint32_t n_old = op->newest < oldest ? span - oldest : op->n_keys, first = op->n_keys < span, stride = d;
    const uint8_t *bias = op->relative_bias + 4 * (span - op->n_keys);
    uint32_t bias_bytes = 4 * span, head_bytes = head_size;
#ifdef A8_TARGET_PACKS
    const uint32_t *packed = op->packed;
#else
    const uint32_t *packed = NULL;
#endif
    if (packed != NULL) {
        v = (const int8_t *)packed + 8 * first;
        k += 4 * first;
        bias = (const uint8_t *)(packed + span * d / 2 + span - 1 - op->newest + first);
        bias_bytes = 8 * span;
        head_bytes = 2 * span * head_size;
        oldest = n_old = stride = 0;
        w->attend.key_row = 4 * span;
        w->attend.value_group = 8 * span;
    }
    oldest *= stride;
    w->k = k;
    w->v = v;
    for (uint32_t c = 0; c < d; c += head_size, w->k += head_bytes, w->v += head_bytes, bias += bias_bytes) {
        use_rows(w, oldest, n_old, stride);
        if (w->tile > 0) {
            pack_tile(w, 0, w->attend.keys, w->attend.values, stride, n_old);
            pack_tile(w, n_old, w->k, w->v, stride, op->n_keys - n_old);
            use_tile(w, 0);
        }
        attend(w, q + c, bias, y + c, op->n_keys);
    }
}

static A8_KERNEL NOINLINE void attend_head(const a8_attention_t *op, work_t *w, const int8_t *q, int8_t *y,
                                           const uint8_t *bias)
{
    const a8_attention_fields_t *f = op->fields;
    uint32_t d = op->n_channels;
    for (uint32_t i = 0; i < op->n_steps; i++, q += d, y += d) {
        uint32_t first = i > f->left ? i - f->left : 0;
        uint32_t n_keys = (op->n_steps - i > f->right ? i + f->right + 1 : op->n_steps) - first;
        if (first + n_keys > w->packed && w->tile > 0) {
            uint32_t n = op->n_steps - first < w->tile ? op->n_steps - first : w->tile;
            pack_tile(w, 0, w->k + first * d, w->v + first * d, d, n);
            w->first = first;
            w->packed = first + n;
        }
        if (w->tile > 0)
            use_tile(w, first - w->first);
        else
            use_rows(w, first * d, n_keys, d);
        attend(w, q, bias + 4 * (first + f->left - i), y, n_keys);
    }
}

void a8_windowed_attention_s8(const a8_attention_t *op, const int8_t *q, const int8_t *k, const int8_t *v, int8_t *y)
{
    const a8_attention_fields_t *f = op->fields;
    uint32_t head_size = op->n_channels / f->heads, span = (uint32_t)f->left + f->right + 1;
    uint32_t tile = a8_attention_tile(op->n_steps, span < op->n_steps ? span : op->n_steps, head_size);
    work_t *w = new_work(op->scratch, f, head_size, tile);
    for (uint32_t c = 0, h = 0; h < f->heads; h++, c += head_size) {
        w->k = k + c;
        w->v = v + c;
        w->packed = 0;
        attend_head(op, w, q + c, y + c, op->relative_bias + h * 4 * span);
    }
}
#endif
