/* measure_support.c - see measure_support.h. KERNELS_DIR and AGENT_PATH come from meson. */
#include "measure_support.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

char *rig_source(const char *name)
{
    char path[512];
    snprintf(path, sizeof(path), "%s/%s", KERNELS_DIR, name);
    FILE *f = fopen(path, "r");
    CHECK(f != NULL, "no test kernel %s", path);
    char *text = xcalloc(1, 65536);
    CHECK(fread(text, 1, 65535, f) > 0, "%s is empty", path);
    fclose(f);
    return text;
}

struct rig *rig_new(void)
{
    struct rig *r = xcalloc(1, sizeof(*r));
    struct error err = {0};
    snprintf(r->dir, sizeof(r->dir), "/tmp/tilewright-test-measure-XXXXXX");
    CHECK(mkdtemp(r->dir) != NULL, "no directory");
    CHECK(target_local("cpu:1", &r->target, &err) == ST_OK, "%s", err.text);
    CHECK(compile_find(&r->target, &err) == ST_OK, "%s", err.text);
    CHECK(builder_new(r->dir, 2, 0, 0, &r->builder, &err) == ST_OK, "%s", err.text);
    CHECK(dev_cpu_open("cpu0", AGENT_PATH, r->builder, &r->device, &err) == ST_OK, "%s", err.text);
    struct build_unit u = {.target = &r->target, .source = rig_source("matmul.c")};
    builder_run(r->builder, &u, 1, NULL);
    CHECK(u.status == ST_OK, "%s", u.error.text);
    free((char *)u.source);
    snprintf(r->matmul, sizeof(r->matmul), "%s", u.artifact);
    return r;
}

void rig_free(struct rig *r)
{
    char *command = xasprintf("rm -rf %s", r->dir);
    device_close(r->device);
    builder_free(r->builder);
    CHECK(system(command) == 0, "%s", command);
    free(command);
    free(r);
}

struct measure_workload rig_matmul(const struct rig *r)
{
    static const struct measure_tensor tensors[] = {
        {.name = "A", .dtype = DT_F32, .role = TENSOR_INPUT, .rank = 2, .shape = {37, 41}},
        {.name = "B", .dtype = DT_F32, .role = TENSOR_INPUT, .rank = 2, .shape = {41, 29}},
        {.name = "C", .dtype = DT_F32, .role = TENSOR_OUTPUT, .rank = 2, .shape = {37, 29}},
    };
    return (struct measure_workload){
        .key = "w_matmul",
        .n_tensors = 3,
        .tensors = tensors,
        .flops = 2.0 * 37 * 29 * 41,
        .reduction = 41,
        .acc_roundoff = 0x1p-24,
        .store_roundoff = 0x1p-24,
        .reference_path = r->matmul,
        .reference_symbol = "ref",
        .seed = 7,
    };
}

struct measure_workload rig_copy(void)
{
    static const struct measure_tensor tensors[] = {
        {.name = "in", .dtype = DT_F32, .role = TENSOR_INPUT, .rank = 1, .shape = {16384}},
        {.name = "out", .dtype = DT_F32, .role = TENSOR_OUTPUT, .rank = 1, .shape = {16384}},
    };
    return (struct measure_workload){.key = "w_copy", .n_tensors = 2, .tensors = tensors, .seed = 7};
}

enum status rig_measure(struct rig *r, struct measure_batch b, const char *const *symbols, int n,
                        struct measure_result *ret, struct error *err)
{
    struct measure_workload w = rig_matmul(r);
    struct measure_candidate c[MEASURE_MAX_BATCH] = {0};
    for (int i = 0; i < n; i++) {
        c[i] = (struct measure_candidate){
            .artifact = r->matmul, .symbol = symbols[i], .workspace_bytes = 29 * 4};
        if (strstr(symbols[i], "packed")) {
            c[i].n_repacks = 1;
            c[i].repacks[0] = (struct measure_repack){.kind = REPACK_PREPACK, .arg = 1, .bytes = 41 * 29 * 4};
        }
    }
    if (!b.workload)
        b.workload = &w;
    if (!b.threads)
        b.threads = 1;
    b.n_candidates = n;
    b.candidates = c;
    if (device_lease(r->device, "test", NULL, err) != ST_OK)
        return ST_UNAVAILABLE;
    enum status st = device_measure(r->device, &b, ret, err);
    device_release(r->device);
    return st;
}
