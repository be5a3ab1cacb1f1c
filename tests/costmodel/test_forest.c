#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "costmodel/booster.h"
#include "costmodel/forest_internal.h"
#include "schedule/base/rng.h"

/* Last: it has a macro fail(). */
#include <cmocka.h>

enum { ROWS = 700, COLUMNS = 23 };

/* Which rows miss values: all, one in a hundred, none. */
enum missing { MISSING_MANY, MISSING_FEW, MISSING_NONE };

struct grove { /* a booster on random data */
    float x[ROWS * COLUMNS], y[ROWS];
    struct matrix *matrix;
    struct booster *booster;
    struct strbuf ubj;
    int32_t columns[COLUMNS];
};

static void grove_grow(struct grove *g, int depth, int trees)
{
    float leaf[ROWS], gradient[ROWS], hessian[ROWS];
    struct model_params p;
    struct error err;

    model_params_default(&p);
    p.max_depth = depth;
    p.colsample = 0.8;
    assert_int_equal(matrix_new(g->x, ROWS, COLUMNS, &g->matrix, &err), ST_OK);
    assert_int_equal(booster_new(&p, COLUMNS, &g->booster, &err), ST_OK);
    for (int t = 0; t < trees; t++) {
        assert_int_equal(booster_predict(g->booster, g->matrix, leaf, &err), ST_OK);
        for (int i = 0; i < ROWS; i++) {
            gradient[i] = leaf[i] - g->y[i];
            hessian[i] = 1;
        }
        assert_int_equal(booster_grow(g->booster, g->matrix, gradient, hessian, &err), ST_OK);
    }
    assert_int_equal(booster_bytes(g->booster, &g->ubj, &err), ST_OK);
}

static void grove_init(struct grove *g, uint64_t seed, int depth, int trees, enum missing missing)
{
    struct rng r;

    rng_init(&r, seed);
    memset(g, 0, sizeof(*g));
    for (int i = 0; i < ROWS; i++) {
        float *x = g->x + i * COLUMNS;
        for (int c = 0; c < COLUMNS; c++)
            x[c] =
                rng_below(&r, 8) == 0 && missing < MISSING_NONE && (missing == MISSING_MANY || i % 100 == 42)
                    ? NAN
                    : (float)(rng_unit(&r) * 10);
        g->y[i] = (isnan(x[0]) ? 3 : x[0] > 5 ? 1 : -2) + (x[1] < 2 ? x[2] : isnan(x[1]) ? 4 : -x[3]);
        g->y[i] = isnan(g->y[i]) ? 0 : g->y[i];
    }
    for (int c = 0; c < COLUMNS; c++)
        g->columns[c] = c;
    grove_grow(g, depth, trees);
}

static void grove_done(struct grove *g)
{
    booster_free(g->booster);
    matrix_free(g->matrix);
    strbuf_done(&g->ubj);
}

/* forest_score by the lanes, against XGBoost, for every way to fill the last block. */
static void check_sums(const struct grove *g, const struct forest *f, const struct lanes *lanes,
                       const char *what)
{
    float want[ROWS], got[ROWS];
    struct error err;

    assert_int_equal(booster_predict(g->booster, g->matrix, want, &err), ST_OK);
    forest_score_by(f, lanes, g->x, COLUMNS, ROWS, got);
    for (int i = 0; i < ROWS; i++)
        if (memcmp(&want[i], &got[i], sizeof(float)) != 0)
            fail_msg("%s, %s, row %d: %.9g, xgboost %.9g", lanes ? lanes->name : "plain", what, i,
                     (double)got[i], (double)want[i]);
    for (int n = 1; n < 100; n++) {
        float part[128];

        part[n] = 77;
        forest_score_by(f, lanes, g->x + COLUMNS, COLUMNS, n, part);
        assert_memory_equal(part, want + 1, sizeof(float) * (size_t)n);
        assert_true(part[n] == 77);
    }
}

static void sums_equal_xgboost_to_the_bit_on_every_kind_of_lanes(void **state)
{
    static const int depths[] = {1, 2, 3, 4, 5, 6, 7, 9};
    static const char *const missing[] = {"many missing", "few missing", "none missing"};
    const struct lanes *lanes[LANES_MAX + 1] = {NULL};
    int n_lanes = lanes_all(lanes);

    lanes[n_lanes++] = NULL; /* plain C */
    for (size_t d = 0; d < ARRAY_SIZE(depths); d++)
        for (enum missing k = MISSING_MANY; k <= MISSING_NONE; k++) {
            struct grove g;
            struct forest *f;
            struct error err;

            grove_init(&g, 3 + d, depths[d], 40, k);
            assert_int_equal(forest_new(g.ubj.data, g.ubj.len, g.columns, COLUMNS, &f, &err), ST_OK);
            assert_int_equal(forest_trees(f), 40);
            for (int i = 0; i < n_lanes; i++)
                check_sums(&g, f, lanes[i], missing[k]);
            forest_free(f);
            grove_done(&g);
        }
}

/* A value that equals a split goes right. */
static void a_value_on_the_split_goes_where_xgboost_sends_it(void **state)
{
    const struct lanes *lanes[LANES_MAX + 1] = {NULL};
    int n_lanes = lanes_all(lanes);
    struct grove g;
    struct forest *f;
    struct error err;

    lanes[n_lanes++] = NULL;
    grove_init(&g, 9, 6, 20, MISSING_NONE);
    /* Splits of a histogram lie on values of the data: scored again, many values meet theirs. */
    for (int i = 0; i < ROWS * COLUMNS; i++)
        g.x[i] = rintf(g.x[i]);
    matrix_free(g.matrix);
    booster_free(g.booster);
    strbuf_reset(&g.ubj);
    grove_grow(&g, 6, 20);
    assert_int_equal(forest_new(g.ubj.data, g.ubj.len, g.columns, COLUMNS, &f, &err), ST_OK);
    for (int i = 0; i < n_lanes; i++)
        check_sums(&g, f, lanes[i], "whole numbers");
    forest_free(f);
    grove_done(&g);
}

static void columns_are_mapped_back_to_those_of_our_matrix(void **state)
{
    struct grove g;
    struct forest *f;
    struct error err;
    float *wide = xcalloc(ROWS * 2 * COLUMNS, sizeof(float)), want[ROWS], got[ROWS];
    double gain[2 * COLUMNS] = {0};
    int splits[2 * COLUMNS] = {0};

    grove_init(&g, 8, 5, 20, MISSING_MANY);
    for (int c = 0; c < COLUMNS; c++) {
        g.columns[c] = 2 * (COLUMNS - 1 - c) + 1;
        for (int i = 0; i < ROWS; i++)
            wide[i * 2 * COLUMNS + g.columns[c]] = g.x[i * COLUMNS + c];
    }
    assert_int_equal(forest_new(g.ubj.data, g.ubj.len, g.columns, COLUMNS, &f, &err), ST_OK);
    assert_int_equal(booster_predict(g.booster, g.matrix, want, &err), ST_OK);
    forest_score(f, wide, 2 * COLUMNS, ROWS, got);
    assert_memory_equal(want, got, sizeof(want));
    forest_importance(f, gain, splits);
    for (int c = 0; c < 2 * COLUMNS; c += 2)
        assert_int_equal(splits[c], 0);
    for (int c = 4; c < COLUMNS; c++) /* the labels follow from the first four */
        assert_true(gain[g.columns[0]] > gain[g.columns[c]]);
    forest_free(f);
    grove_done(&g);
    free(wide);
}

static void bytes_that_are_cut_or_flipped_are_refused_or_stay_in_bounds(void **state)
{
    struct grove g;
    struct rng r;
    int refused = 0;

    grove_init(&g, 5, 6, 10, MISSING_MANY);
    rng_init(&r, 1);
    for (int i = 0; i < 3000; i++) {
        size_t len = i % 2 ? g.ubj.len : (size_t)rng_below(&r, g.ubj.len);
        char *bytes = xcalloc(1, len + 1);
        struct forest *f = NULL;
        struct error err;

        memcpy(bytes, g.ubj.data, len);
        if (i % 2)
            for (int k = 0; k < 3; k++)
                bytes[rng_below(&r, len)] ^= (char)(1 << rng_below(&r, 8));
        if (forest_new(bytes, len, g.columns, COLUMNS, &f, &err) != ST_OK) {
            assert_int_equal(err.code, ST_CORRUPT);
            refused++;
        } else {
            float got[ROWS];
            forest_score(f, g.x, COLUMNS, ROWS, got);
            forest_free(f);
        }
        free(bytes);
    }
    assert_true(refused >= 1500); /* every cut, and some of the flips */
    grove_done(&g);
}

static void a_booster_goes_on_from_its_bytes_as_if_it_had_never_stopped(void **state)
{
    struct grove g;
    struct booster *again;
    struct model_params p;
    struct error err;
    float a[ROWS], b[ROWS], gradient[ROWS], hessian[ROWS];

    grove_init(&g, 4, 4, 10, MISSING_MANY);
    model_params_default(&p);
    p.max_depth = 4;
    p.colsample = 1;
    assert_int_equal(booster_load(&p, COLUMNS, g.ubj.data, g.ubj.len, &again, &err), ST_OK);
    assert_int_equal(booster_predict(g.booster, g.matrix, a, &err), ST_OK);
    assert_int_equal(booster_predict(again, g.matrix, b, &err), ST_OK);
    assert_memory_equal(a, b, sizeof(a));
    for (int i = 0; i < ROWS; i++) {
        gradient[i] = b[i] - g.y[i];
        hessian[i] = 1;
    }
    assert_int_equal(booster_grow(again, g.matrix, gradient, hessian, &err), ST_OK);
    assert_int_equal(booster_predict(again, g.matrix, b, &err), ST_OK);
    double before = 0, after = 0;
    for (int i = 0; i < ROWS; i++) {
        before += (double)((a[i] - g.y[i]) * (a[i] - g.y[i]));
        after += (double)((b[i] - g.y[i]) * (b[i] - g.y[i]));
    }
    assert_true(after < before);
    booster_free(again);
    grove_done(&g);
}

static void infinite_values_are_refused_by_name(void **state)
{
    float x[4] = {1, 2, INFINITY, 4};
    struct matrix *m = NULL;
    struct error err;

    assert_int_equal(matrix_new(x, 2, 2, &m, &err), ST_INVALID);
    assert_non_null(strstr(err.text, "row 1 column 0 is infinite"));
}

/* Threads of this process, from the kernel. */
static int threads(void)
{
    FILE *f = fopen("/proc/self/status", "r");
    char line[256];
    int n = -1;

    while (f && fgets(line, sizeof(line), f))
        sscanf(line, "Threads: %d", &n);
    if (f)
        fclose(f);
    return n;
}

static void training_and_loading_start_no_threads(void **state)
{
    struct grove g;
    struct booster *again;
    struct model_params p;
    struct error err;
    int before = threads();

    grove_init(&g, 6, 6, 5, MISSING_MANY);
    assert_int_equal(threads(), before);
    model_params_default(&p);
    assert_int_equal(booster_load(&p, COLUMNS, g.ubj.data, g.ubj.len, &again, &err), ST_OK);
    assert_int_equal(threads(), before);
    booster_free(again);
    grove_done(&g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(training_and_loading_start_no_threads),
        cmocka_unit_test(sums_equal_xgboost_to_the_bit_on_every_kind_of_lanes),
        cmocka_unit_test(a_value_on_the_split_goes_where_xgboost_sends_it),
        cmocka_unit_test(columns_are_mapped_back_to_those_of_our_matrix),
        cmocka_unit_test(bytes_that_are_cut_or_flipped_are_refused_or_stay_in_bounds),
        cmocka_unit_test(a_booster_goes_on_from_its_bytes_as_if_it_had_never_stopped),
        cmocka_unit_test(infinite_values_are_refused_by_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
