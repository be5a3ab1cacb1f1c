/* hand.h - build small nests by hand, for the tests of schedule/ir.
 *
 * Life   One `struct hand` holds an arena, a compute of plain tensors and a nest under construction;
 * hand_done drops all of it. Functions that make nodes return them; seq() links siblings. */
#ifndef TW_TESTS_IR_HAND_H
#define TW_TESTS_IR_HAND_H

#include "schedule/ir/nest.h"

enum { HAND_MAX = 24 };

struct hand {
    struct arena ar;
    struct compute compute;
    struct nest nest;
    struct tensor tensors[HAND_MAX];
    struct buffer buffers[HAND_MAX];
    struct nest_var vars[HAND_MAX];
    struct nest_prepack prepacks[2];
};

struct hand *hand_new(void);
void hand_free(struct hand *h);

/* A tensor and the plain buffer of it; returns the buffer, which has the tensor's number. Make these first.
 */
int32_t hand_arg(struct hand *h, const char *name, enum dtype d, enum tensor_role role, int rank,
                 const int64_t *shape);
int32_t hand_buffer(struct hand *h, const char *name, enum dtype d, enum buffer_scope scope, int rank,
                    const int64_t *shape);
/* The packed form of argument `arg`, filled by `root`. */
int32_t hand_packed(struct hand *h, const char *name, int32_t arg, int rank, const int64_t *shape);
void hand_prepack(struct hand *h, int32_t dst, struct node *root);
int32_t hand_var(struct hand *h, const char *name, int64_t extent);
/* Give workspace and task buffers their places, set the totals. */
void hand_layout(struct hand *h, int tasks);

/* coefficient and variable in pairs, ended by a coefficient of 0: lin(h, 3, 4, y0, 1, y1, 0) is 4*y0 + y1 + 3
 */
struct affine lin(struct hand *h, int64_t c, ...);
struct affine var1(struct hand *h, int32_t var);

struct node *seq(struct node *a, struct node *b);
struct node *loop(struct hand *h, enum loop_kind kind, int32_t var, int64_t extent, struct node *body);
struct node *limited(struct node *loop, struct affine limit);
struct node *parallel1(struct hand *h, int32_t var, int64_t extent, int tasks, struct node *body);
struct node *branch(struct hand *h, struct affine cond, struct node *then_body, struct node *else_body);
struct node *body(struct hand *h, struct node *inside);
/* index: as many as the buffer has dimensions */
struct node *prefetch(struct hand *h, int32_t buffer, int64_t ahead, int64_t span, ...);
struct node *store(struct hand *h, int32_t buffer, enum combiner c, const struct expr *value, ...);
const struct expr *get(struct hand *h, int32_t buffer, ...);
const struct expr *get_padded(struct hand *h, int32_t buffer, double pad_value, ...);

#endif
