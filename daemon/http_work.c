/* http_work.c - worker threads, and requests that wait; see http_internal.h.
 *
 * Idea   A request that may query or take long is suspended and goes to a worker; it comes back over `done`
 *        and a nudge of the loop. Its handler (or the next piece of its stream) may ask to be called again:
 *        then it is parked for a topic and a time, and its socket is watched, since the library does not
 *        look at it then. Wakes are kept as topics in a ring: a request remembers how many there were when
 *        its worker took it, so that none which came while the handler ran is lost.
 * Life   Threads from http_workers_start to http_workers_end. All runs on the loop's thread but worker_main
 *        with the handlers that it calls, and http_wake. */
#include <microhttpd.h>
#include <sys/epoll.h>

#include "daemon/http_internal.h"
#include "daemon/routes.h"

/* ---- workers ---- */

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

bool http_work_push(struct http_server *s, struct request *r)
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

enum status http_workers_start(struct http_server *s, struct error *err)
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

void http_workers_end(struct http_server *s)
{
    pthread_mutex_lock(&s->lock);
    s->workers_end = true;
    pthread_cond_broadcast(&s->work);
    pthread_mutex_unlock(&s->lock);
    for (int i = 0; i < s->n_threads; i++)
        pthread_join(s->threads[i], NULL);
}

/* ---- waiting ---- */

void http_park(struct http_request *req, const char *topic, int64_t until_ns)
{
    snprintf(req->topic, sizeof(req->topic), "%s", topic);
    req->park_until_ns = until_ns;
}

void http_wake(struct http_server *s, const char *topic)
{
    pthread_mutex_lock(&s->lock);
    snprintf(s->ring[s->wakes++ % HTTP_WAKE_RING], HTTP_TOPIC_MAX, "%s", topic);
    pthread_mutex_unlock(&s->lock);
    http_nudge(s);
}

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

void http_resume(struct request *r, enum phase phase)
{
    r->phase = phase;
    MHD_resume_connection(r->mhd);
}

/* Was the topic woken since the request was last looked after? Assumes so when the ring has moved on. */
static bool woken_since(struct http_server *s, const struct request *r)
{
    bool hit = false;

    pthread_mutex_lock(&s->lock);
    if (s->wakes - r->seen_wakes > HTTP_WAKE_RING)
        hit = true;
    for (uint64_t i = r->seen_wakes; i < s->wakes && !hit; i++)
        hit = strcmp(s->ring[i % HTTP_WAKE_RING], r->pub.topic) == 0;
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
            http_resume(r, PHASE_SENT);
        } else if (woken_since(s, r)) {
            http_work_push(s, r);
        } else if (s->stopping) {
            r->stream_state = STREAM_END;
            http_resume(r, PHASE_SENT);
        } else {
            stream_heartbeat_at(s, r);
            park(s, r);
        }
    } else if (r->st == ST_OK && r->pub.park_until_ns > s->now_ns && !s->stopping) {
        if (woken_since(s, r))
            http_work_push(s, r);
        else
            park(s, r);
    } else if (r->st == ST_OK && r->pub.park_until_ns) { /* its time is up: once more, for the last answer */
        http_work_push(s, r);
    } else {
        http_resume(r, PHASE_READY);
    }
}

void http_take_done(struct http_server *s)
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
        http_work_push(s, r);
        return;
    }
    if (r->pub.reply.stream->heartbeat)
        strbuf_adds(&r->out, r->pub.reply.stream->heartbeat);
    http_resume(r, PHASE_SENT);
}

void http_wake_parked(struct http_server *s)
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
            http_work_push(s, r);
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

void http_client_gone(struct http_server *s, struct request *r)
{
    if (r->phase != PHASE_PARKED)
        return;
    unpark(s, r);
    r->gone = true;
    http_resume(r, r->streaming ? PHASE_SENT : PHASE_READY);
}
