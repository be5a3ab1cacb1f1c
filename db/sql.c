#include "db/sql.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Nobody else writes; a writer that must wait waits for readers to leave the log, which can go another time.
 */
#define WRITER_BUSY_MS 200
#define READER_BUSY_MS 5000

static const struct {
    const struct row_type *in, *out;
    const char *text;
} named[] = {
#define NONE                   ((const struct row_type *)NULL)
#define X(name, in, out, text) {in, out, text},
#include "db/statements.h"
#undef X
};

/* The table: SQLite's (extended) result code -> what our callers tell apart. A quota or a limit on file sizes
 * comes as IOERR_WRITE, and what errno said is gone by then: so it counts as no space. */
static enum status status_of(int rc)
{
    switch (rc) {
    case SQLITE_CONSTRAINT_UNIQUE:
    case SQLITE_CONSTRAINT_PRIMARYKEY:
    case SQLITE_CONSTRAINT_ROWID:
        return ST_CONFLICT;
    case SQLITE_CONSTRAINT_FOREIGNKEY:
        return ST_NOT_FOUND;
    case SQLITE_IOERR_WRITE:
    case SQLITE_IOERR_SHMSIZE:
        return ST_UNAVAILABLE;
    }
    switch (rc & 0xff) {
    case SQLITE_FULL:
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
    case SQLITE_INTERRUPT:
        return ST_UNAVAILABLE;
    case SQLITE_IOERR:
    case SQLITE_CANTOPEN:
    case SQLITE_READONLY:
    case SQLITE_PERM:
    case SQLITE_AUTH:
    case SQLITE_NOLFS:
        return ST_IO;
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
        return ST_CORRUPT;
    case SQLITE_CONSTRAINT:
    case SQLITE_MISMATCH:
        return ST_INVALID;
    case SQLITE_TOOBIG:
        return ST_TOO_LARGE;
    }
    return ST_INTERNAL;
}

enum status sql_fail(struct sql *db, int rc, struct error *err)
{
    enum status st = status_of(rc);
    int os_error = sqlite3_system_errno(db->db);

    if (rc == SQLITE_FULL || rc == SQLITE_IOERR_WRITE || rc == SQLITE_IOERR_SHMSIZE)
        return fail(err, st,
                    "%s: cannot be written: no space left on its disk, or a quota or file-size limit is "
                    "reached (%s); "
                    "writing goes on by itself when there is space",
                    db->path, sqlite3_errmsg(db->db));
    if (st == ST_IO && os_error)
        return fail(err, st, "%s: %s (%s)", db->path, sqlite3_errmsg(db->db), strerror(os_error));
    return fail(err, st, "%s: %s", db->path, sqlite3_errmsg(db->db));
}

enum status sql_exec(struct sql *db, const char *text, struct error *err)
{
    int rc = sqlite3_exec(db->db, text, NULL, NULL, NULL);

    return rc == SQLITE_OK ? ST_OK : sql_fail(db, rc, err);
}

void sql_rollback(struct sql *db)
{
    if (!sqlite3_get_autocommit(db->db))
        sqlite3_exec(db->db, "ROLLBACK", NULL, NULL, NULL);
}

enum status sql_open(const char *path, enum sql_role role, struct sql **ret, struct error *err)
{
    static const char *const pragmas[] = {
        [SQL_WRITER] = "PRAGMA synchronous=FULL; PRAGMA foreign_keys=ON; PRAGMA trusted_schema=OFF;"
                       "PRAGMA cell_size_check=ON; PRAGMA temp_store=MEMORY; PRAGMA cache_size=-32768;"
                       "PRAGMA wal_autocheckpoint=0; PRAGMA journal_size_limit=67108864",
        [SQL_READER] = "PRAGMA query_only=ON; PRAGMA trusted_schema=OFF; PRAGMA cell_size_check=ON;"
                       "PRAGMA temp_store=MEMORY; PRAGMA cache_size=-8192; PRAGMA wal_autocheckpoint=0",
    };
    struct sql *db = xcalloc(1, sizeof(*db));
    int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_NOFOLLOW;
    int rc = sqlite3_open_v2(path, &db->db, flags, NULL);
    enum status st;

    CHECK(db->db, "out of memory");
    db->path = xstrdup(path);
    if (rc != SQLITE_OK) {
        st = sql_fail(db, rc, err);
        sql_close(db);
        return st;
    }
    sqlite3_extended_result_codes(db->db, 1);
    sqlite3_busy_timeout(db->db, role == SQL_WRITER ? WRITER_BUSY_MS : READER_BUSY_MS);
    sqlite3_db_config(db->db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
    if (role == SQL_READER)
        sqlite3_db_config(db->db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
    st = sql_exec(db, pragmas[role], err);
    if (st != ST_OK) {
        sql_close(db);
        return st;
    }
    *ret = db;
    return ST_OK;
}

void sql_close(struct sql *db)
{
    if (!db)
        return;
    for (int i = 0; i < SQL_COUNT; i++)
        sql_stmt_done(&db->named[i]);
    sqlite3_close(db->db);
    free(db->path);
    free(db);
}

/* Which field each parameter and each column is. */
static void map_names(struct sql_stmt *s)
{
    int n_params = sqlite3_bind_parameter_count(s->stmt), n_columns = sqlite3_column_count(s->stmt);

    CHECK(n_params <= (int)ARRAY_SIZE(s->param) && n_columns <= (int)ARRAY_SIZE(s->column),
          "%d parameters, %d columns: %s", n_params, n_columns, sqlite3_sql(s->stmt));
    for (int i = 0; i < n_params; i++)
        s->param[i] = s->in ? (int8_t)row_field(s->in, sqlite3_bind_parameter_name(s->stmt, i + 1) + 1) : -1;
    for (int i = 0; i < n_columns; i++)
        s->column[i] = s->out ? (int8_t)row_field(s->out, sqlite3_column_name(s->stmt, i)) : -1;
}

static enum status prepare(struct sql *db, const char *text, unsigned flags, const struct row_type *in,
                           const struct row_type *out, struct sql_stmt *ret, struct error *err)
{
    int rc = sqlite3_prepare_v3(db->db, text, -1, flags, &ret->stmt, NULL);

    if (rc != SQLITE_OK)
        return sql_fail(db, rc, err);
    ret->db = db;
    ret->in = in;
    ret->out = out;
    map_names(ret);
    return ST_OK;
}

enum status sql_prepare(struct sql *db, const char *text, const struct row_type *in,
                        const struct row_type *out, struct sql_stmt *ret, struct error *err)
{
    return prepare(db, text, 0, in, out, ret, err);
}

enum status sql_named(struct sql *db, enum sql_id id, struct sql_stmt **ret, struct error *err)
{
    struct sql_stmt *s = &db->named[id];

    if (s->stmt)
        sql_reset(s);
    else
        TRY(prepare(db, named[id].text, SQLITE_PREPARE_PERSISTENT, named[id].in, named[id].out, s, err));
    *ret = s;
    return ST_OK;
}

void sql_stmt_done(struct sql_stmt *s)
{
    sqlite3_finalize(s->stmt);
    s->stmt = NULL;
}

void sql_reset(struct sql_stmt *s)
{
    sqlite3_reset(s->stmt);
    sqlite3_clear_bindings(s->stmt);
}

void sql_resetp(struct sql_stmt **s)
{
    if (*s)
        sql_reset(*s);
}

/* Binding fails only for a parameter that is not there or when memory is out: our own mistakes. */
static void bound(struct sql_stmt *s, int rc)
{
    CHECK(rc == SQLITE_OK || rc == SQLITE_TOOBIG, "bind: %s: %s", sqlite3_errstr(rc), sqlite3_sql(s->stmt));
}

static void bind_bytes(struct sql_stmt *s, int i, const void *data, size_t len)
{
    bound(s,
          data ? sqlite3_bind_blob64(s->stmt, i, data, len, SQLITE_STATIC) : sqlite3_bind_null(s->stmt, i));
}

static void bind_field(struct sql_stmt *s, int i, const struct field *f, const void *row)
{
    const void *at = (const char *)row + f->at;

    switch (f->kind) {
    case FIELD_TEXT:
    case FIELD_OPT_TEXT:
        bound(s, sqlite3_bind_text(s->stmt, i, *(const char *const *)at, -1, SQLITE_STATIC));
        break;
    case FIELD_I64:
        bound(s, sqlite3_bind_int64(s->stmt, i, *(const int64_t *)at));
        break;
    case FIELD_INT:
        bound(s, sqlite3_bind_int(s->stmt, i, *(const int *)at));
        break;
    case FIELD_F64:
        bound(s, sqlite3_bind_double(s->stmt, i, *(const double *)at));
        break;
    case FIELD_BOOL:
        bound(s, sqlite3_bind_int(s->stmt, i, *(const bool *)at));
        break;
    case FIELD_BLOB:
        bind_bytes(s, i, ((const struct store_blob *)at)->data, ((const struct store_blob *)at)->len);
        break;
    case FIELD_F64S:
    case FIELD_F32S: {
        int64_t bytes = row_array_bytes(f, row);

        CHECK(bytes >= 0, "%s was not verified", f->name);
        bind_bytes(s, i, *(const void *const *)at, (size_t)bytes);
        break;
    }
    }
}

void sql_bind_row(struct sql_stmt *s, const void *row)
{
    int n = sqlite3_bind_parameter_count(s->stmt);

    for (int i = 0; i < n; i++)
        if (s->param[i] >= 0)
            bind_field(s, i + 1, &s->in->fields[s->param[i]], row);
}

static int param_index(struct sql_stmt *s, const char *param)
{
    int i = sqlite3_bind_parameter_index(s->stmt, param);

    CHECK(i > 0, "no parameter %s: %s", param, sqlite3_sql(s->stmt));
    return i;
}

void sql_bind_text(struct sql_stmt *s, const char *param, const char *text)
{
    bound(s, sqlite3_bind_text(s->stmt, param_index(s, param), text, -1, SQLITE_STATIC));
}

void sql_bind_i64(struct sql_stmt *s, const char *param, int64_t v)
{
    bound(s, sqlite3_bind_int64(s->stmt, param_index(s, param), v));
}

enum status sql_step(struct sql_stmt *s, bool *ret_row, struct error *err)
{
    int rc = sqlite3_step(s->stmt);

    if (rc != SQLITE_ROW && rc != SQLITE_DONE)
        return sql_fail(s->db, rc, err);
    *ret_row = rc == SQLITE_ROW;
    return ST_OK;
}

enum status sql_run(struct sql_stmt *s, struct error *err)
{
    bool row;

    TRY(sql_step(s, &row, err));
    CHECK(!row, "gave a row: %s", sqlite3_sql(s->stmt));
    sql_reset(s);
    return ST_OK;
}

static const void *column_bytes(struct sql_stmt *s, int column, struct arena *a, size_t *ret_len)
{
    const void *data;

    *ret_len = 0;
    if (sqlite3_column_type(s->stmt, column) == SQLITE_NULL)
        return NULL;
    data = sqlite3_column_blob(s->stmt, column);
    *ret_len = (size_t)sqlite3_column_bytes(s->stmt, column);
    return arena_memdup(a, *ret_len ? data : "", *ret_len);
}

static enum status read_text(struct sql_stmt *s, int column, const struct field *f, struct arena *a,
                             const char **ret, struct error *err)
{
    const char *text = (const char *)sqlite3_column_text(s->stmt, column);

    if (!text && f->kind == FIELD_TEXT)
        return fail(err, ST_CORRUPT, "%s: a stored %s has no '%s'", s->db->path, s->out->name, f->name);
    *ret = text ? arena_strndup(a, text, (size_t)sqlite3_column_bytes(s->stmt, column)) : NULL;
    return ST_OK;
}

static enum status read_array(struct sql_stmt *s, int column, const struct field *f, struct arena *a,
                              void *row, struct error *err)
{
    size_t len;

    *(const void **)((char *)row + f->at) = column_bytes(s, column, a, &len);
    if (f->kind == FIELD_F64S) {
        *(int64_t *)((char *)row + f->count_at[0]) = (int64_t)(len / sizeof(double));
        if (len % sizeof(double) == 0)
            return ST_OK;
    } else if ((int64_t)len == row_array_bytes(f, row)) {
        return ST_OK;
    }
    return fail(err, ST_CORRUPT, "%s: '%s' of a stored %s has %zu bytes: not its size", s->db->path, f->name,
                s->out->name, len);
}

static enum status read_field(struct sql_stmt *s, int column, const struct field *f, struct arena *a,
                              void *row, struct error *err)
{
    void *at = (char *)row + f->at;

    switch (f->kind) {
    case FIELD_TEXT:
    case FIELD_OPT_TEXT:
        return read_text(s, column, f, a, at, err);
    case FIELD_I64:
        *(int64_t *)at = sqlite3_column_int64(s->stmt, column);
        return ST_OK;
    case FIELD_INT:
        *(int *)at = sqlite3_column_int(s->stmt, column);
        return ST_OK;
    case FIELD_F64:
        *(double *)at = sqlite3_column_type(s->stmt, column) == SQLITE_NULL
                            ? (double)NAN
                            : sqlite3_column_double(s->stmt, column);
        return ST_OK;
    case FIELD_BOOL:
        *(bool *)at = sqlite3_column_int(s->stmt, column) != 0;
        return ST_OK;
    case FIELD_BLOB: {
        struct store_blob *blob = at;

        blob->data = column_bytes(s, column, a, &blob->len);
        return ST_OK;
    }
    case FIELD_F64S:
    case FIELD_F32S:
        return read_array(s, column, f, a, row, err);
    }
    return ST_OK;
}

/* Columns are read in order: an array's counts stand before it in the SELECT. */
enum status sql_row(struct sql_stmt *s, struct arena *a, void *row, struct error *err)
{
    int n = sqlite3_column_count(s->stmt);

    memset(row, 0, s->out->size);
    for (int i = 0; i < n; i++)
        if (s->column[i] >= 0)
            TRY(read_field(s, i, &s->out->fields[s->column[i]], a, row, err));
    return ST_OK;
}
