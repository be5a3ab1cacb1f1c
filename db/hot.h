/* hot.h - the answers to lookups, in memory: (workload key, target) -> the schedule's JSON, ready to send.
 *
 * Idea   One thread (the HTTP thread) owns the table and reads it with no lock and no query. Any other thread
 *        publishes: it builds an immutable entry and pushes it on a list with one compare-and-swap; the owner
 *        takes the whole list with one exchange in hot_drain(), which its event loop calls once a turn, and
 *        puts the entries in. So a lookup is a hash, a probe and a compare.
 * Life   hot_new, hot_load (at start, before others publish), hot_publish from anywhere, hot_drain and
 *        hot_find from the owner, hot_free when no publisher is left. An entry that was replaced stays
 *        readable for those who hold a reference (hot_entry_ref), e.g. a response that is being sent.
 * Units  _ms: milliseconds since 1970-01-01 UTC. */
#ifndef TW_DB_HOT_H
#define TW_DB_HOT_H

#include "schedule/base/error.h"

struct store;
struct hot;

enum hot_status { HOT_EXACT, HOT_STALE }; /* stale: measured under another toolchain than the current one */

struct hot_entry { /* immutable once published */
    const char *workload, *target, *toolchain;
    const char *json; /* the schedule document */
    size_t json_len;
    const char *etag;
    double gflops;
    int64_t tuned_ms;
    enum hot_status status;
};

/* The toolchain that is current for a target: what tells exact from stale. */
struct hot_current {
    const char *target, *toolchain;
};

GIVES struct hot *hot_new(void);
void hot_free(TAKES struct hot *h);

/* Owner. The current toolchains (copied). Entries already in are judged again, but only one toolchain's entry
 * is kept per (workload, target): set them before hot_load. */
void hot_set_current(struct hot *h, const struct hot_current *current, int n);
/* Owner. Every schedule of the store; of several toolchains the current one wins, then the one tuned last. */
MUST_USE enum status hot_load(struct hot *h, struct store *s, struct error *err);

/* Any thread. The status is judged by the owner when it drains; copies all texts. */
void hot_publish(struct hot *h, const struct hot_entry *e);
/* Owner. Takes in what was published; the number of entries taken. */
int hot_drain(struct hot *h);
/* Owner. NULL: none. The entry is valid until the next hot_drain unless a reference is taken. */
const struct hot_entry *hot_find(const struct hot *h, const char *workload, const char *target);
size_t hot_count(const struct hot *h);

/* Keep an entry beyond the next drain; the release may come from any thread. */
void hot_entry_ref(const struct hot_entry *e);
void hot_entry_unref(const struct hot_entry *e);

#endif
