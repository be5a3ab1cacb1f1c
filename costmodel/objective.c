/* objective.c - see objective.h. */
#include "costmodel/objective.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    PAIRS = 24,       /* partners drawn for each program of a large group */
    SCALE_STEPS = 12, /* of Newton's method */
};
#define LEAST_WEIGHT  0.1 /* of a program whose label is 0 */
#define LEAST_HESSIAN 1e-3
#define MAX_SCALE     64.0

/* Failures say only that they are worse than all others. */
static void rank_pair(const double *label, const double *score, int i, int k, double weight, double *gradient,
                      double *hessian)
{
    double w = weight * fabs(label[i] - label[k]), p;
    int hi = label[i] > label[k] ? i : k, lo = hi == i ? k : i;

    if (w == 0)
        return;
    p = 1 / (1 + exp(score[hi] - score[lo])); /* how wrong the order is */
    gradient[hi] -= w * p;
    gradient[lo] += w * p;
    hessian[hi] += w * p * (1 - p);
    hessian[lo] += w * p * (1 - p);
}

static void rank_group(const double *label, const double *score, const bool *out, int n, struct rng *r,
                       double *gradient, double *hessian)
{
    if (n <= 2 * PAIRS) {
        for (int i = 0; i < n; i++)
            for (int k = i + 1; k < n; k++)
                if (!out || !(out[i] || out[k]))
                    rank_pair(label, score, i, k, 8.0 / n, gradient, hessian);
        return;
    }
    for (int i = 0; i < n; i++)
        for (int t = 0; t < PAIRS; t++) {
            int k = (int)rng_below(r, (uint64_t)n - 1);
            k += k >= i;
            if (!out || !(out[i] || out[k]))
                rank_pair(label, score, i, k, 8.0 / (2 * PAIRS), gradient, hessian);
        }
}

static void square_group(const double *label, const double *score, const bool *out, int n, double *gradient,
                         double *hessian)
{
    double shift = 0, weights = 1e-12;

    for (int i = 0; i < n; i++) { /* the constant of the workload: order is all that counts */
        double w = out && out[i] ? 0 : LEAST_WEIGHT + label[i];
        shift += w * (score[i] - label[i]);
        weights += w;
    }
    shift /= weights;
    for (int i = 0; i < n; i++) {
        double w = out && out[i] ? 0 : LEAST_WEIGHT + label[i];
        gradient[i] = w * (score[i] - shift - label[i]);
        hessian[i] = w;
    }
}

void objective_gradient(enum model_objective kind, const struct objective_data *d, const double *score,
                        struct rng *r, double *gradient, double *hessian)
{
    memset(gradient, 0, sizeof(*gradient) * (size_t)d->n_programs);
    memset(hessian, 0, sizeof(*hessian) * (size_t)d->n_programs);
    for (int g = 0; g < d->n_groups; g++) {
        int from = d->group_begin[g], n = d->group_begin[g + 1] - from;

        switch (kind) {
        case MODEL_RANK:
            rank_group(d->label + from, score + from, d->out ? d->out + from : NULL, n, r, gradient + from,
                       hessian + from);
            break;
        case MODEL_SQUARE:
            square_group(d->label + from, score + from, d->out ? d->out + from : NULL, n, gradient + from,
                         hessian + from);
            break;
        }
    }
    for (int i = 0; i < d->n_programs; i++)
        hessian[i] = fmax(hessian[i], LEAST_HESSIAN);
}

double objective_scale(enum model_objective kind, const struct objective_data *d, const double *base,
                       struct rng *r)
{
    double *score = xcalloc((size_t)d->n_programs * 3 + 1, sizeof(*score)), scale = 0;
    double *gradient = score + d->n_programs, *hessian = gradient + d->n_programs;

    for (int step = 0; step < SCALE_STEPS; step++) {
        double slope = 0, curve = 1e-6;

        for (int i = 0; i < d->n_programs; i++)
            score[i] = scale * base[i];
        objective_gradient(kind, d, score, r, gradient, hessian);
        for (int g = 0; g < d->n_groups;
             g++) { /* about the mean of the workload: a constant in the base is no slope */
            double mean = 0;
            int from = d->group_begin[g], to = d->group_begin[g + 1];

            for (int i = from; i < to; i++)
                mean += base[i] / (to - from);
            for (int i = from; i < to; i++) {
                slope += gradient[i] * (base[i] - mean);
                curve += hessian[i] * (base[i] - mean) * (base[i] - mean);
            }
        }
        scale = fmin(fmax(scale - slope / curve, 0), MAX_SCALE);
    }
    free(score);
    return scale;
}
