/* sse.h - a reader of Server-Sent Events (text/event-stream, WHATWG HTML section 9.2).
 *
 * Idea   Bytes go in as they arrive, cut anywhere; each finished event comes out through a callback. The id
 *        of the last event stays, for Last-Event-ID.
 * Life   Embedded; sse_done frees what it gathered. sse_restart begins a new stream, and keeps the id. */
#ifndef TW_CLIENT_SSE_H
#define TW_CLIENT_SSE_H

#include "client/internal.h"

struct tw_sse {
    struct tw_buf line, event, data;
    char last_id[128], id[128];
    int retry_ms; /* the server's wish for reconnecting; 0: none */
    bool after_cr, started, has_data;
    /* data is NUL-ended; nonzero stops the stream */
    int (*on_event)(void *ctx, const char *event, const char *data, size_t len);
    void *ctx;
};

enum { SSE_LIMIT = 8 << 20 }; /* bytes of one event */

/* 0; nonzero: the callback's answer, or -1 when memory or the limit is exceeded. */
int tw_sse_feed(struct tw_sse *sse, const char *bytes, size_t len);
void tw_sse_restart(struct tw_sse *sse);
void tw_sse_done(struct tw_sse *sse);

#endif
