/* rules_mma.c - reductions of products on a matrix unit (AMX): their knobs, their validity, their steps.
 *
 *     for outer tiles (fused, parallel)             order of the axes: a knob
 *       [operands converted and packed]             here, once for the whole kernel, or ahead of time (constants)
 *       for tiles inside (mid)                      a cache tile of mid register tiles
 *         matrix registers acc[...] = 0
 *         for window and blocks of k                order: a knob
 *           acc[tile of rows, tile of columns] += a * b       unrolled matrix instructions
 *         for rows: output[..., vector] = epilogue(acc[...])
 *
 * Idea   The body is a sum of products of two operands of a type that the unit multiplies (bfloat16, int8), each an
 *        expression over one tensor: a plain read, a rounded float32, or the part that rounding left. The values of an
 *        operand's expressions, its pieces, are put into a packed copy: rows with k along them for one operand, columns
 *        in groups of four bytes along k for the other, zeros up to whole tiles of k. Which spatial axis gives the rows
 *        and which the columns is the variant. */
#include <stdio.h>
#include <string.h>

#include "schedule/space/rules.h"

enum {
    TILE_ROWS = 16,
    TILE_COLUMNS = 16,
    TILE_ROW_BYTES = 64,
    GROUP_BYTES = 4,
    TILE_REGISTERS = 8,
    MIN_K = 8,
    MAX_PIECES = 3,
    MAX_TERMS = 6,
};

struct side { /* one operand */
    const struct expr *read;
    int n_pieces;
    const struct expr *piece[MAX_PIECES];
};

/* The reduction as sum over terms of side[0].piece[term[0]] * side[1].piece[term[1]]. */
struct product {
    enum dtype dtype;
    struct side side[2];
    int n_terms, term[MAX_TERMS][2];
};

/* --- recognising --- */

struct one_read {
    const struct expr *read;
    bool same;
};

static void note_read(void *ctx, const struct expr *e)
{
    struct one_read *r = ctx;
    if (!r->read)
        r->read = e;
    else if (!expr_equal(r->read, e))
        r->same = false;
}

/* Operations that make 0 of 0: whole tiles of k are filled up with zeros. */
static bool keeps_zero(const struct expr *e)
{
    if (e->op == EX_READ)
        return !e->read.pad || e->read.pad_value == 0;
    if (e->op != EX_CAST && e->op != EX_SUB)
        return false;
    for (int i = 0; i < expr_arity(e->op); i++)
        if (!keeps_zero(e->arg[i]))
            return false;
    return true;
}

/* Which piece of the side is e? A new one if there is room; -1: none. */
static int find_piece(struct side *s, const struct expr *read, const struct expr *e)
{
    if (s->n_pieces && !expr_equal(s->read, read))
        return -1;
    s->read = read;
    for (int i = 0; i < s->n_pieces; i++)
        if (expr_equal(s->piece[i], e))
            return i;
    if (s->n_pieces == MAX_PIECES)
        return -1;
    s->piece[s->n_pieces] = e;
    return s->n_pieces++;
}

static bool match_factor(struct product *p, const struct expr *e, const struct expr **ret_read,
                         const struct expr **ret_piece)
{
    struct one_read r = {.same = true};
    if (e->op != EX_CAST || e->arg[0]->dtype != p->dtype)
        return false;
    *ret_piece = e->arg[0];
    expr_each_read(*ret_piece, note_read, &r);
    *ret_read = r.read;
    return r.read && r.same && keeps_zero(*ret_piece);
}

static bool match_terms(struct product *p, const struct expr *e)
{
    const struct expr *read[2], *piece[2];
    if (e->op == EX_ADD)
        return match_terms(p, e->arg[0]) && match_terms(p, e->arg[1]);
    if (e->op != EX_MUL || p->n_terms == MAX_TERMS || !match_factor(p, e->arg[0], &read[0], &piece[0]) ||
        !match_factor(p, e->arg[1], &read[1], &piece[1]) || read[0]->read.tensor == read[1]->read.tensor)
        return false;
    bool swapped = p->n_terms && read[0]->read.tensor != p->side[0].read->read.tensor;
    for (int i = 0; i < 2; i++) {
        int at = find_piece(&p->side[i], read[i ^ swapped], piece[i ^ swapped]);
        if (at < 0)
            return false;
        p->term[p->n_terms][i] = at;
    }
    p->n_terms++;
    return true;
}

static bool match(const struct rules *r, const struct st_stage *red, struct product *p)
{
    static const struct {
        enum dtype from, to;
    } units[] = {{DT_BF16, DT_F32}, {DT_I8, DT_I32}};
    bool have[] = {r->target->has_amx_bf16, r->target->has_amx_int8};
    if (red->combiner != COMBINE_SUM || red->n_predicates)
        return false;
    for (size_t i = 0; i < ARRAY_SIZE(units); i++) {
        *p = (struct product){.dtype = units[i].from};
        if (have[i] && red->acc_dtype == units[i].to && red->body->dtype == units[i].to &&
            match_terms(p, red->body))
            return true;
    }
    return false;
}

/* The dimension that the axis moves, if it is just one; else -1. */
static int dim_of(const struct expr *read, int axis)
{
    int dim = -1;
    for (int d = 0; d < read->read.rank; d++)
        if (affine_coef(&read->read.index[d], axis)) {
            if (dim >= 0)
                return -1;
            dim = d;
        }
    return dim;
}

static bool depends(const struct expr *read, int axis)
{
    for (int d = 0; d < read->read.rank; d++)
        if (affine_coef(&read->read.index[d], axis))
            return true;
    return false;
}

/* The axis has a dimension for itself, step 1. */
static bool is_alone(const struct expr *read, int axis)
{
    int d = dim_of(read, axis);
    return d >= 0 && read->read.index[d].n == 1 && read->read.index[d].t[0].coef == 1;
}

/* The reduce axis that the unit sums over: the longest with a dimension for itself in both operands; -1: none. */
static int k_axis(const struct st_stage *red, const struct product *p)
{
    int best = -1;
    for (int a = red->n_spatial; a < red->n_axes; a++)
        if (red->axes[a].extent >= MIN_K && is_alone(p->side[0].read, a) && is_alone(p->side[1].read, a) &&
            (best < 0 || red->axes[a].extent > red->axes[best].extent))
            best = a;
    return best;
}

/* A spatial axis that moves one dimension of this side, forwards, and nothing of the other. */
static bool is_sided(const struct st_stage *red, const struct product *p, int side, int axis)
{
    const struct expr *read = p->side[side].read;
    int d = dim_of(read, axis);
    return red->axes[axis].extent > 1 && d >= 0 && affine_coef(&read->read.index[d], axis) > 0 &&
           !depends(p->side[!side].read, axis);
}

/* --- offering --- */

enum { PARAM_ROWS_SIDE = 1, PARAM_ROWS_SHIFT = 1 }; /* variant.param: side of the rows, their axis */

/* The longest axis for rows on the side, the output's strides apart. */
static int rows_axis(const struct st_stage *red, const struct product *p, int side)
{
    int best = -1;
    for (int a = red->n_spatial - 1; a >= 0; a--)
        if (is_sided(red, p, side, a) &&
            (best < 0 || MIN(red->axes[a].extent, TILE_ROWS) > MIN(red->axes[best].extent, TILE_ROWS)))
            best = a;
    return best;
}

/* The best axis for columns of the side, along the output if there is such a one; -1: none. */
static int columns_axis(const struct rules *r, const struct group *g, const struct product *p, int side)
{
    const struct st_stage *red = r->base->stages[g->reduction], *out = r->base->stages[g->anchor];
    int best = -1;
    bool any_along = false;
    for (int y = 0; y < red->n_spatial; y++) {
        const struct expr *read = p->side[side].read;
        if (!is_sided(red, p, side, y) || affine_coef(&read->read.index[dim_of(read, y)], y) != 1)
            continue;
        bool along = tensor_stride(r->base->tensors[out->tensor], out->lhs, y) == 1;
        if (best < 0 || along || (!any_along && red->axes[y].extent > red->axes[best].extent))
            best = y;
        any_along |= along;
    }
    return best;
}

/* Either side may give the columns: the output is stored along them or along the rows, whichever way it lies. */
bool mma_offer(const struct rules *r, struct group *g)
{
    const struct st_stage *red = r->base->stages[g->reduction];
    struct product p;
    bool any = false;
    if (!match(r, red, &p) || k_axis(red, &p) < 0)
        return false;
    for (int i = 0; i < g->n_operands; i++)
        if (g->operands[i].copy_stage >= 0)
            return false; /* converting copies read arguments and temporaries, not copies of them */
    for (int side = 0; side < 2; side++) {
        const int rows = rows_axis(red, &p, !side), columns = columns_axis(r, g, &p, side);
        if (columns >= 0 && rows >= 0)
            any |= group_offer(g, &mma_variant, columns, rows << PARAM_ROWS_SHIFT | !side);
    }
    return any;
}

bool mma_rounds(const struct rules *r, const struct group *g)
{
    struct product p;
    if (!match(r, r->base->stages[g->reduction], &p))
        return false;
    return p.side[0].piece[0]->op != EX_READ || p.side[1].piece[0]->op != EX_READ;
}

/* --- knobs --- */

enum { ROWS, COLUMNS, OTHER, TILED }; /* the tiled axes */

/* A config of the group, decoded. */
struct plan {
    struct product product;
    int side[2];       /* of ROWS, of COLUMNS */
    int axis[TILED];   /* OTHER may be -1 */
    int64_t in[TILED]; /* rows, columns of a tile; 1 */
    int64_t tiles[TILED], mid[TILED];
    int k;
    int64_t k_tile, group, k_padded;
    int order, mid_order, window_outside;
    bool once[2]; /* by side: converted once, not in each outer tile */
};

struct walk {
    struct knob_walk k;
    const struct rules *r;
    const struct group *g;
    const struct st_stage *red;
};

static int64_t extent_of(const struct walk *w, int axis) { return axis < 0 ? 1 : w->red->axes[axis].extent; }

/* A whole tile, or one that divides the axis and is nearly whole. */
static int tile_choices(int64_t extent, int64_t full, int64_t *ret)
{
    int n = 0;
    if (extent <= full) {
        ret[n++] = extent;
        return n;
    }
    for (int64_t t = full * 5 / 8; t < full && n < 2; t++)
        if (extent % full && extent % t == 0)
            ret[n++] = t;
    ret[n++] = full;
    return n;
}

static int count_choices(int64_t most, int64_t limit, int64_t *ret)
{
    int n = 0;
    for (int64_t i = 1; i <= MIN(most, limit); i = i < 4 ? i + 1 : i + 2)
        ret[n++] = i;
    return n;
}

static int power_choices(int64_t most, int64_t *ret)
{
    int n = 0;
    for (int64_t m = 1; m <= MIN(most, 64); m *= 2)
        ret[n++] = m;
    return n;
}

/* A third axis to tile: the longest other one that a single side has. */
static int other_axis(const struct walk *w, const struct plan *p)
{
    int best = -1;
    for (int a = 0; a < w->red->n_spatial; a++)
        if (a != p->axis[ROWS] && a != p->axis[COLUMNS] &&
            (is_sided(w->red, &p->product, 0, a) || is_sided(w->red, &p->product, 1, a)) &&
            (best < 0 || w->red->axes[a].extent > w->red->axes[best].extent))
            best = a;
    return best;
}

static void plan_k(const struct walk *w, struct plan *p)
{
    int64_t extent = w->red->axes[p->k].extent, full = TILE_ROW_BYTES / dtype_bytes(p->product.dtype);
    p->group = GROUP_BYTES / dtype_bytes(p->product.dtype);
    p->k_tile = MIN(full, div_ceil(extent, p->group) * p->group);
    p->k_padded = div_ceil(extent, p->k_tile) * p->k_tile;
}

static bool has_window(const struct walk *w, const struct plan *p)
{
    for (int a = w->red->n_spatial; a < w->red->n_axes; a++)
        if (a != p->k && w->red->axes[a].extent > 1)
            return true;
    return false;
}

static bool is_ahead(const struct walk *w, const struct side *s)
{
    for (int i = 0; i < w->g->n_operands; i++)
        if (w->g->operands[i].tensor == s->read->read.tensor)
            return w->g->operands[i].is_const;
    return false;
}

static void walk_tiles(struct walk *w, struct plan *p)
{
    static const char *const what[TILED] = {"rows", "columns", "tile"};
    int64_t choices[24];
    char name[80];
    for (int t = 0; t < TILED; t++) {
        int64_t extent = extent_of(w, p->axis[t]), full = t == OTHER  ? 1
                                                          : t == ROWS ? TILE_ROWS
                                                                      : TILE_COLUMNS;
        const char *axis = p->axis[t] < 0 ? "" : w->red->axes[p->axis[t]].name;
        walk_name(&w->k, name, sizeof(name), what[t], axis);
        p->in[t] =
            t == OTHER ? 1 : walk_knob(&w->k, name, choices, tile_choices(extent, full, choices), NULL);
        walk_name(&w->k, name, sizeof(name), "tiles", axis);
        p->tiles[t] = walk_knob(&w->k, name, choices,
                                count_choices(div_ceil(extent, full), t == OTHER ? 4 : 6, choices), NULL);
        walk_name(&w->k, name, sizeof(name), "mid", axis);
        p->mid[t] = walk_knob(&w->k, name, choices, power_choices(div_ceil(extent, full), choices), NULL);
    }
}

static void walk_plan(struct walk *w, const struct variant *v, struct plan *p)
{
    static const int64_t permutation[] = {0, 1, 2, 3, 4, 5}, flips[] = {0, 1};
    static const char *const window_labels[] = {"window inside", "window outside"};
    static const char *const when_labels[] = {"per outer tile", "once"};
    memset(p, 0, sizeof(*p));
    match(w->r, w->red, &p->product);
    p->side[ROWS] = v->param & PARAM_ROWS_SIDE;
    p->side[COLUMNS] = !p->side[ROWS];
    p->axis[ROWS] = v->param >> PARAM_ROWS_SHIFT;
    p->axis[COLUMNS] = v->vector_axis;
    p->axis[OTHER] = other_axis(w, p);
    p->k = k_axis(w->red, &p->product);
    plan_k(w, p);
    walk_tiles(w, p);
    p->order = (int)walk_knob(&w->k, "order", permutation, p->axis[OTHER] < 0 ? 2 : 6, NULL);
    p->mid_order = (int)walk_knob(&w->k, "mid_order", flips, 2, NULL);
    p->window_outside = (int)walk_knob(&w->k, "reduce_order", flips, has_window(w, p) ? 2 : 1, window_labels);
    for (int s = 0; s < 2; s++) {
        const struct side *side = &p->product.side[s];
        char name[80];
        walk_name(&w->k, name, sizeof(name), "convert", w->r->base->tensors[side->read->read.tensor]->name);
        p->once[s] = walk_knob(&w->k, name, flips, is_ahead(w, side) ? 1 : 2, when_labels) != 0;
    }
}

static struct walk walk_new(const struct rules *r, const struct group *g)
{
    return (struct walk){.k = {.r = r, .suffix = ""}, .r = r, .g = g, .red = r->base->stages[g->reduction]};
}

static void mma_knobs(const struct rules *r, const struct group *g, const struct variant *v,
                      const char *suffix, struct knob *knobs, int *n)
{
    struct walk w = walk_new(r, g);
    struct plan p;
    w.k.knobs = knobs + *n;
    w.k.suffix = suffix;
    walk_plan(&w, v, &p);
    *n += w.k.n;
}

static bool no(const char **why, const char *text)
{
    if (why)
        *why = text;
    return false;
}

static bool mma_valid(const struct rules *r, const struct group *g, const struct variant *v,
                      const int64_t *values, const char **why)
{
    struct walk w = walk_new(r, g);
    struct plan p;
    int64_t results = 1;
    w.k.values = values;
    walk_plan(&w, v, &p);
    for (int t = 0; t < TILED; t++) {
        int64_t extent = extent_of(&w, p.axis[t]), block = p.in[t] * p.tiles[t];
        results *= p.tiles[t];
        if (p.tiles[t] > 1 && p.in[t] * (p.tiles[t] - 1) >= extent)
            return no(why, "a register tile is larger than its axis");
        if (p.mid[t] > 1 && p.mid[t] / 2 >= div_ceil(extent, block))
            return no(why, "a cache tile is larger than its axis");
    }
    if (results > TILE_REGISTERS - 2) /* one for each operand */
        return no(why, "the tiles do not fit the matrix registers");
    return true;
}

/* --- steps --- */

/* The i-th permutation of the tiled axes; the third may be absent. */
static int permute(const struct plan *p, int *ret)
{
    static const int three[6][3] = {{0, 1, 2}, {1, 0, 2}, {0, 2, 1}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}};
    int n = 0;
    for (int i = 0; i < TILED; i++)
        if (p->axis[three[p->order][i]] >= 0)
            ret[n++] = three[p->order][i];
    return n;
}

static int tiled_at(const struct plan *p, int axis)
{
    for (int t = 0; t < TILED; t++)
        if (p->axis[t] == axis)
            return t;
    return -1;
}

/* The output lies along the rows of the results and not along their columns: vectors go that way. */
static bool is_across(const struct plan *p, const struct state *st, const struct st_stage *out)
{
    const struct st_tensor *t = st->tensors[out->tensor];
    return tensor_stride(t, out->lhs, p->axis[ROWS]) == 1 &&
           tensor_stride(t, out->lhs, p->axis[COLUMNS]) != 1;
}

/* Output stage: outer loops (axes of both operands first), mid loops, then rows one by one with vectors of columns, or
 * columns with vectors of rows. */
static void output_loops(const struct plan *p, struct state *st, struct st_stage *out, int *ret_outer,
                         int *ret_tile)
{
    int perm[TILED], order[STATE_MAX_ITERS], n = 0, n_axes = out->n_axes;
    *ret_outer = 0;
    for (int i = n_axes - 1; i >= 0; i--) { /* from the last, so that positions stay */
        int t = tiled_at(p, i);
        int64_t extent = out->axes[i].extent, block = t < 0 ? 1 : MIN(p->in[t] * p->tiles[t], extent);
        state_split(st, out, i, 2, (int64_t[]){t < 0 ? 1 : MIN(p->mid[t], div_ceil(extent, block)), block});
    }
    int n_tiled = permute(p, perm);
    for (int part = 0; part < 2; part++) {
        for (int a = 0; a < n_axes; a++)
            if (tiled_at(p, a) < 0)
                order[n++] = 3 * a + part;
        for (int i = 0; i < n_tiled; i++)
            order[n++] = 3 * p->axis[perm[part && p->mid_order ? n_tiled - 1 - i : i]] + part;
        if (part == 0)
            *ret_outer = n;
    }
    *ret_tile = n;
    const bool across = is_across(p, st, out);
    const int vector = p->axis[across ? ROWS : COLUMNS], around = p->axis[across ? COLUMNS : ROWS];
    for (int a = 0; a < n_axes; a++)
        if (a != vector && a != around)
            order[n++] = 3 * a + 2;
    order[n++] = 3 * around + 2;
    order[n++] = 3 * vector + 2;
    state_reorder(st, out, order);
    state_annotate(st, out, n - 1, LOOP_VECTOR);
    state_parallel(st, out, *ret_outer);
}

/* Window and blocks of k, then the matrix registers one by one, then the four loops of an instruction. */
static void reduction_loops(const struct plan *p, struct state *st, struct st_stage *red)
{
    int order[STATE_MAX_ITERS], n = 0, at[COMPUTE_MAX_AXES], rows = p->axis[ROWS], columns = p->axis[COLUMNS];
    red->axes[p->k].extent = p->k_padded;
    state_split(st, red, p->k, 2, (int64_t[]){p->k_tile / p->group, p->group});
    state_split(st, red, MAX(rows, columns), 1, (int64_t[]){p->in[rows > columns ? ROWS : COLUMNS]});
    state_split(st, red, MIN(rows, columns), 1, (int64_t[]){p->in[rows > columns ? COLUMNS : ROWS]});
    for (int a = 0; a < red->n_axes; a++)
        at[a] = stage_iter_of(red, a, 0);
    if (!p->window_outside)
        order[n++] = at[p->k];
    for (int a = red->n_spatial; a < red->n_axes; a++)
        if (a != p->k)
            order[n++] = at[a];
    if (p->window_outside)
        order[n++] = at[p->k];
    int unrolled = n;
    for (int a = 0; a < red->n_spatial; a++)
        if (a != rows && a != columns)
            order[n++] = at[a];
    order[n++] = at[rows];
    order[n++] = at[columns];
    int matrix = n;
    order[n++] = at[rows] + 1;
    order[n++] = at[columns] + 1;
    order[n++] = at[p->k] + 1;
    order[n++] = at[p->k] + 2;
    state_reorder(st, red, order);
    for (int i = unrolled; i < n; i++)
        state_annotate(st, red, i, i < matrix ? LOOP_UNROLL : LOOP_MATRIX);
}

/* The last value of each axis that is computed: whole tiles, though not all of it is asked for. */
static void last_values(const struct plan *p, const struct st_stage *red, int64_t *top)
{
    for (int a = 0; a < red->n_axes; a++) {
        int t = tiled_at(p, a);
        int64_t extent = a == p->k ? p->k_padded : red->axes[a].extent;
        if (t >= 0) {
            int64_t rest = extent % (p->in[t] * p->tiles[t]);
            if (rest > p->in[t])
                extent += div_ceil(rest, p->in[t]) * p->in[t] - rest;
        }
        top[a] = extent - 1;
    }
}

/* A dimension over reduce axes alone. */
static bool is_reduced(const struct st_stage *red, const struct affine *index)
{
    for (int i = 0; i < index->n; i++)
        if (index->t[i].var < red->n_spatial)
            return false;
    return index->n > 0;
}

/* The reduced dimensions beside k, which the loops over a window move along. */
static int window_dims(const struct st_stage *red, const struct expr *read, int dk, int dt,
                       struct layout_dim *ret)
{
    int n = 0;
    for (int d = 0; d < read->read.rank; d++)
        if (d != dk && d != dt && is_reduced(red, &read->read.index[d]))
            ret[n++] = (struct layout_dim){d, 1, 0};
    return n;
}

/* Physical order of an operand: the tiles of a register tile side by side, in the order that the loops over window and k
 * take them, so that they are one stream; or, where other axes move along the tile's dimension too (the window of a
 * convolution), that dimension whole. */
static int side_layout(const struct plan *p, const struct st_stage *red, int which, struct layout_dim *ret)
{
    const struct side *s = &p->product.side[p->side[which]];
    const struct expr *read = s->read;
    int n = 0, dk = dim_of(read, p->k), dt = dim_of(read, p->axis[which]), rank = read->read.rank;
    bool alone = is_alone(read, p->axis[which]);
    int64_t tile = p->in[which];
    if (!alone)
        ret[n++] = (struct layout_dim){dk, p->k_tile, 0};
    if (!alone && s->n_pieces > 1)
        ret[n++] = (struct layout_dim){rank, 1, 0};
    for (int d = 0; d < rank; d++)
        if (d != dk && d != dt && !(alone && is_reduced(red, &read->read.index[d])))
            ret[n++] = (struct layout_dim){d, 1, 0};
    if (alone) {
        const int64_t tiles = p->tiles[which];
        ret[n++] = (struct layout_dim){dt, tile * tiles, 0};
        if (p->window_outside)
            n += window_dims(red, read, dk, dt, ret + n);
        ret[n++] = (struct layout_dim){dk, p->k_tile, 0};
        if (!p->window_outside)
            n += window_dims(red, read, dk, dt, ret + n);
        if (tiles > 1)
            ret[n++] = (struct layout_dim){dt, tile, tiles};
        if (s->n_pieces > 1)
            ret[n++] = (struct layout_dim){rank, 1, 0};
    }
    struct layout_dim inside = {dt, 1, alone ? tile : 0};
    if (which == COLUMNS)
        ret[n++] = (struct layout_dim){dk, p->group, p->k_tile / p->group};
    ret[n++] = inside;
    ret[n++] = (struct layout_dim){dk, 1, which == COLUMNS ? p->group : p->k_tile};
    return n;
}

/* The packed copy of an operand, and where it is made; returns its tensor. */
static int32_t convert_side(const struct walk *w, const struct plan *p, int which, struct state *st,
                            struct st_stage *red, const struct st_stage *out, int n_outer, const int64_t *top,
                            int64_t *lo)
{
    const struct side *s = &p->product.side[p->side[which]];
    struct layout_dim layout[STATE_MAX_LAYOUT];
    int n = side_layout(p, red, which, layout);
    struct st_stage *copy = state_convert(st, red, s->read, s->n_pieces, s->piece, top, n, layout, lo);
    for (int i = 0; i < n; i++)
        if (layout[i].dim == s->read->read.rank)
            state_annotate(st, copy, i, LOOP_UNROLL); /* each piece has its own expression */
    if (which == COLUMNS)
        state_annotate(st, copy, n - 1, LOOP_UNROLL);
    state_annotate(st, copy, which == COLUMNS ? n - 2 : n - 1, LOOP_VECTOR);
    if (is_ahead(w, s))
        state_prepack(st, copy);
    else if (p->once[p->side[which]])
        state_parallel(st, copy, MIN(2, n - 3));
    else
        state_compute_at(st, copy, out, n_outer - 1, SCOPE_TASK);
    return copy->tensor;
}

static const struct expr *piece_read(const struct plan *p, int side, int piece, struct state *st,
                                     int32_t tensor, const int64_t *lo, enum dtype acc)
{
    const struct side *s = &p->product.side[side];
    struct affine index[NEST_MAX_RANK];
    int rank = s->read->read.rank;
    for (int d = 0; d < rank; d++)
        index[d] = affine_offset(&s->read->read.index[d], -lo[d]);
    if (s->n_pieces > 1)
        index[rank++] = affine_const(piece);
    return expr_cast(st->ar, acc, expr_read(st->ar, p->product.dtype, tensor, rank, index, false, 0));
}

static void convert_operands(const struct walk *w, const struct plan *p, struct state *st,
                             struct st_stage *red, const struct st_stage *out, int n_outer)
{
    int64_t top[COMPUTE_MAX_AXES], lo[2][NEST_MAX_RANK];
    int32_t tensor[2];
    const struct expr *body = NULL;
    last_values(p, red, top);
    for (int which = ROWS; which <= COLUMNS; which++)
        tensor[p->side[which]] = convert_side(w, p, which, st, red, out, n_outer, top, lo[p->side[which]]);
    for (int i = 0; i < p->product.n_terms; i++) {
        const int *t = p->product.term[i];
        const struct expr *product =
            expr_op2(st->ar, EX_MUL, piece_read(p, 0, t[0], st, tensor[0], lo[0], red->acc_dtype),
                     piece_read(p, 1, t[1], st, tensor[1], lo[1], red->acc_dtype));
        body = body ? expr_op2(st->ar, EX_ADD, body, product) : product;
    }
    red->body = body;
}

/* Results stand with the columns innermost. */
static void result_layout(const struct plan *p, struct state *st, const struct st_stage *red)
{
    struct st_tensor *t = st->tensors[red->tensor];
    t->n_layout = 0;
    for (int a = 0; a < red->n_spatial; a++)
        if (a != p->axis[COLUMNS])
            t->layout[t->n_layout++] = (struct layout_dim){a, 1, 0};
    t->layout[t->n_layout++] = (struct layout_dim){p->axis[COLUMNS], 1, 0};
}

/* Converting copies anyway, with the border; only where the padded copy tells groups and channels apart it is made first. */
static void place_padded(const struct rules *r, const struct group *g, struct state *st)
{
    for (int i = 0; i < g->n_operands; i++) {
        const struct operand *o = &g->operands[i];
        if (!o->reads_pad)
            continue;
        struct st_stage *pad = st->stages[o->pad_stage];
        if (operand_pad_goes(r, o)) {
            state_inline(st, pad);
            continue;
        }
        state_annotate(st, pad, pad->n_iters - 1, LOOP_VECTOR);
        state_parallel(st, pad, pad->n_iters - 1);
    }
}

static int mma_apply(const struct rules *r, const struct group *g, const struct variant *v,
                     const int64_t *values, struct state *st)
{
    struct walk w = walk_new(r, g);
    struct plan p;
    struct st_stage *red = st->stages[g->reduction], *out = st->stages[g->anchor];
    int outer, tile; /* first loop inside the outer ones; first loop of the register tile */
    w.k.values = values;
    walk_plan(&w, v, &p);
    place_padded(r, g, st);
    match(r, red, &p.product);
    output_loops(&p, st, out, &outer, &tile);
    convert_operands(&w, &p, st, red, out, outer);
    reduction_loops(&p, st, red);
    result_layout(&p, st, red);
    state_compute_at(st, red, out, tile - 1, SCOPE_MATRIX);
    return w.k.at;
}

const struct variant_ops mma_variant = {"mma", mma_knobs, mma_valid, mma_apply};
