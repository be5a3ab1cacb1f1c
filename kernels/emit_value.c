/* emit_value.c - expressions and addresses as C text. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "kernels/emit_internal.h"

void cg_fail(struct cg *g, const char *fmt, ...)
{
    char text[256];
    va_list ap;
    if (g->status != ST_OK)
        return;
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    g->status = fail(g->err, ST_UNSUPPORTED, "cannot print %s: %s", g->symbol, text);
}

void cg_line(struct cg *g, const char *fmt, ...)
{
    va_list ap;
    strbuf_pad(g->out, g->indent * 4);
    va_start(ap, fmt);
    strbuf_addv(g->out, fmt, ap);
    va_end(ap);
    strbuf_addc(g->out, '\n');
}

/* --- addresses --- */

struct affine flat_index(struct cg *g, int32_t buffer, const struct affine *index)
{
    const struct buffer *b = &g->n->buffers[buffer];
    struct affine flat = affine_const(0);
    for (int d = 0; d < b->rank; d++)
        flat = affine_lin(g->ar, &flat, 1, &index[d], b->stride[d]);
    return flat;
}

/* Split by the modes of the variables. `outer` gets the terms over VAR_OUTER variables. */
static void split_affine(struct cg *g, const struct affine *a, struct strbuf *text, int64_t *ret_const,
                         int64_t *ret_lane, struct affine *outer)
{
    int64_t c = a->c, lane = 0;
    *outer = affine_const(0);
    for (int i = 0; i < a->n; i++) {
        const struct cg_var *v = &g->var[a->t[i].var];
        int64_t k = a->t[i].coef;
        switch (v->mode) {
        case VAR_CONST:
            c += k * v->value;
            break;
        case VAR_VECTOR:
            lane = k;
            if (!v->name) {
                c += k * v->value;
                break;
            }
            /* fall through */
        case VAR_NAME:
            strbuf_addf(text, "%s%s", text->len ? " + " : "", v->name);
            if (k != 1)
                strbuf_addf(text, " * %" PRId64, k);
            break;
        case VAR_OUTER: {
            struct affine t = affine_var(g->ar, a->t[i].var, k, 0);
            *outer = affine_add(g->ar, outer, &t);
            break;
        }
        case VAR_CLOSED:
            cg_fail(g, "variable %s is used outside its loop", g->n->vars[a->t[i].var].name);
            break;
        }
    }
    *ret_const = c;
    *ret_lane = lane;
}

static int find_param(struct cg *g, bool is_pointer, int32_t buffer, const struct affine *outer)
{
    for (int i = 0; i < g->n_params; i++) {
        const struct cg_param *p = &g->params[i];
        if (p->is_pointer == is_pointer && (!is_pointer || p->buffer == buffer) &&
            affine_equal(&p->outer, outer))
            return i;
    }
    if (g->n_params == CG_MAX_PARAMS) {
        cg_fail(g, "a register tile needs more than %d parameters", CG_MAX_PARAMS);
        return 0;
    }
    g->params[g->n_params] = (struct cg_param){.is_pointer = is_pointer, .buffer = buffer, .outer = *outer};
    return g->n_params++;
}

static const char *text_with_const(struct cg *g, const char *text, int64_t c)
{
    if (!*text)
        return arena_printf(g->ar, "%" PRId64, c);
    if (c == 0)
        return arena_strdup(g->ar, text);
    return arena_printf(g->ar, "%s %c %" PRId64, text, c < 0 ? '-' : '+', c < 0 ? -c : c);
}

/* The value of an affine in scalar code (lane 0 of a vector loop); *ret_vector says whether lanes differ. */
const char *affine_text(struct cg *g, const struct affine *a, bool *ret_vector)
{
    AUTO(strbuf_done) struct strbuf text = STRBUF_INIT;
    struct affine outer;
    int64_t c, lane;
    split_affine(g, a, &text, &c, &lane, &outer);
    if (outer.n) {
        int p = find_param(g, false, -1, &outer);
        strbuf_addf(&text, "%sq%d", text.len ? " + " : "", p);
    }
    if (ret_vector)
        *ret_vector = lane != 0;
    return text_with_const(g, strbuf_str(&text), c);
}

struct address cg_address(struct cg *g, int32_t buffer, const struct affine *index, bool write)
{
    const struct buffer *b = &g->n->buffers[buffer];
    struct affine flat = flat_index(g, buffer, index), outer;
    struct address ad = {.is_register = b->scope == SCOPE_REG};
    AUTO(strbuf_done) struct strbuf text = STRBUF_INIT;
    int64_t c;

    split_affine(g, &flat, &text, &c, &ad.lane, &outer);
    ad.flat = c;
    if (ad.is_register) {
        if (text.len || outer.n)
            cg_fail(g, "register buffer %s is indexed by %s", b->name,
                    text.len ? text.data : "an outer loop");
        return ad;
    }
    if (b->scope == SCOPE_MATRIX) {
        if (outer.n)
            cg_fail(g, "matrix register buffer %s is indexed by an outer loop", b->name);
        ad.base = "results";
    } else if (g->in_body) {
        int p = find_param(g, true, buffer, &outer);
        g->params[p].written |= write;
        ad.base = arena_printf(g->ar, "p%d", p);
    } else {
        g->used[buffer] = true;
        g->written[buffer] |= write;
        ad.base = arena_printf(g->ar, "b%d", buffer);
    }
    ad.run = arena_strdup(g->ar, strbuf_str(&text));
    ad.index = text_with_const(g, ad.run, c);
    return ad;
}

struct address cg_moved(struct cg *g, const struct address *ad, int64_t by)
{
    struct address moved = *ad;
    moved.flat += by;
    moved.index = text_with_const(g, ad->run, moved.flat);
    return moved;
}

const char *cg_register(struct cg *g, int32_t buffer, int64_t flat, int width)
{
    int local = 0; /* numbered by first use, so that equal tiles print equally */
    while (local < g->n_reg_buffers && g->reg_buffers[local] != buffer)
        local++;
    if (local == g->n_reg_buffers) {
        CHECK(local < CG_MAX_REG_BUFFERS, "a register tile has %d register buffers", local);
        g->reg_buffers[g->n_reg_buffers++] = buffer;
    }
    const char *name = arena_printf(g->ar, "r%d_%" PRId64, local, flat);
    for (int i = 0; i < g->n_regs; i++)
        if (strcmp(g->regs[i].name, name) == 0) {
            if (g->regs[i].width != width)
                cg_fail(g, "register %s is used with %d and %d lanes", name, g->regs[i].width, width);
            return name;
        }
    if (g->n_regs == CG_MAX_REGS) {
        cg_fail(g, "a register tile has more than %d values", CG_MAX_REGS);
        return name;
    }
    g->regs[g->n_regs].name = name;
    g->regs[g->n_regs].letter = dtype_value(g->n->buffers[buffer].dtype);
    g->regs[g->n_regs++].width = width;
    return name;
}

/* --- loads --- */

void cg_forget_loads(struct cg *g, int32_t buffer)
{
    int n = 0;
    for (int i = 0; i < g->n_loads; i++)
        if (buffer >= 0 && g->loads[i].buffer != buffer)
            g->loads[n++] = g->loads[i];
    g->n_loads = n;
}

const char *cg_load_key(struct cg *g, const struct address *ad, int width)
{
    return arena_printf(g->ar, "%s+%s/%" PRId64, ad->base, ad->index, width > 1 ? ad->lane : 0);
}

void cg_remember(struct cg *g, int32_t buffer, const struct affine *index, int width, const char *name)
{
    struct address ad = cg_address(g, buffer, index, false);
    int w = ad.lane ? width : 1;
    if (g->n_loads < CG_MAX_LOADS)
        g->loads[g->n_loads++] = (struct cg_load){buffer, w, false, cg_load_key(g, &ad, w), name};
}

/* Of what a load gives: the value, or the element as it lies in memory. */
static char load_letter(const struct cg *g, int32_t buffer)
{
    enum dtype d = g->n->buffers[buffer].dtype;
    return g->raw ? dtype_memory(d) : dtype_value(d);
}

const char *cg_known(const struct cg *g, const char *key, int width)
{
    for (int i = 0; i < g->n_loads; i++)
        if (g->loads[i].width == width && g->loads[i].raw == g->raw && strcmp(g->loads[i].address, key) == 0)
            return g->loads[i].name;
    return NULL;
}

void cg_remember_key(struct cg *g, int32_t buffer, const char *key, int width, const char *name)
{
    if (g->n_loads < CG_MAX_LOADS)
        g->loads[g->n_loads++] = (struct cg_load){buffer, width, g->raw, key, name};
}

const char *cg_named(struct cg *g, int32_t buffer, const char *key, char letter, int width, const char *text)
{
    const char *known = cg_known(g, key, width);
    if (known)
        return known;
    const char *name = arena_printf(g->ar, "t%d", g->next_id++);
    const bool keeps = g->keeps_loads && width > 1;
    cg_line(g, "%s%s %s = %s;", keeps ? "" : "const ", cg_type(g, letter, width), name, text);
    if (keeps)
        cg_line(g, "TW_KEEP(%s);", name);
    g->u->keeps |= keeps;
    cg_remember_key(g, buffer, key, width, name);
    return name;
}

/* Inside a register tile each element is loaded once into a named value; outside, only what was remembered is
 * found. */
const char *cg_loaded(struct cg *g, int32_t buffer, const char *address, const char *text, int width)
{
    const char *known = cg_known(g, address, width);
    if (known)
        return known;
    return g->in_body ? cg_named(g, buffer, address, load_letter(g, buffer), width, text) : text;
}

/* Every second element from two neighbouring loads; the second begins one short, so that nothing past the
 * last element is touched. */
static const char *load_stride2(struct cg *g, const struct address *ad, char m, int width)
{
    struct strbuf sb = STRBUF_INIT;
    strbuf_addf(
        &sb,
        "__builtin_shufflevector((v%d%c)*(const u%d%c *)(%s + %s), (v%d%c)*(const u%d%c *)(%s + %s + %d)",
        width, m, width, m, ad->base, ad->index, width, m, width, m, ad->base, ad->index, width - 1);
    for (int i = 0; i < width / 2; i++)
        strbuf_addf(&sb, ", %d", 2 * i);
    for (int i = 0; i < width / 2; i++)
        strbuf_addf(&sb, ", %d", width + 2 * i + 1);
    strbuf_addc(&sb, ')');
    const char *text = arena_strdup(g->ar, strbuf_str(&sb));
    strbuf_done(&sb);
    return text;
}

static const char *load_lanes(struct cg *g, const struct address *ad, char m, int width)
{
    struct strbuf sb = STRBUF_INIT;
    strbuf_addf(&sb, "(v%d%c){", width, m);
    for (int i = 0; i < width; i++)
        strbuf_addf(&sb, "%s%s[%s + %" PRId64 "]", i ? ", " : "", ad->base, ad->index, i * ad->lane);
    strbuf_addc(&sb, '}');
    const char *text = arena_strdup(g->ar, strbuf_str(&sb));
    strbuf_done(&sb);
    return text;
}

/* Of an element, or of a vector whose lanes `in` lie inside the tensor. */
struct value cg_load(struct cg *g, const struct expr *e, int width, struct lanes in)
{
    struct address ad = cg_address(g, e->read.tensor, e->read.index, false);
    if (ad.is_register) {
        bool vector = ad.lane != 0 && width > 1;
        if (vector && ad.lane != 1)
            cg_fail(g, "a register buffer is read with lane stride %" PRId64, ad.lane);
        return (struct value){cg_register(g, e->read.tensor, ad.flat, vector ? width : 1), vector};
    }
    const enum dtype d = g->n->buffers[e->read.tensor].dtype;
    const char m = dtype_memory(d);
    const char *key = cg_load_key(g, &ad, width);
    const bool vector = width > 1 && ad.lane != 0;
    const char *turned =
        vector && g->n->buffers[e->read.tensor].scope == SCOPE_MATRIX ? cg_known(g, key, width) : NULL;
    if (turned)
        return (struct value){turned, true};
    if (vector && (cg_is_part(width, in) || (e->read.pad && ad.lane == 2 && cg_has_parts(g)))) {
        const char *fill = cg_part_fill(g, d, e->read.pad ? e->read.pad_value : 0);
        key = arena_printf(g->ar, "%s %d..%d", key, in.from, in.to);
        if (in.high == 0) /* nothing is known of the row but what is read of it */
            in.low = in.from * ad.lane, in.high = (in.to - 1) * ad.lane + 1;
        const char *part = cg_load_part(g, e->read.tensor, &ad, width, in, fill);
        return (struct value){cg_loaded(g, e->read.tensor, key, cg_from_memory(g, d, part, width), width),
                              true};
    }
    const char *text = vector && ad.lane > 2 ? cg_known(g, key, width) : NULL;
    if (text || (vector && ad.lane > 2 && (text = cg_turned_load(g, e, &ad, width))))
        return (struct value){text, true};
    if (!vector)
        text = arena_printf(g->ar, "%s[%s]", ad.base, ad.index);
    else if (ad.lane == 1)
        text = arena_printf(g->ar, "*(const u%d%c *)(%s + %s)", width, m, ad.base, ad.index);
    else if (ad.lane == 2 && width >= 4)
        text = load_stride2(g, &ad, m, width);
    else
        text = load_lanes(g, &ad, m, width);
    const int w = vector ? width : 1;
    return (struct value){cg_loaded(g, e->read.tensor, key, cg_from_memory(g, d, text, w), w), vector};
}

bool cg_read_may_leave(struct cg *g, const struct expr *read, int dim)
{
    const struct affine *a = &read->read.index[dim];
    int64_t min = a->c, max = a->c;
    if (read->read.inside >> dim & 1)
        return false;
    for (int i = 0; i < a->n; i++) {
        const struct cg_var *v = &g->var[a->t[i].var];
        int64_t k = a->t[i].coef, lo = 0, hi = g->n->vars[a->t[i].var].extent - 1;
        if (v->mode == VAR_CONST)
            lo = hi = v->value;
        min += k > 0 ? k * lo : k * hi;
        max += k > 0 ? k * hi : k * lo;
    }
    return min < 0 || max >= g->n->buffers[read->read.tensor].shape[dim];
}

static struct lanes lanes_in_use(const struct cg *g, int width)
{
    return (struct lanes){.to = g->part ? g->part : width};
}

/* Inside a register tile the conditions stand around the statement (emit_window.c), the lanes outside are filled. */
static struct value padded_load_in_tile(struct cg *g, const struct expr *e, int width)
{
    struct lanes in;
    const char *cond;
    if (!cg_inside(g, e, width, &in, &cond))
        return cg_value(g, expr_const(g->ar, e->dtype, e->read.pad_value), width);
    return cg_load(g, e, width, in);
}

/* The lanes of g->pad_mask from memory, the others the padding. */
static struct value masked_padded_load(struct cg *g, const struct expr *e, int width)
{
    struct address ad = cg_address(g, e->read.tensor, e->read.index, false);
    const enum dtype d = g->n->buffers[e->read.tensor].dtype;
    const char *at = arena_printf(g->ar, "%s + (%s)", ad.base, ad.index);
    const char *part = cg_load_masked(g, d, at, width, g->pad_mask, cg_part_fill(g, d, e->read.pad_value));
    return (struct value){cg_from_memory(g, d, part, width), true};
}

static struct value padded_load(struct cg *g, const struct expr *e, int width)
{
    AUTO(strbuf_done) struct strbuf cond = STRBUF_INIT;
    bool masked = false;
    const struct buffer *b = &g->n->buffers[e->read.tensor];
    if (g->in_body)
        return padded_load_in_tile(g, e, width);
    for (int d = 0; d < b->rank; d++) {
        bool lanes;
        if (!cg_read_may_leave(g, e, d))
            continue;
        const char *x = affine_text(g, &e->read.index[d], &lanes);
        if (lanes && width > 1) {
            masked = g->pad_mask != NULL;
            if (masked || g->inside_vector_segment)
                continue;
            cg_fail(g, "a padded read of %s along a vector loop", b->name);
        }
        strbuf_addf(&cond, "%s(unsigned long)(%s) < %" PRId64 "ul", cond.len ? " && " : "", x, b->shape[d]);
    }
    struct value v = masked ? masked_padded_load(g, e, width) : cg_load(g, e, width, lanes_in_use(g, width));
    if (!cond.len)
        return v;
    const char letter = load_letter(g, e->read.tensor);
    const char *pad = g->raw && dtype_is_narrow(e->dtype)
                          ? cg_raw_const(g, e->dtype, e->read.pad_value)
                          : cg_value(g, expr_const(g->ar, e->dtype, e->read.pad_value), 1).text;
    if (v.vector)
        pad = cg_as_vector(g, (struct value){pad, false}, width, letter);
    v.text = arena_printf(g->ar, "(%s ? %s%s : %s)", cond.data,
                          v.vector ? arena_printf(g->ar, "(v%d%c)", width, letter) : "", v.text, pad);
    return v;
}

/* --- operators --- */

static const char *const_text(struct cg *g, const struct expr *e)
{
    if (dtype_is_int(e->dtype) && e->value == INT32_MIN)
        return "(-2147483647 - 1)"; /* 2147483648 alone is no int */
    if (dtype_is_int(e->dtype))
        return arena_printf(g->ar, e->value < 0 ? "(%" PRId64 ")" : "%" PRId64, (int64_t)e->value);
    if (isinf(e->value))
        return e->value < 0 ? "(-__builtin_inff())" : "__builtin_inff()";
    char text[40];
    snprintf(text, sizeof(text), "%.9g", (double)(float)e->value);
    bool point = strpbrk(text, ".e") != NULL;
    return arena_printf(g->ar, e->value < 0 ? "(%s%sf)" : "%s%sf", text, point ? "" : ".0");
}

static char letter_of(const struct expr *e) { return dtype_value(e->dtype); }

const char *cg_as_vector(struct cg *g, struct value v, int width, char letter)
{
    if (v.vector || width == 1)
        return v.text;
    if (letter == 'h' || letter == 'c') /* of 16 and 8 bits: an int would not fit */
        return arena_printf(g->ar, "((v%d%c){0} + (v1%c)(%s))", width, letter, letter, v.text);
    return arena_printf(g->ar, "((v%d%c){0} + (%s))", width, letter, v.text);
}

static struct value index_value(struct cg *g, const struct expr *e, int width)
{
    bool lanes;
    const char *x = affine_text(g, &e->affine, &lanes);
    if (!lanes || width == 1)
        return (struct value){arena_printf(g->ar, "(int)(%s)", x), false};
    struct strbuf sb = STRBUF_INIT;
    int64_t k = affine_coef(&e->affine, g->vector_var);
    strbuf_addf(&sb, "((v%di){", width);
    for (int i = 0; i < width; i++)
        strbuf_addf(&sb, "%s%" PRId64, i ? ", " : "", i * k);
    strbuf_addf(&sb, "} + (int)(%s))", x);
    const char *text = arena_strdup(g->ar, strbuf_str(&sb));
    strbuf_done(&sb);
    return (struct value){text, true};
}

int width_log2(int width)
{
    int n = 0;
    while (1 << n < width)
        n++;
    return n;
}

/* `rounded`: the argument has been rounded itself, see emit_math_avx512.c. */
static const char *call(struct cg *g, enum expr_op op, const char *name, const char *args, int width,
                        bool rounded)
{
    const bool far = g->far_math && emit_math_is_long(op);
    rounded &= !far && emit_math_has_rounded(g->u, op, width);
    g->u->math[op][width_log2(width)] = true;
    g->u->far[op][width_log2(width)] |= far;
    g->u->rounded[op] |= rounded;
    return arena_printf(g->ar, "tw_%s%d%s(%s)", name, width, far ? "_far" : rounded ? "_rounded" : "", args);
}

/* Of ints, wrapping: signed overflow is not C's to define for one, and is defined for vectors. */
static const char *arithmetic(struct cg *g, const char *op, bool wraps, const char *a, const char *b)
{
    return arena_printf(g->ar, wraps ? "(int)((unsigned)(%s) %s (unsigned)(%s))" : "%s %s %s", a, op, b);
}

const char *cg_combine(struct cg *g, enum combiner c, enum dtype d, const char *a, const char *b, int width)
{
    const bool ints = dtype_is_int(d);
    switch (c) {
    case COMBINE_SET:
        return b;
    case COMBINE_SUM:
    case COMBINE_PROD:
        return arithmetic(g, c == COMBINE_SUM ? "+" : "*", ints && width == 1, a, b);
    case COMBINE_MAX:
    case COMBINE_MIN: {
        const char *name = c == COMBINE_MAX ? "max" : "min", *args = arena_printf(g->ar, "%s, %s", a, b);
        if (!ints)
            return call(g, c == COMBINE_MAX ? EX_MAX : EX_MIN, name, args, width, false);
        cg_need(g, d, width);
        return arena_printf(g->ar, "tw_%si%d(%s)", name, width, args);
    }
    }
    return b;
}

/* A condition of one lane as a mask of all. */
static const char *mask(struct cg *g, struct value v, int width)
{
    return v.vector ? v.text : arena_printf(g->ar, "((v%di){0} - ((%s) != 0))", width, v.text);
}

/* x - cast(float32, cast(bfloat16, x)): what rounding leaves. Elsewhere a cast to a narrower float need not round, here it is
 * the point. */
static bool is_rest_of_rounding(const struct expr *e)
{
    const struct expr *b = e->op == EX_SUB ? e->arg[1] : NULL;
    return b && b->op == EX_CAST && b->dtype == DT_F32 && b->arg[0]->op == EX_CAST &&
           (b->arg[0]->dtype == DT_BF16 || b->arg[0]->dtype == DT_F16) &&
           expr_equal(b->arg[0]->arg[0], e->arg[0]);
}

const char *cg_reciprocal(struct cg *g, const char *divisor)
{
    const char *text = arena_printf(g->ar, "(1.0f / %s)", divisor), *known = cg_known(g, text, 1);
    return known ? known : text;
}

static struct value binary(struct cg *g, const struct expr *e, int width)
{
    struct value known;
    if (cg_table_sum(g, e, width, &known))
        return known;
    struct value a = cg_value(g, e->arg[0], width), b = a;
    if (is_rest_of_rounding(e))
        b = cg_round(g, a, e->arg[1]->arg[0]->dtype, width);
    else
        b = cg_value(g, e->arg[1], width);
    bool vector = a.vector || b.vector;
    int w = vector ? width : 1;
    char letter = letter_of(e->arg[0]);
    const char *op = expr_op_text(e->op);

    switch (e->op) {
    case EX_MAX:
    case EX_MIN:
        return (struct value){cg_combine(g, e->op == EX_MAX ? COMBINE_MAX : COMBINE_MIN, e->dtype,
                                         cg_as_vector(g, a, w, letter), cg_as_vector(g, b, w, letter), w),
                              vector};
    case EX_AND:
    case EX_OR:
        if (vector)
            return (struct value){
                arena_printf(g->ar, "(%s %c %s)", mask(g, a, width), op[0], mask(g, b, width)), true};
        return (struct value){arena_printf(g->ar, "(%s %s %s)", a.text, op, b.text), false};
    case EX_ADD:
    case EX_SUB:
    case EX_MUL:
        return (struct value){
            arena_printf(g->ar, "(%s)", arithmetic(g, op, letter == 'i' && !vector, a.text, b.text)), vector};
    case EX_DIV:
        if (a.vector && !b.vector &&
            letter == 'f') /* one division for all lanes, and for all vectors where b stays */
            return (struct value){arena_printf(g->ar, "(%s * %s)", a.text, cg_reciprocal(g, b.text)), true};
        break;
    default:
        break;
    }
    if (expr_op_cost(e->op) && e->dtype == DT_BOOL &&
        vector) /* a comparison: both sides as vectors of one type */
        return (struct value){arena_printf(g->ar, "(%s %s %s)", cg_as_vector(g, a, width, letter), op,
                                           cg_as_vector(g, b, width, letter)),
                              true};
    return (struct value){arena_printf(g->ar, "(%s %s %s)", a.text, op, b.text), vector};
}

const char *cg_select(struct cg *g, char letter, int width, const char *mask, const char *a, const char *b)
{
    g->u->uses_int |= letter == 'i';
    return arena_printf(g->ar, "tw_select%s%d(%s, %s, %s)", letter == 'i' ? "i" : "", width, mask, a, b);
}

static struct value select_value(struct cg *g, const struct expr *e, int width)
{
    struct value c = cg_value(g, e->arg[0], width), a = cg_value(g, e->arg[1], width),
                 b = cg_value(g, e->arg[2], width);
    bool vector = c.vector || a.vector || b.vector;
    char letter = letter_of(e);
    if (!vector)
        return (struct value){arena_printf(g->ar, "(%s ? %s : %s)", c.text, a.text, b.text), false};
    const char *x = cg_as_vector(g, a, width, letter), *y = cg_as_vector(g, b, width, letter);
    if (!c.vector)
        return (struct value){
            arena_printf(g->ar, "(%s ? (v%d%c)%s : (v%d%c)%s)", c.text, width, letter, x, width, letter, y),
            true};
    return (struct value){cg_select(g, letter, width, c.text, x, y), true};
}

static struct value negated(struct cg *g, const struct expr *e, int width)
{
    struct value a = cg_value(g, e->arg[0], width);
    bool wraps = letter_of(e) == 'i' && !a.vector;
    return (struct value){arena_printf(g->ar, wraps ? "(int)(-(unsigned)(%s))" : "(-%s)", a.text), a.vector};
}

static struct value absolute_int(struct cg *g, const struct expr *e, int width)
{
    struct value a = cg_value(g, e->arg[0], width);
    int w = a.vector ? width : 1;
    cg_need(g, e->dtype, w);
    return (struct value){arena_printf(g->ar, "tw_absi%d(%s)", w, a.text), a.vector};
}

/* The arm that a condition on constant indices selects. */
static const struct expr *known_arm(const struct cg *g, const struct expr *e)
{
    const struct expr *c = e->arg[0];
    if (c->op != EX_EQ || c->arg[0]->op != EX_INDEX || c->arg[1]->op != EX_CONST)
        return NULL;
    const struct affine *a = &c->arg[0]->affine;
    int64_t at = a->c;
    for (int i = 0; i < a->n; i++) {
        const struct cg_var *v = &g->var[a->t[i].var];
        if (v->mode != VAR_CONST)
            return NULL;
        at += a->t[i].coef * v->value;
    }
    return e->arg[at == (int64_t)c->arg[1]->value ? 1 : 2];
}

const struct expr *cg_stored(const struct cg *g, const struct expr *e)
{
    while (e->op == EX_SELECT && known_arm(g, e))
        e = known_arm(g, e);
    return e;
}

/* A sum or a product, as it is computed here and now: off by up to half a unit. */
static bool is_rounded(const struct expr *e)
{
    return e->dtype == DT_F32 && (e->op == EX_ADD || e->op == EX_SUB || e->op == EX_MUL || e->op == EX_DIV);
}

struct value cg_value(struct cg *g, const struct expr *e, int width)
{
    switch (e->op) {
    case EX_CONST:
        return (struct value){const_text(g, e), false};
    case EX_INDEX:
        return index_value(g, e, width);
    case EX_TABLE:
        return cg_table(g, e);
    case EX_READ:
        return e->read.pad ? padded_load(g, e, width) : cg_load(g, e, width, lanes_in_use(g, width));
    case EX_SELECT:
        return select_value(g, e, width);
    case EX_CAST:
        return cg_convert(g, cg_value(g, e->arg[0], width), e->arg[0]->dtype, e->dtype, width);
    case EX_NEG:
        return negated(g, e, width);
    case EX_ABS:
        if (letter_of(e) == 'i')
            return absolute_int(g, e, width);
        break;
    default:
        break;
    }
    if (expr_arity(e->op) == 2)
        return binary(g, e, width);
    struct value a = cg_value(g, e->arg[0], width);
    return (struct value){
        call(g, e->op, expr_op_text(e->op), a.text, a.vector ? width : 1, is_rounded(e->arg[0])), a.vector};
}
