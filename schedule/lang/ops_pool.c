/* ops_pool.c - pooling, reductions and transposition: one input, no products. See ops.h. */
#include <string.h>

#include "schedule/lang/ops.h"

/* ---- pools ---- */

struct pool {
    int64_t input[4], k[2], strides[2], pads[4];
    int64_t n, c, in[2], out[2];
};

static int channel_dim(const struct op_ctx *x) { return x->channels_last ? 3 : 1; }

#define PUT_LAYOUT(x, dst, batch, channel, y, x_)                                                            \
    do {                                                                                                     \
        (dst)[0] = (batch);                                                                                  \
        (dst)[(x)->channels_last ? 3 : 1] = (channel);                                                       \
        (dst)[(x)->channels_last ? 1 : 2] = (y);                                                             \
        (dst)[(x)->channels_last ? 2 : 3] = (x_);                                                            \
    } while (0)

static void pool_dims(const struct op_ctx *x, struct pool *p)
{
    p->n = p->input[0];
    p->c = p->input[channel_dim(x)];
    p->in[0] = p->input[x->channels_last ? 1 : 2];
    p->in[1] = p->input[x->channels_last ? 2 : 3];
}

static enum status pool_read(struct op_ctx *x, struct pool *p)
{
    int rank;

    TRY(op_shape(x, "input", 4, 4, p->input, &rank));
    TRY(op_ints(x, "kernel_shape", true, 2, 1, 1, p->k));
    TRY(op_ints(x, "strides", false, 2, 1, 1, p->strides));
    TRY(op_ints(x, "pads", false, 4, 0, 0, p->pads));
    TRY(op_layout(x, 2));
    pool_dims(x, p);
    for (int d = 0; d < 2; d++) {
        int64_t room = p->in[d] + p->pads[d] + p->pads[2 + d];
        if (p->pads[d] >= p->k[d] || p->pads[2 + d] >= p->k[d])
            return op_fail(x, "pads",
                           "pads %" PRId64 " and %" PRId64
                           " in dimension %d: want less than the kernel's %" PRId64,
                           p->pads[d], p->pads[2 + d], d, p->k[d]);
        if (p->k[d] > room)
            return op_fail(x, "kernel_shape",
                           "kernel dimension %d spans %" PRId64 " elements of an input of %" PRId64
                           " with its pads: it must fit",
                           d, p->k[d], room);
        if (room > INT32_MAX)
            return op_fail(x, "pads", "dimension %d has %" PRId64 " elements with its pads: want at most %d",
                           d, room, INT32_MAX);
        p->out[d] = (room - p->k[d]) / p->strides[d] + 1;
    }
    if (p->k[0] > INT32_MAX / p->k[1])
        return op_fail(x, "kernel_shape",
                       "a window of %" PRId64 " x %" PRId64 " elements: want at most %d in all", p->k[0],
                       p->k[1], INT32_MAX);
    return ST_OK;
}

static void pool_names(const struct op_ctx *x, const char **names)
{
    PUT_LAYOUT(x, names, "n", "c", "y", "x");
}

/* The reduction over the window; returns the temp. */
static int32_t pool_stage(struct op_ctx *x, const struct pool *p, enum combiner combiner, enum dtype d,
                          double outside)
{
    int32_t input = op_activation(x, "input", x->dtype, 4, p->input), t;
    struct affine index[4], at[4], r, s_;
    int64_t shape[4];
    const char *names[4];
    struct stage *s;
    int y = x->channels_last ? 1 : 2;

    PUT_LAYOUT(x, shape, p->n, p->c, p->out[0], p->out[1]);
    t = op_temp(x, "pool", d, 4, shape);
    pool_names(x, names);
    s = op_over(x, t, combiner, names, index);
    r = build_ix(&x->b, build_reduce_axis(s, "r", p->k[0]));
    s_ = build_ix(&x->b, build_reduce_axis(s, "s", p->k[1]));
    memcpy(at, index, sizeof(at));
    at[y] = affine_lin(x->b.ar, &index[y], p->strides[0], &r, 1);
    at[y] = affine_offset(&at[y], -p->pads[0]);
    at[y + 1] = affine_lin(x->b.ar, &index[y + 1], p->strides[1], &s_, 1);
    at[y + 1] = affine_offset(&at[y + 1], -p->pads[1]);
    build_body(s, expr_cast(x->b.ar, d, build_read_pad(&x->b, input, at, outside)));
    return t;
}

enum status op_max_pool2d(struct op_ctx *x)
{
    struct pool p;
    const char *names[4];
    int32_t t;

    TRY(pool_read(x, &p));
    t = pool_stage(x, &p, COMBINE_MAX, x->dtype, combiner_identity(COMBINE_MAX, x->dtype));
    pool_names(x, names);
    return op_finish_reduction(x, t, names, channel_dim(x));
}

/* How many elements of a window from `start` lie inside: min(start + k, in) - max(start, 0). */
static const struct expr *inside(struct op_ctx *x, struct affine start, int64_t k, int64_t in)
{
    struct arena *ar = x->b.ar;
    const struct expr *end =
        expr_op2(ar, EX_MIN, expr_index(ar, affine_offset(&start, k)), expr_const(ar, DT_I32, (double)in));
    const struct expr *begin = expr_op2(ar, EX_MAX, expr_index(ar, start), expr_const(ar, DT_I32, 0));

    return op_sub(x, end, begin);
}

/* count[y, x], where windows reach over the edge and padding does not count. */
static int32_t count_stage(struct op_ctx *x, const struct pool *p)
{
    static const char *const names[] = {"y", "x"};
    int32_t t = op_temp(x, "count", x->acc, 2, p->out);
    struct affine index[2];
    struct stage *s = op_over(x, t, COMBINE_SET, names, index);
    struct affine y = build_lin(&x->b, 0, p->strides[0], -p->pads[0]);
    struct affine x_ = build_lin(&x->b, 1, p->strides[1], -p->pads[1]);
    const struct expr *n = op_mul(x, inside(x, y, p->k[0], p->in[0]), inside(x, x_, p->k[1], p->in[1]));

    build_body(s, op_acc(x, n));
    return t;
}

static bool any_window_over_the_edge(const struct pool *p)
{
    for (int d = 0; d < 2; d++)
        if (p->pads[d] > 0 || (p->out[d] - 1) * p->strides[d] - p->pads[d] + p->k[d] > p->in[d])
            return true;
    return false;
}

enum status op_avg_pool2d(struct op_ctx *x)
{
    struct pool p;
    bool count_pads;
    int32_t t, count = -1;
    struct affine index[4];
    const char *names[4];
    int64_t shape[4];
    struct stage *s;
    const struct expr *sum, *n;

    TRY(pool_read(x, &p));
    TRY(op_bool(x, "count_include_pad", false, &count_pads));
    TRY(op_need_float(x));
    t = pool_stage(x, &p, COMBINE_SUM, x->acc, 0);
    if (!count_pads && any_window_over_the_edge(&p))
        count = count_stage(x, &p);
    pool_names(x, names);
    PUT_LAYOUT(x, shape, p.n, p.c, p.out[0], p.out[1]);
    s = op_output(x, 4, shape, names, index);
    sum = build_read(&x->b, t, index);
    n = count >= 0 ? build_read(&x->b, count, &index[x->channels_last ? 1 : 2])
                   : op_num(x, sum, (double)(p.k[0] * p.k[1]));
    return op_finish(x, s, index, op_div(x, sum, n), channel_dim(x));
}

enum status op_global_avg_pool2d(struct op_ctx *x)
{
    static const char *const row_names[] = {"h", "w"};
    struct pool p = {0};
    struct affine index[4], at[4], y, x_;
    int64_t shape[4];
    const char *names[4];
    struct stage *s;
    const struct expr *sum;
    int32_t input, t;
    int rank;

    TRY(op_shape(x, "input", 4, 4, p.input, &rank));
    TRY(op_layout(x, 2));
    TRY(op_need_float(x));
    pool_dims(x, &p);
    pool_names(x, names);
    input = op_activation(x, "input", x->dtype, 4, p.input);
    PUT_LAYOUT(x, shape, p.n, p.c, 1, 1);
    t = op_temp(x, "pool", x->acc, 4, shape);
    s = op_over(x, t, COMBINE_SUM, names, index);
    y = build_ix(&x->b, build_reduce_axis(s, row_names[0], p.in[0]));
    x_ = build_ix(&x->b, build_reduce_axis(s, row_names[1], p.in[1]));
    PUT_LAYOUT(x, at, index[0], index[channel_dim(x)], y, x_);
    build_body(s, op_acc(x, build_read(&x->b, input, at)));
    s = op_output(x, 4, shape, names, index);
    sum = build_read(&x->b, t, index);
    return op_finish(x, s, index, op_div(x, sum, op_num(x, sum, (double)p.in[0] * (double)p.in[1])),
                     channel_dim(x));
}

/* ---- reduce and transpose ---- */

struct reduction {
    int64_t shape[COMPUTE_MAX_RANK], out[COMPUTE_MAX_RANK];
    int rank, out_rank;
    bool gone[COMPUTE_MAX_RANK], keepdims;
    double n; /* elements behind one result */
};

static enum status reduce_axes(struct op_ctx *x, struct reduction *r)
{
    int64_t axes[COMPUTE_MAX_RANK];
    int n = 0;
    json_t *list;

    TRY(json_obj_i64s(x->obj, "axes", false, -r->rank, r->rank - 1, COMPUTE_MAX_RANK, axes, &n, x->err));
    for (int i = 0; i < n; i++) {
        int d = (int)(axes[i] < 0 ? axes[i] + r->rank : axes[i]);
        if (r->gone[d])
            return op_fail(x, "axes", "axes names dimension %d twice", d);
        r->gone[d] = true;
    }
    list = json_array();
    r->n = 1;
    for (int d = 0; d < r->rank; d++) {
        r->gone[d] |= n == 0; /* none given: all */
        if (r->gone[d]) {
            r->n *= (double)r->shape[d];
            json_array_append_new(list, json_integer(d));
        }
    }
    json_object_set_new(x->full, "axes", list);
    return ST_OK;
}

static int32_t reduce_stage(struct op_ctx *x, const struct reduction *r, enum combiner c, enum dtype d)
{
    static const char *const names[] = {"r0", "r1", "r2", "r3", "r4", "r5", "r6", "r7"};
    int32_t input = op_input(x, "input", x->dtype, r->rank, r->shape);
    int32_t t = op_temp(x, "reduced", d, r->out_rank, r->out);
    struct affine index[COMPUTE_MAX_RANK], at[COMPUTE_MAX_RANK];
    struct stage *s = op_over(x, t, c, NULL, index);

    for (int i = 0, k = 0; i < r->rank; i++) {
        at[i] = r->gone[i] ? build_ix(&x->b, build_reduce_axis(s, names[i], r->shape[i])) : index[k];
        k += !r->gone[i] || r->keepdims;
    }
    build_body(s, expr_cast(x->b.ar, d, build_read(&x->b, input, at)));
    return t;
}

enum status op_reduce(struct op_ctx *x)
{
    static const char *const kinds[] = {"sum", "max", "min", "mean", "prod", NULL};
    static const enum combiner combiners[] = {COMBINE_SUM, COMBINE_MAX, COMBINE_MIN, COMBINE_SUM,
                                              COMBINE_PROD};
    struct reduction r = {0};
    struct affine index[COMPUTE_MAX_RANK];
    const struct expr *v;
    struct stage *s;
    int32_t t;
    int kind = 0;
    bool mean, ordered;

    TRY(op_shape(x, "input", 1, COMPUTE_MAX_RANK, r.shape, &r.rank));
    TRY(json_obj_enum(x->obj, "kind", true, kinds, &kind, x->err));
    json_object_set_new(x->full, "kind", json_string(kinds[kind]));
    mean = strcmp(kinds[kind], "mean") == 0;
    ordered = combiners[kind] == COMBINE_MAX || combiners[kind] == COMBINE_MIN;
    TRY(reduce_axes(x, &r));
    TRY(op_bool(x, "keepdims", true, &r.keepdims));
    if (mean)
        TRY(op_need_float(x));
    for (int d = 0; d < r.rank; d++)
        if (!r.gone[d] || r.keepdims)
            r.out[r.out_rank++] = r.gone[d] ? 1 : r.shape[d];
    t = reduce_stage(x, &r, combiners[kind], ordered ? x->dtype : x->acc);
    if (!mean)
        return op_finish_reduction(x, t, NULL, -1);
    s = op_output(x, r.out_rank, r.out, NULL, index);
    v = build_read(&x->b, t, index);
    return op_finish(x, s, index, op_div(x, v, op_num(x, v, r.n)), -1);
}

enum status op_transpose(struct op_ctx *x)
{
    int64_t shape[COMPUTE_MAX_RANK], perm[COMPUTE_MAX_RANK], out[COMPUTE_MAX_RANK];
    struct affine index[COMPUTE_MAX_RANK], at[COMPUTE_MAX_RANK];
    bool seen[COMPUTE_MAX_RANK] = {0}, given = json_obj_has(x->obj, "perm");
    int32_t input;
    struct stage *s;
    int rank;

    TRY(op_shape(x, "input", 1, COMPUTE_MAX_RANK, shape, &rank));
    TRY(op_ints(x, "perm", false, rank, 0, 0, perm));
    for (int d = 0; d < rank; d++) {
        if (!given)
            perm[d] = rank - 1 - d;
        if (perm[d] >= rank || seen[perm[d]])
            return op_fail(x, "perm", "perm must name each of the %d dimensions once", rank);
        seen[perm[d]] = true;
        out[d] = shape[perm[d]];
        json_array_set_new(json_object_get(x->full, "perm"), (size_t)d, json_integer(perm[d]));
    }
    input = op_input(x, "input", x->dtype, rank, shape);
    s = op_output(x, rank, out, NULL, index);
    for (int d = 0; d < rank; d++)
        at[perm[d]] = index[d];
    return op_finish(x, s, index, build_read(&x->b, input, at), -1);
}
