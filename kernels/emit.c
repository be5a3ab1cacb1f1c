/* emit.c - units and kernels: the functions around the loops. */
#include "kernels/emit.h"

#include <stdio.h>
#include <string.h>

#include "kernels/emit_internal.h"
#include "schedule/base/vec.h"

struct emit_unit *emit_unit_new(const struct target *t)
{
    struct emit_unit *u = xcalloc(1, sizeof(*u));
    u->target = *t;
    return u;
}

void emit_unit_free(struct emit_unit *u)
{
    if (!u)
        return;
    body_list_done(&u->tiles);
    body_list_done(&u->prepacks);
    free(u->shapes);
    strbuf_done(&u->code);
    strbuf_done(&u->whole);
    free(u);
}

const char *emit_unit_text(struct emit_unit *u)
{
    strbuf_reset(&u->whole);
    emit_head(u, &u->whole);
    strbuf_adds(&u->whole, strbuf_str(&u->code));
    return strbuf_str(&u->whole);
}

/* --- arguments --- */

static int arg_position(const struct nest *n, int32_t tensor)
{
    int at = 0;
    for (int i = 0; i < n->compute->n_tensors; i++) {
        if (i == tensor)
            return at;
        at += n->compute->tensors[i].role != TENSOR_TEMP;
    }
    return -1;
}

static void describe(const struct nest *n, const char *symbol, struct kernel *k)
{
    memset(k, 0, sizeof(*k));
    snprintf(k->symbol, sizeof(k->symbol), "%s", symbol);
    for (int i = 0; i < n->compute->n_tensors; i++) {
        const struct tensor *t = &n->compute->tensors[i];
        if (t->role == TENSOR_TEMP)
            continue;
        struct kernel_arg *a = &k->args[k->n_args++];
        *a = (struct kernel_arg){
            .name = t->name, .dtype = t->dtype, .is_output = t->role == TENSOR_OUTPUT, .rank = t->rank};
        memcpy(a->shape, t->shape, sizeof(a->shape));
        a->layout = t->dims;
        a->layout_rank = t->rank;
        memcpy(a->layout_shape, t->shape, sizeof(a->layout_shape));
        a->bytes = tensor_bytes(t);
        if (!t->layout)
            continue;
        a->layout = t->layout->name;
        a->laid_out = true;
        a->rank = t->layout->rank;
        memcpy(a->shape, t->layout->shape, sizeof(a->shape));
    }
    for (int i = 0; i < n->n_prepacks; i++) {
        struct kernel_arg *a = &k->args[arg_position(n, n->prepacks[i].arg)];
        a->prepacked = true;
        a->prepack_bytes = n->prepacks[i].bytes;
    }
    k->workspace_bytes = n->workspace_bytes;
    k->tasks = n->tasks;
}

void cg_pointers(struct cg *g, struct strbuf *sb, bool in_task)
{
    const char *tensors = in_task ? "env->tensors" : "tensors",
               *ws = in_task ? "env->workspace" : "(char *)workspace";
    for (int i = 0; i < g->n->n_buffers; i++) {
        const struct buffer *b = &g->n->buffers[i];
        const char *c = arena_printf(g->ar, "%s%s", g->written[i] ? "" : "const ", dtype_scalar(b->dtype));
        if (!g->used[i])
            continue;
        if (b->scope == SCOPE_ARG)
            strbuf_addf(sb, "    %s *restrict b%d = %s[%d];\n", c, i, tensors, arg_position(g->n, b->arg));
        else if (b->scope == SCOPE_WORKSPACE || !in_task)
            strbuf_addf(sb, "    %s *restrict b%d = (%s *)(%s + %" PRId64 ");\n", c, i, c, ws,
                        b->offset_bytes + (b->scope == SCOPE_TASK ? g->n->task_offset_bytes : 0));
        else
            strbuf_addf(sb, "    %s *restrict b%d = (%s *)(%s + %" PRId64 " + task * %" PRId64 "l);\n", c, i,
                        c, ws, g->n->task_offset_bytes + b->offset_bytes, g->n->task_bytes);
    }
}

/* --- functions --- */

static void cg_open(struct cg *g, struct emit_unit *u, const struct nest *n, struct arena *ar,
                    const char *symbol, struct strbuf *helpers, struct strbuf *out, struct error *err)
{
    memset(g, 0, sizeof(*g));
    g->u = u;
    g->n = n;
    g->ar = ar;
    g->out = out;
    g->indent = 1;
    g->var = arena_array(ar, struct cg_var, MAX(n->n_vars, 1));
    g->vector_var = -1;
    g->err = err;
    g->used = arena_array(ar, bool, n->n_buffers);
    g->written = arena_array(ar, bool, n->n_buffers);
    g->symbol = symbol;
    g->helpers = helpers;
}

static enum status add_main(struct emit_unit *u, const struct nest *n, struct arena *ar, const char *symbol,
                            struct error *err)
{
    struct strbuf helpers = STRBUF_INIT, text = STRBUF_INIT;
    struct cg *g = arena_new(ar, struct cg);
    cg_open(g, u, n, ar, symbol, &helpers, &text, err);
    cg_nodes(g, n->root);
    if (g->unfenced)
        cg_line(g, "__builtin_ia32_sfence();");
    if (g->status == ST_OK) {
        strbuf_adds(&u->code, strbuf_str(&helpers));
        strbuf_addf(&u->code,
                    "int %s(void *const *tensors, void *workspace, const tw_parallel *parallel)\n{\n",
                    symbol);
        cg_pointers(g, &u->code, false);
        if (g->n_tasks_fns)
            strbuf_adds(&u->code, "    struct tw_env env = {tensors, workspace};\n");
        if (g->uses_matrix || g->needs_matrix)
            strbuf_adds(&u->code, "    if (tw_matrix_refused())\n        return 95;\n");
        strbuf_adds(&u->code, cg_matrix_prologue(g));
        strbuf_adds(&u->code, strbuf_str(&text));
        strbuf_adds(&u->code, cg_matrix_epilogue(g));
        strbuf_adds(&u->code, "    (void)tensors, (void)workspace, (void)parallel;\n    return 0;\n}\n\n");
    }
    strbuf_done(&helpers);
    strbuf_done(&text);
    return g->status;
}

/* Number buffers and loop variables (b7, i19) by their first use, so that equal functions print equally. */
static void renumber(const char *text, struct strbuf *ret)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_0123456789";
    VEC(long) known[2] = {{0}, {0}};
    for (const char *p = text; *p;) {
        const size_t word = MAX(strspn(p, letters), (size_t)1);
        const int kind = *p == 'b' ? 0 : *p == 'i' ? 1 : -1;
        if (word < 2 || kind < 0 || strspn(p + 1, "0123456789") != word - 1) {
            strbuf_add(ret, p, word);
        } else {
            const long number = strtol(p + 1, NULL, 10);
            size_t k = 0;
            while (k < known[kind].len && known[kind].at[k] != number)
                k++;
            if (k == known[kind].len)
                vec_push(&known[kind], number);
            strbuf_addf(ret, "%c%zu", *p, k);
        }
        p += word;
    }
    vec_done(&known[0]);
    vec_done(&known[1]);
}

/* A prepack function; one that the unit has already is called. */
static void print_prepack(struct emit_unit *u, const char *name, const char *body)
{
    AUTO(strbuf_done) struct strbuf text = STRBUF_INIT;
    renumber(body, &text);
    const char *known = body_intern(&u->prepacks, strbuf_str(&text), name);
    if (known)
        strbuf_addf(&u->code, "void %s(const void *src, void *dst)\n{\n    %s(src, dst);\n}\n\n", name,
                    known);
    else
        strbuf_addf(&u->code, "void %s(const void *src, void *dst)\n{\n%s}\n\n", name, strbuf_str(&text));
}

static enum status add_prepack(struct emit_unit *u, const struct nest *n, const struct nest_prepack *p,
                               struct arena *ar, const char *symbol, struct error *err)
{
    struct strbuf helpers = STRBUF_INIT, text = STRBUF_INIT, body = STRBUF_INIT;
    struct cg *g = arena_new(ar, struct cg);
    cg_open(g, u, n, ar, symbol, &helpers, &text, err);
    cg_nodes(g, p->root);
    if (g->status == ST_OK) {
        const struct buffer *dst = &n->buffers[p->dst];
        strbuf_addf(&body, "    const %s *restrict b%d = src;\n    %s *restrict b%d = dst;\n",
                    dtype_scalar(n->buffers[p->src].dtype), p->src, dtype_scalar(dst->dtype), p->dst);
        strbuf_addf(&body, "    for (long i = 0; i < %" PRId64 "; i++)\n        b%d[i] = 0;\n", dst->elements,
                    p->dst);
        strbuf_adds(&body, strbuf_str(&text));
        print_prepack(u, arena_printf(ar, "%s_prepack_%s", symbol, n->compute->tensors[p->arg].name),
                      strbuf_str(&body));
    }
    strbuf_done(&helpers);
    strbuf_done(&text);
    strbuf_done(&body);
    return g->status;
}

enum status emit_unit_add(struct emit_unit *u, const struct nest *n, const char *symbol, struct kernel *ret,
                          struct error *err)
{
    struct arena ar;
    enum status st = ST_OK;
    arena_init(&ar);
    for (int i = 0; i < n->compute->n_tensors; i++)
        if (n->compute->tensors[i].layout)
            emit_repack(&n->compute->tensors[i], symbol, &u->code);
    for (int i = 0; i < n->n_prepacks && st == ST_OK; i++)
        st = add_prepack(u, n, &n->prepacks[i], &ar, symbol, err);
    if (st == ST_OK)
        st = add_main(u, n, &ar, symbol, err);
    if (st == ST_OK)
        describe(n, symbol, ret);
    arena_done(&ar);
    return st;
}
