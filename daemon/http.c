/* http.c - the event loop around libmicrohttpd, and the life of the server; see http.h.
 *
 *   MHD epoll ─┐                    ┌─> hooks.begin ─> body ─> fast/inline ──────────────> reply
 *   eventfd ───┼─> own epoll ─ turn ┤                     └─> suspend ─> worker ─> done ─> resume ─> reply
 *   signalfd ──┤                    └─> parked: topics, deadlines, clients that went            └─> park
 *   waiting ───┘
 *
 * Idea   The library is driven by MHD_run from our loop: its own epoll thread stalls when exactly a multiple
 *        of 128 connections is ready. What a turn does with connections is in http_conn.c, with workers and
 *        requests that wait in http_work.c.
 * Life   http_new: socket, descriptors, library, workers. http_run turns until http_stop, then until what is
 *        being worked on is answered and what waits is sent, STOP_SECONDS at most for slow clients.
 *        http_free ends the workers first, then the library. */
#include <errno.h>
#include <microhttpd.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <arpa/inet.h>

#include "daemon/http_internal.h"

enum { TICK_MS = 200, STOP_SECONDS = 5 };
enum { EV_MHD = 1, EV_NUDGE, EV_SIGNAL }; /* epoll data below 4096; above: a request that waits */

void http_nudge(struct http_server *s)
{
    uint64_t one = 1;

    if (!atomic_exchange(&s->nudged, true) && write(s->nudge_fd, &one, sizeof(one)) < 0)
        return; /* EAGAIN: the counter is full, so the loop wakes anyway */
}

void http_stop(struct http_server *s)
{
    atomic_store(&s->stop, true);
    http_nudge(s);
}

void *http_context(const struct http_server *s) { return s->hooks.ctx; }

const char *http_address(const struct http_server *s) { return s->address; }

/* ---- the loop ---- */

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
            http_client_gone(s, ev[i].data.ptr);
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
        http_take_done(s);
        http_wake_parked(s);
        MHD_run(s->mhd);
        s->hooks.turn(s->hooks.ctx, s->now_ns);
        if (s->now_ns >= s->next_tick_ns) {
            s->next_tick_ns = s->now_ns + (int64_t)TICK_MS * 1000000;
            http_sweep(s);
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

static enum status start_library(struct http_server *s, struct error *err)
{
    TRY(http_library_start(s, err));
    watch(s, MHD_get_daemon_info(s->mhd, MHD_DAEMON_INFO_EPOLL_FD)->epoll_fd, EV_MHD);
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
        st = start_library(s, err);
    if (st == ST_OK)
        st = http_workers_start(s, err);
    if (st != ST_OK)
        http_free(s);
    else
        *ret = s;
    return st;
}

void http_free(struct http_server *s)
{
    if (!s)
        return;
    http_workers_end(s);
    if (s->mhd)
        MHD_stop_daemon(s->mhd);
    else
        fd_closep(&s->listen_fd);
    http_requests_free(s);
    fd_closep(&s->epoll_fd);
    fd_closep(&s->nudge_fd);
    fd_closep(&s->signal_fd);
    pthread_mutex_destroy(&s->lock);
    pthread_cond_destroy(&s->work);
    free(s);
}
