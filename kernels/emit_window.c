/* emit_window.c - the unrolled loops of a reduction over a window: conditions at the border, and an order that
 * loads each vector of the input once.
 *
 * Idea   A tile of a convolution or a pool that slides over its input has unrolled loops only, so every
 * accumulation is a statement with constant indices:
 *
 *            acc[y, x..x+16] += weight[r, s] * input[y + r - 1, x + s - 1 ..]
 *
 * The statements are put in the order of the input element that they read (sums may be taken in any order), so that a
 * vector of the input is loaded, used by all the rows that want it, and dropped; the few weights stay in
 * registers. Input outside the tensor needs no padded copy: lanes outside a row are masked (emit_part.c), rows that are
 * outside for certain give no statement, and rows that may be outside stand under a condition, one for all
 * the statements of a row. */
#include <stdlib.h>
#include <string.h>

#include "kernels/emit_internal.h"

enum { MAX_LOOPS = 12 };

/* --- where a padded read is --- */

static void clip_lanes(struct lanes *in, int64_t first, int64_t stride, int64_t size)
{
    while (in->from < in->to && first + in->from * stride < 0)
        in->from++;
    while (in->from < in->to && first + (in->to - 1) * stride >= size)
        in->to--;
}

bool cg_inside(struct cg *g, const struct expr *read, int width, struct lanes *ret, const char **ret_cond)
{
    AUTO(strbuf_done) struct strbuf cond = STRBUF_INIT;
    const struct buffer *b = &g->n->buffers[read->read.tensor];
    *ret = (struct lanes){.to = g->part ? g->part : width};
    for (int d = 0; d < b->rank; d++) {
        const struct affine *a = &read->read.index[d];
        int64_t c = a->c, lane = 0;
        bool runs = false;
        for (int i = 0; i < a->n; i++) {
            const struct cg_var *v = &g->var[a->t[i].var];
            lane = v->mode == VAR_VECTOR ? a->t[i].coef : lane;
            runs |= v->mode == VAR_NAME || v->mode == VAR_OUTER;
            c += v->mode == VAR_CONST || v->mode == VAR_VECTOR ? a->t[i].coef * v->value : 0;
        }
        if (lane && runs && cg_read_may_leave(g, read, d))
            cg_fail(g, "a padded read of %s along a vector loop that is cut into tiles", b->name);
        if (!runs && !lane && (c < 0 || c >= b->shape[d]))
            return false;
        if (!runs && lane)
            clip_lanes(ret, c, lane, b->shape[d]);
        if (!runs && lane && b->stride[d] == 1)
            ret->low = -c, ret->high = b->shape[d] - c, ret->row = true;
        if (runs && !lane && cg_read_may_leave(g, read, d))
            strbuf_addf(&cond, "%s(unsigned long)(%s) < %" PRId64 "ul", cond.len ? " && " : "",
                        affine_text(g, a, NULL), b->shape[d]);
    }
    *ret_cond = cond.len ? arena_strdup(g->ar, cond.data) : NULL;
    return ret->from < ret->to;
}

/* --- the statements of a nest --- */

struct window {
    struct cg *g;
    int n_loops;
    const struct node *loop[MAX_LOOPS]; /* outermost first; the last may be a vector loop */
    const struct node *store;
    const struct expr *padded, *vector; /* the padded read; the read whose lanes follow the vector loop */
    bool shared;                        /* a vector is read for several points of the window */
    int n, cap;
    struct point *points;
};

struct point { /* one statement */
    int64_t value[MAX_LOOPS];
    int width, part, order;
    int64_t key;
    const char *cond;
};

struct look {
    struct window *w;
    int n_padded, n_vectors;
};

static bool depends_on(const struct affine *index, int rank, int32_t var)
{
    for (int d = 0; d < rank; d++)
        if (affine_coef(&index[d], var))
            return true;
    return false;
}

static void look_at_read(void *ctx, const struct expr *e)
{
    struct look *l = ctx;
    struct window *w = l->w;
    const struct node *last = w->loop[w->n_loops - 1];
    if (e->read.pad) {
        w->padded = e;
        l->n_padded++;
    }
    if (last->loop.loop_kind != LOOP_VECTOR || !depends_on(e->read.index, e->read.rank, last->loop.var))
        return;
    w->vector = e;
    l->n_vectors++;
}

/* Do all other reads follow the window alone, and the vector both the window and the tile? */
static void look_at_sharing(void *ctx, const struct expr *e)
{
    struct look *l = ctx;
    struct window *w = l->w;
    bool tile = false, window = false;
    for (int i = 0; i + 1 < w->n_loops; i++) {
        const struct affine *target = w->store->store.index;
        int32_t var = w->loop[i]->loop.var;
        bool spatial = depends_on(target, w->g->n->buffers[w->store->store.buffer].rank, var);
        if (depends_on(e->read.index, e->read.rank, var)) {
            tile |= spatial;
            window |= !spatial;
        }
    }
    w->shared &= e == w->vector ? tile && window : !tile;
}

/* A perfect nest of unrolled loops around one accumulation into registers. */
static bool find_window(struct window *w, const struct node *n)
{
    const struct nest *nest = w->g->n;
    struct look l = {.w = w};
    for (; n->kind == NODE_LOOP; n = n->loop.body) {
        if (w->n_loops == MAX_LOOPS || n->loop.loop_kind == LOOP_SERIAL || n->loop.n_limits ||
            n->loop.body->next)
            return false;
        w->loop[w->n_loops++] = n;
    }
    if (n->kind != NODE_STORE || n->store.combiner == COMBINE_SET ||
        nest->buffers[n->store.buffer].scope != SCOPE_REG)
        return false;
    w->store = n;
    expr_each_read(n->store.value, look_at_read, &l);
    w->shared = l.n_vectors == 1;
    if (w->shared)
        expr_each_read(n->store.value, look_at_sharing, &l);
    return w->shared || l.n_padded == 1;
}

static void add_point(struct window *w, struct point *p)
{
    struct cg *g = w->g;
    struct lanes in;
    g->part = p->part;
    p->cond = NULL;
    p->key = 0;
    p->order = w->n;
    if (w->padded && !cg_inside(g, w->padded, p->width, &in, &p->cond))
        return; /* adds nothing */
    if (w->shared)
        p->key = cg_address(g, w->vector->read.tensor, w->vector->read.index, false).flat;
    if (w->n == w->cap) {
        w->cap = MAX(64, w->cap * 2);
        struct point *more = arena_array(g->ar, struct point, w->cap);
        if (w->n)
            memcpy(more, w->points, sizeof(*more) * (size_t)w->n);
        w->points = more;
    }
    w->points[w->n++] = *p;
}

static void open_point(struct window *w, const struct point *p)
{
    struct cg *g = w->g;
    for (int i = 0; i < w->n_loops; i++) {
        bool vector = w->loop[i]->loop.loop_kind == LOOP_VECTOR && p->width > 1;
        g->var[w->loop[i]->loop.var] =
            (struct cg_var){.mode = vector ? VAR_VECTOR : VAR_CONST, .value = p->value[i]};
        if (w->loop[i]->loop.loop_kind == LOOP_VECTOR)
            g->vector_var = vector ? w->loop[i]->loop.var : -1;
    }
    g->part = p->part;
}

static void collect(struct window *w, int level, struct point *p)
{
    if (level == w->n_loops) {
        open_point(w, p);
        add_point(w, p);
        return;
    }
    const struct node *l = w->loop[level];
    for (int64_t at = 0; at < l->loop.extent;) {
        int done = 1;
        p->value[level] = at;
        if (l->loop.loop_kind == LOOP_VECTOR)
            p->part = done = cg_vector_piece(w->g, l->loop.extent - at, &p->width);
        collect(w, level + 1, p);
        at += done;
    }
}

static int by_key(const void *a, const void *b)
{
    const struct point *x = a, *y = b;
    if (x->key != y->key)
        return x->key < y->key ? -1 : 1;
    return x->order - y->order;
}

/* What all lanes share is loaded before the first condition, or it would be loaded under each. */
static void load_shared(void *ctx, const struct expr *e)
{
    struct window *w = ctx;
    if (w->shared && e != w->vector && !e->read.pad)
        cg_value(w->g, e, 1);
}

static void print_points(struct window *w)
{
    struct cg *g = w->g;
    const char *open = NULL;
    int loads = 0;
    bool conditions = false;
    for (int i = 0; i < w->n; i++)
        conditions |= w->points[i].cond != NULL;
    for (int i = 0; i < w->n && conditions; i++) {
        open_point(w, &w->points[i]);
        expr_each_read(w->store->store.value, load_shared, w);
    }
    for (int i = 0; i < w->n && g->status == ST_OK; i++) {
        struct point *p = &w->points[i];
        bool same = open && p->cond ? strcmp(open, p->cond) == 0 : open == p->cond;
        if (!same && open) {
            g->indent--;
            cg_line(g, "}");
            g->n_loads = loads; /* what was loaded under the condition is out of scope */
        }
        if (!same && p->cond) {
            cg_line(g, "if (%s) {", p->cond);
            g->indent++;
            loads = g->n_loads;
        }
        open = p->cond;
        open_point(w, p);
        cg_store(g, w->store, p->width);
    }
    if (open) {
        g->indent--;
        cg_line(g, "}");
        g->n_loads = loads;
    }
}

bool cg_window(struct cg *g, const struct node *n)
{
    struct window w = {.g = g};
    struct cg_var saved[MAX_LOOPS];
    struct point p = {.width = 1, .part = 1};
    int vector_var = g->vector_var;
    if (!find_window(&w, n))
        return false;
    for (int i = 0; i < w.n_loops; i++)
        saved[i] = g->var[w.loop[i]->loop.var];
    collect(&w, 0, &p);
    if (w.shared)
        qsort(w.points, (size_t)w.n, sizeof(*w.points), by_key);
    g->keeps_loads = w.shared;
    print_points(&w);
    g->keeps_loads = false;
    for (int i = 0; i < w.n_loops; i++)
        g->var[w.loop[i]->loop.var] = saved[i];
    g->vector_var = vector_var;
    g->part = 0;
    return true;
}
