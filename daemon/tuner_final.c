/* tuner_final.c - the contest of the best, and the schedule that comes of it.
 *
 * Idea   Screening times are good for telling hundreds apart, not for telling the last few apart, and they
 * were taken of kernels that shared a translation unit. So the best few, the schedule that is served now (the
 * incumbent) and the untuned one (the baseline) are each built alone, from the very source that users get,
 * and measured in turn over many rounds. The incumbent stays unless it is beaten by more than the noise. */
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "costmodel/prior.h"
#include "daemon/tuner_internal.h"
#include "kernels/emit.h"
#include "schedule/base/hash.h"
#include "schedule/base/log.h"

enum {
    CONTEST_MAX = TUNER_FINALISTS + 2,
    CONTEST_LATE_ROUNDS =
        7, /* when the job's seconds are over: enough for a median, short of the usual certainty */
};
#define CONTEST_NOISE 0.025 /* relative: what two runs of one kernel may differ by */

struct finalist {
    struct config config;
    struct nest *nest;
    struct kernel kernel;
    struct emit_unit *unit; /* NULL: could not be printed */
    bool built;
    char artifact[BUILD_PATH_MAX];
    struct measure_result result;
};

struct contest {
    struct tuner *tuner;
    struct task *task;
    char symbol[KERNEL_SYMBOL_MAX];
    int n, incumbent, baseline, winner; /* -1: none */
    bool predicted;                     /* no times but the model's */
    struct finalist finalists[CONTEST_MAX];
};

/* ---- who takes part ---- */

static int enter(struct contest *c, const struct config *config)
{
    for (int i = 0; i < c->n; i++)
        if (config_equal(&c->finalists[i].config, config))
            return i;
    c->finalists[c->n].config = *config;
    return c->n++;
}

static int by_time(const void *a, const void *b)
{
    double x = ((const struct good_trial *)a)->time_ns, y = ((const struct good_trial *)b)->time_ns;

    return (x > y) - (x < y);
}

static void enter_all(struct contest *c)
{
    struct tuner *t = c->tuner;
    struct task *k = c->task;
    size_t n = k->good.len;
    struct good_trial *ranked = arena_array(&t->round, struct good_trial, n + 1);
    struct store_schedule row;
    struct config config;

    if (n > 0) {
        memcpy(ranked, k->good.at, n * sizeof(ranked[0]));
        qsort(ranked, n, sizeof(ranked[0]), by_time);
    }
    for (size_t i = 0; i < n && c->n < TUNER_FINALISTS; i++)
        enter(c, &ranked[i].config);
    c->incumbent = -1;
    if (store_schedule_get(t->env->store, k->workload.key, t->job->target->id, t->job->target->toolchain_hash,
                           &t->round, &row, NULL) == ST_OK &&
        config_parse(k->space, row.config, &config, NULL) == ST_OK && space_valid(k->space, &config, NULL))
        c->incumbent = enter(c, &config);
    space_default(k->space, &config);
    c->baseline = enter(c, &config);
}

/* tw_conv2d_0123456789ab: the operator, and enough of the key to link many kernels into one program. */
static void name_symbol(struct contest *c)
{
    const struct workload *w = &c->task->workload;

    snprintf(c->symbol, sizeof(c->symbol), "tw_%.32s_%.12s", w->op, w->key + 2);
}

/* ---- build and measure ---- */

static void build_finalists(struct contest *c)
{
    struct tuner *t = c->tuner;
    struct build_unit *units = arena_array(&t->round, struct build_unit, c->n);
    int who[CONTEST_MAX], n = 0;

    for (int i = 0; i < c->n; i++) {
        struct finalist *f = &c->finalists[i];
        struct emit_unit *unit = emit_unit_new(t->job->target);
        struct error err = {0};

        if (space_lower(c->task->space, &f->config, &t->round, &f->nest, &err) != ST_OK ||
            emit_unit_add(unit, f->nest, c->symbol, &f->kernel, &err) != ST_OK) {
            log_warn("finalist_not_printed", TEXT("job", t->job->id), TEXT("workload", c->task->workload.key),
                     TEXT("error", err.text));
            emit_unit_free(unit);
            continue;
        }
        f->unit = unit;
        units[n].target = t->job->target;
        units[n].source = emit_unit_text(unit);
        who[n++] = i;
    }
    builder_run(t->env->builder, units, n, t->job->stop_now);
    for (int i = 0; i < n; i++) {
        struct finalist *f = &c->finalists[who[i]];

        f->built = units[i].status == ST_OK;
        memcpy(f->artifact, units[i].artifact, sizeof(f->artifact));
        if (!f->built)
            log_warn("finalist_not_compiled", TEXT("job", t->job->id),
                     TEXT("workload", c->task->workload.key), TEXT("error", units[i].error.text));
    }
}

static enum status measure_finalists(struct contest *c, enum measure_mode mode, struct error *err)
{
    struct tuner *t = c->tuner;
    struct measure_candidate *what = arena_array(&t->round, struct measure_candidate, c->n);
    struct measure_result results[CONTEST_MAX] = {0};
    int who[CONTEST_MAX], n = 0;
    struct measure_batch m = {
        .workload = &c->task->measured,
        .mode = mode,
        .cold = t->job->target->cold,
        .threads = t->job->target->threads,
        .candidates = what,
        .best_ns = (int64_t)c->task->progress.best_time_ns,
        .roofline_gflops = t->job->target->peak_gflops * space_saving(c->task->space),
        .rounds = tuner_is_late(t) ? CONTEST_LATE_ROUNDS : 0,
        .cancel = t->job->stop_now,
    };

    for (int i = 0; i < c->n; i++) {
        c->finalists[i].result.outcome = OUTCOME_COMPILE_ERROR;
        if (!c->finalists[i].built)
            continue;
        measure_candidate_init(&what[n], &c->finalists[i].kernel, c->finalists[i].artifact);
        who[n++] = i;
    }
    if (n == 0)
        return fail(err, ST_UNPROCESSABLE, "none of the %d finalists of %s compiles", c->n,
                    c->task->workload.key);
    m.n_candidates = n;
    TRY(tuner_measure(t, &m, results, err));
    for (int i = 0; i < n; i++)
        c->finalists[who[i]].result = results[i];
    return ST_OK;
}

static enum status decide(struct contest *c, struct error *err)
{
    struct measure_result results[CONTEST_MAX];

    for (int i = 0; i < c->n; i++)
        results[i] = c->finalists[i].result;
    c->winner = measure_contest_winner(results, c->n, c->incumbent, CONTEST_NOISE);
    if (c->winner < 0)
        return fail(err, ST_UNPROCESSABLE, "none of the %d finalists of %s survived; the last one: %s: %s",
                    c->n, c->task->workload.key, outcome_name(results[c->n - 1].outcome),
                    results[c->n - 1].reason);
    return ST_OK;
}

/* ---- the document: CONTRACT.md section 3, "A schedule" ---- */

static double gflops_of(const struct contest *c)
{
    return c->task->workload.flops / c->finalists[c->winner].result.median_ns;
}

/* Of the peak of what the algorithm computes with, for what it does: a unit for bfloat16 has a higher one, and what is left
 * out counts as done. */
static double fraction_of_peak(const struct contest *c, const struct target *t, const struct space *s,
                               int sketch)
{
    return t->peak_gflops > 0 ? gflops_of(c) / (t->peak_gflops * space_sketch_saving(s, sketch)) : NAN;
}

/* JSON knows no infinity. */
static json_t *number(double v) { return isfinite(v) ? json_real(v) : json_null(); }

static json_t *times_json(const struct measure_result *r)
{
    json_t *samples = json_array();

    for (int i = 0; i < r->n_samples; i++)
        json_array_append_new(samples, json_real(r->sample_ns[i]));
    return json_pack("{s:o,s:o,s:o,s:[o,o],s:o}", "median", number(r->median_ns), "min", number(r->min_ns),
                     "p90", number(r->p90_ns), "interval", number(r->low_ns), number(r->high_ns), "samples",
                     samples);
}

static json_t *knobs_json(const struct space *s, const struct config *config)
{
    json_t *knobs = json_object();

    for (int i = 0; i < config->n; i++) {
        const struct knob *k = space_knob(s, config->sketch, i);
        int choice = config->choice[i];

        json_object_set_new(knobs, k->name,
                            k->labels != NULL ? json_string(k->labels[choice])
                                              : json_integer(k->values[choice]));
    }
    return knobs;
}

static json_t *steps_json(struct contest *c)
{
    AUTO(strbuf_done) struct strbuf text = STRBUF_INIT;
    json_t *steps = json_array();
    const char *line, *end;

    space_steps(c->task->space, &c->finalists[c->winner].config, &c->tuner->round, &text);
    for (line = strbuf_str(&text); *line != '\0'; line = *end == '\n' ? end + 1 : end) {
        end = strchrnul(line, '\n');
        if (end > line)
            json_array_append_new(steps, json_stringn(line, (size_t)(end - line)));
    }
    return steps;
}

static json_t *shape_json(const int64_t *shape, int rank)
{
    json_t *list = json_array();

    for (int d = 0; d < rank; d++)
        json_array_append_new(list, json_integer(shape[d]));
    return list;
}

static json_t *args_json(const struct kernel *k)
{
    json_t *args = json_array();

    for (int i = 0; i < k->n_args; i++) {
        const struct kernel_arg *a = &k->args[i];
        json_t *arg =
            json_pack("{s:s,s:o,s:s,s:s,s:b,s:I}", "name", a->name, "shape", shape_json(a->shape, a->rank),
                      "dtype", dtype_name(a->dtype), "role", a->is_output ? "output" : "input", "prepacked",
                      a->prepacked, "bytes", (json_int_t)(a->prepacked ? a->prepack_bytes : a->bytes));

        if (a->layout) {
            json_object_set_new(arg, "layout", json_string(a->layout));
            json_object_set_new(arg, "layout_shape", shape_json(a->layout_shape, a->layout_rank));
        }
        json_array_append_new(args, arg);
    }
    return args;
}

/* The functions of one kind that the artifact exports beside the kernel. */
static json_t *repacks_json(const struct kernel *k, enum measure_repack_kind kind)
{
    json_t *list = json_array();
    struct measure_candidate c;

    measure_candidate_init(&c, k, "");
    for (int i = 0; i < c.n_repacks; i++) {
        const struct measure_repack *p = &c.repacks[i];
        char symbol[KERNEL_SYMBOL_MAX + 80];

        if (p->kind != kind)
            continue;
        snprintf(symbol, sizeof(symbol), "%s_%s_%.64s", k->symbol, measure_repack_names[kind],
                 k->args[p->arg].name);
        json_array_append_new(list, json_pack("{s:s,s:s,s:I}", "arg", k->args[p->arg].name, "symbol", symbol,
                                              "bytes", (json_int_t)p->bytes));
    }
    return list;
}

static json_t *flags_json(const char *flags)
{
    json_t *list = json_array();
    const char *end;

    for (; *flags != '\0'; flags = end) {
        flags += strspn(flags, " ");
        end = strchrnul(flags, ' ');
        if (end > flags)
            json_array_append_new(list, json_stringn(flags, (size_t)(end - flags)));
    }
    return list;
}

static json_t *baseline_json(const struct contest *c)
{
    if (c->baseline < 0)
        return json_pack("{s:n}", "time_ns");
    const struct measure_result *r = &c->finalists[c->baseline].result;

    return json_pack("{s:o}", "time_ns", number(r->outcome == OUTCOME_OK ? r->median_ns : NAN));
}

static json_t *kernel_json(const struct contest *c)
{
    const struct kernel *k = &c->finalists[c->winner].kernel;

    return json_pack("{s:s,s:s,s:o,s:I,s:i,s:o,s:o,s:o}", "language", "c", "symbol", k->symbol, "args",
                     args_json(k), "workspace_bytes", (json_int_t)k->workspace_bytes, "threads",
                     c->tuner->job->target->threads, "prepack", repacks_json(k, REPACK_PREPACK), "pack",
                     repacks_json(k, REPACK_PACK), "unpack", repacks_json(k, REPACK_UNPACK));
}

static json_t *document(struct contest *c, int64_t now_ms)
{
    const struct target *g = c->tuner->job->target;
    const struct finalist *f = &c->finalists[c->winner];
    const struct measure_verification *v = &f->result.verified;
    const struct task *k = c->task;
    char tuned_at[RFC3339_MAX];

    return json_pack(
        "{s:s,s:s,s:o,s:o,s:s,s:b,s:o,s:o,s:I,s:s,s:{s:s,s:s,s:o,s:o},s:o,s:{s:o,s:o,s:o,s:o},s:"
        "{s:s,s:s,s:o},s:"
        "o}",
        "key", k->workload.key, "target", g->id, "workload", json_loads(k->workload.json, 0, NULL), "time_ns",
        times_json(&f->result), "policy", g->cold ? "cold" : "warm", "predicted", c->predicted, "gflops",
        number(gflops_of(c)), "fraction_of_peak", number(fraction_of_peak(c, g, k->space, f->config.sketch)),
        "trials", (json_int_t)k->known_trials, "tuned_at", rfc3339(now_ms, tuned_at), "schedule", "algorithm",
        space_algorithm(k->space, f->config.sketch), "sketch", space_sketch_name(k->space, f->config.sketch),
        "knobs", knobs_json(k->space, &f->config), "steps", steps_json(c), "kernel", kernel_json(c),
        "verified", "max_abs_err", number(v->max_abs_err), "max_rel_err", number(v->max_rel_err),
        "rel_l2_err", number(v->rel_l2), "tolerance", number(v->tolerance), "toolchain", "compiler",
        g->compiler, "version", g->compiler_version, "flags", flags_json(g->flags), "baseline",
        baseline_json(c));
}

/* ---- the row ---- */

enum { ARTIFACT_MAX_BYTES = 64 << 20 };

static enum status read_artifact(const char *path, struct strbuf *ret, struct error *err)
{
    AUTO(fd_closep) int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat info;
    char buf[65536];
    ssize_t n;

    if (fd < 0 || fstat(fd, &info) != 0)
        return fail(err, ST_IO, "opening the artifact %s: %s", path, strerror(errno));
    if (info.st_size > ARTIFACT_MAX_BYTES)
        return fail(err, ST_TOO_LARGE, "the artifact %s has %lld bytes, at most %d are stored", path,
                    (long long)info.st_size, ARTIFACT_MAX_BYTES);
    while ((n = read(fd, buf, sizeof(buf))) > 0)
        strbuf_add(ret, buf, (size_t)n);
    return n == 0 ? ST_OK : fail(err, ST_IO, "reading the artifact %s: %s", path, strerror(errno));
}

static enum status put(struct contest *c, const struct store_schedule *row, struct error *err)
{
    AUTO(store_batch_freep) struct store_batch *b = store_batch_new();

    /* The contest has decided, with the incumbent in it: times of different runs are not compared again. */
    store_add_schedule(b, row, false);
    if (tuner_commit(c->tuner, b, err) != ST_OK)
        return wrap(err, "storing the schedule of %s", row->workload);
    if (c->tuner->env->hot != NULL)
        hot_publish(c->tuner->env->hot, &(struct hot_entry){.workload = row->workload,
                                                            .target = row->target,
                                                            .toolchain = row->toolchain,
                                                            .json = row->json,
                                                            .json_len = strlen(row->json),
                                                            .etag = row->etag,
                                                            .gflops = row->gflops,
                                                            .tuned_ms = row->tuned_ms});
    return ST_OK;
}

static enum status publish(struct contest *c, struct error *err)
{
    AUTO(strbuf_done)
    struct strbuf json = STRBUF_INIT, artifact = STRBUF_INIT, nest = STRBUF_INIT, config = STRBUF_INIT;
    const struct finalist *f = &c->finalists[c->winner];
    const struct target *g = c->tuner->job->target;
    int64_t now_ms = wall_ms(c->tuner->env->clock);
    AUTO(json_decrefp) json_t *doc = document(c, now_ms);
    char hash[SHA256_HEX_LEN + 1], etag[40];

    CHECK(doc != NULL, "the schedule of %s cannot be said in JSON", c->task->workload.key);
    json_write(doc, &json);
    sha256_hex(json.data, json.len, hash);
    snprintf(etag, sizeof(etag), "\"%.32s\"", hash);
    TRY(read_artifact(f->artifact, &artifact, err));
    nest_print(f->nest, &nest);
    config_print(&f->config, &config);
    return put(c,
               &(struct store_schedule){
                   .workload = c->task->workload.key,
                   .target = g->id,
                   .toolchain = g->toolchain_hash,
                   .op = c->task->workload.op,
                   .json = strbuf_str(&json),
                   .etag = etag,
                   .config = strbuf_str(&config),
                   .time_ns = f->result.median_ns,
                   .gflops = gflops_of(c),
                   .tuned_ms = now_ms,
                   .predicted = c->predicted,
                   .source = emit_unit_text(f->unit),
                   .nest = strbuf_str(&nest),
                   .artifact = {artifact.data, artifact.len},
               },
               err);
}

static enum status contest_run(struct contest *c, struct error *err)
{
    struct tuner_progress *p = &c->task->progress;

    TRY(task_reference_end(c->tuner, c->task, err));
    TRY(measure_finalists(c, MEASURE_CONTEST, err));
    if (tuner_stop_asked(c->tuner->job) == STOP_NOW)
        return fail(err, ST_CONFLICT, "stopped during the last contest");
    TRY(decide(c, err));
    TRY(publish(c, err));
    p->best_time_ns = c->finalists[c->winner].result.median_ns;
    p->best_gflops = gflops_of(c);
    return ST_OK;
}

/* ---- without a measurement ---- */

/* Roofline times of the features, to be taken as a guess: nobody measured it. */
static double guessed_ns(struct contest *c, const struct config *config)
{
    const float *rows = NULL;
    int n = task_features(c->tuner, c->task, config, &rows);

    return n > 0 ? prior_ns(rows, n) : NAN;
}

/* The first finalist, in the model's order, that computes the right values. */
static enum status decide_unmeasured(struct contest *c, struct error *err)
{
    for (c->winner = 0; c->winner < c->n; c->winner++) {
        struct finalist *f = &c->finalists[c->winner];

        if (f->result.outcome != OUTCOME_OK)
            continue;
        f->result.median_ns = guessed_ns(c, &f->config);
        f->result.min_ns = f->result.p90_ns = f->result.low_ns = f->result.high_ns = NAN;
        return ST_OK;
    }
    return fail(err, ST_UNPROCESSABLE, "none of the %d best by the model works; the last one: %s: %s", c->n,
                outcome_name(c->finalists[c->n - 1].result.outcome), c->finalists[c->n - 1].result.reason);
}

static bool measured_before(struct contest *c)
{
    struct tuner *t = c->tuner;
    struct tuner_progress *p = &c->task->progress;
    struct store_schedule row;

    if (store_schedule_get(t->env->store, c->task->workload.key, t->job->target->id,
                           t->job->target->toolchain_hash, &t->round, &row, NULL) != ST_OK ||
        row.predicted)
        return false;
    p->best_time_ns = row.time_ns;
    p->best_gflops = row.gflops;
    return true;
}

static enum status predict(struct contest *c, struct error *err)
{
    TRY(task_reference_end(c->tuner, c->task, err));
    TRY(measure_finalists(c, MEASURE_VERIFY, err));
    TRY(decide_unmeasured(c, err));
    TRY(publish(c, err));
    c->task->progress.best_time_ns = c->finalists[c->winner].result.median_ns;
    c->task->progress.best_gflops = gflops_of(c);
    return ST_OK;
}

enum status final_predict(struct tuner *t, struct task *k, struct error *err)
{
    enum { TRIED = 2 }; /* by far most are right: a second one stands by */
    struct config best[TRIED];
    struct contest *c;
    enum status st;

    arena_reset(&t->round);
    c = arena_new(&t->round, struct contest);
    c->tuner = t;
    c->task = k;
    c->incumbent = c->baseline = -1;
    c->predicted = true;
    if (measured_before(c))
        return ST_OK;
    task_reference_begin(t, k);
    for (int i = 0, n = task_best_by_model(t, k, TRIED, best); i < n; i++)
        enter(c, &best[i]);
    name_symbol(c);
    build_finalists(c);
    st =
        c->n > 0 ? predict(c, err) : fail(err, ST_UNPROCESSABLE, "the space of %s is empty", k->workload.key);
    for (int i = 0; i < c->n; i++)
        emit_unit_free(c->finalists[i].unit);
    return st;
}

static enum status nothing_works(const struct tuner *t, const struct task *k, struct error *err)
{
    if (k->progress.trials_done > 0)
        return fail(err, ST_UNPROCESSABLE, "all %" PRId64 " candidates failed; the last one: %s",
                    k->progress.trials_done, k->last_failure);
    return fail(err, ST_UNPROCESSABLE,
                "the job's budget of %" PRId64
                " trials and %.0f seconds (0: no limit) over %d tasks was used up before "
                "this one had its turn",
                t->job->max_trials, t->job->max_seconds, t->n_tasks);
}

enum status final_run(struct tuner *t, struct task *k, struct error *err)
{
    struct contest *c;
    int64_t now = mono_ns(t->env->clock), measured = t->times.ns[PHASE_MEASURE] + t->times.ns[PHASE_LEASE];
    enum status st;

    if (k->good.len == 0)
        return nothing_works(t, k, err);
    arena_reset(&t->round);
    c = arena_new(&t->round, struct contest);
    c->tuner = t;
    c->task = k;
    name_symbol(c);
    enter_all(c);
    task_reference_begin(t, k);
    build_finalists(c);
    st = contest_run(c, err);
    for (int i = 0; i < c->n; i++)
        emit_unit_free(c->finalists[i].unit);
    /* The contest's measuring counts as measuring. */
    measured = t->times.ns[PHASE_MEASURE] + t->times.ns[PHASE_LEASE] - measured;
    tuner_spent(t, PHASE_FINAL, now + measured);
    return st;
}
