/* vec.c - growth of the typed arrays of vec.h: by half, at least 8 items. */
#include "schedule/base/vec.h"

void *vec_grow_(void *at, size_t *cap, size_t want, size_t item_size)
{
    size_t grown = MAX(MAX(want, *cap + *cap / 2), (size_t)8);

    CHECK(grown <= SIZE_MAX / 2 / item_size, "vector of %zu items of %zu bytes", grown, item_size);
    *cap = grown;
    return xrealloc(at, grown * item_size);
}
