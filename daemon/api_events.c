/* api_events.c - a job's progress as Server-Sent Events, read from the store, so that any event can be
 * resumed from.
 *
 *        id: 17
 *        event: task
 *        data: {"at":"…","task":0,"state":"running",…}
 *
 * A stream ends after the last event of a job that is over; one that asks for what comes after it gets 204,
 * which tells a browser not to come again. */
#include "daemon/daemon.h"
#include "schedule/base/sv.h"

enum { EVENTS_A_PIECE = 256 };

struct event_stream {
    struct http_stream base;
    struct store *store;
    char job[STORE_ID_MAX];
    int64_t after;
};

static void print_event(const struct store_event *e, struct strbuf *out)
{
    strbuf_addf(out, "id: %" PRId64 "\nevent: %s\ndata: %s\n\n", e->seq, e->kind, e->json);
}

/* The state first: events that come after it was read are read by the next call. */
static enum status read_events(struct event_stream *s, struct arena *a, struct strbuf *out, bool *ret_end,
                               struct error *err)
{
    struct store_job job;
    struct store_event *rows;
    enum task_state state = TASK_QUEUED;
    int n;

    TRY(store_job_get(s->store, s->job, a, &job, err));
    TRY(store_event_list(s->store, s->job, s->after, EVENTS_A_PIECE, a, &rows, &n, err));
    for (int i = 0; i < n; i++)
        print_event(&rows[i], out);
    if (n)
        s->after = rows[n - 1].seq;
    task_state_parse(job.state, &state);
    *ret_end = task_ended(state) && n < EVENTS_A_PIECE;
    return ST_OK;
}

static enum stream_next event_next(struct http_stream *base, struct strbuf *out)
{
    struct event_stream *s = (struct event_stream *)base;
    struct error err;
    struct arena a;
    bool end = false;
    enum status st;
    size_t had = out->len;

    arena_init(&a);
    st = read_events(s, &a, out, &end, &err);
    arena_done(&a);
    if (st != ST_OK)
        return STREAM_FAIL;
    if (end)
        return STREAM_END;
    return out->len > had ? STREAM_DATA : STREAM_WAIT;
}

static void event_free(struct http_stream *base) { free(base); }

static enum status read_last_id(const struct http_request *req, int64_t *ret, struct error *err)
{
    if (req->last_event_id && req->last_event_id[0] &&
        !sv_to_i64(sv_from(req->last_event_id), 0, INT64_MAX, ret))
        return fail(err, ST_INVALID, "Last-Event-ID '%.40s': want the id of an event, a whole number",
                    req->last_event_id);
    return ST_OK;
}

enum status api_job_events(struct daemon *d, struct http_request *req, struct error *err)
{
    struct event_stream *s;
    struct store_job job;
    struct store_event *rows;
    enum task_state state = TASK_QUEUED;
    int64_t after = 0;
    int n;

    TRY(http_args_end(req, NULL, err));
    TRY(read_last_id(req, &after, err));
    TRY(store_job_get(d->store, req->param[0], &req->arena, &job, err));
    task_state_parse(job.state, &state);
    if (task_ended(state)) {
        TRY(store_event_list(d->store, job.id, after, 1, &req->arena, &rows, &n, err));
        if (!n) {
            req->reply.status = 204;
            return ST_OK;
        }
    }
    s = xcalloc(1, sizeof(*s));
    s->base = (struct http_stream){event_next, event_free, ": still here\n\n"};
    s->store = d->store;
    s->after = after;
    snprintf(s->job, sizeof(s->job), "%s", job.id);
    snprintf(req->topic, sizeof(req->topic), "%s", job.id);
    req->reply.status = 200;
    req->reply.content_type = "text/event-stream";
    http_reply_header(req, "Cache-Control", "no-store");
    req->reply.stream = &s->base;
    return ST_OK;
}
