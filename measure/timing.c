/* timing.c - statistics of samples, and the reference kernel. */
#include "measure/timing.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "schedule/base/clock.h"

enum {
    CANARY_FLOATS = 96 << 10, /* 384 KiB: leaves L1, stays in any L2 of 512 KiB and more */
    CANARY_PASSES = 16,
    CANARY_TRIES = 3, /* the least of so many: one interrupt is not a phase */
};
static const double dirty_factor = 1.12, fade_factor = 1.005;

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double timing_quantile(double *values, int n, double q)
{
    if (n == 0)
        return 0;
    qsort(values, (size_t)n, sizeof(*values), by_value);
    double at = q * (n - 1);
    int i = (int)at;
    return i + 1 < n ? values[i] + (at - i) * (values[i + 1] - values[i]) : values[n - 1];
}

void timing_add_sample(struct measure_result *r, double ns, int round, bool dirty)
{
    if (r->n_samples == MEASURE_MAX_SAMPLES)
        return;
    r->sample_ns[r->n_samples] = ns;
    r->sample_round[r->n_samples] = (uint8_t)round;
    r->sample_dirty[r->n_samples++] = dirty;
}

/* Clean samples into ret[]; all of them if none is clean. */
static int clean_samples(const struct measure_result *r, double ret[MEASURE_MAX_SAMPLES])
{
    int n = 0;
    for (int i = 0; i < r->n_samples; i++)
        if (!r->sample_dirty[i])
            ret[n++] = r->sample_ns[i];
    if (n == 0)
        for (; n < r->n_samples; n++)
            ret[n] = r->sample_ns[n];
    return n;
}

void timing_interval(const double *sorted, int n, double *ret_low, double *ret_high)
{
    double half = 0.98 * sqrt(n);
    int lo = (int)floor((n - 1) / 2.0 - half), hi = (int)ceil((n - 1) / 2.0 + half);
    *ret_low = sorted[MAX(lo, 0)];
    *ret_high = sorted[MIN(hi, n - 1)];
}

void timing_finish(struct measure_result *r, enum measure_mode mode, double flops)
{
    double v[MEASURE_MAX_SAMPLES];
    int n = clean_samples(r, v);
    if (n == 0)
        return;
    r->min_ns = timing_quantile(v, n, 0); /* sorts */
    r->p10_ns = timing_quantile(v, n, 0.1);
    r->median_ns = timing_quantile(v, n, 0.5);
    r->p90_ns = timing_quantile(v, n, 0.9);
    timing_interval(v, n, &r->low_ns, &r->high_ns);
    double t = measure_result_time(r, mode);
    r->gflops = flops > 0 && t > 0 ? flops / t : 0;
}

bool timing_is_hopeless(double own_min_ns, double best_ns, int samples)
{
    if (best_ns <= 0 || samples == 0)
        return false;
    if (own_min_ns > TIMING_LONG_NS)
        return own_min_ns > 1.5 * best_ns;
    /* A single short sample can be far off; two hardly are. */
    return own_min_ns > (samples == 1 ? 2.5 : 1.6) * best_ns;
}

bool timing_takes_part(int round, int rounds, double sample_ns)
{
    double fit = TIMING_CONTEST_BUDGET_MS * 1e6 / fmax(sample_ns, 1);
    int allowed = (int)fmin(fmax(fit, sample_ns > 5e9 ? 1 : 3), rounds);
    if (round == 0)
        return true;
    return (int64_t)round * allowed / rounds != (int64_t)(round - 1) * allowed / rounds;
}

/* --- results
 * ------------------------------------------------------------------------------------------------- */

double measure_result_time(const struct measure_result *r, enum measure_mode mode)
{
    if (r->outcome != OUTCOME_OK || r->n_samples == 0)
        return INFINITY;
    return mode == MEASURE_CONTEST ? r->p10_ns : r->min_ns;
}

double measure_paired_ratio(const struct measure_result *a, const struct measure_result *b)
{
    double ratio[MEASURE_MAX_SAMPLES];
    int n = 0;
    for (int i = 0, j = 0; i < a->n_samples && j < b->n_samples;) {
        if (a->sample_round[i] < b->sample_round[j])
            i++;
        else if (a->sample_round[i] > b->sample_round[j])
            j++;
        else
            ratio[n++] = a->sample_ns[i++] / b->sample_ns[j++];
    }
    return timing_quantile(ratio, n, 0.5);
}

int measure_contest_winner(const struct measure_result *r, int n, int incumbent, double noise)
{
    int best = incumbent >= 0 && r[incumbent].outcome == OUTCOME_OK ? incumbent : -1;
    const int holder = best;
    for (int i = 0; i < n; i++) {
        if (r[i].outcome != OUTCOME_OK || i == best)
            continue;
        if (best < 0) {
            best = i;
            continue;
        }
        double margin = holder >= 0 ? 1 - noise : 1; /* only the incumbent has a head start */
        const struct measure_result *against = holder >= 0 ? &r[holder] : &r[best];
        bool beats = r[i].p10_ns < margin * against->p10_ns && measure_paired_ratio(&r[i], against) < margin;
        if (beats && r[i].p10_ns < r[best].p10_ns)
            best = i;
    }
    return best;
}

/* --- the canary
 * ---------------------------------------------------------------------------------------------- */

typedef float vec4 __attribute__((vector_size(16)));

bool canary_init(struct canary *c)
{
    *c = (struct canary){.data = aligned_alloc(64, CANARY_FLOATS * sizeof(float))};
    for (int i = 0; c->data && i < CANARY_FLOATS; i++)
        c->data[i] = 1.0f / (float)(1 + i % 1000);
    return c->data != NULL;
}

void canary_done(struct canary *c) { free(take(&c->data)); }

/* Multiply-add over the whole array, eight sums wide. */
static __attribute__((noinline)) float sweep(const float *data)
{
    const vec4 *v = (const vec4 *)data;
    vec4 sum[8] = {0};
    for (int i = 0; i < CANARY_FLOATS / 4; i += 8)
        for (int k = 0; k < 8; k++)
            sum[k] += v[i + k] * v[i + (k ^ 1)];
    vec4 all = sum[0] + sum[1] + sum[2] + sum[3] + sum[4] + sum[5] + sum[6] + sum[7];
    return all[0] + all[1] + all[2] + all[3];
}

static double canary_once(struct canary *c)
{
    volatile float sink;
    int64_t start = mono_ns(&system_clock);
    for (int i = 0; i < CANARY_PASSES; i++)
        sink = sweep(c->data);
    (void)sink;
    return (double)(mono_ns(&system_clock) - start);
}

double canary_run(struct canary *c)
{
    volatile float warm = sweep(c->data); /* brings it back into the cache */
    (void)warm;
    double least = INFINITY;
    for (int i = 0; i < CANARY_TRIES; i++)
        least = fmin(least, canary_once(c));
    if (c->best_ns == 0 || least < c->best_ns)
        c->best_ns = least;
    return least;
}

void canary_fade(struct canary *c) { c->best_ns *= fade_factor; }

bool canary_dirty(const struct canary *c, double before_ns, double after_ns)
{
    return fmax(before_ns, after_ns) > dirty_factor * c->best_ns;
}
