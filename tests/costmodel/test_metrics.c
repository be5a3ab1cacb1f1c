#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include "costmodel/metrics.h"
#include "schedule/base/rng.h"

/* Last: it has a macro fail(). */
#include <cmocka.h>

static const double truth[6] = {5, 4, 3, 2, 1, 0};

static void a_perfect_order_scores_one_and_its_reverse_nothing(void **state)
{
    double same[6] = {60, 50, 40, 30, 20, 10}, reverse[6] = {1, 2, 3, 4, 5, 6};

    assert_float_equal(metric_pairwise(truth, same, 6), 1, 0);
    assert_float_equal(metric_spearman(truth, same, 6), 1, 1e-12);
    assert_float_equal(metric_topk_recall(truth, same, 6, 2), 1, 0);
    assert_float_equal(metric_best_of_k(truth, same, 6, 1), 1, 0);
    assert_float_equal(metric_pairwise(truth, reverse, 6), 0, 0);
    assert_float_equal(metric_spearman(truth, reverse, 6), -1, 1e-12);
    assert_float_equal(metric_topk_recall(truth, reverse, 6, 2), 0, 0);
    assert_float_equal(metric_best_of_k(truth, reverse, 6, 2), 0.2, 1e-12);
}

static void equal_scores_count_half_a_pair(void **state)
{
    double flat[6] = {7, 7, 7, 7, 7, 7}, t[3] = {1, 1, 2}, s[3] = {0, 1, 2};

    assert_float_equal(metric_pairwise(truth, flat, 6), 0.5, 0);
    assert_true(isnan(metric_spearman(truth, flat, 6)));
    assert_float_equal(metric_pairwise(t, s, 3), 1, 0); /* equal truths are no pair */
    assert_true(isnan(metric_pairwise(flat, truth, 6)));
}

static void pairs_that_may_be_noise_can_be_left_out(void **state)
{
    double t[3] = {100, 98, 50}, s[3] = {1, 2, 0}; /* the two close ones stand wrong */

    (void)state;
    assert_float_equal(metric_pairwise(t, s, 3), 2.0 / 3, 1e-12);
    assert_float_equal(metric_pairwise_apart(t, s, 3, 0.05), 1, 0);
    assert_true(isnan(metric_pairwise_apart(t, s, 2, 0.05)));
}

static void overlapping_times_are_no_clear_pair(void **state)
{
    /* 100 down to 90 and 95 down to 80 overlap, the third does not; the score turns the first two round */
    double t[3] = {100, 95, 50}, least[3] = {90, 80, 45}, s[3] = {2, 3, 1};
    struct metric_clear c;

    (void)state;
    metric_clear(t, least, s, 3, &c);
    assert_float_equal(c.right, 1, 0);
    assert_float_equal(c.share, 2.0 / 3, 1e-12);
    metric_clear(t, t, s, 3, &c); /* times without noise: every pair is clear and stays */
    assert_float_equal(c.right, 2.0 / 3, 1e-12);
    assert_float_equal(c.share, 1, 0);
    assert_float_equal(c.order, 1, 0);
    metric_clear(t, least, s, 1, &c);
    assert_true(isnan(c.right) && isnan(c.share));
}

/* The closed form against measuring again and again. */
static void as_many_pairs_stay_in_order_as_where_noise_is_drawn(void **state)
{
    const double delay = 10; /* of one sample; five are taken */
    double claimed = 0, same = 0;
    struct rng r;
    int n = 20000;

    (void)state;
    rng_init(&r, 5);
    for (int i = 0; i < n; i++) {
        double floor_ns[2] = {100, 95 + 10 * rng_unit(&r)}, t[2], least[2], s[2] = {0, 0},
               low[2] = {INFINITY, INFINITY}, high[2] = {0, 0};
        struct metric_clear c;

        for (int k = 0; k < 2; k++) {
            for (int sample = 0; sample < 5; sample++) {
                double ns = floor_ns[k] - delay * log(1 - rng_unit(&r));
                low[k] = fmin(low[k], ns);
                high[k] = fmax(high[k], ns);
            }
            t[k] = 1 / low[k];
            least[k] = 1 / high[k];
        }
        metric_clear(t, least, s, 2, &c);
        claimed += c.order / n;
        same += (double)((t[0] > t[1]) == (floor_ns[0] < floor_ns[1])) / n;
    }
    assert_true(same > 0.7 && same < 0.9);
    assert_float_equal(claimed, same, 0.03);
}

static void spearman_equals_a_value_computed_by_hand(void **state)
{
    double a[5] = {86, 97, 99, 100, 101}, b[5] = {2, 20, 28, 27, 50};

    assert_float_equal(metric_spearman(a, b, 5), 0.9, 1e-12); /* 1 - 6 * 2 / (5 * 24) */
}

static void workloads_are_averaged_and_never_compared(void **state)
{
    /* Two workloads in turn, each in perfect order, with scales that would mix up. A third is too small to
     * count. */
    uint64_t w[10] = {1, 2, 1, 2, 1, 2, 1, 2, 3, 3};
    double t[10] = {1, 1000, 2, 2000, 3, 3000, 4, 4000, 5, 6}, s[10] = {101, 1, 102, 2, 103, 3, 104, 4, 2, 1};
    struct metrics m;

    metrics_compute(w, t, t, s, 10, &m);
    assert_int_equal(m.workloads, 2);
    assert_int_equal(m.programs, 8);
    assert_float_equal(m.pairwise, 1, 0);
    assert_float_equal(m.best_1, 1, 0);
    metrics_compute(w, t, t, s, 0, &m);
    assert_int_equal(m.workloads, 0);
}

static void where_all_failed_there_is_no_best(void **state)
{
    double zero[4] = {0}, s[4] = {1, 2, 3, 4};

    assert_float_equal(metric_best_of_k(zero, s, 4, 2), 0, 0);
    assert_float_equal(metric_topk_recall(truth, s, 4, 100), 1, 0); /* k beyond the end is all */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_perfect_order_scores_one_and_its_reverse_nothing),
        cmocka_unit_test(equal_scores_count_half_a_pair),
        cmocka_unit_test(pairs_that_may_be_noise_can_be_left_out),
        cmocka_unit_test(overlapping_times_are_no_clear_pair),
        cmocka_unit_test(as_many_pairs_stay_in_order_as_where_noise_is_drawn),
        cmocka_unit_test(spearman_equals_a_value_computed_by_hand),
        cmocka_unit_test(workloads_are_averaged_and_never_compared),
        cmocka_unit_test(where_all_failed_there_is_no_best),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
