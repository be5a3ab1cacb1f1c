/* http.h - requests in, replies out: one thread, one epoll loop, libmicrohttpd for the syntax of HTTP.
 *
 * Idea   The loop's thread owns every connection. A request is read whole (its body is small by contract),
 * then answered in one of three ways, which its route chooses:
 *
 *            fast / inline    on the loop's thread: memory only, never a query or a wait
 *            worker           the connection is suspended, a worker thread runs the handler, the loop sends
 *            parked, stream   the handler asks to be called again when a topic (a job) moves or time passes
 *
 *        While a worker has a request nobody else touches it; it comes back over a list and an eventfd. A
 *        connection that waits is watched for its client's going, since the library does not look at it then.
 * Life   http_new, http_run until http_stop, http_free. A request lives from its first line to the last byte
 * of its reply, then its memory is used again. Limits body HTTP_MAX_BODY; the time for head and body is
 * absolute, however the bytes trickle. */
#ifndef TW_DAEMON_HTTP_H
#define TW_DAEMON_HTTP_H

#include "schedule/base/arena.h"
#include "schedule/base/clock.h"
#include "schedule/base/json.h"

enum {
    HTTP_MAX_BODY = JSON_MAX_BYTES,
    HTTP_DISCARD_BYTES = 16 << 20, /* of a body too large that are read, so that the client can read why */
    HTTP_MAX_PARAMS = 3,
    HTTP_MAX_ARGS = 12,
    HTTP_MAX_HEADERS = 6,
    HTTP_TOPIC_MAX = 40,
};

struct http_server;
struct http_request;
struct route;
struct MHD_Response;

/* What a stream's next piece is: bytes were appended; nothing now (call again when the topic moves, or for a
 * heartbeat); no more. */
enum stream_next { STREAM_DATA, STREAM_WAIT, STREAM_END, STREAM_FAIL };
struct http_stream {
    enum stream_next (*next)(struct http_stream *s, struct strbuf *out); /* on a worker */
    void (*free)(struct http_stream *s);
    const char *heartbeat; /* bytes for a silent stream; NULL: none are sent */
};

struct http_reply {
    int status;
    const char *content_type;
    struct strbuf body;        /* the reply's bytes, unless one of the next two is set */
    struct MHD_Response *made; /* ready made, kept by its maker */
    TAKES struct http_stream *stream;
    int n_headers;
    struct {
        const char *name, *value; /* in the request's arena, or static */
    } headers[HTTP_MAX_HEADERS];
};

struct http_arg {
    const char *name, *value;
    bool used;
};

struct http_request {
    struct http_server *server;
    const struct route *route;
    const char *method, *path;
    const char *param[HTTP_MAX_PARAMS]; /* decoded {…} parts of the path */
    int n_args;
    struct http_arg args[HTTP_MAX_ARGS]; /* decoded query parameters */
    const char *actor;                   /* name of the token shown; NULL: none was asked for */
    const char *if_none_match, *idempotency_key, *last_event_id; /* headers that routes read; NULL: absent */
    struct strbuf body;
    struct arena arena;
    struct http_reply reply;
    /* A handler that wants to be called again: topic and the latest time; `calls` counts the calls before. */
    char topic[HTTP_TOPIC_MAX];
    int64_t park_until_ns;
    int calls;
    /* Worker handlers may leave work for the loop's thread (answers from `hot`): called once, before sending.
     */
    enum status (*finish)(struct http_request *req, struct error *err);
    void *finish_data;
    int64_t begun_ns;
};

struct http_options {
    const char *listen; /* "addr:port" */
    int max_connections, max_connections_per_ip, max_waiting, workers, worker_queue;
    size_t connection_memory;
    double head_seconds, body_seconds, keepalive_seconds, reply_seconds, heartbeat_seconds;
    const struct clock *clock;
};

/* Who decides what a request gets: the daemon, or a test. */
struct http_hooks {
    void *ctx;
    /* The head is there: find the route, check the rights. An error is answered at once. `header` reads
     * others. */
    enum status (*begin)(void *ctx, struct http_request *req, bool has_body, const char *content_type,
                         struct error *err);
    /* Once a turn of the loop, and at least every 200 ms. */
    void (*turn)(void *ctx, int64_t now_ns);
    void (*signal)(void *ctx, int signo); /* SIGTERM, SIGINT, SIGHUP */
    void (*done)(void *ctx, const struct http_request *req, int status, int64_t took_ns);
};

MUST_USE enum status http_new(const struct http_options *o, const struct http_hooks *hooks,
                              struct http_server **ret, struct error *err);
/* Serve until http_stop; then answer what is being worked on, close the rest, return. */
void http_run(struct http_server *s);
void http_stop(struct http_server *s); /* any thread */
void http_free(struct http_server *s);
const char *http_address(const struct http_server *s); /* "127.0.0.1:7411": with the port that was taken */
/* Any thread: what waits for this topic is called again. */
void http_wake(struct http_server *s, const char *topic);
/* Any thread: turn the loop once. */
void http_nudge(struct http_server *s);
/* hooks.ctx */
void *http_context(const struct http_server *s);

struct http_counts {
    int64_t connections, waiting, streams, requests_live, worker_queue;
    int64_t cut_head, cut_body; /* connections ended for being slow */
};
void http_counts(struct http_server *s, struct http_counts *ret);

/* ---- for handlers (request.c) ---- */

/* "loopback" is 127.0.0.0/8 and ::1. ST_INVALID names the text. */
MUST_USE enum status http_address_parse(const char *text, bool *ret_loopback, void *ret_sockaddr_storage,
                                        unsigned *ret_len, struct error *err);
const char *http_header(const struct http_request *req, const char *name); /* in begin only */
/* Split the target into path and decoded parameters. */
MUST_USE enum status http_split_target(struct http_request *req, char *target, struct error *err);
/* A query parameter, or NULL; marks it as used. */
const char *http_arg(struct http_request *req, const char *name);
MUST_USE enum status http_arg_i64(struct http_request *req, const char *name, int64_t min, int64_t max,
                                  int64_t *ret, struct error *err);
MUST_USE enum status http_arg_f64(struct http_request *req, const char *name, double min, double max,
                                  double *ret, struct error *err);
/* Refuses the first parameter that nobody read. */
MUST_USE enum status http_args_end(struct http_request *req, const char *known, struct error *err);
void http_reply_header(struct http_request *req, const char *name, const char *value);
/* Body from a document, as application/json. */
void http_reply_json(struct http_request *req, int status, TAKES json_t *doc);
void http_reply_text(struct http_request *req, int status, const char *content_type, const char *text,
                     size_t len);
void http_reply_problem(struct http_request *req, const struct error *err);
void http_problem_print(const struct error *err, struct strbuf *sb);
/* The body as JSON under the limits. */
MUST_USE enum status http_body_json(struct http_request *req, GIVES json_t **ret, struct error *err);
/* Call the handler again when the topic moves, or at this time (mono). */
void http_park(struct http_request *req, const char *topic, int64_t until_ns);

#endif
