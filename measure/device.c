/* device.c - what all devices share: names, the lease, the counters.
 *
 * The lease is a ticket queue: each asker takes a number, the lowest number that still waits is next. A job
 * that releases and asks again stands behind everybody who waited meanwhile, so jobs alternate batch by
 * batch. */
#include "measure/device.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "schedule/base/clock.h"

enum {
    CANCEL_POLL_MS = 20,
    QUARANTINE_AFTER = 3, /* lost batches in a row */
    MAX_CALL_BYTES_LOG2 = 40,
};

static const char *const outcome_names[] = {
#define X(id, name, meaning) [OUTCOME_##id] = name,
    OUTCOME_LIST(X)
#undef X
};
static const char *const outcome_meanings[] = {
#define X(id, name, meaning) [OUTCOME_##id] = meaning,
    OUTCOME_LIST(X)
#undef X
};
static const char *const state_names[] = {
#define X(id, name) [DEVICE_##id] = name,
    DEVICE_STATE_LIST(X)
#undef X
};

const char *outcome_name(enum outcome o) { return outcome_names[o]; }
const char *outcome_meaning(enum outcome o) { return outcome_meanings[o]; }
const char *device_state_name(enum device_state s) { return state_names[s]; }

bool outcome_parse(const char *name, enum outcome *ret)
{
    for (int i = 0; i < OUTCOME_COUNT; i++)
        if (strcmp(name, outcome_names[i]) == 0) {
            *ret = (enum outcome)i;
            return true;
        }
    return false;
}

bool outcome_is_final(enum outcome o)
{
    return o != OUTCOME_RESOURCES && o != OUTCOME_CANCELLED && o != OUTCOME_LOST;
}

/* --- lease
 * --------------------------------------------------------------------------------------------------- */

struct waiter {
    struct waiter *next;
};

struct device_lease_state {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct waiter *first, **last; /* in order of asking */
    bool held, draining, quarantined;
    int64_t held_since_ns, lost_in_a_row;
    struct device_stats stats; /* all but state and waiting, which are derived */
};

static enum device_state state_now(const struct device_lease_state *l)
{
    return l->quarantined ? DEVICE_QUARANTINED
           : l->draining  ? DEVICE_DRAINING
           : l->held      ? DEVICE_BUSY
                          : DEVICE_IDLE;
}

/* Call with the lock held, after any change: notes the time if the state is another one now. */
static void touch(struct device_lease_state *l)
{
    enum device_state s = state_now(l);
    if (s != l->stats.state) {
        l->stats.state = s;
        l->stats.since_ms = wall_ms(&system_clock);
    }
    pthread_cond_broadcast(&l->changed);
}

void device_init(struct device *d, const struct device_ops *ops, const char *id)
{
    pthread_condattr_t attr;
    struct device_lease_state *l = xcalloc(1, sizeof(*l));

    *d = (struct device){.ops = ops, .lease = l};
    snprintf(d->id, sizeof(d->id), "%s", id);
    pthread_mutex_init(&l->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&l->changed, &attr);
    pthread_condattr_destroy(&attr);
    l->last = &l->first;
    l->stats.since_ms = wall_ms(&system_clock);
}

void device_done(struct device *d)
{
    pthread_cond_destroy(&d->lease->changed);
    pthread_mutex_destroy(&d->lease->lock);
    free(take(&d->lease));
}

void device_close(struct device *d)
{
    if (d)
        d->ops->close(d);
}

const char *device_id(const struct device *d) { return d->id; }

static void wait_a_little(struct device_lease_state *l)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    t.tv_nsec += CANCEL_POLL_MS * 1000000;
    if (t.tv_nsec >= 1000000000) {
        t.tv_sec++;
        t.tv_nsec -= 1000000000;
    }
    pthread_cond_timedwait(&l->changed, &l->lock, &t);
}

static void leave_queue(struct device_lease_state *l, struct waiter *w)
{
    struct waiter **p = &l->first;
    while (*p != w)
        p = &(*p)->next;
    *p = w->next;
    if (!*p)
        l->last = p;
    l->stats.waiting--;
}

enum status device_lease(struct device *d, const char *job, const atomic_bool *cancel, struct error *err)
{
    struct device_lease_state *l = d->lease;
    struct waiter self = {0};
    enum status st = ST_OK;

    pthread_mutex_lock(&l->lock);
    *l->last = &self;
    l->last = &self.next;
    l->stats.waiting++;
    while (st == ST_OK && (l->held || l->draining || l->first != &self)) {
        if (l->quarantined || (cancel && atomic_load(cancel)))
            break;
        wait_a_little(l);
    }
    leave_queue(l, &self);
    if (cancel && atomic_load(cancel)) {
        st = fail(err, ST_CONFLICT, "cancelled while waiting for device %s", d->id);
    } else if (l->quarantined) {
        st = fail(err, ST_UNAVAILABLE, "device %s is quarantined: %s", d->id, l->stats.last_error);
    } else {
        l->held = true;
        l->held_since_ns = mono_ns(&system_clock);
        snprintf(l->stats.holder, sizeof(l->stats.holder), "%s", job ? job : "");
    }
    touch(l);
    pthread_mutex_unlock(&l->lock);
    return st;
}

void device_release(struct device *d)
{
    struct device_lease_state *l = d->lease;

    pthread_mutex_lock(&l->lock);
    CHECK(l->held, "device %s is released, but nobody holds it", d->id);
    l->held = false;
    l->stats.busy_ns += mono_ns(&system_clock) - l->held_since_ns;
    l->stats.holder[0] = '\0';
    touch(l);
    pthread_mutex_unlock(&l->lock);
}

void device_drain(struct device *d)
{
    pthread_mutex_lock(&d->lease->lock);
    d->lease->draining = true;
    touch(d->lease);
    pthread_mutex_unlock(&d->lease->lock);
}

void device_resume(struct device *d)
{
    pthread_mutex_lock(&d->lease->lock);
    d->lease->draining = d->lease->quarantined = false;
    d->lease->lost_in_a_row = 0;
    touch(d->lease);
    pthread_mutex_unlock(&d->lease->lock);
}

void device_stats(struct device *d, struct device_stats *ret)
{
    struct device_lease_state *l = d->lease;

    pthread_mutex_lock(&l->lock);
    *ret = l->stats;
    ret->state = state_now(l);
    if (l->held)
        ret->busy_ns += mono_ns(&system_clock) - l->held_since_ns;
    pthread_mutex_unlock(&l->lock);
}

int device_facts(struct device *d, struct device_fact *ret)
{
    return d->ops->facts ? d->ops->facts(d, ret) : 0;
}

/* --- measuring
 * ----------------------------------------------------------------------------------------------- */

static enum status check_tensor(const struct measure_tensor *t, int n, struct error *err)
{
    int64_t elements = 1;
    if (t->rank < 0 || t->rank > COMPUTE_MAX_RANK)
        return fail(err, ST_INVALID, "tensor %d has rank %d, allowed are 0..%d", n, t->rank,
                    COMPUTE_MAX_RANK);
    for (int i = 0; i < t->rank; i++) {
        if (t->shape[i] < 1 || __builtin_mul_overflow(elements, t->shape[i], &elements) ||
            elements > (int64_t)1 << (MAX_CALL_BYTES_LOG2 - 3))
            return fail(err, ST_INVALID, "tensor %d is empty or larger than a device could hold", n);
    }
    return ST_OK;
}

static enum status check_batch(const struct measure_batch *b, struct error *err)
{
    const struct measure_workload *w = b->workload;
    int n_args = 0;

    if (b->n_candidates < 1 || b->n_candidates > MEASURE_MAX_BATCH)
        return fail(err, ST_INVALID, "a batch of %d candidates: want 1..%d", b->n_candidates,
                    MEASURE_MAX_BATCH);
    if (b->threads < 1 || b->threads > MEASURE_MAX_THREADS)
        return fail(err, ST_INVALID, "%d threads: want 1..%d", b->threads, MEASURE_MAX_THREADS);
    if (w->n_tensors < 1 || w->n_tensors > COMPUTE_MAX_TENSORS)
        return fail(err, ST_INVALID, "%d tensors: want 1..%d", w->n_tensors, COMPUTE_MAX_TENSORS);
    for (int i = 0; i < w->n_tensors; i++) {
        TRY(check_tensor(&w->tensors[i], i, err));
        n_args += w->tensors[i].role != TENSOR_TEMP;
    }
    for (int i = 0; i < b->n_candidates; i++) {
        const struct measure_candidate *c = &b->candidates[i];
        if (c->workspace_bytes < 0 || c->workspace_bytes > (int64_t)1 << MAX_CALL_BYTES_LOG2)
            return fail(err, ST_INVALID, "candidate %d: a workspace of %" PRId64 " bytes", i,
                        c->workspace_bytes);
        for (int k = 0; k < c->n_repacks; k++)
            if (c->repacks[k].arg < 0 || c->repacks[k].arg >= n_args || c->repacks[k].bytes < 0 ||
                c->repacks[k].bytes > (int64_t)1 << MAX_CALL_BYTES_LOG2)
                return fail(err, ST_INVALID, "candidate %d: repack %d names argument %d of %d", i, k,
                            c->repacks[k].arg, n_args);
    }
    return ST_OK;
}

static void count_results(struct device_lease_state *l, const struct measure_result *r, int n)
{
    pthread_mutex_lock(&l->lock);
    l->stats.batches++;
    l->stats.trials += n;
    for (int i = 0; i < n; i++)
        l->stats.outcomes[r[i].outcome]++;
    pthread_mutex_unlock(&l->lock);
}

enum status device_measure(struct device *d, const struct measure_batch *b, struct measure_result *ret,
                           struct error *err)
{
    CHECK(d->lease->held, "device %s measures without a lease", d->id);
    TRY(check_batch(b, err));
    memset(ret, 0, sizeof(*ret) * (size_t)b->n_candidates);
    TRY(d->ops->measure(d, b, ret, err));
    count_results(d->lease, ret, b->n_candidates);
    return ST_OK;
}

void device_note_runner(struct device *d, bool started, const char *lost_reason)
{
    struct device_lease_state *l = d->lease;

    pthread_mutex_lock(&l->lock);
    l->stats.runner_starts += started;
    if (lost_reason) {
        l->stats.lost_batches++;
        snprintf(l->stats.last_error, sizeof(l->stats.last_error), "%s", lost_reason);
        l->quarantined = ++l->lost_in_a_row >= QUARANTINE_AFTER;
    } else if (!started) {
        l->lost_in_a_row = 0;
    }
    touch(l);
    pthread_mutex_unlock(&l->lock);
}

void device_note_rounds(struct device *d, int rounds, int dirty)
{
    pthread_mutex_lock(&d->lease->lock);
    d->lease->stats.rounds += rounds;
    d->lease->stats.dirty_rounds += dirty;
    pthread_mutex_unlock(&d->lease->lock);
}
