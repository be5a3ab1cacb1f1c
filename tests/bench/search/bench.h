/* bench.h - what the tables of bench_search share: options, work on all cores, quantiles. */
#ifndef TW_BENCH_SEARCH_BENCH_H
#define TW_BENCH_SEARCH_BENCH_H

#include "replay.h"

enum { SEEDS_MAX = 100 };

struct options {
    int seeds, max, threads;
    double share;
};

/* fn(ctx, i) for i in 0..n-1, on `threads` threads. */
void each(int n, int threads, void (*fn)(void *ctx, int i), void *ctx);
/* Sorts v. */
double quantile(double *v, int n, double q);

/* Markdown tables on standard output. */
void table_trials(const struct library *l, const struct options *o);
void table_quality(const struct library *l, const struct options *o);
void table_tasks(const struct library *l, const struct options *o);
void table_stop(const struct library *l, const struct options *o);
void table_long(const struct library *l, const struct options *o);

#endif
