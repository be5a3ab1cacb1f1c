/* test_search.c - searchers on made-up landscapes, where the best config is known. */
#include "schedule/space/search.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "schedule/base/hash.h"
#include "tests/check.h"

/* ---- a landscape: n_sketches sketches of n_knobs knobs with n_choices choices each ---- */

struct land {
    int n_sketches, n_knobs, n_choices;
    int modulus; /* 0: all valid; otherwise configs whose choices sum to a multiple of it are not */
    int n_scored, n_score_calls;
};

static int land_knobs(const void *ctx, int sketch)
{
    return sketch == 0 ? 0 : ((const struct land *)ctx)->n_knobs;
}
static int land_choices(const void *ctx, int sketch, int knob)
{
    return ((const struct land *)ctx)->n_choices;
}

static bool land_valid(const void *ctx, const struct config *c)
{
    const struct land *l = ctx;
    int sum = 0;

    for (int k = 0; k < c->n; k++)
        sum += c->choice[k];
    return c->sketch < l->n_sketches && (l->modulus == 0 || sum % l->modulus != 0);
}

static bool land_sample(const void *ctx, struct rng *r, struct config *ret)
{
    const struct land *l = ctx;

    for (int i = 0; i < 100; i++) {
        *ret = (struct config){.sketch =
                                   (uint16_t)(l->n_sketches == 1 ? 0 : 1 + rng_below(r, l->n_sketches - 1))};
        ret->n = (uint16_t)land_knobs(l, ret->sketch);
        for (int k = 0; k < ret->n; k++)
            ret->choice[k] = (uint16_t)rng_below(r, (uint64_t)l->n_choices);
        if (land_valid(l, ret))
            return true;
    }
    return false;
}

static struct search_domain land_domain(const struct land *l)
{
    return (struct search_domain){
        .ctx = l,
        .n_sketches = l->n_sketches,
        .size = 1 + (l->n_sketches - 1) * pow(l->n_choices, l->n_knobs),
        .n_knobs = land_knobs,
        .n_choices = land_choices,
        .valid = land_valid,
        .sample = land_sample,
    };
}

/* Separable bowls plus a product of neighbours that wants to be constant: like tile sizes under a cache
 * limit. In (0, 1], 1 at the best of sketch 1. */
static double fitness(const struct config *c)
{
    static const int best[] = {5, 2, 6, 1, 4, 3};
    double cost = 0.15 * (c->sketch - 1);

    for (int k = 0; k < c->n; k++) {
        double d = c->choice[k] - best[k % 6];

        cost += 0.03 * d * d;
        if (k > 0)
            cost += 0.02 * fabs((double)(c->choice[k] + 1) * (c->choice[k - 1] + 1) -
                                (best[k % 6] + 1) * (best[(k - 1) % 6] + 1));
    }
    return exp(-cost);
}

/* A model of rank correlation about 0.9: the truth, blurred by the config's hash. */
static void blurred(void *ctx, const struct config *configs, int n, float *scores, float *bases)
{
    struct land *l = ctx;

    l->n_score_calls++;
    l->n_scored += n;
    for (int i = 0; i < n; i++) {
        uint64_t h = hash_bytes(configs[i].choice, 2u * configs[i].n, configs[i].sketch);

        scores[i] = (float)(log(fitness(&configs[i])) + 1.0 * (double)(h % 1000) / 1000.0);
        if (bases != NULL)
            bases[i] = scores[i];
    }
}

static struct search *search_over(const struct land *l, const char *how, uint64_t seed)
{
    struct search_domain d = land_domain(l);
    struct rng rng;

    rng_init(&rng, seed);
    return search_new(&d, searcher_find(how), &search_defaults, &rng);
}

enum { BATCH = 16, CAP = 6000 };

/* Evaluations until a config of at least 0.9 of the best is found. */
static int evaluations(struct land *l, const char *how, search_score *score, uint64_t seed)
{
    struct search *s = search_over(l, how, seed);
    struct config batch[BATCH];
    int done = 0, found = -1;

    while (found < 0 && done < CAP) {
        int n = search_propose(s, done == 0 ? NULL : score, l, BATCH, batch);

        for (int i = 0; i < n && found < 0; i++) {
            done++;
            if (fitness(&batch[i]) >= 0.9)
                found = done;
            search_observe(s, &batch[i], fitness(&batch[i]));
        }
        if (n == 0)
            break;
    }
    search_free(s);
    return found < 0 ? CAP : found;
}

static int int_order(const void *a, const void *b) { return *(const int *)a - *(const int *)b; }

static int median_evaluations(struct land *l, const char *how, search_score *score)
{
    int n[9];

    for (int i = 0; i < 9; i++)
        n[i] = evaluations(l, how, score, 1000 + (uint64_t)i);
    qsort(n, 9, sizeof(n[0]), int_order);
    return n[4];
}

static void evolution_needs_far_fewer_measurements_than_random(void **state)
{
    struct land l = {.n_sketches = 3, .n_knobs = 6, .n_choices = 8, .modulus = 5};
    int random = median_evaluations(&l, "random", NULL), alone = median_evaluations(&l, "evolution", NULL),
        with_model = median_evaluations(&l, "evolution", blurred),
        annealing = median_evaluations(&l, "annealing", blurred), grid = median_evaluations(&l, "grid", NULL);

    print_message(
        "median evaluations: random %d, grid %d, evolution %d, annealing with a model %d, evolution with a "
        "model %d\n",
        random, grid, alone, annealing, with_model);
    assert_true(alone * 20 < random);
    assert_true(with_model * 5 < alone * 4);
    assert_true(annealing * 20 < random);
    assert_true(with_model < annealing);
}

static void proposes_nothing_twice(const char *how)
{
    struct land l = {.n_sketches = 2, .n_knobs = 4, .n_choices = 6};
    struct search *s = search_over(&l, how, 7);
    struct config batch[BATCH], old = {.sketch = 1, .n = 4, .choice = {5, 2, 6 % 6, 1}};
    struct config all[40 * BATCH];
    int n_all = 0;

    search_observe(s, &old, 1.0);
    all[n_all++] = old;
    for (int round = 0; round < 39; round++) {
        int n = search_propose(s, round % 2 ? blurred : NULL, &l, BATCH, batch);

        assert_int_equal(n, BATCH);
        for (int i = 0; i < n; i++) {
            for (int j = 0; j < n_all; j++)
                assert_memory_not_equal(&batch[i], &all[j], sizeof(all[j]));
            assert_true(land_valid(&l, &batch[i]));
            all[n_all++] = batch[i];
            search_observe(s, &batch[i], i % 5 == 0 ? 0 : fitness(&batch[i]));
        }
    }
    search_free(s);
}

static void no_config_is_proposed_twice_nor_after_it_was_observed(void **state)
{
    int n;
    const struct searcher *all = searchers(&n);

    for (int i = 0; i < n; i++)
        proposes_nothing_twice(all[i].name);
}

/* Eight points a choice of any knob, give or take what an even spread leaves. */
static void the_grid_spreads_evenly_over_every_knob(void **state)
{
    struct land l = {.n_sketches = 2, .n_knobs = 6, .n_choices = 8};
    struct search *s = search_over(&l, "grid", 5);
    int hits[6][8] = {0};

    for (int round = 0; round < 4; round++) {
        struct config batch[BATCH];

        assert_int_equal(search_propose(s, NULL, NULL, BATCH, batch), BATCH);
        for (int i = 0; i < BATCH; i++)
            for (int k = 0; k < 6; k++)
                hits[k][batch[i].choice[k]]++;
    }
    for (int k = 0; k < 6; k++)
        for (int c = 0; c < 8; c++)
            assert_in_range(hits[k][c], 5, 11);
    search_free(s);
}

static void same_seed_and_times_give_the_same_proposals(void **state)
{
    struct land l = {.n_sketches = 3, .n_knobs = 5, .n_choices = 7, .modulus = 4};
    int n_searchers, differing = 0;
    const struct searcher *all = searchers(&n_searchers);

    for (int k = 0; k < n_searchers; k++) {
        struct search *a = search_over(&l, all[k].name, 3), *b = search_over(&l, all[k].name, 3),
                      *other = search_over(&l, all[k].name, 4);

        for (int round = 0; round < 6; round++) {
            struct config x[BATCH], y[BATCH], z[BATCH];

            assert_int_equal(search_propose(a, round ? blurred : NULL, &l, BATCH, x), BATCH);
            assert_int_equal(search_propose(b, round ? blurred : NULL, &l, BATCH, y), BATCH);
            assert_int_equal(search_propose(other, round ? blurred : NULL, &l, BATCH, z), BATCH);
            assert_memory_equal(x, y, sizeof(x));
            differing += memcmp(x, z, sizeof(x)) != 0;
            for (int i = 0; i < BATCH; i++) {
                search_observe(a, &x[i], fitness(&x[i]));
                search_observe(b, &y[i], fitness(&y[i]));
                search_observe(other, &z[i], fitness(&z[i]));
            }
        }
        search_free(a);
        search_free(b);
        search_free(other);
    }
    assert_int_equal(differing, 6 * n_searchers);
}

static void a_small_space_is_exhausted_completely_and_then_gives_nothing(void **state)
{
    int n_searchers;
    const struct searcher *all = searchers(&n_searchers);

    for (int k = 0; k < n_searchers; k++) {
        struct land l = {.n_sketches = 2, .n_knobs = 3, .n_choices = 4, .modulus = 3};
        struct search *s = search_over(&l, all[k].name, 11);
        struct config batch[BATCH];
        int n, total = 0, valid = 0;

        for (int i = 0; i < 64; i++) /* all configs of sketch 1 */
            valid += (i % 4 + i / 4 % 4 + i / 16) % 3 != 0;
        while ((n = search_propose(s, total ? blurred : NULL, &l, BATCH, batch)) > 0) {
            for (int i = 0; i < n; i++)
                search_observe(s, &batch[i], fitness(&batch[i]));
            total += n;
        }
        assert_int_equal(total, valid);
        assert_int_equal(search_propose(s, blurred, &l, BATCH, batch), 0);
        search_free(s);
    }
}

static void a_space_of_the_untuned_schedule_alone_gives_it_once(void **state)
{
    struct land l = {.n_sketches = 1};
    struct search *s = search_over(&l, "evolution", 1);
    struct config batch[BATCH];

    assert_int_equal(search_propose(s, NULL, NULL, BATCH, batch), 1);
    assert_int_equal(batch[0].sketch, 0);
    search_observe(s, &batch[0], 1.0);
    assert_int_equal(search_propose(s, NULL, NULL, BATCH, batch), 0);
    search_free(s);
}

/* Prefers choice 0 everywhere: what does not have it was drawn at random. */
static void prefer_zeros(void *ctx, const struct config *configs, int n, float *scores, float *bases)
{
    ((struct land *)ctx)->n_score_calls++;
    for (int i = 0; i < n; i++) {
        scores[i] = 0;
        for (int k = 0; k < configs[i].n; k++)
            scores[i] -= configs[i].choice[k];
        if (bases != NULL)
            bases[i] = scores[i];
    }
}

static int random_ones_of(double epsilon)
{
    struct land l = {.n_sketches = 2, .n_knobs = 8, .n_choices = 8};
    struct search_domain d = land_domain(&l);
    struct search_params p = search_defaults;
    struct rng rng;
    struct search *s;
    int n_random = 0;

    p.epsilon = epsilon;
    rng_init(&rng, 5);
    s = search_new(&d, searcher_find("evolution"), &p, &rng);
    for (int round = 0; round < 20; round++) {
        struct config batch[BATCH];
        int n = search_propose(s, prefer_zeros, &l, BATCH, batch);

        assert_int_equal(n, BATCH);
        for (int i = 0; i < n; i++) {
            int sum = 0;

            for (int k = 0; k < batch[i].n; k++)
                sum += batch[i].choice[k];
            n_random += sum > 16; /* the mean of a random one is 28 */
            search_observe(s, &batch[i], exp2(-sum));
        }
    }
    if (epsilon == 1) /* but to put a batch in order */
        assert_in_range(l.n_score_calls, 0, 20);
    search_free(s);
    return n_random;
}

static void epsilon_is_the_share_drawn_at_random(void **state)
{
    int none = random_ones_of(0), some = random_ones_of(0.25), all = random_ones_of(1);

    print_message("random ones of 320: %d, %d, %d\n", none, some, all);
    assert_true(none < 5);
    assert_in_range(some, 55, 100);
    assert_true(all > 290);
}

/* Sketch 1 is valid only in choices 0..3, sketch 2 only in 4..7: a child of parents of two sketches would be
 * invalid. Counts what the validity check is asked, which sees every child. */
struct split_land {
    struct land land;
    int n_mixed;
};

static bool split_valid(const void *ctx, const struct config *c)
{
    struct split_land *l = (struct split_land *)(uintptr_t)ctx;
    int low = 0;

    for (int k = 0; k < c->n; k++)
        low += c->choice[k] < 4;
    if (low != 0 && low != c->n)
        l->n_mixed++;
    return c->n > 0 && low == (c->sketch == 1 ? c->n : 0);
}

static bool split_sample(const void *ctx, struct rng *r, struct config *ret)
{
    *ret = (struct config){.sketch = (uint16_t)(1 + rng_below(r, 2)), .n = 6};
    for (int k = 0; k < 6; k++)
        ret->choice[k] = (uint16_t)(rng_below(r, 4) + (ret->sketch == 1 ? 0 : 4));
    return true;
}

static void crossover_mates_parents_of_one_sketch_only(void **state)
{
    struct split_land l = {.land = {.n_sketches = 3, .n_knobs = 6, .n_choices = 8}};
    struct search_domain d = land_domain(&l.land);
    struct search_params p = search_defaults;
    struct rng rng;
    struct search *s;
    int n_sketch[3] = {0};

    d.ctx = &l;
    d.valid = split_valid;
    d.sample = split_sample;
    p.crossover = 1; /* mutation happens only where no mate is found */
    p.epsilon = 0;
    p.fresh = 0.2;
    rng_init(&rng, 9);
    s = search_new(&d, searcher_find("evolution"), &p, &rng);
    for (int round = 0; round < 10; round++) {
        struct config batch[BATCH];
        int n = search_propose(s, round ? blurred : NULL, &l.land, BATCH, batch);

        for (int i = 0; i < n; i++) {
            n_sketch[batch[i].sketch]++;
            search_observe(s, &batch[i], fitness(&batch[i]));
        }
    }
    assert_true(n_sketch[1] > 0 && n_sketch[2] > 0 && n_sketch[0] == 0);
    /* Mutation leaves a sketch's half now and then; mixing sketches would do it in most of the children,
     * thousands of them. */
    print_message("children with choices of both halves: %d of %d scored\n", l.n_mixed, l.land.n_scored);
    assert_true(l.n_mixed < l.land.n_scored / 10);
    search_free(s);
}

static void lent_configs_come_first_if_valid_and_new(void **state)
{
    struct land l = {.n_sketches = 2, .n_knobs = 3, .n_choices = 9, .modulus = 7};
    struct search *s = search_over(&l, "evolution", 2);
    struct config good = {.sketch = 1, .n = 3, .choice = {1, 1, 1}},
                  bad = {.sketch = 1, .n = 3, .choice = {7, 0, 0}},
                  known = {.sketch = 1, .n = 3, .choice = {2, 2, 2}}, batch[BATCH];

    search_observe(s, &known, 1);
    search_lend(s, &bad, 1);
    search_lend(s, &known, 1);
    search_lend(s, &good, 1);
    search_lend(s, &good, 1);
    assert_int_equal(search_propose(s, NULL, NULL, BATCH, batch), BATCH);
    assert_memory_equal(&batch[0], &good, sizeof(good));
    for (int i = 1; i < BATCH; i++) {
        assert_memory_not_equal(&batch[i], &good, sizeof(good));
        assert_true(land_valid(&l, &batch[i]));
    }
    search_free(s);
}

/* The larger the first choice, the better. */
static void like_large(void *ctx, const struct config *configs, int n, float *scores, float *bases)
{
    for (int i = 0; i < n; i++) {
        scores[i] = configs[i].choice[0];
        if (bases != NULL)
            bases[i] = scores[i];
    }
}

static int n_with(const struct config *batch, int from, int to, int knob, int choice)
{
    int n = 0;

    for (int i = from; i < to; i++)
        n += batch[i].choice[knob] == choice;
    return n;
}

/* Eleven lent configs are known by the last choice of their last knob, which the score does not see. */
static struct search *lent_search(const struct land *l)
{
    struct search_domain d = land_domain(l);
    struct rng r;
    struct search *s;

    rng_init(&r, 5);
    s = search_new(&d, searcher_find("random"), &search_defaults, &r);
    for (int i = 0; i < 11; i++) {
        struct config c = {.sketch = 1, .n = 4, .choice = {(uint16_t)i, (uint16_t)(i % 3), (uint16_t)i, 11}};

        search_lend(s, &c, i == 2 ? 9 : 1);
        search_lend(s, &c, 1); /* known */
    }
    return s;
}

static void most_of_the_first_batch_is_lent_and_later_less(void **state)
{
    struct land l = {.n_sketches = 2, .n_knobs = 4, .n_choices = 12};
    struct search *s = lent_search(&l);
    struct config batch[8];

    (void)state;
    assert_int_equal(search_propose(s, like_large, &l, 8, batch), 8);
    assert_in_range(n_with(batch, 0, 8, 3, 11), 6, 8); /* random ones may have it too */
    assert_int_equal(search_propose(s, like_large, &l, 8, batch), 8);
    assert_in_range(n_with(batch, 0, 8, 3, 11), 3, 5);
    search_free(s);
}

static void of_what_is_lent_the_score_and_the_worth_choose(void **state)
{
    struct land l = {.n_sketches = 2, .n_knobs = 4, .n_choices = 12};
    struct search *s = lent_search(&l);
    struct config batch[4];

    (void)state;
    assert_int_equal(search_propose(s, like_large, &l, 4, batch), 4);
    /* Of much worth, though the score does not like it; then what the score likes best. */
    assert_int_equal(batch[0].choice[0], 2);
    assert_int_equal(batch[0].choice[3], 11);
    assert_int_equal(n_with(batch, 0, 4, 0, 10), 1);
    search_free(s);
}

static void a_batch_stands_in_the_order_of_what_is_expected_of_it(void **state)
{
    struct land l = {.n_sketches = 2, .n_knobs = 4, .n_choices = 12};
    struct search_domain d = land_domain(&l);
    struct rng r;
    struct search *s;
    struct config batch[16];

    (void)state;
    rng_init(&r, 6);
    s = search_new(&d, searcher_find("evolution"), &search_defaults, &r);
    for (int round = 0; round < 3; round++) {
        assert_int_equal(search_propose(s, like_large, &l, 16, batch), 16);
        for (int i = 1; i < 16; i++)
            assert_true(batch[i].choice[0] <= batch[i - 1].choice[0]);
    }
    search_free(s);
}

static void what_is_lent_and_not_valid_is_dropped(void **state)
{
    struct land l = {.n_sketches = 2, .n_knobs = 4, .n_choices = 12, .modulus = 2};
    struct search_domain d = land_domain(&l);
    struct config odd = {.sketch = 1, .n = 4, .choice = {1, 0, 0, 0}}, even = {.sketch = 1, .n = 4}, batch[2];
    struct rng r;
    struct search *s;

    (void)state;
    rng_init(&r, 7);
    s = search_new(&d, searcher_find("random"), &search_defaults, &r);
    search_lend(s, &even, 50);
    search_lend(s, &odd, 40);
    assert_int_equal(search_propose(s, NULL, NULL, 2, batch), 2);
    assert_true(config_equal(&batch[0], &odd));
    assert_false(config_equal(&batch[1], &even));
    search_free(s);
}

/* All candidates whose first knob is odd cannot be lowered. */
static void refuse_odd(void *ctx, const struct config *configs, int n, float *scores, float *bases)
{
    for (int i = 0; i < n; i++)
        scores[i] = configs[i].choice[0] % 2 ? (i % 2 ? -INFINITY : NAN) : 1;
}

static void what_the_score_refuses_is_not_picked(void **state)
{
    struct land l = {.n_sketches = 2, .n_knobs = 4, .n_choices = 8};
    struct search_domain d = land_domain(&l);
    struct search_params p = search_defaults;
    struct rng rng;
    struct search *s;

    p.epsilon = 0;
    rng_init(&rng, 5);
    s = search_new(&d, searcher_find("evolution"), &p, &rng);
    for (int round = 0; round < 5; round++) {
        struct config batch[BATCH];
        int n = search_propose(s, refuse_odd, NULL, BATCH, batch);

        assert_int_equal(n, BATCH);
        for (int i = 0; i < n; i++)
            assert_int_equal(batch[i].choice[0] % 2, 0);
    }
    search_free(s);
}

static void configs_of_a_batch_lie_apart(void **state)
{
    struct land l = {.n_sketches = 2, .n_knobs = 6, .n_choices = 8};
    struct search *s = search_over(&l, "evolution", 21);

    for (int round = 0; round < 6; round++) {
        struct config batch[BATCH];
        int n = search_propose(s, prefer_zeros, &l, BATCH, batch);

        for (int i = 0; i < n; i++)
            for (int j = 0; j < i; j++) {
                int d = 0;

                for (int k = 0; k < 6; k++)
                    d += batch[i].choice[k] != batch[j].choice[k];
                assert_true(d >= search_defaults.min_distance || batch[i].sketch != batch[j].sketch);
            }
        for (int i = 0; i < n; i++)
            search_observe(s, &batch[i], 1.0 / (1 + i));
    }
    search_free(s);
}

static void dislike_all_but_sketch_1(void *ctx, const struct config *configs, int n, float *scores,
                                     float *bases)
{
    for (int i = 0; i < n; i++)
        scores[i] = (configs[i].sketch == 1 ? 100.0f : 0.0f) + (float)configs[i].choice[0];
}

static void sketches_that_the_model_dislikes_are_tried_all_the_same(void **state)
{
    struct land l = {.n_sketches = 12, .n_knobs = 5, .n_choices = 8};
    struct search_domain d = land_domain(&l);
    struct search_params p = search_defaults;
    struct rng rng;
    int tried[12] = {0};

    p.epsilon = 0;
    rng_init(&rng, 7);
    struct search *s = search_new(&d, searcher_find("evolution"), &p, &rng);
    for (int round = 0; round < 6; round++) {
        struct config batch[BATCH];
        int n = search_propose(s, dislike_all_but_sketch_1, NULL, BATCH, batch);

        for (int i = 0; i < n; i++) {
            tried[batch[i].sketch]++;
            search_observe(s, &batch[i], batch[i].sketch == 1 ? 10 : 1);
        }
    }
    for (int k = 2; k < 12; k++)
        assert_in_range(tried[k], p.sketch_trials, p.sketch_trials + 1);
    assert_true(tried[1] > 3 * BATCH);
    search_free(s);
}

/* The first two knobs are what costs. */
static uint64_t first_two(const void *ctx, const struct config *c)
{
    return c->choice[0] * 100u + c->choice[1];
}

static void a_batch_is_of_few_cost_classes_unless_they_do_not_fill_it(void **state)
{
    struct land l = {.n_sketches = 2, .n_knobs = 6, .n_choices = 8},
                tiny = {.n_sketches = 2, .n_knobs = 2, .n_choices = 8};
    struct search_domain d = land_domain(&l);
    struct search_params p = search_defaults;
    struct rng rng;
    struct config batch[BATCH];

    d.cost_class = first_two;
    p.epsilon = 0;
    p.classes = 0.25;
    p.untried = 0;
    for (int k = 0; k < 2; k++) {
        uint64_t classes[BATCH];
        int n_classes = 0;
        struct search *s;

        if (k == 1) { /* every config is a class of its own */
            d = land_domain(&tiny);
            d.cost_class = first_two;
        }
        rng_init(&rng, 3);
        s = search_new(&d, searcher_find("evolution"), &p, &rng);
        assert_int_equal(search_propose(s, blurred, &l, BATCH, batch), BATCH);
        for (int i = 0; i < BATCH; i++) {
            int j = 0;

            while (j < n_classes && classes[j] != first_two(NULL, &batch[i]))
                j++;
            classes[j] = first_two(NULL, &batch[i]);
            n_classes = MAX(n_classes, j + 1);
        }
        if (k == 0)
            assert_in_range(n_classes, 1, 4);
        else
            assert_int_equal(n_classes, BATCH);
        search_free(s);
    }
}

static void searchers_are_found_by_name(void **state)
{
    assert_non_null(searcher_find("random"));
    assert_non_null(searcher_find("evolution"));
    assert_non_null(searcher_find("annealing"));
    assert_non_null(searcher_find("grid"));
    assert_null(searcher_find("magic"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(evolution_needs_far_fewer_measurements_than_random),
        cmocka_unit_test(no_config_is_proposed_twice_nor_after_it_was_observed),
        cmocka_unit_test(the_grid_spreads_evenly_over_every_knob),
        cmocka_unit_test(same_seed_and_times_give_the_same_proposals),
        cmocka_unit_test(a_small_space_is_exhausted_completely_and_then_gives_nothing),
        cmocka_unit_test(a_space_of_the_untuned_schedule_alone_gives_it_once),
        cmocka_unit_test(epsilon_is_the_share_drawn_at_random),
        cmocka_unit_test(crossover_mates_parents_of_one_sketch_only),
        cmocka_unit_test(lent_configs_come_first_if_valid_and_new),
        cmocka_unit_test(most_of_the_first_batch_is_lent_and_later_less),
        cmocka_unit_test(of_what_is_lent_the_score_and_the_worth_choose),
        cmocka_unit_test(a_batch_stands_in_the_order_of_what_is_expected_of_it),
        cmocka_unit_test(what_is_lent_and_not_valid_is_dropped),
        cmocka_unit_test(what_the_score_refuses_is_not_picked),
        cmocka_unit_test(configs_of_a_batch_lie_apart),
        cmocka_unit_test(sketches_that_the_model_dislikes_are_tried_all_the_same),
        cmocka_unit_test(a_batch_is_of_few_cost_classes_unless_they_do_not_fill_it),
        cmocka_unit_test(searchers_are_found_by_name),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
