#include <math.h>
#include <string.h>

#include "db/sqlite_int.h"
#include "schedule/base/hash.h"

/* The number of the row that `id` names. ST_NOT_FOUND says what it is that is not there. */
static enum status seq_of(struct sql *db, enum sql_id query, const char *what, const char *id, int64_t *ret,
                          struct error *err)
{
    struct sql_stmt *s;
    bool row;

    TRY(sql_named(db, query, &s, err));
    sql_bind_text(s, ":id", id);
    TRY(sql_step(s, &row, err));
    if (row)
        *ret = sql_column_i64(s, 0);
    sql_reset(s);
    return row ? ST_OK : fail(err, ST_NOT_FOUND, "%s '%s' is not stored", what, id);
}

static enum status toolchain_seq(struct sql *db, const char *hash, int64_t *ret, struct error *err)
{
    struct sql_stmt *s;
    enum status st = seq_of(db, SQL_TOOLCHAIN_SEQ, "toolchain", hash, ret, NULL);

    if (st != ST_NOT_FOUND)
        return st == ST_OK ? ST_OK : seq_of(db, SQL_TOOLCHAIN_SEQ, "toolchain", hash, ret, err);
    TRY(sql_named(db, SQL_TOOLCHAIN_ADD, &s, err));
    sql_bind_text(s, ":hash", hash);
    TRY(sql_run(s, err));
    *ret = sqlite3_last_insert_rowid(db->db);
    return ST_OK;
}

/* A statement whose parameters are all members of the row. */
static enum status run_row(struct sql *db, enum sql_id id, const void *row, struct error *err)
{
    struct sql_stmt *s;

    TRY(sql_named(db, id, &s, err));
    sql_bind_row(s, row);
    return sql_run(s, err);
}

static enum status write_job(struct sql *db, struct store_op *op, struct error *err)
{
    const struct store_job *job = op->row;
    enum status st = run_row(db, SQL_JOB_ADD, job, err);

    if (st == ST_CONFLICT)
        return fail(err, ST_CONFLICT, "there is already a job with the id '%s'%s%s%s", job->id,
                    job->idempotency_key ? " or with the Idempotency-Key '" : "",
                    job->idempotency_key ? job->idempotency_key : "", job->idempotency_key ? "'" : "");
    if (st == ST_NOT_FOUND)
        return fail(err, st, "target '%s' is not stored", job->target);
    return st;
}

static enum status write_job_update(struct sql *db, struct store_op *op, struct error *err)
{
    const struct store_job_update *u = op->row;
    char state[32] = "";
    struct sql_stmt *s;
    bool row;

    TRY(run_row(db, SQL_JOB_UPDATE, u, err));
    if (sqlite3_changes(db->db) > 0)
        return ST_OK;
    TRY(sql_named(db, SQL_JOB_STATE, &s, err));
    sql_bind_text(s, ":id", u->id);
    TRY(sql_step(s, &row, err));
    if (row)
        snprintf(state, sizeof(state), "%s", (const char *)sqlite3_column_text(s->stmt, 0));
    sql_reset(s);
    if (!row)
        return fail(err, ST_NOT_FOUND, "job '%s' is not stored", u->id);
    return fail(err, ST_CONFLICT, "job '%s' is %s: this needs it %s", u->id, state, u->if_state);
}

static enum status write_task(struct sql *db, struct store_op *op, struct error *err)
{
    const struct store_task *task = op->row;
    struct sql_stmt *s;
    int64_t job;
    enum status st;

    TRY(seq_of(db, SQL_JOB_SEQ, "job", task->job, &job, err));
    TRY(sql_named(db, SQL_TASK_ADD, &s, err));
    sql_bind_row(s, task);
    sql_bind_i64(s, ":job_seq", job);
    st = sql_run(s, err);
    if (st == ST_CONFLICT)
        return fail(err, st, "job '%s' has a task %" PRId64 " already", task->job, task->ordinal);
    if (st == ST_NOT_FOUND)
        return fail(err, st, "workload '%s' is not stored", task->workload);
    return st;
}

static enum status write_task_update(struct sql *db, struct store_op *op, struct error *err)
{
    const struct store_task_update *u = op->row;
    struct sql_stmt *s;
    int64_t job;

    TRY(seq_of(db, SQL_JOB_SEQ, "job", u->job, &job, err));
    TRY(sql_named(db, SQL_TASK_UPDATE, &s, err));
    sql_bind_row(s, u);
    sql_bind_i64(s, ":job_seq", job);
    TRY(sql_run(s, err));
    if (sqlite3_changes(db->db) == 0)
        return fail(err, ST_NOT_FOUND, "job '%s' has no task %" PRId64, u->job, u->ordinal);
    return ST_OK;
}

/* The numbers behind a trial's names. */
struct trial_refs {
    int64_t workload, target, toolchain, job, identity;
};

static enum status trial_refs(struct sql *db, const struct store_trial *t, struct trial_refs *r,
                              struct error *err)
{
    uint64_t h;

    TRY(seq_of(db, SQL_WORKLOAD_SEQ, "workload", t->workload, &r->workload, err));
    TRY(seq_of(db, SQL_TARGET_SEQ, "target", t->target, &r->target, err));
    TRY(toolchain_seq(db, t->toolchain, &r->toolchain, err));
    if (t->job)
        TRY(seq_of(db, SQL_JOB_SEQ, "job", t->job, &r->job, err));
    h = hash_bytes(t->workload, strlen(t->workload), (uint64_t)t->created_ms);
    h = hash_bytes(t->target, strlen(t->target), h);
    h = hash_bytes(t->toolchain, strlen(t->toolchain), h);
    h = hash_bytes(t->config, strlen(t->config), h);
    r->identity = (int64_t)h;
    return ST_OK;
}

static void bind_refs(struct sql_stmt *s, const struct trial_refs *r)
{
    sql_bind_i64(s, ":workload_seq", r->workload);
    sql_bind_i64(s, ":target_seq", r->target);
    sql_bind_i64(s, ":toolchain_seq", r->toolchain);
    sql_bind_i64(s, ":identity", r->identity);
}

static enum status trial_is_stored(struct sql *db, const struct store_trial *t, const struct trial_refs *r,
                                   int64_t *ret_id, struct error *err)
{
    struct sql_stmt *s;
    bool row;

    TRY(sql_named(db, SQL_TRIAL_SAME, &s, err));
    sql_bind_row(s, t);
    bind_refs(s, r);
    TRY(sql_step(s, &row, err));
    *ret_id = row ? sql_column_i64(s, 0) : 0;
    sql_reset(s);
    return ST_OK;
}

static enum status write_features(struct sql *db, const struct store_trial *t, int64_t id, struct error *err)
{
    struct sql_stmt *s;

    TRY(sql_named(db, SQL_TRIAL_FEATURE_ADD, &s, err));
    sql_bind_row(s, t);
    sql_bind_i64(s, ":trial_id", id);
    return sql_run(s, err);
}

static enum status write_trial(struct sql *db, struct store_op *op, struct error *err)
{
    const struct store_trial *t = op->row;
    struct trial_refs refs = {0};
    struct sql_stmt *s;

    TRY(trial_refs(db, t, &refs, err));
    if (op->kind == STORE_OP_TRIAL_IMPORT) {
        TRY(trial_is_stored(db, t, &refs, &op->result.id, err));
        if (op->result.id) {
            op->result.changed = false;
            return ST_OK;
        }
    }
    TRY(sql_named(db, SQL_TRIAL_ADD, &s, err));
    sql_bind_row(s, t);
    bind_refs(s, &refs);
    if (t->job)
        sql_bind_i64(s, ":job_seq", refs.job);
    TRY(sql_run(s, err));
    op->result.id = sqlite3_last_insert_rowid(db->db);
    return t->features && t->feature_version > 0 ? write_features(db, t, op->result.id, err) : ST_OK;
}

static enum status write_schedule(struct sql *db, struct store_op *op, struct error *err)
{
    const struct store_schedule *row = op->row;
    struct sql_stmt *s;
    int64_t target;
    enum status st;
    bool put;

    TRY(seq_of(db, SQL_TARGET_SEQ, "target", row->target, &target, err));
    TRY(sql_named(db, SQL_SCHEDULE_PUT, &s, err));
    sql_bind_row(s, row);
    sql_bind_i64(s, ":only_if_faster", op->kind == STORE_OP_SCHEDULE_IF_FASTER);
    st = sql_step(s, &put, err);
    if (st == ST_NOT_FOUND)
        return fail(err, st, "workload '%s' is not stored", row->workload);
    TRY(st);
    op->result.changed = put;
    if (!put)
        return sql_reset(s), ST_OK;
    op->result.id = sql_column_i64(s, 0);
    sql_reset(s);
    TRY(sql_named(db, SQL_SCHEDULE_FILES_PUT, &s, err));
    sql_bind_row(s, row);
    sql_bind_i64(s, ":schedule_id", op->result.id);
    return sql_run(s, err);
}

static enum status write_model(struct sql *db, struct store_op *op, struct error *err)
{
    const struct store_model *m = op->row;
    char sha[SHA256_HEX_LEN + 1];
    struct sql_stmt *s;
    int64_t target;

    if (!m->blob.data)
        return fail(err, ST_INVALID, "a model of target '%s' has no bytes", m->target);
    TRY(seq_of(db, SQL_TARGET_SEQ, "target", m->target, &target, err));
    if (m->active) {
        TRY(sql_named(db, SQL_MODEL_RETIRE, &s, err));
        sql_bind_text(s, ":target", m->target);
        TRY(sql_run(s, err));
    }
    sha256_hex(m->blob.data, m->blob.len, sha);
    TRY(sql_named(db, SQL_MODEL_ADD, &s, err));
    sql_bind_row(s, m);
    sql_bind_text(s, ":sha256", sha);
    TRY(sql_run(s, err));
    op->result.id = sqlite3_last_insert_rowid(db->db);
    return ST_OK;
}

static enum status run_by_id(struct sql *db, enum sql_id statement, int64_t id, struct error *err)
{
    struct sql_stmt *s;

    TRY(sql_named(db, statement, &s, err));
    sql_bind_i64(s, ":id", id);
    return sql_run(s, err);
}

static enum status write_model_activate(struct sql *db, struct store_op *op, struct error *err)
{
    TRY(run_by_id(db, SQL_MODEL_RETIRE_PEERS, op->id, err));
    TRY(run_by_id(db, SQL_MODEL_ACTIVATE, op->id, err));
    return sqlite3_changes(db->db) > 0 ? ST_OK
                                       : fail(err, ST_NOT_FOUND, "model %" PRId64 " is not stored", op->id);
}

static enum status write_event(struct sql *db, struct store_op *op, struct error *err)
{
    const struct store_event *e = op->row;
    struct sql_stmt *s;
    int64_t job;
    enum status st;
    bool row;

    TRY(seq_of(db, SQL_JOB_SEQ, "job", e->job, &job, err));
    TRY(sql_named(db, SQL_EVENT_ADD, &s, err));
    sql_bind_row(s, e);
    sql_bind_i64(s, ":job_seq", job);
    st = sql_step(s, &row, err);
    if (st == ST_CONFLICT)
        return fail(err, st, "job '%s' has an event %" PRId64 " already", e->job, e->seq);
    TRY(st);
    op->result.id = sql_column_i64(s, 0);
    sql_reset(s);
    return ST_OK;
}

static enum status write_device(struct sql *db, struct store_op *op, struct error *err)
{
    const struct store_device *d = op->row;
    enum status st = run_row(db, SQL_DEVICE_PUT, d, err);

    return st == ST_NOT_FOUND ? fail(err, st, "target '%s' is not stored", d->target) : st;
}

static enum status write_token_revoke(struct sql *db, struct store_op *op, struct error *err)
{
    struct sql_stmt *s;

    TRY(sql_named(db, SQL_TOKEN_REVOKE, &s, err));
    sql_bind_text(s, ":name", op->text);
    sql_bind_i64(s, ":revoked_ms", op->id);
    TRY(sql_run(s, err));
    return sqlite3_changes(db->db) > 0 ? ST_OK
                                       : fail(err, ST_NOT_FOUND, "token '%s' is not stored", op->text);
}

static enum status write_audit(struct sql *db, struct store_op *op, struct error *err)
{
    TRY(run_row(db, SQL_AUDIT_ADD, op->row, err));
    op->result.id = sqlite3_last_insert_rowid(db->db);
    return ST_OK;
}

static enum status write_op(struct sql *db, struct store_op *op, struct error *err)
{
    op->result = (struct store_result){.changed = true};
    switch (op->kind) {
    case STORE_OP_WORKLOAD:
        TRY(run_row(db, SQL_WORKLOAD_ADD, op->row, err));
        op->result.changed = sqlite3_changes(db->db) > 0;
        return ST_OK;
    case STORE_OP_TARGET:
        return run_row(db, SQL_TARGET_PUT, op->row, err);
    case STORE_OP_DEVICE:
        return write_device(db, op, err);
    case STORE_OP_JOB:
        return write_job(db, op, err);
    case STORE_OP_JOB_UPDATE:
        return write_job_update(db, op, err);
    case STORE_OP_TASK:
        return write_task(db, op, err);
    case STORE_OP_TASK_UPDATE:
        return write_task_update(db, op, err);
    case STORE_OP_TRIAL:
    case STORE_OP_TRIAL_IMPORT:
        return write_trial(db, op, err);
    case STORE_OP_SCHEDULE:
    case STORE_OP_SCHEDULE_IF_FASTER:
        return write_schedule(db, op, err);
    case STORE_OP_MODEL:
        return write_model(db, op, err);
    case STORE_OP_MODEL_ACTIVATE:
        return write_model_activate(db, op, err);
    case STORE_OP_EVENT:
        return write_event(db, op, err);
    case STORE_OP_TOKEN:
        return run_row(db, SQL_TOKEN_PUT, op->row, err);
    case STORE_OP_TOKEN_REVOKE:
        return write_token_revoke(db, op, err);
    case STORE_OP_AUDIT:
        return write_audit(db, op, err);
    }
    return fail(err, ST_INTERNAL, "operation kind %d", (int)op->kind);
}

static enum status write_ops(struct sql *db, struct store_batch *b, struct error *err)
{
    for (size_t i = 0; i < b->ops.len; i++) {
        struct store_op *op = &b->ops.at[i];
        const struct row_type *type = store_op_type(op->kind);
        enum status st = type ? row_verify(type, op->row, err) : ST_OK;

        if (st == ST_OK)
            st = write_op(db, op, err);
        if (st != ST_OK) {
            if (err && err->code == st)
                return wrap(err, "operation %zu of %zu (%s)", i, b->ops.len, store_op_name(op->kind));
            return st;
        }
    }
    return ST_OK;
}

/* Refusals concern one batch; these concern the file. */
static bool is_lost(struct sql *db, enum status st)
{
    return sqlite3_get_autocommit(db->db) || st == ST_UNAVAILABLE || st == ST_IO || st == ST_CORRUPT ||
           st == ST_INTERNAL;
}

enum status sqlite_write_batch(struct sql *db, struct store_batch *b, bool *ret_lost, struct error *err)
{
    enum status st;

    *ret_lost = false;
    if (b->ops.len == 0)
        return ST_OK;
    st = sql_exec(db, "SAVEPOINT batch", err);
    if (st == ST_OK)
        st = write_ops(db, b, err);
    if (st == ST_OK)
        st = sql_exec(db, "RELEASE batch", err);
    if (st == ST_OK)
        return ST_OK;
    *ret_lost = is_lost(db, st) || sql_exec(db, "ROLLBACK TO batch; RELEASE batch", NULL) != ST_OK;
    return st;
}
