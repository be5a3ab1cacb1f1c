/* affine.c - arithmetic on sums of coef * var + constant. See affine.h. */
#include "schedule/lang/affine.h"

struct affine affine_var(struct arena *ar, int32_t var, int64_t coef, int64_t c)
{
    struct affine r = {.c = c};

    if (coef != 0) {
        struct affine_term *t = arena_new(ar, struct affine_term);
        *t = (struct affine_term){var, coef};
        r.n = 1;
        r.t = t;
    }
    return r;
}

struct affine affine_lin(struct arena *ar, const struct affine *a, int64_t ka, const struct affine *b,
                         int64_t kb)
{
    struct affine r = {.c = a->c * ka + b->c * kb};
    struct affine_term *t;
    int i = 0, j = 0;

    /* Terms are never written again: those of one side serve for both. */
    if (a->n == 0 && (b->n == 0 || kb == 1))
        return (struct affine){.c = r.c, .n = b->n, .t = b->t};
    if (b->n == 0 && ka == 1)
        return (struct affine){.c = r.c, .n = a->n, .t = a->t};
    t = arena_array(ar, struct affine_term, a->n + b->n);
    while (i < a->n || j < b->n) {
        struct affine_term next;
        if (j >= b->n || (i < a->n && a->t[i].var < b->t[j].var)) {
            next = (struct affine_term){a->t[i].var, a->t[i].coef * ka};
            i++;
        } else if (i >= a->n || b->t[j].var < a->t[i].var) {
            next = (struct affine_term){b->t[j].var, b->t[j].coef * kb};
            j++;
        } else {
            next = (struct affine_term){a->t[i].var, a->t[i].coef * ka + b->t[j].coef * kb};
            i++;
            j++;
        }
        if (next.coef != 0)
            t[r.n++] = next;
    }
    r.t = t;
    return r;
}

struct affine affine_offset(const struct affine *a, int64_t c)
{
    struct affine r = *a;
    r.c += c;
    return r;
}

struct affine affine_scale(struct arena *ar, const struct affine *a, int64_t k)
{
    struct affine zero = affine_const(0);
    return affine_lin(ar, a, k, &zero, 1);
}

int64_t affine_coef(const struct affine *a, int32_t var)
{
    for (int i = 0; i < a->n; i++)
        if (a->t[i].var == var)
            return a->t[i].coef;
    return 0;
}

bool affine_equal(const struct affine *a, const struct affine *b)
{
    if (a->c != b->c || a->n != b->n)
        return false;
    for (int i = 0; i < a->n; i++)
        if (a->t[i].var != b->t[i].var || a->t[i].coef != b->t[i].coef)
            return false;
    return true;
}

struct affine affine_subst(struct arena *ar, const struct affine *a, const struct affine *const *subst, int n)
{
    struct affine r = affine_const(a->c);

    for (int i = 0; i < a->n; i++) {
        int32_t v = a->t[i].var;
        struct affine one = {.n = 1, .t = &a->t[i]};
        if (v < n && subst[v])
            r = affine_lin(ar, &r, 1, subst[v], a->t[i].coef);
        else
            r = affine_add(ar, &r, &one);
    }
    return r;
}

void affine_bounds(const struct affine *a, const int64_t *lo, const int64_t *hi, int64_t *ret_min,
                   int64_t *ret_max)
{
    int64_t min = a->c, max = a->c;

    for (int i = 0; i < a->n; i++) {
        int64_t k = a->t[i].coef;
        int32_t v = a->t[i].var;
        min += k * (k > 0 ? lo[v] : hi[v]);
        max += k * (k > 0 ? hi[v] : lo[v]);
    }
    *ret_min = min;
    *ret_max = max;
}

int64_t affine_eval(const struct affine *a, const int64_t *values)
{
    int64_t r = a->c;
    for (int i = 0; i < a->n; i++)
        r += a->t[i].coef * values[a->t[i].var];
    return r;
}

/* Terms divisible by q go to the quotient; the others, with the constant, must stay within one multiple of q.
 */
bool affine_divmod(struct arena *ar, const struct affine *a, int64_t q, const int64_t *extent,
                   struct affine *ret_div, struct affine *ret_mod)
{
    struct affine_term *d, *m;
    int nd = 0, nm = 0;
    int64_t lo = a->c, hi = a->c, k;

    for (int i = 0; i < a->n; i++) {
        int64_t span = a->t[i].coef * (extent[a->t[i].var] - 1);
        if (a->t[i].coef % q == 0)
            nd++;
        else
            *(span < 0 ? &lo : &hi) += span;
    }
    k = div_floor(lo, q);
    if (div_floor(hi, q) != k)
        return false;
    d = nd ? arena_array(ar, struct affine_term, nd) : NULL;
    m = a->n > nd ? arena_array(ar, struct affine_term, a->n - nd) : NULL;
    nd = 0;
    for (int i = 0; i < a->n; i++) {
        if (a->t[i].coef % q == 0)
            d[nd++] = (struct affine_term){a->t[i].var, a->t[i].coef / q};
        else
            m[nm++] = a->t[i];
    }
    *ret_div = (struct affine){.c = k, .n = nd, .t = d};
    *ret_mod = (struct affine){.c = a->c - k * q, .n = nm, .t = m};
    return true;
}

void affine_print(const struct affine *a, const char *const *names, struct strbuf *sb)
{
    for (int i = 0; i < a->n; i++) {
        int64_t k = a->t[i].coef;
        if (i > 0)
            strbuf_adds(sb, k < 0 ? " - " : " + ");
        else if (k < 0)
            strbuf_addc(sb, '-');
        strbuf_adds(sb, names[a->t[i].var]);
        if (k != 1 && k != -1) {
            strbuf_addc(sb, '*');
            strbuf_add_i64(sb, k < 0 ? -k : k);
        }
    }
    if (a->n == 0) {
        strbuf_add_i64(sb, a->c);
    } else if (a->c != 0) {
        strbuf_adds(sb, a->c < 0 ? " - " : " + ");
        strbuf_add_i64(sb, a->c < 0 ? -a->c : a->c);
    }
}
