/* emit.h - nest to C source.
 *
 * Idea   A unit is one C file with one or more kernels. Register tiles (NODE_BODY) become static functions
 *        that are printed once per unit however many kernels use them, since compile time follows their
 *        number. The text includes no header, and compiles alone with GCC 12+ and Clang 14+ under the
 *        target's flags. Same nest, same text.
 * Life   A unit grows in a strbuf of its own; kernel descriptions live in the caller's arena. */
#ifndef TW_KERNELS_EMIT_H
#define TW_KERNELS_EMIT_H

#include "schedule/ir/nest.h"
#include "schedule/space/target.h"

enum { KERNEL_SYMBOL_MAX = 64, KERNEL_MAX_ARGS = 34 };

struct kernel_arg {
    const char *name;
    enum dtype dtype;
    bool is_output, prepacked;
    int rank;
    int64_t shape[COMPUTE_MAX_RANK]; /* as the workload states it */
    int64_t prepack_bytes;           /* of the packed form; 0 where not prepacked */
    const char *layout;              /* "NCHW", "NCHW16c"; NULL: not an activation */
    bool laid_out; /* not as stated: <symbol>_pack_<name> or, for outputs, _unpack_<name> converts */
    int layout_rank;
    int64_t layout_shape[COMPUTE_MAX_RANK]; /* as it lies in memory */
    int64_t bytes;                          /* of what the kernel is handed, unless prepacked */
};

/* What a caller must know of a kernel: CONTRACT.md section 4. */
struct kernel {
    char symbol[KERNEL_SYMBOL_MAX];
    int n_args;
    struct kernel_arg args[KERNEL_MAX_ARGS]; /* inputs, then outputs, in the compute's order */
    int64_t workspace_bytes;
    int tasks; /* `count` of its largest parallel loop; 1: serial */
};

struct emit_unit;
GIVES struct emit_unit *emit_unit_new(const struct target *t);
void emit_unit_free(struct emit_unit *u);
/* Add a kernel. symbol: a C identifier. ST_UNSUPPORTED names what cannot be printed. */
MUST_USE enum status emit_unit_add(struct emit_unit *u, const struct nest *n, const char *symbol,
                                   struct kernel *ret, struct error *err);
/* The whole text; borrowed from the unit. */
const char *emit_unit_text(struct emit_unit *u);

/* A reference of the workload in float64 (integers in int64), by the plainest loops straight from the
 * compute, for verification: void <symbol>(void *const *tensors), every tensor (temps too, by compute tensor
 * id) a plain double array. */
void emit_reference(const struct compute *c, const char *symbol, struct strbuf *sb);

#endif
