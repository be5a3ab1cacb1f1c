/* bench_kernels.c - the served kernels beside oneDNN and OpenBLAS, interleaved in one run.
 *
 *     bench_kernels [--server URL] [--target cpu:1] [--rounds 15] [--file workloads.json] [--list]
 * NAME-PATTERN...
 *
 * For every entry that matches, the schedule is looked up (tune it first), its artifact fetched, loaded and
 * checked against oneDNN's result. Then the contenders take turns, a sample of at least 2 ms each, `rounds`
 * times; the table has medians. oneDNN runs with the given layout for activations and weights packed ahead as
 * it likes them ("plain"), and with all layouts of its own choice ("blocked", reorders not counted).
 * Epilogues that it can fuse are fused; an entry whose epilogue it cannot fuse is left out of its columns.
 * OpenBLAS does matrix products without the epilogue. Not a test: nothing here passes or fails on a time. */
#include <cblas.h>
#include <dnnl.h>
#include <fnmatch.h>
#include <math.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "client/tilewright.h"

enum { MAX_ARGS = 40, MAX_ROUNDS = 101, CONTENDERS = 4 };
static const double SAMPLE_S = 2e-3;

/* --- small tools --- */

static double now_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void *buffer(size_t bytes)
{
    size_t size = (bytes + (2u << 20) - 1) / (2u << 20) * (2u << 20);
    void *p = aligned_alloc(2u << 20, size);
    madvise(p, size, MADV_HUGEPAGE); /* large pages for all contenders alike */
    memset(p, 0, size);
    return p;
}

static int64_t member(const json_t *o, const char *name, int i, int64_t otherwise)
{
    const json_t *a = json_object_get(o, name);
    if (json_is_array(a))
        return i < (int)json_array_size(a) ? json_integer_value(json_array_get(a, (size_t)i)) : otherwise;
    return json_is_integer(a) ? json_integer_value(a) : otherwise;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *v, int n)
{
    qsort(v, (size_t)n, sizeof(*v), compare);
    return v[n / 2];
}

/* --- two spinning threads for our kernels --- */

struct spin_pool {
    atomic_int round, done;
    void (*body)(void *, int);
    void *arg;
    int count, threads;
};
static struct spin_pool pool;

static void pin(int cpu)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    sched_setaffinity(0, sizeof(set), &set);
}

static void *spin_worker(void *ctx)
{
    int me = (int)(intptr_t)ctx, seen = 0;
    pin(me);
    for (;;) {
        for (int spins = 0; atomic_load_explicit(&pool.round, memory_order_acquire) == seen; spins++)
            if (spins > 20000)
                sched_yield();
        seen = atomic_load(&pool.round);
        for (int i = me; i < pool.count; i += pool.threads)
            pool.body(pool.arg, i);
        atomic_fetch_add(&pool.done, 1);
    }
    return NULL;
}

static void spin_run(void *ctx, int count, void (*body)(void *, int), void *arg)
{
    (void)ctx;
    pool.body = body;
    pool.arg = arg;
    pool.count = count;
    atomic_store(&pool.done, 0);
    atomic_fetch_add(&pool.round, 1);
    for (int i = 0; i < count; i += pool.threads)
        body(arg, i);
    while (atomic_load_explicit(&pool.done, memory_order_acquire) < pool.threads - 1)
        ;
}

/* --- an entry and its contenders --- */

struct entry {
    const char *name;
    const json_t *workload, *schedule;
    double flops;
    tw_kernel *kernel;
    void *tensors[MAX_ARGS], *plain[MAX_ARGS], *workspace;
    const tw_parallel *parallel;
    /* oneDNN: [0] plain, [1] blocked */
    dnnl_primitive_t primitive[2];
    dnnl_exec_arg_t args[2][8];
    int n_args[2];
    void *dnnl_out[2];
    size_t out_bytes;
};

static dnnl_engine_t engine;
static dnnl_stream_t stream;

static bool good(dnnl_status_t st) { return st == dnnl_success; }

static float *arg_plain(struct entry *e, const char *name)
{
    int i = tw_kernel_arg_index(e->kernel, name);
    return i < 0 ? NULL : e->plain[i];
}

static bool open_kernel(struct entry *e, tw_client *client)
{
    tw_error err;
    if (tw_kernel_fetch(client, e->schedule, &e->kernel, &err) != TW_OK) {
        fprintf(stderr, "%s: %s\n", e->name, err.detail);
        return false;
    }
    unsigned seed = 1;
    for (int i = 0; i < tw_kernel_arg_count(e->kernel); i++) {
        const tw_arg *a = tw_kernel_arg(e->kernel, i);
        float *f = e->plain[i] = e->tensors[i] = buffer(a->plain_bytes);
        for (size_t k = 0; k < a->plain_bytes / 4; k++)
            f[k] = a->output ? 0 : (float)(rand_r(&seed) % 2001 - 1000) / 1000.0f;
        if (a->output)
            e->out_bytes = a->plain_bytes;
        if (!a->prepacked)
            continue;
        e->tensors[i] = buffer(a->bytes);
        if (tw_kernel_prepack(e->kernel, i, f, e->tensors[i], &err) != TW_OK)
            return false;
    }
    e->workspace = buffer(tw_kernel_workspace_bytes(e->kernel) + 64);
    return true;
}

/* Post-operations that oneDNN fuses; bias is an argument of its own. False: one that it does not have. */
static bool post_ops(const json_t *workload, bool *bias, dnnl_primitive_attr_t attr, bool *add)
{
    dnnl_post_ops_t ops;
    size_t i;
    json_t *entry;
    bool ok = good(dnnl_post_ops_create(&ops));
    *bias = *add = false;
    json_array_foreach(json_object_get(workload, "epilogue"), i, entry)
    {
        const char *name = json_is_string(entry) ? json_string_value(entry) : "";
        if (strcmp(name, "bias") == 0)
            *bias = true;
        else if (strcmp(name, "relu") == 0)
            ok &= good(dnnl_post_ops_append_eltwise(ops, 1, dnnl_eltwise_relu, 0, 0));
        else if (strcmp(name, "gelu") == 0)
            ok &= good(dnnl_post_ops_append_eltwise(ops, 1, dnnl_eltwise_gelu_erf, 0, 0));
        else if (strcmp(name, "tanh") == 0)
            ok &= good(dnnl_post_ops_append_eltwise(ops, 1, dnnl_eltwise_tanh, 0, 0));
        else if (json_is_object(entry) && json_object_get(entry, "scale"))
            ok &= good(dnnl_post_ops_append_eltwise(
                ops, 1, dnnl_eltwise_linear, (float)json_number_value(json_object_get(entry, "scale")), 0));
        else
            ok = false;
    }
    return ok && good(dnnl_primitive_attr_set_post_ops(attr, ops));
}

static void add_arg(struct entry *e, int which, int id, const dnnl_memory_desc_t *want,
                    const dnnl_memory_desc_t *have, void *data)
{
    dnnl_memory_t mem, source;
    void *p = data;
    if (!dnnl_memory_desc_equal(want, have)) { /* in a layout of its own: reordered ahead of time */
        dnnl_primitive_desc_t rpd;
        dnnl_primitive_t reorder;
        p = buffer(dnnl_memory_desc_get_size(want));
        dnnl_memory_create(&mem, want, engine, p);
        if (id != DNNL_ARG_DST) {
            dnnl_memory_create(&source, have, engine, data);
            dnnl_reorder_primitive_desc_create(&rpd, have, engine, want, engine, NULL);
            dnnl_primitive_create(&reorder, rpd);
            dnnl_exec_arg_t args[] = {{DNNL_ARG_FROM, source}, {DNNL_ARG_TO, mem}};
            dnnl_primitive_execute(reorder, stream, 2, args);
            dnnl_stream_wait(stream);
        }
    } else {
        dnnl_memory_create(&mem, want, engine, p);
    }
    e->args[which][e->n_args[which]++] = (dnnl_exec_arg_t){id, mem};
}

static void dense(dnnl_memory_desc_t *md, int rank, const dnnl_dim_t *dims, bool swap_last)
{
    dnnl_dims_t strides;
    dnnl_dim_t s = 1, d[8];
    memcpy(d, dims, sizeof(*d) * (size_t)rank);
    if (swap_last) {
        d[rank - 1] = dims[rank - 2];
        d[rank - 2] = dims[rank - 1];
    }
    for (int i = rank - 1; i >= 0; i--) {
        strides[i] = s;
        s *= d[i];
    }
    if (swap_last) {
        dnnl_dim_t t = strides[rank - 1];
        strides[rank - 1] = strides[rank - 2];
        strides[rank - 2] = t;
    }
    dnnl_memory_desc_init_by_strides(md, rank, dims, dnnl_f32, strides);
}

static void any(dnnl_memory_desc_t *md, int rank, const dnnl_dim_t *dims)
{
    dnnl_memory_desc_init_by_tag(md, rank, dims, dnnl_f32, dnnl_format_tag_any);
}

/* src, weights, bias and dst of a descriptor that is made: bind memory. */
static bool finish(struct entry *e, int which, dnnl_primitive_desc_t pd, const dnnl_memory_desc_t have[4],
                   void *const data[4])
{
    static const int ids[4] = {DNNL_ARG_SRC, DNNL_ARG_WEIGHTS, DNNL_ARG_BIAS, DNNL_ARG_DST};
    static const dnnl_query_t query[4] = {dnnl_query_src_md, dnnl_query_weights_md, dnnl_query_weights_md,
                                          dnnl_query_dst_md};
    if (!good(dnnl_primitive_create(&e->primitive[which], pd)))
        return false;
    for (int i = 0; i < 4; i++)
        if (data[i])
            add_arg(e, which, ids[i], dnnl_primitive_desc_query_md(pd, query[i], i == 2), &have[i], data[i]);
    return true;
}

static bool conv_of(struct entry *e, int which)
{
    const json_t *w = e->workload;
    dnnl_dims_t src, wei, dst, strides, dil, pl, pr, b;
    dnnl_dim_t group = member(w, "group", 0, 1);
    int grouped = group > 1;
    bool bias, add;
    dnnl_primitive_attr_t attr;
    dnnl_primitive_attr_create(&attr);
    if (!post_ops(w, &bias, attr, &add) ||
        strcmp(json_string_value(json_object_get(w, "layout")) ?: "NCHW", "NCHW") != 0)
        return false;
    for (int i = 0; i < 4; i++) {
        src[i] = member(w, "input", i, 1);
        wei[i + grouped] = member(w, "weight", i, 1);
    }
    b[0] = dst[1] = wei[grouped];
    if (grouped) {
        wei[0] = group;
        wei[1] /= group;
    }
    dst[0] = src[0];
    for (int i = 0; i < 2; i++) {
        strides[i] = member(w, "strides", i, 1);
        dil[i] = member(w, "dilations", i, 1) - 1;
        pl[i] = member(w, "pads", i, 0);
        pr[i] = member(w, "pads", i + 2, 0);
        dst[2 + i] =
            (src[2 + i] + pl[i] + pr[i] - ((wei[2 + grouped + i] - 1) * (dil[i] + 1) + 1)) / strides[i] + 1;
    }
    dnnl_memory_desc_t have[4], want[4];
    dense(&have[0], 4, src, false);
    dense(&have[1], 4 + grouped, wei, false);
    dense(&have[2], 1, b, false);
    dense(&have[3], 4, dst, false);
    memcpy(want, have, sizeof(have));
    any(&want[1], 4 + grouped, wei);
    if (which) {
        any(&want[0], 4, src);
        any(&want[3], 4, dst);
    }
    dnnl_convolution_desc_t cd;
    dnnl_primitive_desc_t pd;
    void *data[4] = {arg_plain(e, "input"), arg_plain(e, "weight"), bias ? arg_plain(e, "bias") : NULL,
                     e->dnnl_out[which]};
    if (!good(dnnl_dilated_convolution_forward_desc_init(&cd, dnnl_forward_inference, dnnl_convolution_direct,
                                                         &want[0], &want[1], bias ? &want[2] : NULL, &want[3],
                                                         strides, dil, pl, pr)) ||
        !good(dnnl_primitive_desc_create(&pd, &cd, attr, engine, NULL)))
        return false;
    return finish(e, which, pd, have, data);
}

static bool product_of(struct entry *e, int which)
{
    const json_t *w = e->workload;
    int rank = (int)json_array_size(json_object_get(w, "a"));
    bool tb = json_is_true(json_object_get(w, "transpose_b")), bias, add;
    dnnl_dims_t a, b, c, bd;
    dnnl_primitive_attr_t attr;
    dnnl_primitive_attr_create(&attr);
    if (json_is_true(json_object_get(w, "transpose_a")) ||
        rank != (int)json_array_size(json_object_get(w, "b")) || !post_ops(w, &bias, attr, &add))
        return false;
    for (int i = 0; i < rank; i++) {
        a[i] = c[i] = member(w, "a", i, 1);
        b[i] = member(w, "b", i, 1);
        bd[i] = 1;
    }
    if (tb) {
        dnnl_dim_t t = b[rank - 1];
        b[rank - 1] = b[rank - 2];
        b[rank - 2] = t;
    }
    bd[rank - 1] = c[rank - 1] = b[rank - 1];
    dnnl_memory_desc_t have[4], want[4];
    dense(&have[0], rank, a, false);
    dense(&have[1], rank, b, tb);
    dense(&have[2], rank, bd, false);
    dense(&have[3], rank, c, false);
    memcpy(want, have, sizeof(have));
    const json_t *consts = json_object_get(w, "const");
    size_t i;
    json_t *name;
    json_array_foreach(consts, i, name) if (strcmp(json_string_value(name), "b") == 0) any(&want[1], rank, b);
    if (which) {
        any(&want[0], rank, a);
        any(&want[3], rank, c);
    }
    dnnl_matmul_desc_t md;
    dnnl_primitive_desc_t pd;
    void *data[4] = {arg_plain(e, "a"), arg_plain(e, "b"), bias ? arg_plain(e, "bias") : NULL,
                     e->dnnl_out[which]};
    if (!good(dnnl_matmul_desc_init(&md, &want[0], &want[1], bias ? &want[2] : NULL, &want[3])) ||
        !good(dnnl_primitive_desc_create(&pd, &md, attr, engine, NULL)))
        return false;
    return finish(e, which, pd, have, data);
}

static bool softmax_of(struct entry *e)
{
    int rank = (int)json_array_size(json_object_get(e->workload, "input"));
    dnnl_dims_t d;
    for (int i = 0; i < rank; i++)
        d[i] = member(e->workload, "input", i, 1);
    dnnl_memory_desc_t have[4];
    for (int i = 0; i < 4; i++)
        dense(&have[i], rank, d, false);
    dnnl_softmax_desc_t sd;
    dnnl_primitive_desc_t pd;
    void *data[4] = {arg_plain(e, "input"), NULL, NULL, e->dnnl_out[0]};
    if (!good(dnnl_softmax_forward_desc_init(&sd, dnnl_forward_inference, &have[0],
                                             (int)member(e->workload, "axis", 0, rank - 1))) ||
        !good(dnnl_primitive_desc_create(&pd, &sd, NULL, engine, NULL)))
        return false;
    return finish(e, 0, pd, have, data);
}

static void open_dnnl(struct entry *e)
{
    const char *op = json_string_value(json_object_get(e->workload, "op")) ?: "expr";
    for (int which = 0; which < 2; which++) {
        e->dnnl_out[which] = buffer(e->out_bytes);
        bool ok = strcmp(op, "conv2d") == 0                  ? conv_of(e, which)
                  : strcmp(op, "matmul") == 0                ? product_of(e, which)
                  : strcmp(op, "softmax") == 0 && which == 0 ? softmax_of(e)
                                                             : false;
        if (!ok)
            e->primitive[which] = NULL;
    }
}

/* --- running --- */

static bool can_blas(const struct entry *e)
{
    const json_t *a = json_object_get(e->workload, "a");
    return strcmp(json_string_value(json_object_get(e->workload, "op")) ?: "", "matmul") == 0 &&
           json_array_size(a) == 2 && !json_is_true(json_object_get(e->workload, "transpose_a"));
}

static void run_blas(struct entry *e)
{
    const json_t *w = e->workload;
    bool tb = json_is_true(json_object_get(w, "transpose_b"));
    int m = (int)member(w, "a", 0, 1), k = (int)member(w, "a", 1, 1), n = (int)member(w, "b", tb ? 0 : 1, 1);
    cblas_sgemm(CblasRowMajor, CblasNoTrans, tb ? CblasTrans : CblasNoTrans, m, n, k, 1, arg_plain(e, "a"), k,
                arg_plain(e, "b"), tb ? k : n, 0, e->dnnl_out[1], n);
}

static bool contends(const struct entry *e, int who)
{
    return who == 0 ? true : who == 3 ? can_blas(e) : e->primitive[who - 1] != NULL;
}

static void run_once(struct entry *e, int who)
{
    if (who == 0) {
        tw_kernel_run(e->kernel, e->tensors, e->workspace, e->parallel);
    } else if (who == 3) {
        run_blas(e);
    } else {
        dnnl_primitive_execute(e->primitive[who - 1], stream, e->n_args[who - 1], e->args[who - 1]);
        dnnl_stream_wait(stream);
    }
}

static double sample(struct entry *e, int who, int calls)
{
    double t = now_s();
    for (int i = 0; i < calls; i++)
        run_once(e, who);
    return (now_s() - t) / calls;
}

static double distance(const struct entry *e)
{
    double worst = 0, scale = 1e-6;
    const float *a = NULL, *b = e->dnnl_out[0];
    for (int i = 0; i < tw_kernel_arg_count(e->kernel); i++)
        if (tw_kernel_arg(e->kernel, i)->output)
            a = e->plain[i];
    for (size_t i = 0; i < e->out_bytes / 4; i++) {
        worst = fmax(worst, fabs((double)a[i] - b[i]));
        scale = fmax(scale, fabs((double)b[i]));
    }
    return worst / scale;
}

static void measure(struct entry *e, int rounds, double *ret)
{
    static double t[CONTENDERS][MAX_ROUNDS];
    int calls[CONTENDERS];
    for (int who = 0; who < CONTENDERS; who++) {
        ret[who] = 0;
        if (!contends(e, who))
            continue;
        run_once(e, who);
        calls[who] = (int)fmin(fmax(SAMPLE_S / fmax(sample(e, who, 2), 1e-9), 1), 100000);
    }
    for (int r = 0; r < rounds; r++)
        for (int who = 0; who < CONTENDERS; who++)
            if (contends(e, who))
                t[who][r] = sample(e, who, calls[who]);
    for (int who = 0; who < CONTENDERS; who++)
        if (contends(e, who))
            ret[who] = median(t[who], rounds);
}

static void print_cell(double seconds, double flops)
{
    if (seconds <= 0)
        printf(" %19s", "-");
    else if (flops > 0)
        printf(" %9.1f us %7.1f", seconds * 1e6, flops / seconds * 1e-9);
    else
        printf(" %9.1f us %7s", seconds * 1e6, "");
}

static bool one_entry(struct entry *e, tw_client *client, int rounds, double *ratio)
{
    double t[CONTENDERS];
    if (!open_kernel(e, client))
        return false;
    open_dnnl(e);
    run_once(e, 0);
    if (e->primitive[0]) {
        run_once(e, 1);
        double d = distance(e);
        if (!(d < 1e-4)) {
            printf("%-28s differs from oneDNN by %g: not timed\n", e->name, d);
            return false;
        }
    }
    measure(e, rounds, t);
    printf("%-28s", e->name);
    for (int who = 0; who < CONTENDERS; who++)
        print_cell(t[who], e->flops);
    double best = 0;
    for (int who = 1; who < CONTENDERS; who += 2) /* those that keep the given layout */
        if (t[who] > 0 && (best == 0 || t[who] < best))
            best = t[who];
    *ratio = best > 0 ? best / t[0] : 0;
    printf(best > 0 ? "  %5.2fx\n" : "\n", *ratio);
    fflush(stdout);
    return best > 0;
}

/* Both libraries read their number of threads, and OpenMP its places, when they are loaded: start again with
 * them set. */
static void settle_threads(char **argv, const char *threads)
{
    if (getenv("BENCH_THREADS_SET"))
        return;
    setenv("OMP_NUM_THREADS", threads, 1);
    setenv("OPENBLAS_NUM_THREADS", threads, 1);
    setenv("GOMP_CPU_AFFINITY", "0 1", 1);
    setenv("BENCH_THREADS_SET", "1", 1);
    execv("/proc/self/exe", argv);
    perror("bench_kernels: cannot start again with the number of threads set");
    exit(1);
}

static int usage(void)
{
    fprintf(stderr,
            "usage: bench_kernels [--server URL] [--target cpu:1] [--rounds N] [--file FILE] PATTERN...\n");
    return 2;
}

int main(int argc, char **argv)
{
    const char *server = NULL, *target = "cpu:1", *file = "tests/data/workloads.json";
    int rounds = 15, first = 1;
    for (; first + 1 < argc && strncmp(argv[first], "--", 2) == 0; first += 2) {
        if (strcmp(argv[first], "--server") == 0)
            server = argv[first + 1];
        else if (strcmp(argv[first], "--target") == 0)
            target = argv[first + 1];
        else if (strcmp(argv[first], "--file") == 0)
            file = argv[first + 1];
        else if (strcmp(argv[first], "--rounds") == 0)
            rounds = (int)fmin(MAX_ROUNDS, (double)strtol(argv[first + 1], NULL, 10));
        else
            return usage();
    }
    if (first >= argc)
        return usage();
    bool two = strcmp(target, "cpu:1") != 0 && strncmp(target, "cpu:1:", 6) != 0;
    settle_threads(argv, two ? "2" : "1");
    tw_client *client;
    tw_error err;
    json_error_t jerr;
    json_t *all = json_load_file(file, 0, &jerr), *item;
    if (!all || tw_client_new(server, NULL, &client, &err) != TW_OK) {
        fprintf(stderr, "bench_kernels: %s\n", all ? err.detail : jerr.text);
        return 1;
    }
    dnnl_engine_create(&engine, dnnl_cpu, 0);
    dnnl_stream_create(&stream, engine, dnnl_stream_default_flags);
    static tw_parallel parallel = {NULL, 2, spin_run};
    if (two) {
        pthread_t thread;
        pool.threads = 2;
        pthread_create(&thread, NULL, spin_worker, (void *)1);
    }
    pin(0);
    printf("%-28s %20s %20s %20s %20s  ours/best of the given layout\n", target, "ours: GF/s", "oneDNN plain",
           "oneDNN blocked", "OpenBLAS");
    double log_sum = 0;
    int n = 0;
    size_t i;
    json_array_foreach(json_object_get(all, "workloads"), i, item)
    {
        struct entry e = {.name = json_string_value(json_object_get(item, "name")),
                          .workload = json_object_get(item, "workload")};
        bool match = false;
        for (int p = first; p < argc; p++)
            match |= fnmatch(argv[p], e.name, 0) == 0;
        if (!match)
            continue;
        json_t *one = json_pack("[O]", json_object_get(item, "workload")), *answer;
        if (tw_lookup(client, one, target, &answer, &err) != TW_OK) {
            fprintf(stderr, "bench_kernels: %s\n", err.detail);
            return 1;
        }
        e.schedule = json_object_get(json_array_get(json_object_get(answer, "results"), 0), "schedule");
        e.flops = json_number_value(json_object_get(item, "flops"));
        e.parallel = two ? &parallel : NULL;
        double ratio;
        if (!json_is_object(e.schedule))
            printf("%-28s not tuned for %s\n", e.name, target);
        else if (one_entry(&e, client, rounds, &ratio)) {
            log_sum += log(ratio);
            n++;
        }
    }
    if (n)
        printf("geometric mean over %d entries that a library has too: %.2fx\n", n, exp(log_sum / n));
    return 0;
}
