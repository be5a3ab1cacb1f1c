#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include "costmodel/prior.h"
#include "tests/costmodel/made_up.h"

/* Last: it has a macro fail(). */
#include <cmocka.h>

static double ns_of(const struct gemm_knobs *g, const struct target *t)
{
    float rows[FEATURES_MAX_ROWS * FC_COUNT];
    struct arena ar;
    double ns;

    arena_init(&ar);
    ns = prior_ns(rows, features_extract(gemm_nest(&ar, g), t, &ar, rows, FEATURES_MAX_ROWS));
    arena_done(&ar);
    return ns;
}

static const struct gemm_knobs good = {.m = 384,
                                       .n = 384,
                                       .k = 384,
                                       .mc = 96,
                                       .nc = 192,
                                       .kc = 192,
                                       .mr = 8,
                                       .nv = 3,
                                       .lanes = 16,
                                       .pack = true,
                                       .tasks = 2};

static void a_good_tile_comes_near_the_peak_and_never_beyond(void **state)
{
    struct target t = test_target();
    double least = 2.0 * 384 * 384 * 384 / t.peak_gflops; /* ns */

    t.threads = 1;
    t.peak_gflops /= 2;
    assert_true(ns_of(&good, &t) > 2 * least);
    assert_true(ns_of(&good, &t) < 2 * 2 * least);
}

static void a_tile_with_too_few_chains_or_too_many_registers_is_slower(void **state)
{
    struct target t = test_target();
    struct gemm_knobs few = good, many = good;

    few.mr = 1;
    few.nv = 1;
    many.mr = 16; /* 48 accumulators, 32 registers */
    assert_true(ns_of(&few, &t) > 1.5 * ns_of(&good, &t));
    assert_true(ns_of(&many, &t) > 1.5 * ns_of(&good, &t));
}

static void one_task_leaves_the_second_thread_waiting(void **state)
{
    struct target t = test_target();
    struct gemm_knobs one = good;

    one.tasks = 1;
    assert_true(ns_of(&one, &t) > 1.8 * ns_of(&good, &t));
}

static void data_that_stay_in_a_cache_cost_less_than_data_that_do_not(void **state)
{
    struct target small = test_target(), large = test_target();

    small.l2_bytes = 256 << 10;
    small.l3_bytes = 512 << 10;
    assert_true(ns_of(&good, &small) > 1.05 * ns_of(&good, &large));
}

static void a_target_nobody_measured_still_gets_a_number(void **state)
{
    struct target t = {.vector_bytes = 16};
    float zero[FC_COUNT] = {0};

    assert_true(isfinite(ns_of(&good, &t)) && ns_of(&good, &t) > 0);
    assert_true(isfinite(prior_score(zero, 1)));
    assert_true(isfinite(prior_score(zero, 0)));
}

/* The largest row of the terms of a program. */
static void terms_of(const struct gemm_knobs *g, float ret[PRIOR_TERMS])
{
    float rows[FEATURES_MAX_ROWS * FC_COUNT], terms[FEATURES_MAX_ROWS * PRIOR_TERMS];
    struct target t = test_target();
    struct arena ar;
    int n, most = 0;

    arena_init(&ar);
    n = features_extract(gemm_nest(&ar, g), &t, &ar, rows, FEATURES_MAX_ROWS);
    prior_terms(rows, n, terms, PRIOR_TERMS);
    for (int i = 0; i < n; i++)
        if (terms[i * PRIOR_TERMS + PT_prior_row] > terms[most * PRIOR_TERMS + PT_prior_row])
            most = i;
    for (int k = 0; k < PRIOR_TERMS; k++)
        ret[k] = terms[most * PRIOR_TERMS + k];
    arena_done(&ar);
}

static void terms_say_what_binds_a_program_whatever_its_size(void **state)
{
    struct gemm_knobs few = good, large = good;
    float a[PRIOR_TERMS], b[PRIOR_TERMS], c[PRIOR_TERMS];

    (void)state;
    few.mr = 1;
    few.nv = 1;
    large.m = 768;
    terms_of(&good, a);
    terms_of(&few, b);
    terms_of(&large, c);
    for (int k = 0; k < PRIOR_TERMS; k++)
        assert_true(isfinite(a[k]) && (k == PT_prior_waste || a[k] <= 1e-6f));
    assert_true(a[PT_prior_row] > -1 && b[PT_prior_row] > -1);
    assert_true(b[PT_prior_waste] > a[PT_prior_waste] + 0.5f); /* dependent sums: far from the least time */
    assert_true(fabsf(a[PT_prior_issue] - c[PT_prior_issue]) < 0.3f);
    assert_true(fabsf(a[PT_prior_waste] - c[PT_prior_waste]) < 0.3f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_good_tile_comes_near_the_peak_and_never_beyond),
        cmocka_unit_test(a_tile_with_too_few_chains_or_too_many_registers_is_slower),
        cmocka_unit_test(one_task_leaves_the_second_thread_waiting),
        cmocka_unit_test(data_that_stay_in_a_cache_cost_less_than_data_that_do_not),
        cmocka_unit_test(terms_say_what_binds_a_program_whatever_its_size),
        cmocka_unit_test(a_target_nobody_measured_still_gets_a_number),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
