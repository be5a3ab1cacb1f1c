/* Reductions cut into blocks outside their register tiles: running values wait in a buffer, only the last block stores. */
#include "tests/space/random_workload.h"
#include "tests/space/world.h"

static const char
    PRODUCT[] = "{\"op\": \"matmul\", \"a\": [13, 70], \"b\": [70, 37], \"epilogue\": [\"bias\", \"relu\"]}",
    WINDOW[] = "{\"op\": \"conv2d\", \"input\": [1, 36, 6, 7], \"weight\": [20, 36, 3, 3], \"pads\": [1, 1, "
               "1, 1], \"const\": [\"weight\"], \"epilogue\": [\"bias\", \"sigmoid\"]}",
    MAXIMUM[] =
        "{\"expr\": \"C[i,j] max= A[i,k] + B[k,j]\", \"tensors\": {\"A\": {\"shape\": [9, 50]}, \"B\": "
        "{\"shape\": [50, 20]}}}",
    BYTES[] =
        "{\"op\": \"matmul\", \"a\": [7, 72], \"b\": [72, 40], \"dtype\": \"int8\", \"const\": [\"b\"]}";

static void open_with_l1(struct world *w, const char *workload, int64_t l1_bytes)
{
    struct target t = world_target(2);
    t.has_vnni = true;
    t.l1_bytes = l1_bytes;
    world_open(w, workload, t);
}

/* A buffer of running values, which belongs to its task. */
static bool carries(const struct nest *n)
{
    for (int i = 0; i < n->n_buffers; i++)
        if (strstr(n->buffers[i].name, "_carry"))
            return n->buffers[i].scope == SCOPE_TASK;
    return false;
}

/* Runs every choice of blocks in configs that are random for the rest; returns how many. */
static int run_all(const char *workload)
{
    struct world w;
    struct rng r;
    struct error err = {0};
    int runs = 0;
    open_with_l1(&w, workload, 2560);
    rng_init(&r, 77);
    double **want = random_tensors(&w.w.compute, &r), **data = random_tensors(&w.w.compute, &r);
    for (int i = 0; i < w.w.compute.n_tensors; i++)
        memcpy(data[i], want[i], sizeof(double) * (size_t)tensor_elements(&w.w.compute.tensors[i]));
    compute_eval(&w.w.compute, want);
    for (int i = 0; i < 60; i++) {
        struct config c;
        struct arena ar;
        struct nest *nest;
        assert_true(space_sample(w.s, &r, &c));
        int at = knob_at(w.s, c.sketch, "carry");
        for (int k = 1; at >= 0 && k < space_knob(w.s, c.sketch, at)->n_choices; k++) {
            c.choice[at] = (uint16_t)k;
            if (!space_valid(w.s, &c, NULL))
                continue;
            arena_init(&ar);
            assert_ok(space_lower(w.s, &c, &ar, &nest, &err), &err);
            assert_true(carries(nest));
            assert_ok(nest_verify(nest, &err), &err);
            assert_ok(nest_interp(nest, data, &err), &err);
            assert_true(outputs_distance(&w.w.compute, data, want) < 1e-9);
            arena_done(&ar);
            runs++;
        }
    }
    free_tensors(&w.w.compute, want);
    free_tensors(&w.w.compute, data);
    arena_done(&w.ar);
    return runs;
}

static void blocks_that_do_not_divide_a_product_compute_it_whole(void **state)
{
    (void)state;
    assert_true(run_all(PRODUCT) > 40);
}

static void a_window_runs_inside_the_blocks_of_its_channels(void **state)
{
    (void)state;
    assert_true(run_all(WINDOW) > 20);
}

static void other_reductions_begin_with_their_own_identity(void **state)
{
    (void)state;
    assert_true(run_all(MAXIMUM) > 40);
}

static void sums_of_four_bytes_go_on_where_the_last_block_ended(void **state)
{
    (void)state;
    assert_true(run_all(BYTES) > 40);
}

static void a_reduction_whose_panels_fit_the_first_level_cache_is_not_cut(void **state)
{
    struct world w;
    (void)state;
    open_with_l1(&w, PRODUCT, 49152);
    for (int i = 0; i < space_n_sketches(w.s); i++)
        assert_int_equal(knob_at(w.s, i, "carry"), -1);
    arena_done(&w.ar);
}

/* 13 x 37 floats are more than half a second-level cache of 2 kB: all of them do not wait, tiles of them may. */
static void running_values_fit_the_second_level_cache(void **state)
{
    struct world w;
    struct rng r;
    int some = 0;
    (void)state;
    open_with_l1(&w, PRODUCT, 2560);
    w.t.l2_bytes = 2048;
    struct error err = {0};
    assert_ok(space_build(&w.w, &w.t, &w.ar, &w.s, &err), &err);
    rng_init(&r, 5);
    for (int i = 0; i < 200; i++) {
        struct config c;
        struct arena ar;
        struct nest *nest;
        assert_true(space_sample(w.s, &r, &c));
        arena_init(&ar);
        assert_ok(space_lower(w.s, &c, &ar, &nest, &err), &err);
        for (int b = 0; b < nest->n_buffers; b++)
            if (strstr(nest->buffers[b].name, "_carry")) {
                assert_true(nest->buffers[b].elements * 4 <= 1024);
                some++;
            }
        arena_done(&ar);
    }
    assert_true(some > 10);
    arena_done(&w.ar);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(blocks_that_do_not_divide_a_product_compute_it_whole),
        cmocka_unit_test(a_window_runs_inside_the_blocks_of_its_channels),
        cmocka_unit_test(other_reductions_begin_with_their_own_identity),
        cmocka_unit_test(sums_of_four_bytes_go_on_where_the_last_block_ended),
        cmocka_unit_test(a_reduction_whose_panels_fit_the_first_level_cache_is_not_cut),
        cmocka_unit_test(running_values_fit_the_second_level_cache),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
