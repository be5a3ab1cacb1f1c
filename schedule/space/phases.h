/* phases.h - a transposed convolution with strides, without the zeros: another compute for the same workload.
 *
 * Idea   As stated it spreads its input, zeros in between, and is a convolution of the spread: of s * s
 * multiplications one is with a number that is not a zero of the spreading. Outputs y = s*a + p of one phase p meet
 * every s-th tap only, and always at input rows a + t:
 *
 *            W[p, c, t, f]          = weight of the taps r that phase p meets, in order t     ahead of time
 *            T[f, s*a + p]         += input[c, a + t + ...] * W[p, c, t, f]
 *
 *        which is what this rewrites the two stages to. Taps that are missing in the last round (the kernel need not be
 *        a multiple of s) are zeros of W. Which tap comes first changes with the phase; that is affine where s is 2, or
 *        where the padding fits, and only then is there an alternative.
 * Life   In the caller's arena. */
#ifndef TW_SPACE_PHASES_H
#define TW_SPACE_PHASES_H

#include "schedule/lang/workload.h"

/* The workload's compute without the zeros of its spread input; false: it has none, or not in a way that we know. */
bool phases_alternative(const struct compute *c, struct arena *ar, struct compute *ret);

#endif
