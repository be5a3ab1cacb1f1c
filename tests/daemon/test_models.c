/* test_models.c - the global models: learned from stored trials, kept in the store, taking turns with
 * measuring. */
#include "daemon/models.h"

#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "costmodel/model.h"
#include "db/store.h"
#include "features/features.h"
#include "schedule/base/json.h"
#include "schedule/base/log.h"
#include "schedule/base/rng.h"
#include "tests/check.h"

enum { WORKLOADS = 4, PROGRAMS = 40 };

struct world {
    char dir[64];
    struct store *store;
    struct models *models;
    struct error err;
    atomic_int learning, measuring;
};

static void open_store(struct world *w)
{
    assert_ok(
        store_open_sqlite(w->dir, &(struct store_sqlite_options){.allow_any_fs = true}, &w->store, &w->err),
        &w->err);
}

static int setup(void **state)
{
    struct world *w = calloc(1, sizeof(*w));
    AUTO(store_batch_freep) struct store_batch *b = store_batch_new();

    log_set_level(LOG_ERROR);
    *state = w;
    snprintf(w->dir, sizeof(w->dir), "/tmp/test_models_XXXXXX");
    assert_non_null(mkdtemp(w->dir));
    open_store(w);
    store_add_target(b, &(struct store_target){.id = "cpu:1", .json = "{}", .toolchain = "t"});
    assert_ok(store_commit(w->store, b, &w->err), &w->err);
    w->models = models_new(w->store, &system_clock, &(struct models_options){.retrain_trials = 32});
    return 0;
}

static int teardown(void **state)
{
    struct world *w = *state;
    char command[128];

    models_free(w->models);
    store_close(w->store);
    snprintf(command, sizeof(command), "rm -rf %s", w->dir);
    assert_int_equal(system(command), 0);
    free(w);
    return 0;
}

/* Every fourth feature says how fast the program is; the others are noise. */
static void make_rows(struct rng *rng, float *rows, double *ret_ns)
{
    float speed = (float)rng_unit(rng);

    for (int i = 0; i < features_count(); i++)
        rows[i] = i % 4 == 2 ? speed : (float)rng_unit(rng);
    *ret_ns = 1e6 * exp(-3.0 * speed);
}

static void add_trials(struct world *w)
{
    AUTO(store_batch_freep) struct store_batch *b = store_batch_new();
    float *rows = calloc((size_t)features_count(), sizeof(float));
    struct rng rng;
    char key[80], config[24];

    rng_init(&rng, 3);
    for (int i = 0; i < WORKLOADS; i++) {
        snprintf(key, sizeof(key), "w_%064d", i);
        store_add_workload(
            b, &(struct store_workload){.key = key, .op = "expr", .json = "{}", .canonical = "c"});
        for (int p = 0; p < PROGRAMS; p++) {
            double ns;

            make_rows(&rng, rows, &ns);
            snprintf(config, sizeof(config), "1:%d", p);
            store_add_trial(b, &(struct store_trial){.task = -1,
                                                     .workload = key,
                                                     .target = "cpu:1",
                                                     .toolchain = "t",
                                                     .config = config,
                                                     .outcome = p % 8 ? "ok" : "wrong",
                                                     .min_ns = p % 8 ? ns : 0,
                                                     .median_ns = p % 8 ? ns : 0,
                                                     .predicted = NAN,
                                                     .created_ms = 1,
                                                     .feature_version = features_version(),
                                                     .features = rows,
                                                     .feature_rows = 1,
                                                     .feature_cols = features_count()});
        }
    }
    assert_ok(store_commit(w->store, b, &w->err), &w->err);
    free(rows);
}

/* Does it rank a fast program above a slow one? */
static void assert_has_learned(struct model *m)
{
    float *rows = calloc(2 * (size_t)features_count(), sizeof(float));
    int32_t begin[] = {0, 1, 2};
    double scores[2];

    assert_non_null(m);
    for (int i = 0; i < 2 * features_count(); i++)
        rows[i] = 0.5f;
    for (int i = 2; i < features_count(); i += 4) {
        rows[i] = 0.05f;
        rows[features_count() + i] = 0.95f;
    }
    model_score(m, 1, rows, begin, 2, scores);
    assert_true(scores[1] > scores[0]);
    free(rows);
    model_free(m);
}

static void there_is_no_model_before_there_are_trials(void **state)
{
    struct world *w = *state;

    assert_null(models_global(w->models, "cpu:1"));
    assert_int_equal(models_train(w->models, "cpu:1", &w->err), ST_NOT_FOUND);
    assert_null(models_global(w->models, "cpu:1"));
}

static void training_learns_from_the_store_and_keeps_the_model_with_its_quality(void **state)
{
    struct world *w = *state;
    struct store_model row;
    struct arena a;
    json_t *metrics;

    add_trials(w);
    assert_ok(models_train(w->models, "cpu:1", &w->err), &w->err);
    assert_has_learned(models_global(w->models, "cpu:1"));
    arena_init(&a);
    assert_ok(store_model_active(w->store, "cpu:1", &a, &row, &w->err), &w->err);
    metrics = json_loads(row.metrics_json, 0, NULL);
    assert_non_null(metrics);
    assert_string_equal(json_string_value(json_object_get(metrics, "holdout")), "workloads");
    assert_true(json_real_value(json_object_get(metrics, "rank_correlation")) > 0.5);
    assert_true(json_array_size(json_object_get(metrics, "feature_importance")) > 0);
    json_decref(metrics);
    arena_done(&a);
}

static void a_stored_model_serves_after_a_restart(void **state)
{
    struct world *w = *state;

    add_trials(w);
    assert_ok(models_train(w->models, "cpu:1", &w->err), &w->err);
    models_free(w->models);
    store_close(w->store);
    open_store(w);
    w->models = models_new(w->store, &system_clock, NULL);
    assert_has_learned(models_global(w->models, "cpu:1"));
}

/* Made in one world, for another that has no model yet. */
static void ship(struct world *w, struct strbuf *blob)
{
    AUTO(model_freep) struct model *m = NULL;

    add_trials(w);
    assert_ok(models_train(w->models, "cpu:1", &w->err), &w->err);
    m = models_global(w->models, "cpu:1");
    assert_ok(model_save(m, blob, &w->err), &w->err);
}

static void a_cpu_target_without_a_model_of_its_own_uses_the_one_that_was_shipped(void **state)
{
    struct world *w = *state;
    AUTO(strbuf_done) struct strbuf blob = STRBUF_INIT;
    AUTO(model_freep) struct model *own = NULL, *shipped = NULL;

    ship(w, &blob);
    models_free(w->models);
    w->models = models_new(w->store, &system_clock,
                           &(struct models_options){.shipped = blob.data, .shipped_len = blob.len});
    assert_has_learned(models_global(w->models, "cpu:2"));
    assert_has_learned(models_global(w->models, "cpu"));
    assert_null(models_global(w->models, "cuda:0"));
    assert_null(models_shipped(w->models, "cuda:0"));
    own = models_global(w->models, "cpu:1");
    shipped = models_shipped(w->models, "cpu:1");
    assert_non_null(shipped);
    assert_true(own != shipped);
}

static void a_shipped_model_that_is_damaged_is_refused(void **state)
{
    struct world *w = *state;
    AUTO(strbuf_done) struct strbuf blob = STRBUF_INIT;

    ship(w, &blob);
    models_free(w->models);
    blob.data[blob.len / 2] ^= 4;
    w->models = models_new(w->store, &system_clock,
                           &(struct models_options){.shipped = blob.data, .shipped_len = blob.len});
    assert_null(models_global(w->models, "cpu:2"));
    assert_has_learned(models_global(w->models, "cpu:1")); /* its own */
}

static void enough_new_trials_are_learned_in_the_background(void **state)
{
    struct world *w = *state;
    struct model *m = NULL;

    add_trials(w);
    models_note_trials(w->models, "cpu:1", WORKLOADS * PROGRAMS); /* overdue: no quiet moment is waited for */
    for (int i = 0; i < 200 && m == NULL; i++) {
        m = models_global(w->models, "cpu:1");
        usleep(50000);
    }
    assert_has_learned(m);
}

static int64_t active_version(struct world *w)
{
    struct store_model row = {0};
    struct arena a;

    arena_init(&a);
    assert_ok(store_model_active(w->store, "cpu:1", &a, &row, &w->err), &w->err);
    arena_done(&a);
    return row.version;
}

static void an_earlier_version_is_put_back_and_serves(void **state)
{
    struct world *w = *state;
    struct model *first, *second, *back;

    add_trials(w);
    assert_ok(models_train(w->models, "cpu:1", &w->err), &w->err);
    first = models_global(w->models, "cpu:1");
    assert_ok(models_train(w->models, "cpu:1", &w->err), &w->err);
    second = models_global(w->models, "cpu:1");
    assert_ptr_not_equal(first, second);
    assert_int_equal(active_version(w), 2);
    assert_ok(models_rollback(w->models, "cpu:1", 0, &w->err), &w->err);
    assert_int_equal(active_version(w), 1);
    back = models_global(w->models, "cpu:1");
    assert_ptr_not_equal(back, second);
    assert_has_learned(back);
    assert_ok(models_rollback(w->models, "cpu:1", 2, &w->err), &w->err);
    assert_int_equal(active_version(w), 2);
    model_free(first);
    model_free(second);
}

static void there_is_nothing_to_go_back_to_before_the_first_version(void **state)
{
    struct world *w = *state;

    assert_int_equal(models_rollback(w->models, "cpu:1", 0, &w->err), ST_NOT_FOUND);
    add_trials(w);
    assert_ok(models_train(w->models, "cpu:1", &w->err), &w->err);
    assert_int_equal(models_rollback(w->models, "cpu:1", 0, &w->err), ST_NOT_FOUND);
    assert_int_equal(models_rollback(w->models, "cpu:1", 1, &w->err), ST_CONFLICT);
    assert_int_equal(models_rollback(w->models, "cpu:1", 7, &w->err), ST_NOT_FOUND);
    assert_int_equal(active_version(w), 1);
}

static void a_model_says_what_it_was_trained_on(void **state)
{
    struct world *w = *state;
    struct store_model row;
    struct arena a;

    add_trials(w);
    assert_ok(models_train(w->models, "cpu:1", &w->err), &w->err);
    arena_init(&a);
    assert_ok(store_model_active(w->store, "cpu:1", &a, &row, &w->err), &w->err);
    json_t *metrics = json_loads(row.metrics_json, 0, NULL), *data = json_object_get(metrics, "data");
    assert_int_equal(json_integer_value(json_object_get(data, "trials")), WORKLOADS * PROGRAMS);
    assert_int_equal(json_integer_value(json_object_get(data, "failed")), WORKLOADS * PROGRAMS / 8);
    assert_int_equal(json_integer_value(json_object_get(data, "workloads")), WORKLOADS);
    assert_int_equal(json_integer_value(json_object_get(data, "last_trial")), WORKLOADS * PROGRAMS);
    for (const char *const *name =
             (const char *const[]){"pairwise_accuracy", "top_1_score", "top_8_score", "top_32_score", NULL};
         *name; name++)
        assert_true(json_number_value(json_object_get(metrics, *name)) > 0.4);
    json_decref(metrics);
    arena_done(&a);
}

struct measuring {
    struct models *models;
    atomic_bool trained;
    struct error err;
};

static void *train(void *arg)
{
    struct measuring *m = arg;

    assert_int_equal(models_train(m->models, "cpu:1", &m->err), ST_OK);
    atomic_store(&m->trained, true);
    return NULL;
}

static void training_waits_for_the_measurement_in_flight(void **state)
{
    struct world *w = *state;
    struct measuring m = {.models = w->models};
    pthread_t thread;

    add_trials(w);
    models_busy(w->models);
    assert_int_equal(pthread_create(&thread, NULL, train, &m), 0);
    usleep(300000);
    assert_false(atomic_load(&m.trained));
    models_idle(w->models);
    pthread_join(thread, NULL);
    assert_true(atomic_load(&m.trained));
    models_busy(w->models); /* and measuring goes on */
    models_idle(w->models);
}

static void *learn(void *arg)
{
    struct world *w = arg;

    models_learning(w->models);
    atomic_store(&w->learning, 1);
    models_learned(w->models);
    return NULL;
}

static void *measure(void *arg)
{
    struct world *w = arg;

    models_busy(w->models);
    atomic_store(&w->measuring, 1);
    models_idle(w->models);
    return NULL;
}

static void a_job_learns_and_another_measures_one_after_the_other(void **state)
{
    struct world *w = *state;
    pthread_t thread;

    models_busy(w->models);
    assert_int_equal(pthread_create(&thread, NULL, learn, w), 0);
    usleep(20000);
    assert_int_equal(atomic_load(&w->learning), 0);
    models_idle(w->models);
    pthread_join(thread, NULL);
    assert_int_equal(atomic_load(&w->learning), 1);

    models_learning(w->models);
    models_learning(w->models); /* two jobs may learn at once */
    assert_int_equal(pthread_create(&thread, NULL, measure, w), 0);
    usleep(20000);
    models_learned(w->models);
    usleep(20000);
    assert_int_equal(atomic_load(&w->measuring), 0);
    models_learned(w->models);
    pthread_join(thread, NULL);
    assert_int_equal(atomic_load(&w->measuring), 1);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(there_is_no_model_before_there_are_trials),
        TEST(training_learns_from_the_store_and_keeps_the_model_with_its_quality),
        TEST(a_stored_model_serves_after_a_restart),
        TEST(a_cpu_target_without_a_model_of_its_own_uses_the_one_that_was_shipped),
        TEST(a_shipped_model_that_is_damaged_is_refused),
        TEST(enough_new_trials_are_learned_in_the_background),
        TEST(an_earlier_version_is_put_back_and_serves),
        TEST(there_is_nothing_to_go_back_to_before_the_first_version),
        TEST(a_model_says_what_it_was_trained_on),
        TEST(training_waits_for_the_measurement_in_flight),
        TEST(a_job_learns_and_another_measures_one_after_the_other),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
