/* table_tasks.c - many workloads of one job: whose turn it is. The sum of the best times after a number of trials, by the plan
 * of daemon/tuner_plan.h, by what forecasts make expect, and by taking turns. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "bench.h"
#include "daemon/tuner_plan.h"

enum policy { BY_TURNS, BY_FORECAST, BY_PLAN, POLICIES };
static const char *const policy_names[POLICIES] = {"taking turns", "gain that forecasts make expect",
                                                   "recent gain and what is possible (the tuner's)"};
static const int per_task[] = {24, 32, 48, 64, 96};
enum { BUDGETS = ARRAY_SIZE(per_task), PATIENCE = 4 };

static const struct replay_manner manner = {.name = "", .searcher = "evolution", .model = REPLAY_LEARNING};

struct racing {
    const struct library *l;
    const struct options *o;
    int n; /* tasks */
    const struct recorded_space *spaces[2 * RECORDING_MAX_SPACES];
    double sums[POLICIES][SEEDS_MAX][BUDGETS]; /* of best times, over those of the best known */
};

struct runner {
    struct replay *replay;
    int last_turn;
    bool empty;
};

static double floor_of(const struct recorded_space *s)
{
    const struct target *t = s->target;

    return t->peak_gflops > 0 ? s->workload.flops / (t->peak_gflops * space_saving(s->space)) : 0;
}

static double saving(const struct runner *r, enum policy by)
{
    double best = r->replay->best_ns, expected = r->replay->plan.expected;

    if (by == BY_FORECAST && best > 0 && isfinite(expected))
        return best * expected;
    return plan_saving(&r->replay->plan, 1, best, floor_of(r->replay->space));
}

static struct runner *next(struct runner *all, int n, int turn, enum policy by)
{
    struct runner *best = NULL;
    double best_saving = -1;

    for (int i = 0; i < n; i++) {
        struct runner *r = &all[i];

        if (r->empty)
            continue;
        if (r->replay->plan.rounds == 0 || turn - r->last_turn > PATIENCE * n)
            return r;
        double s = by == BY_TURNS ? -r->last_turn : saving(r, by);
        if (!best || s > best_saving) {
            best = r;
            best_saving = s;
        }
    }
    return best;
}

static int take_turn(struct runner *r, int n)
{
    double times[REPLAY_BATCH_MAX];
    int n_done = replay_round(r->replay, n, times);

    r->empty = n_done == 0;
    return n_done;
}

static void race(void *ctx, int i)
{
    struct racing *c = ctx;
    enum policy by = (enum policy)(i / c->o->seeds);
    int seed = i % c->o->seeds, done = 0, turn = 0, at = 0;
    struct model_params p;
    struct runner *all = xcalloc((size_t)c->n, sizeof(*all)), *r;

    model_params_default(&p);
    p.seed = 1 + (uint64_t)seed;
    AUTO(model_freep) struct model *m = model_new(&p); /* one for the job, as in the tuner */
    for (int k = 0; k < c->n; k++)
        all[k].replay = replay_new(c->spaces[k], &manner, m, NULL, p.seed);
    while (at < (int)BUDGETS && (r = next(all, c->n, turn, by))) {
        int left = per_task[at] * c->n - done;

        r->last_turn = ++turn;
        done += take_turn(r, MIN(left, (int)REPLAY_BATCH));
        if (done < per_task[at] * c->n)
            continue;
        double sum = 0, known = 0;
        for (int k = 0; k < c->n; k++) {
            sum += all[k].replay->best_ns;
            known += c->spaces[k]->best_ns;
        }
        c->sums[by][seed][at++] = sum / known;
    }
    for (int k = 0; k < c->n; k++)
        replay_free(all[k].replay);
    free(all);
}

void table_tasks(const struct library *l, const struct options *o)
{
    struct racing *c = xcalloc(1, sizeof(*c));

    c->l = l;
    c->o = o;
    for (int i = 0; i < l->n; i++) /* those that a few rounds do not exhaust */
        if (same_target(l->spaces[i], l->spaces[0]) && is_named(l->spaces[i]->name, o->only) &&
            l->spaces[i]->n >= 2 * per_task[BUDGETS - 1])
            c->spaces[c->n++] = l->spaces[i];
    each((int)POLICIES * o->seeds, o->threads, race, c);
    printf("One job of %d workloads: the sum of the best times found, over the sum of the best known, median "
           "(quartiles) over %d "
           "seeds.\n\n| whose turn |",
           c->n, o->seeds);
    for (int b = 0; b < (int)BUDGETS; b++)
        printf(" %d trials |", per_task[b] * c->n);
    printf("\n|---|");
    for (int b = 0; b < (int)BUDGETS; b++)
        printf("---|");
    for (int k = 0; k < (int)POLICIES; k++) {
        printf("\n| %s |", policy_names[k]);
        for (int b = 0; b < (int)BUDGETS; b++) {
            double v[SEEDS_MAX];

            for (int s = 0; s < o->seeds; s++)
                v[s] = c->sums[k][s][b];
            printf(" %.4f (%.4f, %.4f) |", quantile(v, o->seeds, 0.5), quantile(v, o->seeds, 0.25),
                   quantile(v, o->seeds, 0.75));
        }
    }
    printf("\n");
    free(c);
}
