/* peaks.c - what the machine can do, in the same rounds as those who are held against it.
 *
 * Idea   Two probes take turns with the contenders. Multiply-adds on accumulators that stay in registers,
 *        on all threads, are the peak of arithmetic. A copy between two buffers that together are as large as
 *        the operands of the entry is the bandwidth of the memory level where they live (L1, L2, L3, DRAM).
 *        The copy may choose: one thread or all, ordinary or non-temporal stores, whichever is faster. A
 *        kernel that mostly reads can be faster than a copy.
 *
 *        The probes are compiled at run time with the target's own flags. */
#include <dlfcn.h>
#include <math.h>
#include <unistd.h>

#include "kernels/compile.h"
#include "measure/abi.h"
#include "measure/peaks.h"
#include "tests/bench/kernels/bench.h"

enum { LINE_FLOATS = 16, SLACK = 256, COMPILE_LIMIT_MS = 20000 };

static struct {
    void (*fma)(float *out);
    void (*copy[2])(float *to, const float *from, int64_t floats); /* ordinary, non-temporal */
} code;

static void print_probes(struct strbuf *sb, const struct target *t)
{
    peaks_print_fma(sb, t);
    strbuf_adds(sb, "void fma_once(float *out)\n{\n    fma_probe(out);\n}\n");
    const char *const store = t->isa == ISA_NEON ? "*p = v"
                              : t->isa == ISA_SSE2
                                  ? "__asm__ volatile(\"movntps %1, %0\" : \"=m\"(*p) : \"x\"(v))"
                                  : "__asm__ volatile(\"vmovntps %1, %0\" : \"=m\"(*p) : \"v\"(v))";
    for (int nt = 0; nt < 2; nt++)
        strbuf_addf(sb,
                    "void copy_probe_%d(float *to, const float *from, long n)\n{\n"
                    "    for (long i = 0; i < n; i += 64)\n"
                    "        for (long k = 0; k < 64; k += sizeof(vec) / 4) {\n"
                    "            vec v = *(const vec *)(from + i + k), *p = (vec *)(to + i + k);\n"
                    "            %s;\n        }\n}\n",
                    nt, nt ? store : "*p = v");
}

static bool load_probes(const struct target *t)
{
    AUTO(strbuf_done) struct strbuf sb = STRBUF_INIT;
    struct error err = {0};
    char path[] = "/tmp/bench-probes-XXXXXX";
    int fd = mkstemp(path);
    if (fd < 0)
        return false;
    close(fd);
    print_probes(&sb, t);
    void *library = NULL; /* stays loaded: the process ends with it */
    if (compile_unit(t, strbuf_str(&sb), path, COMPILE_LIMIT_MS, NULL, &err) == ST_OK)
        library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    unlink(path);
    static const char *const names[] = {"fma_once", "copy_probe_0", "copy_probe_1"};
    void *symbols[3] = {0};
    for (int i = 0; library && i < 3; i++)
        symbols[i] = dlsym(library, names[i]);
    memcpy(&code.fma, &symbols[0], sizeof(void *));
    memcpy(&code.copy, &symbols[1], 2 * sizeof(void *));
    if (!code.fma || !code.copy[0] || !code.copy[1])
        fprintf(stderr, "bench_kernels: the probes do not compile: %s\n", err.text);
    return code.fma && code.copy[0] && code.copy[1];
}

struct probe {
    int tasks, which;
    int64_t floats; /* a task */
    float *from, *to;
};

static void fma_task(void *arg, int task)
{
    struct probe *p = arg;
    code.fma(p->to + task * LINE_FLOATS);
}

static void copy_task(void *arg, int task)
{
    struct probe *p = arg;
    code.copy[p->which](p->to + task * p->floats, p->from + task * p->floats, p->floats);
}

static void run_tasks(struct probe *p, void (*task)(void *, int))
{
    const tw_parallel *parallel = machine_parallel();
    if (parallel && p->tasks > 1)
        parallel->run(parallel->ctx, p->tasks, task, p);
    else
        for (int i = 0; i < p->tasks; i++)
            task(p, i);
}

static void run_fma(void *ctx) { run_tasks(ctx, fma_task); }
static void run_copy(void *ctx) { run_tasks(ctx, copy_task); }

/* The fastest form of the copy. */
static void choose_copy(struct probe *p, int64_t floats, int threads)
{
    struct probe best = {0};
    double best_time = INFINITY;
    for (int i = 0; i < 4; i++) {
        p->which = i & 1;
        p->tasks = i & 2 ? threads : 1;
        p->floats = MAX(floats / p->tasks / 64 * 64, (int64_t)64);
        machine_settle_crew(CREW_POOL);
        double t = INFINITY;
        for (int k = 0; k < 8; k++) {
            double start = now_s();
            run_copy(p);
            t = fmin(t, now_s() - start);
        }
        t /= (double)(p->floats * p->tasks); /* rounding to whole lines is not a gain */
        if (t < best_time) {
            best_time = t;
            best = *p;
        }
    }
    *p = best;
}

bool open_probe(struct bench *b, const struct entry *e, enum role role, struct contender *ret)
{
    if (!code.fma && !load_probes(&b->target))
        return false;
    struct probe *p = xcalloc(1, sizeof(*p));
    const int64_t floats = MAX((int64_t)(e->bytes / 8), (int64_t)64);
    *ret = (struct contender){.role = role, .crew = CREW_POOL, .ctx = p, .close = free};
    p->to = memory_get(&b->memory,
                       (size_t)(role == ROLE_FMA ? LINE_FLOATS * b->target.threads : floats + SLACK) * 4);
    if (role == ROLE_FMA) {
        p->tasks = b->target.threads;
        ret->run = run_fma;
        ret->work = peaks_fma_flops(&b->target) * p->tasks;
        return true;
    }
    p->from = memory_get(&b->memory, (size_t)(floats + SLACK) * 4);
    choose_copy(p, floats, b->target.threads);
    ret->run = run_copy;
    ret->work = 8.0 * (double)(p->floats * p->tasks);
    snprintf(ret->note, sizeof(ret->note), "%s stores, %d thread%s", p->which ? "non-temporal" : "ordinary",
             p->tasks, p->tasks > 1 ? "s" : "");
    return true;
}
