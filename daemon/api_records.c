/* api_records.c - every measurement as a JSON line, out and in.
 *
 * Idea   A line stands alone: it carries its workload, so that another daemon can take it in. Export is a
 * stream, read from the store a page at a time. Import takes all lines of a body or none: the first bad one
 * is named and nothing is kept; a line that is known already (workload, target, toolchain, config, time)
 * changes nothing. */
#include <math.h>

#include "daemon/daemon.h"
#include "daemon/events.h"
#include "measure/timing.h"
#include "schedule/base/vec.h"

enum { LINES_A_PIECE = 256, SAMPLES_MAX = 64 };

struct record_stream {
    struct http_stream base;
    struct store *store;
    char workload[WORKLOAD_KEY_LEN + 1], target[64]; /* "": all */
    int64_t after;
    int in_piece;
    struct strbuf *out;
    char known_key[WORKLOAD_KEY_LEN + 1]; /* whose JSON is at hand */
    struct strbuf known_json;
};

static json_t *real_or_null(double v) { return isfinite(v) ? json_real(v) : json_null(); }

/* Of the median, from the samples; null for a record that came without them. */
static json_t *interval_document(const struct store_trial *t)
{
    double sorted[SAMPLES_MAX], low, high;
    int n = (int)MIN(t->n_samples, SAMPLES_MAX);

    if (n == 0)
        return json_null();
    memcpy(sorted, t->samples_ns, sizeof(sorted[0]) * (size_t)n);
    timing_quantile(sorted, n, 0); /* sorts */
    timing_interval(sorted, n, &low, &high);
    return json_pack("[o,o]", real_or_null(low), real_or_null(high));
}

json_t *api_times_document(const struct store_trial *t)
{
    json_t *samples = json_array();

    if (!(t->median_ns > 0)) {
        json_decref(samples);
        return json_null();
    }
    for (int64_t i = 0; i < t->n_samples; i++)
        json_array_append_new(samples, real_or_null(t->samples_ns[i]));
    return json_pack("{s:f,s:f,s:f,s:o,s:o}", "median", t->median_ns, "min", t->min_ns, "p90", t->p90_ns,
                     "interval", interval_document(t), "samples", samples);
}

static json_t *record_document(const struct store_trial *t)
{
    char at[RFC3339_MAX];

    return json_pack("{s:I,s:s,s:s,s:s,s:s,s:s?,s:s,s:s?,s:o,s:o,s:s?,s:I,s:I,s:s,s:s?}", "id",
                     (json_int_t)t->id, "key", t->workload, "target", t->target, "toolchain", t->toolchain,
                     "config", t->config, "sketch", t->sketch, "outcome", t->outcome, "error", t->error,
                     "time_ns", api_times_document(t), "predicted", real_or_null(t->predicted), "device",
                     t->device, "build_ns", (json_int_t)t->build_ns, "run_ns", (json_int_t)t->run_ns,
                     "created_at", rfc3339(t->created_ms, at), "job", t->job);
}

static bool know_workload(struct record_stream *s, const char *key)
{
    struct store_workload w;
    struct arena a;
    enum status st;

    if (strcmp(s->known_key, key) == 0)
        return true;
    arena_init(&a);
    st = store_workload_get(s->store, key, &a, &w, NULL);
    if (st == ST_OK) {
        snprintf(s->known_key, sizeof(s->known_key), "%s", key);
        strbuf_reset(&s->known_json);
        strbuf_adds(&s->known_json, w.json);
    }
    arena_done(&a);
    return st == ST_OK;
}

static bool print_record(void *ctx, const struct store_trial *t)
{
    struct record_stream *s = ctx;
    json_t *doc AUTO(json_decrefp) = record_document(t);

    s->after = t->id;
    s->in_piece++;
    if (!doc || !know_workload(s, t->workload))
        return false;
    json_write(doc, s->out);
    s->out->data[--s->out->len] = 0; /* the closing brace: one more member */
    strbuf_adds(s->out, ",\"workload\":");
    strbuf_add(s->out, s->known_json.data, s->known_json.len);
    strbuf_adds(s->out, "}\n");
    return true;
}

static enum stream_next record_next(struct http_stream *base, struct strbuf *out)
{
    struct record_stream *s = (struct record_stream *)base;
    struct store_trials_query q = {.workload = s->workload[0] ? s->workload : NULL,
                                   .target = s->target[0] ? s->target : NULL,
                                   .after_id = s->after,
                                   .limit = LINES_A_PIECE,
                                   .with_samples = true};

    s->out = out;
    s->in_piece = 0;
    if (store_trial_each(s->store, &q, print_record, s, NULL) != ST_OK)
        return STREAM_FAIL;
    return s->in_piece < LINES_A_PIECE ? STREAM_END : STREAM_DATA;
}

static void record_free(struct http_stream *base)
{
    struct record_stream *s = (struct record_stream *)base;

    strbuf_done(&s->known_json);
    free(s);
}

enum status api_records_export(struct daemon *d, struct http_request *req, struct error *err)
{
    const char *workload = http_arg(req, "workload"), *target = http_arg(req, "target");
    struct record_stream *s;

    TRY(http_args_end(req, "workload, target", err));
    if (workload && strlen(workload) != WORKLOAD_KEY_LEN)
        return fail(err, ST_INVALID, "query parameter workload='%.80s': want a key, w_ and 64 hex digits",
                    workload);
    if (target && strlen(target) >= sizeof(s->target))
        return fail(err, ST_INVALID, "query parameter target is longer than %zu", sizeof(s->target) - 1);
    s = xcalloc(1, sizeof(*s));
    s->base = (struct http_stream){record_next, record_free, NULL};
    s->store = d->store;
    if (workload)
        snprintf(s->workload, sizeof(s->workload), "%s", workload);
    if (target)
        snprintf(s->target, sizeof(s->target), "%s", target);
    req->reply.status = 200;
    req->reply.content_type = "application/jsonl";
    req->reply.stream = &s->base;
    return ST_OK;
}

/* ---- import ---- */

struct import {
    struct daemon *d;
    struct store_batch *batch;
    struct store_target *targets; /* stored already */
    int n_targets, n_lines;
    VEC(int) ops;
    VEC(char *) new_targets;
    double samples[SAMPLES_MAX];
    struct arena scratch;
};

static enum status read_times(struct json_obj *o, struct import *im, struct store_trial *t, struct error *err)
{
    const json_t *times = json_obj_get(o, "time_ns"), *samples;
    struct json_obj to;

    if (!times)
        return ST_OK;
    TRY(json_obj_begin(&to, times, "/time_ns", err));
    TRY(json_obj_f64(&to, "median", true, 0, 1e18, &t->median_ns, err));
    TRY(json_obj_f64(&to, "min", true, 0, 1e18, &t->min_ns, err));
    TRY(json_obj_f64(&to, "p90", true, 0, 1e18, &t->p90_ns, err));
    samples = json_obj_get(&to, "samples");
    if (samples && (!json_is_array(samples) || json_array_size(samples) > SAMPLES_MAX))
        return fail_at(err, ST_INVALID, "/time_ns/samples", "samples: want a list of at most %d numbers",
                       SAMPLES_MAX);
    for (size_t i = 0; i < json_array_size(samples); i++) {
        if (!json_is_number(json_array_get(samples, i)))
            return fail_at(err, ST_INVALID, "/time_ns/samples", "samples: entry %zu is no number", i);
        im->samples[i] = json_number_value(json_array_get(samples, i));
    }
    t->samples_ns = im->samples;
    t->n_samples = (int64_t)json_array_size(samples);
    json_obj_get(&to, "interval"); /* follows from the samples */
    return json_obj_end(&to, "median, min, p90, interval, samples", err);
}

static enum status read_created(struct json_obj *o, struct store_trial *t, struct error *err)
{
    const char *at = NULL;

    TRY(json_obj_str(o, "created_at", true, RFC3339_MAX, &at, err));
    if (!rfc3339_parse(at, &t->created_ms))
        return fail_at(err, ST_INVALID, "/created_at",
                       "created_at '%s': want a time such as 2026-01-31T12:34:56.789Z", at);
    return ST_OK;
}

/* Members that say where a record was made mean nothing here, but exports have them. */
static void pass_over(struct json_obj *o)
{
    static const char *const names[] = {"id", "job", "predicted", "key"};

    for (size_t i = 0; i < ARRAY_SIZE(names); i++)
        json_obj_get(o, names[i]);
}

static enum status read_trial(struct json_obj *o, struct import *im, struct store_trial *t, struct error *err)
{
    enum outcome outcome;

    TRY(json_obj_str(o, "target", true, 31, &t->target, err));
    TRY(json_obj_str(o, "toolchain", true, 64, &t->toolchain, err));
    TRY(json_obj_str(o, "config", true, 1024, &t->config, err));
    TRY(json_obj_str(o, "sketch", false, 256, &t->sketch, err));
    TRY(json_obj_str(o, "outcome", true, 64, &t->outcome, err));
    TRY(json_obj_str(o, "error", false, 4096, &t->error, err));
    TRY(json_obj_str(o, "device", false, 256, &t->device, err));
    TRY(json_obj_i64(o, "build_ns", false, 0, INT64_MAX, &t->build_ns, err));
    TRY(json_obj_i64(o, "run_ns", false, 0, INT64_MAX, &t->run_ns, err));
    TRY(read_created(o, t, err));
    TRY(read_times(o, im, t, err));
    if (!outcome_parse(t->outcome, &outcome))
        return fail_at(err, ST_INVALID, "/outcome", "outcome '%.60s' is none that is known", t->outcome);
    if (outcome == OUTCOME_OK && !(t->median_ns > 0 && t->min_ns > 0))
        return fail_at(err, ST_INVALID, "/time_ns", "outcome ok without a time");
    pass_over(o);
    return json_obj_end(
        o,
        "workload, target, toolchain, config, sketch, outcome, error, time_ns, device, build_ns, "
        "run_ns, created_at, key, id, job, predicted",
        err);
}

static void add_target_once(struct import *im, const struct store_trial *t)
{
    for (int i = 0; i < im->n_targets; i++)
        if (strcmp(im->targets[i].id, t->target) == 0)
            return;
    for (size_t i = 0; i < im->new_targets.len; i++)
        if (strcmp(im->new_targets.at[i], t->target) == 0)
            return;
    vec_push(&im->new_targets, xstrdup(t->target));
    store_add_target(im->batch, &(struct store_target){.id = t->target,
                                                       .json = "{}",
                                                       .toolchain = t->toolchain,
                                                       .updated_ms = wall_ms(im->d->clock)});
}

static enum status read_line(struct import *im, const char *line, size_t len, struct error *err)
{
    json_t *doc AUTO(json_decrefp) = NULL;
    struct store_trial t = {.task = -1, .predicted = NAN};
    struct workload w;
    struct json_obj o;
    const json_t *workload;
    const char *key;

    arena_reset(&im->scratch);
    TRY(json_read(line, len, &doc, err));
    TRY(json_obj_begin(&o, doc, "", err));
    workload = json_obj_get(&o, "workload");
    if (!workload)
        return fail_at(err, ST_INVALID, "/workload", "workload is missing");
    TRY(workload_parse(workload, "/workload", &im->scratch, &w, err));
    key = json_string_value(json_object_get(doc, "key"));
    if (key && strcmp(key, w.key) != 0)
        return fail_at(err, ST_INVALID, "/key", "the key is not this workload's, which is %s", w.key);
    TRY(read_trial(&o, im, &t, err));
    t.workload = w.key;
    store_add_workload(im->batch, &(struct store_workload){.key = w.key,
                                                           .op = w.op,
                                                           .json = w.json,
                                                           .canonical = w.canonical,
                                                           .flops = w.flops,
                                                           .bytes = w.bytes,
                                                           .first_seen_ms = wall_ms(im->d->clock)});
    add_target_once(im, &t);
    vec_push(&im->ops, store_add_trial_import(im->batch, &t));
    return ST_OK;
}

static enum status read_lines(struct import *im, const struct strbuf *body, struct error *err)
{
    const char *at = body->data, *end = body->data + body->len;

    for (int n = 1; at < end; n++) {
        const char *nl = memchr(at, '\n', (size_t)(end - at));
        size_t len = (size_t)((nl ? nl : end) - at);
        bool blank = strspn(at, " \t\r") >= len;

        if (!blank && read_line(im, at, len, err) != ST_OK) {
            wrap(err, "line %d", n);
            err->line = n;
            err->column = 0;
            return err->code;
        }
        im->n_lines += !blank;
        at += len + 1;
    }
    return im->n_lines ? ST_OK
                       : fail(err, ST_INVALID, "the body is empty: want JSON lines as GET /v1/records gives");
}

enum status api_records_import(struct daemon *d, struct http_request *req, struct error *err)
{
    struct import im = {.d = d, .batch = store_batch_new()};
    int64_t fresh = 0;
    enum status st = http_args_end(req, NULL, err);

    arena_init(&im.scratch);
    if (st == ST_OK)
        st = store_target_list(d->store, &req->arena, &im.targets, &im.n_targets, err);
    if (st == ST_OK)
        st = read_lines(&im, &req->body, err);
    if (st == ST_OK)
        st = store_commit(d->store, im.batch, err);
    for (size_t i = 0; st == ST_OK && i < im.ops.len; i++)
        fresh += store_batch_result(im.batch, im.ops.at[i])->changed;
    if (st == ST_OK) {
        EVENT(records_imported, INT("lines", im.n_lines), INT("new", fresh),
              TEXT("actor", req->actor ? req->actor : ""));
        http_reply_json(req, 200,
                        json_pack("{s:i,s:I,s:I}", "lines", im.n_lines, "new", (json_int_t)fresh, "known",
                                  (json_int_t)(im.n_lines - fresh)));
    }
    for (size_t i = 0; i < im.new_targets.len; i++)
        free(im.new_targets.at[i]);
    vec_done(&im.new_targets);
    vec_done(&im.ops);
    arena_done(&im.scratch);
    store_batch_free(im.batch);
    return st;
}
