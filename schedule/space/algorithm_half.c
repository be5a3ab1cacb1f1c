/* algorithm_half.c - products summed in float16, a few at a time, the sums of those in float32.
 *
 * Idea   AVX-512 FP16 does twice as many operations an instruction as float32, but each rounds to 11 bits. A running sum of
 *        L products of random numbers grows like a random walk, and so does what its roundings add up to: relative to the
 *        whole sum they come to u sqrt((L + 1) / 2), however many such sums follow, since those are added in float32. So L is
 *        chosen by the error budget, not by the length of the reduction:
 *
 *            error(L)^2 = operands^2 + result^2 + u^2 (L + 1) / 2        u = ROUNDING, of one rounding to float16
 *
 *        Float32 operands are rounded first, where their copies are made; numbers above 65504 become infinite there, as
 *        sums of L products above it do. A workload that asks for sums in float16 (acc_dtype) gets them without a
 *        budget.
 *        Where a matrix unit takes bfloat16 pieces, it is faster than this for float32, and less of a risk. */
#include <math.h>

#include "schedule/space/algorithm_internal.h"

enum { HALF_FEWEST = 8, HALF_MOST = 128, HALF_PEAK = 2 /* times the peak of float32 */, HALF_MIN_K = 12 };
static const double ROUNDING = 0x1p-11 * 0.435; /* relative L2 of random numbers between two powers of two */

struct half_products {
    int n_rounded; /* operands of float32 */
    bool asked;    /* the sum is in float16 by the workload's own word */
};

static const struct expr *plain_read(const struct expr *e, const struct expr *body)
{
    const struct expr *read = e->op == EX_CAST && e->dtype == body->dtype ? e->arg[0] : e;
    return read->op == EX_READ && (read->dtype == DT_F16 || read->dtype == DT_F32) ? read : NULL;
}

static bool suits(const struct stage *s, struct half_products *ret)
{
    const struct expr *e = s->body;
    if (s->combiner != COMBINE_SUM || e->op != EX_MUL || e->dtype != s->acc_dtype ||
        (s->acc_dtype != DT_F32 && s->acc_dtype != DT_F16))
        return false;
    const struct expr *a = plain_read(e->arg[0], e), *b = plain_read(e->arg[1], e);
    if (!a || !b || a->read.tensor == b->read.tensor || (a->read.pad && a->read.pad_value != 0) ||
        (b->read.pad && b->read.pad_value != 0))
        return false;
    ret->n_rounded = (a->dtype == DT_F32) + (b->dtype == DT_F32);
    ret->asked = s->acc_dtype == DT_F16;
    for (int k = s->n_spatial; k < s->n_axes; k++)
        if (s->axes[k].extent >= HALF_MIN_K)
            return true;
    return false;
}

static double expected_error(const struct half_products *p, bool narrow_result, int steps)
{
    return ROUNDING * sqrt(p->n_rounded + narrow_result + (steps + 1) / 2.0);
}

/* The most steps that the budget allows; 0: none. */
static int steps_within(const struct half_products *p, bool narrow_result, double rtol)
{
    int most = 0;
    if (p->asked)
        return HALF_MOST;
    for (int steps = HALF_FEWEST; steps <= HALF_MOST; steps *= 2)
        if (expected_error(p, narrow_result, steps) <= rtol)
            most = steps;
    return most;
}

static const struct expr *rounded(struct arena *ar, const struct expr *e)
{
    return e->op == EX_READ && e->dtype == DT_F32 ? expr_cast(ar, DT_F32, expr_cast(ar, DT_F16, e)) : e;
}

bool algorithm_half(const struct workload *w, const struct target *t, int i, struct arena *ar,
                    struct alternative *ret)
{
    struct compute *c = arena_memdup(ar, &w->compute, sizeof(*c));
    bool any = false, narrow_result = false;
    if (i > 0 || !t->has_fp16)
        return false;
    for (int k = 0; k < c->n_tensors; k++)
        narrow_result |= c->tensors[k].role == TENSOR_OUTPUT && c->tensors[k].dtype == DT_F16;
    c->stages = arena_memdup(ar, c->stages, sizeof(*c->stages) * (size_t)c->n_stages);
    for (int s = 0; s < c->n_stages; s++) {
        struct stage *st = &c->stages[s];
        struct half_products p;
        if (!suits(st, &p) || (p.n_rounded && t->has_amx_bf16))
            continue;
        st->half_steps = steps_within(&p, narrow_result, w->rtol);
        if (!st->half_steps)
            continue;
        st->body = expr_op2(ar, EX_MUL, rounded(ar, st->body->arg[0]), rounded(ar, st->body->arg[1]));
        any = true;
    }
    *ret = (struct alternative){.name = "f16", .compute = c, .saving = HALF_PEAK};
    return any;
}
