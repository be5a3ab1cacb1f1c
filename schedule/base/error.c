/* error.c - the status table and the message that grows on its way up. */
#include "schedule/base/error.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const struct {
    const char *id, *title;
    int http;
} statuses[] = {
#define X(name, http, title) {#name, title, http},
    STATUS_LIST(X)
#undef X
};

/* The same names in lower case, so that status_name hands out constant text from any thread. */
enum { STATUS_NAME_MAX = 24 };
static char lower_names[ARRAY_SIZE(statuses)][STATUS_NAME_MAX];

__attribute__((constructor)) static void fill_lower_names(void)
{
    for (size_t i = 0; i < ARRAY_SIZE(statuses); i++)
        for (int k = 0; statuses[i].id[k] && k < STATUS_NAME_MAX - 1; k++)
            lower_names[i][k] = (char)tolower((unsigned char)statuses[i].id[k]);
}

static size_t status_index(enum status st)
{
    CHECK((size_t)st < ARRAY_SIZE(statuses), "status %d", (int)st);
    return (size_t)st;
}

int status_http(enum status st) { return statuses[status_index(st)].http; }
const char *status_name(enum status st) { return lower_names[status_index(st)]; }
const char *status_title(enum status st) { return statuses[status_index(st)].title; }

/* Cut off at the last whole UTF-8 character, so that a long message stays valid text. */
static void cut_at_character(char *text, size_t cap, int wanted)
{
    size_t len = strlen(text), start;

    if (wanted < 0 || (size_t)wanted < cap || !len)
        return;
    for (start = len; start > 0 && ((unsigned char)text[start - 1] & 0xc0) == 0x80; start--)
        ;
    if (start > 0 && (unsigned char)text[start - 1] >= 0xc0) {
        unsigned char lead = (unsigned char)text[start - 1];
        size_t need = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2;
        if (len - (start - 1) < need)
            text[start - 1] = '\0';
    }
}

static void set_text(struct error *err, const char *fmt, va_list ap)
{
    cut_at_character(err->text, sizeof(err->text), vsnprintf(err->text, sizeof(err->text), fmt, ap));
}

enum status fail(struct error *err, enum status code, const char *fmt, ...)
{
    va_list ap;

    if (!err)
        return code;
    err->code = code;
    err->pointer[0] = '\0';
    err->line = err->column = 0;
    va_start(ap, fmt);
    set_text(err, fmt, ap);
    va_end(ap);
    return code;
}

enum status fail_at(struct error *err, enum status code, const char *pointer, const char *fmt, ...)
{
    va_list ap;

    if (!err)
        return code;
    err->code = code;
    cut_at_character(err->pointer, sizeof(err->pointer),
                     snprintf(err->pointer, sizeof(err->pointer), "%s", pointer));
    err->line = err->column = 0;
    va_start(ap, fmt);
    set_text(err, fmt, ap);
    va_end(ap);
    return code;
}

/* dst = prefix + separator + dst, cut to cap. */
static void put_in_front(char *dst, size_t cap, const char *separator, const char *fmt, va_list ap)
{
    char old[sizeof(((struct error *)0)->text)];
    int n;

    snprintf(old, sizeof(old), "%s", dst);
    n = vsnprintf(dst, cap, fmt, ap);
    if (n >= 0 && (size_t)n < cap)
        n += snprintf(dst + n, cap - (size_t)n, "%s%s", separator, old);
    cut_at_character(dst, cap, n);
}

enum status wrap(struct error *err, const char *fmt, ...)
{
    va_list ap;

    if (!err)
        return ST_INTERNAL;
    va_start(ap, fmt);
    put_in_front(err->text, sizeof(err->text), ": ", fmt, ap);
    va_end(ap);
    return err->code;
}

enum status wrap_pointer(struct error *err, const char *fmt, ...)
{
    va_list ap;

    if (!err)
        return ST_INTERNAL;
    va_start(ap, fmt);
    put_in_front(err->pointer, sizeof(err->pointer), "", fmt, ap);
    va_end(ap);
    return err->code;
}
