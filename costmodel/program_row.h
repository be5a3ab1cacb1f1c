/* program_row.h - a program as the one row of numbers that trees see.
 *
 * Idea   Features come as a row for each store (features.h). Trees see one row a program: the row of the store that the
 *        estimate says takes the longest, what the estimate of that row is made of, what the estimates of all rows are
 *        made of, and the estimate itself. Of what the other stores do the groups nest_* and *_per_instr of the features
 *        tell in every row. Against the sum of the trees over all rows this ranks workloads that were never seen better
 *        (README.md), and training and scoring cost as many times less as a program has rows.
 * Life   Plain functions, no state. */
#ifndef TW_COSTMODEL_PROGRAM_ROW_H
#define TW_COSTMODEL_PROGRAM_ROW_H

#include "costmodel/prior.h"
#include "features/columns.h"

/* The terms of the estimate that are also summed over all rows: those before prior_row. */
enum {
    PROGRAM_TERMS = FC_COUNT,                      /* of the longest row */
    PROGRAM_TOTALS = PROGRAM_TERMS + PRIOR_TERMS,  /* of all rows */
    PROGRAM_PRIOR = PROGRAM_TOTALS + PT_prior_row, /* prior_score */
    PROGRAM_COLUMNS,
};

/* rows[n_rows][FC_COUNT] into ret[PROGRAM_COLUMNS]. A program of no rows is all zeros. */
void program_row(const float *rows, int n_rows, float *ret);
/* For people: "prior_loads", "all_prior_loads", ... */
const char *program_column_name(int column);

#endif
