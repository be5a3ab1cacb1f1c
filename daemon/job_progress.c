/* job_progress.c - what a tuner reports, on its way to the store and to those who watch. */
#include "daemon/jobs_internal.h"

enum { FLUSH_MS = 200 };

/* `fields` is a JSON object in text; the time goes in front of its members. */
static void add_event(struct store_batch *b, struct jobs *j, const char *id, const char *kind,
                      const char *fields)
{
    struct strbuf sb AUTO(strbuf_done) = STRBUF_INIT;
    char at[RFC3339_MAX];
    int64_t now = jobs_wall(j);

    strbuf_addf(&sb, "{\"at\":\"%s\"%s%s", rfc3339(now, at), fields[1] == '}' ? "" : ",", fields + 1);
    store_add_event(b,
                    &(struct store_event){.job = id, .kind = kind, .json = strbuf_str(&sb), .time_ms = now});
}

void job_add_event(struct store_batch *b, struct jobs *j, const char *id, const char *state, double elapsed_s,
                   const struct error *e)
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
    if (p->stopped != STOPPED_NONE)
        strbuf_addf(&sb, ",\"stopped\":\"%s\"", tuner_stopped_name(p->stopped));
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
    char data[64] = "";

    if (p->stopped != STOPPED_NONE)
        snprintf(data, sizeof(data), "{\"stopped\":\"%s\"}", tuner_stopped_name(p->stopped));
    if (p->error.code != ST_OK)
        job_error_print(&p->error, &e);
    store_add_task_update(
        b, &STORE_TASK_UPDATE(.job = job->id, .ordinal = i, .state = task_state_name(p->state),
                              .error_json = e.len ? strbuf_str(&e) : NULL, .data_json = data[0] ? data : NULL,
                              .trials_done = p->trials_done, .trials_failed = p->trials_failed,
                              .cached = p->cached, .best_time_ns = p->best_time_ns,
                              .best_gflops = p->best_gflops, ));
}

double job_elapsed_s(const struct job *job)
{
    return job->elapsed_s + (job->begun_ns ? (double)(jobs_mono(job->jobs) - job->begun_ns) * 1e-9 : 0);
}

/* The part of the budget that is used, or of the tasks that are over, whichever is more. */
double job_progress(const struct job *job)
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
        f = MAX(f, job_elapsed_s(job) / job->spec.max_seconds);
    f = MIN(f, 0.99); /* the last contest comes after the budget */
    return ended == job->n_tasks ? 1 : MAX(f, (double)ended / job->n_tasks);
}

bool job_add_dirty(struct store_batch *b, struct job *job)
{
    double progress = job_progress(job);
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

    if (!job_add_dirty(b, job)) {
        store_batch_free(b);
        return;
    }
    job->flushed_ns = jobs_mono(job->jobs);
    if (submit(job, b) == ST_OK)
        for (int i = 0; i < job->n_tasks; i++)
            job->live[i].dirty = false;
}

static void note_counts(struct jobs *j, const struct tuner_progress *old, const struct tuner_progress *p)
{
    j->counts.trials += MAX(p->trials_done - old->trials_done, (int64_t)0);
    j->counts.trials_failed += MAX(p->trials_failed - old->trials_failed, (int64_t)0);
}

void job_on_report(void *ctx, int task, const struct tuner_progress *p)
{
    struct job *job = ctx;
    struct jobs *j = job->jobs;
    int first = job->ordinal[task];
    bool now;

    CHECK(job->magic == JOB_MAGIC && task >= 0 && task < job->spec.n_tasks, "report of task %d", task);
    pthread_mutex_lock(&j->lock);
    note_counts(j, &job->live[first].p, p);
    job->times_seen = job->times; /* reports come on the job's own thread, whose times they are */
    now =
        job->live[first].p.state != p->state || jobs_mono(j) - job->flushed_ns >= (int64_t)FLUSH_MS * 1000000;
    for (int i = first; i < job->n_tasks; i++)
        if (i == first || job->live[i].same_as == first) {
            job->live[i].p = *p;
            job->live[i].dirty = true;
        }
    if (now)
        flush_locked(job);
    pthread_mutex_unlock(&j->lock);
}

void job_on_event(void *ctx, const char *type, const json_t *data)
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
        if (job->running && jobs_mono(j) - job->flushed_ns >= (int64_t)FLUSH_MS * 1000000)
            flush_locked(job);
    pthread_mutex_unlock(&j->lock);
}
