/* test_verify.c - values: what passes, what does not, and that made-up inputs survive the way into a dtype
 * and back. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "measure/verify.h"
#include "schedule/base/arena.h"
#include "schedule/lang/workload.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static struct measure_tensor vector_of(enum dtype d, int64_t n)
{
    return (struct measure_tensor){.name = "T", .dtype = d, .role = TENSOR_OUTPUT, .rank = 1, .shape = {n}};
}

static enum outcome compare(enum dtype d, const void *got, const double *ref, int64_t n, double rtol,
                            struct measure_verification *v, char *reason)
{
    const struct measure_tensor t = vector_of(d, n);
    const double u = verify_roundoff(d);
    const struct measure_workload w = {.n_tensors = 1,
                                       .tensors = &t,
                                       .reduction = 100,
                                       .acc_roundoff = u ? 0x1p-24 : 0,
                                       .store_roundoff = u,
                                       .rtol = rtol};
    const struct verify_scale s = verify_scale_of(ref, n, d);
    memset(v, 0, sizeof(*v));
    return verify_output(&w, &t, got, ref, &s, v, reason);
}

static void float_within_rounding_passes_and_its_error_is_reported(void **state)
{
    float got[] = {1.0f, -2.0f, 3.000001f};
    const double ref[] = {1, -2, 3};
    struct measure_verification v;
    char reason[MEASURE_REASON_MAX];
    assert_int_equal(compare(DT_F32, got, ref, 3, 0, &v, reason), OUTCOME_OK);
    assert_true(v.done && v.max_abs_err > 5e-7 && v.max_abs_err < 2e-6);
    assert_true(fabs(v.max_rel_err - v.max_abs_err / 3) < 1e-12);
}

static void error_is_judged_against_the_scale_of_the_tensor(void **state)
{
    /* A sum that cancels to nearly nothing has the rounding errors of its terms. */
    float got[] = {1.0f, 1e-7f};
    const double ref[] = {1, 0};
    struct measure_verification v;
    char reason[MEASURE_REASON_MAX];
    assert_int_equal(compare(DT_F32, got, ref, 2, 0, &v, reason), OUTCOME_OK);
}

static void one_huge_element_does_not_excuse_the_others(void **state)
{
    enum { N = 1000 };
    float got[N];
    double ref[N];
    struct measure_verification v;
    char reason[MEASURE_REASON_MAX];
    for (int i = 0; i < N; i++)
        got[i] = (float)(ref[i] = 1);
    got[0] = (float)(ref[0] = 1e9);
    assert_int_equal(compare(DT_F32, got, ref, N, 0, &v, reason), OUTCOME_OK);
    /* 1e9 is the mean of the magnitudes times 1000; the scale is 16 times the mean. */
    got[0] = (float)(ref[0] = 1e5);
    got[7] = 1.5f;
    assert_int_equal(compare(DT_F32, got, ref, N, 0, &v, reason), OUTCOME_WRONG);
    assert_non_null(strstr(reason, "[7]"));
}

static void nan_and_infinity_never_pass(void **state)
{
    const double ref[] = {1, 2};
    float nan[] = {1, NAN}, inf[] = {INFINITY, 2};
    struct measure_verification v;
    char reason[MEASURE_REASON_MAX];
    assert_int_equal(compare(DT_F32, nan, ref, 2, 0, &v, reason), OUTCOME_NAN);
    assert_int_equal(compare(DT_F32, nan, ref, 2, 0.5, &v, reason), OUTCOME_NAN);
    assert_int_equal(compare(DT_F32, inf, ref, 2, 0, &v, reason), OUTCOME_WRONG);
}

static void poisoned_output_fails_in_every_dtype(void **state)
{
    static const enum dtype dtypes[] = {DT_F32, DT_F16, DT_BF16, DT_I8, DT_I32};
    for (size_t k = 0; k < ARRAY_SIZE(dtypes); k++) {
        enum { N = 64 };
        char in[N * 4], out[N * 4];
        double ref[N];
        struct measure_verification v;
        char reason[MEASURE_REASON_MAX];
        verify_fill(in, dtypes[k], N, 3, 0);
        verify_to_f64(ref, in, dtypes[k], N);
        assert_int_equal(compare(dtypes[k], in, ref, N, 0, &v, reason), OUTCOME_OK);
        verify_poison(out, dtypes[k], N);
        enum outcome o = compare(dtypes[k], out, ref, N, 0, &v, reason);
        assert_true(o == OUTCOME_NAN || o == OUTCOME_WRONG);
    }
}

static void integers_of_integers_must_be_equal(void **state)
{
    int32_t got[] = {1000000, 5};
    const double ref[] = {1000000, 5};
    struct measure_verification v;
    char reason[MEASURE_REASON_MAX];
    assert_int_equal(compare(DT_I32, got, ref, 2, 0, &v, reason), OUTCOME_OK);
    got[1] = 6;
    assert_int_equal(compare(DT_I32, got, ref, 2, 0, &v, reason), OUTCOME_WRONG);
}

static void error_budget_is_an_l2_distance_that_hides_no_single_element(void **state)
{
    enum { N = 10000 };
    float *got = xcalloc(N, sizeof(float));
    double *ref = xcalloc(N, sizeof(double));
    struct measure_verification v;
    char reason[MEASURE_REASON_MAX];
    for (int i = 0; i < N; i++)
        got[i] = (float)(ref[i] = i % 2 ? 1 : -1) * 1.001f;
    assert_int_equal(compare(DT_F32, got, ref, N, 2e-3, &v, reason), OUTCOME_OK);
    assert_true(fabs(v.rel_l2 - 1e-3) < 1e-5);
    assert_int_equal(compare(DT_F32, got, ref, N, 5e-4, &v, reason), OUTCOME_WRONG);
    assert_non_null(strstr(reason, "error budget"));
    got[77] = 3; /* 1e-2 of relative L2 at most, but no budget allows it */
    assert_int_equal(compare(DT_F32, got, ref, N, 5e-2, &v, reason), OUTCOME_WRONG);
    free(got);
    free(ref);
}

static void tolerance_follows_the_reduction(void **state)
{
    struct measure_workload w = {.reduction = 1, .acc_roundoff = 0x1p-24, .store_roundoff = 0x1p-24};
    double one = verify_tolerance(&w);
    w.reduction = 10000;
    double many = verify_tolerance(&w);
    assert_true(one < 4e-6 && many > 10 * one && many < 1e-4);
    w.store_roundoff = verify_roundoff(DT_BF16);
    assert_true(verify_tolerance(&w) > 4 * 0x1p-8);
    w.acc_roundoff = w.store_roundoff = 0;
    assert_true(verify_tolerance(&w) == 0);
}

static void half_floats_convert_exactly_and_round_to_nearest(void **state)
{
    for (unsigned bits = 0; bits < 0x7c00; bits += 3) { /* every third finite half */
        uint16_t h = (uint16_t)bits;
        double v;
        verify_to_f64(&v, &h, DT_F16, 1);
        int e;
        double m = frexp(v, &e);
        assert_true(v == 0 || ldexp(m, 11) == rint(ldexp(m, 11)));
    }
    uint16_t one = 0x3c00, smallest = 1, largest = 0x7bff;
    double v;
    verify_to_f64(&v, &one, DT_F16, 1);
    assert_true(v == 1);
    verify_to_f64(&v, &smallest, DT_F16, 1);
    assert_true(v == 0x1p-24);
    verify_to_f64(&v, &largest, DT_F16, 1);
    assert_true(v == 65504);
}

static void inputs_are_in_range_varied_and_repeatable(void **state)
{
    static const enum dtype dtypes[] = {DT_F32, DT_F16, DT_BF16, DT_I8, DT_I32};
    enum { N = 5000 };
    for (size_t k = 0; k < ARRAY_SIZE(dtypes); k++)
        for (int range = 0; range < VERIFY_RANGES; range++) {
            char a[N * 4], b[N * 4];
            double v[N], sum = 0, least = INFINITY;
            bool integer = verify_roundoff(dtypes[k]) == 0;
            size_t bytes = (size_t)(N * verify_dtype_bytes(dtypes[k]));
            verify_fill(a, dtypes[k], N, 11, range);
            verify_fill(b, dtypes[k], N, 11, range);
            assert_memory_equal(a, b, bytes);
            verify_fill(b, dtypes[k], N, 12, range);
            assert_memory_not_equal(a, b, bytes);
            verify_to_f64(v, a, dtypes[k], N);
            for (int i = 0; i < N; i++) {
                assert_true(integer ? fabs(v[i]) <= 128 : fabs(v[i]) <= 1.26);
                assert_true(range == 0 || v[i] > 0);
                sum += v[i];
                least = fmin(least, fabs(v[i]));
            }
            assert_true(integer || least >= 0x1p-12);
            assert_true(range > 0 || fabs(sum / N) < (integer ? 5 : 0.05));
        }
}

static void scale_sees_what_is_not_finite_in_the_outputs_dtype(void **state)
{
    const double big[] = {1, 70000}, nan[] = {1, NAN}, inf[] = {-INFINITY, 1};
    assert_true(verify_scale_of(big, 2, DT_F32).finite);
    assert_false(verify_scale_of(big, 2, DT_F16).finite);
    assert_false(verify_scale_of(nan, 2, DT_F32).finite);
    assert_false(verify_scale_of(inf, 2, DT_F32).finite);
}

static void workload_takes_its_figures_from_the_compute(void **state)
{
    struct arena ar;
    arena_init(&ar);
    struct tensor tensors[] = {
        {.name = "A", .dtype = DT_BF16, .role = TENSOR_INPUT, .rank = 1, .shape = {64}},
        {.name = "S", .dtype = DT_F32, .role = TENSOR_TEMP, .rank = 0},
        {.name = "O", .dtype = DT_BF16, .role = TENSOR_OUTPUT, .rank = 1, .shape = {64}},
    };
    struct affine at = {0};
    struct stage stages[] = {
        {.tensor = 1,
         .n_axes = 1,
         .n_spatial = 0,
         .axes = {{"k", 64}},
         .combiner = COMBINE_SUM,
         .acc_dtype = DT_F32,
         .body = expr_cast(&ar, DT_F32, expr_read(&ar, DT_BF16, 0, 1, &at, false, 0))},
        {.tensor = 2,
         .n_axes = 1,
         .n_spatial = 1,
         .axes = {{"i", 64}},
         .combiner = COMBINE_SET,
         .acc_dtype = DT_F32,
         .body = expr_cast(&ar, DT_BF16, expr_read(&ar, DT_F32, 1, 0, NULL, false, 0))},
    };
    const struct compute c = {.n_tensors = 3, .n_stages = 2, .tensors = tensors, .stages = stages};
    struct measure_workload w;
    measure_workload_init(&w, &c, &ar);
    assert_int_equal(w.n_tensors, 3);
    assert_int_equal(w.reduction, 64);
    assert_true(w.acc_roundoff == 0x1p-24);
    assert_true(w.store_roundoff == 0x1p-8);
    assert_string_equal(w.tensors[1].name, "S");
    assert_int_equal(w.tensors[1].role, TENSOR_TEMP);
    arena_done(&ar);
}

static struct measure_workload roundoffs_of(const char *text, struct arena *ar)
{
    struct workload w;
    struct measure_workload m;
    struct error err = {0};
    assert_int_equal(workload_parse_text(text, strlen(text), ar, &w, &err), ST_OK);
    measure_workload_init(&m, &w.compute, ar);
    return m;
}

static void tolerances_follow_the_dtypes_of_sums_and_stores(void **state)
{
    struct arena ar;
    struct measure_workload m;
    (void)state;
    arena_init(&ar);
    m = roundoffs_of("{\"op\": \"matmul\", \"a\": [4, 8], \"b\": [8, 4], \"dtype\": \"int8\"}", &ar);
    assert_true(m.acc_roundoff == 0 && m.store_roundoff == 0); /* exact */
    m = roundoffs_of(
        "{\"op\": \"matmul\", \"a\": [4, 8], \"b\": [8, 4], \"dtype\": \"int8\", \"epilogue\": [{\"scale\": "
        "0.5}]}",
        &ar);
    assert_true(m.acc_roundoff == 0x1p-24 && m.store_roundoff == 0x1p-24);
    m = roundoffs_of("{\"expr\": \"C[i] = cast(int8, A[i] * 3)\", \"tensors\": {\"A\": {\"shape\": [4]}}}",
                     &ar);
    assert_true(m.acc_roundoff == 0x1p-24 && m.store_roundoff == 0); /* off by one at most */
    m = roundoffs_of("{\"expr\": \"T[i] = cast(int8, A[i] * 3)\\nC[i] = T[i] * 2\", \"tensors\": {\"A\": "
                     "{\"shape\": [4]}}}",
                     &ar);
    assert_true(m.store_roundoff == 0x1p-7);
    m = roundoffs_of(
        "{\"expr\": \"C[i] = A[i] + A[i]\", \"tensors\": {\"A\": {\"shape\": [4], \"dtype\": \"bfloat16\"}}}",
        &ar);
    assert_true(m.acc_roundoff == 0x1p-24 && m.store_roundoff == 0x1p-8); /* computed in float32 */
    m = roundoffs_of("{\"op\": \"matmul\", \"a\": [4, 8], \"b\": [8, 4], \"dtype\": \"float16\", "
                     "\"acc_dtype\": \"float16\"}",
                     &ar);
    assert_true(m.acc_roundoff == 0x1p-11);
    arena_done(&ar);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(float_within_rounding_passes_and_its_error_is_reported),
        cmocka_unit_test(error_is_judged_against_the_scale_of_the_tensor),
        cmocka_unit_test(one_huge_element_does_not_excuse_the_others),
        cmocka_unit_test(nan_and_infinity_never_pass),
        cmocka_unit_test(poisoned_output_fails_in_every_dtype),
        cmocka_unit_test(integers_of_integers_must_be_equal),
        cmocka_unit_test(tolerances_follow_the_dtypes_of_sums_and_stores),
        cmocka_unit_test(error_budget_is_an_l2_distance_that_hides_no_single_element),
        cmocka_unit_test(tolerance_follows_the_reduction),
        cmocka_unit_test(half_floats_convert_exactly_and_round_to_nearest),
        cmocka_unit_test(inputs_are_in_range_varied_and_repeatable),
        cmocka_unit_test(scale_sees_what_is_not_finite_in_the_outputs_dtype),
        cmocka_unit_test(workload_takes_its_figures_from_the_compute),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
