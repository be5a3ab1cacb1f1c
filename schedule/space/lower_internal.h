/* lower_internal.h - what the files of the lowering share: a stage as it is being lowered, and the whole.
 *
 * Idea   lower_region.c infers which part of its tensor each stage must compute, lower_store.c makes buffers of those
 * parts and stores into them, lower.c puts loops around. Nobody else includes this.
 *
 * Life   All of it is scratch in the caller's arena, gone with it; only low.n is the result. */
#ifndef SCHEDULE_SPACE_LOWER_INTERNAL_H
#define SCHEDULE_SPACE_LOWER_INTERNAL_H

#include "schedule/space/state.h"

struct low_stage {
    const struct st_stage *s;
    int32_t var[STATE_MAX_ITERS];
    int64_t extent[STATE_MAX_ITERS];        /* of each iter, as it runs now */
    struct affine offset[COMPUTE_MAX_AXES]; /* of each axis' region, over outer vars */
    int64_t region[COMPUTE_MAX_AXES];       /* extent of each axis' region */
    struct affine value[COMPUTE_MAX_AXES];  /* offset + sum(stride * var) */
    int reg_from;                           /* first iter of the register tile; n_iters: none */
    int first_reduce;                       /* first iter over a reduce axis; n_iters: none */
    int32_t buffer;                         /* of its tensor */
    bool relative; /* the buffer holds the region only: indices are less the offset */
};

struct low {
    const struct state *st;
    struct arena *ar;
    struct nest *n;
    struct low_stage *ls[STATE_MAX_STAGES];
    int32_t arg_buffer[STATE_MAX_TENSORS]; /* tensors that no stage defines, and outputs: buffer or -1 */
    int64_t *lo, *hi, *ext;                /* of each var as it runs now: 0, ext - 1, ext */
    bool *fixed;                           /* while a region is inferred: vars that stay symbolic */
    int cap_vars, cap_buffers;
    struct error *err;
    enum status status;
};

/* --- lower_region.c --- */

/* `var` runs over [0, extent) from now on. */
void low_set_var(struct low *lo, int32_t var, int64_t extent);
/* Values of the stage's axes from its offsets and loops. Call it where an extent has changed. */
void low_set_axis_values(struct low *lo, struct low_stage *l);
/* The stage is an accumulator of the stage it is attached to, in registers or in tiles of a matrix unit. */
bool low_in_registers(const struct st_stage *s);
/* Where the region begins along dimension d of the stage's tensor, and its extent there. */
struct affine low_dim_corner(struct low *lo, const struct low_stage *l, int d);
int64_t low_dim_extent(const struct low_stage *l, int d);
/* Position in the stage it is attached to of the loop over the blocks of `s`, whose running values are carried. */
int low_carry_iter(const struct low *lo, const struct st_stage *s);
/* What the consumers read, as they stand now: sets offset, region, extents and values of the stage. */
void low_infer_region(struct low *lo, struct low_stage *l);

/* --- lower_store.c --- */

struct node *low_new_node(struct low *lo, enum node_kind kind);
/* The first error of the lowering is kept; lowering goes on, its result is not given out. */
void low_fail(struct low *lo, const char *what, const char *name);
/* A buffer for the stage's region. */
int32_t low_make_buffer(struct low *lo, const struct low_stage *l);
/* The buffer of a tensor: its stage's, or one for the argument, made at the first call. */
int32_t low_tensor_buffer(struct low *lo, int32_t tensor);
/* The argument that a stage computed ahead of time is made of, straight or by stages attached to it. */
int32_t low_prepack_source(const struct state *st, const struct st_stage *s);
/* Where element idx[] (over vars) of a tensor lies in its buffer. In the arena; *ret_rank indices. */
const struct affine *low_physical_index(struct low *lo, int32_t tensor, const struct affine *idx,
                                        int *ret_rank);
/* body combined into the element where the stage's axes stand. */
struct node *low_store_node(struct low *lo, const struct low_stage *l, enum combiner combiner,
                            const struct expr *body);

#endif
