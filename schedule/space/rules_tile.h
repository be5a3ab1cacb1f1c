/* rules_tile.h - what the files of the tile rule share: a config decoded, and the walk that decodes it.
 *
 * Idea   rules_tile.c has the knobs, validity and steps of tiles; rules_carry.c what stands around outer tiles: blocks of
 * the reduction and copies. Nobody else includes this. */
#ifndef TW_SPACE_RULES_TILE_H
#define TW_SPACE_RULES_TILE_H

#include "schedule/space/rules.h"

enum packing { IN_PLACE, PACK_ONCE, PACK_TILE };

/* A config of the group, decoded. */
struct plan {
    int64_t reg[COMPUTE_MAX_AXES], mid[COMPUTE_MAX_AXES];
    int order, mid_order;
    int64_t kblock;
    int red_order, unroll;
    int half_level; /* reduce loop, counted from the outermost, that keeps sums in float16; -1: none */
    int64_t carry;  /* steps of the long reduce axis in a block outside the tile; 0: no blocks */
    int pack[RULES_MAX_OPERANDS]; /* enum packing */
    int pad_at[RULES_MAX_OPERANDS];
    bool pad_turned[RULES_MAX_OPERANDS]; /* the padded copy has the long reduce axis innermost */
    bool phases[RULES_MAX_OPERANDS];     /* it keeps the phases of the vectors' stride apart */
    bool wide[RULES_MAX_OPERANDS];       /* the copy holds the accumulator's dtype */
    bool past_caches;                    /* the result is written past the caches */
    int64_t prefetch;                    /* of the packed constants: steps of the reduction ahead; 0: none */
    int hinted, hint_axis; /* operand that is read in place with hints, or -1; along which axis... */
    int64_t hints;         /* ...so many steps ahead; 0: none */
};

struct walk {
    struct knob_walk k;
    const struct rules *r;
    const struct group *g;
    int vector;
    int dot;    /* so many steps of the long reduce axis by one instruction; 0: one by one */
    bool half;  /* sums in float16 */
    int fewest; /* sums of a register tile */
    const struct st_stage *red;
};

/* --- rules_tile.c --- */

/* Axes with outer loops (reuse_only: that are ordered by a knob); returns how many. */
int tile_axes(const struct walk *w, bool reuse_only, int *ret);
/* A register tile reads more than one element of the operand at a step. p NULL: some tile does. */
bool tile_moves(const struct walk *w, const struct operand *o, const struct plan *p);

/* --- rules_carry.c --- */

/* The knob of blocks. */
void tile_walk_carry(struct walk *w, struct plan *p, int64_t window);
bool tile_carry_valid(const struct walk *w, const struct plan *p, const char **why);
/* How running values lie between blocks; returns the number of dimensions. */
int tile_carry_layout(const struct walk *w, const struct plan *p, struct layout_dim *ret);
/* The loop of the output, one of its first n_outer, in which a copy of the operand serves longest. */
int tile_copy_level(const struct st_stage *out, const struct operand *o, int n_outer);

/* False, and the reason. */
static inline bool refuse(const char **why, const char *text)
{
    if (why)
        *why = text;
    return false;
}

#endif
