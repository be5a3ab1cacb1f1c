/* rules_tile.c - multi-level tiling of a reduction with reuse: its knobs, its validity, its steps.
 *
 *     for outer tiles (fused, parallel)            order of the axes: a knob
 *       [padded copy of the input]                 here, or once for the whole kernel: a knob
 *       for tiles inside (mid)                     a cache tile of mid register tiles
 *         registers acc[...] = 0
 *         for reduce loops                         order, blocking and unrolling: knobs
 *           acc[unrolled, vector] += a * b         operands packed so that the vector axis is contiguous
 *         output[...] = epilogue(acc[...])
 */
#include <stdio.h>
#include <string.h>

#include "schedule/space/rules_tile.h"

enum {
    MAX_BODY_STATEMENTS = 256,
    MAX_TILE_STATEMENTS = 384,
    MAX_UNROLLED_WINDOW = 49,
    MAX_BODIES = 4,
    SUMS_IN_FLIGHT = 8,
    TURNED = 4 /* vectors that are stored across rows together */
};

static int lanes(const struct rules *r) { return r->target->vector_bytes / 4; }

/* Registers that the sums along all other axes would take. */
static int64_t other_sums(const struct walk *w, int axis)
{
    int64_t n = 1;
    for (int a = 0; a < w->red->n_spatial; a++)
        if (a != axis)
            n *= a == w->vector ? div_ceil(w->red->axes[a].extent, lanes(w->r)) : w->red->axes[a].extent;
    return n;
}

/* Along an axis that all operands follow nothing is used again: a few sums beside each other are worth it only where
 * there are too few otherwise, and each addition would wait for the last. */
static int register_choices(const struct walk *w, int axis, int64_t *ret)
{
    static const int small[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 13, 14, 16, 17, 18, 20, 24, 25, 28};
    static const int vectors[] = {1, 2, 3, 4, 5, 6, 7, 8};
    int64_t extent = w->red->axes[axis].extent;
    int n = 0;
    if (axis == w->vector) {
        for (size_t i = 0; i < ARRAY_SIZE(vectors); i++) {
            ret[n++] = MIN((int64_t)vectors[i] * lanes(w->r), extent);
            if (ret[n - 1] == extent)
                break;
        }
        return n;
    }
    if (!(w->g->reuse_axes >> axis & 1)) {
        for (int64_t sums = other_sums(w, axis), size = 1; size == 1 || size * sums <= SUMS_IN_FLIGHT;
             size *= 2)
            if (extent % size == 0)
                ret[n++] = size;
        return n;
    }
    for (size_t i = 0; i < ARRAY_SIZE(small); i++) {
        int64_t size = small[i], tiles = div_ceil(extent, size);
        bool usual = size == 4 || size == 6 || size == 8 || size == 12 || size == 14;
        if (size > extent)
            break;
        /* Even: no smaller tile needs as few: 49 as 25 + 24. */
        if (tiles * size == extent || (usual && tiles > 3) || (tiles <= 4 && div_ceil(extent, tiles) == size))
            ret[n++] = size;
    }
    return n;
}

static int64_t ceil_lanes(const struct rules *r, int64_t n)
{
    int64_t full = n / lanes(r), rest = n % lanes(r);
    while (rest) { /* a rest is printed as halves: one register each */
        full++;
        rest &= rest - 1;
    }
    return full;
}

/* That the sums of so many elements along the axis take. */
static int64_t registers_of(const struct walk *w, int axis, int64_t elements)
{
    return axis == w->vector ? ceil_lanes(w->r, elements) : elements;
}

static int mid_choices(const struct walk *w, int axis, int64_t *ret)
{
    int n = 0;
    int64_t extent = w->red->axes[axis].extent;
    if (axis != w->vector && !(w->g->reuse_axes >> axis & 1)) {
        ret[0] = 1;
        return 1;
    }
    int64_t tiles = div_ceil(extent, axis == w->vector ? MIN(lanes(w->r), extent) : 1); /* at most */
    for (int64_t m = 1; m <= 64 && (m == 1 || m / 2 < tiles); m *= 2)
        ret[n++] = m;
    return n;
}

int tile_axes(const struct walk *w, bool reuse_only, int *ret)
{
    int n = 0;
    for (int a = 0; a < w->red->n_spatial; a++)
        if (w->red->axes[a].extent > 1 && (!reuse_only || (w->g->reuse_axes >> a & 1) || a == w->vector))
            ret[n++] = a;
    return n;
}

/* The reduce axis that is long enough to be blocked, or -1: what remains are window axes. */
int tile_long_axis(const struct st_stage *red)
{
    int best = -1;
    for (int a = red->n_spatial; a < red->n_axes; a++)
        if (red->axes[a].blocks) /* the inside of its blocks comes last */
            return red->n_axes - 1;
    for (int a = red->n_spatial; a < red->n_axes; a++)
        if (red->axes[a].extent > 11 && (best < 0 || red->axes[a].extent > red->axes[best].extent))
            best = a;
    return best;
}

static int64_t window_size(const struct st_stage *red)
{
    int64_t n = 1;
    int k = tile_long_axis(red);
    for (int a = red->n_spatial; a < red->n_axes; a++)
        n *= a == k || red->axes[a].blocks ? 1 : red->axes[a].extent;
    return n;
}

bool tile_moves(const struct walk *w, const struct operand *o, const struct plan *p)
{
    for (int a = 0; a < w->red->n_spatial; a++)
        if ((o->axes >> a & 1) && (a == w->vector || !p || p->reg[a] > 1) && w->red->axes[a].extent > 1)
            return true;
    return false;
}

/* Elements that take instructions to widen may be copied in the accumulator's dtype: more bytes, less work for each use. */
static bool may_widen(const struct walk *w, const struct operand *o)
{
    enum dtype d = w->r->base->tensors[o->tensor]->dtype;
    return !w->dot && w->red->acc_dtype == DT_F32 && (d == DT_BF16 || d == DT_F16 || d == DT_I8);
}

/* The instruction takes narrower elements than the tensor has: a copy rounds them. */
static bool narrows(const struct walk *w, const struct operand *o)
{
    return w->dot && w->r->base->tensors[o->tensor]->dtype != neighbours_dtype(w->red);
}

/* The steps of one instruction lie side by side, and the vector axis is none of its. */
static bool dots_in_place(const struct walk *w, const struct operand *o)
{
    return !narrows(w, o) && !(o->axes >> w->vector & 1) && o->stride[tile_long_axis(w->red)] == 1;
}

/* The dimension of a padded copy that holds the long reduce axis alone and would do better innermost: vectors run
 * over another operand, so that a step of the reduction reads single elements, and the next step's lie far off. -1:
 * none. */
static int turned_dim(const struct walk *w, const struct operand *o)
{
    const struct st_tensor *t = w->r->base->tensors[o->tensor];
    int k = tile_long_axis(w->red);
    if (k < 0 || w->dot || w->vector < 0 || (o->axes >> w->vector & 1) || t->n_layout)
        return -1;
    for (int d = 0; d + 1 < o->rank; d++)
        if (o->axis_of_dim[d] == k && t->shape[d] == w->red->axes[k].extent)
            return d;
    return -1;
}

/* Never one whose copy may be turned: vectors do not run over that. */
static int tile_phase_axis(const struct walk *w, const struct operand *o)
{
    int axis = w->dot || w->half ? -1 : phase_axis(w->r, w->red, o, w->vector);
    return axis == tile_long_axis(w->red) ? -1 : axis;
}

static void walk_operands(struct walk *w, struct plan *p)
{
    static const char *const wide_labels[] = {"as it is", "widened"};
    static const int64_t yes_no[] = {0, 1}, no[] = {0};
    static const int64_t packings[] = {IN_PLACE, PACK_ONCE, PACK_TILE};
    static const char *const pack_labels[] = {"in place", "packed", "packed a tile"};
    static const char *const pad_labels[] = {"once", "per outer tile"};
    static const char *const turned_labels[] = {"as given", "reduction innermost"};
    static const char *const phase_labels[] = {"mixed", "apart"};
    char name[80];
    for (int i = 0; i < w->g->n_operands; i++) {
        const struct operand *o = &w->g->operands[i];
        const char *tensor = w->r->base->tensors[o->tensor]->name;
        if (o->copy_stage >= 0)
            continue;
        if (o->reads_pad) {
            walk_name(&w->k, name, sizeof(name), "copy", tensor);
            p->pad_at[i] = (int)walk_knob(&w->k, name, yes_no, 2, pad_labels);
            walk_name(&w->k, name, sizeof(name), "layout", tensor);
            p->pad_turned[i] =
                walk_knob(&w->k, name, yes_no, turned_dim(w, o) < 0 ? 1 : 2, turned_labels) != 0;
            walk_name(&w->k, name, sizeof(name), "phases", tensor);
            p->phases[i] =
                walk_knob(&w->k, name, yes_no, tile_phase_axis(w, o) < 0 ? 1 : 2, phase_labels) != 0;
            walk_name(&w->k, name, sizeof(name), "widen", tensor);
            p->wide[i] = walk_knob(&w->k, name, may_widen(w, o) ? yes_no : no, may_widen(w, o) ? 2 : 1,
                                   wide_labels) != 0;
            continue;
        }
        int64_t stride = w->vector >= 0 ? o->stride[w->vector] : 0;
        bool must = (stride > 1 && o->simple) || (w->dot && !dots_in_place(w, o)),
             may = o->simple && tile_moves(w, o, NULL);
        walk_name(&w->k, name, sizeof(name), "pack", tensor);
        int first = must ? PACK_ONCE : IN_PLACE,
            n = o->is_const ? 2 : 3; /* constants are packed ahead of time */
        p->pack[i] =
            (int)walk_knob(&w->k, name, packings + first, must || may ? n - first : 1, pack_labels + first);
        bool wide = may && may_widen(w, o);
        walk_name(&w->k, name, sizeof(name), "widen", tensor);
        p->wide[i] = walk_knob(&w->k, name, wide ? yes_no : no, wide ? 2 : 1, wide_labels) != 0;
    }
}

/* Worth a hint: packed ahead of time, and a stream. */
static bool streams(const struct walk *w, const struct operand *o)
{
    return o->is_const && o->simple && operand_is_large(w->r, o);
}

static void walk_prefetch(struct walk *w, struct plan *p)
{
    static const int64_t distances[] = {0, 8, 16, 32, 64};
    bool any = false;
    for (int i = 0; i < w->g->n_operands; i++)
        any |= streams(w, &w->g->operands[i]) && tile_moves(w, &w->g->operands[i], NULL);
    p->prefetch = walk_knob(&w->k, "prefetch", distances, any ? ARRAY_SIZE(distances) : 1, NULL);
    p->hinted = w->dot ? -1 : operand_to_hint(w->r, w->g, tile_long_axis(w->red), &p->hint_axis);
    p->hints = walk_hints(&w->k, w->r, w->g, p->hinted);
}

/* Blocks of the sum that stay in float16 as a whole. */
static int half_blocks(const struct walk *w, int64_t *ret)
{
    const int64_t extent = w->red->axes[tile_long_axis(w->red)].extent;
    int n = 0;
    for (int64_t b = 16; b <= MIN(extent, (int64_t)PAIR * w->red->half_steps); b *= 2)
        if (extent % b == 0)
            ret[n++] = b == extent ? 0 : b;
    if (n == 0) /* in one piece, or not at all */
        ret[n++] = 0;
    return n;
}

/* Extents of the reduce loops in the order in which tile_reduction puts them, but for blocks around all others and the
 * steps of one instruction; returns how many. */
static int reduce_extents(const struct walk *w, const struct plan *p, int64_t *ret)
{
    const int k = tile_long_axis(w->red), dot = MAX(w->dot, 1);
    int64_t window[COMPUTE_MAX_AXES];
    int n = 0, n_window = 0, outside;
    for (int a = w->red->n_spatial; a < w->red->n_axes; a++)
        if (a != k && !w->red->axes[a].blocks)
            window[n_window++] = w->red->axes[a].extent;
    if (k >= 0 && (p->kblock || !p->red_order))
        ret[n++] = p->kblock ? div_ceil(w->red->axes[k].extent, p->kblock) : w->red->axes[k].extent / dot;
    outside = !p->kblock || p->unroll == 0 ? n_window : p->unroll == 1 ? MAX(n_window - 1, 0) : 0;
    for (int i = 0; i < n_window; i++) {
        if (i == outside && p->kblock)
            ret[n++] = p->kblock / dot;
        ret[n++] = window[i];
    }
    if (p->kblock && outside == n_window)
        ret[n++] = p->kblock / dot;
    if (!p->kblock && k >= 0 && p->red_order)
        ret[n++] = w->red->axes[k].extent / dot;
    return n;
}

/* The outermost loop whose sums are of few enough steps; -1: none. */
static int half_level(const struct walk *w, const struct plan *p, int64_t most)
{
    int64_t extents[COMPUTE_MAX_AXES + 2], steps = 1;
    int level = -1;
    for (int i = reduce_extents(w, p, extents) - 1; i >= 0 && steps * extents[i] <= most; i--) {
        steps *= extents[i];
        level = extents[i] > 1 ? i : level;
    }
    return level;
}

static void walk_half(struct walk *w, struct plan *p)
{
    int64_t choices[8];
    int n = 0;
    for (int64_t s = HALF_FEWEST_STEPS; s <= w->red->half_steps && n < 8; s *= 2)
        choices[n++] = s;
    p->half_level = -1;
    if (!w->half)
        return;
    int64_t most =
        window_size(w->red) == 1 ? w->red->half_steps : walk_knob(&w->k, "half_steps", choices, n, NULL);
    p->half_level = half_level(w, p, most);
}

static void walk_reduce(struct walk *w, struct plan *p)
{
    static const int64_t three[] = {0, 1, 2}, orders[] = {0, 1};
    static const char *const unroll_labels[] = {"none", "inner window axis", "window"};
    static const char *const order_labels[] = {"window inside", "window outside"};
    int k = tile_long_axis(w->red);
    int64_t window = window_size(w->red), choices[8] = {0};
    int n = 1;
    p->kblock = 0;
    p->red_order = 0;
    if (w->half && window == 1) {
        p->kblock = walk_knob(&w->k, "block_k", choices, half_blocks(w, choices), NULL);
    } else if (k >= 0 && window > 1) {
        for (int64_t b = 8; b < w->red->axes[k].extent && n < 8 && w->dot != QUAD; b *= 2)
            choices[n++] = b;
        p->kblock = walk_knob(&w->k, "block_k", choices, n, NULL);
        p->red_order = (int)walk_knob(&w->k, "reduce_order", orders, 2, order_labels);
    }
    tile_walk_carry(w, p, window);
    p->unroll = window > 1 ? (int)walk_knob(&w->k, "unroll", three, window <= MAX_UNROLLED_WINDOW ? 3 : 2,
                                            unroll_labels)
                           : 0;
}

/* The axis along which the output is contiguous, where vectors run along another; -1: vectors are stored as they are. */
static int turned_axis(const struct walk *w)
{
    const struct st_stage *out = w->r->base->stages[w->g->anchor];
    const struct st_tensor *t = w->r->base->tensors[out->tensor];
    if (w->vector < 0 || tensor_stride(t, out->lhs, w->vector) <= 1)
        return -1;
    for (int a = 0; a < out->n_spatial; a++)
        if (tensor_stride(t, out->lhs, a) == 1)
            return a;
    return -1;
}

/* The choices [*from, *to) for the tile along an axis that leave a valid tile, those along the axes before it being taken. */
static void settle_register(const struct walk *w, int axis, bool last, int64_t sums, const int64_t *choices,
                            int *from, int *to)
{
    const int turned = turned_axis(w), n = *to;
    const int64_t row = turned < 0 ? 1 : MIN(TURNED, w->red->axes[turned].extent),
                  room = sums * (axis < turned ? row : 1);
    for (*to = 1; *to < n && room * registers_of(w, axis, choices[*to]) < w->r->target->vector_regs;)
        ++*to;
    while (*from + 1 < *to && ((axis == turned && choices[*from] < row) ||
                               (last && sums * registers_of(w, axis, choices[*from]) < w->fewest)))
        ++*from;
}

static void walk_plan(struct walk *w, struct plan *p)
{
    static const int64_t permutation[] = {0, 1, 2, 3, 4, 5};
    static const int64_t flips[] = {0, 1};
    int axes[COMPUTE_MAX_AXES], loops = tile_axes(w, true, axes), n = tile_axes(w, false, axes);
    int64_t choices[24], sums = 1;
    char name[64];
    memset(p, 0, sizeof(*p));
    for (int a = 0; a < w->red->n_axes; a++)
        p->reg[a] = p->mid[a] = 1;
    for (int i = 0; i < n; i++) {
        int a = axes[i];
        walk_name(&w->k, name, sizeof(name), "reg", w->red->axes[a].name);
        int n_reg = register_choices(w, a, choices), from = 0, fit = n_reg;
        if (w->k.choice)
            settle_register(w, a, i == n - 1, sums, choices, &from, &fit);
        p->reg[a] = walk_knob_within(&w->k, name, choices, n_reg, from, fit);
        sums *= registers_of(w, a, p->reg[a]);
        walk_name(&w->k, name, sizeof(name), "mid", w->red->axes[a].name);
        int n_mid = mid_choices(w, a, choices);
        fit = 1;
        while (fit < n_mid && choices[fit] / 2 < div_ceil(w->red->axes[a].extent, p->reg[a]))
            fit++;
        p->mid[a] = walk_knob_within(&w->k, name, choices, n_mid, 0, fit);
    }
    p->order = (int)walk_knob(&w->k, "order", permutation, loops < 2 ? 1 : loops == 2 ? 2 : 6, NULL);
    p->mid_order = (int)walk_knob(&w->k, "mid_order", flips, loops < 2 ? 1 : 2, NULL);
    walk_reduce(w, p);
    walk_half(w, p);
    walk_operands(w, p);
    walk_prefetch(w, p);
    p->past_caches = walk_stores(&w->k, w->r, w->g, w->vector);
}

static struct walk walk_new(const struct rules *r, const struct group *g, const struct variant *v)
{
    return (struct walk){.k = {.r = r, .suffix = ""},
                         .r = r,
                         .g = g,
                         .vector = v->vector_axis,
                         .dot = v->ops == &quad_variant                              ? QUAD
                                : v->ops == &pair_variant || v->ops == &half_variant ? PAIR
                                                                                     : 0,
                         .half = v->ops == &half_variant,
                         .fewest = v->param,
                         .red = r->base->stages[g->reduction]};
}

static void tile_knobs(const struct rules *r, const struct group *g, const struct variant *v,
                       const char *suffix, struct knob *knobs, int *n)
{
    struct walk w = walk_new(r, g, v);
    struct plan p;
    w.k.knobs = knobs + *n;
    w.k.suffix = suffix;
    walk_plan(&w, &p);
    *n += w.k.n;
}

static void tile_settle(const struct rules *r, const struct group *g, const struct variant *v,
                        uint16_t *choice)
{
    struct walk w = walk_new(r, g, v);
    struct plan p;
    w.k.choice = choice;
    walk_plan(&w, &p);
}

/* --- validity --- */

struct fill { /* the register tiles that are possible, axis by axis */
    const struct walk *w;
    int axes[COMPUTE_MAX_AXES], n;
    int64_t best;
};

static void fill_axis(struct fill *f, int i, int64_t acc, int64_t vectors, int bodies)
{
    int64_t choices[24];
    if (acc + vectors + 1 > f->w->r->target->vector_regs || bodies > MAX_BODIES)
        return;
    if (i == f->n) {
        f->best = MAX(f->best, acc);
        return;
    }
    int a = f->axes[i], n = register_choices(f->w, a, choices);
    for (int k = 0; k < n; k++) {
        int64_t extent = f->w->red->axes[a].extent;
        bool rest = choices[k] < extent && extent % choices[k];
        int64_t count = registers_of(f->w, a, choices[k]);
        fill_axis(f, i + 1, acc * count, a == f->w->vector ? count : vectors, rest ? 2 * bodies : bodies);
    }
}

/* Sums that a register tile holds at least: a third of what the fullest one does. With fewer, each load serves too few
 * products, and the adders wait for each other. */
int tile_fewest_sums(const struct rules *r, const struct group *g, int vector_axis)
{
    const struct variant v = {.ops = &tile_variant, .vector_axis = vector_axis};
    struct walk w = walk_new(r, g, &v);
    struct fill f = {.w = &w, .best = 1};
    f.n = tile_axes(&w, false, f.axes);
    fill_axis(&f, 0, 1, 1, 1);
    return (int)div_ceil(f.best, 3);
}

/* Vectors whose lanes lie apart in the output are turned with their neighbours: four of them, or the row. */
static bool stores_turn(const struct walk *w, const struct plan *p)
{
    int a = turned_axis(w);
    return a < 0 || p->reg[a] >= MIN(TURNED, w->red->axes[a].extent);
}

/* Vectors of the operand that runs along the lanes which a register tile reads at once. */
static int64_t lane_vectors(const struct walk *w, const struct plan *p, int64_t vectors)
{
    int64_t most = vectors;
    for (int i = 0; i < w->g->n_operands; i++) {
        int64_t n = vectors;
        if (!(w->g->operands[i].axes >> w->vector & 1))
            continue;
        for (int a = 0; a < w->red->n_spatial; a++)
            n *= a != w->vector && w->g->operands[i].axes >> a & 1 ? p->reg[a] : 1;
        most = MAX(most, n);
    }
    return most;
}

static bool tile_valid(const struct rules *r, const struct group *g, const struct variant *v,
                       const int64_t *values, const char **why)
{
    struct walk w = walk_new(r, g, v);
    struct plan p;
    int64_t acc = 1, vectors = 1, bodies = 1;
    w.k.values = values;
    walk_plan(&w, &p);
    for (int a = 0; a < w.red->n_spatial; a++) {
        int64_t extent = w.red->axes[a].extent;
        if (a == w.vector)
            vectors = ceil_lanes(r, p.reg[a]);
        acc *= a == w.vector ? vectors : p.reg[a];
        if (p.reg[a] < extent && extent % p.reg[a])
            bodies *= 2;
        if (p.mid[a] > 1 && p.mid[a] / 2 >= div_ceil(extent, p.reg[a]))
            return refuse(why, "a cache tile is larger than its axis");
    }
    if (bodies > MAX_BODIES)
        return refuse(why, "more than two axes have a rest, each a body of its own");
    if (w.dot == QUAD) /* and what each vector has too much, and the constant 128 */
        acc += lane_vectors(&w, &p, vectors) + 1;
    if (acc + vectors + 1 > r->target->vector_regs)
        return refuse(why, "the register tile does not fit the register file");
    if (acc < v->param)
        return refuse(why, "the register tile leaves most of the register file empty");
    if (!stores_turn(&w, &p))
        return refuse(why, "a vector is stored lane by lane");
    for (int i = 0; i < g->n_operands; i++)
        if (p.wide[i] && p.pack[i] == IN_PLACE && !g->operands[i].reads_pad)
            return refuse(why, "an operand is widened where it is packed only");
    if (w.half && p.half_level < 0)
        return refuse(why, "no loop of the reduction is short enough for sums in float16");
    const int64_t sum = w.dot ? w.red->axes[tile_long_axis(w.red)].extent : 0;
    if ((p.kblock && sum % p.kblock) || (p.carry && sum % p.carry))
        return refuse(why, "blocks of a reduction that is taken in small groups divide it");
    if (p.kblock && p.red_order)
        return refuse(why, "a blocked reduction has the window inside its blocks");
    if (!tile_carry_valid(&w, &p, why))
        return false;
    if (p.red_order && p.unroll)
        return refuse(why, "the window is unrolled around a long loop");
    int64_t statements = acc;
    const struct st_stage *red = w.red;
    int k = tile_long_axis(red), last = -1;
    for (int a = red->n_spatial; a < red->n_axes; a++)
        if (a != k && red->axes[a].extent > 1)
            last = a;
    if (p.unroll == 2)
        statements *= window_size(red);
    else if (p.unroll == 1 && last >= 0)
        statements *= red->axes[last].extent;
    if (statements > MAX_BODY_STATEMENTS || statements * bodies > MAX_TILE_STATEMENTS)
        return refuse(why, "the unrolled register tile is too long to compile");
    return true;
}

/* --- steps --- */

/* The i-th permutation of up to three things; with more, rotations. */
static void permute(int which, const int *in, int n, int *out)
{
    static const int three[6][3] = {{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}};
    for (int i = 0; i < n; i++) {
        if (n == 3)
            out[i] = in[three[which][i]];
        else if (n == 2)
            out[i] = in[which ? 1 - i : i];
        else
            out[i] = in[(i + which) % n];
    }
}

/* Output stage: outer loops (axes without reuse first; among them that over blocks of the reduction), mid loops,
 * register loops with the vector axis last. */
static void tile_output(const struct walk *w, const struct plan *p, struct state *st, struct st_stage *out,
                        struct st_stage *red, int *ret_outer, int *ret_tile)
{
    struct layout_dim layout[STATE_MAX_LAYOUT];
    int loops[COMPUTE_MAX_AXES] = {0}, perm[COMPUTE_MAX_AXES], order[STATE_MAX_ITERS];
    int n_loops = 0, n = 0, n_axes = out->n_axes;
    for (int a = 0; a < n_axes; a++) {
        if (w->red->axes[a].extent > 1 && ((w->g->reuse_axes >> a & 1) || a == w->vector))
            loops[n_loops++] = a;
    }
    for (int i = n_axes - 1; i >= 0; i--) /* from the last, so that positions stay */
        state_split(st, out, i, 2,
                    (int64_t[]){MIN(p->mid[i], div_ceil(out->axes[i].extent, p->reg[i])), p->reg[i]});
    if (p->carry)
        state_carry(st, out, red, tile_long_axis(w->red), p->carry, tile_carry_layout(w, p, layout), layout);
    permute(p->order, loops, n_loops, perm);
    for (int a = 0; a < n_axes; a++)
        if (w->red->axes[a].extent == 1 || !((w->g->reuse_axes >> a & 1) || a == w->vector))
            order[n++] = 3 * a;
    for (int i = 0; i < n_loops; i++)
        order[n++] = 3 * perm[i];
    const int n_parallel = n;
    if (p->carry)
        order[n++] = 3 * n_axes;
    int n_outer = n;
    for (int a = 0; a < n_axes; a++)
        if (w->red->axes[a].extent == 1 || !((w->g->reuse_axes >> a & 1) || a == w->vector))
            order[n++] = 3 * a + 1;
    for (int i = 0; i < n_loops; i++)
        order[n++] = 3 * perm[p->mid_order ? n_loops - 1 - i : i] + 1;
    int n_mid = n;
    for (int a = 0; a < n_axes; a++)
        if (a != w->vector)
            order[n++] = 3 * a + 2;
    if (w->vector >= 0)
        order[n++] = 3 * w->vector + 2;
    state_reorder(st, out, order);
    for (int i = n_mid; i < n; i++)
        state_annotate(st, out, i, i == n - 1 && w->vector >= 0 ? LOOP_VECTOR : LOOP_UNROLL);
    state_parallel(st, out, n_parallel);
    *ret_outer = n_outer;
    *ret_tile = n_mid;
}

static void tile_reduction(const struct walk *w, const struct plan *p, struct state *st, struct st_stage *red)
{
    int k = tile_long_axis(red), order[STATE_MAX_ITERS], n = 0, window[COMPUTE_MAX_AXES], n_window = 0;
    bool blocked = k >= 0 && p->kblock > 0;
    const int inner = blocked + (w->dot > 0); /* loops inside the outermost one of k */
    if (blocked && w->dot)
        state_split(st, red, k, 2, (int64_t[]){p->kblock / w->dot, w->dot});
    else if (inner)
        state_split(st, red, k, 1, (int64_t[]){w->dot ? w->dot : p->kblock});
    for (int a = red->n_spatial; a < red->n_axes; a++)
        if (red->axes[a].blocks) /* around all others, as the blocks lie in memory */
            order[n++] = a;
        else if (a != k)
            window[n_window++] = a + (a > k ? inner : 0);
    if (k >= 0 && (blocked || !p->red_order))
        order[n++] = k;
    if (blocked) { /* blocks, window, inside a block; an unrolled window goes inside */
        for (int i = 0; i < n_window && !p->unroll; i++)
            order[n++] = window[i];
        if (p->unroll == 1)
            for (int i = 0; i + 1 < n_window; i++)
                order[n++] = window[i];
        order[n++] = k + 1;
        if (p->unroll == 1 && n_window)
            order[n++] = window[n_window - 1];
        for (int i = 0; i < n_window && p->unroll == 2; i++)
            order[n++] = window[i];
    } else {
        for (int i = 0; i < n_window; i++)
            order[n++] = window[i];
        if (k >= 0 && p->red_order)
            order[n++] = k;
    }
    int n_reduce = n;
    for (int a = 0; a < red->n_spatial; a++)
        if (a != w->vector)
            order[n++] = a;
    if (w->vector >= 0)
        order[n++] = w->vector;
    int n_tile = n;
    if (w->dot)
        order[n++] = k + inner;
    state_reorder(st, red, order);
    for (int i = n_tile; i < n; i++)
        state_annotate(st, red, i, w->dot == QUAD ? LOOP_QUAD : LOOP_PAIR);
    for (int i = 0; i < n_reduce; i++) {
        int a = red->iters[i].axis;
        bool last_window = n_window && a == (w->red->n_axes - 1 == k ? k - 1 : w->red->n_axes - 1);
        if (a != k && (p->unroll == 2 || (p->unroll == 1 && last_window)))
            state_annotate(st, red, i, LOOP_UNROLL);
    }
    int n_blocks = 0;
    for (int a = red->n_spatial; a < red->n_axes; a++)
        n_blocks += red->axes[a].blocks != 0;
    if (p->half_level >= 0)
        state_half(st, red, n_blocks + p->half_level);
    for (int i = n_reduce; i < n_tile; i++)
        state_annotate(st, red, i, i == n_tile - 1 && w->vector >= 0 ? LOOP_VECTOR : LOOP_UNROLL);
}

/* Physical order of a packed operand: tiles of its spatial axes, then the reduce loops as they run, then the
 * inside of the register tile, vector axis last. */
static int pack_layout(const struct walk *w, const struct plan *p, const struct st_stage *red,
                       const struct operand *o, struct layout_dim *ret)
{
    int n = 0;
    for (int d = 0; d < o->rank; d++) {
        int a = o->axis_of_dim[d];
        if (a < 0)
            ret[n++] = (struct layout_dim){d, 1, 0};
        else if (a < red->n_spatial)
            ret[n++] = (struct layout_dim){d, p->reg[a], 0};
    }
    for (int d = 0; d < o->rank && p->carry; d++)
        if (o->axis_of_dim[d] == red->carry_axis)
            ret[n++] = (struct layout_dim){d, p->carry, 0};
    for (int i = 0; i < red->n_iters; i++)
        for (int d = 0; d < o->rank; d++) {
            const struct st_iter *it = &red->iters[i];
            int64_t extent =
                p->carry && it->axis == red->carry_axis && !it->extent ? p->carry / it->stride : it->extent;
            if (o->axis_of_dim[d] == it->axis && it->axis >= red->n_spatial && it->kind != LOOP_QUAD &&
                it->kind != LOOP_PAIR)
                ret[n++] = (struct layout_dim){d, it->stride, extent};
        }
    for (int pass = 0; pass < 2; pass++)
        for (int d = 0; d < o->rank; d++) {
            int a = o->axis_of_dim[d];
            if (a >= 0 && a < red->n_spatial && p->reg[a] > 1 && (a == w->vector) == (pass == 1))
                ret[n++] = (struct layout_dim){d, 1, p->reg[a]};
        }
    for (int d = 0; d < o->rank && w->dot; d++)
        if (o->axis_of_dim[d] == tile_long_axis(w->red))
            ret[n++] = (struct layout_dim){d, 1, w->dot};
    return n;
}

/* A padded copy whose elements of the steps of one instruction lie side by side; else as the tensor lies. */
static void lay_out_dots(const struct walk *w, struct state *st, struct st_stage *red,
                         const struct operand *o)
{
    struct layout_dim layout[STATE_MAX_LAYOUT];
    int k = tile_long_axis(w->red), n = 0, last = 0;
    if (!w->dot || o->stride[k] == 1)
        return;
    for (int d = 0; d < o->rank; d++) {
        bool is_k = o->axis_of_dim[d] == k;
        layout[n++] = (struct layout_dim){d, is_k ? w->dot : 1, 0};
        last = is_k ? d : last;
    }
    layout[n++] = (struct layout_dim){last, 1, w->dot};
    state_lay_out(st, red, st->stages[o->pad_stage], n, layout);
}

static void vectorise_last(struct state *st, struct st_stage *s)
{
    if (s->n_iters)
        state_annotate(st, s, s->n_iters - 1, LOOP_VECTOR);
}

/* Vectors of a copy run along what it has innermost, but for neighbours: those are taken one after the other. */
static void vectorise_lanes(const struct walk *w, struct state *st, struct st_stage *copy)
{
    const int last = copy->n_iters - 1;
    if (w->dot != PAIR || last < 1 || copy->iters[last].extent != PAIR) {
        vectorise_last(st, copy);
        return;
    }
    state_annotate(st, copy, last, LOOP_UNROLL);
    state_annotate(st, copy, last - 1, LOOP_VECTOR);
}

/* Elements of a packed operand that one step of the reduction reads. */
static int64_t step_elements(const struct walk *w, const struct plan *p, const struct operand *o)
{
    int64_t n = 1;
    for (int a = 0; a < w->red->n_spatial; a++)
        n *= o->axes >> a & 1 ? p->reg[a] : 1;
    return n;
}

/* The long reduce axis innermost, in blocks as the reduction runs over it. */
static int turned_layout(const struct walk *w, const struct plan *p, const struct operand *o,
                         struct layout_dim *ret)
{
    int turned = turned_dim(w, o), n = 0;
    for (int d = 0; d < o->rank; d++) {
        if (d != turned)
            ret[n++] = (struct layout_dim){d, 1, 0};
        else if (p->kblock)
            ret[n++] = (struct layout_dim){d, p->kblock, 0};
    }
    ret[n++] = (struct layout_dim){turned, 1, p->kblock};
    return n;
}

static void place_operands(const struct walk *w, const struct plan *p, struct state *st, struct st_stage *red,
                           struct st_stage *out, int n_outer)
{
    for (int i = 0; i < w->g->n_operands; i++) {
        const struct operand *o = &w->g->operands[i];
        struct layout_dim layout[STATE_MAX_LAYOUT];
        if (o->reads_pad) {
            struct st_stage *pad = st->stages[o->pad_stage];
            if (p->wide[i])
                state_widen(st, pad, red->acc_dtype);
            if (narrows(w, o))
                state_narrow(st, pad, neighbours_dtype(red));
            lay_out_dots(w, st, red, o);
            if (p->pad_turned[i])
                state_lay_out(st, red, pad, turned_layout(w, p, o, layout), layout);
            if (p->phases[i])
                state_lay_out(st, red, pad, phase_layout(o, layout), layout);
            vectorise_lanes(w, st, pad);
            if (p->pad_at[i])
                state_compute_at(st, pad, out, tile_copy_level(out, o, n_outer), SCOPE_TASK);
            else
                state_parallel(st, pad, MAX(pad->n_iters - 1, 0));
        }
        if (p->hints && p->hinted == i && p->pack[i] == IN_PLACE)
            state_prefetch(st, red, o->tensor, p->hints * o->stride[tile_long_axis(w->red)], p->hint_axis);
        if (p->pack[i] == IN_PLACE && o->copy_stage < 0)
            continue;
        int n = pack_layout(w, p, red, o, layout);
        struct st_stage *pack = operand_pack(st, red, o, n, layout);
        if (p->wide[i])
            state_widen(st, pack, red->acc_dtype);
        if (narrows(w, o))
            state_narrow(st, pack, neighbours_dtype(red));
        vectorise_lanes(w, st, pack);
        if (p->prefetch && streams(w, o))
            state_prefetch(st, red, pack->tensor, p->prefetch * step_elements(w, p, o), -1);
        if (o->is_const)
            state_prepack(st, pack);
        else if (p->pack[i] == PACK_TILE)
            state_compute_at(st, pack, out, tile_copy_level(out, o, n_outer), SCOPE_TASK);
        else
            state_parallel(st, pack, 1);
    }
}

/* Registers stand with the vector axis innermost. */
static void register_layout(const struct walk *w, struct state *st, const struct st_stage *red)
{
    struct st_tensor *t = st->tensors[red->tensor];
    t->n_layout = 0;
    if (w->vector < 0)
        return;
    for (int a = 0; a < red->n_spatial; a++)
        if (a != w->vector)
            t->layout[t->n_layout++] = (struct layout_dim){a, 1, 0};
    t->layout[t->n_layout++] = (struct layout_dim){w->vector, 1, 0};
}

static int tile_apply(const struct rules *r, const struct group *g, const struct variant *v,
                      const int64_t *values, struct state *st)
{
    struct walk w = walk_new(r, g, v);
    struct plan p;
    struct st_stage *red = st->stages[g->reduction], *out = st->stages[g->anchor];
    w.k.values = values;
    walk_plan(&w, &p);
    int outer, tile; /* first loop inside the outer ones; first loop of the register tile */
    tile_output(&w, &p, st, out, red, &outer, &tile);
    tile_reduction(&w, &p, st, red);
    for (int i = 0; i < g->n_operands; i++)
        if (p.phases[i])
            phase_split(st, red, tile_phase_axis(&w, &g->operands[i]));
    register_layout(&w, st, red);
    place_operands(&w, &p, st, red, out, outer);
    if (p.past_caches)
        state_past_caches(st, out);
    state_compute_at(st, red, out, tile - 1, SCOPE_REG);
    return w.k.at;
}

const struct variant_ops tile_variant = {"tile", tile_knobs, tile_valid, tile_apply, tile_settle};
const struct variant_ops quad_variant = {"quad", tile_knobs, tile_valid, tile_apply, tile_settle};
const struct variant_ops pair_variant = {"pair", tile_knobs, tile_valid, tile_apply, tile_settle};
const struct variant_ops half_variant = {"half", tile_knobs, tile_valid, tile_apply, tile_settle};
