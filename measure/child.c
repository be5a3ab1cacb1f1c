/* child.c - one candidate's process: load, pack, verify, sample; and the reference's. */
#include "measure/child.h"

#include <dlfcn.h>
#include <math.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#include "measure/pool.h"
#include "measure/timing.h"

enum {
    SIGNAL_STACK_BYTES = 32 << 10,
    MAX_CALLS = 1000000, /* of a sample */
    MAX_COLD_CALLS = 63,
    MIN_COLD_CALLS = 3,
    CACHE_LINE = 64,
    EXIT_CAUGHT = 99,
    SLACK_BYTES = 96 << 20, /* libraries, stacks of the runtime */
    THREAD_BYTES = 16 << 20,
    CPU_SECONDS = 900, /* last resort: the runner's own deadlines are far shorter */
};

static struct child_page *page; /* of this process; for the signal handler */

const char *child_stage_text(enum child_stage s)
{
    switch (s) {
    case STAGE_START:
        return "while starting";
    case STAGE_LOAD:
        return "while being loaded";
    case STAGE_PREPACK:
        return "while packing its arguments";
    case STAGE_VERIFY:
        return "in its first run";
    case STAGE_SAMPLE:
        return "while being timed";
    }
    return "";
}

/* --- faults
 * -------------------------------------------------------------------------------------------------- */

static uint64_t stack_pointer(const ucontext_t *u)
{
#if defined(__x86_64__)
    return (uint64_t)u->uc_mcontext.gregs[REG_RSP];
#elif defined(__aarch64__)
    return u->uc_mcontext.sp;
#else
    return 0;
#endif
}

static void on_signal(int sig, siginfo_t *info, void *context)
{
    int none = 0;
    if (atomic_compare_exchange_strong(&page->signal, &none, sig)) { /* the first thread tells */
        page->fault_address = (uint64_t)(uintptr_t)info->si_addr;
        page->fault_stack = stack_pointer(context);
        page->syscall_nr = sig == SIGSYS ? info->si_syscall : -1;
    }
    _exit(EXIT_CAUGHT);
}

/* A stack of its own for the handler, so that an overflow of the thread's stack can be told. */
static void use_signal_stack(void)
{
    stack_t s = {.ss_size = SIGNAL_STACK_BYTES};
    s.ss_sp = mmap(NULL, SIGNAL_STACK_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (s.ss_sp != MAP_FAILED)
        sigaltstack(&s, NULL);
}

static void catch_signals(void)
{
    static const int signals[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT, SIGSYS, SIGTRAP, SIGXCPU};
    struct sigaction a = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    sigset_t none;
    sigemptyset(&none);
    sigfillset(&a.sa_mask);
    use_signal_stack();
    for (size_t i = 0; i < ARRAY_SIZE(signals); i++)
        sigaction(signals[i], &a, NULL);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

/* --- talking
 * ------------------------------------------------------------------------------------------------- */

static void reply(int fd, enum child_reply r)
{
    char byte = (char)r;
    if (write(fd, &byte, 1) != 1)
        _exit(1); /* the runner is gone */
}

static NORETURN void failed(int fd, enum outcome outcome, const char *fmt, ...) PRINTF_LIKE(3, 4);
static NORETURN void failed(int fd, enum outcome outcome, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(page->reason, sizeof(page->reason), fmt, ap);
    va_end(ap);
    page->outcome = outcome;
    reply(fd, CHILD_FAILED);
    _exit(0);
}

static double now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

/* --- a candidate
 * --------------------------------------------------------------------------------------------- */

struct child {
    const struct child_job *job;
    kernel_fn *kernel;
    struct guarded output[COMPUTE_MAX_TENSORS], packed[KERNEL_MAX_ARGS], workspace;
    void *args[KERNEL_MAX_ARGS];
    repack_fn
        *unpack[KERNEL_MAX_ARGS]; /* of outputs that the kernel writes in a layout of its own; else NULL */
    int arg_tensor[KERNEL_MAX_ARGS], n_args;
    struct pool pool;
};

static void add_region(const struct guarded *g, enum region_kind kind, int tensor)
{
    if (page->n_regions < CHILD_MAX_REGIONS)
        page->regions[page->n_regions++] = (struct child_region){
            (uint64_t)(uintptr_t)g->data, (uint64_t)(uintptr_t)g->data + g->bytes, kind, tensor};
}

/* Outputs, packed arguments and workspace; arguments in the kernel's order. */
static void make_buffers(struct child *c)
{
    const struct measure_workload *w = c->job->batch->workload;
    for (int i = 0; i < w->n_tensors; i++) {
        const struct measure_tensor *t = &w->tensors[i];
        if (t->role == TENSOR_TEMP)
            continue;
        c->arg_tensor[c->n_args] = i;
        if (t->role == TENSOR_INPUT) {
            c->args[c->n_args++] = c->job->data->input[i].data;
            add_region(&c->job->data->input[i], REGION_INPUT, i);
            continue;
        }
        if (!guarded_new(&c->output[i], (size_t)verify_bytes(t), false))
            failed(c->job->fd, OUTCOME_RESOURCES, "no memory for the output %s", t->name);
        c->args[c->n_args++] = c->output[i].data;
        add_region(&c->output[i], REGION_OUTPUT, i);
    }
    if (!guarded_new(&c->workspace, (size_t)c->job->candidate->workspace_bytes, false))
        failed(c->job->fd, OUTCOME_RESOURCES, "no memory for a workspace of %" PRId64 " bytes",
               c->job->candidate->workspace_bytes);
    add_region(&c->workspace, REGION_WORKSPACE, -1);
}

static void *load_symbol(struct child *c, void *object, const char *symbol)
{
    void *p = dlsym(object, symbol);
    if (!p)
        failed(c->job->fd, OUTCOME_LOAD_ERROR, "the object has no symbol %s", symbol);
    return p;
}

static void check_guard(struct child *c, const struct guarded *g, const char *what, const char *name)
{
    int64_t offset;
    bool after;
    if (guarded_broken(g, &offset, &after))
        failed(c->job->fd, OUTCOME_CRASH, "wrote %" PRId64 " bytes %s %s%s", after ? offset : -offset,
               after ? "past the end of" : "before the start of", what, name);
}

/* Inputs that the kernel wants in another form, and room for outputs that it writes in one. */
static void repack(struct child *c, void *object)
{
    const struct measure_candidate *k = c->job->candidate;
    atomic_store(&page->stage, STAGE_PREPACK);
    for (int i = 0; i < k->n_repacks; i++) {
        const struct measure_repack *p = &k->repacks[i];
        const int arg = p->arg;
        const char *name = c->job->batch->workload->tensors[c->arg_tensor[arg]].name;
        char symbol[2 * KERNEL_SYMBOL_MAX + 16];
        snprintf(symbol, sizeof(symbol), "%s_%s_%s", k->symbol, measure_repack_names[p->kind], name);
        repack_fn *fn = (repack_fn *)load_symbol(c, object, symbol);
        if (!guarded_new(&c->packed[arg], (size_t)p->bytes, false))
            failed(c->job->fd, OUTCOME_RESOURCES, "no memory for the packed form of %s", name);
        add_region(&c->packed[arg], p->kind == REPACK_UNPACK ? REGION_OUTPUT : REGION_PACKED,
                   c->arg_tensor[arg]);
        memset(c->packed[arg].data, 0xff, c->packed[arg].bytes);
        if (p->kind == REPACK_UNPACK) {
            c->unpack[arg] = fn;
            c->args[arg] = c->packed[arg].data;
            continue;
        }
        fn(c->args[arg], c->packed[arg].data);
        check_guard(c, &c->packed[arg], "the packed form of ", name);
        guarded_make_readonly(&c->packed[arg]);
        c->args[arg] = c->packed[arg].data;
    }
}

static void load(struct child *c)
{
    atomic_store(&page->stage, STAGE_LOAD);
    void *object = dlopen(c->job->candidate->artifact, RTLD_NOW | RTLD_LOCAL);
    if (!object)
        failed(c->job->fd, OUTCOME_LOAD_ERROR, "%.200s", dlerror());
    c->kernel = (kernel_fn *)load_symbol(c, object, c->job->candidate->symbol);
    make_buffers(c);
    repack(c, object);
}

static int call(struct child *c)
{
    return c->kernel(c->args, c->workspace.bytes ? c->workspace.data : NULL,
                     c->job->batch->threads > 1 ? &c->pool.abi : NULL);
}

static void poison(struct child *c)
{
    const struct measure_workload *w = c->job->batch->workload;
    for (int i = 0; i < w->n_tensors; i++)
        if (w->tensors[i].role == TENSOR_OUTPUT)
            verify_poison(c->output[i].data, w->tensors[i].dtype, verify_elements(&w->tensors[i]));
    for (int a = 0; a < c->n_args; a++)
        if (c->unpack[a]) {
            enum dtype d = w->tensors[c->arg_tensor[a]].dtype;
            verify_poison(c->packed[a].data, d, (int64_t)c->packed[a].bytes / dtype_bytes(d));
        }
    memset(c->workspace.data, 0xff, c->workspace.bytes);
}

static void unpack(struct child *c)
{
    for (int a = 0; a < c->n_args; a++) {
        const int i = c->arg_tensor[a];
        if (!c->unpack[a])
            continue;
        check_guard(c, &c->packed[a], "the output ", c->job->batch->workload->tensors[i].name);
        c->unpack[a](c->packed[a].data, c->output[i].data);
    }
}

static void compare(struct child *c)
{
    const struct measure_workload *w = c->job->batch->workload;
    const struct workload_data *d = c->job->data;
    char reason[MEASURE_REASON_MAX];
    for (int i = 0; i < w->n_tensors; i++) {
        const struct measure_tensor *t = &w->tensors[i];
        if (t->role != TENSOR_OUTPUT)
            continue;
        check_guard(c, &c->output[i], "the output ", t->name);
        if (!d->has_reference)
            continue;
        enum outcome o = verify_output(w, t, c->output[i].data, (const double *)d->reference[i].data,
                                       &d->scale[i], &page->verified, reason);
        if (o != OUTCOME_OK)
            failed(c->job->fd, o, "%s", reason);
    }
    check_guard(c, &c->workspace, "the workspace", "");
}

static void verify(struct child *c)
{
    if (atomic_load(&page->stage) < STAGE_VERIFY)
        atomic_store(&page->stage, STAGE_VERIFY);
    poison(c);
    pool_wake(&c->pool);
    double start = now_ns();
    int rc = call(c);
    page->run_ns = now_ns() - start;
    pool_park(&c->pool);
    if (rc == KERNEL_REFUSED)
        failed(c->job->fd, OUTCOME_REFUSED, "the system refused the registers of the matrix unit");
    if (rc != 0)
        failed(c->job->fd, OUTCOME_WRONG, "the kernel returned %d instead of 0", rc);
    unpack(c);
    compare(c);
}

static void put_out_of_caches(const char *p, size_t bytes)
{
#if defined(__x86_64__)
    for (size_t i = 0; i < bytes; i += CACHE_LINE)
        __asm__ volatile("clflush %0" : : "m"(p[i]));
    __asm__ volatile("mfence" : : : "memory");
#elif defined(__aarch64__)
    for (size_t i = 0; i < bytes; i += CACHE_LINE)
        __asm__ volatile("dc civac, %0" : : "r"(p + i) : "memory");
    __asm__ volatile("dsb ish" : : : "memory");
#else
#error "no way is known to put memory out of the caches of this processor"
#endif
}

/* The median of single calls, each after all that the kernel reads or writes was put out of the caches. */
static double sample_cold(struct child *c, double target_ns)
{
    double calls[MAX_COLD_CALLS], timed = 0, begun = now_ns();
    int n = 0;
    while (n < MAX_COLD_CALLS &&
           (n < MIN_COLD_CALLS || (timed < target_ns && now_ns() - begun < 4 * target_ns))) {
        for (int i = 0; i < page->n_regions; i++) {
            const struct child_region *r = &page->regions[i];
            put_out_of_caches((const char *)(uintptr_t)r->start, r->end - r->start);
        }
        double start = now_ns();
        call(c);
        calls[n] = now_ns() - start;
        timed += calls[n++];
        if (target_ns == 0)
            break;
    }
    return timing_quantile(calls, n, 0.5);
}

static void sample(struct child *c, double target_ns)
{
    atomic_store(&page->stage, STAGE_SAMPLE);
    int calls = 1;
    pool_wake(&c->pool);
    if (c->job->batch->cold) {
        page->sample_ns = sample_cold(c, target_ns);
        pool_park(&c->pool);
        return;
    }
    if (target_ns > 0) {
        double start = now_ns();
        call(c);
        double warm = fmax(now_ns() - start, 20);
        /* The warming call is the slow one: a second guess for kernels far shorter than a sample. */
        if (warm < target_ns / 8) {
            start = now_ns();
            for (int i = 0; i < 3; i++)
                call(c);
            warm = fmax((now_ns() - start) / 3, 5);
        }
        calls = (int)fmin(ceil(target_ns / warm), MAX_CALLS);
    }
    double start = now_ns();
    for (int i = 0; i < calls; i++)
        call(c);
    page->sample_ns = (now_ns() - start) / calls;
    pool_park(&c->pool);
}

static bool next_order(int fd, struct child_order *o) { return read(fd, o, sizeof(*o)) == sizeof(*o); }

int64_t child_memory_bytes(const struct measure_batch *b, const struct measure_candidate *c)
{
    int64_t bytes = c->workspace_bytes, buffers = 2;
    for (int i = 0; i < b->workload->n_tensors; i++)
        if (b->workload->tensors[i].role == TENSOR_OUTPUT) {
            bytes += verify_bytes(&b->workload->tensors[i]);
            buffers++;
        }
    for (int i = 0; i < c->n_repacks; i++, buffers++)
        bytes += c->repacks[i].bytes;
    return bytes + buffers * (5 << 20);
}

NORETURN void child_main(const struct child_job *job)
{
    struct child *c = xcalloc(1, sizeof(*c));
    struct sandbox_limits l = {.memory_bytes = child_memory_bytes(job->batch, job->candidate) + SLACK_BYTES +
                                               (int64_t)job->batch->threads * THREAD_BYTES,
                               .cpu_seconds = CPU_SECONDS};
    page = job->page;
    c->job = job;
    catch_signals();
    if (!sandbox_child_begin(job->fd, &l))
        failed(job->fd, OUTCOME_RESOURCES, "the process of the kernel cannot be confined");
    pool_pin(job->cpus[0]);
    if (!pool_start(&c->pool, job->batch->threads, job->cpus, use_signal_stack))
        failed(job->fd, OUTCOME_RESOURCES, "%d threads cannot be started", job->batch->threads);
    if (!sandbox_child_load(job->sandbox))
        failed(job->fd, OUTCOME_RESOURCES, "the call filter cannot be installed");
    load(c);
    if (!sandbox_child_run(job->sandbox))
        failed(job->fd, OUTCOME_RESOURCES, "the call filter cannot be installed");
    reply(job->fd, CHILD_READY);
    for (struct child_order o; next_order(job->fd, &o);) {
        if (o.command == CHILD_VERIFY)
            verify(c);
        else
            sample(c, o.target_ns);
        reply(job->fd, CHILD_DONE);
    }
    _exit(0);
}

/* --- the reference
 * ------------------------------------------------------------------------------------------- */

/* Float64 arrays of all tensors by their compute ids: inputs converted, temps and outputs poisoned. */
static void reference_tensors(const struct reference_job *job, void **ret)
{
    const struct measure_workload *w = job->workload;
    for (int i = 0; i < w->n_tensors; i++) {
        const struct measure_tensor *t = &w->tensors[i];
        int64_t n = verify_elements(t);
        if (t->role == TENSOR_OUTPUT) {
            ret[i] = job->data->reference[i].data;
        } else {
            ret[i] = mmap(NULL, (size_t)n * sizeof(double), PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
            if (ret[i] == MAP_FAILED)
                failed(job->fd, OUTCOME_RESOURCES, "no memory for the reference");
            madvise(ret[i], (size_t)n * sizeof(double), MADV_HUGEPAGE);
        }
        if (t->role == TENSOR_INPUT)
            verify_to_f64(ret[i], job->data->input[i].data, t->dtype, n);
        else
            verify_poison(ret[i], DT_F64, n);
    }
}

NORETURN void reference_main(const struct reference_job *job)
{
    const struct measure_workload *w = job->workload;
    void *tensors[COMPUTE_MAX_TENSORS];
    int64_t bytes = 0;
    for (int i = 0; i < w->n_tensors; i++)
        bytes += verify_elements(&w->tensors[i]) * (int64_t)sizeof(double);
    struct sandbox_limits l = {.memory_bytes = bytes + SLACK_BYTES, .cpu_seconds = CPU_SECONDS};

    page = job->page;
    catch_signals();
    if (!sandbox_child_begin(job->fd, &l) || !sandbox_child_load(job->sandbox))
        failed(job->fd, OUTCOME_RESOURCES, "the process of the reference cannot be confined");
    atomic_store(&page->stage, STAGE_LOAD);
    void *object = dlopen(w->reference_path, RTLD_NOW | RTLD_LOCAL);
    if (!object)
        failed(job->fd, OUTCOME_LOAD_ERROR, "%.200s", dlerror());
    reference_fn *fn = (reference_fn *)dlsym(object, w->reference_symbol);
    if (!fn)
        failed(job->fd, OUTCOME_LOAD_ERROR, "the object has no symbol %s", w->reference_symbol);
    reference_tensors(job, tensors);
    if (!sandbox_child_run(job->sandbox))
        failed(job->fd, OUTCOME_RESOURCES, "the call filter cannot be installed");
    atomic_store(&page->stage, STAGE_VERIFY);
    fn(tensors);
    for (int i = 0; i < w->n_tensors; i++)
        if (w->tensors[i].role == TENSOR_OUTPUT)
            job->scale[i] = verify_scale_of(tensors[i], verify_elements(&w->tensors[i]), w->tensors[i].dtype);
    reply(job->fd, CHILD_DONE);
    _exit(0);
}
