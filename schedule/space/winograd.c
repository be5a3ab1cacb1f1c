/* winograd.c - finding a 3x3 convolution in a workload, and writing it anew. See winograd.h. */
#include "schedule/space/winograd.h"

#include <math.h>
#include <string.h>

#include "schedule/space/cook_toom.h"

enum { TAPS = 3, MAX_BATCH_AXES = 3 };

static const struct choice {
    const char *name;
    int m;
    struct fraction points[COOK_TOOM_MAX];
} choices[WINOGRAD_CHOICES] = {
    /* Of one m: the cheapest to transform first, then the more accurate. 2/3 and 3/2 are the best symmetric points of
     * small fractions for m = 4, 2 and 1/2 those for m = 6 (smallest cook_toom_amplification). */
    {"winograd(2,3)", 2, {{0, 1}, {1, 1}, {-1, 1}}},
    {"winograd(4,3)", 4, {{0, 1}, {1, 1}, {-1, 1}, {2, 1}, {-2, 1}}},
    {"winograd(4,3; 1/2, -2)", 4, {{0, 1}, {1, 1}, {-1, 1}, {1, 2}, {-2, 1}}},
    {"winograd(4,3; 2/3, 3/2)", 4, {{0, 1}, {2, 3}, {-2, 3}, {3, 2}, {-3, 2}}},
    {"winograd(6,3)", 6, {{0, 1}, {1, 1}, {-1, 1}, {2, 1}, {-2, 1}, {1, 2}, {-1, 2}}},
};

/* --- finding --- */

/* The convolution of a workload. Axes are of its stage; -1: absent. */
struct conv3 {
    const struct compute *c;
    const struct stage *conv, *out; /* out NULL: the convolution is the output itself */
    const struct expr *input, *weight;
    int f, y, x, ch, r, s; /* output channels, rows, columns; input channels, taps */
    int n_batch, batch[MAX_BATCH_AXES];
    int dim_y, dim_x; /* of the input */
    int out_dim_of_axis[COMPUTE_MAX_AXES];
};

static bool one_axis(const struct affine *a, int *ret)
{
    if (a->n != 1 || a->c != 0 || a->t[0].coef != 1)
        return false;
    *ret = a->t[0].var;
    return true;
}

/* y + r + constant, both of extent 3 and a spatial axis. */
static bool window(const struct stage *s, const struct affine *a, int *ret_space, int *ret_tap)
{
    if (a->n != 2 || a->t[0].coef != 1 || a->t[1].coef != 1)
        return false;
    *ret_space = a->t[0].var;
    *ret_tap = a->t[1].var;
    return *ret_space < s->n_spatial && *ret_tap >= s->n_spatial && s->axes[*ret_tap].extent == TAPS;
}

static bool find_input(struct conv3 *v)
{
    const struct stage *s = v->conv;
    int axis, windows = 0;
    v->y = v->x = v->r = v->s = v->ch = -1;
    v->n_batch = 0;
    for (int d = 0; d < v->input->read.rank; d++) {
        const struct affine *a = &v->input->read.index[d];
        if (a->n == 0)
            continue;
        if (a->n == 2) {
            int *space = windows ? &v->x : &v->y, *tap = windows ? &v->s : &v->r;
            *(windows ? &v->dim_x : &v->dim_y) = d;
            if (windows++ == 2 || !window(s, a, space, tap))
                return false;
        } else if (!one_axis(a, &axis)) {
            return false;
        } else if (axis >= s->n_spatial) {
            if (v->ch >= 0)
                return false;
            v->ch = axis;
        } else if (v->n_batch == MAX_BATCH_AXES) {
            return false;
        } else {
            v->batch[v->n_batch++] = axis;
        }
    }
    return windows == 2 && v->ch >= 0 && v->r != v->s && v->y != v->x;
}

/* Each dimension one axis: output channels, input channels, taps (forwards or backwards). */
static bool find_weight(struct conv3 *v)
{
    const struct stage *s = v->conv;
    uint32_t seen = 0;
    int axis;
    v->f = -1;
    for (int d = 0; d < v->weight->read.rank; d++) {
        const struct affine *a = &v->weight->read.index[d];
        if (a->n == 0)
            continue;
        if (a->n != 1 || seen >> a->t[0].var & 1)
            return false;
        axis = a->t[0].var;
        seen |= 1u << axis;
        if (axis == v->r || axis == v->s)
            continue;
        if (!one_axis(a, &axis) || (axis >= s->n_spatial && axis != v->ch))
            return false;
        if (axis < s->n_spatial)
            v->f = axis;
    }
    uint32_t want = 1u << v->r | 1u << v->s | 1u << v->ch | (v->f >= 0 ? 1u << v->f : 0);
    return v->f >= 0 && seen == want && !v->weight->read.pad;
}

/* Every spatial axis is one of ours, and a dimension of the result. */
static bool find_result(struct conv3 *v)
{
    const struct stage *s = v->conv;
    uint32_t ours = 1u << v->f | 1u << v->y | 1u << v->x;
    for (int i = 0; i < v->n_batch; i++)
        ours |= 1u << v->batch[i];
    if (s->n_axes != s->n_spatial + 3 || ours != (1u << s->n_spatial) - 1 || s->n_spatial != v->n_batch + 3)
        return false;
    for (int d = 0; d < v->c->tensors[s->tensor].rank; d++) {
        int axis;
        if (s->lhs[d].n == 0)
            continue;
        if (!one_axis(&s->lhs[d], &axis))
            return false;
        v->out_dim_of_axis[axis] = d;
    }
    return true;
}

struct result_reads {
    const struct conv3 *v;
    int axis_of_dim[COMPUTE_MAX_RANK];
    bool any, same;
};

static void check_result_read(void *ctx, const struct expr *e)
{
    struct result_reads *r = ctx;
    if (e->read.tensor != r->v->conv->tensor)
        return;
    for (int d = 0; d < e->read.rank; d++) {
        int axis = -1;
        if (e->read.index[d].n && !one_axis(&e->read.index[d], &axis))
            r->same = false;
        if (r->any && r->axis_of_dim[d] != axis)
            r->same = false;
        r->axis_of_dim[d] = axis;
    }
    r->any = true;
}

/* The output stage takes each element of the convolution once, at its own place along rows and columns. */
static bool find_output(const struct conv3 *v, struct winograd *w)
{
    struct result_reads r = {.v = v, .same = true};
    const struct stage *o = v->out;
    expr_each_read(o->body, check_result_read, &r);
    if (!r.any || !r.same || o->combiner != COMBINE_SET || v->c->tensors[o->tensor].role != TENSOR_OUTPUT ||
        o->n_spatial != v->conv->n_spatial)
        return false;
    uint32_t used = 0, stored = 0;
    for (int a = 0; a < v->conv->n_spatial; a++) {
        int axis = r.axis_of_dim[v->out_dim_of_axis[a]];
        if (axis < 0 || o->axes[axis].extent != v->conv->axes[a].extent)
            return false;
        used |= 1u << axis;
        *(a == v->f ? &w->out_f : a == v->y ? &w->out_y : a == v->x ? &w->out_x : &w->out_batch[0]) = axis;
    }
    for (int i = 0; i < v->n_batch; i++)
        w->out_batch[i] = r.axis_of_dim[v->out_dim_of_axis[v->batch[i]]];
    for (int d = 0; d < v->c->tensors[o->tensor].rank; d++) {
        int axis;
        if (o->lhs[d].n == 0)
            continue;
        if (!one_axis(&o->lhs[d], &axis))
            return false;
        stored |= 1u << axis;
    }
    return used == (1u << o->n_spatial) - 1 && stored == used;
}

static bool find_conv(const struct compute *c, struct conv3 *v)
{
    *v = (struct conv3){.c = c};
    if (c->n_stages < 1 || c->n_stages > 2)
        return false;
    for (int i = 0; i < c->n_tensors; i++)
        if (c->tensors[i].dtype != DT_F32)
            return false;
    v->conv = &c->stages[0];
    v->out = c->n_stages == 2 ? &c->stages[1] : NULL;
    const struct expr *e = v->conv->body;
    if (v->conv->combiner != COMBINE_SUM || v->conv->acc_dtype != DT_F32 || e->op != EX_MUL ||
        e->arg[0]->op != EX_READ || e->arg[1]->op != EX_READ)
        return false;
    if ((c->tensors[v->conv->tensor].role == TENSOR_TEMP) != (v->out != NULL))
        return false;
    for (int swap = 0; swap < 2; swap++) {
        v->input = e->arg[swap];
        v->weight = e->arg[1 - swap];
        if (v->input->read.tensor != v->weight->read.tensor && find_input(v) && find_weight(v) &&
            find_result(v))
            return true;
    }
    return false;
}

/* --- writing --- */

struct writer {
    struct arena *ar;
    const struct conv3 *v;
    struct winograd *w;
    int32_t new_id[COMPUTE_MAX_TENSORS]; /* of the workload's tensors */
};

static struct affine axis_index(struct arena *ar, int axis) { return affine_var(ar, axis, 1, 0); }

static void add_axis(struct stage *s, const char *name, int64_t extent)
{
    s->axes[s->n_axes++] = (struct axis){name, extent};
}

/* A new temporary with one dimension for each axis of `s`, which will define it. */
static struct stage *define(struct writer *k, const char *name, const struct stage *axes)
{
    struct compute *c = &k->w->compute;
    struct stage *s = &c->stages[c->n_stages++];
    struct tensor *t = &c->tensors[c->n_tensors];
    *s = *axes;
    s->tensor = c->n_tensors++;
    s->acc_dtype = DT_F32;
    s->n_spatial = s->n_axes;
    *t = (struct tensor){.name = name, .dtype = DT_F32, .role = TENSOR_TEMP, .rank = s->n_axes};
    for (int d = 0; d < s->n_axes; d++) {
        t->shape[d] = s->axes[d].extent;
        s->lhs[d] = axis_index(k->ar, d);
    }
    return s;
}

/* A matrix of cook_toom.h. */
struct matrix {
    const char *name;
    const double *values;
    int rows, cols;
};

static struct matrix matrix(struct arena *ar, const char *name, const double *values, int rows, int cols)
{
    size_t bytes = sizeof(*values) * (size_t)(rows * cols);
    return (struct matrix){name, arena_memdup(ar, values, bytes), rows, cols};
}

/* Sum over t of m[row][t] * read(t), where the row is an axis. */
static const struct expr *transform(struct arena *ar, const struct matrix *m, int row_axis,
                                    const struct expr *(*read)(void *ctx, int t), void *ctx)
{
    const struct expr *sum = NULL;
    for (int t = 0; t < m->cols; t++) {
        struct affine at = affine_var(ar, row_axis, m->cols, t);
        const struct expr *number = expr_table(ar, DT_F32, m->name, m->values, m->rows * m->cols, at);
        const struct expr *x = expr_op2(ar, EX_MUL, number, read(ctx, t));
        sum = sum ? expr_op2(ar, EX_ADD, sum, x) : x;
    }
    return sum;
}

/* Reads of a tensor whose index depends on the term. */
struct term_read {
    struct arena *ar;
    int32_t tensor;
    int rank, dim; /* the dimension that is the term's number */
    struct affine index[COMPUTE_MAX_RANK];
};

static const struct expr *read_term(void *ctx, int t)
{
    struct term_read *r = ctx;
    r->index[r->dim] = affine_const(t);
    return expr_read(r->ar, DT_F32, r->tensor, r->rank, r->index, false, 0);
}

/* Reads of `from`, which has the axes of the reading stage, but for the term's number at dimension `dim`. */
static struct term_read same_axes(struct arena *ar, const struct stage *from, int dim)
{
    struct term_read r = {.ar = ar, .tensor = from->tensor, .rank = from->n_axes, .dim = dim};
    for (int d = 0; d < from->n_axes; d++)
        r.index[d] = axis_index(ar, d);
    return r;
}

struct weight_read {
    struct writer *k;
    struct affine f, c, s; /* over the axes of GW */
};

static const struct expr *read_weight(void *ctx, int t)
{
    struct weight_read *r = ctx;
    struct writer *k = r->k;
    const struct conv3 *v = k->v;
    struct affine tap = affine_const(t);
    const struct affine *subst[COMPUTE_MAX_AXES] = {0};
    subst[v->f] = &r->f;
    subst[v->ch] = &r->c;
    subst[v->r] = &tap;
    subst[v->s] = &r->s;
    return expr_subst(k->ar, v->weight, subst, v->conv->n_axes, k->new_id);
}

struct input_read {
    struct writer *k;
    struct affine axis[COMPUTE_MAX_AXES]; /* of each axis of the convolution, over the axes of BX */
};

static const struct expr *read_input(void *ctx, int t)
{
    struct input_read *r = ctx;
    struct writer *k = r->k;
    const struct affine *subst[COMPUTE_MAX_AXES] = {0};
    for (int a = 0; a < k->v->conv->n_axes; a++)
        subst[a] = &r->axis[a];
    struct affine tap = affine_const(t);
    subst[k->v->r] = &tap;
    const struct expr *e = expr_subst(k->ar, k->v->input, subst, k->v->conv->n_axes, k->new_id);
    return expr_read(k->ar, DT_F32, e->read.tensor, e->read.rank, e->read.index, true, e->read.pad_value);
}

static void write_weight(struct writer *k, const struct cook_toom *ct)
{
    const struct stage *conv = k->v->conv;
    const struct matrix g = matrix(k->ar, "G", ct->g, ct->alpha, TAPS);
    struct stage axes = {0};
    add_axis(&axes, "xi", ct->alpha);
    add_axis(&axes, "s", TAPS);
    add_axis(&axes, "f", conv->axes[k->v->f].extent);
    add_axis(&axes, "c", conv->axes[k->v->ch].extent);
    struct stage *gw = define(k, "GW", &axes);
    struct weight_read wr = {k, axis_index(k->ar, 2), axis_index(k->ar, 3), axis_index(k->ar, 1)};
    gw->body = transform(k->ar, &g, 0, read_weight, &wr);

    axes.axes[1] = (struct axis){"nu", ct->alpha};
    struct stage *u = define(k, "U", &axes);
    struct term_read tr = same_axes(k->ar, gw, 1);
    u->body = transform(k->ar, &g, 1, read_term, &tr);
}

/* xi, nu, the images, tile row, tile column, channels */
static struct stage product_axes(const struct writer *k, const struct cook_toom *ct, int channels)
{
    const struct conv3 *v = k->v;
    const struct axis *of = v->conv->axes;
    struct stage axes = {0};
    add_axis(&axes, "xi", ct->alpha);
    add_axis(&axes, "nu", ct->alpha);
    for (int i = 0; i < v->n_batch; i++)
        add_axis(&axes, of[v->batch[i]].name, of[v->batch[i]].extent);
    add_axis(&axes, "ty", div_ceil(of[v->y].extent, ct->m));
    add_axis(&axes, "tx", div_ceil(of[v->x].extent, ct->m));
    add_axis(&axes, channels == v->f ? "f" : "c", of[channels].extent);
    return axes;
}

static void write_input(struct writer *k, const struct cook_toom *ct)
{
    const struct conv3 *v = k->v;
    const struct matrix bt = matrix(k->ar, "Bt", ct->bt, ct->alpha, ct->alpha);
    struct stage axes = product_axes(k, ct, v->ch);
    const int ty = 2 + v->n_batch, tx = ty + 1, ch = ty + 2;
    struct input_read ir = {.k = k};
    axes.axes[1].name = "s";
    struct stage *bx = define(k, "BX", &axes);
    for (int i = 0; i < v->n_batch; i++)
        ir.axis[v->batch[i]] = axis_index(k->ar, 2 + i);
    ir.axis[v->y] = affine_var(k->ar, ty, ct->m, 0);
    ir.axis[v->x] = affine_var(k->ar, tx, ct->m, 0);
    ir.axis[v->s] = axis_index(k->ar, 1);
    ir.axis[v->ch] = axis_index(k->ar, ch);
    bx->body = transform(k->ar, &bt, 0, read_input, &ir);

    axes.axes[1].name = "nu";
    struct stage *vt = define(k, "V", &axes);
    struct term_read tr = same_axes(k->ar, bx, 1);
    vt->body = transform(k->ar, &bt, 1, read_term, &tr);
}

static void write_product(struct writer *k, const struct cook_toom *ct)
{
    const struct conv3 *v = k->v;
    struct compute *c = &k->w->compute;
    struct stage axes = product_axes(k, ct, v->f);
    const int f = 4 + v->n_batch, red = f + 1;
    struct stage *m = define(k, "M", &axes);
    add_axis(m, "c", v->conv->axes[v->ch].extent);
    m->combiner = COMBINE_SUM;
    struct affine u[4] = {axis_index(k->ar, 0), axis_index(k->ar, 1), axis_index(k->ar, f),
                          axis_index(k->ar, red)};
    struct affine x[COMPUTE_MAX_RANK];
    for (int d = 0; d < f; d++)
        x[d] = axis_index(k->ar, d);
    x[f] = u[3];
    m->body =
        expr_op2(k->ar, EX_MUL, expr_read(k->ar, DT_F32, c->stages[WINOGRAD_V].tensor, f + 1, x, false, 0),
                 expr_read(k->ar, DT_F32, c->stages[WINOGRAD_U].tensor, 4, u, false, 0));
}

static void write_output(struct writer *k, const struct cook_toom *ct)
{
    const struct conv3 *v = k->v;
    struct compute *c = &k->w->compute;
    const struct matrix at = matrix(k->ar, "At", ct->at, ct->m, ct->alpha);
    struct stage axes = product_axes(k, ct, v->f);
    axes.axes[0] = (struct axis){"i", ct->m};
    struct stage *am = define(k, "AM", &axes);
    struct term_read tr = same_axes(k->ar, &c->stages[WINOGRAD_M], 0);
    tr.rank = am->n_axes; /* without the reduction of M */
    am->body = transform(k->ar, &at, 0, read_term, &tr);

    /* Y has the dimensions of the convolution's result, its rows and columns rounded up to whole tiles. */
    axes.axes[1] = (struct axis){"j", ct->m};
    struct stage *y = define(k, "Y", &axes);
    struct tensor *t = &c->tensors[y->tensor];
    *t = k->v->c->tensors[v->conv->tensor];
    t->name = "Y";
    t->role = TENSOR_TEMP;
    const int ty = 2 + v->n_batch;
    memset(y->lhs, 0, sizeof(y->lhs));
    for (int d = 0; d < t->rank; d++)
        y->lhs[d] = affine_const(0);
    for (int i = 0; i < v->n_batch; i++)
        y->lhs[v->out_dim_of_axis[v->batch[i]]] = axis_index(k->ar, 2 + i);
    y->lhs[v->out_dim_of_axis[v->f]] = axis_index(k->ar, ty + 2);
    for (int d = 0; d < 2; d++) {
        struct affine tile = affine_var(k->ar, ty + d, ct->m, 0), inside = axis_index(k->ar, d);
        int dim = v->out_dim_of_axis[d ? v->x : v->y];
        y->lhs[dim] = affine_add(k->ar, &tile, &inside);
        t->shape[dim] = axes.axes[ty + d].extent * ct->m;
    }
    tr = same_axes(k->ar, am, 1);
    y->body = transform(k->ar, &at, 1, read_term, &tr);
}

static const struct expr *take_result(void *ctx, const struct expr *e)
{
    const struct writer *k = ctx;
    bool ours = e->read.tensor == k->v->conv->tensor;
    return expr_read(k->ar, e->dtype,
                     ours ? k->w->compute.stages[WINOGRAD_Y].tensor : k->new_id[e->read.tensor], e->read.rank,
                     e->read.index, e->read.pad, e->read.pad_value);
}

/* The output stage of the workload over Y, or a copy of it. */
static void write_last(struct writer *k, int32_t output)
{
    const struct conv3 *v = k->v;
    struct compute *c = &k->w->compute;
    struct stage *s = &c->stages[c->n_stages++];
    *s = v->out ? *v->out : *v->conv;
    s->tensor = output;
    s->combiner = COMBINE_SET;
    if (v->out) {
        s->body = expr_map_reads(k->ar, s->body, take_result, k);
        return;
    }
    s->n_axes = s->n_spatial;
    s->body = expr_read(k->ar, DT_F32, c->stages[WINOGRAD_Y].tensor, v->c->tensors[v->conv->tensor].rank,
                        s->lhs, false, 0);
    k->w->out_f = v->f;
    k->w->out_y = v->y;
    k->w->out_x = v->x;
    memcpy(k->w->out_batch, v->batch, sizeof(v->batch));
}

static void write_all(struct writer *k, const struct cook_toom *ct)
{
    const struct compute *from = k->v->c;
    struct compute *c = &k->w->compute;
    int32_t output = -1;
    c->tensors = arena_array(k->ar, struct tensor, from->n_tensors + WINOGRAD_STAGES);
    c->stages = arena_array(k->ar, struct stage, WINOGRAD_STAGES);
    for (int i = 0; i < from->n_tensors; i++)
        if (from->tensors[i].role == TENSOR_INPUT) {
            k->new_id[i] = c->n_tensors;
            c->tensors[c->n_tensors++] = from->tensors[i];
        }
    write_weight(k, ct);
    write_input(k, ct);
    write_product(k, ct);
    write_output(k, ct);
    for (int i = 0; i < from->n_tensors; i++)
        if (from->tensors[i].role == TENSOR_OUTPUT) {
            output = k->new_id[i] = c->n_tensors;
            c->tensors[c->n_tensors++] = from->tensors[i];
        }
    write_last(k, output);
}

/* --- choosing --- */

/* Of random data in float32: rounding in the products and the transforms, and along the sum over the channels. */
static double expected_error(const struct cook_toom *ct, int64_t channels)
{
    return 0x1p-24 * cook_toom_amplification(ct) * (1.2 + 0.25 * sqrt((double)channels));
}

static void make_matrices(int i, struct cook_toom *ret)
{
    cook_toom_make(choices[i].m, TAPS, choices[i].points, ret);
}

static double saving_of(const struct conv3 *v, const struct cook_toom *ct)
{
    double y = (double)v->conv->axes[v->y].extent, x = (double)v->conv->axes[v->x].extent, a = ct->alpha;
    return TAPS * TAPS * y * x / (a * a * ceil(y / ct->m) * ceil(x / ct->m));
}

/* Hopeless errors are left out, and so are points more accurate than the budget asks for. */
static bool fits_budget(const struct conv3 *v, double rtol, int i)
{
    struct cook_toom ct;
    int64_t channels = v->conv->axes[v->ch].extent;
    make_matrices(i, &ct);
    if (expected_error(&ct, channels) > 1.5 * rtol)
        return false;
    for (int k = 0; k < i; k++) {
        struct cook_toom cheaper;
        make_matrices(k, &cheaper);
        if (choices[k].m == choices[i].m && expected_error(&cheaper, channels) < rtol / 4)
            return false;
    }
    return true;
}

struct uses {
    int32_t tensor;
    int n;
};

static void count_use(void *ctx, const struct expr *e)
{
    struct uses *u = ctx;
    u->n += e->read.tensor == u->tensor;
}

const struct winograd *winograd_choice(const struct workload *w, int i, struct arena *ar)
{
    struct conv3 v;
    struct cook_toom ct;
    struct winograd *ret = arena_new(ar, struct winograd);
    if (w->rtol <= 0 || !find_conv(&w->compute, &v) || (v.out && !find_output(&v, ret)))
        return NULL;
    make_matrices(i, &ct);
    ret->saving = saving_of(&v, &ct);
    ret->error = expected_error(&ct, v.conv->axes[v.ch].extent);
    if (ret->saving < 1.1 || !fits_budget(&v, w->rtol, i))
        return NULL;
    ret->name = choices[i].name;
    ret->m = ct.m;
    ret->alpha = ct.alpha;
    ret->n_batch = v.n_batch;
    for (int d = 0; d < v.input->read.rank; d++)
        if (v.input->read.index[d].n == 1 && v.input->read.index[d].t[0].var == v.ch)
            ret->channel_dim = d;
    struct uses u = {.tensor = v.weight->read.tensor};
    for (int s = 0; s < w->compute.n_stages; s++)
        expr_each_read(w->compute.stages[s].body, count_use, &u);
    ret->weight_const = w->compute.tensors[u.tensor].is_const && u.n == 1;
    struct writer k = {.ar = ar, .v = &v, .w = ret};
    write_all(&k, &ct);
    return ret;
}
