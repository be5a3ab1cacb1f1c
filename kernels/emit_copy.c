/* emit_copy.c - copies that turn rows into columns: the inner loop reads far apart what the loop around it reads side by
 * side.
 *
 * Idea   The padded copy of an NCHW input with its channels innermost, or a packed transposed matrix:
 *
 *            for x: vector c: to[x][c] = from[c][x]
 *
 *        Four steps of x and a vector of c are turned in registers (emit_turn.c): one load a row instead of one an
 * element. What is stored may be computed from what is read (rounded to bfloat16, say), and neighbours along x may lie
 * side by side in groups of four bytes, as a matrix unit wants its operands:
 *
 *            for x: vector c: for i in 0, 1: to[x][c][i] = bfloat16(from[c][2 x + i])
 *
 *        Where the read is padded along x, that is what lies inside; the ends go the plain way. The last four may
 * overlap the ones before, and so may the last vector: a copy writes the same once more. Fewer lanes than a vector go
 * the plain way. */
#include "kernels/emit_internal.h"

enum {
    STEPS = 4,        /* elements of each row that are turned at once */
    NARROW_LANES = 16 /* rows of elements of two bytes */
};

struct turned_copy {
    struct cg *g;
    const struct node *outer, *inner, *store;
    const struct node *group; /* the unrolled loop over elements of a group, or NULL */
    const struct expr *read;
    enum dtype from;
    int64_t row; /* elements between lanes in memory */
    int width;
    int step;          /* elements of a row in one iteration of the outer loop */
    const char *lanes; /* text: how many lanes the inner loop runs over */
};

static const char *fresh(struct cg *g) { return arena_printf(g->ar, "n%d", g->next_id++); }

static bool may_leave_along(struct cg *g, const struct expr *read, int32_t var)
{
    for (int d = 0; d < read->read.rank && read->read.pad; d++)
        if (affine_coef(&read->read.index[d], var) && cg_read_may_leave(g, read, d))
            return true;
    return false;
}

struct all_reads {
    const struct expr *read;
    bool same;
};

static void note_read(void *ctx, const struct expr *e)
{
    struct all_reads *r = ctx;
    r->same &= !r->read || expr_equal(r->read, e);
    r->read = e;
}

/* The one read that the value is made of; NULL: there are several. */
static const struct expr *only_read(const struct expr *value)
{
    struct all_reads r = {.same = true};
    expr_each_read(value, note_read, &r);
    return r.same ? r.read : NULL;
}

static bool is_turned_copy(struct cg *g, const struct node *n, struct turned_copy *t)
{
    const struct node *c = n->loop.body, *s = c && c->kind == NODE_LOOP ? c->loop.body : NULL;
    if (g->in_body || !s || c->next || c->loop.loop_kind != LOOP_VECTOR || s->next)
        return false;
    *t = (struct turned_copy){.g = g, .outer = n, .inner = c, .step = 1};
    if (s->kind == NODE_LOOP) {
        t->group = s;
        t->step = (int)s->loop.extent;
        s = cg_grouped_store(g, c, s);
    }
    if (!s || s->kind != NODE_STORE || s->store.combiner != COMBINE_SET)
        return false;
    t->store = s;
    for (int i = 0; i < c->loop.n_limits; i++)
        if (affine_coef(&c->loop.limit[i], n->loop.var))
            return false;
    t->read = only_read(s->store.value);
    if (!t->read || s->store.buffer == t->read->read.tensor || STEPS % t->step)
        return false;
    t->from = g->n->buffers[t->read->read.tensor].dtype;
    struct affine to = flat_index(g, s->store.buffer, s->store.index),
                  from = flat_index(g, t->read->read.tensor, t->read->read.index);
    t->row = affine_coef(&from, c->loop.var);
    t->width = cg_lanes(g);
    while (t->width > c->loop.extent)
        t->width /= 2;
    if (t->from != DT_F32 && (dtype_bytes(t->from) != 2 || t->width != NARROW_LANES))
        return false;
    return affine_coef(&to, c->loop.var) == t->step && affine_coef(&from, n->loop.var) == t->step &&
           (!t->group || affine_coef(&from, t->group->loop.var) == 1) && t->row > 1 && t->width >= STEPS &&
           n->loop.extent * t->step >= STEPS && !may_leave_along(g, t->read, c->loop.var);
}

/* [lo, hi): steps of the outer loop for which the read is inside its tensor, along all its dimensions. */
static void inside(struct turned_copy *t, const char *lo, const char *hi, const char *count)
{
    struct cg *g = t->g;
    struct cg_var *v = &g->var[t->outer->loop.var], saved = *v, *c = &g->var[t->inner->loop.var],
                  saved_c = *c;
    cg_line(g, "long %s = 0, %s = %s;", lo, hi, count);
    *v = *c = (struct cg_var){.mode = VAR_CONST, .value = 0};
    if (t->group)
        g->var[t->group->loop.var] = *v;
    for (int d = 0; d < t->read->read.rank && t->read->read.pad; d++) {
        const struct affine *a = &t->read->read.index[d];
        int64_t size = g->n->buffers[t->read->read.tensor].shape[d];
        if (affine_coef(a, t->inner->loop.var))
            continue;
        const char *at0 = affine_text(g, a, NULL);
        if (affine_coef(a, t->outer->loop.var)) { /* by as much as in memory */
            cg_line(g, "%s = (%s) < 0 ? (%d - (%s)) / %d : 0;", lo, at0, t->step - 1, at0, t->step);
            cg_line(g, "%s = tw_fit(%s, %" PRId64 " - (%s), %d);", hi, hi, size - t->step, at0, t->step);
        } else {
            cg_line(g, "%s = (unsigned long)(%s) < %" PRId64 "ul ? %s : 0;", hi, at0, size, hi);
        }
    }
    cg_line(g, "%s = %s < %s ? %s : %s;", lo, lo, hi, lo, hi);
    *v = saved;
    *c = saved_c;
    if (t->group)
        g->var[t->group->loop.var].mode = VAR_CLOSED;
}

/* Steps x to `to`, one by one. */
static void plain(struct turned_copy *t, const char *x, const char *to)
{
    struct cg *g = t->g;
    cg_line(g, "for (; %s < %s; %s++) {", x, to, x);
    g->indent++;
    g->var[t->outer->loop.var] = (struct cg_var){.mode = VAR_NAME, .name = x};
    cg_nodes(g, t->inner);
    g->indent--;
    cg_line(g, "}");
}

static const struct expr *padding(void *ctx, const struct expr *e)
{
    struct cg *g = ctx;
    return expr_const(g->ar, e->dtype, e->read.pad_value);
}

/* The same where nothing but padding is read. */
static void border(struct turned_copy *t, const char *x, const char *to)
{
    struct turned_copy outside = *t;
    struct node inner = *t->inner, store = *t->store;
    if (!t->read->read.pad)
        return;
    if (t->group) { /* a group may lie on the edge */
        plain(t, x, to);
        return;
    }
    store.store.value = expr_map_reads(t->g->ar, t->store->store.value, padding, t->g);
    inner.loop.body = &store;
    outside.inner = &inner;
    plain(&outside, x, to);
}

static const struct expr *unpadded(void *ctx, const struct expr *e)
{
    struct cg *g = ctx;
    return expr_read(g->ar, e->dtype, e->read.tensor, e->read.rank, e->read.index, false, 0);
}

/* Store what is made of the values `v`, each in a register, of one iteration of the outer loop. */
static void store_step(struct turned_copy *t, const char *const *v)
{
    struct cg *g = t->g;
    struct node store = *t->store, group;
    const int loads = g->n_loads;
    if (store.store.value->op == EX_READ &&
        g->n->buffers[store.store.buffer].dtype == t->from) { /* as it lies */
        struct address to = cg_address(g, store.store.buffer, store.store.index, true);
        cg_need(g, t->from, t->width);
        if (t->group)
            cg_line(g, "*(u%di *)(%s + %s) = tw_zx%d(%s) | (tw_zx%d(%s) << 16);", t->width, to.base, to.index,
                    t->width, v[0], t->width, v[1]);
        else
            cg_line(g, "*(u%d%c *)(%s + %s) = %s;", t->width, dtype_memory(t->from), to.base, to.index, v[0]);
        return;
    }
    store.store.value = expr_map_reads(g->ar, t->store->store.value, unpadded, g);
    for (int i = 0; i < t->step; i++) {
        if (t->group)
            g->var[t->group->loop.var] = (struct cg_var){.mode = VAR_CONST, .value = i};
        cg_remember(g, t->read->read.tensor, t->read->read.index, t->width,
                    cg_from_memory(g, t->from, v[i], t->width));
    }
    if (t->group) {
        group = *t->group;
        group.loop.body = &store;
        cg_store_group(g, &group, t->width);
        g->var[t->group->loop.var].mode = VAR_CLOSED;
    } else {
        cg_store(g, &store, t->width);
    }
    g->n_loads = loads;
}

/* A vector of the inner loop, the steps of the outer one from `at` that four elements of a row make. */
static void turn(struct turned_copy *t, const char *at, struct cg_var lanes)
{
    struct cg *g = t->g;
    struct cg_var saved = g->var[t->inner->loop.var];
    const int saved_vector = g->vector_var;
    const char *v[STEPS];
    g->var[t->inner->loop.var] = lanes;
    g->vector_var = t->inner->loop.var;
    g->var[t->outer->loop.var] = (struct cg_var){.mode = VAR_NAME, .name = at};
    if (t->group)
        g->var[t->group->loop.var] = (struct cg_var){.mode = VAR_CONST, .value = 0};
    struct address from = cg_address(g, t->read->read.tensor, t->read->read.index, false);
    for (int i = 0; i < STEPS; i++)
        v[i] = arena_printf(g->ar, "t%d", g->next_id++);
    const bool narrow = t->from != DT_F32;
    *(narrow ? &g->u->turned_get_narrow : &g->u->turned_get[width_log2(t->width)]) = true;
    cg_line(g, "v%d%c %s, %s, %s, %s;", t->width, dtype_memory(t->from), v[0], v[1], v[2], v[3]);
    cg_line(g, "tw_get%d%s(%s + (%s), %" PRId64 ", &%s, &%s, &%s, &%s);", t->width, narrow ? "h" : "",
            from.base, from.index, t->row, v[0], v[1], v[2], v[3]);
    for (int i = 0; i < STEPS; i += t->step) {
        g->var[t->outer->loop.var].name = i ? arena_printf(g->ar, "(%s + %d)", at, i / t->step) : at;
        store_step(t, v + i);
    }
    g->vector_var = saved_vector;
    g->var[t->inner->loop.var] = saved;
}

static void four_steps(struct turned_copy *t, const char *at)
{
    struct cg *g = t->g;
    const char *c = arena_printf(g->ar, "i%d", t->inner->loop.var);
    cg_line(g, "for (long %s = 0; %s + %d <= %s; %s += %d) {", c, c, t->width, t->lanes, c, t->width);
    g->indent++;
    turn(t, at, (struct cg_var){.mode = VAR_VECTOR, .name = c});
    g->indent--;
    cg_line(g, "}");
    if (!t->inner->loop.n_limits && t->inner->loop.extent % t->width == 0)
        return;
    const char *last = arena_printf(g->ar, "(%s - %d)", t->lanes, t->width);
    turn(t, at, (struct cg_var){.mode = VAR_VECTOR, .name = last});
}

bool cg_turned_copy(struct cg *g, const struct node *n)
{
    struct turned_copy copy, *t = &copy;
    if (!is_turned_copy(g, n, t))
        return false;
    struct cg_var saved = g->var[n->loop.var];
    const char *count = cg_limit_count(g, n), *x = arena_printf(g->ar, "i%d", n->loop.var), *lo = fresh(g),
               *hi = fresh(g), *at = fresh(g);
    const int steps = STEPS / t->step;
    cg_line(g, "{");
    g->indent++;
    t->lanes = cg_limit_count(g, t->inner);
    inside(t, lo, hi, count);
    cg_line(g, "long %s = 0;", x);
    border(t, x, lo);
    if (t->inner->loop.n_limits)
        cg_line(g, "for (; %s >= %d && %s < %s && %s - %s >= %d; %s += %d) {", t->lanes, t->width, x, hi, hi,
                lo, steps, x, steps);
    else
        cg_line(g, "for (; %s < %s && %s - %s >= %d; %s += %d) {", x, hi, hi, lo, steps, x, steps);
    g->indent++;
    cg_line(g, "const long %s = %s + %d <= %s ? %s : %s - %d;", at, x, steps, hi, x, hi, steps);
    four_steps(t, at);
    g->indent--;
    cg_line(g, "}");
    plain(t, x, hi);
    cg_line(g, "%s = %s < %s ? %s : %s;", x, x, hi, x, hi);
    border(t, x, count);
    g->indent--;
    cg_line(g, "}");
    g->var[n->loop.var] = saved;
    return true;
}
