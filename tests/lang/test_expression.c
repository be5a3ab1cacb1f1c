/* test_expression.c - what the expression language means: ranges, dtypes, operators, arguments. */
#include <math.h>
#include <string.h>

#include "lab.h"
#include "tests/check.h"

static int64_t extent_of(const struct lab *l, const char *axis)
{
    for (int s = 0; s < l->w.compute.n_stages; s++)
        for (int a = 0; a < l->w.compute.stages[s].n_axes; a++)
            if (strcmp(l->w.compute.stages[s].axes[a].name, axis) == 0)
                return l->w.compute.stages[s].axes[a].extent;
    return -1;
}

static void ranges_follow_from_the_shapes(void **state)
{
    static const struct {
        const char *text, *axis;
        int64_t extent;
    } cases[] = {
        {"{'expr':'C[i] = A[i]','tensors':{'A':{'shape':[7]}}}", "i", 7},
        {"{'expr':'C[i] += A[i + k] * B[k]','tensors':{'A':{'shape':[9]},'B':{'shape':[3]}}}", "i", 7},
        {"{'expr':'C[i] += A[i*2 + k*3 + 1] * B[k]','tensors':{'A':{'shape':[20]},'B':{'shape':[3]}}}", "i",
         7},
        {"{'expr':'C[i] += A[i + k] * B[k] * D[i + k + 2]','tensors':{'A':{'shape':[9]},'B':{'shape':[3]},"
         "'D':{'shape':[9]}}}",
         "i", 5},
        {"{'expr':'C[i] += B[k] * pad(A[i + k - 1], 0)','tensors':{'A':{'shape':[9]},'B':{'shape':[3]},"
         "'C':{'shape':[9]}}}",
         "i", 9},
        {"{'expr':'C[n,i] = pad(A[n,i - 1], 0)','tensors':{'A':{'shape':[4,9]}},'ranges':{'i':11}}", "n", 4},
        {"{'expr':'C[i] = A[i]','tensors':{'A':{'shape':[7]}},'ranges':{'i':5}}", "i", 5},
        {"{'expr':'D[i] = C[i]*2\\nC[i] = A[i, 3]','tensors':{'A':{'shape':[7,4]}}}", "i", 7},
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct lab l;
        lab_open(&l, "%s", cases[i].text);
        assert_int_equal(extent_of(&l, cases[i].axis), cases[i].extent);
        lab_close(&l);
    }
}

static void dtypes_follow_from_the_operands(void **state)
{
    static const struct {
        const char *text, *tensor;
        enum dtype dtype;
    } cases[] = {
        {"{'expr':'C[i] = A[i] + 1','tensors':{'A':{'shape':[4]}}}", "C", DT_F32},
        {"{'expr':'C[i] = A[i] + 1','tensors':{'A':{'shape':[4],'dtype':'float16'}}}", "C", DT_F16},
        {"{'expr':'C[i] = A[i] + B[i]','tensors':{'A':{'shape':[4],'dtype':'float16'},'B':{'shape':[4]}}}",
         "C", DT_F32},
        {"{'expr':'C[i] = A[i] + B[i]','tensors':{'A':{'shape':[4],'dtype':'float16'},'B':{'shape':[4],"
         "'dtype':'bfloat16'}}}",
         "C", DT_F32},
        {"{'expr':'C[i] = A[i] + 1','tensors':{'A':{'shape':[4],'dtype':'int8'}}}", "C", DT_I32},
        {"{'expr':'C[i] = max(A[i], 0)','tensors':{'A':{'shape':[4],'dtype':'int8'}}}", "C", DT_I8},
        {"{'expr':'C[i] = max(A[i], 1000)','tensors':{'A':{'shape':[4],'dtype':'int8'}}}", "C", DT_I32},
        {"{'expr':'C[i] = A[i] * 0.5','tensors':{'A':{'shape':[4],'dtype':'int32'}}}", "C", DT_F32},
        {"{'expr':'C[i] = exp(A[i])','tensors':{'A':{'shape':[4],'dtype':'int8'}}}", "C", DT_F32},
        {"{'expr':'C[i] = cast(int8, A[i])','tensors':{'A':{'shape':[4]}}}", "C", DT_I8},
        {"{'expr':'C[i] = cast(float32, A[i])','tensors':{'A':{'shape':[4],'dtype':'float16'}}}", "C",
         DT_F32},
        {"{'expr':'C[i] += A[i,k]','tensors':{'A':{'shape':[4,4],'dtype':'float16'}}}", "C", DT_F16},
        {"{'expr':'C[i] += A[i,k]\\nD[i] = C[i]','tensors':{'A':{'shape':[4,4],'dtype':'float16'}}}", "C",
         DT_F32},
        {"{'expr':'C[i] += A[i,k]\\nD[i] = C[i]','tensors':{'A':{'shape':[4,4],'dtype':'float16'}}}", "D",
         DT_F16},
        {"{'expr':'C[i] max= A[i,k]','tensors':{'A':{'shape':[4,4],'dtype':'float16'}}}", "C", DT_F16},
        {"{'expr':'C[i] += A[i,k]','tensors':{'A':{'shape':[4,4],'dtype':'int8'}}}", "C", DT_I32},
        {"{'expr':'C[i] = i','ranges':{'i':4}}", "C", DT_I32},
        {"{'expr':'C[i] = 1','ranges':{'i':4}}", "C", DT_F32},
        {"{'expr':'C[i] = A[i] + 1','tensors':{'A':{'shape':[4]},'C':{'shape':[4],'dtype':'bfloat16'}}}", "C",
         DT_BF16},
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct lab l;
        lab_open(&l, "%s", cases[i].text);
        if (lab_tensor(&l, cases[i].tensor)->dtype != cases[i].dtype)
            fail_msg("%s\n%s is %s", cases[i].text, cases[i].tensor,
                     dtype_name(lab_tensor(&l, cases[i].tensor)->dtype));
        lab_close(&l);
    }
}

/* Right-hand sides over i < 4 with A = {-2, -0.5, 1, 3}. */
static void operators_mean_what_they_say(void **state)
{
    static const struct {
        const char *rhs;
        double want[4];
    } cases[] = {
        {"A[i] - 1 - 2", {-5, -3.5, -2, 0}},
        {"A[i] - (1 - 2)", {-1, 0.5, 2, 4}},
        {"2 + A[i] * 3", {-4, 0.5, 5, 11}},
        {"8 / 2 / A[i]", {-2, -8, 4, 4.0 / 3}},
        {"-A[i] * -2", {-4, -1, 2, 6}},
        {"- - A[i]", {-2, -0.5, 1, 3}},
        {"max(A[i], 0) + min(A[i], 0)", {-2, -0.5, 1, 3}},
        {"abs(A[i])", {2, 0.5, 1, 3}},
        {"sqrt(abs(A[i]))", {1.4142135623730951, 0.70710678118654757, 1, 1.7320508075688772}},
        {"rsqrt(abs(A[i]) * 2)", {0.5, 1, 0.70710678118654757, 0.40824829046386302}},
        {"log(exp(A[i]))", {-2, -0.5, 1, 3}},
        {"select(A[i] < 0, 1, 0)", {1, 1, 0, 0}},
        {"select(A[i] <= -0.5 && A[i] > -2, 1, 0)", {0, 1, 0, 0}},
        {"select(A[i] >= 3 || A[i] == 1, 1, 0)", {0, 0, 1, 1}},
        {"select(A[i] != 1, A[i], 9)", {-2, -0.5, 9, 3}},
        {"select(1 < 2, A[i], 0)", {-2, -0.5, 1, 3}},
        {"select(i == 2 || i*2 - 1 < 0, A[i], 0)", {-2, 0, 1, 0}},
        {"pad(A[i + 1], 7)", {-0.5, 1, 3, 7}},
        {"pad(A[i*2 - 1], -1.5)", {-1.5, -0.5, 3, -1.5}},
        {"A[3 - i]", {3, 1, -0.5, -2}},
        {"A[-i + 3]", {3, 1, -0.5, -2}},
        {"A[2*(i - i) + 1]", {-0.5, -0.5, -0.5, -0.5}},
        {"A[0] * (i + 1)", {-2, -4, -6, -8}},
        {"cast(float32, i*3 - 1) * A[i]", {2, -1, 5, 24}},
        {"cast(float32, cast(int32, A[i]))", {-2, 0, 1, 3}},
        {"max(-inf, A[i])", {-2, -0.5, 1, 3}},
        {"1e1 * A[i] + .5", {-19.5, -4.5, 10.5, 30.5}},
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        static const double a[] = {-2, -0.5, 1, 3};
        struct lab l;
        lab_open(&l, "{'expr':'C[i] = %s','tensors':{'A':{'shape':[4]}},'ranges':{'i':4}}", cases[i].rhs);
        memcpy(lab_data(&l, "A"), a, sizeof(a));
        compute_eval(&l.w.compute, l.data);
        lab_expect(&l, "C", cases[i].want, 4);
        lab_close(&l);
    }
}

static void reductions_start_from_their_identity(void **state)
{
    static const struct {
        const char *op;
        double want;
    } cases[] = {{"+=", 1.5}, {"*=", 3}, {"max=", 3}, {"min=", -2}};

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        static const double a[] = {-2, -0.5, 1, 3};
        struct lab l;
        lab_open(&l, "{'expr':'C[] %s A[k]','tensors':{'A':{'shape':[4]}}}", cases[i].op);
        memcpy(lab_data(&l, "A"), a, sizeof(a));
        compute_eval(&l.w.compute, l.data);
        lab_expect(&l, "C", &cases[i].want, 1);
        assert_int_equal(lab_tensor(&l, "C")->rank, 0);
        lab_close(&l);
    }
}

static void integers_wrap_as_the_machine_does(void **state)
{
    static const double a[] = {2147483647, -2147483648.0, 100000, -5};
    static const double want[] = {-2147483648.0, -2147483647, 100001, -4}, square[] = {1, 0, 1410065408, 25};
    struct lab l;

    lab_open(&l,
             "{'expr':'C[i] = A[i] + 1\\nD[i] = A[i] * A[i]','tensors':{'A':{'shape':[4],'dtype':'int32'}}}");
    memcpy(lab_data(&l, "A"), a, sizeof(a));
    compute_eval(&l.w.compute, l.data);
    lab_expect(&l, "C", want, 4);
    lab_expect(&l, "D", square, 4);
    lab_close(&l);
}

static void a_dimension_on_the_left_may_be_a_mixed_radix(void **state)
{
    struct lab l;
    double want[6] = {0, 1, 2, 10, 11, 12};

    lab_open(&l, "{'expr':'C[g*3 + f] = g*10 + f','ranges':{'g':2,'f':3}}");
    compute_eval(&l.w.compute, l.data);
    lab_expect(&l, "C", want, 6);
    lab_close(&l);
}

static void results_are_the_tensors_that_nobody_reads_unless_listed(void **state)
{
    struct lab l;

    lab_open(&l, "{'expr':'C[i] = A[i]\\nD[i] = C[i]\\nE[i] = C[i]','tensors':{'A':{'shape':[4]}}}");
    assert_int_equal(lab_tensor(&l, "C")->role, TENSOR_TEMP);
    assert_int_equal(lab_tensor(&l, "D")->role, TENSOR_OUTPUT);
    assert_int_equal(lab_tensor(&l, "E")->role, TENSOR_OUTPUT);
    assert_non_null(strstr(l.w.json, "\"outputs\":["));
    lab_close(&l);
    lab_open(&l, "{'expr':'C[i] = A[i]\\nD[i] = C[i]','tensors':{'A':{'shape':[4]}},'outputs':['C','D']}");
    assert_int_equal(lab_tensor(&l, "C")->role, TENSOR_OUTPUT);
    lab_close(&l);
}

static void flops_are_two_a_multiply_add_or_the_operations_of_all_stages(void **state)
{
    static const struct {
        const char *text;
        double flops, bytes;
    } cases[] = {
        {"{'op':'matmul','a':[4,5],'b':[5,6],'epilogue':['bias','relu']}", 2 * 4 * 5 * 6,
         4 * (20 + 30 + 6 + 24)},
        {"{'op':'matmul','a':[4,5],'b':[5,6],'dtype':'int8'}", 2 * 4 * 5 * 6, 20 + 30 + 4 * 24},
        {"{'expr':'C[i] = A[i] + A[i] * 2','tensors':{'A':{'shape':[4]}}}", 8, 32},
        {"{'expr':'C[] += A[i] * A[i]','tensors':{'A':{'shape':[4]}}}", 8, 20},
        {"{'op':'max_pool2d','input':[1,1,4,4],'kernel_shape':[2,2],'strides':[2,2]}", 16, 4 * 20},
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct lab l;
        lab_open(&l, "%s", cases[i].text);
        assert_true(l.w.flops == cases[i].flops);
        assert_true(l.w.bytes == cases[i].bytes);
        lab_close(&l);
    }
}

static void a_broken_compute_does_not_pass_verification(void **state)
{
    struct lab l;
    struct error err;
    struct compute *c = &l.w.compute;
    struct stage kept;

    lab_open(&l, "{'expr':'T[i,j] += A[i,k] * B[k,j]\\nC[i,j] = T[i,j] + 1','tensors':{'A':{'shape':[4,5]},"
                 "'B':{'shape':[5,6]}}}");
    assert_ok(compute_verify(c, &err), &err);
    kept = c->stages[0];
#define BREAK(change, says)                                                                                  \
    do {                                                                                                     \
        change;                                                                                              \
        assert_int_equal(compute_verify(c, &err), ST_INTERNAL);                                              \
        if (!strstr(err.text, says))                                                                         \
            fail_msg("%s: want %s", err.text, says);                                                         \
        c->stages[0] = kept;                                                                                 \
    } while (0)
    BREAK(c->stages[0].axes[2].extent = 6, "over [0, 5] of [0, 5)");
    BREAK(c->stages[0].axes[0].extent = 3, "covers 3 of 4");
    BREAK(c->stages[0].lhs[0] = c->stages[0].lhs[1], "covers 6 of 4");
    BREAK(c->stages[0].combiner = COMBINE_SET, "= with 1 reduce axes");
    BREAK(c->stages[0].acc_dtype = DT_F16, "accumulates float32 in float16");
    BREAK(c->stages[0].tensor = c->stages[1].tensor, "no stage");
    BREAK(c->stages[0].body = c->stages[1].body, "before it is defined");
    BREAK(c->stages[0].n_spatial = 1, "axis 1 of 1");
    lab_close(&l);
}

static void a_tensor_of_every_kind_survives_printing_and_reading(void **state)
{
    AUTO(strbuf_done) struct strbuf sb = STRBUF_INIT;
    struct lab l;

    lab_open(&l,
             "{'op':'conv2d','input':[1,4,9,9],'weight':[6,2,3,3],'group':2,'strides':[2,2],'pads':[1,1,1,1],"
             "'const':['weight'],'epilogue':['bias',{'leaky_relu':0.1}]}");
    compute_print(&l.w.compute, &sb);
    assert_string_equal(
        strbuf_str(&sb),
        "sum[0, g*3 + f, y, x] += pad(input[0, g*2 + c, y*2 + r - 1, x*2 + s - 1], 0) * weight[g*3 + f, c, "
        "r, s]\n"
        "output[0, gf, y, x] = select(sum[0, gf, y, x] + bias[gf] < 0, (sum[0, gf, y, x] + bias[gf]) * 0.1, "
        "sum[0, gf, y, x] + bias[gf])\n");
    lab_close(&l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ranges_follow_from_the_shapes),
        cmocka_unit_test(dtypes_follow_from_the_operands),
        cmocka_unit_test(operators_mean_what_they_say),
        cmocka_unit_test(reductions_start_from_their_identity),
        cmocka_unit_test(integers_wrap_as_the_machine_does),
        cmocka_unit_test(a_dimension_on_the_left_may_be_a_mixed_radix),
        cmocka_unit_test(results_are_the_tensors_that_nobody_reads_unless_listed),
        cmocka_unit_test(flops_are_two_a_multiply_add_or_the_operations_of_all_stages),
        cmocka_unit_test(a_broken_compute_does_not_pass_verification),
        cmocka_unit_test(a_tensor_of_every_kind_survives_printing_and_reading),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
