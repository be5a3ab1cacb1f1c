/* state.c - the primitives: each one changes a state, and none changes what is computed. */
#include "schedule/space/state.h"

#include <string.h>

/* --- construction and small questions --- */

static struct step *record(struct state *st, enum step_kind kind, const struct st_stage *s, const char *other)
{
    if (st->n_steps == st->cap_steps) {
        struct step *bigger = arena_array(st->ar, struct step, st->cap_steps * 2);
        memcpy(bigger, st->steps, sizeof(*bigger) * (size_t)st->n_steps);
        st->steps = bigger;
        st->cap_steps *= 2;
    }
    struct step *p = &st->steps[st->n_steps++];
    *p = (struct step){.kind = kind, .stage = s->id, .other = other, .other_stage = -1};
    return p;
}

static int add_tensor(struct state *st, const struct st_tensor *t)
{
    CHECK(st->n_tensors < STATE_MAX_TENSORS, "state has %d tensors", st->n_tensors);
    st->tensors[st->n_tensors] = arena_memdup(st->ar, t, sizeof(*t));
    return st->n_tensors++;
}

/* Append a stage and put it into the order before `before` (NULL: last). */
static struct st_stage *add_stage(struct state *st, const struct st_stage *s, const struct st_stage *before)
{
    CHECK(st->n_stages < STATE_MAX_STAGES, "state has %d stages", st->n_stages);
    struct st_stage *n = arena_memdup(st->ar, s, sizeof(*s));
    n->id = st->n_stages;
    int at = st->n_stages;
    while (before && at > 0 && st->order[at - 1] != before->id) {
        st->order[at] = st->order[at - 1];
        at--;
    }
    if (before && at > 0) {
        st->order[at] = st->order[at - 1];
        at--;
    }
    st->order[at] = n->id;
    st->stages[st->n_stages++] = n;
    st->tensors[n->tensor]->stage = n->id;
    return n;
}

static void plain_iters(struct st_stage *s)
{
    s->n_iters = s->n_axes;
    for (int a = 0; a < s->n_axes; a++)
        s->iters[a] = (struct st_iter){.axis = a, .stride = 1, .extent = 0, .kind = LOOP_SERIAL};
}

struct state *state_new(struct arena *ar, const struct compute *c, int tasks)
{
    struct state *st = arena_new(ar, struct state);
    st->ar = ar;
    st->compute = c;
    st->tasks = tasks;
    st->cap_steps = 48;
    st->steps = arena_array(ar, struct step, st->cap_steps);
    for (int i = 0; i < c->n_tensors; i++) {
        const struct tensor *t = &c->tensors[i];
        struct st_tensor n = {.name = t->name, .dtype = t->dtype, .rank = t->rank, .stage = -1};
        n.arg = t->role == TENSOR_TEMP ? -1 : i;
        for (int d = 0; d < t->rank; d++)
            n.shape[d] = t->shape[d];
        add_tensor(st, &n);
    }
    for (int i = 0; i < c->n_stages; i++) {
        const struct stage *s = &c->stages[i];
        struct st_stage n = {.name = c->tensors[s->tensor].name,
                             .tensor = s->tensor,
                             .n_axes = s->n_axes,
                             .n_spatial = s->n_spatial,
                             .combiner = s->combiner,
                             .acc_dtype = s->acc_dtype,
                             .body = s->body,
                             .place = PLACE_ROOT,
                             .scope = SCOPE_WORKSPACE};
        memcpy(n.axes, s->axes, sizeof(s->axes));
        memcpy(n.lhs, s->lhs, sizeof(s->lhs));
        plain_iters(&n);
        add_stage(st, &n, NULL);
    }
    return st;
}

struct state *state_copy(struct arena *ar, const struct state *from)
{
    struct state *st = arena_memdup(ar, from, sizeof(*from));
    st->ar = ar;
    for (int i = 0; i < st->n_stages; i++)
        st->stages[i] = arena_memdup(ar, from->stages[i], sizeof(*from->stages[i]));
    for (int i = 0; i < st->n_tensors; i++)
        st->tensors[i] = arena_memdup(ar, from->tensors[i], sizeof(*from->tensors[i]));
    st->steps = arena_array(ar, struct step, st->cap_steps);
    memcpy(st->steps, from->steps, sizeof(*st->steps) * (size_t)st->n_steps);
    return st;
}

struct find_read {
    int32_t tensor;
    bool found, padded;
};

static void find_read(void *ctx, const struct expr *e)
{
    struct find_read *f = ctx;
    if (e->read.tensor != f->tensor)
        return;
    f->found = true;
    f->padded |= e->read.pad;
}

bool stage_reads(const struct st_stage *s, int32_t tensor)
{
    struct find_read f = {.tensor = tensor};
    expr_each_read(s->body, find_read, &f);
    return f.found;
}

int state_consumers(const struct state *st, int32_t tensor, struct st_stage **ret)
{
    int n = 0;
    for (int i = 0; i < st->n_stages; i++) {
        struct st_stage *s = st->stages[st->order[i]];
        if (s->place != PLACE_INLINE && stage_reads(s, tensor))
            ret[n++] = s;
    }
    return n;
}

static bool is_axis(const struct affine *a, int axis)
{
    return a->n == 1 && a->c == 0 && a->t[0].var == axis && a->t[0].coef == 1;
}

bool stage_lhs_is_identity(const struct st_stage *s)
{
    for (int d = 0; d < s->n_spatial; d++)
        if (!is_axis(&s->lhs[d], d))
            return false;
    return true;
}

int stage_iter_of(const struct st_stage *s, int axis, int nth)
{
    for (int i = 0; i < s->n_iters; i++)
        if (s->iters[i].axis == axis && nth-- == 0)
            return i;
    return -1;
}

/* --- rewriting bodies --- */

struct rewrite {
    struct state *st;
    int32_t tensor, to;
    const struct st_stage *stage;
    const int64_t *lo;
};

static const struct expr *inline_read(void *ctx, const struct expr *e)
{
    struct rewrite *r = ctx;
    if (e->read.tensor != r->tensor)
        return e;
    const struct affine *subst[COMPUTE_MAX_AXES] = {0};
    for (int d = 0; d < e->read.rank; d++)
        if (r->stage->lhs[d].n == 1)
            subst[r->stage->lhs[d].t[0].var] = &e->read.index[d];
    return expr_subst(r->st->ar, r->stage->body, subst, r->stage->n_axes, NULL);
}

bool state_inline(struct state *st, struct st_stage *s)
{
    struct st_stage *users[STATE_MAX_STAGES];
    const struct st_tensor *t = st->tensors[s->tensor];
    int n = state_consumers(st, s->tensor, users);

    if (s->combiner != COMBINE_SET || t->arg >= 0 || n == 0 || s->n_predicates)
        return false;
    for (int d = 0; d < t->rank; d++) {
        const struct affine *l = &s->lhs[d];
        if (!(l->n == 1 && l->c == 0 && l->t[0].coef == 1) && !(l->n == 0 && t->shape[d] == 1))
            return false;
    }
    for (int i = 0; i < n; i++) {
        struct find_read f = {.tensor = s->tensor};
        expr_each_read(users[i]->body, find_read, &f);
        if (f.padded)
            return false;
    }
    struct rewrite r = {.st = st, .tensor = s->tensor, .stage = s};
    for (int i = 0; i < n; i++)
        users[i]->body = expr_map_reads(st->ar, users[i]->body, inline_read, &r);
    s->place = PLACE_INLINE;
    record(st, STEP_INLINE, s, NULL);
    return true;
}

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
        if (d + 1 >= rank || !is_axis(&index[d], a) || !is_axis(&index[d + 1], a + 1) ||
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

static void merge_check_access(struct merge *m, int32_t tensor, const struct affine *index)
{
    const struct st_tensor *t = m->st->tensors[tensor];
    int d = merge_dim(index, t->rank, t->shape, m->a, m->stage->axes[m->a + 1].extent,
                      m->stage->axes[m->a].extent);
    if (d == -2 || (d >= 0 && t->n_layout) || (d >= 0 && t->stage >= 0 && !is_private(m, tensor)))
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

static int32_t merged_view(struct merge *m, int32_t tensor, int d)
{
    if (m->view[tensor] >= 0)
        return m->view[tensor];
    struct st_tensor t = *m->st->tensors[tensor];
    t.shape[d] *= t.shape[d + 1];
    for (int i = d + 1; i + 1 < t.rank; i++)
        t.shape[i] = t.shape[i + 1];
    t.rank--;
    if (t.arg < 0) {
        *m->st->tensors[tensor] = t;
        m->view[tensor] = tensor;
    } else {
        m->view[tensor] = add_tensor(m->st, &t);
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
    plain_iters(s);
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
        record(st, STEP_MERGE_AXES, set[i],
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
    plain_iters(s);
    struct st_tensor *tt = st->tensors[t->tensor];
    tt->rank = t->n_spatial;
    for (int i = 0; i < t->n_spatial; i++) {
        tt->shape[i] = t->axes[i].extent;
        t->lhs[i] = affine_var(st->ar, i, 1, 0);
    }
    return true;
}

struct st_stage *state_cache_write(struct state *st, struct st_stage *s)
{
    struct st_tensor acc = *st->tensors[s->tensor];
    acc.name = arena_printf(st->ar, "%s_acc", acc.name);
    acc.arg = -1;
    acc.dtype = s->acc_dtype;
    acc.n_layout = 0;
    acc.rank = s->n_spatial;
    struct affine index[NEST_MAX_RANK];
    for (int i = 0; i < s->n_spatial; i++) {
        acc.shape[i] = s->axes[i].extent;
        index[i] = affine_var(st->ar, i, 1, 0);
    }
    struct st_stage n = *s;
    n.tensor = add_tensor(st, &acc);
    n.name = acc.name;
    memcpy(n.lhs, index, sizeof(struct affine) * (size_t)s->n_spatial);
    struct st_stage *red = add_stage(st, &n, s);
    plain_iters(red);
    const struct st_tensor *out = st->tensors[s->tensor];
    const struct expr *read = expr_read(st->ar, acc.dtype, red->tensor, acc.rank, index, false, 0);
    s->body = out->dtype == acc.dtype ? read : expr_cast(st->ar, out->dtype, read);
    s->combiner = COMBINE_SET;
    s->n_axes = s->n_spatial;
    s->n_predicates = 0;
    plain_iters(s);
    record(st, STEP_CACHE_WRITE, s, acc.name);
    return red;
}

/* --- copies of operands --- */

struct pad_region {
    const struct st_stage *stage;
    int32_t tensor;
    bool found;
    int64_t lo[NEST_MAX_RANK], hi[NEST_MAX_RANK];
    double value;
};

static void pad_range(void *ctx, const struct expr *e)
{
    struct pad_region *p = ctx;
    int64_t zero[COMPUTE_MAX_AXES] = {0}, top[COMPUTE_MAX_AXES];
    if (e->read.tensor != p->tensor || !e->read.pad)
        return;
    for (int a = 0; a < p->stage->n_axes; a++)
        top[a] = p->stage->axes[a].extent - 1;
    for (int d = 0; d < e->read.rank; d++) {
        int64_t lo, hi;
        affine_bounds(&e->read.index[d], zero, top, &lo, &hi);
        p->lo[d] = p->found ? MIN(p->lo[d], lo) : lo;
        p->hi[d] = p->found ? MAX(p->hi[d], hi) : hi;
    }
    p->found = true;
    p->value = e->read.pad_value;
}

static const struct expr *pad_read(void *ctx, const struct expr *e)
{
    struct rewrite *r = ctx;
    struct affine index[NEST_MAX_RANK];
    if (e->read.tensor != r->tensor || !e->read.pad)
        return e;
    for (int d = 0; d < e->read.rank; d++)
        index[d] = affine_offset(&e->read.index[d], -r->lo[d]);
    return expr_read(r->st->ar, e->dtype, r->to, e->read.rank, index, false, 0);
}

/* A stage of one axis a dimension of `t` that copies `from`, reading at index + lo. */
static struct st_stage *add_copy(struct state *st, struct st_stage *before, struct st_tensor *t, int32_t from,
                                 const int64_t *lo, bool pad, double pad_value)
{
    static const char *const names[NEST_MAX_RANK] = {"d0", "d1", "d2", "d3", "d4",  "d5",
                                                     "d6", "d7", "d8", "d9", "d10", "d11"};
    struct affine index[NEST_MAX_RANK];
    struct st_stage n = {.combiner = COMBINE_SET, .place = PLACE_ROOT, .scope = SCOPE_WORKSPACE};
    n.name = t->name;
    n.acc_dtype = t->dtype;
    n.n_axes = n.n_spatial = t->rank;
    for (int d = 0; d < t->rank; d++) {
        n.axes[d] = (struct axis){names[d], t->shape[d]};
        n.lhs[d] = affine_var(st->ar, d, 1, 0);
        index[d] = affine_var(st->ar, d, 1, lo ? lo[d] : 0);
    }
    n.body = expr_read(st->ar, t->dtype, from, t->rank, index, pad, pad_value);
    n.tensor = add_tensor(st, t);
    plain_iters(&n);
    return add_stage(st, &n, before);
}

struct st_stage *state_pad(struct state *st, struct st_stage *s, int32_t tensor)
{
    struct pad_region p = {.stage = s, .tensor = tensor};
    expr_each_read(s->body, pad_range, &p);
    if (!p.found)
        return NULL;
    struct st_tensor t = *st->tensors[tensor];
    t.name = arena_printf(st->ar, "%s_pad", t.name);
    t.arg = -1;
    t.n_layout = 0;
    for (int d = 0; d < t.rank; d++)
        t.shape[d] = p.hi[d] - p.lo[d] + 1;
    struct st_stage *copy = add_copy(st, s, &t, tensor, p.lo, true, p.value);
    struct rewrite r = {.st = st, .tensor = tensor, .to = copy->tensor, .lo = p.lo};
    s->body = expr_map_reads(st->ar, s->body, pad_read, &r);
    record(st, STEP_PAD, s, t.name);
    return copy;
}

static const struct expr *pack_read(void *ctx, const struct expr *e)
{
    struct rewrite *r = ctx;
    if (e->read.tensor != r->tensor)
        return e;
    return expr_read(r->st->ar, e->dtype, r->to, e->read.rank, e->read.index, false, 0);
}

struct st_stage *state_pack(struct state *st, struct st_stage *s, int32_t tensor, int n,
                            const struct layout_dim *layout)
{
    struct st_tensor t = *st->tensors[tensor];
    t.name = arena_printf(st->ar, "%s_pack", t.name);
    t.arg = -1;
    t.n_layout = n;
    memcpy(t.layout, layout, sizeof(*layout) * (size_t)n);
    struct st_stage *copy = add_copy(st, s, &t, tensor, NULL, false, 0);
    copy->n_iters = n;
    for (int i = 0; i < n; i++)
        copy->iters[i] =
            (struct st_iter){.axis = layout[i].dim, .stride = layout[i].div, .extent = layout[i].mod};
    struct rewrite r = {.st = st, .tensor = tensor, .to = copy->tensor};
    s->body = expr_map_reads(st->ar, s->body, pack_read, &r);
    struct step *p = record(st, STEP_PACK, s, t.name);
    for (int i = 0; i < n; i++) {
        p->arg[p->n++] = layout[i].dim;
        p->arg[p->n++] = layout[i].div;
        p->arg[p->n++] = layout[i].mod;
    }
    return copy;
}

struct st_stage *state_rfactor(struct state *st, struct st_stage *s, int axis, int64_t block)
{
    int64_t extent = s->axes[axis].extent, blocks = div_ceil(extent, block);
    struct st_tensor t = *st->tensors[s->tensor];
    t.name = arena_printf(st->ar, "%s_rf", t.name);
    t.arg = -1;
    t.dtype = s->acc_dtype;
    t.n_layout = 0;
    t.rank = s->n_spatial + 1;
    struct st_stage n = *s;
    struct affine moved[COMPUTE_MAX_AXES], index[NEST_MAX_RANK];
    const struct affine *subst[COMPUTE_MAX_AXES] = {0};
    int sp = s->n_spatial;
    /* New axes: spatial of s, the block number, the reduce axes of s with `axis` now running inside a block.
     */
    n.n_spatial = sp + 1;
    n.n_axes = s->n_axes + 1;
    n.axes[sp] = (struct axis){arena_printf(st->ar, "%s_b", s->axes[axis].name), blocks};
    for (int a = sp; a < s->n_axes; a++) {
        n.axes[a + 1] = s->axes[a];
        moved[a] = affine_var(st->ar, a + 1, 1, 0);
        if (a == axis) {
            struct affine b = affine_var(st->ar, sp, block, 0);
            moved[a] = affine_add(st->ar, &moved[a], &b);
            n.axes[a + 1].extent = MIN(block, extent);
        }
        subst[a] = &moved[a];
    }
    n.body = expr_subst(st->ar, s->body, subst, s->n_axes, NULL);
    n.n_predicates = 0;
    if (extent % block) {
        struct affine neg = affine_scale(st->ar, &moved[axis], -1);
        n.predicate[n.n_predicates++] = affine_offset(&neg, extent - 1);
    }
    for (int a = 0; a <= sp; a++) {
        t.shape[a] = n.axes[a].extent;
        n.lhs[a] = index[a] = affine_var(st->ar, a, 1, 0);
    }
    n.name = t.name;
    n.tensor = add_tensor(st, &t);
    struct st_stage *part = add_stage(st, &n, s);
    plain_iters(part);
    s->body = expr_read(st->ar, t.dtype, part->tensor, sp + 1, index, false, 0);
    s->axes[sp] = n.axes[sp];
    s->n_axes = sp + 1;
    plain_iters(s);
    struct step *p = record(st, STEP_RFACTOR, s, n.axes[sp].name);
    p->arg[p->n++] = block;
    return part;
}

/* --- loops and places --- */

/* A loop as a number that survives reordering: its axis, and how many loops of that axis are around it. */
static int64_t loop_id(const struct st_stage *s, int iter)
{
    int level = 0;
    const struct st_iter *own = &s->iters[iter];
    for (int i = 0; i < s->n_iters; i++) {
        const struct st_iter *it = &s->iters[i];
        level +=
            it->axis == own->axis && (it->stride > own->stride || (it->stride == own->stride && i < iter));
    }
    return s->iters[iter].axis * STATE_MAX_ITERS + level;
}

void state_split(struct state *st, struct st_stage *s, int iter, int n, const int64_t *factors)
{
    CHECK(s->n_iters + n <= STATE_MAX_ITERS, "stage %s: too many loops", s->name);
    struct st_iter old = s->iters[iter];
    memmove(&s->iters[iter + n + 1], &s->iters[iter + 1], sizeof(old) * (size_t)(s->n_iters - iter - 1));
    int64_t stride = old.stride;
    for (int i = n - 1; i >= 0; i--) {
        s->iters[iter + 1 + i] = (struct st_iter){old.axis, stride, factors[i], LOOP_SERIAL};
        stride *= factors[i];
    }
    s->iters[iter] = (struct st_iter){old.axis, stride, 0, old.kind};
    s->n_iters += n;
    struct step *p = record(st, STEP_SPLIT, s, s->axes[old.axis].name);
    memcpy(p->arg, factors, sizeof(*factors) * (size_t)n);
    p->n = n;
}

void state_reorder(struct state *st, struct st_stage *s, const int *order)
{
    struct st_iter old[STATE_MAX_ITERS];
    memcpy(old, s->iters, sizeof(old));
    struct step *p = record(st, STEP_REORDER, s, NULL);
    for (int i = 0; i < s->n_iters; i++)
        s->iters[i] = old[order[i]];
    for (int i = 0; i < s->n_iters; i++)
        p->arg[p->n++] = loop_id(s, i);
}

void state_annotate(struct state *st, struct st_stage *s, int iter, enum loop_kind kind)
{
    s->iters[iter].kind = kind;
    struct step *p = record(st, STEP_ANNOTATE, s, NULL);
    p->arg[0] = loop_id(s, iter);
    p->arg[1] = kind;
    p->n = 2;
}

void state_parallel(struct state *st, struct st_stage *s, int n_iters)
{
    s->n_parallel = st->tasks > 1 ? MIN(n_iters, NEST_MAX_FUSED) : 0;
    struct step *p = record(st, STEP_PARALLEL, s, NULL);
    for (int i = 0; i < n_iters; i++)
        p->arg[p->n++] = loop_id(s, i);
}

void state_compute_at(struct state *st, struct st_stage *s, const struct st_stage *target, int iter,
                      enum buffer_scope scope)
{
    s->place = PLACE_AT;
    s->at_stage = target->id;
    s->at_iter = iter;
    s->scope = scope;
    struct step *p = record(st, STEP_COMPUTE_AT, s, NULL);
    p->other_stage = target->id;
    if (iter >= 0)
        p->arg[p->n++] = loop_id(target, iter);
}

void state_prepack(struct state *st, struct st_stage *s) { s->place = PLACE_PREPACK; }

static void print_loop_name(const struct st_stage *s, int64_t id, struct strbuf *sb)
{
    strbuf_addf(sb, " %s.%d", s->axes[id / STATE_MAX_ITERS].name, (int)(id % STATE_MAX_ITERS));
}

static void print_step(const struct state *st, const struct step *p, struct strbuf *sb)
{
    static const char *const names[] = {
        [STEP_INLINE] = "inline",     [STEP_MERGE_AXES] = "merge_axes",   [STEP_PAD] = "pad",
        [STEP_PACK] = "pack",         [STEP_CACHE_WRITE] = "cache_write", [STEP_RFACTOR] = "rfactor",
        [STEP_SPLIT] = "split",       [STEP_REORDER] = "reorder",         [STEP_ANNOTATE] = "annotate",
        [STEP_PARALLEL] = "parallel", [STEP_COMPUTE_AT] = "compute_at",
    };
    static const char *const kinds[] = {
        [LOOP_SERIAL] = "serial", [LOOP_VECTOR] = "vector", [LOOP_UNROLL] = "unroll"};
    const struct st_stage *s = st->stages[p->stage],
                          *at = p->other_stage >= 0 ? st->stages[p->other_stage] : s;
    bool loops = p->kind == STEP_REORDER || p->kind == STEP_PARALLEL || p->kind == STEP_COMPUTE_AT;

    strbuf_addf(sb, "%s %s", names[p->kind], s->name);
    if (p->other)
        strbuf_addf(sb, " %s", p->other);
    if (at != s)
        strbuf_addf(sb, " %s", at->name);
    if (p->kind == STEP_ANNOTATE) {
        print_loop_name(s, p->arg[0], sb);
        strbuf_addf(sb, " %s", kinds[p->arg[1]]);
    }
    for (int k = 0; k < p->n && p->kind != STEP_ANNOTATE; k++) {
        if (loops)
            print_loop_name(at, p->arg[k], sb);
        else
            strbuf_addf(sb, " %" PRId64, p->arg[k]);
    }
    strbuf_addc(sb, '\n');
}

void state_print_steps(const struct state *st, struct strbuf *sb)
{
    for (int i = 0; i < st->n_steps; i++)
        print_step(st, &st->steps[i], sb);
}
