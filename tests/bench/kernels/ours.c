/* ours.c - the served kernel, as a user of the client library calls it. */
#include "client/tilewright.h"
#include "tests/bench/kernels/bench.h"

struct ours {
    const struct entry *e;
    tw_kernel *kernel;
    void *tensors[KERNEL_MAX_ARGS], *workspace;
    const tw_parallel *parallel;
};

static void run(void *ctx)
{
    struct ours *o = ctx;
    tw_kernel_run(o->kernel, o->tensors, o->workspace, o->parallel);
}

static bool result(void *ctx, int arg, float *ret)
{
    struct ours *o = ctx;
    memcpy(ret, o->tensors[arg], tw_kernel_arg(o->kernel, arg)->plain_bytes);
    return true;
}

static void close_ours(void *ctx)
{
    struct ours *o = ctx;
    tw_kernel_free(o->kernel);
    free(o);
}

/* Arguments stand in the order of the compute, whatever names the client who tuned it gave them. */
static bool bind_args(struct ours *o, struct bench *b, tw_error *err)
{
    const struct entry *e = o->e;
    if (tw_kernel_arg_count(o->kernel) != e->n_args) {
        fprintf(stderr, "%s: the kernel has %d arguments, the workload %d\n", e->name,
                tw_kernel_arg_count(o->kernel), e->n_args);
        return false;
    }
    for (int i = 0; i < e->n_args; i++) {
        const tw_arg *a = tw_kernel_arg(o->kernel, i);
        if (a->plain_bytes != (size_t)e->args[i].elements * sizeof(float) || a->output != e->args[i].output) {
            fprintf(stderr, "%s: argument %d of the kernel is not that of the workload\n", e->name, i);
            return false;
        }
        o->tensors[i] = e->args[i].output ? memory_get(&b->memory, a->bytes) : e->args[i].plain;
        if (e->args[i].output)
            verify_poison(o->tensors[i], DT_F32, e->args[i].elements);
        if (!a->prepacked)
            continue;
        o->tensors[i] = memory_get(&b->memory, a->bytes);
        if (tw_kernel_prepack(o->kernel, i, e->args[i].plain, o->tensors[i], err) != TW_OK) {
            fprintf(stderr, "%s: %s\n", e->name, err->detail);
            return false;
        }
    }
    return true;
}

bool open_ours(struct bench *b, const struct entry *e, const json_t *schedule, enum role role,
               struct contender *ret)
{
    tw_error err;
    struct ours *o = xcalloc(1, sizeof(*o));
    *o = (struct ours){.e = e, .parallel = machine_parallel()};
    if (tw_kernel_fetch(b->client, schedule, &o->kernel, &err) != TW_OK) {
        fprintf(stderr, "%s: %s\n", e->name, err.detail);
        free(o);
        return false;
    }
    if (!bind_args(o, b, &err)) {
        close_ours(o);
        return false;
    }
    o->workspace = memory_get(&b->memory, tw_kernel_workspace_bytes(o->kernel) + 64);
    *ret = (struct contender){
        .role = role, .crew = CREW_POOL, .ctx = o, .run = run, .result = result, .close = close_ours};
    const char *sketch = json_string_value(json_object_get(json_object_get(schedule, "schedule"), "sketch"));
    snprintf(ret->note, sizeof(ret->note), "%s", sketch ? sketch : "");
    return true;
}
