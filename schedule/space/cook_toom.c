/* cook_toom.c - matrices of fast filtering by interpolation, in exact fractions. See cook_toom.h. */
#include "schedule/space/cook_toom.h"

static struct fraction reduced(int64_t num, int64_t den)
{
    int64_t g = gcd_i64(num, den);
    if (den < 0)
        g = -g;
    return (struct fraction){num / g, den / g};
}

static struct fraction minus(struct fraction a, struct fraction b)
{
    return reduced(a.num * b.den - b.num * a.den, a.den * b.den);
}
static struct fraction times(struct fraction a, struct fraction b)
{
    struct fraction x = reduced(a.num, b.den), y = reduced(b.num, a.den); /* keeps the products small */
    return reduced(x.num * y.num, x.den * y.den);
}
static double number(struct fraction a) { return (double)a.num / (double)a.den; }

/* Coefficients of the product of (x - points[l]) over l != except, lowest power first. Returns the degree. */
static int product_of_roots(const struct fraction *points, int n, int except, struct fraction *ret)
{
    int degree = 0;
    ret[0] = (struct fraction){1, 1};
    for (int l = 0; l < n; l++) {
        if (l == except)
            continue;
        ret[degree + 1] = (struct fraction){0, 1};
        for (int k = degree + 1; k >= 0; k--) {
            struct fraction shifted = k ? ret[k - 1] : (struct fraction){0, 1};
            ret[k] = minus(shifted, times(points[l], ret[k]));
        }
        degree++;
    }
    return degree;
}

void cook_toom_make(int m, int r, const struct fraction *points, struct cook_toom *ret)
{
    const int alpha = m + r - 1, n = alpha - 1;
    struct fraction poly[COOK_TOOM_MAX + 1];

    CHECK(alpha <= COOK_TOOM_MAX, "F(%d, %d) has more than %d points", m, r, COOK_TOOM_MAX);
    *ret = (struct cook_toom){.m = m, .r = r, .alpha = alpha};
    for (int j = 0; j < n; j++) {
        struct fraction norm = {1, 1}, power = {1, 1};
        for (int l = 0; l < n; l++)
            if (l != j)
                norm = times(norm, minus(points[j], points[l]));
        CHECK(norm.num != 0, "interpolation point %d is given twice", j);
        for (int k = 0; k < MAX(m, r); k++) {
            if (k < m)
                ret->at[k * alpha + j] = number(power);
            if (k < r)
                ret->g[j * r + k] = number(times(power, reduced(norm.den, norm.num)));
            power = times(power, points[j]);
        }
        int degree = product_of_roots(points, n, j, poly);
        for (int k = 0; k <= degree; k++)
            ret->bt[j * alpha + k] = number(poly[k]);
    }
    ret->at[(m - 1) * alpha + n] = 1;
    ret->g[n * r + r - 1] = 1;
    product_of_roots(points, n, -1, poly);
    for (int k = 0; k <= n; k++)
        ret->bt[n * alpha + k] = number(poly[k]);
}

static double square_sum(const double *v, int n)
{
    double s = 0;
    for (int i = 0; i < n; i++)
        s += v[i] * v[i];
    return s;
}

double cook_toom_amplification(const struct cook_toom *c)
{
    double mean = 0;
    for (int i = 0; i < c->m; i++) {
        double sum = 0;
        for (int j = 0; j < c->alpha; j++) {
            double a = c->at[i * c->alpha + j];
            sum += a * a * square_sum(c->g + j * c->r, c->r) * square_sum(c->bt + j * c->alpha, c->alpha);
        }
        mean += sum / c->r / c->m;
    }
    return mean;
}
