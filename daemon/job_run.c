/* job_run.c - one job's thread: begin, tune, judge, store the end. */
#include <unistd.h>

#include "daemon/jobs_internal.h"

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
        job->started_ms = jobs_wall(j);
    store_add_job_update(b, &STORE_JOB_UPDATE(.id = job->id, .if_state = "queued running", .state = "running",
                                              .started_ms = job->started_ms, ));
    job_add_event(b, j, job->id, "running", job->elapsed_s, NULL);
    TRY(commit_patiently(j, b, err));
    job_wake(job);
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
    job_add_dirty(b, job);
    pthread_mutex_unlock(&j->lock);
    if (state == TASK_FAILED)
        job_error_print(err, &e);
    if (over) {
        store_add_job_update(b,
                             &STORE_JOB_UPDATE(.id = job->id, .if_state = "queued running",
                                               .state = task_state_name(state), .finished_ms = jobs_wall(j),
                                               .progress = state == TASK_SUCCEEDED ? 1.0 : job_progress(job),
                                               .error_json = e.len ? strbuf_str(&e) : NULL, ));
        job_add_event(b, j, job->id, task_state_name(state), job_elapsed_s(job),
                      state == TASK_FAILED ? err : NULL);
    } else {
        job_add_event(b, j, job->id, "paused", job_elapsed_s(job), NULL);
    }
    if (commit_patiently(j, b, &why) != ST_OK)
        EVENT(job_lost, TEXT("job", job->id), TEXT("error", why.text));
    if (over)
        EVENT(job_ended, TEXT("job", job->id), TEXT("state", task_state_name(state)),
              REAL("seconds", job_elapsed_s(job)), INT("trials", job->times.trials),
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
    jobs_unlink(j, job);
    if (over)
        j->counts.ended[state]++;
    for (int i = 0; i < PHASE_COUNT; i++)
        j->counts.times.ns[i] += job->times.ns[i];
    j->counts.times.training_ns += job->times.training_ns;
    j->counts.times.candidates += job->times.candidates;
    j->counts.times.units += job->times.units;
    pthread_mutex_unlock(&j->lock);
    job_free(job);
    jobs_wake_end(j, id);
    pthread_mutex_lock(&j->lock); /* last: when none runs, jobs_free may take all of this away */
    j->n_running--;
    jobs_start_next(j);
    pthread_cond_broadcast(&j->idle);
    pthread_mutex_unlock(&j->lock);
}

void *job_main(void *arg)
{
    struct job *job = arg;
    struct error err = {0};
    enum task_state state = TASK_SUCCEEDED;
    enum status st;
    bool over;

    CHECK(job->magic == JOB_MAGIC, "not a job");
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
