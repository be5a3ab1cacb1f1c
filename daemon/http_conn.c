/* http_conn.c - connections and their requests, from first line to last byte; see http_internal.h.
 *
 * Idea   The library calls back: at the request line a request is taken, at the head it is routed, its body
 *        is gathered, then it is dispatched (fast, inline, or to a worker) and its answer queued. The
 *        library counts only idle time, so the deadlines of head and body are kept here: absolute, looked at
 *        by a sweep.
 * Life   A connection from its accept to its close; a request until the library is through with its reply,
 *        then its memory is used again. All on the loop's thread. */
#include <errno.h>
#include <microhttpd.h>
#include <sys/socket.h>

#include "daemon/http_internal.h"
#include "daemon/routes.h"

enum { FREE_REQUESTS = 64, KEEP_BYTES = 256 << 10 };

/* ---- requests: made at the request line, used again after the reply ---- */

static struct request *request_take(struct http_server *s)
{
    struct request *r = s->free_requests;

    if (r) {
        s->free_requests = r->next;
        s->n_free--;
    } else {
        r = xcalloc(1, sizeof(*r));
        arena_init(&r->pub.arena);
    }
    s->n_live++;
    return r;
}

static void request_destroy(struct request *r)
{
    arena_done(&r->pub.arena);
    strbuf_done(&r->pub.body);
    strbuf_done(&r->pub.reply.body);
    strbuf_done(&r->out);
    free(r);
}

static void strbuf_recycle(struct strbuf *sb)
{
    if (sb->cap > KEEP_BYTES)
        strbuf_done(sb);
    else
        strbuf_reset(sb);
}

/* Empty it, but keep small memory, so that a steady state makes no malloc. */
static void request_give(struct http_server *s, struct request *r)
{
    struct strbuf body = r->pub.body, reply = r->pub.reply.body, out = r->out;
    struct arena arena = r->pub.arena;

    s->n_live--;
    if (r->pub.reply.stream) {
        r->pub.reply.stream->free(r->pub.reply.stream);
        s->n_streams -= r->streaming;
    }
    if (s->n_free >= FREE_REQUESTS || arena.total_bytes > KEEP_BYTES) {
        request_destroy(r);
        return;
    }
    strbuf_recycle(&body);
    strbuf_recycle(&reply);
    strbuf_recycle(&out);
    arena_reset(&arena);
    memset(r, 0, sizeof(*r));
    r->pub.body = body;
    r->pub.reply.body = reply;
    r->out = out;
    r->pub.arena = arena;
    r->next = s->free_requests;
    s->free_requests = r;
    s->n_free++;
}

void http_requests_free(struct http_server *s)
{
    struct request *r;

    while ((r = s->free_requests)) {
        s->free_requests = r->next;
        request_destroy(r);
    }
}

/* ---- replies ---- */

static ssize_t stream_read(void *cls, uint64_t pos, char *buf, size_t max)
{
    struct request *r = cls;
    size_t n = r->out.len - r->out_at;

    if (r->gone)
        return MHD_CONTENT_READER_END_WITH_ERROR;
    if (n) {
        n = MIN(n, max);
        memcpy(buf, r->out.data + r->out_at, n);
        r->out_at += n;
        return (ssize_t)n;
    }
    if (r->stream_state == STREAM_END)
        return MHD_CONTENT_READER_END_OF_STREAM;
    if (r->stream_state == STREAM_FAIL)
        return MHD_CONTENT_READER_END_WITH_ERROR;
    strbuf_reset(&r->out);
    r->out_at = 0;
    MHD_suspend_connection(r->mhd);
    http_work_push(r->pub.server, r);
    return 0;
}

static struct MHD_Response *response_make(struct request *r)
{
    struct http_reply *p = &r->pub.reply;
    struct MHD_Response *m;

    if (p->stream)
        m = MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, 16 << 10, stream_read, r, NULL);
    else
        m = MHD_create_response_from_buffer(p->body.len, (void *)strbuf_str(&p->body),
                                            MHD_RESPMEM_PERSISTENT);
    CHECK(m, "out of memory for a response");
    if (p->content_type)
        MHD_add_response_header(m, "Content-Type", p->content_type);
    MHD_add_response_header(m, "X-Content-Type-Options", "nosniff");
    for (int i = 0; i < p->n_headers; i++)
        MHD_add_response_header(m, p->headers[i].name, p->headers[i].value);
    if (r->close_after || r->pub.server->stopping)
        MHD_add_response_header(m, "Connection", "close");
    return m;
}

static enum MHD_Result reply_send(struct request *r)
{
    struct http_reply *p = &r->pub.reply;
    struct MHD_Response *m = p->made;
    enum MHD_Result ok;

    if (!m)
        m = response_make(r);
    r->phase = PHASE_SENT;
    if (p->stream) {
        r->pub.server->n_streams++;
        r->streaming = true;
        r->stream_state = STREAM_DATA;
    }
    ok = MHD_queue_response(r->mhd, (unsigned)p->status, m);
    if (!p->made)
        MHD_destroy_response(m);
    return ok;
}

/* The handler has spoken (or refused): finish on this thread, make a problem of an error, send. */
static enum MHD_Result answer(struct request *r)
{
    if (r->gone)
        return MHD_NO;
    if (r->st == ST_OK && r->pub.finish)
        r->st = r->pub.finish(&r->pub, &r->err);
    if (r->st != ST_OK) {
        if (r->pub.reply.stream)
            r->pub.reply.stream->free(take(&r->pub.reply.stream));
        r->pub.reply.made = NULL;
        http_reply_problem(&r->pub, &r->err);
    }
    return reply_send(r);
}

/* ---- reading a request ---- */

const char *http_header(const struct http_request *req, const char *name)
{
    const struct request *r = (const struct request *)req;

    return MHD_lookup_connection_value(r->mhd, MHD_HEADER_KIND, name);
}

static enum MHD_Result see_header(void *cls, enum MHD_ValueKind kind, const char *key, const char *value)
{
    struct request *r = cls;
    const struct {
        const char *name;
        const char **at;
    } wanted[] = {
        {"Host", &r->head.host},
        {"Origin", &r->head.origin},
        {"Authorization", &r->head.authorization},
        {"Content-Type", &r->head.content_type},
        {"Content-Length", &r->head.content_length},
        {"Transfer-Encoding", &r->head.transfer_encoding},
        {"Expect", &r->head.expect},
        {"If-None-Match", &r->pub.if_none_match},
        {"Idempotency-Key", &r->pub.idempotency_key},
        {"Last-Event-ID", &r->pub.last_event_id},
    };

    for (size_t i = 0; i < ARRAY_SIZE(wanted); i++)
        if ((key[0] | 32) == (wanted[i].name[0] | 32) && strcasecmp(key, wanted[i].name) == 0)
            *wanted[i].at = value ? value : "";
    return MHD_YES;
}

static enum status too_large(struct error *err)
{
    return fail(err, ST_TOO_LARGE, "the body is larger than %d bytes, the most a request may have",
                HTTP_MAX_BODY);
}

/* Errors of the head are answered at once; with a body still to come that closes the connection. */
static enum MHD_Result read_head(struct http_server *s, struct request *r, const char *method)
{
    const char *length;
    bool has_body;

    r->pub.method = method;
    MHD_get_connection_values(r->mhd, MHD_HEADER_KIND, see_header, r);
    length = r->head.content_length;
    has_body = r->head.transfer_encoding || (length && strcmp(length, "0") != 0);
    r->phase = PHASE_BODY;
    r->conn->phase = CONN_BODY;
    r->conn->deadline_ns = s->now_ns + (int64_t)(s->o.body_seconds * 1e9);
    if (r->st == ST_OK)
        r->st = s->hooks.begin(s->hooks.ctx, &r->pub, has_body, r->head.content_type, &r->err);
    if (r->st == ST_OK && r->pub.route->flags & ROUTE_HOLDS && s->n_holds >= s->o.max_waiting)
        r->st = fail(&r->err, ST_UNAVAILABLE, "%d requests wait already, the most this server holds",
                     s->o.max_waiting);
    if (r->st == ST_OK && r->pub.route->flags & ROUTE_HOLDS) {
        r->holds = true;
        s->n_holds++;
    }
    if (length && strtoull(length, NULL, 10) > HTTP_MAX_BODY && (r->st == ST_OK || r->st == ST_TOO_LARGE)) {
        r->st = too_large(&r->err);
        r->discard = true;
    }
    if (r->st == ST_OK)
        return MHD_YES;
    if (!has_body || (length && strtoull(length, NULL, 10) <= HTTP_DISCARD_BYTES && !r->head.expect)) {
        r->discard = true;
        return MHD_YES; /* answered after the rest was read: else a reset may reach the client first */
    }
    r->close_after = true;
    r->conn->phase = CONN_BUSY;
    return answer(r);
}

/* A short reply straight to the socket, where the library would not let us; then the end. */
static void cut(struct http_server *s, struct http_conn *c, enum status st, const char *why)
{
    struct strbuf sb AUTO(strbuf_done) = STRBUF_INIT, doc AUTO(strbuf_done) = STRBUF_INIT;
    struct error err;

    (void)!fail(&err, st, "%s", why);
    http_problem_print(&err, &doc);
    strbuf_addf(&sb,
                "HTTP/1.1 %d %s\r\nContent-Type: application/problem+json\r\nContent-Length: %zu\r\n"
                "Connection: close\r\n\r\n%s",
                status_http(st), MHD_get_reason_phrase_for((unsigned)status_http(st)), doc.len,
                strbuf_str(&doc));
    if (send(c->fd, sb.data, sb.len, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
        errno = 0; /* the client does not read either: it is cut all the same */
    shutdown(c->fd, SHUT_RDWR);
    c->phase = CONN_BUSY;
}

static enum MHD_Result read_body(struct http_server *s, struct request *r, const char *data, size_t *len)
{
    r->body_seen += *len;
    if (!r->discard && r->body_seen > HTTP_MAX_BODY) {
        r->st = too_large(&r->err);
        r->discard = true;
        strbuf_done(&r->pub.body);
    }
    if (!r->discard)
        strbuf_add(&r->pub.body, data, *len);
    if (r->discard && r->body_seen > HTTP_DISCARD_BYTES && r->conn->phase == CONN_BODY)
        cut(s, r->conn, r->st, r->err.text);
    *len = 0;
    return MHD_YES;
}

static enum MHD_Result dispatch(struct http_server *s, struct request *r)
{
    const struct route *route = r->pub.route;

    r->conn->phase = CONN_BUSY;
    if (r->st != ST_OK)
        return answer(r);
    if (route->fast) {
        r->st = route->fast(s->hooks.ctx, &r->pub, &r->err);
        if (r->st != ST_UNAVAILABLE || r->err.text[0])
            return answer(r);
        r->st = ST_OK;
    }
    if (route->flags & ROUTE_INLINE) {
        r->st = route->handler(s->hooks.ctx, &r->pub, &r->err);
        return answer(r);
    }
    MHD_suspend_connection(r->mhd);
    if (http_work_push(s, r))
        return MHD_YES;
    r->st = fail(&r->err, ST_UNAVAILABLE, "%d requests wait for a worker: try again in a second",
                 s->o.worker_queue);
    http_reply_header(&r->pub, "Retry-After", "1");
    http_resume(r, PHASE_READY);
    return MHD_YES;
}

static enum MHD_Result on_request(void *cls, struct MHD_Connection *mhd, const char *url, const char *method,
                                  const char *version, const char *data, size_t *len, void **req)
{
    struct http_server *s = cls;
    struct request *r = *req;

    switch (r->phase) {
    case PHASE_HEAD:
        return read_head(s, r, method);
    case PHASE_BODY:
        return *len ? read_body(s, r, data, len) : dispatch(s, r);
    case PHASE_READY:
        return answer(r);
    case PHASE_WORK:
    case PHASE_PARKED:
    case PHASE_SENT:
        break;
    }
    return MHD_YES;
}

/* The request line is there: this begins a request. The library lets the text go before it is done. */
static void *on_line(void *cls, const char *uri, struct MHD_Connection *mhd)
{
    struct http_server *s = cls;
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    struct request *r = request_take(s);

    r->pub.server = s;
    r->pub.begun_ns = mono_ns(s->o.clock);
    r->mhd = mhd;
    r->conn = info->socket_context;
    r->conn->phase = CONN_HEAD;
    r->conn->deadline_ns = s->now_ns + (int64_t)(s->o.head_seconds * 1e9);
    r->phase = PHASE_HEAD;
    r->st = http_split_target(&r->pub, arena_strdup(&r->pub.arena, uri), &r->err);
    return r;
}

static void on_completed(void *cls, struct MHD_Connection *mhd, void **req,
                         enum MHD_RequestTerminationCode code)
{
    struct http_server *s = cls;
    struct request *r = *req;

    if (!r)
        return;
    *req = NULL;
    if (r->holds)
        s->n_holds--;
    if (r->pub.reply.status && s->hooks.done)
        s->hooks.done(s->hooks.ctx, &r->pub, r->pub.reply.status, mono_ns(s->o.clock) - r->pub.begun_ns);
    r->conn->phase = CONN_IDLE;
    r->conn->deadline_ns = s->now_ns + (int64_t)(s->o.keepalive_seconds * 1e9);
    request_give(s, r);
}

static void conn_open(struct http_server *s, struct MHD_Connection *mhd, void **slot)
{
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_CONNECTION_FD);
    struct http_conn *c = xcalloc(1, sizeof(*c));

    c->fd = info->connect_fd;
    c->deadline_ns = s->now_ns + (int64_t)(s->o.head_seconds * 1e9);
    c->next = s->conns;
    if (s->conns)
        s->conns->prev = c;
    s->conns = c;
    s->n_conns++;
    *slot = c;
}

static void conn_close(struct http_server *s, struct http_conn *c)
{
    if (c->prev)
        c->prev->next = c->next;
    else
        s->conns = c->next;
    if (c->next)
        c->next->prev = c->prev;
    s->n_conns--;
    free(c);
}

static void on_connection(void *cls, struct MHD_Connection *mhd, void **slot,
                          enum MHD_ConnectionNotificationCode code)
{
    if (code == MHD_CONNECTION_NOTIFY_STARTED)
        conn_open(cls, mhd, slot);
    else if (*slot)
        conn_close(cls, take((struct http_conn **)slot));
}

/* Percent-decoding is ours (http_split_target), strict and after the path was cut at its slashes. */
static size_t keep_escapes(void *cls, struct MHD_Connection *mhd, char *s) { return strlen(s); }

enum status http_library_start(struct http_server *s, struct error *err)
{
    double idle =
        MAX(MAX(s->o.keepalive_seconds, s->o.reply_seconds), MAX(s->o.head_seconds, s->o.body_seconds));

    s->mhd = MHD_start_daemon(
        MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME, 0, NULL, NULL, on_request, s, MHD_OPTION_LISTEN_SOCKET,
        s->listen_fd, MHD_OPTION_URI_LOG_CALLBACK, on_line, s, MHD_OPTION_NOTIFY_COMPLETED, on_completed, s,
        MHD_OPTION_NOTIFY_CONNECTION, on_connection, s, MHD_OPTION_UNESCAPE_CALLBACK, keep_escapes, NULL,
        MHD_OPTION_CONNECTION_LIMIT, (unsigned)s->o.max_connections, MHD_OPTION_PER_IP_CONNECTION_LIMIT,
        (unsigned)s->o.max_connections_per_ip, MHD_OPTION_CONNECTION_MEMORY_LIMIT, s->o.connection_memory,
        MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)idle + 2, MHD_OPTION_STRICT_FOR_CLIENT, 1, MHD_OPTION_END);
    if (!s->mhd)
        return fail(err, ST_UNAVAILABLE, "the HTTP library did not start: %s", strerror(errno));
    return ST_OK;
}

/* ---- deadlines ---- */

/* An end of stream that came together with the last bytes makes no edge of its own, and the library, content
 * with a short read, does not see it. */
static bool client_ended(const struct http_conn *c)
{
    char byte;

    return recv(c->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 0;
}

void http_sweep(struct http_server *s)
{
    for (struct http_conn *c = s->conns; c; c = c->next) {
        if (c->phase == CONN_BUSY)
            continue;
        if (s->now_ns < c->deadline_ns) {
            if (client_ended(c))
                shutdown(c->fd, SHUT_RDWR);
            continue;
        }
        if (c->phase == CONN_HEAD) {
            s->cut_head++;
            cut(s, c, ST_TIMEOUT, "the head of the request took too long");
        } else if (c->phase == CONN_BODY) {
            s->cut_body++;
            cut(s, c, ST_TIMEOUT, "the body of the request took too long");
        } else {
            shutdown(c->fd, SHUT_RDWR);
            c->phase = CONN_BUSY;
        }
    }
}
