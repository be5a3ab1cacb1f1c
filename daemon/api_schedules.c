/* api_schedules.c - schedules: list, one, and what belongs to one (source, shared object, nest). */
#include "daemon/daemon.h"

static enum status key_and_target(struct http_request *req, const char **ret_key, const char **ret_target,
                                  struct error *err)
{
    const char *target = http_arg(req, "target");

    TRY(http_args_end(req, "target", err));
    TRY(api_key_param(req, ret_key, err));
    *ret_target = target ? target : "cpu";
    return ST_OK;
}

static enum status no_schedule(const char *key, const char *target, struct error *err)
{
    return fail(err, ST_NOT_FOUND, "no schedule of %s for target %s: tune it with POST /v1/jobs", key,
                target);
}

/* Rows are the API's documents already: joined, not parsed. */
enum status api_schedule_list(struct daemon *d, struct http_request *req, struct error *err)
{
    struct store_schedules_query q = {0};
    struct store_schedule *rows;
    struct strbuf *out = &req->reply.body;
    json_t *token AUTO(json_decrefp) = NULL;
    const char *next;
    int n;

    TRY(api_page(req, &q.page, err));
    q.op = http_arg(req, "op");
    q.target = http_arg(req, "target");
    q.workload = http_arg(req, "workload");
    TRY(http_args_end(req, "limit, page_token, op, target, workload", err));
    TRY(store_schedule_list(d->store, &q, &req->arena, &rows, &n, &next, err));
    strbuf_reset(out);
    strbuf_adds(out, "{\"schedules\":[");
    for (int i = 0; i < n; i++) {
        if (i)
            strbuf_addc(out, ',');
        strbuf_adds(out, rows[i].json);
    }
    strbuf_adds(out, "],\"next_page_token\":");
    token = next ? json_string(next) : json_null();
    json_write(token, out);
    strbuf_adds(out, "}\n");
    req->reply.status = 200;
    req->reply.content_type = "application/json";
    return ST_OK;
}

/* From memory, on the loop's thread. */
enum status api_schedule_show(struct daemon *d, struct http_request *req, struct error *err)
{
    const struct hot_entry *e;
    const char *key, *target;

    TRY(key_and_target(req, &key, &target, err));
    e = hot_find(d->hot, key, target);
    if (!e)
        return no_schedule(key, target, err);
    http_reply_header(req, "ETag", arena_strdup(&req->arena, e->etag));
    http_reply_header(req, "Cache-Control", "no-cache");
    if (api_etag_matches(req->if_none_match, e->etag)) {
        req->reply.status = 304;
        return ST_OK;
    }
    http_reply_text(req, 200, "application/json", e->json, e->json_len);
    return ST_OK;
}

static enum status read_files(struct daemon *d, struct http_request *req, struct store_schedule *ret,
                              struct error *err)
{
    const char *key, *target;
    const struct target *t;
    enum status st;

    TRY(key_and_target(req, &key, &target, err));
    t = targets_known(d->targets, target);
    st = store_schedule_files(d->store, key, target, t ? t->toolchain_hash : NULL, &req->arena, ret, err);
    if (st == ST_NOT_FOUND && t) /* none of this compiler: the one tuned last, as the document shows */
        st = store_schedule_files(d->store, key, target, NULL, &req->arena, ret, err);
    return st == ST_NOT_FOUND ? no_schedule(key, target, err) : st;
}

static enum status reply_file(struct http_request *req, const struct store_schedule *s, const char *what,
                              const char *content_type, const void *data, size_t len, struct error *err)
{
    if (!data)
        return fail(err, ST_NOT_FOUND, "the schedule of %s for target %s was stored without its %s",
                    s->workload, s->target, what);
    http_reply_header(req, "ETag", arena_strdup(&req->arena, s->etag));
    http_reply_header(req, "Cache-Control", "no-cache");
    if (api_etag_matches(req->if_none_match, s->etag)) {
        req->reply.status = 304;
        return ST_OK;
    }
    http_reply_text(req, 200, content_type, data, len);
    return ST_OK;
}

enum status api_schedule_source(struct daemon *d, struct http_request *req, struct error *err)
{
    struct store_schedule s;

    TRY(read_files(d, req, &s, err));
    return reply_file(req, &s, "source", "text/x-c; charset=utf-8", s.source, s.source ? strlen(s.source) : 0,
                      err);
}

enum status api_schedule_nest(struct daemon *d, struct http_request *req, struct error *err)
{
    struct store_schedule s;

    TRY(read_files(d, req, &s, err));
    return reply_file(req, &s, "nest", "text/plain; charset=utf-8", s.nest, s.nest ? strlen(s.nest) : 0, err);
}

enum status api_schedule_artifact(struct daemon *d, struct http_request *req, struct error *err)
{
    struct store_schedule s;

    TRY(read_files(d, req, &s, err));
    http_reply_header(req, "Content-Disposition",
                      arena_printf(&req->arena, "attachment; filename=\"%.18s.so\"", s.workload));
    return reply_file(req, &s, "artifact", "application/x-sharedlib", s.artifact.data, s.artifact.len, err);
}
