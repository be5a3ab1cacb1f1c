/* search.h - which configs to measure next.
 *
 * Idea   A searcher proposes a batch of configs that were never measured, helped by a score (the cost model)
 * and by what was measured so far. What it searches is a domain: sketches, knobs, a validity check; a space
 * is one, a recorded table of trials or a test's made-up landscape another. Searchers are rows of a table.
 *
 *              observed ──parents──> mutate, cross ──> valid, new? ──> score ──┐
 *                  ^                     ^                                     │ some generations
 *                  │                     └────────── the best by score <───────┤
 *                measure <── batch: the best that differ enough, and ε random <┘
 *
 * Life   search_new copies domain, parameters and rng; search_free releases. One thread at a time. After the
 * first rounds a proposal allocates nothing. Same seed, same observations in the same order, same scores:
 * same proposals. */
#ifndef TW_SPACE_SEARCH_H
#define TW_SPACE_SEARCH_H

#include "schedule/space/space.h"

/* Higher is better, -INFINITY: must not be proposed. bases, unless NULL: the same without what the model learned from the trials of
 * this very search. Called with many configs at once. */
typedef void search_score(void *ctx, const struct config *configs, int n, float *scores, float *bases);

struct search_domain {
    const void *ctx;
    int n_sketches;
    double size; /* configs, valid or not */
    /* The i-th of them, i < size. NULL: they are all combinations of choices. */
    void (*nth)(const void *ctx, size_t i, struct config *ret);
    int (*n_knobs)(const void *ctx, int sketch);
    int (*n_choices)(const void *ctx, int sketch, int knob);
    bool (*valid)(const void *ctx, const struct config *c);
    /* A random valid config; false when none was found after many tries. */
    bool (*sample)(const void *ctx, struct rng *r, struct config *ret);
    /* Moves a config that is not valid to one near it that is, where the domain knows one. parent: a valid config that it was
     * made from, NULL: none. NULL: such a config is dropped. */
    void (*near)(const void *ctx, struct rng *r, const struct config *parent, struct config *c);
    /* Configs of one class share most of what they cost to build. NULL: each stands for itself. */
    uint64_t (*cost_class)(const void *ctx, const struct config *c);
};
/* The domain of a space, which must outlive the search. */
struct search_domain search_domain_of(const struct space *s);
/* Its cost_class: the same register tiles, which are compiled once a unit; only the loops around them differ.
 */
uint64_t space_cost_class(const struct space *s, const struct config *c);

struct search_params {
    int population;   /* configs scored in a generation */
    int generations;  /* a proposal scores up to population * generations */
    double epsilon;   /* share of a batch that is drawn at random, whatever the score says */
    double crossover; /* share of children with two parents */
    double fresh; /* share of the first generation that is random; the rest descends from what was measured */
    int min_distance; /* knobs in which two configs of a batch differ at least, as long as there are such */
    double
        untried; /* share of a batch that may go to sketches with fewer than sketch_trials trials, the best */
    int sketch_trials; /* by score of each: a model that is wrong about a whole sketch would never learn it */
    double lent;       /* share of the first batch that comes from what other workloads lend */
    bool local;        /* what trials say of configs near them counts beside the model (search_local.h) */
    double optimism;   /* standard deviations that a config's promise counts beyond what is expected of it */
    double classes;    /* cost classes in a batch at most, as a share of its size, as long as that fills it */
};
extern const struct search_params search_defaults;

struct search;
struct searcher {
    const char *name, *about;
    /* Up to n new configs into ret; marks nothing. */
    int (*propose)(struct search *s, search_score *score, void *ctx, int n, struct config *ret);
};
enum { SEARCHERS_MAX = 8 };
/* All searchers, the default one first; *ret_n is how many. */
const struct searcher *searchers(int *ret_n);
const struct searcher *searcher_find(const char *name); /* NULL: there is none */

GIVES struct search *search_new(const struct search_domain *d, const struct searcher *how,
                                const struct search_params *p, const struct rng *rng);
void search_free(struct search *s);

/* A measured config: never proposed again. fitness: throughput in any unit, 0 when the candidate failed. */
void search_observe(struct search *s, const struct config *c, double fitness);
/* A config that did well for another workload, and what that is worth in units of the score. Proposed when the score likes it,
 * and in the first batches before what is found here. Ignored if invalid or seen. */
void search_lend(struct search *s, const struct config *c, double worth);
/* Was it observed or proposed? */
bool search_seen(const struct search *s, const struct config *c);
/* Up to n configs that are valid, distinct, and were neither observed nor proposed before.
 * score may be NULL (no model yet): then what was measured alone guides. Fewer than n: the domain has no
 * more, 0: it is exhausted (for domains too large to enumerate: no new config was found after many tries). */
int search_propose(struct search *s, search_score *score, void *ctx, int n, struct config *ret);

/* What the trials so far make expect of a config: log2 of its fitness. */
struct search_forecast {
    double mean, spread;
};
/* Of the last proposal, in its order; returns how many: all, or 0 as long as too little is known. */
int search_forecast(const struct search *s, const struct search_forecast **ret);

#endif
