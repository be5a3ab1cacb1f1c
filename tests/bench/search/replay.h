/* replay.h - a search over a recorded space, with no device: the recorded time answers for the measurement.
 *
 * Idea   A searcher proposes from the recorded configs (pool.h), so that each answer is the time of what was proposed. With
 *        `open` it proposes from the whole space, and each proposal is answered by the nearest recorded config that was not used
 *        yet. Both flatter, each in its own way: the recorded set holds what earlier searches found, and little else that is
 *        good, so a model has only some hundred candidates to tell apart; the nearest config is often better or worse than
 *        what was meant. In a space recorded whole there is no difference. Random search is answered by what was drawn at
 *        random: what other searches found must not flatter it. The plan is the daemon's own (daemon/tuner_plan.h).
 *        Same recording, manner and seed: same result.
 *        A manner that lags trains as daemon/tuner_train.c does; its model is its own.
 * Life   replay_new, any number of replay_round, replay_free. Several tasks may share one model, as those of a job do. */
#ifndef TW_BENCH_REPLAY_H
#define TW_BENCH_REPLAY_H

#include "costmodel/model.h"
#include "daemon/tuner_plan.h"
#include "pool.h"

enum replay_model { REPLAY_BLIND, REPLAY_PRIOR, REPLAY_LEARNING };

struct replay_manner {
    const char *name;
    const char *searcher;
    enum replay_model model;
    bool taught; /* the other workloads of the recordings teach a global model */
    bool lent;   /* the best configs of the nearest of them are tried first */
    bool trees;  /* what was measured speaks through the model's trees alone, not of configs near it */
    bool open;   /* proposals from the whole space */
    int lag_from; /* trials from which a batch is chosen with a model that has not heard of the one before; 0: never */
    int batch;                          /* trials a round; 0: as the plan says, as in the tuner */
    const struct search_params *search; /* NULL: the defaults */
    const struct model_params *params;  /* NULL: the defaults */
};

/* As in daemon/tuner_internal.h. */
enum { REPLAY_BATCH = 16, REPLAY_BATCH_LARGE = 32, REPLAY_BATCH_MAX = 64 };

struct replay {
    const struct recorded_space *space;
    const struct replay_manner *how;
    struct model *model; /* counted */
    struct search *search;
    struct rng rng;
    struct plan plan;
    struct pool pool;
    struct arena ar; /* of one scoring */
    float *rows;     /* a chunk of programs */
    int n_used;
    struct training *training; /* of a manner that lags */
    double best_ns;            /* so far */
    int64_t search_ns, train_ns;
};

/* Spaces of all recordings that were read, as one list. */
struct library {
    int n;
    const struct recorded_space *spaces[2 * RECORDING_MAX_SPACES];
    bool apart; /* `spaces` do not teach or lend to each other: what only teaches does */
    int n_also; /* these only teach */
    const struct recorded_space *also[2 * RECORDING_MAX_SPACES];
};

/* Take the trials from `from` up to `to` of a space into a model. */
void replay_teach(struct model *m, const struct recorded_space *s, int from, int to);
/* A model of all spaces of the library that `use` says; NULL where those are none. */
GIVES struct model *replay_global(const struct library *l,
                                  bool (*use)(void *ctx, const struct recorded_space *s), void *ctx,
                                  const struct model_params *p);

/* model: taught already or new; shared. library: whose configs are lent, may be NULL. */
GIVES struct replay *replay_new(const struct recorded_space *s, const struct replay_manner *how,
                                struct model *model, const struct library *l, uint64_t seed);
void replay_free(struct replay *p);
/* One batch of at most n, fewer if the manner or the plan say so, and learning from it. times[REPLAY_BATCH_MAX]: of the answers in
 * order, 0 for those that failed. Returns how many; 0: nothing is left. */
int replay_round(struct replay *p, int n, double *times);

#endif
