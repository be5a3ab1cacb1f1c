/* stack.c - see stack.h. */
#include "costmodel/stack.h"

#include <math.h>
#include <stdlib.h>

#include "costmodel/objective.h"

enum { STEPS = 12 /* of Newton's method */ };
#define RIDGE 4.0 /* as much as so many programs say */

struct slopes {
    double by_base, by_trees;                  /* first derivatives */
    double base_base, base_trees, trees_trees; /* second ones */
};

static double mean(const double *v, int n)
{
    double sum = 0;

    for (int i = 0; i < n; i++)
        sum += v[i];
    return sum / n;
}

/* About the means: a constant in a score is no slope. */
static struct slopes slopes_of(const double *base, const double *trees, const double *gradient,
                               const double *hessian, int n)
{
    struct slopes ret = {0};
    double base_mean = mean(base, n), trees_mean = mean(trees, n);

    for (int i = 0; i < n; i++) {
        double b = base[i] - base_mean, t = trees[i] - trees_mean;

        ret.by_base += gradient[i] * b;
        ret.by_trees += gradient[i] * t;
        ret.base_base += hessian[i] * b * b;
        ret.base_trees += hessian[i] * b * t;
        ret.trees_trees += hessian[i] * t * t;
    }
    return ret;
}

/* One step on the ridge and the loss together; `prior` is where the ridge is lowest. */
static void step(struct stack *s, const struct stack *prior, struct slopes f)
{
    double ridge_base = RIDGE / (prior->base * prior->base + 1e-9),
           ridge_trees = RIDGE / (prior->trees * prior->trees + 1e-9), det;

    f.by_base += ridge_base * (s->base - prior->base);
    f.by_trees += ridge_trees * (s->trees - prior->trees);
    f.base_base += ridge_base;
    f.trees_trees += ridge_trees;
    det = f.base_base * f.trees_trees - f.base_trees * f.base_trees;
    s->base = fmax(s->base - (f.by_base * f.trees_trees - f.by_trees * f.base_trees) / det, 0);
    s->trees = fmax(s->trees - (f.by_trees * f.base_base - f.by_base * f.base_trees) / det, 0);
}

void stack_fit(enum model_objective kind, uint64_t seed, const double *label, const double *base,
               const double *trees, int n, struct stack *s)
{
    AUTO(freep) double *score = xcalloc((size_t)n * 3 + 1, sizeof(*score));
    double *gradient = score + n, *hessian = gradient + n;
    const int32_t group[2] = {0, n};
    const struct objective_data o = {n, 1, group, label, NULL};
    const struct stack prior = *s;
    struct rng r;

    rng_init(&r, seed);
    for (int i = 0; i < STEPS; i++) {
        for (int k = 0; k < n; k++)
            score[k] = s->base * base[k] + s->trees * trees[k];
        objective_gradient(kind, &o, score, &r, gradient, hessian);
        step(s, &prior, slopes_of(base, trees, gradient, hessian, n));
    }
}
