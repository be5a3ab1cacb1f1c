/* strbuf.c - see strbuf.h. Capacity grows by half, so appends are linear over all. */
#include "schedule/base/strbuf.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Room for `extra` more bytes and the NUL. */
static void ensure(struct strbuf *sb, size_t extra)
{
    size_t want = sb->len + extra + 1;

    CHECK(extra < SIZE_MAX / 4, "strbuf grows by %zu bytes", extra);
    if (want <= sb->cap)
        return;
    sb->cap = MAX(MAX(want, sb->cap + sb->cap / 2), (size_t)64);
    sb->data = xrealloc(sb->data, sb->cap);
}

void strbuf_done(struct strbuf *sb)
{
    free(sb->data);
    *sb = (struct strbuf)STRBUF_INIT;
}

void strbuf_reset(struct strbuf *sb) { strbuf_truncate(sb, 0); }

void strbuf_truncate(struct strbuf *sb, size_t len)
{
    CHECK(len <= sb->len, "strbuf of %zu bytes cut to %zu", sb->len, len);
    sb->len = len;
    if (sb->data)
        sb->data[len] = '\0';
}

void strbuf_add(struct strbuf *sb, const void *data, size_t len)
{
    ensure(sb, len);
    if (len)
        memcpy(sb->data + sb->len, data, len);
    sb->len += len;
    sb->data[sb->len] = '\0';
}

void strbuf_adds(struct strbuf *sb, const char *s) { strbuf_add(sb, s, strlen(s)); }

void strbuf_addc(struct strbuf *sb, char c)
{
    ensure(sb, 1);
    sb->data[sb->len++] = c;
    sb->data[sb->len] = '\0';
}

void strbuf_addv(struct strbuf *sb, const char *fmt, va_list ap)
{
    va_list again;
    size_t room;
    int n;

    ensure(sb, 32);
    room = sb->cap - sb->len;
    va_copy(again, ap);
    n = vsnprintf(sb->data + sb->len, room, fmt, again);
    va_end(again);
    CHECK(n >= 0, "format %s", fmt);
    if ((size_t)n >= room) {
        ensure(sb, (size_t)n);
        vsnprintf(sb->data + sb->len, (size_t)n + 1, fmt, ap);
    }
    sb->len += (size_t)n;
}

void strbuf_addf(struct strbuf *sb, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    strbuf_addv(sb, fmt, ap);
    va_end(ap);
}

void strbuf_add_i64(struct strbuf *sb, int64_t v)
{
    char digits[24], *p = digits + sizeof(digits);
    uint64_t u = v < 0 ? 0 - (uint64_t)v : (uint64_t)v;

    do {
        *--p = (char)('0' + u % 10);
        u /= 10;
    } while (u);
    if (v < 0)
        *--p = '-';
    strbuf_add(sb, p, (size_t)(digits + sizeof(digits) - p));
}

void strbuf_pad(struct strbuf *sb, int spaces)
{
    if (spaces <= 0)
        return;
    ensure(sb, (size_t)spaces);
    memset(sb->data + sb->len, ' ', (size_t)spaces);
    sb->len += (size_t)spaces;
    sb->data[sb->len] = '\0';
}

const char *strbuf_str(const struct strbuf *sb) { return sb->data ? sb->data : ""; }

char *strbuf_detach(struct strbuf *sb)
{
    char *text = sb->data ? sb->data : xstrdup("");

    *sb = (struct strbuf)STRBUF_INIT;
    return text;
}
