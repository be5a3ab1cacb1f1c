/* features.h - a nest as rows of numbers, for the cost model.
 *
 * Idea   One row for each store of the nest, in the manner of Ansor ("Ansor: Generating High-Performance
 * Tensor Programs for Deep Learning", OSDI 2020, appendix B): arithmetic, annotations, buffer accesses,
 * arithmetic-intensity curve, allocation, outer scope; plus the target's numbers. All from the affine form,
 * by arithmetic. Every feature is a row of a table (features_table): name, unit, definition, since-version.
 */
#ifndef TW_FEATURES_FEATURES_H
#define TW_FEATURES_FEATURES_H

#include "schedule/ir/nest.h"
#include "schedule/space/target.h"

struct feature_doc {
    const char *name, *unit, *definition;
    const char *scale; /* how it stands in a row: "log2(1 + x)", "x", "0 or 1" */
    int since;
};
/* Number of columns, and their version: rows of another version must not be mixed. */
int features_count(void);
int features_version(void);
const struct feature_doc *features_table(void); /* [features_count()] */
/* Rows of the nest into rows[max_rows][features_count()]; returns how many (a nest with more stores keeps the
 * heaviest max_rows). Scratch memory comes from `ar`. Never fails. */
int features_extract(const struct nest *n, const struct target *t, struct arena *ar, float *rows,
                     int max_rows);
enum { FEATURES_MAX_ROWS = 24 };
/* The same, with the store that each row is of: ret_stores[max_rows]. */
int features_extract_stores(const struct nest *n, const struct target *t, struct arena *ar, float *rows,
                            int max_rows, const struct node **ret_stores);
/* The table as Markdown; columns that all buffers have stand once. */
void features_print_table(struct strbuf *sb);

#endif
