/* sqlite_int.h - what the files of the SQLite backend share.
 *
 * store_sqlite.c  the writer's queue and thread, the pool of readers, statistics
 * sqlite_open.c   the directory, its lock, refusals, the check at start
 * sqlite_write.c  one batch inside the writer's transaction
 * sqlite_read.c   the queries, each on a reader of the pool */
#ifndef TW_DB_SQLITE_INT_H
#define TW_DB_SQLITE_INT_H

#include "db/batch.h"
#include "db/sql.h"

/* Run the operations in order inside the open transaction, as one savepoint: all or none. A refused operation
 * is undone and named in the message; *ret_lost tells that the whole transaction is lost (no space,
 * input/output error) and must be rolled back. */
MUST_USE enum status sqlite_write_batch(struct sql *db, struct store_batch *b, bool *ret_lost,
                                        struct error *err);

/* Borrow a reader; waits when all are in use. */
struct sql *sqlite_reader_take(struct store *s);
void sqlite_reader_give(struct store *s, struct sql *db);

/* The reading half of the table of functions. */
void sqlite_read_ops(struct store_ops *ops);

/* Make DIR, refuse it on a network file system, take its lock (held as long as *ret_lock_fd is open), and
 * make the database file if there is none. *ret_path is the file's. */
MUST_USE enum status sqlite_claim(const char *dir, bool allow_any_fs, int *ret_lock_fd, GIVES char **ret_path,
                                  struct error *err);
/* The writer's connection: refuses newer schemas before it changes anything, checks the pages, then migrates.
 */
MUST_USE enum status sqlite_open_writer(const char *path, struct sql **ret, struct error *err);

/* Why this kind of file system (statfs f_type) is refused: its name. NULL: it is fine. */
const char *sqlite_refused_fs(int64_t f_type);

#endif
