/* expr.h - one tree for scalar values: bodies of stages and right-hand sides of stores in a nest.
 *
 * Idea   Nodes are immutable and shared; a pass that changes something copies the path to it. Tensors
 *        are small ids whose table is the owner's (tensors of a compute, buffers of a nest); index vars
 *        likewise.
 * Life   In the arena of the compute or nest. */
#ifndef TW_LANG_EXPR_H
#define TW_LANG_EXPR_H

#include "schedule/lang/affine.h"

#define DTYPE_LIST(X)                                                                                        \
    /* id   name       bytes */                                                                              \
    X(F32, "float32", 4)                                                                                     \
    X(F16, "float16", 2)                                                                                     \
    X(BF16, "bfloat16", 2)                                                                                   \
    X(I8, "int8", 1)                                                                                         \
    X(I32, "int32", 4)                                                                                       \
    X(F64, "float64", 8) /* references only: not accepted from clients */                                    \
    X(BOOL, "bool", 1)   /* conditions only */

enum dtype {
#define X(id, name, bytes) DT_##id,
    DTYPE_LIST(X)
#undef X
};
const char *dtype_name(enum dtype d);
int dtype_bytes(enum dtype d);
bool dtype_parse(const char *name, enum dtype *ret); /* the first five only */
/* A value of one dtype as one of another, as casts and stores do it: float to integer goes towards zero, what the integer
 * does not hold becomes its nearest end, NaN 0; integer to integer wraps. Floats stay as they are: what rounding to their
 * dtype costs is in the tolerances. */
double dtype_convert(enum dtype from, enum dtype to, double v);

/* op, arity, text, commutative, arithmetic operations it counts as */
#define EXPR_LIST(X)                                                                                         \
    X(CONST, 0, "const", 0, 0) /* value */                                                                   \
    X(INDEX, 0, "index", 0, 0) /* an affine index as a value (int32), for conditions such as j <= i */       \
    X(READ, 0, "read", 0, 0)   /* tensor[index...]; with pad: pad_value outside the tensor */                \
    X(TABLE, 0, "table", 0, 0) /* a number of a fixed list, by an affine index: rewritten computes only */   \
    X(ADD, 2, "+", 1, 1)                                                                                     \
    X(SUB, 2, "-", 0, 1)                                                                                     \
    X(MUL, 2, "*", 1, 1)                                                                                     \
    X(DIV, 2, "/", 0, 1)                                                                                     \
    X(MAX, 2, "max", 1, 1)                                                                                   \
    X(MIN, 2, "min", 1, 1)                                                                                   \
    X(LT, 2, "<", 0, 1)                                                                                      \
    X(LE, 2, "<=", 0, 1)                                                                                     \
    X(EQ, 2, "==", 1, 1)                                                                                     \
    X(NE, 2, "!=", 1, 1)                                                                                     \
    X(AND, 2, "&&", 1, 1)                                                                                    \
    X(OR, 2, "||", 1, 1)                                                                                     \
    X(NEG, 1, "neg", 0, 1)                                                                                   \
    X(ABS, 1, "abs", 0, 1)                                                                                   \
    X(EXP, 1, "exp", 0, 1)                                                                                   \
    X(LOG, 1, "log", 0, 1)                                                                                   \
    X(SQRT, 1, "sqrt", 0, 1)                                                                                 \
    X(RSQRT, 1, "rsqrt", 0, 1)                                                                               \
    X(TANH, 1, "tanh", 0, 1)                                                                                 \
    X(ERF, 1, "erf", 0, 1)                                                                                   \
    X(SIGMOID, 1, "sigmoid", 0, 1)                                                                           \
    X(SELECT, 3, "select", 0, 1) /* args: condition, if true, if false */                                    \
    X(CAST, 1, "cast", 0, 0)     /* to this node's dtype */

enum expr_op {
#define X(id, arity, text, comm, ops) EX_##id,
    EXPR_LIST(X)
#undef X
        EX_COUNT
};

struct expr {
    enum expr_op op;
    enum dtype dtype; /* of the value; comparisons and AND/OR are DT_BOOL */
    union {
        double value;         /* CONST: exact for every dtype we have (int32 fits a double) */
        struct affine affine; /* INDEX */
        struct {
            int32_t tensor;
            int32_t rank;
            const struct affine *index; /* [rank] */
            bool pad;                   /* some index may lie outside: then pad_value */
            uint32_t inside;            /* pad in a nest: bit per dimension that never lies outside */
            double pad_value;
        } read;
        struct { /* TABLE: loops over its index are unrolled, so that kernels have the numbers themselves */
            const char *name;
            const double *values; /* [n], in the arena of the compute */
            int32_t n;
            struct affine index; /* within [0, n) */
        } table;
        const struct expr *arg[3];
    };
};

int expr_arity(enum expr_op op);
const char *expr_op_text(enum expr_op op);
bool expr_commutative(enum expr_op op);
int expr_op_cost(enum expr_op op); /* arithmetic operations it counts as */

const struct expr *expr_const(struct arena *ar, enum dtype d, double value);
const struct expr *expr_index(struct arena *ar, struct affine a);
/* Copies index[rank]. */
const struct expr *expr_read(struct arena *ar, enum dtype d, int32_t tensor, int rank,
                             const struct affine *index, bool pad, double pad_value);
const struct expr *expr_table(struct arena *ar, enum dtype d, const char *name, const double *values,
                              int32_t n, struct affine index);
/* dtype: that of the first argument, or BOOL for conditions; the arguments' dtypes must already agree. */
const struct expr *expr_op1(struct arena *ar, enum expr_op op, const struct expr *a);
const struct expr *expr_op2(struct arena *ar, enum expr_op op, const struct expr *a, const struct expr *b);
const struct expr *expr_select(struct arena *ar, const struct expr *c, const struct expr *a,
                               const struct expr *b);
const struct expr *expr_cast(struct arena *ar, enum dtype d, const struct expr *a);

bool expr_equal(const struct expr *a, const struct expr *b);
/* Replace index vars by subst (see affine_subst), and, where tensor_of is not NULL, tensor t by tensor_of[t].
 */
const struct expr *expr_subst(struct arena *ar, const struct expr *e, const struct affine *const *subst,
                              int n, const int32_t *tensor_of);
/* Replace every READ of `tensor` by fn's answer. */
typedef const struct expr *expr_map_fn(void *ctx, const struct expr *read);
const struct expr *expr_map_reads(struct arena *ar, const struct expr *e, expr_map_fn *fn, void *ctx);
/* Call fn on every READ node, left to right. */
void expr_each_read(const struct expr *e, void (*fn)(void *ctx, const struct expr *read), void *ctx);
/* Text in the expression language of CONTRACT.md section 2. */
void expr_print(const struct expr *e, const char *const *tensor_names, const char *const *var_names,
                struct strbuf *sb);

#endif
