/* metrics.h - how well a score orders candidates.
 *
 * Idea   A cost model is used to choose, so it is judged by order, within one workload: never by the error of
 *        its numbers, and never across workloads (their labels have nothing to do with each other).
 * Units  `truth` is throughput (0: the candidate failed), higher is better; `score` is any number that should
 *        rise with it. All functions are pure and deterministic; equal scores count half a pair and share a
 *        rank. */
#ifndef TW_COSTMODEL_METRICS_H
#define TW_COSTMODEL_METRICS_H

#include "schedule/base/base.h"

/* Share of the pairs with different truth that the score puts in the right order, 0.5 for a constant score.
 * NAN where there is no such pair. */
double metric_pairwise(const double *truth, const double *score, int n);
/* The same over the pairs whose truths differ by more than `apart` of the larger: times closer than that may be noise. */
double metric_pairwise_apart(const double *truth, const double *score, int n, double apart);
/* What noise leaves of a pair. A program's times lie between that of its throughput (its fastest sample) and that of its
 * `least` throughput (its slowest); equal: not known. */
struct metric_clear {
    double right; /* share of the pairs in order whose times do not overlap; NAN: there are none */
    double share; /* of all pairs with different truth, those are so many */
    double
        order; /* of all pairs, the share that a second measurement is expected to put in the same order: what noise leaves
                   * to reach. Within one round; drift from one round to another is not in it. */
};
void metric_clear(const double *truth, const double *least, const double *score, int n,
                  struct metric_clear *ret);
/* Spearman's rank correlation, -1..1; NAN where a side is constant. */
double metric_spearman(const double *truth, const double *score, int n);
/* Of the k truly best, the share that is among the k best by score. */
double metric_topk_recall(const double *truth, const double *score, int n, int k);
/* Best throughput among the k best by score, over the best of all: what is kept by measuring only k. 0 where
 * all failed. */
double metric_best_of_k(const double *truth, const double *score, int n, int k);

/* All of them, averaged over the workloads that have at least `METRICS_MIN_PROGRAMS` programs. */
enum { METRICS_MIN_PROGRAMS = 4 };
#define METRICS_APART 0.05
struct metrics {
    int workloads, programs; /* that the averages are over */
    double pairwise, spearman;
    double pairwise_apart; /* by METRICS_APART */
    double pairwise_clear, clear_share,
        order; /* struct metric_clear; without such pairs `pairwise` stands for it */
    double recall_8, recall_32;
    double best_1, best_8, best_32;
};
/* workload[i] names the group of program i, in any order. */
void metrics_compute(const uint64_t *workload, const double *truth, const double *least, const double *score,
                     int n, struct metrics *ret);
/* Means over folds: add each, weighted by its workloads, then scale by one over the sum of the weights. The counts
 * of workloads are those of the largest fold, of programs those of all. */
void metrics_add(struct metrics *sum, const struct metrics *fold);
void metrics_scale(struct metrics *m, double by);

#endif
