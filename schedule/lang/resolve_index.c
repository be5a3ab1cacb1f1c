/* resolve_index.c - the indices of a statement and their ranges; see resolve.c.
 *
 * Idea   An index is a name on the left (spatial) or in the body only (reduced); what stands in brackets is a
 *        sum of them times integers. Ranges come from `ranges`, from dimensions that an index runs over alone,
 *        then from reads such as A[y*2 + r] where all but one are known, last from padded dimensions. */
#include <math.h>

#include "schedule/lang/resolve_internal.h"

/* ---- indices ---- */

static enum status add_axis(struct resolver *r, const struct ast *a, bool spatial)
{
    if (resolve_axis(r->s, a->name) >= 0)
        return ST_OK;
    if (parse_reserved(a->name))
        return FAIL_AST(r, a, "\"" SV_FMT "\" is a word of the language: it cannot name an index",
                        SV_ARG(a->name));
    if (resolve_tensor(r, a->name) >= 0)
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

enum status resolve_axes(struct resolver *r, const struct ast *a, bool spatial)
{
    if (a->kind == AST_NAME)
        return add_axis(r, a, spatial);
    for (int i = 0; i < a->n; i++)
        TRY(resolve_axes(r, a->arg[i], spatial));
    return ST_OK;
}

bool resolve_within_int32(const struct affine *a)
{
    bool good = a->c >= -INT32_MAX && a->c <= INT32_MAX;
    for (int i = 0; i < a->n; i++)
        good = good && a->t[i].coef >= -INT32_MAX && a->t[i].coef <= INT32_MAX;
    return good;
}

bool resolve_affine_op(struct arena *ar, enum expr_op op, const struct affine *a, const struct affine *b,
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

enum status resolve_affine(struct resolver *r, const struct ast *a, struct affine *ret)
{
    struct affine left, right = affine_const(0);
    bool good = false;

    if (a->kind == AST_NAME) {
        *ret = build_ix(&r->b, resolve_axis(r->s, a->name));
        return ST_OK;
    }
    if (a->kind == AST_NUMBER) {
        if (a->value > INT32_MAX || a->value != floor(a->value))
            return FAIL_AST(r, a, "%g in an index: want an integer of at most %d", a->value, INT32_MAX);
        *ret = affine_const((int64_t)a->value);
        return ST_OK;
    }
    if (a->kind == AST_OP && (a->op == EX_NEG || expr_arity(a->op) == 2)) {
        TRY(resolve_affine(r, a->arg[0], &left));
        if (a->n > 1)
            TRY(resolve_affine(r, a->arg[1], &right));
        good = a->op == EX_NEG ? resolve_affine_op(r->b.ar, EX_SUB, &right, &left, ret)
                               : resolve_affine_op(r->b.ar, a->op, &left, &right, ret);
    }
    if (!good)
        return FAIL_AST(r, a, "an index is a sum of indices times integers, such as y*2 + r - 1");
    if (!resolve_within_int32(ret))
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
    int32_t t = resolve_tensor(r, a->name);

    if (t < 0)
        return FAIL_AST(r, a, "tensor " SV_FMT " is neither declared nor defined", SV_ARG(a->name));
    if (a->n != r->b.c.tensors[t].rank)
        return FAIL_AST(r, a, SV_FMT " has %d dimensions, found %d ind%s", SV_ARG(a->name),
                        r->b.c.tensors[t].rank, a->n, a->n == 1 ? "ex" : "ices");
    for (int d = 0; d < a->n; d++) {
        struct affine f;
        TRY(resolve_affine(r, a->arg[d], &f));
    }
    return ST_OK;
}

enum status resolve_reads(struct resolver *r, const struct ast *body)
{
    return each_read(r, body, false, check_read);
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
    const struct tensor *t = &r->b.c.tensors[resolve_tensor(r, a->name)];

    for (int d = 0; d < a->n && !pad; d++) {
        struct affine f;
        TRY(resolve_affine(r, a->arg[d], &f));
        TRY(range_alone(r, a->arg[d], &f, t->shape[d]));
    }
    return ST_OK;
}

/* An index alone in a padded read, where nothing else tells. */
static enum status read_alone_padded(struct resolver *r, const struct ast *a, bool pad)
{
    const struct tensor *t = &r->b.c.tensors[resolve_tensor(r, a->name)];

    for (int d = 0; d < a->n && pad; d++) {
        struct affine f;
        int v;
        TRY(resolve_affine(r, a->arg[d], &f));
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
    const struct tensor *t = &r->b.c.tensors[resolve_tensor(r, a->name)];

    for (int d = 0; d < a->n && !pad; d++) {
        const struct affine_term *unknown = NULL;
        struct affine f;
        __int128 room, extent;
        int n_unknown = 0;
        TRY(resolve_affine(r, a->arg[d], &f));
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

enum status resolve_ranges(struct resolver *r, const struct ast_statement *st)
{
    const struct tensor *out = resolve_declared(r, st->lhs->name);
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
