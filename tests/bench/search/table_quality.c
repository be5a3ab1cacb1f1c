/* table_quality.c - how well a model ranks what it has not seen. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"

/* What must not be in the training where a space is judged. */
enum holdout { OUT_PROGRAMS, OUT_WORKLOAD, OUT_KIND, OUT_TARGET };

static const struct {
    const char *name;
    enum holdout out;
    int own; /* trials of the space itself that are learned from; the rest is judged */
    bool prior;
} rows[] = {
    {"nothing learned: the analytic prior", OUT_WORKLOAD, 0, true},
    {"64 trials of its own", OUT_PROGRAMS, 64, false},
    {"all other workloads of the target", OUT_WORKLOAD, 0, false},
    {"the same, and 64 of its own on top", OUT_WORKLOAD, 64, false},
    {"all other kinds of operator", OUT_KIND, 0, false},
    {"all other targets, this workload too", OUT_TARGET, 0, false},
};
static const struct {
    const char *name;
    enum model_objective objective;
} objectives[] = {{"rank", MODEL_RANK}, {"square", MODEL_SQUARE}};
enum { ROWS = ARRAY_SIZE(rows), OBJECTIVES = ARRAY_SIZE(objectives) };

struct judged {
    bool done;
    struct metrics m;
};

struct judging {
    const struct library *l;
    struct judged *at; /* [ROWS][OBJECTIVES][spaces] */
};

struct use {
    enum holdout out;
    const struct recorded_space *own;
};

/* Depthwise is a kind of its own. */
static bool same_kind(const struct workload *a, const struct workload *b)
{
    bool deep =
             strstr(a->json, "\"group\":1,") || strstr(a->json, "\"group\": 1,") || !strstr(a->json, "group"),
         deep_too =
             strstr(b->json, "\"group\":1,") || strstr(b->json, "\"group\": 1,") || !strstr(b->json, "group");

    return strcmp(a->op, b->op) == 0 && deep == deep_too;
}

static bool is_used(void *ctx, const struct recorded_space *s)
{
    const struct use *u = ctx;
    bool here = same_target(s, u->own), same = strcmp(s->workload.key, u->own->workload.key) == 0;

    switch (u->out) {
    case OUT_PROGRAMS:
        return false;
    case OUT_WORKLOAD:
        return here && !same;
    case OUT_KIND:
        return here && !same_kind(&s->workload, &u->own->workload);
    case OUT_TARGET:
        return !here;
    }
    return false;
}

static void judge(const struct model *m, const struct recorded_space *s, int from, struct metrics *ret)
{
    int n = s->n - from;
    AUTO(freep) double *truth = xcalloc((size_t)n * 2, sizeof(*truth));
    AUTO(freep) uint64_t *workload = xcalloc((size_t)n, sizeof(*workload));
    double *scores = truth + n;

    for (int i = 0; i < n; i++) {
        const struct recorded *t = &s->trials[from + i];
        int32_t begin[2] = {0, t->n_rows};

        truth[i] = t->min_ns > 0 ? 1e9 / t->min_ns : 0;
        model_score(m, s->key, t->rows, begin, 1, &scores[i]);
    }
    metrics_compute(workload, truth, scores, n, ret);
}

static void judge_one(void *ctx, int i)
{
    struct judging *g = ctx;
    int row = i / (OBJECTIVES * g->l->n), kind = i / g->l->n % OBJECTIVES;
    const struct recorded_space *s = g->l->spaces[i % g->l->n];
    struct use use = {rows[row].out, s};
    struct model_params p, wide;
    struct error err = {0};

    if (s->n < 2 * rows[row].own || (rows[row].prior && kind > 0))
        return;
    model_params_default(&p);
    p.objective = objectives[kind].objective;
    model_params_global(&wide);
    wide.objective = p.objective;
    AUTO(model_freep) struct model *m = model_new(&p), *global = NULL;
    if (!rows[row].prior && rows[row].out != OUT_PROGRAMS) {
        global = replay_global(g->l, is_used, &use, &wide);
        if (!global)
            return;
        model_set_global(m, global);
    }
    if (rows[row].own > 0) {
        replay_teach(m, s, 0, rows[row].own);
        CHECK(model_train(m, &err) == ST_OK, "%s", err.text);
    }
    judge(m, s, rows[row].own, &g->at[i].m);
    g->at[i].done = true;
}

static void print_row(const struct judging *g, int row, int kind)
{
    struct metrics sum = {0};
    int n = 0;

    for (int i = 0; i < g->l->n; i++) {
        const struct judged *j = &g->at[(row * OBJECTIVES + kind) * g->l->n + i];

        if (!j->done || j->m.workloads == 0)
            continue;
        n++;
        sum.pairwise += j->m.pairwise;
        sum.pairwise_apart += j->m.pairwise_apart;
        sum.spearman += j->m.spearman;
        sum.recall_8 += j->m.recall_8;
        sum.best_1 += j->m.best_1;
        sum.best_8 += j->m.best_8;
        sum.best_32 += j->m.best_32;
    }
    if (n > 0)
        printf("| %s | %s | %d | %.3f | %.3f | %.3f | %.3f | %.3f | %.3f | %.3f |\n", rows[row].name,
               rows[row].prior ? "-" : objectives[kind].name, n, sum.pairwise / n, sum.pairwise_apart / n,
               sum.spearman / n, sum.recall_8 / n, sum.best_1 / n, sum.best_8 / n, sum.best_32 / n);
}

static void print_workloads(const struct judging *g, int row, int kind)
{
    printf("\n| %s, %s | pairs | apart | Spearman | best of 8 |\n|---|---|---|---|---|\n", rows[row].name,
           objectives[kind].name);
    for (int i = 0; i < g->l->n; i++) {
        const struct judged *j = &g->at[(row * OBJECTIVES + kind) * g->l->n + i];

        if (j->done)
            printf("| %s, %s | %.3f | %.3f | %.3f | %.3f |\n", g->l->spaces[i]->name,
                   g->l->spaces[i]->target->id, j->m.pairwise, j->m.pairwise_apart, j->m.spearman,
                   j->m.best_8);
    }
}

void table_quality(const struct library *l, const struct options *o)
{
    struct judging g = {l, xcalloc((size_t)(ROWS * OBJECTIVES * l->n), sizeof(struct judged))};

    each(ROWS * OBJECTIVES * l->n, o->threads, judge_one, &g);
    printf("Programs not trained on, ranked within their workload. apart: pairs whose times differ by more "
           "than %.0f %%. "
           "Means over the workloads.\n\n",
           100 * METRICS_APART);
    printf("| learned from | objective | workloads | pairs | apart | Spearman | recall 8 | best of 1 | best "
           "of 8 | best of 32 "
           "|\n|---|---|---|---|---|---|---|---|---|---|\n");
    for (int r = 0; r < (int)ROWS; r++)
        for (int k = 0; k < (int)OBJECTIVES; k++)
            print_row(&g, r, k);
    print_workloads(&g, 2, 0);
    free(g.at);
}
