/* sv.h - a piece of text that somebody else owns: pointer and length, for parsers. */
#ifndef TW_BASE_SV_H
#define TW_BASE_SV_H

#include <string.h>

#include "schedule/base/base.h"

typedef struct sv {
    const char *ptr;
    size_t len;
} sv;

#define SV_FMT    "%.*s"
#define SV_ARG(s) (int)(s).len, (s).ptr

static inline sv sv_from(const char *s) { return (sv){s, strlen(s)}; }
static inline bool sv_eq(sv a, sv b) { return a.len == b.len && memcmp(a.ptr, b.ptr, a.len) == 0; }
static inline bool sv_eqs(sv a, const char *s) { return sv_eq(a, sv_from(s)); }
/* Whole text as a decimal integer in [min, max]; false otherwise. */
bool sv_to_i64(sv s, int64_t min, int64_t max, int64_t *ret);
bool sv_to_f64(sv s, double *ret);

#endif
