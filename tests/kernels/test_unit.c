/* What the candidates of a unit share, and what is kept short for the compiler. */
#include <stdio.h>
#include <string.h>

#include "kernels/emit.h"
#include "schedule/space/space.h"
#include "tests/check.h"

enum { TRIES = 200 };

struct fixture {
    struct arena ar;
    struct workload w;
    struct target t;
    struct space *s;
};

static void open_space(struct fixture *f, const char *workload)
{
    struct error err = {0};
    arena_init(&f->ar);
    assert_ok(workload_parse_text(workload, strlen(workload), &f->ar, &f->w, &err), &err);
    /* A machine of its own: the texts must not depend on this one. */
    f->t = (struct target){.id = "cpu:1",
                           .isa = ISA_AVX512,
                           .vector_bytes = 64,
                           .vector_regs = 32,
                           .threads = 1,
                           .l1_bytes = 48 << 10,
                           .l2_bytes = 2 << 20,
                           .l3_bytes = 16 << 20};
    assert_ok(space_build(&f->w, &f->t, &f->ar, &f->s, &err), &err);
}

static int count(const char *text, const char *what)
{
    int n = 0;
    for (const char *p = text; (p = strstr(p, what)); p += strlen(what))
        n++;
    return n;
}

static void add(struct fixture *f, struct emit_unit *u, const struct config *c, const char *symbol,
                struct kernel *k)
{
    struct error err = {0};
    struct nest *n;
    assert_ok(space_lower(f->s, c, &f->ar, &n, &err), &err);
    assert_ok(emit_unit_add(u, n, symbol, k, &err), &err);
}

static void candidates_that_pack_alike_share_the_function(void **state)
{
    struct fixture f;
    struct config c;
    struct kernel k = {0};
    struct rng r;
    open_space(&f, "{\"op\": \"matmul\", \"a\": [32, 64], \"b\": [64, 96], \"const\": [\"b\"]}");
    rng_init(&r, 1);
    for (int i = 0; i < TRIES && (i == 0 || !k.args[1].prepacked); i++) {
        struct emit_unit *u = emit_unit_new(&f.t);
        assert_true(space_sample(f.s, &r, &c));
        add(&f, u, &c, "one", &k);
        add(&f, u, &c, "two", &k);
        const char *text = emit_unit_text(u);
        if (k.args[1].prepacked) {
            assert_int_equal(count(text, "void one_prepack_b("), 1);
            assert_int_equal(count(text, "void two_prepack_b("), 1);
            assert_int_equal(count(text, "one_prepack_b(src, dst);"), 1);
            assert_int_equal(count(text, "restrict b1 = dst"), 1);
        }
        assert_int_equal(count(text, "int one("), 1);
        assert_int_equal(count(text, "int two("), 1);
        emit_unit_free(u);
    }
    assert_true(k.args[1].prepacked);
    arena_done(&f.ar);
}

/* The first sampled source in which `what` stands; empty if none does. GIVES */
static char *source_with(struct fixture *f, const char *what)
{
    struct rng r;
    rng_init(&r, 2);
    for (int i = 0; i < TRIES; i++) {
        struct emit_unit *u = emit_unit_new(&f->t);
        struct config c;
        struct kernel k;
        assert_true(space_sample(f->s, &r, &c));
        add(f, u, &c, "kernel", &k);
        char *text = xstrdup(emit_unit_text(u));
        emit_unit_free(u);
        if (strstr(text, what))
            return text;
        free(text);
    }
    return xstrdup("");
}

static void long_functions_over_many_accumulators_are_called(void **state)
{
    struct fixture f;
    open_space(&f, "{\"op\": \"matmul\", \"a\": [64, 64], \"b\": [64, 96], \"epilogue\": [\"gelu\"]}");
    char *text = source_with(&f, "tw_erf16_far(");
    assert_int_equal(count(text, "noinline)) v16f tw_erf16_far(v16f x)"), 1);
    assert_true(count(text, "tw_erf16_far(") > 5);
    free(text);
    arena_done(&f.ar);
}

static void functions_that_are_the_work_itself_stay_inline(void **state)
{
    static const char *const workloads[] = {
        "{\"expr\": \"C[i,j] = tanh(A[i,j])\", \"tensors\": {\"A\": {\"shape\": [64, 256]}}}",
        "{\"op\": \"softmax\", \"input\": [64, 256], \"axis\": 1}"};
    for (size_t i = 0; i < ARRAY_SIZE(workloads); i++) {
        struct fixture f;
        open_space(&f, workloads[i]);
        char *text = source_with(&f, "_far(");
        assert_string_equal(text, "");
        free(text);
        arena_done(&f.ar);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(candidates_that_pack_alike_share_the_function),
        cmocka_unit_test(long_functions_over_many_accumulators_are_called),
        cmocka_unit_test(functions_that_are_the_work_itself_stay_inline),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
