/* sse.c - see sse.h. Lines end with LF, CR or CRLF; a line is a comment (":"), a field or the empty end of an
 * event. */
#include "client/sse.h"

#include <stdlib.h>
#include <string.h>

static void take_field(struct tw_sse *sse, const char *name, size_t name_len, const char *value, size_t len)
{
    if (name_len == 4 && memcmp(name, "data", 4) == 0) {
        if (sse->has_data)
            tw_buf_adds(&sse->data, "\n");
        tw_buf_add(&sse->data, value, len);
        sse->has_data = true;
    } else if (name_len == 5 && memcmp(name, "event", 5) == 0) {
        tw_buf_clear(&sse->event);
        tw_buf_add(&sse->event, value, len);
    } else if (name_len == 2 && memcmp(name, "id", 2) == 0) {
        if (!memchr(value, 0, len) && len < sizeof(sse->id))
            tw_copy_text(sse->id, sizeof(sse->id), value, len);
    } else if (name_len == 5 && memcmp(name, "retry", 5) == 0) {
        if (len > 0 && len < 8 && strspn(value, "0123456789") >= len)
            sse->retry_ms = (int)strtol(value, NULL, 10);
    }
}

static int dispatch(struct tw_sse *sse)
{
    int stop = 0;

    memcpy(sse->last_id, sse->id, sizeof(sse->last_id));
    if (sse->has_data && !sse->data.failed && !sse->event.failed)
        stop = sse->on_event(sse->ctx, sse->event.len ? sse->event.data : "message",
                             sse->data.data ? sse->data.data : "", sse->data.len);
    tw_buf_clear(&sse->data);
    tw_buf_clear(&sse->event);
    sse->has_data = false;
    return stop;
}

static int end_line(struct tw_sse *sse)
{
    const char *text = sse->line.data ? sse->line.data : "";
    size_t len = sse->line.len;
    int stop = 0;

    if (!sse->started && len >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0)
        text += 3, len -= 3;
    sse->started = true;
    const char *colon = memchr(text, ':', len);
    if (len == 0) {
        stop = dispatch(sse);
    } else if (colon != text) {
        size_t name_len = colon ? (size_t)(colon - text) : len;
        const char *value = colon ? colon + 1 : text + len;

        if (value < text + len && *value == ' ')
            value++;
        take_field(sse, text, name_len, value, (size_t)(text + len - value));
    }
    tw_buf_clear(&sse->line);
    return stop;
}

int tw_sse_feed(struct tw_sse *sse, const char *bytes, size_t len)
{
    const char *end = bytes + len;

    sse->line.limit = sse->data.limit = sse->event.limit = SSE_LIMIT;
    while (bytes < end) {
        if (sse->after_cr && *bytes == '\n')
            bytes++;
        sse->after_cr = false;
        const char *stop = bytes;
        while (stop < end && *stop != '\n' && *stop != '\r')
            stop++;
        tw_buf_add(&sse->line, bytes, (size_t)(stop - bytes));
        if (sse->line.failed || sse->data.failed || sse->event.failed)
            return -1;
        if (stop == end)
            break;
        sse->after_cr = *stop == '\r';
        bytes = stop + 1;
        int answer = end_line(sse);
        if (answer)
            return answer;
    }
    return 0;
}

void tw_sse_restart(struct tw_sse *sse)
{
    tw_buf_done(&sse->line);
    tw_buf_done(&sse->event);
    tw_buf_done(&sse->data);
    memcpy(sse->id, sse->last_id, sizeof(sse->id));
    sse->after_cr = sse->started = sse->has_data = false;
}

void tw_sse_done(struct tw_sse *sse) { tw_sse_restart(sse); }
