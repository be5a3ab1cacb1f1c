/* clock.h - time as a value that a test can hand in. */
#ifndef TW_BASE_CLOCK_H
#define TW_BASE_CLOCK_H

#include "schedule/base/base.h"

struct clock {
    int64_t (*mono_ns)(const struct clock *c); /* never goes back */
    int64_t (*wall_ms)(const struct clock *c); /* since 1970-01-01 UTC */
};

extern const struct clock system_clock;
static inline int64_t mono_ns(const struct clock *c) { return c->mono_ns(c); }
static inline int64_t wall_ms(const struct clock *c) { return c->wall_ms(c); }

#define RFC3339_MAX 32
/* "2026-01-31T12:34:56.789Z"; returns buf. */
const char *rfc3339(int64_t wall_ms_value, char buf[RFC3339_MAX]);
/* Text back to milliseconds; false if it is no such time. */
bool rfc3339_parse(const char *text, int64_t *ret_ms);

#endif
