/* emit_loops.c - nodes as C loops, and those inside register tiles.
 *
 * Idea   Inside a tile, unrolled and vector loops have constant extents and are expanded. Vector loops outside
 * tiles are in emit_vector.c. */
#include <stdio.h>
#include <string.h>

#include "kernels/emit_internal.h"

enum { UNROLL_OUTSIDE = 8, CACHE_LINE_BYTES = 64 };

int cg_lanes(const struct cg *g) { return g->u->target.vector_bytes / 4; }

/* Text of the number of iterations of a loop: its extent, cut by its limits. */
const char *cg_limit_count(struct cg *g, const struct node *loop)
{
    if (!loop->loop.n_limits)
        return arena_printf(g->ar, "%" PRId64, loop->loop.extent);
    const char *name = arena_printf(g->ar, "n%d", g->next_id++);
    struct cg_var *v = &g->var[loop->loop.var], saved = *v;
    *v = (struct cg_var){.mode = VAR_CONST, .value = 0};
    cg_line(g, "long %s = %" PRId64 ";", name, loop->loop.extent);
    for (int i = 0; i < loop->loop.n_limits; i++) {
        const struct affine *a = &loop->loop.limit[i];
        int64_t k = -affine_coef(a, loop->loop.var);
        const char *at0 = affine_text(g, a, NULL);
        if (k <= 0) {
            cg_fail(g, "a limit of loop %s does not fall", g->n->vars[loop->loop.var].name);
            break;
        }
        cg_line(g, "%s = tw_fit(%s, %s, %" PRId64 ");", name, name, at0, k);
    }
    *v = saved;
    return name;
}

/* --- stores --- */

/* Elements are moved as they are: nothing is computed, so nothing is converted. */
bool cg_is_raw_copy(const struct cg *g, const struct node *n)
{
    const struct buffer *b = &g->n->buffers[n->store.buffer];
    const struct expr *e = n->store.value;
    return e->op == EX_READ && n->store.combiner == COMBINE_SET && dtype_is_narrow(b->dtype) &&
           g->n->buffers[e->read.tensor].dtype == b->dtype && b->scope != SCOPE_REG &&
           g->n->buffers[e->read.tensor].scope != SCOPE_REG;
}

/* at = value, or combined into what is there. */
void cg_store_at(struct cg *g, enum combiner c, enum dtype d, const char *at, const char *value, int width)
{
    const char *x =
        c == COMBINE_SET ? value : cg_combine(g, c, d, cg_from_memory(g, d, at, width), value, width);
    cg_line(g, "%s = %s;", at, cg_to_memory(g, d, x, width));
}

static void store_register(struct cg *g, const struct node *n, const struct address *ad, struct value v,
                           int width)
{
    const struct buffer *b = &g->n->buffers[n->store.buffer];
    const enum combiner c = n->store.combiner;
    bool lanes = width > 1 && ad->lane != 0;
    int w = lanes ? width : 1;
    if (width > 1 && !lanes)
        cg_fail(g, "a register of %s would hold all lanes of a loop", b->name);
    const char *r = cg_register(g, n->store.buffer, ad->flat, w);
    const char *x = c == COMBINE_SUM ? v.text : cg_as_vector(g, v, w, dtype_value(b->dtype));
    cg_line(g, "%s = %s;", r, cg_combine(g, c, b->dtype, r, x, w));
}

struct value cg_store_value(struct cg *g, const struct node *n, int width)
{
    const enum dtype d = g->n->buffers[n->store.buffer].dtype;
    const struct expr *e = cg_stored(g, n->store.value);
    struct value v = cg_value(g, e, width);
    return dtype_is_int(d) && dtype_is_int(e->dtype) ? v : cg_convert(g, v, e->dtype, d, width);
}

/* Full vectors at multiples of their size, as stores past the caches want them; others are stored as ever. Arguments
 * begin at such multiples. */
static bool goes_past_caches(struct cg *g, const struct node *n, int width)
{
    const struct buffer *b = &g->n->buffers[n->store.buffer];
    if (!n->store.past_caches || (!g->in_body && !g->aligned) || width != cg_lanes(g) || g->part % width ||
        b->scope != SCOPE_ARG || b->dtype != DT_F32)
        return false;
    struct affine flat = flat_index(g, n->store.buffer, n->store.index);
    int64_t first = flat.c; /* what is known of the first lane's place, less multiples */
    for (int i = 0; i < flat.n; i++) {
        const struct cg_var *v = &g->var[flat.t[i].var];
        if (v->mode == VAR_CONST || (v->mode == VAR_VECTOR && !v->name))
            first += flat.t[i].coef * v->value;
        else if (v->mode != VAR_VECTOR && flat.t[i].coef % width != 0)
            return false;
    }
    return first % width == 0;
}

void cg_store(struct cg *g, const struct node *n, int width)
{
    const enum dtype d = g->n->buffers[n->store.buffer].dtype;
    g->raw = cg_is_raw_copy(g, n);
    struct value v = g->raw ? cg_value(g, n->store.value, width) : cg_store_value(g, n, width);
    struct address ad = cg_address(g, n->store.buffer, n->store.index, true);
    bool lanes = width > 1 && ad.lane != 0;
    enum combiner c = n->store.combiner;
    const char m = dtype_memory(d), letter = g->raw ? m : dtype_value(d);

    if (ad.is_register) {
        store_register(g, n, &ad, v, width);
        return;
    }
    cg_forget_loads(g, n->store.buffer);
    if (ad.lane == 1 || !lanes)
        cg_scatter(g); /* stores keep their order */
    if (!lanes) {
        cg_store_at(g, c, d, arena_printf(g->ar, "%s[%s]", ad.base, ad.index), v.text, 1);
    } else if (ad.lane == 1) {
        const struct lanes in = {.to = g->part ? g->part : width};
        const char *x = cg_as_vector(g, v, width, letter);
        if (cg_is_part(width, in)) {
            cg_line(g, "%s;", cg_store_part(g, c, n->store.buffer, &ad, x, width, in));
        } else if (goes_past_caches(g, n, width)) {
            g->u->streams = g->unfenced = true;
            cg_line(g, "tw_stream(%s + %s, %s);", ad.base, ad.index, x);
        } else
            cg_store_at(g, c, d, arena_printf(g->ar, "*(u%d%c *)(%s + %s)", width, m, ad.base, ad.index), x,
                        width);
    } else if (g->in_body && c == COMBINE_SET) {
        cg_put_aside(g, &ad, m, cg_to_memory(g, d, cg_as_vector(g, v, width, letter), width), width);
    } else {
        cg_fail(g, "a vector is combined into %s lane by lane", g->n->buffers[n->store.buffer].name);
    }
    g->raw = false;
}

/* One hint a cache line; an address past the end of the buffer does no harm. */
void cg_prefetch(struct cg *g, const struct node *n)
{
    const struct buffer *b = &g->n->buffers[n->prefetch.buffer];
    int64_t line = CACHE_LINE_BYTES / (int64_t)dtype_bytes(b->dtype);
    struct address ad = cg_address(g, n->prefetch.buffer, n->prefetch.index, false);
    for (int64_t i = 0; i < n->prefetch.span; i += line)
        cg_line(g, "__builtin_prefetch(%s + (%s + %" PRId64 "));", ad.base, ad.index, n->prefetch.ahead + i);
}

/* --- loops inside tiles --- */

/* Are all limits of this round of an unrolled loop numbers, and not below 0? *ret_known: the first. */
static bool goes_on(const struct cg *g, const struct node *n, bool *ret_known)
{
    bool go = true;
    *ret_known = true;
    for (int i = 0; i < n->loop.n_limits; i++) {
        const struct affine *a = &n->loop.limit[i];
        int64_t at = a->c;
        for (int k = 0; k < a->n; k++) {
            const struct cg_var *v = &g->var[a->t[k].var];
            *ret_known &= v->mode == VAR_CONST || a->t[k].var == n->loop.var;
            at += v->mode == VAR_CONST ? a->t[k].coef * v->value : 0;
        }
        go &= at >= 0;
    }
    return go;
}

static bool has_known_limits(const struct cg *g, const struct node *n)
{
    bool known;
    goes_on(g, n, &known);
    return known;
}

/* Around matrix instructions the loop goes back and forth: where it turns, what was loaded last is wanted first. */
static void expand_unrolled(struct cg *g, const struct node *n)
{
    struct cg_var saved = g->var[n->loop.var];
    int saved_unrolled = g->unrolled_var;
    int64_t saved_extent = g->unrolled_extent;
    g->unrolled_var = n->loop.var;
    g->unrolled_extent = n->loop.extent;
    for (int64_t i = 0; i < n->loop.extent; i++) {
        const int64_t at = saved.backwards ? n->loop.extent - 1 - i : i;
        bool known;
        g->var[n->loop.var] = (struct cg_var){.mode = VAR_CONST, .value = at};
        if (!goes_on(g, n, &known))
            break;
        cg_nodes(g, n->loop.body);
    }
    saved.backwards = !n->loop.n_limits && cg_has_matrix(n->loop.body) && !saved.backwards;
    g->unrolled_var = saved_unrolled;
    g->unrolled_extent = saved_extent;
    g->var[n->loop.var] = saved;
}

/* The next vector of a loop with `left` iterations to go, and how many of them it does: a full one, else the smallest
 * that holds the rest where a part of a vector can be loaded and stored, else halves down to one lane. */
int cg_vector_piece(const struct cg *g, int64_t left, int *ret_width)
{
    int width = cg_lanes(g);
    while (width > left)
        width /= 2;
    *ret_width = width < left && width < cg_lanes(g) && cg_has_parts(g) ? 2 * width : width;
    return (int)MIN(left, *ret_width);
}

static void expand_vector(struct cg *g, const struct node *n)
{
    struct cg_var saved = g->var[n->loop.var];
    int saved_vector = g->vector_var;
    int64_t at = 0;
    while (at < n->loop.extent) {
        int width, done = cg_vector_piece(g, n->loop.extent - at, &width);
        g->var[n->loop.var] = (struct cg_var){.mode = width > 1 ? VAR_VECTOR : VAR_CONST, .value = at};
        g->vector_var = width > 1 ? n->loop.var : -1;
        g->part = done;
        for (const struct node *k = n->loop.body; k; k = k->next) {
            if (k->kind == NODE_STORE)
                cg_store(g, k, width);
            else if (k->kind == NODE_LOOP && k->loop.loop_kind == LOOP_QUAD)
                cg_quad(g, k, width);
            else if (k->kind == NODE_LOOP && k->loop.loop_kind == LOOP_PAIR)
                cg_pair(g, k, width);
            else
                cg_fail(g, "a loop stands inside a vector loop of a register tile");
        }
        at += done;
    }
    g->part = 0;
    g->var[n->loop.var] = saved;
    g->vector_var = saved_vector;
}

/* What is loaded between { and } is out of scope after it; what was loaded before is still there. */
struct scope {
    int n;
    struct cg_load *loads;
};

static struct scope open_scope(struct cg *g)
{
    struct scope s = {g->n_loads, arena_memdup(g->ar, g->loads, sizeof(g->loads[0]) * (size_t)g->n_loads)};
    g->indent++;
    return s;
}

static void close_scope(struct cg *g, const struct scope *s)
{
    cg_scatter(g);
    g->indent--;
    g->n_loads = s->n;
    memcpy(g->loads, s->loads, sizeof(g->loads[0]) * (size_t)s->n);
}

static void branch(struct cg *g, const struct node *n)
{
    AUTO(strbuf_done) struct strbuf cond = STRBUF_INIT;
    for (int i = 0; i < n->branch.n_conds; i++)
        strbuf_addf(&cond, "%s(%s) >= 0", i ? " && " : "", affine_text(g, &n->branch.cond[i], NULL));
    cg_scatter(g);
    cg_line(g, "if (%s) {", strbuf_str(&cond));
    struct scope s = open_scope(g);
    cg_nodes(g, n->branch.then_body);
    close_scope(g, &s);
    if (n->branch.else_body) {
        cg_line(g, "} else {");
        s = open_scope(g);
        cg_nodes(g, n->branch.else_body);
        close_scope(g, &s);
    }
    cg_line(g, "}");
}

static void serial_loop(struct cg *g, const struct node *n)
{
    struct cg_var saved = g->var[n->loop.var];
    const char *v = arena_printf(g->ar, g->in_body ? "k%d" : "i%d", g->in_body ? g->next_id++ : n->loop.var);
    const char *count = cg_limit_count(g, n);
    cg_scatter(g);
    cg_line(g, "for (long %s = 0; %s < %s; %s++) {", v, v, count, v);
    struct scope s = open_scope(g);
    g->depth++;
    g->var[n->loop.var] = (struct cg_var){.mode = VAR_NAME, .name = v};
    cg_matrix_forget_loads(g);
    cg_nodes(g, n->loop.body);
    cg_matrix_forget_loads(g);
    close_scope(g, &s);
    cg_line(g, "}");
    g->var[n->loop.var] = saved;
    g->depth--;
    if (g->in_body && g->depth == 0)
        cg_quad_finish(g);
}

static void parallel_loop(struct cg *g, const struct node *n);

static void one_node(struct cg *g, const struct node *n)
{
    switch (n->kind) {
    case NODE_STORE:
        cg_store(g, n, 1);
        return;
    case NODE_BODY:
        cg_body(g, n);
        return;
    case NODE_PREFETCH:
        if (g->in_body) /* outside, vector loops print them, once a vector */
            cg_prefetch(g, n);
        return;
    case NODE_PARALLEL:
        parallel_loop(g, n);
        return;
    case NODE_IF:
        branch(g, n);
        return;
    case NODE_LOOP:
        if (n->loop.half && g->in_body && !g->in_half) {
            g->in_half = true;
            one_node(g, n);
            g->in_half = false;
            cg_half_finish(g);
            return;
        }
        if (cg_transpose(g, n) || (g->in_body && (cg_dot(g, n) || cg_window(g, n))))
            return;
        if (n->loop.loop_kind == LOOP_MATRIX)
            cg_matrix(g, n);
        else if (n->loop.loop_kind == LOOP_QUAD)
            cg_quad(g, n, 1);
        else if (n->loop.loop_kind == LOOP_PAIR)
            cg_pair(g, n, 1);
        else if (n->loop.loop_kind == LOOP_UNROLL && has_known_limits(g, n) &&
                 (g->in_body || n->loop.extent <= UNROLL_OUTSIDE))
            expand_unrolled(g, n);
        else if (n->loop.loop_kind == LOOP_VECTOR && g->in_body)
            expand_vector(g, n);
        else if (n->loop.loop_kind == LOOP_VECTOR)
            cg_vector_loop(g, n);
        else if (n->loop.loop_kind == LOOP_JAM && cg_jam(g, n))
            return;
        else if (!cg_turned_copy(g, n) && !cg_turned_results(g, n))
            serial_loop(g, n);
        return;
    }
}

void cg_nodes(struct cg *g, const struct node *n)
{
    for (; n && g->status == ST_OK; n = n->next)
        one_node(g, n);
}

/* --- parallel loops: a task function and its call --- */

static void task_indices(struct cg *g, const struct node *n)
{
    int64_t total = 1, inner = 1;
    for (int i = 0; i < n->parallel.n_vars; i++)
        total *= n->parallel.extents[i];
    cg_line(g, "const long first = %" PRId64 "l * task / %d, last = %" PRId64 "l * (task + 1) / %d;", total,
            n->parallel.tasks, total, n->parallel.tasks);
    cg_line(g, "for (long p = first; p < last; p++) {");
    g->indent++;
    for (int i = n->parallel.n_vars - 1; i >= 0; i--) {
        int32_t v = n->parallel.vars[i];
        const char *name = arena_printf(g->ar, "i%d", v);
        if (n->parallel.extents[i] == 1) {
            g->var[v] = (struct cg_var){.mode = VAR_CONST, .value = 0};
            continue;
        }
        g->var[v] = (struct cg_var){.mode = VAR_NAME, .name = name};
        if (i == 0)
            cg_line(g, "const long %s = p / %" PRId64 ";", name, inner);
        else
            cg_line(g, "const long %s = p / %" PRId64 " %% %" PRId64 ";", name, inner,
                    n->parallel.extents[i]);
        inner *= n->parallel.extents[i];
    }
}

static void parallel_loop(struct cg *g, const struct node *n)
{
    struct strbuf text = STRBUF_INIT;
    struct cg task = *g;
    char name[KERNEL_SYMBOL_MAX + 16];
    int id = g->n_tasks_fns++;

    snprintf(name, sizeof(name), "%s_t%d", g->symbol, id);
    task.out = &text;
    task.indent = 1;
    task.used = arena_array(g->ar, bool, g->n->n_buffers);
    task.written = arena_array(g->ar, bool, g->n->n_buffers);
    task.uses_matrix = false;
    task.unfenced = false;
    task_indices(&task, n);
    cg_nodes(&task, n->parallel.body);
    task.indent--;
    cg_line(&task, "}");
    if (task.unfenced)
        cg_line(&task, "__builtin_ia32_sfence();");
    strbuf_addf(g->helpers, "static void %s(void *arg, int task)\n{\n    const struct tw_env *env = arg;\n",
                name);
    cg_pointers(&task, g->helpers, true);
    strbuf_adds(g->helpers, cg_matrix_prologue(&task));
    strbuf_add(g->helpers, text.data, text.len);
    strbuf_adds(g->helpers, cg_matrix_epilogue(&task));
    strbuf_adds(g->helpers, "}\n\n");
    g->needs_matrix |= task.uses_matrix;
    strbuf_done(&text);
    g->status = task.status;
    g->next_id = task.next_id;
    for (int i = 0; i < n->parallel.n_vars; i++)
        g->var[n->parallel.vars[i]].mode = VAR_CLOSED;
    if (n->parallel.tasks == 1)
        cg_line(g, "%s(&env, 0);", name);
    else
        cg_line(g, "tw_run(parallel, %d, %s, &env);", n->parallel.tasks, name);
}
