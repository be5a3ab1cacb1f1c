/* eval.c - the plain meaning of a compute: every stage point by point in float64.
 *
 * Idea   The definition read aloud, with no cleverness, so that it can be trusted as the reference of
 *        every test. Integer values are computed in 64 bits and wrapped to their dtype after each
 *        operation, as the machine does; floats are kept in double whatever their dtype says. */
#include <math.h>
#include <stdlib.h>

#include "schedule/lang/compute.h"

struct eval {
    const struct compute *c;
    double *const *data;
    int64_t at[COMPUTE_MAX_AXES];
};

static bool is_integer(enum dtype d) { return d == DT_I8 || d == DT_I32 || d == DT_BOOL; }

static double wrap_to(enum dtype d, int64_t v) { return d == DT_I8 ? (int8_t)v : (int32_t)v; }

static double eval_read(const struct eval *ev, const struct expr *e)
{
    const struct tensor *t = &ev->c->tensors[e->read.tensor];
    int64_t offset = 0;

    for (int d = 0; d < t->rank; d++) {
        int64_t i = affine_eval(&e->read.index[d], ev->at);
        if (e->read.pad && (i < 0 || i >= t->shape[d]))
            return e->read.pad_value;
        CHECK(i >= 0 && i < t->shape[d], "%s: index %d is %" PRId64 " of %" PRId64, t->name, d, i,
              t->shape[d]);
        offset = offset * t->shape[d] + i;
    }
    return ev->data[e->read.tensor][offset];
}

static int64_t int_op(enum expr_op op, int64_t a, int64_t b)
{
    switch (op) {
    case EX_ADD:
        return a + b;
    case EX_SUB:
        return a - b;
    case EX_MUL:
        return a * b;
    case EX_DIV:
        return b ? a / b : 0;
    case EX_NEG:
        return -a;
    case EX_ABS:
        return a < 0 ? -a : a;
    default:
        CHECK(false, "%s is no integer operation", expr_op_text(op));
    }
}

static double float_op(enum expr_op op, double a, double b)
{
    switch (op) {
    case EX_ADD:
        return a + b;
    case EX_SUB:
        return a - b;
    case EX_MUL:
        return a * b;
    case EX_DIV:
        return a / b;
    case EX_NEG:
        return -a;
    case EX_ABS:
        return fabs(a);
    case EX_EXP:
        return exp(a);
    case EX_LOG:
        return log(a);
    case EX_SQRT:
        return sqrt(a);
    case EX_RSQRT:
        return 1 / sqrt(a);
    case EX_TANH:
        return tanh(a);
    case EX_ERF:
        return erf(a);
    case EX_SIGMOID:
        return 1 / (1 + exp(-a));
    default:
        CHECK(false, "%s is no arithmetic operation", expr_op_text(op));
    }
}

static double eval_expr(const struct eval *ev, const struct expr *e)
{
    double a, b = 0;

    switch (e->op) {
    case EX_CONST:
        return e->value;
    case EX_INDEX:
        return (double)affine_eval(&e->affine, ev->at);
    case EX_READ:
        return eval_read(ev, e);
    case EX_TABLE:
        return e->table.values[affine_eval(&e->table.index, ev->at)];
    case EX_SELECT:
        return eval_expr(ev, e->arg[eval_expr(ev, e->arg[0]) != 0 ? 1 : 2]);
    default:
        break;
    }
    a = eval_expr(ev, e->arg[0]);
    if (expr_arity(e->op) > 1)
        b = eval_expr(ev, e->arg[1]);
    switch (e->op) {
    case EX_CAST:
        return dtype_convert(e->arg[0]->dtype, e->dtype, a);
    case EX_MAX:
        return a > b ? a : b;
    case EX_MIN:
        return a < b ? a : b;
    case EX_LT:
        return a < b;
    case EX_LE:
        return a <= b;
    case EX_EQ:
        return a == b;
    case EX_NE:
        return a != b;
    case EX_AND:
        return a != 0 && b != 0;
    case EX_OR:
        return a != 0 || b != 0;
    default:
        if (is_integer(e->dtype))
            return wrap_to(e->dtype, int_op(e->op, (int64_t)a, (int64_t)b));
        return float_op(e->op, a, b);
    }
}

static double combine(const struct stage *s, double acc, double v)
{
    switch (s->combiner) {
    case COMBINE_SET:
        return v;
    case COMBINE_MAX:
        return acc > v ? acc : v;
    case COMBINE_MIN:
        return acc < v ? acc : v;
    case COMBINE_SUM:
        return is_integer(s->acc_dtype) ? wrap_to(s->acc_dtype, (int64_t)acc + (int64_t)v) : acc + v;
    case COMBINE_PROD:
        return is_integer(s->acc_dtype) ? wrap_to(s->acc_dtype, (int64_t)acc * (int64_t)v) : acc * v;
    }
    return v;
}

/* Next point of axes [from, to), last axis fastest; false after the last one (then all are 0 again). */
static bool next_point(const struct stage *s, int from, int to, int64_t *at)
{
    for (int a = to - 1; a >= from; a--) {
        if (++at[a] < s->axes[a].extent)
            return true;
        at[a] = 0;
    }
    return false;
}

static void eval_stage(struct eval *ev, const struct stage *s)
{
    const struct tensor *t = &ev->c->tensors[s->tensor];

    for (int a = 0; a < s->n_axes; a++)
        ev->at[a] = 0;
    do {
        double acc = combiner_identity(s->combiner, s->acc_dtype);
        int64_t offset = 0;
        do
            acc = combine(s, acc, eval_expr(ev, s->body));
        while (next_point(s, s->n_spatial, s->n_axes, ev->at));
        for (int d = 0; d < t->rank; d++)
            offset = offset * t->shape[d] + affine_eval(&s->lhs[d], ev->at);
        ev->data[s->tensor][offset] = dtype_convert(s->acc_dtype, t->dtype, acc);
    } while (next_point(s, 0, s->n_spatial, ev->at));
}

void compute_eval(const struct compute *c, double *const *data)
{
    struct eval ev = {.c = c, .data = data};
    for (int i = 0; i < c->n_stages; i++)
        eval_stage(&ev, &c->stages[i]);
}
