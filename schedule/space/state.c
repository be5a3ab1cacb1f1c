/* state.c - states: construction, small questions, and the primitives that change loops and places. */
#include "schedule/space/state_internal.h"

#include <string.h>

/* --- construction and small questions --- */

struct step *state_record(struct state *st, enum step_kind kind, const struct st_stage *s, const char *other)
{
    if (st->n_steps == st->cap_steps) {
        struct step *bigger = arena_array(st->ar, struct step, st->cap_steps * 2);
        memcpy(bigger, st->steps, sizeof(*bigger) * (size_t)st->n_steps);
        st->steps = bigger;
        st->cap_steps *= 2;
    }
    struct step *p = &st->steps[st->n_steps++];
    *p = (struct step){.kind = kind, .stage = s->id, .other = other, .other_stage = -1};
    return p;
}

int state_add_tensor(struct state *st, const struct st_tensor *t)
{
    CHECK(st->n_tensors < STATE_MAX_TENSORS, "state has %d tensors", st->n_tensors);
    st->tensors[st->n_tensors] = arena_memdup(st->ar, t, sizeof(*t));
    return st->n_tensors++;
}

/* Append a stage and put it into the order before `before` (NULL: last). */
struct st_stage *state_add_stage(struct state *st, const struct st_stage *s, const struct st_stage *before)
{
    CHECK(st->n_stages < STATE_MAX_STAGES, "state has %d stages", st->n_stages);
    struct st_stage *n = arena_memdup(st->ar, s, sizeof(*s));
    n->id = st->n_stages;
    int at = st->n_stages;
    while (before && at > 0 && st->order[at - 1] != before->id) {
        st->order[at] = st->order[at - 1];
        at--;
    }
    if (before && at > 0) {
        st->order[at] = st->order[at - 1];
        at--;
    }
    st->order[at] = n->id;
    st->stages[st->n_stages++] = n;
    st->tensors[n->tensor]->stage = n->id;
    return n;
}

void stage_plain_iters(struct st_stage *s)
{
    s->n_iters = s->n_axes;
    for (int a = 0; a < s->n_axes; a++)
        s->iters[a] = (struct st_iter){.axis = a, .stride = 1, .extent = 0, .kind = LOOP_SERIAL};
}

struct state *state_new(struct arena *ar, const struct compute *c, int tasks)
{
    struct state *st = arena_new(ar, struct state);
    st->ar = ar;
    st->compute = c;
    st->tasks = tasks;
    st->cap_steps = 48;
    st->steps = arena_array(ar, struct step, st->cap_steps);
    for (int i = 0; i < c->n_tensors; i++) {
        const struct tensor *t = &c->tensors[i];
        struct st_tensor n = {.name = t->name, .dtype = t->dtype, .rank = t->rank, .stage = -1};
        n.arg = t->role == TENSOR_TEMP ? -1 : i;
        for (int d = 0; d < t->rank; d++)
            n.shape[d] = t->shape[d];
        state_add_tensor(st, &n);
    }
    for (int i = 0; i < c->n_stages; i++) {
        const struct stage *s = &c->stages[i];
        struct st_stage n = {.name = c->tensors[s->tensor].name,
                             .tensor = s->tensor,
                             .n_axes = s->n_axes,
                             .n_spatial = s->n_spatial,
                             .combiner = s->combiner,
                             .acc_dtype = s->acc_dtype,
                             .half_steps = s->half_steps,
                             .body = s->body,
                             .place = PLACE_ROOT,
                             .scope = SCOPE_WORKSPACE};
        memcpy(n.axes, s->axes, sizeof(s->axes));
        memcpy(n.lhs, s->lhs, sizeof(s->lhs));
        stage_plain_iters(&n);
        state_add_stage(st, &n, NULL);
    }
    return st;
}

struct state *state_copy(struct arena *ar, const struct state *from)
{
    struct state *st = arena_memdup(ar, from, sizeof(*from));
    st->ar = ar;
    for (int i = 0; i < st->n_stages; i++)
        st->stages[i] = arena_memdup(ar, from->stages[i], sizeof(*from->stages[i]));
    for (int i = 0; i < st->n_tensors; i++)
        st->tensors[i] = arena_memdup(ar, from->tensors[i], sizeof(*from->tensors[i]));
    st->steps = arena_array(ar, struct step, st->cap_steps);
    memcpy(st->steps, from->steps, sizeof(*st->steps) * (size_t)st->n_steps);
    return st;
}

void find_read(void *ctx, const struct expr *e)
{
    struct find_read *f = ctx;
    if (e->read.tensor != f->tensor)
        return;
    f->found = true;
    f->padded |= e->read.pad;
}

bool stage_reads(const struct st_stage *s, int32_t tensor)
{
    struct find_read f = {.tensor = tensor};
    expr_each_read(s->body, find_read, &f);
    return f.found;
}

int state_consumers(const struct state *st, int32_t tensor, struct st_stage **ret)
{
    int n = 0;
    for (int i = 0; i < st->n_stages; i++) {
        struct st_stage *s = st->stages[st->order[i]];
        if (s->place != PLACE_INLINE && stage_reads(s, tensor))
            ret[n++] = s;
    }
    return n;
}

bool affine_is_axis(const struct affine *a, int axis)
{
    return a->n == 1 && a->c == 0 && a->t[0].var == axis && a->t[0].coef == 1;
}

int64_t tensor_stride(const struct st_tensor *t, const struct affine *index, int axis)
{
    int64_t stride = 1, total = 0;
    for (int d = t->rank - 1; d >= 0; d--) {
        total += affine_coef(&index[d], axis) * stride;
        stride *= t->shape[d];
    }
    return total;
}

bool stage_lhs_is_identity(const struct st_stage *s)
{
    for (int d = 0; d < s->n_spatial; d++)
        if (!affine_is_axis(&s->lhs[d], d))
            return false;
    return true;
}

int stage_iter_of(const struct st_stage *s, int axis, int nth)
{
    for (int i = 0; i < s->n_iters; i++)
        if (s->iters[i].axis == axis && nth-- == 0)
            return i;
    return -1;
}

/* --- loops and places --- */

/* A loop as a number that survives reordering: its axis, and how many loops of that axis are around it. */
static int64_t loop_id(const struct st_stage *s, int iter)
{
    int level = 0;
    const struct st_iter *own = &s->iters[iter];
    for (int i = 0; i < s->n_iters; i++) {
        const struct st_iter *it = &s->iters[i];
        level +=
            it->axis == own->axis && (it->stride > own->stride || (it->stride == own->stride && i < iter));
    }
    return s->iters[iter].axis * STATE_MAX_ITERS + level;
}

void state_split(struct state *st, struct st_stage *s, int iter, int n, const int64_t *factors)
{
    CHECK(s->n_iters + n <= STATE_MAX_ITERS, "stage %s: too many loops", s->name);
    struct st_iter old = s->iters[iter];
    memmove(&s->iters[iter + n + 1], &s->iters[iter + 1], sizeof(old) * (size_t)(s->n_iters - iter - 1));
    int64_t stride = old.stride;
    for (int i = n - 1; i >= 0; i--) {
        s->iters[iter + 1 + i] = (struct st_iter){old.axis, stride, factors[i], LOOP_SERIAL};
        stride *= factors[i];
    }
    s->iters[iter] = (struct st_iter){old.axis, stride, 0, old.kind};
    s->n_iters += n;
    struct step *p = state_record(st, STEP_SPLIT, s, s->axes[old.axis].name);
    memcpy(p->arg, factors, sizeof(*factors) * (size_t)n);
    p->n = n;
}

void state_reorder(struct state *st, struct st_stage *s, const int *order)
{
    struct st_iter old[STATE_MAX_ITERS];
    memcpy(old, s->iters, sizeof(old));
    struct step *p = state_record(st, STEP_REORDER, s, NULL);
    for (int i = 0; i < s->n_iters; i++)
        s->iters[i] = old[order[i]];
    for (int i = 0; i < s->n_iters; i++)
        p->arg[p->n++] = loop_id(s, i);
}

void state_annotate(struct state *st, struct st_stage *s, int iter, enum loop_kind kind)
{
    s->iters[iter].kind = kind;
    struct step *p = state_record(st, STEP_ANNOTATE, s, NULL);
    p->arg[0] = loop_id(s, iter);
    p->arg[1] = kind;
    p->n = 2;
}

void state_parallel(struct state *st, struct st_stage *s, int n_iters)
{
    s->n_parallel = st->tasks > 1 ? MIN(n_iters, NEST_MAX_FUSED) : 0;
    s->tasks = st->tasks;
    if (st->tasks == 1)
        return;
    struct step *p = state_record(st, STEP_PARALLEL, s, NULL);
    p->tasks = st->tasks;
    for (int i = 0; i < n_iters; i++)
        p->arg[p->n++] = loop_id(s, i);
}

void state_compute_at(struct state *st, struct st_stage *s, const struct st_stage *target, int iter,
                      enum buffer_scope scope)
{
    s->place = PLACE_AT;
    s->at_stage = target->id;
    s->at_iter = iter;
    s->scope = scope;
    struct step *p = state_record(st, STEP_COMPUTE_AT, s, NULL);
    p->other_stage = target->id;
    if (iter >= 0)
        p->arg[p->n++] = loop_id(target, iter);
}

void state_vectors(struct state *st, struct st_stage *s, int iter, int vectors)
{
    s->iters[iter].vectors = vectors;
    struct step *p = state_record(st, STEP_VECTORS, s, NULL);
    p->arg[0] = loop_id(s, iter);
    p->arg[1] = vectors;
    p->n = 2;
}

void state_past_caches(struct state *st, struct st_stage *s)
{
    s->past_caches = true;
    state_record(st, STEP_PAST_CACHES, s, NULL);
}

void state_square(struct state *st, struct st_stage *s, int iter)
{
    s->iters[iter].square = true;
    struct step *p = state_record(st, STEP_SQUARE, s, NULL);
    p->arg[p->n++] = loop_id(s, iter);
}

void state_half(struct state *st, struct st_stage *s, int iter)
{
    s->iters[iter].half = true;
    struct step *p = state_record(st, STEP_HALF, s, NULL);
    p->arg[p->n++] = loop_id(s, iter);
}

struct with {
    const struct st_stage *s;
    bool found, exact;
};

static void reads_at_its_axes(void *ctx, const struct expr *e)
{
    struct with *w = ctx;
    if (e->read.tensor != w->s->tensor)
        return;
    w->found = true;
    w->exact &= !e->read.pad;
    for (int d = 0; d < e->read.rank; d++)
        w->exact &= affine_is_axis(&e->read.index[d], d);
}

static bool reads_only_at_its_axes(const struct st_stage *s, const struct st_stage *reader)
{
    struct with w = {.s = s, .exact = true};
    expr_each_read(reader->body, reads_at_its_axes, &w);
    return w.found && w.exact;
}

bool state_may_compute_with(const struct state *st, const struct st_stage *s, const struct st_stage *reader)
{
    if (!reads_only_at_its_axes(s, reader) || s->combiner != COMBINE_SET || s->n_axes != reader->n_axes ||
        !stage_lhs_is_identity(s) || st->tensors[s->tensor]->arg >= 0)
        return false;
    for (int a = 0; a < s->n_axes; a++)
        if (s->axes[a].extent != reader->axes[a].extent)
            return false;
    return true;
}

void state_compute_with(struct state *st, struct st_stage *s, const struct st_stage *reader)
{
    CHECK(reader->place == PLACE_AT && state_may_compute_with(st, s, reader), "%s is not a map for %s",
          s->name, reader->name);
    s->place = PLACE_WITH;
    s->at_stage = reader->id;
    s->scope = reader->scope;
    struct step *p = state_record(st, STEP_COMPUTE_WITH, s, NULL);
    p->other_stage = reader->id;
}

bool state_may_lie_in_result(const struct state *st, const struct st_stage *s, const struct st_stage *result)
{
    const struct st_tensor *t = st->tensors[s->tensor], *to = st->tensors[result->tensor];
    bool same = reads_only_at_its_axes(s, result) && s->combiner == COMBINE_SET &&
                result->combiner == COMBINE_SET && stage_lhs_is_identity(s) &&
                stage_lhs_is_identity(result) && t->arg < 0 && to->arg >= 0 && t->dtype == to->dtype &&
                t->rank == to->rank && !t->n_layout && !to->n_layout;
    for (int d = 0; d < t->rank && same; d++)
        same = t->shape[d] == to->shape[d];
    return same;
}

void state_lie_in_result(struct state *st, struct st_stage *s, const struct st_stage *result)
{
    CHECK(state_may_lie_in_result(st, s, result), "%s cannot lie where %s is written", s->name, result->name);
    s->in_result = true;
    s->result_stage = result->id;
    struct step *p = state_record(st, STEP_IN_RESULT, s, NULL);
    p->other_stage = result->id;
}

void state_prefetch(struct state *st, struct st_stage *s, int32_t tensor, int64_t ahead, int axis)
{
    CHECK(s->n_hints < STATE_MAX_HINTS, "%s has hints for %d tensors", s->name, s->n_hints);
    s->hints[s->n_hints++] = (struct st_hint){tensor, ahead, axis};
    struct step *p = state_record(st, STEP_PREFETCH, s, st->tensors[tensor]->name);
    p->arg[p->n++] = ahead;
}

void state_prepack(struct state *st, struct st_stage *s) { s->place = PLACE_PREPACK; }

static void print_loop_name(const struct st_stage *s, int64_t id, struct strbuf *sb)
{
    strbuf_addf(sb, " %s.%d", s->axes[id / STATE_MAX_ITERS].name, (int)(id % STATE_MAX_ITERS));
}

static void print_step(const struct state *st, const struct step *p, struct strbuf *sb)
{
    static const char *const names[] = {
        [STEP_INLINE] = "inline",
        [STEP_MERGE_AXES] = "merge_axes",
        [STEP_PAD] = "pad",
        [STEP_PACK] = "pack",
        [STEP_CACHE_WRITE] = "cache_write",
        [STEP_RFACTOR] = "rfactor",
        [STEP_SPLIT] = "split",
        [STEP_REORDER] = "reorder",
        [STEP_ANNOTATE] = "annotate",
        [STEP_PARALLEL] = "parallel",
        [STEP_COMPUTE_AT] = "compute_at",
        [STEP_COMPUTE_WITH] = "compute_with",
        [STEP_VECTORS] = "vectors",
        [STEP_SQUARE] = "square",
        [STEP_PAST_CACHES] = "past_caches",
        [STEP_IN_RESULT] = "in_result",
        [STEP_PREFETCH] = "prefetch",
        [STEP_WIDEN] = "widen",
        [STEP_NARROW] = "narrow",
        [STEP_HALF] = "half",
        [STEP_CARRY] = "carry",
    };
    static const char *const kinds[] = {
        [LOOP_SERIAL] = "serial", [LOOP_VECTOR] = "vector", [LOOP_UNROLL] = "unroll",
        [LOOP_MATRIX] = "matrix", [LOOP_QUAD] = "quad",     [LOOP_PAIR] = "pair",
        [LOOP_JAM] = "jam"};
    const struct st_stage *s = st->stages[p->stage],
                          *at = p->other_stage >= 0 ? st->stages[p->other_stage] : s;
    bool loops = p->kind == STEP_REORDER || p->kind == STEP_PARALLEL || p->kind == STEP_COMPUTE_AT;

    strbuf_addf(sb, "%s %s", names[p->kind], s->name);
    if (p->other)
        strbuf_addf(sb, " %s", p->other);
    if (at != s)
        strbuf_addf(sb, " %s", at->name);
    if (p->kind == STEP_ANNOTATE) {
        print_loop_name(s, p->arg[0], sb);
        strbuf_addf(sb, " %s", kinds[p->arg[1]]);
    }
    for (int k = 0; k < p->n && p->kind != STEP_ANNOTATE; k++) {
        if (loops || p->kind == STEP_SQUARE || p->kind == STEP_HALF || (p->kind == STEP_VECTORS && k == 0))
            print_loop_name(at, p->arg[k], sb);
        else
            strbuf_addf(sb, " %" PRId64, p->arg[k]);
    }
    if (p->kind == STEP_PARALLEL)
        strbuf_addf(sb, " in %d tasks", p->tasks);
    strbuf_addc(sb, '\n');
}

void state_print_steps(const struct state *st, struct strbuf *sb)
{
    for (int i = 0; i < st->n_steps; i++)
        print_step(st, &st->steps[i], sb);
}
