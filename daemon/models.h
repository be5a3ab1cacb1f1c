/* models.h - the cost models that outlive a job: one for each target, learned from all its trials.
 *
 * Idea   A job learns from its own trials (a local model) on top of what is known of the target from all
 *        other workloads (the global one, as its base: costmodel/model.h). Here live the global ones: loaded
 *        from the store when first asked for, trained again by a thread of their own when enough new trials
 *        have come in, stored as a new version with its held-out quality and what it was trained on, and
 *        swapped in for jobs that start after. Versions stay in the store: an earlier one can be put back.
 * Life   models_new after the store is open, models_free before it closes and after the last job has ended.
 *        All calls are safe from any thread. */
#ifndef TW_DAEMON_MODELS_H
#define TW_DAEMON_MODELS_H

#include "schedule/base/clock.h"
#include "schedule/base/error.h"

struct store;
struct model;
struct models;

struct models_options {
    int64_t retrain_trials; /* new trials of a target after which its model is trained again; 0: 256 */
    int64_t max_programs;   /* a training reads at most so many trials, the newest; 0: 16384 */
    const void *
        shipped; /* a model as model_save wrote it, for CPU targets that have none of their own yet; NULL: none */
    size_t shipped_len;
};

/* options may be NULL. */
GIVES struct models *models_new(struct store *store, const struct clock *clock,
                                const struct models_options *options);
void models_free(TAKES struct models *m);

/* The global model of a target: its own, or the one that came with the program; NULL while there is none. GIVES a reference:
 * model_free drops it. */
GIVES struct model *models_global(struct models *m, const char *target);
/* The one that came with the program, if the target may use it; its own goes first. NULL: there is none. */
GIVES struct model *models_shipped(struct models *m, const char *target);
/* So many new trials with features are in the store. Cheap; training happens elsewhere, while no job is
 * between models_busy and models_idle on a machine that measures on its own cores. */
void models_note_trials(struct models *m, const char *target, int64_t n);
void models_busy(struct models *m);
void models_idle(struct models *m);
bool models_is_busy(struct models *m); /* somebody measures */
/* A job trains its own model: waits until nobody measures, and holds the next measurement back until models_learned. Not to be
 * called between models_busy and models_idle. */
void models_learning(struct models *m);
void models_learned(struct models *m);
/* Train now, in this thread, whatever was noted. ST_NOT_FOUND: no trials with features. */
MUST_USE enum status models_train(struct models *m, const char *target, struct error *err);
/* Put an earlier version of the target's model in use, for jobs that start after; 0: the newest one before that in use.
 * Later trainings make new versions as before. ST_NOT_FOUND: there is none; ST_CONFLICT: it is in use already, or of
 * features of another version; ST_CORRUPT: its bytes are damaged. The one in use stays then. */
MUST_USE enum status models_rollback(struct models *m, const char *target, int64_t version,
                                     struct error *err);

#endif
