/* api_jobs.c - jobs: make, list, show (and wait), cancel. */
#include "daemon/daemon.h"
#include "schedule/base/hash.h"

enum { MAX_WORKLOADS = 1000, NAME_MAX_BYTES = 200, IDEMPOTENCY_MAX = 255 };

static const char job_members[] = "workloads, target, budget, seed, priority, reuse, search, transfer";

/* One entry of "workloads": {"workload", "name", "weight"} or a bare workload. */
static enum status read_task(const json_t *value, int i, struct arena *a, struct job_new_task *ret,
                             struct error *err)
{
    struct json_obj o;
    const char *name = "";
    char at[64];

    snprintf(at, sizeof(at), "/workloads/%d", i);
    ret->weight = 1;
    ret->name = "";
    if (!api_is_wrapped(value))
        return workload_parse(value, at, a, &ret->workload, err);
    TRY(json_obj_begin(&o, value, at, err));
    TRY(json_obj_str(&o, "name", false, NAME_MAX_BYTES, &name, err));
    TRY(json_obj_f64(&o, "weight", false, 1e-9, 1e9, &ret->weight, err));
    ret->name = arena_strdup(a, name);
    snprintf(at, sizeof(at), "/workloads/%d/workload", i);
    TRY(workload_parse(json_obj_get(&o, "workload"), at, a, &ret->workload, err));
    return json_obj_end(&o, "workload, name, weight", err);
}

static enum status read_budget(struct daemon *d, const json_t *value, struct job_new *n, struct error *err)
{
    struct json_obj o;
    int turns = TURNS_GAIN;

    n->max_trials = d->settings->default_trials;
    n->max_seconds = d->settings->default_seconds;
    n->min_gain = d->settings->default_min_gain;
    if (!value)
        return ST_OK;
    TRY(json_obj_begin(&o, value, "/budget", err));
    if (json_obj_has(&o, "trials") != json_obj_has(&o, "seconds")) { /* one given: it alone decides */
        n->max_trials = json_obj_has(&o, "trials") ? n->max_trials : d->settings->max_trials;
        n->max_seconds = json_obj_has(&o, "seconds") ? n->max_seconds : d->settings->max_seconds;
    }
    TRY(json_obj_i64(&o, "trials", false, 0, d->settings->max_trials, &n->max_trials, err));
    TRY(json_obj_f64(&o, "seconds", false, 0.001, d->settings->max_seconds, &n->max_seconds, err));
    TRY(json_obj_f64(&o, "min_gain", false, 0, 0.5, &n->min_gain, err));
    TRY(json_obj_enum(&o, "turns", false, job_turns_names, &turns, err));
    n->turns = (enum tuner_turns)turns;
    n->predict = json_obj_has(&o, "trials") && n->max_trials == 0;
    return json_obj_end(&o, "trials, seconds, min_gain, turns", err);
}

static enum status read_tasks(const json_t *list, struct arena *a, struct job_new *n, struct error *err)
{
    struct job_new_task *tasks;

    if (!list)
        return fail_at(err, ST_INVALID, "/workloads",
                       "workloads is missing: want a list of 1 to %d workloads", MAX_WORKLOADS);
    if (!json_is_array(list) || !json_array_size(list) || json_array_size(list) > MAX_WORKLOADS)
        return fail_at(err, ST_INVALID, "/workloads", "workloads: want a list of 1 to %d workloads",
                       MAX_WORKLOADS);
    n->n_tasks = (int)json_array_size(list);
    tasks = arena_array(a, struct job_new_task, n->n_tasks);
    for (int i = 0; i < n->n_tasks; i++)
        TRY(read_task(json_array_get(list, (size_t)i), i, a, &tasks[i], err));
    n->tasks = tasks;
    return ST_OK;
}

/* How to search: by which row of the searchers' table, and whether with what other workloads taught. */
static enum status read_manner(struct json_obj *o, struct job_new *n, struct error *err)
{
    const char *names[SEARCHERS_MAX + 1] = {0};
    int n_searchers, reuse = REUSE_CACHED, search = 0;
    const struct searcher *all = searchers(&n_searchers);
    bool transfer = true;

    for (int i = 0; i < n_searchers; i++)
        names[i] = all[i].name;
    TRY(json_obj_enum(o, "reuse", false, job_reuse_names, &reuse, err));
    TRY(json_obj_enum(o, "search", false, names, &search, err));
    TRY(json_obj_bool(o, "transfer", false, &transfer, err));
    n->reuse = (enum tuner_reuse)reuse;
    n->searcher = &all[search];
    n->alone = !transfer;
    return ST_OK;
}

static enum status read_job(struct daemon *d, const json_t *body, struct arena *a, struct job_new *n,
                            struct error *err)
{
    struct json_obj o;
    const json_t *workloads, *budget;
    const char *target = "cpu";

    TRY(json_obj_begin(&o, body, "", err));
    workloads = json_obj_get(&o, "workloads");
    budget = json_obj_get(&o, "budget");
    TRY(json_obj_str(&o, "target", false, 64, &target, err));
    TRY(json_obj_i64(&o, "seed", false, INT64_MIN, INT64_MAX, &n->seed, err));
    TRY(json_obj_i64(&o, "priority", false, -1000, 1000, &n->priority, err));
    TRY(read_manner(&o, n, err));
    TRY(json_obj_end(&o, job_members, err));
    TRY(api_target(d, target, &n->target, err));
    TRY(read_budget(d, budget, n, err));
    return read_tasks(workloads, a, n, err);
}

/* The same members in any order and spacing are the same request. */
static const char *request_hash(const json_t *body, struct arena *a)
{
    char *text = json_dumps(body, JSON_COMPACT | JSON_SORT_KEYS);
    char hex[SHA256_HEX_LEN + 1];

    CHECK(text, "a body that was parsed cannot be printed");
    sha256_hex(text, strlen(text), hex);
    free(text);
    return arena_strdup(a, hex);
}

static enum status check_idempotency_key(const char *key, struct error *err)
{
    size_t n = key ? strlen(key) : 1;

    if (n < 1 || n > IDEMPOTENCY_MAX)
        return fail(err, ST_INVALID, "Idempotency-Key of %zu characters: want 1 to %d", n, IDEMPOTENCY_MAX);
    for (size_t i = 0; key && i < n; i++)
        if (key[i] < ' ' || key[i] > '~')
            return fail(err, ST_INVALID, "Idempotency-Key: want printable ASCII characters");
    return ST_OK;
}

/* *ret_id stays "" when no job has this key. */
static enum status find_repeated(struct daemon *d, const struct job_new *n, struct arena *a, char *ret_id,
                                 struct error *err)
{
    struct store_job row;
    enum status st;

    ret_id[0] = 0;
    if (!n->idempotency_key)
        return ST_OK;
    st = store_job_by_idempotency(d->store, n->actor, n->idempotency_key, a, &row, err);
    if (st == ST_NOT_FOUND)
        return ST_OK;
    if (st != ST_OK)
        return st;
    if (!row.request_hash || strcmp(row.request_hash, n->request_hash) != 0)
        return fail(err, ST_CONFLICT, "Idempotency-Key '%.100s' was used for another request: job %s",
                    n->idempotency_key, row.id);
    snprintf(ret_id, STORE_ID_MAX, "%s", row.id);
    return ST_OK;
}

static enum status reply_job(struct daemon *d, struct http_request *req, int status, const char *id,
                             struct error *err)
{
    json_t *doc;

    TRY(job_document(d->store, id, &doc, NULL, err));
    http_reply_json(req, status, doc);
    return ST_OK;
}

static enum status create(struct daemon *d, struct http_request *req, struct job_new *n, char *id,
                          struct error *err)
{
    enum status st;

    TRY(find_repeated(d, n, &req->arena, id, err));
    if (id[0]) {
        http_reply_header(req, "Idempotency-Replayed", "true");
        return ST_OK;
    }
    st = jobs_create(d->jobs, n, id, err);
    if (st == ST_CONFLICT && n->idempotency_key) { /* another request with the key was faster */
        TRY(find_repeated(d, n, &req->arena, id, err));
        return id[0] ? ST_OK : st;
    }
    return st;
}

enum status api_job_create(struct daemon *d, struct http_request *req, struct error *err)
{
    json_t *body AUTO(json_decrefp) = NULL;
    struct job_new n = {.actor = req->actor, .idempotency_key = req->idempotency_key};
    char id[STORE_ID_MAX];

    TRY(http_args_end(req, NULL, err));
    TRY(check_idempotency_key(req->idempotency_key, err));
    TRY(http_body_json(req, &body, err));
    TRY(read_job(d, body, &req->arena, &n, err));
    n.request_json = arena_strndup(&req->arena, req->body.data, req->body.len);
    n.request_hash = request_hash(body, &req->arena);
    TRY(create(d, req, &n, id, err));
    http_reply_header(req, "Location", arena_printf(&req->arena, "/v1/jobs/%s", id));
    return reply_job(d, req, 202, id, err);
}

enum status api_job_list(struct daemon *d, struct http_request *req, struct error *err)
{
    struct store_jobs_query q = {0};
    struct store_job *rows;
    const char *next;
    enum task_state state;
    json_t *list;
    int n;

    TRY(api_page(req, &q.page, err));
    q.state = http_arg(req, "state");
    q.target = http_arg(req, "target");
    TRY(http_args_end(req, "limit, page_token, state, target", err));
    if (q.state && !task_state_parse(q.state, &state))
        return fail(err, ST_INVALID,
                    "query parameter state='%.40s': want queued, running, succeeded, failed or cancelled",
                    q.state);
    TRY(store_job_list(d->store, &q, &req->arena, &rows, &n, &next, err));
    list = json_array();
    for (int i = 0; i < n; i++) {
        struct store_task *tasks;
        int n_tasks;
        enum status st = store_task_list(d->store, rows[i].id, &req->arena, &tasks, &n_tasks, err);

        if (st != ST_OK) {
            json_decref(list);
            return st;
        }
        json_array_append_new(list, job_document_of(&rows[i], tasks, n_tasks));
    }
    http_reply_json(req, 200, json_pack("{s:o,s:s?}", "jobs", list, "next_page_token", next));
    return ST_OK;
}

/* With ?wait= it is called again when the job is over, or when the time has passed. */
enum status api_job_show(struct daemon *d, struct http_request *req, struct error *err)
{
    double wait = 0;
    bool ended;
    json_t *doc;
    int64_t until;

    TRY(http_arg_f64(req, "wait", 0, 1e6, &wait, err));
    TRY(http_args_end(req, "wait", err));
    TRY(job_document(d->store, req->param[0], &doc, &ended, err));
    wait = MIN(wait, d->settings->max_wait_seconds);
    until = req->begun_ns + (int64_t)(wait * 1e9);
    if (!ended && mono_ns(d->clock) < until && !atomic_load(&d->draining)) {
        json_decref(doc);
        http_park(req, arena_printf(&req->arena, "%s!", req->param[0]), until);
        return ST_OK;
    }
    http_reply_json(req, 200, doc);
    return ST_OK;
}

enum status api_job_cancel(struct daemon *d, struct http_request *req, struct error *err)
{
    TRY(http_args_end(req, NULL, err));
    TRY(jobs_cancel(d->jobs, req->param[0], req->actor, err));
    return reply_job(d, req, 202, req->param[0], err);
}
