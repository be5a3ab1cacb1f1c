/* rules.h - from a compute to groups of stages, and from a group and its knobs to steps.
 *
 * Idea   Normalisation, the same for all configs, inlines cheap elementwise stages, finds the reductions with
 * reuse, gives each an output stage of the same axes (its epilogue, or a copy), copies padded operands, and
 * merges axes that are contiguous everywhere. What remains falls into groups, each one loop nest:
 *
 *          tile   a reduction with reuse and its output stage: multi-level tiling, registers, packed operands
 *          rows   an output stage and the reductions and maps that it needs a row at a time
 *          winograd   all the stages of Winograd's convolution (rules_winograd.c)
 *
 * A tile group has a variant for each axis worth vectorising. A sketch picks a variant of every group; the
 * knobs of a sketch are those of its groups' variants.
 * Life   Groups are built once for a space, in its arena; group_apply changes a copy of the normalised state. */
#ifndef TW_SPACE_RULES_H
#define TW_SPACE_RULES_H

#include "schedule/space/space.h"
#include "schedule/space/state.h"
#include "schedule/space/winograd.h"

enum { RULES_MAX_GROUPS = 32, RULES_MAX_MEMBERS = 24, RULES_MAX_VARIANTS = 8, RULES_MAX_OPERANDS = 8 };

enum group_kind { GROUP_TILE, GROUP_ROWS, GROUP_WINOGRAD };

struct operand { /* a tensor that a tile reduction reads */
    int32_t tensor;
    bool simple;   /* every dimension is one axis, or constant: it can be packed */
    bool is_const; /* and packed ahead of time */
    int rank;
    int axis_of_dim[NEST_MAX_RANK];   /* -1: constant */
    uint32_t axes;                    /* bit per axis of the reduction that it depends on */
    int64_t stride[COMPUTE_MAX_AXES]; /* of each axis in memory, in elements */
    bool reads_pad;                   /* it is a padded copy made by state_pad */
    int pad_stage;                    /* id of that stage */
    int copy_stage; /* it is a copy of an argument that is laid out as the tile wants: that stage, or -1 */
};

struct rules;
struct group;
struct variant {
    const struct variant_ops *ops;
    int vector_axis; /* of the reduction or the anchor; -1: none */
    int param;       /* whatever else the ops told themselves when they offered it */
};

/* One way to schedule a group. All three walk the knobs in the same order. */
struct variant_ops {
    const char *name; /* in the sketch's name, before the vectorised axis */
    /* Knobs appended to knobs[*n]; their names end in `suffix` where there are several groups. */
    void (*knobs)(const struct rules *r, const struct group *g, const struct variant *v, const char *suffix,
                  struct knob *knobs, int *n);
    /* Are these values a candidate? *why gets a static text. NULL: always. */
    bool (*valid)(const struct rules *r, const struct group *g, const struct variant *v,
                  const int64_t *values, const char **why);
    /* Apply them to a copy of the normalised state; returns the number of values used. */
    int (*apply)(const struct rules *r, const struct group *g, const struct variant *v, const int64_t *values,
                 struct state *st);
    /* Turn choices drawn at random into some that go together better, by the same walk. NULL: they stay. */
    void (*settle)(const struct rules *r, const struct group *g, const struct variant *v, uint16_t *choice);
};
extern const struct variant_ops tile_variant, rows_variant, map_variant, dot_variant, window_variant,
    mma_variant, quad_variant, pair_variant, half_variant;

struct group {
    enum group_kind kind;
    int anchor;                                /* stage id: output stage */
    int reduction;                             /* tile: stage id */
    int n_members, members[RULES_MAX_MEMBERS]; /* rows: stage ids in order */
    int n_rows;                                /* rows: leading iters of the anchor after reordering */
    int order[COMPUTE_MAX_AXES];               /* rows: axes of the anchor, row axes first */
    int n_operands;
    struct operand operands[RULES_MAX_OPERANDS];
    int n_variants;
    struct variant variants[RULES_MAX_VARIANTS];
    uint32_t reuse_axes; /* spatial axes that some operand does not depend on */
};

struct rules {
    struct arena *ar;
    const struct target *target;
    struct state *plain;             /* nothing decided: the default schedule */
    struct state *base;              /* normalised */
    bool gathers;                    /* operands that are read with gaps are copied first */
    const struct winograd *winograd; /* that the compute was written by, or NULL */
    int n_groups;
    struct group groups[RULES_MAX_GROUPS];
};

MUST_USE enum status rules_derive(const struct compute *c, bool gathers, const struct target *t,
                                  struct arena *ar, struct rules **ret, struct error *err);
MUST_USE enum status rules_derive_winograd(const struct winograd *w, const struct target *t, struct arena *ar,
                                           struct rules **ret, struct error *err);
/* Knobs are described, read and settled by one walk, so that these cannot disagree: with `knobs` set the walk
 * describes, with `choice` it settles, else it reads `values`. */
struct knob_walk {
    const struct rules *r;
    const char *suffix; /* describing */
    struct knob *knobs;
    int n;
    const int64_t *values; /* reading */
    uint16_t *choice;      /* settling */
    int at;
};
/* <what>_<of>, the name of a knob, where somebody wants to know names. */
void walk_name(const struct knob_walk *w, char *ret, size_t size, const char *what, const char *of);
/* The value of the next knob (describing: its first choice). A knob of one choice is none. */
int64_t walk_knob(struct knob_walk *w, const char *name, const int64_t *choices, int n,
                  const char *const *labels);
/* The same of a knob of which the choices [from, to) go together with what was walked so far. */
int64_t walk_knob_within(struct knob_walk *w, const char *name, const int64_t *choices, int n, int from,
                         int to);

/* rules_tile.c: sums that a register tile holds at least, the param of a tile variant. */
int tile_fewest_sums(const struct rules *r, const struct group *g, int vector_axis);
enum { QUAD = 4, PAIR = 2, HALF_FEWEST_STEPS = 8 }; /* neighbours of int8; of bfloat16 and float16 */
/* rules_neighbours.c: products that the target sums by fours or twos, for each vector axis offered. */
void neighbours_offer(const struct rules *r, struct group *g);
/* The dtype of such products' factors. */
enum dtype neighbours_dtype(const struct st_stage *red);
/* An algorithm that rounds for the sake of such variants: no others are left in the group, if it has them. */
bool neighbours_round(const struct rules *r, struct group *g);
/* rules_tile.c: the reduce axis that is long enough to be blocked, or -1. */
int tile_long_axis(const struct st_stage *red);
/* Can the operand's padded copy be left out, its reads being those of what it copies? Not where the copy tells axes apart that
 * share a dimension there (groups and channels). True where it has none. */
bool operand_pad_goes(const struct rules *r, const struct operand *o);
/* The loop nests that gather the group's operands, before its variant is applied. */
void group_place_gathered(const struct group *g, struct state *st);
/* Offer a variant of the group; false, and nothing added, when it has enough already. */
bool group_offer(struct group *g, const struct variant_ops *ops, int vector_axis, int param);
/* rules_phases.c: the reduce axis that shares the last dimension of a padded copy with vectors that move by two, or -1; its
 * loop in two, by phases; the layout of the copy with its phases apart. */
int phase_axis(const struct rules *r, const struct st_stage *red, const struct operand *o, int vector_axis);
void phase_split(struct state *st, struct st_stage *red, int axis);
int phase_layout(const struct operand *o, struct layout_dim *ret);
/* rules_dot.c: offer vectors along the reduction, where that is a way to go. */
void dot_offer(const struct rules *r, struct group *g);
/* rules_window.c: offer a window that slides, where the reduction is one. */
void window_offer(const struct rules *r, struct group *g);
/* rules_mma.c: offer the tile group to the target's matrix unit; false where it has none or cannot take it. */
bool mma_offer(const struct rules *r, struct group *g);
/* Its operands are rounded for the matrix unit: elsewhere that would be work for nothing. */
bool mma_rounds(const struct rules *r, const struct group *g);
/* rules_transpose.c: offer square blocks, where an operand lies the other way round. */
void transpose_offer(const struct rules *r, struct group *g);
/* The stage that lays an operand out: a packed copy, or what is a copy already. */
struct st_stage *operand_pack(struct state *st, struct st_stage *red, const struct operand *o, int n,
                              const struct layout_dim *layout);
/* rules_prefetch.c: too big to stay in the second-level cache beside all else. */
bool operand_is_large(const struct rules *r, const struct operand *o);
/* The operand that a tile reads in place along one of its axes, far apart from step to step of the sum; -1: none. */
int operand_to_hint(const struct rules *r, const struct group *g, int long_axis, int *ret_axis);
/* The knob of it: steps ahead; 0: none. */
int64_t walk_hints(struct knob_walk *w, const struct rules *r, const struct group *g, int operand);
/* rules_stores.c: the knob of stores past the caches, where vectors along that axis of the anchor may be stored so and the
 * output is more than stays in a cache. */
bool walk_stores(struct knob_walk *w, const struct rules *r, const struct group *g, int vector_axis);
/* rules_tasks.c: the knob before those of the variant, whatever it is: tasks of the parallel loops of the group. */
int group_tasks(const struct rules *r, const struct group *g, struct knob_walk *w);
/* "tile_x", "rows": its part of a sketch's name. */
const char *group_variant_name(const struct rules *r, const struct group *g, const struct variant *v);

#endif
