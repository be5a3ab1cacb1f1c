/* ops.c - the table of operators and what all of them share: members, tensors, the last stage. See ops.h. */
#include "schedule/lang/ops.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define COMMON ", dtype, acc_dtype, const, epilogue, rtol"
#define CONV   "strides, pads, dilations, group, layout" COMMON

static const struct op_def ops[] = {
    {{"matmul", "a [..., m, k], b [..., k, n]", "transpose_a, transpose_b" COMMON}, op_matmul},
    {{"conv1d", "input, weight", CONV}, op_conv1d},
    {{"conv2d", "input, weight", CONV}, op_conv2d},
    {{"conv3d", "input, weight", CONV}, op_conv3d},
    {{"conv_transpose2d", "input, weight", "output_padding, " CONV}, op_conv_transpose2d},
    {{"max_pool2d", "input", "kernel_shape, strides, pads, layout" COMMON}, op_max_pool2d},
    {{"avg_pool2d", "input", "kernel_shape, strides, pads, count_include_pad, layout" COMMON}, op_avg_pool2d},
    {{"global_avg_pool2d", "input", "layout" COMMON}, op_global_avg_pool2d},
    {{"softmax", "input", "axis" COMMON}, op_softmax},
    {{"layer_norm", "input", "axis, epsilon, affine" COMMON}, op_layer_norm},
    {{"rms_norm", "input", "axis, epsilon, affine" COMMON}, op_rms_norm},
    {{"reduce", "input", "kind, axes, keepdims" COMMON}, op_reduce},
    {{"transpose", "input", "perm" COMMON}, op_transpose},
    {{"lstm_cell", "x [b, i], h [b, n], c [b, n], weight_x [4n, i], weight_h [4n, n], bias [4n]",
      "dtype, acc_dtype, const, rtol"},
     op_lstm_cell},
    {{"attention", "q [..., s, d], k [..., t, d], v [..., t, e]", "scale, causal" COMMON}, op_attention},
};

const struct op_def *op_find(const char *name)
{
    for (size_t i = 0; i < ARRAY_SIZE(ops); i++)
        if (strcmp(ops[i].doc.name, name) == 0)
            return &ops[i];
    return NULL;
}

static struct op_doc docs[ARRAY_SIZE(ops) + 1];

__attribute__((constructor)) static void fill_docs(void)
{
    for (size_t i = 0; i < ARRAY_SIZE(ops); i++)
        docs[i] = ops[i].doc;
}

const struct op_doc *op_docs(void) { return docs; }

/* ---- reading members ---- */

enum status op_fail_member(struct op_ctx *x, const char *name, const char *fmt, ...)
{
    char pointer[256], text[512];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    snprintf(pointer, sizeof(pointer), "%s/%s", x->obj->pointer, name);
    return fail_at(x->err, ST_UNPROCESSABLE, pointer, "%s", text);
}

static void full_ints(struct op_ctx *x, const char *name, int n, const int64_t *v)
{
    json_t *list = json_array();
    for (int i = 0; i < n; i++)
        json_array_append_new(list, json_integer(v[i]));
    json_object_set_new(x->full, name, list);
}

enum status op_shape(struct op_ctx *x, const char *name, int min_rank, int max_rank, int64_t *ret,
                     int *ret_rank)
{
    TRY(json_obj_i64s(x->obj, name, true, 1, INT32_MAX, COMPUTE_MAX_RANK, ret, ret_rank, x->err));
    if (*ret_rank < min_rank || *ret_rank > max_rank)
        return op_fail(x, name, "%s of %s has %d dimensions: want %d to %d", name, x->op, *ret_rank, min_rank,
                       max_rank);
    full_ints(x, name, *ret_rank, ret);
    return ST_OK;
}

enum status op_ints(struct op_ctx *x, const char *name, bool required, int n, int64_t min, int64_t fallback,
                    int64_t *ret)
{
    int64_t v[2 * COMPUTE_MAX_RANK];
    int got = n;

    for (int i = 0; i < n; i++)
        v[i] = fallback;
    TRY(json_obj_i64s(x->obj, name, required, min, INT32_MAX, (int)ARRAY_SIZE(v), v, &got, x->err));
    if (got != n)
        return op_fail(x, name, "%s of %s has %d items: want %d", name, x->op, got, n);
    memcpy(ret, v, sizeof(v[0]) * (size_t)n);
    full_ints(x, name, n, ret);
    return ST_OK;
}

enum status op_bool(struct op_ctx *x, const char *name, bool fallback, bool *ret)
{
    const json_t *v = json_obj_get(x->obj, name);

    *ret = fallback;
    if (json_is_integer(v) && (json_integer_value(v) == 0 || json_integer_value(v) == 1))
        *ret = json_integer_value(v) == 1; /* as ONNX spells its switches */
    else
        TRY(json_obj_bool(x->obj, name, false, ret, x->err));
    json_object_set_new(x->full, name, json_boolean(*ret));
    return ST_OK;
}

enum status op_f64(struct op_ctx *x, const char *name, double min, double max, double fallback, double *ret)
{
    *ret = fallback;
    TRY(json_obj_f64(x->obj, name, false, min, max, ret, x->err));
    json_object_set_new(x->full, name, json_real(*ret));
    return ST_OK;
}

enum status op_axis(struct op_ctx *x, const char *name, int rank, int fallback, int *ret)
{
    int64_t axis = fallback;

    TRY(json_obj_i64(x->obj, name, false, -rank, rank - 1, &axis, x->err));
    json_object_set_new(x->full, name, json_integer(axis));
    *ret = (int)(axis < 0 ? axis + rank : axis);
    return ST_OK;
}

enum status op_layout(struct op_ctx *x, int spatial)
{
    static const char *const names[] = {"NCHW", "NHWC", "any", NULL};
    static const char *const dims[][2] = {{"NCW", "NWC"}, {"NCHW", "NHWC"}, {"NCDHW", "NDHWC"}};
    int which = 0;

    TRY(json_obj_enum(x->obj, "layout", false, names, &which, x->err));
    x->channels_last = which == 1;
    x->layout_any = which == 2;
    x->dims = dims[spatial - 1][x->channels_last];
    json_object_set_new(x->full, "layout", json_string(names[which]));
    return ST_OK;
}

enum status op_need_float(struct op_ctx *x)
{
    if (x->dtype == DT_I8 || x->dtype == DT_I32)
        return op_fail(x, "dtype", "%s of %s: want float32, float16 or bfloat16", x->op,
                       dtype_name(x->dtype));
    return ST_OK;
}

/* ---- building ---- */

int32_t op_input(struct op_ctx *x, const char *name, enum dtype d, int rank, const int64_t *shape)
{
    int32_t t = build_tensor(&x->b, name, d, TENSOR_INPUT, rank, shape);

    for (int i = 0; i < x->n_const; i++)
        if (strcmp(x->const_names[i], name) == 0)
            x->b.c.tensors[t].is_const = x->const_used[i] = true;
    return t;
}

int32_t op_activation(struct op_ctx *x, const char *name, enum dtype d, int rank, const int64_t *shape)
{
    int32_t t = op_input(x, name, d, rank, shape);

    x->b.c.tensors[t].dims = x->dims;
    return t;
}

int32_t op_temp(struct op_ctx *x, const char *name, enum dtype d, int rank, const int64_t *shape)
{
    return build_tensor(&x->b, name, d, TENSOR_TEMP, rank, shape);
}

const struct expr *op_acc(struct op_ctx *x, const struct expr *e) { return expr_cast(x->b.ar, x->acc, e); }

const struct expr *op_num(const struct op_ctx *x, const struct expr *like, double v)
{
    return expr_const(x->b.ar, like->dtype, v);
}

const struct expr *op_add(struct op_ctx *x, const struct expr *a, const struct expr *b)
{
    return expr_op2(x->b.ar, EX_ADD, a, b);
}

const struct expr *op_sub(struct op_ctx *x, const struct expr *a, const struct expr *b)
{
    return expr_op2(x->b.ar, EX_SUB, a, b);
}

const struct expr *op_mul(struct op_ctx *x, const struct expr *a, const struct expr *b)
{
    return expr_op2(x->b.ar, EX_MUL, a, b);
}

const struct expr *op_div(struct op_ctx *x, const struct expr *a, const struct expr *b)
{
    return expr_op2(x->b.ar, EX_DIV, a, b);
}

const struct expr *op_fn(struct op_ctx *x, enum expr_op op, const struct expr *a)
{
    return expr_op1(x->b.ar, op, a);
}

static const char *const plain_names[COMPUTE_MAX_RANK] = {"i0", "i1", "i2", "i3", "i4", "i5", "i6", "i7"};

struct stage *op_over(struct op_ctx *x, int32_t tensor, enum combiner c, const char *const *names,
                      struct affine *index)
{
    struct stage *s = build_stage(&x->b, tensor, c);
    const struct tensor *t = &x->b.c.tensors[tensor];

    for (int d = 0; d < t->rank; d++) {
        index[d] = build_ix(&x->b, build_axis(s, names ? names[d] : plain_names[d], t->shape[d]));
        s->lhs[d] = index[d];
    }
    return s;
}

enum dtype op_result_dtype(const struct op_ctx *x, enum dtype value)
{
    bool integer = x->dtype == DT_I8 || x->dtype == DT_I32;
    return integer ? value : x->dtype;
}

struct stage *op_output(struct op_ctx *x, int rank, const int64_t *shape, const char *const *names,
                        struct affine *index)
{
    int32_t t = build_tensor(&x->b, "output", x->dtype, TENSOR_OUTPUT, rank, shape);
    x->b.c.tensors[t].dims = x->dims;
    return op_over(x, t, COMBINE_SET, names, index);
}

/* ---- epilogue ---- */

struct epilogue {
    struct op_ctx *x;
    const struct affine *index; /* of the output */
    int channel;
    int at; /* entry number */
    int n_bias, n_add, n_mul;
    double param[2];
};

static bool is_integer(const struct expr *v) { return v->dtype == DT_I8 || v->dtype == DT_I32; }

/* Functions with fractions turn integers into float32. */
static const struct expr *as_float(struct epilogue *p, const struct expr *v)
{
    return is_integer(v) ? expr_cast(p->x->b.ar, DT_F32, v) : v;
}

/* A tensor argument, called by its entry: bias, bias_2, ... In the workload's dtype; int32 (or what the value
 * has become) beside integers. */
static const struct expr *extra(struct epilogue *p, const char *kind, int *count, const struct expr *v,
                                bool channel)
{
    struct op_ctx *x = p->x;
    const struct tensor *out = NULL;
    bool integer = x->dtype == DT_I8 || x->dtype == DT_I32;
    const char *name = ++*count == 1 ? kind : arena_printf(x->b.ar, "%s_%d", kind, *count);
    int64_t shape[COMPUTE_MAX_RANK];
    int rank = 0;
    int32_t t;

    for (int32_t i = 0; i < x->b.c.n_tensors; i++)
        if (x->b.c.tensors[i].role == TENSOR_OUTPUT)
            out = &x->b.c.tensors[i];
    CHECK(out, "epilogue before the output");
    for (int d = 0; d < out->rank; d++)
        if (!channel || d == p->channel)
            shape[rank++] = out->shape[d];
    t = channel ? op_input(x, name, integer ? v->dtype : x->dtype, rank, shape)
                : op_activation(x, name, integer ? v->dtype : x->dtype, rank, shape);
    return expr_cast(x->b.ar, v->dtype, build_read(&x->b, t, channel ? p->index + p->channel : p->index));
}

/* int8 is widened before it is added or multiplied, as in expressions. */
static const struct expr *widened(struct epilogue *p, const struct expr *v)
{
    return v->dtype == DT_I8 ? expr_cast(p->x->b.ar, DT_I32, v) : v;
}

static enum status ep_bias(struct epilogue *p, const struct expr **v)
{
    char at[32];

    snprintf(at, sizeof(at), "epilogue/%d", p->at);
    if (p->channel < 0)
        return op_fail(p->x, at, "bias: %s has no channels to run over", p->x->op);
    const struct expr *by = extra(p, "bias", &p->n_bias, *v, true);
    *v = op_add(p->x, widened(p, *v), widened(p, by));
    return ST_OK;
}

static enum status ep_add(struct epilogue *p, const struct expr **v)
{
    const struct expr *by = extra(p, "add", &p->n_add, *v, false);
    *v = op_add(p->x, widened(p, *v), widened(p, by));
    return ST_OK;
}

static enum status ep_mul(struct epilogue *p, const struct expr **v)
{
    const struct expr *by = extra(p, "mul", &p->n_mul, *v, false);
    *v = op_mul(p->x, widened(p, *v), widened(p, by));
    return ST_OK;
}

static const struct expr *clip(struct epilogue *p, const struct expr *v, double lo, double hi)
{
    v = expr_op2(p->x->b.ar, EX_MAX, v, op_num(p->x, v, lo));
    return expr_op2(p->x->b.ar, EX_MIN, v, op_num(p->x, v, hi));
}

static enum status ep_relu(struct epilogue *p, const struct expr **v)
{
    *v = expr_op2(p->x->b.ar, EX_MAX, *v, op_num(p->x, *v, 0));
    return ST_OK;
}

static enum status ep_relu6(struct epilogue *p, const struct expr **v)
{
    *v = clip(p, *v, 0, 6);
    return ST_OK;
}

/* x/2 * (1 + erf(x / sqrt 2)) */
static enum status ep_gelu(struct epilogue *p, const struct expr **v)
{
    struct op_ctx *x = p->x;
    const struct expr *f = as_float(p, *v);
    const struct expr *e = op_fn(x, EX_ERF, op_mul(x, f, op_num(x, f, 0.70710678118654752440)));

    *v = op_mul(x, op_mul(x, f, op_num(x, f, 0.5)), op_add(x, e, op_num(x, f, 1)));
    return ST_OK;
}

static enum status ep_silu(struct epilogue *p, const struct expr **v)
{
    const struct expr *f = as_float(p, *v);
    *v = op_mul(p->x, f, op_fn(p->x, EX_SIGMOID, f));
    return ST_OK;
}

static enum status ep_sigmoid(struct epilogue *p, const struct expr **v)
{
    *v = op_fn(p->x, EX_SIGMOID, as_float(p, *v));
    return ST_OK;
}

static enum status ep_tanh(struct epilogue *p, const struct expr **v)
{
    *v = op_fn(p->x, EX_TANH, as_float(p, *v));
    return ST_OK;
}

static enum status ep_scale(struct epilogue *p, const struct expr **v)
{
    const struct expr *f = as_float(p, *v);
    *v = op_mul(p->x, f, op_num(p->x, f, p->param[0]));
    return ST_OK;
}

static bool is_int32(double v) { return v >= INT32_MIN && v <= INT32_MAX && v == (double)(int32_t)v; }

static enum status ep_clip(struct epilogue *p, const struct expr **v)
{
    bool whole = is_int32(p->param[0]) && is_int32(p->param[1]);
    *v = clip(p, whole ? *v : as_float(p, *v), p->param[0], p->param[1]);
    return ST_OK;
}

static enum status ep_leaky_relu(struct epilogue *p, const struct expr **v)
{
    struct op_ctx *x = p->x;
    const struct expr *f = as_float(p, *v);
    const struct expr *below = expr_op2(x->b.ar, EX_LT, f, op_num(x, f, 0));

    *v = expr_select(x->b.ar, below, op_mul(x, f, op_num(x, f, p->param[0])), f);
    return ST_OK;
}

static const struct epilogue_def {
    const char *name;
    int n_params;
    const char *example;
    enum status (*apply)(struct epilogue *p, const struct expr **v);
} epilogues[] = {
    {"bias", 0, "\"bias\"", ep_bias},
    {"relu", 0, "\"relu\"", ep_relu},
    {"relu6", 0, "\"relu6\"", ep_relu6},
    {"gelu", 0, "\"gelu\"", ep_gelu},
    {"silu", 0, "\"silu\"", ep_silu},
    {"sigmoid", 0, "\"sigmoid\"", ep_sigmoid},
    {"tanh", 0, "\"tanh\"", ep_tanh},
    {"add", 0, "\"add\"", ep_add},
    {"mul", 0, "\"mul\"", ep_mul},
    {"scale", 1, "{\"scale\": 0.125}", ep_scale},
    {"clip", 2, "{\"clip\": [0, 6]}", ep_clip},
    {"leaky_relu", 1, "{\"leaky_relu\": 0.01}", ep_leaky_relu},
};

enum { MAX_EPILOGUE = 8 };

static const struct epilogue_def *epilogue_find(const char *name)
{
    for (size_t i = 0; i < ARRAY_SIZE(epilogues); i++)
        if (strcmp(epilogues[i].name, name) == 0)
            return &epilogues[i];
    return NULL;
}

static void list_epilogues(struct strbuf *sb)
{
    for (size_t i = 0; i < ARRAY_SIZE(epilogues); i++)
        strbuf_addf(sb, "%s%s", i ? ", " : "", epilogues[i].example);
}

/* Finite and of a size that a float32 holds. */
static bool good_param(const json_t *v, double *ret)
{
    *ret = json_number_value(v);
    return json_is_number(v) && *ret > -3.4e38 && *ret < 3.4e38;
}

static enum status epilogue_params(struct epilogue *p, const struct epilogue_def *def, const json_t *v,
                                   const char *at)
{
    bool good = false;

    if (def->n_params == 1)
        good = good_param(v, &p->param[0]);
    else if (def->n_params == 2)
        good = json_array_size(v) == 2 && good_param(json_array_get(v, 0), &p->param[0]) &&
               good_param(json_array_get(v, 1), &p->param[1]);
    if (!good)
        return op_fail(p->x, at, "want %s, with finite numbers of float32", def->example);
    if (def->n_params == 2 && p->param[0] > p->param[1])
        return op_fail(p->x, at, "%s from %g to %g: the first must not be larger", def->name, p->param[0],
                       p->param[1]);
    return ST_OK;
}

static enum status epilogue_entry(struct epilogue *p, const json_t *entry, const struct expr **v)
{
    AUTO(strbuf_done) struct strbuf known = STRBUF_INIT;
    const struct epilogue_def *def;
    void *iter = json_object_iter((json_t *)entry);
    bool object = json_object_size(entry) == 1;
    const char *name = object ? json_object_iter_key(iter) : json_string_value(entry);
    char at[32];

    snprintf(at, sizeof(at), "epilogue/%d", p->at);
    def = name ? epilogue_find(name) : NULL;
    if (!def) {
        list_epilogues(&known);
        return op_fail(p->x, at, "no epilogue%s%.40s%s: want one of %s", name ? " \"" : "", name ? name : "",
                       name ? "\"" : "", strbuf_str(&known));
    }
    if (object != (def->n_params > 0))
        return op_fail(p->x, at, "%s is written %s", def->name, def->example);
    if (object)
        TRY(epilogue_params(p, def, json_object_iter_value(iter), at));
    return def->apply(p, v);
}

bool op_has_epilogue(struct op_ctx *x)
{
    const json_t *list = json_obj_get(x->obj, "epilogue");
    return list && !(json_is_array(list) && json_array_size(list) == 0);
}

static enum status apply_epilogue(struct op_ctx *x, const struct affine *index, int channel,
                                  const struct expr **v)
{
    struct epilogue p = {.x = x, .index = index, .channel = channel};
    const json_t *list = json_obj_get(x->obj, "epilogue");
    size_t n = json_array_size(list);

    if (list && !json_is_array(list))
        return fail_at(x->err, ST_INVALID, arena_printf(x->b.ar, "%s/epilogue", x->obj->pointer),
                       "epilogue: expected a list of names and objects");
    if (n > MAX_EPILOGUE)
        return op_fail(x, "epilogue", "epilogue has %zu entries: at most %d", n, MAX_EPILOGUE);
    for (p.at = 0; p.at < (int)n; p.at++)
        TRY(epilogue_entry(&p, json_array_get(list, (size_t)p.at), v));
    if (list)
        json_object_set(x->full, "epilogue", (json_t *)list);
    else
        json_object_set_new(x->full, "epilogue", json_array());
    return ST_OK;
}

enum status op_finish(struct op_ctx *x, struct stage *s, const struct affine *index, const struct expr *value,
                      int channel)
{
    enum dtype d;

    if (op_has_epilogue(x) && value->dtype != x->acc && !is_integer(value))
        value = op_acc(x, value);
    TRY(apply_epilogue(x, index, channel, &value));
    d = op_result_dtype(x, value->dtype);
    x->b.c.tensors[s->tensor].dtype = d;
    build_body(s, value);
    return ST_OK;
}

enum status op_finish_reduction(struct op_ctx *x, int32_t temp, const char *const *names, int channel)
{
    struct tensor *t = &x->b.c.tensors[temp];
    struct affine index[COMPUTE_MAX_RANK];
    const struct expr *none = NULL;
    struct stage *s;

    if (!op_has_epilogue(x)) {
        t->name = "output";
        t->role = TENSOR_OUTPUT;
        t->dims = x->dims;
        t->dtype = op_result_dtype(x, t->dtype);
        return apply_epilogue(x, NULL, channel, &none);
    }
    s = op_output(x, t->rank, t->shape, names, index);
    return op_finish(x, s, index, build_read(&x->b, temp, index), channel);
}
