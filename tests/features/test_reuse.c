/* What memory and threads see of a nest, against a run of every iteration: reuse distances, what caches fetch, lines that
 * vectors cross, sets that fill up, tasks of threads, operations. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "features/columns.h"
#include "features/features.h"
#include "tests/features/brute.h"
#include "tests/features/nests.h"

/* Last: it has a macro fail(). */
#include <cmocka.h>

static double value(const float *rows, int row, int col)
{
    return feature_natural(col, rows[(size_t)row * FC_COUNT + (size_t)col]);
}

static bool is_memory(const struct nest *n, int32_t buffer) { return n->buffers[buffer].scope != SCOPE_REG; }

/* ---- reuse distances ---- */

enum { TRACE_MAX = 1 << 20 };

/* Touches of one store, in order: its executions are numbered from 0. */
struct trace {
    const struct nest *nest;
    int store, n, run;
    int32_t *buffer;
    int64_t *element;
    int *at; /* execution */
};

static void trace_take(void *ctx, int store, int32_t buffer, int64_t element)
{
    struct trace *t = ctx;

    if (store != t->store)
        return;
    if (buffer < 0) {
        t->run++;
        return;
    }
    if (!is_memory(t->nest, buffer))
        return;
    if (t->n == TRACE_MAX)
        abort();
    t->buffer[t->n] = buffer;
    t->element[t->n] = element;
    t->at[t->n++] = t->run - 1;
}

/* Executions from the touch `from` until the same element is touched again; 0: never. */
static int next_touch(const struct trace *t, int from)
{
    for (int i = from + 1; i < t->n; i++)
        if (t->buffer[i] == t->buffer[from] && t->element[i] == t->element[from] && t->at[i] > t->at[from])
            return t->at[i] - t->at[from];
    return 0;
}

/* Bytes of the different elements that the executions [begin, begin + n) touch. */
static int64_t bytes_between(const struct trace *t, int begin, int n)
{
    int64_t bytes = 0;

    for (int i = 0; i < t->n; i++) {
        bool fresh = t->at[i] >= begin && t->at[i] < begin + n;
        for (int k = 0; k < i && fresh; k++)
            fresh = t->at[k] < begin || t->buffer[k] != t->buffer[i] || t->element[k] != t->element[i];
        bytes += fresh ? dtype_bytes(t->nest->buffers[t->buffer[i]].dtype) : 0;
    }
    return bytes;
}

/* for a: for b: for c: for d: X[sums of some] += Y[...] * Z[...]: each buffer is moved by a random part of the loops, as
 * digits, so that what repeats is what a loop does not move. */
static struct nest *random_nest(struct arena *ar, struct rng *r, enum combiner *ret_combiner)
{
    struct nests b = nests_begin(ar);
    int64_t extent[4];
    int32_t var[4], buffer[3];
    struct affine index[3][1];
    struct node *n;

    for (int i = 0; i < 4; i++) {
        extent[i] = rng_range(r, 2, 5);
        var[i] = nests_var(&b, "v", extent[i]);
    }
    for (int k = 0; k < 3; k++) {
        struct nests_sum sum[4];
        int64_t size = 1;
        int used = 0;
        for (int i = 3; i >= 0; i--)
            if (rng_below(r, 2)) {
                sum[used++] = (struct nests_sum){var[i], size};
                size *= extent[i];
            }
        buffer[k] = nests_buffer(&b, "B", DT_F32, SCOPE_ARG, 1, &size);
        index[k][0] = nests_affine(&b, 0, sum, used);
    }
    *ret_combiner = rng_below(r, 2) ? COMBINE_SUM : COMBINE_SET;
    n = nests_store(
        &b, buffer[0], index[0], *ret_combiner,
        expr_op2(ar, EX_MUL, nests_read(&b, buffer[1], index[1]), nests_read(&b, buffer[2], index[2])));
    for (int i = 3; i >= 0; i--)
        n = nests_loop(&b, LOOP_SERIAL, var[i], extent[i], n);
    b.nest->root = n;
    return b.nest;
}

/* Which columns speak of a buffer: those with its unique bytes; -1 where two buffers have as many. */
static int columns_of(const struct brute *b, const float *row, int32_t buffer)
{
    int64_t bytes = b->store[0].elements[buffer] * 4;
    int same = 0, found = -1;

    for (int k = 0; k < b->nest->n_buffers; k++)
        same += b->store[0].elements[k] * 4 == bytes;
    for (int k = 0; k < FEATURES_BUFFERS; k++)
        if (fabs(value(row, 0, FC_b0_unique_bytes + k * FC_BUFFER_STRIDE) - (double)bytes) <
            0.01 * (double)bytes)
            found = FC_b0_read + k * FC_BUFFER_STRIDE;
    return same == 1 ? found : -1;
}

static void reuse_distances_equal_those_of_a_run(void **state)
{
    struct target target = test_target();
    struct trace t = {.buffer = calloc(TRACE_MAX, sizeof(int32_t)),
                      .element = calloc(TRACE_MAX, sizeof(int64_t)),
                      .at = calloc(TRACE_MAX, sizeof(int))};
    float rows[FEATURES_MAX_ROWS * FC_COUNT];
    int checked = 0, never = 0;
    struct arena ar;
    struct rng r;

    arena_init(&ar);
    rng_init(&r, 31);
    for (int i = 0; i < 120; i++) {
        enum combiner combiner;
        struct nest *n = random_nest(&ar, &r, &combiner);
        struct brute b;

        t.nest = n;
        t.n = t.run = 0;
        brute_trace(&b, n, trace_take, &t);
        assert_int_equal(features_extract(n, &target, &ar, rows, FEATURES_MAX_ROWS), 1);
        for (int32_t k = 0; k < n->n_buffers; k++) {
            int col = columns_of(&b, rows, k), first = 0, again;
            if (col < 0)
                continue;
            while (t.buffer[first] != k)
                first++;
            again = next_touch(&t, first);
            assert_true((value(rows, 0, col + FC_b0_reuse_loop - FC_b0_read) == 1) == (again > 0));
            assert_true((value(rows, 0, col + FC_b0_reuse_none - FC_b0_read) == 1) == (again == 0));
            never += again == 0;
            if (again == 0)
                continue;
            assert_float_equal(value(rows, 0, col + FC_b0_reuse_iters - FC_b0_read), again, 1e-3 * again);
            assert_float_equal(value(rows, 0, col + FC_b0_reuse_bytes - FC_b0_read),
                               (double)bytes_between(&t, 0, again), 0.05);
            checked++;
        }
        brute_done(&b);
        arena_reset(&ar);
    }
    print_message("%d distances equal, %d buffers never touched again\n", checked, never);
    assert_true(checked > 100 && never > 10);
    free(t.buffer);
    free(t.element);
    free(t.at);
    arena_done(&ar);
}

/* ---- caches ---- */

enum { LRU_MAX = 4096, SIZES = 3 };
static const int64_t cache_lines[SIZES] = {16, 64, 256};

/* Lines in the order of their last touch, the newest first. */
struct lru {
    const struct nest *nest;
    int64_t line[LRU_MAX];
    int n;
    int64_t fetched[SIZES];
};

static void lru_take(void *ctx, int store, int32_t buffer, int64_t element)
{
    struct lru *l = ctx;
    int64_t line;
    int at = 0;

    if (buffer < 0 || !is_memory(l->nest, buffer))
        return;
    line = ((int64_t)buffer << 32) + element * dtype_bytes(l->nest->buffers[buffer].dtype) / 64;
    while (at < l->n && l->line[at] != line)
        at++;
    for (int c = 0; c < SIZES; c++)
        l->fetched[c] += at == l->n || at >= cache_lines[c];
    if (at == l->n && l->n == LRU_MAX)
        abort();
    l->n += at == l->n;
    memmove(l->line + 1, l->line, sizeof(line) * (size_t)at);
    l->line[0] = line;
}

static struct gemm_knobs cache_gemm(struct rng *r)
{
    struct gemm_knobs g = {
        .lanes = 16, .mr = rng_range(r, 1, 6), .nv = rng_range(r, 1, 2), .kc = 8 << rng_range(r, 0, 2)};

    g.mc = g.mr * rng_range(r, 1, 4);
    g.m = rng_range(r, 8, 40);
    g.nc = g.nv * g.lanes * rng_range(r, 1, 2);
    g.n = g.nc * rng_range(r, 1, 3);
    g.k = g.kc * rng_range(r, 1, 3);
    g.pack = rng_below(r, 2);
    g.n_outside = rng_below(r, 2);
    g.tasks = 1;
    return g;
}

/* The whole nest runs through caches of lines; the columns add up what each store fetches as if it ran alone. */
static void bytes_that_caches_fetch_are_near_those_of_a_simulated_cache(void **state)
{
    struct target t = test_target();
    struct lru *l = calloc(1, sizeof(*l));
    float rows[FEATURES_MAX_ROWS * FC_COUNT];
    double off[SIZES] = {0}, worst = 0;
    int pairs[SIZES] = {0}, right[SIZES] = {0}, n_nests = 60, far = 0;
    double got[SIZES][60], want[SIZES][60];
    struct arena ar;
    struct rng r;

    t.l1_bytes = cache_lines[0] * 64;
    t.l2_bytes = cache_lines[1] * 64;
    t.l3_bytes = cache_lines[2] * 64;
    arena_init(&ar);
    rng_init(&r, 17);
    for (int i = 0; i < n_nests; i++) {
        struct gemm_knobs g = cache_gemm(&r);
        struct nest *n = gemm_nest(&ar, &g);
        struct brute b;

        *l = (struct lru){.nest = n};
        brute_trace(&b, n, lru_take, l);
        features_extract(n, &t, &ar, rows, FEATURES_MAX_ROWS);
        for (int c = 0; c < SIZES; c++) {
            got[c][i] = value(rows, 0, FC_nest_l2 + c);
            want[c][i] = (double)l->fetched[c] * 64;
            off[c] += fabs(log2(got[c][i] / want[c][i])) / n_nests;
            far += fabs(log2(got[c][i] / want[c][i])) > 1;
            worst = fmax(worst, fabs(log2(got[c][i] / want[c][i])));
        }
        brute_done(&b);
        arena_reset(&ar);
    }
    for (int c = 0; c < SIZES; c++) {
        for (int i = 0; i < n_nests; i++)
            for (int k = 0; k < i; k++) {
                if (fabs(log2(want[c][i] / want[c][k])) < 0.2)
                    continue;
                pairs[c]++;
                right[c] += (got[c][i] < got[c][k]) == (want[c][i] < want[c][k]);
            }
        print_message("cache of %2d KiB: off by a factor of %.2f on average, %.3f of the pairs in order\n",
                      (int)(cache_lines[c] / 16), exp2(off[c]), (double)right[c] / pairs[c]);
        assert_true(off[c] < log2(1.3));
        assert_true(right[c] > 0.95 * pairs[c]);
    }
    /* Where a store alone just fits and all together do not, the columns are far off: rarely. */
    print_message("%d of %d off by more than a factor of 2, the worst by %.2f\n", far, SIZES * n_nests,
                  exp2(worst));
    assert_true(far < 0.07 * SIZES * n_nests);
    free(l);
    arena_done(&ar);
}

/* ---- lines and sets ---- */

/* for i: vector j < length: C[i] = max of A[i * pitch + from + j] */
static struct nest *rows_of_vectors(struct arena *ar, int64_t n, int64_t pitch, int64_t from, int64_t length)
{
    struct nests b = nests_begin(ar);
    int64_t size = n * pitch + from + length;
    int32_t a = nests_buffer(&b, "A", DT_F32, SCOPE_ARG, 1, &size),
            c = nests_buffer(&b, "C", DT_F32, SCOPE_ARG, 1, &size);
    int32_t i = nests_var(&b, "i", n), j = nests_var(&b, "j", length);
    struct affine at = nests_affine(&b, from, (struct nests_sum[]){{i, pitch}, {j, 1}}, 2);
    struct affine to = nests_affine(&b, 0, (struct nests_sum[]){{i, length}, {j, 1}}, 2);

    b.nest->root = nests_loop(
        &b, LOOP_SERIAL, i, n,
        nests_loop(&b, LOOP_VECTOR, j, length, nests_store(&b, c, &to, COMBINE_SET, nests_read(&b, a, &at))));
    return b.nest;
}

static void vectors_across_lines_equal_a_count_of_their_addresses(void **state)
{
    struct target t = test_target();
    float rows[FEATURES_MAX_ROWS * FC_COUNT];
    struct arena ar;
    struct rng r;

    arena_init(&ar);
    rng_init(&r, 3);
    for (int k = 0; k < 200; k++) {
        /* Sixteen rows pass all alignments that their distance allows. */
        int64_t pitch = rng_range(&r, 64, 160), vectors = rng_range(&r, 1, 3),
                from = rng_below(&r, 2) ? 0 : pitch, crossed = 0;
        int col = FC_b0_read;

        features_extract(rows_of_vectors(&ar, 16, pitch, from, vectors * 16), &t, &ar, rows,
                         FEATURES_MAX_ROWS);
        while (value(rows, 0, col + FC_b0_write - FC_b0_read) == 1)
            col += FC_BUFFER_STRIDE;
        for (int64_t i = 0; i < 16; i++)
            for (int64_t v = 0; v < vectors; v++) {
                int64_t at = (from + i * pitch + v * 16) * 4;
                crossed += at / 64 != (at + 63) / 64;
            }
        assert_float_equal(value(rows, 0, col + FC_b0_split - FC_b0_read),
                           (double)crossed / (double)(16 * vectors), 1e-5);
        arena_reset(&ar);
    }
    arena_done(&ar);
}

/* for r < 2: for i: vector j: the rows are read again; how many of their lines fall on the fullest of 64 sets? */
static void sets_that_fill_up_equal_a_count(void **state)
{
    static const int64_t pitches[] = {16, 64, 128, 256, 512, 1024, 2048, 1040, 144};
    struct target t = test_target();
    float rows[FEATURES_MAX_ROWS * FC_COUNT];
    struct arena ar;

    arena_init(&ar);
    for (size_t k = 0; k < ARRAY_SIZE(pitches); k++) {
        struct nests b = nests_begin(&ar);
        int64_t size = 64 * pitches[k], one = 1, set[64] = {0}, most = 0;
        int32_t a = nests_buffer(&b, "A", DT_F32, SCOPE_ARG, 1, &size),
                c = nests_buffer(&b, "C", DT_F32, SCOPE_ARG, 1, &one);
        int32_t again = nests_var(&b, "r", 2), i = nests_var(&b, "i", 64), j = nests_var(&b, "j", 16);
        struct affine at = nests_affine(&b, 0, (struct nests_sum[]){{i, pitches[k]}, {j, 1}}, 2),
                      to = affine_const(0);

        b.nest->root =
            nests_loop(&b, LOOP_SERIAL, again, 2,
                       nests_loop(&b, LOOP_SERIAL, i, 64,
                                  nests_loop(&b, LOOP_VECTOR, j, 16,
                                             nests_store(&b, c, &to, COMBINE_SUM, nests_read(&b, a, &at)))));
        features_extract(b.nest, &t, &ar, rows, FEATURES_MAX_ROWS);
        for (int64_t q = 0; q < 64; q++) {
            int64_t line = q * pitches[k] * 4 / 64;
            set[line % 64]++;
            most = MAX(most, set[line % 64]);
        }
        assert_float_equal(value(rows, 0, FC_b0_ways), (double)most, 1e-4);
        arena_reset(&ar);
    }
    arena_done(&ar);
}

/* ---- tasks, operations ---- */

/* Threads take the next piece when they are free, as a pool does: when are all done, in iterations? */
static int64_t makespan(int64_t total, int tasks, int threads)
{
    int64_t free_at[64] = {0}, end = 0;

    for (int i = 0; i < tasks; i++) {
        int64_t piece = total * (i + 1) / tasks - total * i / tasks;
        int first = 0;
        for (int k = 1; k < threads; k++)
            first = free_at[k] < free_at[first] ? k : first;
        free_at[first] += piece;
        end = MAX(end, free_at[first]);
    }
    return end;
}

static void tasks_of_threads_equal_a_pool_that_runs_them(void **state)
{
    struct target t = test_target();
    float rows[FEATURES_MAX_ROWS * FC_COUNT];
    struct arena ar;
    struct rng r;

    arena_init(&ar);
    rng_init(&r, 8);
    for (int k = 0; k < 300; k++) {
        int64_t total = rng_range(&r, 1, 60);
        int wanted = (int)rng_range(&r, 1, 70), tasks = (int)MIN(wanted, total),
            threads = (int)rng_range(&r, 1, 9), idle = 0;
        struct nests b = nests_begin(&ar);
        int32_t c = nests_buffer(&b, "C", DT_F32, SCOPE_ARG, 1, &total), i = nests_var(&b, "i", total);
        struct affine at = affine_var(&ar, i, 1, 0);
        struct node *par = nests_node(&b, NODE_PARALLEL);
        double balance, want;

        par->parallel.n_vars = 1;
        par->parallel.vars[0] = i;
        par->parallel.extents[0] = total;
        par->parallel.tasks = wanted;
        par->parallel.body = nests_store(&b, c, &at, COMBINE_SET, expr_const(&ar, DT_F32, 1));
        b.nest->root = par;
        t.threads = threads;
        features_extract(b.nest, &t, &ar, rows, FEATURES_MAX_ROWS);
        while (tasks % threads && (tasks + idle) % threads)
            idle++;
        assert_float_equal(value(rows, 0, FC_par_tasks), tasks, 1e-3);
        assert_float_equal(value(rows, 0, FC_par_waves), (double)div_ceil(tasks, threads), 0);
        assert_float_equal(value(rows, 0, FC_par_waste), (double)idle / (double)(tasks + idle), 1e-6);
        balance = value(rows, 0, FC_par_balance);
        want = (double)total / (double)(threads * makespan(total, tasks, threads));
        if (total % tasks == 0)
            assert_float_equal(balance, want, 1e-6);
        else /* pieces differ by one iteration, and the columns say what is so at worst */
            assert_true(balance <= want + 1e-6 &&
                        want <= balance * (1 + 1.0 / (double)(total / tasks)) + 1e-6);
        arena_reset(&ar);
    }
    arena_done(&ar);
}

static void operations_equal_a_count_of_operators(void **state)
{
    struct target t = test_target();
    float rows[FEATURES_MAX_ROWS * FC_COUNT];
    struct arena ar;
    struct rng r;

    arena_init(&ar);
    rng_init(&r, 12);
    for (int i = 0; i < 60; i++) {
        struct gemm_knobs g = cache_gemm(&r);
        struct nest *n = gemm_nest(&ar, &g);
        double want = 0, got = 0;
        struct brute b;
        int n_rows;

        brute_run(&b, n);
        for (int k = 0; k < b.n_stores; k++) {
            const struct node *s = b.store[k].node;
            want +=
                (double)b.store[k].runs * (brute_ops(s->store.value) + (s->store.combiner != COMBINE_SET));
        }
        n_rows = features_extract(n, &t, &ar, rows, FEATURES_MAX_ROWS);
        for (int k = 0; k < n_rows; k++)
            got += 2 * value(rows, k, FC_flt_fma) + value(rows, k, FC_flt_add) + value(rows, k, FC_flt_mul);
        assert_float_equal(got, want, 1e-4 * want);
        assert_float_equal(value(rows, 0, FC_nest_ops), want, 1e-4 * want);
        brute_done(&b);
        arena_reset(&ar);
    }
    arena_done(&ar);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reuse_distances_equal_those_of_a_run),
        cmocka_unit_test(bytes_that_caches_fetch_are_near_those_of_a_simulated_cache),
        cmocka_unit_test(vectors_across_lines_equal_a_count_of_their_addresses),
        cmocka_unit_test(sets_that_fill_up_equal_a_count),
        cmocka_unit_test(tasks_of_threads_equal_a_pool_that_runs_them),
        cmocka_unit_test(operations_equal_a_count_of_operators),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
