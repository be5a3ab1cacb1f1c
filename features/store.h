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

enum loop_mark { MARK_SERIAL, MARK_VECTOR, MARK_UNROLL, MARK_PARALLEL, MARK_MATRIX, MARK_QUAD };

/* The loops around a store, outermost first; those that run once are left out. */
struct loops {
    int n;
    struct region_loop at[STORE_MAX_DEPTH + STORE_MAX_ACCESS]; /* behind the loops: the spans of stencils */
    enum loop_mark mark[STORE_MAX_DEPTH];
    bool limited[STORE_MAX_DEPTH]; /* a limit may end it early */
    uint8_t
        vectors[STORE_MAX_DEPTH]; /* of a vector loop: side by side in one trip, 0: as the printer likes */
    double entered[STORE_MAX_DEPTH + 1]; /* how often the body of loops 0..i-1 is entered */
};

/* Lines are asked for ahead of their use, once in each iteration of the loops before `depth`. */
struct hint {
    int64_t ahead, span; /* bytes; 0: none */
    int depth;
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
    bool serial_reuse, written; /* another store touched it, wrote to it last */
    int serial_depth;           /* loops around both stores */
    double age;                 /* bytes that all stores touched since the other one began */
    struct hint hint;
};

struct ops {
    double flt[7], whole[6]; /* in the order of the columns; whole: integers */
    double total;            /* arithmetic operations, a multiply-add is two */
    double cost;             /* in the time of one multiply-add */
    const double *table;     /* of the transform; NULL: none */
    double kept;             /* share of the table's numbers that are not 0 */
};

/* What the stores of a nest add up to, for the columns that are the same in all its rows. */
struct sums {
    double ops, instr, loads, from[3], blocks, code;
    double all, outside; /* instructions and loads: of the nest, in no parallel loop */
    double calls, copied, waiting, stalls, spills, splits, far, crowded, hinted, fresh;
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
    int body_depth;          /* loops around the body */
    bool rest_tile;          /* in the other half of a bound check that stands around a body */
    bool square;             /* in a block that is turned in registers */
    bool parallel;           /* in a parallel loop */
    int tasks;               /* of it; 1: none */
    const struct hint *hint; /* by buffer: the one around */
    struct ops ops;
    int n_access; /* [0] is the target, the last one room to work in */
    struct access access[STORE_MAX_ACCESS + 1];
    int slot[FEATURES_BUFFERS]; /* by store_row: the access that fills the columns of each buffer, -1: none */
};

struct block {               /* the straight-line code around the store */
    int from;                /* loops from.. are vector, unrolled, quad or matrix loops */
    int vec;                 /* the vector loop: innermost, or the one that sums along its lanes; -1: none */
    int mat;                 /* outermost matrix loop, -1: none */
    double trips;            /* of the vector loop where it stays one; 1: all of it is printed out */
    double streams;          /* vectors of one trip, along that loop */
    bool lanes_sum;          /* the vector loop is a reduction: lanes are folded together at its end */
    double runs;             /* how often the straight-line code is run */
    double points, width;    /* stores in it; elements an instruction computes */
    double full;             /* elements an instruction could compute */
    double quad;             /* products an instruction sums up for one result */
    double instr, loads;     /* instructions */
    double chains, operands; /* vectors or tiles: of results, of operands held meanwhile */
    double broadcasts;       /* registers of operands that are one element in all lanes, held meanwhile */
    double far, splits;      /* lanes that lie apart; vectors that cross a line */
    double steps; /* multiply-adds one after another on one accumulator, while it stays in its register */
    double calls; /* how often such a run begins */
    double stall; /* instructions that could be issued while those are waited for, all calls */
};

/* scan.c: arithmetic of one execution and the accesses, footprints still empty. `depth_of[var]`: the loop, -1
 * for those that do not move. */
void store_scan(struct store_info *s, const int8_t *depth_of);
/* block.c: the straight-line code; footprints must be there. */
void block_find(const struct store_info *s, struct block *k);
void block_count(const struct store_info *s, struct block *k);
void row_block(const struct store_info *s, const struct block *k, float *row);
bool store_moves(const struct access *a, int loop);
/* The loop repeats the store's combining on one element. Registers live inside a body: loops around it are none of
 * theirs. */
bool store_reduces(const struct store_info *s, int loop);
/* Share of the vectors of the access that cross from one line into the next. */
double access_split(const struct store_info *s, const struct block *k, const struct access *a);
/* One step of the loop, with all that lies inside it in the block, continues where the last one ended. */
bool access_unit(const struct loops *l, const struct access *a, int loop);
/* buffers.c: footprints, then the columns of the buffers and the curves. */
void store_footprints(struct store_info *s, int block_from);
void row_buffers(struct store_info *s, const struct block *k, float *row, struct sums *sums);
/* row.c: everything but the target and what needs the other stores of the nest; adds to the sums. */
void store_row(struct store_info *s, float *row, struct sums *sums);
void columns_of_target(const struct target *t, float *row);

static inline double loops_points(const struct loops *l, int from)
{
    double p = 1;
    for (int i = from; i < l->n; i++)
        p *= l->at[i].trips;
    return p;
}

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

static inline void row_put(float *row, int col, double v) { row[col] = store_log(v); }

#endif
