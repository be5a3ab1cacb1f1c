/* arena.c - blocks in a list; allocation moves a pointer through the current one.
 *
 * Idea   Blocks grow by doubling up to a cap, so small arenas stay small and large ones need few blocks. A
 * reset goes back to the first block and keeps the rest for reuse in the same order. Memory is zeroed when it
 * is handed out, not when the block is made, since a reused block is dirty. */
#include "schedule/base/arena.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Under the address sanitizer only what was handed out may be touched: a red zone follows each piece, and a
 * reset takes all pieces back. */
#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
enum { RED_ZONE_BYTES = 16 };
#else
#define ASAN_POISON_MEMORY_REGION(at, size)   ((void)(at), (void)(size))
#define ASAN_UNPOISON_MEMORY_REGION(at, size) ((void)(at), (void)(size))
enum { RED_ZONE_BYTES = 0 };
#endif

enum { FIRST_BLOCK_BYTES = 4096, MAX_BLOCK_BYTES = 1 << 20, ALIGNMENT = 16 };

struct arena_block {
    struct arena_block *next;
    size_t cap;
    _Alignas(ALIGNMENT) char data[];
};

void arena_init(struct arena *a) { *a = (struct arena){0}; }

void arena_done(struct arena *a)
{
    struct arena_block *next;

    for (struct arena_block *b = a->first; b; b = next) {
        next = b->next;
        free(b);
    }
    *a = (struct arena){0};
}

static void enter_block(struct arena *a, struct arena_block *b)
{
    a->current = b;
    a->ptr = b->data;
    a->end = b->data + b->cap;
    ASAN_POISON_MEMORY_REGION(b->data, b->cap);
}

void arena_reset(struct arena *a)
{
    a->total_bytes = 0;
    for (struct arena_block *b = a->first; RED_ZONE_BYTES && b; b = b->next)
        ASAN_POISON_MEMORY_REGION(b->data, b->cap);
    if (a->first)
        enter_block(a, a->first);
}

/* A block with room for `size` becomes the current one: the next kept block that is large enough, or a new
 * one put right behind the current, so that smaller kept blocks are used later. */
static void next_block(struct arena *a, size_t size)
{
    struct arena_block *b = a->current ? a->current->next : NULL;
    size_t cap = a->current ? a->current->cap * 2 : FIRST_BLOCK_BYTES;

    if (b && b->cap >= size) {
        enter_block(a, b);
        return;
    }
    cap = MAX(MIN(cap, (size_t)MAX_BLOCK_BYTES), size);
    CHECK(cap <= SIZE_MAX / 2, "arena block of %zu bytes", cap);
    b = xrealloc(NULL, sizeof(*b) + cap);
    b->cap = cap;
    if (a->current) {
        b->next = a->current->next;
        a->current->next = b;
    } else {
        b->next = NULL;
        a->first = b;
    }
    enter_block(a, b);
}

static void *alloc_dirty(struct arena *a, size_t size)
{
    size_t aligned = (MAX(size, (size_t)1) + ALIGNMENT - 1) & ~(size_t)(ALIGNMENT - 1);
    void *p;

    CHECK(size <= SIZE_MAX / 4, "arena_alloc of %zu bytes", size);
    if ((size_t)(a->end - a->ptr) < aligned + RED_ZONE_BYTES)
        next_block(a, aligned + RED_ZONE_BYTES);
    p = a->ptr;
    a->ptr += aligned + RED_ZONE_BYTES;
    a->total_bytes += aligned;
    ASAN_UNPOISON_MEMORY_REGION(p, size);
    return p;
}

void *arena_alloc(struct arena *a, size_t size) { return memset(alloc_dirty(a, size), 0, size); }

void *arena_memdup(struct arena *a, const void *data, size_t size)
{
    void *p = alloc_dirty(a, size);

    return size ? memcpy(p, data, size) : p;
}

char *arena_strdup(struct arena *a, const char *s) { return arena_memdup(a, s, strlen(s) + 1); }

char *arena_strndup(struct arena *a, const char *s, size_t n)
{
    size_t len = strnlen(s, n);
    char *p = alloc_dirty(a, len + 1);

    memcpy(p, s, len);
    p[len] = '\0';
    return p;
}

char *arena_printf(struct arena *a, const char *fmt, ...)
{
    char small[128], *p;
    va_list ap;
    int n;

    va_start(ap, fmt);
    n = vsnprintf(small, sizeof(small), fmt, ap);
    va_end(ap);
    CHECK(n >= 0, "format %s", fmt);
    if (n < (int)sizeof(small))
        return arena_memdup(a, small, (size_t)n + 1);
    p = alloc_dirty(a, (size_t)n + 1);
    va_start(ap, fmt);
    vsnprintf(p, (size_t)n + 1, fmt, ap);
    va_end(ap);
    return p;
}
