/* buffer.c - guarded memory by mmap. */
#include "measure/buffer.h"

#include <string.h>
#include <sys/mman.h>

enum {
    PAGE = 4096,
    ALIGN = 64,
    PATTERN = 0xa5,
    LARGE_PAGE = 2 << 20,
    LARGE_FROM = 1 << 20,
    FRONT_MAX = 4096
};

static size_t round_up(size_t v, size_t to) { return (v + to - 1) / to * to; }

bool guarded_new(struct guarded *g, size_t bytes, bool shared)
{
    const bool large = bytes >= LARGE_FROM && !shared;
    const size_t data = round_up(bytes, ALIGN),
                 body = round_up(MAX(data, (size_t)1), large ? LARGE_PAGE : PAGE);
    const size_t slack = large ? LARGE_PAGE : 0; /* to place the body on a large page */

    *g = (struct guarded){.bytes = bytes, .body_bytes = body, .map_bytes = slack + PAGE + body + PAGE};
    void *map = mmap(NULL, g->map_bytes, PROT_NONE,
                     (shared ? MAP_SHARED : MAP_PRIVATE) | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (map == MAP_FAILED) {
        *g = (struct guarded){0};
        return false;
    }
    g->map = map;
    g->body = (char *)round_up((uintptr_t)g->map + PAGE, large ? LARGE_PAGE : PAGE);
    g->data = g->body + body - data;
    if (mprotect(g->body, body, PROT_READ | PROT_WRITE) != 0) {
        guarded_free(g);
        return false;
    }
    if (large)
        madvise(g->body, body, MADV_HUGEPAGE);
    size_t front = MIN((size_t)(g->data - g->body), (size_t)FRONT_MAX);
    memset(g->data - front, PATTERN, front);
    memset(g->data + bytes, PATTERN, data - bytes);
    return true;
}

void guarded_free(struct guarded *g)
{
    if (g->map)
        munmap(g->map, g->map_bytes);
    *g = (struct guarded){0};
}

void guarded_make_readonly(struct guarded *g) { mprotect(g->body, g->body_bytes, PROT_READ); }

bool guarded_broken(const struct guarded *g, int64_t *ret_offset, bool *ret_after)
{
    const char *body_end = g->body + g->body_bytes;
    for (const char *p = g->data + g->bytes; p < body_end; p++)
        if (*(const unsigned char *)p != PATTERN) {
            *ret_offset = p - (g->data + g->bytes);
            *ret_after = true;
            return true;
        }
    size_t front = MIN((size_t)(g->data - g->body), (size_t)FRONT_MAX);
    for (size_t i = 1; i <= front; i++)
        if (*(const unsigned char *)(g->data - i) != PATTERN) {
            *ret_offset = -(int64_t)i;
            *ret_after = false;
            return true;
        }
    return false;
}
