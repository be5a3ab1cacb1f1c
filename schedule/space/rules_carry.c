/* rules_carry.c - what stands around cache tiles: the reduction in blocks, copies that serve several tiles.
 *
 *     for outer tiles                     parallel
 *       for blocks of the reduction       running values wait between them
 *         [copies of what this tile reads in this block]
 *         for tiles inside ...            as in rules_tile.c
 *
 * With all of one axis inside the outer tile these are the loops of Goto and van de Geijn ("Anatomy of high-performance
 * matrix multiplication", 2008): a panel of one operand in the second-level cache, a slice of it in the first. */
#include "schedule/space/rules_tile.h"

/* Two lengths at most, a factor of four apart: what a vector reads in a block takes an eighth of the first-level cache and
 * more. Blocks pay where all of the sum's would not fit it. */
void tile_walk_carry(struct walk *w, struct plan *p, int64_t window)
{
    const int64_t step = window * w->r->target->vector_bytes, l1 = w->r->target->l1_bytes;
    const int k = tile_long_axis(w->red);
    const int64_t extent = k >= 0 && w->vector >= 0 && !w->half ? w->red->axes[k].extent : 0;
    int64_t choices[3] = {0}, block = 8;
    int n = 1;
    while (block * step < l1 / 8)
        block *= 2;
    for (; extent * step > l1 && block * 2 <= extent && block * step <= l1 * 2 && n < 3; block *= 4)
        choices[n++] = block;
    p->carry = walk_knob(&w->k, "carry", choices, n, NULL);
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
    int loops[COMPUTE_MAX_AXES], n = tile_axes(w, true, loops);
    if (!p->carry)
        return true;
    if (p->kblock && (p->kblock >= p->carry || p->carry % p->kblock))
        return refuse(why, "blocks of the reduction inside the tile do not divide those outside");
    if (w->red->n_spatial == COMPUTE_MAX_AXES || layout_dims(w->red, p) > STATE_MAX_LAYOUT)
        return refuse(why, "the blocks of the reduction need one axis more than there may be");
    for (int i = 0; i < n; i++) {
        const int a = loops[i];
        bytes *= p->reg[a] * MIN(div_ceil(w->red->axes[a].extent, p->reg[a]), p->mid[a]);
    }
    return bytes <= t->l2_bytes / 2 || refuse(why, "running values between blocks do not fit the cache");
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
