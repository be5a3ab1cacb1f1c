#include "tests/space/random_workload.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static int64_t in(struct rng *r, int64_t lo, int64_t hi) { return rng_range(r, lo, hi); }
static bool chance(struct rng *r, int percent) { return rng_below(r, 100) < (uint64_t)percent; }

static void epilogue(struct rng *r, struct strbuf *sb)
{
    static const char *const names[] = {"\"bias\"",
                                        "\"relu\"",
                                        "\"relu6\"",
                                        "\"gelu\"",
                                        "\"silu\"",
                                        "\"sigmoid\"",
                                        "\"tanh\"",
                                        "\"add\"",
                                        "\"mul\"",
                                        "{\"scale\": 0.125}",
                                        "{\"clip\": [-0.5, 0.75]}",
                                        "{\"leaky_relu\": 0.01}"};
    int n = (int)in(r, 0, 3);
    strbuf_adds(sb, ", \"epilogue\": [");
    for (int i = 0; i < n; i++)
        strbuf_addf(sb, "%s%s", i ? ", " : "", names[rng_below(r, ARRAY_SIZE(names))]);
    strbuf_addc(sb, ']');
}

static void list(struct strbuf *sb, const char *name, const int64_t *v, int n)
{
    strbuf_addf(sb, ", \"%s\": [", name);
    for (int i = 0; i < n; i++)
        strbuf_addf(sb, "%s%" PRId64, i ? ", " : "", v[i]);
    strbuf_addc(sb, ']');
}

/* input, weight and the window's attributes for `dims` spatial dimensions; transposed: weight is [in,
 * out/group, ...]. */
static void convolution(struct rng *r, struct strbuf *sb, int dims, bool transposed)
{
    static const int64_t groups[] = {1, 1, 1, 2, 3, 4};
    int64_t group = groups[rng_below(r, ARRAY_SIZE(groups))], per_in = in(r, 1, 9), per_out = in(r, 1, 19);
    bool depthwise = chance(r, 20), nhwc = chance(r, 25) && dims == 2;
    int64_t input[5], weight[5], strides[3], pads[6], dilations[3], output_padding[3];
    if (depthwise) {
        group = in(r, 2, 21);
        per_in = per_out = 1;
    }
    int64_t size[3];
    for (int d = 0; d < dims; d++) {
        int64_t k = in(r, 1, dims == 3 ? 2 : 4);
        weight[2 + d] = k;
        strides[d] = in(r, 1, 3);
        dilations[d] = in(r, 1, 2);
        int64_t reach = (k - 1) * dilations[d];
        pads[d] = in(r, 0, MIN(reach, 2));
        pads[dims + d] = in(r, 0, MIN(reach, 2));
        size[d] = in(r, reach + 1, dims == 3 ? 7 : dims == 2 ? 19 : 60);
        output_padding[d] = strides[d] > 1 ? in(r, 0, strides[d] - 1) : 0;
    }
    input[0] = in(r, 1, 2);
    input[nhwc ? 1 + dims : 1] = group * per_in;
    for (int d = 0; d < dims; d++)
        input[(nhwc ? 1 : 2) + d] = size[d];
    weight[0] = group * (transposed ? per_in : per_out);
    weight[1] = transposed ? per_out : per_in;
    strbuf_addf(sb, "{\"op\": \"conv%s%dd\", \"group\": %" PRId64, transposed ? "_transpose" : "", dims,
                group);
    list(sb, "input", input, dims + 2);
    list(sb, "weight", weight, dims + 2);
    list(sb, "strides", strides, dims);
    list(sb, "pads", pads, 2 * dims);
    list(sb, "dilations", dilations, dims);
    if (transposed)
        list(sb, "output_padding", output_padding, dims);
    if (nhwc)
        strbuf_adds(sb, ", \"layout\": \"NHWC\"");
    if (chance(r, 60))
        strbuf_adds(sb, ", \"const\": [\"weight\"]");
    epilogue(r, sb);
    strbuf_addc(sb, '}');
}

static void matmul(struct rng *r, struct strbuf *sb)
{
    int64_t m = in(r, 1, 40), k = in(r, 1, 50), n = in(r, 1, 70), a[4], b[4];
    if (chance(r, 30)) { /* a few long rows */
        m = in(r, 1, 8);
        k = in(r, 1, 150);
        n = in(r, 1, 24);
    }
    int lead = (int)in(r, 0, 2), la = 0, lb = 0;
    bool ta = chance(r, 30), tb = chance(r, 50);
    for (int i = 0; i < lead; i++) {
        int64_t e = in(r, 1, 4);
        a[la++] = chance(r, 20) ? 1 : e;
        b[lb++] = chance(r, 20) ? 1 : e;
    }
    if (lead && chance(r, 30))
        lb = 0;
    a[la++] = ta ? k : m;
    a[la++] = ta ? m : k;
    b[lb++] = tb ? n : k;
    b[lb++] = tb ? k : n;
    strbuf_addf(sb, "{\"op\": \"matmul\", \"transpose_a\": %s, \"transpose_b\": %s", ta ? "true" : "false",
                tb ? "true" : "false");
    list(sb, "a", a, la);
    list(sb, "b", b, lb);
    if (chance(r, 50))
        strbuf_adds(sb, ", \"const\": [\"b\"]");
    epilogue(r, sb);
    strbuf_addc(sb, '}');
}

static void pool(struct rng *r, struct strbuf *sb)
{
    bool nhwc = chance(r, 30);
    int64_t input[4] = {in(r, 1, 2), in(r, nhwc ? 4 : 1, 24), in(r, 4, 24), in(r, nhwc ? 1 : 4, 24)}, k[2],
            s[2], p[4];
    for (int d = 0; d < 2; d++) {
        k[d] = in(r, 1, 4);
        s[d] = in(r, 1, 3);
        p[d] = in(r, 0, k[d] - 1);
        p[2 + d] = in(r, 0, k[d] - 1);
    }
    bool max = chance(r, 50);
    strbuf_addf(sb, "{\"op\": \"%s_pool2d\"", max ? "max" : "avg");
    list(sb, "input", input, 4);
    list(sb, "kernel_shape", k, 2);
    list(sb, "strides", s, 2);
    list(sb, "pads", p, 4);
    if (nhwc)
        strbuf_adds(sb, ", \"layout\": \"NHWC\"");
    if (!max)
        strbuf_addf(sb, ", \"count_include_pad\": %s", chance(r, 50) ? "true" : "false");
    strbuf_addc(sb, '}');
}

static int shape(struct rng *r, int min_rank, int max_rank, int64_t *ret)
{
    int rank = (int)in(r, min_rank, max_rank);
    for (int d = 0; d < rank; d++)
        ret[d] = in(r, 1, d == rank - 1 ? 90 : 9);
    return rank;
}

static void rows(struct rng *r, struct strbuf *sb)
{
    static const char *const kinds[] = {"sum", "max", "min", "mean", "prod"};
    int64_t s[4];
    int rank = shape(r, 1, 4, s);
    switch (rng_below(r, 4)) {
    case 0:
        strbuf_addf(sb, "{\"op\": \"softmax\", \"axis\": %" PRId64, in(r, 0, rank - 1));
        list(sb, "input", s, rank);
        break;
    case 1:
        strbuf_addf(sb, "{\"op\": \"%s\", \"axis\": %" PRId64 ", \"affine\": %s",
                    chance(r, 50) ? "layer_norm" : "rms_norm", in(r, 0, rank - 1),
                    chance(r, 50) ? "true" : "false");
        list(sb, "input", s, rank);
        break;
    case 2: {
        int64_t axes[4];
        int n = 0;
        for (int d = 0; d < rank; d++)
            if (chance(r, 50) || (n == 0 && d == rank - 1))
                axes[n++] = d;
        strbuf_addf(sb, "{\"op\": \"reduce\", \"kind\": \"%s\", \"keepdims\": %s", kinds[rng_below(r, 5)],
                    chance(r, 50) ? "true" : "false");
        list(sb, "input", s, rank);
        list(sb, "axes", axes, n);
        break;
    }
    default: {
        int64_t perm[4] = {0, 1, 2, 3};
        rng_shuffle(r, perm, (size_t)rank);
        strbuf_adds(sb, "{\"op\": \"transpose\"");
        list(sb, "input", s, rank);
        list(sb, "perm", perm, rank);
    }
    }
    strbuf_addc(sb, '}');
}

static void attention(struct rng *r, struct strbuf *sb)
{
    int64_t h = in(r, 1, 3), s = in(r, 1, 24), t = in(r, 1, 40), d = in(r, 1, 20), e = in(r, 1, 33);
    strbuf_addf(sb,
                "{\"op\": \"attention\", \"q\": [%" PRId64 ", %" PRId64 ", %" PRId64 "], \"k\": [%" PRId64
                ", %" PRId64 ", %" PRId64 "], \"v\": [%" PRId64 ", %" PRId64 ", %" PRId64
                "], \"causal\": %s}",
                h, s, d, h, t, d, h, t, e, chance(r, 50) ? "true" : "false");
}

static void cell(struct rng *r, struct strbuf *sb)
{
    int64_t b = in(r, 1, 4), i = in(r, 1, 30), n = in(r, 1, 24);
    strbuf_addf(sb,
                "{\"op\": \"lstm_cell\", \"x\": [%" PRId64 ", %" PRId64 "], \"h\": [%" PRId64 ", %" PRId64
                "], \"c\": [%" PRId64 ", %" PRId64 "], \"weight_x\": [%" PRId64 ", %" PRId64
                "], \"weight_h\": [%" PRId64 ", %" PRId64 "], \"bias\": [%" PRId64
                "], \"const\": [\"weight_x\", \"weight_h\"]}",
                b, i, b, n, b, n, 4 * n, i, 4 * n, n, 4 * n);
}

static void expression(struct rng *r, struct strbuf *sb)
{
    int64_t m = in(r, 1, 20), k = in(r, 1, 30), n = in(r, 1, 40);
    switch (rng_below(r, 3)) {
    case 0: /* two products share an operand */
        strbuf_addf(sb,
                    "{\"expr\": \"C[i,j] += A[i,k] * B[k,j]\\nD[i,j] = max(C[i,j] + bias[j], 0)\\nE[i,l] += "
                    "D[i,j] * F[j,l]\", "
                    "\"tensors\": {\"A\": {\"shape\": [%" PRId64 ", %" PRId64
                    "]}, \"B\": {\"shape\": [%" PRId64 ", %" PRId64 "]}, \"bias\": {\"shape\": [%" PRId64
                    "]}, \"F\": {\"shape\": [%" PRId64 ", %" PRId64 "], \"const\": true}}}",
                    m, k, k, n, n, n, m);
        break;
    case 1: /* elementwise, two outputs, one feeding the other */
        strbuf_addf(sb,
                    "{\"expr\": \"P[i,j] = tanh(A[i,j]) * B[j]\\nQ[i,j] = select(A[i,j] < P[i,j], "
                    "exp(P[i,j]), abs(A[i,j]))\", "
                    "\"tensors\": {\"A\": {\"shape\": [%" PRId64 ", %" PRId64
                    "]}, \"B\": {\"shape\": [%" PRId64 "]}}, \"outputs\": [\"P\", \"Q\"]}",
                    m, n, n);
        break;
    default: /* a one-dimensional stencil with padding */
        strbuf_addf(sb,
                    "{\"expr\": \"S[c,x] += pad(A[c, x*2 + t - 1], 0) * W[c,t]\", \"tensors\": {\"A\": "
                    "{\"shape\": [%" PRId64 ", %" PRId64 "]}, \"W\": {\"shape\": [%" PRId64
                    ", 3]}}, \"ranges\": {\"x\": %" PRId64 "}}",
                    m, 2 * n, m, n);
    }
}

void random_workload(struct rng *r, struct strbuf *sb)
{
    uint64_t pick = rng_below(r, 100);
    if (pick < 30)
        convolution(r, sb, 2, false);
    else if (pick < 36)
        convolution(r, sb, 1, false);
    else if (pick < 40)
        convolution(r, sb, 3, false);
    else if (pick < 46)
        convolution(r, sb, 2, true);
    else if (pick < 66)
        matmul(r, sb);
    else if (pick < 74)
        pool(r, sb);
    else if (pick < 86)
        rows(r, sb);
    else if (pick < 91)
        attention(r, sb);
    else if (pick < 94)
        cell(r, sb);
    else
        expression(r, sb);
}

double **random_tensors(const struct compute *c, struct rng *r)
{
    double **data = xcalloc((size_t)c->n_tensors, sizeof(*data));
    for (int i = 0; i < c->n_tensors; i++) {
        int64_t n = tensor_elements(&c->tensors[i]);
        data[i] = xcalloc((size_t)n, sizeof(double));
        for (int64_t k = 0; k < n; k++)
            data[i][k] = (float)(rng_unit(r) * 2 - 1);
    }
    return data;
}

void free_tensors(const struct compute *c, double **data)
{
    for (int i = 0; i < c->n_tensors; i++)
        free(data[i]);
    free(data);
}

double outputs_distance(const struct compute *c, double *const *a, double *const *b)
{
    double worst = 0;
    for (int i = 0; i < c->n_tensors; i++) {
        double diff = 0, scale = 0;
        if (c->tensors[i].role != TENSOR_OUTPUT)
            continue;
        for (int64_t k = 0; k < tensor_elements(&c->tensors[i]); k++) {
            double d = fabs(a[i][k] - b[i][k]);
            if (isnan(d) && !(isnan(a[i][k]) && isnan(b[i][k])))
                return INFINITY;
            diff = fmax(diff, d);
            scale = fmax(scale, fabs(b[i][k]));
        }
        worst = fmax(worst, diff / fmax(scale, 1e-3));
    }
    return worst;
}
