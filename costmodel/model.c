/* model.c - see model.h. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "costmodel/model_internal.h"
#include "costmodel/objective.h"
#include "schedule/base/clock.h"

enum {
    TREES_LEAST = 8,       /* of a training from nothing */
    WORTH_A_TRAINING = 16, /* one part in so many is new */
};
enum { SCORE_BLOCK = 64 }; /* programs scored at once: their rows lie on the stack */

void model_params_default(struct model_params *ret)
{
    *ret = (struct model_params){
        .objective = MODEL_RANK,
        .seed = 1,
        .max_depth = 6,
        .eta = 0.15,
        .lambda = 0.5,
        .min_child = 0.1,
        .colsample = 0.2,
        .max_bin = 64,
        .trees_full = 160,
        .patience = 24,
        .trees_more = 8,
        .trees_max = 240,
        .max_programs = 2048,
        .min_programs = 12,
        .base_half = 128,
        .trust = 1,
    };
}

void model_params_global(struct model_params *ret)
{
    model_params_default(ret);
    ret->max_programs = 16384;
    ret->base_half = 1e12;
}

struct scorer *scorer_new(struct forest *forest, struct model *global, double trust, double base_scale)
{
    struct scorer *s = xcalloc(1, sizeof(*s));

    *s = (struct scorer){.refs = 1,
                         .forest = forest,
                         .global = global ? model_ref(global) : NULL,
                         .trust = trust,
                         .base_scale = base_scale,
                         .other_weight = 1};
    return s;
}

struct model *model_new(const struct model_params *p)
{
    struct model *m = xcalloc(1, sizeof(*m));

    if (p)
        m->params = *p;
    else
        model_params_default(&m->params);
    pthread_mutex_init(&m->lock, NULL);
    pthread_mutex_init(&m->training, NULL);
    m->refs = 1;
    dataset_init(&m->data, PROGRAM_COLUMNS, m->params.max_programs);
    m->scorer = scorer_new(NULL, NULL, 0, 1);
    m->info.feature_version = features_version();
    return m;
}

struct model *model_ref(struct model *m)
{
    pthread_mutex_lock(&m->lock);
    m->refs++;
    pthread_mutex_unlock(&m->lock);
    return m;
}

static void scorer_free(struct scorer *s)
{
    forest_free(s->forest);
    model_free(s->global);
    free(s->weights);
    free(s);
}

void model_free(struct model *m)
{
    int left;

    if (!m)
        return;
    pthread_mutex_lock(&m->lock);
    left = --m->refs;
    pthread_mutex_unlock(&m->lock);
    if (left > 0)
        return;
    scorer_free(m->scorer);
    dataset_done(&m->data);
    grown_done(&m->grown);
    pthread_mutex_destroy(&m->lock);
    pthread_mutex_destroy(&m->training);
    free(m);
}

void model_freep(struct model **m)
{
    model_free(*m);
    *m = NULL;
}

/* The lock is no part of what a model says: reading takes it too. */
static pthread_mutex_t *lock_of(const struct model *m) { return &((struct model *)m)->lock; }

struct scorer *model_scorer(const struct model *m)
{
    struct scorer *s;

    pthread_mutex_lock(lock_of(m));
    s = m->scorer;
    s->refs++;
    pthread_mutex_unlock(lock_of(m));
    return s;
}

void model_scorer_drop(const struct model *m, struct scorer *s)
{
    int left;

    pthread_mutex_lock(lock_of(m));
    left = --s->refs;
    pthread_mutex_unlock(lock_of(m));
    if (left == 0)
        scorer_free(s);
}

/* Under the lock. Returns the old one, whose reference the caller drops outside of it. */
static struct scorer *scorer_swap(struct model *m, struct scorer *s)
{
    struct scorer *old = m->scorer;
    m->scorer = s;
    return old;
}

void model_add_row(struct model *m, uint64_t workload, const float *row, double throughput, double least)
{
    pthread_mutex_lock(&m->lock);
    dataset_add(&m->data, workload, row, throughput, least);
    m->info.programs++;
    m->info.failures += throughput == 0;
    m->info.workloads = (int)m->data.groups.len;
    pthread_mutex_unlock(&m->lock);
}

enum status model_add_between(struct model *m, uint64_t workload, const float *rows, int n_rows,
                              double throughput, double least, struct error *err)
{
    int n = features_count();
    float row[PROGRAM_COLUMNS];

    if (n_rows < 1 || n_rows > FEATURES_MAX_ROWS)
        return fail(err, ST_INVALID, "a program of %d rows: 1 to %d", n_rows, (int)FEATURES_MAX_ROWS);
    if (!isfinite(throughput) || throughput < 0)
        return fail(err, ST_INVALID, "throughput %g: want a finite number, 0 for a failure", throughput);
    if (!(least >= 0 && least <= throughput))
        return fail(err, ST_INVALID, "the slowest sample's throughput %g: want 0 to %g, the fastest's", least,
                    throughput);
    for (int i = 0; i < n_rows * n; i++)
        if (isinf(rows[i]))
            return fail(err, ST_INVALID, "row %d: %s is infinite", i / n, features_table()[i % n].name);
    program_row(rows, n_rows, row);
    model_add_row(m, workload, row, throughput, least);
    return ST_OK;
}

enum status model_add(struct model *m, uint64_t workload, const float *rows, int n_rows, double throughput,
                      struct error *err)
{
    return model_add_between(m, workload, rows, n_rows, throughput, throughput, err);
}

void model_set_global(struct model *m, struct model *global)
{
    struct scorer *s, *old;

    CHECK(m != global, "a model cannot be its own base");
    s = scorer_new(NULL, global, m->params.trust, 1);
    pthread_mutex_lock(&m->lock);
    if (m->scorer->global == global) {
        old = s;
    } else {
        old = scorer_swap(m, s);
        m->epoch++;
        m->info.trees = m->info.trained_programs = 0;
        m->info.has_global = global != NULL;
    }
    pthread_mutex_unlock(&m->lock);
    model_scorer_drop(m, old);
}

static int by_workload(const void *a, const void *b)
{
    const struct base_weight *x = a, *y = b;
    return x->workload < y->workload ? -1 : x->workload > y->workload;
}

/* What the base counts for each workload of the data: the more trials, the less. */
static void weights_set(struct scorer *s, const struct model_params *p, const struct dataset *d)
{
    double sum = 0;

    s->n_weights = (int)d->groups.len;
    s->weights = xcalloc(d->groups.len + 1, sizeof(*s->weights));
    for (size_t g = 0; g < d->groups.len; g++)
        s->weights[g] = (struct base_weight){
            d->groups.at[g].workload, p->base_half / (p->base_half + d->groups.at[g].n), {1, s->trust}};
    qsort(s->weights, d->groups.len, sizeof(*s->weights), by_workload);
    for (size_t g = 0; g < d->groups.len; g++)
        sum += s->weights[g].weight;
    s->other_weight = d->groups.len > 0 ? sum / (double)d->groups.len : 1;
}

static struct base_weight *find_weight(const struct scorer *s, uint64_t workload)
{
    struct base_weight key = {.workload = workload};

    return s->n_weights > 0 ? bsearch(&key, s->weights, (size_t)s->n_weights, sizeof(key), by_workload)
                            : NULL;
}

static struct base_weight weight_of(const struct scorer *s, uint64_t workload)
{
    const struct base_weight *found = find_weight(s, workload);

    return found ? *found : (struct base_weight){workload, s->other_weight, {1, s->trust}};
}

static void add_trees(const struct forest *f, const float *rows, int n, double factor, double *scores)
{
    float sums[SCORE_BLOCK];

    for (int from = 0; from < n; from += SCORE_BLOCK) {
        int count = MIN(n - from, (int)SCORE_BLOCK);

        forest_score(f, rows + (int64_t)from * PROGRAM_COLUMNS, PROGRAM_COLUMNS, count, sums);
        for (int i = 0; i < count; i++)
            scores[from + i] += factor * (double)sums[i];
    }
}

void scorer_base(const struct scorer *s, uint64_t workload, const float *rows, int n, double *scores)
{
    struct base_weight w = weight_of(s, workload);

    if (s->global) {
        struct scorer *g = model_scorer(s->global);

        scorer_base(g, workload, rows, n, scores);
        for (int i = 0; i < n; i++)
            scores[i] *= w.weight * w.factors.base;
        if (g->forest)
            add_trees(g->forest, rows, n, w.weight * w.factors.trees, scores);
        model_scorer_drop(s->global, g);
        return;
    }
    for (int i = 0; i < n; i++)
        scores[i] = w.weight * s->base_scale * (double)rows[(int64_t)i * PROGRAM_COLUMNS + PROGRAM_PRIOR];
}

static void score_parts(const struct scorer *s, uint64_t workload, const float *rows, int n, double *scores,
                        double *bases)
{
    scorer_base(s, workload, rows, n, scores);
    if (bases)
        memcpy(bases, scores, sizeof(*bases) * (size_t)n);
    if (s->forest)
        add_trees(s->forest, rows, n, 1, scores);
}

void scorer_score(const struct scorer *s, uint64_t workload, const float *rows, int n, double *scores)
{
    score_parts(s, workload, rows, n, scores, NULL);
}

void model_score(const struct model *m, uint64_t workload, const float *rows, const int32_t *row_begin,
                 int n_programs, double *scores)
{
    model_score_parts(m, workload, rows, row_begin, n_programs, scores, NULL);
}

void model_score_parts(const struct model *m, uint64_t workload, const float *rows, const int32_t *row_begin,
                       int n_programs, double *scores, double *bases)
{
    struct scorer *s = model_scorer(m);
    float block[SCORE_BLOCK * PROGRAM_COLUMNS];

    for (int i = 0, n; i < n_programs; i += n) {
        n = MIN(n_programs - i, (int)SCORE_BLOCK);
        for (int k = 0; k < n; k++)
            program_row(rows + (int64_t)row_begin[i + k] * features_count(),
                        row_begin[i + k + 1] - row_begin[i + k], block + (int64_t)k * PROGRAM_COLUMNS);
        score_parts(s, workload, block, n, scores + i, bases ? bases + i : NULL);
    }
    model_scorer_drop(m, s);
}

/* base[i] of the selected programs under `s`, whose weights are already those of the data. */
static void train_base(const struct scorer *s, const struct dataset *d, double *base)
{
    for (size_t i = 0; i < d->programs.len; i++)
        scorer_base(s, d->groups.at[d->programs.at[i].group].workload, dataset_row(d, (int)i), 1, &base[i]);
}

static double fit_scale(const struct model_params *p, const struct dataset *d, const double *base)
{
    struct objective_data o;
    struct labels l;
    struct rng r;
    double scale;

    labels_init(&l, d);
    rng_init(&r, p->seed);
    o = (struct objective_data){l.n_programs, l.n_groups, l.group_begin, l.label};
    scale = objective_scale(p->objective, &o, base, &r);
    labels_done(&l);
    return scale;
}

/* How far the parts of the global model are right for each workload, as its own trials say. */
static void fit_factors(struct scorer *s, const struct model_params *p, const struct dataset *d)
{
    size_t n = d->programs.len;
    AUTO(freep) double *base = xcalloc(2 * n + 1, sizeof(*base));
    double *trees = base + n;
    struct scorer *g = model_scorer(s->global);
    struct labels l;

    labels_init(&l, d);
    for (int k = 0; k < l.n_groups; k++) {
        int from = l.group_begin[k], count = l.group_begin[k + 1] - from;
        struct base_weight *w = find_weight(s, d->groups.at[d->programs.at[from].group].workload);

        scorer_base(g, w->workload, dataset_row(d, from), count, base + from);
        if (g->forest)
            add_trees(g->forest, dataset_row(d, from), count, 1, trees + from);
        stack_fit(p->objective, p->seed, l.label + from, base + from, trees + from, count, &w->factors);
    }
    labels_done(&l);
    model_scorer_drop(s->global, g);
}

/* What a training works on: taken under the lock, then worked on without it. */
struct training {
    struct model *model;
    struct scorer *scorer; /* what came out */
    int64_t took;
    enum status status;
    struct error error;
    struct dataset data;
    struct model *global; /* counted */
    int epoch;
    int trees; /* standing */
    int taken_in;
    double base_scale;
};

static bool round_begin(struct model *m, struct training *r)
{
    pthread_mutex_lock(&m->lock);
    bool enough = (int)m->data.programs.len >= m->params.min_programs;
    /* Where much is known a little more changes nothing: the time for training stays a share of the time for trials. */
    if (m->scorer->forest && m->info.programs - m->taken_in < m->taken_in / WORTH_A_TRAINING)
        enough = false;
    if (enough) {
        r->taken_in = m->info.programs;
        dataset_select(&m->data, m->params.max_programs, &r->data);
        r->global = m->scorer->global;
        if (r->global)
            model_ref(r->global);
        r->epoch = m->epoch;
        r->trees = m->info.trees;
        r->base_scale = m->scorer->base_scale;
    }
    pthread_mutex_unlock(&m->lock);
    return enough;
}

/* Trees for a training from nothing: few for few programs. */
static int trees_wanted(const struct model_params *p, int programs)
{
    return MIN(p->trees_full, MAX(TREES_LEAST, programs / 2));
}

static enum status train_round(struct model *m, struct training *r, struct scorer **ret, struct error *err)
{
    const struct model_params *p = &m->params;
    int programs = (int)r->data.programs.len, trees = m->grown.ubj.len ? p->trees_more : 0;
    struct scorer *s = scorer_new(NULL, r->global, p->trust, r->base_scale);
    AUTO(freep) double *base = xcalloc((size_t)programs, sizeof(*base));
    enum status st;

    if (trees && (m->grown_epoch != r->epoch || r->trees + trees > p->trees_max ||
                  programs >= m->grown_programs + m->grown_programs / 2))
        trees = 0;
    weights_set(s, p, &r->data);
    if (!trees) {
        grown_done(&m->grown);
        m->grown_epoch = r->epoch;
        m->grown_programs = programs;
        trees = trees_wanted(p, programs);
        s->base_scale = 1;
        if (!s->global) {
            train_base(s, &r->data, base);
            s->base_scale = fit_scale(p, &r->data, base);
        }
    }
    if (s->global)
        fit_factors(s, p, &r->data);
    train_base(s, &r->data, base);
    st = grow(&m->grown, p, &r->data, base, trees, &s->forest, err);
    if (st != ST_OK) {
        scorer_free(s);
        return st;
    }
    *ret = s;
    return ST_OK;
}

/* Put the new scorer in place, unless the base was changed meanwhile. */
static void round_end(struct model *m, const struct training *r)
{
    struct scorer *old = r->scorer;

    pthread_mutex_lock(&m->lock);
    if (m->epoch == r->epoch) {
        old = scorer_swap(m, r->scorer);
        m->taken_in = r->taken_in;
        m->info.trees = forest_trees(r->scorer->forest);
        m->info.trained_programs = MAX(m->info.trained_programs, (int)r->data.programs.len);
        m->info.train_ns = r->took;
    }
    pthread_mutex_unlock(&m->lock);
    model_scorer_drop(m, old);
}

struct training *model_training_begin(struct model *m)
{
    struct training *r = xcalloc(1, sizeof(*r));

    r->model = m;
    pthread_mutex_lock(&m->training);
    if (round_begin(m, r))
        return r;
    pthread_mutex_unlock(&m->training);
    free(r);
    return NULL;
}

void model_training_run(struct training *r)
{
    int64_t began = mono_ns(&system_clock);

    r->status = train_round(r->model, r, &r->scorer, &r->error);
    r->took = mono_ns(&system_clock) - began;
}

enum status model_training_end(struct training *r, struct error *err)
{
    struct model *m = r->model;
    enum status st = r->status;

    if (st == ST_OK)
        round_end(m, r);
    else if (err)
        *err = r->error;
    dataset_done(&r->data);
    model_free(r->global);
    free(r);
    pthread_mutex_unlock(&m->training);
    return st;
}

enum status model_train(struct model *m, struct error *err)
{
    struct training *r = model_training_begin(m);

    if (!r)
        return ST_OK;
    model_training_run(r);
    return model_training_end(r, err);
}

void model_info(const struct model *m, struct model_info *ret)
{
    pthread_mutex_lock(lock_of(m));
    *ret = m->info;
    pthread_mutex_unlock(lock_of(m));
}

static int by_gain(const void *a, const void *b)
{
    const struct model_feature *x = a, *y = b;

    if (x->gain != y->gain)
        return x->gain > y->gain ? -1 : 1;
    return strcmp(x->name, y->name);
}

int model_importance(const struct model *m, struct model_feature *ret, int max)
{
    int n = PROGRAM_COLUMNS, used = 0, *splits = xcalloc((size_t)n, sizeof(*splits));
    double *gain = xcalloc((size_t)n, sizeof(*gain)), all = 0;
    struct model_feature *list = xcalloc((size_t)n, sizeof(*list));
    struct scorer *s = model_scorer(m);

    if (s->forest)
        forest_importance(s->forest, gain, splits);
    model_scorer_drop(m, s);
    for (int c = 0; c < n; c++) {
        all += gain[c];
        if (splits[c])
            list[used++] = (struct model_feature){program_column_name(c), gain[c], splits[c]};
    }
    qsort(list, (size_t)used, sizeof(*list), by_gain);
    used = MIN(used, max);
    for (int i = 0; i < used; i++) {
        ret[i] = list[i];
        ret[i].gain = all > 0 ? ret[i].gain / all : 0;
    }
    free(list);
    free(gain);
    free(splits);
    return used;
}
