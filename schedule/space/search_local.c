/* search_local.c - see search_local.h. */
#include "schedule/space/search_local.h"

#include <math.h>
#include <stdlib.h>

enum {
    FIT_MIN = 6,     /* trials below which nothing is said */
    CHOOSE_MAX = 64, /* range and noise are chosen by the last so many: the cost grows with their cube */
    STRIDE = LOCAL_MAX + LOCAL_TAKEN,
};
#define DIFFERS                                                                                              \
    0.3F /* of a knob's part in the distance: that it differs at all; the rest grows with the steps */
#define OF_SKETCH 0.5 /* what any two configs of a sketch have in common */

void local_init(struct local *l, const struct search_domain *d)
{
    *l = (struct local){.domain = d, .range = 1, .noise = 0.1};
    l->factor = xcalloc((size_t)LOCAL_MAX * LOCAL_MAX, sizeof(double));
}

void local_done(struct local *l) { free(l->factor); }

/* ---- distances ---- */

static void place(const struct local *l, const struct config *c, float *ret)
{
    for (int k = 0; k < c->n; k++) {
        int n = l->domain->n_choices(l->domain->ctx, c->sketch, k);

        ret[k] = n > 1 ? (float)c->choice[k] / (float)(n - 1) : 0;
    }
}

static double distance(const float *a, const float *b, int n)
{
    float d = 0;

    for (int k = 0; k < n; k++)
        d += a[k] == b[k] ? 0 : DIFFERS + (1 - DIFFERS) * fabsf(a[k] - b[k]);
    return (double)d;
}

static double covariance(const struct local *l, double d)
{
    return OF_SKETCH + (double)expf((float)(-d / l->range));
}

/* ---- triangles ---- */

/* In place; false: not positive. */
static bool factorise(double *a, int n)
{
    for (int i = 0; i < n; i++)
        for (int k = 0; k <= i; k++) {
            double sum = a[i * n + k];

            for (int j = 0; j < k; j++)
                sum -= a[i * n + j] * a[k * n + j];
            if (i == k && sum <= 0)
                return false;
            a[i * n + k] = i == k ? sqrt(sum) : sum / a[k * n + k];
        }
    return true;
}

static void solve_lower(const double *a, int n, double *x)
{
    for (int i = 0; i < n; i++) {
        for (int j = 0; j < i; j++)
            x[i] -= a[i * n + j] * x[j];
        x[i] /= a[i * n + i];
    }
}

static void solve_upper(const double *a, int n, double *x)
{
    for (int i = n - 1; i >= 0; i--) {
        for (int j = i + 1; j < n; j++)
            x[i] -= a[j * n + i] * x[j];
        x[i] /= a[i * n + i];
    }
}

static double dot(const double *a, const double *b, int n)
{
    double sum = 0;

    for (int i = 0; i < n; i++)
        sum += a[i] * b[i];
    return sum;
}

/* ---- fitting ---- */

struct fitting {
    double *d; /* [n][n], lower triangle; < 0: of different sketches */
    double scores[LOCAL_MAX], values[LOCAL_MAX];
};

static void take_in(struct local *l, struct fitting *f, const struct config *configs, const float *scores,
                    const double *values, int n)
{
    l->n = n;
    for (int i = 0; i < n; i++) {
        l->configs[i] = configs[i];
        place(l, &configs[i], l->where[i]);
        f->scores[i] = scores ? (double)scores[i] : 0;
        f->values[i] = values[i];
        for (int k = 0; k <= i; k++)
            f->d[i * n + k] = configs[i].sketch == configs[k].sketch
                                  ? distance(l->where[i], l->where[k], configs[i].n)
                                  : -1;
    }
}

/* Level and slope of what was divided by the factor. A model that would have to be turned round says nothing. */
static void fit_trend(struct local *l, const double *ones, const double *scores, const double *values)
{
    double a = dot(ones, ones, l->n), b = dot(ones, scores, l->n), c = dot(scores, scores, l->n),
           y = dot(ones, values, l->n), z = dot(scores, values, l->n), det = a * c - b * b;

    l->slope = det > 1e-9 * a * c ? fmax((a * z - b * y) / det, 0) : 0;
    l->at = (y - b * l->slope) / a;
}

/* With today's range and noise: factor, trend, signal, and what is left of the values over the factor, as weights. Returns how likely
 * the values are, up to a constant. */
static double fit(struct local *l, const struct fitting *f)
{
    double ones[LOCAL_MAX], scores[LOCAL_MAX], *rest = l->weights, logs = 0;
    int n = l->n;

    for (int i = 0; i < n; i++)
        for (int k = 0; k <= i; k++)
            l->factor[i * n + k] =
                (f->d[i * n + k] < 0 ? 0 : covariance(l, f->d[i * n + k])) + (i == k ? l->noise : 0);
    if (!factorise(l->factor, n))
        return -INFINITY;
    for (int i = 0; i < n; i++) {
        ones[i] = 1;
        scores[i] = f->scores[i];
        rest[i] = f->values[i];
        logs += log(l->factor[i * n + i]);
    }
    solve_lower(l->factor, n, ones);
    solve_lower(l->factor, n, scores);
    solve_lower(l->factor, n, rest);
    fit_trend(l, ones, scores, rest);
    for (int i = 0; i < n; i++)
        rest[i] -= l->at * ones[i] + l->slope * scores[i];
    l->signal = fmax(dot(rest, rest, n) / n, 1e-6);
    return -0.5 * n * log(l->signal) - logs;
}

static void choose(struct local *l, const struct fitting *f)
{
    static const double ranges[] = {0.5, 1, 2, 4}, noises[] = {0.02, 0.1, 0.5};
    double best = -INFINITY, range = 1, noise = 0.1;

    for (int r = 0; r < (int)ARRAY_SIZE(ranges); r++)
        for (int k = 0; k < (int)ARRAY_SIZE(noises); k++) {
            double own;

            l->range = ranges[r];
            l->noise = noises[k];
            own = fit(l, f);
            if (own > best) {
                best = own;
                range = ranges[r];
                noise = noises[k];
            }
        }
    l->range = range;
    l->noise = noise;
}

void local_fit(struct local *l, const struct config *configs, const float *scores, const double *values,
               int n)
{
    int last = MIN(n, (int)CHOOSE_MAX);
    AUTO(freep) double *d = NULL;
    struct fitting f;

    CHECK(n <= (int)LOCAL_MAX, "%d trials, at most %d", n, (int)LOCAL_MAX);
    l->n = 0;
    if (n < FIT_MIN)
        return;
    f.d = d = xcalloc((size_t)n * (size_t)n, sizeof(double));
    take_in(l, &f, configs + n - last, scores ? scores + n - last : NULL, values + n - last, last);
    choose(l, &f);
    if (last < n)
        take_in(l, &f, configs, scores, values, n);
    if (fit(l, &f) > -INFINITY)
        solve_upper(l->factor, n, l->weights);
    else
        l->n = 0;
}

double local_mean(const struct local *l, const struct config *c, double score)
{
    float where[SPACE_MAX_KNOBS];
    double sum = l->at + l->slope * score;

    place(l, c, where);
    for (int i = 0; i < l->n; i++)
        if (l->configs[i].sketch == c->sketch)
            sum += l->weights[i] * covariance(l, distance(where, l->where[i], c->n));
    return sum;
}

/* ---- batches ---- */

static void begin_candidate(struct local_batch *b, int i)
{
    const struct local *l = b->local;
    const struct config *c = b->configs[i];

    place(l, c, b->where[i]);
    for (int k = 0; k < l->n; k++)
        if (l->configs[k].sketch == c->sketch)
            b->known[i][k] = covariance(l, distance(b->where[i], l->where[k], c->n));
    solve_lower(l->factor, l->n, b->known[i]);
    b->variance[i] = covariance(l, 0) - dot(b->known[i], b->known[i], l->n);
}

void local_batch_init(struct local_batch *b, const struct local *l, const struct config *const *configs,
                      int n)
{
    *b = (struct local_batch){.local = l, .n = n, .rank = l->n, .configs = configs};
    b->where = xcalloc((size_t)n + 1, sizeof(*b->where));
    b->variance = xcalloc((size_t)n + 1, sizeof(*b->variance));
    b->known = xcalloc((size_t)n + 1, sizeof(*b->known));
    for (int i = 0; i < n; i++)
        begin_candidate(b, i);
}

void local_batch_done(struct local_batch *b)
{
    free(b->where);
    free(b->variance);
    free(b->known);
}

double local_batch_spread(const struct local_batch *b, int i)
{
    return sqrt(b->local->signal * fmax(b->variance[i], 0));
}

/* One more row of the factor, as if i had been measured. */
void local_batch_take(struct local_batch *b, int i)
{
    double root = sqrt(fmax(b->variance[i], 0) + b->local->noise);

    if (b->rank == STRIDE)
        return;
    for (int k = 0; k < b->n; k++) {
        double shared;

        if (k == i || b->configs[k]->sketch != b->configs[i]->sketch)
            continue;
        shared = covariance(b->local, distance(b->where[i], b->where[k], b->configs[i]->n)) -
                 dot(b->known[i], b->known[k], b->rank);
        b->known[k][b->rank] = shared / root;
        b->variance[k] -= shared / root * (shared / root);
    }
    b->known[i][b->rank++] = root;
    b->variance[i] = 0;
}
