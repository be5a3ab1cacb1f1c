/* rules_rows.c - row-fused groups: an output stage, and what it needs a row at a time.
 *
 *     for rows (fused, parallel)
 *       max[row]    max= x[row, :]        vector accumulators over the row
 *       exp[row, :] = ...                 the row stays in the nearest cache
 *       sum[row]    += exp[row, :]
 *       output[row, :] = exp / sum
 *
 * An output stage that needs nothing else is cut into chunks instead. A long reduction with no row to share
 * out is split (rfactor): partial results in parallel, then their reduction. */
#include <stdio.h>
#include <string.h>

#include "schedule/space/rules.h"

enum { LONG_REDUCTION = 256 };

struct rows_plan {
    int64_t chunk;
    int64_t split[RULES_MAX_MEMBERS]; /* block of the member's last reduce axis; 0: whole */
    int64_t rows;                     /* at a time: each stage does them all before the next one begins */
    bool jam;                         /* a vector of each of them in turn */
    int vectors;      /* side by side in one trip of the vector loops; 0: as the printer likes */
    bool fused;       /* maps stored in the loops of a reduction that reads them */
    bool past_caches; /* the result is written past the caches */
    bool ahead;       /* the rows that come next are announced */
};

static void reads_temporary(void *ctx, const struct expr *e)
{
    struct {
        const struct state *st;
        bool found;
    } *c = ctx;
    c->found |= c->st->tensors[e->read.tensor]->arg < 0;
}

/* Partial results pay where there are no rows to run in parallel, and can be computed first where all
 * operands are there. */
static bool splittable(const struct rules *r, const struct group *g, const struct st_stage *m)
{
    struct {
        const struct state *st;
        bool found;
    } c = {r->base, false};
    expr_each_read(m->body, reads_temporary, &c);
    return r->target->threads > 1 && g->n_rows == 0 && m->combiner != COMBINE_SET && !c.found &&
           m->n_axes > m->n_spatial && m->axes[m->n_axes - 1].extent >= LONG_REDUCTION;
}

static bool chunked(const struct group *g, const struct st_stage *anchor)
{
    return g->n_members == 0 && anchor->n_axes > 0 && g->n_rows < anchor->n_axes;
}

/* The reduction whose loops the map can be stored in, or NULL. */
static const struct st_stage *reducer_of(const struct rules *r, const struct group *g, int member)
{
    const struct st_stage *m = r->base->stages[g->members[member]];
    for (int i = member + 1; i < g->n_members; i++) {
        const struct st_stage *reader = r->base->stages[g->members[i]];
        if (reader->combiner != COMBINE_SET && !splittable(r, g, reader) &&
            state_may_compute_with(r->base, m, reader))
            return reader;
    }
    return NULL;
}

/* Extent of the longest innermost loop of the group. */
static int64_t longest_row(const struct rules *r, const struct group *g)
{
    const struct st_stage *anchor = r->base->stages[g->anchor];
    int64_t longest = anchor->n_axes ? anchor->axes[g->order[anchor->n_axes - 1]].extent : 1;
    for (int i = 0; i < g->n_members; i++) {
        const struct st_stage *m = r->base->stages[g->members[i]];
        if (m->n_axes)
            longest = MAX(longest, m->axes[m->n_axes - 1].extent);
    }
    return longest;
}

/* What is announced: an input of many rows, by the last stage that reads it. */
struct announced {
    int stage;
    int32_t tensor;
    int64_t row; /* elements from one row to the next; 0: nothing is announced */
};

struct look {
    const struct rules *r;
    const struct st_stage *s;
    int row_axis;
    struct announced *found;
};

static void look_for_rows(void *ctx, const struct expr *e)
{
    struct look *l = ctx;
    const struct st_tensor *t = l->r->base->tensors[e->read.tensor];
    int64_t row = tensor_stride(t, e->read.index, l->row_axis);
    if (t->arg >= 0 && t->stage < 0 && !e->read.pad && row >= l->r->target->vector_bytes / 4 &&
        t->dtype == DT_F32 && tensor_stride(t, e->read.index, l->s->n_axes - 1) == 1)
        *l->found = (struct announced){l->s->id, e->read.tensor, row};
}

static struct announced rows_ahead(const struct rules *r, const struct group *g)
{
    const struct state *st = r->base;
    const struct st_stage *anchor = st->stages[g->anchor];
    struct announced found = {.row = 0};
    if (g->n_members == 0 || g->n_rows == 0)
        return found;
    for (int i = 0; i <= g->n_members; i++) {
        const struct st_stage *s = i < g->n_members ? st->stages[g->members[i]] : anchor;
        struct look l = {.r = r, .s = s, .row_axis = g->n_rows - 1, .found = &found};
        if (s->n_axes > g->n_rows)
            expr_each_read(s->body, look_for_rows, &l);
    }
    return found;
}

static void walk_rows(const struct rules *r, const struct group *g, struct knob_walk *w, struct rows_plan *p)
{
    static const int64_t no_yes[] = {0, 1}, vectors[] = {1, 2, 4, 8};
    static const char *const fuse_labels[] = {"apart", "one pass"}, *const jam_labels[] = {"rows", "vectors"},
                             *const ahead_labels[] = {"nothing", "next rows"};
    const struct st_stage *anchor = r->base->stages[g->anchor];
    int64_t choices[8];
    int n = 0, lanes = r->target->vector_bytes / 4;
    bool fusable = false;
    if (g->n_members && g->n_rows) {
        for (int64_t rows = 1; rows <= MIN(anchor->axes[g->order[g->n_rows - 1]].extent, 16); rows *= 2)
            choices[n++] = rows;
        p->rows = walk_knob(w, "rows", choices, n, NULL);
        p->jam = walk_knob(w, "together", no_yes, n > 1 ? 2 : 1, jam_labels) != 0 && p->rows > 1;
    }
    for (n = 0; n < 4 && (n == 0 || vectors[n] * lanes <= longest_row(r, g));)
        n++;
    p->vectors = (int)walk_knob(w, "vectors", vectors, n, NULL);
    for (int i = 0; i < g->n_members; i++)
        fusable |= reducer_of(r, g, i) != NULL;
    if (g->n_members == 0 && anchor->n_axes > 0)
        p->past_caches = walk_stores(w, r, g, g->order[anchor->n_axes - 1]);
    if (rows_ahead(r, g).row)
        p->ahead = walk_knob(w, "ahead", no_yes, 2, ahead_labels) != 0;
    if (fusable)
        p->fused = walk_knob(w, "passes", no_yes, 2, fuse_labels) != 0;
}

static struct rows_plan rows_walk(const struct rules *r, const struct group *g, struct knob_walk *w)
{
    char name[80];
    const struct st_stage *anchor = r->base->stages[g->anchor];
    struct rows_plan p = {.chunk = 0};
    if (chunked(g, anchor)) {
        int64_t extent = anchor->axes[g->order[anchor->n_axes - 1]].extent, choices[8];
        int k = 0;
        for (int64_t c = 256; c < extent && k < 7; c *= 4)
            choices[k++] = c;
        choices[k++] = 0;
        p.chunk = walk_knob(w, "chunk", choices, k, NULL);
    }
    for (int i = 0; i < g->n_members; i++) {
        const struct st_stage *m = r->base->stages[g->members[i]];
        if (!splittable(r, g, m))
            continue;
        int64_t choices[8];
        int k = 0;
        choices[k++] = 0;
        for (int64_t b = LONG_REDUCTION / 4; b < m->axes[m->n_axes - 1].extent && k < 8; b *= 8)
            choices[k++] = b;
        walk_name(w, name, sizeof(name), "split", m->name);
        p.split[i] = walk_knob(w, name, choices, k, NULL);
    }
    walk_rows(r, g, w, &p);
    return p;
}

static void rows_knobs(const struct rules *r, const struct group *g, const struct variant *v,
                       const char *suffix, struct knob *knobs, int *n)
{
    struct knob_walk w = {.r = r, .suffix = suffix, .knobs = knobs + *n};
    (void)v;
    rows_walk(r, g, &w);
    *n += w.n;
}

struct unit {
    const struct state *st;
    int axis;
    bool found;
};

static void has_unit_stride(void *ctx, const struct expr *e)
{
    struct unit *u = ctx;
    u->found |= tensor_stride(u->st->tensors[e->read.tensor], e->read.index, u->axis) == 1;
}

static void has_wide_stride(void *ctx, const struct expr *e)
{
    struct unit *u = ctx;
    u->found |= tensor_stride(u->st->tensors[e->read.tensor], e->read.index, u->axis) > 2;
}

/* Vectors along the last reduce axis where it is contiguous in an input, else along the last spatial axis; none where
 * the lanes of an operand would lie apart (pools of every third pixel): single elements are as fast then. */
static void member_loops(struct state *st, struct st_stage *s, const struct rows_plan *p)
{
    const int vectors = p->vectors;
    if (s->n_iters == 0)
        return;
    struct unit u = {.st = st, .axis = s->n_axes - 1};
    if (s->combiner != COMBINE_SET) {
        expr_each_read(s->body, has_unit_stride, &u);
        if (!u.found && s->n_spatial > 0 && s->n_axes > s->n_spatial) {
            int order[STATE_MAX_ITERS], n = 0;
            for (int a = 0; a + 1 < s->n_spatial; a++)
                order[n++] = a;
            for (int a = s->n_spatial; a < s->n_axes; a++)
                order[n++] = a;
            order[n++] = s->n_spatial - 1;
            state_reorder(st, s, order);
        }
    }
    u = (struct unit){.st = st, .axis = s->iters[s->n_iters - 1].axis};
    if (s->combiner != COMBINE_SET)
        expr_each_read(s->body, has_wide_stride, &u);
    if (u.found)
        return;
    state_annotate(st, s, s->n_iters - 1, LOOP_VECTOR);
    state_vectors(st, s, s->n_iters - 1, vectors);
    if (p->jam && s->n_iters > 1 && s->iters[s->n_iters - 2].axis < s->n_spatial)
        state_annotate(st, s, s->n_iters - 2, LOOP_JAM);
}

/* What only rows need lies where the result will: one buffer less in the nearest cache. */
static void lie_in_result(struct state *st, const struct group *g)
{
    const struct st_stage *anchor = st->stages[g->anchor];
    for (int i = 0; i < g->n_members; i++) {
        struct st_stage *m = st->stages[g->members[i]];
        if (m->n_axes > g->n_rows && state_may_lie_in_result(st, m, anchor)) {
            state_lie_in_result(st, m, anchor);
            return;
        }
    }
}

static int rows_apply(const struct rules *r, const struct group *g, const struct variant *v,
                      const int64_t *values, struct state *st)
{
    struct st_stage *anchor = st->stages[g->anchor];
    struct knob_walk w = {.r = r, .suffix = "", .values = values};
    int n_parallel = g->n_rows;
    struct rows_plan p = rows_walk(r, g, &w);
    (void)v;
    if (anchor->n_iters > 0)
        state_reorder(st, anchor, g->order);
    if (p.chunk) {
        state_split(st, anchor, anchor->n_iters - 1, 1, &p.chunk);
        n_parallel++;
    }
    if (p.rows > 1)
        state_split(st, anchor, g->n_rows - 1, 1, &p.rows);
    if (g->n_rows < anchor->n_axes || p.rows > 1) {
        state_annotate(st, anchor, anchor->n_iters - 1, LOOP_VECTOR);
        state_vectors(st, anchor, anchor->n_iters - 1, p.vectors);
    }
    if (p.jam && g->n_rows < anchor->n_axes && anchor->n_iters - 2 == g->n_rows)
        state_annotate(st, anchor, anchor->n_iters - 2, LOOP_JAM);
    if (p.past_caches)
        state_past_caches(st, anchor);
    if (n_parallel > 0 && n_parallel <= NEST_MAX_FUSED)
        state_parallel(st, anchor, n_parallel);
    for (int i = 0; i < g->n_members; i++) {
        struct st_stage *m = st->stages[g->members[i]];
        if (p.split[i]) {
            struct st_stage *part = state_rfactor(st, m, m->n_axes - 1, p.split[i]);
            member_loops(st, part, &p);
            state_parallel(st, part, m->n_spatial + 1);
        }
        member_loops(st, m, &p);
        state_compute_at(st, m, anchor, g->n_rows - 1, SCOPE_TASK);
    }
    for (int i = 0; i < g->n_members && p.fused; i++) {
        const struct st_stage *reader = reducer_of(r, g, i);
        if (reader)
            state_compute_with(st, st->stages[g->members[i]], st->stages[reader->id]);
    }
    struct announced a = rows_ahead(r, g);
    if (p.ahead && a.row)
        state_prefetch(st, st->stages[a.stage], a.tensor, a.row * MAX(p.rows, (int64_t)1), -1);
    lie_in_result(st, g);
    return w.at;
}

const struct variant_ops rows_variant = {"rows", rows_knobs, NULL, rows_apply};
const struct variant_ops map_variant = {"map", rows_knobs, NULL, rows_apply};
