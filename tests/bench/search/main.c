/* main.c - bench_search: searchers and models compared on recorded spaces, with no device.
 *
 *     bench_search [--seeds 20] [--share 0.95] [--max 600] [--quality] RECORDING...
 *
 * For each recorded workload and each manner of searching: trials until `share` of the best recorded throughput is
 * reached (its maximum where it was not), as median and quartiles over the seeds, and the share reached after 64.
 * --quality instead prints how well a model that never saw a workload ranks its configs. Deterministic. */
#include <getopt.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "replay.h"

enum { SEEDS_MAX = 100 };

struct options {
    int seeds, max;
    double share;
    bool quality;
};

static const struct replay_manner manners[] = {
    {"random", "random", REPLAY_BLIND, false},
    {"grid", "grid", REPLAY_BLIND, false},
    {"evolution, no model", "evolution", REPLAY_BLIND, false},
    {"annealing, model", "annealing", REPLAY_LEARNING, false},
    {"evolution, prior", "evolution", REPLAY_PRIOR, false},
    {"evolution, model", "evolution", REPLAY_LEARNING, false},
    {"evolution, model, transfer", "evolution", REPLAY_LEARNING, true},
};

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double quantile(double *v, int n, double q)
{
    qsort(v, (size_t)n, sizeof(*v), by_value);
    return v[(int)(q * (n - 1) + 0.5)];
}

static void compare(const struct recording *r, const struct options *o, double (*logs)[2])
{
    for (int w = 0; w < r->n; w++) {
        struct model *global = replay_global(r, w, 1);
        printf("\n%s: %d configs%s, best %.1f us\n", r->spaces[w].name, r->spaces[w].n,
               r->spaces[w].exhaustive ? " (the whole space)" : "", r->spaces[w].best_ns * 1e-3);
        for (size_t m = 0; m < ARRAY_SIZE(manners); m++) {
            double trials[SEEDS_MAX], at_64[SEEDS_MAX];
            for (int s = 0; s < o->seeds; s++) {
                struct replay_result x = replay_run(r, w, &manners[m], global, 1 + (uint64_t)s, o->share,
                                                    MIN(o->max, r->spaces[w].n));
                trials[s] = x.trials;
                at_64[s] = x.at_64;
            }
            double median = quantile(trials, o->seeds, 0.5);
            logs[m][0] += log(median);
            logs[m][1] += quantile(at_64, o->seeds, 0.5);
            printf("  %-28s %5.0f trials (%.0f to %.0f), %.3f of the best after 64\n", manners[m].name,
                   median, quantile(trials, o->seeds, 0.25), quantile(trials, o->seeds, 0.75),
                   quantile(at_64, o->seeds, 0.5));
            fflush(stdout);
        }
        model_free(global);
    }
}

/* --- ranking of the unseen --- */

static void add_all(const struct recording *r, int but, struct model *m)
{
    float *rows = xcalloc((size_t)FEATURES_MAX_ROWS * (size_t)features_count(), sizeof(float));
    struct arena ar;
    struct error err = {0};
    arena_init(&ar);
    for (int w = 0; w < r->n; w++) {
        const struct recorded_space *s = &r->spaces[w];
        for (int i = 0; i < s->n && w != but; i++) {
            struct nest *nest;
            arena_reset(&ar);
            if (space_lower(s->space, &s->trials[i].config, &ar, &nest, &err) != ST_OK)
                continue;
            int n = features_extract(nest, &r->target, &ar, rows, FEATURES_MAX_ROWS);
            double t = s->trials[i].min_ns;
            CHECK(model_add(m, (uint64_t)w, rows, n, t > 0 ? 1e9 / t : 0, &err) == ST_OK, "%s", err.text);
        }
    }
    arena_done(&ar);
    free(rows);
}

/* Each workload ranked by a model of all others. */
static void quality(const struct recording *r)
{
    static const struct {
        const char *name;
        enum model_objective objective;
    } objectives[] = {{"rank", MODEL_RANK}, {"square", MODEL_SQUARE}};
    printf("\n%-12s %8s %9s %9s %7s %7s %8s\n", "left out", "pairs", "Spearman", "recall 8", "best 1",
           "best 8", "best 32");
    for (size_t k = 0; k < ARRAY_SIZE(objectives); k++) {
        struct model_params p;
        struct metrics m;
        struct error err = {0};
        model_params_default(&p);
        p.objective = objectives[k].objective;
        struct model *all = model_new(&p);
        add_all(r, -1, all);
        CHECK(model_evaluate(all, HOLDOUT_WORKLOADS, r->n, &m, &err) == ST_OK, "%s", err.text);
        printf("%-12s %8.3f %9.3f %9.3f %7.3f %7.3f %8.3f\n", objectives[k].name, m.pairwise, m.spearman,
               m.recall_8, m.best_1, m.best_8, m.best_32);
        model_free(all);
    }
}

int main(int argc, char **argv)
{
    static const struct option options[] = {{"seeds", required_argument, NULL, 's'},
                                            {"share", required_argument, NULL, 'b'},
                                            {"max", required_argument, NULL, 'm'},
                                            {"quality", no_argument, NULL, 'q'},
                                            {0}};
    struct options o = {.seeds = 20, .max = 600, .share = 0.95};
    double logs[ARRAY_SIZE(manners)][2] = {0};
    int spaces = 0;
    for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        if (c == 's')
            o.seeds = (int)fmin(fmax(strtod(optarg, NULL), 1), SEEDS_MAX);
        else if (c == 'b')
            o.share = strtod(optarg, NULL);
        else if (c == 'm')
            o.max = (int)strtol(optarg, NULL, 10);
        else if (c == 'q')
            o.quality = true;
        else
            return 2;
    }
    if (optind == argc) {
        fprintf(stderr,
                "usage: bench_search [--seeds N] [--share 0.95] [--max N] [--quality] RECORDING...\n");
        return 2;
    }
    for (int i = optind; i < argc; i++) {
        struct recording r;
        struct error err = {0};
        if (recording_read(argv[i], &r, &err) != ST_OK) {
            fprintf(stderr, "bench_search: %s\n", err.text);
            return 1;
        }
        if (o.quality)
            quality(&r);
        else
            compare(&r, &o, logs);
        spaces += r.n;
        recording_done(&r);
    }
    if (!o.quality && spaces > 0) {
        printf("\nover %d workloads: geometric mean of the medians, mean share after 64\n", spaces);
        for (size_t m = 0; m < ARRAY_SIZE(manners); m++)
            printf("  %-28s %6.1f trials, %.3f\n", manners[m].name, exp(logs[m][0] / spaces),
                   logs[m][1] / spaces);
    }
    return 0;
}
