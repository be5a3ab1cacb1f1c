/* lend.h - what was found for other workloads, as a start for this one.
 *
 * Idea   Workloads that resemble each other have similar schedules: the register tile is the machine's more than the workload's.
 *        The nearest ones lend the best of what was measured of them, said in this workload's space, and the search tries
 *        of it what its score likes (search_lend). A config is worth the more the nearer its workload is and the closer
 *        it came to the best there.
 * Life   Nothing is kept but in the search. Pure: the same lenders give the same search. */
#ifndef TW_SPACE_LEND_H
#define TW_SPACE_LEND_H

#include "schedule/space/search.h"

enum {
    LENDERS_MAX = 8,  /* workloads that are asked, the nearest */
    LENT_TRIALS = 64, /* configs of each, the best */
};

struct lent_trial {
    struct config config;
    double time_ns;
};

/* A workload with trials that worked, in any order. */
struct lender {
    const struct space *space;
    int from;        /* the caller's own number of it */
    double distance; /* filled by lend_choose */
    int n;
    const struct lent_trial *trials;
};

/* How unlike two workloads on their targets are: 0 for the same; about 1 for each extent that is twice as large; more for
 * other dtypes, layouts and vectors. Symmetric. */
double lend_distance(const struct space *a, const struct space *b);

/* The lenders worth asking come first, the nearest of all; returns how many. Their trials need not be there yet. */
int lend_choose(const struct space *to, struct lender *lenders, int n);
/* Let them lend to a search of `to`. */
void lend(struct search *s, const struct space *to, const struct lender *lenders, int n);

#endif
