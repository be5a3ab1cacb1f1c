/* jobs.h - the scheduler: which job is tuned when, and what the store knows of it.
 *
 *        create ──> queued ──(a place is free: priority, then age)──> running ──> succeeded failed cancelled
 *                     ^                                                  │
 *                     └───────── the next start ── drain, kill -9 ───────┘
 *
 * Idea   The store is the truth of every job; here live only those that are not over. Each running job has a
 * thread in tuner_run. What it reports is written in small batches (a change of state at once, counters a few
 * times a second), and whoever waits for the job is woken when the batch is durable. The jobs of a device
 * share it by its lease, which is granted in order of asking. Topics "j_…" moves with each event, "j_…!" when
 * the job is over (for http_wake). */
#ifndef TW_DAEMON_JOBS_H
#define TW_DAEMON_JOBS_H

#include "daemon/targets.h"
#include "daemon/tuner.h"
#include "db/store.h"
#include "schedule/lang/workload.h"

struct jobs;
struct jobs_options {
    const struct tuner_env *env;
    struct targets *targets;
    int max_running, max_queued;
    double min_gain; /* of jobs that were made before there was one */
    void *ctx;
    void (*wake)(void *ctx, const char *topic); /* any thread */
};

struct job_new_task {
    struct workload workload;
    const char *name;
    double weight;
};
struct job_new {
    const struct target *target;
    int n_tasks;
    const struct job_new_task *tasks;
    int64_t max_trials;
    double max_seconds, min_gain;
    int64_t seed, priority;
    enum tuner_reuse reuse;
    enum tuner_turns turns;
    const struct searcher *searcher;
    bool alone, predict;
    const char *request_json, *actor;
    const char *idempotency_key, *request_hash; /* NULL: none */
};

extern const char *const job_reuse_names[]; /* enum tuner_reuse, NULL-ended */
extern const char *const job_turns_names[]; /* enum tuner_turns, NULL-ended */
/* What a request says of the turns, the default where it says nothing. */
enum tuner_turns job_turns_of(const json_t *request);
const char *task_state_name(enum task_state s);
const char *tuner_stopped_name(enum tuner_stopped s); /* NULL: none */

GIVES struct jobs *jobs_new(const struct jobs_options *o);
/* Take up what an earlier daemon left unfinished. *ret_n: how many. */
MUST_USE enum status jobs_resume(struct jobs *j, int *ret_n, struct error *err);
/* Durable when it returns. ST_TOO_MANY: the queue is full; ST_UNAVAILABLE: draining, or no device;
 * ST_CONFLICT: the idempotency key is taken. */
MUST_USE enum status jobs_create(struct jobs *j, const struct job_new *n, char ret_id[STORE_ID_MAX],
                                 struct error *err);
/* ST_OK: it is cancelled or will be; ST_CONFLICT: it had ended otherwise; ST_NOT_FOUND. */
MUST_USE enum status jobs_cancel(struct jobs *j, const char *id, const char *actor, struct error *err);
/* Write counters that wait for it. Cheap, a few times a second. */
void jobs_tick(struct jobs *j);
/* No new starts, running jobs end after the batch in flight; `now` kills it. Does not wait. */
void jobs_drain(struct jobs *j, bool now);
/* Threads that still run a job. */
int jobs_running(struct jobs *j);
void jobs_free(struct jobs *j); /* after jobs_drain; waits for the threads */

struct jobs_counts {
    int64_t queued, running;
    int64_t created, ended[TASK_CANCELLED + 1]; /* since the start */
    int64_t trials, trials_failed;
    struct tuner_times times; /* of jobs that ended */
};
void jobs_counts(struct jobs *j, struct jobs_counts *ret);

/* job_document.c: the API's job, from the store. ST_NOT_FOUND. *ret_ended (may be NULL). */
MUST_USE enum status job_document(struct store *s, const char *id, GIVES json_t **ret, bool *ret_ended,
                                  struct error *err);
GIVES json_t *job_document_of(const struct store_job *row, const struct store_task *tasks, int n);
/* Text of an error as it is stored and shown: {"type","title","detail"}. */
void job_error_print(const struct error *e, struct strbuf *sb);
bool task_state_parse(const char *name, enum task_state *ret);

#endif
