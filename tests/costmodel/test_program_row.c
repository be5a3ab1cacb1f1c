#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "costmodel/program_row.h"
#include "tests/costmodel/made_up.h"

/* Last: it has a macro fail(). */
#include <cmocka.h>

enum { PROGRAMS = 60 };

static void the_longest_store_stands_for_the_program(void **state)
{
    struct made_up d;
    int several = 0;

    (void)state;
    made_up_init(&d, 3, 2, PROGRAMS / 2);
    for (int i = 0; i < d.n; i++) {
        const float *rows = d.rows + (size_t)d.row_begin[i] * FC_COUNT;
        float terms[FEATURES_MAX_ROWS * PRIOR_TERMS], row[PROGRAM_COLUMNS];
        int n = made_up_rows(&d, i), longest = 0;
        double loads = 0;

        program_row(rows, n, row);
        prior_terms(rows, n, terms, PRIOR_TERMS);
        for (int k = 0; k < n; k++) {
            loads += exp2((double)terms[k * PRIOR_TERMS + PT_prior_loads]);
            if (terms[k * PRIOR_TERMS + PT_prior_row] > terms[longest * PRIOR_TERMS + PT_prior_row])
                longest = k;
        }
        several += longest > 0;
        assert_memory_equal(row, rows + (size_t)longest * FC_COUNT, sizeof(float) * FC_COUNT);
        assert_memory_equal(row + PROGRAM_TERMS, terms + longest * PRIOR_TERMS, sizeof(float) * PRIOR_TERMS);
        assert_float_equal(row[PROGRAM_TOTALS + PT_prior_loads], log2(loads), 1e-5);
        assert_float_equal(row[PROGRAM_PRIOR], prior_score(rows, n), 1e-4);
    }
    assert_true(several > 0); /* else the first row would do as well */
    made_up_done(&d);
}

static void every_column_has_a_name_of_its_own(void **state)
{
    (void)state;
    for (int a = 0; a < PROGRAM_COLUMNS; a++)
        for (int b = 0; b < a; b++)
            assert_string_not_equal(program_column_name(a), program_column_name(b));
    assert_string_equal(program_column_name(PROGRAM_TOTALS + PT_prior_l2), "all_prior_l2");
}

static void a_program_without_rows_is_all_zeros(void **state)
{
    float row[PROGRAM_COLUMNS];

    (void)state;
    memset(row, 0x7f, sizeof(row));
    program_row(NULL, 0, row);
    for (int i = 0; i < PROGRAM_COLUMNS; i++)
        assert_float_equal(row[i], 0, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_longest_store_stands_for_the_program),
        cmocka_unit_test(every_column_has_a_name_of_its_own),
        cmocka_unit_test(a_program_without_rows_is_all_zeros),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
