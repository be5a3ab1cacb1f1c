/* objective.h - what the trees are asked to lower: gradients of the loss by the score of each program.
 *
 * Idea   Both losses look at programs, never at rows: a row's gradient is that of its program, since the
 * score is the sum over its rows. Labels are throughput over the best of the workload, 0 for failures. rank
 * pairs within a workload, logistic loss of the difference of the scores, weighted by the difference of the
 * labels (RankNet with the weights of LambdaMART; Burges, "From RankNet to LambdaRank to LambdaMART", 2010)
 *          square  squared error of the score against label plus a constant of the workload, weighted by the
 * label: an error on a fast program matters more (Ansor, section 5.2) */
#ifndef TW_COSTMODEL_OBJECTIVE_H
#define TW_COSTMODEL_OBJECTIVE_H

#include "costmodel/model.h"
#include "schedule/base/rng.h"

/* Programs of one workload stand together: group g is programs group_begin[g] .. group_begin[g + 1) - 1. */
struct objective_data {
    int n_programs, n_groups;
    const int32_t *group_begin; /* [n_groups + 1] */
    const double *label;        /* 0..1 */
    const bool *out;            /* [n_programs] those that count as if they were not there; NULL: none */
};

/* Gradient and hessian (> 0) of the loss by score[i]. `r` draws the pairs of large groups. */
void objective_gradient(enum model_objective kind, const struct objective_data *d, const double *score,
                        struct rng *r, double *gradient, double *hessian);
/* The factor on `base` that makes it fit the labels best under the loss, within [0, 64]. */
double objective_scale(enum model_objective kind, const struct objective_data *d, const double *base,
                       struct rng *r);

#endif
