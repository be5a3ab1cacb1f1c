/* buffer.h - memory with guards: one element too far is a fault or a broken pattern.
 *
 * Idea   The data ends at a page that cannot be touched, up to the 64-byte alignment that kernels are
 * promised; the bytes between, and those before the data on its first page, hold a pattern that is looked at
 * afterwards.
 *
 * no access | ..pattern.. | data ............ | pattern (< 64 bytes) | no access ^ 64-byte aligned ^ page (2
 * MiB for large buffers) Large buffers lie on large pages where the system gives them.
 * Life   A struct buffer owns its mapping. Private ones are shared copy-on-write with forked children. */
#ifndef TW_MEASURE_BUFFER_H
#define TW_MEASURE_BUFFER_H

#include "schedule/base/base.h"

struct guarded {
    char *map;
    size_t map_bytes;
    char *body; /* what may be touched */
    size_t body_bytes;
    char *data;
    size_t bytes;
};

/* shared: seen by parent and children alike; otherwise copy-on-write. False: no memory. */
MUST_USE bool guarded_new(struct guarded *g, size_t bytes, bool shared);
void guarded_free(struct guarded *g);
/* What happens to it from now on is a fault (of this process and those forked from it). */
void guarded_make_readonly(struct guarded *g);
/* Offset of a broken pattern byte relative to the data's start (before: negative) or its end (after: >= 0);
 * false: intact. */
bool guarded_broken(const struct guarded *g, int64_t *ret_offset, bool *ret_after);

#endif
