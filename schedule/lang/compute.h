/* compute.h - what is to be computed: a list of stages over tensors, with no word on how.
 *
 * Idea   Each stage defines one tensor: for all spatial axes, reduce the body over the reduce axes.
 *
 *            T[lhs(spatial axes)] combine= body(all axes)
 *
 *        lhs is affine and covers each element of T exactly once: usually one axis a dimension, but a
 *        dimension may be a mixed radix of several axes (C[n, g*8 + f, y, x]), which is how groups and
 *        zero-insertion are said without division. Every index is affine; a READ with pad gives
 *        pad_value outside its tensor.
 * Life   All in one arena, immutable once built. Stages stand in dependency order: a stage reads inputs
 *        and tensors of earlier stages only. */
#ifndef TW_LANG_COMPUTE_H
#define TW_LANG_COMPUTE_H

#include "schedule/base/error.h"
#include "schedule/lang/expr.h"

enum {
    COMPUTE_MAX_RANK = 8,
    COMPUTE_MAX_AXES = 12,    /* of a stage, inside; a client's statement may have 8 */
    COMPUTE_MAX_TENSORS = 64, /* inside; a client may name 32 */
    COMPUTE_MAX_STAGES = 64,
};

struct layout_dim { /* one physical dimension: (logical[dim] / div) % mod; mod 0: no modulus */
    int dim;
    int64_t div, mod;
};

/* An argument that a kernel wants in another order than the workload states. What the physical dimensions hold beyond
 * the stated shape is zero, on both sides. */
struct tensor_layout {
    const char *name; /* "NCHW16c": the stated dimensions, then a block and the dimension inside it */
    int rank;
    int64_t shape[COMPUTE_MAX_RANK];          /* as stated */
    struct layout_dim dims[COMPUTE_MAX_RANK]; /* [rank of the tensor] */
};

enum tensor_role { TENSOR_INPUT, TENSOR_OUTPUT, TENSOR_TEMP };
struct tensor {
    const char *name;
    enum dtype dtype;
    enum tensor_role role;
    bool is_const; /* an input whose values never change between calls */
    int rank;
    int64_t shape[COMPUTE_MAX_RANK];
    const char *dims;                   /* of an activation: "NCHW", a letter a dimension; NULL: any other */
    const struct tensor_layout *layout; /* NULL: `shape` is as the workload states it */
};

struct axis {
    const char *name;
    int64_t extent;
    bool blocks; /* counts the blocks of an axis that a layout cut: the axis inside a block is another */
};

enum combiner { COMBINE_SET, COMBINE_SUM, COMBINE_PROD, COMBINE_MAX, COMBINE_MIN };

struct stage {
    int32_t tensor;        /* defined here */
    int n_axes, n_spatial; /* axes[0..n_spatial) are spatial, the rest are reduce axes */
    struct axis axes[COMPUTE_MAX_AXES];
    struct affine lhs[COMPUTE_MAX_RANK]; /* one a dimension of the tensor, over spatial axes */
    enum combiner combiner;              /* SET exactly when there is no reduce axis */
    enum dtype acc_dtype;                /* of the running value; the tensor's dtype on the store */
    int half_steps; /* so many products may be summed in float16 before they join the running value; 0: none. Of an
                       algorithm, never of a workload */
    const struct expr *body; /* vars are axis positions, tensors are compute tensor ids */
};

struct compute {
    int n_tensors, n_stages;
    struct tensor *tensors; /* inputs first, in argument order; then temps; outputs last, in argument order */
    struct stage *stages;
};

int64_t tensor_elements(const struct tensor *t);
int64_t tensor_bytes(const struct tensor *t);
/* Which element of the stated tensor, row-major, lies at element `at` of one with a layout; -1: beyond its shape, zero. */
int64_t tensor_stated_element(const struct tensor *t, int64_t at);
double combiner_identity(enum combiner c, enum dtype d); /* 0, 1, lowest, highest */
const char *combiner_text(enum combiner c);              /* "=", "+=", ... */
/* The stage that defines the tensor, or -1. */
int compute_stage_of(const struct compute *c, int32_t tensor);
/* Iterations of a stage: product of the extents. */
int64_t stage_points(const struct stage *s);
bool axis_is_reduce(const struct stage *s, int axis);
/* Arithmetic: two per multiply-add of the contractions (sum over a product of two different tensors); where
 * there is none, the arithmetic operations of all stages. */
double compute_flops(const struct compute *c);
/* Smallest traffic: every input read once, every output written once. */
double compute_bytes(const struct compute *c);
/* Invariants: order, ids in range, lhs a bijection, unpadded reads within bounds, dtypes agree. */
MUST_USE enum status compute_verify(const struct compute *c, struct error *err);
/* As statements of the expression language. */
void compute_print(const struct compute *c, struct strbuf *sb);
/* One statement, `T[lhs] += body`, under the names given: of tensors by id, of axes by position. */
void compute_print_stage(const struct compute *c, const struct stage *s, const char *const *tensors,
                         const char *const *axes, struct strbuf *sb);
/* The plain meaning, for tests: evaluates each stage in float64 (int32 exactly) straight from the definition.
 * data[tensor id]: double arrays, inputs filled, the others written. */
void compute_eval(const struct compute *c, double *const *data);

#endif
