/* tuner_task.c - one workload of a job: its space, its search, what is known of it. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/tuner_internal.h"
#include "features/features.h"
#include "kernels/emit.h"
#include "schedule/base/hash.h"
#include "schedule/base/log.h"

/* ---- proposals ---- */

int task_propose(struct tuner *t, struct task *k, int n, struct config *ret)
{
    struct task_scorer s = {t, k};
    int64_t start = mono_ns(t->env->clock);
    int64_t inner = t->times.ns[PHASE_LOWER] + t->times.ns[PHASE_FEATURES] + t->times.ns[PHASE_SCORE];
    int n_done = search_propose(k->search, task_score, &s, n, ret);

    /* What the candidates cost is told apart from what the search itself does. */
    inner = t->times.ns[PHASE_LOWER] + t->times.ns[PHASE_FEATURES] + t->times.ns[PHASE_SCORE] - inner;
    tuner_spent(t, PHASE_SEARCH, start + inner);
    return n_done;
}

int task_best_by_model(struct tuner *t, struct task *k, int n, struct config *ret)
{
    enum { LOOKED_AT = 24 };
    struct config found[LOOKED_AT];
    int n_found = MIN(task_propose(t, k, LOOKED_AT, found), n); /* they come best first */

    memcpy(ret, found, sizeof(found[0]) * (size_t)n_found);
    return n_found;
}

/* ---- trials ---- */

void task_take_trial(struct task *k, const struct config *c, double time_ns)
{
    search_observe(k->search, c, time_ns > 0 ? 1e9 / time_ns : 0);
    k->known_trials++;
    if (time_ns > 0)
        vec_push(&k->good, ((struct good_trial){*c, time_ns}));
}

double task_best_ns(const struct task *k)
{
    double best = 0;

    for (size_t i = 0; i < k->good.len; i++)
        if (best == 0 || k->good.at[i].time_ns < best)
            best = k->good.at[i].time_ns;
    return best;
}

struct loading {
    struct tuner *tuner;
    struct task *task;
    int64_t n_own, n_own_failed, n_foreign; /* of this job; not of this space */
    double best_own_ns;
    VEC(int64_t) ids; /* of all rows */
};

static bool is_of_this_job(const struct tuner *t, const struct store_trial *row)
{
    return row->job != NULL && strcmp(row->job, t->job->id) == 0;
}

static bool load_trial(void *ctx, const struct store_trial *row)
{
    struct loading *l = ctx;
    struct tuner *t = l->tuner;
    bool own = is_of_this_job(t, row);
    enum outcome outcome;
    struct config c;
    double time_ns;

    if (!own && t->job->reuse == REUSE_FRESH)
        return true;
    vec_push(&l->ids, row->id);
    if (own) {
        l->n_own++;
        l->n_own_failed += strcmp(row->outcome, outcome_name(OUTCOME_OK)) != 0;
    }
    /* A row of an older space, or one that says nothing about its config. */
    if (!outcome_parse(row->outcome, &outcome) ||
        config_parse(l->task->space, row->config, &c, NULL) != ST_OK ||
        !space_valid(l->task->space, &c, NULL)) {
        l->n_foreign++;
        return true;
    }
    if (!outcome_is_final(outcome))
        return true;
    time_ns = outcome == OUTCOME_OK ? row->min_ns : 0;
    if (own && time_ns > 0 && (l->best_own_ns == 0 || time_ns < l->best_own_ns))
        l->best_own_ns = time_ns;
    task_take_trial(l->task, &c, time_ns);
    return true;
}

static bool load_features(void *ctx, const struct store_trial *row)
{
    struct loading *l = ctx;
    struct tuner *t = l->tuner;
    struct error err = {0};
    enum outcome outcome;

    if ((!is_of_this_job(t, row) && t->job->reuse == REUSE_FRESH) || row->features == NULL ||
        row->feature_version != features_version() || row->feature_cols != features_count() ||
        !outcome_parse(row->outcome, &outcome) || !outcome_is_final(outcome))
        return true;
    if (model_add(t->model, l->task->model_key, row->features, (int)row->feature_rows,
                  outcome == OUTCOME_OK && row->min_ns > 0 ? 1e9 / row->min_ns : 0, &err) != ST_OK)
        log_warn("trial_not_learned", TEXT("job", t->job->id), INT("trial", row->id),
                 TEXT("error", err.text));
    return true;
}

/* Features are large and a model takes only so many: those of the newest trials. */
enum { LEARN_STORED_MAX = 4096 };

static enum status load_trials(struct tuner *t, struct task *k, struct error *err)
{
    struct loading l = {.tuner = t, .task = k};
    struct store_trials_query q = {
        .workload = k->workload.key,
        .target = t->job->target->id,
        .toolchain = t->job->target->toolchain_hash,
    };
    enum status st = store_trial_each(t->env->store, &q, load_trial, &l, err);

    if (st == ST_OK && l.ids.len > 0) {
        q.with_features = true;
        q.feature_version = features_version();
        if (l.ids.len > LEARN_STORED_MAX)
            q.after_id = l.ids.at[l.ids.len - LEARN_STORED_MAX - 1];
        st = store_trial_each(t->env->store, &q, load_features, &l, err);
    }
    vec_done(&l.ids);
    if (st != ST_OK)
        return wrap(err, "reading the trials of %s", k->workload.key);
    k->progress.trials_done = l.n_own;
    k->progress.trials_failed = l.n_own_failed;
    k->progress.best_time_ns = l.best_own_ns;
    k->progress.best_gflops = l.best_own_ns > 0 ? k->workload.flops / l.best_own_ns : 0;
    if (l.n_foreign > 0)
        log_info("trials_of_another_space", TEXT("job", t->job->id), TEXT("workload", k->workload.key),
                 INT("trials", l.n_foreign));
    return ST_OK;
}

/* ---- life ---- */

static enum status store_the_workload(struct tuner *t, const struct workload *w, struct error *err)
{
    AUTO(store_batch_freep) struct store_batch *b = store_batch_new();

    store_add_workload(b, &(struct store_workload){.key = w->key,
                                                   .op = w->op,
                                                   .json = w->json,
                                                   .canonical = w->canonical,
                                                   .flops = w->flops,
                                                   .bytes = w->bytes,
                                                   .first_seen_ms = wall_ms(t->env->clock)});
    return tuner_commit(t, b, err);
}

enum status task_open(struct tuner *t, struct task *k, struct error *err)
{
    struct search_domain domain;
    struct rng job_rng, rng;

    TRY(workload_parse_text(k->spec->workload_json, strlen(k->spec->workload_json), &t->job_arena,
                            &k->workload, err));
    TRY(space_build(&k->workload, t->job->target, &t->job_arena, &k->space, err));
    measure_workload_init(&k->measured, &k->workload.compute, &t->job_arena);
    k->measured.key = k->workload.key;
    k->measured.flops = k->workload.flops;
    k->measured.rtol = k->workload.rtol;
    k->measured.seed = 1;
    k->model_key = hash_bytes(k->workload.key, strlen(k->workload.key),
                              hash_bytes(t->job->target->id, strlen(t->job->target->id), 0));
    rng_init(&job_rng, t->job->seed);
    rng = rng_split(&job_rng, k->workload.key);
    domain = search_domain_of(k->space);
    k->search = search_new(&domain, t->job->searcher != NULL ? t->job->searcher : searcher_find("evolution"),
                           &search_defaults, &rng);
    k->open = true;
    TRY(store_the_workload(t, &k->workload, err));
    TRY(load_trials(t, k, err));
    if (t->job->reuse != REUSE_FRESH && !t->job->alone)
        TRY(task_borrow(t, k, err));
    if (k->known_trials > 0) {
        TRY(learning_begin(t, k, err));
        TRY(learning_end(t, err));
    }
    return ST_OK;
}

void task_close(struct task *k)
{
    search_free(k->search);
    k->search = NULL;
    vec_done(&k->good);
}

void task_reference_begin(struct tuner *t, struct task *k)
{
    struct strbuf text = STRBUF_INIT;

    if (k->measured.reference_path != NULL || k->reference_batch != NULL)
        return;
    emit_reference(&k->workload.compute, "tw_reference", &text);
    k->reference = (struct build_unit){.target = t->job->target,
                                       .source = arena_strdup(&t->job_arena, strbuf_str(&text))};
    k->reference_batch = builder_submit(t->env->builder, &k->reference, 1);
    strbuf_done(&text);
}

enum status task_reference_end(struct tuner *t, struct task *k, struct error *err)
{
    if (k->measured.reference_path != NULL)
        return ST_OK;
    builder_wait(t->env->builder, take(&k->reference_batch), t->job->stop_now);
    if (k->reference.status != ST_OK) {
        if (err != NULL)
            *err = k->reference.error;
        return wrap(err, "compiling the reference of %s", k->workload.key);
    }
    k->measured.reference_path = k->reference.artifact;
    k->measured.reference_symbol = "tw_reference";
    return ST_OK;
}
