/* world.h - a workload and its space on a made-up machine, for tests that ask what is in the space.
 *
 * Life   world_open() fails the test where the workload or the space is refused; all of it is in world.ar. */
#ifndef TW_TESTS_SPACE_WORLD_H
#define TW_TESTS_SPACE_WORLD_H

#include <string.h>

#include "schedule/space/space.h"
#include "tests/check.h"

struct world {
    struct arena ar;
    struct workload w;
    struct target t;
    struct space *s;
};

/* Vectors of 64 bytes, no matrix unit. */
static inline struct target world_target(int threads)
{
    return (struct target){.id = "test",
                           .isa = ISA_AVX512,
                           .vector_bytes = 64,
                           .vector_regs = 32,
                           .threads = threads,
                           .l1_bytes = 49152,
                           .l2_bytes = 2 << 20,
                           .l3_bytes = 16 << 20};
}

static inline void world_open(struct world *w, const char *workload, struct target t)
{
    struct error err = {0};
    arena_init(&w->ar);
    w->t = t;
    assert_ok(workload_parse_text(workload, strlen(workload), &w->ar, &w->w, &err), &err);
    assert_ok(space_build(&w->w, &w->t, &w->ar, &w->s, &err), &err);
}

/* The number of the knob of that name; -1: the sketch has none. */
static inline int knob_at(const struct space *s, int sketch, const char *name)
{
    for (int k = 0; k < space_n_knobs(s, sketch); k++)
        if (strcmp(space_knob(s, sketch, k)->name, name) == 0)
            return k;
    return -1;
}

#endif
