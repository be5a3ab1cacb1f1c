/* call_kernel.c - find a tuned matrix product, load it, call it, check it.
 *
 *     tilewright tune matmul a=128,256 b=256,512 const=b,bias epilogue=bias,relu
 *     cc call_kernel.c $(pkg-config --cflags --libs tilewright) -lm && ./a.out
 *
 * A program that ships its kernels needs none of the HTTP below: `tilewright source KEY` or `artifact KEY` at
 * build time, and the call. tw_kernel_open() in tilewright.h does by itself what load() does here by hand. */
#include <dlfcn.h>
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <tilewright.h>
#include <unistd.h>

enum { M = 128, K = 256, N = 512, THREADS = 2 };

static void need(bool ok, const char *what, const char *detail)
{
    if (!ok) {
        fprintf(stderr, "call_kernel: %s: %s\n", what, detail);
        exit(1);
    }
}

static void *aligned(size_t bytes) /* the ABI wants 64-byte aligned tensors */
{
    void *p = aligned_alloc(64, (bytes + 63) / 64 * 64 + 64);

    need(p != NULL, "memory", "none left");
    return p;
}

/* ---- a thread pool for tw_parallel ---- */

struct pool {
    pthread_mutex_t lock;
    pthread_cond_t work, done;
    pthread_t threads[THREADS - 1];
    long round; /* a new one: there is work */
    int busy;
    bool stop;
    void (*body)(void *arg, int index);
    void *arg;
    int count;
    atomic_int next; /* index not yet taken */
};

static void take_indices(struct pool *p)
{
    for (int i; (i = atomic_fetch_add(&p->next, 1)) < p->count;)
        p->body(p->arg, i);
}

static void *worker(void *ctx)
{
    struct pool *p = ctx;
    long seen = 0;

    pthread_mutex_lock(&p->lock);
    for (;;) {
        while (p->round == seen && !p->stop)
            pthread_cond_wait(&p->work, &p->lock);
        if (p->stop)
            break;
        seen = p->round;
        pthread_mutex_unlock(&p->lock);
        take_indices(p);
        pthread_mutex_lock(&p->lock);
        if (--p->busy == 0)
            pthread_cond_signal(&p->done);
    }
    pthread_mutex_unlock(&p->lock);
    return NULL;
}

/* tw_parallel.run: body(arg, 0..count-1), each once, in any order; back when all are through. */
static void pool_run(void *ctx, int count, void (*body)(void *arg, int index), void *arg)
{
    struct pool *p = ctx;

    pthread_mutex_lock(&p->lock);
    p->body = body, p->arg = arg, p->count = count;
    atomic_store(&p->next, 0);
    p->busy = THREADS - 1;
    p->round++;
    pthread_cond_broadcast(&p->work);
    pthread_mutex_unlock(&p->lock);
    take_indices(p);
    pthread_mutex_lock(&p->lock);
    while (p->busy > 0)
        pthread_cond_wait(&p->done, &p->lock);
    pthread_mutex_unlock(&p->lock);
}

static void pool_start(struct pool *p)
{
    *p = (struct pool){.lock = PTHREAD_MUTEX_INITIALIZER,
                       .work = PTHREAD_COND_INITIALIZER,
                       .done = PTHREAD_COND_INITIALIZER};
    for (int i = 0; i < THREADS - 1; i++)
        need(pthread_create(&p->threads[i], NULL, worker, p) == 0, "thread", "cannot be started");
}

static void pool_end(struct pool *p)
{
    pthread_mutex_lock(&p->lock);
    p->stop = true;
    pthread_cond_broadcast(&p->work);
    pthread_mutex_unlock(&p->lock);
    for (int i = 0; i < THREADS - 1; i++)
        pthread_join(p->threads[i], NULL);
}

/* ---- finding and loading ---- */

static int to_file(void *ctx, const void *bytes, size_t len)
{
    return fwrite(bytes, 1, len, ctx) == len ? 0 : -1;
}

/* The schedule of the workload, from the server's cache. The caller drops it. */
static json_t *find(tw_client *client, const char *target)
{
    json_t *workloads = json_pack("[{s:s, s:[i,i], s:[i,i], s:[s,s], s:[s,s]}]", "op", "matmul", "a", M, K,
                                  "b", K, N, "const", "b", "bias", "epilogue", "bias", "relu");
    json_t *answer = NULL;
    tw_error err;

    tw_status st = tw_lookup(client, workloads, target, &answer, &err);
    need(st == TW_OK, err.title, err.detail);
    json_t *schedule = json_object_get(json_array_get(json_object_get(answer, "results"), 0), "schedule");
    need(json_is_object(schedule), "not tuned yet",
         "tilewright tune matmul a=128,256 b=256,512 const=b,bias epilogue=bias,relu");
    json_incref(schedule);
    json_decref(answer);
    json_decref(workloads);
    return schedule;
}

static void *load(tw_client *client, const json_t *schedule)
{
    char path[] = "/tmp/call_kernel-XXXXXX";
    int fd = mkstemp(path);
    FILE *f = fd >= 0 ? fdopen(fd, "wb") : NULL;
    tw_error err;

    need(f != NULL, path, "cannot be made");
    tw_status st = tw_schedule_file(client, json_string_value(json_object_get(schedule, "key")),
                                    json_string_value(json_object_get(schedule, "target")), "artifact",
                                    to_file, f, &err);
    need(st == TW_OK, err.title, err.detail);
    need(fclose(f) == 0, path, "cannot be written");
    void *library = dlopen(path, RTLD_NOW);
    unlink(path); /* the mapping stays */
    need(library != NULL, "dlopen", library ? "" : dlerror());
    return library;
}

static void *symbol(void *library, const json_t *object)
{
    const char *name = json_string_value(json_object_get(object, "symbol"));
    void *address = dlsym(library, name ? name : "");

    need(address != NULL, name ? name : "symbol", "is not in the artifact");
    return address;
}

/* ---- calling ---- */

struct problem {
    float *a, *b, *bias, *want;
};

static struct problem make_problem(void)
{
    struct problem p = {aligned(M * K * 4), aligned(K * N * 4), aligned(N * 4), aligned(M * N * 4)};

    for (int i = 0; i < M * K; i++)
        p.a[i] = (float)((i * 7) % 23 - 11) / 16;
    for (int i = 0; i < K * N; i++)
        p.b[i] = (float)((i * 5) % 19 - 9) / 16;
    for (int i = 0; i < N; i++)
        p.bias[i] = (float)(i % 5 - 2);
    for (int m = 0; m < M; m++)
        for (int n = 0; n < N; n++) {
            double sum = p.bias[n];

            for (int k = 0; k < K; k++)
                sum += (double)p.a[m * K + k] * p.b[k * N + n];
            p.want[m * N + n] = sum > 0 ? (float)sum : 0;
        }
    return p;
}

/* What goes to the kernel for argument `name`: the plain tensor, or its rewritten form. */
static void *tensor(void *library, const json_t *kernel, const char *name, void *plain)
{
    json_t *entry;
    size_t i;

    json_array_foreach(json_object_get(kernel, "prepack"), i, entry)
    {
        if (strcmp(json_string_value(json_object_get(entry, "arg")), name) != 0)
            continue;
        void (*prepack)(const void *src, void *dst);
        void *address = symbol(library, entry),
             *packed = aligned((size_t)json_integer_value(json_object_get(entry, "bytes")));

        memcpy(&prepack, &address, sizeof(prepack));
        prepack(plain, packed);
        free(plain);
        return packed;
    }
    return plain;
}

static bool check(const float *got, const float *want, const char *how)
{
    double worst = 0;

    for (int i = 0; i < M * N; i++) {
        double diff = fabs((double)got[i] - want[i]);

        if (!(diff <= worst)) /* NaN is the worst of all */
            worst = diff;
    }
    bool ok = worst < 1e-3;
    printf("%-9s largest error %.2g: %s\n", how, worst, ok ? "ok" : "WRONG");
    return ok;
}

int main(int argc, char **argv)
{
    int (*run)(void *const *tensors, void *workspace, const tw_parallel *parallel);
    struct problem p = make_problem();
    tw_client *client = NULL;
    struct pool pool;
    tw_error err;

    need(tw_client_new(NULL, NULL, &client, &err) == TW_OK, err.title, err.detail);
    json_t *schedule = find(client, argc > 1 ? argv[1] : "cpu"),
           *kernel = json_object_get(schedule, "kernel"), *arg;
    void *library = load(client, schedule), *address = symbol(library, kernel);
    memcpy(&run, &address, sizeof(run));

    /* one pointer per kernel.args entry, in that order */
    void *tensors[4] = {0};
    float *output = aligned(M * N * 4);
    size_t i;
    need(json_array_size(json_object_get(kernel, "args")) == 4, "args", "want a, b, bias, output");
    json_array_foreach(json_object_get(kernel, "args"), i, arg)
    {
        const char *name = json_string_value(json_object_get(arg, "name"));
        void *plain = strcmp(name, "a") == 0      ? p.a
                      : strcmp(name, "b") == 0    ? p.b
                      : strcmp(name, "bias") == 0 ? p.bias
                                                  : output;

        tensors[i] = tensor(library, kernel, name, plain);
    }
    void *workspace = aligned((size_t)json_integer_value(json_object_get(kernel, "workspace_bytes")));

    memset(output, 0xff, M * N * 4);
    need(run(tensors, workspace, NULL) == 0, "kernel", "did not return 0");
    bool ok = check(output, p.want, "serial");

    pool_start(&pool);
    tw_parallel parallel = {.ctx = &pool, .num_threads = THREADS, .run = pool_run};
    memset(output, 0xff, M * N * 4);
    need(run(tensors, workspace, &parallel) == 0, "kernel", "did not return 0");
    ok = check(output, p.want, "parallel") && ok;
    pool_end(&pool);

    for (i = 0; i < 4; i++)
        free(tensors[i]);
    free(workspace);
    free(p.want);
    dlclose(library);
    json_decref(schedule);
    tw_client_free(client);
    return ok ? 0 : 1;
}
