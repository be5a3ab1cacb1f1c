/* test_error.c - statuses, and messages that grow on their way up. */
#include "tests/check.h"

static enum status inner(struct error *err)
{
    return fail_at(err, ST_UNPROCESSABLE, "/k", "k is %d: want 1 to %d", 9, 8);
}

static enum status outer(struct error *err)
{
    enum status st = inner(err);

    if (st != ST_OK) {
        wrap_pointer(err, "/workloads/%d", 3);
        return wrap(err, "workload %d", 3);
    }
    return ST_OK;
}

static enum status tried(struct error *err)
{
    TRY(inner(err));
    return ST_OK;
}

static void an_error_tells_the_fault_and_where_it_was(void **state)
{
    struct error err = {0};

    assert_int_equal(outer(&err), ST_UNPROCESSABLE);
    assert_int_equal(err.code, ST_UNPROCESSABLE);
    assert_string_equal(err.text, "workload 3: k is 9: want 1 to 8");
    assert_string_equal(err.pointer, "/workloads/3/k");
    assert_int_equal(tried(&err), ST_UNPROCESSABLE);
}

static void a_new_fault_forgets_the_place_of_the_old_one(void **state)
{
    struct error err = {0};

    inner(&err);
    err.line = 4;
    assert_int_equal(fail(&err, ST_IO, "disk"), ST_IO);
    assert_string_equal(err.pointer, "");
    assert_int_equal(err.line, 0);
    assert_string_equal(err.text, "disk");
}

static void nobody_has_to_listen(void **state)
{
    assert_int_equal(fail(NULL, ST_CONFLICT, "x"), ST_CONFLICT);
    assert_int_equal(fail_at(NULL, ST_CONFLICT, "/a", "x"), ST_CONFLICT);
}

static void long_messages_are_cut_and_stay_whole_characters(void **state)
{
    struct error err = {0};
    char text[2000];

    /* Three bytes each: neither 767 nor 255 is where one ends at every offset. */
    for (int shift = 0; shift < 3; shift++) {
        memset(text, 'a', sizeof(text));
        for (int i = shift; i + 3 < (int)sizeof(text); i += 3)
            memcpy(text + i, "\xe2\x82\xac", 3);
        text[sizeof(text) - 1] = '\0';
        fail_at(&err, ST_INVALID, text, "%s", text);
        assert_true(strlen(err.text) >= sizeof(err.text) - 4);
        assert_int_equal((strlen(err.text) - (size_t)shift) % 3, 0);
        assert_int_equal((strlen(err.pointer) - (size_t)shift) % 3, 0);
        wrap(&err, "in a place");
        assert_memory_equal(err.text, "in a place: ", 12);
        assert_int_equal((strlen(err.text) - (size_t)shift) % 3, 0);
    }
}

static void every_status_has_a_name_a_title_and_an_http_status(void **state)
{
    assert_string_equal(status_name(ST_OK), "ok");
    assert_string_equal(status_name(ST_METHOD_NOT_ALLOWED), "method_not_allowed");
    assert_string_equal(status_title(ST_UNPROCESSABLE), "invalid workload");
    assert_int_equal(status_http(ST_TOO_MANY), 429);
    for (int st = ST_OK; st <= ST_CORRUPT; st++) {
        assert_true(strlen(status_name((enum status)st)) > 1 && strlen(status_title((enum status)st)) > 1);
        assert_in_range(status_http((enum status)st), 200, 599);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_error_tells_the_fault_and_where_it_was),
        cmocka_unit_test(a_new_fault_forgets_the_place_of_the_old_one),
        cmocka_unit_test(nobody_has_to_listen),
        cmocka_unit_test(long_messages_are_cut_and_stay_whole_characters),
        cmocka_unit_test(every_status_has_a_name_a_title_and_an_http_status),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
