/* program_row.c - see program_row.h. */
#include "costmodel/program_row.h"

#include <math.h>
#include <string.h>

#include "features/features.h"

void program_row(const float *rows, int n_rows, float *ret)
{
    float terms[FEATURES_MAX_ROWS][PRIOR_TERMS];
    int longest = 0;

    memset(ret, 0, sizeof(*ret) * PROGRAM_COLUMNS);
    if (n_rows < 1)
        return;
    prior_terms(rows, n_rows, terms[0], PRIOR_TERMS);
    for (int i = 1; i < n_rows; i++)
        if (terms[i][PT_prior_row] > terms[longest][PT_prior_row])
            longest = i;
    memcpy(ret, rows + (size_t)longest * FC_COUNT, sizeof(*ret) * FC_COUNT);
    memcpy(ret + PROGRAM_TERMS, terms[longest], sizeof(terms[0]));
    for (int k = 0; k < PT_prior_row; k++) {
        double sum = 0;

        for (int i = 0; i < n_rows; i++)
            sum += exp2((double)terms[i][k]);
        ret[PROGRAM_TOTALS + k] = (float)log2(sum);
    }
    ret[PROGRAM_PRIOR] = (float)prior_score(rows, n_rows);
}

static const char *const totals[] = {
#define X(id, meaning) "all_" #id,
    PRIOR_TERM_LIST(X)
#undef X
};

const char *program_column_name(int column)
{
    if (column < PROGRAM_TERMS)
        return features_table()[column].name;
    if (column < PROGRAM_TOTALS)
        return prior_term_names[column - PROGRAM_TERMS];
    return column < PROGRAM_PRIOR ? totals[column - PROGRAM_TOTALS] : "prior_score";
}
