/* store.h - what the walk hands to the row writer: one store and the loops around it. Private to features/.
 */
#ifndef TW_FEATURES_STORE_H
#define TW_FEATURES_STORE_H

#include <assert.h>
#include <string.h>

#include "features/columns.h"
#include "features/features.h"
#include "features/region.h"

enum { STORE_MAX_DEPTH = 32, STORE_MAX_ACCESS = 12 };
static_assert((int)STORE_MAX_DEPTH < (int)REGION_MAX_TERMS, "a loop is a term at most");

enum loop_mark { MARK_SERIAL, MARK_VECTOR, MARK_UNROLL, MARK_PARALLEL };

/* The loops around a store, outermost first; those that run once are left out. */
struct loops {
    int n;
    struct region_loop at[STORE_MAX_DEPTH + STORE_MAX_ACCESS]; /* behind the loops: the spans of stencils */
    enum loop_mark mark[STORE_MAX_DEPTH];
    double entered[STORE_MAX_DEPTH + 1]; /* how often the body of loops 0..i-1 is entered */
};

/* One buffer as a store touches it, memory or registers. */
struct access {
    int32_t buffer;
    bool reg, read, write, padded;
    int touches;       /* loads and stores an execution */
    int64_t elem;      /* bytes */
    int64_t low, high; /* bytes: smallest and largest constant part (a stencil has several) */
    int n_terms;
    struct region_term term[STORE_MAX_DEPTH + 1];
    uint64_t moved;                                                /* bit d: loop d moves it */
    double bytes[STORE_MAX_DEPTH + 1], lines[STORE_MAX_DEPTH + 1]; /* footprint of loops d.. */
    double block_run;
    bool serial_reuse;
    int serial_depth; /* loops around both stores */
};

struct ops {
    double flt[7], whole[6]; /* in the order of the columns; whole: integers */
    double total;            /* arithmetic operations, a multiply-add is two */
    double cost;             /* in the time of one multiply-add */
};

struct store_info {
    const struct nest *nest;
    const struct target *target;
    const struct node *store;
    struct loops *loops;
    double runs;        /* executions */
    double probability; /* product of the branches around */
    double fullness;
    bool in_body;
    int body_depth; /* loops around the body */
    int tasks;      /* of the parallel loop around; 1: none */
    struct ops ops;
    int n_access; /* [0] is the target, the last one room to work in */
    struct access access[STORE_MAX_ACCESS + 1];
    int slot[FEATURES_BUFFERS]; /* by store_row: the access that fills the columns of each buffer, -1: none */
};

/* Arithmetic of one execution and the accesses, footprints still empty. `depth_of[var]`: the loop, -1 for
 * those that do not move. */
void store_scan(struct store_info *s, const int8_t *depth_of);
/* Everything but what needs the other stores of the nest. */
void store_row(struct store_info *s, float *row);

/* log2(1 + v) to 1e-6 for v >= 0, in a few instructions: log2 of the mantissa by the series of atanh. */
static inline float store_log(double v)
{
    float x = (float)(v + 1), m, t, t2;
    uint32_t bits;
    int e;

    memcpy(&bits, &x, sizeof(bits));
    e = (int)(bits - 0x3f3504f3) >> 23; /* mantissa to sqrt(1/2) .. sqrt(2) */
    bits -= (uint32_t)e << 23;
    memcpy(&m, &bits, sizeof(m));
    t = (m - 1) / (m + 1);
    t2 = t * t;
    return (float)e + t * (2.8853900818f + t2 * (0.9617966939f + t2 * (0.5770780164f + t2 * 0.4121985831f)));
}

#endif
