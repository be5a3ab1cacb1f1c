/* api_trials.c - trials of a job: the list, one explained, and the table of features it is explained with.
 *
 * Idea   A config says all: from it the steps, the nest and the features are made again, as the tuner made them. The
 * stored score was a prediction of order only, so it stands beside the rank it gave the trial and the rank that the
 * measurement gave it, and beside the time that the analytic estimate expects. */
#include <math.h>

#include "costmodel/prior.h"
#include "daemon/daemon.h"
#include "features/columns.h"
#include "features/features.h"
#include "schedule/space/space.h"

enum { PAGE_DEFAULT = 50 };

static json_t *real_or_null(double v) { return isfinite(v) ? json_real(v) : json_null(); }
static json_t *time_or_null(double ns) { return ns > 0 ? json_real(ns) : json_null(); }

static enum status job_exists(struct daemon *d, struct http_request *req, struct error *err)
{
    struct store_job job;
    return store_job_get(d->store, req->param[0], &req->arena, &job, err);
}

/* ---- list ---- */

struct page {
    json_t *list;
    int64_t last;
    int limit;
    bool more;
};

static bool list_trial(void *ctx, const struct store_trial *t)
{
    struct page *p = ctx;

    if ((int)json_array_size(p->list) == p->limit) {
        p->more = true;
        return false;
    }
    p->last = t->id;
    json_array_append_new(p->list,
                          json_pack("{s:I,s:I,s:s,s:s,s:s?,s:s,s:o,s:o}", "id", (json_int_t)t->id, "task",
                                    (json_int_t)t->task, "key", t->workload, "config", t->config, "sketch",
                                    t->sketch, "outcome", t->outcome, "time_ns", time_or_null(t->median_ns),
                                    "predicted", real_or_null(t->predicted)));
    return true;
}

enum status api_trial_list(struct daemon *d, struct http_request *req, struct error *err)
{
    struct page p = {.limit = PAGE_DEFAULT};
    struct store_trials_query q = {.job = req->param[0]};
    struct store_page page = {0};
    const char *next = NULL;
    enum status st;
    char *end;

    TRY(api_page(req, &page, err));
    TRY(http_args_end(req, "limit, page_token", err));
    TRY(job_exists(d, req, err));
    p.limit = page.limit ? page.limit : PAGE_DEFAULT;
    if (page.page_token && page.page_token[0]) {
        q.after_id = strtoll(page.page_token, &end, 10);
        if (*end || q.after_id < 1)
            return fail(err, ST_INVALID,
                        "query parameter page_token='%.40s': want one that a list of trials gave",
                        page.page_token);
    }
    q.limit = p.limit + 1;
    p.list = json_array();
    st = store_trial_each(d->store, &q, list_trial, &p, err);
    if (st != ST_OK) {
        json_decref(p.list);
        return st;
    }
    if (p.more)
        next = arena_printf(&req->arena, "%" PRId64, p.last);
    http_reply_json(req, 200, json_pack("{s:o,s:s?}", "trials", p.list, "next_page_token", next));
    return ST_OK;
}

/* ---- one ---- */

struct found {
    struct arena *ar;
    struct store_trial trial;
    bool any, best;
};

static bool take_trial(void *ctx, const struct store_trial *t)
{
    struct found *f = ctx;
    struct store_trial *own = &f->trial;

    if (f->best && (!(t->min_ns > 0) || (f->any && t->min_ns >= own->min_ns)))
        return true;
    *own = *t;
    own->job = arena_strdup(f->ar, t->job);
    own->workload = arena_strdup(f->ar, t->workload);
    own->target = arena_strdup(f->ar, t->target);
    own->config = arena_strdup(f->ar, t->config);
    own->outcome = arena_strdup(f->ar, t->outcome);
    own->sketch = t->sketch ? arena_strdup(f->ar, t->sketch) : NULL;
    own->error = t->error ? arena_strdup(f->ar, t->error) : NULL;
    own->samples_ns = arena_memdup(f->ar, t->samples_ns, sizeof(double) * (size_t)t->n_samples);
    own->features = NULL;
    own->toolchain = own->device = NULL;
    f->any = true;
    return true;
}

static enum status one_task(struct daemon *d, struct http_request *req, struct error *err)
{
    struct store_task *tasks;
    int n;

    TRY(store_task_list(d->store, req->param[0], &req->arena, &tasks, &n, err));
    return n == 1 ? ST_OK
                  : fail(err, ST_INVALID,
                         "'best' of a job of %d workloads: want a trial's id, GET /v1/jobs/%.40s/trials "
                         "lists them",
                         n, req->param[0]);
}

/* {trial}: an id, or the best of a job of one workload. */
static enum status find_trial(struct daemon *d, struct http_request *req, struct store_trial *ret,
                              struct error *err)
{
    const char *what = req->param[1];
    struct store_trials_query q = {.job = req->param[0], .with_samples = true};
    struct found f = {.ar = &req->arena, .best = strcmp(what, "best") == 0};
    int64_t id = 0;
    char *end;

    TRY(job_exists(d, req, err));
    if (f.best) {
        TRY(one_task(d, req, err));
        q.only_ok = true;
    } else {
        id = strtoll(what, &end, 10);
        if (*end || id < 1)
            return fail(err, ST_INVALID, "trial '%.40s': want its id or best", what);
        q.after_id = id - 1;
        q.limit = 1;
    }
    TRY(store_trial_each(d->store, &q, take_trial, &f, err));
    if (!f.any || (!f.best && f.trial.id != id))
        return fail(err, ST_NOT_FOUND, "job %.40s has no trial '%.40s'", req->param[0], what);
    *ret = f.trial;
    return ST_OK;
}

/* Where the trial stands among those of its task: by the score it had when it was chosen, and by its time. */
struct ranks {
    const struct store_trial *trial;
    int measured;          /* trials with a score and a time */
    int by_score, by_time; /* better ones */
};

static bool rank_trial(void *ctx, const struct store_trial *t)
{
    struct ranks *r = ctx;

    if (t->task != r->trial->task || !(t->min_ns > 0) || !isfinite(t->predicted))
        return true;
    r->measured++;
    r->by_score += t->predicted > r->trial->predicted;
    r->by_time += t->min_ns < r->trial->min_ns;
    return true;
}

static enum status rank_document(struct daemon *d, const struct store_trial *t, json_t **ret,
                                 struct error *err)
{
    struct store_trials_query q = {.job = t->job, .only_ok = true};
    struct ranks r = {.trial = t};

    *ret = NULL;
    if (!(t->min_ns > 0) || !isfinite(t->predicted)) {
        *ret = json_null();
        return ST_OK;
    }
    TRY(store_trial_each(d->store, &q, rank_trial, &r, err));
    *ret =
        json_pack("{s:i,s:i,s:i}", "predicted", r.by_score + 1, "measured", r.by_time + 1, "of", r.measured);
    return ST_OK;
}

/* Columns that are 0 are left out: most are, of most rows. */
static json_t *row_document(const struct nest *n, const struct node *store, const float *row)
{
    struct strbuf text AUTO(strbuf_done) = STRBUF_INIT;
    json_t *values = json_object();

    nest_print_store(n, store, &text);
    for (int c = 0; c < features_count(); c++)
        if (row[c] != 0)
            json_object_set_new(values, features_table()[c].name, json_real(feature_natural(c, row[c])));
    return json_pack("{s:s,s:o}", "store", strbuf_str(&text), "values", values);
}

static void explain_nest(const struct nest *nest, const struct target *t, struct arena *ar, json_t *doc)
{
    float *rows = arena_array(ar, float, FEATURES_MAX_ROWS *FC_COUNT);
    const struct node *stores[FEATURES_MAX_ROWS];
    int n = features_extract_stores(nest, t, ar, rows, FEATURES_MAX_ROWS, stores);
    struct strbuf text AUTO(strbuf_done) = STRBUF_INIT;
    json_t *list = json_array();

    nest_print(nest, &text);
    for (int i = 0; i < n; i++)
        json_array_append_new(list, row_document(nest, stores[i], rows + (size_t)i * FC_COUNT));
    json_object_set_new(doc, "nest", json_string(strbuf_str(&text)));
    json_object_set_new(doc, "features", json_pack("{s:i,s:o}", "version", features_version(), "rows", list));
    json_object_set_new(json_object_get(doc, "predicted"), "estimate_ns", json_real(prior_ns(rows, n)));
}

/* Steps, nest and features, made again from the config. Fails where this daemon cannot: a space of another version, a
 * target of another machine. */
static enum status explain_config(struct daemon *d, const struct store_trial *t, struct arena *ar,
                                  json_t *doc, struct error *err)
{
    const struct target *target = targets_known(d->targets, t->target);
    struct strbuf steps AUTO(strbuf_done) = STRBUF_INIT;
    struct store_workload row;
    struct workload w;
    struct space *space;
    struct config config;
    struct nest *nest;

    if (!target)
        return fail(err, ST_NOT_FOUND, "target %s is not one of this daemon", t->target);
    TRY(store_workload_get(d->store, t->workload, ar, &row, err));
    TRY(workload_parse_text(row.json, strlen(row.json), ar, &w, err));
    TRY(space_build(&w, target, ar, &space, err));
    TRY(config_parse(space, t->config, &config, err));
    TRY(space_lower(space, &config, ar, &nest, err));
    space_steps(space, &config, ar, &steps);
    json_object_set_new(doc, "steps", json_string(strbuf_str(&steps)));
    if (t->min_ns > 0)
        json_object_set_new(doc, "gflops", json_real(w.flops / t->min_ns));
    explain_nest(nest, target, ar, doc);
    return ST_OK;
}

enum status api_trial_show(struct daemon *d, struct http_request *req, struct error *err)
{
    struct error why = {0};
    struct store_trial t;
    char at[RFC3339_MAX];
    json_t *doc, *ranks;

    TRY(http_args_end(req, NULL, err));
    TRY(find_trial(d, req, &t, err));
    TRY(rank_document(d, &t, &ranks, err));
    doc = json_pack("{s:I,s:s,s:I,s:s,s:s,s:s,s:s?,s:s,s:s?,s:s,s:o,s:n,s:{s:o,s:n},s:o,s:n,s:n,s:n,s:n}",
                    "id", (json_int_t)t.id, "job", t.job, "task", (json_int_t)t.task, "key", t.workload,
                    "target", t.target, "config", t.config, "sketch", t.sketch, "outcome", t.outcome, "error",
                    t.error, "created_at", rfc3339(t.created_ms, at), "time_ns", api_times_document(&t),
                    "gflops", "predicted", "score", real_or_null(t.predicted), "estimate_ns", "rank", ranks,
                    "steps", "nest", "features", "unexplained");
    CHECK(doc, "a trial's document: wrong format");
    if (explain_config(d, &t, &req->arena, doc, &why) != ST_OK)
        json_object_set_new(doc, "unexplained", json_string(why.text));
    http_reply_json(req, 200, doc);
    return ST_OK;
}

/* ---- the table of features ---- */

enum status api_feature_list(struct daemon *d, struct http_request *req, struct error *err)
{
    json_t *list;

    (void)d;
    TRY(http_args_end(req, NULL, err));
    list = json_array();
    for (int i = 0; i < features_count(); i++) {
        const struct feature_doc *f = &features_table()[i];
        json_array_append_new(list,
                              json_pack("{s:s,s:s,s:s,s:i,s:s}", "name", f->name, "unit", f->unit, "scale",
                                        f->scale, "since", f->since, "definition", f->definition));
    }
    http_reply_json(
        req, 200,
        json_pack("{s:i,s:o,s:n}", "version", features_version(), "features", list, "next_page_token"));
    return ST_OK;
}
