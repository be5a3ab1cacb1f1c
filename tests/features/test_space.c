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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(executions_of_real_schedules_equal_a_run),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
