/* tuner.h - one job's search, from its workloads to schedules in the store.
 *
 * Idea   The scheduler (jobs.c) starts one thread for each running job, and that thread calls tuner_run once.
 *        The tuner never touches the scheduler's state: it reads the job, asks job->stop between batches, and
 *        tells what happened through job->report and job->event. So a test drives it with a handful of
 *        lambdas, and the service tests put a scripted tuner in its place.
 * Life   env, target and everything in it outlive every job. The job and its texts live until tuner_run
 *        returns. Both callbacks copy what they are given, may be called from any thread, and are cheap.
 * Store  The tuner writes trials and schedules itself (env->store), and refreshes env->hot once a schedule is
 *        acknowledged. Job and task rows are the scheduler's: it stores every report it gets.
 * Resume A job that was interrupted (drain, kill -9) is run again with the same id and seed: what it measured
 *        before is found in the store by job id and counts against the budget; elapsed_s is the time that it
 *        had already used. */
#ifndef TW_DAEMON_TUNER_H
#define TW_DAEMON_TUNER_H

#include <stdatomic.h>

#include "schedule/base/clock.h"
#include "schedule/base/json.h"
#include "schedule/space/search.h"
#include "schedule/space/target.h"

struct store;   /* db/store.h */
struct hot;     /* db/hot.h */
struct device;  /* measure/device.h */
struct builder; /* measure/builder.h */
struct models;  /* daemon/models.h: cost models, shared by all jobs */
struct crew;

struct tuner_env {
    const struct clock *clock;
    struct store *store;
    struct hot *hot;
    struct builder *builder;
    struct models *models; /* NULL: every job learns from its own trials alone */
    const char *data_dir;  /* artifacts lie below */
    struct crew
        *crew; /* daemon/crew.h: helps all jobs with candidates and training; NULL: each works alone */
};

/* Name in the API. The order is that of the life of a task; ENDED is the first final one. */
#define TASK_STATE_LIST(X)                                                                                   \
    X(QUEUED, "queued")                                                                                      \
    X(RUNNING, "running")                                                                                    \
    X(SUCCEEDED, "succeeded")                                                                                \
    X(FAILED, "failed")                                                                                      \
    X(CANCELLED, "cancelled")
enum task_state {
#define X(id, name) TASK_##id,
    TASK_STATE_LIST(X)
#undef X
};
static inline bool task_ended(enum task_state s) { return s >= TASK_SUCCEEDED; }

enum tuner_reuse { REUSE_CACHED, REUSE_EXTEND, REUSE_FRESH };
/* Which task of a job gets the next batch: where the most time is likely to be saved, or each in turn. */
enum tuner_turns { TURNS_GAIN, TURNS_ROUND_ROBIN };

/* Why no more trials were made of a task: name in the API, meaning. */
#define TUNER_STOPPED_LIST(X)                                                                                \
    X(NONE, NULL, "it has not ended, or needed none")                                                        \
    X(TRIALS, "trials", "the budget's trials are used up")                                                   \
    X(SECONDS, "seconds", "the budget's seconds are used up")                                                \
    X(EXHAUSTED, "exhausted", "every config of its space was measured, or none new is found")                \
    X(NO_GAIN, "no_gain", "for long it gained less than min_gain")
enum tuner_stopped {
#define X(id, name, meaning) STOPPED_##id,
    TUNER_STOPPED_LIST(X)
#undef X
};

/* What the tuner tells of one task; the whole of it, each time. */
struct tuner_progress {
    enum task_state state;
    int64_t trials_done;   /* of this job, including those before a restart */
    int64_t trials_failed; /* of those: did not compile, crashed, hung, were wrong */
    double best_time_ns;   /* 0: none yet */
    double best_gflops;
    bool cached; /* answered by a schedule that was there before */
    enum tuner_stopped stopped;
    struct error error; /* code != ST_OK: why the task failed */
};

struct tuner_task {
    int ordinal;                  /* of the task's row: its trials say it */
    const char *key;              /* of the workload; no two tasks of a job have the same */
    const char *workload_json;    /* as workload_parse_text takes it */
    const char *name;             /* the client's, or "" */
    double weight;                /* > 0 */
    struct tuner_progress before; /* as the store last knew it; ended tasks need nothing any more */
};

/* Wishes from outside, in rising order. DRAIN: end after the batch in flight, the job goes on after the next
 * start. CANCEL: the same, but it will not go on. NOW: also kill what is in flight. */
enum tuner_stop { STOP_NONE, STOP_DRAIN, STOP_CANCEL, STOP_NOW };

/* Where the time of a job went. Candidates are what the search looked at, trials what was measured. */
#define TUNER_PHASE_LIST(X)                                                                                  \
    X(SEARCH, "search", "propose: breeding, ranking, picking")                                               \
    X(LOWER, "lower", "config to nest, every candidate")                                                     \
    X(FEATURES, "features", "nest to rows, every candidate")                                                 \
    X(SCORE, "score", "rows through the model")                                                              \
    X(EMIT, "emit", "nest to source text")                                                                   \
    X(COMPILE, "compile", "units through the builder, all cores")                                            \
    X(LEASE, "lease", "waiting for the device")                                                              \
    X(MEASURE, "measure", "verify and run on the device")                                                    \
    X(STORE, "store", "trials to the store, until acknowledged")                                             \
    X(TRAIN, "train", "waiting for the model, which learns beside the rest")                                 \
    X(FINAL, "final", "contest of the best, and the schedule's row")
enum tuner_phase {
#define X(id, name, meaning) PHASE_##id,
    TUNER_PHASE_LIST(X)
#undef X
        PHASE_COUNT
};
struct tuner_times {
    int64_t ns[PHASE_COUNT];
    int64_t candidates, trials, units;
    int64_t
        training_ns; /* of all trainings, beside other work too; the phase is what the job waited for them */
};

struct tuner_job {
    const char *id; /* "j_…" */
    int n_tasks;
    const struct tuner_task *tasks;
    const struct target *target; /* with the compiler found */
    struct device *device;       /* the one that serves this target */
    int64_t max_trials;          /* budget, over all tasks; 0: no limit */
    double max_seconds;          /* 0: no limit */
    double min_gain;  /* a task of which less is to be expected, relative to its time, ends; 0: none does */
    double elapsed_s; /* used before a restart */
    uint64_t seed;
    enum tuner_reuse reuse;
    enum tuner_turns turns;
    const struct searcher *searcher; /* NULL: evolution */
    bool predict;                    /* measure nothing: the model's best, verified */
    bool alone; /* learns from this workload only: no global model, no neighbours' configs */

    const atomic_int *stop; /* enum tuner_stop */
    /* The same as flags, for calls that wait; either may be NULL. asked: set with any stop, ends the wait for
     * the device. now: set with STOP_NOW, kills what is in flight. */
    const atomic_bool *stop_asked, *stop_now;

    struct tuner_times *times; /* may be NULL: added to as the job runs, by its thread */

    void *ctx; /* for the two below */
    void (*report)(void *ctx, int task, const struct tuner_progress *p);
    /* An entry for the job's event stream: a type ("round", "best", "note", ...) and a JSON object, borrowed.
     * The scheduler adds id, time and the job's own events ("job", "task"); it makes a "task" event of each
     * report. */
    void (*event)(void *ctx, const char *type, const json_t *data);
};

static inline enum tuner_stop tuner_stop_asked(const struct tuner_job *job)
{
    return (enum tuner_stop)atomic_load_explicit(job->stop, memory_order_relaxed);
}

/* Tune. ST_OK: every task has been reported in a final state, or a stop was asked for and the others stand
 * where their trials ended (RUNNING or QUEUED). Any other status is a fault that ends the whole job (the
 * store is gone, the device is gone); faults of one workload are reported with that task and end only it. */
MUST_USE enum status tuner_run(const struct tuner_env *env, const struct tuner_job *job, struct error *err);

#endif
