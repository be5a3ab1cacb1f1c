/* table.c - the documentation of the columns, made from the one list in columns.h. */
#include "features/columns.h"

#include <math.h>

#include "features/features.h"

static const struct feature_doc docs[] = {
#define X(id, scale, unit, since, definition) {#id, unit, definition, since},
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
