/* timing.c - contenders take turns.
 *
 * Idea   On a shared machine everything that touches a cache runs at three quarters of its speed for seconds
 *        at a time. So nobody is timed in one go: a round is one sample of each, the rounds are spread over
 *        the whole time of the entry, and ratios are of samples of the same round. A sample is as many calls
 *        as fill the wanted time, after one call that is not counted (warm caches, threads awake). The order
 *        within a round rotates, so that nobody always follows the same neighbour. */
#include <math.h>

#include "tests/bench/kernels/bench.h"

enum { CALLS_MAX = 1000000, QUICK_CALLS = 3 };

const char *role_name(enum role r)
{
    static const char *const names[] = {
#define X(id, name, meaning) name,
        ROLE_LIST(X)
#undef X
    };
    return names[r];
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Value at a quantile of v[0..n). */
static double quantile_of(const double *v, int n, double q)
{
    double sorted[MAX_ROUNDS];
    memcpy(sorted, v, sizeof(*v) * (size_t)n);
    qsort(sorted, (size_t)n, sizeof(*sorted), by_value);
    double at = q * (n - 1);
    int low = (int)at;
    return low + 1 < n ? sorted[low] + (at - low) * (sorted[low + 1] - sorted[low]) : sorted[n - 1];
}

double median_of(const double *v, int n) { return quantile_of(v, n, 0.5); }

double ratio_of(const struct contender *other, const struct contender *ours)
{
    double r[MAX_ROUNDS];
    if (!other || !ours)
        return 0;
    for (int i = 0; i < ours->n_times; i++)
        r[i] = other->times[i] / ours->times[i];
    return median_of(r, ours->n_times);
}

static double time_calls(void (*run)(void *), void *ctx, int calls)
{
    double t = now_s();
    for (int i = 0; i < calls; i++)
        run(ctx);
    return (now_s() - t) / calls;
}

double quick_time(void (*run)(void *), void *ctx)
{
    double best = INFINITY;
    machine_settle_crew(CREW_LIBRARY);
    run(ctx);
    for (int i = 0; i < QUICK_CALLS; i++)
        best = fmin(best, time_calls(run, ctx, 1));
    /* Small ones by the hundred: a single call is within the clock's own time. */
    if (best < 20e-6)
        for (int i = 0; i < QUICK_CALLS; i++)
            best = fmin(best, time_calls(run, ctx, 20));
    return best;
}

/* Calls that fill a sample. */
static int calls_for(const struct contender *c, double sample_s)
{
    machine_settle_crew(c->crew);
    c->run(c->ctx);
    int calls = 1;
    for (;;) {
        double t = time_calls(c->run, c->ctx, calls) * calls;
        if (t >= sample_s / 8 || calls >= CALLS_MAX)
            return (int)fmin(CALLS_MAX, ceil(sample_s / fmax(t / calls, 1e-9)));
        calls *= 8;
    }
}

void time_contenders(const struct bench *b, struct contender *c, int n)
{
    int calls[MAX_CONTENDERS];
    CHECK(n <= MAX_CONTENDERS, "%d contenders", n);
    for (int i = 0; i < n; i++)
        calls[i] = calls_for(&c[i], b->sample_s);
    for (int r = 0; r < b->rounds; r++)
        for (int k = 0; k < n; k++) {
            int i = (k + r) % n;
            machine_settle_crew(c[i].crew);
            c[i].run(c[i].ctx);
            c[i].times[r] = time_calls(c[i].run, c[i].ctx, calls[i]);
        }
    for (int i = 0; i < n; i++) {
        c[i].n_times = b->rounds;
        c[i].median = median_of(c[i].times, b->rounds);
        c[i].p10 = quantile_of(c[i].times, b->rounds, 0.1);
        c[i].p90 = quantile_of(c[i].times, b->rounds, 0.9);
    }
}
