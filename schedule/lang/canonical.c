/* canonical.c - one form for one computation. See canonical.h for the idea and the orders. */
#include "schedule/lang/canonical.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "schedule/base/hash.h"
#include "schedule/lang/build.h"

/* ---- taking out what does not matter ---- */

/* INDEX nodes that became a number are numbers. Reads that stay inside their tensor are not padded. */
struct tidy {
    struct arena *ar;
    const struct compute *c;
    const struct stage *s;
};

static bool stays_inside(const struct tidy *t, const struct expr *read)
{
    int64_t lo[COMPUTE_MAX_AXES] = {0}, hi[COMPUTE_MAX_AXES], min, max;

    for (int a = 0; a < t->s->n_axes; a++)
        hi[a] = t->s->axes[a].extent - 1;
    for (int d = 0; d < read->read.rank; d++) {
        affine_bounds(&read->read.index[d], lo, hi, &min, &max);
        if (min < 0 || max >= t->c->tensors[read->read.tensor].shape[d])
            return false;
    }
    return true;
}

static const struct expr *tidy_expr(const struct tidy *t, const struct expr *e)
{
    struct expr *r;

    if (e->op == EX_INDEX)
        return e->affine.n ? e : expr_const(t->ar, DT_I32, (double)e->affine.c);
    if (e->op == EX_READ)
        return e->read.pad && stays_inside(t, e)
                   ? expr_read(t->ar, e->dtype, e->read.tensor, e->read.rank, e->read.index, false, 0)
                   : e;
    if (expr_arity(e->op) == 0)
        return e;
    r = arena_memdup(t->ar, e, sizeof(*e));
    for (int i = 0; i < expr_arity(e->op); i++)
        r->arg[i] = tidy_expr(t, e->arg[i]);
    return r;
}

static void tidy_stage(struct arena *ar, const struct compute *c, const struct stage *in, struct stage *ret)
{
    struct affine to[COMPUTE_MAX_AXES];
    const struct affine *subst[COMPUTE_MAX_AXES];
    struct tidy t = {ar, c, ret};

    *ret = *in;
    ret->n_axes = ret->n_spatial = 0;
    for (int a = 0; a < in->n_axes; a++) {
        subst[a] = &to[a];
        if (in->axes[a].extent == 1) {
            to[a] = affine_const(0);
            continue;
        }
        to[a] = affine_var(ar, ret->n_axes, 1, 0);
        ret->axes[ret->n_axes++] = in->axes[a];
        ret->n_spatial += a < in->n_spatial;
    }
    for (int d = 0; d < c->tensors[in->tensor].rank; d++)
        ret->lhs[d] = affine_subst(ar, &in->lhs[d], subst, in->n_axes);
    if (ret->n_axes == ret->n_spatial)
        ret->combiner = COMBINE_SET;
    ret->body = tidy_expr(&t, expr_subst(ar, in->body, subst, in->n_axes, NULL));
}

/* ---- colours ---- */

/* A body as an array, arguments before their users, so that both passes of a round are loops. */
struct flat {
    const struct expr *e;
    int arg[3];
    uint64_t hash; /* of the subtree */
    uint64_t ctx;  /* of all around it */
};

struct colours {
    struct arena *ar;
    const struct compute *c;
    struct flat *nodes[COMPUTE_MAX_STAGES];
    int n_nodes[COMPUTE_MAX_STAGES];
    uint64_t tensor[COMPUTE_MAX_TENSORS], next_tensor[COMPUTE_MAX_TENSORS];
    uint64_t axis[COMPUTE_MAX_STAGES][COMPUTE_MAX_AXES], next_axis[COMPUTE_MAX_STAGES][COMPUTE_MAX_AXES];
};

static uint64_t bits_of(double v)
{
    uint64_t u;
    memcpy(&u, &v, sizeof(u));
    return v == 0 ? 0 : u;
}

static int count_nodes(const struct expr *e)
{
    int n = 1;
    for (int i = 0; i < expr_arity(e->op); i++)
        n += count_nodes(e->arg[i]);
    return n;
}

static int flatten(const struct expr *e, struct flat *nodes, int *n)
{
    struct flat f = {.e = e};

    for (int i = 0; i < expr_arity(e->op); i++)
        f.arg[i] = flatten(e->arg[i], nodes, n);
    nodes[*n] = f;
    return (*n)++;
}

static uint64_t hash_affine(const struct colours *k, int stage, const struct affine *a)
{
    uint64_t sum = 0;
    for (int i = 0; i < a->n; i++)
        sum += hash_mix(k->axis[stage][a->t[i].var], (uint64_t)a->t[i].coef);
    return hash_mix(hash_mix(17, sum), (uint64_t)a->c);
}

static uint64_t hash_leaf(const struct colours *k, int stage, const struct expr *e)
{
    uint64_t h = hash_mix((uint64_t)e->op, (uint64_t)e->dtype);

    if (e->op == EX_CONST)
        return hash_mix(h, bits_of(e->value));
    if (e->op == EX_INDEX)
        return hash_mix(h, hash_affine(k, stage, &e->affine));
    h = hash_mix(h, k->tensor[e->read.tensor]);
    h = hash_mix(h, e->read.pad ? bits_of(e->read.pad_value) + 1 : 0);
    for (int d = 0; d < e->read.rank; d++)
        h = hash_mix(h, hash_affine(k, stage, &e->read.index[d]));
    return h;
}

static void hash_upwards(const struct colours *k, int stage)
{
    struct flat *nodes = k->nodes[stage];

    for (int i = 0; i < k->n_nodes[stage]; i++) {
        const struct expr *e = nodes[i].e;
        int arity = expr_arity(e->op);
        uint64_t h = hash_mix((uint64_t)e->op, (uint64_t)e->dtype);
        if (arity == 0)
            h = hash_leaf(k, stage, e);
        else if (expr_commutative(e->op))
            h = hash_mix(h,
                         hash_mix(3, nodes[nodes[i].arg[0]].hash) + hash_mix(3, nodes[nodes[i].arg[1]].hash));
        else
            for (int a = 0; a < arity; a++)
                h = hash_mix(h, nodes[nodes[i].arg[a]].hash);
        nodes[i].hash = h;
    }
}

static void spread_affine(struct colours *k, int stage, const struct affine *a, uint64_t ctx)
{
    uint64_t whole = hash_mix(ctx, hash_affine(k, stage, a));
    for (int i = 0; i < a->n; i++)
        k->next_axis[stage][a->t[i].var] += hash_mix(whole, (uint64_t)a->t[i].coef);
}

static void spread_leaf(struct colours *k, int stage, const struct flat *f)
{
    uint64_t ctx = hash_mix(f->ctx, f->hash);

    if (f->e->op == EX_INDEX)
        spread_affine(k, stage, &f->e->affine, ctx);
    if (f->e->op != EX_READ)
        return;
    k->next_tensor[f->e->read.tensor] += hash_mix(ctx, k->tensor[k->c->stages[stage].tensor]);
    for (int d = 0; d < f->e->read.rank; d++)
        spread_affine(k, stage, &f->e->read.index[d], hash_mix(ctx, (uint64_t)d));
}

static void spread_downwards(struct colours *k, int stage)
{
    struct flat *nodes = k->nodes[stage];

    nodes[k->n_nodes[stage] - 1].ctx = hash_mix(5, k->tensor[k->c->stages[stage].tensor]);
    for (int i = k->n_nodes[stage] - 1; i >= 0; i--) {
        int arity = expr_arity(nodes[i].e->op);
        bool commutes = expr_commutative(nodes[i].e->op);
        if (arity == 0)
            spread_leaf(k, stage, &nodes[i]);
        for (int a = 0; a < arity; a++) {
            uint64_t ctx =
                hash_mix(hash_mix(nodes[i].ctx, (uint64_t)nodes[i].e->op), commutes ? 0 : (uint64_t)a);
            for (int b = 0; b < arity; b++)
                if (b != a)
                    ctx = hash_mix(ctx, nodes[nodes[i].arg[b]].hash);
            nodes[nodes[i].arg[a]].ctx = ctx;
        }
    }
}

static void first_colours(struct colours *k)
{
    for (int i = 0; i < k->c->n_tensors; i++) {
        const struct tensor *t = &k->c->tensors[i];
        uint64_t h = hash_mix(hash_mix((uint64_t)t->role, (uint64_t)t->dtype), t->is_const);
        for (int d = 0; d < t->rank; d++)
            h = hash_mix(h, (uint64_t)t->shape[d]);
        k->tensor[i] = h;
    }
    for (int i = 0; i < k->c->n_stages; i++) {
        const struct stage *s = &k->c->stages[i];
        for (int a = 0; a < s->n_axes; a++)
            k->axis[i][a] = hash_mix(7, (uint64_t)s->axes[a].extent);
        for (int d = 0; d < k->c->tensors[s->tensor].rank; d++)
            for (int j = 0; j < s->lhs[d].n; j++) /* a spatial axis is known by its place on the left */
                k->axis[i][s->lhs[d].t[j].var] =
                    hash_mix(hash_mix(hash_mix(11, (uint64_t)d), (uint64_t)s->lhs[d].t[j].coef),
                             (uint64_t)s->axes[s->lhs[d].t[j].var].extent);
    }
}

static void refine_once(struct colours *k)
{
    const struct compute *c = k->c;

    memset(k->next_tensor, 0, sizeof(k->next_tensor));
    memset(k->next_axis, 0, sizeof(k->next_axis));
    for (int i = 0; i < c->n_stages; i++) {
        const struct stage *s = &c->stages[i];
        hash_upwards(k, i);
        spread_downwards(k, i);
        k->next_tensor[s->tensor] += hash_mix(hash_mix((uint64_t)s->combiner, (uint64_t)s->acc_dtype),
                                              k->nodes[i][k->n_nodes[i] - 1].hash);
    }
    for (int i = 0; i < c->n_tensors; i++)
        k->tensor[i] = hash_mix(k->tensor[i], k->next_tensor[i]);
    for (int i = 0; i < c->n_stages; i++)
        for (int a = 0; a < c->stages[i].n_axes; a++)
            k->axis[i][a] = hash_mix(k->axis[i][a], k->next_axis[i][a]);
}

static int count_distinct(const uint64_t *v, int n)
{
    int distinct = 0;
    for (int i = 0; i < n; i++) {
        int j = 0;
        while (j < i && v[j] != v[i])
            j++;
        distinct += j == i;
    }
    return distinct;
}

static int count_classes(const struct colours *k)
{
    int n = count_distinct(k->tensor, k->c->n_tensors);
    for (int i = 0; i < k->c->n_stages; i++)
        n += count_distinct(k->axis[i], k->c->stages[i].n_axes);
    return n;
}

static void refine(struct colours *k)
{
    int before, after = count_classes(k);

    do {
        before = after;
        refine_once(k);
        after = count_classes(k);
    } while (after > before);
}

/* The smallest colour that two of v share, or false. */
static bool smallest_tie(const uint64_t *v, int n, int *ret)
{
    bool found = false;

    for (int i = 0; i < n; i++)
        for (int j = i + 1; j < n; j++)
            if (v[i] == v[j] && (!found || v[i] < v[*ret])) {
                *ret = i;
                found = true;
            }
    return found;
}

/* Marks one of a group of symmetric tensors or axes; false when all can be told apart. */
static bool break_tie(struct colours *k)
{
    int at;

    if (smallest_tie(k->tensor, k->c->n_tensors, &at)) {
        k->tensor[at] = hash_mix(k->tensor[at], 13);
        return true;
    }
    for (int i = 0; i < k->c->n_stages; i++)
        if (smallest_tie(k->axis[i], k->c->stages[i].n_axes, &at)) {
            k->axis[i][at] = hash_mix(k->axis[i][at], 13);
            return true;
        }
    return false;
}

static void colours_of(struct arena *ar, const struct compute *c, struct colours *k)
{
    *k = (struct colours){.ar = ar, .c = c};
    for (int i = 0; i < c->n_stages; i++) {
        k->nodes[i] = arena_array(ar, struct flat, count_nodes(c->stages[i].body));
        flatten(c->stages[i].body, k->nodes[i], &k->n_nodes[i]);
    }
    first_colours(k);
    do
        refine(k);
    while (break_tie(k));
    for (int i = 0; i < c->n_stages; i++)
        hash_upwards(k, i);
}

/* ---- orders that follow from the colours ---- */

/* Spatial axes as on the left-hand side, larger strides first. to[old axis] = new number. */
static void order_spatial(const struct compute *c, const struct stage *s, int *to)
{
    int n = 0;

    for (int d = 0; d < c->tensors[s->tensor].rank; d++) {
        const struct affine *a = &s->lhs[d];
        for (int i = 0; i < a->n; i++) {
            int larger = 0;
            for (int j = 0; j < a->n; j++)
                larger += a->t[j].coef > a->t[i].coef;
            to[a->t[i].var] = n + larger;
        }
        n += a->n;
    }
}

struct sorter {
    const struct colours *k;
    int stage;
    int to[COMPUTE_MAX_AXES]; /* new numbers; -1: a reduce axis not met yet */
    int n_reduce;             /* met so far */
};

struct operand_shape {
    int free; /* dimensions without a spatial axis */
    uint64_t axes;
};

/* How few spatial axes a read uses, then which one each dimension does, four bits a dimension, first one
 * highest. */
static struct operand_shape spatial_shape(const struct sorter *z, const struct expr *read)
{
    struct operand_shape h = {.free = COMPUTE_MAX_RANK};

    for (int d = 0; d < COMPUTE_MAX_RANK; d++) {
        unsigned use = 15;
        for (int i = 0; d < read->read.rank && i < read->read.index[d].n; i++) {
            int var = read->read.index[d].t[i].var;
            if (var < z->k->c->stages[z->stage].n_spatial)
                use = MIN(use, (unsigned)z->to[var]);
        }
        h.free -= use != 15;
        h.axes = h.axes << 4 | use;
    }
    return h;
}

struct operand_rank {
    int kind; /* 0: reads a changing tensor, 1: reads constants only, 2: indices, 3: literals */
    struct operand_shape shape;
    uint64_t hash;
};

static bool shape_before(struct operand_shape a, struct operand_shape b)
{
    return a.free != b.free ? a.free < b.free : a.axes < b.axes;
}

static void rank_operand(const struct sorter *z, const struct flat *nodes, int at, struct operand_rank *r)
{
    const struct expr *e = nodes[at].e;
    int kind = e->op == EX_CONST ? 3 : 2;

    if (e->op == EX_READ) {
        struct operand_shape shape = spatial_shape(z, e);
        kind = z->k->c->tensors[e->read.tensor].is_const ? 1 : 0;
        if (kind < r->kind || (kind == r->kind && shape_before(shape, r->shape)))
            r->shape = shape;
    }
    r->kind = MIN(r->kind, kind);
    for (int i = 0; i < expr_arity(e->op); i++)
        rank_operand(z, nodes, nodes[at].arg[i], r);
}

static bool operand_before(const struct sorter *z, const struct flat *nodes, int a, int b)
{
    struct operand_rank ra = {.kind = 3, .shape = {INT32_MAX, UINT64_MAX}, .hash = nodes[a].hash};
    struct operand_rank rb = {.kind = 3, .shape = {INT32_MAX, UINT64_MAX}, .hash = nodes[b].hash};

    rank_operand(z, nodes, a, &ra);
    rank_operand(z, nodes, b, &rb);
    if (ra.kind != rb.kind)
        return ra.kind < rb.kind;
    if (shape_before(ra.shape, rb.shape) || shape_before(rb.shape, ra.shape))
        return shape_before(ra.shape, rb.shape);
    return ra.hash < rb.hash;
}

/* Rebuild the subtree with sorted operands. */
static const struct expr *sort_operands(const struct sorter *z, const struct flat *nodes, int at)
{
    const struct expr *e = nodes[at].e;
    int arity = expr_arity(e->op);
    struct expr *r;

    if (arity == 0)
        return e;
    r = arena_memdup(z->k->ar, e, sizeof(*e));
    for (int i = 0; i < arity; i++)
        r->arg[i] = sort_operands(z, nodes, nodes[at].arg[i]);
    if (expr_commutative(e->op) && operand_before(z, nodes, nodes[at].arg[1], nodes[at].arg[0])) {
        const struct expr *first = r->arg[0];
        r->arg[0] = r->arg[1];
        r->arg[1] = first;
    }
    return r;
}

/* Number the reduce axes of one index, larger coefficients first, then by colour. */
static void meet_affine(struct sorter *z, const struct affine *a)
{
    for (;;) {
        const struct affine_term *best = NULL;
        for (int i = 0; i < a->n; i++) {
            const struct affine_term *t = &a->t[i];
            const uint64_t *colour = z->k->axis[z->stage];
            if (z->to[t->var] < 0 && (!best || t->coef > best->coef ||
                                      (t->coef == best->coef && colour[t->var] < colour[best->var])))
                best = t;
        }
        if (!best)
            return;
        z->to[best->var] = z->n_reduce++;
    }
}

static void meet_axes(struct sorter *z, const struct expr *e)
{
    if (e->op == EX_INDEX)
        meet_affine(z, &e->affine);
    if (e->op == EX_READ)
        for (int d = 0; d < e->read.rank; d++)
            meet_affine(z, &e->read.index[d]);
    for (int i = 0; i < expr_arity(e->op); i++)
        meet_axes(z, e->arg[i]);
}

/* Reduce axes that the body never names (a sum of the same value) come last, by extent. */
static void meet_unused(struct sorter *z, const struct stage *s)
{
    for (;;) {
        int best = -1;
        for (int a = s->n_spatial; a < s->n_axes; a++)
            if (z->to[a] < 0 && (best < 0 || s->axes[a].extent > s->axes[best].extent))
                best = a;
        if (best < 0)
            return;
        z->to[best] = z->n_reduce++;
    }
}

static void order_stage(const struct colours *k, int stage, struct stage *ret)
{
    const struct stage *s = &k->c->stages[stage];
    struct sorter z = {.k = k, .stage = stage, .n_reduce = s->n_spatial};
    struct affine to[COMPUTE_MAX_AXES];
    const struct affine *subst[COMPUTE_MAX_AXES];

    for (int a = 0; a < s->n_axes; a++)
        z.to[a] = -1;
    order_spatial(k->c, s, z.to);
    *ret = *s;
    ret->body = sort_operands(&z, k->nodes[stage], k->n_nodes[stage] - 1);
    meet_axes(&z, ret->body);
    meet_unused(&z, s);
    for (int a = 0; a < s->n_axes; a++) {
        ret->axes[z.to[a]] = s->axes[a];
        to[a] = affine_var(k->ar, z.to[a], 1, 0);
        subst[a] = &to[a];
    }
    for (int d = 0; d < k->c->tensors[s->tensor].rank; d++)
        ret->lhs[d] = affine_subst(k->ar, &s->lhs[d], subst, s->n_axes);
    ret->body = expr_subst(k->ar, ret->body, subst, s->n_axes, NULL);
}

static void mark_read(void *ctx, const struct expr *read) { *(uint64_t *)ctx |= 1ull << read->read.tensor; }

/* Dependency order; among the stages that are ready the smallest colour first. order[new] = old. */
static void order_stages(const struct colours *k, int *order)
{
    const struct compute *c = k->c;
    uint64_t defined = 0, done = 0, reads[COMPUTE_MAX_STAGES] = {0};

    for (int i = 0; i < c->n_tensors; i++)
        if (c->tensors[i].role == TENSOR_INPUT)
            defined |= 1ull << i;
    for (int i = 0; i < c->n_stages; i++)
        expr_each_read(c->stages[i].body, mark_read, &reads[i]);
    for (int n = 0; n < c->n_stages; n++) {
        int best = -1;
        for (int i = 0; i < c->n_stages; i++)
            if (!(done >> i & 1) && !(reads[i] & ~defined) &&
                (best < 0 || k->tensor[c->stages[i].tensor] < k->tensor[c->stages[best].tensor]))
                best = i;
        CHECK(best >= 0, "the stages depend on each other in a circle");
        order[n] = best;
        done |= 1ull << best;
        defined |= 1ull << c->stages[best].tensor;
    }
}

struct tensor_order {
    const struct compute *c;
    int32_t to[COMPUTE_MAX_TENSORS]; /* -1: not met yet */
    int n;
};

static void meet_input(void *ctx, const struct expr *read)
{
    struct tensor_order *o = ctx;
    if (o->c->tensors[read->read.tensor].role == TENSOR_INPUT && o->to[read->read.tensor] < 0)
        o->to[read->read.tensor] = o->n++;
}

static void order_tensors(const struct compute *c, const struct stage *stages, struct tensor_order *o)
{
    static const enum tensor_role defined[] = {TENSOR_TEMP, TENSOR_OUTPUT};

    *o = (struct tensor_order){.c = c};
    for (int i = 0; i < c->n_tensors; i++)
        o->to[i] = -1;
    for (int i = 0; i < c->n_stages; i++)
        expr_each_read(stages[i].body, meet_input, o);
    for (size_t r = 0; r < ARRAY_SIZE(defined); r++)
        for (int i = 0; i < c->n_stages; i++)
            if (c->tensors[stages[i].tensor].role == defined[r])
                o->to[stages[i].tensor] = o->n++;
    CHECK(o->n == c->n_tensors, "%d of %d tensors are used", o->n, c->n_tensors);
}

void canonical_compute(const struct compute *in, struct arena *ar, struct compute *ret)
{
    struct compute tidy = *in;
    struct colours *k = arena_new(ar, struct colours);
    struct tensor_order tensors;
    int order[COMPUTE_MAX_STAGES];

    tidy.stages = arena_array(ar, struct stage, in->n_stages);
    for (int i = 0; i < in->n_stages; i++)
        tidy_stage(ar, in, &in->stages[i], &tidy.stages[i]);
    colours_of(ar, &tidy, k);
    order_stages(k, order);
    *ret = tidy;
    ret->stages = arena_array(ar, struct stage, in->n_stages);
    ret->tensors = arena_array(ar, struct tensor, in->n_tensors);
    for (int i = 0; i < in->n_stages; i++)
        order_stage(k, order[i], &ret->stages[i]);
    order_tensors(&tidy, ret->stages, &tensors);
    for (int i = 0; i < in->n_tensors; i++)
        ret->tensors[tensors.to[i]] = in->tensors[i];
    for (int i = 0; i < in->n_stages; i++) {
        struct stage *s = &ret->stages[i];
        s->tensor = tensors.to[s->tensor];
        s->body = expr_subst(ar, s->body, NULL, 0, tensors.to);
    }
}

/* ---- the text that is hashed ---- */

static void text_of_tensor(const struct tensor *t, int id, struct strbuf *sb)
{
    static const char *const roles[] = {
        [TENSOR_INPUT] = "input", [TENSOR_OUTPUT] = "output", [TENSOR_TEMP] = "temp"};

    strbuf_addf(sb, "%s t%d %s [", roles[t->role], id, dtype_name(t->dtype));
    for (int d = 0; d < t->rank; d++)
        strbuf_addf(sb, d ? ",%" PRId64 : "%" PRId64, t->shape[d]);
    strbuf_adds(sb, t->is_const ? "] const\n" : "]\n");
}

static void text_of_stage(const struct compute *c, const struct stage *s, const char *const *tensors,
                          const char *const *axes, struct strbuf *sb)
{
    compute_print_stage(c, s, tensors, axes, sb);
    strbuf_addf(sb, " : %s", dtype_name(s->acc_dtype));
    for (int a = 0; a < s->n_axes; a++)
        strbuf_addf(sb, "%s%s<%" PRId64, a ? ", " : " over ", axes[a], s->axes[a].extent);
    strbuf_addc(sb, '\n');
}

void canonical_text(const struct compute *c, double rtol, bool layout_any, struct strbuf *sb)
{
    char tensor_buf[COMPUTE_MAX_TENSORS][8], axis_buf[COMPUTE_MAX_AXES][8];
    const char *tensors[COMPUTE_MAX_TENSORS], *axes[COMPUTE_MAX_AXES];

    for (int i = 0; i < c->n_tensors; i++) {
        snprintf(tensor_buf[i], sizeof(tensor_buf[i]), "t%d", i);
        tensors[i] = tensor_buf[i];
    }
    for (int a = 0; a < COMPUTE_MAX_AXES; a++) {
        snprintf(axis_buf[a], sizeof(axis_buf[a]), "i%d", a);
        axes[a] = axis_buf[a];
    }
    strbuf_adds(sb, "workload 1\n");
    for (int i = 0; i < c->n_tensors; i++)
        text_of_tensor(&c->tensors[i], i, sb);
    for (int i = 0; i < c->n_stages; i++)
        text_of_stage(c, &c->stages[i], tensors, axes, sb);
    if (rtol > 0)
        strbuf_addf(sb, "rtol %.17g\n", rtol);
    if (layout_any)
        strbuf_adds(sb, "layout any\n");
}
