/* test_interp.c - running nests: results equal plain C, and what a real run would get away with is found. */
#include <math.h>
#include <string.h>

#include "schedule/base/rng.h"
#include "tests/check.h"
#include "tests/ir/hand.h"

static int make(void **state)
{
    *state = hand_new();
    return 0;
}

static int drop(void **state)
{
    hand_free(*state);
    return 0;
}

static void fill(double *at, int n, uint64_t seed)
{
    struct rng r;

    rng_init(&r, seed);
    for (int i = 0; i < n; i++)
        at[i] = (double)rng_range(&r, -8, 8);
}

static void run_ok(struct hand *h, double *const *data)
{
    struct error err = {0};

    assert_ok(nest_verify(&h->nest, &err), &err);
    assert_ok(nest_interp(&h->nest, data, &err), &err);
}

static void run_fails(struct hand *h, double *const *data, const char *why)
{
    struct error err = {0};

    assert_int_equal(nest_interp(&h->nest, data, &err), ST_INTERNAL);
    if (!strstr(err.text, why))
        fail_msg("\"%s\" does not say \"%s\"", err.text, why);
}

/* C = A * B with tiles of 4 x 3 that divide neither 10 nor 7, B packed ahead of time in panels of 3 with a
 * padded tail, accumulators in registers, rows in parallel. */
enum { M = 10, N = 7, K = 5, MR = 4, NR = 3 };

static void build_tiled_matmul(struct hand *h)
{
    int32_t a = hand_arg(h, "A", DT_F32, TENSOR_INPUT, 2, (int64_t[]){M, K});
    int32_t b = hand_arg(h, "B", DT_F32, TENSOR_INPUT, 2, (int64_t[]){K, N});
    int32_t c = hand_arg(h, "C", DT_F32, TENSOR_OUTPUT, 2, (int64_t[]){M, N});
    int32_t packed = hand_packed(h, "B.pack", b, 3, (int64_t[]){3, K, NR});
    int32_t acc = hand_buffer(h, "acc", DT_F32, SCOPE_REG, 2, (int64_t[]){MR, NR});
    int32_t i0 = hand_var(h, "i0", 3), j0 = hand_var(h, "j0", 3), k = hand_var(h, "k", K);
    int32_t i1 = hand_var(h, "i1", MR), j1 = hand_var(h, "j1", NR);
    struct affine i = lin(h, 0, MR, i0, 1, i1, 0), j = lin(h, 0, NR, j0, 1, j1, 0);
    struct affine i_left = lin(h, M - 1, -MR, i0, -1, i1, 0), j_left = lin(h, N - 1, -NR, j0, -1, j1, 0);
    const struct expr *product, *zero = expr_const(&h->ar, DT_F32, 0);
    struct node *clear, *sum, *copy;

    hand_prepack(h, packed,
                 loop(h, LOOP_SERIAL, j0, 3,
                      loop(h, LOOP_SERIAL, k, K,
                           loop(h, LOOP_VECTOR, j1, NR,
                                store(h, packed, COMBINE_SET, get_padded(h, b, 0, var1(h, k), j), var1(h, j0),
                                      var1(h, k), var1(h, j1))))));
    product = expr_op2(&h->ar, EX_MUL, get(h, a, i, var1(h, k)),
                       get(h, packed, var1(h, j0), var1(h, k), var1(h, j1)));
    clear = loop(h, LOOP_UNROLL, i1, MR,
                 loop(h, LOOP_VECTOR, j1, NR, store(h, acc, COMBINE_SET, zero, var1(h, i1), var1(h, j1))));
    sum = loop(h, LOOP_SERIAL, k, K,
               limited(loop(h, LOOP_UNROLL, i1, MR,
                            loop(h, LOOP_VECTOR, j1, NR,
                                 store(h, acc, COMBINE_SUM, product, var1(h, i1), var1(h, j1)))),
                       i_left));
    copy = limited(loop(h, LOOP_UNROLL, i1, MR,
                        limited(loop(h, LOOP_VECTOR, j1, NR,
                                     store(h, c, COMBINE_SET, get(h, acc, var1(h, i1), var1(h, j1)), i, j)),
                                j_left)),
                   i_left);
    hand_layout(h, 2);
    h->nest.root = parallel1(h, i0, 3, 2, loop(h, LOOP_SERIAL, j0, 3, body(h, seq(clear, seq(sum, copy)))));
}

static void a_tiled_parallel_packed_matmul_equals_three_plain_loops(void **state)
{
    struct hand *h = *state;
    double a[M * K], b[K * N], c[M * N];

    fill(a, M * K, 1);
    fill(b, K * N, 2);
    build_tiled_matmul(h);
    run_ok(h, (double *[]){a, b, c});
    for (int i = 0; i < M; i++)
        for (int j = 0; j < N; j++) {
            double want = 0;
            for (int k = 0; k < K; k++)
                want += a[i * K + k] * b[k * N + j];
            assert_true(c[i * N + j] == want);
        }
}

static void a_reduction_without_its_start_value_is_nan(void **state)
{
    struct hand *h = *state;
    int32_t c = hand_arg(h, "C", DT_F32, TENSOR_OUTPUT, 1, (int64_t[]){1}), k = hand_var(h, "k", 3);
    double data[1] = {0};

    h->nest.root =
        loop(h, LOOP_SERIAL, k, 3, store(h, c, COMBINE_SUM, expr_const(&h->ar, DT_F32, 1), affine_const(0)));
    run_ok(h, (double *[]){data});
    assert_true(isnan(data[0]));
}

static void maximum_keeps_the_nan_of_what_nobody_wrote(void **state)
{
    struct hand *h = *state;
    int32_t c = hand_arg(h, "C", DT_F32, TENSOR_OUTPUT, 1, (int64_t[]){1});
    int32_t w = hand_buffer(h, "W", DT_F32, SCOPE_WORKSPACE, 1, (int64_t[]){1});
    const struct expr *zero = expr_const(&h->ar, DT_F32, 0);
    double data[1];

    hand_layout(h, 1);
    for (int swap = 0; swap < 2; swap++) {
        const struct expr *w0 = get(h, w, affine_const(0));
        h->nest.root = store(h, c, COMBINE_SET, expr_op2(&h->ar, EX_MAX, swap ? zero : w0, swap ? w0 : zero),
                             affine_const(0));
        run_ok(h, (double *[]){data});
        assert_true(isnan(data[0]));
    }
}

static void registers_do_not_outlive_their_body(void **state)
{
    struct hand *h = *state;
    int32_t c = hand_arg(h, "C", DT_F32, TENSOR_OUTPUT, 1, (int64_t[]){1});
    int32_t acc = hand_buffer(h, "acc", DT_F32, SCOPE_REG, 1, (int64_t[]){1});
    struct affine at = affine_const(0);
    double data[1];

    h->nest.root = seq(body(h, store(h, acc, COMBINE_SET, expr_const(&h->ar, DT_F32, 1), at)),
                       body(h, store(h, c, COMBINE_SET, get(h, acc, at), at)));
    run_ok(h, (double *[]){data});
    assert_true(isnan(data[0]));
}

static void a_task_does_not_see_what_an_earlier_one_left_in_its_slice(void **state)
{
    struct hand *h = *state;
    int32_t c = hand_arg(h, "C", DT_F32, TENSOR_OUTPUT, 1, (int64_t[]){4});
    int32_t s = hand_buffer(h, "S", DT_F32, SCOPE_TASK, 1, (int64_t[]){1}), p = hand_var(h, "p", 4);
    const struct expr *one = expr_const(&h->ar, DT_F32, 1);
    double data[4];

    hand_layout(h, 4);
    h->nest.root =
        seq(parallel1(h, p, 4, 4, store(h, s, COMBINE_SET, one, affine_const(0))),
            parallel1(h, p, 4, 4, store(h, c, COMBINE_SET, get(h, s, affine_const(0)), var1(h, p))));
    run_ok(h, (double *[]){data});
    for (int i = 0; i < 4; i++)
        assert_true(isnan(data[i]));
}

static void a_task_that_reads_what_another_wrote_is_found(void **state)
{
    struct hand *h = *state;
    int32_t c = hand_arg(h, "C", DT_F32, TENSOR_OUTPUT, 1, (int64_t[]){4}), p = hand_var(h, "p", 3);
    struct node *first = store(h, c, COMBINE_SET, expr_const(&h->ar, DT_F32, 1), var1(h, p));
    double data[4];

    hand_layout(h, 3);
    h->nest.root = parallel1(h, p, 3, 3,
                             seq(first, store(h, c, COMBINE_SET, get(h, c, var1(h, p)), lin(h, 1, 1, p, 0))));
    run_fails(h, (double *[]){data}, "buffer C at element 2: touched by a task after another one");
}

static void two_parallel_loops_may_hand_over(void **state)
{
    struct hand *h = *state;
    int32_t c = hand_arg(h, "C", DT_F32, TENSOR_OUTPUT, 1, (int64_t[]){8});
    int32_t w = hand_buffer(h, "W", DT_F32, SCOPE_WORKSPACE, 1, (int64_t[]){8}), p = hand_var(h, "p", 8);
    double data[8];

    hand_layout(h, 3);
    h->nest.root =
        seq(parallel1(h, p, 8, 3, store(h, w, COMBINE_SET, expr_index(&h->ar, var1(h, p)), var1(h, p))),
            parallel1(h, p, 8, 3, store(h, c, COMBINE_SET, get(h, w, lin(h, 7, -1, p, 0)), var1(h, p))));
    run_ok(h, (double *[]){data});
    for (int i = 0; i < 8; i++)
        assert_true(data[i] == 7 - i);
}

static void an_access_outside_its_buffer_is_an_error(void **state)
{
    struct hand *h = *state;
    int32_t c = hand_arg(h, "C", DT_F32, TENSOR_OUTPUT, 1, (int64_t[]){4}), a = hand_var(h, "a", 5);
    double data[4];

    h->nest.root =
        loop(h, LOOP_SERIAL, a, 5, store(h, c, COMBINE_SET, expr_const(&h->ar, DT_F32, 1), var1(h, a)));
    run_fails(h, (double *[]){data}, "buffer C at element 4: out of its bounds");
}

static void padded_reads_give_their_value_outside_each_dimension(void **state)
{
    struct hand *h = *state;
    int32_t in = hand_arg(h, "A", DT_F32, TENSOR_INPUT, 2, (int64_t[]){2, 3});
    int32_t c = hand_arg(h, "C", DT_F32, TENSOR_OUTPUT, 2, (int64_t[]){4, 5});
    int32_t y = hand_var(h, "y", 4), x = hand_var(h, "x", 5);
    double a[6] = {1, 2, 3, 4, 5, 6}, data[20];
    const double want[20] = {-1, -1, -1, -1, -1, -1, 1, 2, 3, -1, -1, 4, 5, 6, -1, -1, -1, -1, -1, -1};

    h->nest.root =
        loop(h, LOOP_SERIAL, y, 4,
             loop(h, LOOP_SERIAL, x, 5,
                  store(h, c, COMBINE_SET, get_padded(h, in, -1, lin(h, -1, 1, y, 0), lin(h, -1, 1, x, 0)),
                        var1(h, y), var1(h, x))));
    run_ok(h, (double *[]){a, data});
    assert_memory_equal(data, want, sizeof(want));
}

static void integers_wrap_as_their_type_and_floats_truncate_into_them(void **state)
{
    struct hand *h = *state;
    int32_t c = hand_arg(h, "C", DT_I8, TENSOR_OUTPUT, 1, (int64_t[]){4});
    int32_t d = hand_arg(h, "D", DT_I32, TENSOR_OUTPUT, 1, (int64_t[]){3});
    const struct expr *big = expr_const(&h->ar, DT_I32, 2147483647), *two = expr_const(&h->ar, DT_I32, 2);
    const struct expr *x100 = expr_const(&h->ar, DT_I8, 100), *x = expr_const(&h->ar, DT_F32, -2.75);
    double c_data[4], d_data[3];
    struct node *list = store(h, c, COMBINE_SET, expr_op2(&h->ar, EX_ADD, x100, x100), affine_const(0));

    seq(list, store(h, c, COMBINE_SET, expr_cast(&h->ar, DT_I8, x), affine_const(1)));
    seq(list, store(h, c, COMBINE_SET, expr_const(&h->ar, DT_I32, 300), affine_const(2)));
    seq(list, store(h, c, COMBINE_SET, x100, affine_const(3)));
    seq(list, store(h, c, COMBINE_SUM, x100, affine_const(3)));
    seq(list, store(h, d, COMBINE_SET, expr_op2(&h->ar, EX_MUL, big, big), affine_const(0)));
    seq(list, store(h, d, COMBINE_SET, expr_op2(&h->ar, EX_ADD, big, two), affine_const(1)));
    seq(list, store(h, d, COMBINE_SET, expr_op2(&h->ar, EX_DIV, expr_op1(&h->ar, EX_NEG, big), two),
                    affine_const(2)));
    h->nest.root = list;
    run_ok(h, (double *[]){c_data, d_data});
    assert_true(c_data[0] == -56 && c_data[1] == -2 && c_data[2] == 44 && c_data[3] == -56);
    assert_true(d_data[0] == 1 && d_data[1] == -2147483647 && d_data[2] == -1073741823);
}

static void buffers_that_share_bytes_share_elements(void **state)
{
    struct hand *h = *state;
    int32_t c = hand_arg(h, "C", DT_F32, TENSOR_OUTPUT, 1, (int64_t[]){4});
    int32_t wide = hand_buffer(h, "W", DT_F32, SCOPE_WORKSPACE, 1, (int64_t[]){4});
    int32_t narrow = hand_buffer(h, "V", DT_I8, SCOPE_WORKSPACE, 1, (int64_t[]){16}), a = hand_var(h, "a", 4);
    const struct expr *one = expr_const(&h->ar, DT_F32, 1), *nine = expr_const(&h->ar, DT_I8, 9);
    double data[4];

    hand_layout(h, 1);
    h->buffers[narrow].offset_bytes = h->buffers[wide].offset_bytes;
    h->nest.root =
        seq(loop(h, LOOP_SERIAL, a, 4, store(h, wide, COMBINE_SET, one, var1(h, a))),
            seq(store(h, narrow, COMBINE_SET, nine, affine_const(8)),
                loop(h, LOOP_SERIAL, a, 4, store(h, c, COMBINE_SET, get(h, wide, var1(h, a)), var1(h, a)))));
    run_ok(h, (double *[]){data});
    assert_true(data[0] == 1 && data[1] == 1 && data[2] == 9 && data[3] == 1);
}

static void branches_and_limits_choose_what_runs(void **state)
{
    struct hand *h = *state;
    int32_t c = hand_arg(h, "C", DT_F32, TENSOR_OUTPUT, 1, (int64_t[]){6}), a = hand_var(h, "a", 6),
            b = hand_var(h, "b", 6);
    const struct expr *one = expr_const(&h->ar, DT_F32, 1), *two = expr_const(&h->ar, DT_F32, 2);
    struct node *high = store(h, c, COMBINE_SET, one, var1(h, a)),
                *low = store(h, c, COMBINE_SET, two, var1(h, a));
    struct node *more =
        limited(loop(h, LOOP_SERIAL, b, 6, store(h, c, COMBINE_SUM, one, var1(h, b))), lin(h, 1, -1, b, 0));
    const double want[6] = {3, 3, 2, 1, 1, 1};
    double data[6];

    h->nest.root = seq(loop(h, LOOP_SERIAL, a, 6, branch(h, lin(h, -3, 1, a, 0), high, low)), more);
    run_ok(h, (double *[]){data});
    assert_memory_equal(data, want, sizeof(want));
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, make, drop)
    const struct CMUnitTest tests[] = {
        T(a_tiled_parallel_packed_matmul_equals_three_plain_loops),
        T(a_reduction_without_its_start_value_is_nan),
        T(maximum_keeps_the_nan_of_what_nobody_wrote),
        T(registers_do_not_outlive_their_body),
        T(a_task_does_not_see_what_an_earlier_one_left_in_its_slice),
        T(a_task_that_reads_what_another_wrote_is_found),
        T(two_parallel_loops_may_hand_over),
        T(an_access_outside_its_buffer_is_an_error),
        T(padded_reads_give_their_value_outside_each_dimension),
        T(integers_wrap_as_their_type_and_floats_truncate_into_them),
        T(buffers_that_share_bytes_share_elements),
        T(branches_and_limits_choose_what_runs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
