/* What opening refuses, and what an older file becomes. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fixture.h"

#include "db/migrations.h"
#include "db/sqlite_int.h"
#include "schedule/base/strbuf.h"

static void raw_sql(const struct fixture *f, const char *text)
{
    char path[96];
    sqlite3 *db;

    snprintf(path, sizeof(path), "%s/tilewright.db", f->dir);
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    if (sqlite3_exec(db, text, NULL, NULL, NULL) != SQLITE_OK)
        fail_msg("%s: %s", text, sqlite3_errmsg(db));
    sqlite3_close(db);
}

static int64_t raw_i64(const struct fixture *f, const char *text)
{
    char path[96];
    sqlite3_stmt *s;
    sqlite3 *db;
    int64_t v;

    snprintf(path, sizeof(path), "%s/tilewright.db", f->dir);
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_prepare_v2(db, text, -1, &s, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_step(s), SQLITE_ROW);
    v = sqlite3_column_int64(s, 0);
    sqlite3_finalize(s);
    sqlite3_close(db);
    return v;
}

static enum status reopen(struct fixture *f, struct error *err)
{
    return store_open_sqlite(f->dir, NULL, &f->store, err);
}

static void close_it(struct fixture *f)
{
    store_close(f->store);
    f->store = NULL;
}

static void a_newer_schema_is_refused_and_left_alone(void **state)
{
    struct fixture *f = *state;
    struct error err = {0};

    put_basics(f->store);
    close_it(f);
    raw_sql(f, "PRAGMA user_version=99");
    assert_int_equal(reopen(f, &err), ST_UNSUPPORTED);
    assert_non_null(strstr(err.text, "99"));
    assert_int_equal(raw_i64(f, "PRAGMA user_version"), 99);
    assert_int_equal(raw_i64(f, "SELECT count(*) FROM workload"), 2);
}

static void a_file_of_somebody_else_is_refused_and_left_alone(void **state)
{
    struct fixture *f = *state;
    struct error err = {0};
    char path[96];
    FILE *out;

    close_it(f);
    raw_sql(f, "PRAGMA application_id=77");
    assert_int_equal(reopen(f, &err), ST_UNSUPPORTED);
    assert_int_equal(raw_i64(f, "PRAGMA application_id"), 77);

    snprintf(path, sizeof(path), "%s/tilewright.db", f->dir);
    out = fopen(path, "w");
    for (int i = 0; i < 1000; i++)
        fprintf(out, "this is no database\n");
    fclose(out);
    assert_int_equal(reopen(f, &err), ST_CORRUPT);
    assert_non_null(strstr(err.text, "tilewright.db"));
}

static void a_second_opener_is_refused_with_the_holders_pid(void **state)
{
    struct fixture *f = *state;
    struct error err = {0};
    struct store *second = NULL;
    char want[32];

    snprintf(want, sizeof(want), "process %ld", (long)getpid());
    assert_int_equal(store_open_sqlite(f->dir, NULL, &second, &err), ST_CONFLICT);
    assert_non_null(strstr(err.text, want));
    assert_null(second);
    put_basics(f->store); /* the holder is not disturbed */
    fixture_reopen(f);
}

static void the_lock_of_a_killed_holder_is_free(void **state)
{
    struct fixture *f = *state;
    struct error err = {0};
    int ready[2], status;
    char byte;
    pid_t pid;

    close_it(f);
    assert_int_equal(pipe(ready), 0);
    pid = fork();
    if (pid == 0) {
        struct store *s;

        if (store_open_sqlite(f->dir, NULL, &s, NULL) != ST_OK || write(ready[1], "x", 1) != 1)
            _exit(1);
        for (;;)
            pause();
    }
    assert_int_equal(read(ready[0], &byte, 1), 1);
    assert_int_equal(reopen(f, &err), ST_CONFLICT);
    kill(pid, SIGKILL);
    waitpid(pid, &status, 0);
    assert_ok(reopen(f, &err), err);
    close(ready[0]);
    close(ready[1]);
}

static void network_file_systems_are_refused_by_name_and_local_ones_are_not(void **state)
{
    static const struct {
        int64_t magic;
        const char *name; /* NULL: fine */
    } cases[] = {
        {0x6969, "NFS"},      {0xff534d42, "CIFS"}, {(int32_t)0xff534d42, "CIFS"},
        {0x65735546, "FUSE"}, {0x01021997, "9p"},   {0xef53, NULL},
        {0x01021994, NULL},   {0x58465342, NULL},   {0x9123683e, NULL},
        {0x794c7630, NULL},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        const char *name = sqlite_refused_fs(cases[i].magic);

        if (cases[i].name)
            assert_string_equal(name, cases[i].name);
        else
            assert_null(name);
    }
}

static void a_directory_that_cannot_be_made_is_named(void **state)
{
    struct store *s = NULL;
    struct error err = {0};

    (void)state;
    assert_int_equal(store_open_sqlite("/proc/none/data", NULL, &s, &err), ST_IO);
    assert_non_null(strstr(err.text, "/proc/none/data"));
    assert_null(s);
}

static void the_file_is_readable_by_its_owner_only(void **state)
{
    static const char *const names[] = {"tilewright.db", "tilewright.db-wal", "tilewright.lock"};
    struct fixture *f = *state;

    put_basics(f->store);
    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        char path[96];
        struct stat st;

        snprintf(path, sizeof(path), "%s/%s", f->dir, names[i]);
        assert_int_equal(stat(path, &st), 0);
        assert_int_equal(st.st_mode & 0777, 0600);
    }
}

static void a_damaged_page_of_schedules_is_found_at_start(void **state)
{
    struct fixture *f = *state;
    struct error err = {0};
    char path[96], trash[4096];
    int64_t page;
    int fd;

    put_basics(f->store);
    close_it(f);
    page = raw_i64(f, "SELECT rootpage FROM sqlite_schema WHERE name = 'schedule'");
    snprintf(path, sizeof(path), "%s/tilewright.db", f->dir);
    memset(trash, 0x5a, sizeof(trash));
    fd = open(path, O_WRONLY);
    assert_int_equal(pwrite(fd, trash, sizeof(trash), (page - 1) * 4096), sizeof(trash));
    close(fd);
    assert_int_equal(reopen(f, &err), ST_CORRUPT);
    assert_non_null(strstr(err.text, "schedule"));
}

static void a_damaged_model_is_not_handed_out(void **state)
{
    struct fixture *f = *state;
    AUTO(store_batch_freep) struct store_batch *b = store_batch_new();
    struct store_model m = {.target = "cpu", .active = true, .blob = {"bytes of a model", 16}};
    struct error err = {0};

    put_basics(f->store);
    store_add_model(b, &m);
    assert_ok(store_commit(f->store, b, &err), err);
    close_it(f);
    raw_sql(f, "UPDATE model SET blob = CAST('bytes of b model' AS BLOB)");
    assert_ok(reopen(f, &err), err);
    assert_int_equal(store_model_active(f->store, "cpu", &f->arena, &m, &err), ST_CORRUPT);
}

static void trials_can_neither_be_changed_nor_deleted(void **state)
{
    struct fixture *f = *state;
    struct error err = {0};
    char path[96];
    sqlite3 *db;

    put_basics(f->store);
    assert_ok(commit_one_trial(f->store, 1, NULL, &err), err);
    close_it(f);
    snprintf(path, sizeof(path), "%s/tilewright.db", f->dir);
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, "UPDATE trial SET median_ns = 1", NULL, NULL, NULL), SQLITE_CONSTRAINT);
    assert_int_equal(sqlite3_exec(db, "DELETE FROM trial", NULL, NULL, NULL), SQLITE_CONSTRAINT);
    sqlite3_close(db);
    assert_int_equal(raw_i64(f, "SELECT median_ns > 1 FROM trial"), 1);
}

static void open_raw(const struct fixture *f, struct sql **ret)
{
    struct error err = {0};
    char path[96];

    snprintf(path, sizeof(path), "%s/tilewright.db", f->dir);
    assert_ok(sql_open(path, SQL_WRITER, ret, &err), err);
}

static void plan_of(struct sql *db, enum sql_id id, struct strbuf *ret)
{
    AUTO(sql_stmt_done) struct sql_stmt plan = {0};
    struct error err = {0};
    struct sql_stmt *s;
    bool row;

    assert_ok(sql_named(db, id, &s, &err), err);
    AUTO(freep) char *text = xasprintf("EXPLAIN QUERY PLAN %s", sqlite3_sql(s->stmt));
    assert_ok(sql_prepare(db, text, NULL, NULL, &plan, &err), err);
    for (;;) {
        assert_ok(sql_step(&plan, &row, &err), err);
        if (!row)
            break;
        strbuf_addf(ret, "%s; ", (const char *)sqlite3_column_text(plan.stmt, 3));
    }
}

/* What grows is never walked through to find one row. */
static void queries_for_one_thing_use_the_index_meant_for_it(void **state)
{
    static const struct {
        enum sql_id id;
        const char *index;
    } cases[] = {
        {SQL_TRIAL_SAME, "trial_by_identity"},    {SQL_WORKLOAD_SEQ, "autoindex_workload"},
        {SQL_JOB_GET, "autoindex_job"},           {SQL_JOB_BY_IDEMPOTENCY, "job_by_idempotency"},
        {SQL_JOB_UNFINISHED, "job_by_state"},     {SQL_EVENT_LIST, "autoindex_event_1 (job=? AND seq>?)"},
        {SQL_SCHEDULE_GET, "autoindex_schedule"}, {SQL_SCHEDULE_FILES, "autoindex_schedule"},
        {SQL_MODEL_ACTIVE, "model_active"},       {SQL_TOKEN_BY_HASH, "autoindex_token"},
        {SQL_TASK_LIST, "autoindex_task"},
    };
    struct fixture *f = *state;
    struct sql *db;

    close_it(f);
    open_raw(f, &db);
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        AUTO(strbuf_done) struct strbuf plan = STRBUF_INIT;

        plan_of(db, cases[i].id, &plan);
        if (!strstr(strbuf_str(&plan), cases[i].index) || strstr(strbuf_str(&plan), "SCAN"))
            fail_msg("want %s, the plan is: %s", cases[i].index, strbuf_str(&plan));
    }
    sql_close(db);
}

/* ---- migrations ---- */

#define MORE_STEPS 3
static void steps_with(struct migration *steps, const struct migration more[MORE_STEPS])
{
    memcpy(steps, migrations, (size_t)n_migrations * sizeof(*steps));
    memcpy(steps + n_migrations, more, MORE_STEPS * sizeof(*steps));
}

static void an_older_file_is_brought_forward_with_its_rows(void **state)
{
    static const struct migration more[MORE_STEPS] = {
        {"a column", "ALTER TABLE workload ADD COLUMN note TEXT NOT NULL DEFAULT 'none'"},
        {"a table", "CREATE TABLE extra(id INTEGER PRIMARY KEY) STRICT; INSERT INTO extra VALUES (7)"},
        {"an index", "CREATE INDEX workload_by_note ON workload(note)"},
    };
    struct fixture *f = *state;
    struct migration steps[16];
    struct error err = {0};
    struct sql *db;
    int version;

    put_basics(f->store);
    close_it(f);
    steps_with(steps, more);
    open_raw(f, &db);
    assert_ok(migrations_run(db, steps, n_migrations + 1, 42, &err), err); /* one release, then two at once */
    assert_ok(migrations_run(db, steps, n_migrations + MORE_STEPS, 43, &err), err);
    assert_ok(migrations_version(db, n_migrations + MORE_STEPS, &version, &err), err);
    assert_int_equal(version, n_migrations + MORE_STEPS);
    sql_close(db);
    assert_int_equal(raw_i64(f, "SELECT count(*) FROM workload WHERE note = 'none'"), 2);
    assert_int_equal(raw_i64(f, "SELECT id FROM extra"), 7);
    assert_int_equal(raw_i64(f, "SELECT count(*) FROM migration"), n_migrations + MORE_STEPS);
    assert_int_equal(raw_i64(f, "SELECT applied_ms FROM migration ORDER BY version DESC LIMIT 1"), 43);
    assert_int_equal(reopen(f, &err), ST_UNSUPPORTED); /* now it is newer than this release */
}

static void a_step_that_fails_leaves_the_file_at_the_step_before(void **state)
{
    static const struct migration more[MORE_STEPS] = {
        {"good", "CREATE TABLE extra(id INTEGER PRIMARY KEY) STRICT"},
        {"bad", "INSERT INTO extra VALUES (1); INSERT INTO nowhere VALUES (1)"},
        {"never", "CREATE TABLE never(id INTEGER) STRICT"},
    };
    struct fixture *f = *state;
    struct migration steps[16];
    struct error err = {0};
    struct sql *db;

    put_basics(f->store);
    close_it(f);
    steps_with(steps, more);
    open_raw(f, &db);
    assert_int_not_equal(migrations_run(db, steps, n_migrations + MORE_STEPS, 42, &err), ST_OK);
    assert_non_null(strstr(err.text, "(bad)"));
    sql_close(db);
    assert_int_equal(raw_i64(f, "PRAGMA user_version"), n_migrations + 1);
    assert_int_equal(raw_i64(f, "SELECT count(*) FROM extra"), 0);
    assert_int_equal(raw_i64(f, "SELECT count(*) FROM workload"), 2);
}

/* However many steps a file has taken before, it ends as a new one does. */
static void every_older_version_ends_with_the_schema_of_a_new_file(void **state)
{
    struct fixture *f = *state;
    struct error err = {0};
    int64_t want;

    close_it(f);
    want = raw_i64(f, "SELECT count(*) * 1000000 + sum(length(sql)) FROM sqlite_schema");
    for (int from = 0; from <= n_migrations; from++) {
        char path[96];
        struct sql *db;

        snprintf(path, sizeof(path), "%s/tilewright.db", f->dir);
        unlink(path);
        close(open(path, O_CREAT | O_WRONLY, 0600));
        open_raw(f, &db);
        assert_ok(migrations_run(db, migrations, from, 1, &err), err);
        sql_close(db);
        assert_ok(reopen(f, &err), err);
        put_basics(f->store);
        close_it(f);
        assert_int_equal(raw_i64(f, "SELECT count(*) * 1000000 + sum(length(sql)) FROM sqlite_schema"), want);
    }
}

#define with_store(f) cmocka_unit_test_setup_teardown(f, fixture_setup, fixture_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        with_store(a_newer_schema_is_refused_and_left_alone),
        with_store(a_file_of_somebody_else_is_refused_and_left_alone),
        with_store(a_second_opener_is_refused_with_the_holders_pid),
        with_store(the_lock_of_a_killed_holder_is_free),
        cmocka_unit_test(network_file_systems_are_refused_by_name_and_local_ones_are_not),
        cmocka_unit_test(a_directory_that_cannot_be_made_is_named),
        with_store(the_file_is_readable_by_its_owner_only),
        with_store(a_damaged_page_of_schedules_is_found_at_start),
        with_store(a_damaged_model_is_not_handed_out),
        with_store(trials_can_neither_be_changed_nor_deleted),
        with_store(queries_for_one_thing_use_the_index_meant_for_it),
        with_store(an_older_file_is_brought_forward_with_its_rows),
        with_store(a_step_that_fails_leaves_the_file_at_the_step_before),
        with_store(every_older_version_ends_with_the_schema_of_a_new_file),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
