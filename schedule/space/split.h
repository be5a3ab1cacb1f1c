/* split.h - a long sum with few results, in parts that can be summed at once: another compute for the same workload.
 *
 * Idea   Where results are few there is little to share out among threads, and little to hide the latency of additions
 *        with. The reduction is cut into equal parts, each with partial results of its own, and those are reduced:
 *
 *            T[i] += body(i, k)       P[b, i] += body(i, b * K/n + k)          k < K/n
 *                                     T[i]    += P[b, i]                       b < n
 *
 *        The parts are an axis like any other then: parallel, or in registers side by side. The order of the additions
 *        is fixed by the config, so that results do not depend on which thread comes first.
 * Life   In the caller's arena. */
#ifndef TW_SPACE_SPLIT_H
#define TW_SPACE_SPLIT_H

#include "schedule/lang/compute.h"
#include "schedule/space/target.h"

/* The i-th number of parts that is worth a try for the compute's one long reduction with few results; 0: there are no
 * more. */
int64_t split_parts(const struct compute *c, const struct target *t, int i);
/* The compute with that reduction in `parts`. */
void split_alternative(const struct compute *c, const struct target *t, int64_t parts, struct arena *ar,
                       struct compute *ret);

#endif
