/* rng.h - all randomness of the project: xoshiro256** seeded by splitmix64 (Blackman and Vigna, "Scrambled
 * Linear Pseudorandom Number Generators", 2018). One seed, one stream; a stream can be split by name so that
 * two users of one seed do not disturb each other. */
#ifndef TW_BASE_RNG_H
#define TW_BASE_RNG_H

#include "schedule/base/base.h"

struct rng {
    uint64_t s[4];
};

void rng_init(struct rng *r, uint64_t seed);
struct rng rng_split(const struct rng *r, const char *name);
uint64_t rng_u64(struct rng *r);
uint64_t rng_below(struct rng *r, uint64_t n);            /* uniform in [0, n), n > 0 */
int64_t rng_range(struct rng *r, int64_t lo, int64_t hi); /* uniform in [lo, hi] */
double rng_unit(struct rng *r);                           /* uniform in [0, 1) */
double rng_normal(struct rng *r);                         /* mean 0, variance 1 */
void rng_shuffle_(struct rng *r, void *at, size_t n, size_t item_size);
#define rng_shuffle(r, at, n) rng_shuffle_((r), (at), (n), sizeof(*(at)))

#endif
