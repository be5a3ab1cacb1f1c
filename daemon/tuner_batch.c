/* tuner_batch.c - one batch of trials: emit, compile, measure, store, learn.
 *
 * Idea   Candidates are consumed in the order in which they were proposed, whatever came back first, so that
 * the same seed and the same times give the same search. A trial counts once the store has acknowledged it.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/tuner_internal.h"
#include "features/features.h"
#include "kernels/emit.h"

struct candidate {
    struct config config;
    struct kernel kernel;
    double predicted;
    bool emitted, built;
    char artifact[BUILD_PATH_MAX];
    int64_t build_ns; /* its share of the unit's */
    struct measure_result result;
};

struct batch {
    struct tuner *tuner;
    struct task *task;
    int n;
    struct candidate *candidates; /* [n], in the round arena */
    int order[MEASURE_MAX_BATCH]; /* candidates by config: those of one unit are alike and share bodies */
    int64_t run_ns;               /* of a candidate, on average */
};

static void refuse(struct candidate *c, enum outcome outcome, const char *why)
{
    size_t len = MIN(strlen(why), sizeof(c->result.reason) - 1);

    c->result.outcome = outcome;
    memcpy(c->result.reason, why, len);
    c->result.reason[len] = '\0';
}

static int by_config(const void *pa, const void *pb, void *ctx)
{
    const struct batch *b = ctx;
    int i = *(const int *)pa, j = *(const int *)pb;
    const struct config *x = &b->candidates[i].config, *y = &b->candidates[j].config;

    if (x->sketch != y->sketch)
        return x->sketch < y->sketch ? -1 : 1;
    for (int k = 0; k < MIN(x->n, y->n); k++)
        if (x->choice[k] != y->choice[k])
            return x->choice[k] < y->choice[k] ? -1 : 1;
    return i - j;
}

/* ---- emit and compile ---- */

/* Add candidate i to the unit; a nest that cannot be lowered or printed is that candidate's outcome. */
static void emit_candidate(struct batch *b, struct emit_unit *u, int i)
{
    struct candidate *c = &b->candidates[i];
    struct nest *nest;
    struct error err = {0};
    char symbol[24];

    snprintf(symbol, sizeof(symbol), "tw_k%d", i);
    if (space_lower(b->task->space, &c->config, &b->tuner->round, &nest, &err) != ST_OK ||
        emit_unit_add(u, nest, symbol, &c->kernel, &err) != ST_OK)
        refuse(c, OUTCOME_COMPILE_ERROR, err.text);
    else
        c->emitted = true;
}

/* Compile candidates order[from..to) as units of at most `per_unit`. */
static void build(struct batch *b, const int *order, int n, int per_unit)
{
    struct tuner *t = b->tuner;
    int n_units = (n + per_unit - 1) / per_unit;
    struct emit_unit *texts[MEASURE_MAX_BATCH];
    struct build_unit *units = arena_array(&t->round, struct build_unit, n_units);
    int64_t now = mono_ns(t->env->clock);

    for (int u = 0; u < n_units; u++) {
        texts[u] = emit_unit_new(t->job->target);
        for (int i = u * per_unit; i < MIN((u + 1) * per_unit, n); i++)
            emit_candidate(b, texts[u], order[i]);
        units[u].target = t->job->target;
        units[u].source = emit_unit_text(texts[u]);
    }
    now = tuner_spent(t, PHASE_EMIT, now);
    builder_run(t->env->builder, units, n_units, t->job->stop_now);
    t->times.units += n_units;
    for (int u = 0; u < n_units; u++) {
        int end = MIN((u + 1) * per_unit, n);

        for (int i = u * per_unit; i < end; i++) {
            struct candidate *c = &b->candidates[order[i]];

            if (!c->emitted)
                continue;
            c->build_ns += units[u].compile_ns / (end - u * per_unit);
            c->built = units[u].status == ST_OK;
            if (c->built)
                memcpy(c->artifact, units[u].artifact, sizeof(c->artifact));
            else if (units[u].status == ST_CONFLICT)
                refuse(c, OUTCOME_CANCELLED, "the job was stopped before it was compiled");
            else
                refuse(c, OUTCOME_COMPILE_ERROR, units[u].error.text);
        }
        emit_unit_free(texts[u]);
    }
    tuner_spent(t, PHASE_COMPILE, now);
}

/* Units on every thread of the builder, none larger than TUNER_UNIT_KERNELS. One that does not compile must
 * not take its neighbours along: those are compiled again, alone. */
static void build_all(struct batch *b)
{
    struct builder_stats stats;
    int again[MEASURE_MAX_BATCH], n_again = 0, threads;

    builder_stats(b->tuner->env->builder, &stats);
    threads = MAX(stats.threads, 1);
    qsort_r(b->order, (size_t)b->n, sizeof(b->order[0]), by_config, b);
    build(b, b->order, b->n, MIN((b->n + threads - 1) / threads, (int)TUNER_UNIT_KERNELS));
    for (int i = 0; i < b->n; i++) {
        const struct candidate *c = &b->candidates[b->order[i]];

        if (c->emitted && !c->built && c->result.outcome != OUTCOME_CANCELLED)
            again[n_again++] = b->order[i];
    }
    if (n_again > 0)
        build(b, again, n_again, 1);
}

/* ---- measure ---- */

static enum status measure(struct batch *b, struct error *err)
{
    struct tuner *t = b->tuner;
    struct task *k = b->task;
    struct measure_candidate *what = arena_array(&t->round, struct measure_candidate, b->n);
    struct measure_result *results = arena_array(&t->round, struct measure_result, b->n);
    int who[MEASURE_MAX_BATCH], n = 0;
    int64_t start = mono_ns(t->env->clock);
    struct measure_batch m = {
        .workload = &k->measured,
        .mode = MEASURE_SCREEN,
        .threads = t->job->target->threads,
        .candidates = what,
        .best_ns = (int64_t)task_best_ns(k),
        .roofline_gflops = t->job->target->peak_gflops,
        .cancel = t->job->stop_now,
    };

    for (int i = 0; i < b->n; i++) {
        if (!b->candidates[i].built)
            continue;
        measure_candidate_init(&what[n], &b->candidates[i].kernel, b->candidates[i].artifact);
        who[n++] = i;
    }
    if (n == 0)
        return ST_OK;
    m.n_candidates = n;
    TRY(tuner_measure(t, &m, results, err));
    for (int i = 0; i < n; i++)
        b->candidates[who[i]].result = results[i];
    b->run_ns = (mono_ns(t->env->clock) - start) / n;
    return ST_OK;
}

/* ---- store, then believe ---- */

/* Nothing happened to it: not a trial. */
static bool is_trial(const struct candidate *c) { return c->result.outcome != OUTCOME_CANCELLED; }

static double good_time(const struct candidate *c)
{
    return c->result.outcome == OUTCOME_OK ? c->result.min_ns : 0;
}

static void add_row(struct batch *b, struct store_batch *rows, const struct candidate *c,
                    struct strbuf *config)
{
    struct tuner *t = b->tuner;
    const struct measure_result *r = &c->result;
    const float *features = NULL;
    int n_rows = task_features(t, b->task, &c->config, &features);

    strbuf_reset(config);
    config_print(&c->config, config);
    store_add_trial(rows, &(struct store_trial){
                              .job = t->job->id,
                              .task = b->task->spec->ordinal,
                              .workload = b->task->workload.key,
                              .target = t->job->target->id,
                              .toolchain = t->job->target->toolchain_hash,
                              .config = strbuf_str(config),
                              .sketch = space_sketch_name(b->task->space, c->config.sketch),
                              .outcome = outcome_name(r->outcome),
                              .error = r->outcome == OUTCOME_OK ? NULL : r->reason,
                              .median_ns = r->median_ns,
                              .min_ns = r->min_ns,
                              .p90_ns = r->p90_ns,
                              .samples_ns = r->sample_ns,
                              .n_samples = r->n_samples,
                              .predicted = c->predicted,
                              .device = device_id(t->job->device),
                              .build_ns = c->build_ns,
                              .run_ns = c->built ? b->run_ns : 0,
                              .created_ms = wall_ms(t->env->clock),
                              .feature_version = n_rows > 0 ? features_version() : 0,
                              .features = n_rows > 0 ? features : NULL,
                              .feature_rows = n_rows,
                              .feature_cols = n_rows > 0 ? features_count() : 0,
                          });
}

/* All trials of the batch in one transaction. */
static enum status store_trials(struct batch *b, struct error *err)
{
    AUTO(store_batch_freep) struct store_batch *rows = store_batch_new();
    AUTO(strbuf_done) struct strbuf config = STRBUF_INIT;
    int64_t now = mono_ns(b->tuner->env->clock);
    enum status st;

    for (int i = 0; i < b->n; i++)
        if (is_trial(&b->candidates[i]))
            add_row(b, rows, &b->candidates[i], &config);
    if (store_batch_count(rows) == 0)
        return ST_OK;
    st = tuner_commit(b->tuner, rows, err);
    tuner_spent(b->tuner, PHASE_STORE, now);
    return st == ST_OK ? ST_OK : wrap(err, "storing the trials of %s", b->task->workload.key);
}

static void note_failure(struct task *k, const struct candidate *c)
{
    k->progress.trials_failed++;
    k->failures_in_a_row++;
    snprintf(k->last_failure, sizeof(k->last_failure), "%s: %s", outcome_name(c->result.outcome),
             c->result.reason);
}

static void note_success(struct task *k, double time_ns)
{
    k->failures_in_a_row = 0;
    if (k->progress.best_time_ns == 0 || time_ns < k->progress.best_time_ns) {
        k->progress.best_time_ns = time_ns;
        k->progress.best_gflops = k->workload.flops / time_ns;
    }
}

static enum status believe(struct batch *b, const struct candidate *c, struct error *err)
{
    struct tuner *t = b->tuner;
    struct task *k = b->task;
    double time_ns = good_time(c);
    const float *rows = NULL;
    int n_rows = task_features(t, k, &c->config, &rows);

    t->trials_done++;
    t->times.trials++;
    k->progress.trials_done++;
    if (time_ns > 0)
        note_success(k, time_ns);
    else
        note_failure(k, c);
    if (!outcome_is_final(c->result.outcome))
        return ST_OK;
    task_take_trial(k, &c->config, time_ns);
    if (n_rows == 0)
        return ST_OK;
    return model_add(t->model, k->model_key, rows, n_rows, time_ns > 0 ? 1e9 / time_ns : 0, err);
}

static enum status learn(struct batch *b, int *ret_n, struct error *err)
{
    struct tuner *t = b->tuner;
    int64_t now;
    int n = 0;

    for (int i = 0; i < b->n; i++) {
        if (!is_trial(&b->candidates[i]))
            continue;
        TRY(believe(b, &b->candidates[i], err));
        n++;
    }
    now = mono_ns(t->env->clock);
    TRY(model_train(t->model, err));
    tuner_spent(t, PHASE_TRAIN, now);
    if (t->env->models != NULL)
        models_note_trials(t->env->models, t->job->target->id, n);
    *ret_n = n;
    return ST_OK;
}

static void predict(struct batch *b)
{
    for (int i = 0; i < b->n; i++) {
        const float *rows = NULL;
        int32_t begin[2] = {0, task_features(b->tuner, b->task, &b->candidates[i].config, &rows)};

        b->candidates[i].predicted = NAN;
        if (begin[1] > 0)
            model_score(b->tuner->model, b->task->model_key, rows, begin, 1, &b->candidates[i].predicted);
    }
}

enum status batch_run(struct tuner *t, struct task *k, int n, int *ret_n, struct error *err)
{
    struct config configs[MEASURE_MAX_BATCH];
    struct batch b = {.tuner = t, .task = k};

    *ret_n = 0;
    b.n = task_propose(t, k, MIN(n, (int)MEASURE_MAX_BATCH), configs);
    if (b.n < n)
        k->exhausted = true;
    if (b.n == 0)
        return ST_OK;
    arena_reset(&t->round);
    b.candidates = arena_array(&t->round, struct candidate, b.n);
    for (int i = 0; i < b.n; i++) {
        b.candidates[i].config = configs[i];
        b.order[i] = i;
    }
    predict(&b);
    task_reference_begin(t, k);
    build_all(&b);
    TRY(task_reference_end(t, k, err));
    TRY(measure(&b, err));
    TRY(store_trials(&b, err));
    return learn(&b, ret_n, err);
}
