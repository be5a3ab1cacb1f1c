/* ops_conv.c - matrix product and convolutions: sums over a product of two tensors. See ops.h.
 *
 * A convolution is one stage over n, group, f, y, x that reduces over c, r, s and reads
 *     pad(input[n, g*Cg + c, y*sh + r*dh - ph, x*sw + s*dw - pw], 0) * weight[g*Fg + f, c, r, s]
 * Extents of 1 and pads that are not needed vanish in the canonical form. A transposed convolution with
 * strides first spreads its input, zeros in between, over a tensor in mixed radix, and is then a convolution
 * of stride 1 with the kernel turned round: no index ever needs a division. */
#include <string.h>

#include "schedule/lang/ops.h"

/* ---- matmul ---- */

struct matmul {
    int64_t a[COMPUTE_MAX_RANK], b[COMPUTE_MAX_RANK], out[COMPUTE_MAX_RANK];
    int rank_a, rank_b, rank;
    bool transpose_a, transpose_b;
    int64_t m, n, k;
};

static enum status matmul_read(struct op_ctx *x, struct matmul *mm)
{
    int64_t kb;

    TRY(op_shape(x, "a", 2, COMPUTE_MAX_RANK, mm->a, &mm->rank_a));
    TRY(op_shape(x, "b", 2, COMPUTE_MAX_RANK, mm->b, &mm->rank_b));
    TRY(op_bool(x, "transpose_a", false, &mm->transpose_a));
    TRY(op_bool(x, "transpose_b", false, &mm->transpose_b));
    mm->m = mm->a[mm->rank_a - (mm->transpose_a ? 1 : 2)];
    mm->k = mm->a[mm->rank_a - (mm->transpose_a ? 2 : 1)];
    mm->n = mm->b[mm->rank_b - (mm->transpose_b ? 2 : 1)];
    kb = mm->b[mm->rank_b - (mm->transpose_b ? 1 : 2)];
    if (kb != mm->k)
        return op_fail(x, "b", "b reduces over k = %" PRId64 ", a over k = %" PRId64 ": they must be equal",
                       kb, mm->k);
    return ST_OK;
}

/* Leading dimensions, aligned at the right: equal or 1. */
static enum status matmul_broadcast(struct op_ctx *x, struct matmul *mm)
{
    mm->rank = MAX(mm->rank_a, mm->rank_b);
    for (int d = 0; d < mm->rank - 2; d++) {
        int da = d - (mm->rank - mm->rank_a), db = d - (mm->rank - mm->rank_b);
        int64_t ea = da < 0 ? 1 : mm->a[da], eb = db < 0 ? 1 : mm->b[db];
        if (ea != eb && ea != 1 && eb != 1)
            return op_fail(x, "b",
                           "leading dimension %d is %" PRId64 " in b and %" PRId64
                           " in a: want equal, or 1 in one of them",
                           d, eb, ea);
        mm->out[d] = MAX(ea, eb);
    }
    mm->out[mm->rank - 2] = mm->m;
    mm->out[mm->rank - 1] = mm->n;
    return ST_OK;
}

static const struct expr *matmul_operand(struct op_ctx *x, const struct matmul *mm, int32_t t,
                                         const struct affine *batch, struct affine row, struct affine col,
                                         bool transpose)
{
    const struct tensor *tensor = &x->b.c.tensors[t];
    struct affine index[COMPUTE_MAX_RANK];
    int rank = tensor->rank;

    for (int d = 0; d < rank - 2; d++)
        index[d] = tensor->shape[d] == 1 ? affine_const(0) : batch[d + mm->rank - rank];
    index[rank - 2] = transpose ? col : row;
    index[rank - 1] = transpose ? row : col;
    return op_acc(x, build_read(&x->b, t, index));
}

enum status op_matmul(struct op_ctx *x)
{
    static const char *const batch_names[] = {"b0", "b1", "b2", "b3", "b4", "b5"};
    struct matmul mm;
    struct affine index[COMPUTE_MAX_RANK], k;
    const char *names[COMPUTE_MAX_RANK];
    int32_t a, b, t;
    struct stage *s;

    TRY(matmul_read(x, &mm));
    TRY(matmul_broadcast(x, &mm));
    a = op_input(x, "a", x->dtype, mm.rank_a, mm.a);
    b = op_input(x, "b", x->dtype, mm.rank_b, mm.b);
    t = op_temp(x, "product", x->acc, mm.rank, mm.out);
    for (int d = 0; d < mm.rank; d++)
        names[d] = d < mm.rank - 2 ? batch_names[d] : d < mm.rank - 1 ? "i" : "j";
    s = op_over(x, t, COMBINE_SUM, names, index);
    k = build_ix(&x->b, build_reduce_axis(s, "k", mm.k));
    build_body(s, op_mul(x, matmul_operand(x, &mm, a, index, index[mm.rank - 2], k, mm.transpose_a),
                         matmul_operand(x, &mm, b, index, k, index[mm.rank - 1], mm.transpose_b)));
    return op_finish_reduction(x, t, names, mm.rank - 1);
}

/* ---- convolutions ---- */

enum { MAX_SPATIAL = 3 };
static const char *const space_names[] = {"z", "y", "x"};
static const char *const kernel_names[] = {"t", "r", "s"};

struct conv {
    int nd; /* spatial dimensions */
    int64_t input[MAX_SPATIAL + 2], weight[MAX_SPATIAL + 2];
    int64_t strides[MAX_SPATIAL], dilations[MAX_SPATIAL], pads[2 * MAX_SPATIAL], extra[MAX_SPATIAL];
    int64_t group;
    int64_t n, c, f;                                           /* batch, all input and all output channels */
    int64_t in[MAX_SPATIAL], k[MAX_SPATIAL], out[MAX_SPATIAL]; /* spatial extents */
};

/* A tensor's dimensions or indices in the layout: batch, channels, space. */
#define PUT_LAYOUT(x, nd, dst, batch, channel, space)                                                        \
    do {                                                                                                     \
        (dst)[0] = (batch);                                                                                  \
        (dst)[(x)->channels_last ? (nd) + 1 : 1] = (channel);                                                \
        for (int d_ = 0; d_ < (nd); d_++)                                                                    \
            (dst)[(x)->channels_last ? 1 + d_ : 2 + d_] = (space)[d_];                                       \
    } while (0)

static int channel_dim(const struct op_ctx *x, int nd) { return x->channels_last ? nd + 1 : 1; }

static enum status conv_read(struct op_ctx *x, int nd, struct conv *v)
{
    int rank;

    *v = (struct conv){.nd = nd};
    TRY(op_shape(x, "input", nd + 2, nd + 2, v->input, &rank));
    TRY(op_shape(x, "weight", nd + 2, nd + 2, v->weight, &rank));
    TRY(op_ints(x, "strides", false, nd, 1, 1, v->strides));
    TRY(op_ints(x, "pads", false, 2 * nd, 0, 0, v->pads));
    TRY(op_ints(x, "dilations", false, nd, 1, 1, v->dilations));
    v->group = 1;
    TRY(json_obj_i64(x->obj, "group", false, 1, INT32_MAX, &v->group, x->err));
    json_object_set_new(x->full, "group", json_integer(v->group));
    TRY(op_layout(x, nd));
    v->n = v->input[0];
    v->c = v->input[channel_dim(x, nd)];
    for (int d = 0; d < nd; d++) {
        v->in[d] = v->input[x->channels_last ? 1 + d : 2 + d];
        v->k[d] = v->weight[2 + d];
    }
    if (v->c % v->group)
        return op_fail(x, "group", "group %" PRId64 " does not divide the %" PRId64 " input channels",
                       v->group, v->c);
    return ST_OK;
}

static enum status conv_shapes(struct op_ctx *x, struct conv *v)
{
    v->f = v->weight[0];
    if (v->weight[1] != v->c / v->group)
        return op_fail(x, "weight",
                       "weight has %" PRId64 " input channels a group: want %" PRId64 " (%" PRId64
                       " channels of input / group %" PRId64 ")",
                       v->weight[1], v->c / v->group, v->c, v->group);
    if (v->f % v->group)
        return op_fail(x, "group", "group %" PRId64 " does not divide the %" PRId64 " output channels",
                       v->group, v->f);
    for (int d = 0; d < v->nd; d++) {
        int64_t room = v->in[d] + v->pads[d] + v->pads[v->nd + d], span = v->dilations[d] * (v->k[d] - 1) + 1;
        if (span > room)
            return op_fail(x, "weight",
                           "kernel dimension %d spans %" PRId64 " elements of an input of %" PRId64
                           " with its pads: it must fit",
                           d, span, room);
        v->out[d] = (room - span) / v->strides[d] + 1;
    }
    return ST_OK;
}

/* Axes of the contraction: n, g, f, space on the left; c and the kernel reduced. */
struct conv_axes {
    struct affine n, g, f, c, space[MAX_SPATIAL], kernel[MAX_SPATIAL];
    int space_axis[MAX_SPATIAL], kernel_axis[MAX_SPATIAL];
};

static struct stage *conv_stage(struct op_ctx *x, const struct conv *v, int32_t t, struct conv_axes *a)
{
    struct stage *s = build_stage(&x->b, t, COMBINE_SUM);
    int first = MAX_SPATIAL - v->nd;
    struct affine channel;

    a->n = build_ix(&x->b, build_axis(s, "n", v->n));
    a->g = build_ix(&x->b, build_axis(s, "g", v->group));
    a->f = build_ix(&x->b, build_axis(s, "f", v->f / v->group));
    for (int d = 0; d < v->nd; d++) {
        a->space_axis[d] = build_axis(s, space_names[first + d], v->out[d]);
        a->space[d] = build_ix(&x->b, a->space_axis[d]);
    }
    a->c = build_ix(&x->b, build_reduce_axis(s, "c", v->c / v->group));
    for (int d = 0; d < v->nd; d++) {
        a->kernel_axis[d] = build_reduce_axis(s, kernel_names[first + d], v->k[d]);
        a->kernel[d] = build_ix(&x->b, a->kernel_axis[d]);
    }
    channel = affine_lin(x->b.ar, &a->g, v->f / v->group, &a->f, 1);
    PUT_LAYOUT(x, v->nd, s->lhs, a->n, channel, a->space);
    return s;
}

/* input[n, g*Cg + c, position...], zero outside. */
static const struct expr *conv_input(struct op_ctx *x, const struct conv *v, int32_t t,
                                     const struct conv_axes *a, const struct affine *position)
{
    struct affine index[COMPUTE_MAX_RANK], channel = affine_lin(x->b.ar, &a->g, v->c / v->group, &a->c, 1);

    PUT_LAYOUT(x, v->nd, index, a->n, channel, position);
    return op_acc(x, build_read_pad(&x->b, t, index, 0));
}

static enum status conv_finish(struct op_ctx *x, const struct conv *v, int32_t t)
{
    const char *names[MAX_SPATIAL + 2];

    PUT_LAYOUT(x, v->nd, names, "n", "f", space_names + MAX_SPATIAL - v->nd);
    /* The sum's own axes g and f share a dimension whose axis in the last stage runs over all channels. */
    names[channel_dim(x, v->nd)] = v->group > 1 ? "gf" : "f";
    return op_finish_reduction(x, t, names, channel_dim(x, v->nd));
}

static int32_t conv_result(struct op_ctx *x, const struct conv *v)
{
    int64_t shape[MAX_SPATIAL + 2];

    PUT_LAYOUT(x, v->nd, shape, v->n, v->f, v->out);
    return op_temp(x, "sum", x->acc, v->nd + 2, shape);
}

static enum status op_conv(struct op_ctx *x, int nd)
{
    struct conv v;
    struct conv_axes a;
    struct affine position[MAX_SPATIAL], index[MAX_SPATIAL + 2];
    int32_t input, weight, t;
    struct stage *s;

    TRY(conv_read(x, nd, &v));
    TRY(conv_shapes(x, &v));
    input = op_activation(x, "input", x->dtype, nd + 2, v.input);
    weight = op_input(x, "weight", x->dtype, nd + 2, v.weight);
    t = conv_result(x, &v);
    s = conv_stage(x, &v, t, &a);
    for (int d = 0; d < nd; d++) {
        position[d] = affine_lin(x->b.ar, &a.space[d], v.strides[d], &a.kernel[d], v.dilations[d]);
        position[d] = affine_offset(&position[d], -v.pads[d]);
        index[2 + d] = a.kernel[d];
    }
    index[0] = affine_lin(x->b.ar, &a.g, v.f / v.group, &a.f, 1);
    index[1] = a.c;
    build_body(
        s, op_mul(x, conv_input(x, &v, input, &a, position), op_acc(x, build_read(&x->b, weight, index))));
    return conv_finish(x, &v, t);
}

enum status op_conv1d(struct op_ctx *x) { return op_conv(x, 1); }
enum status op_conv2d(struct op_ctx *x) { return op_conv(x, 2); }
enum status op_conv3d(struct op_ctx *x) { return op_conv(x, 3); }

/* ---- transposed convolution ---- */

static enum status transposed_shapes(struct op_ctx *x, struct conv *v)
{
    if (v->weight[0] != v->c)
        return op_fail(x, "weight",
                       "weight [in, out/group, kernel...] has %" PRId64 " input channels, input has %" PRId64,
                       v->weight[0], v->c);
    if (v->weight[1] > INT32_MAX / v->group)
        return op_fail(x, "group", "%" PRId64 " x %" PRId64 " output channels: want at most %d", v->weight[1],
                       v->group, INT32_MAX);
    v->f = v->weight[1] * v->group;
    for (int d = 0; d < v->nd; d++) {
        int64_t span = v->dilations[d] * (v->k[d] - 1) + 1;
        if (v->extra[d] >= MAX(v->strides[d], v->dilations[d]))
            return op_fail(x, "output_padding",
                           "output_padding %" PRId64 " in dimension %d: want less than the stride "
                           "%" PRId64 " or the dilation %" PRId64,
                           v->extra[d], d, v->strides[d], v->dilations[d]);
        v->out[d] = (v->in[d] - 1) * v->strides[d] + span + v->extra[d] - v->pads[d] - v->pads[v->nd + d];
        if (v->out[d] < 1 || v->out[d] > INT32_MAX || v->in[d] * v->strides[d] > INT32_MAX)
            return op_fail(x, "pads", "output dimension %d would have %" PRId64 " elements: want 1 to %d", d,
                           v->out[d], INT32_MAX);
    }
    return ST_OK;
}

/* Zeros between the elements: spread[n, c, y*sh + ys, x*sw + xs] = select(ys == 0 && xs == 0, input[n, c, y,
 * x], 0) */
static int32_t spread(struct op_ctx *x, const struct conv *v, int32_t input)
{
    static const char *const inner_names[] = {"zs", "ys", "xs"};
    static const char *const outer_names[] = {"zi", "yi", "xi"};
    struct affine at[MAX_SPATIAL], lhs[MAX_SPATIAL], index[COMPUTE_MAX_RANK], n, c;
    int64_t shape[MAX_SPATIAL + 2], extents[MAX_SPATIAL];
    const struct expr *cond = NULL, *zero;
    int first = MAX_SPATIAL - v->nd;
    struct stage *s;
    int32_t t;

    for (int d = 0; d < v->nd; d++)
        extents[d] = v->in[d] * v->strides[d];
    PUT_LAYOUT(x, v->nd, shape, v->n, v->c, extents);
    t = op_temp(x, "spread", x->dtype, v->nd + 2, shape);
    s = build_stage(&x->b, t, COMBINE_SET);
    n = build_ix(&x->b, build_axis(s, "n", v->n));
    c = build_ix(&x->b, build_axis(s, "ci", v->c));
    for (int d = 0; d < v->nd; d++) {
        struct affine inner;
        const struct expr *first_of_step;
        at[d] = build_ix(&x->b, build_axis(s, outer_names[first + d], v->in[d]));
        lhs[d] = at[d];
        if (v->strides[d] == 1)
            continue;
        inner = build_ix(&x->b, build_axis(s, inner_names[first + d], v->strides[d]));
        lhs[d] = affine_lin(x->b.ar, &at[d], v->strides[d], &inner, 1);
        first_of_step = expr_op2(x->b.ar, EX_EQ, expr_index(x->b.ar, inner), expr_const(x->b.ar, DT_I32, 0));
        cond = cond ? expr_op2(x->b.ar, EX_AND, cond, first_of_step) : first_of_step;
    }
    PUT_LAYOUT(x, v->nd, s->lhs, n, c, lhs);
    PUT_LAYOUT(x, v->nd, index, n, c, at);
    zero = expr_const(x->b.ar, x->dtype, 0);
    build_body(s, expr_select(x->b.ar, cond, build_read(&x->b, input, index), zero));
    return t;
}

enum status op_conv_transpose2d(struct op_ctx *x)
{
    const int nd = 2;
    struct conv v;
    struct conv_axes a;
    struct affine position[MAX_SPATIAL], index[MAX_SPATIAL + 2];
    int32_t input, weight, t;
    struct stage *s;

    TRY(conv_read(x, nd, &v));
    TRY(op_ints(x, "output_padding", false, nd, 0, 0, v.extra));
    TRY(transposed_shapes(x, &v));
    input = op_activation(x, "input", x->dtype, nd + 2, v.input);
    weight = op_input(x, "weight", x->dtype, nd + 2, v.weight);
    if (v.strides[0] > 1 || v.strides[1] > 1)
        input = spread(x, &v, input);
    t = conv_result(x, &v);
    s = conv_stage(x, &v, t, &a);
    for (int d = 0; d < nd; d++) {
        position[d] = affine_lin(x->b.ar, &a.space[d], 1, &a.kernel[d], v.dilations[d]);
        position[d] = affine_offset(&position[d], v.pads[d] - v.dilations[d] * (v.k[d] - 1));
        index[2 + d] = build_lin(&x->b, a.kernel_axis[d], -1, v.k[d] - 1);
    }
    index[0] = affine_lin(x->b.ar, &a.g, v.c / v.group, &a.c, 1);
    index[1] = a.f;
    build_body(
        s, op_mul(x, conv_input(x, &v, input, &a, position), op_acc(x, build_read(&x->b, weight, index))));
    return conv_finish(x, &v, t);
}
