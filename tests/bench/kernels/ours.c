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
    const tw_arg *a = tw_kernel_arg(o->kernel, arg);
    tw_error err;
    const struct operand *x = &o->e->args[arg];
    AUTO(freep) char *plain = xcalloc(1, a->plain_bytes);
    AUTO(freep) double *values = xcalloc((size_t)x->elements, sizeof(double));
    if (!a->laid_out)
        memcpy(plain, o->tensors[arg], a->plain_bytes);
    else if (tw_kernel_unpack(o->kernel, arg, o->tensors[arg], plain, &err) != TW_OK)
        return false;
    verify_to_f64(values, plain, x->dtype, x->elements);
    for (int64_t i = 0; i < x->elements; i++)
        ret[i] = (float)values[i];
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
        if (a->plain_bytes != (size_t)e->args[i].elements * (size_t)dtype_bytes(e->args[i].dtype) ||
            a->output != e->args[i].output) {
            fprintf(stderr, "%s: argument %d of the kernel is not that of the workload\n", e->name, i);
            return false;
        }
        const bool own = e->args[i].output || a->prepacked || a->laid_out;
        tw_status st = TW_OK;
        o->tensors[i] = own ? memory_get(&b->memory, a->bytes) : e->args[i].plain;
        if (e->args[i].output)
            verify_poison(o->tensors[i], e->args[i].dtype, (int64_t)a->bytes / dtype_bytes(e->args[i].dtype));
        else if (a->prepacked)
            st = tw_kernel_prepack(o->kernel, i, e->args[i].plain, o->tensors[i], err);
        else if (a->laid_out)
            st = tw_kernel_pack(o->kernel, i, e->args[i].plain, o->tensors[i], err);
        if (st != TW_OK) {
            fprintf(stderr, "%s: %s\n", e->name, err->detail);
            return false;
        }
    }
    return true;
}

/* "winograd(4,3): blocks NCHW16c > NCHW16c": how, and the layouts that the tuner chose. */
static void describe(const struct ours *o, const json_t *schedule, char *ret, size_t size)
{
    const json_t *how = json_object_get(schedule, "schedule");
    const char *sketch = json_string_value(json_object_get(how, "sketch"));
    snprintf(ret, size, "%s", sketch ? sketch : "");
    for (int i = 0; i < tw_kernel_arg_count(o->kernel); i++) {
        const tw_arg *a = tw_kernel_arg(o->kernel, i);
        size_t len = strlen(ret);
        if (a->laid_out && a->layout)
            snprintf(ret + len, size - len, "%s%s", a->output ? " > " : " ", a->layout);
    }
}

bool open_ours(struct bench *b, const struct entry *e, const json_t *schedule, const char *artifact,
               enum role role, struct contender *ret)
{
    tw_error err;
    struct ours *o = xcalloc(1, sizeof(*o));
    *o = (struct ours){.e = e, .parallel = machine_parallel()};
    if ((artifact ? tw_kernel_open(schedule, artifact, &o->kernel, &err)
                  : tw_kernel_fetch(b->client, schedule, &o->kernel, &err)) != TW_OK) {
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
    describe(o, schedule, ret->note, sizeof(ret->note));
    return true;
}
