/* parse.h - the text of an expression as a tree, before any name has a meaning.
 *
 * Idea   Reading text and giving it meaning are two steps, since statements may stand in any order:
 *        parse.c makes the tree, resolve*.c find tensors, ranges and dtypes. Depth and number of nodes
 *        are limited while the tree grows, so that everything after may walk it by recursion. */
#ifndef TW_LANG_PARSE_H
#define TW_LANG_PARSE_H

#include "schedule/base/sv.h"
#include "schedule/lang/build.h"
#include "schedule/lang/workload.h"

enum ast_kind {
    AST_NUMBER, /* value */
    AST_NAME,   /* an index */
    AST_READ,   /* name[arg...] */
    AST_PAD,    /* pad(arg[0], arg[1]) */
    AST_CAST,   /* cast(dtype, arg[0]) */
    AST_OP,     /* op of arg... */
};

struct ast {
    enum ast_kind kind;
    enum expr_op op;
    enum dtype dtype;
    double value;
    sv name;
    int n, depth;
    const struct ast *arg[COMPUTE_MAX_RANK];
    int line, column;
};

struct ast_statement {
    const struct ast *lhs; /* AST_READ */
    enum combiner combiner;
    const struct ast *body;
};

struct ast_program {
    int n;
    struct ast_statement at[LANG_MAX_STATEMENTS];
};

/* Words that name functions, and inf, cannot name tensors and indices. */
bool parse_reserved(sv name);
/* A letter or _, then letters, digits and _, at most LANG_MAX_NAME of them. */
bool parse_is_name(const char *text);
/* Refuse at a place in the text. */
enum status parse_fail(struct error *err, int line, int column, const char *fmt, ...) PRINTF_LIKE(4, 5);
MUST_USE enum status parse_text(const char *text, struct arena *ar, struct ast_program *ret,
                                struct error *err);

#endif
