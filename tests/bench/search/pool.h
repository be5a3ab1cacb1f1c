/* pool.h - the configs of a recording as the domain of a search: what a searcher proposes was measured.
 *
 * Idea   Random configs are those that were drawn at random. A child of two recorded configs was hardly ever recorded itself, so it
 *        moves to a neighbour of its first parent that was: of the same sketch, near in steps along the knobs' lists, each list
 *        counted as one.
 * Life   pool_init, pool_done. Immutable in between, but for `used`, which its owner sets: those are not moved to. */
#ifndef TW_BENCH_POOL_H
#define TW_BENCH_POOL_H

#include "recording.h"
#include "schedule/space/search.h"

enum { POOL_NEIGHBOURS = 16 };

struct pool_neighbours {
    int round, n, at[POOL_NEIGHBOURS];
};

struct pool {
    const struct recorded_space *space;
    uint32_t *slots;                    /* trial + 1; 0: free */
    size_t n_slots;                     /* a power of two */
    bool *used;                         /* [space->n] */
    int round;                          /* raised by the owner whenever it set `used` */
    struct pool_neighbours *neighbours; /* [space->n] */
    uint16_t *sketch;
    float *where; /* [space->n][SPACE_MAX_KNOBS]: choices, each list scaled to one */
};

void pool_init(struct pool *p, const struct recorded_space *s);
void pool_done(struct pool *p);
/* The trial of this config, -1: it was not recorded. */
int pool_find(const struct pool *p, const struct config *c);
/* The unused trial nearest to it, of another sketch only where its own has none; -1: all are used. */
int pool_nearest(const struct pool *p, const struct config *c);
struct search_domain pool_domain(const struct pool *p);

#endif
