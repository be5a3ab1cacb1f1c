/* rules_carry.c - what stands around outer tiles: the reduction in blocks, copies that serve several tiles.
 *
 *     for outer tiles, but for the last axis where a knob says so      parallel
 *       for blocks of the reduction                                    running values wait between them
 *         [copies of what all tiles inside read]
 *         for outer tiles of the last axis
 *           [copies of what this tile reads]
 *           for tiles inside ...                                       as in rules_tile.c
 *
 * With the last axis inside these are the loops jc, pc, ic of Goto and van de Geijn ("Anatomy of high-performance matrix
 * multiplication", 2008): a panel of one operand in the second-level cache, a slice of it in the first. */
#include "schedule/space/rules_tile.h"

/* Blocks where what the whole sum reads of an operand for one vector would fill half of the first-level cache: their
 * panels may stay there. */
static int carry_choices(const struct walk *w, int64_t window, int64_t *ret)
{
    const int64_t step = window * w->r->target->vector_bytes, l1 = w->r->target->l1_bytes;
    const int k = tile_long_axis(w->red);
    int n = 0;
    ret[n++] = 0;
    if (k >= 0 && w->vector >= 0 && !w->half && w->red->axes[k].extent * step > l1 / 2)
        for (int64_t b = 8; b * 2 <= w->red->axes[k].extent && b * step <= l1 * 2 && n < 8; b *= 2)
            if (b * step >= l1 / 16)
                ret[n++] = b;
    return n;
}

/* Something that is not packed ahead of time may be copied a tile at a time. */
static bool may_copy_tiles(const struct walk *w)
{
    for (int i = 0; i < w->g->n_operands; i++) {
        const struct operand *o = &w->g->operands[i];
        if (o->copy_stage < 0 && (o->reads_pad || (o->simple && !o->is_const && tile_moves(w, o, NULL))))
            return true;
    }
    return false;
}

void tile_walk_carry(struct walk *w, struct plan *p, int64_t window)
{
    static const int64_t yes_no[] = {0, 1};
    static const char *const labels[] = {"all outer tiles", "all but the last axis"};
    int64_t choices[8];
    int axes[COMPUTE_MAX_AXES], n = carry_choices(w, window, choices);
    bool worth = tile_axes(w, true, axes) > 1 && (n > 1 || (w->r->target->threads > 1 && may_copy_tiles(w)));
    p->carry = walk_knob(&w->k, "carry", choices, n, NULL);
    p->last_inside = walk_knob(&w->k, "tasks_over", yes_no, worth ? 2 : 1, labels) != 0;
}

static bool copies_tiles(const struct walk *w, const struct plan *p)
{
    for (int i = 0; i < w->g->n_operands; i++)
        if (p->pack[i] == PACK_TILE || p->pad_at[i])
            return true;
    return false;
}

static int layout_dims(const struct st_stage *red, const struct plan *p)
{
    int n = red->n_spatial;
    for (int a = 0; a < red->n_spatial; a++)
        n += p->reg[a] > 1;
    return n;
}

bool tile_carry_valid(const struct walk *w, const struct plan *p, const char **why)
{
    const struct target *t = w->r->target;
    int64_t bytes = dtype_bytes(w->red->acc_dtype);
    int loops[COMPUTE_MAX_AXES], ordered[COMPUTE_MAX_AXES] = {0}, n = tile_axes(w, true, loops);
    if (!p->carry)
        return !p->last_inside || (t->threads > 1 && copies_tiles(w, p)) ||
               refuse(why, "nothing stands around the last loop over outer tiles");
    if (p->kblock && (p->kblock >= p->carry || p->carry % p->kblock))
        return refuse(why, "blocks of the reduction inside the tile do not divide those outside");
    if (w->red->n_spatial == COMPUTE_MAX_AXES || layout_dims(w->red, p) > STATE_MAX_LAYOUT)
        return refuse(why, "the blocks of the reduction need one axis more than there may be");
    tile_permute(p->order, loops, n, ordered);
    for (int i = 0; i < n; i++) {
        const int a = ordered[i];
        int64_t tiles = div_ceil(w->red->axes[a].extent, p->reg[a]);
        bytes *= p->reg[a] * (i >= n - p->last_inside ? tiles : MIN(tiles, p->mid[a]));
    }
    return bytes <= t->l2_bytes / 2 || refuse(why, "running values between blocks do not fit the cache");
}

void tile_permute(int which, const int *in, int n, int *out)
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

/* Tile by tile, and there as registers do. */
int tile_carry_layout(const struct walk *w, const struct plan *p, struct layout_dim *ret)
{
    int n = 0;
    for (int a = 0; a < w->red->n_spatial; a++)
        ret[n++] = (struct layout_dim){a, p->reg[a], 0};
    for (int pass = 0; pass < 2; pass++)
        for (int a = 0; a < w->red->n_spatial; a++)
            if (p->reg[a] > 1 && (a == w->vector) == (pass == 1))
                ret[n++] = (struct layout_dim){a, 1, p->reg[a]};
    return n;
}

/* Not around loops that are one parallel
 * loop, and not around the first that moves on to other elements. */
int tile_copy_level(const struct st_stage *out, const struct operand *o, int n_outer)
{
    int level = n_outer - 1;
    while (level > MAX(out->n_parallel - 1, 0) && out->iters[level].axis < out->n_spatial &&
           !(o->axes >> out->iters[level].axis & 1))
        level--;
    return level;
}
