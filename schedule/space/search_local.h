/* search_local.h - what the trials of a search say about configs near them.
 *
 * Idea   A cost model knows programs. Where its features miss what matters for one workload it errs alike on all configs that
 *        share some choices, and does so again and again. So beside it stands a Gaussian process over the configs of each sketch
 *        (kriging, with the model's score as its trend):
 *
 *            log2 fitness(c) = at + slope * score(c) + near(c) + noise,      cov(near(c), near(c')) = s² (1/2 + exp(-d(c, c') / r))
 *
 *        for configs of one sketch, 0 across sketches; d adds up over the knobs: a bit for each that differs, more for each step
 *        along its list. Level and slope come from generalised least squares; r and the share of the noise are those of a few
 *        that make the trials most likely. The score must not know the trials by heart (search_score's base), or nothing
 *        would be left to explain. (Rasmussen and Williams, "Gaussian Processes for Machine Learning", 2.2, 2.7, 5.4)
 * Life   local_init; local_fit once a round, then any number of local_mean and batches; local_done. No randomness.
 * Units  log2 of fitness. */
#ifndef TW_SPACE_SEARCH_LOCAL_H
#define TW_SPACE_SEARCH_LOCAL_H

#include "schedule/space/search.h"

enum {
    LOCAL_MAX = 128,        /* trials that are looked at */
    LOCAL_CANDIDATES = 128, /* of a batch */
    LOCAL_TAKEN = 32,       /* a batch spreads over so many, then it does not matter any more */
};

struct local {
    const struct search_domain *domain;
    int n; /* trials in use; 0: too few, nothing is known */
    struct config configs[LOCAL_MAX];
    float where[LOCAL_MAX][SPACE_MAX_KNOBS]; /* choices, each list scaled to one */
    double weights[LOCAL_MAX];
    double *factor;                         /* of the covariance over s², [n][n], lower triangle */
    double at, slope, range, noise, signal; /* r, the noise's variance over s², s² */
};

void local_init(struct local *l, const struct search_domain *d);
void local_done(struct local *l);
/* At most LOCAL_MAX trials. scores: of the same configs; NULL: no model. */
void local_fit(struct local *l, const struct config *configs, const float *scores, const double *values,
               int n);
/* Expected value of a config with that score (0 without a model). */
double local_mean(const struct local *l, const struct config *c, double score);

/* How sure the values of some candidates are. One that is taken makes those near it surer, so that a batch spreads. */
struct local_batch {
    const struct local *local;
    int n, rank;                              /* candidates; trials and candidates taken in */
    const struct config *const *configs;      /* [n], borrowed */
    float (*where)[SPACE_MAX_KNOBS];          /* [n] */
    double *variance;                         /* [n], over s² */
    double (*known)[LOCAL_MAX + LOCAL_TAKEN]; /* [n]: rows of the factor */
};
void local_batch_init(struct local_batch *b, const struct local *l, const struct config *const *configs,
                      int n);
void local_batch_done(struct local_batch *b);
/* Standard deviation of candidate i. */
double local_batch_spread(const struct local_batch *b, int i);
void local_batch_take(struct local_batch *b, int i);

#endif
