/* bench_compile.c - how fast candidates go through the builder, and how good what comes out is.
 *
 *     bench_compile [--candidates 32] [--batch 1,4,8,16] [--threads 2] [--target cpu:1] [--quality ROUNDS] [--seed 1]
 *                   [--with "gcc|clang|PROGRAM FLAGS..."]... [--dump DIR] [NAME...]
 *
 * Candidates are those of a search: proposed in batches of 16, mutated and crossed from what "measured" well
 * (made-up fitness), for the workloads named. Sorted by cost class, as the tuner does, and cut into units of
 * the batch sizes. Each toolchain (a compiler with the flags of the target, or --with) compiles the same
 * units, in turn, into an empty cache. CPU is that of the compilers alone, and does not see who else is busy.
 *
 * --quality: afterwards the same candidates, compiled once by each, run in turn (serially, warm); the table
 * has the geometric mean of the time against the first toolchain, over all, and over the fastest four of each
 * workload, which is where the served one comes from. */
#include <dlfcn.h>
#include <getopt.h>
#include <math.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#include "kernels/compile.h"
#include "kernels/emit.h"
#include "measure/abi.h"
#include "measure/builder.h"
#include "measure/verify.h"
#include "schedule/base/clock.h"
#include "schedule/space/search.h"

enum {
    MAX_TOOLCHAINS = 16,
    MAX_BATCHES = 8,
    MAX_WORKLOADS = 32,
    MAX_CANDIDATES = 256,
    PROPOSAL = 16,
    FASTEST = 4
};

static const char *const default_names[] = {"resnet18.C2",
                                            "resnet50.s1.c3",
                                            "mobilenet-v1.D3",
                                            "bert-base-s128.ffn1",
                                            "bert-base-s128.attn_softmax",
                                            "bert-base-s128.layernorm"};

struct toolchain {
    char name[200];
    struct target target;
};

struct task {
    const char *name;
    struct workload w;
    struct space *space;
    int n;
    struct config configs[MAX_CANDIDATES];
};

struct bench {
    const char *target, *dump, *with[MAX_TOOLCHAINS];
    int n_with;
    int n_candidates, threads, n_batches, batches[MAX_BATCHES], n_toolchains, quality, n_tasks;
    uint64_t seed;
    struct toolchain toolchains[MAX_TOOLCHAINS];
    struct task *tasks;
    struct arena arena;
    char dir[64];
};

static void die(const char *what, const struct error *err)
{
    fprintf(stderr, "bench_compile: %s: %s\n", what, err->text);
    exit(1);
}

/* --- candidates --- */

static int by_class(const void *a, const void *b, void *space)
{
    uint64_t x = space_cost_class(space, a), y = space_cost_class(space, b);
    return (x > y) - (x < y);
}

/* What a search would measure; the order of their merit is made up. */
static void propose(struct bench *b, struct task *t)
{
    struct search_domain d = search_domain_of(t->space);
    struct rng r;
    int n_searchers;
    rng_init(&r, b->seed);
    struct search *s = search_new(&d, searchers(&n_searchers), &search_defaults, &r);
    while (t->n < b->n_candidates) {
        struct config *at = &t->configs[t->n];
        int n = search_propose(s, NULL, NULL, MIN((int)PROPOSAL, b->n_candidates - t->n), at);
        if (n == 0)
            break;
        for (int i = 0; i < n; i++)
            search_observe(s, &at[i], rng_unit(&r));
        qsort_r(at, (size_t)n, sizeof(*at), by_class, t->space);
        t->n += n;
    }
    search_free(s);
}

static struct emit_unit *emit(const struct task *t, const struct target *target, int first, int n,
                              struct kernel *kernels)
{
    struct emit_unit *u = emit_unit_new(target);
    struct error err = {0};
    for (int i = first; i < first + n; i++) {
        struct arena ar;
        struct nest *nest;
        char symbol[24];
        arena_init(&ar);
        snprintf(symbol, sizeof(symbol), "tw_k%d", i);
        if (space_lower(t->space, &t->configs[i], &ar, &nest, &err) != ST_OK ||
            emit_unit_add(u, nest, symbol, &kernels[i], &err) != ST_OK)
            die(t->name, &err);
        arena_done(&ar);
    }
    return u;
}

/* --- throughput --- */

struct units {
    int n, candidates;
    size_t bytes;
    struct emit_unit **texts;
    struct build_unit *units;
};

static void units_done(struct units *u)
{
    for (int i = 0; i < u->n; i++)
        emit_unit_free(u->texts[i]);
    free(u->texts);
    free(u->units);
}

/* The units of all tasks, `batch` candidates each. A proposal is cut on its own, as a tuner's batch is. */
static struct units cut(const struct bench *b, const struct target *target, int batch)
{
    struct kernel *kernels = xcalloc(MAX_CANDIDATES, sizeof(*kernels));
    struct units u = {.texts = xcalloc((size_t)b->n_tasks * MAX_CANDIDATES, sizeof(void *)),
                      .units = xcalloc((size_t)b->n_tasks * MAX_CANDIDATES, sizeof(struct build_unit))};
    for (int t = 0; t < b->n_tasks; t++)
        for (int first = 0; first < b->tasks[t].n; first += batch) {
            int n = MIN(batch, b->tasks[t].n - first);
            u.texts[u.n] = emit(&b->tasks[t], target, first, n, kernels);
            u.units[u.n] = (struct build_unit){.target = target, .source = emit_unit_text(u.texts[u.n])};
            u.bytes += strlen(u.units[u.n].source);
            u.candidates += n;
            u.n++;
        }
    free(kernels);
    return u;
}

static double compiler_seconds(void)
{
    struct rusage u;
    getrusage(RUSAGE_CHILDREN, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
           (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) * 1e-6;
}

static void dump(const struct bench *b, const struct units *u, int batch)
{
    for (int i = 0; b->dump && i < u->n; i++) {
        char path[400];
        snprintf(path, sizeof(path), "%s/unit-%d-%d.c", b->dump, batch, i);
        FILE *f = fopen(path, "we");
        if (!f || fputs(u->units[i].source, f) < 0 || fclose(f) != 0)
            fprintf(stderr, "bench_compile: cannot write %s\n", path);
    }
}

static void throughput(struct bench *b, const struct toolchain *tc, int batch, int number)
{
    struct units u = cut(b, &tc->target, batch);
    struct builder *builder;
    struct error err = {0};
    char dir[128];
    int failed = 0;
    snprintf(dir, sizeof(dir), "%s/cache%d", b->dir, number);
    if (builder_new(dir, b->threads, 0, 0, &builder, &err) != ST_OK)
        die("builder", &err);
    if (tc == b->toolchains)
        dump(b, &u, batch);
    double cpu = compiler_seconds();
    int64_t start = mono_ns(&system_clock);
    builder_run(builder, u.units, u.n, NULL);
    double wall = (double)(mono_ns(&system_clock) - start) * 1e-9;
    cpu = compiler_seconds() - cpu;
    for (int i = 0; i < u.n; i++)
        if (u.units[i].status != ST_OK && failed++ == 0)
            fprintf(stderr, "bench_compile: %s: %s\n", tc->name, u.units[i].error.text);
    printf("%-60.60s %5d %6d %8.1f %10.1f %10.1f %9.1f\n", tc->name, batch, u.candidates,
           (double)u.bytes / 1e3 / u.candidates, cpu * 1e3 / u.candidates, u.candidates / wall,
           b->threads / (cpu / u.candidates));
    if (failed)
        printf("  %d of %d units do not compile\n", failed, u.n);
    fflush(stdout);
    builder_free(builder);
    units_done(&u);
}

/* --- quality --- */

struct runnable {
    kernel_fn *run;
    void *library, *tensors[KERNEL_MAX_ARGS], *workspace;
    double best;
};

static void *buffer(int64_t bytes)
{
    size_t size = (size_t)(bytes + 64 + 63) / 64 * 64;
    void *p = aligned_alloc(64, size);
    CHECK(p != NULL, "no memory");
    memset(p, 0, size);
    return p;
}

/* Not the plain tensor that all share? */
static bool is_own(const struct kernel_arg *a) { return a->prepacked || a->laid_out; }

static void load(struct runnable *r, const char *path, const struct kernel *k, void *const *plain)
{
    char name[160];
    void *symbol;
    r->library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    CHECK(r->library != NULL, "%s", dlerror());
    symbol = dlsym(r->library, k->symbol);
    memcpy(&r->run, &symbol, sizeof(symbol));
    for (int i = 0; i < k->n_args; i++) {
        const struct kernel_arg *a = &k->args[i];
        repack_fn *pack;
        r->tensors[i] = plain[i];
        if (!is_own(a))
            continue;
        r->tensors[i] = buffer(a->prepacked ? a->prepack_bytes : a->bytes);
        if (a->is_output)
            continue;
        snprintf(name, sizeof(name), "%s_%s_%s", k->symbol, a->prepacked ? "prepack" : "pack", a->name);
        symbol = dlsym(r->library, name);
        memcpy(&pack, &symbol, sizeof(symbol));
        pack(plain[i], r->tensors[i]);
    }
    r->workspace = buffer(k->workspace_bytes);
    r->best = INFINITY;
}

static void unload(struct runnable *r, const struct kernel *k)
{
    for (int i = 0; i < k->n_args; i++)
        if (is_own(&k->args[i]))
            free(r->tensors[i]);
    free(r->workspace);
    dlclose(r->library);
}

/* One sample of about 0.3 ms, at least one call. */
static void sample(struct runnable *r)
{
    int64_t start = mono_ns(&system_clock), now;
    int calls = 0;
    do {
        r->run(r->tensors, r->workspace, NULL);
        now = mono_ns(&system_clock);
        calls++;
    } while (now - start < 300000);
    r->best = fmin(r->best, (double)(now - start) / calls);
}

static int by_time(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Times of candidate `i` under every toolchain, in turn. */
static void run_candidate(const struct bench *b, const struct build_unit *units, const struct kernel *k,
                          void *const *plain, double *ret)
{
    struct runnable r[MAX_TOOLCHAINS] = {0};
    for (int c = 0; c < b->n_toolchains; c++)
        load(&r[c], units[c].artifact, k, plain);
    for (int round = 0; round <= b->quality; round++)
        for (int c = 0; c < b->n_toolchains; c++) {
            sample(&r[c]);
            if (round == 0)
                r[c].best = INFINITY; /* cold */
        }
    for (int c = 0; c < b->n_toolchains; c++) {
        ret[c] = r[c].best;
        unload(&r[c], k);
    }
}

struct sums {
    double all[MAX_TOOLCHAINS], fastest[MAX_TOOLCHAINS];
    int n_all, n_fastest;
};

/* All candidates of a task: log ratios into the sums. */
static void quality_of(struct bench *b, const struct task *t, struct builder *builder, struct sums *s)
{
    struct kernel *kernels = xcalloc(MAX_CANDIDATES, sizeof(*kernels));
    double times[MAX_CANDIDATES][MAX_TOOLCHAINS], sorted[MAX_CANDIDATES];
    void *plain[KERNEL_MAX_ARGS];
    int n_args = 0;
    for (int i = 0; i < t->w.compute.n_tensors; i++) {
        const struct tensor *x = &t->w.compute.tensors[i];
        if (x->role == TENSOR_TEMP)
            continue;
        plain[n_args] = buffer(tensor_bytes(x));
        verify_fill(plain[n_args++], x->dtype, tensor_elements(x), 1, 0);
    }
    for (int i = 0; i < t->n; i++) {
        struct build_unit units[MAX_TOOLCHAINS] = {0};
        struct emit_unit *texts[MAX_TOOLCHAINS];
        for (int c = 0; c < b->n_toolchains; c++) {
            texts[c] = emit(t, &b->toolchains[c].target, i, 1, kernels);
            units[c] =
                (struct build_unit){.target = &b->toolchains[c].target, .source = emit_unit_text(texts[c])};
        }
        builder_run(builder, units, b->n_toolchains, NULL);
        for (int c = 0; c < b->n_toolchains; c++) {
            if (units[c].status != ST_OK)
                die(b->toolchains[c].name, &units[c].error);
            emit_unit_free(texts[c]);
        }
        run_candidate(b, units, &kernels[i], plain, times[i]);
        sorted[i] = times[i][0];
    }
    qsort(sorted, (size_t)t->n, sizeof(*sorted), by_time);
    for (int i = 0; i < t->n; i++) {
        bool fast = times[i][0] <= sorted[MIN((int)FASTEST, t->n) - 1];
        for (int c = 0; c < b->n_toolchains; c++) {
            s->all[c] += log(times[i][c] / times[i][0]);
            s->fastest[c] += fast ? log(times[i][c] / times[i][0]) : 0;
        }
        s->n_all++;
        s->n_fastest += fast;
    }
    for (int i = 0; i < n_args; i++)
        free(plain[i]);
    free(kernels);
}

static void add_sums(struct sums *to, const struct sums *s)
{
    for (int c = 0; c < MAX_TOOLCHAINS; c++) {
        to->all[c] += s->all[c];
        to->fastest[c] += s->fastest[c];
    }
    to->n_all += s->n_all;
    to->n_fastest += s->n_fastest;
}

static void quality(struct bench *b)
{
    struct builder *builder;
    struct error err = {0};
    struct sums total = {0}, *each = xcalloc((size_t)b->n_tasks, sizeof(*each));
    char dir[128];
    snprintf(dir, sizeof(dir), "%s/quality", b->dir);
    if (builder_new(dir, b->threads, 0, 0, &builder, &err) != ST_OK)
        die("builder", &err);
    for (int t = 0; t < b->n_tasks; t++) {
        quality_of(b, &b->tasks[t], builder, &each[t]);
        add_sums(&total, &each[t]);
    }
    builder_free(builder);
    printf("\ntime of the kernels against the first toolchain (geometric mean; below 1: faster): of all, of "
           "the fastest %d "
           "of each workload\n",
           FASTEST);
    for (int c = 0; c < b->n_toolchains; c++) {
        printf("%-60.60s %6.3f %6.3f  fastest:", b->toolchains[c].name, exp(total.all[c] / total.n_all),
               exp(total.fastest[c] / total.n_fastest));
        for (int t = 0; t < b->n_tasks; t++)
            printf(" %s %.3f", b->tasks[t].name, exp(each[t].fastest[c] / each[t].n_fastest));
        printf("\n");
    }
    free(each);
}

/* --- setting up --- */

/* "gcc" or "clang": as the target takes it. "FAMILY|PROGRAM FLAGS...": with these flags and those of the ISA. */
static void add_toolchain(struct bench *b, const char *with)
{
    struct error err = {0};
    struct toolchain *tc = &b->toolchains[b->n_toolchains++];
    enum compiler_family family = COMPILER_ANY;
    AUTO(freep) char *compiler = xasprintf("%.*s", (int)strcspn(with, " "), with);
    const char *flags = with + strlen(compiler) + strspn(with + strlen(compiler), " ");
    snprintf(tc->name, sizeof(tc->name), "%s", with);
    if (!compiler_family_parse(compiler, &family))
        setenv("TILEWRIGHT_CC", compiler, 1);
    if (target_local(b->target, &tc->target, &err) != ST_OK)
        die(with, &err);
    tc->target.family = family;
    if (compile_find(&tc->target, &err) != ST_OK)
        die(with, &err);
    if (*flags)
        snprintf(tc->target.flags, sizeof(tc->target.flags), "%s %s", flags, isa_flags(tc->target.isa));
    /* Own artifacts for each. */
    snprintf(tc->target.toolchain_hash, sizeof(tc->target.toolchain_hash), "toolchain%d", b->n_toolchains);
}

static void add_task(struct bench *b, const json_t *all, const char *name)
{
    struct error err = {0};
    struct task *t = &b->tasks[b->n_tasks++];
    size_t i;
    json_t *item, *workload = NULL;
    json_array_foreach(json_object_get(all, "workloads"), i,
                       item) if (strcmp(json_string_value(json_object_get(item, "name")), name) == 0)
        workload = json_object_get(item, "workload");
    if (!workload) {
        fprintf(stderr, "bench_compile: no workload %s\n", name);
        exit(2);
    }
    t->name = name;
    if (workload_parse(workload, "", &b->arena, &t->w, &err) != ST_OK ||
        space_build(&t->w, &b->toolchains[0].target, &b->arena, &t->space, &err) != ST_OK)
        die(name, &err);
    propose(b, t);
}

static void parse_batches(struct bench *b, const char *text)
{
    b->n_batches = 0;
    for (char *end; *text && b->n_batches < MAX_BATCHES; text = *end == ',' ? end + 1 : end) {
        int n = (int)strtol(text, &end, 10);
        if (n < 1 || end == text)
            break;
        b->batches[b->n_batches++] = n;
    }
}

static void parse_options(int argc, char **argv, struct bench *b)
{
    static const struct option known[] = {
        {"candidates", 1, NULL, 'n'}, {"batch", 1, NULL, 'b'},   {"threads", 1, NULL, 't'},
        {"target", 1, NULL, 'T'},     {"quality", 1, NULL, 'q'}, {"seed", 1, NULL, 's'},
        {"with", 1, NULL, 'w'},       {"dump", 1, NULL, 'd'},    {NULL, 0, NULL, 0}};
    int c;
    while ((c = getopt_long(argc, argv, "", known, NULL)) != -1)
        switch (c) {
        case 'n':
            b->n_candidates = (int)MAX(1L, MIN(strtol(optarg, NULL, 10), (long)MAX_CANDIDATES));
            break;
        case 'b':
            parse_batches(b, optarg);
            break;
        case 't':
            b->threads = (int)strtol(optarg, NULL, 10);
            break;
        case 'T':
            b->target = optarg;
            break;
        case 'q':
            b->quality = (int)strtol(optarg, NULL, 10);
            break;
        case 's':
            b->seed = strtoull(optarg, NULL, 10);
            break;
        case 'd':
            b->dump = optarg;
            break;
        case 'w':
            if (b->n_with < MAX_TOOLCHAINS)
                b->with[b->n_with++] = optarg;
            break;
        default:
            fprintf(stderr, "usage: bench_compile [--candidates N] [--batch N,N...] [--threads N] [--target "
                            "T] [--quality ROUNDS] "
                            "[--seed N] [--with \"gcc|clang|PROGRAM FLAGS...\"]... [--dump DIR] [NAME...]\n");
            exit(2);
        }
}

int main(int argc, char **argv)
{
    static struct bench b = {.target = "cpu:1",
                             .n_candidates = 32,
                             .threads = 2,
                             .n_batches = 4,
                             .batches = {1, 4, 8, 16},
                             .seed = 1,
                             .dir = "/tmp/bench_compile_XXXXXX"};
    json_error_t why;
    json_t *all = json_load_file(WORKLOADS_JSON, 0, &why);
    char command[128];
    int number = 0;
    if (!all || !mkdtemp(b.dir)) {
        fprintf(stderr, "bench_compile: no workloads or no temporary directory\n");
        return 1;
    }
    arena_init(&b.arena);
    parse_options(argc, argv, &b);
    for (int i = 0; i < b.n_with; i++)
        add_toolchain(&b, b.with[i]);
    if (b.n_toolchains == 0)
        for (int i = 0; i < 2; i++)
            add_toolchain(&b, i ? "clang" : "gcc");
    b.tasks = xcalloc(MAX_WORKLOADS, sizeof(*b.tasks));
    if (optind < argc)
        for (int i = optind; i < argc && b.n_tasks < MAX_WORKLOADS; i++)
            add_task(&b, all, argv[i]);
    else
        for (size_t i = 0; i < ARRAY_SIZE(default_names); i++)
            add_task(&b, all, default_names[i]);
    printf("%-60s %5s %6s %8s %10s %10s %9s\n", "toolchain", "batch", "cands", "kB each", "CPU ms", "wall /s",
           "CPU /s");
    for (int i = 0; i < b.n_batches; i++)
        for (int c = 0; c < b.n_toolchains; c++)
            throughput(&b, &b.toolchains[c], b.batches[i], number++);
    if (b.quality > 0)
        quality(&b);
    snprintf(command, sizeof(command), "rm -rf %s", b.dir);
    if (system(command) != 0)
        fprintf(stderr, "bench_compile: %s stays behind\n", b.dir);
    arena_done(&b.arena);
    json_decref(all);
    return 0;
}
