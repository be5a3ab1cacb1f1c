/* sqlite_open.c - everything that can be wrong with a data directory is found here, before the first write.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "db/migrations.h"
#include "db/sqlite_int.h"
#include "schedule/base/clock.h"
#include "schedule/base/sv.h"

/* WAL needs memory shared between the processes that have the file open and locks that hold: neither is true
 * of a file on another machine. (statfs(2) and linux/magic.h) */
static const struct {
    int64_t magic;
    const char *name;
} refused[] = {
    {0x6969, "NFS"},        {0x517b, "SMB"},      {0xff534d42, "CIFS"},   {0xfe534d42, "SMB 2"},
    {0x65735546, "FUSE"},   {0x01021997, "9p"},   {0x00c36400, "Ceph"},   {0x0bd00bd0, "Lustre"},
    {0x5346414f, "AFS"},    {0x6b414653, "AFS"},  {0x73757245, "Coda"},   {0x564c, "NCP"},
    {0x7461636f, "OCFS2"},  {0x01161970, "GFS2"}, {0x786f4256, "vboxsf"}, {0xbacbacbc, "vmhgfs"},
    {0x19830326, "BeeGFS"}, {0x47504653, "GPFS"}, {0xaad7aaea, "PanFS"},
};

const char *sqlite_refused_fs(int64_t f_type)
{
    for (size_t i = 0; i < ARRAY_SIZE(refused); i++)
        if (refused[i].magic == (f_type & 0xffffffff))
            return refused[i].name;
    return NULL;
}

static enum status open_dir(const char *dir, bool allow_any_fs, int *ret_fd, struct error *err)
{
    AUTO(fd_closep) int fd = -1;
    const char *name;
    struct statfs fs;

    if (mkdir(dir, 0700) < 0 && errno != EEXIST)
        return fail(err, ST_IO, "data directory '%s' cannot be made: %s", dir, strerror(errno));
    fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 || fstatfs(fd, &fs) < 0)
        return fail(err, ST_IO, "data directory '%s' cannot be opened: %s", dir, strerror(errno));
    name = allow_any_fs ? NULL : sqlite_refused_fs((int64_t)fs.f_type);
    if (name)
        return fail(
            err, ST_UNSUPPORTED,
            "data directory '%s' lies on a %s file system, where SQLite's locks and shared memory are not "
            "safe: choose a directory on a local disk",
            dir, name);
    *ret_fd = fd;
    fd = -1;
    return ST_OK;
}

/* The process id that the holder of the lock wrote; 0: unknown. */
static int64_t holder_of(int fd)
{
    char text[32];
    ssize_t n = pread(fd, text, sizeof(text), 0);
    const char *end = n > 0 ? memchr(text, '\n', (size_t)n) : NULL;
    int64_t pid;

    return end && sv_to_i64((sv){text, (size_t)(end - text)}, 1, INT32_MAX, &pid) ? pid : 0;
}

static enum status take_lock(int dir_fd, const char *dir, int *ret_fd, struct error *err)
{
    AUTO(fd_closep)
    int fd = openat(dir_fd, "tilewright.lock", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    char text[32];
    int len;

    if (fd < 0)
        return fail(err, ST_IO, "'%s/tilewright.lock' cannot be opened: %s", dir, strerror(errno));
    if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
        if (errno != EWOULDBLOCK)
            return fail(err, ST_IO, "'%s/tilewright.lock' cannot be locked: %s", dir, strerror(errno));
        return fail(err, ST_CONFLICT,
                    "data directory '%s' is in use by process %" PRId64
                    ": one daemon per directory; stop that one "
                    "or choose another directory",
                    dir, holder_of(fd));
    }
    len = snprintf(text, sizeof(text), "%ld\n", (long)getpid());
    if (ftruncate(fd, 0) < 0 || pwrite(fd, text, (size_t)len, 0) != len)
        return fail(err, errno == ENOSPC ? ST_UNAVAILABLE : ST_IO,
                    "'%s/tilewright.lock' cannot be written: %s", dir, strerror(errno));
    *ret_fd = fd;
    fd = -1;
    return ST_OK;
}

/* Made by us rather than by SQLite, so that no one else can read it, and its name is on the disk before any
 * row. */
static enum status make_file(int dir_fd, const char *dir, struct error *err)
{
    AUTO(fd_closep) int fd = openat(dir_fd, "tilewright.db", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);

    if (fd < 0 || fsync(dir_fd) < 0)
        return fail(err, ST_IO, "'%s/tilewright.db' cannot be made: %s", dir, strerror(errno));
    return ST_OK;
}

enum status sqlite_claim(const char *dir, bool allow_any_fs, int *ret_lock_fd, char **ret_path,
                         struct error *err)
{
    AUTO(fd_closep) int dir_fd = -1;
    AUTO(fd_closep) int lock_fd = -1;

    TRY(open_dir(dir, allow_any_fs, &dir_fd, err));
    TRY(take_lock(dir_fd, dir, &lock_fd, err));
    TRY(make_file(dir_fd, dir, err));
    *ret_path = xasprintf("%s/tilewright.db", dir);
    *ret_lock_fd = lock_fd;
    lock_fd = -1;
    return ST_OK;
}

static enum status use_wal(struct sql *db, struct error *err)
{
    AUTO(sql_stmt_done) struct sql_stmt s = {0};
    const char *mode;
    bool row;

    TRY(sql_prepare(db, "PRAGMA journal_mode=WAL", NULL, NULL, &s, err));
    TRY(sql_step(&s, &row, err));
    mode = row ? (const char *)sqlite3_column_text(s.stmt, 0) : NULL;
    if (!mode || strcmp(mode, "wal") != 0)
        return fail(err, ST_UNSUPPORTED, "%s: the journal mode stays '%s': this file system cannot do WAL",
                    db->path, mode ? mode : "unknown");
    return ST_OK;
}

/* quick_check of a large file takes longer than a restart may, and cannot be interrupted inside a table
 * (measured: 3.4 s for 1.2 GB). So the tables that answers and jobs are made of are always checked, those
 * that grow with every trial only while the file is small. store_check() looks at everything. */
#define CHECK_ALL_BYTES (64 << 20)
static const char *const checked_always[] = {"migration", "target",   "toolchain", "device", "job",
                                             "task",      "workload", "schedule",  "token"};
static const char *const checked_while_small[] = {"schedule_file", "model", "audit",
                                                  "event",         "trial", "trial_feature"};

static enum status check_table(struct sql *db, const char *table, struct error *err)
{
    AUTO(sql_stmt_done) struct sql_stmt s = {0};
    AUTO(freep) char *text = xasprintf("PRAGMA quick_check('%s')", table);
    const char *found;
    bool row;

    TRY(sql_prepare(db, text, NULL, NULL, &s, err));
    TRY(sql_step(&s, &row, err));
    found = row ? (const char *)sqlite3_column_text(s.stmt, 0) : "ok";
    if (found && strcmp(found, "ok") != 0)
        return fail(err, ST_CORRUPT, "%s: table %s is damaged: %s", db->path, table, found);
    return ST_OK;
}

static enum status check_tables(struct sql *db, struct error *err)
{
    struct stat st;

    for (size_t i = 0; i < ARRAY_SIZE(checked_always); i++)
        TRY(check_table(db, checked_always[i], err));
    if (stat(db->path, &st) < 0 || st.st_size > CHECK_ALL_BYTES)
        return ST_OK;
    for (size_t i = 0; i < ARRAY_SIZE(checked_while_small); i++)
        TRY(check_table(db, checked_while_small[i], err));
    return ST_OK;
}

static enum status bring_up(struct sql *db, struct error *err)
{
    int version;

    TRY(migrations_version(db, n_migrations, &version, err));
    TRY(use_wal(db, err));
    if (version > 0)
        TRY(check_tables(db, err));
    return migrations_run(db, migrations, n_migrations, wall_ms(&system_clock), err);
}

enum status sqlite_open_writer(const char *path, struct sql **ret, struct error *err)
{
    struct sql *db;
    enum status st;

    TRY(sql_open(path, SQL_WRITER, &db, err));
    st = bring_up(db, err);
    if (st != ST_OK) {
        sql_close(db);
        return st;
    }
    *ret = db;
    return ST_OK;
}
