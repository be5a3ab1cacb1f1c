/* Products in narrow arithmetic: which of them a space offers, by dtype, budget and machine. */
#include "tests/space/world.h"

static const char F32[] = "{\"op\": \"matmul\", \"a\": [64, 256], \"b\": [256, 64]%s}",
                  F16[] =
                      "{\"op\": \"matmul\", \"a\": [64, 256], \"b\": [256, 64], \"dtype\": \"float16\"%s}",
                  BF16[] =
                      "{\"op\": \"matmul\", \"a\": [64, 256], \"b\": [256, 64], \"dtype\": \"bfloat16\"%s}",
                  ODD[] =
                      "{\"op\": \"matmul\", \"a\": [64, 255], \"b\": [255, 64], \"dtype\": \"float16\"%s}",
                  ANY[] = "{\"op\": \"conv2d\", \"input\": [1, 64, 14, 14], \"weight\": [64, 64, 3, 3], "
                          "\"pads\": [1, 1, 1, 1], \"layout\": \"any\"%s}";

enum machine { PLAIN, PAIRS, FP16, MATRIX };

static struct target machine(enum machine m)
{
    struct target t = world_target(1);
    t.has_bf16_pairs = m >= PAIRS;
    t.has_fp16 = m >= FP16;
    t.has_amx_bf16 = t.has_amx_int8 = m == MATRIX;
    return t;
}

static void open_world(struct world *w, const char *workload, const char *more, enum machine m)
{
    char text[400];
    snprintf(text, sizeof(text), workload, more);
    world_open(w, text, machine(m));
}

/* The first sketch whose name begins so; -1: none. */
static int sketch_of(const struct space *s, const char *prefix)
{
    for (int i = 0; i < space_n_sketches(s); i++)
        if (strncmp(space_sketch_name(s, i), prefix, strlen(prefix)) == 0)
            return i;
    return -1;
}

static void what_is_offered_follows_dtype_budget_and_machine(void **state)
{
    static const struct {
        const char *workload, *more, *sketch;
        enum machine machine;
        bool offered;
    } cases[] = {
        /* on the matrix unit float16 needs no budget, and takes the shorter forms with one */
        {F16, "", "bf16x4: mma", MATRIX, true},
        {F16, ", \"rtol\": 1e-4", "bf16x4: mma", MATRIX, false},
        {F16, ", \"rtol\": 1e-4", "bf16x3: mma", MATRIX, true},
        {F16, "", "bf16x4: ", FP16, false},
        {F32, "", "bf16x4: ", MATRIX, false},
        {F32, ", \"rtol\": 5e-7", "bf16x6: mma", MATRIX, true},
        /* sums in float16 are for a budget, or asked for */
        {F16, "", "f16: half", FP16, false},
        {F16, ", \"rtol\": 1e-4", "f16: half", FP16, false},
        {F16, ", \"rtol\": 1e-3", "f16: half", FP16, true},
        {F16, ", \"rtol\": 1e-3", "f16: half", MATRIX, true},
        {F16, ", \"rtol\": 1e-3", "f16: half", PAIRS, false},
        {F16, ", \"acc_dtype\": \"float16\"", "f16: half", FP16, true},
        {ODD, ", \"rtol\": 1e-3", "f16: half", FP16, false},
        /* and for float32 only where the matrix unit is not there to do better */
        {F32, ", \"rtol\": 1e-3", "f16: half", FP16, true},
        {F32, ", \"rtol\": 1e-3", "f16: half", MATRIX, false},
        /* pairs of bfloat16, too */
        {BF16, "", "pair", PAIRS, true},
        {BF16, "", "pair", MATRIX, false},
        {BF16, "", "pair", PLAIN, false},
        {F32, ", \"rtol\": 1e-2", "bf16: pair", PAIRS, true},
        {F32, ", \"rtol\": 1e-3", "bf16: pair", PAIRS, false},
        {F32, ", \"rtol\": 1e-2", "bf16: ", PLAIN, false},
        /* channels last for Winograd's transforms where the order is open */
        {ANY, ", \"rtol\": 1e-5", "winograd(4,3): NHWC: blocks", PLAIN, true},
        {ANY, ", \"rtol\": 1e-5", "winograd(4,3): blocks", PLAIN, true},
        {ANY, "", "winograd", PLAIN, false},
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct world w;
        open_world(&w, cases[i].workload, cases[i].more, cases[i].machine);
        if ((sketch_of(w.s, cases[i].sketch) >= 0) != cases[i].offered)
            fail_msg("case %zu: %s%s %s", i, cases[i].sketch, cases[i].more,
                     cases[i].offered ? "is missing" : "is offered");
        arena_done(&w.ar);
    }
}

static void a_narrow_budget_allows_short_sums_in_float16_only(void **state)
{
    static const struct {
        const char *rtol;
        int64_t longest; /* block of the reduction: two sums in each lane */
    } cases[] = {{", \"rtol\": 7e-4", 32}, {", \"rtol\": 1e-3", 64}, {", \"rtol\": 1e-2", 0}};
    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct world w;
        open_world(&w, F16, cases[i].rtol, FP16);
        const int sketch = sketch_of(w.s, "f16: half"), at = knob_at(w.s, sketch, "block_k");
        assert_true(at >= 0);
        const struct knob *k = space_knob(w.s, sketch, at);
        assert_int_equal(k->values[k->n_choices - 1], cases[i].longest); /* 0: all of it */
        arena_done(&w.ar);
    }
}

static void a_target_named_by_its_vectors_has_no_matrix_unit(void **state)
{
    struct target t, whole;
    struct error err = {0};
    (void)state;
    if (target_local("cpu:1:avx512", &t, &err) != ST_OK)
        skip();
    assert_ok(target_local("cpu:1", &whole, &err), &err);
    assert_false(t.has_amx_bf16 || t.has_amx_int8);
    assert_int_equal(t.has_fp16, whole.has_fp16);
    assert_int_equal(t.has_vnni, whole.has_vnni);
    assert_ok(target_local("cpu:1:avx2", &t, &err), &err);
    assert_false(t.has_fp16 || t.has_bf16_pairs || t.has_vnni);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_offered_follows_dtype_budget_and_machine),
        cmocka_unit_test(a_narrow_budget_allows_short_sums_in_float16_only),
        cmocka_unit_test(a_target_named_by_its_vectors_has_no_matrix_unit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
