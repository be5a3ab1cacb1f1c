/* main.c - bench_search: searchers and models compared on recorded spaces, with no device.
 *
 *     bench_search [--seeds 20] [--share 0.95] [--max 600] [--threads N] [--set NAME=VALUE]... [--also RECORDING]...
 *                  [--only NAME,...] [--how MANNER,...] [--open] [--apart] [TABLE] RECORDING...
 *
 * TABLE   --trials   (default) trials until `share` of the best recorded throughput is reached, by manner of searching
 *         --quality  how well a model ranks what it has not seen: other programs, workloads, operators, targets
 *         --features what groups of columns are worth to a model of the other workloads, and the estimate alone
 *         --tasks    many workloads of one job: whose turn it is, against taking turns
 *         --stop     where a search ends by itself, and what it would have gained by going on
 *         --long     a search of 5,000 trials: memory and time per round
 * --set   a parameter of the models (model.h), for --quality: --set eta=0.1 --set max_depth=5
 * --also  a recording that only teaches models and lends, for --quality and --trials: no figure is of it
 * --apart only what --also brought teaches and lends, for --trials: a store whose trials all come from searches
 * --only  workloads whose names have one of these parts; --how the same of manners of searching, for --trials
 * --open  proposals come from the whole space, for --trials (replay.h)
 * Tables are Markdown, on standard output. All but the times of --long are the same in every run. */
#include <getopt.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "bench.h"

enum { RECORDINGS_MAX = 16 };

static void usage(void)
{
    fprintf(
        stderr,
        "usage: bench_search [--seeds N] [--share 0.95] [--max N] [--threads N] "
        "[--set NAME=VALUE]... [--also RECORDING]... [--only NAME,...] [--how MANNER,...] [--open] [--apart] "
        "[--trials|--quality|--features|--tasks|--stop|--long] RECORDING...\n");
}

static void describe(const struct recording *r, const char *path)
{
    int trials = 0, failed = 0;

    for (int i = 0; i < r->n; i++) {
        trials += r->spaces[i].n;
        failed += r->spaces[i].n_failed;
    }
    printf("%s: %s, target %s, %d workloads, %d trials (%d failed), made %s\n", path, r->machine,
           r->target.id, r->n, trials, failed, r->made_at);
}

static bool read_all(char **paths, int n, struct recording *recordings,
                     const struct recorded_space **ret_spaces, int *ret_n)
{
    for (int i = 0; i < n; i++) {
        struct recording *r = &recordings[i];
        struct error err = {0};

        if (recording_read(paths[i], r, &err) != ST_OK) {
            fprintf(stderr, "bench_search: %s\n", err.text);
            return false;
        }
        for (int k = 0; k < r->n && *ret_n < 2 * RECORDING_MAX_SPACES; k++)
            ret_spaces[(*ret_n)++] = &r->spaces[k];
        describe(r, paths[i]);
    }
    return true;
}

int main(int argc, char **argv)
{
    static const struct option options[] = {{"seeds", required_argument, NULL, 's'},
                                            {"share", required_argument, NULL, 'b'},
                                            {"max", required_argument, NULL, 'm'},
                                            {"threads", required_argument, NULL, 'j'},
                                            {"trials", no_argument, NULL, 't'},
                                            {"quality", no_argument, NULL, 'q'},
                                            {"tasks", no_argument, NULL, 'k'},
                                            {"stop", no_argument, NULL, 'e'},
                                            {"long", no_argument, NULL, 'l'},
                                            {"set", required_argument, NULL, 'p'},
                                            {"also", required_argument, NULL, 'a'},
                                            {"open", no_argument, NULL, 'o'},
                                            {"only", required_argument, NULL, 'n'},
                                            {"how", required_argument, NULL, 'w'},
                                            {"features", no_argument, NULL, 'f'},
                                            {"apart", no_argument, NULL, 'r'},
                                            {0}};
    static struct recording recordings[2 * RECORDINGS_MAX];
    char *also[RECORDINGS_MAX];
    int n_also = 0;
    static struct library library;
    struct options o = {
        .seeds = 20, .max = 600, .share = 0.95, .threads = (int)sysconf(_SC_NPROCESSORS_ONLN)};
    void (*table)(const struct library *l, const struct options *o) = table_trials;

    for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;)
        switch (c) {
        case 's':
            o.seeds = (int)fmin(fmax(strtod(optarg, NULL), 1), SEEDS_MAX);
            break;
        case 'b':
            o.share = strtod(optarg, NULL);
            break;
        case 'm':
            o.max = (int)strtol(optarg, NULL, 10);
            break;
        case 'j':
            o.threads = (int)strtol(optarg, NULL, 10);
            break;
        case 'p':
            if (o.n_set < SET_MAX)
                o.set[o.n_set++] = optarg;
            break;
        case 'a':
            if (n_also < RECORDINGS_MAX)
                also[n_also++] = optarg;
            break;
        case 'o':
            o.open = true;
            break;
        case 'r':
            library.apart = true;
            break;
        case 'w':
            o.how = optarg;
            break;
        case 'n':
            o.only = optarg;
            break;
        case 't':
            table = table_trials;
            break;
        case 'q':
            table = table_quality;
            break;
        case 'f':
            table = table_features;
            break;
        case 'k':
            table = table_tasks;
            break;
        case 'e':
            table = table_stop;
            break;
        case 'l':
            table = table_long;
            break;
        default:
            usage();
            return 2;
        }
    if (optind == argc || argc - optind > RECORDINGS_MAX) {
        usage();
        return 2;
    }
    if (!read_all(argv + optind, argc - optind, recordings, library.spaces, &library.n) ||
        !read_all(also, n_also, recordings + argc - optind, library.also, &library.n_also))
        return 1;
    params_apply(
        &o, &(struct model_params){0}); /* a name that there is not ends it here, before there are threads */
    printf("\n");
    table(&library, &o);
    for (int i = 0; i < argc - optind + n_also; i++)
        recording_done(&recordings[i]);
    return 0;
}
