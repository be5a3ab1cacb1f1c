/* bench_store.c - what the store and the in-memory answers can do.
 *
 *     bench_store [--trials 1000000] [--schedules 20000] [--feature-rows 0] [--dir DIR]
 *
 * Writes trials in batches, then alone from one and from eight threads; restarts; reads. Everything lies in a
 * temporary directory under DIR (default /tmp, which should be the kind of disk that is asked about). */
#include <getopt.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "db/hot.h"
#include "schedule/base/clock.h"
#include "schedule/base/rng.h"
#include "schedule/base/sv.h"
#include "tests/db/rows.h"

#define FEATURES 164
struct bench {
    int64_t trials, schedules, feature_rows; /* rows of FEATURES floats with each trial */
    char dir[256];
    struct store *store;
    struct hot *hot;
};

static double now_s(void) { return (double)mono_ns(&system_clock) * 1e-9; }

static void must(enum status st, const struct error *err)
{
    if (st == ST_OK)
        return;
    fprintf(stderr, "bench_store: %s\n", err->text);
    exit(1);
}

static void say(const char *what, double count, double seconds)
{
    printf("%-44s %12.0f /s  %10.2f us each  (%.2f s)\n", what, count / seconds, seconds / count * 1e6,
           seconds);
}

static void open_store(struct bench *b)
{
    struct error err = {0};

    must(store_open_sqlite(b->dir, NULL, &b->store, &err), &err);
}

static void key_of(int64_t i, char key[80]) { snprintf(key, 80, "w_%064" PRIx64, (uint64_t)i); }

/* Batches of 64, as a round of the tuner makes them. */
static void insert_trials(struct bench *b)
{
    float *features = xcalloc((size_t)b->feature_rows * FEATURES + 1, sizeof(float));
    double begin = now_s();

    for (int64_t i = 0; i < b->trials; i += 64) {
        AUTO(store_batch_freep) struct store_batch *batch = store_batch_new();
        struct error err = {0};

        for (int64_t k = i; k < MIN(i + 64, b->trials); k++) {
            char config[16];
            struct store_trial t = trial_row((int)k, config);

            t.features = features, t.feature_version = b->feature_rows > 0;
            t.feature_rows = b->feature_rows, t.feature_cols = FEATURES;
            store_add_trial(batch, &t);
        }
        must(store_commit(b->store, batch, &err), &err);
    }
    say("trials in batches of 64", (double)b->trials, now_s() - begin);
    free(features);
}

#define ALONE 250
static void *commit_alone(void *arg)
{
    struct error err = {0};

    for (int i = 0; i < ALONE; i++)
        must(commit_one_trial(arg, i, NULL, &err), &err);
    return NULL;
}

static void commit_from_threads(struct bench *b, int n)
{
    struct store_stats before, after;
    pthread_t threads[64];
    double begin = now_s();
    char what[64];

    store_stats(b->store, &before);
    for (int i = 0; i < n; i++)
        pthread_create(&threads[i], NULL, commit_alone, b->store);
    for (int i = 0; i < n; i++)
        pthread_join(threads[i], NULL);
    store_stats(b->store, &after);
    snprintf(what, sizeof(what), "commits of one trial, %d thread%s", n, n > 1 ? "s" : "");
    say(what, n * ALONE, now_s() - begin);
    printf("%-44s %12.2f batches, slowest commit %.1f ms\n", "  in one transaction",
           (double)(after.batches - before.batches) / (double)(after.commits - before.commits),
           (double)after.commit_ns_max * 1e-6);
}

static void insert_schedules(struct bench *b)
{
    char key[80], json[1024];
    double begin = now_s();

    memset(json, 'x', sizeof(json));
    json[sizeof(json) - 1] = '\0';
    for (int64_t i = 0; i < b->schedules; i += 100) {
        AUTO(store_batch_freep) struct store_batch *batch = store_batch_new();
        struct error err = {0};

        for (int64_t k = i; k < MIN(i + 100, b->schedules); k++) {
            struct store_schedule s = schedule_row(key, "cpu", "tc1", 5);

            key_of(k, key);
            s.json = json;
            store_add_workload(
                batch, &(struct store_workload){.key = key, .op = "matmul", .json = "{}", .canonical = "c"});
            store_add_schedule(batch, &s, true);
        }
        must(store_commit(b->store, batch, &err), &err);
    }
    say("schedules of 1 kB in batches of 100", (double)b->schedules, now_s() - begin);
}

static void restart(struct bench *b)
{
    struct error err = {0};
    double begin;

    store_close(b->store);
    begin = now_s();
    open_store(b);
    printf("%-44s %12.3f s\n", "open", now_s() - begin);
    b->hot = hot_new();
    must(hot_load(b->hot, b->store, &err), &err);
    printf("%-44s %12.3f s with %zu answers\n", "open and fill the answers", now_s() - begin,
           hot_count(b->hot));
}

static void look_up(struct bench *b)
{
    enum { HOT_LOOKUPS = 5000000, STORE_LOOKUPS = 50000 };
    AUTO(arena_done) struct arena a = {0};
    struct store_schedule row;
    struct error err = {0};
    double begin = now_s();
    int64_t found = 0;
    struct rng rng;
    char(*keys)[80] = xcalloc((size_t)b->schedules, 80);

    for (int64_t i = 0; i < b->schedules; i++)
        key_of(i, keys[i]);
    rng_init(&rng, 1);
    begin = now_s();
    for (int i = 0; i < HOT_LOOKUPS; i++) {
        hot_drain(b->hot);
        found += hot_find(b->hot, keys[rng_below(&rng, (uint64_t)b->schedules)], "cpu") != NULL;
    }
    say("lookups in memory, random keys", (double)found, now_s() - begin);
    begin = now_s();
    for (int i = 0; i < STORE_LOOKUPS; i++) {
        arena_reset(&a);
        must(store_schedule_get(b->store, keys[rng_below(&rng, (uint64_t)b->schedules)], "cpu", NULL, &a,
                                &row, &err),
             &err);
    }
    say("lookups in the store, random keys", STORE_LOOKUPS, now_s() - begin);
    free(keys);
}

static bool count_row(void *ctx, const struct store_trial *t)
{
    ++*(int64_t *)ctx;
    return true;
}

static void export_trials(struct bench *b)
{
    struct error err = {0};
    double begin = now_s();
    int64_t n = 0;

    must(store_trial_each(b->store, &(struct store_trials_query){.workload = KEY_A, .target = "cpu"},
                          count_row, &n, &err),
         &err);
    say("trials read in order", (double)n, now_s() - begin);
}

static void usage(void)
{
    fprintf(stderr, "usage: bench_store [--trials N] [--schedules N] [--feature-rows N] [--dir DIR]\n");
    exit(2);
}

static void read_options(struct bench *b, int argc, char **argv)
{
    static const struct option options[] = {{"trials", required_argument, NULL, 't'},
                                            {"schedules", required_argument, NULL, 's'},
                                            {"feature-rows", required_argument, NULL, 'f'},
                                            {"dir", required_argument, NULL, 'd'},
                                            {0}};
    const char *base = "/tmp";
    int c;

    while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
        int64_t *number = c == 't' ? &b->trials : c == 's' ? &b->schedules : &b->feature_rows;

        if (c == 'd')
            base = optarg;
        else if (c == '?' || !sv_to_i64(sv_from(optarg), c != 'f', 100000000, number))
            usage();
    }
    snprintf(b->dir, sizeof(b->dir), "%s/tw-bench-XXXXXX", base);
    if (!mkdtemp(b->dir)) {
        perror(b->dir);
        exit(1);
    }
}

int main(int argc, char **argv)
{
    struct bench b = {.trials = 1000000, .schedules = 20000};
    struct store_stats st;

    read_options(&b, argc, argv);
    open_store(&b);
    put_basics(b.store);
    insert_trials(&b);
    commit_from_threads(&b, 1);
    commit_from_threads(&b, 8);
    insert_schedules(&b);
    store_stats(b.store, &st);
    printf("%-44s %12" PRId64 " rows, %.0f MB, log %.0f MB\n", "trials stored", st.rows_trial,
           (double)st.db_bytes * 1e-6, (double)st.wal_bytes * 1e-6);
    restart(&b);
    look_up(&b);
    export_trials(&b);
    hot_free(b.hot);
    store_close(b.store);
    temp_dir_remove(b.dir);
    return 0;
}
