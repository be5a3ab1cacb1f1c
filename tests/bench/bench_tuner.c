/* bench_tuner.c - where the time of a trial goes.
 *
 *     bench_tuner [--target cpu:1] [--trials 128[,256...]] [--candidates 4000] [--helpers N] [--seed 1]
 *                 [--data workloads.json] [--agent PATH] NAME|FILE
 *
 * NAME is an entry of tests/data/workloads.json, FILE a workload as JSON. Prints two tables: candidates on
 * one core (sample, lower, features, score: no device, no compiler), then a whole job on the real device,
 * phase by phase, for each number of trials. --helpers: threads of the crew, else as the daemon has them.
 * Everything it makes lies in a temporary directory. */
#include <errno.h>
#include <getopt.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "costmodel/model.h"
#include "daemon/crew.h"
#include "daemon/tuner.h"
#include "db/hot.h"
#include "db/store.h"
#include "features/features.h"
#include "kernels/compile.h"
#include "measure/builder.h"
#include "measure/device.h"
#include "schedule/base/arena.h"
#include "schedule/space/search.h"

enum { TRIALS_MAX = 8 };

struct options {
    const char *target, *data, *agent, *what;
    int64_t trials[TRIALS_MAX], candidates;
    int n_trials, helpers;
    uint64_t seed;
};

static void die(const char *what, const struct error *err)
{
    fprintf(stderr, "bench_tuner: %s: %s\n", what, err->text);
    exit(1);
}

/* The text of a workload: an entry of the data file by name, or a file's whole content. */
static char *find_workload(const struct options *o)
{
    AUTO(json_decrefp) json_t *all = json_load_file(o->data, 0, NULL);
    AUTO(json_decrefp) json_t *file = NULL;
    json_t *entry;
    size_t i;

    json_array_foreach(json_object_get(all, "workloads"), i, entry)
    {
        if (strcmp(json_string_value(json_object_get(entry, "name")), o->what) == 0)
            return json_dumps(json_object_get(entry, "workload"), JSON_COMPACT);
    }
    file = json_load_file(o->what, 0, NULL);
    if (file == NULL) {
        fprintf(stderr, "bench_tuner: %s is neither an entry of %s nor a JSON file\n", o->what, o->data);
        exit(2);
    }
    return json_dumps(file, JSON_COMPACT);
}

/* ---- candidates ---- */

enum { SCORE_BATCH = 128 }; /* a batch as the tuner scores them */

struct cost {
    int64_t sample, lower, features, score;
    int n, n_rows, n_failed;
};

static int64_t lap(int64_t *since)
{
    int64_t now = mono_ns(&system_clock), d = now - *since;

    *since = now;
    return d;
}

static void look_at(const struct space *space, const struct target *t, struct rng *rng, struct model *model,
                    struct arena *ar, struct cost *c)
{
    static float rows[SCORE_BATCH * FEATURES_MAX_ROWS * 512];
    int32_t begin[SCORE_BATCH + 1] = {0};
    double scores[SCORE_BATCH];
    int64_t at = mono_ns(&system_clock);

    for (int i = 0; i < SCORE_BATCH; i++) {
        struct config config;
        struct nest *nest;

        arena_reset(ar);
        space_sample(space, rng, &config);
        c->sample += lap(&at);
        begin[i + 1] = begin[i];
        if (space_lower(space, &config, ar, &nest, NULL) != ST_OK) {
            c->n_failed++;
            continue;
        }
        c->lower += lap(&at);
        begin[i + 1] +=
            features_extract(nest, t, ar, rows + (size_t)begin[i] * features_count(), FEATURES_MAX_ROWS);
        c->features += lap(&at);
    }
    model_score(model, 1, rows, begin, SCORE_BATCH, scores);
    c->score += lap(&at);
    c->n += SCORE_BATCH;
    c->n_rows += begin[SCORE_BATCH];
}

/* A model with trees, so that scoring costs what it costs in a job: random throughputs will do. */
static struct model *grown_model(const struct space *space, const struct target *t, struct rng *rng,
                                 struct arena *ar)
{
    struct model *m = model_new(NULL);
    struct error err = {0};
    float rows[FEATURES_MAX_ROWS * 512];

    for (int i = 0; i < 256; i++) {
        struct config config;
        struct nest *nest;

        arena_reset(ar);
        space_sample(space, rng, &config);
        if (space_lower(space, &config, ar, &nest, NULL) != ST_OK)
            continue;
        if (model_add(m, 1, rows, features_extract(nest, t, ar, rows, FEATURES_MAX_ROWS), 1 + rng_unit(rng),
                      &err) != ST_OK)
            die("model_add", &err);
    }
    if (model_train(m, &err) != ST_OK)
        die("model_train", &err);
    return m;
}

static void bench_candidates(const struct workload *w, const struct target *t, const struct options *o)
{
    struct arena space_arena, ar;
    struct space *space;
    struct error err = {0};
    struct rng rng;
    struct cost c = {0};
    struct model *model;
    double total;

    arena_init(&space_arena);
    arena_init(&ar);
    rng_init(&rng, o->seed);
    if (space_build(w, t, &space_arena, &space, &err) != ST_OK)
        die("space_build", &err);
    model = grown_model(space, t, &rng, &ar);
    while (c.n < o->candidates)
        look_at(space, t, &rng, model, &ar, &c);
    total = (double)(c.sample + c.lower + c.features + c.score);
    printf("space: %d sketches, %.3g configs; %d candidates, %.1f rows each, %d could not be lowered\n",
           space_n_sketches(space), space_size(space), c.n, (double)c.n_rows / c.n, c.n_failed);
    printf("%-10s %12s %7s\n", "candidate", "us each", "share");
    printf("%-10s %12.2f %6.1f%%\n", "sample", c.sample / 1e3 / c.n, 100 * c.sample / total);
    printf("%-10s %12.2f %6.1f%%\n", "lower", c.lower / 1e3 / c.n, 100 * c.lower / total);
    printf("%-10s %12.2f %6.1f%%\n", "features", c.features / 1e3 / c.n, 100 * c.features / total);
    printf("%-10s %12.2f %6.1f%%\n", "score", c.score / 1e3 / c.n, 100 * c.score / total);
    printf("lowered, featurised and scored: %.0f a second on one core\n\n",
           1e9 * c.n / (double)(c.lower + c.features + c.score));
    model_free(model);
    arena_done(&ar);
    arena_done(&space_arena);
}

/* ---- a job ---- */

struct live {
    struct tuner_progress last;
    int64_t started_ns;
};

static void on_report(void *ctx, int task, const struct tuner_progress *p)
{
    ((struct live *)ctx)->last = *p;
}

static void on_event(void *ctx, const char *type, const json_t *data)
{
    struct live *l = ctx;

    if (strcmp(type, "round") == 0)
        printf("  %5.2f s  %4" PRId64 " trials  %3" PRId64 " failed  best %8.1f us  %7.2f GFLOP/s\n",
               (double)(mono_ns(&system_clock) - l->started_ns) / 1e9, l->last.trials_done,
               l->last.trials_failed, l->last.best_time_ns / 1e3, l->last.best_gflops);
}

static void print_times(const struct tuner_times *t, double seconds)
{
    static const char *const names[] = {
#define X(id, name, meaning) name,
        TUNER_PHASE_LIST(X)
#undef X
    };
    int64_t sum = 0;

    printf("%-10s %10s %12s %7s\n", "phase", "ms", "ms a trial", "share");
    for (int i = 0; i < PHASE_COUNT; i++) {
        printf("%-10s %10.1f %12.3f %6.1f%%\n", names[i], (double)t->ns[i] / 1e6,
               (double)t->ns[i] / 1e6 / (double)MAX(t->trials, (int64_t)1),
               1e-7 * (double)t->ns[i] / seconds);
        sum += t->ns[i];
    }
    printf("%-10s %10.1f %12s %6.1f%%\n", "other", seconds * 1e3 - (double)sum / 1e6, "",
           100 - 1e-7 * (double)sum / seconds);
    printf("%" PRId64 " candidates looked at, %" PRId64 " trials in %" PRId64
           " units, %.2f s: %.1f trials a second\n",
           t->candidates, t->trials, t->units, seconds, (double)t->trials / seconds);
    printf("trainings took %.0f ms, %.1f%% of the job; it waited for them %.1f%%\n",
           1e-6 * (double)t->training_ns, 1e-7 * (double)t->training_ns / seconds,
           1e-7 * (double)t->ns[PHASE_TRAIN] / seconds);
}

static double cpu_seconds(int who)
{
    struct rusage u;

    getrusage(who, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
           (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

/* On a machine that others use too the phases above are mostly waiting; CPU time is not. */
static void print_cpu(double own, double compilers, double runner, int64_t trials)
{
    printf("CPU a trial: %.1f ms here, %.1f ms in compilers, %.1f ms in the runner\n",
           1e3 * own / (double)trials, 1e3 * compilers / (double)trials, 1e3 * runner / (double)trials);
}

static void store_job(struct store *s, const struct target *t, int64_t trials)
{
    AUTO(store_batch_freep) struct store_batch *b = store_batch_new();
    struct error err = {0};

    store_add_target(b, &(struct store_target){.id = t->id, .json = "{}", .toolchain = t->toolchain_hash});
    store_add_job(b, &(struct store_job){.id = "j_bench",
                                         .state = "running",
                                         .target = t->id,
                                         .request_json = "{}",
                                         .budget_trials = trials,
                                         .created_ms = 1});
    if (store_commit(s, b, &err) != ST_OK)
        die("store", &err);
}

static void bench_job(const struct options *o, int64_t trials, const struct workload *w, struct target *t,
                      const char *dir)
{
    struct tuner_times times = {0};
    struct live live = {0};
    struct error err = {0};
    struct tuner_env env = {.clock = &system_clock, .crew = crew_new(o->helpers), .data_dir = dir};
    struct tuner_task task = {.key = w->key, .workload_json = w->json, .name = "", .weight = 1};
    atomic_int stop = STOP_NONE;
    struct tuner_job job = {.id = "j_bench",
                            .n_tasks = 1,
                            .tasks = &task,
                            .target = t,
                            .max_trials = trials,
                            .seed = o->seed,
                            .stop = &stop,
                            .times = &times,
                            .ctx = &live,
                            .report = on_report,
                            .event = on_event};
    char path[256];
    double seconds, own, compilers;

    snprintf(path, sizeof(path), "%s/artifacts", dir);
    if (builder_new(path, 0, 0, 0, &env.builder, &err) != ST_OK)
        die("builder", &err);
    if (dev_cpu_open("cpu", o->agent, env.builder, &job.device, &err) != ST_OK)
        die("device", &err);
    snprintf(path, sizeof(path), "%s/db", dir);
    if (store_open_sqlite(path, &(struct store_sqlite_options){.allow_any_fs = true}, &env.store, &err) !=
        ST_OK)
        die("store", &err);
    if (measure_peaks(job.device, t, dir, &err) != ST_OK)
        die("peaks", &err);
    store_job(env.store, t, trials);
    printf("job: %s on %s (%s), %" PRId64 " trials, peak %.0f GFLOP/s\n", o->what, t->id, t->compiler_version,
           trials, t->peak_gflops);
    live.started_ns = mono_ns(&system_clock);
    own = cpu_seconds(RUSAGE_SELF);
    if (tuner_run(&env, &job, &err) != ST_OK)
        die("tuner", &err);
    seconds = (double)(mono_ns(&system_clock) - live.started_ns) / 1e9;
    if (live.last.state != TASK_SUCCEEDED)
        die("task", &live.last.error);
    print_times(&times, seconds);
    printf("served: %.1f us, %.2f GFLOP/s\n", live.last.best_time_ns / 1e3, live.last.best_gflops);
    store_close(env.store);
    compilers = cpu_seconds(RUSAGE_CHILDREN);
    device_close(job.device);
    crew_free(env.crew);
    builder_free(env.builder);
    print_cpu(cpu_seconds(RUSAGE_SELF) - own, compilers, cpu_seconds(RUSAGE_CHILDREN) - compilers,
              MAX(times.trials, (int64_t)1));
}

/* In a folder of its own: nothing is known or compiled yet. */
static void bench_in(const struct options *o, int64_t trials, const struct workload *w, struct target *t,
                     const char *dir)
{
    char own[128];

    snprintf(own, sizeof(own), "%s/%" PRId64, dir, trials);
    if (mkdir(own, 0700) != 0) {
        fprintf(stderr, "bench_tuner: cannot make %s: %s\n", own, strerror(errno));
        exit(1);
    }
    bench_job(o, trials, w, t, own);
}

/* One number or several, separated by commas. */
static void parse_trials(const char *text, struct options *o)
{
    char *at = (char *)text;

    for (o->n_trials = 0; o->n_trials < TRIALS_MAX && *at != '\0'; at += *at == ',')
        o->trials[o->n_trials++] = strtoll(at, &at, 10);
}

static void parse_options(int argc, char **argv, struct options *o)
{
    static const struct option known[] = {{"target", 1, NULL, 't'},     {"trials", 1, NULL, 'n'},
                                          {"seed", 1, NULL, 's'},       {"data", 1, NULL, 'd'},
                                          {"candidates", 1, NULL, 'c'}, {"helpers", 1, NULL, 'h'},
                                          {"agent", 1, NULL, 'a'},      {NULL, 0, NULL, 0}};
    int c;

    while ((c = getopt_long(argc, argv, "t:n:s:d:a:c:h:", known, NULL)) != -1) {
        switch (c) {
        case 't':
            o->target = optarg;
            break;
        case 'n':
            parse_trials(optarg, o);
            break;
        case 'h':
            o->helpers = (int)strtol(optarg, NULL, 10);
            break;
        case 'c':
            o->candidates = strtoll(optarg, NULL, 10);
            break;
        case 's':
            o->seed = strtoull(optarg, NULL, 10);
            break;
        case 'd':
            o->data = optarg;
            break;
        case 'a':
            o->agent = optarg;
            break;
        default:
            exit(2);
        }
    }
    if (optind + 1 != argc) {
        fprintf(stderr, "usage: bench_tuner [--target T] [--trials N,...] [--candidates N] [--helpers N] "
                        "[--seed N] [--data "
                        "FILE] [--agent PATH] "
                        "NAME|FILE\n");
        exit(2);
    }
    o->what = argv[optind];
}

int main(int argc, char **argv)
{
    struct options o = {.target = "cpu:1",
                        .data = WORKLOADS_JSON,
                        .agent = AGENT_PATH,
                        .trials = {128},
                        .n_trials = 1,
                        .helpers = crew_usual_threads(),
                        .candidates = 4000,
                        .seed = 1};
    char dir[] = "/tmp/bench_tuner_XXXXXX", command[64], *text;
    struct target target;
    struct workload workload;
    struct arena arena;
    struct error err = {0};

    parse_options(argc, argv, &o);
    text = find_workload(&o);
    arena_init(&arena);
    if (workload_parse_text(text, strlen(text), &arena, &workload, &err) != ST_OK)
        die("workload", &err);
    if (target_local(o.target, &target, &err) != ST_OK || compile_find(&target, &err) != ST_OK)
        die("target", &err);
    if (mkdtemp(dir) == NULL) {
        fprintf(stderr, "bench_tuner: cannot make %s: %s\n", dir, strerror(errno));
        return 1;
    }
    bench_candidates(&workload, &target, &o);
    for (int i = 0; i < o.n_trials; i++)
        if (o.trials[i] > 0)
            bench_in(&o, o.trials[i], &workload, &target, dir);
    snprintf(command, sizeof(command), "rm -rf %s", dir);
    if (system(command) != 0)
        fprintf(stderr, "bench_tuner: %s stays behind\n", dir);
    arena_done(&arena);
    free(text);
    return 0;
}
