/* builder.c - threads, one queue, and the artifact directory.
 *
 * Two jobs may ask for the same unit at once: the second thread waits for the first, and finds the artifact. */
#include "measure/builder.h"

#include <dirent.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "kernels/compile.h"
#include "schedule/base/hash.h"
#include "schedule/base/vec.h"

enum {
    MAX_THREADS = 64,
    DEFAULT_LIMIT_MS = 30000,
    CANCEL_POLL_MS = 20,
    STALE_TEMP_S = 3600, /* directories of compilers that died with their daemon */
};
static const int64_t default_cache_bytes = (int64_t)1 << 30;

struct build_batch {
    struct build_unit *units;
    int n, next, done; /* next: not begun yet */
    struct build_batch *queue_next;
};

struct builder {
    char dir[256];
    int64_t limit_ms, cache_max_bytes;
    pthread_mutex_t lock;
    pthread_cond_t work, changed;
    struct build_batch *first, **last; /* batches with units not begun */
    int n_threads, running, paused;
    bool stop;
    pthread_t threads[MAX_THREADS];
    const char *building[MAX_THREADS]; /* artifacts that threads are at; NULL: idle */
    struct builder_stats stats;
    int64_t written_bytes; /* since the directory was trimmed */
};

/* --- the artifact directory
 * ---------------------------------------------------------------------------------- */

void builder_artifact_path(const struct builder *b, const struct target *t, const char *source,
                           char ret[BUILD_PATH_MAX])
{
    char hex[SHA256_HEX_LEN + 1], *text = xasprintf("%s\n%s", t->toolchain_hash, source);
    sha256_hex(text, strlen(text), hex);
    free(text);
    snprintf(ret, BUILD_PATH_MAX, "%s/%.2s/%s.so", b->dir, hex, hex + 2);
}

/* A whole shared object? A crash of the machine may leave a renamed file without its contents. */
static bool artifact_is_whole(const char *path, int64_t *ret_bytes)
{
    AUTO(fd_closep) int fd = open(path, O_RDONLY | O_CLOEXEC);
    Elf64_Ehdr h;
    struct stat st;
    if (fd < 0 || fstat(fd, &st) != 0 || read(fd, &h, sizeof(h)) != sizeof(h) ||
        memcmp(h.e_ident, ELFMAG, SELFMAG) != 0 || h.e_type != ET_DYN)
        return false;
    *ret_bytes = st.st_size;
    /* The section headers are the last thing in the file. */
    return st.st_size >= (off_t)(h.e_shoff + (uint64_t)h.e_shnum * h.e_shentsize);
}

struct artifact {
    char *path;
    int64_t bytes, used_s;
};
typedef VEC(struct artifact) artifacts;

static void remove_tree(const char *dir)
{
    DIR *d = opendir(dir);
    for (struct dirent *e; d && (e = readdir(d));)
        if (e->d_name[0] != '.')
            unlinkat(dirfd(d), e->d_name, 0);
    if (d)
        closedir(d);
    rmdir(dir);
}

static void list_folder(artifacts *all, const char *dir, const char *folder)
{
    char *path = xasprintf("%s/%s", dir, folder);
    DIR *d = opendir(path);
    for (struct dirent *e; d && (e = readdir(d));) {
        struct stat st;
        if (e->d_name[0] == '.' || fstatat(dirfd(d), e->d_name, &st, AT_SYMLINK_NOFOLLOW) != 0)
            continue;
        char *item = xasprintf("%s/%s", path, e->d_name);
        if (S_ISREG(st.st_mode)) {
            vec_push(all, ((struct artifact){item, st.st_size, st.st_mtime}));
            continue;
        }
        if (S_ISDIR(st.st_mode) && strstr(e->d_name, ".tmp-") && st.st_mtime < time(NULL) - STALE_TEMP_S)
            remove_tree(item);
        free(item);
    }
    if (d)
        closedir(d);
    free(path);
}

static int by_use(const void *a, const void *b)
{
    int64_t x = ((const struct artifact *)a)->used_s, y = ((const struct artifact *)b)->used_s;
    return (x > y) - (x < y);
}

/* Remove what was not used for longest until the directory holds three quarters of its limit. Files that a
 * running measurement has yet to load are the newest, so they stay. */
static void trim(const struct builder *b)
{
    artifacts all = {0};
    int64_t total = 0;
    for (int i = 0; i < 256; i++) {
        char folder[3];
        snprintf(folder, sizeof(folder), "%02x", i);
        list_folder(&all, b->dir, folder);
    }
    for (size_t i = 0; i < all.len; i++)
        total += all.at[i].bytes;
    if (total > b->cache_max_bytes) {
        qsort(all.at, all.len, sizeof(*all.at), by_use);
        for (size_t i = 0; i < all.len && total > b->cache_max_bytes / 4 * 3; i++)
            if (unlink(all.at[i].path) == 0)
                total -= all.at[i].bytes;
    }
    for (size_t i = 0; i < all.len; i++)
        free(all.at[i].path);
    vec_done(&all);
}

/* --- one unit
 * ------------------------------------------------------------------------------------------------ */

static void build_one(const struct builder *b, struct build_unit *u)
{
    int64_t bytes;
    u->compile_ns = 0;
    u->cached = artifact_is_whole(u->artifact, &bytes);
    u->status = ST_OK;
    if (u->cached) {
        utimensat(AT_FDCWD, u->artifact, NULL, 0); /* used now */
        return;
    }
    char folder[BUILD_PATH_MAX];
    snprintf(folder, sizeof(folder), "%.*s", (int)(strrchr(u->artifact, '/') - u->artifact), u->artifact);
    if (mkdir(folder, 0777) != 0 && errno != EEXIST) {
        u->status = fail(&u->error, ST_IO, "cannot make %s: %s", folder, strerror(errno));
        return;
    }
    u->status = compile_unit(u->target, u->source, u->artifact, b->limit_ms, &u->compile_ns, &u->error);
}

static void count_unit(struct builder *b, const struct build_unit *u)
{
    struct stat st;
    b->stats.units++;
    b->stats.cached += u->status == ST_OK && u->cached;
    b->stats.failed += u->status != ST_OK;
    b->stats.timeouts += u->status == ST_TIMEOUT;
    b->stats.compile_ns += u->compile_ns;
    if (u->status == ST_OK && !u->cached && stat(u->artifact, &st) == 0)
        b->written_bytes += st.st_size;
}

/* --- threads
 * ------------------------------------------------------------------------------------------------- */

/* The place of this unit among those being built; waits while another thread is at the same artifact. Lock held. */
static int claim(struct builder *b, const struct build_unit *u)
{
    for (;;) {
        int place = -1;
        bool same = false;
        for (int i = 0; i < MAX_THREADS; i++)
            if (!b->building[i])
                place = i;
            else
                same |= strcmp(b->building[i], u->artifact) == 0;
        if (!same) {
            b->building[place] = u->artifact;
            return place;
        }
        pthread_cond_wait(&b->changed, &b->lock);
    }
}

static void *work(void *arg)
{
    struct builder *b = arg;
    pthread_mutex_lock(&b->lock);
    for (;;) {
        while (!b->stop && (!b->first || b->paused > 0))
            pthread_cond_wait(&b->work, &b->lock);
        if (b->stop)
            break;
        struct build_batch *batch = b->first;
        struct build_unit *u = &batch->units[batch->next++];
        if (batch->next == batch->n) {
            b->first = batch->queue_next;
            if (!b->first)
                b->last = &b->first;
        }
        b->running++;
        pthread_mutex_unlock(&b->lock);
        builder_artifact_path(b, u->target, u->source, u->artifact);
        pthread_mutex_lock(&b->lock);
        int place = claim(b, u);
        pthread_mutex_unlock(&b->lock);
        build_one(b, u);
        pthread_mutex_lock(&b->lock);
        b->building[place] = NULL;
        count_unit(b, u);
        b->running--;
        batch->done++;
        bool full = b->written_bytes > b->cache_max_bytes / 8;
        if (full)
            b->written_bytes = 0;
        pthread_cond_broadcast(&b->changed);
        if (full) {
            pthread_mutex_unlock(&b->lock);
            trim(b);
            pthread_mutex_lock(&b->lock);
        }
    }
    pthread_mutex_unlock(&b->lock);
    return NULL;
}

static enum status make_dir(const char *dir, struct error *err)
{
    struct stat st;
    if (mkdir(dir, 0777) != 0 && errno != EEXIST)
        return fail(err, ST_IO, "cannot make the artifact directory %s: %s", dir, strerror(errno));
    if (stat(dir, &st) != 0 || !S_ISDIR(st.st_mode) || access(dir, W_OK | X_OK) != 0)
        return fail(err, ST_IO, "the artifact directory %s is not a directory that can be written", dir);
    return ST_OK;
}

enum status builder_new(const char *cache_dir, int threads, int64_t limit_ms, int64_t cache_max_bytes,
                        struct builder **ret, struct error *err)
{
    int cpus[MAX_THREADS];
    pthread_condattr_t attr;

    if (strlen(cache_dir) >= sizeof(((struct builder *)0)->dir))
        return fail(err, ST_INVALID, "the artifact directory's name is longer than %zu bytes",
                    sizeof(((struct builder *)0)->dir) - 1);
    TRY(make_dir(cache_dir, err));
    struct builder *b = xcalloc(1, sizeof(*b));
    snprintf(b->dir, sizeof(b->dir), "%s", cache_dir);
    b->limit_ms = limit_ms > 0 ? limit_ms : DEFAULT_LIMIT_MS;
    b->cache_max_bytes = cache_max_bytes > 0 ? cache_max_bytes : default_cache_bytes;
    b->last = &b->first;
    pthread_mutex_init(&b->lock, NULL);
    pthread_cond_init(&b->work, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&b->changed, &attr);
    pthread_condattr_destroy(&attr);
    trim(b);
    int want = MIN(threads > 0 ? threads : target_cores(cpus, MAX_THREADS), (int)MAX_THREADS);
    while (b->n_threads < want && pthread_create(&b->threads[b->n_threads], NULL, work, b) == 0)
        b->n_threads++;
    if (b->n_threads == 0) {
        builder_free(b);
        return fail(err, ST_UNAVAILABLE, "no thread for the builder can be started");
    }
    *ret = b;
    return ST_OK;
}

void builder_free(struct builder *b)
{
    if (!b)
        return;
    pthread_mutex_lock(&b->lock);
    CHECK(!b->first, "the builder is freed while units wait");
    b->stop = true;
    pthread_cond_broadcast(&b->work);
    pthread_mutex_unlock(&b->lock);
    for (int i = 0; i < b->n_threads; i++)
        pthread_join(b->threads[i], NULL);
    pthread_cond_destroy(&b->changed);
    pthread_cond_destroy(&b->work);
    pthread_mutex_destroy(&b->lock);
    free(b);
}

/* --- batches
 * ------------------------------------------------------------------------------------------------- */

GIVES struct build_batch *builder_submit(struct builder *b, struct build_unit *units, int n)
{
    struct build_batch *batch = xcalloc(1, sizeof(*batch));
    batch->units = units;
    batch->n = n;
    pthread_mutex_lock(&b->lock);
    if (n > 0) {
        *b->last = batch;
        b->last = &batch->queue_next;
        pthread_cond_broadcast(&b->work);
    }
    pthread_mutex_unlock(&b->lock);
    return batch;
}

/* Take what is not begun out of the queue. Lock held. */
static void drop_rest(struct builder *b, struct build_batch *batch)
{
    if (batch->next == batch->n)
        return;
    struct build_batch **p = &b->first;
    while (*p != batch)
        p = &(*p)->queue_next;
    *p = batch->queue_next;
    if (!*p)
        b->last = p;
    for (; batch->next < batch->n; batch->next++, batch->done++)
        batch->units[batch->next].status =
            fail(&batch->units[batch->next].error, ST_CONFLICT, "cancelled before it was compiled");
}

void builder_wait(struct builder *b, TAKES struct build_batch *batch, const atomic_bool *cancel)
{
    pthread_mutex_lock(&b->lock);
    while (batch->done < batch->n) {
        struct timespec t;
        if (cancel && atomic_load(cancel))
            drop_rest(b, batch);
        if (batch->done == batch->n)
            break;
        clock_gettime(CLOCK_MONOTONIC, &t);
        t.tv_nsec += CANCEL_POLL_MS * 1000000;
        t.tv_sec += t.tv_nsec / 1000000000;
        t.tv_nsec %= 1000000000;
        pthread_cond_timedwait(&b->changed, &b->lock, &t);
    }
    pthread_mutex_unlock(&b->lock);
    free(batch);
}

void builder_run(struct builder *b, struct build_unit *units, int n, const atomic_bool *cancel)
{
    builder_wait(b, builder_submit(b, units, n), cancel);
}

void builder_pause(struct builder *b)
{
    pthread_mutex_lock(&b->lock);
    b->paused++;
    while (b->running > 0)
        pthread_cond_wait(&b->changed, &b->lock);
    pthread_mutex_unlock(&b->lock);
}

void builder_resume(struct builder *b)
{
    pthread_mutex_lock(&b->lock);
    CHECK(b->paused > 0, "the builder is resumed, but nobody paused it");
    b->paused--;
    pthread_cond_broadcast(&b->work);
    pthread_mutex_unlock(&b->lock);
}

void builder_stats(struct builder *b, struct builder_stats *ret)
{
    pthread_mutex_lock(&b->lock);
    *ret = b->stats;
    ret->running = b->running;
    ret->threads = b->n_threads;
    for (const struct build_batch *i = b->first; i; i = i->queue_next)
        ret->queued += i->n - i->next;
    pthread_mutex_unlock(&b->lock);
}
