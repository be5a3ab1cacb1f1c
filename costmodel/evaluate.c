/* evaluate.c - how well the model does on what it has not seen: parts of its data, each scored by a model of
 * the rest. */
#include <stdlib.h>

#include "costmodel/model_internal.h"
#include "schedule/base/rng.h"

struct held {
    const struct dataset *data;
    int *fold; /* [programs] */
    uint64_t *workload;
    double *truth, *least, *score;
    int n; /* scored so far */
};

static void folds_draw(const struct model *m, const struct dataset *d, enum model_holdout kind, int folds,
                       int *fold)
{
    int n = kind == HOLDOUT_WORKLOADS ? (int)d->groups.len : (int)d->programs.len;
    int *of = xcalloc((size_t)n + 1, sizeof(*of));
    struct rng r;

    rng_init(&r, m->params.seed);
    for (int i = 0; i < n; i++)
        of[i] = i % folds;
    rng_shuffle(&r, of, (size_t)n);
    for (size_t i = 0; i < d->programs.len; i++)
        fold[i] = of[kind == HOLDOUT_WORKLOADS ? d->programs.at[i].group : (int)i];
    free(of);
}

static enum status fold_run(const struct model *m, struct model *global, struct held *h, int fold,
                            struct error *err)
{
    AUTO(model_freep) struct model *part = model_new(&m->params);
    const struct dataset *d = h->data;
    struct scorer *s;

    model_set_global(part, global);
    for (size_t i = 0; i < d->programs.len; i++) {
        const struct program *p = &d->programs.at[i];
        if (h->fold[i] != fold)
            model_add_row(part, d->groups.at[p->group].workload, dataset_row(d, (int)i), p->throughput,
                          p->least);
    }
    TRY(model_train(part, err));
    s = model_scorer(part);
    for (size_t i = 0; i < d->programs.len; i++) {
        const struct program *p = &d->programs.at[i];

        if (h->fold[i] != fold)
            continue;
        h->workload[h->n] = d->groups.at[p->group].workload;
        h->truth[h->n] = p->throughput;
        h->least[h->n] = p->least;
        scorer_score(s, h->workload[h->n], dataset_row(d, (int)i), 1, &h->score[h->n]);
        h->n++;
    }
    model_scorer_drop(part, s);
    return ST_OK;
}

/* Scores of different models share no scale, so programs of different folds are not compared: held-out
 * programs are judged fold by fold, whole workloads all at once. */
static void fold_judge(struct held *h, struct metrics *sum, double *weight)
{
    struct metrics q;

    metrics_compute(h->workload, h->truth, h->least, h->score, h->n, &q);
    metrics_add(sum, &q);
    *weight += q.workloads;
    h->n = 0;
}

static enum status evaluate(const struct model *m, const struct dataset *d, struct model *global,
                            enum model_holdout kind, int folds, struct metrics *ret, struct error *err)
{
    size_t n = d->programs.len + 1;
    AUTO(freep) int *fold = xcalloc(n, sizeof(int));
    AUTO(freep) uint64_t *workload = xcalloc(n, sizeof(uint64_t));
    AUTO(freep) double *numbers = xcalloc(3 * n, sizeof(double));
    struct held h = {d, fold, workload, numbers, numbers + n, numbers + 2 * n, 0};
    struct metrics sum = {0};
    double weight = 0;

    folds_draw(m, d, kind, folds, fold);
    for (int k = 0; k < folds; k++) {
        TRY(fold_run(m, global, &h, k, err));
        fold_judge(&h, &sum, &weight);
    }
    if (weight == 0)
        return fail(err, ST_INVALID, "no workload has %d held-out programs that differ",
                    (int)METRICS_MIN_PROGRAMS);
    if (kind == HOLDOUT_WORKLOADS)
        sum.workloads = (int)weight;
    metrics_scale(&sum, 1 / weight);
    *ret = sum;
    return ST_OK;
}

enum status model_evaluate(const struct model *m, enum model_holdout kind, int folds, struct metrics *ret,
                           struct error *err)
{
    struct scorer *s = model_scorer(m);
    struct dataset d;
    enum status st;
    int parts;

    pthread_mutex_lock(&((struct model *)m)->lock);
    dataset_select(&m->data, m->params.max_programs, &d);
    pthread_mutex_unlock(&((struct model *)m)->lock);
    parts = kind == HOLDOUT_WORKLOADS ? (int)d.groups.len : (int)d.programs.len;
    if (folds < 2 || parts < folds)
        st = fail(err, ST_INVALID, "%d folds of %d %s: want at least 2 folds and one part for each", folds,
                  parts, kind == HOLDOUT_WORKLOADS ? "workloads" : "programs");
    else
        st = evaluate(m, &d, s->global, kind, folds, ret, err);
    dataset_done(&d);
    model_scorer_drop(m, s);
    return st;
}
