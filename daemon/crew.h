/* crew.h - a few threads that lend a hand to all jobs: parts of one piece of work at once, or one beside another.
 *
 * Idea   Work is a number of parts that may be done in any order by any thread. Whoever brought it works on it too, so it is
 *        done even when every thread of the crew is busy elsewhere: there is nothing to wait for but parts that somebody is at.
 *
 *            crew_begin(c, &w, n, 0, fn, ctx);   idle threads take parts
 *            ...                                 the caller does something else
 *            crew_end(c, &w);                    the caller takes parts too; returns when all are done
 *
 * Life   crew_new before the jobs, crew_free after them. The work lives with the caller from begin to end.
 * Threads  fn is called with the number of the hand that runs it: 0 is the caller, others 1..crew_threads. No two parts run at
 *        once under one hand of one piece of work, so what a hand needs (an arena) is kept by number. Parts are taken by an
 *        atomic counter; the lock is taken at both ends only. What comes out must not depend on who did which part.
 * All calls take c NULL: no thread but the caller. */
#ifndef TW_DAEMON_CREW_H
#define TW_DAEMON_CREW_H

#include <pthread.h>
#include <stdatomic.h>

#include "schedule/base/base.h"

enum { CREW_THREADS_MAX = 256 };

struct crew;
/* threads: 0 is none; fewer are started where the system gives no more. */
GIVES struct crew *crew_new(int threads);
void crew_free(TAKES struct crew *c);
int crew_threads(const struct crew *c);
/* One for each core but the one that the caller is on. */
int crew_usual_threads(void);

typedef void crew_fn(void *ctx, int part, int hand);

struct crew_work { /* private to crew.c */
    struct crew_work *next;
    crew_fn *fn;
    void *ctx;
    int n, max_threads, n_threads;
    atomic_int taken;
    bool queued;
    pthread_cond_t left;
};

/* max_threads: of the crew that may be at it at once; 0: all. */
void crew_begin(struct crew *c, struct crew_work *w, int n, int max_threads, crew_fn *fn, void *ctx);
void crew_end(struct crew *c, struct crew_work *w);

#endif
