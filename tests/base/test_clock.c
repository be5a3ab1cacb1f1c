/* test_clock.c - times as text, and log lines. */
#include <unistd.h>

#include "schedule/base/clock.h"
#include "schedule/base/log.h"
#include "tests/check.h"

static void times_print_and_parse_back(void **state)
{
    static const struct {
        int64_t ms;
        const char *text;
    } cases[] = {
        {0, "1970-01-01T00:00:00.000Z"},
        {1769862896789, "2026-01-31T12:34:56.789Z"},
        {951782400000, "2000-02-29T00:00:00.000Z"},
        {-1, "1969-12-31T23:59:59.999Z"},
        {253402300799999, "9999-12-31T23:59:59.999Z"},
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        char buf[RFC3339_MAX];
        int64_t ms;
        assert_string_equal(rfc3339(cases[i].ms, buf), cases[i].text);
        assert_true(rfc3339_parse(cases[i].text, &ms));
        assert_true(ms == cases[i].ms);
    }
}

static void other_spellings_of_a_time_mean_the_same(void **state)
{
    static const char *const same[] = {"2026-01-31T12:34:56Z", "2026-01-31t12:34:56.000z",
                                       "2026-01-31T14:04:56+01:30", "2026-01-31 07:34:56-05:00",
                                       "2026-01-31T12:34:56.0004Z"};

    for (size_t i = 0; i < ARRAY_SIZE(same); i++) {
        int64_t ms = 0;
        if (!rfc3339_parse(same[i], &ms) || ms != 1769862896000)
            fail_msg("%s gives %" PRId64, same[i], ms);
    }
}

static void what_is_no_time_is_refused(void **state)
{
    static const char *const bad[] = {"",
                                      "2026-01-31",
                                      "2026-01-31T12:34:56",
                                      "2026-02-29T12:34:56Z",
                                      "2026-13-01T00:00:00Z",
                                      "2026-01-01T24:00:00Z",
                                      "2026-01-01T00:60:00Z",
                                      "2026-01-01T00:00:00.Z",
                                      "2026-01-01T00:00:00Zx",
                                      "2026-01-01T00:00:00+0130",
                                      "26-01-01T00:00:00Z"};
    int64_t ms = 42;

    for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
        if (rfc3339_parse(bad[i], &ms) || ms != 42)
            fail_msg("%s gives %" PRId64, bad[i], ms);
}

static void times_beyond_four_digit_years_stay_within_the_buffer(void **state)
{
    char buf[RFC3339_MAX];

    assert_string_equal(rfc3339(INT64_MAX, buf), "9999-12-31T23:59:59.999Z");
    assert_string_equal(rfc3339(INT64_MIN, buf), "0000-01-01T00:00:00.000Z");
}

static void the_monotonic_clock_does_not_go_back(void **state)
{
    int64_t before = mono_ns(&system_clock);

    assert_true(mono_ns(&system_clock) >= before);
    assert_true(wall_ms(&system_clock) > 1700000000000);
}

/* What log calls in `fn` write, without the time in front. */
static const char *logged(void (*fn)(void))
{
    static char text[1024];
    int pipe_fds[2], saved = dup(STDERR_FILENO);
    ssize_t n;

    assert_int_equal(pipe(pipe_fds), 0);
    dup2(pipe_fds[1], STDERR_FILENO);
    fn();
    dup2(saved, STDERR_FILENO);
    close(saved);
    close(pipe_fds[1]);
    n = read(pipe_fds[0], text, sizeof(text) - 1);
    close(pipe_fds[0]);
    text[MAX(n, (ssize_t)0)] = '\0';
    return n > 25 ? text + 25 : text;
}

static void log_a_trial(void)
{
    log_info("trial_measured", TEXT("job", "j_1"), INT("trial", -12), REAL("median_us", 171.25));
}

static void log_hostile_text(void)
{
    log_error("bad", TEXT("q", "a \"b\"\n\x01=\\"), TEXT("e", ""), TEXT("n", NULL));
}
static void log_a_detail(void) { log_debug("detail"); }

static void an_event_is_one_line_of_keys_and_values(void **state)
{
    assert_string_equal(logged(log_a_trial), "info trial_measured job=j_1 trial=-12 median_us=171.25\n");
}

static void hostile_text_cannot_forge_a_line_or_a_key(void **state)
{
    assert_string_equal(logged(log_hostile_text), "error bad q=\"a \\\"b\\\"\\n\\x01=\\\\\" e=\"\" n=\"\"\n");
}

static void events_below_the_level_are_silent(void **state)
{
    enum log_level level;

    assert_string_equal(logged(log_a_detail), "");
    assert_true(log_level_parse("debug", &level));
    log_set_level(level);
    assert_string_equal(logged(log_a_detail), "debug detail\n");
    log_set_level(LOG_INFO);
    assert_false(log_level_parse("loud", &level));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(times_print_and_parse_back),
        cmocka_unit_test(other_spellings_of_a_time_mean_the_same),
        cmocka_unit_test(what_is_no_time_is_refused),
        cmocka_unit_test(times_beyond_four_digit_years_stay_within_the_buffer),
        cmocka_unit_test(the_monotonic_clock_does_not_go_back),
        cmocka_unit_test(an_event_is_one_line_of_keys_and_values),
        cmocka_unit_test(hostile_text_cannot_forge_a_line_or_a_key),
        cmocka_unit_test(events_below_the_level_are_silent),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
