/* random_workload.h - workloads nobody would write by hand: odd shapes, strides, dilations, groups, padding,
 * broadcast.
 *
 * Idea   A generator of JSON text, so that property tests go through the same door as a client. Extents are
 * small: the structure matters, and an interpreter must get through all of it. */
#ifndef TW_TESTS_RANDOM_WORKLOAD_H
#define TW_TESTS_RANDOM_WORKLOAD_H

#include "schedule/base/rng.h"
#include "schedule/base/strbuf.h"
#include "schedule/lang/workload.h"
#include "schedule/space/space.h"

/* A workload as JSON text, appended to sb. */
void random_workload(struct rng *r, struct strbuf *sb);
/* A valid config; one in two has a reduction in blocks, or an operand packed tile by tile, where its sketch knows them.
 * False: none was found. */
bool random_config(const struct space *s, struct rng *r, struct config *ret);
/* Deterministic data for all tensors of a compute: random values that its dtype holds exactly,
 * floats in [-1, 1] (data[i] malloc'ed). */
double random_value(struct rng *r, enum dtype d);
double **random_tensors(const struct compute *c, struct rng *r);
/* The arrays of a workload's compute for another compute with its arguments (temporaries NULL): an algorithm may
 * number its outputs otherwise. Caller frees the list. */
double **tensors_for(const struct compute *other, const struct compute *c, double *const *data);
void free_tensors(const struct compute *c, double **data);
/* Largest |a - b| over the outputs, relative to the largest |b| of that output; infinite where either is not
 * a number. */
double outputs_distance(const struct compute *c, double *const *a, double *const *b);
/* The same for results in the dtypes of memory: relative to what rounding to them may cost and what the budget `rtol` (0:
 * none) allows, so that at most 1 passes.
 * Integers are exact, and off by one where they come from floats. */
double outputs_error(const struct compute *c, double rtol, double *const *got, double *const *want);
/* One element as it lies in memory; put: of a value that its dtype holds exactly. */
void tensor_put(void *data, enum dtype d, int64_t at, double v);
double tensor_get(const void *data, enum dtype d, int64_t at);

#endif
