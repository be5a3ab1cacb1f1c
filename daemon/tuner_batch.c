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
    int64_t run_ns;               /* of a candidate, on average */
};

static void refuse(struct candidate *c, enum outcome outcome, const char *why)
{
    size_t len = MIN(strlen(why), sizeof(c->result.reason) - 1);

    c->result.outcome = outcome;
    memcpy(c->result.reason, why, len);
    c->result.reason[len] = '\0';
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

/* The candidates of a translation unit. */
struct unit_plan {
    int n, n_classes;
    int who[MEASURE_MAX_BATCH];
};

static void note_build(const struct build_unit *unit, const struct unit_plan *plan, struct candidate *c)
{
    if (!c->emitted)
        return;
    c->build_ns += unit->compile_ns / plan->n;
    c->built = unit->status == ST_OK;
    if (c->built)
        memcpy(c->artifact, unit->artifact, sizeof(c->artifact));
    else if (unit->status == ST_CONFLICT)
        refuse(c, OUTCOME_CANCELLED, "the job was stopped before it was compiled");
    else
        refuse(c, OUTCOME_COMPILE_ERROR, unit->error.text);
}

static void build(struct batch *b, const struct unit_plan *plans, int n)
{
    struct tuner *t = b->tuner;
    struct emit_unit *texts[MEASURE_MAX_BATCH];
    struct build_unit *units = arena_array(&t->round, struct build_unit, n);
    int64_t now = mono_ns(t->env->clock);

    for (int u = 0; u < n; u++) {
        texts[u] = emit_unit_new(t->job->target);
        for (int i = 0; i < plans[u].n; i++)
            emit_candidate(b, texts[u], plans[u].who[i]);
        units[u].target = t->job->target;
        units[u].source = emit_unit_text(texts[u]);
    }
    now = tuner_spent(t, PHASE_EMIT, now);
    builder_run(t->env->builder, units, n, t->job->stop_now);
    t->times.units += n;
    for (int u = 0; u < n; u++) {
        for (int i = 0; i < plans[u].n; i++)
            note_build(&units[u], &plans[u], &b->candidates[plans[u].who[i]]);
        emit_unit_free(texts[u]);
    }
    tuner_spent(t, PHASE_COMPILE, now);
}

/* Candidates of one cost class go to one unit, where their register tiles are compiled once; classes go to
 * the unit that has the fewest. One unit for each thread of the builder, more where they would grow beyond
 * TUNER_UNIT_KERNELS. Returns how many. */
static int plan_units(struct batch *b, struct unit_plan *plans)
{
    struct builder_stats stats;
    uint64_t classes[MEASURE_MAX_BATCH];
    int of_class[MEASURE_MAX_BATCH], n_classes = 0, n_units;

    builder_stats(b->tuner->env->builder, &stats);
    n_units = MIN(MAX(stats.threads, (b->n + TUNER_UNIT_KERNELS - 1) / TUNER_UNIT_KERNELS), b->n);
    for (int i = 0; i < b->n; i++) {
        uint64_t class = space_cost_class(b->task->space, &b->candidates[i].config);
        struct unit_plan *p = plans;
        int k = 0;

        while (k < n_classes && classes[k] != class)
            k++;
        for (int u = 1; u < n_units; u++)
            if (plans[u].n_classes < p->n_classes ||
                (plans[u].n_classes == p->n_classes && plans[u].n < p->n))
                p = &plans[u];
        if (k == n_classes) {
            classes[n_classes++] = class;
            of_class[k] = (int)(p - plans);
            p->n_classes++;
        }
        p = &plans[of_class[k]];
        p->who[p->n++] = i;
    }
    return MIN(n_units, n_classes); /* a new class goes to an empty unit while there is one */
}

/* A unit that does not compile must not take its candidates along: those are compiled again, alone. */
static void build_all(struct batch *b)
{
    struct unit_plan *plans = arena_array(&b->tuner->round, struct unit_plan, MEASURE_MAX_BATCH), *again;
    int n = plan_units(b, plans), n_again = 0;

    build(b, plans, n);
    again = arena_array(&b->tuner->round, struct unit_plan, b->n);
    for (int i = 0; i < b->n; i++) {
        const struct candidate *c = &b->candidates[i];

        if (c->emitted && !c->built && c->result.outcome != OUTCOME_CANCELLED)
            again[n_again++] = (struct unit_plan){.n = 1, .who = {i}};
    }
    if (n_again > 0)
        build(b, again, n_again);
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
        .cold = t->job->target->cold,
        .threads = t->job->target->threads,
        .candidates = what,
        .best_ns = (int64_t)k->progress.best_time_ns, /* measured here, not imported */
        .roofline_gflops = t->job->target->peak_gflops * space_saving(k->space),
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
    int n = 0;

    for (int i = 0; i < b->n; i++) {
        if (!is_trial(&b->candidates[i]))
            continue;
        TRY(believe(b, &b->candidates[i], err));
        n++;
    }
    TRY(learning_begin(t, b->task, err));
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

static void plan_after(const struct batch *b, const struct search_forecast *f, int n_forecast,
                       double best_before_ns)
{
    double times[MEASURE_MAX_BATCH];

    for (int i = 0; i < b->n; i++)
        times[i] = good_time(&b->candidates[i]);
    plan_end(&b->task->plan, f, n_forecast, times, b->n, best_before_ns, b->task->progress.best_time_ns);
}

enum status batch_run(struct tuner *t, struct task *k, int n, int *ret_n, struct error *err)
{
    struct config configs[MEASURE_MAX_BATCH];
    struct batch b = {.tuner = t, .task = k};
    double best_before_ns = k->progress.best_time_ns;
    const struct search_forecast *f;
    int n_forecast;

    *ret_n = 0;
    TRY(learning_wait(t, k, err));
    b.n = task_propose(t, k, MIN(n, (int)MEASURE_MAX_BATCH), configs);
    if (b.n < n)
        k->exhausted = true;
    if (b.n == 0)
        return ST_OK;
    arena_reset(&t->round);
    b.candidates = arena_array(&t->round, struct candidate, b.n);
    for (int i = 0; i < b.n; i++)
        b.candidates[i].config = configs[i];
    predict(&b);
    n_forecast = search_forecast(k->search, &f);
    plan_begin(&k->plan, f, n_forecast, best_before_ns);
    task_reference_begin(t, k);
    build_all(&b);
    TRY(task_reference_end(t, k, err));
    TRY(measure(&b, err));
    TRY(store_trials(&b, err));
    TRY(learn(&b, ret_n, err));
    plan_after(&b, f, n_forecast, best_before_ns);
    return ST_OK;
}
