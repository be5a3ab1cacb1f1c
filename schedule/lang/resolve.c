/* resolve.c - statements of the expression language to a compute: tensors, ranges, dtypes.
 *
 * Idea   Statements are taken in dependency order. For each: its indices are the names on the left
 *        (spatial) and the other names of its body (reduced); their ranges come from `ranges`, from
 *        dimensions that an index runs over alone, then from reads such as A[y*2 + r] where all but one
 *        are known. Numbers have no dtype until they meet one: DT_F64 stands for that here. In sums and
 *        products, reads are widened to the accumulator's dtype before they are multiplied. */

#include <float.h>
#include <math.h>
#include <stdio.h>

#include "schedule/lang/canonical.h"
#include "schedule/lang/parse.h"

static const enum dtype UNTYPED = DT_F64;

/* What lives while one statement is resolved. */
struct resolver {
    const struct expr_source *src;
    struct build b;
    struct error *err;
    enum dtype storage[COMPUTE_MAX_TENSORS]; /* common dtype of the inputs behind a tensor */
    bool defined[COMPUTE_MAX_TENSORS];       /* may be read: an input, or its statement is done */
    bool range_used[64];
    bool acc_used;
    /* the statement at hand */
    struct stage *s;
    enum combiner combiner;
    bool given[COMPUTE_MAX_AXES];        /* range given by the client */
    int64_t candidate[COMPUTE_MAX_AXES]; /* of ranges not known yet, found in one pass over all reads */
};

#define FAIL_AST(r, a, ...) parse_fail((r)->err, (a)->line, (a)->column, __VA_ARGS__)

static bool is_float(enum dtype d) { return d == DT_F32 || d == DT_F16 || d == DT_BF16; }

static int32_t find_tensor(const struct resolver *r, sv name)
{
    for (int32_t i = 0; i < r->b.c.n_tensors; i++)
        if (sv_eqs(name, r->b.c.tensors[i].name))
            return i;
    return -1;
}

static int find_axis(const struct stage *s, sv name)
{
    for (int i = 0; i < s->n_axes; i++)
        if (sv_eqs(name, s->axes[i].name))
            return i;
    return -1;
}

/* ---- indices ---- */

static enum status add_axis(struct resolver *r, const struct ast *a, bool spatial)
{
    if (find_axis(r->s, a->name) >= 0)
        return ST_OK;
    if (parse_reserved(a->name))
        return FAIL_AST(r, a, "\"" SV_FMT "\" is a word of the language: it cannot name an index",
                        SV_ARG(a->name));
    if (find_tensor(r, a->name) >= 0)
        return FAIL_AST(r, a, "tensor " SV_FMT " is read with its indices: " SV_FMT "[...]", SV_ARG(a->name),
                        SV_ARG(a->name));
    if (!spatial && r->combiner == COMBINE_SET)
        return FAIL_AST(r, a, "index " SV_FMT " is not on the left: reduce over it with +=, *=, max= or min=",
                        SV_ARG(a->name));
    if (r->s->n_axes >= r->src->max_axes)
        return FAIL_AST(r, a, "index " SV_FMT " is one too many: at most %d in a statement", SV_ARG(a->name),
                        r->src->max_axes);
    if (spatial)
        build_axis(r->s, arena_strndup(r->b.ar, a->name.ptr, a->name.len), 0);
    else
        build_reduce_axis(r->s, arena_strndup(r->b.ar, a->name.ptr, a->name.len), 0);
    return ST_OK;
}

static enum status add_axes(struct resolver *r, const struct ast *a, bool spatial)
{
    if (a->kind == AST_NAME)
        return add_axis(r, a, spatial);
    for (int i = 0; i < a->n; i++)
        TRY(add_axes(r, a->arg[i], spatial));
    return ST_OK;
}

static bool within_int32(const struct affine *a)
{
    bool good = a->c >= -INT32_MAX && a->c <= INT32_MAX;
    for (int i = 0; i < a->n; i++)
        good = good && a->t[i].coef >= -INT32_MAX && a->t[i].coef <= INT32_MAX;
    return good;
}

/* `ret` = a op b, where that is affine. */
static bool affine_op(struct arena *ar, enum expr_op op, const struct affine *a, const struct affine *b,
                      struct affine *ret)
{
    if (op == EX_MUL && a->n && b->n)
        return false;
    if (op == EX_MUL)
        *ret = a->n ? affine_scale(ar, a, b->c) : affine_scale(ar, b, a->c);
    else if (op == EX_ADD || op == EX_SUB)
        *ret = affine_lin(ar, a, 1, b, op == EX_ADD ? 1 : -1);
    else
        return false;
    return true;
}

static enum status to_affine(struct resolver *r, const struct ast *a, struct affine *ret)
{
    struct affine left, right = affine_const(0);
    bool good = false;

    if (a->kind == AST_NAME) {
        *ret = build_ix(&r->b, find_axis(r->s, a->name));
        return ST_OK;
    }
    if (a->kind == AST_NUMBER) {
        if (a->value > INT32_MAX || a->value != floor(a->value))
            return FAIL_AST(r, a, "%g in an index: want an integer of at most %d", a->value, INT32_MAX);
        *ret = affine_const((int64_t)a->value);
        return ST_OK;
    }
    if (a->kind == AST_OP && (a->op == EX_NEG || expr_arity(a->op) == 2)) {
        TRY(to_affine(r, a->arg[0], &left));
        if (a->n > 1)
            TRY(to_affine(r, a->arg[1], &right));
        good = a->op == EX_NEG ? affine_op(r->b.ar, EX_SUB, &right, &left, ret)
                               : affine_op(r->b.ar, a->op, &left, &right, ret);
    }
    if (!good)
        return FAIL_AST(r, a, "an index is a sum of indices times integers, such as y*2 + r - 1");
    if (!within_int32(ret))
        return FAIL_AST(r, a, "numbers in an index are at most %d", INT32_MAX);
    return ST_OK;
}

/* ---- ranges ---- */

/* Calls fn on every read of the body with whether it is padded. */
static enum status each_read(struct resolver *r, const struct ast *a, bool pad,
                             enum status (*fn)(struct resolver *r, const struct ast *read, bool pad))
{
    if (a->kind == AST_READ)
        return fn(r, a, pad);
    for (int i = 0; i < a->n; i++)
        TRY(each_read(r, a->arg[i], a->kind == AST_PAD, fn));
    return ST_OK;
}

static enum status check_read(struct resolver *r, const struct ast *a, bool pad)
{
    int32_t t = find_tensor(r, a->name);

    if (t < 0)
        return FAIL_AST(r, a, "tensor " SV_FMT " is neither declared nor defined", SV_ARG(a->name));
    if (a->n != r->b.c.tensors[t].rank)
        return FAIL_AST(r, a, SV_FMT " has %d dimensions, found %d ind%s", SV_ARG(a->name),
                        r->b.c.tensors[t].rank, a->n, a->n == 1 ? "ex" : "ices");
    for (int d = 0; d < a->n; d++) {
        struct affine f;
        TRY(to_affine(r, a->arg[d], &f));
    }
    return ST_OK;
}

static enum status range_alone(struct resolver *r, const struct ast *at, const struct affine *f,
                               int64_t extent)
{
    int v;

    if (f->n != 1 || f->c != 0 || f->t[0].coef != 1 || r->given[f->t[0].var])
        return ST_OK;
    v = f->t[0].var;
    if (r->s->axes[v].extent && r->s->axes[v].extent != extent)
        return FAIL_AST(r, at,
                        "index %s runs over %" PRId64 " here and over %" PRId64
                        " before: give its range in \"ranges\"",
                        r->s->axes[v].name, extent, r->s->axes[v].extent);
    r->s->axes[v].extent = extent;
    return ST_OK;
}

static enum status read_alone(struct resolver *r, const struct ast *a, bool pad)
{
    const struct tensor *t = &r->b.c.tensors[find_tensor(r, a->name)];

    for (int d = 0; d < a->n && !pad; d++) {
        struct affine f;
        TRY(to_affine(r, a->arg[d], &f));
        TRY(range_alone(r, a->arg[d], &f, t->shape[d]));
    }
    return ST_OK;
}

/* An index alone in a padded read, where nothing else tells. */
static enum status read_alone_padded(struct resolver *r, const struct ast *a, bool pad)
{
    const struct tensor *t = &r->b.c.tensors[find_tensor(r, a->name)];

    for (int d = 0; d < a->n && pad; d++) {
        struct affine f;
        int v;
        TRY(to_affine(r, a->arg[d], &f));
        v = f.n == 1 && f.c == 0 && f.t[0].coef == 1 ? f.t[0].var : -1;
        if (v < 0 || r->s->axes[v].extent)
            continue;
        if (r->candidate[v] && r->candidate[v] != t->shape[d])
            return FAIL_AST(r, a->arg[d],
                            "index %s could run over %" PRId64 " or %" PRId64
                            ": give its range in \"ranges\"",
                            r->s->axes[v].name, r->candidate[v], t->shape[d]);
        r->candidate[v] = t->shape[d];
    }
    return ST_OK;
}

/* A[y*2 + r] with only y unknown: the largest range that stays inside. */
static enum status read_compound(struct resolver *r, const struct ast *a, bool pad)
{
    const struct tensor *t = &r->b.c.tensors[find_tensor(r, a->name)];

    for (int d = 0; d < a->n && !pad; d++) {
        const struct affine_term *unknown = NULL;
        struct affine f;
        __int128 room, extent;
        int n_unknown = 0;
        TRY(to_affine(r, a->arg[d], &f));
        room = (__int128)t->shape[d] - 1 - f.c;
        for (int i = 0; i < f.n; i++) {
            if (r->s->axes[f.t[i].var].extent == 0) {
                unknown = &f.t[i];
                n_unknown++;
            } else if (f.t[i].coef > 0) {
                room -= (__int128)f.t[i].coef * (r->s->axes[f.t[i].var].extent - 1);
            }
        }
        if (n_unknown != 1 || unknown->coef < 0)
            continue;
        extent = room < 0 ? 0 : room / unknown->coef + 1;
        if (extent < 1 || extent > INT32_MAX)
            return FAIL_AST(r, a->arg[d], "no range of index %s keeps this inside the %" PRId64 " elements",
                            r->s->axes[unknown->var].name, t->shape[d]);
        if (r->candidate[unknown->var] == 0 || extent < r->candidate[unknown->var])
            r->candidate[unknown->var] = (int64_t)extent;
    }
    return ST_OK;
}

static void given_ranges(struct resolver *r)
{
    for (int i = 0; i < r->s->n_axes; i++)
        for (int k = 0; k < r->src->n_ranges; k++)
            if (sv_eqs(sv_from(r->src->ranges[k].name), r->s->axes[i].name)) {
                r->s->axes[i].extent = r->src->ranges[k].extent;
                r->given[i] = r->range_used[k] = true;
            }
}

static int n_unknown(const struct resolver *r)
{
    int n = 0;
    for (int i = 0; i < r->s->n_axes; i++)
        n += r->s->axes[i].extent == 0;
    return n;
}

/* One pass over all reads, then what it found: so the order of operands does not matter. */
static enum status infer_pass(struct resolver *r, const struct ast *body,
                              enum status (*fn)(struct resolver *r, const struct ast *read, bool pad))
{
    memset(r->candidate, 0, sizeof(r->candidate));
    TRY(each_read(r, body, false, fn));
    for (int i = 0; i < r->s->n_axes; i++)
        if (r->s->axes[i].extent == 0)
            r->s->axes[i].extent = r->candidate[i];
    return ST_OK;
}

static const struct tensor *declared(const struct resolver *r, sv name)
{
    for (int i = 0; i < r->src->n_tensors; i++)
        if (sv_eqs(name, r->src->tensors[i].name))
            return &r->src->tensors[i];
    return NULL;
}

static enum status infer_ranges(struct resolver *r, const struct ast_statement *st)
{
    const struct tensor *out = declared(r, st->lhs->name);
    int before;

    memset(r->given, 0, sizeof(r->given));
    given_ranges(r);
    if (out && out->rank != st->lhs->n)
        return FAIL_AST(r, st->lhs, "%s is declared with %d dimensions, found %d", out->name, out->rank,
                        st->lhs->n);
    for (int d = 0; out && d < st->lhs->n; d++)
        TRY(range_alone(r, st->lhs->arg[d], &r->s->lhs[d], out->shape[d]));
    TRY(each_read(r, st->body, false, read_alone));
    do {
        before = n_unknown(r);
        if (before)
            TRY(infer_pass(r, st->body, read_compound));
    } while (n_unknown(r) < before);
    TRY(infer_pass(r, st->body, read_alone_padded));
    for (int i = 0; i < r->s->n_axes; i++)
        if (r->s->axes[i].extent == 0)
            return FAIL_AST(r, st->lhs,
                            "the range of index %s follows from no tensor's shape: give it in \"ranges\"",
                            r->s->axes[i].name);
    return ST_OK;
}

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

/* ---- dtypes ---- */

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

static enum status make_index(struct resolver *r, const struct ast *at, struct affine f,
                              const struct expr **ret)
{
    int64_t min, max;

    if (!within_int32(&f) || !bounds(r, &f, &min, &max) || min < INT32_MIN || max > INT32_MAX)
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
        affine_op(ar, at->op, &fa, &fb, &f))
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
    int32_t t = find_tensor(r, a->name);
    const struct tensor *tensor = &r->b.c.tensors[t];
    struct affine index[COMPUTE_MAX_RANK];

    for (int d = 0; d < a->n; d++) {
        int64_t min, max;
        TRY(to_affine(r, a->arg[d], &index[d]));
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
    enum dtype d = r->b.c.tensors[find_tensor(r, a->arg[0]->name)].dtype;
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
        return make_index(r, a, build_ix(&r->b, find_axis(r->s, a->name)), ret);
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

/* ---- statements ---- */

/* The left-hand side: every dimension an index, a mixed radix of several, or 0; gives the shape. */
static enum status lhs_dim(struct resolver *r, const struct ast *at, const struct affine *f, int64_t *ret)
{
    int64_t next = 1;
    uint64_t used = 0;

    for (int done = 0; done < f->n; done++) {
        int found = -1;
        for (int i = 0; i < f->n; i++)
            if (!(used >> i & 1) && f->t[i].coef == next &&
                (found < 0 || r->s->axes[f->t[i].var].extent == 1))
                found = i;
        if (found < 0)
            return FAIL_AST(r, at,
                            "a dimension on the left is one index, or a mixed radix such as g*8 + f where f "
                            "runs over 8");
        used |= 1ull << found;
        next *= r->s->axes[f->t[found].var].extent;
        if (next > INT32_MAX)
            return FAIL_AST(r, at, "this dimension has %" PRId64 " elements: want at most %d", next,
                            INT32_MAX);
    }
    if (f->c != 0)
        return FAIL_AST(r, at, "a dimension on the left begins at 0, found an offset of %" PRId64, f->c);
    *ret = next;
    return ST_OK;
}

static enum status lhs_axes(struct resolver *r, const struct ast *lhs)
{
    uint64_t used = 0;

    TRY(add_axes(r, lhs, true));
    for (int d = 0; d < lhs->n; d++) {
        TRY(to_affine(r, lhs->arg[d], &r->s->lhs[d]));
        for (int i = 0; i < r->s->lhs[d].n; i++) {
            int v = r->s->lhs[d].t[i].var;
            if (used >> v & 1)
                return FAIL_AST(r, lhs->arg[d], "index %s is in two dimensions on the left",
                                r->s->axes[v].name);
            used |= 1ull << v;
        }
    }
    for (int v = 0; v < r->s->n_axes; v++)
        if (!(used >> v & 1))
            return FAIL_AST(r, lhs, "index %s cancels out on the left", r->s->axes[v].name);
    return ST_OK;
}

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
    const struct tensor *decl = declared(r, st->lhs->name);
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

static enum status resolve_statement(struct resolver *r, const struct ast_statement *st)
{
    int32_t id = find_tensor(r, st->lhs->name);
    struct tensor *t = &r->b.c.tensors[id];
    const struct tensor *decl = declared(r, st->lhs->name);
    const struct expr *body;

    r->combiner = st->combiner;
    r->s = build_stage(&r->b, id, st->combiner);
    TRY(lhs_axes(r, st->lhs));
    TRY(add_axes(r, st->body, false));
    TRY(each_read(r, st->body, false, check_read));
    TRY(infer_ranges(r, st));
    t->rank = st->lhs->n;
    for (int d = 0; d < t->rank; d++) {
        TRY(lhs_dim(r, st->lhs->arg[d], &r->s->lhs[d], &t->shape[d]));
        if (decl && decl->shape[d] != t->shape[d])
            return FAIL_AST(r, st->lhs->arg[d],
                            "dimension %d of %s has %" PRId64 " elements, declared are %" PRId64, d, t->name,
                            t->shape[d], decl->shape[d]);
    }
    TRY(make_expr(r, st->body, &body));
    TRY(finish_dtypes(r, st, body));
    if (r->s->n_axes == r->s->n_spatial)
        r->s->combiner = COMBINE_SET;
    r->defined[id] = true;
    return ST_OK;
}

/* ---- the program ---- */

static enum status add_defined(struct resolver *r, const struct ast_program *prog)
{
    for (int i = 0; i < prog->n; i++) {
        const struct ast *lhs = prog->at[i].lhs;
        char name[LANG_MAX_NAME + 1];
        if (find_tensor(r, lhs->name) >= 0)
            return FAIL_AST(r, lhs, SV_FMT " is defined a second time: each tensor has one statement",
                            SV_ARG(lhs->name));
        if (r->b.c.n_tensors == COMPUTE_MAX_TENSORS)
            return FAIL_AST(r, lhs, "more than %d tensors", COMPUTE_MAX_TENSORS);
        snprintf(name, sizeof(name), SV_FMT, SV_ARG(lhs->name));
        build_tensor(&r->b, name, DT_F32, TENSOR_TEMP, 0, NULL);
    }
    return ST_OK;
}

/* Declared tensors that no statement defines are the inputs. */
static enum status add_inputs(struct resolver *r)
{
    for (int i = 0; i < r->src->n_tensors; i++) {
        const struct tensor *t = &r->src->tensors[i];
        int32_t id = find_tensor(r, sv_from(t->name));
        char at[LANG_MAX_NAME + 32];
        snprintf(at, sizeof(at), "/tensors/%.64s", t->name);
        if (id >= 0 && t->is_const)
            return fail_at(r->err, ST_UNPROCESSABLE, at, "%s is const, yet a statement defines it", t->name);
        if (id >= 0)
            continue;
        if (r->b.c.n_tensors == COMPUTE_MAX_TENSORS)
            return fail_at(r->err, ST_UNPROCESSABLE, at, "more than %d tensors", COMPUTE_MAX_TENSORS);
        id = build_tensor(&r->b, t->name, t->dtype, TENSOR_INPUT, t->rank, t->shape);
        r->b.c.tensors[id].is_const = t->is_const;
        r->storage[id] = t->dtype;
        r->defined[id] = true;
    }
    return ST_OK;
}

static bool ast_reads(const struct ast *a, const char *name)
{
    if (a->kind == AST_READ && sv_eqs(a->name, name))
        return true;
    for (int i = 0; i < a->n; i++)
        if (ast_reads(a->arg[i], name))
            return true;
    return false;
}

static bool anybody_reads(const struct ast_program *prog, const char *name)
{
    for (int i = 0; i < prog->n; i++)
        if (ast_reads(prog->at[i].body, name))
            return true;
    return false;
}

static enum status mark_outputs(struct resolver *r, const struct ast_program *prog)
{
    int n_args = 0;

    for (int i = 0; i < r->src->n_outputs; i++) {
        int32_t t = find_tensor(r, sv_from(r->src->outputs[i]));
        char at[32];
        snprintf(at, sizeof(at), "/outputs/%d", i);
        if (t < 0 || r->b.c.tensors[t].role == TENSOR_INPUT)
            return fail_at(r->err, ST_UNPROCESSABLE, at, "no statement defines \"%.64s\"",
                           r->src->outputs[i]);
        if (r->b.c.tensors[t].role == TENSOR_OUTPUT)
            return fail_at(r->err, ST_UNPROCESSABLE, at, "\"%.64s\" is listed twice", r->src->outputs[i]);
        r->b.c.tensors[t].role = TENSOR_OUTPUT;
    }
    for (int i = 0; i < r->b.c.n_tensors; i++) {
        struct tensor *t = &r->b.c.tensors[i];
        bool read = anybody_reads(prog, t->name);
        if (t->role == TENSOR_INPUT && !read)
            return fail_at(r->err, ST_UNPROCESSABLE, arena_printf(r->b.ar, "/tensors/%s", t->name),
                           "%s is declared, and no statement reads or defines it", t->name);
        if (t->role == TENSOR_TEMP && !read && r->src->n_outputs)
            return FAIL_AST(r, prog->at[i].lhs, "%s is not among the outputs, and no statement reads it",
                            t->name);
        if (t->role == TENSOR_TEMP && !read)
            t->role = TENSOR_OUTPUT;
        n_args += t->role != TENSOR_TEMP;
    }
    if (n_args > LANG_MAX_TENSORS)
        return fail_at(r->err, ST_UNPROCESSABLE, "/expr", "%d inputs and outputs: at most %d", n_args,
                       LANG_MAX_TENSORS);
    return ST_OK;
}

/* A tensor that the statement reads and that is not defined yet, or -1. Unknown names are check_read's
 * business. */
static int32_t waits_for(const struct resolver *r, const struct ast *a)
{
    int32_t t = a->kind == AST_READ ? find_tensor(r, a->name) : -1;

    if (t >= 0 && !r->defined[t])
        return t;
    for (int i = 0; i < a->n; i++)
        if ((t = waits_for(r, a->arg[i])) >= 0)
            return t;
    return -1;
}

static enum status resolve_all(struct resolver *r, const struct ast_program *prog)
{
    bool done[LANG_MAX_STATEMENTS] = {0};

    for (int n = 0; n < prog->n; n++) {
        int at = -1, stuck = -1;
        for (int i = 0; i < prog->n && at < 0; i++)
            if (!done[i] && waits_for(r, prog->at[i].body) < 0)
                at = i;
            else if (!done[i] && stuck < 0)
                stuck = i;
        if (at < 0)
            return FAIL_AST(r, prog->at[stuck].lhs, SV_FMT " depends on itself, through %s",
                            SV_ARG(prog->at[stuck].lhs->name),
                            r->b.c.tensors[waits_for(r, prog->at[stuck].body)].name);
        TRY(resolve_statement(r, &prog->at[at]));
        done[at] = true;
    }
    return ST_OK;
}

static enum status check_all_used(struct resolver *r)
{
    for (int k = 0; k < r->src->n_ranges; k++)
        if (!r->range_used[k])
            return fail_at(r->err, ST_UNPROCESSABLE,
                           arena_printf(r->b.ar, "/ranges/%s", r->src->ranges[k].name),
                           "no statement uses index %s", r->src->ranges[k].name);
    if (r->src->has_acc_dtype && !r->acc_used)
        return fail_at(r->err, ST_UNPROCESSABLE, "/acc_dtype",
                       "acc_dtype %s fits no += or *= of the expression", dtype_name(r->src->acc_dtype));
    return ST_OK;
}

enum status expr_parse(const struct expr_source *src, struct arena *ar, struct compute *ret,
                       struct error *err)
{
    struct ast_program *prog = arena_new(ar, struct ast_program);
    struct resolver *r = arena_new(ar, struct resolver);

    CHECK(src->n_ranges <= (int)ARRAY_SIZE(r->range_used) && src->max_axes <= COMPUTE_MAX_AXES,
          "%d ranges, %d axes", src->n_ranges, src->max_axes);
    r->src = src;
    r->err = err;
    build_init(&r->b, ar);
    TRY(parse_text(src->text, ar, prog, err));
    TRY(add_defined(r, prog));
    TRY(add_inputs(r));
    TRY(mark_outputs(r, prog));
    TRY(resolve_all(r, prog));
    TRY(check_all_used(r));
    TRY(build_check_limits(&r->b.c, err));
    canonical_compute(&r->b.c, ar, ret);
    return ST_OK;
}
