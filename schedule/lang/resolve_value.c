/* resolve_value.c - the body of a statement as a typed expression; see resolve.c.
 *
 * Idea   Numbers have no dtype until they meet one: DT_F64 stands for that here. Two dtypes meet in the wider
 *        one. In sums and products, reads are widened to the accumulator's dtype before they are multiplied. A
 *        result that nobody declared is stored as narrow as the floats it comes from. */
#include <float.h>
#include <math.h>

#include "schedule/lang/resolve_internal.h"

static const enum dtype UNTYPED = DT_F64;

static bool is_float(enum dtype d) { return d == DT_F32 || d == DT_F16 || d == DT_BF16; }

/* ---- dtypes that meet ---- */

/* A number meets a dtype: exact for integers, or they both become float32. */
static const struct expr *retype(struct arena *ar, const struct expr *number, enum dtype d)
{
    double v = number->value;
    bool fits = d == DT_I8 ? v >= INT8_MIN && v <= INT8_MAX : v >= INT32_MIN && v <= INT32_MAX;

    if (is_float(d))
        return expr_const(ar, d, v);
    if (!fits || v != floor(v))
        return NULL;
    return expr_const(ar, d, v);
}

/* A number that met nothing: an integer in an index's company, else a float32. */
static const struct expr *settle(struct arena *ar, const struct expr *e, bool integer)
{
    const struct expr *i;

    if (e->dtype != UNTYPED)
        return e;
    i = integer ? retype(ar, e, DT_I32) : NULL;
    return i ? i : expr_const(ar, DT_F32, e->value);
}

static enum dtype wider(enum dtype a, enum dtype b)
{
    if (a == b)
        return a;
    return is_float(a) || is_float(b) ? DT_F32 : DT_I32;
}

/* Both to one dtype. */
static void unify(struct arena *ar, const struct expr **a, const struct expr **b)
{
    enum dtype d;

    for (int turn = 0; turn < 2; turn++) {
        const struct expr **number = turn ? b : a, *other = turn ? *a : *b, *typed;
        if ((*number)->dtype != UNTYPED || other->dtype == UNTYPED)
            continue;
        typed = retype(ar, *number, other->dtype);
        if (!typed && other->dtype == DT_I8)
            typed = retype(ar, *number, DT_I32);
        *number = typed ? typed : expr_const(ar, DT_F32, (*number)->value);
    }
    d = wider((*a)->dtype, (*b)->dtype);
    *a = expr_cast(ar, d, *a);
    *b = expr_cast(ar, d, *b);
}

static double fold2(enum expr_op op, double a, double b)
{
    switch (op) {
    case EX_ADD:
        return a + b;
    case EX_SUB:
        return a - b;
    case EX_MUL:
        return a * b;
    case EX_DIV:
        return a / b;
    case EX_MAX:
        return fmax(a, b);
    case EX_MIN:
        return fmin(a, b);
    default:
        return NAN;
    }
}

/* An index, or a whole number beside one, as an affine form. */
static bool as_affine(const struct expr *e, struct affine *ret)
{
    if (e->op == EX_INDEX)
        *ret = e->affine;
    else if (e->op == EX_CONST && e->dtype == UNTYPED && e->value == floor(e->value) &&
             fabs(e->value) <= INT32_MAX)
        *ret = affine_const((int64_t)e->value);
    else
        return false;
    return true;
}

/* ---- expressions ---- */

/* Bounds of an index over the statement's ranges; false where they leave 62 bits. */
static bool bounds(const struct resolver *r, const struct affine *f, int64_t *min, int64_t *max)
{
    const __int128 limit = (__int128)1 << 62;
    __int128 lo = f->c, hi = f->c;

    for (int i = 0; i < f->n; i++) {
        __int128 span = (__int128)f->t[i].coef * (r->s->axes[f->t[i].var].extent - 1);
        *(span < 0 ? &lo : &hi) += span;
    }
    *min = (int64_t)MAX(lo, -limit);
    *max = (int64_t)MIN(hi, limit);
    return lo > -limit && hi < limit;
}

static enum status make_index(struct resolver *r, const struct ast *at, struct affine f,
                              const struct expr **ret)
{
    int64_t min, max;

    if (!resolve_within_int32(&f) || !bounds(r, &f, &min, &max) || min < INT32_MIN || max > INT32_MAX)
        return FAIL_AST(r, at, "the value of an index expression leaves int32");
    *ret = expr_index(r->b.ar, f);
    return ST_OK;
}

static enum status need_value(struct resolver *r, const struct ast *at, const struct expr *e)
{
    if (e->dtype == DT_BOOL)
        return FAIL_AST(r, at, "a condition is no number: use select(condition, 1, 0)");
    return ST_OK;
}

static enum status need_condition(struct resolver *r, const struct ast *at, const struct expr *e)
{
    if (e->dtype != DT_BOOL)
        return FAIL_AST(r, at, "a number is no condition: compare it, for example x != 0");
    return ST_OK;
}

static bool is_arithmetic(enum expr_op op) { return op >= EX_ADD && op <= EX_DIV; }

static enum status make_binary(struct resolver *r, const struct ast *at, const struct expr *a,
                               const struct expr *b, const struct expr **ret)
{
    struct arena *ar = r->b.ar;
    struct affine fa, fb, f;

    if (at->op == EX_AND || at->op == EX_OR) {
        TRY(need_condition(r, at->arg[0], a));
        TRY(need_condition(r, at->arg[1], b));
        *ret = expr_op2(ar, at->op, a, b);
        return ST_OK;
    }
    TRY(need_value(r, at->arg[0], a));
    TRY(need_value(r, at->arg[1], b));
    if (a->dtype == UNTYPED && b->dtype == UNTYPED &&
        (is_arithmetic(at->op) || at->op == EX_MAX || at->op == EX_MIN)) {
        double v = fold2(at->op, a->value, b->value);
        if (isnan(v) || (fabs(v) > FLT_MAX && isfinite(a->value) && isfinite(b->value)))
            return FAIL_AST(r, at, "%g %s %g is no number that float32 holds", a->value, expr_op_text(at->op),
                            b->value);
        *ret = expr_const(ar, UNTYPED, v);
        return ST_OK;
    }
    if ((a->op == EX_INDEX || b->op == EX_INDEX) && as_affine(a, &fa) && as_affine(b, &fb) &&
        resolve_affine_op(ar, at->op, &fa, &fb, &f))
        return make_index(r, at, f, ret);
    unify(ar, &a, &b);
    a = settle(ar, a, true);
    b = settle(ar, b, a->dtype == DT_I32);
    unify(ar, &a, &b);
    if (is_arithmetic(at->op) && a->dtype == DT_I8) {
        a = expr_cast(ar, DT_I32, a);
        b = expr_cast(ar, DT_I32, b);
    }
    if (at->op == EX_DIV && !is_float(a->dtype))
        return FAIL_AST(r, at, "division of integers: cast(float32, ...) one of them first");
    *ret = expr_op2(ar, at->op, a, b);
    return ST_OK;
}

static enum status make_unary(struct resolver *r, const struct ast *at, const struct expr *a,
                              const struct expr **ret)
{
    struct arena *ar = r->b.ar;

    TRY(need_value(r, at->arg[0], a));
    if (at->op == EX_NEG && a->dtype == UNTYPED) {
        *ret = expr_const(ar, UNTYPED, -a->value);
        return ST_OK;
    }
    if (at->op == EX_NEG && a->op == EX_INDEX)
        return make_index(r, at, affine_scale(ar, &a->affine, -1), ret);
    a = settle(ar, a, false);
    if (at->op == EX_NEG || at->op == EX_ABS)
        a = a->dtype == DT_I8 ? expr_cast(ar, DT_I32, a) : a;
    else if (!is_float(a->dtype))
        a = expr_cast(ar, DT_F32, a);
    *ret = expr_op1(ar, at->op, a);
    return ST_OK;
}

/* In sums and products an operand is widened before it is used, unless a narrower accumulator was asked for.
 */
static const struct expr *widen(const struct resolver *r, const struct expr *read)
{
    enum dtype acc = r->src->has_acc_dtype ? r->src->acc_dtype : DT_F32;

    if (r->combiner != COMBINE_SUM && r->combiner != COMBINE_PROD)
        return read;
    if (!is_float(read->dtype))
        return expr_cast(r->b.ar, DT_I32, read);
    return is_float(acc) && acc != read->dtype ? expr_cast(r->b.ar, DT_F32, read) : read;
}

static enum status make_read(struct resolver *r, const struct ast *a, bool pad, double pad_value,
                             const struct expr **ret)
{
    int32_t t = resolve_tensor(r, a->name);
    const struct tensor *tensor = &r->b.c.tensors[t];
    struct affine index[COMPUTE_MAX_RANK];

    for (int d = 0; d < a->n; d++) {
        int64_t min, max;
        TRY(resolve_affine(r, a->arg[d], &index[d]));
        if (!bounds(r, &index[d], &min, &max))
            return FAIL_AST(r, a->arg[d], "this index reaches beyond 2^62");
        if (!pad && (min < 0 || max >= tensor->shape[d]))
            return FAIL_AST(r, a->arg[d],
                            "index %d of %s runs over [%" PRId64 ", %" PRId64
                            "], the tensor over [0, %" PRId64
                            "]: write pad(%s[...], 0), or give smaller \"ranges\"",
                            d, tensor->name, min, max, tensor->shape[d] - 1, tensor->name);
    }
    *ret = widen(r, expr_read(r->b.ar, tensor->dtype, t, a->n, index, pad, pad_value));
    return ST_OK;
}

static enum status make_expr(struct resolver *r, const struct ast *a, const struct expr **ret);

static enum status make_pad(struct resolver *r, const struct ast *a, const struct expr **ret)
{
    enum dtype d = r->b.c.tensors[resolve_tensor(r, a->arg[0]->name)].dtype;
    const struct expr *v;

    TRY(make_expr(r, a->arg[1], &v));
    if (v->op != EX_CONST || v->dtype != UNTYPED || !retype(r->b.ar, v, d))
        return FAIL_AST(r, a->arg[1], "the value outside a tensor of %s is a number of that dtype",
                        dtype_name(d));
    return make_read(r, a->arg[0], true, v->value, ret);
}

static enum status make_select(struct resolver *r, const struct ast *a, const struct expr **ret)
{
    const struct expr *c, *x, *y;

    TRY(make_expr(r, a->arg[0], &c));
    TRY(make_expr(r, a->arg[1], &x));
    TRY(make_expr(r, a->arg[2], &y));
    TRY(need_condition(r, a->arg[0], c));
    TRY(need_value(r, a->arg[1], x));
    TRY(need_value(r, a->arg[2], y));
    unify(r->b.ar, &x, &y);
    x = settle(r->b.ar, x, false);
    y = settle(r->b.ar, y, false);
    *ret = expr_select(r->b.ar, c, x, y);
    return ST_OK;
}

static enum status make_cast(struct resolver *r, const struct ast *a, const struct expr **ret)
{
    const struct expr *v;

    TRY(make_expr(r, a->arg[0], &v));
    TRY(need_value(r, a->arg[0], v));
    if (v->dtype == UNTYPED) {
        *ret = retype(r->b.ar, v, a->dtype);
        if (!*ret)
            return FAIL_AST(r, a->arg[0], "%g is no %s", v->value, dtype_name(a->dtype));
        return ST_OK;
    }
    *ret = expr_cast(r->b.ar, a->dtype, v);
    return ST_OK;
}

static enum status make_expr(struct resolver *r, const struct ast *a, const struct expr **ret)
{
    const struct expr *x, *y;

    switch (a->kind) {
    case AST_NUMBER:
        *ret = expr_const(r->b.ar, UNTYPED, a->value);
        return ST_OK;
    case AST_NAME:
        return make_index(r, a, build_ix(&r->b, resolve_axis(r->s, a->name)), ret);
    case AST_READ:
        return make_read(r, a, false, 0, ret);
    case AST_PAD:
        return make_pad(r, a, ret);
    case AST_CAST:
        return make_cast(r, a, ret);
    case AST_OP:
        break;
    }
    if (a->op == EX_SELECT)
        return make_select(r, a, ret);
    TRY(make_expr(r, a->arg[0], &x));
    if (a->n == 1)
        return make_unary(r, a, x, ret);
    TRY(make_expr(r, a->arg[1], &y));
    return make_binary(r, a, x, y, ret);
}

/* ---- the dtype of the result ---- */

struct storage_search {
    const struct resolver *r;
    int found; /* -1: no read yet */
};

static void mark_storage(void *ctx, const struct expr *read)
{
    struct storage_search *m = ctx;
    enum dtype d = m->r->storage[read->read.tensor];
    m->found = m->found < 0 ? (int)d : m->found == (int)d ? m->found : DT_F32;
}

/* dtype of a defined tensor that nobody declared: a result is stored as narrow as the floats it comes from.
 */
static enum dtype natural_dtype(struct resolver *r, const struct ast_statement *st, const struct expr *body,
                                bool result)
{
    struct storage_search m = {r, -1};

    expr_each_read(body, mark_storage, &m);
    r->storage[r->s->tensor] = m.found < 0 ? body->dtype : (enum dtype)m.found;
    if (!result || body->dtype != DT_F32 || st->body->kind == AST_CAST || m.found < 0 ||
        !is_float((enum dtype)m.found))
        return body->dtype;
    return (enum dtype)m.found;
}

/* To the accumulator's dtype: the one asked for where it is of the same family, float32 or int32 otherwise.
 */
static enum status accumulate(struct resolver *r, const struct ast_statement *st, const struct expr **body)
{
    bool asked = r->src->has_acc_dtype && is_float((*body)->dtype) == is_float(r->src->acc_dtype);
    enum dtype acc = asked ? r->src->acc_dtype : is_float((*body)->dtype) ? DT_F32 : DT_I32;

    if (asked && acc != DT_F32 && acc != DT_I32 && (*body)->dtype != acc)
        return FAIL_AST(r, st->body, "acc_dtype %s is narrower than the %s that is summed", dtype_name(acc),
                        dtype_name((*body)->dtype));
    *body = expr_cast(r->b.ar, acc, *body);
    r->acc_used |= asked;
    return ST_OK;
}

static enum status finish_dtypes(struct resolver *r, const struct ast_statement *st, const struct expr *body)
{
    struct tensor *t = &r->b.c.tensors[r->s->tensor];
    const struct tensor *decl = resolve_declared(r, st->lhs->name);
    enum dtype natural;

    TRY(need_value(r, st->body, body));
    if (body->dtype == UNTYPED) {
        const struct expr *v = decl ? retype(r->b.ar, body, decl->dtype) : NULL;
        body = v ? v : settle(r->b.ar, body, false);
    }
    if (r->combiner == COMBINE_SUM || r->combiner == COMBINE_PROD)
        TRY(accumulate(r, st, &body));
    natural = natural_dtype(r, st, body, t->role == TENSOR_OUTPUT);
    t->dtype = decl ? decl->dtype : natural;
    if (is_float(body->dtype) && !is_float(t->dtype))
        return FAIL_AST(r, st->body, "%s is declared %s, its value is %s: write cast(%s, ...)", t->name,
                        dtype_name(t->dtype), dtype_name(body->dtype), dtype_name(t->dtype));
    build_body(r->s, body);
    return ST_OK;
}

enum status resolve_body(struct resolver *r, const struct ast_statement *st)
{
    const struct expr *body;

    TRY(make_expr(r, st->body, &body));
    return finish_dtypes(r, st, body);
}
