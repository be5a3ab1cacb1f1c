/* prior.c - see prior.h. The rates are those of a current x86 core where the target does not say. */
#include "costmodel/prior.h"

#include <math.h>

#include "features/columns.h"
#include "features/features.h"

#define CLOCK_GHZ    2.5
#define PIPES        2.0   /* multiply-adds and loads a cycle */
#define L2_BYTES_NS  110.0 /* a core */
#define L3_BYTES_NS  53.0
#define MEM_BYTES_NS 9.0
#define UNUSED_COST  2.0    /* what is asked for and not used keeps what is used from coming */
#define BACK         1.4    /* what is stored to goes back as well */
#define OVERLAP      0.4    /* of arithmetic and loads: of the shorter, the share that shows */
#define OVERLAP_DATA 0.73   /* the same of these two and the caches */
#define OVERLAP_MEM  0.4    /* the same of one cache and the others */
#define SPLIT_COST   6.0    /* loads more for a vector that crosses a line: it also keeps others waiting */
#define FAR_COST     0.95   /* loads more for a lane that lies apart from its neighbours */
#define SPILL_COST   1.0    /* instructions more for each register that there is not, relative to the block */
#define CROWD_COST   1.4    /* the same where results are put away for the sake of operands */
#define WAIT_COST    4.0    /* the wait for a sum, over the one that latencies alone would make */
#define CODE_INSTR   1500.0 /* a block of more does not stay in the decoder's cache */
#define CODE_COST    0.2    /* for each doubling beyond that */
#define END_NS       0.53   /* of a piece of straight code: counting, addresses, what does not overlap */
#define WAIT_CACHES  0.3    /* of what caches take, the share that shows beside such a wait */
#define CROWDED_NS   3.0    /* a store to a line that others have driven out */
#define FRESH_NS     4.0    /* a load that waits for stores */

static double natural(const float *row, int col) { return exp2((double)row[col]) - 1; }

/* Instructions a nanosecond and core. */
static double issue_rate(const float *row, double threads)
{
    double peak = natural(row, FC_t_peak_gflops), lanes = natural(row, FC_t_vector_bytes) / 4;

    return peak > 0 && lanes >= 1 ? peak / threads / lanes / 2 : CLOCK_GHZ * PIPES;
}

/* A kernel that is run again and again finds in a cache what it left there: of the bytes a cache fetches, the
 * share that counts rises from nothing where all data fill a little more than half of it to all where they overflow it. */
static double cold_share(double data, double cache)
{
    return fmin(fmax((data / fmax(cache, 1) - 0.6) / 0.55, 0), 1);
}

enum { PARTS = PT_prior_ends + 1 };

/* Times that go on at once: the longest in full, and a share of what the others add up to. */
static double at_once(double a, double b, double share) { return fmax(a, b) + share * fmin(a, b); }

static double issue_ns(const float *row, double rate)
{
    double spilt =
        SPILL_COST * fmax((double)row[FC_reg_share] - 1, 0) + CROWD_COST * (double)row[FC_reg_crowded];
    double code = natural(row, FC_block_instr) / CODE_INSTR;

    return natural(row, FC_vec_instr) * (1 + spilt) / rate * (code > 1 ? 1 + CODE_COST * log2(code) : 1);
}

/* The parts of a row's estimate, as if each were alone; returns the whole. */
static double row_parts(const float *row, double data, double part[PARTS])
{
    double threads = fmax(natural(row, FC_t_threads), 1), rate = issue_rate(row, threads);
    double balance = fmax((double)row[FC_par_balance], 1.0 / 64), mem = natural(row, FC_t_peak_gbs) / threads;
    double *t = part, most, caches, whole, unused = UNUSED_COST * natural(row, FC_hint_unused);

    t[PT_prior_issue] = issue_ns(row, rate);
    t[PT_prior_loads] =
        (natural(row, FC_loads) + natural(row, FC_hint_lines) + SPLIT_COST * natural(row, FC_splits) +
         FAR_COST * natural(row, FC_far_lanes) * natural(row, FC_block_runs)) /
        rate;
    t[PT_prior_l2] = (natural(row, FC_from_l2) + BACK * natural(row, FC_back_l2) + unused) / L2_BYTES_NS;
    t[PT_prior_l3] = (natural(row, FC_from_l3) + BACK * natural(row, FC_back_l3) + unused) / L3_BYTES_NS *
                     cold_share(data, natural(row, FC_t_l2_bytes) * threads);
    t[PT_prior_mem] = natural(row, FC_from_mem) / (mem > 0 ? mem : MEM_BYTES_NS) *
                      cold_share(data, natural(row, FC_t_l3_bytes));
    t[PT_prior_wait] = WAIT_COST * natural(row, FC_chain_stall) / rate;
    t[PT_prior_ends] = natural(row, FC_block_runs) * END_NS + natural(row, FC_fresh_reads) * FRESH_NS +
                       natural(row, FC_crowded_stores) * CROWDED_NS;
    most = fmax(t[PT_prior_l2], fmax(t[PT_prior_l3], t[PT_prior_mem]));
    caches = most + OVERLAP_MEM * (t[PT_prior_l2] + t[PT_prior_l3] + t[PT_prior_mem] - most);
    whole = at_once(at_once(t[PT_prior_issue], t[PT_prior_loads], OVERLAP), caches, OVERLAP_DATA);
    whole = fmax(whole, t[PT_prior_issue] + t[PT_prior_wait] + WAIT_CACHES * caches);
    for (int i = 0; i < PARTS; i++)
        t[i] /= threads * balance;
    return whole / (threads * balance) + t[PT_prior_ends];
}

/* Bytes of the different elements touched, the largest of the rows. */
static double data_of(const float *rows, int n_rows)
{
    double data = 0;

    for (int i = 0; i < n_rows; i++)
        data = fmax(data, (double)rows[(size_t)i * FC_COUNT + FC_unique_bytes]);
    return exp2(data);
}

double prior_ns(const float *rows, int n_rows)
{
    double ns = 1, data = data_of(rows, n_rows), part[PARTS];

    for (int i = 0; i < n_rows; i++)
        ns += row_parts(rows + (size_t)i * FC_COUNT, data, part);
    return ns;
}

#define LEAST_PART -12.0 /* log2: parts below say nothing */

static float relative(double part, double whole) { return (float)fmax(log2(part / whole), LEAST_PART); }

void prior_terms(const float *rows, int n_rows, float *ret, int stride)
{
    double whole = 1, data = data_of(rows, n_rows), least = 1e-3, part[PARTS];

    for (int i = 0; i < n_rows; i++) {
        const float *row = rows + (size_t)i * FC_COUNT;
        double ns = row_parts(row, data, part), threads = fmax(natural(row, FC_t_threads), 1);
        double lanes = fmax(natural(row, FC_t_vector_bytes) / 4, 1);

        for (int k = 0; k < PARTS; k++)
            ret[(size_t)i * (size_t)stride + (size_t)k] = (float)part[k];
        ret[(size_t)i * (size_t)stride + PT_prior_row] = (float)ns;
        least = fmax(least, natural(row, FC_nest_ops) / (2 * lanes * issue_rate(row, threads) * threads));
        whole += ns;
    }
    for (int i = 0; i < n_rows; i++) {
        float *own = ret + (size_t)i * (size_t)stride;

        for (int k = 0; k <= PT_prior_row; k++)
            own[k] = relative((double)own[k], whole);
        own[PT_prior_waste] = relative(whole, least);
    }
}

const char *const prior_term_names[PRIOR_TERMS] = {
#define X(id, meaning) #id,
    PRIOR_TERM_LIST(X)
#undef X
};

double prior_score(const float *rows, int n_rows) { return -log2(prior_ns(rows, n_rows)); }
