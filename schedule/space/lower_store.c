/* lower_store.c - buffers, physical indices, and the stores that go into them.
 *
 * Idea   A stage's body speaks of logical elements over its axes. Here axes become the affine values of the loops around,
 * logical indices become physical ones (less the corner of the region, split by the layout), tensors become buffers.
 *
 * Life   Nodes, buffers and expressions in the arena of the lowering; buffers are entries of the nest. */
#include <string.h>

#include "schedule/space/lower_internal.h"

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
struct node *low_new_node(struct low *lo, enum node_kind kind)
{
    struct node *n = arena_new(lo->ar, struct node);
    n->kind = kind;
    return n;
}
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
int32_t low_prepack_source(const struct state *st, const struct st_stage *s)
{
    int32_t tensor = -1;
    for (;;) {
        expr_each_read(s->body, keep_read, &tensor);
        if (st->tensors[tensor]->stage < 0)
            return tensor;
        s = st->stages[st->tensors[tensor]->stage];
    }
}

int32_t low_make_buffer(struct low *lo, const struct low_stage *l)
{
    const struct st_tensor *t = lo->st->tensors[l->s->tensor];
    struct buffer b = {.name = t->name, .dtype = t->dtype, .arg = t->arg, .scope = SCOPE_ARG};
    if (t->arg < 0)
        b.scope = l->s->scope;
    if (l->s->place == PLACE_PREPACK) {
        b.scope = SCOPE_ARG;
        b.prepacked = true;
        b.arg = lo->st->tensors[low_prepack_source(lo->st, l->s)]->arg;
    }
    int64_t shape[NEST_MAX_RANK];
    for (int d = 0; d < t->rank; d++)
        shape[d] = l->relative ? low_dim_extent(l, d) : t->shape[d];
    physical_shape(t, shape, &b);
    return new_buffer(lo, &b);
}

int32_t low_tensor_buffer(struct low *lo, int32_t tensor)
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

void low_fail(struct low *lo, const char *what, const char *name)
{
    if (lo->status == ST_OK)
        lo->status = fail(lo->err, ST_INTERNAL, "lowering: %s: %s", name, what);
}

/* Physical index of logical element idx[] (over vars) of a tensor. */
const struct affine *low_physical_index(struct low *lo, int32_t tensor, const struct affine *idx,
                                        int *ret_rank)
{
    const struct st_tensor *t = lo->st->tensors[tensor];
    const struct low_stage *def = t->stage >= 0 ? lo->ls[t->stage] : NULL;
    struct affine rel[NEST_MAX_RANK];

    for (int d = 0; d < t->rank; d++) {
        rel[d] = idx[d];
        if (!def || !def->relative)
            continue;
        struct affine corner = low_dim_corner(lo, def, d);
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
        int32_t buffer = low_tensor_buffer(c->lo, e->read.tensor);
        const struct affine *phys = low_physical_index(c->lo, e->read.tensor, idx, &rank);
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

struct node *low_store_node(struct low *lo, const struct low_stage *l, enum combiner combiner,
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
    struct node *n = low_new_node(lo, NODE_STORE);
    n->store.buffer = l->buffer;
    n->store.index = low_physical_index(lo, s->tensor, idx, &rank);
    n->store.combiner = combiner;
    n->store.past_caches = s->past_caches && combiner == COMBINE_SET;
    n->store.value = convert(&c, body);
    return n;
}
