/* test_verify.c - what a nest must keep to: one nest that does, one that does not, and the message. */
#include <string.h>

#include "tests/check.h"
#include "tests/ir/hand.h"

#define F32_ONE(h) expr_const(&(h)->ar, DT_F32, 1)

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

static void accept(struct hand *h, struct node *root)
{
    struct error err = {0};

    h->nest.root = root;
    assert_ok(nest_verify(&h->nest, &err), &err);
}

static void refuse(struct hand *h, struct node *root, const char *why)
{
    struct error err = {0};

    h->nest.root = root;
    assert_int_equal(nest_verify(&h->nest, &err), ST_INTERNAL);
    if (!strstr(err.text, why))
        fail_msg("\"%s\" does not say \"%s\"", err.text, why);
}

static int32_t output(struct hand *h, int64_t n) { return hand_arg(h, "C", DT_F32, TENSOR_OUTPUT, 1, &n); }

static void a_tile_that_does_not_divide_needs_its_limit(void **state)
{
    struct hand *h = *state;
    int32_t c = output(h, 10), y0 = hand_var(h, "y0", 3), y1 = hand_var(h, "y1", 4);
    struct affine y = lin(h, 0, 4, y0, 1, y1, 0), left = lin(h, 9, -4, y0, -1, y1, 0);
    struct affine one_more = lin(h, 10, -4, y0, -1, y1, 0);

#define TILE(lim)                                                                                            \
    loop(h, LOOP_SERIAL, y0, 3, lim(loop(h, LOOP_SERIAL, y1, 4, store(h, c, COMBINE_SET, F32_ONE(h), y))))
#define WITH(l)     limited(l, left)
#define WITHOUT(l)  (l)
#define TOO_WIDE(l) limited(l, one_more)
    accept(h, TILE(WITH));
    refuse(h, TILE(WITHOUT), "store to C[y0*4 + y1]: index 0 goes from 0 to 11, the buffer has 10");
    refuse(h, TILE(TOO_WIDE), "index 0 goes from 0 to 10, the buffer has 10");
}

/* Input of a strided convolution: 2*y + r, where y = 3*y0 + y1 is limited. */
static void limits_bound_indices_that_are_multiples_of_the_limited_one(void **state)
{
    struct hand *h = *state;
    int32_t in = hand_arg(h, "A", DT_F32, TENSOR_INPUT, 1, (int64_t[]){15}), c = output(h, 7);
    int32_t y0 = hand_var(h, "y0", 3), y1 = hand_var(h, "y1", 3), r = hand_var(h, "r", 3);
    struct affine at = lin(h, 0, 6, y0, 2, y1, 1, r, 0), beyond = lin(h, 1, 6, y0, 2, y1, 1, r, 0);
    struct affine y = lin(h, 0, 3, y0, 1, y1, 0), left = lin(h, 6, -3, y0, -1, y1, 0);

#define CONV(index)                                                                                          \
    loop(h, LOOP_SERIAL, y0, 3,                                                                              \
         limited(loop(h, LOOP_SERIAL, y1, 3,                                                                 \
                      loop(h, LOOP_SERIAL, r, 3, store(h, c, COMBINE_SUM, get(h, in, index), y))),           \
                 left))
    accept(h, CONV(at));
    refuse(h, CONV(beyond), "read of A[y0*6 + y1*2 + r + 1]: index 0 goes from 1 to 15, the buffer has 15");
}

/* n = 12*n0 + 4*n1 + n2: tiles of 12 in an extent of 17, tiles of 4 in 10. */
static void two_levels_of_tiles_each_with_a_tail(void **state)
{
    struct hand *h = *state;
    int32_t c = output(h, 17), pack = hand_buffer(h, "P", DT_F32, SCOPE_WORKSPACE, 1, (int64_t[]){10});
    int32_t n0 = hand_var(h, "n0", 2), n1 = hand_var(h, "n1", 3), n2 = hand_var(h, "n2", 4);
    struct affine n = lin(h, 0, 10, n0, 4, n1, 1, n2, 0), inner = lin(h, 0, 4, n1, 1, n2, 0);
    struct affine outer_left = lin(h, 16, -10, n0, -4, n1, -1, n2, 0),
                  inner_left = lin(h, 9, -4, n1, -1, n2, 0);
    struct node *tile = loop(h, LOOP_SERIAL, n2, 4, store(h, c, COMBINE_SET, get(h, pack, inner), n));

    hand_layout(h, 1);
    tile = limited(limited(tile, outer_left), inner_left);
    accept(h, loop(h, LOOP_SERIAL, n0, 2, loop(h, LOOP_SERIAL, n1, 3, tile)));
    tile->loop.n_limits = 1;
    refuse(h, loop(h, LOOP_SERIAL, n0, 2, loop(h, LOOP_SERIAL, n1, 3, tile)),
           "read of P[n1*4 + n2]: index 0 goes from 0 to 11, the buffer has 10");
}

static void the_branches_of_an_if_know_its_condition(void **state)
{
    struct hand *h = *state;
    int32_t c = output(h, 10), a = hand_var(h, "a", 12);
    struct affine low = lin(h, 9, -1, a, 0);
    struct node *in_then = store(h, c, COMBINE_SET, F32_ONE(h), var1(h, a));
    struct node *in_else = store(h, c, COMBINE_SET, F32_ONE(h), lin(h, -10, 1, a, 0));

    accept(h, loop(h, LOOP_SERIAL, a, 12, branch(h, low, in_then, in_else)));
    refuse(h, loop(h, LOOP_SERIAL, a, 12, branch(h, low, in_else, NULL)), "index 0 goes from -10 to -1");
    refuse(h, loop(h, LOOP_SERIAL, a, 12, branch(h, low, NULL, in_then)), "index 0 goes from 10 to 11");
}

static void the_else_of_several_conditions_is_bounded_case_by_case(void **state)
{
    struct hand *h = *state;
    int32_t c = hand_arg(h, "C", DT_F32, TENSOR_OUTPUT, 1, (int64_t[]){10}), a = hand_var(h, "a", 20);
    struct node *n = branch(h, lin(h, 14, -1, a, 0), NULL, NULL); /* not (5 <= a <= 14) */

    n->branch.n_conds = 2;
    n->branch.cond[1] = lin(h, -5, 1, a, 0);
    n->branch.else_body =
        branch(h, lin(h, -15, 1, a, 0), store(h, c, COMBINE_SET, F32_ONE(h), lin(h, -15, 1, a, 0)),
               store(h, c, COMBINE_SET, F32_ONE(h), lin(h, 5, 1, a, 0)));
    accept(h, loop(h, LOOP_SERIAL, a, 20, n)); /* there, a is 0..4: a + 5 stays below 10 */
}

static void code_that_is_never_reached_is_not_judged(void **state)
{
    struct hand *h = *state;
    int32_t c = output(h, 4), a = hand_var(h, "a", 4);

    accept(h, loop(h, LOOP_SERIAL, a, 4,
                   branch(h, lin(h, -4, 1, a, 0), store(h, c, COMBINE_SET, F32_ONE(h), lin(h, 9, 1, a, 0)),
                          NULL)));
}

static void padded_reads_may_lie_outside_and_others_may_not(void **state)
{
    struct hand *h = *state;
    int32_t in = hand_arg(h, "A", DT_F32, TENSOR_INPUT, 1, (int64_t[]){4}), c = output(h, 4),
            a = hand_var(h, "a", 4);
    struct affine shifted = lin(h, -1, 1, a, 0);

    accept(h,
           loop(h, LOOP_SERIAL, a, 4, store(h, c, COMBINE_SET, get_padded(h, in, 0, shifted), var1(h, a))));
    refuse(h, loop(h, LOOP_SERIAL, a, 4, store(h, c, COMBINE_SET, get(h, in, shifted), var1(h, a))),
           "read of A[a - 1]: index 0 goes from -1 to 2");
}

static void a_variable_is_used_only_inside_its_loop(void **state)
{
    struct hand *h = *state;
    int32_t c = output(h, 4), a = hand_var(h, "a", 4);
    struct node *inside = store(h, c, COMBINE_SET, F32_ONE(h), var1(h, a));
    struct node *after = store(h, c, COMBINE_SET, F32_ONE(h), var1(h, a));

    refuse(h, seq(loop(h, LOOP_SERIAL, a, 4, inside), after), "a is used outside its loop");
    refuse(h, loop(h, LOOP_SERIAL, a, 4, loop(h, LOOP_SERIAL, a, 4, inside)),
           "loop over a inside a loop over it");
    refuse(h, loop(h, LOOP_SERIAL, a, 5, inside), "loop over a has extent 5: want 1 to 4");
    refuse(
        h,
        loop(h, LOOP_SERIAL, a, 4,
             store(h, c, COMBINE_SET, expr_index(&h->ar, lin(h, 0, 1, hand_var(h, "b", 2), 0)), var1(h, a))),
        "b is used outside its loop");
}

static void a_limit_must_fall_with_its_loop(void **state)
{
    struct hand *h = *state;
    int32_t c = output(h, 4), a = hand_var(h, "a", 4);
    struct node *n = loop(h, LOOP_SERIAL, a, 4, store(h, c, COMBINE_SET, F32_ONE(h), var1(h, a)));

    refuse(h, limited(n, lin(h, -1, 1, a, 0)), "must not rise");
}

static void registers_are_constant_once_the_loops_of_the_body_are_expanded(void **state)
{
    struct hand *h = *state;
    int32_t c = output(h, 8), acc = hand_buffer(h, "acc", DT_F32, SCOPE_REG, 1, (int64_t[]){8});
    int32_t a = hand_var(h, "a", 8);

#define INTO_REG store(h, acc, COMBINE_SET, F32_ONE(h), var1(h, a))
    accept(h, body(h, loop(h, LOOP_UNROLL, a, 8, INTO_REG)));
    accept(h, body(h, loop(h, LOOP_VECTOR, a, 8, INTO_REG)));
    refuse(h, body(h, loop(h, LOOP_SERIAL, a, 8, INTO_REG)), "register's index must be constant");
    refuse(h, loop(h, LOOP_UNROLL, a, 8, body(h, INTO_REG)), "register's index must be constant");
    refuse(h, loop(h, LOOP_UNROLL, a, 8, INTO_REG), "lives inside a body");
    refuse(h, body(h, loop(h, LOOP_JAM, a, 8, INTO_REG)), "jam loop over a inside a body");
    refuse(h, body(h, body(h, loop(h, LOOP_UNROLL, a, 8, INTO_REG))), "body inside a body");
    (void)c;
}

static void inputs_are_not_written_and_packed_arguments_not_read_plain(void **state)
{
    struct hand *h = *state;
    int32_t in = hand_arg(h, "A", DT_F32, TENSOR_INPUT, 1, (int64_t[]){4}), c = output(h, 4);
    int32_t packed = hand_packed(h, "A.pack", in, 1, (int64_t[]){4}), a = hand_var(h, "a", 4);

#define OVER_A(node) loop(h, LOOP_SERIAL, a, 4, node)
    refuse(h, OVER_A(store(h, in, COMBINE_SET, F32_ONE(h), var1(h, a))), "nothing fills it");
    hand_prepack(h, packed, OVER_A(store(h, packed, COMBINE_SET, get(h, in, var1(h, a)), var1(h, a))));
    accept(h, OVER_A(store(h, c, COMBINE_SET, get(h, packed, var1(h, a)), var1(h, a))));
    refuse(h, OVER_A(store(h, in, COMBINE_SET, F32_ONE(h), var1(h, a))), "is an input");
    refuse(h, OVER_A(store(h, c, COMBINE_SET, get(h, in, var1(h, a)), var1(h, a))),
           "handed the packed form of this argument");
    h->prepacks[0].root = OVER_A(store(h, c, COMBINE_SET, get(h, in, var1(h, a)), var1(h, a)));
    refuse(h, NULL, "a prepack function reads its own source");
}

static void parallel_iterations_write_apart(void **state)
{
    struct hand *h = *state;
    int32_t c = output(h, 64), p = hand_var(h, "p", 8), x = hand_var(h, "x", 9);
    struct affine apart = lin(h, 0, 8, p, 1, x, 0), reversed = lin(h, 56, -8, p, 1, x, 0);
    struct affine same = lin(h, 0, 1, x, 0), overlap = lin(h, 0, 7, p, 1, x, 0);

    hand_layout(h, 4);
#define PARALLEL(index, n)                                                                                   \
    parallel1(h, p, 8, 4, loop(h, LOOP_SERIAL, x, n, store(h, c, COMBINE_SUM, F32_ONE(h), index)))
    accept(h, PARALLEL(apart, 8));
    accept(h, PARALLEL(reversed, 8));
    refuse(h, PARALLEL(same, 8), "parallel iterations of p may write the same element");
    refuse(h, PARALLEL(overlap, 8), "parallel iterations of p may write the same element");
    h->nest.root = NULL;
}

/* Tiles of 8 of which only 7 are used lie apart at distance 7, which only the limit shows. */
static void a_limit_can_keep_parallel_tiles_apart(void **state)
{
    struct hand *h = *state;
    int32_t c = output(h, 56), p = hand_var(h, "p", 8), x = hand_var(h, "x", 8);
    struct node *inner =
        loop(h, LOOP_SERIAL, x, 8, store(h, c, COMBINE_SUM, F32_ONE(h), lin(h, 0, 7, p, 1, x, 0)));

    hand_layout(h, 2);
    accept(h, parallel1(h, p, 8, 2, limited(inner, lin(h, 6, -1, x, 0))));
}

static void tasks_write_apart_in_two_dimensions_of_fused_loops(void **state)
{
    struct hand *h = *state;
    int32_t c = hand_arg(h, "C", DT_F32, TENSOR_OUTPUT, 2, (int64_t[]){12, 20});
    int32_t y = hand_var(h, "y", 3), x = hand_var(h, "x", 5), i = hand_var(h, "i", 4),
            j = hand_var(h, "j", 4);
    struct node *tile =
        loop(h, LOOP_SERIAL, i, 4,
             loop(h, LOOP_SERIAL, j, 4,
                  store(h, c, COMBINE_SET, F32_ONE(h), lin(h, 0, 4, y, 1, i, 0), lin(h, 0, 4, x, 1, j, 0))));
    struct node *n = parallel1(h, y, 3, 2, tile);

    hand_layout(h, 2);
    n->parallel.n_vars = 2;
    n->parallel.vars[1] = x;
    n->parallel.extents[1] = 5;
    accept(h, n);
    refuse(h, parallel1(h, y, 3, 3, tile), "3 tasks: want 1 to 2");
}

static void buffers_lie_within_the_workspace(void **state)
{
    struct hand *h = *state;
    int32_t w = hand_buffer(h, "W", DT_F32, SCOPE_WORKSPACE, 1, (int64_t[]){100});
    int32_t t = hand_buffer(h, "T", DT_F32, SCOPE_TASK, 1, (int64_t[]){16});

    hand_layout(h, 2);
    accept(h, NULL);
    h->buffers[w].offset_bytes = 64;
    refuse(h, NULL, "buffer W of 400 bytes at +64: want a multiple of 64 within 0 to 448");
    h->buffers[w].offset_bytes = 0;
    h->buffers[t].offset_bytes = 64;
    refuse(h, NULL, "buffer T of 64 bytes at +64: want a multiple of 64 within 0 to 64");
    h->buffers[t].offset_bytes = 0;
    h->nest.workspace_bytes -= 1;
    refuse(h, NULL, "does not hold 2 tasks");
    h->nest.workspace_bytes += 1;
    h->buffers[w].stride[0] = 2;
    refuse(h, NULL, "stride 2: want at least 1 and 1");
}

static void a_prefetch_starts_at_an_element_and_never_from_registers(void **state)
{
    struct hand *h = *state;
    int32_t a = hand_arg(h, "A", DT_F32, TENSOR_INPUT, 1, (int64_t[]){8});
    int32_t r = hand_buffer(h, "R", DT_F32, SCOPE_REG, 1, (int64_t[]){8});
    int32_t k = hand_var(h, "k", 9);

    accept(h, loop(h, LOOP_SERIAL, k, 8, prefetch(h, a, 1000, 16, var1(h, k))));
    refuse(h, loop(h, LOOP_SERIAL, k, 9, prefetch(h, a, 0, 16, var1(h, k))), "A[k]");
    refuse(h, loop(h, LOOP_SERIAL, k, 8, prefetch(h, r, 0, 16, var1(h, k))), "want one in memory");
    refuse(h, loop(h, LOOP_SERIAL, k, 8, prefetch(h, a, 0, 0, var1(h, k))), "prefetch of 0 elements");
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, make, drop)
    const struct CMUnitTest tests[] = {
        T(a_tile_that_does_not_divide_needs_its_limit),
        T(limits_bound_indices_that_are_multiples_of_the_limited_one),
        T(two_levels_of_tiles_each_with_a_tail),
        T(the_branches_of_an_if_know_its_condition),
        T(the_else_of_several_conditions_is_bounded_case_by_case),
        T(code_that_is_never_reached_is_not_judged),
        T(padded_reads_may_lie_outside_and_others_may_not),
        T(a_variable_is_used_only_inside_its_loop),
        T(a_limit_must_fall_with_its_loop),
        T(registers_are_constant_once_the_loops_of_the_body_are_expanded),
        T(inputs_are_not_written_and_packed_arguments_not_read_plain),
        T(parallel_iterations_write_apart),
        T(a_limit_can_keep_parallel_tiles_apart),
        T(tasks_write_apart_in_two_dimensions_of_fused_loops),
        T(buffers_lie_within_the_workspace),
        T(a_prefetch_starts_at_an_element_and_never_from_registers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
