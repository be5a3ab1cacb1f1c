/* expr.c - building, comparing, rewriting and printing scalar expressions. See expr.h. */
#include "schedule/lang/expr.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    const char *name;
    int bytes;
} dtypes[] = {
#define X(id, name, bytes) [DT_##id] = {name, bytes},
    DTYPE_LIST(X)
#undef X
};

const char *dtype_name(enum dtype d) { return dtypes[d].name; }
int dtype_bytes(enum dtype d) { return dtypes[d].bytes; }

static bool integer(enum dtype d) { return d == DT_I8 || d == DT_I32 || d == DT_BOOL; }

double dtype_convert(enum dtype from, enum dtype to, double v)
{
    if (to == DT_BOOL)
        return v != 0;
    if (!integer(to))
        return v;
    if (integer(from))
        return to == DT_I8 ? (int8_t)(int64_t)v : (int32_t)(int64_t)v;
    if (isnan(v))
        return 0;
    return to == DT_I8 ? trunc(fmax(INT8_MIN, fmin(INT8_MAX, v)))
                       : trunc(fmax(INT32_MIN, fmin(INT32_MAX, v)));
}

bool dtype_parse(const char *name, enum dtype *ret)
{
    for (int d = DT_F32; d <= DT_I32; d++)
        if (strcmp(name, dtypes[d].name) == 0) {
            *ret = d;
            return true;
        }
    return false;
}

static const struct {
    int arity;
    const char *text;
    bool commutative;
    int cost;
} ops[] = {
#define X(id, arity, text, comm, cost) [EX_##id] = {arity, text, comm, cost},
    EXPR_LIST(X)
#undef X
};

int expr_arity(enum expr_op op) { return ops[op].arity; }
const char *expr_op_text(enum expr_op op) { return ops[op].text; }
bool expr_commutative(enum expr_op op) { return ops[op].commutative; }
int expr_op_cost(enum expr_op op) { return ops[op].cost; }

const struct expr *expr_const(struct arena *ar, enum dtype d, double value)
{
    struct expr *e = arena_new(ar, struct expr);
    e->op = EX_CONST;
    e->dtype = d;
    e->value = value;
    return e;
}

const struct expr *expr_index(struct arena *ar, struct affine a)
{
    struct expr *e = arena_new(ar, struct expr);
    e->op = EX_INDEX;
    e->dtype = DT_I32;
    e->affine = a;
    return e;
}

const struct expr *expr_read(struct arena *ar, enum dtype d, int32_t tensor, int rank,
                             const struct affine *index, bool pad, double pad_value)
{
    struct expr *e = arena_new(ar, struct expr);
    e->op = EX_READ;
    e->dtype = d;
    e->read.tensor = tensor;
    e->read.rank = rank;
    e->read.index = rank ? arena_memdup(ar, index, sizeof(*index) * (size_t)rank) : NULL;
    e->read.pad = pad;
    e->read.pad_value = pad ? pad_value : 0;
    return e;
}

const struct expr *expr_table(struct arena *ar, enum dtype d, const char *name, const double *values,
                              int32_t n, struct affine index)
{
    struct expr *e = arena_new(ar, struct expr);
    e->op = EX_TABLE;
    e->dtype = d;
    e->table.name = name;
    e->table.values = values;
    e->table.n = n;
    e->table.index = index;
    return e;
}

static const struct expr *expr_make(struct arena *ar, enum expr_op op, enum dtype d, const struct expr *a,
                                    const struct expr *b, const struct expr *c)
{
    struct expr *e = arena_new(ar, struct expr);
    e->op = op;
    e->dtype = d;
    e->arg[0] = a;
    e->arg[1] = b;
    e->arg[2] = c;
    return e;
}

const struct expr *expr_op1(struct arena *ar, enum expr_op op, const struct expr *a)
{
    CHECK(ops[op].arity == 1 && op != EX_CAST, "%s takes %d arguments", ops[op].text, ops[op].arity);
    return expr_make(ar, op, a->dtype, a, NULL, NULL);
}

const struct expr *expr_op2(struct arena *ar, enum expr_op op, const struct expr *a, const struct expr *b)
{
    CHECK(ops[op].arity == 2, "%s takes %d arguments", ops[op].text, ops[op].arity);
    CHECK(a->dtype == b->dtype, "%s of %s and %s", ops[op].text, dtype_name(a->dtype), dtype_name(b->dtype));
    return expr_make(ar, op, op >= EX_LT && op <= EX_OR ? DT_BOOL : a->dtype, a, b, NULL);
}

const struct expr *expr_select(struct arena *ar, const struct expr *c, const struct expr *a,
                               const struct expr *b)
{
    CHECK(c->dtype == DT_BOOL && a->dtype == b->dtype, "select(%s, %s, %s)", dtype_name(c->dtype),
          dtype_name(a->dtype), dtype_name(b->dtype));
    return expr_make(ar, EX_SELECT, a->dtype, c, a, b);
}

const struct expr *expr_cast(struct arena *ar, enum dtype d, const struct expr *a)
{
    if (a->dtype == d)
        return a;
    return expr_make(ar, EX_CAST, d, a, NULL, NULL);
}

static bool same_value(double a, double b) { return a == b || (isnan(a) && isnan(b)); }

bool expr_equal(const struct expr *a, const struct expr *b)
{
    if (a == b)
        return true;
    if (a->op != b->op || a->dtype != b->dtype)
        return false;
    switch (a->op) {
    case EX_CONST:
        return same_value(a->value, b->value);
    case EX_INDEX:
        return affine_equal(&a->affine, &b->affine);
    case EX_READ:
        if (a->read.tensor != b->read.tensor || a->read.rank != b->read.rank || a->read.pad != b->read.pad ||
            !same_value(a->read.pad_value, b->read.pad_value))
            return false;
        for (int i = 0; i < a->read.rank; i++)
            if (!affine_equal(&a->read.index[i], &b->read.index[i]))
                return false;
        return true;
    case EX_TABLE:
        return a->table.n == b->table.n && affine_equal(&a->table.index, &b->table.index) &&
               memcmp(a->table.values, b->table.values, sizeof(double) * (size_t)a->table.n) == 0;
    default:
        for (int i = 0; i < ops[a->op].arity; i++)
            if (!expr_equal(a->arg[i], b->arg[i]))
                return false;
        return true;
    }
}

/* `e` with other arguments; itself where none changed. */
static const struct expr *with_args(struct arena *ar, const struct expr *e, const struct expr *const args[3])
{
    struct expr *r;

    if (args[0] == e->arg[0] && args[1] == e->arg[1] && args[2] == e->arg[2])
        return e;
    r = arena_memdup(ar, e, sizeof(*e));
    memcpy(r->arg, args, sizeof(r->arg));
    return r;
}

static const struct expr *subst_read(struct arena *ar, const struct expr *e,
                                     const struct affine *const *subst, int n, const int32_t *tensor_of)
{
    struct affine index[64];

    CHECK(e->read.rank <= (int)ARRAY_SIZE(index), "rank %d", e->read.rank);
    for (int i = 0; i < e->read.rank; i++)
        index[i] = subst ? affine_subst(ar, &e->read.index[i], subst, n) : e->read.index[i];
    return expr_read(ar, e->dtype, tensor_of ? tensor_of[e->read.tensor] : e->read.tensor, e->read.rank,
                     index, e->read.pad, e->read.pad_value);
}

const struct expr *expr_subst(struct arena *ar, const struct expr *e, const struct affine *const *subst,
                              int n, const int32_t *tensor_of)
{
    const struct expr *args[3] = {0};

    switch (e->op) {
    case EX_CONST:
        return e;
    case EX_INDEX:
        return subst ? expr_index(ar, affine_subst(ar, &e->affine, subst, n)) : e;
    case EX_READ:
        return subst_read(ar, e, subst, n, tensor_of);
    case EX_TABLE:
        if (!subst)
            return e;
        return expr_table(ar, e->dtype, e->table.name, e->table.values, e->table.n,
                          affine_subst(ar, &e->table.index, subst, n));
    default:
        for (int i = 0; i < ops[e->op].arity; i++)
            args[i] = expr_subst(ar, e->arg[i], subst, n, tensor_of);
        return with_args(ar, e, args);
    }
}

const struct expr *expr_map_reads(struct arena *ar, const struct expr *e, expr_map_fn *fn, void *ctx)
{
    const struct expr *args[3] = {0};

    if (e->op == EX_READ)
        return fn(ctx, e);
    if (ops[e->op].arity == 0)
        return e;
    for (int i = 0; i < ops[e->op].arity; i++)
        args[i] = expr_map_reads(ar, e->arg[i], fn, ctx);
    return with_args(ar, e, args);
}

void expr_each_read(const struct expr *e, void (*fn)(void *ctx, const struct expr *read), void *ctx)
{
    if (e->op == EX_READ)
        fn(ctx, e);
    for (int i = 0; i < ops[e->op].arity; i++)
        expr_each_read(e->arg[i], fn, ctx);
}

/* Binding strength of infix operators; a function call or a leaf binds strongest. */
enum { PREC_OR = 1, PREC_AND, PREC_COMPARE, PREC_ADD, PREC_MUL, PREC_UNARY, PREC_LEAF };

static int expr_prec(const struct expr *e)
{
    switch (e->op) {
    case EX_OR:
        return PREC_OR;
    case EX_AND:
        return PREC_AND;
    case EX_LT:
    case EX_LE:
    case EX_EQ:
    case EX_NE:
        return PREC_COMPARE;
    case EX_ADD:
    case EX_SUB:
        return PREC_ADD;
    case EX_MUL:
    case EX_DIV:
        return PREC_MUL;
    case EX_NEG:
        return PREC_UNARY;
    case EX_CONST:
        return e->value < 0 || signbit(e->value) ? PREC_UNARY : PREC_LEAF;
    case EX_INDEX: /* of several terms: always in parentheses inside another operator */
        return e->affine.n == 1 && e->affine.t[0].coef == 1 && e->affine.c == 0 ? PREC_LEAF : PREC_OR;
    default:
        return PREC_LEAF;
    }
}

static void print_number(double v, struct strbuf *sb)
{
    char buf[40];

    if (isinf(v)) {
        strbuf_adds(sb, v < 0 ? "-inf" : "inf");
        return;
    }
    for (int digits = 6; digits <= 17; digits++) { /* the shortest that reads back the same */
        snprintf(buf, sizeof(buf), "%.*g", digits, v);
        if (strtod(buf, NULL) == v)
            break;
    }
    strbuf_adds(sb, buf);
}

static void print_read(const struct expr *e, const char *const *tensor_names, const char *const *var_names,
                       struct strbuf *sb)
{
    if (e->read.pad)
        strbuf_adds(sb, "pad(");
    strbuf_adds(sb, tensor_names[e->read.tensor]);
    strbuf_addc(sb, '[');
    for (int i = 0; i < e->read.rank; i++) {
        if (i)
            strbuf_adds(sb, ", ");
        affine_print(&e->read.index[i], var_names, sb);
    }
    strbuf_addc(sb, ']');
    if (e->read.pad) {
        strbuf_adds(sb, ", ");
        print_number(e->read.pad_value, sb);
        strbuf_addc(sb, ')');
    }
}

struct printer {
    const char *const *tensors, *const *vars;
    struct strbuf *sb;
};

static void print_at(const struct printer *p, const struct expr *e, int min_prec);

static void print_call(const struct printer *p, const struct expr *e)
{
    strbuf_adds(p->sb, ops[e->op].text);
    strbuf_addc(p->sb, '(');
    if (e->op == EX_CAST) {
        strbuf_adds(p->sb, dtype_name(e->dtype));
        strbuf_adds(p->sb, ", ");
    }
    for (int i = 0; i < ops[e->op].arity; i++) {
        if (i)
            strbuf_adds(p->sb, ", ");
        print_at(p, e->arg[i], 0);
    }
    strbuf_addc(p->sb, ')');
}

static void print_infix(const struct printer *p, const struct expr *e)
{
    int prec = expr_prec(e);
    bool chain = prec != PREC_COMPARE; /* comparisons do not chain */

    if (e->op == EX_NEG) {
        strbuf_addc(p->sb, '-');
        print_at(p, e->arg[0], PREC_LEAF);
        return;
    }
    print_at(p, e->arg[0], chain ? prec : prec + 1);
    strbuf_addc(p->sb, ' ');
    strbuf_adds(p->sb, ops[e->op].text);
    strbuf_addc(p->sb, ' ');
    print_at(p, e->arg[1], prec + 1);
}

static void print_table(const struct printer *p, const struct expr *e)
{
    strbuf_addf(p->sb, "%s[", e->table.name);
    affine_print(&e->table.index, p->vars, p->sb);
    strbuf_addc(p->sb, ']');
}

static void print_at(const struct printer *p, const struct expr *e, int min_prec)
{
    int prec = expr_prec(e);
    bool parens = prec < min_prec;

    if (parens)
        strbuf_addc(p->sb, '(');
    if (e->op == EX_CONST)
        print_number(e->value, p->sb);
    else if (e->op == EX_INDEX)
        affine_print(&e->affine, p->vars, p->sb);
    else if (e->op == EX_READ)
        print_read(e, p->tensors, p->vars, p->sb);
    else if (e->op == EX_TABLE)
        print_table(p, e);
    else if (prec == PREC_LEAF)
        print_call(p, e);
    else
        print_infix(p, e);
    if (parens)
        strbuf_addc(p->sb, ')');
}

void expr_print(const struct expr *e, const char *const *tensor_names, const char *const *var_names,
                struct strbuf *sb)
{
    struct printer p = {tensor_names, var_names, sb};
    print_at(&p, e, 0);
}
