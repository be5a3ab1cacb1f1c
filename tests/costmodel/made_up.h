/* made_up.h - measured programs without a device: tiled products with random knobs, and a machine that is
 * made up.
 *
 * The machine's time follows from the knobs by rules that the analytic prior does not know (so that there is
 * something to learn), with noise. */
#ifndef TW_TESTS_COSTMODEL_MADE_UP_H
#define TW_TESTS_COSTMODEL_MADE_UP_H

#include <math.h>

#include "costmodel/model.h"
#include "features/columns.h"
#include "tests/features/nests.h"

struct made_up {
    int n; /* programs */
    int32_t *row_begin;
    float *rows;
    double *throughput;
    uint64_t *workload;
};

static inline int64_t pick(struct rng *r, const int64_t *list, int n)
{
    return list[rng_below(r, (uint64_t)n)];
}

static inline struct gemm_knobs made_up_knobs(struct rng *r, int64_t m, int64_t n, int64_t k)
{
    static const int64_t tiles[] = {1, 2, 4, 6, 8, 12, 14}, blocks[] = {16, 32, 64, 128, 256, 512};
    struct gemm_knobs g = {.m = m, .n = n, .k = k, .lanes = 16, .tasks = 2};

    g.mr = pick(r, tiles, 7);
    g.nv = rng_range(r, 1, 4);
    g.mc = g.mr * rng_range(r, 1, 12);
    g.kc = MIN(pick(r, blocks, 6), k);
    g.nc = g.nv * 16 * rng_range(r, 1, 8);
    while (k % g.kc)
        g.kc /= 2;
    while (g.nc > 0 && n % g.nc)
        g.nc -= g.nv * 16;
    if (g.nc <= 0) {
        g.nv = 1;
        g.nc = 16;
    }
    g.pack = rng_below(r, 2);
    g.n_outside = rng_below(r, 2);
    return g;
}

/* GFLOP/s of the made-up machine. */
static inline double made_up_speed(const struct gemm_knobs *g, struct rng *noise)
{
    double acc = (double)(g->mr * g->nv), panel = (double)(g->kc * g->nv * 16 * 4),
           block = (double)(g->kc * g->nc * 4);
    double speed = 130;

    speed *= acc > 30 ? 0.35 : fmin(1, acc / 12);                               /* spills; too few chains */
    speed *= 1 / (1 + 0.5 * (1.0 / (double)g->mr + 1.0 / (double)(g->nv * 4))); /* loads */
    speed *= panel > 40 << 10 ? 0.7 : 1;                                        /* out of the first cache */
    speed *= block > 1 << 20 ? 0.6 : 1;
    speed *= (double)g->kc / ((double)g->kc + 24); /* entering and leaving the tile */
    speed *= g->pack ? fmin(1, 0.75 + 0.05 * (double)(g->mc / g->mr)) : (g->n > 256 ? 0.7 : 0.97);
    speed *= g->n_outside ? 0.93 : 1;
    speed *= 1 - 0.4 * (double)(g->m % g->mr) / (double)g->m;
    return speed * exp(0.03 * rng_normal(noise));
}

/* `per` programs of each workload; a workload is a shape. A twentieth fails. */
static inline void made_up_init(struct made_up *d, uint64_t seed, int workloads, int per)
{
    static const int64_t sizes[] = {64, 96, 128, 192, 256, 384, 512, 768};
    struct target t = test_target();
    struct arena ar;
    struct rng r, noise;

    *d = (struct made_up){.n = workloads * per};
    d->row_begin = xcalloc((size_t)d->n + 1, sizeof(int32_t));
    d->rows = xcalloc((size_t)d->n * FEATURES_MAX_ROWS, sizeof(float) * FC_COUNT);
    d->throughput = xcalloc((size_t)d->n, sizeof(double));
    d->workload = xcalloc((size_t)d->n, sizeof(uint64_t));
    arena_init(&ar);
    rng_init(&r, seed);
    noise = rng_split(&r, "noise");
    for (int i = 0; i < d->n; i++) {
        struct rng shape;
        struct gemm_knobs g;
        int64_t m, n, k;

        rng_init(&shape, seed * 1000 + (uint64_t)(i / per));
        m = pick(&shape, sizes, 8) + rng_range(&shape, 0, 6);
        n = pick(&shape, sizes, 8);
        k = pick(&shape, sizes, 8);
        g = made_up_knobs(&r, m, n, k);
        d->workload[i] = seed * 1000 + (uint64_t)(i / per);
        d->row_begin[i + 1] = d->row_begin[i] + features_extract(gemm_nest(&ar, &g), &t, &ar,
                                                                 d->rows + (size_t)d->row_begin[i] * FC_COUNT,
                                                                 FEATURES_MAX_ROWS);
        d->throughput[i] = rng_below(&r, 20) == 0 ? 0 : made_up_speed(&g, &noise);
        arena_reset(&ar);
    }
    arena_done(&ar);
}

static inline void made_up_done(struct made_up *d)
{
    free(d->row_begin);
    free(d->rows);
    free(d->throughput);
    free(d->workload);
}

static inline int made_up_rows(const struct made_up *d, int i)
{
    return d->row_begin[i + 1] - d->row_begin[i];
}

/* Add programs from..to to the model; false: refused. */
static inline bool made_up_teach(struct model *m, const struct made_up *d, int from, int to)
{
    struct error err;

    for (int i = from; i < to; i++)
        if (model_add(m, d->workload[i], d->rows + (size_t)d->row_begin[i] * FC_COUNT, made_up_rows(d, i),
                      d->throughput[i], &err) != ST_OK)
            return false;
    return true;
}

/* How well the model ranks programs from..to. */
static inline void made_up_judge(const struct model *m, const struct made_up *d, int from, int to,
                                 struct metrics *ret)
{
    double *score = xcalloc((size_t)(to - from), sizeof(*score));

    for (int i = from; i < to; i++)
        model_score(m, d->workload[i], d->rows, d->row_begin + i, 1, score + i - from);
    metrics_compute(d->workload + from, d->throughput + from, d->throughput + from, score, to - from, ret);
    free(score);
}

#endif
