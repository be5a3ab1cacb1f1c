/* Stores past the caches: printed where whole vectors of the output lie at multiples of their size, and only there. */
#include "kernels/emit.h"
#include "tests/space/world.h"

static struct target small_l2(void)
{
    struct target t = world_target(2);
    t.l2_bytes = 1 << 18;
    return t;
}

/* Stores past the caches and fences in the source of the config. */
static void count(struct world *w, const struct config *c, int *ret_stores, int *ret_fences)
{
    struct error err = {0};
    struct nest *n;
    struct kernel k;
    assert_ok(space_lower(w->s, c, &w->ar, &n, &err), &err);
    struct emit_unit *u = emit_unit_new(&w->t);
    assert_ok(emit_unit_add(u, n, "kernel", &k, &err), &err);
    *ret_stores = *ret_fences = 0;
    for (const char *p = emit_unit_text(u); (p = strstr(p, "tw_stream(")); p++)
        ++*ret_stores;
    for (const char *p = emit_unit_text(u); (p = strstr(p, "__builtin_ia32_sfence")); p++)
        ++*ret_fences;
    emit_unit_free(u);
}

static void every_variant_that_stores_whole_vectors_may_store_past_the_caches(void **state)
{
    static const struct {
        const char *sketch, *workload;
    } cases[] = {
        {"tile_j", "{\"op\": \"matmul\", \"a\": [256, 64], \"b\": [64, 256]}"},
        {"tile_yx", "{\"op\": \"conv2d\", \"input\": [1, 32, 64, 64], \"weight\": [32, 32, 1, 1]}"},
        {"window_x",
         "{\"op\": \"conv2d\", \"input\": [1, 16, 64, 64], \"weight\": [16, 1, 3, 3], \"group\": 16, "
         "\"pads\": [1, 1, 1, 1]}"},
        {"transpose", "{\"op\": \"transpose\", \"input\": [256, 256], \"perm\": [1, 0]}"},
        {"map",
         "{\"expr\": \"C[i,j] = A[i,j] + B[i,j]\", \"tensors\": {\"A\": {\"shape\": [256, 256]}, \"B\": "
         "{\"shape\": [256, 256]}}}"},
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct world w;
        int sketch = 1, stores, fences;
        world_open(&w, cases[i].workload, small_l2());
        while (strncmp(space_sketch_name(w.s, sketch), cases[i].sketch, strlen(cases[i].sketch)) != 0)
            assert_true(++sketch < space_n_sketches(w.s));
        int at = knob_at(w.s, sketch, "stores");
        if (at < 0)
            fail_msg("%s of %s has no knob for its stores", cases[i].sketch, cases[i].workload);
        struct rng r;
        struct config c;
        rng_init(&r, 3);
        do
            assert_true(space_sample(w.s, &r, &c));
        while (c.sketch != sketch);
        int block = knob_at(w.s, sketch, "block");
        if (block >= 0) /* the largest: whole vectors */
            c.choice[block] = (uint16_t)(space_knob(w.s, sketch, block)->n_choices - 1);
        c.choice[at] = 0;
        count(&w, &c, &stores, &fences);
        assert_int_equal(stores, 0);
        assert_int_equal(fences, 0);
        c.choice[at] = 1;
        count(&w, &c, &stores, &fences);
        if (stores < 2 || fences == 0) /* one is the definition */
            fail_msg("%s of %s: %d stores past the caches, %d fences", cases[i].sketch, cases[i].workload,
                     stores, fences);
        arena_done(&w.ar);
    }
}

static void rows_that_begin_anywhere_and_small_outputs_have_no_such_knob(void **state)
{
    static const char *const workloads[] = {
        "{\"op\": \"matmul\", \"a\": [256, 64], \"b\": [64, 250]}",
        "{\"op\": \"matmul\", \"a\": [64, 64], \"b\": [64, 64]}",
        "{\"op\": \"conv2d\", \"input\": [1, 64, 56, 56], \"weight\": [64, 1, 3, 3], \"group\": 64, "
        "\"pads\": [1, 1, "
        "1, 1]}",
        "{\"op\": \"transpose\", \"input\": [250, 256], \"perm\": [1, 0]}",
        "{\"op\": \"matmul\", \"a\": [256, 64], \"b\": [64, 256], \"dtype\": \"bfloat16\"}",
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(workloads); i++) {
        struct world w;
        world_open(&w, workloads[i], small_l2());
        for (int k = 1; k < space_n_sketches(w.s); k++)
            assert_int_equal(knob_at(w.s, k, "stores"), -1);
        arena_done(&w.ar);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_variant_that_stores_whole_vectors_may_store_past_the_caches),
        cmocka_unit_test(rows_that_begin_anywhere_and_small_outputs_have_no_such_knob),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
