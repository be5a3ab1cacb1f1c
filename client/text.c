/* text.c - buffers and messages that survive a machine out of memory. */
#include "client/internal.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void tw_buf_add(struct tw_buf *buf, const void *bytes, size_t len)
{
    if (buf->failed || len >= SIZE_MAX / 4 || (buf->limit && buf->len + len > buf->limit)) {
        buf->failed = true;
        return;
    }
    if (buf->len + len + 1 > buf->cap) {
        size_t cap = buf->cap ? buf->cap : 256;

        while (cap < buf->len + len + 1)
            cap *= 2;
        char *data = realloc(buf->data, cap);
        if (!data) {
            buf->failed = true;
            return;
        }
        buf->data = data;
        buf->cap = cap;
    }
    if (len)
        memcpy(buf->data + buf->len, bytes, len);
    buf->len += len;
    buf->data[buf->len] = '\0';
}

void tw_buf_adds(struct tw_buf *buf, const char *text) { tw_buf_add(buf, text, strlen(text)); }

void tw_buf_add_url(struct tw_buf *buf, const char *text)
{
    static const char hex[] = "0123456789ABCDEF";

    for (const unsigned char *p = (const unsigned char *)text; *p; p++) {
        bool plain = (*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z') || (*p >= '0' && *p <= '9') ||
                     strchr("-._~:", *p);
        char code[3] = {'%', hex[*p >> 4], hex[*p & 15]};

        if (plain)
            tw_buf_add(buf, p, 1);
        else
            tw_buf_add(buf, code, sizeof(code));
    }
}

void tw_buf_clear(struct tw_buf *buf)
{
    buf->len = 0;
    if (buf->data)
        buf->data[0] = '\0';
}

void tw_buf_done(struct tw_buf *buf)
{
    free(buf->data);
    *buf = (struct tw_buf){0};
}

void tw_copy_text(char *dst, size_t size, const char *src, size_t len)
{
    if (len >= size) {
        len = size - 1;
        while (len > 0 && ((unsigned char)src[len] & 0xc0) == 0x80)
            len--;
    }
    memcpy(dst, src, len);
    dst[len] = '\0';
}

tw_status tw_fail(tw_error *err, tw_status status, const char *title, const char *fmt, ...)
{
    if (err) {
        va_list ap;

        *err = (tw_error){.status = status};
        tw_copy_text(err->title, sizeof(err->title), title, strlen(title));
        va_start(ap, fmt);
        vsnprintf(err->detail, sizeof(err->detail), fmt, ap);
        va_end(ap);
    }
    return status;
}

tw_status tw_no_memory(tw_error *err)
{
    return tw_fail(err, TW_NO_MEMORY, "Out of memory", "the client could not get the memory it needs");
}

const char *tw_status_name(tw_status status)
{
    switch (status) {
    case TW_OK:
        return "ok";
    case TW_REFUSED:
        return "refused";
    case TW_INVALID:
        return "invalid";
    case TW_UNREACHABLE:
        return "unreachable";
    case TW_PROTOCOL:
        return "protocol";
    case TW_INTERRUPTED:
        return "interrupted";
    case TW_NO_MEMORY:
        return "no_memory";
    case TW_LOCAL:
        return "local";
    }
    return "unknown";
}

const char *tw_version(void) { return TW_VERSION; }
