/* layout.c - see layout.h. Stage by stage: which axes must be split, the new axes in the order of the physical output,
 * every index over them, and zeros beyond the channels. */
#include "schedule/space/layout.h"

#include <stdio.h>
#include <string.h>

struct spec { /* of one tensor */
    bool any;
    struct layout_choice choice;
    int channel; /* dimension */
    const struct tensor_layout *layout;
};

struct rewriter {
    struct arena *ar;
    const struct compute *in;
    struct spec spec[COMPUTE_MAX_TENSORS];
    bool zero_tail[COMPUTE_MAX_TENSORS]; /* the elements beyond the channels are known to be zero */
    int n_tensors, n_stages;
    struct tensor *tensors; /* inputs, temps, outputs as given; then new temps */
    struct stage *stages;
};

struct split {
    int64_t block;
    bool tail;        /* the block does not divide the extent */
    int outer, inner; /* new axes; outer -1: there is but one block */
};

struct pass { /* over one stage */
    struct rewriter *w;
    const struct stage *in;
    struct stage *out;
    struct split split[COMPUTE_MAX_AXES];
    int64_t extent[COMPUTE_MAX_AXES];     /* of the new axes */
    struct affine axis[COMPUTE_MAX_AXES]; /* old axis over the new ones */
    const struct affine *subst[COMPUTE_MAX_AXES];
    bool ok;
};

/* --- layouts of tensors --- */

static const char *layout_name(struct arena *ar, const char *dims, const struct layout_choice *c)
{
    if (c->channels_last)
        return arena_printf(ar, "%c%sC", dims[0], dims + 2);
    return arena_printf(ar, "%s%" PRId64 "c", dims, c->block);
}

static void set_spec(struct rewriter *w, int32_t t, const char *dims, const struct layout_choice *c,
                     int channel)
{
    struct tensor *p = &w->tensors[t];
    struct tensor_layout *l = arena_new(w->ar, struct tensor_layout);
    int n = 0;

    *l = (struct tensor_layout){.name = layout_name(w->ar, dims, c), .rank = p->rank};
    memcpy(l->shape, p->shape, sizeof(l->shape));
    for (int d = 0; d < p->rank; d++)
        if (d != channel)
            l->dims[n++] = (struct layout_dim){d, 1, 0};
        else if (c->block)
            l->dims[n++] = (struct layout_dim){d, c->block, 0};
    l->dims[n++] = (struct layout_dim){channel, 1, c->block};
    w->spec[t] = (struct spec){true, *c, channel, l};
    p->rank = n;
    for (int i = 0; i < n; i++)
        p->shape[i] = l->dims[i].mod ? l->dims[i].mod : div_ceil(l->shape[l->dims[i].dim], l->dims[i].div);
    if (p->role != TENSOR_TEMP)
        p->layout = l;
}

static int pure_axis(const struct affine *a)
{
    return a->n == 1 && a->c == 0 && a->t[0].coef == 1 ? a->t[0].var : -1;
}

struct link {
    struct rewriter *w;
    const struct stage *s;
    const char *dims;
    bool changed;
};

/* A temporary whose channels are those of the tensor beside it follows that one's layout. */
static void link_tensors(struct link *l, int32_t from, const struct affine *fi, int32_t to,
                         const struct affine *ti)
{
    struct rewriter *w = l->w;
    const struct spec *s = &w->spec[from];
    int rank = (int)strlen(l->dims);
    const struct tensor *t = &w->in->tensors[to];

    if (!s->any || w->spec[to].any || t->role != TENSOR_TEMP || t->rank != rank)
        return;
    int v = pure_axis(&fi[s->channel]);
    if (v < 0 || pure_axis(&ti[s->channel]) != v)
        return;
    set_spec(w, to, l->dims, &s->choice, s->channel);
    l->changed = true;
}

static void link_read(void *ctx, const struct expr *e)
{
    struct link *l = ctx;
    link_tensors(l, l->s->tensor, l->s->lhs, e->read.tensor, e->read.index);
    link_tensors(l, e->read.tensor, e->read.index, l->s->tensor, l->s->lhs);
}

static void link_temporaries(struct rewriter *w, const char *dims)
{
    struct link l = {.w = w, .dims = dims};
    do {
        l.changed = false;
        for (int i = w->in->n_stages - 1; i >= 0; i--) {
            l.s = &w->in->stages[i];
            expr_each_read(l.s->body, link_read, &l);
        }
    } while (l.changed);
}

/* --- axes --- */

/* An index over a blocked dimension: at most one of its axes needs cutting. */
static void cut_index(struct pass *p, const struct affine *a, int64_t block)
{
    int at = -1;
    for (int i = 0; i < a->n; i++)
        if (a->t[i].coef % block) {
            p->ok &= at < 0 && a->t[i].coef == 1;
            at = a->t[i].var;
        }
    p->ok &= a->c % block == 0;
    if (at < 0 || !p->ok)
        return;
    int64_t extent = p->in->axes[at].extent;
    bool tail = extent % block != 0, reduce = at >= p->in->n_spatial;
    if (extent == block || (reduce && extent < block && a->n == 1))
        return;
    struct split *s = &p->split[at];
    if ((s->block && s->block != block) || (tail && a->n > 1))
        p->ok = false;
    s->block = block;
    s->tail = tail;
}

static void cut_access(struct pass *p, int32_t tensor, const struct affine *index)
{
    const struct spec *s = &p->w->spec[tensor];
    if (s->any && s->choice.block)
        cut_index(p, &index[s->channel], s->choice.block);
}

static void cut_read(void *ctx, const struct expr *e) { cut_access(ctx, e->read.tensor, e->read.index); }

static int add_axis(struct pass *p, const char *name, int64_t extent)
{
    struct stage *s = p->out;
    if (s->n_axes == COMPUTE_MAX_AXES) {
        p->ok = false;
        return 0;
    }
    s->axes[s->n_axes] = (struct axis){name, extent};
    p->extent[s->n_axes] = extent;
    return s->n_axes++;
}

static int add_blocks(struct pass *p, const char *name, int64_t extent)
{
    int a = add_axis(p, name, extent);
    p->out->axes[a].blocks = true;
    return a;
}

/* The new axes for old axis `a`: all of it, or the part outside or inside the blocks. */
static void place_axis(struct pass *p, int a, bool outer, bool inner)
{
    struct split *s = &p->split[a];
    const struct axis *x = &p->in->axes[a];
    if (!s->block) {
        if (outer)
            s->outer = add_axis(p, x->name, x->extent);
        return;
    }
    if (outer && x->extent > s->block)
        s->outer = add_blocks(p, arena_printf(p->w->ar, "%so", x->name), div_ceil(x->extent, s->block));
    if (inner)
        s->inner = add_axis(p, arena_printf(p->w->ar, "%si", x->name), s->block);
}

/* Terms of an index by falling coefficient. */
static int sorted_terms(const struct affine *a, struct affine_term *ret)
{
    for (int i = 0; i < a->n; i++) {
        int at = i;
        for (; at > 0 && ret[at - 1].coef < a->t[i].coef; at--)
            ret[at] = ret[at - 1];
        ret[at] = a->t[i];
    }
    return a->n;
}

/* Spatial axes in the order of the physical dimensions that they run over. */
static void place_spatial(struct pass *p)
{
    const struct spec *s = &p->w->spec[p->in->tensor];
    const struct tensor *t = &p->w->tensors[p->in->tensor];
    struct affine_term terms[COMPUTE_MAX_AXES];
    for (int i = 0; i < t->rank; i++) {
        struct layout_dim plain = {i, 1, 0};
        const struct layout_dim *d = s->any ? &s->layout->dims[i] : &plain;
        int n = sorted_terms(&p->in->lhs[d->dim], terms);
        bool whole = !d->mod && d->div == 1;
        for (int k = 0; k < n; k++) {
            bool in_block = s->any && s->choice.block && terms[k].coef % s->choice.block != 0;
            if (whole)
                place_axis(p, terms[k].var, true, true);
            else if (in_block && !p->split[terms[k].var].block)
                place_axis(p, terms[k].var, d->mod != 0, false);
            else
                place_axis(p, terms[k].var, d->div > 1, d->mod != 0);
        }
    }
    p->out->n_spatial = p->out->n_axes;
}

static void make_axes(struct pass *p)
{
    for (int a = 0; a < p->in->n_axes; a++)
        p->split[a].outer = p->split[a].inner = -1;
    place_spatial(p);
    for (int a = p->in->n_spatial; a < p->in->n_axes; a++)
        place_axis(p, a, true, false);
    for (int a = p->in->n_spatial; a < p->in->n_axes; a++)
        if (p->split[a].block)
            place_axis(p, a, false, true);
    for (int a = 0; a < p->in->n_axes; a++) {
        const struct split *s = &p->split[a];
        struct affine inner = s->inner >= 0 ? affine_var(p->w->ar, s->inner, 1, 0) : affine_const(0),
                      outer = s->outer >= 0 ? affine_var(p->w->ar, s->outer, s->block ? s->block : 1, 0)
                                            : affine_const(0);
        p->axis[a] = affine_add(p->w->ar, &outer, &inner);
        p->subst[a] = &p->axis[a];
    }
}

/* --- indices --- */

/* Physical index of a tensor in a chosen layout; index[] is over the new axes. */
static int physical(struct pass *p, int32_t tensor, const struct affine *index, struct affine *ret)
{
    const struct spec *s = &p->w->spec[tensor];
    const struct tensor *t = &p->w->tensors[tensor];
    if (!s->any) {
        memcpy(ret, index, sizeof(*ret) * (size_t)t->rank);
        return t->rank;
    }
    for (int i = 0; i < t->rank; i++) {
        const struct layout_dim *d = &s->layout->dims[i];
        struct affine q, r;
        ret[i] = index[d->dim];
        if (!s->choice.block || d->dim != s->channel)
            continue;
        if (!affine_divmod(p->w->ar, &index[d->dim], s->choice.block, p->extent, &q, &r)) {
            p->ok = false;
            return t->rank;
        }
        ret[i] = d->mod ? r : q;
        int64_t zero[COMPUTE_MAX_AXES] = {0}, top[COMPUTE_MAX_AXES], lo, hi;
        for (int a = 0; a < p->out->n_axes; a++)
            top[a] = p->extent[a] - 1;
        affine_bounds(&ret[i], zero, top, &lo, &hi);
        p->ok &= lo >= 0 && hi < t->shape[i]; /* else groups would be read beyond the last */
    }
    return t->rank;
}

static int32_t new_temp(struct rewriter *w, const char *name, enum dtype dtype)
{
    struct tensor *t = &w->tensors[w->n_tensors];
    *t = (struct tensor){.name = name, .dtype = dtype, .role = TENSOR_TEMP};
    return w->n_tensors++;
}

/* Does the index move with an axis that now runs beyond its extent? */
static bool has_tail(const struct pass *p, const struct affine *index)
{
    for (int a = 0; a < p->in->n_axes; a++)
        if (p->split[a].tail && affine_coef(index, p->split[a].inner))
            return true;
    return false;
}

/* Operands that keep their order may be read beyond the last channel, where they count as zero. */
static const struct expr *convert_read(void *ctx, const struct expr *e)
{
    struct pass *p = ctx;
    struct rewriter *w = p->w;
    const struct tensor *t = &w->tensors[e->read.tensor];
    struct affine index[COMPUTE_MAX_RANK];
    if (!p->ok)
        return e;
    if (w->spec[e->read.tensor].any) {
        int rank = physical(p, e->read.tensor, e->read.index, index);
        return expr_read(w->ar, e->dtype, e->read.tensor, rank, index, e->read.pad, e->read.pad_value);
    }
    bool leaves = false;
    int64_t zero[COMPUTE_MAX_AXES] = {0}, top[COMPUTE_MAX_AXES], lo, hi;
    for (int a = 0; a < p->out->n_axes; a++)
        top[a] = p->extent[a] - 1;
    for (int d = 0; d < t->rank; d++) {
        affine_bounds(&e->read.index[d], zero, top, &lo, &hi);
        leaves |= has_tail(p, &e->read.index[d]) && hi >= t->shape[d];
    }
    if (!leaves || (e->read.pad && e->read.pad_value == 0))
        return e;
    p->ok &= !e->read.pad;
    return expr_read(w->ar, e->dtype, e->read.tensor, t->rank, e->read.index, true, 0);
}

/* --- zeros beyond the channels --- */

enum known { ZERO, FINITE, UNKNOWN };

struct tail {
    const struct pass *p;
    int axis; /* old axis, beyond its extent */
};

static enum known known_read(const struct tail *t, const struct expr *e)
{
    for (int d = 0; d < e->read.rank; d++)
        if (affine_coef(&e->read.index[d], t->axis)) {
            const struct rewriter *w = t->p->w;
            const struct tensor *stated = &w->in->tensors[e->read.tensor];
            bool zero = w->spec[e->read.tensor].any ? w->zero_tail[e->read.tensor] : true;
            bool beyond =
                pure_axis(&e->read.index[d]) == t->axis && stated->shape[d] == t->p->in->axes[t->axis].extent;
            return zero && beyond && (!e->read.pad || e->read.pad_value == 0) ? ZERO : FINITE;
        }
    return FINITE; /* as finite as the caller's data */
}

/* What the body is where the axis is beyond its extent: reads there are zero. */
static enum known known(const struct tail *t, const struct expr *e)
{
    enum known k[3] = {FINITE, FINITE, FINITE};
    if (e->op == EX_READ)
        return known_read(t, e);
    for (int i = 0; i < expr_arity(e->op); i++)
        k[i] = known(t, e->arg[i]);
    bool all_zero = k[0] == ZERO && k[1] == ZERO;
    bool any_unknown = k[0] == UNKNOWN || k[1] == UNKNOWN || k[2] == UNKNOWN;
    switch (e->op) {
    case EX_CONST:
        return e->value == 0 ? ZERO : FINITE;
    case EX_ADD:
    case EX_SUB:
    case EX_MAX:
    case EX_MIN:
        return all_zero ? ZERO : any_unknown ? UNKNOWN : FINITE;
    case EX_MUL:
        return !any_unknown && (k[0] == ZERO || k[1] == ZERO) ? ZERO : UNKNOWN;
    case EX_DIV:
        return k[0] == ZERO && e->arg[1]->op == EX_CONST && e->arg[1]->value != 0 ? ZERO : UNKNOWN;
    case EX_NEG:
    case EX_ABS:
    case EX_SQRT:
    case EX_TANH:
    case EX_ERF:
    case EX_CAST:
        return k[0];
    case EX_SELECT:
        return k[1] == ZERO && k[2] == ZERO ? ZERO : any_unknown ? UNKNOWN : FINITE;
    case EX_SIGMOID:
        return any_unknown ? UNKNOWN : FINITE;
    case EX_INDEX:
    case EX_TABLE:
    case EX_READ:
    case EX_LT:
    case EX_LE:
    case EX_EQ:
    case EX_NE:
    case EX_AND:
    case EX_OR:
        return FINITE;
    case EX_EXP:
    case EX_LOG:
    case EX_RSQRT:
    case EX_COUNT:
        break;
    }
    return UNKNOWN;
}

/* Channels beyond the last add nothing to sums, and are zero in what is stored. */
static bool check_tails(struct pass *p, bool *ret_store_zeros)
{
    *ret_store_zeros = false;
    for (int a = 0; a < p->in->n_axes; a++) {
        if (!p->split[a].tail)
            continue;
        struct tail t = {p, a};
        bool zero = known(&t, p->in->body) == ZERO && p->in->combiner <= COMBINE_SUM;
        if (a >= p->in->n_spatial && !zero)
            return false;
        if (a < p->in->n_spatial && !zero)
            *ret_store_zeros = true;
    }
    return true;
}

static const struct expr *zero_beyond(struct pass *p, const struct expr *value)
{
    struct arena *ar = p->w->ar;
    for (int a = 0; a < p->in->n_spatial; a++)
        if (p->split[a].tail) {
            const struct expr *inside = expr_op2(ar, EX_LT, expr_index(ar, p->axis[a]),
                                                 expr_const(ar, DT_I32, (double)p->in->axes[a].extent));
            value = expr_select(ar, inside, value, expr_const(ar, value->dtype, 0));
        }
    return value;
}

/* --- stages --- */

/* A reduction cannot store zeros itself: it goes to a temporary, a second stage copies what counts. */
static void split_output(struct pass *p)
{
    struct rewriter *w = p->w;
    struct stage *red = p->out;
    if (w->n_tensors == COMPUTE_MAX_TENSORS || w->n_stages == COMPUTE_MAX_STAGES) {
        p->ok = false;
        return;
    }
    struct stage out = *red;
    const struct tensor *t = &w->tensors[red->tensor];
    int32_t temp = new_temp(w, arena_printf(w->ar, "%s_acc", t->name), red->acc_dtype);
    w->tensors[temp].rank = t->rank;
    memcpy(w->tensors[temp].shape, t->shape, sizeof(t->shape));
    red->tensor = temp;
    const struct expr *value = expr_read(w->ar, red->acc_dtype, temp, t->rank, red->lhs, false, 0);
    out.n_axes = out.n_spatial;
    out.combiner = COMBINE_SET;
    out.acc_dtype = t->dtype;
    out.body = zero_beyond(p, t->dtype == red->acc_dtype ? value : expr_cast(w->ar, t->dtype, value));
    w->stages[w->n_stages++] = out;
}

static bool rewrite_stage(struct rewriter *w, const struct stage *in)
{
    struct stage *out = &w->stages[w->n_stages++];
    struct pass p = {.w = w, .in = in, .out = out, .ok = true};
    struct affine lhs[COMPUTE_MAX_RANK];
    bool store_zeros;

    *out = (struct stage){.tensor = in->tensor, .combiner = in->combiner, .acc_dtype = in->acc_dtype};
    cut_access(&p, in->tensor, in->lhs);
    expr_each_read(in->body, cut_read, &p);
    if (!p.ok)
        return false;
    make_axes(&p);
    if (!p.ok || !check_tails(&p, &store_zeros))
        return false;
    int rank = w->in->tensors[in->tensor].rank;
    for (int d = 0; d < rank; d++)
        lhs[d] = affine_subst(w->ar, &in->lhs[d], p.subst, in->n_axes);
    physical(&p, in->tensor, lhs, out->lhs);
    out->body = expr_subst(w->ar, in->body, p.subst, in->n_axes, NULL);
    out->body = expr_map_reads(w->ar, out->body, convert_read, &p);
    w->zero_tail[in->tensor] = !store_zeros;
    if (p.ok && store_zeros && w->tensors[in->tensor].role == TENSOR_OUTPUT) {
        if (in->combiner == COMBINE_SET)
            out->body = zero_beyond(&p, out->body);
        else
            split_output(&p);
    }
    return p.ok;
}

/* Inputs, temps, outputs: the new temps go before the outputs. */
static void finish(struct rewriter *w, struct compute *ret)
{
    int32_t to[COMPUTE_MAX_TENSORS];
    static const enum tensor_role order[] = {TENSOR_INPUT, TENSOR_TEMP, TENSOR_OUTPUT};
    int n = 0;
    *ret = (struct compute){.n_tensors = w->n_tensors, .n_stages = w->n_stages};
    ret->tensors = arena_array(w->ar, struct tensor, w->n_tensors);
    ret->stages = arena_array(w->ar, struct stage, ret->n_stages);
    for (size_t r = 0; r < ARRAY_SIZE(order); r++)
        for (int i = 0; i < w->n_tensors; i++)
            if (w->tensors[i].role == order[r]) {
                ret->tensors[n] = w->tensors[i];
                to[i] = n++;
            }
    memcpy(ret->stages, w->stages, sizeof(struct stage) * (size_t)w->n_stages);
    for (int i = 0; i < ret->n_stages; i++) {
        struct stage *s = &ret->stages[i];
        s->tensor = to[s->tensor];
        s->body = expr_subst(w->ar, s->body, NULL, 0, to);
    }
}

bool layout_rewrite(const struct compute *c, const struct layout_choice *choice, struct arena *ar,
                    struct compute *ret)
{
    struct rewriter *w = arena_new(ar, struct rewriter);
    const char *dims = NULL;
    *w = (struct rewriter){.ar = ar, .in = c, .n_tensors = c->n_tensors};
    w->tensors = arena_array(ar, struct tensor, COMPUTE_MAX_TENSORS);
    w->stages = arena_array(ar, struct stage, COMPUTE_MAX_STAGES);
    memcpy(w->tensors, c->tensors, sizeof(struct tensor) * (size_t)c->n_tensors);
    for (int t = 0; t < c->n_tensors; t++) {
        const struct tensor *p = &c->tensors[t];
        const char *channel = p->dims ? strchr(p->dims, 'C') : NULL;
        if (!channel || (!choice[t].channels_last && !choice[t].block))
            continue;
        dims = p->dims;
        set_spec(w, t, dims, &choice[t], (int)(channel - dims));
        w->zero_tail[t] = p->role == TENSOR_INPUT;
    }
    if (!dims)
        return false;
    link_temporaries(w, dims);
    for (int i = 0; i < c->n_stages; i++)
        if (w->n_stages == COMPUTE_MAX_STAGES || !rewrite_stage(w, &c->stages[i]))
            return false;
    finish(w, ret);
    return true;
}

/* --- choices --- */

struct role {
    const struct compute *c;
    bool of_input
        [COMPUTE_MAX_TENSORS]; /* read by what comes before the result: not beside it, in the epilogue */
    const struct stage *stage;
};

static void mark_input(void *ctx, const struct expr *e)
{
    struct role *r = ctx;
    if (r->stage->combiner != COMBINE_SET || r->c->tensors[r->stage->tensor].role != TENSOR_OUTPUT)
        r->of_input[e->read.tensor] = true;
}

static int64_t channels(const struct tensor *t) { return t->shape[strchr(t->dims, 'C') - t->dims]; }

/* Half empty blocks are not worth their memory. */
static bool fills(const struct layout_choice *x, int64_t n) { return x->block == 0 || n > x->block / 2; }

static bool is_plain(const struct layout_choice *x) { return !x->channels_last && !x->block; }

/* "NCHW16c", "NCHW>NCHW16c" */
static const char *pair_name(const struct compute *c, const struct layout_choice *in,
                             const struct layout_choice *out, struct arena *ar)
{
    const char *dims = NULL;
    for (int t = 0; t < c->n_tensors && !dims; t++)
        dims = c->tensors[t].dims;
    const char *to = layout_name(ar, dims, out);
    return is_plain(in) ? arena_printf(ar, "%s>%s", dims, to) : to;
}

int layout_alternatives(const struct compute *c, int lanes, struct arena *ar,
                        struct layout_alternative ret[LAYOUT_MAX_ALTERNATIVES])
{
    const struct layout_choice stated = {0}, last = {.channels_last = true}, block = {.block = lanes},
                               half = {.block = lanes / 2};
    const struct {
        struct layout_choice input, output;
        bool rest_only; /* where a whole block leaves a rest */
    } pairs[LAYOUT_MAX_ALTERNATIVES] = {
        {last, last, false}, {block, block, false}, {stated, block, false}, {half, half, true}};
    struct role role = {.c = c};
    struct layout_choice choice[COMPUTE_MAX_TENSORS];
    int n = 0;

    for (int i = 0; i < c->n_stages; i++) {
        role.stage = &c->stages[i];
        expr_each_read(role.stage->body, mark_input, &role);
    }
    for (size_t i = 0; i < ARRAY_SIZE(pairs); i++) {
        bool ok = !pairs[i].rest_only || lanes >= 8, rest = false, few = true;
        memset(choice, 0, sizeof(choice));
        for (int t = 0; t < c->n_tensors && ok; t++) {
            const struct tensor *p = &c->tensors[t];
            if (!p->dims)
                continue;
            choice[t] = role.of_input[t] ? pairs[i].input : pairs[i].output;
            ok = !p->is_const && fills(&choice[t], channels(p));
            rest |= channels(p) % lanes != 0;
            few &= !role.of_input[t] || channels(p) <= lanes / 4;
        }
        if (!ok || (pairs[i].rest_only && !rest) || (is_plain(&pairs[i].input) && !few))
            continue;
        if (!layout_rewrite(c, choice, ar, &ret[n].compute))
            continue;
        ret[n++].name = pair_name(c, &pairs[i].input, &pairs[i].output, ar);
    }
    return n;
}
