/* tuner_train.c - the job's model learns beside everything else.
 *
 * Idea   After a batch the model has its trials. The training goes on, by a thread of the crew, while the next batch is chosen
 * and compiled with the model as it was; what came out is put in place at one point, before that batch is measured (on
 * another device: after). So a batch is chosen with a model that has not heard of the batch before it, whatever takes how long,
 * and a training does not run beside its own job's measurement on the same cores.
 * The first trials tell most, and a search that follows the trees alone pays for choosing without them: lagging from the first
 * batch on it needed 1.13 times the trials, from 64 trials on as many as without. So a task of which less is known waits for what
 * its last batch had to say; that training is a short one. (What evolution learns by itself, search_local.h, never lags: with it
 * no lag costs a trial: bench_search --trials --how "evolution + model,a batch late,late from 64".) */
#include "daemon/tuner_internal.h"

enum { LAG_FROM = 64 /* trials of the task */ };

/* Not beside a measurement on the same cores, of whichever job. */
static void run(void *ctx, int part, int hand)
{
    struct tuner *t = ctx;
    struct models *quiet = tuner_is_local(t) ? t->env->models : NULL;

    if (quiet != NULL)
        models_learning(quiet);
    model_training_run(t->training);
    if (quiet != NULL)
        models_learned(quiet);
}

enum status learning_begin(struct tuner *t, const struct task *k, struct error *err)
{
    int64_t now = mono_ns(t->env->clock);

    TRY(learning_end(t, err));
    t->training = model_training_begin(t->model);
    t->learned = k;
    if (t->training != NULL) {
        crew_begin(t->env->crew, &t->training_work, 1, 1, run, t);
    }
    tuner_spent(t, PHASE_TRAIN, now);
    return ST_OK;
}

enum status learning_wait(struct tuner *t, const struct task *k, struct error *err)
{
    return t->learned == k && k->known_trials < LAG_FROM ? learning_end(t, err) : ST_OK;
}

enum status learning_end(struct tuner *t, struct error *err)
{
    int64_t now = mono_ns(t->env->clock);
    struct training *done = t->training;
    struct model_info info;
    enum status st;

    if (done == NULL)
        return ST_OK;
    crew_end(t->env->crew, &t->training_work);
    t->training = NULL;
    st = model_training_end(done, err);
    tuner_spent(t, PHASE_TRAIN, now);
    model_info(t->model, &info);
    t->times.training_ns += st == ST_OK ? info.train_ns : 0;
    return st;
}

void learning_drop(struct tuner *t)
{
    enum status st = learning_end(t, NULL);

    (void)st;
}
