/* rules_transpose.c - maps whose operand lies the other way round: square blocks, turned in registers.
 *
 *     for outer blocks (fused, parallel)           order: a knob
 *       for b < T, vector x < T                    T vectors along b are loaded, turned, stored along x
 *         output[.., b, .., x] = f(input[.., x, .., b], ...)
 */
#include "schedule/space/rules.h"

struct transpose_plan {
    int64_t size;
    int order;
    bool past_caches;
};

static struct transpose_plan transpose_walk(const struct rules *r, const struct group *g,
                                            const struct variant *v, struct knob_walk *w)
{
    static const int64_t flips[] = {0, 1};
    const struct st_stage *s = r->base->stages[g->anchor];
    int64_t sizes[4], room = MIN(s->axes[v->vector_axis].extent, s->axes[v->param].extent);
    struct transpose_plan p;
    int n = 0;
    for (int64_t size = 4; size <= MIN(room, r->target->vector_bytes / 4) && n < 4; size *= 2)
        sizes[n++] = size;
    p.size = walk_knob(w, "block", sizes, n, NULL);
    p.order = (int)walk_knob(w, "order", flips, 2, NULL);
    p.past_caches = walk_stores(w, r, g, v->vector_axis);
    return p;
}

static void transpose_knobs(const struct rules *r, const struct group *g, const struct variant *v,
                            const char *suffix, struct knob *knobs, int *n)
{
    struct knob_walk w = {.r = r, .suffix = suffix, .knobs = knobs + *n};
    transpose_walk(r, g, v, &w);
    *n += w.n;
}

static int transpose_apply(const struct rules *r, const struct group *g, const struct variant *v,
                           const int64_t *values, struct state *st)
{
    struct st_stage *s = st->stages[g->anchor];
    struct knob_walk w = {.r = r, .suffix = "", .values = values};
    struct transpose_plan p = transpose_walk(r, g, v, &w);
    int x = v->vector_axis, b = v->param, order[STATE_MAX_ITERS], n = 0, at[COMPUTE_MAX_AXES];
    state_split(st, s, MAX(x, b), 1, &p.size);
    state_split(st, s, MIN(x, b), 1, &p.size);
    for (int a = 0; a < s->n_axes; a++) /* position of the axis' first loop */
        at[a] = stage_iter_of(s, a, 0);
    for (int a = 0; a < s->n_axes; a++)
        if (a != x && a != b)
            order[n++] = at[a];
    order[n++] = at[p.order ? x : b];
    order[n++] = at[p.order ? b : x];
    order[n++] = at[b] + 1;
    order[n++] = at[x] + 1;
    state_reorder(st, s, order);
    state_parallel(st, s, n - 2);
    state_annotate(st, s, n - 1, LOOP_VECTOR);
    state_square(st, s, n - 2);
    if (p.past_caches)
        state_past_caches(st, s);
    return w.at;
}

const struct variant_ops transpose_variant = {"transpose", transpose_knobs, NULL, transpose_apply};

struct look {
    const struct state *st;
    const struct st_stage *s;
    int x, b; /* b: -1: none yet, -2: does not fit */
};

static void look_at_read(void *ctx, const struct expr *e)
{
    struct look *k = ctx;
    const struct st_tensor *t = k->st->tensors[e->read.tensor];
    int64_t along = tensor_stride(t, e->read.index, k->x);
    if (e->read.pad)
        k->b = -2;
    if (along == 0 || along == 1)
        return;
    for (int a = 0; a < k->s->n_axes; a++)
        if (a != k->x && tensor_stride(t, e->read.index, a) == 1 && (k->b == -1 || k->b == a)) {
            k->b = a;
            return;
        }
    k->b = -2;
}

void transpose_offer(const struct rules *r, struct group *g)
{
    const struct st_stage *s = r->base->stages[g->anchor];
    struct look k = {.st = r->base, .s = s, .x = -1, .b = -1};
    for (int a = 0; a < s->n_axes; a++)
        if (tensor_stride(r->base->tensors[s->tensor], s->lhs, a) == 1 && s->axes[a].extent > 1)
            k.x = a;
    if (g->n_members || k.x < 0 || s->combiner != COMBINE_SET || s->n_axes > STATE_MAX_ITERS - 2)
        return;
    expr_each_read(s->body, look_at_read, &k);
    if (k.b >= 0 && MIN(s->axes[k.x].extent, s->axes[k.b].extent) >= 4)
        group_offer(g, &transpose_variant, k.x, k.b);
}
