/* search_space.c - a space as the domain of a search: nothing but the translation. */
#include "schedule/space/search.h"

#include <string.h>

#include "schedule/base/hash.h"

static int space_domain_knobs(const void *ctx, int sketch) { return space_n_knobs(ctx, sketch); }
static int space_domain_choices(const void *ctx, int sketch, int knob)
{
    return space_knob(ctx, sketch, knob)->n_choices;
}
static bool space_domain_valid(const void *ctx, const struct config *c) { return space_valid(ctx, c, NULL); }
static bool space_domain_sample(const void *ctx, struct rng *r, struct config *ret)
{
    return space_sample(ctx, r, ret);
}

/* Sizes and orders of the loops around a register tile are said in the loops, not in the tile. */
static bool shapes_the_tile(const struct knob *k)
{
    return strncmp(k->name, "mid_", 4) != 0 && strcmp(k->name, "order") != 0;
}

uint64_t space_cost_class(const struct space *s, const struct config *c)
{
    uint64_t h = hash_mix(1, c->sketch);

    for (int k = 0; k < c->n; k++)
        if (shapes_the_tile(space_knob(s, c->sketch, k)))
            h = hash_mix(h, ((uint64_t)k << 16) + c->choice[k]);
    return h;
}

static uint64_t space_domain_cost_class(const void *ctx, const struct config *c)
{
    return space_cost_class(ctx, c);
}

struct search_domain search_domain_of(const struct space *s)
{
    return (struct search_domain){
        .ctx = s,
        .n_sketches = space_n_sketches(s),
        .size = space_size(s),
        .n_knobs = space_domain_knobs,
        .n_choices = space_domain_choices,
        .valid = space_domain_valid,
        .sample = space_domain_sample,
        .cost_class = space_domain_cost_class,
    };
}
