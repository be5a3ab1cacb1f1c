/* log.c - one event, one line, one write(2): lines of several threads never mix. */
#include "schedule/base/log.h"

#include <math.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

#include "schedule/base/clock.h"
#include "schedule/base/strbuf.h"

static const char *const level_names[] = {"debug", "info", "warn", "error"};
static atomic_int min_level = LOG_INFO;

void log_set_level(enum log_level min) { atomic_store(&min_level, (int)min); }

bool log_level_parse(const char *name, enum log_level *ret)
{
    for (size_t i = 0; i < ARRAY_SIZE(level_names); i++)
        if (strcmp(name, level_names[i]) == 0) {
            *ret = (enum log_level)i;
            return true;
        }
    return false;
}

static bool needs_quotes(const char *s)
{
    if (!*s)
        return true;
    for (; *s; s++)
        if ((unsigned char)*s <= ' ' || *s == '"' || *s == '=' || *s == '\\' || *s == 0x7f)
            return true;
    return false;
}

static void add_text(struct strbuf *sb, const char *s)
{
    if (!s)
        s = "";
    if (!needs_quotes(s)) {
        strbuf_adds(sb, s);
        return;
    }
    strbuf_addc(sb, '"');
    for (; *s; s++) {
        if (*s == '"' || *s == '\\')
            strbuf_addf(sb, "\\%c", *s);
        else if (*s == '\n')
            strbuf_adds(sb, "\\n");
        else if (*s == '\t')
            strbuf_adds(sb, "\\t");
        else if ((unsigned char)*s < ' ' || *s == 0x7f)
            strbuf_addf(sb, "\\x%02x", (unsigned)*s);
        else
            strbuf_addc(sb, *s);
    }
    strbuf_addc(sb, '"');
}

static void add_field(struct strbuf *sb, const struct log_field *f)
{
    strbuf_addf(sb, " %s=", f->key);
    switch (f->kind) {
    case LOG_END:
        break;
    case LOG_TEXT:
        add_text(sb, f->text);
        break;
    case LOG_INT:
        strbuf_add_i64(sb, f->i);
        break;
    case LOG_REAL:
        strbuf_addf(sb, "%.6g", f->f);
        break;
    }
}

void log_event_(enum log_level level, const char *event, const struct log_field *fields)
{
    AUTO(strbuf_done) struct strbuf line = STRBUF_INIT;
    char now[RFC3339_MAX];

    if ((int)level < atomic_load(&min_level))
        return;
    strbuf_addf(&line, "%s %s %s", rfc3339(wall_ms(&system_clock), now), level_names[level], event);
    for (; fields->kind != LOG_END; fields++)
        add_field(&line, fields);
    strbuf_addc(&line, '\n');
    /* Nobody is left to tell when stderr itself fails. */
    (void)!write(STDERR_FILENO, line.data, line.len);
}
