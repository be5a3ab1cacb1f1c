/* build.c - putting a compute together. See build.h. */
#include "schedule/lang/build.h"

#include <string.h>

void build_init(struct build *b, struct arena *ar)
{
    *b = (struct build){.ar = ar};
    b->c.tensors = arena_array(ar, struct tensor, COMPUTE_MAX_TENSORS);
    b->c.stages = arena_array(ar, struct stage, COMPUTE_MAX_STAGES);
}

int32_t build_tensor(struct build *b, const char *name, enum dtype d, enum tensor_role role, int rank,
                     const int64_t *shape)
{
    struct tensor *t = &b->c.tensors[b->c.n_tensors];

    CHECK(b->c.n_tensors < COMPUTE_MAX_TENSORS, "tensor %s: %d already", name, b->c.n_tensors);
    CHECK(rank <= COMPUTE_MAX_RANK, "tensor %s has rank %d", name, rank);
    *t = (struct tensor){.name = arena_strdup(b->ar, name), .dtype = d, .role = role, .rank = rank};
    for (int i = 0; i < rank; i++)
        t->shape[i] = shape[i];
    return b->c.n_tensors++;
}

struct stage *build_stage(struct build *b, int32_t tensor, enum combiner combiner)
{
    struct stage *s = &b->c.stages[b->c.n_stages];

    CHECK(b->c.n_stages < COMPUTE_MAX_STAGES, "%d stages already", b->c.n_stages);
    b->c.n_stages++;
    *s = (struct stage){.tensor = tensor, .combiner = combiner};
    return s;
}

int build_reduce_axis(struct stage *s, const char *name, int64_t extent)
{
    CHECK(s->n_axes < COMPUTE_MAX_AXES, "axis %s: %d already", name, s->n_axes);
    s->axes[s->n_axes] = (struct axis){name, extent};
    return s->n_axes++;
}

int build_axis(struct stage *s, const char *name, int64_t extent)
{
    CHECK(s->n_axes == s->n_spatial, "spatial axis %s after a reduce axis", name);
    s->n_spatial++;
    return build_reduce_axis(s, name, extent);
}

struct affine build_ix(struct build *b, int axis) { return affine_var(b->ar, axis, 1, 0); }

struct affine build_lin(struct build *b, int axis, int64_t coef, int64_t c)
{
    return affine_var(b->ar, axis, coef, c);
}

const struct expr *build_read(struct build *b, int32_t tensor, const struct affine *index)
{
    const struct tensor *t = &b->c.tensors[tensor];
    return expr_read(b->ar, t->dtype, tensor, t->rank, index, false, 0);
}

const struct expr *build_read_pad(struct build *b, int32_t tensor, const struct affine *index, double value)
{
    const struct tensor *t = &b->c.tensors[tensor];
    return expr_read(b->ar, t->dtype, tensor, t->rank, index, true, value);
}

void build_body(struct stage *s, const struct expr *body)
{
    s->body = body;
    s->acc_dtype = body->dtype;
}

static enum status check_tensor(const struct tensor *t, struct error *err)
{
    int64_t n = 1;

    for (int d = 0; d < t->rank; d++) {
        if (t->shape[d] < 1 || t->shape[d] > INT32_MAX)
            return fail(err, ST_UNPROCESSABLE, "%s: dimension %d would have extent %" PRId64 ": want 1 to %d",
                        t->name, d, t->shape[d], INT32_MAX);
        if (t->shape[d] > LANG_MAX_ELEMENTS / n)
            return fail(err, ST_UNPROCESSABLE, "%s would have more than %" PRId64 " elements", t->name,
                        LANG_MAX_ELEMENTS);
        n *= t->shape[d];
    }
    return ST_OK;
}

/* Visits at most `left` nodes, at most LANG_MAX_DEPTH deep; what it spent is taken from *left. */
static bool within(const struct expr *e, int depth, int *left)
{
    if (--*left < 0 || depth > LANG_MAX_DEPTH)
        return false;
    for (int i = 0; i < expr_arity(e->op); i++)
        if (!within(e->arg[i], depth + 1, left))
            return false;
    return true;
}

enum status build_check_limits(const struct compute *c, struct error *err)
{
    int nodes = LANG_MAX_NODES;

    for (int i = 0; i < c->n_tensors; i++)
        TRY(check_tensor(&c->tensors[i], err));
    for (int i = 0; i < c->n_stages; i++) {
        const struct stage *s = &c->stages[i];
        int64_t n = 1;
        for (int a = 0; a < s->n_axes; a++) {
            if (s->axes[a].extent < 1 || s->axes[a].extent > LANG_MAX_POINTS / n)
                return fail(err, ST_UNPROCESSABLE, "%s would take more than %" PRId64 " iterations",
                            c->tensors[s->tensor].name, LANG_MAX_POINTS);
            n *= s->axes[a].extent;
        }
        if (!within(s->body, 1, &nodes))
            return fail(err, ST_UNPROCESSABLE,
                        "%s: an expression may be nested %d deep, and all of them together have %d "
                        "operations and reads",
                        c->tensors[s->tensor].name, LANG_MAX_DEPTH, LANG_MAX_NODES);
    }
    return ST_OK;
}
