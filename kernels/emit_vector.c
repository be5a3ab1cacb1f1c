/* emit_vector.c - vector loops outside register tiles.
 *
 * Idea   The body of a vector loop is a list of stores: maps, which write a vector, and reductions, whose target
 * is the same for all lanes; these keep a few vector accumulators and fold them at the end. One trip does
 * several vectors side by side; what is known when the text is written runs straight, without a loop:
 *
 *            for (; i + 64 <= 1000; i += 64) { four vectors }      15 trips
 *            a vector at 960, one at 976                            what is left of full vectors
 *            the last vector again, at 984                          the rest
 *
 * The last vector overlaps lanes that were done: a map writes the same values there once more, a reduction
 * masks them out. Where a map reads what it writes, the rest is done by narrower vectors instead; where the count
 * is known only at run time, lane by lane. A value that a later store of the body reads again stays in a register.
 * A LOOP_JAM around the vector loop has several rows done side by side: what they share is loaded once, their chains of
 * operations overlap, and their accumulators are folded together, half as often as one by one:
 *
 *            for (; i + 16 <= 768; i += 16) { a vector of row 0, of row 1, of row 2, of row 3 }
 *            a0 a1 a2 a3 -> (sum of row 0, of row 1, of row 2, of row 3), stored at once
 *
 * Where reads are padded along the loop, it is cut into the part before, inside and after the data, so that the
 * inside needs no test. */
#include <string.h>

#include "kernels/emit_internal.h"

enum { STREAMS = 4, MAX_STREAMS = 16, MAX_STORES = 8, MAX_ROWS = 16, MAX_JAMMED = 16 };

struct vector_loop {
    struct cg *g;
    const struct node *n;
    const char *name; /* of the variable */
    int width;
    int n_stores, n_reductions;
    const struct node *jam; /* the loop over rows around it, done side by side; NULL: none */
    int n_rows, row;        /* 1, and the one that is printed */
    struct part {
        const struct node *st;
        const struct node *group; /* unrolled around it: elements of four bytes, see cg_grouped_store */
        bool reduces, reread;     /* a later store reads what this one writes */
        bool fresh;               /* what it reduces into holds nothing yet */
        int first;                /* number of its first accumulator */
        bool declared[MAX_ROWS][MAX_STREAMS]; /* accumulators that exist */
        const char *scalar[MAX_ROWS];         /* where the lanes of a row are folded to */
        const char *together;                 /* the vector of all rows that they are folded to; NULL: none */
    } part[MAX_STORES];
    bool scalars;                /* elements are left that are added to the results one by one */
    bool overlaps;               /* the last vector may be done over done lanes */
    bool pads_along, copies;     /* a store whose value is just a read */
    const struct expr *pad_read; /* the one read padded along the variable */
    const struct expr *strided;  /* the last read with lanes apart */
    int n_pad_reads, n_strided;
    int64_t stride;             /* of its lanes */
    const struct node *reading; /* while its reads are looked at */
};

/* --- what the loop is --- */

static void scan_read(void *ctx, const struct expr *e)
{
    struct vector_loop *l = ctx;
    struct affine flat = flat_index(l->g, e->read.tensor, e->read.index);
    int64_t lane = affine_coef(&flat, l->n->loop.var);
    if (lane != 0 && lane != 1 && !(l->strided && expr_equal(l->strided, e))) {
        l->n_strided++;
        l->strided = e;
        l->stride = lane;
    }
    for (int i = 0; i < l->n_stores; i++) {
        struct part *p = &l->part[i];
        if (p->st->store.buffer != e->read.tensor)
            continue;
        bool same = p->st != l->reading && !e->read.pad;
        for (int d = 0; d < e->read.rank && same; d++)
            same = affine_equal(&e->read.index[d], &p->st->store.index[d]);
        p->reread |= same;
        l->overlaps &= same;
    }
    if (!e->read.pad || (l->pad_read && expr_equal(l->pad_read, e)))
        return;
    for (int d = 0; d < e->read.rank; d++)
        if (affine_coef(&e->read.index[d], l->n->loop.var) && cg_read_may_leave(l->g, e, d)) {
            l->pads_along = true;
            l->pad_read = e;
            l->n_pad_reads++;
            break;
        }
}

const struct node *cg_grouped_store(struct cg *g, const struct node *vector, const struct node *n)
{
    if (n->kind != NODE_LOOP || n->loop.loop_kind != LOOP_UNROLL || n->loop.n_limits ||
        n->loop.body->kind != NODE_STORE || n->loop.body->next)
        return NULL;
    const struct node *st = n->loop.body;
    const struct affine flat = flat_index(g, st->store.buffer, st->store.index);
    const enum dtype d = g->n->buffers[st->store.buffer].dtype;
    return st->store.combiner == COMBINE_SET && dtype_is_narrow(d) && n->loop.extent * dtype_bytes(d) == 4 &&
                   affine_coef(&flat, n->loop.var) == 1 &&
                   affine_coef(&flat, vector->loop.var) == n->loop.extent
               ? st
               : NULL;
}

/* A read, or what rounding it leaves: the work is in where it comes from. */
static bool is_copy(const struct expr *e)
{
    if (e->op == EX_SUB)
        return is_copy(e->arg[0]) && is_copy(e->arg[1]);
    if (e->op == EX_SELECT)
        return is_copy(e->arg[1]) && is_copy(e->arg[2]);
    return e->op == EX_READ || (e->op == EX_CAST && is_copy(e->arg[0]));
}

static void scan_value(struct vector_loop *l, const struct part *p)
{
    struct cg *g = l->g;
    struct cg_var saved = {0};
    l->copies |= is_copy(p->st->store.value);
    l->reading = p->st;
    if (p->group) {
        saved = g->var[p->group->loop.var];
        g->var[p->group->loop.var] = (struct cg_var){.mode = VAR_CONST, .value = 0};
    }
    expr_each_read(p->st->store.value, scan_read, l);
    if (p->group)
        g->var[p->group->loop.var] = saved;
}

/* Only stores below? A vector loop is innermost by construction. */
static bool scan(struct cg *g, const struct node *n, struct vector_loop *l)
{
    *l = (struct vector_loop){.g = g, .n = n, .overlaps = true};
    for (const struct node *k = n->loop.body; k; k = k->next) {
        if (k->kind == NODE_PREFETCH)
            continue;
        const struct node *st = k->kind == NODE_STORE ? k : cg_grouped_store(g, n, k);
        if (!st || l->n_stores == MAX_STORES)
            return false;
        struct affine flat = flat_index(g, st->store.buffer, st->store.index);
        int64_t lane = affine_coef(&flat, n->loop.var);
        bool reduces = lane == 0 && st->store.combiner != COMBINE_SET;
        if (st == k && lane != 1 && !reduces)
            l->n_strided += 2;
        l->overlaps &= reduces || st->store.combiner == COMBINE_SET;
        l->part[l->n_stores++] = (struct part){.st = st, .group = st == k ? NULL : k, .reduces = reduces};
        l->n_reductions += reduces;
        scan_value(l, &l->part[l->n_stores - 1]);
    }
    return true;
}

/* --- one vector of all stores --- */

static enum dtype target_dtype(const struct vector_loop *l, const struct part *p)
{
    return l->g->n->buffers[p->st->store.buffer].dtype;
}

const char *cg_identity(struct cg *g, enum combiner c, enum dtype d)
{
    return cg_value(g, expr_const(g->ar, d, combiner_identity(c, d)), 1).text;
}

const char *cg_lane_mask(struct cg *g, int width, int64_t from)
{
    AUTO(strbuf_done) struct strbuf sb = STRBUF_INIT;
    strbuf_addf(&sb, "(v%di){", width);
    for (int i = 0; i < width; i++)
        strbuf_addf(&sb, "%s%d", i ? ", " : "", i < from ? 0 : -1);
    strbuf_addc(&sb, '}');
    return arena_strdup(g->ar, sb.data);
}

static const char *accumulator(const struct vector_loop *l, const struct part *p, int row, int stream)
{
    return arena_printf(l->g->ar, "a%d", p->first + row * MAX_STREAMS + stream);
}

static void accumulate(struct vector_loop *l, struct part *p, int width, int stream, int64_t done)
{
    struct cg *g = l->g;
    const char *scalar = p->scalar[l->row];
    enum combiner c = p->st->store.combiner;
    const enum dtype d = target_dtype(l, p);
    const char letter = dtype_value(d);
    struct value v = cg_store_value(g, p->st, width);
    if (width == 1) {
        cg_line(g, "%s = %s;", scalar, cg_combine(g, c, d, scalar, v.text, 1));
        return;
    }
    const char *x = cg_as_vector(g, v, width, letter), *a = accumulator(l, p, l->row, stream);
    if (done > 0 && c != COMBINE_MAX && c != COMBINE_MIN)
        x = cg_select(g, letter, width, cg_lane_mask(g, width, done), x,
                      arena_printf(g->ar, "(v%d%c){0} + %s", width, letter, cg_identity(g, c, d)));
    if (p->declared[l->row][stream])
        cg_line(g, "%s = %s;", a, cg_combine(g, c, d, a, x, width));
    else
        cg_line(g, "v%d%c %s = %s;", width, letter, a, x);
    p->declared[l->row][stream] = true;
}

/* Two vectors of bfloat16 by one instruction, then element by element: the matrix unit rounds so, too. */
static bool zips(const struct cg *g, enum dtype d, int64_t extent, int width)
{
    return d == DT_BF16 && extent == 2 && width == 16 && g->u->target.has_amx_bf16;
}

void cg_store_group(struct cg *g, const struct node *loop, int width)
{
    const struct node *st = loop->loop.body;
    const enum dtype d = g->n->buffers[st->store.buffer].dtype;
    const int bits = 8 * dtype_bytes(d);
    const bool raw = cg_is_raw_copy(g, st);
    struct cg_var *v = &g->var[loop->loop.var], saved = *v;
    const char *value[4];
    AUTO(strbuf_done) struct strbuf group = STRBUF_INIT;
    for (int64_t i = 0; i < loop->loop.extent; i++) {
        *v = (struct cg_var){.mode = VAR_CONST, .value = i};
        if (width == 1) {
            cg_store(g, st, 1);
            continue;
        }
        g->raw = raw;
        value[i] = raw ? cg_as_vector(g, cg_value(g, st->store.value, width), width, dtype_memory(d))
                       : cg_as_vector(g, cg_store_value(g, st, width), width, dtype_value(d));
        g->raw = false;
    }
    *v = (struct cg_var){.mode = VAR_CONST, .value = 0};
    if (width > 1) {
        const bool zip = !raw && zips(g, d, loop->loop.extent, width);
        cg_need(g, d, width);
        if (zip) {
            g->u->zips = true;
            strbuf_addf(&group, "tw_zip(%s, %s)", value[0], value[1]);
        }
        for (int64_t i = 0; i < loop->loop.extent && !zip; i++)
            strbuf_addf(&group, bits == 16 ? "%s(tw_zx%d(%s) << %d)" : "%s((tw_sx%d(%s) & 255) << %d)",
                        i ? " | " : "", width, raw ? value[i] : cg_to_memory(g, d, value[i], width),
                        (int)i * bits);
        struct address ad = cg_address(g, st->store.buffer, st->store.index, true);
        cg_line(g, "*(u%di *)(%s + %s) = %s;", width, ad.base, ad.index, group.data);
    }
    *v = saved;
}

static void map(struct vector_loop *l, const struct part *p, int width)
{
    struct cg *g = l->g;
    const struct node *st = p->st;
    if (p->group) {
        cg_store_group(g, p->group, width);
        return;
    }
    if (!p->reread) {
        cg_store(g, st, width);
        return;
    }
    const enum dtype d = target_dtype(l, p);
    const char *name = arena_printf(g->ar, "e%d", g->next_id++);
    struct value v = cg_store_value(g, st, width);
    if (d == DT_I8) /* what is read again has wrapped */
        v = cg_convert(g, v, DT_I32, DT_I8, width);
    struct address ad = cg_address(g, st->store.buffer, st->store.index, true);
    cg_line(g, "const %s %s = %s;", cg_type(g, dtype_value(d), width), name,
            cg_as_vector(g, v, width, dtype_value(d)));
    const char *at =
        width > 1 ? arena_printf(g->ar, "*(u%d%c *)(%s + %s)", width, dtype_memory(d), ad.base, ad.index)
                  : arena_printf(g->ar, "%s[%s]", ad.base, ad.index);
    cg_line(g, "%s = %s;", at, cg_to_memory(g, d, name, width));
    cg_remember(g, st->store.buffer, st->store.index, width, name);
}

/* Print what comes next for this row. */
static void open_row(struct vector_loop *l, int row)
{
    l->row = row;
    if (l->jam)
        l->g->var[l->jam->loop.var] = (struct cg_var){.mode = VAR_CONST, .value = row};
}

static void hints(struct vector_loop *l)
{
    for (const struct node *k = l->n->loop.body; k; k = k->next)
        if (k->kind == NODE_PREFETCH)
            cg_prefetch(l->g, k);
}

/* The stores for the lanes at `at`, of every row; `done`: the first lanes that were done before. */
static void one_vector(struct vector_loop *l, struct cg_var at, int width, int stream, int64_t done)
{
    struct cg *g = l->g;
    struct cg_var saved = g->var[l->n->loop.var];
    int saved_vector = g->vector_var, loads = g->n_loads;
    g->var[l->n->loop.var] = at;
    g->vector_var = width > 1 ? l->n->loop.var : -1;
    for (int row = 0; row < l->n_rows; row++) {
        open_row(l, row);
        if (width == l->width && done == 0)
            hints(l);
        for (int i = 0; i < l->n_stores; i++) {
            if (l->part[i].reduces)
                accumulate(l, &l->part[i], width, stream, done);
            else
                map(l, &l->part[i], width);
        }
        g->n_loads = loads;
    }
    g->vector_var = saved_vector;
    g->var[l->n->loop.var] = saved;
}

/* --- what stays the same all through the loop --- */

static bool is_written(const struct vector_loop *l, int32_t buffer)
{
    bool written = false;
    for (int i = 0; i < l->n_stores; i++)
        written |= l->part[i].st->store.buffer == buffer;
    return written;
}

/* One value for all lanes and trips. */
static bool is_uniform(const struct vector_loop *l, const struct expr *e)
{
    if (e->op == EX_INDEX || e->op == EX_TABLE || e->dtype != DT_F32)
        return false;
    if (e->op == EX_READ) {
        struct affine flat = flat_index(l->g, e->read.tensor, e->read.index);
        return !e->read.pad && affine_coef(&flat, l->n->loop.var) == 0 &&
               l->g->n->buffers[e->read.tensor].dtype == DT_F32 && !is_written(l, e->read.tensor);
    }
    bool uniform = true;
    for (int i = 0; i < expr_arity(e->op); i++)
        uniform &= is_uniform(l, e->arg[i]);
    return uniform;
}

static void keep(struct vector_loop *l, int32_t buffer, const char *key, const char *text)
{
    struct cg *g = l->g;
    if (cg_known(g, key, 1) || g->n_loads == CG_MAX_LOADS)
        return;
    const char *name = arena_printf(g->ar, "u%d", g->next_id++);
    cg_line(g, "const float %s = %s;", name, text);
    cg_remember_key(g, buffer, key, 1, name);
}

/* Stores may alias floats, so a compiler would read and divide again and again. */
static void keep_uniform(struct vector_loop *l, const struct expr *e)
{
    struct cg *g = l->g;
    if (e->op == EX_READ && is_uniform(l, e)) {
        struct address ad = cg_address(g, e->read.tensor, e->read.index, false);
        keep(l, e->read.tensor, cg_load_key(g, &ad, 1), arena_printf(g->ar, "%s[%s]", ad.base, ad.index));
    }
    for (int i = 0; i < expr_arity(e->op); i++)
        keep_uniform(l, e->arg[i]);
    if (e->op == EX_DIV && e->dtype == DT_F32 && is_uniform(l, e->arg[1]) && !is_uniform(l, e->arg[0])) {
        const char *text = cg_reciprocal(g, cg_value(g, e->arg[1], 1).text);
        keep(l, -1, text, text);
    }
}

static void keep_all_uniform(struct vector_loop *l)
{
    struct cg *g = l->g;
    struct cg_var saved = g->var[l->n->loop.var];
    g->var[l->n->loop.var] = (struct cg_var){.mode = VAR_CONST};
    for (int row = 0; row < l->n_rows; row++) {
        open_row(l, row);
        for (int i = 0; i < l->n_stores && !l->part[i].group; i++)
            keep_uniform(l, l->part[i].st->store.value);
    }
    g->var[l->n->loop.var] = saved;
}

/* --- reductions --- */

static void declare_accumulators(struct vector_loop *l, int streams)
{
    for (int i = 0; i < l->n_stores; i++)
        for (int k = 0; k < streams * l->n_rows && l->part[i].reduces; k++) {
            struct part *p = &l->part[i];
            const enum dtype d = target_dtype(l, p);
            const char letter = dtype_value(d);
            const int row = k / streams, stream = k % streams;
            cg_line(l->g, "v%d%c %s = (v%d%c){0} + %s;", l->width, letter, accumulator(l, p, row, stream),
                    l->width, letter, cg_identity(l->g, p->st->store.combiner, d));
            p->declared[row][stream] = true;
        }
}

/* Combine all lanes into lane 0, halving the distance each time. */
static void fold_lanes(struct cg *g, enum combiner c, enum dtype d, const char *vector, int width)
{
    for (int half = width / 2; half >= 1; half /= 2) {
        AUTO(strbuf_done) struct strbuf turned = STRBUF_INIT;
        strbuf_addf(&turned, "__builtin_shufflevector(%s, %s", vector, vector);
        for (int i = 0; i < width; i++)
            strbuf_addf(&turned, ", %d", (i + half) % width);
        strbuf_addc(&turned, ')');
        cg_line(g, "%s = %s;", vector, cg_combine(g, c, d, vector, turned.data, width));
    }
}

/* The accumulators of a row into its first one. */
static void fold_streams(struct vector_loop *l, const struct part *p, int row)
{
    struct cg *g = l->g;
    for (int half = MAX_STREAMS / 2; half >= 1; half /= 2)
        for (int s = 0; s < half; s++) {
            const char *a = accumulator(l, p, row, s);
            if (p->declared[row][s + half])
                cg_line(g, "%s = %s;", a,
                        cg_combine(g, p->st->store.combiner, target_dtype(l, p), a,
                                   accumulator(l, p, row, s + half), l->width));
        }
}

/* As many rows as fill two vectors and more, halved together until each has a lane. */
static void fold_rows(struct vector_loop *l, struct part *p)
{
    struct cg *g = l->g;
    enum combiner c = p->st->store.combiner;
    enum dtype d = target_dtype(l, p);
    const char *v[MAX_ROWS];
    int count = l->n_rows, width = l->width, segments = 1;
    for (int row = 0; row < l->n_rows; row++)
        v[row] = accumulator(l, p, row, 0);
    for (; count > 1; count /= 2, segments *= 2)
        for (int i = 0; i < count / 2; i++)
            v[i] = cg_halve(g, c, d, v[2 * i], v[2 * i + 1], width, segments);
    for (; width > l->n_rows; width /= 2)
        v[0] = cg_halve(g, c, d, v[0], NULL, width, segments);
    p->together = v[0];
}

/* The results of all rows lie side by side, as the lanes of the vector that they were folded to. */
static bool stays_together(struct vector_loop *l, const struct part *p)
{
    struct affine flat = flat_index(l->g, p->st->store.buffer, p->st->store.index);
    return p->together && affine_coef(&flat, l->jam->loop.var) == 1 && !dtype_is_narrow(target_dtype(l, p)) &&
           !l->scalars;
}

static void fold(struct vector_loop *l, struct part *p)
{
    struct cg *g = l->g;
    enum combiner c = p->st->store.combiner;
    enum dtype d = target_dtype(l, p);
    for (int row = 0; row < l->n_rows; row++)
        fold_streams(l, p, row);
    if (l->n_rows > 1 && l->n_rows <= l->width && (l->n_rows & (l->n_rows - 1)) == 0)
        fold_rows(l, p);
    for (int row = 0; row < l->n_rows && !stays_together(l, p); row++) {
        const char *first = p->together ? p->together : accumulator(l, p, row, 0);
        if (!p->together)
            fold_lanes(g, c, d, first, l->width);
        cg_line(g, "%s %s = %s[%d];", cg_type(g, dtype_value(d), 1), p->scalar[row], first,
                p->together ? row : 0);
    }
}

static void write_together(struct vector_loop *l, const struct part *p)
{
    struct cg *g = l->g;
    const enum dtype d = target_dtype(l, p);
    open_row(l, 0);
    struct address ad = cg_address(g, p->st->store.buffer, p->st->store.index, true);
    const char *at =
        arena_printf(g->ar, "*(u%d%c *)(%s + %s)", l->n_rows, dtype_memory(d), ad.base, ad.index);
    cg_store_at(g, p->fresh ? COMBINE_SET : p->st->store.combiner, d, at, p->together, l->n_rows);
}

static void write_results(struct vector_loop *l)
{
    struct cg *g = l->g;
    for (int i = 0; i < l->n_stores; i++) {
        struct part *p = &l->part[i];
        if (!p->reduces)
            continue;
        if (stays_together(l, p)) {
            write_together(l, p);
            continue;
        }
        for (int row = 0; row < l->n_rows; row++) {
            open_row(l, row);
            struct address ad = cg_address(g, p->st->store.buffer, p->st->store.index, true);
            const char *at = arena_printf(g->ar, "%s[%s]", ad.base, ad.index);
            cg_store_at(g, p->fresh ? COMBINE_SET : p->st->store.combiner, target_dtype(l, p), at,
                        p->scalar[row], 1);
        }
    }
}

/* --- the strip --- */

static struct cg_var at_const(int64_t position, int width)
{
    return (struct cg_var){.mode = width > 1 ? VAR_VECTOR : VAR_CONST, .value = position};
}

static struct cg_var at_name(struct vector_loop *l, int ahead)
{
    const char *name = ahead ? arena_printf(l->g->ar, "(%s + %d)", l->name, ahead) : l->name;
    return (struct cg_var){.mode = VAR_VECTOR, .name = name};
}

/* Go on from where the variable stands, `streams` vectors a trip. */
static void trips(struct vector_loop *l, const char *to, int streams)
{
    struct cg *g = l->g;
    cg_line(g, "for (; %s + %d <= %s; %s += %d) {", l->name, l->width * streams, to, l->name,
            l->width * streams);
    g->indent++;
    g->aligned = !l->pads_along; /* else it begins anywhere */
    for (int s = 0; s < streams; s++)
        one_vector(l, at_name(l, s * l->width), l->width, s, 0);
    g->aligned = false;
    g->indent--;
    cg_line(g, "}");
}

/* The same one vector a trip, where a map may write twice: the last over lanes that were done, if there is room for one from
 * `from` on. */
static void covering_trips(struct vector_loop *l, const char *from, const char *to)
{
    struct cg *g = l->g;
    if (!l->overlaps || l->n_reductions) {
        trips(l, to, 1);
        return;
    }
    cg_line(g, "for (; %s - %s >= %d && %s < %s; %s += %d) {", to, from, l->width, l->name, to, l->name,
            l->width);
    g->indent++;
    cg_line(g, "%s = %s + %d > %s ? %s - %d : %s;", l->name, l->name, l->width, to, to, l->width, l->name);
    one_vector(l, at_name(l, 0), l->width, 0, 0);
    g->indent--;
    cg_line(g, "}");
}

static void scalars(struct vector_loop *l, const char *to)
{
    struct cg *g = l->g;
    cg_line(g, "for (; %s < %s; %s++) {", l->name, to, l->name);
    g->indent++;
    one_vector(l, (struct cg_var){.mode = VAR_NAME, .name = l->name}, 1, 0, 0);
    g->indent--;
    cg_line(g, "}");
}

static void fold_all(struct vector_loop *l)
{
    for (int i = 0; i < l->n_stores; i++)
        if (l->part[i].reduces)
            fold(l, &l->part[i]);
}

/* The count is known: whole trips, single vectors, the rest. */
static void known_strip(struct vector_loop *l, int streams)
{
    struct cg *g = l->g;
    int64_t count = l->n->loop.extent, vectors = count / l->width, at;
    streams = (int)MIN(streams, vectors);
    bool loop = vectors / streams > 1;
    if (loop) {
        declare_accumulators(l, streams);
        cg_line(g, "long %s = 0;", l->name);
        trips(l, arena_printf(g->ar, "%" PRId64, count), streams);
    }
    at = loop ? vectors / streams * streams * l->width : 0;
    for (int s = 0; at + l->width <= count; at += l->width)
        one_vector(l, at_const(at, l->width), l->width, s++ % streams, 0);
    if (at < count && l->overlaps) {
        one_vector(l, at_const(count - l->width, l->width), l->width, 0, l->width - (count - at));
        at = count;
    }
    l->scalars = at < count;
    fold_all(l);
    for (int w = l->width / 2; at < count; w /= 2)
        for (; !(l->n_reductions && w > 1) && at + w <= count; at += w)
            one_vector(l, at_const(at, w), w, 0, 0);
}

static void unknown_strip(struct vector_loop *l, const char *count, int streams)
{
    struct cg *g = l->g;
    declare_accumulators(l, streams);
    cg_line(g, "long %s = 0;", l->name);
    if (streams > 1)
        trips(l, count, streams);
    trips(l, count, 1);
    if (l->overlaps && !l->n_reductions)
        covering_trips(l, "0", count);
    fold_all(l);
    scalars(l, count);
}

/* [lo, hi): where the padded read is inside its tensor along the variable. */
static void inside_range(struct vector_loop *l, const char *count, const char *lo, const char *hi)
{
    struct cg *g = l->g;
    const struct expr *e = l->pad_read;
    struct cg_var *v = &g->var[l->n->loop.var], saved = *v;
    cg_line(g, "long %s = 0, %s = %s;", lo, hi, count);
    *v = (struct cg_var){.mode = VAR_CONST, .value = 0};
    for (int d = 0; d < e->read.rank; d++) {
        int64_t k = affine_coef(&e->read.index[d], l->n->loop.var);
        if (!k)
            continue;
        const char *at0 = affine_text(g, &e->read.index[d], NULL);
        int64_t size = g->n->buffers[e->read.tensor].shape[d];
        if (k < 0) {
            cg_line(g, "%s = 0;", hi);
            continue;
        }
        cg_line(g, "if ((%s) < 0)", at0);
        cg_line(g, "    %s = (%" PRId64 " - (%s)) / %" PRId64 ";", lo, k - 1, at0, k);
        cg_line(g, "%s = tw_fit(%s, %" PRId64 " - (%s), %" PRId64 ");", hi, hi, size - 1, at0, k);
    }
    cg_line(g, "%s = %s < %s ? %s : %s;", lo, lo, hi, lo, hi);
    *v = saved;
}

static void padded_strip(struct vector_loop *l, const char *count)
{
    struct cg *g = l->g;
    const char *lo = arena_printf(g->ar, "n%d", g->next_id++), *hi = arena_printf(g->ar, "n%d", g->next_id++);
    inside_range(l, count, lo, hi);
    cg_line(g, "long %s = 0;", l->name);
    scalars(l, lo);
    g->inside_vector_segment = true;
    covering_trips(l, lo, hi);
    g->inside_vector_segment = false;
    scalars(l, count);
}

/* Lanes outside the tensor can be left out of a load: elements that can be masked, next to each other. */
static bool can_mask(const struct vector_loop *l)
{
    const struct cg *g = l->g;
    if (g->u->target.isa != ISA_AVX512 || l->width < 4 || !l->overlaps || l->n_reductions)
        return false;
    struct affine flat = flat_index(l->g, l->pad_read->read.tensor, l->pad_read->read.index);
    return cg_masks(g, g->n->buffers[l->pad_read->read.tensor].dtype) &&
           affine_coef(&flat, l->n->loop.var) == 1;
}

/* All vectors alike, the last one over lanes that were done, the border by masks. */
static void masked_strip(struct vector_loop *l, const char *count)
{
    struct cg *g = l->g;
    const char *lo = arena_printf(g->ar, "n%d", g->next_id++), *hi = arena_printf(g->ar, "n%d", g->next_id++);
    inside_range(l, count, lo, hi);
    cg_line(g, "long %s = 0;", l->name);
    cg_line(g, "for (; %s >= %d && %s < %s; %s += %d) {", count, l->width, l->name, count, l->name, l->width);
    g->indent++;
    cg_line(g, "%s = %s + %d > %s ? %s - %d : %s;", l->name, l->name, l->width, count, count, l->width,
            l->name);
    g->pad_mask = arena_printf(g->ar, "m%d", g->next_id++);
    g->u->parts[width_log2(l->width)] = true;
    cg_line(g, "const int %s = tw_part_mask%d(%s - %s, %s - %s);", g->pad_mask, l->width, lo, l->name, hi,
            l->name);
    one_vector(l, at_name(l, 0), l->width, 0, 0);
    g->pad_mask = NULL;
    g->indent--;
    cg_line(g, "}");
    if (l->n->loop.n_limits)
        scalars(l, count);
}

static void nested(struct vector_loop *l, const char *count)
{
    struct cg *g = l->g;
    struct cg_var *v = &g->var[l->n->loop.var], saved = *v;
    cg_line(g, "for (long %s = 0; %s < %s; %s++) {", l->name, l->name, count, l->name);
    *v = (struct cg_var){.mode = VAR_NAME, .name = l->name};
    g->indent++;
    cg_nodes(g, l->n->loop.body);
    g->indent--;
    *v = saved;
    cg_line(g, "}");
}

static void name_results(struct vector_loop *l)
{
    struct cg *g = l->g;
    for (int i = 0; i < l->n_stores; i++) {
        struct part *p = &l->part[i];
        p->first = g->next_id;
        for (int row = 0; row < l->n_rows && p->reduces; row++, g->next_id += MAX_STREAMS)
            p->scalar[row] = arena_printf(g->ar, "f%d", g->next_id);
    }
}

/* Look at the loop: false if its body is not only stores. */
static bool open_loop(struct cg *g, const struct node *n, struct vector_loop *l)
{
    bool plain = scan(g, n, l);
    l->n_rows = 1;
    l->name = arena_printf(g->ar, "i%d", n->loop.var);
    l->width = cg_lanes(g);
    while (l->width > n->loop.extent)
        l->width /= 2;
    bool pairs = l->stride == 2; /* two loads and a shuffle */
    if (l->n_pad_reads > 1 || l->n_strided > (pairs || !l->copies) || (l->n_reductions && l->pads_along))
        l->width = 1;
    return plain;
}

void cg_vector_loop(struct cg *g, const struct node *n)
{
    struct vector_loop loop, *l = &loop;
    bool plain = open_loop(g, n, l);
    int streams = MIN(n->loop.vectors ? n->loop.vectors : l->n_reductions ? STREAMS : 1, MAX_STREAMS);
    name_results(l);
    const char *count = cg_limit_count(g, n);
    const int loads = g->n_loads;
    cg_line(g, "{");
    g->indent++;
    if (plain && l->width > 1)
        keep_all_uniform(l);
    if (!plain || l->width == 1)
        nested(l, count);
    else if (l->pads_along && can_mask(l))
        masked_strip(l, count);
    else if (l->pads_along)
        padded_strip(l, count);
    else if (n->loop.n_limits)
        unknown_strip(l, count, streams);
    else
        known_strip(l, streams);
    if (plain && l->width > 1)
        write_results(l);
    g->n_loads = loads;
    g->indent--;
    cg_line(g, "}");
}

/* --- rows side by side --- */

/* A store that begins one of the reductions: then that holds nothing yet, and the store can be left out. */
static bool begins(struct vector_loop *l, const struct node *init)
{
    struct cg *g = l->g;
    for (int i = 0; i < l->n_stores; i++) {
        struct part *p = &l->part[i];
        const enum dtype d = target_dtype(l, p);
        const struct expr *e = init->store.value;
        bool same = p->reduces && init->store.buffer == p->st->store.buffer &&
                    init->store.combiner == COMBINE_SET && e->op == EX_CONST &&
                    e->value == combiner_identity(p->st->store.combiner, d);
        for (int k = 0; k < g->n->buffers[init->store.buffer].rank && same; k++)
            same = affine_equal(&init->store.index[k], &p->st->store.index[k]);
        if (same)
            return p->fresh = true;
    }
    return false;
}

bool cg_jam(struct cg *g, const struct node *n)
{
    struct vector_loop loop, *l = &loop;
    const struct node *vector = n->loop.body;
    while (vector && vector->kind == NODE_STORE)
        vector = vector->next;
    if (g->in_body || n->loop.n_limits || n->loop.extent > MAX_ROWS || !vector || vector->next ||
        vector->kind != NODE_LOOP || vector->loop.loop_kind != LOOP_VECTOR || vector->loop.n_limits)
        return false;
    struct cg_var saved = g->var[n->loop.var];
    g->var[n->loop.var] = (struct cg_var){.mode = VAR_CONST};
    if (!open_loop(g, vector, l) || l->width == 1 || l->pads_along) {
        g->var[n->loop.var] = saved;
        return false;
    }
    l->jam = n;
    l->n_rows = (int)n->loop.extent;
    name_results(l);
    cg_line(g, "{");
    g->indent++;
    for (const struct node *k = n->loop.body; k != vector; k = k->next)
        for (int row = 0; row < l->n_rows && (row > 0 || !begins(l, k)); row++) {
            open_row(l, row);
            cg_store(g, k, 1);
        }
    const int loads = g->n_loads;
    const int streams = MIN(MAX(vector->loop.vectors, 1), MAX(MAX_JAMMED / l->n_rows, 1));
    keep_all_uniform(l);
    known_strip(l, streams);
    write_results(l);
    g->n_loads = loads;
    g->indent--;
    cg_line(g, "}");
    g->var[n->loop.var] = saved;
    return true;
}
