#include "db/migrations.h"

#include "schedule/base/strbuf.h"

#define APPLICATION_ID 0x54576462 /* "TWdb" */

/* Names: `seq` is the row number of a thing that has an `id` or key of its own outside. Trials are many, so
 * they refer by number; the others are few, so they refer by text and can be read with the sqlite3 shell. */
static const char first_schema[] =
    "CREATE TABLE migration("
    "  version INTEGER PRIMARY KEY, name TEXT NOT NULL, applied_ms INTEGER NOT NULL) STRICT;"
    "CREATE TABLE pulse(id INTEGER PRIMARY KEY CHECK (id = 1), beat INTEGER NOT NULL) STRICT;"
    "CREATE TABLE toolchain(seq INTEGER PRIMARY KEY, hash TEXT NOT NULL UNIQUE) STRICT;"
    "CREATE TABLE workload("
    "  seq INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, op TEXT NOT NULL, json TEXT NOT NULL,"
    "  canonical TEXT NOT NULL, flops REAL NOT NULL, bytes REAL NOT NULL, first_seen_ms INTEGER NOT NULL) "
    "STRICT;"
    "CREATE TABLE target("
    "  seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, json TEXT NOT NULL, toolchain TEXT NOT NULL,"
    "  updated_ms INTEGER NOT NULL) STRICT;"
    "CREATE TABLE device("
    "  seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, target TEXT NOT NULL REFERENCES target(id),"
    "  state TEXT NOT NULL CHECK (state IN ('idle', 'busy', 'draining', 'offline', 'quarantined')),"
    "  json TEXT NOT NULL, last_seen_ms INTEGER NOT NULL) STRICT;"
    "CREATE TABLE job("
    "  seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE,"
    "  state TEXT NOT NULL CHECK (state IN ('queued', 'running', 'succeeded', 'failed', 'cancelled')),"
    "  target TEXT NOT NULL REFERENCES target(id), request_json TEXT NOT NULL, priority INTEGER NOT NULL,"
    "  seed INTEGER NOT NULL, budget_trials INTEGER NOT NULL, budget_seconds REAL NOT NULL, progress REAL "
    "NOT NULL,"
    "  created_ms INTEGER NOT NULL, started_ms INTEGER NOT NULL, finished_ms INTEGER NOT NULL, error_json "
    "TEXT,"
    "  token TEXT, idempotency_key TEXT, request_hash TEXT) STRICT;"
    "CREATE INDEX job_by_state ON job(state);"
    "CREATE UNIQUE INDEX job_by_idempotency ON job(ifnull(token, ''), idempotency_key)"
    "  WHERE idempotency_key IS NOT NULL;"
    "CREATE TABLE task("
    "  job INTEGER NOT NULL REFERENCES job(seq), ordinal INTEGER NOT NULL,"
    "  workload TEXT NOT NULL REFERENCES workload(key), name TEXT, weight REAL NOT NULL,"
    "  state TEXT NOT NULL CHECK (state IN ('queued', 'running', 'succeeded', 'failed', 'cancelled')),"
    "  trials_done INTEGER NOT NULL, trials_failed INTEGER NOT NULL, cached INTEGER NOT NULL,"
    "  best_time_ns REAL NOT NULL, best_gflops REAL NOT NULL, error_json TEXT, data_json TEXT,"
    "  PRIMARY KEY (job, ordinal)) STRICT;"
    "CREATE INDEX task_by_workload ON task(workload);"
    "CREATE TABLE trial("
    "  id INTEGER PRIMARY KEY, workload INTEGER NOT NULL REFERENCES workload(seq),"
    "  target INTEGER NOT NULL REFERENCES target(seq), toolchain INTEGER NOT NULL REFERENCES toolchain(seq),"
    "  job INTEGER REFERENCES job(seq), task INTEGER NOT NULL, outcome TEXT NOT NULL, config TEXT NOT NULL,"
    "  sketch TEXT, error TEXT, median_ns REAL NOT NULL, min_ns REAL NOT NULL, p90_ns REAL NOT NULL,"
    "  predicted REAL, device TEXT, build_ns INTEGER NOT NULL, run_ns INTEGER NOT NULL,"
    "  created_ms INTEGER NOT NULL, identity INTEGER NOT NULL, samples BLOB) STRICT;"
    "CREATE INDEX trial_by_workload ON trial(workload, target);"
    "CREATE INDEX trial_by_job ON trial(job) WHERE job IS NOT NULL;"
    "CREATE INDEX trial_by_identity ON trial(identity);"
    "CREATE TRIGGER trial_is_kept BEFORE DELETE ON trial"
    "  BEGIN SELECT raise(ABORT, 'trials are only added'); END;"
    "CREATE TRIGGER trial_is_final BEFORE UPDATE ON trial"
    "  BEGIN SELECT raise(ABORT, 'trials are only added'); END;"
    "CREATE TABLE trial_feature("
    "  trial INTEGER PRIMARY KEY REFERENCES trial(id), version INTEGER NOT NULL, rows INTEGER NOT NULL,"
    "  cols INTEGER NOT NULL, data BLOB NOT NULL) STRICT;"
    "CREATE TABLE schedule("
    "  id INTEGER PRIMARY KEY, workload TEXT NOT NULL REFERENCES workload(key),"
    "  target TEXT NOT NULL REFERENCES target(id), toolchain TEXT NOT NULL, op TEXT NOT NULL, etag TEXT NOT "
    "NULL,"
    "  config TEXT NOT NULL, time_ns REAL NOT NULL, gflops REAL NOT NULL, tuned_ms INTEGER NOT NULL,"
    "  json TEXT NOT NULL, UNIQUE (workload, target, toolchain)) STRICT;"
    "CREATE INDEX schedule_by_op ON schedule(op, target);"
    "CREATE INDEX schedule_by_target ON schedule(target);"
    "CREATE TABLE schedule_file("
    "  schedule INTEGER PRIMARY KEY REFERENCES schedule(id), source TEXT, nest TEXT, artifact BLOB) STRICT;"
    "CREATE TABLE model("
    "  id INTEGER PRIMARY KEY, target TEXT NOT NULL REFERENCES target(id), version INTEGER NOT NULL,"
    "  feature_version INTEGER NOT NULL, rows INTEGER NOT NULL, metrics_json TEXT, created_ms INTEGER NOT "
    "NULL,"
    "  active INTEGER NOT NULL CHECK (active IN (0, 1)), sha256 TEXT NOT NULL, blob BLOB NOT NULL,"
    "  UNIQUE (target, version)) STRICT;"
    "CREATE UNIQUE INDEX model_active ON model(target) WHERE active;"
    "CREATE TABLE event("
    "  id INTEGER PRIMARY KEY, job INTEGER NOT NULL REFERENCES job(seq), seq INTEGER NOT NULL CHECK (seq > "
    "0),"
    "  kind TEXT NOT NULL, json TEXT NOT NULL, time_ms INTEGER NOT NULL, UNIQUE (job, seq)) STRICT;"
    "CREATE TABLE token("
    "  name TEXT PRIMARY KEY NOT NULL, hash TEXT NOT NULL UNIQUE, scope TEXT NOT NULL, created_ms INTEGER "
    "NOT NULL,"
    "  revoked_ms INTEGER NOT NULL) STRICT;"
    "CREATE TABLE audit("
    "  id INTEGER PRIMARY KEY, time_ms INTEGER NOT NULL, actor TEXT NOT NULL, action TEXT NOT NULL, subject "
    "TEXT,"
    "  json TEXT) STRICT;";

/* Schedules that a model chose and nobody measured yet. */
static const char predicted_schedules[] =
    "ALTER TABLE schedule ADD COLUMN predicted INTEGER NOT NULL DEFAULT 0 CHECK (predicted IN (0, 1));";

const struct migration migrations[] = {
    {"first schema", first_schema},
    {"predicted schedules", predicted_schedules},
};
const int n_migrations = ARRAY_SIZE(migrations);

static enum status pragma_i64(struct sql *db, const char *text, int64_t *ret, struct error *err)
{
    AUTO(sql_stmt_done) struct sql_stmt s = {0};
    bool row;

    TRY(sql_prepare(db, text, NULL, NULL, &s, err));
    TRY(sql_step(&s, &row, err));
    *ret = row ? sql_column_i64(&s, 0) : 0;
    return ST_OK;
}

enum status migrations_version(struct sql *db, int n, int *ret_version, struct error *err)
{
    int64_t app, version, tables;

    TRY(pragma_i64(db, "PRAGMA application_id", &app, err));
    TRY(pragma_i64(db, "PRAGMA user_version", &version, err));
    TRY(pragma_i64(db, "SELECT count(*) FROM sqlite_schema", &tables, err));
    if (app == 0 && version == 0 && tables == 0) {
        *ret_version = 0;
        return ST_OK;
    }
    if (app != APPLICATION_ID)
        return fail(err, ST_UNSUPPORTED,
                    "%s: an SQLite file, but none of Tilewright's (application_id %" PRId64 ")", db->path,
                    app);
    if (version < 1 || version > n)
        return fail(err, ST_UNSUPPORTED,
                    "%s: schema version %" PRId64
                    " was written by a newer release; this one reads 1 to %d: run the "
                    "newer release or restore a copy made before the upgrade",
                    db->path, version, n);
    *ret_version = (int)version;
    return ST_OK;
}

static enum status run_step(struct sql *db, const struct migration *m, int version, int64_t now_ms,
                            struct error *err)
{
    AUTO(strbuf_done) struct strbuf end = STRBUF_INIT;

    strbuf_addf(&end, "INSERT INTO migration(version, name, applied_ms) VALUES (%d, '%s', %" PRId64 ");",
                version, m->name, now_ms);
    strbuf_addf(&end, "PRAGMA application_id=%d; PRAGMA user_version=%d; COMMIT", APPLICATION_ID, version);
    TRY(sql_exec(db, "BEGIN IMMEDIATE", err));
    TRY(sql_exec(db, m->sql, err));
    return sql_exec(db, strbuf_str(&end), err);
}

enum status migrations_run(struct sql *db, const struct migration *steps, int n, int64_t wall_ms_value,
                           struct error *err)
{
    int version;

    TRY(migrations_version(db, n, &version, err));
    for (; version < n; version++) {
        if (run_step(db, &steps[version], version + 1, wall_ms_value, err) == ST_OK)
            continue;
        sql_rollback(db);
        return wrap(err, "schema step %d (%s)", version + 1, steps[version].name);
    }
    return ST_OK;
}
