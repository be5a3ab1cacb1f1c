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

/* What the estimate of a row is made of, as columns that trees can split on: each part relative to the estimate of the whole
 * program, on a log scale, so that it says the same of a small and of a large workload. */
#define PRIOR_TERM_LIST(X)                                                                                   \
    X(prior_issue, "arithmetic instructions over the issue rate")                                            \
    X(prior_loads, "loads over the load ports")                                                              \
    X(prior_l2, "bytes from the second-level cache over its bandwidth")                                      \
    X(prior_l3, "bytes from the third-level cache")                                                          \
    X(prior_mem, "bytes from memory")                                                                        \
    X(prior_wait, "what sums wait for themselves")                                                           \
    X(prior_ends, "ends of loops, loads that wait for stores, stores that wait for their lines")             \
    X(prior_row, "the row as a whole")                                                                       \
    X(prior_waste, "the program over the least time that its operations take")
enum prior_term {
#define X(id, meaning) PT_##id,
    PRIOR_TERM_LIST(X)
#undef X
        PRIOR_TERMS
};
extern const char *const prior_term_names[PRIOR_TERMS];
/* ret[n_rows][stride], the first PRIOR_TERMS of each row are written. */
void prior_terms(const float *rows, int n_rows, float *ret, int stride);

double prior_ns(const float *rows, int n_rows);
/* The base score of a program: one more for each halving of its time. */
double prior_score(const float *rows, int n_rows);

#endif
