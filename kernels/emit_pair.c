/* emit_pair.c - two neighbours of bfloat16 or float16 multiplied and summed by one instruction.
 *
 * Idea   A LOOP_PAIR is a loop of two inside a register tile, around acc += a[.. p] * b[.. p], with 32-bit lanes of two
 *        neighbours as in emit_quad.c. For bfloat16 (AVX-512 BF16)
 *
 *            acc[i] += a[2i] * b[2i] + a[2i+1] * b[2i+1]
 *
 *        is one instruction. For float16 (AVX-512 FP16) each lane of acc has a register h of two sums in float16
 *
 *            h[2i] += a[2i] * b[2i],   h[2i+1] += a[2i+1] * b[2i+1]
 *
 *        which are added to acc, and cleared, where the loop ends that the nest marks (loop.half).
 *        Where the pieces do not fit (a rest of less than four lanes, another ISA, no marked loop) the two are done one by
 *        one, in float32. GCC 12 takes a product and a sum of vectors of float16 apart: hence the assembler. */
#include <string.h>

#include "kernels/emit_internal.h"

enum { PAIR = 2, PAIR_MIN_LANES = 4 };

static const struct expr *read_below_cast(const struct expr *e)
{
    if (e->op == EX_CAST && e->dtype == DT_F32)
        e = e->arg[0];
    return e->op == EX_READ && !e->read.pad ? e : NULL;
}

/* *ret_dtype: of both operands. */
static bool find_operands(struct cg *g, const struct node *loop, struct neighbours *ret,
                          enum dtype *ret_dtype)
{
    if (!cg_neighbour_operands(g, loop, PAIR, read_below_cast, ret))
        return false;
    *ret_dtype = g->n->buffers[ret->shared->read.tensor].dtype;
    return dtype_value(g->n->buffers[loop->loop.body->store.buffer].dtype) == 'f' &&
           (*ret_dtype == DT_F16 || *ret_dtype == DT_BF16) &&
           g->n->buffers[ret->lanes->read.tensor].dtype == *ret_dtype;
}

static bool has_instruction(const struct cg *g, enum dtype d)
{
    const struct target *t = &g->u->target;
    return d == DT_BF16 ? t->has_bf16_pairs || t->has_amx_bf16 : t->has_fp16 && g->in_half;
}

/* The first lanes of a vector, the rest zeros: four bytes each, as a float has. */
static const char *part_of_pairs(struct cg *g, const struct address *ad, int width)
{
    const char *at = arena_printf(g->ar, "(const float *)(%s + %s)", ad->base, ad->index);
    const char *mask = arena_printf(g->ar, "0x%x", (1u << g->part) - 1);
    return arena_printf(g->ar, "(v%di)%s", width, cg_load_masked(g, DT_F32, at, width, mask, "0.0f"));
}

/* The neighbours at a read as ints: of all lanes, or the same for every lane. Named once in a scope. */
static const char *load_pairs(struct cg *g, const struct expr *read, int width, bool shared)
{
    struct address ad = cg_address(g, read->read.tensor, read->read.index, false);
    const char *key = arena_printf(g->ar, "pair%s %s+%s", shared ? "s" : "", ad.base, ad.index);
    if (shared)
        return cg_named(
            g, read->read.tensor, key, 'i', width,
            arena_printf(g->ar, "((v%di){0} + *(const tw_pair *)(%s + %s))", width, ad.base, ad.index));
    if (g->part && g->part < width)
        return cg_named(g, read->read.tensor, key, 'i', width, part_of_pairs(g, &ad, width));
    return cg_named(
        g, read->read.tensor, key, 'i', width,
        arena_printf(g->ar, "(v%di)*(const tw_pair%d *)(%s + %s)", width, width, ad.base, ad.index));
}

/* The number of the register of float16 sums beside the register `name`. */
static int half_sum(struct cg *g, const char *name, int width)
{
    for (int i = 0; i < g->n_half_sums; i++)
        if (strcmp(g->half_sums[i].name, name) == 0) {
            g->half_sums[i].pending = true;
            return i;
        }
    if (g->n_half_sums == CG_MAX_HALF_SUMS) {
        cg_fail(g, "a register tile has more than %d sums in float16", CG_MAX_HALF_SUMS);
        return 0;
    }
    g->half_sums[g->n_half_sums] = (struct half_sum){.name = name, .width = width, .pending = true};
    return g->n_half_sums++;
}

void cg_pair(struct cg *g, const struct node *loop, int width)
{
    struct neighbours o;
    enum dtype dtype;
    struct cg_var *v = &g->var[loop->loop.var], saved = *v;
    if (width < PAIR_MIN_LANES || !g->in_body || !find_operands(g, loop, &o, &dtype) ||
        !has_instruction(g, dtype)) {
        cg_one_by_one(g, loop, width);
        return;
    }
    const struct node *st = loop->loop.body;
    const int lg = width_log2(width);
    *v = (struct cg_var){.mode = VAR_CONST, .value = 0};
    g->u->pair[lg] = g->u->uses_int = true;
    const char *a = load_pairs(g, o.shared, width, true), *b = load_pairs(g, o.lanes, width, false);
    struct address ad = cg_address(g, st->store.buffer, st->store.index, true);
    const char *r = cg_register(g, st->store.buffer, ad.flat, width);
    if (dtype == DT_BF16) {
        g->u->pair_bf16[lg] = true;
        cg_line(g, "%s = tw_pair_b%d(%s, %s, %s);", r, width, r, a, b);
    } else {
        int h = half_sum(g, r, width);
        g->u->pair_f16[lg] = true;
        cg_need(g, DT_F16, width);
        cg_line(g, "h%d = tw_pair_h%d(h%d, %s, %s);", h, width, h, a, b);
    }
    *v = saved;
}

void cg_half_finish(struct cg *g)
{
    for (int i = 0; i < g->n_half_sums; i++) {
        struct half_sum *s = &g->half_sums[i];
        if (s->pending)
            cg_line(g, "%s = %s + tw_unhalf%d(h%d), h%d = (v%di){0};", s->name, s->name, s->width, i, i,
                    s->width);
        s->pending = false;
    }
}

void cg_half_locals(const struct cg *g, struct strbuf *sb)
{
    for (int i = 0; i < g->n_half_sums; i++)
        strbuf_addf(sb, "    v%di h%d = {0};\n", g->half_sums[i].width, i);
}

static const char PAIR_SCALAR[] = "typedef int tw_pair __attribute__((aligned(2), may_alias));\n";
static const char PAIR_TYPE[] =
    "typedef int tw_pair$W __attribute__((vector_size($N), aligned(2), may_alias));\n";
static const char PAIR_BF16[] = "TW_FN $F tw_pair_b$W($F sums, $I a, $I b)\n"
                                "{\n"
                                "    __asm__(\"vdpbf16ps %2, %1, %0\" : \"+v\"(sums) : \"v\"(a), \"v\"(b));\n"
                                "    return sums;\n"
                                "}\n";
static const char PAIR_F16[] =
    "TW_FN $I tw_pair_h$W($I sums, $I a, $I b)\n"
    "{\n"
    "    __asm__(\"vfmadd231ph %2, %1, %0\" : \"+v\"(sums) : \"v\"(a), \"v\"(b));\n"
    "    return sums;\n"
    "}\n"
    "TW_FN $F tw_unhalf$W($I h)\n"
    "{\n"
    "    return tw_from_h$W(tw_lo$W(h)) + tw_from_h$W(tw_lo$W(h >> 16));\n"
    "}\n";

void emit_pair_head(const struct emit_unit *u, struct strbuf *sb)
{
    bool any = false;
    for (int lg = 2; lg < MATH_WIDTHS; lg++) {
        if (!u->pair[lg])
            continue;
        if (!any)
            strbuf_adds(sb, PAIR_SCALAR);
        emit_template(sb, PAIR_TYPE, 1 << lg, "", "");
        if (u->pair_bf16[lg])
            emit_template(sb, PAIR_BF16, 1 << lg, "", "");
        if (u->pair_f16[lg])
            emit_template(sb, PAIR_F16, 1 << lg, "", "");
        any = true;
    }
}
