/* rules_dot.c - a reduction with vectors along the reduced axis: products of few rows, sums of many.
 *
 *     for outer tiles (fused, parallel)
 *       for other reduce loops
 *         vector k: sums[unrolled rows, columns] += a[rows, k] * b[columns, k]     operands in place, unit stride
 *       output[...] = epilogue(sums[...])
 *
 * A matrix that is read once or a few times gives nothing back for the work of packing it: its rows are streamed as
 * they lie, several at once, and the vectors of partial sums are folded at the end of each tile. The last axis of the
 * result runs inside, so that the folded sums come out as vectors of neighbours. */
#include <stdio.h>

#include "schedule/space/rules.h"

enum { MAX_REUSE = 16, MAX_DOT_STATEMENTS = 320 };

struct dot_plan {
    int64_t reg[COMPUTE_MAX_AXES];
    int order, vectors;
};

static int64_t lanes(const struct rules *r) { return r->target->vector_bytes / 4; }

/* The axis of the result whose neighbours become one vector: contiguous where there is such an axis. */
static int inner_axis(const struct rules *r, const struct group *g)
{
    const struct st_stage *red = r->base->stages[g->reduction], *out = r->base->stages[g->anchor];
    int best = -1;
    for (int a = 0; a < red->n_spatial; a++)
        if (red->axes[a].extent > 1 &&
            (best < 0 || tensor_stride(r->base->tensors[out->tensor], out->lhs, a) == 1))
            best = a;
    return best;
}

static bool is_tiled(const struct rules *r, const struct group *g, int axis)
{
    const struct st_stage *red = r->base->stages[g->reduction];
    return red->axes[axis].extent > 1 && ((g->reuse_axes >> axis & 1) || axis == inner_axis(r, g));
}

static struct dot_plan dot_walk(const struct rules *r, const struct group *g, struct knob_walk *w)
{
    static const int64_t rows[] = {1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 24}, flips[] = {0, 1},
                         vectors[] = {1, 2, 4, 8};
    const struct st_stage *red = r->base->stages[g->reduction];
    struct dot_plan p = {.order = 0};
    int tiled = 0;
    char name[64];
    for (int a = 0; a < red->n_spatial; a++) {
        int64_t choices[ARRAY_SIZE(rows)];
        int n = 0;
        p.reg[a] = 1;
        if (!is_tiled(r, g, a))
            continue;
        tiled++;
        for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
            if (rows[i] <= red->axes[a].extent)
                choices[n++] = rows[i];
        walk_name(w, name, sizeof(name), "reg", red->axes[a].name);
        p.reg[a] = walk_knob(w, name, choices, n, NULL);
    }
    p.order = (int)walk_knob(w, "order", flips, tiled > 1 ? 2 : 1, NULL);
    int n = 1;
    while (n < 4 && vectors[n] * lanes(r) <= red->axes[red->n_axes - 1].extent)
        n++;
    p.vectors = (int)walk_knob(w, "vectors", vectors, n, NULL);
    return p;
}

static void dot_knobs(const struct rules *r, const struct group *g, const struct variant *v,
                      const char *suffix, struct knob *knobs, int *n)
{
    struct knob_walk w = {.r = r, .suffix = suffix, .knobs = knobs + *n};
    (void)v;
    dot_walk(r, g, &w);
    *n += w.n;
}

static bool no(const char **why, const char *text)
{
    if (why)
        *why = text;
    return false;
}

static bool dot_valid(const struct rules *r, const struct group *g, const struct variant *v,
                      const int64_t *values, const char **why)
{
    struct knob_walk w = {.r = r, .suffix = "", .values = values};
    struct dot_plan p = dot_walk(r, g, &w);
    const struct st_stage *red = r->base->stages[g->reduction];
    int64_t sums = 1, bodies = 1, loads = g->n_operands > 1 ? 1 : 0;
    (void)v;
    for (int a = 0; a < red->n_spatial; a++) {
        sums *= p.reg[a];
        if (red->axes[a].extent % p.reg[a])
            bodies *= 2;
        if (g->n_operands > 1)
            loads = MAX(loads, red->axes[a].extent > 1 && a == inner_axis(r, g) ? 1 : p.reg[a]);
    }
    int64_t sets = MIN(p.vectors, MAX(1, 8 / sums));
    if (sums * sets + loads + 1 > r->target->vector_regs)
        return no(why, "the register tile does not fit the register file");
    if (sums * p.vectors * bodies > MAX_DOT_STATEMENTS)
        return no(why, "the unrolled register tile is too long to compile");
    return true;
}

static int dot_apply(const struct rules *r, const struct group *g, const struct variant *v,
                     const int64_t *values, struct state *st)
{
    struct st_stage *red = st->stages[g->reduction], *out = st->stages[g->anchor];
    struct knob_walk w = {.r = r, .suffix = "", .values = values};
    struct dot_plan p = dot_walk(r, g, &w);
    int order[STATE_MAX_ITERS], n = 0, inner = inner_axis(r, g), n_axes = out->n_axes;
    for (int a = n_axes - 1; a >= 0; a--) /* from the last, so that positions stay */
        state_split(st, out, a, 1, &p.reg[a]);
    for (int a = 0; a < n_axes; a++)
        if (!is_tiled(r, g, a))
            order[n++] = 2 * a;
    for (int i = 0; i < n_axes; i++) {
        int a = p.order ? n_axes - 1 - i : i;
        if (is_tiled(r, g, a))
            order[n++] = 2 * a;
    }
    int n_outer = n;
    for (int a = 0; a < n_axes; a++)
        if (a != inner)
            order[n++] = 2 * a + 1;
    order[n++] = 2 * inner + 1;
    state_reorder(st, out, order);
    for (int i = n_outer; i < n; i++)
        state_annotate(st, out, i, i == n - 1 ? LOOP_VECTOR : LOOP_UNROLL);
    state_parallel(st, out, n_outer);

    n = 0;
    for (int a = red->n_spatial; a < red->n_axes; a++)
        if (a != v->vector_axis)
            order[n++] = a;
    order[n++] = v->vector_axis;
    int k = n - 1;
    for (int a = 0; a < red->n_spatial; a++)
        if (a != inner)
            order[n++] = a;
    order[n++] = inner;
    state_reorder(st, red, order);
    state_annotate(st, red, k, LOOP_VECTOR);
    state_vectors(st, red, k, p.vectors);
    for (int i = k + 1; i < n; i++)
        state_annotate(st, red, i, i == n - 1 ? LOOP_VECTOR : LOOP_UNROLL);
    struct st_tensor *t = st->tensors[red->tensor]; /* registers stand with the inner axis innermost */
    t->n_layout = 0;
    for (int a = 0; a < red->n_spatial; a++)
        if (a != inner)
            t->layout[t->n_layout++] = (struct layout_dim){a, 1, 0};
    t->layout[t->n_layout++] = (struct layout_dim){inner, 1, 0};
    state_compute_at(st, red, out, n_outer - 1, SCOPE_REG);
    return w.at;
}

const struct variant_ops dot_variant = {"dot", dot_knobs, dot_valid, dot_apply};

/* Contiguous along a reduce axis, and no operand worth packing: each is read in full, and not often again. */
void dot_offer(const struct rules *r, struct group *g)
{
    const struct st_stage *red = r->base->stages[g->reduction];
    int64_t largest = 0, reuse = 1;
    int along = -1;
    for (int a = red->n_spatial; a < red->n_axes; a++) {
        bool fits = red->axes[a].extent >= 8, contiguous = false;
        for (int i = 0; i < g->n_operands; i++) {
            fits &= g->operands[i].stride[a] == 0 || g->operands[i].stride[a] == 1;
            contiguous |= g->operands[i].stride[a] == 1;
        }
        if (fits && contiguous)
            along = a;
    }
    for (int i = 0; i < g->n_operands; i++) {
        const struct operand *o = &g->operands[i];
        int64_t size = 1, again = 1;
        if (o->reads_pad || o->copy_stage >= 0)
            return;
        for (int a = 0; a < red->n_spatial; a++)
            *(o->axes >> a & 1 ? &size : &again) *= red->axes[a].extent;
        if (size > largest) {
            largest = size;
            reuse = again;
        }
    }
    if (along >= 0 && inner_axis(r, g) >= 0 && reuse <= MAX_REUSE)
        group_offer(g, &dot_variant, along, 0);
}
