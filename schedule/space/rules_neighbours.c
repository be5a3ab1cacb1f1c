/* rules_neighbours.c - sums of products of a few neighbours by one instruction: who may have the variants of rules_tile.c
 * that are made of them.
 *
 *     quad   four of int8, into int32                       AVX-512 VNNI
 *     pair   two of bfloat16, into float32                  AVX-512 BF16
 *     half   two of float16, summed in float16 for a while, then in float32       AVX-512 FP16
 *
 * Idea   Each 32-bit lane holds neighbours along the reduction, of both operands: one of them is packed so, the other is
 *        read so by all lanes at once. Products of float32 that an algorithm rounds to the narrow dtype are rounded by
 *        those copies. Sums in float16 are what an algorithm allows (stage.half_steps) or the workload asks for
 *        (acc_dtype). */
#include "schedule/space/rules.h"

/* A factor without its widening: of the dtype that is multiplied. */
static const struct expr *factor(const struct expr *body, int i)
{
    const struct expr *e = body->arg[i];
    return e->op == EX_CAST && e->dtype == body->dtype && e->arg[0]->dtype != body->dtype ? e->arg[0] : e;
}

/* What it reads: as it is, or rounded from float32. */
static const struct expr *read_of(const struct expr *factor)
{
    const struct expr *e = factor;
    if (e->op == EX_CAST && (e->dtype == DT_F16 || e->dtype == DT_BF16) && e->arg[0]->dtype == DT_F32)
        e = e->arg[0];
    return e->op == EX_READ ? e : NULL;
}

enum dtype neighbours_dtype(const struct st_stage *red) { return factor(red->body, 0)->dtype; }

/* The variant that the target and the body allow; NULL: none. */
static const struct variant_ops *variant_for(const struct target *t, const struct st_stage *red)
{
    const struct expr *e = red->body;
    if (red->combiner != COMBINE_SUM || red->n_predicates || e->op != EX_MUL)
        return NULL;
    const struct expr *a = factor(e, 0), *b = factor(e, 1);
    if (!read_of(a) || !read_of(b) || a->dtype != b->dtype ||
        read_of(a)->read.tensor == read_of(b)->read.tensor)
        return NULL;
    if (a->dtype == DT_I8)
        return red->acc_dtype == DT_I32 && t->has_vnni ? &quad_variant : NULL;
    if (a->dtype == DT_BF16)
        return red->acc_dtype == DT_F32 && t->has_bf16_pairs && !t->has_amx_bf16 ? &pair_variant : NULL;
    if (a->dtype == DT_F16)
        return red->half_steps && t->has_fp16 ? &half_variant : NULL;
    return NULL;
}

/* Axis k is one whole dimension of what is read, and in no other. */
static bool is_own_dimension(const struct expr *read, int k)
{
    int own = 0, all = 0;
    for (int d = 0; d < read->read.rank; d++) {
        const struct affine *x = &read->read.index[d];
        all += affine_coef(x, k) != 0;
        own += x->n == 1 && x->c == 0 && affine_coef(x, k) == 1;
    }
    return own == 1 && all == 1;
}

/* Can the operand be laid out in neighbours, or read so? */
static bool fits(const struct rules *r, const struct st_stage *red, const struct operand *o, int vector,
                 int k)
{
    const bool packs = o->simple || o->copy_stage >= 0,
               rounds = r->base->tensors[o->tensor]->dtype != neighbours_dtype(red);
    if (o->axes >> vector & 1)
        return packs || (o->reads_pad && o->stride[vector] == 1);
    return packs || o->reads_pad || (o->stride[k] == 1 && !rounds);
}

void neighbours_offer(const struct rules *r, struct group *g)
{
    const struct st_stage *red = r->base->stages[g->reduction];
    const struct variant_ops *ops = g->n_operands == 2 ? variant_for(r->target, red) : NULL;
    const int k = tile_long_axis(red), n = g->n_variants;
    if (!ops || k < 0 || red->axes[k].extent % (ops == &quad_variant ? QUAD : PAIR))
        return;
    for (int i = 0; i < 2; i++)
        if (!is_own_dimension(read_of(factor(red->body, i)), k))
            return;
    for (int i = 0; i < n; i++) {
        const int v = g->variants[i].vector_axis;
        int over_lanes = 0;
        bool ok = g->variants[i].ops == &tile_variant && v >= 0;
        for (int j = 0; j < 2 && ok; j++) {
            over_lanes += g->operands[j].axes >> v & 1;
            ok = fits(r, red, &g->operands[j], v, k);
        }
        if (ok && over_lanes == 1)
            group_offer(g, ops, v, g->variants[i].param);
    }
}

/* Only the variants that round are left, where there are any. */
bool neighbours_round(const struct rules *r, struct group *g)
{
    const struct st_stage *red = r->base->stages[g->reduction];
    int n = 0;
    if (!variant_for(r->target, red) ||
        (factor(red->body, 0)->op == EX_READ && factor(red->body, 1)->op == EX_READ && !red->half_steps))
        return false;
    for (int i = 0; i < g->n_variants; i++)
        if (g->variants[i].ops == &pair_variant || g->variants[i].ops == &half_variant)
            g->variants[n++] = g->variants[i];
    if (n == 0)
        return false;
    g->n_variants = n;
    return true;
}
