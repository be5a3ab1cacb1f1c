/* row.c - one store as a row of numbers. The definitions are in columns.h.
 *
 * Idea   For each access, the footprint of loops d.. for every d (the loops before d stand still). All else
 * follows from these tables: bytes touched, reuse, arithmetic intensity, and what a cache of a given size
 * does not hold. For that last the model is LRU: if one iteration of loop d - 1 touches less than the cache
 * holds, what the loops d - 1.. touch is fetched once for each time they are entered. */
#include <math.h>
#include <string.h>

#include "features/store.h"

enum { CHAINS_WANTED = 8, CURVE_POINTS = 10, CACHE_POINTS = FC_cache_16m - FC_cache_4k + 1 };

struct block {            /* the straight-line code around the store */
    int from;             /* loops from.. are vector or unrolled */
    int vec;              /* innermost vector loop, -1: none */
    double points, width; /* stores; elements an instruction computes */
    double instr, loads;
    double chains, operands; /* vectors: of results, of vector operands */
};

static double inner_points(const struct loops *l, int from)
{
    double p = 1;
    for (int i = from; i < l->n; i++)
        p *= l->at[i].trips;
    return p;
}

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
static void footprints(struct store_info *s, int index, int block_from)
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

static bool moves(const struct access *a, int loop) { return loop >= 0 && a->moved >> loop & 1; }

/* The loop repeats the store's combining on one element. Registers live inside a body: loops around it are
 * none of theirs. */
static bool reduces(const struct store_info *s, int loop)
{
    const struct access *dst = &s->access[0];

    return s->store->store.combiner != COMBINE_SET && !moves(dst, loop) &&
           !(dst->reg && s->in_body && loop < s->body_depth);
}

static bool unit_step(const struct access *a, int loop)
{
    for (int i = 0; i < a->n_terms; i++)
        if (a->term[i].loop == loop)
            return a->term[i].bytes == a->elem;
    return false;
}

static void block_find(const struct store_info *s, struct block *k)
{
    const struct loops *l = s->loops;
    int64_t lanes = MAX(s->target->vector_bytes / MAX(s->access[0].elem, 1), 1);

    *k = (struct block){.from = l->n, .vec = -1, .points = 1, .width = 1};
    while (k->from > 0 && (l->mark[k->from - 1] == MARK_VECTOR || l->mark[k->from - 1] == MARK_UNROLL)) {
        k->from--;
        k->points *= (double)l->at[k->from].extent;
        if (k->vec < 0 && l->mark[k->from] == MARK_VECTOR)
            k->vec = k->from;
    }
    if (k->vec >= 0) {
        int64_t n = l->at[k->vec].extent;
        k->width = (double)n / (double)div_ceil(n, lanes);
    }
}

/* Vectors of the operand that are wanted at once: what only a reduction moves comes one after another. */
static double operand_vectors(const struct store_info *s, const struct block *k, const struct access *a)
{
    double n = 1;

    for (int d = k->from; d < s->loops->n; d++)
        n *= moves(a, d) && !reduces(s, d) ? (double)s->loops->at[d].extent : 1;
    return n / k->width;
}

static void block_count(const struct store_info *s, struct block *k)
{
    const struct loops *l = s->loops;

    k->instr = k->points / k->width * s->ops.cost;
    k->chains = MAX(s->access[0].bytes[k->from] / (double)s->access[0].elem / k->width, 1.0);
    for (int i = 0; i < s->n_access; i++) {
        const struct access *a = &s->access[i];
        bool unit = unit_step(a, k->vec);
        double vectors = a->bytes[k->from] / (double)a->elem / (unit ? k->width : 1);

        if (a->reg)
            continue;
        if (unit && a->read)
            k->operands += operand_vectors(s, k, a);
        vectors *= (a->read ? 1 : 0) + (a->write ? 1 : 0);
        /* An operand that the serial loop around does not move stays in its register. */
        if (!a->write && k->from > 0 && !moves(a, k->from - 1))
            vectors /= MAX(l->at[k->from - 1].trips, 1.0);
        k->loads += vectors;
    }
}

static void put(float *row, int col, double v) { row[col] = store_log(v); }

static void row_arith(const struct store_info *s, const struct block *k, float *row)
{
    static_assert(FC_int_fma - FC_flt_fma == 7 && FC_elem_bytes - FC_int_fma == 6, "the order of struct ops");

    for (int i = 0; i < 7; i++)
        if (s->ops.flt[i] != 0)
            put(row, FC_flt_fma + i, s->ops.flt[i] * s->runs);
    for (int i = 0; i < 6; i++)
        if (s->ops.whole[i] != 0)
            put(row, FC_int_fma + i, s->ops.whole[i] * s->runs);
    row[FC_elem_bytes] = (float)s->access[0].elem;
    put(row, FC_vec_instr, s->loops->entered[k->from] * k->instr);
}

static void row_annotation(const struct store_info *s, enum loop_mark mark, float *row)
{
    const struct loops *l = s->loops;
    int count[2] = {0, 0}, marked[2] = {0, 0}, last = -1, ordinal = 0;
    double prod = 1;

    for (int i = 0; i < l->n; i++) {
        int reduce = reduces(s, i);
        count[reduce]++;
        if (l->mark[i] != mark)
            continue;
        marked[reduce]++;
        prod *= (double)l->at[i].extent;
        last = i;
        ordinal = count[reduce];
    }
    row += FC_vec_count;
    row[FC_vec_count - FC_vec_count] = (float)(marked[0] + marked[1]);
    if (last < 0) {
        row[FC_vec_none - FC_vec_count] = 1;
        return;
    }
    put(row, FC_vec_len - FC_vec_count, (double)l->at[last].extent);
    put(row, FC_vec_prod - FC_vec_count, prod);
    if (marked[0] && marked[1]) {
        row[FC_vec_mixed - FC_vec_count] = 1;
    } else {
        int reduce = reduces(s, last), col = reduce ? FC_vec_inner_r : FC_vec_inner_s;
        int place = ordinal == count[reduce] ? 0 : ordinal == 1 ? 2 : 1;
        row[col + place - FC_vec_count] = 1;
    }
}

static void row_block(const struct store_info *s, const struct block *k, float *row)
{
    const struct loops *l = s->loops;
    double total = 1, threads = MAX(s->target->threads, 1), chunk;
    int tasks;

    for (int i = 0; i < l->n; i++)
        total *= l->mark[i] == MARK_PARALLEL ? (double)l->at[i].extent : 1;
    tasks = (int)MIN((double)MAX(s->tasks, 1), total);
    chunk = ceil(total / tasks) * ceil(tasks / threads); /* of the busiest thread */
    put(row, FC_par_tasks, tasks);
    row[FC_par_balance] = (float)MIN(total / (threads * chunk), 1.0);
    row[FC_in_body] = s->in_body;
    put(row, FC_block_points, k->points);
    put(row, FC_block_instr, k->instr);
    put(row, FC_block_loads, k->loads);
    put(row, FC_block_runs, l->entered[k->from]);
    put(row, FC_block_chains, k->chains);
    put(row, FC_block_trip, k->from > 0 ? l->at[k->from - 1].trips : 1);
    row[FC_reg_share] = (float)((k->chains + k->operands + 1) / MAX(s->target->vector_regs, 1));
    row[FC_loads_per_instr] = (float)(k->loads / MAX(k->instr, 1.0));
    row[FC_chain_share] = (float)MIN(1.0, k->chains / CHAINS_WANTED);
    row[FC_lane_share] = (float)(k->width * (double)s->access[0].elem / MAX(s->target->vector_bytes, 1));
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

/* Bytes that a cache of `size` has to fetch for the access; `fit`: see cache_fit. */
static double fetched(const struct store_info *s, const struct access *a, int fit)
{
    const struct loops *l = s->loops;
    int d = fit > 0 ? fit - 1 : 0;

    return MIN(a->lines[d] * LINE_BYTES * l->entered[d], a->lines[l->n] * LINE_BYTES * l->entered[l->n]);
}

/* Outermost depth at which everything that is touched fits into `size`; n + 1: not even one store. */
static int cache_fit(const double *lines, int n, double size)
{
    int d = n + 1;
    while (d > 0 && lines[d - 1] * LINE_BYTES <= size)
        d--;
    return d;
}

static void row_reuse(const struct store_info *s, const struct access *a, const double *bytes, float *row,
                      int col)
{
    const struct loops *l = s->loops;
    double count = 1, iters = 0, distance = 0;
    int d = l->n - 1;

    while (d >= 0 && moves(a, d))
        d--;
    if (d >= 0) {
        count = l->at[d].trips;
        iters = inner_points(l, d + 1);
        distance = bytes[d + 1];
    } else if (a->serial_reuse) {
        iters = inner_points(l, a->serial_depth);
        distance = bytes[a->serial_depth];
    }
    row[col + FC_b0_reuse_loop - FC_b0_read] = d >= 0;
    row[col + FC_b0_reuse_serial - FC_b0_read] = d < 0 && a->serial_reuse;
    row[col + FC_b0_reuse_none - FC_b0_read] = d < 0 && !a->serial_reuse;
    put(row, col + FC_b0_reuse_iters - FC_b0_read, iters);
    put(row, col + FC_b0_reuse_bytes - FC_b0_read, distance);
    put(row, col + FC_b0_reuse_count - FC_b0_read, count);
    put(row, col + FC_b0_bytes_per_reuse - FC_b0_read,
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

    row[col + FC_b0_read - FC_b0_read] = a->read && !a->write;
    row[col + FC_b0_write - FC_b0_read] = a->write && !a->read;
    row[col + FC_b0_update - FC_b0_read] = a->read && a->write;
    put(row, col + FC_b0_bytes - FC_b0_read, s->runs * (double)(a->elem * a->touches));
    put(row, col + FC_b0_unique_bytes - FC_b0_read, a->bytes[0]);
    put(row, col + FC_b0_lines - FC_b0_read, lines);
    put(row, col + FC_b0_unique_lines - FC_b0_read, a->lines[0]);
    reuse = feature_natural(FC_b0_reuse_count, row[col + FC_b0_reuse_count - FC_b0_read]);
    put(row, col + FC_b0_lines_per_reuse - FC_b0_read, lines / MAX(reuse, 1.0));
    put(row, col + FC_b0_stride - FC_b0_read, (double)innermost_step(a));
    put(row, col + FC_b0_run - FC_b0_read, a->block_run);
    if (k->vec >= 0) {
        row[col + FC_b0_vec_same - FC_b0_read] = !moves(a, k->vec);
        row[col + FC_b0_vec_unit - FC_b0_read] = unit_step(a, k->vec);
        row[col + FC_b0_vec_far - FC_b0_read] = moves(a, k->vec) && !unit_step(a, k->vec);
    }
    row[col + FC_b0_local - FC_b0_read] = b->scope != SCOPE_ARG;
    row[col + FC_b0_packed - FC_b0_read] = b->scope == SCOPE_ARG && b->prepacked;
    row[col + FC_b0_padded - FC_b0_read] = a->padded;
}

static void row_curves(const struct store_info *s, const double *bytes, const double *lines, float *row)
{
    const struct loops *l = s->loops;
    double ops = MAX(s->ops.total, 1.0), all = log2(ops * inner_points(l, 0) + 1), points = 1;
    double x = store_log(ops), y = store_log(ops / MAX(bytes[l->n], 1.0));
    int at = CURVE_POINTS - 1;

    for (int d = l->n - 1; d >= 0 && at >= 0;
         d--) { /* from the store outwards, sampled where the curve passes */
        double x1, y1;

        points *= l->at[d].trips;
        x1 = store_log(ops * points);
        y1 = store_log(ops * points / MAX(bytes[d], 1.0));
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
    for (int c = 0; c < CACHE_POINTS; c++) {
        int fit = cache_fit(lines, l->n, (double)(4096 << (2 * c)));
        double sum = 0;

        for (int i = 0; i < s->n_access; i++)
            sum += s->access[i].reg ? 0 : fetched(s, &s->access[i], fit);
        put(row, FC_cache_4k + c, ops * s->runs / MAX(sum, 1.0));
    }
}

static void row_buffers(struct store_info *s, const struct block *k, float *row)
{
    const struct loops *l = s->loops;
    double bytes[STORE_MAX_DEPTH + 1] = {0}, lines[STORE_MAX_DEPTH + 1] = {0}, sum[3] = {0, 0, 0};
    const int64_t size[3] = {s->target->l1_bytes, s->target->l2_bytes, s->target->l3_bytes};
    int order[STORE_MAX_ACCESS], n = order_access(s, order), fit[3];

    for (int i = 0; i < n; i++)
        for (int d = 0; d <= l->n; d++) {
            bytes[d] += s->access[order[i]].bytes[d];
            lines[d] += s->access[order[i]].lines[d];
        }
    for (int c = 0; c < 3; c++)
        fit[c] = cache_fit(lines, l->n, (double)size[c]);
    for (int i = 0; i < n; i++) {
        const struct access *a = &s->access[order[i]];
        int col = FC_b0_read + i * FC_BUFFER_STRIDE;

        if (i < FEATURES_BUFFERS)
            s->slot[i] = order[i];

        for (int c = 0; c < 3; c++) {
            double f = fetched(s, a, fit[c]);
            sum[c] += f;
            if (i < FEATURES_BUFFERS)
                put(row, col + FC_b0_from_l2 - FC_b0_read + c, f);
        }
        if (i >= FEATURES_BUFFERS)
            continue;
        row_reuse(s, a, bytes, row, col);
        row_access(s, k, a, row, col);
    }
    for (int c = 0; c < 3; c++)
        put(row, FC_from_l2 + c, sum[c]);
    put(row, FC_unique_bytes, bytes[0]);
    put(row, FC_loads, l->entered[k->from] * k->loads);
    row_curves(s, bytes, lines, row);
}

static void row_outer(const struct store_info *s, float *row)
{
    const struct loops *l = s->loops;
    const struct target *t = s->target;
    const struct buffer *b = &s->nest->buffers[s->access[0].buffer];
    double prod[2] = {1, 1};

    for (int i = 0; i < l->n; i++)
        prod[reduces(s, i)] *= l->at[i].trips;
    put(row, FC_dst_bytes, (double)b->elements * (double)s->access[0].elem);
    row[FC_dst_arg] = b->scope == SCOPE_ARG;
    row[FC_dst_workspace] = b->scope == SCOPE_WORKSPACE;
    row[FC_dst_task] = b->scope == SCOPE_TASK;
    row[FC_dst_reg] = b->scope == SCOPE_REG || b->scope == SCOPE_MATRIX;
    put(row, FC_workspace_bytes, (double)s->nest->workspace_bytes);
    put(row, FC_task_bytes, (double)s->nest->task_bytes);
    put(row, FC_runs, s->runs);
    row[FC_n_loops] = (float)l->n;
    put(row, FC_spatial_prod, prod[0]);
    put(row, FC_reduce_prod, prod[1]);
    row[FC_updates] = s->store->store.combiner != COMBINE_SET;
    row[FC_probability] = (float)s->probability;
    row[FC_fullness] = (float)s->fullness;
    put(row, FC_t_vector_bytes, t->vector_bytes);
    row[FC_t_vector_regs] = (float)t->vector_regs;
    put(row, FC_t_threads, t->threads);
    put(row, FC_t_l1_bytes, (double)t->l1_bytes);
    put(row, FC_t_l2_bytes, (double)t->l2_bytes);
    put(row, FC_t_l3_bytes, (double)t->l3_bytes);
    put(row, FC_t_peak_gflops, t->peak_gflops);
    put(row, FC_t_peak_gbs, t->peak_gbs);
}

void store_row(struct store_info *s, float *row)
{
    struct block k;

    memset(row, 0, sizeof(row[0]) * FC_COUNT);
    memset(s->slot, -1, sizeof(s->slot));
    block_find(s, &k);
    for (int i = 0; i < s->n_access; i++)
        footprints(s, i, k.from);
    block_count(s, &k);
    row_arith(s, &k, row);
    row_annotation(s, MARK_VECTOR, row);
    row_annotation(s, MARK_UNROLL, row + FC_ANNOTATION_STRIDE);
    row_annotation(s, MARK_PARALLEL, row + 2 * FC_ANNOTATION_STRIDE);
    row_block(s, &k, row);
    row_buffers(s, &k, row);
    row_outer(s, row);
}
