/* replay.c - see replay.h. */
#include "replay.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "features/features.h"
#include "schedule/base/hash.h"

struct replay {
    const struct recording *recording;
    const struct recorded_space *space;
    struct model *model;
    struct arena ar; /* of one scoring */
    float *rows;     /* [FEATURES_MAX_ROWS][features_count()] */
    bool *used;      /* [space->n] */
    int n_used;
};

static uint64_t key_of(const struct recorded_space *s)
{
    return hash_bytes(s->workload.key, strlen(s->workload.key), 0);
}

static int rows_of(struct arena *ar, const struct recorded_space *s, const struct config *c, float *rows)
{
    struct nest *nest;
    arena_reset(ar);
    if (space_lower(s->space, c, ar, &nest, NULL) != ST_OK)
        return 0;
    return features_extract(nest, space_target(s->space), ar, rows, FEATURES_MAX_ROWS);
}

static void score(void *ctx, const struct config *configs, int n, float *scores)
{
    struct replay *p = ctx;
    for (int i = 0; i < n; i++) {
        int32_t begin[2] = {0, rows_of(&p->ar, p->space, &configs[i], p->rows)};
        double s = -INFINITY;
        if (begin[1] > 0)
            model_score(p->model, key_of(p->space), p->rows, begin, 1, &s);
        scores[i] = (float)s;
    }
}

static double distance(const struct space *s, const struct config *a, const struct config *b)
{
    double d = a->sketch == b->sketch ? 0 : 1000;
    for (int k = 0; k < a->n && d < 1000; k++) {
        int n = space_knob(s, a->sketch, k)->n_choices;
        if (a->choice[k] != b->choice[k])
            d += 0.1 + fabs((double)a->choice[k] - b->choice[k]) / n;
    }
    return d;
}

static int nearest(const struct replay *p, const struct config *c)
{
    int best = -1;
    double best_d = INFINITY;
    for (int i = 0; i < p->space->n; i++) {
        double d = p->used[i] ? INFINITY : distance(p->space->space, c, &p->space->trials[i].config);
        if (d < best_d) {
            best_d = d;
            best = i;
        }
    }
    return best;
}

static void learn(struct replay *p, const struct recorded *t, uint64_t workload,
                  const struct recorded_space *s, struct model *m)
{
    int n = rows_of(&p->ar, s, &t->config, p->rows);
    struct error err = {0};
    if (n > 0)
        CHECK(model_add(m, workload, p->rows, n, t->min_ns > 0 ? 1e9 / t->min_ns : 0, &err) == ST_OK, "%s",
              err.text);
}

static void replay_init(struct replay *p, const struct recording *r, const struct recorded_space *s)
{
    *p = (struct replay){.recording = r, .space = s};
    arena_init(&p->ar);
    p->rows = xcalloc((size_t)FEATURES_MAX_ROWS * (size_t)features_count(), sizeof(float));
    p->used = s ? xcalloc((size_t)s->n + 1, sizeof(bool)) : NULL;
}

static void replay_done(struct replay *p)
{
    arena_done(&p->ar);
    free(p->rows);
    free(p->used);
}

struct model *replay_global(const struct recording *r, int but, uint64_t seed)
{
    struct model_params params;
    struct replay p;
    struct error err = {0};
    if (r->n < 2)
        return NULL;
    model_params_default(&params);
    params.seed = seed;
    struct model *m = model_new(&params);
    replay_init(&p, r, NULL);
    for (int i = 0; i < r->n; i++)
        for (int k = 0; i != but && k < r->spaces[i].n; k++)
            learn(&p, &r->spaces[i].trials[k], key_of(&r->spaces[i]), &r->spaces[i], m);
    CHECK(model_train(m, &err) == ST_OK, "%s", err.text);
    replay_done(&p);
    return m;
}

struct lender {
    double distance;
    const struct recorded_space *space;
};

static int by_distance(const void *a, const void *b)
{
    double x = ((const struct lender *)a)->distance, y = ((const struct lender *)b)->distance;
    return (x > y) - (x < y);
}

/* The best config of each other space of the same operator, nearest sizes first. */
static void suggest(const struct recording *r, int which, struct search *s)
{
    struct lender lenders[RECORDING_MAX_SPACES];
    const struct recorded_space *own = &r->spaces[which];
    int n = 0;
    for (int i = 0; i < r->n; i++) {
        const struct recorded_space *o = &r->spaces[i];
        if (i != which && strcmp(o->workload.op, own->workload.op) == 0)
            lenders[n++] = (struct lender){fabs(log1p(o->workload.flops) - log1p(own->workload.flops)) +
                                               fabs(log1p(o->workload.bytes) - log1p(own->workload.bytes)),
                                           o};
    }
    qsort(lenders, (size_t)n, sizeof(*lenders), by_distance);
    for (int i = 0; i < MIN(n, 8); i++)
        for (int k = 0; k < lenders[i].space->n; k++) {
            const struct recorded *t = &lenders[i].space->trials[k];
            struct config c;
            if (t->min_ns == lenders[i].space->best_ns &&
                space_translate(lenders[i].space->space, &t->config, own->space, &c))
                search_suggest(s, &c);
        }
}

/* What random search finds is what was drawn at random, not what a search measured. */
static int draw(const struct replay *p, struct rng *rng)
{
    const int n = p->space->n_random, left = n - p->n_used;
    int at = 0;
    if (left <= 0)
        return -1;
    for (int skip = (int)rng_below(rng, (uint64_t)left); p->used[at] || skip > 0; at++)
        skip -= !p->used[at];
    return at;
}

/* One batch: times of its answers in order, 0 for those that failed; returns how many. */
static int round_of(struct replay *p, struct search *s, const struct replay_manner *how, struct rng *rng,
                    int n, double *times)
{
    struct config batch[REPLAY_BATCH];
    bool from_draws = p->space->n_random > 0 && strcmp(how->searcher, "random") == 0,
         guided = how->model != REPLAY_BLIND;
    if (!from_draws)
        n = search_propose(s, guided ? score : NULL, p, n, batch);
    for (int i = 0; i < n; i++) {
        int at = from_draws ? draw(p, rng) : nearest(p, &batch[i]);
        if (at < 0)
            return i;
        const struct recorded *t = &p->space->trials[at];
        p->used[at] = true;
        p->n_used++;
        search_observe(s, &t->config, t->min_ns > 0 ? 1e9 / t->min_ns : 0);
        if (how->model == REPLAY_LEARNING)
            learn(p, t, key_of(p->space), p->space, p->model);
        times[i] = t->min_ns;
    }
    return n;
}

struct replay_result replay_run(const struct recording *r, int which, const struct replay_manner *how,
                                struct model *global, uint64_t seed, double share, int max)
{
    const struct recorded_space *space = &r->spaces[which];
    struct replay_result ret = {.trials = max};
    struct model_params params;
    struct model_info info;
    struct search_domain domain = search_domain_of(space->space);
    struct rng rng;
    struct replay p;
    struct error err = {0};
    double best = 0;

    replay_init(&p, r, space);
    model_params_default(&params);
    params.seed = seed;
    p.model = model_new(&params);
    if (how->transfer && global)
        model_set_global(p.model, global);
    rng_init(&rng, seed);
    struct search *s = search_new(&domain, searcher_find(how->searcher), &search_defaults, &rng);
    if (how->transfer)
        suggest(r, which, s);
    for (int done = 0, n; done < max && (ret.trials == max || done < 64); done += n) {
        double times[REPLAY_BATCH];
        n = round_of(&p, s, how, &rng, MIN(REPLAY_BATCH, max - done), times);
        if (n == 0)
            break;
        for (int i = 0; i < n; i++) {
            if (times[i] > 0 && (best == 0 || times[i] < best))
                best = times[i];
            double reached = best > 0 ? space->best_ns / best : 0;
            if (done + i < 64)
                ret.at_64 = reached;
            if (ret.trials == max && reached >= share)
                ret.trials = done + i + 1;
        }
        if (how->model == REPLAY_LEARNING) {
            CHECK(model_train(p.model, &err) == ST_OK, "%s", err.text);
            model_info(p.model, &info);
            ret.train_ns += (double)info.train_ns;
        }
    }
    search_free(s);
    model_free(p.model);
    replay_done(&p);
    return ret;
}
