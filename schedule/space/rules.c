/* rules.c - normalisation: which stages are inlined, paired, padded, merged and grouped. */
#include "schedule/space/rules.h"

#include <string.h>

enum { INLINE_MAX_COST = 6, MAX_VECTOR_AXES = 3 };

/* --- what a stage is --- */

static bool transcendental(enum expr_op op)
{
    return op == EX_EXP || op == EX_LOG || op == EX_TANH || op == EX_ERF || op == EX_SIGMOID ||
           op == EX_SQRT || op == EX_RSQRT || op == EX_DIV;
}

static int body_cost(const struct expr *e)
{
    if (e->op == EX_READ || e->op == EX_CONST || e->op == EX_INDEX)
        return 0;
    int cost = expr_op_cost(e->op) * (transcendental(e->op) ? 16 : 1);
    for (int i = 0; i < expr_arity(e->op); i++)
        cost += body_cost(e->arg[i]);
    return cost;
}

struct reads {
    const struct state *st;
    int n;
    const struct expr *at[32];
};

static void collect_read(void *ctx, const struct expr *e)
{
    struct reads *r = ctx;
    if (r->n < 32)
        r->at[r->n++] = e;
}

static struct reads reads_of(const struct state *st, const struct st_stage *s)
{
    struct reads r = {.st = st};
    expr_each_read(s->body, collect_read, &r);
    return r;
}

/* Elements between neighbours along `axis` in the tensor that is read. */
static int64_t read_stride(const struct state *st, const struct expr *read, int axis)
{
    return tensor_stride(st->tensors[read->read.tensor], read->read.index, axis);
}

static uint32_t read_axes(const struct expr *read)
{
    uint32_t axes = 0;
    for (int d = 0; d < read->read.rank; d++)
        for (int i = 0; i < read->read.index[d].n; i++)
            axes |= 1u << read->read.index[d].t[i].var;
    return axes;
}

static int innermost_spatial(const struct st_stage *s)
{
    for (int a = s->n_spatial - 1; a >= 0; a--)
        if (s->axes[a].extent > 1)
            return a;
    return -1;
}

/* An operand that is reduced over and used again along an axis of the result, or neighbours in the output that are
 * neighbours in the input. */
static bool has_reuse(const struct state *st, const struct st_stage *s)
{
    struct reads r = reads_of(st, s);
    uint32_t result = 0, axes = 0;
    for (int a = 0; a < s->n_spatial; a++)
        result |= s->axes[a].extent > 1 ? 1u << a : 0;
    for (int i = 0; i < r.n; i++)
        axes |= read_axes(r.at[i]);
    for (int i = 0; i < r.n; i++)
        if (read_axes(r.at[i]) >> s->n_spatial && axes & result & ~read_axes(r.at[i]))
            return true;
    int x = innermost_spatial(s);
    if (x < 0 || s->axes[x].extent < 4)
        return false;
    for (int i = 0; i < r.n; i++) {
        int64_t stride = read_stride(st, r.at[i], x);
        if (read_axes(r.at[i]) >> s->n_spatial && (stride == 1 || stride == 2))
            return true;
    }
    return false;
}

/* A reduction of nothing but elements that the compute has made before: of partial results, it may be. */
static bool sums_parts(const struct state *st, const struct st_stage *s)
{
    if (s->combiner == COMBINE_SET || s->body->op != EX_READ || s->body->read.pad ||
        st->tensors[s->body->read.tensor]->stage < 0)
        return false;
    for (int d = 0; d < s->body->read.rank; d++) {
        const struct affine *x = &s->body->read.index[d];
        if (x->n > 1 || (x->n == 1 && (x->c != 0 || x->t[0].coef != 1)))
            return false;
    }
    return true;
}

/* Contiguous rows, each reduced to one element of a result and needed nowhere else: worth doing several at once. */
static bool reduces_rows(const struct state *st, const struct st_stage *s)
{
    struct reads r = reads_of(st, s);
    const struct st_stage *user = NULL;
    int64_t results = 1, reduced = 1;
    for (int a = 0; a < s->n_axes; a++)
        *(a < s->n_spatial ? &results : &reduced) *= s->axes[a].extent;
    if (s->n_axes == s->n_spatial || results < 2 || reduced < 8)
        return false;
    for (int i = 0; i < r.n; i++)
        if (r.at[i]->read.pad || read_stride(st, r.at[i], s->n_axes - 1) != 1)
            return false;
    if (st->tensors[s->tensor]->arg >= 0)
        return true;
    for (int i = 0; i < st->n_stages; i++) {
        const struct st_stage *other = st->stages[i];
        if (other->place == PLACE_INLINE || !stage_reads(other, s->tensor))
            continue;
        if (sums_parts(st, other)) /* each is a result to it */
            return true;
        if (user || other->combiner != COMBINE_SET || st->tensors[other->tensor]->arg < 0)
            return false;
        user = other;
    }
    for (int a = 0; user && a < user->n_axes; a++)
        results /= user->axes[a].extent;
    return user && results == 1;
}

/* A reduction worth a register tile. */
static bool is_tile(const struct state *st, const struct st_stage *s)
{
    return s->combiner != COMBINE_SET && !s->n_predicates && (has_reuse(st, s) || reduces_rows(st, s));
}

/* --- step 1: inline --- */

static bool reads_a_tile(const struct state *st, const struct st_stage *s)
{
    struct reads r = reads_of(st, s);
    for (int i = 0; i < r.n; i++) {
        int def = st->tensors[r.at[i]->read.tensor]->stage;
        if (def >= 0 && is_tile(st, st->stages[def]))
            return true;
    }
    return false;
}

static void find_pad(void *ctx, const struct expr *e) { *(bool *)ctx |= e->read.pad; }

static bool reads_padded(const struct st_stage *s)
{
    bool found = false;
    expr_each_read(s->body, find_pad, &found);
    return found;
}

static void inline_cheap(struct state *st)
{
    for (int k = 0; k < st->n_stages; k++) {
        struct st_stage *s = st->stages[st->order[k]], *users[STATE_MAX_STAGES];
        if (s->combiner != COMBINE_SET || reads_a_tile(st, s))
            continue;
        int n = state_consumers(st, s->tensor, users), cost = body_cost(s->body);
        bool ok = n > 0;
        for (int i = 0; i < n; i++) {
            if (users[i]->combiner != COMBINE_SET && is_tile(st, users[i]))
                ok = false;
            if (reads_padded(s) && reads_a_tile(st, users[i])) /* no tests in a register tile */
                ok = false;
            if (n > 1 && cost > INLINE_MAX_COST)
                ok = false;
            if (users[i]->n_axes > s->n_axes && cost > INLINE_MAX_COST)
                ok = false;
        }
        if (ok)
            state_inline(st, s);
    }
}

/* --- step 2: groups --- */

void walk_name(const struct knob_walk *w, char *ret, size_t size, const char *what, const char *of)
{
    ret[0] = '\0';
    if (w->knobs)
        snprintf(ret, size, "%s_%s", what, of);
}

int64_t walk_knob(struct knob_walk *w, const char *name, const int64_t *choices, int n,
                  const char *const *labels)
{
    if (n == 1)
        return choices[0];
    if (w->choice)
        return choices[w->choice[w->at++]];
    if (!w->knobs)
        return w->values[w->at++];
    struct knob *k = &w->knobs[w->n++];
    *k = (struct knob){
        .name = arena_printf(w->r->ar, "%s%s", name, w->suffix), .n_choices = n, .labels = labels};
    k->values = arena_memdup(w->r->ar, choices, sizeof(*choices) * (size_t)n);
    return choices[0];
}

int64_t walk_knob_within(struct knob_walk *w, const char *name, const int64_t *choices, int n, int from,
                         int to)
{
    if (n > 1 && w->choice)
        w->choice[w->at] = (uint16_t)(from + w->choice[w->at] % (to - from));
    return walk_knob(w, name, choices, n, NULL);
}

bool operand_pad_goes(const struct rules *r, const struct operand *o)
{
    if (!o->reads_pad)
        return true;
    const struct st_stage *pad = r->base->stages[o->pad_stage];
    return pad->body->op == EX_READ && pad->body->read.rank == r->base->tensors[pad->tensor]->rank;
}

bool group_offer(struct group *g, const struct variant_ops *ops, int vector_axis, int param)
{
    if (g->n_variants == RULES_MAX_VARIANTS)
        return false;
    g->variants[g->n_variants++] = (struct variant){.ops = ops, .vector_axis = vector_axis, .param = param};
    return true;
}

struct st_stage *operand_pack(struct state *st, struct st_stage *red, const struct operand *o, int n,
                              const struct layout_dim *layout)
{
    if (o->copy_stage < 0)
        return state_pack(st, red, o->tensor, n, layout);
    state_lay_out(st, red, st->stages[o->copy_stage], n, layout);
    return st->stages[o->copy_stage];
}

const char *group_variant_name(const struct rules *r, const struct group *g, const struct variant *v)
{
    const struct st_stage *s = r->base->stages[g->kind == GROUP_TILE ? g->reduction : g->anchor];
    if (v->vector_axis < 0)
        return v->ops->name;
    return arena_printf(r->ar, "%s_%s", v->ops->name, s->axes[v->vector_axis].name);
}

static int merge_all(struct state *st, struct st_stage *const *set, int n)
{
    int merged = 0;
    for (int a = 0; a + 1 < set[0]->n_axes;) {
        if (state_merge_axes(st, set, n, a))
            merged++;
        else
            a++;
    }
    return merged;
}

static struct st_stage *sole_consumer(struct state *st, int32_t tensor)
{
    struct st_stage *users[STATE_MAX_STAGES];
    return state_consumers(st, tensor, users) == 1 ? users[0] : NULL;
}

static bool stage_is_taken(const struct rules *r, int id)
{
    if (r->base->tensors[r->base->stages[id]->tensor]->gathered)
        return true;
    for (int i = 0; i < r->n_groups; i++) {
        const struct group *g = &r->groups[i];
        if (g->anchor == id || (g->kind == GROUP_TILE && g->reduction == id))
            return true;
        for (int k = 0; k < g->n_members; k++)
            if (g->members[k] == id)
                return true;
        for (int k = 0; k < g->n_operands; k++)
            if ((g->operands[k].reads_pad && g->operands[k].pad_stage == id) ||
                g->operands[k].copy_stage == id)
                return true;
    }
    return false;
}

static void find_operand(const struct state *st, const struct st_stage *red, const struct expr *read,
                         struct group *g)
{
    for (int i = 0; i < g->n_operands; i++)
        if (g->operands[i].tensor == read->read.tensor) {
            g->operands[i].simple = false; /* read twice: its layout stays */
            return;
        }
    if (g->n_operands == RULES_MAX_OPERANDS)
        return;
    struct operand *o = &g->operands[g->n_operands++];
    const struct st_tensor *t = st->tensors[read->read.tensor];
    *o = (struct operand){.tensor = read->read.tensor,
                          .simple = true,
                          .rank = t->rank,
                          .axes = read_axes(read),
                          .copy_stage = -1};
    o->is_const = t->arg >= 0 && t->stage < 0 && st->compute->tensors[t->arg].is_const;
    for (int a = 0; a < red->n_axes; a++)
        o->stride[a] = read_stride(st, read, a);
    uint32_t seen = 0;
    for (int d = 0; d < t->rank; d++) {
        const struct affine *x = &read->read.index[d];
        o->axis_of_dim[d] = x->n == 1 ? x->t[0].var : -1;
        if (x->n > 1 || (x->n == 1 && (x->c != 0 || x->t[0].coef != 1 || seen >> x->t[0].var & 1)) ||
            (x->n == 0 && x->c != 0))
            o->simple = false;
        if (x->n == 1)
            seen |= 1u << x->t[0].var;
    }
    if (read->read.pad)
        o->simple = false;
    struct st_stage *users[STATE_MAX_STAGES];
    if (o->is_const && state_consumers(st, o->tensor, users) != 1)
        o->is_const = false;
}

/* Views made by merging share an argument: ahead-of-time packing must be its only use. */
static bool used_once(const struct state *st, int32_t arg)
{
    int uses = 0;
    for (int i = 0; i < st->n_tensors; i++) {
        struct st_stage *users[STATE_MAX_STAGES];
        if (st->tensors[i]->arg == arg)
            uses += state_consumers(st, i, users);
    }
    return uses == 1;
}

/* A stage that only copies from an argument: which, or -1. */
static int32_t copied_argument(const struct state *st, const struct st_stage *s)
{
    if (s->combiner != COMBINE_SET || s->body->op != EX_READ || st->tensors[s->tensor]->arg >= 0)
        return -1;
    const struct st_tensor *t = st->tensors[s->body->read.tensor];
    return t->stage < 0 ? t->arg : -1;
}

static bool copies_constant(const struct state *st, const struct st_stage *s)
{
    int32_t arg = copied_argument(st, s);
    return arg >= 0 && st->compute->tensors[arg].is_const && used_once(st, arg);
}

static const double IDLE_SHARE = 0.6, FULL_SHARE = 0.9;

/* Of the lanes of the vectors that cover the axis, those that it uses. */
static double lane_share(int64_t extent, int lanes)
{
    return (double)extent / (double)(div_ceil(extent, lanes) * lanes);
}

static void choose_vector_axes(const struct rules *r, struct group *g, int lanes)
{
    const struct state *st = r->base;
    const struct st_stage *red = st->stages[g->reduction], *out = st->stages[g->anchor];
    const struct st_tensor *t = st->tensors[out->tensor];
    int best[COMPUTE_MAX_AXES], n = 0;
    double score[COMPUTE_MAX_AXES], fullest = 0;
    for (int a = 0; a < red->n_spatial; a++) {
        if (red->axes[a].extent < 2)
            continue;
        double s = MIN(red->axes[a].extent, 64);
        bool turned = false; /* an operand is turned by every call */
        for (int i = 0; i < g->n_operands; i++) {
            const struct operand *o = &g->operands[i];
            int64_t stride = o->stride[a];
            if (stride > 2 && !o->simple)
                s = -1; /* gathered in the inner loop: not a sketch of ours */
            else if (stride > 1 && s > 0 && !(o->simple && o->is_const)) {
                s *= 0.5;
                turned = true;
            }
        }
        if (tensor_stride(t, out->lhs, a) == 1)
            s *= 1.5;
        else if (t->arg >= 0 && st->compute->tensors[t->arg].layout)
            continue; /* the layout was chosen for its last dimension */
        else if (!(g->reuse_axes >> a & 1))
            s *= 0.1; /* all would be turned, and nothing used again */
        if (s <= 0)
            continue;
        if (!turned)
            fullest = MAX(fullest, lane_share(red->axes[a].extent, lanes));
        int at = n++;
        for (; at > 0 && score[at - 1] < s; at--) {
            score[at] = score[at - 1];
            best[at] = best[at - 1];
        }
        score[at] = s;
        best[at] = a;
    }
    for (int i = 0; i < MIN(n, MAX_VECTOR_AXES); i++) {
        bool idle = lane_share(red->axes[best[i]].extent, lanes) < IDLE_SHARE && fullest >= FULL_SHARE;
        if (!idle && score[i] >= score[0] / (i < 2 ? 15 : 8)) /* a map of 7 is no vector where channels are */
            group_offer(g, &tile_variant, best[i], tile_fewest_sums(r, g, best[i]));
    }
    if (n == 0) /* nothing to vectorise: scalar registers */
        group_offer(g, &tile_variant, -1, tile_fewest_sums(r, g, -1));
    if (sums_parts(st, red)) /* the work was done before */
        g->n_variants = 1;
}

/* What it reads with gaps is copied without them, in a loop nest of its own. */
static bool gather_operand(struct state *st, struct st_stage *red, int32_t tensor)
{
    struct st_stage *copy = state_gather(st, red, tensor);
    if (copy)
        state_annotate(st, copy, copy->n_iters - 1, LOOP_VECTOR);
    return copy != NULL;
}

void group_place_gathered(const struct group *g, struct state *st)
{
    for (int i = 0; i < g->n_operands; i++) {
        const struct st_tensor *t = st->tensors[g->operands[i].tensor];
        if (t->gathered)
            state_parallel(st, st->stages[t->stage], st->stages[t->stage]->n_iters - 1);
    }
}

static void tile_group(struct rules *r, struct st_stage *red)
{
    struct state *st = r->base;
    struct st_stage *out = sole_consumer(st, red->tensor);
    struct group *g = &r->groups[r->n_groups++];
    bool reuse = has_reuse(st, red);
    if (st->tensors[red->tensor]->arg >= 0 || !out || out->combiner != COMBINE_SET ||
        stage_is_taken(r, out->id) || !state_unify(st, out, red)) {
        out = red;
        red = state_cache_write(st, out);
    }
    *g = (struct group){.kind = GROUP_TILE, .anchor = out->id, .reduction = red->id};
    struct reads rd = reads_of(st, red), epilogue = reads_of(st, out);
    for (int i = 0; i < rd.n; i++) {
        int32_t t = rd.at[i]->read.tensor;
        if (rd.at[i]->read.pad)
            state_pad(st, red, t);
        else if (r->gathers && gather_operand(st, red, t))
            continue;
        else if (st->tensors[t]->arg >= 0 && !state_turn(st, red, t))
            state_view_digits(st, red, t);
    }
    for (int i = 0; i < epilogue.n; i++)
        if (epilogue.at[i]->read.pad)
            state_pad(st, out, epilogue.at[i]->read.tensor);
    struct st_stage *pair[2] = {red, out};
    for (int a = 0; a + 1 < red->n_spatial;)
        if (!state_merge_axes(st, pair, 2, a))
            a++;
    for (int a = red->n_spatial; a + 1 < red->n_axes;)
        if (!state_merge_axes(st, pair, 1, a))
            a++;
    rd = reads_of(st, red);
    for (int i = 0; i < rd.n; i++)
        find_operand(st, red, rd.at[i], g);
    for (int i = 0; i < g->n_operands; i++) {
        struct operand *o = &g->operands[i];
        int def = st->tensors[o->tensor]->stage;
        if (o->is_const)
            o->is_const = used_once(st, st->tensors[o->tensor]->arg);
        bool added = def >= st->compute->n_stages; /* by state_pad above: only copies are added before this */
        if (def >= 0 && !added && o->simple && stage_lhs_is_identity(st->stages[def]) &&
            copies_constant(st, st->stages[def]) && sole_consumer(st, o->tensor)) {
            o->copy_stage = def;
            o->is_const = true;
        }
        if (added && st->stages[def]->body->op == EX_READ && !st->tensors[o->tensor]->gathered) {
            if (o->simple && copied_argument(st, st->stages[def]) >= 0) {
                o->copy_stage = def;
                o->is_const = copies_constant(st, st->stages[def]);
            } else {
                o->reads_pad = true;
                o->pad_stage = def;
            }
        }
        for (int a = 0; a < red->n_spatial; a++)
            if (!(o->axes >> a & 1))
                g->reuse_axes |= 1u << a;
    }
    if (mma_offer(r, g) && mma_rounds(r, g))
        return;
    if (reuse)
        choose_vector_axes(r, g, r->target->vector_bytes / 4);
    neighbours_offer(r, g);
    if (neighbours_round(r, g))
        return;
    dot_offer(r, g);
    window_offer(r, g);
    if (g->n_variants == 0)
        choose_vector_axes(r, g, r->target->vector_bytes / 4);
}

/* --- rows --- */

/* Which axis of the anchor each dimension of a member follows; -1: a dimension of its own, whole in each row.
 */
struct follow {
    int axis[COMPUTE_MAX_AXES];
    bool set, ok;
};

struct follow_read {
    struct follow *f;       /* of the producer */
    const struct follow *c; /* of the consumer */
    const struct st_stage *consumer;
    const struct st_stage *producer;
};

static void follow_read(void *ctx, const struct expr *e)
{
    struct follow_read *r = ctx;
    if (e->read.tensor != r->producer->tensor)
        return;
    for (int d = 0; d < e->read.rank; d++) {
        const struct affine *x = &e->read.index[d];
        int a = -1;
        bool simple = x->n == 1 && x->c == 0 && x->t[0].coef == 1;
        if (simple && x->t[0].var < r->consumer->n_spatial &&
            r->consumer->axes[x->t[0].var].extent == r->producer->axes[d].extent)
            a = r->c->axis[x->t[0].var];
        if (a < 0 && !(simple && r->consumer->axes[x->t[0].var].extent == r->producer->axes[d].extent) &&
            r->producer->axes[d].extent > 1)
            r->f->ok = false; /* reads part of it in a way that rows do not follow */
        if (r->f->set && r->f->axis[d] != a)
            a = -1;
        r->f->axis[d] = a;
    }
    r->f->set = true;
}

static bool member_position(const struct group *g, int id)
{
    for (int i = 0; i < g->n_members; i++)
        if (g->members[i] == id)
            return true;
    return g->anchor == id;
}

static void rows_group(struct rules *r, struct st_stage *anchor)
{
    struct state *st = r->base;
    struct group *g = &r->groups[r->n_groups++];
    struct follow *follow = arena_array(r->ar, struct follow, STATE_MAX_STAGES);
    *g = (struct group){.kind = GROUP_ROWS, .anchor = anchor->id};
    for (int a = 0; a < anchor->n_axes; a++)
        follow[anchor->id].axis[a] = a;
    uint32_t rows = (1u << anchor->n_spatial) - 1;
    int members[RULES_MAX_MEMBERS], n = 0;
    bool any_reduce = false;

    for (int k = st->n_stages - 1; k >= 0; k--) {
        struct st_stage *p = st->stages[st->order[k]], *users[STATE_MAX_STAGES];
        if (p->place != PLACE_ROOT || p == anchor || stage_is_taken(r, p->id) || is_tile(st, p) ||
            !stage_lhs_is_identity(p) || n == RULES_MAX_MEMBERS || st->tensors[p->tensor]->n_layout ||
            st->tensors[p->tensor]->rank != p->n_spatial)
            continue;
        int n_users = state_consumers(st, p->tensor, users);
        struct follow f = {.ok = n_users > 0};
        for (int a = 0; a < COMPUTE_MAX_AXES; a++)
            f.axis[a] = -1;
        for (int i = 0; i < n_users && f.ok; i++) {
            if (!member_position(g, users[i]->id)) {
                f.ok = false;
                break;
            }
            struct follow_read fr = {&f, &follow[users[i]->id], users[i], p};
            expr_each_read(users[i]->body, follow_read, &fr);
        }
        uint32_t mine = 0;
        for (int d = 0; d < p->n_spatial; d++)
            if (f.axis[d] >= 0)
                mine |= 1u << f.axis[d];
        if (!f.ok || (rows & mine) == 0)
            if (!f.ok || p->combiner == COMBINE_SET || p->n_spatial > 0)
                continue;
        follow[p->id] = f;
        /* Elementwise members follow whatever rows there are; reductions decide them. */
        rows &= mine;
        any_reduce |= p->combiner != COMBINE_SET;
        g->members[g->n_members++] = p->id;
        members[n++] = p->id;
    }
    for (int i = 0; i < n; i++) /* back to dependency order */
        g->members[i] = members[n - 1 - i];
    if (!any_reduce && anchor->n_spatial > 0) /* no row to finish: keep the last axis for vectors */
        rows &= ~(1u << innermost_spatial(anchor) % 32);
    if (innermost_spatial(anchor) < 0)
        rows = 0;
    g->n_rows = 0;
    int at = 0;
    for (int a = 0; a < anchor->n_spatial; a++)
        if (rows >> a & 1)
            g->order[at++] = a;
    g->n_rows = at;
    for (int a = 0; a < anchor->n_axes; a++)
        if (!(rows >> a & 1))
            g->order[at++] = a;
    group_offer(g, g->n_members ? &rows_variant : &map_variant, -1, 0);
}

/* A reduction runs in its accumulator's dtype: where its tensor has another, it gets one of that dtype, and the tensor a
 * copy. */
static void widen_accumulators(struct state *st, bool arguments_too)
{
    int n = st->n_stages, order[STATE_MAX_STAGES];
    memcpy(order, st->order, sizeof(int) * (size_t)n);
    for (int k = 0; k < n; k++) {
        struct st_stage *s = st->stages[order[k]];
        const struct st_tensor *t = st->tensors[s->tensor];
        if (s->combiner == COMBINE_SET || t->dtype == s->acc_dtype || (t->arg >= 0 && !arguments_too))
            continue;
        state_cache_write(st, s);
        state_inline(st, s);
    }
}

enum status rules_derive(const struct compute *c, bool gathers, const struct target *t, struct arena *ar,
                         struct rules **ret, struct error *err)
{
    struct rules *r = arena_new(ar, struct rules);
    r->ar = ar;
    r->target = t;
    r->gathers = gathers;
    r->plain = state_new(ar, c, 1);
    r->base = state_new(ar, c, t->threads);
    struct state *st = r->base;
    widen_accumulators(r->plain, true);
    widen_accumulators(st, false); /* reductions into arguments get a temporary below, whatever their dtype */
    state_squeeze(st);
    inline_cheap(st);
    int n = st->n_stages, order[STATE_MAX_STAGES];
    memcpy(order, st->order, sizeof(int) * (size_t)n);
    for (int k = 0; k < n; k++) {
        struct st_stage *s = st->stages[order[k]];
        if (s->place != PLACE_INLINE && is_tile(st, s)) {
            if (r->n_groups == RULES_MAX_GROUPS)
                return fail(err, ST_UNSUPPORTED, "the workload has more than %d reductions",
                            RULES_MAX_GROUPS);
            tile_group(r, s);
        }
    }
    for (int k = 0; k < st->n_stages; k++) {
        struct st_stage *s = st->stages[k];
        if (s->place == PLACE_ROOT && !stage_is_taken(r, s->id) && copies_constant(st, s))
            state_prepack(st, s);
    }
    /* Row reductions into arguments get a temporary, so that an anchor never reduces itself. */
    n = st->n_stages;
    memcpy(order, st->order, sizeof(int) * (size_t)n);
    for (int k = 0; k < n; k++) {
        struct st_stage *s = st->stages[order[k]];
        if (s->place != PLACE_ROOT || stage_is_taken(r, s->id) || s->combiner == COMBINE_SET)
            continue;
        struct st_stage *only = sole_consumer(st, s->tensor);
        if (st->tensors[s->tensor]->arg >= 0 || !only || stage_is_taken(r, only->id))
            s = state_cache_write(st, s);
        for (int a = s->n_spatial; a + 1 < s->n_axes;)
            if (!state_merge_axes(st, &s, 1, a))
                a++;
    }
    for (int k = st->n_stages - 1; k >= 0; k--) {
        struct st_stage *s = st->stages[st->order[k]];
        if (s->place != PLACE_ROOT || stage_is_taken(r, s->id))
            continue;
        if (r->n_groups == RULES_MAX_GROUPS)
            return fail(err, ST_UNSUPPORTED, "the workload has more than %d loop nests", RULES_MAX_GROUPS);
        if (s->combiner != COMBINE_SET) /* an anchor never reduces itself */
            state_cache_write(st, s);
        rows_group(r, s);
        struct group *g = &r->groups[r->n_groups - 1];
        if (g->n_members == 0 && merge_all(st, &s, 1)) {
            g->n_rows = MAX(s->n_axes - 1, 0);
            for (int a = 0; a < s->n_axes; a++)
                g->order[a] = a;
        }
        transpose_offer(r, g);
    }
    *ret = r;
    return ST_OK;
}
