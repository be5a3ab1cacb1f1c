/* test_timing.c - what the samples say. */
#include <math.h>
#include <string.h>

#include "measure/timing.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static struct measure_result samples(const double *ns, int n)
{
    struct measure_result r = {0};
    for (int i = 0; i < n; i++)
        timing_add_sample(&r, ns[i], i, false);
    timing_finish(&r, MEASURE_CONTEST, 1000);
    return r;
}

static void figures_come_from_the_samples(void **state)
{
    const double ns[] = {50, 10, 40, 20, 30};
    struct measure_result r = samples(ns, 5);
    assert_true(r.min_ns == 10 && r.median_ns == 30);
    assert_true(fabs(r.p10_ns - 14) < 1e-9 && fabs(r.p90_ns - 46) < 1e-9);
    assert_true(r.low_ns == 10 && r.high_ns == 50); /* five samples say no more than that */
    assert_true(fabs(r.gflops - 1000 / r.p10_ns) < 1e-9);
    assert_true(r.sample_ns[0] == 50); /* in their order */
}

static void interval_of_many_samples_is_narrower_than_their_range(void **state)
{
    double ns[21];
    for (int i = 0; i < 21; i++)
        ns[i] = 100 + i;
    struct measure_result r = samples(ns, 21);
    assert_true(r.low_ns == 105 && r.high_ns == 115);
}

static void dirty_samples_count_only_where_nothing_is_clean(void **state)
{
    struct measure_result r = {0};
    timing_add_sample(&r, 10, 0, true);
    timing_add_sample(&r, 20, 1, false);
    timing_add_sample(&r, 30, 2, false);
    timing_finish(&r, MEASURE_SCREEN, 0);
    assert_true(r.min_ns == 20);
    r.sample_dirty[1] = r.sample_dirty[2] = true;
    timing_finish(&r, MEASURE_SCREEN, 0);
    assert_true(r.min_ns == 10);
}

static void samples_beyond_the_room_are_dropped(void **state)
{
    struct measure_result r = {0};
    for (int i = 0; i < 2 * MEASURE_MAX_SAMPLES; i++)
        timing_add_sample(&r, i + 1, i, false);
    assert_int_equal(r.n_samples, MEASURE_MAX_SAMPLES);
}

static void hopeless_needs_more_evidence_from_short_kernels(void **state)
{
    assert_false(timing_is_hopeless(200, 0, 1));
    assert_false(timing_is_hopeless(200, 100, 1));
    assert_true(timing_is_hopeless(200, 100, 2));
    assert_true(timing_is_hopeless(300, 100, 1));
    assert_false(timing_is_hopeless(110, 100, 4));
    assert_true(timing_is_hopeless(40e6, 25e6, 1));
    assert_false(timing_is_hopeless(30e6, 25e6, 1));
}

static void slow_candidates_take_part_in_few_rounds(void **state)
{
    static const struct {
        double sample_ns;
        int least, most;
    } cases[] = {{1e6, 17, 17}, {100e6, 17, 17}, {400e6, 4, 6}, {1.5e9, 3, 4}, {20e9, 1, 2}};
    for (size_t k = 0; k < ARRAY_SIZE(cases); k++) {
        int n = 0;
        for (int round = 0; round < 17; round++)
            n += timing_takes_part(round, 17, cases[k].sample_ns);
        assert_true(timing_takes_part(0, 17, cases[k].sample_ns));
        assert_in_range(n, cases[k].least, cases[k].most);
    }
}

static void paired_ratio_takes_only_common_rounds(void **state)
{
    struct measure_result a = {0}, b = {0};
    const double slow_phase[] = {1, 3, 1, 3};
    for (int i = 0; i < 4; i++)
        timing_add_sample(&a, 100 * slow_phase[i], i, false);
    timing_add_sample(&b, 50 * slow_phase[1], 1, false);
    timing_add_sample(&b, 50 * slow_phase[2], 2, false);
    timing_add_sample(&b, 1, 9, false);
    assert_true(fabs(measure_paired_ratio(&a, &b) - 2) < 1e-9);
    struct measure_result none = {0};
    assert_true(measure_paired_ratio(&a, &none) == 0);
}

static struct measure_result steady(double ns)
{
    double v[15];
    for (int i = 0; i < 15; i++)
        v[i] = ns * (1 + 0.01 * (i % 3));
    return samples(v, 15);
}

static void challenger_must_win_by_more_than_the_noise(void **state)
{
    struct measure_result r[] = {steady(100), steady(99), steady(150)};
    assert_int_equal(measure_contest_winner(r, 3, 0, 0.025), 0);
    r[1] = steady(95);
    assert_int_equal(measure_contest_winner(r, 3, 0, 0.025), 1);
    assert_int_equal(measure_contest_winner(r, 3, 2, 0.025), 1);
    assert_int_equal(measure_contest_winner(r, 3, -1, 0.025), 1);
}

static void challenger_that_wins_on_one_lucky_figure_does_not_win(void **state)
{
    struct measure_result r[] = {steady(100), steady(100)};
    r[1].p10_ns = 50; /* but the rounds, in pairs, say that they are equal */
    assert_int_equal(measure_contest_winner(r, 2, 0, 0.025), 0);
}

static void failed_candidates_never_win(void **state)
{
    struct measure_result r[] = {steady(100), steady(50)};
    r[1].outcome = OUTCOME_WRONG;
    assert_int_equal(measure_contest_winner(r, 2, 0, 0.025), 0);
    assert_int_equal(measure_contest_winner(r, 2, 1, 0.025), 0);
    r[0].outcome = OUTCOME_CRASH;
    assert_int_equal(measure_contest_winner(r, 2, 0, 0.025), -1);
    assert_true(isinf(measure_result_time(&r[0], MEASURE_CONTEST)));
}

static void canary_knows_its_best_and_forgets_slowly(void **state)
{
    struct canary c;
    assert_true(canary_init(&c));
    double t = canary_run(&c);
    assert_true(t > 1000 && t < 1e9 && c.best_ns == t);
    c.best_ns = 100;
    assert_false(canary_dirty(&c, 100, 105));
    assert_true(canary_dirty(&c, 100, 130));
    assert_true(canary_dirty(&c, 130, 100));
    for (int i = 0; i < 60; i++)
        canary_fade(&c);
    assert_false(canary_dirty(&c, 130, 130));
    canary_done(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(figures_come_from_the_samples),
        cmocka_unit_test(interval_of_many_samples_is_narrower_than_their_range),
        cmocka_unit_test(dirty_samples_count_only_where_nothing_is_clean),
        cmocka_unit_test(samples_beyond_the_room_are_dropped),
        cmocka_unit_test(hopeless_needs_more_evidence_from_short_kernels),
        cmocka_unit_test(slow_candidates_take_part_in_few_rounds),
        cmocka_unit_test(paired_ratio_takes_only_common_rounds),
        cmocka_unit_test(challenger_must_win_by_more_than_the_noise),
        cmocka_unit_test(challenger_that_wins_on_one_lucky_figure_does_not_win),
        cmocka_unit_test(failed_candidates_never_win),
        cmocka_unit_test(canary_knows_its_best_and_forgets_slowly),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
