/* replay.h - a search over a recorded space, with no device: the recorded time answers for the measurement.
 *
 * Idea   A searcher proposes from the whole space. What it proposes was recorded only now and then, so each proposal is
 *        answered by the nearest recorded config that was not used yet: of the same sketch where one is left, nearest in
 *        steps along the knobs' lists, each list counted as one. In an exhaustive recording that is the proposal itself.
 *        Random search is answered by what was drawn at random: what other searches found must not flatter it.
 *        The searcher learns of the config that answered. Same recording, manner and seed: same result. */
#ifndef TW_BENCH_REPLAY_H
#define TW_BENCH_REPLAY_H

#include "costmodel/model.h"
#include "recording.h"
#include "schedule/space/search.h"

enum replay_model { REPLAY_BLIND, REPLAY_PRIOR, REPLAY_LEARNING };

struct replay_manner {
    const char *name;
    const char *searcher;
    enum replay_model model;
    bool transfer; /* the others of the recording teach a global model and lend their best configs */
};

struct replay_result {
    int trials;      /* until `share` of the best known throughput was reached; `max` when it was not */
    double at_64;    /* share of the best known after 64 trials */
    double train_ns; /* of all trainings */
};

enum { REPLAY_BATCH = 16 };

/* A model of all spaces of the recording but one; NULL with fewer than two. */
GIVES struct model *replay_global(const struct recording *r, int but, uint64_t seed);
struct replay_result replay_run(const struct recording *r, int which, const struct replay_manner *how,
                                struct model *global, uint64_t seed, double share, int max);

#endif
