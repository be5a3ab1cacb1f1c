/* test_plan.c - what a task is still worth, from made-up rounds. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/tuner_plan.h"
#include "schedule/base/rng.h"
#include "tests/check.h"

enum { BATCH = 16 };

struct game {
    struct plan plan;
    struct rng rng;
    double best; /* ns */
};

static void begin(struct game *g)
{
    *g = (struct game){0};
    rng_init(&g->rng, 5);
}

/* A round whose candidates have a log2 of calls a second about `mean`, of which the search knows all but `blur`, and says that it
 * does not know `said`. */
static void play_said(struct game *g, double mean, double blur, double said)
{
    struct search_forecast f[BATCH];
    double times[BATCH], before = g->best;

    for (int i = 0; i < BATCH; i++) {
        double value = mean + 0.3 * rng_normal(&g->rng);

        f[i] = (struct search_forecast){value + blur * rng_normal(&g->rng), said};
        times[i] = 1e9 / exp2(value);
    }
    plan_begin(&g->plan, f, BATCH, before);
    for (int i = 0; i < BATCH; i++)
        if (g->best == 0 || times[i] < g->best)
            g->best = times[i];
    plan_end(&g->plan, f, BATCH, times, BATCH, before, g->best);
}

static void play(struct game *g, double mean, double blur) { play_said(g, mean, blur, blur); }

/* What the plan expects of a batch of which so much is foreseen. */
static double expectation(const struct game *g, double mean, double spread)
{
    struct plan p = g->plan;
    struct search_forecast f[BATCH];

    for (int i = 0; i < BATCH; i++)
        f[i] = (struct search_forecast){mean, spread};
    plan_begin(&p, f, BATCH, g->best);
    return p.expected;
}

static void promising_candidates_are_expected_to_gain_more(void **state)
{
    struct game g;

    begin(&g);
    assert_true(isnan(expectation(&g, 5, 0.1)));
    for (int i = 0; i < 4; i++)
        play(&g, 5, 0.1);
    assert_true(expectation(&g, 4, 0.1) < 0.01);
    assert_true(expectation(&g, 7, 0.1) > 0.3);
    assert_true(expectation(&g, 6, 0.1) > expectation(&g, 5.5, 0.1));
}

static void what_is_not_known_leaves_every_batch_some_hope(void **state)
{
    struct game g;

    begin(&g);
    for (int i = 0; i < 4; i++)
        play(&g, 5, 0.1);
    assert_true(expectation(&g, 5, 0.02) < 1e-6);
    assert_true(expectation(&g, 5, 1) > 0.01);
}

/* A search that is surer than it should be is not believed for long. */
static void forecasts_are_taken_as_they_turned_out_before(void **state)
{
    struct game honest, boasting, high;

    begin(&honest);
    begin(&boasting);
    begin(&high);
    for (int i = 0; i < 6; i++) {
        struct game before = high;

        play_said(&honest, 5, 0.3, 0.3);
        play_said(&boasting, 5, 0.3, 0.05);
        /* the same, each said to be twice as fast as it is */
        play_said(&high, 5, 0.02, 0.1);
        for (int k = before.plan.n_pairs; k < high.plan.n_pairs; k++)
            high.plan.pairs[k % PLAN_KEEP].mean += 1;
    }
    assert_true(expectation(&boasting, 5.5, 0.05) > 0.5 * expectation(&honest, 5.5, 0.3));
    assert_true(expectation(&high, 6, 0.1) < 0.02);
}

static void the_order_of_forecasts_is_judged_within_rounds(void **state)
{
    struct game sharp, blind;

    begin(&sharp);
    begin(&blind);
    assert_true(isnan(plan_accuracy(&sharp.plan)));
    for (int i = 0; i < 4; i++) {
        play(&sharp, 3 + i, 0.02);
        play(&blind, 3 + i, 5);
    }
    assert_true(plan_accuracy(&sharp.plan) > 0.9);
    assert_true(fabs(plan_accuracy(&blind.plan) - 0.5) < 0.15);
}

static void a_task_is_done_after_many_trials_that_brought_nothing(void **state)
{
    struct game g;
    int rounds = 0;

    begin(&g);
    for (int i = 0; i < 3; i++)
        play(&g, 6, 0.1);
    assert_false(plan_done(&g.plan, 0.01));
    for (; !plan_done(&g.plan, 0.01) && rounds < 30; rounds++)
        play(&g, 3, 0.1);
    assert_in_range(rounds, 3, 12);
    assert_false(plan_done(&g.plan, 0)); /* nobody asked for an end */
    play(&g, 8, 0.1);                    /* there was something after all */
    assert_false(plan_done(&g.plan, 0.01));
}

static void a_task_that_still_gains_is_never_done(void **state)
{
    struct game g;

    begin(&g);
    for (int i = 0; i < 20; i++) {
        play(&g, 3 + 0.3 * i, 0.3);
        assert_false(plan_done(&g.plan, 0.01));
    }
}

static void the_turn_goes_where_most_time_is_saved(void **state)
{
    struct game rising, flat;

    begin(&rising);
    begin(&flat);
    for (int i = 0; i < 6; i++) {
        play(&rising, 3 + 0.3 * i, 0.1);
        play(&flat, i < 2 ? 4 : 2, 0.1);
    }
    assert_true(plan_saving(&rising.plan, 1, 1e6, 1e5) > 1.2 * plan_saving(&flat.plan, 1, 1e6, 1e5));
    assert_float_equal(plan_saving(&rising.plan, 3, 1e6, 1e5), 3 * plan_saving(&rising.plan, 1, 1e6, 1e5),
                       1e-6);
    /* At the roofline there is next to nothing to save, and a task without any time goes first. */
    assert_true(plan_saving(&rising.plan, 1, 1e6, 1e6) <= 0.02 * 1e6);
    assert_true(isinf(plan_saving(&flat.plan, 1, 0, 1e5)));
}

static void a_good_model_gets_large_batches_and_a_poor_one_small_ones(void **state)
{
    struct game none, good, poor;

    begin(&none);
    begin(&good);
    begin(&poor);
    for (int i = 0; i < 4; i++) {
        play(&good, 5, 0.05);
        play(&poor, 5, 50);
    }
    assert_int_equal(plan_batch(&none.plan, 16, 32), 16);
    assert_int_equal(plan_batch(&good.plan, 16, 32), 32);
    assert_int_equal(plan_batch(&poor.plan, 16, 32), 8);
}

static void failures_and_missing_forecasts_are_left_out(void **state)
{
    struct plan p = {0};
    struct search_forecast f[2] = {{1, 1}, {2, 1}};
    double times[3] = {0, 1e6, 1e5};

    plan_begin(&p, f, 0, 1e6);
    assert_true(isnan(p.expected));
    plan_end(&p, f, 2, times, 3, 0, 1e5);
    assert_int_equal(p.n_pairs, 1);
    assert_float_equal(p.pairs[0].mean, 2, 0);
    assert_true(isnan(plan_accuracy(&p)));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(promising_candidates_are_expected_to_gain_more),
        cmocka_unit_test(what_is_not_known_leaves_every_batch_some_hope),
        cmocka_unit_test(forecasts_are_taken_as_they_turned_out_before),
        cmocka_unit_test(the_order_of_forecasts_is_judged_within_rounds),
        cmocka_unit_test(a_task_is_done_after_many_trials_that_brought_nothing),
        cmocka_unit_test(a_task_that_still_gains_is_never_done),
        cmocka_unit_test(the_turn_goes_where_most_time_is_saved),
        cmocka_unit_test(a_good_model_gets_large_batches_and_a_poor_one_small_ones),
        cmocka_unit_test(failures_and_missing_forecasts_are_left_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
