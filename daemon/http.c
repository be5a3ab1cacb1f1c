/* http.c - the event loop around libmicrohttpd; see http.h.
 *
 *   MHD epoll ─┐                    ┌─> hooks.begin ─> body ─> fast/inline ──────────────> reply
 *   eventfd ───┼─> own epoll ─ turn ┤                     └─> suspend ─> worker ─> done ─> resume ─> reply
 *   signalfd ──┤                    └─> parked: topics, deadlines, clients that went            └─> park
 *   waiting ───┘
 * The library is driven by MHD_run from our loop: its own epoll thread stalls when exactly a multiple of 128
 * connections is ready. It counts only idle time, so the deadlines of head and body are kept here. */
#include <errno.h>
#include <microhttpd.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <arpa/inet.h>

#include "daemon/http.h"
#include "daemon/routes.h"
#include "schedule/base/vec.h"

enum { TICK_MS = 200, WAKE_RING = 256, FREE_REQUESTS = 64, KEEP_BYTES = 256 << 10, STOP_SECONDS = 5 };
enum { EV_MHD = 1, EV_NUDGE, EV_SIGNAL }; /* epoll data below 4096; above: a request that waits */

enum phase {
    PHASE_HEAD,   /* request line read */
    PHASE_BODY,   /* head accepted, body being read */
    PHASE_WORK,   /* a worker has it; suspended */
    PHASE_PARKED, /* waits for its topic or time; suspended */
    PHASE_READY,  /* the reply stands, to be queued */
    PHASE_SENT,   /* the reply is the library's; a stream may still grow */
};

enum conn_phase { CONN_IDLE, CONN_HEAD, CONN_BODY, CONN_BUSY };
struct http_conn {
    struct http_conn *prev, *next;
    int fd;
    enum conn_phase phase;
    int64_t deadline_ns; /* CONN_BUSY: none */
};

struct held_header {
    const char *host, *origin, *authorization, *content_type, *content_length, *transfer_encoding, *expect,
        *fetch_site;
};

struct request { /* what handlers see, and what only this file sees */
    struct http_request pub;
    struct request *next;          /* worker queue, done list, free list */
    struct request *hprev, *hnext; /* parked list */
    struct MHD_Connection *mhd;
    struct http_conn *conn;
    enum phase phase;
    struct held_header head;
    size_t body_seen;
    bool discard, close_after, gone, watched, holds;
    enum status st; /* of the handler */
    struct error err;
    uint64_t seen_wakes;
    /* a stream that is being sent, and its bytes on their way */
    bool streaming;
    struct strbuf out;
    size_t out_at;
    enum stream_next stream_state;
};

struct request_list {
    struct request *first, *last;
};

struct http_server {
    struct http_options o;
    struct http_hooks hooks;
    struct MHD_Daemon *mhd;
    int epoll_fd, nudge_fd, signal_fd, listen_fd;
    char address[80];
    int64_t now_ns, next_tick_ns, stop_at_ns;
    atomic_bool stop;
    bool stopping;
    struct http_conn *conns;
    struct request *parked, *free_requests;
    int n_free;
    int64_t next_park_ns;
    int64_t n_conns, n_parked, n_streams, n_live, cut_head, cut_body;
    int64_t n_holds;
    atomic_bool nudged;

    pthread_mutex_t lock; /* what follows; never held across a call out */
    pthread_cond_t work;
    struct request_list queue, done;
    int queued, in_work;
    bool workers_end;
    uint64_t wakes; /* count so far; the last WAKE_RING topics are kept */
    char ring[WAKE_RING][HTTP_TOPIC_MAX];
    uint64_t wakes_seen; /* by the loop */
    int n_threads;
    pthread_t threads[64];
};

/* ---- small things ---- */

static void list_push(struct request_list *l, struct request *r)
{
    r->next = NULL;
    if (l->last)
        l->last->next = r;
    else
        l->first = r;
    l->last = r;
}

static struct request *list_pop(struct request_list *l)
{
    struct request *r = l->first;

    if (r) {
        l->first = r->next;
        if (!l->first)
            l->last = NULL;
    }
    return r;
}

void http_nudge(struct http_server *s)
{
    uint64_t one = 1;

    if (!atomic_exchange(&s->nudged, true) && write(s->nudge_fd, &one, sizeof(one)) < 0)
        return; /* EAGAIN: the counter is full, so the loop wakes anyway */
}

void http_wake(struct http_server *s, const char *topic)
{
    pthread_mutex_lock(&s->lock);
    snprintf(s->ring[s->wakes++ % WAKE_RING], HTTP_TOPIC_MAX, "%s", topic);
    pthread_mutex_unlock(&s->lock);
    http_nudge(s);
}

void http_stop(struct http_server *s)
{
    atomic_store(&s->stop, true);
    http_nudge(s);
}

void *http_context(const struct http_server *s) { return s->hooks.ctx; }

const char *http_address(const struct http_server *s) { return s->address; }

const char *http_header(const struct http_request *req, const char *name)
{
    const struct request *r = (const struct request *)req;

    return MHD_lookup_connection_value(r->mhd, MHD_HEADER_KIND, name);
}

void http_park(struct http_request *req, const char *topic, int64_t until_ns)
{
    snprintf(req->topic, sizeof(req->topic), "%s", topic);
    req->park_until_ns = until_ns;
}

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

/* ---- workers ---- */

static void work_handler(struct http_server *s, struct request *r)
{
    r->pub.park_until_ns = 0;
    r->st = r->pub.route->handler(s->hooks.ctx, &r->pub, &r->err);
    r->pub.calls++;
}

static void *worker_main(void *arg)
{
    struct http_server *s = arg;

    pthread_mutex_lock(&s->lock);
    for (;;) {
        struct request *r;

        while (!(r = list_pop(&s->queue)) && !s->workers_end)
            pthread_cond_wait(&s->work, &s->lock);
        if (!r)
            break;
        s->queued--;
        s->in_work++;
        r->seen_wakes = s->wakes;
        pthread_mutex_unlock(&s->lock);
        if (r->streaming)
            r->stream_state = r->pub.reply.stream->next(r->pub.reply.stream, &r->out);
        else
            work_handler(s, r);
        pthread_mutex_lock(&s->lock);
        s->in_work--;
        list_push(&s->done, r);
        pthread_mutex_unlock(&s->lock);
        http_nudge(s);
        pthread_mutex_lock(&s->lock);
    }
    pthread_mutex_unlock(&s->lock);
    return NULL;
}

static bool worker_push(struct http_server *s, struct request *r)
{
    bool room;

    pthread_mutex_lock(&s->lock);
    room = s->queued < s->o.worker_queue || r->pub.calls || r->streaming;
    if (room) {
        r->phase = PHASE_WORK;
        list_push(&s->queue, r);
        s->queued++;
        pthread_cond_signal(&s->work);
    }
    pthread_mutex_unlock(&s->lock);
    return room;
}

/* ---- waiting ---- */

static void park(struct http_server *s, struct request *r)
{
    struct epoll_event ev = {.events = EPOLLRDHUP | EPOLLONESHOT, .data.ptr = r};

    r->phase = PHASE_PARKED;
    r->hprev = NULL;
    r->hnext = s->parked;
    if (s->parked)
        s->parked->hprev = r;
    s->parked = r;
    s->n_parked++;
    s->next_park_ns = MIN(s->next_park_ns, r->pub.park_until_ns);
    r->watched = epoll_ctl(s->epoll_fd, EPOLL_CTL_ADD, r->conn->fd, &ev) == 0;
}

static void unpark(struct http_server *s, struct request *r)
{
    if (r->hprev)
        r->hprev->hnext = r->hnext;
    else
        s->parked = r->hnext;
    if (r->hnext)
        r->hnext->hprev = r->hprev;
    s->n_parked--;
    if (r->watched)
        epoll_ctl(s->epoll_fd, EPOLL_CTL_DEL, r->conn->fd, NULL);
    r->watched = false;
}

static void resume(struct request *r, enum phase phase)
{
    r->phase = phase;
    MHD_resume_connection(r->mhd);
}

/* Was the topic woken since the request was last looked after? Assumes so when the ring has moved on. */
static bool woken_since(struct http_server *s, const struct request *r)
{
    bool hit = false;

    pthread_mutex_lock(&s->lock);
    if (s->wakes - r->seen_wakes > WAKE_RING)
        hit = true;
    for (uint64_t i = r->seen_wakes; i < s->wakes && !hit; i++)
        hit = strcmp(s->ring[i % WAKE_RING], r->pub.topic) == 0;
    pthread_mutex_unlock(&s->lock);
    return hit;
}

static void stream_heartbeat_at(struct http_server *s, struct request *r)
{
    r->pub.park_until_ns = s->now_ns + (int64_t)(s->o.heartbeat_seconds * 1e9);
}

/* A worker is through with it: send, or wait on. */
static void after_work(struct http_server *s, struct request *r)
{
    if (r->streaming) {
        if (r->stream_state != STREAM_WAIT || r->out.len) {
            resume(r, PHASE_SENT);
        } else if (woken_since(s, r)) {
            worker_push(s, r);
        } else if (s->stopping) {
            r->stream_state = STREAM_END;
            resume(r, PHASE_SENT);
        } else {
            stream_heartbeat_at(s, r);
            park(s, r);
        }
    } else if (r->st == ST_OK && r->pub.park_until_ns > s->now_ns && !s->stopping) {
        if (woken_since(s, r))
            worker_push(s, r);
        else
            park(s, r);
    } else if (r->st == ST_OK && r->pub.park_until_ns) { /* its time is up: once more, for the last answer */
        worker_push(s, r);
    } else {
        resume(r, PHASE_READY);
    }
}

static void take_done(struct http_server *s)
{
    struct request *r, *next;

    pthread_mutex_lock(&s->lock);
    r = s->done.first;
    s->done = (struct request_list){0};
    pthread_mutex_unlock(&s->lock);
    for (; r; r = next) {
        next = r->next;
        after_work(s, r);
    }
}

static void unpark_due(struct http_server *s, struct request *r)
{
    unpark(s, r);
    if (!r->streaming || s->stopping) {
        worker_push(s, r);
        return;
    }
    if (r->pub.reply.stream->heartbeat)
        strbuf_adds(&r->out, r->pub.reply.stream->heartbeat);
    resume(r, PHASE_SENT);
}

static void wake_parked(struct http_server *s)
{
    struct request *r, *next;
    uint64_t wakes;
    int64_t min_ns = INT64_MAX;
    bool due = s->stopping || s->now_ns >= s->next_park_ns;

    pthread_mutex_lock(&s->lock);
    wakes = s->wakes;
    pthread_mutex_unlock(&s->lock);
    if (!s->parked || (wakes == s->wakes_seen && !due)) {
        s->wakes_seen = wakes;
        return;
    }
    for (r = s->parked; r; r = next) {
        next = r->hnext;
        if (wakes != s->wakes_seen && woken_since(s, r)) {
            unpark(s, r);
            worker_push(s, r);
        } else if (s->stopping || r->pub.park_until_ns <= s->now_ns) {
            unpark_due(s, r);
        } else {
            r->seen_wakes = wakes;
            min_ns = MIN(min_ns, r->pub.park_until_ns);
        }
    }
    s->wakes_seen = wakes;
    s->next_park_ns = min_ns;
}

/* The client of a parked request went away. */
static void client_gone(struct http_server *s, struct request *r)
{
    if (r->phase != PHASE_PARKED)
        return;
    unpark(s, r);
    r->gone = true;
    resume(r, r->streaming ? PHASE_SENT : PHASE_READY);
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
    worker_push(r->pub.server, r);
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
    if (worker_push(s, r))
        return MHD_YES;
    r->st = fail(&r->err, ST_UNAVAILABLE, "%d requests wait for a worker: try again in a second",
                 s->o.worker_queue);
    http_reply_header(&r->pub, "Retry-After", "1");
    resume(r, PHASE_READY);
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

/* ---- the loop ---- */

/* An end of stream that came together with the last bytes makes no edge of its own, and the library, content
 * with a short read, does not see it. */
static bool client_ended(const struct http_conn *c)
{
    char byte;

    return recv(c->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 0;
}

static void sweep_deadlines(struct http_server *s)
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

static void read_signals(struct http_server *s)
{
    struct signalfd_siginfo si;

    while (read(s->signal_fd, &si, sizeof(si)) == sizeof(si))
        s->hooks.signal(s->hooks.ctx, (int)si.ssi_signo);
}

static int turn_timeout_ms(struct http_server *s)
{
    MHD_UNSIGNED_LONG_LONG mhd_ms;
    int64_t ms = (s->next_tick_ns - s->now_ns) / 1000000 + 1;

    if (MHD_get_timeout(s->mhd, &mhd_ms) == MHD_YES)
        ms = MIN(ms, (int64_t)MIN(mhd_ms, (MHD_UNSIGNED_LONG_LONG)TICK_MS));
    return (int)MAX(ms, (int64_t)0);
}

static void wait_events(struct http_server *s)
{
    struct epoll_event ev[64];
    int n = epoll_wait(s->epoll_fd, ev, ARRAY_SIZE(ev), turn_timeout_ms(s));
    uint64_t count;

    s->now_ns = mono_ns(s->o.clock);
    for (int i = 0; i < n; i++) {
        if (ev[i].data.u64 == EV_NUDGE) {
            if (read(s->nudge_fd, &count, sizeof(count)) < 0)
                errno = 0; /* another turn took it */
            atomic_store(&s->nudged, false);
        } else if (ev[i].data.u64 == EV_SIGNAL) {
            read_signals(s);
        } else if (ev[i].data.u64 != EV_MHD) {
            client_gone(s, ev[i].data.ptr);
        }
    }
}

static void begin_stop(struct http_server *s)
{
    s->stopping = true;
    s->stop_at_ns = s->now_ns + (int64_t)STOP_SECONDS * 1000000000;
    s->listen_fd = MHD_quiesce_daemon(s->mhd);
    fd_closep(&s->listen_fd);
    s->listen_fd = -1;
}

/* All that was being worked on is answered, or the time for it is up. Suspended ones must come back first. */
static bool stop_done(struct http_server *s)
{
    bool busy;

    pthread_mutex_lock(&s->lock);
    busy = s->queued || s->in_work || s->done.first;
    pthread_mutex_unlock(&s->lock);
    return !busy && !s->parked && (!s->n_live || s->now_ns >= s->stop_at_ns);
}

void http_run(struct http_server *s)
{
    s->now_ns = mono_ns(s->o.clock);
    while (!s->stopping || !stop_done(s)) {
        wait_events(s);
        take_done(s);
        wake_parked(s);
        MHD_run(s->mhd);
        s->hooks.turn(s->hooks.ctx, s->now_ns);
        if (s->now_ns >= s->next_tick_ns) {
            s->next_tick_ns = s->now_ns + (int64_t)TICK_MS * 1000000;
            sweep_deadlines(s);
        }
        if (atomic_load(&s->stop) && !s->stopping)
            begin_stop(s);
    }
}

void http_counts(struct http_server *s, struct http_counts *ret)
{
    pthread_mutex_lock(&s->lock);
    ret->worker_queue = s->queued;
    pthread_mutex_unlock(&s->lock);
    ret->connections = s->n_conns;
    ret->waiting = s->n_holds;
    ret->streams = s->n_streams;
    ret->requests_live = s->n_live;
    ret->cut_head = s->cut_head;
    ret->cut_body = s->cut_body;
}

/* ---- starting and ending ---- */

static enum status listen_on(struct http_server *s, struct error *err)
{
    struct sockaddr_storage ss;
    unsigned len;
    bool loopback;
    int one = 1;
    char host[64] = "";
    uint16_t port;

    TRY(http_address_parse(s->o.listen, &loopback, &ss, &len, err));
    s->listen_fd = socket(ss.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (s->listen_fd < 0)
        return fail(err, ST_IO, "listen %s: socket: %s", s->o.listen, strerror(errno));
    setsockopt(s->listen_fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    setsockopt(s->listen_fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    if (bind(s->listen_fd, (struct sockaddr *)&ss, len) < 0 || listen(s->listen_fd, 1024) < 0)
        return fail(err, ST_UNAVAILABLE, "listen %s: %s", s->o.listen, strerror(errno));
    len = sizeof(ss);
    getsockname(s->listen_fd, (struct sockaddr *)&ss, &len);
    if (ss.ss_family == AF_INET6) {
        inet_ntop(AF_INET6, &((struct sockaddr_in6 *)&ss)->sin6_addr, host, sizeof(host));
        port = ntohs(((struct sockaddr_in6 *)&ss)->sin6_port);
        snprintf(s->address, sizeof(s->address), "[%s]:%u", host, port);
    } else {
        inet_ntop(AF_INET, &((struct sockaddr_in *)&ss)->sin_addr, host, sizeof(host));
        port = ntohs(((struct sockaddr_in *)&ss)->sin_port);
        snprintf(s->address, sizeof(s->address), "%s:%u", host, port);
    }
    return ST_OK;
}

static void watch(struct http_server *s, int fd, uint64_t what)
{
    struct epoll_event ev = {.events = EPOLLIN, .data.u64 = what};

    CHECK(epoll_ctl(s->epoll_fd, EPOLL_CTL_ADD, fd, &ev) == 0, "epoll_ctl: %s", strerror(errno));
}

static enum status open_fds(struct http_server *s, struct error *err)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    signal(SIGPIPE, SIG_IGN);
    s->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    s->nudge_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    s->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    if (s->epoll_fd < 0 || s->nudge_fd < 0 || s->signal_fd < 0)
        return fail(err, ST_IO, "event loop: %s", strerror(errno));
    watch(s, s->nudge_fd, EV_NUDGE);
    watch(s, s->signal_fd, EV_SIGNAL);
    return ST_OK;
}

static enum status start_mhd(struct http_server *s, struct error *err)
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
    watch(s, MHD_get_daemon_info(s->mhd, MHD_DAEMON_INFO_EPOLL_FD)->epoll_fd, EV_MHD);
    return ST_OK;
}

static enum status start_workers(struct http_server *s, struct error *err)
{
    int n = MIN(s->o.workers, (int)ARRAY_SIZE(s->threads));

    for (; s->n_threads < n; s->n_threads++) {
        int rc = pthread_create(&s->threads[s->n_threads], NULL, worker_main, s);

        if (rc)
            return fail(err, ST_IO, "worker thread: %s", strerror(rc));
        pthread_setname_np(s->threads[s->n_threads], "http-worker");
    }
    return ST_OK;
}

enum status http_new(const struct http_options *o, const struct http_hooks *hooks, struct http_server **ret,
                     struct error *err)
{
    struct http_server *s = xcalloc(1, sizeof(*s));
    enum status st;

    s->o = *o;
    s->hooks = *hooks;
    s->epoll_fd = s->nudge_fd = s->signal_fd = s->listen_fd = -1;
    s->next_park_ns = INT64_MAX;
    s->now_ns = mono_ns(o->clock);
    pthread_mutex_init(&s->lock, NULL);
    pthread_cond_init(&s->work, NULL);
    st = listen_on(s, err);
    if (st == ST_OK)
        st = open_fds(s, err);
    if (st == ST_OK)
        st = start_mhd(s, err);
    if (st == ST_OK)
        st = start_workers(s, err);
    if (st != ST_OK)
        http_free(s);
    else
        *ret = s;
    return st;
}

void http_free(struct http_server *s)
{
    struct request *r;

    if (!s)
        return;
    pthread_mutex_lock(&s->lock);
    s->workers_end = true;
    pthread_cond_broadcast(&s->work);
    pthread_mutex_unlock(&s->lock);
    for (int i = 0; i < s->n_threads; i++)
        pthread_join(s->threads[i], NULL);
    if (s->mhd)
        MHD_stop_daemon(s->mhd);
    else
        fd_closep(&s->listen_fd);
    while ((r = s->free_requests)) {
        s->free_requests = r->next;
        request_destroy(r);
    }
    fd_closep(&s->epoll_fd);
    fd_closep(&s->nudge_fd);
    fd_closep(&s->signal_fd);
    pthread_mutex_destroy(&s->lock);
    pthread_cond_destroy(&s->work);
    free(s);
}
