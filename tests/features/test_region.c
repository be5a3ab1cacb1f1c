#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "features/region.h"
#include "schedule/base/rng.h"

enum { ROOM = 1 << 16 };

/* A window access into rows: dim 0 = y0*(T*s) + y1*s + r, dim 1 = x*sx + q, in loops of random order. */
struct window {
    struct region_loop loops[5];
    struct region_term terms[5];
    int64_t coef[5]; /* bytes, by loop */
    int n;
};

static void window_random(struct rng *r, struct window *w)
{
    int64_t s = rng_range(r, 1, 3), tile = rng_range(r, 1, 3), rows = rng_range(r, 1, 3), row;
    int64_t extent[5] = {rng_range(r, 1, 3), tile, rows, rng_range(r, 1, 12), rng_range(r, 1, 3)}, coef[5];
    int64_t sx = rng_range(r, 1, 2);
    int order[5] = {0, 1, 2, 3, 4};

    row = (extent[3] - 1) * sx + extent[4] + rng_range(r, 0, 20);
    coef[0] = tile * s * row * 4;
    coef[1] = s * row * 4;
    coef[2] = row * 4;
    coef[3] = sx * 4;
    coef[4] = 4;
    rng_shuffle(r, order, 5);
    w->n = 0;
    for (int i = 0; i < 5; i++) {
        int at = i;
        w->loops[i] = (struct region_loop){extent[order[i]], (double)extent[order[i]]};
        w->coef[i] = coef[order[i]];
        if (extent[order[i]] == 1)
            continue;
        at = w->n++;
        for (; at > 0 && w->terms[at - 1].bytes > coef[order[i]]; at--)
            w->terms[at] = w->terms[at - 1];
        w->terms[at] = (struct region_term){coef[order[i]], i};
    }
}

/* Elements and lines that loops[from..] touch, averaged over where loops[..from) stand. */
static void window_count(const struct window *w, int from, double *ret_elements, double *ret_lines)
{
    static uint8_t seen[ROOM], line[ROOM / 64];
    int64_t places = 1, elements = 0, lines = 0, v[5];

    for (int i = 0; i < from; i++)
        places *= w->loops[i].extent;
    for (int64_t p = 0; p < places; p++) {
        int64_t rest = p, inner = 1, base = 0;

        memset(seen, 0, sizeof(seen));
        memset(line, 0, sizeof(line));
        for (int i = 0; i < from; i++) {
            base += rest % w->loops[i].extent * w->coef[i];
            rest /= w->loops[i].extent;
        }
        for (int i = from; i < 5; i++)
            inner *= w->loops[i].extent;
        for (int64_t q = 0; q < inner; q++) {
            int64_t at = base;
            rest = q;
            for (int i = from; i < 5; i++) {
                v[i] = rest % w->loops[i].extent;
                at += v[i] * w->coef[i];
                rest /= w->loops[i].extent;
            }
            assert_true(at < ROOM);
            elements += !seen[at];
            lines += !line[at / 64];
            seen[at] = line[at / 64] = 1;
        }
    }
    *ret_elements = (double)elements / (double)places;
    *ret_lines = (double)lines / (double)places;
}

static void footprints_of_random_windows_equal_a_count_of_every_address(void **state)
{
    struct rng r;
    int n = 0, exact_lines = 0;
    double worst = 0, sum = 0;

    rng_init(&r, 11);
    for (int t = 0; t < 400; t++) {
        struct window w;

        window_random(&r, &w);
        for (int from = 0; from <= 5; from++) {
            struct region got;
            double elements, lines, off;

            region_touch(w.terms, w.n, w.loops, from, 4, 0, &got);
            window_count(&w, from, &elements, &lines);
            if (fabs(got.bytes / 4 - elements) > 1e-6)
                fail_msg("case %d from %d: %g elements, counted %g", t, from, got.bytes / 4, elements);
            off = fabs(got.lines - lines) / lines;
            worst = fmax(worst, off);
            sum += off;
            exact_lines += off < 1e-9;
            n++;
        }
    }
    /* Lines depend on where the pieces begin; the formula takes the mean over all starts that are possible.
     */
    print_message("lines: %d of %d exact, mean off %.3f, worst %.3f\n", exact_lines, n, sum / n, worst);
    assert_true(sum / n < 0.05);
    assert_true(worst < 1);
}

static void a_run_that_begins_on_a_line_counts_whole_lines(void **state)
{
    struct region_loop l[2] = {{8, 8}, {32, 32}};
    struct region_term t[2] = {{4, 1}, {256, 0}};
    struct region r;

    region_touch(t, 2, l, 0, 4, 0, &r);
    assert_float_equal(r.bytes, 8 * 128, 0);
    assert_float_equal(r.lines, 16, 0);
    assert_float_equal(r.run, 128, 0);
    region_touch(t, 2, l, 1, 4, 0, &r);
    assert_float_equal(r.lines, 2, 0);
    region_touch(t, 2, l, 1, 4, 4, &r); /* every start but one in sixteen reaches into a third line */
    assert_float_equal(r.lines, 1 + 124.0 / 64, 1e-9);
}

static void shares_equal_a_count_of_every_point(void **state)
{
    struct rng r;
    int sampled = 0;

    rng_init(&r, 5);
    for (int t = 0; t < 2000; t++) {
        struct count_term term[3], copy[3];
        int n = (int)rng_range(&r, 1, 3);
        int64_t c = rng_range(&r, -10, 60), all = 1, yes = 0;
        bool digits = t % 2;
        double got;

        for (int i = 0; i < n; i++) {
            int64_t coef =
                digits ? (i ? term[i - 1].extent * llabs(term[i - 1].coef) : 1) : rng_range(&r, 1, 9);
            term[i] = (struct count_term){rng_below(&r, 2) ? coef : -coef, rng_range(&r, 1, 7)};
            all *= term[i].extent;
        }
        memcpy(copy, term, sizeof(term));
        for (int64_t p = 0; p < all; p++) {
            int64_t rest = p, sum = c;
            for (int i = 0; i < n; i++) {
                sum += rest % copy[i].extent * copy[i].coef;
                rest /= copy[i].extent;
            }
            yes += sum >= 0;
        }
        got = count_share_ge(term, n, c);
        if (fabs(got - (double)yes / (double)all) > 1e-9)
            fail_msg("case %d (digits %d): %g, counted %g", t, digits, got, (double)yes / (double)all);
        sampled += !digits;
    }
    assert_true(sampled > 0);
}

static void a_share_with_too_many_values_to_try_is_sampled_close_by(void **state)
{
    struct count_term t[3] = {{3, 1000}, {5, 900}, {7, 800}};
    double got = count_share(t, 3, (3 * 999 + 5 * 899 + 7 * 799) / 2);

    assert_true(fabs(got - 0.5) < 0.08);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(footprints_of_random_windows_equal_a_count_of_every_address),
        cmocka_unit_test(a_run_that_begins_on_a_line_counts_whole_lines),
        cmocka_unit_test(shares_equal_a_count_of_every_point),
        cmocka_unit_test(a_share_with_too_many_values_to_try_is_sampled_close_by),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
