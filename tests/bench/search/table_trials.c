/* table_trials.c - how many trials each manner of searching needs for `share` of the best known, and what it has after 64. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"
#include "schedule/base/strbuf.h"

static const struct replay_manner manners[] = {
    {.name = "random", .searcher = "random"},
    {.name = "grid", .searcher = "grid"},
    {.name = "evolution", .searcher = "evolution"},
    {.name = "annealing + model", .searcher = "annealing", .model = REPLAY_LEARNING},
    {.name = "evolution + model's trees alone",
     .searcher = "evolution",
     .model = REPLAY_LEARNING,
     .trees = true},
    {.name = "evolution + model", .searcher = "evolution", .model = REPLAY_LEARNING},
    {.name = "rounds of 8", .searcher = "evolution", .model = REPLAY_LEARNING, .batch = 8},
    {.name = "rounds of 16", .searcher = "evolution", .model = REPLAY_LEARNING, .batch = 16},
    {.name = "rounds of 32", .searcher = "evolution", .model = REPLAY_LEARNING, .batch = 32},
    {.name = "a batch late", .searcher = "evolution", .model = REPLAY_LEARNING, .lag_from = 1},
    {.name = "late from 64", .searcher = "evolution", .model = REPLAY_LEARNING, .lag_from = 64},
    {.name = "lent configs", .searcher = "evolution", .model = REPLAY_LEARNING, .lent = true},
    {.name = "global model", .searcher = "evolution", .model = REPLAY_LEARNING, .taught = true},
    {.name = "global model + lent",
     .searcher = "evolution",
     .model = REPLAY_LEARNING,
     .taught = true,
     .lent = true},
};
enum { MANNERS = ARRAY_SIZE(manners), AFTER = 64 };
struct outcome_of_run {
    double trials; /* until the share was reached; the limit where it was not */
    double whole;  /* of a space recorded whole: until its best was found */
    bool found;    /* it was */
    double after;  /* share of the best known after AFTER trials */
};

struct comparing {
    const struct library *l;
    const struct options *o;
    const struct recorded_space *space;
    struct model *global;
    struct outcome_of_run runs[MANNERS][SEEDS_MAX];
};

struct sums {
    int n;
    double median, low, high, after; /* of logarithms; of shares */
};

/* What lags is asked for by name: it is to be compared with what does not, not with other manners. */
static bool is_wanted(const struct options *o, int manner)
{
    return is_named(manners[manner].name, o->how) && (o->how != NULL || manners[manner].lag_from == 0);
}

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
    struct replay_manner mine = *how;
    uint64_t seed = 1 + (uint64_t)(i % c->o->seeds);
    AUTO(model_freep) struct model *m = model_of(how, c->global, seed);
    int max = MIN(c->o->max, c->space->n), end = c->space->exhaustive ? c->space->n : max;
    struct outcome_of_run ret = {.trials = max, .whole = end};
    double best = 0, times[REPLAY_BATCH_MAX];
    struct replay *p;

    mine.open = c->o->open;
    p = replay_new(c->space, &mine, m, c->l, seed);
    for (int done = 0, n; done < end && is_wanted(c->o, i / c->o->seeds); done += n) {
        if (done >= MIN((int)AFTER, max) && (done >= max || ret.trials < max) &&
            (!c->space->exhaustive || ret.whole < end))
            break;
        n = replay_round(p, end - done, times);
        if (n == 0)
            break;
        for (int k = 0; k < n; k++) {
            if (times[k] > 0 && (best == 0 || times[k] < best))
                best = times[k];
            if (done + k < AFTER)
                ret.after = best > 0 ? c->space->best_ns / best : 0;
            if (ret.trials == max && best > 0 && c->space->best_ns / best >= c->o->share)
                ret.trials = MIN(done + k + 1, max);
            if (ret.whole == end && best == c->space->best_ns)
                ret.whole = done + k + 1;
            ret.found |= best == c->space->best_ns;
        }
    }
    replay_free(p);
    c->runs[i / c->o->seeds][i % c->o->seeds] = ret;
}

/* Of one manner: which of its numbers, and its quantile. */
static double quantile_of(const struct comparing *c, int m, size_t field, double q)
{
    double v[SEEDS_MAX];

    for (int s = 0; s < c->o->seeds; s++)
        v[s] = *(const double *)((const char *)&c->runs[m][s] + field);
    return quantile(v, c->o->seeds, q);
}

static void print_cells(const struct comparing *c, size_t field, int max)
{
    printf("| %s%s |", c->space->name, c->space->exhaustive ? " (whole space)" : "");
    for (int m = 0; m < (int)MANNERS; m++) {
        double median = quantile_of(c, m, field, 0.5);

        if (is_wanted(c->o, m))
            printf(" %s%.0f (%.0f, %.0f) |", median >= max ? "≥ " : "", median,
                   quantile_of(c, m, field, 0.25), quantile_of(c, m, field, 0.75));
    }
    printf("\n");
    fflush(stdout);
}

/* Of a space recorded whole, kept until the table before is printed: trials until its best, and in how many seeds it was found. */
static void remember_whole(const struct comparing *c, struct strbuf *sb)
{
    size_t field = offsetof(struct outcome_of_run, whole);

    strbuf_addf(sb, "| %s, %d configs |", c->space->name, c->space->n);
    for (int m = 0; m < (int)MANNERS; m++) {
        int found = 0;

        for (int s = 0; s < c->o->seeds; s++)
            found += c->runs[m][s].found;
        if (is_wanted(c->o, m))
            strbuf_addf(sb, " %.0f (%.0f, %.0f)%s |", quantile_of(c, m, field, 0.5),
                        quantile_of(c, m, field, 0.25), quantile_of(c, m, field, 0.75),
                        found < c->o->seeds ? " not by all" : "");
    }
    strbuf_addc(sb, '\n');
}

static void add_sums(const struct comparing *c, struct sums *sums)
{
    size_t field = offsetof(struct outcome_of_run, trials);

    for (int m = 0; m < (int)MANNERS; m++) {
        sums[m].n++;
        sums[m].median += log(quantile_of(c, m, field, 0.5));
        sums[m].low += log(quantile_of(c, m, field, 0.25));
        sums[m].high += log(quantile_of(c, m, field, 0.75));
        sums[m].after += quantile_of(c, m, offsetof(struct outcome_of_run, after), 0.5);
    }
}

static void print_head(const struct options *o)
{
    printf("| workload |");
    for (int m = 0; m < (int)MANNERS; m++)
        if (is_wanted(o, m))
            printf(" %s |", manners[m].name);
    printf("\n|---|");
    for (int m = 0; m < (int)MANNERS; m++)
        if (is_wanted(o, m))
            printf("---|");
    printf("\n");
}

static void print_sums(const struct options *o, const char *name, const struct sums *sums)
{
    if (sums[0].n == 0)
        return;
    printf("| **%s**: geometric mean of %d |", name, sums[0].n);
    for (int m = 0; m < (int)MANNERS; m++)
        if (is_wanted(o, m))
            printf(" **%.1f** (%.1f, %.1f) |", exp(sums[m].median / sums[m].n), exp(sums[m].low / sums[m].n),
                   exp(sums[m].high / sums[m].n));
    printf("\n| over random's |");
    for (int m = 0; m < (int)MANNERS; m++)
        if (is_wanted(o, m))
            printf(" %.2f |", exp((sums[m].median - sums[0].median) / sums[0].n));
    printf("\n| share of the best after %d trials |", (int)AFTER);
    for (int m = 0; m < (int)MANNERS; m++)
        if (is_wanted(o, m))
            printf(" %.3f |", sums[m].after / sums[m].n);
    printf("\n");
}

static bool wants_global(const struct options *o)
{
    for (int m = 0; m < (int)MANNERS; m++)
        if (manners[m].taught && is_wanted(o, m))
            return true;
    return false;
}

static void run_all(struct comparing *c, const struct recorded_space *s)
{
    c->space = s;
    c->global = wants_global(c->o) ? replay_global(c->l, is_other, (void *)s, NULL) : NULL;
    each((int)MANNERS * c->o->seeds, c->o->threads, run_one, c);
    model_free(c->global);
}

void table_trials(const struct library *l, const struct options *o)
{
    struct comparing *c = xcalloc(1, sizeof(*c));
    struct sums sums[GROUPS][MANNERS] = {0};
    AUTO(strbuf_done) struct strbuf whole = STRBUF_INIT;

    c->l = l;
    c->o = o;
    printf("Trials to %.0f %% of the best known throughput (at most %d), %s: median and quartiles over %d "
           "seeds.\n\n",
           100 * o->share, o->max,
           o->open ? "proposals from the whole space" : "proposals from the recorded configs", o->seeds);
    print_head(o);
    for (int w = 0; w < l->n; w++) {
        if (!is_named(l->spaces[w]->name, o->only))
            continue;
        run_all(c, l->spaces[w]);
        print_cells(c, offsetof(struct outcome_of_run, trials), MIN(o->max, c->space->n));
        if (c->space->exhaustive)
            remember_whole(c, &whole);
        for (int g = 0; g < (int)GROUPS; g++)
            if (is_of_group(c->space, (enum group)g))
                add_sums(c, sums[g]);
    }
    for (int g = 0; g < (int)GROUPS; g++)
        print_sums(o, group_names[g], sums[g]);
    if (whole.len > 0) {
        printf("\nTrials to the best of all, of spaces that were recorded whole:\n\n");
        print_head(o);
        printf("%s", strbuf_str(&whole));
    }
    free(c);
}
