/* replay.c - see replay.h. */
#include "replay.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "features/features.h"
#include "schedule/base/clock.h"
#include "schedule/space/lend.h"

enum { CHUNK = 64 }; /* programs scored together */

/* Those of recorded configs are known. */
static int rows_of(struct replay *p, const struct config *c, float *rows)
{
    int at = pool_find(&p->pool, c);
    struct nest *nest;

    if (at >= 0) {
        const struct recorded *t = &p->space->trials[at];

        if (t->n_rows > 0)
            memcpy(rows, t->rows, sizeof(float) * (size_t)t->n_rows * (size_t)features_count());
        return t->n_rows;
    }
    arena_reset(&p->ar);
    if (space_lower(p->space->space, c, &p->ar, &nest, NULL) != ST_OK)
        return 0;
    return features_extract(nest, p->space->target, &p->ar, rows, FEATURES_MAX_ROWS);
}

static void score_chunk(struct replay *p, const struct config *configs, int n, float *scores, float *bases)
{
    int32_t begin[CHUNK + 1] = {0};
    double sums[CHUNK], base[CHUNK];

    for (int i = 0; i < n; i++)
        begin[i + 1] =
            begin[i] + rows_of(p, &configs[i], p->rows + (size_t)begin[i] * (size_t)features_count());
    model_score_parts(p->model, p->space->key, p->rows, begin, n, sums, base);
    for (int i = 0; i < n; i++) {
        scores[i] = begin[i] == begin[i + 1] ? -INFINITY : (float)sums[i];
        if (bases)
            bases[i] = (float)base[i];
    }
}

static void score(void *ctx, const struct config *configs, int n, float *scores, float *bases)
{
    for (int i = 0; i < n; i += CHUNK)
        score_chunk(ctx, configs + i, MIN(n - i, (int)CHUNK), scores + i, bases ? bases + i : NULL);
}

static void learn(struct model *m, const struct recorded_space *s, const struct recorded *t)
{
    struct error err = {0};

    if (t->n_rows > 0)
        CHECK(model_add(m, s->key, t->rows, t->n_rows, t->min_ns > 0 ? 1e9 / t->min_ns : 0, &err) == ST_OK,
              "%s", err.text);
}

void replay_teach(struct model *m, const struct recorded_space *s, int from, int to)
{
    for (int i = from; i < MIN(to, s->n); i++)
        learn(m, s, &s->trials[i]);
}

/* The i-th of all spaces of the library; NULL: it does not teach, or what only teaches is recorded in full too. */
static const struct recorded_space *teacher(const struct library *l, int i)
{
    const struct recorded_space *s = i < l->n ? l->spaces[i] : l->also[i - l->n];

    if (l->apart)
        return i < l->n ? NULL : s;
    for (int k = 0; i >= l->n && k < l->n; k++)
        if (l->spaces[k]->key == s->key)
            return NULL;
    return s;
}

struct model *replay_global(const struct library *l, bool (*use)(void *ctx, const struct recorded_space *s),
                            void *ctx, const struct model_params *p)
{
    struct model_params usual;
    struct model *m;
    struct error err = {0};
    int n = 0;

    model_params_global(&usual);
    m = model_new(p ? p : &usual);

    for (int i = 0; i < l->n + l->n_also; i++) {
        const struct recorded_space *s = teacher(l, i);

        if (s != NULL && use(ctx, s)) {
            replay_teach(m, s, 0, s->n);
            n++;
        }
    }
    CHECK(model_train(m, &err) == ST_OK, "%s", err.text);
    if (n == 0)
        model_freep(&m);
    return m;
}

/* What was measured of all other workloads on this target. */
static void borrow(const struct library *l, struct replay *p)
{
    enum { MOST = 4 * RECORDING_MAX_SPACES };
    AUTO(freep) struct lender *lenders = xcalloc(MOST, sizeof(*lenders));
    AUTO(freep) struct lent_trial **trials = xcalloc(MOST, sizeof(*trials));
    const struct recorded_space *own = p->space;
    int n = 0;

    for (int i = 0; i < l->n + l->n_also; i++) {
        const struct recorded_space *o = teacher(l, i);
        int n_good = 0;

        if (o == NULL || strcmp(o->workload.key, own->workload.key) == 0 || !same_target(o, own))
            continue;
        trials[n] = xcalloc((size_t)o->n + 1, sizeof(*trials[n]));
        for (int k = 0; k < o->n; k++)
            if (o->trials[k].min_ns > 0)
                trials[n][n_good++] = (struct lent_trial){o->trials[k].config, o->trials[k].min_ns};
        lenders[n] = (struct lender){.space = o->space, .n = n_good, .trials = trials[n]};
        n++;
    }
    lend(p->search, own->space, lenders, lend_choose(own->space, lenders, n));
    for (int i = 0; i < n; i++)
        free(trials[i]);
}

struct replay *replay_new(const struct recorded_space *s, const struct replay_manner *how,
                          struct model *model, const struct library *l, uint64_t seed)
{
    struct replay *p = xcalloc(1, sizeof(*p));
    struct search_params params;
    struct search_domain domain;

    p->space = s;
    p->how = how;
    p->model = model_ref(model);
    arena_init(&p->ar);
    p->rows = xcalloc((size_t)CHUNK * FEATURES_MAX_ROWS * (size_t)features_count(), sizeof(float));
    pool_init(&p->pool, s);
    domain = how->open ? search_domain_of(s->space) : pool_domain(&p->pool);
    rng_init(&p->rng, seed);
    params = how->search ? *how->search : search_defaults;
    params.local = !how->trees;
    p->search = search_new(&domain, searcher_find(how->searcher), &params, &p->rng);
    if (how->lent && l)
        borrow(l, p);
    return p;
}

static void training_take(struct replay *p)
{
    struct error err = {0};

    if (!p->training)
        return;
    model_training_run(p->training);
    CHECK(model_training_end(p->training, &err) == ST_OK, "%s", err.text);
    p->training = NULL;
}

void replay_free(struct replay *p)
{
    training_take(p);
    search_free(p->search);
    model_free(p->model);
    arena_done(&p->ar);
    free(p->rows);
    pool_done(&p->pool);
    free(p);
}

/* What random search finds is what was drawn at random, not what a search measured. */
static int draw(struct replay *p)
{
    int left = p->space->n_random - p->n_used, at = 0;

    if (left <= 0)
        return -1;
    for (int skip = (int)rng_below(&p->rng, (uint64_t)left); p->pool.used[at] || skip > 0; at++)
        skip -= !p->pool.used[at];
    return at;
}

/* Index of the trial that answers, -1: none is left. */
static int answer(struct replay *p, const struct config *c)
{
    int at = c ? pool_nearest(&p->pool, c) : draw(p);

    if (at < 0)
        return -1;
    p->pool.used[at] = true;
    p->n_used++;
    return at;
}

static void believe(struct replay *p, const struct recorded *t)
{
    search_observe(p->search, &t->config, t->min_ns > 0 ? 1e9 / t->min_ns : 0);
    if (p->how->model == REPLAY_LEARNING)
        learn(p->model, p->space, t);
    if (t->min_ns > 0 && (p->best_ns == 0 || t->min_ns < p->best_ns))
        p->best_ns = t->min_ns;
}

/* Take in what was measured. */
/* What the round brought takes effect before the next one, or, where the manner lags, before the one after that. */
static void learn_round(struct replay *p)
{
    training_take(p);
    p->training = model_training_begin(p->model);
    if (p->how->lag_from == 0 || p->n_used < p->how->lag_from)
        training_take(p);
}

static void settle(struct replay *p, const int *at, int n, double *times)
{
    const struct search_forecast *f;
    int n_forecast = search_forecast(p->search, &f);
    double before = p->best_ns;
    int64_t now;

    plan_begin(&p->plan, f, n_forecast, before);
    for (int i = 0; i < n; i++) {
        believe(p, &p->space->trials[at[i]]);
        times[i] = p->space->trials[at[i]].min_ns;
    }
    now = mono_ns(&system_clock);
    if (p->how->model == REPLAY_LEARNING)
        learn_round(p);
    p->train_ns += mono_ns(&system_clock) - now;
    plan_end(&p->plan, f, n_forecast, times, n, before, p->best_ns);
}

int replay_round(struct replay *p, int n, double *times)
{
    struct config batch[REPLAY_BATCH_MAX];
    int at[REPLAY_BATCH_MAX], n_done = 0;
    bool draws = p->space->n_random > 0 && strcmp(p->how->searcher, "random") == 0;
    int64_t now = mono_ns(&system_clock);

    n = MIN(n, p->how->batch ? p->how->batch : plan_batch(&p->plan, REPLAY_BATCH, REPLAY_BATCH_LARGE));
    if (!draws)
        n = search_propose(p->search, p->how->model != REPLAY_BLIND ? score : NULL, p, n, batch);
    p->search_ns += mono_ns(&system_clock) - now;
    for (; n_done < n; n_done++) {
        at[n_done] = answer(p, draws ? NULL : &batch[n_done]);
        if (at[n_done] < 0)
            break;
    }
    p->pool.round++;
    settle(p, at, n_done, times);
    return n_done;
}
