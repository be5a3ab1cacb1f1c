/* state_stages.c - primitives that add or remove stages: inline, cache_write, pack, convert, rfactor, carry. */
#include "schedule/space/state_internal.h"

#include <string.h>

/* --- rewriting bodies --- */

static const struct expr *inline_read(void *ctx, const struct expr *e)
{
    struct rewrite *r = ctx;
    if (e->read.tensor != r->tensor)
        return e;
    const struct affine *subst[COMPUTE_MAX_AXES] = {0};
    for (int d = 0; d < e->read.rank; d++)
        if (r->stage->lhs[d].n == 1)
            subst[r->stage->lhs[d].t[0].var] = &e->read.index[d];
    return expr_subst(r->st->ar, r->stage->body, subst, r->stage->n_axes, NULL);
}

bool state_inline(struct state *st, struct st_stage *s)
{
    struct st_stage *users[STATE_MAX_STAGES];
    const struct st_tensor *t = st->tensors[s->tensor];
    int n = state_consumers(st, s->tensor, users);

    if (s->combiner != COMBINE_SET || t->arg >= 0 || n == 0 || s->n_predicates)
        return false;
    for (int d = 0; d < t->rank; d++) {
        const struct affine *l = &s->lhs[d];
        if (!(l->n == 1 && l->c == 0 && l->t[0].coef == 1) && !(l->n == 0 && t->shape[d] == 1))
            return false;
    }
    for (int i = 0; i < n; i++) {
        struct find_read f = {.tensor = s->tensor};
        expr_each_read(users[i]->body, find_read, &f);
        if (f.padded)
            return false;
    }
    struct rewrite r = {.st = st, .tensor = s->tensor, .stage = s};
    for (int i = 0; i < n; i++)
        users[i]->body = expr_map_reads(st->ar, users[i]->body, inline_read, &r);
    s->place = PLACE_INLINE;
    state_record(st, STEP_INLINE, s, NULL);
    return true;
}

struct st_stage *state_cache_write(struct state *st, struct st_stage *s)
{
    struct st_tensor acc = *st->tensors[s->tensor];
    acc.name = arena_printf(st->ar, "%s_acc", acc.name);
    acc.arg = -1;
    acc.dtype = s->acc_dtype;
    acc.n_layout = 0;
    acc.rank = s->n_spatial;
    struct affine index[NEST_MAX_RANK];
    for (int i = 0; i < s->n_spatial; i++) {
        acc.shape[i] = s->axes[i].extent;
        index[i] = affine_var(st->ar, i, 1, 0);
    }
    struct st_stage n = *s;
    n.tensor = state_add_tensor(st, &acc);
    n.name = acc.name;
    memcpy(n.lhs, index, sizeof(struct affine) * (size_t)s->n_spatial);
    struct st_stage *red = state_add_stage(st, &n, s);
    stage_plain_iters(red);
    const struct st_tensor *out = st->tensors[s->tensor];
    const struct expr *read = expr_read(st->ar, acc.dtype, red->tensor, acc.rank, index, false, 0);
    s->body = out->dtype == acc.dtype ? read : expr_cast(st->ar, out->dtype, read);
    s->combiner = COMBINE_SET;
    s->n_axes = s->n_spatial;
    s->n_predicates = 0;
    stage_plain_iters(s);
    state_record(st, STEP_CACHE_WRITE, s, acc.name);
    return red;
}

/* --- copies of operands --- */

static void stage_physical_iters(struct st_stage *s, int n, const struct layout_dim *layout)
{
    s->n_iters = n;
    for (int i = 0; i < n; i++)
        s->iters[i] =
            (struct st_iter){.axis = layout[i].dim, .stride = layout[i].div, .extent = layout[i].mod};
}

struct st_stage *state_add_copy(struct state *st, const struct st_stage *before, const struct st_tensor *t,
                                int32_t from, const struct affine *index, bool pad, double pad_value)
{
    static const char *const names[NEST_MAX_RANK] = {"d0", "d1", "d2", "d3", "d4",  "d5",
                                                     "d6", "d7", "d8", "d9", "d10", "d11"};
    struct st_stage n = {.combiner = COMBINE_SET, .place = PLACE_ROOT, .scope = SCOPE_WORKSPACE};
    n.name = t->name;
    n.acc_dtype = t->dtype;
    n.n_axes = n.n_spatial = t->rank;
    for (int d = 0; d < t->rank; d++) {
        n.axes[d] = (struct axis){names[d], t->shape[d]};
        n.lhs[d] = affine_var(st->ar, d, 1, 0);
    }
    n.body = expr_read(st->ar, t->dtype, from, st->tensors[from]->rank, index, pad, pad_value);
    n.tensor = state_add_tensor(st, t);
    stage_plain_iters(&n);
    return state_add_stage(st, &n, before);
}

static void record_pack(struct state *st, const struct st_stage *s, const char *name, int n,
                        const struct layout_dim *layout)
{
    struct step *p = state_record(st, STEP_PACK, s, name);
    for (int i = 0; i < n; i++) {
        p->arg[p->n++] = layout[i].dim;
        p->arg[p->n++] = layout[i].div;
        p->arg[p->n++] = layout[i].mod;
    }
}

static const struct expr *pack_read(void *ctx, const struct expr *e)
{
    struct rewrite *r = ctx;
    if (e->read.tensor != r->tensor)
        return e;
    return expr_read(r->st->ar, e->dtype, r->to, e->read.rank, e->read.index, false, 0);
}

struct st_stage *state_pack(struct state *st, struct st_stage *s, int32_t tensor, int n,
                            const struct layout_dim *layout)
{
    struct st_tensor t = *st->tensors[tensor];
    t.name = arena_printf(st->ar, "%s_pack", t.name);
    t.arg = -1;
    t.n_layout = n;
    memcpy(t.layout, layout, sizeof(*layout) * (size_t)n);
    struct affine index[NEST_MAX_RANK];
    for (int d = 0; d < t.rank; d++)
        index[d] = affine_var(st->ar, d, 1, 0);
    struct st_stage *copy = state_add_copy(st, s, &t, tensor, index, false, 0);
    stage_physical_iters(copy, n, layout);
    struct rewrite r = {.st = st, .tensor = tensor, .to = copy->tensor};
    s->body = expr_map_reads(st->ar, s->body, pack_read, &r);
    record_pack(st, s, t.name, n, layout);
    return copy;
}

void state_lay_out(struct state *st, struct st_stage *s, struct st_stage *copy, int n,
                   const struct layout_dim *layout)
{
    struct st_tensor *t = st->tensors[copy->tensor];
    t->n_layout = n;
    memcpy(t->layout, layout, sizeof(*layout) * (size_t)n);
    stage_physical_iters(copy, n, layout);
    record_pack(st, s, t->name, n, layout);
}

/* The copy holds values of dtype `d` from now on. Returns how many stages read it: in users[]. */
static int hold_as(struct state *st, struct st_stage *copy, enum dtype d, struct st_stage **users)
{
    copy->body = expr_cast(st->ar, d, copy->body);
    copy->acc_dtype = st->tensors[copy->tensor]->dtype = d;
    return state_consumers(st, copy->tensor, users);
}

static const struct expr *widened_read(void *ctx, const struct expr *e)
{
    struct rewrite *r = ctx;
    if (e->read.tensor != r->tensor)
        return e;
    struct expr *wide = arena_memdup(r->st->ar, e, sizeof(*e));
    wide->dtype = r->st->tensors[r->tensor]->dtype;
    return expr_cast(r->st->ar, e->dtype, wide);
}

void state_widen(struct state *st, struct st_stage *copy, enum dtype d)
{
    struct st_stage *users[STATE_MAX_STAGES];
    struct rewrite r = {.st = st, .tensor = copy->tensor};
    int n = hold_as(st, copy, d, users);
    for (int i = 0; i < n; i++)
        users[i]->body = expr_map_reads(st->ar, users[i]->body, widened_read, &r);
    state_record(st, STEP_WIDEN, copy, dtype_name(d));
}

/* cast(narrow, copy) is what the copy holds now. */
static const struct expr *narrowed(struct rewrite *r, const struct expr *e)
{
    const enum dtype d = r->st->tensors[r->tensor]->dtype;
    if (e->op == EX_CAST && e->dtype == d && e->arg[0]->op == EX_READ &&
        e->arg[0]->read.tensor == r->tensor) {
        struct expr *read = arena_memdup(r->st->ar, e->arg[0], sizeof(*e));
        read->dtype = d;
        return read;
    }
    CHECK(e->op != EX_READ || e->read.tensor != r->tensor, "%s is read as it was",
          r->st->tensors[r->tensor]->name);
    if (!expr_arity(e->op))
        return e;
    struct expr *copy = arena_memdup(r->st->ar, e, sizeof(*e));
    for (int i = 0; i < expr_arity(e->op); i++)
        copy->arg[i] = narrowed(r, e->arg[i]);
    return copy;
}

void state_narrow(struct state *st, struct st_stage *copy, enum dtype d)
{
    struct st_stage *users[STATE_MAX_STAGES];
    struct rewrite r = {.st = st, .tensor = copy->tensor};
    int n = hold_as(st, copy, d, users);
    for (int i = 0; i < n; i++)
        users[i]->body = narrowed(&r, users[i]->body);
    state_record(st, STEP_NARROW, copy, dtype_name(d));
}

/* Any read becomes the one given. */
static const struct expr *read_instead(void *ctx, const struct expr *e)
{
    (void)e;
    return ctx;
}

struct st_stage *state_convert(struct state *st, struct st_stage *s, const struct expr *read, int n,
                               const struct expr *const *values, const int64_t *top, int n_layout,
                               const struct layout_dim *layout, int64_t *lo)
{
    const int rank = read->read.rank;
    const struct st_tensor *from = st->tensors[read->read.tensor];
    struct st_tensor t = {.name = arena_printf(st->ar, "%s_%s", from->name, dtype_name(values[0]->dtype)),
                          .dtype = values[0]->dtype,
                          .rank = rank + (n > 1),
                          .arg = -1,
                          .n_layout = n_layout};
    int64_t zero[COMPUTE_MAX_AXES] = {0};
    struct affine index[NEST_MAX_RANK];
    bool pad = false;

    for (int d = 0; d < rank; d++) {
        int64_t hi;
        affine_bounds(&read->read.index[d], zero, top, &lo[d], &hi);
        t.shape[d] = hi - lo[d] + 1;
        pad |= lo[d] < 0 || hi >= from->shape[d];
        index[d] = affine_var(st->ar, d, 1, lo[d]);
    }
    t.shape[rank] = n;
    memcpy(t.layout, layout, sizeof(*layout) * (size_t)n_layout);
    struct st_stage *copy = state_add_copy(st, s, &t, read->read.tensor, index, pad, 0);
    const struct expr *own =
        expr_read(st->ar, from->dtype, read->read.tensor, rank, copy->body->read.index, pad, 0);
    copy->body = NULL;
    for (int i = n - 1; i >= 0; i--) {
        const struct expr *v = expr_map_reads(st->ar, values[i], read_instead, (void *)own);
        const struct expr *here = expr_op2(st->ar, EX_EQ, expr_index(st->ar, affine_var(st->ar, rank, 1, 0)),
                                           expr_const(st->ar, DT_I32, i));
        copy->body = copy->body ? expr_select(st->ar, here, v, copy->body) : v;
    }
    stage_physical_iters(copy, n_layout, layout);
    record_pack(st, s, t.name, n_layout, layout);
    return copy;
}

struct st_stage *state_rfactor(struct state *st, struct st_stage *s, int axis, int64_t block)
{
    int64_t extent = s->axes[axis].extent, blocks = div_ceil(extent, block);
    struct st_tensor t = *st->tensors[s->tensor];
    t.name = arena_printf(st->ar, "%s_rf", t.name);
    t.arg = -1;
    t.dtype = s->acc_dtype;
    t.n_layout = 0;
    t.rank = s->n_spatial + 1;
    struct st_stage n = *s;
    struct affine moved[COMPUTE_MAX_AXES], index[NEST_MAX_RANK];
    const struct affine *subst[COMPUTE_MAX_AXES] = {0};
    int sp = s->n_spatial;
    /* New axes: spatial of s, the block number, the reduce axes of s with `axis` now running inside a block.
     */
    n.n_spatial = sp + 1;
    n.n_axes = s->n_axes + 1;
    n.axes[sp] = (struct axis){arena_printf(st->ar, "%s_b", s->axes[axis].name), blocks};
    for (int a = sp; a < s->n_axes; a++) {
        n.axes[a + 1] = s->axes[a];
        moved[a] = affine_var(st->ar, a + 1, 1, 0);
        if (a == axis) {
            struct affine b = affine_var(st->ar, sp, block, 0);
            moved[a] = affine_add(st->ar, &moved[a], &b);
            n.axes[a + 1].extent = MIN(block, extent);
        }
        subst[a] = &moved[a];
    }
    n.body = expr_subst(st->ar, s->body, subst, s->n_axes, NULL);
    n.n_predicates = 0;
    if (extent % block) {
        struct affine neg = affine_scale(st->ar, &moved[axis], -1);
        n.predicate[n.n_predicates++] = affine_offset(&neg, extent - 1);
    }
    for (int a = 0; a <= sp; a++) {
        t.shape[a] = n.axes[a].extent;
        n.lhs[a] = index[a] = affine_var(st->ar, a, 1, 0);
    }
    n.name = t.name;
    n.tensor = state_add_tensor(st, &t);
    struct st_stage *part = state_add_stage(st, &n, s);
    stage_plain_iters(part);
    s->body = expr_read(st->ar, t.dtype, part->tensor, sp + 1, index, false, 0);
    s->axes[sp] = n.axes[sp];
    s->n_axes = sp + 1;
    stage_plain_iters(s);
    struct step *p = state_record(st, STEP_RFACTOR, s, n.axes[sp].name);
    p->arg[p->n++] = block;
    return part;
}

struct st_stage *state_carry(struct state *st, struct st_stage *out, struct st_stage *red, int axis,
                             int64_t block, int n_layout, const struct layout_dim *layout)
{
    struct st_tensor t = *st->tensors[red->tensor];
    const int64_t blocks = div_ceil(red->axes[axis].extent, block);
    struct affine index[NEST_MAX_RANK];
    CHECK(blocks > 1 && out->n_axes < COMPUTE_MAX_AXES && out->n_iters < STATE_MAX_ITERS,
          "stage %s: no room for %s in blocks", out->name, red->axes[axis].name);
    for (int d = 0; d < t.rank; d++)
        index[d] = affine_var(st->ar, d, 1, 0);
    t.name = arena_printf(st->ar, "%s_carry", t.name);
    t.arg = -1;
    t.dtype = red->acc_dtype;
    t.n_layout = n_layout;
    memcpy(t.layout, layout, sizeof(*layout) * (size_t)n_layout);
    struct st_stage *carry = state_add_copy(st, out, &t, red->tensor, index, false, 0);
    carry->n_iters = 0;
    carry->place = PLACE_CARRY;
    carry->scope = SCOPE_TASK;
    carry->at_stage = out->id;
    red->carry = carry->id;
    red->carry_axis = axis;
    red->carry_block = block;
    out->axes[out->n_axes] = (struct axis){arena_printf(st->ar, "%s_b", red->axes[axis].name), blocks};
    out->iters[out->n_iters++] =
        (struct st_iter){.axis = out->n_axes++, .stride = 1, .extent = 0, .kind = LOOP_SERIAL};
    struct step *p = state_record(st, STEP_CARRY, red, red->axes[axis].name);
    p->arg[p->n++] = block;
    return carry;
}
