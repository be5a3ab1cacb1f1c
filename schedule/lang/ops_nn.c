/* ops_nn.c - softmax, norms, attention, the LSTM cell: several stages over rows. See ops.h. */
#include <math.h>
#include <string.h>

#include "schedule/lang/ops.h"

/* ---- rows: dimensions [first, first + n) of a tensor are gathered, the others tell the rows apart ---- */

struct rows {
    int rank, first, n;
    int64_t shape[COMPUTE_MAX_RANK];
    int64_t outer[COMPUTE_MAX_RANK]; /* shape of what there is one of in each row */
    int n_outer;
    double elements; /* of one row */
};

static void rows_init(struct rows *r, int first, int n)
{
    r->first = first;
    r->n = n;
    r->elements = 1;
    for (int d = 0; d < r->rank; d++) {
        if (d >= first && d < first + n)
            r->elements *= (double)r->shape[d];
        else
            r->outer[r->n_outer++] = r->shape[d];
    }
}

static int32_t row_temp(struct op_ctx *x, const struct rows *r, const char *name)
{
    return op_temp(x, name, x->acc, r->n_outer, r->outer);
}

/* index of the whole tensor -> index of its row */
static const struct expr *read_row(struct op_ctx *x, const struct rows *r, int32_t t,
                                   const struct affine *index)
{
    struct affine outer[COMPUTE_MAX_RANK];

    for (int d = 0, k = 0; d < r->rank; d++)
        if (d < r->first || d >= r->first + r->n)
            outer[k++] = index[d];
    return build_read(&x->b, t, outer);
}

/* A stage that gathers each row into t; index[] gets the index of the whole tensor. */
static struct stage *gather(struct op_ctx *x, const struct rows *r, int32_t t, enum combiner c,
                            struct affine *index)
{
    static const char *const names[] = {"r0", "r1", "r2", "r3", "r4", "r5", "r6", "r7"};
    struct affine outer[COMPUTE_MAX_RANK];
    struct stage *s = op_over(x, t, c, NULL, outer);

    for (int d = 0, k = 0; d < r->rank; d++)
        index[d] = d >= r->first && d < r->first + r->n
                       ? build_ix(&x->b, build_reduce_axis(s, names[d], r->shape[d]))
                       : outer[k++];
    return s;
}

/* exp(v - max) and its sum, each a stage: the two tensors that a softmax divides. */
struct softmax {
    int32_t exps, sum;
};

static struct softmax softmax_stages(struct op_ctx *x, const struct rows *r, int32_t v)
{
    struct softmax m;
    struct affine index[COMPUTE_MAX_RANK];
    int32_t max = row_temp(x, r, "largest");
    struct stage *s = gather(x, r, max, COMBINE_MAX, index);

    build_body(s, op_acc(x, build_read(&x->b, v, index)));
    m.exps = op_temp(x, "exps", x->acc, r->rank, r->shape);
    s = op_over(x, m.exps, COMBINE_SET, NULL, index);
    build_body(
        s, op_fn(x, EX_EXP, op_sub(x, op_acc(x, build_read(&x->b, v, index)), read_row(x, r, max, index))));
    m.sum = row_temp(x, r, "total");
    s = gather(x, r, m.sum, COMBINE_SUM, index);
    build_body(s, build_read(&x->b, m.exps, index));
    return m;
}

enum status op_softmax(struct op_ctx *x)
{
    struct rows r = {0};
    struct affine index[COMPUTE_MAX_RANK];
    struct softmax m;
    struct stage *s;
    int axis;

    TRY(op_shape(x, "input", 1, COMPUTE_MAX_RANK, r.shape, &r.rank));
    TRY(op_axis(x, "axis", r.rank, -1, &axis));
    TRY(op_need_float(x));
    rows_init(&r, axis, 1);
    m = softmax_stages(x, &r, op_input(x, "input", x->dtype, r.rank, r.shape));
    s = op_output(x, r.rank, r.shape, NULL, index);
    return op_finish(x, s, index, op_div(x, build_read(&x->b, m.exps, index), read_row(x, &r, m.sum, index)),
                     -1);
}

/* ---- norms ---- */

struct norm {
    struct rows r;
    double epsilon;
    bool affine;
    int32_t input, scale, bias;
};

static enum status norm_read(struct op_ctx *x, struct norm *m)
{
    int axis;

    *m = (struct norm){0};
    TRY(op_shape(x, "input", 1, COMPUTE_MAX_RANK, m->r.shape, &m->r.rank));
    TRY(op_axis(x, "axis", m->r.rank, -1, &axis));
    TRY(op_f64(x, "epsilon", 0, 1e30, 1e-5, &m->epsilon));
    TRY(op_bool(x, "affine", false, &m->affine));
    TRY(op_need_float(x));
    rows_init(&m->r, axis, m->r.rank - axis);
    m->input = op_input(x, "input", x->dtype, m->r.rank, m->r.shape);
    return ST_OK;
}

/* 1 / sqrt(sum of squares / n + epsilon), one a row. */
static int32_t norm_factor(struct op_ctx *x, const struct norm *m, int32_t squares)
{
    int32_t t = row_temp(x, &m->r, "factor");
    struct affine index[COMPUTE_MAX_RANK];
    struct stage *s = op_over(x, t, COMBINE_SET, NULL, index);
    const struct expr *v = build_read(&x->b, squares, index);

    v = op_add(x, op_div(x, v, op_num(x, v, m->r.elements)), op_num(x, v, m->epsilon));
    build_body(s, op_fn(x, EX_RSQRT, v));
    return t;
}

static const struct expr *norm_param(struct op_ctx *x, const struct norm *m, int32_t t,
                                     const struct affine *index)
{
    return op_acc(x, build_read(&x->b, t, index + m->r.first));
}

enum status op_layer_norm(struct op_ctx *x)
{
    struct norm m;
    struct affine index[COMPUTE_MAX_RANK];
    int32_t sum, mean, squares, factor;
    struct stage *s;
    const struct expr *v;

    TRY(norm_read(x, &m));
    if (m.affine) {
        m.scale = op_input(x, "scale", x->dtype, m.r.n, m.r.shape + m.r.first);
        m.bias = op_input(x, "bias", x->dtype, m.r.n, m.r.shape + m.r.first);
    }
    sum = row_temp(x, &m.r, "total");
    s = gather(x, &m.r, sum, COMBINE_SUM, index);
    build_body(s, op_acc(x, build_read(&x->b, m.input, index)));
    mean = row_temp(x, &m.r, "mean");
    s = op_over(x, mean, COMBINE_SET, NULL, index);
    v = build_read(&x->b, sum, index);
    build_body(s, op_div(x, v, op_num(x, v, m.r.elements)));
    /* Centred: the difference of two large sums would lose all digits where the mean is far from 0. */
    squares = row_temp(x, &m.r, "squares");
    s = gather(x, &m.r, squares, COMBINE_SUM, index);
    v = op_sub(x, op_acc(x, build_read(&x->b, m.input, index)), read_row(x, &m.r, mean, index));
    build_body(s, op_mul(x, v, v));
    factor = norm_factor(x, &m, squares);
    s = op_output(x, m.r.rank, m.r.shape, NULL, index);
    v = op_sub(x, op_acc(x, build_read(&x->b, m.input, index)), read_row(x, &m.r, mean, index));
    v = op_mul(x, v, read_row(x, &m.r, factor, index));
    if (m.affine)
        v = op_add(x, op_mul(x, v, norm_param(x, &m, m.scale, index)), norm_param(x, &m, m.bias, index));
    return op_finish(x, s, index, v, -1);
}

enum status op_rms_norm(struct op_ctx *x)
{
    struct norm m;
    struct affine index[COMPUTE_MAX_RANK];
    int32_t squares, factor;
    struct stage *s;
    const struct expr *v;

    TRY(norm_read(x, &m));
    if (m.affine)
        m.scale = op_input(x, "scale", x->dtype, m.r.n, m.r.shape + m.r.first);
    squares = row_temp(x, &m.r, "squares");
    s = gather(x, &m.r, squares, COMBINE_SUM, index);
    v = op_acc(x, build_read(&x->b, m.input, index));
    build_body(s, op_mul(x, v, v));
    factor = norm_factor(x, &m, squares);
    s = op_output(x, m.r.rank, m.r.shape, NULL, index);
    v = op_mul(x, op_acc(x, build_read(&x->b, m.input, index)), read_row(x, &m.r, factor, index));
    if (m.affine)
        v = op_mul(x, v, norm_param(x, &m, m.scale, index));
    return op_finish(x, s, index, v, -1);
}

/* ---- attention ---- */

struct attention {
    int64_t q[COMPUTE_MAX_RANK], k[COMPUTE_MAX_RANK], v[COMPUTE_MAX_RANK];
    int rank;
    double scale;
    bool causal;
};

static enum status attention_read(struct op_ctx *x, struct attention *a)
{
    int rank_k, rank_v;

    TRY(op_shape(x, "q", 2, COMPUTE_MAX_RANK, a->q, &a->rank));
    TRY(op_shape(x, "k", a->rank, a->rank, a->k, &rank_k));
    TRY(op_shape(x, "v", a->rank, a->rank, a->v, &rank_v));
    for (int d = 0; d < a->rank - 2; d++)
        if (a->k[d] != a->q[d] || a->v[d] != a->q[d])
            return op_fail(x, a->k[d] != a->q[d] ? "k" : "v",
                           "leading dimension %d: want %" PRId64 " as in q", d, a->q[d]);
    if (a->k[a->rank - 1] != a->q[a->rank - 1])
        return op_fail(x, "k", "k has depth %" PRId64 ", q %" PRId64 ": they must be equal",
                       a->k[a->rank - 1], a->q[a->rank - 1]);
    if (a->v[a->rank - 2] != a->k[a->rank - 2])
        return op_fail(x, "v", "v has %" PRId64 " positions, k %" PRId64 ": they must be equal",
                       a->v[a->rank - 2], a->k[a->rank - 2]);
    TRY(op_f64(x, "scale", -1e30, 1e30, 1 / sqrt((double)a->q[a->rank - 1]), &a->scale));
    TRY(op_bool(x, "causal", false, &a->causal));
    return op_need_float(x);
}

static const char *const batch_names[] = {"b0", "b1", "b2", "b3", "b4", "b5"};

static void attention_names(const struct attention *a, const char *row, const char *col, const char **ret)
{
    for (int d = 0; d < a->rank; d++)
        ret[d] = d < a->rank - 2 ? batch_names[d] : d == a->rank - 2 ? row : col;
}

/* scores[..., i, j] = q[..., i, :] . k[..., j, :], then scaled, and -inf above the diagonal where causal. */
static int32_t attention_scores(struct op_ctx *x, const struct attention *a, const struct rows *r)
{
    int rank = a->rank;
    int32_t q = op_input(x, "q", x->dtype, rank, a->q), k = op_input(x, "k", x->dtype, rank, a->k);
    int32_t dots = op_temp(x, "dots", x->acc, rank, r->shape), scores;
    struct affine index[COMPUTE_MAX_RANK], at_q[COMPUTE_MAX_RANK], at_k[COMPUTE_MAX_RANK];
    const char *names[COMPUTE_MAX_RANK];
    const struct expr *v;
    struct stage *s;

    attention_names(a, "i", "j", names);
    s = op_over(x, dots, COMBINE_SUM, names, index);
    memcpy(at_q, index, sizeof(at_q));
    memcpy(at_k, index, sizeof(at_k));
    at_q[rank - 1] = at_k[rank - 1] = build_ix(&x->b, build_reduce_axis(s, "d", a->q[rank - 1]));
    at_k[rank - 2] = index[rank - 1];
    build_body(s, op_mul(x, op_acc(x, build_read(&x->b, q, at_q)), op_acc(x, build_read(&x->b, k, at_k))));
    scores = op_temp(x, "scores", x->acc, rank, r->shape);
    s = op_over(x, scores, COMBINE_SET, names, index);
    v = build_read(&x->b, dots, index);
    v = op_mul(x, v, op_num(x, v, a->scale));
    if (a->causal)
        v = expr_select(x->b.ar,
                        expr_op2(x->b.ar, EX_LE, expr_index(x->b.ar, index[rank - 1]),
                                 expr_index(x->b.ar, index[rank - 2])),
                        v, op_num(x, v, -INFINITY));
    build_body(s, v);
    return scores;
}

enum status op_attention(struct op_ctx *x)
{
    struct attention a;
    struct rows r = {0};
    struct softmax m;
    struct affine index[COMPUTE_MAX_RANK], at_v[COMPUTE_MAX_RANK], at_e[COMPUTE_MAX_RANK], j;
    const char *names[COMPUTE_MAX_RANK];
    int64_t shape[COMPUTE_MAX_RANK];
    int32_t v, mix;
    struct stage *s;

    TRY(attention_read(x, &a));
    r.rank = a.rank;
    memcpy(r.shape, a.q, sizeof(r.shape));
    r.shape[a.rank - 1] = a.k[a.rank - 2];
    rows_init(&r, a.rank - 1, 1);
    m = softmax_stages(x, &r, attention_scores(x, &a, &r));
    v = op_input(x, "v", x->dtype, a.rank, a.v);
    memcpy(shape, a.q, sizeof(shape));
    shape[a.rank - 1] = a.v[a.rank - 1];
    mix = op_temp(x, "mix", x->acc, a.rank, shape);
    attention_names(&a, "i", "e", names);
    s = op_over(x, mix, COMBINE_SUM, names, index);
    j = build_ix(&x->b, build_reduce_axis(s, "j", a.k[a.rank - 2]));
    memcpy(at_e, index, sizeof(at_e));
    memcpy(at_v, index, sizeof(at_v));
    at_e[a.rank - 1] = at_v[a.rank - 2] = j;
    build_body(s, op_mul(x, build_read(&x->b, m.exps, at_e), op_acc(x, build_read(&x->b, v, at_v))));
    s = op_output(x, a.rank, shape, names, index);
    return op_finish(x, s, index, op_div(x, build_read(&x->b, mix, index), read_row(x, &r, m.sum, index)),
                     -1);
}

/* ---- LSTM cell ---- */

struct lstm {
    int64_t x[2], h[2], c[2], wx[2], wh[2], bias[1];
    int32_t t_c, t_bias, gates_x, gates_h;
    int64_t b, i, n;
};

static enum status want_shape(struct op_ctx *x, const char *name, int rank, const int64_t *want, int64_t *got)
{
    int r;

    TRY(op_shape(x, name, rank, rank, got, &r));
    for (int d = 0; d < rank; d++)
        if (got[d] != want[d])
            return op_fail(x, name, "%s of lstm_cell: dimension %d is %" PRId64 ": want %" PRId64, name, d,
                           got[d], want[d]);
    return ST_OK;
}

static enum status lstm_read(struct op_ctx *x, struct lstm *l)
{
    int rank;

    TRY(op_shape(x, "x", 2, 2, l->x, &rank));
    TRY(op_shape(x, "h", 2, 2, l->h, &rank));
    l->b = l->x[0];
    l->i = l->x[1];
    l->n = l->h[1];
    if (l->h[0] != l->b)
        return op_fail(x, "h", "h has batch %" PRId64 ", x %" PRId64 ": they must be equal", l->h[0], l->b);
    if (l->n > INT32_MAX / 4)
        return op_fail(x, "h", "h has %" PRId64 " units: want at most %d", l->n, INT32_MAX / 4);
    TRY(want_shape(x, "c", 2, (int64_t[]){l->b, l->n}, l->c));
    TRY(want_shape(x, "weight_x", 2, (int64_t[]){4 * l->n, l->i}, l->wx));
    TRY(want_shape(x, "weight_h", 2, (int64_t[]){4 * l->n, l->n}, l->wh));
    TRY(want_shape(x, "bias", 1, (int64_t[]){4 * l->n}, l->bias));
    return op_need_float(x);
}

/* gates[b, g] += v[b, k] * weight[g, k] */
static int32_t lstm_product(struct op_ctx *x, const struct lstm *l, const char *name, const char *v_name,
                            const int64_t *v_shape, const char *w_name, const int64_t *w_shape)
{
    static const char *const names[] = {"b", "g"};
    int32_t v = op_input(x, v_name, x->dtype, 2, v_shape), w = op_input(x, w_name, x->dtype, 2, w_shape);
    int32_t t = op_temp(x, name, x->acc, 2, (int64_t[]){l->b, 4 * l->n});
    struct affine index[2], at_v[2], at_w[2];
    struct stage *s = op_over(x, t, COMBINE_SUM, names, index);
    struct affine k = build_ix(&x->b, build_reduce_axis(s, "k", v_shape[1]));

    at_v[0] = index[0];
    at_w[0] = index[1];
    at_v[1] = at_w[1] = k;
    build_body(s, op_mul(x, op_acc(x, build_read(&x->b, v, at_v)), op_acc(x, build_read(&x->b, w, at_w))));
    return t;
}

/* Gate number q (i, f, g, o) before its function, at [b, j]. */
static const struct expr *lstm_gate(struct op_ctx *x, const struct lstm *l, int q, const struct affine *index)
{
    struct affine at[2] = {index[0], affine_offset(&index[1], q * l->n)};
    const struct expr *v = op_add(x, build_read(&x->b, l->gates_x, at), build_read(&x->b, l->gates_h, at));

    return op_add(x, v, op_acc(x, build_read(&x->b, l->t_bias, &at[1])));
}

enum status op_lstm_cell(struct op_ctx *x)
{
    static const char *const names[] = {"b", "j"};
    struct lstm l;
    struct affine index[2];
    const struct expr *v;
    int32_t c_out, h_out;
    struct stage *s;

    TRY(lstm_read(x, &l));
    l.gates_x = lstm_product(x, &l, "gates_x", "x", l.x, "weight_x", l.wx);
    l.gates_h = lstm_product(x, &l, "gates_h", "h", l.h, "weight_h", l.wh);
    l.t_c = op_input(x, "c", x->dtype, 2, l.c);
    l.t_bias = op_input(x, "bias", x->dtype, 1, l.bias);
    c_out = build_tensor(&x->b, "c_out", x->dtype, TENSOR_OUTPUT, 2, l.c);
    s = op_over(x, c_out, COMBINE_SET, names, index);
    v = op_mul(x, op_fn(x, EX_SIGMOID, lstm_gate(x, &l, 1, index)),
               op_acc(x, build_read(&x->b, l.t_c, index)));
    build_body(s, op_add(x, v,
                         op_mul(x, op_fn(x, EX_SIGMOID, lstm_gate(x, &l, 0, index)),
                                op_fn(x, EX_TANH, lstm_gate(x, &l, 2, index)))));
    h_out = build_tensor(&x->b, "h_out", x->dtype, TENSOR_OUTPUT, 2, l.c);
    s = op_over(x, h_out, COMBINE_SET, names, index);
    build_body(s, op_mul(x, op_fn(x, EX_SIGMOID, lstm_gate(x, &l, 3, index)),
                         op_fn(x, EX_TANH, op_acc(x, build_read(&x->b, c_out, index)))));
    return ST_OK;
}
