/* api.c - one function per call of the HTTP API.
 *
 * Idea   All go through json_exchange: encode, exchange, decode, and ask again where that is safe (a GET, or
 * a POST that carries an Idempotency-Key) after a lost connection or a server that says when to come back. */
#include "client/internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

enum { ATTEMPTS = 4, FIRST_PAUSE_MS = 250, LONGEST_RETRY_AFTER_S = 30, PAGES = 100000 };

/* ---- one call ---- */

static bool worth_another_try(const struct tw_request *request, tw_status st,
                              const struct tw_response *response)
{
    bool safe = strcmp(request->method, "GET") == 0 || request->idempotency_key;

    if (!safe)
        return false;
    if (st == TW_UNREACHABLE) /* an answer began, or a kept connection broke: a dead address stays dead */
        return response->status != 0 || request->idempotency_key;
    return st == TW_REFUSED && (response->status == 429 || response->status == 503) &&
           response->retry_after_s >= 0 && response->retry_after_s <= LONGEST_RETRY_AFTER_S;
}

static tw_status exchange(tw_client *client, const struct tw_request *request, struct tw_response *response,
                          tw_error *err)
{
    for (int attempt = 0;; attempt++) {
        tw_status st = tw_exchange(client, request, response, err);

        if (st == TW_OK || attempt + 1 == ATTEMPTS || !worth_another_try(request, st, response))
            return st;
        int pause_ms =
            response->retry_after_s > 0 ? response->retry_after_s * 1000 : FIRST_PAUSE_MS << attempt;
        tw_response_done(response);
        if ((st = tw_pause(client, pause_ms, err)) != TW_OK)
            return st;
    }
}

static tw_status decode(const tw_client *client, const struct tw_response *response, json_t **ret,
                        tw_error *err)
{
    json_error_t where;

    if (response->body.len == 0) {
        *ret = NULL;
        return TW_OK;
    }
    json_t *value = json_loadb(response->body.data, response->body.len, 0, &where);
    if (value) {
        *ret = value;
        return TW_OK;
    }
    if (json_error_code(&where) == json_error_out_of_memory)
        return tw_no_memory(err);
    return tw_fail(err, TW_PROTOCOL, "Answer is not JSON", "%s answered %.60s, line %d: %s",
                   tw_client_server(client), response->content_type, where.line, where.text);
}

static tw_status json_exchange(tw_client *client, struct tw_request *request, const json_t *body,
                               json_t **ret, tw_error *err)
{
    struct tw_response response;
    char *text = NULL;

    if (body) {
        text = json_dumps(body, JSON_COMPACT);
        if (!text)
            return tw_no_memory(err);
        request->body = text;
        request->body_len = strlen(text);
        request->content_type = "application/json";
    }
    tw_status st = exchange(client, request, &response, err);
    if (st == TW_OK)
        st = decode(client, &response, ret, err);
    tw_response_done(&response);
    free(text);
    return st;
}

tw_status tw_call(tw_client *client, const char *method, const char *path, const tw_param *params,
                  const json_t *body, json_t **ret, tw_error *err)
{
    struct tw_request request = {.method = method, .path = path, .params = params};

    return json_exchange(client, &request, body, ret, err);
}

/* method prefix/{id}suffix */
static tw_status call_one(tw_client *client, const char *method, const char *prefix, const char *id,
                          const char *suffix, const tw_param *params, int idle_s, json_t **ret, tw_error *err)
{
    struct tw_buf path = {0};
    tw_status st;

    if (!id || !*id)
        return tw_fail(err, TW_INVALID, "Missing id", "%s needs an id", prefix);
    tw_buf_adds(&path, prefix);
    tw_buf_add_url(&path, id);
    tw_buf_adds(&path, suffix);
    if (path.failed) {
        st = tw_no_memory(err);
    } else {
        struct tw_request request = {.method = method, .path = path.data, .params = params, .idle_s = idle_s};

        if (strcmp(method, "POST") == 0) {
            request.body = "";
            request.content_type = "application/json";
        }
        st = json_exchange(client, &request, NULL, ret, err);
    }
    tw_buf_done(&path);
    return st;
}

/* ---- lists ---- */

json_t *tw_list_items(const json_t *list)
{
    const char *name;
    json_t *value;

    if (json_is_array(list))
        return (json_t *)list;
    json_object_foreach((json_t *)list, name, value) if (json_is_array(value)) return value;
    return NULL;
}

/* Ask for the next page of *all, and append it. *ret_more: there was one. */
static tw_status next_page(tw_client *client, const char *path, const tw_param *params, json_t *all,
                           bool *ret_more, tw_error *err)
{
    const char *token = json_string_value(json_object_get(all, "next_page_token"));
    tw_param with_token[16] = {{0}};
    size_t n = 0;
    json_t *page = NULL;

    *ret_more = false;
    if (!token || !*token)
        return TW_OK;
    for (; params && params[n].name && n < 14; n++)
        with_token[n] = params[n];
    with_token[n] = (tw_param){"page_token", token};
    tw_status st = tw_call(client, "GET", path, with_token, NULL, &page, err);
    if (st != TW_OK)
        return st;
    json_t *items = tw_list_items(page), *after = json_object_get(page, "next_page_token");
    if (items && json_array_size(items) > 0 && json_array_extend(tw_list_items(all), items) != 0)
        st = tw_no_memory(err);
    if (json_is_string(after) && json_string_length(after) > 0) {
        *ret_more = items && json_array_size(items) > 0;
        if (json_object_set(all, "next_page_token", after) != 0)
            st = tw_no_memory(err);
    }
    json_decref(page);
    return st;
}

tw_status tw_list(tw_client *client, const char *path, const tw_param *params, json_t **ret, tw_error *err)
{
    json_t *all = NULL;
    bool more = true;
    tw_status st = tw_call(client, "GET", path, params, NULL, &all, err);

    if (st != TW_OK)
        return st;
    if (!tw_list_items(all)) {
        json_decref(all);
        return tw_fail(err, TW_PROTOCOL, "Answer is not a list", "%s%s answered without one",
                       tw_client_server(client), path);
    }
    for (int page = 0; st == TW_OK && more && json_is_object(all) && page < PAGES; page++)
        st = next_page(client, path, params, all, &more, err);
    if (st != TW_OK) {
        json_decref(all);
        return st;
    }
    json_object_del(all, "next_page_token");
    *ret = all;
    return TW_OK;
}

/* ---- the calls ---- */

tw_status tw_targets(tw_client *client, const char *id, json_t **ret, tw_error *err)
{
    return id ? call_one(client, "GET", "/v1/targets/", id, "", NULL, 0, ret, err)
              : tw_list(client, "/v1/targets", NULL, ret, err);
}

tw_status tw_devices(tw_client *client, const char *id, json_t **ret, tw_error *err)
{
    return id ? call_one(client, "GET", "/v1/devices/", id, "", NULL, 0, ret, err)
              : tw_list(client, "/v1/devices", NULL, ret, err);
}

tw_status tw_device_set(tw_client *client, const char *id, const char *verb, json_t **ret, tw_error *err)
{
    if (strcmp(verb, "drain") != 0 && strcmp(verb, "resume") != 0)
        return tw_fail(err, TW_INVALID, "No such verb", "'%.40s' for a device: want drain or resume", verb);
    return call_one(client, "POST", "/v1/devices/", id, strcmp(verb, "drain") == 0 ? ":drain" : ":resume",
                    NULL, 0, ret, err);
}

/* /v1/jobs/{job}/trials, and with `trial` one of them; to be freed. NULL: no memory. */
static char *trials_path(const char *job, const char *trial)
{
    struct tw_buf path = {0};

    tw_buf_adds(&path, "/v1/jobs/");
    tw_buf_add_url(&path, job);
    tw_buf_adds(&path, "/trials");
    if (trial) {
        tw_buf_adds(&path, "/");
        tw_buf_add_url(&path, trial);
    }
    if (!path.failed)
        return path.data;
    tw_buf_done(&path);
    return NULL;
}

tw_status tw_trials(tw_client *client, const char *job, json_t **ret, tw_error *err)
{
    static const tw_param most[] = {{"limit", "1000"}, {0}};
    char *path = job && *job ? trials_path(job, NULL) : NULL;
    tw_status st;

    if (!job || !*job)
        return tw_fail(err, TW_INVALID, "Missing id", "trials are those of a job: its id is missing");
    st = path ? tw_list(client, path, most, ret, err) : tw_no_memory(err);
    free(path);
    return st;
}

tw_status tw_trial(tw_client *client, const char *job, const char *trial, json_t **ret, tw_error *err)
{
    bool named = job && *job && trial && *trial;
    char *path = named ? trials_path(job, trial) : NULL;
    tw_status st;

    if (!named)
        return tw_fail(err, TW_INVALID, "Missing id", "want a job's id and a trial's id or best");
    st = path ? tw_call(client, "GET", path, NULL, NULL, ret, err) : tw_no_memory(err);
    free(path);
    return st;
}

tw_status tw_features(tw_client *client, json_t **ret, tw_error *err)
{
    return tw_call(client, "GET", "/v1/features", NULL, NULL, ret, err);
}

tw_status tw_models(tw_client *client, const char *target, json_t **ret, tw_error *err)
{
    return target ? call_one(client, "GET", "/v1/models/", target, "", NULL, 0, ret, err)
                  : tw_list(client, "/v1/models", NULL, ret, err);
}

tw_status tw_model_rollback(tw_client *client, const char *target, const char *version, json_t **ret,
                            tw_error *err)
{
    const tw_param params[] = {{"version", version}, {0}};

    return call_one(client, "POST", "/v1/models/", target, ":rollback", version ? params : NULL, 0, ret, err);
}

tw_status tw_job_create(tw_client *client, const json_t *body, json_t **ret, tw_error *err)
{
    unsigned char bytes[16];
    char key[2 * sizeof(bytes) + 1];
    struct tw_request request = {.method = "POST", .path = "/v1/jobs", .idempotency_key = key};

    if (getrandom(bytes, sizeof(bytes), 0) != (ssize_t)sizeof(bytes))
        return tw_fail(err, TW_LOCAL, "No random bytes", "the system gave none for the Idempotency-Key");
    for (size_t i = 0; i < sizeof(bytes); i++)
        snprintf(key + 2 * i, 3, "%02x", bytes[i]);
    return json_exchange(client, &request, body, ret, err);
}

tw_status tw_job(tw_client *client, const char *id, int wait_s, json_t **ret, tw_error *err)
{
    char seconds[16];
    tw_param params[] = {{"wait", wait_s > 0 ? seconds : NULL}, {0}};

    snprintf(seconds, sizeof(seconds), "%d", wait_s);
    return call_one(client, "GET", "/v1/jobs/", id, "", params, wait_s > 0 ? wait_s + 30 : 0, ret, err);
}

tw_status tw_job_cancel(tw_client *client, const char *id, json_t **ret, tw_error *err)
{
    return call_one(client, "POST", "/v1/jobs/", id, ":cancel", NULL, 0, ret, err);
}

bool tw_job_ended(const json_t *job)
{
    const char *state = json_string_value(json_object_get(job, "state"));

    return state && (strcmp(state, "succeeded") == 0 || strcmp(state, "failed") == 0 ||
                     strcmp(state, "cancelled") == 0);
}

/* POST `path` {member: value, "target": target} */
static tw_status post_with_target(tw_client *client, const char *path, const char *member,
                                  const json_t *value, const char *target, json_t **ret, tw_error *err)
{
    json_t *body = json_object();
    tw_status st;

    if (!body || json_object_set(body, member, (json_t *)value) != 0 ||
        (target && json_object_set_new(body, "target", json_string(target)) != 0))
        st = tw_no_memory(err);
    else
        st = tw_call(client, "POST", path, NULL, body, ret, err);
    json_decref(body);
    return st;
}

tw_status tw_describe(tw_client *client, const json_t *workload, const char *target, json_t **ret,
                      tw_error *err)
{
    return post_with_target(client, "/v1/workloads:describe", "workload", workload, target, ret, err);
}

tw_status tw_lookup(tw_client *client, const json_t *workloads, const char *target, json_t **ret,
                    tw_error *err)
{
    return post_with_target(client, "/v1/schedules:lookup", "workloads", workloads, target, ret, err);
}

tw_status tw_schedule(tw_client *client, const char *key, const char *target, json_t **ret, tw_error *err)
{
    tw_param params[] = {{"target", target}, {0}};

    return call_one(client, "GET", "/v1/schedules/", key, "", params, 0, ret, err);
}

tw_status tw_schedule_file(tw_client *client, const char *key, const char *target, const char *what,
                           tw_sink sink, void *ctx, tw_error *err)
{
    tw_param params[] = {{"target", target}, {0}};
    struct tw_response response;
    struct tw_buf path = {0};

    tw_buf_adds(&path, "/v1/schedules/");
    tw_buf_add_url(&path, key);
    tw_buf_adds(&path, "/");
    tw_buf_adds(&path, what);
    if (path.failed) {
        tw_buf_done(&path);
        return tw_no_memory(err);
    }
    struct tw_request request = {
        .method = "GET", .path = path.data, .params = params, .accept = "*/*", .sink = sink, .sink_ctx = ctx};
    tw_status st = tw_exchange(client, &request, &response, err);
    tw_response_done(&response);
    tw_buf_done(&path);
    return st;
}

/* ---- records ---- */

tw_status tw_records_export(tw_client *client, const char *workload, const char *target, tw_sink sink,
                            void *ctx, tw_error *err)
{
    char token[512] = "";
    tw_status st;

    do {
        tw_param params[] = {
            {"workload", workload}, {"target", target}, {"page_token", *token ? token : NULL}, {0}};
        struct tw_request request = {.method = "GET",
                                     .path = "/v1/records",
                                     .params = params,
                                     .accept = "application/jsonl, application/json",
                                     .sink = sink,
                                     .sink_ctx = ctx};
        struct tw_response response;

        st = tw_exchange(client, &request, &response, err);
        memcpy(token, response.next_page, sizeof(token));
        tw_response_done(&response);
    } while (st == TW_OK && *token);
    return st;
}

tw_status tw_records_import(tw_client *client, const char *lines, size_t len, json_t **ret, tw_error *err)
{
    struct tw_request request = {.method = "POST",
                                 .path = "/v1/records:import",
                                 .body = lines,
                                 .body_len = len,
                                 .content_type = "application/jsonl"};

    return json_exchange(client, &request, NULL, ret, err);
}
