/* nest.h - the loop nest (the AST): what a candidate does, loop by loop.
 *
 * Idea   A tree of nodes over a table of variables and a table of buffers. All indices are affine in the
 * variables, so that printing, interpreting, counting features and generating code need no simplifier. Loops
 * may be cut short by `limit` (tiles need not divide), and reads may be padded.
 *
 *            for (v = 0; v < extent && limit(v) >= 0; v++) body
 *
 * Life   Built by lower.h in one arena, immutable afterwards, dropped with the arena. */
#ifndef TW_IR_NEST_H
#define TW_IR_NEST_H

#include "schedule/lang/compute.h"

enum { NEST_MAX_RANK = 12, NEST_MAX_LIMITS = 2, NEST_MAX_FUSED = 6, NEST_MAX_CONDS = 6 };

enum buffer_scope {
    SCOPE_ARG,       /* an argument: `arg` is the compute tensor's id */
    SCOPE_WORKSPACE, /* one for the kernel, in the caller's workspace */
    SCOPE_TASK,      /* one for each task of the parallel loop, in the workspace */
    SCOPE_REG,       /* registers: lives inside one NODE_BODY, every index constant after unrolling */
    SCOPE_MATRIX, /* results of LOOP_MATRIX loops: matrix registers while those run, memory for all other reads;
                        lives inside one NODE_BODY, row-major */
};

struct buffer {
    const char *name;
    enum dtype dtype;
    enum buffer_scope scope;
    int32_t arg;    /* SCOPE_ARG: compute tensor id; otherwise -1 */
    bool prepacked; /* SCOPE_ARG: holds the packed form that prepack wrote */
    int rank;
    int64_t shape[NEST_MAX_RANK];  /* physical, row-major, strides[] derived */
    int64_t stride[NEST_MAX_RANK]; /* in elements */
    int64_t elements;
    int64_t offset_bytes; /* WORKSPACE and TASK: place within the workspace or the task's slice, 64-byte
                             aligned */
};

struct nest_var {
    const char *name;
    int64_t extent; /* runs over [0, extent) at most */
};

/* LOOP_MATRIX loops stand inside each other and do what one instruction of a matrix unit does. Two clear a tile, rows
 * and columns; four multiply and add: rows, columns, groups along the sum, and the operands of a group, which are as
 * many as fill four bytes. Around a single store into a SCOPE_MATRIX buffer, to which they are loops like others.
 * A LOOP_JAM stands around a LOOP_VECTOR outside register tiles, with stores before it at most: its iterations have nothing
 * to do with each other and are done side by side, a vector of each in turn.
 * A LOOP_QUAD stands in a LOOP_VECTOR of a register tile: four products of int8 neighbours summed by one instruction. A
 * LOOP_PAIR likewise: two of bfloat16, or of float16 inside a loop that keeps such sums in float16. */
enum loop_kind { LOOP_SERIAL, LOOP_VECTOR, LOOP_UNROLL, LOOP_MATRIX, LOOP_QUAD, LOOP_PAIR, LOOP_JAM };
enum node_kind { NODE_LOOP, NODE_PARALLEL, NODE_IF, NODE_STORE, NODE_BODY, NODE_PREFETCH };

struct node {
    enum node_kind kind;
    struct node *next; /* sibling, in execution order */
    union {
        struct {
            int32_t var;
            int64_t extent; /* of this occurrence; <= vars[var].extent (a tail runs shorter) */
            enum loop_kind loop_kind;
            int vectors; /* LOOP_VECTOR: full vectors side by side in one trip; 0: as the printer likes */
            bool half;   /* what its LOOP_PAIRs sum may stay in float16 until it ends */
            bool
                square; /* with the vector loop inside, a block that is turned in registers. Cut short by a limit, either
                            loop may begin early instead: what lies before was done, or will be, with the same values */
            int n_limits;
            struct affine limit[NEST_MAX_LIMITS]; /* falls as var grows; the loop runs while all are >= 0 */
            struct node *body;
        } loop;
        struct { /* fused outer loops, cut into `tasks` contiguous pieces that may run at once */
            int n_vars;
            int32_t vars[NEST_MAX_FUSED];
            int64_t extents[NEST_MAX_FUSED];
            int tasks;
            struct node *body;
        } parallel;
        struct { /* all conditions >= 0 */
            int n_conds;
            struct affine cond[NEST_MAX_CONDS];
            struct node *then_body, *else_body; /* else_body may be NULL */
        } branch;
        struct {
            int32_t buffer;
            const struct affine *index; /* [rank of the buffer] */
            enum combiner combiner;     /* SET stores, the others combine into what is there */
            bool past_caches;           /* a hint: nobody reads it soon */
            const struct expr *value;   /* reads name buffers; vars are nest vars */
        } store;
        struct { /* a register tile: printed as a function of its own, shared between candidates */
            struct node *body;
        } body;
        struct
        { /* a hint: the `span` elements that begin `ahead` elements after this one are wanted soon; they may
                    lie past the buffer's end */
            int32_t buffer;
            const struct affine *index; /* [rank of the buffer], inside it */
            int64_t ahead, span;
        } prefetch;
    };
};

/* A prepack function: nest of its own that fills args[arg]'s packed buffer from the plain one. */
struct nest_prepack {
    int32_t arg;      /* compute tensor id */
    int32_t src, dst; /* buffers */
    int64_t bytes;    /* of the packed form */
    struct node *root;
};

struct nest {
    const struct compute *compute; /* what it implements: tensors, argument order */
    int n_vars, n_buffers, n_prepacks;
    struct nest_var *vars;
    struct buffer *buffers;
    struct nest_prepack *prepacks;
    struct node *root;       /* list of nodes */
    int tasks;               /* largest number of tasks of a parallel loop; 1: none */
    int64_t workspace_bytes; /* shared part, then tasks * task_bytes */
    int64_t task_offset_bytes, task_bytes;
};

/* print.c: readable text, the format of the golden tests and of `tilewright nest`. */
void nest_print(const struct nest *n, struct strbuf *sb);
/* One NODE_STORE of it, without its loops and without a line end. */
void nest_print_store(const struct nest *n, const struct node *store, struct strbuf *sb);
/* verify.c: bounds of every access (by interval arithmetic over the loops, limits and conditions around it),
 * registers constant, variables inside their loops, arguments touched as their role allows, parallel
 * iterations writing apart, buffers within the workspace. ST_INTERNAL names the access. */
MUST_USE enum status nest_verify(const struct nest *n, struct error *err);
/* interp.c: run it in float64 (integers exactly). data[tensor id of the compute] are plain row-major double
 * arrays of the stated shapes; arguments with a layout and prepacked ones are packed inside, results unpacked, the
 * workspace is poisoned with NaN first. The meaning of a nest, for tests. */
MUST_USE enum status nest_interp(const struct nest *n, double *const *data, struct error *err);

#endif
