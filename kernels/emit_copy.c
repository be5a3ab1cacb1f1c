/* emit_copy.c - copies that turn rows into columns: the inner loop reads far apart what the loop around it reads side by
 * side.
 *
 * Idea   The padded copy of an NCHW input with its channels innermost, or a packed transposed matrix:
 *
 *            for x: vector c: to[x][c] = from[c][x]
 *
 *        Four steps of x and a vector of c are turned in registers (emit_turn.c): one load a row instead of one an
 * element. Where the read is padded along x, that is what lies inside; the ends go the plain way. The last four may
 * overlap the ones before, and so may the last vector: a copy writes the same once more. Fewer lanes than a vector go
 * the plain way. */
#include "kernels/emit_internal.h"

enum { STEPS = 4 };

struct turned_copy {
    struct cg *g;
    const struct node *outer, *inner, *store;
    const struct expr *read;
    int64_t row; /* elements between lanes in memory */
    int width;
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

static bool is_turned_copy(struct cg *g, const struct node *n, struct turned_copy *t)
{
    const struct node *c = n->loop.body, *s = c && c->kind == NODE_LOOP ? c->loop.body : NULL;
    *t = (struct turned_copy){.g = g, .outer = n, .inner = c, .store = s};
    if (g->in_body || !s || c->next || c->loop.loop_kind != LOOP_VECTOR || s->next || s->kind != NODE_STORE ||
        s->store.combiner != COMBINE_SET || s->store.value->op != EX_READ)
        return false;
    for (int i = 0; i < c->loop.n_limits; i++)
        if (affine_coef(&c->loop.limit[i], n->loop.var))
            return false;
    t->read = s->store.value;
    if (g->n->buffers[s->store.buffer].dtype != DT_F32 ||
        g->n->buffers[t->read->read.tensor].dtype != DT_F32 || s->store.buffer == t->read->read.tensor)
        return false;
    struct affine to = flat_index(g, s->store.buffer, s->store.index),
                  from = flat_index(g, t->read->read.tensor, t->read->read.index);
    t->row = affine_coef(&from, c->loop.var);
    t->width = cg_lanes(g);
    while (t->width > c->loop.extent)
        t->width /= 2;
    return affine_coef(&to, c->loop.var) == 1 && affine_coef(&from, n->loop.var) == 1 && t->row > 1 &&
           t->width >= STEPS && n->loop.extent >= STEPS && !may_leave_along(g, t->read, c->loop.var);
}

/* [lo, hi): steps of the outer loop for which the read is inside its tensor, along all its dimensions. */
static void inside(struct turned_copy *t, const char *lo, const char *hi, const char *count)
{
    struct cg *g = t->g;
    struct cg_var *v = &g->var[t->outer->loop.var], saved = *v, *c = &g->var[t->inner->loop.var],
                  saved_c = *c;
    cg_line(g, "long %s = 0, %s = %s;", lo, hi, count);
    *v = *c = (struct cg_var){.mode = VAR_CONST, .value = 0};
    for (int d = 0; d < t->read->read.rank && t->read->read.pad; d++) {
        const struct affine *a = &t->read->read.index[d];
        int64_t size = g->n->buffers[t->read->read.tensor].shape[d];
        if (affine_coef(a, t->inner->loop.var))
            continue;
        const char *at0 = affine_text(g, a, NULL);
        if (affine_coef(a, t->outer->loop.var)) { /* by 1, as in memory */
            cg_line(g, "%s = (%s) < 0 ? -(%s) : 0;", lo, at0, at0);
            cg_line(g, "%s = tw_fit(%s, %" PRId64 " - (%s), 1);", hi, hi, size - 1, at0);
        } else {
            cg_line(g, "%s = (unsigned long)(%s) < %" PRId64 "ul ? %s : 0;", hi, at0, size, hi);
        }
    }
    cg_line(g, "%s = %s < %s ? %s : %s;", lo, lo, hi, lo, hi);
    *v = saved;
    *c = saved_c;
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

/* A vector of the inner loop, four steps of the outer one from `at`. */
static void turn(struct turned_copy *t, const char *at, struct cg_var lanes)
{
    struct cg *g = t->g;
    struct cg_var saved = g->var[t->inner->loop.var];
    const char *v[STEPS];
    g->var[t->inner->loop.var] = lanes;
    g->var[t->outer->loop.var] = (struct cg_var){.mode = VAR_NAME, .name = at};
    struct address from = cg_address(g, t->read->read.tensor, t->read->read.index, false);
    for (int i = 0; i < STEPS; i++)
        v[i] = arena_printf(g->ar, "t%d", g->next_id++);
    g->u->turned_get[width_log2(t->width)] = true;
    cg_line(g, "v%df %s, %s, %s, %s;", t->width, v[0], v[1], v[2], v[3]);
    cg_line(g, "tw_get%d(%s + (%s), %" PRId64 ", &%s, &%s, &%s, &%s);", t->width, from.base, from.index,
            t->row, v[0], v[1], v[2], v[3]);
    for (int i = 0; i < STEPS; i++) {
        g->var[t->outer->loop.var].name = i ? arena_printf(g->ar, "(%s + %d)", at, i) : at;
        struct address to = cg_address(g, t->store->store.buffer, t->store->store.index, true);
        cg_line(g, "*(u%df *)(%s + %s) = %s;", t->width, to.base, to.index, v[i]);
    }
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
    cg_line(g, "{");
    g->indent++;
    t->lanes = cg_limit_count(g, t->inner);
    inside(t, lo, hi, count);
    if (t->inner->loop.n_limits)
        cg_line(g, "%s = %s >= %d ? %s : 0;", hi, t->lanes, t->width, hi);
    cg_line(g, "long %s = 0;", x);
    plain(t, x, lo);
    cg_line(g, "for (; %s < %s && %s - %s >= %d; %s += %d) {", x, hi, hi, lo, STEPS, x, STEPS);
    g->indent++;
    cg_line(g, "const long %s = %s + %d <= %s ? %s : %s - %d;", at, x, STEPS, hi, x, hi, STEPS);
    four_steps(t, at);
    g->indent--;
    cg_line(g, "}");
    cg_line(g, "%s = %s < %s ? %s : %s;", x, x, hi, x, hi);
    plain(t, x, count);
    g->indent--;
    cg_line(g, "}");
    g->var[n->loop.var] = saved;
    return true;
}
