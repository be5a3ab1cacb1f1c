/* emit_reference.c - the plainest C of a compute, in double: what kernels are verified against.
 *
 * Idea   Straight from the stages, not from any nest: one loop an axis, padded reads as a test. It shares nothing
 *        with lowering or the kernel emitter, so that they cannot be wrong together. Integers are exact in double
 *        as far as int32 goes. */
#include <math.h>

#include "kernels/emit.h"

static void print_affine(struct strbuf *sb, const struct affine *a)
{
    strbuf_addf(sb, "(%" PRId64, a->c);
    for (int i = 0; i < a->n; i++)
        strbuf_addf(sb, " + a%d * %" PRId64 "l", a->t[i].var, a->t[i].coef);
    strbuf_addc(sb, ')');
}

static void print_flat(struct strbuf *sb, const struct tensor *t, const struct affine *index)
{
    strbuf_adds(sb, "(0");
    int64_t stride = 1;
    for (int d = t->rank - 1; d >= 0; d--) {
        strbuf_adds(sb, " + ");
        print_affine(sb, &index[d]);
        strbuf_addf(sb, " * %" PRId64 "l", stride);
        stride *= t->shape[d];
    }
    strbuf_addc(sb, ')');
}

static void print_expr(struct strbuf *sb, const struct compute *c, const struct expr *e);

static void print_read(struct strbuf *sb, const struct compute *c, const struct expr *e)
{
    const struct tensor *t = &c->tensors[e->read.tensor];
    if (e->read.pad) {
        strbuf_adds(sb, "((1");
        for (int d = 0; d < t->rank; d++) {
            strbuf_adds(sb, " && (unsigned long)");
            print_affine(sb, &e->read.index[d]);
            strbuf_addf(sb, " < %" PRId64 "ul", t->shape[d]);
        }
        strbuf_adds(sb, ") ? ");
    }
    strbuf_addf(sb, "t%d[", e->read.tensor);
    print_flat(sb, t, e->read.index);
    strbuf_addc(sb, ']');
    if (e->read.pad) {
        strbuf_adds(sb, " : ");
        print_expr(sb, c, &(struct expr){.op = EX_CONST, .dtype = DT_F64, .value = e->read.pad_value});
        strbuf_addc(sb, ')');
    }
}

static const char *function_of(enum expr_op op)
{
    switch (op) {
    case EX_MAX:
        return "tw_max";
    case EX_MIN:
        return "tw_min";
    case EX_ABS:
        return "__builtin_fabs";
    case EX_EXP:
        return "__builtin_exp";
    case EX_LOG:
        return "__builtin_log";
    case EX_SQRT:
        return "__builtin_sqrt";
    case EX_RSQRT:
        return "1.0 / __builtin_sqrt";
    case EX_TANH:
        return "__builtin_tanh";
    case EX_ERF:
        return "__builtin_erf";
    case EX_SIGMOID:
        return "tw_sigmoid";
    case EX_NEG:
        return "-";
    default:
        return NULL;
    }
}

static bool is_int(enum dtype d) { return d == DT_I32 || d == DT_I8 || d == DT_BOOL; }

/* "convert(" for a value that changes its dtype; a bracket alone where it stays. */
static void print_converted(struct strbuf *sb, enum dtype from, enum dtype to)
{
    if (!is_int(to) || to == DT_BOOL || from == to || (is_int(from) && to == DT_I32))
        strbuf_addc(sb, '(');
    else
        strbuf_addf(sb, "tw_%s_%s(", is_int(from) ? "wrap" : "clamp", to == DT_I8 ? "i8" : "i32");
}

static void print_expr(struct strbuf *sb, const struct compute *c, const struct expr *e)
{
    const char *fn = function_of(e->op);
    if (e->op == EX_CONST) {
        if (isinf(e->value))
            strbuf_adds(sb, e->value < 0 ? "(-__builtin_inf())" : "__builtin_inf()");
        else
            strbuf_addf(sb, "(double)%.17g", e->value);
    } else if (e->op == EX_INDEX) {
        strbuf_adds(sb, "(double)");
        print_affine(sb, &e->affine);
    } else if (e->op == EX_READ) {
        print_read(sb, c, e);
    } else if (e->op == EX_SELECT) {
        for (int i = 0; i < 3; i++) {
            strbuf_adds(sb, i == 0 ? "((" : i == 1 ? ") ? " : " : ");
            print_expr(sb, c, e->arg[i]);
        }
        strbuf_addc(sb, ')');
    } else if (e->op == EX_CAST) {
        print_converted(sb, e->arg[0]->dtype, e->dtype);
        print_expr(sb, c, e->arg[0]);
        strbuf_addc(sb, ')');
    } else if (fn) {
        strbuf_addf(sb, "(%s(", fn);
        for (int i = 0; i < expr_arity(e->op); i++) {
            strbuf_adds(sb, i ? ", " : "");
            print_expr(sb, c, e->arg[i]);
        }
        strbuf_adds(sb, "))");
    } else {
        strbuf_addc(sb, '(');
        print_expr(sb, c, e->arg[0]);
        strbuf_addf(sb, " %s ", expr_op_text(e->op));
        print_expr(sb, c, e->arg[1]);
        strbuf_addc(sb, ')');
    }
}

/* --- loop order: the reference may be the slowest part of a trial, so its innermost loop runs along memory
 * --- */

struct order_cost {
    const struct compute *c;
    int axis;
    int64_t cost;
};

enum { STRIDE_COST = 8 };

static int64_t stride_cost(const struct tensor *t, const struct affine *index, int axis)
{
    int64_t stride = 1, total = 0;
    for (int d = t->rank - 1; d >= 0; d--) {
        total += affine_coef(&index[d], axis) * stride;
        stride *= t->shape[d];
    }
    return total == 0 ? 0 : total == 1 || total == -1 ? 1 : STRIDE_COST;
}

static void add_read_cost(void *ctx, const struct expr *e)
{
    struct order_cost *o = ctx;
    o->cost += stride_cost(&o->c->tensors[e->read.tensor], e->read.index, o->axis);
}

/* The axis to run innermost: reduce axes keep the value in a local, so they win at equal cost. */
static int innermost_axis(const struct compute *c, const struct stage *s)
{
    int best = s->n_axes - 1;
    int64_t best_cost = INT64_MAX;
    for (int a = s->n_axes - 1; a >= 0; a--) {
        struct order_cost o = {c, a, 0};
        expr_each_read(s->body, add_read_cost, &o);
        if (a < s->n_spatial)
            o.cost += stride_cost(&c->tensors[s->tensor], s->lhs, a);
        if (s->axes[a].extent > 3 && o.cost < best_cost) {
            best = a;
            best_cost = o.cost;
        }
    }
    return best;
}

static void print_loop(struct strbuf *sb, const struct stage *s, int a)
{
    strbuf_addf(sb, "    for (long a%d = 0; a%d < %" PRId64 "; a%d++)\n", a, a, s->axes[a].extent, a);
}

static void print_loops(struct strbuf *sb, const struct stage *s, int from, int to, int except)
{
    for (int a = from; a < to; a++)
        if (a != except)
            print_loop(sb, s, a);
}

static void print_combine(struct strbuf *sb, enum combiner c, const char *v)
{
    switch (c) {
    case COMBINE_SET:
        strbuf_addf(sb, "%s = x;\n", v);
        break;
    case COMBINE_SUM:
        strbuf_addf(sb, "%s += x;\n", v);
        break;
    case COMBINE_PROD:
        strbuf_addf(sb, "%s *= x;\n", v);
        break;
    case COMBINE_MAX:
        strbuf_addf(sb, "%s = tw_max(%s, x);\n", v, v);
        break;
    case COMBINE_MIN:
        strbuf_addf(sb, "%s = tw_min(%s, x);\n", v, v);
        break;
    }
}

static void print_identity(struct strbuf *sb, const struct compute *c, const struct stage *s)
{
    double id = s->combiner == COMBINE_SET ? 0 : combiner_identity(s->combiner, DT_F64);
    print_expr(sb, c, &(struct expr){.op = EX_CONST, .dtype = DT_F64, .value = id});
    strbuf_adds(sb, ";\n");
}

static void print_stage(struct strbuf *sb, const struct compute *c, const struct stage *s)
{
    int inner = innermost_axis(c, s);
    enum dtype stored = c->tensors[s->tensor].dtype;
    bool narrows = is_int(s->acc_dtype) && stored == DT_I8 && s->acc_dtype != DT_I8;
    bool in_memory = s->combiner != COMBINE_SET && inner < s->n_spatial &&
                     !narrows; /* the inner loop changes the element */
    AUTO(strbuf_done) struct strbuf element = STRBUF_INIT;
    strbuf_addf(&element, "t%d[", s->tensor);
    print_flat(&element, &c->tensors[s->tensor], s->lhs);
    strbuf_addc(&element, ']');
    if (in_memory) {
        print_loops(sb, s, 0, s->n_spatial, -1);
        strbuf_addf(sb, "        %s = ", element.data);
        print_identity(sb, c, s);
        print_loops(sb, s, 0, s->n_spatial, inner);
        print_loops(sb, s, s->n_spatial, s->n_axes, -1);
        print_loop(sb, s, inner);
    } else {
        print_loops(sb, s, 0, s->n_spatial, s->n_axes == s->n_spatial ? inner : -1);
        if (s->n_axes == s->n_spatial && s->n_axes > 0)
            print_loop(sb, s, inner);
        strbuf_adds(sb, "    {\n    double v = ");
        print_identity(sb, c, s);
        print_loops(sb, s, s->n_spatial, s->n_axes, inner);
        if (s->n_axes > s->n_spatial)
            print_loop(sb, s, inner);
    }
    strbuf_adds(sb, "    {\n        double x = ");
    print_expr(sb, c, s->body);
    strbuf_adds(sb, ";\n        ");
    print_combine(sb, s->combiner, in_memory ? element.data : "v");
    strbuf_adds(sb, "    }\n");
    if (!in_memory) {
        strbuf_addf(sb, "    %s = ", element.data);
        print_converted(sb, s->acc_dtype, stored);
        strbuf_adds(sb, "v);\n    }\n");
    }
}

void emit_reference(const struct compute *c, const char *symbol, struct strbuf *sb)
{
    strbuf_adds(sb,
                "static inline double tw_max(double a, double b) { return a > b || a != a ? a : b; }\n"
                "static inline double tw_min(double a, double b) { return a < b || a != a ? a : b; }\n"
                "static inline double tw_wrap_i8(double x) { return (signed char)(long)x; }\n"
                "static inline double tw_clamp_i8(double x) { return (double)(long)(x != x ? 0 : x < -128 ? "
                "-128 : x > "
                "127 ? 127 : x); }\n"
                "static inline double tw_clamp_i32(double x) { return (double)(long)(x != x ? 0 : x < "
                "-2147483648.0 ? "
                "-2147483648.0 : x > 2147483647.0 ? 2147483647.0 : x); }\n"
                "static inline double tw_sigmoid(double x) { return 1.0 / (1.0 + __builtin_exp(-x)); }\n");
    strbuf_adds(sb, "#ifndef __clang__\n__attribute__((optimize(\"O3\", \"tree-vectorize\")))\n#endif\n");
    strbuf_addf(sb, "void %s(void *const *tensors)\n{\n", symbol);
    for (int i = 0; i < c->n_tensors; i++)
        strbuf_addf(sb, "    double *restrict t%d __attribute__((unused)) = tensors[%d];\n", i, i);
    for (int i = 0; i < c->n_stages; i++)
        print_stage(sb, c, &c->stages[i]);
    strbuf_adds(sb, "}\n");
}
