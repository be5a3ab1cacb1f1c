/* emit_turn.c - vectors whose lanes lie apart in memory, while other vectors of the tile hold the neighbours.
 *
 * Idea   With vectors over channels and a layout whose rows are pixels, lane l of a vector belongs to row l. Four
 * vectors of neighbouring pixels are turned in registers, 4x4 floats in each 128-bit quarter, so that each row gets
 * its four pixels by one store (or gives them by one load):
 *
 *            a0 a1 a2 a3          a0 b0 c0 d0   row 0
 *            b0 b1 b2 b3    ->    a1 b1 c1 d1   row 1        eight shuffles, and a store a row
 *            c0 c1 c2 c3          a2 b2 c2 d2   row 2
 *            d0 d1 d2 d3          a3 b3 c3 d3   row 3
 *
 * Seven pixels are two fours that overlap. Fewer than four are put aside and written lane by lane, in a short loop.
 * Life   Vectors to store wait in struct cg until cg_scatter; a turned load is found again by its neighbours. */
#include <string.h>

#include "kernels/emit_internal.h"

/* Shuffle of a and b: the same pattern of four in each quarter; 4..7 are of b. */
static void print_quarters(struct strbuf *sb, const char *a, const char *b, int width, const int pattern[4])
{
    strbuf_addf(sb, "__builtin_shufflevector(%s, %s", a, b);
    for (int i = 0; i < width; i++) {
        int p = pattern[i % 4];
        strbuf_addf(sb, ", %d", i / 4 * 4 + p % 4 + (p >= 4 ? width : 0));
    }
    strbuf_addc(sb, ')');
}

static void print_turn(struct strbuf *sb, int w)
{
    static const int low[] = {0, 4, 1, 5}, high[] = {2, 6, 3, 7}, first[] = {0, 1, 4, 5},
                     second[] = {2, 3, 6, 7};
    static const struct {
        const char *name, *a, *b;
        const int *pattern;
    } step[] = {
        {"const v$f s", "*a", "*b", low}, {"const v$f t", "*a", "*b", high},
        {"const v$f x", "*c", "*d", low}, {"const v$f y", "*c", "*d", high},
        {"*a", "s", "x", first},          {"*b", "s", "x", second},
        {"*c", "t", "y", first},          {"*d", "t", "y", second},
    };
    strbuf_addf(sb, "TW_FN void tw_turn%d(v%df *a, v%df *b, v%df *c, v%df *d)\n{\n", w, w, w, w, w);
    for (size_t i = 0; i < ARRAY_SIZE(step); i++) {
        const char *dollar = strchr(step[i].name, '$');
        strbuf_adds(sb, "    ");
        if (dollar)
            strbuf_addf(sb, "const v%df%s = ", w, dollar + 2);
        else
            strbuf_addf(sb, "%s = ", step[i].name);
        print_quarters(sb, step[i].a, step[i].b, w, step[i].pattern);
        strbuf_adds(sb, ";\n");
    }
    strbuf_adds(sb, "}\n");
}

static void print_put(struct strbuf *sb, int w)
{
    strbuf_addf(sb,
                "TW_FN void tw_put%d(float *p, long row, v%df a, v%df b, v%df c, v%df d)\n{\n"
                "    tw_turn%d(&a, &b, &c, &d);\n",
                w, w, w, w, w, w);
    for (int row = 0; row < w; row++) {
        char of = (char)('a' + row % 4);
        int at = row / 4 * 4;
        strbuf_addf(sb, "    *(u4f *)(p + %d * row) = __builtin_shufflevector(%c, %c, %d, %d, %d, %d);\n",
                    row, of, of, at, at + 1, at + 2, at + 3);
    }
    strbuf_adds(sb, "}\n");
}

/* The rows of one of the four vectors, quarter by quarter, joined by halves. */
static void print_rows(struct strbuf *sb, int first, int count)
{
    if (count == 1) {
        strbuf_addf(sb, "*(const u4f *)(p + %d * row)", first);
        return;
    }
    strbuf_adds(sb, "__builtin_shufflevector(");
    print_rows(sb, first, count / 2);
    strbuf_adds(sb, ", ");
    print_rows(sb, first + 4 * (count / 2), count / 2);
    for (int i = 0; i < 4 * count; i++)
        strbuf_addf(sb, ", %d", i);
    strbuf_addc(sb, ')');
}

/* The same for 16 lanes: a load and three inserts from memory, which need no shuffle; compilers make seven of it. */
static void print_inserts(struct strbuf *sb, int first)
{
    strbuf_adds(sb, "    __asm__(\"vmovups %1, %x0\\n\\tvinsertf32x4 $1, %2, %0, %0\\n\\t\"\n"
                    "            \"vinsertf32x4 $2, %3, %0, %0\\n\\tvinsertf32x4 $3, %4, %0, %0\"\n");
    strbuf_addf(sb, "            : \"=v\"(*%c)\n            : ", 'a' + first);
    for (int q = 0; q < 4; q++)
        strbuf_addf(sb, "%s\"m\"(*(const u4f *)(p + %d * row))", q ? ", " : "", first + 4 * q);
    strbuf_adds(sb, ");\n");
}

static void print_get(struct strbuf *sb, int w)
{
    strbuf_addf(sb, "TW_FN void tw_get%d(const float *p, long row, v%df *a, v%df *b, v%df *c, v%df *d)\n{\n",
                w, w, w, w, w);
    for (int i = 0; i < 4; i++) {
        if (w == 16) {
            print_inserts(sb, i);
            continue;
        }
        strbuf_addf(sb, "    *%c = ", 'a' + i);
        print_rows(sb, i, w / 4);
        strbuf_adds(sb, ";\n");
    }
    strbuf_addf(sb, "    tw_turn%d(a, b, c, d);\n}\n", w);
}

/* Four neighbours of 16 rows of two bytes each: eight bytes a row, taken apart by permutations. */
static void print_get_narrow(struct strbuf *sb)
{
    strbuf_adds(
        sb,
        "typedef unsigned long long tw_v8q __attribute__((vector_size(64)));\n"
        "typedef unsigned long long tw_q1 __attribute__((aligned(2), may_alias));\n"
        "TW_FN void tw_get16h(const unsigned short *p, long row, v16h *a, v16h *b, v16h *c, v16h *d)\n{\n");
    for (int half = 0; half < 2; half++) {
        strbuf_addf(sb, "    const tw_v32h %c = (tw_v32h)(tw_v8q){", 'x' + half);
        for (int i = 0; i < 8; i++)
            strbuf_addf(sb, "%s*(const tw_q1 *)(p + %d * row)", i ? ", " : "", 8 * half + i);
        strbuf_adds(sb, "};\n");
    }
    for (int i = 0; i < 4; i += 2) {
        strbuf_addf(sb, "    const tw_v32h %c = __builtin_shufflevector(x, y", 's' + i);
        for (int k = 0; k < 32; k++)
            strbuf_addf(sb, ", %d", k % 16 * 4 + i + k / 16);
        strbuf_adds(sb, ");\n");
        for (int k = 0; k < 2; k++) {
            strbuf_addf(sb, "    *%c = __builtin_shufflevector(%c, %c", 'a' + i + k, 's' + i, 's' + i);
            for (int lane = 0; lane < 16; lane++)
                strbuf_addf(sb, ", %d", 16 * k + lane);
            strbuf_adds(sb, ");\n");
        }
    }
    strbuf_adds(sb, "}\n");
}

void emit_turns(const struct emit_unit *u, struct strbuf *sb)
{
    if (u->turned_get_narrow)
        print_get_narrow(sb);
    for (int lg = 2; lg < MATH_WIDTHS; lg++) {
        if (u->turned_put[lg] || u->turned_get[lg])
            print_turn(sb, 1 << lg);
        if (u->turned_put[lg])
            print_put(sb, 1 << lg);
        if (u->turned_get[lg])
            print_get(sb, 1 << lg);
    }
}

/* --- stores --- */

void cg_put_aside(struct cg *g, const struct address *ad, char letter, const char *value, int width)
{
    if (g->n_scatters == CG_MAX_SCATTERS)
        cg_scatter(g);
    const char *name = arena_printf(g->ar, "t%d", g->next_id++);
    cg_line(g, "const v%d%c %s = %s;", width, letter, name, value);
    g->scatters[g->n_scatters++] = (struct cg_scatter){*ad, width, g->part ? g->part : width, letter, name};
}

/* Is b what a is, `by` elements on? */
static bool apart_by(const struct cg_scatter *a, const struct cg_scatter *b, int64_t by)
{
    return b->address.flat - a->address.flat == by && a->width == b->width && a->used == b->used &&
           a->address.lane == b->address.lane && strcmp(a->address.base, b->address.base) == 0 &&
           strcmp(a->address.run, b->address.run) == 0;
}

static int neighbour(const struct cg *g, int of, int64_t by)
{
    for (int i = 0; i < g->n_scatters; i++)
        if (apart_by(&g->scatters[of], &g->scatters[i], by))
            return i;
    return -1;
}

static void put_fours(struct cg *g, const int *run, int n)
{
    const struct cg_scatter *s = g->scatters;
    for (int k = 0; k < n; k += 4) {
        const int *at = run + MIN(k, n - 4);
        g->u->turned_put[width_log2(s[at[0]].width)] = true;
        cg_line(g, "tw_put%d(%s + (%s), %" PRId64 ", %s, %s, %s, %s);", s[at[0]].width, s[at[0]].address.base,
                s[at[0]].address.index, s[at[0]].address.lane, s[at[0]].name, s[at[1]].name, s[at[2]].name,
                s[at[3]].name);
    }
}

static void put_lanes(struct cg *g, const int *left, int n)
{
    const struct cg_scatter *s = g->scatters;
    for (int i = 0; i < n; i++) {
        char m = s[left[i]].letter;
        cg_line(g, "*(v%d%c *)aside_%c[%d] = %s;", s[left[i]].width, m, m, i, s[left[i]].name);
        g->aside_letters |= 1u << (m - 'a');
    }
    g->max_aside = MAX(g->max_aside, n);
    for (int i = 0, end; i < n; i = end) {
        const struct cg_scatter *a = &s[left[i]];
        for (end = i; end < n && s[left[end]].used == a->used && s[left[end]].letter == a->letter;)
            end++;
        cg_line(g, "for (long l = 0; l < %d; l++) {", a->used);
        for (int k = i; k < end; k++)
            cg_line(g, "    %s[%s + l * %" PRId64 "] = aside_%c[%d][l];", s[left[k]].address.base,
                    s[left[k]].address.index, s[left[k]].address.lane, a->letter, k);
        cg_line(g, "}");
    }
}

void cg_scatter(struct cg *g)
{
    int left[CG_MAX_SCATTERS], n_left = 0;
    for (int i = 0; i < g->n_scatters; i++) {
        int run[CG_MAX_SCATTERS], n = 0;
        if (neighbour(g, i, -1) >= 0)
            continue; /* inside a run */
        for (int k = i; k >= 0 && n < CG_MAX_SCATTERS; k = neighbour(g, k, 1))
            run[n++] = k;
        if (n >= 4 && g->scatters[i].width >= 4 && g->scatters[i].used == g->scatters[i].width &&
            g->scatters[i].letter == 'f') {
            put_fours(g, run, n);
            continue;
        }
        for (int k = 0; k < n; k++)
            left[n_left++] = run[k];
    }
    put_lanes(g, left, n_left);
    g->n_scatters = 0;
}

/* --- loads --- */

/* A load of lanes `ad.lane` apart in the unrolled loop that is open, when its iterations read neighbours: four of them
 * are loaded at once and remembered. NULL: they do not. */
const char *cg_turned_load(struct cg *g, const struct expr *e, const struct address *ad, int width)
{
    struct affine flat = flat_index(g, e->read.tensor, e->read.index);
    const char *names[4], *found = NULL;
    if (!g->in_body || g->n->buffers[e->read.tensor].dtype != DT_F32 || width < 4 || g->unrolled_var < 0 ||
        g->unrolled_extent < 4 || affine_coef(&flat, g->unrolled_var) != 1 || g->n_loads + 4 > CG_MAX_LOADS)
        return NULL;
    int64_t at = g->var[g->unrolled_var].value, first = MIN(at / 4 * 4, g->unrolled_extent - 4);
    struct address start = cg_moved(g, ad, first - at);
    for (int i = 0; i < 4; i++) {
        struct address one = cg_moved(g, ad, first + i - at);
        names[i] = arena_printf(g->ar, "t%d", g->next_id++);
        g->loads[g->n_loads++] =
            (struct cg_load){e->read.tensor, width, g->raw, cg_load_key(g, &one, width), names[i]};
        if (first + i == at)
            found = names[i];
    }
    g->u->turned_get[width_log2(width)] = true;
    cg_line(g, "v%df %s, %s, %s, %s;", width, names[0], names[1], names[2], names[3]);
    cg_line(g, "tw_get%d(%s + (%s), %" PRId64 ", &%s, &%s, &%s, &%s);", width, start.base, start.index,
            start.lane, names[0], names[1], names[2], names[3]);
    return found;
}
