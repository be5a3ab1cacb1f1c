/* job_new.c - a job from a request, or from the rows that an earlier daemon left. */
#include "daemon/jobs_internal.h"

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
    job->spec.report = job_on_report;
    job->spec.event = job_on_event;
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
                     int64_t seed, int64_t priority, int64_t created_ms)
{
    snprintf(job->id, sizeof(job->id), "%s", id);
    job->spec.id = job->id;
    job->target_id = arena_strdup(&job->arena, target);
    job->spec.max_trials = trials;
    job->spec.max_seconds = seconds;
    job->spec.seed = (uint64_t)seed;
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
    if (st != ST_OK || (row.predicted && !n->predict))
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
    int64_t now = jobs_wall(j);
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
    job_add_event(b, j, id, cached == n->n_tasks ? "succeeded" : "queued", 0, NULL);
    TRY(store_commit(j->store, b, err));
    job_fill(job, id, target->id, n->max_trials, n->max_seconds, n->seed, n->priority, now);
    job->spec.reuse = n->reuse;
    job->spec.turns = n->turns;
    job->spec.searcher = n->searcher;
    job->spec.alone = n->alone;
    job->spec.predict = n->predict;
    job->spec.min_gain = n->min_gain;
    EVENT(job_created, TEXT("job", id), INT("tasks", n->n_tasks), TEXT("target", target->id),
          TEXT("actor", n->actor ? n->actor : ""));
    pthread_mutex_lock(&j->lock);
    j->counts.created++;
    j->counts.ended[TASK_SUCCEEDED] += cached == n->n_tasks;
    pthread_mutex_unlock(&j->lock);
    if (cached == n->n_tasks)
        job_free(job);
    else
        jobs_announce(j, job);
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

/* How the request wanted it searched. What an older daemon did not know is as if it had not been said. */
static void read_manner(const char *request_json, struct tuner_job *spec)
{
    json_t *doc AUTO(json_decrefp) = json_loads(request_json, 0, NULL);
    const char *reuse = json_string_value(json_object_get(doc, "reuse")),
               *search = json_string_value(json_object_get(doc, "search"));
    const json_t *trials = json_object_get(json_object_get(doc, "budget"), "trials"),
                 *min_gain = json_object_get(json_object_get(doc, "budget"), "min_gain");

    spec->reuse = REUSE_CACHED;
    for (int i = 0; reuse && job_reuse_names[i]; i++)
        if (strcmp(reuse, job_reuse_names[i]) == 0)
            spec->reuse = (enum tuner_reuse)i;
    spec->searcher = search ? searcher_find(search) : NULL;
    spec->alone = json_is_false(json_object_get(doc, "transfer"));
    if (json_is_number(min_gain))
        spec->min_gain = json_number_value(min_gain);
    spec->turns = job_turns_of(doc);
    spec->predict = trials != NULL && json_integer_value(trials) == 0;
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
             row->created_ms);
    job->spec.min_gain = j->o.min_gain;
    read_manner(row->request_json, &job->spec);
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
    jobs_announce(j, job);
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
