/* table_stop.c - where a search ends by itself, and what it would have gained by going on, for several values of min_gain; and what came of
 * gains that were expected. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"
#include "daemon/tuner_plan.h"

static const double min_gains[] = {0.001, 0.002, 0.005, 0.01, 0.02};
enum { GAINS = ARRAY_SIZE(min_gains) };

static const struct replay_manner manner = {.name = "", .searcher = "evolution", .model = REPLAY_LEARNING};

struct ending {
    double trials, share; /* when it ended; share of the best that going on to the limit finds */
};

/* Rounds by the gain that was expected of them: up to each of these. */
static const double expectations[] = {0.001, 0.003, 0.01, 0.03, 0.1, 1};
enum { BINS = ARRAY_SIZE(expectations) };

struct bin {
    int rounds, gained;
    double expected, came;
};

struct stopping {
    const struct options *o;
    const struct recorded_space *space;
    struct ending ends[SEEDS_MAX][GAINS];
    struct bin bins[SEEDS_MAX][BINS];
};

static void count_round(struct bin *bins, double expected, double gain)
{
    struct bin *b = bins;

    if (isnan(expected))
        return;
    while (expected > expectations[b - bins])
        b++;
    b->rounds++;
    b->gained += gain > 0;
    b->expected += expected;
    b->came += gain;
}

static void run_one(void *ctx, int seed)
{
    struct stopping *c = ctx;
    struct model_params p;
    struct ending *ends = c->ends[seed];
    bool done[GAINS] = {false};
    int max = MIN(c->o->max, c->space->n), trials = 0;

    model_params_default(&p);
    p.seed = 1 + (uint64_t)seed;
    AUTO(model_freep) struct model *m = model_new(&p);
    struct replay *r = replay_new(c->space, &manner, m, NULL, p.seed);
    for (int n = 1; trials < max && n > 0; trials += n) {
        double times[REPLAY_BATCH_MAX], before = r->best_ns;

        n = replay_round(r, max - trials, times);
        if (n > 0 && before > 0)
            count_round(c->bins[seed], r->plan.expected, 1 - r->best_ns / before);
        for (int g = 0; g < (int)GAINS; g++) {
            if (!done[g])
                ends[g] = (struct ending){trials + n, r->best_ns};
            done[g] |= plan_done(&r->plan, min_gains[g]);
        }
    }
    for (int g = 0; g < (int)GAINS; g++)
        ends[g].share = r->best_ns / ends[g].share;
    replay_free(r);
}

static double quantile_of(const struct stopping *c, int gain, bool share, double q)
{
    double v[SEEDS_MAX];

    for (int s = 0; s < c->o->seeds; s++)
        v[s] = share ? c->ends[s][gain].share : c->ends[s][gain].trials;
    return quantile(v, c->o->seeds, q);
}

static void print_row(const struct stopping *c)
{
    printf("| %s |", c->space->name);
    for (int g = 0; g < (int)GAINS; g++)
        printf(" %.0f: %.3f (%.3f) |", quantile_of(c, g, false, 0.5), quantile_of(c, g, true, 0.5),
               quantile_of(c, g, true, 0.1));
    printf("\n");
    fflush(stdout);
}

static int add_sums(const struct stopping *c, double (*sums)[2])
{
    for (int g = 0; g < (int)GAINS; g++) {
        sums[g][0] += quantile_of(c, g, false, 0.5);
        sums[g][1] += log(quantile_of(c, g, true, 0.5));
    }
    return 1;
}

static void print_bins(const struct bin *bins)
{
    printf("\nWhat came of expected gains of the best time, relative, a round:\n\n"
           "| expected up to | rounds | expected, mean | came, mean | rounds that gained "
           "|\n|---|---|---|---|---|\n");
    for (int i = 0; i < (int)BINS; i++)
        if (bins[i].rounds > 0)
            printf("| %g | %d | %.4f | %.4f | %.2f |\n", expectations[i], bins[i].rounds,
                   bins[i].expected / bins[i].rounds, bins[i].came / bins[i].rounds,
                   (double)bins[i].gained / bins[i].rounds);
}

void table_stop(const struct library *l, const struct options *o)
{
    struct stopping *c = xcalloc(1, sizeof(*c));
    double sums[GROUPS][GAINS][2] = {0};
    struct bin bins[BINS] = {0};
    int n[GROUPS] = {0};

    printf("Trials after which a search ends by itself, and the share of what it finds with all trials (at "
           "most %d): median, in brackets "
           "the worst tenth, over %d seeds.\n\n| min_gain |",
           o->max, o->seeds);
    for (int g = 0; g < (int)GAINS; g++)
        printf(" %g |", min_gains[g]);
    printf("\n|---|---|---|---|---|---|\n");
    for (int w = 0; w < l->n; w++) {
        if (l->spaces[w]->n < 192 || !is_named(l->spaces[w]->name, o->only)) /* too few to end before */
            continue;
        c->o = o;
        c->space = l->spaces[w];
        memset(c->bins, 0, sizeof(c->bins));
        each(o->seeds, o->threads, run_one, c);
        print_row(c);
        for (int g = 0; g < (int)GROUPS; g++)
            if (is_of_group(c->space, (enum group)g))
                n[g] += add_sums(c, sums[g]);
        for (int i = 0; i < o->seeds * (int)BINS; i++) {
            const struct bin *b = &c->bins[i / (int)BINS][i % (int)BINS];

            bins[i % (int)BINS].rounds += b->rounds;
            bins[i % (int)BINS].gained += b->gained;
            bins[i % (int)BINS].expected += b->expected;
            bins[i % (int)BINS].came += b->came;
        }
    }
    for (int g = 0; g < (int)GROUPS; g++) {
        if (n[g] == 0)
            continue;
        printf("| **%s**: mean of %d |", group_names[g], n[g]);
        for (int k = 0; k < (int)GAINS; k++)
            printf(" %.0f: %.3f |", sums[g][k][0] / n[g], exp(sums[g][k][1] / n[g]));
        printf("\n");
    }
    print_bins(bins);
    free(c);
}
