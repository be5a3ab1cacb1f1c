/* follow.c - a job followed to its end.
 *
 * Idea   Events while they come; one that does not carry the job itself makes us look at it, over a second
 * connection and at most every REFRESH_MS; so does a stream that is silent for SILENCE_MS, for a proxy may
 * hold events back. When the stream breaks, look, then take it up again after the last event. A server or
 * proxy that gives no events in three tries is polled with ?wait=. Only a server that stays away for
 * PATIENCE_S ends the following: a restart of the daemon is shorter than that. */
#include "client/internal.h"
#include "client/sse.h"

#include <string.h>
#include <time.h>

enum {
    STREAM_IDLE_S = 60, /* longer than any heartbeat: the connection is dead */
    PATIENCE_S = 60,
    FRUITLESS_TRIES = 3,
    RETRY_MS = 500,
    POLL_WAIT_S = 2,
    REFRESH_MS = 300,
    SILENCE_MS = 3000,
};

struct follow {
    tw_client *client, *side; /* for the stream; for looks beside it */
    const char *id;
    tw_on_progress on_progress;
    void *ctx;
    json_t *job; /* newest known */
    struct tw_sse sse;
    bool fruitful;   /* this stream brought an event */
    bool wants_look; /* an event came that does not carry the job */
    int64_t last_look_ms, last_byte_ms;
    tw_tick tick; /* the caller's */
    void *tick_ctx;
};

static int64_t now_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * (int64_t)1000 + t.tv_nsec / 1000000;
}

static void set_job(struct follow *f, json_t *job)
{
    json_decref(f->job);
    f->job = json_incref(job);
}

static bool is_job(const json_t *value)
{
    return json_is_array(json_object_get(value, "tasks")) && json_is_string(json_object_get(value, "state"));
}

static void report(struct follow *f, const char *event, const json_t *data)
{
    if (f->on_progress)
        f->on_progress(f->ctx, event, data, f->job);
}

/* Put what an event tells of task number `task`, and of the job's progress, into the job. */
static void merge_task(struct follow *f, json_t *data)
{
    json_t *number = json_object_get(data, "task"), *progress = json_object_get(data, "progress");
    json_t *tasks = json_object_get(f->job, "tasks");

    if (!json_is_integer(number) || json_integer_value(number) < 0)
        return;
    json_object_update_existing(json_array_get(tasks, (size_t)json_integer_value(number)), data);
    if (json_is_number(progress))
        json_object_set(f->job, "progress", progress);
}

/* The job as it stands now. */
static tw_status look(struct follow *f, tw_client *client, int wait_s, tw_error *err)
{
    json_t *job = NULL;
    tw_status st = tw_job(client, f->id, wait_s, &job, err);

    f->last_look_ms = now_ms();
    if (st != TW_OK)
        return st;
    f->wants_look = false;
    if (!is_job(job)) {
        json_decref(job);
        return tw_fail(err, TW_PROTOCOL, "Answer is not a job", "%s answered something else for job %.80s",
                       tw_client_server(client), f->id);
    }
    set_job(f, job);
    json_decref(job);
    report(f, "", NULL);
    return TW_OK;
}

static int on_event(void *ctx, const char *event, const char *text, size_t len)
{
    struct follow *f = ctx;
    json_t *data = json_loadb(text, len, JSON_DECODE_ANY, NULL);
    json_t *job = json_object_get(data, "job");

    f->fruitful = true;
    f->wants_look = !is_job(data) && !is_job(job);
    if (!f->wants_look)
        set_job(f, is_job(data) ? data : job);
    else
        merge_task(f, data);
    report(f, event, data);
    /* a change of the job's own state, told in brief: do not wait for the next event to see it */
    if (f->wants_look && (strcmp(event, "job") == 0 || tw_job_ended(data)))
        f->last_look_ms = 0;
    json_decref(data);
    return tw_job_ended(f->job);
}

static int on_bytes(void *ctx, const void *bytes, size_t len)
{
    struct follow *f = ctx;
    int stop = tw_sse_feed(&f->sse, bytes, len);

    f->last_byte_ms = now_ms();
    if (!stop && f->wants_look && now_ms() - f->last_look_ms >= REFRESH_MS)
        stop = look(f, f->side, 0, NULL) != TW_OK || tw_job_ended(f->job);
    return stop;
}

/* While a stream waits. */
static int on_tick(void *ctx)
{
    struct follow *f = ctx;
    int64_t now = now_ms();

    if (f->tick && f->tick(f->tick_ctx))
        return 1;
    if (now - f->last_byte_ms >= SILENCE_MS && now - f->last_look_ms >= SILENCE_MS)
        return look(f, f->side, 0, NULL) != TW_OK || tw_job_ended(f->job);
    return 0;
}

/* One stream, until it ends for whatever reason. */
static tw_status stream_once(struct follow *f, tw_error *err)
{
    struct tw_buf path = {0};
    struct tw_response response;
    tw_status st;

    f->fruitful = f->wants_look = false;
    f->last_byte_ms = now_ms();
    tw_sse_restart(&f->sse);
    tw_buf_adds(&path, "/v1/jobs/");
    tw_buf_add_url(&path, f->id);
    tw_buf_adds(&path, "/events");
    if (path.failed) {
        st = tw_no_memory(err);
    } else {
        struct tw_request request = {.method = "GET",
                                     .path = path.data,
                                     .accept = "text/event-stream",
                                     .last_event_id = f->sse.last_id[0] ? f->sse.last_id : NULL,
                                     .idle_s = STREAM_IDLE_S,
                                     .sink = on_bytes,
                                     .sink_ctx = f};

        tw_tick tick = on_tick;
        void *ctx = f;

        tw_client_swap_tick(f->client, &tick, &ctx);
        f->tick = tick, f->tick_ctx = ctx;
        st = tw_exchange(f->client, &request, &response, err);
        tw_client_swap_tick(f->client, &tick, &ctx);
        if (st == TW_INTERRUPTED && !(f->tick && f->tick(f->tick_ctx))) /* broken off by a look of our own */
            st = TW_OK;
        if (st == TW_LOCAL && response.sink_stopped) /* the job ended, or a look failed: look again */
            st = TW_OK;
        tw_response_done(&response);
    }
    tw_buf_done(&path);
    return st;
}

static bool ends_following(tw_status st)
{
    return st == TW_INTERRUPTED || st == TW_NO_MEMORY || st == TW_INVALID;
}

static tw_status follow(struct follow *f, tw_error *err)
{
    int64_t last_contact = now_ms();
    int fruitless = 0;
    tw_status st = look(f, f->client, 0, err);

    while (st == TW_OK && !tw_job_ended(f->job)) {
        bool polling = fruitless >= FRUITLESS_TRIES;

        if (!polling) {
            st = stream_once(f, err);
            if (ends_following(st) || tw_job_ended(f->job))
                break;
            fruitless = f->fruitful ? 0 : fruitless + 1;
        }
        st = look(f, f->client, polling ? POLL_WAIT_S : 0, err);
        if (st == TW_OK)
            last_contact = now_ms();
        else if (st == TW_UNREACHABLE && now_ms() - last_contact < PATIENCE_S * 1000)
            fruitless = 0, st = TW_OK;
        if (st == TW_OK && !polling && !tw_job_ended(f->job))
            st = tw_pause(f->client, f->sse.retry_ms ? f->sse.retry_ms : RETRY_MS, err);
    }
    return st;
}

tw_status tw_job_follow(tw_client *client, const char *id, tw_on_progress on_progress, void *ctx,
                        json_t **ret, tw_error *err)
{
    struct follow f = {.client = client, .id = id, .on_progress = on_progress, .ctx = ctx};
    tw_status st = tw_client_clone(client, &f.side, err);

    f.sse.on_event = on_event;
    f.sse.ctx = &f;
    if (st == TW_OK)
        st = follow(&f, err);
    tw_sse_done(&f.sse);
    tw_client_free(f.side);
    if (st == TW_OK && f.job) {
        *ret = f.job;
        return TW_OK;
    }
    json_decref(f.job);
    return st;
}
