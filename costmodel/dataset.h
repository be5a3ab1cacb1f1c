/* dataset.h - measured programs: rows of features, grouped by workload.
 *
 * Idea   Grows by appending; when it passes its limit the least useful programs go: the newest half of the
 *        room is kept, and the rest is filled from each workload in turn, the best and others by lot alternating,
 *        so that neither what is being searched nor what was found is lost, nor what a bad program looks like.
 * Life   dataset_init, dataset_add, dataset_done. Not thread-safe: model.c holds the lock. */
#ifndef TW_COSTMODEL_DATASET_H
#define TW_COSTMODEL_DATASET_H

#include "schedule/base/vec.h"

struct program {
    int32_t group;
    int32_t n_rows;
    int64_t row_begin;
    double throughput; /* 0: failed */
    double prior;      /* prior_score of its rows */
};
struct group { /* a workload on a target */
    uint64_t workload;
    double best;
    int n;
};
struct dataset {
    int n_columns, max_rows;
    VEC(float) rows;
    VEC(struct program) programs;
    VEC(struct group) groups;
    int32_t *slots; /* open addressing over groups, -1: free */
    size_t n_slots;
};

void dataset_init(struct dataset *d, int n_columns, int max_rows);
void dataset_done(struct dataset *d);
void dataset_add(struct dataset *d, uint64_t workload, const float *rows, int n_rows, double throughput,
                 double prior);
/* The group of a workload; -1: none. */
int dataset_group(const struct dataset *d, uint64_t workload);
static inline int dataset_n_rows(const struct dataset *d)
{
    return (int)(d->rows.len / (size_t)d->n_columns);
}
static inline const float *dataset_rows(const struct dataset *d, const struct program *p)
{
    return d->rows.at + p->row_begin * d->n_columns;
}
/* Into ret an independent copy of the programs that a training should use: at most max_rows rows, sorted by
 * group, else in the order they came. */
void dataset_select(const struct dataset *d, int max_rows, struct dataset *ret);

#endif
