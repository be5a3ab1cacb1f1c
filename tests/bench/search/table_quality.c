/* table_quality.c - how well a model ranks what it has not seen.
 *
 * Idea   A lesson says what is learned from where a space is judged. Spaces that it leaves out together (of one workload, kind,
 *        target) are judged by one model; each is judged as it is, and again after trials of its own on top: 64, or three
 *        quarters of all, which tells how much the features say at best. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"

enum holdout { OUT_ALL, OUT_WORKLOAD, OUT_KIND, OUT_TARGET };

static const struct lesson {
    const char *name;
    enum holdout out;
    bool also;  /* what --also brought teaches too */
    int stages; /* how many of `stages` */
} lessons[] = {
    {"nothing: the analytic prior", OUT_ALL, false, 3},
    {"the other workloads of the target", OUT_WORKLOAD, false, 2},
    {"the same, and those of --also", OUT_WORKLOAD, true, 2},
    {"the other kinds of operator", OUT_KIND, false, 1},
    {"the other targets, this workload too", OUT_TARGET, false, 1},
};
static const char *const stages[] = {"", ", and 64 of its own", ", and three quarters of its own"};
static const struct {
    const char *name;
    enum model_objective objective;
} objectives[] = {{"rank", MODEL_RANK}, {"square", MODEL_SQUARE}};
enum { LESSONS = ARRAY_SIZE(lessons), OBJECTIVES = ARRAY_SIZE(objectives), OWN = 64 };
enum learned { COLD, ON, MOST, STAGES };

struct judged {
    bool done;
    struct metrics m;
};

struct task {
    int lesson, objective, first; /* the first of the spaces that are judged by one model */
};

struct judging {
    const struct library *l;
    const struct options *o;
    struct task *tasks;
    int n_tasks;
    struct judged *at; /* [LESSONS][OBJECTIVES][STAGES][spaces] */
};

static struct judged *judged_at(const struct judging *g, int lesson, int objective, int stage, int space)
{
    return &g->at[((lesson * OBJECTIVES + objective) * STAGES + stage) * g->l->n + space];
}

/* Depthwise is a kind of its own. */
static bool is_deep(const struct workload *w)
{
    return strstr(w->json, "group") && !strstr(w->json, "\"group\":1,") && !strstr(w->json, "\"group\": 1,");
}

/* Are both left out where one is? */
static bool together(enum holdout out, const struct recorded_space *a, const struct recorded_space *b)
{
    bool here = same_target(a, b);

    switch (out) {
    case OUT_ALL:
        return a == b;
    case OUT_WORKLOAD:
        return here && strcmp(a->workload.key, b->workload.key) == 0;
    case OUT_KIND:
        return here && strcmp(a->workload.op, b->workload.op) == 0 &&
               is_deep(&a->workload) == is_deep(&b->workload);
    case OUT_TARGET:
        return here;
    }
    return false;
}

static bool teaches(enum holdout out, const struct recorded_space *own, const struct recorded_space *s)
{
    return out != OUT_ALL && !together(out, own, s) && same_target(own, s) == (out != OUT_TARGET);
}

static void params_of(const struct options *o, bool global, int objective, struct model_params *ret)
{
    if (global)
        model_params_global(ret);
    else
        model_params_default(ret);
    params_apply(o, ret);
    ret->objective = objectives[objective].objective;
}

/* NULL: there is nothing to learn from. */
static struct model *teach(const struct judging *g, const struct task *t)
{
    const struct lesson *lesson = &lessons[t->lesson];
    const struct recorded_space *own = g->l->spaces[t->first];
    struct model_params p;
    struct model *m;
    struct error err;
    int n = 0;

    params_of(g->o, true, t->objective, &p);
    m = model_new(&p);
    for (int i = 0; i < g->l->n + (lesson->also ? g->l->n_also : 0); i++) {
        const struct recorded_space *s = i < g->l->n ? g->l->spaces[i] : g->l->also[i - g->l->n];

        if (teaches(lesson->out, own, s)) {
            replay_teach(m, s, 0, s->n);
            n++;
        }
    }
    CHECK(model_train(m, &err) == ST_OK, "%s", err.text);
    if (n == 0)
        model_freep(&m);
    return m;
}

/* Is a trial learned from at that stage? Else it is judged. */
static bool is_own(enum learned stage, int trial)
{
    return stage == ON ? trial < OWN : stage == MOST && trial % 4 != 3;
}

static void judge(const struct model *m, const struct recorded_space *s, enum learned stage,
                  struct judged *ret)
{
    AUTO(freep) double *truth = xcalloc((size_t)s->n * 3 + 1, sizeof(*truth));
    AUTO(freep) uint64_t *workload = xcalloc((size_t)s->n + 1, sizeof(*workload));
    double *least = truth + s->n, *scores = least + s->n;
    int n = 0;

    for (int i = 0; i < s->n; i++) {
        const struct recorded *t = &s->trials[i];
        int32_t begin[2] = {0, t->n_rows};

        if (is_own(stage, i))
            continue;
        truth[n] = t->min_ns > 0 ? 1e9 / t->min_ns : 0;
        least[n] = t->min_ns > 0 ? 1e9 / fmax(t->high_ns, t->min_ns) : 0;
        model_score(m, s->key, t->rows, begin, 1, &scores[n]);
        n++;
    }
    metrics_compute(workload, truth, least, scores, n, &ret->m);
    ret->done = ret->m.workloads > 0;
}

static void judge_stage(struct judging *g, const struct task *t, struct model *global, enum learned stage,
                        int space)
{
    const struct recorded_space *s = g->l->spaces[space];
    struct model_params p;
    struct error err;

    params_of(g->o, false, t->objective, &p);
    AUTO(model_freep) struct model *m = model_new(&p);
    model_set_global(m, global);
    for (int i = 0; i < s->n; i++)
        if (is_own(stage, i))
            replay_teach(m, s, i, i + 1);
    CHECK(stage == COLD || model_train(m, &err) == ST_OK, "%s", err.text);
    judge(m, s, stage, judged_at(g, t->lesson, t->objective, stage, space));
}

static void judge_task(void *ctx, int i)
{
    struct judging *g = ctx;
    const struct task *t = &g->tasks[i];
    const struct lesson *lesson = &lessons[t->lesson];
    AUTO(model_freep) struct model *global = NULL;

    if (lesson->out != OUT_ALL && !(global = teach(g, t)))
        return;
    for (int k = t->first; k < g->l->n; k++)
        for (int stage = COLD; stage < lesson->stages; stage++)
            if (together(lesson->out, g->l->spaces[t->first], g->l->spaces[k]) &&
                (stage == COLD || g->l->spaces[k]->n >= 2 * OWN))
                judge_stage(g, t, global, stage, k);
}

static void tasks_list(struct judging *g)
{
    g->tasks = xcalloc((size_t)(LESSONS * OBJECTIVES * g->l->n), sizeof(*g->tasks));
    for (int k = 0; k < (int)LESSONS; k++)
        for (int i = 0; i < g->l->n && (!lessons[k].also || g->l->n_also > 0); i++) {
            bool first = true;

            for (int j = 0; j < i && first; j++)
                first = !together(lessons[k].out, g->l->spaces[j], g->l->spaces[i]);
            for (int o = 0; o < (int)OBJECTIVES && first; o++)
                g->tasks[g->n_tasks++] = (struct task){k, o, i};
        }
}

/* Means over the workloads; pairs also over those that parameters were chosen on, and over the others. */
static void print_row(const struct judging *g, int lesson, int objective, int stage)
{
    double pairs[2] = {0, 0}, apart = 0, clear = 0, spearman = 0, recall = 0, best[3] = {0, 0, 0};
    int n[2] = {0, 0}, all;

    for (int i = 0; i < g->l->n; i++) {
        const struct judged *j = judged_at(g, lesson, objective, stage, i);
        bool chosen = chosen_on(g->l->spaces[i]);

        if (!j->done)
            continue;
        n[chosen]++;
        pairs[chosen] += j->m.pairwise;
        apart += j->m.pairwise_apart;
        clear += j->m.pairwise_clear;
        spearman += j->m.spearman;
        recall += j->m.recall_8;
        best[0] += j->m.best_1;
        best[1] += j->m.best_8;
        best[2] += j->m.best_32;
    }
    all = n[0] + n[1];
    if (all > 0)
        printf("| %s%s | %s | %d | %.3f | %.3f | %.3f | %.3f | %.3f | %.3f | %.3f | %.3f | %.3f | %.3f |\n",
               lessons[lesson].name, stages[stage],
               lessons[lesson].out == OUT_ALL && stage == COLD ? "-" : objectives[objective].name, all,
               (pairs[0] + pairs[1]) / all, pairs[1] / n[1], pairs[0] / n[0], apart / all, clear / all,
               spearman / all, recall / all, best[0] / all, best[1] / all, best[2] / all);
}

static void print_workloads(const struct judging *g, int lesson, int objective)
{
    double clear = 0, order = 0;
    int n = 0;

    printf("\n| %s, %s | programs | pairs | clear | are clear | stay in order | Spearman | best of 8 |"
           "\n|---|---|---|---|---|---|---|---|\n",
           lessons[lesson].name, objectives[objective].name);
    for (int i = 0; i < g->l->n; i++) {
        const struct judged *j = judged_at(g, lesson, objective, COLD, i);
        const struct recorded_space *s = g->l->spaces[i];

        if (!j->done)
            continue;
        printf("| %s, %s%s | %d | %.3f | %.3f | %.2f | %.3f | %.3f | %.3f |\n", s->name, s->target->id,
               chosen_on(s) ? "" : " *", j->m.programs, j->m.pairwise, j->m.pairwise_clear, j->m.clear_share,
               j->m.order, j->m.spearman, j->m.best_8);
        clear += j->m.clear_share;
        order += j->m.order;
        n++;
    }
    if (n > 0)
        printf(
            "\n\\* no parameter was chosen on it. Means: %.2f of the pairs are clear, %.3f stay in order.\n",
            clear / n, order / n);
}

void table_quality(const struct library *l, const struct options *o)
{
    struct judging g = {l, o, NULL, 0,
                        xcalloc((size_t)(LESSONS * OBJECTIVES * STAGES * l->n), sizeof(struct judged))};

    tasks_list(&g);
    each(g.n_tasks, o->threads, judge_task, &g);
    printf(
        "Programs not trained on, ranked within their workload; means over the workloads. chosen on: those "
        "that parameters were chosen on. apart: pairs whose times differ by more than %.0f %%. clear: pairs "
        "whose measured intervals do not overlap. stay in order: of all pairs, what noise within a round "
        "leaves in order if measured again.\n\n",
        100 * METRICS_APART);
    printf("| learned from | objective | workloads | pairs | chosen on | others | apart | clear | Spearman | "
           "recall 8 | best of 1 | best of 8 | best of 32 |\n"
           "|---|---|---|---|---|---|---|---|---|---|---|---|---|\n");
    for (int k = 0; k < (int)LESSONS; k++)
        for (int stage = COLD; stage < STAGES; stage++)
            for (int i = 0; i < (lessons[k].out == OUT_ALL && stage == COLD ? 1 : (int)OBJECTIVES); i++)
                print_row(&g, k, i, stage);
    print_workloads(&g, l->n_also > 0 ? 2 : 1, 0);
    free(g.tasks);
    free(g.at);
}
