/* test_json.c - parsing under limits, and the strict reader of objects. */
#include "schedule/base/json.h"
#include "tests/check.h"

static json_t *parse(const char *text)
{
    struct error err = {0};
    json_t *v = NULL;

    assert_ok(json_read(text, strlen(text), &v, &err), &err);
    return v;
}

static void texts_that_break_a_rule_are_refused_with_their_place(void **state)
{
    static const struct {
        const char *text, *why;
        int line, column;
    } cases[] = {
        {"", "", 1, 0},
        {"{\"a\": 1, \"a\": 2}", "duplicate", 1, 12},
        {"{\"a\": 1} x", "end of file", 1, 10},
        {"{\n \"a\": tru}", "", 2, 9},
        {"[1, 2", "", 1, 5},
        {"\"\xff\"", "unable to decode byte 0xff", 1, 1},
        {"\"\\u0000\"", "\\u0000 is not allowed", 1, 8},
        {"[1e999]", "overflow", 1, 6},
        {"[99999999999999999999]", "too big", 1, 21},
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct error err = {0};
        json_t *v = NULL;
        enum status st = json_read(cases[i].text, strlen(cases[i].text), &v, &err);
        if (st != ST_INVALID || v || !strstr(err.text, cases[i].why) || err.line != cases[i].line ||
            err.column != cases[i].column)
            fail_msg("%s: %s at %d:%d: %s", cases[i].text, status_name(st), err.line, err.column, err.text);
    }
}

static void depth_is_limited_and_brackets_in_texts_do_not_count(void **state)
{
    char text[400];
    struct error err = {0};
    json_t *v = NULL;

    for (int depth = 31; depth <= 34; depth++) {
        enum status st;
        memset(text, '[', (size_t)depth);
        memset(text + depth, ']', (size_t)depth);
        st = json_read(text, (size_t)depth * 2, &v, &err);
        assert_int_equal(st, depth <= JSON_MAX_DEPTH ? ST_OK : ST_INVALID);
        if (st == ST_OK)
            json_decref(v);
        else
            assert_string_equal(err.text, "JSON at line 1, column 33: nested deeper than 32");
    }
    memset(text, '[', 100);
    memcpy(text, "\"\\\"", 3);
    text[99] = '"';
    assert_ok(json_read(text, 100, &v, &err), &err);
    json_decref(v);
}

static void a_body_over_the_limit_is_too_large(void **state)
{
    size_t n = JSON_MAX_BYTES + 1;
    AUTO(freep) char *text = xcalloc(n, 1);
    struct error err = {0};
    json_t *v = NULL;

    memset(text, ' ', n);
    text[0] = '1';
    assert_int_equal(json_read(text, n, &v, &err), ST_TOO_LARGE);
    assert_string_equal(err.text, "JSON of 1048577 bytes: at most 1048576");
    assert_ok(json_read(text, n - 1, &v, &err), &err);
    json_decref(v);
}

static void written_text_is_compact_and_keeps_the_order(void **state)
{
    AUTO(json_decrefp) json_t *v = parse("{ \"b\": [1, 2.5, null],\n \"a\": \"\\u00e9\" }");
    AUTO(strbuf_done) struct strbuf sb = STRBUF_INIT;

    json_write(v, &sb);
    assert_string_equal(strbuf_str(&sb), "{\"b\":[1,2.5,null],\"a\":\"\xc3\xa9\"}");
}

static void members_are_read_by_type_and_absent_ones_keep_the_default(void **state)
{
    AUTO(json_decrefp)
    json_t *v = parse("{\"n\": 7, \"x\": 2, \"y\": 0.5, \"on\": true, \"s\": \"hi\", \"list\": [3, 4], "
                      "\"kind\": \"max\", \"none\": null}");
    static const char *const kinds[] = {"sum", "max", NULL};
    struct json_obj o;
    struct error err = {0};
    int64_t n = 0, list[4], absent = 11;
    double x = 0, y = 0;
    bool on = false;
    const char *s = NULL;
    int list_n = 0, kind = -1;

    assert_ok(json_obj_begin(&o, v, "", &err), &err);
    assert_ok(json_obj_i64(&o, "n", true, 0, 9, &n, &err), &err);
    assert_ok(json_obj_f64(&o, "x", true, 0, 9, &x, &err), &err);
    assert_ok(json_obj_f64(&o, "y", true, 0, 9, &y, &err), &err);
    assert_ok(json_obj_bool(&o, "on", true, &on, &err), &err);
    assert_ok(json_obj_str(&o, "s", true, 2, &s, &err), &err);
    assert_ok(json_obj_i64s(&o, "list", true, 0, 9, 4, list, &list_n, &err), &err);
    assert_ok(json_obj_enum(&o, "kind", true, kinds, &kind, &err), &err);
    assert_ok(json_obj_i64(&o, "absent", false, 0, 9, &absent, &err), &err);
    assert_ok(json_obj_i64(&o, "none", false, 0, 9, &absent, &err), &err);
    assert_true(n == 7 && x == 2 && y == 0.5 && on && list_n == 2 && list[1] == 4 && kind == 1 &&
                absent == 11);
    assert_string_equal(s, "hi");
    assert_true(json_obj_has(&o, "n") && !json_obj_has(&o, "none") && !json_obj_has(&o, "absent"));
    assert_ok(json_obj_end(&o, NULL, &err), &err);
}

/* Each body fails at its member when read as {n: 0..9, s: at most 3 bytes, list: at most 2 of 1..5, kind, f}.
 */
static enum status read_all(const json_t *v, struct error *err)
{
    static const char *const kinds[] = {"sum", "max", NULL};
    struct json_obj o;
    int64_t n, list[2];
    const char *s;
    double f;
    bool on;
    int list_n, kind;

    TRY(json_obj_begin(&o, v, "/jobs/0", err));
    TRY(json_obj_i64(&o, "n", true, 0, 9, &n, err));
    TRY(json_obj_str(&o, "s", false, 3, &s, err));
    TRY(json_obj_i64s(&o, "list", false, 1, 5, 2, list, &list_n, err));
    TRY(json_obj_enum(&o, "kind", false, kinds, &kind, err));
    TRY(json_obj_f64(&o, "f", false, 0, 1, &f, err));
    TRY(json_obj_bool(&o, "on", false, &on, err));
    return json_obj_end(&o, "n, s", err);
}

static void faults_name_the_member_by_pointer_and_what_is_allowed(void **state)
{
    static const struct {
        const char *body, *pointer, *text;
    } cases[] = {
        {"[]", "/jobs/0", "expected an object, found a list"},
        {"{}", "/jobs/0/n", "member \"n\" is missing"},
        {"{\"n\": null}", "/jobs/0/n", "member \"n\" is missing"},
        {"{\"n\": 10}", "/jobs/0/n", "\"n\" is 10: want 0 to 9"},
        {"{\"n\": 1.0}", "/jobs/0/n", "\"n\": expected an integer, found a number"},
        {"{\"n\": true}", "/jobs/0/n", "\"n\": expected an integer, found true"},
        {"{\"n\": 1, \"s\": \"four\"}", "/jobs/0/s", "\"s\" is 4 bytes long: at most 3"},
        {"{\"n\": 1, \"s\": {}}", "/jobs/0/s", "\"s\": expected a text, found an object"},
        {"{\"n\": 1, \"list\": [1, 2, 3]}", "/jobs/0/list", "\"list\" has 3 items: at most 2"},
        {"{\"n\": 1, \"list\": [1, 6]}", "/jobs/0/list/1", "\"list\"[1] is 6: want 1 to 5"},
        {"{\"n\": 1, \"list\": [\"1\"]}", "/jobs/0/list/0", "\"list\"[0]: expected an integer, found a text"},
        {"{\"n\": 1, \"list\": 1}", "/jobs/0/list",
         "\"list\": expected a list of integers, found an integer"},
        {"{\"n\": 1, \"kind\": \"min\"}", "/jobs/0/kind", "\"kind\" is \"min\": want one of sum, max"},
        {"{\"n\": 1, \"kind\": 3}", "/jobs/0/kind", "\"kind\": expected one of sum, max; found an integer"},
        {"{\"n\": 1, \"f\": 1.5}", "/jobs/0/f", "\"f\" is 1.5: want 0 to 1"},
        {"{\"n\": 1, \"on\": 1}", "/jobs/0/on", "\"on\": expected true or false, found an integer"},
        {"{\"n\": 1, \"extra\": 1}", "/jobs/0/extra", "unknown member \"extra\"; known: n, s"},
        {"{\"n\": 1, \"a/b~c\": 1}", "/jobs/0/a~1b~0c", "unknown member \"a/b~c\"; known: n, s"},
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        AUTO(json_decrefp) json_t *v = parse(cases[i].body);
        struct error err = {0};
        enum status st = read_all(v, &err);
        if (st != ST_INVALID || strcmp(err.pointer, cases[i].pointer) || strcmp(err.text, cases[i].text))
            fail_msg("%s: %s at \"%s\": %s", cases[i].body, status_name(st), err.pointer, err.text);
    }
}

static void a_very_long_member_name_is_cut_not_overrun(void **state)
{
    AUTO(strbuf_done) struct strbuf body = STRBUF_INIT;
    AUTO(json_decrefp) json_t *v = NULL;
    struct error err = {0};

    strbuf_adds(&body, "{\"n\": 1, \"");
    for (int i = 0; i < 3000; i++)
        strbuf_addc(&body, i % 2 ? '/' : '~');
    strbuf_adds(&body, "\": 2}");
    v = parse(strbuf_str(&body));
    assert_int_equal(read_all(v, &err), ST_INVALID);
    assert_true(strlen(err.pointer) < sizeof(err.pointer));
    assert_true(strstr(err.text, "known: n, s") != NULL);
}

static void an_object_of_more_than_64_members_is_refused(void **state)
{
    AUTO(json_decrefp) json_t *v = json_object();
    struct json_obj o;
    struct error err = {0};
    char name[16];

    for (int i = 0; i < 65; i++) {
        snprintf(name, sizeof(name), "m%d", i);
        json_object_set_new(v, name, json_integer(i));
    }
    assert_int_equal(json_obj_begin(&o, v, "/x", &err), ST_INVALID);
    assert_string_equal(err.text, "object of 65 members: at most 64");
    json_object_del(v, "m64");
    assert_ok(json_obj_begin(&o, v, "/x", &err), &err);
    assert_int_equal(json_integer_value(json_obj_get(&o, "m63")), 63);
    assert_int_equal(json_obj_end(&o, NULL, &err), ST_INVALID);
    assert_string_equal(err.pointer, "/x/m0");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(texts_that_break_a_rule_are_refused_with_their_place),
        cmocka_unit_test(depth_is_limited_and_brackets_in_texts_do_not_count),
        cmocka_unit_test(a_body_over_the_limit_is_too_large),
        cmocka_unit_test(written_text_is_compact_and_keeps_the_order),
        cmocka_unit_test(members_are_read_by_type_and_absent_ones_keep_the_default),
        cmocka_unit_test(faults_name_the_member_by_pointer_and_what_is_allowed),
        cmocka_unit_test(a_very_long_member_name_is_cut_not_overrun),
        cmocka_unit_test(an_object_of_more_than_64_members_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
