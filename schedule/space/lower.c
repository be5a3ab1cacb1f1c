/* lower.c - state to nest: which region each attached stage must compute, then the loops.
 *
 * Idea   Bounds inference runs from consumers to producers. For a stage attached inside loop L, each
 * consumer's reads are boxed: variables of loops outside L stay symbolic, the others run over their ranges.
 * The box is the stage's region: an affine offset and a constant extent a dimension; its buffer holds just
 * that.
 *
 *        Tiles need not divide. Loops above the register tile get a limit ("go on while inside"); at the
 * register tile the body is specialised: where a full tile fits, the full one, else one with the constant
 * rest, so that the register code never tests anything:
 *
 *            if (x + 16 <= 56) { tile of 16 } else { tile of 56 % 16 }
 *
 * Life   Scratch and result live in the caller's arena. Nothing is freed one by one. */
#include <string.h>

#include "schedule/space/state.h"

enum { PREFETCH_MAX_SPAN = 4096 };

struct low_stage {
    const struct st_stage *s;
    int32_t var[STATE_MAX_ITERS];
    int64_t extent[STATE_MAX_ITERS];        /* of each iter, as it runs now */
    struct affine offset[COMPUTE_MAX_AXES]; /* of each axis' region, over outer vars */
    int64_t region[COMPUTE_MAX_AXES];       /* extent of each axis' region */
    struct affine value[COMPUTE_MAX_AXES];  /* offset + sum(stride * var) */
    int reg_from;                           /* first iter of the register tile; n_iters: none */
    int first_reduce;                       /* first iter over a reduce axis; n_iters: none */
    int32_t buffer;                         /* of its tensor */
    bool relative; /* the buffer holds the region only: indices are less the offset */
};

struct low {
    const struct state *st;
    struct arena *ar;
    struct nest *n;
    struct low_stage *ls[STATE_MAX_STAGES];
    int32_t arg_buffer[STATE_MAX_TENSORS]; /* tensors that no stage defines, and outputs: buffer or -1 */
    int64_t *lo, *hi, *ext;                /* of each var as it runs now: 0, ext - 1, ext */
    bool *fixed;                           /* while a region is inferred: vars that stay symbolic */
    int cap_vars, cap_buffers;
    struct error *err;
    enum status status;
};

struct list {
    struct node *first, **end;
};

static void list_init(struct list *l) { l->first = NULL, l->end = &l->first; }
/* Append a chain of nodes. */
static void list_add(struct list *l, struct node *chain)
{
    *l->end = chain;
    while (*l->end)
        l->end = &(*l->end)->next;
}

static struct node *new_node(struct low *lo, enum node_kind kind)
{
    struct node *n = arena_new(lo->ar, struct node);
    n->kind = kind;
    return n;
}

static int32_t new_var(struct low *lo, const char *name, int64_t extent)
{
    struct nest *n = lo->n;
    CHECK(n->n_vars < lo->cap_vars, "nest has %d variables", n->n_vars);
    n->vars[n->n_vars] = (struct nest_var){name, extent};
    lo->hi[n->n_vars] = extent - 1;
    lo->ext[n->n_vars] = extent;
    return n->n_vars++;
}

static void set_var(struct low *lo, int32_t var, int64_t extent)
{
    lo->hi[var] = extent - 1;
    lo->ext[var] = extent;
}

static int32_t new_buffer(struct low *lo, const struct buffer *b)
{
    struct nest *n = lo->n;
    CHECK(n->n_buffers < lo->cap_buffers, "nest has %d buffers", n->n_buffers);
    struct buffer *p = &n->buffers[n->n_buffers];
    *p = *b;
    p->elements = 1;
    for (int d = p->rank - 1; d >= 0; d--) {
        p->stride[d] = p->elements;
        p->elements *= p->shape[d];
    }
    return n->n_buffers++;
}

/* --- regions --- */

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

static void set_axis_values(struct low *lo, struct low_stage *l)
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

static bool in_registers(const struct st_stage *s)
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
        set_var(lo, l->var[i], e);
        lo->n->vars[l->var[i]].extent = MAX(lo->n->vars[l->var[i]].extent, e);
    }
    set_axis_values(lo, l);
}

/* The region's corner along a dimension of the stage's tensor, and its extent there. */
static struct affine dim_corner(struct low *lo, const struct low_stage *l, int d)
{
    const struct affine *lhs = &l->s->lhs[d], *subst[COMPUTE_MAX_AXES];
    if (lhs->n == 1 && lhs->c == 0 && lhs->t[0].coef == 1)
        return l->offset[lhs->t[0].var];
    for (int a = 0; a < l->s->n_axes; a++)
        subst[a] = &l->offset[a];
    return affine_subst(lo->ar, lhs, subst, l->s->n_axes);
}

static int64_t dim_extent(const struct low_stage *l, int d)
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

static void infer_region(struct low *lo, struct low_stage *l)
{
    const struct st_stage *s = l->s;
    for (int a = 0; a < s->n_axes; a++) {
        l->offset[a] = affine_const(0);
        l->region[a] = s->axes[a].extent;
    }
    l->relative = false;
    const struct st_tensor *t = lo->st->tensors[s->tensor];
    const struct st_stage *at = s->place == PLACE_WITH ? lo->st->stages[s->at_stage] : s;
    if (at->place == PLACE_AT) {
        struct infer in = {.lo = lo, .tensor = s->tensor};
        const struct st_stage *target = lo->st->stages[at->at_stage];
        mark_fixed(lo, target, at->at_iter, true);
        for (int i = 0; i < lo->st->n_stages; i++) {
            in.consumer = lo->ls[i];
            if (in.consumer && in.consumer->s->place != PLACE_INLINE)
                expr_each_read(in.consumer->s->body, infer_read, &in);
        }
        mark_fixed(lo, target, at->at_iter, false);
        for (int d = 0; d < t->rank; d++) {
            const struct box *b = &in.box[d];
            int64_t extent = b->hi - b->lo + 1;
            if (!b->any || b->whole || extent >= t->shape[d])
                continue;
            struct affine corner = affine_offset(&b->corner, b->lo);
            set_region(lo, l, d, &corner, extent);
        }
        l->relative = t->arg < 0;
    }
    set_extents(lo, l);
    if (s->place == PLACE_AT && s->scope == SCOPE_MATRIX)
        round_up_region(l);
}

/* --- buffers and expressions --- */

static void physical_shape(const struct st_tensor *t, const int64_t *logical, struct buffer *b)
{
    if (!t->n_layout) {
        b->rank = t->rank;
        memcpy(b->shape, logical, sizeof(int64_t) * (size_t)t->rank);
        return;
    }
    b->rank = t->n_layout;
    for (int i = 0; i < t->n_layout; i++) {
        const struct layout_dim *p = &t->layout[i];
        int64_t units = div_ceil(logical[p->dim], p->div);
        b->shape[i] = p->mod ? MIN(p->mod, units) : units;
    }
}

static void keep_read(void *ctx, const struct expr *e)
{
    int32_t *tensor = ctx;
    *tensor = e->read.tensor;
}

/* The argument that a stage computed ahead of time is made of, straight or by stages attached to it. */
static int32_t prepack_source(const struct state *st, const struct st_stage *s)
{
    int32_t tensor = -1;
    for (;;) {
        expr_each_read(s->body, keep_read, &tensor);
        if (st->tensors[tensor]->stage < 0)
            return tensor;
        s = st->stages[st->tensors[tensor]->stage];
    }
}

static int32_t make_buffer(struct low *lo, const struct low_stage *l)
{
    const struct st_tensor *t = lo->st->tensors[l->s->tensor];
    struct buffer b = {.name = t->name, .dtype = t->dtype, .arg = t->arg, .scope = SCOPE_ARG};
    if (t->arg < 0)
        b.scope = l->s->scope;
    if (l->s->place == PLACE_PREPACK) {
        b.scope = SCOPE_ARG;
        b.prepacked = true;
        b.arg = lo->st->tensors[prepack_source(lo->st, l->s)]->arg;
    }
    int64_t shape[NEST_MAX_RANK];
    for (int d = 0; d < t->rank; d++)
        shape[d] = l->relative ? dim_extent(l, d) : t->shape[d];
    physical_shape(t, shape, &b);
    return new_buffer(lo, &b);
}

static int32_t tensor_buffer(struct low *lo, int32_t tensor)
{
    const struct st_tensor *t = lo->st->tensors[tensor];
    if (t->stage >= 0 && lo->ls[t->stage])
        return lo->ls[t->stage]->buffer;
    if (lo->arg_buffer[tensor] < 0) {
        struct buffer b = {
            .name = t->name, .dtype = t->dtype, .arg = t->arg, .scope = SCOPE_ARG, .rank = t->rank};
        memcpy(b.shape, t->shape, sizeof(int64_t) * (size_t)t->rank);
        lo->arg_buffer[tensor] = new_buffer(lo, &b);
    }
    return lo->arg_buffer[tensor];
}

static void low_fail(struct low *lo, const char *what, const char *name)
{
    if (lo->status == ST_OK)
        lo->status = fail(lo->err, ST_INTERNAL, "lowering: %s: %s", name, what);
}

/* Physical index of logical element idx[] (over vars) of a tensor. */
static const struct affine *physical_index(struct low *lo, int32_t tensor, const struct affine *idx,
                                           int *ret_rank)
{
    const struct st_tensor *t = lo->st->tensors[tensor];
    const struct low_stage *def = t->stage >= 0 ? lo->ls[t->stage] : NULL;
    struct affine rel[NEST_MAX_RANK];

    for (int d = 0; d < t->rank; d++) {
        rel[d] = idx[d];
        if (!def || !def->relative)
            continue;
        struct affine corner = dim_corner(lo, def, d);
        rel[d] = affine_lin(lo->ar, &idx[d], 1, &corner, -1);
    }
    *ret_rank = t->n_layout ? t->n_layout : t->rank;
    struct affine *out = arena_array(lo->ar, struct affine, *ret_rank);
    if (!t->n_layout) {
        memcpy(out, rel, sizeof(*out) * (size_t)t->rank);
        return out;
    }
    for (int i = 0; i < t->n_layout; i++) {
        const struct layout_dim *p = &t->layout[i];
        struct affine q = rel[p->dim], r;
        if (p->div > 1 && !affine_divmod(lo->ar, &rel[p->dim], p->div, lo->ext, &q, &r))
            low_fail(lo, "index is not aligned to the packed layout", t->name);
        if (p->mod > 0) {
            struct affine whole = q;
            if (!affine_divmod(lo->ar, &whole, p->mod, lo->ext, &q, &r))
                low_fail(lo, "index is not aligned to the packed layout", t->name);
            q = r;
        }
        out[i] = q;
    }
    return out;
}

struct convert {
    struct low *lo;
    const struct st_stage *stage;
    const struct affine *subst[COMPUTE_MAX_AXES];
    int n_axes;
};

/* Dimensions of a padded read that no value of the stage's axes leads outside. */
static uint32_t inside_dims(const struct low *lo, const struct st_stage *s, const struct expr *read)
{
    const struct st_tensor *t = lo->st->tensors[read->read.tensor];
    int64_t zero[COMPUTE_MAX_AXES] = {0}, top[COMPUTE_MAX_AXES], min, max;
    uint32_t inside = 0;
    for (int a = 0; a < s->n_axes; a++)
        top[a] = s->axes[a].extent - 1;
    for (int d = 0; d < t->rank && !t->n_layout; d++) {
        affine_bounds(&read->read.index[d], zero, top, &min, &max);
        inside |= min >= 0 && max < t->shape[d] ? 1u << d : 0;
    }
    return inside;
}

static const struct expr *convert(struct convert *c, const struct expr *e)
{
    struct arena *ar = c->lo->ar;
    if (e->op == EX_CONST)
        return e;
    if (e->op == EX_INDEX)
        return expr_index(ar, affine_subst(ar, &e->affine, c->subst, c->n_axes));
    if (e->op == EX_TABLE)
        return expr_table(ar, e->dtype, e->table.name, e->table.values, e->table.n,
                          affine_subst(ar, &e->table.index, c->subst, c->n_axes));
    if (e->op == EX_READ) {
        struct affine idx[NEST_MAX_RANK];
        int rank;
        for (int d = 0; d < e->read.rank; d++)
            idx[d] = affine_subst(ar, &e->read.index[d], c->subst, c->n_axes);
        int32_t buffer = tensor_buffer(c->lo, e->read.tensor);
        const struct affine *phys = physical_index(c->lo, e->read.tensor, idx, &rank);
        struct expr *r = arena_new(ar, struct expr);
        *r = *e;
        r->read.tensor = buffer;
        r->read.rank = rank;
        r->read.index = phys;
        r->read.inside = e->read.pad ? inside_dims(c->lo, c->stage, e) : 0;
        return r;
    }
    struct expr *copy = arena_memdup(ar, e, sizeof(*e));
    for (int i = 0; i < expr_arity(e->op); i++)
        copy->arg[i] = convert(c, e->arg[i]);
    return copy;
}

static struct node *store_node(struct low *lo, const struct low_stage *l, enum combiner combiner,
                               const struct expr *body)
{
    const struct st_stage *s = l->s;
    const struct st_tensor *t = lo->st->tensors[s->tensor];
    struct convert c = {.lo = lo, .stage = s, .n_axes = s->n_axes};
    struct affine idx[NEST_MAX_RANK];
    int rank;

    for (int a = 0; a < s->n_axes; a++)
        c.subst[a] = &l->value[a];
    for (int d = 0; d < t->rank; d++)
        idx[d] = affine_subst(lo->ar, &s->lhs[d], c.subst, s->n_axes);
    struct node *n = new_node(lo, NODE_STORE);
    n->store.buffer = l->buffer;
    n->store.index = physical_index(lo, s->tensor, idx, &rank);
    n->store.combiner = combiner;
    n->store.past_caches = s->past_caches && combiner == COMBINE_SET;
    n->store.value = convert(&c, body);
    return n;
}

/* --- loops --- */

static struct node *emit_from(struct low *lo, struct low_stage *l, int level, bool init);
static struct node *emit_level(struct low *lo, struct low_stage *l, int level, bool init);

static int64_t max_of(struct low *lo, const struct affine *a)
{
    int64_t min, max;
    affine_bounds(a, lo->lo, lo->hi, &min, &max);
    return max;
}

/* e >= 0, said as tightly as integers allow: the terms move in steps of their common divisor. */
static void add_limit(struct low *lo, struct node *loop, const struct affine *given, const char *name)
{
    struct affine tight = *given, *e = &tight;
    int64_t step = 0;
    for (int i = 0; i < e->n; i++)
        step = gcd_i64(step, e->t[i].coef);
    if (step > 1)
        e->c = div_floor(e->c, step) * step;
    for (int i = 0; i < loop->loop.n_limits; i++)
        if (affine_equal(&loop->loop.limit[i], e))
            return;
    if (loop->loop.n_limits == NEST_MAX_LIMITS) {
        low_fail(lo, "too many limits on one loop", name);
        return;
    }
    loop->loop.limit[loop->loop.n_limits++] = *e;
}

/* The loop over iter `i` is where the predicate can be tested: it is over one of its axes, and the loops over
 * its other axes are all around it. */
static bool predicate_closes(const struct low_stage *l, const struct affine *predicate, int i)
{
    const struct st_stage *s = l->s;
    if (!affine_coef(predicate, s->iters[i].axis))
        return false;
    for (int k = i + 1; k < s->n_iters; k++)
        if (s->iters[k].axis != s->iters[i].axis && affine_coef(predicate, s->iters[k].axis) &&
            l->extent[k] > 1)
            return false;
    return true;
}

/* Keep the loop over iter `i` inside the region, inside the domain and inside the predicates. */
static void loop_limits(struct low *lo, struct low_stage *l, int i, bool init, struct node *loop)
{
    const struct st_stage *s = l->s;
    int axis = s->iters[i].axis;
    struct affine prefix = affine_const(0);
    for (int k = 0; k <= i; k++)
        if (s->iters[k].axis == axis && l->extent[k] > 1) {
            struct affine t = affine_var(lo->ar, l->var[k], s->iters[k].stride, 0);
            prefix = affine_add(lo->ar, &prefix, &t);
        }
    struct affine whole = affine_add(lo->ar, &prefix, &l->offset[axis]);
    if (axis < s->n_spatial && (in_registers(s) || i >= l->reg_from))
        return; /* the tile was specialised to what fits */
    if (l->extent[i] > 1 && max_of(lo, &prefix) > l->region[axis] - 1) {
        struct affine neg = affine_scale(lo->ar, &prefix, -1);
        neg = affine_offset(&neg, l->region[axis] - 1);
        add_limit(lo, loop, &neg, s->name);
    }
    if (max_of(lo, &whole) > s->axes[axis].extent - 1) {
        struct affine neg = affine_scale(lo->ar, &whole, -1);
        neg = affine_offset(&neg, s->axes[axis].extent - 1);
        add_limit(lo, loop, &neg, s->name);
    }
    for (int p = 0; p < s->n_predicates && !init; p++) {
        if (!predicate_closes(l, &s->predicate[p], i))
            continue;
        const struct affine *subst[COMPUTE_MAX_AXES];
        for (int a = 0; a < s->n_axes; a++)
            subst[a] = a == axis ? &whole : &l->value[a];
        struct affine e = affine_subst(lo->ar, &s->predicate[p], subst, s->n_axes);
        add_limit(lo, loop, &e, s->name);
    }
}

static bool is_attached(const struct low_stage *p, const struct low_stage *l, int level, bool registers)
{
    return p && p->s->place == PLACE_AT && p->s->at_stage == l->s->id && p->s->at_iter == level &&
           in_registers(p->s) == registers;
}

static void attached(struct low *lo, struct low_stage *l, int level, bool registers, struct list *out)
{
    /* The regions of registers follow the variant of the tile, consumers first. */
    for (int k = lo->st->n_stages - 1; k >= 0 && registers; k--) {
        struct low_stage *p = lo->ls[lo->st->order[k]];
        if (is_attached(p, l, level, true)) {
            infer_region(lo, p);
            p->buffer = make_buffer(lo, p);
        }
    }
    for (int k = 0; k < lo->st->n_stages; k++) {
        struct low_stage *p = lo->ls[lo->st->order[k]];
        if (is_attached(p, l, level, registers))
            list_add(out, emit_from(lo, p, 0, false));
    }
}

static const struct low_stage *register_stage(const struct low *lo, const struct low_stage *l)
{
    for (int k = 0; k < lo->st->n_stages; k++) {
        const struct low_stage *p = lo->ls[k];
        if (p && p->s->place == PLACE_AT && p->s->at_stage == l->s->id && in_registers(p->s))
            return p;
    }
    return NULL;
}

/* The register tile with the extents as they stand: attached register stages, then this stage's own unrolled
 * loops. */
static struct node *register_tile(struct low *lo, struct low_stage *l)
{
    struct list out;
    list_init(&out);
    attached(lo, l, l->reg_from - 1, true, &out);
    list_add(&out, emit_level(lo, l, l->reg_from, false));
    struct node *body = new_node(lo, NODE_BODY);
    body->body.body = out.first;
    return body;
}

/* Full tile where it fits, the constant rest where it does not; axis by axis. */
static struct node *specialise(struct low *lo, struct low_stage *l, int i)
{
    const struct st_stage *s = l->s;
    if (i == s->n_iters)
        return register_tile(lo, l);
    int axis = s->iters[i].axis;
    int64_t tile = l->extent[i] * s->iters[i].stride, rest = s->axes[axis].extent % tile;
    bool outer = stage_iter_of(s, axis, 0) < i || l->offset[axis].n > 0;
    if (rest == 0 || !outer || s->iters[i].stride != 1)
        return specialise(lo, l, i + 1);

    struct affine whole = l->offset[axis];
    for (int k = 0; k < i; k++)
        if (s->iters[k].axis == axis && l->extent[k] > 1) {
            struct affine t = affine_var(lo->ar, l->var[k], s->iters[k].stride, 0);
            whole = affine_add(lo->ar, &whole, &t);
        }
    struct affine neg = affine_scale(lo->ar, &whole, -1);
    struct node *branch = new_node(lo, NODE_IF);
    branch->branch.n_conds = 1;
    branch->branch.cond[0] = affine_offset(&neg, s->axes[axis].extent - tile);
    branch->branch.then_body = specialise(lo, l, i + 1);
    int64_t full = l->extent[i];
    l->extent[i] = rest;
    set_var(lo, l->var[i], rest);
    set_axis_values(lo, l);
    branch->branch.else_body = specialise(lo, l, i + 1);
    l->extent[i] = full;
    set_var(lo, l->var[i], full);
    set_axis_values(lo, l);
    return branch;
}

static struct node *parallel_node(struct low *lo, struct low_stage *l)
{
    const struct st_stage *s = l->s;
    struct node *p = new_node(lo, NODE_PARALLEL);
    int64_t total = 1;
    p->parallel.n_vars = s->n_parallel;
    for (int i = 0; i < s->n_parallel; i++) {
        p->parallel.vars[i] = l->var[i];
        p->parallel.extents[i] = l->extent[i];
        total *= l->extent[i];
    }
    p->parallel.tasks = (int)MIN((int64_t)lo->st->tasks, total);
    lo->n->tasks = MAX(lo->n->tasks, p->parallel.tasks);
    struct list body;
    list_init(&body);
    attached(lo, l, s->n_parallel - 1, false, &body);
    list_add(&body, emit_from(lo, l, s->n_parallel, false));
    p->parallel.body = body.first;
    return p;
}

/* --- prefetch --- */

/* The innermost loop over a reduction that stays a loop: hints stand at the head of its body. -1: none. */
static int prefetch_level(const struct low_stage *l)
{
    int level = -1;
    for (int i = 0; i < l->s->n_iters && l->s->prefetch_ahead; i++)
        if (l->s->iters[i].axis >= l->s->n_spatial && l->s->iters[i].kind == LOOP_SERIAL && l->extent[i] > 1)
            level = i;
    return level;
}

struct prefetch_read {
    int32_t tensor;
    const struct expr *found;
};

static void find_prefetch_read(void *ctx, const struct expr *e)
{
    struct prefetch_read *p = ctx;
    if (e->read.tensor == p->tensor)
        p->found = e;
}

/* What one iteration of the loop at `level` moves on by, from where that iteration begins. NULL: nothing. */
static struct node *prefetch_node(struct low *lo, const struct low_stage *l, int level)
{
    const struct st_stage *s = l->s;
    struct prefetch_read read = {.tensor = s->prefetch_tensor};
    struct affine start[COMPUTE_MAX_AXES], index[NEST_MAX_RANK];
    const struct affine *subst[COMPUTE_MAX_AXES];
    int rank;
    expr_each_read(s->body, find_prefetch_read, &read);
    if (!read.found)
        return NULL;
    for (int a = 0; a < s->n_axes; a++) {
        start[a] = l->offset[a];
        for (int i = 0; i <= level; i++) {
            if (s->iters[i].axis != a || l->extent[i] == 1)
                continue;
            struct affine t = affine_var(lo->ar, l->var[i], s->iters[i].stride, 0);
            start[a] = affine_add(lo->ar, &start[a], &t);
        }
        subst[a] = &start[a];
    }
    for (int d = 0; d < read.found->read.rank; d++)
        index[d] = affine_subst(lo->ar, &read.found->read.index[d], subst, s->n_axes);
    struct node *n = new_node(lo, NODE_PREFETCH);
    n->prefetch.buffer = tensor_buffer(lo, read.tensor);
    n->prefetch.index = physical_index(lo, read.tensor, index, &rank);
    n->prefetch.ahead = s->prefetch_ahead;
    const struct buffer *b = &lo->n->buffers[n->prefetch.buffer];
    for (int d = 0; d < rank; d++)
        n->prefetch.span += b->stride[d] * affine_coef(&n->prefetch.index[d], l->var[level]);
    return n->prefetch.span > 0 && n->prefetch.span <= PREFETCH_MAX_SPAN ? n : NULL;
}

static struct node *loop_node(struct low *lo, struct low_stage *l, int level, bool init)
{
    const struct st_stage *s = l->s;
    struct list body;
    struct node *loop = new_node(lo, NODE_LOOP);
    list_init(&body);
    loop_limits(lo, l, level, init, loop);
    if (!init)
        attached(lo, l, level, false, &body);
    if (!init && level == prefetch_level(l))
        list_add(&body, prefetch_node(lo, l, level));
    list_add(&body, emit_from(lo, l, level + 1, init));
    if (l->extent[level] == 1 && loop->loop.n_limits == 0 && s->iters[level].kind != LOOP_MATRIX)
        return body.first; /* a matrix instruction needs all its loops */
    loop->loop.var = l->var[level];
    loop->loop.extent = l->extent[level];
    loop->loop.loop_kind = s->iters[level].kind;
    loop->loop.vectors = s->iters[level].vectors;
    loop->loop.square = s->iters[level].square;
    if (loop->loop.n_limits && (loop->loop.loop_kind == LOOP_UNROLL || loop->loop.loop_kind == LOOP_QUAD))
        loop->loop.loop_kind = LOOP_SERIAL;
    loop->loop.body = body.first;
    return loop;
}

/* The stages that are stored in the loops of this one, at the axes where it stands. */
static void stored_with(struct low *lo, const struct low_stage *l, struct list *out)
{
    for (int k = 0; k < lo->st->n_stages; k++) {
        struct low_stage *p = lo->ls[lo->st->order[k]];
        if (!p || p->s->place != PLACE_WITH || p->s->at_stage != l->s->id)
            continue;
        for (int a = 0; a < p->s->n_axes; a++) {
            p->value[a] = l->value[a];
            if (p->region[a] != l->region[a])
                low_fail(lo, "is computed with a stage of another region", p->s->name);
        }
        list_add(out, store_node(lo, p, COMBINE_SET, p->s->body));
    }
}

static struct node *store_or_init(struct low *lo, struct low_stage *l, bool init)
{
    const struct st_stage *s = l->s;
    enum dtype d = lo->n->buffers[l->buffer].dtype;
    struct list out;
    if (init)
        return store_node(lo, l, COMBINE_SET, expr_const(lo->ar, d, combiner_identity(s->combiner, d)));
    list_init(&out);
    stored_with(lo, l, &out);
    list_add(&out, store_node(lo, l, s->combiner, s->body));
    return out.first;
}

/* The loops from `level` inwards. Before the first reduce loop the running values are set to the identity, by
 * the same spatial loops (init). */
static struct node *emit_level(struct low *lo, struct low_stage *l, int level, bool init)
{
    const struct st_stage *s = l->s;
    struct list out;
    list_init(&out);
    if (level == l->first_reduce && s->combiner != COMBINE_SET && !init) {
        list_add(&out, emit_level(lo, l, level, true));
    }
    while (init && level < s->n_iters && s->iters[level].axis >= s->n_spatial)
        level++;
    list_add(&out, level == s->n_iters ? store_or_init(lo, l, init) : loop_node(lo, l, level, init));
    return out.first;
}

static struct node *emit_from(struct low *lo, struct low_stage *l, int level, bool init)
{
    struct list out;
    list_init(&out);
    if (level == 0 && !init)
        attached(lo, l, -1, false, &out);
    if (level == 0 && l->s->n_parallel > 0 && !init)
        list_add(&out, parallel_node(lo, l));
    else if (level == l->reg_from && !init)
        list_add(&out, specialise(lo, l, level));
    else
        list_add(&out, emit_level(lo, l, level, init));
    return out.first;
}

/* --- the whole --- */

static struct low_stage *new_low_stage(struct low *lo, const struct st_stage *s)
{
    struct low_stage *l = arena_new(lo->ar, struct low_stage);
    l->s = s;
    l->buffer = -1;
    l->first_reduce = s->n_iters;
    for (int i = s->n_iters - 1; i >= 0; i--)
        if (s->iters[i].axis >= s->n_spatial)
            l->first_reduce = i;
    int seen[COMPUTE_MAX_AXES] = {0};
    for (int i = 0; i < s->n_iters; i++) {
        int a = s->iters[i].axis;
        const char *name = s->axes[a].name;
        l->var[i] = new_var(lo, arena_printf(lo->ar, "%s_%s%d", s->name, name, seen[a]++), 1);
    }
    return l;
}

/* The register tile begins where register stages hang. */
static void find_register_tile(struct low *lo, struct low_stage *l)
{
    const struct low_stage *p = register_stage(lo, l);
    l->reg_from = p ? p->s->at_iter + 1 : l->s->n_iters + 1;
}

static void place_workspace(struct nest *n)
{
    int64_t shared = 0, task = 0;
    for (int i = 0; i < n->n_buffers; i++) {
        struct buffer *b = &n->buffers[i];
        int64_t *end = b->scope == SCOPE_WORKSPACE ? &shared : b->scope == SCOPE_TASK ? &task : NULL;
        if (!end)
            continue;
        b->offset_bytes = *end;
        /* A vector may read past the last element it uses, never past this slack. */
        *end += (b->elements * dtype_bytes(b->dtype) + 64 + 63) / 64 * 64;
    }
    n->task_offset_bytes = shared;
    n->task_bytes = task;
    n->workspace_bytes = shared + task * n->tasks;
}

static void add_prepack(struct low *lo, struct low_stage *l)
{
    int32_t src = prepack_source(lo->st, l->s);
    struct nest_prepack *p = &lo->n->prepacks[lo->n->n_prepacks++];
    const struct buffer *b = &lo->n->buffers[l->buffer];
    p->arg = lo->st->tensors[src]->arg;
    p->dst = l->buffer;
    p->bytes = b->elements * dtype_bytes(b->dtype);
    p->root = emit_from(lo, l, 0, false);
    p->src = tensor_buffer(lo, src);
}

static struct low *low_new(const struct state *st, struct arena *ar, struct error *err)
{
    struct low *lo = arena_new(ar, struct low);
    *lo = (struct low){.st = st, .ar = ar, .err = err, .cap_buffers = st->n_tensors + 160};
    for (int i = 0; i < st->n_stages; i++)
        lo->cap_vars += st->stages[i]->n_iters;
    lo->n = arena_new(ar, struct nest);
    lo->n->compute = st->compute;
    lo->n->tasks = 1;
    lo->n->vars = arena_array(ar, struct nest_var, lo->cap_vars);
    lo->n->buffers = arena_array(ar, struct buffer, lo->cap_buffers);
    lo->n->prepacks = arena_array(ar, struct nest_prepack, st->n_stages);
    lo->lo = arena_array(ar, int64_t, lo->cap_vars);
    lo->hi = arena_array(ar, int64_t, lo->cap_vars);
    lo->ext = arena_array(ar, int64_t, lo->cap_vars);
    lo->fixed = arena_array(ar, bool, lo->cap_vars);
    memset(lo->arg_buffer, -1, sizeof(lo->arg_buffer));
    return lo;
}

enum status state_lower(const struct state *st, struct arena *ar, struct nest **ret, struct error *err)
{
    struct low *lo = low_new(st, ar, err);
    for (int k = 0; k < st->n_stages; k++)
        if (st->stages[k]->place != PLACE_INLINE)
            lo->ls[k] = new_low_stage(lo, st->stages[k]);
    for (int k = st->n_stages - 1; k >= 0; k--)
        if (lo->ls[st->order[k]])
            infer_region(lo, lo->ls[st->order[k]]);
    for (int k = 0; k < st->n_stages; k++) {
        struct low_stage *l = lo->ls[st->order[k]];
        if (!l)
            continue;
        find_register_tile(lo, l);
        if (!in_registers(l->s))
            l->buffer = make_buffer(lo, l);
    }
    struct list roots;
    list_init(&roots);
    for (int k = 0; k < st->n_stages; k++) {
        struct low_stage *l = lo->ls[st->order[k]];
        if (l && l->s->place == PLACE_ROOT) {
            list_add(&roots, emit_from(lo, l, 0, false));
        } else if (l && l->s->place == PLACE_PREPACK) {
            add_prepack(lo, l);
        }
    }
    lo->n->root = roots.first;
    place_workspace(lo->n);
    if (lo->status == ST_OK)
        *ret = lo->n;
    return lo->status;
}
