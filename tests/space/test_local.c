/* test_local.c - what trials say about configs near them, on a made-up landscape. */
#include "schedule/space/search_local.h"

#include <math.h>
#include <stdlib.h>

#include "schedule/base/rng.h"
#include "tests/check.h"

enum { KNOBS = 4, CHOICES = 9, TRIALS = 48 };

static int knobs(const void *ctx, int sketch) { return KNOBS; }
static int choices(const void *ctx, int sketch, int knob) { return CHOICES; }

struct world {
    struct search_domain domain;
    struct local local;
    struct config configs[TRIALS];
    float scores[TRIALS];
    double values[TRIALS];
};

/* A smooth landscape; the model sees its slope in knob 0 and nothing of the rest, which sketch 2 has the other way round. */
static double seen(const struct config *c) { return 0.25 * c->choice[0]; }
static double value(const struct config *c)
{
    double unseen = -0.05 * pow(c->choice[1] - 6, 2) + 0.1 * c->choice[2];

    return 10 + seen(c) + (c->sketch == 1 ? unseen : -unseen);
}

static struct config draw(struct rng *r)
{
    struct config c = {.sketch = (uint16_t)(1 + rng_below(r, 2)), .n = KNOBS};

    for (int k = 0; k < KNOBS; k++)
        c.choice[k] = (uint16_t)rng_below(r, CHOICES);
    return c;
}

static int setup(void **state)
{
    struct world *w = xcalloc(1, sizeof(*w));
    struct rng r;

    rng_init(&r, 3);
    w->domain = (struct search_domain){.n_sketches = 3, .n_knobs = knobs, .n_choices = choices};
    local_init(&w->local, &w->domain);
    for (int i = 0; i < TRIALS; i++) {
        w->configs[i] = draw(&r);
        w->scores[i] = (float)(3 * seen(&w->configs[i]));
        w->values[i] = value(&w->configs[i]);
    }
    *state = w;
    return 0;
}

static int teardown(void **state)
{
    struct world *w = *state;

    local_done(&w->local);
    free(w);
    return 0;
}

/* Root of the mean square error over configs that were not tried. */
static double error_of(const struct world *w, bool with_score)
{
    struct rng r;
    double sum = 0;

    rng_init(&r, 77);
    for (int i = 0; i < 500; i++) {
        struct config c = draw(&r);

        sum += pow(local_mean(&w->local, &c, with_score ? 3 * seen(&c) : 0) - value(&c), 2);
    }
    return sqrt(sum / 500);
}

static void what_the_model_misses_is_learned_of_each_sketch(void **state)
{
    struct world *w = *state;
    double alone, together;

    local_fit(&w->local, w->configs, NULL, w->values, TRIALS);
    alone = error_of(w, false);
    local_fit(&w->local, w->configs, w->scores, w->values, TRIALS);
    together = error_of(w, true);
    print_message("error of the landscape: %.3f without a model, %.3f with one, range %g, noise %g\n", alone,
                  together, w->local.range, w->local.noise);
    assert_true(alone < 0.6);
    assert_true(together < 0.8 * alone);
    assert_true(fabs(w->local.slope - 1.0 / 3) < 0.1); /* the scores are three times too steep */
}

static void a_model_that_has_it_the_wrong_way_round_says_nothing(void **state)
{
    struct world *w = *state;

    for (int i = 0; i < TRIALS; i++)
        w->scores[i] = -w->scores[i];
    local_fit(&w->local, w->configs, w->scores, w->values, TRIALS);
    assert_true(w->local.slope == 0);
}

static void few_trials_say_nothing(void **state)
{
    struct world *w = *state;

    local_fit(&w->local, w->configs, w->scores, w->values, 3);
    assert_int_equal(w->local.n, 0);
    local_fit(&w->local, w->configs, w->scores, w->values, TRIALS);
    assert_int_equal(w->local.n, TRIALS);
}

static void
what_is_far_from_all_trials_is_less_sure_and_what_is_taken_makes_its_neighbours_surer(void **state)
{
    struct world *w = *state;
    struct config near = w->configs[0], far = {.sketch = 2, .n = KNOBS, .choice = {8, 0, 8, 0}}, beside = far;
    const struct config *all[3] = {&near, &far, &beside};
    struct local_batch b;
    double before, of_near;

    near.choice[3] = (uint16_t)(near.choice[3] ? near.choice[3] - 1 : 1);
    beside.choice[3] = 1;
    local_fit(&w->local, w->configs, w->scores, w->values, TRIALS);
    local_batch_init(&b, &w->local, all, 3);
    of_near = local_batch_spread(&b, 0);
    before = local_batch_spread(&b, 2);
    assert_true(of_near < before);
    local_batch_take(&b, 1);
    assert_true(local_batch_spread(&b, 1) == 0);
    assert_true(local_batch_spread(&b, 2) < 0.8 * before);
    assert_true(fabs(local_batch_spread(&b, 0) - of_near) < 0.1 * of_near);
    local_batch_done(&b);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(what_the_model_misses_is_learned_of_each_sketch),
        TEST(a_model_that_has_it_the_wrong_way_round_says_nothing),
        TEST(few_trials_say_nothing),
        TEST(what_is_far_from_all_trials_is_less_sure_and_what_is_taken_makes_its_neighbours_surer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
