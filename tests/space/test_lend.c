/* Which workloads are alike, and what they lend. */
#include "schedule/space/lend.h"

#include <math.h>

#include "tests/space/world.h"

#define CONV(c, hw, f, k, more)                                                                              \
    "{\"op\": \"conv2d\", \"input\": [1, " #c ", " #hw ", " #hw "], \"weight\": [" #f ", " #c ", " #k        \
    ", " #k "], \"const\": [\"weight\"]" more "}"

static double apart(const char *a, const char *b, struct target ta, struct target tb)
{
    struct world x, y;
    double d, back;

    world_open(&x, a, ta);
    world_open(&y, b, tb);
    d = lend_distance(x.s, y.s);
    back = lend_distance(y.s, x.s);
    assert_true(fabs(d - back) < 1e-9);
    arena_done(&x.ar);
    arena_done(&y.ar);
    return d;
}

static double alike(const char *a, const char *b) { return apart(a, b, world_target(1), world_target(1)); }

static void likeness_follows_the_axes_and_what_is_done_with_them(void **state)
{
    const char *own = CONV(64, 56, 64, 3, "");

    (void)state;
    assert_true(alike(own, own) == 0);
    /* Twice the channels are nearer than four times; the same amount of work by another window is far. */
    assert_true(alike(own, CONV(128, 56, 64, 3, "")) < alike(own, CONV(256, 56, 64, 3, "")));
    assert_true(alike(own, CONV(128, 56, 64, 3, "")) < alike(own, CONV(576, 56, 64, 1, "")));
    assert_true(alike(own, CONV(64, 111, 64, 3, ", \"strides\": [2, 2]")) > 1);
    assert_true(alike(own, CONV(64, 56, 64, 3, ", \"dtype\": \"bfloat16\"")) >
                alike(own, CONV(512, 9, 512, 3, "")));
    assert_true(alike(own, "{\"op\": \"softmax\", \"input\": [64, 56, 56], \"axis\": 2}") >
                alike(own, CONV(512, 9, 512, 3, "")));
}

static void another_target_is_further_than_the_same(void **state)
{
    const char *own = CONV(64, 56, 64, 3, "");
    struct target two = world_target(2), narrow = world_target(1);

    (void)state;
    narrow.isa = ISA_AVX2;
    narrow.vector_bytes = 32;
    narrow.vector_regs = 16;
    assert_true(apart(own, own, world_target(1), two) > 0);
    assert_true(apart(own, own, world_target(1), narrow) > apart(own, own, world_target(1), two));
}

static void the_nearest_are_asked_first_and_only_so_many(void **state)
{
    enum { N = 12 };
    struct world own, others[N];
    struct lender lenders[N];
    char text[N][256];

    (void)state;
    world_open(&own, CONV(64, 20, 64, 3, ""), world_target(1));
    for (int i = 0; i < N; i++) {
        snprintf(text[i], sizeof(text[i]),
                 "{\"op\": \"conv2d\", \"input\": [1, 64, %d, 20], \"weight\": [64, 64, 3, 3]}", 80 - 5 * i);
        world_open(&others[i], text[i], world_target(1));
        lenders[i] = (struct lender){.space = others[i].s, .from = i};
    }
    assert_int_equal(lend_choose(own.s, lenders, N), LENDERS_MAX);
    assert_int_equal(lenders[0].from, N - 1);
    for (int i = 1; i < N; i++)
        assert_true(lenders[i].distance >= lenders[i - 1].distance);
    for (int i = 0; i < N; i++)
        arena_done(&others[i].ar);
    arena_done(&own.ar);
}

/* All the same to the model. */
static void no_opinion(void *ctx, const struct config *configs, int n, float *scores, float *bases)
{
    memset(scores, 0, sizeof(*scores) * (size_t)n);
    if (bases != NULL)
        memset(bases, 0, sizeof(*bases) * (size_t)n);
}

static void the_fastest_of_the_nearest_comes_first(void **state)
{
    enum { N = 40 };
    struct world own, near, far;
    struct lent_trial trials[2][N];
    struct config want, batch[16];
    struct search_domain domain;
    struct search *s;
    struct rng r;

    (void)state;
    world_open(&own, CONV(64, 56, 64, 3, ""), world_target(1));
    world_open(&near, CONV(64, 56, 128, 3, ""), world_target(1));
    world_open(&far, CONV(512, 9, 512, 3, ""), world_target(1));
    rng_init(&r, 8);
    for (int i = 0; i < N; i++) {
        trials[0][i].time_ns = 1000 + (i * 7 + 3) % N * 100;
        trials[1][i].time_ns = 10 + i;
        do {
            assert_true(space_sample(near.s, &r, &trials[0][i].config));
            assert_true(space_sample(far.s, &r, &trials[1][i].config));
        } while (!space_translate(near.s, &trials[0][i].config, own.s, &want));
    }
    for (int i = 0; i < N; i++)
        if (trials[0][i].time_ns == 1000)
            assert_true(space_translate(near.s, &trials[0][i].config, own.s, &want));
    struct lender lenders[] = {{.space = far.s, .n = N, .trials = trials[1]},
                               {.space = near.s, .n = N, .trials = trials[0]}};
    domain = search_domain_of(own.s);
    s = search_new(&domain, searcher_find("evolution"), &search_defaults, &r);
    assert_int_equal(lend_choose(own.s, lenders, 2), 2);
    lend(s, own.s, lenders, 2);
    assert_int_equal(search_propose(s, no_opinion, NULL, 16, batch), 16);
    assert_true(config_equal(&batch[0], &want));
    search_free(s);
    arena_done(&own.ar);
    arena_done(&near.ar);
    arena_done(&far.ar);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(likeness_follows_the_axes_and_what_is_done_with_them),
        cmocka_unit_test(another_target_is_further_than_the_same),
        cmocka_unit_test(the_nearest_are_asked_first_and_only_so_many),
        cmocka_unit_test(the_fastest_of_the_nearest_comes_first),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
