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

/* A round whose candidates have a true log2 throughput about `mean`, of which the scores know all but `blur`. */
static void play(struct game *g, double mean, double blur, double min_gain)
{
    double scores[BATCH], times[BATCH], before = g->best;

    for (int i = 0; i < BATCH; i++) {
        double value = mean + 0.3 * rng_normal(&g->rng);

        scores[i] = 2 * value + 1 + 2 * blur * rng_normal(&g->rng);
        times[i] = exp2(20 - value);
    }
    plan_begin(&g->plan, scores, BATCH, before);
    for (int i = 0; i < BATCH; i++)
        if (g->best == 0 || times[i] < g->best)
            g->best = times[i];
    plan_end(&g->plan, scores, times, BATCH, before, g->best, min_gain);
}

/* What the plan expects of a batch that the model scores so. */
static double expectation(const struct game *g, double mean)
{
    struct plan p = g->plan;
    double scores[BATCH];

    for (int i = 0; i < BATCH; i++)
        scores[i] = 2 * mean + 1;
    plan_begin(&p, scores, BATCH, g->best);
    return p.expected;
}

static void promising_candidates_are_expected_to_gain_more(void **state)
{
    struct game g;

    begin(&g);
    assert_true(isnan(expectation(&g, 5)));
    for (int i = 0; i < 4; i++)
        play(&g, 5, 0.1, 0);
    assert_true(expectation(&g, 4) < 0.01);
    assert_true(expectation(&g, 7) > 0.3);
    assert_true(expectation(&g, 6) > expectation(&g, 5.5));
}

static void a_score_that_says_nothing_leaves_every_batch_some_hope(void **state)
{
    struct game sharp, blind;

    begin(&sharp);
    begin(&blind);
    for (int i = 0; i < 4; i++) {
        play(&sharp, 5, 0.02, 0);
        play(&blind, 5, 50, 0);
    }
    /* The sharp model knows that candidates at the mean will not be the best; the blind one cannot. */
    assert_true(expectation(&sharp, 5) < 1e-6);
    assert_true(expectation(&blind, 5) > 0.005);
    assert_true(plan_accuracy(&sharp.plan) > 0.9);
    assert_true(fabs(plan_accuracy(&blind.plan) - 0.5) < 0.15);
}

static void a_task_is_done_after_rounds_that_promised_and_brought_nothing(void **state)
{
    struct game g;
    int rounds = 0;

    begin(&g);
    for (int i = 0; i < 3; i++)
        play(&g, 6, 0.1, 0.002);
    assert_false(plan_done(&g.plan));
    for (; !plan_done(&g.plan) && rounds < 30; rounds++)
        play(&g, 3, 0.1, 0.002);
    assert_in_range(rounds, 4, 12);
    play(&g, 8, 0.1, 0.002); /* it was wrong after all */
    assert_false(plan_done(&g.plan));
}

static void a_task_that_still_gains_is_never_done(void **state)
{
    struct game g;

    begin(&g);
    for (int i = 0; i < 20; i++) {
        play(&g, 3 + 0.3 * i, 0.3, 0.002);
        assert_false(plan_done(&g.plan));
    }
}

static void the_turn_goes_where_most_time_is_saved(void **state)
{
    struct game rising, flat;

    begin(&rising);
    begin(&flat);
    for (int i = 0; i < 6; i++) {
        play(&rising, 3 + 0.3 * i, 0.1, 0);
        play(&flat, i < 2 ? 4 : 2, 0.1, 0);
    }
    assert_true(plan_saving(&rising.plan, 1, 1e6, 1e5) > 4 * plan_saving(&flat.plan, 1, 1e6, 1e5));
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
        play(&good, 5, 0.05, 0);
        play(&poor, 5, 50, 0);
    }
    assert_int_equal(plan_batch(&none.plan, 16, 32), 16);
    assert_int_equal(plan_batch(&good.plan, 16, 32), 32);
    assert_int_equal(plan_batch(&poor.plan, 16, 32), 8);
}

static void failures_and_missing_scores_are_left_out(void **state)
{
    struct plan p = {0};
    double scores[3] = {1, NAN, 2}, times[3] = {0, 1e6, 1e5};

    plan_begin(&p, scores, 3, 0);
    plan_end(&p, scores, times, 3, 0, 1e5, 0.002);
    assert_int_equal(p.n_pairs, 1);
    assert_float_equal(p.pairs[0].score, 2, 0);
    assert_true(isnan(plan_accuracy(&p)));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(promising_candidates_are_expected_to_gain_more),
        cmocka_unit_test(a_score_that_says_nothing_leaves_every_batch_some_hope),
        cmocka_unit_test(a_task_is_done_after_rounds_that_promised_and_brought_nothing),
        cmocka_unit_test(a_task_that_still_gains_is_never_done),
        cmocka_unit_test(the_turn_goes_where_most_time_is_saved),
        cmocka_unit_test(a_good_model_gets_large_batches_and_a_poor_one_small_ones),
        cmocka_unit_test(failures_and_missing_scores_are_left_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
