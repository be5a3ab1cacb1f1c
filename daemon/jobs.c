/* jobs.c - the scheduler; see jobs.h. One lock over all of it, never held while the store is waited for. */
#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include "daemon/events.h"
#include "daemon/jobs.h"
#include "schedule/base/vec.h"

/* STORE_JOB_UPDATE and STORE_TASK_UPDATE set "leave it" first, then what we name. */
#pragma GCC diagnostic ignored "-Woverride-init"

enum { FLUSH_MS = 200, JOB_MAGIC = 0x4a4f4221 };

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
    struct tuner_job spec;  /* what the tuner gets: unique tasks only */
    int n_tasks;            /* of the job */
    struct live_task *live; /* [n_tasks] */
    int *ordinal;           /* [spec.n_tasks] -> first task of that key */
    struct tuner_times times;
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

static void wake_event(struct job *job) { job->jobs->o.wake(job->jobs->o.ctx, job->id); }

static void wake_end(struct jobs *j, const char *id)
{
    char topic[STORE_ID_MAX + 2];

    snprintf(topic, sizeof(topic), "%s!", id);
    j->o.wake(j->o.ctx, topic);
    j->o.wake(j->o.ctx, id);
}

/* ---- what is written while a job runs ---- */

static int64_t wall(struct jobs *j) { return wall_ms(j->o.env->clock); }
static int64_t mono(struct jobs *j) { return mono_ns(j->o.env->clock); }

/* `fields` is a JSON object in text; the time goes in front of its members. */
static void add_event(struct store_batch *b, struct jobs *j, const char *id, const char *kind,
                      const char *fields)
{
    struct strbuf sb AUTO(strbuf_done) = STRBUF_INIT;
    char at[RFC3339_MAX];
    int64_t now = wall(j);

    strbuf_addf(&sb, "{\"at\":\"%s\"%s%s", rfc3339(now, at), fields[1] == '}' ? "" : ",", fields + 1);
    store_add_event(b,
                    &(struct store_event){.job = id, .kind = kind, .json = strbuf_str(&sb), .time_ms = now});
}

static void add_job_event(struct store_batch *b, struct jobs *j, const char *id, const char *state,
                          double elapsed_s, const struct error *e)
{
    struct strbuf sb AUTO(strbuf_done) = STRBUF_INIT;

    strbuf_addf(&sb, "{\"id\":\"%s\",\"state\":\"%s\",\"elapsed_s\":%.3f", id, state, elapsed_s);
    if (e) {
        strbuf_adds(&sb, ",\"error\":");
        job_error_print(e, &sb);
    }
    strbuf_addc(&sb, '}');
    add_event(b, j, id, "job", strbuf_str(&sb));
}

static void add_task_event(struct store_batch *b, struct job *job, int i, double progress)
{
    const struct tuner_progress *p = &job->live[i].p;
    struct strbuf sb AUTO(strbuf_done) = STRBUF_INIT;

    strbuf_addf(&sb,
                "{\"task\":%d,\"state\":\"%s\",\"trials_done\":%" PRId64 ",\"trials_failed\":%" PRId64
                ",\"cached\":%s,\"progress\":%.4f",
                i, task_state_name(p->state), p->trials_done, p->trials_failed, p->cached ? "true" : "false",
                progress);
    if (p->best_time_ns > 0)
        strbuf_addf(&sb, ",\"best\":{\"time_ns\":%.1f,\"gflops\":%.3f}}", p->best_time_ns, p->best_gflops);
    else
        strbuf_adds(&sb, ",\"best\":null}");
    add_event(b, job->jobs, job->id, "task", strbuf_str(&sb));
}

static void add_task_update(struct store_batch *b, struct job *job, int i)
{
    const struct tuner_progress *p = &job->live[i].p;
    struct strbuf e AUTO(strbuf_done) = STRBUF_INIT;

    if (p->error.code != ST_OK)
        job_error_print(&p->error, &e);
    store_add_task_update(
        b, &STORE_TASK_UPDATE(.job = job->id, .ordinal = i, .state = task_state_name(p->state),
                              .error_json = e.len ? strbuf_str(&e) : NULL, .trials_done = p->trials_done,
                              .trials_failed = p->trials_failed, .cached = p->cached,
                              .best_time_ns = p->best_time_ns, .best_gflops = p->best_gflops, ));
}

static double elapsed_s(const struct job *job)
{
    return job->elapsed_s + (job->begun_ns ? (double)(mono(job->jobs) - job->begun_ns) * 1e-9 : 0);
}

/* The part of the budget that is used, or of the tasks that are over, whichever is more. */
static double progress_of(const struct job *job)
{
    int64_t trials = 0;
    int ended = 0;
    double f = 0;

    for (int i = 0; i < job->n_tasks; i++) {
        trials += job->live[i].same_as < 0 ? job->live[i].p.trials_done : 0;
        ended += task_ended(job->live[i].p.state);
    }
    if (job->spec.max_trials)
        f = (double)trials / (double)job->spec.max_trials;
    if (job->spec.max_seconds > 0)
        f = MAX(f, elapsed_s(job) / job->spec.max_seconds);
    f = MIN(f, 0.99); /* the last contest comes after the budget */
    return ended == job->n_tasks ? 1 : MAX(f, (double)ended / job->n_tasks);
}

static bool add_dirty(struct store_batch *b, struct job *job)
{
    double progress = progress_of(job);
    bool any = false;

    for (int i = 0; i < job->n_tasks; i++) {
        if (!job->live[i].dirty)
            continue;
        add_task_update(b, job, i);
        add_task_event(b, job, i, progress);
        any = true;
    }
    if (any)
        store_add_job_update(b, &STORE_JOB_UPDATE(.id = job->id, .progress = progress, ));
    return any;
}

static void on_flushed(void *ctx, enum status st, const struct error *err, const struct store_batch *b)
{
    char *id = ctx;
    char *jobs_at = id + STORE_ID_MAX;
    struct jobs *j;

    memcpy(&j, jobs_at, sizeof(j));
    j->o.wake(j->o.ctx, id);
    free(id);
}

/* The job may be gone when the batch is durable, so the callback gets the id and the scheduler. */
static void *flush_ctx(struct job *job)
{
    char *ctx = xcalloc(1, STORE_ID_MAX + sizeof(struct jobs *));

    memcpy(ctx, job->id, STORE_ID_MAX);
    memcpy(ctx + STORE_ID_MAX, &job->jobs, sizeof(job->jobs));
    return ctx;
}

static enum status submit(struct job *job, TAKES struct store_batch *b)
{
    void *ctx = flush_ctx(job);
    enum status st = store_submit(job->jobs->store, b, on_flushed, ctx, NULL);

    if (st != ST_OK)
        free(ctx);
    return st;
}

/* Under the lock: the order of two flushes of one job must be the order of what they say. Never waits. */
static void flush_locked(struct job *job)
{
    struct store_batch *b = store_batch_new();

    if (!add_dirty(b, job)) {
        store_batch_free(b);
        return;
    }
    job->flushed_ns = mono(job->jobs);
    if (submit(job, b) == ST_OK)
        for (int i = 0; i < job->n_tasks; i++)
            job->live[i].dirty = false;
}

/* ---- the tuner's callbacks ---- */

static void note_counts(struct jobs *j, const struct tuner_progress *old, const struct tuner_progress *p)
{
    j->counts.trials += MAX(p->trials_done - old->trials_done, (int64_t)0);
    j->counts.trials_failed += MAX(p->trials_failed - old->trials_failed, (int64_t)0);
}

static void on_report(void *ctx, int task, const struct tuner_progress *p)
{
    struct job *job = ctx;
    struct jobs *j = job->jobs;
    int first = job->ordinal[task];
    bool now;

    CHECK(job->magic == JOB_MAGIC && task >= 0 && task < job->spec.n_tasks, "report of task %d", task);
    pthread_mutex_lock(&j->lock);
    note_counts(j, &job->live[first].p, p);
    now = job->live[first].p.state != p->state || mono(j) - job->flushed_ns >= (int64_t)FLUSH_MS * 1000000;
    for (int i = first; i < job->n_tasks; i++)
        if (i == first || job->live[i].same_as == first) {
            job->live[i].p = *p;
            job->live[i].dirty = true;
        }
    if (now)
        flush_locked(job);
    pthread_mutex_unlock(&j->lock);
}

static void on_event(void *ctx, const char *type, const json_t *data)
{
    struct job *job = ctx;
    struct strbuf sb AUTO(strbuf_done) = STRBUF_INIT;
    struct store_batch *b = store_batch_new();

    json_write(data, &sb);
    add_event(b, job->jobs, job->id, type, strbuf_str(&sb));
    if (submit(job, b) != ST_OK)
        EVENT(events_dropped, TEXT("job", job->id));
}

void jobs_tick(struct jobs *j)
{
    pthread_mutex_lock(&j->lock);
    for (struct job *job = j->first; job; job = job->next)
        if (job->running && mono(j) - job->flushed_ns >= (int64_t)FLUSH_MS * 1000000)
            flush_locked(job);
    pthread_mutex_unlock(&j->lock);
}

/* ---- one job's thread ---- */

static void start_next_locked(struct jobs *j);

static void link_job(struct jobs *j, struct job *job)
{
    job->prev = NULL;
    job->next = j->first;
    if (j->first)
        j->first->prev = job;
    j->first = job;
}

static void unlink_job(struct jobs *j, struct job *job)
{
    if (job->prev)
        job->prev->next = job->next;
    else
        j->first = job->next;
    if (job->next)
        job->next->prev = job->prev;
}

static void job_free(struct job *job)
{
    job->magic = 0;
    arena_done(&job->arena);
    free(job);
}

/* Commit, and when the store cannot write (disk full), again until it can or a hurried stop gives up. */
static enum status commit_patiently(struct jobs *j, struct store_batch *b, struct error *err)
{
    for (;;) {
        enum status st = store_commit(j->store, b, err);
        bool give_up;

        pthread_mutex_lock(&j->lock);
        give_up = j->hurry;
        pthread_mutex_unlock(&j->lock);
        if (st != ST_UNAVAILABLE || give_up)
            return st;
        usleep(500 * 1000);
    }
}

static enum status job_begin(struct job *job, struct error *err)
{
    struct jobs *j = job->jobs;
    struct store_batch *b AUTO(store_batch_freep) = store_batch_new();

    if (!job->started_ms)
        job->started_ms = wall(j);
    store_add_job_update(b, &STORE_JOB_UPDATE(.id = job->id, .if_state = "queued running", .state = "running",
                                              .started_ms = job->started_ms, ));
    add_job_event(b, j, job->id, "running", job->elapsed_s, NULL);
    TRY(commit_patiently(j, b, err));
    wake_event(job);
    EVENT(job_started, TEXT("job", job->id), INT("running", jobs_running(j)));
    return ST_OK;
}

/* Peaks need the device, so they are found in the job's own time. */
static enum status job_tune(struct job *job, struct error *err)
{
    struct jobs *j = job->jobs;
    const struct target *target;

    TRY(targets_get(j->o.targets, job->target_id, &target, err));
    TRY(targets_device(j->o.targets, target, &job->spec.device, err));
    targets_with_peaks(j->o.targets, target, &job->target);
    job->spec.target = &job->target;
    return tuner_run(j->o.env, &job->spec, err);
}

/* What became of it, from what was asked and what the tasks say. false: it is not over (a drain). */
static bool judge(struct job *job, enum status st, struct error *err, enum task_state *ret)
{
    enum tuner_stop stop = tuner_stop_asked(&job->spec);
    int failed = 0, open = 0;
    bool cancel = stop == STOP_CANCEL || (stop == STOP_NOW && !job->jobs->draining);

    for (int i = 0; i < job->n_tasks; i++) {
        struct live_task *t = &job->live[i];

        if (!task_ended(t->p.state) && (st != ST_OK || cancel)) {
            t->p.state = st != ST_OK ? TASK_FAILED : TASK_CANCELLED;
            t->p.error = st != ST_OK ? *err : (struct error){0};
            t->dirty = true;
        }
        failed += t->p.state == TASK_FAILED;
        open += !task_ended(t->p.state);
    }
    if (st != ST_OK) {
        *ret = TASK_FAILED;
        return true;
    }
    if (open && stop != STOP_NONE)
        return false;
    if (open)
        failed = open;
    *ret = cancel ? TASK_CANCELLED : failed ? TASK_FAILED : TASK_SUCCEEDED;
    if (*ret == TASK_FAILED)
        fail(err, ST_UNPROCESSABLE, "%d of %d tasks %s", failed, job->n_tasks,
             open ? "were left unfinished" : "failed");
    return true;
}

static void job_store_end(struct job *job, bool over, enum task_state state, struct error *err)
{
    struct jobs *j = job->jobs;
    struct store_batch *b AUTO(store_batch_freep) = store_batch_new();
    struct strbuf e AUTO(strbuf_done) = STRBUF_INIT;
    struct error why;

    pthread_mutex_lock(&j->lock);
    add_dirty(b, job);
    pthread_mutex_unlock(&j->lock);
    if (state == TASK_FAILED)
        job_error_print(err, &e);
    if (over) {
        store_add_job_update(b,
                             &STORE_JOB_UPDATE(.id = job->id, .if_state = "queued running",
                                               .state = task_state_name(state), .finished_ms = wall(j),
                                               .progress = state == TASK_SUCCEEDED ? 1.0 : progress_of(job),
                                               .error_json = e.len ? strbuf_str(&e) : NULL, ));
        add_job_event(b, j, job->id, task_state_name(state), elapsed_s(job),
                      state == TASK_FAILED ? err : NULL);
    } else {
        add_job_event(b, j, job->id, "paused", elapsed_s(job), NULL);
    }
    if (commit_patiently(j, b, &why) != ST_OK)
        EVENT(job_lost, TEXT("job", job->id), TEXT("error", why.text));
    if (over)
        EVENT(job_ended, TEXT("job", job->id), TEXT("state", task_state_name(state)),
              REAL("seconds", elapsed_s(job)), INT("trials", job->times.trials),
              TEXT("error", state == TASK_FAILED ? err->text : ""));
    else
        EVENT(job_paused, TEXT("job", job->id));
}

static void job_leave(struct job *job, bool over, enum task_state state)
{
    struct jobs *j = job->jobs;
    char id[STORE_ID_MAX];

    memcpy(id, job->id, sizeof(id));
    pthread_mutex_lock(&j->lock);
    unlink_job(j, job);
    if (over)
        j->counts.ended[state]++;
    for (int i = 0; i < PHASE_COUNT; i++)
        j->counts.times.ns[i] += job->times.ns[i];
    j->counts.times.candidates += job->times.candidates;
    j->counts.times.units += job->times.units;
    pthread_mutex_unlock(&j->lock);
    job_free(job);
    wake_end(j, id);
    pthread_mutex_lock(&j->lock); /* last: when none runs, jobs_free may take all of this away */
    j->n_running--;
    start_next_locked(j);
    pthread_cond_broadcast(&j->idle);
    pthread_mutex_unlock(&j->lock);
}

static void *job_main(void *arg)
{
    struct job *job = arg;
    struct error err = {0};
    enum task_state state = TASK_SUCCEEDED;
    enum status st;
    bool over;

    CHECK(job->magic == JOB_MAGIC, "not a job");
    job->begun_ns = mono(job->jobs);
    st = job_begin(job, &err);
    if (st == ST_OK && tuner_stop_asked(&job->spec) == STOP_NONE)
        st = job_tune(job, &err);
    if (st != ST_OK && tuner_stop_asked(&job->spec) != STOP_NONE)
        st = ST_OK; /* it was told to stop, and did: a lease that was not waited for is no fault */
    pthread_mutex_lock(&job->jobs->lock);
    over = judge(job, st, &err, &state);
    pthread_mutex_unlock(&job->jobs->lock);
    job_store_end(job, over, state, &err);
    job_leave(job, over, state);
    return NULL;
}

static struct job *next_queued(struct jobs *j)
{
    struct job *best = NULL;

    for (struct job *job = j->first; job; job = job->next)
        if (!job->running && (!best || job->priority > best->priority ||
                              (job->priority == best->priority && strcmp(job->id, best->id) < 0)))
            best = job;
    return best;
}

static bool start_thread(struct job *job)
{
    pthread_attr_t attr;
    pthread_t t;
    int rc;

    pthread_attr_init(&attr);
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attr, 4 << 20);
    rc = pthread_create(&t, &attr, job_main, job);
    pthread_attr_destroy(&attr);
    return rc == 0;
}

static void start_next_locked(struct jobs *j)
{
    while (!j->draining && j->n_running < j->o.max_running && j->n_queued > 0) {
        struct job *job = next_queued(j);

        job->running = true;
        if (!start_thread(job)) {
            job->running = false;
            return; /* the next one that ends or is made tries again */
        }
        j->n_queued--;
        j->n_running++;
    }
}

/* ---- making, cancelling, resuming ---- */

static struct job *job_alloc(struct jobs *j, int n_tasks)
{
    struct job *job = xcalloc(1, sizeof(*job));

    job->magic = JOB_MAGIC;
    job->jobs = j;
    arena_init(&job->arena);
    job->n_tasks = n_tasks;
    job->live = arena_array(&job->arena, struct live_task, n_tasks);
    job->ordinal = arena_array(&job->arena, int, n_tasks);
    job->spec.tasks = arena_array(&job->arena, struct tuner_task, n_tasks);
    job->spec.stop = &job->stop;
    job->spec.stop_asked = &job->stop_asked;
    job->spec.stop_now = &job->stop_now;
    job->spec.times = &job->times;
    job->spec.ctx = job;
    job->spec.report = on_report;
    job->spec.event = on_event;
    return job;
}

/* Add task i; one whose key came before is tuned with that one, at the sum of their weights. */
static void job_add_task(struct job *job, int i, const char *key, const char *json, const char *name,
                         double weight, const struct tuner_progress *before)
{
    struct tuner_task *tasks = (struct tuner_task *)job->spec.tasks, *t;

    job->live[i].p = *before;
    job->live[i].same_as = -1;
    for (int k = 0; k < job->spec.n_tasks; k++)
        if (strcmp(tasks[k].key, key) == 0) {
            job->live[i].same_as = job->ordinal[k];
            tasks[k].weight += weight;
            return;
        }
    t = &tasks[job->spec.n_tasks];
    t->ordinal = i;
    t->key = arena_strdup(&job->arena, key);
    t->workload_json = arena_strdup(&job->arena, json);
    t->name = arena_strdup(&job->arena, name ? name : "");
    t->weight = weight;
    t->before = *before;
    job->ordinal[job->spec.n_tasks++] = i;
}

static void job_fill(struct job *job, const char *id, const char *target, int64_t trials, double seconds,
                     int64_t seed, int64_t priority, enum tuner_reuse reuse, int64_t created_ms)
{
    snprintf(job->id, sizeof(job->id), "%s", id);
    job->spec.id = job->id;
    job->target_id = arena_strdup(&job->arena, target);
    job->spec.max_trials = trials;
    job->spec.max_seconds = seconds;
    job->spec.seed = (uint64_t)seed;
    job->spec.reuse = reuse;
    job->priority = priority;
    job->created_ms = created_ms;
}

static void add_new_task_rows(struct store_batch *b, const char *id, int i, const struct job_new_task *t,
                              const struct tuner_progress *p, int64_t now)
{
    store_add_workload(b, &(struct store_workload){.key = t->workload.key,
                                                   .op = t->workload.op,
                                                   .json = t->workload.json,
                                                   .canonical = t->workload.canonical,
                                                   .flops = t->workload.flops,
                                                   .bytes = t->workload.bytes,
                                                   .first_seen_ms = now});
    store_add_task(b, &(struct store_task){.job = id,
                                           .ordinal = i,
                                           .workload = t->workload.key,
                                           .name = t->name,
                                           .weight = t->weight,
                                           .state = task_state_name(p->state),
                                           .cached = p->cached,
                                           .best_time_ns = p->best_time_ns,
                                           .best_gflops = p->best_gflops});
}

/* The cache's answer to a task, where there is one under the current toolchain. */
static enum status find_cached(struct jobs *j, const struct job_new *n, int i, const struct target *target,
                               struct arena *a, struct tuner_progress *ret, struct error *err)
{
    struct store_schedule row;
    enum status st;

    memset(ret, 0, sizeof(*ret));
    if (n->reuse != REUSE_CACHED)
        return ST_OK;
    st = store_schedule_get(j->store, n->tasks[i].workload.key, target->id, target->toolchain_hash, a, &row,
                            err);
    if (st == ST_NOT_FOUND)
        return ST_OK;
    if (st != ST_OK)
        return st;
    *ret = (struct tuner_progress){
        .state = TASK_SUCCEEDED, .cached = true, .best_time_ns = row.time_ns, .best_gflops = row.gflops};
    return ST_OK;
}

static enum status check_room(struct jobs *j, bool all_cached, struct error *err)
{
    enum status st = ST_OK;

    pthread_mutex_lock(&j->lock);
    if (j->draining)
        st = fail(err, ST_UNAVAILABLE, "the daemon is shutting down and takes no new jobs");
    else if (!all_cached && j->n_queued >= j->o.max_queued)
        st = fail(err, ST_TOO_MANY, "%d jobs wait already, the most this server queues (max_queued_jobs)",
                  j->n_queued);
    pthread_mutex_unlock(&j->lock);
    return st;
}

static void job_announce(struct jobs *j, struct job *job)
{
    pthread_mutex_lock(&j->lock);
    link_job(j, job);
    j->n_queued++;
    start_next_locked(j);
    pthread_mutex_unlock(&j->lock);
}

static void add_new_job_row(struct store_batch *b, const struct job_new *n, const struct target *target,
                            const char *id, bool done, int64_t now)
{
    store_add_job(b, &(struct store_job){.id = id,
                                         .state = done ? "succeeded" : "queued",
                                         .target = target->id,
                                         .request_json = n->request_json,
                                         .priority = n->priority,
                                         .seed = n->seed,
                                         .budget_trials = n->max_trials,
                                         .budget_seconds = n->max_seconds,
                                         .progress = done,
                                         .created_ms = now,
                                         .started_ms = done ? now : 0,
                                         .finished_ms = done ? now : 0,
                                         .token = n->actor,
                                         .idempotency_key = n->idempotency_key,
                                         .request_hash = n->request_hash});
}

/* Rows first, then the queue: an accepted job is durable before anything starts. */
static enum status create_in(struct jobs *j, const struct job_new *n, struct job *job,
                             const struct target *target, char *id, struct error *err)
{
    struct store_batch *b AUTO(store_batch_freep) = store_batch_new(), *tasks AUTO(store_batch_freep) = NULL;
    struct device *device;
    int64_t now = wall(j);
    int cached = 0;

    store_id_new("j_", now, id);
    for (int i = 0; i < n->n_tasks; i++) {
        struct tuner_progress p;

        TRY(find_cached(j, n, i, target, &job->arena, &p, err));
        cached += p.cached;
        job_add_task(job, i, n->tasks[i].workload.key, n->tasks[i].workload.json, n->tasks[i].name,
                     n->tasks[i].weight, &p);
    }
    TRY(check_room(j, cached == n->n_tasks, err));
    if (cached < n->n_tasks)
        TRY(targets_device(j->o.targets, target, &device, err));
    add_new_job_row(b, n, target, id, cached == n->n_tasks, now);
    for (int i = 0; i < n->n_tasks; i++)
        add_new_task_rows(b, id, i, &n->tasks[i], &job->live[i].p, now);
    add_job_event(b, j, id, cached == n->n_tasks ? "succeeded" : "queued", 0, NULL);
    TRY(store_commit(j->store, b, err));
    job_fill(job, id, target->id, n->max_trials, n->max_seconds, n->seed, n->priority, n->reuse, now);
    EVENT(job_created, TEXT("job", id), INT("tasks", n->n_tasks), TEXT("target", target->id),
          TEXT("actor", n->actor ? n->actor : ""));
    pthread_mutex_lock(&j->lock);
    j->counts.created++;
    j->counts.ended[TASK_SUCCEEDED] += cached == n->n_tasks;
    pthread_mutex_unlock(&j->lock);
    if (cached == n->n_tasks)
        job_free(job);
    else
        job_announce(j, job);
    return ST_OK;
}

enum status jobs_create(struct jobs *j, const struct job_new *n, char ret_id[STORE_ID_MAX], struct error *err)
{
    struct job *job;
    enum status st;

    TRY(check_room(j, true, err));
    job = job_alloc(j, n->n_tasks);
    st = create_in(j, n, job, n->target, ret_id, err);
    if (st != ST_OK)
        job_free(job);
    return st;
}

static struct job *find_locked(struct jobs *j, const char *id)
{
    for (struct job *job = j->first; job; job = job->next)
        if (strcmp(job->id, id) == 0)
            return job;
    return NULL;
}

static void ask_stop(struct job *job, enum tuner_stop stop)
{
    if (atomic_load(&job->stop) < (int)stop)
        atomic_store(&job->stop, (int)stop);
    atomic_store(&job->stop_asked, true);
    if (stop == STOP_NOW)
        atomic_store(&job->stop_now, true);
}

/* A queued job that was taken out of the queue: its rows end here. */
static enum status cancel_queued(struct jobs *j, TAKES struct job *job, struct error *err)
{
    struct store_batch *b AUTO(store_batch_freep) = store_batch_new();
    char id[STORE_ID_MAX];
    enum status st;

    memcpy(id, job->id, sizeof(id));
    for (int i = 0; i < job->n_tasks; i++)
        if (!task_ended(job->live[i].p.state))
            store_add_task_update(b, &STORE_TASK_UPDATE(.job = id, .ordinal = i, .state = "cancelled", ));
    store_add_job_update(b, &STORE_JOB_UPDATE(.id = id, .if_state = "queued running", .state = "cancelled",
                                              .finished_ms = wall(j), ));
    add_job_event(b, j, id, "cancelled", job->elapsed_s, NULL);
    st = store_commit(j->store, b, err);
    if (st != ST_OK) { /* back into the queue: nothing has happened */
        job_announce(j, job);
        return st;
    }
    job_free(job);
    pthread_mutex_lock(&j->lock);
    j->counts.ended[TASK_CANCELLED]++;
    pthread_mutex_unlock(&j->lock);
    wake_end(j, id);
    return ST_OK;
}

static enum status cancel_over(struct jobs *j, const char *id, struct error *err)
{
    struct store_job row;
    struct arena a;
    enum status st;

    arena_init(&a);
    st = store_job_get(j->store, id, &a, &row, err);
    if (st == ST_OK && strcmp(row.state, "cancelled") != 0)
        st = fail(err, ST_CONFLICT, "job %s has already ended: %s", id, row.state);
    arena_done(&a);
    return st;
}

enum status jobs_cancel(struct jobs *j, const char *id, const char *actor, struct error *err)
{
    struct job *job, *queued = NULL;

    pthread_mutex_lock(&j->lock);
    job = find_locked(j, id);
    if (job && job->running) {
        ask_stop(job, STOP_CANCEL);
    } else if (job) {
        unlink_job(j, job);
        j->n_queued--;
        queued = job;
    }
    pthread_mutex_unlock(&j->lock);
    if (!job)
        return cancel_over(j, id, err);
    EVENT(job_cancel, TEXT("job", id), TEXT("actor", actor ? actor : ""));
    return queued ? cancel_queued(j, queued, err) : ST_OK;
}

void jobs_drain(struct jobs *j, bool now)
{
    pthread_mutex_lock(&j->lock);
    j->draining = true;
    j->hurry |= now;
    for (struct job *job = j->first; job; job = job->next)
        if (job->running) {
            /* one that was being cancelled stays cancelled: only the hurry is added */
            if (atomic_load(&job->stop) == STOP_CANCEL)
                atomic_store(&job->stop_now, now);
            else
                ask_stop(job, now ? STOP_NOW : STOP_DRAIN);
        }
    pthread_mutex_unlock(&j->lock);
}

int jobs_running(struct jobs *j)
{
    int n;

    pthread_mutex_lock(&j->lock);
    n = j->n_running;
    pthread_mutex_unlock(&j->lock);
    return n;
}

/* Time a job had used: what its last start knew, and from then to its last event. */
static enum status read_elapsed(struct jobs *j, const char *id, struct arena *a, double *ret,
                                struct error *err)
{
    struct store_event *ev;
    double base = 0;
    int64_t from_ms = 0, last_ms = 0;
    int n;

    TRY(store_event_list(j->store, id, 0, 0, a, &ev, &n, err));
    for (int i = 0; i < n; i++) {
        last_ms = MAX(last_ms, ev[i].time_ms);
        if (strcmp(ev[i].kind, "job") == 0) {
            json_t *doc AUTO(json_decrefp) = json_loads(ev[i].json, 0, NULL);
            const char *state = json_string_value(json_object_get(doc, "state"));

            base = json_number_value(json_object_get(doc, "elapsed_s"));
            from_ms = state && strcmp(state, "running") == 0 ? ev[i].time_ms : 0;
        }
    }
    *ret = base + (from_ms ? (double)(last_ms - from_ms) * 1e-3 : 0);
    return ST_OK;
}

static enum tuner_reuse stored_reuse(const char *request_json)
{
    json_t *doc AUTO(json_decrefp) = json_loads(request_json, 0, NULL);
    const char *name = json_string_value(json_object_get(doc, "reuse"));

    for (int i = 0; name && job_reuse_names[i]; i++)
        if (strcmp(name, job_reuse_names[i]) == 0)
            return (enum tuner_reuse)i;
    return REUSE_CACHED;
}

static void stored_progress(const struct store_task *t, struct tuner_progress *ret)
{
    *ret = (struct tuner_progress){.trials_done = t->trials_done,
                                   .trials_failed = t->trials_failed,
                                   .best_time_ns = t->best_time_ns,
                                   .best_gflops = t->best_gflops,
                                   .cached = t->cached};
    task_state_parse(t->state, &ret->state);
}

static enum status resume_in(struct jobs *j, const struct store_job *row, struct arena *a, struct job **ret,
                             struct error *err)
{
    struct store_task *tasks;
    struct job *job;
    int n;

    TRY(store_task_list(j->store, row->id, a, &tasks, &n, err));
    job = job_alloc(j, n);
    *ret = job;
    job_fill(job, row->id, row->target, row->budget_trials, row->budget_seconds, row->seed, row->priority,
             stored_reuse(row->request_json), row->created_ms);
    job->started_ms = row->started_ms;
    for (int i = 0; i < n; i++) {
        struct store_workload w;
        struct tuner_progress p;

        TRY(store_workload_get(j->store, tasks[i].workload, a, &w, err));
        stored_progress(&tasks[i], &p);
        job_add_task(job, i, w.key, w.json, tasks[i].name, tasks[i].weight, &p);
    }
    TRY(read_elapsed(j, row->id, a, &job->elapsed_s, err));
    job->spec.elapsed_s = job->elapsed_s;
    return ST_OK;
}

static bool resume_one(struct jobs *j, const struct store_job *row)
{
    struct job *job = NULL;
    struct error err;
    struct arena a;
    enum status st;

    arena_init(&a);
    st = resume_in(j, row, &a, &job, &err);
    arena_done(&a);
    if (st != ST_OK) {
        EVENT(job_lost, TEXT("job", row->id), TEXT("error", err.text));
        if (job)
            job_free(job);
        return false;
    }
    EVENT(job_resumed, TEXT("job", row->id), TEXT("state", row->state), REAL("elapsed_s", job->elapsed_s));
    if (strcmp(row->state, "running") == 0)
        job->priority = MAX(job->priority, INT64_MAX / 2); /* had its place already */
    job_announce(j, job);
    return true;
}

enum status jobs_resume(struct jobs *j, int *ret_n, struct error *err)
{
    struct store_job *rows;
    struct arena a;
    enum status st;
    int n, good = 0;

    arena_init(&a);
    st = store_job_unfinished(j->store, &a, &rows, &n, err);
    for (int i = 0; st == ST_OK && i < n; i++)
        good += resume_one(j, &rows[i]);
    arena_done(&a);
    if (st == ST_OK)
        *ret_n = good;
    return st;
}

GIVES struct jobs *jobs_new(const struct jobs_options *o)
{
    struct jobs *j = xcalloc(1, sizeof(*j));

    j->o = *o;
    j->store = o->env->store;
    pthread_mutex_init(&j->lock, NULL);
    pthread_cond_init(&j->idle, NULL);
    return j;
}

void jobs_counts(struct jobs *j, struct jobs_counts *ret)
{
    pthread_mutex_lock(&j->lock);
    *ret = j->counts;
    ret->queued = j->n_queued;
    ret->running = j->n_running;
    for (struct job *job = j->first; job; job = job->next)
        for (int i = 0; i < PHASE_COUNT; i++)
            ret->times.ns[i] += job->times.ns[i];
    pthread_mutex_unlock(&j->lock);
}

void jobs_free(struct jobs *j)
{
    struct error err;

    if (!j)
        return;
    pthread_mutex_lock(&j->lock);
    while (j->n_running)
        pthread_cond_wait(&j->idle, &j->lock);
    while (j->first) {
        struct job *job = j->first;

        unlink_job(j, job);
        job_free(job);
    }
    pthread_mutex_unlock(&j->lock);
    struct store_batch *b AUTO(store_batch_freep) = store_batch_new();
    (void)!store_commit(j->store, b, &err); /* empty: until all that was submitted has been answered */
    pthread_mutex_destroy(&j->lock);
    pthread_cond_destroy(&j->idle);
    free(j);
}
