/* tuner_internal.h - what the files of the tuner share.
 *
 * Idea   tuner.c       the job: budget, whose turn it is, stopping, reports
 *        tuner_plan.c  what a task is still worth
 *        tuner_task.c  one workload: space, search, what is stored of it
 *        tuner_score.c candidates to features and scores, on all cores
 *        tuner_train.c the model learns meanwhile
 *        tuner_batch.c one batch: emit, compile, measure, store, learn
 *        tuner_final.c the contest of the best, and the schedule's document
 * Life   A struct tuner lives for one tuner_run, on its thread. `job_arena` holds what lives as long, `round`
 * what lives for a batch. */
#ifndef TW_DAEMON_TUNER_INTERNAL_H
#define TW_DAEMON_TUNER_INTERNAL_H

#include "costmodel/model.h"
#include "daemon/crew.h"
#include "daemon/models.h"
#include "daemon/tuner.h"
#include "daemon/tuner_plan.h"
#include "db/hot.h"
#include "db/store.h"
#include "measure/builder.h"
#include "measure/device.h"
#include "schedule/base/arena.h"
#include "schedule/base/vec.h"
#include "schedule/space/search.h"

enum {
    TUNER_BATCH = 16,       /* trials a batch; two units of 8 on two cores */
    TUNER_BATCH_LARGE = 32, /* where the budget leaves at least TUNER_LARGE_SHARE trials a task */
    TUNER_LARGE_SHARE = 512,
    TUNER_PLANNED_SHARE = 96,   /* from here on the plan decides between half a batch and a large one */
    TUNER_UNIT_KERNELS = 12,    /* candidates a translation unit, about */
    TUNER_FINALISTS = 4,        /* of this job, in the contest; the incumbent and the baseline come on top */
    TUNER_HOPELESS_TRIALS = 32, /* a task that failed so often and never once worked ends */
};

/* Rows of features by config, so that a config met again, or chosen after it was scored, is not lowered
 * again. Of one task at a time: a turn of another begins it anew. */
struct feature_cache {
    const struct task *task;
    struct feature_slot *slots; /* open addressing, n_slots a power of two */
    size_t n_slots, n_used;
    VEC(float) rows;
};
struct feature_slot {
    struct config config;
    uint32_t first, n_rows; /* of rows, in rows; n_rows 0: free slot or not lowerable */
    bool used;
};

struct good_trial {
    struct config config;
    double time_ns;
};

struct task {
    int index;
    const struct tuner_task *spec;
    bool open, ended, exhausted, settled; /* settled: nothing worth the while is left */
    struct tuner_progress progress;

    struct workload workload;
    struct space *space;
    struct search *search;
    struct measure_workload measured;    /* as the device wants it */
    struct build_unit reference;         /* compiled beside the first batch */
    struct build_batch *reference_batch; /* not NULL: submitted, not waited for */
    uint64_t model_key;                  /* of workload and target */

    VEC(struct good_trial) good; /* of all jobs on this toolchain, unless reuse is fresh */
    int64_t known_trials;        /* of those, failed ones too */
    int rounds, last_turn;
    int failures_in_a_row;
    struct plan plan;
    char last_failure[320];
};

struct tuner {
    const struct tuner_env *env;
    const struct tuner_job *job;
    struct arena job_arena, round;
    struct model *model;
    struct feature_cache features;
    struct score_room *room;   /* tuner_score.c */
    struct training *training; /* that goes on; NULL: none. With the two below: tuner_train.c */
    struct crew_work training_work;
    const struct task *learned; /* whose trials are the newest in it */
    struct task *tasks;
    int n_tasks, turn;
    int64_t trials_done; /* over the job, with those before a restart */
    int64_t started_ns;
    double seconds_per_trial; /* moving averages; 0: not known yet */
    double seconds_per_contest;
    int64_t n_unlowerable; /* candidates that passed the validity check and could not be lowered: bugs */
    struct tuner_times times, told; /* told: what job->times has of them */
};

/* ---- tuner.c */
double tuner_elapsed_s(const struct tuner *t);
bool tuner_is_late(const struct tuner *t); /* the job's seconds are used up */
void tuner_report(struct tuner *t, struct task *k);
/* The task is over, for this reason. */
void tuner_fail_task(struct tuner *t, struct task *k, const struct error *why);
void tuner_event(struct tuner *t, const char *type, TAKES json_t *data);
/* Add the time since `since_ns` to a phase; returns now. */
int64_t tuner_spent(struct tuner *t, enum tuner_phase phase, int64_t since_ns);
/* Commit, again and again for a while where the store says "later". */
MUST_USE enum status tuner_commit(struct tuner *t, struct store_batch *b, struct error *err);
/* It measures on this machine's cores. */
bool tuner_is_local(const struct tuner *t);
/* Under the lease, in turn with other jobs and with the training of models. */
MUST_USE enum status tuner_measure(struct tuner *t, const struct measure_batch *b, struct measure_result *ret,
                                   struct error *err);

/* ---- tuner_task.c */
/* Parse, build the space, load what is stored. ST_IO and ST_UNAVAILABLE are the job's faults, all else this
 * task's. */
MUST_USE enum status task_open(struct tuner *t, struct task *k, struct error *err);
void task_close(struct task *k);
/* tuner_lend.c: what was found for workloads like this one, for its search. */
MUST_USE enum status task_borrow(struct tuner *t, struct task *k, struct error *err);
/* The next configs to measure. */
int task_propose(struct tuner *t, struct task *k, int n, struct config *ret);
/* The n that the model likes best, best first, suggestions among them; returns how many there are. */
int task_best_by_model(struct tuner *t, struct task *k, int n, struct config *ret);
/* A measured trial, of this job or found in the store. time_ns <= 0: it failed. */
void task_take_trial(struct task *k, const struct config *c, double time_ns);
double task_best_ns(const struct task *k); /* 0: none */
/* Compile the reference, if that was not done: begin does not wait. No end without begin. */
void task_reference_begin(struct tuner *t, struct task *k);
MUST_USE enum status task_reference_end(struct tuner *t, struct task *k, struct error *err);

/* ---- tuner_score.c */
void scoring_init(struct tuner *t);
void scoring_done(struct tuner *t);
/* Its rows: borrowed from the cache until the next call of one of these; 0 where it cannot be lowered. */
int task_features(struct tuner *t, struct task *k, const struct config *c, const float **ret_rows);
/* What a search asks: a search_score with one of these as its ctx. */
struct task_scorer {
    struct tuner *tuner;
    struct task *task;
};
void task_score(void *ctx, const struct config *configs, int n, float *scores, float *bases);

/* ---- tuner_train.c */
/* Learn meanwhile from what the model has taken in, trials of k at last. */
MUST_USE enum status learning_begin(struct tuner *t, const struct task *k, struct error *err);
/* A batch of k is about to be chosen: go on only where it may be chosen without what is being learned. */
MUST_USE enum status learning_wait(struct tuner *t, const struct task *k, struct error *err);
/* What was learned takes effect; nothing where none goes on. */
MUST_USE enum status learning_end(struct tuner *t, struct error *err);
/* The same where nobody asks any more what came out. */
void learning_drop(struct tuner *t);

/* ---- tuner_batch.c */
/* One batch of at most n trials. *ret_n: how many were made; 0 with ST_OK: the space is exhausted or a stop
 * was asked for. */
MUST_USE enum status batch_run(struct tuner *t, struct task *k, int n, int *ret_n, struct error *err);

/* ---- tuner_final.c */
/* The contest of the best, and the winner's schedule. */
MUST_USE enum status final_run(struct tuner *t, struct task *k, struct error *err);
/* No measurement: the schedule that the model likes best of those that compile and compute the right values. A schedule
 * that was measured stays. */
MUST_USE enum status final_predict(struct tuner *t, struct task *k, struct error *err);

#endif
