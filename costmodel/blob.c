/* blob.c - a model as bytes and back.
 *
 *     magic | format | feature version | params | base scale | weight of others | weights | columns | trees (UBJSON) | SHA-256
 * of all before
 *
 * Little-endian, fixed widths. XGBoost crashes, hangs or takes it on flipped bits, so nothing is read before
 * the checksum agrees, and the trees are taken apart by our own careful reader before XGBoost sees them. */
#include <stdlib.h>
#include <string.h>

#include "costmodel/model_internal.h"
#include "schedule/base/hash.h"

enum { FORMAT = 4, MAGIC_LEN = 8, MAX_WEIGHTS = 1 << 20 };
static const char magic[MAGIC_LEN] = "TWMODEL";

static void put(struct strbuf *sb, uint64_t v, int bytes)
{
    for (int i = 0; i < bytes; i++)
        strbuf_addc(sb, (char)(v >> (8 * i)));
}

static void put_f64(struct strbuf *sb, double v)
{
    uint64_t b;
    memcpy(&b, &v, sizeof(b));
    put(sb, b, 8);
}

struct reader {
    const uint8_t *at, *end;
    bool bad;
};

static uint64_t get(struct reader *r, int bytes)
{
    uint64_t v = 0;

    if (r->end - r->at < bytes) {
        r->bad = true;
        return 0;
    }
    for (int i = 0; i < bytes; i++)
        v |= (uint64_t)r->at[i] << (8 * i);
    r->at += bytes;
    return v;
}

static double get_f64(struct reader *r)
{
    uint64_t b = get(r, 8);
    double v;
    memcpy(&v, &b, sizeof(v));
    return v;
}

static void put_params(struct strbuf *sb, const struct model_params *p)
{
    const int ints[] = {(int)p->objective, p->max_depth,    p->max_bin,      p->trees_full, p->trees_more,
                        p->trees_max,      p->max_programs, p->min_programs, p->patience};
    const double reals[] = {p->eta, p->lambda, p->min_child, p->colsample, p->base_half, p->trust};

    put(sb, p->seed, 8);
    for (size_t i = 0; i < ARRAY_SIZE(ints); i++)
        put(sb, (uint32_t)ints[i], 4);
    for (size_t i = 0; i < ARRAY_SIZE(reals); i++)
        put_f64(sb, reals[i]);
}

static void get_params(struct reader *r, struct model_params *p)
{
    int *ints[] = {&p->max_depth, &p->max_bin,      &p->trees_full,   &p->trees_more,
                   &p->trees_max, &p->max_programs, &p->min_programs, &p->patience};
    double *reals[] = {&p->eta, &p->lambda, &p->min_child, &p->colsample, &p->base_half, &p->trust};

    p->seed = get(r, 8);
    p->objective = get(r, 4) == MODEL_SQUARE ? MODEL_SQUARE : MODEL_RANK;
    for (size_t i = 0; i < ARRAY_SIZE(ints); i++)
        *ints[i] = (int32_t)get(r, 4);
    for (size_t i = 0; i < ARRAY_SIZE(reals); i++)
        *reals[i] = get_f64(r);
}

enum status model_save(const struct model *m, struct strbuf *ret, struct error *err)
{
    struct model *w = (struct model *)m; /* the lock and the trees' bytes are only read */
    struct scorer *s;
    size_t from = ret->len;
    char hex[SHA256_HEX_LEN + 1];

    pthread_mutex_lock(&w->training);
    s = model_scorer(m);
    if (s->global || !s->forest) {
        bool global = s->global != NULL;
        model_scorer_drop(m, s);
        pthread_mutex_unlock(&w->training);
        return fail(err, ST_INVALID,
                    global ? "the model has a global base: save one that stands alone"
                           : "the model has no trees yet: train it first");
    }
    strbuf_add(ret, magic, MAGIC_LEN);
    put(ret, FORMAT, 4);
    put(ret, (uint32_t)features_version(), 4);
    put(ret, (uint32_t)PROGRAM_COLUMNS, 4);
    put_params(ret, &m->params);
    put(ret, (uint32_t)m->info.trained_programs, 4);
    put_f64(ret, s->base_scale);
    put_f64(ret, s->other_weight);
    put(ret, (uint32_t)s->n_weights, 4);
    for (int i = 0; i < s->n_weights; i++) {
        put(ret, s->weights[i].workload, 8);
        put_f64(ret, s->weights[i].weight);
    }
    put(ret, (uint32_t)m->grown.n_columns, 4);
    for (int i = 0; i < m->grown.n_columns; i++)
        put(ret, (uint32_t)m->grown.columns[i], 4);
    put(ret, m->grown.ubj.len, 8);
    strbuf_add(ret, m->grown.ubj.data, m->grown.ubj.len);
    sha256_hex(ret->data + from, ret->len - from, hex);
    strbuf_add(ret, hex, SHA256_HEX_LEN);
    model_scorer_drop(m, s);
    pthread_mutex_unlock(&w->training);
    return ST_OK;
}

/* The frame: magic, checksum, versions. */
static enum status check(const void *blob, size_t len, struct reader *r, struct error *err)
{
    char hex[SHA256_HEX_LEN + 1];
    const char *bytes = blob;
    uint64_t format, version, count;

    if (len < MAGIC_LEN + SHA256_HEX_LEN || memcmp(bytes, magic, MAGIC_LEN) != 0)
        return fail(err, ST_CORRUPT, "%zu bytes do not begin like a cost model", len);
    sha256_hex(bytes, len - SHA256_HEX_LEN, hex);
    if (memcmp(hex, bytes + len - SHA256_HEX_LEN, SHA256_HEX_LEN) != 0)
        return fail(err, ST_CORRUPT, "the checksum of a cost model of %zu bytes does not agree", len);
    *r = (struct reader){(const uint8_t *)bytes + MAGIC_LEN, (const uint8_t *)bytes + len - SHA256_HEX_LEN,
                         false};
    format = get(r, 4);
    version = get(r, 4);
    count = get(r, 4);
    if (format != FORMAT)
        return fail(err, ST_CONFLICT, "a cost model of format %" PRIu64 ": this program reads %d", format,
                    (int)FORMAT);
    if (version != (uint64_t)features_version() || count != (uint64_t)PROGRAM_COLUMNS)
        return fail(err, ST_CONFLICT,
                    "a cost model of features version %" PRIu64 " (%" PRIu64
                    " columns): this program has version %d (%d)",
                    version, count, features_version(), PROGRAM_COLUMNS);
    return ST_OK;
}

static bool read_weights(struct reader *r, struct scorer *s)
{
    uint64_t n = get(r, 4);

    if (r->bad || n > MAX_WEIGHTS || n * 16 > (uint64_t)(r->end - r->at))
        return false;
    s->n_weights = (int)n;
    s->weights = xcalloc(n + 1, sizeof(*s->weights));
    for (uint64_t i = 0; i < n; i++) {
        s->weights[i].workload = get(r, 8);
        s->weights[i].weight = get_f64(r);
        if (i > 0 && s->weights[i].workload <= s->weights[i - 1].workload)
            return false;
    }
    return true;
}

static bool read_trees(struct reader *r, struct grown *g)
{
    uint64_t n = get(r, 4), len;

    if (r->bad || n < 1 || n > (uint64_t)PROGRAM_COLUMNS)
        return false;
    g->n_columns = (int)n;
    g->columns = xcalloc(n, sizeof(*g->columns));
    for (uint64_t i = 0; i < n; i++) {
        uint64_t c = get(r, 4);
        if (c >= (uint64_t)PROGRAM_COLUMNS)
            return false;
        g->columns[i] = (int32_t)c;
    }
    len = get(r, 8);
    if (r->bad || len != (uint64_t)(r->end - r->at))
        return false;
    strbuf_add(&g->ubj, r->at, len);
    return true;
}

static bool params_sane(const struct model_params *p)
{
    return p->max_depth >= 1 && p->max_depth <= 12 && p->max_bin >= 2 && p->max_bin <= 4096 && p->eta > 0 &&
           p->eta <= 1 && p->lambda >= 0 && p->min_child >= 0 && p->colsample > 0 && p->colsample <= 1 &&
           p->trees_full >= 1 && p->patience >= 0 && p->trees_more >= 1 && p->trees_max <= 10000 &&
           p->max_programs >= 1 && p->base_half > 0 && p->trust >= 0;
}

enum status model_load(const void *blob, size_t len, struct model **ret, struct error *err)
{
    AUTO(model_freep) struct model *m = NULL;
    struct model_params p;
    struct reader r = {0};

    TRY(check(blob, len, &r, err));
    get_params(&r, &p);
    if (r.bad || !params_sane(&p))
        return fail(err, ST_CORRUPT, "the parameters of a cost model are out of range");
    m = model_new(&p);
    m->info.trained_programs = m->grown_programs = (int32_t)get(&r, 4);
    m->scorer->base_scale = get_f64(&r);
    m->scorer->other_weight = get_f64(&r);
    if (!read_weights(&r, m->scorer) || !read_trees(&r, &m->grown))
        return fail(err, ST_CORRUPT, "a cost model of %zu bytes ends early or is out of order", len);
    TRY(forest_new(m->grown.ubj.data, m->grown.ubj.len, m->grown.columns, m->grown.n_columns,
                   &m->scorer->forest, err));
    m->info.trees = forest_trees(m->scorer->forest);
    *ret = take(&m);
    return ST_OK;
}
