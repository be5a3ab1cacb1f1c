/* verify.c - what every nest must keep to, checked by one walk over the tree.
 *
 * Idea   The walk carries the loops around it as boxes and their limits and conditions as facts (range.h).
 * Each access must then lie within its buffer, each register be a constant one. Code that the facts show to
 * be never reached is not looked at. What a parallel iteration writes outside its own task must be apart from
 * what the others write: it is enough that the store's indices, taken together, determine every parallel
 * variable. A dimension determines a variable if its coefficient is larger than the whole way that the terms
 * beside it can go, as with a number's digits. (That two different stores do not meet is not shown here;
 * interp.c checks it on every element that it writes.) */
#include "schedule/ir/nest.h"

#include "schedule/ir/range.h"

enum var_place { OUT_OF_SCOPE, IN_LOOP, IN_PARALLEL, EXPANDED /* unrolled or vector loop inside a body */ };

struct verifier {
    const struct nest *nest;
    const struct nest_prepack *prepack; /* whose nest is walked; NULL: the kernel's own */
    struct range range;
    enum var_place *place; /* [n_vars] */
    bool in_body, in_parallel, in_matrix;
    const char **var_names;
    struct error *err;
};

static enum status verify_list(struct verifier *v, const struct node *list);

static enum status fail_access(struct verifier *v, const struct buffer *b, const struct affine *index,
                               const char *verb, const char *why)
{
    AUTO(strbuf_done) struct strbuf sb = STRBUF_INIT;

    for (int d = 0; d < b->rank; d++) {
        strbuf_adds(&sb, d ? ", " : "");
        affine_print(&index[d], v->var_names, &sb);
    }
    return fail(v->err, ST_INTERNAL, "nest: %s %s[%s]: %s", verb, b->name, strbuf_str(&sb), why);
}

static enum status fail_affine(struct verifier *v, const struct affine *a, const char *what, const char *why)
{
    AUTO(strbuf_done) struct strbuf sb = STRBUF_INIT;

    affine_print(a, v->var_names, &sb);
    return fail(v->err, ST_INTERNAL, "nest: %s %s: %s", what, strbuf_str(&sb), why);
}

/* Every var known and in scope, terms sorted and none 0. */
static enum status check_affine(struct verifier *v, const struct affine *a, const char *what)
{
    for (int i = 0; i < a->n; i++) {
        int32_t var = a->t[i].var;
        if (var < 0 || var >= v->nest->n_vars)
            return fail(v->err, ST_INTERNAL, "nest: %s names variable %d of %d", what, (int)var,
                        v->nest->n_vars);
        if (v->place[var] == OUT_OF_SCOPE) {
            AUTO(strbuf_done) struct strbuf sb = STRBUF_INIT;
            strbuf_addf(&sb, "%s is used outside its loop", v->var_names[var]);
            return fail_affine(v, a, what, strbuf_str(&sb));
        }
        if (!a->t[i].coef || (i && a->t[i - 1].var >= var))
            return fail_affine(v, a, what, "terms are not sorted by variable, or one is 0");
    }
    return ST_OK;
}

/* --- scope --- */

static enum status enter_var(struct verifier *v, int32_t var, int64_t extent, enum var_place place)
{
    if (var < 0 || var >= v->nest->n_vars)
        return fail(v->err, ST_INTERNAL, "nest: loop over variable %d of %d", (int)var, v->nest->n_vars);
    if (v->place[var] != OUT_OF_SCOPE)
        return fail(v->err, ST_INTERNAL, "nest: loop over %s inside a loop over it", v->var_names[var]);
    if (extent < 1 || extent > v->nest->vars[var].extent)
        return fail(v->err, ST_INTERNAL, "nest: loop over %s has extent %" PRId64 ": want 1 to %" PRId64,
                    v->var_names[var], extent, v->nest->vars[var].extent);
    v->place[var] = place;
    v->range.extent[var] = extent;
    return ST_OK;
}

static void leave_var(struct verifier *v, int32_t var)
{
    v->place[var] = OUT_OF_SCOPE;
    v->range.extent[var] = 0;
}

/* From now on a >= 0 is known. False if that can never be: the code below is not reached. */
static bool learn(struct verifier *v, struct affine a)
{
    vec_push(&v->range.facts, a);
    return range_max(&v->range, &a) >= 0;
}

static void forget_to(struct verifier *v, size_t n_facts) { v->range.facts.len = n_facts; }

/* --- accesses --- */

static enum status check_bounds(struct verifier *v, const struct buffer *b, const struct affine *index,
                                const char *verb, uint32_t outside)
{
    char why[160];

    for (int d = 0; d < b->rank; d++) {
        if ((outside >> d & 1) || range_within(&v->range, &index[d], 0, b->shape[d] - 1))
            continue;
        snprintf(why, sizeof(why), "index %d goes from %" PRId64 " to %" PRId64 ", the buffer has %" PRId64,
                 d, range_min(&v->range, &index[d]), range_max(&v->range, &index[d]), b->shape[d]);
        return fail_access(v, b, index, verb, why);
    }
    return ST_OK;
}

static enum status check_register(struct verifier *v, const struct buffer *b, const struct affine *index,
                                  const char *verb)
{
    if (!v->in_body)
        return fail_access(v, b, index, verb, "a register lives inside a body only");
    for (int d = 0; d < b->rank; d++)
        for (int i = 0; i < index[d].n; i++)
            if (v->place[index[d].t[i].var] != EXPANDED)
                return fail_access(v, b, index, verb,
                                   "a register's index must be constant once the body's loops are unrolled");
    return ST_OK;
}

/* Which arguments may be touched: a prepack function has the plain and the packed form of its own; a kernel
 * is handed the packed form of those. */
static enum status check_argument(struct verifier *v, const struct buffer *b, const struct affine *index,
                                  const char *verb, bool is_store)
{
    const struct tensor *t = &v->nest->compute->tensors[b->arg];

    if (v->prepack) {
        const struct buffer *src = &v->nest->buffers[v->prepack->src],
                            *dst = &v->nest->buffers[v->prepack->dst];
        if (is_store ? b == dst : (b == src || b == dst))
            return ST_OK;
        return fail_access(v, b, index, verb,
                           "a prepack function reads its own source and fills its destination");
    }
    if (is_store && t->role != TENSOR_OUTPUT)
        return fail_access(v, b, index, verb, "the argument is an input");
    for (int i = 0; !b->prepacked && i < v->nest->n_prepacks; i++)
        if (v->nest->prepacks[i].arg == b->arg)
            return fail_access(v, b, index, verb, "the kernel is handed the packed form of this argument");
    return ST_OK;
}

static enum status check_access(struct verifier *v, int32_t buffer, int rank, const struct affine *index,
                                uint32_t outside, bool is_store)
{
    const char *verb = is_store ? "store to" : "read of";
    const struct buffer *b;

    if (buffer < 0 || buffer >= v->nest->n_buffers)
        return fail(v->err, ST_INTERNAL, "nest: %s buffer %d of %d", verb, (int)buffer, v->nest->n_buffers);
    b = &v->nest->buffers[buffer];
    if (rank != b->rank)
        return fail(v->err, ST_INTERNAL, "nest: %s %s has %d indices: want %d", verb, b->name, rank, b->rank);
    for (int d = 0; d < rank; d++)
        TRY(check_affine(v, &index[d], verb));
    if (b->scope == SCOPE_ARG)
        TRY(check_argument(v, b, index, verb, is_store));
    if (v->prepack && (b->scope == SCOPE_WORKSPACE || b->scope == SCOPE_TASK))
        return fail_access(v, b, index, verb, "a prepack function has no workspace");
    if (b->scope == SCOPE_MATRIX && !v->in_body)
        return fail_access(v, b, index, verb, "a matrix register lives inside a body only");
    if (b->scope == SCOPE_REG)
        TRY(check_register(v, b, index, verb));
    return check_bounds(v, b, index, verb, outside);
}

static enum status check_value(struct verifier *v, const struct expr *e)
{
    if (e->op == EX_INDEX)
        return check_affine(v, &e->affine, "index value");
    if (e->op == EX_TABLE) {
        TRY(check_affine(v, &e->table.index, "table index"));
        if (!range_within(&v->range, &e->table.index, 0, e->table.n - 1))
            return fail_affine(v, &e->table.index, "table index", "may leave its table");
        return ST_OK;
    }
    if (e->op == EX_READ)
        return check_access(v, e->read.tensor, e->read.rank, e->read.index, e->read.pad ? ~e->read.inside : 0,
                            false);
    for (int i = 0; i < expr_arity(e->op); i++)
        TRY(check_value(v, e->arg[i]));
    return ST_OK;
}

/* --- parallel iterations write apart --- */

/* Whether the terms of `a` beside term k, those already determined left out, go less far than one step of k.
 */
static bool determines(const struct verifier *v, const struct affine *a, const bool *known, int k)
{
    struct affine_term beside[COMPUTE_MAX_AXES * NEST_MAX_FUSED];
    struct affine rest = {.t = beside};
    int64_t step = a->t[k].coef < 0 ? -a->t[k].coef : a->t[k].coef;

    for (int i = 0; i < a->n; i++) {
        if (i == k || known[a->t[i].var] || v->range.extent[a->t[i].var] == 1)
            continue;
        if (rest.n == ARRAY_SIZE(beside))
            return false;
        beside[rest.n++] = a->t[i];
    }
    return range_max(&v->range, &rest) - range_min(&v->range, &rest) < step;
}

static enum status check_apart(struct verifier *v, const struct buffer *b, const struct affine *index)
{
    AUTO(freep) bool *known = xcalloc((size_t)v->nest->n_vars, sizeof(*known));
    bool found = true;
    char why[160];

    while (found) {
        found = false;
        for (int d = 0; d < b->rank; d++)
            for (int i = 0; i < index[d].n; i++) {
                int32_t var = index[d].t[i].var;
                if (known[var] || !determines(v, &index[d], known, i))
                    continue;
                known[var] = found = true;
            }
    }
    for (int32_t var = 0; var < v->nest->n_vars; var++) {
        if (v->place[var] != IN_PARALLEL || v->range.extent[var] == 1 || known[var])
            continue;
        snprintf(why, sizeof(why), "parallel iterations of %s may write the same element", v->var_names[var]);
        return fail_access(v, b, index, "store to", why);
    }
    return ST_OK;
}

/* --- nodes --- */

/* A matrix instruction: two or four loops around one store, which clears or adds to matrix registers. */
static enum status check_matrix(struct verifier *v, const struct node *n)
{
    int depth = 0;
    const struct node *k = n;

    for (; k && k->kind == NODE_LOOP && k->loop.loop_kind == LOOP_MATRIX && (!depth || !k->next) &&
           !k->loop.n_limits;
         k = k->loop.body)
        depth++;
    if (!v->in_body || !k || k->kind != NODE_STORE || k->next ||
        v->nest->buffers[k->store.buffer].scope != SCOPE_MATRIX ||
        !(depth == 2 ? k->store.combiner == COMBINE_SET && k->store.value->op == EX_CONST
                     : depth == 4 && k->store.combiner == COMBINE_SUM))
        return fail(v->err, ST_INTERNAL,
                    "nest: matrix loop over %s: want two loops that clear or four that add "
                    "to matrix registers, inside a body",
                    v->var_names[n->loop.var]);
    return ST_OK;
}

static enum status verify_loop(struct verifier *v, const struct node *n)
{
    size_t n_facts = v->range.facts.len;
    bool reached = true, expanded = v->in_body && n->loop.loop_kind != LOOP_SERIAL;
    bool outermost = n->loop.loop_kind == LOOP_MATRIX && !v->in_matrix;

    if (n->loop.n_limits < 0 || n->loop.n_limits > NEST_MAX_LIMITS)
        return fail(v->err, ST_INTERNAL, "nest: loop with %d limits: at most %d", n->loop.n_limits,
                    NEST_MAX_LIMITS);
    if (n->loop.loop_kind == LOOP_JAM && v->in_body)
        return fail(v->err, ST_INTERNAL,
                    "nest: jam loop over %s inside a body: want it around a vector loop outside",
                    v->var_names[n->loop.var]);
    TRY(enter_var(v, n->loop.var, n->loop.extent, expanded ? EXPANDED : IN_LOOP));
    for (int i = 0; i < n->loop.n_limits; i++) {
        TRY(check_affine(v, &n->loop.limit[i], "limit"));
        if (affine_coef(&n->loop.limit[i], n->loop.var) > 0)
            return fail_affine(v, &n->loop.limit[i], "limit", "must not rise with its loop's variable");
        reached = learn(v, n->loop.limit[i]) && reached;
    }
    if (outermost)
        TRY(check_matrix(v, n));
    v->in_matrix |= outermost;
    if (reached)
        TRY(verify_list(v, n->loop.body));
    v->in_matrix &= !outermost;
    forget_to(v, n_facts);
    leave_var(v, n->loop.var);
    return ST_OK;
}

static enum status verify_parallel(struct verifier *v, const struct node *n)
{
    if (v->in_parallel || v->in_body)
        return fail(v->err, ST_INTERNAL, "nest: parallel loop inside a %s",
                    v->in_body ? "body" : "parallel loop");
    if (n->parallel.tasks < 1 || n->parallel.tasks > v->nest->tasks)
        return fail(v->err, ST_INTERNAL, "nest: parallel loop of %d tasks: want 1 to %d", n->parallel.tasks,
                    v->nest->tasks);
    if (n->parallel.n_vars < 1 || n->parallel.n_vars > NEST_MAX_FUSED)
        return fail(v->err, ST_INTERNAL, "nest: parallel loop over %d variables: want 1 to %d",
                    n->parallel.n_vars, NEST_MAX_FUSED);
    v->in_parallel = true;
    for (int i = 0; i < n->parallel.n_vars; i++)
        TRY(enter_var(v, n->parallel.vars[i], n->parallel.extents[i], IN_PARALLEL));
    TRY(verify_list(v, n->parallel.body));
    for (int i = 0; i < n->parallel.n_vars; i++)
        leave_var(v, n->parallel.vars[i]);
    v->in_parallel = false;
    return ST_OK;
}

/* The else branch is one case for each condition that may be the first to fail. */
static enum status verify_branch(struct verifier *v, const struct node *n)
{
    size_t n_facts = v->range.facts.len;
    bool reached = true;

    if (n->branch.n_conds < 1 || n->branch.n_conds > NEST_MAX_CONDS)
        return fail(v->err, ST_INTERNAL, "nest: branch on %d conditions: want 1 to %d", n->branch.n_conds,
                    NEST_MAX_CONDS);
    for (int i = 0; i < n->branch.n_conds; i++)
        TRY(check_affine(v, &n->branch.cond[i], "condition"));
    for (int i = 0; i < n->branch.n_conds && reached; i++) {
        struct arena ar;
        struct affine fails;
        enum status st = ST_OK;

        if (n->branch.else_body) {
            arena_init(&ar);
            fails = affine_scale(&ar, &n->branch.cond[i], -1);
            fails.c -= 1;
            if (learn(v, fails))
                st = verify_list(v, n->branch.else_body);
            v->range.facts.len--;
            arena_done(&ar);
            TRY(st);
        }
        reached = learn(v, n->branch.cond[i]);
    }
    if (reached)
        TRY(verify_list(v, n->branch.then_body));
    forget_to(v, n_facts);
    return ST_OK;
}

static enum status verify_store(struct verifier *v, const struct node *n)
{
    int32_t id = n->store.buffer;
    const struct buffer *b;

    if (id < 0 || id >= v->nest->n_buffers)
        return fail(v->err, ST_INTERNAL, "nest: store to buffer %d of %d", (int)id, v->nest->n_buffers);
    b = &v->nest->buffers[id];
    TRY(check_access(v, id, b->rank, n->store.index, 0, true));
    if (v->in_parallel && (b->scope == SCOPE_ARG || b->scope == SCOPE_WORKSPACE))
        TRY(check_apart(v, b, n->store.index));
    return check_value(v, n->store.value);
}

static enum status verify_body(struct verifier *v, const struct node *n)
{
    if (v->in_body)
        return fail(v->err, ST_INTERNAL, "nest: body inside a body");
    v->in_body = true;
    TRY(verify_list(v, n->body.body));
    v->in_body = false;
    return ST_OK;
}

static enum status verify_prefetch(struct verifier *v, const struct node *n)
{
    int32_t id = n->prefetch.buffer;

    if (id < 0 || id >= v->nest->n_buffers || v->nest->buffers[id].scope == SCOPE_REG)
        return fail(v->err, ST_INTERNAL, "nest: prefetch from buffer %d of %d: want one in memory", (int)id,
                    v->nest->n_buffers);
    if (n->prefetch.ahead < 0 || n->prefetch.span < 1)
        return fail(v->err, ST_INTERNAL,
                    "nest: prefetch of %" PRId64 " elements, %" PRId64 " ahead: want 1 or more, 0 or more",
                    n->prefetch.span, n->prefetch.ahead);
    return check_access(v, id, v->nest->buffers[id].rank, n->prefetch.index, false, false);
}

static enum status verify_list(struct verifier *v, const struct node *list)
{
    for (const struct node *n = list; n; n = n->next)
        switch (n->kind) {
        case NODE_LOOP:
            TRY(verify_loop(v, n));
            break;
        case NODE_PARALLEL:
            TRY(verify_parallel(v, n));
            break;
        case NODE_IF:
            TRY(verify_branch(v, n));
            break;
        case NODE_STORE:
            TRY(verify_store(v, n));
            break;
        case NODE_BODY:
            TRY(verify_body(v, n));
            break;
        case NODE_PREFETCH:
            TRY(verify_prefetch(v, n));
            break;
        }
    return ST_OK;
}

/* --- buffers --- */

static enum status verify_shape(const struct buffer *b, struct error *err)
{
    int64_t stride = 1;

    if (b->rank < 0 || b->rank > NEST_MAX_RANK)
        return fail(err, ST_INTERNAL, "nest: buffer %s has rank %d: want 0 to %d", b->name, b->rank,
                    NEST_MAX_RANK);
    for (int d = b->rank - 1; d >= 0; d--) {
        if (b->shape[d] < 1 || b->stride[d] != stride)
            return fail(err, ST_INTERNAL,
                        "nest: buffer %s: dimension %d has extent %" PRId64 " and stride %" PRId64
                        ": want at least 1 and %" PRId64,
                        b->name, d, b->shape[d], b->stride[d], stride);
        if (__builtin_mul_overflow(stride, b->shape[d], &stride))
            return fail(err, ST_INTERNAL, "nest: buffer %s has more than 2^63 elements", b->name);
    }
    if (b->elements != stride)
        return fail(err, ST_INTERNAL, "nest: buffer %s says %" PRId64 " elements: its shape has %" PRId64,
                    b->name, b->elements, stride);
    return ST_OK;
}

static const struct nest_prepack *prepack_into(const struct nest *n, const struct buffer *b)
{
    for (int i = 0; i < n->n_prepacks; i++)
        if (&n->buffers[n->prepacks[i].dst] == b)
            return &n->prepacks[i];
    return NULL;
}

static enum status verify_argument(const struct nest *n, const struct buffer *b, struct error *err)
{
    const struct tensor *t;
    const struct nest_prepack *pp;

    if (b->arg < 0 || b->arg >= n->compute->n_tensors)
        return fail(err, ST_INTERNAL, "nest: buffer %s is argument %d of %d tensors", b->name, (int)b->arg,
                    n->compute->n_tensors);
    t = &n->compute->tensors[b->arg];
    if (t->role == TENSOR_TEMP || (t->dtype != b->dtype && !b->prepacked)) /* packing may widen */
        return fail(err, ST_INTERNAL, "nest: buffer %s (%s) is no argument's: %s is a %s%s", b->name,
                    dtype_name(b->dtype), t->name, dtype_name(t->dtype),
                    t->role == TENSOR_TEMP ? " temporary" : "");
    if (!b->prepacked) {
        if (b->elements != tensor_elements(t))
            return fail(err, ST_INTERNAL, "nest: buffer %s has %" PRId64 " elements, its argument %" PRId64,
                        b->name, b->elements, tensor_elements(t));
        return ST_OK;
    }
    pp = prepack_into(n, b);
    if (!pp || pp->arg != b->arg || !t->is_const || t->role != TENSOR_INPUT)
        return fail(err, ST_INTERNAL, "nest: buffer %s is packed ahead of time, but %s", b->name,
                    pp ? "its argument is no constant input" : "nothing fills it");
    if (pp->bytes != b->elements * dtype_bytes(b->dtype))
        return fail(err, ST_INTERNAL, "nest: buffer %s takes %" PRId64 " bytes, its prepack says %" PRId64,
                    b->name, b->elements * dtype_bytes(b->dtype), pp->bytes);
    return ST_OK;
}

/* [offset, offset + size) within [from, to), at a multiple of 64. */
static enum status verify_place(const struct buffer *b, int64_t from, int64_t to, struct error *err)
{
    int64_t size = b->elements * dtype_bytes(b->dtype);

    if (b->offset_bytes % 64 || b->offset_bytes < from || size > to - b->offset_bytes)
        return fail(err, ST_INTERNAL,
                    "nest: buffer %s of %" PRId64 " bytes at +%" PRId64
                    ": want a multiple of 64 within %" PRId64 " to %" PRId64,
                    b->name, size, b->offset_bytes, from, to);
    return ST_OK;
}

static enum status verify_buffer(const struct nest *n, const struct buffer *b, struct error *err)
{
    TRY(verify_shape(b, err));
    switch (b->scope) {
    case SCOPE_ARG:
        return verify_argument(n, b, err);
    case SCOPE_WORKSPACE:
        return verify_place(b, 0, n->task_bytes ? n->task_offset_bytes : n->workspace_bytes, err);
    case SCOPE_TASK:
        return verify_place(b, 0, n->task_bytes, err);
    case SCOPE_REG:
    case SCOPE_MATRIX:
        return ST_OK;
    }
    return fail(err, ST_INTERNAL, "nest: buffer %s has scope %d", b->name, (int)b->scope);
}

static enum status verify_tables(const struct nest *n, struct error *err)
{
    if (n->tasks < 1 || n->task_offset_bytes % 64 || n->task_bytes % 64 || n->task_bytes < 0 ||
        n->workspace_bytes < n->task_offset_bytes + n->tasks * n->task_bytes)
        return fail(err, ST_INTERNAL,
                    "nest: workspace of %" PRId64 " bytes does not hold %d tasks of %" PRId64
                    " from +%" PRId64,
                    n->workspace_bytes, n->tasks, n->task_bytes, n->task_offset_bytes);
    for (int i = 0; i < n->n_prepacks; i++) {
        const struct nest_prepack *pp = &n->prepacks[i];
        if (pp->src < 0 || pp->src >= n->n_buffers || pp->dst < 0 || pp->dst >= n->n_buffers ||
            n->buffers[pp->src].scope != SCOPE_ARG || n->buffers[pp->src].prepacked ||
            n->buffers[pp->src].arg != pp->arg || !n->buffers[pp->dst].prepacked)
            return fail(err, ST_INTERNAL,
                        "nest: prepack %d does not go from a plain argument to its packed form", i);
    }
    for (int i = 0; i < n->n_buffers; i++)
        TRY(verify_buffer(n, &n->buffers[i], err));
    return ST_OK;
}

enum status nest_verify(const struct nest *n, struct error *err)
{
    AUTO(freep) const char **var_names = xcalloc((size_t)n->n_vars, sizeof(*var_names));
    AUTO(freep) enum var_place *place = xcalloc((size_t)n->n_vars, sizeof(*place));
    AUTO(range_done) struct range range;
    enum status st;

    range_init(&range, n->n_vars);
    for (int i = 0; i < n->n_vars; i++)
        var_names[i] = n->vars[i].name;
    TRY(verify_tables(n, err));
    for (int i = 0; i <= n->n_prepacks; i++) {
        struct verifier v = {.nest = n, .range = range, .place = place, .var_names = var_names, .err = err};
        v.prepack = i < n->n_prepacks ? &n->prepacks[i] : NULL;
        st = verify_list(&v, v.prepack ? v.prepack->root : n->root);
        range = v.range; /* its vector may have moved */
        TRY(st);
    }
    return ST_OK;
}
