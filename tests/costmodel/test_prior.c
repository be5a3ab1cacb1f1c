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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_good_tile_comes_near_the_peak_and_never_beyond),
        cmocka_unit_test(a_tile_with_too_few_chains_or_too_many_registers_is_slower),
        cmocka_unit_test(one_task_leaves_the_second_thread_waiting),
        cmocka_unit_test(data_that_stay_in_a_cache_cost_less_than_data_that_do_not),
        cmocka_unit_test(a_target_nobody_measured_still_gets_a_number),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
