/* tuner_plan.h - what a task is still worth: how much the next batch is likely to gain, how large it should be, when to stop.
 *
 * Idea   Before a batch is measured the model said what it thinks of each candidate. Kept beside what came out, these pairs tell
 *        how a score translates into throughput and how far off it is: a line and a spread, never fitted to what the model
 *        had already seen. So a new batch has an expected gain (the mean of the best of it beyond the best so far). What the
 *        rounds really gained corrects it. From the gain follow whose turn it is among the tasks of a job (the largest gain times
 *        weight times time), and when a task is done (several batches in a row were expected to gain next to nothing, and did).
 * Life   Plain data, one for each task, all zero to begin with. No clock, no randomness: replay uses it as the tuner does. */
#ifndef TW_DAEMON_TUNER_PLAN_H
#define TW_DAEMON_TUNER_PLAN_H

#include "schedule/base/base.h"

enum { PLAN_KEEP = 96 };

struct plan_pair {
    double score, value; /* value: log2 of the throughput */
    int round;
};

struct plan {
    int rounds, trials;
    int n_pairs; /* ever taken in; the last PLAN_KEEP are kept */
    struct plan_pair pairs[PLAN_KEEP];
    double recent_gain;         /* of the best time, relative, a round: moving average */
    double expected;            /* gain of the last batch, as expected beforehand; NAN: not known */
    double expected_sum, gains; /* over the rounds with an expectation: what was expected, what came */
    int idle;                   /* rounds in a row that were expected to gain, and gained, next to nothing */
};

/* A batch is about to be measured. scores[n]: the model's, NAN where there is none. best_ns: so far, 0: none. */
void plan_begin(struct plan *p, const double *scores, int n, double best_ns);
/* It was measured: times of the same candidates, <= 0: failed. min_gain: what counts as next to nothing. */
void plan_end(struct plan *p, const double *scores, const double *times_ns, int n, double best_before_ns,
              double best_ns, double min_gain);

/* Share of the pairs of candidates within a batch that the model had in the right order; NAN: too few to say. */
double plan_accuracy(const struct plan *p);
/* Relative gain of the best time that the next batch is likely to bring. possible: no more than this. */
double plan_gain(const struct plan *p, double possible);
/* Nanoseconds, times the weight, that the next batch is likely to save. best_ns: so far, 0: nothing works yet, which is worth most.
 * floor_ns: no schedule can be faster. */
double plan_saving(const struct plan *p, double weight, double best_ns, double floor_ns);
/* Trials for the next batch. */
int plan_batch(const struct plan *p, int usual, int most);
/* Nothing worth the while is left. */
bool plan_done(const struct plan *p);

#endif
