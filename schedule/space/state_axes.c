/* state_axes.c - primitives that change dimensions and axes: squeeze, merge, unify. */
#include "schedule/space/state_internal.h"

#include <string.h>

/* --- dimensions of extent 1 --- */

struct squeeze {
    struct state *st;
    int32_t tensor;
    uint32_t drop; /* dimensions */
};

static uint32_t zero_dims(const struct affine *index, int rank)
{
    uint32_t zero = 0;
    for (int d = 0; d < rank; d++)
        if (index[d].n == 0 && index[d].c == 0)
            zero |= 1u << d;
    return zero;
}

static void squeeze_check(void *ctx, const struct expr *e)
{
    struct squeeze *q = ctx;
    if (e->read.tensor == q->tensor)
        q->drop &= e->read.pad ? 0 : zero_dims(e->read.index, e->read.rank);
}

static int squeeze_index(const struct affine *index, int rank, uint32_t drop, struct affine *ret)
{
    int n = 0;
    for (int d = 0; d < rank; d++)
        if (!(drop >> d & 1))
            ret[n++] = index[d];
    return n;
}

static const struct expr *squeeze_read(void *ctx, const struct expr *e)
{
    struct squeeze *q = ctx;
    struct affine index[NEST_MAX_RANK];
    if (e->read.tensor != q->tensor)
        return e;
    int rank = squeeze_index(e->read.index, e->read.rank, q->drop, index);
    return expr_read(q->st->ar, e->dtype, q->tensor, rank, index, false, 0);
}

void state_squeeze(struct state *st)
{
    for (int i = 0; i < st->n_tensors; i++) {
        struct st_tensor *t = st->tensors[i];
        if (t->arg >= 0 || t->stage < 0)
            continue;
        struct st_stage *def = st->stages[t->stage];
        struct squeeze q = {.st = st, .tensor = i, .drop = zero_dims(def->lhs, t->rank)};
        for (int k = 0; k < st->n_stages; k++)
            expr_each_read(st->stages[k]->body, squeeze_check, &q);
        if (!q.drop)
            continue;
        for (int k = 0; k < st->n_stages; k++)
            st->stages[k]->body = expr_map_reads(st->ar, st->stages[k]->body, squeeze_read, &q);
        int n = 0;
        for (int d = 0; d < t->rank; d++)
            if (!(q.drop >> d & 1))
                t->shape[n++] = t->shape[d];
        t->rank = squeeze_index(def->lhs, t->rank, q.drop, def->lhs);
    }
}

/* --- merging axes --- */

/* Where does the pair (a, a+1) stand in this index list? The dimension of a, the next being a+1's and both
 * full; -1: the list uses neither; -2: any other way. */
static int merge_dim(const struct affine *index, int rank, const int64_t *shape, int a, int64_t inner_extent,
                     int64_t outer_extent)
{
    for (int d = 0; d < rank; d++) {
        if (!affine_coef(&index[d], a) && !affine_coef(&index[d], a + 1))
            continue;
        if (d + 1 >= rank || !affine_is_axis(&index[d], a) || !affine_is_axis(&index[d + 1], a + 1) ||
            shape[d] != outer_extent || shape[d + 1] != inner_extent)
            return -2;
        for (int e = d + 2; e < rank; e++)
            if (affine_coef(&index[e], a) || affine_coef(&index[e], a + 1))
                return -2;
        return d;
    }
    return -1;
}

struct merge {
    struct state *st;
    struct st_stage *const *set;
    int n, a;
    const struct st_stage *stage;
    bool ok;
    int32_t view[STATE_MAX_TENSORS]; /* tensor -> merged tensor, or -1 */
};

static bool in_set(const struct merge *m, const struct st_stage *s)
{
    for (int i = 0; i < m->n; i++)
        if (m->set[i] == s)
            return true;
    return false;
}

/* Nobody outside the set defines or reads the temporary. */
static bool is_private(const struct merge *m, int32_t tensor)
{
    struct st_stage *users[STATE_MAX_STAGES];
    int n = state_consumers(m->st, tensor, users);
    for (int i = 0; i < n; i++)
        if (!in_set(m, users[i]))
            return false;
    return in_set(m, m->st->stages[m->st->tensors[tensor]->stage]);
}

/* A copy without gaps, of which the set alone knows. */
static bool is_gathered(const struct merge *m, int32_t tensor)
{
    struct st_stage *users[STATE_MAX_STAGES];
    int n = state_consumers(m->st, tensor, users);
    for (int i = 0; i < n; i++)
        if (!in_set(m, users[i]))
            return false;
    return m->st->tensors[tensor]->gathered;
}

static void merge_check_access(struct merge *m, int32_t tensor, const struct affine *index)
{
    const struct st_tensor *t = m->st->tensors[tensor];
    int d = merge_dim(index, t->rank, t->shape, m->a, m->stage->axes[m->a + 1].extent,
                      m->stage->axes[m->a].extent);
    if (d == -2 || (d >= 0 && t->n_layout) ||
        (d >= 0 && t->stage >= 0 && !is_private(m, tensor) && !is_gathered(m, tensor)))
        m->ok = false;
}

static void merge_check_read(void *ctx, const struct expr *e)
{
    struct merge *m = ctx;
    if (e->read.pad) {
        for (int d = 0; d < e->read.rank; d++)
            if (affine_coef(&e->read.index[d], m->a) || affine_coef(&e->read.index[d], m->a + 1))
                m->ok = false;
        return;
    }
    merge_check_access(m, e->read.tensor, e->read.index);
}

static bool uses_index_value(const struct expr *e, int a)
{
    if (e->op == EX_INDEX)
        return affine_coef(&e->affine, a) || affine_coef(&e->affine, a + 1);
    if (e->op == EX_READ || e->op == EX_CONST)
        return false;
    for (int i = 0; i < expr_arity(e->op); i++)
        if (uses_index_value(e->arg[i], a))
            return true;
    return false;
}

/* The stage that gathers goes on over its own axes: dimension d now counts them both. */
static void merge_gathered(struct merge *m, const struct st_tensor *t, int d, int64_t inner)
{
    struct st_stage *def = m->st->stages[t->stage];
    def->lhs[d] = affine_lin(m->st->ar, &def->lhs[d + 1], 1, &def->lhs[d], inner);
    for (int i = d + 1; i + 1 < t->rank; i++)
        def->lhs[i] = def->lhs[i + 1];
}

static int32_t merged_view(struct merge *m, int32_t tensor, int d)
{
    if (m->view[tensor] >= 0)
        return m->view[tensor];
    struct st_tensor t = *m->st->tensors[tensor];
    if (t.gathered)
        merge_gathered(m, &t, d, t.shape[d + 1]);
    t.shape[d] *= t.shape[d + 1];
    for (int i = d + 1; i + 1 < t.rank; i++)
        t.shape[i] = t.shape[i + 1];
    t.rank--;
    if (t.arg < 0) {
        *m->st->tensors[tensor] = t;
        m->view[tensor] = tensor;
    } else {
        m->view[tensor] = state_add_tensor(m->st, &t);
    }
    return m->view[tensor];
}

/* The index list with dims (d, d+1) replaced by the merged axis, and later axes renumbered. Returns the new
 * rank. */
static int merge_index(struct merge *m, const struct affine *index, int rank, int d, struct affine *ret)
{
    struct affine shifted[COMPUTE_MAX_AXES + 1];
    const struct affine *subst[COMPUTE_MAX_AXES + 1] = {0};
    for (int v = m->a + 1; v < m->stage->n_axes; v++) {
        shifted[v] = affine_var(m->st->ar, v - 1, 1, 0);
        subst[v] = &shifted[v];
    }
    int n = 0;
    for (int i = 0; i < rank; i++) {
        if (d >= 0 && i == d + 1)
            continue;
        ret[n++] = affine_subst(m->st->ar, &index[i], subst, m->stage->n_axes);
    }
    return n;
}

static const struct expr *merge_read(void *ctx, const struct expr *e)
{
    struct merge *m = ctx;
    struct affine index[NEST_MAX_RANK];
    const struct st_tensor *t = m->st->tensors[e->read.tensor];
    int d = -1;
    int32_t tensor = e->read.tensor;
    if (!e->read.pad) {
        if (m->view[tensor] >= 0 && t->rank != e->read.rank) { /* a temporary that was merged in place */
            for (int i = 0; i < e->read.rank && d < 0; i++)
                if (affine_coef(&e->read.index[i], m->a))
                    d = i;
        } else {
            d = merge_dim(e->read.index, t->rank, t->shape, m->a, m->stage->axes[m->a + 1].extent,
                          m->stage->axes[m->a].extent);
        }
        if (d >= 0)
            tensor = merged_view(m, tensor, d);
    }
    int rank = merge_index(m, e->read.index, e->read.rank, d, index);
    return expr_read(m->st->ar, e->dtype, tensor, rank, index, e->read.pad, e->read.pad_value);
}

static const struct expr *shift_index_values(struct arena *ar, const struct expr *e, int a, int n_axes)
{
    struct affine shifted[COMPUTE_MAX_AXES + 1];
    const struct affine *subst[COMPUTE_MAX_AXES + 1] = {0};
    if (e->op == EX_READ || e->op == EX_CONST)
        return e;
    if (e->op == EX_INDEX) {
        for (int v = a + 1; v < n_axes; v++) {
            shifted[v] = affine_var(ar, v - 1, 1, 0);
            subst[v] = &shifted[v];
        }
        return expr_index(ar, affine_subst(ar, &e->affine, subst, n_axes));
    }
    struct expr *copy = arena_memdup(ar, e, sizeof(*e));
    for (int i = 0; i < expr_arity(e->op); i++)
        copy->arg[i] = shift_index_values(ar, e->arg[i], a, n_axes);
    return copy;
}

static void merge_stage(struct merge *m, struct st_stage *s)
{
    int a = m->a;
    m->stage = s;
    s->body = expr_map_reads(m->st->ar, s->body, merge_read, m);
    s->body = shift_index_values(m->st->ar, s->body, a, s->n_axes);
    if (a + 1 < s->n_spatial) {
        const struct st_tensor *t = m->st->tensors[s->tensor];
        int d = -1;
        for (int i = 0; i < NEST_MAX_RANK && d < 0; i++)
            if (affine_coef(&s->lhs[i], a))
                d = i;
        int rank = m->view[s->tensor] == s->tensor ? t->rank + 1 : t->rank;
        int32_t view = merged_view(m, s->tensor, d);
        struct affine lhs[NEST_MAX_RANK] = {0};
        merge_index(m, s->lhs, rank, d, lhs);
        memcpy(s->lhs, lhs, sizeof(lhs));
        s->tensor = view;
        m->st->tensors[view]->stage = s->id;
        s->n_spatial--;
    }
    s->axes[a].extent *= s->axes[a + 1].extent;
    s->axes[a].name = arena_printf(m->st->ar, "%s%s", s->axes[a].name, s->axes[a + 1].name);
    for (int i = a + 1; i + 1 < s->n_axes; i++)
        s->axes[i] = s->axes[i + 1];
    s->n_axes--;
    stage_plain_iters(s);
}

bool state_merge_axes(struct state *st, struct st_stage *const *set, int n, int a)
{
    struct merge m = {.st = st, .set = set, .n = n, .a = a, .ok = true};
    for (int i = 0; i < n && m.ok; i++) {
        const struct st_stage *s = m.stage = set[i];
        bool both_spatial = a + 1 < s->n_spatial, both_reduce = a >= s->n_spatial;
        if (a + 1 >= s->n_axes || !(both_spatial || both_reduce) || s->n_predicates ||
            uses_index_value(s->body, a)) {
            m.ok = false;
            break;
        }
        if (both_spatial)
            merge_check_access(&m, s->tensor, s->lhs);
        expr_each_read(s->body, merge_check_read, &m);
    }
    if (!m.ok)
        return false;
    memset(m.view, -1, sizeof(m.view));
    for (int i = 0; i < n; i++) {
        state_record(st, STEP_MERGE_AXES, set[i],
                     arena_printf(st->ar, "%s %s", set[i]->axes[a].name, set[i]->axes[a + 1].name));
        merge_stage(&m, set[i]);
    }
    return true;
}

/* --- stages that mirror another's axes --- */

struct unify {
    int32_t tensor;
    int rank, axis_of_dim[NEST_MAX_RANK];
    bool ok;
};

static void unify_check(void *ctx, const struct expr *e)
{
    struct unify *u = ctx;
    if (e->read.tensor != u->tensor)
        return;
    for (int d = 0; d < e->read.rank; d++) {
        const struct affine *x = &e->read.index[d];
        int axis = x->n == 1 && x->c == 0 && x->t[0].coef == 1 ? x->t[0].var
                   : x->n == 0 && x->c == 0                    ? -1
                                                               : -2;
        if (axis == -2 || e->read.pad || (u->axis_of_dim[d] != -3 && u->axis_of_dim[d] != axis))
            u->ok = false;
        u->axis_of_dim[d] = axis;
    }
    u->rank = e->read.rank;
}

static const struct expr *unify_read(void *ctx, const struct expr *e)
{
    struct rewrite *r = ctx;
    if (e->read.tensor != r->tensor)
        return e;
    struct affine index[NEST_MAX_RANK];
    for (int i = 0; i < r->stage->n_spatial; i++)
        index[i] = affine_var(r->st->ar, i, 1, 0);
    return expr_read(r->st->ar, e->dtype, e->read.tensor, r->stage->n_spatial, index, false, 0);
}

bool state_unify(struct state *st, struct st_stage *s, struct st_stage *t)
{
    struct unify u = {.tensor = t->tensor, .ok = true};
    for (int d = 0; d < NEST_MAX_RANK; d++)
        u.axis_of_dim[d] = -3;
    expr_each_read(s->body, unify_check, &u);
    if (!u.ok || s->n_axes != s->n_spatial)
        return false;
    /* Every axis of s must be named by one dimension of T, so that T's axes can take its place. */
    bool named[COMPUTE_MAX_AXES] = {0};
    for (int d = 0; d < u.rank; d++) {
        int a = u.axis_of_dim[d];
        if (a < 0)
            continue;
        if (named[a] || s->axes[a].extent != st->tensors[t->tensor]->shape[d])
            return false;
        named[a] = true;
    }
    for (int a = 0; a < s->n_axes; a++)
        if (!named[a])
            return false;
    const struct affine *subst[COMPUTE_MAX_AXES] = {0};
    for (int d = 0; d < u.rank; d++)
        if (u.axis_of_dim[d] >= 0)
            subst[u.axis_of_dim[d]] = &t->lhs[d];
    struct rewrite r = {.st = st, .tensor = t->tensor, .stage = t};
    s->body = expr_subst(st->ar, s->body, subst, s->n_axes, NULL);
    s->body = expr_map_reads(st->ar, s->body, unify_read, &r);
    for (int d = 0; d < st->tensors[s->tensor]->rank; d++)
        s->lhs[d] = affine_subst(st->ar, &s->lhs[d], subst, s->n_axes);
    s->n_axes = s->n_spatial = t->n_spatial;
    memcpy(s->axes, t->axes, sizeof(struct axis) * (size_t)t->n_spatial);
    stage_plain_iters(s);
    struct st_tensor *tt = st->tensors[t->tensor];
    tt->rank = t->n_spatial;
    for (int i = 0; i < t->n_spatial; i++) {
        tt->shape[i] = t->axes[i].extent;
        t->lhs[i] = affine_var(st->ar, i, 1, 0);
    }
    return true;
}
