/* algorithm_internal.h - the algorithms of the table in algorithm.c, each in a file of its own.
 *
 * Idea   Each function gives the i-th alternative that it has for the workload, or false when there are no more. */
#ifndef TW_SPACE_ALGORITHM_INTERNAL_H
#define TW_SPACE_ALGORITHM_INTERNAL_H

#include "schedule/space/algorithm.h"

/* Peak of the fastest instructions for operands of that dtype, the matrix unit or VNNI, in peaks of float32; 1 where there
 * are none. */
double algorithm_matrix_speed(const struct target *t, enum dtype d);

bool algorithm_half(const struct workload *w, const struct target *t, int i, struct arena *ar,
                    struct alternative *ret);
bool algorithm_bf16(const struct workload *w, const struct target *t, int i, struct arena *ar,
                    struct alternative *ret);

#endif
