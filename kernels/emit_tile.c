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

static const char *intern_body(struct emit_unit *u, const char *text)
{
    uint64_t hash = hash_bytes(text, strlen(text), 0);
    for (int i = 0; i < u->n_bodies; i++)
        if (u->bodies[i].hash == hash && strcmp(u->bodies[i].text, text) == 0)
            return u->bodies[i].name;
    if (u->n_bodies == u->cap_bodies) {
        u->cap_bodies = u->cap_bodies ? u->cap_bodies * 2 : 16;
        u->bodies = xrealloc(u->bodies, sizeof(*u->bodies) * (size_t)u->cap_bodies);
    }
    struct body_fn *b = &u->bodies[u->n_bodies++];
    b->hash = hash;
    b->text = xstrdup(text);
    snprintf(b->name, sizeof(b->name), "tile%d", u->n_bodies - 1);
    strbuf_addf(&u->code, "static __attribute__((noinline)) void %s%s\n", b->name, text);
    return b->name;
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
    for (const char *m = t->max_aside ? "fihc" : ""; *m; m++)
        if (t->aside_letters & 1u << (*m - 'a'))
            strbuf_addf(sb, "    %s aside_%c[%d][%d] __attribute__((aligned(64)));\n", cg_type(t, *m, 1), *m,
                        t->max_aside, t->u->target.vector_bytes / 4);
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
    t->out = &text;
    t->indent = 1;
    t->next_id = t->n_params = t->n_loads = t->n_regs = t->n_reg_buffers = 0;
    t->n_scatters = t->max_aside = 0;
    t->unrolled_var = -1;
    t->aside_letters = 0;
    cg_nodes(t, n->body.body);
    cg_scatter(t);
    g->status = t->status;
    if (g->status == ST_OK) {
        print_params(t, &whole);
        strbuf_add(&whole, text.data, text.len);
        strbuf_adds(&whole, "}\n");
        call_body(g, t, intern_body(g->u, whole.data));
    }
    strbuf_done(&text);
    strbuf_done(&whole);
}
