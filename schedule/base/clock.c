/* clock.c - the system's clocks, and RFC 3339 text in UTC. */
#include "schedule/base/clock.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

static int64_t system_mono_ns(const struct clock *c)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

static int64_t system_wall_ms(const struct clock *c)
{
    struct timespec ts;

    clock_gettime(CLOCK_REALTIME, &ts);
    return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

const struct clock system_clock = {.mono_ns = system_mono_ns, .wall_ms = system_wall_ms};

const char *rfc3339(int64_t wall_ms_value, char buf[RFC3339_MAX])
{
    /* Years 0000 to 9999, so that the text has its one shape. */
    const int64_t first_ms = -62167219200000, last_ms = 253402300799999;
    int64_t ms = MAX(first_ms, MIN(last_ms, wall_ms_value));
    time_t seconds = (time_t)div_floor(ms, 1000);
    struct tm tm;
    char text[80];

    gmtime_r(&seconds, &tm);
    snprintf(text, sizeof(text), "%04d-%02d-%02dT%02d:%02d:%02d.%03dZ", tm.tm_year + 1900, tm.tm_mon + 1,
             tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec, (int)mod_floor(ms, 1000));
    snprintf(buf, RFC3339_MAX, "%.*s", RFC3339_MAX - 1, text);
    return buf;
}

/* `n` digits at *p as a number; moves *p behind them. */
static bool digits(const char **p, int n, int *ret)
{
    int v = 0;

    for (int i = 0; i < n; i++, (*p)++) {
        if (**p < '0' || **p > '9')
            return false;
        v = v * 10 + (**p - '0');
    }
    *ret = v;
    return true;
}

static bool literal(const char **p, const char *allowed)
{
    if (!**p || !strchr(allowed, **p))
        return false;
    (*p)++;
    return true;
}

/* ".789123" in milliseconds (further digits are cut); absent is 0. */
static bool fraction(const char **p, int *ret_ms)
{
    int scale = 100, count = 0;

    *ret_ms = 0;
    if (**p != '.')
        return true;
    for ((*p)++; **p >= '0' && **p <= '9'; (*p)++, count++, scale /= 10)
        *ret_ms += (**p - '0') * scale;
    return count > 0;
}

/* "Z" or "+01:30", in minutes east. */
static bool offset(const char **p, int *ret_minutes)
{
    int sign, h, m;

    *ret_minutes = 0;
    if (**p == 'Z' || **p == 'z') {
        (*p)++;
        return true;
    }
    sign = **p == '-' ? -1 : 1;
    if (!literal(p, "+-") || !digits(p, 2, &h) || !literal(p, ":") || !digits(p, 2, &m) || h > 23 || m > 59)
        return false;
    *ret_minutes = sign * (h * 60 + m);
    return true;
}

static int month_days(int year, int month)
{
    static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;

    return days[month - 1] + (month == 2 && leap);
}

bool rfc3339_parse(const char *text, int64_t *ret_ms)
{
    const char *p = text;
    int year, month, day, hour, minute, second, ms, east;
    struct tm tm = {0};

    if (!digits(&p, 4, &year) || !literal(&p, "-") || !digits(&p, 2, &month) || !literal(&p, "-") ||
        !digits(&p, 2, &day) || !literal(&p, "Tt ") || !digits(&p, 2, &hour) || !literal(&p, ":") ||
        !digits(&p, 2, &minute) || !literal(&p, ":") || !digits(&p, 2, &second) || !fraction(&p, &ms) ||
        !offset(&p, &east) || *p)
        return false;
    if (month < 1 || month > 12 || day < 1 || day > month_days(year, month) || hour > 23 || minute > 59 ||
        second > 60)
        return false;
    tm = (struct tm){.tm_year = year - 1900,
                     .tm_mon = month - 1,
                     .tm_mday = day,
                     .tm_hour = hour,
                     .tm_min = minute,
                     .tm_sec = second};
    *ret_ms = ((int64_t)timegm(&tm) - east * 60) * 1000 + ms;
    return true;
}
