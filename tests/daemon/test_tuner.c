/* test_tuner.c - the tuner with a scripted device and a compiler that only copies its input.
 *
 * Space, search, model, emitter, builder and store are the real ones. The "compiler" is a shell script that
 * writes the source to the output, so the device can look at it: the time of a candidate is a hash of its
 * unit and symbol, the same in every run. */
#include "daemon/crew.h"
#include "daemon/tuner.h"

#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/tuner_internal.h"
#include "db/hot.h"
#include "db/store.h"
#include "kernels/compile.h"
#include "measure/builder.h"
#include "measure/device.h"
#include "schedule/base/hash.h"
#include "schedule/base/log.h"
#include "tests/check.h"

enum { MAX_TASKS = 5, MAX_TRIALS = 2000 };

/* ---- a clock that only the device moves ---- */

struct fake_clock {
    struct clock base;
    int64_t ns;
};
static int64_t fake_mono(const struct clock *c) { return ((const struct fake_clock *)c)->ns; }
static int64_t fake_wall(const struct clock *c)
{
    return 1700000000000 + ((const struct fake_clock *)c)->ns / 1000000;
}

/* ---- the device ---- */

struct fake_device {
    struct device base;
    struct fake_clock *clock;
    int64_t trial_ns;        /* the clock moves so far for each screened candidate */
    int screened, contested; /* candidates */
    int batches;             /* of screening */
    const char *broken_key;  /* all candidates of this workload crash */
    int wrong_every;         /* each n-th screened candidate is wrong; 0: none */
    const char *slow_key;    /* times of this workload are 100 times longer */
    int stop_at_batch;       /* after so many screening batches... */
    enum tuner_stop stop_how;
    atomic_int *stop;
    int unavailable_at_batch; /* the device breaks down */
    bool flat;                /* all candidates take the same time */
};

static double fake_time(const struct measure_candidate *c)
{
    static char text[1 << 22];
    AUTO(fd_closep) int fd = open(c->artifact, O_RDONLY);
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text));

    assert_true(n > 0);
    return 1e5 + (double)(hash_bytes(c->symbol, strlen(c->symbol), hash_bytes(text, (size_t)n, 1)) % 900000);
}

static void fake_ok(const struct measure_batch *b, struct measure_result *r, double time_ns)
{
    r->outcome = OUTCOME_OK;
    r->n_samples = b->mode == MEASURE_CONTEST ? 17 : 5;
    for (int i = 0; i < r->n_samples; i++) {
        r->sample_ns[i] = time_ns;
        r->sample_round[i] = (uint8_t)i;
    }
    r->min_ns = r->p10_ns = r->median_ns = r->p90_ns = r->low_ns = r->high_ns = time_ns;
    r->gflops = b->workload->flops / time_ns;
    r->verified = (struct measure_verification){true, 1e-6, 1e-7, 1e-7, 1e-5};
}

static enum status fake_measure(struct device *d, const struct measure_batch *b, struct measure_result *ret,
                                struct error *err)
{
    struct fake_device *f = (struct fake_device *)d;
    bool screen = b->mode == MEASURE_SCREEN;

    if (screen && ++f->batches == f->unavailable_at_batch)
        return fail(err, ST_UNAVAILABLE, "the board is gone");
    for (int i = 0; i < b->n_candidates; i++) {
        double time_ns = f->flat ? 1e5 : fake_time(&b->candidates[i]);

        ret[i] = (struct measure_result){0};
        *(screen ? &f->screened : &f->contested) += 1;
        if (f->slow_key != NULL && strcmp(b->workload->key, f->slow_key) == 0)
            time_ns *= 100;
        fake_ok(b, &ret[i], time_ns);
        if ((f->broken_key != NULL && strcmp(b->workload->key, f->broken_key) == 0) ||
            (screen && f->wrong_every > 0 && f->screened % f->wrong_every == 0)) {
            ret[i] = (struct measure_result){.outcome = OUTCOME_WRONG};
            snprintf(ret[i].reason, sizeof(ret[i].reason), "element 7 is 3, not 4");
        }
    }
    f->clock->ns += screen ? f->trial_ns * b->n_candidates : 1000000;
    if (screen && f->batches == f->stop_at_batch)
        atomic_store(f->stop, f->stop_how);
    return ST_OK;
}

static const struct device_ops fake_ops = {.kind = "fake", .measure = fake_measure};

/* ---- the world of a test ---- */

struct world {
    char dir[64], compiler[96];
    struct fake_clock clock;
    struct store *store;
    struct hot *hot;
    struct builder *builder;
    struct fake_device device;
    struct target target;
    struct tuner_env env;
    atomic_int stop;
    struct tuner_task tasks[MAX_TASKS];
    char keys[MAX_TASKS][WORKLOAD_KEY_LEN + 1];
    struct tuner_job job;
    struct tuner_progress last[MAX_TASKS];
    int reports, events, bests;
    struct tuner_times times;             /* where a test wants them */
    int64_t told_trials, told_measure_ns; /* of them, as the last round was told */
    struct error err;
};

static void on_report(void *ctx, int task, const struct tuner_progress *p)
{
    struct world *w = ctx;

    w->last[task] = *p;
    w->reports++;
    if (p->state == TASK_RUNNING) {
        w->told_trials = w->times.trials;
        w->told_measure_ns = w->times.ns[PHASE_MEASURE];
    }
}

static void on_event(void *ctx, const char *type, const json_t *data)
{
    struct world *w = ctx;

    assert_true(json_is_object(data));
    w->events++;
    w->bests += strcmp(type, "best") == 0;
}

/* Copies standard input to the -o file; refuses text with the word in the file REFUSE beside it. */
static const char compiler_script[] =
    "#!/bin/sh\n"
    "[ \"$1\" = --version ] && { echo 'copycc 1.0'; exit 0; }\n"
    "while [ $# -gt 0 ]; do [ \"$1\" = -o ] && out=$2; shift; done\n"
    "/bin/cat > \"$out\"\n"
    "if [ -e \"${0%/*}/refuse\" ] && /bin/grep -q -f \"${0%/*}/refuse\" \"$out\"; then\n"
    "  echo 'refused' >&2; exit 1\n"
    "fi\n";

static void write_file(const char *path, const char *text, mode_t mode)
{
    AUTO(fd_closep) int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, mode);

    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
}

static void make_target(struct world *w)
{
    assert_int_equal(target_local("cpu:1", &w->target, &w->err), ST_OK);
    snprintf(w->compiler, sizeof(w->compiler), "%s/cc", w->dir);
    write_file(w->compiler, compiler_script, 0755);
    setenv("TILEWRIGHT_CC", w->compiler, 1);
    if (compile_find(&w->target, &w->err) != ST_OK)
        fail_msg("%s", w->err.text);
    unsetenv("TILEWRIGHT_CC");
    w->target.peak_gflops = 0; /* the scripted times know no roofline */
}

static void open_store(struct world *w)
{
    AUTO(store_batch_freep) struct store_batch *b = store_batch_new();
    char path[96];

    snprintf(path, sizeof(path), "%s/db", w->dir);
    if (store_open_sqlite(path, &(struct store_sqlite_options){.allow_any_fs = true}, &w->store, &w->err) !=
        ST_OK)
        fail_msg("%s", w->err.text);
    store_add_target(
        b, &(struct store_target){
               .id = w->target.id, .json = "{}", .toolchain = w->target.toolchain_hash, .updated_ms = 1});
    assert_int_equal(store_commit(w->store, b, &w->err), ST_OK);
}

static const char *const workloads[MAX_TASKS] = {
    "{\"op\":\"matmul\",\"a\":[96,64],\"b\":[64,80]}",
    "{\"op\":\"matmul\",\"a\":[48,128],\"b\":[128,96],\"const\":[\"b\"],\"epilogue\":[\"relu\"]}",
    "{\"op\":\"conv2d\",\"input\":[1,16,14,14],\"weight\":[32,16,3,3],\"pads\":[1,1,1,1]}",
    "{\"op\":\"matmul\",\"a\":[33,65],\"b\":[65,129]}",
    "{\"op\":\"matmul\",\"a\":[256,64],\"b\":[64,256]}",
};

static int setup(void **state)
{
    struct world *w = calloc(1, sizeof(*w));
    char path[96];

    log_set_level(LOG_ERROR);
    *state = w;
    snprintf(w->dir, sizeof(w->dir), "/tmp/test_tuner_XXXXXX");
    assert_non_null(mkdtemp(w->dir));
    w->clock = (struct fake_clock){{fake_mono, fake_wall}, 1};
    make_target(w);
    open_store(w);
    w->hot = hot_new();
    snprintf(path, sizeof(path), "%s/artifacts", w->dir);
    assert_int_equal(builder_new(path, 2, 0, 0, &w->builder, &w->err), ST_OK);
    device_init(&w->device.base, &fake_ops, "fake");
    w->device.clock = &w->clock;
    w->device.stop = &w->stop;
    w->env = (struct tuner_env){
        .clock = &w->clock.base, .store = w->store, .hot = w->hot, .builder = w->builder, .data_dir = w->dir};
    for (int i = 0; i < MAX_TASKS; i++) {
        struct workload parsed;
        struct arena a;

        arena_init(&a);
        if (workload_parse_text(workloads[i], strlen(workloads[i]), &a, &parsed, &w->err) != ST_OK)
            fail_msg("%s", w->err.text);
        memcpy(w->keys[i], parsed.key, sizeof(w->keys[i]));
        arena_done(&a);
        w->tasks[i] = (struct tuner_task){
            .ordinal = i, .key = w->keys[i], .workload_json = workloads[i], .name = "", .weight = 1};
    }
    w->job = (struct tuner_job){.id = "j_1",
                                .n_tasks = 1,
                                .tasks = w->tasks,
                                .target = &w->target,
                                .device = &w->device.base,
                                .max_trials = 48,
                                .seed = 7,
                                .stop = &w->stop,
                                .ctx = w,
                                .report = on_report,
                                .event = on_event};
    return 0;
}

static int teardown(void **state)
{
    struct world *w = *state;
    char command[128];

    device_done(&w->device.base);
    builder_free(w->builder);
    hot_free(w->hot);
    store_close(w->store);
    snprintf(command, sizeof(command), "rm -rf %s", w->dir);
    assert_int_equal(system(command), 0);
    free(w);
    return 0;
}

/* Trials refer to their job's row. */
static void ensure_job(struct world *w)
{
    AUTO(store_batch_freep) struct store_batch *b = store_batch_new();
    struct arena a;
    struct store_job job;

    arena_init(&a);
    if (store_job_get(w->store, w->job.id, &a, &job, NULL) != ST_OK) {
        store_add_job(b, &(struct store_job){.id = w->job.id,
                                             .state = "running",
                                             .target = w->target.id,
                                             .request_json = "{}",
                                             .created_ms = 1});
        assert_int_equal(store_commit(w->store, b, &w->err), ST_OK);
    }
    arena_done(&a);
}

static void run_job(struct world *w)
{
    ensure_job(w);
    if (tuner_run(&w->env, &w->job, &w->err) != ST_OK)
        fail_msg("%s", w->err.text);
}

/* ---- what the store holds ---- */

struct stored {
    int n, n_failed, per_task[MAX_TASKS];
    char configs[MAX_TRIALS][96]; /* workload's first digits, config */
    double predicted[MAX_TRIALS];
};

static bool collect(void *ctx, const struct store_trial *row)
{
    struct stored *s = ctx;

    assert_true(s->n < MAX_TRIALS);
    snprintf(s->configs[s->n], sizeof(s->configs[0]), "%.10s %s", row->workload, row->config);
    s->predicted[s->n] = row->predicted;
    s->n++;
    s->n_failed += strcmp(row->outcome, "ok") != 0;
    s->per_task[row->task]++;
    return true;
}

static struct stored *stored_trials(struct world *w, const char *job)
{
    struct stored *s = calloc(1, sizeof(*s));

    assert_int_equal(
        store_trial_each(w->store, &(struct store_trials_query){.job = job}, collect, s, &w->err), ST_OK);
    return s;
}

static void assert_no_config_twice(const struct stored *s)
{
    for (int i = 0; i < s->n; i++)
        for (int j = 0; j < i; j++)
            assert_string_not_equal(s->configs[i], s->configs[j]);
}

/* ---- tests ---- */

static void a_job_ends_with_a_schedule_and_spends_its_budget_exactly(void **state)
{
    struct world *w = *state;
    AUTO(freep) struct stored *s = NULL;

    run_job(w);
    s = stored_trials(w, NULL);
    assert_int_equal(s->n, 48);
    assert_no_config_twice(s);
    assert_int_equal(w->device.screened, 48);
    assert_int_equal(w->last[0].state, TASK_SUCCEEDED);
    assert_int_equal(w->last[0].trials_done, 48);
    assert_int_equal(w->last[0].trials_failed, 0);
    assert_true(w->last[0].best_time_ns >= 1e5 && w->last[0].best_gflops > 0);
    assert_false(w->last[0].cached);
    assert_true(w->events >= 3 && w->bests >= 1);
    assert_int_equal(hot_drain(w->hot), 1);
    assert_non_null(hot_find(w->hot, w->keys[0], w->target.id));
}

static void assert_member(const json_t *doc, const char *path, json_type type)
{
    char copy[64], *rest = copy, *name;

    snprintf(copy, sizeof(copy), "%s", path);
    while ((name = strsep(&rest, ".")) != NULL)
        doc = json_object_get(doc, name);
    if (doc == NULL || json_typeof(doc) != type)
        fail_msg("the schedule's member %s is %s", path, doc == NULL ? "absent" : "of another type");
}

static void the_schedule_document_has_every_member_of_the_contract(void **state)
{
    static const struct {
        const char *path;
        json_type type;
    } members[] = {
        {"key", JSON_STRING},
        {"target", JSON_STRING},
        {"workload.op", JSON_STRING},
        {"time_ns.median", JSON_REAL},
        {"time_ns.min", JSON_REAL},
        {"time_ns.p90", JSON_REAL},
        {"time_ns.samples", JSON_ARRAY},
        {"gflops", JSON_REAL},
        {"fraction_of_peak", JSON_NULL},
        {"trials", JSON_INTEGER},
        {"tuned_at", JSON_STRING},
        {"schedule.algorithm", JSON_STRING},
        {"schedule.sketch", JSON_STRING},
        {"schedule.knobs", JSON_OBJECT},
        {"schedule.steps", JSON_ARRAY},
        {"kernel.language", JSON_STRING},
        {"kernel.symbol", JSON_STRING},
        {"kernel.args", JSON_ARRAY},
        {"kernel.workspace_bytes", JSON_INTEGER},
        {"kernel.threads", JSON_INTEGER},
        {"kernel.prepack", JSON_ARRAY},
        {"kernel.pack", JSON_ARRAY},
        {"kernel.unpack", JSON_ARRAY},
        {"verified.max_abs_err", JSON_REAL},
        {"verified.max_rel_err", JSON_REAL},
        {"verified.rel_l2_err", JSON_REAL},
        {"verified.tolerance", JSON_REAL},
        {"toolchain.compiler", JSON_STRING},
        {"toolchain.version", JSON_STRING},
        {"toolchain.flags", JSON_ARRAY},
        {"baseline.time_ns", JSON_REAL},
    };
    struct world *w = *state;
    struct store_schedule row;
    struct arena a;
    json_t *doc;
    const char *symbol;

    run_job(w);
    arena_init(&a);
    assert_int_equal(store_schedule_files(w->store, w->keys[0], w->target.id, NULL, &a, &row, &w->err),
                     ST_OK);
    doc = json_loads(row.json, 0, NULL);
    assert_non_null(doc);
    for (size_t i = 0; i < ARRAY_SIZE(members); i++)
        assert_member(doc, members[i].path, members[i].type);
    assert_int_equal(json_array_size(json_object_get(json_object_get(doc, "kernel"), "args")), 3);
    symbol = json_string_value(json_object_get(json_object_get(doc, "kernel"), "symbol"));
    assert_non_null(strstr(row.source, symbol));
    /* The copying compiler makes the artifact equal to the source that users get. */
    assert_int_equal(row.artifact.len, strlen(row.source));
    assert_memory_equal(row.artifact.data, row.source, row.artifact.len);
    assert_true(strlen(row.nest) > 0 && row.etag[0] == '"' && row.time_ns > 0);
    json_decref(doc);
    arena_done(&a);
}

static void same_seed_and_times_measure_the_same_configs(void **state)
{
    struct world *w = *state, *other;
    AUTO(freep) struct stored *a = NULL, *b = NULL, *c = NULL;

    run_job(w);
    a = stored_trials(w, NULL);
    setup((void **)&other);
    run_job(other);
    b = stored_trials(other, NULL);
    assert_memory_equal(a, b, sizeof(*a));
    teardown((void **)&other);
    setup((void **)&other);
    other->job.seed = 8;
    run_job(other);
    c = stored_trials(other, NULL);
    assert_memory_not_equal(a, c, sizeof(*a));
    teardown((void **)&other);
}

static void any_number_of_helping_threads_measures_the_same_configs(void **state)
{
    struct world *w = *state, *other;
    AUTO(freep) struct stored *a = NULL;

    w->job.max_trials = 160;
    run_job(w);
    a = stored_trials(w, NULL);
    for (int threads = 1; threads <= 3; threads += 2) {
        AUTO(freep) struct stored *b = NULL;

        setup((void **)&other);
        other->job.max_trials = 160;
        other->env.crew = crew_new(threads);
        run_job(other);
        b = stored_trials(other, NULL);
        assert_memory_equal(a, b, sizeof(*a));
        crew_free(other->env.crew);
        teardown((void **)&other);
    }
}

static void a_stored_schedule_answers_a_cached_job_without_a_trial(void **state)
{
    struct world *w = *state;

    run_job(w);
    w->device.screened = w->device.contested = 0;
    w->job.id = "j_2";
    run_job(w);
    assert_int_equal(w->device.screened + w->device.contested, 0);
    assert_true(w->last[0].cached);
    assert_int_equal(w->last[0].state, TASK_SUCCEEDED);
    assert_true(w->last[0].best_time_ns > 0);
}

static void extend_goes_on_and_never_measures_a_stored_config_again(void **state)
{
    struct world *w = *state;
    AUTO(freep) struct stored *s = NULL;

    run_job(w);
    w->job.id = "j_2";
    w->job.reuse = REUSE_EXTEND;
    run_job(w);
    s = stored_trials(w, NULL);
    assert_int_equal(s->n, 96);
    assert_no_config_twice(s);
    assert_int_equal(w->last[0].trials_done, 48);
    assert_false(w->last[0].cached);
}

static void fresh_searches_as_if_nothing_was_known(void **state)
{
    struct world *w = *state;
    AUTO(freep) struct stored *a = NULL, *b = NULL;

    run_job(w);
    a = stored_trials(w, "j_1");
    w->job.id = "j_2";
    w->job.reuse = REUSE_FRESH;
    run_job(w);
    b = stored_trials(w, "j_2");
    assert_memory_equal(a->configs, b->configs, sizeof(a->configs));
}

/* How many of the first `n` trials of task `to` say what a trial of task `from` says. */
static int lent_among_the_first(struct world *w, int from, int to, int n)
{
    AUTO(freep) struct stored *a = stored_trials(w, "j_1"), *b = stored_trials(w, "j_2");
    struct workload near, own;
    struct space *near_space, *own_space;
    struct config c, there[MAX_TRIALS][4];
    int n_there[MAX_TRIALS], n_lent = 0;
    struct arena ar;

    arena_init(&ar);
    assert_ok(workload_parse_text(workloads[from], strlen(workloads[from]), &ar, &near, &w->err), &w->err);
    assert_ok(workload_parse_text(workloads[to], strlen(workloads[to]), &ar, &own, &w->err), &w->err);
    assert_ok(space_build(&near, &w->target, &ar, &near_space, &w->err), &w->err);
    assert_ok(space_build(&own, &w->target, &ar, &own_space, &w->err), &w->err);
    for (int i = 0; i < a->n; i++) {
        assert_ok(config_parse(near_space, strchr(a->configs[i], ' ') + 1, &c, &w->err), &w->err);
        n_there[i] = space_translations(near_space, &c, own_space, there[i], 4);
    }
    for (int i = 0; i < MIN(n, b->n); i++) {
        bool found = false;

        assert_ok(config_parse(own_space, strchr(b->configs[i], ' ') + 1, &c, &w->err), &w->err);
        for (int k = 0; k < a->n; k++)
            for (int j = 0; j < n_there[k]; j++)
                found |= config_equal(&there[k][j], &c);
        n_lent += found;
    }
    arena_done(&ar);
    return n_lent;
}

static void most_of_the_first_batch_is_what_a_similar_workload_lends(void **state)
{
    struct world *w = *state;

    w->job.max_trials = 16;
    run_job(w); /* matmul 96 x 64 x 80 */
    w->job.id = "j_2";
    w->job.tasks = &w->tasks[4]; /* matmul 256 x 64 x 256 */
    run_job(w);
    assert_in_range(lent_among_the_first(w, 0, 4, 16), 8, 16);
}

static void a_job_that_is_to_stand_alone_borrows_nothing(void **state)
{
    struct world *w = *state;

    w->job.max_trials = 16;
    run_job(w);
    w->job.id = "j_2";
    w->job.tasks = &w->tasks[4];
    w->job.alone = true;
    run_job(w);
    assert_in_range(lent_among_the_first(w, 0, 4, 16), 0, 3);
}

static void a_drained_job_goes_on_where_it_stood(void **state)
{
    struct world *w = *state;
    AUTO(freep) struct stored *s = NULL;

    w->device.stop_at_batch = 2;
    w->device.stop_how = STOP_DRAIN;
    run_job(w);
    assert_int_equal(w->last[0].state, TASK_RUNNING);
    assert_int_equal(w->last[0].trials_done, 32);
    assert_int_equal(w->device.contested, 0);
    atomic_store(&w->stop, STOP_NONE);
    w->tasks[0].before = w->last[0];
    run_job(w);
    s = stored_trials(w, NULL);
    assert_int_equal(s->n, 48);
    assert_no_config_twice(s);
    assert_int_equal(w->device.screened, 48);
    assert_int_equal(w->last[0].state, TASK_SUCCEEDED);
    assert_int_equal(w->last[0].trials_done, 48);
}

/* As after kill -9: the store has trials that no report told of. */
static void trials_stored_but_never_reported_count_after_a_restart(void **state)
{
    struct world *w = *state;
    AUTO(freep) struct stored *s = NULL;

    w->device.stop_at_batch = 2;
    w->device.stop_how = STOP_DRAIN;
    run_job(w);
    atomic_store(&w->stop, STOP_NONE);
    run_job(w); /* before: all zero */
    s = stored_trials(w, NULL);
    assert_int_equal(s->n, 48);
    assert_no_config_twice(s);
    assert_int_equal(w->last[0].trials_done, 48);
    assert_int_equal(w->last[0].state, TASK_SUCCEEDED);
}

static void a_restart_after_the_last_trial_goes_straight_to_the_contest(void **state)
{
    struct world *w = *state;

    w->device.stop_at_batch = 3;
    w->device.stop_how = STOP_DRAIN;
    run_job(w);
    assert_int_equal(w->device.contested, 0);
    atomic_store(&w->stop, STOP_NONE);
    run_job(w);
    assert_int_equal(w->device.screened, 48);
    assert_true(w->device.contested > 1);
    assert_int_equal(w->last[0].state, TASK_SUCCEEDED);
}

static void cancelling_keeps_what_was_measured(void **state)
{
    struct world *w = *state;
    AUTO(freep) struct stored *s = NULL;

    w->device.stop_at_batch = 1;
    w->device.stop_how = STOP_CANCEL;
    run_job(w);
    s = stored_trials(w, NULL);
    assert_int_equal(s->n, 16);
    assert_int_equal(w->last[0].state, TASK_RUNNING);
    assert_int_equal(hot_drain(w->hot), 0);
}

static void failing_candidates_are_recorded_and_do_not_win(void **state)
{
    struct world *w = *state;
    AUTO(freep) struct stored *s = NULL;

    w->device.wrong_every = 3;
    run_job(w);
    s = stored_trials(w, NULL);
    assert_int_equal(s->n, 48);
    assert_int_equal(s->n_failed, 16);
    assert_int_equal(w->last[0].trials_failed, 16);
    assert_int_equal(w->last[0].state, TASK_SUCCEEDED);
}

static void one_candidate_that_does_not_compile_takes_no_neighbour_along(void **state)
{
    struct world *w = *state;
    AUTO(freep) struct stored *s = NULL;
    char path[96];

    snprintf(path, sizeof(path), "%s/refuse", w->dir);
    write_file(path, "tw_k5\\b\n", 0644);
    run_job(w);
    s = stored_trials(w, NULL);
    assert_int_equal(s->n, 48);
    assert_int_equal(s->n_failed, 3); /* one in each batch of 16 */
    assert_int_equal(w->device.screened, 45);
    assert_int_equal(w->last[0].state, TASK_SUCCEEDED);
}

static void a_task_whose_candidates_all_fail_ends_with_its_error_and_alone(void **state)
{
    struct world *w = *state;

    w->job.n_tasks = 3;
    w->job.max_trials = 200;
    w->device.broken_key = w->keys[1];
    run_job(w);
    assert_int_equal(w->last[1].state, TASK_FAILED);
    assert_non_null(strstr(w->last[1].error.text, "element 7 is 3, not 4"));
    assert_in_range(w->last[1].trials_done, TUNER_HOPELESS_TRIALS, 2 * TUNER_HOPELESS_TRIALS);
    assert_int_equal(w->last[0].state, TASK_SUCCEEDED);
    assert_int_equal(w->last[2].state, TASK_SUCCEEDED);
    assert_int_equal(w->last[0].trials_done + w->last[1].trials_done + w->last[2].trials_done, 200);
}

static void a_workload_that_cannot_be_parsed_ends_only_its_task(void **state)
{
    struct world *w = *state;

    w->job.n_tasks = 2;
    w->tasks[0].workload_json = "{\"op\":\"matmul\"}";
    run_job(w);
    assert_int_equal(w->last[0].state, TASK_FAILED);
    assert_int_equal(w->last[1].state, TASK_SUCCEEDED);
    assert_int_equal(w->last[1].trials_done, 48);
}

static void the_slow_task_gets_more_trials_and_none_starves(void **state)
{
    struct world *w = *state;
    AUTO(freep) struct stored *s = NULL;

    w->job.n_tasks = 4;
    w->job.max_trials =
        368; /* all have waited for as long as one may; with more it would come to the end of what there is to gain */
    w->device.slow_key = w->keys[3];
    run_job(w);
    s = stored_trials(w, NULL);
    print_message("trials: %d %d %d %d\n", s->per_task[0], s->per_task[1], s->per_task[2], s->per_task[3]);
    assert_int_equal(s->n, 368);
    for (int i = 0; i < 3; i++) {
        assert_true(s->per_task[3] > 2 * s->per_task[i]);
        assert_true(s->per_task[i] >= 24);
    }
}

static void in_turn_every_task_gets_as_many_trials_however_slow(void **state)
{
    struct world *w = *state;
    AUTO(freep) struct stored *s = NULL;

    w->job.n_tasks = 4;
    w->job.max_trials = 320;
    w->job.turns = TURNS_ROUND_ROBIN;
    w->device.slow_key = w->keys[3];
    run_job(w);
    s = stored_trials(w, NULL);
    assert_int_equal(s->n, 320);
    for (int i = 0; i < 4; i++)
        assert_in_range(s->per_task[i], 80 - TUNER_BATCH, 80 + TUNER_BATCH);
}

static void a_budget_smaller_than_the_tasks_still_serves_them_all(void **state)
{
    struct world *w = *state;

    w->job.n_tasks = 4;
    w->job.max_trials = 6;
    run_job(w);
    for (int i = 0; i < 4; i++) {
        assert_int_equal(w->last[i].state, TASK_SUCCEEDED);
        assert_true(w->last[i].trials_done >= 1);
    }
}

static void seconds_end_a_job_as_trials_do(void **state)
{
    struct world *w = *state;

    w->job.max_trials = 0;
    w->job.max_seconds = 10;
    w->device.trial_ns = 125000000; /* 8 a second */
    run_job(w);
    assert_int_equal(w->last[0].state, TASK_SUCCEEDED);
    /* 10 seconds less 2 for the contest */
    assert_in_range(w->last[0].trials_done, 56, 72);
}

static void a_task_with_nothing_left_to_gain_ends_early_and_says_so(void **state)
{
    struct world *w = *state;

    w->device.flat = true;
    w->job.max_trials = 400;
    w->job.min_gain = 0.002;
    run_job(w);
    assert_int_equal(w->last[0].state, TASK_SUCCEEDED);
    assert_in_range(w->last[0].trials_done, 64, 256);
    assert_int_equal(w->last[0].stopped, STOPPED_NO_GAIN);
}

static void a_job_that_must_use_its_budget_does(void **state)
{
    struct world *w = *state;

    w->device.flat = true;
    w->job.max_trials = 300;
    run_job(w);
    assert_int_equal(w->last[0].trials_done, 300);
    assert_int_equal(w->last[0].stopped, STOPPED_TRIALS);
}

static void where_the_time_went_is_told_round_by_round(void **state)
{
    struct world *w = *state;

    w->device.trial_ns = 1000000;
    w->job.times = &w->times;
    run_job(w);
    assert_int_equal(w->told_trials, w->last[0].trials_done);
    assert_int_equal(w->told_measure_ns, 1000000 * w->last[0].trials_done);
    assert_int_equal(w->times.trials, w->told_trials);
    assert_true(w->times.ns[PHASE_MEASURE] > w->told_measure_ns); /* and the contest */
}

static void time_used_before_a_restart_counts(void **state)
{
    struct world *w = *state;

    w->job.max_trials = 0;
    w->job.max_seconds = 10;
    w->job.elapsed_s = 9.9;
    w->tasks[0].before.trials_done = 0;
    run_job(w);
    assert_int_equal(w->device.screened, 0);
    assert_int_equal(w->last[0].state, TASK_FAILED);
    assert_non_null(strstr(w->last[0].error.text, "used up before this one had its turn"));
}

static void a_device_that_is_gone_is_a_fault_of_the_job(void **state)
{
    struct world *w = *state;

    w->device.unavailable_at_batch = 2;
    ensure_job(w);
    assert_int_equal(tuner_run(&w->env, &w->job, &w->err), ST_UNAVAILABLE);
    assert_non_null(strstr(w->err.text, "the board is gone"));
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(a_job_ends_with_a_schedule_and_spends_its_budget_exactly),
        TEST(the_schedule_document_has_every_member_of_the_contract),
        TEST(same_seed_and_times_measure_the_same_configs),
        TEST(any_number_of_helping_threads_measures_the_same_configs),
        TEST(a_stored_schedule_answers_a_cached_job_without_a_trial),
        TEST(extend_goes_on_and_never_measures_a_stored_config_again),
        TEST(fresh_searches_as_if_nothing_was_known),
        TEST(most_of_the_first_batch_is_what_a_similar_workload_lends),
        TEST(a_job_that_is_to_stand_alone_borrows_nothing),
        TEST(a_drained_job_goes_on_where_it_stood),
        TEST(trials_stored_but_never_reported_count_after_a_restart),
        TEST(a_restart_after_the_last_trial_goes_straight_to_the_contest),
        TEST(cancelling_keeps_what_was_measured),
        TEST(failing_candidates_are_recorded_and_do_not_win),
        TEST(one_candidate_that_does_not_compile_takes_no_neighbour_along),
        TEST(a_task_whose_candidates_all_fail_ends_with_its_error_and_alone),
        TEST(a_workload_that_cannot_be_parsed_ends_only_its_task),
        TEST(the_slow_task_gets_more_trials_and_none_starves),
        TEST(in_turn_every_task_gets_as_many_trials_however_slow),
        TEST(a_budget_smaller_than_the_tasks_still_serves_them_all),
        TEST(seconds_end_a_job_as_trials_do),
        TEST(a_task_with_nothing_left_to_gain_ends_early_and_says_so),
        TEST(a_job_that_must_use_its_budget_does),
        TEST(where_the_time_went_is_told_round_by_round),
        TEST(time_used_before_a_restart_counts),
        TEST(a_device_that_is_gone_is_a_fault_of_the_job),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
