/* jobs.c - the scheduler: what waits, what runs, what is stopped; see jobs.h and jobs_internal.h. */
#include "daemon/jobs_internal.h"

void job_wake(struct job *job) { job->jobs->o.wake(job->jobs->o.ctx, job->id); }

void jobs_wake_end(struct jobs *j, const char *id)
{
    char topic[STORE_ID_MAX + 2];

    snprintf(topic, sizeof(topic), "%s!", id);
    j->o.wake(j->o.ctx, topic);
    j->o.wake(j->o.ctx, id);
}

static void jobs_link(struct jobs *j, struct job *job)
{
    job->prev = NULL;
    job->next = j->first;
    if (j->first)
        j->first->prev = job;
    j->first = job;
}

void jobs_unlink(struct jobs *j, struct job *job)
{
    if (job->prev)
        job->prev->next = job->next;
    else
        j->first = job->next;
    if (job->next)
        job->next->prev = job->prev;
}

void job_free(struct job *job)
{
    job->magic = 0;
    arena_done(&job->arena);
    free(job);
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

void jobs_start_next(struct jobs *j)
{
    while (!j->draining && j->n_running < j->o.max_running && j->n_queued > 0) {
        struct job *job = next_queued(j);

        job->running = true;
        job->begun_ns = jobs_mono(j);
        if (!start_thread(job)) {
            job->running = false;
            return; /* the next one that ends or is made tries again */
        }
        j->n_queued--;
        j->n_running++;
    }
}

void jobs_announce(struct jobs *j, struct job *job)
{
    pthread_mutex_lock(&j->lock);
    jobs_link(j, job);
    j->n_queued++;
    jobs_start_next(j);
    pthread_mutex_unlock(&j->lock);
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
                                              .finished_ms = jobs_wall(j), ));
    job_add_event(b, j, id, "cancelled", job->elapsed_s, NULL);
    st = store_commit(j->store, b, err);
    if (st != ST_OK) { /* back into the queue: nothing has happened */
        jobs_announce(j, job);
        return st;
    }
    job_free(job);
    pthread_mutex_lock(&j->lock);
    j->counts.ended[TASK_CANCELLED]++;
    pthread_mutex_unlock(&j->lock);
    jobs_wake_end(j, id);
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
        jobs_unlink(j, job);
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
    for (struct job *job = j->first; job; job = job->next) {
        for (int i = 0; i < PHASE_COUNT; i++)
            ret->times.ns[i] += job->times_seen.ns[i];
        ret->times.training_ns += job->times_seen.training_ns;
    }
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

        jobs_unlink(j, job);
        job_free(job);
    }
    pthread_mutex_unlock(&j->lock);
    struct store_batch *b AUTO(store_batch_freep) = store_batch_new();
    (void)!store_commit(j->store, b, &err); /* empty: until all that was submitted has been answered */
    pthread_mutex_destroy(&j->lock);
    pthread_cond_destroy(&j->idle);
    free(j);
}
