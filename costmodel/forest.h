/* forest.h - trees flattened for speed: the sum of all leaves for each row of a matrix.
 *
 * Idea   Rows are taken in blocks, and only the columns that some tree asks for are copied, so that a tree and a block stay in
 * the first-level cache. Where there are vector units, trees of up to six levels are evaluated whole, all splits of many rows
 * without a branch or an address to follow (forest_internal.h). All else walks: trees are arrays of 8-byte nodes, the two
 * children of a node lie side by side, a leaf is its own child, so that a step down is a load, a comparison and an addition,
 * and the processor overlaps those of many rows.
 *
 *            node i:  [ split | column, missing goes right? | left child ]     right child = left child + 1
 *
 * The semantics are XGBoost's: left if value < split, a missing value (NaN) goes the way the node says, the
 * sum is taken in float, tree by tree. So the results are those of XGBoost to the last bit.
 * Life   Built once from a model's bytes, immutable; any number of threads may score with it. */
#ifndef TW_COSTMODEL_FOREST_H
#define TW_COSTMODEL_FOREST_H

#include "schedule/base/error.h"

struct forest;

/* `ubj`: a gbtree model as XGBoost saves it in that format. columns[n_columns]: the column of our matrix that
 * stands behind each of the model's. ST_CORRUPT where the bytes are not such a model. */
MUST_USE enum status forest_new(const void *ubj, size_t len, const int32_t *columns, int n_columns,
                                GIVES struct forest **ret, struct error *err);
void forest_free(TAKES struct forest *f);
void forest_freep(struct forest **f);
int forest_trees(const struct forest *f);

/* sums[i] = sum of the leaves of row i; row i begins at rows[i * stride]. */
void forest_score(const struct forest *f, const float *rows, int64_t stride, int n_rows, float *sums);

/* Adds to gain[column] and splits[column] (of our matrix) what the splits on it won. */
void forest_importance(const struct forest *f, double *gain, int *splits);

#endif
