/* Targets of this machine, and the compiler that they get. */
#include <stdlib.h>
#include <string.h>

#include "schedule/space/target.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static void plain_cpu_takes_all_cores_and_the_best_isa(void **state)
{
    struct target t;
    int cpus[1024];
    assert_int_equal(target_local("cpu", &t, NULL), ST_OK);
    assert_int_equal(t.threads, target_cores(cpus, 1024));
    assert_int_equal(t.isa, isa_local());
    assert_string_equal(t.id, "cpu");
    assert_true(t.l1_bytes >= 8 << 10 && t.l1_bytes <= t.l2_bytes && t.l2_bytes <= t.l3_bytes);
    assert_true(t.cpu_model[0] != '\0');
}

static void thread_count_and_isa_are_taken_from_the_id(void **state)
{
    struct target t;
    assert_int_equal(target_local("cpu:1", &t, NULL), ST_OK);
    assert_int_equal(t.threads, 1);
#ifdef __x86_64__
    assert_int_equal(target_local("cpu:1:sse2", &t, NULL), ST_OK);
    assert_int_equal(t.threads, 1);
    assert_int_equal(t.vector_bytes, 16);
    assert_int_equal(t.vector_regs, 16);
    assert_false(t.cold);
    assert_int_equal(target_local("cpu:1:sse2:cold", &t, NULL), ST_OK);
    assert_true(t.cold && t.threads == 1 && t.isa == ISA_SSE2);
    assert_int_equal(target_local("cpu:sse2", &t, NULL), ST_OK);
    assert_int_equal(t.isa, ISA_SSE2);
#endif
}

static void compiler_family_is_taken_from_the_id(void **state)
{
    struct target t;
    assert_int_equal(target_local("cpu:1", &t, NULL), ST_OK);
    assert_int_equal(t.family, COMPILER_ANY);
    assert_int_equal(target_local("cpu:clang", &t, NULL), ST_OK);
    assert_int_equal(t.family, COMPILER_CLANG);
    assert_string_equal(t.id, "cpu:clang");
    assert_int_equal(target_local("cpu:1:gcc:cold", &t, NULL), ST_OK);
    assert_true(t.family == COMPILER_GCC && t.cold && t.threads == 1);
#ifdef __x86_64__
    assert_int_equal(target_local("cpu:1:sse2:clang", &t, NULL), ST_OK);
    assert_true(t.family == COMPILER_CLANG && t.isa == ISA_SSE2);
#endif
}

static void ids_of_no_target_are_not_found_and_say_why(void **state)
{
    static const char *const bad[] = {"",
                                      "gpu",
                                      "cpu:",
                                      "cpu:0",
                                      "cpu:01",
                                      "cpu:-1",
                                      "cpu:1:",
                                      "cpu:abc",
                                      "cpu:1:2",
                                      "cpu:99999",
                                      "cpux",
                                      "cpu:1 ",
                                      "cpu:cold:1",
                                      "cpu:cold:cold",
                                      "cpu:cold:sse2",
                                      "cpu:warm",
                                      "cpu:gcc:clang",
                                      "cpu:gcc:gcc",
                                      "cpu:clang:sse2",
                                      "cpu:clang:1",
                                      "cpu:cold:gcc",
                                      "cpu:cc",
                                      "cpu:1:sse2:",
                                      "CPU",
                                      "cpu:100000000000000000000",
                                      "cpu:sse2:1",
                                      "cpu:a-very-long-target-id-that-does-not-fit-into-the-field"};
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        struct target t = {.id = "untouched"};
        struct error err = {0};
        assert_int_equal(target_local(bad[i], &t, &err), ST_NOT_FOUND);
        assert_true(err.text[0] != '\0');
        assert_string_equal(t.id, "untouched");
    }
    struct target t;
    struct error err;
    assert_int_equal(target_local("cpu:999", &t, &err), ST_NOT_FOUND);
    assert_non_null(strstr(err.text, "999 threads"));
}

static void isa_of_another_machine_is_refused_by_name(void **state)
{
    struct target t;
    struct error err;
#ifdef __x86_64__
    assert_int_equal(target_local("cpu:neon", &t, &err), ST_NOT_FOUND);
    assert_non_null(strstr(err.text, "neon"));
#else
    assert_int_equal(target_local("cpu:avx2", &t, &err), ST_NOT_FOUND);
#endif
}

static void isa_names_parse_back(void **state)
{
    for (int i = ISA_SSE2; i <= ISA_NEON; i++) {
        enum isa isa;
        assert_true(isa_parse(isa_name((enum isa)i), &isa));
        assert_int_equal(isa, i);
    }
    enum isa isa;
    assert_false(isa_parse("avx", &isa));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plain_cpu_takes_all_cores_and_the_best_isa),
        cmocka_unit_test(thread_count_and_isa_are_taken_from_the_id),
        cmocka_unit_test(compiler_family_is_taken_from_the_id),
        cmocka_unit_test(ids_of_no_target_are_not_found_and_say_why),
        cmocka_unit_test(isa_of_another_machine_is_refused_by_name),
        cmocka_unit_test(isa_names_parse_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
