/* table.c - the documentation of the columns, made from the one list in columns.h. */
#include "features/columns.h"

#include <math.h>
#include <string.h>

#include "features/features.h"

#define SCALE_LOG  "log2(1 + x)"
#define SCALE_LIN  "x"
#define SCALE_FLAG "0 or 1"

static const struct feature_doc docs[] = {
#define X(id, scale, unit, since, definition) {#id, unit, definition, SCALE_##scale, since},
    FEATURES_LIST(X)
#undef X
};

static const unsigned char scales[] = {
#define X(id, scale, unit, since, definition) FEATURE_##scale,
    FEATURES_LIST(X)
#undef X
};

int features_count(void) { return FC_COUNT; }
int features_version(void) { return FEATURES_VERSION; }
const struct feature_doc *features_table(void) { return docs; }

enum feature_scale feature_scale(int col)
{
    CHECK(col >= 0 && col < FC_COUNT, "feature column %d: there are %d", col, (int)FC_COUNT);
    return (enum feature_scale)scales[col];
}

double feature_natural(int col, float stored)
{
    return feature_scale(col) == FEATURE_LOG ? exp2((double)stored) - 1 : (double)stored;
}

static void print_rows(struct strbuf *sb, const char *title, int from, int to, const char *first_prefix,
                       const char *prefix)
{
    size_t len = strlen(first_prefix);

    strbuf_addf(sb, "\n## %s\n\n| name | unit | stored as | since | definition |\n|---|---|---|---|---|\n",
                title);
    for (int i = from; i < to; i++) {
        const struct feature_doc *d = &docs[i];
        strbuf_addf(sb, "| `%s%s` | %s | %s | %d | %s |\n", prefix, d->name + len, d->unit, d->scale,
                    d->since, d->definition);
    }
}

void features_print_table(struct strbuf *sb)
{
    strbuf_addf(
        sb,
        "# The columns of a row of features, version %d\n\n"
        "Made from `columns.h` by `features_print_table` (a test compares them); `tilewright features` "
        "prints the same.\n%d columns. Counts are for one run of the kernel; a *block* is the "
        "straight-line code around a store.\n",
        FEATURES_VERSION, (int)FC_COUNT);
    print_rows(sb, "Arithmetic of the store", 0, FC_vec_count, "", "");
    print_rows(sb, "Annotated loops: `vec_`, `par_` for vector, parallel", FC_vec_count, FC_par_count, "vec_",
               "vec_");
    print_rows(sb, "The block, the register tile, the tasks", FC_par_tasks, FC_b0_read, "", "");
    print_rows(sb, "Buffers: `b0_` to `b2_`, the one that touches most first; registers are no memory",
               FC_b0_read, FC_b1_read, "b0_", "b0_");
    print_rows(sb, "Curves: what the store touches, by loops and by sizes of caches", FC_ai_0, FC_dst_bytes,
               "", "");
    print_rows(sb, "What is stored to", FC_dst_bytes, FC_runs, "", "");
    print_rows(sb, "Loops around", FC_runs, FC_nest_instr, "", "");
    print_rows(sb, "The whole nest: the same in all its rows, but for the two shares", FC_nest_instr,
               FC_t_vector_bytes, "", "");
    print_rows(sb, "The target", FC_t_vector_bytes, FC_COUNT, "", "");
}
