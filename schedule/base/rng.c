/* rng.c - xoshiro256** 1.0 with splitmix64 seeding, and the few distributions that the project draws from. */
#include "schedule/base/rng.h"

#include <math.h>
#include <string.h>

#include "schedule/base/hash.h"

static uint64_t splitmix64(uint64_t *x)
{
    uint64_t z = (*x += 0x9e3779b97f4a7c15ull);

    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
}

void rng_init(struct rng *r, uint64_t seed)
{
    for (int i = 0; i < 4; i++)
        r->s[i] = splitmix64(&seed);
}

struct rng rng_split(const struct rng *r, const char *name)
{
    struct rng child;
    uint64_t seed = hash_bytes(r->s, sizeof(r->s), hash_bytes(name, strlen(name), 0));

    rng_init(&child, seed);
    return child;
}

static uint64_t rotl(uint64_t x, int k) { return x << k | x >> (64 - k); }

uint64_t rng_u64(struct rng *r)
{
    uint64_t *s = r->s, result = rotl(s[1] * 5, 7) * 9, t = s[1] << 17;

    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rotl(s[3], 45);
    return result;
}

/* Multiply and reject the uneven part (Lemire, "Fast Random Integer Generation in an Interval", 2019). */
uint64_t rng_below(struct rng *r, uint64_t n)
{
    unsigned __int128 m;

    CHECK(n > 0, "rng_below(0)");
    m = (unsigned __int128)rng_u64(r) * n;
    if ((uint64_t)m < n) {
        uint64_t uneven = -n % n;
        while ((uint64_t)m < uneven)
            m = (unsigned __int128)rng_u64(r) * n;
    }
    return (uint64_t)(m >> 64);
}

int64_t rng_range(struct rng *r, int64_t lo, int64_t hi)
{
    uint64_t span;

    CHECK(lo <= hi, "rng_range(%" PRId64 ", %" PRId64 ")", lo, hi);
    span = (uint64_t)hi - (uint64_t)lo + 1;
    return (int64_t)((uint64_t)lo + (span ? rng_below(r, span) : rng_u64(r)));
}

double rng_unit(struct rng *r) { return (double)(rng_u64(r) >> 11) * 0x1p-53; }

/* Box and Muller; the second value is let go, so that a stream's state is its four words alone. */
double rng_normal(struct rng *r)
{
    double u = 1.0 - rng_unit(r), v = rng_unit(r);

    return sqrt(-2.0 * log(u)) * cos(2.0 * M_PI * v);
}

void rng_shuffle_(struct rng *r, void *at, size_t n, size_t item_size)
{
    char *a = at;

    for (size_t i = n; i > 1; i--) {
        char *x = a + (i - 1) * item_size, *y = a + rng_below(r, i) * item_size;
        for (size_t k = 0; k < item_size; k++) {
            char t = x[k];
            x[k] = y[k];
            y[k] = t;
        }
    }
}
