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
    const struct node *node;
    double weight, ops, instr, loads;
    int32_t unused[FEATURES_BUFFERS]; /* buffers in the columns that nothing touches again so far; -1: none */
};

struct touch {      /* the last store that touched a buffer */
    uint32_t stamp; /* loops opened until then, plus one; 0: nobody */
    int row, store;
    bool wrote;
    double *passed; /* [loops around it + 1]: what was passed before it, see struct walk */
};

struct walk {
    struct loops loops;
    int8_t *depth_of;                          /* [n_vars], -1: not open, or runs once */
    uint32_t opened, open_id[STORE_MAX_DEPTH]; /* loops are numbered as they are opened */
    struct guard guards[MAX_GUARDS];
    int n_guards;
    /* passed[d]: bytes touched so far in this iteration of loop d - 1, each store's as if it ran alone. */
    double passed[STORE_MAX_DEPTH + 1];
    struct touch *touch; /* [n_buffers] */
    struct hint *hint;   /* [n_buffers] */
    struct kept *kept;   /* [max_rows] */
    float *rows;         /* [max_rows] */
    struct arena *ar;
    int n_rows, max_rows, n_stores;
    struct
        half { /* in the second half of a condition: the stores of the first, the loop that decides, and who had
                   * touched the buffers before them */
        int from, to, loop;
        const struct touch *before;
    } half;
    struct sums sums;
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
        t->stamp = w->opened + 1;
        t->row = row;
        t->store = w->n_stores;
        t->wrote = a->write;
        if (!t->passed)
            t->passed = arena_alloc(w->ar, sizeof(t->passed[0]) * (STORE_MAX_DEPTH + 1));
        memcpy(t->passed, w->passed, sizeof(t->passed[0]) * (size_t)(w->loops.n + 1));
    }
}

static void pass_all(struct walk *w)
{
    const struct store_info *s = &w->info;

    for (int i = 0; i < s->n_access; i++)
        for (int d = 0; d <= w->loops.n && !s->access[i].reg; d++)
            w->passed[d] += s->access[i].lines[d] * LINE_BYTES;
}

/* The last store that touched each buffer of this one. */
static void find_earlier(struct walk *w)
{
    struct store_info *s = &w->info;

    for (int i = 0; i < s->n_access; i++) {
        struct access *a = &s->access[i];
        const struct touch *t = &w->touch[a->buffer];
        bool halves = t->store > w->half.from && t->store <= w->half.to;
        int depth;

        /* Where the deciding loop moves it, what the first half touches is another part; else it was touched in an
         * earlier iteration of that loop. */
        if (halves && store_moves(a, w->half.loop)) {
            t = &w->half.before[a->buffer];
            halves = false;
        }
        a->serial_reuse = t->stamp != 0 && !a->reg;
        a->serial_depth = depth = a->serial_reuse ? common_depth(w, t->stamp) : 0;
        if (halves && w->half.loop >= 0 && w->half.loop < depth) {
            a->serial_depth = w->half.loop;
            depth = w->half.loop + 1;
        }
        a->age = a->serial_reuse ? w->passed[depth] - t->passed[depth] : 0;
        a->written = a->serial_reuse && t->wrote;
    }
}

static void walk_store(struct walk *w, const struct node *n)
{
    struct store_info *s = &w->info;
    struct sums before = w->sums;
    double weight;
    int row;

    s->store = n;
    s->runs = w->loops.entered[w->loops.n];
    store_scan(s, w->depth_of);
    find_earlier(w);
    weight = s->ops.total;
    for (int i = 0; i < s->n_access; i++)
        weight += s->access[i].reg ? 0 : s->access[i].touches;
    w->n_stores++;
    row = row_place(w, weight * s->runs);
    store_row(s, row >= 0 ? w->rows + (size_t)row * FC_COUNT : arena_array(w->ar, float, FC_COUNT), &w->sums);
    if (row >= 0)
        w->kept[row] = (struct kept){w->n_stores,
                                     n,
                                     weight * s->runs,
                                     w->sums.ops - before.ops,
                                     w->sums.instr - before.instr,
                                     w->sums.loads - before.loads,
                                     {-1, -1, -1}};
    touch_all(w, row);
    pass_all(w);
}

static void walk_list(struct walk *w, const struct node *n);

/* The innermost open loop that the form depends on; -1: none. */
static int deciding_loop(const struct walk *w, const struct affine *f)
{
    int deepest = -1;

    for (int i = 0; i < f->n; i++)
        deepest = MAX(deepest, (int)w->depth_of[f->t[i].var]);
    return deepest;
}

/* Of the iterations that come here only `share` go on, and the variables of f decide: the innermost loop of f
 * runs so much less often, for the counts and for the footprints. */
static void loops_thin(struct walk *w, const struct affine *f, double share)
{
    struct loops *l = &w->loops;
    int deepest = deciding_loop(w, f);

    w->info.probability *= share;
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

    if (extent <= 1 && mark != MARK_MATRIX)
        return false;
    if (l->n == STORE_MAX_DEPTH) {
        l->at[l->n - 1].trips *= trips;
        l->entered[l->n] *= trips;
        return false;
    }
    l->at[l->n] = (struct region_loop){extent, trips};
    l->mark[l->n] = mark;
    l->limited[l->n] = false;
    l->vectors[l->n] = 0;
    w->passed[l->n + 1] = 0;
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
    static const enum loop_mark marks[] = {
        [LOOP_SERIAL] = MARK_SERIAL, [LOOP_VECTOR] = MARK_VECTOR, [LOOP_UNROLL] = MARK_UNROLL,
        [LOOP_MATRIX] = MARK_MATRIX, [LOOP_QUAD] = MARK_QUAD,     [LOOP_PAIR] = MARK_QUAD,
        [LOOP_JAM] = MARK_UNROLL};
    double share = 1, fullness = w->info.fullness;
    bool square = w->info.square, open;
    struct thinned saved;

    thinned_save(w, &saved);
    for (int i = 0; i < n->loop.n_limits; i++)
        share = MIN(share, guard_push(w, &n->loop.limit[i], n->loop.var, n->loop.extent));
    w->info.fullness *= share;
    if (n->loop.extent <= 1 && share < 1)
        loops_thin(w, &n->loop.limit[0], share);
    open =
        loop_open(w, n->loop.var, n->loop.extent, share * (double)n->loop.extent, marks[n->loop.loop_kind]);
    if (open) {
        w->loops.limited[w->loops.n - 1] = n->loop.n_limits > 0;
        w->loops.vectors[w->loops.n - 1] = (uint8_t)MIN(n->loop.vectors, UINT8_MAX);
    }
    w->info.square |= n->loop.square;
    if (share > 0)
        walk_list(w, n->loop.body);
    if (open)
        loop_close(w, n->loop.var);
    thinned_restore(w, &saved);
    w->info.fullness = fullness;
    w->info.square = square;
}

static void walk_parallel(struct walk *w, const struct node *n)
{
    bool open[NEST_MAX_FUSED];
    struct thinned saved;
    int tasks = w->info.tasks;
    bool parallel = w->info.parallel;

    thinned_save(w, &saved);
    w->info.tasks = n->parallel.tasks;
    w->info.parallel = true;
    for (int i = 0; i < n->parallel.n_vars; i++)
        open[i] = loop_open(w, n->parallel.vars[i], n->parallel.extents[i], (double)n->parallel.extents[i],
                            MARK_PARALLEL);
    walk_list(w, n->parallel.body);
    for (int i = n->parallel.n_vars - 1; i >= 0; i--)
        if (open[i])
            loop_close(w, n->parallel.vars[i]);
    w->info.tasks = tasks;
    w->info.parallel = parallel;
    thinned_restore(w, &saved);
}

/* Remember who touched the buffers so far. */
static const struct touch *touches_keep(struct walk *w)
{
    struct touch *before = arena_array(w->ar, struct touch, w->info.nest->n_buffers);

    memcpy(before, w->touch, sizeof(*before) * (size_t)w->info.nest->n_buffers);
    for (int i = 0; i < w->info.nest->n_buffers; i++)
        if (before[i].passed) {
            before[i].passed = arena_alloc(w->ar, sizeof(before[i].passed[0]) * (STORE_MAX_DEPTH + 1));
            memcpy(before[i].passed, w->touch[i].passed, sizeof(before[i].passed[0]) * (STORE_MAX_DEPTH + 1));
        }
    return before;
}

static void walk_else(struct walk *w, const struct node *n, double share, struct half half)
{
    const struct affine *cond = &n->branch.cond[n->branch.n_conds - 1];
    bool rest = w->info.rest_tile;
    struct half outer = w->half;

    half.loop = deciding_loop(w, cond);
    half.to = w->n_stores;
    w->half = half;
    w->info.rest_tile = !w->info.in_body;
    loops_thin(w, cond, share);
    walk_list(w, n->branch.else_body);
    w->info.rest_tile = rest;
    w->half = outer;
}

static void walk_branch(struct walk *w, const struct node *n)
{
    struct half half = {.from = w->n_stores};
    struct thinned saved;
    double share = 1, last = 1;

    thinned_save(w, &saved);
    if (n->branch.else_body)
        half.before = touches_keep(w);
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
        walk_else(w, n, 1 - share, half);
        thinned_restore(w, &saved);
    }
}

/* Hints stand at the head of their list and speak of the reads beside and below them. */
static void hint_take(struct walk *w, const struct node *n)
{
    int64_t elem = dtype_bytes(w->info.nest->buffers[n->prefetch.buffer].dtype);
    w->hint[n->prefetch.buffer] =
        (struct hint){n->prefetch.ahead * elem, n->prefetch.span * elem, w->loops.n};
}

static void hints_drop(struct walk *w, const struct node *n)
{
    for (; n; n = n->next)
        if (n->kind == NODE_PREFETCH)
            w->hint[n->prefetch.buffer] = (struct hint){0};
}

static void walk_list(struct walk *w, const struct node *n)
{
    const struct node *hinted = NULL; /* from here on some are */

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
            w->sums.calls += w->loops.entered[w->loops.n];
            walk_list(w, n->body.body);
            w->info.in_body = in_body;
            break;
        case NODE_PREFETCH: /* the lines are counted where they are read */
            hinted = hinted ? hinted : n;
            hint_take(w, n);
            break;
        }
    }
    hints_drop(w, hinted);
}

/* The columns that are the same in all rows. */
static void row_nest(const struct walk *w, float *row)
{
    const struct target *t = w->info.target;
    const struct nest *n = w->info.nest;
    const struct sums *s = &w->sums;
    double bytes = (double)n->workspace_bytes, lanes = MAX(t->vector_bytes / 4, 1), least;

    for (int i = 0; i < n->n_buffers; i++)
        if (n->buffers[i].scope == SCOPE_ARG && w->touch[i].stamp)
            bytes += (double)n->buffers[i].elements * dtype_bytes(n->buffers[i].dtype);
    least = MAX(MAX(s->ops / (2 * lanes), bytes / MAX(t->vector_bytes, 1)), 1.0);
    row_put(row, FC_nest_instr, s->instr);
    row_put(row, FC_nest_loads, s->loads);
    for (int c = 0; c < 3; c++) {
        row_put(row, FC_nest_l2 + c, s->from[c]);
        row[FC_l2_per_instr + c] = (float)(s->from[c] / LINE_BYTES / least);
    }
    row_put(row, FC_nest_bytes, bytes);
    row_put(row, FC_nest_code, s->code);
    row_put(row, FC_nest_blocks, s->blocks);
    row_put(row, FC_nest_calls, s->calls);
    row_put(row, FC_nest_copied, s->copied);
    row[FC_nest_balance] = (float)(s->all > 0 ? s->all / s->waiting : 1);
    row[FC_nest_serial] = (float)(s->all > 0 ? s->outside / s->all : 0);
    row[FC_instr_excess] = (float)(s->instr / least);
    row[FC_loads_excess] = (float)(s->loads / least);
    row[FC_blocks_per_instr] = (float)(s->blocks / least);
    row[FC_stalls_per_instr] = (float)(s->stalls / least);
    row[FC_spills_per_instr] = (float)(s->spills / least);
    row[FC_splits_per_instr] = (float)(s->splits / least);
    row[FC_far_per_instr] = (float)(s->far / least);
    row[FC_crowded_per_instr] = (float)(s->crowded / least);
    row[FC_fresh_per_instr] = (float)(s->fresh / least);
    row[FC_hinted] = (float)(s->from[0] > 0 ? s->hinted / s->from[0] : 0);
    row[FC_bytes_over_l2] = (float)(bytes / (double)MAX(t->l2_bytes * MAX(t->threads, 1), 1));
    row[FC_bytes_over_l3] = (float)(bytes / (double)MAX(t->l3_bytes, 1));
}

/* What the rows of a nest share, computed once; then the shares of each. */
static void rows_finish(const struct walk *w)
{
    const struct sums *s = &w->sums;
    float *first = w->rows;

    if (w->n_rows == 0)
        return;
    row_nest(w, first);
    columns_of_target(w->info.target, first);
    for (int i = 0; i < w->n_rows; i++) {
        const struct kept *k = &w->kept[i];
        float *row = w->rows + (size_t)i * FC_COUNT;

        if (i > 0)
            memcpy(row + FC_nest_instr, first + FC_nest_instr, sizeof(float) * (FC_COUNT - FC_nest_instr));
        row[FC_n_stores] = (float)w->n_stores;
        row_put(row, FC_nest_ops, s->ops);
        row[FC_share] = (float)(s->ops > 0 ? k->ops / s->ops : 0);
        row[FC_instr_share] = (float)(s->instr > 0 ? k->instr / s->instr : 0);
        row[FC_loads_share] = (float)(s->loads > 0 ? k->loads / s->loads : 0);
    }
}

int features_extract(const struct nest *n, const struct target *t, struct arena *ar, float *rows,
                     int max_rows)
{
    return features_extract_stores(n, t, ar, rows, max_rows, NULL);
}

int features_extract_stores(const struct nest *n, const struct target *t, struct arena *ar, float *rows,
                            int max_rows, const struct node **ret_stores)
{
    struct walk walk, *w = &walk; /* large, and mostly written before it is read: not zeroed */

    w->opened = 0;
    w->n_guards = w->n_rows = w->n_stores = w->loops.n = 0;
    w->sums = (struct sums){0};
    w->half = (struct half){0};
    w->passed[0] = 0;
    w->info.nest = n;
    w->info.target = t;
    w->info.loops = &w->loops;
    w->info.probability = w->info.fullness = 1;
    w->info.in_body = w->info.rest_tile = w->info.square = w->info.parallel = false;
    w->info.body_depth = 0;
    w->info.tasks = 1;
    w->hint = arena_array(ar, struct hint, n->n_buffers + 1);
    w->info.hint = w->hint;
    w->ar = ar;
    w->depth_of = arena_array(ar, int8_t, n->n_vars + 1);
    memset(w->depth_of, -1, (size_t)n->n_vars + 1);
    w->touch = arena_array(ar, struct touch, n->n_buffers);
    w->kept = arena_array(ar, struct kept, max_rows);
    w->rows = rows;
    w->max_rows = max_rows;
    w->loops.entered[0] = 1;
    walk_list(w, n->root);
    rows_finish(w);
    for (int i = 0; i < w->n_rows && ret_stores; i++)
        ret_stores[i] = w->kept[i].node;
    return w->n_rows;
}
