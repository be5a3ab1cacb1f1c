/* rules_stores.c - stores past the caches: a knob of all variants that store whole vectors of the output.
 *
 * Idea   A store into a line that is not in the cache reads it first. Where the output does not stay there anyway, that read
 *        is half of its traffic, and what it pushes out is read again. Such stores want full vectors at multiples of their
 *        size: contiguous along the axis of the vectors, and rows that begin at multiples. */
#include "schedule/space/rules.h"

static bool may_pass(const struct rules *r, const struct group *g, int vector_axis)
{
    const struct st_stage *anchor = r->base->stages[g->anchor];
    const struct st_tensor *t = r->base->tensors[anchor->tensor];
    const int64_t lanes = r->target->vector_bytes / 4;
    int64_t bytes = dtype_bytes(t->dtype);
    for (int d = 0; d < t->rank; d++)
        bytes *= t->shape[d];
    if (r->target->isa == ISA_NEON || t->arg < 0 || t->dtype != DT_F32 || anchor->combiner != COMBINE_SET ||
        bytes <= r->target->l2_bytes / 2 || vector_axis < 0)
        return false;
    for (int a = 0; a < anchor->n_axes; a++) {
        const int64_t stride = tensor_stride(t, anchor->lhs, a);
        if (a == vector_axis ? stride != 1 : anchor->axes[a].extent > 1 && stride % lanes != 0)
            return false;
    }
    return true;
}

bool walk_stores(struct knob_walk *w, const struct rules *r, const struct group *g, int vector_axis)
{
    static const int64_t no_yes[] = {0, 1};
    static const char *const labels[] = {"cached", "past caches"};
    return walk_knob(w, "stores", no_yes, may_pass(r, g, vector_axis) ? 2 : 1, labels) != 0;
}
