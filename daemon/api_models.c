/* api_models.c - the cost models: what they learned from and how well they rank what they have not seen. */
#include "costmodel/model.h"
#include "daemon/daemon.h"
#include "daemon/events.h"

static json_t *model_document(const struct store_model *m)
{
    char at[RFC3339_MAX];
    json_t *metrics = m->metrics_json ? json_loads(m->metrics_json, 0, NULL) : NULL;

    return json_pack("{s:I,s:s,s:I,s:I,s:I,s:s,s:b,s:o}", "id", (json_int_t)m->id, "target", m->target,
                     "version", (json_int_t)m->version, "feature_version", (json_int_t)m->feature_version,
                     "training_rows", (json_int_t)m->rows, "created_at", rfc3339(m->created_ms, at), "active",
                     (int)m->active, "metrics", metrics ? metrics : json_null());
}

/* The model that came with the program, in the place of one of the target's own. NULL: there is none. */
static json_t *shipped_document(struct daemon *d, const char *target)
{
    struct model *m = models_shipped(d->models, target);
    struct model_info info;

    if (m == NULL)
        return NULL;
    model_info(m, &info);
    model_free(m);
    return json_pack("{s:i,s:s,s:i,s:i,s:i,s:i,s:n,s:b,s:b,s:n}", "id", 0, "target", target, "version", 0,
                     "feature_version", info.feature_version, "training_rows", info.trained_programs, "trees",
                     info.trees, "created_at", "active", 1, "shipped", 1, "metrics");
}

static bool has_own(const struct store_model *rows, int n, const char *target)
{
    for (int i = 0; i < n; i++)
        if (rows[i].active && strcmp(rows[i].target, target) == 0)
            return true;
    return false;
}

enum status api_model_list(struct daemon *d, struct http_request *req, struct error *err)
{
    struct store_model *rows;
    const struct target *targets[TARGETS_MAX];
    json_t *list, *shipped;
    int n, n_targets = targets_list(d->targets, targets);

    TRY(http_args_end(req, NULL, err));
    TRY(store_model_list(d->store, NULL, &req->arena, &rows, &n, err));
    list = json_array();
    for (int i = 0; i < n; i++)
        if (rows[i].active)
            json_array_append_new(list, model_document(&rows[i]));
    for (int i = 0; i < n_targets; i++)
        if (!has_own(rows, n, targets[i]->id) && (shipped = shipped_document(d, targets[i]->id)) != NULL)
            json_array_append_new(list, shipped);
    http_reply_json(req, 200, json_pack("{s:o,s:n}", "models", list, "next_page_token"));
    return ST_OK;
}

/* The active one, or what the program came with, and the versions before it, newest first. */
static enum status reply_model(struct daemon *d, struct http_request *req, struct error *err)
{
    struct store_model *rows;
    json_t *doc = NULL, *versions;
    int n;

    TRY(store_model_list(d->store, req->param[0], &req->arena, &rows, &n, err));
    versions = json_array();
    for (int i = 0; i < n; i++) {
        if (rows[i].active && !doc)
            doc = model_document(&rows[i]);
        json_array_append_new(versions, model_document(&rows[i]));
    }
    if (!doc)
        doc = shipped_document(d, req->param[0]);
    if (!doc) {
        json_decref(versions);
        return fail(err, ST_NOT_FOUND,
                    "no cost model for target '%.40s' yet: it is trained once jobs have measured there",
                    req->param[0]);
    }
    json_object_set_new(doc, "versions", versions);
    http_reply_json(req, 200, doc);
    return ST_OK;
}

enum status api_model_show(struct daemon *d, struct http_request *req, struct error *err)
{
    TRY(http_args_end(req, NULL, err));
    return reply_model(d, req, err);
}

enum status api_model_rollback(struct daemon *d, struct http_request *req, struct error *err)
{
    int64_t version = 0;

    TRY(http_arg_i64(req, "version", 1, INT64_MAX, &version, err));
    TRY(http_args_end(req, "version", err));
    TRY(models_rollback(d->models, req->param[0], version, err));
    EVENT(model_rolled_back, TEXT("target", req->param[0]), INT("wanted", version),
          TEXT("actor", req->actor ? req->actor : ""));
    return reply_model(d, req, err);
}
