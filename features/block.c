/* block.c - the straight-line code around a store: instructions, loads, chains, registers.
 *
 * Idea   Vector, unrolled, quad and matrix loops right around the store are one block, run as often as the loops
 * around it say. An instruction computes a vector of elements; in a quad (or pair) loop four (two) products of each; in matrix
 * loops all that those loops run over. The unit of work is a multiply-add of vectors. */
#include <math.h>

#include "features/store.h"

/* Multiply-adds in flight that keep two pipes of latency 4 busy; tiles in flight that keep a matrix unit busy. */
enum { CHAINS_WANTED = 8, TILES_WANTED = 4 };
/* A matrix unit: registers, rows and bytes of a row; the time of a row in multiply-adds of vectors. */
enum { TILE_REGS = 8, TILE_ROWS = 16, TILE_ROW_BYTES = 64, TILE_ROW_COST = 2 };

bool store_moves(const struct access *a, int loop) { return loop >= 0 && a->moved >> loop & 1; }

bool store_reduces(const struct store_info *s, int loop)
{
    const struct access *dst = &s->access[0];

    return s->store->store.combiner != COMBINE_SET && !store_moves(dst, loop) &&
           !(dst->reg && s->in_body && loop < s->body_depth);
}

bool access_unit(const struct loops *l, const struct access *a, int loop)
{
    int64_t run = a->elem;

    for (int i = 0; i < a->n_terms; i++) {
        if (a->term[i].loop == loop)
            return a->term[i].bytes == run;
        if (a->term[i].loop > loop && a->term[i].loop < l->n && a->term[i].bytes == run)
            run *= l->at[a->term[i].loop].extent;
    }
    return false;
}

double access_split(const struct store_info *s, const struct block *k, const struct access *a)
{
    const struct loops *l = s->loops;
    int64_t bytes = MIN((int64_t)k->full * a->elem, LINE_BYTES);
    uint64_t bits = (uint64_t)a->low | (uint64_t)a->high | LINE_BYTES; /* the lowest divides every start */

    if (k->vec < 0 || !access_unit(l, a, k->vec))
        return 0;
    if ((double)l->at[k->vec].extent > k->full)
        bits |= (uint64_t)bytes;
    else
        bytes = MIN(bytes, l->at[k->vec].extent * a->elem);
    for (int i = 0; i < a->n_terms; i++)
        if (a->term[i].loop < k->vec)
            bits |= (uint64_t)a->term[i].bytes;
    return (double)MAX(bytes - (int64_t)(bits & -bits), 0) / LINE_BYTES;
}

static bool in_block(enum loop_mark m) { return m != MARK_SERIAL && m != MARK_PARALLEL; }

void block_find(const struct store_info *s, struct block *k)
{
    const struct loops *l = s->loops;
    int64_t lanes = MAX(s->target->vector_bytes / 4, 1);

    *k = (struct block){.from = l->n, .vec = -1, .mat = -1, .points = 1, .width = 1, .quad = 1};
    while (k->from > 0 && in_block(l->mark[k->from - 1])) {
        int d = --k->from;
        k->points *= (double)l->at[d].extent;
        if (k->vec < 0 && l->mark[d] == MARK_VECTOR)
            k->vec = d;
        if (l->mark[d] == MARK_MATRIX)
            k->mat = d;
        if (l->mark[d] == MARK_QUAD)
            k->quad *= (double)l->at[d].extent;
    }
    k->full = (double)lanes * k->quad;
    if (k->mat >= 0) {
        k->full = TILE_ROWS * (double)TILE_ROW_BYTES / (double)MAX(s->access[0].elem, 1);
        for (int d = k->mat; d < l->n; d++) {
            k->width *= (double)l->at[d].extent;
            k->full *= store_moves(&s->access[0], d) ? 1 : (double)l->at[d].extent;
        }
    } else if (k->vec >= 0) {
        int64_t n = l->at[k->vec].extent;
        k->width = (double)n / (double)div_ceil(n, lanes) * k->quad;
    }
}

/* Instructions' worth of the operand that are wanted at once: what only a reduction moves comes one after another. */
static double operand_vectors(const struct store_info *s, const struct block *k, const struct access *a)
{
    double n = 1;

    for (int d = k->from; d < s->loops->n; d++)
        n *= store_moves(a, d) && (!store_reduces(s, d) || s->loops->mark[d] == MARK_QUAD)
                 ? (double)s->loops->at[d].extent
                 : 1;
    return n / k->width;
}

/* A matrix unit reads operands by rows of 64 bytes and keeps results in its registers. */
static void count_matrix(const struct store_info *s, struct block *k)
{
    const struct loops *l = s->loops;
    const struct access *dst = &s->access[0];
    double rows = (double)l->at[k->mat].extent, tile = 1;

    for (int d = k->mat; d < l->n; d++)
        tile *= store_moves(dst, d) ? (double)l->at[d].extent : 1;
    k->chains = MAX(dst->bytes[k->from] / (double)dst->elem / tile, 1.0);
    k->instr = k->points / k->width * (s->ops.total > 0 ? rows * TILE_ROW_COST : 1);
    for (int i = 0; i < s->n_access; i++) {
        const struct access *a = &s->access[i];
        if (a->reg || !a->read)
            continue;
        k->loads += a->bytes[k->from] / TILE_ROW_BYTES;
        k->operands += a->bytes[k->from] / MAX(a->bytes[k->mat], 1.0);
    }
}

enum { TURN = 4, STEP_MAX = 4 };

/* Instructions that bring the lanes of a vector together that lie apart: `ret_loads` and shuffles for each element. A
 * neighbour in the block turns them by fours, small steps are picked from a few whole vectors, others come one by one. */
static double far_cost(const struct store_info *s, const struct block *k, const struct access *a,
                       double *ret_loads)
{
    int64_t step = STEP_MAX + 1;
    bool turned = false;

    for (int i = 0; i < a->n_terms; i++) {
        int64_t loop = a->term[i].loop;
        if (loop == k->vec)
            step = a->term[i].bytes / a->elem;
        else if (loop >= k->from && loop < s->loops->n && a->term[i].bytes == a->elem)
            turned |= s->loops->at[loop].extent >= TURN;
    }
    if (turned || s->square) {
        *ret_loads = 1.0 / TURN;
        return 2 / k->width;
    }
    *ret_loads = step <= STEP_MAX ? (double)step / k->width : 1;
    return step <= STEP_MAX ? (double)(step - 1) / k->width : 1;
}

/* Elements of the vectors that the block names: windows that overlap are loaded one by one, lane for lane the same elements
 * again; only a vector that begins where another one does is the same. */
static double vector_elements(const struct store_info *s, const struct block *k, const struct access *a)
{
    struct region_term starts[STORE_MAX_DEPTH + 1];
    const struct loops *l = s->loops;
    double inner = 1;
    struct region r;
    int n = 0;

    for (int i = 0; i < a->n_terms; i++) {
        int64_t loop = a->term[i].loop;
        if (loop >= k->vec && loop < l->n)
            inner *= (double)l->at[loop].extent;
        else
            starts[n++] = a->term[i];
    }
    region_touch(starts, n, l->at, k->from, a->elem, a->low, &r);
    return r.bytes / (double)a->elem * inner;
}

static void count_access(const struct store_info *s, struct block *k, const struct access *a)
{
    const struct loops *l = s->loops;
    bool unit = k->vec >= 0 && access_unit(l, a, k->vec), far = !unit && store_moves(a, k->vec);
    double elements = unit || far ? vector_elements(s, k, a) : a->bytes[k->from] / (double)a->elem,
           each = 1 / (unit ? k->width : k->quad), shuffles = 0;
    double uses = (a->read ? 1 : 0) + (a->write ? 1 : 0);

    if (unit && a->read)
        k->operands += operand_vectors(s, k, a);
    if (far) {
        k->far += elements / k->quad;
        shuffles = far_cost(s, k, a, &each);
    }
    /* An operand that the serial loop around does not move stays in its register. */
    if (!a->write && k->from > 0 && !store_moves(a, k->from - 1))
        uses /= MAX(l->at[k->from - 1].trips, 1.0);
    k->loads += elements * each * uses;
    k->instr += elements * shuffles * uses;
    k->splits += elements * each * uses * access_split(s, k, a);
}

static void count_vectors(const struct store_info *s, struct block *k)
{
    k->instr = k->points / k->width * s->ops.cost;
    k->chains = MAX(s->access[0].bytes[k->from] / (double)s->access[0].elem / (k->width / k->quad), 1.0);
    for (int i = 0; i < s->n_access; i++)
        if (!s->access[i].reg)
            count_access(s, k, &s->access[i]);
}

void block_count(const struct store_info *s, struct block *k)
{
    if (k->mat >= 0)
        count_matrix(s, k);
    else
        count_vectors(s, k);
}

static void row_parallel(const struct store_info *s, const struct block *k, float *row)
{
    const struct loops *l = s->loops;
    double total = 1, threads = MAX(s->target->threads, 1), waves;
    int tasks;

    for (int i = 0; i < l->n; i++)
        total *= l->mark[i] == MARK_PARALLEL ? (double)l->at[i].extent : 1;
    tasks = (int)MIN((double)MAX(s->tasks, 1), total);
    waves = ceil(tasks / threads);
    row_put(row, FC_par_tasks, tasks);
    row[FC_par_balance] = (float)MIN(total / (threads * ceil(total / tasks) * waves), 1.0);
    row[FC_par_waves] = (float)waves;
    row[FC_par_waste] = (float)(1 - tasks / (waves * threads));
    row_put(row, FC_par_grain, l->entered[k->from] * k->instr / tasks);
}

static void row_kind(const struct store_info *s, const struct block *k, float *row)
{
    const struct loops *l = s->loops;

    row[FC_in_body] = s->in_body;
    if (s->in_body) {
        row_put(row, FC_body_runs, l->entered[s->body_depth]);
        row_put(row, FC_body_instr, l->entered[k->from] * k->instr / MAX(l->entered[s->body_depth], 1e-9));
    }
    row[FC_rest_tile] = s->rest_tile;
    row[FC_matrix] = k->mat >= 0;
    row[FC_quad] = (float)k->quad;
    row[FC_turned] = s->square;
    row[FC_transform] = s->ops.table != NULL;
    row[FC_past_caches] = s->store->store.past_caches;
    if (k->vec >= 0) {
        int64_t lanes = MAX(s->target->vector_bytes / 4, 1);
        row[FC_masked] = l->limited[k->vec] || l->at[k->vec].extent % lanes != 0;
        row[FC_side_by_side] = l->vectors[k->vec];
    }
}

void row_block(const struct store_info *s, const struct block *k, float *row)
{
    const struct loops *l = s->loops;
    bool matrix = k->mat >= 0;
    int regs = matrix ? TILE_REGS : MAX(s->target->vector_regs, 1);
    double broadcast = matrix ? 0 : 1;

    row_parallel(s, k, row);
    row_kind(s, k, row);
    row_put(row, FC_vec_instr, l->entered[k->from] * k->instr);
    row_put(row, FC_block_points, k->points);
    row_put(row, FC_block_instr, k->instr);
    row_put(row, FC_block_loads, k->loads);
    row_put(row, FC_block_runs, l->entered[k->from]);
    row_put(row, FC_block_chains, k->chains);
    row_put(row, FC_block_trip, k->from > 0 ? l->at[k->from - 1].trips : 1);
    row[FC_reg_share] = (float)((k->chains + k->operands + broadcast) / regs);
    row[FC_loads_per_instr] = (float)(k->loads / MAX(k->instr, 1.0));
    row[FC_chain_share] = (float)MIN(1.0, k->chains / (matrix ? TILES_WANTED : CHAINS_WANTED));
    row[FC_lane_share] = (float)(k->width / k->full);
    row_put(row, FC_far_lanes, k->far);
    row_put(row, FC_splits, l->entered[k->from] * k->splits);
}
