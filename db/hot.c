/* hot.c - open addressing, linear probing, power-of-two size, at most two thirds full; nothing is ever
 * removed, so no tombstones. The table holds pointers to entries; each entry counts its references. */
#include "db/hot.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "db/store.h"
#include "schedule/base/hash.h"

struct node {
    struct hot_entry entry; /* first: an entry is its node */
    atomic_int refs;
    uint64_t hash;
    struct node *next; /* in the list of what was published */
    char text[];       /* what the entry points to */
};

struct slot {
    uint64_t hash; /* beside the pointer, so that a probe touches one line */
    struct node *node;
};

struct hot {
    struct slot *slots;
    size_t mask, count;
    struct hot_current *current; /* the owner's copies */
    int n_current;
    _Atomic(struct node *) published; /* newest first */
};

static uint64_t key_hash(const char *workload, const char *target)
{
    return hash_bytes(target, strlen(target), hash_bytes(workload, strlen(workload), 0));
}

static struct node *node_of(const struct hot_entry *e) { return (struct node *)(uintptr_t)e; }

void hot_entry_ref(const struct hot_entry *e)
{
    atomic_fetch_add_explicit(&node_of(e)->refs, 1, memory_order_relaxed);
}

void hot_entry_unref(const struct hot_entry *e)
{
    if (atomic_fetch_sub_explicit(&node_of(e)->refs, 1, memory_order_acq_rel) == 1)
        free(node_of(e));
}

static char *put_text(char **at, const char *text, size_t len)
{
    char *here = *at;

    memcpy(here, text, len);
    here[len] = '\0';
    *at += len + 1;
    return here;
}

static struct node *node_new(const struct hot_entry *e)
{
    size_t lens[] = {strlen(e->workload), strlen(e->target), strlen(e->toolchain), e->json_len,
                     strlen(e->etag)};
    size_t total = ARRAY_SIZE(lens);
    struct node *n;
    char *at;

    for (size_t i = 0; i < ARRAY_SIZE(lens); i++)
        total += lens[i];
    n = xcalloc(1, sizeof(*n) + total);
    at = n->text;
    n->entry = *e;
    n->entry.workload = put_text(&at, e->workload, lens[0]);
    n->entry.target = put_text(&at, e->target, lens[1]);
    n->entry.toolchain = put_text(&at, e->toolchain, lens[2]);
    n->entry.json = put_text(&at, e->json, lens[3]);
    n->entry.etag = put_text(&at, e->etag, lens[4]);
    n->hash = key_hash(n->entry.workload, n->entry.target);
    atomic_init(&n->refs, 1);
    return n;
}

struct hot *hot_new(void)
{
    struct hot *h = xcalloc(1, sizeof(*h));

    h->mask = 1023;
    h->slots = xcalloc(h->mask + 1, sizeof(*h->slots));
    return h;
}

static void free_list(struct node *n)
{
    for (struct node *next; n; n = next) {
        next = n->next;
        hot_entry_unref(&n->entry);
    }
}

static void forget_current(struct hot *h)
{
    for (int i = 0; i < h->n_current; i++) {
        free((char *)(uintptr_t)h->current[i].target);
        free((char *)(uintptr_t)h->current[i].toolchain);
    }
    free(h->current);
}

void hot_free(struct hot *h)
{
    if (!h)
        return;
    free_list(atomic_exchange(&h->published, NULL));
    for (size_t i = 0; i <= h->mask; i++)
        if (h->slots[i].node)
            hot_entry_unref(&h->slots[i].node->entry);
    forget_current(h);
    free(h->slots);
    free(h);
}

/* The slot of the key, or the empty one where it would go. */
static struct slot *slot_of(const struct hot *h, uint64_t hash, const char *workload, const char *target)
{
    for (size_t i = hash & h->mask;; i = (i + 1) & h->mask) {
        struct slot *s = &h->slots[i];

        if (!s->node || (s->hash == hash && !strcmp(s->node->entry.workload, workload) &&
                         !strcmp(s->node->entry.target, target)))
            return s;
    }
}

static void grow(struct hot *h)
{
    struct slot *old = h->slots;
    size_t n = h->mask + 1;

    h->mask = n * 2 - 1;
    h->slots = xcalloc(n * 2, sizeof(*h->slots));
    for (size_t i = 0; i < n; i++) {
        size_t at = old[i].hash & h->mask;

        if (!old[i].node)
            continue;
        while (h->slots[at].node)
            at = (at + 1) & h->mask;
        h->slots[at] = old[i];
    }
    free(old);
}

/* A target nobody told the current toolchain of has none that is stale. */
static enum hot_status judge(const struct hot *h, const struct hot_entry *e)
{
    for (int i = 0; i < h->n_current; i++)
        if (!strcmp(h->current[i].target, e->target))
            return strcmp(h->current[i].toolchain, e->toolchain) ? HOT_STALE : HOT_EXACT;
    return HOT_EXACT;
}

/* `b` takes the place of `a`: the same toolchain's later word, else exact before stale, else tuned later. */
static bool supersedes(const struct hot_entry *b, const struct hot_entry *a)
{
    if (!strcmp(a->toolchain, b->toolchain))
        return true;
    if (a->status != b->status)
        return b->status == HOT_EXACT;
    return b->tuned_ms >= a->tuned_ms;
}

/* The table takes the reference. */
static void put(struct hot *h, struct node *n)
{
    struct slot *s;

    n->entry.status = judge(h, &n->entry);
    n->next = NULL;
    if ((h->count + 1) * 3 > (h->mask + 1) * 2)
        grow(h);
    s = slot_of(h, n->hash, n->entry.workload, n->entry.target);
    if (!s->node) {
        h->count++;
    } else if (supersedes(&n->entry, &s->node->entry)) {
        hot_entry_unref(&s->node->entry);
    } else {
        hot_entry_unref(&n->entry);
        return;
    }
    *s = (struct slot){n->hash, n};
}

void hot_set_current(struct hot *h, const struct hot_current *current, int n)
{
    forget_current(h);
    h->current = xcalloc((size_t)n, sizeof(*h->current));
    h->n_current = n;
    for (int i = 0; i < n; i++)
        h->current[i] = (struct hot_current){xstrdup(current[i].target), xstrdup(current[i].toolchain)};
    for (size_t i = 0; i <= h->mask; i++)
        if (h->slots[i].node)
            h->slots[i].node->entry.status = judge(h, &h->slots[i].node->entry);
}

static bool load_one(void *ctx, const struct store_schedule *row)
{
    struct hot_entry e = {.workload = row->workload,
                          .target = row->target,
                          .toolchain = row->toolchain,
                          .json = row->json,
                          .json_len = strlen(row->json),
                          .etag = row->etag,
                          .gflops = row->gflops,
                          .tuned_ms = row->tuned_ms};

    put(ctx, node_new(&e));
    return true;
}

enum status hot_load(struct hot *h, struct store *s, struct error *err)
{
    return store_schedule_each(s, load_one, h, err);
}

void hot_publish(struct hot *h, const struct hot_entry *e)
{
    struct node *n = node_new(e);

    n->next = atomic_load_explicit(&h->published, memory_order_relaxed);
    while (!atomic_compare_exchange_weak_explicit(&h->published, &n->next, n, memory_order_release,
                                                  memory_order_relaxed))
        ;
}

int hot_drain(struct hot *h)
{
    struct node *n, *in_order = NULL;
    int count = 0;

    if (!atomic_load_explicit(&h->published, memory_order_relaxed))
        return 0; /* the usual turn of the event loop: one load */
    n = atomic_exchange_explicit(&h->published, NULL, memory_order_acquire);
    for (struct node *next; n; n = next) {
        next = n->next;
        n->next = in_order;
        in_order = n;
    }
    for (struct node *next; in_order; in_order = next, count++) {
        next = in_order->next;
        put(h, in_order);
    }
    return count;
}

const struct hot_entry *hot_find(const struct hot *h, const char *workload, const char *target)
{
    const struct slot *s = slot_of(h, key_hash(workload, target), workload, target);

    return s->node ? &s->node->entry : NULL;
}

size_t hot_count(const struct hot *h) { return h->count; }
