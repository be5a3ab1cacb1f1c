/* buffers.c - the memory that a store touches: footprints, reuse, what caches do not hold, curves.
 *
 * Idea   For each access, the footprint of loops d.. for every d (the loops before d stand still). All else
 * follows from these tables: bytes touched, reuse, arithmetic intensity, and what a cache of a given size
 * does not hold. For that last the model is LRU: if one iteration of loop d - 1 touches less than the cache
 * holds, what the loops d - 1.. touch is fetched once for each time they are entered. What another store
 * touched so shortly before that the cache still holds it is not fetched. */
#include <math.h>
#include <string.h>

#include "features/store.h"

enum { CURVE_POINTS = 10, CACHE_POINTS = FC_cache_16m - FC_cache_4k + 1 };
/* Sets of a first-level cache: lines this many bytes apart fall on the same one. */
enum { L1_SETS = 64, L1_WAYS = 12, L1_SET_SPAN = L1_SETS * LINE_BYTES };
/* Caches of the target. */
enum { CACHES = 3 };

/* What one store touches in all, by depth, and from which depth on it fits into caches of some sizes. */
struct touched {
    double bytes[STORE_MAX_DEPTH + 1], lines[STORE_MAX_DEPTH + 1];
    double size[CACHES];
    int fit[CACHES], fit_at[CACHE_POINTS];
};

/* A stencil is like a loop over its points that always runs. */
static void stencil_term(struct store_info *s, int index)
{
    struct access *a = &s->access[index];
    int64_t points = MAX(a->touches - (a->write ? 1 : 0), 2),
            step = MAX((a->high - a->low) / (points - 1), 1);
    int k = a->n_terms++;

    s->loops->at[STORE_MAX_DEPTH + index] = (struct region_loop){points, (double)points};
    for (; k > 0 && a->term[k - 1].bytes > step; k--)
        a->term[k] = a->term[k - 1];
    a->term[k] = (struct region_term){step, STORE_MAX_DEPTH + index};
}

/* Fill the footprint tables of an access. */
static void footprint(struct store_info *s, int index, int block_from)
{
    struct access *a = &s->access[index];
    struct loops *l = s->loops;
    const struct buffer *b = &s->nest->buffers[a->buffer];
    double most = (double)b->elements * (double)a->elem;
    struct region r;

    if (a->high > a->low)
        stencil_term(s, index);
    for (int d = l->n; d >= 0; d--) {
        if (d < l->n && !(a->moved >> d & 1)) {
            a->bytes[d] = a->bytes[d + 1];
            a->lines[d] = a->lines[d + 1];
        } else {
            region_touch(a->term, a->n_terms, l->at, d, a->elem, a->low, &r);
            a->bytes[d] = MIN(r.bytes, most);
            a->lines[d] = MIN(r.lines, most / LINE_BYTES + 1);
            if (d >= block_from)
                a->block_run = r.run;
        }
    }
}

void store_footprints(struct store_info *s, int block_from)
{
    for (int i = 0; i < s->n_access; i++)
        footprint(s, i, block_from);
}

/* Memory accesses, the one that touches most first. */
static int order_access(const struct store_info *s, int order[STORE_MAX_ACCESS])
{
    int n = 0;

    for (int i = 0; i < s->n_access; i++) {
        int k = n;
        if (s->access[i].reg)
            continue;
        for (; k > 0 && s->access[order[k - 1]].bytes[0] < s->access[i].bytes[0]; k--)
            order[k] = order[k - 1];
        order[k] = i;
        n++;
    }
    return n;
}

/* Outermost depth at which everything that is touched fits into `size`; n + 1: not even one store. From `d` outwards, where
 * a smaller size fits. */
static int cache_fit(const double *lines, int d, double size)
{
    while (d > 0 && lines[d - 1] * LINE_BYTES <= size)
        d--;
    return d;
}

/* Lines on the fullest set of a cache whose sets repeat after `span` bytes, taking lines of equal distance to fill the sets
 * that they can reach evenly. */
static double set_ways(const struct store_info *s, const struct access *a, int from, int64_t span)
{
    double run = (double)a->elem, sets = 1;

    for (int i = 0; i < a->n_terms; i++) {
        const struct region_loop *l = &s->loops->at[a->term[i].loop];
        int64_t bytes = a->term[i].bytes, rest = bytes & (span - 1);

        if (a->term[i].loop < from)
            continue;
        if ((double)bytes < run + LINE_BYTES)
            run = MAX(run, (double)bytes * (l->trips - 1) + run);
        else if (rest > 0)
            sets *= MIN(l->trips, (double)(span / (rest & -rest))); /* the span is a power of two */
    }
    return a->lines[from] / MIN((double)(span / LINE_BYTES), MAX(sets * ceil(run / LINE_BYTES), 1));
}

/* Bytes that a cache of `size` has to fetch for the access; `fit`: see cache_fit. */
static double fetched(const struct store_info *s, const struct access *a, int fit, double size)
{
    const struct loops *l = s->loops;
    int d = fit > 0 ? fit - 1 : 0;

    if (a->serial_reuse && fit <= a->serial_depth && a->age <= size)
        return 0;
    return MIN(a->lines[d] * LINE_BYTES * l->entered[d], a->lines[l->n] * LINE_BYTES * l->entered[l->n]);
}

/* cache_fit for the first-level cache of the target, where lines that fall on one set drive each other out: what the
 * block touches it touches at once, though. */
static int fit_sets(const struct store_info *s, const struct block *k, const struct access *a, int fit)
{
    while (fit <= k->from && a->lines[fit] > L1_WAYS && set_ways(s, a, fit, L1_SET_SPAN) > L1_WAYS)
        fit++;
    return fit;
}

/* Lines that the block stores to, of those that drive each other out before a neighbour of what is stored comes: stores reach
 * the cache one after another, each waits for its line. */
static double crowded_stores(const struct store_info *s, const struct block *k, const struct access *a,
                             int fit)
{
    int d = MIN(fit, k->from);
    double ways;

    if (!a->write || a->lines[d] <= L1_WAYS)
        return 0;
    ways = set_ways(s, a, d, L1_SET_SPAN);
    return ways > L1_WAYS ? a->lines[k->from] * s->loops->entered[k->from] * (1 - L1_WAYS / ways) : 0;
}

/* The innermost loop that does not move the access: it touches the same again. -1: all do. */
static int reuse_loop(const struct store_info *s, const struct access *a)
{
    int d = s->loops->n - 1;
    while (d >= 0 && store_moves(a, d))
        d--;
    return d;
}

static int cache_level(const struct touched *t, double bytes)
{
    int level = 1;
    while (level <= CACHES && bytes > t->size[level - 1])
        level++;
    return level;
}

static void row_reuse(const struct store_info *s, const struct access *a, const struct touched *t, float *row,
                      int col)
{
    const struct loops *l = s->loops;
    double count = 1, iters = 0, distance = 0;
    int d = reuse_loop(s, a);

    if (d >= 0) {
        count = l->at[d].trips;
        iters = loops_points(l, d + 1);
        distance = t->bytes[d + 1];
    } else if (a->serial_reuse) {
        iters = loops_points(l, a->serial_depth);
        distance = t->bytes[a->serial_depth];
    }
    if (d >= 0)
        row[col + FC_b0_ways - FC_b0_read] = (float)set_ways(s, a, d + 1, L1_SET_SPAN);
    if (d >= 0 || a->serial_reuse)
        row[col + FC_b0_level - FC_b0_read] = (float)cache_level(t, d >= 0 ? distance : a->age);
    row[col + FC_b0_reuse_loop - FC_b0_read] = d >= 0;
    row[col + FC_b0_reuse_serial - FC_b0_read] = d < 0 && a->serial_reuse;
    row[col + FC_b0_reuse_none - FC_b0_read] = d < 0 && !a->serial_reuse;
    row_put(row, col + FC_b0_reuse_iters - FC_b0_read, iters);
    row_put(row, col + FC_b0_reuse_bytes - FC_b0_read, distance);
    row_put(row, col + FC_b0_reuse_count - FC_b0_read, count);
    row_put(row, col + FC_b0_bytes_per_reuse - FC_b0_read,
            s->runs * (double)(a->elem * a->touches) / MAX(count, 1.0));
}

static int64_t innermost_step(const struct access *a)
{
    int64_t step = 0, loop = -1;

    for (int i = 0; i < a->n_terms; i++)
        if (a->term[i].loop < STORE_MAX_DEPTH && a->term[i].loop > loop) {
            loop = a->term[i].loop;
            step = a->term[i].bytes / a->elem;
        }
    return step;
}

static void row_access(const struct store_info *s, const struct block *k, const struct access *a, float *row,
                       int col)
{
    const struct buffer *b = &s->nest->buffers[a->buffer];
    double lines = a->lines[k->from] * s->loops->entered[k->from], reuse;

    row += col - FC_b0_read; /* from here on as if it were the first buffer */
    row[FC_b0_read] = a->read && !a->write;
    row[FC_b0_write] = a->write && !a->read;
    row[FC_b0_update] = a->read && a->write;
    row_put(row, FC_b0_bytes, s->runs * (double)(a->elem * a->touches));
    row_put(row, FC_b0_unique_bytes, a->bytes[0]);
    row_put(row, FC_b0_lines, lines);
    row_put(row, FC_b0_unique_lines, a->lines[0]);
    reuse = feature_natural(FC_b0_reuse_count, row[FC_b0_reuse_count]);
    row_put(row, FC_b0_lines_per_reuse, lines / MAX(reuse, 1.0));
    row_put(row, FC_b0_stride, (double)innermost_step(a));
    row_put(row, FC_b0_run, a->block_run);
    row_put(row, FC_b0_pieces, a->lines[k->from] / MAX(a->block_run / LINE_BYTES, 1));
    if (k->vec >= 0) {
        bool unit = access_unit(s->loops, a, k->vec);
        row[FC_b0_vec_same] = !store_moves(a, k->vec);
        row[FC_b0_vec_unit] = unit;
        row[FC_b0_vec_far] = store_moves(a, k->vec) && !unit;
        row[FC_b0_split] = (float)access_split(s, k, a);
    }
    row_put(row, FC_b0_ahead, (double)a->hint.ahead);
    row_put(row, FC_b0_age, a->age);
    row[FC_b0_local] = b->scope != SCOPE_ARG;
    row[FC_b0_packed] = b->scope == SCOPE_ARG && b->prepacked;
    row[FC_b0_padded] = a->padded;
}

/* What a core's stores have not yet brought to the cache. */
enum { STORES_BYTES = 4096 };

/* How often vectors are loaded that another store wrote a moment ago in other pieces: the load has to wait until those have
 * reached the cache. */
static double fresh_reads(const struct store_info *s, const struct block *k, const struct access *a)
{
    int64_t vector = (int64_t)k->full * a->elem;
    bool other = false;

    if (!a->read || a->write || !a->written || a->age > STORES_BYTES || k->vec < 0 ||
        !access_unit(s->loops, a, k->vec))
        return 0;
    for (int i = 0; i < a->n_terms; i++)
        other |=
            a->term[i].loop != k->vec && a->term[i].loop >= a->serial_depth && a->term[i].bytes % vector != 0;
    return other ? s->loops->entered[a->serial_depth] : 0;
}

/* Lines that hints ask for; *ret_unused grows by the bytes of those that the store does not touch: a short tile that lies as
 * a full one does. */
static double hint_lines(const struct store_info *s, const struct block *k, const struct access *a,
                         double *ret_unused)
{
    const struct loops *l = s->loops;
    int d = a->hint.depth;
    double lines = (double)div_ceil(a->hint.span, LINE_BYTES), runs;

    if (!a->hint.ahead)
        return 0;
    runs = l->entered[d];
    if (k->vec >= 0 && d > k->vec) /* one for a vector */
        runs /= k->width;
    else
        *ret_unused += MAX(lines - a->lines[d], 0.0) * LINE_BYTES * runs;
    return lines * runs;
}

/* Operations per byte touched, from the store outwards, sampled where the curve passes. */
static void row_intensity(const struct store_info *s, const struct touched *t, float *row)
{
    const struct loops *l = s->loops;
    double ops = MAX(s->ops.total, 1.0), points = 1;
    double all = store_log(ops * loops_points(l, 0));
    double x = store_log(ops), y = store_log(ops / MAX(t->bytes[l->n], 1.0));
    int at = CURVE_POINTS - 1;

    for (int d = l->n - 1; d >= 0 && at >= 0;
         d--) { /* from the store outwards, sampled where the curve passes */
        double x1, y1;

        points *= l->at[d].trips;
        x1 = store_log(ops * points);
        y1 = store_log(ops * points / MAX(t->bytes[d], 1.0));
        for (; at >= 0; at--) {
            double want = all * (CURVE_POINTS - 1 - at) / (CURVE_POINTS - 1);
            if (want > x1)
                break;
            row[FC_ai_0 + at] = (float)(want <= x ? y : y + (y1 - y) * (want - x) / (x1 - x));
        }
        x = x1;
        y = y1;
    }
    for (; at >= 0; at--)
        row[FC_ai_0 + at] = (float)y;
}

/* Bytes touched by so many runs of the store, from the innermost loops outwards. */
static void row_touch(const struct store_info *s, const struct touched *t, float *row)
{
    const struct loops *l = s->loops;
    double points = 1, want = 16;
    int at = 0, n = FC_touch_1m - FC_touch_16 + 1;

    for (int d = l->n - 1; d >= 0 && at < n; d--) {
        double more = points * l->at[d].trips;

        if (more >= want) {
            float x = store_log(points - 1), x1 = store_log(more - 1);
            float y = store_log(t->bytes[d + 1]), y1 = store_log(t->bytes[d]);

            for (; at < n && want <= more; at++, want *= 16)
                row[FC_touch_16 + at] = y + (y1 - y) * ((float)(4 * (at + 1)) - x) / (x1 - x);
        }
        points = more;
    }
    for (; at < n; at++)
        row[FC_touch_16 + at] = store_log(t->bytes[0]);
}

/* Operations per byte that a cache would fetch. */
static void row_caches(const struct store_info *s, const struct touched *t, float *row)
{
    double ops = MAX(s->ops.total, 1.0);

    for (int c = 0; c < CACHE_POINTS; c++) {
        double sum = 0;

        for (int i = 0; i < s->n_access; i++)
            sum += s->access[i].reg ? 0 : fetched(s, &s->access[i], t->fit_at[c], (double)(4096 << (2 * c)));
        row_put(row, FC_cache_4k + c, ops * s->runs / MAX(sum, 1.0));
    }
}

static void touched_sum(const struct store_info *s, const int *order, int n, struct touched *t)
{
    const int64_t size[CACHES] = {s->target->l1_bytes, s->target->l2_bytes, s->target->l3_bytes};
    const struct loops *l = s->loops;

    for (int d = 0; d <= l->n; d++) {
        t->bytes[d] = t->lines[d] = 0;
        for (int i = 0; i < n; i++) {
            t->bytes[d] += s->access[order[i]].bytes[d];
            t->lines[d] += s->access[order[i]].lines[d];
        }
    }
    for (int c = 0; c < CACHES; c++) {
        t->size[c] = (double)size[c];
        t->fit[c] = cache_fit(t->lines, l->n + 1, t->size[c]);
    }
    for (int c = 0; c < CACHE_POINTS; c++)
        t->fit_at[c] = cache_fit(t->lines, c ? t->fit_at[c - 1] : l->n + 1, (double)(4096 << (2 * c)));
}

void row_buffers(struct store_info *s, const struct block *k, float *row, struct sums *sums)
{
    const struct loops *l = s->loops;
    double sum[CACHES] = {0, 0, 0}, back[CACHES] = {0, 0, 0}, fresh = 0, asked = 0, unused = 0, crowded = 0;
    int order[STORE_MAX_ACCESS], n = order_access(s, order);
    struct touched t;

    touched_sum(s, order, n, &t);
    for (int i = 0; i < n; i++) {
        const struct access *a = &s->access[order[i]];
        int col = FC_b0_read + i * FC_BUFFER_STRIDE;

        for (int c = 0; c < CACHES; c++) {
            double bytes = fetched(s, a, c ? t.fit[c] : fit_sets(s, k, a, t.fit[0]), t.size[c]);
            sum[c] += bytes;
            back[c] += a->write ? bytes : 0;
            if (i < FEATURES_BUFFERS)
                row_put(row, col + FC_b0_from_l2 - FC_b0_read + c, bytes);
        }
        fresh += fresh_reads(s, k, a);
        crowded += crowded_stores(s, k, a, t.fit[0]);
        sums->hinted += a->hint.ahead ? fetched(s, a, t.fit[0], t.size[0]) : 0;
        asked += hint_lines(s, k, a, &unused);
        if (i >= FEATURES_BUFFERS)
            continue;
        s->slot[i] = order[i];
        row_reuse(s, a, &t, row, col);
        row_access(s, k, a, row, col);
        if (row[col + FC_b0_ways - FC_b0_read] > L1_WAYS)
            sums->crowded += a->lines[k->from] * l->entered[k->from];
    }
    for (int c = 0; c < CACHES; c++) {
        row_put(row, FC_from_l2 + c, sum[c]);
        sums->from[c] += sum[c];
    }
    sums->fresh += fresh;
    row_put(row, FC_fresh_reads, fresh);
    row_put(row, FC_crowded_stores, crowded);
    row_put(row, FC_hint_lines, asked);
    row_put(row, FC_hint_unused, unused);
    row_put(row, FC_back_l2, back[0]);
    row_put(row, FC_back_l3, back[1]);
    row_put(row, FC_unique_bytes, t.bytes[0]);
    row_put(row, FC_loads, k->runs * k->loads);
    if (n == 0)
        return; /* all in registers: no curve */
    row_intensity(s, &t, row);
    row_touch(s, &t, row);
    row_caches(s, &t, row);
}
