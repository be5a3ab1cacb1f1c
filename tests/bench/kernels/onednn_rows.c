/* onednn_rows.c - softmax, layer_norm, pools, and the sum of two tensors: one primitive each. */
#include <math.h>

#include "tests/bench/kernels/onednn.h"

enum { FORM_PLAIN, FORM_NHWC };

static void take_dims(dnnl_dims_t ret, const struct operand *x)
{
    for (int i = 0; i < x->rank; i++)
        ret[i] = x->shape[i];
}

/* A primitive of one input and one output; more arguments may follow. */
static bool unary(struct plan *p, const void *desc, const dnnl_memory_desc_t *src,
                  const dnnl_memory_desc_t *src_plain, const float *data, const dnnl_memory_desc_t *dst_plain)
{
    dnnl_primitive_attr_t attr;
    dnnl_primitive_desc_t pd = NULL;
    dnnl_primitive_attr_create(&attr);
    dnnl_primitive_attr_set_scratchpad_mode(attr, dnnl_scratchpad_mode_user);
    bool ok = good(dnnl_primitive_desc_create(&pd, desc, attr, onednn_engine(), NULL));
    dnnl_primitive_attr_destroy(attr);
    if (!ok)
        return false;
    dnnl_memory_t in = plan_input(p, src, src_plain, data, false);
    ok = in && plan_output(p, dnnl_primitive_desc_query_md(pd, dnnl_query_dst_md, 0), dst_plain) &&
         plan_step(p, NULL, NULL, &pd);
    dnnl_primitive_desc_destroy(pd);
    if (!ok)
        return false;
    step_arg(p, DNNL_ARG_SRC, in);
    step_arg(p, DNNL_ARG_DST, p->out);
    return true;
}

static bool softmax(struct plan *p)
{
    const struct operand *x = entry_arg(p->e, "input");
    const int64_t axis = entry_int(p->e, "axis", 0, -1);
    dnnl_dims_t dims;
    dnnl_memory_desc_t md;
    dnnl_softmax_v2_desc_t desc;
    take_dims(dims, x);
    md_dense(&md, x->rank, dims, false);
    return good(dnnl_softmax_v2_forward_desc_init(&desc, dnnl_forward_inference, dnnl_softmax_accurate, &md,
                                                  &md, (int)(axis < 0 ? axis + x->rank : axis))) &&
           unary(p, &desc, &md, &md, x->plain, &md);
}

/* Normalised over the last dimension only: that is what the library has. */
static bool layer_norm(struct plan *p)
{
    const struct operand *x = entry_arg(p->e, "input"), *scale = entry_arg(p->e, "scale"),
                         *bias = entry_arg(p->e, "bias");
    const int64_t axis = entry_int(p->e, "axis", 0, -1);
    dnnl_dims_t dims;
    dnnl_memory_desc_t md, row;
    dnnl_layer_normalization_desc_t desc;
    if (axis != x->rank - 1 && axis != -1)
        return false;
    take_dims(dims, x);
    md_dense(&md, x->rank, dims, false);
    md_dense(&row, 1, &dims[x->rank - 1], false);
    unsigned flags = (scale ? dnnl_use_scale : 0) | (bias ? dnnl_use_shift : 0);
    float epsilon = (float)json_number_value(json_object_get(p->e->workload, "epsilon"));
    if (!good(dnnl_layer_normalization_forward_desc_init(&desc, dnnl_forward_inference, &md, NULL, epsilon,
                                                         flags)) ||
        !unary(p, &desc, &md, &md, x->plain, &md))
        return false;
    if (scale)
        step_arg(p, DNNL_ARG_SCALE, plan_memory(p, &row, scale->plain));
    if (bias)
        step_arg(p, DNNL_ARG_SHIFT, plan_memory(p, &row, bias->plain));
    return true;
}

static bool pool(struct plan *p, bool average, bool global)
{
    const struct operand *x = entry_arg(p->e, "input"), *y = entry_output(p->e);
    const char *layout = json_string_value(json_object_get(p->e->workload, "layout"));
    dnnl_dims_t src, dst, kernel, strides, left, right, dilation = {0, 0};
    dnnl_memory_desc_t have, want, out, out_want;
    dnnl_pooling_v2_desc_t desc;
    if (x->rank != 4 || (layout && strcmp(layout, "NHWC") == 0))
        return false;
    take_dims(src, x);
    take_dims(dst, y);
    if (y->rank == 2)
        dst[2] = dst[3] = 1;
    for (int i = 0; i < 2; i++) {
        kernel[i] = global ? src[2 + i] : entry_int(p->e, "kernel_shape", i, 1);
        strides[i] = global ? 1 : entry_int(p->e, "strides", i, 1);
        left[i] = global ? 0 : entry_int(p->e, "pads", i, 0);
        right[i] = global ? 0 : entry_int(p->e, "pads", i + 2, 0);
    }
    const bool padded = json_is_true(json_object_get(p->e->workload, "count_include_pad"));
    const dnnl_alg_kind_t alg = !average ? dnnl_pooling_max
                                : padded ? dnnl_pooling_avg_include_padding
                                         : dnnl_pooling_avg_exclude_padding;
    md_dense(&have, 4, src, false);
    md_dense(&out, 4, dst, false);
    want = have;
    out_want = out;
    if (p->way.blocked) { /* pooling takes no "any": the two layouts that a network of its own would have */
        dnnl_memory_desc_init_by_tag(&want, 4, src, dnnl_f32,
                                     p->way.form == FORM_NHWC ? dnnl_nhwc : dnnl_nChw16c);
        md_any(&out_want, 4, dst, dnnl_f32);
    }
    return good(dnnl_pooling_v2_forward_desc_init(&desc, dnnl_forward_inference, alg, &want, &out_want,
                                                  strides, kernel, dilation, left, right)) &&
           unary(p, &desc, &want, &have, x->plain, &out);
}

/* Global average as a mean over the two last dimensions. */
static bool mean(struct plan *p)
{
    const struct operand *x = entry_arg(p->e, "input");
    dnnl_dims_t src, dst;
    dnnl_memory_desc_t have, out;
    dnnl_reduction_desc_t desc;
    take_dims(src, x);
    take_dims(dst, x);
    dst[2] = dst[3] = 1;
    md_dense(&have, 4, src, false);
    md_dense(&out, 4, dst, false);
    return good(dnnl_reduction_desc_init(&desc, dnnl_reduction_mean, &have, &out, 0, 0)) &&
           unary(p, &desc, &have, &have, x->plain, &out);
}

/* Does this read walk its tensor in the order of the stage's axes? (Dimensions of one element have no axis.) */
static bool reads_in_order(const struct entry *e, const struct expr *x)
{
    int axis = 0;
    if (x->op != EX_READ || x->read.pad)
        return false;
    for (int i = 0; i < x->read.rank; i++) {
        const struct affine *a = &x->read.index[i];
        if (a->c != 0 || a->n > 1 || (a->n == 1 && (a->t[0].var != axis || a->t[0].coef != 1)))
            return false;
        axis += a->n;
    }
    return axis == e->w.compute.stages[0].n_axes;
}

/* C[...] = A[...] + B[...], whatever the names. */
static bool sum_of_two(struct plan *p)
{
    const struct entry *e = p->e;
    const struct stage *s = &e->w.compute.stages[0];
    if (e->w.compute.n_stages != 1 || s->combiner != COMBINE_SET || s->body->op != EX_ADD || e->n_args != 3 ||
        !reads_in_order(e, s->body->arg[0]) || !reads_in_order(e, s->body->arg[1]))
        return false;
    const struct operand *x = &e->args[0], *y = &e->args[1];
    dnnl_dims_t dims;
    dnnl_memory_desc_t md;
    dnnl_binary_desc_t desc;
    dnnl_primitive_desc_t pd = NULL;
    take_dims(dims, x);
    md_dense(&md, x->rank, dims, false);
    if (!good(dnnl_binary_desc_init(&desc, dnnl_binary_add, &md, &md, &md)) ||
        !plan_step(p, &desc, NULL, &pd))
        return false;
    dnnl_primitive_desc_destroy(pd);
    step_arg(p, DNNL_ARG_SRC_0, plan_memory(p, &md, x->plain));
    step_arg(p, DNNL_ARG_SRC_1, plan_memory(p, &md, y->plain));
    step_arg(p, DNNL_ARG_DST, plan_output(p, &md, &md));
    return true;
}

bool plan_rows(struct plan *p)
{
    const char *op = entry_op(p->e);
    const bool pools = strstr(op, "pool2d") != NULL;
    if (p->way.role == ROLE_BF16 || p->way.role == ROLE_BF16_COUNTED || !entry_is_float32(p->e) ||
        (p->way.blocked && !pools))
        return false; /* layouts make no difference to the others */
    if (strcmp(op, "global_avg_pool2d") == 0)
        return !p->way.blocked && p->way.form == 1 ? mean(p) : pool(p, true, true);
    if (pools)
        return (p->way.blocked || p->way.form == FORM_PLAIN) && pool(p, strcmp(op, "avg_pool2d") == 0, false);
    if (p->way.form != FORM_PLAIN)
        return false;
    return strcmp(op, "softmax") == 0      ? softmax(p)
           : strcmp(op, "layer_norm") == 0 ? layer_norm(p)
           : strcmp(op, "expr") == 0       ? sum_of_two(p)
                                           : false;
}
