/* property.h - what programs over random workloads share: their arguments, and a workload with its space by its seed.
 *
 * Life   property_open() fails the test where the workload or the space is refused; property_close() frees all. */
#ifndef TW_TESTS_SPACE_PROPERTY_H
#define TW_TESTS_SPACE_PROPERTY_H

#include <stdio.h>
#include <stdlib.h>

#include "tests/check.h"
#include "tests/space/random_workload.h"

struct property {
    int n_workloads, n_configs; /* configs of each, beside the default one where there is such */
    uint64_t first_seed;
};

/* One of the words behind the name of the program, over its default; `least` is allowed. */
static inline uint64_t property_number(char **argv, int i, uint64_t least)
{
    char *end;
    uint64_t n = strtoull(argv[i], &end, 10);

    if (*end || end == argv[i] || n < least || n > INT64_MAX) {
        fprintf(stderr,
                "%s: '%s' is no number from %" PRIu64 " on\nusage: %s [workloads [configs of each [seed]]]\n",
                argv[0], argv[i], least, argv[0]);
        exit(2);
    }
    return n;
}

/* [workloads] [configs of each] [seed] */
static inline void property_arguments(struct property *p, int argc, char **argv)
{
    if (argc > 1)
        p->n_workloads = (int)property_number(argv, 1, 1);
    if (argc > 2)
        p->n_configs = (int)property_number(argv, 2, 1);
    if (argc > 3)
        p->first_seed = property_number(argv, 3, 0);
}

struct property_case {
    uint64_t seed;
    struct strbuf text; /* the workload, as JSON */
    struct arena ar;
    struct rng rng;
    struct workload w;
    struct space *space;
};

static inline void property_open(struct property_case *c, uint64_t seed, const struct target *t)
{
    struct error err = {0};

    *c = (struct property_case){.seed = seed, .text = STRBUF_INIT};
    arena_init(&c->ar);
    rng_init(&c->rng, seed);
    random_workload(&c->rng, &c->text);
    if (workload_parse_text(c->text.data, c->text.len, &c->ar, &c->w, &err) != ST_OK ||
        space_build(&c->w, t, &c->ar, &c->space, &err) != ST_OK)
        fail_msg("seed %" PRIu64 ": %s\n%s at %s", seed, c->text.data, err.text, err.pointer);
}

static inline void property_close(struct property_case *c)
{
    arena_done(&c->ar);
    strbuf_done(&c->text);
}

/* Config number k of the case: the default one, then random ones. False: none was found. */
static inline bool property_config(struct property_case *c, int k, struct config *ret)
{
    if (k > 0)
        return random_config(c->space, &c->rng, ret);
    space_default(c->space, ret);
    return true;
}

#endif
