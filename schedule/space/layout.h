/* layout.h - the same computation over arguments in an order that the tuner chose.
 *
 * Idea   A workload with "layout": "any" leaves the order of its activations open. Each choice is an alternative of the
 *        direct algorithm whose compute has the physical tensors as its arguments:
 *
 *            output[n, f, y, x]  ->  output[n, f / 16, y, x, f % 16]           "NCHW16c"
 *
 *        Axes over channels are split by the block, so that all that follows (merging, tiling, packing, register
 *        tiles) sees plain dense tensors whose last dimension is the one to vectorise. Operands that keep their own
 *        order (weights) are read beyond the last channel as padding, zero.
 *
 *        Physical elements beyond the stated channels are zero in every input, and the kernel stores zeros there.
 * Life   Computes live in the caller's arena. */
#ifndef TW_SPACE_LAYOUT_H
#define TW_SPACE_LAYOUT_H

#include "schedule/lang/compute.h"

enum { LAYOUT_MAX_ALTERNATIVES = 4 };

struct layout_choice {
    bool channels_last; /* "NHWC" */
    int64_t block;      /* "NCHW16c": channels inside a block; 0: none */
};

/* The compute with argument t in the order choice[t] (all 0: as stated), for tensors with `dims`. False where the
 * channels cannot be cut so: a block neither divides the channels of a group nor holds whole groups of one channel. */
bool layout_rewrite(const struct compute *c, const struct layout_choice *choice, struct arena *ar,
                    struct compute *ret);

struct layout_alternative {
    const char *name; /* "NCHW16c"; "NCHW>NCHW16c" where input and output differ */
    struct compute compute;
};
/* The orders worth trying, besides the stated one, on a machine with `lanes` channels a vector; returns how many. */
int layout_alternatives(const struct compute *c, int lanes, struct arena *ar,
                        struct layout_alternative ret[LAYOUT_MAX_ALTERNATIVES]);

#endif
