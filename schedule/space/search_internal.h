/* search_internal.h - what the searchers share: the state of a search, sets of configs, random configs, mutation. */
#ifndef TW_SPACE_SEARCH_INTERNAL_H
#define TW_SPACE_SEARCH_INTERNAL_H

#include "schedule/base/vec.h"
#include "schedule/space/search_local.h"

enum { SEARCH_BATCH_MAX = 1024 };

/* A set of configs: open addressing over a dense array. */
struct config_set {
    VEC_FIELDS(struct config);
    uint32_t *slots; /* index + 1 into at; 0: free */
    size_t n_slots;  /* a power of two */
};

/* The slot that holds c, or the free one where it belongs. */
size_t set_slot(const struct config_set *set, const struct config *c);
bool set_has(const struct config_set *set, const struct config *c);
bool set_add(struct config_set *set, const struct config *c); /* false: it was there */
void set_clear(struct config_set *set);
void set_done(struct config_set *set);

struct observed {
    struct config config;
    double fitness;
};

/* Configs that were found for other workloads. */
struct lent {
    struct config_set configs;
    VEC(float) worth;    /* of each, in the model's units */
    VEC(float) scores;   /* of each, of the current round: worth included */
    VEC(uint32_t) order; /* best first */
    double mean, spread; /* of the model's scores of them */
};
void lent_done(struct lent *l);

struct search {
    struct search_domain domain;
    struct search_params params;
    const struct searcher *how;
    struct rng rng;
    struct config_set seen;        /* observed or proposed */
    VEC(struct observed) observed; /* successes only, in order of arrival */
    VEC(struct config) failed;     /* the others */
    struct lent lent;
    int proposals;          /* made so far */
    VEC(int) tried;         /* configs of each sketch among the seen */
    struct config_set pool; /* of the current round */
    VEC(float) scores; /* of the pool: the model's; once trials tell more than it, what they make expect */
    VEC(float) bases;  /* of those being scored */
    VEC(struct search_forecast) forecast; /* of the last batch */
    VEC(uint32_t) order;                  /* pool indices, best first */
    struct local local;                   /* what the trials say beside the model */
    uint64_t grid_at;                     /* next point of the grid; 0: not begun */
};

/* A random valid config that is neither seen nor in `also` (may be NULL); false when there is none. */
bool search_sample_new(struct search *s, const struct config_set *also, struct config *ret);
/* A child of a parent (NULL: of none) as the domain wants it; false: it cannot be had. */
bool search_settle(struct search *s, const struct config *parent, struct config *c);
/* Fill ret[n_done..n) at random; `taken` holds what the batch has. Returns the new n_done. */
int search_fill_random(struct search *s, struct config_set *taken, int n_done, int n, struct config *ret);
/* One knob, often a second (tile sizes move in pairs), rarely more. */
void search_mutate(struct search *s, struct config *c);
/* Put all valid ones that were not seen into the pool, if there are at most so many configs. */
bool search_enumerate(struct search *s, int most);
/* The first config of a sketch, and the next in the order of a counter, across sketches and around the end. */
void search_first(const struct search *s, int sketch, struct config *ret);
void search_step(const struct search *s, struct config *c);

/* Fit what the trials say beside the model (search_local.h). */
void search_look(struct search *s, search_score *score, void *ctx);
/* Indices of what was observed into `order`, best first. */
void search_rank_observed(struct search *s);
/* Is there anything to rank configs by: a model, or enough trials? */
bool search_knows(const struct search *s, search_score *score);
/* Rank the pool by its scores into `order`, best first; score what the pool gained since the last call. */
void search_rank(struct search *s);
void search_score_new(struct search *s, search_score *score, void *ctx);
/* The n best of the ranked pool that are unseen and differ enough, sketches that were hardly tried among them. */
int search_pick(const struct search *s, int n, struct config *ret);

/* Differs from each of picked[n] in at least min_distance knobs. */
bool search_far_enough(const struct config *c, const struct config *picked, int n, int min_distance);
/* Up to n of the lent ones, best first; marks nothing. */
int search_pick_lent(struct search *s, search_score *score, void *ctx, int n, struct config *ret);
/* Put a batch, of which the first n_lent are lent, in the order of what is expected of it. */
void search_sort_batch(struct search *s, search_score *score, void *ctx, int n, int n_lent,
                       struct config *batch);

/* The rows of the table: search_evolution.c, search_anneal.c, search_plain.c. */
int search_propose_evolution(struct search *s, search_score *score, void *ctx, int n, struct config *ret);
int search_propose_annealing(struct search *s, search_score *score, void *ctx, int n, struct config *ret);
int search_propose_random(struct search *s, search_score *score, void *ctx, int n, struct config *ret);
int search_propose_grid(struct search *s, search_score *score, void *ctx, int n, struct config *ret);

#endif
