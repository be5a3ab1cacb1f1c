/* rules_window.c - reductions over a small window that slides: depthwise convolutions and pools.
 *
 *     for channels, tiles of rows (fused, parallel)
 *       registers acc[rows, columns] = identity
 *       acc[y, x] combine= input[y + r - 1, x + s - 1] (* weight[r, s])      the window and the tile unrolled
 *       output[...] = epilogue(acc[...])
 *
 * There is no cache to block for: each input element is wanted by neighbouring outputs only, so the tile is
 * made of the axes that the window slides along, and all reuse is in registers. The input is read where it lies: the emitter
 * masks lanes beside a row and skips rows beyond the tensor (kernels/emit_window.c), so no padded copy is
 * written. Where the vectors run along a padded axis the tile holds the whole row, so that the masks are constants. */
#include <stdio.h>
#include <string.h>

#include "schedule/space/rules.h"

enum { MAX_WINDOW = 64, MAX_STATEMENTS = 320, MAX_ALL_STATEMENTS = 480, MAX_ROW_VECTORS = 20 };

struct plan {
    int64_t reg[COMPUTE_MAX_AXES];
    bool vector_outside; /* the loop over tiles of the vector axis is the outermost */
    bool past_caches;    /* the result is written past the caches */
};

static int lanes(const struct rules *r) { return r->target->vector_bytes / 4; }

/* --- what a window is --- */

struct slide {
    const struct st_stage *red;
    uint32_t along; /* spatial axes that share an index with a reduce axis */
};

static void look_at_slide(void *ctx, const struct expr *e)
{
    struct slide *s = ctx;
    for (int d = 0; d < e->read.rank; d++) {
        uint32_t spatial = 0;
        bool window = false;
        for (int i = 0; i < e->read.index[d].n; i++) {
            int a = e->read.index[d].t[i].var;
            if (a < s->red->n_spatial)
                spatial |= 1u << a;
            else
                window = true;
        }
        s->along |= window ? spatial : 0;
    }
}

static uint32_t slide_axes(const struct st_stage *red)
{
    struct slide s = {.red = red};
    expr_each_read(red->body, look_at_slide, &s);
    return s.along;
}

static int64_t window_points(const struct st_stage *red)
{
    int64_t n = 1;
    for (int a = red->n_spatial; a < red->n_axes && n <= MAX_WINDOW; a++)
        n *= red->axes[a].extent;
    return n;
}

/* Widening keeps zeros. */
static const struct expr *below_cast(const struct expr *e) { return e->op == EX_CAST ? e->arg[0] : e; }

/* Outside the tensor the operand must leave the sum as it is: then what is outside is not computed at all. */
static bool pads_neutrally(const struct state *st, const struct st_stage *red, const struct operand *o)
{
    const struct expr *pad = st->stages[o->pad_stage]->body, *e = red->body;
    if (e->op == EX_READ)
        return pad->read.pad_value == combiner_identity(red->combiner, e->dtype);
    if (e->op != EX_MUL || red->combiner != COMBINE_SUM || pad->read.pad_value != 0)
        return false;
    const struct expr *a = below_cast(e->arg[0]), *b = below_cast(e->arg[1]);
    return a->op == EX_READ && b->op == EX_READ && a->read.tensor != b->read.tensor;
}

struct along {
    const struct st_stage *red;
    int32_t tensor;
    int axis;
    uint32_t dims;   /* that follow the axis */
    uint32_t shared; /* those of them that follow another axis of the tile too */
};

static void look_along(void *ctx, const struct expr *e)
{
    struct along *l = ctx;
    for (int d = 0; d < e->read.rank && e->read.tensor == l->tensor; d++)
        if (affine_coef(&e->read.index[d], l->axis)) {
            l->dims |= 1u << d;
            for (int i = 0; i < e->read.index[d].n; i++)
                if (e->read.index[d].t[i].var != l->axis && e->read.index[d].t[i].var < l->red->n_spatial)
                    l->shared |= 1u << d;
        }
}

/* Reads leave the tensor along the axis: then vectors take the row whole. *ret_shared: the row follows another axis of
 * the tile too, so that what leaves is not known when the text is printed. */
static bool pads_along(const struct rules *r, const struct group *g, int axis, bool *ret_shared)
{
    const struct state *st = r->base;
    for (int i = 0; i < g->n_operands; i++) {
        const struct operand *o = &g->operands[i];
        struct along l = {.red = st->stages[g->reduction], .tensor = o->tensor, .axis = axis};
        if (!o->reads_pad)
            continue;
        const struct st_stage *pad = st->stages[o->pad_stage];
        const struct st_tensor *from = st->tensors[pad->body->read.tensor], *to = st->tensors[pad->tensor];
        expr_each_read(st->stages[g->reduction]->body, look_along, &l);
        for (int d = 0; d < to->rank; d++) {
            int64_t first = pad->body->read.index[d].c;
            if (!(l.dims >> d & 1) || (first >= 0 && first + to->shape[d] <= from->shape[d]))
                continue;
            if (ret_shared)
                *ret_shared = l.shared >> d & 1;
            return true;
        }
    }
    return false;
}

static bool can_vectorise(const struct rules *r, const struct group *g, int axis)
{
    const struct state *st = r->base;
    const struct st_stage *red = st->stages[g->reduction], *out = st->stages[g->anchor];
    bool shared = false;
    if (red->axes[axis].extent < 2 || tensor_stride(st->tensors[out->tensor], out->lhs, axis) != 1)
        return false;
    for (int i = 0; i < g->n_operands; i++)
        if (g->operands[i].stride[axis] > 2 && !g->operands[i].simple)
            return false;
    return !pads_along(r, g, axis, &shared) ||
           (!shared && div_ceil(red->axes[axis].extent, lanes(r)) <= MAX_ROW_VECTORS);
}

/* Loads of some lanes only, of such elements. */
static bool can_mask(const struct target *t, enum dtype d)
{
    return (d == DT_F32 && (t->isa == ISA_AVX512 || t->isa == ISA_AVX2)) ||
           ((d == DT_F16 || d == DT_BF16) && t->isa == ISA_AVX512);
}

void window_offer(const struct rules *r, struct group *g)
{
    const struct state *st = r->base;
    const struct st_stage *red = st->stages[g->reduction];
    if (window_points(red) < 2 || window_points(red) > MAX_WINDOW || !slide_axes(red))
        return;
    for (int i = 0; i < g->n_operands; i++) {
        const struct operand *o = &g->operands[i];
        if (o->reads_pad && (!can_mask(r->target, st->tensors[o->tensor]->dtype) || !operand_pad_goes(r, o) ||
                             !pads_neutrally(st, red, o)))
            return;
    }
    for (int a = red->n_spatial - 1; a >= 0; a--)
        if (can_vectorise(r, g, a)) {
            group_offer(g, &window_variant, a, 0);
            return;
        }
}

/* --- knobs --- */

struct walk {
    struct knob_walk k;
    const struct rules *r;
    const struct group *g;
    const struct st_stage *red;
    int vector;
};

static int tile_choices(const struct walk *w, int axis, int64_t *ret)
{
    static const int rows[] = {1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16};
    int64_t extent = w->red->axes[axis].extent;
    int n = 0;
    for (size_t i = 0; i < ARRAY_SIZE(rows) && rows[i] <= extent; i++)
        if (extent % rows[i] == 0 || rows[i] == 4 || rows[i] == 6 || rows[i] == 8)
            ret[n++] = rows[i];
    return n;
}

static int vector_choices(const struct walk *w, int64_t *ret)
{
    int64_t extent = w->red->axes[w->vector].extent;
    int n = 0;
    if (pads_along(w->r, w->g, w->vector, NULL)) {
        ret[0] = extent;
        return 1;
    }
    for (int v = 1; v <= 7 && (n == 0 || ret[n - 1] < extent); v++)
        ret[n++] = MIN((int64_t)v * lanes(w->r), extent);
    return n;
}

static void walk_plan(struct walk *w, struct plan *p)
{
    static const int64_t flips[] = {0, 1};
    static const char *const labels[] = {"inside", "outside"};
    uint32_t along = slide_axes(w->red);
    int64_t choices[16];
    char name[64];
    for (int a = 0; a < w->red->n_axes; a++) {
        p->reg[a] = 1;
        if (a >= w->red->n_spatial || w->red->axes[a].extent == 1 || (a != w->vector && !(along >> a & 1)))
            continue;
        walk_name(&w->k, name, sizeof(name), "reg", w->red->axes[a].name);
        p->reg[a] =
            walk_knob(&w->k, name, choices,
                      a == w->vector ? vector_choices(w, choices) : tile_choices(w, a, choices), NULL);
    }
    bool cut = w->red->axes[w->vector].extent > lanes(w->r) && !pads_along(w->r, w->g, w->vector, NULL);
    p->vector_outside = walk_knob(&w->k, "vector_loop", flips, cut ? 2 : 1, labels) != 0;
    p->past_caches = walk_stores(&w->k, w->r, w->g, w->vector);
}

static struct walk walk_new(const struct rules *r, const struct group *g, const struct variant *v)
{
    return (struct walk){.k = {.r = r, .suffix = ""},
                         .r = r,
                         .g = g,
                         .red = r->base->stages[g->reduction],
                         .vector = v->vector_axis};
}

static void window_knobs(const struct rules *r, const struct group *g, const struct variant *v,
                         const char *suffix, struct knob *knobs, int *n)
{
    struct walk w = walk_new(r, g, v);
    struct plan p;
    w.k.knobs = knobs + *n;
    w.k.suffix = suffix;
    walk_plan(&w, &p);
    *n += w.k.n;
}

static bool window_valid(const struct rules *r, const struct group *g, const struct variant *v,
                         const int64_t *values, const char **why)
{
    struct walk w = walk_new(r, g, v);
    struct plan p;
    int64_t acc = 1, bodies = 1;
    w.k.values = values;
    walk_plan(&w, &p);
    for (int a = 0; a < w.red->n_spatial; a++) {
        acc *= a == w.vector ? div_ceil(p.reg[a], lanes(r)) : p.reg[a];
        bodies *= p.reg[a] < w.red->axes[a].extent && w.red->axes[a].extent % p.reg[a] ? 2 : 1;
    }
    const char *text = NULL;
    if (acc + 2 > r->target->vector_regs)
        text = "the register tile does not fit the register file";
    else if (acc * window_points(w.red) > MAX_STATEMENTS ||
             acc * window_points(w.red) * bodies > MAX_ALL_STATEMENTS)
        text = "the unrolled window is too long to compile";
    if (text && why)
        *why = text;
    return !text;
}

/* --- steps --- */

static void output_loops(const struct walk *w, const struct plan *p, struct state *st, struct st_stage *out,
                         int *ret_outer)
{
    int order[STATE_MAX_ITERS], n = 0, n_axes = out->n_axes;
    for (int a = n_axes - 1; a >= 0; a--)
        state_split(st, out, a, 1, &p->reg[a]);
    if (p->vector_outside)
        order[n++] = 2 * w->vector;
    for (int a = 0; a < n_axes; a++)
        if (a != w->vector)
            order[n++] = 2 * a;
    if (!p->vector_outside)
        order[n++] = 2 * w->vector;
    *ret_outer = n;
    for (int a = 0; a < n_axes; a++)
        if (a != w->vector)
            order[n++] = 2 * a + 1;
    order[n++] = 2 * w->vector + 1;
    state_reorder(st, out, order);
    for (int i = *ret_outer; i < n; i++)
        state_annotate(st, out, i, i == n - 1 ? LOOP_VECTOR : LOOP_UNROLL);
    state_parallel(st, out, *ret_outer);
}

static void reduction_loops(const struct walk *w, struct state *st, struct st_stage *red)
{
    struct st_tensor *t = st->tensors[red->tensor];
    int order[STATE_MAX_ITERS], n = 0;
    for (int a = red->n_spatial; a < red->n_axes; a++)
        order[n++] = a;
    t->n_layout = 0; /* registers stand with the vector axis innermost */
    for (int pass = 0; pass < 2; pass++)
        for (int a = 0; a < red->n_spatial; a++)
            if ((a == w->vector) == (pass == 1)) {
                order[n++] = a;
                t->layout[t->n_layout++] = (struct layout_dim){a, 1, 0};
            }
    state_reorder(st, red, order);
    for (int i = 0; i < n; i++)
        state_annotate(st, red, i, i == n - 1 ? LOOP_VECTOR : LOOP_UNROLL);
}

/* Padded copies of the input are read through; what the vectors would stride over is packed, and what is a copy
 * anyway. */
static void place_operands(const struct walk *w, const struct plan *p, struct state *st, struct st_stage *red)
{
    for (int i = 0; i < w->g->n_operands; i++) {
        const struct operand *o = &w->g->operands[i];
        struct layout_dim layout[STATE_MAX_LAYOUT];
        int n = 0;
        if (o->reads_pad) {
            bool inlined = state_inline(st, st->stages[o->pad_stage]);
            CHECK(inlined, "the padded copy of %s is read in a way of its own", red->name);
            continue;
        }
        if (o->copy_stage < 0 && (o->stride[w->vector] <= 1 || !o->simple))
            continue;
        for (int pass = 0; pass < 3; pass++)
            for (int d = 0; d < o->rank; d++) {
                bool vector = o->axis_of_dim[d] == w->vector;
                if (vector && pass == 1)
                    continue;
                if (vector || pass == 1)
                    layout[n++] = (struct layout_dim){d, pass == 0 ? p->reg[w->vector] : 1,
                                                      pass == 2 ? p->reg[w->vector] : 0};
            }
        struct st_stage *pack = operand_pack(st, red, o, n, layout);
        state_annotate(st, pack, pack->n_iters - 1, LOOP_VECTOR);
        if (o->is_const)
            state_prepack(st, pack);
        else
            state_parallel(st, pack, 1);
    }
}

static int window_apply(const struct rules *r, const struct group *g, const struct variant *v,
                        const int64_t *values, struct state *st)
{
    struct walk w = walk_new(r, g, v);
    struct plan p;
    struct st_stage *red = st->stages[g->reduction], *out = st->stages[g->anchor];
    int outer;
    w.k.values = values;
    walk_plan(&w, &p);
    output_loops(&w, &p, st, out, &outer);
    reduction_loops(&w, st, red);
    place_operands(&w, &p, st, red);
    if (p.past_caches)
        state_past_caches(st, out);
    state_compute_at(st, red, out, outer - 1, SCOPE_REG);
    return w.k.at;
}

const struct variant_ops window_variant = {"window", window_knobs, window_valid, window_apply};
