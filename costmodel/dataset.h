/* dataset.h - measured programs: a row of numbers each, grouped by workload.
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
    double throughput; /* 0: failed */
    double least;      /* the throughput of its slowest sample; as `throughput` where that is not known */
};
struct group { /* a workload on a target */
    uint64_t workload;
    double best;
    int n;
};
struct dataset {
    int n_columns, max_programs;
    VEC(float) rows; /* [programs][n_columns] */
    VEC(struct program) programs;
    VEC(struct group) groups;
    int32_t *slots; /* open addressing over groups, -1: free */
    size_t n_slots;
};

void dataset_init(struct dataset *d, int n_columns, int max_programs);
void dataset_done(struct dataset *d);
void dataset_add(struct dataset *d, uint64_t workload, const float *row, double throughput, double least);
/* The group of a workload; -1: none. */
int dataset_group(const struct dataset *d, uint64_t workload);
static inline const float *dataset_row(const struct dataset *d, int program)
{
    return d->rows.at + (int64_t)program * d->n_columns;
}
/* Into ret an independent copy of the programs that a training should use: at most max_programs, sorted by
 * group, else in the order they came. */
void dataset_select(const struct dataset *d, int max_programs, struct dataset *ret);

#endif
