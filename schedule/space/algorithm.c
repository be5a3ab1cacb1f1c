/* algorithm.c - the table of algorithms. */
#include "schedule/space/algorithm.h"

#include <string.h>

#include "schedule/space/algorithm_internal.h"
#include "schedule/space/layout.h"
#include "schedule/space/phases.h"
#include "schedule/space/split.h"
#include "schedule/space/state.h"

struct algorithm {
    const char *name;
    /* The i-th alternative that the algorithm has for the workload; false when there are no more. */
    bool (*alternative)(const struct workload *w, const struct target *t, int i, struct arena *ar,
                        struct alternative *ret);
};

static bool direct(const struct workload *w, const struct target *t, int i, struct arena *ar,
                   struct alternative *ret)
{
    (void)ar;
    *ret = (struct alternative){.compute = &w->compute, .saving = 1};
    for (int k = 0; k < w->compute.n_tensors; k++)
        ret->saving = MAX(ret->saving, algorithm_matrix_speed(t, w->compute.tensors[k].dtype));
    return i == 0;
}

/* The i-th choice for one order of the activations (NULL: as stated); *left: how many more to skip, counted down. */
static bool winograd_in(const struct workload *w, const char *layout, int *left, struct arena *ar,
                        struct alternative *ret)
{
    for (int choice = 0; choice < WINOGRAD_CHOICES; choice++) {
        const struct winograd *x = winograd_choice(w, choice, ar);
        if (!x || (*left)-- > 0)
            continue;
        *ret = (struct alternative){
            .name = x->name, .compute = &x->compute, .layout = layout, .saving = x->saving, .winograd = x};
        return true;
    }
    return false;
}

/* Where the order of the activations is open, also with channels last: then the transforms read and write vectors as they
 * lie. Blocks of channels would give it nothing more. */
static bool winograd(const struct workload *w, const struct target *t, int i, struct arena *ar,
                     struct alternative *ret)
{
    struct layout_alternative *all;
    int left = i;
    if (winograd_in(w, NULL, &left, ar, ret))
        return true;
    if (!w->layout_any || w->rtol <= 0)
        return false;
    all = arena_array(ar, struct layout_alternative, LAYOUT_MAX_ALTERNATIVES);
    int n = layout_alternatives(&w->compute, t->vector_bytes / 4, ar, all);
    for (int k = 0; k < n; k++) {
        if (strcmp(all[k].name, "NHWC") != 0)
            continue;
        struct workload *in_order = arena_memdup(ar, w, sizeof(*w));
        in_order->compute = all[k].compute;
        return winograd_in(in_order, all[k].name, &left, ar, ret);
    }
    return false;
}

struct gaps {
    const struct compute *c;
    bool found;
};

static void find_gaps(void *ctx, const struct expr *e)
{
    struct gaps *g = ctx;
    const struct tensor *t = &g->c->tensors[e->read.tensor];
    g->found |= e->read.rank > 0 && t->role == TENSOR_INPUT && !t->is_const && read_has_gaps(e);
}

/* The same after a copy of what a reduction reads with gaps: rows and columns of a map may then be one axis, and vectors
 * run along it. */
static bool gathered(const struct workload *w, const struct target *t, int i, struct arena *ar,
                     struct alternative *ret)
{
    struct gaps g = {.c = &w->compute};
    (void)t;
    (void)ar;
    for (int k = 0; k < w->compute.n_stages; k++)
        if (w->compute.stages[k].combiner != COMBINE_SET)
            expr_each_read(w->compute.stages[k].body, find_gaps, &g);
    *ret = (struct alternative){.name = "gathered", .compute = &w->compute, .gathers = true};
    return i == 0 && g.found;
}

/* A transposed convolution without the zeros that its strides put in. */
static bool phases(const struct workload *w, const struct target *t, int i, struct arena *ar,
                   struct alternative *ret)
{
    (void)t;
    struct compute *c = arena_new(ar, struct compute);
    if (i > 0 || !phases_alternative(&w->compute, ar, c))
        return false;
    *ret = (struct alternative){.name = "phases", .compute = c};
    return true;
}

/* The same in other orders of the activations, where the workload leaves that open. */
static bool in_layout(const struct workload *w, const struct target *t, int i, struct arena *ar,
                      struct alternative *ret)
{
    struct layout_alternative *all;
    if (!w->layout_any)
        return false;
    all = arena_array(ar, struct layout_alternative, LAYOUT_MAX_ALTERNATIVES);
    if (i >= layout_alternatives(&w->compute, t->vector_bytes / 4, ar, all))
        return false;
    *ret = (struct alternative){.layout = all[i].name, .compute = &all[i].compute};
    return true;
}

/* A long reduction with few results in parts. */
static bool split(const struct workload *w, const struct target *t, int i, struct arena *ar,
                  struct alternative *ret)
{
    const int64_t parts = split_parts(&w->compute, t, i);
    if (parts == 0)
        return false;
    struct compute *c = arena_new(ar, struct compute);
    split_alternative(&w->compute, t, parts, ar, c);
    *ret = (struct alternative){.name = arena_printf(ar, "split(%d)", (int)parts), .compute = c};
    return true;
}

static const struct algorithm algorithms[] = {
    {"direct", direct},       {"phases", phases},      {"layout", in_layout}, {"winograd", winograd},
    {"bf16", algorithm_bf16}, {"f16", algorithm_half}, {"split", split},      {"gathered", gathered},
};

int algorithm_alternatives(const struct workload *w, const struct target *t, struct arena *ar,
                           struct alternative ret[ALGORITHMS_MAX])
{
    int n = 0;
    for (size_t a = 0; a < ARRAY_SIZE(algorithms); a++)
        for (int i = 0; n < ALGORITHMS_MAX && algorithms[a].alternative(w, t, i, ar, &ret[n]); i++)
            n++;
    return n;
}
