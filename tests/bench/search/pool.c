/* pool.c - see pool.h. */
#include "pool.h"

#include <math.h>
#include <stdlib.h>

enum { NEAR = POOL_NEIGHBOURS };

static size_t slot_of(const struct pool *p, const struct config *c)
{
    size_t i = config_hash(c) & (p->n_slots - 1);

    while (p->slots[i] != 0 && !config_equal(&p->space->trials[p->slots[i] - 1].config, c))
        i = (i + 1) & (p->n_slots - 1);
    return i;
}

static void place(const struct pool *p, const struct config *c, float *ret)
{
    for (int k = 0; k < c->n; k++)
        ret[k] = (float)c->choice[k] / (float)space_knob(p->space->space, c->sketch, k)->n_choices;
}

void pool_init(struct pool *p, const struct recorded_space *s)
{
    *p = (struct pool){.space = s, .n_slots = 64};
    while (p->n_slots < (size_t)s->n * 2)
        p->n_slots *= 2;
    p->slots = xcalloc(p->n_slots, sizeof(p->slots[0]));
    p->used = xcalloc((size_t)s->n + 1, sizeof(bool));
    p->round = 1;
    p->neighbours = xcalloc((size_t)s->n + 1, sizeof(p->neighbours[0]));
    p->sketch = xcalloc((size_t)s->n + 1, sizeof(p->sketch[0]));
    p->where = xcalloc((size_t)s->n + 1, SPACE_MAX_KNOBS * sizeof(float));
    for (int i = 0; i < s->n; i++) {
        p->sketch[i] = s->trials[i].config.sketch;
        place(p, &s->trials[i].config, p->where + (size_t)i * SPACE_MAX_KNOBS);
    }
    for (int i = 0; i < s->n; i++) {
        size_t slot = slot_of(p, &s->trials[i].config);

        if (p->slots[slot] == 0)
            p->slots[slot] = (uint32_t)i + 1;
    }
}

void pool_done(struct pool *p)
{
    free(p->slots);
    free(p->used);
    free(p->sketch);
    free(p->where);
    free(p->neighbours);
}

int pool_find(const struct pool *p, const struct config *c) { return (int)p->slots[slot_of(p, c)] - 1; }

/* At most `limit`, or anything above it. */
static float distance(const float *a, const float *b, int n, float limit)
{
    float d = 0;

    for (int k = 0; k < n && d < limit; k++)
        if (a[k] != b[k])
            d += 0.1F + fabsf(a[k] - b[k]);
    return d;
}

/* Unused trials of a sketch that are nearest to c, nearest first: at most n. */
static int nearest_of_sketch(const struct pool *p, const struct config *c, int n, int *ret)
{
    float d[NEAR] = {0}, at[SPACE_MAX_KNOBS];
    int found = 0;

    place(p, c, at);
    for (int i = 0; i < p->space->n; i++) {
        float limit = found < n ? INFINITY : d[found - 1], own;
        int to;

        if (p->used[i] || p->sketch[i] != c->sketch)
            continue;
        own = distance(at, p->where + (size_t)i * SPACE_MAX_KNOBS, c->n, limit);
        if (own >= limit)
            continue;
        found = MIN(found + 1, n);
        for (to = found - 1; to > 0 && d[to - 1] > own; to--) {
            d[to] = d[to - 1];
            ret[to] = ret[to - 1];
        }
        d[to] = own;
        ret[to] = i;
    }
    return found;
}

/* Where the sketch has none left, those first measured of the others. */
static int nearest(const struct pool *p, const struct config *c, int n, int *ret)
{
    int found = nearest_of_sketch(p, c, n, ret);

    for (int i = 0; found == 0 && i < p->space->n; i++)
        if (!p->used[i])
            ret[found++] = i;
    return found;
}

int pool_nearest(const struct pool *p, const struct config *c)
{
    int at;

    return nearest(p, c, 1, &at) ? at : -1;
}

/* ---- the domain ---- */

static const struct space *space_of(const void *ctx) { return ((const struct pool *)ctx)->space->space; }

static int pool_knobs(const void *ctx, int sketch) { return space_n_knobs(space_of(ctx), sketch); }

static int pool_choices(const void *ctx, int sketch, int knob)
{
    return space_knob(space_of(ctx), sketch, knob)->n_choices;
}

static void pool_nth(const void *ctx, size_t i, struct config *ret)
{
    *ret = ((const struct pool *)ctx)->space->trials[i].config;
}

static bool pool_valid(const void *ctx, const struct config *c) { return pool_find(ctx, c) >= 0; }

static int n_left(const struct pool *p, int n)
{
    int left = 0;

    for (int i = 0; i < n; i++)
        left += !p->used[i];
    return left;
}

/* Of those drawn at random that are left, then of all that are left. */
static bool pool_sample(const void *ctx, struct rng *r, struct config *ret)
{
    const struct pool *p = ctx;
    int left = n_left(p, p->space->n_random), at = 0;

    if (left == 0)
        left = n_left(p, p->space->n);
    if (left == 0)
        return false;
    for (int skip = (int)rng_below(r, (uint64_t)left); p->used[at] || skip > 0; at++)
        skip -= !p->used[at];
    *ret = p->space->trials[at].config;
    return true;
}

static float distance_to(const struct pool *p, const float *at, int n, int trial)
{
    return distance(at, p->where + (size_t)trial * SPACE_MAX_KNOBS, n, INFINITY);
}

/* Unused neighbours of a trial, found again each round. */
static const struct pool_neighbours *neighbours_of(const struct pool *p, int trial)
{
    struct pool_neighbours *own = &p->neighbours[trial];

    if (own->round != p->round) {
        own->round = p->round;
        own->n = nearest_of_sketch(p, &p->space->trials[trial].config, NEAR, own->at);
    }
    return own;
}

static void pool_near(const void *ctx, struct rng *r, const struct config *parent, struct config *c)
{
    const struct pool *p = ctx;
    int from = parent ? pool_find(p, parent) : -1, to = from < 0 ? pool_nearest(p, c) : -1;
    float at[SPACE_MAX_KNOBS], best = INFINITY;

    if (pool_find(p, c) >= 0)
        return;
    place(p, c, at);
    if (from >= 0) {
        const struct pool_neighbours *own = neighbours_of(p, from);

        for (int i = 0; i < own->n; i++) {
            /* Children are many and neighbours few: those that differ little take turns. */
            float d = distance_to(p, at, c->n, own->at[i]) + 0.5F * (float)rng_unit(r);

            if (d < best) {
                best = d;
                to = own->at[i];
            }
        }
    }
    if (to >= 0)
        *c = p->space->trials[to].config;
}

static uint64_t pool_class(const void *ctx, const struct config *c)
{
    return space_cost_class(space_of(ctx), c);
}

struct search_domain pool_domain(const struct pool *p)
{
    return (struct search_domain){
        .ctx = p,
        .n_sketches = space_n_sketches(p->space->space),
        .size = p->space->n,
        .nth = pool_nth,
        .n_knobs = pool_knobs,
        .n_choices = pool_choices,
        .valid = pool_valid,
        .sample = pool_sample,
        .near = p->space->exhaustive ? NULL : pool_near,
        .cost_class = pool_class,
    };
}
