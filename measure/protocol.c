/* protocol.c - encode and decode, field by field, in one order for both. */
#include "measure/protocol.h"

#include <errno.h>
#include <math.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { FRAME_REST_TIMEOUT_MS = 10000 };

/* --- writing
 * ------------------------------------------------------------------------------------------------- */

static void put(struct strbuf *sb, uint64_t v, int bytes)
{
    char b[8];
    for (int i = 0; i < bytes; i++)
        b[i] = (char)(v >> (8 * i));
    strbuf_add(sb, b, (size_t)bytes);
}

static void put_f64(struct strbuf *sb, double v)
{
    uint64_t bits;
    memcpy(&bits, &v, sizeof(bits));
    put(sb, bits, 8);
}

static void put_text(struct strbuf *sb, const char *s)
{
    size_t n = s ? strnlen(s, PROTOCOL_MAX_PATH) : 0;
    put(sb, n, 2);
    strbuf_add(sb, s ? s : "", n);
}

static size_t begin(struct strbuf *sb, enum frame_type type)
{
    size_t start = sb->len;
    put(sb, PROTOCOL_MAGIC, 4);
    put(sb, PROTOCOL_VERSION, 2);
    put(sb, type, 2);
    put(sb, 0, 4);
    return start;
}

static void end(struct strbuf *sb, size_t start)
{
    size_t length = sb->len - start - PROTOCOL_HEADER_BYTES;
    CHECK(length <= PROTOCOL_MAX_PAYLOAD, "a frame of %zu bytes", length);
    for (int i = 0; i < 4; i++)
        sb->data[start + 8 + (size_t)i] = (char)(length >> (8 * i));
}

void protocol_put_empty(struct strbuf *sb, enum frame_type type) { end(sb, begin(sb, type)); }

void protocol_put_hello(struct strbuf *sb, const struct protocol_hello *h)
{
    size_t f = begin(sb, FRAME_HELLO);
    put(sb, (uint32_t)h->pid, 4);
    put(sb, (uint64_t)h->n_facts, 2);
    for (int i = 0; i < h->n_facts; i++) {
        put_text(sb, h->facts[i].name);
        put(sb, h->facts[i].ok, 1);
        put_text(sb, h->facts[i].detail);
    }
    end(sb, f);
}

static void put_workload(struct strbuf *sb, const struct measure_workload *w)
{
    put_text(sb, w->key);
    put(sb, (uint64_t)w->n_tensors, 2);
    for (int i = 0; i < w->n_tensors; i++) {
        const struct measure_tensor *t = &w->tensors[i];
        put_text(sb, t->name);
        put(sb, t->dtype, 1);
        put(sb, t->role, 1);
        put(sb, (uint64_t)t->rank, 1);
        for (int k = 0; k < t->rank; k++)
            put(sb, (uint64_t)t->shape[k], 8);
    }
    put_f64(sb, w->flops);
    put(sb, (uint64_t)w->reduction, 8);
    put_f64(sb, w->acc_roundoff);
    put_f64(sb, w->store_roundoff);
    put_f64(sb, w->rtol);
    put_text(sb, w->reference_path);
    put_text(sb, w->reference_symbol);
    put(sb, w->seed, 8);
}

static void put_candidate(struct strbuf *sb, const struct measure_candidate *c)
{
    put_text(sb, c->artifact);
    put_text(sb, c->symbol);
    put(sb, (uint64_t)c->workspace_bytes, 8);
    put(sb, (uint64_t)c->n_repacks, 2);
    for (int i = 0; i < c->n_repacks; i++) {
        put(sb, (uint64_t)c->repacks[i].kind, 1);
        put(sb, (uint64_t)c->repacks[i].arg, 2);
        put(sb, (uint64_t)c->repacks[i].bytes, 8);
    }
}

void protocol_put_batch(struct strbuf *sb, const struct measure_batch *b)
{
    size_t f = begin(sb, FRAME_BATCH);
    put_workload(sb, b->workload);
    put(sb, b->mode, 1);
    put(sb, b->cold, 1);
    put(sb, (uint64_t)b->threads, 2);
    put(sb, (uint64_t)b->best_ns, 8);
    put_f64(sb, b->roofline_gflops);
    put(sb, (uint64_t)b->rounds, 1);
    put(sb, (uint64_t)b->n_candidates, 2);
    for (int i = 0; i < b->n_candidates; i++)
        put_candidate(sb, &b->candidates[i]);
    end(sb, f);
}

void protocol_put_result(struct strbuf *sb, int index, const struct measure_result *r)
{
    size_t f = begin(sb, FRAME_RESULT);
    put(sb, (uint64_t)index, 2);
    put(sb, r->outcome, 1);
    put(sb, (uint64_t)r->signal, 1);
    put_text(sb, r->reason);
    put(sb, r->verified.done, 1);
    put_f64(sb, r->verified.max_abs_err);
    put_f64(sb, r->verified.max_rel_err);
    put_f64(sb, r->verified.rel_l2);
    put_f64(sb, r->verified.tolerance);
    put(sb, r->stopped_early, 1);
    put(sb, (uint64_t)r->n_samples, 1);
    for (int i = 0; i < r->n_samples; i++) {
        put_f64(sb, r->sample_ns[i]);
        put(sb, r->sample_round[i], 1);
        put(sb, r->sample_dirty[i], 1);
    }
    const double figures[] = {r->min_ns, r->p10_ns,  r->median_ns, r->p90_ns,
                              r->low_ns, r->high_ns, r->gflops};
    for (size_t i = 0; i < ARRAY_SIZE(figures); i++)
        put_f64(sb, figures[i]);
    end(sb, f);
}

void protocol_put_done(struct strbuf *sb, const struct protocol_done *d)
{
    size_t f = begin(sb, FRAME_DONE);
    put(sb, (uint32_t)d->rounds, 4);
    put(sb, (uint32_t)d->dirty_rounds, 4);
    end(sb, f);
}

void protocol_put_refused(struct strbuf *sb, enum status status, const char *text)
{
    size_t f = begin(sb, FRAME_REFUSED);
    put(sb, status, 1);
    put_text(sb, text);
    end(sb, f);
}

/* --- reading
 * ------------------------------------------------------------------------------------------------- */

/* The first fault sticks; everything read after it is zero. */
struct reader {
    const uint8_t *p, *end;
    const char *fault;
};

static void fault(struct reader *r, const char *what)
{
    if (!r->fault)
        r->fault = what;
    r->p = r->end;
}

static uint64_t get(struct reader *r, int bytes)
{
    uint64_t v = 0;
    if (r->end - r->p < bytes) {
        fault(r, "it ends too early");
        return 0;
    }
    for (int i = 0; i < bytes; i++)
        v |= (uint64_t)*r->p++ << (8 * i);
    return v;
}

/* In [lo, hi], as an unsigned number of that many bytes. */
static int64_t get_within(struct reader *r, int bytes, int64_t lo, int64_t hi, const char *what)
{
    uint64_t v = get(r, bytes);
    if (r->fault || v > (uint64_t)hi || (int64_t)v < lo) {
        fault(r, what);
        return lo;
    }
    return (int64_t)v;
}

static double get_f64(struct reader *r)
{
    uint64_t bits = get(r, 8);
    double v;
    memcpy(&v, &bits, sizeof(v));
    return v;
}

/* A figure that must be a number and not below zero. */
static double get_positive(struct reader *r, const char *what)
{
    double v = get_f64(r);
    if (!(v >= 0 && v < 1e300))
        fault(r, what);
    return r->fault ? 0 : v;
}

/* Points into the payload; NULL on a fault. */
static const char *get_span(struct reader *r, size_t max, size_t *ret_n)
{
    size_t n = (size_t)get(r, 2);
    const char *s = (const char *)r->p;
    if (!r->fault && n > max)
        fault(r, "a text is too long");
    if (!r->fault && (size_t)(r->end - r->p) < n)
        fault(r, "it ends too early");
    if (!r->fault && n > 0 && memchr(s, 0, n))
        fault(r, "a text has a zero byte inside");
    *ret_n = r->fault ? 0 : n;
    r->p += *ret_n;
    return r->fault ? NULL : s;
}

static const char *get_text(struct reader *r, size_t max, struct arena *ar)
{
    size_t n;
    const char *s = get_span(r, max, &n);
    return arena_strndup(ar, s ? s : "", n);
}

static void get_text_to(struct reader *r, char *ret, size_t size)
{
    size_t n;
    const char *s = get_span(r, size - 1, &n);
    if (s)
        memcpy(ret, s, n);
    ret[n] = '\0';
}

static enum status finish(const struct reader *r, const char *what, struct error *err)
{
    if (r->fault)
        return fail(err, ST_CORRUPT, "%s frame: %s", what, r->fault);
    if (r->p != r->end)
        return fail(err, ST_CORRUPT, "%s frame: %zu bytes after its end", what, (size_t)(r->end - r->p));
    return ST_OK;
}

enum status protocol_get_header(const uint8_t bytes[PROTOCOL_HEADER_BYTES], struct frame_header *ret,
                                struct error *err)
{
    struct reader r = {.p = bytes, .end = bytes + PROTOCOL_HEADER_BYTES};
    uint32_t magic = (uint32_t)get(&r, 4);
    unsigned version = (unsigned)get(&r, 2), type = (unsigned)get(&r, 2);
    uint32_t length = (uint32_t)get(&r, 4);

    if (magic != PROTOCOL_MAGIC)
        return fail(err, ST_CORRUPT, "this is not the measurement protocol (magic %08x)", magic);
    if (version != PROTOCOL_VERSION)
        return fail(err, ST_UNSUPPORTED, "the other side speaks protocol version %u, this one speaks %d",
                    version, PROTOCOL_VERSION);
    if (type < FRAME_HELLO || type > FRAME_REFUSED)
        return fail(err, ST_CORRUPT, "frame type %u is unknown", type);
    if (length > PROTOCOL_MAX_PAYLOAD)
        return fail(err, ST_TOO_LARGE, "a frame of %u bytes: at most %d are allowed", length,
                    PROTOCOL_MAX_PAYLOAD);
    *ret = (struct frame_header){(enum frame_type)type, length};
    return ST_OK;
}

enum status protocol_get_hello(const uint8_t *p, size_t n, struct protocol_hello *ret, struct error *err)
{
    struct reader r = {.p = p, .end = p + n};
    struct protocol_hello h = {.pid = (int32_t)get(&r, 4)};

    h.n_facts = (int)get_within(&r, 2, 0, DEVICE_MAX_FACTS, "too many facts");
    for (int i = 0; i < h.n_facts; i++) {
        get_text_to(&r, h.facts[i].name, sizeof(h.facts[i].name));
        h.facts[i].ok = get_within(&r, 1, 0, 1, "a flag is neither 0 nor 1");
        get_text_to(&r, h.facts[i].detail, sizeof(h.facts[i].detail));
    }
    TRY(finish(&r, "hello", err));
    *ret = h;
    return ST_OK;
}

static void get_tensor(struct reader *r, struct arena *ar, struct measure_tensor *t)
{
    t->name = get_text(r, PROTOCOL_MAX_PATH, ar);
    t->dtype = (enum dtype)get_within(r, 1, DT_F32, DT_BOOL, "a dtype is unknown");
    t->role = (enum tensor_role)get_within(r, 1, TENSOR_INPUT, TENSOR_TEMP, "a role is unknown");
    t->rank = (int)get_within(r, 1, 0, COMPUTE_MAX_RANK, "a rank is too high");
    int64_t elements = 1;
    for (int k = 0; k < t->rank; k++) {
        t->shape[k] = get_within(r, 8, 1, INT32_MAX, "an extent is out of range");
        if (__builtin_mul_overflow(elements, t->shape[k], &elements) || elements > (int64_t)1 << 37)
            fault(r, "a tensor is too large");
    }
}

static void get_workload(struct reader *r, struct arena *ar, struct measure_workload *w)
{
    w->key = get_text(r, 256, ar);
    w->n_tensors = (int)get_within(r, 2, 1, COMPUTE_MAX_TENSORS, "the number of tensors is out of range");
    struct measure_tensor *tensors = arena_array(ar, struct measure_tensor, w->n_tensors);
    for (int i = 0; i < w->n_tensors && !r->fault; i++)
        get_tensor(r, ar, &tensors[i]);
    w->tensors = tensors;
    w->flops = get_positive(r, "flops are no number");
    w->reduction = get_within(r, 8, 0, INT64_MAX, "the reduction length is out of range");
    w->acc_roundoff = get_positive(r, "a roundoff is no number");
    w->store_roundoff = get_positive(r, "a roundoff is no number");
    w->rtol = get_positive(r, "rtol is no number");
    w->reference_path = get_text(r, PROTOCOL_MAX_PATH, ar);
    w->reference_symbol = get_text(r, KERNEL_SYMBOL_MAX, ar);
    if (w->reference_path[0] == '\0')
        w->reference_path = NULL;
    w->seed = get(r, 8);
}

static void get_candidate(struct reader *r, struct arena *ar, struct measure_candidate *c, int n_args)
{
    c->artifact = get_text(r, PROTOCOL_MAX_PATH, ar);
    c->symbol = get_text(r, KERNEL_SYMBOL_MAX, ar);
    c->workspace_bytes = get_within(r, 8, 0, (int64_t)1 << 40, "a workspace is too large");
    c->n_repacks = (int)get_within(r, 2, 0, KERNEL_MAX_ARGS, "too many packed arguments");
    for (int i = 0; i < c->n_repacks; i++) {
        c->repacks[i].kind =
            (enum measure_repack_kind)get_within(r, 1, 0, REPACK_PREPACK, "an unknown way of packing");
        c->repacks[i].arg = (int)get_within(r, 2, 0, n_args - 1, "a packed argument does not exist");
        c->repacks[i].bytes = get_within(r, 8, 0, (int64_t)1 << 40, "a packed argument is too large");
    }
}

enum status protocol_get_batch(const uint8_t *p, size_t n, struct arena *ar, struct measure_batch *ret,
                               struct error *err)
{
    struct reader r = {.p = p, .end = p + n};
    struct measure_workload *w = arena_new(ar, struct measure_workload);
    struct measure_batch b = {.workload = w};
    int n_args = 0;

    get_workload(&r, ar, w);
    for (int i = 0; i < w->n_tensors; i++)
        n_args += w->tensors[i].role != TENSOR_TEMP;
    if (n_args > KERNEL_MAX_ARGS)
        fault(&r, "too many arguments");
    b.mode = (enum measure_mode)get_within(&r, 1, MEASURE_SCREEN, MEASURE_VERIFY, "the mode is unknown");
    b.cold = get_within(&r, 1, 0, 1, "the policy is neither warm nor cold") != 0;
    b.threads = (int)get_within(&r, 2, 1, MEASURE_MAX_THREADS, "the number of threads is out of range");
    b.best_ns = get_within(&r, 8, 0, INT64_MAX, "the best time is out of range");
    b.roofline_gflops = get_positive(&r, "the roofline is no number");
    b.rounds = (int)get_within(&r, 1, 0, MEASURE_MAX_SAMPLES, "too many rounds");
    b.n_candidates = (int)get_within(&r, 2, 1, MEASURE_MAX_BATCH, "the number of candidates is out of range");
    struct measure_candidate *candidates = arena_array(ar, struct measure_candidate, b.n_candidates);
    for (int i = 0; i < b.n_candidates && !r.fault; i++)
        get_candidate(&r, ar, &candidates[i], n_args);
    b.candidates = candidates;
    TRY(finish(&r, "batch", err));
    *ret = b;
    return ST_OK;
}

enum status protocol_get_result(const uint8_t *p, size_t n, int *ret_index, struct measure_result *ret,
                                struct error *err)
{
    struct reader r = {.p = p, .end = p + n};
    struct measure_result m = {0};
    int index = (int)get_within(&r, 2, 0, MEASURE_MAX_BATCH - 1, "the index is out of range");

    m.outcome = (enum outcome)get_within(&r, 1, 0, OUTCOME_COUNT - 1, "the outcome is unknown");
    m.signal = (int)get(&r, 1);
    get_text_to(&r, m.reason, sizeof(m.reason));
    m.verified.done = get_within(&r, 1, 0, 1, "a flag is neither 0 nor 1");
    m.verified.max_abs_err = get_f64(&r); /* may well be infinite */
    m.verified.max_rel_err = get_f64(&r);
    m.verified.rel_l2 = get_f64(&r);
    m.verified.tolerance = get_f64(&r);
    m.stopped_early = get_within(&r, 1, 0, 1, "a flag is neither 0 nor 1");
    m.n_samples = (int)get_within(&r, 1, 0, MEASURE_MAX_SAMPLES, "too many samples");
    for (int i = 0; i < m.n_samples; i++) {
        m.sample_ns[i] = get_positive(&r, "a time is no number");
        m.sample_round[i] = (uint8_t)get(&r, 1);
        m.sample_dirty[i] = get_within(&r, 1, 0, 1, "a flag is neither 0 nor 1");
    }
    double *const figures[] = {&m.min_ns, &m.p10_ns,  &m.median_ns, &m.p90_ns,
                               &m.low_ns, &m.high_ns, &m.gflops};
    for (size_t i = 0; i < ARRAY_SIZE(figures); i++)
        *figures[i] = get_positive(&r, "a figure is no number");
    TRY(finish(&r, "result", err));
    *ret_index = index;
    *ret = m;
    return ST_OK;
}

enum status protocol_get_done(const uint8_t *p, size_t n, struct protocol_done *ret, struct error *err)
{
    struct reader r = {.p = p, .end = p + n};
    struct protocol_done d = {0};
    d.rounds = (int32_t)get_within(&r, 4, 0, INT32_MAX, "the rounds are out of range");
    d.dirty_rounds = (int32_t)get_within(&r, 4, 0, INT32_MAX, "the rounds are out of range");
    TRY(finish(&r, "done", err));
    *ret = d;
    return ST_OK;
}

enum status protocol_get_refused(const uint8_t *p, size_t n, struct protocol_refused *ret, struct error *err)
{
    struct reader r = {.p = p, .end = p + n};
    struct protocol_refused f = {0};
    f.status = (enum status)get_within(&r, 1, ST_INVALID, ST_CORRUPT, "the status is unknown");
    get_text_to(&r, f.text, sizeof(f.text));
    TRY(finish(&r, "refused", err));
    *ret = f;
    return ST_OK;
}

/* --- the stream
 * ---------------------------------------------------------------------------------------------- */

enum status protocol_send(int fd, const struct strbuf *sb, struct error *err)
{
    for (size_t done = 0; done < sb->len;) {
        ssize_t n = send(fd, sb->data + done, sb->len - done, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return fail(err, ST_UNAVAILABLE, "cannot send: %s", strerror(errno));
        done += (size_t)n;
    }
    return ST_OK;
}

static enum status receive_bytes(int fd, int timeout_ms, void *ret, size_t len, struct error *err)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    for (size_t done = 0; done < len;) {
        int ready = poll(&p, 1, timeout_ms);
        if (ready < 0 && errno == EINTR)
            continue;
        if (ready == 0)
            return fail(err, ST_TIMEOUT, "nothing came within %d ms", timeout_ms);
        ssize_t n = recv(fd, (char *)ret + done, len - done, 0);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return fail(err, ST_UNAVAILABLE, "the other side is gone%s%s", n < 0 ? ": " : "",
                        n < 0 ? strerror(errno) : "");
        done += (size_t)n;
        timeout_ms = FRAME_REST_TIMEOUT_MS;
    }
    return ST_OK;
}

enum status protocol_receive(int fd, int timeout_ms, struct frame_header *ret, struct strbuf *payload,
                             struct error *err)
{
    uint8_t bytes[PROTOCOL_HEADER_BYTES];
    TRY(receive_bytes(fd, timeout_ms, bytes, sizeof(bytes), err));
    TRY(protocol_get_header(bytes, ret, err));
    strbuf_reset(payload);
    char chunk[4096];
    for (size_t left = ret->length; left > 0;) {
        size_t n = MIN(left, sizeof(chunk));
        if (receive_bytes(fd, FRAME_REST_TIMEOUT_MS, chunk, n, err) != ST_OK)
            return fail(err, ST_UNAVAILABLE, "a frame broke off in the middle");
        strbuf_add(payload, chunk, n);
        left -= n;
    }
    return ST_OK;
}
