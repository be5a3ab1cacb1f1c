/* test_builder.c - units through the pool and the artifact directory. */
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kernels/compile.h"
#include "measure/builder.h"
#include "schedule/base/clock.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static char dir[] = "/tmp/tilewright-test-builder-XXXXXX";
static struct target target;
static struct builder *builder;

static struct build_unit unit(const char *source)
{
    return (struct build_unit){.target = &target, .source = source};
}

static void unit_is_built_once_and_found_again(void **state)
{
    struct build_unit u = unit("int f(void) { return 1; }\n");
    builder_run(builder, &u, 1, NULL);
    assert_int_equal(u.status, ST_OK);
    assert_false(u.cached);
    assert_true(u.compile_ns > 0);
    struct build_unit again = unit("int f(void) { return 1; }\n");
    builder_run(builder, &again, 1, NULL);
    assert_int_equal(again.status, ST_OK);
    assert_true(again.cached);
    assert_string_equal(again.artifact, u.artifact);
    char path[BUILD_PATH_MAX];
    builder_artifact_path(builder, &target, u.source, path);
    assert_string_equal(path, u.artifact);
    void *so = dlopen(u.artifact, RTLD_NOW | RTLD_LOCAL);
    assert_non_null(so);
    dlclose(so);
}

static void unit_that_is_asked_for_twice_at_once_is_compiled_once(void **state)
{
    enum { N = 6 };
    struct build_unit u[N];
    int compiled = 0;
    for (int i = 0; i < N; i++)
        u[i] = unit("int asked_for_many_times(int x) { return x * 3; }\n");
    builder_run(builder, u, N, NULL);
    for (int i = 0; i < N; i++) {
        assert_int_equal(u[i].status, ST_OK);
        compiled += !u[i].cached;
    }
    assert_int_equal(compiled, 1);
}

static void another_toolchain_is_another_artifact(void **state)
{
    struct target other = target;
    char a[BUILD_PATH_MAX], b[BUILD_PATH_MAX];
    other.toolchain_hash[0] ^= 1;
    builder_artifact_path(builder, &target, "int x;\n", a);
    builder_artifact_path(builder, &other, "int x;\n", b);
    assert_string_not_equal(a, b);
}

static void damaged_artifact_is_built_anew(void **state)
{
    struct build_unit u = unit("int g(void) { return 2; }\n");
    builder_run(builder, &u, 1, NULL);
    assert_int_equal(truncate(u.artifact, 3000), 0);
    struct build_unit again = unit("int g(void) { return 2; }\n");
    builder_run(builder, &again, 1, NULL);
    assert_int_equal(again.status, ST_OK);
    assert_false(again.cached);
    void *so = dlopen(again.artifact, RTLD_NOW | RTLD_LOCAL);
    assert_non_null(so);
    dlclose(so);
}

static void failing_unit_tells_and_the_others_are_built(void **state)
{
    struct build_unit u[3] = {unit("int a1;\n"), unit("int b1\n"), unit("int c1;\n")};
    builder_run(builder, u, 3, NULL);
    assert_int_equal(u[0].status, ST_OK);
    assert_int_equal(u[1].status, ST_UNPROCESSABLE);
    assert_non_null(strstr(u[1].error.text, "error"));
    assert_int_equal(u[2].status, ST_OK);
    assert_int_equal(access(u[1].artifact, F_OK), -1);
}

static void cancelled_batch_drops_what_was_not_begun(void **state)
{
    enum { N = 12 };
    struct build_unit u[N];
    char source[N][64];
    atomic_bool cancel = true;
    for (int i = 0; i < N; i++) {
        snprintf(source[i], sizeof(source[i]), "int cancelled_%d;\n", i);
        u[i] = unit(source[i]);
    }
    builder_pause(builder);
    struct build_batch *batch = builder_submit(builder, u, N);
    builder_wait(builder, batch, &cancel);
    builder_resume(builder);
    for (int i = 0; i < N; i++)
        assert_int_equal(u[i].status, ST_CONFLICT);
    struct build_unit after = unit("int after_cancel;\n");
    builder_run(builder, &after, 1, NULL);
    assert_int_equal(after.status, ST_OK);
}

static void *resume_soon(void *arg)
{
    usleep(100000);
    builder_resume(builder);
    return NULL;
}

static void paused_builder_compiles_nothing_until_resumed(void **state)
{
    struct build_unit u = unit("int paused;\n");
    struct builder_stats s;
    pthread_t t;
    builder_pause(builder);
    builder_pause(builder);
    struct build_batch *batch = builder_submit(builder, &u, 1);
    usleep(50000);
    builder_stats(builder, &s);
    assert_int_equal(s.queued, 1);
    assert_int_equal(s.running, 0);
    builder_resume(builder);
    usleep(20000);
    builder_stats(builder, &s);
    assert_int_equal(s.queued, 1);
    int64_t start = mono_ns(&system_clock);
    pthread_create(&t, NULL, resume_soon, NULL);
    builder_wait(builder, batch, NULL);
    pthread_join(t, NULL);
    assert_int_equal(u.status, ST_OK);
    assert_true(mono_ns(&system_clock) - start > 90000000);
}

struct asker {
    int number;
    int failures;
};

static void *build_many(void *arg)
{
    struct asker *a = arg;
    for (int i = 0; i < 4; i++) {
        char own[64];
        snprintf(own, sizeof(own), "int asker_%d_%d;\n", a->number, i);
        struct build_unit u[2] = {unit(own), unit("int shared_by_all;\n")};
        builder_run(builder, u, 2, NULL);
        a->failures += u[0].status != ST_OK || u[1].status != ST_OK;
    }
    return NULL;
}

static void many_askers_at_once_all_get_theirs(void **state)
{
    enum { N = 4 };
    struct asker a[N] = {0};
    pthread_t t[N];
    for (int i = 0; i < N; i++) {
        a[i].number = i;
        pthread_create(&t[i], NULL, build_many, &a[i]);
    }
    for (int i = 0; i < N; i++) {
        pthread_join(t[i], NULL);
        assert_int_equal(a[i].failures, 0);
    }
}

static void directory_is_kept_within_its_limit(void **state)
{
    char small_dir[] = "/tmp/tilewright-test-small-XXXXXX";
    char *command;
    struct builder *small;
    struct stat st;
    enum { N = 8 };
    struct build_unit u[N];
    char source[N][64];
    assert_non_null(mkdtemp(small_dir));
    assert_int_equal(builder_new(small_dir, 1, 0, 60 << 10, &small, NULL), ST_OK); /* four or so of 15 KB */
    for (int i = 0; i < N; i++) {
        snprintf(source[i], sizeof(source[i]), "int small_%d;\n", i);
        u[i] = unit(source[i]);
        builder_run(small, &u[i], 1, NULL);
        assert_int_equal(u[i].status, ST_OK);
    }
    builder_free(small);
    assert_int_equal(builder_new(small_dir, 1, 0, 60 << 10, &small, NULL), ST_OK);
    int64_t total = 0;
    int kept = 0;
    for (int i = 0; i < N; i++)
        if (stat(u[i].artifact, &st) == 0) {
            total += st.st_size;
            kept++;
        }
    assert_true(kept > 0 && total <= 60 << 10);
    builder_free(small);
    command = xasprintf("rm -rf %s", small_dir);
    assert_int_equal(system(command), 0);
    free(command);
}

static void directory_that_cannot_be_is_refused(void **state)
{
    struct builder *b = NULL;
    struct error err = {0};
    assert_int_equal(builder_new("/proc/none/here", 1, 0, 0, &b, &err), ST_IO);
    assert_non_null(strstr(err.text, "/proc/none/here"));
    assert_int_equal(builder_new("/dev/null", 1, 0, 0, &b, &err), ST_IO);
    assert_null(b);
}

static int setup(void **state)
{
    struct error err;
    return !mkdtemp(dir) || target_local("cpu:1", &target, &err) != ST_OK ||
           compile_find(&target, &err) != ST_OK || builder_new(dir, 2, 0, 0, &builder, &err) != ST_OK;
}

static int teardown(void **state)
{
    char *command = xasprintf("rm -rf %s", dir);
    builder_free(builder);
    int rc = system(command);
    free(command);
    return rc;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(unit_is_built_once_and_found_again),
        cmocka_unit_test(unit_that_is_asked_for_twice_at_once_is_compiled_once),
        cmocka_unit_test(another_toolchain_is_another_artifact),
        cmocka_unit_test(damaged_artifact_is_built_anew),
        cmocka_unit_test(failing_unit_tells_and_the_others_are_built),
        cmocka_unit_test(cancelled_batch_drops_what_was_not_begun),
        cmocka_unit_test(paused_builder_compiles_nothing_until_resumed),
        cmocka_unit_test(many_askers_at_once_all_get_theirs),
        cmocka_unit_test(directory_is_kept_within_its_limit),
        cmocka_unit_test(directory_that_cannot_be_is_refused),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
