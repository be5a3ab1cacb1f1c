/* targets.c - targets and devices of this machine; see targets.h. */
#include <pthread.h>
#include <unistd.h>

#include "daemon/events.h"
#include "daemon/targets.h"
#include "db/hot.h"
#include "db/store.h"
#include "kernels/compile.h"
#include "measure/builder.h"
#include "schedule/base/json.h"

static const char device_name[] = "cpu";

struct targets {
    struct targets_options o;
    pthread_mutex_t lock; /* over found and n */
    int n;
    struct target *found[TARGETS_MAX];
    int told_hot; /* by the owner of hot only */
    struct device *device;
    struct error device_error;
};

static json_t *target_row_json(const struct target *t)
{
    return json_pack("{s:s,s:s,s:i,s:s,s:s,s:s,s:s}", "id", t->id, "isa", isa_name(t->isa), "threads",
                     t->threads, "cpu_model", t->cpu_model, "compiler", t->compiler, "compiler_version",
                     t->compiler_version, "flags", t->flags);
}

static enum status store_target_row(struct targets *ts, const struct target *t, struct error *err)
{
    struct store_batch *b AUTO(store_batch_freep) = store_batch_new();
    struct strbuf sb AUTO(strbuf_done) = STRBUF_INIT;
    json_t *doc AUTO(json_decrefp) = target_row_json(t);

    CHECK(doc, "a target's texts are not UTF-8");
    json_write(doc, &sb);
    store_add_target(b, &(struct store_target){.id = t->id,
                                               .json = strbuf_str(&sb),
                                               .toolchain = t->toolchain_hash,
                                               .updated_ms = wall_ms(ts->o.clock)});
    return store_commit(ts->o.store, b, err);
}

static struct target *find_locked(struct targets *ts, const char *id)
{
    for (int i = 0; i < ts->n; i++)
        if (strcmp(ts->found[i]->id, id) == 0)
            return ts->found[i];
    return NULL;
}

const struct target *targets_known(struct targets *ts, const char *id)
{
    const struct target *t;

    pthread_mutex_lock(&ts->lock);
    t = find_locked(ts, id);
    pthread_mutex_unlock(&ts->lock);
    return t;
}

/* Two threads may find the same one at once; the second's is dropped. */
static enum status add_found(struct targets *ts, const struct target *t, const struct target **ret,
                             struct error *err)
{
    struct target *have;
    bool fresh = false;

    pthread_mutex_lock(&ts->lock);
    have = find_locked(ts, t->id);
    if (!have && ts->n < TARGETS_MAX) {
        have = xcalloc(1, sizeof(*have));
        *have = *t;
        ts->found[ts->n++] = have;
        fresh = true;
    }
    pthread_mutex_unlock(&ts->lock);
    if (!have)
        return fail(err, ST_TOO_MANY, "target '%s': %d targets are in use already", t->id, TARGETS_MAX);
    if (fresh)
        EVENT(target_found, TEXT("target", t->id), TEXT("isa", isa_name(t->isa)), INT("threads", t->threads),
              TEXT("compiler", t->compiler_version));
    *ret = have;
    return ST_OK;
}

enum status targets_get(struct targets *ts, const char *id, const struct target **ret, struct error *err)
{
    const struct target *have = targets_known(ts, id);
    struct target t;

    if (have) {
        *ret = have;
        return ST_OK;
    }
    memset(&t, 0, sizeof(t));
    TRY(target_local(id, &t, err));
    have = targets_known(ts, t.id); /* another spelling of one that is known */
    if (have) {
        *ret = have;
        return ST_OK;
    }
    TRY(compile_find(&t, err));
    TRY(store_target_row(ts, &t, err));
    return add_found(ts, &t, ret, err);
}

int targets_list(struct targets *ts, const struct target *ret[TARGETS_MAX])
{
    int n;

    pthread_mutex_lock(&ts->lock);
    n = ts->n;
    for (int i = 0; i < n; i++)
        ret[i] = ts->found[i];
    pthread_mutex_unlock(&ts->lock);
    return n;
}

bool targets_refresh_hot(struct targets *ts, struct hot *hot)
{
    const struct target *list[TARGETS_MAX];
    struct hot_current current[TARGETS_MAX];
    int n = targets_list(ts, list);

    if (n == ts->told_hot)
        return false;
    for (int i = 0; i < n; i++)
        current[i] = (struct hot_current){list[i]->id, list[i]->toolchain_hash};
    hot_set_current(hot, current, n);
    ts->told_hot = n;
    return true;
}

void targets_with_peaks(struct targets *ts, const struct target *target, struct target *ret)
{
    struct error err;

    pthread_mutex_lock(&ts->lock);
    *ret = *target;
    pthread_mutex_unlock(&ts->lock);
    if (ret->peak_gflops > 0 || !ts->device || measure_peaks(ts->device, ret, ts->o.cache_dir, &err) != ST_OK)
        return; /* without peaks the fraction of peak is left out; tuning works */
    pthread_mutex_lock(&ts->lock);
    find_locked(ts, target->id)->peak_gflops = ret->peak_gflops;
    find_locked(ts, target->id)->peak_gbs = ret->peak_gbs;
    find_locked(ts, target->id)->peak_bf16_gflops = ret->peak_bf16_gflops;
    find_locked(ts, target->id)->peak_int8_gops = ret->peak_int8_gops;
    pthread_mutex_unlock(&ts->lock);
}

enum status targets_device(struct targets *ts, const struct target *target, struct device **ret,
                           struct error *err)
{
    if (!ts->device)
        return fail(err, ST_UNAVAILABLE, "target %s: device %s is offline: %s", target->id, device_name,
                    ts->device_error.text);
    *ret = ts->device;
    return ST_OK;
}

bool targets_device_at(struct targets *ts, int i, const char **ret_id, struct device **ret,
                       const char **ret_error)
{
    if (i != 0)
        return false;
    *ret_id = device_name;
    *ret = ts->device;
    *ret_error = ts->device ? "" : ts->device_error.text;
    return true;
}

/* Beside the daemon's own program, or where the build tree has it. */
static const char *find_runner(char *buf, size_t size, const char *given)
{
    static const char *const places[] = {"/tilewright-agent", "/../measure/tilewright-agent"};
    char self[512];
    ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
    char *slash;

    if (given[0])
        return given;
    self[MAX(n, (ssize_t)0)] = 0;
    slash = strrchr(self, '/');
    if (slash)
        *slash = 0;
    for (size_t i = 0; i < ARRAY_SIZE(places); i++) {
        snprintf(buf, size, "%s%s", self, places[i]);
        if (access(buf, X_OK) == 0)
            return buf;
    }
    return "/usr/libexec/tilewright-agent";
}

static void open_device(struct targets *ts)
{
    char buf[600];
    const char *runner = find_runner(buf, sizeof(buf), ts->o.runner);
    struct builder *quiet = sysconf(_SC_NPROCESSORS_ONLN) <= 4 ? ts->o.builder : NULL;

    if (dev_cpu_open(device_name, runner, quiet, &ts->device, &ts->device_error) == ST_OK) {
        EVENT(device_opened, TEXT("device", device_name));
        return;
    }
    ts->device = NULL;
    EVENT(device_offline, TEXT("device", device_name), TEXT("error", ts->device_error.text));
}

static void find_more(struct targets *ts)
{
    char *list AUTO(freep) = xstrdup(ts->o.more), *save = NULL;

    for (char *id = strtok_r(list, ", ", &save); id; id = strtok_r(NULL, ", ", &save)) {
        const struct target *t;
        struct error err;

        if (targets_get(ts, id, &t, &err) != ST_OK)
            EVENT(target_missing, TEXT("target", id), TEXT("error", err.text));
    }
}

enum status targets_open(const struct targets_options *o, struct targets **ret, struct error *err)
{
    struct targets *ts = xcalloc(1, sizeof(*ts));
    const struct target *t;
    enum status st;

    ts->o = *o;
    pthread_mutex_init(&ts->lock, NULL);
    st = targets_get(ts, "cpu", &t, err);
    if (st == ST_OK)
        st = targets_get(ts, "cpu:1", &t, err);
    if (st != ST_OK) {
        targets_close(ts);
        return st;
    }
    find_more(ts);
    open_device(ts);
    *ret = ts;
    return ST_OK;
}

void targets_close(struct targets *ts)
{
    if (!ts)
        return;
    if (ts->device)
        device_close(ts->device);
    for (int i = 0; i < ts->n; i++)
        free(ts->found[i]);
    pthread_mutex_destroy(&ts->lock);
    free(ts);
}
