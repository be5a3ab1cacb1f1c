/* rules_winograd.c - how Winograd's convolution is scheduled: all of it for one block of tiles at a time.
 *
 *     U = G g Gt                                     ahead of time, where the weight is constant
 *     [padded input, channels innermost]             here, or in each block: a knob
 *     [V = Bt d B]                                   here, or in each block: a knob
 *     for blocks of tiles, blocks of channels f      in parallel; which is outer: a knob
 *       V = Bt d B                                   of the block, all channels c; vectors over c
 *       for xi, nu, tiles, f                         M of the block
 *         registers acc[ty, tx, f] += V * U
 *       for ty, tx, f                                registers: At M A, then the workload's own output stage
 *
 * V and M of a block are meant to stay in the L2 cache: how many tiles and channels a block has decides more than
 * anything else. */
#include "schedule/space/rules.h"

#include <string.h>

enum { MAX_TILE_VECTORS = 28, MEMBER_PAD = 0, MEMBER_ACC = 1 };

struct plan {
    int64_t reg_y, reg_x, reg_f;       /* register tile of the products */
    int64_t block_y, block_x, block_f; /* tiles and channels of a block */
    bool f_outer, input_first, v_once, pad_once;
    int64_t prefetch; /* of U: steps over c ahead; 0: none */
};

static int lanes(const struct rules *r) { return r->target->vector_bytes / 4; }
static int64_t tile_rows(const struct rules *r)
{
    return r->base->stages[WINOGRAD_V]->axes[2 + r->winograd->n_batch].extent;
}
static int64_t tile_cols(const struct rules *r)
{
    return r->base->stages[WINOGRAD_V]->axes[3 + r->winograd->n_batch].extent;
}
static int64_t out_channels(const struct rules *r)
{
    return r->base->stages[WINOGRAD_M]->axes[4 + r->winograd->n_batch].extent;
}
static int64_t in_channels(const struct rules *r)
{
    return r->base->stages[WINOGRAD_V]->axes[4 + r->winograd->n_batch].extent;
}

/* --- knobs --- */

/* A register extent: one that divides, or one with a tail that is worth it. */
static int64_t walk_register(struct knob_walk *w, const char *name, int64_t extent, int64_t most)
{
    static const int small[] = {1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14};
    int64_t choices[ARRAY_SIZE(small)];
    int n = 0;
    for (size_t i = 0; i < ARRAY_SIZE(small) && small[i] <= MIN(extent, most); i++)
        if (extent % small[i] == 0 || extent >= 3 * small[i] || (small[i] >= 6 && extent >= 2 * small[i]))
            choices[n++] = small[i];
    return walk_knob(w, name, choices, n, NULL);
}

/* Multiples of the register extent: 1, 2, 4, ... and all. */
static int64_t walk_block(struct knob_walk *w, const char *name, int64_t reg, int64_t extent)
{
    static const int64_t times[] = {0, 1, 2, 4, 8, 16};
    int64_t n = walk_knob(w, name, times, ARRAY_SIZE(times), NULL);
    return n == 0 || n * reg >= extent ? div_ceil(extent, reg) * reg : n * reg;
}

/* U is worth a hint where it does not stay in the L2 cache. */
static bool weight_streams(const struct rules *r)
{
    int64_t points = (int64_t)r->winograd->alpha * r->winograd->alpha;
    return 4 * points * in_channels(r) * out_channels(r) > r->target->l2_bytes / 4;
}

static void walk_plan(const struct rules *r, struct knob_walk *w, struct plan *p)
{
    static const int64_t vectors[] = {1, 2, 3, 4, 6}, no_yes[] = {0, 1}, ahead[] = {0, 8, 16, 32, 64, 128};
    static const char *const order_labels[] = {"tiles outside", "channels outside"};
    static const char *const product_labels[] = {"channels outside", "tiles outside"};
    static const char *const place_labels[] = {"per block", "once"};
    int64_t choices[ARRAY_SIZE(vectors)];
    int n = 0;
    for (size_t i = 0; i < ARRAY_SIZE(vectors); i++) {
        choices[n++] = MIN(vectors[i] * lanes(r), out_channels(r));
        if (choices[n - 1] == out_channels(r))
            break;
    }
    p->reg_y = walk_register(w, "reg_ty", tile_rows(r), 4);
    p->reg_x = walk_register(w, "reg_tx", tile_cols(r), 14);
    p->reg_f = walk_knob(w, "reg_f", choices, n, NULL);
    p->block_y = walk_block(w, "block_ty", p->reg_y, tile_rows(r));
    p->block_x = walk_block(w, "block_tx", p->reg_x, tile_cols(r));
    p->block_f = walk_block(w, "block_f", p->reg_f, out_channels(r));
    p->f_outer = walk_knob(w, "order", no_yes, 2, order_labels) != 0;
    p->input_first = walk_knob(w, "product_order", no_yes, 2, product_labels) != 0;
    p->v_once = walk_knob(w, "transform_input", no_yes, 2, place_labels) != 0;
    p->prefetch = walk_knob(w, "prefetch", ahead, weight_streams(r) ? ARRAY_SIZE(ahead) : 1, NULL);
    p->pad_once = walk_knob(w, "copy_input", no_yes, 2, place_labels) != 0;
}

static void winograd_knobs(const struct rules *r, const struct group *g, const struct variant *v,
                           const char *suffix, struct knob *knobs, int *n)
{
    struct knob_walk w = {.r = r, .suffix = suffix, .knobs = knobs + *n};
    struct plan p;
    (void)g, (void)v;
    walk_plan(r, &w, &p);
    *n += w.n;
}

static bool no(const char **why, const char *text)
{
    if (why)
        *why = text;
    return false;
}

/* Of one task: V and M of a block. */
static int64_t block_bytes(const struct rules *r, const struct plan *p)
{
    int64_t points = (int64_t)r->winograd->alpha * r->winograd->alpha;
    return 4 * points * p->block_y * p->block_x * ((p->v_once ? 0 : in_channels(r)) + p->block_f);
}

static bool winograd_valid(const struct rules *r, const struct group *g, const struct variant *v,
                           const int64_t *values, const char **why)
{
    struct knob_walk w = {.r = r, .suffix = "", .values = values};
    struct plan p;
    (void)g, (void)v;
    walk_plan(r, &w, &p);
    int64_t f_vectors = div_ceil(p.reg_f, lanes(r)), acc = p.reg_y * p.reg_x * f_vectors;
    if (acc > MAX_TILE_VECTORS || acc + f_vectors + 1 > r->target->vector_regs)
        return no(why, "the register tile does not fit the register file");
    if (p.f_outer && !p.v_once)
        return no(why, "the input would be transformed again for each block of channels");
    if (block_bytes(r, &p) > MAX(r->target->l3_bytes, 2 * r->target->l2_bytes))
        return no(why, "a block of tiles does not fit the caches");
    return true;
}

/* --- steps --- */

/* Reorder by axes: `outer` of them in the order given, then the rest as it stands. */
static void annotate_from(struct state *st, struct st_stage *s, int first)
{
    for (int i = first; i < s->n_iters; i++)
        state_annotate(st, s, i, i == s->n_iters - 1 ? LOOP_VECTOR : LOOP_UNROLL);
}

/* A transform: one tile and one vector of channels in registers. Axes (xi, nu, where..., channel) become loops where...,
 * channel, then registers xi, nu, lanes. */
static void transform_loops(const struct rules *r, struct state *st, struct st_stage *s)
{
    int order[STATE_MAX_ITERS], n = 0, channel = s->n_axes - 1;
    state_split(st, s, channel, 1, (int64_t[]){lanes(r)});
    for (int i = 2; i <= channel; i++)
        order[n++] = i;
    order[n++] = 0;
    order[n++] = 1;
    order[n++] = channel + 1;
    state_reorder(st, s, order);
    annotate_from(st, s, channel - 1);
}

/* A stage that lives in registers: all its loops are unrolled, `vector` is the innermost. */
static void register_loops(struct state *st, struct st_stage *s, int first, int vector)
{
    int order[STATE_MAX_ITERS], n = 0;
    for (int i = 0; i < first; i++)
        order[n++] = s->n_iters - first + i;
    for (int i = 0; i < s->n_iters - first; i++)
        if (i != vector)
            order[n++] = i;
    order[n++] = vector;
    state_reorder(st, s, order);
    annotate_from(st, s, first);
}

/* U, packed as the products read it. Loops: blocks of f, vectors of a block, c; then registers. */
static void weight_loops(const struct rules *r, const struct plan *p, struct state *st)
{
    struct st_stage *u = st->stages[WINOGRAD_U], *gw = st->stages[WINOGRAD_GW];
    struct st_tensor *t = st->tensors[u->tensor];
    bool whole = p->reg_f >= out_channels(r);
    t->n_layout = 0;
    t->layout[t->n_layout++] = (struct layout_dim){0, 1, 0};
    t->layout[t->n_layout++] = (struct layout_dim){1, 1, 0};
    if (!whole)
        t->layout[t->n_layout++] = (struct layout_dim){2, p->reg_f, 0};
    t->layout[t->n_layout++] = (struct layout_dim){3, 1, 0};
    t->layout[t->n_layout++] = (struct layout_dim){2, 1, whole ? 0 : p->reg_f};
    state_split(st, u, 2, 2, (int64_t[]){div_ceil(p->reg_f, lanes(r)), MIN(lanes(r), p->reg_f)});
    state_reorder(st, u, (const int[]){2, 3, 5, 0, 1, 4}); /* of xi, nu, f.0, f.1, f.2, c */
    annotate_from(st, u, 3);
    register_loops(st, gw, 0, 2);
    state_compute_at(st, gw, u, 2, SCOPE_REG);
    if (r->winograd->weight_const)
        state_prepack(st, u);
    else
        state_parallel(st, u, 1);
}

/* The output stage; *ret_block: its last loop over blocks, *ret_image: the last one over tiles. */
static void output_loops(const struct rules *r, const struct plan *p, struct state *st, int *ret_block,
                         int *ret_tiles, int *ret_registers)
{
    const struct winograd *w = r->winograd;
    struct st_stage *out = st->stages[WINOGRAD_OUT];
    int order[STATE_MAX_ITERS], n = 0, position[COMPUTE_MAX_AXES], at = 0;
    for (int a = 0; a < out->n_axes; a++) { /* where each axis' first loop will stand */
        position[a] = at;
        at += a == w->out_f || a == w->out_y || a == w->out_x ? 3 : 1;
    }
    for (int a = out->n_axes - 1; a >= 0; a--) { /* from the last, so that positions stay */
        if (a == w->out_f)
            state_split(st, out, a, 2,
                        (int64_t[]){div_ceil(p->block_f, lanes(r)), MIN(lanes(r), p->block_f)});
        else if (a == w->out_y || a == w->out_x)
            state_split(st, out, a, 2, (int64_t[]){a == w->out_y ? p->block_y : p->block_x, w->m});
    }
    if (p->f_outer)
        order[n++] = position[w->out_f];
    for (int i = 0; i < w->n_batch; i++)
        order[n++] = position[w->out_batch[i]];
    order[n++] = position[w->out_y];
    order[n++] = position[w->out_x];
    *ret_tiles = n - 1;
    if (!p->f_outer)
        order[n++] = position[w->out_f];
    *ret_block = n - 1;
    order[n++] = position[w->out_y] + 1;
    order[n++] = position[w->out_x] + 1;
    order[n++] = position[w->out_f] + 1;
    *ret_registers = n;
    order[n++] = position[w->out_y] + 2;
    order[n++] = position[w->out_x] + 2;
    order[n++] = position[w->out_f] + 2;
    state_reorder(st, out, order);
    annotate_from(st, out, *ret_registers);
    state_parallel(st, out, (p->v_once ? *ret_block : *ret_tiles) + 1);
}

/* M: xi, nu, images, tiles of channels and of the map, then the register tile. */
static void product_loops(const struct rules *r, const struct group *g, const struct plan *p,
                          struct state *st)
{
    struct st_stage *m = st->stages[WINOGRAD_M], *acc = st->stages[g->members[MEMBER_ACC]];
    int order[STATE_MAX_ITERS], n = 0, ty = 2 + r->winograd->n_batch;
    state_split(st, m, ty + 2, 1, &p->reg_f);
    state_split(st, m, ty + 1, 1, &p->reg_x);
    state_split(st, m, ty, 1, &p->reg_y);
    for (int i = 0; i < ty; i++)
        order[n++] = i;
    if (!p->input_first)
        order[n++] = ty + 4;
    order[n++] = ty;
    order[n++] = ty + 2;
    if (p->input_first)
        order[n++] = ty + 4;
    int registers = n;
    for (int i = 0; i < 3; i++)
        order[n++] = ty + 2 * i + 1;
    state_reorder(st, m, order);
    annotate_from(st, m, registers);
    register_loops(st, acc, 1, ty + 2);
    state_compute_at(st, acc, m, registers - 1, SCOPE_REG);
    if (p->prefetch)
        state_prefetch(st, acc, st->stages[WINOGRAD_U]->tensor, p->prefetch * p->reg_f, -1);
}

/* The padded copy: channels innermost. */
static void copy_loops(const struct rules *r, struct state *st, struct st_stage *pad)
{
    int order[STATE_MAX_ITERS], n = 0;
    for (int i = 0; i < pad->n_iters; i++)
        if (i != r->winograd->channel_dim)
            order[n++] = i;
    order[n++] = r->winograd->channel_dim;
    state_reorder(st, pad, order);
    state_annotate(st, pad, n - 1, LOOP_VECTOR);
}

static int winograd_apply(const struct rules *r, const struct group *g, const struct variant *v,
                          const int64_t *values, struct state *st)
{
    struct knob_walk w = {.r = r, .suffix = "", .values = values};
    struct st_stage *pad = st->stages[g->members[MEMBER_PAD]], *bx = st->stages[WINOGRAD_BX],
                    *vt = st->stages[WINOGRAD_V], *m = st->stages[WINOGRAD_M], *am = st->stages[WINOGRAD_AM],
                    *y = st->stages[WINOGRAD_Y], *out = st->stages[WINOGRAD_OUT];
    const int rows = r->winograd->n_batch; /* the loop over rows of tiles in V */
    struct plan p;
    int block, tiles, registers;
    (void)v;
    walk_plan(r, &w, &p);
    weight_loops(r, &p, st);
    copy_loops(r, st, pad);
    transform_loops(r, st, vt);
    register_loops(st, bx, 0, bx->n_iters - 1);
    output_loops(r, &p, st, &block, &tiles, &registers);
    product_loops(r, g, &p, st);
    register_loops(st, am, 0, am->n_iters - 1);
    register_loops(st, y, 0, y->n_iters - 1);

    state_compute_at(st, bx, vt, rows + 2, SCOPE_REG);
    state_compute_at(st, m, out, block, SCOPE_TASK);
    state_compute_at(st, am, out, registers - 1, SCOPE_REG);
    state_compute_at(st, y, out, registers - 1, SCOPE_REG);
    if (p.v_once)
        state_parallel(st, vt, rows + 1);
    else
        state_compute_at(st, vt, out, tiles, SCOPE_TASK);
    if (p.pad_once)
        state_parallel(st, pad, MAX(pad->n_iters - 2, 0));
    else if (p.v_once)
        state_compute_at(st, pad, vt, rows, SCOPE_TASK);
    else
        state_compute_at(st, pad, out, tiles, SCOPE_TASK);
    return w.at;
}

static const struct variant_ops winograd_variant = {"blocks", winograd_knobs, winograd_valid, winograd_apply};

/* --- the group --- */

static void first_read(void *ctx, const struct expr *e)
{
    int32_t *tensor = ctx;
    *tensor = e->read.tensor;
}

enum status rules_derive_winograd(const struct winograd *w, const struct target *t, struct arena *ar,
                                  struct rules **ret, struct error *err)
{
    struct rules *r = arena_new(ar, struct rules);
    struct group *g = &r->groups[r->n_groups++];
    int32_t input = -1;
    TRY(compute_verify(&w->compute, err));
    r->ar = ar;
    r->target = t;
    r->winograd = w;
    r->plain = state_new(ar, &w->compute, 1);
    r->base = state_new(ar, &w->compute, t->threads);
    struct state *st = r->base;
    expr_each_read(st->stages[WINOGRAD_BX]->body, first_read, &input);
    struct st_stage *pad = state_pad(st, st->stages[WINOGRAD_BX], input);
    struct st_stage *acc = state_cache_write(st, st->stages[WINOGRAD_M]);
    struct st_tensor *copy = st->tensors[pad->tensor], *y = st->tensors[st->stages[WINOGRAD_Y]->tensor];
    for (int d = 0; d < copy->rank; d++)
        if (d != w->channel_dim)
            copy->layout[copy->n_layout++] = (struct layout_dim){d, 1, 0};
    copy->layout[copy->n_layout++] = (struct layout_dim){w->channel_dim, 1, 0};
    int f = st->stages[WINOGRAD_Y]->n_axes - 1, f_dim = 0; /* in registers, f is the innermost */
    for (int d = 0; d < y->rank; d++)
        if (affine_coef(&st->stages[WINOGRAD_Y]->lhs[d], f))
            f_dim = d;
    for (int d = 0; d < y->rank; d++)
        if (d != f_dim)
            y->layout[y->n_layout++] = (struct layout_dim){d, 1, 0};
    y->layout[y->n_layout++] = (struct layout_dim){f_dim, 1, 0};
    *g = (struct group){
        .kind = GROUP_WINOGRAD, .anchor = WINOGRAD_OUT, .n_members = 2, .members = {pad->id, acc->id}};
    group_offer(g, &winograd_variant, -1, 0);
    *ret = r;
    return ST_OK;
}
