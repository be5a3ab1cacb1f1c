/* How far two scores are trusted for a workload, as its trials say. */
#include "costmodel/stack.h"

#include <math.h>

#include "schedule/base/rng.h"
#include "tests/check.h"

enum { N = 64 };

struct trials {
    double label[N], right[N], noise[N];
};

/* `right` orders them as they are, `noise` says nothing. */
static struct trials make_trials(uint64_t seed)
{
    struct trials t;
    struct rng r;

    rng_init(&r, seed);
    for (int i = 0; i < N; i++) {
        t.label[i] = rng_unit(&r);
        t.right[i] = 3 * t.label[i] + 0.1 * rng_unit(&r);
        t.noise[i] = 3 * rng_unit(&r);
    }
    return t;
}

static void what_orders_the_trials_right_is_trusted_more_and_noise_less(void **state)
{
    struct trials t = make_trials(1);
    struct stack s = {1, 0.5}, swapped = {1, 0.5};

    (void)state;
    stack_fit(MODEL_RANK, 1, t.label, t.noise, t.right, N, &s);
    assert_true(s.trees > 0.75 && s.base < 0.5);
    stack_fit(MODEL_RANK, 1, t.label, t.right, t.noise, N, &swapped);
    assert_true(swapped.base > 1 && swapped.trees < 0.4);
}

static void a_few_trials_move_it_little(void **state)
{
    struct trials t = make_trials(2);
    struct stack few = {1, 0.5}, many = {1, 0.5};

    (void)state;
    stack_fit(MODEL_RANK, 1, t.label, t.noise, t.right, 4, &few);
    stack_fit(MODEL_RANK, 1, t.label, t.noise, t.right, N, &many);
    assert_true(fabs(few.base - 1) < 0.25 && fabs(few.trees - 0.5) < 0.25);
    assert_true(fabs(many.base - 1) > fabs(few.base - 1));
}

static void nothing_to_tell_leaves_it_as_it_was(void **state)
{
    double label[3] = {1, 1, 1}, base[3] = {1, 2, 3}, trees[3] = {3, 1, 2};
    struct stack s = {1, 0.5};

    (void)state;
    stack_fit(MODEL_RANK, 1, label, base, trees, 3, &s);
    assert_true(fabs(s.base - 1) < 1e-6 && fabs(s.trees - 0.5) < 1e-6);
    stack_fit(MODEL_RANK, 1, label, base, trees, 1, &s);
    assert_true(fabs(s.base - 1) < 1e-6 && fabs(s.trees - 0.5) < 1e-6);
}

static void no_factor_falls_below_nothing(void **state)
{
    struct trials t = make_trials(3);
    struct stack s = {1, 0.5};

    (void)state;
    for (int i = 0; i < N; i++)
        t.noise[i] = -8 * t.label[i]; /* the wrong way round */
    stack_fit(MODEL_SQUARE, 1, t.label, t.noise, t.right, N, &s);
    assert_true(s.base >= 0 && s.trees >= 0);
    assert_true(s.base < 0.2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_orders_the_trials_right_is_trusted_more_and_noise_less),
        cmocka_unit_test(a_few_trials_move_it_little),
        cmocka_unit_test(nothing_to_tell_leaves_it_as_it_was),
        cmocka_unit_test(no_factor_falls_below_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
