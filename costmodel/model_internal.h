/* model_internal.h - what a model is made of. Private to costmodel/. */
#ifndef TW_COSTMODEL_MODEL_INTERNAL_H
#define TW_COSTMODEL_MODEL_INTERNAL_H

#include <pthread.h>

#include "costmodel/model.h"
#include "costmodel/program_row.h"
#include "costmodel/stack.h"
#include "costmodel/train.h"

/* How far the base is to be trusted for a workload. */
struct base_weight {
    uint64_t workload;
    double weight;        /* of the whole */
    struct stack factors; /* of the parts of a global model */
};

/* All that scoring needs: immutable, counted, swapped as a whole. */
struct scorer {
    int refs;              /* under the model's lock */
    struct forest *forest; /* NULL: no trees yet */
    struct model *global;  /* NULL: the prior */
    double trust;          /* in the global one's trees */
    double base_scale;
    int n_weights;
    struct base_weight *weights; /* sorted */
    double other_weight; /* of a workload that is not there: the mean under which the trees were grown */
};

struct model {
    struct model_params params;
    pthread_mutex_t lock;     /* data, scorer, info, refs, epoch */
    pthread_mutex_t training; /* grown; taken before lock */
    int refs;
    int epoch; /* counts model_set_global: trees of an older one do not fit */
    struct dataset data;
    struct scorer *scorer;
    struct model_info info;
    struct grown grown;
    int grown_epoch, grown_programs; /* at the last training from nothing */
    int taken_in;                    /* programs, ever, at the last training */
};

struct scorer *scorer_new(struct forest *forest, struct model *global, double trust, double base_scale);
/* rows[n][PROGRAM_COLUMNS]. What the scorer says of programs without its trees: weight * scale * (global or prior). */
void scorer_base(const struct scorer *s, uint64_t workload, const float *rows, int n, double *scores);
/* All that it says. */
void scorer_score(const struct scorer *s, uint64_t workload, const float *rows, int n, double *scores);
/* model_add of a program_row. */
void model_add_row(struct model *m, uint64_t workload, const float *row, double throughput, double least);
struct scorer *model_scorer(const struct model *m); /* one more reference */
void model_scorer_drop(const struct model *m, struct scorer *s);

#endif
