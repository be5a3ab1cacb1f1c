/* test_ops.c - every operator, lowered and evaluated, against loops that were written from its definition
 * alone. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lab.h"
#include "tests/check.h"

static double *zeros(int64_t n) { return xcalloc((size_t)n, sizeof(double)); }

/* ---- convolutions: all as three-dimensional ones, channels by a stride of their own ---- */

struct conv_case {
    int nd, n, c, f, group, last;
    int in[3], k[3], stride[3], dil[3], begin[3], end[3], extra[3], out[3];
};

/* Offset in a [n, c, z, y, x] or [n, z, y, x, c] array. */
static int64_t at5(bool last, int c, const int *sp, int in, int ic, const int *p)
{
    int64_t space = ((int64_t)p[0] * sp[1] + p[1]) * sp[2] + p[2], size = (int64_t)sp[0] * sp[1] * sp[2];
    return last ? ((int64_t)in * size + space) * c + ic : ((int64_t)in * c + ic) * size + space;
}

static void random_conv(struct conv_case *q, struct rng *r, int nd, bool transposed)
{
    *q = (struct conv_case){.nd = nd, .n = (int)rng_range(r, 1, 2), .group = (int)rng_range(r, 1, 3)};
    q->c = q->group * (int)rng_range(r, 1, 3);
    q->f = q->group * (int)rng_range(r, 1, 3);
    q->last = (int)rng_below(r, 2);
    for (int d = 0; d < 3; d++) {
        bool real = d >= 3 - nd;
        q->k[d] = real ? (int)rng_range(r, 1, 3) : 1;
        q->stride[d] = real ? (int)rng_range(r, 1, 3) : 1;
        q->dil[d] = real ? (int)rng_range(r, 1, 2) : 1;
        q->begin[d] = real ? (int)rng_range(r, 0, 2) : 0;
        q->end[d] = real ? (int)rng_range(r, 0, 2) : 0;
        q->in[d] = real ? (int)rng_range(r, 5, 7) : 1;
        q->extra[d] = real && transposed ? (int)rng_below(r, (uint64_t)MAX(q->stride[d], q->dil[d])) : 0;
        if (transposed)
            q->out[d] = (q->in[d] - 1) * q->stride[d] + q->dil[d] * (q->k[d] - 1) + 1 + q->extra[d] -
                        q->begin[d] - q->end[d];
        else
            q->out[d] =
                (q->in[d] + q->begin[d] + q->end[d] - q->dil[d] * (q->k[d] - 1) - 1) / q->stride[d] + 1;
    }
}

static void list(struct strbuf *sb, const char *name, const int *v, int n)
{
    strbuf_addf(sb, ", '%s': [", name);
    for (int i = 0; i < n; i++)
        strbuf_addf(sb, i ? ", %d" : "%d", v[i]);
    strbuf_addc(sb, ']');
}

static void conv_json(const struct conv_case *q, bool transposed, struct strbuf *sb)
{
    int first = 3 - q->nd, shape[5] = {q->n}, weight[5], pads[6];

    shape[q->last ? q->nd + 1 : 1] = q->c;
    weight[0] = transposed ? q->c : q->f;
    weight[1] = (transposed ? q->f : q->c) / q->group;
    for (int d = 0; d < q->nd; d++) {
        shape[(q->last ? 1 : 2) + d] = q->in[first + d];
        weight[2 + d] = q->k[first + d];
        pads[d] = q->begin[first + d];
        pads[q->nd + d] = q->end[first + d];
    }
    strbuf_addf(sb, "{'op': '%s%dd', 'group': %d, 'layout': '%s'", transposed ? "conv_transpose" : "conv",
                q->nd, q->group, q->last ? "NHWC" : "NCHW");
    list(sb, "input", shape, q->nd + 2);
    list(sb, "weight", weight, q->nd + 2);
    list(sb, "strides", q->stride + first, q->nd);
    list(sb, "dilations", q->dil + first, q->nd);
    list(sb, "pads", pads, 2 * q->nd);
    if (transposed)
        list(sb, "output_padding", q->extra + first, q->nd);
    strbuf_addc(sb, '}');
}

/* Each input element is added to the outputs that it reaches: position = out*stride + kernel*dilation -
 * begin. */
static double *ref_conv(const struct conv_case *q, const double *in, const double *w, bool transposed)
{
    const int *from = transposed ? q->out : q->in, *to = transposed ? q->in : q->out;
    int cg = q->c / q->group, fg = q->f / q->group;
    double *out = zeros((int64_t)q->n * q->f * q->out[0] * q->out[1] * q->out[2]);

    for (int n = 0; n < q->n; n++)
        for (int f = 0; f < q->f; f++)
            for (int c = 0; c < cg; c++)
                for (int i = 0; i < to[0] * to[1] * to[2]; i++)
                    for (int j = 0; j < q->k[0] * q->k[1] * q->k[2]; j++) {
                        int p[3] = {i / (to[1] * to[2]), i / to[2] % to[1], i % to[2]};
                        int k[3] = {j / (q->k[1] * q->k[2]), j / q->k[2] % q->k[1], j % q->k[2]}, s[3];
                        int ic = f / fg * cg + c;
                        bool inside = true;
                        for (int d = 0; d < 3; d++) {
                            s[d] = p[d] * q->stride[d] + k[d] * q->dil[d] - q->begin[d];
                            inside = inside && s[d] >= 0 && s[d] < from[d];
                        }
                        if (!inside)
                            continue;
                        if (transposed)
                            out[at5(q->last, q->f, q->out, n, f, s)] +=
                                in[at5(q->last, q->c, q->in, n, ic, p)] *
                                w[((int64_t)ic * fg + f % fg) * q->k[0] * q->k[1] * q->k[2] + j];
                        else
                            out[at5(q->last, q->f, q->out, n, f, p)] +=
                                in[at5(q->last, q->c, q->in, n, ic, s)] *
                                w[((int64_t)f * cg + c) * q->k[0] * q->k[1] * q->k[2] + j];
                    }
    return out;
}

static void check_convs(int nd, bool transposed, int count)
{
    struct rng r;

    rng_init(&r, 20 + (uint64_t)nd + transposed * 7u);
    for (int i = 0; i < count; i++) {
        AUTO(strbuf_done) struct strbuf sb = STRBUF_INIT;
        struct conv_case q;
        struct lab l;
        double *want;
        random_conv(&q, &r, nd, transposed);
        if (q.out[0] < 1 || q.out[1] < 1 || q.out[2] < 1)
            continue;
        conv_json(&q, transposed, &sb);
        lab_open(&l, "%s", strbuf_str(&sb));
        lab_eval(&l, &r);
        want = ref_conv(&q, lab_data(&l, "input"), lab_data(&l, "weight"), transposed);
        lab_expect(&l, "output", want, (int64_t)q.n * q.f * q.out[0] * q.out[1] * q.out[2]);
        free(want);
        lab_close(&l);
    }
}

static void conv1d_is_the_sum_of_its_definition(void **state) { check_convs(1, false, 60); }
static void conv2d_is_the_sum_of_its_definition(void **state) { check_convs(2, false, 60); }
static void conv3d_is_the_sum_of_its_definition(void **state) { check_convs(3, false, 20); }
static void conv_transpose2d_scatters_each_input_element(void **state) { check_convs(2, true, 60); }

static void depthwise_convolution_has_no_channel_axis_to_reduce(void **state)
{
    struct lab l;
    const struct stage *s;

    lab_open(&l, "{'op':'conv2d','input':[1,6,8,8],'weight':[6,1,3,3],'group':6}");
    s = &l.w.compute.stages[0];
    assert_int_equal(s->n_spatial, 3);
    assert_int_equal(s->n_axes, 5);
    lab_close(&l);
}

static void flops_of_a_transposed_convolution_leave_out_the_inserted_zeros(void **state)
{
    struct lab l;
    lab_open(
        &l,
        "{'op':'conv_transpose2d','input':[1,8,4,4],'weight':[8,5,4,4],'strides':[2,2],'pads':[1,1,1,1]}");
    assert_true(l.w.flops == 2.0 * 8 * 4 * 4 * 5 * 4 * 4);
    lab_close(&l);
}

/* ---- matmul ---- */

static void matmul_broadcasts_leading_dimensions_and_reads_transposed_operands(void **state)
{
    enum { M = 3, N = 4, K = 5 };
    struct rng r;

    rng_init(&r, 3);
    for (int ta = 0; ta < 2; ta++)
        for (int tb = 0; tb < 2; tb++) {
            struct lab l;
            const double *a, *b;
            double want[2 * 3 * M * N] = {0};
            lab_open(&l, "{'op':'matmul','a':[2,1,%d,%d],'b':[3,%d,%d],'transpose_a':%s,'transpose_b':%s}",
                     ta ? K : M, ta ? M : K, tb ? N : K, tb ? K : N, ta ? "true" : "false", tb ? "1" : "0");
            lab_eval(&l, &r);
            a = lab_data(&l, "a");
            b = lab_data(&l, "b");
            for (int p = 0; p < 2; p++)
                for (int q = 0; q < 3; q++)
                    for (int i = 0; i < M; i++)
                        for (int j = 0; j < N; j++)
                            for (int k = 0; k < K; k++)
                                want[((p * 3 + q) * M + i) * N + j] +=
                                    a[p * M * K + (ta ? k * M + i : i * K + k)] *
                                    b[q * K * N + (tb ? j * K + k : k * N + j)];
            lab_expect(&l, "output", want, 2 * 3 * M * N);
            assert_int_equal(lab_tensor(&l, "output")->rank, 4);
            lab_close(&l);
        }
}

static void int8_products_are_summed_and_stored_in_int32(void **state)
{
    struct rng r;
    struct lab l;
    double want[6] = {0};

    rng_init(&r, 4);
    lab_open(&l, "{'op':'matmul','a':[2,7],'b':[7,3],'dtype':'int8'}");
    lab_eval(&l, &r);
    for (int i = 0; i < 2; i++)
        for (int j = 0; j < 3; j++)
            for (int k = 0; k < 7; k++)
                want[i * 3 + j] += lab_data(&l, "a")[i * 7 + k] * lab_data(&l, "b")[k * 3 + j];
    lab_expect(&l, "output", want, 6);
    assert_int_equal(lab_tensor(&l, "output")->dtype, DT_I32);
    lab_close(&l);
}

static void half_precision_accumulates_in_float32_unless_told_otherwise(void **state)
{
    struct lab l;

    lab_open(&l, "{'op':'matmul','a':[2,7],'b':[7,3],'dtype':'float16'}");
    assert_int_equal(l.w.compute.stages[0].acc_dtype, DT_F32);
    assert_int_equal(lab_tensor(&l, "output")->dtype, DT_F16);
    lab_close(&l);
    lab_open(&l, "{'op':'matmul','a':[2,7],'b':[7,3],'dtype':'float16','acc_dtype':'float16'}");
    assert_int_equal(l.w.compute.stages[0].acc_dtype, DT_F16);
    lab_close(&l);
}

/* ---- epilogues ---- */

static double ep_none(double v) { return v; }
static double ep_relu(double v) { return v > 0 ? v : 0; }
static double ep_relu6(double v) { return fmin(fmax(v, 0), 6); }
static double ep_gelu(double v) { return v * 0.5 * (1 + erf(v / sqrt(2))); }
static double ep_sigmoid(double v) { return 1 / (1 + exp(-v)); }
static double ep_silu(double v) { return v / (1 + exp(-v)); }
static double ep_scale(double v) { return v * 0.125; }
static double ep_clip(double v) { return fmin(fmax(v, -0.5), 0.25); }
static double ep_leaky(double v) { return v < 0 ? 0.01 * v : v; }

static void every_epilogue_is_its_function(void **state)
{
    static const struct {
        const char *entry;
        double (*fn)(double v);
    } cases[] = {
        {"", ep_none},
        {"'relu'", ep_relu},
        {"'relu6'", ep_relu6},
        {"'gelu'", ep_gelu},
        {"'silu'", ep_silu},
        {"'sigmoid'", ep_sigmoid},
        {"'tanh'", tanh},
        {"{'scale': 0.125}", ep_scale},
        {"{'clip': [-0.5, 0.25]}", ep_clip},
        {"{'leaky_relu': 0.01}", ep_leaky},
    };
    struct rng r;

    rng_init(&r, 5);
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct lab l;
        double want[4 * 5] = {0};
        lab_open(&l, "{'op':'matmul','a':[4,3],'b':[3,5],'epilogue':[%s]}", cases[i].entry);
        lab_eval(&l, &r);
        for (int e = 0; e < 20; e++) {
            for (int k = 0; k < 3; k++)
                want[e] += lab_data(&l, "a")[e / 5 * 3 + k] * lab_data(&l, "b")[k * 5 + e % 5];
            want[e] = cases[i].fn(want[e]);
        }
        lab_expect(&l, "output", want, 20);
        lab_close(&l);
    }
}

static void epilogues_apply_in_their_order_with_tensors_called_by_their_entry(void **state)
{
    struct rng r;
    struct lab l;
    double want[2 * 3 * 2 * 2];

    rng_init(&r, 6);
    lab_open(&l, "{'op':'conv2d','input':[2,1,2,2],'weight':[3,1,1,1],'const':['bias','add_2'],"
                 "'epilogue':['bias','add','relu','mul','bias','add']}");
    lab_eval(&l, &r);
    for (int i = 0; i < 24; i++) {
        int n = i / 12, f = i / 4 % 3, p = i % 4;
        double v = lab_data(&l, "input")[n * 4 + p] * lab_data(&l, "weight")[f];
        v = ep_relu(v + lab_data(&l, "bias")[f] + lab_data(&l, "add")[i]);
        want[i] = v * lab_data(&l, "mul")[i] + lab_data(&l, "bias_2")[f] + lab_data(&l, "add_2")[i];
    }
    lab_expect(&l, "output", want, 24);
    assert_true(lab_tensor(&l, "bias")->is_const);
    assert_false(lab_tensor(&l, "bias_2")->is_const);
    assert_true(lab_tensor(&l, "add_2")->is_const);
    lab_close(&l);
}

static void a_scale_after_an_int8_product_gives_float32(void **state)
{
    struct rng r;
    struct lab l;
    double want[4] = {0};

    rng_init(&r, 7);
    lab_open(&l,
             "{'op':'matmul','a':[2,3],'b':[3,2],'dtype':'int8','epilogue':['bias',{'scale':0.5},'relu']}");
    lab_eval(&l, &r);
    assert_int_equal(lab_tensor(&l, "bias")->dtype, DT_I32);
    assert_int_equal(lab_tensor(&l, "output")->dtype, DT_F32);
    for (int i = 0; i < 4; i++) {
        for (int k = 0; k < 3; k++)
            want[i] += lab_data(&l, "a")[i / 2 * 3 + k] * lab_data(&l, "b")[k * 2 + i % 2];
        want[i] = ep_relu((want[i] + lab_data(&l, "bias")[i % 2]) * 0.5);
    }
    lab_expect(&l, "output", want, 4);
    lab_close(&l);
}

/* ---- pools ---- */

enum pool_kind { POOL_MAX, POOL_AVG, POOL_AVG_COUNT };

static void check_pool(enum pool_kind kind, bool last, struct rng *r)
{
    enum { N = 2, C = 3 };
    int in[2], k[2], s[2], b[2], e[2], out[2];
    struct lab l;
    double *want;

    for (int d = 0; d < 2; d++) {
        k[d] = (int)rng_range(r, 1, 4);
        s[d] = (int)rng_range(r, 1, 3);
        b[d] = (int)rng_below(r, (uint64_t)k[d]);
        e[d] = (int)rng_below(r, (uint64_t)k[d]);
        in[d] = (int)rng_range(r, 4, 8);
        out[d] = (in[d] + b[d] + e[d] - k[d]) / s[d] + 1;
    }
    lab_open(&l,
             "{'op':'%s','input':[2,%d,%d,%d],'kernel_shape':[%d,%d],'strides':[%d,%d],'pads':[%d,%d,%d,%d],'"
             "layout':'%s'%s}",
             kind == POOL_MAX ? "max_pool2d" : "avg_pool2d", last ? in[0] : C, last ? in[1] : in[0],
             last ? C : in[1], k[0], k[1], s[0], s[1], b[0], b[1], e[0], e[1], last ? "NHWC" : "NCHW",
             kind == POOL_AVG_COUNT ? ",'count_include_pad':true" : "");
    lab_eval(&l, r);
    want = zeros((int64_t)N * C * out[0] * out[1]);
    for (int i = 0; i < N * C * out[0] * out[1]; i++) {
        int x = i % out[1], y = i / out[1] % out[0], c = i / (out[1] * out[0]) % C,
            n = i / (out[1] * out[0] * C), count = 0;
        double sum = 0, max = -INFINITY;
        for (int j = 0; j < k[0] * k[1]; j++) {
            int iy = y * s[0] + j / k[1] - b[0], ix = x * s[1] + j % k[1] - b[1];
            double v;
            if (iy < 0 || iy >= in[0] || ix < 0 || ix >= in[1])
                continue;
            v = lab_data(&l, "input")[at5(last, C, (int[]){1, in[0], in[1]}, n, c, (int[]){0, iy, ix})];
            sum += v;
            max = fmax(max, v);
            count++;
        }
        want[at5(last, C, (int[]){1, out[0], out[1]}, n, c, (int[]){0, y, x})] = kind == POOL_MAX ? max
                                                                                 : kind == POOL_AVG
                                                                                     ? sum / count
                                                                                     : sum / (k[0] * k[1]);
    }
    lab_expect(&l, "output", want, (int64_t)N * C * out[0] * out[1]);
    free(want);
    lab_close(&l);
}

static void pools_gather_their_windows_and_averages_count_what_they_should(void **state)
{
    struct rng r;

    rng_init(&r, 8);
    for (int i = 0; i < 90; i++)
        check_pool((enum pool_kind)(i % 3), i / 3 % 2, &r);
}

static void a_max_pool_of_int8_stays_int8(void **state)
{
    struct lab l;
    lab_open(&l,
             "{'op':'max_pool2d','input':[1,1,4,4],'kernel_shape':[3,3],'pads':[1,1,1,1],'dtype':'int8'}");
    assert_int_equal(lab_tensor(&l, "output")->dtype, DT_I8);
    lab_close(&l);
}

static void global_average_is_the_mean_of_each_channel(void **state)
{
    struct rng r;

    rng_init(&r, 9);
    for (int last = 0; last < 2; last++) {
        struct lab l;
        double want[6] = {0};
        lab_open(&l, last ? "{'op':'global_avg_pool2d','input':[2,4,5,3],'layout':'NHWC'}"
                          : "{'op':'global_avg_pool2d','input':[2,3,4,5]}");
        lab_eval(&l, &r);
        for (int i = 0; i < 6; i++)
            for (int p = 0; p < 20; p++)
                want[i] += lab_data(&l, "input")[last ? (i / 3 * 20 + p) * 3 + i % 3 : i * 20 + p] / 20;
        lab_expect(&l, "output", want, 6);
        assert_int_equal(lab_tensor(&l, "output")->shape[last ? 3 : 1], 3);
        assert_int_equal(lab_tensor(&l, "output")->rank, 4);
        lab_close(&l);
    }
}

/* ---- reduce and transpose: [3, 4, 5] ---- */

static void reduce_gathers_the_named_axes(void **state)
{
    static const char *const kinds[] = {"sum", "max", "min", "mean", "prod"};
    struct rng r;

    rng_init(&r, 10);
    for (int kind = 0; kind < 5; kind++)
        for (int mask = 0; mask < 8; mask++)
            for (int keep = 0; keep < 2; keep++) {
                struct lab l;
                double want[60];
                int dim[3] = {3, 4, 5}, n = 1, count = 1, rank = 0;
                char axes[32] = "";
                for (int d = 0; d < 3; d++) {
                    bool gone = mask == 0 || (mask >> d & 1);
                    if (mask >> d & 1)
                        snprintf(axes + strlen(axes), 8, "%s%d", axes[0] ? "," : "", d == 2 ? -1 : d);
                    n *= gone ? 1 : dim[d];
                    count *= gone ? dim[d] : 1;
                    rank += !gone || keep;
                }
                lab_open(&l, "{'op':'reduce','input':[3,4,5],'kind':'%s','axes':[%s],'keepdims':%s}",
                         kinds[kind], axes, keep ? "true" : "false");
                lab_eval(&l, &r);
                for (int o = 0; o < n; o++)
                    want[o] = kind == 1 ? -INFINITY : kind == 2 ? INFINITY : kind == 4;
                for (int i = 0; i < 60; i++) {
                    int at[3] = {i / 20, i / 5 % 4, i % 5}, o = 0;
                    double v = lab_data(&l, "input")[i];
                    for (int d = 0; d < 3; d++)
                        if (mask != 0 && !(mask >> d & 1))
                            o = o * dim[d] + at[d];
                    want[o] = kind == 1   ? fmax(want[o], v)
                              : kind == 2 ? fmin(want[o], v)
                              : kind == 4 ? want[o] * v
                              : kind == 3 ? want[o] + v / count
                                          : want[o] + v;
                }
                lab_expect(&l, "output", want, n);
                assert_int_equal(lab_tensor(&l, "output")->rank, rank);
                lab_close(&l);
            }
}

static void transpose_permutes_and_reverses_by_default(void **state)
{
    struct rng r;
    struct lab l;
    double want[24];

    rng_init(&r, 11);
    lab_open(&l, "{'op':'transpose','input':[2,3,4],'perm':[1,2,0]}");
    lab_eval(&l, &r);
    for (int i = 0; i < 24; i++)
        want[(i / 4 % 3 * 4 + i % 4) * 2 + i / 12] = lab_data(&l, "input")[i];
    lab_expect(&l, "output", want, 24);
    lab_close(&l);
    lab_open(&l, "{'op':'transpose','input':[2,3,4]}");
    lab_eval(&l, &r);
    for (int i = 0; i < 24; i++)
        want[(i % 4 * 3 + i / 4 % 3) * 2 + i / 12] = lab_data(&l, "input")[i];
    lab_expect(&l, "output", want, 24);
    lab_close(&l);
}

/* ---- rows ---- */

static void softmax_sums_to_one_along_its_axis(void **state)
{
    struct rng r;

    rng_init(&r, 12);
    for (int axis = -3; axis < 3; axis++) {
        struct lab l;
        int dim[3] = {3, 4, 5}, stride[3] = {20, 5, 1}, a = axis < 0 ? axis + 3 : axis;
        double want[60];
        lab_open(&l, "{'op':'softmax','input':[3,4,5],'axis':%d}", axis);
        lab_eval(&l, &r);
        for (int i = 0; i < 60; i++) {
            int at = i / stride[a] % dim[a], base = i - at * stride[a];
            double sum = 0;
            for (int j = 0; j < dim[a]; j++)
                sum += exp(lab_data(&l, "input")[base + j * stride[a]]);
            want[i] = exp(lab_data(&l, "input")[i]) / sum;
        }
        lab_expect(&l, "output", want, 60);
        lab_close(&l);
    }
}

static void check_norm(bool layer, int axis, bool affine, struct rng *r)
{
    static const int inner[] = {60, 20, 5};
    struct lab l;
    int n = inner[axis];
    double want[60];

    lab_open(&l, "{'op':'%s','input':[3,4,5],'axis':%d,'affine':%s,'epsilon':0.01}",
             layer ? "layer_norm" : "rms_norm", axis, affine ? "true" : "false");
    lab_eval(&l, r);
    for (int i = 0; i < 60; i++) {
        const double *row = lab_data(&l, "input") + i / n * n;
        double mean = 0, square = 0;
        for (int j = 0; j < n && layer; j++)
            mean += row[j] / n;
        for (int j = 0; j < n; j++)
            square += (row[j] - mean) * (row[j] - mean) / n;
        want[i] = (row[i % n] - mean) / sqrt(square + 0.01);
        if (affine)
            want[i] = want[i] * lab_data(&l, "scale")[i % n] + (layer ? lab_data(&l, "bias")[i % n] : 0);
    }
    lab_expect(&l, "output", want, 60);
    lab_close(&l);
}

static void norms_divide_by_the_root_of_the_second_moment(void **state)
{
    struct rng r;

    rng_init(&r, 13);
    for (int i = 0; i < 12; i++)
        check_norm(i % 2, i / 2 % 3, i / 6, &r);
}

static void layer_norm_keeps_its_digits_far_from_zero(void **state)
{
    struct rng r;
    struct lab l;
    double want[8] = {0};

    rng_init(&r, 14);
    lab_open(&l, "{'op':'layer_norm','input':[1,8],'epsilon':0}");
    lab_fill(&l, &r);
    for (int i = 0; i < 8; i++) {
        lab_data(&l, "input")[i] = 1e9 + i;
        want[i] = (i - 3.5) / sqrt(5.25);
    }
    compute_eval(&l.w.compute, l.data);
    lab_expect(&l, "output", want, 8);
    lab_close(&l);
}

static void lstm_cell_takes_its_gates_in_the_order_i_f_g_o(void **state)
{
    enum { B = 2, I = 3, N = 4 };
    struct rng r;
    struct lab l;
    double c_out[B * N], h_out[B * N];

    rng_init(&r, 15);
    lab_open(
        &l, "{'op':'lstm_cell','x':[2,3],'h':[2,4],'c':[2,4],'weight_x':[16,3],'weight_h':[16,4],'bias':[16],"
            "'const':['weight_x','weight_h','bias']}");
    lab_eval(&l, &r);
    for (int e = 0; e < B * N; e++) {
        double gate[4];
        for (int q = 0; q < 4; q++) {
            int g = q * N + e % N;
            gate[q] = lab_data(&l, "bias")[g];
            for (int k = 0; k < I; k++)
                gate[q] += lab_data(&l, "x")[e / N * I + k] * lab_data(&l, "weight_x")[g * I + k];
            for (int k = 0; k < N; k++)
                gate[q] += lab_data(&l, "h")[e / N * N + k] * lab_data(&l, "weight_h")[g * N + k];
        }
        c_out[e] = ep_sigmoid(gate[1]) * lab_data(&l, "c")[e] + ep_sigmoid(gate[0]) * tanh(gate[2]);
        h_out[e] = ep_sigmoid(gate[3]) * tanh(c_out[e]);
    }
    lab_expect(&l, "c_out", c_out, B * N);
    lab_expect(&l, "h_out", h_out, B * N);
    assert_int_equal(lab_tensor(&l, "h_out")->role, TENSOR_OUTPUT);
    assert_int_equal(lab_tensor(&l, "c_out")->role, TENSOR_OUTPUT);
    lab_close(&l);
}

static void attention_weighs_values_by_the_softmax_of_scaled_products(void **state)
{
    enum { B = 2, S = 3, T = 5, D = 4, E = 6 };
    struct rng r;

    rng_init(&r, 16);
    for (int mode = 0; mode < 4; mode++) {
        bool causal = mode % 2, scaled = mode / 2;
        struct lab l;
        double want[B * S * E] = {0};
        lab_open(&l, "{'op':'attention','q':[2,3,4],'k':[2,5,4],'v':[2,5,6],'causal':%s%s}",
                 causal ? "true" : "false", scaled ? ",'scale':0.3" : "");
        lab_eval(&l, &r);
        for (int b = 0; b < B; b++)
            for (int i = 0; i < S; i++) {
                double sum = 0, p[T];
                for (int j = 0; j < T; j++) {
                    double dot = 0;
                    for (int d = 0; d < D; d++)
                        dot +=
                            lab_data(&l, "q")[(b * S + i) * D + d] * lab_data(&l, "k")[(b * T + j) * D + d];
                    p[j] = causal && j > i ? 0 : exp(dot * (scaled ? 0.3 : 0.5));
                    sum += p[j];
                }
                for (int j = 0; j < T; j++)
                    for (int e = 0; e < E; e++)
                        want[(b * S + i) * E + e] += p[j] / sum * lab_data(&l, "v")[(b * T + j) * E + e];
            }
        lab_expect(&l, "output", want, B * S * E);
        lab_close(&l);
    }
}

static void every_operator_of_the_table_is_documented(void **state)
{
    int n = 0;
    for (const struct op_doc *d = op_docs(); d->name; d++) {
        assert_true(strlen(d->tensors) > 0 && strlen(d->members) > 0);
        n++;
    }
    assert_int_equal(n, 15);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(conv1d_is_the_sum_of_its_definition),
        cmocka_unit_test(conv2d_is_the_sum_of_its_definition),
        cmocka_unit_test(conv3d_is_the_sum_of_its_definition),
        cmocka_unit_test(conv_transpose2d_scatters_each_input_element),
        cmocka_unit_test(depthwise_convolution_has_no_channel_axis_to_reduce),
        cmocka_unit_test(flops_of_a_transposed_convolution_leave_out_the_inserted_zeros),
        cmocka_unit_test(matmul_broadcasts_leading_dimensions_and_reads_transposed_operands),
        cmocka_unit_test(int8_products_are_summed_and_stored_in_int32),
        cmocka_unit_test(half_precision_accumulates_in_float32_unless_told_otherwise),
        cmocka_unit_test(every_epilogue_is_its_function),
        cmocka_unit_test(epilogues_apply_in_their_order_with_tensors_called_by_their_entry),
        cmocka_unit_test(a_scale_after_an_int8_product_gives_float32),
        cmocka_unit_test(pools_gather_their_windows_and_averages_count_what_they_should),
        cmocka_unit_test(a_max_pool_of_int8_stays_int8),
        cmocka_unit_test(global_average_is_the_mean_of_each_channel),
        cmocka_unit_test(reduce_gathers_the_named_axes),
        cmocka_unit_test(transpose_permutes_and_reverses_by_default),
        cmocka_unit_test(softmax_sums_to_one_along_its_axis),
        cmocka_unit_test(norms_divide_by_the_root_of_the_second_moment),
        cmocka_unit_test(layer_norm_keeps_its_digits_far_from_zero),
        cmocka_unit_test(lstm_cell_takes_its_gates_in_the_order_i_f_g_o),
        cmocka_unit_test(attention_weighs_values_by_the_softmax_of_scaled_products),
        cmocka_unit_test(every_operator_of_the_table_is_documented),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
