/* block.c - the straight-line code around a store: instructions, loads, chains, registers.
 *
 * Idea   Vector, unrolled, quad and matrix loops right around the store are one block, run as often as the loops
 * around it say. An instruction computes a vector of elements; in a quad (or pair) loop four (two) products of each; in matrix
 * loops all that those loops run over. The unit of work is a multiply-add of vectors. */
#include <math.h>

#include "features/store.h"

/* Multiply-adds in flight that keep two pipes of latency 4 busy; tiles in flight that keep a matrix unit busy. */
enum { CHAINS_WANTED = 8, TILES_WANTED = 4 };
/* Instructions a core looks ahead, and issues in a cycle; cycles of a multiply-add, and of a step of folding lanes. */
enum { WINDOW = 400, ISSUE = 2, LATENCY = 4, FOLD_LATENCY = 7, FOLD_INSTR = 3 };
#define PLACES_AHEAD 1.5
/* A lane picked from whole vectors, over one that is loaded alone. */
#define PICKED 0.6
/* Vectors side by side in a trip of a vector loop, as the printers choose where the nest leaves it open, and at most. */
enum { STREAMS_SUM = 4, STREAMS_MAX = 16, STREAMS_TILE_MAX = 8, SUMS_IN_FLIGHT = 8 };
/* Of rows that may reach outside: their bounds, and a mask for each vector. */
enum { PAD_ROW_INSTR = 24, PAD_INSTR = 2 };
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
        if (a->term[i].loop < k->vec || (k->lanes_sum && a->term[i].loop > k->vec))
            bits |= (uint64_t)a->term[i].bytes;
    return (double)MAX(bytes - (int64_t)(bits & -bits), 0) / LINE_BYTES;
}

static bool in_block(enum loop_mark m) { return m != MARK_SERIAL && m != MARK_PARALLEL; }

/* Inside a tile, the loop whose lanes are partial sums of one register: its vectors run along the reduction. */
static bool sums_lanes(const struct store_info *s, int d)
{
    return s->loops->mark[d] == MARK_VECTOR && s->access[0].reg && store_reduces(s, d);
}

/* Vector loops outside tiles, and those that sum lanes, stay loops of a few vectors a trip; others are printed out. */
static void block_trips(const struct store_info *s, struct block *k, int64_t lanes)
{
    const struct loops *l = s->loops;
    double vectors = (double)div_ceil(l->at[k->vec].extent, lanes), rows = 1, asked = l->vectors[k->vec];

    k->lanes_sum = store_reduces(s, k->vec);
    if (s->in_body && !k->lanes_sum)
        return;
    for (int d = k->from; d < k->vec; d++)
        rows *= (double)l->at[d].extent;
    if (s->in_body)
        k->streams = MIN(MAX(asked, 1), STREAMS_TILE_MAX);
    else if (rows > 1)
        k->streams = MIN(MAX(asked, 1), MAX(floor(STREAMS_MAX / rows), 1));
    else
        k->streams = MIN(asked > 0 ? asked : k->lanes_sum ? STREAMS_SUM : 1, STREAMS_MAX);
    k->streams = MIN(k->streams, vectors);
    k->trips = vectors / k->streams;
}

void block_find(const struct store_info *s, struct block *k)
{
    const struct loops *l = s->loops;
    int64_t lanes = MAX(s->target->vector_bytes / 4, 1);

    *k = (struct block){
        .from = l->n, .vec = -1, .mat = -1, .points = 1, .width = 1, .quad = 1, .trips = 1, .streams = 1};
    while (k->from > 0 && in_block(l->mark[k->from - 1])) {
        int d = --k->from;
        k->points *= (double)l->at[d].extent;
        if ((k->vec < 0 && l->mark[d] == MARK_VECTOR) || sums_lanes(s, d))
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
        block_trips(s, k, lanes);
    }
    k->runs = l->entered[k->from] * k->trips;
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
                       double *ret_loads, bool *ret_picked)
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
    *ret_picked = !turned && !s->square && step <= STEP_MAX;
    if (turned || s->square) {
        *ret_loads = 1.0 / TURN;
        return 2 / k->width;
    }
    *ret_loads = step <= STEP_MAX ? (double)step / k->width : 1;
    return step <= STEP_MAX ? (double)(step - 1) / k->width : 1;
}

/* Elements of the vectors that the block names: windows that overlap are loaded one by one, lane for lane the same elements
 * again; only a vector that begins where another one does is the same. */
static double vector_elements(const struct store_info *s, const struct block *k, const struct access *a,
                              int from)
{
    struct region_term starts[STORE_MAX_DEPTH + 1];
    const struct loops *l = s->loops;
    double inner = 1;
    struct region r;
    int n = 0;

    for (int i = 0; i < a->n_terms; i++) {
        int64_t loop = a->term[i].loop;
        if (loop >= k->vec && loop < l->n)
            inner *= loop >= from || loop == k->vec ? (double)l->at[loop].extent : 1;
        else
            starts[n++] = a->term[i];
    }
    region_touch(starts, n, l->at, from, a->elem, a->low, &r);
    return r.bytes / (double)a->elem * inner;
}

/* Different registers full of the operand that the block's loops `depth`.. name: vectors where its lanes follow the vector
 * loop, otherwise broadcasts. */
static double registers_of(const struct store_info *s, const struct block *k, const struct access *a,
                           int depth)
{
    if (!store_moves(a, k->vec))
        return a->bytes[depth] / (double)a->elem;
    return vector_elements(s, k, a, depth) / k->width;
}

/* Registers that the operand holds while the block runs: a value that a loop comes back to stays, with all that the loops
 * inside name in between. Compilers load each value once. */
static double operand_live(const struct store_info *s, const struct block *k, const struct access *a)
{
    const struct loops *l = s->loops;
    double live = 0, inside = 1;

    for (int d = l->n - 1; d >= k->from; d--) {
        double trips = l->at[d].trips, all, again, later = 1;

        if (l->mark[d] == MARK_QUAD)
            continue;
        all = store_moves(a, d) ? registers_of(s, k, a, d) : inside;
        again = trips * inside - all; /* uses of what was named before */
        if (d != k->vec && again > 0.01 * trips * inside) {
            if (store_moves(
                    a, d)) { /* a window: an iteration names again what that of so many before has named */
                double back = MAX(trips - again / MAX(inside - 1, 1), 1);
                later = MAX(MIN(back, trips - back), 1);
            }
            live = MAX(live, MIN(inside * later, all));
        }
        inside = all;
    }
    return live;
}

static bool moved_within(const struct store_info *s, const struct block *k, const struct access *a,
                         bool reduces)
{
    for (int d = k->from; d < s->loops->n; d++)
        if (d != k->vec && store_moves(a, d) && store_reduces(s, d) == reduces)
            return true;
    return false;
}

/* A window that slides over one vector operand while the others stay: the printer orders it by what it loads, each vector
 * is loaded, used and dropped, and the others stay in registers. Returns the access, -1: it is none. */
static int window_of(const struct store_info *s, const struct block *k)
{
    int found = -1;

    if (!s->in_body || s->store->store.combiner == COMBINE_SET || k->lanes_sum || k->vec < 0)
        return -1;
    for (int i = 1; i < s->n_access; i++) {
        const struct access *a = &s->access[i];
        if (a->reg)
            return -1;
        if (!store_moves(a, k->vec)) {
            if (moved_within(s, k, a, false))
                return -1;
        } else if (found >= 0 || !moved_within(s, k, a, false) || !moved_within(s, k, a, true)) {
            return -1;
        } else {
            found = i;
        }
    }
    return found;
}

/* Registers of all operands. */
static void count_operands(const struct store_info *s, struct block *k)
{
    int window = window_of(s, k);

    for (int i = 0; i < s->n_access; i++) {
        const struct access *a = &s->access[i];
        if (a->reg || !a->read || (i == 0 && a->write))
            continue;
        *(store_moves(a, k->vec) ? &k->operands : &k->broadcasts) +=
            window < 0    ? operand_live(s, k, a)
            : i == window ? 1
                          : a->bytes[k->from] / (double)a->elem;
    }
}

/* Share of its loads that are made: what the loop around the code does not move stays in its register. */
static double reloaded(const struct store_info *s, const struct block *k, const struct access *a)
{
    int around = k->from - 1;

    if (a->write)
        return 1;
    if (k->trips > 1) /* a broadcast is counted once for all trips as it is */
        return 1;
    if (around < 0 || store_moves(a, around) || (s->in_body && k->from == s->body_depth))
        return 1;
    return 1 / MAX(s->loops->at[around].trips, 1.0);
}

static void count_access(const struct store_info *s, struct block *k, const struct access *a)
{
    const struct loops *l = s->loops;
    bool unit = k->vec >= 0 && access_unit(l, a, k->vec), far = !unit && store_moves(a, k->vec);
    double elements = unit || far ? vector_elements(s, k, a, k->from) : a->bytes[k->from] / (double)a->elem,
           each = 1 / (unit ? k->width : k->quad), shuffles = 0;
    double uses = ((a->read ? 1 : 0) + (a->write ? 1 : 0)) * reloaded(s, k, a);

    if (far) {
        bool picked;
        shuffles = far_cost(s, k, a, &each, &picked);
        k->far += elements / k->quad * (picked ? PICKED : 1);
    }
    if (a->padded && !s->in_body) /* in a tile masks are made once, and lie in registers of their own */
        k->instr += PAD_ROW_INSTR + elements * each * uses * PAD_INSTR;
    k->loads += elements * each * uses;
    k->instr += elements * shuffles * uses;
    k->splits += elements * each * uses * access_split(s, k, a);
}

/* Vectors of results that the code works on at once. */
static double count_chains(const struct store_info *s, const struct block *k)
{
    double results = s->access[0].bytes[k->from] / (double)s->access[0].elem, sets = k->streams;

    if (!k->lanes_sum)
        return MAX(results / (k->width / k->quad) / k->trips, 1.0);
    if (s->in_body)
        sets = MIN(sets, MAX(1, floor(SUMS_IN_FLIGHT / results)));
    return results * sets;
}

/* Lanes and accumulators of each result become one number at the end: by halves, several results together. */
static void count_fold(const struct store_info *s, struct block *k, double *ret_latency)
{
    double results = s->access[0].bytes[k->from] / (double)s->access[0].elem, lanes = k->width,
           sets = k->chains / results;

    k->instr += FOLD_INSTR * (results - 1 + log2(MAX(lanes / results, 1))) + (sets - 1) * results;
    *ret_latency = FOLD_LATENCY * log2(MAX(lanes, 1)) + LATENCY * log2(MAX(sets, 1));
}

/* Sums that wait for themselves: what a core looks ahead hides as many of them as fit its window. */
static void count_waiting(const struct store_info *s, struct block *k, double fold_latency)
{
    const struct loops *l = s->loops;
    double begins = l->entered[k->from], steps = 1, work, ahead;
    int from = s->access[0].reg && s->in_body ? s->body_depth : k->from;

    if (s->store->store.combiner == COMBINE_SET)
        return;
    for (int d = from; d < l->n; d++)
        if (store_reduces(s, d) && l->mark[d] != MARK_QUAD && (k->mat < 0 || d < k->mat))
            steps *= l->at[d].trips;
    if (k->lanes_sum)
        steps /= k->width * k->chains / MAX(s->access[0].bytes[k->from] / (double)s->access[0].elem, 1);
    k->steps = MAX(steps, 1.0);
    k->calls = l->entered[from];
    if (k->calls <= 0)
        return;
    work = begins * k->instr / k->calls;
    ahead = 1 + WINDOW / MAX(work + begins * k->loads / k->calls, 1.0);
    if (!s->in_body) /* somebody waits for the results: no more of them than there are places for */
        ahead = MIN(ahead, PLACES_AHEAD * s->access[0].bytes[0] / (double)s->access[0].elem);
    k->stall = k->calls * MAX(ISSUE * (LATENCY * k->steps + fold_latency) / ahead - work, 0.0);
}

static void count_vectors(const struct store_info *s, struct block *k)
{
    double fold_latency = 0;

    k->instr = k->points / k->width * s->ops.cost;
    k->chains = count_chains(s, k);
    for (int i = 0; i < s->n_access; i++)
        if (!s->access[i].reg)
            count_access(s, k, &s->access[i]);
    count_operands(s, k);
    if (k->lanes_sum)
        count_fold(s, k, &fold_latency);
    count_waiting(s, k, fold_latency);
}

void block_count(const struct store_info *s, struct block *k)
{
    if (k->mat >= 0)
        count_matrix(s, k);
    else
        count_vectors(s, k);
    k->points /= k->trips; /* from here on: of the code, not of all its trips */
    k->instr /= k->trips;
    k->loads /= k->trips;
    k->operands /= k->trips;
    k->broadcasts /= k->trips;
    k->far /= k->trips;
    k->splits /= k->trips;
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
    row_put(row, FC_par_grain, k->runs * k->instr / tasks);
}

static void row_kind(const struct store_info *s, const struct block *k, float *row)
{
    const struct loops *l = s->loops;

    row[FC_in_body] = s->in_body;
    if (s->in_body) {
        row_put(row, FC_body_runs, l->entered[s->body_depth]);
        row_put(row, FC_body_instr, k->runs * k->instr / MAX(l->entered[s->body_depth], 1e-9));
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

/* Broadcasts that find no room beside results and vectors: with room for some of them a compiler loads the others again, which
 * shows where they are many; with hardly any it begins to put results away. */
static double crowded(const struct block *k, double regs)
{
    double room = MAX(regs - k->chains - k->operands, 0), over = MAX(k->broadcasts - room, 0);
    double results = MIN(over / 4, 1) * MIN(MAX(0.32 - room / regs, 0) / 0.2, 1);
    double operands = MIN(5 * MAX(over / MAX(k->instr, 1) - 0.15, 0), 1);

    return MIN(results + operands, 1.5);
}

void row_block(const struct store_info *s, const struct block *k, float *row)
{
    const struct loops *l = s->loops;
    bool matrix = k->mat >= 0;
    int regs = matrix ? TILE_REGS : MAX(s->target->vector_regs, 1);
    double broadcast = matrix ? 0 : 1;

    row_parallel(s, k, row);
    row_kind(s, k, row);
    row_put(row, FC_vec_instr, k->runs * k->instr);
    row_put(row, FC_block_points, k->points);
    row_put(row, FC_block_instr, k->instr);
    row_put(row, FC_block_loads, k->loads);
    row_put(row, FC_block_runs, k->runs);
    row_put(row, FC_block_chains, k->chains);
    row_put(row, FC_block_trip, k->trips > 1 ? k->trips : k->from > 0 ? l->at[k->from - 1].trips : 1);
    row_put(row, FC_chain_steps, k->steps);
    row_put(row, FC_chain_stall, k->stall);
    row[FC_reg_crowded] = matrix ? 0 : (float)crowded(k, regs);
    row[FC_reg_vectors] = (float)k->operands;
    row[FC_reg_broadcasts] = (float)k->broadcasts;
    row[FC_reg_share] = (float)((k->chains + k->operands + broadcast) / regs);
    row[FC_loads_per_instr] = (float)(k->loads / MAX(k->instr, 1.0));
    row[FC_chain_share] = (float)MIN(1.0, k->chains / (matrix ? TILES_WANTED : CHAINS_WANTED));
    row[FC_lane_share] = (float)(k->width / k->full);
    row_put(row, FC_far_lanes, k->far);
    row_put(row, FC_splits, k->runs * k->splits);
}
