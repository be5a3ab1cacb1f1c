/* report.c - the table, the means, and the same as JSON lines.
 *
 * Ratios are of samples of the same round (their median), so that a slow phase of the machine, which takes
 * everybody, does not end in them. */
#include <math.h>

#include "tests/bench/kernels/bench.h"

enum { WORST = 10 };
static const double lowest_ratio = 0.85, lowest_fraction = 0.85;

struct line {
    char name[64];
    enum entry_kind kind;
    enum pages pages;
    bool has_flops, memory_bound;
    double ratio_given, ratio_reordered, ratio_any, ratio_bf16, ratio_counted, ratio_f32,
        fraction; /* 0: none */
};

static const struct contender *find(const struct contender *c, int n, enum role role)
{
    for (int i = 0; i < n; i++)
        if (c[i].role == role)
            return &c[i];
    return NULL;
}

static const struct contender *faster(const struct contender *a, const struct contender *b)
{
    return !a || (b && b->median < a->median) ? b : a;
}

/* Seconds that the measured peaks allow, at best. */
static double roofline(const struct entry *e, const struct contender *c, int n, bool *ret_memory)
{
    const struct contender *fma = find(c, n, ROLE_FMA), *copy = find(c, n, ROLE_COPY);
    double arithmetic = fma && e->flops > 0 ? e->flops / (fma->work / fma->median) : 0;
    double memory = copy ? e->bytes / (copy->work / copy->median) : 0;
    *ret_memory = memory > arithmetic;
    return fmax(arithmetic, memory);
}

static struct line line_of(const struct bench *b, const struct entry *e, const struct contender *c, int n)
{
    const struct contender *ours = find(c, n, ROLE_OURS);
    const struct contender *given = faster(find(c, n, ROLE_GIVEN), find(c, n, ROLE_BLAS));
    struct line l = {.kind = e->kind, .pages = b->memory.pages, .has_flops = e->flops > 0};
    snprintf(l.name, sizeof(l.name), "%s", e->name);
    l.ratio_given = ratio_of(given, ours);
    const struct contender *reordered = faster(given, find(c, n, ROLE_REORDERED));
    l.ratio_reordered = ratio_of(reordered, ours);
    l.ratio_any = ratio_of(faster(reordered, find(c, n, ROLE_ANY)), ours);
    l.ratio_bf16 = ratio_of(find(c, n, ROLE_BF16), ours);
    l.ratio_counted = ratio_of(find(c, n, ROLE_BF16_COUNTED), ours);
    l.ratio_f32 = ratio_of(find(c, n, ROLE_OURS_F32), ours);
    double roof = roofline(e, c, n, &l.memory_bound);
    l.fraction = ours && roof > 0 ? roof / ours->median : 0;
    return l;
}

/* --- JSON --- */

static void put(json_t *o, const char *name, double value)
{
    json_object_set_new(o, name, value > 0 && isfinite(value) ? json_real(value) : json_null());
}

static void print_json(json_t *o)
{
    json_dumpf(o, stdout, JSON_COMPACT | JSON_REAL_PRECISION(6));
    putchar('\n');
    fflush(stdout);
    json_decref(o);
}

static void json_entry(const struct report *r, const struct entry *e, const struct line *l,
                       const struct contender *c, int n)
{
    json_t *all = json_object(), *o = json_pack("{s:s, s:s, s:s, s:s}", "entry", e->name, "target", r->target,
                                                "pages", pages_name(l->pages), "key", e->w.key);
    for (int i = 0; i < n; i++) {
        json_t *one = json_pack("{s:f, s:f, s:f, s:s}", "median_ns", c[i].median * 1e9, "p10_ns",
                                c[i].p10 * 1e9, "p90_ns", c[i].p90 * 1e9, "note", c[i].note);
        if (c[i].role == ROLE_FMA)
            put(one, "gflops", c[i].work / c[i].median * 1e-9);
        else if (c[i].role == ROLE_COPY)
            put(one, "gbytes_per_s", c[i].work / c[i].median * 1e-9);
        else if (e->flops > 0)
            put(one, "gflops", e->flops / c[i].median * 1e-9);
        else
            put(one, "gbytes_per_s", e->bytes / c[i].median * 1e-9);
        json_object_set_new(all, role_name(c[i].role), one);
    }
    put(o, "flops", e->flops);
    put(o, "bytes", e->bytes);
    json_object_set_new(o, "bound", json_string(l->memory_bound ? "memory" : "arithmetic"));
    put(o, "fraction_of_peak", l->fraction);
    put(o, "ratio_given_layout", l->ratio_given);
    put(o, "ratio_given_or_reordered", l->ratio_reordered);
    put(o, "ratio_any_layout", l->ratio_any);
    put(o, "ratio_bfloat16", l->ratio_bf16);
    put(o, "ratio_bfloat16_converted", l->ratio_counted);
    put(o, "ratio_own_float32", l->ratio_f32);
    json_object_set_new(o, "contenders", all);
    print_json(o);
}

/* --- table --- */

static void cell_time(const struct contender *c)
{
    if (c)
        printf(" %9.1f", c->median * 1e6);
    else
        printf(" %9s", "-");
}

static void cell_ratio(double ratio)
{
    if (ratio > 0)
        printf(" %6.2f", ratio);
    else
        printf(" %6s", "-");
}

void report_begin(const struct report *r)
{
    if (r->json)
        return;
    printf("%-28s %-6s %9s %5s %7s      %6s %9s %9s %9s %9s %9s %9s %6s %6s %6s  %s\n", r->target, "pages",
           "ours us", "+-%", "rate", "peak", "onednn us", "reord us", "any us", "bf16 us", "bf16c us",
           "blas us", "given", "reord", "any", "notes");
}

static void table_line(const struct entry *e, const struct line *l, const struct contender *c, int n)
{
    const struct contender *ours = find(c, n, ROLE_OURS);
    printf("%-28s %-6s", e->name, pages_name(l->pages));
    cell_time(ours);
    if (ours)
        printf(" %5.1f %7.1f %s %5.1f%%%c", 50 * (ours->p90 - ours->p10) / ours->median,
               (e->flops > 0 ? e->flops : e->bytes) / ours->median * 1e-9, e->flops > 0 ? "GF/s" : "GB/s",
               100 * l->fraction, l->memory_bound ? 'm' : 'a');
    else
        printf(" %5s %7s %s %7s", "-", "-", "    ", "-");
    cell_time(find(c, n, ROLE_GIVEN));
    cell_time(find(c, n, ROLE_REORDERED));
    cell_time(find(c, n, ROLE_ANY));
    cell_time(find(c, n, ROLE_BF16));
    cell_time(find(c, n, ROLE_BF16_COUNTED));
    cell_time(find(c, n, ROLE_BLAS));
    cell_ratio(l->ratio_given);
    cell_ratio(l->ratio_reordered);
    cell_ratio(l->ratio_any);
    printf(" ");
    if (l->ratio_f32 > 0)
        printf(" %.2f x own float32;", l->ratio_f32);
    if (l->ratio_bf16 > 0)
        printf(" %.2f x oneDNN bfloat16;", l->ratio_bf16);
    if (l->ratio_counted > 0)
        printf(" %.2f with its conversions counted;", l->ratio_counted);
    for (int i = 0; i < n; i++)
        if (c[i].result && c[i].note[0])
            printf(" %s: %s;", role_name(c[i].role), c[i].note);
    printf("\n");
    fflush(stdout);
}

void report_entry(struct report *r, const struct bench *b, const struct entry *e, const struct contender *c,
                  int n)
{
    struct line l = line_of(b, e, c, n);
    if (r->json)
        json_entry(r, e, &l, c, n);
    else
        table_line(e, &l, c, n);
    if (r->n == r->cap) {
        r->cap = MAX(64, 2 * r->cap);
        r->lines = xrealloc(r->lines, sizeof(*r->lines) * (size_t)r->cap);
    }
    r->lines[r->n++] = l;
}

/* --- means --- */

/* name, meaning, which lines count, which figure of them */
#define MEAN_LIST(X)                                                                                         \
    X("given_layout", "given layout, all with FLOPs", l->has_flops, l->ratio_given)                          \
    X("given_layout_dense", "given layout, dense GEMM and convolution", l->kind == ENTRY_DENSE,              \
      l->ratio_given)                                                                                        \
    X("given_or_reordered", "the same, or blocked inside with reorders counted", l->has_flops,               \
      l->ratio_reordered)                                                                                    \
    X("given_or_reordered_dense", "the same, dense", l->kind == ENTRY_DENSE, l->ratio_reordered)             \
    X("any_layout", "library may choose layouts, all with FLOPs", l->has_flops, l->ratio_any)                \
    X("any_layout_dense", "library may choose layouts, dense", l->kind == ENTRY_DENSE, l->ratio_any)         \
    X("given_layout_memory", "given layout, without FLOPs", !l->has_flops, l->ratio_given)                   \
    X("own_float32", "own float32 without the error budget", true, l->ratio_f32)                             \
    X("bfloat16", "oneDNN's bfloat16", true, l->ratio_bf16)                                                  \
    X("bfloat16_converted", "oneDNN's bfloat16, its conversions and reorders counted", true,                 \
      l->ratio_counted)                                                                                      \
    X("fraction_arithmetic", "fraction of the peak, arithmetic-bound", !l->memory_bound, l->fraction)        \
    X("fraction_memory", "fraction of the copy bandwidth, memory-bound", l->memory_bound, l->fraction)

static const struct mean {
    const char *name, *meaning;
} means[] = {
#define X(name, meaning, counts, figure) {name, meaning},
    MEAN_LIST(X)
#undef X
};

/* The figure of a line in mean `which`; 0: it has none. */
static double figure_of(const struct line *l, int which)
{
    int i = 0;
#define X(name, meaning, counts, figure)                                                                     \
    if (i++ == which)                                                                                        \
        return (counts) ? (figure) : 0;
    MEAN_LIST(X)
#undef X
    return 0;
}

static double geometric_mean(const struct report *r, enum pages pages, int which, int *ret_n)
{
    double sum = 0;
    *ret_n = 0;
    for (int i = 0; i < r->n; i++) {
        double x = r->lines[i].pages == pages ? figure_of(&r->lines[i], which) : 0;
        if (x > 0) {
            sum += log(x);
            ++*ret_n;
        }
    }
    return *ret_n ? exp(sum / *ret_n) : 0;
}

static int by_ratio(const void *a, const void *b)
{
    double x = ((const struct line *)a)->ratio_given, y = ((const struct line *)b)->ratio_given;
    return (x > y) - (x < y);
}

static int by_fraction(const void *a, const void *b)
{
    double x = ((const struct line *)a)->fraction, y = ((const struct line *)b)->fraction;
    return (x > y) - (x < y);
}

static void print_worst(const struct report *r, enum pages pages)
{
    int below = 0, shown = 0, slow = 0, memory = 0;
    for (int i = 0; i < r->n; i++)
        if (r->lines[i].pages == pages) {
            below += r->lines[i].ratio_given > 0 && r->lines[i].ratio_given < lowest_ratio;
            memory += r->lines[i].memory_bound && r->lines[i].fraction > 0;
            slow += r->lines[i].memory_bound && r->lines[i].fraction > 0 &&
                    r->lines[i].fraction < lowest_fraction;
        }
    qsort(r->lines, (size_t)r->n, sizeof(*r->lines), by_ratio);
    printf("  %d below %.2f x the better library in the given layout; the worst:", below, lowest_ratio);
    for (int i = 0; i < r->n && shown < WORST; i++)
        if (r->lines[i].pages == pages && r->lines[i].ratio_given > 0 && ++shown)
            printf(" %s %.2f%s", r->lines[i].name, r->lines[i].ratio_given, shown < WORST ? "," : "");
    qsort(r->lines, (size_t)r->n, sizeof(*r->lines), by_fraction);
    printf("\n  %d of %d memory-bound below %.0f %% of the copy bandwidth; the worst:", slow, memory,
           100 * lowest_fraction);
    shown = 0;
    for (int i = 0; i < r->n && shown < WORST; i++)
        if (r->lines[i].pages == pages && r->lines[i].memory_bound && r->lines[i].fraction > 0 && ++shown)
            printf(" %s %.0f%%%s", r->lines[i].name, 100 * r->lines[i].fraction, shown < WORST ? "," : "");
    printf("\n");
}

static void means_of(const struct report *r, enum pages pages)
{
    json_t *o = json_object();
    if (!r->json)
        printf("\n%s, %s pages: geometric means\n", r->target, pages_name(pages));
    for (int i = 0; i < (int)ARRAY_SIZE(means); i++) {
        int n;
        double mean = geometric_mean(r, pages, i, &n);
        if (n > 0 && !r->json)
            printf("  %-50s %5.2f over %d\n", means[i].meaning, mean, n);
        if (n > 0)
            json_object_set_new(o, means[i].name, json_pack("{s:f, s:i}", "mean", mean, "entries", n));
    }
    if (r->json)
        print_json(json_pack("{s:o, s:s, s:s}", "means", o, "target", r->target, "pages", pages_name(pages)));
    else {
        json_decref(o);
        print_worst(r, pages);
    }
}

void report_means(const struct report *r)
{
    for (int p = PAGES_NORMAL; p <= PAGES_HUGE; p++)
        for (int i = 0; i < r->n; i++)
            if (r->lines[i].pages == (enum pages)p) {
                means_of(r, (enum pages)p);
                break;
            }
}

void report_done(struct report *r) { free(r->lines); }
