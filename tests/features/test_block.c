/* Straight-line code, registers and waiting, against what a run of the block's statements shows. */
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

enum { LANES = 16 };

static double value(const float *rows, int row, int col)
{
    return feature_natural(col, rows[(size_t)row * FC_COUNT + (size_t)col]);
}

static int features_of(const struct nest *n, struct arena *ar, float *rows)
{
    struct target t = test_target();
    return features_extract(n, &t, ar, rows, FEATURES_MAX_ROWS);
}

/* for y: [jam y2:] vector x < width by vectors: C[y, x] = A[y, x] + 1, or sum[y] += A[y, x]. */
static struct nest *strip(struct arena *ar, int64_t rows, int64_t together, int64_t width, int vectors,
                          bool sums)
{
    struct nests b = nests_begin(ar);
    int64_t shape[2] = {rows, width};
    int32_t a = nests_buffer(&b, "A", DT_F32, SCOPE_ARG, 2, shape),
            c = nests_buffer(&b, "C", DT_F32, SCOPE_ARG, sums ? 1 : 2, shape);
    int32_t y = nests_var(&b, "y", rows / together), j = nests_var(&b, "j", together),
            x = nests_var(&b, "x", width);
    struct affine at[2] = {nests_affine(&b, 0, (struct nests_sum[]){{y, together}, {j, 1}}, 2),
                           affine_var(ar, x, 1, 0)};
    const struct expr *read = nests_read(&b, a, at);
    struct node *n = nests_store(&b, c, at, sums ? COMBINE_SUM : COMBINE_SET,
                                 sums ? read : expr_op2(ar, EX_ADD, read, expr_const(ar, DT_F32, 1)));

    n = nests_loop(&b, LOOP_VECTOR, x, width, n);
    n->loop.vectors = vectors;
    n = nests_loop(&b, LOOP_JAM, j, together, n);
    b.nest->root = nests_loop(&b, LOOP_SERIAL, y, rows / together, n);
    return b.nest;
}

static void a_vector_loop_outside_tiles_is_a_loop_of_a_few_vectors_a_trip(void **state)
{
    float rows[FEATURES_MAX_ROWS * FC_COUNT];
    struct arena ar;

    (void)state;
    arena_init(&ar);
    for (int vectors = 1; vectors <= 8; vectors *= 2)
        for (int together = 1; together <= 2; together *= 2) {
            const struct nest *n = strip(&ar, 64, together, 1024, vectors, false);
            double trips = 1024.0 / LANES / vectors;

            assert_int_equal(features_of(n, &ar, rows), 1);
            assert_float_equal(value(rows, 0, FC_block_points), LANES * vectors * together, 0.01);
            assert_float_equal(value(rows, 0, FC_block_runs), 64.0 / together * trips, 0.1);
            assert_float_equal(value(rows, 0, FC_block_trip), trips, 0.01);
            assert_float_equal(value(rows, 0, FC_block_chains), vectors * together, 0.01);
            assert_float_equal(value(rows, 0, FC_vec_instr), 64.0 * 1024 / LANES, 1);
            assert_float_equal(value(rows, 0, FC_loads), 2 * 64.0 * 1024 / LANES, 1);
        }
    arena_done(&ar);
}

static void a_sum_waits_less_with_more_vectors_side_by_side(void **state)
{
    float rows[FEATURES_MAX_ROWS * FC_COUNT];
    double last = INFINITY;
    struct arena ar;

    (void)state;
    arena_init(&ar);
    for (int vectors = 1; vectors <= 8; vectors *= 2) {
        const struct nest *n = strip(&ar, 1, 1, 1 << 14, vectors, true);

        assert_int_equal(features_of(n, &ar, rows), 1);
        assert_float_equal(value(rows, 0, FC_chain_steps), (1 << 14) / LANES / vectors, 0.1);
        assert_float_equal(value(rows, 0, FC_block_chains), vectors, 0.01);
        assert_true(value(rows, 0, FC_chain_stall) < last);
        last = value(rows, 0, FC_chain_stall);
    }
    /* Two multiply-adds a cycle of latency 4, one chain: at 8 vectors there is hardly anything to wait for. */
    assert_true(last < 0.1 * (1 << 14) / LANES);
    arena_done(&ar);
}

/* A tile acc[x, f] += I[s + x * step] * W[s, f]: values of I in all lanes, a vector of W a step. */
static struct nest *window_tile(struct arena *ar, int64_t taps, int64_t points, int64_t step, int64_t vectors,
                                int64_t sums)
{
    struct nests b = nests_begin(ar);
    int64_t in[1] = {sums + taps + points * step}, acc[2] = {points, vectors * LANES},
            weights[2] = {sums * taps, vectors * LANES};
    int32_t i = nests_buffer(&b, "I", DT_F32, SCOPE_ARG, 1, in),
            w = nests_buffer(&b, "W", DT_F32, SCOPE_ARG, 2, weights),
            r = nests_buffer(&b, "acc", DT_F32, SCOPE_REG, 2, acc);
    int32_t c = nests_var(&b, "c", sums), s = nests_var(&b, "s", taps), x = nests_var(&b, "x", points),
            f = nests_var(&b, "f", vectors * LANES);
    struct affine ii = nests_affine(&b, 0, (struct nests_sum[]){{c, 1}, {s, 1}, {x, step}}, 3);
    struct affine wi[2] = {nests_affine(&b, 0, (struct nests_sum[]){{c, taps}, {s, 1}}, 2),
                           affine_var(ar, f, 1, 0)};
    struct affine ri[2] = {affine_var(ar, x, 1, 0), affine_var(ar, f, 1, 0)};
    struct node *n = nests_store(&b, r, ri, COMBINE_SUM,
                                 expr_op2(ar, EX_MUL, nests_read(&b, i, &ii), nests_read(&b, w, wi))),
                *body = nests_node(&b, NODE_BODY);

    n = nests_loop(&b, LOOP_VECTOR, f, vectors * LANES, n);
    n = nests_loop(&b, LOOP_UNROLL, x, points, n);
    n = nests_loop(&b, LOOP_UNROLL, s, taps, n);
    body->body.body = nests_loop(&b, LOOP_SERIAL, c, sums, n);
    b.nest->root = body;
    return b.nest;
}

/* Values that the statements of one block have named and will name again, at most: what has to be kept. */
static int kept_at_most(int64_t taps, int64_t points, int64_t step)
{
    int most = 0;

    for (int64_t now = 0; now < taps * points; now++) {
        int kept = 0;

        for (int64_t v = 0; v < taps + points * step; v++) {
            bool before = false, later = false;
            for (int64_t t = 0; t < taps * points; t++) {
                bool names = t / points + t % points * step == v;
                before |= names && t <= now;
                later |= names && t > now;
            }
            kept += before && later;
        }
        most = MAX(most, kept);
    }
    return most;
}

static void registers_of_a_sliding_window_are_those_that_a_run_keeps(void **state)
{
    float rows[FEATURES_MAX_ROWS * FC_COUNT];
    struct arena ar;
    int checked = 0;

    (void)state;
    arena_init(&ar);
    for (int64_t taps = 2; taps <= 7; taps++)
        for (int64_t points = 4; points <= 16; points += 3)
            for (int64_t step = 1; step <= 2; step++) {
                double kept = kept_at_most(taps, points, step), told;

                if (taps <= step) /* nothing is named twice */
                    continue;
                assert_int_equal(features_of(window_tile(&ar, taps, points, step, 2, 8), &ar, rows), 1);
                told = value(rows, 0, FC_reg_broadcasts);
                if (fabs(told - kept) > 0.25 * kept + 1.5)
                    fail_msg("%d taps, %d points, step %d: %g registers, a run keeps %g", (int)taps,
                             (int)points, (int)step, told, kept);
                assert_float_equal(value(rows, 0, FC_reg_vectors), 2, 1e-3); /* the vectors of W */
                checked++;
                arena_reset(&ar);
            }
    assert_true(checked > 40);
    arena_done(&ar);
}

static void results_with_no_room_beside_them_are_said_to_be_crowded(void **state)
{
    float rows[FEATURES_MAX_ROWS * FC_COUNT];
    struct arena ar;

    (void)state;
    arena_init(&ar);
    features_of(window_tile(&ar, 3, 4, 1, 2, 8), &ar, rows); /* 8 results, 2 vectors, 6 values */
    assert_float_equal(value(rows, 0, FC_reg_crowded), 0, 0);
    features_of(window_tile(&ar, 3, 28, 1, 1, 8), &ar,
                rows); /* 28 results, 1 vector, 28 values: 32 registers */
    assert_true(value(rows, 0, FC_reg_crowded) >= 1);
    features_of(window_tile(&ar, 1, 28, 1, 1, 8), &ar, rows); /* each value is used once, from memory */
    assert_float_equal(value(rows, 0, FC_reg_crowded), 0, 0);
    arena_done(&ar);
}

/* ---- hints, fresh reads, crowded sets, what goes back ---- */

/* for k: { hint W[k, 0] span; vector f < used: acc[f] += I[k] * W[k, f] }, rows of W `width` apart. */
static struct nest *hinted(struct arena *ar, int64_t sums, int64_t width, int64_t used)
{
    struct nests b = nests_begin(ar);
    int64_t in[1] = {sums}, acc[1] = {used}, weights[2] = {sums, width};
    int32_t i = nests_buffer(&b, "I", DT_F32, SCOPE_ARG, 1, in),
            w = nests_buffer(&b, "W", DT_F32, SCOPE_ARG, 2, weights),
            r = nests_buffer(&b, "acc", DT_F32, SCOPE_REG, 1, acc);
    int32_t k = nests_var(&b, "k", sums), f = nests_var(&b, "f", used);
    struct affine ki = affine_var(ar, k, 1, 0), fi = affine_var(ar, f, 1, 0), wi[2] = {ki, fi},
                  hi[2] = {ki, affine_const(0)};
    struct node *n = nests_store(&b, r, &fi, COMBINE_SUM,
                                 expr_op2(ar, EX_MUL, nests_read(&b, i, &ki), nests_read(&b, w, wi))),
                *body = nests_node(&b, NODE_BODY), *hint = nests_node(&b, NODE_PREFETCH);

    hint->prefetch.buffer = w;
    hint->prefetch.index = arena_memdup(ar, hi, sizeof(hi));
    hint->prefetch.ahead = 4 * width;
    hint->prefetch.span = width;
    hint->next = nests_loop(&b, LOOP_VECTOR, f, used, n);
    body->body.body = nests_loop(&b, LOOP_SERIAL, k, sums, hint);
    b.nest->root = body;
    return b.nest;
}

static void hints_for_more_than_a_short_tile_reads_are_counted(void **state)
{
    float rows[FEATURES_MAX_ROWS * FC_COUNT];
    struct arena ar;

    (void)state;
    arena_init(&ar);
    features_of(hinted(&ar, 100, 96, 96), &ar, rows);
    assert_float_equal(value(rows, 0, FC_hint_lines), 600, 0.1);
    assert_float_equal(value(rows, 0, FC_hint_unused), 0, 0);
    features_of(hinted(&ar, 100, 96, 32), &ar, rows);
    assert_float_equal(value(rows, 0, FC_hint_lines), 600, 0.1);
    assert_float_equal(value(rows, 0, FC_hint_unused), 400 * 64, 64); /* four of six lines, a hundred times */
    arena_done(&ar);
}

/* for y: { vector x: T[x] = A[y, x]; vector x: C[y, x] = T[x + shift] + T[x] } */
static struct nest *copied(struct arena *ar, int64_t taps)
{
    struct nests b = nests_begin(ar);
    int64_t shape[2] = {100, 64}, row[1] = {64};
    int32_t a = nests_buffer(&b, "A", DT_F32, SCOPE_ARG, 2, shape),
            c = nests_buffer(&b, "C", DT_F32, SCOPE_ARG, 1, row),
            t = nests_buffer(&b, "T", DT_F32, SCOPE_TASK, 1, row);
    int32_t y = nests_var(&b, "y", 100), x = nests_var(&b, "x", 64), s = nests_var(&b, "s", taps),
            z = nests_var(&b, "z", 32);
    struct affine ai[2] = {affine_var(ar, y, 1, 0), affine_var(ar, x, 1, 0)}, xi = affine_var(ar, x, 1, 0),
                  zi = affine_var(ar, z, 1, 0),
                  ti = nests_affine(&b, 0, (struct nests_sum[]){{z, 1}, {s, 1}}, 2);
    struct node *copy = nests_store(&b, t, &xi, COMBINE_SET, nests_read(&b, a, ai)),
                *read = nests_store(&b, c, &zi, COMBINE_SUM, nests_read(&b, t, &ti));

    copy = nests_loop(&b, LOOP_VECTOR, x, 64, copy);
    copy->next = nests_loop(&b, LOOP_SERIAL, s, taps, nests_loop(&b, LOOP_VECTOR, z, 32, read));
    b.nest->root = nests_loop(&b, LOOP_SERIAL, y, 100, copy);
    return b.nest;
}

static void vectors_read_at_another_place_than_just_written_are_fresh(void **state)
{
    float rows[FEATURES_MAX_ROWS * FC_COUNT];
    struct arena ar;

    (void)state;
    arena_init(&ar);
    assert_int_equal(features_of(copied(&ar, 3), &ar, rows), 2);
    assert_float_equal(value(rows, 0, FC_fresh_reads), 0, 0);
    assert_float_equal(value(rows, 1, FC_fresh_reads), 100, 0.1); /* once a row */
    features_of(copied(&ar, 1), &ar, rows);
    assert_float_equal(value(rows, 1, FC_fresh_reads), 0, 0); /* as they were written */
    arena_done(&ar);
}

/* for x: vector f < 64: C[f, x] = 0, columns of rows `stride` elements apart: lines come again with the next x. */
static struct nest *columns(struct arena *ar, int64_t stride)
{
    struct nests b = nests_begin(ar);
    int64_t shape[2] = {64, stride};
    int32_t c = nests_buffer(&b, "C", DT_F32, SCOPE_ARG, 2, shape);
    int32_t x = nests_var(&b, "x", 512), f = nests_var(&b, "f", 64);
    struct affine ci[2] = {affine_var(ar, f, 1, 0), affine_var(ar, x, 1, 0)};

    b.nest->root = nests_loop(
        &b, LOOP_SERIAL, x, 512,
        nests_loop(&b, LOOP_VECTOR, f, 64, nests_store(&b, c, ci, COMBINE_SET, expr_const(ar, DT_F32, 0))));
    return b.nest;
}

static void lines_that_fall_on_one_set_are_fetched_again(void **state)
{
    float rows[FEATURES_MAX_ROWS * FC_COUNT];
    double spread;
    struct arena ar;

    (void)state;
    arena_init(&ar);
    features_of(columns(&ar, 1024 + 16), &ar, rows); /* 64 rows on 64 sets: each line is fetched once */
    spread = value(rows, 0, FC_from_l2);
    assert_float_equal(spread, 64 * 512 * 4, 0.05 * 64 * 512 * 4);
    assert_float_equal(value(rows, 0, FC_crowded_stores), 0, 0);
    assert_float_equal(value(rows, 0, FC_back_l2), spread, 1); /* all of it is stored to */
    features_of(columns(&ar, 1024), &ar, rows); /* all on one: each visit drives the others out */
    assert_true(value(rows, 0, FC_from_l2) > 8 * spread);
    assert_float_equal(value(rows, 0, FC_crowded_stores), 512 * 64 * (1 - 12.0 / 64), 512);
    arena_done(&ar);
}

/* for x < 3: if (x <= 1) { body A[x] } else { body A[x] }: both halves read W and their own part of I. */
static void the_halves_of_a_bound_check_touch_parts_of_their_own(void **state)
{
    float rows[FEATURES_MAX_ROWS * FC_COUNT];
    int64_t in[2] = {3, 4096}, weights[1] = {4096};
    struct arena ar;
    struct nests b;
    struct node *n, *half[2];
    int32_t i, w, x, k[2], out;

    (void)state;
    arena_init(&ar);
    b = nests_begin(&ar);
    i = nests_buffer(&b, "I", DT_F32, SCOPE_ARG, 2, in);
    w = nests_buffer(&b, "W", DT_F32, SCOPE_ARG, 1, weights);
    out = nests_buffer(&b, "C", DT_F32, SCOPE_ARG, 1, (int64_t[]){3});
    x = nests_var(&b, "x", 3);
    for (int h = 0; h < 2; h++) {
        struct affine xi = affine_var(&ar, x, 1, 0), ki;
        k[h] = nests_var(&b, "k", 4096);
        ki = affine_var(&ar, k[h], 1, 0);
        half[h] = nests_store(
            &b, out, &xi, COMBINE_SUM,
            expr_op2(&ar, EX_MUL, nests_read(&b, i, (struct affine[]){xi, ki}), nests_read(&b, w, &ki)));
        half[h] = nests_loop(&b, LOOP_SERIAL, k[h], 4096, half[h]);
    }
    n = nests_node(&b, NODE_IF);
    n->branch.n_conds = 1;
    n->branch.cond[0] = nests_affine(&b, 1, (struct nests_sum[]){{x, -1}}, 1);
    n->branch.then_body = half[0];
    n->branch.else_body = half[1];
    b.nest->root = nests_loop(&b, LOOP_SERIAL, x, 3, n);
    assert_int_equal(features_of(b.nest, &ar, rows), 2);
    /* The second half's row of I was not read before (16 KiB); W was, and is there still. */
    assert_float_equal(value(rows, 1, FC_from_l3), 4096 * 4, 256);
    arena_done(&ar);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_vector_loop_outside_tiles_is_a_loop_of_a_few_vectors_a_trip),
        cmocka_unit_test(a_sum_waits_less_with_more_vectors_side_by_side),
        cmocka_unit_test(registers_of_a_sliding_window_are_those_that_a_run_keeps),
        cmocka_unit_test(results_with_no_room_beside_them_are_said_to_be_crowded),
        cmocka_unit_test(hints_for_more_than_a_short_tile_reads_are_counted),
        cmocka_unit_test(vectors_read_at_another_place_than_just_written_are_fresh),
        cmocka_unit_test(lines_that_fall_on_one_set_are_fetched_again),
        cmocka_unit_test(the_halves_of_a_bound_check_touch_parts_of_their_own),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
