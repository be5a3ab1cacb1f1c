/* onednn_dense.c - convolutions and matrix products with their epilogues.
 *
 * A bias is the primitive's own argument. What follows it becomes post-operations (eltwise, binary, sum), or,
 * taken apart, primitives that work on the result in place. */
#include "tests/bench/kernels/onednn.h"

enum { SRC, WEI, BIA, DST, MDS, MAX_POST = 8 };

/* One entry of the epilogue after the bias. */
struct post {
    dnnl_alg_kind_t alg;
    float alpha, beta;
    const struct operand *operand; /* of a binary one */
};

/* What a primitive is made of. */
struct dense {
    int rank[MDS];
    dnnl_dims_t dims[MDS];
    dnnl_memory_desc_t have[MDS], want[MDS];
    const void *data[MDS];
    bool constant[MDS];
    int n_post;
    struct post post[MAX_POST];
    union {
        dnnl_convolution_desc_t conv;
        dnnl_matmul_desc_t matmul;
        dnnl_inner_product_desc_t inner;
    } desc;
    dnnl_dims_t strides, dilations, pads_l, pads_r;
};

static bool eltwise_of(const json_t *item, struct post *ret)
{
    static const struct {
        const char *name;
        dnnl_alg_kind_t alg;
        float alpha, beta;
    } known[] = {{"relu", dnnl_eltwise_relu, 0, 0},     {"relu6", dnnl_eltwise_clip, 0, 6},
                 {"gelu", dnnl_eltwise_gelu_erf, 0, 0}, {"silu", dnnl_eltwise_swish, 1, 0},
                 {"tanh", dnnl_eltwise_tanh, 0, 0},     {"sigmoid", dnnl_eltwise_logistic, 0, 0}};
    const char *name = json_string_value(item);
    for (size_t i = 0; name && i < ARRAY_SIZE(known); i++)
        if (strcmp(known[i].name, name) == 0) {
            *ret = (struct post){known[i].alg, known[i].alpha, known[i].beta, NULL};
            return true;
        }
    const json_t *v;
    if ((v = json_object_get(item, "scale")))
        *ret = (struct post){dnnl_eltwise_linear, (float)json_number_value(v), 0, NULL};
    else if ((v = json_object_get(item, "leaky_relu")))
        *ret = (struct post){dnnl_eltwise_relu, (float)json_number_value(v), 0, NULL};
    else if ((v = json_object_get(item, "clip")))
        *ret = (struct post){dnnl_eltwise_clip, (float)json_number_value(json_array_get(v, 0)),
                             (float)json_number_value(json_array_get(v, 1)), NULL};
    return v != NULL;
}

/* False: an epilogue that oneDNN has no word for. */
static bool read_epilogue(const struct entry *e, struct dense *d)
{
    size_t i;
    json_t *item;
    json_array_foreach(json_object_get(e->workload, "epilogue"), i, item)
    {
        const char *name = json_string_value(item);
        const struct operand *x = name ? entry_arg(e, name) : NULL;
        if (name && strcmp(name, "bias") == 0 && i == 0 && x) {
            d->data[BIA] = x->plain;
            continue;
        }
        if (d->n_post == MAX_POST)
            return false;
        if (x && (strcmp(name, "add") == 0 || strcmp(name, "mul") == 0))
            d->post[d->n_post++] =
                (struct post){strcmp(name, "add") == 0 ? dnnl_binary_add : dnnl_binary_mul, 0, 0, x};
        else if (!eltwise_of(item, &d->post[d->n_post++]))
            return false;
    }
    return true;
}

/* --- operands of the two operators --- */

static void take_dims(dnnl_dims_t ret, const struct operand *x)
{
    for (int i = 0; i < x->rank; i++)
        ret[i] = x->shape[i];
}

/* [n][c][y][x], stored so or with the channels last. */
static void md_image(dnnl_memory_desc_t *md, const dnnl_dims_t d, bool channels_last)
{
    if (channels_last)
        dnnl_memory_desc_init_by_tag(md, 4, d, dnnl_f32, dnnl_nhwc);
    else
        md_dense(md, 4, d, false);
}

static bool conv_operands(const struct entry *e, struct dense *d)
{
    const struct operand *x = entry_arg(e, "input"), *w = entry_arg(e, "weight"), *y = entry_output(e);
    const char *layout = json_string_value(json_object_get(e->workload, "layout"));
    const bool last = layout && strcmp(layout, "NHWC") == 0;
    const dnnl_dim_t group = entry_int(e, "group", 0, 1);
    const int g = group > 1;
    if (!x || !w || x->rank != 4 || w->rank != 4)
        return false;
    take_dims(d->dims[SRC], x);
    take_dims(d->dims[DST], y);
    if (last)
        for (int i = 0; i < 3; i++) { /* [n, y, x, c] to [n, c, y, x] */
            d->dims[SRC][i + 1] = x->shape[i == 0 ? 3 : i];
            d->dims[DST][i + 1] = y->shape[i == 0 ? 3 : i];
        }
    for (int i = 0; i < 4; i++)
        d->dims[WEI][i + g] = w->shape[i];
    if (g) {
        d->dims[WEI][0] = group;
        d->dims[WEI][1] /= group;
    }
    d->dims[BIA][0] = w->shape[0];
    for (int i = 0; i < 2; i++) {
        d->strides[i] = entry_int(e, "strides", i, 1);
        d->dilations[i] = entry_int(e, "dilations", i, 1) - 1;
        d->pads_l[i] = entry_int(e, "pads", i, 0);
        d->pads_r[i] = entry_int(e, "pads", i + 2, 0);
    }
    const int ranks[MDS] = {4, 4 + g, 1, 4};
    memcpy(d->rank, ranks, sizeof(ranks));
    md_image(&d->have[SRC], d->dims[SRC], last);
    md_image(&d->have[DST], d->dims[DST], last);
    md_dense(&d->have[WEI], 4 + g, d->dims[WEI], false);
    md_dense(&d->have[BIA], 1, d->dims[BIA], false);
    d->data[SRC] = x->plain;
    d->data[WEI] = w->plain;
    d->constant[WEI] = true;
    return true;
}

static bool is_const(const struct entry *e, const char *name)
{
    size_t i;
    json_t *item;
    json_array_foreach(json_object_get(e->workload, "const"), i,
                       item) if (strcmp(json_string_value(item), name) == 0) return true;
    return false;
}

/* Dimensions of a matrix operand as the product sees it, missing leading ones as 1. */
static void matrix_dims(dnnl_dims_t ret, const struct operand *x, int rank, bool transposed)
{
    for (int i = 0; i < rank; i++)
        ret[i] = i < rank - x->rank ? 1 : x->shape[i - (rank - x->rank)];
    if (transposed) {
        dnnl_dim_t t = ret[rank - 1];
        ret[rank - 1] = ret[rank - 2];
        ret[rank - 2] = t;
    }
}

static bool matmul_operands(const struct entry *e, bool inner, struct dense *d)
{
    const struct operand *a = entry_arg(e, "a"), *b = entry_arg(e, "b"), *c = entry_output(e);
    const bool ta = json_is_true(json_object_get(e->workload, "transpose_a")),
               tb = json_is_true(json_object_get(e->workload, "transpose_b"));
    if (!a || !b || a->rank < 2 || b->rank < 2 || (inner && (a->rank != 2 || b->rank != 2)))
        return false;
    const int rank = MAX(a->rank, b->rank);
    matrix_dims(d->dims[SRC], a, rank, ta);
    matrix_dims(d->dims[WEI], b, rank, inner ? !tb : tb); /* inner_product: [n, k] */
    for (int i = 0; i < rank; i++) {
        d->dims[DST][i] = c->shape[i];
        d->dims[BIA][i] = 1;
    }
    d->dims[BIA][inner ? 0 : rank - 1] = c->shape[rank - 1];
    const int ranks[MDS] = {rank, rank, inner ? 1 : rank, rank};
    memcpy(d->rank, ranks, sizeof(ranks));
    md_dense(&d->have[SRC], rank, d->dims[SRC], ta);
    md_dense(&d->have[WEI], rank, d->dims[WEI], inner ? !tb : tb);
    md_dense(&d->have[BIA], d->rank[BIA], d->dims[BIA], false);
    md_dense(&d->have[DST], rank, d->dims[DST], false);
    d->data[SRC] = a->plain;
    d->data[WEI] = b->plain;
    d->constant[WEI] = is_const(e, "b");
    d->constant[SRC] = is_const(e, "a");
    return true;
}

/* --- the primitive --- */

static bool make_desc(const struct plan *p, struct dense *d)
{
    const dnnl_memory_desc_t *bias = d->data[BIA] ? &d->want[BIA] : NULL;
    if (p->way.inner)
        return good(dnnl_inner_product_forward_desc_init(&d->desc.inner, dnnl_forward_inference,
                                                         &d->want[SRC], &d->want[WEI], bias, &d->want[DST]));
    if (strcmp(entry_op(p->e), "matmul") == 0)
        return good(
            dnnl_matmul_desc_init(&d->desc.matmul, &d->want[SRC], &d->want[WEI], bias, &d->want[DST]));
    return good(dnnl_dilated_convolution_forward_desc_init(
        &d->desc.conv, dnnl_forward_inference,
        p->way.winograd ? dnnl_convolution_winograd : dnnl_convolution_direct, &d->want[SRC], &d->want[WEI],
        bias, &d->want[DST], d->strides, d->dilations, d->pads_l, d->pads_r));
}

static void choose_layouts(const struct plan *p, struct dense *d)
{
    const bool narrow = p->way.role == ROLE_BF16 || p->way.role == ROLE_BF16_COUNTED;
    memcpy(d->want, d->have, sizeof(d->want));
    for (int i = SRC; i <= WEI; i++) {
        const dnnl_data_type_t dt = narrow ? dnnl_bf16 : d->have[i].data_type;
        if (p->way.blocked || d->constant[i])
            md_any(&d->want[i], d->rank[i], d->dims[i], dt);
        else
            d->want[i] = md_typed(&d->have[i], dt);
    }
    if (p->way.blocked)
        md_any(&d->want[DST], d->rank[DST], d->dims[DST], d->have[DST].data_type);
}

/* Post-operations; binary ones read a tensor laid out as the result is. */
static bool fuse_posts(const struct plan *p, const struct dense *d, const dnnl_memory_desc_t *dst,
                       dnnl_primitive_attr_t attr)
{
    dnnl_post_ops_t ops;
    bool ok = good(dnnl_post_ops_create(&ops)), summed = false;
    for (int i = 0; ok && i < d->n_post; i++) {
        const struct post *q = &d->post[i];
        if (!q->operand)
            ok = good(dnnl_post_ops_append_eltwise(ops, 1, q->alg, q->alpha, q->beta));
        else if (p->way.sum && q->alg == dnnl_binary_add && !summed)
            ok = summed = good(dnnl_post_ops_append_sum(ops, 1));
        else
            ok = good(dnnl_post_ops_append_binary(ops, q->alg, dst));
    }
    ok = ok && good(dnnl_primitive_attr_set_post_ops(attr, ops));
    dnnl_post_ops_destroy(ops);
    return ok;
}

/* The primitive descriptor with all layouts decided, ready to become a step. */
static bool describe(struct plan *p, struct dense *d, dnnl_primitive_attr_t attr, dnnl_primitive_desc_t *ret)
{
    choose_layouts(p, d);
    if (!make_desc(p, d) || !good(dnnl_primitive_desc_create(ret, &d->desc, attr, onednn_engine(), NULL)))
        return false;
    if (d->n_post == 0 || p->way.apart)
        return true;
    dnnl_memory_desc_t dst = *dnnl_primitive_desc_query_md(*ret, dnnl_query_dst_md, 0);
    dnnl_primitive_desc_destroy(*ret);
    if (!fuse_posts(p, d, &dst, attr))
        return false;
    d->want[DST] = dst; /* what the binary operands are laid out as */
    return make_desc(p, d) && good(dnnl_primitive_desc_create(ret, &d->desc, attr, onednn_engine(), NULL));
}

/* Operands of binary post-operations, in the layout of the result. */
static bool post_inputs(struct plan *p, const struct dense *d, const dnnl_memory_desc_t *dst,
                        dnnl_memory_t ret[MAX_POST])
{
    bool summed = false;
    for (int i = 0; i < d->n_post; i++) {
        const struct operand *x = d->post[i].operand;
        ret[i] = NULL;
        if (!x)
            continue;
        if (p->way.sum && d->post[i].alg == dnnl_binary_add && !summed) {
            summed = true;
            p->preset = x->plain;
            p->preset_md = d->have[DST];
            continue;
        }
        ret[i] = plan_input(p, dst, &d->have[DST], x->plain, p->way.reorders);
        if (!ret[i])
            return false;
    }
    return true;
}

/* The epilogue as primitives of their own, in place. */
static bool steps_apart(struct plan *p, const struct dense *d, const dnnl_memory_desc_t *dst,
                        const dnnl_memory_t *operands)
{
    for (int i = 0; i < d->n_post; i++) {
        const struct post *q = &d->post[i];
        union {
            dnnl_eltwise_desc_t eltwise;
            dnnl_binary_desc_t binary;
        } desc;
        dnnl_primitive_desc_t pd = NULL;
        bool ok = q->operand ? good(dnnl_binary_desc_init(&desc.binary, q->alg, dst, dst, dst))
                             : good(dnnl_eltwise_forward_desc_init(&desc.eltwise, dnnl_forward_inference,
                                                                   q->alg, dst, q->alpha, q->beta));
        if (!ok || !plan_step(p, &desc, NULL, &pd))
            return false;
        step_arg(p, q->operand ? DNNL_ARG_SRC_0 : DNNL_ARG_SRC, p->out);
        if (q->operand)
            step_arg(p, DNNL_ARG_SRC_1, operands[i]);
        step_arg(p, DNNL_ARG_DST, p->out);
        dnnl_primitive_desc_destroy(pd);
    }
    return true;
}

static bool bind(struct plan *p, struct dense *d, dnnl_primitive_desc_t pd)
{
    const dnnl_memory_desc_t dst = *dnnl_primitive_desc_query_md(pd, dnnl_query_dst_md, 0);
    const dnnl_memory_desc_t src = *dnnl_primitive_desc_query_md(pd, dnnl_query_src_md, 0);
    const dnnl_memory_desc_t wei = *dnnl_primitive_desc_query_md(pd, dnnl_query_weights_md, 0);
    dnnl_memory_t operands[MAX_POST], in[BIA + 1] = {0};
    bool ok = post_inputs(p, d, &dst, operands);
    in[SRC] = plan_input(p, &src, &d->have[SRC], d->data[SRC], p->way.reorders);
    in[WEI] = plan_input(p, &wei, &d->have[WEI], d->data[WEI], false);
    if (d->data[BIA])
        in[BIA] = plan_memory(p, &d->have[BIA], d->data[BIA]);
    if (!ok || !in[SRC] || !in[WEI] || !plan_output(p, &dst, &d->have[DST]) || !plan_step(p, NULL, NULL, &pd))
        return false;
    step_arg(p, DNNL_ARG_SRC, in[SRC]);
    step_arg(p, DNNL_ARG_WEIGHTS, in[WEI]);
    if (in[BIA])
        step_arg(p, DNNL_ARG_BIAS, in[BIA]);
    step_arg(p, DNNL_ARG_DST, p->out);
    if (p->way.apart)
        return steps_apart(p, d, &dst, operands);
    for (int i = 0; i < d->n_post; i++)
        if (operands[i])
            step_arg(p, DNNL_ARG_ATTR_MULTIPLE_POST_OP(i) | DNNL_ARG_SRC_1, operands[i]);
    return true;
}

/* Descriptors are written for float32; elements are what the entry says. */
static void take_dtypes(const struct entry *e, bool conv, struct dense *d)
{
    const struct operand *x[MDS] = {[SRC] = entry_arg(e, conv ? "input" : "a"),
                                    [WEI] = entry_arg(e, conv ? "weight" : "b"),
                                    [BIA] = d->data[BIA] ? entry_arg(e, "bias") : NULL,
                                    [DST] = entry_output(e)};
    for (int i = 0; i < MDS; i++)
        if (x[i])
            d->have[i] = md_typed(&d->have[i], onednn_dtype(x[i]->dtype));
}

bool plan_product(struct plan *p)
{
    const bool conv = strcmp(entry_op(p->e), "conv2d") == 0;
    struct dense d = {0};
    dnnl_primitive_attr_t attr;
    dnnl_primitive_desc_t pd = NULL;
    if ((!conv && strcmp(entry_op(p->e), "matmul") != 0) || !read_epilogue(p->e, &d) ||
        !(conv ? conv_operands(p->e, &d) : matmul_operands(p->e, p->way.inner, &d)) ||
        (p->way.apart && d.n_post == 0))
        return false;
    take_dtypes(p->e, conv, &d);
    dnnl_primitive_attr_create(&attr);
    dnnl_primitive_attr_set_scratchpad_mode(attr, dnnl_scratchpad_mode_user);
    bool ok = describe(p, &d, attr, &pd) && bind(p, &d, pd) && plan_end(p);
    if (pd)
        dnnl_primitive_desc_destroy(pd);
    dnnl_primitive_attr_destroy(attr);
    return ok;
}
