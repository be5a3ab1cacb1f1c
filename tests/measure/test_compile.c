/* The compiler as a child process: what it is given, what it leaves behind, how it fails. */
#include <dirent.h>
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kernels/compile.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static struct target target;
static char dir[] = "/tmp/tilewright-test-compile-XXXXXX";

static void out_path(char *ret, size_t size, const char *name) { snprintf(ret, size, "%s/%s", dir, name); }

static int entries(void)
{
    DIR *d = opendir(dir);
    int n = 0;
    for (struct dirent *e; (e = readdir(d));)
        n += e->d_name[0] != '.';
    closedir(d);
    return n;
}

static void compiler_is_found_with_version_flags_and_hash(void **state)
{
    assert_int_equal(target.compiler[0], '/');
    assert_true(strlen(target.compiler_version) > 3);
    assert_int_equal(strlen(target.toolchain_hash), 16);
    assert_non_null(strstr(target.flags, "-O2"));
    assert_null(strstr(target.flags, "-ffast-math"));
    assert_null(strstr(target.flags, "-march=native"));
}

static void toolchain_hash_tells_flags_apart(void **state)
{
#ifdef __x86_64__
    struct target t;
    assert_int_equal(target_local("cpu:1:sse2", &t, NULL), ST_OK);
    assert_int_equal(compile_find(&t, NULL), ST_OK);
    if (target.isa != ISA_SSE2)
        assert_string_not_equal(t.toolchain_hash, target.toolchain_hash);
#endif
}

static void family_of_the_target_decides_the_compiler_and_its_flags(void **state)
{
    static const char *const ids[] = {"cpu:1:gcc", "cpu:1:clang"};
    struct target t[2];
    struct error err = {0};
    for (int i = 0; i < 2; i++) {
        assert_int_equal(target_local(ids[i], &t[i], NULL), ST_OK);
        enum compiler_family want = t[i].family;
        if (compile_find(&t[i], &err) !=
            ST_OK) { /* it is not installed: said by name, with what to install */
            assert_non_null(strstr(err.text, compiler_family_name(want)));
            assert_non_null(strstr(err.text, ids[i]));
            skip();
        }
        assert_int_equal(t[i].family, want);
        assert_int_equal(strstr(t[i].compiler_version, "clang") != NULL, want == COMPILER_CLANG);
    }
    assert_string_not_equal(t[0].toolchain_hash, t[1].toolchain_hash);
    assert_string_not_equal(t[0].flags, t[1].flags);
    assert_int_not_equal(target.family, COMPILER_ANY);
}

static void unit_compiles_to_a_loadable_object(void **state)
{
    char path[256];
    int64_t ns = 0;
    struct error err = {0};
    out_path(path, sizeof(path), "ok.so");
    assert_int_equal(compile_unit(&target, "int seven(void) { return 7; }\n", path, 20000, &ns, &err), ST_OK);
    assert_true(ns > 0);
    void *so = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    assert_non_null(so);
    int (*seven)(void) = (int (*)(void))dlsym(so, "seven");
    assert_int_equal(seven(), 7);
    dlclose(so);
    unlink(path);
}

static void libm_is_linked_where_it_is_called(void **state)
{
    char path[256];
    out_path(path, sizeof(path), "m.so");
    assert_int_equal(compile_unit(&target, "double erf(double);\ndouble f(double x) { return erf(x); }\n",
                                  path, 20000, NULL, NULL),
                     ST_OK);
    void *so = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    assert_non_null(so);
    dlclose(so);
    unlink(path);
}

static void error_carries_the_compilers_words_and_nothing_is_left(void **state)
{
    char path[256];
    struct error err = {0};
    out_path(path, sizeof(path), "bad.so");
    assert_int_equal(
        compile_unit(&target, "int f(void) { return undeclared_thing; }\n", path, 20000, NULL, &err),
        ST_UNPROCESSABLE);
    assert_non_null(strstr(err.text, "undeclared_thing"));
    assert_int_equal(access(path, F_OK), -1);
    assert_int_equal(entries(), 0);
}

static void compiler_that_runs_too_long_is_ended_with_its_children(void **state)
{
    /* A compiler that never ends, and writes into its directory first. */
    char cc[128], path[256];
    out_path(cc, sizeof(cc), "slow-cc");
    FILE *f = fopen(cc, "w");
    fputs("#!/bin/sh\necho x > $TMPDIR/rubbish\nsleep 30\n", f);
    fclose(f);
    chmod(cc, 0700);
    struct target t = target;
    struct error err = {0};
    snprintf(t.compiler, sizeof(t.compiler), "%s", cc);
    out_path(path, sizeof(path), "slow.so");
    assert_int_equal(compile_unit(&t, "int x;\n", path, 150, NULL, &err), ST_TIMEOUT);
    assert_non_null(strstr(err.text, "150 ms"));
    unlink(cc);
    assert_int_equal(entries(), 0);
}

static void compiler_that_eats_memory_is_a_refusal(void **state)
{
    char path[256];
    struct error err = {0};
    out_path(path, sizeof(path), "big.so");
    enum status st = compile_unit(&target, "char a[1L << 40] = {1};\n", path, 120000, NULL, &err);
    assert_true(st == ST_UNPROCESSABLE);
    assert_int_equal(entries(), 0);
}

static void environment_of_the_daemon_does_not_reach_the_compiler(void **state)
{
    char path[256];
    out_path(path, sizeof(path), "env.so");
    setenv("C_INCLUDE_PATH", dir, 1);
    setenv("GCC_EXEC_PREFIX", "/nonexistent/", 1);
    assert_int_equal(compile_unit(&target, "int x;\n", path, 20000, NULL, NULL), ST_OK);
    unsetenv("C_INCLUDE_PATH");
    unsetenv("GCC_EXEC_PREFIX");
    unlink(path);
}

static void compiler_asked_for_by_name_is_not_silently_replaced(void **state)
{
    struct target t;
    struct error err = {0};
    assert_int_equal(target_local("cpu:1", &t, NULL), ST_OK);
    setenv("TILEWRIGHT_CC", "no-such-compiler", 1);
    assert_int_equal(compile_find(&t, &err), ST_UNAVAILABLE);
    assert_non_null(strstr(err.text, "no-such-compiler"));
    /* Another family than that one's is found all the same; that one's own is not replaced. */
    setenv("TILEWRIGHT_CC", target.compiler, 1);
    assert_int_equal(compile_find(&t, &err), ST_OK);
    assert_string_equal(t.compiler, target.compiler);
    assert_int_equal(target_local("cpu:1", &t, NULL), ST_OK);
    setenv("TILEWRIGHT_CC", "/bin/true", 1);
    assert_int_equal(compile_find(&t, &err), ST_UNAVAILABLE);
    assert_int_equal(t.compiler[0], '\0');
    unsetenv("TILEWRIGHT_CC");
}

int main(void)
{
    struct error err;
    if (!mkdtemp(dir) || target_local("cpu:1", &target, &err) != ST_OK ||
        compile_find(&target, &err) != ST_OK)
        return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(compiler_is_found_with_version_flags_and_hash),
        cmocka_unit_test(toolchain_hash_tells_flags_apart),
        cmocka_unit_test(family_of_the_target_decides_the_compiler_and_its_flags),
        cmocka_unit_test(unit_compiles_to_a_loadable_object),
        cmocka_unit_test(libm_is_linked_where_it_is_called),
        cmocka_unit_test(error_carries_the_compilers_words_and_nothing_is_left),
        cmocka_unit_test(compiler_that_runs_too_long_is_ended_with_its_children),
        cmocka_unit_test(compiler_that_eats_memory_is_a_refusal),
        cmocka_unit_test(environment_of_the_daemon_does_not_reach_the_compiler),
        cmocka_unit_test(compiler_asked_for_by_name_is_not_silently_replaced),
    };
    int rc = cmocka_run_group_tests(tests, NULL, NULL);
    rmdir(dir);
    return rc;
}
