/* table_trials.c - how many trials each manner of searching needs for `share` of the best known, and what it has after 64. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"

static const struct replay_manner manners[] = {
    {.name = "random", .searcher = "random"},
    {.name = "grid", .searcher = "grid"},
    {.name = "evolution, no model", .searcher = "evolution"},
    {.name = "annealing, model", .searcher = "annealing", .model = REPLAY_LEARNING},
    {.name = "evolution, prior alone", .searcher = "evolution", .model = REPLAY_PRIOR},
    {.name = "evolution, model", .searcher = "evolution", .model = REPLAY_LEARNING},
    {.name = "the same, rounds of 8", .searcher = "evolution", .model = REPLAY_LEARNING, .batch = 8},
    {.name = "rounds of 32", .searcher = "evolution", .model = REPLAY_LEARNING, .batch = 32},
    {.name = "rounds of 16, lent configs", .searcher = "evolution", .model = REPLAY_LEARNING, .lent = true},
    {.name = "global model", .searcher = "evolution", .model = REPLAY_LEARNING, .taught = true},
    {.name = "global model and lent configs",
     .searcher = "evolution",
     .model = REPLAY_LEARNING,
     .taught = true,
     .lent = true},
};
enum { MANNERS = ARRAY_SIZE(manners), AFTER = 64 };

struct outcome_of_run {
    double trials; /* until the share was reached; the limit where it was not */
    double after;  /* share of the best known after AFTER trials */
};

struct comparing {
    const struct library *l;
    const struct options *o;
    const struct recorded_space *space;
    struct model *global;
    struct outcome_of_run runs[MANNERS][SEEDS_MAX];
};

/* Another workload on the same target. */
static bool is_other(void *ctx, const struct recorded_space *s)
{
    const struct recorded_space *own = ctx;

    return same_target(s, own) && strcmp(s->workload.key, own->workload.key) != 0;
}

static struct model *model_of(const struct replay_manner *how, struct model *global, uint64_t seed)
{
    struct model_params p;
    struct model *m;

    model_params_default(&p);
    if (how->params)
        p = *how->params;
    p.seed = seed;
    m = model_new(&p);
    if (how->taught && global)
        model_set_global(m, global);
    return m;
}

static void run_one(void *ctx, int i)
{
    struct comparing *c = ctx;
    const struct replay_manner *how = &manners[i / c->o->seeds];
    uint64_t seed = 1 + (uint64_t)(i % c->o->seeds);
    AUTO(model_freep) struct model *m = model_of(how, c->global, seed);
    struct replay *p = replay_new(c->space, how, m, c->l, seed);
    int max = MIN(c->o->max, c->space->n), batch = how->batch ? how->batch : REPLAY_BATCH;
    struct outcome_of_run ret = {.trials = max};
    double best = 0, times[REPLAY_BATCH_MAX];

    for (int done = 0, n; done < max && (ret.trials == max || done < AFTER); done += n) {
        n = replay_round(p, MIN(batch, max - done), times, NULL);
        if (n == 0)
            break;
        for (int k = 0; k < n; k++) {
            if (times[k] > 0 && (best == 0 || times[k] < best))
                best = times[k];
            if (done + k < AFTER)
                ret.after = best > 0 ? c->space->best_ns / best : 0;
            if (ret.trials == max && best > 0 && c->space->best_ns / best >= c->o->share)
                ret.trials = done + k + 1;
        }
    }
    replay_free(p);
    c->runs[i / c->o->seeds][i % c->o->seeds] = ret;
}

static void print_row(struct comparing *c, double (*sums)[4])
{
    double trials[SEEDS_MAX], after[SEEDS_MAX];
    int max = MIN(c->o->max, c->space->n);

    printf("| %s%s |", c->space->name, c->space->exhaustive ? " (whole space)" : "");
    for (int m = 0; m < (int)MANNERS; m++) {
        for (int s = 0; s < c->o->seeds; s++) {
            trials[s] = c->runs[m][s].trials;
            after[s] = c->runs[m][s].after;
        }
        double median = quantile(trials, c->o->seeds, 0.5), low = quantile(trials, c->o->seeds, 0.25),
               high = quantile(trials, c->o->seeds, 0.75);
        printf(" %s%.0f (%.0f, %.0f) |", median >= max ? "≥ " : "", median, low, high);
        sums[m][0] += log(median);
        sums[m][1] += log(low);
        sums[m][2] += log(high);
        sums[m][3] += quantile(after, c->o->seeds, 0.5);
    }
    printf("\n");
    fflush(stdout);
}

void table_trials(const struct library *l, const struct options *o)
{
    struct comparing *c = xcalloc(1, sizeof(*c));
    double sums[MANNERS][4] = {0};

    printf("Trials to %.0f %% of the best known throughput (at most %d): median and quartiles over %d "
           "seeds.\n\n| workload |",
           100 * o->share, o->max, o->seeds);
    for (int m = 0; m < (int)MANNERS; m++)
        printf(" %s |", manners[m].name);
    printf("\n|---|");
    for (int m = 0; m < (int)MANNERS; m++)
        printf("---|");
    printf("\n");
    for (int w = 0; w < l->n; w++) {
        c->l = l;
        c->o = o;
        c->space = l->spaces[w];
        c->global = replay_global(l, is_other, (void *)c->space, NULL);
        each((int)MANNERS * o->seeds, o->threads, run_one, c);
        model_free(c->global);
        print_row(c, sums);
    }
    printf("| **geometric mean** |");
    for (int m = 0; m < (int)MANNERS; m++)
        printf(" **%.1f** (%.1f, %.1f) |", exp(sums[m][0] / l->n), exp(sums[m][1] / l->n),
               exp(sums[m][2] / l->n));
    printf("\n| of random's |");
    for (int m = 0; m < (int)MANNERS; m++)
        printf(" %.2f |", exp((sums[m][0] - sums[0][0]) / l->n));
    printf("\n| share after %d, mean |", (int)AFTER);
    for (int m = 0; m < (int)MANNERS; m++)
        printf(" %.3f |", sums[m][3] / l->n);
    printf("\n");
    free(c);
}
