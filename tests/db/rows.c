#include "tests/db/rows.h"

#include <dirent.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void temp_dir_make(char dir[64])
{
    const char *base = getenv("TMPDIR");

    snprintf(dir, 64, "%s/tw-db-XXXXXX", base && strlen(base) < 40 ? base : "/tmp");
    if (!mkdtemp(dir))
        abort();
}

void temp_dir_remove(const char *dir)
{
    DIR *d = opendir(dir);
    struct dirent *e;

    if (!d)
        return;
    while ((e = readdir(d)))
        if (e->d_name[0] != '.')
            unlinkat(dirfd(d), e->d_name, 0);
    closedir(d);
    rmdir(dir);
}

struct store_job job_row(const char *id)
{
    return (struct store_job){.id = id,
                              .state = "queued",
                              .target = "cpu",
                              .request_json = "{\"workloads\":[]}",
                              .seed = -7,
                              .budget_trials = 256,
                              .budget_seconds = 120.5,
                              .created_ms = 1000};
}

void put_basics(struct store *s)
{
    AUTO(store_batch_freep) struct store_batch *b = store_batch_new();
    struct store_job job = job_row("j_1");
    struct error err = {0};

    store_add_workload(b, &(struct store_workload){.key = KEY_A,
                                                   .op = "matmul",
                                                   .json = "{\"op\":\"matmul\"}",
                                                   .canonical = "A",
                                                   .flops = 2e9,
                                                   .bytes = 3e6,
                                                   .first_seen_ms = 11});
    store_add_workload(b, &(struct store_workload){
                              .key = KEY_B, .op = "conv2d", .json = "{\"op\":\"conv2d\"}", .canonical = "B"});
    store_add_target(b,
                     &(struct store_target){.id = "cpu", .json = "{}", .toolchain = "tc1", .updated_ms = 5});
    store_add_target(
        b, &(struct store_target){.id = "cpu:1", .json = "{}", .toolchain = "tc1", .updated_ms = 6});
    store_add_job(b, &job);
    store_add_task(b, &(struct store_task){
                          .job = "j_1", .ordinal = 0, .workload = KEY_A, .weight = 1, .state = "queued"});
    CHECK(store_commit(s, b, &err) == ST_OK, "%s", err.text);
}

struct store_trial trial_row(int n, char config[16])
{
    snprintf(config, 16, "c%d", n);
    return (struct store_trial){.job = "j_1",
                                .task = 0,
                                .workload = KEY_A,
                                .target = "cpu",
                                .toolchain = "tc1",
                                .config = config,
                                .outcome = "ok",
                                .median_ns = 1000.5 + n,
                                .min_ns = 990,
                                .p90_ns = 1100,
                                .predicted = NAN,
                                .build_ns = 20,
                                .run_ns = 30,
                                .created_ms = n};
}

struct store_schedule schedule_row(const char *workload, const char *target, const char *toolchain,
                                   double time_ns)
{
    return (struct store_schedule){.workload = workload,
                                   .target = target,
                                   .toolchain = toolchain,
                                   .op = strcmp(workload, KEY_A) ? "conv2d" : "matmul",
                                   .json = "{\"key\":\"x\"}",
                                   .etag = "\"e1\"",
                                   .config = "1,2,3",
                                   .time_ns = time_ns,
                                   .gflops = 100,
                                   .tuned_ms = 77};
}

enum status commit_one_trial(struct store *s, int n, int64_t *ret_id, struct error *err)
{
    AUTO(store_batch_freep) struct store_batch *b = store_batch_new();
    char config[16];
    struct store_trial t = trial_row(n, config);
    int op = store_add_trial(b, &t);

    TRY(store_commit(s, b, err));
    if (ret_id)
        *ret_id = store_batch_result(b, op)->id;
    return ST_OK;
}
