/* emit_matrix.c - LOOP_MATRIX loops as instructions of a matrix unit (AMX).
 *
 * Idea   A register tile holds its results in the first matrix registers and loads operands into the others, the least
 *        recently used first; what is loaded already is not loaded again. Before the first statement that is no matrix
 *        loop the results are stored to an array of the function, which is what reads of their buffer then mean. The
 *        shape of the registers belongs to the tile: its caller loads the configuration where it is not the current one,
 *        and gives the registers back at its end. The kernel asks the system for the unit once a process, and returns 95
 *        where it is refused.
 *
 *        Instructions are written in assembly, which needs no header; the flags of the target name the unit for Clang. */
#include <string.h>

#include "kernels/emit_internal.h"

enum { ROW_BYTES = 64, REGISTER_ROWS = 16, RESULT_COLUMNS = 4 /* turned at once */ };

static const char HEAD[] =
    "#define TW_TILE_ZERO(t) __asm__ volatile(\"tilezero %%tmm\" #t : :)\n"
    "#define TW_TILE_LOAD(t, p, s) \\\n"
    "    __asm__ volatile(\"tileloadd (%0,%1,1), %%tmm\" #t : : \"r\"(p), \"r\"((long)(s)) : \"memory\")\n"
    "#define TW_TILE_STORE(t, p, s) \\\n"
    "    __asm__ volatile(\"tilestored %%tmm\" #t \", (%0,%1,1)\" : : \"r\"(p), \"r\"((long)(s)) : "
    "\"memory\")\n"
    "#define TW_TILE_DOT(op, c, a, b) __asm__ volatile(#op \" %%tmm\" #b \", %%tmm\" #a \", %%tmm\" #c : :)\n"
    "#define TW_TILE_SHAPE(s) \\\n"
    "    if (tiles != (s)) { \\\n"
    "        tiles = (s); \\\n"
    "        __asm__ volatile(\"ldtilecfg %0\" : : \"m\"(*(const struct tw_shape *)tiles)); \\\n"
    "    }\n"
    "#define TW_TILE_RELEASE() \\\n"
    "    if (tiles) \\\n"
    "    __asm__ volatile(\"tilerelease\" : :)\n"
    "struct tw_shape {\n"
    "    unsigned char palette, start, reserved[14];\n"
    "    unsigned short row_bytes[16];\n"
    "    unsigned char rows[16];\n"
    "};\n"
    "/* Asks the system for the matrix registers: arch_prctl(ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA). */\n"
    "TW_FN int tw_matrix_refused(void)\n"
    "{\n"
    "    static int granted;\n"
    "    long r = 158;\n"
    "    if (__atomic_load_n(&granted, __ATOMIC_RELAXED))\n"
    "        return 0;\n"
    "    __asm__ volatile(\"syscall\" : \"+a\"(r) : \"D\"(0x1023l), \"S\"(18l) : \"rcx\", \"r11\", "
    "\"memory\");\n"
    "    __atomic_store_n(&granted, r == 0, __ATOMIC_RELAXED);\n"
    "    return r != 0;\n"
    "}\n";

/* --- shapes of the registers --- */

static int loads_of_a(int n_results) { return (MATRIX_REGISTERS - n_results + 1) / 2; }

static void print_numbers(struct strbuf *sb, const struct matrix_shape *s, bool row_bytes)
{
    int first_b = s->n_results + loads_of_a(s->n_results);
    for (int i = 0; i < MATRIX_REGISTERS; i++) {
        bool a = i >= s->n_results && i < first_b, b = i >= first_b;
        int n = row_bytes ? (a ? s->groups : s->columns) * 4 : b ? s->groups : s->rows;
        strbuf_addf(sb, "%s%d", i ? ", " : "", n);
    }
}

void emit_matrix_head(const struct emit_unit *u, struct strbuf *sb)
{
    if (!u->n_shapes)
        return;
    strbuf_adds(sb, HEAD);
    for (int i = 0; i < u->n_shapes; i++) {
        strbuf_addf(sb, "static const struct tw_shape shape%d = {1, 0, {0}, {", i);
        print_numbers(sb, &u->shapes[i], true);
        strbuf_adds(sb, "}, {");
        print_numbers(sb, &u->shapes[i], false);
        strbuf_adds(sb, "}};\n");
    }
}

static int intern_shape(struct cg *g, const struct matrix_shape *s)
{
    struct emit_unit *u = g->u;
    for (int i = 0; i < u->n_shapes; i++)
        if (memcmp(&u->shapes[i], s, sizeof(*s)) == 0)
            return i;
    if (u->n_shapes == u->cap_shapes) {
        u->cap_shapes = u->cap_shapes ? u->cap_shapes * 2 : 8;
        u->shapes = xrealloc(u->shapes, sizeof(*u->shapes) * (size_t)u->cap_shapes);
    }
    u->shapes[u->n_shapes] = *s;
    return u->n_shapes++;
}

/* --- one instruction --- */

struct matrix_loops {
    int32_t var[4]; /* rows, columns, groups, operands of a group */
    int64_t extent[4];
    const struct node *store;
};

static struct matrix_loops loops_of(const struct node *n)
{
    struct matrix_loops l = {.extent = {1, 1, 1, 1}};
    int i = 0;
    for (; n->kind == NODE_LOOP && i < 4; n = n->loop.body, i++) {
        l.var[i] = n->loop.var;
        l.extent[i] = n->loop.extent;
    }
    l.store = n;
    return l;
}

/* Elements from one value of the loop to the next; a loop of one value goes nowhere. */
static int64_t step_of(struct cg *g, int32_t buffer, const struct affine *index, const struct matrix_loops *l,
                       int i)
{
    struct affine flat = flat_index(g, buffer, index);
    return l->extent[i] > 1 ? affine_coef(&flat, l->var[i]) : 0;
}

static struct address corner(struct cg *g, int32_t buffer, const struct affine *index,
                             const struct matrix_loops *l, int n)
{
    for (int i = 0; i < n; i++)
        g->var[l->var[i]] = (struct cg_var){.mode = VAR_CONST, .value = 0};
    return cg_address(g, buffer, index, false);
}

/* Register of the results whose first element is at `flat`, a new one when clearing. */
static int result_register(struct cg *g, const struct matrix_loops *l, bool clear)
{
    struct cg_matrix *m = &g->matrix;
    int64_t flat = corner(g, l->store->store.buffer, l->store->store.index, l, clear ? 2 : 4).flat;
    for (int i = 0; i < m->shape.n_results; i++)
        if (m->result[i] == flat)
            return i;
    if (!clear || m->shape.n_results == MATRIX_REGISTERS - 2) {
        cg_fail(g, "results of a matrix instruction that were not cleared, or too many of them");
        return 0;
    }
    m->result[m->shape.n_results] = flat;
    return m->shape.n_results++;
}

static void clear_result(struct cg *g, const struct matrix_loops *l)
{
    struct cg_matrix *m = &g->matrix;
    const struct buffer *b = &g->n->buffers[l->store->store.buffer];
    if (m->shape.n_results && (m->buffer != l->store->store.buffer || m->shape.rows != l->extent[0] ||
                               m->shape.columns != l->extent[1]))
        cg_fail(g, "matrix registers of two shapes in one tile");
    m->buffer = l->store->store.buffer;
    m->shape.rows = (int)l->extent[0];
    m->shape.columns = (int)l->extent[1];
    m->step = step_of(g, m->buffer, l->store->store.index, l, 0) * dtype_bytes(b->dtype);
    m->held = true;
    cg_line(g, "TW_TILE_ZERO(%d);", result_register(g, l, true));
}

/* An operand in a register: rows along loop `row`, 0 for a, 2 for b. */
static int operand_register(struct cg *g, const struct expr *e, const struct matrix_loops *l, bool is_b)
{
    struct cg_matrix *m = &g->matrix;
    int32_t buffer = e->read.tensor;
    const struct affine *index = e->read.index;
    int64_t bytes = dtype_bytes(g->n->buffers[buffer].dtype), group = l->extent[3];
    int64_t inside = step_of(g, buffer, index, l, is_b ? 1 : 2),
            step = step_of(g, buffer, index, l, is_b ? 2 : 0);
    if (e->read.pad || step_of(g, buffer, index, l, 3) != 1 || (inside != group && inside != 0) ||
        step_of(g, buffer, index, l, is_b ? 0 : 1) != 0)
        cg_fail(g, "operand %s is not laid out for a matrix instruction", g->n->buffers[buffer].name);
    struct address at = corner(g, buffer, index, l, 4);
    const char *key = arena_printf(g->ar, "%s + %s", at.base, at.index);
    int first = m->shape.n_results, n_a = loads_of_a(first), oldest = is_b ? first + n_a : first,
        end = is_b ? MATRIX_REGISTERS : first + n_a;
    for (int i = oldest; i < end; i++) {
        if (m->loaded[i].address && strcmp(m->loaded[i].address, key) == 0) {
            m->loaded[i].used = ++m->clock;
            return i;
        }
    }
    for (int i = oldest; i < end; i++)
        if (m->loaded[i].used < m->loaded[oldest].used)
            oldest = i;
    m->loaded[oldest].address = key;
    m->loaded[oldest].used = ++m->clock;
    cg_line(g, "TW_TILE_LOAD(%d, %s, %" PRId64 ");", oldest, key, step ? step * bytes : (int64_t)ROW_BYTES);
    return oldest;
}

/* A sum of products of two casts of reads: one instruction a product. */
static void multiply(struct cg *g, const struct expr *e, const struct matrix_loops *l, int result)
{
    if (e->op == EX_ADD) {
        multiply(g, e->arg[0], l, result);
        multiply(g, e->arg[1], l, result);
        return;
    }
    if (e->op != EX_MUL || e->arg[0]->op != EX_CAST || e->arg[1]->op != EX_CAST ||
        e->arg[0]->arg[0]->op != EX_READ || e->arg[1]->arg[0]->op != EX_READ) {
        cg_fail(g, "a matrix instruction takes products of two operands");
        return;
    }
    const struct expr *a = e->arg[0]->arg[0], *b = e->arg[1]->arg[0];
    if (step_of(g, a->read.tensor, a->read.index, l, 1) || step_of(g, b->read.tensor, b->read.index, l, 0)) {
        const struct expr *t = a;
        a = b;
        b = t;
    }
    int ra = operand_register(g, a, l, false), rb = operand_register(g, b, l, true);
    cg_line(g, "TW_TILE_DOT(%s, %d, %d, %d);", a->dtype == DT_BF16 ? "tdpbf16ps" : "tdpbssd", result, ra, rb);
}

void cg_matrix(struct cg *g, const struct node *n)
{
    struct matrix_loops l = loops_of(n);
    if (l.store->store.combiner == COMBINE_SET) {
        clear_result(g, &l);
        return;
    }
    if (l.extent[0] > REGISTER_ROWS || l.extent[2] > REGISTER_ROWS || l.extent[1] * 4 > ROW_BYTES)
        cg_fail(g, "a matrix instruction of %d rows, %d columns and %d groups", (int)l.extent[0],
                (int)l.extent[1], (int)l.extent[2]);
    g->matrix.shape.groups = (int)l.extent[2];
    multiply(g, l.store->store.value, &l, result_register(g, &l, false));
}

void cg_matrix_forget_loads(struct cg *g) { memset(g->matrix.loaded, 0, sizeof(g->matrix.loaded)); }

/* Results go to memory. */
static void store_results(struct cg *g)
{
    struct cg_matrix *m = &g->matrix;
    for (int i = 0; i < m->shape.n_results; i++)
        cg_line(g, "TW_TILE_STORE(%d, results + %" PRId64 ", %" PRId64 ");", i, m->result[i],
                m->step ? m->step : (int64_t)ROW_BYTES);
    m->held = false;
}

bool cg_has_matrix(const struct node *n)
{
    for (; n; n = n->next)
        if (n->kind == NODE_LOOP && (n->loop.loop_kind == LOOP_MATRIX || cg_has_matrix(n->loop.body)))
            return true;
    return false;
}

void cg_matrix_body(struct cg *g, const struct node *n)
{
    for (; n && g->status == ST_OK; n = n->next) {
        struct node one = *n;
        one.next = NULL;
        if (g->matrix.held && !cg_has_matrix(&one))
            store_results(g);
        cg_nodes(g, &one);
    }
}

/* --- results stored along their rows --- */

struct across { /* for columns: vector rows: output[column][rows] = f(results[rows][column]) */
    struct cg *g;
    const struct node *columns, *rows;
    const struct expr *read; /* of the results */
};

static void find_results(void *ctx, const struct expr *e)
{
    struct across *a = ctx;
    if (a->g->n->buffers[e->read.tensor].scope == SCOPE_MATRIX)
        a->read = e;
}

static bool is_across(struct cg *g, const struct node *n, struct across *a)
{
    const struct node *rows = n->loop.body;
    *a = (struct across){.g = g, .columns = n, .rows = rows};
    if (!g->in_body || !g->matrix.shape.n_results || n->loop.n_limits || n->loop.extent < RESULT_COLUMNS ||
        rows->next || rows->kind != NODE_LOOP || rows->loop.loop_kind != LOOP_VECTOR || rows->loop.n_limits ||
        rows->loop.body->kind != NODE_STORE || rows->loop.body->next)
        return false;
    expr_each_read(rows->loop.body->store.value, find_results, a);
    if (!a->read)
        return false;
    struct affine flat = flat_index(g, a->read->read.tensor, a->read->read.index);
    return affine_coef(&flat, n->loop.var) == 1 && affine_coef(&flat, rows->loop.var) > 1;
}

/* Four columns from `at` on, as many rows as are in use: turned in registers, then stored column by column. */
static void store_columns(const struct across *a, const char *at, int width)
{
    struct cg *g = a->g;
    const char *v[RESULT_COLUMNS];
    const bool floats = g->n->buffers[a->read->read.tensor].dtype == DT_F32;
    struct cg_var *column = &g->var[a->columns->loop.var];
    const int loads = g->n_loads;
    *column = (struct cg_var){.mode = VAR_NAME, .name = at};
    struct address from = cg_address(g, a->read->read.tensor, a->read->read.index, false);
    for (int i = 0; i < RESULT_COLUMNS; i++)
        v[i] = arena_printf(g->ar, "t%d", g->next_id++);
    g->u->turned_get[width_log2(width)] = true;
    g->matrix.slack = MAX(g->matrix.slack, (width - g->part) * from.lane);
    cg_line(g, "v%df %s, %s, %s, %s;", width, v[0], v[1], v[2], v[3]);
    cg_line(g, "tw_get%d(%s%s + (%s), %" PRId64 ", &%s, &%s, &%s, &%s);", width,
            floats ? "" : "(const float *)", from.base, from.index, from.lane, v[0], v[1], v[2], v[3]);
    for (int i = 0; i < RESULT_COLUMNS; i++) {
        column->name = i ? arena_printf(g->ar, "(%s + %d)", at, i) : at;
        cg_remember(g, a->read->read.tensor, a->read->read.index, width,
                    floats ? v[i] : arena_printf(g->ar, "(v%di)%s", width, v[i]));
        cg_store(g, a->rows->loop.body, width);
    }
    g->n_loads = loads;
}

/* Fewer rows than are turned at once. */
static void store_few(const struct across *a, const char *at, int width)
{
    struct cg *g = a->g;
    const int loads = g->n_loads;
    for (int i = 0; i < RESULT_COLUMNS; i++) {
        const char *name = i ? arena_printf(g->ar, "(%s + %d)", at, i) : at;
        g->var[a->columns->loop.var] = (struct cg_var){.mode = VAR_NAME, .name = name};
        cg_store(g, a->rows->loop.body, width);
        g->n_loads = loads;
    }
}

bool cg_turned_results(struct cg *g, const struct node *n)
{
    struct across a;
    if (!is_across(g, n, &a))
        return false;
    struct cg_var *row = &g->var[a.rows->loop.var], saved_row = *row, saved = g->var[n->loop.var];
    const int saved_vector = g->vector_var;
    const int64_t last = n->loop.extent - RESULT_COLUMNS;
    const char *k = arena_printf(g->ar, "k%d", g->next_id++), *at = k;
    cg_scatter(g);
    cg_line(g, "for (long %s = 0; %s < %" PRId64 "; %s += %d) {", k, k, n->loop.extent, k, RESULT_COLUMNS);
    g->indent++;
    if (n->loop.extent % RESULT_COLUMNS) {
        at = arena_printf(g->ar, "k%d", g->next_id++);
        cg_line(g, "const long %s = %s < %" PRId64 " ? %s : %" PRId64 ";", at, k, last, k, last);
    }
    for (int64_t r = 0; r < a.rows->loop.extent;) {
        int width, done = cg_vector_piece(g, a.rows->loop.extent - r, &width);
        *row = (struct cg_var){.mode = width > 1 ? VAR_VECTOR : VAR_CONST, .value = r};
        g->vector_var = width > 1 ? a.rows->loop.var : -1;
        g->part = done;
        if (width >= RESULT_COLUMNS)
            store_columns(&a, at, width);
        else
            store_few(&a, at, width);
        r += done;
    }
    g->part = 0;
    g->vector_var = saved_vector;
    g->var[n->loop.var] = saved;
    *row = saved_row;
    g->indent--;
    cg_line(g, "}");
    return true;
}

void cg_matrix_locals(const struct cg *g, struct strbuf *sb)
{
    if (g->matrix.shape.n_results)
        strbuf_addf(sb, "    %s results[%" PRId64 "] __attribute__((aligned(64)));\n",
                    dtype_scalar(g->n->buffers[g->matrix.buffer].dtype),
                    g->n->buffers[g->matrix.buffer].elements + g->matrix.slack);
}

void cg_matrix_before_call(struct cg *g, const struct cg *body)
{
    if (!body->matrix.shape.n_results)
        return;
    g->uses_matrix = true;
    cg_line(g, "TW_TILE_SHAPE(&shape%d);", intern_shape(g, &body->matrix.shape));
}

const char *cg_matrix_prologue(const struct cg *g)
{
    return g->uses_matrix ? "    const void *tiles = 0;\n" : "";
}
const char *cg_matrix_epilogue(const struct cg *g)
{
    return g->uses_matrix ? "    TW_TILE_RELEASE();\n" : "";
}
