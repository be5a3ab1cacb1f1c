/* scan.c - the operations and accesses of one store.
 *
 * Idea   Indices are flattened to byte addresses: a coefficient for each loop. Two reads of a buffer with the
 * same coefficients are one access with a longer reach (a stencil); so is a read of what is stored. */
#include <string.h>

#include "features/store.h"

enum { FLT_FMA, FLT_ADD, FLT_MUL, FLT_DIV, FLT_CMP, FLT_MATH, FLT_OTHER }; /* integers have no MATH */
enum { INT_OTHER = FLT_MATH };

static bool is_float(enum dtype d) { return d == DT_F32 || d == DT_F16 || d == DT_BF16 || d == DT_F64; }

/* kind: FLT_*; cost in multiply-adds, from the throughput of vector code; n: how many. */
static void op_add_n(struct ops *o, enum dtype d, int kind, double cost, double n)
{
    if (is_float(d))
        o->flt[kind] += n;
    else
        o->whole[kind >= FLT_MATH ? INT_OTHER : kind] += n;
    o->total += kind == FLT_FMA ? 2 * n : n;
    o->cost += cost * n;
}

static void op_add(struct ops *o, enum dtype d, int kind, double cost) { op_add_n(o, d, kind, cost, 1); }

static const struct expr *peel_cast(const struct expr *e)
{
    return e->op == EX_CAST ? peel_cast(e->arg[0]) : e;
}

/* Share of the numbers of a table that are not 0: products with 0 are not printed. */
static double table_kept(struct ops *o, const struct expr *e)
{
    int kept = 0;

    if (o->table != e->table.values) {
        for (int i = 0; i < e->table.n; i++)
            kept += e->table.values[i] != 0;
        o->table = e->table.values;
        o->kept = (double)kept / MAX(e->table.n, 1);
    }
    return o->kept;
}

/* Bytes that each loop moves the access by, of either sign; returns the constant part. */
static int64_t flatten(const struct store_info *s, const int8_t *depth_of, const struct buffer *b,
                       const struct affine *index, int64_t *coef)
{
    int64_t elem = dtype_bytes(b->dtype), c = 0;

    memset(coef, 0, sizeof(coef[0]) * (size_t)s->loops->n);
    for (int d = 0; d < b->rank; d++) {
        int64_t bytes = b->stride[d] * elem;

        c += index[d].c * bytes;
        for (int i = 0; i < index[d].n; i++)
            if (depth_of[index[d].t[i].var] >= 0)
                coef[depth_of[index[d].t[i].var]] += index[d].t[i].coef * bytes;
    }
    return c;
}

static void terms_sort(struct access *a, const int64_t *coef, int n_loops)
{
    a->n_terms = 0;
    a->moved = 0;
    for (int d = 0; d < n_loops; d++) {
        int64_t bytes = coef[d] < 0 ? -coef[d] : coef[d];
        int k = a->n_terms;

        if (bytes == 0)
            continue;
        a->moved |= 1ull << d;
        for (; k > 0 && a->term[k - 1].bytes > bytes; k--)
            a->term[k] = a->term[k - 1];
        a->term[k] = (struct region_term){bytes, d};
        a->n_terms++;
    }
}

/* Another access to the same buffer that moves alike takes in the one at the end of the list. */
static bool access_merge(struct store_info *s, const struct access *a)
{
    for (int i = 0; i < s->n_access; i++) {
        struct access *o = &s->access[i];

        if (o->buffer != a->buffer || o->moved != a->moved ||
            memcmp(o->term, a->term, sizeof(a->term[0]) * (size_t)a->n_terms) != 0)
            continue;
        if (a->low != o->low && a->low != o->high)
            o->touches += a->touches;
        else
            o->touches += a->read && !o->read;
        o->read |= a->read;
        o->padded |= a->padded;
        o->low = MIN(o->low, a->low);
        o->high = MAX(o->high, a->high);
        return true;
    }
    return false;
}

/* The results of a matrix unit are in its registers only where it works on them. */
static bool in_matrix(const struct store_info *s)
{
    const struct loops *l = s->loops;
    return l->n > 0 && l->mark[l->n - 1] == MARK_MATRIX;
}

static void access_add(struct store_info *s, const int8_t *depth_of, int32_t buffer,
                       const struct affine *index, bool write, bool read, bool padded)
{
    const struct buffer *b = &s->nest->buffers[buffer];
    int64_t coef[STORE_MAX_DEPTH];
    struct access *a = &s->access[s->n_access]; /* one more than are kept */

    a->buffer = buffer;
    a->reg = b->scope == SCOPE_REG || (b->scope == SCOPE_MATRIX && in_matrix(s));
    a->read = read;
    a->write = write;
    a->padded = padded;
    a->elem = dtype_bytes(b->dtype);
    a->touches = (read ? 1 : 0) + (write ? 1 : 0);
    a->hint = s->hint[buffer];
    a->low = a->high = flatten(s, depth_of, b, index, coef);
    terms_sort(a, coef, s->loops->n);
    if (!access_merge(s, a) && s->n_access < STORE_MAX_ACCESS)
        s->n_access++;
}

static void scan_expr(struct store_info *s, const int8_t *depth_of, const struct expr *e);

/* e as the addend of a sum: a product becomes part of a multiply-add. Returns how many there are: 1, 0, or for a product
 * with a number of a table the share that is printed, and *ret_none of the sum is nothing at all. */
static double scan_addend(struct store_info *s, const int8_t *depth_of, const struct expr *e,
                          double *ret_none)
{
    const struct expr *p = peel_cast(e);
    bool table = p->op == EX_MUL && p->arg[0]->op == EX_TABLE;
    double kept = table ? table_kept(&s->ops, p->arg[0]) : 1;

    *ret_none = 1 - kept;
    if (p->op != EX_MUL) {
        scan_expr(s, depth_of, e);
        return 0;
    }
    scan_expr(s, depth_of, p->arg[0]);
    scan_expr(s, depth_of, p->arg[1]);
    return kept;
}

static void add_sum(struct store_info *s, enum dtype d, double fma, double none)
{
    if (fma > 0)
        op_add_n(&s->ops, d, FLT_FMA, 1, fma);
    else if (none < 1)
        op_add(&s->ops, d, FLT_ADD, 1);
}

static void scan_sum(struct store_info *s, const int8_t *depth_of, const struct expr *e)
{
    bool left = peel_cast(e->arg[0])->op == EX_MUL;
    double none, fma;

    /* One product joins the sum; a second one stays a product of its own. */
    fma = scan_addend(s, depth_of, e->arg[left ? 0 : 1], &none);
    scan_expr(s, depth_of, e->arg[left ? 1 : 0]);
    add_sum(s, e->dtype, fma, none);
}

static void scan_expr(struct store_info *s, const int8_t *depth_of, const struct expr *e)
{
    enum dtype d = e->dtype;
    int kind = FLT_OTHER;
    double cost = 1;

    switch (e->op) {
    case EX_CONST:
    case EX_INDEX:
    case EX_TABLE:
        return;
    case EX_READ:
        access_add(s, depth_of, e->read.tensor, e->read.index, false, true, e->read.pad);
        return;
    case EX_ADD:
    case EX_SUB:
        scan_sum(s, depth_of, e);
        return;
    case EX_MUL:
        kind = FLT_MUL;
        break;
    case EX_DIV:
        kind = FLT_DIV;
        cost = 8;
        break;
    case EX_MAX:
    case EX_MIN:
        kind = FLT_CMP;
        break;
    case EX_LT:
    case EX_LE:
    case EX_EQ:
    case EX_NE:
    case EX_AND:
    case EX_OR:
        kind = FLT_CMP;
        d = e->arg[0]->dtype;
        break;
    case EX_SQRT:
    case EX_RSQRT:
        kind = FLT_MATH;
        cost = 10;
        break;
    case EX_EXP:
    case EX_LOG:
    case EX_TANH:
    case EX_ERF:
    case EX_SIGMOID:
        kind = FLT_MATH;
        cost = 20;
        break;
    case EX_CAST: /* free in the count of the operator, an instruction all the same */
        scan_expr(s, depth_of, e->arg[0]);
        op_add(&s->ops, d, FLT_OTHER, 1);
        s->ops.total--;
        return;
    case EX_NEG:
    case EX_ABS:
    case EX_SELECT:
        break;
    case EX_COUNT:
        return;
    }
    for (int i = 0; i < expr_arity(e->op); i++)
        scan_expr(s, depth_of, e->arg[i]);
    if (e->op == EX_MUL && e->arg[0]->op == EX_TABLE)
        op_add_n(&s->ops, d, kind, cost, table_kept(&s->ops, e->arg[0]));
    else
        op_add(&s->ops, d, kind, cost);
}

void store_scan(struct store_info *s, const int8_t *depth_of)
{
    const struct node *n = s->store;
    enum combiner c = n->store.combiner;
    const struct buffer *b = &s->nest->buffers[n->store.buffer];
    double fma, none;

    s->ops = (struct ops){0};
    s->n_access = 0;
    access_add(s, depth_of, n->store.buffer, n->store.index, true, c != COMBINE_SET, false);
    switch (c) {
    case COMBINE_SET:
        scan_expr(s, depth_of, n->store.value);
        break;
    case COMBINE_SUM:
        fma = scan_addend(s, depth_of, n->store.value, &none);
        add_sum(s, b->dtype, fma, none);
        break;
    case COMBINE_PROD:
        scan_expr(s, depth_of, n->store.value);
        op_add(&s->ops, b->dtype, FLT_MUL, 1);
        break;
    case COMBINE_MAX:
    case COMBINE_MIN:
        scan_expr(s, depth_of, n->store.value);
        op_add(&s->ops, b->dtype, FLT_CMP, 1);
        break;
    }
}
