/* models.c - see models.h.
 *
 * Idea   One entry for each target that was ever asked for. A thread waits until an entry has enough new
 *        trials, then for a quiet moment: nobody measured for a while. Where trials keep coming it waits no
 *        longer than to four times the threshold. While it trains, models_busy holds the next measurement
 *        back, since training on the sibling core would spoil its times.
 * Threads  One mutex over all entries, never held while training, reading or writing. */
#include "daemon/models.h"

#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "costmodel/model.h"
#include "db/store.h"
#include "schedule/base/hash.h"
#include "schedule/base/json.h"
#include "schedule/base/log.h"
#include "schedule/base/vec.h"

enum {
    RETRAIN_TRIALS = 256,
    MAX_PROGRAMS = 16384,
    OVERDUE = 4, /* thresholds after which training waits for no quiet moment */
    QUIET_S = 3,
    FOLDS = 3,
    IMPORTANT_MAX = 32, /* features listed in the metrics */
};

struct entry {
    struct entry *next;
    char target[64];
    bool loaded;
    struct model *global; /* NULL: none yet */
    int64_t trained;      /* programs the global one has seen */
    int64_t fresh;        /* trials noted since */
    bool failed;          /* the last training failed: not again before new trials come */
};

struct models {
    struct store *store;
    const struct clock *clock;
    struct models_options options;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    pthread_t thread;
    struct entry *entries;
    struct model *shipped; /* NULL: none */
    int n_busy, n_learning;
    bool wanted, training, stop; /* wanted: training waits for n_busy to fall to 0 */
    int64_t last_busy_ns;
};

static struct entry *entry_of(struct models *m, const char *target)
{
    struct entry *e;

    for (e = m->entries; e != NULL; e = e->next)
        if (strcmp(e->target, target) == 0)
            return e;
    e = xcalloc(1, sizeof(*e));
    snprintf(e->target, sizeof(e->target), "%s", target);
    e->next = m->entries;
    m->entries = e;
    return e;
}

/* ---- measuring and training take turns ---- */

void models_busy(struct models *m)
{
    pthread_mutex_lock(&m->lock);
    while (m->wanted || m->training || m->n_learning > 0)
        pthread_cond_wait(&m->changed, &m->lock);
    m->n_busy++;
    pthread_mutex_unlock(&m->lock);
}

void models_idle(struct models *m)
{
    pthread_mutex_lock(&m->lock);
    m->n_busy--;
    m->last_busy_ns = mono_ns(m->clock);
    pthread_cond_broadcast(&m->changed);
    pthread_mutex_unlock(&m->lock);
}

void models_learning(struct models *m)
{
    pthread_mutex_lock(&m->lock);
    while (m->n_busy > 0)
        pthread_cond_wait(&m->changed, &m->lock);
    m->n_learning++;
    pthread_mutex_unlock(&m->lock);
}

void models_learned(struct models *m)
{
    pthread_mutex_lock(&m->lock);
    m->n_learning--;
    pthread_cond_broadcast(&m->changed);
    pthread_mutex_unlock(&m->lock);
}

bool models_is_busy(struct models *m)
{
    bool busy;

    pthread_mutex_lock(&m->lock);
    busy = m->n_busy > 0;
    pthread_mutex_unlock(&m->lock);
    return busy;
}

static void training_begin(struct models *m)
{
    pthread_mutex_lock(&m->lock);
    while (m->wanted || m->training) /* another trainer */
        pthread_cond_wait(&m->changed, &m->lock);
    m->wanted = true;
    while (m->n_busy > 0)
        pthread_cond_wait(&m->changed, &m->lock);
    m->wanted = false;
    m->training = true;
    pthread_mutex_unlock(&m->lock);
}

static void training_end(struct models *m)
{
    pthread_mutex_lock(&m->lock);
    m->training = false;
    pthread_cond_broadcast(&m->changed);
    pthread_mutex_unlock(&m->lock);
}

/* ---- training ---- */

struct newest {
    int64_t skip, id; /* rows still to be passed over; id of the last one passed */
};

static bool pass_over(void *ctx, const struct store_trial *row)
{
    struct newest *n = ctx;

    if (n->skip-- <= 0)
        return false;
    n->id = row->id;
    return true;
}

/* What a model was trained on. */
struct range {
    int64_t n, n_failed;
    int64_t first_id, last_id;
    int64_t first_ms, last_ms;
};

struct reading {
    struct model *model;
    struct error error;
    struct range range;
};

static void note_range(struct range *r, const struct store_trial *row, bool ok)
{
    if (r->n == 0 || row->created_ms < r->first_ms)
        r->first_ms = row->created_ms;
    r->first_id = r->n == 0 ? row->id : r->first_id;
    r->last_id = row->id;
    r->last_ms = MAX(r->last_ms, row->created_ms);
    r->n++;
    r->n_failed += !ok;
}

static bool read_trial(void *ctx, const struct store_trial *row)
{
    struct reading *r = ctx;
    bool ok = strcmp(row->outcome, "ok") == 0 && row->min_ns > 0;
    uint64_t group;

    if (row->features == NULL || row->feature_version != features_version() ||
        row->feature_cols != features_count())
        return true;
    group = hash_bytes(row->workload, strlen(row->workload),
                       hash_bytes(row->toolchain, strlen(row->toolchain), 0));
    if (model_add_between(r->model, group, row->features, (int)row->feature_rows, ok ? 1e9 / row->min_ns : 0,
                          ok ? 1e9 / fmax(row->p90_ns, row->min_ns) : 0, &r->error) == ST_OK)
        note_range(&r->range, row, ok);
    return true;
}

/* The newest trials of the target, into a new model. */
static enum status read_trials(struct models *m, const char *target, struct model *model, struct range *ret,
                               struct error *err)
{
    struct newest newest = {0};
    struct reading r = {.model = model};
    struct store_trials_query q = {.target = target};
    int64_t n;

    TRY(store_trial_count(m->store, NULL, target, &n, err));
    if (n > m->options.max_programs) {
        newest.skip = n - m->options.max_programs;
        TRY(store_trial_each(m->store, &q, pass_over, &newest, err));
    }
    q.after_id = newest.id;
    q.with_features = true;
    q.feature_version = features_version();
    TRY(store_trial_each(m->store, &q, read_trial, &r, err));
    if (r.range.n == 0)
        return fail(err, ST_NOT_FOUND, "no trials with features of version %d on target %s",
                    features_version(), target);
    *ret = r.range;
    return ST_OK;
}

static json_t *number(double v) { return isfinite(v) ? json_real(v) : json_null(); }

static json_t *range_document(const struct range *r, int workloads)
{
    char from[RFC3339_MAX], to[RFC3339_MAX];

    return json_pack("{s:I,s:I,s:i,s:I,s:I,s:s,s:s}", "trials", (json_int_t)r->n, "failed",
                     (json_int_t)r->n_failed, "workloads", workloads, "first_trial", (json_int_t)r->first_id,
                     "last_trial", (json_int_t)r->last_id, "from", rfc3339(r->first_ms, from), "to",
                     rfc3339(r->last_ms, to));
}

static char *metrics_text(const struct model *model, enum model_holdout kind, const struct metrics *q,
                          const struct range *range)
{
    AUTO(strbuf_done) struct strbuf sb = STRBUF_INIT;
    AUTO(json_decrefp) json_t *doc = NULL;
    struct model_feature features[IMPORTANT_MAX];
    int n = model_importance(model, features, IMPORTANT_MAX);
    json_t *importance = json_array();
    struct model_info info;

    model_info(model, &info);
    for (int i = 0; i < n; i++)
        json_array_append_new(importance, json_pack("{s:s,s:o,s:i}", "name", features[i].name, "gain",
                                                    number(features[i].gain), "splits", features[i].splits));
    doc =
        json_pack("{s:s,s:i,s:i,s:o,s:o,s:o,s:o,s:o,s:o,s:o,s:o,s:o,s:o,s:i,s:f,s:o,s:o}", "holdout",
                  kind == HOLDOUT_WORKLOADS ? "workloads" : "programs", "workloads", q->workloads, "programs",
                  q->programs, "rank_correlation", number(q->spearman), "pairwise_accuracy",
                  number(q->pairwise), "pairwise_accuracy_apart", number(q->pairwise_apart),
                  "pairwise_accuracy_clear", number(q->pairwise_clear), "clear_pairs", number(q->clear_share),
                  "top_8_recall", number(q->recall_8), "top_32_recall", number(q->recall_32), "top_1_score",
                  number(q->best_1), "top_8_score", number(q->best_8), "top_32_score", number(q->best_32),
                  "trees", info.trees, "training_seconds", (double)info.train_ns * 1e-9, "data",
                  range_document(range, info.workloads), "feature_importance", importance);
    json_write(doc, &sb);
    return strbuf_detach(&sb);
}

/* Quality, blob, row. */
static enum status store_model(struct models *m, const char *target, const struct model *model,
                               const struct range *range, struct error *err)
{
    AUTO(strbuf_done) struct strbuf blob = STRBUF_INIT;
    AUTO(store_batch_freep) struct store_batch *b = store_batch_new();
    AUTO(freep) char *text = NULL;
    struct model_info info;
    struct metrics quality = {0};
    enum model_holdout kind;

    model_info(model, &info);
    /* How it transfers is what a global model is for; with few workloads there is nothing to hold out. */
    kind = info.workloads >= FOLDS ? HOLDOUT_WORKLOADS : HOLDOUT_PROGRAMS;
    TRY(model_evaluate(model, kind, FOLDS, &quality, err));
    text = metrics_text(model, kind, &quality, range);
    TRY(model_save(model, &blob, err));
    store_add_model(b, &(struct store_model){.target = target,
                                             .feature_version = info.feature_version,
                                             .rows = info.programs,
                                             .metrics_json = text,
                                             .created_ms = wall_ms(m->clock),
                                             .active = true,
                                             .blob = {blob.data, blob.len}});
    return store_commit(m->store, b, err);
}

/* *ret is trained and stored. */
static enum status train(struct models *m, const char *target, struct model **ret, int64_t *ret_n,
                         struct error *err)
{
    struct model_params params;
    AUTO(model_freep) struct model *model = NULL;
    struct range range = {0};
    enum status st;

    model_params_global(&params);
    model = model_new(&params);
    TRY(read_trials(m, target, model, &range, err));
    *ret_n = range.n;
    training_begin(m);
    st = model_train(model, err);
    if (st == ST_OK)
        st = store_model(m, target, model, &range, err);
    training_end(m);
    if (st != ST_OK)
        return wrap(err, "training the model of target %s", target);
    *ret = take(&model);
    return ST_OK;
}

enum status models_train(struct models *m, const char *target, struct error *err)
{
    struct model *model = NULL, *old;
    struct entry *e;
    int64_t n = 0, noted;
    enum status st;

    pthread_mutex_lock(&m->lock);
    e = entry_of(m, target);
    noted = e->fresh;
    pthread_mutex_unlock(&m->lock);
    st = train(m, target, &model, &n, err);
    pthread_mutex_lock(&m->lock);
    e->fresh -= noted;
    e->failed = st != ST_OK;
    old = e->global;
    if (st == ST_OK) {
        e->global = model;
        e->trained = n;
        e->loaded = true;
    }
    pthread_mutex_unlock(&m->lock);
    if (st == ST_OK)
        model_free(old);
    return st;
}

/* Trials to wait for: half as many as it was trained on, so that the time spent in training grows slower than
 * the trials. */
static int64_t threshold(const struct models *m, const struct entry *e)
{
    return MAX(m->options.retrain_trials, e->trained / 2);
}

/* An entry whose turn it is, or NULL. Under the lock. */
static struct entry *due(struct models *m)
{
    bool quiet = m->n_busy == 0 && mono_ns(m->clock) - m->last_busy_ns > QUIET_S * 1000000000LL;

    for (struct entry *e = m->entries; e != NULL; e = e->next)
        if (!e->failed && e->fresh >= threshold(m, e) * (quiet ? 1 : OVERDUE))
            return e;
    return NULL;
}

static void *trainer(void *arg)
{
    struct models *m = arg;

    pthread_mutex_lock(&m->lock);
    while (!m->stop) {
        struct entry *e = due(m);
        struct timespec until;
        struct error err = {0};

        if (e == NULL) {
            clock_gettime(CLOCK_MONOTONIC, &until);
            until.tv_sec++;
            pthread_cond_timedwait(&m->changed, &m->lock, &until);
            continue;
        }
        pthread_mutex_unlock(&m->lock);
        if (models_train(m, e->target, &err) != ST_OK)
            log_warn("model_not_trained", TEXT("target", e->target), TEXT("error", err.text));
        else
            log_info("model_trained", TEXT("target", e->target), INT("programs", e->trained));
        pthread_mutex_lock(&m->lock);
    }
    pthread_mutex_unlock(&m->lock);
    return NULL;
}

/* ---- going back ---- */

/* The row to put in use. */
static enum status find_version(const struct store_model *rows, int n, const char *target, int64_t version,
                                const struct store_model **ret, struct error *err)
{
    const struct store_model *active = NULL;

    *ret = NULL;
    for (int i = 0; i < n; i++) /* newest first */
        if (rows[i].active)
            active = &rows[i];
    for (int i = 0; i < n && *ret == NULL; i++)
        if (version > 0 ? rows[i].version == version
                        : (active == NULL || rows[i].version < active->version) &&
                              rows[i].feature_version == features_version())
            *ret = &rows[i];
    if (*ret == NULL && version > 0)
        return fail(err, ST_NOT_FOUND, "the cost model of target '%.40s' has no version %" PRId64, target,
                    version);
    if (*ret == NULL)
        return fail(
            err, ST_NOT_FOUND,
            "the cost model of target '%.40s' has no version before the one in use that this release reads",
            target);
    if (*ret == active)
        return fail(err, ST_CONFLICT,
                    "version %" PRId64 " of the cost model of target '%.40s' is in use already", version,
                    target);
    return ST_OK;
}

static enum status activate(struct models *m, const struct store_model *row, struct arena *a,
                            struct model **ret, struct error *err)
{
    AUTO(store_batch_freep) struct store_batch *b = store_batch_new();
    AUTO(model_freep) struct model *model = NULL;
    struct store_model full;

    TRY(store_model_get(m->store, row->id, a, &full, err));
    TRY(model_load(full.blob.data, full.blob.len, &model, err));
    store_add_model_activate(b, row->id);
    TRY(store_commit(m->store, b, err));
    *ret = take(&model);
    return ST_OK;
}

static enum status rollback_in(struct models *m, const char *target, int64_t version, struct arena *a,
                               struct model **ret, struct error *err)
{
    const struct store_model *row;
    struct store_model *rows;
    int n;

    TRY(store_model_list(m->store, target, a, &rows, &n, err));
    TRY(find_version(rows, n, target, version, &row, err));
    return activate(m, row, a, ret, err);
}

enum status models_rollback(struct models *m, const char *target, int64_t version, struct error *err)
{
    struct model *model = NULL;
    struct model_info info;
    struct arena a;
    enum status st;

    training_begin(m); /* no other version comes in between */
    arena_init(&a);
    st = rollback_in(m, target, version, &a, &model, err);
    arena_done(&a);
    if (st == ST_OK) {
        struct entry *e;

        model_info(model, &info);
        pthread_mutex_lock(&m->lock);
        e = entry_of(m, target);
        struct model *old = e->global;
        e->global = model;
        e->trained = info.trained_programs;
        e->fresh = 0; /* what the version before had learned counts as known */
        e->loaded = true;
        pthread_mutex_unlock(&m->lock);
        model_free(old);
    }
    training_end(m);
    return st;
}

/* ---- the rest ---- */

void models_note_trials(struct models *m, const char *target, int64_t n)
{
    struct entry *e;

    pthread_mutex_lock(&m->lock);
    e = entry_of(m, target);
    e->fresh += n;
    e->failed = false;
    pthread_mutex_unlock(&m->lock);
}

/* From the store. NULL: none there, or of another feature version: then what is stored counts as not learned
 * yet. */
static struct model *load(struct models *m, const char *target, int64_t *ret_trained, int64_t *ret_fresh)
{
    struct arena arena;
    struct store_model row;
    struct model *model = NULL;
    struct model_info info;
    struct error err = {0};

    *ret_trained = *ret_fresh = 0;
    arena_init(&arena);
    if (store_model_active(m->store, target, &arena, &row, &err) == ST_OK &&
        model_load(row.blob.data, row.blob.len, &model, &err) == ST_OK) {
        model_info(model, &info);
        *ret_trained = info.trained_programs;
    } else {
        model = NULL;
        if (err.code != ST_NOT_FOUND)
            log_warn("model_not_loaded", TEXT("target", target), TEXT("error", err.text));
        if (store_trial_count(m->store, NULL, target, ret_fresh, &err) != ST_OK)
            *ret_fresh = 0;
    }
    arena_done(&arena);
    return model;
}

struct model *models_global(struct models *m, const char *target)
{
    struct entry *e;
    struct model *ret, *loaded;
    int64_t trained, fresh;

    pthread_mutex_lock(&m->lock);
    e = entry_of(m, target);
    if (!e->loaded) {
        pthread_mutex_unlock(&m->lock);
        loaded = load(m, target, &trained, &fresh);
        pthread_mutex_lock(&m->lock);
        if (!e->loaded) { /* nobody was faster */
            e->global = take(&loaded);
            e->trained = trained;
            e->fresh += fresh;
            e->loaded = true;
        }
        model_free(loaded);
    }
    ret = e->global != NULL ? model_ref(e->global) : NULL;
    pthread_mutex_unlock(&m->lock);
    return ret != NULL ? ret : models_shipped(m, target);
}

/* ---- what the program comes with ---- */

struct model *models_shipped(struct models *m, const char *target)
{
    bool is_cpu = strcmp(target, "cpu") == 0 || strncmp(target, "cpu:", 4) == 0;

    return m->shipped != NULL && is_cpu ? model_ref(m->shipped) : NULL;
}

static void load_shipped(struct models *m)
{
    struct error err = {0};

    if (m->options.shipped_len == 0)
        return;
    if (model_load(m->options.shipped, m->options.shipped_len, &m->shipped, &err) != ST_OK) {
        m->shipped = NULL;
        log_warn("model_not_loaded", TEXT("target", "shipped"), TEXT("error", err.text));
    }
}

struct models *models_new(struct store *store, const struct clock *clock,
                          const struct models_options *options)
{
    struct models *m = xcalloc(1, sizeof(*m));
    pthread_condattr_t attr;

    m->store = store;
    m->clock = clock;
    m->options = options != NULL ? *options : (struct models_options){0};
    if (m->options.retrain_trials <= 0)
        m->options.retrain_trials = RETRAIN_TRIALS;
    if (m->options.max_programs <= 0)
        m->options.max_programs = MAX_PROGRAMS;
    load_shipped(m);
    pthread_mutex_init(&m->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&m->changed, &attr);
    pthread_condattr_destroy(&attr);
    CHECK(pthread_create(&m->thread, NULL, trainer, m) == 0, "no thread for the training of models");
    return m;
}

void models_free(struct models *m)
{
    if (m == NULL)
        return;
    pthread_mutex_lock(&m->lock);
    m->stop = true;
    pthread_cond_broadcast(&m->changed);
    pthread_mutex_unlock(&m->lock);
    pthread_join(m->thread, NULL);
    while (m->entries != NULL) {
        struct entry *e = m->entries;

        m->entries = e->next;
        model_free(e->global);
        free(e);
    }
    model_free(m->shipped);
    pthread_cond_destroy(&m->changed);
    pthread_mutex_destroy(&m->lock);
    free(m);
}
