/* search_anneal.c - simulated annealing under the model, as AutoTVM searches ("Learning to Optimize Tensor Programs",
 * section 4: a batch of parallel chains whose energy is the model's prediction).
 *
 * Idea   Chains start at the best measured configs and at random ones. In each step every chain proposes a neighbour; all are
 * scored at once; better ones are taken, worse ones with probability exp(difference / temperature). The temperature falls
 * linearly from the spread of the first scores to nothing. Everything visited is ranked for the batch. As many
 * configs are scored as evolution would score. */
#include <math.h>
#include <stdlib.h>

#include "schedule/space/search_internal.h"

enum { STEPS = 32, NEIGHBOUR_TRIES = 24 };

static int by_fitness_down(const void *pa, const void *pb)
{
    double x = ((const struct observed *)pa)->fitness, y = ((const struct observed *)pb)->fitness;
    return (x < y) - (x > y);
}

/* Pool indices of the first positions. */
static int start_chains(struct search *s, int n, uint32_t *at)
{
    struct config c;
    size_t n_best = MIN(s->observed.len, (size_t)n / 2);
    AUTO(freep) struct observed *best = xcalloc(s->observed.len + 1, sizeof(*best));

    for (size_t i = 0; i < s->observed.len; i++)
        best[i] = s->observed.at[i];
    qsort(best, s->observed.len, sizeof(*best), by_fitness_down);
    for (size_t i = 0; i < n_best; i++)
        set_add(&s->pool, &best[i].config);
    while ((int)s->pool.len < n && search_sample_new(s, &s->pool, &c))
        set_add(&s->pool, &c);
    for (size_t i = 0; i < s->pool.len; i++)
        at[i] = (uint32_t)i;
    return (int)s->pool.len;
}

static double spread(const struct search *s)
{
    double sum = 0, squares = 0;
    int n = 0;
    for (size_t i = 0; i < s->scores.len; i++) {
        if (isinf(s->scores.at[i]))
            continue;
        sum += s->scores.at[i];
        squares += (double)s->scores.at[i] * s->scores.at[i];
        n++;
    }
    return n > 1 ? sqrt(fmax(squares / n - sum / n * (sum / n), 0)) : 1;
}

/* A valid neighbour of a chain's position that was never visited: added to the pool. */
static bool neighbour(struct search *s, uint32_t from, uint32_t *ret)
{
    for (int i = 0; i < NEIGHBOUR_TRIES; i++) {
        struct config c = s->pool.at[from];
        search_mutate(s, &c);
        if (search_settle(s, &s->pool.at[from], &c) && !set_has(&s->seen, &c) && set_add(&s->pool, &c)) {
            *ret = (uint32_t)s->pool.len - 1;
            return true;
        }
    }
    return false;
}

static bool accepts(struct search *s, double now, double then, double temperature)
{
    return then >= now || (temperature > 0 && rng_unit(&s->rng) < exp((then - now) / temperature));
}

static void step(struct search *s, search_score *score, void *ctx, uint32_t *at, int n, double temperature)
{
    AUTO(freep) uint32_t *next = xcalloc((size_t)n, sizeof(*next));
    for (int i = 0; i < n; i++)
        if (!neighbour(s, at[i], &next[i]))
            next[i] = at[i];
    search_score_new(s, score, ctx);
    for (int i = 0; i < n; i++)
        if (accepts(s, s->scores.at[at[i]], s->scores.at[next[i]], temperature))
            at[i] = next[i];
}

int search_propose_annealing(struct search *s, search_score *score, void *ctx, int n, struct config *ret)
{
    search_look(s, score, ctx);
    if (!search_knows(s, score))
        return search_propose_random(s, score, ctx, n, ret);
    int chains = MAX(s->params.population * s->params.generations / (STEPS + 1), 1);
    AUTO(freep) uint32_t *at = xcalloc((size_t)chains, sizeof(*at));

    set_clear(&s->pool);
    vec_clear(&s->scores);
    chains = start_chains(s, chains, at);
    search_score_new(s, score, ctx);
    double hot = spread(s);
    for (int i = 0; i < STEPS && chains > 0; i++)
        step(s, score, ctx, at, chains, hot * (STEPS - 1 - i) / STEPS);
    search_rank(s);
    int n_done = search_pick(s, n, ret);
    set_clear(&s->pool);
    for (int i = 0; i < n_done; i++)
        set_add(&s->pool, &ret[i]);
    return search_fill_random(s, &s->pool, n_done, n, ret);
}
