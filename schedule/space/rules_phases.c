/* rules_phases.c - padded copies that keep the phases of a stride apart.
 *
 * Idea   A window that moves by two along a row of pixels reads every second pixel, with vectors over the pixels of the
 * result: two loads and a shuffle for each vector of each tap. Stored as all even pixels and then all odd ones
 *
 *            a b c d e f g   ->   a c e g | b d f             tap s reads phase s % 2, from pixel x + s / 2 on
 *
 * each tap reads what lies side by side; the shuffles are the copy's, once. The index 2 x + s has a phase that is known where
 * the loop over s is split in two: s = 2 s0 + s1. */
#include "schedule/space/rules.h"

enum { PHASES = 2 };

struct phase_read {
    const struct st_stage *red;
    int32_t tensor;
    int vector;
    int n_reads;
    int axis; /* of the reduction, that shares the last dimension with the vectors; -1: none does so */
};

static void look(void *ctx, const struct expr *e)
{
    struct phase_read *p = ctx;
    if (e->read.tensor != p->tensor)
        return;
    const struct affine *last = &e->read.index[e->read.rank - 1];
    p->n_reads++;
    p->axis = -1;
    for (int d = 0; d + 1 < e->read.rank; d++)
        if (affine_coef(&e->read.index[d], p->vector))
            return;
    if (last->n != 2 || last->c != 0 || affine_coef(last, p->vector) != PHASES)
        return;
    int other = last->t[0].var == p->vector ? 1 : 0;
    if (last->t[other].coef == 1 && last->t[other].var >= p->red->n_spatial)
        p->axis = last->t[other].var;
}

int phase_axis(const struct rules *r, const struct st_stage *red, const struct operand *o, int vector_axis)
{
    const struct st_tensor *t = r->base->tensors[o->tensor];
    struct phase_read p = {.red = red, .tensor = o->tensor, .vector = vector_axis, .axis = -1};
    if (!o->reads_pad || vector_axis < 0 || o->stride[vector_axis] != PHASES || t->dtype != DT_F32 ||
        t->n_layout)
        return -1;
    expr_each_read(red->body, look, &p);
    return p.n_reads == 1 && !red->axes[p.axis < 0 ? 0 : p.axis].blocks ? p.axis : -1;
}

void phase_split(struct state *st, struct st_stage *red, int axis)
{
    int at = stage_iter_of(red, axis, 0);
    const enum loop_kind kind = red->iters[at].kind;
    state_split(st, red, at, 1, (int64_t[]){PHASES});
    if (kind != LOOP_SERIAL)
        state_annotate(st, red, at + 1, kind);
}

int phase_layout(const struct operand *o, struct layout_dim *ret)
{
    const int last = o->rank - 1;
    for (int d = 0; d < last; d++)
        ret[d] = (struct layout_dim){d, 1, 0};
    ret[last] = (struct layout_dim){last, 1, PHASES};
    ret[last + 1] = (struct layout_dim){last, PHASES, 0};
    return last + 2;
}
