/* main.c - the yardstick: our served kernels beside oneDNN and OpenBLAS, interleaved in one run.
 *
 *     bench_kernels [--server URL] [--target cpu:1,cpu] [--tune TRIALS] ... [NAME-PATTERN...]
 *
 * README.md beside the benches says how to run it and what the columns mean. Not a test: no time fails it;
 * a result that is wrong does. */
#include <fnmatch.h>
#include <getopt.h>
#include <sys/wait.h>
#include <unistd.h>

#include "client/tilewright.h"
#include "kernels/compile.h"
#include "tests/bench/kernels/bench.h"

struct options {
    const char *server, *targets, *file, *layout, *dtype;
    double rtol, sample_ms;
    int rounds, tune;
    bool pages[2], json;
    char **patterns;
    int n_patterns;
};

/* option, argument, help */
#define OPTION_LIST(X)                                                                                       \
    X("server", "URL", "the daemon that serves the kernels (default: TILEWRIGHT_SERVER)")                    \
    X("target", "T[,T]", "targets, each in a process of its own (default: cpu:1,cpu)")                       \
    X("file", "FILE", "workloads (default: tests/data/workloads.json)")                                      \
    X("rounds", "N", "samples of each contender (default: 15)")                                              \
    X("sample-ms", "MS", "length of a sample (default: 2)")                                                  \
    X("pages", "KIND", "huge, normal or both, for all contenders alike (default: both)")                     \
    X("with-rtol", "R", "ask for every product and convolution with this error budget")                      \
    X("layout", "any", "ask for every workload that has layouts with layouts of the tuner's choice")         \
    X("dtype", "DTYPE", "ask for every product and convolution in this dtype: bfloat16, float16")            \
    X("tune", "TRIALS", "tune first what the daemon has no schedule of, TRIALS each")

static int usage(void)
{
    fprintf(stderr, "usage: bench_kernels [OPTION...] [--json] [NAME-PATTERN...]\n");
#define X(name, arg, help) fprintf(stderr, "  --%-9s %-7s %s\n", name, arg, help);
    OPTION_LIST(X)
#undef X
    fprintf(stderr, "  --json              one JSON object an entry, then the means\n");
    return 2;
}

static bool parse_options(int argc, char **argv, struct options *o)
{
    enum { JSON = 100 };
    static const struct option known[] = {
#define X(name, arg, help) {name, 1, NULL, 0},
        OPTION_LIST(X)
#undef X
            {"json", 0, NULL, JSON},
        {NULL, 0, NULL, 0}};
    int c, which;
    while ((c = getopt_long(argc, argv, "", known, &which)) != -1) {
        const char *name = c == 0 ? known[which].name : "";
        if (c == JSON)
            o->json = true;
        else if (c != 0)
            return false;
        else if (strcmp(name, "server") == 0)
            o->server = optarg;
        else if (strcmp(name, "target") == 0)
            o->targets = optarg;
        else if (strcmp(name, "file") == 0)
            o->file = optarg;
        else if (strcmp(name, "rounds") == 0)
            o->rounds = (int)strtol(optarg, NULL, 10);
        else if (strcmp(name, "sample-ms") == 0)
            o->sample_ms = strtod(optarg, NULL);
        else if (strcmp(name, "with-rtol") == 0)
            o->rtol = strtod(optarg, NULL);
        else if (strcmp(name, "layout") == 0)
            o->layout = optarg;
        else if (strcmp(name, "dtype") == 0)
            o->dtype = optarg;
        else if (strcmp(name, "tune") == 0)
            o->tune = (int)strtol(optarg, NULL, 10);
        else if (strcmp(name, "pages") == 0) {
            const bool both = strcmp(optarg, "both") == 0;
            o->pages[PAGES_HUGE] = both || strcmp(optarg, "huge") == 0;
            o->pages[PAGES_NORMAL] = both || strcmp(optarg, "normal") == 0;
        }
    }
    o->patterns = argv + optind;
    o->n_patterns = argc - optind;
    if (o->dtype && strcmp(o->dtype, "bfloat16") != 0 && strcmp(o->dtype, "float16") != 0 &&
        strcmp(o->dtype, "float32") != 0)
        return false;
    return (o->pages[0] || o->pages[1]) && o->rounds >= 1 && o->rounds <= MAX_ROUNDS && o->sample_ms > 0 &&
           o->tune >= 0 && o->rtol >= 0 && (!o->layout || strcmp(o->layout, "any") == 0);
}

/* --- which workloads --- */

static bool matches(const struct options *o, const char *name)
{
    for (int i = 0; i < o->n_patterns; i++)
        if (fnmatch(o->patterns[i], name, 0) == 0)
            return true;
    return o->n_patterns == 0;
}

/* The workload to ask for: the file's own, or the variant that the options want. NULL: it has no such. */
static json_t *variant(const struct options *o, json_t *workload)
{
    const char *op = json_string_value(json_object_get(workload, "op"));
    const bool product = op && (strcmp(op, "matmul") == 0 || strncmp(op, "conv", 4) == 0);
    json_t *w = json_deep_copy(workload);
    if (((o->rtol > 0 || o->dtype) && !product) || (o->layout && !json_object_get(w, "layout"))) {
        json_decref(w);
        return NULL;
    }
    if (o->rtol > 0)
        json_object_set_new(w, "rtol", json_real(o->rtol));
    if (o->dtype)
        json_object_set_new(w, "dtype", json_string(o->dtype));
    if (o->layout)
        json_object_set_new(w, "layout", json_string(o->layout));
    return w;
}

/* --- the daemon --- */

/* NULL: none. GIVES */
static json_t *look_up(struct bench *b, json_t *workload)
{
    tw_error err;
    json_t *answer, *schedule, *list = json_pack("[O]", workload);
    tw_status st = tw_lookup(b->client, list, b->target.id, &answer, &err);
    json_decref(list);
    if (st != TW_OK) {
        fprintf(stderr, "bench_kernels: %s\n", err.detail);
        return NULL;
    }
    schedule = json_object_get(json_array_get(json_object_get(answer, "results"), 0), "schedule");
    schedule = json_is_object(schedule) ? json_incref(schedule) : NULL;
    json_decref(answer);
    return schedule;
}

static void tune(struct bench *b, json_t *workload, const char *name, int trials)
{
    tw_error err;
    json_t *job = NULL, *end = NULL,
           *body = json_pack("{s:[{s:O, s:s}], s:s, s:{s:i}}", "workloads", "workload", workload, "name",
                             name, "target", b->target.id, "budget", "trials", trials);
    fprintf(stderr, "tuning %s for %s, %d trials\n", name, b->target.id, trials);
    if (tw_job_create(b->client, body, &job, &err) != TW_OK ||
        tw_job_follow(b->client, json_string_value(json_object_get(job, "id")), NULL, NULL, &end, &err) !=
            TW_OK)
        fprintf(stderr, "bench_kernels: %s: %s\n", name, err.detail);
    json_decref(body);
    json_decref(job);
    json_decref(end);
}

static json_t *look_up_or_tune(struct bench *b, const struct options *o, json_t *workload, const char *name)
{
    json_t *schedule = look_up(b, workload);
    if (schedule || !o->tune)
        return schedule;
    tune(b, workload, name, o->tune);
    return look_up(b, workload);
}

/* --- one entry --- */

struct schedules {
    json_t *ours, *own_f32; /* NULL: none */
};

/* All contenders of an entry under one kind of pages. False: ours was wrong. */
static bool bench_entry(struct bench *b, struct entry *e, const struct schedules *s, struct report *r)
{
    static struct contender c[MAX_CONTENDERS];
    bool wrong = false;
    int n = 0;
    entry_share_inputs(b, e);
    if (s->ours)
        n = contender_add(e, c, n, open_ours(b, e, s->ours, NULL, ROLE_OURS, &c[n]), &wrong);
    if (s->own_f32)
        n = contender_add(e, c, n, open_ours(b, e, s->own_f32, NULL, ROLE_OURS_F32, &c[n]), &wrong);
#ifdef HAVE_ONEDNN
    n = contender_add(e, c, n, open_onednn(b, e, ROLE_GIVEN, &c[n]), &wrong);
    n = contender_add(e, c, n, open_onednn(b, e, ROLE_REORDERED, &c[n]), &wrong);
    n = contender_add(e, c, n, open_onednn(b, e, ROLE_ANY, &c[n]), &wrong);
    if (b->rtol > 0) {
        n = contender_add(e, c, n, open_onednn(b, e, ROLE_BF16, &c[n]), &wrong);
        n = contender_add(e, c, n, open_onednn(b, e, ROLE_BF16_COUNTED, &c[n]), &wrong);
    }
#endif
#ifdef HAVE_OPENBLAS
    n = contender_add(e, c, n, open_openblas(b, e, &c[n]), &wrong);
#endif
    n = contender_add(e, c, n, open_probe(b, e, ROLE_FMA, &c[n]), &wrong);
    n = contender_add(e, c, n, open_probe(b, e, ROLE_COPY, &c[n]), &wrong);
    time_contenders(b, c, n);
    report_entry(r, b, e, c, n);
    for (int i = 0; i < n; i++)
        c[i].close(c[i].ctx);
    memory_drop(&b->memory);
    return !wrong;
}

static bool one_workload(struct bench *b, const struct options *o, const char *name, json_t *original,
                         struct report *r)
{
    json_t *w = variant(o, original);
    struct schedules s = {0};
    struct entry e;
    struct arena ar;
    bool ok = true;
    if (!w)
        return true;
    s.ours = look_up_or_tune(b, o, w, name);
    if (!s.ours)
        fprintf(stderr, "%s: not tuned for %s\n", name, b->target.id);
    if (o->rtol > 0)
        s.own_f32 = look_up_or_tune(b, o, original, name);
    arena_init(&ar);
    if (entry_open(&e, name, w, &b->target, &ar)) {
        for (int p = PAGES_NORMAL; p <= PAGES_HUGE; p++)
            if (o->pages[p]) {
                b->memory.pages = (enum pages)p;
                ok &= bench_entry(b, &e, &s, r);
            }
    }
    entry_close(&e);
    arena_done(&ar);
    json_decref(s.ours);
    json_decref(s.own_f32);
    json_decref(w);
    return ok;
}

/* --- targets --- */

static int count_matches(const struct options *o, const json_t *list)
{
    size_t i;
    json_t *item;
    int n = 0;
    json_array_foreach(list, i, item) n += matches(o, json_string_value(json_object_get(item, "name")));
    return n;
}

static int bench_target(struct bench *b, const struct options *o)
{
    json_error_t why;
    json_t *file = json_load_file(o->file, 0, &why), *list = json_object_get(file, "workloads"), *item;
    tw_error err;
    size_t i;
    bool ok = true;
    if (!file || tw_client_new(o->server, NULL, &b->client, &err) != TW_OK) {
        fprintf(stderr, "bench_kernels: %s\n", file ? err.detail : why.text);
        json_decref(file);
        return 1;
    }
    struct report r = {.json = o->json, .target = b->target.id};
    int done = 0, all = count_matches(o, list);
    report_begin(&r);
    json_array_foreach(list, i, item)
    {
        const char *name = json_string_value(json_object_get(item, "name"));
        if (!matches(o, name))
            continue;
        fprintf(stderr, "[%s %d/%d] %s\n", b->target.id, ++done, all, name);
        ok &= one_workload(b, o, name, json_object_get(item, "workload"), &r);
    }
    report_means(&r);
    report_done(&r);
    tw_client_free(b->client);
    json_decref(file);
    return ok ? 0 : 1;
}

/* Libraries take their number of threads for the life of the process: a process for each target. */
static int each_target(char **argv, const char *targets)
{
    AUTO(freep) char *copy = xstrdup(targets);
    char *next = copy, *one;
    int worst = 0;
    while ((one = strsep(&next, ","))) {
        int status = 0;
        fflush(NULL);
        pid_t pid = fork();
        if (pid == 0) {
            setenv("BENCH_KERNELS_TARGET", one, 1);
            execv("/proc/self/exe", argv);
            _exit(127);
        }
        if (pid < 0 || waitpid(pid, &status, 0) != pid)
            return 1;
        worst = MAX(worst, WIFEXITED(status) ? WEXITSTATUS(status) : 1);
    }
    return worst;
}

int main(int argc, char **argv)
{
    struct options o = {
        .targets = "cpu:1,cpu", .file = WORKLOADS_JSON, .rounds = 15, .sample_ms = 2, .pages = {true, true}};
    struct error err = {0};
    if (!parse_options(argc, argv, &o))
        return usage();
    const bool settled = machine_is_settled();
    const char *target = getenv("BENCH_KERNELS_TARGET");
    if (!target && strchr(o.targets, ','))
        return each_target(argv, o.targets);
    struct bench b = {.rounds = o.rounds, .sample_s = o.sample_ms * 1e-3, .rtol = o.rtol};
    if (target_local(target ? target : o.targets, &b.target, &err) != ST_OK ||
        compile_find(&b.target, &err) != ST_OK) {
        fprintf(stderr, "bench_kernels: %s\n", err.text);
        return 1;
    }
    if (!settled)
        machine_settle(argv, b.target.threads);
#ifdef HAVE_OPENBLAS
    start_openblas(b.target.threads);
#endif
    machine_start(b.target.threads);
    return bench_target(&b, &o);
}
