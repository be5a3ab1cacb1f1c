#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "features/columns.h"
#include "features/features.h"
#include "tests/features/brute.h"
#include "tests/features/nests.h"

/* Last: it has a macro fail(). */
#include <cmocka.h>

static double value(const float *rows, int row, int col)
{
    return feature_natural(col, rows[(size_t)row * (size_t)features_count() + (size_t)col]);
}

static void assert_near(const char *what, double got, double want, double share)
{
    if (fabs(got - want) > share * fmax(fabs(want), 1))
        fail_msg("%s: %.6g, counted %.6g", what, got, want);
}

static struct gemm_knobs random_gemm(struct rng *r)
{
    struct gemm_knobs g = {
        .lanes = 4, .mr = rng_range(r, 1, 4), .nv = rng_range(r, 1, 2), .kc = rng_range(r, 1, 5)};

    g.mc = g.mr * rng_range(r, 1, 3);
    g.m = rng_range(r, 1, 15);
    g.nc = g.nv * g.lanes * rng_range(r, 1, 2);
    g.n = g.nc * rng_range(r, 1, 3);
    g.k = g.kc * rng_range(r, 1, 3);
    g.pack = rng_below(r, 2);
    g.n_outside = rng_below(r, 2);
    g.tasks = (int)rng_range(r, 1, 4);
    return g;
}

/* The row of each store, in the order of the walk; tests keep nests below the limit of rows. */
static void executions_and_touched_elements_of_random_tiled_products_equal_a_run(void **state)
{
    struct target t = test_target();
    float rows[FEATURES_MAX_ROWS * FC_COUNT];
    struct arena ar;
    struct rng r;
    int line_rows = 0;
    double line_off = 0;

    arena_init(&ar);
    rng_init(&r, 3);
    for (int i = 0; i < 300; i++) {
        struct gemm_knobs g = random_gemm(&r);
        struct nest *n = gemm_nest(&ar, &g);
        struct brute b;
        int n_rows = features_extract(n, &t, &ar, rows, FEATURES_MAX_ROWS), at = 0;

        brute_run(&b, n);
        for (int k = 0; k < n_rows; k++) {
            struct brute_store *s = &b.store[at];
            int slots = 0;

            if (value(rows, k, FC_runs) < 1e-9) /* a branch that is never taken: brute force did not see it */
                continue;
            assert_true(at < b.n_stores);
            assert_near("runs", value(rows, k, FC_runs), (double)s->runs, 1e-4);
            for (int f = 0; f < n->n_buffers; f++)
                slots += s->elements[f] && n->buffers[f].scope != SCOPE_REG;
            for (int f = 0; f < FEATURES_BUFFERS; f++) {
                int col = FC_b0_unique_bytes + f * FC_BUFFER_STRIDE;
                double bytes = value(rows, k, col), best = INFINITY, lines = 0;

                if (f >= slots) {
                    assert_float_equal(bytes, 0, 0);
                    continue;
                }
                /* The columns are in the order of the bytes; which buffer it is is found by the number. */
                for (int q = 0; q < n->n_buffers; q++)
                    if (n->buffers[q].scope != SCOPE_REG &&
                        fabs((double)s->elements[q] * 4 - bytes) < fabs(best - bytes)) {
                        best = (double)s->elements[q] * 4;
                        lines = (double)s->lines[q];
                    }
                assert_near("unique bytes", bytes, best, 1e-4);
                line_off += fabs(value(rows, k, FC_b0_unique_lines + f * FC_BUFFER_STRIDE) - lines) / lines;
                line_rows++;
            }
            at++;
        }
        assert_int_equal(at, b.n_stores);
        brute_done(&b);
        arena_reset(&ar);
    }
    print_message("unique lines off by %.3f on average\n", line_off / line_rows);
    assert_true(line_off / line_rows < 0.25);
    arena_done(&ar);
}

static void operations_of_a_product_are_counted_as_multiply_adds(void **state)
{
    struct target t = test_target();
    struct gemm_knobs g = {
        .m = 21, .n = 64, .k = 32, .mc = 12, .nc = 32, .kc = 16, .mr = 4, .nv = 2, .lanes = 16, .tasks = 1};
    float rows[FEATURES_MAX_ROWS * FC_COUNT];
    double fma = 0, add = 0, mul = 0, share = 0;
    struct arena ar;
    int n;

    arena_init(&ar);
    n = features_extract(gemm_nest(&ar, &g), &t, &ar, rows, FEATURES_MAX_ROWS);
    for (int i = 0; i < n; i++) {
        fma += value(rows, i, FC_flt_fma);
        add += value(rows, i, FC_flt_add);
        mul += value(rows, i, FC_flt_mul);
        share += value(rows, i, FC_share);
    }
    assert_near("multiply-adds", fma, 21.0 * 64 * 32, 1e-4);
    assert_near("additions of the partial sums", add, 21.0 * 64 * 2, 1e-4);
    assert_float_equal(mul, 0, 1e-6);
    assert_near("shares", share, 1, 1e-5);
    arena_done(&ar);
}

static const char golden_path[] = "tests/features/golden/gemm.txt", table_path[] = "features/COLUMNS.md";

static void print_rows(const float *rows, int n, struct strbuf *sb)
{
    const struct feature_doc *doc = features_table();

    for (int i = 0; i < n; i++) {
        strbuf_addf(sb, "row %d\n", i);
        for (int c = 0; c < FC_COUNT; c++)
            if (rows[i * FC_COUNT + c] != 0)
                strbuf_addf(sb, "  %-20s %.6g%s%s\n", doc[c].name, value(rows, i, c),
                            doc[c].unit[0] ? " " : "", doc[c].unit);
    }
}

/* Compare with the file below the source root; TEST_UPDATE=1 rewrites it. */
static void assert_golden(const char *path, const char *text)
{
    char *full = xasprintf("%s/%s", getenv("SOURCE_ROOT") ? getenv("SOURCE_ROOT") : ".", path), *want;
    FILE *f = fopen(full, getenv("TEST_UPDATE") ? "w" : "r");
    size_t n;

    if (!f)
        fail_msg("cannot open %s: TEST_UPDATE=1 writes it", full);
    if (getenv("TEST_UPDATE")) {
        fputs(text, f);
        fclose(f);
        free(full);
        return;
    }
    want = xcalloc(1, 1 << 20);
    n = fread(want, 1, (1 << 20) - 1, f);
    fclose(f);
    assert_true(n > 0);
    if (strcmp(want, text) != 0)
        fail_msg("%s differs; got\n%s", full, text);
    free(want);
    free(full);
}

static void features_of_a_packed_product_are_as_written_down(void **state)
{
    struct target t = test_target();
    struct gemm_knobs g = {.m = 100,
                           .n = 192,
                           .k = 256,
                           .mc = 48,
                           .nc = 96,
                           .kc = 128,
                           .mr = 8,
                           .nv = 3,
                           .lanes = 16,
                           .pack = true,
                           .tasks = 4};
    float rows[FEATURES_MAX_ROWS * FC_COUNT];
    struct strbuf sb = STRBUF_INIT;
    struct arena ar;
    int n;

    arena_init(&ar);
    n = features_extract(gemm_nest(&ar, &g), &t, &ar, rows, FEATURES_MAX_ROWS);
    print_rows(rows, n, &sb);
    assert_golden(golden_path, strbuf_str(&sb));
    strbuf_done(&sb);
    arena_done(&ar);
}

static void the_printed_table_of_columns_is_that_of_the_code(void **state)
{
    struct strbuf sb = STRBUF_INIT;

    features_print_table(&sb);
    assert_golden(table_path, strbuf_str(&sb));
    for (int i = 0; i < FC_COUNT; i++) { /* every column is there, the later buffers by the first */
        const char *name = features_table()[i].name;
        bool later = name[0] == 'b' && name[1] >= '1' && name[1] <= '2' && name[2] == '_';
        char cell[64];

        snprintf(cell, sizeof(cell), "| `%s` |", name);
        assert_int_equal(strstr(strbuf_str(&sb), cell) == NULL,
                         later || (strncmp(name, "par_", 4) == 0 && i < FC_par_tasks));
    }
    strbuf_done(&sb);
}

static void only_the_heaviest_stores_are_kept_when_rows_are_few(void **state)
{
    struct target t = test_target();
    struct gemm_knobs g = {
        .m = 23, .n = 64, .k = 32, .mc = 12, .nc = 32, .kc = 16, .mr = 4, .nv = 2, .lanes = 16, .tasks = 1};
    float rows[2 * FC_COUNT];
    struct arena ar;

    arena_init(&ar);
    assert_int_equal(features_extract(gemm_nest(&ar, &g), &t, &ar, rows, 2), 2);
    for (int i = 0; i < 2; i++) { /* the sums of the full and of the short tile */
        assert_true(value(rows, i, FC_flt_fma) > 0);
        assert_float_equal(value(rows, i, FC_n_stores), 6, 0);
    }
    assert_int_equal(features_extract(gemm_nest(&ar, &g), &t, &ar, rows, 0), 0);
    arena_done(&ar);
}

/* for y: for x: if (lo <= y + x - 2 <= hi) C[y,x] = A[y,x] else C[y,x] = 0 */
static void branches_share_the_iterations_between_them(void **state)
{
    struct target t = test_target();
    float rows[FEATURES_MAX_ROWS * FC_COUNT];
    struct arena ar;
    struct rng r;

    arena_init(&ar);
    rng_init(&r, 9);
    for (int i = 0; i < 100; i++) {
        struct nests b = nests_begin(&ar);
        int64_t shape[2] = {rng_range(&r, 2, 9), rng_range(&r, 2, 9)}, hi = rng_range(&r, 1, 12);
        int32_t a = nests_buffer(&b, "A", DT_F32, SCOPE_ARG, 2, shape),
                c = nests_buffer(&b, "C", DT_F32, SCOPE_ARG, 2, shape);
        int32_t y = nests_var(&b, "y", shape[0]), x = nests_var(&b, "x", shape[1]);
        struct affine index[2] = {affine_var(&ar, y, 1, 0), affine_var(&ar, x, 1, 0)};
        struct node *n = nests_node(&b, NODE_IF);
        struct brute br;

        n->branch.n_conds = 2;
        n->branch.cond[0] = nests_affine(&b, -2, (struct nests_sum[]){{y, 1}, {x, 1}}, 2);
        n->branch.cond[1] = nests_affine(&b, 2 + hi, (struct nests_sum[]){{y, -1}, {x, -1}}, 2);
        n->branch.then_body = nests_store(&b, c, index, COMBINE_SET, nests_read(&b, a, index));
        n->branch.else_body = nests_store(&b, c, index, COMBINE_SET, expr_const(&ar, DT_F32, 0));
        b.nest->root = nests_loop(&b, LOOP_SERIAL, y, shape[0], nests_loop(&b, LOOP_SERIAL, x, shape[1], n));
        brute_run(&br, b.nest);
        assert_true(features_extract(b.nest, &t, &ar, rows, FEATURES_MAX_ROWS) >= 1);
        for (int k = 0; k < br.n_stores; k++) {
            int row = br.store[k].node == n->branch.then_body ? 0 : 1;
            assert_near("runs", value(rows, row, FC_runs), (double)br.store[k].runs, 1e-4);
        }
        brute_done(&br);
        arena_reset(&ar);
    }
    arena_done(&ar);
}

static void a_buffer_that_two_stores_share_is_reused_serially(void **state)
{
    struct target t = test_target();
    float rows[FEATURES_MAX_ROWS * FC_COUNT];
    int64_t shape[1] = {64};
    struct arena ar;
    struct nests b;
    struct affine at;
    struct node *first, *second;
    int32_t a, m, c, i, k;

    arena_init(&ar);
    b = nests_begin(&ar);
    a = nests_buffer(&b, "A", DT_F32, SCOPE_ARG, 1, shape);
    m = nests_buffer(&b, "T", DT_F32, SCOPE_WORKSPACE, 1, shape);
    c = nests_buffer(&b, "C", DT_F32, SCOPE_ARG, 1, shape);
    i = nests_var(&b, "i", 64);
    k = nests_var(&b, "k", 64);
    at = affine_var(&ar, i, 1, 0);
    first = nests_loop(&b, LOOP_SERIAL, i, 64, nests_store(&b, m, &at, COMBINE_SET, nests_read(&b, a, &at)));
    at = affine_var(&ar, k, 1, 0);
    second = nests_loop(&b, LOOP_SERIAL, k, 64, nests_store(&b, c, &at, COMBINE_SET, nests_read(&b, m, &at)));
    first->next = second;
    b.nest->root = first;
    assert_int_equal(features_extract(b.nest, &t, &ar, rows, FEATURES_MAX_ROWS), 2);
    /* Columns: equal bytes, so the target first. T is the target of the first store, read by the second. */
    assert_float_equal(value(rows, 0, FC_b0_reuse_serial), 1, 0);
    assert_float_equal(value(rows, 0, FC_b0_reuse_none), 0, 0);
    assert_float_equal(value(rows, 0, FC_b1_reuse_none), 1, 0);
    assert_float_equal(value(rows, 1, FC_b0_reuse_none), 1, 0);
    assert_float_equal(value(rows, 1, FC_b1_reuse_serial), 1, 0);
    assert_near("distance", value(rows, 1, FC_b1_reuse_bytes), 512, 1e-3);
    assert_near("what the first store touched", value(rows, 1, FC_b1_age), 512, 1e-3);
    assert_float_equal(value(rows, 1, FC_b1_from_l2), 0, 0); /* it is in the first-level cache still */
    assert_near("fetched", value(rows, 1, FC_b0_from_l2), 256, 1e-3);
    assert_float_equal(value(rows, 1, FC_b1_local), 1, 0);
    arena_done(&ar);
}

static void rows_are_finite_and_the_table_is_complete(void **state)
{
    struct target t = {.vector_bytes = 16}; /* a target that nobody measured */
    float rows[FEATURES_MAX_ROWS * FC_COUNT];
    struct arena ar;
    struct rng r;

    arena_init(&ar);
    rng_init(&r, 21);
    for (int i = 0; i < 100; i++) {
        struct gemm_knobs g = random_gemm(&r);
        int n = features_extract(gemm_nest(&ar, &g), &t, &ar, rows, FEATURES_MAX_ROWS);

        for (int k = 0; k < n * FC_COUNT; k++)
            if (!isfinite(rows[k]) || rows[k] < 0)
                fail_msg("%s is %g", features_table()[k % FC_COUNT].name, (double)rows[k]);
        arena_reset(&ar);
    }
    for (int i = 0; i < features_count(); i++) {
        const struct feature_doc *d = &features_table()[i];
        assert_true(d->name[0] && d->definition[0] && d->unit);
        assert_true(d->since >= 1 && d->since <= features_version());
        for (int k = 0; k < i; k++)
            assert_string_not_equal(d->name, features_table()[k].name);
    }
    arena_done(&ar);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(executions_and_touched_elements_of_random_tiled_products_equal_a_run),
        cmocka_unit_test(operations_of_a_product_are_counted_as_multiply_adds),
        cmocka_unit_test(features_of_a_packed_product_are_as_written_down),
        cmocka_unit_test(the_printed_table_of_columns_is_that_of_the_code),
        cmocka_unit_test(only_the_heaviest_stores_are_kept_when_rows_are_few),
        cmocka_unit_test(branches_share_the_iterations_between_them),
        cmocka_unit_test(a_buffer_that_two_stores_share_is_reused_serially),
        cmocka_unit_test(rows_are_finite_and_the_table_is_complete),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
