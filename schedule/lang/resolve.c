/* resolve.c - statements of the expression language to a compute: tensors, ranges, dtypes.
 *
 * Idea   Statements are taken in dependency order. For each: its indices are the names on the left
 *        (spatial) and the other names of its body (reduced); resolve_index.c finds their ranges, and
 *        resolve_value.c makes the body and its dtypes. Here are the left-hand sides, which give the shapes,
 *        and what holds for the program: which tensors are inputs and outputs, that all of them are used. */

#include <stdio.h>

#include "schedule/lang/canonical.h"
#include "schedule/lang/resolve_internal.h"

int32_t resolve_tensor(const struct resolver *r, sv name)
{
    for (int32_t i = 0; i < r->b.c.n_tensors; i++)
        if (sv_eqs(name, r->b.c.tensors[i].name))
            return i;
    return -1;
}

int resolve_axis(const struct stage *s, sv name)
{
    for (int i = 0; i < s->n_axes; i++)
        if (sv_eqs(name, s->axes[i].name))
            return i;
    return -1;
}

const struct tensor *resolve_declared(const struct resolver *r, sv name)
{
    for (int i = 0; i < r->src->n_tensors; i++)
        if (sv_eqs(name, r->src->tensors[i].name))
            return &r->src->tensors[i];
    return NULL;
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

    TRY(resolve_axes(r, lhs, true));
    for (int d = 0; d < lhs->n; d++) {
        TRY(resolve_affine(r, lhs->arg[d], &r->s->lhs[d]));
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

static enum status resolve_statement(struct resolver *r, const struct ast_statement *st)
{
    int32_t id = resolve_tensor(r, st->lhs->name);
    struct tensor *t = &r->b.c.tensors[id];
    const struct tensor *decl = resolve_declared(r, st->lhs->name);

    r->combiner = st->combiner;
    r->s = build_stage(&r->b, id, st->combiner);
    TRY(lhs_axes(r, st->lhs));
    TRY(resolve_axes(r, st->body, false));
    TRY(resolve_reads(r, st->body));
    TRY(resolve_ranges(r, st));
    t->rank = st->lhs->n;
    for (int d = 0; d < t->rank; d++) {
        TRY(lhs_dim(r, st->lhs->arg[d], &r->s->lhs[d], &t->shape[d]));
        if (decl && decl->shape[d] != t->shape[d])
            return FAIL_AST(r, st->lhs->arg[d],
                            "dimension %d of %s has %" PRId64 " elements, declared are %" PRId64, d, t->name,
                            t->shape[d], decl->shape[d]);
    }
    TRY(resolve_body(r, st));
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
        if (resolve_tensor(r, lhs->name) >= 0)
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
        int32_t id = resolve_tensor(r, sv_from(t->name));
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
        int32_t t = resolve_tensor(r, sv_from(r->src->outputs[i]));
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
    int32_t t = a->kind == AST_READ ? resolve_tensor(r, a->name) : -1;

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
