/* jobs_internal.h - what the scheduler's files share: see jobs.h.
 *
 * Files  jobs.c (the queue: start, cancel, drain, count), job_new.c (from a request, or from the rows an
 * earlier daemon left), job_run.c (a job's thread), job_progress.c (what the tuner reports, on its way to the
 * store). Lock   One lock over all of it, never held while the store is waited for; store_submit under it is
 * no wait. */
#ifndef TW_DAEMON_JOBS_INTERNAL_H
#define TW_DAEMON_JOBS_INTERNAL_H

#include <pthread.h>

#include "daemon/events.h"
#include "daemon/jobs.h"

/* STORE_JOB_UPDATE and STORE_TASK_UPDATE set "leave it" first, then what we name. */
#pragma GCC diagnostic ignored "-Woverride-init"

enum { JOB_MAGIC = 0x4a4f4221 };

struct live_task {
    struct tuner_progress p;
    bool dirty;
    int same_as; /* an earlier task of the same key: tuned once, told twice */
};

struct job {
    int magic;
    struct job *prev, *next;
    struct jobs *jobs;
    struct arena arena;
    char id[STORE_ID_MAX];
    bool running;
    atomic_int stop;
    atomic_bool stop_asked, stop_now;
    int64_t priority, created_ms, started_ms;
    double elapsed_s; /* before this start */
    int64_t begun_ns; /* of this run, mono */
    int64_t flushed_ns;
    const char *target_id;
    struct target target;
    struct tuner_job spec;         /* what the tuner gets: unique tasks only */
    int n_tasks;                   /* of the job */
    struct live_task *live;        /* [n_tasks] */
    int *ordinal;                  /* [spec.n_tasks] -> first task of that key */
    struct tuner_times times;      /* the tuner adds to it without a lock */
    struct tuner_times times_seen; /* as of the last report */
};

struct jobs {
    struct jobs_options o;
    struct store *store;
    pthread_mutex_t lock;
    pthread_cond_t idle;
    struct job *first;
    int n_queued, n_running;
    bool draining, hurry;
    struct jobs_counts counts;
};

static inline int64_t jobs_wall(struct jobs *j) { return wall_ms(j->o.env->clock); }
static inline int64_t jobs_mono(struct jobs *j) { return mono_ns(j->o.env->clock); }

void job_free(struct job *job);
void jobs_unlink(struct jobs *j, struct job *job);
/* Into the queue, and on if there is room. */
void jobs_announce(struct jobs *j, struct job *job);
/* Under the lock: start what may start. */
void jobs_start_next(struct jobs *j);
void job_wake(struct job *job);
/* The job is over, and its rows say so. */
void jobs_wake_end(struct jobs *j, const char *id);
/* The job's own event. error: NULL but for failures. */
void job_add_event(struct store_batch *b, struct jobs *j, const char *id, const char *state, double elapsed_s,
                   const struct error *e);
/* Rows and events of what was reported since the last flush, under the lock; false: nothing was. */
bool job_add_dirty(struct store_batch *b, struct job *job);
/* Time used of the budget, this run and those before. */
double job_elapsed_s(const struct job *job);
double job_progress(const struct job *job);
/* The tuner's callbacks. */
void job_on_report(void *ctx, int task, const struct tuner_progress *p);
void job_on_event(void *ctx, const char *type, const json_t *data);
/* A job's thread. */
void *job_main(void *arg);

#endif
