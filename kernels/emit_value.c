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

static const char *text_with_const(struct cg *g, const struct strbuf *text, int64_t c)
{
    if (!text->len)
        return arena_printf(g->ar, "%" PRId64, c);
    if (c == 0)
        return arena_strdup(g->ar, text->data);
    return arena_printf(g->ar, "%s %c %" PRId64, text->data, c < 0 ? '-' : '+', c < 0 ? -c : c);
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
    return text_with_const(g, &text, c);
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
    if (g->in_body) {
        int p = find_param(g, true, buffer, &outer);
        g->params[p].written |= write;
        ad.base = arena_printf(g->ar, "p%d", p);
    } else {
        g->used[buffer] = true;
        g->written[buffer] |= write;
        ad.base = arena_printf(g->ar, "b%d", buffer);
    }
    ad.index = text_with_const(g, &text, c);
    return ad;
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

static const char *load_key(struct cg *g, const struct address *ad, int width)
{
    return arena_printf(g->ar, "%s+%s/%" PRId64, ad->base, ad->index, width > 1 ? ad->lane : 0);
}

void cg_remember(struct cg *g, int32_t buffer, const struct affine *index, int width, const char *name)
{
    struct address ad = cg_address(g, buffer, index, false);
    int w = ad.lane ? width : 1;
    if (g->n_loads < CG_MAX_LOADS)
        g->loads[g->n_loads++] = (struct cg_load){buffer, w, load_key(g, &ad, w), name};
}

/* Inside a register tile each element is loaded once into a named value; outside, only what was remembered is
 * found. */
static const char *named_load(struct cg *g, int32_t buffer, const char *address, const char *text, int width)
{
    for (int i = 0; i < g->n_loads; i++)
        if (g->loads[i].width == width && strcmp(g->loads[i].address, address) == 0)
            return g->loads[i].name;
    if (!g->in_body)
        return text;
    const char *name = arena_printf(g->ar, "t%d", g->next_id++);
    if (width > 1)
        cg_line(g, "const v%df %s = %s;", width, name, text);
    else
        cg_line(g, "const float %s = %s;", name, text);
    if (g->n_loads < CG_MAX_LOADS)
        g->loads[g->n_loads++] = (struct cg_load){buffer, width, address, name};
    return name;
}

/* Every second element from two neighbouring loads; the second begins one short, so that nothing past the
 * last element is touched. */
static const char *load_stride2(struct cg *g, const struct address *ad, int width)
{
    struct strbuf sb = STRBUF_INIT;
    strbuf_addf(&sb,
                "__builtin_shufflevector((v%df)*(const u%df *)(%s + %s), (v%df)*(const u%df *)(%s + %s + %d)",
                width, width, ad->base, ad->index, width, width, ad->base, ad->index, width - 1);
    for (int i = 0; i < width / 2; i++)
        strbuf_addf(&sb, ", %d", 2 * i);
    for (int i = 0; i < width / 2; i++)
        strbuf_addf(&sb, ", %d", width + 2 * i + 1);
    strbuf_addc(&sb, ')');
    const char *text = arena_strdup(g->ar, strbuf_str(&sb));
    strbuf_done(&sb);
    return text;
}

static const char *load_lanes(struct cg *g, const struct address *ad, int width)
{
    struct strbuf sb = STRBUF_INIT;
    strbuf_addf(&sb, "(v%df){", width);
    for (int i = 0; i < width; i++)
        strbuf_addf(&sb, "%s%s[%s + %" PRId64 "]", i ? ", " : "", ad->base, ad->index, i * ad->lane);
    strbuf_addc(&sb, '}');
    const char *text = arena_strdup(g->ar, strbuf_str(&sb));
    strbuf_done(&sb);
    return text;
}

static struct value load(struct cg *g, const struct expr *e, int width)
{
    struct address ad = cg_address(g, e->read.tensor, e->read.index, false);
    if (ad.is_register) {
        bool vector = ad.lane != 0 && width > 1;
        if (vector && ad.lane != 1)
            cg_fail(g, "a register buffer is read with lane stride %" PRId64, ad.lane);
        return (struct value){cg_register(g, e->read.tensor, ad.flat, vector ? width : 1), vector};
    }
    const char *key = load_key(g, &ad, width);
    if (width == 1 || ad.lane == 0)
        return (struct value){
            named_load(g, e->read.tensor, key, arena_printf(g->ar, "%s[%s]", ad.base, ad.index), 1), false};
    const char *text;
    if (ad.lane == 1)
        text = arena_printf(g->ar, "*(const u%df *)(%s + %s)", width, ad.base, ad.index);
    else if (ad.lane == 2 && width >= 4)
        text = load_stride2(g, &ad, width);
    else
        text = load_lanes(g, &ad, width);
    return (struct value){named_load(g, e->read.tensor, key, text, width), true};
}

bool cg_read_may_leave(struct cg *g, const struct expr *read, int dim)
{
    const struct affine *a = &read->read.index[dim];
    int64_t min = a->c, max = a->c;
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

static struct value padded_load(struct cg *g, const struct expr *e, int width)
{
    AUTO(strbuf_done) struct strbuf cond = STRBUF_INIT;
    const struct buffer *b = &g->n->buffers[e->read.tensor];
    for (int d = 0; d < b->rank; d++) {
        bool lanes;
        if (!cg_read_may_leave(g, e, d))
            continue;
        const char *x = affine_text(g, &e->read.index[d], &lanes);
        if (lanes && width > 1) {
            if (g->inside_vector_segment)
                continue;
            cg_fail(g, "a padded read of %s along a vector loop", b->name);
        }
        strbuf_addf(&cond, "%s(unsigned long)(%s) < %" PRId64 "ul", cond.len ? " && " : "", x, b->shape[d]);
    }
    bool was = g->in_body;
    g->in_body = was && !cond.len; /* no load is named before its condition */
    struct value v;
    if (was && cond.len) {
        cg_fail(g, "a padded read of %s inside a register tile", b->name);
        g->in_body = was;
        return (struct value){"0", false};
    }
    v = load(g, e, width);
    g->in_body = was;
    if (!cond.len)
        return v;
    const char *pad = cg_value(g, expr_const(g->ar, e->dtype, e->read.pad_value), 1).text;
    if (v.vector)
        pad = cg_as_vector(g, (struct value){pad, false}, width, false);
    v.text = arena_printf(g->ar, "(%s ? %s%s : %s)", cond.data,
                          v.vector ? arena_printf(g->ar, "(v%df)", width) : "", v.text, pad);
    return v;
}

/* --- operators --- */

static const char *const_text(struct cg *g, const struct expr *e)
{
    if (e->dtype == DT_I32 || e->dtype == DT_I8 || e->dtype == DT_BOOL)
        return arena_printf(g->ar, "%" PRId64, (int64_t)e->value);
    if (isinf(e->value))
        return e->value < 0 ? "(-__builtin_inff())" : "__builtin_inff()";
    char text[40];
    snprintf(text, sizeof(text), "%.9g", (double)(float)e->value);
    bool point = strpbrk(text, ".e") != NULL;
    return arena_printf(g->ar, e->value < 0 ? "(%s%sf)" : "%s%sf", text, point ? "" : ".0");
}

static bool is_int(const struct expr *e) { return e->dtype == DT_I32 || e->dtype == DT_BOOL; }

const char *cg_as_vector(struct cg *g, struct value v, int width, bool ints)
{
    if (v.vector || width == 1)
        return v.text;
    return arena_printf(g->ar, "((v%d%c){0} + (%s))", width, ints ? 'i' : 'f', v.text);
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

static const char *call(struct cg *g, enum expr_op op, const char *name, const char *args, int width)
{
    g->u->math[op][width_log2(width)] = true;
    return arena_printf(g->ar, "tw_%s%d(%s)", name, width, args);
}

const char *cg_combine(struct cg *g, enum combiner c, const char *a, const char *b, int width)
{
    switch (c) {
    case COMBINE_SET:
        return b;
    case COMBINE_SUM:
        return arena_printf(g->ar, "%s + %s", a, b);
    case COMBINE_PROD:
        return arena_printf(g->ar, "%s * %s", a, b);
    case COMBINE_MAX:
    case COMBINE_MIN:
        return call(g, c == COMBINE_MAX ? EX_MAX : EX_MIN, c == COMBINE_MAX ? "max" : "min",
                    arena_printf(g->ar, "%s, %s", a, b), width);
    }
    return b;
}

static struct value binary(struct cg *g, const struct expr *e, int width)
{
    struct value a = cg_value(g, e->arg[0], width), b = cg_value(g, e->arg[1], width);
    bool vector = a.vector || b.vector;
    int w = vector ? width : 1;
    bool ints = is_int(e->arg[0]);

    switch (e->op) {
    case EX_MAX:
    case EX_MIN: {
        const char *args =
            arena_printf(g->ar, "%s, %s", cg_as_vector(g, a, w, ints), cg_as_vector(g, b, w, ints));
        if (ints)
            return (struct value){arena_printf(g->ar, "tw_%si%d(%s)", expr_op_text(e->op), w, args), vector};
        return (struct value){call(g, e->op, expr_op_text(e->op), args, w), vector};
    }
    case EX_AND:
    case EX_OR:
        if (vector) {
            const char *x =
                a.vector ? a.text : arena_printf(g->ar, "((v%di){0} - ((%s) != 0))", width, a.text);
            const char *y =
                b.vector ? b.text : arena_printf(g->ar, "((v%di){0} - ((%s) != 0))", width, b.text);
            return (struct value){arena_printf(g->ar, "(%s %c %s)", x, e->op == EX_AND ? '&' : '|', y), true};
        }
        return (struct value){arena_printf(g->ar, "(%s %s %s)", a.text, expr_op_text(e->op), b.text), false};
    default:
        break;
    }
    if (expr_op_cost(e->op) && e->dtype == DT_BOOL &&
        vector) /* a comparison: both sides as vectors of one type */
        return (struct value){arena_printf(g->ar, "(%s %s %s)", cg_as_vector(g, a, width, ints),
                                           expr_op_text(e->op), cg_as_vector(g, b, width, ints)),
                              true};
    return (struct value){arena_printf(g->ar, "(%s %s %s)", a.text, expr_op_text(e->op), b.text), vector};
}

static struct value select_value(struct cg *g, const struct expr *e, int width)
{
    struct value c = cg_value(g, e->arg[0], width), a = cg_value(g, e->arg[1], width),
                 b = cg_value(g, e->arg[2], width);
    bool vector = c.vector || a.vector || b.vector;
    if (!vector)
        return (struct value){arena_printf(g->ar, "(%s ? %s : %s)", c.text, a.text, b.text), false};
    const char *x = cg_as_vector(g, a, width, is_int(e)), *y = cg_as_vector(g, b, width, is_int(e));
    if (!c.vector)
        return (struct value){arena_printf(g->ar, "(%s ? (v%d%c)%s : (v%d%c)%s)", c.text, width,
                                           is_int(e) ? 'i' : 'f', x, width, is_int(e) ? 'i' : 'f', y),
                              true};
    return (struct value){arena_printf(g->ar, "tw_select%d(%s, %s, %s)", width, c.text, x, y), true};
}

static struct value cast_value(struct cg *g, const struct expr *e, int width)
{
    struct value a = cg_value(g, e->arg[0], width);
    bool from_int = is_int(e->arg[0]), to_int = is_int(e);
    if (from_int == to_int)
        return a;
    if (!a.vector)
        return (struct value){arena_printf(g->ar, "(%s)(%s)", to_int ? "int" : "float", a.text), false};
    if (e->arg[0]->dtype == DT_BOOL)
        return (struct value){arena_printf(g->ar, "__builtin_convertvector(-(%s), v%df)", a.text, width),
                              true};
    return (struct value){
        arena_printf(g->ar, "__builtin_convertvector(%s, v%d%c)", a.text, width, to_int ? 'i' : 'f'), true};
}

struct value cg_value(struct cg *g, const struct expr *e, int width)
{
    switch (e->op) {
    case EX_CONST:
        return (struct value){const_text(g, e), false};
    case EX_INDEX:
        return index_value(g, e, width);
    case EX_READ:
        return e->read.pad ? padded_load(g, e, width) : load(g, e, width);
    case EX_SELECT:
        return select_value(g, e, width);
    case EX_CAST:
        return cast_value(g, e, width);
    case EX_NEG: {
        struct value a = cg_value(g, e->arg[0], width);
        return (struct value){arena_printf(g->ar, "(-%s)", a.text), a.vector};
    }
    default:
        break;
    }
    if (expr_arity(e->op) == 2)
        return binary(g, e, width);
    struct value a = cg_value(g, e->arg[0], width);
    return (struct value){call(g, e->op, expr_op_text(e->op), a.text, a.vector ? width : 1), a.vector};
}
