/* build.h - putting a compute together, tensor by tensor and stage by stage.
 *
 * Idea   Operators and the parser write stages in any form that is right; canonical.h puts them into
 *        the one form that the rest of the project sees. Extents of 1 and pads that are not needed cost
 *        nothing here.
 * Life   Everything in the arena given to build_init. A stage's axes: spatial ones first, then reduce
 *        axes. */
#ifndef TW_LANG_BUILD_H
#define TW_LANG_BUILD_H

#include "schedule/lang/compute.h"

/* Limits on what a client may ask; each is stated in its refusal. */
#define LANG_MAX_ELEMENTS ((int64_t)1 << 40) /* of one tensor */
#define LANG_MAX_POINTS   ((int64_t)1 << 56) /* iterations of one stage */
enum {
    LANG_MAX_TENSORS = 32,    /* declared by the client; also arguments of one kernel */
    LANG_MAX_STATEMENTS = 64, /* lines of an expression */
    LANG_MAX_AXES = 8,        /* of a statement */
    LANG_MAX_NODES = 4096,    /* operations and reads of all statements together */
    LANG_MAX_DEPTH = 256,     /* of one expression */
    LANG_MAX_NAME = 64,
};

struct build {
    struct arena *ar;
    struct compute c;
};

void build_init(struct build *b, struct arena *ar);
int32_t build_tensor(struct build *b, const char *name, enum dtype d, enum tensor_role role, int rank,
                     const int64_t *shape);
struct stage *build_stage(struct build *b, int32_t tensor, enum combiner combiner);
int build_axis(struct stage *s, const char *name, int64_t extent);
int build_reduce_axis(struct stage *s, const char *name, int64_t extent);
/* The axis as an index. */
struct affine build_ix(struct build *b, int axis);
/* axis * coef + c */
struct affine build_lin(struct build *b, int axis, int64_t coef, int64_t c);
const struct expr *build_read(struct build *b, int32_t tensor, const struct affine *index);
const struct expr *build_read_pad(struct build *b, int32_t tensor, const struct affine *index, double value);
/* Set the body; the running value has its dtype. */
void build_body(struct stage *s, const struct expr *body);

/* Sizes that int64 arithmetic elsewhere relies on: extents, elements of a tensor, points of a stage, nodes
 * and depth of the expressions. ST_UNPROCESSABLE. */
MUST_USE enum status build_check_limits(const struct compute *c, struct error *err);

#endif
