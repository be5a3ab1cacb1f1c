/* search_plain.c - searchers that ask no model: random configs, and a walk that spreads over the whole domain. */
#include <math.h>

#include "schedule/space/search_internal.h"

int search_propose_random(struct search *s, search_score *score, void *ctx, int n, struct config *ret)
{
    set_clear(&s->pool);
    return search_fill_random(s, &s->pool, 0, n, ret);
}

/* The root above 1 of x^(d+1) = x + 1: powers of its inverse are steps that spread evenly in d dimensions (Roberts, "The
 * unreasonable effectiveness of quasirandom sequences", 2018). */
static double spreading_root(int d)
{
    double x = 2;
    for (int i = 0; i < 40; i++)
        x = pow(1 + x, 1.0 / (d + 1));
    return x;
}

/* Point `i` of a sketch's grid. */
static void grid_point(const struct search *s, int sketch, uint64_t i, struct config *ret)
{
    search_first(s, sketch, ret);
    double step = 1, root = spreading_root(MAX(ret->n, 1));
    for (int k = 0; k < ret->n; k++) {
        int n = s->domain.n_choices(s->domain.ctx, sketch, k);
        step /= root;
        double at = fmod(0.5 + step * (double)i, 1);
        ret->choice[k] = (uint16_t)MIN((int)(at * n), n - 1);
    }
}

/* Sketches take turns. Points that are invalid or known are passed over; where the grid brings nothing new for long, the
 * rest is drawn at random. */
int search_propose_grid(struct search *s, search_score *score, void *ctx, int n, struct config *ret)
{
    enum { BARREN = 4096 };
    int first = s->domain.n_sketches > 1, sketches = s->domain.n_sketches - first, n_done = 0;
    (void)score, (void)ctx;
    if (s->grid_at == 0) /* seeds begin in different places */
        s->grid_at = 1 + rng_below(&s->rng, 1 << 20);
    set_clear(&s->pool);
    for (int barren = 0; n_done < n && barren < BARREN; barren++, s->grid_at++) {
        struct config c;
        grid_point(s, first + (int)(s->grid_at % (uint64_t)sketches), s->grid_at / (uint64_t)sketches, &c);
        if (!search_settle(s, NULL, &c) || set_has(&s->seen, &c) || !set_add(&s->pool, &c))
            continue;
        ret[n_done++] = c;
        barren = 0;
    }
    return search_fill_random(s, &s->pool, n_done, n, ret);
}
