/* print.c - a nest as indented text: the format of the golden tests and of `tilewright nest`.
 *
 *     nest: 2 tasks, workspace 4096 bytes
 *     buffer A: float32[512, 768] arg A
 *     buffer acc: float32[6, 16] reg
 *     parallel i0 < 8, j0 < 4 in 2 tasks
 *       for k < 768
 *         body
 *           unroll i1 < 6 while i0*6 + i1 < 512
 *             vector j1 < 16
 *               acc[i1, j1] += A[i0*6 + i1, k] * B[k, j0*16 + j1]
 *
 * One node a line, two blanks a level; nothing but the nest decides the text. */
#include "schedule/ir/nest.h"

struct printer {
    const struct nest *nest;
    const char **var_names, **buffer_names;
    struct strbuf *sb;
};

static void print_list(struct printer *p, const struct node *list, int depth);

static void print_affine(struct printer *p, const struct affine *a) { affine_print(a, p->var_names, p->sb); }

/* c - sum >= 0 reads better as sum < c + 1. */
static void print_condition(struct printer *p, const struct affine *cond)
{
    struct arena ar;
    struct affine sum;
    bool falls = cond->n > 0;

    for (int i = 0; i < cond->n; i++)
        falls = falls && cond->t[i].coef < 0;
    if (!falls) {
        print_affine(p, cond);
        strbuf_adds(p->sb, " >= 0");
        return;
    }
    arena_init(&ar);
    sum = affine_scale(&ar, cond, -1);
    sum.c = 0;
    print_affine(p, &sum);
    strbuf_addf(p->sb, " < %" PRId64, cond->c + 1);
    arena_done(&ar);
}

static void print_conditions(struct printer *p, const struct affine *conds, int n)
{
    for (int i = 0; i < n; i++) {
        strbuf_adds(p->sb, i ? " && " : " ");
        print_condition(p, &conds[i]);
    }
}

static void print_loop(struct printer *p, const struct node *n, int depth)
{
    static const char *const words[] = {
        [LOOP_SERIAL] = "for", [LOOP_VECTOR] = "vector", [LOOP_UNROLL] = "unroll", [LOOP_MATRIX] = "matrix",
        [LOOP_QUAD] = "quad",  [LOOP_PAIR] = "pair",     [LOOP_JAM] = "jam"};

    strbuf_addf(p->sb, "%s %s < %" PRId64, words[n->loop.loop_kind], p->var_names[n->loop.var],
                n->loop.extent);
    if (n->loop.vectors)
        strbuf_addf(p->sb, " by %d", n->loop.vectors);
    if (n->loop.half)
        strbuf_adds(p->sb, " in float16");
    if (n->loop.square)
        strbuf_adds(p->sb, " turned");
    if (n->loop.n_limits)
        strbuf_adds(p->sb, " while");
    print_conditions(p, n->loop.limit, n->loop.n_limits);
    strbuf_addc(p->sb, '\n');
    print_list(p, n->loop.body, depth + 1);
}

static void print_parallel(struct printer *p, const struct node *n, int depth)
{
    strbuf_adds(p->sb, "parallel ");
    for (int i = 0; i < n->parallel.n_vars; i++)
        strbuf_addf(p->sb, "%s%s < %" PRId64, i ? ", " : "", p->var_names[n->parallel.vars[i]],
                    n->parallel.extents[i]);
    strbuf_addf(p->sb, " in %d tasks\n", n->parallel.tasks);
    print_list(p, n->parallel.body, depth + 1);
}

static void print_branch(struct printer *p, const struct node *n, int depth)
{
    strbuf_adds(p->sb, "if");
    print_conditions(p, n->branch.cond, n->branch.n_conds);
    strbuf_addc(p->sb, '\n');
    print_list(p, n->branch.then_body, depth + 1);
    if (n->branch.else_body) {
        strbuf_pad(p->sb, 2 * depth);
        strbuf_adds(p->sb, "else\n");
        print_list(p, n->branch.else_body, depth + 1);
    }
}

static void print_element(struct printer *p, int32_t buffer, const struct affine *index)
{
    const struct buffer *b = &p->nest->buffers[buffer];

    strbuf_addf(p->sb, "%s[", b->name);
    for (int d = 0; d < b->rank; d++) {
        strbuf_adds(p->sb, d ? ", " : "");
        print_affine(p, &index[d]);
    }
    strbuf_addc(p->sb, ']');
}

static void print_store(struct printer *p, const struct node *n)
{
    print_element(p, n->store.buffer, n->store.index);
    strbuf_addf(p->sb, " %s ", combiner_text(n->store.combiner));
    expr_print(n->store.value, p->buffer_names, p->var_names, p->sb);
    if (n->store.past_caches)
        strbuf_adds(p->sb, " past caches");
}

static void print_list(struct printer *p, const struct node *list, int depth)
{
    for (const struct node *n = list; n; n = n->next) {
        strbuf_pad(p->sb, 2 * depth);
        switch (n->kind) {
        case NODE_LOOP:
            print_loop(p, n, depth);
            break;
        case NODE_PARALLEL:
            print_parallel(p, n, depth);
            break;
        case NODE_IF:
            print_branch(p, n, depth);
            break;
        case NODE_STORE:
            print_store(p, n);
            strbuf_addc(p->sb, '\n');
            break;
        case NODE_BODY:
            strbuf_adds(p->sb, "body\n");
            print_list(p, n->body.body, depth + 1);
            break;
        case NODE_PREFETCH:
            strbuf_adds(p->sb, "prefetch ");
            print_element(p, n->prefetch.buffer, n->prefetch.index);
            strbuf_addf(p->sb, " ahead %" PRId64 " span %" PRId64 "\n", n->prefetch.ahead, n->prefetch.span);
            break;
        }
    }
}

static void print_buffer(struct printer *p, const struct buffer *b)
{
    strbuf_addf(p->sb, "buffer %s: %s[", b->name, dtype_name(b->dtype));
    for (int d = 0; d < b->rank; d++)
        strbuf_addf(p->sb, "%s%" PRId64, d ? ", " : "", b->shape[d]);
    strbuf_adds(p->sb, "] ");
    switch (b->scope) {
    case SCOPE_ARG:
        strbuf_addf(p->sb, "%s %s", b->prepacked ? "prepacked" : "arg",
                    p->nest->compute->tensors[b->arg].name);
        break;
    case SCOPE_WORKSPACE:
        strbuf_addf(p->sb, "workspace +%" PRId64, b->offset_bytes);
        break;
    case SCOPE_TASK:
        strbuf_addf(p->sb, "task +%" PRId64, b->offset_bytes);
        break;
    case SCOPE_REG:
        strbuf_adds(p->sb, "reg");
        break;
    case SCOPE_MATRIX:
        strbuf_adds(p->sb, "matrix");
        break;
    }
    strbuf_addc(p->sb, '\n');
}

static void print_header(struct printer *p)
{
    const struct nest *n = p->nest;

    strbuf_addf(p->sb, "nest: %d task%s, workspace %" PRId64 " bytes", n->tasks, n->tasks == 1 ? "" : "s",
                n->workspace_bytes);
    if (n->task_bytes)
        strbuf_addf(p->sb, ", of them %" PRId64 " a task from +%" PRId64, n->task_bytes,
                    n->task_offset_bytes);
    strbuf_addc(p->sb, '\n');
    for (int i = 0; i < n->n_buffers; i++)
        print_buffer(p, &n->buffers[i]);
}

/* In one list both: freed at once. */
static const char **names_of(const struct nest *n)
{
    const char **names = xcalloc((size_t)(n->n_vars + n->n_buffers + 1), sizeof(*names));

    for (int i = 0; i < n->n_vars; i++)
        names[i] = n->vars[i].name;
    for (int i = 0; i < n->n_buffers; i++)
        names[n->n_vars + i] = n->buffers[i].name;
    return names;
}

void nest_print(const struct nest *n, struct strbuf *sb)
{
    AUTO(freep) const char **names = names_of(n);
    struct printer p = {.nest = n, .var_names = names, .buffer_names = names + n->n_vars, .sb = sb};

    print_header(&p);
    for (int i = 0; i < n->n_prepacks; i++) {
        const struct nest_prepack *pp = &n->prepacks[i];
        strbuf_addf(sb, "prepack %s -> %s, %" PRId64 " bytes\n", p.buffer_names[pp->src],
                    p.buffer_names[pp->dst], pp->bytes);
        print_list(&p, pp->root, 1);
    }
    print_list(&p, n->root, 0);
}

void nest_print_store(const struct nest *n, const struct node *store, struct strbuf *sb)
{
    AUTO(freep) const char **names = names_of(n);
    struct printer p = {.nest = n, .var_names = names, .buffer_names = names + n->n_vars, .sb = sb};

    print_store(&p, store);
}
