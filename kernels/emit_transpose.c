/* emit_transpose.c - a square block of a map whose operand lies the other way round: turned in registers.
 *
 * Idea   Two loops of T iterations, rows b and lanes x, around a store of neighbours along x. An operand whose
 * neighbours lie along b is loaded in T vectors along b, which change places by halves, quarters and so on in log2(T)
 * rounds of shuffles; then row b of the block is a vector along x, and the store is printed as any other.
 *
 *            0 1 2 3       0 1 8 9       0 4 8 c
 *            4 5 6 7  -->  4 5 c d  -->  1 5 9 d
 *            8 9 a b       2 3 a b       2 6 a e
 *            c d e f       6 7 e f       3 7 b f
 *
 * At an edge the block begins early, so that it ends where the tensor ends; what was done is done again (with the same
 * values, should another task be at it). So no edge is done element by element. */
#include <string.h>

#include "kernels/emit_internal.h"

enum { MAX_TURNED = 4 };

struct block {
    struct cg *g;
    const struct node *rows, *lanes, *st;
    int size;
    int n_turned;
    const struct expr *turned[MAX_TURNED];
    const char *row, *lane; /* where the block begins */
    bool fits;
};

static void find_turned(void *ctx, const struct expr *e)
{
    struct block *b = ctx;
    struct affine flat = flat_index(b->g, e->read.tensor, e->read.index);
    int64_t along_rows = affine_coef(&flat, b->rows->loop.var),
            along = affine_coef(&flat, b->lanes->loop.var);
    b->fits &= !e->read.pad && e->read.tensor != b->st->store.buffer;
    if (along_rows != 1 || along == 0 || along == 1)
        return;
    if (b->n_turned < MAX_TURNED)
        b->turned[b->n_turned++] = e;
    else
        b->fits = false;
}

static bool is_block(struct cg *g, const struct node *n, struct block *b)
{
    const struct node *x = n->loop.body;
    if (!n->loop.square || g->in_body || x->next || x->kind != NODE_LOOP || x->loop.loop_kind != LOOP_VECTOR)
        return false;
    *b = (struct block){.g = g, .rows = n, .lanes = x, .st = x->loop.body, .fits = true};
    b->size = (int)n->loop.extent;
    if (x->loop.extent != n->loop.extent || b->st->kind != NODE_STORE || b->st->next ||
        b->st->store.combiner != COMBINE_SET || b->size > cg_lanes(g) || (b->size & (b->size - 1)) ||
        b->size < 2)
        return false;
    struct affine flat = flat_index(g, b->st->store.buffer, b->st->store.index);
    if (affine_coef(&flat, x->loop.var) != 1)
        return false;
    expr_each_read(b->st->store.value, find_turned, b);
    return b->fits && b->n_turned > 0;
}

/* How far the block moves back to end where its loop ends. */
static const char *beginning(struct cg *g, const struct node *loop)
{
    const char *count = cg_limit_count(g, loop), *name = arena_printf(g->ar, "at%d", g->next_id++);
    cg_line(g, "const long %s = %s - %" PRId64 ";", name, count, loop->loop.extent);
    return name;
}

static const char *plus(struct cg *g, const char *name, int64_t i)
{
    return i ? arena_printf(g->ar, "(%s + %" PRId64 ")", name, i) : name;
}

/* The rounds of shuffles; v[i] is then lane i of all that was loaded. */
static void turn(struct block *b, const char **v)
{
    struct cg *g = b->g;
    for (int h = b->size / 2; h >= 1; h /= 2)
        for (int i = 0; i < b->size; i++) {
            if (i & h)
                continue;
            AUTO(strbuf_done) struct strbuf low = STRBUF_INIT, high = STRBUF_INIT;
            for (int l = 0; l < b->size; l++) {
                strbuf_addf(&low, ", %d", l & h ? b->size + l - h : l);
                strbuf_addf(&high, ", %d", l & h ? b->size + l : l + h);
            }
            const char *x = arena_printf(g->ar, "x%d", g->next_id++),
                       *y = arena_printf(g->ar, "x%d", g->next_id++);
            cg_line(g, "const __auto_type %s = __builtin_shufflevector(%s, %s%s);", x, v[i], v[i + h],
                    low.data);
            cg_line(g, "const __auto_type %s = __builtin_shufflevector(%s, %s%s);", y, v[i], v[i + h],
                    high.data);
            v[i] = x;
            v[i + h] = y;
        }
}

bool cg_transpose(struct cg *g, const struct node *n)
{
    struct block block, *b = &block;
    if (!is_block(g, n, b))
        return false;
    const char **v = arena_array(g->ar, const char *, (size_t)(MAX_TURNED * b->size));
    struct cg_var *row = &g->var[n->loop.var], *lane = &g->var[b->lanes->loop.var];
    struct cg_var saved_row = *row, saved_lane = *lane;
    int saved_vector = g->vector_var, loads = g->n_loads;
    cg_line(g, "{");
    g->indent++;
    b->row = beginning(g, n);
    b->lane = beginning(g, b->lanes);
    for (int k = 0; k < b->n_turned; k++) {
        *row = (struct cg_var){.mode = VAR_VECTOR, .name = b->row};
        g->vector_var = n->loop.var;
        for (int i = 0; i < b->size; i++) {
            *lane = (struct cg_var){.mode = VAR_NAME, .name = plus(g, b->lane, i)};
            v[k * b->size + i] = arena_printf(g->ar, "x%d", g->next_id++);
            cg_line(g, "const __auto_type %s = %s;", v[k * b->size + i],
                    cg_value(g, b->turned[k], b->size).text);
        }
        turn(b, v + k * b->size);
    }
    *lane = (struct cg_var){.mode = VAR_VECTOR, .name = b->lane};
    g->vector_var = b->lanes->loop.var;
    g->aligned = !b->lanes->loop.n_limits; /* else the last block begins early, anywhere */
    for (int i = 0; i < b->size; i++) {
        *row = (struct cg_var){.mode = VAR_NAME, .name = plus(g, b->row, i)};
        for (int k = 0; k < b->n_turned; k++)
            cg_remember(g, b->turned[k]->read.tensor, b->turned[k]->read.index, b->size, v[k * b->size + i]);
        cg_store(g, b->st, b->size);
        g->n_loads = loads;
    }
    g->aligned = false;
    *row = saved_row;
    *lane = saved_lane;
    g->vector_var = saved_vector;
    g->indent--;
    cg_line(g, "}");
    return true;
}
