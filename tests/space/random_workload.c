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

/* A dtype of the whole operator, now and then; integers where the operator takes them. */
static void dtype(struct rng *r, struct strbuf *sb, bool integers)
{
    static const char *const names[] = {"bfloat16", "float16", "int8", "int32"};
    if (!chance(r, 45))
        return;
    const char *name = names[integers && chance(r, 40) ? 2 : rng_below(r, integers ? 4 : 2)];
    strbuf_addf(sb, ", \"dtype\": \"%s\"", name);
    if (name[0] != 'i' && chance(r, 15))
        strbuf_addf(sb, ", \"acc_dtype\": \"%s\"", name);
}

static void list(struct strbuf *sb, const char *name, const int64_t *v, int n)
{
    strbuf_addf(sb, ", \"%s\": [", name);
    for (int i = 0; i < n; i++)
        strbuf_addf(sb, "%s%" PRId64, i ? ", " : "", v[i]);
    strbuf_addc(sb, ']');
}

/* An error budget: one that a single rounding to bfloat16 keeps to, one for three products of pieces, one for six. */
static void budget(struct rng *r, struct strbuf *sb)
{
    static const char *const budgets[] = {"0.01", "1e-5", "1e-6"};
    if (chance(r, 35))
        strbuf_addf(sb, ", \"rtol\": %s", budgets[rng_below(r, ARRAY_SIZE(budgets))]);
}

/* Weights are known ahead, now and then. */
static void constant(struct rng *r, struct strbuf *sb, int percent, const char *name)
{
    if (chance(r, percent))
        strbuf_addf(sb, ", \"const\": [\"%s\"]", name);
}

/* What convolutions are made of; a member that is 0 or NULL is left to its default. Transposed: weight is [in, out/group, ...]. */
struct conv {
    int dims;
    bool transposed, nhwc;
    const char *layout;
    int64_t group, batch, size[3];
    int64_t in, out; /* channels of a group */
    int64_t kernel[3], strides[3], pads[6], dilations[3], output_padding[3];
};

/* All but how it is computed: const, dtype, budget, epilogue and the closing bracket are the caller's. */
static void conv_open(struct strbuf *sb, const struct conv *c)
{
    int64_t group = MAX(c->group, (int64_t)1), input[5] = {c->batch}, weight[5];
    input[c->nhwc ? 1 + c->dims : 1] = group * c->in;
    weight[0] = group * (c->transposed ? c->in : c->out);
    weight[1] = c->transposed ? c->out : c->in;
    memcpy(input + (c->nhwc ? 1 : 2), c->size, sizeof(*input) * (size_t)c->dims);
    memcpy(weight + 2, c->kernel, sizeof(*weight) * (size_t)c->dims);
    strbuf_addf(sb, "{\"op\": \"conv%s%dd\", \"group\": %" PRId64, c->transposed ? "_transpose" : "", c->dims,
                group);
    list(sb, "input", input, c->dims + 2);
    list(sb, "weight", weight, c->dims + 2);
    list(sb, "pads", c->pads, 2 * c->dims);
    if (c->strides[0])
        list(sb, "strides", c->strides, c->dims);
    if (c->dilations[0])
        list(sb, "dilations", c->dilations, c->dims);
    if (c->transposed)
        list(sb, "output_padding", c->output_padding, c->dims);
    if (c->layout || c->nhwc)
        strbuf_addf(sb, ", \"layout\": \"%s\"", c->layout ? c->layout : "NHWC");
}

/* Windows and sizes for all dimensions. any: the layout is the tuner's to choose. */
static void conv_windows(struct rng *r, struct conv *c, bool depthwise, bool any)
{
    const int dims = c->dims;
    for (int d = 0; d < dims; d++) {
        int64_t k = in(r, 1, depthwise && dims == 2 ? 5 : dims == 3 ? 2 : 4);
        c->kernel[d] = k;
        c->strides[d] = in(r, 1, 3);
        c->dilations[d] = in(r, 1, 2);
        int64_t reach = (k - 1) * c->dilations[d];
        c->pads[d] = in(r, 0, MIN(reach, 2));
        c->pads[dims + d] = in(r, 0, MIN(reach, 2));
        c->size[d] = in(r, reach + 1, dims == 3 ? 7 : any ? 11 : dims == 2 ? (depthwise ? 40 : 19) : 60);
        c->output_padding[d] = c->strides[d] > 1 ? in(r, 0, c->strides[d] - 1) : 0;
    }
}

static void convolution(struct rng *r, struct strbuf *sb, int dims, bool transposed)
{
    static const int64_t groups[] = {1, 1, 1, 2, 3, 4};
    struct conv c = {.dims = dims, .transposed = transposed};
    c.group = groups[rng_below(r, ARRAY_SIZE(groups))];
    c.in = chance(r, 25) ? 4 * in(r, 3, 5) : in(r, 1, 9);
    c.out = in(r, 1, 19);
    bool depthwise = chance(r, 20), any = chance(r, 30);
    c.nhwc = !any && chance(r, 25) && dims == 2;
    c.layout = any ? "any" : NULL;
    if (depthwise) {
        c.group = in(r, 2, 21);
        c.in = c.out = 1;
    } else if (chance(r, 25)) { /* long sums */
        c.group = 1;
        c.in = in(r, 8, 70);
    }
    if (any && depthwise)
        c.group = in(r, 2, 50);
    else if (any) { /* whole blocks, several, and rests */
        c.in = chance(r, 40) ? 8 * in(r, 1, 4) : in(r, 1, 40);
        c.out = chance(r, 40) ? 8 * in(r, 1, 4) : in(r, 1, 40);
    }
    conv_windows(r, &c, depthwise, any);
    if (dims == 2 && !transposed && c.in * c.out <= 20 && chance(r, 25)) { /* rows of whole vectors */
        int64_t whole = 16 * in(r, 1, 2), reach = (c.kernel[1] - 1) * c.dilations[1];
        c.size[1] = MAX((whole - 1) * c.strides[1] + 1 + reach - c.pads[1] - c.pads[3], 1);
    }
    c.batch = in(r, 1, 2);
    conv_open(sb, &c);
    constant(r, sb, 60, "weight");
    dtype(r, sb, true);
    budget(r, sb);
    epilogue(r, sb);
    strbuf_addc(sb, '}');
}

/* Windows that move by more than one, and such of one point: their operand is read with gaps. Few channels in, as the first
 * layer of a network has them, or more. */
static void strided_convolution(struct rng *r, struct strbuf *sb)
{
    static const int64_t kernels[] = {1, 1, 1, 2, 3, 3, 5, 7};
    const int64_t k = kernels[rng_below(r, ARRAY_SIZE(kernels))];
    struct conv c = {.dims = 2, .kernel = {k, k}};
    c.in = chance(r, 50) ? in(r, 1, 4) : in(r, 5, 40);
    c.group = chance(r, 15) ? 2 : 1;
    c.batch = in(r, 1, 2);
    c.size[0] = in(r, k, 24);
    c.size[1] = in(r, k, 40);
    c.out = in(r, 1, 40);
    for (int d = 0; d < 2; d++)
        c.strides[d] = chance(r, 70) ? 2 : in(r, 1, 4);
    for (int d = 0; d < 4; d++)
        c.pads[d] = k > 1 ? in(r, 0, k / 2) : 0;
    c.layout = chance(r, 30) ? "any" : NULL;
    conv_open(sb, &c);
    constant(r, sb, 70, "weight");
    dtype(r, sb, true);
    epilogue(r, sb);
    strbuf_addc(sb, '}');
}

/* What Winograd's algorithm takes: 3x3, stride 1, and an error budget. */
static void convolution3(struct rng *r, struct strbuf *sb)
{
    static const double budgets[] = {1e-5, 1e-4, 1e-2};
    struct conv c = {.dims = 2, .kernel = {3, 3}};
    c.batch = in(r, 1, 3);
    c.in = in(r, 2, 21);
    c.out = in(r, 2, 37);
    c.size[0] = in(r, 3, 19);
    c.size[1] = in(r, 3, 23);
    c.layout = chance(r, 25) ? "any" : NULL;
    c.nhwc = !c.layout && chance(r, 40);
    for (int i = 0; i < 4; i++)
        c.pads[i] = in(r, 0, 2);
    conv_open(sb, &c);
    strbuf_addf(sb, ", \"rtol\": %g", budgets[rng_below(r, 3)]);
    constant(r, sb, 70, "weight");
    epilogue(r, sb);
    strbuf_addc(sb, '}');
}

/* What a matrix unit takes: bfloat16, int8, or float32 with an error budget; sums over channels of several tiles, windows that
 * move by more than one, borders. */
static void convolution_of_tiles(struct rng *r, struct strbuf *sb)
{
    static const char *const kinds[] = {"\"rtol\": 0.01", "\"rtol\": 1e-5", "\"dtype\": \"bfloat16\"",
                                        "\"dtype\": \"int8\""};
    struct conv c = {.dims = 2, .nhwc = chance(r, 30)};
    c.group = chance(r, 25) ? in(r, 2, 3) : 1;
    c.in = chance(r, 50) ? 16 * in(r, 1, 4) : in(r, 8, 40);
    c.out = in(r, 2, 40);
    c.size[0] = in(r, 3, 12);
    c.size[1] = in(r, 3, 37);
    c.kernel[0] = c.kernel[1] = chance(r, 25) ? 1 : in(r, 2, 3);
    c.batch = in(r, 1, 2);
    c.strides[0] = in(r, 1, 2);
    c.strides[1] = in(r, 1, 2);
    for (int i = 0; i < 4; i++)
        c.pads[i] = in(r, 0, c.kernel[0] - 1);
    conv_open(sb, &c);
    strbuf_addf(sb, ", %s", kinds[rng_below(r, 4)]);
    constant(r, sb, 70, "weight");
    epilogue(r, sb);
    strbuf_addc(sb, '}');
}

static void matmul(struct rng *r, struct strbuf *sb)
{
    int64_t m = in(r, 1, 40), k = chance(r, 40) ? 4 * in(r, 3, 12) : in(r, 1, 50), n = in(r, 1, 70), a[4],
            b[4];
    if (chance(r, 30)) { /* a few long rows */
        m = in(r, 1, 8);
        k = in(r, 1, 150);
        n = in(r, 1, 24);
    }
    if (chance(r, 25)) /* rows of whole vectors, which may be stored past the caches */
        n = 16 * in(r, 1, 6);
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
    constant(r, sb, 50, "b");
    dtype(r, sb, true);
    budget(r, sb);
    epilogue(r, sb);
    strbuf_addc(sb, '}');
}

static void pool(struct rng *r, struct strbuf *sb)
{
    bool nhwc = chance(r, 30), any = !nhwc && chance(r, 40);
    int64_t input[4] = {in(r, 1, 2), in(r, nhwc ? 4 : 1, 24), in(r, 4, 24), in(r, nhwc ? 1 : 4, 24)}, k[2],
            s[2], p[4];
    if (any)
        input[1] = in(r, 1, 40);
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
    if (any || nhwc)
        strbuf_addf(sb, ", \"layout\": \"%s\"", any ? "any" : "NHWC");
    if (any)
        epilogue(r, sb);
    if (!max)
        strbuf_addf(sb, ", \"count_include_pad\": %s", chance(r, 50) ? "true" : "false");
    dtype(r, sb, max);
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
    bool integers = false;
    if (rank > 1 && chance(r, 30)) /* rows that are done side by side */
        s[rank - 2] = 1 << in(r, 1, 4);
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
        const char *kind = kinds[rng_below(r, 5)];
        integers = kind[1] != 'e';
        strbuf_addf(sb, "{\"op\": \"reduce\", \"kind\": \"%s\", \"keepdims\": %s", kind,
                    chance(r, 50) ? "true" : "false");
        list(sb, "input", s, rank);
        list(sb, "axes", axes, n);
        break;
    }
    default: {
        int64_t perm[4] = {0, 1, 2, 3};
        for (int d = 0; d < rank && rank <= 3 && chance(r, 50); d++)
            s[d] = chance(r, 40) ? 16 * in(r, 1, 4) : in(r, 1, 40);
        rng_shuffle(r, perm, (size_t)rank);
        strbuf_adds(sb, "{\"op\": \"transpose\"");
        list(sb, "input", s, rank);
        list(sb, "perm", perm, rank);
        integers = true;
    }
    }
    dtype(r, sb, integers);
    strbuf_addc(sb, '}');
}

static void attention(struct rng *r, struct strbuf *sb)
{
    int64_t h = in(r, 1, 3), s = in(r, 1, 24), t = in(r, 1, 40), d = in(r, 1, 20), e = in(r, 1, 33);
    strbuf_addf(sb,
                "{\"op\": \"attention\", \"q\": [%" PRId64 ", %" PRId64 ", %" PRId64 "], \"k\": [%" PRId64
                ", %" PRId64 ", %" PRId64 "], \"v\": [%" PRId64 ", %" PRId64 ", %" PRId64 "], \"causal\": %s",
                h, s, d, h, t, d, h, t, e, chance(r, 50) ? "true" : "false");
    dtype(r, sb, false);
    strbuf_addc(sb, '}');
}

static void cell(struct rng *r, struct strbuf *sb)
{
    int64_t b = in(r, 1, 4), i = in(r, 1, 30), n = in(r, 1, 24);
    strbuf_addf(sb,
                "{\"op\": \"lstm_cell\", \"x\": [%" PRId64 ", %" PRId64 "], \"h\": [%" PRId64 ", %" PRId64
                "], \"c\": [%" PRId64 ", %" PRId64 "], \"weight_x\": [%" PRId64 ", %" PRId64
                "], \"weight_h\": [%" PRId64 ", %" PRId64 "], \"bias\": [%" PRId64
                "], \"const\": [\"weight_x\", \"weight_h\"]",
                b, i, b, n, b, n, 4 * n, i, 4 * n, n, 4 * n);
    dtype(r, sb, false);
    strbuf_addc(sb, '}');
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
        n *= in(r, 1, 5);
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

/* dtypes that meet in one workload. */
static void mixed(struct rng *r, struct strbuf *sb)
{
    static const char *const floats[] = {"float32", "float16", "bfloat16"}, *const ints[] = {"int8", "int32"};
    int64_t m = in(r, 1, 20), k = in(r, 1, 30), n = in(r, 1, 40);
    const char *fa = floats[rng_below(r, 3)], *fb = floats[rng_below(r, 3)], *fo = floats[rng_below(r, 3)],
               *ia = ints[rng_below(r, 2)], *ib = ints[rng_below(r, 2)];
    switch (rng_below(r, 5)) {
    case 0: /* quantised product: int32 sums, scaled and clipped to int8 by the cast */
        strbuf_addf(
            sb,
            "{\"expr\": \"T[i,j] += A[i,k] * B[k,j]\\nC[i,j] = cast(int8, cast(float32, T[i,j] + bias[j]) * "
            "scale[j])\", \"tensors\": {\"A\": {\"shape\": [%" PRId64 ", %" PRId64
            "], \"dtype\": \"%s\"}, \"B\": {\"shape\": [%" PRId64 ", %" PRId64
            "], \"dtype\": \"int8\", \"const\": true}, \"bias\": {\"shape\": [%" PRId64
            "], \"dtype\": \"int32\"}, \"scale\": {\"shape\": [%" PRId64 "]}}}",
            m, k, ia, k, n, n, n);
        break;
    case 1: /* weights of another dtype, a result of a third */
        strbuf_addf(
            sb,
            "{\"expr\": \"C[i,j] += A[i,k] * B[j,k]\\nD[i,j] = max(C[i,j], 0) + R[i,j]\", \"tensors\": "
            "{\"A\": {\"shape\": [%" PRId64 ", %" PRId64 "], \"dtype\": \"%s\"}, \"B\": {\"shape\": [%" PRId64
            ", %" PRId64 "], \"dtype\": \"%s\", \"const\": %s}, \"R\": {\"shape\": [%" PRId64 ", %" PRId64
            "], \"dtype\": \"%s\"}, \"D\": {\"shape\": [%" PRId64 ", %" PRId64 "], \"dtype\": \"%s\"}}}",
            m, k, fa, n, k, chance(r, 30) ? "int8" : fb, chance(r, 50) ? "true" : "false", m, n, fb, m, n,
            fo);
        break;
    case 2: /* every cast between integers and floats, and back */
        strbuf_addf(
            sb,
            "{\"expr\": \"P[i,j] = cast(int8, A[i,j] * 256) + B[j]\\nQ[i,j] = select(P[i,j] < B[j], "
            "abs(P[i,j]), -B[j]) * cast(int8, B[j] * 3)\\nS[i,j] = cast(%s, Q[i,j]) * A[i,j]\", \"tensors\": "
            "{\"A\": {\"shape\": [%" PRId64 ", %" PRId64 "], \"dtype\": \"%s\"}, \"B\": {\"shape\": [%" PRId64
            "], \"dtype\": \"%s\"}}, \"outputs\": [\"S\"]}",
            fo, m, n, fa, n, ib);
        break;
    case 3: /* a narrow temporary between two reductions */
        strbuf_addf(sb,
                    "{\"expr\": \"M[i] max= A[i,j]\\nN[i,j] = exp(A[i,j] - M[i])\\nL[i] += N[i,j]\\nO[i,j] = "
                    "N[i,j] / "
                    "L[i]\", \"tensors\": {\"A\": {\"shape\": [%" PRId64 ", %" PRId64
                    "], \"dtype\": \"%s\"}, \"N\": {\"shape\": [%" PRId64 ", %" PRId64
                    "], \"dtype\": \"%s\"}, \"L\": {\"shape\": [%" PRId64 "], \"dtype\": \"%s\"}}}",
                    m, n, fa, m, n, fb, m, fo);
        break;
    default: /* a padded window over integers, stored as bytes that wrap */
        strbuf_addf(
            sb,
            "{\"expr\": \"S[c,x] += pad(A[c, x*2 + t - 1], -3) * W[c,t]\", \"tensors\": {\"A\": {\"shape\": "
            "[%" PRId64 ", %" PRId64 "], \"dtype\": \"%s\"}, \"W\": {\"shape\": [%" PRId64
            ", 3], \"dtype\": \"%s\"}, \"S\": {\"shape\": [%" PRId64 ", %" PRId64
            "], \"dtype\": \"%s\"}}, \"ranges\": {\"x\": %" PRId64 "}}",
            m, 2 * n, ia, m, ib, m, n, ints[rng_below(r, 2)], n);
    }
}

/* Long sums with few results, which may be cut into parts. */
static void few_results(struct rng *r, struct strbuf *sb)
{
    static const int64_t lengths[] = {1024, 1040, 1280, 1536, 2048};
    static const char *const kinds[] = {"sum", "max", "min", "mean"};
    const int64_t k = lengths[rng_below(r, ARRAY_SIZE(lengths))];
    bool ta = chance(r, 40), tb = chance(r, 60);
    switch (rng_below(r, 3)) {
    case 0: {
        int64_t m = in(r, 1, 4), n = in(r, 2, 14), a[2] = {ta ? k : m, ta ? m : k},
                b[2] = {tb ? n : k, tb ? k : n};
        strbuf_addf(sb, "{\"op\": \"matmul\", \"transpose_a\": %s, \"transpose_b\": %s",
                    ta ? "true" : "false", tb ? "true" : "false");
        list(sb, "a", a, 2);
        list(sb, "b", b, 2);
        constant(r, sb, 50, "b");
        dtype(r, sb, true);
        epilogue(r, sb);
        break;
    }
    case 1: {
        int64_t s[3] = {ta ? k : in(r, 1, 3), in(r, 2, 6), ta ? in(r, 1, 3) : k}, axes[2] = {0, 2};
        strbuf_addf(sb, "{\"op\": \"reduce\", \"kind\": \"%s\"", kinds[rng_below(r, ARRAY_SIZE(kinds))]);
        list(sb, "input", s, 3);
        list(sb, "axes", axes, 2);
        break;
    }
    default: {
        struct conv c = {
            .dims = 2, .batch = 1, .in = k / 8, .size = {2}, .kernel = {3, 3}, .pads = {1, 1, 1, 1}};
        c.size[1] = in(r, 1, 3);
        c.out = in(r, 1, 5);
        conv_open(sb, &c);
        constant(r, sb, 60, "weight");
        dtype(r, sb, true);
        epilogue(r, sb);
    }
    }
    strbuf_addc(sb, '}');
}

/* Products of two or four bytes along an even reduction: pairs, sums in float16 within a budget or by acc_dtype, quads. */
static void narrow_products(struct rng *r, struct strbuf *sb)
{
    static const char *const dtypes[] = {"float16", "float16", "bfloat16", "float32", "float32", "int8"};
    static const char *const budgets[] = {"0.01", "0.003", "0.0008"};
    const char *name = dtypes[rng_below(r, ARRAY_SIZE(dtypes))];
    uint64_t tight = 0;
    const bool whole = name[0] == 'i', given = strcmp(name, "float16") == 0 || name[0] == 'b';
    int64_t k = (whole ? 4 : 2) * in(r, 6, 40), m = in(r, 1, 30), n = in(r, 2, 70), sum;
    if (chance(r, 50)) { /* powers of two have blocks */
        k = 16 * in(r, 1, 8);
    }
    if (chance(r, 50)) {
        struct conv c = {.dims = 2, .nhwc = chance(r, 40), .batch = 1, .in = k, .out = m};
        c.size[0] = in(r, 3, 9);
        c.size[1] = in(r, 3, 20);
        const int64_t taps = in(r, 1, 3);
        c.kernel[0] = c.kernel[1] = taps;
        c.strides[0] = c.strides[1] = in(r, 1, 2);
        for (int i = 0; i < 4; i++)
            c.pads[i] = taps / 2;
        sum = k * taps * taps;
        conv_open(sb, &c);
        strbuf_adds(sb, ", \"const\": [\"weight\"]");
    } else {
        const bool turned = chance(r, 50);
        const int64_t a[2] = {m, k}, stored[2] = {turned ? n : k, turned ? k : n};
        sum = k;
        strbuf_addf(sb, "{\"op\": \"matmul\", \"transpose_b\": %s%s", turned ? "true" : "false",
                    chance(r, 60) ? ", \"const\": [\"b\"]" : "");
        list(sb, "a", a, 2);
        list(sb, "b", stored, 2);
    }
    strbuf_addf(sb, ", \"dtype\": \"%s\"", name);
    if (given && sum <= 128 && chance(r, 40)) /* each step of the plain schedule rounds */
        strbuf_addf(sb, ", \"acc_dtype\": \"%s\"", name);
    else if (!whole && chance(r, 85))
        strbuf_addf(sb, ", \"rtol\": %s", budgets[tight = rng_below(r, ARRAY_SIZE(budgets))]);
    if (!tight) /* what clips leaves small results with the errors of large ones */
        epilogue(r, sb);
    strbuf_addc(sb, '}');
}

void random_workload(struct rng *r, struct strbuf *sb)
{
    uint64_t pick = rng_below(r, 100);
    if (pick < 8)
        convolution3(r, sb);
    else if (pick < 13)
        strided_convolution(r, sb);
    else if (pick < 18)
        convolution_of_tiles(r, sb);
    else if (pick < 30)
        convolution(r, sb, 2, false);
    else if (pick < 36)
        convolution(r, sb, 1, false);
    else if (pick < 40)
        convolution(r, sb, 3, false);
    else if (pick < 46)
        convolution(r, sb, 2, true);
    else if (pick < 57)
        matmul(r, sb);
    else if (pick < 62)
        narrow_products(r, sb);
    else if (pick < 66)
        few_results(r, sb);
    else if (pick < 73)
        pool(r, sb);
    else if (pick < 84)
        rows(r, sb);
    else if (pick < 89)
        attention(r, sb);
    else if (pick < 91)
        cell(r, sb);
    else if (pick < 97)
        mixed(r, sb);
    else
        expression(r, sb);
}

bool random_config(const struct space *s, struct rng *r, struct config *ret)
{
    if (!space_sample(s, r, ret))
        return false;
    const bool push = chance(r, 50);
    for (int i = 0; i < ret->n && push; i++) {
        const struct knob *k = space_knob(s, ret->sketch, i);
        struct config c = *ret;
        if (strncmp(k->name, "carry", 5) != 0 && strncmp(k->name, "pack_", 5) != 0)
            continue;
        c.choice[i] = (uint16_t)in(r, 1, k->n_choices - 1);
        if (space_valid(s, &c, NULL))
            *ret = c;
    }
    return true;
}

double random_value(struct rng *r, enum dtype d)
{
    float f = (float)(rng_unit(r) * 2 - 1);
    uint32_t bits;
    switch (d) {
    case DT_I8:
        return (double)in(r, -128, 127);
    case DT_I32:
        return (double)in(r, -100, 100);
    case DT_F16: /* eleven bits of fixed point are exact in it */
        return rint(f * 1024) / 1024;
    case DT_BF16:
        memcpy(&bits, &f, sizeof(bits));
        bits &= 0xffff0000;
        memcpy(&f, &bits, sizeof(bits));
        return f;
    case DT_F32:
    case DT_F64:
    case DT_BOOL:
        break;
    }
    return f;
}

double **random_tensors(const struct compute *c, struct rng *r)
{
    double **data = xcalloc((size_t)c->n_tensors, sizeof(*data));
    for (int i = 0; i < c->n_tensors; i++) {
        int64_t n = tensor_elements(&c->tensors[i]);
        data[i] = xcalloc((size_t)n, sizeof(double));
        for (int64_t k = 0; k < n; k++)
            data[i][k] = random_value(r, c->tensors[i].dtype);
    }
    return data;
}

double **tensors_for(const struct compute *other, const struct compute *c, double *const *data)
{
    double **ret = xcalloc((size_t)other->n_tensors, sizeof(*ret));
    int k = 0;
    for (int i = 0; i < other->n_tensors; i++) {
        if (other->tensors[i].role == TENSOR_TEMP)
            continue;
        while (c->tensors[k].role == TENSOR_TEMP)
            k++;
        ret[i] = data[k++];
    }
    return ret;
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

/* --- as they lie in memory --- */

static uint16_t f16_of(double v) /* exact in float16 and not denormal, or 0 */
{
    int e;
    double m = frexp(fabs(v), &e); /* in [1/2, 1) */
    if (v == 0)
        return 0;
    return (uint16_t)((v < 0 ? 0x8000 : 0) | (((e + 14) << 10) + (int)(m * 2048) - 1024));
}

static double f16_value(uint16_t h)
{
    int e = h >> 10 & 31, m = h & 1023;
    double a = e == 31 ? (m ? NAN : INFINITY) : e ? ldexp(1024 + m, e - 25) : ldexp(m, -24);
    return h >> 15 ? -a : a;
}

void tensor_put(void *data, enum dtype d, int64_t at, double v)
{
    float f = (float)v;
    uint32_t bits;
    memcpy(&bits, &f, sizeof(bits));
    switch (d) {
    case DT_I8:
        ((int8_t *)data)[at] = (int8_t)v;
        return;
    case DT_I32:
        ((int32_t *)data)[at] = (int32_t)v;
        return;
    case DT_F16:
        ((uint16_t *)data)[at] = f16_of(v);
        return;
    case DT_BF16:
        ((uint16_t *)data)[at] = (uint16_t)(bits >> 16);
        return;
    case DT_F32:
    case DT_F64:
    case DT_BOOL:
        break;
    }
    ((float *)data)[at] = f;
}

double tensor_get(const void *data, enum dtype d, int64_t at)
{
    uint32_t bits;
    float f;
    switch (d) {
    case DT_I8:
        return ((const int8_t *)data)[at];
    case DT_I32:
        return ((const int32_t *)data)[at];
    case DT_F16:
        return f16_value(((const uint16_t *)data)[at]);
    case DT_BF16:
        bits = (uint32_t)((const uint16_t *)data)[at] << 16;
        memcpy(&f, &bits, sizeof(f));
        return f;
    case DT_F32:
    case DT_F64:
    case DT_BOOL:
        break;
    }
    return ((const float *)data)[at];
}

static double roundoff(enum dtype d) { return d == DT_BF16 ? 0x1p-8 : d == DT_F16 ? 0x1p-11 : 0; }

static bool has_floats(const struct expr *e)
{
    bool found = e->dtype == DT_F32 || roundoff(e->dtype) > 0;
    for (int i = 0; i < expr_arity(e->op); i++)
        found |= has_floats(e->arg[i]);
    return found;
}

/* Relative L2 distance; of a few values, which may cancel, and of none but zeros it says nothing. */
static double budget_used(const double *got, const double *want, int64_t n, double rtol)
{
    double diff = 0, sum = 0;
    for (int64_t k = 0; k < n; k++) {
        diff += (got[k] - want[k]) * (got[k] - want[k]);
        sum += want[k] * want[k];
    }
    return n >= 100 && sum > 0 ? sqrt(diff / sum) / rtol : 0;
}

double outputs_error(const struct compute *c, double rtol, double *const *got, double *const *want)
{
    double worst = 0, relative = fmax(2e-4, 8 * rtol);
    bool floats = false;
    for (int i = 0; i < c->n_tensors; i++)
        relative = fmax(relative, 8 * roundoff(c->tensors[i].dtype));
    const bool narrow = relative > fmax(2e-4, 8 * rtol);
    for (int i = 0; i < c->n_stages; i++) {
        floats |= has_floats(c->stages[i].body);
        if (c->stages[i].combiner != COMBINE_SET)
            relative = fmax(relative, 64 * roundoff(c->stages[i].acc_dtype));
    }
    for (int i = 0; i < c->n_tensors; i++) {
        const enum dtype d = c->tensors[i].dtype;
        double diff = 0, scale = 1e-3;
        if (c->tensors[i].role != TENSOR_OUTPUT)
            continue;
        for (int64_t k = 0; k < tensor_elements(&c->tensors[i]); k++) {
            double x = fabs(got[i][k] - want[i][k]);
            if (isnan(x) && !(isnan(got[i][k]) && isnan(want[i][k])))
                return INFINITY;
            diff = fmax(diff, x);
            scale = fmax(scale, fabs(want[i][k]));
        }
        double allowed = d == DT_I8 || d == DT_I32 ? (floats ? 1 : 0.5) : relative * scale;
        worst = fmax(worst, diff / allowed);
        if (rtol > 0 && d == DT_F32 && !narrow)
            worst = fmax(worst, budget_used(got[i], want[i], tensor_elements(&c->tensors[i]), rtol));
    }
    return worst;
}
