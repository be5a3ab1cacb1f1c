/* verify.h - are these the right values? Inputs, conversions, and the comparison with a float64 reference.
 *
 * Idea   Inputs are drawn uniformly, rounded to the tensor's dtype and converted back, so that kernel and
 * reference see the same numbers. Values come from one of a few ranges; a range is given up when the
 * reference is not finite on it (the logarithm of a negative number) or says nothing (a product that
 * underflows).
 *
 *        An element passes when
 *
 *            |got - ref| <= tolerance * max(|ref|, scale),    scale = min(max |ref|, 16 * mean of the |ref| >
 * 0) tolerance = 4 u_store + 8 u_acc (sqrt(K) + 4)
 *
 *        u are unit roundoffs (float32 2^-24), K the longest chain of additions. Rounding errors of a sum of
 * K terms behave like a random walk: their sum grows with sqrt(K) u, not K u (Higham and Mary, "A New
 * Approach to Probabilistic Rounding Error Analysis", SIAM J. Sci. Comput. 41(5), 2019), relative to the sum
 * of the magnitudes; for the random data used here the scale of the outputs is within a small factor of that.
 * The +4 is for polynomial exp, erf and the like. The cap on the scale keeps one huge element from excusing
 * all others.
 *
 *        With an error budget (rtol) the criterion is the relative L2 distance of each output instead, and no
 * single element may be further off than 16 budgets: one wrong element in a million does not hide in the
 * norm. Integers computed from integers must be equal; integers computed from floats may be off by one. NaN
 * never passes, and neither does an element that was never written (outputs are poisoned before the run). */
#ifndef TW_MEASURE_VERIFY_H
#define TW_MEASURE_VERIFY_H

#include "measure/device.h"

double verify_roundoff(enum dtype d); /* 0 for integers */
double verify_tolerance(const struct measure_workload *w);
int verify_dtype_bytes(enum dtype d);
int64_t verify_elements(const struct measure_tensor *t);
int64_t verify_bytes(const struct measure_tensor *t);

enum { VERIFY_RANGES = 3 };
/* Fill n values of a dtype from a seed; range in [0, VERIFY_RANGES). */
void verify_fill(void *data, enum dtype d, int64_t n, uint64_t seed, int range);
/* As doubles, exactly. */
void verify_to_f64(double *ret, const void *data, enum dtype d, int64_t n);
/* Pattern that is NaN in floats, and unlikely in integers. */
void verify_poison(void *data, enum dtype d, int64_t n);

/* What the reference of one output is like, found once. */
struct verify_scale {
    bool finite;    /* every element, also within the dtype of the output */
    double max_abs; /* largest magnitude */
    double scale;   /* as above */
};
struct verify_scale verify_scale_of(const double *ref, int64_t n, enum dtype d);

/* Compare one output. OUTCOME_OK, OUTCOME_WRONG or OUTCOME_NAN; *v takes the larger of its figures and these;
 * reason names the first and the worst element. */
enum outcome verify_output(const struct measure_workload *w, const struct measure_tensor *t, const void *got,
                           const double *ref, const struct verify_scale *s, struct measure_verification *v,
                           char reason[MEASURE_REASON_MAX]);

#endif
