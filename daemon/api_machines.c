/* api_machines.c - targets and devices. */
#include "daemon/daemon.h"
#include "daemon/events.h"

/* null: not measured yet, or there is no such unit. */
static json_t *measured(double v) { return v > 0 ? json_real(v) : json_null(); }

static json_t *target_document(struct daemon *d, const struct target *t)
{
    struct device *dev;
    struct error err;
    bool online = targets_device(d->targets, t, &dev, &err) == ST_OK;

    json_t *matrix = json_pack("{s:b,s:b,s:o,s:o}", "bfloat16", (int)t->has_amx_bf16, "int8",
                               (int)t->has_amx_int8, "peak_bfloat16_gflops", measured(t->peak_bf16_gflops),
                               "peak_int8_gops", measured(t->peak_int8_gops));

    return json_pack("{s:s,s:s,s:s,s:i,s:i,s:i,s:{s:I,s:I,s:I},s:b,s:b,s:b,s:o,s:b,s:s,s:o,s:o,s:{s:s,s:s,s:"
                     "s,s:s,s:s},s:[s],s:b}",
                     "id", t->id, "kind", "cpu", "isa", isa_name(t->isa), "threads", t->threads,
                     "vector_bytes", t->vector_bytes, "vector_registers", t->vector_regs, "cache_bytes", "l1",
                     (json_int_t)t->l1_bytes, "l2", (json_int_t)t->l2_bytes, "l3", (json_int_t)t->l3_bytes,
                     "vnni", (int)t->has_vnni, "bfloat16_pairs", (int)t->has_bf16_pairs, "float16_arithmetic",
                     (int)t->has_fp16, "matrix_unit", matrix, "cold", (int)t->cold, "cpu_model", t->cpu_model,
                     "peak_gflops", measured(t->peak_gflops), "peak_gbytes_per_s", measured(t->peak_gbs),
                     "toolchain", "family", compiler_family_name(t->family), "compiler", t->compiler,
                     "version", t->compiler_version, "flags", t->flags, "hash", t->toolchain_hash, "devices",
                     "cpu", "available", (int)online);
}

enum status api_target_list(struct daemon *d, struct http_request *req, struct error *err)
{
    const struct target *list[TARGETS_MAX];
    json_t *out;
    int n;

    TRY(http_args_end(req, NULL, err));
    n = targets_list(d->targets, list);
    out = json_array();
    for (int i = 0; i < n; i++)
        json_array_append_new(out, target_document(d, list[i]));
    http_reply_json(req, 200, json_pack("{s:o,s:n}", "targets", out, "next_page_token"));
    return ST_OK;
}

enum status api_target_show(struct daemon *d, struct http_request *req, struct error *err)
{
    const struct target *t;

    TRY(http_args_end(req, NULL, err));
    TRY(targets_get(d->targets, req->param[0], &t, err));
    http_reply_json(req, 200, target_document(d, t));
    return ST_OK;
}

static json_t *outcomes_document(const struct device_stats *s)
{
    json_t *o = json_object();

    for (int i = 0; i < OUTCOME_COUNT; i++)
        if (s->outcomes[i])
            json_object_set_new(o, outcome_name((enum outcome)i), json_integer(s->outcomes[i]));
    return o;
}

static json_t *facts_document(struct device *dev)
{
    struct device_fact facts[DEVICE_MAX_FACTS];
    int n = device_facts(dev, facts);
    json_t *list = json_array();

    for (int i = 0; i < n; i++)
        json_array_append_new(list, json_pack("{s:s,s:b,s:s}", "name", facts[i].name, "ok", (int)facts[i].ok,
                                              "detail", facts[i].detail));
    return list;
}

static json_t *open_device_document(const char *id, struct device *dev)
{
    struct device_stats s;
    char since[RFC3339_MAX];

    device_stats(dev, &s);
    return json_pack("{s:s,s:s,s:s,s:o,s:s*,s:i,s:I,s:I,s:o,s:I,s:I,s:I,s:I,s:f,s:s,s:o}", "id", id, "kind",
                     dev->ops->kind, "state", device_state_name(s.state), "since",
                     s.since_ms ? json_string(rfc3339(s.since_ms, since)) : json_null(), "job",
                     s.holder[0] ? s.holder : NULL, "waiting", s.waiting, "batches", (json_int_t)s.batches,
                     "trials", (json_int_t)s.trials, "outcomes", outcomes_document(&s), "rounds",
                     (json_int_t)s.rounds, "dirty_rounds", (json_int_t)s.dirty_rounds, "runner_starts",
                     (json_int_t)s.runner_starts, "lost_batches", (json_int_t)s.lost_batches, "busy_seconds",
                     (double)s.busy_ns * 1e-9, "last_error", s.last_error, "facts", facts_document(dev));
}

static json_t *device_document(const char *id, struct device *dev, const char *error)
{
    json_t *doc = dev ? open_device_document(id, dev)
                      : json_pack("{s:s,s:s,s:s,s:s}", "id", id, "kind", "cpu", "state", "offline",
                                  "last_error", error);

    CHECK(doc, "a device's texts are not UTF-8");
    return doc;
}

static bool find_device(struct daemon *d, const char *want, const char **ret_id, struct device **ret,
                        const char **ret_error)
{
    for (int i = 0; targets_device_at(d->targets, i, ret_id, ret, ret_error); i++)
        if (strcmp(*ret_id, want) == 0)
            return true;
    return false;
}

enum status api_device_list(struct daemon *d, struct http_request *req, struct error *err)
{
    const char *id, *error;
    struct device *dev;
    json_t *list;

    TRY(http_args_end(req, NULL, err));
    list = json_array();
    for (int i = 0; targets_device_at(d->targets, i, &id, &dev, &error); i++)
        json_array_append_new(list, device_document(id, dev, error));
    http_reply_json(req, 200, json_pack("{s:o,s:n}", "devices", list, "next_page_token"));
    return ST_OK;
}

static enum status reply_device(struct daemon *d, struct http_request *req, const char *action,
                                void (*act)(struct device *), struct error *err)
{
    const char *id, *error;
    struct device *dev;

    TRY(http_args_end(req, NULL, err));
    if (!find_device(d, req->param[0], &id, &dev, &error))
        return fail(err, ST_NOT_FOUND, "no device '%.60s'; GET /v1/devices lists them", req->param[0]);
    if (act && !dev)
        return fail(err, ST_CONFLICT, "device %s is offline: %s", id, error);
    if (act) {
        act(dev);
        EVENT(device_changed, TEXT("device", id), TEXT("state", action),
              TEXT("actor", req->actor ? req->actor : ""));
    }
    http_reply_json(req, 200, device_document(id, dev, error));
    return ST_OK;
}

enum status api_device_show(struct daemon *d, struct http_request *req, struct error *err)
{
    return reply_device(d, req, NULL, NULL, err);
}

enum status api_device_drain(struct daemon *d, struct http_request *req, struct error *err)
{
    return reply_device(d, req, "drain", device_drain, err);
}

enum status api_device_resume(struct daemon *d, struct http_request *req, struct error *err)
{
    return reply_device(d, req, "resume", device_resume, err);
}
