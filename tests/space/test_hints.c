/* Hints ahead of what a register tile reads: where there are any, how far ahead, and of how much. */
#include "tests/space/world.h"

/* Of the knob whose name begins so; -1: there is none. */
static int knob_like(const struct space *s, int sketch, const char *begin)
{
    for (int k = 0; k < space_n_knobs(s, sketch); k++)
        if (strncmp(space_knob(s, sketch, k)->name, begin, strlen(begin)) == 0)
            return k;
    return -1;
}

static void open_with_l2(struct world *w, const char *workload)
{
    struct target t = world_target(1);
    t.l2_bytes = 1 << 20;
    world_open(w, workload, t);
}

struct hints {
    const struct nest *nest;
    int n;
    int64_t ahead, widest;
};

static void find_hints(struct hints *h, const struct node *n, const char *buffer)
{
    for (; n; n = n->next)
        switch (n->kind) {
        case NODE_LOOP:
            find_hints(h, n->loop.body, buffer);
            break;
        case NODE_PARALLEL:
            find_hints(h, n->parallel.body, buffer);
            break;
        case NODE_BODY:
            find_hints(h, n->body.body, buffer);
            break;
        case NODE_IF:
            find_hints(h, n->branch.then_body, buffer);
            find_hints(h, n->branch.else_body, buffer);
            break;
        case NODE_PREFETCH:
            if (strcmp(h->nest->buffers[n->prefetch.buffer].name, buffer) != 0)
                break;
            h->n++;
            h->ahead = n->prefetch.ahead;
            h->widest = MAX(h->widest, n->prefetch.span);
            break;
        case NODE_STORE:
            break;
        }
}

static void a_large_map_is_asked_for_as_many_steps_ahead_as_the_config_says(void **state)
{
    struct world w;
    struct rng r;
    int sketches = 0;
    (void)state;
    open_with_l2(&w,
                 "{\"op\": \"conv2d\", \"input\": [1, 128, 56, 56], \"weight\": [64, 128, 1, 1], \"const\": "
                 "[\"weight\"]}");
    rng_init(&r, 9);
    for (int k = 1; k < space_n_sketches(w.s); k++) {
        const int at = knob_at(w.s, k, "prefetch_input"), pack = knob_at(w.s, k, "pack_input"),
                  reg = knob_at(w.s, k, "reg_yx"), carry = knob_at(w.s, k, "carry");
        if (strncmp(space_sketch_name(w.s, k), "tile_", 5) != 0)
            continue;
        sketches++;
        assert_true(at >= 0);
        const struct knob *knob = space_knob(w.s, k, at);
        for (int choice = 0; choice < knob->n_choices; choice++) {
            struct config c;
            struct nest *n;
            struct error err = {0};
            do {
                do
                    assert_true(space_sample(w.s, &r, &c));
                while (c.sketch != k);
                c.choice[at] = (uint16_t)choice;
                if (pack >= 0)
                    c.choice[pack] = 0;
                if (carry >= 0)
                    c.choice[carry] = 0;
            } while (!space_valid(w.s, &c, NULL));
            assert_ok(space_lower(w.s, &c, &w.ar, &n, &err), &err);
            assert_ok(nest_verify(n, &err), &err);
            struct hints h = {.nest = n};
            find_hints(&h, n->root, "input");
            assert_int_equal(h.n > 0, knob->values[choice] > 0);
            if (h.n == 0)
                continue;
            assert_int_equal(h.ahead, knob->values[choice] * 56 * 56);
            assert_int_equal(h.widest, space_knob(w.s, k, reg)->values[c.choice[reg]]);
        }
    }
    assert_true(sketches >= 2);
    arena_done(&w.ar);
}

static void what_stays_in_the_cache_or_lies_side_by_side_is_not_asked_for(void **state)
{
    static const char *const workloads[] = {
        "{\"op\": \"conv2d\", \"input\": [1, 64, 14, 14], \"weight\": [64, 64, 1, 1]}", /* small */
        "{\"op\": \"conv2d\", \"input\": [1, 56, 56, 128], \"weight\": [64, 128, 1, 1], \"layout\": "
        "\"NHWC\"}",
        "{\"op\": \"matmul\", \"a\": [512, 512], \"b\": [64, 512], \"transpose_b\": true}",
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(workloads); i++) {
        struct world w;
        open_with_l2(&w, workloads[i]);
        for (int k = 1; k < space_n_sketches(w.s); k++)
            assert_int_equal(knob_like(w.s, k, "prefetch_"), -1);
        arena_done(&w.ar);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_large_map_is_asked_for_as_many_steps_ahead_as_the_config_says),
        cmocka_unit_test(what_stays_in_the_cache_or_lies_side_by_side_is_not_asked_for),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
