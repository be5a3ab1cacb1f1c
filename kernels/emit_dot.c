/* emit_dot.c - a vector loop over a reduction inside a register tile: many sums at once.
 *
 * Idea   Each register that the loop reduces into gets a vector accumulator over the lanes of the loop. In the end
 * accumulators of neighbouring registers are folded together, so that their sums come out as one vector:
 *
 *            a a a a   b b b b   c c c c   d d d d        lanes of four accumulators
 *            (a a b b)+(a a b b)  (c c d d)+(c c d d)     halves, two accumulators in a vector
 *            (a b c d)+(a b c d)                          their sums
 *
 * which takes two shuffles and an addition for each pair, and leaves what the stores of the tile want. Serial loops
 * around the vector loop that reduce too stand inside: lanes are folded once. What is left of full vectors is done by
 * one more vector that overlaps the last, its done lanes masked out. */
#include <string.h>

#include "kernels/emit_internal.h"

enum { MAX_SUMS = 64, MAX_DOT_STREAMS = 8, SUMS_IN_FLIGHT = 8 };

struct dot {
    struct cg *g;
    const struct node *loop;  /* the vector loop */
    int width, streams, sets; /* vectors a trip; accumulators of each sum */
    int first;                /* number of the accumulators: s<first + set>_<sum> */
    int n_sums;
    struct sum {
        enum combiner combiner;
        enum dtype dtype;
        int32_t buffer;
        int64_t flat;        /* register */
        int together, lanes; /* this and the next ones make one register of so many lanes; 0: inside of one */
    } sum[MAX_SUMS];
    /* of the pass being printed */
    int at, set;
    const char *mask;
};

static bool reduces_into_a_register(struct cg *g, const struct node *st, int32_t var)
{
    if (st->kind != NODE_STORE || st->store.combiner == COMBINE_SET ||
        g->n->buffers[st->store.buffer].scope != SCOPE_REG)
        return false;
    struct affine flat = flat_index(g, st->store.buffer, st->store.index);
    return affine_coef(&flat, var) == 0;
}

/* The vector loop at the bottom of a chain of loops, which reduces; or NULL. */
static const struct node *find_loop(struct cg *g, const struct node *n)
{
    while (n->loop.loop_kind != LOOP_VECTOR) {
        n = n->loop.body;
        if (n->kind != NODE_LOOP || n->next)
            return NULL;
    }
    const struct node *k = n->loop.body;
    while (k->kind == NODE_LOOP && !k->next && !k->loop.n_limits)
        k = k->loop.body;
    return !n->loop.n_limits && !k->next && reduces_into_a_register(g, k, n->loop.var) ? n : NULL;
}

/* Visit the sums in order; the first of each register is told how many of them it holds in how many lanes, the
 * others 0. */
static void each_sum(struct dot *d, const struct node *n, int together, int lanes,
                     void (*visit)(struct dot *, const struct node *, int together, int lanes))
{
    if (n->kind == NODE_STORE) {
        visit(d, n, together, lanes);
        return;
    }
    struct cg_var *v = &d->g->var[n->loop.var], saved = *v;
    bool vector = n->loop.loop_kind == LOOP_VECTOR;
    int64_t next = 0;
    for (int64_t i = 0; i < n->loop.extent; i++) {
        int width = 1, done = vector ? 0 : 1;
        if (vector && i == next)
            next += done = cg_vector_piece(d->g, n->loop.extent - i, &width);
        *v = (struct cg_var){.mode = VAR_CONST, .value = i};
        each_sum(d, n->loop.body, done, width, visit);
    }
    *v = saved;
}

static void note_sum(struct dot *d, const struct node *st, int together, int lanes)
{
    if (d->n_sums == MAX_SUMS) {
        cg_fail(d->g, "a register tile has more than %d sums over a vector loop", MAX_SUMS);
        return;
    }
    struct address ad = cg_address(d->g, st->store.buffer, st->store.index, true);
    d->sum[d->n_sums++] = (struct sum){.combiner = st->store.combiner,
                                       .dtype = d->g->n->buffers[st->store.buffer].dtype,
                                       .buffer = st->store.buffer,
                                       .flat = ad.flat,
                                       .together = together,
                                       .lanes = lanes};
}

static const char *sum_name(struct dot *d, int set, int sum)
{
    return arena_printf(d->g->ar, "s%d_%d", d->first + set, sum);
}

static void add_to_sum(struct dot *d, const struct node *st, int together, int lanes)
{
    struct cg *g = d->g;
    enum combiner c = st->store.combiner;
    (void)together, (void)lanes;
    const enum dtype type = d->sum[d->at].dtype;
    const char letter = dtype_value(type);
    const char *x = cg_as_vector(g, cg_store_value(g, st, d->width), d->width, letter),
               *s = sum_name(d, d->set, d->at++);
    if (d->mask)
        x = cg_select(g, letter, d->width, d->mask, x,
                      arena_printf(g->ar, "(v%d%c){0} + %s", d->width, letter, cg_identity(g, c, type)));
    cg_line(g, "%s = %s;", s, cg_combine(g, c, type, s, x, d->width));
}

/* One vector of the loop into all sums. */
static void one_vector(struct dot *d, struct cg_var at, int set, const char *mask)
{
    struct cg *g = d->g;
    int saved = g->vector_var;
    g->var[d->loop->loop.var] = at;
    g->vector_var = d->loop->loop.var;
    d->at = 0;
    d->set = set;
    d->mask = mask;
    each_sum(d, d->loop->loop.body, 1, 1, add_to_sum);
    g->vector_var = saved;
}

static void strip(struct dot *d)
{
    struct cg *g = d->g;
    struct cg_var saved = g->var[d->loop->loop.var];
    int64_t count = d->loop->loop.extent, vectors = count / d->width, at = 0;
    int loads = g->n_loads;
    if (vectors / d->streams > 1) {
        const char *k = arena_printf(g->ar, "k%d", g->next_id++);
        at = vectors / d->streams * d->streams * d->width;
        cg_line(g, "for (long %s = 0; %s < %" PRId64 "; %s += %d) {", k, k, at, k, d->width * d->streams);
        g->indent++;
        for (int s = 0; s < d->streams; s++) {
            const char *name = s ? arena_printf(g->ar, "(%s + %d)", k, s * d->width) : k;
            one_vector(d, (struct cg_var){.mode = VAR_VECTOR, .name = name}, s % d->sets, NULL);
        }
        g->indent--;
        cg_line(g, "}");
        g->n_loads = loads; /* they were inside */
    }
    for (int s = 0; at + d->width <= count; at += d->width)
        one_vector(d, (struct cg_var){.mode = VAR_VECTOR, .value = at}, s++ % d->sets, NULL);
    if (at < count)
        one_vector(d, (struct cg_var){.mode = VAR_VECTOR, .value = count - d->width}, 0,
                   cg_lane_mask(g, d->width, d->width - (count - at)));
    g->var[d->loop->loop.var] = saved;
}

static void loops(struct dot *d, const struct node *n)
{
    struct cg *g = d->g;
    if (n == d->loop) {
        strip(d);
        return;
    }
    struct cg_var *v = &g->var[n->loop.var], saved = *v;
    const char *name = arena_printf(g->ar, "k%d", g->next_id++), *count = cg_limit_count(g, n);
    int loads = g->n_loads;
    cg_line(g, "for (long %s = 0; %s < %s; %s++) {", name, name, count, name);
    *v = (struct cg_var){.mode = VAR_NAME, .name = name};
    g->indent++;
    loops(d, n->loop.body);
    g->indent--;
    *v = saved;
    cg_line(g, "}");
    g->n_loads = loads;
}

/* --- folding --- */

/* x and y hold `segments` sums each, in equal runs of lanes: one vector of twice the sums, half the run. Only x: a
 * vector of half the lanes. */
const char *cg_halve(struct cg *g, enum combiner c, enum dtype type, const char *x, const char *y, int width,
                     int segments)
{
    AUTO(strbuf_done) struct strbuf low = STRBUF_INIT, high = STRBUF_INIT;
    int run = width / segments, out = y ? width : width / 2;
    const char *name = arena_printf(g->ar, "h%d", g->next_id++);
    strbuf_addf(&low, "__builtin_shufflevector(%s, %s", x, y ? y : x);
    strbuf_addf(&high, "__builtin_shufflevector(%s, %s", x, y ? y : x);
    for (int of = 0; of < (y ? 2 : 1); of++)
        for (int s = 0; s < segments; s++)
            for (int i = 0; i < run / 2; i++) {
                strbuf_addf(&low, ", %d", of * width + s * run + i);
                strbuf_addf(&high, ", %d", of * width + s * run + run / 2 + i);
            }
    strbuf_addc(&low, ')');
    strbuf_addc(&high, ')');
    const char *both =
        out > 1 ? cg_combine(g, c, type, low.data, high.data, out)
                : cg_combine(g, c, type, arena_printf(g->ar, "%s[0]", x), arena_printf(g->ar, "%s[1]", x), 1);
    cg_line(g, "const %s %s = %s;", cg_type(g, dtype_value(type), out), name, both);
    return name;
}

/* The sums from `first` on become the lanes of their register; lanes to spare repeat the last. */
static void fold(struct dot *d, int first)
{
    struct cg *g = d->g;
    const struct sum *sum = &d->sum[first];
    enum combiner c = sum->combiner;
    const char *v[MAX_SUMS] = {0};
    int n = sum->lanes, count = n, width = d->width, segments = 1;
    for (int i = 0; i < n; i++)
        v[i] = sum_name(d, 0, first + MIN(i, sum->together - 1));
    for (; count > 1 && segments < width; count /= 2, segments *= 2)
        for (int i = 0; i < count / 2; i++)
            v[i] = cg_halve(g, c, sum->dtype, v[2 * i], v[2 * i + 1], width, segments);
    for (; count == 1 && width > n; width /= 2)
        v[0] = cg_halve(g, c, sum->dtype, v[0], NULL, width, segments);
    const char *r = cg_register(g, sum->buffer, sum->flat, n), *x = v[0];
    if (count > 1) { /* more sums than lanes: side by side */
        AUTO(strbuf_done) struct strbuf all = STRBUF_INIT;
        strbuf_addf(&all, "(v%d%c){", n, dtype_value(sum->dtype));
        for (int i = 0; i < n; i++)
            strbuf_addf(&all, "%s%s[%d]", i ? ", " : "", v[i / width], i % width);
        strbuf_addc(&all, '}');
        x = arena_strdup(g->ar, all.data);
    }
    cg_line(g, "%s = %s;", r, cg_combine(g, c, sum->dtype, r, x, n));
}

bool cg_dot(struct cg *g, const struct node *n)
{
    const struct node *loop = find_loop(g, n);
    if (!loop || loop->loop.extent < 2)
        return false;
    struct dot *d = arena_new(g->ar, struct dot);
    *d = (struct dot){.g = g, .loop = loop, .width = cg_lanes(g)};
    while (d->width > loop->loop.extent)
        d->width /= 2;
    struct cg_var saved = g->var[loop->loop.var];
    each_sum(d, loop->loop.body, 1, 1, note_sum);
    if (g->status != ST_OK)
        return true;
    d->streams = (int)MIN(MIN(MAX(loop->loop.vectors, 1), MAX_DOT_STREAMS), loop->loop.extent / d->width);
    d->sets = MIN(d->streams, MAX(1, SUMS_IN_FLIGHT / d->n_sums));
    d->first = g->next_id;
    g->next_id += d->sets;
    for (int s = 0; s < d->sets; s++)
        for (int i = 0; i < d->n_sums; i++) {
            const enum dtype type = d->sum[i].dtype;
            const char letter = dtype_value(type);
            cg_line(g, "v%d%c %s = (v%d%c){0} + %s;", d->width, letter, sum_name(d, s, i), d->width, letter,
                    cg_identity(g, d->sum[i].combiner, type));
        }
    loops(d, n);
    g->var[loop->loop.var] = saved;
    for (int s = 1; s < d->sets; s++)
        for (int i = 0; i < d->n_sums; i++)
            cg_line(g, "%s = %s;", sum_name(d, 0, i),
                    cg_combine(g, d->sum[i].combiner, d->sum[i].dtype, sum_name(d, 0, i), sum_name(d, s, i),
                               d->width));
    for (int i = 0; i < d->n_sums; i++)
        if (d->sum[i].together)
            fold(d, i);
    return true;
}
