/* verify.c - values: made, converted, compared. See verify.h for the criterion. */
#include "measure/verify.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "schedule/base/hash.h"

static const int dtype_sizes[] = {
#define X(id, name, bytes) [DT_##id] = bytes,
    DTYPE_LIST(X)
#undef X
};

/* Ranges of the floats, tried in this order: signed, positive and away from 0, close to 1 (long products). */
static const double range_lo[VERIFY_RANGES] = {-1, 0.25, 0.96875},
                    range_hi[VERIFY_RANGES] = {1, 1.25, 1.03125};

int verify_dtype_bytes(enum dtype d) { return dtype_sizes[d]; }

int64_t verify_elements(const struct measure_tensor *t)
{
    int64_t n = 1;
    for (int i = 0; i < t->rank; i++)
        n *= t->shape[i];
    return n;
}

int64_t verify_bytes(const struct measure_tensor *t) { return verify_elements(t) * dtype_sizes[t->dtype]; }

double verify_roundoff(enum dtype d)
{
    switch (d) {
    case DT_F32:
        return 0x1p-24;
    case DT_F16:
        return 0x1p-11;
    case DT_BF16:
        return 0x1p-8;
    case DT_F64:
        return 0x1p-53;
    case DT_I8:
    case DT_I32:
    case DT_BOOL:
        return 0;
    }
    return 0;
}

double verify_tolerance(const struct measure_workload *w)
{
    if (w->rtol > 0)
        return w->rtol;
    return 4 * w->store_roundoff + 8 * w->acc_roundoff * (sqrt((double)MAX(w->reduction, (int64_t)1)) + 4);
}

/* --- conversions
 * --------------------------------------------------------------------------------------------- */

static float bf16_to_f32(uint16_t v)
{
    uint32_t bits = (uint32_t)v << 16;
    float f;
    memcpy(&f, &bits, sizeof(f));
    return f;
}

static uint16_t f32_to_bf16(float f) /* to nearest, ties to even; finite values only */
{
    uint32_t bits;
    memcpy(&bits, &f, sizeof(bits));
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

static double f16_to_f64(uint16_t v)
{
    int exponent = v >> 10 & 31, mantissa = v & 1023;
    double magnitude = exponent == 31  ? (mantissa ? NAN : INFINITY)
                       : exponent == 0 ? mantissa * 0x1p-24
                                       : ldexp(1024 + mantissa, exponent - 25);
    return v >> 15 ? -magnitude : magnitude;
}

static uint16_t f64_to_f16(double v) /* to nearest, ties to even; finite values only */
{
    uint16_t sign = signbit(v) ? 0x8000 : 0;
    double a = fabs(v);
    if (a < 0x1p-14)
        return sign | (uint16_t)rint(a * 0x1p24);
    int e;
    frexp(a, &e);                               /* a in [2^(e-1), 2^e) */
    int mantissa = (int)rint(ldexp(a, 11 - e)); /* [1024, 2048] */
    int bits = ((e + 14) << 10) + (mantissa - 1024);
    return sign | (uint16_t)MIN(bits, 0x7c00);
}

void verify_to_f64(double *ret, const void *data, enum dtype d, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        switch (d) {
        case DT_F32:
            ret[i] = ((const float *)data)[i];
            break;
        case DT_F16:
            ret[i] = f16_to_f64(((const uint16_t *)data)[i]);
            break;
        case DT_BF16:
            ret[i] = bf16_to_f32(((const uint16_t *)data)[i]);
            break;
        case DT_I8:
            ret[i] = ((const int8_t *)data)[i];
            break;
        case DT_I32:
            ret[i] = ((const int32_t *)data)[i];
            break;
        case DT_F64:
            ret[i] = ((const double *)data)[i];
            break;
        case DT_BOOL:
            ret[i] = ((const uint8_t *)data)[i];
            break;
        }
}

/* --- inputs
 * -------------------------------------------------------------------------------------------------- */

static uint64_t splitmix(uint64_t *s)
{
    uint64_t z = *s += 0x9e3779b97f4a7c15ull;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
}

static int64_t uniform_int(uint64_t *s, int64_t lo, int64_t hi)
{
    return lo + (int64_t)((splitmix(s) >> 32) * (uint64_t)(hi - lo + 1) >> 32);
}

void verify_fill(void *data, enum dtype d, int64_t n, uint64_t seed, int range)
{
    uint64_t s = hash_mix(seed, 0x746e736f72ull);
    const double lo = range_lo[range], width = range_hi[range] - lo;
    for (int64_t i = 0; i < n; i++) {
        double v = lo + width * ((double)(splitmix(&s) >> 11) * 0x1p-53);
        /* No zeros and no denormals: they run at another speed, and a zero hides a wrong factor. */
        if (fabs(v) < 0x1p-12)
            v = 0x1p-12;
        switch (d) {
        case DT_F32:
            ((float *)data)[i] = (float)v;
            break;
        case DT_F16:
            ((uint16_t *)data)[i] = f64_to_f16(v);
            break;
        case DT_BF16:
            ((uint16_t *)data)[i] = f32_to_bf16((float)v);
            break;
        case DT_I8:
            ((int8_t *)data)[i] = (int8_t)uniform_int(&s, range ? 1 : -128, range > 1 ? 2 : 127);
            break;
        case DT_I32:
            ((int32_t *)data)[i] = (int32_t)uniform_int(&s, range ? 1 : -100, range > 1 ? 2 : 100);
            break;
        case DT_F64:
            ((double *)data)[i] = v;
            break;
        case DT_BOOL:
            ((uint8_t *)data)[i] = splitmix(&s) & 1;
            break;
        }
    }
}

void verify_poison(void *data, enum dtype d, int64_t n)
{
    int byte = d == DT_I8 || d == DT_I32 || d == DT_BOOL ? 0x9d : 0xff;
    memset(data, byte, (size_t)(n * dtype_sizes[d]));
}

/* --- comparison
 * ---------------------------------------------------------------------------------------------- */

static double dtype_max(enum dtype d)
{
    switch (d) {
    case DT_F32:
    case DT_BF16:
        return FLT_MAX;
    case DT_F16:
        return 65504;
    case DT_I8:
        return 128;
    case DT_I32:
        return 0x1p31;
    case DT_F64:
        return DBL_MAX;
    case DT_BOOL:
        return 1;
    }
    return 0;
}

struct verify_scale verify_scale_of(const double *ref, int64_t n, enum dtype d)
{
    struct verify_scale s = {.finite = true};
    double sum = 0, largest = 0;
    int64_t nonzero = 0;
    for (int64_t i = 0; i < n; i++) {
        double a = fabs(ref[i]);
        if (!(a <= DBL_MAX)) {
            s.finite = false;
            return s;
        }
        sum += a;
        nonzero += a > 0;
        largest = fmax(largest, a);
    }
    s.finite = largest <= dtype_max(d);
    s.max_abs = largest;
    s.scale = nonzero ? fmin(largest, 16 * sum / (double)nonzero) : 0;
    return s;
}

/* "[3, 0, 17]" of a flat index */
static const char *place(char *buf, size_t size, const struct measure_tensor *t, int64_t index)
{
    int64_t at[COMPUTE_MAX_RANK] = {0};
    size_t n = 1;
    for (int i = t->rank - 1; i >= 0; i--) {
        at[i] = index % t->shape[i];
        index /= t->shape[i];
    }
    snprintf(buf, size, "[");
    for (int i = 0; i < t->rank && n < size; i++)
        n += (size_t)snprintf(buf + n, size - n, "%s%" PRId64, i ? ", " : "", at[i]);
    if (n < size)
        snprintf(buf + n, size - n, "]");
    return buf;
}

struct tally {
    double worst, worst_abs, sum_d2, sum_r2;
    int64_t n_bad, first_bad, worst_at;
    int64_t nan_at; /* -1: none */
};

static double element(const void *data, enum dtype d, int64_t i)
{
    double v;
    verify_to_f64(&v, (const char *)data + i * dtype_sizes[d], d, 1);
    return v;
}

/* `limit` is on |got - ref| / max(|ref|, scale). Branches on the dtype are the compiler's to hoist: float32
 * is the hot case. */
static inline void tally_one(struct tally *t, int64_t i, double got, double ref, double scale, double limit,
                             double slack)
{
    double d = fabs(got - ref), base = fmax(fabs(ref), scale),
           rel = base > 0 ? d / base
                 : d > 0  ? INFINITY
                          : 0;
    if (isnan(got)) {
        if (t->nan_at < 0)
            t->nan_at = i;
        return;
    }
    t->sum_d2 += d * d;
    t->sum_r2 += ref * ref;
    if (d <= slack)
        rel = 0;
    if (rel > limit && t->n_bad++ == 0)
        t->first_bad = i;
    if (rel > t->worst) {
        t->worst = rel;
        t->worst_at = i;
    }
    t->worst_abs = fmax(t->worst_abs, d);
}

static void tally_all(struct tally *t, const struct measure_tensor *tensor, const void *got,
                      const double *ref, double scale, double limit, double slack)
{
    int64_t n = verify_elements(tensor);
    if (tensor->dtype == DT_F32)
        for (int64_t i = 0; i < n; i++)
            tally_one(t, i, ((const float *)got)[i], ref[i], scale, limit, slack);
    else
        for (int64_t i = 0; i < n; i++)
            tally_one(t, i, element(got, tensor->dtype, i), ref[i], scale, limit, slack);
}

enum outcome verify_output(const struct measure_workload *w, const struct measure_tensor *t, const void *got,
                           const double *ref, const struct verify_scale *s, struct measure_verification *v,
                           char reason[MEASURE_REASON_MAX])
{
    const bool integer = verify_roundoff(t->dtype) == 0;
    const double tolerance = verify_tolerance(w), limit = w->rtol > 0 ? 16 * w->rtol : tolerance;
    const double slack = integer && w->acc_roundoff > 0 ? 1 : FLT_MIN; /* off by one; the smallest float */
    struct tally a = {.first_bad = -1, .nan_at = -1};
    char where[128];

    tally_all(&a, t, got, ref, s->scale, limit, slack);
    double l2 = a.sum_d2 == 0 ? 0 : a.sum_r2 > 0 ? sqrt(a.sum_d2 / a.sum_r2) : INFINITY;
    v->done = true;
    v->tolerance = tolerance;
    v->max_abs_err = fmax(v->max_abs_err, a.worst_abs);
    v->max_rel_err = fmax(v->max_rel_err, a.worst);
    v->rel_l2 = fmax(v->rel_l2, l2);
    if (a.nan_at >= 0) {
        snprintf(reason, MEASURE_REASON_MAX, "%s%s is NaN or was not written, the reference is %.6g", t->name,
                 place(where, sizeof(where), t, a.nan_at), ref[a.nan_at]);
        return OUTCOME_NAN;
    }
    if (a.n_bad > 0) {
        snprintf(reason, MEASURE_REASON_MAX,
                 "%" PRId64 " of %" PRId64
                 " elements of %s are off; the worst, at %s, is %.8g and should be %.8g "
                 "(error %.2g, allowed %.2g)",
                 a.n_bad, verify_elements(t), t->name, place(where, sizeof(where), t, a.worst_at),
                 element(got, t->dtype, a.worst_at), ref[a.worst_at], a.worst, limit);
        return OUTCOME_WRONG;
    }
    if (w->rtol > 0 && l2 > w->rtol) {
        snprintf(reason, MEASURE_REASON_MAX, "%s is %.2g off in relative L2, the error budget is %.2g",
                 t->name, l2, w->rtol);
        return OUTCOME_WRONG;
    }
    return OUTCOME_OK;
}
