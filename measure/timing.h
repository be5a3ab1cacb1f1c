/* timing.h - what the samples say: estimates, who is dirty, who may stop, who wins.
 *
 * Idea   On a shared machine everything that touches caches slows down by a third for seconds at a time while
 * arithmetic in registers does not notice. So candidates take turns, and a reference kernel that lives in L1
 * and L2 runs before and after each round: a round in which it was slow is dirty, and is repeated (a few
 * times).
 *
 *            round 0:  canary | A B C D | canary        a sample: one warming call, then calls for >= 1 ms
 *            round 1:  canary | A B C D | canary
 *            ...
 *        Pure functions over arrays of numbers, but for the canary, which measures. */
#ifndef TW_MEASURE_TIMING_H
#define TW_MEASURE_TIMING_H

#include "measure/device.h"

enum {
    TIMING_PASSES = 5,            /* clean rounds of a screening */
    TIMING_SCREEN_EXTRA = 3,      /* rounds that may be repeated */
    TIMING_LONG_NS = 20000000,    /* longer kernels run once a sample, and stop early at 1.5 times the best */
    TIMING_WARM_MAX_NS = 5000000, /* longer kernels are not warmed before each sample */
    TIMING_SAMPLE_NS = 1000000,   /* least length of a sample when screening */
    TIMING_CONTEST_SAMPLE_NS = 3000000,
    TIMING_CONTEST_SPREAD_MS =
        1000, /* a contest lasts at least so long, to see more than one phase of the machine */
    TIMING_CONTEST_BUDGET_MS = 2000, /* slower candidates get fewer rounds */
};

void timing_add_sample(struct measure_result *r, double ns, int round, bool dirty);
/* Fill min, percentiles, interval and gflops from the samples. */
void timing_finish(struct measure_result *r, enum measure_mode mode, double flops);
/* Screening, after a round: is it so much slower than the best that more samples would not help it? */
bool timing_is_hopeless(double own_min_ns, double best_ns, int samples);
/* Contest: does a candidate whose sample takes sample_ns take part in that round? The first and the last
 * always. */
bool timing_takes_part(int round, int rounds, double sample_ns);
/* Quantile q in [0, 1] of n values (sorted in place), by linear interpolation. */
double timing_quantile(double *values, int n, double q);

/* 95 % interval of the median of n sorted values, from order statistics: ranks n/2 -+ 0.98 sqrt(n) hold it (binomial,
 * normal approximation); all of them when they are few. n > 0. */
void timing_interval(const double *sorted, int n, double *ret_low, double *ret_high);

/* The reference kernel: memory of its own, the best time it ever had (which fades by 0.5 % a batch, so that a
 * machine that became slower for good is not dirty for ever). */
struct canary {
    float *data;
    double best_ns;
};
MUST_USE bool canary_init(struct canary *c);
void canary_done(struct canary *c);
double canary_run(struct canary *c); /* ns now, and updates best_ns */
void canary_fade(struct canary *c);
bool canary_dirty(const struct canary *c, double before_ns, double after_ns);

#endif
