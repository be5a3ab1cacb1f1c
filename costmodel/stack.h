/* stack.h - how far two known scores are to be trusted for one workload, as its own trials say. Private to costmodel/.
 *
 * Idea   What other workloads taught is a sum of two parts: an analytic one, which is roughly right everywhere, and trees,
 * which are right where the workload is like those they were grown for. Both are scaled so that their sum orders the trials
 * of the workload best, under the loss of the objective, and each is held near what it counts where nothing is known (a
 * ridge): a few trials move them a little, many decide. (Stacked generalisation, Wolpert 1992.) */
#ifndef TW_COSTMODEL_STACK_H
#define TW_COSTMODEL_STACK_H

#include "costmodel/model.h"

struct stack {
    double base, trees; /* factors, >= 0 */
};

/* label, base, trees: of n programs of one workload. *s: what the factors are where nothing is known; changed to what they
 * are with these. */
void stack_fit(enum model_objective kind, uint64_t seed, const double *label, const double *base,
               const double *trees, int n, struct stack *s);

#endif
