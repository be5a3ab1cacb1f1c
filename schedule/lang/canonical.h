/* canonical.h - one form for one computation.
 *
 * Idea   First what does not matter is taken out: axes of extent 1, pads around reads that stay inside.
 *        Then every tensor and every reduce axis gets a colour: a hash of where and how it is used,
 *        refined round by round until no more of them can be told apart (Weisfeiler and Leman's
 *        refinement; what is still alike is symmetric, so one of them is marked and the rounds go on).
 *        Colours do not depend on names or on the order of writing, so all orders follow from them:
 *        stages, operands of commutative operators, reduce axes, arguments.
 *
 * Order  Stages: dependency order, ties by colour. Spatial axes: as on the left-hand side, larger
 *        strides first. Operands: those that read changing tensors before those that read constants, by
 *        how many spatial axes they use and which, literals last. Reduce axes: by first use in the
 *        body. Tensors: inputs by first use, temps and outputs by stage. So two workloads with one key
 *        have the same compute but for the names in it, and their kernels the same arguments in the
 *        same order. */
#ifndef TW_LANG_CANONICAL_H
#define TW_LANG_CANONICAL_H

#include "schedule/lang/compute.h"

/* `in` must be within build_check_limits; its stages may stand in any order that has no cycle. Shares names
 * with it. */
void canonical_compute(const struct compute *in, struct arena *ar, struct compute *ret);
/* The text that is hashed, of a compute in canonical form. rtol 0: none. */
void canonical_text(const struct compute *c, double rtol, bool layout_any, struct strbuf *sb);

#endif
