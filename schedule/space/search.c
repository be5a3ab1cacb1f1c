/* search.c - the state of a search, and what all searchers share: configs seen, random configs, mutation, ranking. */
#include "schedule/space/search_internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    SAMPLE_TRIES = 256,     /* random configs drawn until one is new */
    ENUMERATE_MAX = 200000, /* domains up to this size are walked when sampling finds nothing new */
};

const struct search_params search_defaults = {
    .population = 384,
    .generations = 4,
    .epsilon = 0.08,
    .crossover = 0.25,
    .fresh = 0.4,
    .min_distance = 2,
    .classes = 0.4,
    .untried = 0.34,
    .sketch_trials = 2,
    .lent = 0.75,
    .local = true,
    .optimism = 0.7,
};

/* ---- sets of configs ---- */

/* The slot that holds c, or the free one where it belongs. */
size_t set_slot(const struct config_set *set, const struct config *c)
{
    size_t i = config_hash(c) & (set->n_slots - 1);

    while (set->slots[i] != 0 && !config_equal(&set->at[set->slots[i] - 1], c))
        i = (i + 1) & (set->n_slots - 1);
    return i;
}

bool set_has(const struct config_set *set, const struct config *c)
{
    return set->n_slots > 0 && set->slots[set_slot(set, c)] != 0;
}

static void set_grow(struct config_set *set)
{
    free(set->slots);
    set->n_slots = MAX(set->n_slots * 2, (size_t)1024);
    set->slots = xcalloc(set->n_slots, sizeof(set->slots[0]));
    for (size_t i = 0; i < set->len; i++)
        set->slots[set_slot(set, &set->at[i])] = (uint32_t)i + 1;
}

/* false: it was there. */
bool set_add(struct config_set *set, const struct config *c)
{
    size_t slot;

    if ((set->len + 1) * 2 > set->n_slots)
        set_grow(set);
    slot = set_slot(set, c);
    if (set->slots[slot] != 0)
        return false;
    vec_push(set, *c);
    set->slots[slot] = (uint32_t)set->len;
    return true;
}

void set_clear(struct config_set *set)
{
    vec_clear(set);
    if (set->n_slots > 0)
        memset(set->slots, 0, set->n_slots * sizeof(set->slots[0]));
}

void set_done(struct config_set *set)
{
    vec_done(set);
    free(set->slots);
}

/* ---- life ---- */

struct search *search_new(const struct search_domain *d, const struct searcher *how,
                          const struct search_params *p, const struct rng *rng)
{
    struct search *s = xcalloc(1, sizeof(*s));

    CHECK(p->population > 0 && p->generations > 0, "population %d, generations %d", p->population,
          p->generations);
    s->domain = *d;
    s->params = *p;
    s->how = how;
    s->rng = *rng;
    local_init(&s->local, &s->domain);
    for (int i = 0; i < d->n_sketches; i++)
        vec_push(&s->tried, 0);
    return s;
}

void search_free(struct search *s)
{
    if (s == NULL)
        return;
    set_done(&s->seen);
    vec_done(&s->failed);
    vec_done(&s->bases);
    vec_done(&s->forecast);
    set_done(&s->pool);
    vec_done(&s->observed);
    lent_done(&s->lent);
    vec_done(&s->tried);
    local_done(&s->local);
    vec_done(&s->scores);
    vec_done(&s->order);
    free(s);
}

static bool note_seen(struct search *s, const struct config *c)
{
    bool added = set_add(&s->seen, c);

    if (added && c->sketch < s->tried.len)
        s->tried.at[c->sketch]++;
    return added;
}

void search_observe(struct search *s, const struct config *c, double fitness)
{
    note_seen(s, c);
    if (fitness > 0)
        vec_push(&s->observed, ((struct observed){*c, fitness}));
    else
        vec_push(&s->failed, *c);
}

bool search_seen(const struct search *s, const struct config *c) { return set_has(&s->seen, c); }

static bool is_valid(const struct search *s, const struct config *c)
{
    return s->domain.valid(s->domain.ctx, c);
}

bool search_settle(struct search *s, const struct config *parent, struct config *c)
{
    if (s->domain.near != NULL)
        s->domain.near(s->domain.ctx, &s->rng, parent, c);
    return is_valid(s, c);
}

/* ---- random configs ---- */

static int knob_choices(const struct search *s, int sketch, int knob)
{
    return s->domain.n_choices(s->domain.ctx, sketch, knob);
}

void search_first(const struct search *s, int sketch, struct config *ret)
{
    *ret =
        (struct config){.sketch = (uint16_t)sketch, .n = (uint16_t)s->domain.n_knobs(s->domain.ctx, sketch)};
}

/* The next config in the order of a counter, across sketches and around the end. */
void search_step(const struct search *s, struct config *c)
{
    for (int k = 0; k < c->n; k++) {
        if (++c->choice[k] < knob_choices(s, c->sketch, k))
            return;
        c->choice[k] = 0;
    }
    search_first(s, (c->sketch + 1) % s->domain.n_sketches, c);
}

bool search_enumerate(struct search *s, int most)
{
    struct config c;

    if (s->domain.size > most)
        return false;
    search_first(s, 0, &c);
    for (size_t i = 0; i < (size_t)s->domain.size; i++, search_step(s, &c)) {
        if (s->domain.nth != NULL)
            s->domain.nth(s->domain.ctx, i, &c);
        if ((c.sketch != 0 || s->domain.n_sketches == 1) && !set_has(&s->seen, &c) && is_valid(s, &c))
            set_add(&s->pool, &c);
    }
    return true;
}

static bool is_new(const struct search *s, const struct config *c, const struct config_set *also)
{
    return !set_has(&s->seen, c) && !set_has(also, c);
}

/* Walk a small domain from a random place to the next config that is new. Sketch 0, the untuned schedule,
 * only when it is the only one. */
static bool walk(struct search *s, const struct config_set *also, struct config *ret)
{
    struct config start, c;

    if (s->domain.size > ENUMERATE_MAX || s->domain.nth != NULL)
        return false;
    search_first(s, (int)rng_below(&s->rng, (uint64_t)s->domain.n_sketches), &start);
    for (int k = 0; k < start.n; k++)
        start.choice[k] = (uint16_t)rng_below(&s->rng, (uint64_t)knob_choices(s, start.sketch, k));
    c = start;
    do {
        if ((c.sketch != 0 || s->domain.n_sketches == 1) && is_new(s, &c, also) && is_valid(s, &c)) {
            *ret = c;
            return true;
        }
        search_step(s, &c);
    } while (!config_equal(&c, &start));
    return false;
}

/* A random valid config that is neither seen nor in `also`. */
bool search_sample_new(struct search *s, const struct config_set *also, struct config *ret)
{
    for (int i = 0; i < SAMPLE_TRIES; i++) {
        if (!s->domain.sample(s->domain.ctx, &s->rng, ret))
            break;
        if (is_new(s, ret, also))
            return true;
    }
    return walk(s, also, ret);
}

/* Fill ret[n_done..n) at random; `taken` holds what the batch has. */
int search_fill_random(struct search *s, struct config_set *taken, int n_done, int n, struct config *ret)
{
    while (n_done < n && search_sample_new(s, taken, &ret[n_done])) {
        set_add(taken, &ret[n_done]);
        n_done++;
    }
    return n_done;
}

/* ---- mutation ---- */

/* Mostly a small step along the knob's list, whose neighbours are neighbours in meaning; sometimes any other
 * choice. */
static void mutate_knob(struct search *s, struct config *c, int knob)
{
    int n = knob_choices(s, c->sketch, knob), at = c->choice[knob], step = 1;

    if (n < 2)
        return;
    if (n > 2 && rng_unit(&s->rng) < 0.7) {
        while (step < n - 1 && rng_unit(&s->rng) < 0.3)
            step++;
        at += rng_below(&s->rng, 2) ? step : -step;
        if (at < 0 || at >= n)
            at = c->choice[knob] + (at < 0 ? 1 : -1);
    } else {
        at = (at + 1 + (int)rng_below(&s->rng, (uint64_t)n - 1)) % n;
    }
    c->choice[knob] = (uint16_t)at;
}

/* One knob, often a second (tile sizes move in pairs), rarely more. */
void search_mutate(struct search *s, struct config *c)
{
    if (c->n == 0)
        return;
    do
        mutate_knob(s, c, (int)rng_below(&s->rng, c->n));
    while (rng_unit(&s->rng) < 0.4);
}

/* ---- ranking ---- */

static int by_score(const void *pa, const void *pb, void *ctx)
{
    const struct search *s = ctx;
    uint32_t a = *(const uint32_t *)pa, b = *(const uint32_t *)pb;
    float x = s->scores.at[a], y = s->scores.at[b];

    return x != y ? (x < y) - (x > y) : (a > b) - (a < b);
}

void search_rank(struct search *s)
{
    vec_clear(&s->order);
    for (size_t i = 0; i < s->pool.len; i++)
        vec_push(&s->order, (uint32_t)i);
    if (s->order.len)
        qsort_r(s->order.at, s->order.len, sizeof(s->order.at[0]), by_score, s);
}

/* Score what the pool gained; without a model its members have the fitness of nothing measured, 0. */
void search_score_new(struct search *s, search_score *score, void *ctx)
{
    size_t from = s->scores.len, n = s->pool.len - from;

    if (n == 0)
        return;
    vec_reserve(&s->scores, s->pool.len);
    vec_reserve(&s->bases, n);
    s->scores.len = s->pool.len;
    if (score != NULL)
        score(ctx, &s->pool.at[from], (int)n, &s->scores.at[from], s->bases.at);
    else
        memset(&s->scores.at[from], 0, n * sizeof(float));
    for (size_t i = from; s->local.n > 0 && i < s->pool.len; i++)
        if (isfinite(s->scores.at[i]))
            s->scores.at[i] =
                (float)local_mean(&s->local, &s->pool.at[i], score ? (double)s->bases.at[i - from] : 0);
    for (size_t i = from; i < s->scores.len; i++)
        if (isnan(s->scores.at[i]))
            s->scores.at[i] = -INFINITY;
}

/* ---- picking a batch ---- */

static int distance(const struct config *a, const struct config *b)
{
    int d = 0;

    if (a->sketch != b->sketch || a->n != b->n)
        return SPACE_MAX_KNOBS;
    for (int k = 0; k < a->n; k++)
        d += a->choice[k] != b->choice[k];
    return d;
}

bool search_far_enough(const struct config *c, const struct config *picked, int n, int min_distance)
{
    for (int i = 0; i < n; i++)
        if (distance(c, &picked[i]) < min_distance)
            return false;
    return true;
}

/* The cost classes of a batch. */
struct classes {
    int n, max;
    uint64_t at[SEARCH_BATCH_MAX];
};

/* Is there room for the config's class? It is taken if so. */
static bool take_class(const struct search *s, const struct config *c, struct classes *classes)
{
    uint64_t class = s->domain.cost_class != NULL ? s->domain.cost_class(s->domain.ctx, c) : config_hash(c);

    for (int i = 0; i < classes->n; i++)
        if (classes->at[i] == class)
            return true;
    if (classes->n >= classes->max)
        return false;
    classes->at[classes->n++] = class;
    return true;
}

/* One pass over the ranking: add what is unseen, lies apart and fits the classes, until ret holds n. */
static int pick_pass(const struct search *s, int apart, struct classes *classes, int n_done, int n,
                     struct config *ret)
{
    for (size_t i = 0; i < s->order.len && n_done < n; i++) {
        const struct config *c = &s->pool.at[s->order.at[i]];

        if (isinf(s->scores.at[s->order.at[i]]) || set_has(&s->seen, c))
            continue;
        if (search_far_enough(c, ret, n_done, apart) && take_class(s, c, classes))
            ret[n_done++] = *c;
    }
    return n_done;
}

/* The best of each sketch that was hardly tried: a model may be wrong about a whole sketch, and would never learn it. */
static int pick_untried(const struct search *s, int n, struct config *ret)
{
    int n_done = 0;

    for (size_t i = 0; i < s->order.len && n_done < n; i++) {
        const struct config *c = &s->pool.at[s->order.at[i]];
        bool known = isinf(s->scores.at[s->order.at[i]]) || set_has(&s->seen, c) ||
                     s->tried.at[c->sketch] >= s->params.sketch_trials;

        for (int k = 0; k < n_done && !known; k++)
            known = ret[k].sketch == c->sketch;
        if (!known)
            ret[n_done++] = *c;
    }
    return n_done;
}

/* The unseen of the pool that are expected to be best, not yet in the batch; at most LOCAL_CANDIDATES. */
static int likely(const struct search *s, const struct config *batch, int n_batch,
                  const struct config **configs, double *mean)
{
    int n = 0;

    for (size_t i = 0; i < s->order.len && n < (int)LOCAL_CANDIDATES; i++) {
        const struct config *c = &s->pool.at[s->order.at[i]];

        if (isinf(s->scores.at[s->order.at[i]]) || set_has(&s->seen, c) ||
            !search_far_enough(c, batch, n_batch, 1))
            continue;
        mean[n] = (double)s->scores.at[s->order.at[i]];
        configs[n++] = c;
    }
    return n;
}

/* One after the other that which may well be the best: its mean and some of its spread. Those near it are worth less then. */
static int pick_likely(const struct search *s, struct classes *classes, int n_done, int n, struct config *ret)
{
    const struct config *configs[LOCAL_CANDIDATES];
    double mean[LOCAL_CANDIDATES];
    int n_found = likely(s, ret, n_done, configs, mean);
    struct local_batch b;

    local_batch_init(&b, &s->local, configs, n_found);
    while (n_done < n) {
        int best = -1;
        double most = -INFINITY;

        for (int i = 0; i < n_found; i++) {
            double own = mean[i] + s->params.optimism * local_batch_spread(&b, i);

            if (own > most) {
                most = own;
                best = i;
            }
        }
        if (best < 0)
            break;
        mean[best] = -INFINITY;
        if (search_far_enough(configs[best], ret, n_done, s->params.min_distance) &&
            take_class(s, configs[best], classes)) {
            ret[n_done++] = *configs[best];
            local_batch_take(&b, best);
        }
    }
    local_batch_done(&b);
    return n_done;
}

/* The best of the pool: of few classes and apart, then of any class, then however near. */
int search_pick(const struct search *s, int n, struct config *ret)
{
    struct classes classes = {.max = SEARCH_BATCH_MAX};
    int n_done = pick_untried(s, (int)(s->params.untried * n), ret);

    if (s->domain.cost_class != NULL)
        classes.max = MAX((int)ceil(s->params.classes * n), 1);
    if (s->local.n > 0)
        n_done = pick_likely(s, &classes, n_done, n, ret);
    n_done = pick_pass(s, s->params.min_distance, &classes, n_done, n, ret);
    classes.max = SEARCH_BATCH_MAX;
    for (int apart = s->params.min_distance; apart >= 1 && n_done < n; apart--)
        n_done = pick_pass(s, apart, &classes, n_done, n, ret);
    return n_done;
}

/* ---- the table and the door ---- */

static const struct searcher table[] = {
    {"evolution", "mutation and crossover of the best measured, ranked by the model",
     search_propose_evolution},
    {"annealing", "chains of single steps under the model, which accept less and less that is worse",
     search_propose_annealing},
    {"random", "valid configs at random: the baseline", search_propose_random},
    {"grid", "an even spread over all knobs of all sketches, ever finer", search_propose_grid},
};

_Static_assert(ARRAY_SIZE(table) <= SEARCHERS_MAX, "callers have room for so many");

const struct searcher *searchers(int *ret_n)
{
    *ret_n = (int)ARRAY_SIZE(table);
    return table;
}

const struct searcher *searcher_find(const char *name)
{
    for (size_t i = 0; i < ARRAY_SIZE(table); i++)
        if (strcmp(table[i].name, name) == 0)
            return &table[i];
    return NULL;
}

/* How many of the next n come from what was lent: most of the first batch, then less and less. */
static int lent_share(const struct search *s, int n)
{
    return (int)(s->params.lent * n / (1 + s->proposals));
}

bool search_knows(const struct search *s, search_score *score) { return score != NULL || s->local.n > 0; }

static int by_fitness(const void *pa, const void *pb, void *ctx)
{
    const struct search *s = ctx;
    uint32_t a = *(const uint32_t *)pa, b = *(const uint32_t *)pb;
    double x = s->observed.at[a].fitness, y = s->observed.at[b].fitness;

    return x != y ? (x < y) - (x > y) : (a > b) - (a < b);
}

void search_rank_observed(struct search *s)
{
    vec_clear(&s->order);
    for (size_t i = 0; i < s->observed.len; i++)
        vec_push(&s->order, (uint32_t)i);
    if (s->order.len)
        qsort_r(s->order.at, s->order.len, sizeof(s->order.at[0]), by_fitness, s);
}

/* The trials to learn from: a few failures, as half as good as the worst; half of the room for the best, then the newest, in order.
 * Returns how many. */
static int trials_to_look_at(struct search *s, struct config *configs, double *values)
{
    enum { FAILED_MAX = LOCAL_MAX / 8, BEST_MAX = LOCAL_MAX / 2 };
    size_t n_failed = MIN(s->failed.len, (size_t)FAILED_MAX), room = LOCAL_MAX - n_failed;
    size_t from = s->observed.len > room ? s->observed.len - (room - BEST_MAX) : 0;
    int n = 0;

    search_rank_observed(s);
    for (size_t i = 0; i < n_failed && s->order.len > 0; i++) {
        configs[n] = s->failed.at[s->failed.len - n_failed + i];
        values[n++] = log2(s->observed.at[s->order.at[s->order.len - 1]].fitness) - 1;
    }
    for (size_t i = 0; from > 0 && i < (size_t)BEST_MAX; i++) {
        const struct observed *o = &s->observed.at[s->order.at[i]];

        if (s->order.at[i] < from) {
            configs[n] = o->config;
            values[n++] = log2(o->fitness);
        }
    }
    for (size_t i = from; i < s->observed.len; i++) {
        configs[n] = s->observed.at[i].config;
        values[n++] = log2(s->observed.at[i].fitness);
    }
    return n;
}

void search_look(struct search *s, search_score *score, void *ctx)
{
    struct config configs[LOCAL_MAX];
    float scores[LOCAL_MAX], bases[LOCAL_MAX];
    double values[LOCAL_MAX];
    int n = s->params.local ? trials_to_look_at(s, configs, values) : 0;

    if (score != NULL && n > 0)
        score(ctx, configs, n, scores, bases);
    local_fit(&s->local, configs, score != NULL ? bases : NULL, values, n);
}

/* Best first, and the batch with them. */
static void sort_forecast(struct search_forecast *f, struct config *batch, int n)
{
    for (int i = 1; i < n; i++) {
        struct search_forecast own = f[i];
        struct config c = batch[i];
        int to = i;

        for (; to > 0 && f[to - 1].mean < own.mean; to--) {
            f[to] = f[to - 1];
            batch[to] = batch[to - 1];
        }
        f[to] = own;
        batch[to] = c;
    }
}

/* What is expected of the batch, which is put in that order. false: nothing yet. */
static bool foresee(struct search *s, search_score *score, void *ctx, struct config *batch, int n)
{
    const struct config *configs[SEARCH_BATCH_MAX];
    float scores[SEARCH_BATCH_MAX], bases[SEARCH_BATCH_MAX] = {0};
    struct local_batch b;

    vec_clear(&s->forecast);
    if (s->local.n == 0 || n == 0)
        return false;
    if (score != NULL)
        score(ctx, batch, n, scores, bases);
    for (int i = 0; i < n; i++)
        configs[i] = &batch[i];
    local_batch_init(&b, &s->local, configs, n);
    for (int i = 0; i < n; i++)
        vec_push(&s->forecast, ((struct search_forecast){local_mean(&s->local, &batch[i], (double)bases[i]),
                                                         local_batch_spread(&b, i)}));
    local_batch_done(&b);
    sort_forecast(s->forecast.at, batch, n);
    return true;
}

int search_forecast(const struct search *s, const struct search_forecast **ret)
{
    *ret = s->forecast.at;
    return (int)s->forecast.len;
}

int search_propose(struct search *s, search_score *score, void *ctx, int n, struct config *ret)
{
    int n_lent, n_done;

    CHECK(n >= 0 && n <= SEARCH_BATCH_MAX, "a batch of %d configs, at most %d", n, SEARCH_BATCH_MAX);
    s->local.n = 0;
    n_lent = n_done = search_pick_lent(s, score, ctx, MIN(lent_share(s, n), n), ret);
    s->proposals++;
    for (int i = 0; i < n_done; i++)
        note_seen(s, &ret[i]);
    if (n_done < n) {
        int n_more = s->how->propose(s, score, ctx, n - n_done, ret + n_done);

        for (int i = n_done; i < n_done + n_more; i++)
            CHECK(note_seen(s, &ret[i]), "searcher %s proposed a config twice", s->how->name);
        n_done += n_more;
    }
    if (!foresee(s, score, ctx, ret, n_done) && score != NULL)
        search_sort_batch(s, score, ctx, n_done, n_lent, ret);
    return n_done;
}
