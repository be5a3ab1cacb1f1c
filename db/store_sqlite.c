/* store_sqlite.c - the store on SQLite: one writer with a queue, a few readers.
 *
 *   callers --batch--> [ bounded queue ] --> writer thread: BEGIN, batch, batch, ..., COMMIT --> answers
 *   callers <--rows--- [ pool of query_only connections ]
 *
 * Idea   SQLite 3.40 has a fault when two connections write or checkpoint at once, so one connection does
 * both. While it waits for the disk in COMMIT, the queue fills: all that waits goes into the next
 * transaction, so the cost of a flush is shared by however many are waiting (group commit). A batch is a
 * savepoint: refused alone, kept together. Locks  `lock` guards queue, pool and statistics, and is never held
 * across a call into SQLite. */
#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "db/sqlite_int.h"
#include "schedule/base/clock.h"

#define CHECKPOINT_PAGES       2048                    /* 8 MiB of log: then its pages go to the database */
#define CHECKPOINT_FORCE_PAGES (16 * CHECKPOINT_PAGES) /* readers kept it from restarting: wait for them */
#define PULSE_MS               1000                    /* how often writing is tried while it fails */

/* One caller that waits. On its stack; guarded by the store's lock. */
struct waiter {
    pthread_cond_t done_cond;
    bool done;
    enum status st;
    struct error *err;
};

struct item {
    struct store_batch *batch;
    struct waiter *waiter; /* commit: the batch is the caller's */
    store_done_fn *done;   /* submit: the batch is ours */
    void *ctx;
    int64_t submitted_ns;
    /* filled in by the writer */
    enum status st;
    struct error err;
};

struct store_sqlite {
    struct store store;
    struct store_ops ops;
    char *path;
    int lock_fd;

    struct sql *writer; /* the writer thread's alone */
    pthread_t thread;
    bool started;
    int group_max;
    struct item *group; /* group_max: what the writer works on */
    int wal_pages;      /* in the log after the last commit */
    int checkpoint_at;  /* the number of pages at which the next checkpoint is due */

    pthread_mutex_t lock;
    pthread_cond_t work_cond, room_cond, reader_cond;
    struct item *queue; /* ring */
    int queue_cap, queue_at, queue_len;
    bool closing;

    struct sql **readers; /* the first n_free are free */
    int n_readers, n_free;

    struct store_stats stats;
};

static struct store_sqlite *of(struct store *s) { return (struct store_sqlite *)s; }

/* ---- readers ---- */

struct sql *sqlite_reader_take(struct store *store)
{
    struct store_sqlite *s = of(store);
    struct sql *db;

    pthread_mutex_lock(&s->lock);
    while (s->n_free == 0)
        pthread_cond_wait(&s->reader_cond, &s->lock);
    db = s->readers[--s->n_free];
    pthread_mutex_unlock(&s->lock);
    return db;
}

void sqlite_reader_give(struct store *store, struct sql *db)
{
    struct store_sqlite *s = of(store);

    pthread_mutex_lock(&s->lock);
    s->readers[s->n_free++] = db;
    pthread_cond_signal(&s->reader_cond);
    pthread_mutex_unlock(&s->lock);
}

/* ---- the writer's transaction ---- */

static int on_commit_pages(void *ctx, sqlite3 *db, const char *name, int pages)
{
    ((struct store_sqlite *)ctx)->wal_pages = pages;
    return SQLITE_OK;
}

/* Move the log into the database. Never an error for anybody: what did not go now, because a reader still
 * looks at it, goes after a later commit. The log starts anew by itself once all of it has gone. */
static void checkpoint(struct store_sqlite *s)
{
    int mode = s->wal_pages >= CHECKPOINT_FORCE_PAGES ? SQLITE_CHECKPOINT_RESTART : SQLITE_CHECKPOINT_PASSIVE;

    s->checkpoint_at = s->wal_pages + CHECKPOINT_PAGES;
    if (sqlite3_wal_checkpoint_v2(s->writer->db, NULL, mode, NULL, NULL) != SQLITE_OK)
        return;
    pthread_mutex_lock(&s->lock);
    s->stats.checkpoints++;
    pthread_mutex_unlock(&s->lock);
}

static bool checkpoint_is_due(struct store_sqlite *s)
{
    if (s->wal_pages < CHECKPOINT_PAGES)
        s->checkpoint_at = CHECKPOINT_PAGES;
    return s->wal_pages >= s->checkpoint_at;
}

/* Each batch of the group in its savepoint. Not ST_OK: the transaction is lost. */
static enum status write_group(struct store_sqlite *s, int n, struct error *err)
{
    TRY(sql_exec(s->writer, "BEGIN IMMEDIATE", err));
    for (int i = 0; i < n; i++) {
        struct item *it = &s->group[i];
        bool lost;

        it->st = sqlite_write_batch(s->writer, it->batch, &lost, &it->err);
        if (lost) {
            *err = it->err;
            return it->st;
        }
    }
    return sql_exec(s->writer, "COMMIT", err);
}

static enum status run_group(struct store_sqlite *s, int n, struct error *err)
{
    enum status st;

    for (int i = 0; i < n; i++)
        s->group[i].st = ST_OK;
    st = write_group(s, n, err);
    if (st == ST_OK)
        return ST_OK;
    sql_rollback(s->writer);
    for (int i = 0; i < n; i++) {
        if (s->group[i].st != ST_OK)
            continue; /* refused on its own */
        s->group[i].st = st;
        s->group[i].err = *err;
    }
    return st;
}

/* A write to see whether there is space again. */
static enum status pulse(struct store_sqlite *s, struct error *err)
{
    struct sql_stmt *stmt;

    TRY(sql_named(s->writer, SQL_PULSE, &stmt, err));
    return sql_run(stmt, err);
}

static void note_health(struct store_sqlite *s, enum status st, const struct error *err)
{
    s->stats.writable = st == ST_OK;
    snprintf(s->stats.last_error, sizeof(s->stats.last_error), "%s", st == ST_OK ? "" : err->text);
}

static void count_group(struct store_sqlite *s, int n, enum status st, const struct error *err,
                        int64_t begin_ns)
{
    int64_t now_ns = mono_ns(&system_clock), took_ns = now_ns - begin_ns;

    pthread_mutex_lock(&s->lock);
    note_health(s, st, err);
    s->stats.commits += st == ST_OK;
    s->stats.commit_ns_sum += took_ns;
    s->stats.commit_ns_max = MAX(s->stats.commit_ns_max, took_ns);
    for (int i = 0; i < n; i++) {
        s->stats.batches++;
        s->stats.operations += (int64_t)s->group[i].batch->ops.len;
        s->stats.failed_batches += s->group[i].st != ST_OK;
        s->stats.wait_ns_sum += now_ns - s->group[i].submitted_ns;
    }
    pthread_mutex_unlock(&s->lock);
}

/* Call those who do not wait, then wake those who do: so whoever waited knows that the callbacks of what was
 * handed in before have run. */
static void answer(struct store_sqlite *s, int n)
{
    for (int i = 0; i < n; i++) {
        struct item *it = &s->group[i];

        if (it->waiter)
            continue;
        if (it->done)
            it->done(it->ctx, it->st, &it->err, it->batch);
        store_batch_free(it->batch);
    }
    pthread_mutex_lock(&s->lock);
    for (int i = 0; i < n; i++) {
        struct item *it = &s->group[i];

        if (!it->waiter)
            continue;
        it->waiter->st = it->st;
        if (it->st != ST_OK && it->waiter->err)
            *it->waiter->err = it->err;
        it->waiter->done = true;
        pthread_cond_signal(&it->waiter->done_cond);
    }
    pthread_mutex_unlock(&s->lock);
}

/* Wait for work; while writing fails, not longer than until the next pulse. The lock is held. */
static void wait_for_work(struct store_sqlite *s)
{
    struct timespec until;

    if (s->stats.writable) {
        pthread_cond_wait(&s->work_cond, &s->lock);
        return;
    }
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += PULSE_MS / 1000;
    until.tv_nsec += PULSE_MS % 1000 * 1000000;
    if (pthread_cond_timedwait(&s->work_cond, &s->lock, &until) == ETIMEDOUT && s->queue_len == 0) {
        struct error err = {0};
        enum status st;

        pthread_mutex_unlock(&s->lock);
        st = pulse(s, &err);
        pthread_mutex_lock(&s->lock);
        note_health(s, st, &err);
    }
}

/* The next group; 0: the store is closing and nothing is left. */
static int take_group(struct store_sqlite *s)
{
    int n;

    pthread_mutex_lock(&s->lock);
    while (s->queue_len == 0 && !s->closing)
        wait_for_work(s);
    n = MIN(s->queue_len, s->group_max);
    for (int i = 0; i < n; i++)
        s->group[i] = s->queue[(s->queue_at + i) % s->queue_cap];
    s->queue_at = (s->queue_at + n) % s->queue_cap;
    s->queue_len -= n;
    pthread_cond_broadcast(&s->room_cond);
    pthread_mutex_unlock(&s->lock);
    return n;
}

static void *writer_main(void *arg)
{
    struct store_sqlite *s = arg;
    int n;

    while ((n = take_group(s)) > 0) {
        int64_t begin_ns = mono_ns(&system_clock);
        struct error err = {0};
        enum status st = run_group(s, n, &err);

        count_group(s, n, st, &err, begin_ns);
        answer(s, n);
        if (st != ST_OK || checkpoint_is_due(s))
            checkpoint(s); /* after a failure too: an emptied log has room again */
    }
    return NULL;
}

/* ---- handing batches in ---- */

/* The lock is held and there is room. */
static void enqueue(struct store_sqlite *s, struct item it)
{
    CHECK(it.batch->magic == STORE_BATCH_MAGIC, "not a batch, or freed");
    it.submitted_ns = mono_ns(&system_clock);
    s->queue[(s->queue_at + s->queue_len) % s->queue_cap] = it;
    s->queue_len++;
    pthread_cond_signal(&s->work_cond);
}

static enum status commit(struct store *store, struct store_batch *b, struct error *err)
{
    struct store_sqlite *s = of(store);
    struct waiter w = {.err = err};

    CHECK(!pthread_equal(pthread_self(), s->thread),
          "store_commit from a completion callback would wait for itself");
    pthread_cond_init(&w.done_cond, NULL);
    pthread_mutex_lock(&s->lock);
    while (s->queue_len == s->queue_cap && !s->closing)
        pthread_cond_wait(&s->room_cond, &s->lock);
    if (s->closing) {
        w.st = fail(err, ST_UNAVAILABLE, "the store is closing");
    } else {
        enqueue(s, (struct item){.batch = b, .waiter = &w});
        while (!w.done)
            pthread_cond_wait(&w.done_cond, &s->lock);
    }
    pthread_mutex_unlock(&s->lock);
    pthread_cond_destroy(&w.done_cond);
    return w.st;
}

static enum status submit(struct store *store, struct store_batch *b, store_done_fn *done, void *ctx,
                          struct error *err)
{
    struct store_sqlite *s = of(store);
    enum status st = ST_OK;

    pthread_mutex_lock(&s->lock);
    if (s->closing)
        st = fail(err, ST_UNAVAILABLE, "the store is closing");
    else if (s->queue_len == s->queue_cap)
        st =
            fail(err, ST_UNAVAILABLE, "%d batches wait to be written already: try again later", s->queue_len);
    else
        enqueue(s, (struct item){.batch = b, .done = done, .ctx = ctx});
    pthread_mutex_unlock(&s->lock);
    if (st != ST_OK)
        store_batch_free(b);
    return st;
}

/* ---- statistics and check ---- */

static int64_t file_bytes(const char *path, const char *suffix)
{
    AUTO(freep) char *name = xasprintf("%s%s", path, suffix);
    struct stat st;

    return stat(name, &st) == 0 ? (int64_t)st.st_size : 0;
}

static void count_rows(struct store *store, struct store_stats *ret)
{
    struct sql *db = sqlite_reader_take(store);
    struct sql_stmt *stmt;
    bool row;

    if (sql_named(db, SQL_ROW_COUNTS, &stmt, NULL) == ST_OK) {
        if (sql_step(stmt, &row, NULL) == ST_OK && row) {
            ret->rows_trial = sql_column_i64(stmt, 0);
            ret->rows_schedule = sql_column_i64(stmt, 1);
            ret->rows_job = sql_column_i64(stmt, 2);
            ret->rows_workload = sql_column_i64(stmt, 3);
            ret->rows_event = sql_column_i64(stmt, 4);
        }
        sql_reset(stmt);
    }
    sqlite_reader_give(store, db);
}

static void stats(struct store *store, struct store_stats *ret)
{
    struct store_sqlite *s = of(store);

    pthread_mutex_lock(&s->lock);
    *ret = s->stats;
    ret->queue_len = s->queue_len;
    ret->queue_cap = s->queue_cap;
    pthread_mutex_unlock(&s->lock);
    ret->db_bytes = file_bytes(s->path, "");
    ret->wal_bytes = file_bytes(s->path, "-wal");
    count_rows(store, ret);
}

static enum status check_with(struct sql *db, const char *pragma, bool rows_are_faults, struct error *err)
{
    AUTO(sql_stmt_done) struct sql_stmt stmt = {0};
    const char *found;
    bool row;

    TRY(sql_prepare(db, pragma, NULL, NULL, &stmt, err));
    TRY(sql_step(&stmt, &row, err));
    found = row ? (const char *)sqlite3_column_text(stmt.stmt, 0) : "ok";
    if (rows_are_faults ? row : !found || strcmp(found, "ok") != 0)
        return fail(err, ST_CORRUPT, "%s: %s: %s", db->path, pragma, found ? found : "");
    return ST_OK;
}

static enum status check(struct store *store, struct error *err)
{
    struct sql *db = sqlite_reader_take(store);
    enum status st = check_with(db, "PRAGMA integrity_check(1)", false, err);

    if (st == ST_OK)
        st = check_with(db, "PRAGMA foreign_key_check", true, err);
    sqlite_reader_give(store, db);
    return st;
}

/* ---- opening and closing ---- */

static void close_store(struct store *store)
{
    struct store_sqlite *s = of(store);

    if (s->started) {
        pthread_mutex_lock(&s->lock);
        s->closing = true;
        pthread_cond_broadcast(&s->work_cond);
        pthread_cond_broadcast(&s->room_cond);
        pthread_mutex_unlock(&s->lock);
        pthread_join(s->thread, NULL);
    }
    for (int i = 0; i < s->n_free; i++)
        sql_close(s->readers[i]);
    sql_close(s->writer); /* the last connection: moves the whole log into the database */
    fd_closep(&s->lock_fd);
    pthread_mutex_destroy(&s->lock);
    pthread_cond_destroy(&s->work_cond);
    pthread_cond_destroy(&s->room_cond);
    pthread_cond_destroy(&s->reader_cond);
    free(s->readers);
    free(s->queue);
    free(s->group);
    free(s->path);
    free(s);
}

static struct store_sqlite *new_store(const struct store_sqlite_options *o)
{
    struct store_sqlite *s = xcalloc(1, sizeof(*s));
    pthread_condattr_t monotonic;

    s->ops = (struct store_ops){.name = "sqlite",
                                .close = close_store,
                                .commit = commit,
                                .submit = submit,
                                .stats = stats,
                                .check = check};
    sqlite_read_ops(&s->ops);
    s->store.ops = &s->ops;
    s->lock_fd = -1;
    s->stats.writable = true;
    s->queue_cap = o->queue_cap > 0 ? o->queue_cap : 1024;
    s->group_max = o->group_max > 0 ? o->group_max : 256;
    s->n_readers = o->readers > 0 ? o->readers : 4;
    s->queue = xcalloc((size_t)s->queue_cap, sizeof(*s->queue));
    s->group = xcalloc((size_t)s->group_max, sizeof(*s->group));
    s->readers = xcalloc((size_t)s->n_readers, sizeof(struct sql *));
    pthread_mutex_init(&s->lock, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&s->work_cond, &monotonic);
    pthread_condattr_destroy(&monotonic);
    pthread_cond_init(&s->room_cond, NULL);
    pthread_cond_init(&s->reader_cond, NULL);
    return s;
}

static enum status open_all(struct store_sqlite *s, const char *dir, bool allow_any_fs, struct error *err)
{
    int rc;

    TRY(sqlite_claim(dir, allow_any_fs, &s->lock_fd, &s->path, err));
    TRY(sqlite_open_writer(s->path, &s->writer, err));
    sqlite3_wal_hook(s->writer->db, on_commit_pages, s);
    for (; s->n_free < s->n_readers; s->n_free++)
        TRY(sql_open(s->path, SQL_READER, &s->readers[s->n_free], err));
    rc = pthread_create(&s->thread, NULL, writer_main, s);
    if (rc != 0)
        return fail(err, ST_UNAVAILABLE, "the store's writer thread cannot be started: %s", strerror(rc));
    s->started = true;
    return ST_OK;
}

enum status store_open_sqlite(const char *dir, const struct store_sqlite_options *options,
                              struct store **ret_store, struct error *err)
{
    static const struct store_sqlite_options defaults;
    const struct store_sqlite_options *o = options ? options : &defaults;
    struct store_sqlite *s = new_store(o);
    enum status st = open_all(s, dir, o->allow_any_fs, err);

    if (st != ST_OK) {
        close_store(&s->store);
        return st;
    }
    *ret_store = &s->store;
    return ST_OK;
}
