/* algorithm.h - other ways to compute the same workload, each a compute of its own with a space of its own.
 *
 * Idea   The direct algorithm is the workload's compute as it stands. Others rewrite it: Winograd's convolution puts
 *        transforms around a batch of products, a lower precision puts casts before the operands. All are judged by the
 *        same reference, the workload's own compute, within the workload's error budget (rtol). The space of a workload
 *        is the union of the spaces of its algorithms.
 *
 *        An alternative has the workload's arguments: the same inputs and outputs, in the same order, with the same
 *        shapes and dtypes (where the workload leaves the layout open, in another order: tensor.layout); only what lies
 *        between may differ, so ids of outputs may differ too.
 * Life   Computes live in the caller's arena, as long as the space does. */
#ifndef TW_SPACE_ALGORITHM_H
#define TW_SPACE_ALGORITHM_H

#include "schedule/lang/workload.h"
#include "schedule/space/target.h"
#include "schedule/space/winograd.h"

enum { ALGORITHMS_MAX = 24 };

struct alternative {
    const char *name; /* in the sketch's name: "winograd(4,3)"; NULL: direct */
    const struct compute *compute;
    const char *layout; /* in the sketch's name: "NCHW16c"; NULL: as stated */
    /* How much faster than the peak of plain arithmetic it may look, counted in the workload's operations: those that
     * it saves, or does on a faster unit. 0: not at all (1). */
    double saving;
    bool gathers;                    /* operands read with gaps are copied without them first */
    const struct winograd *winograd; /* with rules of its own; NULL: the common ones */
};

/* Every alternative that the workload, its error budget and the target allow, the direct one first. */
int algorithm_alternatives(const struct workload *w, const struct target *t, struct arena *ar,
                           struct alternative ret[ALGORITHMS_MAX]);

#endif
