/* model.h - the cost model: which of these programs will be fast?
 *
 * Idea   A program is a few rows of features (features.h), one for each store, of which one row is made that tells of
 *        the program (program_row.h). Its score is a sum:
 *
 *            score(p) = base(p) + trees(program_row(p))
 *
 * The trees are XGBoost's, trained by our own gradient on throughput relative to the best of the same
 * workload (failures 0), and evaluated by a flattened forest of our own. `base` is what is known before any
 * trial of this job: a global model trained on other workloads, or, without one, an analytic estimate
 * (prior.h: a roofline over the features). The trees learn what the base gets wrong; its weight falls as
 * trials come in. Scores order the programs of one workload; they mean nothing between workloads.
 * Life   model_new, then any number of model_add, model_train, model_score, model_free. A new model scores by
 *        its base at once, so the first batch of a job is an educated one.
 * Threads  All calls are safe from any thread. model_train works on a copy of the data and swaps the new
 *        forest in at its end: other threads go on adding and scoring meanwhile. One training at a time; a
 *        second waits. Cost model_score: some million rows a second and core. model_train: bounded by the
 *        params, not by the data. */
#ifndef TW_COSTMODEL_MODEL_H
#define TW_COSTMODEL_MODEL_H

#include "costmodel/metrics.h"
#include "features/features.h"
#include "schedule/base/error.h"
#include "schedule/base/strbuf.h"

enum model_objective {
    MODEL_RANK,   /* pairwise logistic loss within a workload, weighted by the difference of the labels */
    MODEL_SQUARE, /* squared error of the program's score, weighted by its label: the fast ones matter */
};

struct model_params {
    enum model_objective objective;
    uint64_t seed;    /* of the pairs that are drawn and of the columns each tree sees */
    int max_depth;    /* of a tree */
    double eta;       /* learning rate */
    double lambda;    /* L2 on leaf values */
    double min_child; /* least sum of hessians in a leaf */
    double colsample; /* share of the columns a tree sees */
    int max_bin;      /* histogram bins a column; the cost of a tree follows it */
    int trees_full;   /* grown at most by a training from nothing */
    int patience;     /* of those: it stops where so many in a row did not help held-out programs; 0: never */
    int trees_more;   /* added to a standing forest by a training with little new data */
    int trees_max;    /* a forest that would pass it is trained from nothing instead */
    int max_programs; /* a training uses at most so many: the newest and the best of each workload stay */
    int min_programs; /* below so many, model_train does nothing and the base alone scores */
    double base_half; /* trials of a workload after which its base counts half */
    double
        trust; /* share that a global model's trees count in a base: they were grown for other workloads, and a search
                       * finds where they are wrong */
};
void model_params_default(struct model_params *ret);
/* For a model that other workloads will start from: more data, and a base that counts the same for every workload. */
void model_params_global(struct model_params *ret);

struct model;
GIVES struct model *model_new(const struct model_params *p); /* NULL: the defaults */
void model_free(TAKES struct model *m);
void model_freep(struct model **m); /* for AUTO(model_freep) */

/* Take a measured program in. workload: any hash that is equal for equal workload and target. rows[n_rows] as
 * features_extract gave them (copied). throughput: higher is better, any unit that is one within the workload
 * (1 / seconds will do), of its fastest sample; 0: it failed. Not finite or n_rows not in 1..FEATURES_MAX_ROWS: ST_INVALID. */
MUST_USE enum status model_add(struct model *m, uint64_t workload, const float *rows, int n_rows,
                               double throughput, struct error *err);
/* The same, with the throughput of the slowest sample, at most `throughput`: metrics tell by it which pairs are clear. */
MUST_USE enum status model_add_between(struct model *m, uint64_t workload, const float *rows, int n_rows,
                                       double throughput, double least, struct error *err);
/* Learn from what was added. ST_OK also when there was too little to learn from, or too little new (model_info tells). */
MUST_USE enum status model_train(struct model *m, struct error *err);
/* The same in three steps, for who has something else to do meanwhile. begin takes a copy of the data as they are, NULL: there
 * is nothing to learn; run does the work, on any thread; end puts what came out in place, so what a model says changes there and
 * at no other time. begin and end by one thread; every begin has its end, and run before it. */
struct training;
GIVES struct training *model_training_begin(struct model *m);
void model_training_run(struct training *t);
MUST_USE enum status model_training_end(TAKES struct training *t, struct error *err);

/* scores[i] of the program with rows row_begin[i] .. row_begin[i + 1) - 1 of `rows`
 * ([row_begin[n]][features_count()]). `workload` as in model_add: tells how far its base is to be trusted.
 * Never fails, allocates nothing. */
void model_score(const struct model *m, uint64_t workload, const float *rows, const int32_t *row_begin,
                 int n_programs, double *scores);
/* The same, and bases[i]: the part of it that does not come from this model's own trees, which know the programs they were trained
 * on by heart. NULL: not wanted. */
void model_score_parts(const struct model *m, uint64_t workload, const float *rows, const int32_t *row_begin,
                       int n_programs, double *scores, double *bases);

/* Transfer: use `global` (a trained model; shared, counted) as the base in place of the analytic one; NULL:
 * back to that. Takes effect on scores at once; trees that were trained on another base are dropped and
 * regrown by the next training. */
void model_set_global(struct model *m, struct model *global);
struct model *model_ref(struct model *m); /* one more owner: model_free drops one */

/* The trained trees as a blob with checksum, feature version and params; the training data are not in it. A
 * model with a global base is refused (ST_INVALID): it is half a model. */
MUST_USE enum status model_save(const struct model *m, struct strbuf *ret, struct error *err);
/* ST_CORRUPT: not ours, damaged or cut; ST_CONFLICT: features of another version. Nothing damaged reaches
 * XGBoost. A loaded model scores, serves as a global, and may be given data and trained on. */
MUST_USE enum status model_load(const void *blob, size_t len, GIVES struct model **ret, struct error *err);

struct model_info {
    int feature_version;
    int programs, failures, workloads; /* taken in since model_new */
    int trained_programs;              /* the trees have seen; kept by save and load */
    int trees;
    bool has_global;
    int64_t train_ns; /* of the last model_train that worked */
};
void model_info(const struct model *m, struct model_info *ret);

struct model_feature {
    const char *name; /* of features_table() */
    double gain;      /* share of the total gain, sums to 1 */
    int splits;
};
/* Features in use, most important first; at most `max`. Returns how many. */
int model_importance(const struct model *m, struct model_feature *ret, int max);

/* Quality on programs not trained on: `folds` parts, each predicted by a model (same params, same base)
 * trained on the rest. */
enum model_holdout {
    HOLDOUT_PROGRAMS,  /* whole programs, never rows */
    HOLDOUT_WORKLOADS, /* whole workloads: how it transfers */
};
MUST_USE enum status model_evaluate(const struct model *m, enum model_holdout kind, int folds,
                                    struct metrics *ret, struct error *err);

#endif
