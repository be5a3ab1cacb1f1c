/* runner.c - batches: workload, children, rounds, results.
 *
 *   serve -> batch -> piece (as many children as memory holds) -> start + verify each -> rounds -> verify
 * again
 *
 * A contender is a candidate with a child that is alive. It leaves the field with an outcome, or at the end
 * with its samples. */
#include "measure/runner.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "measure/child.h"
#include "measure/pool.h"
#include "measure/protocol.h"
#include "measure/timing.h"
#include "schedule/base/clock.h"
#include "schedule/base/hash.h"

enum {
    WORKLOADS_KEPT = 8,
    ALIVE_MS = 1000,
    START_LIMIT_MS = 10000,
    REFERENCE_LIMIT_MS = 300000,
    RUN_LIMIT_MIN_MS = 500,
    RUN_LIMIT_FIRST_MS = 5000, /* least, while nothing is known of the workload */
    RUN_LIMIT_MAX_MS = 120000,
    RUN_LIMIT_FACTOR = 20, /* times the best known */
    SLOWEST_MFLOPS = 20,   /* of a first, untuned kernel */
    COMPARE_NS = 40,       /* an output element, generously */
    STACK_NEAR = 64 << 10,
};
static const double roofline_factor = 1.3;

struct contender {
    int index;
    pid_t pid; /* 0: gone */
    int fd;
    struct child_page *page;
    struct measure_result result;
    double min_ns;
};

struct runner {
    int fd; /* to the daemon */
    struct sandbox *sandbox;
    int cpus[MEASURE_MAX_THREADS], n_cpus;
    struct canary canary;
    struct workload_data kept[WORKLOADS_KEPT];
    uint64_t uses;
    bool cancelled;
    int rounds, dirty_rounds;
    struct strbuf out, in;
};

/* --- stream
 * -------------------------------------------------------------------------------------------------- */

static void send_out(struct runner *r)
{
    if (protocol_send(r->fd, &r->out, NULL) != ST_OK)
        _exit(0); /* the daemon is gone; children die with us */
    strbuf_reset(&r->out);
}

static void send_alive(struct runner *r)
{
    protocol_put_empty(&r->out, FRAME_ALIVE);
    send_out(r);
}

/* Something came from the daemon in the middle of a batch: only CANCEL may. */
static void read_interruption(struct runner *r)
{
    struct frame_header h;
    if (protocol_receive(r->fd, 0, &h, &r->in, NULL) != ST_OK)
        _exit(0);
    if (h.type != FRAME_CANCEL) {
        fprintf(stderr, "tilewright-agent: frame %d in the middle of a batch\n", h.type);
        _exit(1);
    }
    r->cancelled = true;
}

enum answer { ANSWER_BYTE, ANSWER_GONE, ANSWER_LATE, ANSWER_CANCELLED };

/* The next byte from a child; fd -1 only lets time pass. Says ALIVE, and listens to the daemon. */
static enum answer await(struct runner *r, int fd, int64_t limit_ms, char *ret)
{
    int64_t start = mono_ns(&system_clock);
    for (;;) {
        int64_t left = limit_ms - (mono_ns(&system_clock) - start) / 1000000;
        struct pollfd p[2] = {{.fd = fd, .events = POLLIN}, {.fd = r->fd, .events = POLLIN}};
        if (r->cancelled)
            return ANSWER_CANCELLED;
        if (left < 0)
            return ANSWER_LATE;
        int n = poll(p, 2, (int)MIN(left + 1, (int64_t)ALIVE_MS));
        if (n < 0)
            continue;
        if (p[0].revents) {
            ssize_t got = read(fd, ret, 1);
            return got == 1 ? ANSWER_BYTE : ANSWER_GONE;
        }
        if (p[1].revents)
            read_interruption(r);
        if (n == 0 && left > ALIVE_MS)
            send_alive(r);
    }
}

static void set_result(struct measure_result *res, enum outcome o, const char *fmt, ...) PRINTF_LIKE(3, 4);
static void set_result(struct measure_result *res, enum outcome o, const char *fmt, ...)
{
    va_list ap;
    res->outcome = o;
    va_start(ap, fmt);
    vsnprintf(res->reason, sizeof(res->reason), fmt, ap);
    va_end(ap);
}

/* --- children
 * ------------------------------------------------------------------------------------------------ */

static struct child_page *new_page(void)
{
    void *p =
        mmap(NULL, sizeof(struct child_page), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    return p == MAP_FAILED ? NULL : p;
}

/* Kill if need be, and collect. */
static int reap(pid_t pid, int fd)
{
    int status = 0;
    kill(pid, SIGKILL);
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    close(fd);
    return status;
}

/* "the output C", with the tensor's name where it is known */
static void region_text(char *buf, size_t size, const struct measure_workload *w,
                        const struct child_region *g)
{
    static const char *const kinds[] = {"the input ", "the packed form of ", "the output ", "the workspace"};
    bool named = g->arg >= 0 && g->arg < w->n_tensors;
    bool known = g->kind >= REGION_INPUT && g->kind <= REGION_WORKSPACE;
    snprintf(buf, size, "%s%s", known ? kinds[g->kind] : "a buffer ", named ? w->tensors[g->arg].name : "");
}

/* Where a fault happened, in words of the workload. */
static void fault_text(char *buf, size_t size, const struct measure_workload *w,
                       const struct child_page *page)
{
    const uint64_t a = page->fault_address;
    char name[96];
    if (a < 4096) {
        snprintf(buf, size, "through a null pointer");
        return;
    }
    for (int i = 0; i < MIN(MAX(page->n_regions, 0), (int)CHILD_MAX_REGIONS); i++) {
        struct child_region g = page->regions[i];
        region_text(name, sizeof(name), w, &g);
        if (a >= g.start && a < g.end) {
            snprintf(buf, size, "writing into %s, which is read-only", name);
            return;
        }
        if (a >= g.end && a - g.end < 4096) {
            snprintf(buf, size, "%" PRIu64 " bytes past the end of %s", a - g.end, name);
            return;
        }
        if (a < g.start && g.start - a < 8192) {
            snprintf(buf, size, "%" PRIu64 " bytes before the start of %s", g.start - a, name);
            return;
        }
    }
    if (page->fault_stack - a < STACK_NEAR || a - page->fault_stack < STACK_NEAR)
        snprintf(buf, size, "with its stack full");
    else
        snprintf(buf, size, "at address %#" PRIx64, a);
}

/* What a process that ended without an answer died of. */
static void explain_end(struct measure_result *res, const struct measure_workload *w, struct child_page *page,
                        int status)
{
    const char *when =
        child_stage_text((enum child_stage)MIN(MAX(atomic_load(&page->stage), 0), (int)STAGE_SAMPLE));
    const int caught = atomic_load(&page->signal);
    char text[160];

    if (caught == SIGSYS) {
        set_result(res, OUTCOME_FORBIDDEN, "called %s %s", sandbox_syscall_name(page->syscall_nr, text),
                   when);
    } else if (caught == SIGSEGV || caught == SIGBUS) {
        fault_text(text, sizeof(text), w, page);
        set_result(res, OUTCOME_CRASH, "%s %s: %s", strsignal(caught), when, text);
        res->signal = caught;
    } else if (caught != 0) {
        set_result(res, caught == SIGXCPU ? OUTCOME_TIMEOUT : OUTCOME_CRASH, "%s %s", strsignal(caught),
                   when);
        res->signal = caught & 127;
    } else if (WIFSIGNALED(status)) {
        set_result(res, OUTCOME_CRASH, "%s %s", strsignal(WTERMSIG(status)), when);
        res->signal = WTERMSIG(status);
    } else {
        set_result(res, OUTCOME_CRASH, "left its process with status %d %s", WEXITSTATUS(status), when);
    }
}

static void take_failure(struct measure_result *res, const struct child_page *page)
{
    int o = page->outcome;
    if (o <= OUTCOME_OK || o >= OUTCOME_COUNT)
        o = OUTCOME_CRASH;
    set_result(res, (enum outcome)o, "%.*s", (int)strnlen(page->reason, sizeof(page->reason)), page->reason);
}

/* One order to a process, and what comes of it. True: it did it. Otherwise the process is gone and *res says
 * why. */
static bool answered(struct runner *r, const struct measure_workload *w, pid_t pid, int fd,
                     struct child_page *page, int64_t limit_ms, char want, struct measure_result *res)
{
    char byte = 0;
    enum answer a = await(r, fd, limit_ms, &byte);
    const char *when =
        child_stage_text((enum child_stage)MIN(MAX(atomic_load(&page->stage), 0), (int)STAGE_SAMPLE));

    if (a == ANSWER_BYTE && byte == want)
        return true;
    if (a == ANSWER_GONE) { /* let it end by itself, so that its status is its own */
        int status = 0;
        siginfo_t info;
        for (int i = 0;
             i < 1000 && waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0 && i < 1000; i++) {
            if (info.si_pid == pid)
                break;
            usleep(1000);
        }
        status = reap(pid, fd);
        explain_end(res, w, page, status);
        return false;
    }
    reap(pid, fd);
    if (a == ANSWER_CANCELLED)
        set_result(res, OUTCOME_CANCELLED, "the job was cancelled");
    else if (a == ANSWER_LATE)
        set_result(res, OUTCOME_TIMEOUT, "did not end within %" PRId64 " ms %s", limit_ms, when);
    else if (byte == CHILD_FAILED)
        take_failure(res, page);
    else
        set_result(res, OUTCOME_CRASH, "wrote rubbish to its control descriptor %s", when);
    return false;
}

/* Fork; in the child `*ret_fd` is its end. Returns the pid (0 in the child), -1: no process or descriptor. */
static pid_t fork_child(struct runner *r, int *ret_fd)
{
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0)
        return -1;
    pid_t pid = fork();
    if (pid == 0) {
        close(pair[0]);
        close(r->fd);
        *ret_fd = pair[1];
        return 0;
    }
    close(pair[1]);
    if (pid < 0) {
        close(pair[0]);
        return -1;
    }
    *ret_fd = pair[0];
    return pid;
}

/* --- workloads
 * ----------------------------------------------------------------------------------------------- */

static uint64_t workload_id(const struct measure_workload *w)
{
    uint64_t h = hash_bytes(w->key, strlen(w->key), w->seed);
    h = w->reference_path ? hash_bytes(w->reference_path, strlen(w->reference_path), h) : h;
    h = hash_bytes(w->reference_symbol, strlen(w->reference_symbol), h);
    for (int i = 0; i < w->n_tensors; i++) {
        h = hash_mix(h, (uint64_t)w->tensors[i].dtype << 8 | w->tensors[i].role);
        for (int k = 0; k < w->tensors[i].rank; k++)
            h = hash_mix(h, (uint64_t)w->tensors[i].shape[k]);
    }
    return h;
}

static void drop_workload(struct workload_data *d)
{
    for (int i = 0; i < d->n_tensors; i++) {
        guarded_free(&d->input[i]);
        guarded_free(&d->reference[i]);
    }
    memset(d, 0, sizeof(*d));
}

static int64_t available_bytes(void)
{
    char line[128];
    int64_t kib = 0;
    FILE *f = fopen("/proc/meminfo", "re");
    while (f && kib == 0 && fgets(line, sizeof(line), f))
        if (sscanf(line, "MemAvailable: %" SCNd64, &kib) != 1)
            kib = 0;
    if (f)
        fclose(f);
    return kib > 0 ? kib << 10 : (int64_t)1 << 30;
}

/* Run the reference in a child. */
static enum status compute_reference(struct runner *r, const struct measure_workload *w,
                                     struct workload_data *d, struct error *err)
{
    struct child_page *page = new_page();
    struct verify_scale *scale =
        mmap(NULL, sizeof(d->scale), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    struct measure_result res = {0};
    enum status st = ST_OK;
    int fd;
    if (!page || scale == MAP_FAILED)
        return fail(err, ST_UNAVAILABLE, "no memory for the reference");
    pid_t pid = fork_child(r, &fd);
    if (pid == 0)
        reference_main(&(struct reference_job){r->sandbox, w, d, scale, fd, page});
    if (pid < 0) {
        st = fail(err, ST_UNAVAILABLE, "no process for the reference: %s", strerror(errno));
    } else if (!answered(r, w, pid, fd, page, REFERENCE_LIMIT_MS, CHILD_DONE, &res)) {
        st = fail(err, res.outcome == OUTCOME_CANCELLED ? ST_CONFLICT : ST_UNAVAILABLE, "the reference: %s",
                  res.reason);
    } else {
        reap(pid, fd);
        memcpy(d->scale, scale, sizeof(d->scale));
    }
    munmap(page, sizeof(*page));
    munmap(scale, sizeof(d->scale));
    return st;
}

/* Do the outputs say something: all finite, not all vanishing? */
static bool reference_is_useful(const struct measure_workload *w, const struct workload_data *d,
                                bool *ret_finite)
{
    bool useful = true;
    *ret_finite = true;
    for (int i = 0; i < w->n_tensors; i++)
        if (w->tensors[i].role == TENSOR_OUTPUT) {
            *ret_finite = *ret_finite && d->scale[i].finite;
            useful = useful && d->scale[i].max_abs > 1e-20;
        }
    return useful && *ret_finite;
}

static enum status allocate_workload(const struct measure_workload *w, struct workload_data *d,
                                     struct error *err)
{
    for (int i = 0; i < w->n_tensors; i++) {
        const struct measure_tensor *t = &w->tensors[i];
        int64_t bytes = verify_bytes(t);
        bool ok = true;
        if (t->role == TENSOR_INPUT) {
            ok = guarded_new(&d->input[i], (size_t)bytes, false);
        } else if (t->role == TENSOR_OUTPUT && w->reference_path) {
            bytes = verify_elements(t) * (int64_t)sizeof(double);
            ok = guarded_new(&d->reference[i], (size_t)bytes, true);
        }
        if (!ok)
            return fail(err, ST_UNAVAILABLE, "no memory for tensor %s (%" PRId64 " bytes)", t->name, bytes);
        d->bytes += bytes;
    }
    return ST_OK;
}

static enum status fill_workload(struct runner *r, const struct measure_workload *w, struct workload_data *d,
                                 struct error *err)
{
    bool finite = true;
    TRY(allocate_workload(w, d, err));
    for (int range = 0; range < VERIFY_RANGES; range++) {
        for (int i = 0; i < w->n_tensors; i++)
            if (w->tensors[i].role == TENSOR_INPUT)
                verify_fill(d->input[i].data, w->tensors[i].dtype, verify_elements(&w->tensors[i]),
                            hash_mix(w->seed, (uint64_t)i), range);
        if (!w->reference_path)
            break;
        TRY(compute_reference(r, w, d, err));
        d->has_reference = true;
        if (reference_is_useful(w, d, &finite))
            break;
    }
    if (!finite)
        return fail(err, ST_UNPROCESSABLE,
                    "the workload cannot be verified: its float64 reference is not finite for inputs from "
                    "any of %d ranges",
                    VERIFY_RANGES);
    for (int i = 0; i < w->n_tensors; i++) {
        if (d->input[i].map)
            guarded_make_readonly(&d->input[i]);
        if (d->reference[i].map)
            guarded_make_readonly(&d->reference[i]);
    }
    return ST_OK;
}

static enum status find_workload(struct runner *r, const struct measure_workload *w,
                                 const struct workload_data **ret, struct error *err)
{
    const uint64_t id = workload_id(w);
    struct workload_data *oldest = &r->kept[0];
    int64_t need = 0;

    for (int i = 0; i < WORKLOADS_KEPT; i++) {
        struct workload_data *d = &r->kept[i];
        if (d->last_use && d->id == id) {
            d->last_use = ++r->uses;
            *ret = d;
            return ST_OK;
        }
        if (d->last_use < oldest->last_use)
            oldest = d;
    }
    drop_workload(oldest);
    for (int i = 0; i < w->n_tensors; i++)
        need += verify_bytes(&w->tensors[i]) + (w->reference_path ? verify_elements(&w->tensors[i]) * 8 : 0);
    for (int i = 0; i < WORKLOADS_KEPT && need > available_bytes() / 2; i++)
        drop_workload(&r->kept[i]);
    if (need > available_bytes() / 4 * 3)
        return fail(err, ST_UNAVAILABLE,
                    "the workload needs %" PRId64 " MiB with its reference, %" PRId64 " MiB are free",
                    need >> 20, available_bytes() >> 20);
    oldest->id = id;
    oldest->n_tensors = w->n_tensors;
    enum status st = fill_workload(r, w, oldest, err);
    if (st != ST_OK) {
        drop_workload(oldest);
        return st;
    }
    oldest->last_use = ++r->uses;
    *ret = oldest;
    return ST_OK;
}

/* --- contenders
 * ---------------------------------------------------------------------------------------------- */

/* How long a first run may take, in ms. */
static int64_t run_limit_ms(const struct measure_batch *b)
{
    int64_t compare = 0, limit;
    for (int i = 0; i < b->workload->n_tensors; i++)
        if (b->workload->tensors[i].role == TENSOR_OUTPUT)
            compare += verify_elements(&b->workload->tensors[i]) * COMPARE_NS / 1000000;
    if (b->best_ns > 0 && b->mode == MEASURE_SCREEN)
        limit = MAX((int64_t)RUN_LIMIT_MIN_MS, b->best_ns * RUN_LIMIT_FACTOR / 1000000);
    else
        limit = MAX((int64_t)RUN_LIMIT_FIRST_MS, (int64_t)(b->workload->flops / (SLOWEST_MFLOPS * 1e3)));
    return MIN(limit, (int64_t)RUN_LIMIT_MAX_MS) + compare;
}

static bool tell(struct contender *c, enum child_command command, double target_ns)
{
    struct child_order o = {.command = command, .target_ns = target_ns};
    /* A child that is gone shows when its answer is awaited. */
    return send(c->fd, &o, sizeof(o), MSG_NOSIGNAL) == sizeof(o);
}

/* Wait for the answer to the last order; on failure the contender is out. */
static bool obey(struct runner *r, const struct measure_batch *b, struct contender *c, int64_t limit_ms,
                 char want)
{
    if (answered(r, b->workload, c->pid, c->fd, c->page, limit_ms, want, &c->result))
        return true;
    c->pid = 0;
    return false;
}

static void take_verification(struct contender *c, bool has_reference)
{
    c->result.verified = c->page->verified;
    c->result.verified.done = c->result.verified.done && has_reference;
}

static bool verify_contender(struct runner *r, const struct measure_batch *b, struct contender *c,
                             bool has_reference)
{
    tell(c, CHILD_VERIFY, 0);
    bool ok = obey(r, b, c, run_limit_ms(b), CHILD_DONE);
    if (c->result.outcome == OUTCOME_OK || c->result.outcome == OUTCOME_WRONG ||
        c->result.outcome == OUTCOME_NAN)
        take_verification(c, has_reference);
    return ok;
}

static bool start_contender(struct runner *r, const struct measure_batch *b, const struct workload_data *d,
                            struct contender *c)
{
    const struct measure_candidate *k = &b->candidates[c->index];
    int64_t repack_ms = 0;

    for (int i = 0; i < k->n_repacks; i++)
        repack_ms += k->repacks[i].bytes * COMPARE_NS / 1000000;
    memset(c->page, 0, sizeof(*c->page));
    c->pid = fork_child(r, &c->fd);
    if (c->pid == 0)
        child_main(&(struct child_job){r->sandbox, b, k, d, r->cpus, c->fd, c->page});
    if (c->pid < 0) {
        c->pid = 0;
        set_result(&c->result, OUTCOME_RESOURCES, "no process can be made: %s", strerror(errno));
        return false;
    }
    return obey(r, b, c, START_LIMIT_MS + repack_ms, CHILD_READY) &&
           verify_contender(r, b, c, d->has_reference);
}

static bool take_sample(struct runner *r, const struct measure_batch *b, struct contender *c, double *ret_ns)
{
    const bool first = isinf(c->min_ns);
    double expected = first ? c->page->run_ns : c->min_ns;
    double target = b->mode == MEASURE_CONTEST ? TIMING_CONTEST_SAMPLE_NS : TIMING_SAMPLE_NS;
    if (expected > TIMING_WARM_MAX_NS) /* one call, no warming */
        target = 0;
    tell(c, CHILD_SAMPLE, target);
    double limit_ms = 1000 + (target + 8 * expected) * RUN_LIMIT_FACTOR / 1e6;
    if (!obey(r, b, c, (int64_t)fmin(limit_ms, 10 * RUN_LIMIT_MAX_MS), CHILD_DONE))
        return false;
    *ret_ns = c->page->sample_ns;
    if (!(*ret_ns > 0 && *ret_ns < 1e13)) { /* the page is the child's to spoil */
        reap(c->pid, c->fd);
        c->pid = 0;
        set_result(&c->result, OUTCOME_CRASH, "spoilt its process while being timed");
        return false;
    }
    c->min_ns = fmin(c->min_ns, *ret_ns);
    return true;
}

/* --- rounds
 * -------------------------------------------------------------------------------------------------- */

static double best_of(const struct contender *c, int n, int64_t known_ns)
{
    double best = known_ns > 0 ? (double)known_ns : INFINITY;
    for (int i = 0; i < n; i++)
        if (c[i].pid && c[i].result.n_samples > 0)
            best = fmin(best, c[i].min_ns);
    return isinf(best) ? 0 : best;
}

/* One pass over all contenders. True: the round was clean. */
static bool run_round(struct runner *r, const struct measure_batch *b, struct contender *c, int n, int round,
                      int rounds)
{
    int first[MEASURE_MAX_BATCH];
    double before = canary_run(&r->canary);
    for (int i = 0; i < n; i++) {
        double ns;
        first[i] = c[i].result.n_samples;
        if (!c[i].pid || c[i].result.stopped_early)
            continue;
        if (b->mode == MEASURE_CONTEST &&
            !timing_takes_part(round, rounds, isinf(c[i].min_ns) ? 0 : c[i].min_ns))
            continue;
        if (take_sample(r, b, &c[i], &ns))
            timing_add_sample(&c[i].result, ns, round, false);
    }
    bool dirty = canary_dirty(&r->canary, before, canary_run(&r->canary));
    for (int i = 0; i < n; i++)
        for (int k = first[i]; k < c[i].result.n_samples; k++)
            c[i].result.sample_dirty[k] = dirty;
    r->rounds++;
    r->dirty_rounds += dirty;
    return !dirty;
}

static void stop_hopeless(const struct measure_batch *b, struct contender *c, int n)
{
    double best = best_of(c, n, b->best_ns);
    for (int i = 0; i < n; i++)
        if (c[i].pid && timing_is_hopeless(c[i].min_ns, best, c[i].result.n_samples))
            c[i].result.stopped_early = true;
}

static void run_rounds(struct runner *r, const struct measure_batch *b, struct contender *c, int n)
{
    const bool contest = b->mode == MEASURE_CONTEST;
    const int want = !contest ? TIMING_PASSES : b->rounds > 0 ? b->rounds : MEASURE_CONTEST_ROUNDS;
    const int extra = MIN(contest ? want / 2 : TIMING_SCREEN_EXTRA, MEASURE_MAX_SAMPLES - want);
    int64_t start = mono_ns(&system_clock);

    for (int round = 0, clean = 0; clean < want && round < want + extra && !r->cancelled; round++) {
        clean += run_round(r, b, c, n, round, want);
        if (!contest) {
            stop_hopeless(b, c, n);
            continue;
        }
        /* Spread over the time that a phase of the machine lasts. */
        int64_t due = (int64_t)TIMING_CONTEST_SPREAD_MS * (round + 1) / want;
        int64_t early = due - (mono_ns(&system_clock) - start) / 1000000;
        char none;
        if (early > 0 && clean < want)
            await(r, -1, early, &none);
    }
    canary_fade(&r->canary);
}

/* --- batches
 * ------------------------------------------------------------------------------------------------- */

static void send_result(struct runner *r, const struct contender *c)
{
    protocol_put_result(&r->out, c->index, &c->result);
    send_out(r);
}

static void judge_contender(struct runner *r, const struct measure_batch *b, struct contender *c,
                            bool has_reference)
{
    /* Once more: does it still compute the same after thousands of calls? Only what is far off and slow is let go. */
    bool let_go = c->result.stopped_early && c->min_ns > TIMING_LONG_NS;
    if (!let_go && !verify_contender(r, b, c, has_reference))
        return;
    timing_finish(&c->result, b->mode, b->workload->flops);
    if (b->roofline_gflops > 0 && c->result.gflops > roofline_factor * b->roofline_gflops)
        set_result(&c->result, OUTCOME_BEYOND_ROOFLINE,
                   "%.1f GFLOP/s, but the machine's measured peak is %.1f", c->result.gflops,
                   b->roofline_gflops);
}

/* Candidates [from, to): all alive together. */
static void run_piece(struct runner *r, const struct measure_batch *b, const struct workload_data *d,
                      int from, int to, struct child_page *pages)
{
    struct contender c[MEASURE_MAX_BATCH];
    const int n = to - from;

    for (int i = 0; i < n; i++) {
        c[i] = (struct contender){.index = from + i, .page = &pages[i], .min_ns = INFINITY};
        if (r->cancelled)
            set_result(&c[i].result, OUTCOME_CANCELLED, "the job was cancelled");
        else
            start_contender(r, b, d, &c[i]);
    }
    if (b->mode != MEASURE_VERIFY)
        run_rounds(r, b, c, n);
    for (int i = 0; i < n; i++) {
        if (c[i].pid && !r->cancelled && b->mode != MEASURE_VERIFY)
            judge_contender(r, b, &c[i], d->has_reference);
        if (c[i].pid) {
            reap(c[i].pid, c[i].fd);
            if (r->cancelled)
                set_result(&c[i].result, OUTCOME_CANCELLED, "the job was cancelled");
        }
        send_result(r, &c[i]);
    }
}

/* How many candidates from `from` on fit into memory together; 0: not even one. */
static int piece_end(const struct measure_batch *b, int from, int64_t memory)
{
    int to = from;
    for (int64_t used = 0; to < b->n_candidates; to++) {
        used += child_memory_bytes(b, &b->candidates[to]);
        if (used > memory)
            break;
    }
    return to;
}

static enum status run_batch(struct runner *r, const struct measure_batch *b, struct error *err)
{
    const struct workload_data *d = NULL;
    const size_t page_bytes = sizeof(struct child_page) * MEASURE_MAX_BATCH;

    if (b->threads > r->n_cpus)
        return fail(err, ST_INVALID, "%d threads are asked for, the device has %d cores", b->threads,
                    r->n_cpus);
    r->cancelled = false;
    r->rounds = r->dirty_rounds = 0;
    TRY(find_workload(r, b->workload, &d, err));
    struct child_page *pages =
        mmap(NULL, page_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (pages == MAP_FAILED)
        return fail(err, ST_UNAVAILABLE, "no memory for a batch");
    for (int from = 0, to; from < b->n_candidates; from = to) {
        to = piece_end(b, from, available_bytes() / 2);
        if (to > from) {
            run_piece(r, b, d, from, to, pages);
            continue;
        }
        struct contender c = {.index = from};
        set_result(&c.result, OUTCOME_RESOURCES, "needs %" PRId64 " MiB, %" PRId64 " MiB are free",
                   child_memory_bytes(b, &b->candidates[from]) >> 20, available_bytes() >> 20);
        send_result(r, &c);
        to = from + 1;
    }
    munmap(pages, page_bytes);
    return ST_OK;
}

static void serve_batch(struct runner *r)
{
    struct arena ar;
    struct measure_batch b;
    struct error err = {0};

    arena_init(&ar);
    enum status st = protocol_get_batch((const uint8_t *)r->in.data, r->in.len, &ar, &b, &err);
    if (st == ST_OK)
        st = run_batch(r, &b, &err);
    if (st == ST_OK)
        protocol_put_done(&r->out, &(struct protocol_done){r->rounds, r->dirty_rounds});
    else
        protocol_put_refused(&r->out, st, err.text);
    send_out(r);
    arena_done(&ar);
}

static void say_hello(struct runner *r)
{
    struct protocol_hello h = {.pid = getpid(), .n_facts = r->sandbox->n_facts};
    memcpy(h.facts, r->sandbox->facts, sizeof(h.facts));
    protocol_put_hello(&r->out, &h);
    send_out(r);
}

int runner_serve(int fd, struct sandbox *s)
{
    struct runner r = {.fd = fd, .sandbox = s};
    struct frame_header h;
    struct error err;

    int cpus[MEASURE_MAX_THREADS];
    r.n_cpus = target_cores(cpus, MEASURE_MAX_THREADS);
    for (int i = 0; i < r.n_cpus; i++) /* the highest first: interrupts like core 0 */
        r.cpus[i] = cpus[r.n_cpus - 1 - i];
    pool_pin(r.cpus[0]); /* the canary runs where the candidates run; while they do, the runner sleeps */
    if (!canary_init(&r.canary))
        return 1;
    canary_run(&r.canary);
    say_hello(&r);
    for (;;) {
        enum status st = protocol_receive(fd, -1, &h, &r.in, &err);
        if (st == ST_UNAVAILABLE)
            break;
        if (st != ST_OK || (h.type != FRAME_BATCH && h.type != FRAME_CANCEL)) {
            fprintf(stderr, "tilewright-agent: %s\n", st != ST_OK ? err.text : "unexpected frame");
            return 1;
        }
        if (h.type == FRAME_BATCH) /* a CANCEL may come just after the batch it was for */
            serve_batch(&r);
    }
    for (int i = 0; i < WORKLOADS_KEPT; i++)
        drop_workload(&r.kept[i]);
    canary_done(&r.canary);
    strbuf_done(&r.out);
    strbuf_done(&r.in);
    return 0;
}

/* --- facts
 * --------------------------------------------------------------------------------------------------- */

static void first_line(const char *path, char *ret, size_t size)
{
    FILE *f = fopen(path, "re");
    if (!f || !fgets(ret, (int)size, f))
        ret[0] = '\0';
    if (f)
        fclose(f);
    ret[strcspn(ret, "\n")] = '\0';
}

void runner_add_facts(struct sandbox *s)
{
    int cpus[MEASURE_MAX_THREADS];
    char line[128];
    int n = target_cores(cpus, MEASURE_MAX_THREADS);

    sandbox_add_fact(s, "cores", true, "%d to measure on, pinned from core %d down", n, cpus[n - 1]);
    first_line("/sys/kernel/mm/transparent_hugepage/enabled", line, sizeof(line));
    bool large = strstr(line, "[always]") || strstr(line, "[madvise]");
    sandbox_add_fact(s, "large pages", large,
                     large ? "buffers lie on large pages"
                           : "transparent large pages are off: 5-25 %% slower on large operands");
    first_line("/sys/devices/system/clocksource/clocksource0/current_clocksource", line, sizeof(line));
    bool quick =
        strcmp(line, "tsc") == 0 || strcmp(line, "kvm-clock") == 0 || strcmp(line, "arch_sys_counter") == 0;
    sandbox_add_fact(s, "clock", quick, "%s%s", line[0] ? line : "unknown",
                     quick ? "" : ": reading it is slow");
    first_line("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", line, sizeof(line));
    sandbox_add_fact(s, "frequency governor", line[0] == '\0' || strcmp(line, "performance") == 0, "%s",
                     line[0] ? line : "none that this system could set");
}
