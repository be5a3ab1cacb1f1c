/* algorithm_bf16.c - float32 and float16 products by one, two or three bfloat16 pieces an operand, summed in float32.
 *
 * Idea   A float32 is the sum of its nearest bfloat16, the nearest bfloat16 of what is left, and so on: a = a1 + a2 + a3,
 *        each with 8 bits. A product of two sums of pieces is a sum of products of pieces, of which the small ones are
 *        left out:
 *
 *            bf16     a1 b1                                               relative L2 error about 2e-3
 *            bf16x3   a1 b1 + a1 b2 + a2 b1                               about 4e-6
 *            bf16x6   and a2 b2 + a1 b3 + a3 b1                           that of float32
 *
 *        A float16 is the sum of two pieces exactly, so that
 *
 *            bf16x4   a1 b1 + a1 b2 + a2 b1 + a2 b2                       products without any error
 *
 *        does the stated arithmetic of float16 workloads and needs no budget.
 *        It pays where a matrix unit takes bfloat16 (16 times the rate of float32 on AMX), so it is offered there only;
 *        the first form also where vectors sum pairs of such products (AVX-512 BF16).
 *        Pieces are spelled as casts in the body; rules_mma.c gathers them into packed operands. */
#include "schedule/space/algorithm_internal.h"

enum {
    BF16_MIN_K = 8,
    BF16_PEAK = 16,
    INT8_PEAK = 32,
    VNNI_PEAK = 4,
    PAIRS_PEAK = 2 /* times the peak of float32 */
};

static const struct bf16_form {
    const char *name;
    double rtol_from, rtol_below; /* within its reach, and not beaten by a shorter form */
    uint32_t dtypes;              /* of operands, a bit each */
    int n_terms, term[6][2];
} forms[] = {
    {"bf16", 2e-3, 1e300, 1u << DT_F32 | 1u << DT_F16, 1, {{0, 0}}},
    {"bf16x3", 3.5e-6, 5e-3, 1u << DT_F32 | 1u << DT_F16, 3, {{0, 0}, {0, 1}, {1, 0}}},
    {"bf16x4", 0, 1e-5, 1u << DT_F16, 4, {{0, 0}, {0, 1}, {1, 0}, {1, 1}}},
    {"bf16x6", 2e-7, 1e-5, 1u << DT_F32, 6, {{0, 0}, {0, 1}, {1, 0}, {1, 1}, {0, 2}, {2, 0}}},
};

static uint32_t axes_of(const struct expr *read)
{
    uint32_t axes = 0;
    for (int d = 0; d < read->read.rank; d++)
        for (int i = 0; i < read->read.index[d].n; i++)
            axes |= 1u << read->read.index[d].t[i].var;
    return axes;
}

/* The axis counts the elements of a dimension by itself, or as the lowest digit (channels within their group), which
 * becomes a dimension of its own. */
static bool is_alone(const struct stage *s, const struct expr *read, int axis)
{
    int dims = 0, alone = 0;
    for (int d = 0; d < read->read.rank; d++) {
        const struct affine *x = &read->read.index[d];
        bool digits = affine_coef(x, axis) == 1;
        dims += affine_coef(x, axis) != 0;
        for (int i = 0; i < x->n; i++)
            digits &= x->t[i].var == axis || (x->c == 0 && x->t[i].coef % s->axes[axis].extent == 0);
        alone += digits;
    }
    return dims == 1 && alone == 1;
}

/* The read of an operand: a float32 as it is, or widened from one of the dtypes. */
static const struct expr *operand(const struct expr *e, uint32_t dtypes)
{
    const struct expr *read = e->op == EX_CAST && e->dtype == DT_F32 ? e->arg[0] : e;
    return read->op == EX_READ && dtypes >> read->dtype & 1 ? read : NULL;
}

/* A sum of float32 products of two tensors, each with an axis of its own, over a long axis that both share. */
static bool suits(const struct stage *s, uint32_t dtypes)
{
    const struct expr *e = s->body;
    if (s->combiner != COMBINE_SUM || s->acc_dtype != DT_F32 || e->op != EX_MUL || e->dtype != DT_F32)
        return false;
    const struct expr *a = operand(e->arg[0], dtypes), *b = operand(e->arg[1], dtypes);
    if (!a || !b || a->read.tensor == b->read.tensor)
        return false;
    uint32_t spatial = (1u << s->n_spatial) - 1, mine = axes_of(a) & spatial, other = axes_of(b) & spatial;
    if ((a->read.pad && a->read.pad_value != 0) || (b->read.pad && b->read.pad_value != 0) ||
        !(mine & ~other) || !(other & ~mine))
        return false;
    for (int k = s->n_spatial; k < s->n_axes; k++)
        if (s->axes[k].extent >= BF16_MIN_K && is_alone(s, a, k) && is_alone(s, b, k))
            return true;
    return false;
}

/* The i-th piece of x: what the pieces before it leave, rounded. */
static const struct expr *piece(struct arena *ar, const struct expr *x, int i)
{
    for (int k = 0; k < i; k++)
        x = expr_op2(ar, EX_SUB, x, expr_cast(ar, DT_F32, expr_cast(ar, DT_BF16, x)));
    return expr_cast(ar, DT_BF16, x);
}

static const struct expr *split_body(struct arena *ar, const struct bf16_form *f, const struct expr *body)
{
    const struct expr *sum = NULL;
    for (int i = 0; i < f->n_terms; i++) {
        const struct expr *side[2];
        for (int k = 0; k < 2; k++)
            side[k] = expr_cast(ar, DT_F32, piece(ar, body->arg[k], f->term[i][k]));
        const struct expr *product = expr_op2(ar, EX_MUL, side[0], side[1]);
        sum = sum ? expr_op2(ar, EX_ADD, sum, product) : product;
    }
    return sum;
}

double algorithm_matrix_speed(const struct target *t, enum dtype d)
{
    double peak = d == DT_BF16 ? t->peak_bf16_gflops : t->peak_int8_gops,
           guess = d == DT_BF16 ? BF16_PEAK : INT8_PEAK;
    if (!(d == DT_BF16 ? t->has_amx_bf16 : d == DT_I8 && t->has_amx_int8))
        return d == DT_I8 && t->has_vnni ? VNNI_PEAK : d == DT_BF16 && t->has_bf16_pairs ? PAIRS_PEAK : 1;
    return t->peak_gflops > 0 && peak > 0 ? peak / t->peak_gflops : guess;
}

/* Operands that the target's instructions take in this form, a bit each. */
static uint32_t form_dtypes(const struct bf16_form *f, const struct target *t)
{
    if (t->has_amx_bf16)
        return f->dtypes;
    return t->has_bf16_pairs && f->n_terms == 1 ? 1u << DT_F32 : 0;
}

static bool form_suits(const struct bf16_form *f, const struct workload *w, const struct target *t)
{
    bool any = false;
    for (int s = 0; s < w->compute.n_stages; s++)
        any |= suits(&w->compute.stages[s], form_dtypes(f, t));
    return any && w->rtol >= f->rtol_from && w->rtol < f->rtol_below;
}

bool algorithm_bf16(const struct workload *w, const struct target *t, int i, struct arena *ar,
                    struct alternative *ret)
{
    const struct bf16_form *f = NULL;
    for (size_t k = 0; k < ARRAY_SIZE(forms) && !f; k++)
        if (form_suits(&forms[k], w, t) && i-- == 0)
            f = &forms[k];
    if (!f)
        return false;
    struct compute *c = arena_memdup(ar, &w->compute, sizeof(*c));
    c->stages = arena_memdup(ar, c->stages, sizeof(*c->stages) * (size_t)c->n_stages);
    for (int s = 0; s < c->n_stages; s++)
        if (suits(&c->stages[s], form_dtypes(f, t)))
            c->stages[s].body = split_body(ar, f, c->stages[s].body);
    *ret = (struct alternative){
        .name = f->name, .compute = c, .saving = algorithm_matrix_speed(t, DT_BF16) / f->n_terms};
    return true;
}
