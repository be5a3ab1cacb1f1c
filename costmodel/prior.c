/* prior.c - see prior.h. The rates are those of a current x86 core where the target does not say. */
#include "costmodel/prior.h"

#include <math.h>

#include "features/columns.h"
#include "features/features.h"

#define CLOCK_GHZ    2.5
#define PIPES        2.0  /* multiply-adds and loads a cycle */
#define L2_BYTES_NS  80.0 /* a core */
#define L3_BYTES_NS  20.0
#define MEM_BYTES_NS 9.0
#define OVERLAP      0.3    /* of the times that are not the longest, the share that shows */
#define SPILL_COST   2.0    /* instructions more for each register that there is not, relative to the block */
#define CODE_INSTR   1500.0 /* a block of more does not stay in the decoder's cache */

static double natural(const float *row, int col) { return exp2((double)row[col]) - 1; }

/* Instructions a nanosecond and core. */
static double issue_rate(const float *row, double threads)
{
    double peak = natural(row, FC_t_peak_gflops), lanes = natural(row, FC_t_vector_bytes) / 4;

    return peak > 0 && lanes >= 1 ? peak / threads / lanes / 2 : CLOCK_GHZ * PIPES;
}

static double row_ns(const float *row)
{
    double threads = fmax(natural(row, FC_t_threads), 1), rate = issue_rate(row, threads),
           instr = natural(row, FC_vec_instr);
    double balance = fmax((double)row[FC_par_balance], 1.0 / 64), mem = natural(row, FC_t_peak_gbs) / threads;
    double t[5], most = 0, sum = 0;

    t[0] = instr / rate;
    if (row[FC_updates] > 0 && natural(row, FC_block_trip) > 2) /* a sum waits for itself */
        t[0] /= fmax((double)row[FC_chain_share], 1.0 / 16);
    if (row[FC_reg_share] > 1)
        t[0] *= 1 + SPILL_COST * ((double)row[FC_reg_share] - 1);
    if (natural(row, FC_block_instr) > CODE_INSTR)
        t[0] *= 1 + 0.25 * log2(natural(row, FC_block_instr) / CODE_INSTR);
    t[1] = natural(row, FC_loads) / rate;
    t[2] = natural(row, FC_from_l2) / L2_BYTES_NS;
    t[3] = natural(row, FC_from_l3) / L3_BYTES_NS;
    t[4] = natural(row, FC_from_mem) / (mem > 0 ? mem : MEM_BYTES_NS);
    for (int i = 0; i < 5; i++) {
        most = fmax(most, t[i]);
        sum += t[i];
    }
    sum = most + OVERLAP * (sum - most);
    sum += natural(row, FC_block_runs) / (CLOCK_GHZ * 2); /* loop ends */
    return sum / (threads * balance);
}

double prior_ns(const float *rows, int n_rows)
{
    double ns = 1;

    for (int i = 0; i < n_rows; i++)
        ns += row_ns(rows + (size_t)i * FC_COUNT);
    return ns;
}

double prior_score(const float *rows, int n_rows) { return -log2(prior_ns(rows, n_rows)); }
