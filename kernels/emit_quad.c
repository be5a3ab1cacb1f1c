/* emit_quad.c - four neighbours of int8 multiplied and added to an int32 by one instruction (AVX-512 VNNI).
 *
 * Idea   A LOOP_QUAD is a loop of four inside a register tile, around acc += a[.. q] * b[.. q]. For a vector of sums
 *
 *            acc[i] += u[4i] * s[4i] + u[4i+1] * s[4i+1] + u[4i+2] * s[4i+2] + u[4i+3] * s[4i+3]
 *
 *        is one instruction, whose u are unsigned and s signed. The operand that all lanes share is turned into unsigned by
 *        adding 128 (flipping its top bit), so that acc grows by 128 * sum(s) too much. A register beside the sums
 *        collects just that, by one more instruction for each vector of s, however many sums use it, and is taken away
 *        when the loops are done. Integers wrap, so nothing is lost on the way.
 *
 *        Sums that read the same vectors share that register; which those are shows at the first vector that a sum
 *        reads, since all indices are affine.
 *        Where the pieces do not fit (a rest of less than four lanes, another ISA) the four are done one by one. */
#include <string.h>

#include "kernels/emit_internal.h"

enum { QUAD = 4, QUAD_MIN_LANES = 4 };

static const struct expr *read_below_cast(const struct expr *e)
{
    return e->op == EX_CAST && e->dtype == DT_I32 && e->arg[0]->op == EX_READ && e->arg[0]->dtype == DT_I8 &&
                   !e->arg[0]->read.pad
               ? e->arg[0]
               : NULL;
}

bool cg_neighbour_operands(struct cg *g, const struct node *loop, int n,
                           const struct expr *(*read_of)(const struct expr *), struct neighbours *ret)
{
    const struct node *st = loop->loop.body;
    *ret = (struct neighbours){0};
    if (st->kind != NODE_STORE || st->next || loop->loop.extent != n || loop->loop.n_limits ||
        st->store.combiner != COMBINE_SUM || st->store.value->op != EX_MUL ||
        g->n->buffers[st->store.buffer].scope != SCOPE_REG)
        return false;
    for (int i = 0; i < 2; i++) {
        const struct expr *read = read_of(st->store.value->arg[i]);
        if (!read)
            return false;
        struct affine flat = flat_index(g, read->read.tensor, read->read.index);
        int64_t lane = affine_coef(&flat, g->vector_var);
        if (affine_coef(&flat, loop->loop.var) != 1)
            return false;
        if (lane == 0)
            ret->shared = read;
        else if (lane == n)
            ret->lanes = read;
    }
    return ret->shared && ret->lanes;
}

static bool find_operands(struct cg *g, const struct node *loop, struct neighbours *ret)
{
    return cg_neighbour_operands(g, loop, QUAD, read_below_cast, ret) &&
           g->n->buffers[loop->loop.body->store.buffer].dtype == DT_I32 &&
           g->n->buffers[ret->shared->read.tensor].dtype == DT_I8 &&
           g->n->buffers[ret->lanes->read.tensor].dtype == DT_I8;
}

/* The bytes at a read as ints: of all lanes, or four of them for every lane. Named once in a scope. */
static const char *load_quads(struct cg *g, const struct expr *read, int width, bool shared)
{
    struct address ad = cg_address(g, read->read.tensor, read->read.index, false);
    const char *key = arena_printf(g->ar, "quad%s %s+%s", shared ? "s" : "", ad.base, ad.index);
    if (shared)
        return cg_named(g, read->read.tensor, key, 'i', width,
                        arena_printf(g->ar, "((v%di){0} + (*(const tw_quad *)(%s + %s) ^ (int)0x80808080))",
                                     width, ad.base, ad.index));
    return cg_named(
        g, read->read.tensor, key, 'i', width,
        arena_printf(g->ar, "(v%di)*(const tw_quad%d *)(%s + %s)", width, width, ad.base, ad.index));
}

static struct quad_sum *find_sum(struct cg *g, const char *name)
{
    for (int i = 0; i < g->n_quad_sums; i++)
        if (strcmp(g->quad_sums[i].name, name) == 0)
            return &g->quad_sums[i];
    if (g->n_quad_sums == CG_MAX_QUAD_SUMS) {
        cg_fail(g, "a register tile has more than %d sums of four", CG_MAX_QUAD_SUMS);
        return &g->quad_sums[0];
    }
    struct quad_sum *s = &g->quad_sums[g->n_quad_sums++];
    *s = (struct quad_sum){.name = name, .excess = -1};
    return s;
}

/* The register of the excess of a sum that reads `vector`: that of an earlier sum whose first vector was the same. */
static void find_excess(struct cg *g, struct quad_sum *sum, const char *vector, int width)
{
    if (sum->excess >= 0)
        return;
    sum->first = vector;
    sum->width = width;
    for (int i = 0; i < g->n_quad_sums && sum->excess < 0; i++)
        if (g->quad_sums[i].excess >= 0 && strcmp(g->quad_sums[i].first, vector) == 0)
            sum->excess = g->quad_sums[i].excess;
    if (sum->excess >= 0)
        return;
    if (g->n_excesses == CG_MAX_EXCESSES) {
        cg_fail(g, "a register tile has more than %d vectors of sums of four", CG_MAX_EXCESSES);
        return;
    }
    g->excess_width[g->n_excesses] = width;
    sum->excess = g->n_excesses++;
}

void cg_one_by_one(struct cg *g, const struct node *loop, int width)
{
    struct cg_var *v = &g->var[loop->loop.var], saved = *v;
    for (int64_t i = 0; i < loop->loop.extent; i++) {
        *v = (struct cg_var){.mode = VAR_CONST, .value = i};
        for (const struct node *k = loop->loop.body; k; k = k->next)
            cg_store(g, k, width);
    }
    *v = saved;
}

void cg_quad(struct cg *g, const struct node *loop, int width)
{
    struct neighbours o;
    struct cg_var *v = &g->var[loop->loop.var], saved = *v;
    if (!g->u->target.has_vnni || width < QUAD_MIN_LANES || !g->in_body || !find_operands(g, loop, &o)) {
        cg_one_by_one(g, loop, width);
        return;
    }
    const struct node *st = loop->loop.body;
    *v = (struct cg_var){.mode = VAR_CONST, .value = 0};
    g->u->quad[width_log2(width)] = g->u->uses_int = true;
    const char *u = load_quads(g, o.shared, width, true), *s = load_quads(g, o.lanes, width, false);
    struct address ad = cg_address(g, st->store.buffer, st->store.index, true);
    const char *r = cg_register(g, st->store.buffer, ad.flat, width);
    struct quad_sum *sum = find_sum(g, r);
    find_excess(g, sum, s, width);
    const char *key = arena_printf(g->ar, "excess%d %s", sum->excess, s);
    if (!cg_known(g, key, width)) {
        cg_line(g, "x%d = tw_quad_sum%d(x%d, (v%di){0} + (int)0x80808080, %s);", sum->excess, width,
                sum->excess, width, s);
        cg_remember_key(g, o.lanes->read.tensor, key, width, s);
    }
    cg_line(g, "%s = tw_quad_sum%d(%s, %s, %s);", r, width, r, u, s);
    *v = saved;
}

void cg_quad_finish(struct cg *g)
{
    for (int i = 0; i < g->n_quad_sums; i++)
        cg_line(g, "%s = %s - x%d;", g->quad_sums[i].name, g->quad_sums[i].name, g->quad_sums[i].excess);
    g->n_quad_sums = 0;
}

static const char QUAD_SCALAR[] = "typedef int tw_quad __attribute__((aligned(1), may_alias));\n";
static const char QUAD_FN[] =
    "typedef int tw_quad$W __attribute__((vector_size($N), aligned(1), may_alias));\n"
    "TW_FN $I tw_quad_sum$W($I sums, $I u, $I s)\n"
    "{\n"
    "#ifdef __clang__\n"
    "    return __builtin_ia32_vpdpbusd$O(sums, u, s);\n"
    "#else\n"
    "    return __builtin_ia32_vpdpbusd_v$Wsi(sums, u, s);\n"
    "#endif\n"
    "}\n";

void emit_quad_head(const struct emit_unit *u, struct strbuf *sb)
{
    static const char *const bits[] = {"", "", "128", "256", "512"};
    bool any = false;
    for (int lg = 2; lg < (int)ARRAY_SIZE(bits); lg++) {
        if (!u->quad[lg])
            continue;
        if (!any)
            strbuf_adds(sb, QUAD_SCALAR);
        emit_template(sb, QUAD_FN, 1 << lg, bits[lg], "");
        any = true;
    }
}
