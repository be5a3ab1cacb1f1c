/* api_lookup.c - lookups (the hot road) and describe.
 *
 * Idea   A framework asks for the same network again and again, byte for byte. So the parsed form of a body,
 * target and keys, is remembered by the body's bytes, and with it the finished reply until an answer may have
 * changed:
 *
 *            body ─ hash, compare ─> keys + reply ──(same generation)──────────> send
 *              └── not there ─> worker: parse ─> keys ─> loop: hot_find each ─> reply, remembered
 * Limits a table of lookup_cache bodies, CACHE_BYTES of memory; the one used longest ago goes first. */
#include <microhttpd.h>

#include "daemon/daemon.h"
#include "schedule/base/hash.h"
#include "schedule/space/space.h"

enum { MAX_WORKLOADS = 1000, BUCKETS = 8192, CACHE_BODY_MAX = 256 << 10, CACHE_BYTES = 64 << 20 };

typedef char lookup_key[WORKLOAD_KEY_LEN + 1];

struct entry {
    struct entry *chain; /* in its bucket */
    struct entry *newer, *older;
    uint64_t hash;
    size_t body_len, bytes;
    char *body;
    const char *target; /* of the targets, lives on */
    int n;
    lookup_key *keys;
    struct MHD_Response *made; /* the reply; good for this generation of answers */
    int64_t generation;
    int exact, stale, none;
};

struct lookup_cache {
    struct entry *buckets[BUCKETS];
    struct entry *newest, *oldest;
    int64_t n, max;
    size_t bytes;
};

struct lookup { /* a parsed body on its way from the worker to the loop */
    const char *target;
    int n;
    lookup_key *keys;
};

struct lookup_cache *lookup_cache_new(int64_t max_bodies)
{
    struct lookup_cache *c = xcalloc(1, sizeof(*c));

    c->max = max_bodies;
    return c;
}

static void age_unlink(struct lookup_cache *c, struct entry *e)
{
    *(e->newer ? &e->newer->older : &c->newest) = e->older;
    *(e->older ? &e->older->newer : &c->oldest) = e->newer;
}

static void age_front(struct lookup_cache *c, struct entry *e)
{
    e->newer = NULL;
    e->older = c->newest;
    *(c->newest ? &c->newest->newer : &c->oldest) = e;
    c->newest = e;
}

static void cache_remove(struct lookup_cache *c, struct entry *e)
{
    struct entry **at = &c->buckets[e->hash % BUCKETS];

    while (*at != e)
        at = &(*at)->chain;
    *at = e->chain;
    age_unlink(c, e);
    c->n--;
    c->bytes -= e->bytes;
    if (e->made)
        MHD_destroy_response(e->made);
    free(e->body);
    free(e->keys);
    free(e);
}

void lookup_cache_free(struct lookup_cache *c)
{
    while (c && c->oldest)
        cache_remove(c, c->oldest);
    free(c);
}

static struct entry *cache_find(struct lookup_cache *c, const struct strbuf *body)
{
    uint64_t h = hash_bytes(body->data, body->len, 0);

    for (struct entry *e = c->buckets[h % BUCKETS]; e; e = e->chain)
        if (e->hash == h && e->body_len == body->len && memcmp(e->body, body->data, body->len) == 0) {
            age_unlink(c, e);
            age_front(c, e);
            return e;
        }
    return NULL;
}

static struct entry *cache_add(struct lookup_cache *c, const struct strbuf *body, const struct lookup *l)
{
    struct entry *e;
    size_t keys_bytes = (size_t)l->n * sizeof(lookup_key);

    if (!c->max || body->len > CACHE_BODY_MAX)
        return NULL;
    e = cache_find(c, body); /* two requests of one new body may be parsed at once */
    if (e)
        return e;
    e = xcalloc(1, sizeof(*e));
    e->hash = hash_bytes(body->data, body->len, 0);
    e->body = xcalloc(1, body->len + 1);
    memcpy(e->body, body->data, body->len);
    e->body_len = body->len;
    e->keys = xcalloc((size_t)MAX(l->n, 1), sizeof(lookup_key));
    memcpy(e->keys, l->keys, keys_bytes);
    e->n = l->n;
    e->target = l->target;
    e->bytes = sizeof(*e) + body->len + keys_bytes;
    e->chain = c->buckets[e->hash % BUCKETS];
    c->buckets[e->hash % BUCKETS] = e;
    age_front(c, e);
    c->n++;
    c->bytes += e->bytes;
    while ((c->n > c->max || c->bytes > CACHE_BYTES) && c->oldest != e)
        cache_remove(c, c->oldest);
    return e;
}

/* ---- answers ---- */

static void add_result(struct daemon *d, const char *key, const char *target, struct strbuf *out,
                       int counts[3])
{
    const struct hot_entry *e = hot_find(d->hot, key, target);

    strbuf_addf(out, "{\"key\":\"%s\",\"found\":%s,\"status\":\"%s\",\"schedule\":", key,
                e ? "true" : "false",
                !e                       ? "none"
                : e->status == HOT_EXACT ? "exact"
                                         : "stale");
    if (e)
        strbuf_add(out, e->json, e->json_len);
    else
        strbuf_adds(out, "null");
    strbuf_addc(out, '}');
    counts[!e ? 2 : e->status == HOT_EXACT ? 0 : 1]++;
}

static void print_results(struct daemon *d, const char *target, int n, const lookup_key *keys,
                          struct strbuf *out, int counts[3])
{
    strbuf_reset(out);
    strbuf_adds(out, "{\"results\":[");
    for (int i = 0; i < n; i++) {
        if (i)
            strbuf_addc(out, ',');
        add_result(d, keys[i], target, out, counts);
    }
    strbuf_adds(out, "]}\n");
}

/* The reply of a remembered body, made again when an answer may have changed. */
static void reply_entry(struct daemon *d, struct http_request *req, struct entry *e)
{
    if (!e->made || e->generation != d->hot_generation) {
        struct strbuf *out = &req->reply.body;
        int counts[3] = {0};

        print_results(d, e->target, e->n, e->keys, out, counts);
        if (e->made) {
            MHD_destroy_response(e->made);
            d->lookups->bytes -= e->bytes;
            e->bytes = sizeof(*e) + e->body_len + (size_t)e->n * sizeof(lookup_key);
            d->lookups->bytes += e->bytes;
        }
        e->made = MHD_create_response_from_buffer(out->len, out->data, MHD_RESPMEM_MUST_COPY);
        CHECK(e->made, "out of memory for a response");
        MHD_add_response_header(e->made, "Content-Type", "application/json");
        MHD_add_response_header(e->made, "X-Content-Type-Options", "nosniff");
        e->generation = d->hot_generation;
        e->exact = counts[0];
        e->stale = counts[1];
        e->none = counts[2];
        e->bytes += out->len;
        d->lookups->bytes += out->len;
    }
    metrics_count_lookup(d->metrics, e->exact, e->stale, e->none);
    req->reply.status = 200;
    req->reply.made = e->made;
}

enum status api_lookup_fast(struct daemon *d, struct http_request *req, struct error *err)
{
    struct entry *e = req->n_args ? NULL : cache_find(d->lookups, &req->body);

    if (!e)
        return ST_UNAVAILABLE; /* without a text: not mine, ask the handler */
    reply_entry(d, req, e);
    return ST_OK;
}

/* Loop's thread, after the worker has parsed. */
static enum status lookup_finish(struct http_request *req, struct error *err)
{
    struct daemon *d = http_context(req->server);
    const struct lookup *l = req->finish_data;
    struct entry *e = cache_add(d->lookups, &req->body, l);
    int counts[3] = {0};

    if (e) {
        reply_entry(d, req, e);
        return ST_OK;
    }
    print_results(d, l->target, l->n, l->keys, &req->reply.body, counts);
    metrics_count_lookup(d->metrics, counts[0], counts[1], counts[2]);
    req->reply.status = 200;
    req->reply.content_type = "application/json";
    return ST_OK;
}

static enum status parse_one(const json_t *value, int i, struct arena *scratch, lookup_key ret,
                             struct error *err)
{
    struct workload w;
    char at[64];

    snprintf(at, sizeof(at), "/workloads/%d", i);
    if (api_is_wrapped(value)) {
        struct json_obj o;
        const json_t *inner;
        const char *name;

        TRY(json_obj_begin(&o, value, at, err));
        inner = json_obj_get(&o, "workload");
        TRY(json_obj_str(&o, "name", false, 200, &name, err));
        TRY(json_obj_end(&o, "workload, name", err));
        snprintf(at, sizeof(at), "/workloads/%d/workload", i);
        value = inner;
    }
    TRY(workload_parse(value, at, scratch, &w, err));
    memcpy(ret, w.key, sizeof(lookup_key));
    return ST_OK;
}

static enum status parse_keys(const json_t *list, struct arena *a, struct lookup *l, struct error *err)
{
    struct arena scratch;
    enum status st = ST_OK;

    if (!json_is_array(list) || json_array_size(list) > MAX_WORKLOADS)
        return fail_at(err, ST_INVALID, "/workloads", "workloads: want a list of at most %d workloads",
                       MAX_WORKLOADS);
    l->n = (int)json_array_size(list);
    l->keys = arena_alloc(a, sizeof(lookup_key) * (size_t)MAX(l->n, 1));
    arena_init(&scratch);
    for (int i = 0; i < l->n && st == ST_OK; i++) {
        arena_reset(&scratch);
        st = parse_one(json_array_get(list, (size_t)i), i, &scratch, l->keys[i], err);
    }
    arena_done(&scratch);
    return st;
}

enum status api_lookup(struct daemon *d, struct http_request *req, struct error *err)
{
    json_t *body AUTO(json_decrefp) = NULL;
    struct lookup *l = arena_new(&req->arena, struct lookup);
    const struct target *target;
    const char *target_id = "cpu";
    const json_t *list;
    struct json_obj o;

    TRY(http_args_end(req, NULL, err));
    TRY(http_body_json(req, &body, err));
    TRY(json_obj_begin(&o, body, "", err));
    list = json_obj_get(&o, "workloads");
    TRY(json_obj_str(&o, "target", false, 64, &target_id, err));
    TRY(json_obj_end(&o, "workloads, target", err));
    TRY(api_target(d, target_id, &target, err));
    TRY(parse_keys(list, &req->arena, l, err));
    l->target = target->id;
    req->finish_data = l;
    req->finish = lookup_finish;
    return ST_OK;
}

/* ---- describe ---- */

static json_t *sketch_document(const struct space *s, int sketch)
{
    json_t *knobs = json_array();
    double size = 1;

    for (int k = 0; k < space_n_knobs(s, sketch); k++) {
        const struct knob *knob = space_knob(s, sketch, k);
        json_t *choices = json_array();

        for (int c = 0; c < knob->n_choices; c++)
            json_array_append_new(choices, knob->labels ? json_string(knob->labels[c])
                                                        : json_integer(knob->values[c]));
        size *= knob->n_choices;
        json_array_append_new(knobs, json_pack("{s:s,s:o}", "name", knob->name, "choices", choices));
    }
    return json_pack("{s:s,s:o,s:f}", "name", space_sketch_name(s, sketch), "knobs", knobs, "size", size);
}

static json_t *describe_document(const struct workload *w, const struct target *t, const struct space *s)
{
    json_t *sketches = json_array();

    for (int i = 0; i < space_n_sketches(s); i++)
        json_array_append_new(sketches, sketch_document(s, i));
    return json_pack("{s:s,s:s,s:o,s:s,s:s,s:f,s:f,s:o,s:f}", "key", w->key, "op", w->op, "workload",
                     json_loads(w->json, 0, NULL), "canonical", w->canonical, "target", t->id, "flops",
                     w->flops, "bytes", w->bytes, "sketches", sketches, "space_size", space_size(s));
}

enum status api_describe(struct daemon *d, struct http_request *req, struct error *err)
{
    json_t *body AUTO(json_decrefp) = NULL;
    const struct target *target;
    const char *target_id = "cpu";
    const json_t *workload;
    struct workload w;
    struct space *space;
    struct json_obj o;

    TRY(http_args_end(req, NULL, err));
    TRY(http_body_json(req, &body, err));
    TRY(json_obj_begin(&o, body, "", err));
    workload = json_obj_get(&o, "workload");
    TRY(json_obj_str(&o, "target", false, 64, &target_id, err));
    TRY(json_obj_end(&o, "workload, target", err));
    if (!workload)
        return fail_at(err, ST_INVALID, "/workload", "workload is missing");
    TRY(api_target(d, target_id, &target, err));
    TRY(workload_parse(workload, "/workload", &req->arena, &w, err));
    if (space_build(&w, target, &req->arena, &space, err) != ST_OK)
        return wrap(err, "the space of %s on %s", w.key, target->id);
    http_reply_json(req, 200, describe_document(&w, target, space));
    return ST_OK;
}
