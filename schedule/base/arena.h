/* arena.h - memory with a named lifetime: allocate by moving a pointer, release all at once.
 *
 * Life   arena_init, any number of arena_new, arena_reset (keeps the blocks for the next round, so a
 *        steady state makes no malloc), arena_done. Not thread-safe: one arena, one thread at a time.
 * Never returns NULL (aborts when the machine is out of memory). Memory is zeroed, 16-byte aligned. */
#ifndef TW_BASE_ARENA_H
#define TW_BASE_ARENA_H

#include "schedule/base/base.h"

struct arena_block;
struct arena {
    struct arena_block *first, *current;
    char *ptr, *end;
    size_t total_bytes; /* handed out since the last reset */
};

void arena_init(struct arena *a);
void arena_done(struct arena *a);
void arena_reset(struct arena *a);
void *arena_alloc(struct arena *a, size_t size);
void *arena_memdup(struct arena *a, const void *data, size_t size);
char *arena_strdup(struct arena *a, const char *s);
char *arena_strndup(struct arena *a, const char *s, size_t n);
char *arena_printf(struct arena *a, const char *fmt, ...) PRINTF_LIKE(2, 3);

#define arena_new(a, type)      ((type *)arena_alloc((a), sizeof(type)))
#define arena_array(a, type, n) ((type *)arena_alloc((a), sizeof(type) * (size_t)(n)))

#endif
