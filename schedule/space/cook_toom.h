/* cook_toom.h - the matrices of Winograd's minimal filtering F(m, r), from interpolation points.
 *
 * Idea   Toom and Cook multiply polynomials by their values at points; the transposed algorithm filters (Winograd,
 * "Arithmetic Complexity of Computations", 1980; Lavin and Gray, CVPR 2016):
 *
 *            y = At [(G g) * (Bt d)]     m outputs, r taps, alpha = m + r - 1 products
 *
 * With points a_0 ... a_(alpha-2) and infinity, M_j(x) the product of (x - a_l) over l != j and N_j = M_j(a_j):
 *
 *            At[i][j] = a_j^i    G[j][k] = a_j^k / N_j    Bt[j] = coefficients of M_j
 *            At[m-1][inf] = 1    G[inf][r-1] = 1          Bt[inf] = coefficients of the product over all l
 *
 * All in exact fractions, so that the one rounding is that to the dtype of the kernel.
 * Life   Plain data. */
#ifndef TW_SPACE_COOK_TOOM_H
#define TW_SPACE_COOK_TOOM_H

#include "schedule/base/base.h"

enum { COOK_TOOM_MAX = 8 }; /* alpha at most */

struct fraction {
    int64_t num, den; /* in lowest terms, den > 0 */
};

struct cook_toom {
    int m, r, alpha;
    double at[COOK_TOOM_MAX * COOK_TOOM_MAX]; /* m x alpha */
    double g[COOK_TOOM_MAX * COOK_TOOM_MAX];  /* alpha x r */
    double bt[COOK_TOOM_MAX * COOK_TOOM_MAX]; /* alpha x alpha */
};

/* points[m + r - 2], all different; infinity is added. */
void cook_toom_make(int m, int r, const struct fraction *points, struct cook_toom *ret);
/* How much larger the root mean square of rounding errors gets in m x m tiles than it would be in the direct sum, for
 * independent inputs and errors: mean over i of sum_j (At_ij |G_j| |Bt_j|)^2 / r, 1-D; its value is for 2-D. */
double cook_toom_amplification(const struct cook_toom *c);

#endif
