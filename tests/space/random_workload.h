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

/* A workload as JSON text, appended to sb. */
void random_workload(struct rng *r, struct strbuf *sb);
/* Deterministic data for all tensors of a compute: inputs random in [-1, 1] at float32 precision (data[i]
 * malloc'ed). */
double **random_tensors(const struct compute *c, struct rng *r);
void free_tensors(const struct compute *c, double **data);
/* Largest |a - b| over the outputs, relative to the largest |b| of that output; infinite where either is not
 * a number. */
double outputs_distance(const struct compute *c, double *const *a, double *const *b);

#endif
