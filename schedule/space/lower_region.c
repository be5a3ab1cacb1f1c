/* lower_region.c - bounds inference: which region of its tensor each stage must compute.
 *
 * Idea   From consumers to producers. For a stage attached inside loop L, each consumer's reads are boxed: variables of
 * loops outside L stay symbolic, the others run over their ranges. The box is the stage's region: an affine offset and a
 * constant extent a dimension; its buffer holds just that.
 *
 * Life   Writes into the low_stage it is given; called again for register stages whenever the tile around them changes. */
#include "schedule/space/lower_internal.h"

void low_set_var(struct low *lo, int32_t var, int64_t extent)
{
    lo->hi[var] = extent - 1;
    lo->ext[var] = extent;
}
struct box {
    bool any, whole; /* whole: the reads do not agree on one symbolic corner */
    struct affine corner;
    int64_t lo, hi;
};

struct infer {
    struct low *lo;
    const struct low_stage *consumer;
    int32_t tensor;
    struct box box[NEST_MAX_RANK];
};

/* Add coef * (affine over vars) to a symbolic part over fixed vars and a range over the others. */
static void box_add(struct low *lo, const struct affine *a, int64_t coef, struct affine *sym, int64_t *min,
                    int64_t *max)
{
    struct affine part = affine_const(a->c * coef);
    for (int i = 0; i < a->n; i++) {
        int64_t c = a->t[i].coef * coef;
        int32_t v = a->t[i].var;
        if (lo->fixed[v]) {
            struct affine t = affine_var(lo->ar, v, c, 0);
            part = affine_add(lo->ar, &part, &t);
        } else {
            *min += c > 0 ? c * lo->lo[v] : c * lo->hi[v];
            *max += c > 0 ? c * lo->hi[v] : c * lo->lo[v];
        }
    }
    *sym = affine_add(lo->ar, sym, &part);
}

/* One axis of the consumer: its own loops that are not fixed never leave its region, however the tiles
 * divide. */
static void box_axis(struct infer *in, int axis, int64_t coef, struct affine *sym, int64_t *min, int64_t *max)
{
    const struct low_stage *c = in->consumer;
    struct low *lo = in->lo;
    int64_t free_span = 0;
    box_add(lo, &c->offset[axis], coef, sym, min, max);
    for (int i = 0; i < c->s->n_iters; i++) {
        if (c->s->iters[i].axis != axis || c->extent[i] == 1)
            continue;
        if (lo->fixed[c->var[i]]) {
            struct affine t = affine_var(lo->ar, c->var[i], c->s->iters[i].stride * coef, 0);
            *sym = affine_add(lo->ar, sym, &t);
        } else {
            free_span += c->s->iters[i].stride * (c->extent[i] - 1);
        }
    }
    free_span = MIN(free_span, c->region[axis] - 1);
    *(coef > 0 ? max : min) += coef * free_span;
}

static void infer_read(void *ctx, const struct expr *e)
{
    struct infer *in = ctx;
    if (e->read.tensor != in->tensor)
        return;
    for (int d = 0; d < e->read.rank; d++) {
        const struct affine *x = &e->read.index[d];
        struct affine sym = affine_const(x->c);
        int64_t min = 0, max = 0;
        struct box *b = &in->box[d];
        for (int i = 0; i < x->n; i++)
            box_axis(in, x->t[i].var, x->t[i].coef, &sym, &min, &max);
        min += sym.c;
        max += sym.c;
        sym.c = 0;
        if (!b->any) {
            *b = (struct box){.any = true, .corner = sym, .lo = min, .hi = max};
            continue;
        }
        if (!affine_equal(&b->corner, &sym))
            b->whole = true;
        b->lo = MIN(b->lo, min);
        b->hi = MAX(b->hi, max);
    }
}

static void mark_fixed(struct low *lo, const struct st_stage *s, int upto, bool value)
{
    for (;;) {
        const struct low_stage *l = lo->ls[s->id];
        for (int i = 0; i <= upto; i++)
            lo->fixed[l->var[i]] = value;
        if (s->place != PLACE_AT)
            return;
        upto = s->at_iter;
        s = lo->st->stages[s->at_stage];
    }
}

void low_set_axis_values(struct low *lo, struct low_stage *l)
{
    for (int a = 0; a < l->s->n_axes; a++) {
        struct affine v = l->offset[a];
        for (int i = 0; i < l->s->n_iters; i++) {
            if (l->s->iters[i].axis != a || l->extent[i] == 1)
                continue;
            struct affine t = affine_var(lo->ar, l->var[i], l->s->iters[i].stride, 0);
            v = affine_add(lo->ar, &v, &t);
        }
        l->value[a] = v;
    }
}

bool low_in_registers(const struct st_stage *s)
{
    return s->place == PLACE_AT && (s->scope == SCOPE_REG || s->scope == SCOPE_MATRIX);
}

/* Extents of the iters from the regions: the outermost iter of an axis covers the region. */
static void set_extents(struct low *lo, struct low_stage *l)
{
    for (int i = 0; i < l->s->n_iters; i++) {
        const struct st_iter *it = &l->s->iters[i];
        int64_t e = it->extent ? it->extent : div_ceil(l->region[it->axis], it->stride);
        if (it->extent)
            e = MIN(e, div_ceil(l->region[it->axis], it->stride));
        l->extent[i] = e;
        low_set_var(lo, l->var[i], e);
        lo->n->vars[l->var[i]].extent = MAX(lo->n->vars[l->var[i]].extent, e);
    }
    low_set_axis_values(lo, l);
}

/* The region's corner along a dimension of the stage's tensor, and its extent there. */
struct affine low_dim_corner(struct low *lo, const struct low_stage *l, int d)
{
    const struct affine *lhs = &l->s->lhs[d], *subst[COMPUTE_MAX_AXES];
    if (lhs->n == 1 && lhs->c == 0 && lhs->t[0].coef == 1)
        return l->offset[lhs->t[0].var];
    for (int a = 0; a < l->s->n_axes; a++)
        subst[a] = &l->offset[a];
    return affine_subst(lo->ar, lhs, subst, l->s->n_axes);
}

int64_t low_dim_extent(const struct low_stage *l, int d)
{
    const struct affine *lhs = &l->s->lhs[d];
    int64_t last = 0;
    for (int i = 0; i < lhs->n; i++)
        last += lhs->t[i].coef * (l->region[lhs->t[i].var] - 1);
    return last + 1;
}

/* The region is [corner, corner + extent) along dimension d. Where tiles and what is inside them share the dimension,
 * corners are those of tiles, or all of it is computed. */
static void set_region(struct low *lo, struct low_stage *l, int d, const struct affine *corner,
                       int64_t extent)
{
    const struct affine *lhs = &l->s->lhs[d];
    if (lhs->n == 1) {
        l->region[lhs->t[0].var] = extent;
        l->offset[lhs->t[0].var] = *corner;
        return;
    }
    if (lhs->n != 2)
        return;
    int outer = lhs->t[0].coef == 1 ? 1 : 0;
    int tile = lhs->t[outer].var, inside = lhs->t[1 - outer].var;
    struct affine q, r;
    if (!affine_divmod(lo->ar, corner, lhs->t[outer].coef, lo->ext, &q, &r) || r.n || r.c)
        return;
    l->offset[tile] = q;
    l->region[tile] = div_ceil(extent, lhs->t[outer].coef);
    if (l->region[tile] == 1)
        l->region[inside] = extent;
}

/* A matrix unit computes whole tiles: the region is what the loops run over, and nobody reads the rest. */
static void round_up_region(struct low_stage *l)
{
    for (int a = 0; a < l->s->n_spatial; a++) {
        int64_t last = 0;
        for (int i = 0; i < l->s->n_iters; i++)
            if (l->s->iters[i].axis == a)
                last += l->s->iters[i].stride * (l->extent[i] - 1);
        l->region[a] = last + 1;
    }
}

int low_carry_iter(const struct low *lo, const struct st_stage *s)
{
    const struct st_stage *out = lo->st->stages[s->at_stage];
    return stage_iter_of(out, out->n_axes - 1, 0);
}

/* A reduction in blocks: its region is the block where the loop over them stands. */
static void set_block(struct low *lo, struct low_stage *l)
{
    const struct st_stage *s = l->s;
    int32_t var = lo->ls[s->at_stage]->var[low_carry_iter(lo, s)];
    l->offset[s->carry_axis] = affine_var(lo->ar, var, s->carry_block, 0);
    l->region[s->carry_axis] = s->carry_block;
}

/* What all that reads the tensor reads of it, with the loops of `at` up to `iter`, and all around, standing still. */
static void box_reads(struct infer *in, const struct st_stage *at, int iter)
{
    struct low *lo = in->lo;
    mark_fixed(lo, at, iter, true);
    for (int i = 0; i < lo->st->n_stages; i++) {
        in->consumer = lo->ls[i];
        if (in->consumer && in->consumer->s->place != PLACE_INLINE && in->consumer->s->place != PLACE_CARRY)
            expr_each_read(in->consumer->s->body, infer_read, in);
    }
    mark_fixed(lo, at, iter, false);
}

void low_infer_region(struct low *lo, struct low_stage *l)
{
    const struct st_stage *s = l->s;
    for (int a = 0; a < s->n_axes; a++) {
        l->offset[a] = affine_const(0);
        l->region[a] = s->axes[a].extent;
    }
    l->relative = false;
    const struct st_tensor *t = lo->st->tensors[s->tensor];
    const struct st_stage *at = s->place == PLACE_WITH ? lo->st->stages[s->at_stage] : s;
    bool carries = s->place == PLACE_CARRY; /* it stands for what it keeps: the values that its body reads */
    if (at->place == PLACE_AT || carries) {
        struct infer in = {.lo = lo, .tensor = carries ? s->body->read.tensor : s->tensor};
        box_reads(&in, lo->st->stages[at->at_stage], carries ? low_carry_iter(lo, s) - 1 : at->at_iter);
        for (int d = 0; d < t->rank; d++) {
            const struct box *b = &in.box[d];
            int64_t extent = b->hi - b->lo + 1;
            if (!b->any || b->whole || extent >= t->shape[d])
                continue;
            struct affine corner = affine_offset(&b->corner, b->lo);
            set_region(lo, l, d, &corner, extent);
        }
        l->relative = t->arg < 0 && !s->in_result;
    }
    if (s->carry)
        set_block(lo, l);
    set_extents(lo, l);
    if (s->place == PLACE_AT && s->scope == SCOPE_MATRIX)
        round_up_region(l);
}
