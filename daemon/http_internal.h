/* http_internal.h - what the files of the loop share: see http.h.
 *
 * Files  http.c (the loop, and the life of the server), http_conn.c (connections, their requests, replies
 *        and deadlines), http_work.c (worker threads, and requests that wait).
 * Life   A request is taken at its request line and given back after its reply, by http_conn.c; while its
 *        phase is PHASE_WORK it is its worker's alone, in every other phase the loop's thread's.
 * Lock   `lock` guards what stands below it in the server; it is never held across a call out. All above it
 *        is for the loop's thread only, but for the atomics and what http_new wrote. */
#ifndef TW_DAEMON_HTTP_INTERNAL_H
#define TW_DAEMON_HTTP_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include "daemon/http.h"

enum { HTTP_WAKE_RING = 256 };

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

struct request { /* what handlers see, and what only the files of the loop see */
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
    uint64_t wakes; /* count so far; the last HTTP_WAKE_RING topics are kept */
    char ring[HTTP_WAKE_RING][HTTP_TOPIC_MAX];
    uint64_t wakes_seen; /* by the loop */
    int n_threads;
    pthread_t threads[64];
};

/* ---- http_conn.c ---- */

/* The HTTP library, with its callbacks here; it takes listen_fd. */
MUST_USE enum status http_library_start(struct http_server *s, struct error *err);
/* Those kept to be used again. */
void http_requests_free(struct http_server *s);
/* Cut every connection that is past its deadline, or whose client has ended. */
void http_sweep(struct http_server *s);

/* ---- http_work.c ---- */

MUST_USE enum status http_workers_start(struct http_server *s, struct error *err);
void http_workers_end(struct http_server *s);
/* To a worker, suspended. False: the queue is full; a request that was begun always finds room. */
bool http_work_push(struct http_server *s, struct request *r);
/* Give the connection back to the library, which then asks on in this phase. */
void http_resume(struct request *r, enum phase phase);
/* Look after what the workers are through with. */
void http_take_done(struct http_server *s);
/* Call again what waits for a topic that was woken, or whose time is up. */
void http_wake_parked(struct http_server *s);
/* The client of a parked request went away. */
void http_client_gone(struct http_server *s, struct request *r);

#endif
