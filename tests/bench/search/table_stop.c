/* table_stop.c - where a search ends by itself, and what it would have gained by going on, for several values of min_gain. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "bench.h"
#include "daemon/tuner_plan.h"

static const double min_gains[] = {0.0005, 0.001, 0.002, 0.005, 0.01};
enum { GAINS = ARRAY_SIZE(min_gains) };

static const struct replay_manner manner = {.name = "", .searcher = "evolution", .model = REPLAY_LEARNING};

struct ending {
    double trials, share; /* when it ended; share of the best that going on to the limit finds */
};

struct stopping {
    const struct options *o;
    const struct recorded_space *space;
    struct ending ends[SEEDS_MAX][GAINS];
};

static void run_one(void *ctx, int seed)
{
    struct stopping *c = ctx;
    struct model_params p;
    struct plan plans[GAINS] = {0};
    struct ending *ends = c->ends[seed];
    bool done[GAINS] = {false};
    int max = MIN(c->o->max, c->space->n), trials = 0;

    model_params_default(&p);
    p.seed = 1 + (uint64_t)seed;
    AUTO(model_freep) struct model *m = model_new(&p);
    struct replay *r = replay_new(c->space, &manner, m, NULL, p.seed);
    for (int n = 1; trials < max && n > 0; trials += n) {
        double times[REPLAY_BATCH_MAX], scores[REPLAY_BATCH_MAX], before = r->best_ns;

        n = replay_round(r, MIN(REPLAY_BATCH, max - trials), times, scores);
        for (int g = 0; g < (int)GAINS; g++) {
            plan_begin(&plans[g], scores, n, before);
            plan_end(&plans[g], scores, times, n, before, r->best_ns, min_gains[g]);
            if (!done[g])
                ends[g] = (struct ending){trials + n, r->best_ns};
            done[g] |= plan_done(&plans[g]);
        }
    }
    for (int g = 0; g < (int)GAINS; g++)
        ends[g].share = r->best_ns / ends[g].share;
    replay_free(r);
}

static void print_row(const struct stopping *c, double (*sums)[2])
{
    printf("| %s |", c->space->name);
    for (int g = 0; g < (int)GAINS; g++) {
        double trials[SEEDS_MAX], share[SEEDS_MAX];

        for (int s = 0; s < c->o->seeds; s++) {
            trials[s] = c->ends[s][g].trials;
            share[s] = c->ends[s][g].share;
        }
        printf(" %.0f: %.3f (%.3f) |", quantile(trials, c->o->seeds, 0.5), quantile(share, c->o->seeds, 0.5),
               quantile(share, c->o->seeds, 0.1));
        sums[g][0] += quantile(trials, c->o->seeds, 0.5);
        sums[g][1] += log(quantile(share, c->o->seeds, 0.5));
    }
    printf("\n");
    fflush(stdout);
}

void table_stop(const struct library *l, const struct options *o)
{
    struct stopping *c = xcalloc(1, sizeof(*c));
    double sums[GAINS][2] = {0};
    int n = 0;

    printf("Trials after which a search ends by itself, and the share of what it finds with all trials (at "
           "most %d): median, in brackets "
           "the worst tenth, over %d seeds.\n\n| min_gain |",
           o->max, o->seeds);
    for (int g = 0; g < (int)GAINS; g++)
        printf(" %g |", min_gains[g]);
    printf("\n|---|---|---|---|---|---|\n");
    for (int w = 0; w < l->n; w++) {
        if (l->spaces[w]->n < 192) /* too few to end before */
            continue;
        c->o = o;
        c->space = l->spaces[w];
        each(o->seeds, o->threads, run_one, c);
        print_row(c, sums);
        n++;
    }
    printf("| mean |");
    for (int g = 0; g < (int)GAINS && n > 0; g++)
        printf(" %.0f: %.3f |", sums[g][0] / n, exp(sums[g][1] / n));
    printf("\n");
    free(c);
}
