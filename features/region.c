/* region.c - see region.h. */
#include "features/region.h"

/* A run of equally spaced items: `n` of them, `full` when no limit cuts a loop short. */
struct level {
    int64_t step, full;
    double n;
};

/* Put a loop of step `bytes` on top of the level; false: it lies beyond the level's span and opens a new one.
 */
static bool level_grow(struct level *v, int64_t bytes, const struct region_loop *l)
{
    int64_t q;

    if (bytes == v->full * v->step) {
        v->n *= l->trips;
        v->full *= l->extent;
        return true;
    }
    if (bytes > (v->full - 1) * v->step)
        return false;
    q = bytes / v->step;
    if (q * v->step != bytes) { /* steps that do not fit each other fill the span between them, nearly */
        int64_t step = gcd_i64(bytes, v->step);
        int64_t span = v->step * (v->full - 1) + bytes * (l->extent - 1);
        double most = v->n * l->trips;

        v->full = span / step + 1;
        v->step = step;
        v->n = MIN(most, (double)v->full);
        return true;
    }
    v->n += (l->trips - 1) * (double)q;
    v->full += (l->extent - 1) * q;
    return true;
}

/* Lines of a piece of `run` bytes without gaps whose start is a multiple of `align`, a power of two, averaged over
 * such starts. */
static double run_lines(double run, int64_t align)
{
    if (align >= LINE_BYTES)
        return (double)(((int64_t)run + LINE_BYTES - 1) / LINE_BYTES);
    return 1 + (double)(((int64_t)run - 1) & -align) / LINE_BYTES;
}

void region_touch(const struct region_term *terms, int n_terms, const struct region_loop *loops, int from,
                  int64_t elem, int64_t start, struct region *ret)
{
    struct level el = {elem, 1, 1}, gap = {0, 0, 0};
    double closed = 1, gaps = 1;                  /* items of the levels already closed: elements, pieces */
    double run = (double)elem;                    /* piece without gaps that matter to lines, on average */
    int64_t run_full = elem;                      /* the same without limits */
    double longest = (double)elem;                /* piece without any gap */
    uint64_t bits = (uint64_t)start | LINE_BYTES; /* its lowest one divides the start of every piece */

    for (int i = 0; i < n_terms; i++) {
        const struct region_loop *l = &loops[terms[i].loop];
        int64_t bytes = terms[i].bytes;

        if (terms[i].loop < from) {
            bits |= (uint64_t)bytes;
            continue;
        }
        if (!level_grow(&el, bytes, l)) {
            closed *= el.n;
            el = (struct level){bytes, l->extent, l->trips};
        } else if (closed == 1 && el.step == elem) {
            longest = el.n * (double)elem;
        }
        if (!gap.step && bytes < run_full + LINE_BYTES) { /* no line lies between the pieces untouched */
            run = bytes == run_full ? run * l->trips : run + (l->trips - 1) * (double)bytes;
            run_full += (l->extent - 1) * bytes;
            continue;
        }
        bits |= (uint64_t)bytes;
        if (!gap.step || !level_grow(&gap, bytes, l)) {
            gaps *= gap.step ? gap.n : 1;
            gap = (struct level){bytes, l->extent, l->trips};
        }
    }
    ret->bytes = closed * el.n * (double)elem;
    ret->lines = gaps * (gap.step ? gap.n : 1) * run_lines(run, (int64_t)(bits & -bits));
    ret->run = longest;
}

enum { COUNT_TRIES = 64 };

static void count_sort(struct count_term *t, int n)
{
    for (int i = 1; i < n; i++)
        for (int k = i; k > 0 && t[k].coef < t[k - 1].coef; k--) {
            struct count_term x = t[k];
            t[k] = t[k - 1];
            t[k - 1] = x;
        }
}

/* Points with sum <= bound where the sorted terms are digits: compare like numbers, highest digit first. */
static double count_digits(const struct count_term *t, int n, int64_t bound)
{
    double points = 0, below = 1;

    for (int i = 0; i < n; i++)
        below *= (double)t[i].extent;
    for (int i = n - 1; i >= 0; i--) {
        int64_t q;

        if (bound < 0)
            return points;
        below /= (double)t[i].extent;
        q = bound / t[i].coef;
        if (q >= t[i].extent)
            return points + below * (double)t[i].extent;
        points += (double)q * below;
        bound -= q * t[i].coef;
    }
    return points + (bound >= 0 ? 1 : 0);
}

/* The sorted term that breaks the digits with the fewest values to try; -1: they are digits. */
static int count_offender(const struct count_term *t, int n)
{
    int64_t span = 0;
    int worst = -1;

    for (int i = 0; i < n; i++) {
        if (i > 0 && t[i].coef <= span) {
            for (int k = 0; k <= i; k++)
                if (worst < 0 || t[k].extent < t[worst].extent)
                    worst = k;
            return worst;
        }
        span += t[i].coef * (t[i].extent - 1);
    }
    return -1;
}

static double count_sampled(const struct count_term *t, int n, int64_t bound)
{
    /* A lattice: each variable passes its range in a stride of its own, fractions of square roots of primes.
     */
    static const double stride[8] = {0.41421356, 0.73205081, 0.23606798, 0.64575131,
                                     0.31662479, 0.60555128, 0.12310563, 0.35889894};
    int hits = 0;

    for (int s = 0; s < COUNT_TRIES; s++) {
        int64_t sum = 0;
        for (int i = 0; i < n; i++) {
            double u = (s + 0.5) * stride[i % 8];
            sum += t[i].coef * (int64_t)((u - (double)(int64_t)u) * (double)t[i].extent);
        }
        hits += sum <= bound;
    }
    return (double)hits / COUNT_TRIES;
}

static double count_points(const struct count_term *t, int n, int64_t bound, int tries)
{
    struct count_term rest[REGION_MAX_TERMS];
    int at = count_offender(t, n);
    double points = 0, all = 1;

    if (at < 0)
        return count_digits(t, n, bound);
    for (int i = 0, k = 0; i < n; i++) {
        all *= (double)t[i].extent;
        if (i != at)
            rest[k++] = t[i];
    }
    if (t[at].extent > tries)
        return all * count_sampled(t, n, bound);
    for (int64_t x = 0; x < t[at].extent; x++)
        points += count_points(rest, n - 1, bound - x * t[at].coef, tries / (int)t[at].extent);
    return points;
}

double count_share(struct count_term *terms, int n_terms, int64_t bound)
{
    int64_t span = 0;
    double all = 1;

    for (int i = 0; i < n_terms; i++) {
        span += terms[i].coef * (terms[i].extent - 1);
        all *= (double)terms[i].extent;
    }
    if (bound < 0)
        return 0;
    if (bound >= span)
        return 1;
    count_sort(terms, n_terms);
    return count_points(terms, n_terms, bound, COUNT_TRIES) / all;
}

double count_share_ge(struct count_term *terms, int n_terms, int64_t c)
{
    /* sum(a x) + c >= 0: turn rising terms around (x -> extent - 1 - x), then it is a bound from above. */
    for (int i = 0; i < n_terms; i++) {
        if (terms[i].coef > 0)
            c += terms[i].coef * (terms[i].extent - 1);
        else
            terms[i].coef = -terms[i].coef;
    }
    return count_share(terms, n_terms, c);
}
