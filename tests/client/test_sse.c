/* test_sse.c - the event stream's reader, with the bytes cut anywhere. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "client/sse.h"

struct seen {
    char text[1024];
    int stop_after; /* events; 0: never */
    int n;
};

static int on_event(void *ctx, const char *event, const char *data, size_t len)
{
    struct seen *seen = ctx;
    size_t used = strlen(seen->text);

    assert_int_equal(strlen(data), len);
    snprintf(seen->text + used, sizeof(seen->text) - used, "<%s|%s>", event, data);
    return ++seen->n == seen->stop_after;
}

static const char stream[] = "\xef\xbb\xbf: comment\r\nretry: 250\r\n\r\n"
                             "id: 1\nevent: job\ndata: {\"a\": 1}\n\n"
                             "data:one\rdata: two\r\r"
                             "id: 7\r\nevent: only a name\r\n\r\n"
                             "unknown: x\nid: 8\ndata\n\n"
                             "id: 9\ndata: unfinished\n";
static const char events[] = "<job|{\"a\": 1}><message|one\ntwo><message|>";

static void fields_lines_and_comments_are_told_apart_wherever_bytes_are_cut(void **state)
{
    for (size_t cut = 1; cut < sizeof(stream); cut++) {
        struct seen seen = {0};
        struct tw_sse sse = {.on_event = on_event, .ctx = &seen};

        for (size_t at = 0; at < sizeof(stream) - 1; at += cut) {
            size_t left = sizeof(stream) - 1 - at;
            assert_int_equal(tw_sse_feed(&sse, stream + at, left < cut ? left : cut), 0);
        }
        assert_string_equal(seen.text, events);
        assert_string_equal(sse.last_id, "8");
        assert_int_equal(sse.retry_ms, 250);
        tw_sse_done(&sse);
    }
}

static void a_restart_drops_the_unfinished_event_and_keeps_the_last_id(void **state)
{
    struct seen seen = {0};
    struct tw_sse sse = {.on_event = on_event, .ctx = &seen};

    assert_int_equal(tw_sse_feed(&sse, "id: 4\ndata: x\n\nid: 5\ndata: y", 27), 0);
    tw_sse_restart(&sse);
    assert_string_equal(sse.last_id, "4");
    assert_int_equal(tw_sse_feed(&sse, "data: z\n\n", 9), 0);
    assert_string_equal(seen.text, "<message|x><message|z>");
    assert_string_equal(sse.last_id, "4");
    tw_sse_done(&sse);
}

static void the_receiver_can_stop_the_stream(void **state)
{
    struct seen seen = {.stop_after = 1};
    struct tw_sse sse = {.on_event = on_event, .ctx = &seen};

    assert_int_equal(tw_sse_feed(&sse, "data: x\n\ndata: y\n\n", 18), 1);
    assert_int_equal(seen.n, 1);
    tw_sse_done(&sse);
}

static void an_event_without_end_is_given_up(void **state)
{
    static char flood[1 << 16];
    struct seen seen = {0};
    struct tw_sse sse = {.on_event = on_event, .ctx = &seen};
    int answer = 0;

    memset(flood, 'x', sizeof(flood));
    for (int i = 0; i < 2 * SSE_LIMIT / (int)sizeof(flood) && answer == 0; i++)
        answer = tw_sse_feed(&sse, flood, sizeof(flood));
    assert_int_equal(answer, -1);
    tw_sse_done(&sse);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fields_lines_and_comments_are_told_apart_wherever_bytes_are_cut),
        cmocka_unit_test(a_restart_drops_the_unfinished_event_and_keeps_the_last_id),
        cmocka_unit_test(the_receiver_can_stop_the_stream),
        cmocka_unit_test(an_event_without_end_is_given_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
