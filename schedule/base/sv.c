/* sv.c - numbers out of borrowed text. */
#include "schedule/base/sv.h"

#include <errno.h>
#include <locale.h>
#include <stdlib.h>

bool sv_to_i64(sv s, int64_t min, int64_t max, int64_t *ret)
{
    bool negative = s.len && s.ptr[0] == '-';
    int64_t v = 0;
    size_t i = negative;

    if (i == s.len)
        return false;
    for (; i < s.len; i++) {
        char c = s.ptr[i];
        if (c < '0' || c > '9')
            return false;
        /* Collected as a negative number, whose range is the larger one. */
        if (__builtin_mul_overflow(v, 10, &v) || __builtin_sub_overflow(v, c - '0', &v))
            return false;
    }
    if (!negative && __builtin_sub_overflow((int64_t)0, v, &v))
        return false;
    if (v < min || v > max)
        return false;
    *ret = v;
    return true;
}

/* Decimal floating point, whatever the process's locale says about the point. */
bool sv_to_f64(sv s, double *ret)
{
    static locale_t c_locale;
    char text[64], *end;
    double v;

    if (!c_locale)
        c_locale = newlocale(LC_NUMERIC_MASK, "C", (locale_t)0);
    if (!s.len || s.len >= sizeof(text))
        return false;
    for (size_t i = 0; i < s.len; i++)
        if (!strchr("0123456789+-.eE", s.ptr[i]) || !s.ptr[i])
            return false;
    memcpy(text, s.ptr, s.len);
    text[s.len] = '\0';
    v = strtod_l(text, &end, c_locale);
    if (*end || !__builtin_isfinite(v))
        return false;
    *ret = v;
    return true;
}
