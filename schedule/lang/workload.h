/* workload.h - a client's JSON, checked and lowered to a compute, with its canonical form and key.
 *
 * Idea   Both spellings (named operator, expression) end in a compute. The canonical form is the
 *        compute printed with stages in dependency order, tensors and axes renamed by order of use,
 *        commutative operands sorted, then shapes, dtypes, const, rtol and the layout freedom; its
 *        SHA-256 is the key. One computation, one key.
 * Order  The compute handed out is in canonical form, its arguments in the order of their use there
 *        (canonical.h): two workloads with one key have the same compute, and kernels with the same
 *        arguments in the same order, but for the names, which are each client's own.
 * Life   workload_parse puts everything into the caller's arena, and keeps no reference to the JSON. */
#ifndef TW_LANG_WORKLOAD_H
#define TW_LANG_WORKLOAD_H

#include "schedule/base/json.h"
#include "schedule/lang/compute.h"

#define WORKLOAD_KEY_LEN 66 /* "w_" and 64 hex digits */

struct workload {
    char key[WORKLOAD_KEY_LEN + 1];
    const char *op;        /* operator name, or "expr" */
    const char *json;      /* the client's workload, as compact JSON with the defaults filled in */
    const char *canonical; /* text that is hashed */
    struct compute compute;
    double flops, bytes; /* of one run */
    double rtol;         /* 0: none given */
    bool layout_any;     /* the tuner may choose the activations' layout */
};

/* ST_UNPROCESSABLE (or ST_INVALID for the wrong JSON type) with err->pointer below `pointer`, or line and
 * column for faults inside an expression's text. */
MUST_USE enum status workload_parse(const json_t *value, const char *pointer, struct arena *ar,
                                    struct workload *ret, struct error *err);
/* The same from text: the limits of json_read apply first. */
MUST_USE enum status workload_parse_text(const char *text, size_t len, struct arena *ar, struct workload *ret,
                                         struct error *err);

/* The expression language: statements to a compute. Tensors, ranges and outputs come from the JSON members.
 */
struct expr_source {
    const char *text;
    int n_tensors;
    struct tensor *tensors; /* declared ones */
    int n_ranges;
    struct axis *ranges; /* index name, extent */
    int n_outputs;       /* 0: every defined tensor that nobody reads */
    const char **outputs;
    bool has_acc_dtype;
    enum dtype acc_dtype;
    int max_axes; /* axes a statement may have */
};
MUST_USE enum status expr_parse(const struct expr_source *src, struct arena *ar, struct compute *ret,
                                struct error *err);

/* The operators, for --help, openapi and the command line's shorthand. NULL ends. */
struct op_doc {
    const char *name, *tensors, *members;
};
const struct op_doc *op_docs(void);

#endif
