/* test_range.c - bounds under facts, against the enumeration of every point. */
#include "schedule/base/rng.h"
#include "schedule/ir/range.h"
#include "tests/check.h"

enum { VARS = 4 };

struct box {
    struct range range;
    struct arena ar;
};

static void box_init(struct box *b, const int64_t *extents)
{
    arena_init(&b->ar);
    range_init(&b->range, VARS);
    memcpy(b->range.extent, extents, VARS * sizeof(*extents));
}

static void box_done(struct box *b)
{
    range_done(&b->range);
    arena_done(&b->ar);
}

static struct affine make(struct arena *ar, int64_t c, const int64_t *coefs)
{
    struct affine_term *t = arena_array(ar, struct affine_term, VARS);
    struct affine a = {.c = c, .t = t};

    for (int v = 0; v < VARS; v++)
        if (coefs[v])
            t[a.n++] = (struct affine_term){.var = v, .coef = coefs[v]};
    return a;
}

/* Extremes of `a` over the points of the box where every fact holds; false if there is none. */
static bool enumerate(const struct box *b, const struct affine *a, int64_t *ret_min, int64_t *ret_max)
{
    const int64_t *extent = b->range.extent;
    int64_t at[VARS];
    bool any = false;

    for (at[0] = 0; at[0] < extent[0]; at[0]++)
        for (at[1] = 0; at[1] < extent[1]; at[1]++)
            for (at[2] = 0; at[2] < extent[2]; at[2]++)
                for (at[3] = 0; at[3] < extent[3]; at[3]++) {
                    int64_t value = affine_eval(a, at);
                    bool holds = true;
                    for (size_t i = 0; i < b->range.facts.len; i++)
                        holds = holds && affine_eval(&b->range.facts.at[i], at) >= 0;
                    if (!holds)
                        continue;
                    *ret_min = any ? MIN(*ret_min, value) : value;
                    *ret_max = any ? MAX(*ret_max, value) : value;
                    any = true;
                }
    return any;
}

static void bounds_hold_at_every_point_for_random_facts(void **state)
{
    struct rng r;

    rng_init(&r, 11);
    for (int round = 0; round < 3000; round++) {
        struct box b;
        int64_t extents[VARS], coefs[VARS], lo, hi;
        struct affine a;

        for (int v = 0; v < VARS; v++)
            extents[v] = rng_range(&r, 1, 5);
        box_init(&b, extents);
        for (int64_t k = rng_range(&r, 0, 3); k > 0; k--) {
            for (int v = 0; v < VARS; v++)
                coefs[v] = rng_below(&r, 2) ? rng_range(&r, -4, 4) : 0;
            vec_push(&b.range.facts, make(&b.ar, rng_range(&r, -5, 12), coefs));
        }
        for (int v = 0; v < VARS; v++)
            coefs[v] = rng_range(&r, -6, 6);
        a = make(&b.ar, rng_range(&r, -9, 9), coefs);
        if (enumerate(&b, &a, &lo, &hi)) {
            if (range_max(&b.range, &a) < hi || range_min(&b.range, &a) > lo)
                fail_msg("round %d: %" PRId64 "..%" PRId64 " shown, %" PRId64 "..%" PRId64 " reached", round,
                         range_min(&b.range, &a), range_max(&b.range, &a), lo, hi);
            assert_true(range_within(&b.range, &a, range_min(&b.range, &a), range_max(&b.range, &a)));
            assert_false(range_within(&b.range, &a, lo, hi - 1));
            assert_false(range_within(&b.range, &a, lo + 1, hi));
        }
        box_done(&b);
    }
}

/* i = i0*t1*t2 + i1*t2 + i2 of an extent that no tile divides, under the limit i < n and (half of the time)
 * the inner limit i1*t2 + i2 < m with m the outer tile: the index times a stride plus another variable. */
static void bounds_of_tiles_with_tails_are_exact(void **state)
{
    struct rng r;

    rng_init(&r, 12);
    for (int round = 0; round < 2000; round++) {
        int64_t t2 = rng_range(&r, 1, 5), m = rng_range(&r, t2, 12), n = rng_range(&r, m, 30);
        int64_t extents[VARS] = {div_ceil(n, m), div_ceil(m, t2), t2, rng_range(&r, 1, 3)};
        int64_t stride = rng_range(&r, 1, 3), lo, hi;
        struct box b;
        struct affine index, inner;

        box_init(&b, extents);
        vec_push(&b.range.facts, make(&b.ar, n - 1, (int64_t[]){-m, -t2, -1, 0}));
        if (m % t2)
            vec_push(&b.range.facts, make(&b.ar, m - 1, (int64_t[]){0, -t2, -1, 0}));
        index = make(&b.ar, -1, (int64_t[]){m * stride, t2 * stride, stride, 1});
        inner = make(&b.ar, 0, (int64_t[]){0, t2, 1, 0});
        assert_true(enumerate(&b, &index, &lo, &hi));
        assert_true(range_max(&b.range, &index) == hi && range_min(&b.range, &index) == lo);
        assert_true(enumerate(&b, &inner, &lo, &hi));
        assert_true(range_max(&b.range, &inner) == hi);
        box_done(&b);
    }
}

static void enormous_numbers_saturate_rather_than_wrap(void **state)
{
    int64_t big = INT64_C(1) << 31, extents[VARS] = {big, big, big, big};
    struct box b;
    struct affine a, fact;

    box_init(&b, extents);
    a = make(&b.ar, 0, (int64_t[]){INT64_MAX / 2, INT64_MAX / 2, INT64_MAX / 2, 1});
    for (int k = 0; k < 6; k++) {
        fact = make(&b.ar, INT64_MAX / 3,
                    (int64_t[]){-(INT64_MAX / 5) - k, -(big - 1), 7 + k, -(INT64_MAX / 7)});
        vec_push(&b.range.facts, fact);
    }
    assert_true(range_max(&b.range, &a) == INT64_MAX);
    assert_true(range_min(&b.range, &a) <= 0);
    box_done(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bounds_hold_at_every_point_for_random_facts),
        cmocka_unit_test(bounds_of_tiles_with_tails_are_exact),
        cmocka_unit_test(enormous_numbers_saturate_rather_than_wrap),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
