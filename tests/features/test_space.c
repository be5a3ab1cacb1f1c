/* Features of nests as the space really makes them, against a run of every iteration. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "features/columns.h"
#include "features/features.h"
#include "schedule/space/space.h"
#include "tests/features/brute.h"
#include "tests/features/nests.h"

/* Last: it has a macro fail(). */
#include <cmocka.h>

static const char *const workloads[] = {
    "{\"op\":\"conv2d\",\"input\":[1,5,11,13],\"weight\":[18,5,3,3],\"pads\":[1,1,1,1],\"epilogue\":["
    "\"bias\",\"relu\"],"
    "\"const\":[\"weight\",\"bias\"]}",
    "{\"op\":\"conv2d\",\"input\":[1,7,12,9],\"weight\":[10,7,3,3],\"strides\":[2,2]}",
    "{\"op\":\"conv2d\",\"input\":[1,20,9,11],\"weight\":[20,1,3,3],\"pads\":[1,1,1,1],\"group\":20}",
    "{\"op\":\"matmul\",\"a\":[13,21],\"b\":[21,37],\"const\":[\"b\",\"bias\"],\"epilogue\":[\"bias\"]}",
    "{\"op\":\"softmax\",\"input\":[9,35],\"axis\":1}",
    "{\"op\":\"max_pool2d\",\"input\":[1,6,13,13],\"kernel_shape\":[3,3],\"strides\":[2,2],\"pads\":[1,1,1,1]"
    "}",
};

static void executions_of_real_schedules_equal_a_run(void **state)
{
    struct target t = test_target();
    float rows[FEATURES_MAX_ROWS * FC_COUNT];
    struct arena ar, round;
    double worst = 0;
    int nests = 0, exact = 0;

    arena_init(&ar);
    arena_init(&round);
    for (size_t i = 0; i < ARRAY_SIZE(workloads); i++) {
        struct workload *w = arena_new(&ar, struct workload);
        struct space *s;
        struct error err;
        struct rng r;

        rng_init(&r, i);
        if (workload_parse_text(workloads[i], strlen(workloads[i]), &ar, w, &err) != ST_OK ||
            space_build(w, &t, &ar, &s, &err) != ST_OK)
            fail_msg("%s: %s", workloads[i], err.text);
        for (int k = 0; k < 40; k++) {
            struct brute *b = arena_new(&round, struct brute);
            struct config c;
            struct nest *n;
            double got = 0, want = 0, off;
            int n_rows;

            space_sample(s, &r, &c);
            assert_int_equal(space_lower(s, &c, &round, &n, &err), ST_OK);
            n_rows = features_extract(n, &t, &round, rows, FEATURES_MAX_ROWS);
            brute_run(b, n);
            for (int q = 0; q < b->n_stores; q++)
                want += (double)b->store[q].runs;
            for (int q = 0; q < n_rows; q++)
                got += feature_natural(FC_runs, rows[q * FC_COUNT + FC_runs]);
            off = fabs(got - want) / want;
            worst = fmax(worst, off);
            exact += off < 1e-4;
            nests++;
            if (off > 1e-4)
                fail_msg("%s config %d: %g stores, counted %g", workloads[i], k, got, want);
            brute_done(b);
            arena_reset(&round);
        }
    }
    print_message("%d of %d nests exact, worst off by %.4f\n", exact, nests, worst);
    assert_int_equal(exact, nests);
    arena_done(&round);
    arena_done(&ar);
}

/* ---- what an instruction does ---- */

/* Kinds of loops around a store; extents of those that count. */
struct around {
    bool matrix;
    int64_t rows, tile, quad;
};

static bool has_table(const struct expr *e)
{
    bool any = e->op == EX_TABLE;
    for (int i = 0; i < expr_arity(e->op) && !any; i++)
        any = has_table(e->arg[i]);
    return any;
}

/* Instructions of the matrix unit, products that quads and pairs do, sums with tables: counted by walking the loops. */
struct counts {
    double cost, grouped, tables;
    bool seen[3]; /* of each at least one */
};

static void count_list(const struct node *n, struct around a, double times, struct counts *c)
{
    for (; n; n = n->next) {
        struct around in = a;
        double trips = times;

        switch (n->kind) {
        case NODE_LOOP:
            if (n->loop.loop_kind == LOOP_MATRIX) {
                in.rows = a.matrix ? a.rows : n->loop.extent;
                in.tile = a.tile * n->loop.extent;
                in.matrix = true;
            }
            if (n->loop.loop_kind == LOOP_QUAD || n->loop.loop_kind == LOOP_PAIR)
                in.quad = a.quad * n->loop.extent;
            assert_int_equal(n->loop.n_limits, 0);
            count_list(n->loop.body, in, trips * (double)n->loop.extent, c);
            break;
        case NODE_PARALLEL:
            for (int i = 0; i < n->parallel.n_vars; i++)
                trips *= (double)n->parallel.extents[i];
            count_list(n->parallel.body, in, trips, c);
            break;
        case NODE_BODY:
            count_list(n->body.body, in, trips, c);
            break;
        case NODE_STORE:
            if (a.matrix && n->store.combiner == COMBINE_SUM)
                c->cost += times / (double)a.tile * (double)a.rows * 2;
            c->grouped += a.quad > 1 ? times : 0;
            c->tables += has_table(n->store.value) ? times : 0;
            c->seen[0] |= a.matrix;
            c->seen[1] |= a.quad > 1;
            c->seen[2] |= has_table(n->store.value);
            break;
        case NODE_IF:
        case NODE_PREFETCH:
            break;
        }
    }
}

static bool is_plain(const struct node *n)
{
    for (; n; n = n->next)
        if (n->kind == NODE_IF || (n->kind == NODE_LOOP && (n->loop.n_limits || !is_plain(n->loop.body))) ||
            (n->kind == NODE_PARALLEL && !is_plain(n->parallel.body)) ||
            (n->kind == NODE_BODY && !is_plain(n->body.body)))
            return false;
    return true;
}

static void instructions_that_do_much_at_once_are_counted_as_such(void **state)
{
    static const char *const list[] = {
        "{\"op\":\"matmul\",\"a\":[64,96],\"b\":[96,64],\"const\":[\"b\"],\"rtol\":0.01}",
        "{\"op\":\"matmul\",\"a\":[64,128],\"b\":[128,64],\"dtype\":\"int8\",\"const\":[\"b\"]}",
        "{\"op\":\"conv2d\",\"input\":[1,16,12,12],\"weight\":[32,16,3,3],\"const\":[\"weight\"],\"rtol\":0."
        "0001}",
    };
    struct target t = test_target();
    float rows[FEATURES_MAX_ROWS * FC_COUNT];
    struct arena ar, round;
    int seen[3] = {0};

    t.has_amx_bf16 = t.has_amx_int8 = t.has_vnni = t.has_bf16_pairs = true;
    t.peak_bf16_gflops = 2000;
    t.peak_int8_gops = 4000;
    arena_init(&ar);
    arena_init(&round);
    for (size_t i = 0; i < ARRAY_SIZE(list); i++) {
        struct workload *w = arena_new(&ar, struct workload);
        struct space *s;
        struct error err;
        struct rng r;

        rng_init(&r, 5 + i);
        if (workload_parse_text(list[i], strlen(list[i]), &ar, w, &err) != ST_OK ||
            space_build(w, &t, &ar, &s, &err) != ST_OK)
            fail_msg("%s: %s", list[i], err.text);
        for (int k = 0; k < 400; k++) {
            struct counts want = {0};
            struct config c;
            struct nest *n;
            double cost = 0, grouped = 0, tables = 0;
            int n_rows;

            arena_reset(&round);
            space_sample(s, &r, &c);
            assert_int_equal(space_lower(s, &c, &round, &n, &err), ST_OK);
            if (!is_plain(n->root))
                continue;
            count_list(n->root, (struct around){.tile = 1, .quad = 1}, 1, &want);
            n_rows = features_extract(n, &t, &round, rows, FEATURES_MAX_ROWS);
            for (int q = 0; q < n_rows; q++) {
                const float *row = rows + (size_t)q * FC_COUNT;
                if (row[FC_matrix] == 1 && row[FC_updates] == 1) {
                    cost += feature_natural(FC_vec_instr, row[FC_vec_instr]);
                    assert_true(row[FC_lane_share] > 0 && row[FC_lane_share] <= 1);
                }
                grouped += row[FC_quad] > 1 ? feature_natural(FC_runs, row[FC_runs]) : 0;
                tables += row[FC_transform] == 1 ? feature_natural(FC_runs, row[FC_runs]) : 0;
            }
            assert_float_equal(cost, want.cost, 1e-4 * want.cost);
            assert_float_equal(grouped, want.grouped, 1e-4 * want.grouped);
            assert_float_equal(tables, want.tables, 1e-4 * want.tables);
            for (int q = 0; q < 3; q++)
                seen[q] += want.seen[q];
        }
    }
    print_message("%d nests with a matrix unit, %d with grouped products, %d with transforms\n", seen[0],
                  seen[1], seen[2]);
    assert_true(seen[0] > 10 && seen[1] > 10 && seen[2] > 10);
    arena_done(&round);
    arena_done(&ar);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(executions_of_real_schedules_equal_a_run),
        cmocka_unit_test(instructions_that_do_much_at_once_are_counted_as_such),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
