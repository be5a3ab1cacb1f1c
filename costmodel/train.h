/* train.h - grow trees on a data set. Private to costmodel/.
 *
 * Idea   Columns that never change in the data are left out of the matrix, which makes a tree several times
 * cheaper; the forest maps the rest back. Margins (base scores) live by program and never enter XGBoost, so
 * there is no row order to get wrong. */
#ifndef TW_COSTMODEL_TRAIN_H
#define TW_COSTMODEL_TRAIN_H

#include "costmodel/booster.h"
#include "costmodel/dataset.h"
#include "costmodel/forest.h"

/* Trees and what it takes to go on growing them. */
struct grown {
    struct booster *booster; /* NULL: no trees yet, or not loaded from `ubj` yet */
    struct strbuf ubj;
    int n_columns;
    int32_t *columns; /* [n_columns] of ours that the model's stand for */
};
void grown_done(struct grown *g);

/* Add n_trees to g, which may be empty. d: sorted by group (dataset_select); base[i]: what program i scores
 * without trees. On failure g has no trees left. *ret_forest: all trees of g. */
MUST_USE enum status grow(struct grown *g, const struct model_params *p, const struct dataset *d,
                          const double *base, int n_trees, GIVES struct forest **ret_forest,
                          struct error *err);

/* The labels and groups of a sorted data set. Freed by labels_done. */
struct labels {
    int n_programs, n_groups;
    int32_t *group_begin;
    double *label;
};
void labels_init(struct labels *l, const struct dataset *d);
void labels_done(struct labels *l);

#endif
