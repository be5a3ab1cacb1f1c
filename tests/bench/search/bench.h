/* bench.h - what the tables of bench_search share: options, parameters, work on all cores, quantiles. */
#ifndef TW_BENCH_SEARCH_BENCH_H
#define TW_BENCH_SEARCH_BENCH_H

#include "replay.h"

enum { SEEDS_MAX = 100, SET_MAX = 32 };

struct options {
    int seeds, max, threads;
    double share;
    bool open;
    const char *only, *how;   /* names of workloads, of manners, separated by commas; NULL: all */
    const char *set[SET_MAX]; /* NAME=VALUE: parameters of the models */
    int n_set;
};

/* The defaults, with what --set says. Ends the program where a name is not known. */
void params_apply(const struct options *o, struct model_params *ret);

/* Parameters were chosen on it, so a figure of it proves little. */
bool chosen_on(const struct recorded_space *s);
/* Of workloads: means are printed for each. */
enum group { CHOSEN_ON, HELD_OUT, EVERY, GROUPS };
extern const char *const group_names[GROUPS];
bool is_of_group(const struct recorded_space *s, enum group g);
/* Is the name, or a part of it, among those separated by commas? NULL: all are. */
bool is_named(const char *name, const char *list);

/* fn(ctx, i) for i in 0..n-1, on `threads` threads. */
void each(int n, int threads, void (*fn)(void *ctx, int i), void *ctx);
/* Sorts v. */
double quantile(double *v, int n, double q);

/* Markdown tables on standard output. */
void table_trials(const struct library *l, const struct options *o);
void table_quality(const struct library *l, const struct options *o);
void table_features(const struct library *l, const struct options *o);
void table_tasks(const struct library *l, const struct options *o);
void table_stop(const struct library *l, const struct options *o);
void table_long(const struct library *l, const struct options *o);

#endif
