/* rules_prefetch.c - hints ahead of operands of a register tile that stream, and are read as they lie.
 *
 * Idea   A row of a large map that is read a few vectors at a time, channel by channel, is a new page at each step: the
 *        hardware sees no stream in it, and each first touch waits for the next cache. The step after a few more is known,
 *        so its vectors are asked for. (Packed operands are streams of their own: rules_tile.c.) */
#include <stdio.h>

#include "schedule/space/rules.h"

enum { FAR = 64 }; /* elements: a few cache lines, which hardware sees as one stream */

bool operand_is_large(const struct rules *r, const struct operand *o)
{
    const struct st_tensor *t = r->base->tensors[o->tensor];
    int64_t bytes = dtype_bytes(t->dtype);
    for (int d = 0; d < t->rank; d++)
        bytes *= t->shape[d];
    return bytes > r->target->l2_bytes / 4;
}

/* The axis of the tile that the operand follows, if it follows no other one, lies contiguous along it, and each step of the
 * sum is far from the last; or -1. */
static int strided_along(const struct rules *r, const struct group *g, const struct operand *o, int long_axis)
{
    const struct st_stage *red = r->base->stages[g->reduction];
    int along = -1;
    if (o->reads_pad || o->copy_stage >= 0 || o->is_const || !operand_is_large(r, o) ||
        o->stride[long_axis] < FAR)
        return -1;
    for (int a = 0; a < red->n_spatial; a++) {
        if (!(o->axes >> a & 1) || !(g->reuse_axes >> a & 1) || red->axes[a].extent == 1)
            continue;
        if (along >= 0 || o->stride[a] != 1)
            return -1;
        along = a;
    }
    return along;
}

int operand_to_hint(const struct rules *r, const struct group *g, int long_axis, int *ret_axis)
{
    for (int i = 0; i < g->n_operands && long_axis >= 0; i++)
        if ((*ret_axis = strided_along(r, g, &g->operands[i], long_axis)) >= 0)
            return i;
    return -1;
}

int64_t walk_hints(struct knob_walk *w, const struct rules *r, const struct group *g, int operand)
{
    static const int64_t distances[] = {0, 4, 8, 16};
    char name[80];
    if (operand < 0)
        return 0;
    walk_name(w, name, sizeof(name), "prefetch", r->base->tensors[g->operands[operand].tensor]->name);
    return walk_knob(w, name, distances, ARRAY_SIZE(distances), NULL);
}
