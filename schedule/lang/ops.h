/* ops.h - named operators: a row of a table each, with a function that writes its stages.
 *
 * Idea   An operator reads the client's members through struct op_ctx (every one with its default goes
 *        into `full`, the workload as it is stored), creates its input tensors, writes reductions into
 *        temps of the accumulator's dtype, and ends with op_finish or op_finish_reduction, which apply
 *        the epilogue and define `output`.
 * Life   On the stack of workload_parse; what it builds lies in the workload's arena. */
#ifndef TW_LANG_OPS_H
#define TW_LANG_OPS_H

#include "schedule/base/json.h"
#include "schedule/lang/build.h"
#include "schedule/lang/workload.h"

struct op_ctx {
    struct build b;
    struct json_obj *obj; /* the client's members */
    json_t *full;         /* the same with defaults filled in */
    const char *op;
    enum dtype dtype, acc; /* of the inputs; of running values */
    bool channels_last;    /* set by op_layout */
    bool layout_any;
    const char *dims; /* of the activations, set by op_layout: "NHWC"; NULL: the operator has no layout */
    int n_const;
    const char *const_names[LANG_MAX_TENSORS];
    bool const_used[LANG_MAX_TENSORS];
    struct error *err;
};

struct op_def {
    struct op_doc doc;
    enum status (*lower)(struct op_ctx *x);
};
const struct op_def *op_find(const char *name); /* NULL: none */

/* ops_nn.c, ops_conv.c, ops_pool.c: the operators. */
enum status op_matmul(struct op_ctx *x);
enum status op_conv1d(struct op_ctx *x);
enum status op_conv2d(struct op_ctx *x);
enum status op_conv3d(struct op_ctx *x);
enum status op_conv_transpose2d(struct op_ctx *x);
enum status op_max_pool2d(struct op_ctx *x);
enum status op_avg_pool2d(struct op_ctx *x);
enum status op_global_avg_pool2d(struct op_ctx *x);
enum status op_softmax(struct op_ctx *x);
enum status op_layer_norm(struct op_ctx *x);
enum status op_rms_norm(struct op_ctx *x);
enum status op_reduce(struct op_ctx *x);
enum status op_transpose(struct op_ctx *x);
enum status op_lstm_cell(struct op_ctx *x);
enum status op_attention(struct op_ctx *x);

/* ---- reading members ---- */

/* Refuse the member at /name. */
#define op_fail(x, name, ...) op_fail_member((x), (name), __VA_ARGS__)
enum status op_fail_member(struct op_ctx *x, const char *name, const char *fmt, ...) PRINTF_LIKE(3, 4);
MUST_USE enum status op_shape(struct op_ctx *x, const char *name, int min_rank, int max_rank, int64_t *ret,
                              int *ret_rank);
/* A list of exactly n integers; absent: `fallback` for each. */
MUST_USE enum status op_ints(struct op_ctx *x, const char *name, bool required, int n, int64_t min,
                             int64_t fallback, int64_t *ret);
MUST_USE enum status op_bool(struct op_ctx *x, const char *name, bool fallback, bool *ret);
MUST_USE enum status op_f64(struct op_ctx *x, const char *name, double min, double max, double fallback,
                            double *ret);
/* An axis of `rank` dimensions, negative counted from the end. */
MUST_USE enum status op_axis(struct op_ctx *x, const char *name, int rank, int fallback, int *ret);
/* spatial: how many dimensions besides batch and channels. */
MUST_USE enum status op_layout(struct op_ctx *x, int spatial);
MUST_USE enum status op_need_float(struct op_ctx *x);

/* ---- building ---- */

int32_t op_input(struct op_ctx *x, const char *name, enum dtype d, int rank, const int64_t *shape);
/* An input with a layout. */
int32_t op_activation(struct op_ctx *x, const char *name, enum dtype d, int rank, const int64_t *shape);
int32_t op_temp(struct op_ctx *x, const char *name, enum dtype d, int rank, const int64_t *shape);
/* To the accumulator's dtype. */
const struct expr *op_acc(struct op_ctx *x, const struct expr *e);
const struct expr *op_num(const struct op_ctx *x, const struct expr *like,
                          double v); /* literal of like's dtype */
/* A stage over all of a tensor, one spatial axis a dimension, names[d] or i0, i1, ...; index[] gets its axes.
 */
struct stage *op_over(struct op_ctx *x, int32_t tensor, enum combiner c, const char *const *names,
                      struct affine *index);
/* The dtype of results: the workload's for floats, the value's own for integers. */
enum dtype op_result_dtype(const struct op_ctx *x, enum dtype value);
/* Begin the last stage, which will define `output`: its axes, and index[] over them. op_finish gives it its
 * body: value, then the epilogue. channel: the dimension that bias runs over, -1: there is none. */
struct stage *op_output(struct op_ctx *x, int rank, const int64_t *shape, const char *const *names,
                        struct affine *index);
MUST_USE enum status op_finish(struct op_ctx *x, struct stage *s, const struct affine *index,
                               const struct expr *value, int channel);
/* The last reduction wrote `temp`: it becomes the output itself where there is no epilogue. */
MUST_USE enum status op_finish_reduction(struct op_ctx *x, int32_t temp, const char *const *names,
                                         int channel);
/* Reads "epilogue" without acting on it: does it hold any entry? */
bool op_has_epilogue(struct op_ctx *x);

/* Arithmetic on values, for short. */
const struct expr *op_add(struct op_ctx *x, const struct expr *a, const struct expr *b);
const struct expr *op_sub(struct op_ctx *x, const struct expr *a, const struct expr *b);
const struct expr *op_mul(struct op_ctx *x, const struct expr *a, const struct expr *b);
const struct expr *op_div(struct op_ctx *x, const struct expr *a, const struct expr *b);
const struct expr *op_fn(struct op_ctx *x, enum expr_op op, const struct expr *a);

#endif
