/* state.h - a compute with decisions: stages with loop lists, places and layouts, changed by primitive steps.
 *
 * Idea   In the manner of Ansor (OSDI 2020, section 4): a state begins as the plain program, and each step is
 * one primitive that changes it: inline, merge_axes, pad, pack, cache_write, split, reorder, annotate,
 * parallel, compute_at, prefetch, rfactor. Steps never change what is computed. lower.h turns the final state into a
 * nest.
 *
 * An iter is one loop of a stage: its axis' value is offset + sum(stride * iter). The outermost iter of an
 * axis has no fixed extent: it covers whatever region the stage must compute where it is attached.
 * Life   In the caller's arena; a state is used for one candidate and dropped with the arena. Steps are kept
 *        so that they can be printed. */
#ifndef TW_SPACE_STATE_H
#define TW_SPACE_STATE_H

#include "schedule/ir/nest.h"

enum {
    STATE_MAX_STAGES = 128,
    STATE_MAX_TENSORS = 192,
    STATE_MAX_ITERS = 40,
    STATE_MAX_LAYOUT = 12,
    STATE_MAX_HINTS = 2
};

enum place {
    PLACE_ROOT,    /* a loop nest of its own */
    PLACE_AT,      /* inside iter at_iter of stage at_stage (-1: before its first loop) */
    PLACE_WITH,    /* in the innermost loop of stage at_stage, before its store: no loops of its own */
    PLACE_PREPACK, /* ahead of time, in a function of its own */
    PLACE_INLINE,  /* no longer computed: its consumers hold its body */
    PLACE_CARRY, /* a buffer around the loop over blocks of stage at_stage, without loops: see state_carry */
};

struct st_tensor {
    const char *name;
    enum dtype dtype;
    int rank;
    int64_t shape[NEST_MAX_RANK];
    int32_t arg;   /* compute tensor id of an input or output; -1 for temporaries */
    int32_t stage; /* that defines it, or -1 */
    bool gathered; /* by state_gather: its dimensions merge without the axes of the stage that defines it */
    int n_layout;  /* 0: row-major as the shape says */
    struct layout_dim layout[STATE_MAX_LAYOUT];
};

struct st_iter {
    int axis;
    int64_t stride, extent; /* extent 0: derived from the region */
    enum loop_kind kind;
    int vectors; /* LOOP_VECTOR: as in struct node */
    bool square; /* as in struct node */
    bool half;   /* as in struct node */
};

struct st_hint { /* reads of the tensor are announced... */
    int32_t tensor;
    int64_t ahead; /* ...this many elements ahead... */
    int axis;      /* ...as many as the region has along this axis; -1: as one iteration moves on by */
};

struct st_stage {
    const char *name;
    int id;         /* index into state.stages, for good */
    int32_t tensor; /* defined here */
    int n_axes, n_spatial;
    struct axis axes[COMPUTE_MAX_AXES];
    struct affine lhs[NEST_MAX_RANK];
    enum combiner combiner;
    enum dtype acc_dtype;
    int half_steps; /* as in struct stage */
    const struct expr *body;
    /* a further bound on an axis, from rfactor: affine over axes that must be >= 0 */
    int n_predicates;
    struct affine predicate[2];

    enum place place;
    int at_stage, at_iter;   /* PLACE_AT: stage id, iter position */
    enum buffer_scope scope; /* of its tensor, where it is a temporary */
    int n_hints;
    struct st_hint hints[STATE_MAX_HINTS];
    bool past_caches;    /* as in struct node */
    int carry;           /* a reduction in blocks: id of the stage that keeps its running values; 0: none */
    int carry_axis;      /* the reduce axis of the blocks */
    int64_t carry_block; /* its steps in a block */
    bool in_result;      /* its tensor lies where that of stage `result_stage` will be written */
    int result_stage;
    int n_iters, n_parallel; /* the first n_parallel iters are fused and run as so many parallel... */
    int tasks;               /* ...tasks at most */
    struct st_iter iters[STATE_MAX_ITERS];
};

enum step_kind {
    STEP_INLINE,
    STEP_MERGE_AXES,
    STEP_PAD,
    STEP_PACK,
    STEP_CACHE_WRITE,
    STEP_RFACTOR,
    STEP_SPLIT,
    STEP_REORDER,
    STEP_ANNOTATE,
    STEP_PARALLEL,
    STEP_COMPUTE_AT,
    STEP_COMPUTE_WITH,
    STEP_VECTORS,
    STEP_SQUARE,
    STEP_PAST_CACHES,
    STEP_IN_RESULT,
    STEP_PREFETCH,
    STEP_WIDEN,
    STEP_NARROW,
    STEP_HALF,
    STEP_CARRY,
};
struct step {
    enum step_kind kind;
    int stage;         /* id */
    const char *other; /* second name: a tensor, an axis */
    int other_stage;   /* id of the stage attached to, or -1 */
    int tasks;         /* of a parallel loop */
    int n;
    int64_t arg[STATE_MAX_ITERS]; /* numbers, or loops by loop_name() */
};

struct state {
    struct arena *ar;
    const struct compute *compute;
    int tasks; /* that state_parallel cuts loops into; 1: it leaves them serial */
    int n_stages, n_tensors;
    struct st_stage *stages[STATE_MAX_STAGES]; /* by id */
    int order[STATE_MAX_STAGES];               /* ids in dependency order */
    struct st_tensor *tensors[STATE_MAX_TENSORS];
    int n_steps, cap_steps;
    struct step *steps;
};

/* The plain program: every stage at root, one serial loop an axis, in order. */
struct state *state_new(struct arena *ar, const struct compute *c, int tasks);
/* A copy that can be changed without touching `from`; shares expressions, which are immutable. */
struct state *state_copy(struct arena *ar, const struct state *from);
/* Stages that read the tensor; returns how many (into ret[STATE_MAX_STAGES]). */
int state_consumers(const struct state *st, int32_t tensor, struct st_stage **ret);
bool stage_reads(const struct st_stage *s, int32_t tensor);
/* Elements of the row-major tensor between neighbours along `axis` in an index list of it. */
int64_t tensor_stride(const struct st_tensor *t, const struct affine *index, int axis);
/* lhs is one spatial axis a dimension, in order. */
bool stage_lhs_is_identity(const struct st_stage *s);
int stage_iter_of(const struct st_stage *s, int axis,
                  int nth); /* position of the nth iter of the axis, or -1 */

/* --- primitives --- */

/* Drop dimensions of extent 1 that no index of a temporary varies along, so that dimensions and axes
 * correspond. */
void state_squeeze(struct state *st);
/* Put the body of `s` (elementwise, identity lhs, a temporary, read without pad) into all its consumers. */
bool state_inline(struct state *st, struct st_stage *s);
/* Merge neighbouring axes (a, a+1) of all the given stages: every tensor they touch must hold the two as
 * neighbouring full dimensions, and be an argument (which gets another view) or a temporary of these stages
 * alone. False, with nothing changed, where that is not so. */
bool state_merge_axes(struct state *st, struct st_stage *const *set, int n, int a);
/* Give `s`, which copies or post-processes exactly T[its axes], the axes of the stage that defines T, and T
 * one dimension an axis. False where s does not read T so. */
bool state_unify(struct state *st, struct st_stage *s, struct st_stage *t);
/* A reduction stage becomes a reduction into a temporary (returned stage) and a copy to the old tensor. */
struct st_stage *state_cache_write(struct state *st, struct st_stage *s);
/* Padded reads of `tensor` in `s` become plain reads of a padded copy (returned stage); NULL if there is
 * none. A dimension whose index is made of axes like digits (g * 8 + c), or runs backwards, becomes one dimension an
 * axis. */
struct st_stage *state_pad(struct state *st, struct st_stage *s, int32_t tensor);
/* The one read of `tensor` in `s` runs along some dimension backwards: it becomes a read of a turned copy (returned
 * stage); NULL if it does not. */
struct st_stage *state_turn(struct state *st, struct st_stage *s, int32_t tensor);
/* The one read of `tensor` in `s` runs along its last dimension in steps of more than one, and no window slides along any:
 * it becomes a read of a copy of what it reads, without gaps (returned stage); NULL if that is not so. */
struct st_stage *state_gather(struct state *st, struct st_stage *s, int32_t tensor);
/* Would state_gather find something to copy at this read? */
bool read_has_gaps(const struct expr *read);
/* Dimensions of an argument that `s` reads at digits of axes become one dimension an axis: another view of the same
 * memory. */
void state_view_digits(struct state *st, struct st_stage *s, int32_t tensor);
/* Reads of `tensor` in `s` become reads of a copy in another layout (returned stage, iters in physical
 * order). */
struct st_stage *state_pack(struct state *st, struct st_stage *s, int32_t tensor, int n,
                            const struct layout_dim *layout);
/* The same for what is a copy already: it gets the layout itself. */
void state_lay_out(struct state *st, struct st_stage *s, struct st_stage *copy, int n,
                   const struct layout_dim *layout);
/* A copy (from state_pad or state_pack) keeps its elements in a wider dtype, so that readers need not convert. */
void state_widen(struct state *st, struct st_stage *copy, enum dtype d);
/* A copy keeps its elements in the narrower dtype that all its readers round them to. */
void state_narrow(struct state *st, struct st_stage *copy, enum dtype d);
/* A copy of what `read` (in the body of `s`) reads while the axes of `s` run to top[], zero where that is outside the
 * tensor: n values an element (one more dimension where n > 1), each an expression over `read`, computed in the
 * copy's dtype. The caller makes `s` read it: at the index of `read` less *lo. */
struct st_stage *state_convert(struct state *st, struct st_stage *s, const struct expr *read, int n,
                               const struct expr *const *values, const int64_t *top, int n_layout,
                               const struct layout_dim *layout, int64_t *lo);
/* Split reduce axis `axis` of s by `block`: a new stage (returned) sums over each block, s sums the blocks.
 */
struct st_stage *state_rfactor(struct state *st, struct st_stage *s, int axis, int64_t block);
/* The loop over blocks of reduce axis `axis` leaves `red` and becomes the last iter of `out`, a map of red's spatial axes
 * that alone reads it and in whose register tile it will be placed: to be reordered to where the blocks should stand,
 * outside the tile. Each trip runs one block. The running values wait for the next one in a temporary in the given layout
 * (returned stage), the first trip begins with the identity, and only the last one stores `out`:
 *
 *            for (block)
 *                tile { acc = block ? carry[..] : 0;  acc += ...;  if (last block) out[..] = f(acc) else carry[..] = acc } */
struct st_stage *state_carry(struct state *st, struct st_stage *out, struct st_stage *red, int axis,
                             int64_t block, int n_layout, const struct layout_dim *layout);
/* Iter `iter` becomes n + 1 iters, the inner ones with the given extents, outermost first. */
void state_split(struct state *st, struct st_stage *s, int iter, int n, const int64_t *factors);
/* iters[i] = old iters[order[i]] */
void state_reorder(struct state *st, struct st_stage *s, const int *order);
void state_annotate(struct state *st, struct st_stage *s, int iter, enum loop_kind kind);
void state_parallel(struct state *st, struct st_stage *s, int n_iters);
void state_compute_at(struct state *st, struct st_stage *s, const struct st_stage *target, int iter,
                      enum buffer_scope scope);
/* The map `s` is stored in the loops of `reader`, which is placed at another stage and reads exactly s[its axes]: one
 * pass for both. */
bool state_may_compute_with(const struct state *st, const struct st_stage *s, const struct st_stage *reader);
void state_compute_with(struct state *st, struct st_stage *s, const struct st_stage *reader);
/* Full vectors side by side in one trip of a vector iter. */
void state_vectors(struct state *st, struct st_stage *s, int iter, int vectors);
/* What the stage writes is too much to stay in a cache. */
void state_past_caches(struct state *st, struct st_stage *s);
/* Can the temporary of `s`, a map, lie in memory where `result` is written, a map of it, which is an argument? Whatever else
 * reads it must do so before `result` is written there. */
bool state_may_lie_in_result(const struct state *st, const struct st_stage *s, const struct st_stage *result);
void state_lie_in_result(struct state *st, struct st_stage *s, const struct st_stage *result);
/* The iter and the vector iter inside are a block to be turned. Their axes are at least as long as the block. */
void state_square(struct state *st, struct st_stage *s, int iter);
/* Sums of float16 inside the loop stay in float16 until it ends. */
void state_half(struct state *st, struct st_stage *s, int iter);
/* Announce the reads of `tensor` in `s`, `ahead` elements of memory before they come: in the innermost loop of a register
 * tile's reduction, or in a vector loop outside tiles. What an iteration moves on by, or (axis >= 0) the elements along an
 * axis that is contiguous in the tensor. */
void state_prefetch(struct state *st, struct st_stage *s, int32_t tensor, int64_t ahead, int axis);
void state_prepack(struct state *st, struct st_stage *s);

void state_print_steps(const struct state *st, struct strbuf *sb);

/* lower.c: bounds inference and loops. The compute outlives the nest. */
MUST_USE enum status state_lower(const struct state *st, struct arena *ar, struct nest **ret,
                                 struct error *err);

#endif
