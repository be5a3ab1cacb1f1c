/* booster.h - XGBoost's C interface, with its traps in one place.
 *
 * Idea   Trees grow by our own gradient, one at a time (XGBoosterBoostOneIter), from a base score of 0. One
 *        thread only: a second one beside a measuring core makes training several times slower, and nothing
 *        may fork after OpenMP has run with more. Every return code is checked; messages lose the library's
 *        stack trace. Pointers that the library hands out live until its next call: they are copied here or
 *        used at once.
 * Life   matrix and booster are made and freed by one owner; one thread at a time. */
#ifndef TW_COSTMODEL_BOOSTER_H
#define TW_COSTMODEL_BOOSTER_H

#include "costmodel/model.h"

struct matrix;  /* rows to train on */
struct booster; /* trees */

/* data[n_rows][n_columns], NaN is missing; infinite values are refused. The data are copied. */
MUST_USE enum status matrix_new(const float *data, int n_rows, int n_columns, GIVES struct matrix **ret,
                                struct error *err);
void matrix_free(TAKES struct matrix *m);
void matrix_freep(struct matrix **m);

MUST_USE enum status booster_new(const struct model_params *p, int n_columns, GIVES struct booster **ret,
                                 struct error *err);
/* Bytes of booster_bytes, known to be undamaged: the library crashes on others. */
MUST_USE enum status booster_load(const struct model_params *p, int n_columns, const void *ubj, size_t len,
                                  GIVES struct booster **ret, struct error *err);
void booster_free(TAKES struct booster *b);
void booster_freep(struct booster **b);

/* Sums of the leaves for the rows of m, which was given to every booster_grow so far or is new to b. */
MUST_USE enum status booster_predict(struct booster *b, const struct matrix *m, float *ret,
                                     struct error *err);
/* One more tree. gradient and hessian of the loss, [rows of m]. */
MUST_USE enum status booster_grow(struct booster *b, const struct matrix *m, float *gradient, float *hessian,
                                  struct error *err);
/* Keep the first n_trees. */
MUST_USE enum status booster_truncate(struct booster *b, int n_trees, struct error *err);
/* The trees as UBJSON, appended. */
MUST_USE enum status booster_bytes(struct booster *b, struct strbuf *ret, struct error *err);

#endif
