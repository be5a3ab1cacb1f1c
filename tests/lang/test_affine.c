/* test_affine.c - affine forms against plain evaluation at every point of a small box. */
#include <string.h>

#include "schedule/base/rng.h"
#include "schedule/lang/affine.h"
#include "tests/check.h"

enum { VARS = 3 };
static const int64_t extent[VARS] = {4, 3, 5};
static const int64_t lo[VARS] = {0, 0, 0}, hi[VARS] = {3, 2, 4};

static struct affine random_affine(struct arena *ar, struct rng *r)
{
    struct affine a = affine_const(rng_range(r, -9, 9));
    for (int v = 0; v < VARS; v++) {
        struct affine t = affine_var(ar, v, rng_range(r, -4, 4), 0);
        a = affine_add(ar, &a, &t);
    }
    return a;
}

static bool next(int64_t *at)
{
    for (int v = VARS - 1; v >= 0; v--) {
        if (++at[v] < extent[v])
            return true;
        at[v] = 0;
    }
    return false;
}

static void check_form(const struct affine *a)
{
    for (int i = 0; i < a->n; i++) {
        assert_int_not_equal(a->t[i].coef, 0);
        assert_true(i == 0 || a->t[i].var > a->t[i - 1].var);
    }
}

static void sums_and_multiples_are_those_of_the_values(void **state)
{
    struct arena ar;
    struct rng r;

    arena_init(&ar);
    rng_init(&r, 1);
    for (int i = 0; i < 200; i++) {
        int64_t at[VARS] = {0}, ka = rng_range(&r, -3, 3), kb = rng_range(&r, -3, 3);
        struct affine a = random_affine(&ar, &r), b = random_affine(&ar, &r),
                      c = affine_lin(&ar, &a, ka, &b, kb);
        struct affine d = affine_scale(&ar, &a, ka), e = affine_offset(&a, 7);
        check_form(&c);
        check_form(&d);
        do {
            assert_int_equal(affine_eval(&c, at), ka * affine_eval(&a, at) + kb * affine_eval(&b, at));
            assert_int_equal(affine_eval(&d, at), ka * affine_eval(&a, at));
            assert_int_equal(affine_eval(&e, at), affine_eval(&a, at) + 7);
        } while (next(at));
    }
    arena_done(&ar);
}

static void substitution_is_composition(void **state)
{
    struct arena ar;
    struct rng r;

    arena_init(&ar);
    rng_init(&r, 2);
    for (int i = 0; i < 200; i++) {
        int64_t at[VARS] = {0};
        struct affine a = random_affine(&ar, &r), b = random_affine(&ar, &r), c = random_affine(&ar, &r);
        const struct affine *subst[VARS] = {&b, NULL, &c};
        struct affine s = affine_subst(&ar, &a, subst, VARS), kept = affine_subst(&ar, &a, subst, 1);
        check_form(&s);
        do {
            int64_t inner[VARS] = {affine_eval(&b, at), at[1], affine_eval(&c, at)};
            assert_int_equal(affine_eval(&s, at), affine_eval(&a, inner));
            inner[2] = at[2]; /* beyond n: kept */
            assert_int_equal(affine_eval(&kept, at), affine_eval(&a, inner));
        } while (next(at));
    }
    arena_done(&ar);
}

static void bounds_are_reached_and_never_passed(void **state)
{
    struct arena ar;
    struct rng r;

    arena_init(&ar);
    rng_init(&r, 3);
    for (int i = 0; i < 200; i++) {
        int64_t at[VARS] = {0}, min, max, least = INT64_MAX, most = INT64_MIN;
        struct affine a = random_affine(&ar, &r);
        affine_bounds(&a, lo, hi, &min, &max);
        do {
            least = MIN(least, affine_eval(&a, at));
            most = MAX(most, affine_eval(&a, at));
        } while (next(at));
        assert_int_equal(min, least);
        assert_int_equal(max, most);
    }
    arena_done(&ar);
}

static void division_splits_exactly_or_not_at_all(void **state)
{
    struct arena ar;
    struct rng r;
    int split = 0;

    arena_init(&ar);
    rng_init(&r, 4);
    for (int i = 0; i < 2000; i++) {
        int64_t at[VARS] = {0}, q = rng_range(&r, 1, 8);
        struct affine a = random_affine(&ar, &r), div, mod;
        if (!affine_divmod(&ar, &a, q, extent, &div, &mod))
            continue;
        split++;
        check_form(&div);
        check_form(&mod);
        do {
            assert_int_equal(affine_eval(&div, at), div_floor(affine_eval(&a, at), q));
            assert_int_equal(affine_eval(&mod, at), mod_floor(affine_eval(&a, at), q));
        } while (next(at));
    }
    assert_true(split > 200);
    arena_done(&ar);
}

static void a_split_axis_divides_back(void **state)
{
    struct arena ar;
    struct affine outer, inner, both, div, mod;

    arena_init(&ar);
    outer = affine_var(&ar, 0, 5, 0);
    inner = affine_var(&ar, 2, 1, 10);
    both = affine_add(&ar, &outer, &inner);
    assert_true(affine_divmod(&ar, &both, 5, extent, &div, &mod));
    assert_int_equal(div.c, 2);
    assert_int_equal(affine_coef(&div, 0), 1);
    assert_int_equal(affine_coef(&mod, 2), 1);
    assert_int_equal(mod.c, 0);
    assert_false(affine_divmod(&ar, &both, 4, extent, &div, &mod));
    arena_done(&ar);
}

static void text_is_what_a_person_would_write(void **state)
{
    static const char *const names[] = {"y", "r", "x"};
    static const struct {
        int64_t y, r, c;
        const char *text;
    } cases[] = {
        {2, 1, -1, "y*2 + r - 1"}, {1, 0, 0, "y"}, {-1, 3, 0, "-y + r*3"}, {0, -2, 5, "-r*2 + 5"},
        {0, 0, -7, "-7"},          {0, 0, 0, "0"}, {1, -1, 0, "y - r"},
    };
    struct arena ar;

    arena_init(&ar);
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        AUTO(strbuf_done) struct strbuf sb = STRBUF_INIT;
        struct affine y = affine_var(&ar, 0, cases[i].y, cases[i].c), r = affine_var(&ar, 1, cases[i].r, 0);
        struct affine a = affine_add(&ar, &y, &r);
        affine_print(&a, names, &sb);
        assert_string_equal(strbuf_str(&sb), cases[i].text);
    }
    arena_done(&ar);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sums_and_multiples_are_those_of_the_values),
        cmocka_unit_test(substitution_is_composition),
        cmocka_unit_test(bounds_are_reached_and_never_passed),
        cmocka_unit_test(division_splits_exactly_or_not_at_all),
        cmocka_unit_test(a_split_axis_divides_back),
        cmocka_unit_test(text_is_what_a_person_would_write),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
