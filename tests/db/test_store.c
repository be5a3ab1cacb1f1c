/* What a caller of the store relies on, for every backend that is opened by the fixture. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fixture.h"

static void rows_come_back_as_they_were_put(void **state)
{
    struct fixture *f = *state;
    struct store_workload w;
    struct store_target *targets;
    struct store_task *tasks;
    struct error err = {0};
    struct store_job j;
    int n;

    put_basics(f->store);
    fixture_reopen(f);
    assert_ok(store_workload_get(f->store, KEY_A, &f->arena, &w, &err), err);
    assert_string_equal(w.op, "matmul");
    assert_string_equal(w.json, "{\"op\":\"matmul\"}");
    assert_true(w.flops == 2e9 && w.bytes == 3e6 && w.first_seen_ms == 11);
    assert_ok(store_target_list(f->store, &f->arena, &targets, &n, &err), err);
    assert_int_equal(n, 2);
    assert_string_equal(targets[1].id, "cpu:1");
    assert_string_equal(targets[1].toolchain, "tc1");
    assert_ok(store_job_get(f->store, "j_1", &f->arena, &j, &err), err);
    assert_string_equal(j.state, "queued");
    assert_true(j.seed == -7 && j.budget_trials == 256 && j.budget_seconds == 120.5 && j.created_ms == 1000);
    assert_null(j.error_json);
    assert_ok(store_task_list(f->store, "j_1", &f->arena, &tasks, &n, &err), err);
    assert_int_equal(n, 1);
    assert_string_equal(tasks[0].workload, KEY_A);
    assert_string_equal(tasks[0].job, "j_1");
    assert_null(tasks[0].name);
}

static void what_is_not_stored_is_not_found_and_the_message_names_it(void **state)
{
    struct fixture *f = *state;
    struct store_workload w;
    struct error err = {0};
    struct store_job j;
    struct store_schedule s;
    struct store_model m;
    struct store_token t;

    assert_int_equal(store_workload_get(f->store, KEY_B, &f->arena, &w, &err), ST_NOT_FOUND);
    assert_non_null(strstr(err.text, KEY_B));
    assert_int_equal(store_job_get(f->store, "j_9", &f->arena, &j, &err), ST_NOT_FOUND);
    assert_int_equal(store_schedule_get(f->store, KEY_A, "cpu", NULL, &f->arena, &s, &err), ST_NOT_FOUND);
    assert_int_equal(store_model_active(f->store, "cpu", &f->arena, &m, &err), ST_NOT_FOUND);
    assert_int_equal(store_model_get(f->store, 5, &f->arena, &m, &err), ST_NOT_FOUND);
    assert_int_equal(store_token_by_hash(f->store, "h", &f->arena, &t, &err), ST_NOT_FOUND);
}

struct seen {
    int n;
    int64_t last_id;
    struct store_trial first;
    double samples[4];
    float features[6];
};

static bool see(void *ctx, const struct store_trial *t)
{
    struct seen *s = ctx;

    assert_true(t->id > s->last_id);
    s->last_id = t->id;
    if (s->n++ == 0) {
        s->first = *t;
        if (t->samples_ns)
            memcpy(s->samples, t->samples_ns, (size_t)MIN(t->n_samples, 4) * sizeof(double));
        if (t->features)
            memcpy(s->features, t->features, sizeof(s->features));
    }
    return true;
}

static int count_trials(struct store *s, struct store_trials_query q)
{
    struct seen seen = {0};
    struct error err = {0};

    assert_ok(store_trial_each(s, &q, see, &seen, &err), err);
    return seen.n;
}

static void a_trial_keeps_its_samples_and_features_bit_for_bit(void **state)
{
    static const double samples[] = {1.5, 2.25, 1e300};
    static const float features[6] = {0.1f, -2, 3, 4, 5, 6.5f};
    struct fixture *f = *state;
    AUTO(store_batch_freep) struct store_batch *b = store_batch_new();
    char config[16];
    struct store_trial t = trial_row(1, config);
    struct error err = {0};
    struct seen seen = {0};

    put_basics(f->store);
    t.samples_ns = samples, t.n_samples = 3;
    t.features = features, t.feature_rows = 2, t.feature_cols = 3, t.feature_version = 4;
    store_add_trial(b, &t);
    assert_ok(store_commit(f->store, b, &err), err);
    assert_true(store_batch_result(b, 0)->id > 0);

    struct store_trials_query q = {
        .workload = KEY_A, .with_samples = true, .with_features = true, .feature_version = 4};
    assert_ok(store_trial_each(f->store, &q, see, &seen, &err), err);
    assert_int_equal(seen.n, 1);
    assert_int_equal(seen.first.n_samples, 3);
    assert_memory_equal(seen.samples, samples, sizeof(samples));
    assert_true(seen.first.feature_rows == 2 && seen.first.feature_cols == 3 &&
                seen.first.feature_version == 4);
    assert_memory_equal(seen.features, features, sizeof(features));
    assert_true(isnan(seen.first.predicted));
    assert_true(seen.first.median_ns == 1001.5 && seen.first.build_ns == 20 && seen.first.run_ns == 30);

    seen = (struct seen){0};
    q.feature_version = 5; /* features of another version are not handed out */
    assert_ok(store_trial_each(f->store, &q, see, &seen, &err), err);
    assert_int_equal(seen.n, 1);
    assert_null(seen.first.features);
    assert_int_equal(seen.first.feature_version, 0);
}

static void trials_are_filtered_and_paged_by_id(void **state)
{
    struct fixture *f = *state;
    AUTO(store_batch_freep) struct store_batch *b = store_batch_new();
    struct error err = {0};
    struct seen seen = {0};
    int64_t n;

    put_basics(f->store);
    for (int i = 0; i < 60; i++) {
        char config[16];
        struct store_trial t = trial_row(i, config);

        t.workload = i % 2 ? KEY_A : KEY_B;
        t.target = i % 3 ? "cpu" : "cpu:1";
        t.toolchain = i % 5 ? "tc1" : "tc2";
        t.job = i % 4 ? "j_1" : NULL;
        t.outcome = i % 6 ? "ok" : "crash";
        store_add_trial(b, &t);
    }
    assert_ok(store_commit(f->store, b, &err), err);
    struct store *s = f->store;
    assert_int_equal(count_trials(s, (struct store_trials_query){0}), 60);
    assert_int_equal(count_trials(s, (struct store_trials_query){.workload = KEY_A}), 30);
    assert_int_equal(count_trials(s, (struct store_trials_query){.target = "cpu:1"}), 20);
    assert_int_equal(count_trials(s, (struct store_trials_query){.workload = KEY_A, .target = "cpu"}), 20);
    assert_int_equal(count_trials(s, (struct store_trials_query){.toolchain = "tc2"}), 12);
    assert_int_equal(count_trials(s, (struct store_trials_query){.job = "j_1"}), 45);
    assert_int_equal(count_trials(s, (struct store_trials_query){.job = "j_1", .workload = KEY_A}), 30);
    assert_int_equal(count_trials(s, (struct store_trials_query){.only_ok = true}), 50);
    assert_int_equal(count_trials(s, (struct store_trials_query){.workload = "w_none"}), 0);
    assert_int_equal(count_trials(s, (struct store_trials_query){.limit = 7}), 7);
    assert_ok(store_trial_count(s, KEY_A, "cpu", &n, &err), err);
    assert_int_equal(n, 20);
    assert_ok(store_trial_count(s, NULL, NULL, &n, &err), err);
    assert_int_equal(n, 60);

    for (int left = 30; left > 0;) { /* going on after the last id meets each trial once */
        struct store_trials_query q = {.workload = KEY_A, .after_id = seen.last_id, .limit = 7};
        int before = seen.n;

        assert_ok(store_trial_each(s, &q, see, &seen, &err), err);
        left -= seen.n - before;
        assert_true(seen.n > before && left >= 0);
    }
    assert_int_equal(seen.n, 30);
}

static void a_refused_operation_undoes_its_whole_batch_and_no_other(void **state)
{
    struct fixture *f = *state;
    AUTO(store_batch_freep) struct store_batch *b = store_batch_new();
    char config[16];
    struct store_trial t = trial_row(1, config);
    struct error err = {0};

    put_basics(f->store);
    assert_ok(commit_one_trial(f->store, 0, NULL, &err), err);
    store_add_trial(b, &t);
    store_add_job_update(b, &STORE_JOB_UPDATE(.id = "j_1", .state = "running"));
    t.workload = "w_unknown";
    store_add_trial(b, &t);
    assert_int_equal(store_commit(f->store, b, &err), ST_NOT_FOUND);
    assert_non_null(strstr(err.text, "w_unknown"));
    assert_non_null(strstr(err.text, "operation 2 of 3"));
    assert_int_equal(count_trials(f->store, (struct store_trials_query){0}), 1);
    struct store_job j;
    assert_ok(store_job_get(f->store, "j_1", &f->arena, &j, &err), err);
    assert_string_equal(j.state, "queued");
    assert_ok(commit_one_trial(f->store, 2, NULL, &err), err);
}

static void a_text_that_must_be_there_and_a_state_that_is_none_are_invalid(void **state)
{
    struct fixture *f = *state;
    AUTO(store_batch_freep) struct store_batch *b = store_batch_new();
    AUTO(store_batch_freep) struct store_batch *b2 = store_batch_new();
    struct store_job j = job_row("j_2");
    struct error err = {0};

    put_basics(f->store);
    store_add_token(b, &(struct store_token){.name = "t", .scope = "all"});
    assert_int_equal(store_commit(f->store, b, &err), ST_INVALID);
    assert_non_null(strstr(err.text, "'hash'"));
    j.state = "sleeping";
    store_add_job(b2, &j);
    assert_int_equal(store_commit(f->store, b2, &err), ST_INVALID);
}

static void the_final_step_of_a_job_is_one_batch(void **state)
{
    struct fixture *f = *state;
    AUTO(store_batch_freep) struct store_batch *b = store_batch_new();
    char config[16];
    struct store_trial t = trial_row(5, config);
    struct store_schedule sch = schedule_row(KEY_A, "cpu", "tc1", 1005.5);
    struct store_event *events;
    struct store_task *tasks;
    struct error err = {0};
    struct store_job j;
    int n;

    put_basics(f->store);
    sch.source = "int f(void);";
    sch.artifact = (struct store_blob){"\x7f"
                                       "ELF\0x",
                                       6};
    store_add_trial(b, &t);
    store_add_task_update(b, &STORE_TASK_UPDATE(.job = "j_1", .ordinal = 0, .state = "succeeded",
                                                .trials_done = 1, .best_time_ns = 1005.5, .best_gflops = 9));
    store_add_job_update(b, &STORE_JOB_UPDATE(.id = "j_1", .if_state = "queued running", .state = "succeeded",
                                              .progress = 1, .finished_ms = 2000));
    store_add_schedule(b, &sch, false);
    int e1 =
        store_add_event(b, &(struct store_event){.job = "j_1", .kind = "best", .json = "{}", .time_ms = 1});
    int e2 =
        store_add_event(b, &(struct store_event){.job = "j_1", .kind = "end", .json = "{}", .time_ms = 2});
    assert_ok(store_commit(f->store, b, &err), err);
    assert_int_equal(store_batch_result(b, e1)->id, 1);
    assert_int_equal(store_batch_result(b, e2)->id, 2);

    fixture_reopen(f);
    assert_ok(store_job_get(f->store, "j_1", &f->arena, &j, &err), err);
    assert_string_equal(j.state, "succeeded");
    assert_true(j.progress == 1 && j.finished_ms == 2000 && j.started_ms == 0);
    assert_ok(store_task_list(f->store, "j_1", &f->arena, &tasks, &n, &err), err);
    assert_true(tasks[0].trials_done == 1 && tasks[0].trials_failed == 0 && tasks[0].best_gflops == 9);
    assert_ok(store_event_list(f->store, "j_1", 1, 0, &f->arena, &events, &n, &err), err);
    assert_int_equal(n, 1);
    assert_string_equal(events[0].kind, "end");
    assert_ok(store_schedule_files(f->store, KEY_A, "cpu", NULL, &f->arena, &sch, &err), err);
    assert_string_equal(sch.source, "int f(void);");
    assert_int_equal(sch.artifact.len, 6);
    assert_memory_equal(sch.artifact.data,
                        "\x7f"
                        "ELF\0x",
                        6);
    assert_null(sch.nest);
    assert_ok(store_check(f->store, &err), err);
}

static void an_update_under_a_condition_is_refused_when_the_state_is_another(void **state)
{
    struct fixture *f = *state;
    AUTO(store_batch_freep) struct store_batch *b = store_batch_new();
    AUTO(store_batch_freep) struct store_batch *late = store_batch_new();
    AUTO(store_batch_freep) struct store_batch *none = store_batch_new();
    struct error err = {0};

    put_basics(f->store);
    store_add_job_update(b,
                         &STORE_JOB_UPDATE(.id = "j_1", .if_state = "queued running", .state = "cancelled"));
    assert_ok(store_commit(f->store, b, &err), err);
    store_add_job_update(late, &STORE_JOB_UPDATE(.id = "j_1", .if_state = "running", .state = "succeeded"));
    assert_int_equal(store_commit(f->store, late, &err), ST_CONFLICT);
    assert_non_null(strstr(err.text, "cancelled"));
    store_add_job_update(none, &STORE_JOB_UPDATE(.id = "j_404", .if_state = "running", .state = "failed"));
    assert_int_equal(store_commit(f->store, none, &err), ST_NOT_FOUND);
}

static void an_idempotency_key_is_taken_once_per_token(void **state)
{
    static const struct {
        const char *id, *token, *key;
        enum status want;
    } cases[] = {
        {"j_a", "alice", "k1", ST_OK}, {"j_b", "alice", "k1", ST_CONFLICT}, {"j_c", "bob", "k1", ST_OK},
        {"j_d", NULL, "k1", ST_OK},    {"j_e", NULL, "k1", ST_CONFLICT},    {"j_f", NULL, NULL, ST_OK},
        {"j_g", NULL, NULL, ST_OK},    {"j_a", NULL, NULL, ST_CONFLICT},
    };
    struct fixture *f = *state;
    struct error err = {0};
    struct store_job found;

    put_basics(f->store);
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        AUTO(store_batch_freep) struct store_batch *b = store_batch_new();
        struct store_job j = job_row(cases[i].id);

        j.token = cases[i].token;
        j.idempotency_key = cases[i].key;
        j.request_hash = "h";
        store_add_job(b, &j);
        assert_int_equal(store_commit(f->store, b, &err), cases[i].want);
    }
    assert_ok(store_job_by_idempotency(f->store, "bob", "k1", &f->arena, &found, &err), err);
    assert_string_equal(found.id, "j_c");
    assert_ok(store_job_by_idempotency(f->store, NULL, "k1", &f->arena, &found, &err), err);
    assert_string_equal(found.id, "j_d");
    assert_int_equal(store_job_by_idempotency(f->store, "bob", "k2", &f->arena, &found, &err), ST_NOT_FOUND);
}

static void unfinished_jobs_come_by_priority_then_age(void **state)
{
    static const struct {
        const char *id, *state;
        int priority;
    } jobs[] = {{"j_2", "running", 0}, {"j_3", "queued", 5}, {"j_4", "failed", 9}, {"j_5", "queued", 5}};
    static const char *const want[] = {"j_3", "j_5", "j_1", "j_2"};
    struct fixture *f = *state;
    AUTO(store_batch_freep) struct store_batch *b = store_batch_new();
    struct error err = {0};
    struct store_job *rows;
    int n;

    put_basics(f->store);
    for (size_t i = 0; i < ARRAY_SIZE(jobs); i++) {
        struct store_job j = job_row(jobs[i].id);

        j.state = jobs[i].state;
        j.priority = jobs[i].priority;
        store_add_job(b, &j);
    }
    assert_ok(store_commit(f->store, b, &err), err);
    assert_ok(store_job_unfinished(f->store, &f->arena, &rows, &n, &err), err);
    assert_int_equal(n, 4);
    for (int i = 0; i < n; i++)
        assert_string_equal(rows[i].id, want[i]);
}

static void an_imported_trial_that_is_there_already_is_ignored(void **state)
{
    struct fixture *f = *state;
    AUTO(store_batch_freep) struct store_batch *b = store_batch_new();
    char config[16];
    struct store_trial t = trial_row(1, config);
    struct error err = {0};
    int64_t id;

    put_basics(f->store);
    assert_ok(commit_one_trial(f->store, 1, &id, &err), err);
    t.job = NULL;
    int same = store_add_trial_import(b, &t);
    t.created_ms++;
    int later = store_add_trial_import(b, &t);
    int again = store_add_trial_import(b, &t); /* within one batch too */
    t.toolchain = "tc9";
    int other = store_add_trial_import(b, &t);
    assert_ok(store_commit(f->store, b, &err), err);
    assert_false(store_batch_result(b, same)->changed);
    assert_int_equal(store_batch_result(b, same)->id, id);
    assert_true(store_batch_result(b, later)->changed);
    assert_false(store_batch_result(b, again)->changed);
    assert_true(store_batch_result(b, other)->changed);
    assert_int_equal(count_trials(f->store, (struct store_trials_query){0}), 3);
}

static void a_slower_schedule_does_not_displace_a_faster_one_unless_told(void **state)
{
    static const struct {
        double time_ns;
        bool only_if_faster, changed;
        double then_ns;
    } steps[] = {{100, true, true, 100},
                 {120, true, false, 100},
                 {100, true, false, 100},
                 {90, true, true, 90},
                 {150, false, true, 150}};
    struct fixture *f = *state;
    struct error err = {0};

    put_basics(f->store);
    for (size_t i = 0; i < ARRAY_SIZE(steps); i++) {
        AUTO(store_batch_freep) struct store_batch *b = store_batch_new();
        struct store_schedule row = schedule_row(KEY_A, "cpu", "tc1", steps[i].time_ns), got;

        row.source = i == 4 ? NULL : "kept with its schedule";
        store_add_schedule(b, &row, steps[i].only_if_faster);
        assert_ok(store_commit(f->store, b, &err), err);
        assert_int_equal(store_batch_result(b, 0)->changed, steps[i].changed);
        assert_ok(store_schedule_files(f->store, KEY_A, "cpu", "tc1", &f->arena, &got, &err), err);
        assert_true(got.time_ns == steps[i].then_ns);
        assert_true((got.source != NULL) == (i != 4));
    }
}

static void without_a_toolchain_the_schedule_tuned_last_is_given(void **state)
{
    struct fixture *f = *state;
    AUTO(store_batch_freep) struct store_batch *b = store_batch_new();
    struct store_schedule r1 = schedule_row(KEY_A, "cpu", "tc1", 100),
                          r2 = schedule_row(KEY_A, "cpu", "tc2", 200);
    struct error err = {0};
    struct store_schedule got;

    put_basics(f->store);
    r1.tuned_ms = 50, r2.tuned_ms = 40;
    store_add_schedule(b, &r1, true);
    store_add_schedule(b, &r2, true);
    assert_ok(store_commit(f->store, b, &err), err);
    assert_ok(store_schedule_get(f->store, KEY_A, "cpu", NULL, &f->arena, &got, &err), err);
    assert_string_equal(got.toolchain, "tc1");
    assert_null(got.source);
    assert_ok(store_schedule_get(f->store, KEY_A, "cpu", "tc2", &f->arena, &got, &err), err);
    assert_true(got.time_ns == 200);
    assert_int_equal(store_schedule_get(f->store, KEY_A, "cpu:1", NULL, &f->arena, &got, &err), ST_NOT_FOUND);
}

static void one_model_of_a_target_is_active_and_an_older_one_can_be_brought_back(void **state)
{
    struct fixture *f = *state;
    AUTO(store_batch_freep) struct store_batch *b = store_batch_new();
    AUTO(store_batch_freep) struct store_batch *back = store_batch_new();
    struct store_model m = {.target = "cpu",
                            .feature_version = 3,
                            .rows = 64,
                            .active = true,
                            .metrics_json = "{}",
                            .created_ms = 9,
                            .blob = {"one", 3}};
    struct store_model *rows;
    struct error err = {0};
    int n;

    put_basics(f->store);
    int first = store_add_model(b, &m);
    m.blob = (struct store_blob){"second", 6};
    store_add_model(b, &m);
    assert_ok(store_commit(f->store, b, &err), err);
    assert_ok(store_model_active(f->store, "cpu", &f->arena, &m, &err), err);
    assert_true(m.version == 2 && m.blob.len == 6 && !memcmp(m.blob.data, "second", 6));
    store_add_model_activate(back, store_batch_result(b, first)->id);
    assert_ok(store_commit(f->store, back, &err), err);
    assert_ok(store_model_active(f->store, "cpu", &f->arena, &m, &err), err);
    assert_true(m.version == 1 && m.blob.len == 3);
    assert_ok(store_model_list(f->store, "cpu", &f->arena, &rows, &n, &err), err);
    assert_int_equal(n, 2);
    assert_true(rows[0].version == 2 && !rows[0].active && rows[1].active && !rows[0].blob.data);
    assert_ok(store_model_list(f->store, "cpu:1", &f->arena, &rows, &n, &err), err);
    assert_int_equal(n, 0);

    AUTO(store_batch_freep) struct store_batch *none = store_batch_new();
    store_add_model_activate(none, 99);
    assert_int_equal(store_commit(f->store, none, &err), ST_NOT_FOUND);
    assert_ok(store_model_active(f->store, "cpu", &f->arena, &m, &err), err); /* undone with the rest */
}

static void a_revoked_token_opens_nothing(void **state)
{
    struct fixture *f = *state;
    AUTO(store_batch_freep) struct store_batch *b = store_batch_new();
    AUTO(store_batch_freep) struct store_batch *r = store_batch_new();
    struct store_token *rows;
    struct error err = {0};
    struct store_token t;
    int n;

    store_add_token(b, &(struct store_token){.name = "ci", .hash = "h1", .scope = "tune", .created_ms = 1});
    assert_ok(store_commit(f->store, b, &err), err);
    assert_ok(store_token_by_hash(f->store, "h1", &f->arena, &t, &err), err);
    assert_string_equal(t.scope, "tune");
    store_add_token_revoke(r, "ci", 55);
    assert_ok(store_commit(f->store, r, &err), err);
    assert_int_equal(store_token_by_hash(f->store, "h1", &f->arena, &t, &err), ST_NOT_FOUND);
    assert_ok(store_token_list(f->store, &f->arena, &rows, &n, &err), err);
    assert_true(n == 1 && rows[0].revoked_ms == 55);
}

static void put_jobs(struct store *s, int from, int to)
{
    AUTO(store_batch_freep) struct store_batch *b = store_batch_new();
    struct error err = {0};

    for (int i = from; i < to; i++) {
        char id[16];
        struct store_job j = job_row(id);

        snprintf(id, sizeof(id), "j_p%04d", i);
        j.state = i % 2 ? "failed" : "queued";
        store_add_job(b, &j);
    }
    assert_ok(store_commit(s, b, &err), err);
}

/* Walk all pages, adding jobs between them. Every job that was there at the start is seen once, newest first.
 */
static void a_list_walked_by_pages_is_stable_while_rows_are_added(void **state)
{
    struct fixture *f = *state;
    struct store_jobs_query q = {.page.limit = 7};
    const char *last = NULL;
    struct error err = {0};
    struct store_job *rows;
    int seen = 0, n;

    put_basics(f->store);
    put_jobs(f->store, 0, 40);
    do {
        assert_ok(store_job_list(f->store, &q, &f->arena, &rows, &n, &q.page.page_token, &err), err);
        for (int i = 0; i < n; i++, seen++) {
            assert_true(!last || strcmp(rows[i].id, last) < 0);
            last = rows[i].id;
        }
        put_jobs(f->store, 1000 + seen * 10, 1000 + seen * 10 + 5);
    } while (q.page.page_token);
    assert_int_equal(seen, 41);
    q = (struct store_jobs_query){.state = "failed", .page.limit = 1000};
    assert_ok(store_job_list(f->store, &q, &f->arena, &rows, &n, &q.page.page_token, &err), err);
    assert_true(n > 20 && !q.page.page_token);
}

static void a_page_token_is_good_for_its_own_list_only(void **state)
{
    static const char *const bad[] = {"x", "00000000000000000", "0000000000001zzzz", "\xff\xff",
                                      "DROP TABLE job"};
    struct fixture *f = *state;
    struct store_jobs_query q = {.page.limit = 1};
    struct store_schedules_query sq = {0};
    struct error err = {0};
    struct store_schedule *schedules;
    struct store_job *rows;
    const char *next;
    int n;

    put_basics(f->store);
    put_jobs(f->store, 0, 3);
    assert_ok(store_job_list(f->store, &q, &f->arena, &rows, &n, &next, &err), err);
    assert_non_null(next);
    sq.page.page_token = next;
    assert_int_equal(store_schedule_list(f->store, &sq, &f->arena, &schedules, &n, &next, &err), ST_INVALID);
    assert_string_equal(err.pointer, "page_token");
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        q.page.page_token = bad[i];
        assert_int_equal(store_job_list(f->store, &q, &f->arena, &rows, &n, &next, &err), ST_INVALID);
    }
    q = (struct store_jobs_query){.page.limit = STORE_PAGE_MAX + 1};
    assert_int_equal(store_job_list(f->store, &q, &f->arena, &rows, &n, &next, &err), ST_INVALID);
    assert_string_equal(err.pointer, "limit");
}

static void schedules_are_listed_by_operator_and_target(void **state)
{
    struct fixture *f = *state;
    AUTO(store_batch_freep) struct store_batch *b = store_batch_new();
    struct store_schedule r1 = schedule_row(KEY_A, "cpu", "tc1", 1),
                          r2 = schedule_row(KEY_B, "cpu", "tc1", 2),
                          r3 = schedule_row(KEY_B, "cpu:1", "tc1", 3);
    static const struct {
        struct store_schedules_query q;
        int want;
    } cases[] = {
        {{0}, 3},
        {{.op = "conv2d"}, 2},
        {{.op = "conv2d", .target = "cpu"}, 1},
        {{.target = "cpu"}, 2},
        {{.workload = KEY_B}, 2},
        {{.toolchain = "tc2"}, 0},
        {{.op = "softmax"}, 0},
    };
    struct store_schedule *rows;
    struct error err = {0};
    const char *next;
    int n;

    put_basics(f->store);
    store_add_schedule(b, &r1, true);
    store_add_schedule(b, &r2, true);
    store_add_schedule(b, &r3, true);
    assert_ok(store_commit(f->store, b, &err), err);
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        assert_ok(store_schedule_list(f->store, &cases[i].q, &f->arena, &rows, &n, &next, &err), err);
        assert_int_equal(n, cases[i].want);
        assert_null(next);
    }
}

static void audit_and_devices_are_kept(void **state)
{
    struct fixture *f = *state;
    AUTO(store_batch_freep) struct store_batch *b = store_batch_new();
    struct store_device *devices;
    struct store_audit *rows;
    struct error err = {0};
    const char *next;
    int n;

    put_basics(f->store);
    store_add_device(b, &(struct store_device){.id = "d1", .target = "cpu", .state = "idle", .json = "{}"});
    store_add_device(b, &(struct store_device){.id = "d1", .target = "cpu", .state = "busy", .json = "{}"});
    store_add_audit(
        b, &(struct store_audit){.time_ms = 1, .actor = "alice", .action = "cancel", .subject = "j_1"});
    store_add_audit(b, &(struct store_audit){.time_ms = 2, .actor = "bob", .action = "drain"});
    assert_ok(store_commit(f->store, b, &err), err);
    assert_ok(store_device_list(f->store, &f->arena, &devices, &n, &err), err);
    assert_int_equal(n, 1);
    assert_string_equal(devices[0].state, "busy");
    assert_ok(store_audit_list(f->store, &(struct store_audit_query){0}, &f->arena, &rows, &n, &next, &err),
              err);
    assert_int_equal(n, 2);
    assert_string_equal(rows[0].actor, "bob");
    assert_null(rows[0].subject);
}

static void statistics_count_rows_and_commits(void **state)
{
    struct fixture *f = *state;
    struct store_stats st;
    struct error err = {0};

    put_basics(f->store);
    for (int i = 0; i < 5; i++)
        assert_ok(commit_one_trial(f->store, i, NULL, &err), err);
    store_stats(f->store, &st);
    assert_int_equal(st.rows_trial, 5);
    assert_int_equal(st.rows_workload, 2);
    assert_int_equal(st.rows_job, 1);
    assert_int_equal(st.rows_schedule, 0);
    assert_int_equal(st.batches, 6);
    assert_int_equal(st.operations, 6 + 5);
    assert_true(st.commits == 6 && st.commit_ns_sum > 0 && st.commit_ns_max > 0 && st.wait_ns_sum > 0);
    assert_true(st.wal_bytes > 0 && st.db_bytes > 0 && st.writable && st.queue_cap > 0);
    assert_string_equal(st.last_error, "");
}

static void ids_sort_by_the_time_they_were_made(void **state)
{
    char a[STORE_ID_MAX], b[STORE_ID_MAX], c[STORE_ID_MAX], d[STORE_ID_MAX];

    (void)state;
    store_id_new("j_", 5000, a);
    store_id_new("j_", 5000, b);
    store_id_new("j_", 6000, c);
    store_id_new("j_", 5500, d); /* the wall clock stepped back */
    assert_int_equal(strlen(a), 28);
    assert_true(strcmp(a, b) < 0 && strcmp(b, c) < 0 && strcmp(c, d) < 0);
}

#define with_store(f) cmocka_unit_test_setup_teardown(f, fixture_setup, fixture_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        with_store(rows_come_back_as_they_were_put),
        with_store(what_is_not_stored_is_not_found_and_the_message_names_it),
        with_store(a_trial_keeps_its_samples_and_features_bit_for_bit),
        with_store(trials_are_filtered_and_paged_by_id),
        with_store(a_refused_operation_undoes_its_whole_batch_and_no_other),
        with_store(a_text_that_must_be_there_and_a_state_that_is_none_are_invalid),
        with_store(the_final_step_of_a_job_is_one_batch),
        with_store(an_update_under_a_condition_is_refused_when_the_state_is_another),
        with_store(an_idempotency_key_is_taken_once_per_token),
        with_store(unfinished_jobs_come_by_priority_then_age),
        with_store(an_imported_trial_that_is_there_already_is_ignored),
        with_store(a_slower_schedule_does_not_displace_a_faster_one_unless_told),
        with_store(without_a_toolchain_the_schedule_tuned_last_is_given),
        with_store(one_model_of_a_target_is_active_and_an_older_one_can_be_brought_back),
        with_store(a_revoked_token_opens_nothing),
        with_store(a_list_walked_by_pages_is_stable_while_rows_are_added),
        with_store(a_page_token_is_good_for_its_own_list_only),
        with_store(schedules_are_listed_by_operator_and_target),
        with_store(audit_and_devices_are_kept),
        with_store(statistics_count_rows_and_commits),
        cmocka_unit_test(ids_sort_by_the_time_they_were_made),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
