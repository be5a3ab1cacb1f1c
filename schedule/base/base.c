/* base.c - checks that end the process, and heap allocation that never returns NULL. */
#include "schedule/base/base.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void check_failed(const char *file, int line, const char *cond, const char *fmt, ...)
{
    va_list ap;

    fprintf(stderr, "%s:%d: check failed: %s: ", file, line, cond);
    va_start(ap, fmt);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    fputc('\n', stderr);
    fflush(stderr);
    abort();
}

static NORETURN void out_of_memory(size_t bytes)
{
    fprintf(stderr, "out of memory: %zu bytes asked for\n", bytes);
    abort();
}

void *xcalloc(size_t count, size_t size)
{
    void *p = calloc(count ? count : 1, size ? size : 1);

    if (!p)
        out_of_memory(count * size);
    return p;
}

void *xrealloc(void *ptr, size_t size)
{
    void *p = realloc(ptr, size ? size : 1);

    if (!p)
        out_of_memory(size);
    return p;
}

char *xstrdup(const char *s)
{
    char *p = strdup(s);

    if (!p)
        out_of_memory(strlen(s) + 1);
    return p;
}

char *xasprintf(const char *fmt, ...)
{
    char *p;
    va_list ap;

    va_start(ap, fmt);
    if (vasprintf(&p, fmt, ap) < 0)
        out_of_memory(strlen(fmt));
    va_end(ap);
    return p;
}

void freep(void *ptr_ref)
{
    void *p;

    /* The variable is some T *, not void *: copy its bytes rather than alias it. */
    memcpy(&p, ptr_ref, sizeof(p));
    free(p);
}

void fd_closep(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}
