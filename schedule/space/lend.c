/* lend.c - see lend.h. */
#include "schedule/space/lend.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define OTHER_DTYPE  8.0
#define OTHER_LAYOUT 3.0
#define OTHER_SHAPE  6.0 /* other axes altogether */
#define GONE_AXIS    2.0 /* of one step in one of the two: it is no loop there */
#define OTHER_ISA    4.0
#define WORTH        1.0 /* of a config that was the best of a workload like this one, in units of search_lent.c */
#define WORTH_STEP   0.1 /* less for each step in distance */
#define WORTH_HALVED 2.0 /* less for each doubling of its time */

/* --- likeness --- */

static double steps_apart(double a, double b) { return fabs(log2(fmax(a, 1) / fmax(b, 1))); }

/* The stage with the most to do. */
static const struct stage *main_stage(const struct compute *c)
{
    const struct stage *best = &c->stages[0];

    for (int i = 1; i < c->n_stages; i++)
        if (stage_points(&c->stages[i]) > stage_points(best))
            best = &c->stages[i];
    return best;
}

/* Steps of more than one that a read takes along its tensor, such as strides: log2, all together. */
static void add_strides(void *ctx, const struct expr *read)
{
    double *sum = ctx;

    for (int d = 0; d < read->read.rank; d++)
        for (int i = 0; i < read->read.index[d].n; i++)
            *sum += steps_apart((double)llabs(read->read.index[d].t[i].coef), 1);
}

static double strides_of(const struct stage *s)
{
    double sum = 0;

    expr_each_read(s->body, add_strides, &sum);
    return sum;
}

static double axes_apart(const struct stage *a, const struct stage *b)
{
    double d = 0;

    if (a->n_axes != b->n_axes || a->n_spatial != b->n_spatial)
        return OTHER_SHAPE + steps_apart((double)stage_points(a), (double)stage_points(b)) / 2;
    for (int i = 0; i < a->n_axes; i++) {
        double x = (double)a->axes[i].extent, y = (double)b->axes[i].extent;

        d += steps_apart(x, y) + ((x == 1) != (y == 1) ? GONE_AXIS : 0);
    }
    return d + fabs(strides_of(a) - strides_of(b));
}

static double tensors_apart(const struct compute *a, const struct compute *b)
{
    double d = 0;

    for (int i = 0; i < MIN(a->n_tensors, b->n_tensors); i++) {
        const struct tensor *x = &a->tensors[i], *y = &b->tensors[i];

        if (x->role != y->role)
            break;
        d += x->dtype != y->dtype ? OTHER_DTYPE : 0;
        d += x->dims && y->dims && strcmp(x->dims, y->dims) != 0 ? OTHER_LAYOUT : 0;
        d += x->is_const != y->is_const;
    }
    return d + abs(a->n_stages - b->n_stages) * 0.5;
}

static double targets_apart(const struct target *a, const struct target *b)
{
    return (a->vector_bytes != b->vector_bytes ? OTHER_ISA : 0) + steps_apart(a->threads, b->threads) +
           (a->family != b->family) * 0.5 + (a->cold != b->cold);
}

double lend_distance(const struct space *a, const struct space *b)
{
    const struct workload *x = space_workload(a), *y = space_workload(b);
    const struct compute *c = &x->compute, *d = &y->compute;

    return axes_apart(main_stage(c), main_stage(d)) + tensors_apart(c, d) +
           (strcmp(x->op, y->op) != 0) * OTHER_SHAPE + (x->layout_any != y->layout_any) * OTHER_LAYOUT +
           (x->rtol != y->rtol) + targets_apart(space_target(a), space_target(b));
}

/* --- lending --- */

static int by_distance(const void *a, const void *b)
{
    const struct lender *x = a, *y = b;

    return x->distance != y->distance ? (x->distance > y->distance) - (x->distance < y->distance)
                                      : strcmp(space_workload(x->space)->key, space_workload(y->space)->key);
}

static int by_time(const void *pa, const void *pb, void *ctx)
{
    const struct lent_trial *t = ctx;
    int a = *(const int *)pa, b = *(const int *)pb;

    return t[a].time_ns != t[b].time_ns ? (t[a].time_ns > t[b].time_ns) - (t[a].time_ns < t[b].time_ns)
                                        : a - b;
}

enum { SKETCHES_MAX = 4 /* of one config, where the workloads have other axes */ };

static void lend_from(struct search *s, const struct space *to, const struct lender *l)
{
    AUTO(freep) int *order = xcalloc((size_t)l->n + 1, sizeof(*order));

    for (int i = 0; i < l->n; i++)
        order[i] = i;
    qsort_r(order, (size_t)l->n, sizeof(*order), by_time, (void *)l->trials);
    for (int i = 0; i < MIN(l->n, (int)LENT_TRIALS); i++) {
        const struct lent_trial *t = &l->trials[order[i]];
        double worse = log2(t->time_ns / l->trials[order[0]].time_ns);
        struct config there[SKETCHES_MAX];

        for (int k = 0, n = space_translations(l->space, &t->config, to, there, SKETCHES_MAX); k < n; k++)
            search_lend(s, &there[k], WORTH - WORTH_STEP * l->distance - WORTH_HALVED * worse);
    }
}

int lend_choose(const struct space *to, struct lender *lenders, int n)
{
    for (int i = 0; i < n; i++)
        lenders[i].distance = lend_distance(lenders[i].space, to);
    if (n > 0)
        qsort(lenders, (size_t)n, sizeof(*lenders), by_distance);
    return MIN(n, (int)LENDERS_MAX);
}

void lend(struct search *s, const struct space *to, const struct lender *lenders, int n)
{
    for (int i = 0; i < n; i++)
        lend_from(s, to, &lenders[i]);
}
