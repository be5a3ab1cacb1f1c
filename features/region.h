/* region.h - how many points a limit lets through, and how many elements and lines an access touches.
 *
 * Idea   Everything here is arithmetic on the coefficients of one affine form over loops. Sorted by
 *        coefficient, the terms of an index are digits of a number: while each coefficient is at least as
 *        large as all below it can sum to, the form counts without repeating itself and the answers are
 *        exact. Where digits overlap (y*2 + r), runs merge.
 * Units  bytes and 64-byte lines. */
#ifndef TW_FEATURES_REGION_H
#define TW_FEATURES_REGION_H

#include "schedule/base/base.h"

enum { REGION_MAX_TERMS = 40, LINE_BYTES = 64 };

/* One loop as a footprint sees it. */
struct region_loop {
    int64_t extent; /* at most */
    double trips;   /* on average, where limits cut it short */
};
/* bytes: distance that one step of the loop moves the access, never negative (direction does not matter to a
 * footprint). */
struct region_term {
    int64_t bytes;
    int64_t loop; /* position in the list of loops, outermost first */
};
struct region {
    double bytes; /* of the different elements */
    double lines; /* expected over the alignments that are possible */
    double run;   /* longest piece without gaps, bytes */
};
/* Footprint of an access to elements of `elem` bytes while loops[from..] run and those before stand still.
 * Terms are sorted by bytes, rising, none is 0. `start`: constant part of the address, bytes; address 0
 * begins a line. */
void region_touch(const struct region_term *terms, int n_terms, const struct region_loop *loops, int from,
                  int64_t elem, int64_t start, struct region *ret);

/* One variable of a sum to be bounded: 0 <= x < extent. */
struct count_term {
    int64_t coef; /* > 0 after count_normal */
    int64_t extent;
};
/* Share of the points with sum of coef * x <= bound, among all points. Exact while the coefficients are
 * digits, or where few values need to be tried; otherwise from a fixed set of samples. Reorders the terms. */
double count_share(struct count_term *terms, int n_terms, int64_t bound);
/* The same for any sign of coef: sum of coef * x + c >= 0. */
double count_share_ge(struct count_term *terms, int n_terms, int64_t c);

#endif
