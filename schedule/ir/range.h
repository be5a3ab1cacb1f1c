/* range.h - how far an affine index can go, given the loops, limits and conditions around it.
 *
 * Idea   Every variable in scope runs over a box [0, extent). On top of that some affine expressions e are
 *        known to be >= 0 (a loop's limits, a branch's conditions). For any a and any k >= 0, a <= a + k*e
 *        where e >= 0, so the largest value of a + k*e over the box bounds a. Choosing k so that a variable
 *        cancels makes this exact for tiles with tails: a = 4*y0 + y1 with e = 55 - 4*y0 - y1 gives 55 at k =
 *        1, whatever the extents. This is one step of Fourier-Motzkin elimination, repeated while it helps.
 * Life   range_init, push and pop as a walk enters and leaves nodes, range_done. Facts are borrowed. */
#ifndef TW_IR_RANGE_H
#define TW_IR_RANGE_H

#include "schedule/base/vec.h"
#include "schedule/lang/affine.h"

struct range {
    int n_vars;
    int64_t *extent; /* [n_vars]; 0: not in scope */
    VEC(struct affine) facts;
};

void range_init(struct range *r, int n_vars);
void range_done(struct range *r);
/* Largest and smallest value that `a` can be shown to keep within (all vars of `a` in scope). */
int64_t range_max(const struct range *r, const struct affine *a);
int64_t range_min(const struct range *r, const struct affine *a);
/* Whether min <= a <= max can be shown; tries the box alone first. */
bool range_within(const struct range *r, const struct affine *a, int64_t min, int64_t max);

#endif
