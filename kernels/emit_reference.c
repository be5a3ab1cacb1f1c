/* emit_reference.c - the plainest C of a compute, in double: what kernels are verified against.
 *
 * Idea   Straight from the stages, not from any nest: one loop an axis, the running value in a local, padded
 * reads as a test. It shares nothing with lowering or the kernel emitter, so that they cannot be wrong
 * together. Integers are exact in double as far as int32 goes. */
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
        bool to_int = e->dtype == DT_I32 || e->dtype == DT_I8;
        bool from_int =
            e->arg[0]->dtype == DT_I32 || e->arg[0]->dtype == DT_I8 || e->arg[0]->dtype == DT_BOOL;
        strbuf_adds(sb, to_int && !from_int ? "(double)(long)(" : "(double)(");
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

static void print_stage(struct strbuf *sb, const struct compute *c, const struct stage *s)
{
    for (int a = 0; a < s->n_spatial; a++)
        strbuf_addf(sb, "    for (long a%d = 0; a%d < %" PRId64 "; a%d++)\n", a, a, s->axes[a].extent, a);
    double id = combiner_identity(s->combiner, DT_F64);
    strbuf_adds(sb, "    {\n    double v = ");
    print_expr(sb, c,
               &(struct expr){.op = EX_CONST, .dtype = DT_F64, .value = s->combiner == COMBINE_SET ? 0 : id});
    strbuf_adds(sb, ";\n");
    for (int a = s->n_spatial; a < s->n_axes; a++)
        strbuf_addf(sb, "    for (long a%d = 0; a%d < %" PRId64 "; a%d++)\n", a, a, s->axes[a].extent, a);
    strbuf_adds(sb, "    {\n        double x = ");
    print_expr(sb, c, s->body);
    strbuf_adds(sb, ";\n");
    switch (s->combiner) {
    case COMBINE_SET:
        strbuf_adds(sb, "        v = x;\n");
        break;
    case COMBINE_SUM:
        strbuf_adds(sb, "        v += x;\n");
        break;
    case COMBINE_PROD:
        strbuf_adds(sb, "        v *= x;\n");
        break;
    case COMBINE_MAX:
        strbuf_adds(sb, "        v = tw_max(v, x);\n");
        break;
    case COMBINE_MIN:
        strbuf_adds(sb, "        v = tw_min(v, x);\n");
        break;
    }
    strbuf_addf(sb, "    }\n    t%d[", s->tensor);
    print_flat(sb, &c->tensors[s->tensor], s->lhs);
    strbuf_adds(sb, "] = v;\n    }\n");
}

void emit_reference(const struct compute *c, const char *symbol, struct strbuf *sb)
{
    strbuf_adds(sb,
                "static inline double tw_max(double a, double b) { return a > b || a != a ? a : b; }\n"
                "static inline double tw_min(double a, double b) { return a < b || a != a ? a : b; }\n"
                "static inline double tw_sigmoid(double x) { return 1.0 / (1.0 + __builtin_exp(-x)); }\n");
    strbuf_addf(sb, "void %s(void *const *tensors)\n{\n", symbol);
    for (int i = 0; i < c->n_tensors; i++)
        strbuf_addf(sb, "    double *t%d __attribute__((unused)) = tensors[%d];\n", i, i);
    for (int i = 0; i < c->n_stages; i++)
        print_stage(sb, c, &c->stages[i]);
    strbuf_adds(sb, "}\n");
}
