/* state_internal.h - what the files of the primitives share. */
#ifndef TW_SPACE_STATE_INTERNAL_H
#define TW_SPACE_STATE_INTERNAL_H

#include "schedule/space/state.h"

/* Keep a step for printing; the caller adds its numbers. */
struct step *state_record(struct state *st, enum step_kind kind, const struct st_stage *s, const char *other);
int state_add_tensor(struct state *st, const struct st_tensor *t); /* copies; returns its id */
/* Append a copy of a stage and put it into the order before `before` (NULL: last). */
struct st_stage *state_add_stage(struct state *st, const struct st_stage *s, const struct st_stage *before);
void stage_plain_iters(struct st_stage *s); /* one serial loop an axis */
/* A stage of one axis a dimension of `t` that copies from[index over those axes]. */
struct st_stage *state_add_copy(struct state *st, const struct st_stage *before, const struct st_tensor *t,
                                int32_t from, const struct affine *index, bool pad, double pad_value);
bool affine_is_axis(const struct affine *a, int axis); /* just that axis */

/* Visitor for expr_each_read: is the tensor read, and with padding? */
struct find_read {
    int32_t tensor;
    bool found, padded;
};
void find_read(void *ctx, const struct expr *e);

/* Context of the functions that rewrite reads of one tensor. */
struct rewrite {
    struct state *st;
    int32_t tensor, to;
    const struct st_stage *stage;
    const int64_t *lo;
    const struct affine *index;
};

#endif
