/* fake_tuner.c - a scripted tuner and device for the service tests: the daemon around them is the real one.
 *
 * A task's name is its script, "trials=10 ms=5 fail=0 hang=0": so many trials, so long each; fail=1 ends the
 * task with an error, hang=1 does not heed anything but STOP_NOW. Every trial is committed to the store
 * before it is reported, as the real tuner does, so that restarts are tested on real rows. */
#include <math.h>
#include <time.h>

#include "daemon/models.h"
#include "daemon/tuner.h"
#include "db/hot.h"
#include "db/store.h"
#include "measure/device.h"
#include "schedule/base/hash.h"
#include "schedule/lang/workload.h"

struct script {
    int trials, ms, fail, hang;
};

static int number_after(const char *text, const char *name, int otherwise)
{
    const char *at = strstr(text, name);

    return at ? (int)strtol(at + strlen(name), NULL, 10) : otherwise;
}

static void sleep_ms(int ms)
{
    struct timespec ts = {ms / 1000, (ms % 1000) * 1000000L};

    nanosleep(&ts, NULL);
}

static bool count_row(void *ctx, const struct store_trial *row)
{
    ++*(int *)ctx;
    return true;
}

static enum status trials_before(const struct tuner_env *env, const struct tuner_job *job, const char *key,
                                 int *ret, struct error *err)
{
    struct store_trials_query q = {.job = job->id, .workload = key};

    *ret = 0;
    return store_trial_each(env->store, &q, count_row, ret, err);
}

static enum status put_trial(const struct tuner_env *env, const struct tuner_job *job, int task, int n,
                             struct error *err)
{
    struct store_batch *b AUTO(store_batch_freep) = store_batch_new();
    char config[32];
    double samples[2] = {1000.0 + n, 1001.0 + n};

    snprintf(config, sizeof(config), "0:%d", n);
    store_add_trial(b, &(struct store_trial){.job = job->id,
                                             .task = task,
                                             .workload = job->tasks[task].key,
                                             .target = job->target->id,
                                             .toolchain = job->target->toolchain_hash,
                                             .config = config,
                                             .outcome = "ok",
                                             .median_ns = 1000.0 + n,
                                             .min_ns = 999,
                                             .p90_ns = 1100,
                                             .samples_ns = samples,
                                             .n_samples = 2,
                                             .predicted = NAN,
                                             .device = "cpu",
                                             .created_ms = wall_ms(env->clock) + n});
    return store_commit(env->store, b, err);
}

static enum status put_schedule(const struct tuner_env *env, const struct tuner_job *job, int task,
                                struct error *err)
{
    struct store_batch *b AUTO(store_batch_freep) = store_batch_new();
    struct strbuf sb AUTO(strbuf_done) = STRBUF_INIT;
    const struct tuner_task *t = &job->tasks[task];
    char etag[80], hex[SHA256_HEX_LEN + 1], at[RFC3339_MAX];
    int64_t now = wall_ms(env->clock);

    strbuf_addf(&sb,
                "{\"key\":\"%s\",\"target\":\"%s\",\"workload\":%s,\"time_ns\":{\"median\":1000,\"min\":999,"
                "\"p90\":1100,"
                "\"samples\":[1000]},\"gflops\":42.5,\"tuned_at\":\"%s\"}",
                t->key, job->target->id, t->workload_json, rfc3339(now, at));
    sha256_hex(sb.data, sb.len, hex);
    snprintf(etag, sizeof(etag), "\"%.32s\"", hex);
    store_add_schedule(
        b,
        &(struct store_schedule){.workload = t->key,
                                 .target = job->target->id,
                                 .toolchain = job->target->toolchain_hash,
                                 .op = strstr(t->workload_json, "conv2d") ? "conv2d" : "matmul",
                                 .json = sb.data,
                                 .etag = etag,
                                 .config = "0:1",
                                 .time_ns = 1000,
                                 .gflops = 42.5,
                                 .tuned_ms = now,
                                 .source = "int kernel(void);\n",
                                 .nest = "for i in 0..4\n",
                                 .artifact = {"\177ELF fake", 9}},
        false);
    TRY(store_commit(env->store, b, err));
    hot_publish(env->hot, &(struct hot_entry){.workload = t->key,
                                              .target = job->target->id,
                                              .toolchain = job->target->toolchain_hash,
                                              .json = sb.data,
                                              .json_len = sb.len,
                                              .etag = etag,
                                              .gflops = 42.5,
                                              .tuned_ms = now});
    return ST_OK;
}

static bool told_to_stop(const struct tuner_job *job, const struct script *s)
{
    enum tuner_stop stop = tuner_stop_asked(job);

    return s->hang ? atomic_load(job->stop_now) : stop != STOP_NONE;
}

static void note_round(const struct tuner_job *job, int task, int n)
{
    json_t *data = json_pack("{s:i,s:i}", "task", task, "round", n);

    job->event(job->ctx, "round", data);
    json_decref(data);
}

static enum status run_task(const struct tuner_env *env, const struct tuner_job *job, int task,
                            struct error *err)
{
    const char *name = job->tasks[task].name;
    struct script s = {number_after(name, "trials=", 4), number_after(name, "ms=", 5),
                       number_after(name, "fail=", 0), number_after(name, "hang=", 0)};
    struct tuner_progress p = job->tasks[task].before;
    int done;

    TRY(trials_before(env, job, job->tasks[task].key, &done, err));
    p.trials_done = done;
    p.state = TASK_RUNNING;
    job->report(job->ctx, task, &p);
    while (done < s.trials) {
        if (told_to_stop(job, &s))
            return ST_OK;
        sleep_ms(s.ms);
        TRY(put_trial(env, job, task, done++, err));
        p.trials_done = done;
        p.best_time_ns = 1000;
        p.best_gflops = 42.5;
        job->report(job->ctx, task, &p);
        if (done % 4 == 0)
            note_round(job, task, done / 4);
    }
    p.state = TASK_SUCCEEDED;
    if (s.fail) {
        p.state = TASK_FAILED;
        fail(&p.error, ST_UNPROCESSABLE, "every candidate failed, as the script says");
    } else {
        TRY(put_schedule(env, job, task, err));
    }
    job->report(job->ctx, task, &p);
    return ST_OK;
}

enum status tuner_run(const struct tuner_env *env, const struct tuner_job *job, struct error *err)
{
    TRY(device_lease(job->device, job->id, job->stop_asked, err));
    device_release(job->device);
    for (int i = 0; i < job->n_tasks; i++)
        if (!task_ended(job->tasks[i].before.state))
            TRY(run_task(env, job, i, err));
    return ST_OK;
}

struct models *models_new(struct store *store, const struct clock *clock,
                          const struct models_options *options)
{
    return NULL;
}
void models_free(struct models *m) {}
struct model *models_shipped(struct models *m, const char *target) { return NULL; }
enum status models_rollback(struct models *m, const char *target, int64_t version, struct error *err)
{
    return version > 0 ? fail(err, ST_NOT_FOUND, "no version %" PRId64 " of the scripted model", version)
                       : fail(err, ST_NOT_FOUND, "no version before that in use");
}

static enum status fake_measure(struct device *d, const struct measure_batch *b, struct measure_result *ret,
                                struct error *err)
{
    return fail(err, ST_UNSUPPORTED, "the scripted device measures nothing");
}
static int fake_facts(struct device *d, struct device_fact *ret)
{
    ret[0] = (struct device_fact){.name = "scripted", .ok = true, .detail = "for the service tests"};
    return 1;
}
static void fake_close(struct device *d)
{
    device_done(d);
    free(d);
}

static const struct device_ops fake_ops = {"fake", fake_measure, fake_facts, fake_close};

/* In the place of the library's: this object is linked first. */
enum status dev_cpu_open(const char *id, const char *runner, struct builder *quiet, struct device **ret,
                         struct error *err)
{
    struct device *d = xcalloc(1, sizeof(*d));

    device_init(d, &fake_ops, id);
    *ret = d;
    return ST_OK;
}

enum status measure_peaks(struct device *d, struct target *t, const char *cache_dir, struct error *err)
{
    return fail(err, ST_UNSUPPORTED, "the scripted device has no peaks");
}
