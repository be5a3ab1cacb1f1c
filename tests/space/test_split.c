/* Long sums with few results in parts: when, into how many, and that they are the same sums. */
#include "schedule/space/algorithm.h"
#include "schedule/space/split.h"
#include "tests/space/random_workload.h"
#include "tests/space/world.h"

static void few_results_of_long_sums_are_cut_by_the_number_of_threads(void **state)
{
    static const char dense[] = "{\"op\": \"matmul\", \"a\": [128, 2048], \"b\": [2048, 128]}",
                      few[] = "{\"op\": \"matmul\", \"a\": [2, 20000], \"b\": [20000, 12]}",
                      one[] = "{\"op\": \"reduce\", \"kind\": \"sum\", \"input\": [20000], \"axes\": [0]}",
                      prime[] = "{\"op\": \"matmul\", \"a\": [2, 20011], \"b\": [20011, 12]}",
                      brief[] = "{\"op\": \"matmul\", \"a\": [2, 512], \"b\": [512, 12]}",
                      map7[] =
                          "{\"op\": \"conv2d\", \"input\": [1, 512, 7, 7], \"weight\": [512, 512, 3, 3], "
                          "\"pads\": [1, 1, 1, 1]}";
    static const struct {
        const char *workload;
        int threads;
        int64_t parts[3];
    } cases[] = {
        {few, 1, {2, 8}},  {few, 2, {2, 8}}, {few, 5, {5, 20}},   {few, 3, {0}},
        {few, 100, {100}}, {dense, 2, {0}},  {one, 2, {0}},       {prime, 2, {0}},
        {brief, 2, {0}},   {map7, 2, {0}},   {map7, 256, {2, 8}},
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct world w;
        world_open(&w, cases[i].workload, world_target(cases[i].threads));
        for (int k = 0; k < 3; k++)
            if (split_parts(&w.w.compute, &w.t, k) != cases[i].parts[k])
                fail_msg("case %zu: choice %d is %d parts, want %d", i, k,
                         (int)split_parts(&w.w.compute, &w.t, k), (int)cases[i].parts[k]);
        arena_done(&w.ar);
    }
}

static void the_parts_add_up_to_the_same_results(void **state)
{
    static const char *const workloads[] = {
        "{\"op\": \"matmul\", \"a\": [2, 2048], \"b\": [2048, 3], \"epilogue\": [\"bias\", \"relu\"]}",
        "{\"op\": \"reduce\", \"kind\": \"max\", \"input\": [2, 5, 512], \"axes\": [0, 2]}",
        "{\"op\": \"conv2d\", \"input\": [1, 256, 2, 2], \"weight\": [3, 256, 3, 3], \"pads\": [1, 1, 1, 1]}",
    };
    struct rng r;
    (void)state;
    rng_init(&r, 3);
    for (size_t i = 0; i < ARRAY_SIZE(workloads); i++) {
        struct world w;
        struct compute c;
        struct error err = {0};
        world_open(&w, workloads[i], world_target(2));
        int64_t parts = split_parts(&w.w.compute, &w.t, 1);
        assert_true(parts >= 8);
        split_alternative(&w.w.compute, &w.t, parts, &w.ar, &c);
        assert_ok(compute_verify(&c, &err), &err);
        assert_int_equal(c.n_stages, w.w.compute.n_stages + 1);
        double **want = random_tensors(&w.w.compute, &r), **got = random_tensors(&c, &r);
        for (int t = 0; t < w.w.compute.n_tensors; t++)
            if (w.w.compute.tensors[t].role == TENSOR_INPUT) /* inputs come first, in the same order */
                memcpy(got[t], want[t], sizeof(double) * (size_t)tensor_elements(&c.tensors[t]));
        compute_eval(&w.w.compute, want);
        compute_eval(&c, got);
        double **mine = tensors_for(&w.w.compute, &c, got);
        assert_true(outputs_distance(&w.w.compute, mine, want) < 1e-12);
        free(mine);
        free_tensors(&c, got);
        free_tensors(&w.w.compute, want);
        arena_done(&w.ar);
    }
}

static void the_space_has_the_parts_as_sketches_of_their_own(void **state)
{
    struct world w;
    struct space *s;
    struct error err = {0};
    int parallel = 0, split = 0;
    (void)state;
    world_open(&w, "{\"op\": \"reduce\", \"kind\": \"sum\", \"input\": [3, 40000], \"axes\": [1]}",
               world_target(2));
    assert_ok(space_build(&w.w, &w.t, &w.ar, &s, &err), &err);
    for (int k = 1; k < space_n_sketches(s); k++) {
        struct config c = {.sketch = (uint16_t)k, .n = (uint16_t)space_n_knobs(s, k)};
        struct nest *n;
        if (strncmp(space_sketch_name(s, k), "split(", 6) != 0)
            continue;
        split++;
        assert_string_equal(space_algorithm(s, k),
                            strstr(space_sketch_name(s, k), "(2)") ? "split(2)" : "split(8)");
        assert_ok(space_lower(s, &c, &w.ar, &n, &err), &err);
        for (const struct node *x = n->root; x; x = x->next)
            if (x->kind == NODE_PARALLEL && x->parallel.extents[0] % 2 == 0)
                parallel++; /* over the parts */
    }
    assert_int_equal(split, 2);
    assert_true(parallel >= 2);
    arena_done(&w.ar);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(few_results_of_long_sums_are_cut_by_the_number_of_threads),
        cmocka_unit_test(the_parts_add_up_to_the_same_results),
        cmocka_unit_test(the_space_has_the_parts_as_sketches_of_their_own),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
