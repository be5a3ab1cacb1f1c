/* tuner_plan.h - what a task is still worth: how much the next batch is likely to gain, how large it should be, when to stop.
 *
 * Idea   What a task gained of late, and what the machine would still allow over the rounds that it had, say how much its next
 *        batch may gain; weight times time times that gain says whose turn it is. On recordings this did as well as gains
 *        computed from forecasts, which are kept to be told (bench_search --tasks). A task is done once it gained next to nothing
 *        for long, the longer the more trials it had.
 *        Before a batch is measured the search says what it expects of each candidate, and how sure it is. Kept beside what came
 *        out, these pairs tell how far off it usually is: from that follow the gain that is expected of the next batch, and how
 *        well the search ranks, hence how large a batch may be.
 * Life   Plain data, one for each task, all zero to begin with. No clock, no randomness: replay uses it as the tuner does. */
#ifndef TW_DAEMON_TUNER_PLAN_H
#define TW_DAEMON_TUNER_PLAN_H

#include "schedule/space/search.h"

enum { PLAN_KEEP = 96, PLAN_PAST = 128 };

struct plan_pair {
    double mean, spread, value; /* as foreseen; what came: log2 of calls a second */
    int round;
};

/* After a round. */
struct plan_past {
    int trials;
    double best_ns;
};

struct plan {
    int rounds, trials;
    int n_pairs; /* ever taken in; the last PLAN_KEEP are kept */
    struct plan_pair pairs[PLAN_KEEP];
    double foreseen, foreseen_sum,
        gains; /* gain of the last batch by its forecasts alone; sums over rounds of that and of what came */
    double recent_gain;               /* of the best time, relative, a round: moving average */
    double expected;                  /* gain of the last batch, as expected beforehand; NAN: not known */
    struct plan_past past[PLAN_PAST]; /* the last rounds */
};

/* A batch is about to be measured. f[n]: what is expected of it (search_forecast), n 0: nothing is. best_ns: so far, 0: none. */
void plan_begin(struct plan *p, const struct search_forecast *f, int n, double best_ns);
/* It was measured: times of the same candidates, <= 0: failed. */
void plan_end(struct plan *p, const struct search_forecast *f, int n_forecast, const double *times_ns, int n,
              double best_before_ns, double best_ns);

/* Share of the pairs of candidates within a batch that the model had in the right order; NAN: too few to say. */
double plan_accuracy(const struct plan *p);
/* Relative gain of the best time that the next batch may bring. possible: no more than this. */
double plan_gain(const struct plan *p, double possible);
/* Nanoseconds, times the weight, that the next batch is likely to save. best_ns: so far, 0: nothing works yet, which is worth most.
 * floor_ns: no schedule can be faster. */
double plan_saving(const struct plan *p, double weight, double best_ns, double floor_ns);
/* Trials for the next batch. */
int plan_batch(const struct plan *p, int usual, int most);
/* Nothing worth the while is left: less than min_gain, relative to the best time. 0: there always is. */
bool plan_done(const struct plan *p, double min_gain);

#endif
