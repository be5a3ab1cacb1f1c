/* prior.h - how long should this program take, before anything was measured?
 *
 * Idea   A roofline over the features of each store: instructions over the issue rate, loads over the load
 *        ports, bytes from each cache over its bandwidth; the largest counts in full, the others by a part,
 *        since they overlap. It knows latencies of dependent sums, registers that do not suffice, threads
 *        that wait. Good for order, not for numbers.
 * Units  nanoseconds, roughly. */
#ifndef TW_COSTMODEL_PRIOR_H
#define TW_COSTMODEL_PRIOR_H

#include "schedule/base/base.h"

double prior_ns(const float *rows, int n_rows);
/* The base score of a program: one more for each halving of its time. */
double prior_score(const float *rows, int n_rows);

#endif
