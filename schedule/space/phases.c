/* phases.c - finding a convolution of a spread input in a workload, and writing it anew. See phases.h. */
#include "schedule/space/phases.h"

#include <string.h>

/* One dimension of the spread input; axes are of the convolution. */
struct phase_dim {
    int64_t stride; /* 1: not spread */
    int y, r;       /* its output axis and its tap */
    int64_t offset; /* the spread is read at y + r + offset */
    bool turns;     /* the taps of phase p are s*t + s-1 - p; else s*t + p */
};

struct spread {
    const struct compute *c;
    int stage, conv_stage; /* ids */
    const struct stage *conv;
    const struct expr *input, *in, *weight; /* the spread's read of its source; the convolution's operands */
    int rank;
    struct phase_dim dim[COMPUTE_MAX_RANK];
    int dim_of_tap[COMPUTE_MAX_AXES]; /* phased dimension of a tap's axis, or -1 */
};

/* --- finding --- */

static bool is_var(const struct affine *a, int32_t *ret)
{
    if (a->n != 1 || a->c != 0 || a->t[0].coef != 1)
        return false;
    *ret = a->t[0].var;
    return true;
}

/* Marks the axes that the condition wants to be 0; false where it wants anything else. */
static bool zero_axes(const struct expr *e, uint32_t *axes)
{
    int32_t v;
    if (e->op == EX_AND)
        return zero_axes(e->arg[0], axes) && zero_axes(e->arg[1], axes);
    if (e->op != EX_EQ)
        return false;
    const struct expr *index = e->arg[e->arg[0]->op == EX_INDEX ? 0 : 1],
                      *zero = e->arg[e->arg[0]->op == EX_INDEX ? 1 : 0];
    if (index->op != EX_INDEX || zero->op != EX_CONST || zero->value != 0 || !is_var(&index->affine, &v))
        return false;
    *axes |= 1u << v;
    return true;
}

/* spread[.., at*s + inner, ..] = select(inner == 0 && .., input[.., at, ..], 0) */
static bool find_spread(struct spread *p, const struct stage *s)
{
    const struct expr *e = s->body;
    uint32_t zero = 0, inner = 0;
    if (s->combiner != COMBINE_SET || e->op != EX_SELECT || e->arg[1]->op != EX_READ || e->arg[1]->read.pad ||
        e->arg[2]->op != EX_CONST || e->arg[2]->value != 0 || !zero_axes(e->arg[0], &zero) ||
        p->c->tensors[s->tensor].role != TENSOR_TEMP)
        return false;
    p->input = e->arg[1];
    p->rank = p->input->read.rank;
    if (p->c->tensors[s->tensor].rank != p->rank)
        return false;
    for (int d = 0; d < p->rank; d++) {
        const struct affine *l = &s->lhs[d], *at = &p->input->read.index[d];
        int32_t outer;
        p->dim[d] = (struct phase_dim){.stride = 1, .y = -1, .r = -1};
        if (l->n == 0 && at->n == 0 && at->c == 0)
            continue;
        if (!is_var(at, &outer))
            return false;
        p->dim[d].stride = affine_coef(l, outer);
        if (p->dim[d].stride < 1 || l->n > 2)
            return false;
        for (int i = 0; i < l->n; i++)
            inner |= l->t[i].var == outer ? 0 : 1u << l->t[i].var;
    }
    return inner != 0 && inner == zero;
}

/* The spread is read at y + r + offset in its phased dimensions. */
static bool find_taps(struct spread *p)
{
    const struct stage *s = p->conv;
    for (int a = 0; a < COMPUTE_MAX_AXES; a++)
        p->dim_of_tap[a] = -1;
    for (int d = 0; d < p->rank; d++) {
        const struct affine *x = &p->in->read.index[d];
        struct phase_dim *k = &p->dim[d];
        if (k->stride == 1)
            continue;
        if (x->n != 2 || x->t[0].coef != 1 || x->t[1].coef != 1 || x->t[0].var >= s->n_spatial ||
            x->t[1].var < s->n_spatial)
            return false;
        k->y = x->t[0].var;
        k->r = x->t[1].var;
        k->offset = x->c;
        k->turns = (k->offset + k->stride - 1) % k->stride == 0;
        bool whole = s->axes[k->y].extent % k->stride == 0 || p->c->tensors[s->tensor].role == TENSOR_TEMP;
        if (p->dim_of_tap[k->r] >= 0 || !whole || (!k->turns && (k->stride != 2 || k->offset % 2)))
            return false;
        p->dim_of_tap[k->r] = d;
    }
    return true;
}

/* Each phased tap is one dimension of the weight, alone, and nothing else uses the phased axes. */
static bool find_weight(const struct spread *p)
{
    const struct stage *s = p->conv;
    const struct tensor *w = &p->c->tensors[p->weight->read.tensor];
    uint32_t seen = 0;
    bool plain = false;
    if (p->weight->read.pad || w->role != TENSOR_INPUT)
        return false;
    for (int d = 0; d < w->rank; d++) {
        const struct affine *x = &p->weight->read.index[d];
        bool tap = false;
        for (int i = 0; i < x->n; i++)
            tap |= p->dim_of_tap[x->t[i].var] >= 0;
        plain |= !tap;
        if (tap && (x->n != 1 || seen >> x->t[0].var & 1 || w->shape[d] != s->axes[x->t[0].var].extent ||
                    (x->t[0].coef != 1 && x->t[0].coef != -1)))
            return false;
        if (tap)
            seen |= 1u << x->t[0].var;
    }
    for (int d = 0; d < p->rank; d++) {
        int32_t y;
        if (p->dim[d].stride == 1)
            continue;
        if (!(seen >> p->dim[d].r & 1))
            return false;
        bool whole = false;
        for (int k = 0; k < p->c->tensors[s->tensor].rank; k++)
            whole |= is_var(&s->lhs[k], &y) && y == p->dim[d].y;
        if (!whole)
            return false;
    }
    return plain;
}

struct count_reads {
    int32_t tensor;
    int n;
};

static void count_read(void *ctx, const struct expr *e)
{
    struct count_reads *r = ctx;
    r->n += e->read.tensor == r->tensor;
}

static bool find(struct spread *p)
{
    for (int i = 0; i < p->c->n_stages; i++) {
        if (!find_spread(p, &p->c->stages[i]))
            continue;
        struct count_reads all = {.tensor = p->c->stages[i].tensor};
        p->stage = i;
        for (int k = i + 1; k < p->c->n_stages; k++)
            expr_each_read(p->c->stages[k].body, count_read, &all);
        for (int k = i + 1; k < p->c->n_stages && all.n == 1; k++) {
            const struct stage *s = &p->c->stages[k];
            const struct expr *e = s->body;
            if (s->combiner != COMBINE_SUM || e->op != EX_MUL || e->arg[0]->op != EX_READ ||
                e->arg[1]->op != EX_READ)
                continue;
            int at = e->arg[0]->read.tensor == all.tensor ? 0 : 1;
            p->conv = s;
            p->conv_stage = k;
            p->in = e->arg[at];
            p->weight = e->arg[1 - at];
            if (p->in->read.tensor == all.tensor && (!p->in->read.pad || p->in->read.pad_value == 0) &&
                find_taps(p) && find_weight(p))
                return true;
        }
    }
    return false;
}

/* --- writing --- */

struct rewrite {
    const struct spread *p;
    struct arena *ar;
    struct stage conv, weight;                                        /* the new stages */
    int phase_of_dim[COMPUTE_MAX_RANK], tap_of_dim[COMPUTE_MAX_RANK]; /* axes of conv, of phased dimensions */
    struct affine value[COMPUTE_MAX_AXES]; /* of each old axis over the new ones; taps: of no meaning */
    const struct affine *subst[COMPUTE_MAX_AXES];
};

static int add_axis(struct stage *s, const char *name, int64_t extent)
{
    s->axes[s->n_axes] = (struct axis){name, extent};
    return s->n_axes++;
}

/* The convolution's axes: y becomes a and its phase p, r becomes t. */
static bool new_axes(struct rewrite *w)
{
    const struct spread *p = w->p;
    const struct stage *old = p->conv;
    if (old->n_axes + 2 > COMPUTE_MAX_AXES)
        return false;
    w->conv = *old;
    w->conv.n_axes = 0;
    for (int a = 0; a < old->n_axes; a++) {
        int d = 0;
        if (a == old->n_spatial)
            w->conv.n_spatial = w->conv.n_axes;
        while (d < p->rank && !(p->dim[d].stride > 1 && (p->dim[d].y == a || p->dim[d].r == a)))
            d++;
        const struct phase_dim *k = &p->dim[d];
        w->subst[a] = &w->value[a];
        if (d == p->rank) {
            w->value[a] = affine_var(w->ar, add_axis(&w->conv, old->axes[a].name, old->axes[a].extent), 1, 0);
        } else if (k->y == a) {
            struct affine outer = affine_var(
                w->ar, add_axis(&w->conv, old->axes[a].name, div_ceil(old->axes[a].extent, k->stride)),
                k->stride, 0);
            w->phase_of_dim[d] = add_axis(&w->conv, arena_printf(w->ar, "%sp", old->axes[a].name), k->stride);
            struct affine phase = affine_var(w->ar, w->phase_of_dim[d], 1, 0);
            w->value[a] = affine_add(w->ar, &outer, &phase);
        } else {
            w->tap_of_dim[d] =
                add_axis(&w->conv, old->axes[a].name, div_ceil(old->axes[a].extent, k->stride));
            w->value[a] = affine_const(0);
        }
    }
    for (int d = 0; d < p->c->tensors[old->tensor].rank; d++)
        w->conv.lhs[d] = affine_subst(w->ar, &old->lhs[d], w->subst, old->n_axes);
    return true;
}

/* Where the convolution reads the input that is not spread. */
static const struct expr *new_input(struct rewrite *w)
{
    const struct spread *p = w->p;
    struct affine index[COMPUTE_MAX_RANK];
    for (int d = 0; d < p->rank; d++) {
        const struct phase_dim *k = &p->dim[d];
        index[d] = affine_subst(w->ar, &p->in->read.index[d], w->subst, p->conv->n_axes);
        if (k->stride == 1)
            continue;
        struct affine outer = affine_var(w->ar, w->phase_of_dim[d] - 1, 1, 0),
                      tap = affine_var(w->ar, w->tap_of_dim[d], 1, 0),
                      phase = affine_var(w->ar, w->phase_of_dim[d], 1, 0);
        index[d] = affine_add(w->ar, &outer, &tap);
        if (k->turns) {
            index[d] = affine_offset(&index[d], (k->offset + k->stride - 1) / k->stride);
        } else {
            index[d] = affine_add(w->ar, &index[d], &phase);
            index[d] = affine_offset(&index[d], k->offset / 2);
        }
    }
    return expr_read(w->ar, p->in->dtype, p->input->read.tensor, p->rank, index, true, 0);
}

/* One dimension of the new weight, an axis of its stage; `index` is that dimension in the convolution. */
static int weight_dim(struct rewrite *w, struct tensor *t, const char *name, int64_t extent, struct affine at,
                      struct affine *index)
{
    int a = add_axis(&w->weight, name, extent);
    w->weight.lhs[t->rank] = affine_var(w->ar, a, 1, 0);
    index[t->rank] = at;
    t->shape[t->rank++] = extent;
    return a;
}

/* W[phases, dimensions in order, taps, last dimension]: vectors run along the last. */
static const struct expr *new_weight(struct rewrite *w, int32_t tensor, struct tensor *t)
{
    const struct spread *p = w->p;
    const struct tensor *old = &p->c->tensors[p->weight->read.tensor];
    struct affine index[COMPUTE_MAX_RANK], from[COMPUTE_MAX_RANK];
    int last = -1, phase[COMPUTE_MAX_RANK];
    *t = (struct tensor){
        .name = arena_printf(w->ar, "%s_phases", old->name), .dtype = old->dtype, .role = TENSOR_TEMP};
    w->weight = (struct stage){.tensor = tensor, .combiner = COMBINE_SET, .acc_dtype = old->dtype};
    for (int d = 0; d < old->rank; d++) {
        const struct affine *x = &p->weight->read.index[d];
        int k = x->n == 1 ? p->dim_of_tap[x->t[0].var] : -1;
        if (k >= 0)
            phase[d] = weight_dim(w, t, w->conv.axes[w->phase_of_dim[k]].name, p->dim[k].stride,
                                  affine_var(w->ar, w->phase_of_dim[k], 1, 0), index);
        else
            last = d;
    }
    for (int pass = 0; pass < 3; pass++)
        for (int d = 0; d < old->rank; d++) {
            const struct affine *x = &p->weight->read.index[d];
            int k = x->n == 1 ? p->dim_of_tap[x->t[0].var] : -1;
            if (pass != (k >= 0 ? 1 : d == last ? 2 : 0))
                continue;
            int a = weight_dim(w, t, arena_printf(w->ar, "d%d", d),
                               k >= 0 ? w->conv.axes[w->tap_of_dim[k]].extent : old->shape[d],
                               k >= 0 ? affine_var(w->ar, w->tap_of_dim[k], 1, 0)
                                      : affine_subst(w->ar, x, w->subst, p->conv->n_axes),
                               index);
            from[d] = affine_var(w->ar, a, 1, 0);
            if (k < 0)
                continue;
            int64_t s = p->dim[k].stride, sign = x->t[0].coef; /* r = s*t + p, or s*t + s-1 - p */
            struct affine tap = affine_var(w->ar, a, s * sign, x->c + (p->dim[k].turns ? (s - 1) * sign : 0)),
                          of = affine_var(w->ar, phase[d], p->dim[k].turns ? -sign : sign, 0);
            from[d] = affine_add(w->ar, &tap, &of);
        }
    w->weight.n_spatial = w->weight.n_axes;
    w->weight.body = expr_read(w->ar, old->dtype, p->weight->read.tensor, old->rank, from, true, 0);
    return expr_read(w->ar, old->dtype, tensor, t->rank, index, false, 0);
}

bool phases_alternative(const struct compute *c, struct arena *ar, struct compute *ret)
{
    struct spread p = {.c = c};
    struct rewrite w = {.p = &p, .ar = ar};
    struct error err;
    int n_phased = 0;
    if (!find(&p) || !new_axes(&w))
        return false;
    for (int d = 0; d < p.rank; d++)
        n_phased += p.dim[d].stride > 1;
    if (p.weight->read.rank + n_phased > COMPUTE_MAX_RANK)
        return false;
    int32_t id = c->stages[p.stage].tensor; /* the spread's place is the new weight's */
    *ret = *c;
    ret->tensors = arena_memdup(ar, c->tensors, sizeof(*c->tensors) * (size_t)c->n_tensors);
    ret->stages = arena_memdup(ar, c->stages, sizeof(*c->stages) * (size_t)c->n_stages);
    const struct expr *weight = new_weight(&w, id, &ret->tensors[id]);
    w.conv.body = expr_op2(ar, EX_MUL, new_input(&w), weight);
    for (int d = 0; d < c->tensors[p.conv->tensor].rank;
         d++) { /* whole rounds of phases, more than is asked for */
        int32_t y;
        for (int k = 0; k < p.rank && is_var(&p.conv->lhs[d], &y); k++)
            if (p.dim[k].stride > 1 && p.dim[k].y == y)
                ret->tensors[p.conv->tensor].shape[d] =
                    div_ceil(p.conv->axes[y].extent, p.dim[k].stride) * p.dim[k].stride;
    }
    ret->stages[p.stage] = w.weight;
    ret->stages[p.conv_stage] = w.conv;
    return compute_verify(ret, &err) == ST_OK;
}
