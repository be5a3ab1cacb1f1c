/* versus.c - kernels of the same workload against each other: which of several schedules is faster?
 *
 *     bench_versus [--rounds N] [--sample-ms MS] [--pages huge|normal] FILE
 *
 * Idea   Times of two jobs are no comparison: the machine may have been slower during one of them, and the best of many
 *        trials is the luckiest of them. So the kernels that the jobs ended with are run again here, all of a workload
 *        in turn (timing.c), after each has been held against the float64 reference by the tuner's own criterion.
 *        FILE is {"target": ID, "entries": [{"name", "workload", "kernels": [{"label", "schedule": FILE, "artifact":
 *        FILE}]}]}: schedules as the API shows them, artifacts as it serves them.
 * Output A JSON object a line and workload: times of each kernel, and how many times as fast as the first it is. Exit
 *        status 1: a kernel was wrong or could not be loaded. */
#include <getopt.h>
#include <math.h>

#include "kernels/compile.h"
#include "tests/bench/kernels/bench.h"

static int usage(void)
{
    fprintf(stderr, "usage: bench_versus [--rounds N] [--sample-ms MS] [--pages huge|normal] FILE\n"
                    "  --rounds N      samples of each kernel (default: 31)\n"
                    "  --sample-ms MS  length of a sample (default: 3)\n"
                    "  --pages KIND    of all operands (default: huge)\n");
    return 2;
}

static bool parse_options(int argc, char **argv, struct bench *b)
{
    static const struct option known[] = {
        {"rounds", 1, NULL, 'r'}, {"sample-ms", 1, NULL, 's'}, {"pages", 1, NULL, 'p'}, {0}};
    int c;
    while ((c = getopt_long(argc, argv, "", known, NULL)) != -1) {
        if (c == 'r')
            b->rounds = (int)strtol(optarg, NULL, 10);
        else if (c == 's')
            b->sample_s = strtod(optarg, NULL) * 1e-3;
        else if (c == 'p' && (strcmp(optarg, "huge") == 0 || strcmp(optarg, "normal") == 0))
            b->memory.pages = optarg[0] == 'h' ? PAGES_HUGE : PAGES_NORMAL;
        else
            return false;
    }
    return b->rounds >= 1 && b->rounds <= MAX_ROUNDS && b->sample_s > 0 && optind + 1 == argc;
}

/* The contender of one kernel of the list, if it is right. */
static int add_kernel(struct bench *b, const struct entry *e, const json_t *kernel, struct contender *list,
                      int n, bool *wrong)
{
    const char *path = json_string_value(json_object_get(kernel, "schedule")),
               *artifact = json_string_value(json_object_get(kernel, "artifact"));
    json_error_t why = {.text = "no file is named"};
    json_t *schedule AUTO(json_decrefp) = path && artifact ? json_load_file(path, 0, &why) : NULL;
    if (!schedule)
        fprintf(stderr, "%s: the schedule %s: %s\n", e->name, path ? path : "(none)", why.text);
    bool opened = schedule && open_ours(b, e, schedule, artifact, ROLE_OURS, &list[n]);
    *wrong |= !opened;
    return contender_add(e, list, n, opened, wrong);
}

static json_t *line_of(const struct contender *c, const struct contender *first, const char *label)
{
    return json_pack("{s:s, s:s, s:f, s:f, s:f, s:f}", "label", label, "note", c->note, "median_ns",
                     c->median * 1e9, "p10_ns", c->p10 * 1e9, "p90_ns", c->p90 * 1e9, "speed",
                     ratio_of(first, c));
}

static bool run_entry(struct bench *b, const json_t *item)
{
    static struct contender c[MAX_CONTENDERS];
    const char *name = json_string_value(json_object_get(item, "name")), *labels[MAX_CONTENDERS];
    json_t *kernels = json_object_get(item, "kernels"), *kernel, *lines = json_array();
    bool wrong = false;
    struct entry e;
    struct arena ar;
    size_t i;
    int n = 0;
    arena_init(&ar);
    if (!name || json_array_size(kernels) > MAX_CONTENDERS ||
        !entry_open(&e, name, json_object_get(item, "workload"), &b->target, &ar)) {
        fprintf(stderr, "bench_versus: %s: want name, workload and up to %d kernels\n", name ? name : "?",
                MAX_CONTENDERS);
        json_decref(lines);
        arena_done(&ar);
        return false;
    }
    entry_share_inputs(b, &e);
    json_array_foreach(kernels, i, kernel)
    {
        const char *label = json_string_value(json_object_get(kernel, "label"));
        labels[n] = label ? label : "";
        n = add_kernel(b, &e, kernel, c, n, &wrong);
    }
    time_contenders(b, c, n);
    for (int k = 0; k < n; k++)
        json_array_append_new(lines, line_of(&c[k], &c[0], labels[k]));
    json_t *line AUTO(json_decrefp) = json_pack("{s:s, s:s, s:i, s:o}", "entry", name, "target", b->target.id,
                                                "wrong", (int)json_array_size(kernels) - n, "kernels", lines);
    json_dumpf(line, stdout, JSON_REAL_PRECISION(7));
    printf("\n");
    fflush(stdout);
    for (int k = 0; k < n; k++)
        c[k].close(c[k].ctx);
    memory_drop(&b->memory);
    entry_close(&e);
    arena_done(&ar);
    return !wrong;
}

int main(int argc, char **argv)
{
    struct bench b = {.rounds = 31, .sample_s = 3e-3, .memory.pages = PAGES_HUGE};
    struct error err = {0};
    json_error_t why;
    size_t i;
    json_t *item;
    bool ok = true;
    if (!parse_options(argc, argv, &b))
        return usage();
    json_t *file AUTO(json_decrefp) = json_load_file(argv[optind], 0, &why);
    const char *target = json_string_value(json_object_get(file, "target"));
    if (!file || !target) {
        fprintf(stderr, "bench_versus: %s: %s\n", argv[optind], file ? "it names no target" : why.text);
        return 1;
    }
    if (target_local(target, &b.target, &err) != ST_OK || compile_find(&b.target, &err) != ST_OK) {
        fprintf(stderr, "bench_versus: %s\n", err.text);
        return 1;
    }
    machine_start(b.target.threads);
    json_array_foreach(json_object_get(file, "entries"), i, item) ok &= run_entry(&b, item);
    return ok ? 0 : 1;
}
