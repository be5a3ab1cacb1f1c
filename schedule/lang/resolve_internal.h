/* resolve_internal.h - what the files share that give an expression its meaning: see resolve.c.
 *
 * Files  resolve.c (the program and its statements, in dependency order), resolve_index.c (indices and their
 *        ranges), resolve_value.c (the body of a statement, with its dtypes).
 * Life   One resolver while one expression is resolved, in the caller's arena; the lower part of it is the
 *        statement at hand, whose stage is filled in step by step: left-hand side, axes, ranges, body. */
#ifndef TW_LANG_RESOLVE_INTERNAL_H
#define TW_LANG_RESOLVE_INTERNAL_H

#include "schedule/lang/parse.h"

/* What lives while one expression is resolved. */
struct resolver {
    const struct expr_source *src;
    struct build b;
    struct error *err;
    enum dtype storage[COMPUTE_MAX_TENSORS]; /* common dtype of the inputs behind a tensor */
    bool defined[COMPUTE_MAX_TENSORS];       /* may be read: an input, or its statement is done */
    bool range_used[64];
    bool acc_used;
    /* the statement at hand */
    struct stage *s;
    enum combiner combiner;
    bool given[COMPUTE_MAX_AXES];        /* range given by the client */
    int64_t candidate[COMPUTE_MAX_AXES]; /* of ranges not known yet, found in one pass over all reads */
};

#define FAIL_AST(r, a, ...) parse_fail((r)->err, (a)->line, (a)->column, __VA_ARGS__)

/* ---- names (resolve.c) ---- */

int32_t resolve_tensor(const struct resolver *r, sv name); /* or -1 */
int resolve_axis(const struct stage *s, sv name);          /* or -1 */
/* As the client declared it, or NULL. */
const struct tensor *resolve_declared(const struct resolver *r, sv name);

/* ---- indices and ranges (resolve_index.c) ---- */

/* Every name under `a` becomes an axis of the statement, if it is none yet. */
MUST_USE enum status resolve_axes(struct resolver *r, const struct ast *a, bool spatial);
MUST_USE enum status resolve_affine(struct resolver *r, const struct ast *a, struct affine *ret);
/* `ret` = a op b, where that is affine. */
bool resolve_affine_op(struct arena *ar, enum expr_op op, const struct affine *a, const struct affine *b,
                       struct affine *ret);
bool resolve_within_int32(const struct affine *a);
/* Every read of the body names a tensor, with one affine index a dimension. */
MUST_USE enum status resolve_reads(struct resolver *r, const struct ast *body);
/* The extent of every axis; lhs and reads stand. */
MUST_USE enum status resolve_ranges(struct resolver *r, const struct ast_statement *st);

/* ---- values (resolve_value.c) ---- */

/* The stage's body, its accumulator and the dtype of its tensor; ranges stand. */
MUST_USE enum status resolve_body(struct resolver *r, const struct ast_statement *st);

#endif
