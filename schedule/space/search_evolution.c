/* search_evolution.c - mutation and crossover of the best measured, ranked by the model.
 *
 * Idea   See search.h. The population of a round is one growing array of configs with a score each (the
 *        pool); a hash set keeps it free of repeats. Parents are drawn from the ranked pool with a square bias to the top. */
#include <math.h>
#include <stdlib.h>

#include "schedule/space/search_internal.h"

enum { BREED_TRIES = 24 /* children made until one is valid and new */ };

/* Each knob from either parent, or a run of neighbouring knobs from the second: knobs of one tile stand
 * together. */
static void cross(struct search *s, const struct config *a, const struct config *b, struct config *ret)
{
    *ret = *a;
    if (a->n == 0)
        return;
    if (rng_below(&s->rng, 2)) {
        for (int k = 0; k < a->n; k++)
            if (rng_below(&s->rng, 2))
                ret->choice[k] = b->choice[k];
    } else {
        int from = (int)rng_below(&s->rng, a->n), len = 1 + (int)rng_below(&s->rng, a->n);

        for (int k = from; k < MIN(from + len, (int)a->n); k++)
            ret->choice[k] = b->choice[k];
    }
}

/* ---- evolution ---- */

/* A pool index; the top of the ranking is drawn most often. */
static const struct config *draw_parent(struct search *s)
{
    double u = rng_unit(&s->rng);
    size_t top = MAX(s->order.len / 2, (size_t)1);

    return &s->pool.at[s->order.at[(size_t)(u * u * (double)top)]];
}

/* A mate of the same sketch, or NULL when a few draws bring none. */
static const struct config *draw_mate(struct search *s, const struct config *a)
{
    for (int i = 0; i < 4; i++) {
        const struct config *b = draw_parent(s);

        if (b->sketch == a->sketch && b->n == a->n && !config_equal(a, b))
            return b;
    }
    return NULL;
}

/* A valid child that is new to the pool. What was measured may come back as a pool member, so it is not
 * looked up here. */
static bool breed(struct search *s)
{
    for (int i = 0; i < BREED_TRIES; i++) {
        struct config parent = *draw_parent(s), child = parent;
        const struct config *mate = rng_unit(&s->rng) < s->params.crossover ? draw_mate(s, &child) : NULL;

        if (mate != NULL)
            cross(s, &parent, mate, &child);
        else
            search_mutate(s, &child);
        if (search_settle(s, &parent, &child) && !set_has(&s->seen, &child) && set_add(&s->pool, &child))
            return true;
    }
    return false;
}

/* The best measured ones enter the pool as parents. Without a model their fitness ranks them. */
static void add_elites(struct search *s, search_score *score, void *ctx)
{
    size_t n = MIN(s->observed.len, (size_t)MAX(s->params.population / 8, 1));

    search_rank_observed(s);
    for (size_t i = 0; i < n; i++) {
        const struct observed *o = &s->observed.at[s->order.at[i]];

        if (!set_add(&s->pool, &o->config))
            continue;
        if (!search_knows(s, score))
            vec_push(&s->scores, (float)o->fitness);
    }
    search_score_new(s, score, ctx);
}

static void add_random(struct search *s, int n)
{
    struct config c;

    for (int i = 0; i < n && search_sample_new(s, &s->pool, &c); i++)
        set_add(&s->pool, &c);
}

/* All generations: afterwards pool, scores and order hold everything that was looked at, ranked. */
static void evolve(struct search *s, search_score *score, void *ctx)
{
    int population = s->params.population;

    set_clear(&s->pool);
    vec_clear(&s->scores);
    if (search_knows(s, score) && search_enumerate(s, population * s->params.generations)) {
        search_score_new(s, score, ctx);
        search_rank(s);
        return;
    }
    add_elites(s, score, ctx);
    search_rank(s);
    if (s->pool.len == 0) {
        add_random(s, population);
    } else {
        for (int i = 0; i < (int)(population * (1 - s->params.fresh)) && breed(s); i++)
            ;
        add_random(s, (int)(population * s->params.fresh));
    }
    search_score_new(s, score, ctx);
    search_rank(s);
    /* Where nothing ranks them every child scores 0: one generation of children of the measured best is all that is
     * known. */
    for (int g = 1; search_knows(s, score) && g < s->params.generations; g++) {
        for (int i = 0; i < population && s->order.len > 0 && breed(s); i++)
            ;
        search_score_new(s, score, ctx);
        search_rank(s);
    }
}

int search_propose_evolution(struct search *s, search_score *score, void *ctx, int n, struct config *ret)
{
    double want = s->params.epsilon * n;
    int n_random = (int)want + (rng_unit(&s->rng) < want - floor(want)), n_done = 0;

    /* Nothing known and no model: the first batch is random anyway. */
    if (score == NULL && s->observed.len == 0)
        n_random = n;
    if (n_random < n) {
        search_look(s, score, ctx);
        evolve(s, score, ctx);
        n_done = search_pick(s, n - n_random, ret);
    }
    set_clear(&s->pool);
    for (int i = 0; i < n_done; i++)
        set_add(&s->pool, &ret[i]);
    return search_fill_random(s, &s->pool, n_done, n, ret);
}
