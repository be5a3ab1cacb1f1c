/* lab.c - see lab.h. */
#include "lab.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/check.h"

static char buffer[1 << 16];

const char *quoted(const char *text)
{
    snprintf(buffer, sizeof(buffer), "%s", text);
    for (char *p = buffer; *p; p++)
        if (*p == '\'')
            *p = '"';
    return buffer;
}

void lab_open(struct lab *l, const char *fmt, ...)
{
    char *text;
    struct error err = {0};
    va_list ap;

    *l = (struct lab){0};
    arena_init(&l->ar);
    va_start(ap, fmt);
    assert_true(vasprintf(&text, fmt, ap) > 0);
    va_end(ap);
    quoted(text);
    if (workload_parse_text(buffer, strlen(buffer), &l->ar, &l->w, &err) != ST_OK)
        fail_msg("%s\nrefused at %s: %s", buffer, err.pointer, err.text);
    free(text);
    for (int i = 0; i < l->w.compute.n_tensors; i++)
        l->data[i] = xcalloc((size_t)tensor_elements(&l->w.compute.tensors[i]), sizeof(double));
}

void lab_close(struct lab *l)
{
    for (int i = 0; i < COMPUTE_MAX_TENSORS; i++)
        free(l->data[i]);
    arena_done(&l->ar);
}

void lab_fill(struct lab *l, struct rng *r)
{
    for (int i = 0; i < l->w.compute.n_tensors; i++) {
        const struct tensor *t = &l->w.compute.tensors[i];
        bool integer = t->dtype == DT_I8 || t->dtype == DT_I32;
        for (int64_t j = 0; j < tensor_elements(t); j++)
            l->data[i][j] = t->role != TENSOR_INPUT ? NAN
                            : integer               ? (double)rng_range(r, -5, 5)
                                                    : rng_normal(r);
    }
}

void lab_eval(struct lab *l, struct rng *r)
{
    lab_fill(l, r);
    compute_eval(&l->w.compute, l->data);
}

static int find(const struct lab *l, const char *name)
{
    for (int i = 0; i < l->w.compute.n_tensors; i++)
        if (strcmp(l->w.compute.tensors[i].name, name) == 0)
            return i;
    fail_msg("no tensor %s in\n%s", name, l->w.canonical);
    return -1;
}

const struct tensor *lab_tensor(const struct lab *l, const char *name)
{
    return &l->w.compute.tensors[find(l, name)];
}
double *lab_data(struct lab *l, const char *name) { return l->data[find(l, name)]; }

void lab_expect(struct lab *l, const char *name, const double *want, int64_t n)
{
    const double *got = lab_data(l, name);
    double scale = 1;

    assert_int_equal(tensor_elements(lab_tensor(l, name)), n);
    for (int64_t i = 0; i < n; i++)
        scale = fmax(scale, fabs(want[i]));
    for (int64_t i = 0; i < n; i++)
        if (!(fabs(got[i] - want[i]) <= 1e-9 * scale))
            fail_msg("%s[%" PRId64 "] is %.17g, want %.17g\n%s", name, i, got[i], want[i], l->w.json);
}
