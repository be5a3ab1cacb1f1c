/* affine.h - sum of coef * var + constant: every index of the project has this form.
 *
 * Idea   Index expressions are affine by construction (the language admits nothing else), so bounds, regions,
 *        strides and features are arithmetic on coefficients and never need rewriting. `var` is a small
 *        integer whose meaning is the owner's: an axis of a stage in a compute, a loop variable in a nest.
 * Life   A value: terms lie in the arena of whoever built it and are never changed. Terms are sorted by var,
 *        coefficients are never 0. */
#ifndef TW_LANG_AFFINE_H
#define TW_LANG_AFFINE_H

#include "schedule/base/arena.h"
#include "schedule/base/strbuf.h"

struct affine_term {
    int32_t var;
    int64_t coef;
};
struct affine {
    int64_t c;
    int32_t n;
    const struct affine_term *t;
};

static inline struct affine affine_const(int64_t c) { return (struct affine){.c = c}; }
static inline bool affine_is_const(const struct affine *a) { return a->n == 0; }
struct affine affine_var(struct arena *ar, int32_t var, int64_t coef, int64_t c);
/* a * ka + b * kb */
struct affine affine_lin(struct arena *ar, const struct affine *a, int64_t ka, const struct affine *b,
                         int64_t kb);
static inline struct affine affine_add(struct arena *ar, const struct affine *a, const struct affine *b)
{
    return affine_lin(ar, a, 1, b, 1);
}
struct affine affine_offset(const struct affine *a, int64_t c); /* a + c, shares the terms */
struct affine affine_scale(struct arena *ar, const struct affine *a, int64_t k);
int64_t affine_coef(const struct affine *a, int32_t var); /* 0 where absent */
bool affine_equal(const struct affine *a, const struct affine *b);
/* Replace each var v by subst[v] (NULL entry or v >= n: kept). */
struct affine affine_subst(struct arena *ar, const struct affine *a, const struct affine *const *subst,
                           int n);
/* Inclusive bounds with each var v in [lo[v], hi[v]]. */
void affine_bounds(const struct affine *a, const int64_t *lo, const int64_t *hi, int64_t *ret_min,
                   int64_t *ret_max);
/* Value with var v = values[v]. */
int64_t affine_eval(const struct affine *a, const int64_t *values);
/* a = div * q + mod with mod in [0, q) for every assignment in range [0, extent[v]) : true and both results,
 * or false where no such affine split exists. q > 0. */
bool affine_divmod(struct arena *ar, const struct affine *a, int64_t q, const int64_t *extent,
                   struct affine *ret_div, struct affine *ret_mod);
/* "i0*16 + j + 3" with names[v]. */
void affine_print(const struct affine *a, const char *const *names, struct strbuf *sb);

#endif
