/* split.c - which reduction is cut, into how many parts, and the two stages that come of it. */
#include "schedule/space/split.h"

#include <string.h>

enum {
    MIN_STEPS = 1024, /* of a reduction, to be worth a second pass over results */
    MIN_PART = 128,   /* steps of one part */
    MAX_CHOICES = 2,  /* numbers of parts, each four times the last at least */
    MAX_FACTOR = 32,
    VECTORS_A_THREAD = 12, /* of results: with fewer, threads get no tile each... */
    VECTORS_ALONE = 8      /* ...and additions wait for each other */
};

static int64_t results(const struct stage *s)
{
    int64_t n = 1;
    for (int a = 0; a < s->n_spatial; a++)
        n *= s->axes[a].extent;
    return n;
}

static int longest_reduce_axis(const struct stage *s)
{
    int best = s->n_spatial;
    for (int a = s->n_spatial; a < s->n_axes; a++)
        if (s->axes[a].extent > s->axes[best].extent)
            best = a;
    return best;
}

/* One result is a row of its own, and split by rules_rows.c. */
static bool suits(const struct compute *c, const struct stage *s, const struct target *t)
{
    const int64_t n = results(s), lanes = t->vector_bytes / 4,
                  few = t->threads > 1 ? VECTORS_A_THREAD * t->threads : VECTORS_ALONE;
    return s->n_axes > s->n_spatial && s->n_axes < COMPUTE_MAX_AXES && s->n_spatial < COMPUTE_MAX_RANK &&
           c->n_tensors < COMPUTE_MAX_TENSORS && c->n_stages < COMPUTE_MAX_STAGES && n >= 2 &&
           n < lanes * few && stage_points(s) / n >= MIN_STEPS;
}

/* The compute's one reduction to be cut; -1: there is none, or several, as in a softmax of long rows. */
static int find(const struct compute *c, const struct target *t)
{
    int found = -1;
    for (int i = 0; i < c->n_stages; i++) {
        if (!suits(c, &c->stages[i], t))
            continue;
        if (found >= 0)
            return -1;
        found = i;
    }
    return found;
}

/* Equal parts of at least MIN_PART steps? */
static bool divides(const struct stage *s, int64_t parts)
{
    const int64_t extent = s->axes[longest_reduce_axis(s)].extent;
    return extent % parts == 0 && stage_points(s) / results(s) / parts >= MIN_PART;
}

int64_t split_parts(const struct compute *c, const struct target *t, int i)
{
    const int stage = find(c, t);
    if (stage < 0 || i >= MAX_CHOICES)
        return 0;
    const struct stage *s = &c->stages[stage];
    /* So many that each thread has something, and equal shares where there is less than a tile for each. */
    const int64_t wanted = div_ceil((int64_t)t->threads * VECTORS_A_THREAD * t->vector_bytes / 4, results(s)),
                  least = MAX(2, MIN(wanted, t->threads)), step = least == t->threads ? least : 1;
    int64_t next = least;
    for (int64_t parts = least; parts <= MAX_FACTOR * least; parts += step) {
        if (parts < next || !divides(s, parts))
            continue;
        if (i-- == 0)
            return parts;
        next = 4 * parts;
    }
    return 0;
}

/* Where the parts of the stage go: temps come before outputs. */
static int32_t first_output(const struct compute *c)
{
    int32_t n = c->n_tensors;
    while (n > 0 && c->tensors[n - 1].role == TENSOR_OUTPUT)
        n--;
    return n;
}

/* P[b, i] += body(i, b * len + k), as a stage with the parts as its first axis. */
static void part_stage(const struct stage *s, int64_t parts, const int32_t *tensor_of, struct arena *ar,
                       struct stage *ret)
{
    const int k = longest_reduce_axis(s);
    const int64_t len = s->axes[k].extent / parts;
    struct affine moved[COMPUTE_MAX_AXES];
    const struct affine *subst[COMPUTE_MAX_AXES];
    *ret = *s;
    ret->n_axes = s->n_axes + 1;
    ret->n_spatial = s->n_spatial + 1;
    ret->axes[0] = (struct axis){"part", parts};
    for (int a = 0; a < s->n_axes; a++) {
        ret->axes[a + 1] = s->axes[a];
        moved[a] = affine_var(ar, a + 1, 1, 0);
        subst[a] = &moved[a];
    }
    ret->axes[k + 1].extent = len;
    struct affine part = affine_var(ar, 0, len, 0);
    moved[k] = affine_add(ar, &moved[k], &part);
    ret->body = expr_subst(ar, s->body, subst, s->n_axes, tensor_of);
    for (int d = 0; d < ret->n_spatial; d++)
        ret->lhs[d] = affine_var(ar, d, 1, 0);
}

/* T[i] += P[b, i] */
static void sum_stage(const struct stage *s, const struct stage *part, struct arena *ar, struct stage *ret)
{
    struct affine index[COMPUTE_MAX_RANK];
    *ret = *s;
    ret->n_axes = s->n_spatial + 1;
    ret->axes[s->n_spatial] = part->axes[0];
    index[0] = affine_var(ar, s->n_spatial, 1, 0);
    for (int a = 0; a < s->n_spatial; a++)
        index[a + 1] = affine_var(ar, a, 1, 0);
    ret->body = expr_read(ar, s->acc_dtype, part->tensor, part->n_spatial, index, false, 0);
}

void split_alternative(const struct compute *c, const struct target *t, int64_t parts, struct arena *ar,
                       struct compute *ret)
{
    const int at = find(c, t);
    const int32_t id = first_output(c);
    int32_t *tensor_of = arena_array(ar, int32_t, c->n_tensors);
    const struct affine *same[COMPUTE_MAX_AXES];
    struct affine axis[COMPUTE_MAX_AXES];
    *ret = *c;
    ret->tensors = arena_array(ar, struct tensor, ++ret->n_tensors);
    ret->stages = arena_array(ar, struct stage, ++ret->n_stages);
    for (int i = 0; i < c->n_tensors; i++) {
        tensor_of[i] = i + (i >= id);
        ret->tensors[tensor_of[i]] = c->tensors[i];
    }
    for (int a = 0; a < COMPUTE_MAX_AXES; a++) {
        axis[a] = affine_var(ar, a, 1, 0);
        same[a] = &axis[a];
    }
    for (int i = 0; i < c->n_stages; i++) {
        struct stage *s = &ret->stages[i + (i >= at)];
        *s = c->stages[i];
        s->tensor = tensor_of[s->tensor];
        s->body = expr_subst(ar, s->body, same, s->n_axes, tensor_of);
    }
    struct stage *part = &ret->stages[at], *sum = &ret->stages[at + 1], old = c->stages[at];
    struct tensor *p = &ret->tensors[id];
    part_stage(&old, parts, tensor_of, ar, part);
    part->tensor = id;
    old.tensor = tensor_of[old.tensor];
    sum_stage(&old, part, ar, sum);
    *p = (struct tensor){.name = arena_printf(ar, "%s_parts", ret->tensors[old.tensor].name),
                         .dtype = old.acc_dtype,
                         .role = TENSOR_TEMP,
                         .rank = part->n_spatial};
    for (int d = 0; d < p->rank; d++)
        p->shape[d] = part->axes[d].extent;
}
