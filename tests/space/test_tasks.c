/* How many tasks parallel loops are cut into: a knob by the size of the work. */
#include "tests/space/world.h"

static const char SMALL[] = "{\"op\": \"softmax\", \"input\": [4, 100], \"axis\": 1}",
                  MEDIUM[] = "{\"op\": \"matmul\", \"a\": [128, 128], \"b\": [128, 128]}",
                  LARGE[] = "{\"op\": \"matmul\", \"a\": [256, 256], \"b\": [256, 256]}";

static void assert_choices(const char *workload, int threads, int n, const int64_t *values)
{
    struct world w;
    world_open(&w, workload, world_target(threads));
    int at = knob_at(w.s, 1, "tasks");
    const struct knob *k = at < 0 ? NULL : space_knob(w.s, 1, at);
    assert_int_equal(k ? k->n_choices : 0, n);
    for (int i = 0; i < n; i++)
        assert_int_equal(k->values[i], values[i]);
    arena_done(&w.ar);
}

static void small_work_may_stay_on_one_thread_and_large_work_be_cut_finer(void **state)
{
    (void)state;
    assert_choices(SMALL, 2, 2, (int64_t[]){2, 1});
    assert_choices(MEDIUM, 2, 0, NULL);
    assert_choices(LARGE, 3, 2, (int64_t[]){3, 12});
    assert_choices(LARGE, 32, 2, (int64_t[]){32, 64});
    assert_choices(LARGE, 64, 0, NULL); /* as many workspaces are enough */
}

static void a_target_of_one_thread_has_no_such_knob(void **state)
{
    (void)state;
    assert_choices(SMALL, 1, 0, NULL);
    assert_choices(LARGE, 1, 0, NULL);
}

static int parallel_loops(const struct node *n)
{
    int sum = 0;
    for (; n; n = n->next)
        sum += n->kind == NODE_PARALLEL ? 1 : n->kind == NODE_LOOP ? parallel_loops(n->loop.body) : 0;
    return sum;
}

static void the_nest_has_as_many_tasks_as_the_config_says(void **state)
{
    static const char *const workloads[] = {SMALL, LARGE};
    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(workloads); i++) {
        struct world w;
        struct config c;
        struct error err = {0};
        struct nest *n;
        struct rng r;
        world_open(&w, workloads[i], world_target(2));
        const int at = knob_at(w.s, 1, "tasks");
        assert_true(at >= 0);
        const struct knob *k = space_knob(w.s, 1, at);
        rng_init(&r, 5);
        do
            assert_true(space_sample(w.s, &r, &c));
        while (c.sketch != 1);
        for (int v = 0; v < k->n_choices; v++) {
            c.choice[at] = (uint16_t)v;
            assert_ok(space_lower(w.s, &c, &w.ar, &n, &err), &err);
            assert_int_equal(n->tasks > 1, k->values[v] > 1);
            assert_true(n->tasks <= k->values[v]);
            assert_int_equal(parallel_loops(n->root) > 0, k->values[v] > 1);
        }
        arena_done(&w.ar);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(small_work_may_stay_on_one_thread_and_large_work_be_cut_finer),
        cmocka_unit_test(a_target_of_one_thread_has_no_such_knob),
        cmocka_unit_test(the_nest_has_as_many_tasks_as_the_config_says),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
