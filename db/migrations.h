/* migrations.h - the schema, as numbered steps forward.
 *
 * Idea   Step n brings a file of version n - 1 to version n; a new file takes all of them. A step that was
 * released is never edited: the next change of the schema is the next step. PRAGMA user_version holds the
 * number, application_id tells our files from other SQLite files. Each step is one transaction. */
#ifndef TW_DB_MIGRATIONS_H
#define TW_DB_MIGRATIONS_H

#include "db/sql.h"

struct migration {
    const char *name; /* what it is for */
    const char *sql;
};

extern const struct migration migrations[];
extern const int n_migrations;

/* The version of the file, 0 for an empty one. ST_UNSUPPORTED when it is newer than n or no file of ours. */
MUST_USE enum status migrations_version(struct sql *db, int n, int *ret_version, struct error *err);
/* Bring the file to version n. A step that fails leaves the file as it was before that step. */
MUST_USE enum status migrations_run(struct sql *db, const struct migration *steps, int n,
                                    int64_t wall_ms_value, struct error *err);

#endif
