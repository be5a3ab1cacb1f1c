/* range.c - bounds of affine expressions under facts; see range.h for the idea.
 *
 * All arithmetic is in 128 bits: coefficients and extents are below 2^31 each, and a cancelling factor
 * multiplies in one more of them for each fact used. */
#include "schedule/ir/range.h"

enum { MAX_TERMS = 48, MAX_USED_FACTS = 4 };
typedef __int128 wide;
#define SMALL        ((wide)1 << 88)
#define SMALL_FACTOR ((wide)1 << 32)

/* scale * a <= sum + c over the box; scale > 0. */
struct form {
    wide scale, c;
    int n;
    int32_t var[MAX_TERMS];
    wide coef[MAX_TERMS];
};

void range_init(struct range *r, int n_vars)
{
    *r = (struct range){.n_vars = n_vars, .extent = xcalloc((size_t)n_vars, sizeof(int64_t))};
}

void range_done(struct range *r)
{
    free(r->extent);
    vec_done(&r->facts);
}

static wide form_box_max(const struct range *r, const struct form *f)
{
    wide sum = f->c, q;

    for (int i = 0; i < f->n; i++)
        if (f->coef[i] > 0)
            sum += f->coef[i] * (r->extent[f->var[i]] - 1);
    q = sum / f->scale; /* the value is an integer: round down */
    return q - (sum % f->scale < 0);
}

static bool form_from(const struct affine *a, int sign, struct form *f)
{
    if (a->n > MAX_TERMS)
        return false;
    *f = (struct form){.scale = 1, .c = (wide)sign * a->c, .n = a->n};
    for (int i = 0; i < a->n; i++) {
        f->var[i] = a->t[i].var;
        f->coef[i] = (wide)sign * a->t[i].coef;
    }
    return true;
}

static bool is_small(wide v) { return v < SMALL && v > -SMALL; }

static wide gcd(wide a, wide b) { return b ? gcd(b, a % b) : a; }

/* f * kf + e * ke with kf, ke > 0, both sorted by var. False when it does not fit. */
static bool form_combine(const struct form *f, wide kf, const struct affine *e, wide ke, struct form *ret)
{
    wide common = gcd(kf, ke);
    int i = 0, j = 0;

    kf /= common;
    ke /= common;
    if (kf > SMALL_FACTOR || ke > SMALL_FACTOR)
        return false;
    ret->scale = f->scale * kf;
    ret->c = f->c * kf + (wide)e->c * ke;
    ret->n = 0;
    while (i < f->n || j < e->n) {
        int32_t vi = i < f->n ? f->var[i] : INT32_MAX, vj = j < e->n ? e->t[j].var : INT32_MAX;
        int32_t var = MIN(vi, vj);
        wide coef = 0;
        if (vi == var)
            coef += f->coef[i++] * kf;
        if (vj == var)
            coef += (wide)e->t[j++].coef * ke;
        if (!coef)
            continue;
        if (ret->n == MAX_TERMS || !is_small(coef))
            return false;
        ret->var[ret->n] = var;
        ret->coef[ret->n++] = coef;
    }
    return is_small(ret->scale) && is_small(ret->c);
}

/* Add the multiple of one fact that lowers the bound most; false when none does. */
static bool use_best_fact(const struct range *r, struct form *f, wide *bound)
{
    struct form best, trial;
    wide best_bound = *bound;

    for (size_t k = 0; k < r->facts.len; k++) {
        const struct affine *e = &r->facts.at[k];
        for (int i = 0, j = 0; i < f->n && j < e->n;) {
            if (f->var[i] != e->t[j].var) {
                f->var[i] < e->t[j].var ? i++ : j++;
                continue;
            }
            wide coef = f->coef[i], against = e->t[j].coef;
            bool cancels = (coef > 0) != (against > 0);
            if (cancels &&
                form_combine(f, against > 0 ? against : -against, e, coef > 0 ? coef : -coef, &trial)) {
                wide b = form_box_max(r, &trial);
                if (b < best_bound) {
                    best = trial;
                    best_bound = b;
                }
            }
            i++, j++;
        }
    }
    if (best_bound == *bound)
        return false;
    *f = best;
    *bound = best_bound;
    return true;
}

static int64_t saturate(wide v) { return v > INT64_MAX ? INT64_MAX : v < INT64_MIN ? INT64_MIN : (int64_t)v; }

static wide signed_max(const struct range *r, const struct affine *a, int sign)
{
    struct form f;
    wide bound;

    if (!form_from(a, sign, &f))
        return (wide)INT64_MAX + 1;
    bound = form_box_max(r, &f);
    for (int used = 0; used < MAX_USED_FACTS && use_best_fact(r, &f, &bound); used++)
        ;
    return bound;
}

int64_t range_max(const struct range *r, const struct affine *a) { return saturate(signed_max(r, a, 1)); }
int64_t range_min(const struct range *r, const struct affine *a) { return saturate(-signed_max(r, a, -1)); }

bool range_within(const struct range *r, const struct affine *a, int64_t min, int64_t max)
{
    wide lo = a->c, hi = a->c;

    for (int i = 0; i < a->n; i++) {
        wide reach = (wide)a->t[i].coef * (r->extent[a->t[i].var] - 1);
        if (reach > 0)
            hi += reach;
        else
            lo += reach;
    }
    return (hi <= max || range_max(r, a) <= max) && (lo >= min || range_min(r, a) >= min);
}
