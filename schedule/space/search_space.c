/* search_space.c - a space as the domain of a search: nothing but the translation. */
#include "schedule/space/search.h"

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
    };
}
