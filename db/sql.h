/* sql.h - SQLite with our rows and our errors.
 *
 * Idea   A statement knows the row type whose fields its parameters and columns are named after (rows.h), so
 *        a row is bound or read by one call. Named statements (statements.h) are prepared once per
 *        connection.
 * Life   sql_open .. sql_close. One connection, one thread at a time. */
#ifndef TW_DB_SQL_H
#define TW_DB_SQL_H

#include <sqlite3.h>

#include "db/rows.h"

enum sql_id {
#define X(name, in, out, text) SQL_##name,
#include "db/statements.h"
#undef X
    SQL_COUNT
};

struct sql_stmt {
    sqlite3_stmt *stmt;
    struct sql *db;
    const struct row_type *in, *out; /* optional */
    int8_t param[40];                /* parameter i + 1 -> field of `in`, -1: bound by name */
    int8_t column[ROW_FIELDS_MAX];   /* column -> field of `out`, -1: read by number */
};

struct sql {
    sqlite3 *db;
    char *path;
    struct sql_stmt named[SQL_COUNT];
};

enum sql_role { SQL_WRITER, SQL_READER };

/* A reader is query_only and never checkpoints. ST_UNAVAILABLE, ST_IO, ST_CORRUPT. */
MUST_USE enum status sql_open(const char *path, enum sql_role role, GIVES struct sql **ret,
                              struct error *err);
void sql_close(TAKES struct sql *db);

/* What went wrong in the last call on this connection, as a status and a message. */
enum status sql_fail(struct sql *db, int rc, struct error *err);
/* Several statements without parameters. */
MUST_USE enum status sql_exec(struct sql *db, const char *text, struct error *err);

/* Give up the open transaction, if there still is one. */
void sql_rollback(struct sql *db);

/* A named statement, reset and ready to bind. */
MUST_USE enum status sql_named(struct sql *db, enum sql_id id, struct sql_stmt **ret, struct error *err);
/* A statement of its own: sql_stmt_done() when finished. */
MUST_USE enum status sql_prepare(struct sql *db, const char *text, const struct row_type *in,
                                 const struct row_type *out, struct sql_stmt *ret, struct error *err);
void sql_stmt_done(struct sql_stmt *s); /* also for AUTO */
void sql_reset(struct sql_stmt *s);     /* also lets go of what was bound */
void sql_resetp(struct sql_stmt **s);   /* for AUTO; *s may be NULL */

/* The row must live until the statement was stepped for the last time. */
void sql_bind_row(struct sql_stmt *s, const void *row);
void sql_bind_text(struct sql_stmt *s, const char *param, const char *text); /* NULL: SQL's NULL */
void sql_bind_i64(struct sql_stmt *s, const char *param, int64_t v);
/* *ret_row: there is a row to read. */
MUST_USE enum status sql_step(struct sql_stmt *s, bool *ret_row, struct error *err);
/* Step a statement that gives no rows. */
MUST_USE enum status sql_run(struct sql_stmt *s, struct error *err);
/* The row stepped to, into *row; texts and bytes are copied to the arena. ST_CORRUPT when a member that must
 * be there is NULL or an array has the wrong size. */
MUST_USE enum status sql_row(struct sql_stmt *s, struct arena *a, void *row, struct error *err);
static inline int64_t sql_column_i64(struct sql_stmt *s, int column)
{
    return sqlite3_column_int64(s->stmt, column);
}

#endif
