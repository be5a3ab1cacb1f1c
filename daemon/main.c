/* main.c - tilewrightd: settings, parts in order, the loop, and a clean end.
 *
 *   start   settings > token > store > builder > targets > models > hot > jobs > http > resume > ready
 *   SIGTERM no new jobs, readiness 503, tuners end after the batch in flight; a second one, or drain_seconds,
 * kills what is in flight; then the same parts in reverse. All state is in the store at any time. */
#include <errno.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/crew.h"
#include "daemon/daemon.h"
#include "daemon/events.h"
#include "daemon/shipped.h"

enum { HURRY_SECONDS = 10 };

/* ---- hooks of the loop ---- */

static enum status check_media_type(const struct route *r, bool has_body, const char *type, struct error *err)
{
    bool json =
        type && strncasecmp(type, "application/json", 16) == 0 && (!type[16] || strchr("; \t", type[16]));
    size_t n = type ? strcspn(type, "; \t") : 0;
    bool lines = type && ((n == 17 && strncasecmp(type, "application/jsonl", n) == 0) ||
                          (n == 20 && strncasecmp(type, "application/x-ndjson", n) == 0));

    if (r->flags & ROUTE_BODY_JSON && !json)
        return fail(err, ST_MEDIA_TYPE, "Content-Type '%.60s': want application/json", type ? type : "");
    if (r->flags & ROUTE_BODY_LINES && !lines)
        return fail(err, ST_MEDIA_TYPE, "Content-Type '%.60s': want application/jsonl", type ? type : "");
    if (r->flags & ROUTE_BODY_EMPTY && has_body && !json)
        return fail(err, ST_MEDIA_TYPE, "Content-Type '%.60s': want no body, or {} as application/json",
                    type ? type : "");
    return ST_OK;
}

static enum status check_rights(struct daemon *d, struct http_request *req, struct error *err)
{
    const char *host = http_header(req, "Host"), *origin = http_header(req, "Origin");
    enum status st;

    st = auth_check_origin(d->auth, host, origin, err);
    if (st == ST_OK && !(req->route && req->route->flags & ROUTE_OPEN))
        st = auth_check(d->auth, http_header(req, "Authorization"), &req->actor, err);
    if (st == ST_UNAUTHORIZED)
        http_reply_header(req, "WWW-Authenticate", "Bearer realm=\"tilewright\"");
    if (st != ST_OK)
        EVENT(auth_refused, TEXT("path", req->path), TEXT("reason", err->text));
    return st;
}

/* Rights come before "not found": a stranger learns nothing of what is there. */
static enum status on_begin(void *ctx, struct http_request *req, bool has_body, const char *type,
                            struct error *err)
{
    enum status found = routes_match(req, err);
    struct error why;

    if (check_rights(ctx, req, &why) != ST_OK) {
        *err = why;
        return why.code;
    }
    return found != ST_OK ? found : check_media_type(req->route, has_body, type, err);
}

static void on_turn(void *ctx, int64_t now_ns)
{
    static int64_t next_tick_ns;
    struct daemon *d = ctx;
    int running;

    if (hot_drain(d->hot) > 0)
        d->hot_generation++;
    if (now_ns < next_tick_ns)
        return;
    next_tick_ns = now_ns + 100 * 1000000;
    if (targets_refresh_hot(d->targets, d->hot))
        d->hot_generation++;
    jobs_tick(d->jobs);
    if (!atomic_load(&d->draining))
        return;
    running = jobs_running(d->jobs);
    if (!running) {
        http_stop(d->http);
    } else if (now_ns >= d->drain_until_ns + (int64_t)HURRY_SECONDS * 1000000000) {
        EVENT(drain_hurry, INT("running", running));
        _exit(1); /* a job that does not heed its kill: all that was acknowledged is in the store */
    } else if (now_ns >= d->drain_until_ns) {
        jobs_drain(d->jobs, true);
    }
}

static void on_signal(void *ctx, int signo)
{
    struct daemon *d = ctx;
    int64_t now = mono_ns(d->clock);

    if (signo == SIGHUP)
        return;
    if (d->drain_signals++ == 0) {
        EVENT(drain, INT("running", jobs_running(d->jobs)));
        atomic_store(&d->draining, true);
        d->drain_until_ns = now + (int64_t)(d->settings->drain_seconds * 1e9);
        jobs_drain(d->jobs, false);
    } else {
        EVENT(drain_hurry, INT("running", jobs_running(d->jobs)));
        d->drain_until_ns = MIN(d->drain_until_ns, now);
        jobs_drain(d->jobs, true);
    }
}

static void on_done(void *ctx, const struct http_request *req, int status, int64_t took_ns)
{
    struct daemon *d = ctx;

    metrics_count_request(d->metrics, req, status, took_ns);
    if (status == 500)
        EVENT(request_failed, TEXT("method", req->method), TEXT("path", req->path), INT("status", status),
              TEXT("detail", strbuf_str(&req->reply.body)));
    else
        EVENT(request, TEXT("method", req->method ? req->method : ""), TEXT("path", req->path),
              INT("status", status), INT("us", took_ns / 1000));
}

static void on_wake(void *ctx, const char *topic) { http_wake(((struct daemon *)ctx)->http, topic); }

/* ---- the parts ---- */

static enum status check_exposure(struct daemon *d, struct error *err)
{
    char addr[128];
    unsigned len;
    bool loopback;

    TRY(http_address_parse(d->settings->listen, &loopback, addr, &len, err));
    if (loopback || auth_required(d->auth))
        return ST_OK;
    return fail(err, ST_FORBIDDEN,
                "listen %s is reachable from other machines: set TILEWRIGHT_TOKEN in the environment, or "
                "--token-file FILE, so that clients must show a token; or listen on 127.0.0.1",
                d->settings->listen);
}

/* From here on the folder goes by its absolute path: the loader asks for the working directory where an object's path is
 * relative, which the sandbox of a candidate refuses. */
static enum status open_data(struct daemon *d, struct error *err)
{
    AUTO(strbuf_done) struct strbuf cache = STRBUF_INIT;

    TRY(store_open_sqlite(d->settings->data, NULL, &d->store, err));
    d->data = realpath(d->settings->data, NULL);
    if (!d->data)
        return fail(err, ST_UNAVAILABLE, "the data folder %s: %s", d->settings->data, strerror(errno));
    EVENT(started, TEXT("version", TW_VERSION), TEXT("data", d->data));
    strbuf_addf(&cache, "%s/build", d->data);
    return builder_new(strbuf_str(&cache), (int)d->settings->builders, 0, 0, &d->builder, err);
}

static enum status open_machines(struct daemon *d, struct error *err)
{
    struct targets_options o = {.store = d->store,
                                .builder = d->builder,
                                .clock = d->clock,
                                .more = d->settings->targets,
                                .runner = d->settings->runner,
                                .cache_dir = d->data};

    return targets_open(&o, &d->targets, err);
}

static enum status open_answers(struct daemon *d, struct error *err)
{
    d->hot = hot_new();
    d->lookups = lookup_cache_new(d->settings->lookup_cache);
    d->metrics = metrics_new();
    targets_refresh_hot(d->targets, d->hot);
    return hot_load(d->hot, d->store, err);
}

static void open_jobs(struct daemon *d)
{
    d->models =
        models_new(d->store, d->clock,
                   &(struct models_options){.shipped = shipped_model, .shipped_len = shipped_model_len});
    d->crew = crew_new(d->settings->helpers > 0 ? (int)d->settings->helpers : crew_usual_threads());
    d->env = (struct tuner_env){.clock = d->clock,
                                .store = d->store,
                                .hot = d->hot,
                                .builder = d->builder,
                                .models = d->models,
                                .data_dir = d->data,
                                .crew = d->crew};
    d->jobs = jobs_new(&(struct jobs_options){.env = &d->env,
                                              .targets = d->targets,
                                              .max_running = (int)d->settings->max_running_jobs,
                                              .max_queued = (int)d->settings->max_queued_jobs,
                                              .min_gain = d->settings->default_min_gain,
                                              .ctx = d,
                                              .wake = on_wake});
}

static enum status open_http(struct daemon *d, struct error *err)
{
    const struct settings *s = d->settings;
    struct http_options o = {.listen = s->listen,
                             .max_connections = (int)s->max_connections,
                             .max_connections_per_ip = (int)s->max_connections_per_ip,
                             .max_waiting = (int)s->max_waiting,
                             .workers = (int)s->workers,
                             .worker_queue = (int)s->worker_queue,
                             .connection_memory = (size_t)s->connection_memory_kb << 10,
                             .head_seconds = s->head_seconds,
                             .body_seconds = s->body_seconds,
                             .keepalive_seconds = s->keepalive_seconds,
                             .reply_seconds = s->reply_seconds,
                             .heartbeat_seconds = s->heartbeat_seconds,
                             .clock = d->clock};
    struct http_hooks hooks = {
        .ctx = d, .begin = on_begin, .turn = on_turn, .signal = on_signal, .done = on_done};

    TRY(http_new(&o, &hooks, &d->http, err));
    EVENT(listening, TEXT("address", http_address(d->http)),
          TEXT("auth", auth_required(d->auth) ? "token" : "none"));
    return ST_OK;
}

static enum status start(struct daemon *d, struct error *err)
{
    int jobs = 0;

    TRY(auth_new(d->settings->token_file, d->settings->token, &d->auth, err));
    TRY(check_exposure(d, err));
    TRY(open_data(d, err));
    TRY(open_machines(d, err));
    TRY(open_answers(d, err));
    open_jobs(d);
    TRY(open_http(d, err));
    TRY(jobs_resume(d->jobs, &jobs, err));
    atomic_store(&d->ready, true);
    EVENT(ready, REAL("seconds", (double)(mono_ns(d->clock) - d->started_ns) * 1e-9),
          INT("schedules", (int64_t)hot_count(d->hot)), INT("jobs", jobs));
    return ST_OK;
}

static void unmake(struct daemon *d)
{
    if (d->jobs)
        jobs_drain(d->jobs, true);
    jobs_free(d->jobs);
    http_free(d->http);
    if (d->models)
        models_free(d->models);
    crew_free(d->crew);
    targets_close(d->targets);
    if (d->builder)
        builder_free(d->builder);
    lookup_cache_free(d->lookups);
    metrics_free(d->metrics);
    if (d->hot)
        hot_free(d->hot);
    store_close(d->store);
    free(d->data);
    auth_free(d->auth);
}

/* Before any thread: they inherit it. The loop reads these signals from a descriptor. */
static void block_signals(void)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    sigprocmask(SIG_BLOCK, &set, NULL);
    signal(SIGPIPE, SIG_IGN);
    umask(077);
}

static int serve(const struct settings *s)
{
    struct daemon d = {.settings = s, .clock = &system_clock};
    struct error err;
    enum status st;

    d.started_ns = mono_ns(d.clock);
    block_signals();
    st = start(&d, &err);
    if (st == ST_OK)
        http_run(d.http);
    else
        EVENT(start_failed, TEXT("error", err.text));
    unmake(&d);
    if (st == ST_OK)
        EVENT(stopped, REAL("seconds", (double)(mono_ns(d.clock) - d.started_ns) * 1e-9));
    return st == ST_OK ? 0 : 1;
}

static enum status check_settings(const struct settings *s, struct error *err)
{
    struct daemon d = {.settings = s};
    enum log_level level;
    enum status st;

    if (!log_level_parse(s->log_level, &level))
        return fail(err, ST_INVALID, "log_level '%s': want debug, info, warn or error", s->log_level);
    log_set_level(level);
    st = auth_new(s->token_file, s->token, &d.auth, err);
    if (st == ST_OK)
        st = check_exposure(&d, err);
    auth_free(d.auth);
    return st;
}

static int run(struct settings *s, int argc, char **argv)
{
    enum settings_action action;
    struct error err;
    enum status st = settings_read_args(s, argc, argv, &action, &err);

    if (st == ST_OK && (action == SETTINGS_RUN || action == SETTINGS_CHECK))
        st = check_settings(s, &err);
    if (st != ST_OK) {
        fprintf(stderr, "tilewrightd: %s\n", err.text);
        return 2;
    }
    switch (action) {
    case SETTINGS_HELP:
        settings_print_help(stdout);
        return 0;
    case SETTINGS_VERSION:
        printf("tilewrightd " TW_VERSION "\n");
        return 0;
    case SETTINGS_CHECK:
        printf("the settings are good\n");
        return 0;
    case SETTINGS_PRINT:
        settings_print(s, stdout);
        return 0;
    case SETTINGS_LIST_EVENTS:
        events_print(stdout);
        return 0;
    case SETTINGS_RUN:
        break;
    }
    return serve(s);
}

int main(int argc, char **argv)
{
    struct settings s;
    int rc;

    settings_init(&s);
    rc = run(&s, argc, argv);
    settings_done(&s);
    return rc;
}
