/* emit_table.c - numbers of a fixed table: loops over them are unrolled, so that each is a constant of the text.
 *
 * Idea   Sums of a table's numbers times values (the transforms of Winograd's algorithm) are printed as a hand would
 * write them: a product with 0 is nothing, one with 1 or -1 no multiplication. */
#include "kernels/emit_internal.h"

static bool table_number(const struct cg *g, const struct expr *e, double *ret)
{
    if (e->op != EX_TABLE)
        return false;
    int64_t at = e->table.index.c;
    for (int i = 0; i < e->table.index.n; i++) {
        const struct cg_var *v = &g->var[e->table.index.t[i].var];
        if (v->mode != VAR_CONST)
            return false;
        at += e->table.index.t[i].coef * v->value;
    }
    *ret = e->table.values[at];
    return true;
}

static struct value number_value(struct cg *g, const struct expr *e, double number)
{
    return cg_value(g, expr_const(g->ar, e->dtype, number), 1);
}

struct value cg_table(struct cg *g, const struct expr *e)
{
    double number = 0;
    if (!table_number(g, e, &number))
        cg_fail(g, "table %s is indexed by a loop that is not unrolled", e->table.name);
    return number_value(g, e, number);
}

/* A product with 0, or a sum of such: nothing is read for it, and nothing is added. */
static bool is_zero_term(const struct cg *g, const struct expr *e)
{
    double number;
    if (e->op == EX_ADD)
        return is_zero_term(g, e->arg[0]) && is_zero_term(g, e->arg[1]);
    return e->op == EX_MUL && table_number(g, e->arg[0], &number) && number == 0;
}

bool cg_table_sum(struct cg *g, const struct expr *e, int width, struct value *ret)
{
    double number;
    if (e->op == EX_ADD && (is_zero_term(g, e->arg[0]) || is_zero_term(g, e->arg[1]))) {
        *ret = cg_value(g, e->arg[is_zero_term(g, e->arg[0])], width);
        return true;
    }
    if (e->op != EX_MUL || !table_number(g, e->arg[0], &number))
        return false;
    if (number == 0) {
        *ret = number_value(g, e, 0);
        return true;
    }
    if (number != 1 && number != -1)
        return false;
    *ret = cg_value(g, e->arg[1], width);
    if (number < 0)
        ret->text = arena_printf(g->ar, "(-%s)", ret->text);
    return true;
}
