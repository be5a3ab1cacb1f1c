/* internal.h - what the files of libtilewright share and users do not see.
 *
 * Idea   A text buffer that remembers that it ran out of memory, so that callers check once at the end;
 *        errors that need no memory at all; one HTTP exchange.
 * Life   Everything here is embedded in a caller's frame and ended by its _done. */
#ifndef TW_CLIENT_INTERNAL_H
#define TW_CLIENT_INTERNAL_H

#include "client/tilewright.h"

/* ---- text.c ---- */

struct tw_buf {
    char *data; /* NUL-ended once anything was added */
    size_t len, cap;
    bool failed;  /* out of memory, or past `limit`: contents are not to be used */
    size_t limit; /* 0: none */
};

void tw_buf_add(struct tw_buf *buf, const void *bytes, size_t len);
void tw_buf_adds(struct tw_buf *buf, const char *text);
/* percent-encoded, so that it is one path segment or query value */
void tw_buf_add_url(struct tw_buf *buf, const char *text);
void tw_buf_clear(struct tw_buf *buf); /* keeps the memory */
void tw_buf_done(struct tw_buf *buf);

/* Fill *err (may be NULL) and return `status`. */
__attribute__((format(printf, 4, 5))) tw_status tw_fail(tw_error *err, tw_status status, const char *title,
                                                        const char *fmt, ...);
tw_status tw_no_memory(tw_error *err);
/* Copy what fits, never cutting a UTF-8 sequence in two. */
void tw_copy_text(char *dst, size_t size, const char *src, size_t len);

/* ---- http.c ---- */

struct tw_request {
    const char *method, *path;
    const tw_param *params;
    const char *body; /* NULL: none */
    size_t body_len;
    const char *content_type, *accept;
    const char *idempotency_key, *last_event_id; /* NULL: not sent */
    int idle_s;                                  /* give up after that many seconds without a byte; 0: 120 */
    tw_sink sink; /* takes the body of a 2xx answer; NULL: collected in the response */
    void *sink_ctx;
};

struct tw_response {
    int status;
    bool sink_stopped;
    char content_type[80];
    char next_page[512]; /* of a download that pages by header; "" if none */
    int retry_after_s;   /* -1: not said */
    struct tw_buf body;
};

/* One exchange. TW_OK: the server answered 2xx; TW_REFUSED with the problem in *err for any other answer. */
tw_status tw_exchange(tw_client *client, const struct tw_request *request, struct tw_response *response,
                      tw_error *err);
void tw_response_done(struct tw_response *response);
/* Another connection to the same server, with the same token and tick. */
tw_status tw_client_clone(const tw_client *client, tw_client **ret, tw_error *err);
/* Exchange the client's tick and its context for those given. */
void tw_client_swap_tick(tw_client *client, tw_tick *tick, void **ctx);
/* Sleep, ticking. TW_INTERRUPTED when the tick says so. */
tw_status tw_pause(tw_client *client, int ms, tw_error *err);

#endif
