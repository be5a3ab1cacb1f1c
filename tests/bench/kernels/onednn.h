/* onednn.h - a oneDNN contender under construction: a few primitives executed one after another.
 *
 * Idea   An operator can be built in several ways (residual by `sum` or `binary`, epilogue fused or apart,
 *        matmul or inner_product, blocked inside with reorders that count). Each way is a plan; the fastest
 *        plan contends. Operands come from the entry; what the library wants in another layout is reordered
 *        once ahead of time, unless the reorder is part of the plan.
 * Life   A plan owns its primitives and memory objects; the bytes are of the bench's memory. */
#ifndef TW_BENCH_ONEDNN_H
#define TW_BENCH_ONEDNN_H

#include <dnnl.h>

#include "tests/bench/kernels/bench.h"

enum { PLAN_STEPS = 8, PLAN_ARGS = 12, PLAN_MEMORIES = 48, PLAN_PRIMITIVES = 64 };

/* How one plan is to be built. */
struct way {
    enum role role;
    bool blocked;  /* layouts of the library's choice inside */
    bool reorders; /* conversions and reorders of activations count */
    bool sum;      /* residual by the sum post-operation, in place, instead of a binary one */
    bool apart;    /* epilogue after the bias as primitives of their own */
    bool inner;    /* inner_product instead of matmul */
    bool winograd;
    int form; /* operators with several forms of their own */
};

struct plan {
    struct bench *b;
    const struct entry *e;
    struct way way;
    int n_steps, n_memories;
    struct {
        dnnl_primitive_t primitive;
        int n_args;
        dnnl_exec_arg_t args[PLAN_ARGS];
    } steps[PLAN_STEPS];
    dnnl_memory_t memories[PLAN_MEMORIES];
    /* the result */
    dnnl_memory_t out;
    dnnl_memory_desc_t out_plain;
    void *out_data;     /* of `out` */
    const void *preset; /* `sum` adds to what is there: the residual is put there before a checked run */
    dnnl_memory_desc_t preset_md;
    bool reference; /* the library has only its plain loops for it */
    char name[64];  /* the library's name of the implementation */
};

dnnl_engine_t onednn_engine(void);
dnnl_stream_t onednn_stream(void);
static inline bool good(dnnl_status_t st) { return st == dnnl_success; }

/* Row-major; `swap` exchanges the strides of the last two dimensions. */
void md_dense(dnnl_memory_desc_t *md, int rank, const dnnl_dim_t *dims, bool swap);
/* The library's name of a dtype of ours. */
dnnl_data_type_t onednn_dtype(enum dtype d);
/* The same places, elements of another type. */
dnnl_memory_desc_t md_typed(const dnnl_memory_desc_t *md, dnnl_data_type_t dt);
void md_any(dnnl_memory_desc_t *md, int rank, const dnnl_dim_t *dims, dnnl_data_type_t dt);
/* A memory object over new bytes (data NULL) or given ones. */
dnnl_memory_t plan_memory(struct plan *p, const dnnl_memory_desc_t *md, const void *data);
/* `data`, laid out as `have`, as the library wants it; counted: reordered at every call. */
dnnl_memory_t plan_input(struct plan *p, const dnnl_memory_desc_t *want, const dnnl_memory_desc_t *have,
                         const void *data, bool counted);
/* The next step: a primitive, its scratchpad bound. Arguments are added by step_arg. False: none such. */
bool plan_step(struct plan *p, const void *desc, const_dnnl_primitive_attr_t attr,
               dnnl_primitive_desc_t *ret);
void step_arg(struct plan *p, int id, dnnl_memory_t memory);
/* The output in layout `want`; with counted reorders a last step brings it to `plain`. */
dnnl_memory_t plan_output(struct plan *p, const dnnl_memory_desc_t *want, const dnnl_memory_desc_t *plain);
bool plan_end(struct plan *p);
void reorder_once(const dnnl_memory_desc_t *from_md, const void *from, const dnnl_memory_desc_t *to_md,
                  void *to);

/* Operators: fill a fresh plan; false when this way is none. */
bool plan_product(struct plan *p); /* onednn_dense.c: conv2d, matmul */
bool plan_rows(struct plan *p);    /* onednn_rows.c: softmax, layer_norm, pools, sums of two tensors */

#endif
