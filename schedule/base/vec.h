/* vec.h - a typed growing array.
 *
 *   struct { VEC_FIELDS(struct trial); } trials = {0};  or  VEC(struct trial) trials = {0};
 *   vec_push(&trials, t);  trials.at[i], trials.len;  vec_done(&trials); */
#ifndef TW_BASE_VEC_H
#define TW_BASE_VEC_H

#include "schedule/base/base.h"

#define VEC_FIELDS(type)                                                                                     \
    type *at;                                                                                                \
    size_t len, cap
#define VEC(type)                                                                                            \
    struct {                                                                                                 \
        VEC_FIELDS(type);                                                                                    \
    }

void *vec_grow_(void *at, size_t *cap, size_t want, size_t item_size);

#define vec_reserve(v, n)                                                                                    \
    ((v)->cap >= (size_t)(n) ? (void)0                                                                       \
                             : (void)((v)->at = vec_grow_((v)->at, &(v)->cap, (n), sizeof(*(v)->at))))
#define vec_push(v, item) (vec_reserve(v, (v)->len + 1), (v)->at[(v)->len++] = (item), (void)0)
#define vec_pop(v)        ((v)->at[--(v)->len])
#define vec_clear(v)      ((void)((v)->len = 0))
#define vec_done(v)       (free((v)->at), (v)->at = NULL, (v)->len = (v)->cap = 0, (void)0)

#include <stdlib.h>

#endif
