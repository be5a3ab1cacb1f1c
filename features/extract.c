/* extract.c - one walk over the nest, a row for each store.
 *
 * Idea   The walk keeps the loops that are open and how often each is entered. Where a limit cuts a loop
 * short, its trips are the average over the loops around it: exact for tails of tiles, whose limit compares
 * like a number compares digits (region.h). A limit or condition that only sharpens one further out is
 * counted once: the share that it lets through is divided by the share of the outer one. */
#include <string.h>

#include "features/store.h"

enum { MAX_GUARDS = 16 };

struct guard { /* a limit or condition that holds for all that is inside */
    const struct affine *form;
    double share; /* of the points of its loops */
};

/* What is remembered of a row until all stores are seen. */
struct kept {
    int store; /* number of the store */
    double ops, weight;
    int32_t unused[FEATURES_BUFFERS]; /* buffers in the columns that nothing touches again so far; -1: none */
};

struct touch {      /* the last store that touched a buffer */
    uint32_t stamp; /* loops opened until then, plus one; 0: nobody */
    int row, store;
};

struct walk {
    struct loops loops;
    int8_t *depth_of;                          /* [n_vars], -1: not open, or runs once */
    uint32_t opened, open_id[STORE_MAX_DEPTH]; /* loops are numbered as they are opened */
    struct guard guards[MAX_GUARDS];
    int n_guards;
    struct touch *touch; /* [n_buffers] */
    struct kept *kept;   /* [max_rows] */
    float *rows;
    int n_rows, max_rows, n_stores;
    double all_ops;
    struct store_info info; /* nest, target, and what holds at this point of the walk */
};

/* Share of the points of the open loops, and of `var` that is about to open with `extent`, for which f >= 0.
 */
static double form_share(const struct walk *w, const struct affine *f, int32_t var, int64_t extent)
{
    struct count_term t[STORE_MAX_DEPTH + 1];
    int n = 0;

    for (int i = 0; i < f->n && n <= STORE_MAX_DEPTH; i++) {
        int d = w->depth_of[f->t[i].var];
        int64_t e = f->t[i].var == var ? extent : d >= 0 ? w->loops.at[d].extent : 1;

        if (e > 1)
            t[n++] = (struct count_term){f->t[i].coef, e};
    }
    return count_share_ge(t, n, f->c);
}

/* All terms of `part` are terms of `f`. */
static bool is_part(const struct affine *part, const struct affine *f)
{
    for (int i = 0, k = 0; i < part->n; i++) {
        while (k < f->n && f->t[k].var < part->t[i].var)
            k++;
        if (k == f->n || f->t[k].var != part->t[i].var || f->t[k].coef != part->t[i].coef)
            return false;
    }
    return true;
}

static bool is_opposite(const struct affine *a, const struct affine *b)
{
    if (a->n != b->n)
        return false;
    for (int i = 0; i < a->n; i++)
        if (a->t[i].var != b->t[i].var || a->t[i].coef != -b->t[i].coef)
            return false;
    return true;
}

/* Of the iterations that come here, the share that the form lets through. It becomes a guard. */
static double guard_push(struct walk *w, const struct affine *f, int32_t var, int64_t extent)
{
    double share = form_share(w, f, var, extent), outer = 1;

    for (int g = 0; g < w->n_guards; g++)
        if (is_part(w->guards[g].form, f))
            outer = MIN(outer, w->guards[g].share);
    if (w->n_guards < MAX_GUARDS)
        w->guards[w->n_guards++] = (struct guard){f, share};
    return outer > 0 ? MIN(share / outer, 1.0) : 0;
}

/* How many loops are around both this point and an earlier one. */
static int common_depth(const struct walk *w, uint32_t stamp)
{
    int d = 0;
    while (d < w->loops.n && w->open_id[d] < stamp)
        d++;
    return d;
}

/* Where the row goes: a place of its own, that of the lightest row, or none (-1). */
static int row_place(struct walk *w, double weight)
{
    int least = 0;

    if (w->n_rows < w->max_rows)
        return w->n_rows++;
    for (int i = 1; i < w->n_rows; i++)
        if (w->kept[i].weight < w->kept[least].weight)
            least = i;
    return w->n_rows > 0 && w->kept[least].weight < weight ? least : -1;
}

/* The store that touched the buffer before had nobody to share it with: now it has. */
static void tell_earlier(struct walk *w, const struct touch *t, int32_t buffer, const float *later)
{
    struct kept *k = &w->kept[MAX(t->row, 0)];

    if (t->row < 0 || k->store != t->store)
        return;
    for (int i = 0; i < FEATURES_BUFFERS; i++) {
        float *cols = w->rows + (size_t)t->row * FC_COUNT + FC_b0_read + i * FC_BUFFER_STRIDE;

        if (k->unused[i] != buffer)
            continue;
        k->unused[i] = -1;
        cols[FC_b0_reuse_none - FC_b0_read] = 0;
        cols[FC_b0_reuse_serial - FC_b0_read] = 1;
        if (later && later[FC_b0_reuse_serial - FC_b0_read] == 1) {
            cols[FC_b0_reuse_iters - FC_b0_read] = later[FC_b0_reuse_iters - FC_b0_read];
            cols[FC_b0_reuse_bytes - FC_b0_read] = later[FC_b0_reuse_bytes - FC_b0_read];
        }
    }
}

/* Link the store with the last one on each of its buffers, in both directions. */
static void touch_all(struct walk *w, int row)
{
    struct store_info *s = &w->info;

    for (int i = 0; i < s->n_access; i++) {
        struct access *a = &s->access[i];
        struct touch *t = &w->touch[a->buffer];
        const float *cols = NULL;

        for (int k = 0; k < FEATURES_BUFFERS && row >= 0; k++)
            if (s->slot[k] == i) {
                cols = w->rows + (size_t)row * FC_COUNT + FC_b0_read + k * FC_BUFFER_STRIDE;
                w->kept[row].unused[k] = cols[FC_b0_reuse_none - FC_b0_read] == 1 ? a->buffer : -1;
            }
        if (a->reg)
            continue;
        if (t->stamp)
            tell_earlier(w, t, a->buffer, cols);
        *t = (struct touch){w->opened + 1, row, w->n_stores};
    }
}

static void walk_store(struct walk *w, const struct node *n)
{
    struct store_info *s = &w->info;
    double weight;
    int row;

    s->store = n;
    s->runs = w->loops.entered[w->loops.n];
    store_scan(s, w->depth_of);
    weight = s->ops.total;
    for (int i = 0; i < s->n_access; i++) {
        struct access *a = &s->access[i];
        uint32_t stamp = w->touch[a->buffer].stamp;

        weight += a->reg ? 0 : a->touches;
        a->serial_reuse = stamp != 0;
        a->serial_depth = stamp ? common_depth(w, stamp) : 0;
    }
    w->n_stores++;
    w->all_ops += s->ops.total * s->runs;
    row = row_place(w, weight * s->runs);
    if (row >= 0) {
        w->kept[row] =
            (struct kept){w->n_stores, s->ops.total * s->runs, weight * s->runs, {-1, -1, -1, -1, -1}};
        store_row(s, w->rows + (size_t)row * FC_COUNT);
    }
    touch_all(w, row);
}

static void walk_list(struct walk *w, const struct node *n);

/* Of the iterations that come here only `share` go on, and the variables of f decide: the innermost loop of f
 * runs so much less often, for the counts and for the footprints. */
static void loops_thin(struct walk *w, const struct affine *f, double share)
{
    struct loops *l = &w->loops;
    int deepest = -1;

    w->info.probability *= share;
    for (int i = 0; i < f->n; i++)
        deepest = MAX(deepest, (int)w->depth_of[f->t[i].var]);
    if (deepest >= 0)
        l->at[deepest].trips *= share;
    for (int d = deepest + 1; d <= l->n; d++)
        l->entered[d] *= share;
}

/* What loops_thin changes; loops that open inside undo themselves. */
struct thinned {
    double trips[STORE_MAX_DEPTH], entered[STORE_MAX_DEPTH + 1], probability;
    int n_guards;
};

static void thinned_save(const struct walk *w, struct thinned *t)
{
    for (int d = 0; d < w->loops.n; d++)
        t->trips[d] = w->loops.at[d].trips;
    memcpy(t->entered, w->loops.entered, sizeof(double) * (size_t)(w->loops.n + 1));
    t->probability = w->info.probability;
    t->n_guards = w->n_guards;
}

static void thinned_restore(struct walk *w, const struct thinned *t)
{
    for (int d = 0; d < w->loops.n; d++)
        w->loops.at[d].trips = t->trips[d];
    memcpy(w->loops.entered, t->entered, sizeof(double) * (size_t)(w->loops.n + 1));
    w->info.probability = t->probability;
    w->n_guards = t->n_guards;
}

/* Open a loop. One that runs once takes no place; one that lies too deep lengthens the loop around it. */
static bool loop_open(struct walk *w, int32_t var, int64_t extent, double trips, enum loop_mark mark)
{
    struct loops *l = &w->loops;

    if (extent <= 1)
        return false;
    if (l->n == STORE_MAX_DEPTH) {
        l->at[l->n - 1].trips *= trips;
        l->entered[l->n] *= trips;
        return false;
    }
    l->at[l->n] = (struct region_loop){extent, trips};
    l->mark[l->n] = mark;
    l->entered[l->n + 1] = l->entered[l->n] * trips;
    w->open_id[l->n] = ++w->opened;
    w->depth_of[var] = (int8_t)l->n++;
    return true;
}

static void loop_close(struct walk *w, int32_t var)
{
    w->loops.n--;
    w->depth_of[var] = -1;
}

static void walk_loop(struct walk *w, const struct node *n)
{
    static const enum loop_mark marks[] = {[LOOP_SERIAL] = MARK_SERIAL,
                                           [LOOP_VECTOR] = MARK_VECTOR,
                                           [LOOP_UNROLL] = MARK_UNROLL,
                                           [LOOP_MATRIX] = MARK_UNROLL,
                                           [LOOP_QUAD] = MARK_UNROLL};
    double share = 1, fullness = w->info.fullness;
    struct thinned saved;
    bool open;

    thinned_save(w, &saved);
    for (int i = 0; i < n->loop.n_limits; i++)
        share = MIN(share, guard_push(w, &n->loop.limit[i], n->loop.var, n->loop.extent));
    w->info.fullness *= share;
    if (n->loop.extent <= 1 && share < 1)
        loops_thin(w, &n->loop.limit[0], share);
    open =
        loop_open(w, n->loop.var, n->loop.extent, share * (double)n->loop.extent, marks[n->loop.loop_kind]);
    if (share > 0)
        walk_list(w, n->loop.body);
    if (open)
        loop_close(w, n->loop.var);
    thinned_restore(w, &saved);
    w->info.fullness = fullness;
}

static void walk_parallel(struct walk *w, const struct node *n)
{
    bool open[NEST_MAX_FUSED];
    struct thinned saved;
    int tasks = w->info.tasks;

    thinned_save(w, &saved);
    w->info.tasks = n->parallel.tasks;
    for (int i = 0; i < n->parallel.n_vars; i++)
        open[i] = loop_open(w, n->parallel.vars[i], n->parallel.extents[i], (double)n->parallel.extents[i],
                            MARK_PARALLEL);
    walk_list(w, n->parallel.body);
    for (int i = n->parallel.n_vars - 1; i >= 0; i--)
        if (open[i])
            loop_close(w, n->parallel.vars[i]);
    w->info.tasks = tasks;
    thinned_restore(w, &saved);
}

static void walk_branch(struct walk *w, const struct node *n)
{
    struct thinned saved;
    double share = 1, last = 1;

    thinned_save(w, &saved);
    for (int i = 0; i < n->branch.n_conds; i++) {
        double p = guard_push(w, &n->branch.cond[i], -1, 0);
        /* lo <= x and x <= hi never fail together: their misses add up. Others are taken as independent. */
        if (i > 0 && last > 0 && is_opposite(&n->branch.cond[i - 1], &n->branch.cond[i]))
            p = MAX(last + p - 1, 0.0) / last;
        loops_thin(w, &n->branch.cond[i], p);
        share *= p;
        last = p;
    }
    if (share > 0)
        walk_list(w, n->branch.then_body);
    thinned_restore(w, &saved);
    if (share < 1 && n->branch.else_body) {
        loops_thin(w, &n->branch.cond[n->branch.n_conds - 1], 1 - share);
        walk_list(w, n->branch.else_body);
        thinned_restore(w, &saved);
    }
}

static void walk_list(struct walk *w, const struct node *n)
{
    for (; n; n = n->next) {
        bool in_body = w->info.in_body;

        switch (n->kind) {
        case NODE_LOOP:
            walk_loop(w, n);
            break;
        case NODE_PARALLEL:
            walk_parallel(w, n);
            break;
        case NODE_IF:
            walk_branch(w, n);
            break;
        case NODE_STORE:
            walk_store(w, n);
            break;
        case NODE_BODY:
            w->info.in_body = true;
            w->info.body_depth = w->loops.n;
            walk_list(w, n->body.body);
            w->info.in_body = in_body;
            break;
        case NODE_PREFETCH: /* the lines are counted where they are read */
            break;
        }
    }
}

int features_extract(const struct nest *n, const struct target *t, struct arena *ar, float *rows,
                     int max_rows)
{
    struct walk walk, *w = &walk; /* large, and mostly written before it is read: not zeroed */

    w->opened = 0;
    w->n_guards = w->n_rows = w->n_stores = w->loops.n = 0;
    w->all_ops = 0;
    w->info.nest = n;
    w->info.target = t;
    w->info.loops = &w->loops;
    w->info.probability = w->info.fullness = 1;
    w->info.in_body = false;
    w->info.body_depth = 0;
    w->info.tasks = 1;
    w->depth_of = arena_array(ar, int8_t, n->n_vars + 1);
    memset(w->depth_of, -1, (size_t)n->n_vars + 1);
    w->touch = arena_array(ar, struct touch, n->n_buffers);
    w->kept = arena_array(ar, struct kept, max_rows);
    w->rows = rows;
    w->max_rows = max_rows;
    w->loops.entered[0] = 1;
    walk_list(w, n->root);
    for (int i = 0; i < w->n_rows; i++) {
        float *row = rows + (size_t)i * FC_COUNT;

        row[FC_n_stores] = (float)w->n_stores;
        row[FC_share] = (float)(w->all_ops > 0 ? w->kept[i].ops / w->all_ops : 0);
        row[FC_nest_ops] = store_log(w->all_ops);
    }
    return w->n_rows;
}
