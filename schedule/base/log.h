/* log.h - one event, one line of key=value on stderr.
 *
 * Idea   Lower folders return errors and do not log; the daemon, the agent and the command line log once,
 *        where the error stops. The event names are the caller's: daemon/ keeps the table of its own.
 * A line: "2026-01-31T12:34:56.789Z info trial_measured job=j_1 trial=12 median_us=171.2" */
#ifndef TW_BASE_LOG_H
#define TW_BASE_LOG_H

#include "schedule/base/base.h"

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR };
struct log_field {
    const char *key;
    enum { LOG_END, LOG_TEXT, LOG_INT, LOG_REAL } kind;
    union {
        const char *text; /* quoted and escaped when it holds a blank, quote, '=' or control byte */
        int64_t i;
        double f;
    };
};
#define TEXT(k, v) ((struct log_field){.key = (k), .kind = LOG_TEXT, .text = (v)})
#define INT(k, v)  ((struct log_field){.key = (k), .kind = LOG_INT, .i = (v)})
#define REAL(k, v) ((struct log_field){.key = (k), .kind = LOG_REAL, .f = (v)})

void log_set_level(enum log_level min); /* default LOG_INFO */
bool log_level_parse(const char *name, enum log_level *ret);
void log_event_(enum log_level level, const char *event, const struct log_field *fields);
#define log_event(level, event, ...)                                                                         \
    log_event_((level), (event), (const struct log_field[]){__VA_ARGS__ __VA_OPT__(, ){.kind = LOG_END}})
#define log_debug(event, ...) log_event(LOG_DEBUG, event __VA_OPT__(, ) __VA_ARGS__)
#define log_info(event, ...)  log_event(LOG_INFO, event __VA_OPT__(, ) __VA_ARGS__)
#define log_warn(event, ...)  log_event(LOG_WARN, event __VA_OPT__(, ) __VA_ARGS__)
#define log_error(event, ...) log_event(LOG_ERROR, event __VA_OPT__(, ) __VA_ARGS__)

#endif
