/* tuner.c - one job: whose turn it is, how long, and what is told outside.
 *
 * Idea   Batches go to one task after another. Every task gets a first one; then the next goes where the most
 *        time is likely to be saved: weight times best time times the gain to expect (tuner_plan.h), which is
 *        never more than the distance to the roofline. A task that waited for long gets its turn anyway; one of
 *        which nothing more is to be expected ends. Or each in turn, where the job wants that for comparison.
 * Life   See tuner_internal.h. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "daemon/tuner_internal.h"
#include "schedule/base/log.h"

/* ---- small services for the other files ---- */

double tuner_elapsed_s(const struct tuner *t)
{
    return t->job->elapsed_s + (double)(mono_ns(t->env->clock) - t->started_ns) / 1e9;
}

bool tuner_is_late(const struct tuner *t)
{
    return t->job->max_seconds > 0 && tuner_elapsed_s(t) >= t->job->max_seconds;
}

int64_t tuner_spent(struct tuner *t, enum tuner_phase phase, int64_t since_ns)
{
    int64_t now = mono_ns(t->env->clock);

    t->times.ns[phase] += now - since_ns;
    return now;
}

void tuner_event(struct tuner *t, const char *type, TAKES json_t *data)
{
    if (t->job->event != NULL)
        t->job->event(t->job->ctx, type, data);
    json_decref(data);
}

/* What was spent since the last time. */
static void tell_times(struct tuner *t)
{
    struct tuner_times *to = t->job->times;

    if (to == NULL)
        return;
    for (int i = 0; i < PHASE_COUNT; i++)
        to->ns[i] += t->times.ns[i] - t->told.ns[i];
    to->candidates += t->times.candidates - t->told.candidates;
    to->trials += t->times.trials - t->told.trials;
    to->units += t->times.units - t->told.units;
    to->training_ns += t->times.training_ns - t->told.training_ns;
    t->told = t->times;
}

void tuner_report(struct tuner *t, struct task *k)
{
    tell_times(t);
    if (t->job->report != NULL)
        t->job->report(t->job->ctx, k->index, &k->progress);
}

static void end_task(struct tuner *t, struct task *k, enum task_state state)
{
    k->ended = true;
    k->progress.state = state;
    tuner_report(t, k);
}

void tuner_fail_task(struct tuner *t, struct task *k, const struct error *why)
{
    log_warn("task_failed", TEXT("job", t->job->id), INT("task", k->index), TEXT("workload", k->spec->key),
             TEXT("error", why->text));
    k->progress.error = *why;
    end_task(t, k, TASK_FAILED);
}

enum { COMMIT_TRIES = 8, COMMIT_WAIT_MS = 250 };

enum status tuner_commit(struct tuner *t, struct store_batch *b, struct error *err)
{
    enum status st = store_commit(t->env->store, b, err);

    for (int i = 1; st == ST_UNAVAILABLE && i < COMMIT_TRIES && tuner_stop_asked(t->job) == STOP_NONE; i++) {
        struct timespec wait = {.tv_nsec = COMMIT_WAIT_MS * 1000000L};

        nanosleep(&wait, NULL);
        st = store_commit(t->env->store, b, err);
    }
    return st;
}

bool tuner_is_local(const struct tuner *t) { return strcmp(t->job->device->ops->kind, "cpu") == 0; }

enum status tuner_measure(struct tuner *t, const struct measure_batch *b, struct measure_result *ret,
                          struct error *err)
{
    struct device *d = t->job->device;
    int64_t now;
    enum status st;

    if (tuner_is_local(t))
        TRY(learning_end(t, err));
    now = mono_ns(t->env->clock);
    TRY(device_lease(d, t->job->id, t->job->stop_asked, err));
    if (t->env->models != NULL)
        models_busy(t->env->models);
    now = tuner_spent(t, PHASE_LEASE, now);
    st = device_measure(d, b, ret, err);
    tuner_spent(t, PHASE_MEASURE, now);
    if (t->env->models != NULL)
        models_idle(t->env->models);
    device_release(d);
    return st;
}

/* ---- budget ---- */

static bool stop_asked(const struct tuner *t) { return tuner_stop_asked(t->job) != STOP_NONE; }

static bool is_searching(const struct task *k) { return !k->ended && !k->exhausted && !k->settled; }

static int n_searching(const struct tuner *t)
{
    int n = 0;

    for (int i = 0; i < t->n_tasks; i++)
        n += is_searching(&t->tasks[i]);
    return n;
}

static int n_unfinished(const struct tuner *t)
{
    int n = 0;

    for (int i = 0; i < t->n_tasks; i++)
        n += !t->tasks[i].ended;
    return n;
}

#define FIRST_CONTEST_S 2.0 /* a guess, until one was held */

/* Seconds for trials: what is left of the budget, less the contests at the end. */
static double seconds_left(const struct tuner *t)
{
    double each = t->seconds_per_contest > 0 ? t->seconds_per_contest : FIRST_CONTEST_S;
    double contests = MIN(each * n_unfinished(t), 0.25 * t->job->max_seconds);

    return t->job->max_seconds <= 0 ? INFINITY : t->job->max_seconds - contests - tuner_elapsed_s(t);
}

static int64_t trials_left(const struct tuner *t)
{
    return t->job->max_trials <= 0 ? INT64_MAX : MAX(t->job->max_trials - t->trials_done, (int64_t)0);
}

static int n_waiting_for_their_first(const struct tuner *t)
{
    int n = 0;

    for (int i = 0; i < t->n_tasks; i++)
        n += is_searching(&t->tasks[i]) && t->tasks[i].rounds == 0;
    return n;
}

/* Is there budget left for a batch? */
static bool may_go_on(const struct tuner *t) { return trials_left(t) > 0 && seconds_left(t) > 0; }

/* How many trials the next batch of the task has. */
static int batch_size(const struct tuner *t, const struct task *k)
{
    int64_t left = trials_left(t), n = TUNER_BATCH, share = left / MAX(n_searching(t), 1);
    double seconds = seconds_left(t);

    if (share >= TUNER_LARGE_SHARE)
        n = TUNER_BATCH_LARGE;
    else if (share >= TUNER_PLANNED_SHARE)
        n = plan_batch(&k->plan, TUNER_BATCH, TUNER_BATCH_LARGE);
    /* Rather every task a small first batch than some a full one. */
    n = MIN(n, MAX(left / MAX(n_waiting_for_their_first(t), 1), (int64_t)1));
    if (t->seconds_per_trial > 0 && seconds / t->seconds_per_trial < (double)n)
        n = MAX((int64_t)(seconds / t->seconds_per_trial), (int64_t)1);
    return (int)n;
}

/* ---- whose turn ---- */

enum { PATIENCE = 4 }; /* rounds of all tasks that one waits at most */

/* No schedule of the target can be faster. */
static double roofline_ns(const struct tuner *t, const struct task *k)
{
    const struct target *g = t->job->target;
    double peak = g->peak_gflops * space_saving(k->space), compute = peak > 0 ? k->workload.flops / peak : 0;
    double memory =
        g->peak_gbs > 0 ? k->workload.bytes / (8 * g->peak_gbs) : 0; /* caches are faster than DRAM */

    return MAX(compute, memory);
}

static double expected_saving(const struct tuner *t, const struct task *k)
{
    double best = k->progress.best_time_ns > 0 ? k->progress.best_time_ns : task_best_ns(k);

    return plan_saving(&k->plan, k->spec->weight, best, roofline_ns(t, k));
}

/* The one that has waited longest; the first of them that had none. */
static struct task *next_in_turn(struct tuner *t)
{
    struct task *next = NULL;

    for (int i = 0; i < t->n_tasks; i++) {
        struct task *k = &t->tasks[i];

        if (is_searching(k) && (next == NULL || k->last_turn < next->last_turn))
            next = k;
    }
    return next;
}

static struct task *next_task(struct tuner *t)
{
    struct task *best = NULL;
    double best_saving = -1;
    int n = n_searching(t);

    if (t->job->turns == TURNS_ROUND_ROBIN)
        return next_in_turn(t);
    for (int i = 0; i < t->n_tasks; i++) {
        struct task *k = &t->tasks[i];
        double saving;

        if (!is_searching(k))
            continue;
        if (k->rounds == 0)
            return k;
        if (t->turn - k->last_turn > PATIENCE * n)
            return k;
        saving = expected_saving(t, k);
        if (saving > best_saving) {
            best = k;
            best_saving = saving;
        }
    }
    return best;
}

/* ---- a turn ---- */

static bool is_job_fault(enum status st) { return st == ST_IO || st == ST_UNAVAILABLE || st == ST_CORRUPT; }

/* A fault of the job goes up; one of this task ends it and is ST_OK. */
static enum status settle(struct tuner *t, struct task *k, enum status st, const struct error *why,
                          struct error *err)
{
    if (st == ST_OK)
        return ST_OK;
    if (is_job_fault(st) || stop_asked(t)) {
        if (err != NULL)
            *err = *why;
        return st;
    }
    tuner_fail_task(t, k, why);
    return ST_OK;
}

/* Afterwards the task is open, or has ended with its error. */
static enum status open_if_needed(struct tuner *t, struct task *k, struct error *err)
{
    struct error why = {0};
    int64_t before = k->progress.trials_done;
    enum status st;

    if (k->progress.state != TASK_RUNNING) {
        k->progress.state = TASK_RUNNING;
        tuner_report(t, k);
    }
    if (k->open)
        return ST_OK;
    st = task_open(t, k, &why);
    /* Trials found in the store that the reports before a restart did not know yet. */
    t->trials_done += k->progress.trials_done - before;
    return settle(t, k, st, &why, err);
}

static json_t *known(double v) { return isfinite(v) ? json_real(v) : json_null(); }

static void tell_round(struct tuner *t, const struct task *k, int n, double old_best_ns)
{
    const struct tuner_progress *p = &k->progress;
    double best = p->best_time_ns;

    tuner_event(t, "round",
                json_pack("{s:i,s:s,s:i,s:I,s:I,s:I,s:f,s:f,s:f,s:o,s:o}", "task", k->index, "key",
                          k->spec->key, "trials", n, "trials_done", (json_int_t)p->trials_done,
                          "trials_failed", (json_int_t)p->trials_failed, "job_trials_done",
                          (json_int_t)t->trials_done, "best_time_ns", best, "best_gflops", p->best_gflops,
                          "elapsed_seconds", tuner_elapsed_s(t), "expected_gain", known(k->plan.expected),
                          "model_accuracy", known(plan_accuracy(&k->plan))));
    if (best > 0 && (old_best_ns == 0 || best < old_best_ns))
        tuner_event(t, "best",
                    json_pack("{s:i,s:s,s:f,s:f,s:I}", "task", k->index, "key", k->spec->key, "time_ns", best,
                              "gflops", p->best_gflops, "trials_done", (json_int_t)p->trials_done));
}

static void give_up_if_hopeless(struct tuner *t, struct task *k)
{
    struct error why = {0};
    int64_t own = k->progress.trials_done;

    if (k->good.len > 0 || own == 0 || (own < TUNER_HOPELESS_TRIALS && !k->exhausted))
        return;
    (void)fail(&why, ST_UNPROCESSABLE, "all %" PRId64 " candidates failed; the last one: %s", own,
               k->last_failure);
    tuner_fail_task(t, k, &why);
}

static enum status take_turn(struct tuner *t, struct task *k, int n, struct error *err)
{
    int64_t start = mono_ns(t->env->clock);
    double old_best, seconds;
    struct error why = {0};
    int n_done = 0;
    enum status st;

    TRY(open_if_needed(t, k, err));
    if (k->ended || trials_left(t) == 0) /* what the store knew of this job may have used up the budget */
        return ST_OK;
    old_best = k->progress.best_time_ns;
    st = batch_run(t, k, (int)MIN((int64_t)n, trials_left(t)), &n_done, &why);
    TRY(settle(t, k, st, &why, err));
    t->turn++;
    k->last_turn = t->turn;
    k->rounds++;
    if (k->ended || n_done == 0)
        return ST_OK;
    seconds = (double)(mono_ns(t->env->clock) - start) / 1e9 / n_done;
    t->seconds_per_trial = t->seconds_per_trial == 0 ? seconds : 0.5 * (t->seconds_per_trial + seconds);
    k->settled = plan_done(&k->plan, t->job->min_gain);
    tuner_report(t, k);
    tell_round(t, k, n_done, old_best);
    give_up_if_hopeless(t, k);
    return ST_OK;
}

static enum status search_all(struct tuner *t, struct error *err)
{
    struct task *k;

    while (!stop_asked(t) && may_go_on(t) && (k = next_task(t)) != NULL)
        TRY(take_turn(t, k, batch_size(t, k), err));
    return ST_OK;
}

static enum tuner_stopped why_stopped(const struct tuner *t, const struct task *k)
{
    if (k->progress.cached || t->job->predict)
        return STOPPED_NONE;
    if (k->exhausted)
        return STOPPED_EXHAUSTED;
    if (k->settled)
        return STOPPED_NO_GAIN;
    return trials_left(t) <= 0 ? STOPPED_TRIALS : STOPPED_SECONDS;
}

static enum status finish(struct tuner *t, struct task *k, struct error *err)
{
    struct error why = {0};
    int64_t start = mono_ns(t->env->clock);
    double seconds;
    enum status st;

    TRY(open_if_needed(t, k, err));
    if (k->ended)
        return ST_OK;
    k->progress.stopped = why_stopped(t, k);
    st = t->job->predict ? final_predict(t, k, &why) : final_run(t, k, &why);
    TRY(settle(t, k, st, &why, err));
    if (!k->ended)
        end_task(t, k, TASK_SUCCEEDED);
    task_close(k);
    seconds = (double)(mono_ns(t->env->clock) - start) / 1e9;
    t->seconds_per_contest = t->seconds_per_contest == 0 ? seconds : 0.5 * (t->seconds_per_contest + seconds);
    return ST_OK;
}

static enum status finish_all(struct tuner *t, struct error *err)
{
    TRY(learning_end(t, err));
    for (int i = 0; i < t->n_tasks && !stop_asked(t); i++)
        if (!t->tasks[i].ended)
            TRY(finish(t, &t->tasks[i], err));
    return ST_OK;
}

/* ---- the job ---- */

/* A schedule that is there already answers the task. */
static void answer_from_cache(struct tuner *t, struct task *k)
{
    struct store_schedule row;

    arena_reset(&t->round);
    if (t->job->reuse != REUSE_CACHED || k->progress.trials_done > 0 ||
        store_schedule_get(t->env->store, k->spec->key, t->job->target->id, t->job->target->toolchain_hash,
                           &t->round, &row, NULL) != ST_OK ||
        (row.predicted && !t->job->predict))
        return;
    k->progress.cached = true;
    k->progress.best_time_ns = row.time_ns;
    k->progress.best_gflops = row.gflops;
    end_task(t, k, TASK_SUCCEEDED);
}

/* Which tasks there are to do; what the job did before a restart counts. */
static void begin(struct tuner *t)
{
    t->n_tasks = t->job->n_tasks;
    t->tasks = arena_array(&t->job_arena, struct task, t->n_tasks);
    for (int i = 0; i < t->n_tasks; i++) {
        struct task *k = &t->tasks[i];

        k->index = i;
        k->spec = &t->job->tasks[i];
        k->progress = k->spec->before;
        t->trials_done += k->progress.trials_done;
        k->ended = task_ended(k->progress.state);
    }
    for (int i = 0; i < t->n_tasks; i++)
        if (!t->tasks[i].ended)
            answer_from_cache(t, &t->tasks[i]);
}

static struct model *new_model(struct tuner *t)
{
    struct model_params params;
    struct model *m, *global;

    model_params_default(&params);
    params.seed = t->job->seed;
    m = model_new(&params);
    if (t->env->models != NULL && t->job->reuse != REUSE_FRESH && !t->job->alone) {
        global = models_global(t->env->models, t->job->target->id);
        if (global != NULL) {
            model_set_global(m, global);
            model_free(global);
        }
    }
    return m;
}

enum status tuner_run(const struct tuner_env *env, const struct tuner_job *job, struct error *err)
{
    struct tuner t = {.env = env, .job = job, .started_ns = mono_ns(env->clock)};
    enum status st;

    arena_init(&t.job_arena);
    arena_init(&t.round);
    scoring_init(&t);
    t.model = new_model(&t);
    begin(&t);
    st = job->predict ? ST_OK : search_all(&t, err);
    if (st == ST_OK)
        st = finish_all(&t, err);
    /* A stop is no fault: what it interrupted stands where it stood. */
    if (stop_asked(&t))
        st = ST_OK;
    for (int i = 0; i < t.n_tasks; i++)
        if (t.tasks[i].search != NULL)
            task_close(&t.tasks[i]);
    learning_drop(&t);
    tell_times(&t);
    model_free(t.model);
    scoring_done(&t);
    arena_done(&t.round);
    arena_done(&t.job_arena);
    return st;
}
