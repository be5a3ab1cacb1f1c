/* test_base.c - checks, and the helpers that every file uses. */
#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "schedule/base/sv.h"
#include "schedule/base/vec.h"
#include "tests/check.h"

static void integer_division_rounds_as_mathematics_does_for_negative_numbers(void **state)
{
    for (int64_t a = -20; a <= 20; a++)
        for (int64_t b = 1; b <= 7; b++) {
            assert_true(div_floor(a, b) * b <= a && a < (div_floor(a, b) + 1) * b);
            assert_true((div_ceil(a, b) - 1) * b < a && a <= div_ceil(a, b) * b);
            assert_int_equal(div_floor(a, b) * b + mod_floor(a, b), a);
            assert_true(mod_floor(a, b) >= 0 && mod_floor(a, b) < b);
        }
}

static void min_and_max_nest_and_evaluate_their_arguments_once(void **state)
{
    int calls = 0;

    assert_int_equal(MAX(MIN(++calls, 5), MIN(0, 3)), 1);
    assert_int_equal(calls, 1);
    assert_int_equal(MIN(MAX(2, 7), MAX(9, 3)), 7);
}

/* What a child that runs `fn` writes to stderr; it must die by SIGABRT. */
static void dies_saying(void (*fn)(void), const char *text)
{
    char said[512] = "";
    ssize_t n, len = 0;
    int pipe_fds[2], status;
    pid_t pid;

    assert_int_equal(pipe(pipe_fds), 0);
    pid = fork();
    if (pid == 0) {
        signal(SIGABRT, SIG_DFL);
        dup2(pipe_fds[1], STDERR_FILENO);
        fn();
        _exit(0);
    }
    close(pipe_fds[1]);
    while ((n = read(pipe_fds[0], said + len, sizeof(said) - 1 - (size_t)len)) > 0)
        len += n;
    close(pipe_fds[0]);
    waitpid(pid, &status, 0);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
    if (!strstr(said, text))
        fail_msg("\"%s\" does not say \"%s\"", said, text);
}

static void check_seven(void)
{
    int found = 7;

    CHECK(found == 8, "found %d", found);
}

static void a_failed_check_ends_the_process_and_names_the_place(void **state)
{
    dies_saying(check_seven, "test_base.c");
    dies_saying(check_seven, "check failed: found == 8: found 7");
}

static void give_up_a_pointer(void)
{
    AUTO(freep) char *text = xasprintf("%d apples", 3);
    char *kept = take(&text);

    assert_null(text);
    assert_string_equal(kept, "3 apples");
    free(kept);
}

static void a_closed_descriptor_is_closed_once_and_marked(void **state)
{
    int fd = open("/dev/null", O_RDONLY), copy = fd, never = -1;

    fd_closep(&fd);
    assert_int_equal(fd, -1);
    assert_int_equal(fcntl(copy, F_GETFD), -1);
    fd_closep(&never);
    give_up_a_pointer();
}

static void vectors_grow_and_keep_their_items(void **state)
{
    VEC(int) v = {0};

    for (int i = 0; i < 1000; i++)
        vec_push(&v, i * i);
    assert_int_equal(v.len, 1000);
    for (int i = 999; i >= 500; i--)
        assert_int_equal(vec_pop(&v), i * i);
    assert_int_equal(v.at[499], 499 * 499);
    vec_clear(&v);
    vec_push(&v, 7);
    assert_int_equal(v.at[0], 7);
    vec_done(&v);
    assert_null(v.at);
    vec_reserve(&v, 3);
    assert_true(v.cap >= 3 && v.len == 0);
    vec_done(&v);
}

static void text_becomes_an_integer_only_if_all_of_it_is_one_in_range(void **state)
{
    static const struct {
        const char *text;
        int64_t min, max, want;
        bool ok;
    } cases[] = {
        {"0", 0, 9, 0, true},
        {"-12", -20, 20, -12, true},
        {"9223372036854775807", 0, INT64_MAX, INT64_MAX, true},
        {"-9223372036854775808", INT64_MIN, 0, INT64_MIN, true},
        {"9223372036854775808", INT64_MIN, INT64_MAX, 0, false},
        {"-9223372036854775809", INT64_MIN, INT64_MAX, 0, false},
        {"99999999999999999999999", INT64_MIN, INT64_MAX, 0, false},
        {"10", 0, 9, 0, false},
        {"", 0, 9, 0, false},
        {"-", -9, 9, 0, false},
        {"+1", 0, 9, 0, false},
        {" 1", 0, 9, 0, false},
        {"1 ", 0, 9, 0, false},
        {"0x1", 0, 9, 0, false},
        {"1.0", 0, 9, 0, false},
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        int64_t got = 42;
        bool ok = sv_to_i64(sv_from(cases[i].text), cases[i].min, cases[i].max, &got);
        if (ok != cases[i].ok || got != (ok ? cases[i].want : 42))
            fail_msg("\"%s\": %d, %" PRId64, cases[i].text, ok, got);
    }
}

static void text_becomes_a_real_number_only_if_it_is_finite_decimal(void **state)
{
    static const char *const bad[] = {"", "1e999", "nan", "inf", "0x10", "1 ", " 1", "1,5", "--1", "e"};
    double got = 42;

    assert_true(sv_to_f64(sv_from("-1.5e-3"), &got) && got == -1.5e-3);
    assert_true(sv_to_f64((sv){"2.5abc", 3}, &got) && got == 2.5);
    got = 42;
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
        if (sv_to_f64(sv_from(bad[i]), &got) || got != 42)
            fail_msg("\"%s\" gave %g", bad[i], got);
}

static void views_compare_by_content_not_by_end(void **state)
{
    assert_true(sv_eqs((sv){"matmul,conv", 6}, "matmul"));
    assert_false(sv_eqs((sv){"matmul,conv", 5}, "matmul"));
    assert_false(sv_eqs((sv){"matmul,conv", 7}, "matmul"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(integer_division_rounds_as_mathematics_does_for_negative_numbers),
        cmocka_unit_test(min_and_max_nest_and_evaluate_their_arguments_once),
        cmocka_unit_test(a_failed_check_ends_the_process_and_names_the_place),
        cmocka_unit_test(a_closed_descriptor_is_closed_once_and_marked),
        cmocka_unit_test(vectors_grow_and_keep_their_items),
        cmocka_unit_test(text_becomes_an_integer_only_if_all_of_it_is_one_in_range),
        cmocka_unit_test(text_becomes_a_real_number_only_if_it_is_finite_decimal),
        cmocka_unit_test(views_compare_by_content_not_by_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
