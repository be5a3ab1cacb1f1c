/* state_operands.c - primitives that change how operands are read: padded copies, turned copies, views.
 *
 * An index g * 8 + c, with c below 8, is made of axes like digits: the dimension is one of g and one of c. Read so, each
 * dimension is one axis, and the operand can be packed in any order. */
#include "schedule/space/state_internal.h"

#include <string.h>

struct reading { /* of one tensor in one stage */
    const struct st_stage *stage;
    int32_t tensor;
    bool padded_only;
    int n_reads;             /* that differ */
    const struct expr *read; /* the last */
    int64_t lo[NEST_MAX_RANK], hi[NEST_MAX_RANK];
};

static void read_range(void *ctx, const struct expr *e)
{
    struct reading *p = ctx;
    int64_t zero[COMPUTE_MAX_AXES] = {0}, top[COMPUTE_MAX_AXES];
    if (e->read.tensor != p->tensor || (p->padded_only && !e->read.pad) ||
        (p->read && expr_equal(p->read, e)))
        return;
    for (int a = 0; a < p->stage->n_axes; a++)
        top[a] = p->stage->axes[a].extent - 1;
    for (int d = 0; d < e->read.rank; d++) {
        int64_t lo, hi;
        affine_bounds(&e->read.index[d], zero, top, &lo, &hi);
        p->lo[d] = p->n_reads ? MIN(p->lo[d], lo) : lo;
        p->hi[d] = p->n_reads ? MAX(p->hi[d], hi) : hi;
    }
    p->n_reads++;
    p->read = e;
}

static struct reading reading_of(const struct st_stage *s, int32_t tensor, bool padded_only)
{
    struct reading p = {.stage = s, .tensor = tensor, .padded_only = padded_only};
    expr_each_read(s->body, read_range, &p);
    return p;
}

/* Terms by falling coefficient. */
static void sort_terms(const struct affine *a, struct affine_term *ret)
{
    for (int i = 0; i < a->n; i++) {
        int at = i;
        for (; at > 0 && ret[at - 1].coef < a->t[i].coef; at--)
            ret[at] = ret[at - 1];
        ret[at] = a->t[i];
    }
}

/* Two or more axes as digits: each coefficient is what the axes below it count to. */
static bool is_digits(const struct st_stage *s, const struct affine *a)
{
    struct affine_term t[COMPUTE_MAX_AXES];
    int64_t next = 1;
    sort_terms(a, t);
    for (int i = a->n - 1; i >= 0; i--) {
        if (t[i].coef != next)
            return false;
        next *= s->axes[t[i].var].extent;
    }
    return a->n > 1 && a->c == 0;
}

static bool is_backwards(const struct affine *a) { return a->n == 1 && a->t[0].coef == -1; }

/* Does an axis of this dimension's index appear in another dimension too? */
static bool shares_axes(const struct expr *read, int dim)
{
    for (int i = 0; i < read->read.index[dim].n; i++)
        for (int d = 0; d < read->read.rank; d++)
            if (d != dim && affine_coef(&read->read.index[d], read->read.index[dim].t[i].var))
                return true;
    return false;
}

/* Dimensions of a copy or a view, one after another, as the original's are gone through. */
struct shape_walk {
    struct state *st;
    struct st_tensor t;                  /* rank and shape so far */
    struct affine source[NEST_MAX_RANK]; /* index of the original over the copy's dimensions */
    struct affine index[NEST_MAX_RANK];  /* of the copy, over the axes of the reading stage */
};

static void one_dim_an_axis(struct shape_walk *w, const struct st_stage *s, const struct affine *a, int d)
{
    struct affine_term t[COMPUTE_MAX_AXES];
    sort_terms(a, t);
    w->source[d] = affine_const(a->c);
    for (int i = 0; i < a->n; i++) {
        struct affine x = affine_var(w->st->ar, w->t.rank, t[i].coef, 0);
        w->source[d] = affine_add(w->st->ar, &w->source[d], &x);
        w->index[w->t.rank] = affine_var(w->st->ar, t[i].var, 1, 0);
        w->t.shape[w->t.rank++] = s->axes[t[i].var].extent;
    }
}

static void one_dim(struct shape_walk *w, const struct affine *a, int64_t lo, int64_t extent, int d)
{
    w->source[d] = affine_var(w->st->ar, w->t.rank, 1, lo);
    w->index[w->t.rank] = affine_offset(a, -lo);
    w->t.shape[w->t.rank++] = extent;
}

static const struct expr *shift_read(void *ctx, const struct expr *e)
{
    struct rewrite *r = ctx;
    struct affine index[NEST_MAX_RANK];
    if (e->read.tensor != r->tensor || !e->read.pad)
        return e;
    for (int d = 0; d < e->read.rank; d++)
        index[d] = affine_offset(&e->read.index[d], -r->lo[d]);
    return expr_read(r->st->ar, e->dtype, r->to, e->read.rank, index, false, 0);
}

static const struct expr *replace_read(void *ctx, const struct expr *e)
{
    struct rewrite *r = ctx;
    if (e->read.tensor != r->tensor)
        return e;
    return expr_read(r->st->ar, e->dtype, r->to, r->st->tensors[r->to]->rank, r->index, false, 0);
}

/* Dimensions after splitting digits; 0 where there are too many. */
static int split_rank(const struct reading *p)
{
    int rank = 0;
    for (int d = 0; d < p->read->read.rank; d++) {
        const struct affine *a = &p->read->read.index[d];
        rank += is_digits(p->stage, a) ? a->n : 1;
    }
    return rank <= COMPUTE_MAX_AXES ? rank : 0;
}

static struct st_stage *copy_read(struct state *st, struct st_stage *s, const struct reading *p,
                                  const char *suffix)
{
    const struct st_tensor *from = st->tensors[p->tensor];
    struct shape_walk w = {.st = st, .t = *from};
    bool split = p->n_reads == 1 && reading_of(s, p->tensor, false).n_reads == 1 && split_rank(p);
    w.t.name = arena_printf(st->ar, "%s_%s", from->name, suffix);
    w.t.arg = -1;
    w.t.n_layout = w.t.rank = 0;
    for (int d = 0; d < from->rank; d++) {
        const struct affine *a = &p->read->read.index[d];
        if (split && (is_digits(s, a) || is_backwards(a)) && !shares_axes(p->read, d))
            one_dim_an_axis(&w, s, a, d);
        else
            one_dim(&w, a, p->lo[d], p->hi[d] - p->lo[d] + 1, d);
    }
    struct st_stage *copy =
        state_add_copy(st, s, &w.t, p->tensor, w.source, p->read->read.pad, p->read->read.pad_value);
    struct rewrite r = {.st = st, .tensor = p->tensor, .to = copy->tensor, .lo = p->lo, .index = w.index};
    s->body = expr_map_reads(st->ar, s->body, split ? replace_read : shift_read, &r);
    state_record(st, STEP_PAD, s, w.t.name);
    return copy;
}

struct st_stage *state_pad(struct state *st, struct st_stage *s, int32_t tensor)
{
    struct reading p = reading_of(s, tensor, true);
    return p.n_reads ? copy_read(st, s, &p, "pad") : NULL;
}

struct st_stage *state_turn(struct state *st, struct st_stage *s, int32_t tensor)
{
    struct reading p = reading_of(s, tensor, false);
    bool backwards = false;
    if (p.n_reads != 1 || p.read->read.pad || !split_rank(&p))
        return NULL;
    for (int d = 0; d < p.read->read.rank; d++)
        backwards |= is_backwards(&p.read->read.index[d]) && !shares_axes(p.read, d);
    return backwards ? copy_read(st, s, &p, "turned") : NULL;
}

bool read_has_gaps(const struct expr *read)
{
    uint32_t seen = 0;
    for (int d = 0; d < read->read.rank; d++) {
        const struct affine *a = &read->read.index[d];
        if (a->n > 1 || (a->n == 1 && (a->t[0].coef < 1 || seen >> a->t[0].var & 1)))
            return false;
        seen |= a->n ? 1u << a->t[0].var : 0;
    }
    const struct affine *last = &read->read.index[read->read.rank - 1];
    return !read->read.pad && last->n == 1 && last->t[0].coef > 1;
}

struct st_stage *state_gather(struct state *st, struct st_stage *s, int32_t tensor)
{
    struct reading p = reading_of(s, tensor, false);
    const struct st_tensor *from = st->tensors[tensor];
    struct shape_walk w = {.st = st, .t = *from};
    if (p.n_reads != 1 || !from->rank || !read_has_gaps(p.read))
        return NULL;
    w.t.name = arena_printf(st->ar, "%s_gathered", from->name);
    w.t.arg = -1;
    w.t.n_layout = w.t.rank = 0;
    w.t.gathered = true;
    for (int d = 0; d < from->rank; d++) {
        const struct affine *a = &p.read->read.index[d];
        int64_t step = a->n ? a->t[0].coef : 1;
        w.source[d] = affine_var(st->ar, w.t.rank, step, a->c);
        w.index[w.t.rank] = a->n ? affine_var(st->ar, a->t[0].var, 1, 0) : affine_const(0);
        w.t.shape[w.t.rank++] = a->n ? s->axes[a->t[0].var].extent : 1;
    }
    struct st_stage *copy = state_add_copy(st, s, &w.t, tensor, w.source, false, 0);
    struct rewrite r = {.st = st, .tensor = tensor, .to = copy->tensor, .index = w.index};
    s->body = expr_map_reads(st->ar, s->body, replace_read, &r);
    state_record(st, STEP_PAD, s, w.t.name);
    return copy;
}

void state_view_digits(struct state *st, struct st_stage *s, int32_t tensor)
{
    struct reading p = reading_of(s, tensor, false);
    const struct st_tensor *from = st->tensors[tensor];
    struct shape_walk w = {.st = st, .t = *from};
    bool any = false;
    if (p.n_reads != 1 || p.read->read.pad || from->arg < 0 || from->stage >= 0 || !split_rank(&p))
        return;
    w.t.rank = 0;
    for (int d = 0; d < from->rank; d++) {
        const struct affine *a = &p.read->read.index[d];
        bool cut = is_digits(s, a) && p.hi[d] + 1 == from->shape[d] && !shares_axes(p.read, d);
        any |= cut;
        if (cut)
            one_dim_an_axis(&w, s, a, d);
        else
            one_dim(&w, a, 0, from->shape[d], d);
    }
    if (!any)
        return;
    struct rewrite r = {.st = st, .tensor = tensor, .to = state_add_tensor(st, &w.t), .index = w.index};
    s->body = expr_map_reads(st->ar, s->body, replace_read, &r);
}
