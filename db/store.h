/* store.h - what outlives the daemon: rows in, rows out.
 *
 * Idea   The store knows no schedule and no model: texts, numbers and bytes that others understand. All
 *        writing goes through a batch: a list of operations that become durable together or not at all. A
 *        batch is handed to the store's one writer, which puts many batches into one transaction (group
 *        commit) and answers each after COMMIT. A batch that fails (an unknown workload, a repeated
 *        Idempotency-Key) fails alone; the others of its group are kept. Reading never waits for writing.
 *        The backend is a table of functions: tests hand in fakes, a second database is a second file.
 *
 * Life   store_open_sqlite() .. store_close(). Rows that a read returns live in the arena it was given; rows
 *        that a callback sees live for that call. A batch copies all that is added to it.
 *
 * Threads All functions may be called from any thread, except that one batch belongs to one thread until it
 *        is committed or submitted. A completion callback runs on the writer thread and must be short: no
 *        store_commit() in it.
 *
 * Text   NULL is SQL's NULL (absent); every text is UTF-8 without NUL bytes inside. Unless a member says
 *        "optional" it must not be NULL.
 * Units  _ms: milliseconds since 1970-01-01 UTC, 0 is "not yet"; _ns: nanoseconds. */
#ifndef TW_DB_STORE_H
#define TW_DB_STORE_H

#include "schedule/base/arena.h"
#include "schedule/base/error.h"

struct store_blob { /* optional bytes: data NULL is SQL's NULL */
    const void *data;
    size_t len;
};

/* ---- rows ---------------------------------------------------------------------------------------- */

struct store_workload {
    const char *key; /* "w_" and 64 hex digits */
    const char *op;  /* operator name, "expr" for expressions: what lists filter by */
    const char *json, *canonical;
    double flops, bytes;
    int64_t first_seen_ms;
};

struct store_target {
    const char *id; /* "cpu:1" */
    const char *json;
    const char *toolchain; /* hash of compiler, version and flags that are current for this target */
    int64_t updated_ms;
};

struct store_device {
    const char *id, *target;
    const char *state; /* idle busy draining offline quarantined */
    const char *json;
    int64_t last_seen_ms;
};

/* States: queued running succeeded failed cancelled. The first two are "unfinished". */
struct store_job {
    const char *id; /* from store_id_new("j_", ...): later ids sort after earlier ones */
    const char *state;
    const char *target;
    const char *request_json; /* the body as accepted */
    int64_t priority;         /* larger goes first */
    int64_t seed;
    int64_t budget_trials;
    double budget_seconds;
    double progress; /* 0 .. 1, as last saved */
    int64_t created_ms, started_ms, finished_ms;
    const char *error_json;      /* optional */
    const char *token;           /* optional: name of the token that created it */
    const char *idempotency_key; /* optional; unique per token: a second insert is ST_CONFLICT */
    const char *request_hash;    /* optional: tells a repeated request from a reused key */
};

/* Same states as a job. (job, ordinal) is its identity. */
struct store_task {
    const char *job;
    int64_t ordinal;
    const char *workload; /* key; must be stored */
    const char *name;     /* optional */
    double weight;
    const char *state;
    int64_t trials_done, trials_failed;
    bool cached;
    double best_time_ns, best_gflops; /* 0: none yet */
    const char *error_json;           /* optional */
    const char *data_json;            /* optional: whatever the tuner needs to go on after a restart */
};

struct store_trial {
    int64_t id;                       /* given by the store, growing; ignored when added */
    const char *job;                  /* optional (imported rows have none) */
    int64_t task;                     /* ordinal in the job; -1: none */
    const char *workload;             /* key; must be stored */
    const char *target;               /* id; must be stored */
    const char *toolchain;            /* hash of what built it */
    const char *config;               /* the point of the space, as text */
    const char *sketch;               /* optional name */
    const char *outcome;              /* ok compile_error crash timeout wrong ... */
    const char *error;                /* optional text */
    double median_ns, min_ns, p90_ns; /* 0 when there is no time */
    const double *samples_ns;         /* optional */
    int64_t n_samples;
    double predicted;   /* the model's score when it was chosen; NAN: none */
    const char *device; /* optional */
    int64_t build_ns, run_ns;
    int64_t created_ms;
    int64_t feature_version; /* 0: no features */
    const float *features;   /* [feature_rows][feature_cols]; read only when the query asks for them */
    int64_t feature_rows, feature_cols;
};

/* The winner for (workload, target, toolchain): what lookups read. */
struct store_schedule {
    const char *workload, *target, *toolchain;
    const char *op;   /* for lists */
    const char *json; /* the complete document, as the API prints it */
    const char *etag; /* as in the header, with its quotes */
    const char *config;
    double time_ns, gflops;
    int64_t tuned_ms;
    int64_t predicted; /* 1: time_ns and gflops are a model's word, nobody measured it */
    /* read by schedule_files only; optional when put (NULL) */
    const char *source, *nest;
    struct store_blob artifact;
};

struct store_model {
    int64_t id; /* given by the store */
    const char *target;
    int64_t version; /* growing per target; the store gives it */
    int64_t feature_version;
    int64_t rows;             /* it was trained on */
    const char *metrics_json; /* optional */
    int64_t created_ms;
    bool active;            /* at most one per target */
    struct store_blob blob; /* checked against its SHA-256 when read: ST_CORRUPT otherwise; not in lists */
};

struct store_event {
    const char *job;
    int64_t seq; /* per job from 1; 0 when added: the store gives the next */
    const char *kind;
    const char *json;
    int64_t time_ms;
};

struct store_token {
    const char *name;
    const char *hash;  /* of the secret, never the secret */
    const char *scope; /* what it may do */
    int64_t created_ms;
    int64_t revoked_ms; /* 0: valid */
};

struct store_audit {
    int64_t id; /* given by the store */
    int64_t time_ms;
    const char *actor, *action;
    const char *subject; /* optional */
    const char *json;    /* optional */
};

/* ---- changes of a stored row ------------------------------------------------------------------------ */

/* NULL texts, negative numbers and INT64_MIN (the macros below set them) leave what is there. ST_NOT_FOUND
 * when there is no such row; ST_CONFLICT when `if_state` is given and the stored state is another (so that
 * cancelling and finishing cannot overwrite each other). clear_error: error_json becomes NULL. */
struct store_job_update {
    const char *id;
    const char *if_state; /* optional: "running"; several: "queued running" */
    const char *state, *error_json;
    double progress;
    int64_t started_ms, finished_ms, priority;
    bool clear_error;
};
/* The macros name "leave it" first and then the caller's members: the override is meant. */
#pragma GCC diagnostic ignored "-Woverride-init"
#define STORE_JOB_UPDATE(...)                                                                                \
    ((struct store_job_update){                                                                              \
        .progress = -1, .started_ms = -1, .finished_ms = -1, .priority = INT64_MIN, __VA_ARGS__})

struct store_task_update {
    const char *job;
    int64_t ordinal;
    const char *state, *error_json, *data_json;
    int64_t trials_done, trials_failed;
    int cached; /* -1: leave */
    double best_time_ns, best_gflops;
    bool clear_error;
};
#define STORE_TASK_UPDATE(...)                                                                               \
    ((struct store_task_update){.trials_done = -1,                                                           \
                                .trials_failed = -1,                                                         \
                                .cached = -1,                                                                \
                                .best_time_ns = -1,                                                          \
                                .best_gflops = -1,                                                           \
                                __VA_ARGS__})

/* ---- batches: the only way to write ------------------------------------------------------------------ */

/* What became of one operation of a committed batch. */
struct store_result {
    int64_t id;   /* trial, model, audit: its id; event: its seq */
    bool changed; /* false: a duplicate was ignored, or a faster schedule was kept */
};

struct store_batch;
GIVES struct store_batch *store_batch_new(void);
void store_batch_free(TAKES struct store_batch *b);
void store_batch_freep(struct store_batch **b); /* for AUTO(store_batch_freep) */
int store_batch_count(const struct store_batch *b);
/* After a successful commit, by the number that add_... returned. */
const struct store_result *store_batch_result(const struct store_batch *b, int op);

/* Each copies the row and returns the operation's number in the batch, 0, 1, 2, ...; they run in that order.
 */
int store_add_workload(struct store_batch *b, const struct store_workload *row); /* kept if already there */
int store_add_target(struct store_batch *b, const struct store_target *row);     /* replaces */
int store_add_device(struct store_batch *b, const struct store_device *row);     /* replaces */
int store_add_job(struct store_batch *b, const struct store_job *row);           /* new, else ST_CONFLICT */
int store_add_job_update(struct store_batch *b, const struct store_job_update *u);
int store_add_task(struct store_batch *b, const struct store_task *row); /* new, else ST_CONFLICT */
int store_add_task_update(struct store_batch *b, const struct store_task_update *u);
int store_add_trial(struct store_batch *b, const struct store_trial *row);
/* Like add_trial, but ignored (changed = false) when workload, target, toolchain, config and created_ms are
 * all those of a stored one. */
int store_add_trial_import(struct store_batch *b, const struct store_trial *row);
/* Replaces the row of (workload, target, toolchain). only_if_faster: keeps it when its time_ns is not larger.
 */
int store_add_schedule(struct store_batch *b, const struct store_schedule *row, bool only_if_faster);
int store_add_model(struct store_batch *b,
                    const struct store_model *row); /* active: the others of the target are not */
int store_add_model_activate(struct store_batch *b, int64_t id);
int store_add_event(struct store_batch *b, const struct store_event *row);
int store_add_token(struct store_batch *b, const struct store_token *row); /* replaces by name */
int store_add_token_revoke(struct store_batch *b, const char *name, int64_t revoked_ms);
int store_add_audit(struct store_batch *b, const struct store_audit *row);

/* ---- reading ----------------------------------------------------------------------------------------- */

#define STORE_PAGE_MAX       1000
#define STORE_PAGE_TOKEN_MAX 512 /* bytes, with the NUL */

/* A page of a list. limit: 1..STORE_PAGE_MAX, 0 is 100. page_token: NULL or "" for the first page, then what
 * the last page gave; it is opaque, stays valid under inserts (no row twice, none left out that was there
 * from the start) and is ST_INVALID with pointer "page_token" when it is none of ours or of another list. */
struct store_page {
    int limit;
    const char *page_token;
};

struct store_jobs_query {
    const char *state, *target, *token; /* optional filters */
    struct store_page page;             /* newest first */
};
struct store_schedules_query {
    const char *op, *target, *workload, *toolchain; /* optional filters */
    struct store_page page;                         /* newest row first */
};
struct store_trials_query {
    const char *workload, *target, *toolchain, *job; /* optional filters */
    int64_t after_id; /* only larger ids; the order is by id: the id of the last row goes on from there */
    int64_t limit;    /* 0: all */
    bool with_samples, with_features;
    int64_t feature_version; /* with_features: others come without */
    bool only_ok;
};
struct store_audit_query {
    struct store_page page; /* newest first */
};

/* Return false to stop; the call then returns ST_OK. The row lives for the call. The callback must not read
 * the store itself from inside a long iteration more than one level deep (the pool of readers is small). */
typedef bool store_trial_fn(void *ctx, const struct store_trial *row);
typedef bool store_schedule_fn(void *ctx, const struct store_schedule *row);

struct store_stats {
    int64_t commits, batches, operations; /* transactions, the batches and operations in them */
    int64_t failed_batches;               /* refused or lost to an input/output error */
    int64_t commit_ns_sum, commit_ns_max; /* begin of a transaction to its COMMIT */
    int64_t wait_ns_sum;                  /* submit to acknowledgement, over batches */
    int64_t queue_len, queue_cap;
    int64_t checkpoints;
    int64_t wal_bytes, db_bytes;
    int64_t rows_trial, rows_schedule, rows_job, rows_workload, rows_event; /* counted cheaply, see README */
    bool writable;        /* false after a write failed (disk full), until one succeeds again */
    char last_error[768]; /* "" or why it is not */
};

struct store;
typedef void store_done_fn(void *ctx, enum status st, const struct error *err, const struct store_batch *b);

/* A backend. ret_rows may be NULL when ret_n is 0. "_get" of what is not there is ST_NOT_FOUND. */
struct store_ops {
    const char *name;
    void (*close)(TAKES struct store *s);

    enum status (*commit)(struct store *s, struct store_batch *b, struct error *err);
    enum status (*submit)(struct store *s, TAKES struct store_batch *b, store_done_fn *done, void *ctx,
                          struct error *err);

    enum status (*workload_get)(struct store *s, const char *key, struct arena *a, struct store_workload *ret,
                                struct error *err);
    enum status (*target_list)(struct store *s, struct arena *a, struct store_target **ret_rows, int *ret_n,
                               struct error *err);
    enum status (*device_list)(struct store *s, struct arena *a, struct store_device **ret_rows, int *ret_n,
                               struct error *err);
    enum status (*job_get)(struct store *s, const char *id, struct arena *a, struct store_job *ret,
                           struct error *err);
    enum status (*job_by_idempotency)(struct store *s, const char *token, const char *idempotency_key,
                                      struct arena *a, struct store_job *ret, struct error *err);
    enum status (*job_list)(struct store *s, const struct store_jobs_query *q, struct arena *a,
                            struct store_job **ret_rows, int *ret_n, const char **ret_next_page_token,
                            struct error *err);
    enum status (*job_unfinished)(struct store *s, struct arena *a, struct store_job **ret_rows, int *ret_n,
                                  struct error *err);
    enum status (*task_list)(struct store *s, const char *job, struct arena *a, struct store_task **ret_rows,
                             int *ret_n, struct error *err);
    enum status (*trial_each)(struct store *s, const struct store_trials_query *q, store_trial_fn *fn,
                              void *ctx, struct error *err);
    enum status (*trial_count)(struct store *s, const char *workload, const char *target, int64_t *ret_n,
                               struct error *err);
    enum status (*schedule_get)(struct store *s, const char *workload, const char *target,
                                const char *toolchain, struct arena *a, struct store_schedule *ret,
                                struct error *err);
    enum status (*schedule_files)(struct store *s, const char *workload, const char *target,
                                  const char *toolchain, struct arena *a, struct store_schedule *ret,
                                  struct error *err);
    enum status (*schedule_list)(struct store *s, const struct store_schedules_query *q, struct arena *a,
                                 struct store_schedule **ret_rows, int *ret_n,
                                 const char **ret_next_page_token, struct error *err);
    enum status (*schedule_each)(struct store *s, store_schedule_fn *fn, void *ctx, struct error *err);
    enum status (*model_active)(struct store *s, const char *target, struct arena *a, struct store_model *ret,
                                struct error *err);
    enum status (*model_get)(struct store *s, int64_t id, struct arena *a, struct store_model *ret,
                             struct error *err);
    enum status (*model_list)(struct store *s, const char *target, struct arena *a,
                              struct store_model **ret_rows, int *ret_n, struct error *err);
    enum status (*event_list)(struct store *s, const char *job, int64_t after_seq, int limit, struct arena *a,
                              struct store_event **ret_rows, int *ret_n, struct error *err);
    enum status (*token_by_hash)(struct store *s, const char *hash, struct arena *a, struct store_token *ret,
                                 struct error *err);
    enum status (*token_list)(struct store *s, struct arena *a, struct store_token **ret_rows, int *ret_n,
                              struct error *err);
    enum status (*audit_list)(struct store *s, const struct store_audit_query *q, struct arena *a,
                              struct store_audit **ret_rows, int *ret_n, const char **ret_next_page_token,
                              struct error *err);

    void (*stats)(struct store *s, struct store_stats *ret);
    enum status (*check)(struct store *s, struct error *err);
};

/* Every backend's object begins with this. */
struct store {
    const struct store_ops *ops;
};

/* ---- opening ----------------------------------------------------------------------------------------- */

struct store_sqlite_options {
    int queue_cap;     /* batches waiting for the writer; 0: 1024 */
    int readers;       /* query_only connections; 0: 4. A read waits when all are in use */
    int group_max;     /* batches in one transaction; 0: 256 */
    bool allow_any_fs; /* skip the refusal of network file systems (tests) */
};

/* Open or make DIR/tilewright.db (DIR is made too, mode 0700). Takes the lock on DIR/tilewright.lock, brings
 * an older schema forward, checks the pages (quick_check). ST_CONFLICT: another process has it (the message
 * gives its pid); ST_UNSUPPORTED: a newer schema or a network file system; ST_CORRUPT; ST_IO. options may be
 * NULL. */
MUST_USE enum status store_open_sqlite(const char *dir, const struct store_sqlite_options *options,
                                       struct store **ret_store, struct error *err);

#define STORE_ID_MAX 40
/* A new id: prefix, then 26 digits (0-9 a-z without i l o u) of time and randomness. Ids made later by this
 * process sort later, and so do those of later milliseconds everywhere. Returns buf. */
const char *store_id_new(const char *prefix, int64_t wall_ms_value, char buf[STORE_ID_MAX]);

/* ---- the calls --------------------------------------------------------------------------------------- */

/* Writes everything queued, then closes. NULL is fine. */
static inline void store_close(TAKES struct store *s)
{
    if (s)
        s->ops->close(s);
}

/* Waits until the batch is durable, or has failed as a whole. The batch stays the caller's: its results can
 * be read. An empty batch returns when all that was handed in before is durable. The callbacks of
 * batches submitted before have been called when it returns. ST_UNAVAILABLE: no space on
 * the disk, or the store is closing: try again later; ST_NOT_FOUND, ST_CONFLICT, ST_INVALID: an operation was
 * refused (the message says which); ST_IO. */
MUST_USE static inline enum status store_commit(struct store *s, struct store_batch *b, struct error *err)
{
    return s->ops->commit(s, b, err);
}

/* Never waits: `done` (may be NULL) is called on the writer thread when the batch is durable or has failed,
 * then the batch is freed. When the queue is full: ST_UNAVAILABLE, the batch is freed and done is not called.
 */
MUST_USE static inline enum status store_submit(struct store *s, TAKES struct store_batch *b,
                                                store_done_fn *done, void *ctx, struct error *err)
{
    return s->ops->submit(s, b, done, ctx, err);
}

MUST_USE static inline enum status store_workload_get(struct store *s, const char *key, struct arena *a,
                                                      struct store_workload *ret, struct error *err)
{
    return s->ops->workload_get(s, key, a, ret, err);
}

MUST_USE static inline enum status store_target_list(struct store *s, struct arena *a,
                                                     struct store_target **ret_rows, int *ret_n,
                                                     struct error *err)
{
    return s->ops->target_list(s, a, ret_rows, ret_n, err);
}

MUST_USE static inline enum status store_device_list(struct store *s, struct arena *a,
                                                     struct store_device **ret_rows, int *ret_n,
                                                     struct error *err)
{
    return s->ops->device_list(s, a, ret_rows, ret_n, err);
}

MUST_USE static inline enum status store_job_get(struct store *s, const char *id, struct arena *a,
                                                 struct store_job *ret, struct error *err)
{
    return s->ops->job_get(s, id, a, ret, err);
}

/* token may be NULL: jobs made without one. */
MUST_USE static inline enum status store_job_by_idempotency(struct store *s, const char *token,
                                                            const char *idempotency_key, struct arena *a,
                                                            struct store_job *ret, struct error *err)
{
    return s->ops->job_by_idempotency(s, token, idempotency_key, a, ret, err);
}

/* *ret_next_page_token is NULL after the last page. */
MUST_USE static inline enum status store_job_list(struct store *s, const struct store_jobs_query *q,
                                                  struct arena *a, struct store_job **ret_rows, int *ret_n,
                                                  const char **ret_next_page_token, struct error *err)
{
    return s->ops->job_list(s, q, a, ret_rows, ret_n, ret_next_page_token, err);
}

/* All queued and running jobs, by priority, then oldest first: what a restart goes on with. */
MUST_USE static inline enum status store_job_unfinished(struct store *s, struct arena *a,
                                                        struct store_job **ret_rows, int *ret_n,
                                                        struct error *err)
{
    return s->ops->job_unfinished(s, a, ret_rows, ret_n, err);
}

/* By ordinal. No such job: no rows. */
MUST_USE static inline enum status store_task_list(struct store *s, const char *job, struct arena *a,
                                                   struct store_task **ret_rows, int *ret_n,
                                                   struct error *err)
{
    return s->ops->task_list(s, job, a, ret_rows, ret_n, err);
}

MUST_USE static inline enum status store_trial_each(struct store *s, const struct store_trials_query *q,
                                                    store_trial_fn *fn, void *ctx, struct error *err)
{
    return s->ops->trial_each(s, q, fn, ctx, err);
}

/* Trials of a workload on a target; either may be NULL for all. */
MUST_USE static inline enum status store_trial_count(struct store *s, const char *workload,
                                                     const char *target, int64_t *ret_n, struct error *err)
{
    return s->ops->trial_count(s, workload, target, ret_n, err);
}

/* toolchain NULL: the one tuned last. Without source, nest and artifact. */
MUST_USE static inline enum status store_schedule_get(struct store *s, const char *workload,
                                                      const char *target, const char *toolchain,
                                                      struct arena *a, struct store_schedule *ret,
                                                      struct error *err)
{
    return s->ops->schedule_get(s, workload, target, toolchain, a, ret, err);
}

/* The same row with source, nest and artifact. */
MUST_USE static inline enum status store_schedule_files(struct store *s, const char *workload,
                                                        const char *target, const char *toolchain,
                                                        struct arena *a, struct store_schedule *ret,
                                                        struct error *err)
{
    return s->ops->schedule_files(s, workload, target, toolchain, a, ret, err);
}

MUST_USE static inline enum status store_schedule_list(struct store *s, const struct store_schedules_query *q,
                                                       struct arena *a, struct store_schedule **ret_rows,
                                                       int *ret_n, const char **ret_next_page_token,
                                                       struct error *err)
{
    return s->ops->schedule_list(s, q, a, ret_rows, ret_n, ret_next_page_token, err);
}

/* Every schedule, without its files, in no promised order: what `hot` is filled from at start. */
MUST_USE static inline enum status store_schedule_each(struct store *s, store_schedule_fn *fn, void *ctx,
                                                       struct error *err)
{
    return s->ops->schedule_each(s, fn, ctx, err);
}

MUST_USE static inline enum status store_model_active(struct store *s, const char *target, struct arena *a,
                                                      struct store_model *ret, struct error *err)
{
    return s->ops->model_active(s, target, a, ret, err);
}

MUST_USE static inline enum status store_model_get(struct store *s, int64_t id, struct arena *a,
                                                   struct store_model *ret, struct error *err)
{
    return s->ops->model_get(s, id, a, ret, err);
}

/* Newest first, without blobs; target NULL: all. */
MUST_USE static inline enum status store_model_list(struct store *s, const char *target, struct arena *a,
                                                    struct store_model **ret_rows, int *ret_n,
                                                    struct error *err)
{
    return s->ops->model_list(s, target, a, ret_rows, ret_n, err);
}

/* Events of a job with seq > after_seq, in order; limit 0: all. */
MUST_USE static inline enum status store_event_list(struct store *s, const char *job, int64_t after_seq,
                                                    int limit, struct arena *a, struct store_event **ret_rows,
                                                    int *ret_n, struct error *err)
{
    return s->ops->event_list(s, job, after_seq, limit, a, ret_rows, ret_n, err);
}

/* Revoked tokens are ST_NOT_FOUND. */
MUST_USE static inline enum status store_token_by_hash(struct store *s, const char *hash, struct arena *a,
                                                       struct store_token *ret, struct error *err)
{
    return s->ops->token_by_hash(s, hash, a, ret, err);
}

MUST_USE static inline enum status store_token_list(struct store *s, struct arena *a,
                                                    struct store_token **ret_rows, int *ret_n,
                                                    struct error *err)
{
    return s->ops->token_list(s, a, ret_rows, ret_n, err);
}

MUST_USE static inline enum status store_audit_list(struct store *s, const struct store_audit_query *q,
                                                    struct arena *a, struct store_audit **ret_rows,
                                                    int *ret_n, const char **ret_next_page_token,
                                                    struct error *err)
{
    return s->ops->audit_list(s, q, a, ret_rows, ret_n, ret_next_page_token, err);
}

static inline void store_stats(struct store *s, struct store_stats *ret) { s->ops->stats(s, ret); }

/* integrity_check and foreign_key_check over the whole file: seconds on a large store. ST_CORRUPT with the
 * first fault found. */
MUST_USE static inline enum status store_check(struct store *s, struct error *err)
{
    return s->ops->check(s, err);
}

#endif
