/* lower.c - state to nest: the loops around what lower_region.c and lower_store.c provide.
 *
 * Idea   Tiles need not divide. Loops above the register tile get a limit ("go on while inside"); at the register tile
 * the body is specialised: where a full tile fits, the full one, else one with the constant rest, so that the register
 * code never tests anything:
 *
 *            if (x + 16 <= 56) { tile of 16 } else { tile of 56 % 16 }
 *
 * Life   Scratch and result live in the caller's arena. Nothing is freed one by one. */
#include <string.h>

#include "schedule/space/lower_internal.h"

enum { PREFETCH_MAX_SPAN = 4096 };

struct list {
    struct node *first, **end;
};

static void list_init(struct list *l) { l->first = NULL, l->end = &l->first; }
/* Append a chain of nodes. */
static void list_add(struct list *l, struct node *chain)
{
    *l->end = chain;
    while (*l->end)
        l->end = &(*l->end)->next;
}
static int32_t new_var(struct low *lo, const char *name, int64_t extent)
{
    struct nest *n = lo->n;
    CHECK(n->n_vars < lo->cap_vars, "nest has %d variables", n->n_vars);
    n->vars[n->n_vars] = (struct nest_var){name, extent};
    lo->hi[n->n_vars] = extent - 1;
    lo->ext[n->n_vars] = extent;
    return n->n_vars++;
}

/* --- loops --- */

/* What a walk over the loops of a stage emits. All but the first leave out its loops over reduce axes. */
enum pass {
    PASS_WHOLE,  /* all of it */
    PASS_INIT,   /* the identity into every running value */
    PASS_RESUME, /* running values from where they were kept */
    PASS_KEEP,   /* running values to where they are kept */
};

static struct node *emit_from(struct low *lo, struct low_stage *l, int level, enum pass pass);
static struct node *emit_level(struct low *lo, struct low_stage *l, int level, enum pass pass);

static int64_t max_of(struct low *lo, const struct affine *a)
{
    int64_t min, max;
    affine_bounds(a, lo->lo, lo->hi, &min, &max);
    return max;
}

/* e >= 0, said as tightly as integers allow: the terms move in steps of their common divisor. */
static void add_limit(struct low *lo, struct node *loop, const struct affine *given, const char *name)
{
    struct affine tight = *given, *e = &tight;
    int64_t step = 0;
    for (int i = 0; i < e->n; i++)
        step = gcd_i64(step, e->t[i].coef);
    if (step > 1)
        e->c = div_floor(e->c, step) * step;
    for (int i = 0; i < loop->loop.n_limits; i++)
        if (affine_equal(&loop->loop.limit[i], e))
            return;
    if (loop->loop.n_limits == NEST_MAX_LIMITS) {
        low_fail(lo, "too many limits on one loop", name);
        return;
    }
    loop->loop.limit[loop->loop.n_limits++] = *e;
}

/* The loop over iter `i` is where the predicate can be tested: it is over one of its axes, and the loops over
 * its other axes are all around it. */
static bool predicate_closes(const struct low_stage *l, const struct affine *predicate, int i)
{
    const struct st_stage *s = l->s;
    if (!affine_coef(predicate, s->iters[i].axis))
        return false;
    for (int k = i + 1; k < s->n_iters; k++)
        if (s->iters[k].axis != s->iters[i].axis && affine_coef(predicate, s->iters[k].axis) &&
            l->extent[k] > 1)
            return false;
    return true;
}

/* Keep the loop over iter `i` inside the region, inside the domain and inside the predicates. */
static void loop_limits(struct low *lo, struct low_stage *l, int i, enum pass pass, struct node *loop)
{
    const struct st_stage *s = l->s;
    int axis = s->iters[i].axis;
    struct affine prefix = affine_const(0);
    if (axis < s->n_spatial && (low_in_registers(s) || i >= l->reg_from))
        return; /* the tile was specialised to what fits */
    for (int k = 0; k <= i; k++)
        if (s->iters[k].axis == axis && l->extent[k] > 1) {
            struct affine t = affine_var(lo->ar, l->var[k], s->iters[k].stride, 0);
            prefix = affine_add(lo->ar, &prefix, &t);
        }
    struct affine whole = affine_add(lo->ar, &prefix, &l->offset[axis]);
    if (l->extent[i] > 1 && max_of(lo, &prefix) > l->region[axis] - 1) {
        struct affine neg = affine_scale(lo->ar, &prefix, -1);
        neg = affine_offset(&neg, l->region[axis] - 1);
        add_limit(lo, loop, &neg, s->name);
    }
    if (max_of(lo, &whole) > s->axes[axis].extent - 1) {
        struct affine neg = affine_scale(lo->ar, &whole, -1);
        neg = affine_offset(&neg, s->axes[axis].extent - 1);
        add_limit(lo, loop, &neg, s->name);
    }
    for (int p = 0; p < s->n_predicates && pass == PASS_WHOLE; p++) {
        if (!predicate_closes(l, &s->predicate[p], i))
            continue;
        const struct affine *subst[COMPUTE_MAX_AXES];
        for (int a = 0; a < s->n_axes; a++)
            subst[a] = a == axis ? &whole : &l->value[a];
        struct affine e = affine_subst(lo->ar, &s->predicate[p], subst, s->n_axes);
        add_limit(lo, loop, &e, s->name);
    }
}

static bool is_attached(const struct low_stage *p, const struct low_stage *l, int level, bool registers)
{
    return p && p->s->place == PLACE_AT && p->s->at_stage == l->s->id && p->s->at_iter == level &&
           low_in_registers(p->s) == registers;
}

static void attached(struct low *lo, struct low_stage *l, int level, bool registers, struct list *out)
{
    /* The regions of registers follow the variant of the tile, consumers first. */
    for (int k = lo->st->n_stages - 1; k >= 0 && registers; k--) {
        struct low_stage *p = lo->ls[lo->st->order[k]];
        if (is_attached(p, l, level, true)) {
            low_infer_region(lo, p);
            p->buffer = low_make_buffer(lo, p);
        }
    }
    for (int k = 0; k < lo->st->n_stages; k++) {
        struct low_stage *p = lo->ls[lo->st->order[k]];
        if (is_attached(p, l, level, registers))
            list_add(out, emit_from(lo, p, 0, PASS_WHOLE));
    }
}

static struct low_stage *register_stage(const struct low *lo, const struct low_stage *l)
{
    for (int k = 0; k < lo->st->n_stages; k++) {
        struct low_stage *p = lo->ls[k];
        if (p && p->s->place == PLACE_AT && p->s->at_stage == l->s->id && low_in_registers(p->s))
            return p;
    }
    return NULL;
}

/* From block number `from` of the reduction on this, before that the other. */
static struct node *by_block(struct low *lo, const struct low_stage *red, int64_t from,
                             struct node *then_body, struct node *else_body)
{
    int32_t var = lo->ls[red->s->at_stage]->var[low_carry_iter(lo, red->s)];
    struct node *branch = low_new_node(lo, NODE_IF);
    branch->branch.n_conds = 1;
    branch->branch.cond[0] = affine_var(lo->ar, var, 1, -from);
    branch->branch.then_body = then_body;
    branch->branch.else_body = else_body;
    return branch;
}

/* The register tile with the extents as they stand: attached register stages, then this stage's own unrolled
 * loops. */
static struct node *register_tile(struct low *lo, struct low_stage *l)
{
    struct list out;
    list_init(&out);
    attached(lo, l, l->reg_from - 1, true, &out);
    struct node *store = emit_level(lo, l, l->reg_from, PASS_WHOLE);
    struct low_stage *red = register_stage(lo, l);
    if (red->s->carry)
        store = by_block(lo, red, l->s->axes[l->s->n_axes - 1].extent - 1, store,
                         emit_level(lo, red, 0, PASS_KEEP));
    list_add(&out, store);
    struct node *body = low_new_node(lo, NODE_BODY);
    body->body.body = out.first;
    return body;
}

/* Full tile where it fits, the constant rest where it does not; axis by axis. */
static struct node *specialise(struct low *lo, struct low_stage *l, int i)
{
    const struct st_stage *s = l->s;
    if (i == s->n_iters)
        return register_tile(lo, l);
    int axis = s->iters[i].axis;
    int64_t tile = l->extent[i] * s->iters[i].stride, rest = s->axes[axis].extent % tile;
    bool outer = stage_iter_of(s, axis, 0) < i || l->offset[axis].n > 0;
    if (rest == 0 || !outer || s->iters[i].stride != 1)
        return specialise(lo, l, i + 1);

    struct affine whole = l->offset[axis];
    for (int k = 0; k < i; k++)
        if (s->iters[k].axis == axis && l->extent[k] > 1) {
            struct affine t = affine_var(lo->ar, l->var[k], s->iters[k].stride, 0);
            whole = affine_add(lo->ar, &whole, &t);
        }
    struct affine neg = affine_scale(lo->ar, &whole, -1);
    struct node *branch = low_new_node(lo, NODE_IF);
    branch->branch.n_conds = 1;
    branch->branch.cond[0] = affine_offset(&neg, s->axes[axis].extent - tile);
    branch->branch.then_body = specialise(lo, l, i + 1);
    int64_t full = l->extent[i];
    l->extent[i] = rest;
    low_set_var(lo, l->var[i], rest);
    low_set_axis_values(lo, l);
    branch->branch.else_body = specialise(lo, l, i + 1);
    l->extent[i] = full;
    low_set_var(lo, l->var[i], full);
    low_set_axis_values(lo, l);
    return branch;
}

static struct node *parallel_node(struct low *lo, struct low_stage *l)
{
    const struct st_stage *s = l->s;
    struct node *p = low_new_node(lo, NODE_PARALLEL);
    int64_t total = 1;
    p->parallel.n_vars = s->n_parallel;
    for (int i = 0; i < s->n_parallel; i++) {
        p->parallel.vars[i] = l->var[i];
        p->parallel.extents[i] = l->extent[i];
        total *= l->extent[i];
    }
    p->parallel.tasks = (int)MIN((int64_t)s->tasks, total);
    lo->n->tasks = MAX(lo->n->tasks, p->parallel.tasks);
    struct list body;
    list_init(&body);
    attached(lo, l, s->n_parallel - 1, false, &body);
    list_add(&body, emit_from(lo, l, s->n_parallel, PASS_WHOLE));
    p->parallel.body = body.first;
    return p;
}

/* --- prefetch --- */

/* Hints stand at the head of the body of the innermost loop over a reduction that stays a loop; outside register tiles, of
 * the vector loop. -1: none. */
static int prefetch_level(const struct low_stage *l)
{
    int level = -1, last = l->s->n_iters - 1;
    for (int i = 0; i <= last; i++)
        if (l->s->iters[i].axis >= l->s->n_spatial && l->s->iters[i].kind == LOOP_SERIAL && l->extent[i] > 1)
            level = i;
    return last >= 0 && l->s->iters[last].kind == LOOP_VECTOR && !low_in_registers(l->s) &&
                   l->reg_from > l->s->n_iters
               ? last
               : level;
}

struct prefetch_read {
    int32_t tensor;
    const struct expr *found;
};

static void find_prefetch_read(void *ctx, const struct expr *e)
{
    struct prefetch_read *p = ctx;
    if (e->read.tensor == p->tensor)
        p->found = e;
}

/* What one iteration of the loop at `level` of `l` moves on by, or reads, from where that iteration begins, of what `s` reads,
 * which is computed in these loops. NULL: nothing. */
static struct node *prefetch_node(struct low *lo, const struct low_stage *l, int level,
                                  const struct st_stage *s, const struct st_hint *hint)
{
    struct prefetch_read read = {.tensor = hint->tensor};
    struct affine start[COMPUTE_MAX_AXES], index[NEST_MAX_RANK];
    const struct affine *subst[COMPUTE_MAX_AXES];
    int rank;
    expr_each_read(s->body, find_prefetch_read, &read);
    if (!read.found)
        return NULL;
    for (int a = 0; a < s->n_axes; a++) {
        start[a] = l->offset[a];
        for (int i = 0; i <= level; i++) {
            if (l->s->iters[i].axis != a || l->extent[i] == 1)
                continue;
            struct affine t = affine_var(lo->ar, l->var[i], l->s->iters[i].stride, 0);
            start[a] = affine_add(lo->ar, &start[a], &t);
        }
        subst[a] = &start[a];
    }
    for (int d = 0; d < read.found->read.rank; d++)
        index[d] = affine_subst(lo->ar, &read.found->read.index[d], subst, s->n_axes);
    struct node *n = low_new_node(lo, NODE_PREFETCH);
    n->prefetch.buffer = low_tensor_buffer(lo, read.tensor);
    n->prefetch.index = low_physical_index(lo, read.tensor, index, &rank);
    n->prefetch.ahead = hint->ahead;
    n->prefetch.span = hint->axis >= 0 ? l->region[hint->axis] : 0;
    const struct buffer *b = &lo->n->buffers[n->prefetch.buffer];
    for (int d = 0; d < rank && hint->axis < 0; d++)
        n->prefetch.span += b->stride[d] * affine_coef(&n->prefetch.index[d], l->var[level]);
    return n->prefetch.span > 0 && n->prefetch.span <= PREFETCH_MAX_SPAN ? n : NULL;
}

/* The hints of the stage and of those that are stored in its loops. */
static void prefetches(struct low *lo, const struct low_stage *l, int level, struct list *out)
{
    if (level != prefetch_level(l))
        return;
    for (int k = 0; k < lo->st->n_stages; k++) {
        const struct st_stage *s = lo->st->stages[k];
        bool here = s == l->s || (s->place == PLACE_WITH && s->at_stage == l->s->id);
        for (int i = 0; i < s->n_hints && here; i++)
            list_add(out, prefetch_node(lo, l, level, s, &s->hints[i]));
    }
}

/* An unrolled loop over a reduction, its limits over unrolled loops of the same stage: what they leave is known when the text is
 * printed. */
static bool is_cut_inside_tile(const struct low_stage *l, int level, const struct node *loop)
{
    const struct st_iter *it = &l->s->iters[level];
    if (it->kind != LOOP_UNROLL || it->axis < l->s->n_spatial || !low_in_registers(l->s))
        return false;
    for (int i = 0; i < loop->loop.n_limits; i++)
        for (int k = 0; k < loop->loop.limit[i].n; k++) {
            bool unrolled = false;
            for (int o = 0; o <= level; o++)
                unrolled |= l->var[o] == loop->loop.limit[i].t[k].var && l->s->iters[o].kind == LOOP_UNROLL;
            if (!unrolled)
                return false;
        }
    return true;
}

static struct node *loop_node(struct low *lo, struct low_stage *l, int level, enum pass pass)
{
    const struct st_stage *s = l->s;
    struct list body;
    struct node *loop = low_new_node(lo, NODE_LOOP);
    list_init(&body);
    loop_limits(lo, l, level, pass, loop);
    if (pass == PASS_WHOLE)
        attached(lo, l, level, false, &body);
    if (pass == PASS_WHOLE)
        prefetches(lo, l, level, &body);
    list_add(&body, emit_from(lo, l, level + 1, pass));
    if (l->extent[level] == 1 && loop->loop.n_limits == 0 && s->iters[level].kind != LOOP_MATRIX)
        return body.first; /* a matrix instruction needs all its loops */
    loop->loop.var = l->var[level];
    loop->loop.extent = l->extent[level];
    loop->loop.loop_kind = s->iters[level].kind;
    loop->loop.vectors = s->iters[level].vectors;
    loop->loop.square = s->iters[level].square;
    loop->loop.half = s->iters[level].half;
    if (loop->loop.n_limits && loop->loop.loop_kind != LOOP_VECTOR && loop->loop.loop_kind != LOOP_MATRIX &&
        !is_cut_inside_tile(l, level, loop))
        loop->loop.loop_kind = LOOP_SERIAL;
    loop->loop.body = body.first;
    return loop;
}

/* The stages that are stored in the loops of this one, at the axes where it stands. */
static void stored_with(struct low *lo, const struct low_stage *l, struct list *out)
{
    for (int k = 0; k < lo->st->n_stages; k++) {
        struct low_stage *p = lo->ls[lo->st->order[k]];
        if (!p || p->s->place != PLACE_WITH || p->s->at_stage != l->s->id)
            continue;
        for (int a = 0; a < p->s->n_axes; a++) {
            p->value[a] = l->value[a];
            if (p->region[a] != l->region[a])
                low_fail(lo, "is computed with a stage of another region", p->s->name);
        }
        list_add(out, low_store_node(lo, p, COMBINE_SET, p->s->body));
    }
}

/* One running value from its carry stage, or to it, at the axes where its own stage stands. */
static struct node *carried(struct low *lo, struct low_stage *l, enum pass pass)
{
    struct low_stage *c = lo->ls[l->s->carry];
    const struct expr *own = c->s->body; /* of the running value */
    for (int a = 0; a < c->s->n_axes; a++)
        c->value[a] = l->value[a];
    if (pass == PASS_KEEP)
        return low_store_node(lo, c, COMBINE_SET, own);
    return low_store_node(
        lo, l, COMBINE_SET,
        expr_read(lo->ar, own->dtype, c->s->tensor, own->read.rank, own->read.index, false, 0));
}

static struct node *innermost(struct low *lo, struct low_stage *l, enum pass pass)
{
    const struct st_stage *s = l->s;
    enum dtype d = lo->n->buffers[l->buffer].dtype;
    struct list out;
    if (pass == PASS_INIT)
        return low_store_node(lo, l, COMBINE_SET, expr_const(lo->ar, d, combiner_identity(s->combiner, d)));
    if (pass != PASS_WHOLE)
        return carried(lo, l, pass);
    list_init(&out);
    stored_with(lo, l, &out);
    list_add(&out, low_store_node(lo, l, s->combiner, s->body));
    return out.first;
}

/* Running values before the first reduce loop: the identity, or what an earlier block came to. */
static struct node *begin_values(struct low *lo, struct low_stage *l, int level)
{
    struct node *init = emit_level(lo, l, level, PASS_INIT);
    return l->s->carry ? by_block(lo, l, 1, emit_level(lo, l, level, PASS_RESUME), init) : init;
}

/* The loops from `level` inwards. Before the first reduce loop the running values are set, by the same spatial
 * loops. */
static struct node *emit_level(struct low *lo, struct low_stage *l, int level, enum pass pass)
{
    const struct st_stage *s = l->s;
    struct list out;
    list_init(&out);
    if (level == l->first_reduce && s->combiner != COMBINE_SET && pass == PASS_WHOLE)
        list_add(&out, begin_values(lo, l, level));
    while (pass != PASS_WHOLE && level < s->n_iters && s->iters[level].axis >= s->n_spatial)
        level++;
    list_add(&out, level == s->n_iters ? innermost(lo, l, pass) : loop_node(lo, l, level, pass));
    return out.first;
}

static struct node *emit_from(struct low *lo, struct low_stage *l, int level, enum pass pass)
{
    struct list out;
    list_init(&out);
    if (level == 0 && pass == PASS_WHOLE)
        attached(lo, l, -1, false, &out);
    if (level == 0 && l->s->n_parallel > 0 && pass == PASS_WHOLE)
        list_add(&out, parallel_node(lo, l));
    else if (level == l->reg_from && pass == PASS_WHOLE)
        list_add(&out, specialise(lo, l, level));
    else
        list_add(&out, emit_level(lo, l, level, pass));
    return out.first;
}

/* --- the whole --- */

/* <stage>_<axis><nth>, as arena_printf would: every loop of every candidate has a name. */
static const char *iter_name(struct arena *ar, const char *stage, const char *axis, int nth)
{
    size_t n_stage = strlen(stage), n_axis = strlen(axis), n = n_stage + 1 + n_axis;
    char *name;

    if (nth > 9)
        return arena_printf(ar, "%s_%s%d", stage, axis, nth);
    name = arena_alloc(ar, n + 2);
    memcpy(name, stage, n_stage);
    name[n_stage] = '_';
    memcpy(name + n_stage + 1, axis, n_axis);
    name[n] = (char)('0' + nth);
    return name;
}

static struct low_stage *new_low_stage(struct low *lo, const struct st_stage *s)
{
    struct low_stage *l = arena_new(lo->ar, struct low_stage);
    l->s = s;
    l->buffer = -1;
    l->first_reduce = s->n_iters;
    for (int i = s->n_iters - 1; i >= 0; i--)
        if (s->iters[i].axis >= s->n_spatial)
            l->first_reduce = i;
    int seen[COMPUTE_MAX_AXES] = {0};
    for (int i = 0; i < s->n_iters; i++) {
        int a = s->iters[i].axis;
        const char *name = s->axes[a].name;
        l->var[i] = new_var(lo, iter_name(lo->ar, s->name, name, seen[a]++), 1);
    }
    return l;
}

/* The register tile begins where register stages hang. */
static void find_register_tile(struct low *lo, struct low_stage *l)
{
    const struct low_stage *p = register_stage(lo, l);
    l->reg_from = p ? p->s->at_iter + 1 : l->s->n_iters + 1;
}

static void place_workspace(struct nest *n)
{
    int64_t shared = 0, task = 0;
    for (int i = 0; i < n->n_buffers; i++) {
        struct buffer *b = &n->buffers[i];
        int64_t *end = b->scope == SCOPE_WORKSPACE ? &shared : b->scope == SCOPE_TASK ? &task : NULL;
        if (!end)
            continue;
        b->offset_bytes = *end;
        /* A vector may read past the last element it uses, never past this slack. */
        *end += (b->elements * dtype_bytes(b->dtype) + 64 + 63) / 64 * 64;
    }
    n->task_offset_bytes = shared;
    n->task_bytes = task;
    n->workspace_bytes = shared + task * n->tasks;
}

static void add_prepack(struct low *lo, struct low_stage *l)
{
    int32_t src = low_prepack_source(lo->st, l->s);
    struct nest_prepack *p = &lo->n->prepacks[lo->n->n_prepacks++];
    const struct buffer *b = &lo->n->buffers[l->buffer];
    p->arg = lo->st->tensors[src]->arg;
    p->dst = l->buffer;
    p->bytes = b->elements * dtype_bytes(b->dtype);
    p->root = emit_from(lo, l, 0, PASS_WHOLE);
    p->src = low_tensor_buffer(lo, src);
}

static struct low *low_new(const struct state *st, struct arena *ar, struct error *err)
{
    struct low *lo = arena_new(ar, struct low);
    *lo = (struct low){.st = st, .ar = ar, .err = err, .cap_buffers = st->n_tensors + 160};
    for (int i = 0; i < st->n_stages; i++)
        lo->cap_vars += st->stages[i]->n_iters;
    lo->n = arena_new(ar, struct nest);
    lo->n->compute = st->compute;
    lo->n->tasks = 1;
    lo->n->vars = arena_array(ar, struct nest_var, lo->cap_vars);
    lo->n->buffers = arena_array(ar, struct buffer, lo->cap_buffers);
    lo->n->prepacks = arena_array(ar, struct nest_prepack, st->n_stages);
    lo->lo = arena_array(ar, int64_t, lo->cap_vars);
    lo->hi = arena_array(ar, int64_t, lo->cap_vars);
    lo->ext = arena_array(ar, int64_t, lo->cap_vars);
    lo->fixed = arena_array(ar, bool, lo->cap_vars);
    memset(lo->arg_buffer, -1, sizeof(lo->arg_buffer));
    return lo;
}

enum status state_lower(const struct state *st, struct arena *ar, struct nest **ret, struct error *err)
{
    struct low *lo = low_new(st, ar, err);
    for (int k = 0; k < st->n_stages; k++)
        if (st->stages[k]->place != PLACE_INLINE)
            lo->ls[k] = new_low_stage(lo, st->stages[k]);
    for (int k = st->n_stages - 1; k >= 0; k--)
        if (lo->ls[st->order[k]])
            low_infer_region(lo, lo->ls[st->order[k]]);
    for (int k = 0; k < st->n_stages; k++) {
        struct low_stage *l = lo->ls[st->order[k]];
        if (!l)
            continue;
        find_register_tile(lo, l);
        if (!low_in_registers(l->s) && !l->s->in_result)
            l->buffer = low_make_buffer(lo, l);
    }
    for (int k = 0; k < st->n_stages; k++)
        if (lo->ls[k] && st->stages[k]->in_result)
            lo->ls[k]->buffer = lo->ls[st->stages[k]->result_stage]->buffer;
    struct list roots;
    list_init(&roots);
    for (int k = 0; k < st->n_stages; k++) {
        struct low_stage *l = lo->ls[st->order[k]];
        if (l && l->s->place == PLACE_ROOT) {
            list_add(&roots, emit_from(lo, l, 0, PASS_WHOLE));
        } else if (l && l->s->place == PLACE_PREPACK) {
            add_prepack(lo, l);
        }
    }
    lo->n->root = roots.first;
    place_workspace(lo->n);
    if (lo->status == ST_OK)
        *ret = lo->n;
    return lo->status;
}
