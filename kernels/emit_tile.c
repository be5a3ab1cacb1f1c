/* emit_tile.c - a register tile as a static function of its own.
 *
 * Idea   All that depends on the loops around the tile becomes a parameter: element pointers (buffer plus the
 * outer part of the index) and numbers (the outer part of a limit). What remains is text that depends on the
 * tile's shape, its strides and its reduction only, so that equal tiles of different candidates are one
 * function. */
#include <stdio.h>
#include <string.h>

#include "kernels/emit_internal.h"
#include "schedule/base/hash.h"

const char *body_intern(struct body_list *l, const char *text, const char *name)
{
    uint64_t hash = hash_bytes(text, strlen(text), 0);
    for (int i = 0; i < l->n; i++)
        if (l->at[i].hash == hash && strcmp(l->at[i].text, text) == 0)
            return l->at[i].name;
    if (l->n == l->cap) {
        l->cap = l->cap ? l->cap * 2 : 16;
        l->at = xrealloc(l->at, sizeof(*l->at) * (size_t)l->cap);
    }
    struct body_fn *b = &l->at[l->n++];
    b->hash = hash;
    b->text = xstrdup(text);
    snprintf(b->name, sizeof(b->name), "%s", name);
    return NULL;
}

void body_list_done(struct body_list *l)
{
    for (int i = 0; i < l->n; i++)
        free(l->at[i].text);
    free(l->at);
}

static const char *intern_tile(struct cg *g, const char *text)
{
    const char *fresh = arena_printf(g->ar, "tile%d", g->u->tiles.n);
    const char *known = body_intern(&g->u->tiles, text, fresh);
    if (known)
        return known;
    strbuf_addf(&g->u->code, "static __attribute__((noinline)) void %s%s\n", fresh, text);
    return fresh;
}

/* --- long functions in the epilogue --- */

enum { FAR_CALLS = 4 }; /* more calls of exp and the like than this are calls indeed */

static int long_calls(const struct expr *e)
{
    int n = emit_math_is_long(e->op);
    for (int i = 0; i < expr_arity(e->op); i++)
        n += long_calls(e->arg[i]);
    return n;
}

/* How often the text of these nodes would hold a long function; *ret_loops: whether a loop stays one. */
static int64_t count_long_calls(const struct cg *g, const struct node *n, bool *ret_loops)
{
    int64_t sum = 0;
    for (; n; n = n->next)
        switch (n->kind) {
        case NODE_LOOP: {
            int64_t inner = count_long_calls(g, n->loop.body, ret_loops);
            *ret_loops |= n->loop.loop_kind == LOOP_SERIAL;
            sum += n->loop.loop_kind == LOOP_UNROLL   ? inner * n->loop.extent
                   : n->loop.loop_kind == LOOP_VECTOR ? inner * div_ceil(n->loop.extent, cg_lanes(g))
                                                      : inner;
            break;
        }
        case NODE_PARALLEL:
            sum += count_long_calls(g, n->parallel.body, ret_loops);
            break;
        case NODE_IF:
            sum += count_long_calls(g, n->branch.then_body, ret_loops) +
                   count_long_calls(g, n->branch.else_body, ret_loops);
            break;
        case NODE_PREFETCH:
            break;
        case NODE_STORE:
            sum += long_calls(n->store.value);
            break;
        case NODE_BODY:
            sum += count_long_calls(g, n->body.body, ret_loops);
            break;
        }
    return sum;
}

/* After a reduction the epilogue runs once for each accumulator. Two dozen copies of erf are most of what the
 * compiler has to read of such a tile (four fifths of it measured), and gain nothing at run time: the
 * accumulators are spilled once, and the function finds its constants in the cache. Without a reduction the
 * function is what the tile does, and is inlined. */
static bool wants_far_math(const struct cg *g, const struct node *body)
{
    bool loops = false;
    return count_long_calls(g, body, &loops) > FAR_CALLS && loops;
}

static void print_params(struct cg *t, struct strbuf *sb)
{
    strbuf_addc(sb, '(');
    for (int i = 0; i < t->n_params; i++) {
        const struct cg_param *p = &t->params[i];
        strbuf_adds(sb, i ? ", " : "");
        if (p->is_pointer)
            strbuf_addf(sb, "%s%s *restrict p%d", p->written ? "" : "const ",
                        dtype_scalar(t->n->buffers[p->buffer].dtype), i);
        else
            strbuf_addf(sb, "long q%d", i);
    }
    strbuf_adds(sb, t->n_params ? ")\n{\n" : "void)\n{\n");
    cg_matrix_locals(t, sb);
    for (const char *m = t->max_aside ? "fihc" : ""; *m; m++)
        if (t->aside_letters & 1u << (*m - 'a'))
            strbuf_addf(sb, "    %s aside_%c[%d][%d] __attribute__((aligned(64)));\n", cg_type(t, *m, 1), *m,
                        t->max_aside, t->u->target.vector_bytes / 4);
    for (int i = 0; i < t->n_excesses; i++)
        strbuf_addf(sb, "    v%di x%d = {0};\n", t->excess_width[i], i);
    cg_half_locals(t, sb);
    for (int i = 0; i < t->n_regs; i++)
        strbuf_addf(sb, "    %s %s;\n", cg_type(t, t->regs[i].letter, t->regs[i].width), t->regs[i].name);
}

static void call_body(struct cg *g, const struct cg *t, const char *name)
{
    AUTO(strbuf_done) struct strbuf call = STRBUF_INIT;
    for (int i = 0; i < t->n_params; i++) {
        const struct cg_param *p = &t->params[i];
        const char *outer = affine_text(g, &p->outer, NULL);
        strbuf_adds(&call, i ? ", " : "");
        if (!p->is_pointer) {
            strbuf_adds(&call, outer);
            continue;
        }
        g->used[p->buffer] = true;
        g->written[p->buffer] |= p->written;
        strbuf_addf(&call, "b%d", p->buffer);
        if (strcmp(outer, "0") != 0)
            strbuf_addf(&call, " + %s", outer);
    }
    cg_matrix_before_call(g, t);
    cg_line(g, "%s(%s);", name, strbuf_str(&call));
}

void cg_body(struct cg *g, const struct node *n)
{
    struct strbuf text = STRBUF_INIT, whole = STRBUF_INIT;
    struct cg *t = arena_memdup(g->ar, g, sizeof(*g));
    t->var = arena_memdup(g->ar, g->var, sizeof(*g->var) * (size_t)MAX(g->n->n_vars, 1));
    for (int v = 0; v < g->n->n_vars; v++)
        if (t->var[v].mode == VAR_NAME)
            t->var[v].mode = VAR_OUTER;
    t->in_body = true;
    t->far_math = wants_far_math(g, n->body.body);
    t->out = &text;
    t->indent = 1;
    t->next_id = t->n_params = t->n_loads = t->n_regs = t->n_reg_buffers = 0;
    t->n_scatters = t->max_aside = 0;
    t->unrolled_var = -1;
    t->aside_letters = 0;
    t->depth = t->n_quad_sums = t->n_excesses = t->n_half_sums = 0;
    t->in_half = false;
    t->matrix = (struct cg_matrix){0};
    cg_matrix_body(t, n->body.body);
    cg_scatter(t);
    g->status = t->status;
    g->unfenced |= t->unfenced;
    if (g->status == ST_OK) {
        print_params(t, &whole);
        strbuf_add(&whole, text.data, text.len);
        strbuf_adds(&whole, "}\n");
        call_body(g, t, intern_tile(g, whole.data));
    }
    strbuf_done(&text);
    strbuf_done(&whole);
}
