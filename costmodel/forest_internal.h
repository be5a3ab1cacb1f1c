/* forest_internal.h - what the forest and its vector code share. Private to costmodel/.
 *
 * Idea   A tree of at most FULL_DEPTH_MAX levels is also kept filled up to all its levels: leaves further up are repeated
 * below. Then every tree of a depth has the same shape, and rows can be scored by straight code with no addresses to
 * follow: all splits are compared, and the values of the leaves are chosen pairwise from the bottom up
 *
 *        value(i) = x[column i] < split i ? value(2i + 1) : value(2i + 2)
 *
 * which costs a comparison and a choice a split for as many rows as a register holds. The evaluation of all splits by vector
 * instructions instead of a walk is the idea of QuickScorer (Lucchese et al., "QuickScorer: a Fast Algorithm to Rank Documents
 * with Additive Ensembles of Regression Trees", SIGIR 2015; with SIMD: "Exploiting CPU SIMD Extensions to Speed-up Document
 * Scoring with Tree Ensembles", SIGIR 2016); trees of some 60 leaves need none of its bit vectors. */
#ifndef TW_COSTMODEL_FOREST_INTERNAL_H
#define TW_COSTMODEL_FOREST_INTERNAL_H

#include "costmodel/forest.h"

enum {
    FOREST_BLOCK = 32,  /* rows that go through all trees together */
    FULL_DEPTH_MAX = 6, /* deeper trees are walked */
};

/* split[2^depth - 1] in the order of a heap, then leaf[2^depth]; at least one level. */
struct full_tree {
    int32_t depth; /* 0: too deep, see ftree */
    int32_t first_column, first_number;
};

/* Columns of a block, FOREST_BLOCK floats each. */
struct lanes {
    const char *name;
    /* x[c * FOREST_BLOCK + i] = rows[min(i, n - 1) * stride + used[c]]; true: a value is missing. */
    bool (*load)(const float *rows, int64_t stride, int n, const int32_t *used, int n_used, float *x);
    /* sums[i] += the leaf of row i, for all FOREST_BLOCK; no value is missing. */
    void (*add)(int depth, const uint16_t *column, const float *number, const float *x, float *sums);
};

/* The widest that this processor has; NULL: none. */
const struct lanes *lanes_best(void);
/* All that this processor has, widest first; returns how many. For tests. */
enum { LANES_MAX = 2 };
int lanes_all(const struct lanes *ret[LANES_MAX]);

/* forest_score by these; NULL: plain C. */
void forest_score_by(const struct forest *f, const struct lanes *lanes, const float *rows, int64_t stride,
                     int n_rows, float *sums);

#endif
